//! A growing series: samples in, chunks out, cut where upstream's head cuts them.

use tsdbctl_model::{FloatHistogram, Histogram};

use crate::encoding::Encoding;
use crate::error::ChunkError;
use crate::float_histogram::FloatHistogramEncoder;
use crate::histogram::HistogramEncoder;
use crate::histogram_encode::{Appended, HistogramEncode, append_first, append_next};
use crate::xor::XorEncoder;
use crate::xor2::Xor2Encoder;

/// Above this a chunk of floats takes no further sample: 1024 bytes less the largest sample.
const MAX_BYTES_BEFORE_APPEND: usize = 1024 - 19;
/// Bytes a chunk of histograms aims at.
const TARGET_HISTOGRAM_BYTES: usize = 1024;
/// Fewer samples a chunk of histograms has only where the chunk range ends.
const MIN_HISTOGRAM_SAMPLES: usize = 10;

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
    /// Start timestamps of floats are stored, which XOR2 has a place for.
    pub st: bool,
    /// Histograms are stored in the encodings that have start timestamps.
    pub histograms_st: bool,
}

impl Default for AppenderOptions {
    /// A server's defaults: two hours, 120 samples, XOR.
    fn default() -> Self {
        Self {
            chunk_range_ms: 7_200_000,
            samples_per_chunk: 120,
            xor2: false,
            st: false,
            histograms_st: false,
        }
    }
}

/// Appends samples of one series in time order.
#[derive(Clone, Debug)]
pub struct SeriesAppender {
    options: AppenderOptions,
    full: Vec<Chunk>,
    /// Bytes of data in `full`.
    full_bytes: usize,
    open: Option<Open>,
    /// From which time on the open chunk is full.
    next_at: i64,
    /// Whether `next_at` was estimated from the size of the open chunk of histograms.
    end_estimated: bool,
    /// Chunks end only where the samples make them: at another kind, or at buckets that do not fit.
    unlimited: bool,
}

#[derive(Clone, Debug)]
struct Open {
    encoder: Encoder,
    mint: i64,
    maxt: i64,
}

#[derive(Clone, Debug)]
enum Encoder {
    Xor(XorEncoder),
    Xor2(Xor2Encoder),
    Histogram(Box<HistogramEncoder>),
    FloatHistogram(Box<FloatHistogramEncoder>),
}

impl Encoder {
    fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Xor => Self::Xor(XorEncoder::new()),
            Encoding::Xor2 => Self::Xor2(Xor2Encoder::new()),
            Encoding::Histogram => Self::Histogram(Box::new(HistogramEncoder::new(false))),
            Encoding::HistogramSt => Self::Histogram(Box::new(HistogramEncoder::new(true))),
            Encoding::FloatHistogram => Self::FloatHistogram(Box::new(FloatHistogramEncoder::new(false))),
            Encoding::FloatHistogramSt => Self::FloatHistogram(Box::new(FloatHistogramEncoder::new(true))),
        }
    }

    fn encoding(&self) -> Encoding {
        match self {
            Self::Xor(_) => Encoding::Xor,
            Self::Xor2(_) => Encoding::Xor2,
            Self::Histogram(e) => e.encoding(),
            Self::FloatHistogram(e) => e.encoding(),
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::Xor(e) => e.data(),
            Self::Xor2(e) => e.data(),
            Self::Histogram(e) => e.data(),
            Self::FloatHistogram(e) => e.data(),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Xor(e) => e.take(),
            Self::Xor2(e) => e.take(),
            Self::Histogram(e) => e.take(),
            Self::FloatHistogram(e) => e.take(),
        }
    }

    fn samples(&self) -> usize {
        match self {
            Self::Xor(e) => e.samples(),
            Self::Xor2(e) => e.samples(),
            Self::Histogram(e) => e.samples(),
            Self::FloatHistogram(e) => e.samples(),
        }
    }
}

impl SeriesAppender {
    /// A series without samples.
    pub fn new(options: AppenderOptions) -> Self {
        Self {
            options,
            full: Vec::new(),
            full_bytes: 0,
            open: None,
            next_at: 0,
            end_estimated: false,
            unlimited: false,
        }
    }

    /// Cuts neither by size nor by time, as upstream makes chunks of samples that came out of order.
    pub fn without_limits(mut self) -> Self {
        self.unlimited = true;
        self
    }

    /// Appends a float; `st` is its start timestamp, 0 where unknown.
    pub fn append_float(&mut self, t: i64, v: f64, st: i64) -> Result<(), ChunkError> {
        self.check_order(t)?;
        let encoding = if self.options.xor2 { Encoding::Xor2 } else { Encoding::Xor };
        let mut cut = true;
        if self.continues(encoding) {
            cut = false;
        } else if let Some(open) = &self.open
            && open.encoder.data().len() <= MAX_BYTES_BEFORE_APPEND
            && open.encoder.encoding() == encoding
        {
            let samples = open.encoder.samples();
            if samples == self.options.samples_per_chunk / 4 {
                self.next_at = chunk_end(open.mint, open.maxt, self.next_at, 4.0);
            }
            cut = t >= self.next_at || samples >= self.options.samples_per_chunk * 2;
        }
        if cut {
            self.begin(Encoder::new(encoding), t);
        }
        let st = if self.options.st { st } else { 0 };
        if let Some(open) = &mut self.open {
            match &mut open.encoder {
                Encoder::Xor(e) => e.append(t, v)?,
                Encoder::Xor2(e) => e.append(t, v, st)?,
                _ => {}
            }
            open.maxt = t;
        }
        Ok(())
    }

    /// Appends a histogram with integer counts; `st` is its start timestamp, 0 where unknown.
    pub fn append_histogram(&mut self, t: i64, h: &Histogram, st: i64) -> Result<(), ChunkError> {
        HistogramEncoder::check(h)?;
        let encoding = if self.options.histograms_st { Encoding::HistogramSt } else { Encoding::Histogram };
        let before = self.prepare_histogram(t, encoding)?;
        let with_st = self.options.histograms_st;
        let st = if with_st { st } else { 0 };
        let mut cut = None;
        if let Some(Open { encoder: Encoder::Histogram(chunk), maxt, .. }) = &mut self.open {
            if chunk.samples() == 0 {
                let before = match &before {
                    Some(Encoder::Histogram(before)) => Some(&**before),
                    _ => None,
                };
                append_first(&mut **chunk, before, t, h, st)?;
            } else if let Appended::Cut(new) = append_next(&mut **chunk, with_st, t, h, st)? {
                cut = Some(new);
            }
            if cut.is_none() {
                *maxt = t;
            }
        }
        if let Some(new) = cut {
            self.begin(Encoder::Histogram(Box::new(new)), t);
        }
        Ok(())
    }

    /// Appends a histogram with float counts; `st` is its start timestamp, 0 where unknown.
    pub fn append_float_histogram(&mut self, t: i64, h: &FloatHistogram, st: i64) -> Result<(), ChunkError> {
        FloatHistogramEncoder::check(h)?;
        let encoding =
            if self.options.histograms_st { Encoding::FloatHistogramSt } else { Encoding::FloatHistogram };
        let before = self.prepare_histogram(t, encoding)?;
        let with_st = self.options.histograms_st;
        let st = if with_st { st } else { 0 };
        let mut cut = None;
        if let Some(Open { encoder: Encoder::FloatHistogram(chunk), maxt, .. }) = &mut self.open {
            if chunk.samples() == 0 {
                let before = match &before {
                    Some(Encoder::FloatHistogram(before)) => Some(&**before),
                    _ => None,
                };
                append_first(&mut **chunk, before, t, h, st)?;
            } else if let Appended::Cut(new) = append_next(&mut **chunk, with_st, t, h, st)? {
                cut = Some(new);
            }
            if cut.is_none() {
                *maxt = t;
            }
        }
        if let Some(new) = cut {
            self.begin(Encoder::FloatHistogram(Box::new(new)), t);
        }
        Ok(())
    }

    /// Sees to it that a chunk of `encoding` is open for a histogram at `t`; gives the chunk before it if it is new.
    fn prepare_histogram(&mut self, t: i64, encoding: Encoding) -> Result<Option<Encoder>, ChunkError> {
        self.check_order(t)?;
        let mut cut = true;
        if self.continues(encoding) {
            cut = false;
        } else if let Some(open) = &self.open
            && open.encoder.encoding() == encoding
        {
            let samples = open.encoder.samples();
            let bytes = open.encoder.data().len();
            // The chunk range ends a chunk however few samples it has.
            let range_end = if self.end_estimated {
                range_end(open.mint, self.options.chunk_range_ms)
            } else {
                self.next_at
            };
            if !self.end_estimated && bytes >= TARGET_HISTOGRAM_BYTES / 4 && self.next_at != i64::MIN {
                let ratio_to_full = TARGET_HISTOGRAM_BYTES as f64 / bytes as f64;
                self.next_at = chunk_end(open.mint, open.maxt, self.next_at, ratio_to_full);
                self.end_estimated = true;
            }
            cut = (t >= self.next_at || bytes >= TARGET_HISTOGRAM_BYTES * 2)
                && (samples >= MIN_HISTOGRAM_SAMPLES || t >= range_end);
        }
        if !cut {
            return Ok(None);
        }
        let before = self.begin(Encoder::new(encoding), t);
        self.end_estimated = false;
        Ok(before)
    }

    /// The next histogram begins a new chunk, however full the open one is.
    pub fn end_chunk(&mut self) {
        self.next_at = i64::MIN;
        self.end_estimated = false;
    }

    /// Whether the open chunk goes on without a look at its size.
    fn continues(&self, encoding: Encoding) -> bool {
        self.unlimited && self.open.as_ref().is_some_and(|open| open.encoder.encoding() == encoding)
    }

    fn check_order(&self, t: i64) -> Result<(), ChunkError> {
        match self.last_t() {
            Some(last) if t <= last => Err(ChunkError::OutOfOrder { last, t }),
            _ => Ok(()),
        }
    }

    /// Time of the last sample.
    pub fn last_t(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.maxt)
    }

    /// Time of the first sample of the open chunk.
    pub fn open_start(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.mint)
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
            encoding: open.encoder.encoding(),
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

    /// Takes the full chunks out; the open one stays.
    pub fn take_full(&mut self) -> Vec<Chunk> {
        self.full_bytes = 0;
        std::mem::take(&mut self.full)
    }

    /// Whether there are full chunks.
    pub fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Bytes on the heap: data, and what the encoder remembers of the last sample.
    pub fn heap_bytes(&self) -> usize {
        let full: usize = self.full.iter().map(|c| c.data.capacity()).sum();
        let open = self.open.as_ref().map_or(0, |open| match &open.encoder {
            Encoder::Xor(e) => e.heap_bytes(),
            Encoder::Xor2(e) => e.heap_bytes(),
            Encoder::Histogram(e) => size_of::<HistogramEncoder>() + e.heap_bytes(),
            Encoder::FloatHistogram(e) => size_of::<FloatHistogramEncoder>() + e.heap_bytes(),
        });
        self.full.capacity() * size_of::<Chunk>() + full + open
    }

    /// Bytes of encoded data.
    pub fn bytes(&self) -> usize {
        self.full_bytes + self.open.as_ref().map_or(0, |open| open.encoder.data().len())
    }

    /// Opens a chunk that begins at `t`; what was known of the one before is given back.
    fn begin(&mut self, encoder: Encoder, t: i64) -> Option<Encoder> {
        let before = self.close();
        self.open = Some(Open { encoder, mint: t, maxt: t });
        self.next_at = range_end(t, self.options.chunk_range_ms);
        before
    }

    fn close(&mut self) -> Option<Encoder> {
        let mut open = self.open.take()?;
        let (encoding, samples) = (open.encoder.encoding(), open.encoder.samples());
        let mut data = open.encoder.take();
        data.shrink_to_fit();
        self.full_bytes += data.len();
        self.full.push(Chunk { encoding, data, mint: open.mint, maxt: open.maxt, samples });
        Some(open.encoder)
    }
}

/// The end of the range of `width` that `t` falls into.
pub fn range_end(t: i64, width: i64) -> i64 {
    (t / width).saturating_mul(width).saturating_add(width)
}

/// When to cut a chunk that is full to 1 part in `ratio_to_full`, so that what fits before `max` is cut evenly.
pub fn chunk_end(start: i64, current: i64, max: i64, ratio_to_full: f64) -> i64 {
    let n =
        max.wrapping_sub(start) as f64 / (current.wrapping_sub(start).wrapping_add(1) as f64 * ratio_to_full);
    if n <= 1.0 {
        return max;
    }
    (start as f64 + max.wrapping_sub(start) as f64 / n.floor()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_timestamps_of_floats_and_histograms_are_stored_by_their_own_options() {
        use Encoding::{Histogram as H, HistogramSt as Hst, Xor, Xor2};
        for (xor2, st, histograms_st, want) in [
            (false, false, false, [(Xor, 0), (H, 0)]),
            (true, false, false, [(Xor2, 0), (H, 0)]),
            (true, true, false, [(Xor2, 5), (H, 0)]),
            (true, true, true, [(Xor2, 5), (Hst, 5)]),
            (false, false, true, [(Xor, 0), (Hst, 5)]),
        ] {
            let mut series = SeriesAppender::new(AppenderOptions {
                xor2,
                st,
                histograms_st,
                ..AppenderOptions::default()
            });
            series.append_float(10, 1.5, 5).unwrap();
            series.append_histogram(20, &Histogram::default(), 5).unwrap();
            let got: Vec<(Encoding, i64)> = series
                .chunks()
                .map(|c| {
                    let mut out = crate::SampleColumns::default();
                    crate::decode(c.encoding, c.data, i64::MIN, i64::MAX, &mut out).unwrap();
                    let start = if out.floats.is_empty() {
                        out.histograms.start_timestamp(0)
                    } else {
                        out.floats.start_timestamp(0)
                    };
                    (c.encoding, start)
                })
                .collect();
            assert_eq!(got, want, "{xor2} {st} {histograms_st}");
        }
    }
}
