//! What `histogram_quantile`, `histogram_fraction` and `histogram_stdvar` compute from one native histogram.

use tsdbctl_model::histogram::Bucket;
use tsdbctl_model::kahan::kahan_inc;
use tsdbctl_model::{FloatHistogram, Span, go_math};
use tsdbctl_storage::annotations::Annotation;

/// What NaN observations did to a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanObservations {
    /// The quantile lies among them.
    QuantileIsNan,
    /// They moved the quantile up.
    QuantileIsSkewed,
    /// They are in no fraction.
    FractionExcludes,
}

impl NanObservations {
    /// Its info; `span` is that of the histogram's expression.
    pub fn annotation(self, metric_name: &str, span: Span) -> Annotation {
        match self {
            Self::QuantileIsNan => Annotation::native_histogram_quantile_nan_result(metric_name, span),
            Self::QuantileIsSkewed => Annotation::native_histogram_quantile_nan_skew(metric_name, span),
            Self::FractionExcludes => Annotation::native_histogram_fraction_nans(metric_name, span),
        }
    }
}

/// A histogram with buckets on one side only has no observations on the other side of zero.
fn narrow_zero_bucket(bucket: &mut Bucket, h: &FloatHistogram) {
    if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
        bucket.lower = 0.0;
    } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
        bucket.upper = 0.0;
    }
}

/// The quantile `q` (`HistogramQuantile` upstream). Inside a bucket observations are spread evenly on a
/// logarithmic scale, in custom and zero buckets on a linear one.
pub fn quantile(q: f64, h: &FloatHistogram) -> (f64, Option<NanObservations>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let forward = h.sum.is_nan() || q < 0.5;
    if forward {
        quantile_of(q * h.count, true, h.all_bucket_iter(), h)
    } else {
        quantile_of((1.0 - q) * h.count, false, h.all_reverse_bucket_iter(), h)
    }
}

fn quantile_of(
    mut rank: f64,
    forward: bool,
    mut buckets: impl Iterator<Item = Bucket>,
    h: &FloatHistogram,
) -> (f64, Option<NanObservations>) {
    let custom = h.uses_custom_buckets();
    let mut bucket = Bucket::default();
    let mut count = 0.0;
    for b in buckets.by_ref() {
        bucket = b;
        if b.count == 0.0 {
            continue;
        }
        count += b.count;
        if count >= rank {
            break;
        }
    }
    if !custom && bucket.lower < 0.0 && bucket.upper > 0.0 {
        narrow_zero_bucket(&mut bucket, h);
    } else if custom {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    }
    // Rounding may have counted more than there are.
    if count > h.count {
        count = h.count;
    }
    if count < rank {
        // Only NaN observations lie above all buckets.
        return if h.sum.is_nan() {
            (f64::NAN, Some(NanObservations::QuantileIsNan))
        } else {
            (bucket.upper, None)
        };
    }
    if forward {
        rank -= count - bucket.count;
    } else {
        rank = count - rank;
    }
    let mut note = None;
    if h.sum.is_nan() {
        // Upstream goes on with the last bucket it has looked at here.
        for b in buckets {
            bucket = b;
            count += b.count;
        }
        if count < h.count {
            note = Some(NanObservations::QuantileIsSkewed);
        }
    }
    let fraction = rank / bucket.count;
    if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (bucket.lower + (bucket.upper - bucket.lower) * fraction, note);
    }
    let log_lower = go_math::log2(bucket.lower.abs());
    let log_upper = go_math::log2(bucket.upper.abs());
    let v = if bucket.lower > 0.0 {
        go_math::exp2(log_lower + (log_upper - log_lower) * fraction)
    } else {
        -go_math::exp2(log_upper + (log_lower - log_upper) * (1.0 - fraction))
    };
    (v, note)
}

/// Which part of the observations lies between `lower` and `upper` (`HistogramFraction` upstream).
pub fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, Option<NanObservations>) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let custom = h.uses_custom_buckets();
    let mut buckets = h.all_bucket_iter();
    let (mut count, mut rank) = (0.0, 0.0);
    let (mut lower_rank, mut upper_rank) = (None, None);
    for mut b in buckets.by_ref() {
        count += b.count;
        let zero_bucket = b.lower <= 0.0 && b.upper >= 0.0;
        if zero_bucket {
            narrow_zero_bucket(&mut b, h);
        }
        let interpolated = |v: f64| {
            let linear = custom || zero_bucket;
            // A bucket without lower bound cannot be divided.
            if linear && b.lower == f64::NEG_INFINITY {
                b.count
            } else {
                rank + b.count * b.fraction_below(v, linear)
            }
        };
        if lower_rank.is_none() && b.lower >= lower {
            lower_rank = Some(rank);
        }
        if upper_rank.is_none() && b.lower >= upper {
            upper_rank = Some(rank);
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        if lower_rank.is_none() && b.lower < lower && b.upper > lower {
            lower_rank = Some(interpolated(lower));
        }
        if upper_rank.is_none() && b.lower < upper && b.upper > upper {
            upper_rank = Some(interpolated(upper));
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += b.count;
    }
    let mut note = None;
    if h.sum.is_nan() {
        for b in buckets {
            count += b.count;
        }
        if count < h.count {
            note = Some(NanObservations::FractionExcludes);
        }
    } else {
        count = h.count;
    }
    let capped = |rank: Option<f64>| match rank {
        Some(rank) if rank > count => count,
        Some(rank) => rank,
        None => count,
    };
    ((capped(upper_rank) - capped(lower_rank)) / h.count, note)
}

/// The variance, with every observation at its bucket's middle.
pub fn variance(h: &FloatHistogram) -> f64 {
    let custom = h.uses_custom_buckets();
    let mean = h.sum / h.count;
    let (mut variance, mut compensation) = (0.0, 0.0);
    for bucket in h.all_bucket_iter() {
        if bucket.count == 0.0 {
            continue;
        }
        let middle = if custom {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        kahan_inc(bucket.count * delta * delta, &mut variance, &mut compensation);
    }
    (variance + compensation) / h.count
}

#[cfg(test)]
mod tests {
    use tsdbctl_model::histogram::BucketSpan;

    use super::*;

    const NAN: f64 = f64::NAN;

    fn spans(all: &[(i32, u32)]) -> Vec<BucketSpan> {
        all.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
    }

    fn cases() -> Vec<FloatHistogram> {
        let base = FloatHistogram { zero_threshold: 0.001, zero_count: 2.0, ..FloatHistogram::default() };
        let small = FloatHistogram {
            sum: NAN,
            positive_spans: spans(&[(0, 3)]),
            positive_buckets: vec![1.0, 2.0, 3.0],
            ..base.clone()
        };
        let custom = |bounds: &[f64], buckets: &[f64]| FloatHistogram {
            schema: -53,
            count: 15.0,
            sum: 30.0,
            custom_values: Some(bounds.into()),
            positive_spans: spans(&[(0, buckets.len() as u32)]),
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        };
        vec![
            FloatHistogram {
                count: 12.0,
                sum: 100.0,
                positive_spans: spans(&[(0, 2), (1, 2)]),
                positive_buckets: vec![1.0, 2.0, 3.0, 4.0],
                ..base.clone()
            },
            FloatHistogram {
                schema: 3,
                count: 20.0,
                sum: -7.0,
                zero_threshold: 0.5,
                zero_count: 3.0,
                positive_spans: spans(&[(-9, 3)]),
                positive_buckets: vec![2.0, 0.0, 5.0],
                negative_spans: spans(&[(-10, 2), (3, 1)]),
                negative_buckets: vec![4.0, 1.0, 5.0],
                ..FloatHistogram::default()
            },
            FloatHistogram {
                schema: 1,
                count: 9.0,
                sum: -20.0,
                zero_threshold: 1e-128,
                zero_count: 1.0,
                negative_spans: spans(&[(0, 3)]),
                negative_buckets: vec![3.0, 2.0, 3.0],
                ..FloatHistogram::default()
            },
            custom(&[-1.0, 0.5, 2.0, 10.0], &[1.0, 4.0, 5.0, 3.0, 2.0]),
            custom(&[1.0, 5.0], &[5.0, 8.0, 2.0]),
            FloatHistogram { count: 12.0, ..small.clone() },
            FloatHistogram { count: 8.0, ..small },
            FloatHistogram::default(),
        ]
    }

    fn float(text: &str) -> f64 {
        if text == "NAN" { NAN } else { f64::from_bits(u64::from_str_radix(text, 16).unwrap()) }
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    #[test]
    fn quantiles_of_the_reference() {
        let cases = cases();
        let mut lines = 0;
        for line in include_str!("reference/native_quantile.txt").lines().filter(|l| !l.starts_with('#')) {
            let f: Vec<&str> = line.split(' ').collect();
            let (got, note) = quantile(float(f[1]), &cases[f[0].parse::<usize>().unwrap()]);
            assert!(same(got, float(f[2])), "{line}: {got}");
            let note = match note {
                None => "0",
                Some(NanObservations::QuantileIsNan) => "1",
                Some(_) => "2",
            };
            assert_eq!(note, f[3], "{line}");
            lines += 1;
        }
        assert_eq!(lines, 80);
    }

    #[test]
    fn fractions_of_the_reference() {
        let cases = cases();
        let mut lines = 0;
        for line in include_str!("reference/native_fraction.txt").lines().filter(|l| !l.starts_with('#')) {
            let f: Vec<&str> = line.split(' ').collect();
            let (got, note) = fraction(float(f[1]), float(f[2]), &cases[f[0].parse::<usize>().unwrap()]);
            assert!(same(got, float(f[3])), "{line}: {got}");
            assert_eq!(u32::from(note.is_some()).to_string(), f[4], "{line}");
            lines += 1;
        }
        assert_eq!(lines, 88);
    }

    #[test]
    fn variances_put_observations_in_the_middle_of_their_bucket() {
        // Mean 2; (0.25, 2] custom around 1.125, (2, 4] around 3: 2·0.875² + 2·1² over 4.
        let custom = FloatHistogram {
            schema: -53,
            count: 4.0,
            sum: 8.0,
            custom_values: Some([0.25, 2.0, 4.0].as_slice().into()),
            positive_spans: spans(&[(1, 2)]),
            positive_buckets: vec![2.0, 2.0],
            ..FloatHistogram::default()
        };
        assert_eq!(variance(&custom), 0.8828125);
        // Buckets (2, 8]-like: schema -1, (1, 4] at 2 and the negative one at -2, zero bucket at 0; mean 0.
        let exponential = FloatHistogram {
            schema: -1,
            count: 4.0,
            zero_count: 2.0,
            zero_threshold: 0.1,
            positive_spans: spans(&[(1, 1)]),
            positive_buckets: vec![1.0],
            negative_spans: spans(&[(1, 1)]),
            negative_buckets: vec![1.0],
            ..FloatHistogram::default()
        };
        assert_eq!(variance(&exponential), 2.0);
        assert!(variance(&FloatHistogram::default()).is_nan());
    }
}
