//! Numbers as Go prints and reads them: `strconv.FormatFloat`, the HTTP API's JSON numbers, `ParseFloat`.
//!
//! The shortest digits that read back as the same number come from `zmij`; what is Go's own is the layout
//! around them.

pub use crate::quote::{UnquoteError, go_quote, go_unquote, write_go_quote};

/// Integers up to here are their own shortest digits.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Decimal digits `d₁d₂…` of a finite number, which is `0.d₁d₂… × 10^point`. Zero has no digits.
#[derive(Default)]
struct Digits {
    bytes: [u8; 32],
    len: usize,
    point: i32,
}

impl Digits {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The shortest digits of a finite `v >= 0`.
    fn shortest(v: f64) -> Self {
        let mut digits = Self::default();
        if v == 0.0 {
            return digits;
        }
        let mut buffer = zmij::Buffer::new();
        digits.read(buffer.format_finite(v).as_bytes());
        digits
    }

    /// Takes over `12.34`, `0.0012` or `1.2e-7`.
    fn read(&mut self, text: &[u8]) {
        let mut seen_dot = false;
        for (i, b) in text.iter().enumerate() {
            match b {
                b'.' => seen_dot = true,
                b'e' => {
                    self.point += read_exponent(&text[i + 1..]);
                    break;
                }
                _ => {
                    let zero_in_front = *b == b'0' && self.len == 0;
                    if !zero_in_front {
                        self.bytes[self.len] = *b;
                        self.len += 1;
                    }
                    self.point += match (seen_dot, zero_in_front) {
                        (false, false) => 1,
                        (true, true) => -1,
                        _ => 0,
                    };
                }
            }
        }
        while self.len > 0 && self.bytes[self.len - 1] == b'0' {
            self.len -= 1;
        }
    }
}

fn read_exponent(text: &[u8]) -> i32 {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let n = digits.iter().fold(0, |n, b| n * 10 + i32::from(b - b'0'));
    if negative { -n } else { n }
}

/// Writes `NaN`, `+Inf` or `-Inf` and says so, or the sign, and returns the absolute value still to be written.
fn write_special_or_sign(out: &mut Vec<u8>, v: f64) -> Option<f64> {
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
        return None;
    }
    if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
        return None;
    }
    if v.is_sign_negative() {
        out.push(b'-');
    }
    Some(v.abs())
}

fn write_fixed(out: &mut Vec<u8>, d: &Digits) {
    let digits = d.as_bytes();
    if d.point <= 0 {
        out.push(b'0');
        if digits.is_empty() {
            return;
        }
        out.push(b'.');
        out.resize(out.len() + d.point.unsigned_abs() as usize, b'0');
        out.extend_from_slice(digits);
        return;
    }
    let point = d.point as usize;
    if point >= digits.len() {
        out.extend_from_slice(digits);
        out.resize(out.len() + point - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

fn write_exponential(out: &mut Vec<u8>, d: &Digits) {
    let digits = d.as_bytes();
    out.push(*digits.first().unwrap_or(&b'0'));
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    write_exponent(out, if digits.is_empty() { 0 } else { d.point - 1 });
}

/// `e`, a sign, and two digits or more.
fn write_exponent(out: &mut Vec<u8>, exponent: i32) {
    out.push(b'e');
    out.push(if exponent < 0 { b'-' } else { b'+' });
    let exponent = exponent.unsigned_abs();
    if exponent < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
}

/// Whether `v` is a non-negative integer that may be printed through `u64`.
#[inline]
fn as_small_integer(v: f64) -> Option<u64> {
    if v < EXACT_INTEGERS {
        let n = v as u64;
        if n as f64 == v {
            return Some(n);
        }
    }
    None
}

/// Appends `FormatFloat(v, 'f', -1, 64)`: shortest digits, never an exponent; `NaN`, `+Inf`, `-Inf`.
#[inline]
pub fn write_f(out: &mut Vec<u8>, v: f64) {
    let Some(v) = write_special_or_sign(out, v) else { return };
    write_unsigned_f(out, v);
}

#[inline]
fn write_unsigned_f(out: &mut Vec<u8>, v: f64) {
    if let Some(n) = as_small_integer(v) {
        out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v).as_bytes();
    if PLAIN_RANGE.contains(&v) {
        out.extend_from_slice(text.strip_suffix(b".0").unwrap_or(text));
    } else {
        let mut digits = Digits::default();
        digits.read(text);
        write_fixed(out, &digits);
    }
}

/// Where the shortest text comes without an exponent, in Go's layout but for a `.0` behind integers.
const PLAIN_RANGE: std::ops::Range<f64> = 1e-5..1e16;

/// Appends `FormatFloat(v, 'e', -1, 64)`: shortest digits, always an exponent of two digits or more.
pub fn write_e(out: &mut Vec<u8>, v: f64) {
    let Some(v) = write_special_or_sign(out, v) else { return };
    write_exponential(out, &Digits::shortest(v));
}

/// Appends Go's `%g` / `%v` / `FormatFloat(v, 'g', -1, 64)`: shortest digits, exponent form below 1e-4 and from
/// 1e6: `100000`, `1e+06`, `1.23456789e+08`.
pub fn write_g(out: &mut Vec<u8>, v: f64) {
    let Some(v) = write_special_or_sign(out, v) else { return };
    let digits = Digits::shortest(v);
    write_general(out, &digits, SHORTEST_EXPONENT_FROM);
}

/// Decimal exponent from which `%g` with shortest digits turns to exponent form.
const SHORTEST_EXPONENT_FROM: i32 = 6;

fn write_general(out: &mut Vec<u8>, digits: &Digits, exponent_from: i32) {
    let exponent = digits.point - 1;
    if digits.len > 0 && (exponent < -4 || exponent >= exponent_from) {
        write_exponential(out, digits);
    } else {
        write_fixed(out, digits);
    }
}

/// Appends Go's `%.{precision}g`. Precisions above 17 are taken as 17 digits.
pub fn write_g_precision(out: &mut Vec<u8>, v: f64, precision: usize) {
    let Some(v) = write_special_or_sign(out, v) else { return };
    let precision = precision.clamp(1, 17);
    let mut digits = Digits::default();
    if v != 0.0 {
        digits.read(format!("{v:.*e}", precision - 1).as_bytes());
    }
    // Go turns to exponent form from the precision on, or from the number of digits where those suffice.
    let mut exponent_from = precision as i32;
    if exponent_from > digits.len as i32 && digits.len as i32 >= digits.point {
        exponent_from = digits.len as i32;
    }
    write_general(out, &digits, exponent_from);
}

/// Appends the number as the HTTP API writes it (`jsonutil.MarshalFloat`, without the quotes): `f`, but `e`
/// below 1e-6 and from 1e21.
#[inline]
pub fn write_json_float(out: &mut Vec<u8>, v: f64) {
    let Some(v) = write_special_or_sign(out, v) else { return };
    if v == 0.0 || (1e-6..1e21).contains(&v) {
        write_unsigned_f(out, v);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v).as_bytes();
    match text.iter().rposition(|b| *b == b'e') {
        Some(e) => {
            out.extend_from_slice(&text[..e]);
            write_exponent(out, read_exponent(&text[e + 1..]));
        }
        None => write_exponential(out, &Digits::shortest(v)),
    }
}

/// Appends a time as the HTTP API writes it (`jsonutil.MarshalTimestamp`): seconds, with up to three decimals
/// where there are milliseconds.
pub fn write_json_timestamp(out: &mut Vec<u8>, unix_ms: i64) {
    if unix_ms < 0 {
        out.push(b'-');
    }
    let ms = unix_ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(ms / 1000).as_bytes());
    let fraction = (ms % 1000) as u16;
    if fraction != 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[b'.', digit(fraction / 100), digit(fraction / 10), digit(fraction)]);
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(24);
    write(&mut out);
    // Only ASCII is ever written.
    out.into_iter().map(char::from).collect()
}

/// Go's `%g` / `%v` / `FormatFloat(v, 'g', -1, 64)`, as [`write_g`].
pub fn format_g(v: f64) -> String {
    text(|out| write_g(out, v))
}

/// Go's `%.{precision}g`, as [`write_g_precision`].
pub fn format_g_precision(v: f64, precision: usize) -> String {
    text(|out| write_g_precision(out, v, precision))
}

/// Go's `FormatFloat(v, 'f', -1, 64)`: shortest digits, never an exponent; `NaN`, `+Inf`, `-Inf`.
pub fn format_f(v: f64) -> String {
    text(|out| write_f(out, v))
}

/// Go's `%.{decimals}f`.
pub fn format_f_precision(v: f64, decimals: usize) -> String {
    text(|out| {
        if let Some(v) = write_special_or_sign(out, v) {
            out.extend_from_slice(format!("{v:.decimals$}").as_bytes());
        }
    })
}

/// Go's `FormatFloat(v, 'e', -1, 64)`, as [`write_e`].
pub fn format_e(v: f64) -> String {
    text(|out| write_e(out, v))
}

/// The number as the HTTP API writes it, as [`write_json_float`].
pub fn format_json_float(v: f64) -> String {
    text(|out| write_json_float(out, v))
}

/// Why a text is no number; the texts are `strconv`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNumberError {
    /// It does not follow the syntax.
    #[error("invalid syntax")]
    Syntax,
    /// It lies outside what 64 bits hold.
    #[error("value out of range")]
    Range,
}

/// Go's `strconv.ParseFloat(text, 64)`: decimal and hexadecimal floats, `_` between digits, `inf`, `infinity`
/// and `nan` in any case.
///
/// # Errors
/// On wrong syntax, and on numbers that round to an infinity.
pub fn parse_float(text: &str) -> Result<f64, ParseNumberError> {
    let (negative, body) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let signed = |v: f64| if negative { -v } else { v };
    let first = *body.as_bytes().first().ok_or(ParseNumberError::Syntax)?;
    if !first.is_ascii_digit() && first != b'.' {
        if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
            return Ok(signed(f64::INFINITY));
        }
        if body.len() == text.len() && body.eq_ignore_ascii_case("nan") {
            return Ok(crate::sample::normal_nan());
        }
        return Err(ParseNumberError::Syntax);
    }
    let cleaned;
    let mut plain = body;
    if body.contains('_') {
        if !underscores_separate_digits(body) {
            return Err(ParseNumberError::Syntax);
        }
        cleaned = body.replace('_', "");
        plain = &cleaned;
    }
    if plain.len() > 2 && plain.as_bytes()[0] == b'0' && plain.as_bytes()[1].eq_ignore_ascii_case(&b'x') {
        return parse_hex_float(&plain.as_bytes()[2..]).map(signed);
    }
    let v: f64 = plain.parse().map_err(|_| ParseNumberError::Syntax)?;
    if v.is_infinite() { Err(ParseNumberError::Range) } else { Ok(signed(v)) }
}

/// Go's rule for `_` in a number without sign: between two digits, or between a base prefix and a digit.
pub fn underscores_separate_digits(body: &str) -> bool {
    let bytes = body.as_bytes();
    let (mut previous, mut rest, mut hex) = (b'^', bytes, false);
    if let [b'0', prefix, tail @ ..] = bytes
        && matches!(prefix.to_ascii_lowercase(), b'b' | b'o' | b'x')
    {
        (previous, rest, hex) = (b'0', tail, prefix.eq_ignore_ascii_case(&b'x'));
    }
    for b in rest {
        let digit = b.is_ascii_digit() || (hex && b.is_ascii_hexdigit());
        if digit {
            previous = b'0';
        } else if *b == b'_' {
            if previous != b'0' {
                return false;
            }
            previous = b'_';
        } else {
            if previous == b'_' {
                return false;
            }
            previous = b'!';
        }
    }
    previous != b'_'
}

/// A hexadecimal float behind its `0x`: digits, optional point, and the exponent that Go insists on.
fn parse_hex_float(body: &[u8]) -> Result<f64, ParseNumberError> {
    let (mut mantissa, mut exponent) = (0u64, 0i64);
    let (mut any, mut seen_dot, mut i) = (false, false, 0);
    while let Some(b) = body.get(i) {
        match (*b as char).to_digit(16) {
            Some(d) => {
                any = true;
                if mantissa >> 60 == 0 {
                    mantissa = mantissa << 4 | u64::from(d);
                    exponent -= if seen_dot { 4 } else { 0 };
                } else {
                    // Further digits only decide whether a tie is one.
                    mantissa |= u64::from(d != 0);
                    exponent += if seen_dot { 0 } else { 4 };
                }
            }
            None if *b == b'.' && !seen_dot => seen_dot = true,
            None => break,
        }
        i += 1;
    }
    let Some(b'p' | b'P') = body.get(i) else { return Err(ParseNumberError::Syntax) };
    let (negative, digits) = match &body[i + 1..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if !any || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ParseNumberError::Syntax);
    }
    let written = digits.iter().fold(0i64, |n, b| (n * 10 + i64::from(b - b'0')).min(100_000_000));
    exponent += if negative { -written } else { written };
    if mantissa == 0 {
        return Ok(0.0);
    }
    let shift = mantissa.leading_zeros();
    let (mantissa, exponent) = (mantissa << shift, exponent - i64::from(shift));
    // The value is mantissa × 2^exponent with the top bit set: its leading bit stands for 2^(exponent + 63).
    let leading = exponent + 63;
    if leading > 1023 {
        return Err(ParseNumberError::Range);
    }
    let dropped = if leading >= -1022 { 11 } else { 11 + (-1022 - leading) };
    if dropped > 64 {
        return Ok(0.0);
    }
    let wide = u128::from(mantissa);
    let (kept, rest, half) = ((wide >> dropped) as u64, wide & ((1 << dropped) - 1), 1u128 << (dropped - 1));
    let kept = kept + u64::from(rest > half || (rest == half && kept & 1 == 1));
    // A carry out of the fraction moves into the exponent field by itself, also from subnormal to normal.
    let field = if leading >= -1022 { (leading + 1022) as u64 } else { 0 };
    let v = f64::from_bits((field << 52) + kept);
    if v.is_infinite() { Err(ParseNumberError::Range) } else { Ok(v) }
}

/// Go's `strconv.ParseInt(text, 0, 64)`: decimal, `0x`, `0b`, `0o` or `0` (octal), `_` between digits.
///
/// # Errors
/// On wrong syntax, and outside 64 bits.
pub fn parse_int_any_base(text: &str) -> Result<i64, ParseNumberError> {
    let (negative, body) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let bytes = body.as_bytes();
    let (radix, digits) = match bytes {
        [b'0', b'x' | b'X', rest @ ..] if !rest.is_empty() => (16, rest),
        [b'0', b'b' | b'B', rest @ ..] if !rest.is_empty() => (2, rest),
        [b'0', b'o' | b'O', rest @ ..] if !rest.is_empty() => (8, rest),
        [b'0', rest @ ..] if !rest.is_empty() => (8, rest),
        _ => (10, bytes),
    };
    if digits.is_empty() {
        return Err(ParseNumberError::Syntax);
    }
    // Overflow is reported before what is wrong behind it.
    let mut n = 0u64;
    for b in digits.iter().filter(|b| **b != b'_') {
        let d = (*b as char).to_digit(radix).ok_or(ParseNumberError::Syntax)?;
        n = n
            .checked_mul(u64::from(radix))
            .and_then(|n| n.checked_add(u64::from(d)))
            .ok_or(ParseNumberError::Range)?;
    }
    if body.contains('_') && !underscores_separate_digits(body) {
        return Err(ParseNumberError::Syntax);
    }
    let n = if negative { -i128::from(n) } else { i128::from(n) };
    i64::try_from(n).map_err(|_| ParseNumberError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_gos() {
        // value, 'g', 'f', 'e', JSON
        let cases = [
            (0.0, "0", "0", "0e+00", "0"),
            (-0.0, "-0", "-0", "-0e+00", "-0"),
            (1.0, "1", "1", "1e+00", "1"),
            (-12.5, "-12.5", "-12.5", "-1.25e+01", "-12.5"),
            (0.1, "0.1", "0.1", "1e-01", "0.1"),
            (1e-4, "0.0001", "0.0001", "1e-04", "0.0001"),
            (1.5e-5, "1.5e-05", "0.000015", "1.5e-05", "0.000015"),
            (1e-6, "1e-06", "0.000001", "1e-06", "0.000001"),
            (1.5e-7, "1.5e-07", "0.00000015", "1.5e-07", "1.5e-07"),
            (
                9007199254740993.0,
                "9.007199254740992e+15",
                "9007199254740992",
                "9.007199254740992e+15",
                "9007199254740992",
            ),
            (
                123456789012345680.0,
                "1.2345678901234568e+17",
                "123456789012345680",
                "1.2345678901234568e+17",
                "123456789012345680",
            ),
            (
                9999999999999998.0,
                "9.999999999999998e+15",
                "9999999999999998",
                "9.999999999999998e+15",
                "9999999999999998",
            ),
            (1e16, "1e+16", "10000000000000000", "1e+16", "10000000000000000"),
            (1e-5, "1e-05", "0.00001", "1e-05", "0.00001"),
            (
                9.999999999999999e-6,
                "9.999999999999999e-06",
                "0.000009999999999999999",
                "9.999999999999999e-06",
                "0.000009999999999999999",
            ),
            (9.99999999999999e-7, "9.99999999999999e-07", "", "9.99999999999999e-07", "9.99999999999999e-07"),
            (1e21, "1e+21", "1000000000000000000000", "1e+21", "1e+21"),
            (
                1.7976931348623157e-300,
                "1.7976931348623157e-300",
                "",
                "1.7976931348623157e-300",
                "1.7976931348623157e-300",
            ),
            (5e-324, "5e-324", "", "5e-324", "5e-324"),
            (f64::NAN, "NaN", "NaN", "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf", "-Inf"),
        ];
        for (v, g, f, e, json) in cases {
            assert_eq!(format_g(v), g, "g of {v:e}");
            if !f.is_empty() {
                assert_eq!(format_f(v), f, "f of {v:e}");
            }
            assert_eq!(format_e(v), e, "e of {v:e}");
            assert_eq!(format_json_float(v), json, "JSON of {v:e}");
        }
    }

    #[test]
    fn a_given_precision_rounds_and_drops_trailing_zeros() {
        let cases = [
            (0.5, 2, "0.5"),
            (-0.00012345, 2, "-0.00012"),
            (1.999, 2, "2"),
            (123456.0, 2, "1.2e+05"),
            (100000.0, 2, "1e+05"),
            (100000.0, 5, "1e+05"),
            (99.6, 2, "1e+02"),
            (12.0, 2, "12"),
            (0.0, 2, "0"),
            (f64::INFINITY, 2, "+Inf"),
        ];
        for (v, precision, want) in cases {
            assert_eq!(format_g_precision(v, precision), want, "%.{precision}g of {v}");
        }
    }

    #[test]
    fn timestamps_are_seconds_with_milliseconds_where_needed() {
        let cases = [
            (0, "0"),
            (1000, "1"),
            (1_700_000_000_001, "1700000000.001"),
            (-5, "-0.005"),
            (1_230, "1.230"),
            (i64::MIN, "-9223372036854775.808"),
        ];
        for (ms, want) in cases {
            let mut out = Vec::new();
            write_json_timestamp(&mut out, ms);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn floats_read_as_strconv_reads_them() {
        use ParseNumberError::{Range, Syntax};
        let cases = [
            ("1_000", Ok(1000.0)),
            ("1__0", Err(Syntax)),
            ("_1", Err(Syntax)),
            ("1_", Err(Syntax)),
            ("0x1p-2", Ok(0.25)),
            ("0x_1p4", Ok(16.0)),
            ("0X1.8P1", Ok(3.0)),
            ("0x1.fffffffffffff8p0", Ok(2.0)),
            ("0x1.fffffffffffff7p0", Ok(2.0f64.next_down())),
            ("0x0.8p-1074", Ok(0.0)),
            ("0x1p-1074", Ok(5e-324)),
            ("0x1.8p-1074", Ok(1e-323)),
            ("0x1p-1076", Ok(0.0)),
            ("0x1p1024", Err(Range)),
            ("0x1", Err(Syntax)),
            ("0x", Err(Syntax)),
            ("0xp1", Err(Syntax)),
            ("infinity", Ok(f64::INFINITY)),
            ("-Inf", Ok(f64::NEG_INFINITY)),
            ("-nan", Err(Syntax)),
            ("1e400", Err(Range)),
            ("1e-400", Ok(0.0)),
            ("1e", Err(Syntax)),
            ("0b1", Err(Syntax)),
            (".5", Ok(0.5)),
            ("5.", Ok(5.0)),
            (".", Err(Syntax)),
            ("", Err(Syntax)),
            ("-", Err(Syntax)),
            ("-0", Ok(-0.0)),
        ];
        for (text, want) in cases {
            assert_eq!(parse_float(text).map(f64::to_bits), want.map(f64::to_bits), "{text:?}");
        }
        assert_eq!(parse_float("nAn").map(f64::to_bits), Ok(crate::sample::NORMAL_NAN_BITS));
    }

    #[test]
    fn integers_take_their_base_from_the_prefix() {
        use ParseNumberError::{Range, Syntax};
        let cases = [
            ("42", Ok(42)),
            ("-0x1F", Ok(-31)),
            ("0755", Ok(493)),
            ("0o17", Ok(15)),
            ("0b101", Ok(5)),
            ("1_000", Ok(1000)),
            ("0_7", Ok(7)),
            ("08", Err(Syntax)),
            ("", Err(Syntax)),
            ("0x", Err(Syntax)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Range)),
            ("99999999999999999999999999999999999999999999", Err(Range)),
        ];
        for (text, want) in cases {
            assert_eq!(parse_int_any_base(text), want, "{text:?}");
        }
    }
}
