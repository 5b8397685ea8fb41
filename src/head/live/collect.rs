//! Taking out of memory what is in blocks: chunks before a time, series that have nothing left, and for how long the
//! log still needs the references of these.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use tsdbctl_storage::StorageError;

use crate::exemplars::Owner;
use crate::live::checkpoint::Checkpointed;
use crate::live::chunk_files::ChunkPlace;
use crate::live::head::{Head, lock, read, write};
use crate::live::index::SeriesId;
use crate::live::record::flags;

/// Candidates that are freed under one lock of the index: its lists are gone through once for all of them.
const FREED_AT_ONCE: usize = 1 << 16;
/// Series looked at under one lock of their shard; ids of one run have the same shard.
const RUN: u32 = 256;

/// What truncating a head needs to know beside the head.
#[derive(Debug, Default)]
pub struct Collection {
    /// Held by what takes series out and by what writes the whole head down: one at a time, so that what is written
    /// down does not contradict itself.
    exclusive: Mutex<Truncated>,
    /// References whose series are not in the head, or under another reference.
    retired: Mutex<HashMap<u64, Retired>>,
    /// References of series that were taken out with a record that says so, and times that none of their samples is behind.
    taken_out: Mutex<HashMap<u64, i64>>,
}

/// How far a head was truncated.
#[derive(Debug, Default)]
pub(crate) struct Truncated {
    /// Up to which time the log was.
    pub(crate) wal_mint: Option<i64>,
}

/// Until when the log needs the series record of a reference that is not that of a live series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    /// No later segment has a record of it.
    pub last_segment: u64,
    /// No sample of it is later, Unix ms.
    pub last_t: i64,
}

impl Retired {
    /// Whether a checkpoint of segments up to `index`, of samples from `mint` on, has to keep its series record.
    pub fn is_needed(&self, index: u64, mint: i64) -> bool {
        self.last_segment > index || self.last_t >= mint
    }
}

impl Collection {
    /// The right to take series out or write all of them down.
    pub(crate) fn exclusive(&self) -> MutexGuard<'_, Truncated> {
        lock(&self.exclusive)
    }

    /// Notes that the log may have records of `series_ref`, which is no live series' first reference: a second
    /// reference of a series' labels, or one of a series that was removed. Loading tells of those it meets.
    pub fn retire(&self, series_ref: u64, until: Retired) {
        let mut all = lock(&self.retired);
        all.entry(series_ref)
            .and_modify(|r| {
                r.last_segment = r.last_segment.max(until.last_segment);
                r.last_t = r.last_t.max(until.last_t);
            })
            .or_insert(until);
    }

    /// What is known of a retired reference.
    pub fn retired(&self, series_ref: u64) -> Option<Retired> {
        lock(&self.retired).get(&series_ref).copied()
    }

    /// The references that a checkpoint has to keep.
    pub(crate) fn needed(&self, index: u64, mint: i64) -> HashSet<u64> {
        let all = lock(&self.retired);
        all.iter().filter(|(_, r)| r.is_needed(index, mint)).map(|(series_ref, _)| *series_ref).collect()
    }

    /// Notes that all that the log has of `series_ref` is in blocks, and in no block is anything later than `last_t`.
    pub fn take_out(&self, series_ref: u64, last_t: i64) {
        lock(&self.taken_out).insert(series_ref, last_t);
    }

    /// References of which a checkpoint needs nothing, with their times.
    pub(crate) fn taken_out(&self) -> HashMap<u64, i64> {
        lock(&self.taken_out).clone()
    }

    /// Forgets those that a durable checkpoint did not keep.
    pub(crate) fn forget_unneeded(&self, index: u64, mint: i64) {
        let mut all = lock(&self.retired);
        all.retain(|_, r| r.is_needed(index, mint));
        all.shrink_to_fit();
        lock(&self.taken_out).retain(|_, last_t| *last_t >= mint);
    }

    /// Number of retired references.
    pub fn retired_count(&self) -> usize {
        lock(&self.retired).len()
    }
}

/// What truncating the memory did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Series that had nothing left and were freed.
    pub series: u64,
    /// The first file of chunks that is still needed.
    pub first_file: u32,
}

/// What truncating did.
#[derive(Clone, Debug, Default)]
pub struct Truncation {
    /// In memory; none if there was nothing before the time.
    pub memory: Option<Collected>,
    /// In the log; none if it has too few segments.
    pub checkpoint: Option<Checkpointed>,
}

impl Head {
    /// Takes out what is before `mint`: of the memory, then of the log, then the files that only had what went. A
    /// block with all in-order samples before `mint` must be there for readers already, and durable, made after
    /// [`Head::end_in_order`]. Who holds a reader must not call this: it waits for them.
    ///
    /// # Errors
    /// If a file cannot be read or written. What was done stays done; the next call goes on.
    pub fn truncate(&self, mint: i64) -> Result<Truncation, StorageError> {
        let had_samples = self.has_samples();
        let memory = self.truncate_memory(mint);
        let checkpoint = if had_samples { self.truncate_wal(mint) } else { Ok(None) };
        // Even if the log could not be truncated, which needs space that these files give back.
        if let Some(collected) = memory {
            self.remove_files_before(collected.first_file)?;
        }
        Ok(Truncation { memory, checkpoint: checkpoint? })
    }

    /// Takes the in-order chunks that end before `mint` out of memory, and the series that have nothing left and no
    /// appends on the way. Waits for readers that began before. Files stay; `None` if nothing is before `mint`.
    pub fn truncate_memory(&self, mint: i64) -> Option<Collected> {
        let _exclusive = self.collection.exclusive();
        if !self.has_samples() {
            self.min_valid_time.fetch_max(mint, Ordering::AcqRel);
            return None;
        }
        if self.min_time.load(Ordering::Acquire) >= mint {
            return None;
        }
        self.end_in_order(mint);
        self.wait_for_readers();
        self.min_time.store(mint, Ordering::Release);
        self.max_time.fetch_max(mint, Ordering::AcqRel);
        // What is really there may begin later. But what appenders may still bring must lie behind the head's start: those
        // that open from now on bring nothing before this, those that are open something that nobody knows.
        let earliest = self.bounds().min_valid_ms;
        let is_quiet = self.open_batches.load(Ordering::Acquire) == 0;
        let (collected, first) = self.collect(mint, None);
        let begins = first.min(earliest);
        if is_quiet && begins > mint {
            self.min_time.store(begins, Ordering::Release);
            self.min_valid_time.fetch_max(begins, Ordering::AcqRel);
        }
        Some(collected)
    }

    /// Frees the series that have nothing left at or after the head's start, as at the end of loading.
    pub fn collect_garbage(&self) -> Collected {
        let _exclusive = self.collection.exclusive();
        self.collect(self.min_valid_time.load(Ordering::Acquire), None).0
    }

    /// Removes the segments of the out-of-order log before `segment`, in which all samples of the out-of-order chunks up to
    /// `up_to` are, and nothing else, which a durable block has by now that readers see; then takes these chunks out of
    /// memory, and never finds them again.
    ///
    /// # Errors
    /// If a file cannot be written or removed. What is in memory is there as long as it would be there again.
    pub fn truncate_out_of_order(&self, up_to: ChunkPlace, segment: u64) -> Result<Collected, StorageError> {
        self.truncate_wbl(segment)?;
        // Else the newest file stays, even if nothing else in it is needed.
        self.files.begin_next()?;
        // From here on the chunks are not there again when the head is opened anew.
        self.files.note_late_end(up_to)?;
        let collected = {
            let _exclusive = self.collection.exclusive();
            self.wait_for_readers();
            self.collect(self.min_time.load(Ordering::Acquire), Some(up_to)).0
        };
        self.remove_files_before(collected.first_file)?;
        Ok(collected)
    }

    /// As [`Head::truncate`], but for the log, which may wait until more of it can go at once.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn truncate_memory_and_files(&self, mint: i64) -> Result<Option<Collected>, StorageError> {
        let collected = self.truncate_memory(mint);
        collected.map_or(Ok(()), |c| self.remove_files_before(c.first_file))?;
        Ok(collected)
    }

    /// Removes the files of chunks before `first`, when the readers are gone that may still know places in them: those
    /// that began before the places were forgotten.
    fn remove_files_before(&self, first: u32) -> Result<(), StorageError> {
        self.wait_for_readers();
        self.files.truncate(first)
    }

    /// Whether there was ever a sample.
    fn has_samples(&self) -> bool {
        self.min_time.load(Ordering::Acquire) != i64::MAX
    }

    /// Waits until all readers are gone that began before this call. A reader's view is a number of a commit, so an
    /// empty commit tells those before from those after.
    pub(super) fn wait_for_readers(&self) {
        let number = self.isolation.begin_commit();
        self.isolation.finish_commit(number);
        let mut pause = Duration::from_micros(100);
        while self.isolation.oldest_view() < number {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Ends the head's range of in-order samples before `mint`: to be called before a block of them is made. From then on
    /// all that is before is there for readers, and nothing is added: batches that began when it could still be are
    /// judged anew at their commit, and those that were judged already are waited for.
    pub fn end_in_order(&self, mint: i64) {
        self.min_valid_time.fetch_max(mint, Ordering::AcqRel);
        let number = self.isolation.begin_commit();
        self.isolation.wait_until_next(number);
        self.isolation.finish_commit(number);
    }

    /// Drops chunks before `mint`, out-of-order ones up to `late`, and frees what is left empty. Time of the first
    /// sample that is left, `mint` without any.
    fn collect(&self, mint: i64, late: Option<ChunkPlace>) -> (Collected, i64) {
        // Asked first: what goes into files while series are looked at may be of series that were.
        let (mut first_t, mut first_file) = (i64::MAX, self.files.current());
        let mut candidates = Vec::new();
        for shard in &self.shards {
            let ids: Vec<SeriesId> = lock(shard).ids().collect();
            for run in ids.chunk_by(|a, b| a.0 / RUN == b.0 / RUN) {
                let mut shard = lock(shard);
                for id in run.iter().copied() {
                    if shard.record(id).is_none() {
                        continue;
                    }
                    if let Some(up_to) = late {
                        shard.drop_out_of_order_up_to(id, up_to.reference());
                    }
                    first_file = first_file.min(shard.drop_chunks_before(id, mint).unwrap_or(u32::MAX));
                    if let Some((first, _)) = shard.times(id) {
                        first_t = first_t.min(first);
                    } else if let Some(record) = shard.record_mut(id)
                        && record.pending == 0
                    {
                        record.flags |= flags::CANDIDATE;
                        candidates.push(id);
                    }
                }
            }
        }
        candidates.sort_unstable();
        let series = candidates.chunks(FREED_AT_ONCE).map(|some| self.free(some, mint)).sum();
        self.forget_ranges_before(mint);
        (Collected { series, first_file }, if first_t == i64::MAX { mint } else { first_t })
    }

    /// Frees those candidates to which nothing was appended since they became candidates. How many there were.
    fn free(&self, candidates: &[SeriesId], mint: i64) -> u64 {
        let mut freed = Vec::with_capacity(candidates.len());
        let mut index = write(&self.index);
        for run in candidates.chunk_by(|a, b| a.0 / RUN == b.0 / RUN) {
            let mut shard = lock(self.shard_of(run[0]));
            for id in run {
                let Some(record) = shard.record(*id) else { continue };
                let (is_idle, series_ref) = (record.pending == 0, record.series_ref);
                if record.flags & flags::CANDIDATE == 0 || !is_idle || shard.times(*id).is_some() {
                    continue;
                }
                // A log knows nothing of a series whose appender gave up while it could not be written.
                if record.flags & flags::LOGGED != 0 {
                    // Asked now that nothing more can be logged: all records of it are in this segment or before, or in
                    // the next if they have to be written again.
                    let last_segment = self.wal.segment().saturating_add(1);
                    let last_t = mint.saturating_sub(1);
                    self.collection.retire(series_ref, Retired { last_segment, last_t });
                }
                shard.remove(*id);
                freed.push(*id);
            }
        }
        index.remove(&freed);
        drop(index);
        self.forget_sides(&freed);
        freed.len() as u64
    }

    /// Forgets what few series have, of series that are gone.
    pub(super) fn forget_sides(&self, gone: &[SeriesId]) {
        let (mut tombstones, mut metadata) = (write(&self.tombstones), lock(&self.metadata));
        let (mut exemplars, mut late_deleted) = (lock(&self.exemplars), lock(&self.late_deleted));
        for id in gone {
            tombstones.remove(id);
            late_deleted.remove(id);
            metadata.remove(id);
            exemplars.remove(Owner::Slot(id.0));
        }
    }

    /// Forgets deleted ranges that end before `mint`, unless the series still has samples there, which came out of order.
    fn forget_ranges_before(&self, mint: i64) {
        let with_ranges: Vec<SeriesId> = read(&self.tombstones).keys().copied().collect();
        let begins = |id: SeriesId| lock(self.shard_of(id)).times(id).map_or(mint, |times| times.0.min(mint));
        let begins: HashMap<SeriesId, i64> = with_ranges.into_iter().map(|id| (id, begins(id))).collect();
        let mut tombstones = write(&self.tombstones);
        tombstones.retain(|id, ranges| {
            let begins = begins.get(id).copied().unwrap_or(i64::MIN);
            ranges.retain(|(_, last)| *last >= begins);
            !ranges.is_empty()
        });
        drop(tombstones);
        lock(&self.late_deleted).retain(|id, stones| {
            let begins = begins.get(id).copied().unwrap_or(i64::MIN);
            stones.retain(|stone| stone.maxt >= begins);
            !stones.is_empty()
        });
    }
}
