//! Whether a counter reset lies between two histograms.

use super::bucket::{Bucket, Counts};
use super::schema::custom_bounds_match;
use super::{CounterResetHint, FloatHistogram};

impl FloatHistogram {
    /// Whether a counter reset happened between `previous` and this histogram: by the hint where there is one,
    /// otherwise if any count fell, or a populated bucket is gone, or the layout became finer.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::CounterReset => return true,
            CounterResetHint::NotCounterReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if !custom_bounds_match(self.custom_bounds(), previous.custom_bounds()) {
                return self.shared_bound_fell(previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero_count, threshold, _) =
            previous.zero_count_for_larger_threshold(self.zero_threshold, None);
        if threshold != self.zero_threshold || self.zero_count < previous_zero_count {
            return true;
        }
        self.side_fell(previous, true) || self.side_fell(previous, false)
    }

    fn side_fell(&self, previous: &Self, positive: bool) -> bool {
        let (spans, buckets) = self.side(positive);
        let (previous_spans, previous_buckets) = previous.side(positive);
        if previous_buckets.is_empty() {
            return false;
        }
        if self.schema == previous.schema
            && self.zero_threshold == previous.zero_threshold
            && self.zero_threshold == 0.0
            && spans == previous_spans
            && buckets.len() == previous_buckets.len()
        {
            return buckets.iter().zip(previous_buckets).any(|(now, before)| now < before);
        }
        fell(
            self.counts(positive, self.zero_threshold, self.schema),
            previous.counts(positive, self.zero_threshold, self.schema),
        )
    }

    /// As [`Self::detect_reset`] for custom bounds that differ: compares what lies up to each bound both share.
    fn shared_bound_fell(&self, previous: &Self) -> bool {
        let (bounds, previous_bounds) = (self.custom_bounds(), previous.custom_bounds());
        let mut now = self.positive_bucket_iter().peekable();
        let mut before = previous.positive_bucket_iter().peekable();
        let (mut i, mut j) = (0, 0);
        while i <= bounds.len() && j <= previous_bounds.len() {
            let bound = bounds.get(i).copied().unwrap_or(f64::INFINITY);
            let previous_bound = previous_bounds.get(j).copied().unwrap_or(f64::INFINITY);
            if bound == previous_bound {
                if up_to(&mut now, bound) < up_to(&mut before, bound) {
                    return true;
                }
                i += 1;
                j += 1;
            } else if bound < previous_bound {
                i += 1;
            } else {
                j += 1;
            }
        }
        false
    }
}

fn up_to(buckets: &mut std::iter::Peekable<impl Iterator<Item = Bucket>>, bound: f64) -> f64 {
    let mut sum = 0.0;
    while let Some(b) = buckets.next_if(|b| b.upper <= bound) {
        sum += b.count;
    }
    sum
}

fn fell(mut now: Counts<'_>, before: Counts<'_>) -> bool {
    let mut current = now.next();
    for (index, count) in before {
        while current.is_some_and(|(i, _)| i < index) {
            current = now.next();
        }
        match current {
            Some((i, c)) if i == index => {
                if c < count {
                    return true;
                }
            }
            _ => {
                if count != 0.0 {
                    return true;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};

    fn exponential(schema: i32, zero: (f64, f64), offset: i32, buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: 100.0,
            positive_spans: vec![BucketSpan { offset, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            custom_values: Some(bounds.into()),
            ..exponential(CUSTOM_BUCKETS_SCHEMA, (0.0, 0.0), 0, buckets)
        }
    }

    #[test]
    fn layouts_and_counts() {
        let e = exponential;
        #[rustfmt::skip]
        let cases = [
            ("same", e(0, (0.0, 0.0), 1, &[1.0, 2.0]), e(0, (0.0, 0.0), 1, &[1.0, 2.0]), false),
            ("bucket fell", e(0, (0.0, 0.0), 1, &[1.0, 2.0]), e(0, (0.0, 0.0), 1, &[2.0, 2.0]), true),
            ("populated bucket gone", e(0, (0.0, 0.0), 2, &[2.0]), e(0, (0.0, 0.0), 1, &[1.0, 2.0]), true),
            ("empty bucket gone", e(0, (0.0, 0.0), 2, &[2.0]), e(0, (0.0, 0.0), 1, &[0.0, 2.0]), false),
            ("new bucket", e(0, (0.0, 0.0), 1, &[1.0, 2.0]), e(0, (0.0, 0.0), 2, &[2.0]), false),
            ("all gone", e(0, (0.0, 0.0), 1, &[]), e(0, (0.0, 0.0), 2, &[2.0]), true),
            ("finer", e(1, (0.0, 0.0), 1, &[9.0, 9.0]), e(0, (0.0, 0.0), 1, &[1.0]), true),
            ("coarser, merged fits", e(0, (0.0, 0.0), 1, &[3.0]), e(1, (0.0, 0.0), 1, &[1.0, 2.0]), false),
            ("coarser, merged fell", e(0, (0.0, 0.0), 1, &[2.0]), e(1, (0.0, 0.0), 1, &[1.0, 2.0]), true),
            ("zero bucket narrower", e(0, (1.0, 5.0), 3, &[]), e(0, (2.0, 5.0), 3, &[]), true),
            ("zero bucket wider, takes bucket", e(0, (2.0, 3.0), 2, &[]), e(0, (1.0, 1.0), 1, &[2.0]), false),
            ("zero bucket wider, fell", e(0, (2.0, 2.0), 2, &[]), e(0, (1.0, 1.0), 1, &[2.0]), true),
            ("zero bucket ends in bucket", e(0, (1.5, 9.0), 1, &[2.0]), e(0, (1.0, 1.0), 1, &[2.0]), true),
            ("zero bucket ends in empty bucket", e(0, (1.5, 9.0), 1, &[2.0]), e(0, (1.0, 1.0), 1, &[0.0]), false),
            ("to custom", custom(&[1.0], &[9.0]), e(0, (0.0, 0.0), 1, &[2.0]), true),
            ("from custom", e(0, (0.0, 0.0), 1, &[2.0]), custom(&[1.0], &[1.0]), true),
            ("custom bounds gone", custom(&[1.0, 3.0], &[2.0, 2.0]), custom(&[1.0, 2.0, 3.0], &[2.0, 1.0, 1.0]), false),
            ("shared bound fell", custom(&[1.0, 3.0], &[1.0, 9.0]), custom(&[1.0, 2.0], &[2.0, 1.0]), true),
            ("last bucket fell", custom(&[1.0, 3.0], &[2.0, 0.0]), custom(&[1.0, 2.0], &[2.0, 1.0]), true),
        ];
        for (name, now, before, want) in cases {
            assert_eq!(now.detect_reset(&before), want, "{name}");
        }
    }

    #[test]
    fn hints_and_count_decide_first() {
        let before = exponential(0, (0.0, 0.0), 1, &[1.0]);
        let mut now = before.clone();
        now.counter_reset_hint = CounterResetHint::CounterReset;
        assert!(now.detect_reset(&before));
        now.count = 1.0;
        now.counter_reset_hint = CounterResetHint::NotCounterReset;
        assert!(!now.detect_reset(&before));
        now.counter_reset_hint = CounterResetHint::Gauge;
        assert!(now.detect_reset(&before));
    }
}
