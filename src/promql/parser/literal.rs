//! Numbers, strings and durations as the language writes them.

use tsdbctl_model::float_text::go_quote;

/// The value of a number token, by Go's rules (`ParseInt` with base 0, then `ParseFloat`).
///
/// # Errors
/// Go's text.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let bytes = text.as_bytes();
    // The common case, a few decimal digits.
    if bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) && (bytes.len() == 1 || bytes[0] != b'0') {
        return Ok(bytes.iter().fold(0_i64, |n, b| n * 10 + i64::from(b - b'0')) as f64);
    }
    if let Some(n) = integer(text) {
        return Ok(n as f64);
    }
    float(text)
}

/// As [`number`], with an optional sign in front.
///
/// # Errors
/// Go's text.
pub(crate) fn signed_number(text: &str) -> Result<f64, String> {
    match text.strip_prefix('-') {
        Some(rest) if !rest.starts_with(['+', '-']) => number(rest).map(|v| -v),
        Some(_) => float(text),
        None => number(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Whether underscores stand only between digits or behind a base prefix.
fn underscores_fit(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut last, mut hexadecimal, mut i) = (b'^', false, 0);
    if bytes.len() >= 2 && bytes[0] == b'0' && matches!(bytes[1].to_ascii_lowercase(), b'b' | b'o' | b'x') {
        i = 2;
        last = b'0';
        hexadecimal = bytes[1].eq_ignore_ascii_case(&b'x');
    }
    for b in &bytes[i..] {
        if b.is_ascii_digit() || (hexadecimal && b.is_ascii_hexdigit()) {
            last = b'0';
        } else if *b == b'_' {
            if last != b'0' {
                return false;
            }
            last = b'_';
        } else {
            if last == b'_' {
                return false;
            }
            last = b'!';
        }
    }
    last != b'_'
}

fn integer(text: &str) -> Option<i64> {
    if text.contains('_') && !underscores_fit(text) {
        return None;
    }
    let bytes = text.as_bytes();
    let (digits, radix) = match bytes {
        [b'0', b'x' | b'X', _, ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', _, ..] => (&text[2..], 2),
        [b'0', b'o' | b'O', _, ..] => (&text[2..], 8),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let mut n = 0_i64;
    let mut any = false;
    for c in digits.chars() {
        if c == '_' {
            continue;
        }
        n = n.checked_mul(i64::from(radix))?.checked_add(i64::from(c.to_digit(radix)?))?;
        any = true;
    }
    any.then_some(n)
}

fn float(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let wrong = |why: &str| format!("strconv.ParseFloat: parsing {}: {why}", go_quote(text));
    if !lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'e' | b'+' | b'-'))
        || (lower.contains('_') && !underscores_fit(text))
    {
        return Err(wrong("invalid syntax"));
    }
    let plain: String = lower.chars().filter(|c| *c != '_').collect();
    match plain.parse::<f64>() {
        Ok(v) if v.is_infinite() => Err(wrong("value out of range")),
        Ok(v) => Ok(v),
        Err(_) => Err(wrong("invalid syntax")),
    }
}

/// The text of a string token. Bytes written as escapes that are no UTF-8 become U+FFFD.
///
/// # Errors
/// Go's text.
pub(crate) fn unquote(token: &str) -> Result<String, &'static str> {
    Ok(match String::from_utf8(unquote_bytes(token)?) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    })
}

/// Go's `strconv.Quote` of bytes that need not be UTF-8.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = go_quote(chunk.valid());
        out.push_str(&quoted[1..quoted.len() - 1]);
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out.push('"');
    out
}

/// The bytes a string token stands for.
///
/// # Errors
/// Go's text.
pub(crate) fn unquote_bytes(token: &str) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "invalid syntax";
    let bytes = token.as_bytes();
    if bytes.len() < 2 || bytes[0] != bytes[bytes.len() - 1] {
        return Err(WRONG);
    }
    let inner = &token[1..token.len() - 1];
    match bytes[0] {
        b'`' => return if inner.contains('`') { Err(WRONG) } else { Ok(inner.as_bytes().to_vec()) },
        b'"' | b'\'' => {}
        _ => return Err(WRONG),
    }
    if inner.contains('\n') {
        return Err(WRONG);
    }
    if !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let [b, tail @ ..] = rest {
        if *b != b'\\' {
            out.push(*b);
            rest = tail;
            continue;
        }
        let [kind, tail @ ..] = tail else { return Err(WRONG) };
        rest = tail;
        let (digits, radix, is_char) = match kind {
            b'a' => (0, 7, false),
            b'b' => (0, 8, false),
            b'f' => (0, 12, false),
            b'n' => (0, 10, false),
            b'r' => (0, 13, false),
            b't' => (0, 9, false),
            b'v' => (0, 11, false),
            b'\\' => (0, u32::from(b'\\'), false),
            c if *c == bytes[0] => (0, u32::from(*c), false),
            b'x' => (2, 16, false),
            b'u' => (4, 16, true),
            b'U' => (8, 16, true),
            b'0'..=b'7' => {
                let mut v = u32::from(kind - b'0');
                let [second, third, tail @ ..] = rest else { return Err(WRONG) };
                for d in [second, third] {
                    if !(b'0'..=b'7').contains(d) {
                        return Err(WRONG);
                    }
                    v = v * 8 + u32::from(d - b'0');
                }
                out.push(u8::try_from(v).map_err(|_| WRONG)?);
                rest = tail;
                continue;
            }
            _ => return Err(WRONG),
        };
        if digits == 0 {
            // The "radix" of the plain escapes is their byte.
            out.push(radix as u8);
            continue;
        }
        if rest.len() < digits {
            return Err(WRONG);
        }
        let mut v = 0_u32;
        for d in &rest[..digits] {
            v = v.wrapping_mul(16).wrapping_add((*d as char).to_digit(16).ok_or(WRONG)?);
        }
        rest = &rest[digits..];
        if is_char {
            let c = char::from_u32(v).ok_or(WRONG)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(v as u8);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_go() {
        for (text, value) in [
            ("0", 0.0),
            ("010", 8.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("1_000", 1000.0),
            ("1_000.5", 1000.5),
            ("0X_1FFF", 8191.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e5", 1e5),
            ("12345678901234567890", 12_345_678_901_234_567_890.0),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert!(number("nan").is_ok_and(f64::is_nan));
        assert_eq!(number("1e400").unwrap_err(), "strconv.ParseFloat: parsing \"1e400\": value out of range");
        assert_eq!(number("0x").unwrap_err(), "strconv.ParseFloat: parsing \"0x\": invalid syntax");
    }

    #[test]
    fn strings_are_unquoted() {
        for (token, text) in [
            (r#""a""#, "a"),
            (r#"'a"b'"#, "a\"b"),
            (r"`a\n`", "a\\n"),
            (r#""\n\t\\\"""#, "\n\t\\\""),
            (r#""\x41\101\u00e9\U0001F600""#, "AA\u{e9}\u{1F600}"),
            (r#""\xc3\xa9""#, "\u{e9}"),
            (r#""\xff""#, "\u{fffd}"),
        ] {
            assert_eq!(unquote(token).as_deref(), Ok(text), "{token}");
        }
        for token in [r#""\'""#, "\"a\nb\"", "`", "\"a'"] {
            assert_eq!(unquote(token), Err("invalid syntax"), "{token}");
        }
    }
}
