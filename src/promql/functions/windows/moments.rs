//! Standard deviation and variance over windows (Welford, both sums compensated).

use super::FloatWindows;
use super::lanes::{self, Kernel, Lane, increase};
use crate::engine::Column;

struct Deviation {
    root: bool,
}

impl Kernel<4> for Deviation {
    const START: [f64; 4] = [0.0; 4];

    #[inline(always)]
    fn step<R: Lane>(&self, [mean, c, squares, squares_c]: [R; 4], _x: R, v: R, count: f64) -> [R; 4] {
        let delta = v.sub(mean.add(c));
        let (mean, c) = increase(delta.div(R::splat(count)), mean, c);
        let (squares, squares_c) = increase(delta.mul(v.sub(mean.add(c))), squares, squares_c);
        [mean, c, squares, squares_c]
    }

    #[inline(always)]
    fn finish(
        &self,
        _w: &FloatWindows,
        _k: usize,
        lo: usize,
        hi: usize,
        [_, _, squares, c]: [f64; 4],
    ) -> f64 {
        let variance = (squares + c) / (hi - lo) as f64;
        if self.root { variance.sqrt() } else { variance }
    }
}

/// `stddev_over_time` (`root`) and `stdvar_over_time`.
pub(super) fn deviation(w: &FloatWindows, root: bool, out: &mut Column) {
    lanes::run(&Deviation { root }, 1, w, out);
}
