//! A text with its name, and places in it as lines and columns.

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
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
}

impl Source {
    /// A text with its name, read as rule files are.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { name: name.into(), text, dialect: Dialect::default(), lines }
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

    /// Line and column of a byte offset, both from 1; the column counts characters, as go-yaml does.
    pub fn line_col(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
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
