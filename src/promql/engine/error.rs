//! Why a query has no answer.

use tsdbctl_model::Span;
use tsdbctl_storage::StorageError;
use tsdbctl_storage::control::ControlError;

/// The API's error classes (`errorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request or the expression is wrong: `bad_data`, HTTP 400.
    BadData,
    /// The expression cannot be evaluated: `execution`, HTTP 422.
    Execution,
    /// The deadline passed: `timeout`, HTTP 503.
    Timeout,
    /// Interrupted: `canceled`, HTTP 499.
    Canceled,
    /// Storage failed: `internal`, HTTP 500.
    Internal,
}

impl ErrorKind {
    /// The API's `errorType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
        }
    }
}

/// A query that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// The class.
    pub kind: ErrorKind,
    /// Upstream's text, position prefix of parse errors included, as the API's `error`.
    pub message: String,
    /// The place in the expression, where there is one.
    pub span: Option<Span>,
    /// What was probably meant, or what to do; not part of the API's text.
    pub hint: Option<String>,
}

impl QueryError {
    /// An evaluation error.
    pub fn execution(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Execution, message: message.into(), span: None, hint: None }
    }

    /// A wrong request.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::BadData, message: message.into(), span: None, hint: None }
    }

    /// With its place.
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }
}

impl From<ControlError> for QueryError {
    fn from(e: ControlError) -> Self {
        let kind = match e {
            ControlError::Timeout { .. } => ErrorKind::Timeout,
            ControlError::Canceled { .. } => ErrorKind::Canceled,
            ControlError::Memory { .. } => ErrorKind::Execution,
        };
        Self { kind, message: e.to_string(), span: None, hint: None }
    }
}

impl From<StorageError> for QueryError {
    fn from(e: StorageError) -> Self {
        match e {
            StorageError::Control(e) => e.into(),
            e => Self { kind: ErrorKind::Internal, message: e.to_string(), span: None, hint: None },
        }
    }
}
