//! Sums, differences and scaling of float histograms, plain and compensated.

use std::sync::Arc;

use super::bucket::SpanIndices;
use super::custom_bounds::{self, intersect};
use super::layout::{kahan_reduce, reduced};
use super::schema::{bound_exponential, custom_bounds_match, is_exponential_schema};
use super::{BucketSpan, CounterResetHint, FloatHistogram, HistogramError};
use crate::kahan::kahan_inc;

/// What a sum or difference had to smooth over; PromQL warns of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddOutcome {
    /// One histogram says a counter reset happened, the other that none did.
    pub counter_reset_collision: bool,
    /// Custom bounds differed: the result has only those both share.
    pub nhcb_bounds_reconciled: bool,
}

impl FloatHistogram {
    /// Adds `other`, bringing both to the coarser schema, the wider zero bucket or the shared custom bounds.
    pub fn add(&mut self, other: &Self) -> Result<AddOutcome, HistogramError> {
        self.combine(other, false)
    }

    /// Subtracts `other`, see [`Self::add`].
    pub fn sub(&mut self, other: &Self) -> Result<AddOutcome, HistogramError> {
        self.combine(other, true)
    }

    fn combine(&mut self, other: &Self, negative: bool) -> Result<AddOutcome, HistogramError> {
        self.check_compatible(other)?;
        let mut outcome =
            AddOutcome { counter_reset_collision: self.adjust_counter_reset(other), ..AddOutcome::default() };
        let signed = |v: f64| if negative { -v } else { v };
        if !self.uses_custom_buckets() {
            let (other_zero_count, _) = self.reconcile_zero_buckets(other, None);
            self.zero_count += signed(other_zero_count);
        }
        self.count += signed(other.count);
        self.sum += signed(other.sum);

        if self.uses_custom_buckets() {
            if !custom_bounds_match(self.custom_bounds(), other.custom_bounds()) {
                outcome.nhcb_bounds_reconciled = true;
                let shared = intersect(self.custom_bounds(), other.custom_bounds());
                let mapped = custom_bounds::combine(self, other, None, &shared, negative);
                self.positive_spans = mapped.spans;
                self.positive_buckets = mapped.buckets;
                self.set_custom_bounds(shared);
                return Ok(outcome);
            }
            let (schema, threshold) = (self.schema, self.zero_threshold);
            let side = Side { spans: &other.positive_spans, buckets: &other.positive_buckets, errors: &[] };
            add_side(
                &mut self.positive_spans,
                &mut self.positive_buckets,
                &side,
                schema,
                threshold,
                negative,
            );
            return Ok(outcome);
        }

        let coarser;
        let mut other_sides = [Side::positive(other), Side::negative(other)];
        if other.schema < self.schema {
            self.reduce_to(other.schema)?;
        } else if other.schema > self.schema {
            let target = self.schema;
            coarser = [
                reduced(&other.positive_spans, &other.positive_buckets, other.schema, target)?,
                reduced(&other.negative_spans, &other.negative_buckets, other.schema, target)?,
            ];
            for (side, (spans, buckets)) in other_sides.iter_mut().zip(&coarser) {
                *side = Side { spans, buckets, errors: &[] };
            }
        }
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let [positive, negative_side] = &other_sides;
        add_side(&mut self.positive_spans, &mut self.positive_buckets, positive, schema, threshold, negative);
        add_side(
            &mut self.negative_spans,
            &mut self.negative_buckets,
            negative_side,
            schema,
            threshold,
            negative,
        );
        Ok(outcome)
    }

    /// Adds `other` with compensated sums. Give back the returned compensation with the next addition, and in
    /// the end [`Self::add`] it; `None` starts with a compensation of zero.
    pub fn kahan_add(
        &mut self,
        other: &Self,
        compensation: Option<Self>,
    ) -> Result<(Self, AddOutcome), HistogramError> {
        self.check_compatible(other)?;
        // The compensation starts with the sum's hint, so that adding it in the end changes no hint.
        let collision = self.adjust_counter_reset(other);
        let mut compensation = match compensation {
            Some(c) => c,
            None => self.new_compensation(),
        };
        let outcome = self.kahan_sum(other, &mut compensation, collision)?;
        Ok((compensation, outcome))
    }

    /// As [`Self::kahan_add`], with a compensation that exists already changed in place.
    pub fn kahan_add_to(&mut self, other: &Self, c: &mut Self) -> Result<AddOutcome, HistogramError> {
        self.check_compatible(other)?;
        let collision = self.adjust_counter_reset(other);
        self.kahan_sum(other, c, collision)
    }

    fn kahan_sum(
        &mut self,
        other: &Self,
        c: &mut Self,
        counter_reset_collision: bool,
    ) -> Result<AddOutcome, HistogramError> {
        let mut outcome = AddOutcome { counter_reset_collision, ..AddOutcome::default() };
        if !self.uses_custom_buckets() {
            let (zero_count, zero_error) = self.reconcile_zero_buckets(other, Some(c));
            kahan_inc(zero_count, &mut self.zero_count, &mut c.zero_count);
            kahan_inc(zero_error, &mut self.zero_count, &mut c.zero_count);
        }
        kahan_inc(other.count, &mut self.count, &mut c.count);
        kahan_inc(other.sum, &mut self.sum, &mut c.sum);

        if self.uses_custom_buckets() {
            if custom_bounds_match(self.custom_bounds(), other.custom_bounds()) {
                let side = Side::positive(other);
                let (schema, threshold) = (self.schema, self.zero_threshold);
                self.positive_side(c).kahan_add(&side, schema, threshold);
            } else {
                outcome.nhcb_bounds_reconciled = true;
                let shared = intersect(self.custom_bounds(), other.custom_bounds());
                let mapped = custom_bounds::combine(self, other, Some(&c.positive_buckets), &shared, false);
                self.positive_spans = mapped.spans;
                self.positive_buckets = mapped.buckets;
                c.positive_buckets = mapped.errors;
                self.set_custom_bounds(shared);
                c.custom_values.clone_from(&self.custom_values);
            }
            c.share_layout_of(self);
            return Ok(outcome);
        }

        let mut coarser: [(Vec<BucketSpan>, Vec<f64>, Vec<f64>); 2] = Default::default();
        let mut other_sides = [Side::positive(other), Side::negative(other)];
        if other.schema < self.schema {
            let (origin, target) = (self.schema, other.schema);
            self.positive_side(c).kahan_reduce(origin, target);
            self.negative_side(c).kahan_reduce(origin, target);
            self.schema = target;
        } else if other.schema > self.schema {
            for (side, (spans, buckets, errors)) in other_sides.iter_mut().zip(&mut coarser) {
                spans.extend_from_slice(side.spans);
                buckets.extend_from_slice(side.buckets);
                kahan_reduce(spans, buckets, errors, other.schema, self.schema);
                *side = Side { spans, buckets, errors };
            }
        }
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let [positive, negative] = &other_sides;
        self.positive_side(c).kahan_add(positive, schema, threshold);
        self.negative_side(c).kahan_add(negative, schema, threshold);
        c.schema = self.schema;
        c.zero_threshold = self.zero_threshold;
        c.share_layout_of(self);
        Ok(outcome)
    }

    /// A compensation of zero for this histogram, in its layout.
    pub fn new_compensation(&self) -> Self {
        Self {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            custom_values: self.custom_values.clone(),
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: vec![0.0; self.positive_buckets.len()],
            negative_buckets: vec![0.0; self.negative_buckets.len()],
            ..Self::default()
        }
    }

    /// Multiplies all counts and the sum; a negative factor makes a gauge.
    pub fn mul(&mut self, factor: f64) -> &mut Self {
        self.zero_count *= factor;
        self.count *= factor;
        self.sum *= factor;
        for b in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *b *= factor;
        }
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    /// Divides all counts and the sum; a negative divisor makes a gauge, a zero one removes all buckets.
    pub fn div(&mut self, scalar: f64) -> &mut Self {
        self.zero_count /= scalar;
        self.count /= scalar;
        self.sum /= scalar;
        if scalar == 0.0 {
            self.positive_buckets.clear();
            self.negative_buckets.clear();
            self.positive_spans.clear();
            self.negative_spans.clear();
            return self;
        }
        for b in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *b /= scalar;
        }
        if scalar < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    /// Whether any count, the sum or a custom bound is infinite.
    pub fn has_overflow(&self) -> bool {
        [self.zero_count, self.count, self.sum]
            .iter()
            .chain(&self.positive_buckets)
            .chain(&self.negative_buckets)
            .chain(self.custom_bounds())
            .any(|v| v.is_infinite())
    }

    fn check_compatible(&self, other: &Self) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() == other.uses_custom_buckets() {
            Ok(())
        } else {
            Err(HistogramError::IncompatibleSchema)
        }
    }

    /// Settles the hint of a sum: a gauge makes a gauge, otherwise unknown makes unknown, and reset against no
    /// reset makes unknown too, with a collision reported.
    fn adjust_counter_reset(&mut self, other: &Self) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        let (ours, theirs) = (self.counter_reset_hint, other.counter_reset_hint);
        if ours == theirs || ours == Gauge {
            return false;
        }
        self.counter_reset_hint = if theirs == Gauge { Gauge } else { Unknown };
        theirs != Gauge && ours != Unknown && theirs != Unknown
    }

    /// The zero count as it would be with the wider zero bucket `threshold`, that threshold moved outwards to
    /// the end of the populated bucket it falls into, and the zero count's compensation.
    pub(super) fn zero_count_for_larger_threshold(
        &self,
        mut threshold: f64,
        c: Option<&Self>,
    ) -> (f64, f64, f64) {
        let mut zero_error = c.map_or(0.0, |c| c.zero_count);
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold, zero_error);
        }
        let error_at =
            |positive: bool, i: usize| c.map(|c| c.side(positive).1.get(i).copied().unwrap_or(0.0));
        'retry: loop {
            let mut zero_count = self.zero_count;
            for (i, b) in self.positive_bucket_iter().enumerate() {
                if b.lower >= threshold {
                    break;
                }
                kahan_inc(b.count, &mut zero_count, &mut zero_error);
                if let Some(error) = error_at(true, i) {
                    kahan_inc(error, &mut zero_count, &mut zero_error);
                }
                if b.upper > threshold {
                    if b.count != 0.0 {
                        threshold = b.upper;
                    }
                    break;
                }
            }
            for (i, b) in self.negative_bucket_iter().enumerate() {
                if b.upper <= -threshold {
                    break;
                }
                kahan_inc(b.count, &mut zero_count, &mut zero_error);
                if let Some(error) = error_at(false, i) {
                    kahan_inc(error, &mut zero_count, &mut zero_error);
                }
                if b.lower < -threshold {
                    if b.count != 0.0 {
                        // The positive side has to be counted again up to the new threshold.
                        threshold = -b.lower;
                        continue 'retry;
                    }
                    break;
                }
            }
            return (zero_count, threshold, zero_error);
        }
    }

    /// Empties the buckets inside the zero bucket, whose counts are in the zero count already.
    fn trim_buckets_in_zero_bucket(&mut self, c: Option<&mut Self>) {
        let threshold = self.zero_threshold;
        let positive = self.positive_bucket_iter().take_while(|b| b.lower < threshold).count();
        let negative = self.negative_bucket_iter().take_while(|b| b.upper > -threshold).count();
        let clear = |h: &mut Self| {
            h.positive_buckets.iter_mut().take(positive).for_each(|b| *b = 0.0);
            h.negative_buckets.iter_mut().take(negative).for_each(|b| *b = 0.0);
        };
        clear(self);
        if let Some(c) = c {
            clear(c);
            self.kahan_compact(0, c);
        } else {
            self.compact(0);
        }
    }

    /// Widens the zero bucket until it covers both zero buckets and ends in no populated bucket of either.
    /// Returns the zero count `other` then has, and its compensation.
    fn reconcile_zero_buckets(&mut self, other: &Self, mut c: Option<&mut Self>) -> (f64, f64) {
        let mut count = other.zero_count;
        let mut threshold = other.zero_threshold;
        let mut error = 0.0;
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (count, threshold, error) = other.zero_count_for_larger_threshold(self.zero_threshold, None);
            }
            if threshold > self.zero_threshold {
                let (own_count, own_threshold, own_error) =
                    self.zero_count_for_larger_threshold(threshold, c.as_deref());
                self.zero_count = own_count;
                self.zero_threshold = own_threshold;
                if let Some(c) = c.as_deref_mut() {
                    c.zero_count = own_error;
                }
                self.trim_buckets_in_zero_bucket(c.as_deref_mut());
            } else if threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        (count, error)
    }

    fn set_custom_bounds(&mut self, bounds: Vec<f64>) {
        self.custom_values = (!bounds.is_empty()).then(|| Arc::from(bounds));
    }

    fn positive_side<'a>(&'a mut self, c: &'a mut Self) -> SideMut<'a> {
        SideMut {
            spans: &mut self.positive_spans,
            buckets: &mut self.positive_buckets,
            errors: &mut c.positive_buckets,
        }
    }

    fn negative_side<'a>(&'a mut self, c: &'a mut Self) -> SideMut<'a> {
        SideMut {
            spans: &mut self.negative_spans,
            buckets: &mut self.negative_buckets,
            errors: &mut c.negative_buckets,
        }
    }
}

/// One side of the histogram being added; no errors means all are zero.
struct Side<'a> {
    spans: &'a [BucketSpan],
    buckets: &'a [f64],
    errors: &'a [f64],
}

impl<'a> Side<'a> {
    fn positive(h: &'a FloatHistogram) -> Self {
        Self { spans: &h.positive_spans, buckets: &h.positive_buckets, errors: &[] }
    }

    fn negative(h: &'a FloatHistogram) -> Self {
        Self { spans: &h.negative_spans, buckets: &h.negative_buckets, errors: &[] }
    }

    /// How many first buckets end at or below the zero threshold: they are part of the zero count.
    #[inline]
    fn below(&self, schema: i32, threshold: f64) -> usize {
        if threshold == 0.0 || !is_exponential_schema(schema) {
            return 0;
        }
        SpanIndices::new(self.spans).take_while(|i| bound_exponential(*i, schema) <= threshold).count()
    }
}

/// One side of the histogram added to, with its compensation.
struct SideMut<'a> {
    spans: &'a mut Vec<BucketSpan>,
    buckets: &'a mut Vec<f64>,
    errors: &'a mut Vec<f64>,
}

impl SideMut<'_> {
    fn kahan_reduce(self, origin: i32, target: i32) {
        kahan_reduce(self.spans, self.buckets, self.errors, origin, target);
    }

    fn kahan_add(self, other: &Side<'_>, schema: i32, threshold: f64) {
        if other.buckets.is_empty() {
            return;
        }
        self.errors.resize(self.buckets.len(), 0.0);
        let below = other.below(schema, threshold);
        if self.spans.as_slice() == other.spans
            && self.buckets.len() == other.buckets.len()
            && other.errors.is_empty()
        {
            let own = self.buckets.iter_mut().zip(self.errors.iter_mut());
            for ((a, error), b) in own.zip(other.buckets).skip(below) {
                kahan_inc(*b, a, error);
            }
            return;
        }
        let add = |i: usize, a: &mut f64, error: &mut f64| {
            kahan_inc(other.buckets[i], a, error);
            let e = other.errors.get(i).copied().unwrap_or(0.0);
            if e != 0.0 {
                kahan_inc(e, a, error);
            }
        };
        if covers(self.spans, other, below) {
            for step in Union::new(self.spans, other.spans, below) {
                if let (Some(i), Some(j)) = (step.ours, step.theirs)
                    && j < other.buckets.len()
                    && let Some(a) = self.buckets.get_mut(i)
                {
                    add(j, a, &mut self.errors[i]);
                }
            }
            return;
        }
        let mut added = Vec::new();
        let mut buckets = Vec::with_capacity(self.buckets.len() + other.buckets.len());
        let mut errors = Vec::with_capacity(buckets.capacity());
        for step in Union::new(self.spans, other.spans, below) {
            let theirs = step.theirs.filter(|j| *j < other.buckets.len());
            let (mut value, mut error) = (0.0, 0.0);
            match (step.ours.filter(|i| *i < self.buckets.len()), theirs) {
                (Some(i), theirs) => {
                    value = self.buckets[i];
                    error = self.errors[i];
                    if let Some(j) = theirs {
                        add(j, &mut value, &mut error);
                    }
                }
                (None, Some(j)) => {
                    value = other.buckets[j];
                    error = other.errors.get(j).copied().unwrap_or(0.0);
                }
                (None, None) => {}
            }
            if step.ours.is_none() {
                added.push(step.index);
            }
            buckets.push(value);
            errors.push(error);
        }
        *self.spans = with_buckets(self.spans, &added);
        *self.buckets = buckets;
        *self.errors = errors;
    }
}

fn add_side(
    spans: &mut Vec<BucketSpan>,
    buckets: &mut Vec<f64>,
    other: &Side<'_>,
    schema: i32,
    threshold: f64,
    negative: bool,
) {
    if other.buckets.is_empty() {
        return;
    }
    let below = other.below(schema, threshold);
    if spans.as_slice() == other.spans && buckets.len() == other.buckets.len() {
        let pairs = buckets.iter_mut().zip(other.buckets).skip(below);
        if negative {
            pairs.for_each(|(a, b)| *a -= b);
        } else {
            pairs.for_each(|(a, b)| *a += b);
        }
        return;
    }
    let signed = |j: usize| other.buckets.get(j).map(|b| if negative { -b } else { *b });
    if covers(spans, other, below) {
        for step in Union::new(spans, other.spans, below) {
            if let (Some(i), Some(b)) = (step.ours, step.theirs.and_then(signed))
                && let Some(a) = buckets.get_mut(i)
            {
                *a += b;
            }
        }
        return;
    }
    let mut added = Vec::new();
    let mut sums = Vec::with_capacity(buckets.len() + other.buckets.len());
    for step in Union::new(spans, other.spans, below) {
        let ours = step.ours.and_then(|i| buckets.get(i)).copied();
        if step.ours.is_none() {
            added.push(step.index);
        }
        sums.push(match (ours, step.theirs.and_then(signed)) {
            (Some(a), Some(b)) => a + b,
            (Some(v), None) | (None, Some(v)) => v,
            (None, None) => 0.0,
        });
    }
    *spans = with_buckets(spans, &added);
    *buckets = sums;
}

/// The spans with the buckets `added`, in rising order, that they lack. A bucket is put to the span it follows, else to
/// the one it precedes, and spans that now touch are not joined, as upstream does it: the size of a sum counts them.
fn with_buckets(spans: &[BucketSpan], added: &[i32]) -> Vec<BucketSpan> {
    // Where a span starts, and its length.
    let mut start = 0_i32;
    let mut own = spans.iter().map(|span| {
        let first = start.wrapping_add(span.offset);
        start = first.wrapping_add(span.length as i32);
        (first, span.length)
    });
    let mut next = own.next();
    let mut placed: Vec<(i32, u32)> = Vec::with_capacity(spans.len() + added.len());
    for index in added {
        while let Some(span) = next.filter(|span| span.0 <= *index) {
            placed.push(span);
            next = own.next();
        }
        match (placed.last_mut(), &mut next) {
            (Some(before), _) if before.0.wrapping_add(before.1 as i32) == *index => before.1 += 1,
            (_, Some(behind)) if behind.0 == index.wrapping_add(1) => *behind = (*index, behind.1 + 1),
            _ => placed.push((*index, 1)),
        }
    }
    placed.extend(next);
    placed.extend(own);
    let mut end = 0_i32;
    let relative = placed.into_iter().map(|(first, length)| {
        let offset = first.wrapping_sub(end);
        end = first.wrapping_add(length as i32);
        BucketSpan { offset, length }
    });
    relative.collect()
}

/// Whether all of `other`'s buckets behind the first `below` exist in `spans`.
fn covers(spans: &[BucketSpan], other: &Side<'_>, below: usize) -> bool {
    Union::new(spans, other.spans, below).all(|step| step.ours.is_some())
}

/// A bucket that at least one of two layouts has, with its position in each.
struct Step {
    index: i32,
    ours: Option<usize>,
    theirs: Option<usize>,
}

/// The buckets of two layouts in one rising walk.
struct Union<'a> {
    ours: Walk<'a>,
    theirs: Walk<'a>,
}

struct Walk<'a> {
    indices: SpanIndices<'a>,
    head: Option<i32>,
    position: usize,
}

impl<'a> Walk<'a> {
    fn new(spans: &'a [BucketSpan], skip: usize) -> Self {
        let mut indices = SpanIndices::new(spans);
        for _ in 0..skip {
            indices.next();
        }
        let head = indices.next();
        Self { indices, head, position: skip }
    }

    #[inline]
    fn take(&mut self) -> usize {
        self.head = self.indices.next();
        self.position += 1;
        self.position - 1
    }
}

impl<'a> Union<'a> {
    fn new(ours: &'a [BucketSpan], theirs: &'a [BucketSpan], below: usize) -> Self {
        Self { ours: Walk::new(ours, 0), theirs: Walk::new(theirs, below) }
    }
}

impl Iterator for Union<'_> {
    type Item = Step;

    #[inline]
    fn next(&mut self) -> Option<Step> {
        match (self.ours.head, self.theirs.head) {
            (None, None) => None,
            (Some(a), Some(b)) if a == b => {
                Some(Step { index: a, ours: Some(self.ours.take()), theirs: Some(self.theirs.take()) })
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                Some(Step { index: a, ours: Some(self.ours.take()), theirs: None })
            }
            (_, Some(b)) => Some(Step { index: b, ours: None, theirs: Some(self.theirs.take()) }),
            (Some(_), None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::CUSTOM_BUCKETS_SCHEMA;
    use CounterResetHint::{CounterReset, Gauge, NotCounterReset, Unknown};

    #[test]
    fn added_buckets_lengthen_spans_and_join_none() {
        let spans = |s: &[(i32, u32)]| -> Vec<BucketSpan> {
            s.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
        };
        type Spans = &'static [(i32, u32)];
        let cases: &[(Spans, &[i32], Spans)] = &[
            (&[], &[3, 4, 6], &[(3, 2), (1, 1)]),
            // The gap of one bucket between 2 and 4 is closed by the span in front of it.
            (&[(1, 2), (1, 2)], &[3], &[(1, 3), (0, 2)]),
            (&[(1, 2), (3, 2)], &[5], &[(1, 2), (2, 3)]),
            (&[(1, 2), (3, 2)], &[3, 4, 5], &[(1, 5), (0, 2)]),
            (&[(5, 2)], &[-1, 3, 4, 9], &[(-1, 1), (3, 2), (0, 2), (2, 1)]),
            (&[(5, 2)], &[4, 7], &[(4, 4)]),
            (&[(0, 1), (0, 1)], &[5], &[(0, 1), (0, 1), (3, 1)]),
        ];
        for (own, added, want) in cases {
            assert_eq!(with_buckets(&spans(own), added), spans(want), "{own:?} {added:?}");
        }
    }

    fn exponential(schema: i32, zero: (f64, f64), layout: &[(i32, u32)], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: zero.1 + buckets.iter().sum::<f64>(),
            sum: 1.0,
            positive_spans: layout
                .iter()
                .map(|(offset, length)| BucketSpan { offset: *offset, length: *length })
                .collect(),
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            custom_values: Some(bounds.into()),
            ..exponential(CUSTOM_BUCKETS_SCHEMA, (0.0, 0.0), &[(0, buckets.len() as u32)], buckets)
        }
    }

    /// All three sums must agree on cases without rounding.
    fn check(a: &FloatHistogram, b: &FloatHistogram, want: &str) {
        let mut sum = a.clone();
        sum.add(b).unwrap();
        assert_eq!(sum.to_string(), want);
        let mut compensated = a.clone();
        let (c, _) = compensated.kahan_add(b, None).unwrap();
        assert_eq!(compensated.to_string(), want);
        assert_eq!(c.positive_spans, compensated.positive_spans);
        assert_eq!(c.positive_buckets.len(), compensated.positive_buckets.len());
        sum.sub(b).unwrap();
        sum.sub(a).unwrap();
        assert_eq!(sum.compact(0).to_string(), "{count:0, sum:0}");
    }

    #[test]
    fn buckets_meet_by_index() {
        let e = exponential;
        let a = e(0, (0.0, 0.0), &[(1, 1), (2, 1)], &[1.0, 2.0]);
        // Same layout; a covered one; before, between and behind.
        check(&a, &a, "{count:6, sum:2, (1,2]:2, (8,16]:4}");
        check(&a, &e(0, (0.0, 0.0), &[(4, 1)], &[5.0]), "{count:8, sum:2, (1,2]:1, (8,16]:7}");
        check(
            &a,
            &e(0, (0.0, 0.0), &[(-1, 1), (3, 1), (1, 2)], &[1.0, 1.0, 1.0, 1.0]),
            "{count:7, sum:2, (0.25,0.5]:1, (1,2]:1, (4,8]:1, (8,16]:2, (16,32]:1, (32,64]:1}",
        );
        check(
            &FloatHistogram::default(),
            &FloatHistogram { sum: 0.0, ..a.clone() },
            "{count:3, sum:0, (1,2]:1, (8,16]:2}",
        );
    }

    #[test]
    fn the_coarser_schema_wins() {
        let fine = exponential(1, (0.0, 0.0), &[(1, 3)], &[1.0, 2.0, 4.0]);
        let coarse = exponential(0, (0.0, 0.0), &[(1, 1)], &[8.0]);
        check(&fine, &coarse, "{count:15, sum:2, (1,2]:11, (2,4]:4}");
        check(&coarse, &fine, "{count:15, sum:2, (1,2]:11, (2,4]:4}");
    }

    #[test]
    fn the_wider_zero_bucket_wins_and_swallows_buckets() {
        let narrow = exponential(0, (0.5, 1.0), &[(0, 3)], &[2.0, 4.0, 8.0]);
        let wide = exponential(0, (1.0, 16.0), &[(1, 1)], &[32.0]);
        check(&narrow, &wide, "{count:63, sum:2, [-1,1]:19, (1,2]:36, (2,4]:8}");
        check(&wide, &narrow, "{count:63, sum:2, [-1,1]:19, (1,2]:36, (2,4]:8}");
        // A threshold inside a populated bucket moves to its end.
        let odd = exponential(0, (1.5, 16.0), &[], &[]);
        check(&narrow, &odd, "{count:31, sum:2, [-2,2]:23, (2,4]:8}");
        check(&odd, &narrow, "{count:31, sum:2, [-2,2]:23, (2,4]:8}");
    }

    #[test]
    fn custom_bounds_shrink_to_the_shared_ones() {
        let a = custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0, 8.0]);
        let b = custom(&[2.0, 5.0], &[16.0, 32.0, 64.0]);
        for (a, b) in [(&a, &b), (&b, &a)] {
            let mut sum = a.clone();
            assert!(sum.add(b).unwrap().nhcb_bounds_reconciled);
            assert_eq!(sum.to_string(), "{count:127, sum:2, [-Inf,2]:19, (2,+Inf]:108}");
            assert_eq!(sum.custom_bounds(), [2.0]);
            let mut compensated = a.clone();
            let (c, outcome) = compensated.kahan_add(b, None).unwrap();
            assert!(outcome.nhcb_bounds_reconciled);
            assert!(compensated.equals(&sum));
            assert_eq!(c.custom_bounds(), [2.0]);
        }
        let mut same = a.clone();
        assert!(!same.add(&a).unwrap().nhcb_bounds_reconciled);
        assert_eq!(same.positive_buckets, [2.0, 4.0, 8.0, 16.0]);
        assert_eq!(
            same.add(&exponential(0, (0.0, 0.0), &[], &[])).unwrap_err().to_string(),
            "cannot apply this operation on histograms with a mix of exponential and custom bucket schemas"
        );
    }

    #[test]
    fn hints_of_a_sum() {
        #[rustfmt::skip]
        let cases = [
            (Unknown, Unknown, Unknown, false),
            (Unknown, CounterReset, Unknown, false),
            (NotCounterReset, Unknown, Unknown, false),
            (CounterReset, CounterReset, CounterReset, false),
            (CounterReset, NotCounterReset, Unknown, true),
            (NotCounterReset, CounterReset, Unknown, true),
            (Gauge, CounterReset, Gauge, false),
            (CounterReset, Gauge, Gauge, false),
            (Unknown, Gauge, Gauge, false),
        ];
        for (ours, theirs, want, collision) in cases {
            let make = |counter_reset_hint| FloatHistogram { counter_reset_hint, ..Default::default() };
            let mut sum = make(ours);
            let outcome = sum.add(&make(theirs)).unwrap();
            assert_eq!((sum.counter_reset_hint, outcome.counter_reset_collision), (want, collision));
            let mut sum = make(ours);
            let (c, outcome) = sum.kahan_add(&make(theirs), None).unwrap();
            assert_eq!((sum.counter_reset_hint, outcome.counter_reset_collision), (want, collision));
            assert_eq!(c.counter_reset_hint, want);
        }
    }

    #[test]
    fn compensation_keeps_small_terms() {
        let make = |v: f64| exponential(0, (0.0, v), &[(1, 1)], &[v]);
        let mut sum = make(1e100);
        let (c, _) = sum.kahan_add(&make(1.0), None).unwrap();
        let (c, _) = sum.kahan_add(&make(-1e100), Some(c)).unwrap();
        sum.add(&c).unwrap();
        assert_eq!((sum.zero_count, sum.positive_buckets[0]), (1.0, 1.0));
    }

    #[test]
    fn scaling() {
        let make = || exponential(0, (0.5, 2.0), &[(1, 1)], &[4.0]);
        assert_eq!(make().mul(0.5).to_string(), "{count:3, sum:0.5, [-0.5,0.5]:1, (1,2]:2}");
        assert_eq!(make().div(2.0).to_string(), "{count:3, sum:0.5, [-0.5,0.5]:1, (1,2]:2}");
        assert_eq!(make().mul(-1.0).counter_reset_hint, Gauge);
        assert_eq!(make().div(-1.0).counter_reset_hint, Gauge);
        let mut by_zero = make();
        by_zero.div(0.0);
        assert_eq!(by_zero.to_string(), "{count:+Inf, sum:+Inf, [-0.5,0.5]:+Inf}");
        assert!(by_zero.has_overflow() && !make().has_overflow());
    }
}
