//! Edits of a text that leave comments, order and everything else as they are.

use tsdbctl_model::Span;

use crate::{Entry, Node, ScalarStyle, Source, Value};

pub use crate::scalar::{block_scalar, quoted, quoted_in_flow};

/// Replacements in one text, applied together.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    edits: Vec<(Span, String)>,
}

/// Edits that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Two edits want the same bytes.
    #[error("two edits overlap at bytes {} to {}", second.start, first.end)]
    Overlap {
        /// The one that begins first.
        first: Span,
        /// The other.
        second: Span,
    },
    /// A place that is not within the text.
    #[error("an edit at bytes {} to {} lies outside the text or splits a character", span.start, span.end)]
    Outside {
        /// The place.
        span: Span,
    },
}

impl Edits {
    /// Puts `text` in place of a span; an empty span inserts.
    pub fn replace(&mut self, span: Span, text: impl Into<String>) {
        self.edits.push((span, text.into()));
    }

    /// Nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The text with all edits; insertions at one place follow in the order in which they were made.
    ///
    /// # Errors
    /// If edits overlap or lie outside the text.
    pub fn apply(&self, source: &Source) -> Result<String, EditError> {
        let text = &source.text;
        let mut edits: Vec<&(Span, String)> = self.edits.iter().collect();
        // Stable; at one place what inserts comes before what replaces.
        edits.sort_by_key(|(span, _)| (span.start, span.end != span.start));
        let mut out =
            String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
        let mut last = Span::default();
        for (span, new) in edits {
            if span.start < last.end {
                return Err(EditError::Overlap { first: last, second: *span });
            }
            let kept = text.get(last.end as usize..span.start as usize);
            let gone = text.get(span.start as usize..span.end as usize);
            let (Some(kept), Some(_)) = (kept, gone) else { return Err(EditError::Outside { span: *span }) };
            out.push_str(kept);
            out.push_str(new);
            last = *span;
        }
        out.push_str(&text[last.end as usize..]);
        Ok(out)
    }

    /// Puts a value that fits on one line (a scalar, or a collection in brackets) in place of an entry's value.
    /// Anchors and tags of the old value go with it.
    pub fn set_value(&mut self, source: &Source, entry: &Entry, value: &str) {
        let text = &source.text;
        let old = entry.value.span;
        let colon = behind_colon(source, entry);
        let between = text.get(colon..old.start as usize).unwrap_or("#");
        let line_end =
            if text[old.start as usize..old.end as usize].ends_with('\n') { end_of_line(source) } else { "" };
        // What stands on lines of its own comes to the key, unless a comment is between.
        let start = if between.trim().is_empty() { colon } else { old.start as usize };
        let blank = if start == colon { " " } else { "" };
        self.replace(Span::new(start, old.end as usize), format!("{blank}{value}{line_end}"));
    }

    /// Puts a block of lines (written as if at the left margin; a list or a mapping) in place of an entry's value,
    /// indented as the old one is, or by two blanks more than its key. The comment on the key's line stays.
    pub fn set_block(&mut self, source: &Source, entry: &Entry, block: &str) {
        let text = &source.text;
        let old = entry.value.span;
        let (old_start, old_end) = (old.start as usize, old.end as usize);
        let colon = behind_colon(source, entry);
        let on_own_lines = text.get(colon..old_start).is_some_and(|between| between.contains('\n'));
        let is_block = !matches!(entry.value.value, Value::Scalar(_)) && !entry.value.is_flow(source);
        let break_ = end_of_line(source);
        if on_own_lines && is_block {
            let column = column(source, old_start);
            let new = indented(block, column, break_);
            self.replace(old, new.trim_start_matches(' ').to_owned());
            return;
        }
        let new = indented(block, column(source, entry.key.span.start as usize) + 2, break_);
        if text[old_start..old_end].ends_with('\n') {
            self.replace(Span::new(colon, old_end), format!("{break_}{new}{break_}"));
            return;
        }
        // What follows on the line, a comment, stays with the key.
        let rest = text[old_end..].find(['\n', '\r']).map_or(text.len(), |at| old_end + at);
        self.replace(Span::new(colon, old_end), "");
        self.replace(Span::new(rest, rest), format!("{break_}{new}"));
    }

    /// Adds a key to a mapping, behind the entry with the key `after` or else behind the last. `value` fits on the
    /// line of the key, or is a block scalar.
    pub fn insert_key(
        &mut self,
        source: &Source,
        mapping: &Node,
        after: Option<&str>,
        key: &str,
        value: &str,
    ) {
        let text = &source.text;
        let entries = mapping.entries();
        let key = quoted_in_flow(key, ScalarStyle::Plain);
        let written = |entry: &&Entry| !entry.merged;
        let anchor = after
            .and_then(|name| mapping.entry(name).filter(written))
            .or_else(|| entries.iter().rfind(written));
        let Some(anchor) = anchor else {
            // `{}`, or nothing at all.
            let span = mapping.content_span(source);
            let new = match text[span.start as usize..span.end as usize].starts_with('{') {
                true => format!("{{{key}: {value}}}"),
                false => format!("{key}: {value}"),
            };
            self.replace(span, new);
            return;
        };
        let end = anchor.value.span.end.max(anchor.key.span.end) as usize;
        if mapping.is_flow(source) {
            self.replace(Span::new(end, end), format!(", {key}: {value}"));
            return;
        }
        let indent = " ".repeat(column(source, mapping.entries()[0].key.span.start as usize));
        let break_ = end_of_line(source);
        let line = format!("{indent}{key}: {}", value.trim_end_matches('\n'));
        if text[..end].ends_with('\n') {
            self.replace(Span::new(end, end), format!("{line}{break_}"));
            return;
        }
        let line_end = text[end..].find('\n').map(|at| end + at + 1);
        match line_end {
            Some(at) => self.replace(Span::new(at, at), format!("{line}{break_}")),
            None => self.replace(Span::new(text.len(), text.len()), format!("{break_}{line}")),
        }
    }
}

/// The offset behind the colon of an entry; behind the key where none is found.
fn behind_colon(source: &Source, entry: &Entry) -> usize {
    let (end, value) = (entry.key.span.end as usize, entry.value.span.start as usize);
    match source.text.get(end..value.max(end)).and_then(|between| between.find(':')) {
        Some(at) => end + at + 1,
        None => value.max(end),
    }
}

/// Characters before an offset on its line.
fn column(source: &Source, offset: usize) -> usize {
    source.line_col(offset).1 - 1
}

/// The line break the text uses.
fn end_of_line(source: &Source) -> &'static str {
    match source.text.find('\n') {
        Some(at) if source.text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// Lines indented by `column` blanks, without a break at the end.
fn indented(block: &str, column: usize, break_: &str) -> String {
    let indent = " ".repeat(column);
    let lines = block.trim_end_matches('\n').split('\n');
    let lines: Vec<String> =
        lines.map(|line| if line.is_empty() { String::new() } else { format!("{indent}{line}") }).collect();
    lines.join(break_)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_document;
    use proptest::prelude::*;

    fn root(source: &Source) -> Node {
        first_document(source).expect("it is YAML").0.expect("it is not empty")
    }

    #[test]
    fn edits_apply_in_order_and_never_overlap() {
        let source = Source::new("t", "abcdef");
        let mut edits = Edits::default();
        edits.replace(Span::new(3, 4), "D");
        edits.replace(Span::new(1, 1), "1");
        edits.replace(Span::new(1, 1), "2");
        edits.replace(Span::new(1, 2), "B");
        assert_eq!(edits.apply(&source).as_deref(), Ok("a12BcDef"));
        edits.replace(Span::new(0, 2), "");
        assert!(matches!(edits.apply(&source), Err(EditError::Overlap { .. })));
        let mut edits = Edits::default();
        edits.replace(Span::new(3, 9), "");
        assert!(matches!(edits.apply(&source), Err(EditError::Outside { .. })));
        let mut edits = Edits::default();
        edits.replace(Span::new(1, 2), "");
        assert!(matches!(edits.apply(&Source::new("t", "é")), Err(EditError::Outside { .. })));
    }

    #[test]
    fn values_are_replaced_where_they_stand() {
        for (before, after) in [
            ("k: 1 # c\nl: 2\n", "k: new # c\nl: 2\n"),
            ("k:   'old'\n", "k: new\n"),
            ("k:\nl: 2\n", "k: new\nl: 2\n"),
            ("k: |\n  a\n  b\n\n# c\nl: 2\n", "k: new\n\n# c\nl: 2\n"),
            ("k:\n  - a\n  - b\nl: 2\n", "k: new\nl: 2\n"),
            ("k: # c\n  - a\nl: 2\n", "k: # c\n  new\nl: 2\n"),
            ("{l: 1, k: [2, 3], m: 4}", "{l: 1, k: new, m: 4}"),
            ("? k\n: 5\nl: 1\n", "? k\n: new\nl: 1\n"),
            ("l: &x 1\nk: *x\n", "l: &x 1\nk: new\n"),
        ] {
            let source = Source::new("t", before);
            let root = root(&source);
            let mut edits = Edits::default();
            edits.set_value(&source, root.entry("k").expect("the key is there"), "new");
            assert_eq!(edits.apply(&source).as_deref(), Ok(after), "{before:?}");
        }
    }

    #[test]
    fn blocks_take_the_indentation_of_the_place() {
        for (before, after) in [
            (
                "a:\n  k:\n    - x: 1 # c\n      y: 2\n\n  # d\n  l: 1\n",
                "a:\n  k:\n    - p: 1\n      q: 2\n    - r\n\n  # d\n  l: 1\n",
            ),
            ("a:\n  k:\n  - x\n  l: 1\n", "a:\n  k:\n  - p: 1\n    q: 2\n  - r\n  l: 1\n"),
            ("k: [] # c\nl: 1\n", "k: # c\n  - p: 1\n    q: 2\n  - r\nl: 1\n"),
            ("k:\nl: 1\n", "k:\n  - p: 1\n    q: 2\n  - r\nl: 1\n"),
            ("k:", "k:\n  - p: 1\n    q: 2\n  - r"),
            ("- k: # c\n    - x\n", "- k: # c\n    - p: 1\n      q: 2\n    - r\n"),
            ("k: |\n  x\nl: 1\n", "k:\n  - p: 1\n    q: 2\n  - r\nl: 1\n"),
            ("k: []\r\nl: 1\r\n", "k:\r\n  - p: 1\r\n    q: 2\r\n  - r\r\nl: 1\r\n"),
        ] {
            let source = Source::new("t", before);
            let root = root(&source);
            let inner = root.get("a").or_else(|| root.elements().first()).unwrap_or(&root);
            let mut edits = Edits::default();
            edits.set_block(&source, inner.entry("k").expect("the key is there"), "- p: 1\n  q: 2\n- r\n");
            assert_eq!(edits.apply(&source).as_deref(), Ok(after), "{before:?}");
        }
    }

    #[test]
    fn keys_are_inserted_and_comments_stay() {
        for (before, last, behind_a) in [
            ("a: 1 # c\nb: 2\n", "a: 1 # c\nb: 2\nk: v\n", "a: 1 # c\nk: v\nb: 2\n"),
            ("a: 1\nb: 2", "a: 1\nb: 2\nk: v", "a: 1\nk: v\nb: 2"),
            ("{a: 1, b: 2}", "{a: 1, b: 2, k: v}", "{a: 1, k: v, b: 2}"),
            ("a: |\n  x\n\nb: 2\n", "a: |\n  x\n\nb: 2\nk: v\n", "a: |\n  x\nk: v\n\nb: 2\n"),
            (
                "- a:\n    - x\n  b:\n- z\n",
                "- a:\n    - x\n  b:\n  k: v\n- z\n",
                "- a:\n    - x\n  k: v\n  b:\n- z\n",
            ),
            ("- {}\n", "- {k: v}\n", "- {k: v}\n"),
        ] {
            let source = Source::new("t", before);
            let root = root(&source);
            let mapping = root.elements().first().unwrap_or(&root);
            for (after, expected) in [(None, last), (Some("a"), behind_a)] {
                let mut edits = Edits::default();
                edits.insert_key(&source, mapping, after, "k", "v");
                assert_eq!(edits.apply(&source).as_deref(), Ok(expected), "{before:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn all_other_bytes_stay(cuts in proptest::collection::vec((0_usize..40, 0_usize..5, "[a-z]{0,3}"), 0..5)) {
            let source = Source::new("t", "0123456789 0123456789 0123456789 0123456789");
            let mut edits = Edits::default();
            for (start, len, new) in &cuts {
                edits.replace(Span::new(*start, (start + len).min(source.text.len())), new.clone());
            }
            if let Ok(out) = edits.apply(&source) {
                let kept = |text: &str| text.chars().filter(|c| !c.is_ascii_lowercase()).collect::<String>();
                let mut bytes: Vec<(usize, char)> = source.text.char_indices().collect();
                bytes.retain(|(at, _)| !cuts.iter().any(|(start, len, _)| (*start..start + len).contains(at)));
                prop_assert_eq!(kept(&out), bytes.into_iter().map(|(_, c)| c).collect::<String>());
            }
        }
    }
}
