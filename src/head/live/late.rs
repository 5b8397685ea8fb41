//! The out-of-order samples of a head on their way into blocks: everything there is goes into chunks up to a place, and
//! the out-of-order log begins a segment behind them, so that both can be cut off there when the blocks are durable.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tsdbctl_storage::StorageError;

use crate::live::block_source::HeadSource;
use crate::live::chunk_files::ChunkPlace;
use crate::live::collect::Collected;
use crate::live::commit::pay_debt;
use crate::live::head::{Head, lock};
use crate::live::index::SeriesId;
use crate::live::series_order::SeriesOrder;
use crate::live::shard::Shard;
use crate::loss::storage_error;

/// The out-of-order samples that a head had at one time.
#[derive(Debug)]
pub struct SealedLate {
    head: Arc<Head>,
    order: Arc<SeriesOrder>,
    /// The last chunk.
    up_to: ChunkPlace,
    /// Samples that came later are in this segment of the out-of-order log or behind; 0 if there is none.
    segment: u64,
    /// Time of the earliest sample, Unix ms.
    pub mint: i64,
    /// Time of the latest sample, Unix ms.
    pub maxt: i64,
}

impl Head {
    /// Puts all out-of-order samples into chunks; `None` if there are none.
    ///
    /// # Errors
    /// If the system refuses: what there is stays as it was.
    pub fn seal_out_of_order(self: &Arc<Self>) -> Result<Option<SealedLate>, StorageError> {
        // Most of the work while others go on.
        if self.seal_late_series()?.is_none() {
            return Ok(None);
        }
        let (segment, sealed) = {
            // Nobody adds any as long as these are held: so what is in memory is in the segments before, all of it, and
            // none is in a chunk up to the last one that is not among these.
            let log = lock(&self.wbl);
            let mut adding = log.as_ref().map(|log| log.lock());
            let segment = match &mut adding {
                Some(guard) => {
                    pay_debt(self, guard)?;
                    guard.next_segment().map_err(storage_error)?
                }
                None => 0,
            };
            (segment, self.seal_late_series()?)
        };
        let Some((ids, (up_to, mint, maxt))) = sealed else { return Ok(None) };
        let order = Arc::new(SeriesOrder::new(self, ids));
        Ok(Some(SealedLate { head: Arc::clone(self), order, up_to, segment, mint, maxt }))
    }

    /// Puts out-of-order samples into chunks. The series that have such chunks, and of all of these the last place and the
    /// times; `None` without any.
    #[allow(clippy::type_complexity)]
    fn seal_late_series(&self) -> Result<Option<(Vec<SeriesId>, (ChunkPlace, i64, i64))>, StorageError> {
        let mut ids = Vec::new();
        let mut all: Option<(ChunkPlace, i64, i64)> = None;
        for shard in &self.shards {
            let late: Vec<SeriesId> = {
                let shard = lock(shard);
                shard.ids().filter(|id| shard.has_late(*id)).collect()
            };
            for id in late {
                let (chunks, is_complete) =
                    lock(shard).seal_out_of_order(id, &self.options.rules, &self.files);
                if !is_complete {
                    // This says why.
                    self.files.flush()?;
                    let cause = std::io::Error::other("out-of-order samples could not be written");
                    let dir = self.dir.join("chunks_head");
                    return Err(tsdbctl_platform::file::FileError::new("write", &dir, cause).into());
                }
                if let Some(chunks) = chunks {
                    ids.push(id);
                    all = Some(
                        all.map_or(chunks, |a| (a.0.max(chunks.0), a.1.min(chunks.1), a.2.max(chunks.2))),
                    );
                }
            }
        }
        Ok(all.map(|all| (ids, all)))
    }

    /// Looks for the earliest and the latest sample out of order that are left.
    fn find_late_times(&self) {
        // Nobody adds any as long as these are held.
        let log = lock(&self.wbl);
        let _adding = log.as_ref().map(|log| log.lock());
        let times = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            let all = shard.ids().filter_map(|id| shard.late_times(id));
            all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        };
        let all = self.shards.iter().filter_map(times).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (first, last) = all.unwrap_or((i64::MAX, i64::MIN));
        self.min_out_of_order_time.store(first, Ordering::Release);
        self.max_out_of_order_time.store(last, Ordering::Release);
    }
}

impl SealedLate {
    /// Those of `mint..=maxt`, Unix ms, for a block.
    pub fn source(&self, mint: i64, maxt: i64) -> HeadSource {
        HeadSource::late(&self.head, Arc::clone(&self.order), self.up_to, mint, maxt)
    }

    /// The ranges of `width_ms`, aligned, that they lie in, by start; the ends exclusive. In some there may be none after
    /// all.
    pub fn ranges(&self, width_ms: i64) -> Vec<(i64, i64)> {
        let mut starts = BTreeSet::new();
        let mut chunks = Vec::new();
        for id in self.order.ids() {
            chunks.clear();
            lock(self.head.shard_of(*id)).late_chunks(*id, self.up_to, &mut chunks);
            for (_, mint, maxt) in &chunks {
                let first = mint.div_euclid(width_ms).saturating_mul(width_ms);
                let next = |start: &i64| start.checked_add(width_ms).filter(|start| start <= maxt);
                starts.extend(std::iter::successors(Some(first), next));
            }
        }
        starts.into_iter().map(|start| (start, start.saturating_add(width_ms))).collect()
    }

    /// Takes them out of the head: they are in durable blocks, which readers see.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn take_out(self) -> Result<Collected, StorageError> {
        let collected = self.head.truncate_out_of_order(self.up_to, self.segment)?;
        self.head.find_late_times();
        Ok(collected)
    }
}
