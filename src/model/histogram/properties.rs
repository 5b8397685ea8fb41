//! What must hold for any histogram: sums, differences, layouts and resets against plain counting by bucket.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, FloatHistogram, SpanIndices, bound_exponential};

/// Spans, zero-length ones included, with small whole counts so that sums are exact.
fn side(first: std::ops::Range<i32>) -> impl Strategy<Value = (Vec<BucketSpan>, Vec<f64>)> {
    (first, prop::collection::vec((0i32..4, prop::collection::vec(0u32..6, 0..5)), 0..5)).prop_map(
        |(first, runs)| {
            let mut spans = Vec::new();
            let mut buckets = Vec::new();
            for (i, (gap, counts)) in runs.into_iter().enumerate() {
                let offset = if i == 0 { first } else { gap };
                spans.push(BucketSpan { offset, length: counts.len() as u32 });
                buckets.extend(counts.into_iter().map(f64::from));
            }
            (spans, buckets)
        },
    )
}

/// No populated bucket lies in the zero bucket, and that ends at a bound of every schema used: elsewhere sums
/// lose observations, by upstream's rules.
fn exponential() -> impl Strategy<Value = FloatHistogram> {
    let zero = (prop::sample::select(vec![0.0, 0.0625, 1.0, 16.0]), 0u32..9);
    (-2i32..3, zero, side(-6..6), side(-6..6)).prop_map(|(schema, zero, positive, negative)| {
        let (zero_threshold, zero_count) = (zero.0, f64::from(zero.1));
        let [positive, negative] = [positive, negative].map(|(spans, mut buckets)| {
            for (index, bucket) in SpanIndices::new(&spans).zip(&mut buckets) {
                if bound_exponential(index, schema) <= zero_threshold {
                    *bucket = 0.0;
                }
            }
            (spans, buckets)
        });
        let count = zero_count + positive.1.iter().chain(&negative.1).sum::<f64>();
        FloatHistogram {
            schema,
            zero_threshold,
            zero_count,
            count,
            sum: 2.0 * count,
            positive_spans: positive.0,
            positive_buckets: positive.1,
            negative_spans: negative.0,
            negative_buckets: negative.1,
            ..FloatHistogram::default()
        }
    })
}

fn custom() -> impl Strategy<Value = FloatHistogram> {
    (prop::collection::btree_set(-5i32..9, 0..7), prop::collection::vec(0u32..6, 8)).prop_map(
        |(bounds, counts)| {
            let bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
            let buckets: Vec<f64> = counts.into_iter().take(bounds.len() + 1).map(f64::from).collect();
            let count = buckets.iter().sum();
            FloatHistogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count,
                sum: 3.0 * count,
                positive_spans: vec![BucketSpan { offset: 0, length: buckets.len() as u32 }],
                positive_buckets: buckets,
                custom_values: (!bounds.is_empty()).then(|| bounds.into()),
                ..FloatHistogram::default()
            }
        },
    )
}

fn pairs() -> impl Strategy<Value = (FloatHistogram, FloatHistogram)> {
    prop_oneof![(exponential(), exponential()), (custom(), custom())]
}

fn populated(spans: &[BucketSpan], buckets: &[f64]) -> BTreeMap<i32, u64> {
    SpanIndices::new(spans).zip(buckets).filter(|(_, b)| **b != 0.0).map(|(i, b)| (i, b.to_bits())).collect()
}

fn total(h: &FloatHistogram) -> f64 {
    h.zero_count + h.positive_buckets.iter().chain(&h.negative_buckets).sum::<f64>()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_do_not_depend_on_order((a, b) in pairs()) {
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.add(&b).unwrap();
        ba.add(&a).unwrap();
        prop_assert_eq!(ab.compact(0).to_string(), ba.compact(0).to_string());
        prop_assert_eq!(total(&ab), a.count + b.count);
        prop_assert_eq!(ab.validate(), Ok(()));
    }

    #[test]
    fn compensated_sums_of_whole_counts_are_plain_sums((a, b) in pairs()) {
        let (mut plain, mut compensated) = (a.clone(), a.clone());
        plain.add(&b).unwrap();
        let (c, _) = compensated.kahan_add(&b, None).unwrap();
        prop_assert_eq!(plain.to_string(), compensated.to_string());
        prop_assert_eq!(c.positive_spans, compensated.positive_spans);
        prop_assert_eq!(c.negative_spans, compensated.negative_spans);
        prop_assert_eq!(c.positive_buckets.len(), compensated.positive_buckets.len());
        prop_assert_eq!(c.negative_buckets.len(), compensated.negative_buckets.len());
    }

    #[test]
    fn a_difference_takes_back_a_sum(a in exponential(), b in exponential()) {
        let b = FloatHistogram { schema: a.schema, zero_threshold: a.zero_threshold, ..b };
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        sum.sub(&b).unwrap();
        sum.compact(0);
        let mut original = a.clone();
        original.compact(0);
        prop_assert_eq!(original.to_string(), sum.to_string());
    }

    #[test]
    fn compaction_keeps_populated_buckets(h in exponential(), max_empty in 0usize..4) {
        let mut compacted = h.clone();
        compacted.compact(max_empty);
        prop_assert_eq!(
            populated(&h.positive_spans, &h.positive_buckets),
            populated(&compacted.positive_spans, &compacted.positive_buckets)
        );
        prop_assert_eq!(
            populated(&h.negative_spans, &h.negative_buckets),
            populated(&compacted.negative_spans, &compacted.negative_buckets)
        );
        prop_assert_eq!(compacted.validate(), Ok(()));
        for (i, span) in compacted.positive_spans.iter().enumerate() {
            prop_assert!(span.length > 0 && (i == 0 || span.offset as usize > max_empty));
        }
        let once = compacted.clone();
        compacted.compact(max_empty);
        prop_assert!(once.equals(&compacted));
        prop_assert_eq!(once.positive_spans, compacted.positive_spans);
    }

    #[test]
    fn coarser_copies_keep_all_observations(h in exponential(), by in 1i32..3) {
        let coarse = h.copy_to_schema(h.schema - by).unwrap();
        prop_assert_eq!(total(&h), total(&coarse));
        prop_assert_eq!(coarse.validate(), Ok(()));
        let mut reduced = h.clone();
        reduced.reduce_resolution(h.schema - by).unwrap();
        prop_assert!(reduced.equals(&coarse));
        let mut step = h.clone();
        for schema in (h.schema - by..h.schema).rev() {
            step.reduce_resolution(schema).unwrap();
        }
        prop_assert_eq!(step.to_string(), coarse.to_string());
        // A counter that only became coarser did not reset.
        prop_assert!(!coarse.detect_reset(&h));
    }

    #[test]
    fn growth_is_no_reset_and_loss_is((a, b) in pairs()) {
        let mut grown = a.clone();
        grown.add(&b).unwrap();
        prop_assert!(!grown.detect_reset(&a));
        if b.count > 0.0 {
            prop_assert!(a.detect_reset(&grown));
        }
    }

    #[test]
    fn a_cut_keeps_at_most_what_was_there(h in exponential(), cut in -20.0f64..20.0) {
        let (mut below, mut above) = (h.clone(), h.clone());
        below.trim_buckets(cut, true);
        above.trim_buckets(cut, false);
        let kept = below.count + above.count;
        prop_assert!((kept - h.count).abs() <= 1e-9 * h.count.max(1.0), "{} of {}", kept, h.count);
        prop_assert_eq!(below.validate(), Ok(()));
        prop_assert_eq!(above.validate(), Ok(()));
    }
}
