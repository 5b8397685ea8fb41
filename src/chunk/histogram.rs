//! Chunks of histograms with integer counts (encodings 2 and, with start timestamps, 5).
//!
//! Header and layout as in `histogram_layout`, then the samples:
//!
//! ```text
//! first:  varbit t | varbit count | varbit zero count | f64 sum | { varbit bucket delta }…
//! others: the same fields as varbit deltas of deltas, the sum as in XOR chunks
//! ```
//! A stale marker has no buckets; where it comes first, the layout is empty.

use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram};

use crate::bit_reader::{BitReader, Ended};
use crate::bit_writer::BitWriter;
use crate::bucket_merge::{Insert, expand, expand_both, insert_deltas};
use crate::encoding::Encoding;
use crate::error::ChunkError;
use crate::histogram_encode::{Fit, GaugeFit, HistogramEncode};
use crate::histogram_layout::{
    COARSENED, CUSTOM_BUCKETS, HEADER, Header, Layout, MAX_SAMPLES_ST, bucket_count, coarsen,
};
use crate::start_timestamp::{StartReader, StartWriter};
use crate::xor::XorValue;

/// A number that is written as delta of its delta.
#[derive(Clone, Copy, Debug, Default)]
struct Double {
    value: i64,
    delta: i64,
}

impl Double {
    fn first(value: i64) -> Self {
        Self { value, delta: 0 }
    }

    #[inline]
    fn write(&mut self, out: &mut BitWriter, value: i64) {
        let delta = value.wrapping_sub(self.value);
        out.varbit_int(delta.wrapping_sub(self.delta));
        *self = Self { value, delta };
    }

    #[inline]
    fn read(&mut self, reader: &mut BitReader<'_>) -> Result<(), Ended> {
        self.delta = self.delta.wrapping_add(reader.varbit_int()?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

/// Writes one chunk of integer histograms.
#[derive(Clone, Debug)]
pub struct HistogramEncoder {
    out: BitWriter,
    header: Header,
    start: Option<StartWriter>,
    layout: Layout,
    t: Double,
    count: Double,
    zero_count: Double,
    sum: XorValue,
    positive: Vec<Double>,
    negative: Vec<Double>,
}

impl HistogramEncoder {
    /// An empty chunk, with start timestamps if `st`.
    pub fn new(st: bool) -> Self {
        Self {
            out: BitWriter::with_header(HEADER),
            header: Header { count: 0, reset: CounterResetHint::Unknown },
            start: st.then(StartWriter::default),
            layout: Layout::default(),
            t: Double::default(),
            count: Double::default(),
            zero_count: Double::default(),
            sum: XorValue::first(0.0),
            positive: Vec::new(),
            negative: Vec::new(),
        }
    }

    /// Appends a sample; all but stale markers must have the buckets of the first one.
    pub fn append(&mut self, t: i64, h: &Histogram, st: i64) -> Result<(), ChunkError> {
        let index = self.header.count;
        if index == if self.start.is_some() { MAX_SAMPLES_ST } else { u16::MAX } {
            return Err(ChunkError::Full);
        }
        let stale = is_stale(h.sum);
        let blank;
        let h = if stale {
            blank = Histogram { sum: h.sum, ..Histogram::default() };
            &blank
        } else {
            h
        };
        if index == 0 {
            check_buckets(h)?;
        } else if !stale {
            mismatch("positive", h.positive_buckets.len(), self.positive.len() as u64)?;
            mismatch("negative", h.negative_buckets.len(), self.negative.len() as u64)?;
        }
        let out = &mut self.out;
        let t_before = self.t.value;
        if index == 0 {
            self.layout = Layout {
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                positive_spans: h.positive_spans.clone(),
                negative_spans: h.negative_spans.clone(),
                custom_values: h.custom_values.clone(),
            };
            self.layout.write(out);
            self.t = Double::first(t);
            self.count = Double::first(h.count as i64);
            self.zero_count = Double::first(h.zero_count as i64);
            self.sum = XorValue::first(h.sum);
            self.positive = h.positive_buckets.iter().copied().map(Double::first).collect();
            self.negative = h.negative_buckets.iter().copied().map(Double::first).collect();
            out.varbit_int(t);
            out.varbit_uint(h.count);
            out.varbit_uint(h.zero_count);
            out.bits(h.sum.to_bits(), 64);
            for delta in h.positive_buckets.iter().chain(&h.negative_buckets) {
                out.varbit_int(*delta);
            }
        } else {
            self.t.write(out, t);
            if stale {
                // Counts of 0, written as if nothing had changed.
                for double in [&mut self.count, &mut self.zero_count] {
                    *double = Double { value: 0, delta: double.value.wrapping_neg() };
                    out.bit(false);
                }
            } else {
                self.count.write(out, h.count as i64);
                self.zero_count.write(out, h.zero_count as i64);
            }
            self.sum.write(out, h.sum);
            for (double, value) in self.positive.iter_mut().zip(&h.positive_buckets) {
                double.write(out, *value);
            }
            for (double, value) in self.negative.iter_mut().zip(&h.negative_buckets) {
                double.write(out, *value);
            }
        }
        if let Some(start) = &mut self.start {
            start.write(out, index, t, t_before, st);
        }
        self.header.count += 1;
        self.write_header();
        Ok(())
    }

    /// The chunk's data so far.
    pub fn data(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Takes the chunk's data out; what was appended last is still known.
    pub fn take(&mut self) -> Vec<u8> {
        self.out.take()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.out.capacity()
            + (self.positive.capacity() + self.negative.capacity()) * size_of::<Double>()
            + self.layout.heap_bytes()
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        usize::from(self.header.count)
    }

    /// What the header says about a counter reset in front of the chunk.
    pub fn counter_reset(&self) -> CounterResetHint {
        self.header.reset
    }

    /// Sets what the header says about a counter reset in front of the chunk.
    pub fn set_counter_reset(&mut self, reset: CounterResetHint) {
        self.header.reset = reset;
        self.write_header();
    }

    /// The encoding of the data.
    pub fn encoding(&self) -> Encoding {
        if self.start.is_some() { Encoding::HistogramSt } else { Encoding::Histogram }
    }

    fn write_header(&mut self) {
        let st = self.start.is_some();
        self.header.write(self.out.bytes_mut(), st);
    }
}

fn mismatch(side: &'static str, buckets: usize, spanned: u64) -> Result<(), ChunkError> {
    if buckets as u64 == spanned {
        Ok(())
    } else {
        Err(ChunkError::BucketMismatch { side, buckets, spanned })
    }
}

fn check_buckets(h: &Histogram) -> Result<(), ChunkError> {
    mismatch("positive", h.positive_buckets.len(), bucket_count(&h.positive_spans))?;
    mismatch("negative", h.negative_buckets.len(), bucket_count(&h.negative_spans))
}

fn absolute(deltas: impl Iterator<Item = i64>) -> impl Iterator<Item = i64> {
    deltas.scan(0i64, |sum, delta| {
        *sum = sum.wrapping_add(delta);
        Some(*sum)
    })
}

impl HistogramEncode for HistogramEncoder {
    type Sample = Histogram;

    fn new(st: bool) -> Self {
        Self::new(st)
    }

    fn append(&mut self, t: i64, h: &Histogram, st: i64) -> Result<(), ChunkError> {
        self.append(t, h, st)
    }

    fn counter_reset(&self) -> CounterResetHint {
        self.header.reset
    }

    fn set_counter_reset(&mut self, reset: CounterResetHint) {
        self.set_counter_reset(reset);
    }

    fn check(h: &Histogram) -> Result<(), ChunkError> {
        if is_stale(h.sum) { Ok(()) } else { check_buckets(h) }
    }

    fn hint(h: &Histogram) -> CounterResetHint {
        h.counter_reset_hint
    }

    fn fit(&self, h: &Histogram) -> Fit {
        if self.header.count > 0 && self.header.reset == CounterResetHint::Gauge {
            return Fit::No(CounterResetHint::NotCounterReset);
        }
        if h.counter_reset_hint == CounterResetHint::CounterReset {
            return Fit::No(CounterResetHint::CounterReset);
        }
        if is_stale(h.sum) {
            return Fit::as_it_is();
        }
        if is_stale(self.sum.value()) {
            return Fit::No(CounterResetHint::Unknown);
        }
        if h.count < self.count.value as u64 {
            return Fit::No(CounterResetHint::CounterReset);
        }
        let layout = &self.layout;
        if h.schema != layout.schema || h.zero_threshold != layout.zero_threshold {
            return Fit::No(CounterResetHint::Unknown);
        }
        if h.schema == CUSTOM_BUCKETS
            && h.custom_values.as_deref().unwrap_or_default()
                != layout.custom_values.as_deref().unwrap_or_default()
        {
            return Fit::No(CounterResetHint::CounterReset);
        }
        if h.zero_count < self.zero_count.value as u64 {
            return Fit::No(CounterResetHint::CounterReset);
        }
        let side = |old: &[Double], old_spans, new: &[i64], new_spans| {
            expand(
                old_spans,
                new_spans,
                absolute(old.iter().map(|double| double.value)),
                absolute(new.iter().copied()),
            )
        };
        let positive = side(&self.positive, &layout.positive_spans, &h.positive_buckets, &h.positive_spans);
        let negative = side(&self.negative, &layout.negative_spans, &h.negative_buckets, &h.negative_spans);
        Fit::of(positive, negative)
    }

    fn header_after(hint: CounterResetHint) -> CounterResetHint {
        hint
    }

    fn header_on_cut(hint: CounterResetHint) -> CounterResetHint {
        hint
    }

    fn fit_gauge(&self, h: &Histogram) -> Option<GaugeFit> {
        if self.header.count > 0 && self.header.reset != CounterResetHint::Gauge {
            return None;
        }
        if is_stale(h.sum) {
            return Some(GaugeFit::default());
        }
        let layout = &self.layout;
        if is_stale(self.sum.value())
            || h.schema != layout.schema
            || h.zero_threshold != layout.zero_threshold
            || h.schema == CUSTOM_BUCKETS
                && h.custom_values.as_deref().unwrap_or_default()
                    != layout.custom_values.as_deref().unwrap_or_default()
        {
            return None;
        }
        Some(GaugeFit::of(
            expand_both(&layout.positive_spans, &h.positive_spans),
            expand_both(&layout.negative_spans, &h.negative_spans),
        ))
    }

    fn spans(&self) -> (&[BucketSpan], &[BucketSpan]) {
        (&self.layout.positive_spans, &self.layout.negative_spans)
    }

    fn sample_spans(h: &mut Histogram) -> (&mut Vec<BucketSpan>, &mut Vec<BucketSpan>) {
        (&mut h.positive_spans, &mut h.negative_spans)
    }

    fn insert(h: &mut Histogram, positive: &[Insert], negative: &[Insert]) {
        if !positive.is_empty() {
            h.positive_buckets = insert_deltas(&h.positive_buckets, positive);
        }
        if !negative.is_empty() {
            h.negative_buckets = insert_deltas(&h.negative_buckets, negative);
        }
    }

    fn decode_own(&self) -> Result<Vec<(i64, i64, Histogram)>, ChunkError> {
        HistogramReader::new(self.encoding(), self.data())?.collect_raw()
    }
}

/// Reads one chunk of integer histograms.
#[derive(Clone, Debug)]
pub struct HistogramReader<'a> {
    reader: BitReader<'a>,
    header: Header,
    start: Option<StartReader>,
    read: usize,
    layout: Layout,
    t: Double,
    count: Double,
    zero_count: Double,
    sum: XorValue,
    positive: Vec<Double>,
    negative: Vec<Double>,
}

impl<'a> HistogramReader<'a> {
    /// Reads `data` in one of the two encodings of integer histograms.
    pub fn new(encoding: Encoding, data: &'a [u8]) -> Result<Self, ChunkError> {
        let st = match encoding {
            Encoding::Histogram => false,
            Encoding::HistogramSt => true,
            _ => return Err(ChunkError::Invalid { sample: 0, reason: "not a chunk of integer histograms" }),
        };
        let (header, start) = Header::read(data, st)?;
        Ok(Self {
            reader: BitReader::new(data, HEADER),
            header,
            start: st.then(|| StartReader::new(start)),
            read: 0,
            layout: Layout::default(),
            t: Double::default(),
            count: Double::default(),
            zero_count: Double::default(),
            sum: XorValue::first(0.0),
            positive: Vec::new(),
            negative: Vec::new(),
        })
    }

    /// What the header says about a counter reset in front of the chunk.
    pub fn counter_reset(&self) -> CounterResetHint {
        self.header.reset
    }

    /// Number of samples by the header.
    pub fn samples(&self) -> usize {
        usize::from(self.header.count)
    }

    /// Goes on to the next sample; false after the last one.
    pub fn advance(&mut self) -> Result<bool, ChunkError> {
        let (index, count) = (self.read, self.samples());
        if index == count {
            return Ok(false);
        }
        let before = self.t.value;
        if index == 0 {
            let (layout, positive, negative) = Layout::read(&mut self.reader, count, 1)?;
            self.layout = layout;
            self.positive = vec![Double::default(); positive];
            self.negative = vec![Double::default(); negative];
            self.read_first().map_err(|_| ChunkError::Truncated { sample: 0, count })?;
        } else {
            self.read_next().map_err(|_| ChunkError::Truncated { sample: index, count })?;
            if self.t.value <= before {
                return Err(ChunkError::NotRising { sample: index });
            }
        }
        if let Some(start) = &mut self.start {
            start
                .read(&mut self.reader, index, self.t.value, before)
                .map_err(|_| ChunkError::Truncated { sample: index, count })?;
        }
        self.read += 1;
        Ok(true)
    }

    fn read_first(&mut self) -> Result<(), Ended> {
        let reader = &mut self.reader;
        self.t = Double::first(reader.varbit_int()?);
        self.count = Double::first(reader.varbit_uint()? as i64);
        self.zero_count = Double::first(reader.varbit_uint()? as i64);
        self.sum = XorValue::first_read(reader.bits(64)?);
        for double in self.positive.iter_mut().chain(&mut self.negative) {
            *double = Double::first(reader.varbit_int()?);
        }
        Ok(())
    }

    fn read_next(&mut self) -> Result<(), Ended> {
        let reader = &mut self.reader;
        self.t.read(reader)?;
        self.count.read(reader)?;
        self.zero_count.read(reader)?;
        self.sum.read(reader)?;
        if !is_stale(self.sum.value()) {
            for side in [&mut self.positive, &mut self.negative] {
                for double in side {
                    double.read(reader)?;
                }
            }
        }
        Ok(())
    }

    /// Time of the current sample.
    pub fn t(&self) -> i64 {
        self.t.value
    }

    /// Start timestamp of the current sample, 0 for none.
    pub fn st(&self) -> i64 {
        self.start.as_ref().map_or(0, |start| start.st)
    }

    /// Whether the current sample is a stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum.value())
    }

    fn hint(&self) -> CounterResetHint {
        self.header.hint(self.read.saturating_sub(1))
    }

    /// The current sample as it is stored.
    pub fn histogram(&self) -> Histogram {
        let mut h = self.raw();
        if self.layout.is_too_fine() && !is_stale(h.sum) {
            for (spans, buckets) in [
                (&mut h.positive_spans, &mut h.positive_buckets),
                (&mut h.negative_spans, &mut h.negative_buckets),
            ] {
                let counts: Vec<i64> = absolute(buckets.iter().copied()).collect();
                let (coarse, counts) = coarsen(spans, &counts, h.schema, i64::wrapping_add);
                *spans = coarse;
                let before = [0].into_iter().chain(counts.iter().copied());
                *buckets = counts.iter().zip(before).map(|(c, before)| c.wrapping_sub(before)).collect();
            }
            h.schema = COARSENED;
        }
        h
    }

    fn raw(&self) -> Histogram {
        let sum = self.sum.value();
        if is_stale(sum) {
            return Histogram { sum, ..Histogram::default() };
        }
        Histogram {
            counter_reset_hint: self.hint(),
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.value as u64,
            count: self.count.value as u64,
            sum,
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_buckets: self.positive.iter().map(|double| double.value).collect(),
            negative_buckets: self.negative.iter().map(|double| double.value).collect(),
            custom_values: self.layout.custom_values.clone(),
        }
    }

    /// The current sample with float counts.
    pub fn float_histogram(&self) -> FloatHistogram {
        let sum = self.sum.value();
        if is_stale(sum) {
            return FloatHistogram { sum, ..FloatHistogram::default() };
        }
        let counts =
            |side: &[Double]| absolute(side.iter().map(|double| double.value)).map(|c| c as f64).collect();
        let mut h = FloatHistogram {
            counter_reset_hint: self.hint(),
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.value as u64 as f64,
            count: self.count.value as u64 as f64,
            sum,
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_buckets: counts(&self.positive),
            negative_buckets: counts(&self.negative),
            custom_values: self.layout.custom_values.clone(),
        };
        if self.layout.is_too_fine() {
            coarsen_floats(&mut h);
        }
        h
    }

    fn collect_raw(mut self) -> Result<Vec<(i64, i64, Histogram)>, ChunkError> {
        let mut out = Vec::new();
        while self.advance()? {
            out.push((self.t(), self.st(), self.raw()));
        }
        Ok(out)
    }
}

/// Makes a histogram of too fine a schema coarser.
pub(crate) fn coarsen_floats(h: &mut FloatHistogram) {
    for (spans, buckets) in
        [(&mut h.positive_spans, &mut h.positive_buckets), (&mut h.negative_spans, &mut h.negative_buckets)]
    {
        (*spans, *buckets) = coarsen(spans, buckets, h.schema, |a, b| a + b);
    }
    h.schema = COARSENED;
}
