//! Sums and averages over windows, compensated as upstream's (Neumaier).

use super::lanes::{self, Kernel, Lane, increase};
use super::{FloatWindows, edges::fill};
use crate::engine::Column;

/// 1.5 · 2^52: a float up to 2^51 plus this has the integer in its last bits.
const SHIFTER: f64 = 6_755_399_441_055_744.0;
/// Integers up to here go through [`SHIFTER`].
const LARGEST: f64 = 2_251_799_813_685_248.0;
/// Every integer up to here is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// `sum_over_time`. Once the sum is infinite it stays so or becomes NaN, and the compensation no longer
/// matters; so unlike [`increase`] the steps do not look out for infinity.
struct Sum;

impl Kernel<2> for Sum {
    const START: [f64; 2] = [0.0, 0.0];

    #[inline(always)]
    fn step<R: Lane>(&self, [s, c]: [R; 2], _x: R, v: R, _count: f64) -> [R; 2] {
        let t = s.add(v);
        let (large, small) = R::larger_first(s, v);
        [t, c.add(large.sub(t).add(small))]
    }

    #[inline(always)]
    fn finish(&self, _w: &FloatWindows, _k: usize, _lo: usize, _hi: usize, [s, c]: [f64; 2]) -> f64 {
        if s.is_infinite() { s } else { s + c }
    }
}

/// `avg_over_time`, as long as the sum stays finite.
struct Average;

impl Kernel<2> for Average {
    // −0 is neutral: the first sample starts the sum, sign of zero included.
    const START: [f64; 2] = [-0.0, 0.0];

    #[inline(always)]
    fn step<R: Lane>(&self, state: [R; 2], x: R, v: R, count: f64) -> [R; 2] {
        Sum.step(state, x, v, count)
    }

    #[inline(always)]
    fn finish(&self, w: &FloatWindows, _k: usize, lo: usize, hi: usize, [s, c]: [f64; 2]) -> f64 {
        if s.is_finite() {
            let m = (hi - lo) as f64;
            s / m + c / m
        } else {
            average_of(&w.v[lo..hi])
        }
    }
}

/// The average of a window whose sum is not finite: an incremental mean from where it stops being so.
#[cold]
fn average_of(v: &[f64]) -> f64 {
    let (mut sum, mut c, mut mean) = (v[0], 0.0, 0.0);
    let mut incremental = false;
    for (i, x) in v.iter().enumerate().skip(1) {
        let count = (i + 1) as f64;
        if !incremental {
            let (s, new_c) = increase(*x, sum, c);
            if !s.is_infinite() {
                (sum, c) = (s, new_c);
                continue;
            }
            incremental = true;
            mean = sum / (count - 1.0);
            c /= count - 1.0;
        }
        let q = (count - 1.0) / count;
        (mean, c) = increase(x / count, q * mean, q * c);
    }
    let m = v.len() as f64;
    if incremental { mean + c } else { sum / m + c / m }
}

/// Prefix sums of a column of integers that no window can sum beyond what floats hold exactly: then all
/// partial sums are exact, compensation is 0, and the difference of two prefixes has the loop's bits. The
/// prefixes themselves may wrap.
fn integer_prefixes(w: &FloatWindows, prefixes: &mut Vec<i64>) -> bool {
    let longest = w.lo.iter().zip(w.hi).map(|(lo, hi)| hi - lo).max().unwrap_or(0);
    let total: u64 = w.lo.iter().zip(w.hi).map(|(lo, hi)| u64::from(hi - lo)).sum();
    if longest == 0 || total < w.v.len() as u64 {
        return false;
    }
    let limit = LARGEST.min(EXACT / f64::from(longest));
    for chunk in w.v.chunks(256) {
        let integers =
            chunk.iter().fold(true, |all, v| all & (v.abs() <= limit) & ((v + SHIFTER) - SHIFTER == *v));
        if !integers {
            return false;
        }
    }
    prefixes.clear();
    prefixes.reserve(w.v.len() + 1);
    let mut sum = 0i64;
    prefixes.push(0);
    prefixes.extend(w.v.iter().map(|v| {
        let integer = (v + SHIFTER).to_bits().wrapping_sub(SHIFTER.to_bits()) as i64;
        sum = sum.wrapping_add(integer);
        sum
    }));
    true
}

/// `sum_over_time`
pub(super) fn sum(w: &FloatWindows, prefixes: &mut Vec<i64>, out: &mut Column) {
    if integer_prefixes(w, prefixes) {
        fill(w, 1, out, |_, lo, hi| prefixes[hi].wrapping_sub(prefixes[lo]) as f64);
    } else {
        lanes::run(&Sum, 1, w, out);
    }
}

/// `avg_over_time`
pub(super) fn average(w: &FloatWindows, prefixes: &mut Vec<i64>, out: &mut Column) {
    if integer_prefixes(w, prefixes) {
        fill(w, 1, out, |_, lo, hi| prefixes[hi].wrapping_sub(prefixes[lo]) as f64 / (hi - lo) as f64);
    } else {
        lanes::run(&Average, 1, w, out);
    }
}
