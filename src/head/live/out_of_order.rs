//! Samples of a series that came out of order: the newest ones sorted in memory, full chunks of them in files.

use tsdbctl_chunk::{AppenderOptions, Chunk, SeriesAppender};
use tsdbctl_storage::append::Refusal;

use crate::live::chunk_files::{ChunkFiles, ChunkPlace};
use crate::live::shard::{Applied, ChunkRules, SampleValue};
use crate::live::side::value_bytes;

/// A sample in the buffer.
#[derive(Clone, Debug)]
pub(super) struct LateSample {
    pub t: i64,
    pub st: i64,
    pub value: SampleValue,
}

/// A chunk in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateChunk {
    pub place: ChunkPlace,
    pub mint: i64,
    pub maxt: i64,
    /// Its samples came in order, but it does not lie behind the series' other chunks. A block of in-order samples has
    /// to have them.
    pub misplaced: bool,
}

/// What a series has out of order.
#[derive(Debug, Default)]
pub(super) struct OutOfOrder {
    /// Sorted by time, one for each.
    pub samples: Vec<LateSample>,
    /// Oldest first.
    pub mapped: Vec<LateChunk>,
}

impl OutOfOrder {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.mapped.is_empty()
    }

    /// Puts a sample into the buffer, unless there is one of its time.
    pub fn insert(&mut self, sample: LateSample) -> Applied {
        let at = match self.samples.last() {
            Some(last) if last.t >= sample.t => match self.samples.binary_search_by_key(&sample.t, |s| s.t) {
                Ok(at) if self.samples[at].value.is_same(&sample.value) => return Applied::Same,
                Ok(_) => return Applied::Refused(Refusal::Duplicate),
                Err(at) => at,
            },
            _ => self.samples.len(),
        };
        if self.samples.len() == self.samples.capacity() {
            self.samples.reserve_exact(self.samples.len().max(4));
        }
        self.samples.insert(at, sample);
        Applied::OutOfOrder
    }

    /// The buffer as chunks.
    fn encode(&self, xor2: bool, st: bool, histograms_st: bool) -> Vec<Chunk> {
        let options = AppenderOptions {
            chunk_range_ms: i64::MAX,
            samples_per_chunk: usize::MAX / 4,
            xor2: xor2 || st,
            st,
            histograms_st,
        };
        let mut appender = SeriesAppender::new(options).without_limits();
        for sample in &self.samples {
            // Histograms were checked when they came; one that is wrong all the same takes no other with it.
            let _ = match &sample.value {
                SampleValue::Float(v) => appender.append_float(sample.t, *v, sample.st),
                SampleValue::Histogram(h) => appender.append_histogram(sample.t, h, sample.st),
                SampleValue::FloatHistogram(h) => appender.append_float_histogram(sample.t, h, sample.st),
            };
        }
        appender.into_chunks()
    }

    fn encode_to_store(&self, rules: &ChunkRules) -> Vec<Chunk> {
        self.encode(rules.xor2, rules.start_timestamps, rules.histogram_start_timestamps)
    }

    /// The buffer as chunks for a reader.
    pub fn encode_to_read(&self) -> Vec<Chunk> {
        let st = self.samples.iter().any(|s| s.st != 0);
        self.encode(st, st, st)
    }

    /// Writes the buffer as chunks, as many as the kinds and buckets of the samples make, and gives their places. What
    /// could not be written stays in the buffer, and then there is no place to give.
    pub fn map(
        &mut self,
        series_ref: u64,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> (Vec<ChunkPlace>, bool) {
        let mut places = Vec::new();
        for chunk in self.encode_to_store(rules) {
            let times = (chunk.mint, chunk.maxt);
            match files.write(series_ref, times, chunk.encoding, true, &chunk.data) {
                Ok(place) => {
                    places.push(place);
                    let (mint, maxt) = times;
                    self.mapped.push(LateChunk { place, mint, maxt, misplaced: false });
                }
                Err(_) => {
                    self.samples.retain(|s| s.t >= chunk.mint);
                    return (Vec::new(), false);
                }
            }
        }
        // The next ones are as many.
        self.samples.clear();
        (places, true)
    }

    /// Empties a buffer of at least so many samples if they are in chunks already, which were attached: a crash took those
    /// that the log's markers name, and an earlier start made them once more.
    pub fn forget_mapped(&mut self, least: usize, rules: &ChunkRules, files: &ChunkFiles) {
        if self.mapped.is_empty() || self.samples.len() < least {
            return;
        }
        let is_mapped = |chunk: &Chunk| {
            self.mapped.iter().any(|c| {
                (c.mint, c.maxt) == (chunk.mint, chunk.maxt)
                    && files.read(c.place).is_ok_and(|s| s.encoding == chunk.encoding && s.data == chunk.data)
            })
        };
        if self.encode_to_store(rules).iter().all(is_mapped) {
            self.samples.clear();
        }
    }

    /// Forgets chunks of samples that came in order and end before `mint`.
    pub fn drop_misplaced_before(&mut self, mint: i64) {
        self.mapped.retain(|c| !c.misplaced || c.maxt >= mint);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.samples.capacity() * size_of::<LateSample>()
            + self.samples.iter().map(|s| value_bytes(&s.value)).sum::<usize>()
            + self.mapped.capacity() * size_of::<LateChunk>()
    }
}
