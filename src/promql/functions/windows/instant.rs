//! Instant selection: the newest sample in the lookback, per step.

use std::sync::Arc;

use tsdbctl_chunk::columns::{Floats, SampleColumns};
use tsdbctl_model::sample::{STALE_NAN_BITS, is_stale};

use super::bounds::Cursor;
use super::rate::interpolate;
use crate::engine::{Column, StepGrid};

/// Upstream's sample counts of an instant selector over one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstantStats {
    /// Samples emitted; a float is 1, a histogram by its size. Samples read are the same number.
    pub samples: i64,
}

/// What is stored for a sample.
trait Emit {
    fn value(t: i64, v: f64) -> f64;
}

struct Value;
struct Time;

impl Emit for Value {
    #[inline(always)]
    fn value(_t: i64, v: f64) -> f64 {
        v
    }
}

impl Emit for Time {
    #[inline(always)]
    fn value(t: i64, _v: f64) -> f64 {
        t as f64 / 1000.0
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
                *slot = E::value(at, v);
                bits |= u64::from((at > oldest) & (v.to_bits() != STALE_NAN_BITS)) << i;
            }
            t = t.wrapping_add(grid.step);
            oldest = oldest.wrapping_add(grid.step);
        }
        *word = bits;
    }
}

/// Both kinds: the newer of the newest float and the newest histogram counts.
fn mixed<E: Emit>(
    samples: &SampleColumns,
    grid: StepGrid,
    lookback_ms: i64,
    times_only: bool,
    out: &mut Column,
) {
    let (f, h) = (&samples.floats, &samples.histograms);
    let (mut floats, mut histograms) = (Cursor::new(&f.t), Cursor::new(&h.t));
    for k in 0..grid.steps {
        let t = grid.time(k);
        let oldest = t.saturating_sub(lookback_ms);
        let float = floats.advance(t).checked_sub(1).filter(|i| f.t[*i] > oldest);
        let histogram = histograms.advance(t).checked_sub(1).filter(|i| h.t[*i] > oldest);
        match (float, histogram) {
            (Some(i), other) if other.is_none_or(|j| f.t[i] > h.t[j]) => {
                if !is_stale(f.v[i]) {
                    out.set_float(k, E::value(f.t[i], f.v[i]));
                }
            }
            (_, Some(j)) if !is_stale(h.h[j].sum) => {
                if times_only {
                    out.set_float(k, h.t[j] as f64 / 1000.0);
                } else {
                    out.push_histogram(k, Arc::clone(&h.h[j]));
                }
            }
            _ => {}
        }
    }
}

/// The newest sample with `t − lookback < T ≤ t` at every step; none if that is a stale marker.
pub fn instant_values(
    samples: &SampleColumns,
    grid: StepGrid,
    lookback_ms: i64,
    out: &mut Column,
) -> InstantStats {
    out.reset(grid.steps);
    if samples.histograms.is_empty() {
        floats_alone::<Value>(&samples.floats, grid, lookback_ms, out);
    } else {
        mixed::<Value>(samples, grid, lookback_ms, false, out);
    }
    InstantStats { samples: out.float_count() as i64 }
}

/// When those samples were taken, in seconds: `timestamp()` of a selector. Histograms too.
pub fn instant_timestamps(
    samples: &SampleColumns,
    grid: StepGrid,
    lookback_ms: i64,
    out: &mut Column,
) -> InstantStats {
    out.reset(grid.steps);
    if samples.histograms.is_empty() {
        floats_alone::<Time>(&samples.floats, grid, lookback_ms, out);
    } else {
        mixed::<Time>(samples, grid, lookback_ms, true, out);
    }
    InstantStats { samples: out.float_count() as i64 }
}

/// A `smoothed` instant selector over floats: the value at the step itself, between the samples in
/// `(t − lookback, t + lookback]` around it; the earlier one where there is none behind.
pub fn smoothed_instant(samples: &mut SampleColumns, grid: StepGrid, lookback_ms: i64, out: &mut Column) {
    super::strip_stale(samples);
    out.reset(grid.steps);
    let f = &samples.floats;
    let (mut begins, mut at, mut ends) = (Cursor::new(&f.t), Cursor::new(&f.t), Cursor::new(&f.t));
    for k in 0..grid.steps {
        let t = grid.time(k);
        let lo = begins.advance(t.saturating_sub(lookback_ms));
        let before = at.advance(t.saturating_sub(1)).max(lo);
        let hi = ends.advance(t.saturating_add(lookback_ms));
        let next = (before < hi).then_some(before);
        let v = match next {
            Some(i) if f.t[i] == t => f.v[i],
            Some(i) if i > lo => interpolate((f.t[i - 1], f.v[i - 1]), (f.t[i], f.v[i]), t, false),
            None if before > lo => f.v[before - 1],
            _ => continue,
        };
        out.set_float(k, v);
    }
}
