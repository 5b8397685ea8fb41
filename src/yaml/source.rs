//! A text with its name, and places in it as lines and columns.

use std::sync::OnceLock;

use tsdbctl_model::Span;

/// Whose habits a text is read with. Upstream uses two versions of one library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `go.yaml.in/yaml/v2`, strict: configurations, unit tests.
    V2,
    /// `go.yaml.in/yaml/v3`: rule files.
    #[default]
    V3,
}

/// A YAML text and where it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's path as the user gave it, or `stdin`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Whose habits it is read with.
    pub dialect: Dialect,
    /// The bytes as they were, where they are no UTF-8: `text` then has replacements from the first wrong one on.
    raw: Option<Vec<u8>>,
    /// Offset of the first byte of each line, found out when the first place is asked for.
    lines: OnceLock<Vec<u32>>,
}

impl Source {
    /// A text with its name, read as rule files are.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            dialect: Dialect::default(),
            raw: None,
            lines: OnceLock::new(),
        }
    }

    /// A file's bytes: UTF-8, or UTF-16 if a byte order mark says so. Whatever is neither becomes an error when
    /// the text is read, in go-yaml's words and at its place, unless one before it comes first.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let utf16 = match bytes.as_slice() {
            [0xff, 0xfe, rest @ ..] => Some(from_utf16(rest, u16::from_le_bytes)),
            [0xfe, 0xff, rest @ ..] => Some(from_utf16(rest, u16::from_be_bytes)),
            _ => None,
        };
        let (text, raw) = match utf16 {
            Some((text, true)) => (text, None),
            Some((text, false)) => (text + "\u{fffd}", Some(bytes)),
            None => match String::from_utf8(bytes) {
                Ok(text) => (text, None),
                Err(e) => (String::from_utf8_lossy(e.as_bytes()).into_owned(), Some(e.into_bytes())),
            },
        };
        Self { raw, ..Self::new(name, text) }
    }

    /// Where in the text the byte of the file stands at which the parser could not go on.
    pub(crate) fn offset_of_byte(&self, offset: usize) -> usize {
        let Some([0xff, 0xfe, ..] | [0xfe, 0xff, ..]) = self.raw.as_deref() else {
            return self.floor(offset);
        };
        let mut units = 1;
        let found = self.text.char_indices().find(|(_, c)| {
            units += c.len_utf16();
            units * 2 > offset
        });
        // Half a pair is told of where the other half should be.
        found.map_or(self.text.len() - '\u{fffd}'.len_utf8(), |(at, _)| at)
    }

    /// What the parser reads.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.text.as_bytes())
    }

    fn lines(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let starts = self.text.bytes().zip(1_u32..).filter(|(byte, _)| *byte == b'\n').map(|(_, at)| at);
            std::iter::once(0).chain(starts).collect()
        })
    }

    /// The same text, read with other habits.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The nearest character boundary at or before an offset.
    pub(crate) fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// Line and column of a byte offset, both from 1; the column counts characters, without a byte order mark, as
    /// go-yaml does.
    pub fn line_col(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
        let lines = self.lines();
        let line = lines.partition_point(|start| *start as usize <= offset);
        let before = &self.text[lines[line - 1] as usize..offset];
        let before = if line == 1 { before.trim_start_matches('\u{feff}') } else { before };
        let column = before.chars().count() + 1;
        (line, column)
    }

    /// `name:line:column` of the start of a place.
    pub fn place(&self, span: Span) -> String {
        let (line, column) = self.line_col(span.start as usize);
        format!("{}:{line}:{column}", self.name)
    }

    /// The text of line `number` (from 1), without its end; empty behind the last.
    pub fn line(&self, number: usize) -> &str {
        let lines = self.lines();
        let Some(start) = number.checked_sub(1).and_then(|i| lines.get(i)) else { return "" };
        let end = lines.get(number).map_or(self.text.len(), |next| *next as usize - 1);
        self.text[*start as usize..end].trim_end_matches('\r')
    }
}

/// The text of UTF-16 behind its byte order mark, to its end or to what is none.
fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> (String, bool) {
    let (units, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(units.len());
    for c in char::decode_utf16(units.iter().map(|pair| unit(*pair))) {
        let Ok(c) = c else { return (text, false) };
        text.push(c);
    }
    (text, rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_document;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    /// As promtool 3.14 says it.
    #[test]
    fn bytes_are_what_go_yaml_takes_them_for() {
        let read = |bytes: &[u8]| match first_document(&Source::from_bytes("t", bytes.to_vec())) {
            Ok((root, _)) => root.and_then(|root| Some(root.get("a")?.scalar()?.text.clone())),
            Err(error) => Some(format!("{error} at {}", error.span.start)),
        };
        let mut odd = utf16("a: é\n", u16::to_le_bytes);
        odd.push(b'x');
        let mut lone = utf16("a: ", u16::to_be_bytes);
        lone.extend([0xd8, 0x00, 0x00, 0x20]);
        for (bytes, expected) in [
            (b"a: b".to_vec(), "b"),
            ("\u{feff}a: b".into(), "b"),
            (utf16("a: \u{1f525}é", u16::to_le_bytes), "\u{1f525}é"),
            (utf16("a: \u{1f525}é", u16::to_be_bytes), "\u{1f525}é"),
            (odd, "yaml: incomplete UTF-16 character at 6"),
            (lone, "yaml: expected low surrogate area at 3"),
            (
                [&utf16("é: b: 1\n#", u16::to_le_bytes)[..], b"\0\xdc"].concat(),
                "yaml: unexpected low surrogate area at 10",
            ),
            (
                [
                    &utf16("é: b: 1\n", u16::to_le_bytes)[..],
                    &utf16("x", u16::to_le_bytes).repeat(20_000),
                    b"\0\xdc",
                ]
                .concat(),
                "yaml: mapping values are not allowed in this context at 5",
            ),
            (b"a: b\xff\n".to_vec(), "yaml: invalid leading UTF-8 octet at 4"),
            (b"\xef\xbb\xbfa: b\xc3(\n".to_vec(), "yaml: invalid trailing UTF-8 octet at 7"),
            (b"a: b\xe2\x82".to_vec(), "yaml: incomplete UTF-8 octet sequence at 4"),
            (b"a: \xc0\x80\n".to_vec(), "yaml: invalid length of a UTF-8 sequence at 3"),
            (b"a: \xed\xa0\x80\n".to_vec(), "yaml: invalid Unicode character at 3"),
            (b"a: b\0\n".to_vec(), "yaml: control characters are not allowed at 4"),
            (b"a: \x7f\n".to_vec(), "yaml: control characters are not allowed at 3"),
        ] {
            assert_eq!(read(&bytes).as_deref(), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        let source = Source::new("f.yml", "é: 1\r\nb\n");
        for (offset, place) in [(0, (1, 1)), (1, (1, 1)), (2, (1, 2)), (7, (2, 1)), (9, (3, 1)), (99, (3, 1))]
        {
            assert_eq!(source.line_col(offset), place, "{offset}");
        }
        let lines: Vec<&str> = (0..5).map(|number| source.line(number)).collect();
        assert_eq!(lines, ["", "é: 1", "b", "", ""]);
        assert_eq!(source.place(Span::new(7, 8)), "f.yml:2:1");
        assert_eq!(Source::new("f.yml", "\u{feff}ab").line_col(4), (1, 2));
    }
}
