//! Eight windows side by side: the loops that AVX2 speeds up, and the only `unsafe` of the kernels.
//!
//! A lane holds one window and does exactly the operations of the plain loop in their order, so results are
//! the same bits whatever the machine offers; there is no reassociation and no fused multiply-add.

#![allow(unsafe_code)]

use super::FloatWindows;
use super::rate::Block;
use crate::engine::Column;

/// One number, or eight of neighbouring windows.
pub(super) trait Lane: Copy {
    fn splat(x: f64) -> Self;
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    fn div(self, o: Self) -> Self;
    /// `(a, b)` where `|a| ≥ |b|`, else `(b, a)`: the larger number first.
    fn larger_first(a: Self, b: Self) -> (Self, Self);
    /// 0 where `t` is infinite, else `self`.
    fn zero_if_infinite(self, t: Self) -> Self;
}

impl Lane for f64 {
    #[inline(always)]
    fn splat(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        self + o
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        self - o
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        self * o
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        self / o
    }
    #[inline(always)]
    fn larger_first(a: Self, b: Self) -> (Self, Self) {
        if a.abs() >= b.abs() { (a, b) } else { (b, a) }
    }
    #[inline(always)]
    fn zero_if_infinite(self, t: Self) -> Self {
        if t.is_infinite() { 0.0 } else { self }
    }
}

/// Adds `x` to the compensated sum `(s, c)`.
#[inline(always)]
pub(super) fn increase<R: Lane>(x: R, s: R, c: R) -> (R, R) {
    let t = s.add(x);
    let (large, small) = R::larger_first(s, x);
    (t, c.add(large.sub(t).add(small)).zero_if_infinite(t))
}

/// What is computed over one window, sample by sample, in `N` running numbers.
pub(super) trait Kernel<const N: usize> {
    /// Whether samples' times are needed.
    const TIMES: bool = false;
    /// The numbers before the first sample.
    const START: [f64; N];
    /// Takes in one sample: its time in seconds from the origin, its value, and how many samples there are now.
    fn step<R: Lane>(&self, state: [R; N], x: R, v: R, count: f64) -> [R; N];
    /// What the time axis counts from in window `k`, which starts at sample `lo`.
    fn origin(&self, _w: &FloatWindows, _k: usize, _lo: usize) -> i64 {
        0
    }
    /// The result.
    fn finish(&self, w: &FloatWindows, k: usize, lo: usize, hi: usize, state: [f64; N]) -> f64;
}

#[inline(always)]
fn scalar<const N: usize, K: Kernel<N>>(
    kernel: &K,
    w: &FloatWindows,
    origin: i64,
    lo: usize,
    hi: usize,
    mut done: usize,
    mut state: [f64; N],
) -> [f64; N] {
    for i in lo + done..hi {
        done += 1;
        let x = if K::TIMES { w.t[i].wrapping_sub(origin) as f64 / 1e3 } else { 0.0 };
        state = kernel.step(state, x, w.v[i], done as f64);
    }
    state
}

#[inline(always)]
fn one<const N: usize, K: Kernel<N>>(kernel: &K, w: &FloatWindows, k: usize, lo: usize, hi: usize) -> f64 {
    let origin = if K::TIMES { kernel.origin(w, k, lo) } else { 0 };
    let state = scalar(kernel, w, origin, lo, hi, 0, K::START);
    kernel.finish(w, k, lo, hi, state)
}

/// Runs a kernel over all windows of at least `least` samples.
pub(super) fn run<const N: usize, K: Kernel<N>>(kernel: &K, least: u32, w: &FloatWindows, out: &mut Column) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { avx2::run(kernel, least, w, out) };
        return;
    }
    super::edges::fill(w, least, out, |k, lo, hi| one(kernel, w, k, lo, hi));
}

/// Extrapolates the rates of one block.
pub(super) fn extrapolate<const COUNTER: bool, const RATE: bool>(block: &mut Block, range_seconds: f64) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { avx2::extrapolate::<COUNTER, RATE>(block, range_seconds) };
        return;
    }
    block.extrapolate::<COUNTER, RATE>(range_seconds);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Block, Column, FloatWindows, Kernel, Lane, one, scalar};

    /// Eight lanes in two registers. Only made in functions that are compiled for AVX2.
    #[derive(Clone, Copy)]
    struct Eight(__m256d, __m256d);

    macro_rules! lanewise {
        ($name:ident, $op:ident) => {
            #[inline(always)]
            fn $name(self, o: Self) -> Self {
                // SAFETY: `Eight` exists only where AVX2 does.
                unsafe { Self($op(self.0, o.0), $op(self.1, o.1)) }
            }
        };
    }

    #[inline(always)]
    fn sign_bits() -> __m256d {
        // SAFETY: reached from AVX2 functions alone.
        unsafe { _mm256_set1_pd(-0.0) }
    }

    #[inline(always)]
    fn order(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
        // SAFETY: reached from AVX2 functions alone.
        unsafe {
            let m = sign_bits();
            let first = _mm256_cmp_pd::<_CMP_GE_OQ>(_mm256_andnot_pd(m, a), _mm256_andnot_pd(m, b));
            (_mm256_blendv_pd(b, a, first), _mm256_blendv_pd(a, b, first))
        }
    }

    #[inline(always)]
    fn zero_if_infinite(c: __m256d, t: __m256d) -> __m256d {
        // SAFETY: reached from AVX2 functions alone.
        unsafe {
            let inf = _mm256_set1_pd(f64::INFINITY);
            _mm256_andnot_pd(_mm256_cmp_pd::<_CMP_EQ_OQ>(_mm256_andnot_pd(sign_bits(), t), inf), c)
        }
    }

    impl Lane for Eight {
        #[inline(always)]
        fn splat(x: f64) -> Self {
            // SAFETY: reached from AVX2 functions alone.
            unsafe { Self(_mm256_set1_pd(x), _mm256_set1_pd(x)) }
        }
        lanewise!(add, _mm256_add_pd);
        lanewise!(sub, _mm256_sub_pd);
        lanewise!(mul, _mm256_mul_pd);
        lanewise!(div, _mm256_div_pd);
        #[inline(always)]
        fn larger_first(a: Self, b: Self) -> (Self, Self) {
            let ((l0, s0), (l1, s1)) = (order(a.0, b.0), order(a.1, b.1));
            (Self(l0, l1), Self(s0, s1))
        }
        #[inline(always)]
        fn zero_if_infinite(self, t: Self) -> Self {
            Self(zero_if_infinite(self.0, t.0), zero_if_infinite(self.1, t.1))
        }
    }

    impl Eight {
        #[inline(always)]
        fn lanes(self) -> [f64; 8] {
            let mut out = [0.0; 8];
            // SAFETY: `out` has room for two unaligned stores of four.
            unsafe {
                _mm256_storeu_pd(out.as_mut_ptr(), self.0);
                _mm256_storeu_pd(out.as_mut_ptr().add(4), self.1);
            }
            out
        }

        /// The sample `j` of each of eight windows.
        ///
        /// # Safety
        /// `lo[l] + j` is an index of `v` for every lane, and the processor has AVX2.
        #[inline(always)]
        unsafe fn load(v: &[f64], lo: &[usize; 8], j: usize) -> Self {
            // SAFETY: indices are in bounds by contract.
            unsafe {
                let p = v.as_ptr().add(j);
                let pair = |a: usize, b: usize| _mm_loadh_pd(_mm_load_sd(p.add(lo[a])), p.add(lo[b]));
                Self(_mm256_set_m128d(pair(2, 3), pair(0, 1)), _mm256_set_m128d(pair(6, 7), pair(4, 5)))
            }
        }

        /// The time of sample `j` of each of eight windows, in seconds from each window's origin.
        ///
        /// # Safety
        /// As [`Eight::load`].
        #[inline(always)]
        unsafe fn load_seconds(t: &[i64], lo: &[usize; 8], origin: &[i64; 8], j: usize) -> Self {
            let mut ms = [0.0; 8];
            for l in 0..8 {
                // SAFETY: indices are in bounds by contract.
                ms[l] = unsafe { *t.get_unchecked(lo[l] + j) }.wrapping_sub(origin[l]) as f64;
            }
            // SAFETY: `ms` has eight numbers.
            let at = unsafe { Self(_mm256_loadu_pd(ms.as_ptr()), _mm256_loadu_pd(ms.as_ptr().add(4))) };
            at.div(Self::splat(1e3))
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn run<const N: usize, K: Kernel<N>>(
        kernel: &K,
        least: u32,
        w: &FloatWindows,
        out: &mut Column,
    ) {
        let steps = out.values.len();
        assert!(w.t.len() == w.v.len() && w.lo.len() >= steps && w.hi.len() >= steps);
        let mut k = 0;
        while k < steps {
            let count = (steps - k).min(8);
            let mut shortest = u32::MAX;
            for i in k..k + count {
                shortest = shortest.min(w.hi[i] - w.lo[i]);
            }
            if count < 8 || shortest < least.max(3) {
                for i in k..k + count {
                    if w.hi[i] - w.lo[i] >= least {
                        let (lo, hi) = (w.lo[i] as usize, w.hi[i] as usize);
                        out.set_float(i, one(kernel, w, i, lo, hi));
                    }
                }
                k += count;
                continue;
            }
            let shortest = shortest as usize;
            let mut lo = [0usize; 8];
            let mut origin = [0i64; 8];
            for l in 0..8 {
                lo[l] = w.lo[k + l] as usize;
                assert!(lo[l] + shortest <= w.v.len());
                if K::TIMES {
                    origin[l] = kernel.origin(w, k + l, lo[l]);
                }
            }
            let mut state = K::START.map(Eight::splat);
            for j in 0..shortest {
                // SAFETY: `lo[l] + j < lo[l] + shortest ≤ v.len() = t.len()`, checked above.
                let v = unsafe { Eight::load(w.v, &lo, j) };
                let x = if K::TIMES {
                    // SAFETY: as above.
                    unsafe { Eight::load_seconds(w.t, &lo, &origin, j) }
                } else {
                    v
                };
                state = kernel.step(state, x, v, (j + 1) as f64);
            }
            let lanes = state.map(Eight::lanes);
            for l in 0..8 {
                let hi = w.hi[k + l] as usize;
                let state =
                    scalar(kernel, w, origin[l], lo[l], hi, shortest, std::array::from_fn(|n| lanes[n][l]));
                out.values[k + l] = kernel.finish(w, k + l, lo[l], hi, state);
            }
            out.present[k / 64] |= 0xff << (k % 64);
            k += 8;
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn extrapolate<const COUNTER: bool, const RATE: bool>(block: &mut Block, range_seconds: f64) {
        block.extrapolate::<COUNTER, RATE>(range_seconds);
    }
}
