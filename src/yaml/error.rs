//! Why a text is no YAML.

use tsdbctl_model::Span;

/// A text that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// go-yaml's words, `yaml: line N: …`.
    pub message: String,
    /// The place.
    pub span: Span,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}
