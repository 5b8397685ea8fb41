//! Bare `anchored` and `smoothed` range selectors: samples put on the window's edges (`extendFloats`).

use tsdbctl_chunk::Floats;

fn interpolate(left: (i64, f64), right: (i64, f64), t: i64) -> f64 {
    left.1 + (right.1 - left.1) * (t - left.0) as f64 / (right.0 - left.0) as f64
}

/// Replaces the samples around `(mint, maxt]` by one at each edge and those between. Nothing is left if no
/// sample lies behind `mint`.
pub fn extend_floats(floats: &mut Floats, mint: i64, maxt: i64, smoothed: bool) {
    let Some(mut last) = floats.len().checked_sub(1) else { return };
    let at = |i: usize| (floats.t[i], floats.v[i]);
    let mut first = floats.t[..last].partition_point(|t| *t <= mint).saturating_sub(1);
    if smoothed {
        last = floats.t[..last].partition_point(|t| *t < maxt);
    }
    if floats.t[last] <= mint {
        floats.clear();
        return;
    }
    let left = if smoothed && floats.t[first] < mint {
        interpolate(at(first), at(first + 1), mint)
    } else {
        at(first).1
    };
    let right = if smoothed && last > 0 && floats.t[last] > maxt {
        interpolate(at(last - 1), at(last), maxt)
    } else {
        at(last).1
    };
    if floats.t[first] <= mint {
        first += 1;
    }
    let behind = if floats.t[last] >= maxt { last } else { last + 1 };
    let mut out = Floats::default();
    out.t.push(mint);
    out.v.push(left);
    for i in first..behind.max(first) {
        out.t.push(floats.t[i]);
        out.v.push(floats.v[i]);
    }
    out.t.push(maxt);
    out.v.push(right);
    *floats = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extended(samples: &[(i64, f64)], smoothed: bool) -> Vec<(i64, f64)> {
        let mut floats = Floats::default();
        for (t, v) in samples {
            floats.push(*t, *v, 0);
        }
        extend_floats(&mut floats, 10, 20, smoothed);
        floats.t.iter().copied().zip(floats.v.iter().copied()).collect()
    }

    #[test]
    fn edges_get_samples() {
        let samples = [(5, 0.0), (15, 10.0), (25, 20.0)];
        assert_eq!(extended(&samples, true), [(10, 5.0), (15, 10.0), (20, 15.0)]);
        assert_eq!(extended(&samples[..2], false), [(10, 0.0), (15, 10.0), (20, 10.0)]);
        assert_eq!(extended(&samples[..1], false), []);
        assert_eq!(extended(&[], true), []);
    }
}
