//! The messages of `io.prometheus.client`, decoded into buffers that are used again and again.
//!
//! ```text
//! MetricFamily  1 name  2 help  3 type  4 metric*  5 unit
//! Metric        1 label*  2 gauge  3 counter  4 summary  5 untyped  6 timestamp_ms  7 histogram
//! Counter       1 value  2 exemplar  3 start_timestamp          Gauge, Untyped  1 value
//! Summary       1 sample_count  2 sample_sum  3 quantile* (1 quantile, 2 value)  4 start_timestamp
//! Histogram     1 sample_count  2 sample_sum  3 bucket*  4 sample_count_float  5 schema  6 zero_threshold
//!               7 zero_count  8 zero_count_float  9/10/11 negative span*, delta*, count*
//!               12/13/14 positive span*, delta*, count*  15 start_timestamp  16 exemplar*
//! Bucket        1 cumulative_count  2 upper_bound  3 exemplar  4 cumulative_count_float
//! BucketSpan    1 offset  2 length      Exemplar  1 label*  2 value  3 timestamp (1 seconds, 2 nanos)
//! LabelPair     1 name  2 value
//! ```

use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::protobuf::Message;

/// A metric family without its metrics, which are decoded one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family<'b> {
    pub(crate) name: &'b [u8],
    pub(crate) help: &'b [u8],
    pub(crate) unit: &'b [u8],
    pub(crate) kind: u64,
    pub(crate) metrics: Vec<&'b [u8]>,
}

/// An exemplar; its labels are read when it is handed out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exemplar<'b> {
    bytes: &'b [u8],
    pub(crate) value: f64,
    pub(crate) timestamp_ms: Option<i64>,
}

/// A classic bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket<'b> {
    pub(crate) count: f64,
    pub(crate) upper_bound: f64,
    pub(crate) exemplar: Option<Exemplar<'b>>,
}

/// One side of a native histogram.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) spans: Vec<BucketSpan>,
    pub(crate) deltas: Vec<i64>,
    pub(crate) counts: Vec<f64>,
}

/// A histogram, classic, native or both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram<'b> {
    pub(crate) count: u64,
    pub(crate) count_float: f64,
    pub(crate) sum: f64,
    pub(crate) buckets: Vec<Bucket<'b>>,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero_count: u64,
    pub(crate) zero_count_float: f64,
    pub(crate) positive: Side,
    pub(crate) negative: Side,
    pub(crate) exemplars: Vec<Exemplar<'b>>,
}

/// One metric of any type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metric<'b> {
    pub(crate) labels: Vec<&'b [u8]>,
    pub(crate) timestamp_ms: i64,
    pub(crate) gauge: f64,
    pub(crate) counter: f64,
    pub(crate) untyped: f64,
    pub(crate) counter_exemplar: Option<Exemplar<'b>>,
    pub(crate) counter_start_ms: Option<i64>,
    pub(crate) summary_count: u64,
    pub(crate) summary_sum: f64,
    pub(crate) quantiles: Vec<(f64, f64)>,
    pub(crate) summary_start_ms: Option<i64>,
    pub(crate) histogram: Histogram<'b>,
    pub(crate) histogram_start_ms: Option<i64>,
}

impl<'b> Family<'b> {
    pub(crate) fn decode(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        let mut metrics = std::mem::take(&mut self.metrics);
        metrics.clear();
        *self = Self { metrics, ..Self::default() };
        let mut m = Message::new(bytes, "MetricFamily");
        while let Some(key) = m.key()? {
            match key.number {
                1 => self.name = m.bytes(key, "Name")?,
                2 => self.help = m.bytes(key, "Help")?,
                3 => self.kind = m.unsigned(key, "Type")?,
                4 => self.metrics.push(m.bytes(key, "Metric")?),
                5 => self.unit = m.bytes(key, "Unit")?,
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }
}

impl<'b> Metric<'b> {
    pub(crate) fn decode(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        self.reset();
        let mut m = Message::new(bytes, "Metric");
        while let Some(key) = m.key()? {
            match key.number {
                1 => self.labels.push(m.bytes(key, "Label")?),
                2 => value(m.bytes(key, "Gauge")?, "Gauge", &mut self.gauge)?,
                3 => self.decode_counter(m.bytes(key, "Counter")?)?,
                4 => self.decode_summary(m.bytes(key, "Summary")?)?,
                5 => value(m.bytes(key, "Untyped")?, "Untyped", &mut self.untyped)?,
                6 => self.timestamp_ms = m.unsigned(key, "TimestampMs")? as i64,
                7 => self.decode_histogram(m.bytes(key, "Histogram")?)?,
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.labels.clear();
        self.quantiles.clear();
        (self.timestamp_ms, self.gauge, self.counter, self.untyped) = (0, 0.0, 0.0, 0.0);
        (self.counter_exemplar, self.counter_start_ms) = (None, None);
        (self.summary_count, self.summary_sum, self.summary_start_ms) = (0, 0.0, None);
        self.histogram_start_ms = None;
        let h = &mut self.histogram;
        h.buckets.clear();
        h.exemplars.clear();
        for side in [&mut h.positive, &mut h.negative] {
            side.spans.clear();
            side.deltas.clear();
            side.counts.clear();
        }
        (h.count, h.count_float, h.sum, h.schema) = (0, 0.0, 0.0, 0);
        (h.zero_threshold, h.zero_count, h.zero_count_float) = (0.0, 0, 0.0);
    }

    fn decode_counter(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        let mut m = Message::new(bytes, "Counter");
        while let Some(key) = m.key()? {
            match key.number {
                1 => self.counter = m.double(key, "Value")?,
                2 => self.counter_exemplar = Some(exemplar(m.bytes(key, "Exemplar")?)?),
                3 => self.counter_start_ms = Some(timestamp(m.bytes(key, "StartTimestamp")?)?),
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }

    fn decode_summary(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        let mut m = Message::new(bytes, "Summary");
        while let Some(key) = m.key()? {
            match key.number {
                1 => self.summary_count = m.unsigned(key, "SampleCount")?,
                2 => self.summary_sum = m.double(key, "SampleSum")?,
                3 => {
                    let mut q = Message::new(m.bytes(key, "Quantile")?, "Quantile");
                    let mut pair = (0.0, 0.0);
                    while let Some(key) = q.key()? {
                        match key.number {
                            1 => pair.0 = q.double(key, "Quantile")?,
                            2 => pair.1 = q.double(key, "Value")?,
                            _ => q.skip(key)?,
                        }
                    }
                    self.quantiles.push(pair);
                }
                4 => self.summary_start_ms = Some(timestamp(m.bytes(key, "StartTimestamp")?)?),
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }

    fn decode_histogram(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        let h = &mut self.histogram;
        let mut m = Message::new(bytes, "Histogram");
        while let Some(key) = m.key()? {
            match key.number {
                1 => h.count = m.unsigned(key, "SampleCount")?,
                2 => h.sum = m.double(key, "SampleSum")?,
                3 => h.buckets.push(bucket(m.bytes(key, "Bucket")?)?),
                4 => h.count_float = m.double(key, "SampleCountFloat")?,
                5 => h.schema = m.signed(key, "Schema")? as i32,
                6 => h.zero_threshold = m.double(key, "ZeroThreshold")?,
                7 => h.zero_count = m.unsigned(key, "ZeroCount")?,
                8 => h.zero_count_float = m.double(key, "ZeroCountFloat")?,
                9 => h.negative.spans.push(span(m.bytes(key, "NegativeSpan")?)?),
                10 => m.signed_repeated(key, "NegativeDelta", &mut h.negative.deltas)?,
                11 => m.double_repeated(key, "NegativeCount", &mut h.negative.counts)?,
                12 => h.positive.spans.push(span(m.bytes(key, "PositiveSpan")?)?),
                13 => m.signed_repeated(key, "PositiveDelta", &mut h.positive.deltas)?,
                14 => m.double_repeated(key, "PositiveCount", &mut h.positive.counts)?,
                15 => self.histogram_start_ms = Some(timestamp(m.bytes(key, "StartTimestamp")?)?),
                16 => h.exemplars.push(exemplar(m.bytes(key, "Exemplars")?)?),
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }
}

impl Histogram<'_> {
    /// Whether anything of it is native.
    pub(crate) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    /// Whether its native part counts in floats.
    pub(crate) fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_count_float > 0.0
    }

    /// The number of observations, as a float if it is given as one.
    pub(crate) fn observations(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }

    /// Whether the spans ask for as many buckets as there are.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, side) in [("positive", &self.positive), ("negative", &self.negative)] {
            let wanted: u64 = side.spans.iter().map(|s| u64::from(s.length)).sum();
            let have = if self.is_float() { side.counts.len() } else { side.deltas.len() };
            if wanted != have as u64 {
                return Err(format!("{name} side: spans require {wanted} buckets, have {have}"));
            }
        }
        Ok(())
    }
}

impl<'b> Exemplar<'b> {
    /// The labels, appended to `pairs`.
    pub(crate) fn labels(&self, pairs: &mut Vec<(&'b str, &'b str)>) -> Result<(), String> {
        let mut m = Message::new(self.bytes, "Exemplar");
        while let Some(key) = m.key()? {
            match key.number {
                1 => pairs.push(label(m.bytes(key, "Label")?)?),
                _ => m.skip(key)?,
            }
        }
        Ok(())
    }
}

fn value(bytes: &[u8], name: &'static str, into: &mut f64) -> Result<(), String> {
    let mut m = Message::new(bytes, name);
    while let Some(key) = m.key()? {
        match key.number {
            1 => *into = m.double(key, "Value")?,
            _ => m.skip(key)?,
        }
    }
    Ok(())
}

/// A timestamp in milliseconds.
fn timestamp(bytes: &[u8]) -> Result<i64, String> {
    let mut m = Message::new(bytes, "Timestamp");
    let (mut seconds, mut nanos) = (0i64, 0i32);
    while let Some(key) = m.key()? {
        match key.number {
            1 => seconds = m.unsigned(key, "Seconds")? as i64,
            2 => nanos = m.unsigned(key, "Nanos")? as i32,
            _ => m.skip(key)?,
        }
    }
    Ok(seconds.wrapping_mul(1000).wrapping_add(i64::from(nanos / 1_000_000)))
}

fn exemplar(bytes: &[u8]) -> Result<Exemplar<'_>, String> {
    let mut found = Exemplar { bytes, ..Exemplar::default() };
    let mut m = Message::new(bytes, "Exemplar");
    while let Some(key) = m.key()? {
        match key.number {
            1 => drop(label(m.bytes(key, "Label")?)?),
            2 => found.value = m.double(key, "Value")?,
            3 => found.timestamp_ms = Some(timestamp(m.bytes(key, "Timestamp")?)?),
            _ => m.skip(key)?,
        }
    }
    Ok(found)
}

fn bucket(bytes: &[u8]) -> Result<Bucket<'_>, String> {
    let mut found = Bucket::default();
    let (mut whole, mut float) = (0, 0.0);
    let mut m = Message::new(bytes, "Bucket");
    while let Some(key) = m.key()? {
        match key.number {
            1 => whole = m.unsigned(key, "CumulativeCount")?,
            2 => found.upper_bound = m.double(key, "UpperBound")?,
            3 => found.exemplar = Some(exemplar(m.bytes(key, "Exemplar")?)?),
            4 => float = m.double(key, "CumulativeCountFloat")?,
            _ => m.skip(key)?,
        }
    }
    found.count = if float == 0.0 { whole as f64 } else { float };
    Ok(found)
}

fn span(bytes: &[u8]) -> Result<BucketSpan, String> {
    let mut found = BucketSpan { offset: 0, length: 0 };
    let mut m = Message::new(bytes, "BucketSpan");
    while let Some(key) = m.key()? {
        match key.number {
            1 => found.offset = m.signed(key, "Offset")? as i32,
            2 => found.length = m.unsigned(key, "Length")? as u32,
            _ => m.skip(key)?,
        }
    }
    Ok(found)
}

/// A label's name and value.
pub(crate) fn label(bytes: &[u8]) -> Result<(&str, &str), String> {
    let (mut name, mut text) = ("", "");
    let mut m = Message::new(bytes, "LabelPair");
    while let Some(key) = m.key()? {
        match key.number {
            1 => {
                let raw = m.bytes(key, "Name")?;
                name = match std::str::from_utf8(raw) {
                    Ok(name) if !name.is_empty() => name,
                    _ => return Err(format!("invalid label name: {}", String::from_utf8_lossy(raw))),
                };
            }
            2 => {
                let raw = m.bytes(key, "Value")?;
                text = std::str::from_utf8(raw)
                    .map_err(|_| format!("invalid label value: {}", String::from_utf8_lossy(raw)))?;
            }
            _ => m.skip(key)?,
        }
    }
    Ok((name, text))
}
