//! Kernels over histograms: rates, sums and averages of windows that hold nothing else.

use std::sync::Arc;

use tsdbctl_chunk::columns::Histograms;
use tsdbctl_model::{CounterResetHint, FloatHistogram};

use super::notes::{Note, Notes};
use super::pairs::starts_before_previous;
use super::rate::{Extrapolation, extended_edges, is_reset_by_start};
use super::{RangeFunction, WindowQuery};
use crate::engine::Column;

/// The histograms of one series, and which windows hold histograms alone.
pub(super) struct HistogramWindows<'a> {
    pub(super) h: &'a Histograms,
    /// Start timestamps: empty, or one per sample.
    pub(super) st: &'a [i64],
    pub(super) lo: &'a [u32],
    pub(super) hi: &'a [u32],
    /// Bounds of the float windows.
    pub(super) float_lo: &'a [u32],
    pub(super) float_hi: &'a [u32],
}

impl HistogramWindows<'_> {
    /// The window of step `k` if it holds histograms and no float.
    fn alone(&self, k: usize) -> Option<std::ops::Range<usize>> {
        (self.lo[k] < self.hi[k] && self.float_lo[k] >= self.float_hi[k])
            .then(|| self.lo[k] as usize..self.hi[k] as usize)
    }

    fn start_timestamp(&self, i: usize) -> i64 {
        self.st.get(i).copied().unwrap_or(0)
    }

    /// Whether the counter was reset between sample `i − 1` and `i`.
    pub(super) fn is_reset(&self, i: usize) -> bool {
        is_reset_by_start(&self.h.t, self.st, i) || self.h.h[i].detect_reset(&self.h.h[i - 1])
    }
}

/// Adds or subtracts, with its notes; `None` if the histograms do not fit together.
fn add(to: &mut FloatHistogram, h: &FloatHistogram, notes: &mut Notes) -> Option<()> {
    note_reconciled(to.add(h), Note::ReconciledAddition, notes)
}

fn sub(from: &mut FloatHistogram, h: &FloatHistogram, notes: &mut Notes) -> Option<()> {
    note_reconciled(from.sub(h), Note::ReconciledSubtraction, notes)
}

fn note_reconciled<E>(
    outcome: Result<tsdbctl_model::histogram::AddOutcome, E>,
    note: Note,
    notes: &mut Notes,
) -> Option<()> {
    match outcome {
        Ok(outcome) => {
            if outcome.nhcb_bounds_reconciled {
                notes.add(note);
            }
            Some(())
        }
        Err(_) => {
            notes.add(Note::MixedSchemas);
            None
        }
    }
}

/// Forgets the window's notes for the one that says why there is no result.
fn only(note: Note, notes: &mut Notes) {
    *notes = Notes::default();
    notes.add(note);
}

/// `sum_over_time`, `avg_over_time`, `rate`, `increase`, `delta` over the windows of histograms alone.
pub(super) fn combine(query: &WindowQuery, w: &HistogramWindows, out: &mut Column, notes: &mut Notes) {
    let counter = matches!(query.function, RangeFunction::Rate | RangeFunction::Increase);
    let extended = query.anchored || query.smoothed;
    // Neighbours are compared once, not once per window.
    let resets: Vec<bool> = match query.function {
        RangeFunction::Rate | RangeFunction::Increase if !extended => {
            (0..w.h.len()).map(|i| i > 0 && w.is_reset(i)).collect()
        }
        _ => Vec::new(),
    };
    for k in 0..out.steps() {
        let Some(window) = w.alone(k) else { continue };
        let mut local = Notes::default();
        let h = &w.h.h[window.clone()];
        let result = match query.function {
            RangeFunction::SumOverTime => sum(h, &mut local),
            RangeFunction::AvgOverTime => average(h, &mut local),
            _ if extended => extended_rate(query, w, k, counter, &mut local),
            _ => extrapolated_rate(query, w, k, counter, &resets, &mut local),
        };
        notes.merge(local);
        if let Some(h) = result {
            out.push_histogram(k, Arc::new(h));
        }
    }
}

/// What the hints of a window say together.
fn note_collision(h: &[Arc<FloatHistogram>], notes: &mut Notes) {
    let has = |hint| h.iter().any(|h| h.counter_reset_hint == hint);
    if has(CounterResetHint::CounterReset) && has(CounterResetHint::NotCounterReset) {
        notes.add(Note::ResetCollision);
    }
}

fn sum(h: &[Arc<FloatHistogram>], notes: &mut Notes) -> Option<FloatHistogram> {
    note_collision(h, notes);
    let mut sum = FloatHistogram::clone(&h[0]);
    let mut compensation: Option<FloatHistogram> = None;
    for h in &h[1..] {
        let Ok((c, outcome)) = sum.kahan_add(h, compensation.take()) else {
            only(Note::MixedSchemas, notes);
            return None;
        };
        compensation = Some(c);
        if outcome.nhcb_bounds_reconciled {
            notes.add(Note::ReconciledAggregation);
        }
    }
    if let Some(c) = compensation {
        match sum.add(&c) {
            Ok(outcome) if outcome.nhcb_bounds_reconciled => notes.add(Note::ReconciledAggregation),
            Ok(_) => {}
            Err(_) => {
                only(Note::MixedSchemas, notes);
                return None;
            }
        }
    }
    Some(sum)
}

fn average(h: &[Arc<FloatHistogram>], notes: &mut Notes) -> Option<FloatHistogram> {
    note_collision(h, notes);
    let Some(mean) = average_of(h, notes) else {
        only(Note::MixedSchemas, notes);
        return None;
    };
    Some(mean)
}

fn average_of(h: &[Arc<FloatHistogram>], notes: &mut Notes) -> Option<FloatHistogram> {
    let mut sum = FloatHistogram::clone(&h[0]);
    let mut compensation: Option<FloatHistogram> = None;
    for (i, next) in h.iter().enumerate().skip(1) {
        let (c, outcome) = sum.kahan_add(next, compensation.take()).ok()?;
        compensation = Some(c);
        if outcome.nhcb_bounds_reconciled {
            notes.add(Note::ReconciledAggregation);
        }
        if sum.has_overflow() {
            return incremental_mean(h, i, notes);
        }
    }
    let count = h.len() as f64;
    sum.div(count);
    if let Some(mut c) = compensation {
        c.div(count);
        sum.add(&c).ok()?;
    }
    Some(sum)
}

/// The mean where the sum overflows at sample `from`: sums up to there, an incremental mean from there on.
#[cold]
fn incremental_mean(h: &[Arc<FloatHistogram>], from: usize, notes: &mut Notes) -> Option<FloatHistogram> {
    let mut mean = FloatHistogram::clone(&h[0]);
    let mut compensation: Option<FloatHistogram> = None;
    for h in &h[1..from] {
        compensation = Some(mean.kahan_add(h, compensation.take()).ok()?.0);
    }
    mean.div(from as f64);
    if let Some(c) = &mut compensation {
        c.div(from as f64);
    }
    for (i, next) in h.iter().enumerate().skip(from) {
        let count = (i + 1) as f64;
        let q = (count - 1.0) / count;
        if let Some(c) = &mut compensation {
            c.mul(q);
        }
        let mut part = FloatHistogram::clone(next);
        part.div(count);
        mean.mul(q);
        let (c, outcome) = mean.kahan_add(&part, compensation.take()).ok()?;
        compensation = Some(c);
        if outcome.nhcb_bounds_reconciled {
            notes.add(Note::ReconciledAggregation);
        }
    }
    if let Some(c) = &compensation {
        mean.add(c).ok()?;
    }
    Some(mean)
}

/// The increase between the first and the last histogram of a window of at least two.
fn increase(
    w: &HistogramWindows,
    window: std::ops::Range<usize>,
    counter: bool,
    resets: &[bool],
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let (a, b) = (window.start, window.end);
    let h = &w.h.h;
    let (first, second, last) = (&h[a], &h[a + 1], &h[b - 1]);
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if counter && (is_gauge(first) || is_gauge(last)) {
        notes.add(Note::NotCounter);
    }
    // Behind a reset the first sample says nothing, whatever its layout.
    let nothing = (counter && resets[a + 1]).then(|| FloatHistogram {
        schema: second.schema,
        custom_values: second.custom_values.clone(),
        ..FloatHistogram::default()
    });
    let base: &FloatHistogram = nothing.as_ref().unwrap_or(first);
    let custom = base.uses_custom_buckets();
    if last.uses_custom_buckets() != custom {
        notes.add(Note::MixedSchemas);
        return None;
    }
    let mut schema = last.schema.min(base.schema);
    if counter {
        for h in &h[a + 1..b - 1] {
            if is_gauge(h) {
                notes.add(Note::NotCounter);
            }
            schema = schema.min(h.schema);
            if h.uses_custom_buckets() != custom {
                only(Note::MixedSchemas, notes);
                return None;
            }
        }
    }
    let Ok(mut result) = last.copy_to_schema(schema) else {
        only(Note::MixedSchemas, notes);
        return None;
    };
    if sub(&mut result, base, notes).is_none() {
        only(Note::MixedSchemas, notes);
        return None;
    }
    if counter {
        let st = |i| w.start_timestamp(i);
        if !w.st.is_empty() && (a + 1..b).any(|i| starts_before_previous(st(i - 1), w.h.t[i - 1], st(i))) {
            notes.add_overlap();
        }
        for i in a + 1..b {
            let (reset, before) = match &nothing {
                Some(nothing) if i == a + 1 => {
                    (is_reset_by_start(&w.h.t, w.st, i) || h[i].detect_reset(nothing), nothing)
                }
                _ => (resets[i], &*h[i - 1]),
            };
            if reset && add(&mut result, before, notes).is_none() {
                only(Note::MixedSchemas, notes);
                return None;
            }
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.add(Note::NotGauge);
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(result)
}

fn extrapolated_rate(
    query: &WindowQuery,
    w: &HistogramWindows,
    k: usize,
    counter: bool,
    resets: &[bool],
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let window = w.alone(k)?;
    let (a, b) = (window.start, window.end);
    let (h, t) = (&w.h.h, &w.h.t);
    let end = query.grid.time(k);
    let start = end.saturating_sub(query.range_ms);
    let mut result = if b - a > 1 { Some(increase(w, window, counter, resets, notes)?) } else { None };
    let st = w.start_timestamp(a);
    let began = Some(st).filter(|s| counter && *s != 0 && *s > start && *s < t[a]);
    let mut to_zero = None;
    if began.is_some() {
        match &mut result {
            Some(result) => add(result, &h[a], notes)?,
            None => result = Some(FloatHistogram::clone(&h[a])),
        }
    } else {
        let increase = result.as_ref()?.count;
        to_zero = (counter && increase > 0.0 && h[a].count >= 0.0).then_some((h[a].count, increase));
    }
    let factor =
        Extrapolation { start, end, first: t[a], last: t[b - 1], intervals: b - a - 1, began, to_zero }
            .factor((query.function == RangeFunction::Rate).then(|| query.range_seconds()));
    let mut result = result?;
    result.mul(factor);
    Some(result)
}

/// The histogram on the line between two at `t`; a counter that fell starts from nothing. `None` if their
/// buckets do not fit together.
pub(super) fn interpolate(
    (t1, h1): (i64, &FloatHistogram),
    (t2, h2): (i64, &FloatHistogram),
    t: i64,
    counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    if t == t1 {
        return Some(h1.clone());
    }
    let mut result = h2.clone();
    if t == t2 {
        return Some(result);
    }
    let fraction = (t - t1) as f64 / (t2 - t1) as f64;
    if counter && h2.detect_reset(h1) {
        result.mul(fraction);
        return Some(result);
    }
    sub(&mut result, h1, notes)?;
    result.mul(fraction);
    add(&mut result, h1, notes)?;
    Some(result)
}

/// `rate`, `increase`, `delta` under `anchored` and `smoothed`.
fn extended_rate(
    query: &WindowQuery,
    w: &HistogramWindows,
    k: usize,
    counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let window = w.alone(k)?;
    let (h, t) = (&w.h.h[window.clone()], &w.h.t[window]);
    let end = query.grid.time(k);
    let start = end.saturating_sub(query.range_ms);
    let smoothed = query.smoothed;
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let (first, last) = extended_edges(t, start, end, smoothed)?;
    let custom = h[first].uses_custom_buckets();
    for h in h.get(first..=last).unwrap_or(&[]) {
        if h.uses_custom_buckets() != custom {
            notes.add(Note::MixedSchemas);
            return None;
        }
        if counter && is_gauge(h) {
            notes.add(Note::NotCounter);
        }
    }
    let left = if smoothed && t[first] < start {
        interpolate((t[first], &h[first]), (t[first + 1], &h[first + 1]), start, counter, notes)?
    } else {
        FloatHistogram::clone(&h[first])
    };
    let right = if smoothed && last > 0 && t[last] > end {
        interpolate((t[last - 1], &h[last - 1]), (t[last], &h[last]), end, counter, notes)?
    } else {
        FloatHistogram::clone(&h[last])
    };
    if !counter && (!is_gauge(&left) || !is_gauge(&right)) {
        notes.add(Note::NotGauge);
    }
    let mut result = right.clone();
    sub(&mut result, &left, notes)?;
    if counter {
        let correction = correction(t, h, (first, last), (&left, &right), start, smoothed, notes).ok()?;
        if let Some(correction) = correction {
            add(&mut result, &correction, notes)?;
        }
    }
    if query.function == RangeFunction::Rate {
        result.div(query.range_seconds());
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(result)
}

/// What resets between the edges took away; `Err` if histograms do not fit together.
fn correction(
    t: &[i64],
    h: &[Arc<FloatHistogram>],
    (first, last): (usize, usize),
    (left, right): (&FloatHistogram, &FloatHistogram),
    start: i64,
    smoothed: bool,
    notes: &mut Notes,
) -> Result<Option<FloatHistogram>, ()> {
    let mut from = first + 1;
    let mut before = left;
    if smoothed && t[first] < start && h[first + 1].detect_reset(&h[first]) {
        // Interpolation at the left edge has dealt with this reset.
        before = &h[first + 1];
        from += 1;
    }
    // The last sample is in `right`, hint included, so it is not visited here.
    if from > last {
        return Ok(None);
    }
    let mut correction: Option<FloatHistogram> = None;
    let mut take = |h: &FloatHistogram, notes: &mut Notes| match &mut correction {
        None => {
            correction = Some(h.clone());
            Ok(())
        }
        Some(sum) => add(sum, h, notes).ok_or(()),
    };
    for h in &h[from..last] {
        if h.detect_reset(before) {
            take(before, notes)?;
        }
        before = h;
    }
    if right.detect_reset(before) {
        take(before, notes)?;
    }
    Ok(correction)
}

/// Where upstream's iterator leaps over what lies between the windows of a range query, and so forgets the histogram in
/// front of the one it lands on.
#[derive(Clone, Copy, Debug)]
pub struct Leaps {
    /// First evaluation time, offset applied.
    pub first: i64,
    /// Distance of evaluation times, ms.
    pub step: i64,
    /// Number of evaluation times.
    pub steps: i64,
    /// How far in front of an evaluation time the iterator lands, ms.
    pub before: i64,
}

impl Leaps {
    /// Whether it leaps from `previous` or later, but in front of `t`, to `t`.
    fn lands_on(&self, t: i64, previous: i64) -> bool {
        // It stands on the first sample not in front of the evaluation time before.
        let gap = self.step.saturating_sub(self.before);
        if gap <= 0 || self.steps < 2 {
            return false;
        }
        let latest = t.min(previous.saturating_add(gap));
        let origin = self.first.saturating_sub(self.before);
        let k = latest.saturating_sub(origin).div_euclid(self.step).min(self.steps - 1);
        k >= 1 && origin.saturating_add(k.saturating_mul(self.step)) > previous
    }
}

/// Replaces histograms by what functions of their count and sum alone need, as upstream's decoding for those
/// does: buckets and bounds vanish, and an unknown hint becomes known by comparing with the one before, if no leap is
/// between the two.
pub fn convert_to_stats_only(histograms: &mut Histograms, leaps: Option<Leaps>) {
    let mut previous = i64::MIN;
    let mut last: Option<Arc<FloatHistogram>> = None;
    for (slot, t) in histograms.h.iter_mut().zip(&histograms.t) {
        if leaps.is_some_and(|leaps| leaps.lands_on(*t, previous)) {
            last = None;
        }
        previous = *t;
        let full = Arc::clone(slot);
        let mut stats = FloatHistogram {
            counter_reset_hint: full.counter_reset_hint,
            schema: full.schema,
            count: full.count,
            sum: full.sum,
            ..FloatHistogram::default()
        };
        if !full.is_stale() {
            if let (CounterResetHint::Unknown, Some(last)) = (full.counter_reset_hint, &last) {
                stats.counter_reset_hint = if full.detect_reset(last) {
                    CounterResetHint::CounterReset
                } else {
                    CounterResetHint::NotCounterReset
                };
            }
            last = Some(full);
        }
        *slot = Arc::new(stats);
    }
}
