//! Order statistics over windows: quantiles, and the median distance from the median.

use std::cmp::Ordering;

use tsdbctl_model::sample::normal_nan;
use tsdbctl_storage::annotations::Annotation;

use super::{FloatWindows, WindowQuery, edges::fill};
use crate::engine::Column;

/// NaN below everything, ±0 equal.
fn compare(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => {
            if a < b {
                Ordering::Less
            } else if a > b {
                Ordering::Greater
            } else {
                Ordering::Equal
            }
        }
    }
}

/// The quantile of sorted values, by weighting the two neighbours of its rank.
fn quantile_of(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return normal_nan();
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let last = sorted.len() - 1;
    let rank = q * last as f64;
    let lower = rank.floor();
    let weight = rank - lower;
    let lower = (lower as usize).min(last);
    let upper = (lower + 1).min(last);
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}

/// The values of a window in order, kept from window to window. Of equal values the older comes first, as
/// from a stable sort.
struct SortedWindow<'a> {
    v: &'a [f64],
    sorted: &'a mut Vec<f64>,
    lo: usize,
    hi: usize,
}

impl<'a> SortedWindow<'a> {
    fn new(v: &'a [f64], sorted: &'a mut Vec<f64>) -> Self {
        sorted.clear();
        Self { v, sorted, lo: 0, hi: 0 }
    }

    fn move_to(&mut self, lo: usize, hi: usize) -> &[f64] {
        let kept = self.hi.saturating_sub(lo);
        if self.hi < self.lo || kept * 2 < hi - lo || (hi - self.hi) + (lo - self.lo) > 64 {
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.v[lo..hi]);
            self.sorted.sort_by(|a, b| compare(*a, *b));
        } else {
            for v in &self.v[self.lo..lo] {
                // The leaver is the oldest of its equals, so the first of them.
                let at = self.sorted.partition_point(|x| compare(*x, *v) == Ordering::Less);
                self.sorted.remove(at);
            }
            for v in &self.v[self.hi..hi] {
                let at = self.sorted.partition_point(|x| compare(*x, *v) != Ordering::Greater);
                self.sorted.insert(at, *v);
            }
        }
        (self.lo, self.hi) = (lo, hi);
        self.sorted
    }
}

/// `quantile_over_time`. A φ outside 0 to 1 is told only where there are floats.
pub(super) fn quantile(
    query: &WindowQuery,
    w: &FloatWindows,
    sorted: &mut Vec<f64>,
    out: &mut Column,
    annotations: &mut dyn FnMut(Annotation),
) {
    let mut window = SortedWindow::new(w.v, sorted);
    let mut told: Option<u64> = None;
    fill(w, 1, out, |k, lo, hi| {
        let q = query.arg(0, k);
        if !(0.0..=1.0).contains(&q) && told != Some(q.to_bits()) {
            told = Some(q.to_bits());
            annotations(Annotation::invalid_quantile(q, query.arg_span));
        }
        quantile_of(q, window.move_to(lo, hi))
    });
}

/// `mad_over_time`
pub(super) fn median_deviation(
    w: &FloatWindows,
    sorted: &mut Vec<f64>,
    distances: &mut Vec<f64>,
    out: &mut Column,
) {
    let mut window = SortedWindow::new(w.v, sorted);
    fill(w, 1, out, |_, lo, hi| {
        let values = window.move_to(lo, hi);
        if values[0].is_nan() {
            return normal_nan();
        }
        let median = quantile_of(0.5, values);
        distances.clear();
        distances.extend(values.iter().map(|v| (v - median).abs()));
        distances.sort_by(|a, b| compare(*a, *b));
        quantile_of(0.5, distances)
    });
}
