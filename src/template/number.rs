//! Numbers as Go's `strconv.AppendFloat` writes them, in every form and precision that `printf` can ask for.

use tsdbctl_model::float_text::format_e;

/// No finite number has more decimals than this, nor more digits: what lies beyond are zeros.
const MAX_EXACT_DIGITS: usize = 1100;

/// Decimal digits of a finite number, which is `0.d₁d₂… × 10^point`. Zero has none.
struct Digits {
    digits: Vec<u8>,
    point: i32,
}

impl Digits {
    /// Reads `1.25e-3`.
    fn of_scientific(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let point = if digits.is_empty() { 0 } else { exponent + 1 };
        Self { digits, point }
    }

    /// The fewest digits that read back as the same number. The standard library's `{:e}` rounds a tie up where
    /// Go takes the even digit.
    fn shortest(v: f64) -> Self {
        Self::of_scientific(&format_e(v))
    }

    /// As many digits, at most, trailing zeros removed.
    fn significant(v: f64, count: usize) -> Self {
        let count = count.clamp(1, MAX_EXACT_DIGITS);
        Self::of_scientific(&format!("{v:.*e}", count - 1))
    }
}

/// Appends `strconv.AppendFloat(out, v, form, precision, 64)`: `form` is one of `e E f g G b x X`; no precision
/// takes the shortest digits that read back as `v`.
pub fn write_float(out: &mut String, v: f64, form: char, precision: Option<usize>) {
    if v.is_nan() {
        out.push_str("NaN");
        return;
    }
    if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    if v.is_sign_negative() {
        out.push('-');
    }
    let v = v.abs();
    match form {
        'b' => write_binary(out, v),
        'x' | 'X' => write_hexadecimal(out, v, form == 'X', precision),
        'f' | 'F' => write_fixed(out, v, precision),
        'e' | 'E' => write_exponential(out, v, form, precision),
        _ => write_general(out, v, if form == 'G' { 'E' } else { 'e' }, precision),
    }
}

/// The exponent of the last bit and the mantissa: `v = mantissa × 2^exponent`.
fn parts(v: f64) -> (u64, i32) {
    let bits = v.to_bits();
    let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) }
}

fn write_binary(out: &mut String, v: f64) {
    let (mantissa, exponent) = parts(v);
    out.push_str(&format!("{mantissa}p{exponent:+}"));
}

fn write_hexadecimal(out: &mut String, v: f64, upper: bool, precision: Option<usize>) {
    let (mut mantissa, mut exponent) = parts(v);
    exponent += 52;
    if mantissa == 0 {
        exponent = 0;
    }
    // The leading bit goes to bit 60.
    mantissa <<= 8;
    while mantissa != 0 && mantissa & (1 << 60) == 0 {
        mantissa <<= 1;
        exponent -= 1;
    }
    if let Some(precision) = precision
        && precision < 15
    {
        let shift = precision as u32 * 4;
        let extra = mantissa << shift & ((1 << 60) - 1);
        mantissa >>= 60 - shift;
        if extra | (mantissa & 1) > 1 << 59 {
            mantissa += 1;
        }
        mantissa <<= 60 - shift;
        if mantissa & (1 << 61) != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    out.push('0');
    out.push(if upper { 'X' } else { 'x' });
    out.push(if mantissa >> 60 & 1 == 1 { '1' } else { '0' });
    mantissa <<= 4;
    let count = precision.unwrap_or_else(|| (64 - mantissa.trailing_zeros() as usize).div_ceil(4) % 17);
    let count = if precision.is_none() && mantissa == 0 { 0 } else { count };
    if count > 0 {
        out.push('.');
    }
    for _ in 0..count {
        out.push(char::from(digits[(mantissa >> 60) as usize & 15]));
        mantissa <<= 4;
    }
    out.push(if upper { 'P' } else { 'p' });
    write_exponent(out, exponent);
}

/// A sign and two digits or more.
fn write_exponent(out: &mut String, exponent: i32) {
    out.push(if exponent < 0 { '-' } else { '+' });
    out.push_str(&format!("{:02}", exponent.unsigned_abs()));
}

fn push_zeros(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n('0', count));
}

fn write_fixed(out: &mut String, v: f64, precision: Option<usize>) {
    match precision {
        Some(precision) => {
            let exact = precision.min(MAX_EXACT_DIGITS);
            out.push_str(&format!("{v:.exact$}"));
            push_zeros(out, precision - exact);
        }
        None => {
            let digits = Digits::shortest(v);
            write_fixed_digits(out, &digits);
        }
    }
}

fn write_fixed_digits(out: &mut String, digits: &Digits) {
    let d = &digits.digits;
    let whole = digits.point.max(0) as usize;
    let text = |bytes: &[u8]| bytes.iter().map(|b| char::from(*b)).collect::<String>();
    if whole == 0 {
        out.push('0');
    } else {
        out.push_str(&text(&d[..whole.min(d.len())]));
        push_zeros(out, whole.saturating_sub(d.len()));
    }
    if d.len() > whole || (digits.point <= 0 && !d.is_empty()) {
        out.push('.');
        push_zeros(out, digits.point.min(0).unsigned_abs() as usize);
        out.push_str(&text(&d[whole..]));
    }
}

fn write_exponential(out: &mut String, v: f64, letter: char, precision: Option<usize>) {
    match precision {
        Some(precision) => {
            let exact = precision.min(MAX_EXACT_DIGITS);
            let text = format!("{v:.exact$e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            out.push_str(mantissa);
            push_zeros(out, precision - exact);
            out.push(letter);
            write_exponent(out, exponent.parse().unwrap_or(0));
        }
        None => write_exponential_digits(out, &Digits::shortest(v), letter),
    }
}

fn write_exponential_digits(out: &mut String, digits: &Digits, letter: char) {
    let d = &digits.digits;
    out.push(char::from(*d.first().unwrap_or(&b'0')));
    if d.len() > 1 {
        out.push('.');
        out.extend(d[1..].iter().map(|b| char::from(*b)));
    }
    out.push(letter);
    write_exponent(out, if d.is_empty() { 0 } else { digits.point - 1 });
}

fn write_general(out: &mut String, v: f64, letter: char, precision: Option<usize>) {
    let digits = match precision {
        Some(precision) => Digits::significant(v, precision),
        None => Digits::shortest(v),
    };
    let count = digits.digits.len() as i32;
    // Go turns to the exponent from the precision on, or from the number of digits where those suffice; the
    // shortest form from 6 on.
    let exponent_from = match precision {
        None => SHORTEST_EXPONENT_FROM,
        Some(precision) => {
            let precision = i32::try_from(precision.max(1)).unwrap_or(i32::MAX);
            if precision > count && count >= digits.point { count } else { precision }
        }
    };
    let exponent = digits.point - 1;
    if exponent < -4 || exponent >= exponent_from {
        write_exponential_digits(out, &digits, letter);
    } else {
        write_fixed_digits(out, &digits);
    }
}

/// Decimal exponent from which `%g` with shortest digits turns to exponent form.
const SHORTEST_EXPONENT_FROM: i32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_strconv_does() {
        for (v, form, precision, want) in [
            (0.0, 'g', None, "0"),
            (-0.0, 'e', None, "-0e+00"),
            (1e6, 'g', None, "1e+06"),
            (100_000.0, 'g', None, "100000"),
            (1e-5, 'g', None, "1e-05"),
            (0.0001, 'g', None, "0.0001"),
            (9999.5, 'g', Some(4), "1e+04"),
            (2_147_599_916_821_847.2, 'e', None, "2.1475999168218472e+15"),
            (1.0, 'g', Some(40), "1"),
            (0.1, 'g', Some(20), "0.10000000000000000555"),
            (2.5, 'f', Some(0), "2"),
            (5e-324, 'e', Some(3), "4.941e-324"),
            (1e22, 'f', None, "10000000000000000000000"),
            (0.05, 'f', None, "0.05"),
            (1.5, 'x', None, "0x1.8p+00"),
            (1.0, 'x', Some(3), "0x1.000p+00"),
            (1.999, 'X', Some(0), "0X1P+01"),
            (0.0, 'x', None, "0x0p+00"),
            (5e-324, 'x', None, "0x1p-1074"),
            (1.0, 'b', None, "4503599627370496p-52"),
            (1e100, 'G', None, "1E+100"),
            (f64::NAN, 'f', Some(2), "NaN"),
            (f64::NEG_INFINITY, 'x', None, "-Inf"),
        ] {
            let mut out = String::new();
            write_float(&mut out, v, form, precision);
            assert_eq!(out, want, "{v} {form} {precision:?}");
        }
        let mut out = String::new();
        write_float(&mut out, 1.0, 'f', Some(100_000));
        assert_eq!(out.len(), 100_002);
    }
}
