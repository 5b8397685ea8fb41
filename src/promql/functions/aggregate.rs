//! Aggregations that fold one series after the other into a group: `sum`, `avg`, `count`, `min`, `max`,
//! `group`, `stddev`, `stdvar`.
//!
//! A group keeps one small state per step and never the samples. Upstream treats a group's first sample
//! apart; here every state starts so that adding the first sample to it gives the same bits. The order of
//! additions at each step is the order in which series come; lanes are steps, so wide registers change
//! nothing.

use tsdbctl_model::kahan::kahan_inc;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Span};
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use crate::engine::column::{Column, bits};
use crate::parser::ast::AggregateOp;

/// Samples of a word below which they are folded one by one instead of all slots under a mask.
const SPARSE: u32 = 12;

/// One group of an aggregation over all steps.
#[derive(Clone, Debug)]
pub struct GroupAccumulator {
    op: AggregateOp,
    steps: usize,
    span: Span,
    /// Steps that have seen a float (`count`, `group`: any sample).
    present: Vec<u64>,
    /// Sum, extreme or mean, by step.
    value: Vec<f64>,
    /// Compensation of the sum, or sum of squared distances, by step.
    extra: Vec<f64>,
    /// Samples, by step.
    count: Vec<u32>,
    /// Steps of `avg` whose sum would overflow: `value` is the mean there. Empty until there is one.
    incremental: Vec<u64>,
    histograms: Option<Box<HistogramStates>>,
}

/// Histograms of a group.
#[derive(Clone, Debug)]
struct HistogramStates {
    /// Steps that have seen a histogram.
    present: Vec<u64>,
    /// Steps that have met both bucket kinds: nothing more is taken.
    incompatible: Vec<u64>,
    /// By step; none where the first sample was a float.
    sums: Vec<Option<Box<HistogramSum>>>,
}

#[derive(Clone, Debug)]
struct HistogramSum {
    /// The sum, or the mean if `incremental`.
    value: FloatHistogram,
    compensation: Option<FloatHistogram>,
    count: u32,
    incremental: bool,
    counter_reset_seen: bool,
    not_counter_reset_seen: bool,
}

fn set_bit(words: &mut [u64], k: usize) {
    words[k / 64] |= 1 << (k % 64);
}

fn has_bit(words: &[u64], k: usize) -> bool {
    words[k / 64] >> (k % 64) & 1 != 0
}

impl GroupAccumulator {
    /// An empty group. `span` is the place of the aggregated expression, which annotations point at.
    pub fn new(op: AggregateOp, steps: usize, span: Span) -> Self {
        use AggregateOp as A;
        let floats = |wanted: bool, v: f64| if wanted { vec![v; steps] } else { Vec::new() };
        // NaN gives way to every sample in `min` and `max`.
        let start = if matches!(op, A::Min | A::Max) { f64::NAN } else { 0.0 };
        let counted = matches!(op, A::Avg | A::Count | A::Stddev | A::Stdvar);
        Self {
            op,
            steps,
            span,
            present: vec![0; steps.div_ceil(64)],
            value: floats(matches!(op, A::Sum | A::Avg | A::Min | A::Max | A::Stddev | A::Stdvar), start),
            extra: floats(matches!(op, A::Sum | A::Avg | A::Stddev | A::Stdvar), 0.0),
            count: if counted { vec![0; steps] } else { Vec::new() },
            incremental: Vec::new(),
            histograms: None,
        }
    }

    /// Bytes a group of floats takes per step.
    pub fn bytes_per_step(&self) -> usize {
        let used = |empty: bool, n: usize| if empty { 0 } else { n };
        1 + used(self.value.is_empty(), 8) + used(self.extra.is_empty(), 8) + used(self.count.is_empty(), 4)
    }

    /// Adds one series; series must come in the order of upstream's input. `metric_name` is used in a
    /// warning about histograms only.
    pub fn fold(&mut self, column: &Column, metric_name: &str, annotations: &mut dyn FnMut(Annotation)) {
        debug_assert_eq!(column.steps(), self.steps);
        if self.histograms.is_some() && matches!(self.op, AggregateOp::Sum | AggregateOp::Avg) {
            self.fold_floats_beside_histograms(column);
        } else {
            self.fold_floats(column);
        }
        if !column.histograms.is_empty() {
            self.fold_histograms(column, metric_name, annotations);
        }
    }

    fn fold_floats(&mut self, column: &Column) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            #[allow(unsafe_code)]
            // SAFETY: the processor has AVX2, all that the function asks for.
            unsafe {
                return self.fold_floats_avx2(column);
            }
        }
        self.fold_words(column);
    }

    /// The same code with wider registers; every lane is a step of its own, so bits do not change.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn fold_floats_avx2(&mut self, column: &Column) {
        self.fold_words(column);
    }

    #[inline(always)]
    fn fold_words(&mut self, column: &Column) {
        use AggregateOp as A;
        match self.op {
            A::Sum => self.each_word::<Sum>(column),
            A::Avg => self.fold_average(column),
            A::Min => self.each_word::<Min>(column),
            A::Max => self.each_word::<Max>(column),
            A::Stddev | A::Stdvar => self.each_word::<Variance>(column),
            A::Count => self.each_word::<Count>(column),
            _ => {
                for (have, word) in self.present.iter_mut().zip(&column.present) {
                    *have |= *word;
                }
            }
        }
    }

    #[inline(always)]
    fn each_word<K: Kernel>(&mut self, column: &Column) {
        for (i, word) in column.present.iter().enumerate() {
            if *word == 0 {
                continue;
            }
            self.present[i] |= *word;
            let from = i * 64;
            let to = (from + 64).min(self.steps);
            let value = part(&mut self.value, from, to);
            let extra = part(&mut self.extra, from, to);
            let count = part(&mut self.count, from, to);
            let input = &column.values[from..to];
            if word.count_ones() as usize == to - from {
                K::all(value, extra, count, input);
            } else if word.count_ones() < SPARSE {
                let mut rest = *word;
                while rest != 0 {
                    let k = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    K::all(
                        part(value, k, k + 1),
                        part(extra, k, k + 1),
                        part(count, k, k + 1),
                        &input[k..=k],
                    );
                }
            } else {
                K::masked(value, extra, count, input, *word);
            }
        }
    }

    /// `avg` sums as `sum` does; a word in which a sum overflows is done step by step.
    #[inline(always)]
    fn fold_average(&mut self, column: &Column) {
        for (i, word) in column.present.iter().enumerate() {
            if *word == 0 {
                continue;
            }
            self.present[i] |= *word;
            let from = i * 64;
            let to = (from + 64).min(self.steps);
            let input = &column.values[from..to];
            let is_incremental = self.incremental.get(i).is_some_and(|w| *w != 0);
            if !is_incremental && word.count_ones() >= SPARSE {
                let n = to - from;
                let (mut sums, mut errors) = ([0.0; 64], [0.0; 64]);
                let (sums, errors) = (&mut sums[..n], &mut errors[..n]);
                sums.copy_from_slice(&self.value[from..to]);
                errors.copy_from_slice(&self.extra[from..to]);
                if word.count_ones() as usize == n {
                    Sum::all(sums, errors, &mut [], input);
                } else {
                    Sum::masked(sums, errors, &mut [], input, *word);
                }
                let overflows = sums.iter().fold(false, |o, s| o | s.is_infinite());
                if !overflows {
                    self.value[from..to].copy_from_slice(sums);
                    self.extra[from..to].copy_from_slice(errors);
                    Count::masked(&mut [], &mut [], &mut self.count[from..to], input, *word);
                    continue;
                }
            }
            let mut rest = *word;
            while rest != 0 {
                let k = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                self.average(from + k, input[k]);
            }
        }
    }

    /// One sample of `avg`: a sum as long as it is finite, then a mean that moves.
    fn average(&mut self, k: usize, f: f64) {
        self.count[k] += 1;
        let n = f64::from(self.count[k]);
        let (value, c) = (&mut self.value[k], &mut self.extra[k]);
        if self.count[k] == 1 {
            (*value, *c) = (f, 0.0);
            return;
        }
        let incremental = self.incremental.get(k / 64).is_some_and(|w| w >> (k % 64) & 1 != 0);
        if !incremental {
            let (mut sum, mut error) = (*value, *c);
            kahan_inc(f, &mut sum, &mut error);
            if !sum.is_infinite() {
                (*value, *c) = (sum, error);
                return;
            }
            self.incremental.resize(self.present.len(), 0);
            set_bit(&mut self.incremental, k);
            *value /= n - 1.0;
            *c /= n - 1.0;
        }
        let q = (n - 1.0) / n;
        let (mut mean, mut error) = (q * *value, q * *c);
        kahan_inc(f / n, &mut mean, &mut error);
        (*value, *c) = (mean, error);
    }

    /// Once a group has histograms, floats matter only in that they spoil steps with histograms.
    fn fold_floats_beside_histograms(&mut self, column: &Column) {
        let Some(states) = &self.histograms else { return };
        let mut column =
            Column { values: column.values.clone(), present: column.present.clone(), histograms: Vec::new() };
        for (word, gone) in column.present.iter_mut().zip(&states.incompatible) {
            *word &= !gone;
        }
        self.fold_floats(&column);
    }

    fn fold_histograms(
        &mut self,
        column: &Column,
        metric_name: &str,
        annotations: &mut dyn FnMut(Annotation),
    ) {
        match self.op {
            AggregateOp::Count => {
                for (k, _) in &column.histograms {
                    set_bit(&mut self.present, *k as usize);
                    self.count[*k as usize] += 1;
                }
            }
            AggregateOp::Group => {
                for (k, _) in &column.histograms {
                    set_bit(&mut self.present, *k as usize);
                }
            }
            AggregateOp::Sum | AggregateOp::Avg => {
                for (k, h) in &column.histograms {
                    self.add_histogram(*k as usize, h, metric_name, annotations);
                }
            }
            op => annotations(Annotation::histogram_ignored_in_aggregation(op.as_str(), self.span)),
        }
    }

    fn add_histogram(
        &mut self,
        k: usize,
        h: &FloatHistogram,
        metric_name: &str,
        annotations: &mut dyn FnMut(Annotation),
    ) {
        let words = self.present.len();
        let states = self.histograms.get_or_insert_with(|| {
            Box::new(HistogramStates {
                present: vec![0; words],
                incompatible: vec![0; words],
                sums: vec![None; self.steps],
            })
        });
        if has_bit(&states.incompatible, k) {
            return;
        }
        let is_first = !has_bit(&states.present, k);
        set_bit(&mut states.present, k);
        let slot = &mut states.sums[k];
        match slot {
            // After a float there will be no result, so the histograms need not be added.
            None if is_first && !has_bit(&self.present, k) => {
                let mut sum = Box::new(HistogramSum {
                    value: h.clone(),
                    compensation: None,
                    count: 1,
                    incremental: false,
                    counter_reset_seen: false,
                    not_counter_reset_seen: false,
                });
                sum.see_hint(h);
                *slot = Some(sum);
            }
            None => {}
            Some(sum) => {
                sum.see_hint(h);
                let added = if self.op == AggregateOp::Sum { sum.add(h) } else { sum.add_to_mean(h) };
                match added {
                    Ok(true) => annotations(Annotation::mismatched_custom_buckets(
                        HistogramOperation::Aggregation,
                        self.span,
                    )),
                    Ok(false) => {}
                    Err(Incompatible) => {
                        annotations(Annotation::mixed_exponential_custom_histograms(metric_name, self.span));
                        set_bit(&mut states.incompatible, k);
                        *slot = None;
                    }
                }
            }
        }
    }

    /// The group's result.
    pub fn finish(mut self, annotations: &mut dyn FnMut(Annotation)) -> Column {
        use AggregateOp as A;
        let mut histograms = Vec::new();
        if let Some(states) = self.histograms.take() {
            let HistogramStates { present, mut sums, .. } = *states;
            for k in bits(&present) {
                if has_bit(&self.present, k) {
                    annotations(Annotation::mixed_floats_histograms_aggregation(self.span));
                    self.present[k / 64] &= !(1 << (k % 64));
                    continue;
                }
                let Some(sum) = sums[k].take() else { continue };
                if sum.counter_reset_seen && sum.not_counter_reset_seen {
                    annotations(Annotation::histogram_counter_reset_collision(
                        HistogramOperation::Aggregation,
                        self.span,
                    ));
                }
                histograms.push((k as u32, std::sync::Arc::new(sum.finish(self.op == A::Avg))));
            }
        }
        let mut values = self.value;
        match self.op {
            A::Sum => values.iter_mut().zip(&self.extra).for_each(|(v, c)| *v += c),
            A::Avg => {
                for (k, v) in values.iter_mut().enumerate() {
                    let n = f64::from(self.count[k]);
                    let incremental = self.incremental.get(k / 64).is_some_and(|w| w >> (k % 64) & 1 != 0);
                    *v = if incremental { *v + self.extra[k] } else { *v / n + self.extra[k] / n };
                }
            }
            A::Count => values = self.count.iter().map(|n| f64::from(*n)).collect(),
            A::Group => values = vec![1.0; self.steps],
            A::Stdvar | A::Stddev => {
                values = self.extra;
                for (v, n) in values.iter_mut().zip(&self.count) {
                    *v /= f64::from(*n);
                    if self.op == A::Stddev {
                        *v = v.sqrt();
                    }
                }
            }
            _ => {}
        }
        Column { values, present: self.present, histograms }
    }
}

/// A slice of state, or nothing where the operator has none of this kind.
#[inline(always)]
fn part<T>(all: &mut [T], from: usize, to: usize) -> &mut [T] {
    if all.is_empty() { &mut [] } else { &mut all[from..to] }
}

/// All ones if bit `k` of `word` is set.
#[inline(always)]
fn lane_mask(word: u64, k: usize) -> u64 {
    (word >> k & 1).wrapping_neg()
}

/// How a word's samples get into the states of their steps.
trait Kernel {
    /// Every slot has a sample.
    fn all(value: &mut [f64], extra: &mut [f64], count: &mut [u32], input: &[f64]);
    /// Slots have samples where `word` has bits; at most 64.
    fn masked(value: &mut [f64], extra: &mut [f64], count: &mut [u32], input: &[f64], word: u64);
}

/// Compensated sums. 0 is no start that shows: it turns −0 into 0 only, as adding the compensation does.
struct Sum;

/// [`kahan_inc`] without branches.
#[inline(always)]
fn inc(x: f64, s: &mut f64, c: &mut f64) {
    let t = *s + x;
    let (big, small) = if s.abs() >= x.abs() { (*s, x) } else { (x, *s) };
    let next = *c + ((big - t) + small);
    *c = if t.abs() == f64::INFINITY { 0.0 } else { next };
    *s = t;
}

impl Kernel for Sum {
    #[inline(always)]
    fn all(value: &mut [f64], extra: &mut [f64], _: &mut [u32], input: &[f64]) {
        for ((s, c), x) in value.iter_mut().zip(extra).zip(input) {
            inc(*x, s, c);
        }
    }

    /// Adding 0 leaves sum and compensation as they are.
    #[inline(always)]
    fn masked(value: &mut [f64], extra: &mut [f64], _: &mut [u32], input: &[f64], word: u64) {
        for (k, ((s, c), x)) in value.iter_mut().zip(extra).zip(input).enumerate() {
            inc(f64::from_bits(x.to_bits() & lane_mask(word, k)), s, c);
        }
    }
}

struct Max;

impl Kernel for Max {
    #[inline(always)]
    fn all(value: &mut [f64], _: &mut [f64], _: &mut [u32], input: &[f64]) {
        for (v, x) in value.iter_mut().zip(input) {
            *v = if (*v < *x) | v.is_nan() { *x } else { *v };
        }
    }

    #[inline(always)]
    fn masked(value: &mut [f64], _: &mut [f64], _: &mut [u32], input: &[f64], word: u64) {
        for (k, (v, x)) in value.iter_mut().zip(input).enumerate() {
            let x = f64::from_bits(x.to_bits() | !lane_mask(word, k));
            *v = if (*v < x) | v.is_nan() { x } else { *v };
        }
    }
}

struct Min;

impl Kernel for Min {
    #[inline(always)]
    fn all(value: &mut [f64], _: &mut [f64], _: &mut [u32], input: &[f64]) {
        for (v, x) in value.iter_mut().zip(input) {
            *v = if (*v > *x) | v.is_nan() { *x } else { *v };
        }
    }

    #[inline(always)]
    fn masked(value: &mut [f64], _: &mut [f64], _: &mut [u32], input: &[f64], word: u64) {
        for (k, (v, x)) in value.iter_mut().zip(input).enumerate() {
            let x = f64::from_bits(x.to_bits() | !lane_mask(word, k));
            *v = if (*v > x) | v.is_nan() { x } else { *v };
        }
    }
}

struct Count;

impl Kernel for Count {
    #[inline(always)]
    fn all(_: &mut [f64], _: &mut [f64], count: &mut [u32], _: &[f64]) {
        for n in count {
            *n += 1;
        }
    }

    #[inline(always)]
    fn masked(_: &mut [f64], _: &mut [f64], count: &mut [u32], _: &[f64], word: u64) {
        for (k, n) in count.iter_mut().enumerate() {
            *n += (word >> k & 1) as u32;
        }
    }
}

/// Mean and sum of squared distances, updated by Welford's rule. The first sample meets a mean of 0 and
/// gives itself as mean, and a distance of 0 (NaN if it is not finite).
struct Variance;

impl Kernel for Variance {
    #[inline(always)]
    fn all(value: &mut [f64], extra: &mut [f64], count: &mut [u32], input: &[f64]) {
        Self::masked(value, extra, count, input, u64::MAX);
    }

    #[inline(always)]
    fn masked(value: &mut [f64], extra: &mut [f64], count: &mut [u32], input: &[f64], word: u64) {
        for (k, (((mean, squares), n), x)) in value.iter_mut().zip(extra).zip(count).zip(input).enumerate() {
            let here = word >> k & 1;
            *n += here as u32;
            let delta = *x - *mean;
            let next = *mean + delta / f64::from(*n as i32);
            let sum = *squares + delta * (*x - next);
            *mean = if here != 0 { next } else { *mean };
            *squares = if here != 0 { sum } else { *squares };
        }
    }
}

/// Exponential and custom buckets cannot be added.
struct Incompatible;

impl HistogramSum {
    fn see_hint(&mut self, h: &FloatHistogram) {
        match h.counter_reset_hint {
            CounterResetHint::CounterReset => self.counter_reset_seen = true,
            CounterResetHint::NotCounterReset => self.not_counter_reset_seen = true,
            _ => {}
        }
    }

    /// Adds to the value; says whether custom bounds had to be reconciled.
    fn add(&mut self, h: &FloatHistogram) -> Result<bool, Incompatible> {
        let compensation = self.compensation.take();
        let (compensation, outcome) = self.value.kahan_add(h, compensation).map_err(|_| Incompatible)?;
        self.compensation = Some(compensation);
        Ok(outcome.nhcb_bounds_reconciled)
    }

    /// As the average of floats: a sum as long as it is finite, then a mean that moves.
    fn add_to_mean(&mut self, h: &FloatHistogram) -> Result<bool, Incompatible> {
        self.count += 1;
        let n = f64::from(self.count);
        let mut reconciled = false;
        if !self.incremental {
            let mut value = self.value.clone();
            let (compensation, outcome) =
                value.kahan_add(h, self.compensation.clone()).map_err(|_| Incompatible)?;
            reconciled = outcome.nhcb_bounds_reconciled;
            if !value.has_overflow() {
                self.value = value;
                self.compensation = Some(compensation);
                return Ok(reconciled);
            }
            self.incremental = true;
            self.value.div(n - 1.0);
            if let Some(c) = &mut self.compensation {
                c.div(n - 1.0);
            }
        }
        let q = (n - 1.0) / n;
        if let Some(c) = &mut self.compensation {
            c.mul(q);
        }
        self.value.mul(q);
        let mut part = h.clone();
        part.div(n);
        Ok(self.add(&part)? | reconciled)
    }

    fn finish(mut self, average: bool) -> FloatHistogram {
        let n = f64::from(self.count);
        if average && !self.incremental {
            self.value.div(n);
            if let Some(c) = &mut self.compensation {
                c.div(n);
            }
        }
        if let Some(c) = &self.compensation {
            // The layouts agree, so there is nothing to refuse or to smooth over.
            let _ = self.value.add(c);
        }
        self.value.compact(0);
        self.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;
    const OPERATORS: [AggregateOp; 8] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Count,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
    ];

    /// One step in upstream's way: the first sample opens the group, the others are added one by one.
    fn plain(op: AggregateOp, samples: &[f64]) -> Option<f64> {
        use AggregateOp as A;
        let (first, rest) = samples.split_first()?;
        let (mut value, mut mean, mut c, mut n) = (*first, *first, 0.0, 1.0);
        let mut incremental = false;
        match op {
            A::Stddev | A::Stdvar => value = if first.is_finite() { 0.0 } else { NAN },
            A::Group => value = 1.0,
            _ => {}
        }
        for f in rest {
            let f = *f;
            n += 1.0;
            match op {
                A::Sum => kahan_inc(f, &mut value, &mut c),
                A::Avg => {
                    if !incremental {
                        let (mut sum, mut error) = (value, c);
                        kahan_inc(f, &mut sum, &mut error);
                        if !sum.is_infinite() {
                            (value, c) = (sum, error);
                            continue;
                        }
                        incremental = true;
                        mean = value / (n - 1.0);
                        c /= n - 1.0;
                    }
                    let q = (n - 1.0) / n;
                    (mean, c) = (q * mean, q * c);
                    kahan_inc(f / n, &mut mean, &mut c);
                }
                A::Max if value < f || value.is_nan() => value = f,
                A::Min if value > f || value.is_nan() => value = f,
                A::Stddev | A::Stdvar => {
                    let delta = f - mean;
                    mean += delta / n;
                    value += delta * (f - mean);
                }
                _ => {}
            }
        }
        Some(match op {
            A::Sum => value + c,
            A::Avg if incremental => mean + c,
            A::Avg => value / n + c / n,
            A::Count => n,
            A::Stdvar => value / n,
            A::Stddev => (value / n).sqrt(),
            _ => value,
        })
    }

    fn same(a: Option<f64>, b: Option<f64>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    fn fold(op: AggregateOp, columns: &[Column]) -> (Column, Vec<String>) {
        let mut group = GroupAccumulator::new(op, columns[0].steps(), Span::default());
        let mut notes = Vec::new();
        for c in columns {
            group.fold(c, "m", &mut |a| notes.push(a.text));
        }
        let out = group.finish(&mut |a| notes.push(a.text));
        notes.dedup();
        (out, notes)
    }

    fn check(columns: &[Column]) {
        for op in OPERATORS {
            let (out, _) = fold(op, columns);
            for k in 0..columns[0].steps() {
                let samples: Vec<f64> = columns.iter().filter_map(|c| c.float(k)).collect();
                let expected = plain(op, &samples);
                assert!(
                    same(out.float(k), expected),
                    "{op:?} of {samples:?}: {:?}, not {expected:?}",
                    out.float(k)
                );
            }
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => -1e3..1e3f64,
            2 => Just(0.1),
            1 => Just(-0.0),
            1 => Just(0.0),
            1 => Just(1e100),
            1 => Just(-1e100),
            1 => prop_oneof![Just(1.7e308), Just(-1.7e308), Just(INF), Just(-INF), Just(NAN)],
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn folds_have_the_bits_of_the_plain_loop(
            series in proptest::collection::vec(
                (proptest::collection::vec(value(), 130), any::<[u64; 3]>(), 0..3u8),
                1..7,
            ),
        ) {
            let columns: Vec<Column> = series
                .into_iter()
                .map(|(values, present, density)| {
                    let mut c = Column::new(130);
                    for (k, v) in values.into_iter().enumerate() {
                        let sparse = k % 9 == 0 && present[k / 64] >> (k % 64) & 1 != 0;
                        if density == 0 || (density == 1 && present[k / 64] >> (k % 64) & 1 != 0) || sparse {
                            c.set_float(k, v);
                        } else {
                            // What lies in empty slots must not matter.
                            c.values[k] = NAN;
                        }
                    }
                    c
                })
                .collect();
            check(&columns);
        }
    }

    #[test]
    fn literal_groups() {
        use AggregateOp as A;
        for (op, samples, expected) in [
            (A::Sum, vec![1e100, 1.0, -1e100], 1.0),
            (A::Sum, vec![-0.0], 0.0),
            (A::Sum, vec![INF, -INF], NAN),
            (A::Avg, vec![1.7e308, 1.7e308], 1.7e308),
            (A::Avg, vec![INF, 1.0], INF),
            (A::Avg, vec![1.0, 2.0, 6.0], 3.0),
            (A::Min, vec![NAN, 2.0, 1.0], 1.0),
            (A::Max, vec![2.0, NAN, 3.0], 3.0),
            (A::Max, vec![NAN, NAN], NAN),
            (A::Min, vec![0.0, -0.0], 0.0),
            (A::Max, vec![-0.0, 0.0], -0.0),
            (A::Count, vec![NAN, 1.0], 2.0),
            (A::Group, vec![7.0, NAN], 1.0),
            (A::Stdvar, vec![2.0, 4.0], 1.0),
            (A::Stddev, vec![5.0], 0.0),
            (A::Stddev, vec![INF], NAN),
        ] {
            let columns: Vec<Column> = samples.iter().map(|v| Column::constant(70, *v)).collect();
            let (out, notes) = fold(op, &columns);
            for k in [0, 69] {
                assert!(same(out.float(k), Some(expected)), "{op:?} of {samples:?}: {:?}", out.float(k));
            }
            assert!(notes.is_empty());
        }
    }

    fn histogram(schema: i32, count: f64, hint: CounterResetHint) -> FloatHistogram {
        FloatHistogram {
            schema,
            count,
            sum: count * 2.0,
            counter_reset_hint: hint,
            ..FloatHistogram::default()
        }
    }

    fn with_histogram(h: FloatHistogram) -> Column {
        let mut c = Column::new(2);
        c.push_histogram(1, Arc::new(h));
        c
    }

    #[test]
    fn histograms_are_added_and_averaged() {
        let columns = [10.0, 20.0, 60.0].map(|n| with_histogram(histogram(0, n, CounterResetHint::Unknown)));
        for (op, expected) in [(AggregateOp::Sum, 90.0), (AggregateOp::Avg, 30.0)] {
            let (out, notes) = fold(op, &columns);
            assert_eq!(
                out.histograms.iter().map(|(k, h)| (*k, h.count, h.sum)).collect::<Vec<_>>(),
                [(1, expected, expected * 2.0)]
            );
            assert_eq!((out.float_count(), notes), (0, vec![]));
        }
        for (op, expected) in [(AggregateOp::Count, 3.0), (AggregateOp::Group, 1.0)] {
            let (out, _) = fold(op, &columns);
            assert_eq!((out.float(0), out.float(1), out.histograms.len()), (None, Some(expected), 0));
        }
        let (out, notes) = fold(AggregateOp::Max, &columns);
        assert!(out.is_empty());
        assert_eq!(notes, ["PromQL info: ignored histogram in max aggregation"]);
    }

    #[test]
    fn averages_of_huge_histograms_do_not_overflow() {
        let columns = [1.5e308, 1.5e308].map(|n| {
            let h = FloatHistogram { count: n, sum: 1.0, ..FloatHistogram::default() };
            with_histogram(h)
        });
        let (out, _) = fold(AggregateOp::Avg, &columns);
        assert_eq!(out.histograms[0].1.count, 1.5e308);
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let hint = CounterResetHint::Unknown;
        let plain = with_histogram(histogram(0, 1.0, hint));
        let custom = with_histogram(histogram(-53, 1.0, hint));
        let reset = with_histogram(histogram(0, 1.0, CounterResetHint::CounterReset));
        let no_reset = with_histogram(histogram(0, 1.0, CounterResetHint::NotCounterReset));
        let float = Column::constant(2, 1.0);
        let mixed = "PromQL warning: encountered a mix of histograms and floats for aggregation";
        let buckets = "PromQL warning: vector contains a mix of histograms with exponential and custom buckets \
                       schemas for metric name \"m\"";
        let collision = "PromQL warning: conflicting counter resets during histogram aggregation";
        for op in [AggregateOp::Sum, AggregateOp::Avg] {
            for (columns, results, expected) in [
                (vec![&float, &plain], 0, vec![mixed]),
                (vec![&plain, &float], 0, vec![mixed]),
                (vec![&plain, &custom], 0, vec![buckets]),
                // After the mix nothing counts, not even a float.
                (vec![&plain, &custom, &float], 0, vec![buckets]),
                (vec![&plain, &float, &custom], 0, vec![buckets, mixed]),
                (vec![&reset, &no_reset], 1, vec![collision]),
                (vec![&reset, &plain, &reset], 1, vec![]),
            ] {
                let columns: Vec<Column> = columns.into_iter().cloned().collect();
                let (out, notes) = fold(op, &columns);
                assert_eq!((out.histograms.len(), out.float(1)), (results, None), "{op:?} {notes:?}");
                assert_eq!(notes, expected);
            }
        }
    }
}
