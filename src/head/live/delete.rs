//! Deletion: ranges of series become tombstones, logged, then hidden from readers.

use std::sync::atomic::Ordering;

use tsdbctl_model::Matcher;
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_wal::RecordPacker;
use tsdbctl_wal::record::{TombstoneEntry, encode};

use crate::live::commit::pay_debt;
use crate::live::head::{Head, lock, read, write};
use crate::live::index::SeriesId;
use crate::loss::storage_error;

impl Head {
    /// Deletes the samples in `mint..=maxt`, as far as there are any now, of the series that satisfy all matchers;
    /// durable afterwards. Says how many series have samples in the range.
    ///
    /// # Errors
    /// If it could not be logged: nothing is deleted. If it is not known to be durable.
    pub fn delete(
        &self,
        mint: i64,
        maxt: i64,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<usize, StorageError> {
        let time = |t: &std::sync::atomic::AtomicI64| t.load(Ordering::Acquire);
        let mint = mint.max(time(&self.min_time).min(time(&self.min_out_of_order_time)));
        let maxt = maxt.min(time(&self.max_time).max(time(&self.max_out_of_order_time)));
        if mint > maxt {
            return Ok(0);
        }
        let ids = read(&self.index).select(matchers, control)?;
        let mut stones: Vec<(SeriesId, TombstoneEntry)> = Vec::new();
        for run in ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            let shard = lock(self.shard_of(run[0]));
            for id in run {
                let (Some(record), Some((first, last))) = (shard.record(*id), shard.times(*id)) else {
                    continue;
                };
                // Not beyond what is there: samples to come are not deleted.
                let (mint, maxt) = (mint.max(first), maxt.min(last));
                if mint <= maxt {
                    stones.push((*id, TombstoneEntry { series: record.series_ref, mint, maxt }));
                }
            }
        }
        if stones.is_empty() {
            return Ok(0);
        }
        // First the samples: were they lost and the ranges not, the ranges would hide samples that come instead of them.
        let position = self.wal.lock().append(&[]).map_err(storage_error)?;
        self.wal.wait(position).map_err(storage_error)?;
        let wbl = lock(&self.wbl).clone();
        if let Some(log) = wbl {
            let mut guard = log.lock();
            pay_debt(self, &mut guard)?;
            let position = guard.append(&[]).map_err(storage_error)?;
            drop(guard);
            log.wait(position).map_err(storage_error)?;
        }
        let entries: Vec<TombstoneEntry> = stones.iter().map(|s| s.1).collect();
        let mut record = Vec::new();
        encode::tombstones(&mut record, &entries);
        let packed = RecordPacker::new(self.options.log.compression).pack(&record);
        let position = self.wal.lock().append(&[packed]).map_err(storage_error)?;
        self.delete_late(stones.iter().map(|(id, stone)| (*id, stone.mint, stone.maxt)));
        let mut tombstones = write(&self.tombstones);
        for (id, stone) in &stones {
            add_range(tombstones.entry(*id).or_default(), stone.mint, stone.maxt);
        }
        drop(tombstones);
        self.wal.wait(position).map_err(storage_error)?;
        Ok(stones.len())
    }
}

/// Ranges of time, Unix ms, both ends inclusive.
pub(super) type Ranges = Vec<(i64, i64)>;

/// A deletion of what a series has out of order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateStone {
    /// Chunks from this reference on came behind it.
    pub end: u64,
    /// First time, Unix ms.
    pub mint: i64,
    /// Last time, Unix ms.
    pub maxt: i64,
}

impl Head {
    /// Notes of which late samples deletions are: those that the series have now. Readers do not see the later ones either,
    /// as upstream's do not, but a block of them has them.
    pub(super) fn delete_late(&self, stones: impl Iterator<Item = (SeriesId, i64, i64)>) {
        // Nobody adds any as long as these are held.
        let log = lock(&self.wbl);
        let _adding = log.as_ref().map(|log| log.lock());
        let mut late_deleted = lock(&self.late_deleted);
        for (id, mint, maxt) in stones {
            let is_in_chunks = {
                let mut shard = lock(self.shard_of(id));
                !shard.has_late(id) || shard.seal_out_of_order(id, &self.options.rules, &self.files).1
            };
            // In doubt it is deleted.
            let end = if is_in_chunks { self.files.end() } else { u64::MAX };
            late_deleted.entry(id).or_default().push(LateStone { end, mint, maxt });
        }
    }
}

/// Adds a range to sorted ones that lie apart; those that touch become one.
pub fn add_range(ranges: &mut Vec<(i64, i64)>, mint: i64, maxt: i64) {
    let from = ranges.partition_point(|r| r.1 < mint.saturating_sub(1));
    let to = ranges.partition_point(|r| r.0 <= maxt.saturating_add(1));
    let joined = ranges[from..to.max(from)].iter().fold((mint, maxt), |a, r| (a.0.min(r.0), a.1.max(r.1)));
    ranges.splice(from..to.max(from), [joined]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        type Ranges = &'static [(i64, i64)];
        let cases: &[(Ranges, (i64, i64), Ranges)] = &[
            (&[], (1, 2), &[(1, 2)]),
            (&[(5, 7)], (1, 3), &[(1, 3), (5, 7)]),
            (&[(5, 7)], (1, 4), &[(1, 7)]),
            (&[(5, 7)], (9, 9), &[(5, 7), (9, 9)]),
            (&[(5, 7)], (8, 9), &[(5, 9)]),
            (&[(1, 2), (5, 7), (10, 11)], (3, 8), &[(1, 8), (10, 11)]),
            (&[(1, 2), (5, 7), (10, 11)], (3, 9), &[(1, 11)]),
            (&[(1, 20)], (3, 9), &[(1, 20)]),
            (&[(1, 2), (5, 6)], (i64::MIN, i64::MAX), &[(i64::MIN, i64::MAX)]),
        ];
        for (before, (mint, maxt), after) in cases {
            let mut ranges = before.to_vec();
            add_range(&mut ranges, *mint, *maxt);
            assert_eq!(ranges, *after, "{before:?} and {mint}..={maxt}");
        }
    }
}
