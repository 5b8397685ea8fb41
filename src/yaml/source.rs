//! A text with its name, and places in it as lines and columns.

use tsdbctl_model::Span;

/// A YAML text and where it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's path as the user gave it, or `stdin`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
}

impl Source {
    /// A text with its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { name: name.into(), text, lines }
    }

    /// Line and column of a byte offset, both from 1; the column counts characters, as go-yaml does.
    pub fn line_col(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        let column = self.text[self.lines[line - 1]..offset].chars().count() + 1;
        (line, column)
    }

    /// `name:line:column` of the start of a place.
    pub fn place(&self, span: Span) -> String {
        let (line, column) = self.line_col(span.start as usize);
        format!("{}:{line}:{column}", self.name)
    }

    /// The text of line `number` (from 1), without its end; empty behind the last.
    pub fn line(&self, number: usize) -> &str {
        let Some(start) = number.checked_sub(1).and_then(|i| self.lines.get(i)) else { return "" };
        let end = self.lines.get(number).map_or(self.text.len(), |next| next - 1);
        self.text[*start..end].trim_end_matches('\r')
    }
}
