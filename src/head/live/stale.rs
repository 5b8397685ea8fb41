//! Series that went stale, on their way into blocks before their time: they are written down and taken out, while the
//! head goes on where it is.
//!
//! A record that deletes the whole series, by its reference, tells whoever reads the log that what it has of it before is
//! in a block. Upstream's is the same. It is logged before a series with the same labels can be: what comes behind it is
//! another series.

use std::sync::Arc;

use tsdbctl_storage::StorageError;
use tsdbctl_wal::RecordPacker;
use tsdbctl_wal::record::{TombstoneEntry, encode};

use crate::live::block_source::HeadSource;
use crate::live::head::{Head, lock, write};
use crate::live::index::SeriesId;
use crate::live::record::flags;
use crate::live::series_order::SeriesOrder;
use crate::loss::storage_error;

/// Series that are taken out under one lock of the index.
const AT_ONCE: usize = 1 << 14;
/// Series in one record.
const ENTRIES: usize = 4096;

/// Series that were stale at one time.
#[derive(Debug)]
pub struct StaleSeries {
    head: Arc<Head>,
    order: Arc<SeriesOrder>,
    /// By number, with the time of their last sample.
    seen: Vec<(SeriesId, i64)>,
    /// Time of the earliest sample, Unix ms.
    pub mint: i64,
    /// Time of the latest sample, Unix ms.
    pub maxt: i64,
}

impl Head {
    /// How many series ended with a stale marker, and how many there are.
    pub fn count_stale(&self) -> (usize, usize) {
        let (mut stale, mut all) = (0, 0);
        for shard in &self.shards {
            let shard = lock(shard);
            for id in shard.ids() {
                all += 1;
                stale += usize::from(shard.record(id).is_some_and(|r| r.has(flags::STALE)));
            }
        }
        (stale, all)
    }

    /// The series that ended with a stale marker and have nothing out of order (that goes into blocks of its own);
    /// `None` without any.
    pub fn stale_series(self: &Arc<Self>) -> Option<StaleSeries> {
        let mut seen = Vec::new();
        let (mut mint, mut maxt) = (i64::MAX, i64::MIN);
        for shard in &self.shards {
            let shard = lock(shard);
            for id in shard.ids() {
                let is_stale = shard.record(id).is_some_and(|r| r.has(flags::STALE)) && !shard.has_late(id);
                if is_stale && let Some((first, last)) = shard.in_order_times(id) {
                    seen.push((id, last));
                    (mint, maxt) = (mint.min(first), maxt.max(last));
                }
            }
        }
        if seen.is_empty() {
            return None;
        }
        seen.sort_unstable();
        let order = SeriesOrder::new(self, seen.iter().map(|s| s.0).collect());
        Some(StaleSeries { head: Arc::clone(self), order: Arc::new(order), seen, mint, maxt })
    }
}

impl StaleSeries {
    /// Number of series.
    pub fn series(&self) -> usize {
        self.seen.len()
    }

    /// What they have at `mint..=maxt`, Unix ms, for a block.
    pub fn source(&self, mint: i64, maxt: i64) -> HeadSource {
        HeadSource::of_series(&self.head, Arc::clone(&self.order), mint, maxt)
    }

    /// Takes them out of the head, but for those to which anything was appended since, or is about to be: all they have is
    /// in durable blocks, which readers see. How many went. Waits for readers that began before.
    ///
    /// # Errors
    /// If that could not be logged: series that are out of memory are there again, with what is in the blocks, when the
    /// head is opened anew.
    pub fn take_out(self) -> Result<u64, StorageError> {
        let head = &self.head;
        let _exclusive = head.collection.exclusive();
        head.wait_for_readers();
        let mut packer = RecordPacker::new(head.options.log.compression);
        let mut total = 0;
        for some in self.seen.chunks(AT_ONCE) {
            let (mut gone, mut stones) = (Vec::new(), Vec::new());
            let mut log = head.wal.lock();
            let mut index = write(&head.index);
            for run in some.chunk_by(|a, b| a.0.0 >> 8 == b.0.0 >> 8) {
                let mut shard = lock(head.shard_of(run[0].0));
                for (id, last) in run {
                    let Some(record) = shard.record(*id) else { continue };
                    // Samples in order come behind each other, so the same last time means the same samples.
                    let is_as_seen = record.has(flags::STALE)
                        && record.last_t() == Some(*last)
                        && record.pending == 0
                        && !shard.has_late(*id);
                    if !is_as_seen {
                        continue;
                    }
                    let (series, mint, maxt) = (record.series_ref, i64::MIN, i64::MAX);
                    stones.push(TombstoneEntry { series, mint, maxt });
                    head.collection.take_out(series, *last);
                    shard.remove(*id);
                    gone.push(*id);
                }
            }
            index.remove(&gone);
            let records: Vec<_> = stones
                .chunks(ENTRIES)
                .map(|entries| {
                    let mut record = Vec::new();
                    encode::tombstones(&mut record, entries);
                    packer.pack(&record)
                })
                .collect();
            let logged = if records.is_empty() { None } else { Some(log.append(&records)) };
            drop(index);
            drop(log);
            head.forget_sides(&gone);
            total += gone.len() as u64;
            if let Some(logged) = logged {
                head.wal.wait(logged.map_err(storage_error)?).map_err(storage_error)?;
            }
        }
        Ok(total)
    }
}
