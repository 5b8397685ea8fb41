//! Straight lines and exponential smoothing through windows: deriv, predict_linear,
//! double_exponential_smoothing.

use super::lanes::{self, Kernel, Lane, increase};
use super::{FloatWindows, WindowQuery, edges::fill};
use crate::engine::{Column, QueryError};

/// Least squares; sums of x, y, x·y, x², each with its compensation.
struct Line<'a> {
    /// Given: predict at the step's own time; else the slope from the window's first sample.
    predict: Option<&'a WindowQuery<'a>>,
}

impl Kernel<8> for Line<'_> {
    const TIMES: bool = true;
    const START: [f64; 8] = [0.0; 8];

    #[inline(always)]
    fn step<R: Lane>(&self, [x, xc, y, yc, xy, xyc, xx, xxc]: [R; 8], dx: R, v: R, _count: f64) -> [R; 8] {
        let (x, xc) = increase(dx, x, xc);
        let (y, yc) = increase(v, y, yc);
        let (xy, xyc) = increase(dx.mul(v), xy, xyc);
        let (xx, xxc) = increase(dx.mul(dx), xx, xxc);
        [x, xc, y, yc, xy, xyc, xx, xxc]
    }

    #[inline(always)]
    fn origin(&self, w: &FloatWindows, k: usize, lo: usize) -> i64 {
        match self.predict {
            Some(query) => query.eval_start.wrapping_add((k as i64).wrapping_mul(query.eval_step)),
            None => w.t[lo],
        }
    }

    fn finish(&self, w: &FloatWindows, k: usize, lo: usize, hi: usize, state: [f64; 8]) -> f64 {
        let [x, xc, y, yc, xy, xyc, xx, xxc] = state;
        let v = &w.v[lo..hi];
        let (slope, intercept) = if v[1..].iter().all(|v| *v == w.v[lo]) {
            if v[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, v[0]) }
        } else {
            let n = (hi - lo) as f64;
            let (x, y, xy, xx) = (x + xc, y + yc, xy + xyc, xx + xxc);
            let covariance = xy - x * y / n;
            let variance = xx - x * x / n;
            let slope = covariance / variance;
            (slope, y / n - slope * x / n)
        };
        match self.predict {
            Some(query) => slope * query.arg(0, k) + intercept,
            None => slope,
        }
    }
}

/// `deriv`
pub(super) fn slope(w: &FloatWindows, out: &mut Column) {
    lanes::run(&Line { predict: None }, 2, w, out);
}

/// `predict_linear`
pub(super) fn predict(query: &WindowQuery, w: &FloatWindows, out: &mut Column) {
    lanes::run(&Line { predict: Some(query) }, 2, w, out);
}

/// As Go's `%f`.
fn fixed(v: f64) -> String {
    match v {
        f64::INFINITY => "+Inf".to_string(),
        f64::NEG_INFINITY => "-Inf".to_string(),
        v if v.is_nan() => "NaN".to_string(),
        v => format!("{v:.6}"),
    }
}

/// Refuses factors outside (0, 1) at a step that has data.
pub(super) fn check_factors(query: &WindowQuery, k: usize) -> Result<(f64, f64), QueryError> {
    let (smoothing, trend) = (query.arg(0, k), query.arg(1, k));
    for (name, letters, v) in [("smoothing", "sf", smoothing), ("trend", "tf", trend)] {
        if v <= 0.0 || v >= 1.0 {
            let text = format!("invalid {name} factor. Expected: 0 < {letters} < 1, got: {}", fixed(v));
            return Err(QueryError::execution(text));
        }
    }
    Ok((smoothing, trend))
}

/// `double_exponential_smoothing`
pub(super) fn smooth(query: &WindowQuery, w: &FloatWindows, out: &mut Column) -> Result<(), QueryError> {
    let constant = query.args.iter().all(|a| matches!(a, super::ScalarArg::Constant(_)));
    let mut checked = false;
    for k in 0..out.steps() {
        if w.lo[k] < w.hi[k] && !(constant && checked) {
            check_factors(query, k)?;
            checked = true;
        }
    }
    fill(w, 2, out, |k, lo, hi| {
        let (sf, tf) = (query.arg(0, k), query.arg(1, k));
        let v = &w.v[lo..hi];
        let mut s0 = 0.0;
        let mut s1 = v[0];
        let mut b = v[1] - v[0];
        for (i, v) in v.iter().enumerate().skip(1) {
            let x = sf * v;
            if i > 1 {
                let x = tf * (s1 - s0);
                let y = (1.0 - tf) * b;
                b = x + y;
            }
            let y = (1.0 - sf) * (s1 + b);
            (s0, s1) = (s1, x + y);
        }
        s1
    });
    Ok(())
}
