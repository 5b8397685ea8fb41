//! Chunks of histograms with float counts (encodings 3 and, with start timestamps, 6).
//!
//! Header and layout as in `histogram_layout`, then the samples:
//!
//! ```text
//! first:  varbit t | f64 count | f64 zero count | f64 sum | { f64 bucket }…
//! others: t as varbit delta of the delta, all else as in XOR chunks, each with a window of its own
//! ```
//! A stale marker has no buckets; where it comes first, the layout is empty.

use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{CounterResetHint, FloatHistogram};

use crate::bit_reader::{BitReader, Ended};
use crate::bit_writer::BitWriter;
use crate::bucket_merge::{Insert, expand, expand_both, insert_counts};
use crate::encoding::Encoding;
use crate::error::ChunkError;
use crate::histogram::coarsen_floats;
use crate::histogram_encode::{Appended, Fit, GaugeFit, HistogramEncode, append_next};
use crate::histogram_layout::{CUSTOM_BUCKETS, HEADER, Header, Layout, MAX_SAMPLES_ST, bucket_count};
use crate::start_timestamp::{StartReader, StartWriter};
use crate::xor::XorValue;

/// Writes one chunk of float histograms.
#[derive(Clone, Debug)]
pub struct FloatHistogramEncoder {
    out: BitWriter,
    header: Header,
    start: Option<StartWriter>,
    layout: Layout,
    t: i64,
    step: i64,
    count: XorValue,
    zero_count: XorValue,
    sum: XorValue,
    positive: Vec<XorValue>,
    negative: Vec<XorValue>,
}

impl FloatHistogramEncoder {
    /// An empty chunk, with start timestamps if `st`.
    pub fn new(st: bool) -> Self {
        Self {
            out: BitWriter::with_header(HEADER),
            header: Header { count: 0, reset: CounterResetHint::Unknown },
            start: st.then(StartWriter::default),
            layout: Layout::default(),
            t: 0,
            step: 0,
            count: XorValue::first(0.0),
            zero_count: XorValue::first(0.0),
            sum: XorValue::first(0.0),
            positive: Vec::new(),
            negative: Vec::new(),
        }
    }

    /// Appends a sample; all but stale markers must have the buckets of the first one.
    pub fn append(&mut self, t: i64, h: &FloatHistogram, st: i64) -> Result<(), ChunkError> {
        let index = self.header.count;
        if index == if self.start.is_some() { MAX_SAMPLES_ST } else { u16::MAX } {
            return Err(ChunkError::Full);
        }
        let stale = is_stale(h.sum);
        let blank;
        let h = if stale {
            blank = FloatHistogram { sum: h.sum, ..FloatHistogram::default() };
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
        let t_before = self.t;
        if index == 0 {
            self.layout = Layout {
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                positive_spans: h.positive_spans.clone(),
                negative_spans: h.negative_spans.clone(),
                custom_values: h.custom_values.clone(),
            };
            self.layout.write(out);
            self.count = XorValue::first(h.count);
            self.zero_count = XorValue::first(h.zero_count);
            self.sum = XorValue::first(h.sum);
            self.positive = h.positive_buckets.iter().copied().map(XorValue::first).collect();
            self.negative = h.negative_buckets.iter().copied().map(XorValue::first).collect();
            out.varbit_int(t);
            for value in
                [h.count, h.zero_count, h.sum].iter().chain(&h.positive_buckets).chain(&h.negative_buckets)
            {
                out.bits(value.to_bits(), 64);
            }
        } else {
            let step = t.wrapping_sub(self.t);
            out.varbit_int(step.wrapping_sub(self.step));
            self.step = step;
            self.count.write(out, h.count);
            self.zero_count.write(out, h.zero_count);
            self.sum.write(out, h.sum);
            for (xor, value) in self.positive.iter_mut().zip(&h.positive_buckets) {
                xor.write(out, *value);
            }
            for (xor, value) in self.negative.iter_mut().zip(&h.negative_buckets) {
                xor.write(out, *value);
            }
        }
        self.t = t;
        if let Some(start) = &mut self.start {
            start.write(out, index, t, t_before, st);
        }
        self.header.count += 1;
        self.write_header();
        Ok(())
    }

    /// Appends a sample as a server does, which inserts empty buckets where that is enough; false if it needs a new
    /// chunk, and this one is as it was then. A chunk begun this way says of itself that there is no reset in front.
    pub fn append_fitting(&mut self, t: i64, h: &FloatHistogram) -> Result<bool, ChunkError> {
        if self.header.count == 0 {
            self.append(t, h, 0)?;
            self.set_counter_reset(match h.counter_reset_hint {
                CounterResetHint::Unknown => CounterResetHint::NotCounterReset,
                hint => hint,
            });
            return Ok(true);
        }
        let with_st = self.start.is_some();
        Ok(matches!(append_next(self, with_st, t, h, 0)?, Appended::Here))
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
            + (self.positive.capacity() + self.negative.capacity()) * size_of::<XorValue>()
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
        if self.start.is_some() { Encoding::FloatHistogramSt } else { Encoding::FloatHistogram }
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

fn check_buckets(h: &FloatHistogram) -> Result<(), ChunkError> {
    mismatch("positive", h.positive_buckets.len(), bucket_count(&h.positive_spans))?;
    mismatch("negative", h.negative_buckets.len(), bucket_count(&h.negative_spans))
}

impl HistogramEncode for FloatHistogramEncoder {
    type Sample = FloatHistogram;

    fn new(st: bool) -> Self {
        Self::new(st)
    }

    fn append(&mut self, t: i64, h: &FloatHistogram, st: i64) -> Result<(), ChunkError> {
        self.append(t, h, st)
    }

    fn counter_reset(&self) -> CounterResetHint {
        self.header.reset
    }

    fn set_counter_reset(&mut self, reset: CounterResetHint) {
        self.set_counter_reset(reset);
    }

    fn check(h: &FloatHistogram) -> Result<(), ChunkError> {
        if is_stale(h.sum) { Ok(()) } else { check_buckets(h) }
    }

    fn hint(h: &FloatHistogram) -> CounterResetHint {
        h.counter_reset_hint
    }

    fn fit(&self, h: &FloatHistogram) -> Fit {
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
        if h.count < self.count.value() {
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
        if h.zero_count < self.zero_count.value() {
            return Fit::No(CounterResetHint::CounterReset);
        }
        let side = |old: &[XorValue], old_spans, new: &[f64], new_spans| {
            expand(old_spans, new_spans, old.iter().map(|xor| xor.value()), new.iter().copied())
        };
        let positive = side(&self.positive, &layout.positive_spans, &h.positive_buckets, &h.positive_spans);
        let negative = side(&self.negative, &layout.negative_spans, &h.negative_buckets, &h.negative_spans);
        Fit::of(positive, negative)
    }

    fn header_after(hint: CounterResetHint) -> CounterResetHint {
        // Float histograms only know whether there was a reset.
        match hint {
            CounterResetHint::CounterReset => hint,
            _ => CounterResetHint::NotCounterReset,
        }
    }

    fn header_on_cut(hint: CounterResetHint) -> CounterResetHint {
        match hint {
            CounterResetHint::CounterReset => hint,
            _ => CounterResetHint::Unknown,
        }
    }

    fn fit_gauge(&self, h: &FloatHistogram) -> Option<GaugeFit> {
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

    fn sample_spans(h: &mut FloatHistogram) -> (&mut Vec<BucketSpan>, &mut Vec<BucketSpan>) {
        (&mut h.positive_spans, &mut h.negative_spans)
    }

    fn insert(h: &mut FloatHistogram, positive: &[Insert], negative: &[Insert]) {
        if !positive.is_empty() {
            h.positive_buckets = insert_counts(&h.positive_buckets, positive);
        }
        if !negative.is_empty() {
            h.negative_buckets = insert_counts(&h.negative_buckets, negative);
        }
    }

    fn decode_own(&self) -> Result<Vec<(i64, i64, FloatHistogram)>, ChunkError> {
        let mut reader = FloatHistogramReader::new(self.encoding(), self.data())?;
        let mut out = Vec::new();
        while reader.advance()? {
            out.push((reader.t(), reader.st(), reader.raw()));
        }
        Ok(out)
    }
}

/// Reads one chunk of float histograms.
#[derive(Clone, Debug)]
pub struct FloatHistogramReader<'a> {
    reader: BitReader<'a>,
    header: Header,
    start: Option<StartReader>,
    read: usize,
    layout: Layout,
    t: i64,
    step: i64,
    count: XorValue,
    zero_count: XorValue,
    sum: XorValue,
    positive: Vec<XorValue>,
    negative: Vec<XorValue>,
}

impl<'a> FloatHistogramReader<'a> {
    /// Reads `data` in one of the two encodings of float histograms.
    pub fn new(encoding: Encoding, data: &'a [u8]) -> Result<Self, ChunkError> {
        let st = match encoding {
            Encoding::FloatHistogram => false,
            Encoding::FloatHistogramSt => true,
            _ => return Err(ChunkError::Invalid { sample: 0, reason: "not a chunk of float histograms" }),
        };
        let (header, start) = Header::read(data, st)?;
        Ok(Self {
            reader: BitReader::new(data, HEADER),
            header,
            start: st.then(|| StartReader::new(start)),
            read: 0,
            layout: Layout::default(),
            t: 0,
            step: 0,
            count: XorValue::first(0.0),
            zero_count: XorValue::first(0.0),
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
        let before = self.t;
        if index == 0 {
            let (layout, positive, negative) = Layout::read(&mut self.reader, count, 64)?;
            self.layout = layout;
            self.positive = vec![XorValue::first(0.0); positive];
            self.negative = vec![XorValue::first(0.0); negative];
            self.read_first().map_err(|_| ChunkError::Truncated { sample: 0, count })?;
        } else {
            self.read_next().map_err(|_| ChunkError::Truncated { sample: index, count })?;
            if self.t <= before {
                return Err(ChunkError::NotRising { sample: index });
            }
        }
        if let Some(start) = &mut self.start {
            start
                .read(&mut self.reader, index, self.t, before)
                .map_err(|_| ChunkError::Truncated { sample: index, count })?;
        }
        self.read += 1;
        Ok(true)
    }

    fn read_first(&mut self) -> Result<(), Ended> {
        let reader = &mut self.reader;
        self.t = reader.varbit_int()?;
        for xor in [&mut self.count, &mut self.zero_count, &mut self.sum]
            .into_iter()
            .chain(&mut self.positive)
            .chain(&mut self.negative)
        {
            *xor = XorValue::first_read(reader.bits(64)?);
        }
        Ok(())
    }

    fn read_next(&mut self) -> Result<(), Ended> {
        let reader = &mut self.reader;
        self.step = self.step.wrapping_add(reader.varbit_int()?);
        self.t = self.t.wrapping_add(self.step);
        self.count.read(reader)?;
        self.zero_count.read(reader)?;
        self.sum.read(reader)?;
        if !is_stale(self.sum.value()) {
            for side in [&mut self.positive, &mut self.negative] {
                for xor in side {
                    xor.read(reader)?;
                }
            }
        }
        Ok(())
    }

    /// Time of the current sample.
    pub fn t(&self) -> i64 {
        self.t
    }

    /// Start timestamp of the current sample, 0 for none.
    pub fn st(&self) -> i64 {
        self.start.as_ref().map_or(0, |start| start.st)
    }

    /// Whether the current sample is a stale marker.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum.value())
    }

    /// The current sample.
    pub fn float_histogram(&self) -> FloatHistogram {
        let mut h = self.raw();
        if self.layout.is_too_fine() && !is_stale(h.sum) {
            coarsen_floats(&mut h);
        }
        h
    }

    fn raw(&self) -> FloatHistogram {
        let sum = self.sum.value();
        if is_stale(sum) {
            return FloatHistogram { sum, ..FloatHistogram::default() };
        }
        FloatHistogram {
            counter_reset_hint: self.header.hint(self.read.saturating_sub(1)),
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.value(),
            count: self.count.value(),
            sum,
            positive_spans: self.layout.positive_spans.clone(),
            negative_spans: self.layout.negative_spans.clone(),
            positive_buckets: self.positive.iter().map(|xor| xor.value()).collect(),
            negative_buckets: self.negative.iter().map(|xor| xor.value()).collect(),
            custom_values: self.layout.custom_values.clone(),
        }
    }
}
