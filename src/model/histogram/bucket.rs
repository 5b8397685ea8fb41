//! One bucket, and the walks over a histogram's buckets: up, down, one side or all.

use super::schema::{
    bound, bound_exponential, is_custom_buckets_schema, is_exponential_schema, target_index,
};
use super::{BucketSpan, FloatHistogram, Histogram};
use crate::go_math::log2;

/// A bucket with its bounds; `count` is absolute. The index tells buckets of one schema and side apart and
/// means nothing for the zero bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket<C = f64> {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether an observation of exactly `lower` counts here.
    pub lower_inclusive: bool,
    /// Whether an observation of exactly `upper` counts here.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: C,
    /// Index within the schema.
    pub index: i32,
}

impl<C> Bucket<C> {
    /// The bucket `index` of one side.
    #[inline]
    pub fn at(index: i32, count: C, schema: i32, positive: bool, custom_values: &[f64]) -> Self {
        let outer = bound(index, schema, custom_values);
        let inner = bound(index.wrapping_sub(1), schema, custom_values);
        let (lower, upper) = if positive { (inner, outer) } else { (-outer, -inner) };
        let (lower_inclusive, upper_inclusive) =
            if is_custom_buckets_schema(schema) { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Self { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }

    /// Which part of the bucket lies below `v`, from 0 to 1, for finite bounds around `v`: `linear` as custom
    /// and zero buckets spread their observations, otherwise on a logarithmic scale.
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let log_lower = log2(self.lower.abs());
        let log_upper = log2(self.upper.abs());
        let log_v = log2(v.abs());
        if v > 0.0 {
            return (log_v - log_lower) / (log_upper - log_lower);
        }
        1.0 - ((log_v - log_upper) / (log_lower - log_upper))
    }
}

/// The bucket indices that spans describe, rising.
#[derive(Clone, Debug)]
pub struct SpanIndices<'a> {
    spans: std::slice::Iter<'a, BucketSpan>,
    left: u32,
    index: i32,
}

impl<'a> SpanIndices<'a> {
    /// The indices of `spans`.
    #[inline]
    pub fn new(spans: &'a [BucketSpan]) -> Self {
        Self { spans: spans.iter(), left: 0, index: 0 }
    }
}

impl Iterator for SpanIndices<'_> {
    type Item = i32;

    #[inline]
    fn next(&mut self) -> Option<i32> {
        while self.left == 0 {
            let span = self.spans.next()?;
            self.index = self.index.wrapping_add(span.offset);
            self.left = span.length;
        }
        self.left -= 1;
        let index = self.index;
        self.index = index.wrapping_add(1);
        Some(index)
    }
}

/// Index and count of one side's buckets going away from zero, merged into a coarser schema where wanted and
/// without the first ones up to a threshold.
#[derive(Clone, Debug)]
pub(super) struct Counts<'a> {
    indices: SpanIndices<'a>,
    buckets: std::slice::Iter<'a, f64>,
    schema: i32,
    target_schema: i32,
    /// A bucket of the next target index, read ahead while merging.
    ahead: Option<(i32, f64)>,
    /// Buckets whose bound is not above this are skipped until the first that is.
    threshold: f64,
    skipping: bool,
}

impl<'a> Counts<'a> {
    pub(super) fn new(
        spans: &'a [BucketSpan],
        buckets: &'a [f64],
        schema: i32,
        target_schema: i32,
        threshold: f64,
    ) -> Self {
        Self {
            indices: SpanIndices::new(spans),
            buckets: buckets.iter(),
            schema,
            target_schema,
            ahead: None,
            threshold,
            skipping: threshold != 0.0 && is_exponential_schema(target_schema),
        }
    }

    #[inline]
    fn original(&mut self) -> Option<(i32, f64)> {
        Some((self.indices.next()?, *self.buckets.next()?))
    }

    fn merged(&mut self) -> Option<(i32, f64)> {
        let (index, mut count) = match self.ahead.take() {
            Some(first) => first,
            None => {
                let (index, count) = self.original()?;
                (target_index(index, self.schema, self.target_schema), count)
            }
        };
        while let Some((next, c)) = self.original() {
            let next = target_index(next, self.schema, self.target_schema);
            if next != index {
                self.ahead = Some((next, c));
                break;
            }
            count += c;
        }
        Some((index, count))
    }
}

impl Iterator for Counts<'_> {
    type Item = (i32, f64);

    #[inline]
    fn next(&mut self) -> Option<(i32, f64)> {
        loop {
            let found = if self.schema == self.target_schema { self.original()? } else { self.merged()? };
            if self.skipping && bound_exponential(found.0, self.target_schema) <= self.threshold {
                continue;
            }
            self.skipping = false;
            return Some(found);
        }
    }
}

/// One side's buckets going away from zero.
#[derive(Clone, Debug)]
pub struct Buckets<'a> {
    counts: Counts<'a>,
    positive: bool,
    custom_values: &'a [f64],
}

impl Iterator for Buckets<'_> {
    type Item = Bucket;

    #[inline]
    fn next(&mut self) -> Option<Bucket> {
        let (index, count) = self.counts.next()?;
        Some(Bucket::at(index, count, self.counts.target_schema, self.positive, self.custom_values))
    }
}

/// One side's buckets going towards zero.
#[derive(Clone, Debug)]
pub struct ReverseBuckets<'a> {
    spans: &'a [BucketSpan],
    buckets: std::slice::Iter<'a, f64>,
    /// Buckets left in the last of `spans`.
    left: u32,
    /// Index behind the next bucket.
    index: i32,
    schema: i32,
    positive: bool,
    custom_values: &'a [f64],
}

impl<'a> ReverseBuckets<'a> {
    fn new(
        spans: &'a [BucketSpan],
        buckets: &'a [f64],
        schema: i32,
        positive: bool,
        custom_values: &'a [f64],
    ) -> Self {
        let index = spans.iter().fold(0i32, |i, s| i.wrapping_add(s.offset).wrapping_add(s.length as i32));
        let left = spans.last().map_or(0, |s| s.length);
        Self { spans, buckets: buckets.iter(), left, index, schema, positive, custom_values }
    }
}

impl Iterator for ReverseBuckets<'_> {
    type Item = Bucket;

    fn next(&mut self) -> Option<Bucket> {
        while self.left == 0 {
            let (last, rest) = self.spans.split_last()?;
            self.left = rest.last()?.length;
            self.index = self.index.wrapping_sub(last.offset);
            self.spans = rest;
        }
        let count = *self.buckets.next_back()?;
        self.left -= 1;
        self.index = self.index.wrapping_sub(1);
        Some(Bucket::at(self.index, count, self.schema, self.positive, self.custom_values))
    }
}

/// All buckets, zero bucket included where populated, rising or falling. Buckets that overlap the zero bucket
/// are cut at its threshold.
#[derive(Clone, Debug)]
pub struct AllBuckets<'a> {
    inward: Option<ReverseBuckets<'a>>,
    zero: Option<Bucket>,
    outward: Buckets<'a>,
    zero_threshold: f64,
}

impl Iterator for AllBuckets<'_> {
    type Item = Bucket;

    fn next(&mut self) -> Option<Bucket> {
        if let Some(inward) = &mut self.inward {
            if let Some(b) = inward.next() {
                return Some(clip(b, self.zero_threshold));
            }
            self.inward = None;
            if let Some(zero) = self.zero.take() {
                return Some(zero);
            }
        }
        self.outward.next().map(|b| clip(b, self.zero_threshold))
    }
}

#[inline]
fn clip(mut b: Bucket, zero_threshold: f64) -> Bucket {
    if b.upper < 0.0 && b.upper > -zero_threshold {
        b.upper = -zero_threshold;
    } else if b.lower > 0.0 && b.lower < zero_threshold {
        b.lower = zero_threshold;
    }
    b
}

impl FloatHistogram {
    /// The zero bucket; without meaning for custom buckets.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    pub(super) fn counts(&self, positive: bool, threshold: f64, target_schema: i32) -> Counts<'_> {
        let (spans, buckets) = self.side(positive);
        Counts::new(spans, buckets, self.schema, target_schema, threshold)
    }

    /// Spans and buckets of one side.
    #[inline]
    pub fn side(&self, positive: bool) -> (&[BucketSpan], &[f64]) {
        if positive {
            (&self.positive_spans, &self.positive_buckets)
        } else {
            (&self.negative_spans, &self.negative_buckets)
        }
    }

    /// Positive buckets, rising from zero.
    pub fn positive_bucket_iter(&self) -> Buckets<'_> {
        Buckets {
            counts: self.counts(true, 0.0, self.schema),
            positive: true,
            custom_values: self.custom_bounds(),
        }
    }

    /// Negative buckets, falling from zero.
    pub fn negative_bucket_iter(&self) -> Buckets<'_> {
        Buckets { counts: self.counts(false, 0.0, self.schema), positive: false, custom_values: &[] }
    }

    /// Positive buckets, falling to zero.
    pub fn positive_reverse_bucket_iter(&self) -> ReverseBuckets<'_> {
        ReverseBuckets::new(
            &self.positive_spans,
            &self.positive_buckets,
            self.schema,
            true,
            self.custom_bounds(),
        )
    }

    /// Negative buckets, rising to zero.
    pub fn negative_reverse_bucket_iter(&self) -> ReverseBuckets<'_> {
        ReverseBuckets::new(&self.negative_spans, &self.negative_buckets, self.schema, false, &[])
    }

    /// All buckets, rising.
    pub fn all_bucket_iter(&self) -> AllBuckets<'_> {
        AllBuckets {
            inward: Some(self.negative_reverse_bucket_iter()),
            zero: self.populated_zero_bucket(),
            outward: self.positive_bucket_iter(),
            zero_threshold: self.zero_threshold,
        }
    }

    /// All buckets, falling.
    pub fn all_reverse_bucket_iter(&self) -> AllBuckets<'_> {
        AllBuckets {
            inward: Some(self.positive_reverse_bucket_iter()),
            zero: self.populated_zero_bucket(),
            outward: self.negative_bucket_iter(),
            zero_threshold: self.zero_threshold,
        }
    }

    fn populated_zero_bucket(&self) -> Option<Bucket> {
        (self.zero_count > 0.0).then(|| self.zero_bucket())
    }
}

/// One side's buckets of an integer histogram, going away from zero.
#[derive(Clone, Debug)]
pub struct IntegerBuckets<'a> {
    indices: SpanIndices<'a>,
    deltas: std::slice::Iter<'a, i64>,
    count: i64,
    schema: i32,
    positive: bool,
    custom_values: &'a [f64],
}

impl Iterator for IntegerBuckets<'_> {
    type Item = Bucket<u64>;

    fn next(&mut self) -> Option<Bucket<u64>> {
        let index = self.indices.next()?;
        self.count = self.count.wrapping_add(*self.deltas.next()?);
        Some(Bucket::at(index, self.count as u64, self.schema, self.positive, self.custom_values))
    }
}

impl Histogram {
    /// The zero bucket; without meaning for custom buckets.
    pub fn zero_bucket(&self) -> Bucket<u64> {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// Positive buckets, rising from zero.
    pub fn positive_bucket_iter(&self) -> IntegerBuckets<'_> {
        IntegerBuckets {
            indices: SpanIndices::new(&self.positive_spans),
            deltas: self.positive_buckets.iter(),
            count: 0,
            schema: self.schema,
            positive: true,
            custom_values: self.custom_bounds(),
        }
    }

    /// Negative buckets, falling from zero.
    pub fn negative_bucket_iter(&self) -> IntegerBuckets<'_> {
        IntegerBuckets {
            indices: SpanIndices::new(&self.negative_spans),
            deltas: self.negative_buckets.iter(),
            count: 0,
            schema: self.schema,
            positive: false,
            custom_values: &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CUSTOM_BUCKETS_SCHEMA;

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset, length }
    }

    fn both_sides() -> FloatHistogram {
        FloatHistogram {
            zero_threshold: 0.75,
            zero_count: 5.0,
            positive_spans: vec![span(0, 1), span(0, 0), span(2, 2)],
            positive_buckets: vec![1.0, 2.0, 3.0],
            negative_spans: vec![span(-1, 3)],
            negative_buckets: vec![4.0, 0.0, 6.0],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn all_buckets_rise_or_fall_and_stop_at_the_zero_bucket() {
        let h = both_sides();
        let rising: Vec<_> = h.all_bucket_iter().map(|b| (b.lower, b.upper, b.count)).collect();
        let want = [
            (-2.0, -1.0, 6.0),
            (-1.0, -0.75, 0.0),
            (-0.5, -0.75, 4.0),
            (-0.75, 0.75, 5.0),
            (0.75, 1.0, 1.0),
            (4.0, 8.0, 2.0),
            (8.0, 16.0, 3.0),
        ];
        assert_eq!(rising, want);
        let mut falling: Vec<_> = h.all_reverse_bucket_iter().map(|b| (b.lower, b.upper, b.count)).collect();
        falling.reverse();
        assert_eq!(falling, want);
    }

    #[test]
    fn reverse_is_forward_backwards() {
        let h = both_sides();
        let mut reverse: Vec<_> = h.positive_reverse_bucket_iter().collect();
        reverse.reverse();
        assert_eq!(h.positive_bucket_iter().collect::<Vec<_>>(), reverse);
        assert_eq!(reverse.iter().map(|b| b.index).collect::<Vec<_>>(), [0, 3, 4]);
    }

    #[test]
    fn which_bounds_belong_to_a_bucket() {
        let positive = Bucket::at(1, 1.0, 0, true, &[]);
        assert_eq!((positive.lower_inclusive, positive.upper_inclusive), (false, true));
        let negative = Bucket::at(1, 1.0, 0, false, &[]);
        assert_eq!((negative.lower_inclusive, negative.upper_inclusive), (true, false));
        let first = Bucket::at(0, 1.0, CUSTOM_BUCKETS_SCHEMA, true, &[3.0]);
        assert_eq!((first.lower_inclusive, first.upper_inclusive), (true, true));
        let last = Bucket::at(1, 1.0, CUSTOM_BUCKETS_SCHEMA, true, &[3.0]);
        assert_eq!((last.lower, last.upper, last.lower_inclusive), (3.0, f64::INFINITY, false));
    }

    #[test]
    fn counts_merge_into_coarser_schemas_and_skip_small_buckets() {
        let (spans, buckets) = ([span(1, 3), span(1, 1)], [1.0, 2.0, 4.0, 8.0]);
        // Indices 1, 2 | 3 | 5 of schema 1 are 1, 2 and 3 of schema 0, with bounds 2, 4 and 8.
        let merged: Vec<_> = Counts::new(&spans, &buckets, 1, 0, 0.0).collect();
        assert_eq!(merged, [(1, 3.0), (2, 4.0), (3, 8.0)]);
        let above: Vec<_> = Counts::new(&spans, &buckets, 1, 0, 2.0).collect();
        assert_eq!(above, [(2, 4.0), (3, 8.0)]);
    }

    #[test]
    fn broken_layouts_end_the_walk() {
        let h = FloatHistogram {
            positive_spans: vec![span(i32::MAX, u32::MAX), span(i32::MIN, 7)],
            positive_buckets: vec![1.0, 2.0],
            negative_spans: vec![],
            negative_buckets: vec![1.0],
            ..FloatHistogram::default()
        };
        assert_eq!(h.positive_bucket_iter().count(), 2);
        assert_eq!(h.positive_reverse_bucket_iter().count(), 2);
        assert_eq!(h.all_bucket_iter().count(), 2);
    }

    #[test]
    fn fraction_below_a_value() {
        let b = Bucket::at(2, 1.0, 0, true, &[]);
        assert_eq!((b.lower, b.upper), (2.0, 4.0));
        assert_eq!(b.fraction_below(2.5, true), 0.25);
        assert_eq!(b.fraction_below(8f64.sqrt(), false), 0.5);
        let b = Bucket::at(2, 1.0, 0, false, &[]);
        assert_eq!(b.fraction_below(-8f64.sqrt(), false), 0.5);
        assert_eq!(b.fraction_below(-4.0, false), 0.0);
    }
}
