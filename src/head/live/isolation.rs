//! What a reader may see: commits are numbered, and a reader sees those up to the newest one of which all before it
//! were applied when it began.

use crate::live::index::SeriesId;

/// Numbers of commits and the readers that are open.
#[derive(Debug, Default)]
pub struct Isolation {}

/// A reader's view, given back when it is dropped.
#[derive(Debug)]
pub struct ReadView {
    /// All commits up to this number are visible.
    pub visible: u64,
}

impl Isolation {
    /// Gives a commit its number; called in the order of the log. It must be finished.
    pub fn begin_commit(&self) -> u64 {
        todo!()
    }

    /// The commit is applied (or given up).
    pub fn finish_commit(&self, number: u64) {
        let _ = number;
        todo!()
    }

    /// Opens a view.
    pub fn view(&self) -> ReadView {
        todo!()
    }

    /// The oldest number that an open view has, `u64::MAX` if none is open: appending over a record whose commit is
    /// younger than this must keep what it hides (`Shard`'s side log).
    pub fn oldest_view(&self) -> u64 {
        todo!()
    }
}

/// How many of a series' newest samples a commit appended, kept while a view is open that must not see them.
#[derive(Clone, Copy, Debug)]
pub struct Hidden {
    /// The series.
    pub id: SeriesId,
    /// The commit.
    pub commit: u64,
    /// Its samples.
    pub samples: u32,
}
