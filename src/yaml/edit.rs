//! Edits of a text that leave comments, order and everything else as they are.

use tsdbctl_model::Span;

/// Replacements in one text, applied together.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    edits: Vec<(Span, String)>,
}

impl Edits {
    /// Puts `text` in place of a span; an empty span inserts.
    pub fn replace(&mut self, span: Span, text: impl Into<String>) {
        self.edits.push((span, text.into()));
    }
}
