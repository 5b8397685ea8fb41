//! What go-yaml takes and libyaml does not: hidden from libyaml once it has stopped there, put back into what it
//! gives. No byte moves, so all places stay.

use std::borrow::Cow;

use tsdbctl_model::Span;

use crate::error::{BEFORE_BRACKET, UNKNOWN_ESCAPE};
use crate::{ScalarStyle, YamlError};

/// Each repair costs a reading: so many are made of any text, more of a small one.
const LEAST_READINGS: usize = 100;
/// So many bytes may be read again.
const BYTES_AGAIN: usize = 16 << 20;

/// Escapes that may stand for `\'`, with what they give and how that is written by number.
const STAND_INS: [(u8, char, &[u8; 2]); 5] = [
    (b'e', '\x1b', b"1b"),
    (b'a', '\x07', b"07"),
    (b'b', '\x08', b"08"),
    (b'v', '\x0b', b"0b"),
    (b'f', '\x0c', b"0c"),
];

/// What was hidden in a text.
#[derive(Debug)]
pub(crate) struct Repairs {
    /// Where colons are, in order: they end plain scalars before a bracket or a comma, as in `[a:]`.
    colons: Vec<usize>,
    /// What stands for `\'` between double quotes.
    apostrophe: Option<(u8, char)>,
    left: usize,
}

impl Repairs {
    pub(crate) fn of(text: &[u8]) -> Self {
        let left = (BYTES_AGAIN / text.len().max(1)).max(LEAST_READINGS);
        Self { colons: Vec::new(), apostrophe: None, left }
    }

    /// Hides what the parser stopped at, if go-yaml does not.
    pub(crate) fn apply(&mut self, text: &mut Cow<'_, [u8]>, error: &YamlError) -> bool {
        let at = error.span.start as usize;
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        if error.message.ends_with(BEFORE_BRACKET) && text.get(at) == Some(&b':') {
            text.to_mut()[at] = b'x';
            self.colons.push(at);
            return true;
        }
        if !error.message.ends_with(UNKNOWN_ESCAPE)
            || !text.get(at..).is_some_and(|rest| rest.starts_with(b"\\'"))
        {
            return false;
        }
        if self.apostrophe.is_none() {
            self.apostrophe = stand_in(text);
        }
        let Some((letter, _)) = self.apostrophe else { return false };
        let bytes = text.to_mut();
        // All of the scalar at once, to its closing quote.
        let mut next = at;
        while next + 1 < bytes.len() && bytes[next] != b'"' {
            if bytes[next..].starts_with(b"\\'") {
                bytes[next + 1] = letter;
            }
            next += if bytes[next] == b'\\' { 2 } else { 1 };
        }
        true
    }

    /// Puts back into a scalar what was hidden there.
    pub(crate) fn undo(&self, span: Span, style: ScalarStyle, text: &mut String) {
        match (style, self.apostrophe) {
            (ScalarStyle::DoubleQuoted, Some((_, c))) if text.contains(c) => *text = text.replace(c, "'"),
            (ScalarStyle::Plain, _) if self.ends_with_colon(span) => {
                text.pop();
                text.push(':');
            }
            _ => {}
        }
    }

    fn ends_with_colon(&self, span: Span) -> bool {
        span.start < span.end && self.colons.binary_search(&(span.end as usize - 1)).is_ok()
    }
}

/// An escape that the text has nowhere, neither as such nor by number.
fn stand_in(text: &[u8]) -> Option<(u8, char)> {
    let lower = text.to_ascii_lowercase();
    let has = |pattern: &[u8]| lower.windows(pattern.len()).any(|window| window == pattern);
    let free = STAND_INS.iter().find(|(letter, _, number)| {
        !has(&[b'\\', *letter])
            && !has(&[b'x', number[0], number[1]])
            && !has(&[b'0', b'0', number[0], number[1]])
    });
    free.map(|(letter, c, _)| (*letter, *c))
}

#[cfg(test)]
mod tests {
    use crate::{Node, Source, Value, documents};

    fn scalars<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
        match &node.value {
            Value::Scalar(_) => found.push(node),
            Value::Sequence(nodes) => nodes.iter().for_each(|node| scalars(node, found)),
            Value::Mapping(entries) => {
                entries
                    .iter()
                    .flat_map(|entry| [&entry.key, &entry.value])
                    .for_each(|node| scalars(node, found));
            }
        }
    }

    #[test]
    fn what_was_hidden_is_there_again() {
        let many = format!("[{}]", r#""\'", "#.repeat(90));
        for (text, expected) in [
            ("[a:]", vec!["a:"]),
            ("[a:, 'b:', c:d:, {e:}]", vec!["a:", "b:", "c:d:", "e:", ""]),
            ("{a: [b:], c::: d}", vec!["a", "b:", "c::", "d"]),
            (r#"["it\'s", 'it\', it\'s]"#, vec!["it's", r"it\", r"it\'s"]),
            (
                r#"- "\'\'\\' \"\'"
- "\'"
- "\x0a'""#,
                vec![r#"''\' "'"#, "'", "\n'"],
            ),
            (r#"["\e\'", "\x1B\a'"]"#, vec!["\x1b'", "\x1b\x07'"]),
            (&many, vec!["'"; 90]),
        ] {
            let source = Source::new("t", text);
            let roots = documents(&source).unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut found = Vec::new();
            scalars(&roots[0], &mut found);
            let texts: Vec<&str> =
                found.iter().filter_map(|node| node.scalar()).map(|s| s.text.as_str()).collect();
            assert_eq!(texts, expected, "{text}");
            // Places are those of the text as it is.
            for node in found {
                let end = node.source_offset(&source, usize::MAX);
                assert!(end <= node.span.end as usize && text.get(end..).is_some(), "{text}");
            }
        }
        for (text, error) in [
            (r#"["\q\'"]"#, "yaml: found unknown escape character"),
            (r#"["\'\q"]"#, "yaml: found unknown escape character"),
            (r#"["\' \e\a\b\v\f"]"#, "yaml: found unknown escape character"),
            ("[a:[b]]", "yaml: did not find expected ',' or ']'"),
        ] {
            assert_eq!(documents(&Source::new("t", text)).expect_err(text).message, error, "{text}");
        }
    }
}
