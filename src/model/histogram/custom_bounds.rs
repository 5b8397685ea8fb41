//! Sums of histograms with different custom bounds: both are mapped to the bounds they share.

use super::layout::SpanBuilder;
use super::{BucketSpan, FloatHistogram};
use crate::kahan::{kahan_dec, kahan_inc};

/// The bounds that occur in both rising sets.
pub(super) fn intersect(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut shared = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            shared.push(a[i]);
            i += 1;
            j += 1;
        } else if a[i] < b[j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    shared
}

/// A sum in shared bounds, populated buckets only.
pub(super) struct Mapped {
    pub(super) spans: Vec<BucketSpan>,
    pub(super) buckets: Vec<f64>,
    pub(super) errors: Vec<f64>,
}

struct Target<'a> {
    bounds: &'a [f64],
    buckets: Vec<f64>,
    errors: Vec<f64>,
}

impl Target<'_> {
    /// Adds the buckets of `h`, and `errors` as their compensation.
    fn map(&mut self, h: &FloatHistogram, errors: Option<&[f64]>, negative: bool) {
        let bounds = h.custom_bounds();
        let mut reached = 0;
        let indices = super::bucket::SpanIndices::new(&h.positive_spans);
        for (i, (index, value)) in indices.zip(&h.positive_buckets).enumerate() {
            let mut target = self.bounds.len();
            if let Some(bound) = usize::try_from(index).ok().and_then(|index| bounds.get(index)) {
                while reached < self.bounds.len() && self.bounds[reached] < *bound {
                    reached += 1;
                }
                target = reached;
            }
            let (sum, c) = (&mut self.buckets[target], &mut self.errors[target]);
            if negative {
                kahan_dec(*value, sum, c);
                continue;
            }
            kahan_inc(*value, sum, c);
            if let Some(error) = errors.and_then(|e| e.get(i)) {
                kahan_inc(*error, sum, c);
            }
        }
    }
}

/// `a + b`, or `a − b`, in the `shared` bounds, with the compensation `errors` of `a` added in.
pub(super) fn combine(
    a: &FloatHistogram,
    b: &FloatHistogram,
    errors: Option<&[f64]>,
    shared: &[f64],
    negative: bool,
) -> Mapped {
    let size = shared.len() + 1;
    let mut target = Target { bounds: shared, buckets: vec![0.0; size], errors: vec![0.0; size] };
    target.map(a, errors, false);
    target.map(b, None, negative);
    let mut spans = SpanBuilder::default();
    let (mut buckets, mut errors) = (target.buckets, target.errors);
    let mut kept = 0;
    for i in 0..size {
        if buckets[i] == 0.0 && errors[i] == 0.0 {
            continue;
        }
        spans.push(i as i32);
        buckets[kept] = buckets[i];
        errors[kept] = errors[i];
        kept += 1;
    }
    buckets.truncate(kept);
    errors.truncate(kept);
    Mapped { spans: spans.finish(), buckets, errors }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shared_bounds_stay() {
        let cases: &[(&[f64], &[f64], &[f64])] = &[
            (&[], &[1.0], &[]),
            (&[1.0, 2.0], &[1.0, 2.0], &[1.0, 2.0]),
            (&[1.0, 2.0, 4.0, 8.0], &[2.0, 3.0, 8.0, 9.0], &[2.0, 8.0]),
            (&[1.0], &[2.0], &[]),
        ];
        for (a, b, want) in cases {
            assert_eq!(intersect(a, b), *want);
            assert_eq!(intersect(b, a), *want);
        }
    }
}
