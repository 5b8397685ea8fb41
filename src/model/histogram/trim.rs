//! Cutting a histogram at a value, as PromQL's `</` and `>/` do.

use super::bucket::{Bucket, SpanIndices};
use super::{BucketSpan, FloatHistogram};

/// What is kept: observations below the cut, or above.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Below,
    Above,
}

/// Sums over what is kept.
#[derive(Default)]
struct Kept {
    count: f64,
    sum: f64,
    trimmed: bool,
}

impl FloatHistogram {
    /// Drops the observations above `cut` (`keep_below`, PromQL `</`) or below it (PromQL `>/`); the bucket
    /// the cut falls into is interpolated. Count and sum are estimated anew if anything was dropped.
    pub fn trim_buckets(&mut self, cut: f64, keep_below: bool) -> &mut Self {
        let keep = if keep_below { Keep::Below } else { Keep::Above };
        let custom = self.uses_custom_buckets();
        let mut kept = Kept::default();
        let mut has = [false; 2];
        let bounds = self.custom_values.clone();
        for (positive, populated) in [true, false].into_iter().zip(&mut has) {
            let (spans, buckets, bounds): (&[BucketSpan], &mut [f64], &[f64]) = if positive {
                (&self.positive_spans, &mut self.positive_buckets, bounds.as_deref().unwrap_or(&[]))
            } else {
                (&self.negative_spans, &mut self.negative_buckets, &[])
            };
            for (index, count) in SpanIndices::new(spans).zip(buckets) {
                if *count == 0.0 {
                    continue;
                }
                *populated = true;
                let bucket = Bucket::at(index, *count, self.schema, positive, bounds);
                trim_bucket(&bucket, count, cut, keep, positive, custom, &mut kept);
            }
        }
        let [has_positive, has_negative] = has;
        if self.zero_count > 0.0 && !custom {
            let zero = self.zero_bucket();
            let (count, midpoint) = trim_zero_bucket(&zero, cut, has_negative, has_positive, keep);
            if self.zero_count != count {
                self.zero_count = count;
                kept.trimmed = true;
            }
            kept.sum += midpoint * count;
            kept.count += count;
        }
        if kept.trimmed {
            self.count = kept.count;
            self.sum = kept.sum;
            self.compact(0);
        }
        self
    }
}

fn trim_bucket(
    bucket: &Bucket,
    count: &mut f64,
    cut: f64,
    keep: Keep,
    positive: bool,
    custom: bool,
    kept: &mut Kept,
) {
    let (whole, part) = match keep {
        Keep::Below => (bucket.upper <= cut, bucket.lower < cut),
        Keep::Above => (bucket.lower >= cut, bucket.upper > cut),
    };
    if whole {
        kept.count += bucket.count;
        kept.sum += midpoint(bucket.lower, bucket.upper, positive, custom) * bucket.count;
    } else if part {
        let (part, midpoint) = split_bucket(bucket, cut, keep, positive, custom);
        kept.count += part;
        kept.sum += midpoint * part;
        if *count != part {
            *count = part;
            kept.trimmed = true;
        }
    } else {
        *count = 0.0;
        kept.trimmed = true;
    }
}

/// Count and middle of the kept part of a bucket with the cut inside.
fn split_bucket(b: &Bucket, cut: f64, keep: Keep, positive: bool, custom: bool) -> (f64, f64) {
    if b.lower == f64::NEG_INFINITY || b.upper == f64::INFINITY {
        return split_infinite_bucket(b, cut, keep);
    }
    let below = if cut <= b.lower {
        0.0
    } else if cut >= b.upper {
        b.count
    } else {
        b.count * b.fraction_below(cut, custom)
    };
    match keep {
        Keep::Below => (below, midpoint(b.lower, cut, positive, custom)),
        Keep::Above => (b.count - below, midpoint(cut, b.upper, positive, custom)),
    }
}

/// An infinite bucket has no distribution to interpolate in: it stays or goes whole, but for a lowest custom
/// bucket with a positive upper bound, which is taken to begin at 0.
fn split_infinite_bucket(b: &Bucket, cut: f64, keep: Keep) -> (f64, f64) {
    let zero_if_infinite = |v: f64| if v.is_infinite() { 0.0 } else { v };
    if b.lower == f64::NEG_INFINITY {
        let finite = b.upper != f64::INFINITY;
        if keep == Keep::Below {
            if cut >= b.upper {
                return (b.count, 0.0);
            }
            if cut > 0.0 && b.upper > 0.0 && finite {
                return (b.count * cut / b.upper, cut / 2.0);
            }
            if b.upper <= 0.0 {
                return (b.count, cut);
            }
            return (0.0, zero_if_infinite(b.upper));
        }
        if cut <= b.lower {
            return (b.count, 0.0);
        }
        if cut >= 0.0 && b.upper > cut && finite {
            return (b.count * (1.0 - cut / b.upper), (cut + b.upper) / 2.0);
        }
        return (0.0, zero_if_infinite(b.upper));
    }
    if keep == Keep::Above && cut >= b.lower {
        return (b.count, cut);
    }
    (0.0, zero_if_infinite(b.lower))
}

/// Count and middle of the kept part of the zero bucket, which reaches over zero only if both sides are
/// populated, or neither is.
fn trim_zero_bucket(
    zero: &Bucket,
    cut: f64,
    has_negative: bool,
    has_positive: bool,
    keep: Keep,
) -> (f64, f64) {
    let upper = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let lower = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let whole = (zero.count, (lower + upper) / 2.0);
    let (fraction, midpoint) = match keep {
        Keep::Below if cut <= lower => return (0.0, 0.0),
        Keep::Below if cut >= upper => return whole,
        Keep::Below => ((cut - lower) / (upper - lower), (lower + cut) / 2.0),
        Keep::Above if cut <= lower => return whole,
        Keep::Above if cut >= upper => return (0.0, 0.0),
        Keep::Above => ((upper - cut) / (upper - lower), (cut + upper) / 2.0),
    };
    (zero.count * fraction, midpoint)
}

/// Where the observations of an interval lie on average: arithmetic mean where spread evenly, else geometric.
fn midpoint(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    if lower.is_infinite() {
        if upper.is_infinite() {
            return 0.0;
        }
        return if upper > 0.0 { upper / 2.0 } else { upper };
    }
    if upper.is_infinite() {
        return lower;
    }
    if linear {
        return (lower + upper) / 2.0;
    }
    let mean = (lower * upper).abs().sqrt();
    if positive { mean } else { -mean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CUSTOM_BUCKETS_SCHEMA;

    type Counts = &'static [f64];

    fn exponential() -> FloatHistogram {
        // Positive (1,2], (2,4]; negative [-2,-1); zero [-0.5,0.5].
        FloatHistogram {
            zero_threshold: 0.5,
            zero_count: 4.0,
            count: 16.0,
            sum: 1000.0,
            positive_spans: vec![BucketSpan { offset: 1, length: 2 }],
            positive_buckets: vec![2.0, 8.0],
            negative_spans: vec![BucketSpan { offset: 1, length: 1 }],
            negative_buckets: vec![2.0],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn exponential_buckets() {
        let root2 = 2f64.sqrt();
        #[rustfmt::skip]
        let cases: &[(f64, bool, f64, f64, Counts, Counts, f64)] = &[
            // cut, keep below, count, sum, positive, negative, zero
            (4.0, true, 16.0, 1000.0, &[2.0, 8.0], &[2.0], 4.0),
            (-2.0, false, 16.0, 1000.0, &[2.0, 8.0], &[2.0], 4.0),
            (2.0, true, 8.0, 0.0, &[2.0], &[2.0], 4.0),
            (2.0, false, 8.0, 8.0 * 8f64.sqrt(), &[8.0], &[], 0.0),
            (0.25, true, 5.0, -2.0 * root2 - 0.125 * 3.0, &[], &[2.0], 3.0),
            (-9.0, true, 0.0, 0.0, &[], &[], 0.0),
            (9.0, false, 0.0, 0.0, &[], &[], 0.0),
        ];
        for (cut, below, count, sum, positive, negative, zero) in cases {
            let mut h = exponential();
            h.trim_buckets(*cut, *below);
            let name = format!("{cut} below {below}: {h}");
            assert_eq!(h.count, *count, "{name}");
            assert!((h.sum - sum).abs() < 1e-9, "{name}");
            assert_eq!(h.positive_buckets, *positive, "{name}");
            assert_eq!(h.negative_buckets, *negative, "{name}");
            assert_eq!(h.zero_count, *zero, "{name}");
            assert_eq!(h.validate(), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_cut_bucket_is_split_on_a_logarithmic_scale() {
        let mut h = exponential();
        h.trim_buckets(8f64.sqrt(), true);
        assert!((h.positive_buckets[1] - 4.0).abs() < 1e-12);
        let mut h = exponential();
        h.trim_buckets(-(2f64.sqrt()), false);
        assert!((h.negative_buckets[0] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn custom_buckets_are_split_evenly_and_infinite_ones_not_at_all() {
        let make = || FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 14.0,
            sum: 50.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
            positive_buckets: vec![4.0, 8.0, 2.0],
            custom_values: Some([2.0, 6.0].into()),
            ..FloatHistogram::default()
        };
        #[rustfmt::skip]
        let cases: &[(f64, bool, f64, f64, &[f64])] = &[
            (5.0, true, 10.0, 4.0 * 1.0 + 6.0 * 3.5, &[4.0, 6.0]),
            (5.0, false, 4.0, 2.0 * 5.5 + 2.0 * 6.0, &[2.0, 2.0]),
            (1.0, true, 2.0, 2.0 * 0.5, &[2.0]),
            (1.0, false, 12.0, 2.0 * 1.5 + 8.0 * 4.0 + 2.0 * 6.0, &[2.0, 8.0, 2.0]),
            (7.0, true, 12.0, 4.0 + 32.0, &[4.0, 8.0]),
            (7.0, false, 2.0, 14.0, &[2.0]),
            (-1.0, true, 0.0, 0.0, &[]),
        ];
        for (cut, below, count, sum, buckets) in cases {
            let mut h = make();
            h.trim_buckets(*cut, *below);
            assert_eq!((h.count, h.sum), (*count, *sum), "{cut} below {below}");
            assert_eq!(h.positive_buckets, *buckets, "{cut} below {below}");
        }
    }
}
