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

#[cfg(test)]
mod tests {
    use super::*;

    type Samples = &'static [(f64, f64)];

    const INF: f64 = f64::INFINITY;

    fn collect(buckets: &[(f64, f64)], count: Option<f64>) -> Result<ConvertedHistogram, NhcbError> {
        let mut t = TempHistogram::new();
        for (le, n) in buckets {
            t.set_bucket_count(*le, *n)?;
        }
        if let Some(count) = count {
            t.set_count(count)?;
        }
        t.set_sum(7.5)?;
        t.convert()
    }

    #[test]
    fn whole_counts_make_an_integer_histogram() {
        let want = "{count:9, sum:7.5, [-Inf,1]:2, (1,5]:3, (5,+Inf]:4}";
        for buckets in [
            &[(1.0, 2.0), (5.0, 5.0), (INF, 9.0)][..],
            &[(INF, 9.0), (1.0, 2.0), (5.0, 5.0), (1.0, 99.0)],
            &[(1.0, 2.0), (5.0, 5.0)],
        ] {
            let Ok(ConvertedHistogram::Integer(h)) = collect(buckets, Some(9.0)) else {
                panic!("not an integer histogram: {buckets:?}")
            };
            assert_eq!(h.to_string(), want);
            assert_eq!(h.validate(), Ok(()));
        }
    }

    #[test]
    fn broken_counts_make_a_float_histogram() {
        let Ok(ConvertedHistogram::Float(h)) = collect(&[(1.0, 0.5), (2.0, 0.5), (INF, 3.0)], None) else {
            panic!("not a float histogram")
        };
        assert_eq!(h.to_string(), "{count:3, sum:7.5, [-Inf,1]:0.5, (2,+Inf]:2.5}");
        assert_eq!(h.positive_buckets, [0.5, 2.5]);
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        for (buckets, count, want) in [
            (&[(1.0, 2.0), (5.0, 5.0)][..], None, "{count:5, sum:7.5, [-Inf,1]:2, (1,5]:3}"),
            (&[], Some(3.0), "{count:3, sum:7.5, [-Inf,+Inf]:3}"),
            (&[], None, "{count:0, sum:7.5}"),
        ] {
            let h = collect(buckets, count).map(ConvertedHistogram::into_float);
            assert_eq!(h.map(|h| h.to_string()), Ok(want.to_string()));
        }
    }

    #[test]
    fn errors_stick() {
        #[rustfmt::skip]
        let cases: &[(Samples, Option<f64>, &str)] = &[
            (&[(f64::NAN, 1.0)], None, "bucket boundary must not be NaN"),
            (&[(1.0, -1.0)], None, "bucket count must be non-negative: le=1, count=-1"),
            (&[(1.0, 2.0), (2.0, 1.0)], None, "count is not cumulative: 1 < 2"),
            (&[(2.0, 2.0), (1.0, 3.0)], None, "count is not cumulative: 3 > 2"),
            (&[(1.0, 2.0)], Some(-1.0), "count must be non-negative: count=-1"),
            (&[(INF, 2.0)], Some(3.0), "count mismatch: count=3 != le=+Inf count=2"),
            (&[(INF, 2.5)], Some(3.5), "count mismatch: count=3.5 != le=+Inf count=2.5"),
        ];
        for (buckets, count, want) in cases {
            assert_eq!(collect(buckets, *count).unwrap_err().to_string(), *want);
        }
        let mut t = TempHistogram::new();
        assert!(t.set_bucket_count(f64::NAN, 1.0).is_err());
        assert_eq!(t.set_sum(1.0), Err(NhcbError::NanBucket));
        t.reset();
        assert_eq!(t.set_sum(1.0), Ok(()));
    }

    #[test]
    fn huge_counts_are_left_to_floats() {
        let h = collect(&[(1.0, 2f64.powi(63)), (INF, 2f64.powi(63))], None);
        assert!(matches!(h, Ok(ConvertedHistogram::Float(_))));
    }

    #[test]
    fn suffixes() {
        assert_eq!(split_classic_suffix("a_bucket"), (ClassicSuffix::Bucket, "a"));
        assert_eq!(split_classic_suffix("a_sum"), (ClassicSuffix::Sum, "a"));
        assert_eq!(split_classic_suffix("a_count_count"), (ClassicSuffix::Count, "a_count"));
        assert_eq!(split_classic_suffix("a_created"), (ClassicSuffix::None, "a_created"));
    }
}
