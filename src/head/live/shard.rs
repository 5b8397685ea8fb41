//! The series of one shard: records, open chunks, places of full ones, and what few series have.

use tsdbctl_chunk::Chunk;
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::append::Refusal;

use crate::live::chunk_files::{ChunkFiles, ChunkPlace};
use crate::live::index::SeriesId;
use crate::live::record::Record;

/// A value to append.
#[derive(Clone, Debug)]
pub enum SampleValue {
    /// A float; a stale marker takes the series' kind.
    Float(f64),
    /// An integer histogram.
    Histogram(Box<Histogram>),
    /// A float histogram.
    FloatHistogram(Box<FloatHistogram>),
}

/// What chunks are cut and stored as.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRules {
    /// No chunk reaches over a multiple of this, ms (upstream's head chunk range: 2 h).
    pub chunk_range_ms: i64,
    /// Samples a chunk of floats aims at (upstream: 120).
    pub samples_per_chunk: u32,
    /// Bytes at which a chunk of floats is sealed.
    pub seal_bytes: u32,
    /// Floats in XOR2 (upstream's `xor2-encoding`; needed for start timestamps).
    pub xor2: bool,
    /// Start timestamps are stored (upstream's `st-storage`).
    pub start_timestamps: bool,
    /// Samples an out-of-order chunk takes (upstream: 32).
    pub out_of_order_cap: usize,
}

/// What decides whether a sample may come, taken when an appender opens.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Earliest time of an in-order sample, Unix ms: max(head max − range/2, end of the last in-order block).
    pub min_valid_ms: i64,
    /// Newest sample of the head, Unix ms; `i64::MIN` if it has none.
    pub head_max_ms: i64,
    /// Out-of-order window, ms; 0 for none.
    pub window_ms: i64,
}

/// Where an acceptable sample goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Behind the last.
    InOrder,
    /// Same time and value as the last: nothing to do.
    Same,
    /// In front of the last, within the window.
    OutOfOrder,
}

/// What became of a sample at commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Stored in order.
    Stored,
    /// Stored out of order. The place is of the chunk that was full and mapped for it, if one was (a marker goes in
    /// front of the sample in the out-of-order log).
    OutOfOrder,
    /// It was there already.
    Same,
    /// It became unacceptable since it was validated.
    Refused(Refusal),
}

/// The full chunk of a series as a reader needs it.
#[derive(Clone, Debug)]
pub enum Piece {
    /// In a file. `mint` as [`crate::live::shard`] packs it (44 bits, saturated).
    Mapped {
        /// Where.
        place: ChunkPlace,
        /// First time.
        mint: i64,
        /// Whether it is a chunk of out-of-order samples.
        out_of_order: bool,
    },
    /// In memory: full but not yet in a file, or open. The last `hidden` samples are not for this reader.
    Memory {
        /// The chunk; `samples` counts the hidden ones too.
        chunk: Chunk,
        /// Samples at its end to leave out.
        hidden: usize,
        /// Whether it is still open (overlap questions treat it as endless).
        open: bool,
        /// Whether it is a chunk of out-of-order samples.
        out_of_order: bool,
    },
}

/// One shard of a head, behind its own lock.
#[derive(Debug)]
pub struct Shard {}

impl Shard {
    /// An empty shard, number `number` of `shards`.
    pub fn new(number: u32, shards: u32) -> Self {
        let _ = (number, shards);
        todo!()
    }

    /// What views may not see is noted from now on for commits younger than this.
    pub fn set_oldest_view(&mut self, oldest: u64) {
        let _ = oldest;
    }

    /// Makes the record of a new series.
    pub fn create(&mut self, id: SeriesId, series_ref: u64) {
        let _ = (id, series_ref);
        todo!()
    }

    /// The record of a live series.
    pub fn record(&self, id: SeriesId) -> Option<&Record> {
        let _ = id;
        todo!()
    }

    /// The record of a live series, to change.
    pub fn record_mut(&mut self, id: SeriesId) -> Option<&mut Record> {
        let _ = id;
        todo!()
    }

    /// Time of the newest in-order sample.
    pub fn last_t(&self, id: SeriesId) -> Option<i64> {
        let _ = id;
        todo!()
    }

    /// Whether a sample may come, judged by what is committed, in upstream's order (`memSeries.appendable`).
    ///
    /// # Errors
    /// The class in which it is refused.
    pub fn check(
        &mut self,
        id: SeriesId,
        t: i64,
        value: &SampleValue,
        bounds: &Bounds,
    ) -> Result<Route, Refusal> {
        let _ = (id, t, value, bounds);
        todo!()
    }

    /// As [`Shard::check`], for a float.
    ///
    /// # Errors
    /// The class in which it is refused.
    pub fn check_float(&mut self, id: SeriesId, t: i64, v: f64, bounds: &Bounds) -> Result<Route, Refusal> {
        let _ = (id, t, v, bounds);
        todo!()
    }

    /// Appends a float that came in order; `commit` is the number of its commit.
    pub fn append_float(
        &mut self,
        id: SeriesId,
        (t, st): (i64, i64),
        v: f64,
        commit: u32,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Applied {
        let _ = (id, t, st, v, commit, rules, files);
        todo!()
    }

    /// Appends a sample of any kind that came in order.
    pub fn append(
        &mut self,
        id: SeriesId,
        (t, st): (i64, i64),
        value: SampleValue,
        commit: u32,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Applied {
        let _ = (id, t, st, value, commit, rules, files);
        todo!()
    }

    /// Whether the next out-of-order sample of the series would first map a full chunk: the out-of-order log needs the
    /// marker in front of the sample. Maps it and gives the places (several if kinds alternate); `[0]` for a series'
    /// first out-of-order sample; empty otherwise.
    pub fn make_room_out_of_order(
        &mut self,
        id: SeriesId,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Vec<u64> {
        let _ = (id, rules, files);
        todo!()
    }

    /// Inserts an out-of-order sample.
    pub fn insert_out_of_order(&mut self, id: SeriesId, (t, st): (i64, i64), value: SampleValue) -> Applied {
        let _ = (id, t, st, value);
        todo!()
    }

    /// Attaches chunks found in files (loading): in-order ones in order of time, and out-of-order ones. The last
    /// in-order one's end becomes the series' last time, its value unknown.
    pub fn attach(&mut self, id: SeriesId, chunks: &[AttachedChunk]) {
        let _ = (id, chunks);
        todo!()
    }

    /// Puts a chunk that a snapshot had back as the open chunk.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn restore_open(
        &mut self,
        id: SeriesId,
        chunk: &Chunk,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Result<(), String> {
        let _ = (id, chunk, rules, files);
        todo!()
    }

    /// Copies of the series' chunks, in-order ones in order of time, then the out-of-order ones, oldest first, that may
    /// hold samples in `mint..=maxt`. `visible` is the reader's snapshot: what later commits appended is hidden.
    pub fn pieces(&self, id: SeriesId, mint: i64, maxt: i64, visible: u64, out: &mut Vec<Piece>) {
        let _ = (id, mint, maxt, visible, out);
        todo!()
    }

    /// Earliest and latest sample time of a series, in order or not; `None` without samples.
    pub fn times(&self, id: SeriesId) -> Option<(i64, i64)> {
        let _ = id;
        todo!()
    }

    /// Seals the open chunk (a sample is needed to begin the next).
    pub fn seal(&mut self, id: SeriesId, rules: &ChunkRules, files: &ChunkFiles) {
        let _ = (id, rules, files);
        todo!()
    }

    /// Live series of this shard, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SeriesId> {
        std::iter::empty()
    }

    /// Forgets places of chunks, in order or not, that end before `mint`; the lowest file number that is still needed.
    pub fn drop_chunks_before(&mut self, id: SeriesId, mint: i64) -> Option<u32> {
        let _ = (id, mint);
        todo!()
    }

    /// Frees all that a series has.
    pub fn remove(&mut self, id: SeriesId) {
        let _ = id;
        todo!()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}

/// A chunk in a file, as loading finds it.
#[derive(Clone, Copy, Debug)]
pub struct AttachedChunk {
    /// Where.
    pub place: ChunkPlace,
    /// First time.
    pub mint: i64,
    /// Last time.
    pub maxt: i64,
    /// How it is encoded.
    pub encoding: tsdbctl_chunk::Encoding,
    /// Whether its samples came out of order.
    pub out_of_order: bool,
}
