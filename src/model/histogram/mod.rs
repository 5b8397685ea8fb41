//! Native histograms: exponential and custom buckets, integer and float.

pub mod arithmetic;
pub mod bucket;
mod custom_bounds;
mod equality;
mod error;
mod layout;
pub mod nhcb;
#[cfg(test)]
mod properties;
mod reset;
pub mod schema;
mod text;
mod trim;
mod validate;

use std::sync::Arc;

pub use arithmetic::AddOutcome;
pub use bucket::{AllBuckets, Bucket, Buckets, IntegerBuckets, ReverseBuckets, SpanIndices};
pub use equality::spans_match;
pub use error::HistogramError;
pub use nhcb::{ConvertedHistogram, NhcbError, TempHistogram};
pub use schema::{
    CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MAX_RESERVED, EXPONENTIAL_SCHEMA_MIN,
    EXPONENTIAL_SCHEMA_MIN_RESERVED, bound, bound_exponential, custom_bounds_match, is_custom_buckets_schema,
    is_exponential_schema, is_exponential_schema_reserved, is_known_schema, is_valid_schema, target_index,
};

use crate::sample::is_stale;

/// What is known about a counter reset before this histogram (`CounterResetHint` upstream).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CounterResetHint {
    /// Nothing is known: compare buckets.
    #[default]
    Unknown = 0,
    /// A reset happened between the previous histogram and this one.
    CounterReset = 1,
    /// No reset happened.
    NotCounterReset = 2,
    /// A gauge histogram, resets have no meaning.
    Gauge = 3,
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Gap to the end of the previous span, or the first bucket's index for the first span.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// A histogram whose counts are floats; bucket counts are absolute. PromQL works on these.
#[derive(Clone, Debug, Default)]
pub struct FloatHistogram {
    /// See [`CounterResetHint`].
    pub counter_reset_hint: CounterResetHint,
    /// −4..=8 exponential, −53 custom buckets.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// Observations in all.
    pub count: f64,
    /// Sum of observations; the stale marker's bits here make the sample a stale marker.
    pub sum: f64,
    /// Runs of positive buckets.
    pub positive_spans: Vec<BucketSpan>,
    /// Runs of negative buckets.
    pub negative_spans: Vec<BucketSpan>,
    /// Absolute counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Absolute counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds for schema −53, shared and never changed in place.
    pub custom_values: Option<Arc<[f64]>>,
}

/// A histogram with integer counts; bucket counts are deltas to the bucket before.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// See [`CounterResetHint`].
    pub counter_reset_hint: CounterResetHint,
    /// −4..=8 exponential, −53 custom buckets.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Observations in all.
    pub count: u64,
    /// Sum of observations.
    pub sum: f64,
    /// Runs of positive buckets.
    pub positive_spans: Vec<BucketSpan>,
    /// Runs of negative buckets.
    pub negative_spans: Vec<BucketSpan>,
    /// Deltas of the positive buckets.
    pub positive_buckets: Vec<i64>,
    /// Deltas of the negative buckets.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds for schema −53.
    pub custom_values: Option<Arc<[f64]>>,
}

impl FloatHistogram {
    /// Whether this is a stale marker.
    #[inline]
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the buckets have custom bounds.
    #[inline]
    pub fn uses_custom_buckets(&self) -> bool {
        is_custom_buckets_schema(self.schema)
    }

    /// The custom bounds, none for exponential schemas.
    #[inline]
    pub fn custom_bounds(&self) -> &[f64] {
        self.custom_values.as_deref().unwrap_or(&[])
    }

    /// Bytes as upstream counts them, for limits on samples: one histogram is `(size + 8) / 16` of them.
    pub fn size(&self) -> usize {
        const FIELDS: usize = 168;
        FIELDS
            + 8 * (self.positive_spans.len()
                + self.negative_spans.len()
                + self.positive_buckets.len()
                + self.negative_buckets.len()
                + self.custom_bounds().len())
    }
}

impl Histogram {
    /// Whether this is a stale marker.
    #[inline]
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether the buckets have custom bounds.
    #[inline]
    pub fn uses_custom_buckets(&self) -> bool {
        is_custom_buckets_schema(self.schema)
    }

    /// The custom bounds, none for exponential schemas.
    #[inline]
    pub fn custom_bounds(&self) -> &[f64] {
        self.custom_values.as_deref().unwrap_or(&[])
    }

    /// The same histogram with float counts.
    pub fn to_float(&self) -> FloatHistogram {
        let mut h = FloatHistogram::default();
        self.to_float_in(&mut h);
        h
    }

    /// As [`Self::to_float`], reusing the space in `h`.
    pub fn to_float_in(&self, h: &mut FloatHistogram) {
        h.counter_reset_hint = self.counter_reset_hint;
        h.schema = self.schema;
        h.count = self.count as f64;
        h.sum = self.sum;
        h.positive_spans.clone_from(&self.positive_spans);
        absolute_counts(&self.positive_buckets, &mut h.positive_buckets);
        if self.uses_custom_buckets() {
            h.zero_threshold = 0.0;
            h.zero_count = 0.0;
            h.negative_spans.clear();
            h.negative_buckets.clear();
            h.custom_values.clone_from(&self.custom_values);
        } else {
            h.zero_threshold = self.zero_threshold;
            h.zero_count = self.zero_count as f64;
            h.negative_spans.clone_from(&self.negative_spans);
            absolute_counts(&self.negative_buckets, &mut h.negative_buckets);
            h.custom_values = None;
        }
    }
}

/// Deltas summed in floats, as upstream sums them.
fn absolute_counts(deltas: &[i64], counts: &mut Vec<f64>) {
    counts.clear();
    let mut count = 0.0;
    counts.extend(deltas.iter().map(|delta| {
        count += *delta as f64;
        count
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_become_absolute_counts() {
        let h = Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 2,
            count: 12,
            sum: 3.5,
            positive_spans: vec![BucketSpan { offset: -1, length: 3 }],
            positive_buckets: vec![3, -2, 1],
            negative_spans: vec![BucketSpan { offset: 0, length: 2 }],
            negative_buckets: vec![1, 2],
            ..Histogram::default()
        };
        assert_eq!(h.validate(), Ok(()));
        let f = h.to_float();
        assert_eq!(f.positive_buckets, [3.0, 1.0, 2.0]);
        assert_eq!(f.negative_buckets, [1.0, 3.0]);
        assert_eq!((f.zero_count, f.count, f.sum), (2.0, 12.0, 3.5));
        assert_eq!(f.counter_reset_hint, CounterResetHint::Gauge);
        assert_eq!(f.size(), 168 + 8 * (1 + 1 + 3 + 2));
    }

    #[test]
    fn reused_space_keeps_nothing_of_the_last_histogram() {
        let mut space = FloatHistogram {
            zero_count: 5.0,
            zero_threshold: 1.0,
            negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
            negative_buckets: vec![1.0],
            positive_buckets: vec![1.0; 9],
            ..FloatHistogram::default()
        };
        let h = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 1,
            positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
            positive_buckets: vec![1],
            custom_values: Some([1.0].into()),
            ..Histogram::default()
        };
        h.to_float_in(&mut space);
        assert!(space.equals(&h.to_float()));
        assert_eq!(space.validate(), Ok(()));
    }
}
