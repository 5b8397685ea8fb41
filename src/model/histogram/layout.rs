//! How buckets are laid out in spans: building spans, cutting empty buckets, coarser resolutions.

use super::bucket::SpanIndices;
use super::schema::{is_custom_buckets_schema, target_index};
use super::{BucketSpan, FloatHistogram, Histogram, HistogramError};
use crate::kahan::kahan_inc;

/// Collects rising bucket indices into spans.
#[derive(Debug, Default)]
pub(super) struct SpanBuilder {
    spans: Vec<BucketSpan>,
    next: i32,
}

impl SpanBuilder {
    /// Adds the bucket `index`, which must lie behind all before.
    #[inline]
    pub(super) fn push(&mut self, index: i32) {
        match self.spans.last_mut() {
            Some(last) if index == self.next => last.length += 1,
            _ => self.spans.push(BucketSpan { offset: index.wrapping_sub(self.next), length: 1 }),
        }
        self.next = index.wrapping_add(1);
    }

    pub(super) fn finish(self) -> Vec<BucketSpan> {
        self.spans
    }
}

/// A stored bucket: floats are absolute counts, integers deltas to the bucket before.
trait BucketValue: Copy + Default {
    /// The absolute count, given the one before.
    fn absolute(self, previous: Self) -> Self;
    /// What to store for the absolute count `self` behind the absolute count `previous`.
    fn stored(self, previous: Self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn is_zero(self) -> bool;
}

impl BucketValue for f64 {
    #[inline]
    fn absolute(self, _previous: Self) -> Self {
        self
    }
    #[inline]
    fn stored(self, _previous: Self) -> Self {
        self
    }
    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }
    #[inline]
    fn is_zero(self) -> bool {
        self == 0.0
    }
}

impl BucketValue for i64 {
    #[inline]
    fn absolute(self, previous: Self) -> Self {
        previous.wrapping_add(self)
    }
    #[inline]
    fn stored(self, previous: Self) -> Self {
        self.wrapping_sub(previous)
    }
    #[inline]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    #[inline]
    fn is_zero(self) -> bool {
        self == 0
    }
}

/// Cuts empty buckets at the ends of spans and runs of more than `max_empty` of them within; joins spans at
/// most `max_empty` apart. A bucket with a compensation other than 0 is not empty.
fn compact<T: BucketValue>(
    spans: &mut Vec<BucketSpan>,
    buckets: &mut Vec<T>,
    compensation: Option<&mut Vec<f64>>,
    max_empty: usize,
) {
    let mut absolute = T::default();
    let populated = buckets.iter().all(|b| {
        absolute = b.absolute(absolute);
        !absolute.is_zero()
    });
    let max_gap = i64::try_from(max_empty).unwrap_or(i64::MAX);
    let apart = |(i, s): (usize, &BucketSpan)| s.length > 0 && (i == 0 || i64::from(s.offset) > max_gap);
    if populated && spans.iter().enumerate().all(apart) {
        return;
    }

    let mut new_spans = SpanBuilder::default();
    let mut kept: Vec<T> = Vec::new();
    let mut kept_compensation: Vec<f64> = Vec::new();
    if max_empty > 0 {
        kept.reserve(buckets.len());
    }
    // Without gaps to fill there is never more to write than was read, so it goes to the front of `buckets`.
    let mut written = 0usize;
    let mut absolute = T::default();
    let mut last_kept = T::default();
    let mut next: Option<i32> = None;
    let mut compensation = compensation;
    for (read, index) in SpanIndices::new(spans).enumerate() {
        let Some(bucket) = buckets.get(read) else { break };
        absolute = bucket.absolute(absolute);
        let error = compensation.as_ref().and_then(|c| c.get(read)).copied().unwrap_or(0.0);
        if absolute.is_zero() && error == 0.0 {
            continue;
        }
        if max_empty == 0 {
            buckets[written] = absolute.stored(last_kept);
            if let Some(slot) = compensation.as_mut().and_then(|c| c.get_mut(written)) {
                *slot = error;
            }
        } else {
            if let Some(next) = next {
                let gap = i64::from(index) - i64::from(next);
                if gap > 0 && gap <= max_gap {
                    for empty in next..index {
                        new_spans.push(empty);
                        kept.push(T::default().stored(last_kept));
                        last_kept = T::default();
                        kept_compensation.push(0.0);
                    }
                }
            }
            kept.push(absolute.stored(last_kept));
            kept_compensation.push(error);
        }
        new_spans.push(index);
        last_kept = absolute;
        next = Some(index.wrapping_add(1));
        written += 1;
    }
    if max_empty == 0 {
        buckets.truncate(written);
        if let Some(c) = compensation {
            c.truncate(written);
        }
    } else {
        *buckets = kept;
        if let Some(c) = compensation {
            *c = kept_compensation;
        }
    }
    *spans = new_spans.finish();
}

/// Merges buckets into those of the coarser `target` schema.
fn reduce<T: BucketValue>(
    spans: &[BucketSpan],
    buckets: &mut Vec<T>,
    origin: i32,
    target: i32,
) -> Result<Vec<BucketSpan>, HistogramError> {
    check_offsets(spans)?;
    let mut new_spans = SpanBuilder::default();
    let mut written = 0usize;
    let mut read = 0usize;
    let mut absolute = T::default();
    // Absolute counts of the target bucket being filled and of the one before it.
    let (mut current, mut before) = (T::default(), T::default());
    let mut last = None;
    for index in SpanIndices::new(spans) {
        let Some(bucket) = buckets.get(read) else {
            return Err(HistogramError::TooFewBuckets { have: buckets.len() });
        };
        absolute = bucket.absolute(absolute);
        read += 1;
        let index = target_index(index, origin, target);
        if last == Some(index) {
            current = current.plus(absolute);
        } else {
            new_spans.push(index);
            written += 1;
            before = current;
            current = absolute;
            last = Some(index);
        }
        buckets[written - 1] = current.stored(before);
    }
    if read != buckets.len() {
        return Err(HistogramError::SpansBucketsMismatch { need: read, have: buckets.len() });
    }
    buckets.truncate(written);
    Ok(new_spans.finish())
}

pub(super) fn check_offsets(spans: &[BucketSpan]) -> Result<(), HistogramError> {
    match spans.iter().enumerate().skip(1).find(|(_, s)| s.offset < 0) {
        Some((i, s)) => Err(HistogramError::SpanNegativeOffset { number: i + 1, offset: s.offset }),
        None => Ok(()),
    }
}

/// Float buckets in the coarser `target` schema, the originals untouched.
pub(super) fn reduced(
    spans: &[BucketSpan],
    buckets: &[f64],
    origin: i32,
    target: i32,
) -> Result<(Vec<BucketSpan>, Vec<f64>), HistogramError> {
    let mut buckets = buckets.to_vec();
    let spans = reduce(spans, &mut buckets, origin, target)?;
    Ok((spans, buckets))
}

/// Merges buckets and their compensations into the coarser `target` schema with compensated sums.
pub(super) fn kahan_reduce(
    spans: &mut Vec<BucketSpan>,
    buckets: &mut Vec<f64>,
    compensation: &mut Vec<f64>,
    origin: i32,
    target: i32,
) {
    compensation.resize(buckets.len(), 0.0);
    let mut new_spans = SpanBuilder::default();
    let mut written = 0usize;
    let mut last = None;
    for (read, index) in SpanIndices::new(spans).enumerate() {
        let Some(&bucket) = buckets.get(read) else { break };
        let error = compensation[read];
        let index = target_index(index, origin, target);
        if last == Some(index) {
            let (sum, c) = (&mut buckets[written - 1], &mut compensation[written - 1]);
            kahan_inc(bucket, sum, c);
            kahan_inc(error, sum, c);
        } else {
            new_spans.push(index);
            buckets[written] = bucket;
            compensation[written] = error;
            written += 1;
            last = Some(index);
        }
    }
    buckets.truncate(written);
    compensation.truncate(written);
    *spans = new_spans.finish();
}

fn check_reduction(from: i32, to: i32) -> Result<(), HistogramError> {
    if is_custom_buckets_schema(from) {
        Err(HistogramError::ReduceCustomBuckets)
    } else if is_custom_buckets_schema(to) {
        Err(HistogramError::ReduceToCustomBuckets)
    } else if to >= from {
        Err(HistogramError::ReduceNotCoarser { from, to })
    } else {
        Ok(())
    }
}

impl FloatHistogram {
    /// Cuts empty buckets at the ends of spans and runs of more than `max_empty` within them, and joins spans
    /// at most `max_empty` apart.
    pub fn compact(&mut self, max_empty: usize) -> &mut Self {
        compact(&mut self.positive_spans, &mut self.positive_buckets, None, max_empty);
        compact(&mut self.negative_spans, &mut self.negative_buckets, None, max_empty);
        self
    }

    /// As [`Self::compact`]; buckets with a compensation stay, and the compensation's layout follows.
    pub fn kahan_compact(&mut self, max_empty: usize, compensation: &mut Self) -> &mut Self {
        compact(
            &mut self.positive_spans,
            &mut self.positive_buckets,
            Some(&mut compensation.positive_buckets),
            max_empty,
        );
        compact(
            &mut self.negative_spans,
            &mut self.negative_buckets,
            Some(&mut compensation.negative_buckets),
            max_empty,
        );
        compensation.share_layout_of(self);
        self
    }

    /// Takes over the spans of `other`.
    pub(super) fn share_layout_of(&mut self, other: &Self) {
        if self.positive_spans != other.positive_spans {
            self.positive_spans.clone_from(&other.positive_spans);
        }
        if self.negative_spans != other.negative_spans {
            self.negative_spans.clone_from(&other.negative_spans);
        }
    }

    /// Merges buckets into those of the coarser `target` schema.
    pub fn reduce_resolution(&mut self, target: i32) -> Result<(), HistogramError> {
        check_reduction(self.schema, target)?;
        self.reduce_to(target)
    }

    pub(super) fn reduce_to(&mut self, target: i32) -> Result<(), HistogramError> {
        self.positive_spans = reduce(&self.positive_spans, &mut self.positive_buckets, self.schema, target)?;
        self.negative_spans = reduce(&self.negative_spans, &mut self.negative_buckets, self.schema, target)?;
        self.schema = target;
        Ok(())
    }

    /// A copy in the `target` schema, which must be the same or coarser. A coarser copy forgets the counter
    /// reset hint.
    pub fn copy_to_schema(&self, target: i32) -> Result<Self, HistogramError> {
        if target == self.schema {
            return Ok(self.clone());
        }
        check_reduction(self.schema, target)?;
        let (positive_spans, positive_buckets) =
            reduced(&self.positive_spans, &self.positive_buckets, self.schema, target)?;
        let (negative_spans, negative_buckets) =
            reduced(&self.negative_spans, &self.negative_buckets, self.schema, target)?;
        Ok(Self {
            schema: target,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            ..Self::default()
        })
    }
}

impl Histogram {
    /// As [`FloatHistogram::compact`].
    pub fn compact(&mut self, max_empty: usize) -> &mut Self {
        compact(&mut self.positive_spans, &mut self.positive_buckets, None, max_empty);
        compact(&mut self.negative_spans, &mut self.negative_buckets, None, max_empty);
        self
    }

    /// Merges buckets into those of the coarser `target` schema.
    pub fn reduce_resolution(&mut self, target: i32) -> Result<(), HistogramError> {
        check_reduction(self.schema, target)?;
        self.positive_spans = reduce(&self.positive_spans, &mut self.positive_buckets, self.schema, target)?;
        self.negative_spans = reduce(&self.negative_spans, &mut self.negative_buckets, self.schema, target)?;
        self.schema = target;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i32, u32)]) -> Vec<BucketSpan> {
        list.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
    }

    type Side<'a> = (&'a [(i32, u32)], &'a [i64]);

    /// Checks the same case with absolute and with delta counts.
    fn check(before: Side<'_>, max_empty: usize, after: Side<'_>) {
        let mut float = FloatHistogram {
            positive_spans: spans(before.0),
            positive_buckets: before.1.iter().map(|v| *v as f64).collect(),
            ..FloatHistogram::default()
        };
        float.compact(max_empty);
        assert_eq!(float.positive_spans, spans(after.0), "{before:?} max {max_empty}");
        assert_eq!(float.positive_buckets, after.1.iter().map(|v| *v as f64).collect::<Vec<_>>());

        let deltas = |counts: &[i64]| {
            let mut previous = 0;
            counts.iter().map(|c| c - std::mem::replace(&mut previous, *c)).collect::<Vec<_>>()
        };
        let mut integer = Histogram {
            negative_spans: spans(before.0),
            negative_buckets: deltas(before.1),
            ..Histogram::default()
        };
        integer.compact(max_empty);
        assert_eq!(integer.negative_spans, spans(after.0), "{before:?} max {max_empty}");
        assert_eq!(integer.negative_buckets, deltas(after.1));
    }

    #[test]
    fn compaction() {
        #[rustfmt::skip]
        let cases: &[(Side<'_>, usize, Side<'_>)] = &[
            ((&[], &[]), 0, (&[], &[])),
            ((&[(-2, 1), (2, 3)], &[1, 3, 2, 4]), 0, (&[(-2, 1), (2, 3)], &[1, 3, 2, 4])),
            // Directly adjacent spans become one.
            ((&[(-2, 1), (0, 3)], &[1, 3, 2, 4]), 0, (&[(-2, 4)], &[1, 3, 2, 4])),
            // Empty buckets at both ends go, whole empty spans too.
            ((&[(-3, 3), (1, 4)], &[0, 1, 0, 0, 0, 7, 0]), 0, (&[(-2, 1), (4, 1)], &[1, 7])),
            ((&[(5, 2), (1, 2)], &[0, 0, 0, 0]), 0, (&[], &[])),
            ((&[(5, 2), (1, 1), (3, 1)], &[4, 2, 0, 9]), 0, (&[(5, 2), (5, 1)], &[4, 2, 9])),
            // Runs within a span split it only where longer than allowed.
            ((&[(0, 6)], &[1, 0, 0, 2, 0, 3]), 0, (&[(0, 1), (2, 1), (1, 1)], &[1, 2, 3])),
            ((&[(0, 6)], &[1, 0, 0, 2, 0, 3]), 1, (&[(0, 1), (2, 3)], &[1, 2, 0, 3])),
            ((&[(0, 6)], &[1, 0, 0, 2, 0, 3]), 2, (&[(0, 6)], &[1, 0, 0, 2, 0, 3])),
            // Near spans join, with empty buckets between.
            ((&[(-4, 1), (2, 1), (3, 2)], &[5, 6, 7, 8]), 2, (&[(-4, 4), (3, 2)], &[5, 0, 0, 6, 7, 8])),
            // Spans without buckets only move what follows.
            ((&[(0, 0), (2, 0), (1, 1), (1, 0)], &[9]), 0, (&[(3, 1)], &[9])),
        ];
        for (before, max_empty, after) in cases {
            check(*before, *max_empty, *after);
        }
    }

    #[test]
    fn a_compensated_bucket_is_not_empty() {
        let layout = spans(&[(0, 3)]);
        let mut h = FloatHistogram {
            positive_spans: layout.clone(),
            positive_buckets: vec![0.0, 0.0, 1.0],
            ..FloatHistogram::default()
        };
        let mut c = FloatHistogram {
            positive_spans: layout,
            positive_buckets: vec![0.0, 1e-9, 0.0],
            ..FloatHistogram::default()
        };
        h.kahan_compact(0, &mut c);
        assert_eq!((h.positive_buckets, c.positive_buckets), (vec![0.0, 1.0], vec![1e-9, 0.0]));
        assert_eq!((h.positive_spans, c.positive_spans), (spans(&[(1, 2)]), spans(&[(1, 2)])));
    }

    #[test]
    fn coarser_resolution_merges_neighbours() {
        // Indices -1..=3 and 6, 7; one schema lower these are 0, 0, 1, 1, 2 and 3, 4.
        let layout = spans(&[(-1, 5), (2, 2)]);
        let mut h = FloatHistogram {
            schema: 2,
            positive_spans: layout.clone(),
            positive_buckets: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
            ..FloatHistogram::default()
        };
        assert_eq!(h.reduce_resolution(1), Ok(()));
        assert_eq!(h.positive_spans, spans(&[(0, 5)]));
        assert_eq!(h.positive_buckets, [3.0, 7.0, 5.0, 6.0, 7.0]);
        let mut h = Histogram {
            schema: 2,
            positive_spans: layout,
            positive_buckets: vec![1, 1, 1, 1, 1, 1, 1],
            ..Histogram::default()
        };
        assert_eq!(h.reduce_resolution(1), Ok(()));
        assert_eq!(h.positive_buckets, [3, 4, -2, 1, 1]);
    }

    #[test]
    fn what_cannot_be_reduced() {
        let make = |schema, list: &[(i32, u32)], n: usize| FloatHistogram {
            schema,
            positive_spans: spans(list),
            positive_buckets: vec![1.0; n],
            ..FloatHistogram::default()
        };
        #[rustfmt::skip]
        let cases = [
            (make(-53, &[], 0), 0, "cannot reduce resolution when there are custom buckets"),
            (make(3, &[], 0), -53, "cannot reduce resolution to custom buckets schema"),
            (make(3, &[], 0), 3, "cannot reduce resolution from schema 3 to 3"),
            (make(3, &[(0, 1), (-1, 1)], 2), 2, "span number 2 with offset -1: histogram has a span whose offset is negative"),
            (make(3, &[(0, 2)], 1), 2, "have 1 buckets but spans need more: histogram spans specify different number of buckets than provided"),
            (make(3, &[(0, 2)], 3), 2, "spans need 2 buckets, have 3 buckets: histogram spans specify different number of buckets than provided"),
        ];
        for (mut h, target, want) in cases {
            assert_eq!(h.reduce_resolution(target).unwrap_err().to_string(), want);
        }
    }
}
