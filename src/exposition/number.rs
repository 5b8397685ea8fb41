//! Sample values as text: the fast path for what exporters write, Go's rules for the rest.

use tsdbctl_model::float_text::{ParseNumberError, format_g, parse_float};
use tsdbctl_model::sample::normal_nan;

use crate::error::quote_bytes;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// A plain decimal from `at` on that ends before a space or newline: value and end. `None` if it is anything else,
/// or not sure to be rounded right this way.
#[inline]
pub(crate) fn scan_decimal(body: &[u8], at: usize) -> Option<(f64, usize)> {
    let mut i = at;
    let negative = *body.get(i)? == b'-';
    i += usize::from(negative);
    let digits_start = i;
    let mut mantissa = 0u64;
    let mut digit = |i: usize| -> Option<bool> {
        let d = body.get(i)?.wrapping_sub(b'0');
        if d < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(d));
        }
        Some(d < 10)
    };
    while digit(i)? {
        i += 1;
    }
    let mut digits = i - digits_start;
    let mut decimals = 0;
    if body[i] == b'.' {
        let start = i + 1;
        i = start;
        while digit(i)? {
            i += 1;
        }
        decimals = i - start;
        digits += decimals;
    }
    // With 19 digits the mantissa cannot wrap; below 2^53 it is exact, and so is the one division.
    if digits == 0 || digits > 19 || mantissa > 1 << 53 || !matches!(body[i], b' ' | b'\n') {
        return None;
    }
    let v = if decimals == 0 { mantissa as f64 } else { mantissa as f64 / POWERS[decimals] };
    Some((if negative { -v } else { v }, i))
}

/// A sample's value by upstream's rules, which are Go's without hexadecimal and `_`. The error is upstream's text.
pub(crate) fn parse_value(token: &[u8]) -> Result<f64, String> {
    if memchr::memchr3(b'p', b'P', b'_', token).is_some() {
        return Err("unsupported character in float".to_owned());
    }
    let parsed = std::str::from_utf8(token).map_err(|_| ParseNumberError::Syntax).and_then(parse_float);
    match parsed {
        Ok(v) if v.is_nan() => Ok(normal_nan()),
        Ok(v) => Ok(v),
        Err(e) => Err(format!("strconv.ParseFloat: parsing {}: {e}", quote_bytes(token))),
    }
}

/// Digits as Unix milliseconds. The error is upstream's text.
pub(crate) fn parse_millis(token: &[u8]) -> Result<i64, String> {
    let mut v = 0i64;
    for b in token {
        v = v
            .checked_mul(10)
            .and_then(|v| v.checked_add(i64::from(b - b'0')))
            .ok_or_else(|| format!("strconv.ParseInt: parsing {}: value out of range", quote_bytes(token)))?;
    }
    Ok(v)
}

/// Seconds as milliseconds, cut as Go's conversion on amd64 cuts them.
pub(crate) fn millis_of_seconds(seconds: f64) -> i64 {
    let ms = seconds * 1000.0;
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ms) {
        ms as i64
    } else {
        i64::MIN
    }
}

/// A float as OpenMetrics wants it in `le` and `quantile`: always with a point or an exponent.
pub(crate) fn openmetrics_float(v: f64) -> String {
    let mut text = format_g(v);
    if v.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_path_rounds_as_the_slow_one() {
        for text in [
            "0",
            "-0",
            "1",
            "7.25",
            "0.1",
            "2401.23",
            "-123456.789",
            "9007199254740992",
            "0.000000000000000001",
            "5.",
            ".5",
        ] {
            let body = format!("{text}\n");
            if let Some((v, end)) = scan_decimal(body.as_bytes(), 0) {
                assert_eq!(v.to_bits(), parse_value(text.as_bytes()).unwrap().to_bits(), "{text}");
                assert_eq!(end, text.len());
            } else {
                panic!("{text} is plain");
            }
        }
        for text in ["1e5", "NaN", "+1", "x", "", "9007199254740993", "1.2.3", "12345678901234567890123"] {
            assert_eq!(scan_decimal(format!("{text}\n").as_bytes(), 0), None, "{text}");
        }
        assert_eq!(scan_decimal(b"12", 0), None);
    }

    #[test]
    fn values_are_refused_in_upstreams_words() {
        let cases: &[(&[u8], &str)] = &[
            (b"x", "strconv.ParseFloat: parsing \"x\": invalid syntax"),
            (b"1e400", "strconv.ParseFloat: parsing \"1e400\": value out of range"),
            (b"0x1p3", "unsupported character in float"),
            (b"1_000", "unsupported character in float"),
            (b"\xff", "strconv.ParseFloat: parsing \"\\xff\": invalid syntax"),
        ];
        for (token, want) in cases {
            assert_eq!(parse_value(token), Err((*want).to_owned()));
        }
    }

    #[test]
    fn openmetrics_floats_have_a_point() {
        let cases = [
            (1.0, "1.0"),
            (2.5, "2.5"),
            (10.0, "10.0"),
            (f64::INFINITY, "+Inf"),
            (1e21, "1e+21"),
            (0.0, "0.0"),
        ];
        for (v, want) in cases {
            assert_eq!(openmetrics_float(v), want);
        }
    }

    #[test]
    fn seconds_outside_64_bits_are_gos_lowest() {
        assert_eq!(millis_of_seconds(1.5), 1500);
        assert_eq!(millis_of_seconds(1e300), i64::MIN);
    }
}
