//! Classic histograms as native ones with custom bounds (NHCB).

use std::sync::Arc;

use super::schema::CUSTOM_BUCKETS_SCHEMA;
use super::{BucketSpan, FloatHistogram, Histogram};
use crate::float_text::format_g;

/// Why samples of a classic histogram make no native one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NhcbError {
    /// A bucket's count is negative.
    #[error("bucket count must be non-negative: le={}, count={}", format_g(*le), format_g(*count))]
    NegativeBucketCount {
        /// The bucket's bound.
        le: f64,
        /// Its count.
        count: f64,
    },
    /// A bucket's bound is NaN.
    #[error("bucket boundary must not be NaN")]
    NanBucket,
    /// The count is negative.
    #[error("count must be non-negative: count={}", format_g(*count))]
    NegativeCount {
        /// The count.
        count: f64,
    },
    /// The count is not that of the last bucket.
    #[error("count mismatch: count={count} != le={} count={}", format_g(*le), format_g(*bucket))]
    CountMismatch {
        /// The count as text.
        count: String,
        /// The last bucket's bound.
        le: f64,
        /// Its count.
        bucket: f64,
    },
    /// A higher bucket counts less than a lower one.
    #[error("count is not cumulative: {} {relation} {}", format_g(*count), format_g(*neighbour))]
    NotCumulative {
        /// The offending count.
        count: f64,
        /// `<` or `>`.
        relation: char,
        /// The neighbouring bucket's count.
        neighbour: f64,
    },
}

/// A converted classic histogram: integer if all its counts are whole.
#[derive(Clone, Debug)]
pub enum ConvertedHistogram {
    /// All counts are whole.
    Integer(Histogram),
    /// Some count is not.
    Float(FloatHistogram),
}

impl ConvertedHistogram {
    /// The histogram with float counts.
    pub fn into_float(self) -> FloatHistogram {
        match self {
            Self::Integer(h) => h.to_float(),
            Self::Float(h) => h,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct ClassicBucket {
    le: f64,
    count: f64,
}

/// The samples of one classic histogram at one time, collected one by one. The first error sticks.
#[derive(Clone, Debug, Default)]
pub struct TempHistogram {
    buckets: Vec<ClassicBucket>,
    count: Option<f64>,
    sum: f64,
    error: Option<NhcbError>,
}

impl TempHistogram {
    /// No samples yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first error met.
    pub fn error(&self) -> Option<&NhcbError> {
        self.error.as_ref()
    }

    /// Forgets all samples and errors.
    pub fn reset(&mut self) {
        self.buckets.clear();
        self.count = None;
        self.sum = 0.0;
        self.error = None;
    }

    /// A `_bucket` sample: cumulative `count` up to `le`. A bound seen before is ignored.
    pub fn set_bucket_count(&mut self, le: f64, count: f64) -> Result<(), NhcbError> {
        self.check()?;
        if le.is_nan() {
            return self.fail(NhcbError::NanBucket);
        }
        if count < 0.0 {
            return self.fail(NhcbError::NegativeBucketCount { le, count });
        }
        let i = self.buckets.partition_point(|b| b.le < le);
        let above = self.buckets.get(i);
        if above.is_some_and(|b| b.le == le) {
            return Ok(());
        }
        if let Some(below) = i.checked_sub(1).map(|i| self.buckets[i].count)
            && count < below
        {
            return self.fail(NhcbError::NotCumulative { count, relation: '<', neighbour: below });
        }
        if let Some(above) = above.map(|b| b.count)
            && count > above
        {
            return self.fail(NhcbError::NotCumulative { count, relation: '>', neighbour: above });
        }
        self.buckets.insert(i, ClassicBucket { le, count });
        Ok(())
    }

    /// The `_count` sample.
    pub fn set_count(&mut self, count: f64) -> Result<(), NhcbError> {
        self.check()?;
        if count < 0.0 {
            return self.fail(NhcbError::NegativeCount { count });
        }
        self.count = Some(count);
        Ok(())
    }

    /// The `_sum` sample.
    pub fn set_sum(&mut self, sum: f64) -> Result<(), NhcbError> {
        self.check()?;
        self.sum = sum;
        Ok(())
    }

    /// The native histogram. A missing count is that of the highest bucket, a missing `+Inf` bucket has the
    /// count.
    pub fn convert(&self) -> Result<ConvertedHistogram, NhcbError> {
        self.check()?;
        let mut buckets = self.buckets.clone();
        let count = self.count.or(buckets.last().map(|b| b.count)).unwrap_or(0.0);
        let last = match buckets.last() {
            Some(b) if b.le == f64::INFINITY => *b,
            _ => {
                let last = ClassicBucket { le: f64::INFINITY, count };
                buckets.push(last);
                last
            }
        };
        let bounds: Arc<[f64]> = buckets[..buckets.len() - 1].iter().map(|b| b.le).collect();
        let custom_values = (!bounds.is_empty()).then_some(bounds);
        let positive_spans = vec![BucketSpan { offset: 0, length: buckets.len() as u32 }];
        let mismatch = |count: String| NhcbError::CountMismatch { count, le: last.le, bucket: last.count };

        // Exact in both integer types; the largest values are left to floats.
        let whole = |v: f64, limit: f64| v == v.round() && v.abs() < limit;
        const I64_LIMIT: f64 = 9_223_372_036_854_775_808.0;
        if buckets.iter().all(|b| whole(b.count, I64_LIMIT)) && whole(count, 2.0 * I64_LIMIT) {
            let count = count as u64;
            if count != last.count as u64 {
                return Err(mismatch(count.to_string()));
            }
            let (mut before, mut previous) = (0i64, 0i64);
            let positive_buckets = buckets
                .iter()
                .map(|b| {
                    let cumulative = b.count as i64;
                    let here = cumulative.wrapping_sub(before);
                    let delta = here.wrapping_sub(previous);
                    (before, previous) = (cumulative, here);
                    delta
                })
                .collect();
            let mut h = Histogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count,
                sum: self.sum,
                positive_spans,
                positive_buckets,
                custom_values,
                ..Histogram::default()
            };
            h.compact(2);
            return Ok(ConvertedHistogram::Integer(h));
        }
        if count != last.count {
            return Err(mismatch(format_g(count)));
        }
        let mut before = 0.0;
        let positive_buckets = buckets
            .iter()
            .map(|b| {
                let here = b.count - before;
                before = b.count;
                here
            })
            .collect();
        let mut h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans,
            positive_buckets,
            custom_values,
            ..FloatHistogram::default()
        };
        h.compact(0);
        Ok(ConvertedHistogram::Float(h))
    }

    fn check(&self) -> Result<(), NhcbError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: NhcbError) -> Result<(), NhcbError> {
        self.error = Some(error.clone());
        Err(error)
    }
}

/// Which of a classic histogram's series a metric name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassicSuffix {
    /// None of them.
    None,
    /// `_bucket`
    Bucket,
    /// `_sum`
    Sum,
    /// `_count`
    Count,
}

/// Splits `_bucket`, `_sum` or `_count` off a metric name.
pub fn split_classic_suffix(name: &str) -> (ClassicSuffix, &str) {
    for (suffix, kind) in
        [("_bucket", ClassicSuffix::Bucket), ("_sum", ClassicSuffix::Sum), ("_count", ClassicSuffix::Count)]
    {
        if let Some(base) = name.strip_suffix(suffix) {
            return (kind, base);
        }
    }
    (ClassicSuffix::None, name)
}
