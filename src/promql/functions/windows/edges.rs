//! Kernels that look only at where a window begins and ends.

use super::FloatWindows;
use crate::engine::Column;

/// Calls `f` for every step whose window has at least `least` samples, and stores what it gives.
#[inline(always)]
pub(super) fn fill(
    w: &FloatWindows,
    least: u32,
    out: &mut Column,
    mut f: impl FnMut(usize, usize, usize) -> f64,
) {
    let steps = out.values.len();
    let (lo, hi) = (&w.lo[..steps], &w.hi[..steps]);
    for (block, word) in out.present.iter_mut().enumerate() {
        let from = block * 64;
        let to = (from + 64).min(steps);
        let mut bits = 0u64;
        for k in from..to {
            if hi[k] - lo[k] >= least {
                bits |= 1 << (k - from);
                out.values[k] = f(k, lo[k] as usize, hi[k] as usize);
            }
        }
        *word = bits;
    }
}

/// `count_over_time`
pub(super) fn count(w: &FloatWindows, out: &mut Column) {
    fill(w, 1, out, |_, lo, hi| (hi - lo) as f64);
}

/// `present_over_time`
pub(super) fn present(w: &FloatWindows, out: &mut Column) {
    fill(w, 1, out, |_, _, _| 1.0);
}

/// `last_over_time`
pub(super) fn last(w: &FloatWindows, out: &mut Column) {
    fill(w, 1, out, |_, _, hi| w.v[hi - 1]);
}

/// `first_over_time`
pub(super) fn first(w: &FloatWindows, out: &mut Column) {
    fill(w, 1, out, |_, lo, _| w.v[lo]);
}

/// `ts_of_first_over_time`
pub(super) fn first_time(w: &FloatWindows, out: &mut Column) {
    fill(w, 1, out, |_, lo, _| w.t[lo] as f64 / 1000.0);
}

/// `ts_of_last_over_time`; upstream takes the later of the last float and the last histogram, 0 for none, so
/// never a time before 1970.
pub(super) fn last_time(w: &FloatWindows, out: &mut Column) {
    fill(w, 1, out, |_, _, hi| w.t[hi - 1].max(0) as f64 / 1000.0);
}
