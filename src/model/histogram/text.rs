//! Histograms as people read and tests write them.

use std::fmt;

use super::{Bucket, CounterResetHint, FloatHistogram, Histogram};
use crate::float_text::format_g;

/// A count as bucket texts show it.
trait CountText {
    fn text(&self) -> String;
}

impl CountText for f64 {
    fn text(&self) -> String {
        format_g(*self)
    }
}

impl CountText for u64 {
    fn text(&self) -> String {
        self.to_string()
    }
}

fn write_bucket<C: CountText>(f: &mut fmt::Formatter<'_>, b: &Bucket<C>) -> fmt::Result {
    write!(
        f,
        "{}{},{}{}:{}",
        if b.lower_inclusive { '[' } else { '(' },
        format_g(b.lower),
        format_g(b.upper),
        if b.upper_inclusive { ']' } else { ')' },
        b.count.text()
    )
}

/// `[lower,upper]:count`, with round brackets where a bound is not part of the bucket.
impl fmt::Display for Bucket<f64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bucket(f, self)
    }
}

/// `[lower,upper]:count`, with round brackets where a bound is not part of the bucket.
impl fmt::Display for Bucket<u64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_bucket(f, self)
    }
}

/// `{count:…, sum:…, <populated buckets, rising>}`.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        for b in self.negative_reverse_bucket_iter().filter(|b| b.count != 0.0) {
            write!(f, ", {b}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for b in self.positive_bucket_iter().filter(|b| b.count != 0.0) {
            write!(f, ", {b}")?;
        }
        f.write_str("}")
    }
}

/// `{count:…, sum:…, <populated buckets, rising>}`.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", self.count, format_g(self.sum))?;
        let negative: Vec<_> = self.negative_bucket_iter().filter(|b| b.count != 0).collect();
        for b in negative.iter().rev() {
            write!(f, ", {b}")?;
        }
        if self.zero_count != 0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for b in self.positive_bucket_iter().filter(|b| b.count != 0) {
            write!(f, ", {b}")?;
        }
        f.write_str("}")
    }
}

impl FloatHistogram {
    /// The `{{schema:… count:…}}` form of rule tests and test scripts.
    pub fn test_expression(&self) -> String {
        let mut m = self.clone();
        // That form has one run of buckets on each side.
        m.compact(usize::MAX);
        let mut parts = Vec::new();
        if m.schema != 0 {
            parts.push(format!("schema:{}", m.schema));
        }
        for (key, value) in
            [("count", m.count), ("sum", m.sum), ("z_bucket", m.zero_count), ("z_bucket_w", m.zero_threshold)]
        {
            if value != 0.0 {
                parts.push(format!("{key}:{}", format_g(value)));
            }
        }
        if m.uses_custom_buckets() {
            parts.push(format!("custom_values:{}", list(m.custom_bounds())));
        }
        match m.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::CounterReset => parts.push("counter_reset_hint:reset".to_string()),
            CounterResetHint::NotCounterReset => parts.push("counter_reset_hint:not_reset".to_string()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_string()),
        }
        for (key, offset_key, positive) in [("buckets", "offset", true), ("n_buckets", "n_offset", false)] {
            let (spans, buckets) = m.side(positive);
            if let Some(span) = spans.first().filter(|s| s.offset != 0) {
                parts.push(format!("{offset_key}:{}", span.offset));
            }
            if !buckets.is_empty() {
                parts.push(format!("{key}:{}", list(buckets)));
            }
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

impl Histogram {
    /// As [`FloatHistogram::test_expression`].
    pub fn test_expression(&self) -> String {
        self.to_float().test_expression()
    }
}

fn list(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().map(|v| format_g(*v)).collect();
    format!("[{}]", texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};

    fn exponential() -> FloatHistogram {
        FloatHistogram {
            schema: 0,
            count: 1_000_009.5,
            sum: 2.5,
            zero_threshold: 0.25,
            zero_count: 3.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }],
            positive_buckets: vec![1.0, 0.0, 1_000_000.0],
            negative_spans: vec![BucketSpan { offset: 1, length: 2 }],
            negative_buckets: vec![2.0, 3.5],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn populated_buckets_in_rising_order() {
        assert_eq!(
            exponential().to_string(),
            "{count:1.0000095e+06, sum:2.5, [-4,-2):3.5, [-2,-1):2, [-0.25,0.25]:3, (0.5,1]:1, (4,8]:1e+06}"
        );
        let h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 6.0,
            sum: -1.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 2.0, 3.0],
            custom_values: Some([1.0, 2.5].into()),
            ..FloatHistogram::default()
        };
        assert_eq!(h.to_string(), "{count:6, sum:-1, [-Inf,1]:1, (1,2.5]:2, (2.5,+Inf]:3}");
        assert_eq!(FloatHistogram::default().to_string(), "{count:0, sum:0}");
    }

    #[test]
    fn integer_counts_have_no_exponent() {
        let h = Histogram {
            count: 2_000_000,
            negative_spans: vec![BucketSpan { offset: 1, length: 2 }],
            negative_buckets: vec![1_000_000, 0],
            ..Histogram::default()
        };
        assert_eq!(h.to_string(), "{count:2000000, sum:0, [-4,-2):1000000, [-2,-1):1000000}");
    }

    #[test]
    fn test_script_form() {
        assert_eq!(
            exponential().test_expression(),
            "{{count:1.0000095e+06 sum:2.5 z_bucket:3 z_bucket_w:0.25 buckets:[1 0 0 1e+06] \
             n_offset:1 n_buckets:[2 3.5]}}"
        );
        let mut h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            counter_reset_hint: CounterResetHint::NotCounterReset,
            count: 2.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
            positive_buckets: vec![0.0, 2.0],
            custom_values: Some([1.0, 2.5].into()),
            ..FloatHistogram::default()
        };
        assert_eq!(
            h.test_expression(),
            "{{schema:-53 count:2 custom_values:[1 2.5] counter_reset_hint:not_reset offset:1 buckets:[2]}}"
        );
        h.counter_reset_hint = CounterResetHint::CounterReset;
        assert!(h.test_expression().contains("counter_reset_hint:reset"));
        h.counter_reset_hint = CounterResetHint::Gauge;
        assert!(h.test_expression().contains("counter_reset_hint:gauge"));
        assert_eq!(FloatHistogram::default().test_expression(), "{{}}");
    }
}
