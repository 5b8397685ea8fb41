//! What is wrong with a body, where, in upstream's words.

use tsdbctl_model::quote::go_quote;

/// A body that cannot be parsed further. Entries handed out before stay valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Byte offset of what was met, from the start of the body.
    pub offset: usize,
    /// Its line, from 1. Protobuf has no lines: there it is the number of the metric family.
    pub line: usize,
    /// Its column in bytes, from 1. In protobuf the offset within the metric family's message, from 1.
    pub column: usize,
    /// The reason, as upstream words it.
    pub message: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    /// An error at `offset` of a body of lines.
    pub(crate) fn in_lines(body: &[u8], offset: usize, message: String) -> Self {
        let offset = offset.min(body.len());
        let before = &body[..offset];
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column = offset - memchr::memrchr(b'\n', before).map_or(0, |p| p + 1) + 1;
        Self { offset, line, column, message }
    }
}

/// Go's `%q` of bytes: as of a string, with `\x` where they are no UTF-8.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_by_go() {
        let cases: &[(&[u8], &str)] = &[
            (b"a\"b\n", r#""a\"b\n""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
            (b"a\xefb", r#""a\xefb""#),
            (b"\x00", r#""\x00""#),
        ];
        for (bytes, want) in cases {
            assert_eq!(quote_bytes(bytes), *want);
        }
    }

    #[test]
    fn places_count_from_one() {
        let e = ParseError::in_lines(b"a 1\nb x\n", 6, String::new());
        assert_eq!((e.offset, e.line, e.column), (6, 2, 3));
        let e = ParseError::in_lines(b"a", 9, String::new());
        assert_eq!((e.offset, e.line, e.column), (1, 1, 2));
    }
}
