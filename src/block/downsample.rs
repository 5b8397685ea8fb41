//! Samples of a series made fewer: one per window of five minutes or of one hour, kept as count, sum, minimum, maximum
//! and counter, as Thanos does it, chunk by chunk.
//!
//! Windows are aligned with time zero and are named by their last millisecond. The last window of a chunk ends with its last
//! sample, so that the next chunk may go on in the same window. Chunks are cut so that there are about 140 windows in each.
//!
//! Stale markers are left out, and of floats everything that is not a number. Where Thanos would lose samples or give up, this
//! does not: chunks end where a histogram does not fit (another zero bucket, other custom bounds); histograms with a sum that
//! is not a number are kept; the minimum of nothing but +Inf is +Inf; times before 1970 count.

mod floats;
mod histograms;

use std::fmt;
use std::path::{Path, PathBuf};

use tsdbctl_chunk::{
    AGGREGATE_ENCODING, Aggregate, AggregateChunk, ChunkError, Encoding, Floats, decode_floats_fast,
    sample_count,
};
use tsdbctl_model::histogram::HistogramError;
use tsdbctl_model::sample::is_stale;
use tsdbctl_storage::{ChunkBatch, ChunkSource, EncodedChunk, LabelRef, Loss, StorageError};

use histograms::Group;

/// Length of the windows made of raw samples, ms.
pub const FIVE_MINUTES_MS: i64 = 300_000;
/// Length of the windows made of those, ms.
pub const ONE_HOUR_MS: i64 = 3_600_000;

/// How far apart raw samples are taken to be, ms: chunks come out well-sized with it.
const RAW_INTERVAL_MS: i64 = 60_000;
/// Windows of a chunk, on average at most.
const WINDOWS_PER_CHUNK: i64 = 140;
/// Windows of a chunk at most: its header counts to 65535, and two samples are added.
const MOST_WINDOWS: usize = 60_000;

/// What was met on the way, to be told to the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownsampleNotes {
    /// Series that have histograms with custom buckets. Thanos reads their chunks; its compactor panics on them when it
    /// downsamples a block further.
    pub custom_bucket_series: u64,
    /// Series that had nothing but stale markers or not-a-numbers, and are left out.
    pub empty_series: u64,
}

/// The series of another source, downsampled.
pub struct DownsampledSource {
    inner: Box<dyn ChunkSource>,
    resolution_ms: i64,
    /// Windows of the source; none of raw samples.
    from_ms: Option<i64>,
    origin: Option<PathBuf>,
    input: ChunkBatch,
    floats: floats::Scratch,
    notes: DownsampleNotes,
}

impl fmt::Debug for DownsampledSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownsampledSource")
            .field("resolution_ms", &self.resolution_ms)
            .field("from_ms", &self.from_ms)
            .finish_non_exhaustive()
    }
}

/// Why a series could not be downsampled.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    #[error("a chunk of raw samples was expected, not of aggregates")]
    NotRaw,
    #[error("chunk encoding {0} is not known")]
    Encoding(u8),
}

impl DownsampledSource {
    /// Windows of `resolution_ms` of the series of `inner`, which are raw or, if not `from_raw`, in windows of five minutes.
    pub fn new(inner: Box<dyn ChunkSource>, resolution_ms: i64, from_raw: bool) -> Self {
        Self::of_windows(inner, resolution_ms, (!from_raw).then_some(FIVE_MINUTES_MS))
    }

    /// The windows of `inner` as they are, in chunks of the usual length: what several short blocks become.
    pub fn rechunked(inner: Box<dyn ChunkSource>, resolution_ms: i64) -> Self {
        Self::of_windows(inner, resolution_ms, Some(resolution_ms.max(1)))
    }

    fn of_windows(inner: Box<dyn ChunkSource>, resolution_ms: i64, from_ms: Option<i64>) -> Self {
        Self {
            inner,
            resolution_ms: resolution_ms.max(1),
            from_ms,
            origin: None,
            input: ChunkBatch::default(),
            floats: floats::Scratch::default(),
            notes: DownsampleNotes::default(),
        }
    }

    /// Names the directory that errors are to point at, if it is not the source's.
    pub fn named(mut self, origin: PathBuf) -> Self {
        self.origin = Some(origin);
        self
    }

    /// What was met so far.
    pub fn notes(&self) -> DownsampleNotes {
        self.notes
    }

    fn raw(&mut self, out: &mut ChunkBatch) -> Result<(), Failure> {
        let Self { input, floats, resolution_ms, notes, .. } = self;
        let mut custom = false;
        downsample_raw(input.iter(), *resolution_ms, floats, &mut custom, out)?;
        notes.custom_bucket_series += u64::from(custom);
        Ok(())
    }

    fn aggregated(&mut self, from_ms: i64, out: &mut ChunkBatch) -> Result<(), Failure> {
        let mut whole = ChunkBatch::default();
        let mut custom = false;
        let input = if self.input.iter().all(|c| c.encoding == AGGREGATE_ENCODING) {
            &self.input
        } else {
            // Early releases of Thanos left raw chunks in.
            for chunk in self.input.iter() {
                if chunk.encoding == AGGREGATE_ENCODING {
                    whole.push(chunk);
                } else if sample_count(encoding_of(&chunk)?, chunk.data)? > 0 {
                    let one = std::iter::once(chunk);
                    downsample_raw(one, from_ms, &mut self.floats, &mut custom, &mut whole)?;
                }
            }
            &whole
        };
        let chunks: Vec<_> =
            input.iter().map(|c| Ok((c, AggregateChunk::parse(c.data)?))).collect::<Result<_, Failure>>()?;
        for group in chunks.chunk_by(|a, b| a.1.is_histogram() == b.1.is_histogram()) {
            let windows: usize = group.iter().map(|(_, c)| c.sample_count()).sum();
            let (mint, maxt) = (group[0].0.mint, group[group.len() - 1].0.maxt);
            let count = chunk_count(mint, maxt, from_ms, self.resolution_ms, windows);
            // Whole chunks go into one: only they begin and end with true values of the counter.
            for part in group.chunks((group.len() / count).max(1)) {
                if part[0].1.is_histogram() {
                    custom |= histograms::merge(part, self.resolution_ms, out)?;
                } else {
                    self.floats.merge(part, self.resolution_ms, out)?;
                }
            }
        }
        self.notes.custom_bucket_series += u64::from(custom);
        Ok(())
    }
}

impl ChunkSource for DownsampledSource {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.inner.symbols(each)
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        self.inner.next()
    }

    fn labels(&self) -> &[LabelRef] {
        self.inner.labels()
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        self.input.clear();
        self.inner.chunks(&mut self.input)?;
        let before = out.len();
        let done = match self.from_ms {
            None => self.raw(out),
            Some(from_ms) => self.aggregated(from_ms, out),
        };
        done.map_err(|e| {
            let (first, last) = (self.input.iter().next(), self.input.iter().last());
            let times = first.zip(last).map_or((0, 0), |(first, last)| (first.mint, last.maxt));
            let reason = format!("a series of {} to {} cannot be downsampled: {e}", times.0, times.1);
            Loss { file: self.origin().to_owned(), offset: 0, reason }
        })?;
        self.notes.empty_series += u64::from(out.len() == before && !self.input.is_empty());
        Ok(())
    }

    fn origin(&self) -> &Path {
        self.origin.as_deref().unwrap_or_else(|| self.inner.origin())
    }
}

fn encoding_of(chunk: &EncodedChunk<'_>) -> Result<Encoding, Failure> {
    match chunk.encoding {
        AGGREGATE_ENCODING => Err(Failure::NotRaw),
        byte => Encoding::from_byte(byte).ok_or(Failure::Encoding(byte)),
    }
}

/// Downsamples raw chunks of one series; `custom` is set if some have custom buckets.
fn downsample_raw<'a>(
    chunks: impl Iterator<Item = EncodedChunk<'a>>,
    resolution_ms: i64,
    scratch: &mut floats::Scratch,
    custom: &mut bool,
    out: &mut ChunkBatch,
) -> Result<(), Failure> {
    let mut floats = std::mem::take(&mut scratch.raw);
    floats.clear();
    let mut group = Group::default();
    for chunk in chunks {
        let encoding = encoding_of(&chunk)?;
        if encoding.is_histogram() {
            scratch.downsample(&floats, resolution_ms, out)?;
            floats.clear();
            let Some(known) = histograms::Known::of(encoding, chunk.data)? else {
                continue;
            };
            *custom |= known.is_custom();
            if !group.takes(&known) {
                group.downsample(resolution_ms, out)?;
                group = Group::default();
            }
            group.add(known);
        } else {
            group.downsample(resolution_ms, out)?;
            group = Group::default();
            decode_floats(encoding, chunk.data, &mut floats)?;
        }
    }
    scratch.downsample(&floats, resolution_ms, out)?;
    scratch.raw = floats;
    group.downsample(resolution_ms, out)
}

/// Appends samples that are no stale markers.
fn decode_floats(encoding: Encoding, data: &[u8], out: &mut Floats) -> Result<(), ChunkError> {
    let start = out.len();
    decode_floats_fast(encoding, data, i64::MIN, i64::MAX, out)?;
    out.st.clear();
    let mut kept = start;
    for i in start..out.len() {
        if !is_stale(out.v[i]) {
            out.t[kept] = out.t[i];
            out.v[kept] = out.v[i];
            kept += 1;
        }
    }
    out.truncate(kept);
    Ok(())
}

/// The last millisecond of the window of `t`.
fn window_end(t: i64, resolution_ms: i64) -> i64 {
    t.saturating_sub(t.rem_euclid(resolution_ms)).saturating_add(resolution_ms - 1)
}

/// How many chunks are to be made of `count` samples in a range: how many windows there will be is estimated from how much of
/// the range the samples fill.
fn chunk_count(mint: i64, maxt: i64, from_ms: i64, to_ms: i64, count: usize) -> usize {
    let range = maxt.saturating_sub(mint).max(0);
    let most_windows = (range / to_ms) as f64;
    let fullness = (count as f64 / (range as f64 / from_ms as f64)).min(1.0);
    let windows = (most_windows * fullness) as i64 + 1;
    // As few as leave no more than so many windows, rounded down, to each.
    (windows / (WINDOWS_PER_CHUNK + 1) + 1) as usize
}

/// Ends of the batches that the samples of a chunk each are made of: equally long, then up to the end of the window.
fn batch_end(times: &[i64], batch: usize, resolution_ms: i64) -> usize {
    let mut end = batch.min(times.len());
    if end > MOST_WINDOWS {
        let mut windows = 0;
        let mut current = i64::MIN;
        for (i, t) in times[..end].iter().enumerate() {
            if *t > current {
                current = window_end(*t, resolution_ms);
                windows += 1;
                if windows > MOST_WINDOWS {
                    end = i;
                    break;
                }
            }
        }
    }
    let window = window_end(times[end - 1], resolution_ms);
    end + times[end..].partition_point(|t| *t <= window)
}

/// Writes a chunk of aggregates behind the others.
fn push(out: &mut ChunkBatch, parts: &[(Aggregate, Encoding, &[u8])], mint: i64, maxt: i64) {
    let mut chunk = AggregateChunk::default();
    for (aggregate, encoding, data) in parts {
        chunk.set(*aggregate, *encoding, data);
    }
    let mut data = Vec::with_capacity(parts.iter().map(|p| p.2.len() + 8).sum());
    chunk.encode(&mut data);
    out.push(EncodedChunk { encoding: AGGREGATE_ENCODING, data: &data, mint, maxt });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_with_time_zero() {
        for (t, want) in [(0, 99), (99, 99), (100, 199), (-1, -1), (-100, -1), (-101, -101)] {
            assert_eq!(window_end(t, 100), want, "{t}");
        }
        assert_eq!(window_end(i64::MAX, 100), i64::MAX);
        assert!(window_end(i64::MIN, 100) <= i64::MIN + 199);
    }

    #[test]
    fn chunks_hold_up_to_140_windows_on_average() {
        let searched = |windows: i64| (1..).find(|x| windows / x <= 140).unwrap() as usize;
        for windows in (1..3000).chain([100_000, 141 * 7, 141 * 7 - 1]) {
            let range = (windows - 1) * FIVE_MINUTES_MS;
            assert_eq!(
                chunk_count(0, range, RAW_INTERVAL_MS, FIVE_MINUTES_MS, usize::MAX),
                searched(windows),
                "{windows}"
            );
        }
        assert_eq!(chunk_count(5, 5, RAW_INTERVAL_MS, FIVE_MINUTES_MS, 1), 1);
        assert!(chunk_count(i64::MIN, i64::MAX, RAW_INTERVAL_MS, FIVE_MINUTES_MS, 1) >= 1);
    }
}
