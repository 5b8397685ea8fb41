//! What a plain scalar means: the types go-yaml sees in it, by version.

use std::borrow::Cow;

use crate::{Dialect, Scalar, ScalarStyle};

/// What a scalar turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    Timestamp,
    /// A text, or what its tag makes opaque.
    Text,
    /// The bytes of `!!binary`; `None` if they are no base64.
    Binary(Option<Vec<u8>>),
}

const PREFIX: &str = "tag:yaml.org,2002:";

/// The short form of a tag, `!!int` for `tag:yaml.org,2002:int`.
pub(crate) fn short_tag(tag: &str) -> String {
    tag.strip_prefix(PREFIX).map_or_else(|| tag.to_owned(), |name| format!("!!{name}"))
}

/// The tag (short) and meaning of a scalar. `Err` holds go-yaml's words where tag and text do not go together.
pub(crate) fn resolve(dialect: Dialect, scalar: &Scalar) -> Result<(Cow<'static, str>, Resolved), String> {
    let quoted = scalar.style != ScalarStyle::Plain;
    let tag = match scalar.tag.as_deref() {
        None | Some("!") if quoted => return Ok((Cow::Borrowed("!!str"), Resolved::Text)),
        None => Cow::Borrowed(""),
        // In v3 the tag `!` alone says nothing.
        Some("!") if dialect == Dialect::V3 => Cow::Borrowed(""),
        Some(tag) => Cow::Owned(short_tag(tag)),
    };
    if scalar.is_merge() && tag.is_empty() {
        return Ok((Cow::Borrowed("!!merge"), Resolved::Text));
    }
    match &*tag {
        "!!str" => return Ok((tag, Resolved::Text)),
        "!!binary" => return Ok((tag, Resolved::Binary(base64(&scalar.text)))),
        "" | "!!bool" | "!!int" | "!!float" | "!!null" | "!!timestamp" => {}
        _ => return Ok((tag, Resolved::Text)),
    }
    let (found, value) = plain(dialect, &tag, &scalar.text);
    match (&*tag, &value) {
        ("", _) => {}
        (wanted, _) if wanted == found => {}
        ("!!float", Resolved::Int(int)) => {
            return Ok((Cow::Borrowed("!!float"), Resolved::Float(*int as f64)));
        }
        _ => return Err(format!("cannot decode {found} `{}` as a {tag}", scalar.text)),
    }
    Ok((Cow::Borrowed(found), value))
}

/// The meaning of a text that stands without quotes.
pub(crate) fn plain(dialect: Dialect, tag: &str, text: &str) -> (&'static str, Resolved) {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return ("!!null", Resolved::Null),
        "true" | "True" | "TRUE" => return ("!!bool", Resolved::Bool(true)),
        "false" | "False" | "FALSE" => return ("!!bool", Resolved::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return ("!!float", Resolved::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return ("!!float", Resolved::Float(f64::INFINITY));
        }
        "-.inf" | "-.Inf" | "-.INF" => return ("!!float", Resolved::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    if dialect == Dialect::V2
        && let Some(truth) = old_bool(text)
    {
        return ("!!bool", Resolved::Bool(truth));
    }
    match text.as_bytes()[0] {
        b'.' => match float(text) {
            Some(value) => ("!!float", Resolved::Float(value)),
            None => ("!!str", Resolved::Text),
        },
        b'+' | b'-' | b'0'..=b'9' => number(tag, text).unwrap_or(("!!str", Resolved::Text)),
        _ => ("!!str", Resolved::Text),
    }
}

/// The truth values of YAML 1.1 that 1.2 gave up.
pub(crate) fn old_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn number(tag: &str, text: &str) -> Option<(&'static str, Resolved)> {
    if (tag.is_empty() || tag == "!!timestamp") && is_timestamp(text) {
        return Some(("!!timestamp", Resolved::Timestamp));
    }
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.as_bytes().first() {
        Some(b'-') => ("-", &plain[1..]),
        Some(b'+') => ("+", &plain[1..]),
        _ => ("", plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        if let Ok(value) = i64::from_str_radix(&format!("{sign}{body}"), radix) {
            return Some(("!!int", Resolved::Int(value)));
        }
        if sign.is_empty()
            && let Ok(value) = u64::from_str_radix(body, radix)
        {
            return Some(("!!int", Resolved::Unsigned(value)));
        }
    }
    float(&plain).map(|value| ("!!float", Resolved::Float(value)))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` within the range of a float.
fn float(text: &str) -> Option<f64> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let sound = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_sound = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !sound || !exponent_sound {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `2006-1-2`, alone or with a time: `T15:4:5Z`, `t15:4:5+02:00`, ` 15:4:5`, all with fractions of seconds.
fn is_timestamp(text: &str) -> bool {
    let Some((year, rest)) = text.split_at_checked(4) else { return false };
    if !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let year: u32 = year.parse().unwrap_or(0);
    let Some((month, rest)) = rest.strip_prefix('-').and_then(short_number) else { return false };
    let Some((day, rest)) = rest.strip_prefix('-').and_then(short_number) else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return false,
    };
    if day == 0 || day > days {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let zoned = rest.starts_with(['T', 't']);
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else { return false };
    let Some((hour, rest)) = short_number(rest) else { return false };
    let Some((minute, rest)) = rest.strip_prefix(':').and_then(short_number) else { return false };
    let Some((second, mut rest)) = rest.strip_prefix(':').and_then(short_number) else { return false };
    if hour > 23 || minute > 59 || second > 59 {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == fraction.len() {
            return false;
        }
    }
    match (zoned, rest) {
        (false, rest) => rest.is_empty(),
        (true, "Z") => true,
        (true, rest) => match rest.as_bytes() {
            [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
            _ => false,
        },
    }
}

/// One or two digits at the start.
fn short_number(text: &str) -> Option<(u32, &str)> {
    let digits = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    Some((text.get(..digits)?.parse().ok()?, &text[digits..]))
}

/// Go's `base64.StdEncoding`: padded, line breaks passed over.
fn base64(text: &str) -> Option<Vec<u8>> {
    let symbols: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    if !symbols.len().is_multiple_of(4) {
        return None;
    }
    let padding = symbols.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(symbols.len() / 4 * 3);
    for group in symbols[..symbols.len() - padding].chunks(4) {
        let mut bits = 0_u32;
        for symbol in group {
            let value = match symbol {
                b'A'..=b'Z' => symbol - b'A',
                b'a'..=b'z' => symbol - b'a' + 26,
                b'0'..=b'9' => symbol - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let count = group.len() * 6 / 8;
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=count]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_go_yaml_sees() {
        let cases = [
            ("0x10", "!!int", "Int(16)"),
            ("-0X1f", "!!int", "Int(-31)"),
            ("0o17", "!!int", "Int(15)"),
            ("017", "!!int", "Int(15)"),
            ("08", "!!float", "Float(8.0)"),
            ("0b101", "!!int", "Int(5)"),
            ("1_000", "!!int", "Int(1000)"),
            ("+5", "!!int", "Int(5)"),
            ("-0", "!!int", "Int(0)"),
            ("18446744073709551615", "!!int", "Unsigned(18446744073709551615)"),
            ("18446744073709551616", "!!float", "Float(1.8446744073709552e19)"),
            ("1.", "!!float", "Float(1.0)"),
            (".5e1", "!!float", "Float(5.0)"),
            ("1e3", "!!float", "Float(1000.0)"),
            ("1e400", "!!str", "Text"),
            (".", "!!str", "Text"),
            ("-", "!!str", "Text"),
            ("1s", "!!str", "Text"),
            ("1:30", "!!str", "Text"),
            ("Inf", "!!str", "Text"),
            ("NaN", "!!str", "Text"),
            (".NaN", "!!float", "Float(NaN)"),
            ("-.inf", "!!float", "Float(-inf)"),
            ("~", "!!null", "Null"),
            ("nUll", "!!str", "Text"),
            ("TRUE", "!!bool", "Bool(true)"),
            ("yes", "!!str", "Text"),
            ("2026-01-01", "!!timestamp", "Timestamp"),
            ("2026-1-1T1:2:3.5Z", "!!timestamp", "Timestamp"),
            ("2026-01-01 10:00:00", "!!timestamp", "Timestamp"),
            ("2026-02-30", "!!str", "Text"),
            ("2026-01-01x", "!!str", "Text"),
        ];
        for (text, tag, value) in cases {
            let (found, resolved) = plain(Dialect::V3, "", text);
            assert_eq!((found, format!("{resolved:?}").as_str()), (tag, value), "{text}");
        }
        assert_eq!(plain(Dialect::V2, "", "yes").0, "!!bool");
        assert_eq!(plain(Dialect::V2, "", "N"), ("!!bool", Resolved::Bool(false)));
    }

    #[test]
    fn base64_is_strict_as_gos() {
        assert_eq!(base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(base64("aGVs\nbG8h"), Some(b"hello!".to_vec()));
        assert_eq!(base64(""), Some(Vec::new()));
        for bad in ["abc", "ab=c", "====", "a$==", "аГ"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
