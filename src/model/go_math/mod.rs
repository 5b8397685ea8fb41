//! Elementary functions with the very bits that Go's `math` package gives on amd64.
//!
//! The C library's functions differ from Go's in the last digits, so answers would differ from Prometheus'. These
//! follow the published methods that Go uses (FreeBSD's msun, Cephes, and Shibata's for `exp`), operation by
//! operation. Nothing is fused except where Go's assembly fuses, which is in [`exp`] only, and there always: every
//! amd64 processor of the last decade has the instruction.

mod exponential;
mod hyperbolic;
mod trigonometric;

pub use exponential::{exp, exp2, expm1, log, log1p, log2, log10, pow};
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub use trigonometric::{acos, asin, atan, atan2, cos, sin, tan};

use crate::sample::normal_nan;

const EXPONENT_BIAS: i64 = 1023;

const EXPONENT_MASK: u64 = 0x7ff << 52;

const FRACTION_MASK: u64 = (1 << 52) - 1;

/// `num × z^(n-1) + …`, highest coefficient first, by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f64; N], z: f64) -> f64 {
    let mut sum = coefficients[0];
    for c in &coefficients[1..] {
        sum = sum * z + c;
    }
    sum
}

/// As [`polynomial`] with a highest coefficient of 1.
#[inline(always)]
fn monic_polynomial<const N: usize>(coefficients: [f64; N], z: f64) -> f64 {
    let mut sum = z + coefficients[0];
    for c in &coefficients[1..] {
        sum = sum * z + c;
    }
    sum
}

/// A negative number times `f` becomes `-f(-x)`.
#[inline(always)]
fn odd(x: f64, f: impl FnOnce(f64) -> f64) -> f64 {
    if x < 0.0 { -f(-x) } else { f(x) }
}

/// Fraction in [0.5, 1) and exponent of `x = fraction × 2^exponent`; zeros, infinities and NaN stay, with 0.
pub fn frexp(x: f64) -> (f64, i64) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, shifted) = normalize(x);
    let bits = x.to_bits();
    let exponent = shifted + ((bits & EXPONENT_MASK) >> 52) as i64 - EXPONENT_BIAS + 1;
    (f64::from_bits((bits & !EXPONENT_MASK) | ((EXPONENT_BIAS as u64 - 1) << 52)), exponent)
}

fn normalize(x: f64) -> (f64, i64) {
    if x.abs() < f64::MIN_POSITIVE { (x * (1u64 << 52) as f64, -52) } else { (x, 0) }
}

/// `fraction × 2^exponent`, rounded once.
pub fn ldexp(fraction: f64, exponent: i64) -> f64 {
    if fraction == 0.0 || !fraction.is_finite() {
        return fraction;
    }
    let (fraction, shifted) = normalize(fraction);
    let bits = fraction.to_bits();
    let mut exponent = exponent
        .saturating_add(shifted)
        .saturating_add(((bits & EXPONENT_MASK) >> 52) as i64 - EXPONENT_BIAS);
    if exponent < -1075 {
        return 0f64.copysign(fraction);
    }
    if exponent > 1023 {
        return f64::INFINITY.copysign(fraction);
    }
    let mut scale = 1.0;
    if exponent < -1022 {
        exponent += 53;
        scale = 1.0 / (1u64 << 53) as f64;
    }
    scale * f64::from_bits((bits & !EXPONENT_MASK) | (((exponent + EXPONENT_BIAS) as u64) << 52))
}

/// Remainder of the truncated division, with the sign of `x` (PromQL's `%`). The result is exact, so the
/// processor's agrees with Go's.
pub fn mod_(x: f64, y: f64) -> f64 {
    if y == 0.0 || x.is_infinite() || x.is_nan() || y.is_nan() {
        return normal_nan();
    }
    x % y
}

/// The larger, as `math.Max`: an infinity beats NaN, NaN beats numbers, 0 beats -0.
pub fn max(x: f64, y: f64) -> f64 {
    if x == f64::INFINITY || y == f64::INFINITY {
        f64::INFINITY
    } else if x.is_nan() || y.is_nan() {
        normal_nan()
    } else if x == 0.0 && y == 0.0 {
        if x.is_sign_negative() { y } else { x }
    } else if x > y {
        x
    } else {
        y
    }
}

/// The smaller, as `math.Min`: a negative infinity beats NaN, NaN beats numbers, -0 beats 0.
pub fn min(x: f64, y: f64) -> f64 {
    if x == f64::NEG_INFINITY || y == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if x.is_nan() || y.is_nan() {
        normal_nan()
    } else if x == 0.0 && y == 0.0 {
        if x.is_sign_negative() { x } else { y }
    } else if x < y {
        x
    } else {
        y
    }
}

/// Go's `int64(x)` on amd64: what lies out of range, and NaN, become [`i64::MIN`].
pub fn to_i64(x: f64) -> i64 {
    const LIMIT: f64 = (1u64 << 63) as f64;
    if (-LIMIT..LIMIT).contains(&x) { x as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(f64) -> f64;

    /// Name, function, argument and the bits of the result under Go on amd64.
    const RESULTS: &[(&str, Function, f64, u64)] = &[
        ("exp", exp, 1.0, 0x4005bf0a8b145769),
        ("exp", exp, -0.3, 0x3fe7b4c869c37c05),
        ("exp", exp, 700.25, 0x7f12fd8e4cbfa413),
        ("exp", exp, -740.5, 0x0000000000000033),
        ("exp", exp, -745.2, 0x0000000000000000),
        ("exp", exp, 709.79, 0x7ff0000000000000),
        ("exp2", exp2, 0.1, 0x3ff125fbee250664),
        ("exp2", exp2, -1074.0, 0x0000000000000001),
        ("exp2", exp2, 1023.5, 0x7fe6a09e667f3bcc),
        ("log", log, 0.1, 0xc0026bb1bbb55515),
        ("log", log, 2.5, 0x3fed5240f0e0e078),
        ("log", log, 1e+300, 0x4085963447f87fb5),
        ("log", log, 5e-324, 0xc08628b76e3a7b61),
        ("log2", log2, 8.0, 0x4008000000000000),
        ("log2", log2, 0.7, 0xbfe0776228967d13),
        ("log2", log2, 1e-310, 0xc0901730dabca5f6),
        ("log10", log10, 1000.0, 0x4008000000000000),
        ("log10", log10, 0.3, 0xbfe0bb6c34d81502),
        ("log1p", log1p, 1e-09, 0x3e112e0be801f1d9),
        ("log1p", log1p, 0.3, 0x3fd0ca937be1b9dc),
        ("log1p", log1p, -0.5, 0xbfe62e42fefa39ef),
        ("log1p", log1p, 1e+17, 0x4043926cd770aa67),
        ("expm1", expm1, 1e-09, 0x3e112e0be84bbb51),
        ("expm1", expm1, 0.5, 0x3fe4c2531c3c0d38),
        ("expm1", expm1, -1.0, 0xbfe43a54e4e98864),
        ("expm1", expm1, 3.0, 0x403315e5bf6fb106),
        ("expm1", expm1, 30.0, 0x42a370470aec26ed),
        ("expm1", expm1, -700.0, 0xbff0000000000000),
        ("sin", sin, 0.5, 0x3fdeaee8744b05f0),
        ("sin", sin, -3.0, 0xbfc210386db6d55b),
        ("sin", sin, 1e+09, 0x3fe1778cae83c69a),
        ("sin", sin, 1e+300, 0xbfea2c16b010e386),
        ("cos", cos, 0.5, 0x3fec1528065b7d50),
        ("cos", cos, 100.0, 0x3feb981dbf665fdf),
        ("cos", cos, 1e+22, 0x3fe0be2cef01c8f3),
        ("tan", tan, 0.5, 0x3fe17b4f5bf3474a),
        ("tan", tan, 2.0, 0xc0017af62e0950f8),
        ("tan", tan, 1e+15, 0xbffac23600a95be5),
        ("asin", asin, 0.3, 0x3fd380159e14f6ff),
        ("asin", asin, -0.9, 0xbff1ea93705fa172),
        ("acos", acos, 0.3, 0x3ff441f5ecbeef58),
        ("acos", acos, 0.99, 0x3fc21df72882bfd8),
        ("atan", atan, 0.3, 0x3fd2a73a661eaf06),
        ("atan", atan, 1.5, 0x3fef730bd281f69b),
        ("atan", atan, -7.0, 0xbff6dcc57bb565fc),
        ("sinh", sinh, 0.3, 0x3fd37d42af54b926),
        ("sinh", sinh, 5.0, 0x40528d0166f07374),
        ("sinh", sinh, -30.0, 0xc29370470aec28ec),
        ("cosh", cosh, 0.3, 0x3ff0b9b4e0b6ec4c),
        ("cosh", cosh, 25.0, 0x4220c3d3920962c9),
        ("tanh", tanh, 0.3, 0x3fd2a4dda7d914fa),
        ("tanh", tanh, 0.9, 0x3fe6ebe982d6605d),
        ("tanh", tanh, -50.0, 0xbff0000000000000),
        ("asinh", asinh, 0.3, 0x3fd2ec4ea565fcc1),
        ("asinh", asinh, 5.0, 0x40027fdfac4e4380),
        ("asinh", asinh, 1e+10, 0x4037b810429a7c2a),
        ("acosh", acosh, 1.5, 0x3feecc2caec5160a),
        ("acosh", acosh, 5.0, 0x400256e66a48a3b6),
        ("acosh", acosh, 1e+10, 0x4037b810429a7c2a),
        ("atanh", atanh, 0.3, 0x3fd3cf2b50617c96),
        ("atanh", atanh, -0.9, 0xbff78e360604b32d),
    ];

    /// Base, exponent, bits of the power.
    const POWERS: &[(f64, f64, u64)] = &[
        (2.0, 0.3, 0x3ff3b2c47bff8329),
        (10.0, -3.0, 0x3f50624dd2f1a9fc),
        (1.5, 1000.7, 0x6484b4ba0fd5bbea),
        (-2.0, 3.0, 0xc020000000000000),
        (-2.0, 0.5, 0xfff8000000000000),
        (0.0, -3.0, 0x7ff0000000000000),
        (1e-05, 60.1, 0x018b1b7583379078),
        (3.0, 40.0, 0x43e517168a4523fd),
        (-1.0, 1e+300, 0x3ff0000000000000),
        (0.9, 1e+19, 0x0000000000000000),
    ];

    /// y, x, bits of the angle.
    const ANGLES: &[(f64, f64, u64)] = &[
        (1.0, -2.0, 0x40056c6e7397f5ae),
        (-0.5, 0.25, 0xbff1b6e192ebbe44),
        (3.0, 1e-300, 0x3ff921fb54442d18),
        (-0.0, -1.0, 0xc00921fb54442d18),
    ];

    #[test]
    fn results_are_gos_to_the_bit() {
        for (name, function, x, want) in RESULTS {
            assert_eq!(function(*x).to_bits(), *want, "{name}({x:e}) = {:e}", function(*x));
        }
        for (x, y, want) in POWERS {
            assert_eq!(pow(*x, *y).to_bits(), *want, "{x}^{y} = {:e}", pow(*x, *y));
        }
        for (y, x, want) in ANGLES {
            assert_eq!(atan2(*y, *x).to_bits(), *want, "atan2({y}, {x})");
        }
    }

    #[test]
    fn special_arguments_give_special_results() {
        let inf = f64::INFINITY;
        for function in [log, log2, log10, acosh, sin, cos, tan, asin, acos, atanh] {
            assert_eq!(function(-inf).to_bits(), crate::sample::NORMAL_NAN_BITS);
        }
        assert_eq!((log(0.0), log1p(-1.0), exp(-inf), tanh(-inf)), (-inf, -inf, 0.0, -1.0));
        for odd in [sin, tan, asin, atan, sinh, tanh, asinh, atanh] {
            assert_eq!(odd(-0.0).to_bits(), (-0f64).to_bits());
        }
        assert_eq!((max(inf, f64::NAN), min(-inf, f64::NAN)), (inf, -inf));
        assert!(max(1.0, f64::NAN).is_nan() && min(f64::NAN, 1.0).is_nan());
        assert!(max(-0.0, 0.0).is_sign_positive() && min(0.0, -0.0).is_sign_negative());
        assert_eq!((mod_(5.5, -2.0), mod_(-5.5, 2.0), mod_(5.0, inf)), (1.5, -1.5, 5.0));
        assert!(mod_(1.0, 0.0).is_nan() && mod_(inf, 1.0).is_nan());
        assert_eq!(
            (to_i64(-1.9), to_i64(f64::NAN), to_i64(1e19), to_i64(-1e19)),
            (-1, i64::MIN, i64::MIN, i64::MIN)
        );
    }

    #[test]
    fn fraction_and_exponent_make_the_number_again() {
        for x in [1.0, -0.3, 1e300, 5e-324, -2.5e-310, f64::MAX] {
            let (fraction, exponent) = frexp(x);
            assert!((0.5..1.0).contains(&fraction.abs()), "{x:e}");
            assert_eq!(ldexp(fraction, exponent), x);
        }
        assert_eq!((ldexp(1.0, i64::MAX), ldexp(-1.0, i64::MIN)), (f64::INFINITY, -0.0));
        assert_eq!(ldexp(0.75, -1074), 5e-324);
    }
}
