//! Why the evaluation of a rule failed.

/// An evaluation that failed; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The expression could not be evaluated.
    #[error("{0}")]
    Query(String),
    /// The expression gave a text or a range.
    #[error("rule result is not a vector or scalar")]
    NotAVector,
    /// Two results of a recording rule have the same labels.
    #[error("vector contains metrics with the same labelset after applying rule labels")]
    SameLabels,
    /// Two alerts have the same labels.
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    SameAlertLabels,
    /// More series than the group's limit.
    #[error("exceeded limit of {limit} with {series} series")]
    SeriesLimit {
        /// The limit.
        limit: usize,
        /// How many there were.
        series: usize,
    },
    /// More alerts than the group's limit.
    #[error("exceeded limit of {limit} with {alerts} alerts")]
    AlertLimit {
        /// The limit.
        limit: usize,
        /// How many there were.
        alerts: usize,
    },
}
