//! How samples come in: appenders, and the classes in which samples are refused.

/// Why one sample is refused, in upstream's classes. Nothing else of its batch is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// Older than the head takes, and no out-of-order window is set (`storage.ErrOutOfBounds`).
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the series' last sample, and no out-of-order window is set (`storage.ErrOutOfOrderSample`).
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than the out-of-order window (`storage.ErrTooOldSample`).
    #[error("too old sample")]
    TooOld,
    /// Another value at the time of the last sample (`storage.ErrDuplicateSampleForTimestamp`).
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Further in the future than is allowed (upstream's scrape and remote-write limit of 10 min).
    #[error("too far in the future")]
    TooFarAhead,
    /// Labels that are empty or name one twice.
    #[error("invalid labels")]
    InvalidLabels,
    /// A histogram that contradicts itself.
    #[error("invalid histogram")]
    InvalidHistogram,
    /// A start timestamp that is not before the sample, or not stored here.
    #[error("invalid start timestamp")]
    InvalidStartTimestamp,
    /// An exemplar older than the series' newest (`storage.ErrOutOfOrderExemplar`).
    #[error("out of order exemplar")]
    OutOfOrderExemplar,
    /// The series is not known, or was removed.
    #[error("unknown series")]
    UnknownSeries,
    /// A limit on series or memory.
    #[error("over the limit of series or memory")]
    Limit,
}

impl Refusal {
    /// All classes.
    pub const ALL: [Self; 11] = [
        Self::OutOfBounds,
        Self::OutOfOrder,
        Self::TooOld,
        Self::Duplicate,
        Self::TooFarAhead,
        Self::InvalidLabels,
        Self::InvalidHistogram,
        Self::InvalidStartTimestamp,
        Self::OutOfOrderExemplar,
        Self::UnknownSeries,
        Self::Limit,
    ];
}

/// How many samples of a batch were refused, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; Refusal::ALL.len()]);

impl RefusalCounts {
    /// Counts one.
    pub fn add(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// Takes a class out: how many there were.
    pub fn take(&mut self, refusal: Refusal) -> u64 {
        std::mem::take(&mut self.0[refusal as usize])
    }

    /// Adds another count.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a += b;
        }
    }

    /// How many of a class.
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// Of all classes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
