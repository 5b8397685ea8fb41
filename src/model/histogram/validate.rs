//! Whether a histogram's fields fit together.

use super::layout::check_offsets;
use super::schema::{invalid_schema_error, is_custom_buckets_schema, is_exponential_schema};
use super::{BucketSpan, FloatHistogram, Histogram, HistogramError};
use crate::float_text::format_g;

impl FloatHistogram {
    /// Checks spans against buckets, signs of counts, and that only the schema's own fields are used. Counts
    /// need not add up: float sums rarely do.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if is_custom_buckets_schema(self.schema) {
            check_custom(self.custom_bounds(), &self.positive_spans, self.positive_buckets.len())?;
            check_unused(
                self.zero_count != 0.0,
                self.zero_threshold,
                &self.negative_spans,
                self.negative_buckets.len(),
            )?;
        } else if is_exponential_schema(self.schema) {
            check_spans(&self.positive_spans, self.positive_buckets.len())
                .map_err(|e| e.on_side("positive"))?;
            check_spans(&self.negative_spans, self.negative_buckets.len())
                .map_err(|e| e.on_side("negative"))?;
            check_counts(&self.negative_buckets).map_err(|e| e.on_side("negative"))?;
            if self.zero_count < 0.0 {
                return Err(HistogramError::NegativeZeroCount { count: self.zero_count });
            }
            if !self.custom_bounds().is_empty() {
                return Err(HistogramError::ExponentialSchemaCustomBounds);
            }
        } else {
            return Err(invalid_schema_error(self.schema));
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount { count: self.count });
        }
        check_counts(&self.positive_buckets).map_err(|e| e.on_side("positive"))
    }
}

impl Histogram {
    /// Checks spans against buckets, signs of counts, that the count is the sum of all buckets (or at least
    /// that with NaN observations), and that only the schema's own fields are used.
    pub fn validate(&self) -> Result<(), HistogramError> {
        let mut found = 0u64;
        if is_custom_buckets_schema(self.schema) {
            check_custom(self.custom_bounds(), &self.positive_spans, self.positive_buckets.len())?;
            check_unused(
                self.zero_count != 0,
                self.zero_threshold,
                &self.negative_spans,
                self.negative_buckets.len(),
            )?;
        } else if is_exponential_schema(self.schema) {
            check_spans(&self.positive_spans, self.positive_buckets.len())
                .map_err(|e| e.on_side("positive"))?;
            check_spans(&self.negative_spans, self.negative_buckets.len())
                .map_err(|e| e.on_side("negative"))?;
            found = check_deltas(&self.negative_buckets).map_err(|e| e.on_side("negative"))?;
            if !self.custom_bounds().is_empty() {
                return Err(HistogramError::ExponentialSchemaCustomBounds);
            }
        } else {
            return Err(invalid_schema_error(self.schema));
        }
        let positive = check_deltas(&self.positive_buckets).map_err(|e| e.on_side("positive"))?;
        found = found.wrapping_add(positive).wrapping_add(self.zero_count);
        let count = self.count;
        if self.sum.is_nan() {
            if found > count {
                return Err(HistogramError::CountNotBigEnough { found, count });
            }
        } else if found != count {
            return Err(HistogramError::CountMismatch { found, count });
        }
        Ok(())
    }
}

fn bucket_total(spans: &[BucketSpan]) -> usize {
    spans.iter().fold(0usize, |n, s| n.saturating_add(s.length as usize))
}

fn check_spans(spans: &[BucketSpan], have: usize) -> Result<(), HistogramError> {
    check_offsets(spans)?;
    let need = bucket_total(spans);
    if need == have { Ok(()) } else { Err(HistogramError::SpansBucketsMismatch { need, have }) }
}

fn check_counts(buckets: &[f64]) -> Result<(), HistogramError> {
    match buckets.iter().position(|b| *b < 0.0) {
        Some(i) => Err(HistogramError::NegativeBucketCount { number: i + 1, count: format_g(buckets[i]) }),
        None => Ok(()),
    }
}

fn check_deltas(deltas: &[i64]) -> Result<u64, HistogramError> {
    let (mut count, mut total) = (0i64, 0u64);
    for (i, delta) in deltas.iter().enumerate() {
        count = count.wrapping_add(*delta);
        if count < 0 {
            return Err(HistogramError::NegativeBucketCount { number: i + 1, count: count.to_string() });
        }
        total = total.wrapping_add(count as u64);
    }
    Ok(total)
}

fn check_unused(
    zero_count: bool,
    zero_threshold: f64,
    negative_spans: &[BucketSpan],
    negative_buckets: usize,
) -> Result<(), HistogramError> {
    if zero_count {
        Err(HistogramError::CustomBucketsZeroCount)
    } else if zero_threshold != 0.0 {
        Err(HistogramError::CustomBucketsZeroThreshold)
    } else if !negative_spans.is_empty() {
        Err(HistogramError::CustomBucketsNegativeSpans)
    } else if negative_buckets > 0 {
        Err(HistogramError::CustomBucketsNegativeBuckets)
    } else {
        Ok(())
    }
}

fn check_custom(bounds: &[f64], spans: &[BucketSpan], have: usize) -> Result<(), HistogramError> {
    check_bounds(bounds, spans, have).map_err(|e| HistogramError::CustomBuckets { source: Box::new(e) })
}

fn check_bounds(bounds: &[f64], spans: &[BucketSpan], have: usize) -> Result<(), HistogramError> {
    let mut previous = f64::NEG_INFINITY;
    for (i, current) in bounds.iter().copied().enumerate() {
        if current.is_nan() {
            return Err(HistogramError::CustomBucketsNan);
        }
        if i > 0 && current <= previous {
            return Err(HistogramError::CustomBucketsInvalid { previous, current });
        }
        previous = current;
    }
    if previous == f64::INFINITY {
        return Err(HistogramError::CustomBucketsInfinite);
    }
    // Here the first offset must not be negative either: it is an index into the bounds.
    if let Some((i, s)) = spans.iter().enumerate().find(|(_, s)| s.offset < 0) {
        return Err(HistogramError::SpanNegativeOffset { number: i + 1, offset: s.offset });
    }
    let need = bucket_total(spans);
    if need != have {
        return Err(HistogramError::SpansBucketsMismatch { need, have });
    }
    let length = spans
        .iter()
        .fold(0i64, |n, s| n.saturating_add(i64::from(s.length)).saturating_add(i64::from(s.offset)));
    if ((bounds.len() + 1) as i64) < length {
        return Err(HistogramError::CustomBucketsMismatch { bounds: bounds.len(), length });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CUSTOM_BUCKETS_SCHEMA;

    fn spans(list: &[(i32, u32)]) -> Vec<BucketSpan> {
        list.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
    }

    fn custom(bounds: &[f64], list: &[(i32, u32)], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive_spans: spans(list),
            positive_buckets: buckets.to_vec(),
            custom_values: Some(bounds.into()),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn float_histograms() {
        let base = FloatHistogram::default;
        let mismatch = "histogram spans specify different number of buckets than provided";
        let negative = "histogram has a bucket whose observation count is negative";
        #[rustfmt::skip]
        let cases: Vec<(FloatHistogram, String)> = vec![
            (FloatHistogram { schema: 9, ..base() },
             "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 9".into()),
            (FloatHistogram { positive_spans: spans(&[(0, 2)]), ..base() },
             format!("positive side: spans need 2 buckets, have 0 buckets: {mismatch}")),
            (FloatHistogram { negative_spans: spans(&[(-3, 1), (-1, 1)]), negative_buckets: vec![1.0; 2], ..base() },
             "negative side: span number 2 with offset -1: histogram has a span whose offset is negative".into()),
            (FloatHistogram { positive_spans: spans(&[(0, 1)]), positive_buckets: vec![-1.5], ..base() },
             format!("positive side: bucket number 1 has observation count of -1.5: {negative}")),
            (FloatHistogram { zero_count: -2.0, ..base() },
             format!("zero bucket has observation count of -2: {negative}")),
            (FloatHistogram { count: -2.0, ..base() },
             "observation count is  -2: histogram's observation count is negative".into()),
            (FloatHistogram { custom_values: Some([1.0].into()), ..base() },
             "histogram with exponential schema must not have custom bounds".into()),
            (custom(&[1.0, 1.0], &[], &[]),
             "custom buckets: previous bound is 1.000000 and current is 1.000000: histogram custom bounds must be in strictly increasing order".into()),
            (custom(&[1.0, f64::INFINITY], &[], &[]),
             "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite".into()),
            (custom(&[f64::NAN], &[], &[]), "custom buckets: histogram custom bounds must not be NaN".into()),
            (custom(&[1.0], &[(1, 2)], &[1.0, 1.0]),
             "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: histogram custom bounds are too few".into()),
            (custom(&[1.0], &[(-1, 1)], &[1.0]),
             "custom buckets: span number 1 with offset -1: histogram has a span whose offset is negative".into()),
            (FloatHistogram { zero_count: 1.0, ..custom(&[1.0], &[], &[]) }, "custom buckets: must have zero count of 0".into()),
            (FloatHistogram { zero_threshold: 1.0, ..custom(&[1.0], &[], &[]) }, "custom buckets: must have zero threshold of 0".into()),
            (FloatHistogram { negative_spans: spans(&[(0, 1)]), ..custom(&[1.0], &[], &[]) }, "custom buckets: must not have negative spans".into()),
            (FloatHistogram { negative_buckets: vec![1.0], ..custom(&[1.0], &[], &[]) }, "custom buckets: must not have negative buckets".into()),
        ];
        for (h, want) in cases {
            assert_eq!(h.validate().unwrap_err().to_string(), want);
        }
        assert_eq!(custom(&[1.0, 2.0], &[(1, 2)], &[1.0, 0.0]).validate(), Ok(()));
    }

    #[test]
    fn integer_counts_must_add_up() {
        let mut h = Histogram {
            count: 4,
            zero_count: 1,
            positive_spans: spans(&[(0, 2)]),
            positive_buckets: vec![2, -1],
            ..Histogram::default()
        };
        assert_eq!(h.validate(), Ok(()));
        h.count = 5;
        assert_eq!(h.validate(), Err(HistogramError::CountMismatch { found: 4, count: 5 }));
        h.sum = f64::NAN;
        assert_eq!(h.validate(), Ok(()));
        h.count = 3;
        assert_eq!(h.validate(), Err(HistogramError::CountNotBigEnough { found: 4, count: 3 }));
        h.positive_buckets = vec![2, -3];
        assert_eq!(
            h.validate().unwrap_err().to_string(),
            "positive side: bucket number 2 has observation count of -1: \
             histogram has a bucket whose observation count is negative"
        );
    }
}
