//! Numbers, characters and texts as templates write them, read as Go's strconv does.

use tsdbctl_model::float_text::{parse_float, underscores_separate_digits};
use tsdbctl_model::quote::go_quote;

/// Go's error for a text that cannot be unquoted.
pub const INVALID_SYNTAX: &str = "invalid syntax";

/// A number: what it is as each of Go's kinds, as far as it fits one exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number {
    /// As a signed whole number.
    pub int: Option<i64>,
    /// As an unsigned whole number.
    pub uint: Option<u64>,
    /// As a float.
    pub float: Option<f64>,
    /// As a complex number, only if written as one.
    pub complex: Option<(f64, f64)>,
}

/// Reads a character constant such as `'c'`.
///
/// # Errors
/// Go's text.
pub fn character(text: &str) -> Result<Number, String> {
    let mut bytes = Vec::new();
    let rest = &text[1..];
    let (c, tail) = unquote_char(rest, '\'', &mut bytes).ok_or(INVALID_SYNTAX)?;
    if tail != "'" {
        return Err(format!("malformed character constant: {text}"));
    }
    Ok(Number { int: Some(i64::from(c)), uint: Some(u64::from(c)), float: Some(f64::from(c)), complex: None })
}

/// Reads a number such as `1_000`, `0x1p-2`, `1e3` or `2i`.
///
/// # Errors
/// Go's text.
pub fn number(text: &str) -> Result<Number, String> {
    if let Some(imaginary) = text.strip_suffix('i')
        && let Some(value) = parse_float(imaginary).ok().filter(|v| v.is_finite())
    {
        return Ok(from_complex(0.0, value));
    }
    let mut number = Number { int: parse_int(text), uint: parse_uint(text), float: None, complex: None };
    if number.int == Some(0) {
        number.uint = Some(0);
    }
    if let Some(n) = number.int {
        number.float = Some(n as f64);
    } else if let Some(n) = number.uint {
        number.float = Some(n as f64);
    } else if let Ok(value) = parse_float(text) {
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", go_quote(text)));
        }
        number.float = Some(value);
        number.int = exact_int(value);
        number.uint = exact_uint(value);
    }
    if number.float.is_none() {
        return Err(format!("illegal number syntax: {}", go_quote(text)));
    }
    Ok(number)
}

/// Reads a complex number such as `1+2i`.
///
/// # Errors
/// Go's text.
pub fn complex(text: &str) -> Result<Number, String> {
    // The sign that divides the parts: not the first character, not an exponent's.
    let bytes = text.as_bytes();
    let at = (1..bytes.len())
        .find(|i| {
            matches!(bytes[*i], b'+' | b'-')
                && (!matches!(bytes[i - 1], b'e' | b'E' | b'p' | b'P') || is_hexadecimal_digits(&text[..*i]))
        })
        .ok_or("syntax error scanning complex number")?;
    let imaginary = text[at..].strip_suffix('i').ok_or("syntax error scanning complex number")?;
    let part = |part: &str| {
        parse_float(part).map_err(|e| format!("strconv.ParseFloat: parsing {}: {e}", go_quote(part)))
    };
    Ok(from_complex(part(&text[..at])?, part(imaginary)?))
}

/// Whether `0x1e` ends in a digit rather than an exponent's letter.
fn is_hexadecimal_digits(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).is_some_and(|d| !d.ends_with(['p', 'P']))
}

fn from_complex(re: f64, im: f64) -> Number {
    let mut number = Number { complex: Some((re, im)), ..Number::default() };
    if im == 0.0 {
        number.float = Some(re);
        number.int = exact_int(re);
        number.uint = exact_uint(re);
    }
    number
}

/// The whole number a float equals. 2⁶³ does not count, as on amd64.
fn exact_int(value: f64) -> Option<i64> {
    let bound = 9_223_372_036_854_775_808.0;
    (value >= -bound && value < bound && value.trunc() == value).then_some(value as i64)
}

fn exact_uint(value: f64) -> Option<u64> {
    ((0.0..18_446_744_073_709_551_616.0).contains(&value) && value.trunc() == value).then_some(value as u64)
}

fn parse_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let n = i128::from(parse_uint(digits)?);
    i64::try_from(if negative { -n } else { n }).ok()
}

/// Go's `ParseUint` of base 0: no sign, prefixes, underscores between digits.
fn parse_uint(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let (digits, radix) = match bytes {
        [b'0', b'x' | b'X', _, ..] => (&bytes[2..], 16),
        [b'0', b'b' | b'B', _, ..] => (&bytes[2..], 2),
        [b'0', b'o' | b'O', _, ..] => (&bytes[2..], 8),
        [b'0', ..] => (&bytes[1..], 8),
        _ => (bytes, 10),
    };
    if text == "0" {
        return Some(0);
    }
    if digits.is_empty() || (text.contains('_') && !underscores_separate_digits(text)) {
        return None;
    }
    let mut n = 0_u64;
    for b in digits.iter().filter(|b| **b != b'_') {
        let digit = char::from(*b).to_digit(radix)?;
        n = n.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))?;
    }
    Some(n)
}

/// The text that a quoted or raw string stands for. Bytes written as escapes that are no UTF-8 become U+FFFD.
///
/// # Errors
/// Go's text.
pub fn unquote(token: &str) -> Result<String, &'static str> {
    let inner = token.get(1..token.len() - 1).ok_or(INVALID_SYNTAX)?;
    if token.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    if !inner.contains('\\') {
        return Ok(inner.to_string());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        rest = unquote_char(rest, '"', &mut bytes).ok_or(INVALID_SYNTAX)?.1;
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    })
}

/// The first character of `text`, escaped or not; its bytes are appended.
fn unquote_char<'a>(text: &'a str, quote: char, bytes: &mut Vec<u8>) -> Option<(u32, &'a str)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if first == quote {
        return None;
    }
    if first != '\\' {
        bytes.extend(first.encode_utf8(&mut [0; 4]).bytes());
        return Some((first as u32, chars.as_str()));
    }
    let kind = chars.next()?;
    let rest = chars.as_str();
    let plain = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        c if c == quote => c as u8,
        'x' | 'u' | 'U' => {
            let count = match kind {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = rest.get(..count)?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let value = u32::from_str_radix(digits, 16).ok()?;
            let tail = &rest[count..];
            if kind == 'x' {
                bytes.push(value as u8);
            } else {
                bytes.extend(char::from_u32(value)?.encode_utf8(&mut [0; 4]).bytes());
            }
            return Some((value, tail));
        }
        '0'..='7' => {
            let digits = text.get(1..4)?;
            if !digits.bytes().all(|b| matches!(b, b'0'..=b'7')) {
                return None;
            }
            let value = u8::try_from(u32::from_str_radix(digits, 8).ok()?).ok()?;
            bytes.push(value);
            return Some((u32::from(value), &text[4..]));
        }
        _ => return None,
    };
    bytes.push(plain);
    Some((u32::from(plain), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_go_makes_of_them() {
        let float = |text: &str| number(text).unwrap().float.unwrap();
        for (text, value) in [
            ("0x1p-2", 0.25),
            ("0x1.8p1", 3.0),
            ("0x_1F", 31.0),
            ("1_000", 1000.0),
            ("017", 15.0),
            ("0o17", 15.0),
            ("0b101", 5.0),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1074", 1e-323),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080001p0", 1.000_000_000_000_000_2),
        ] {
            assert_eq!(float(text), value, "{text}");
        }
        assert_eq!(number("1e3").unwrap().int, Some(1000));
        assert_eq!(number("-0").unwrap().uint, Some(0));
        assert_eq!(number("18446744073709551615").unwrap().int, None);
        assert_eq!(number("089").unwrap_err(), r#"integer overflow: "089""#);
        assert_eq!(
            number("18446744073709551616").unwrap_err(),
            r#"integer overflow: "18446744073709551616""#
        );
        assert_eq!(number("1__0").unwrap_err(), r#"illegal number syntax: "1__0""#);
        assert_eq!(number("2i").unwrap().complex, Some((0.0, 2.0)));
        assert_eq!(complex("1e+3-2i").unwrap().complex, Some((1000.0, -2.0)));
        assert_eq!(character("'a'").unwrap().int, Some(97));
        assert_eq!(character(r"'\n'").unwrap().int, Some(10));
        assert_eq!(character("'ab'").unwrap_err(), "malformed character constant: 'ab'");
        assert_eq!(character("''").unwrap_err(), "invalid syntax");
    }

    #[test]
    fn texts_are_unquoted() {
        for (token, text) in [
            (r#""a\tb\"""#, "a\tb\""),
            ("`a\r\nb\\n`", "a\nb\\n"),
            (r#""\u00e9\xc3\xa9\303\251""#, "ééé"),
            (r#""\xff""#, "\u{fffd}"),
        ] {
            assert_eq!(unquote(token).unwrap(), text, "{token}");
        }
        for token in [r#""\'""#, r#""\q""#, r#""\u00""#, r#""\ud800""#, r#""\400""#, r#""\x+1""#] {
            assert_eq!(unquote(token), Err(INVALID_SYNTAX), "{token}");
        }
    }
}
