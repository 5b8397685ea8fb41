//! Compensated summation as every PromQL sum and average needs it: the running sum beside the running error.

/// Adds `x` to `sum` and the rounding error of that addition to `c` (Neumaier's variant of Kahan's sum).
///
/// An infinite sum has no meaningful error term: `c` falls to zero there, so that `sum + c` stays infinite
/// instead of becoming NaN.
#[inline]
pub fn kahan_inc(x: f64, sum: &mut f64, c: &mut f64) {
    let t = *sum + x;
    if t.is_infinite() {
        *c = 0.0;
    } else if sum.abs() >= x.abs() {
        *c += (*sum - t) + x;
    } else {
        *c += (x - t) + *sum;
    }
    *sum = t;
}

/// Subtracts `x` from `sum`, see [`kahan_inc`].
#[inline]
pub fn kahan_dec(x: f64, sum: &mut f64, c: &mut f64) {
    kahan_inc(-x, sum, c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(values: &[f64]) -> f64 {
        let (mut sum, mut c) = (0.0, 0.0);
        for v in values {
            kahan_inc(*v, &mut sum, &mut c);
        }
        sum + c
    }

    #[test]
    fn small_terms_survive_large_ones() {
        assert_eq!(total(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(total(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(total(&[0.1; 10]), 1.0);
    }

    #[test]
    fn infinity_stays_infinite() {
        assert_eq!(total(&[1e308, 1e308, 1.0]), f64::INFINITY);
        assert_eq!(total(&[1.0, f64::NEG_INFINITY, 3.0]), f64::NEG_INFINITY);
        assert!(total(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(total(&[f64::NAN, 1.0]).is_nan());
    }

    #[test]
    fn dec_takes_back_what_inc_added() {
        let (mut sum, mut c) = (0.0, 0.0);
        for v in [1e16, 3.7, 2.0] {
            kahan_inc(v, &mut sum, &mut c);
        }
        for v in [1e16, 2.0] {
            kahan_dec(v, &mut sum, &mut c);
        }
        assert_eq!(sum + c, 3.7);
    }
}
