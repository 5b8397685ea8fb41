//! Why a text is no expression, where, and what was probably meant.

use tsdbctl_model::Span;

/// The first thing wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Upstream's text, without position.
    pub message: String,
    /// The place in the text.
    pub span: Span,
    /// What was probably meant; not part of upstream's text.
    pub hint: Option<String>,
}

impl ParseError {
    /// An error at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, hint: None }
    }

    /// With what was probably meant.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Upstream's full text: `line:column: parse error: message`. Of several errors upstream prints the
    /// first alone, and so is what is kept here.
    pub fn api_message(&self, text: &str) -> String {
        format!("{}: parse error: {}", self.position(text), self.message)
    }

    /// `line:column` of the place in `text`.
    pub fn position(&self, text: &str) -> String {
        if text.is_empty() { "unknown position".to_string() } else { self.span.line_col(text) }
    }
}
