//! What a reader may see: commits are numbered, and a reader sees those up to the newest one of which all before it
//! were applied when it began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::live::index::SeriesId;

/// Numbers of commits and the readers that are open.
#[derive(Debug, Default)]
pub struct Isolation {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was finished.
    finished: Condvar,
    /// The least number that a view has or may get; never falls.
    oldest: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The number given last.
    given: u64,
    /// All commits up to this one are finished.
    applied: u64,
    /// Finished ones behind it; few, in no order.
    ahead: Vec<u64>,
    /// Open views: what they see and how many see so, ascending.
    views: Vec<(u64, u32)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        let oldest = state.views.first().map_or(state.applied, |v| v.0);
        self.oldest.store(oldest, Ordering::Release);
    }
}

/// A reader's view, given back when it is dropped.
#[derive(Debug)]
pub struct ReadView {
    /// All commits up to this number are visible.
    pub visible: u64,
    shared: Arc<Shared>,
}

impl Drop for ReadView {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Ok(at) = state.views.binary_search_by_key(&self.visible, |v| v.0) {
            state.views[at].1 -= 1;
            if state.views[at].1 == 0 {
                state.views.remove(at);
            }
        }
        self.shared.publish(&state);
    }
}

impl Isolation {
    /// Gives a commit its number; called in the order of the log. It must be finished.
    pub fn begin_commit(&self) -> u64 {
        let mut state = self.shared.lock();
        state.given += 1;
        state.given
    }

    /// The commit is applied (or given up).
    pub fn finish_commit(&self, number: u64) {
        let mut state = self.shared.lock();
        if number != state.applied + 1 {
            state.ahead.push(number);
            return;
        }
        state.applied = number;
        while let Some(at) = state.ahead.iter().position(|n| *n == state.applied + 1) {
            state.ahead.swap_remove(at);
            state.applied += 1;
        }
        self.shared.publish(&state);
        drop(state);
        self.shared.finished.notify_all();
    }

    /// Whether all commits before this one are finished.
    pub fn is_next(&self, number: u64) -> bool {
        self.shared.lock().applied + 1 >= number
    }

    /// Waits until all commits before this one, which is begun, are finished. They never wait for it, unless for a lock
    /// that the caller holds.
    pub fn wait_until_next(&self, number: u64) {
        let mut state = self.shared.lock();
        while state.applied + 1 < number {
            state = self.shared.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens a view.
    pub fn view(&self) -> ReadView {
        let mut state = self.shared.lock();
        let visible = state.applied;
        match state.views.last_mut() {
            Some(last) if last.0 == visible => last.1 += 1,
            _ => state.views.push((visible, 1)),
        }
        self.shared.publish(&state);
        ReadView { visible, shared: Arc::clone(&self.shared) }
    }

    /// Number of the newest commit that a view opened now would see.
    pub fn applied(&self) -> u64 {
        self.shared.lock().applied
    }

    /// Open views.
    pub fn open_views(&self) -> usize {
        self.shared.lock().views.iter().map(|v| v.1 as usize).sum()
    }

    /// The oldest number that an open view has, or that one opened from now on may have. Appending over a record whose
    /// commit is younger than this must keep what it hides (`Shard`'s side log). It never falls, so a value read
    /// earlier is only too careful.
    pub fn oldest_view(&self) -> u64 {
        self.shared.oldest.load(Ordering::Acquire)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_visible_when_all_before_it_are_applied() {
        let isolation = Isolation::default();
        let numbers: Vec<u64> = (0..4).map(|_| isolation.begin_commit()).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        for (finished, visible) in [(3, 0), (1, 1), (4, 1), (2, 4)] {
            isolation.finish_commit(finished);
            assert_eq!(isolation.view().visible, visible, "after {finished}");
        }
    }

    #[test]
    fn the_oldest_view_is_that_of_open_readers_or_of_one_to_come() {
        let isolation = Isolation::default();
        let commit = || isolation.finish_commit(isolation.begin_commit());
        commit();
        assert_eq!(isolation.oldest_view(), 1);
        let first = isolation.view();
        commit();
        let (second, third) = (isolation.view(), isolation.view());
        commit();
        assert_eq!((isolation.oldest_view(), isolation.open_views()), (1, 3));
        drop(second);
        assert_eq!(isolation.oldest_view(), 1);
        drop(first);
        assert_eq!(isolation.oldest_view(), 2);
        drop(third);
        assert_eq!((isolation.oldest_view(), isolation.open_views()), (3, 0));
        let begun = isolation.begin_commit();
        commit();
        // The commit behind the one that is not finished must be hidden from a reader that begins now.
        assert_eq!((isolation.oldest_view(), isolation.view().visible), (3, 3));
        isolation.finish_commit(begun);
        assert_eq!(isolation.oldest_view(), 5);
    }
}
