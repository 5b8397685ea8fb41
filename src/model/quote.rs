//! Strings as Go quotes them, and as PromQL unquotes them.

use crate::printable::is_print;

/// Go's `strconv.Quote` (`%q`).
pub fn go_quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    write_go_quote(&mut out, s);
    out
}

/// Appends Go's `strconv.Quote` of `s`.
pub fn write_go_quote(out: &mut String, s: &str) {
    out.push('"');
    // Runs of plain ASCII are copied whole; almost every label value is one such run.
    let mut plain_from = 0;
    for (i, c) in s.char_indices() {
        if (' '..='~').contains(&c) && c != '"' && c != '\\' {
            continue;
        }
        out.push_str(&s[plain_from..i]);
        plain_from = i + c.len_utf8();
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_print(c) => out.push(c),
            c => {
                let n = c as u32;
                let (letter, digits) = match n {
                    0..0x20 | 0x7f => ('x', 2),
                    0x20..0x10000 => ('u', 4),
                    _ => ('U', 8),
                };
                out.push('\\');
                out.push(letter);
                for shift in (0..digits).rev() {
                    out.push(char::from(b"0123456789abcdef"[(n >> (4 * shift)) as usize & 15]));
                }
            }
        }
    }
    out.push_str(&s[plain_from..]);
    out.push('"');
}

/// Why a literal cannot be unquoted; the text is Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid syntax")]
pub struct UnquoteError;

/// The string that a PromQL literal in `'`, `"` or `` ` `` stands for (`strutil.Unquote` upstream). Escapes that
/// spell invalid UTF-8 (`"\xff"`) become U+FFFD, because strings here are UTF-8.
///
/// # Errors
/// On wrong quotes, line breaks and unknown escapes.
pub fn go_unquote(literal: &str) -> Result<String, UnquoteError> {
    let (Some(quote), Some(last)) = (literal.bytes().next(), literal.bytes().last()) else {
        return Err(UnquoteError);
    };
    if literal.len() < 2 || quote != last {
        return Err(UnquoteError);
    }
    // Both ends are the same byte; they are checked to be ASCII before slicing.
    let body = match quote {
        b'`' | b'"' | b'\'' => &literal[1..literal.len() - 1],
        _ => return Err(UnquoteError),
    };
    if quote == b'`' {
        return if body.contains('`') { Err(UnquoteError) } else { Ok(body.to_string()) };
    }
    if body.contains('\n') {
        return Err(UnquoteError);
    }
    if !body.contains(['\\', quote as char]) {
        return Ok(body.to_string());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        if b == quote {
            return Err(UnquoteError);
        }
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let (&escape, tail) = rest.split_first().ok_or(UnquoteError)?;
        rest = tail;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' => out.push(b'\\'),
            b'\'' | b'"' if escape == quote => out.push(quote),
            b'x' => out.push(take_number(&mut rest, 2, 16)? as u8),
            b'u' | b'U' => {
                let n = take_number(&mut rest, if escape == b'u' { 4 } else { 8 }, 16)?;
                if n > char::MAX as u32 {
                    return Err(UnquoteError);
                }
                // Surrogates encode as the replacement character, as in Go.
                let c = char::from_u32(n).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            b'0'..=b'7' => {
                let high = u32::from(escape - b'0');
                let n = high * 64 + take_number(&mut rest, 2, 8)?;
                out.push(u8::try_from(n).map_err(|_| UnquoteError)?);
            }
            _ => return Err(UnquoteError),
        }
    }
    Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn take_number(rest: &mut &[u8], digits: usize, radix: u32) -> Result<u32, UnquoteError> {
    let (number, tail) = rest.split_at_checked(digits).ok_or(UnquoteError)?;
    *rest = tail;
    number
        .iter()
        .try_fold(0u32, |n, b| Some(n.wrapping_mul(radix) | (*b as char).to_digit(radix)?))
        .ok_or(UnquoteError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_strconv_quote() {
        let cases = [
            ("", r#""""#),
            ("up", r#""up""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\0\x07\x08\t\n\x0b\x0c\r\x1f\x7f", r#""\x00\a\b\t\n\v\f\r\x1f\x7f""#),
            ("\u{80}\u{a0}\u{ad}\u{200b}\u{feff}", r#""\u0080\u00a0\u00ad\u200b\ufeff""#),
            ("é日本😀\u{fffd}", "\"é日本😀\u{fffd}\""),
            ("\u{e0001}'`", r#""\U000e0001'`""#),
        ];
        for (s, want) in cases {
            assert_eq!(go_quote(s), want);
        }
    }

    #[test]
    fn unquoting_knows_the_three_quotes_and_their_escapes() {
        let cases = [
            (r#""a""#, Some("a")),
            ("'a\"b'", Some("a\"b")),
            (r#""a\"b""#, Some("a\"b")),
            (r"'\''", Some("'")),
            (r#""\'""#, None),
            (r#"'\"'"#, None),
            (r#""\x41\u00e9\U0001f600\101""#, Some("Aé😀A")),
            (r#""\xc3\xa9""#, Some("é")),
            (r#""\ud800""#, Some("\u{fffd}")),
            (r#""\a\b\f\n\r\t\v\\""#, Some("\x07\x08\x0c\n\r\t\x0b\\")),
            (r#""\400""#, None),
            (r#""\U00110000""#, None),
            (r#""\x4""#, None),
            (r#""\q""#, None),
            (r#""\""#, None),
            ("\"a\nb\"", None),
            ("`a\n\\b`", Some("a\n\\b")),
            ("`a`b`", None),
            ("\"a\"b\"", None),
            ("\"", None),
            ("", None),
            ("\"a'", None),
            ("éaé", None),
            ("\"é\"", Some("é")),
        ];
        for (literal, want) in cases {
            assert_eq!(go_unquote(literal).ok().as_deref(), want, "{literal}");
        }
    }
}
