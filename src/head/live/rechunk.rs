//! The chunks of a series as a block has them: those of the head where they are what upstream's head would have cut of
//! the same samples, else cut anew as it would; deleted samples and those out of range left out.
//!
//! The head ends chunks early for reasons of its own (a limit of bytes, a lack of memory). What it has is judged by the
//! rule by which the next sample would have begun a new chunk, so chunks are mostly copied. What rests on too little
//! knowledge to be judged is cut anew, which gives the same chunk if that was right.

use tsdbctl_chunk::append::{chunk_end, range_end};
use tsdbctl_chunk::{
    AppenderOptions, Chunk, ChunkError, Encoding, Floats, SeriesAppender, decode_float_histograms,
    decode_floats_fast, decode_histograms, sample_count,
};
use tsdbctl_model::histogram::CounterResetHint;
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use crate::live::shard::{ChunkRules, SampleValue};
use crate::pieces::is_deleted;

/// A chunk of floats is full above this, bytes: upstream's 1024 less the largest sample.
const MOST_FLOAT_BYTES: usize = 1024 - 19;
/// A chunk of histograms below this may have been ended early.
const FEW_HISTOGRAM_BYTES: usize = 1024 / 2;
/// What is known of a counter reset: two bits of a byte of a histogram chunk.
const RESET_MASK: u8 = 0xc0;
const RESET: u8 = 0x80;

/// A chunk of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadChunk<'a> {
    pub encoding: Encoding,
    pub data: &'a [u8],
    pub mint: i64,
    pub maxt: i64,
    /// Ranges of it that were deleted, sorted and apart.
    pub deleted: &'a [(i64, i64)],
}

/// A sample of any kind.
#[derive(Debug)]
struct Sample {
    t: i64,
    st: i64,
    value: SampleValue,
}

/// Makes a block's chunks of a head's.
#[derive(Debug)]
pub(super) struct Rechunker {
    /// By which upstream's head would have cut.
    options: AppenderOptions,
    /// Used again.
    floats: Floats,
    scratch: Vec<u8>,
}

/// First and last time of what is written.
type Range = (i64, i64);

impl HeadChunk<'_> {
    /// Whether a sample of it at `t` is wanted.
    fn has(&self, t: i64, range: Range) -> bool {
        (range.0..=range.1).contains(&t) && !is_deleted(self.deleted, t, t)
    }

    /// Whether all its samples are wanted.
    fn is_wanted(&self, range: Range) -> bool {
        range.0 <= self.mint
            && self.maxt <= range.1
            && !self.deleted.iter().any(|(a, b)| *a <= self.maxt && *b >= self.mint)
    }

    /// Whether some may be.
    fn overlaps(&self, range: Range) -> bool {
        self.mint <= range.1 && self.maxt >= range.0 && !is_deleted(self.deleted, self.mint, self.maxt)
    }
}

fn is_of_floats(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Xor | Encoding::Xor2)
}

/// The byte of a histogram chunk that says what is known of a counter reset.
fn reset_byte(encoding: Encoding) -> Option<usize> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => None,
        Encoding::Histogram | Encoding::FloatHistogram => Some(2),
        Encoding::HistogramSt | Encoding::FloatHistogramSt => Some(0),
    }
}

/// Appends all samples of a chunk.
fn decode_all(encoding: Encoding, data: &[u8], out: &mut Vec<Sample>) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut floats = Floats::default();
            decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut floats)?;
            let values = floats.t.iter().zip(&floats.v).enumerate();
            out.extend(values.map(|(i, (t, v))| Sample {
                t: *t,
                st: floats.start_timestamp(i),
                value: SampleValue::Float(*v),
            }));
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let all = decode_histograms(encoding, data)?.into_iter();
            out.extend(all.map(|(t, st, h)| Sample { t, st, value: SampleValue::Histogram(Box::new(h)) }));
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let all = decode_float_histograms(encoding, data)?.into_iter();
            out.extend(all.map(|(t, st, h)| Sample {
                t,
                st,
                value: SampleValue::FloatHistogram(Box::new(h)),
            }));
        }
    }
    Ok(())
}

fn append(to: &mut SeriesAppender, sample: &Sample) -> Result<(), ChunkError> {
    match &sample.value {
        SampleValue::Float(v) => to.append_float(sample.t, *v, sample.st),
        SampleValue::Histogram(h) => to.append_histogram(sample.t, h, sample.st),
        SampleValue::FloatHistogram(h) => to.append_float_histogram(sample.t, h, sample.st),
    }
}

impl Rechunker {
    /// For a head with these rules.
    pub fn new(rules: &ChunkRules) -> Self {
        let options = AppenderOptions {
            chunk_range_ms: rules.chunk_range_ms.max(1),
            samples_per_chunk: rules.samples_per_chunk as usize,
            xor2: rules.xor2,
            st: rules.start_timestamps,
            histograms_st: rules.histogram_start_timestamps,
        };
        Self { options, floats: Floats::default(), scratch: Vec::new() }
    }

    /// As a chunk of this encoding is written again.
    fn options_of(&self, encoding: Encoding) -> AppenderOptions {
        let histograms_st = matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt);
        let xor2 = encoding == Encoding::Xor2;
        AppenderOptions { xor2, st: xor2, histograms_st, ..self.options }
    }

    /// Appends the wanted samples of chunks that follow each other in time, as upstream's head would have cut them.
    ///
    /// # Errors
    /// The place of the chunk that is damaged, and how.
    pub fn in_order(
        &mut self,
        chunks: &[HeadChunk<'_>],
        range: Range,
        out: &mut ChunkBatch,
    ) -> Result<(), (usize, ChunkError)> {
        let mut first = 0;
        for run in chunks.chunk_by(|a, b| a.encoding == b.encoding) {
            let at = |(i, e)| (first + i, e);
            let early = self.ended_early(run).map_err(at)?;
            let (sound, rest) = run.split_at(early.unwrap_or(run.len()));
            for (i, chunk) in sound.iter().enumerate() {
                self.copy(chunk, range, out).map_err(|e| (first + i, e))?;
            }
            if !rest.is_empty() {
                let at = |(i, e)| (first + sound.len() + i, e);
                for chunk in self.join(rest).map_err(at)? {
                    self.copy(&as_chunk(&chunk, run[0].deleted), range, out)
                        .map_err(|e| (first + sound.len(), e))?;
                }
            }
            first += run.len();
        }
        Ok(())
    }

    /// The first of chunks of one encoding that the next one should continue; `None` if all are as upstream cuts them.
    fn ended_early(&mut self, run: &[HeadChunk<'_>]) -> Result<Option<usize>, (usize, ChunkError)> {
        for (i, pair) in run.windows(2).enumerate() {
            let [chunk, next] = pair else { continue };
            let is_whole = next.mint >= range_end(chunk.mint, self.options.chunk_range_ms)
                || match is_of_floats(chunk.encoding) {
                    true => self.is_whole(chunk, next.mint).map_err(|e| (i, e))?,
                    false => chunk.data.len() >= FEW_HISTOGRAM_BYTES,
                };
            if !is_whole {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// Whether upstream would have put a sample at `next`, and none before, into a new chunk of floats.
    fn is_whole(&mut self, chunk: &HeadChunk<'_>, next: i64) -> Result<bool, ChunkError> {
        let samples = sample_count(chunk.encoding, chunk.data)?;
        if samples >= self.options.samples_per_chunk * 2 || chunk.data.len() > MOST_FLOAT_BYTES {
            return Ok(true);
        }
        let decides = self.options.samples_per_chunk / 4;
        if samples < decides {
            return Ok(false);
        }
        let current = match samples == decides {
            true => chunk.maxt,
            false => self.time_of_sample(chunk, decides)?,
        };
        let end = range_end(chunk.mint, self.options.chunk_range_ms);
        let next_at = chunk_end(chunk.mint, current, end, 4.0);
        Ok(chunk.maxt < next_at && next >= next_at)
    }

    /// Time of the sample of this number, from 1.
    fn time_of_sample(&mut self, chunk: &HeadChunk<'_>, number: usize) -> Result<i64, ChunkError> {
        self.scratch.clear();
        self.scratch.extend_from_slice(chunk.data);
        // The decoder stops where the header says that there are no more.
        if let (Some(count), Ok(number)) = (self.scratch.first_chunk_mut::<2>(), u16::try_from(number)) {
            *count = number.to_be_bytes();
        }
        self.floats.clear();
        decode_floats_fast(chunk.encoding, &self.scratch, i64::MIN, i64::MAX, &mut self.floats)?;
        Ok(self.floats.t.last().copied().unwrap_or(chunk.maxt))
    }

    /// Cuts the samples of chunks of one encoding anew.
    fn join(&mut self, run: &[HeadChunk<'_>]) -> Result<Vec<Chunk>, (usize, ChunkError)> {
        let encoding = run[0].encoding;
        let mut series = SeriesAppender::new(self.options_of(encoding));
        let reset = reset_byte(encoding);
        let header = |chunk: &[u8]| reset.and_then(|at| chunk.get(at)).map(|b| b & RESET_MASK);
        for (i, chunk) in run.iter().enumerate() {
            let at = |e| (i, e);
            if is_of_floats(encoding) {
                self.floats.clear();
                decode_floats_fast(encoding, chunk.data, i64::MIN, i64::MAX, &mut self.floats).map_err(at)?;
                for (n, (t, v)) in self.floats.t.iter().zip(&self.floats.v).enumerate() {
                    series.append_float(*t, *v, self.floats.start_timestamp(n)).map_err(at)?;
                }
                continue;
            }
            let mut samples = Vec::new();
            decode_all(encoding, chunk.data, &mut samples).map_err(at)?;
            if i > 0
                && header(chunk.data) == Some(RESET)
                && let Some(first) = samples.first_mut()
            {
                // The chunk's header knows it, the sample itself does not say it.
                match &mut first.value {
                    SampleValue::Histogram(h) => h.counter_reset_hint = CounterResetHint::CounterReset,
                    SampleValue::FloatHistogram(h) => h.counter_reset_hint = CounterResetHint::CounterReset,
                    SampleValue::Float(_) => {}
                }
            }
            samples.iter().try_for_each(|s| append(&mut series, s)).map_err(at)?;
        }
        let mut chunks = series.into_chunks();
        // What was in front of the first sample is not in these chunks.
        if let (Some(at), Some(known), Some(first)) = (reset, header(run[0].data), chunks.first_mut())
            && let Some(byte) = first.data.get_mut(at)
        {
            *byte = *byte & !RESET_MASK | known;
        }
        Ok(chunks)
    }

    /// Appends a chunk, written anew if some of its samples are not wanted.
    pub fn copy(
        &mut self,
        chunk: &HeadChunk<'_>,
        range: Range,
        out: &mut ChunkBatch,
    ) -> Result<(), ChunkError> {
        if !chunk.overlaps(range) {
            return Ok(());
        }
        if chunk.is_wanted(range) {
            push(chunk, out);
            return Ok(());
        }
        let mut samples = Vec::new();
        decode_all(chunk.encoding, chunk.data, &mut samples)?;
        samples.retain(|s| chunk.has(s.t, range));
        let mut series = SeriesAppender::new(self.options_of(chunk.encoding)).without_limits();
        samples.iter().try_for_each(|s| append(&mut series, s))?;
        series.into_chunks().iter().for_each(|chunk| push(&as_chunk(chunk, &[]), out));
        Ok(())
    }

    /// Appends the wanted samples of chunks that overlap: of several at one time the one of the first chunk. Chunks are
    /// cut by what they hold alone (`by_size`), as upstream does when it writes samples that came out of order; or as by
    /// its head.
    ///
    /// # Errors
    /// As [`Rechunker::in_order`].
    pub fn merged(
        &mut self,
        chunks: &[HeadChunk<'_>],
        by_size: bool,
        range: Range,
        out: &mut ChunkBatch,
    ) -> Result<(), (usize, ChunkError)> {
        let mut samples = Vec::new();
        for (i, chunk) in chunks.iter().enumerate() {
            let first = samples.len();
            decode_all(chunk.encoding, chunk.data, &mut samples).map_err(|e| (i, e))?;
            let wanted = samples.drain(first..).filter(|s| chunk.has(s.t, range)).collect::<Vec<_>>();
            samples.extend(wanted);
        }
        samples.sort_by_key(|s| s.t);
        samples.dedup_by_key(|s| s.t);
        // Whether counters were reset is for the encoder to find: the neighbours are others now.
        for sample in &mut samples {
            let hint = match &mut sample.value {
                SampleValue::Float(_) => continue,
                SampleValue::Histogram(h) => &mut h.counter_reset_hint,
                SampleValue::FloatHistogram(h) => &mut h.counter_reset_hint,
            };
            if *hint != CounterResetHint::Gauge {
                *hint = CounterResetHint::Unknown;
            }
        }
        let is = |encoding| chunks.iter().any(|c| c.encoding == encoding);
        let histograms_st = is(Encoding::HistogramSt) || is(Encoding::FloatHistogramSt);
        let xor2 = is(Encoding::Xor2);
        let mut options = AppenderOptions { xor2, st: xor2, histograms_st, ..self.options };
        if by_size {
            (options.chunk_range_ms, options.samples_per_chunk) = (i64::MAX, usize::MAX / 4);
        }
        let mut series = SeriesAppender::new(options);
        samples.iter().try_for_each(|s| append(&mut series, s)).map_err(|e| (0, e))?;
        series.into_chunks().iter().for_each(|chunk| push(&as_chunk(chunk, &[]), out));
        Ok(())
    }
}

fn as_chunk<'a>(chunk: &'a Chunk, deleted: &'a [(i64, i64)]) -> HeadChunk<'a> {
    let Chunk { encoding, data, mint, maxt, .. } = chunk;
    HeadChunk { encoding: *encoding, data, mint: *mint, maxt: *maxt, deleted }
}

fn push(chunk: &HeadChunk<'_>, out: &mut ChunkBatch) {
    let HeadChunk { encoding, data, mint, maxt, .. } = *chunk;
    out.push(EncodedChunk { encoding: encoding as u8, data, mint, maxt });
}
