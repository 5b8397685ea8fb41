//! A growing series: samples in, chunks out, cut where upstream's head cuts them.

use tsdbctl_model::{FloatHistogram, Histogram};

use crate::encoding::Encoding;
use crate::error::ChunkError;
use crate::xor::XorEncoder;

/// A chunk and what an index says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The encoded samples.
    pub data: Vec<u8>,
    /// Time of the first sample, Unix milliseconds.
    pub mint: i64,
    /// Time of the last sample, Unix milliseconds.
    pub maxt: i64,
    /// Number of samples.
    pub samples: usize,
}

/// A chunk of a [`SeriesAppender`], full or still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef<'a> {
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The encoded samples.
    pub data: &'a [u8],
    /// Time of the first sample, Unix milliseconds.
    pub mint: i64,
    /// Time of the last sample, Unix milliseconds.
    pub maxt: i64,
    /// Number of samples.
    pub samples: usize,
}

/// Where chunks are cut and how they are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppenderOptions {
    /// No chunk reaches over a multiple of this, milliseconds.
    pub chunk_range_ms: i64,
    /// Samples a chunk of floats aims at.
    pub samples_per_chunk: usize,
    /// Floats in XOR2 instead of XOR.
    pub xor2: bool,
    /// Start timestamps are stored, histograms in the encodings that have them.
    pub st: bool,
}

impl Default for AppenderOptions {
    /// A server's defaults: two hours, 120 samples, XOR.
    fn default() -> Self {
        Self { chunk_range_ms: 7_200_000, samples_per_chunk: 120, xor2: false, st: false }
    }
}

/// Appends samples of one series in time order.
#[derive(Clone, Debug)]
pub struct SeriesAppender {
    options: AppenderOptions,
    full: Vec<Chunk>,
    open: Option<Open>,
    next_at: i64,
}

#[derive(Clone, Debug)]
struct Open {
    encoder: XorEncoder,
    mint: i64,
    maxt: i64,
}

impl SeriesAppender {
    /// A series without samples.
    pub fn new(options: AppenderOptions) -> Self {
        Self { options, full: Vec::new(), open: None, next_at: 0 }
    }

    /// Appends a float; `st` is its start timestamp, 0 where unknown.
    pub fn append_float(&mut self, t: i64, v: f64, st: i64) -> Result<(), ChunkError> {
        let _ = st;
        if let Some(last) = self.last_t()
            && t <= last
        {
            return Err(ChunkError::OutOfOrder { last, t });
        }
        let mut cut = true;
        if let Some(open) = &self.open {
            let samples = open.encoder.samples();
            if samples == self.options.samples_per_chunk / 4 {
                self.next_at = chunk_end(open.mint, open.maxt, self.next_at, 4.0);
            }
            cut = open.encoder.data().len() > 1024 - 19
                || t >= self.next_at
                || samples >= self.options.samples_per_chunk * 2;
        }
        if cut {
            self.close();
            self.open = Some(Open { encoder: XorEncoder::new(), mint: t, maxt: t });
            self.next_at = range_end(t, self.options.chunk_range_ms);
        }
        if let Some(open) = &mut self.open {
            open.encoder.append(t, v)?;
            open.maxt = t;
        }
        Ok(())
    }

    /// Appends a histogram with integer counts.
    pub fn append_histogram(&mut self, t: i64, h: &Histogram, st: i64) -> Result<(), ChunkError> {
        let _ = (t, h, st);
        Err(ChunkError::Invalid { sample: 0, reason: "histograms are not written yet" })
    }

    /// Appends a histogram with float counts.
    pub fn append_float_histogram(&mut self, t: i64, h: &FloatHistogram, st: i64) -> Result<(), ChunkError> {
        let _ = (t, h, st);
        Err(ChunkError::Invalid { sample: 0, reason: "histograms are not written yet" })
    }

    /// Time of the last sample.
    pub fn last_t(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.maxt)
    }

    /// The full chunks and the open one, in order of time.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRef<'_>> {
        let full = self.full.iter().map(|c| ChunkRef {
            encoding: c.encoding,
            data: &c.data,
            mint: c.mint,
            maxt: c.maxt,
            samples: c.samples,
        });
        full.chain(self.open.iter().map(|open| ChunkRef {
            encoding: Encoding::Xor,
            data: open.encoder.data(),
            mint: open.mint,
            maxt: open.maxt,
            samples: open.encoder.samples(),
        }))
    }

    /// All chunks, the open one included.
    pub fn into_chunks(mut self) -> Vec<Chunk> {
        self.close();
        self.full
    }

    /// Bytes of encoded data.
    pub fn bytes(&self) -> usize {
        self.chunks().map(|c| c.data.len()).sum()
    }

    fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            let samples = open.encoder.samples();
            let data = open.encoder.take();
            self.full.push(Chunk {
                encoding: Encoding::Xor,
                data,
                mint: open.mint,
                maxt: open.maxt,
                samples,
            });
        }
    }
}

/// The end of the range of `width` that `t` falls into.
fn range_end(t: i64, width: i64) -> i64 {
    (t / width).saturating_mul(width).saturating_add(width)
}

/// When to cut a chunk that is full to 1 part in `ratio_to_full`, so that what fits before `max` is cut evenly.
fn chunk_end(start: i64, current: i64, max: i64, ratio_to_full: f64) -> i64 {
    let n =
        max.wrapping_sub(start) as f64 / (current.wrapping_sub(start).wrapping_add(1) as f64 * ratio_to_full);
    if n <= 1.0 {
        return max;
    }
    (start as f64 + max.wrapping_sub(start) as f64 / n.floor()) as i64
}
