//! What `histogram_quantile`, `histogram_fraction` and `histogram_stdvar` compute from one native histogram.

use tsdbctl_model::histogram::Bucket;
use tsdbctl_model::kahan::kahan_inc;
use tsdbctl_model::{FloatHistogram, Span, go_math};
use tsdbctl_storage::annotations::Annotation;

use super::ScalarArg;
use crate::engine::column::Column;

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

/// `histogram_quantile` of a series' histograms, added to `out` as floats.
pub fn quantiles(
    phi: ScalarArg<'_>,
    column: &Column,
    out: &mut Column,
    metric_name: &str,
    span: Span,
    annotations: &mut dyn FnMut(Annotation),
) {
    for (k, h) in &column.histograms {
        let k = *k as usize;
        let (v, note) = quantile(phi.at(k), h);
        out.set_float(k, v);
        if let Some(note) = note {
            annotations(note.annotation(metric_name, span));
        }
    }
}

/// `histogram_fraction` of a series' histograms, added to `out` as floats.
pub fn fractions(
    lower: ScalarArg<'_>,
    upper: ScalarArg<'_>,
    column: &Column,
    out: &mut Column,
    metric_name: &str,
    span: Span,
    annotations: &mut dyn FnMut(Annotation),
) {
    for (k, h) in &column.histograms {
        let k = *k as usize;
        let (v, note) = fraction(lower.at(k), upper.at(k), h);
        out.set_float(k, v);
        if let Some(note) = note {
            annotations(note.annotation(metric_name, span));
        }
    }
}
