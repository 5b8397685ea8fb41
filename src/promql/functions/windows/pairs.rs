//! Kernels over neighbouring samples: changes, resets, irate, idelta.

use super::edges::fill;
use super::{FloatWindows, RangeFunction, WindowQuery};
use crate::engine::Column;

/// Whether a start timestamp says that the counter began anew between two samples. A time that is unknown,
/// at or behind its own sample says nothing; one that equals the previous sample's time does only if that
/// sample knew its own start.
pub(super) fn is_start_timestamp_reset(prev_st: i64, prev_t: i64, st: i64, t: i64) -> bool {
    if st == 0 || st >= t || st < prev_t {
        return false;
    }
    st > prev_t || (prev_st <= prev_t && prev_st != 0 && prev_st != prev_t)
}

/// Whether a sample claims to have begun before the previous sample, without sharing its start.
pub(super) fn starts_before_previous(prev_st: i64, prev_t: i64, st: i64) -> bool {
    st != 0 && st < prev_t && st != prev_st
}

impl FloatWindows<'_> {
    /// Whether the counter was reset between sample `i − 1` and `i`.
    #[inline]
    pub(super) fn is_reset(&self, i: usize) -> bool {
        self.v[i] < self.v[i - 1]
            || (!self.st.is_empty()
                && is_start_timestamp_reset(
                    self.start_timestamp(i - 1),
                    self.t[i - 1],
                    self.start_timestamp(i),
                    self.t[i],
                ))
    }
}

/// `irate` and `idelta`.
pub(super) fn instant_change(query: &WindowQuery, w: &FloatWindows, out: &mut Column) {
    let is_rate = query.function == RangeFunction::Irate;
    fill(w, 2, out, |_, _, hi| {
        let i = hi - 1;
        let (v, prev) = (w.v[i], w.v[i - 1]);
        let change = if is_rate && w.is_reset(i) { v } else { v - prev };
        if is_rate { change / ((w.t[i] - w.t[i - 1]) as f64 / 1000.0) } else { change }
    });
}

/// `changes` and `resets`: prefix counts of the pairs that count.
pub(super) fn count_pairs(query: &WindowQuery, w: &FloatWindows, counts: &mut Vec<u32>, out: &mut Column) {
    let n = w.v.len();
    counts.clear();
    counts.reserve(n);
    if n > 0 {
        counts.push(0);
    }
    let mut sum = 0;
    if query.function == RangeFunction::Changes {
        for pair in w.v.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            sum += u32::from(a != b && !(a.is_nan() && b.is_nan()));
            counts.push(sum);
        }
    } else if w.st.is_empty() {
        for pair in w.v.windows(2) {
            sum += u32::from(pair[1] < pair[0]);
            counts.push(sum);
        }
    } else {
        for i in 1..n {
            sum += u32::from(w.is_reset(i));
            counts.push(sum);
        }
    }
    // counts[i]: pairs up to and including (i − 1, i).
    if query.anchored {
        for k in 0..out.steps() {
            let start = query.grid.time(k).saturating_sub(query.range_ms);
            let window = w.window(k);
            let inside = window.start + w.t[window.clone()].partition_point(|t| *t <= start);
            if inside < window.end {
                let first = if inside > window.start { inside - 1 } else { inside };
                out.set_float(k, f64::from(counts[window.end - 1] - counts[first]));
            }
        }
    } else {
        fill(w, 1, out, |_, lo, hi| f64::from(counts[hi - 1] - counts[lo]));
    }
}
