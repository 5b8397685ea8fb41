//! Why a template cannot be read or does not render, in Go's words.

use tsdbctl_model::Span;

/// A template that is none, or that failed while it rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Go's whole text, for example `template: __alert_A:1: function "foo" not defined`.
    pub message: String,
    /// The place at fault in the template's own text (any prefix not counted), for carets.
    pub span: Span,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}
