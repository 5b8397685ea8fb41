//! What a test came to: failures with all that explains them, and warnings.

use std::sync::Arc;

use tsdbctl_model::duration::format_go_duration_ns;
use tsdbctl_model::{Labels, Span};
use tsdbctl_promql::engine::Sample;
use tsdbctl_yaml::Source;

use super::compare::{AlertText, SampleText};

/// What one test came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What failed, in upstream's order.
    pub failures: Vec<Failure>,
    /// What is silent upstream and probably not meant.
    pub warnings: Vec<Warning>,
    /// All series at the end, if asked for.
    pub dump: Vec<(Labels, Vec<(i64, Sample)>)>,
}

/// Something that is probably not meant; verdicts do not depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What.
    pub message: String,
    /// Where in the test file.
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One failure.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed.
    pub kind: FailureKind,
    /// Where in the test file.
    pub span: Span,
    /// The rules it is about: file and place.
    pub rules: Vec<(Arc<Source>, Span)>,
    /// Values that explain it: an expression, the time and what it gave.
    pub values: Vec<Values>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What an expression gave at a time.
#[derive(Clone, Debug)]
pub struct Values {
    /// The expression.
    pub expr: String,
    /// ms behind the start of the test.
    pub time_ms: i64,
    /// `{labels} value`, the first of them; or why there are none.
    pub lines: Vec<String>,
    /// How many there are beyond the lines.
    pub more: usize,
}

/// What failed.
#[derive(Clone, Debug)]
pub enum FailureKind {
    /// Other alerts than expected.
    Alerts {
        /// Index of the case in the test.
        case: usize,
        /// The alert's name.
        alertname: String,
        /// ms behind the start.
        eval_time_ms: i64,
        /// What was expected, sorted as upstream does.
        expected: Vec<AlertText>,
        /// What fired, sorted.
        got: Vec<AlertText>,
        /// For our own kinds of expectation: what they say.
        unmet: Vec<String>,
    },
    /// Other samples than expected.
    Samples {
        /// Index of the case in the test.
        case: usize,
        /// The expression.
        expr: String,
        /// ms behind the start.
        eval_time_ms: i64,
        /// What was expected, sorted.
        expected: Vec<SampleText>,
        /// What came, sorted.
        got: Vec<SampleText>,
        /// For our own kinds of expectation: what they say.
        unmet: Vec<String>,
    },
    /// An expression of a test without value.
    Expr {
        /// The expression.
        expr: String,
        /// ms behind the start.
        eval_time_ms: i64,
        /// Upstream's text.
        error: String,
    },
    /// A rule without value: the test ends there.
    Rule {
        /// The rule's name.
        name: String,
        /// When, Unix ms.
        t_ms: i64,
        /// Upstream's text.
        error: String,
    },
    /// Anything else: the whole text.
    Other(String),
}

impl Failure {
    /// A failure at a place of the test file.
    pub fn of(kind: FailureKind, span: Span) -> Self {
        Self { kind, span, rules: Vec::new(), values: Vec::new(), hint: None }
    }

    /// A failure that is a text.
    pub fn other(message: impl Into<String>, span: Span) -> Self {
        Self::of(FailureKind::Other(message.into()), span)
    }
}

/// Time of a failed rule as upstream prints it: since 1970.
pub fn rule_time(t_ms: i64) -> String {
    format_go_duration_ns(t_ms.saturating_mul(1_000_000))
}
