//! The head as a whole: what it is made of, how it is opened and closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use tsdbctl_platform::disk::{Disk, create_dir_all};
use tsdbctl_platform::file::is_dir;
use tsdbctl_storage::append::Refusal;
use tsdbctl_storage::{Control, Loss, StorageError};
use tsdbctl_wal::page::PAGE_BYTES;
use tsdbctl_wal::{LogOptions, LogWriter, Mended, PackedRecord, mend};

use crate::exemplars::Exemplars;
use crate::live::chunk_files::{ChunkFiles, FILE_BYTES};
use crate::live::collect::Collection;
use crate::live::delete::{LateStone, Ranges};
use crate::live::index::{Index, SeriesId};
use crate::live::isolation::Isolation;
use crate::live::load::load;
use crate::live::record::flags;
use crate::live::shard::{Bounds, ChunkRules, Shard};
use crate::live::snapshot::{self, remove_older};
use crate::live::state_file::StateFile;
use crate::loss::storage_error;
use crate::replay::Metadata;

/// Samples or new series between two looks at the memory: a look takes every shard's lock. With many series there are
/// more samples between: a spill should find some in each chunk.
const MEMORY_LOOK_SAMPLES: u64 = 1 << 16;
const MEMORY_LOOK_SERIES: u64 = 1 << 10;
/// Over the memory limit, the open chunks of this part of the shards are sealed at a time.
const SPILL_PART: usize = 4;
/// Upstream's references end here: chunk references have 40 bits for them.
const MAX_REF: u64 = 1 << 40;

/// How a head is run. Defaults are upstream's.
#[derive(Clone, Copy, Debug)]
pub struct LiveOptions {
    /// Chunks.
    pub rules: ChunkRules,
    /// The logs.
    pub log: LogOptions,
    /// How far a sample may lie behind the head's newest one, ms; 0 takes none out of order.
    pub out_of_order_window_ms: i64,
    /// Exemplars kept; 0 switches them off.
    pub max_exemplars: usize,
    /// Metadata goes into the log (upstream's `metadata-wal-records`).
    pub metadata_records: bool,
    /// Bytes the head may take; more is spilled, then refused.
    pub memory_limit: u64,
    /// A chunk snapshot is written at close and used at open (upstream's `memory-snapshot-on-shutdown`).
    pub snapshot_on_close: bool,
    /// A file of full chunks ends at this length, bytes (at most 128 MiB, upstream's).
    pub chunk_file_bytes: u64,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            rules: ChunkRules {
                chunk_range_ms: 7_200_000,
                samples_per_chunk: 120,
                seal_bytes: 256,
                xor2: false,
                start_timestamps: false,
                histogram_start_timestamps: false,
                out_of_order_cap: 32,
            },
            log: LogOptions::default(),
            out_of_order_window_ms: 0,
            max_exemplars: 0,
            metadata_records: false,
            memory_limit: u64::MAX,
            snapshot_on_close: false,
            chunk_file_bytes: FILE_BYTES,
        }
    }
}

/// A head that takes samples. Shared by threads.
#[derive(Debug)]
pub struct Head {
    /// How it is run.
    pub options: LiveOptions,
    /// Where its files are written.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub dir: PathBuf,
    /// `wal/`.
    pub wal: Arc<LogWriter>,
    /// `wbl/`, begun with the first out-of-order sample.
    pub wbl: Mutex<Option<Arc<LogWriter>>>,
    /// Records for `wbl/` that could not be written although their samples are in memory. They go first; until they
    /// are written nothing more is taken out of order. Locked only by who has the right to append to `wbl/`.
    pub(crate) wbl_debt: Mutex<Vec<PackedRecord>>,
    /// Labels.
    pub index: RwLock<Index>,
    /// Samples: series `id` is in `shards[(id >> 8) % shards.len()]`.
    pub shards: Box<[Mutex<Shard>]>,
    /// `chunks_head/`.
    pub files: ChunkFiles,
    /// Commits and readers.
    pub isolation: Isolation,
    /// Deleted ranges, sorted and apart.
    pub tombstones: RwLock<HashMap<SeriesId, Vec<(i64, i64)>>>,
    /// Of the series of these: which late samples they are of.
    pub(crate) late_deleted: Mutex<HashMap<SeriesId, Vec<LateStone>>>,
    /// The newest metadata of each series.
    pub metadata: Mutex<HashMap<SeriesId, Metadata>>,
    /// The newest exemplars.
    pub(crate) exemplars: Mutex<Exemplars>,
    /// The next new series' reference; 1 in a new head.
    pub next_ref: AtomicU64,
    /// Earliest in-order sample time, `i64::MAX` without samples.
    pub min_time: AtomicI64,
    /// Latest in-order sample time, `i64::MIN` without samples.
    pub max_time: AtomicI64,
    /// Earliest time of a sample out of order, `i64::MAX` without any.
    pub min_out_of_order_time: AtomicI64,
    /// Latest time of a sample out of order, `i64::MIN` without any.
    pub max_out_of_order_time: AtomicI64,
    /// In-order samples before this are in blocks.
    pub min_valid_time: AtomicI64,
    /// Appenders with a batch that is neither committed nor rolled back.
    pub open_batches: AtomicUsize,
    /// What was taken out, and what of it the log still needs.
    pub collection: Collection,
    memory: MemoryGauge,
    state_file: Option<StateFile>,
}

/// When memory was looked at, and what was seen.
#[derive(Debug, Default)]
struct MemoryGauge {
    samples: AtomicU64,
    series: AtomicU64,
    /// No more series are taken.
    full: AtomicBool,
    /// The next shard to spill.
    next: AtomicUsize,
    /// Bytes after the last spill: without growth nothing is gained by another.
    spilled_at: AtomicU64,
}

/// What opening a head met.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// What could not be used.
    pub losses: Vec<Loss>,
    /// Samples that were read from the logs.
    pub samples: u64,
    /// Samples of series that are not known.
    pub unknown_series: u64,
    /// Chunks in files whose series is not known.
    pub unclaimed_chunks: u64,
    /// What was done to the logs so that they can be appended to.
    pub mended: Vec<Mended>,
}

/// A lock that does not care whether somebody panicked while holding it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], to read.
pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], to write.
pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Shards of a new head: so many that appenders on all cores seldom meet.
pub(crate) fn shard_count() -> usize {
    std::thread::available_parallelism().map_or(4, |n| n.get().saturating_mul(4)).clamp(4, 64)
}

impl Head {
    /// Opens the head of a data directory (whose lock the caller holds) for appending: loads what is there, mends the
    /// logs, begins a new segment. `min_valid_time` is the end of the newest block made of in-order samples.
    ///
    /// # Errors
    /// If a file cannot be read or written, or the memory limit does not suffice.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LiveOptions,
        min_valid_time: i64,
        control: &Control,
    ) -> Result<(Arc<Self>, LoadReport), StorageError> {
        let loaded = load(&disk, dir, &options, min_valid_time, control)?;
        let (wal_dir, wbl_dir) = (dir.join("wal"), dir.join("wbl"));
        let mut report = loaded.report;
        if !loaded.wal_damage.is_empty() {
            // They name places in a log that is about to change. The log has all that they have.
            remove_older(&*disk, dir, (u64::MAX, u64::MAX))?;
        }
        for (log, damage) in [(&wal_dir, &loaded.wal_damage), (&wbl_dir, &loaded.wbl_damage)] {
            let quarantine = dir.join("quarantine");
            report.mended.extend(mend(&*disk, log, &quarantine, damage).map_err(storage_error)?);
        }
        create_dir_all(&*disk, &wal_dir)?;
        let state_file = StateFile::find(&*disk, &wal_dir)?;
        let wal = LogWriter::open(Arc::clone(&disk), &wal_dir, options.log).map_err(storage_error)?;
        // A crash may have left the directory without a segment, which Prometheus' tools do not read.
        let wbl = if loaded.last_wbl_segment.is_some() || is_dir(&wbl_dir) {
            Some(LogWriter::open(Arc::clone(&disk), &wbl_dir, options.log).map_err(storage_error)?)
        } else {
            None
        };
        let collection = Collection::default();
        for (series_ref, until) in loaded.retired {
            collection.retire(series_ref, until);
        }
        for series_ref in loaded.taken_out {
            // None of its samples is later than what there is.
            collection.take_out(series_ref, loaded.times.1);
        }
        let head = Self {
            options,
            disk,
            dir: dir.to_owned(),
            wal,
            wbl: Mutex::new(wbl),
            wbl_debt: Mutex::default(),
            index: RwLock::new(loaded.index),
            shards: loaded.shards,
            files: loaded.files,
            isolation: Isolation::default(),
            tombstones: RwLock::new(loaded.tombstones),
            late_deleted: Mutex::default(),
            metadata: Mutex::new(loaded.metadata),
            exemplars: Mutex::new(loaded.exemplars),
            next_ref: AtomicU64::new(loaded.next_ref),
            min_time: AtomicI64::new(loaded.times.0),
            max_time: AtomicI64::new(loaded.times.1),
            min_out_of_order_time: AtomicI64::new(loaded.out_of_order_times.0),
            max_out_of_order_time: AtomicI64::new(loaded.out_of_order_times.1),
            min_valid_time: AtomicI64::new(min_valid_time),
            open_batches: AtomicUsize::new(0),
            collection,
            memory: MemoryGauge::default(),
            state_file,
        };
        for shard in &head.shards {
            let mut shard = lock(shard);
            let ids: Vec<SeriesId> = shard.ids().collect();
            for id in ids {
                // It was found in the log.
                if let Some(record) = shard.record_mut(id) {
                    record.flags |= flags::LOGGED;
                }
            }
        }
        let ranges: Vec<(SeriesId, Ranges)> =
            read(&head.tombstones).iter().map(|(id, ranges)| (*id, ranges.clone())).collect();
        for (id, ranges) in ranges {
            head.delete_late(ranges.into_iter().map(|(mint, maxt)| (id, mint, maxt)));
        }
        head.write_state(false)?;
        Ok((Arc::new(head), report))
    }

    /// Number of the shard of a series.
    #[inline]
    pub(crate) fn shard_number(&self, id: SeriesId) -> usize {
        (id.0 >> 8) as usize % self.shards.len()
    }

    /// The shard of a series.
    #[inline]
    pub fn shard_of(&self, id: SeriesId) -> &Mutex<Shard> {
        &self.shards[self.shard_number(id)]
    }

    /// What decides about samples right now.
    pub fn bounds(&self) -> Bounds {
        let head_max_ms = self.max_time.load(Ordering::Acquire);
        let floor = self.min_valid_time.load(Ordering::Acquire);
        Bounds {
            min_valid_ms: head_max_ms.saturating_sub(self.options.rules.chunk_range_ms / 2).max(floor),
            head_max_ms,
            window_ms: self.options.out_of_order_window_ms,
        }
    }

    /// The first sample that is offered to a head without samples sets its time, whatever becomes of it.
    pub(crate) fn begin_time(&self, t: i64) {
        if self.max_time.compare_exchange(i64::MIN, t, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.min_time.fetch_min(t, Ordering::AcqRel);
        }
    }

    /// Extends the head's times by those of stored samples.
    pub(crate) fn extend_times(&self, in_order: (i64, i64), out_of_order: (i64, i64)) {
        self.min_time.fetch_min(in_order.0, Ordering::AcqRel);
        self.max_time.fetch_max(in_order.1, Ordering::AcqRel);
        self.min_out_of_order_time.fetch_min(out_of_order.0, Ordering::AcqRel);
        self.max_out_of_order_time.fetch_max(out_of_order.1, Ordering::AcqRel);
    }

    /// The series of a label set, made if it is new, which the second says. A new one counts as waiting for an append
    /// until that is committed. Empty values are left out.
    ///
    /// # Errors
    /// If the set is empty, not sorted or names a label twice, or no more series are taken.
    pub(crate) fn series<'a>(
        &self,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<(SeriesId, bool), Refusal> {
        let labels = labels.filter(|(_, value)| !value.is_empty());
        let mut before = "";
        for (name, _) in labels.clone() {
            // Names are sorted, so the empty one would be the first.
            if name <= before {
                return Err(Refusal::InvalidLabels);
            }
            before = name;
        }
        if before.is_empty() {
            return Err(Refusal::InvalidLabels);
        }
        let known = match read(&self.index).look_up(labels.clone()) {
            Ok(id) => return Ok((id, false)),
            Err(known) => known,
        };
        if self.memory.series.fetch_add(1, Ordering::Relaxed) >= MEMORY_LOOK_SERIES {
            self.look_at_memory();
        }
        if self.memory.full.load(Ordering::Relaxed) {
            return Err(Refusal::Limit);
        }
        let mut index = write(&self.index);
        if index.is_nearly_full() || self.next_ref.load(Ordering::Relaxed) >= MAX_REF {
            return Err(Refusal::Limit);
        }
        let (id, new) = index.create(labels, &known);
        if id == SeriesId::NONE {
            return Err(Refusal::Limit);
        }
        if new {
            // Under the index lock: references grow with ids.
            let series_ref = self.next_ref.fetch_add(1, Ordering::AcqRel);
            let mut shard = lock(self.shard_of(id));
            shard.create(id, series_ref);
            if let Some(record) = shard.record_mut(id) {
                record.pending = record.pending.saturating_add(1);
            }
        }
        Ok((id, new))
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let shards: usize = self.shards.iter().map(|s| lock(s).bytes()).sum();
        // These are estimated: counting would take longer than it is worth.
        let tombstones = read(&self.tombstones).capacity() * 64;
        let metadata = lock(&self.metadata).capacity() * 128;
        let exemplars = lock(&self.exemplars).estimated_bytes();
        (read(&self.index).bytes() + shards + tombstones + metadata + exemplars) as u64
    }

    /// Notes stored samples; looks at the memory once in a while.
    pub(crate) fn note_samples(&self, samples: u64) {
        if self.options.memory_limit != u64::MAX
            && self.memory.samples.fetch_add(samples, Ordering::Relaxed)
                >= MEMORY_LOOK_SAMPLES.max(self.next_ref.load(Ordering::Relaxed))
        {
            self.look_at_memory();
        }
    }

    /// Compares memory with the limit: over it, open chunks go to files; if that is not enough, no more series are taken.
    fn look_at_memory(&self) {
        self.memory.samples.store(0, Ordering::Relaxed);
        self.memory.series.store(0, Ordering::Relaxed);
        if self.options.memory_limit == u64::MAX {
            return;
        }
        let mut bytes = self.bytes();
        if bytes > self.options.memory_limit && bytes > self.memory.spilled_at.load(Ordering::Relaxed) {
            self.spill(self.shards.len().div_ceil(SPILL_PART));
            bytes = self.bytes();
            self.memory.spilled_at.store(bytes, Ordering::Relaxed);
        }
        self.memory.full.store(bytes > self.options.memory_limit, Ordering::Relaxed);
    }

    /// Seals the open chunks of so many shards, those whose turn is longest ago: what they held is used again by the
    /// series that go on.
    pub fn spill(&self, shards: usize) {
        for _ in 0..shards.min(self.shards.len()) {
            let number = self.memory.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            let mut shard = lock(&self.shards[number]);
            let ids: Vec<SeriesId> = shard.ids().collect();
            for id in ids {
                shard.seal(id, &self.files);
            }
        }
    }

    /// `wbl/`, begun if there is none.
    pub(crate) fn out_of_order_log(&self) -> Result<Arc<LogWriter>, StorageError> {
        let mut log = lock(&self.wbl);
        if let Some(log) = &*log {
            return Ok(Arc::clone(log));
        }
        let dir = self.dir.join("wbl");
        create_dir_all(&*self.disk, &dir)?;
        let opened =
            LogWriter::open(Arc::clone(&self.disk), &dir, self.options.log).map_err(storage_error)?;
        *log = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Seals nothing, makes everything durable, writes a snapshot if told to. Full chunks and a snapshot that find no
    /// room are not missed: the logs have all that is in them.
    ///
    /// # Errors
    /// If the system refuses; everything that could be done is done.
    pub fn close(&self) -> Result<(), StorageError> {
        let files = self.files.sync();
        let wbl = lock(&self.wbl).clone();
        let has_wbl = wbl.is_some();
        let wbl = self.pay_debt_and_close(wbl);
        let wal = self.wal.close().map_err(storage_error);
        wbl?;
        let (offset, segment) = wal?;
        // Where there is no room, the old content, which says that the head is open, is true enough.
        let noted = || match self.write_state(true) {
            Err(e) if e.may_pass() => Ok(()),
            written => written,
        };
        if let Err(e) = files {
            // Without these chunks a snapshot would hide their samples.
            return if matches!(e, StorageError::File(_)) { noted() } else { Err(e) };
        }
        // A snapshot has one reference for a series; the out-of-order log, which is read behind it, may name others. It
        // begins with a page, which a full disk may leave unpadded.
        let is_sure = !(has_wbl && self.collection.retired_count() > 0);
        if self.options.snapshot_on_close && is_sure && offset.is_multiple_of(PAGE_BYTES as u64) {
            match snapshot::write(self, segment, offset) {
                // It would only have saved time.
                Err(e) if e.may_pass() => {}
                written => written?,
            }
        }
        noted()
    }

    fn pay_debt_and_close(&self, wbl: Option<Arc<LogWriter>>) -> Result<(), StorageError> {
        let Some(wbl) = wbl else { return Ok(()) };
        let paid = {
            let mut guard = wbl.lock();
            let mut debt = lock(&self.wbl_debt);
            if debt.is_empty() { Ok(()) } else { guard.append(&debt).map(|_| debt.clear()) }
        };
        let closed = wbl.close();
        paid.map_err(storage_error)?;
        closed.map(|_| ()).map_err(storage_error)
    }

    fn write_state(&self, clean_shutdown: bool) -> Result<(), StorageError> {
        let Some(file) = &self.state_file else { return Ok(()) };
        let last_ref = self.next_ref.load(Ordering::Acquire).saturating_sub(1);
        file.write(&*self.disk, last_ref, self.wal.segment(), clean_shutdown)
    }
}
