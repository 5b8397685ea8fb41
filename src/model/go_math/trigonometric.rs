//! Sines, cosines, tangents and back.

#![allow(
    clippy::excessive_precision,
    clippy::approx_constant,
    reason = "coefficients as published, digit for digit"
)]

use std::f64::consts::{FRAC_1_PI, FRAC_PI_2, FRAC_PI_4, PI};

use super::{EXPONENT_BIAS, FRACTION_MASK, monic_polynomial, odd, polynomial};
use crate::sample::normal_nan;

/// Octant of a non-negative angle, and what remains of it within ±π/4.
fn reduce_angle(x: f64) -> (u64, f64) {
    const PI4_A: f64 = 7.853_981_256_484_985_351_56e-1;
    const PI4_B: f64 = 3.774_894_707_930_798_176_68e-8;
    const PI4_C: f64 = 2.695_151_429_079_059_526_45e-15;
    if x >= (1u64 << 29) as f64 {
        return reduce_large_angle(x);
    }
    let mut octant = (x * (4.0 * FRAC_1_PI)) as u64;
    let mut y = octant as f64;
    if octant & 1 == 1 {
        octant += 1;
        y += 1.0;
    }
    (octant & 7, ((x - y * PI4_A) - y * PI4_B) - y * PI4_C)
}

/// Payne and Hanek's reduction: the product with the bits of 4/π that matter.
fn reduce_large_angle(x: f64) -> (u64, f64) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i64 - EXPONENT_BIAS - 52;
    let mantissa = (bits & FRACTION_MASK) | 1 << 52;
    let (digit, shift) = ((exponent + 61) as usize / 64, (exponent + 61) as u32 % 64);
    let window = |i: usize| -> u64 {
        let (high, low) = (FOUR_OVER_PI[i], FOUR_OVER_PI[i + 1]);
        ((u128::from(high) << 64 | u128::from(low)) << shift >> 64) as u64
    };
    let product = |a: u64| u128::from(a) * u128::from(mantissa);
    let third = product(window(digit + 2)) >> 64;
    let second = product(window(digit + 1));
    let first = u128::from(window(digit).wrapping_mul(mantissa)) << 64;
    let sum = first.wrapping_add(second).wrapping_add(third);
    let octant = (sum >> 125) as u64;
    let fraction = sum << 3;
    let zeros = ((fraction >> 64) as u64).leading_zeros();
    let e = (EXPONENT_BIAS - i64::from(zeros) - 1) as u64;
    let mut z = f64::from_bits(((fraction << zeros << 1) >> 76) as u64 | e << 52);
    if octant & 1 == 1 {
        z -= 1.0;
        return ((octant + 1) & 7, z * FRAC_PI_4);
    }
    (octant, z * FRAC_PI_4)
}

/// Binary digits of 4/π, the integer part first.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];

fn sine_series(z: f64) -> f64 {
    let zz = z * z;
    z + z
        * zz
        * polynomial(
            [
                1.589_623_015_765_465_680_60e-10,
                -2.505_074_776_285_780_728_66e-8,
                2.755_731_362_138_572_452_13e-6,
                -1.984_126_982_958_953_859_96e-4,
                8.333_333_333_322_118_588_78e-3,
                -1.666_666_666_666_663_072_95e-1,
            ],
            zz,
        )
}

fn cosine_series(z: f64) -> f64 {
    let zz = z * z;
    1.0 - 0.5 * zz
        + zz * zz
            * polynomial(
                [
                    -1.135_853_652_138_768_173_00e-11,
                    2.087_570_084_197_473_167_78e-9,
                    -2.755_731_417_929_673_881_12e-7,
                    2.480_158_728_885_170_453_48e-5,
                    -1.388_888_888_887_305_641_16e-3,
                    4.166_666_666_666_659_292_18e-2,
                ],
                zz,
            )
}

/// Sine of an angle in radians.
pub fn sin(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return normal_nan();
    }
    let (octant, z) = reduce_angle(x.abs());
    let y = if matches!(octant & 3, 1 | 2) { cosine_series(z) } else { sine_series(z) };
    if (octant > 3) != (x < 0.0) { -y } else { y }
}

/// Cosine of an angle in radians.
pub fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return normal_nan();
    }
    let (octant, z) = reduce_angle(x.abs());
    let folded = octant & 3;
    let y = if matches!(folded, 1 | 2) { sine_series(z) } else { cosine_series(z) };
    if (octant > 3) != (folded > 1) { -y } else { y }
}

/// Tangent of an angle in radians.
pub fn tan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return normal_nan();
    }
    let (octant, z) = reduce_angle(x.abs());
    let zz = z * z;
    let mut y = z;
    if zz > 1e-14 {
        let numerator = polynomial(
            [
                -1.309_369_391_813_837_776_46e4,
                1.153_516_648_385_874_161_40e6,
                -1.795_652_519_764_848_779_88e7,
            ],
            zz,
        );
        let denominator = monic_polynomial(
            [
                1.368_129_634_706_929_546_78e4,
                -1.320_892_344_402_109_674_47e6,
                2.500_838_018_233_579_158_39e7,
                -5.386_957_559_294_546_298_81e7,
            ],
            zz,
        );
        y = z + z * (zz * numerator / denominator);
    }
    if octant & 2 == 2 {
        y = -1.0 / y;
    }
    if x < 0.0 { -y } else { y }
}

/// Arc tangent up to 0.66.
fn small_arc_tangent(x: f64) -> f64 {
    let z = x * x;
    let numerator = polynomial(
        [
            -8.750_608_600_031_904_122_785e-1,
            -1.615_753_718_733_365_076_637e1,
            -7.500_855_792_314_704_667_340e1,
            -1.228_866_684_490_136_173_410e2,
            -6.485_021_904_942_025_371_773e1,
        ],
        z,
    );
    let denominator = monic_polynomial(
        [
            2.485_846_490_142_306_297_962e1,
            1.650_270_098_316_988_542_046e2,
            4.328_810_604_912_902_668_951e2,
            4.853_903_996_359_136_964_868e2,
            1.945_506_571_482_613_964_425e2,
        ],
        z,
    );
    x * (z * numerator / denominator) + x
}

fn positive_arc_tangent(x: f64) -> f64 {
    const MORE_BITS: f64 = 6.123_233_995_736_765_886_130e-17;
    const TAN_3_PI_8: f64 = 2.414_213_562_373_095_048_80;
    if x <= 0.66 {
        small_arc_tangent(x)
    } else if x > TAN_3_PI_8 {
        FRAC_PI_2 - small_arc_tangent(1.0 / x) + MORE_BITS
    } else {
        FRAC_PI_4 + small_arc_tangent((x - 1.0) / (x + 1.0)) + 0.5 * MORE_BITS
    }
}

/// Arc tangent.
pub fn atan(x: f64) -> f64 {
    if x == 0.0 {
        x
    } else if x > 0.0 {
        positive_arc_tangent(x)
    } else {
        -positive_arc_tangent(-x)
    }
}

/// Angle of the point (x, y).
pub fn atan2(y: f64, x: f64) -> f64 {
    let magnitude = if y.is_nan() || x.is_nan() {
        return normal_nan();
    } else if y == 0.0 {
        if x.is_sign_negative() { PI } else { 0.0 }
    } else if x == 0.0 {
        FRAC_PI_2
    } else if x.is_infinite() {
        match (x > 0.0, y.is_infinite()) {
            (true, true) => FRAC_PI_4,
            (true, false) => 0.0,
            (false, true) => 2.356_194_490_192_344_928_85,
            (false, false) => PI,
        }
    } else if y.is_infinite() {
        FRAC_PI_2
    } else {
        let q = atan(y / x);
        return match (x < 0.0, q <= 0.0) {
            (true, true) => q + PI,
            (true, false) => q - PI,
            _ => q,
        };
    };
    magnitude.copysign(y)
}

/// Arc sine.
pub fn asin(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    if x.abs() > 1.0 {
        return normal_nan();
    }
    odd(x, |x| {
        let root = (1.0 - x * x).sqrt();
        if x > 0.7 { FRAC_PI_2 - positive_arc_tangent(root / x) } else { positive_arc_tangent(x / root) }
    })
}

/// Arc cosine.
pub fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}
