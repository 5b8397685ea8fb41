//! What is done with blocks: the head is cut, blocks are compacted, downsampled, removed, and made of older samples.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tsdbctl_block::{Block, BlockMeta, BlockSource, Interval, Tombstones};
use tsdbctl_chunk::AppenderOptions;
use tsdbctl_model::Matcher;
use tsdbctl_platform::clock::Clock;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::random::SeededRandom;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World as Outside;
use tsdbctl_storage::{ChunkSource, Control, StorageError};
use tsdbctl_testkit::scratch_in_memory;
use tsdbctl_tsdb::backfill::{Backfill, BackfillOptions};
use tsdbctl_tsdb::compaction::{self, Event as Compacting};
use tsdbctl_tsdb::compaction_plan::CompactionOptions;
use tsdbctl_tsdb::downsampling::run::{self as downsampling, DownsamplingOptions};
use tsdbctl_tsdb::head_blocks::CutOptions;
use tsdbctl_tsdb::retention::Retention;
use tsdbctl_tsdb::retention_rules::{Rule, Rules};
use tsdbctl_tsdb::{BlockEntry, Database, LiveDatabase, OpenOptions};

use crate::images::copy_into;
use crate::model::{Batch, Deletion, Event, Offer};
use crate::world::{BLOCK_MS, World, float};

/// All names.
const ANY: &str = "*";

#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A disk with a clock and random numbers of its own.
pub fn outside(disk: Arc<dyn Disk>, now_ms: i64, seed: u64) -> Outside {
    Outside { disk, clock: Arc::new(At(now_ms)), random: Arc::new(SeededRandom::new(seed)) }
}

/// Three levels.
pub fn compaction_options() -> CompactionOptions {
    CompactionOptions {
        ranges_ms: vec![BLOCK_MS, 3 * BLOCK_MS, 9 * BLOCK_MS],
        ..CompactionOptions::default()
    }
}

/// Compacts the directory, which may be open.
pub fn compact(
    outside: &Outside,
    dir: &Path,
    options: &CompactionOptions,
    db: Option<&LiveDatabase>,
) -> Result<(), StorageError> {
    let outcome = compaction::compact(outside, dir, options, &Control::default(), &mut |event| {
        let gone: Vec<&str> = match &event {
            Compacting::Installed(_, blocks) => blocks.iter().map(|b| &*b.meta.ulid).collect(),
            Compacting::Removing(blocks) => blocks.iter().map(|(b, _)| &*b.meta.ulid).collect(),
            _ => return,
        };
        let into = if let Compacting::Installed(Some(into), _) = &event { Some(*into) } else { None };
        if let Some(db) = db {
            let new = into.and_then(|b| BlockEntry::read(&dir.join(&b.meta.ulid)).ok());
            db.replace_blocks(&gone, new.into_iter().collect());
        }
    });
    assert!(outcome.quarantined.is_empty(), "nothing is damaged: {outcome:?}");
    assert!(outcome.left_alone.is_empty(), "all can be judged: {outcome:?}");
    outcome.stopped.map_or(Ok(()), Err)
}

/// Downsamples the directory; raw samples stay.
pub fn downsample(outside: &Outside, dir: &Path) -> Result<(), StorageError> {
    let options = DownsamplingOptions::default();
    let outcome = downsampling::run(outside, dir, &options, &Control::default(), &mut |_| {})?;
    assert!(outcome.quarantined.is_empty(), "nothing is damaged: {outcome:?}");
    outcome.stopped.map_or(Ok(()), Err)
}

/// References of a block's series, in their order.
fn references(block: &Path) -> Vec<u64> {
    let bytes = std::fs::read(block.join("index")).unwrap();
    let at =
        |o: usize| u64::from_be_bytes(bytes[bytes.len() - 52 + o * 8..][..8].try_into().unwrap()) as usize;
    // The first list is that of all series.
    let list = &bytes[at(4) + 4..];
    let count = u32::from_be_bytes(list[..4].try_into().unwrap()) as usize;
    list[4..].chunks(4).take(count).map(|r| u64::from(u32::from_be_bytes(r.try_into().unwrap()))).collect()
}

/// Names of a block's series, in their order; wholly deleted ones too.
fn names(block: &Path) -> Vec<String> {
    let whole = scratch_in_memory();
    copy_into(block, whole.path());
    Tombstones::default().replace(&RealDisk, whole.path()).unwrap();
    let block = Arc::new(Block::open(whole.path()).unwrap());
    let mut source = BlockSource::new(block, i64::MIN, i64::MAX).unwrap();
    let (mut symbols, mut names) = (Vec::new(), Vec::new());
    source
        .symbols(&mut |s| {
            symbols.push(s.to_owned());
            Ok(())
        })
        .unwrap();
    while source.next().unwrap() {
        names.push(symbols[source.labels()[0].1 as usize].clone());
    }
    names
}

impl World {
    fn outside(&mut self) -> Outside {
        self.seed += 1;
        outside(self.disk.clone(), self.t, self.seed)
    }

    fn cut_with(
        &mut self,
        what: &str,
        cut: impl FnOnce(&LiveDatabase, &Outside, &CutOptions, &Control) -> Result<Vec<BlockMeta>, StorageError>,
    ) -> usize {
        let outside = self.outside();
        let Some(db) = &self.db else { return 0 };
        let done = cut(db, &outside, &CutOptions::default(), &Control::default());
        let made = self.expect(done, what);
        assert!(!self.well || made.as_ref().is_some_and(|made| !made.is_empty()), "{what}: nothing was cut");
        made.map_or(0, |made| made.len())
    }

    /// Cuts off whole ranges.
    pub fn cut(&mut self) -> usize {
        self.cut_with("cut", |db, outside, options, control| db.cut_head(outside, options, control))
    }

    /// Cuts off late samples.
    pub fn cut_late(&mut self) -> usize {
        self.cut_with("cut late", |db, outside, options, control| db.cut_late(outside, options, control))
    }

    /// Cuts out stale series.
    pub fn cut_stale(&mut self) -> usize {
        self.cut_with("cut stale", |db, outside, options, control| {
            // However few they are beside the others.
            db.cut_stale(f64::MIN_POSITIVE, outside, options, control)
        })
    }

    /// Puts all of the head into blocks.
    pub fn flush(&mut self) -> usize {
        self.cut_with("flush", |db, outside, options, control| db.flush_head(outside, options, control))
    }

    /// Compacts.
    pub fn compact(&mut self, options: &CompactionOptions) {
        let outside = self.outside();
        if self.dir.is_dir() {
            let done = compact(&outside, &self.dir, options, self.db.as_ref());
            self.expect(done, "compaction");
        }
    }

    /// Compacts and keeps the last `keep_ms`.
    pub fn retain_time(&mut self, keep_ms: i64) {
        self.expire(ANY, self.t - keep_ms);
        let retention = Retention { time_ms: keep_ms, ..Retention::default() };
        self.compact(&CompactionOptions { retention, ..compaction_options() });
    }

    /// Compacts and keeps a byte less than there is, once.
    pub fn retain_size(&mut self) {
        let Ok(db) = Database::open(std::slice::from_ref(&self.dir), OpenOptions::default()) else { return };
        let newest = db.blocks().iter().map(|b| b.meta.min_time).max().unwrap_or(i64::MIN);
        let blocks: u64 = db.blocks().iter().map(|b| b.size_bytes().unwrap()).sum();
        drop(db);
        let Ok(head) = compaction::head_bytes(&self.dir) else { return };
        self.expire(ANY, newest);
        let retention = Retention { size_bytes: head.unwrap_or(0) + blocks - 1, ..Retention::default() };
        self.compact(&CompactionOptions { retention, ..compaction_options() });
    }

    /// Compacts and keeps the last `keep_ms` of a series.
    pub fn retain_rule(&mut self, name: &str, keep_ms: i64) {
        self.expire(name, self.t - keep_ms);
        let matchers = vec![Matcher::equal("__name__", name)];
        let rules = Rules(vec![Rule { selector: name.to_string(), matchers, keep_ms }]);
        self.compact(&CompactionOptions { rules, ..compaction_options() });
    }

    /// What is before `before` may be gone from here on.
    fn expire(&mut self, name: &str, before: i64) {
        let deletion = Deletion { name: name.to_string(), mint: i64::MIN, maxt: before - 1 };
        self.tell(Event::DeletionBegun(deletion));
    }

    /// Downsamples what is old or long enough.
    pub fn downsample(&mut self) {
        let outside = self.outside();
        if self.dir.is_dir() {
            let done = downsample(&outside, &self.dir);
            self.expect(done, "downsampling");
        }
    }

    /// Makes blocks of samples of some series; the directory must not be open.
    pub fn backfill(&mut self, series: &[&str], times: impl Iterator<Item = i64>, block_ms: i64) {
        self.close();
        let options = BackfillOptions {
            block_ms,
            memory_bytes: 1 << 20,
            allow_overlap: true,
            chunks: AppenderOptions::default(),
        };
        let outside = self.outside();
        let offers: Vec<Offer> =
            times.flat_map(|t| series.iter().map(move |name| float(name, t, 0.75))).collect();
        self.told.sent.extend(offers.iter().map(|o| ((o.name.clone(), o.t), o.value.code())));
        let make = || -> Result<(), String> {
            let mut backfill = Backfill::open(outside, &self.dir, options).map_err(|e| e.to_string())?;
            for Offer { name, t, value } in &offers {
                let crate::model::Value::Float(v) = value else { continue };
                let id = backfill.series([("__name__", &**name), ("job", "crash")].into_iter());
                backfill.float(id, *t, *v, 0);
                backfill.check().map_err(|e| e.to_string())?;
            }
            backfill.finish(&Control::default()).map(|_| ()).map_err(|e| e.to_string())
        };
        match make() {
            Ok(()) => {
                let samples = offers.iter().map(|o| (o.name.clone(), o.t)).collect();
                self.tell(Event::Acknowledged(Batch { samples, ..Batch::default() }));
            }
            Err(e) => assert!(!self.well, "backfill: {e}"),
        }
    }

    /// Deletes a range of a series in all blocks; the directory must not be open.
    pub fn delete_in_blocks(&mut self, name: &str, mint: i64, maxt: i64) {
        let deletion = Deletion { name: name.to_string(), mint, maxt };
        self.tell(Event::DeletionBegun(deletion.clone()));
        let db = Database::open(std::slice::from_ref(&self.dir), OpenOptions::default()).unwrap();
        for entry in db.blocks().iter().filter(|b| b.meta.overlaps(mint, maxt)) {
            let Some(i) = names(&entry.dir).iter().position(|n| n == name) else { continue };
            let mut tombstones = Tombstones::read(&entry.dir).unwrap();
            tombstones.insert(references(&entry.dir)[i], Interval { mint, maxt });
            tombstones.replace(&*self.disk, &entry.dir).unwrap();
            let mut meta = entry.meta.clone();
            meta.stats.num_tombstones = tombstones.len() as u64;
            meta.replace(&*self.disk, &entry.dir).unwrap();
        }
        self.tell(Event::Deleted(deletion));
    }

    /// How many blocks count.
    pub fn blocks(&self) -> usize {
        Database::open(std::slice::from_ref(&self.dir), OpenOptions::default())
            .map_or(0, |db| db.blocks().len())
    }
}

/// Whether a deletion is of all series, or of this one.
pub fn is_of(deletion: &Deletion, name: &str) -> bool {
    deletion.name == ANY || deletion.name == name
}
