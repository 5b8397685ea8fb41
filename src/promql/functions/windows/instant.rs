//! Instant selection: the newest sample in the lookback, per step.

use std::sync::Arc;

use tsdbctl_chunk::columns::{Floats, Histograms, SampleColumns};
use tsdbctl_model::sample::{STALE_NAN_BITS, is_stale};
use tsdbctl_model::{CounterResetHint, Span};
use tsdbctl_storage::annotations::Annotation;

use super::bounds::Cursor;
use super::histograms::interpolate as interpolate_histograms;
use super::notes::{Note, Notes};
use super::rate::interpolate;
use crate::engine::{Column, StepGrid};

/// What is stored for a sample.
trait Emit {
    fn float(floats: &Floats, i: usize) -> f64;
    /// The float stored for a histogram; `None` stores the histogram.
    fn histogram(histograms: &Histograms, i: usize) -> Option<f64>;
}

struct Value;
struct Time;
struct StartTime;

impl Emit for Value {
    #[inline(always)]
    fn float(floats: &Floats, i: usize) -> f64 {
        floats.v[i]
    }
    fn histogram(_histograms: &Histograms, _i: usize) -> Option<f64> {
        None
    }
}

impl Emit for Time {
    #[inline(always)]
    fn float(floats: &Floats, i: usize) -> f64 {
        floats.t[i] as f64
    }
    fn histogram(histograms: &Histograms, i: usize) -> Option<f64> {
        Some(histograms.t[i] as f64)
    }
}

impl Emit for StartTime {
    fn float(floats: &Floats, i: usize) -> f64 {
        floats.start_timestamp(i) as f64
    }
    fn histogram(histograms: &Histograms, i: usize) -> Option<f64> {
        Some(histograms.start_timestamp(i) as f64)
    }
}

fn floats_alone<E: Emit>(floats: &Floats, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    let n = floats.t.len().min(floats.v.len());
    let (times, values) = (&floats.t[..n], &floats.v[..n]);
    let mut cursor = Cursor::new(times);
    let mut t = grid.start;
    let mut oldest = grid.start.saturating_sub(lookback_ms);
    for (slots, word) in out.values.chunks_mut(64).zip(&mut out.present) {
        let mut bits = 0u64;
        for (i, slot) in slots.iter_mut().enumerate() {
            let behind = cursor.advance(t);
            if behind > 0 {
                let (at, v) = (times[behind - 1], values[behind - 1]);
                *slot = E::float(floats, behind - 1);
                bits |= u64::from((at > oldest) & (v.to_bits() != STALE_NAN_BITS)) << i;
            }
            t = t.wrapping_add(grid.step);
            oldest = oldest.wrapping_add(grid.step);
        }
        *word = bits;
    }
}

/// Both kinds: the newer of the newest float and the newest histogram counts.
fn mixed<E: Emit>(samples: &SampleColumns, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    let (f, h) = (&samples.floats, &samples.histograms);
    let (mut floats, mut histograms) = (Cursor::new(&f.t), Cursor::new(&h.t));
    for k in 0..grid.steps {
        let t = grid.time(k);
        let oldest = t.saturating_sub(lookback_ms);
        let float = floats.advance(t).checked_sub(1).filter(|i| f.t[*i] > oldest);
        let histogram = histograms.advance(t).checked_sub(1).filter(|i| h.t[*i] > oldest);
        let float_is_newer = match (float, histogram) {
            (Some(i), Some(j)) => f.t[i] > h.t[j],
            (float, _) => float.is_some(),
        };
        // A stale marker hides older samples of the other kind too.
        if float_is_newer {
            if let Some(i) = float.filter(|i| !is_stale(f.v[*i])) {
                out.set_float(k, E::float(f, i));
            }
        } else if let Some(j) = histogram.filter(|j| !is_stale(h.h[*j].sum)) {
            match E::histogram(h, j) {
                Some(v) => out.set_float(k, v),
                None => out.push_histogram(k, Arc::clone(&h.h[j])),
            }
        }
    }
}

fn select<E: Emit>(samples: &SampleColumns, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    out.reset(grid.steps);
    if samples.histograms.is_empty() {
        floats_alone::<E>(&samples.floats, grid, lookback_ms, out);
    } else {
        mixed::<E>(samples, grid, lookback_ms, out);
    }
}

/// The newest sample with `t − lookback < T ≤ t` at every step; none if that is a stale marker.
pub fn instant_values(samples: &SampleColumns, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    select::<Value>(samples, grid, lookback_ms, out);
}

/// When those samples were taken, Unix ms as floats, histograms too.
pub fn instant_timestamps(samples: &SampleColumns, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    select::<Time>(samples, grid, lookback_ms, out);
}

/// The start timestamps of those samples, Unix ms as floats, 0 where unknown.
pub fn instant_start_timestamps(samples: &SampleColumns, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    select::<StartTime>(samples, grid, lookback_ms, out);
}

/// A `smoothed` instant selector: the value at the step itself, on the line between the samples around it in
/// `(t − lookback, t + lookback]`; the earlier one where there is none behind. Histograms start from nothing
/// behind a counter reset. Stale markers are taken out of `samples`.
pub fn smoothed_instant(
    samples: &mut SampleColumns,
    grid: StepGrid,
    lookback_ms: i64,
    metric_name: &str,
    span: Span,
    out: &mut Column,
    annotations: &mut dyn FnMut(Annotation),
) {
    super::strip_stale(samples);
    out.reset(grid.steps);
    let mut notes = Notes::default();
    let (f, h) = (&samples.floats, &samples.histograms);
    let (mut floats, mut histograms) = (Around::new(&f.t), Around::new(&h.t));
    for k in 0..grid.steps {
        let t = grid.time(k);
        let (lo, at, hi) = floats.advance(t, lookback_ms);
        let (hlo, hat, hhi) = histograms.advance(t, lookback_ms);
        if lo < hi && hlo < hhi {
            notes.add(Note::MixedFloatsHistograms);
        } else if hlo < hhi {
            let counter = |i: usize| h.h[i].counter_reset_hint != CounterResetHint::Gauge;
            if hat < hhi && h.t[hat] == t {
                out.push_histogram(k, Arc::clone(&h.h[hat]));
            } else if hat > hlo && hat < hhi {
                let (before, next) = (&h.h[hat - 1], &h.h[hat]);
                if before.uses_custom_buckets() != next.uses_custom_buckets() {
                    notes.add(Note::MixedSchemas);
                    continue;
                }
                let is_counter = counter(hat - 1) || counter(hat);
                let line = interpolate_histograms(
                    (h.t[hat - 1], before),
                    (h.t[hat], next),
                    t,
                    is_counter,
                    &mut notes,
                );
                if let Some(line) = line {
                    out.push_histogram(k, Arc::new(line));
                }
            } else if hat > hlo {
                let mut carried = (*h.h[hat - 1]).clone();
                carried.counter_reset_hint = CounterResetHint::Unknown;
                out.push_histogram(k, Arc::new(carried));
            }
        } else if at < hi && f.t[at] == t {
            out.set_float(k, f.v[at]);
        } else if at > lo && at < hi {
            out.set_float(k, interpolate((f.t[at - 1], f.v[at - 1]), (f.t[at], f.v[at]), t, false));
        } else if at > lo {
            out.set_float(k, f.v[at - 1]);
        }
    }
    notes.hand_out(metric_name, span, annotations);
}

/// Pointers to both ends of the samples around a step, and to the first at or behind it.
struct Around<'a> {
    begin: Cursor<'a>,
    at: Cursor<'a>,
    end: Cursor<'a>,
}

impl<'a> Around<'a> {
    fn new(times: &'a [i64]) -> Self {
        Self { begin: Cursor::new(times), at: Cursor::new(times), end: Cursor::new(times) }
    }

    fn advance(&mut self, t: i64, lookback_ms: i64) -> (usize, usize, usize) {
        let lo = self.begin.advance(t.saturating_sub(lookback_ms));
        let at = self.at.advance(t.saturating_sub(1)).max(lo);
        let hi = self.end.advance(t.saturating_add(lookback_ms));
        (lo, at, hi)
    }
}
