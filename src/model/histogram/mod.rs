//! Native histograms: exponential and custom buckets, integer and float.

use std::sync::Arc;

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
