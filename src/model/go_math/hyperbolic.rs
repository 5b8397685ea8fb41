//! Hyperbolic functions and back.

#![allow(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "coefficients as published, digit for digit"
)]

use std::f64::consts::LN_2;

use super::{exp, log, log1p, monic_polynomial, odd, polynomial};
use crate::sample::normal_nan;

/// Hyperbolic sine.
pub fn sinh(x: f64) -> f64 {
    odd(x, |x| {
        if x > 21.0 {
            return exp(x) * 0.5;
        }
        if x > 0.5 {
            let e = exp(x);
            return (e - 1.0 / e) * 0.5;
        }
        let square = x * x;
        let numerator = polynomial(
            [
                -0.263_056_321_339_749_706_281_948_9e2,
                -0.289_421_135_598_956_380_728_466_036_6e4,
                -0.899_127_202_203_950_935_539_801_351_1e5,
                -0.630_767_364_049_771_699_118_478_725_1e6,
            ],
            square,
        ) * x;
        let denominator = monic_polynomial(
            [
                -0.173_678_953_558_233_699_533_450_911e3,
                0.152_151_737_879_001_907_069_648_517_6e5,
                -0.630_767_364_049_771_699_121_207_727_7e6,
            ],
            square,
        );
        numerator / denominator
    })
}

/// Hyperbolic cosine.
pub fn cosh(x: f64) -> f64 {
    let x = x.abs();
    if x > 21.0 {
        return exp(x) * 0.5;
    }
    let e = exp(x);
    (e + 1.0 / e) * 0.5
}

/// Hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    const LARGEST: f64 = 8.802_969_193_111_305_429_598_8e1;
    let magnitude = x.abs();
    if magnitude > 0.5 * LARGEST {
        return 1f64.copysign(x);
    }
    if magnitude >= 0.625 {
        let z = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
        return if x < 0.0 { -z } else { z };
    }
    if x == 0.0 {
        return x;
    }
    let square = x * x;
    let numerator = polynomial(
        [-9.643_991_794_250_522_386_28e-1, -9.928_772_310_019_185_865_64e1, -1.614_687_684_417_084_479_52e3],
        square,
    );
    let denominator = monic_polynomial(
        [1.128_116_784_916_329_314_02e2, 2.235_488_390_601_004_485_83e3, 4.844_063_053_251_254_860_48e3],
        square,
    );
    x + x * square * numerator / denominator
}

const TWO_TO_28: f64 = (1u64 << 28) as f64;

/// Inverse hyperbolic sine.
pub fn asinh(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    odd(x, |x| {
        if x > TWO_TO_28 {
            log(x) + LN_2
        } else if x > 2.0 {
            log(2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x))
        } else if x < 1.0 / TWO_TO_28 {
            x
        } else {
            log1p(x + x * x / (1.0 + (1.0 + x * x).sqrt()))
        }
    })
}

/// Inverse hyperbolic cosine.
pub fn acosh(x: f64) -> f64 {
    if x < 1.0 || x.is_nan() {
        normal_nan()
    } else if x == 1.0 {
        0.0
    } else if x >= TWO_TO_28 {
        log(x) + LN_2
    } else if x > 2.0 {
        log(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()))
    } else {
        let t = x - 1.0;
        log1p(t + (2.0 * t + t * t).sqrt())
    }
}

/// Inverse hyperbolic tangent.
pub fn atanh(x: f64) -> f64 {
    if x.abs() > 1.0 || x.is_nan() {
        return normal_nan();
    }
    if x.abs() == 1.0 {
        return f64::INFINITY.copysign(x);
    }
    odd(x, |x| {
        if x < 1.0 / TWO_TO_28 {
            x
        } else if x < 0.5 {
            let twice = x + x;
            0.5 * log1p(twice + twice * x / (1.0 - x))
        } else {
            0.5 * log1p((x + x) / (1.0 - x))
        }
    })
}
