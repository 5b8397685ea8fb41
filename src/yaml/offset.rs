//! From a byte of a scalar's value back to the byte of the text that wrote it: escapes, folding and indentation
//! undone. Carets within expressions and templates rely on it.

use std::ops::ControlFlow;

use tsdbctl_model::Span;

use crate::{Node, Scalar, ScalarStyle, Source};

/// A stretch of a value and of the text behind it. Where both are of one length they run side by side; otherwise
/// the text is an escape or a line break.
struct Piece {
    value_len: usize,
    at: usize,
    source_len: usize,
}

type Emit<'e> = &'e mut dyn FnMut(Piece) -> ControlFlow<()>;

impl Node {
    /// Where the node stands without its properties (`&anchor`, `!tag`).
    pub fn content_span(&self, source: &Source) -> Span {
        let (mut at, end) = (self.span.start as usize, self.span.end as usize);
        let text = &source.text;
        while at < end && text[at..].starts_with(['&', '!']) {
            at += text[at..end].find(|c: char| c.is_ascii_whitespace()).unwrap_or(end - at);
            at += text[at..end].len() - text[at..end].trim_start().len();
            while at < end && text[at..].starts_with('#') {
                at += text[at..end].find('\n').unwrap_or(end - at);
                at += text[at..end].len() - text[at..end].trim_start().len();
            }
        }
        Span::new(at, end)
    }

    /// It is an alias: its value is written elsewhere.
    pub fn is_alias(&self, source: &Source) -> bool {
        source.text[self.span.start as usize..self.span.end as usize].starts_with('*')
    }

    /// A collection in brackets or braces.
    pub fn is_flow(&self, source: &Source) -> bool {
        let span = self.content_span(source);
        self.scalar().is_none() && source.text[span.start as usize..span.end as usize].starts_with(['{', '['])
    }

    /// The byte of the text that wrote byte `offset` of this scalar's value; at the value's length the place behind
    /// it. Of an alias and of a collection, where the node begins.
    pub fn source_offset(&self, source: &Source, offset: usize) -> usize {
        let span = self.content_span(source);
        let Some(scalar) = self.scalar().filter(|_| !self.is_alias(source)) else {
            return self.span.start as usize;
        };
        let mut left = offset.min(scalar.text.len());
        let mut found = span.start as usize;
        let _ = pieces(source, span, scalar, &mut |piece| {
            found = piece.at;
            if left < piece.value_len {
                found += if piece.value_len == piece.source_len { left } else { 0 };
                return ControlFlow::Break(());
            }
            left -= piece.value_len;
            found += piece.source_len;
            ControlFlow::Continue(())
        });
        found
    }

    /// The place of a stretch of this scalar's value, as [`Node::source_offset`].
    pub fn source_span(&self, source: &Source, start: usize, end: usize) -> Span {
        let first = self.source_offset(source, start);
        let behind = match end > start {
            // Behind its last byte, not at what follows: between them may lie a line break and indentation.
            true => self.behind(source, end),
            false => first,
        };
        Span::new(first, behind.max(first))
    }

    /// Behind the text that wrote byte `end - 1`.
    fn behind(&self, source: &Source, end: usize) -> usize {
        let span = self.content_span(source);
        let Some(scalar) = self.scalar().filter(|_| !self.is_alias(source)) else {
            return self.span.end as usize;
        };
        let mut left = end.min(scalar.text.len());
        let mut found = span.start as usize;
        let _ = pieces(source, span, scalar, &mut |piece| {
            if left <= piece.value_len {
                found = piece.at + if piece.value_len == piece.source_len { left } else { piece.source_len };
                return ControlFlow::Break(());
            }
            left -= piece.value_len;
            found = piece.at + piece.source_len;
            ControlFlow::Continue(())
        });
        found
    }
}

fn pieces(source: &Source, span: Span, scalar: &Scalar, emit: Emit<'_>) -> ControlFlow<()> {
    let (start, end) = (span.start as usize, span.end as usize);
    match scalar.style {
        ScalarStyle::Plain => flow(&source.text, start, end, scalar.style, emit),
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            flow(&source.text, start + 1, end.saturating_sub(1).max(start + 1), scalar.style, emit)
        }
        ScalarStyle::Literal | ScalarStyle::Folded => block(&source.text, start, end, scalar, emit),
    }
}

/// The length of the line break at `at`, and how many bytes it is in a value.
fn line_break(text: &str, at: usize) -> Option<(usize, usize)> {
    match text.as_bytes()[at..] {
        [b'\r', b'\n', ..] => Some((2, 1)),
        [b'\r' | b'\n', ..] => Some((1, 1)),
        [0xc2, 0x85, ..] => Some((2, 1)),
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => Some((3, 3)),
        _ => None,
    }
}

/// Plain and quoted scalars, whose lines fold.
fn flow(text: &str, start: usize, end: usize, style: ScalarStyle, emit: Emit<'_>) -> ControlFlow<()> {
    let bytes = text.as_bytes();
    let is_blank = |at: usize| matches!(bytes[at], b' ' | b'\t') || line_break(text, at).is_some();
    let mut at = start;
    while at < end {
        let begin = at;
        if style == ScalarStyle::DoubleQuoted && bytes[at] == b'\\' && at + 1 < end {
            if let Some((len, _)) = line_break(text, at + 1) {
                // An escaped break joins the lines; further breaks stay.
                at = run(text, at + 1 + len, end, true, emit)?;
                continue;
            }
            let (value_len, source_len) = escape(text, at);
            at += source_len;
            emit(Piece { value_len, at: begin, source_len })?;
        } else if style == ScalarStyle::SingleQuoted && bytes[at] == b'\'' {
            at += 2;
            emit(Piece { value_len: 1, at: begin, source_len: 2 })?;
        } else if is_blank(at) {
            at = run(text, at, end, false, emit)?;
        } else {
            let special = match style {
                ScalarStyle::SingleQuoted => b'\'',
                ScalarStyle::DoubleQuoted => b'\\',
                _ => b' ',
            };
            while at < end && bytes[at] != special && !is_blank(at) {
                at += 1;
            }
            emit(Piece { value_len: at - begin, at: begin, source_len: at - begin })?;
        }
    }
    ControlFlow::Continue(())
}

/// Blanks and breaks from `at` on; the offset behind them. `joined`: a break was escaped just before.
fn run(text: &str, start: usize, end: usize, joined: bool, emit: Emit<'_>) -> ControlFlow<(), usize> {
    let mut at = start;
    let mut breaks = Vec::new();
    while at < end {
        if let Some((source_len, value_len)) = line_break(text, at) {
            breaks.push(Piece { value_len, at, source_len });
            at += source_len;
        } else if matches!(text.as_bytes()[at], b' ' | b'\t') {
            at += 1;
        } else {
            break;
        }
    }
    if breaks.is_empty() && !joined {
        emit(Piece { value_len: at - start, at: start, source_len: at - start })?;
    }
    // The first break is a blank if it is alone, and vanishes before others.
    let several = breaks.len() > 1;
    for (i, piece) in breaks.into_iter().enumerate() {
        if i > 0 || joined || !several || piece.value_len != 1 {
            emit(piece)?;
        }
    }
    ControlFlow::Continue(at)
}

/// Bytes of value and of text of the escape at `at`.
fn escape(text: &str, at: usize) -> (usize, usize) {
    let digits = match text.as_bytes()[at + 1] {
        b'x' => 2,
        b'u' => 4,
        b'U' => 8,
        b'N' | b'_' => return (2, 2),
        b'L' | b'P' => return (3, 2),
        _ => return (1, 2),
    };
    let code = text.get(at + 2..at + 2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let value_len = code.and_then(char::from_u32).map_or(1, char::len_utf8);
    (value_len, (2 + digits).min(text.len() - at))
}

/// Literal and folded scalars.
fn block(text: &str, start: usize, end: usize, scalar: &Scalar, emit: Emit<'_>) -> ControlFlow<()> {
    let leading_blanks = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut lines = Vec::new();
    let mut at = start;
    while at < end {
        let mut line_end = at;
        while line_end < end && line_break(text, line_end).is_none() {
            line_end += 1;
        }
        let (source_len, value_len) =
            if line_end < end { line_break(text, line_end).unwrap_or((1, 1)) } else { (0, 0) };
        lines.push((&text[at..line_end], Piece { value_len, at: line_end, source_len }, at));
        at = line_end + source_len.max(1);
    }
    let first = |line: &&str| !line.trim_matches(' ').is_empty();
    let written = lines.iter().skip(1).map(|(line, ..)| *line).find(first).map_or(0, leading_blanks);
    let meant = scalar.text.lines().find(first).map_or(0, leading_blanks);
    let indent = written.saturating_sub(meant);
    let folds = scalar.style == ScalarStyle::Folded;
    let mut after: Option<Piece> = None;
    let mut empty_lines: Vec<Piece> = Vec::new();
    let mut was_indented = false;
    for (line, line_end, line_start) in lines.into_iter().skip(1) {
        let eaten = leading_blanks(line).min(indent);
        let rest = &line[eaten..];
        if rest.is_empty() {
            empty_lines.push(line_end);
            continue;
        }
        if eaten < indent {
            break;
        }
        let indented = rest.starts_with([' ', '\t']);
        if let Some(piece) = after.take()
            && (!folds || was_indented || indented || piece.value_len != 1 || empty_lines.is_empty())
        {
            emit(piece)?;
        }
        for piece in empty_lines.drain(..) {
            emit(piece)?;
        }
        was_indented = indented;
        emit(Piece { value_len: rest.len(), at: line_start + eaten, source_len: rest.len() })?;
        after = Some(line_end);
    }
    for piece in after.into_iter().chain(empty_lines) {
        emit(piece)?;
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, first_document};

    /// Every byte of every scalar: the pieces give the value again.
    fn check(text: &str) {
        let source = Source::new("t", text);
        let Ok((Some(root), _)) = first_document(&source) else { panic!("{text:?} is no YAML") };
        let mut waiting = vec![&root];
        while let Some(node) = waiting.pop() {
            match &node.value {
                Value::Sequence(nodes) => waiting.extend(nodes),
                Value::Mapping(entries) => waiting.extend(entries.iter().flat_map(|e| [&e.key, &e.value])),
                Value::Scalar(scalar) => {
                    let mut value_len = 0;
                    let _ = pieces(&source, node.content_span(&source), scalar, &mut |piece| {
                        if piece.value_len == piece.source_len && value_len < scalar.text.len() {
                            let value = &scalar.text[value_len..value_len + piece.value_len];
                            let written = &text[piece.at..piece.at + piece.source_len];
                            let other =
                                (value == " " && written == "\n") || (value == "\u{85}" && written == "\\N");
                            assert!(value == written || other, "{text:?}: {value:?} {written:?}");
                        }
                        value_len += piece.value_len;
                        ControlFlow::Continue(())
                    });
                    let block = matches!(scalar.style, ScalarStyle::Literal | ScalarStyle::Folded);
                    assert!(
                        value_len == scalar.text.len() || (block && value_len >= scalar.text.len()),
                        "{text:?}: {value_len} bytes of {:?}",
                        scalar.text
                    );
                }
            }
        }
    }

    #[test]
    fn all_styles_lead_back_to_their_text() {
        for text in [
            "a: plain text here",
            "a: plain text\n  over lines   \n\n\n  and on",
            "a: 'it''s  quoted\n\n   folded '",
            "a: \"tab\\t nl\\n \\x41 \\u00e9 \\U0001F600 \\N é\"",
            "a: \"joined \\\n    lines\\\n\n   and  \n  folded\"",
            "a: |\n  one\n   two\n\n  three\n",
            "a: |-\n  one\n\n\nb: 1",
            "a: |2\n    indented\n  less\n",
            "a: >\n  folded\n  text\n\n  para\n    more\n    more\n  back\n\n\n  end\n",
            "a: >-\n\n\n  folded\n  text\n",
            "a: !!str &x |\r\n  one\r\n  two\r\nb: 'x\r\n y'\r\n",
            "\u{feff}a: é\nb: \"ünï\"\n",
            "[a b, 'c', \"d\\\"e\"]",
        ] {
            check(text);
        }
    }

    #[test]
    fn carets_stand_under_what_they_mean() {
        let text =
            "x: &a !!str 'it''s'\ny: |\n  rate(\n    foo[5m]\n  )\nz: \"a\\n{{ b }}\"\nw: >\n  one\n  two\n";
        let source = Source::new("t", text);
        let (root, _) = first_document(&source).expect("it is YAML");
        let root = root.expect("it is not empty");
        for (key, needle, place) in [
            ("x", "s", "s'\n"),
            ("y", "foo", "foo[5m]"),
            ("y", ")", ")\nz"),
            ("z", "{{", "{{ b"),
            ("z", "\n", "\\n{{"),
            ("w", "two", "two\n"),
        ] {
            let node = root.get(key).expect("the key is there");
            let offset = node.scalar().expect("a scalar").text.find(needle).expect("the needle is there");
            assert!(text[node.source_offset(&source, offset)..].starts_with(place), "{key} {needle:?}");
        }
        let end = root.get("z").map(|node| node.source_offset(&source, 9)).expect("the key is there");
        assert!(text[end..].starts_with("\"\nw"), "{}", &text[end..]);
    }
}
