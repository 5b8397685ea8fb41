//! What a script expects of one evaluation.

use regex::Regex;
use tsdbctl_model::Labels;

use crate::parser::SequenceValue;

/// A text that an error or annotation must be.
#[derive(Clone, Debug)]
pub enum Message {
    /// Any text.
    Any,
    /// Exactly this text.
    Text(String),
    /// A text that contains a match.
    Pattern(MessagePattern),
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct MessagePattern(Regex);

impl MessagePattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(source: &str) -> Result<Self, String> {
        Regex::new(source).map(Self).map_err(|e| e.to_string())
    }
}

impl Message {
    /// Whether `text` is what is expected.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(expected) => expected == text,
            Self::Pattern(p) => p.0.is_match(text),
        }
    }

    /// For failure reports.
    pub fn describe(&self) -> String {
        match self {
            Self::Any => "any text".to_string(),
            Self::Text(t) => format!("message {t:?}"),
            Self::Pattern(p) => format!("pattern {:?}", p.0.as_str()),
        }
    }
}

/// A series that must be in the answer.
#[derive(Clone, Debug)]
pub struct ExpectedSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its place among the lines, from 1.
    pub position: usize,
    /// Its values: one for vectors, one per step for matrices.
    pub values: Vec<SequenceValue>,
}

/// Everything expected of one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// Series of a vector or matrix, one per label set.
    pub series: Vec<ExpectedSeries>,
    /// A scalar.
    pub scalar: Option<f64>,
    /// A text.
    pub string: Option<String>,
    /// The series come in the order of the lines.
    pub ordered: bool,
    /// Evaluation fails; each with a text that must be its message.
    pub fail: Vec<Message>,
    /// Warnings: each must occur, and no other.
    pub warn: Vec<Message>,
    /// Infos: each must occur, and no other.
    pub info: Vec<Message>,
    /// There is a warning, whichever.
    pub some_warn: bool,
    /// There is an info, whichever.
    pub some_info: bool,
    /// There is no warning.
    pub no_warn: bool,
    /// There is no info.
    pub no_info: bool,
}

impl Expectation {
    /// The series with these labels.
    pub fn find(&self, labels: &Labels) -> Option<&ExpectedSeries> {
        self.series.iter().find(|s| s.labels == *labels)
    }

    /// Adds a series; a later line with the same labels replaces an earlier one.
    pub fn add(&mut self, series: ExpectedSeries) {
        self.scalar = None;
        match self.series.iter_mut().find(|s| s.labels == series.labels) {
            Some(slot) => *slot = series,
            None => self.series.push(series),
        }
    }

    /// Whether evaluation must fail.
    pub fn fails(&self) -> bool {
        !self.fail.is_empty()
    }
}
