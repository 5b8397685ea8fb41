//! When two histograms are the same data: bit for bit, whatever empty spans describe the layout.

use super::schema::custom_bounds_match;
use super::{BucketSpan, FloatHistogram, Histogram};

impl FloatHistogram {
    /// Whether both hold the same buckets, empty ones included, with the same bits in all counts and the sum.
    /// The counter reset hint does not count.
    pub fn equals(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && (!self.uses_custom_buckets()
                || custom_bounds_match(self.custom_bounds(), other.custom_bounds()))
            && self.zero_threshold == other.zero_threshold
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && spans_match(&self.negative_spans, &other.negative_spans)
            && same_bits(&self.negative_buckets, &other.negative_buckets)
            && spans_match(&self.positive_spans, &other.positive_spans)
            && same_bits(&self.positive_buckets, &other.positive_buckets)
    }
}

impl Histogram {
    /// As [`FloatHistogram::equals`].
    pub fn equals(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.count == other.count
            && self.sum.to_bits() == other.sum.to_bits()
            && (!self.uses_custom_buckets()
                || custom_bounds_match(self.custom_bounds(), other.custom_bounds()))
            && self.zero_threshold == other.zero_threshold
            && self.zero_count == other.zero_count
            && spans_match(&self.negative_spans, &other.negative_spans)
            && self.negative_buckets == other.negative_buckets
            && spans_match(&self.positive_spans, &other.positive_spans)
            && self.positive_buckets == other.positive_buckets
    }
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Whether two span lists are the same once spans without buckets are folded into the next offset.
pub fn spans_match(a: &[BucketSpan], b: &[BucketSpan]) -> bool {
    a == b || populated(a).eq(populated(b))
}

fn populated(spans: &[BucketSpan]) -> impl Iterator<Item = BucketSpan> + '_ {
    let mut offset = 0i32;
    spans.iter().filter_map(move |span| {
        offset = offset.wrapping_add(span.offset);
        if span.length == 0 {
            return None;
        }
        let folded = BucketSpan { offset, length: span.length };
        offset = 0;
        Some(folded)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Layout = &'static [(i32, u32)];

    fn spans(list: &[(i32, u32)]) -> Vec<BucketSpan> {
        list.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
    }

    #[test]
    fn empty_spans_do_not_matter() {
        #[rustfmt::skip]
        let cases: &[(Layout, Layout, bool)] = &[
            (&[], &[], true),
            (&[], &[(3, 0)], true),
            (&[(1, 2)], &[(1, 2), (4, 0), (1, 0)], true),
            (&[(1, 2), (3, 1)], &[(1, 2), (1, 0), (2, 1)], true),
            (&[(1, 2)], &[(0, 0), (1, 0), (0, 2)], true),
            (&[(1, 2)], &[(2, 2)], false),
            (&[(1, 2)], &[(1, 1)], false),
            (&[(1, 2)], &[(1, 1), (0, 1)], false),
            (&[(1, 2)], &[(1, 2), (1, 1)], false),
        ];
        for (a, b, want) in cases {
            assert_eq!(spans_match(&spans(a), &spans(b)), *want, "{a:?} {b:?}");
            assert_eq!(spans_match(&spans(b), &spans(a)), *want, "{b:?} {a:?}");
        }
    }

    #[test]
    fn counts_compare_by_bits() {
        let h = FloatHistogram { sum: f64::from_bits(0x7ff0_0000_0000_0002), ..Default::default() };
        assert!(h.equals(&h.clone()));
        assert!(!h.equals(&FloatHistogram { sum: f64::NAN, ..Default::default() }));
        let zero = FloatHistogram::default();
        assert!(!zero.equals(&FloatHistogram { zero_count: -0.0, ..Default::default() }));
        assert!(zero.equals(&FloatHistogram {
            counter_reset_hint: super::super::CounterResetHint::Gauge,
            ..Default::default()
        }));
    }
}
