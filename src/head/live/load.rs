//! Loading: snapshot, chunk files, checkpoint, segments and the out-of-order log become a live head.
//!
//! Order: unfinished checkpoints and snapshots away → `chunks_head/`, checked, damage put aside → the snapshot, if one is
//! wanted and sound → checkpoint and segments → the out-of-order log → series without samples away.
//!
//! One thread reads and unpacks, this one decodes and routes, workers append: each has some of the shards for itself, so
//! that nobody waits for a lock. Damage costs its record, is told of, and never keeps a head from starting.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;
use tsdbctl_platform::disk::{Disk, create_dir_all, remove_all};
use tsdbctl_platform::file;
use tsdbctl_storage::control::ControlError;
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_wal::record::{RecordType, Visitor, decode};
use tsdbctl_wal::{Damage, Log};

use crate::exemplars::Exemplars;
use crate::live::chunk_files::ChunkFiles;
use crate::live::collect::Retired;
use crate::live::head::{LiveOptions, LoadReport, shard_count};
use crate::live::index::{Index, SeriesId};
use crate::live::load_chunks::FoundChunks;
use crate::live::load_router::{Outbox, Router};
use crate::live::load_shard::{Times, Work, Worker};
use crate::live::shard::Shard;
use crate::loss::{Losses, loss, storage_error};
use crate::replay::{Metadata, Taken, join_ranges, sources};
use crate::snapshot::{Entry, Snapshot, read_record};
use crate::source::{BATCHES_BYTES, Batch, Role, Source, WAITING, read};

/// Pieces of work that may wait for a worker.
const WORK_WAITING: usize = 16;
/// Batches between two looks at the memory.
const MEMORY_LOOK_BATCHES: u32 = 4;
/// Memory that may be gained, in parts of the limit, before open chunks are sealed once more.
const SEAL_STEP: u64 = 32;

/// A data directory in memory.
#[derive(Debug)]
pub struct Loaded {
    /// Labels.
    pub index: Index,
    /// Samples.
    pub shards: Box<[Mutex<Shard>]>,
    /// `chunks_head/`, open for appending.
    pub files: ChunkFiles,
    /// The next new series' reference: one above the highest in any record, chunk file or snapshot.
    pub next_ref: u64,
    /// Times of the earliest and the latest in-order sample; `(i64::MAX, i64::MIN)` without any.
    pub times: (i64, i64),
    /// The same for those out of order.
    pub out_of_order_times: (i64, i64),
    /// Deleted ranges, sorted and apart.
    pub tombstones: HashMap<SeriesId, Vec<(i64, i64)>>,
    /// The newest of each series.
    pub metadata: HashMap<SeriesId, Metadata>,
    /// Exemplars, at most as many as the options say.
    pub exemplars: Exemplars,
    /// References that the log has records of, but which are not those of a live series: second ones, and those of
    /// series that were deleted or have no samples.
    pub retired: Vec<(u64, Retired)>,
    /// References of series that were taken out by a record that says so.
    pub taken_out: Vec<u64>,
    /// What is damaged in `wal/`: what mending needs.
    pub wal_damage: Vec<Damage>,
    /// What is damaged in `wbl/`.
    pub wbl_damage: Vec<Damage>,
    /// Number of the last segment of `wal/`, if there is one.
    pub last_segment: Option<u64>,
    /// Number of the last segment of `wbl/`, if there is one.
    pub last_wbl_segment: Option<u64>,
    /// What was met.
    pub report: LoadReport,
}

/// Loads the head of a data directory, which nobody else may write to. In-order samples before `min_valid_time` are in
/// blocks. The logs are not changed, `chunks_head/` is.
///
/// # Errors
/// If a file cannot be read or written, or a limit is reached. Damage is none.
pub fn load(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &LiveOptions,
    min_valid_time: i64,
    control: &Control,
) -> Result<Loaded, StorageError> {
    create_dir_all(disk.as_ref(), dir)?;
    remove_unfinished(disk.as_ref(), dir)?;
    let mut losses = Losses { tolerant: true, ..Losses::default() };
    let found = FoundChunks::scan(disk.as_ref(), dir, min_valid_time, &mut losses, control)?;
    let files = ChunkFiles::open(Arc::clone(disk), &dir.join("chunks_head"), found.last_file)?
        .with_file_bytes(options.chunk_file_bytes);

    let log = Log::list(&dir.join("wal")).map_err(storage_error)?.unwrap_or_default();
    let late = Log::list(&dir.join("wbl")).map_err(storage_error)?.unwrap_or_default();
    let last = |log: &Log| {
        let segment = log.segments.last().map(|s| s.index);
        segment.or_else(|| log.checkpoint.as_ref().map(|(index, _)| *index))
    };
    let (last_segment, last_wbl_segment) = (last(&log), last(&late));
    // What was put aside may have been complete before the snapshot was taken: then only the log in front of it has it.
    let snapshot = match options.snapshot_on_close && !found.is_mended {
        true => Snapshot::newest(dir, &log.segments)?.filter(is_sound),
        false => None,
    };
    let mut list = Vec::new();
    let mut log = log;
    if let Some(snapshot) = snapshot {
        let role = Role::Snapshot;
        list.extend(snapshot.paths().map(|path| Source { path, role, start: 0, is_last: false }));
        log.segments.retain(|s| s.index >= snapshot.segment);
        log.checkpoint = log.checkpoint.filter(|(index, _)| *index >= snapshot.segment);
        let first_behind = log.checkpoint.as_ref().map_or(0, |(_, parts)| parts.len()) + list.len();
        let continues = log.segments.first().is_some_and(|s| s.index == snapshot.segment);
        list.extend(sources(log, Role::Log, &mut losses)?);
        if continues && let Some(source) = list.get_mut(first_behind) {
            source.start = snapshot.offset as usize;
        }
    } else {
        list.extend(sources(log, Role::Log, &mut losses)?);
    }
    list.extend(sources(late, Role::OutOfOrder, &mut losses)?);

    let done = run(disk.as_ref(), &list, found, &files, options, min_valid_time, control, &mut losses)?;
    let Done { mut router, shards, empty, times, late_times, samples, damage } = done;
    if router.has_made_chunks {
        // Soon, that is; the log has them too, for all but Prometheus.
        let _ = files.sync();
    }
    let mut retired: Vec<(u64, i64)> = router.live_aliases().map(|(r, alias)| (r, alias.last_t)).collect();
    // Not those that were removed: in a checkpoint, without the tombstone that comes later in the log, their labels would
    // be those of the series that took them since, and the tombstone would take this one along.
    retired.extend(empty.iter().map(|(_, r)| (*r, i64::MIN)));
    let last_segment_or_none = last_segment.unwrap_or(0);
    let retired = retired
        .into_iter()
        .map(|(r, last_t)| (r, Retired { last_segment: last_segment_or_none, last_t }))
        .collect();
    let empty: Vec<SeriesId> = empty.into_iter().map(|(id, _)| id).collect();
    router.index.remove(&empty);
    empty.iter().for_each(|id| router.forget(*id));
    router.tombstones.retain(|id, ranges| {
        let shard = &shards[(id.0 >> 8) as usize % shards.len()];
        // What is in blocks is deleted there; the head may have earlier samples, out of order.
        let begins = shard.times(*id).map_or(min_valid_time, |(first, _)| first.min(min_valid_time));
        ranges.retain(|(_, last)| *last >= begins);
        join_ranges(ranges);
        !ranges.is_empty()
    });
    let (mut wal_damage, mut wbl_damage) = (Vec::new(), Vec::new());
    for (role, damage) in damage {
        match role {
            Role::Log => wal_damage.push(damage),
            Role::OutOfOrder => wbl_damage.push(damage),
            Role::Snapshot => {}
        }
    }
    // What is in blocks is none of the head's.
    let times = if times.0 <= times.1 { (times.0.max(min_valid_time), times.1) } else { (times.0, times.1) };
    Ok(Loaded {
        index: router.index,
        shards: shards.into_iter().map(Mutex::new).collect(),
        files,
        next_ref: router.highest_ref + 1,
        times,
        out_of_order_times: (late_times.0, late_times.1),
        tombstones: router.tombstones,
        metadata: router.metadata,
        exemplars: router.exemplars.unwrap_or_else(|| Exemplars::new(options.max_exemplars)),
        retired,
        taken_out: router.taken_out,
        wal_damage,
        wbl_damage,
        last_segment,
        last_wbl_segment,
        report: LoadReport {
            losses: losses.list,
            samples,
            unknown_series: router.unknown,
            unclaimed_chunks: router.found.unclaimed(),
            ..LoadReport::default()
        },
    })
}

/// Removes checkpoints and snapshots that were not completed.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    for (parent, prefix) in [(dir.to_owned(), "chunk_snapshot."), (dir.join("wal"), "checkpoint.")] {
        if !file::is_dir(&parent) {
            continue;
        }
        let mut any = false;
        for entry in disk.read_dir(&parent)? {
            if entry.is_dir && entry.name.starts_with(prefix) && entry.name.ends_with(".tmp") {
                remove_all(disk, &entry.path)?;
                any = true;
            }
        }
        if any {
            disk.sync_dir(&parent)?;
        }
    }
    Ok(())
}

/// Whether all of a snapshot can be read. It is read twice for that: what a half of it made would have to be taken back.
fn is_sound(snapshot: &Snapshot) -> bool {
    struct Nothing;
    impl Visitor for Nothing {}
    let mut is_complete = false;
    let (mut record, mut buffer) = (Vec::new(), Vec::new());
    let mut check = |path: PathBuf| -> Result<bool, StorageError> {
        let map = tsdbctl_platform::map::Map::open(&path)?;
        let mut reader = tsdbctl_wal::SegmentReader::new(map.bytes(), 0);
        loop {
            record.clear();
            match reader.next_into(&mut record) {
                Ok(true) => match read_record(&record, &mut Nothing) {
                    Ok(Entry::Tombstones(_)) => is_complete = true,
                    Ok(_) => {}
                    Err(_) => return Ok(false),
                },
                Ok(false) => return Ok(!map.has_faulted()),
                Err(_) => return Ok(false),
            }
        }
    };
    buffer.extend(snapshot.paths());
    let all = buffer.into_iter().all(|path| check(path).unwrap_or(false));
    all && is_complete
}

/// What the threads found.
struct Done {
    router: Router,
    shards: Vec<Shard>,
    /// Series without samples, and their references.
    empty: Vec<(SeriesId, u64)>,
    times: Times,
    late_times: Times,
    samples: u64,
    damage: Vec<(Role, Damage)>,
}

/// Reads all sources.
#[allow(clippy::too_many_arguments, reason = "one caller")]
fn run(
    disk: &dyn Disk,
    list: &[Source],
    found: FoundChunks,
    files: &ChunkFiles,
    options: &LiveOptions,
    min_valid_time: i64,
    control: &Control,
    losses: &mut Losses,
) -> Result<Done, StorageError> {
    let shards = shard_count() as u32;
    let cores = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8) as u32;
    // Each run of numbers is one worker's.
    let workers = (1..=cores.min(shards)).rev().find(|n| shards.is_multiple_of(*n)).unwrap_or(1);
    let stop = AtomicBool::new(false);
    let held: Vec<AtomicUsize> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        let (mut outboxes, mut handles) = (Vec::new(), Vec::new());
        for (number, held) in held.iter().enumerate() {
            let (to, from) = sync_channel::<Work>(WORK_WAITING);
            outboxes.push(Outbox::new(to));
            let mut worker = Worker::new((number as u32, workers, shards), &options.rules, files, held);
            handles.push(scope.spawn(move || {
                from.into_iter().for_each(|work| worker.run(work));
                let (shards, empty) = worker.finish();
                (shards, empty, worker.times, worker.late_times, worker.samples, worker.refused)
            }));
        }
        let (out, batches) = sync_channel::<Batch>(WAITING);
        let (back, empties) = sync_channel::<Batch>(8);
        let stop_ref = &stop;
        scope.spawn(move || read(list, Some(disk), &out, &empties, stop_ref));
        let mut route = Route {
            router: Router::new(found, outboxes, min_valid_time, options.max_exemplars),
            list,
            losses,
            damage: Vec::new(),
            memory: Memory::new(options.memory_limit, control)?,
            held: &held,
        };
        route.router.exemplar_window_ms = options.out_of_order_window_ms;
        let routed = route.all(batches, &back, control);
        stop.store(true, Ordering::Relaxed);
        let Route { mut router, damage, losses, memory: _memory, .. } = route;
        router.outboxes.iter_mut().for_each(Outbox::flush);
        router.outboxes.clear();
        let mut all: Vec<Option<Shard>> = (0..shards).map(|_| None).collect();
        let mut done = Done {
            router,
            shards: Vec::new(),
            empty: Vec::new(),
            times: Times::default(),
            late_times: Times::default(),
            samples: 0,
            damage,
        };
        for (number, handle) in handles.into_iter().enumerate() {
            let (shards, empty, times, late_times, samples, refused) = match handle.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            shards
                .into_iter()
                .zip(all.iter_mut().skip(number).step_by(workers as usize))
                .for_each(|(s, at)| *at = Some(s));
            done.empty.extend(empty);
            done.times.see(times.0, times.1);
            done.late_times.see(late_times.0, late_times.1);
            done.samples += samples;
            if let Some(source) = list.first() {
                refused.into_iter().try_for_each(|reason| losses.at(&source.path, 0, reason))?;
            }
        }
        routed?;
        done.shards = all.into_iter().flatten().collect();
        Ok(done)
    })
}

/// What may be held, and what is done when it is nearly reached.
struct Memory<'a> {
    limit: u64,
    /// How much was held when the open chunks were sealed last; another time is worth it only some way above.
    sealed_at: u64,
    taken: Taken<'a>,
}

impl<'a> Memory<'a> {
    fn new(limit: u64, control: &'a Control) -> Result<Self, StorageError> {
        Ok(Self { limit, sealed_at: 0, taken: Taken::new(control, BATCHES_BYTES)? })
    }

    /// Takes note of what is held; whether open chunks are to be sealed.
    fn look(&mut self, bytes: usize) -> Result<bool, StorageError> {
        let held = bytes as u64;
        if held > self.limit {
            let (asked, used) = (held - self.limit, self.limit);
            return Err(ControlError::Memory { what: "head", asked, used, limit: self.limit }.into());
        }
        self.taken.set(bytes)?;
        // An eighth before the limit, because what is sealed is used again but not given back.
        let near = self.limit - self.limit / 8;
        let seal = held > near && held > self.sealed_at.saturating_add(self.limit / SEAL_STEP);
        if seal {
            self.sealed_at = held;
        }
        Ok(seal)
    }
}

/// Decoding of all batches.
struct Route<'a> {
    router: Router,
    list: &'a [Source],
    losses: &'a mut Losses,
    damage: Vec<(Role, Damage)>,
    memory: Memory<'a>,
    held: &'a [AtomicUsize],
}

impl Route<'_> {
    fn all(
        &mut self,
        batches: Receiver<Batch>,
        back: &SyncSender<Batch>,
        control: &Control,
    ) -> Result<(), StorageError> {
        for (n, mut batch) in (0u32..).zip(batches) {
            control.check("head load")?;
            if n % MEMORY_LOOK_BATCHES == 0 {
                let shards: usize = self.held.iter().map(|h| h.load(Ordering::Relaxed)).sum();
                if self.memory.look(BATCHES_BYTES + self.router.bytes() + shards)? {
                    self.router.seal();
                }
            }
            if let Some(e) = batch.failed.take() {
                return Err(e);
            }
            self.batch(&mut batch)?;
            if self.router.outboxes.iter().any(|o| o.hung_up) {
                return Err(StorageError::Control(ControlError::Canceled { stage: "head load" }));
            }
            let _ = back.try_send(batch);
        }
        Ok(())
    }

    fn batch(&mut self, batch: &mut Batch) -> Result<(), StorageError> {
        let source = &self.list[batch.source];
        let at = |offset, reason| Damage { file: source.path.clone(), offset, reason };
        self.router.role = source.role;
        let mut start = 0;
        for (end, offset) in &batch.records {
            let record = &batch.bytes[start..*end as usize];
            start = *end as usize;
            self.router.v2 = matches!(
                RecordType::of(record),
                Some(
                    RecordType::SamplesV2
                        | RecordType::HistogramSamplesV2
                        | RecordType::FloatHistogramSamplesV2
                )
            );
            if source.role == Role::Snapshot {
                if let Err(reason) = self.router.snapshot(record) {
                    self.losses.at(&source.path, *offset, reason)?;
                }
                continue;
            }
            if let Err(e) = decode(record, &mut self.router) {
                let damage = at(*offset, e.to_string());
                self.losses.add(loss(damage.clone()))?;
                self.damage.push((source.role, damage));
            }
            self.router.end_record();
            if let Some(reason) = self.router.left_out.take() {
                self.losses.at(&source.path, *offset, reason)?;
            }
        }
        if let Some(bad) = batch.bad.take() {
            let damage = at(bad.offset, bad.reason);
            self.losses.add(loss(damage.clone()))?;
            self.damage.push((source.role, damage));
        }
        if let Some(torn) = batch.torn.take() {
            self.damage.push((source.role, at(torn.offset, torn.reason)));
        }
        Ok(())
    }
}
