//! What can be wrong with a histogram, in the words users know.

use crate::float_text::format_g;

/// An invalid histogram, or two that do not go together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// One side's buckets or spans are wrong.
    #[error("{side} side: {source}")]
    Side {
        /// `positive` or `negative`.
        side: &'static str,
        /// What is wrong.
        source: Box<HistogramError>,
    },
    /// The custom bounds do not fit.
    #[error("custom buckets: {source}")]
    CustomBuckets {
        /// What is wrong.
        source: Box<HistogramError>,
    },
    /// Fewer observations than the buckets hold (allowed to be more only with NaN observations).
    #[error(
        "{found} observations found in buckets, but the Count field is {count}: histogram's observation count \
         should be at least the number of observations found in the buckets"
    )]
    CountNotBigEnough {
        /// Sum over the buckets.
        found: u64,
        /// The count field.
        count: u64,
    },
    /// Count and buckets disagree.
    #[error(
        "{found} observations found in buckets, but the Count field is {count}: histogram's observation count \
         should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch {
        /// Sum over the buckets.
        found: u64,
        /// The count field.
        count: u64,
    },
    /// The count is negative.
    #[error("observation count is  {}: histogram's observation count is negative", format_g(*count))]
    NegativeCount {
        /// The count field.
        count: f64,
    },
    /// The zero bucket's count is negative.
    #[error(
        "zero bucket has observation count of {}: histogram has a bucket whose observation count is negative",
        format_g(*count)
    )]
    NegativeZeroCount {
        /// The zero bucket's count.
        count: f64,
    },
    /// A bucket's count is negative.
    #[error(
        "bucket number {number} has observation count of {count}: \
         histogram has a bucket whose observation count is negative"
    )]
    NegativeBucketCount {
        /// Position among the side's buckets, from 1.
        number: usize,
        /// The count as text.
        count: String,
    },
    /// A span begins before the end of the one before.
    #[error("span number {number} with offset {offset}: histogram has a span whose offset is negative")]
    SpanNegativeOffset {
        /// Position among the side's spans, from 1.
        number: usize,
        /// Its offset.
        offset: i32,
    },
    /// Spans and buckets disagree.
    #[error(
        "spans need {need} buckets, have {have} buckets: \
         histogram spans specify different number of buckets than provided"
    )]
    SpansBucketsMismatch {
        /// Buckets the spans describe.
        need: usize,
        /// Buckets there are.
        have: usize,
    },
    /// Buckets end before the spans do.
    #[error(
        "have {have} buckets but spans need more: \
         histogram spans specify different number of buckets than provided"
    )]
    TooFewBuckets {
        /// Buckets there are.
        have: usize,
    },
    /// The spans reach behind the last custom bound.
    #[error(
        "only {bounds} custom bounds defined which is insufficient to cover total span length of {length}: \
         histogram custom bounds are too few"
    )]
    CustomBucketsMismatch {
        /// Bounds there are.
        bounds: usize,
        /// Indices the spans cover.
        length: i64,
    },
    /// Custom bounds do not rise.
    #[error(
        "previous bound is {previous:.6} and current is {current:.6}: \
         histogram custom bounds must be in strictly increasing order"
    )]
    CustomBucketsInvalid {
        /// The bound before.
        previous: f64,
        /// The bound that does not rise.
        current: f64,
    },
    /// The +Inf bound is implied.
    #[error("last +Inf bound must not be explicitly defined: histogram custom bounds must be finite")]
    CustomBucketsInfinite,
    /// A bound is NaN.
    #[error("histogram custom bounds must not be NaN")]
    CustomBucketsNan,
    /// Exponential and custom buckets met in one operation.
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    IncompatibleSchema,
    /// Custom buckets with a zero count.
    #[error("custom buckets: must have zero count of 0")]
    CustomBucketsZeroCount,
    /// Custom buckets with a zero threshold.
    #[error("custom buckets: must have zero threshold of 0")]
    CustomBucketsZeroThreshold,
    /// Custom buckets with negative spans.
    #[error("custom buckets: must not have negative spans")]
    CustomBucketsNegativeSpans,
    /// Custom buckets with negative buckets.
    #[error("custom buckets: must not have negative buckets")]
    CustomBucketsNegativeBuckets,
    /// Custom bounds on an exponential schema.
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialSchemaCustomBounds,
    /// Not a schema histograms may have.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, \
         or -53 for custom buckets, got schema {schema}"
    )]
    InvalidSchema {
        /// The schema found.
        schema: i32,
    },
    /// Not a schema readers know.
    #[error(
        "histogram has an unknown schema, which must be between -9 and 52 for exponential buckets, \
         or -53 for custom buckets, got schema {schema}"
    )]
    UnknownSchema {
        /// The schema found.
        schema: i32,
    },
    /// Custom buckets have no resolution to reduce.
    #[error("cannot reduce resolution when there are custom buckets")]
    ReduceCustomBuckets,
    /// Custom buckets are no target for exponential ones.
    #[error("cannot reduce resolution to custom buckets schema")]
    ReduceToCustomBuckets,
    /// The target is not coarser.
    #[error("cannot reduce resolution from schema {from} to {to}")]
    ReduceNotCoarser {
        /// The histogram's schema.
        from: i32,
        /// The wanted schema.
        to: i32,
    },
}

impl HistogramError {
    /// Puts `positive side:` or `negative side:` before the error.
    pub(super) fn on_side(self, side: &'static str) -> Self {
        Self::Side { side, source: Box::new(self) }
    }
}
