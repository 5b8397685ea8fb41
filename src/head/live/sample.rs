//! What goes into a shard and comes out: values, verdicts, rules, pieces of series.

use tsdbctl_chunk::{Chunk, Encoding};
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::append::Refusal;

use crate::live::chunk_files::ChunkPlace;

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

impl SampleValue {
    /// Whether both are of one kind and equal; floats in all their bits.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => a.equals(b),
            (Self::FloatHistogram(a), Self::FloatHistogram(b)) => a.equals(b),
            _ => false,
        }
    }
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
    /// Start timestamps are logged, and stored with floats (upstream's `st-storage`).
    pub start_timestamps: bool,
    /// Histograms are stored in the encodings that have start timestamps (upstream's `histograms-st-encoding`).
    pub histogram_start_timestamps: bool,
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
    /// Stored out of order.
    OutOfOrder,
    /// It was there already, with this value.
    Same,
    /// It became unacceptable since it was validated.
    Refused(Refusal),
}

/// A chunk of a series, full or open, as a reader needs it.
#[derive(Clone, Debug)]
pub enum Piece {
    /// In a file, where its exact times stand too.
    Mapped {
        /// Where.
        place: ChunkPlace,
        /// It does not begin before this.
        mint: i64,
        /// Samples at its end that are not for this reader.
        hidden: usize,
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
    pub encoding: Encoding,
    /// Whether its samples came out of order.
    pub out_of_order: bool,
}
