//! Powers and logarithms.

#![allow(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "coefficients as published, digit for digit"
)]

use std::f64::consts::{LOG2_E, LOG10_E};

use super::{EXPONENT_BIAS, FRACTION_MASK, frexp, ldexp, polynomial};
use crate::sample::normal_nan;

/// Upper and lower part of ln 2.
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;

const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// e^x.
pub fn exp(x: f64) -> f64 {
    const OVERFLOW: f64 = 7.097_827_128_933_84e2;
    const LN2_UPPER: f64 = 0.693_147_180_559_662_956_511_601_805_686_950_683_593_75;
    const LN2_LOWER: f64 = 0.282_352_905_630_315_771_225_884_481_750_134_360_255_254_120_68e-12;
    if x.is_nan() {
        return x;
    }
    if x == f64::NEG_INFINITY {
        return 0.0;
    }
    if x > OVERFLOW {
        return f64::INFINITY;
    }
    let power = (LOG2_E * x).round_ties_even();
    // Far below the range the conversion instruction gives the smallest number, as does this one.
    let mut exponent = i64::from(power as i32);
    let k = exponent as f64;
    let r = (-k).mul_add(LN2_LOWER, (-k).mul_add(LN2_UPPER, x)) * 0.0625;
    let mut series = 2.480_158_730_158_730_158_7e-5f64;
    for coefficient in [
        1.984_126_984_126_984_127_0e-4,
        1.388_888_888_888_888_888_9e-3,
        8.333_333_333_333_333_333_3e-3,
        4.166_666_666_666_666_666_7e-2,
        1.666_666_666_666_666_666_7e-1,
        0.5,
        1.0,
    ] {
        series = series.mul_add(r, coefficient);
    }
    // e^r - 1, then four times (1 + y)² - 1 = y (y + 2).
    let mut y = r * series;
    for _ in 0..3 {
        y *= y + 2.0;
    }
    let y = y.mul_add(y + 2.0, 1.0);
    exponent += EXPONENT_BIAS;
    if exponent >= 0x7ff {
        return f64::INFINITY;
    }
    if exponent > 0 {
        return y * f64::from_bits((exponent as u64) << 52);
    }
    if exponent < -52 {
        return 0.0;
    }
    y * f64::from_bits(((exponent + EXPONENT_BIAS - 1) as u64) << 52) * f64::MIN_POSITIVE
}

/// 2^x.
pub fn exp2(x: f64) -> f64 {
    const OVERFLOW: f64 = 1.023_999_999_999_999_9e3;
    const UNDERFLOW: f64 = -1.0740e3;
    if x.is_nan() {
        return x;
    }
    if x > OVERFLOW {
        return f64::INFINITY;
    }
    if x < UNDERFLOW {
        return 0.0;
    }
    let k = if x > 0.0 {
        (x + 0.5) as i64
    } else if x < 0.0 {
        (x - 0.5) as i64
    } else {
        0
    };
    let t = x - k as f64;
    let high = t * LN2_HIGH;
    let low = -t * LN2_LOW;
    let r = high - low;
    let t = r * r;
    let c = r - t * polynomial(
        [
            4.138_136_797_057_238_460_39e-8,
            -1.653_390_220_546_525_153_90e-6,
            6.613_756_321_437_934_361_17e-5,
            -2.777_777_777_701_559_338_42e-3,
            1.666_666_666_666_666_574_15e-1,
        ],
        t,
    );
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    ldexp(y, k)
}

/// Natural logarithm. Subnormal numbers come out as on amd64, which takes their bits as they are.
pub fn log(x: f64) -> f64 {
    const HALF_SQRT2: f64 = 7.071_067_811_865_475_244_01e-1;
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_sign_negative() {
        return normal_nan();
    }
    if !x.is_finite() {
        return x;
    }
    let bits = x.to_bits();
    let mut fraction = f64::from_bits((bits & FRACTION_MASK) | 0.5f64.to_bits());
    let mut k = ((bits >> 52) as i64 - (EXPONENT_BIAS - 1)) as f64;
    if fraction <= HALF_SQRT2 {
        k -= 1.0;
        fraction *= 2.0;
    }
    let f = fraction - 1.0;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let t1 = s2
        * polynomial(
            [
                1.479_819_860_511_658_591e-1,
                1.818_357_216_161_805_012e-1,
                2.857_142_874_366_239_149e-1,
                6.666_666_666_666_735_130e-1,
            ],
            s4,
        );
    let t2 = s4
        * polynomial(
            [1.531_383_769_920_937_332e-1, 2.222_219_843_214_978_396e-1, 3.999_999_999_940_941_908e-1],
            s4,
        );
    let r = t1 + t2;
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + k * LN2_LOW)) - f)
}

/// Logarithm to base 2, exact for powers of two.
pub fn log2(x: f64) -> f64 {
    let (fraction, exponent) = frexp(x);
    if fraction == 0.5 {
        return (exponent - 1) as f64;
    }
    log(fraction) * LOG2_E + exponent as f64
}

/// Logarithm to base 10.
pub fn log10(x: f64) -> f64 {
    log(x) * LOG10_E
}

/// ln(1 + x).
pub fn log1p(x: f64) -> f64 {
    const SQRT2_MINUS_1: f64 = 4.142_135_623_730_950_488_017e-1;
    const HALF_SQRT2_MINUS_1: f64 = -2.928_932_188_134_524_755_992e-1;
    if x < -1.0 || x.is_nan() {
        return normal_nan();
    }
    if x == -1.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    let magnitude = x.abs();
    let (mut f, mut c, mut k, mut fraction) = (x, 0.0, 1i64, 1u64);
    if magnitude < SQRT2_MINUS_1 {
        if magnitude < 1.0 / (1u64 << 29) as f64 {
            return if magnitude < 1.0 / (1u64 << 54) as f64 { x } else { x - x * x * 0.5 };
        }
        if x > HALF_SQRT2_MINUS_1 {
            k = 0;
        }
    }
    if k != 0 {
        let u = if magnitude < (1u64 << 53) as f64 {
            let u = 1.0 + x;
            k = (u.to_bits() >> 52) as i64 - EXPONENT_BIAS;
            c = (if k > 0 { 1.0 - (u - x) } else { x - (u - 1.0) }) / u;
            u
        } else {
            k = (x.to_bits() >> 52) as i64 - EXPONENT_BIAS;
            x
        };
        fraction = u.to_bits() & FRACTION_MASK;
        let reduced = if fraction < 0x0006_a09e_667f_3bcd {
            f64::from_bits(fraction | 0x3ff0_0000_0000_0000)
        } else {
            k += 1;
            let halved = f64::from_bits(fraction | 0x3fe0_0000_0000_0000);
            fraction = (0x0010_0000_0000_0000 - fraction) >> 2;
            halved
        };
        f = reduced - 1.0;
    }
    let kf = k as f64;
    let half_square = 0.5 * f * f;
    if fraction == 0 {
        if f == 0.0 {
            return if k == 0 { 0.0 } else { kf * LN2_HIGH + (c + kf * LN2_LOW) };
        }
        let r = half_square * (1.0 - 0.666_666_666_666_666_66 * f);
        return if k == 0 { f - r } else { kf * LN2_HIGH - ((r - (kf * LN2_LOW + c)) - f) };
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial(
        [
            1.479_819_860_511_658_591e-1,
            1.531_383_769_920_937_332e-1,
            1.818_357_216_161_805_012e-1,
            2.222_219_843_214_978_396e-1,
            2.857_142_874_366_239_149e-1,
            3.999_999_999_940_941_908e-1,
            6.666_666_666_666_735_130e-1,
        ],
        z,
    );
    if k == 0 {
        return f - (half_square - s * (half_square + r));
    }
    kf * LN2_HIGH - ((half_square - (s * (half_square + r) + (kf * LN2_LOW + c))) - f)
}

/// e^x - 1.
pub fn expm1(x: f64) -> f64 {
    const OVERFLOW: f64 = 7.097_827_128_933_839_730_96e2;
    const LN2_TIMES_56: f64 = 3.881_624_211_135_693_732_74e1;
    const LN2_TIMES_3_HALVES: f64 = 1.039_720_770_839_917_964_13;
    const HALF_LN2: f64 = 3.465_735_902_799_726_547_09e-1;
    if x == f64::INFINITY || x.is_nan() {
        return x;
    }
    let (magnitude, negative) = (x.abs(), x < 0.0);
    if magnitude >= LN2_TIMES_56 {
        if negative {
            return -1.0;
        }
        if magnitude >= OVERFLOW {
            return f64::INFINITY;
        }
    }
    let (mut x, mut c, mut k) = (x, 0.0, 0i64);
    if magnitude > HALF_LN2 {
        let (high, low);
        if magnitude < LN2_TIMES_3_HALVES {
            k = if negative { -1 } else { 1 };
            (high, low) = if negative { (x + LN2_HIGH, -LN2_LOW) } else { (x - LN2_HIGH, LN2_LOW) };
        } else {
            k = (LOG2_E * x + if negative { -0.5 } else { 0.5 }) as i64;
            let t = k as f64;
            (high, low) = (x - t * LN2_HIGH, t * LN2_LOW);
        }
        x = high - low;
        c = (high - x) - low;
    } else if magnitude < 1.0 / (1u64 << 54) as f64 {
        return x;
    }
    let half = 0.5 * x;
    let square = x * half;
    let r1 = 1.0
        + square
            * polynomial(
                [
                    -2.010_992_181_836_243_713_26e-7,
                    4.008_217_827_329_362_395_52e-6,
                    -7.936_507_578_674_879_424_73e-5,
                    1.587_301_587_254_814_601_65e-3,
                    -3.333_333_333_333_313_164_28e-2,
                ],
                square,
            );
    let t = 3.0 - r1 * half;
    let mut e = square * ((r1 - t) / (6.0 - x * t));
    if k == 0 {
        return x - (x * e - square);
    }
    e = x * (e - c) - c;
    e -= square;
    let raise = |y: f64| f64::from_bits(y.to_bits().wrapping_add((k as u64) << 52));
    match k {
        -1 => 0.5 * (x - e) - 0.5,
        1 if x < -0.25 => -2.0 * (e - (x + 0.5)),
        1 => 1.0 + 2.0 * (x - e),
        _ if k <= -2 || k > 56 => raise(1.0 - (e - x)) - 1.0,
        _ if k < 20 => {
            let t = f64::from_bits(0x3ff0_0000_0000_0000 - (0x20_0000_0000_0000 >> k));
            raise(t - (e - x))
        }
        _ => {
            let t = f64::from_bits(((0x3ff - k) as u64) << 52);
            raise(x - (e + t) + 1.0)
        }
    }
}

fn is_odd_integer(x: f64) -> bool {
    x.abs() < (1u64 << 53) as f64 && x.trunc() == x && (x as i64) & 1 == 1
}

/// x^y.
pub fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if y == 1.0 {
        return x;
    }
    if x.is_nan() || y.is_nan() {
        return normal_nan();
    }
    if x == 0.0 {
        let keeps_sign = x.is_sign_negative() && is_odd_integer(y);
        let magnitude = if y < 0.0 { f64::INFINITY } else { 0.0 };
        return if keeps_sign { -magnitude } else { magnitude };
    }
    let overflowing = || match () {
        () if x == -1.0 => 1.0,
        () if (x.abs() < 1.0) == (y > 0.0) => 0.0,
        () => f64::INFINITY,
    };
    if y.is_infinite() {
        return overflowing();
    }
    if x == f64::NEG_INFINITY {
        return pow(-0.0, -y);
    }
    if x == f64::INFINITY {
        return if y < 0.0 { 0.0 } else { f64::INFINITY };
    }
    if y == 0.5 {
        return x.sqrt();
    }
    if y == -0.5 {
        return 1.0 / x.sqrt();
    }
    let magnitude = y.abs();
    let mut whole = magnitude.trunc();
    let mut fraction = magnitude - whole;
    if fraction != 0.0 && x < 0.0 {
        return normal_nan();
    }
    if whole >= 9.223_372_036_854_775_808e18 {
        return overflowing();
    }
    let (mut result, mut result_exponent) = (1.0, 0i64);
    if fraction != 0.0 {
        if fraction > 0.5 {
            fraction -= 1.0;
            whole += 1.0;
        }
        result = exp(fraction * log(x));
    }
    // By squaring, with exponents apart.
    let (mut power, mut exponent) = frexp(x);
    let mut i = whole as i64;
    while i != 0 {
        if !(-(1 << 12)..=1 << 12).contains(&exponent) {
            // Under- or overflow is certain.
            result_exponent += exponent;
            break;
        }
        if i & 1 == 1 {
            result *= power;
            result_exponent += exponent;
        }
        power *= power;
        exponent <<= 1;
        if power < 0.5 {
            power += power;
            exponent -= 1;
        }
        i >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        result_exponent = -result_exponent;
    }
    ldexp(result, result_exponent)
}
