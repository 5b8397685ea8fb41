//! What readers that began earlier must not see: how many of a series' newest samples came with which commit, as far as
//! the record itself does not say it. Empty unless commits overlap with each other or with a reader.
//!
//! Hidden samples are counted from a series' end, so a log of counts is enough, whatever chunk they are in by now. For
//! chunks that were full meanwhile it says how many samples they have.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::live::index::SeriesId;
use crate::live::record::Record;

/// A commit that is this far behind another is no commit ahead of it whose number went round.
const FAR: u32 = 1 << 28;

/// Whether commit `a` came after `b`, by the low 32 bits of their numbers.
fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < FAR
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u32,
    commit: u32,
    samples: u32,
    /// The entry before of the same series: how many entries back, 0 if there is none.
    back: u32,
    is_seal: bool,
}

/// The log of a shard.
#[derive(Debug, Default)]
pub(super) struct HiddenLog {
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    first: u64,
    /// The newest entry of each series.
    newest: HashMap<u32, u64>,
    /// Low bits of what the oldest reader sees, open or to come.
    oldest: u32,
}

impl HiddenLog {
    /// Every reader sees what came up to this commit.
    pub fn set_oldest_view(&mut self, oldest: u64) {
        self.oldest = oldest as u32;
        while let Some(entry) = self.entries.front()
            && !is_after(entry.commit, self.oldest)
        {
            if let Some(newest) = self.newest.get(&entry.id)
                && *newest == self.first
            {
                self.newest.remove(&entry.id);
            }
            self.entries.pop_front();
            self.first += 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > 1024 {
            self.entries = VecDeque::new();
            self.newest = HashMap::new();
        }
    }

    /// Notes in the record that one more sample came with `commit` (0: every reader sees it).
    #[inline]
    pub fn stamp(&mut self, id: SeriesId, record: &mut Record, commit: u32) {
        if record.commit != commit || record.committed == u8::MAX {
            self.change(id, record, commit);
        }
        record.committed += u8::from(commit != 0);
    }

    /// Whether the record's newest samples are to be noted: some reader must not see them, or they lie between such
    /// ones, which are counted from the end. Commits may reach a series in another order than that of their numbers.
    #[inline]
    fn counts(&self, id: SeriesId, record: &Record) -> bool {
        record.committed > 0
            && (is_after(record.commit, self.oldest)
                || !self.entries.is_empty() && self.newest.contains_key(&id.0))
    }

    #[inline]
    fn change(&mut self, id: SeriesId, record: &mut Record, commit: u32) {
        if self.counts(id, record) {
            self.push(id, record.commit, u32::from(record.committed), false);
        }
        record.commit = commit;
        record.committed = 0;
    }

    /// Notes that the chunk that ends with the record's last sample has `samples`.
    pub fn seal(&mut self, id: SeriesId, record: &Record, samples: usize) {
        if self.counts(id, record) {
            self.push(id, record.commit, samples as u32, true);
        }
    }

    #[cold]
    fn push(&mut self, id: SeriesId, commit: u32, samples: u32, is_seal: bool) {
        let number = self.first + self.entries.len() as u64;
        let before = self.newest.insert(id.0, number);
        let back = before.and_then(|b| u32::try_from(number - b).ok()).unwrap_or(0);
        self.entries.push_back(Entry { id: id.0, commit, samples, back, is_seal });
    }

    /// Entries of a series, newest first.
    fn of(&self, id: SeriesId) -> impl Iterator<Item = Entry> {
        let mut next = if self.entries.is_empty() { None } else { self.newest.get(&id.0).copied() };
        std::iter::from_fn(move || {
            let number = next?;
            let entry = *self.entries.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
            next = if entry.back == 0 { None } else { number.checked_sub(u64::from(entry.back)) };
            Some(entry)
        })
    }

    /// How many of the series' newest samples a reader that sees commits up to `visible` must not see: all from the
    /// first one of a later commit on. Nothing is hidden from `u64::MAX`.
    pub fn count(&self, id: SeriesId, record: &Record, visible: u64) -> usize {
        if visible == u64::MAX {
            return 0;
        }
        let visible = visible as u32;
        let (mut passed, mut hidden) = (usize::from(record.committed), 0);
        if passed > 0 && is_after(record.commit, visible) {
            hidden = passed;
        }
        for entry in self.of(id).filter(|e| !e.is_seal) {
            passed += entry.samples as usize;
            if is_after(entry.commit, visible) {
                hidden = passed;
            }
        }
        hidden
    }

    /// Samples of the series' full chunks, newest first, as far back as some may be hidden.
    pub fn sealed(&self, id: SeriesId) -> impl Iterator<Item = usize> {
        self.of(id).filter(|e| e.is_seal).map(|e| e.samples as usize)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.newest.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round() {
        for (a, b, wanted) in [
            (1, 0, true),
            (0, 0, false),
            (0, 1, false),
            (3, u32::MAX, true),
            (u32::MAX, 3, false),
            (5, 4_000_000, false),
            (0, 1 << 31, false),
        ] {
            assert_eq!(is_after(a, b), wanted, "{a} {b}");
        }
    }

    #[test]
    fn counts_are_those_of_a_plain_list() {
        let mut log = HiddenLog::default();
        let mut records = [Record::EMPTY; 5];
        // The commit of each sample.
        let mut plain: [Vec<u64>; 5] = Default::default();
        let mut x = 99u64;
        let mut views: Vec<u64> = Vec::new();
        // Commits that are not finished; they come to the series in any order.
        let (mut open, mut begun, mut applied): (Vec<u64>, u64, u64) = (Vec::new(), 0, 0);
        for _ in 0..400 {
            let mut random = || {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(3);
                (x >> 40) as usize
            };
            while open.is_empty() || open.len() < 3 && random() % 2 == 0 {
                begun += 1;
                open.push(begun);
            }
            let at = random() % open.len();
            let commit = open[at];
            log.set_oldest_view(views.iter().copied().min().unwrap_or(applied));
            for _ in 0..random() % 4 {
                let i = random() % 5;
                for _ in 0..if random() % 50 == 0 { 600 } else { random() % 3 } {
                    if random() % 20 == 0 {
                        log.seal(SeriesId(i as u32), &records[i], 1);
                    }
                    log.stamp(SeriesId(i as u32), &mut records[i], commit as u32);
                    plain[i].push(commit);
                }
            }
            for view in views.iter().chain([&applied]) {
                for (i, commits) in plain.iter().enumerate() {
                    let wanted = commits.iter().position(|c| c > view).map_or(0, |p| commits.len() - p);
                    assert_eq!(log.count(SeriesId(i as u32), &records[i], *view), wanted);
                }
            }
            if random() % 3 > 0 {
                open.swap_remove(at);
                applied = open.iter().min().map_or(begun, |first| first - 1);
            }
            if random() % 5 == 0 && views.len() < 6 {
                views.push(applied);
            }
            if random() % 6 == 0 && !views.is_empty() {
                views.swap_remove(random() % views.len());
            }
        }
        log.set_oldest_view(begun);
        assert!(log.entries.is_empty() && log.newest.is_empty());
    }
}
