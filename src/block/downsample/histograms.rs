//! Native histograms: count, sum and counter of each run of windows, the latter two as float histograms.
//!
//! All of a chunk are brought to its coarsest schema. A chunk ends where a window's histogram does not fit in: where the zero
//! bucket is another, or the counter falls although no reset was seen. Of custom buckets, other bounds end it.

use std::borrow::Cow;
use std::sync::Arc;

use tsdbctl_chunk::{
    Aggregate, AggregateChunk, ChunkError, Encoding, FloatHistogramEncoder, FloatHistogramReader, Floats,
    HistogramReader, XorEncoder,
};
use tsdbctl_model::{CounterResetHint, FloatHistogram};
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use super::{Failure, RAW_INTERVAL_MS, batch_end, chunk_count, decode_floats, push, window_end};

enum Reader<'a> {
    Integer(HistogramReader<'a>),
    Float(FloatHistogramReader<'a>),
}

impl<'a> Reader<'a> {
    fn new(encoding: Encoding, data: &'a [u8]) -> Result<Self, ChunkError> {
        Ok(match encoding {
            Encoding::Histogram | Encoding::HistogramSt => {
                Self::Integer(HistogramReader::new(encoding, data)?)
            }
            _ => Self::Float(FloatHistogramReader::new(encoding, data)?),
        })
    }

    /// Goes on to the next sample that is no stale marker.
    fn advance(&mut self) -> Result<bool, ChunkError> {
        loop {
            let (more, stale) = match self {
                Self::Integer(r) => (r.advance()?, r.is_stale()),
                Self::Float(r) => (r.advance()?, r.is_stale()),
            };
            if !more || !stale {
                return Ok(more);
            }
        }
    }

    fn t(&self) -> i64 {
        match self {
            Self::Integer(r) => r.t(),
            Self::Float(r) => r.t(),
        }
    }

    fn histogram(&self) -> FloatHistogram {
        match self {
            Self::Integer(r) => r.float_histogram(),
            Self::Float(r) => r.float_histogram(),
        }
    }
}

/// Custom bounds; none of exponential buckets. Only histograms with the same can be added without loss.
type Bounds = Option<Arc<[f64]>>;

fn bounds_of(h: &FloatHistogram) -> Bounds {
    h.uses_custom_buckets().then(|| h.custom_bounds().into())
}

/// A raw chunk of which is known when its samples are.
pub(super) struct Known<'a> {
    encoding: Encoding,
    data: &'a [u8],
    times: Vec<i64>,
    bounds: Bounds,
}

impl<'a> Known<'a> {
    /// Looks through a chunk; none if it has nothing but stale markers.
    pub fn of(encoding: Encoding, data: &'a [u8]) -> Result<Option<Self>, ChunkError> {
        let mut reader = Reader::new(encoding, data)?;
        if !reader.advance()? {
            return Ok(None);
        }
        let bounds = bounds_of(&reader.histogram());
        let mut times = vec![reader.t()];
        while reader.advance()? {
            times.push(reader.t());
        }
        Ok(Some(Self { encoding, data, times, bounds }))
    }

    pub fn is_custom(&self) -> bool {
        self.bounds.is_some()
    }
}

/// Raw chunks that follow each other and can be added. Their samples are decoded when their turn comes.
#[derive(Default)]
pub(super) struct Group<'a> {
    chunks: Vec<(Encoding, &'a [u8])>,
    times: Vec<i64>,
    bounds: Bounds,
}

impl<'a> Group<'a> {
    pub fn takes(&self, chunk: &Known<'_>) -> bool {
        self.chunks.is_empty() || self.bounds == chunk.bounds
    }

    pub fn add(&mut self, chunk: Known<'a>) {
        self.chunks.push((chunk.encoding, chunk.data));
        self.times.extend_from_slice(&chunk.times);
        self.bounds = chunk.bounds;
    }

    pub fn downsample(&self, resolution_ms: i64, out: &mut ChunkBatch) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (self.times.first(), self.times.last()) else {
            return Ok(());
        };
        let count = chunk_count(*first, *last, RAW_INTERVAL_MS, resolution_ms, self.times.len());
        let batch = self.times.len() / count + 1;
        let mut chunks = self.chunks.iter();
        let mut reader: Option<Reader<'_>> = None;
        let mut start = 0;
        while start < self.times.len() {
            let length = batch_end(&self.times[start..], batch, resolution_ms);
            start += length;
            let mut samples = Vec::with_capacity(length);
            while samples.len() < length {
                if let Some(r) = &mut reader
                    && r.advance()?
                {
                    samples.push((r.t(), r.histogram()));
                    continue;
                }
                let Some((encoding, data)) = chunks.next() else {
                    break;
                };
                reader = Some(Reader::new(*encoding, data)?);
            }
            raw_batch(&samples, resolution_ms, out)?;
        }
        Ok(())
    }
}

type Samples = [(i64, FloatHistogram)];

/// What is made of histograms, window by window.
struct Windows<'a> {
    /// The coarsest schema of all.
    schema: i32,
    count: u64,
    sum: Option<FloatHistogram>,
    counter: Option<FloatHistogram>,
    previous: Option<Cow<'a, FloatHistogram>>,
    keep: Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Both,
    Sum,
    Counter,
}

impl<'a> Windows<'a> {
    fn new(samples: &Samples, keep: Keep) -> Self {
        let schema = samples.iter().map(|(_, h)| h.schema).min().unwrap_or_default();
        Self { schema, count: 0, sum: None, counter: None, previous: None, keep }
    }

    fn add(&mut self, whole: &'a FloatHistogram) -> Result<(), Failure> {
        let h = if whole.schema > self.schema {
            Cow::Owned(whole.copy_to_schema(self.schema)?)
        } else {
            Cow::Borrowed(whole)
        };
        self.count += 1;
        if self.keep != Keep::Counter {
            match &mut self.sum {
                Some(sum) => {
                    sum.add(&h)?;
                }
                sum => *sum = Some(h.clone().into_owned()),
            }
            // Sums of windows rise and fall.
            if let Some(sum) = &mut self.sum {
                sum.counter_reset_hint = CounterResetHint::Gauge;
            }
        }
        if self.keep != Keep::Sum {
            match (&mut self.counter, &self.previous) {
                (Some(counter), Some(previous)) => {
                    // Whether there was a reset shows in the sample as it was: a finer schema is one.
                    if h.counter_reset_hint != CounterResetHint::Gauge && whole.detect_reset(previous) {
                        counter.add(&h)?;
                    } else {
                        let mut delta = h.clone().into_owned();
                        delta.sub(previous)?;
                        counter.add(&delta)?;
                    }
                }
                (counter, _) => *counter = Some(h.clone().into_owned()),
            }
            self.previous = Some(h);
        }
        Ok(())
    }
}

/// Goes through the windows of samples. `each` answers false where what it got does not fit; answered is the time of the
/// first sample of that window then.
fn windows(
    samples: &Samples,
    resolution_ms: i64,
    keep: Keep,
    mut each: impl FnMut(i64, &mut Windows<'_>) -> Result<bool, Failure>,
) -> Result<Option<i64>, Failure> {
    let Some((last, _)) = samples.last() else {
        return Ok(None);
    };
    let mut state = Windows::new(samples, keep);
    let mut window: Option<(i64, i64)> = None;
    for (t, h) in samples {
        if window.is_none_or(|(_, end)| *t > end) {
            if let Some((start, end)) = window
                && !each(end, &mut state)?
            {
                return Ok(Some(start));
            }
            state.count = 0;
            state.sum = None;
            window = Some((*t, window_end(*t, resolution_ms).min(*last)));
        }
        state.add(h)?;
    }
    match window {
        Some((start, end)) if !each(end, &mut state)? => Ok(Some(start)),
        _ => Ok(None),
    }
}

/// A chunk in the making.
struct Builder {
    count: XorEncoder,
    sum: FloatHistogramEncoder,
    counter: FloatHistogramEncoder,
    is_gauge: bool,
    range: Option<(i64, i64)>,
}

impl Builder {
    fn new(is_gauge: bool) -> Self {
        Self {
            count: XorEncoder::new(),
            sum: FloatHistogramEncoder::new(false),
            counter: FloatHistogramEncoder::new(false),
            is_gauge,
            range: None,
        }
    }

    fn reaches(&mut self, t: i64) {
        let (mint, maxt) = self.range.unwrap_or((t, t));
        self.range = Some((mint.min(t), maxt.max(t)));
    }

    fn add_sum(&mut self, t: i64, windows: &Windows<'_>) -> Result<bool, Failure> {
        self.reaches(t);
        Ok(match &windows.sum {
            Some(sum) => self.sum.append_fitting(t, sum)?,
            None => true,
        })
    }

    fn add_counter(&mut self, t: i64, windows: &mut Windows<'_>) -> Result<bool, Failure> {
        self.reaches(t);
        Ok(match &mut windows.counter {
            Some(counter) => {
                if self.is_gauge {
                    counter.counter_reset_hint = CounterResetHint::Gauge;
                }
                self.counter.append_fitting(t, counter)?
            }
            None => true,
        })
    }

    fn finish(&self, out: &mut ChunkBatch) {
        let Some((mint, maxt)) = self.range else {
            return;
        };
        let some = |samples, data| if samples == 0 { &[][..] } else { data };
        let parts = [
            (Aggregate::Count, Encoding::Xor, some(self.count.samples(), self.count.data())),
            (Aggregate::Sum, Encoding::FloatHistogram, some(self.sum.samples(), self.sum.data())),
            (Aggregate::Counter, Encoding::FloatHistogram, some(self.counter.samples(), self.counter.data())),
        ];
        push(out, &parts, mint, maxt);
    }
}

fn is_gauge(samples: &Samples) -> bool {
    samples.first().is_some_and(|(_, h)| h.counter_reset_hint == CounterResetHint::Gauge)
}

/// One chunk of raw samples, or more where they do not fit.
fn raw_batch(samples: &Samples, resolution_ms: i64, out: &mut ChunkBatch) -> Result<(), Failure> {
    let mut rest = vec![samples];
    while let Some(samples) = rest.pop() {
        let mut builder = Builder::new(is_gauge(samples));
        let cut = windows(samples, resolution_ms, Keep::Both, |t, windows| {
            let fits = builder.add_counter(t, windows)? && builder.add_sum(t, windows)?;
            builder.count.append(t, windows.count as f64)?;
            Ok(fits)
        })?;
        match cut {
            None => builder.finish(out),
            Some(cut) => {
                let (before, after) = samples.split_at(samples.partition_point(|(t, _)| *t < cut));
                rest.push(after);
                rest.push(before);
            }
        }
    }
    Ok(())
}

/// Makes one chunk of chunks of shorter windows, or more where they do not fit; whether there are custom buckets.
pub(super) fn merge(
    part: &[(EncodedChunk<'_>, AggregateChunk<'_>)],
    resolution_ms: i64,
    out: &mut ChunkBatch,
) -> Result<bool, Failure> {
    let mut samples = Aggregates::default();
    let mut bounds: Option<Bounds> = None;
    let mut custom = false;
    for (_, chunk) in part {
        let mut next = Aggregates::default();
        next.read(chunk)?;
        let of_next = next.counters.first().or(next.sums.first()).map(|(_, h)| bounds_of(h));
        let Some(of_next) = of_next else {
            continue;
        };
        custom |= of_next.is_some();
        if bounds.replace(of_next.clone()).is_some_and(|before| before != of_next) {
            std::mem::take(&mut samples).merge(resolution_ms, out)?;
        }
        samples.append(next);
    }
    samples.merge(resolution_ms, out)?;
    Ok(custom)
}

/// The samples of aggregate chunks.
#[derive(Default)]
struct Aggregates {
    counts: Floats,
    sums: Vec<(i64, FloatHistogram)>,
    counters: Vec<(i64, FloatHistogram)>,
}

impl Aggregates {
    fn read(&mut self, chunk: &AggregateChunk<'_>) -> Result<(), ChunkError> {
        if let Some((encoding, data)) = chunk.get(Aggregate::Count) {
            decode_floats(encoding, data, &mut self.counts)?;
        }
        for (aggregate, to) in [(Aggregate::Sum, &mut self.sums), (Aggregate::Counter, &mut self.counters)] {
            if let Some((encoding, data)) = chunk.get(aggregate) {
                let mut reader = Reader::new(encoding, data)?;
                while reader.advance()? {
                    to.push((reader.t(), reader.histogram()));
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, mut other: Self) {
        self.counts.t.append(&mut other.counts.t);
        self.counts.v.append(&mut other.counts.v);
        self.sums.append(&mut other.sums);
        self.counters.append(&mut other.counters);
    }

    fn merge(&self, resolution_ms: i64, out: &mut ChunkBatch) -> Result<(), Failure> {
        let Self { counts, sums, counters } = self;
        let mut rest = vec![(0..counts.len(), &sums[..], &counters[..])];
        while let Some((counts_of, sums, counters)) = rest.pop() {
            let mut builder = Builder::new(is_gauge(counters));
            let cut_counter =
                windows(counters, resolution_ms, Keep::Counter, |t, w| builder.add_counter(t, w))?;
            let cut_sum = windows(sums, resolution_ms, Keep::Sum, |t, w| builder.add_sum(t, w))?;
            let cut = [cut_counter, cut_sum].into_iter().flatten().min();
            if let Some(cut) = cut {
                let at = |samples: &Samples| samples.partition_point(|(t, _)| *t < cut);
                let (sums, counters) = (sums.split_at(at(sums)), counters.split_at(at(counters)));
                let middle = counts_of.start + counts.t[counts_of.clone()].partition_point(|t| *t < cut);
                rest.push((middle..counts_of.end, sums.1, counters.1));
                rest.push((counts_of.start..middle, sums.0, counters.0));
                continue;
            }
            let (times, values) = (&counts.t[counts_of.clone()], &counts.v[counts_of]);
            let mut i = 0;
            while i < times.len() {
                let end = window_end(times[i], resolution_ms).min(times[times.len() - 1]);
                let length = times[i..].partition_point(|t| *t <= end);
                let count = values[i..i + length].iter().sum::<f64>();
                builder.reaches(end);
                builder.count.append(end, count)?;
                i += length.max(1);
            }
            builder.finish(out);
        }
        Ok(())
    }
}
