//! The message of a native histogram, the same in both versions but for the start timestamp.
//!
//! ```text
//! Histogram   1 count_int  2 count_float  3 sum  4 schema  5 zero_threshold  6 zero_count_int  7 zero_count_float
//!             8/9/10 negative span*, delta*, count*   11/12/13 positive span*, delta*, count*
//!             14 reset_hint  15 timestamp  16 custom value*   2.0: 17 start_timestamp
//! BucketSpan  1 offset  2 length
//! ```

use tsdbctl_model::histogram::{BucketSpan, ConvertedHistogram};
use tsdbctl_model::protobuf::{Key, Message, Writer};
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram};

/// A histogram with its time.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    /// Unix ms.
    pub timestamp_ms: i64,
    /// When counting began, Unix ms, 0 where unknown.
    pub start_timestamp_ms: i64,
    /// The histogram, as it was sent: it may contradict itself.
    pub histogram: ConvertedHistogram,
}

/// The name as upstream's errors have it.
const NAME: &str = "Histogram";

fn span(message: &mut Message<'_>, key: Key, field: &str, into: &mut Vec<BucketSpan>) -> Result<(), String> {
    let mut nested = message.nested(key, field, "BucketSpan")?;
    let mut span = BucketSpan::default();
    while let Some(key) = nested.key()? {
        match key.number {
            1 => span.offset = nested.signed(key, "Offset")? as i32,
            2 => span.length = nested.unsigned(key, "Length")? as u32,
            _ => nested.skip(key)?,
        }
    }
    into.push(span);
    Ok(())
}

/// Decodes one.
pub(crate) fn decode(bytes: &[u8], has_start: bool) -> Result<HistogramSample, (usize, String)> {
    let mut m = Message::new(bytes, NAME);
    decode_fields(&mut m, has_start).map_err(|reason| (m.offset(), reason))
}

fn decode_fields(m: &mut Message<'_>, has_start: bool) -> Result<HistogramSample, String> {
    let mut h = Histogram::default();
    let (mut count, mut zero_count) = (None, None);
    let (mut positive, mut negative, mut custom) = (Vec::new(), Vec::new(), Vec::new());
    let (mut timestamp_ms, mut start_timestamp_ms) = (0, 0);
    while let Some(key) = m.key()? {
        match key.number {
            1 => (h.count, count) = (m.unsigned(key, "CountInt")?, None),
            2 => count = Some(m.double(key, "CountFloat")?),
            3 => h.sum = m.double(key, "Sum")?,
            4 => h.schema = m.signed(key, "Schema")? as i32,
            5 => h.zero_threshold = m.double(key, "ZeroThreshold")?,
            6 => (h.zero_count, zero_count) = (m.unsigned(key, "ZeroCountInt")?, None),
            7 => (h.zero_count, zero_count) = (0, Some(m.double(key, "ZeroCountFloat")?)),
            8 => span(m, key, "NegativeSpans", &mut h.negative_spans)?,
            9 => m.signed_repeated(key, "NegativeDeltas", &mut h.negative_buckets)?,
            10 => m.double_repeated(key, "NegativeCounts", &mut negative)?,
            11 => span(m, key, "PositiveSpans", &mut h.positive_spans)?,
            12 => m.signed_repeated(key, "PositiveDeltas", &mut h.positive_buckets)?,
            13 => m.double_repeated(key, "PositiveCounts", &mut positive)?,
            14 => {
                h.counter_reset_hint = match m.unsigned(key, "ResetHint")? {
                    1 => CounterResetHint::CounterReset,
                    2 => CounterResetHint::NotCounterReset,
                    3 => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                }
            }
            15 => timestamp_ms = m.unsigned(key, "Timestamp")? as i64,
            16 => m.double_repeated(key, "CustomValues", &mut custom)?,
            17 if has_start => start_timestamp_ms = m.unsigned(key, "StartTimestamp")? as i64,
            _ => m.skip(key)?,
        }
    }
    h.custom_values = (!custom.is_empty()).then(|| custom.into());
    let histogram = match count {
        None => ConvertedHistogram::Integer(h),
        Some(count) => ConvertedHistogram::Float(FloatHistogram {
            counter_reset_hint: h.counter_reset_hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: zero_count.unwrap_or(0.0),
            count,
            sum: h.sum,
            positive_spans: h.positive_spans,
            negative_spans: h.negative_spans,
            positive_buckets: positive,
            negative_buckets: negative,
            custom_values: h.custom_values,
        }),
    };
    Ok(HistogramSample { timestamp_ms, start_timestamp_ms, histogram })
}

fn write_spans(w: &mut Writer, number: u32, spans: &[BucketSpan]) {
    for span in spans {
        w.message(number, |w| {
            w.signed(1, i64::from(span.offset));
            w.unsigned(2, u64::from(span.length));
        });
    }
}

/// Writes one as the content of its field.
pub(crate) fn encode(w: &mut Writer, sample: &HistogramSample, has_start: bool) {
    let (bounds, hint) = match &sample.histogram {
        ConvertedHistogram::Integer(h) => {
            w.present_unsigned(1, h.count);
            w.double(3, h.sum);
            w.signed(4, i64::from(h.schema));
            w.double(5, h.zero_threshold);
            w.present_unsigned(6, h.zero_count);
            write_spans(w, 8, &h.negative_spans);
            w.signed_repeated(9, &h.negative_buckets);
            write_spans(w, 11, &h.positive_spans);
            w.signed_repeated(12, &h.positive_buckets);
            (h.custom_bounds(), h.counter_reset_hint)
        }
        ConvertedHistogram::Float(h) => {
            w.present_double(2, h.count);
            w.double(3, h.sum);
            w.signed(4, i64::from(h.schema));
            w.double(5, h.zero_threshold);
            w.present_double(7, h.zero_count);
            write_spans(w, 8, &h.negative_spans);
            w.double_repeated(10, &h.negative_buckets);
            write_spans(w, 11, &h.positive_spans);
            w.double_repeated(13, &h.positive_buckets);
            (h.custom_bounds(), h.counter_reset_hint)
        }
    };
    w.unsigned(14, hint as u64);
    w.unsigned(15, sample.timestamp_ms as u64);
    w.double_repeated(16, bounds);
    if has_start {
        w.unsigned(17, sample.start_timestamp_ms as u64);
    }
}
