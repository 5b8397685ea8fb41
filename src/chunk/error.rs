//! What can be wrong with a chunk's bytes, or with a sample that is to be appended to one.

/// Why a chunk cannot be read or a sample cannot be appended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChunkError {
    /// The data is shorter than the header of its encoding.
    #[error("chunk data of {len} bytes is shorter than its header of {header} bytes")]
    NoHeader {
        /// Bytes there are.
        len: usize,
        /// Bytes the header takes.
        header: usize,
    },
    /// The data ends inside a sample the header announces.
    #[error("chunk data ends inside sample {sample} of {count}")]
    Truncated {
        /// Index of the sample that is cut off.
        sample: usize,
        /// Samples by the header.
        count: usize,
    },
    /// A sample's time is not after the one before it.
    #[error("sample {sample} of chunk is not later than the one before it")]
    NotRising {
        /// Index of the sample.
        sample: usize,
    },
    /// No encoder writes what stands there.
    #[error("invalid chunk data at sample {sample}: {reason}")]
    Invalid {
        /// Index of the sample.
        sample: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A histogram schema outside of the known ranges.
    #[error(
        "histogram has an unknown schema, which must be between -9 and 52 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    UnknownSchema(i32),
    /// The sample to append is not later than the last one.
    #[error("sample at {t} is not later than the last one at {last}")]
    OutOfOrder {
        /// Time of the last sample.
        last: i64,
        /// Time of the sample that was to be appended.
        t: i64,
    },
    /// The sample count of the header is at its end.
    #[error("chunk capacity exceeded")]
    Full,
    /// The spans of a histogram announce another number of buckets than it has.
    #[error("histogram has {buckets} {side} buckets where its spans have {spanned}")]
    BucketMismatch {
        /// `positive` or `negative`.
        side: &'static str,
        /// Buckets there are.
        buckets: usize,
        /// Buckets by the spans.
        spanned: u64,
    },
    /// A part of an aggregate chunk is not there as announced.
    #[error("aggregate chunk is damaged at its {aggregate}: {reason}")]
    Aggregate {
        /// The part's name.
        aggregate: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}
