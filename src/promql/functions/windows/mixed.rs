//! Kernels that look at floats and histograms in one sequence of time.

use std::sync::Arc;

use tsdbctl_chunk::columns::SampleColumns;
use tsdbctl_model::CounterResetHint;

use super::histograms::HistogramWindows;
use super::notes::{Note, Notes};
use super::{FloatWindows, RangeFunction, WindowQuery};
use crate::engine::Column;

/// A sample of either kind, by its index in its column.
#[derive(Clone, Copy)]
enum At {
    Float(usize),
    Histogram(usize),
}

/// Both columns of a series, merged by time: sample `i` of the merged order. A window's bounds there are the
/// sums of its bounds in the columns.
fn merge(samples: &SampleColumns) -> Vec<At> {
    let (f, h) = (&samples.floats.t, &samples.histograms.t);
    let mut merged = Vec::with_capacity(f.len() + h.len());
    let (mut i, mut j) = (0, 0);
    while i < f.len() || j < h.len() {
        if j == h.len() || (i < f.len() && f[i] < h[j]) {
            merged.push(At::Float(i));
            i += 1;
        } else {
            merged.push(At::Histogram(j));
            j += 1;
        }
    }
    merged
}

/// `count`, `present`, `first`, `last` and their times.
pub(super) fn edges(function: RangeFunction, f: &FloatWindows, h: &HistogramWindows, out: &mut Column) {
    use RangeFunction as F;
    for k in 0..out.steps() {
        let floats = f.window(k);
        let histograms = h.lo[k] as usize..h.hi[k] as usize;
        let count = floats.len() + histograms.len();
        if count == 0 {
            continue;
        }
        let first_float = floats.clone().next();
        let first_histogram = histograms.clone().next();
        let (float, histogram) = match function {
            F::LastOverTime | F::TsOfLastOverTime => {
                (floats.clone().next_back(), histograms.clone().next_back())
            }
            _ => (first_float, first_histogram),
        };
        let last = matches!(function, F::LastOverTime | F::TsOfLastOverTime);
        let chosen = match (float, histogram) {
            (Some(i), Some(j)) if last == (f.t[i] > h.h.t[j]) => At::Float(i),
            (Some(i), None) => At::Float(i),
            (_, Some(j)) => At::Histogram(j),
            (None, None) => continue,
        };
        match (function, chosen) {
            (F::CountOverTime, _) => out.set_float(k, count as f64),
            (F::TsOfFirstOverTime, At::Float(i)) => out.set_float(k, f.t[i] as f64 / 1000.0),
            (F::TsOfFirstOverTime, At::Histogram(j)) => out.set_float(k, h.h.t[j] as f64 / 1000.0),
            // Upstream takes the later of both, 0 where a kind is missing.
            (F::TsOfLastOverTime, _) => {
                let t = float.map_or(0, |i| f.t[i]).max(histogram.map_or(0, |j| h.h.t[j]));
                out.set_float(k, t as f64 / 1000.0);
            }
            (F::FirstOverTime | F::LastOverTime, At::Float(i)) => out.set_float(k, f.v[i]),
            (F::FirstOverTime | F::LastOverTime, At::Histogram(j)) => {
                out.push_histogram(k, Arc::clone(&h.h.h[j]))
            }
            _ => out.set_float(k, 1.0),
        }
    }
}

/// `changes` and `resets`; a change of kind is both.
pub(super) fn count_pairs(
    query: &WindowQuery,
    samples: &SampleColumns,
    f: &FloatWindows,
    h: &HistogramWindows,
    counts: &mut Vec<u32>,
    out: &mut Column,
) {
    let merged = merge(samples);
    let changes = query.function == RangeFunction::Changes;
    counts.clear();
    counts.reserve(merged.len());
    counts.extend((!merged.is_empty()).then_some(0));
    let mut sum = 0;
    for pair in merged.windows(2) {
        sum += u32::from(match (pair[0], pair[1]) {
            (At::Float(a), At::Float(b)) if changes => {
                f.v[a] != f.v[b] && !(f.v[a].is_nan() && f.v[b].is_nan())
            }
            (At::Float(_), At::Float(b)) => f.is_reset(b),
            (At::Histogram(a), At::Histogram(b)) if changes => !h.h.h[b].equals(&h.h.h[a]),
            (At::Histogram(_), At::Histogram(b)) => h.is_reset(b),
            _ => true,
        });
        counts.push(sum);
    }
    for k in 0..out.steps() {
        let (mut lo, hi) = ((f.lo[k] + h.lo[k]) as usize, (f.hi[k] + h.hi[k]) as usize);
        if query.anchored {
            let start = query.grid.time(k).saturating_sub(query.range_ms);
            let inside = f.t.partition_point(|t| *t <= start) + h.h.t.partition_point(|t| *t <= start);
            if inside >= hi {
                continue;
            }
            lo = lo.max(inside.saturating_sub(1));
        }
        if lo < hi {
            out.set_float(k, f64::from(counts[hi - 1] - counts[lo]));
        }
    }
}

/// `irate` and `idelta`: the last two samples, if of one kind.
pub(super) fn instant_change(
    query: &WindowQuery,
    samples: &SampleColumns,
    f: &FloatWindows,
    h: &HistogramWindows,
    out: &mut Column,
    notes: &mut Notes,
) {
    let merged = merge(samples);
    let is_rate = query.function == RangeFunction::Irate;
    for k in 0..out.steps() {
        let (lo, hi) = ((f.lo[k] + h.lo[k]) as usize, (f.hi[k] + h.hi[k]) as usize);
        if hi < lo + 2 {
            continue;
        }
        match (merged[hi - 2], merged[hi - 1]) {
            (At::Float(a), At::Float(b)) => {
                let change = if is_rate && f.is_reset(b) { f.v[b] } else { f.v[b] - f.v[a] };
                let seconds = (f.t[b] - f.t[a]) as f64 / 1000.0;
                out.set_float(k, if is_rate { change / seconds } else { change });
            }
            (At::Histogram(a), At::Histogram(b)) => {
                let (before, now) = (&h.h.h[a], &h.h.h[b]);
                let gauge = |i: usize| h.h.h[i].counter_reset_hint == CounterResetHint::Gauge;
                if is_rate && (gauge(a) || gauge(b)) {
                    notes.add(Note::NotCounter);
                }
                if !is_rate && (!gauge(a) || !gauge(b)) {
                    notes.add(Note::NotGauge);
                }
                let mut result = (**now).clone();
                if !is_rate || !h.is_reset(b) {
                    match result.sub(before) {
                        Ok(outcome) if outcome.nhcb_bounds_reconciled => {
                            notes.add(Note::ReconciledSubtraction)
                        }
                        Ok(_) => {}
                        Err(_) => {
                            notes.add(Note::MixedSchemas);
                            continue;
                        }
                    }
                }
                result.counter_reset_hint = CounterResetHint::Gauge;
                result.compact(0);
                if is_rate {
                    result.div((h.h.t[b] - h.h.t[a]) as f64 / 1000.0);
                }
                out.push_histogram(k, Arc::new(result));
            }
            _ => notes.add(Note::MixedFloatsHistograms),
        }
    }
}
