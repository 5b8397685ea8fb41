//! Replay: checkpoint, segments and the out-of-order log, read by one thread, decoded and routed by a second,
//! appended by workers that share the series out among them.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;
use tsdbctl_model::sample::MetricType;
use tsdbctl_model::{FloatHistogram, Histogram, Matcher, Sym, SymbolTable};
use tsdbctl_storage::control::ControlError;
use tsdbctl_storage::{Control, Loss, StorageError};
use tsdbctl_wal::record::histogram::MAX_SCHEMA;
use tsdbctl_wal::record::{
    EncodedLabels, ExemplarEntry, MarkerEntry, MetadataEntry, RecordType, SampleEntry, SeriesEntry,
    TombstoneEntry, Visitor, decode,
};
use tsdbctl_wal::{Damage, Log};

use crate::exemplars::{Exemplars, Owner};
use crate::loss::{Losses, loss, storage_error};
use crate::mapped::{LateChunks, MappedChunk, MappedChunks};
use crate::queue::FloatItem;
use crate::refs::RefTable;
use crate::series::{Kind, Shard, Value, ValueItem, Work, locate};
use crate::snapshot::{Entry, Snapshot, read_record};
use crate::source::{BATCHES_BYTES, Batch, Role, Source, WAITING, read};

/// The label that holds a metric's name.
const METRIC_NAME: &str = "__name__";
/// Floats that go to a worker at once.
const FLOATS: usize = 2048;
/// Histograms that go to a worker at once.
const VALUES: usize = 128;

/// What of a head to load.
#[derive(Clone, Copy, Debug)]
pub struct HeadOptions<'a> {
    /// In-order samples before this are in blocks, or were deleted there: the end of the newest block that was
    /// not made of out-of-order samples, Unix milliseconds.
    pub min_valid_time: i64,
    /// Series to load: those that satisfy all matchers of any list. Empty: all.
    pub selections: &'a [Vec<Matcher>],
    /// Earliest sample time that will be asked for; earlier ones need not be kept.
    pub mint: i64,
    /// Latest sample time that will be asked for.
    pub maxt: i64,
    /// Go on behind damage and report it as losses, rather than fail.
    pub tolerant: bool,
}

impl Default for HeadOptions<'_> {
    /// Everything, strictly.
    fn default() -> Self {
        Self { min_valid_time: i64::MIN, selections: &[], mint: i64::MIN, maxt: i64::MAX, tolerant: false }
    }
}

/// What the log says about a series' metric, where the server was told to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The metric's type.
    pub kind: MetricType,
    /// Its unit.
    pub unit: Box<str>,
    /// Its help text.
    pub help: Box<str>,
}

/// Memory that is given back when it goes.
pub struct Taken<'a>(&'a Control, usize);

impl<'a> Taken<'a> {
    /// Takes or gives back what is missing to `bytes`.
    pub fn set(&mut self, bytes: usize) -> Result<(), ControlError> {
        if bytes > self.1 {
            self.0.budget.take("head", bytes - self.1)?;
        } else {
            self.0.budget.give(self.1 - bytes);
        }
        self.1 = bytes;
        Ok(())
    }

    /// Takes the first bytes.
    pub fn new(control: &'a Control, bytes: usize) -> Result<Self, ControlError> {
        control.budget.take("head", bytes)?;
        Ok(Self(control, bytes))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.budget.give(self.1);
    }
}

/// What is known of a series outside its shard.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Its first reference.
    pub series: u64,
    labels: usize,
    labels_len: u32,
    /// Removed from the head at some point of the log.
    pub removed: bool,
}

/// The labels of all wanted series.
#[derive(Default)]
pub struct Directory {
    /// Names and values.
    pub symbols: SymbolTable,
    pairs: Vec<(Sym, Sym)>,
    /// The series in order of their creation.
    pub slots: Vec<Slot>,
    any_removed: bool,
    by_labels: HashTable<u32>,
}

impl Directory {
    /// Labels of a slot.
    pub fn labels(&self, slot: u32) -> &[(Sym, Sym)] {
        let s = &self.slots[slot as usize];
        &self.pairs[s.labels..s.labels + s.labels_len as usize]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.symbols.bytes()
            + self.pairs.capacity() * size_of::<(Sym, Sym)>()
            + self.slots.capacity() * size_of::<Slot>()
            + self.by_labels.capacity() * 5
    }

    /// The slot of a label set, made if it is new.
    fn slot(&mut self, series: u64, labels: EncodedLabels<'_>, hasher: &FixedState) -> u32 {
        let start = self.pairs.len();
        for (name, value) in labels.iter() {
            let name = self.symbols.intern(&text(name));
            let value = self.symbols.intern(&text(value));
            self.pairs.push((name, value));
        }
        let symbols = &self.symbols;
        let fresh = &mut self.pairs[start..];
        if !fresh.is_sorted_by_key(|p| symbols.resolve(p.0)) {
            fresh.sort_by_key(|p| symbols.resolve(p.0));
        }
        let hash = hasher.hash_one(&self.pairs[start..]);
        let (slots, pairs) = (&self.slots, &self.pairs);
        let of = |slot: &u32| {
            let s = &slots[*slot as usize];
            &pairs[s.labels..s.labels + s.labels_len as usize]
        };
        if let Some(slot) = self.by_labels.find(hash, |slot| of(slot) == &pairs[start..]) {
            let slot = *slot;
            self.pairs.truncate(start);
            return slot;
        }
        let slot = slots.len() as u32;
        self.by_labels.insert_unique(hash, slot, |slot| hasher.hash_one(of(slot)));
        let labels_len = (pairs.len() - start) as u32;
        self.slots.push(Slot { series, labels: start, labels_len, removed: false });
        slot
    }

    /// Takes a series out, so that its labels get a new slot when they come again.
    fn remove(&mut self, slot: u32, hasher: &FixedState) {
        let hash = hasher.hash_one(self.labels(slot));
        if let Ok(entry) = self.by_labels.find_entry(hash, |s| *s == slot) {
            entry.remove();
        }
        self.slots[slot as usize].removed = true;
        self.any_removed = true;
    }
}

/// Bytes of a log as text.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Whether a series is wanted. Most are not, and most of these have the wrong name: it is asked first, and the other
/// labels are read only if it is right.
fn wanted(selections: &[Vec<Matcher>], labels: EncodedLabels<'_>) -> bool {
    if selections.is_empty() {
        return true;
    }
    let name = text(labels.iter().find(|(n, _)| *n == METRIC_NAME.as_bytes()).map_or(b"", |(_, v)| v));
    let mut pairs: SmallVec<[(&[u8], &[u8]); 24]> = SmallVec::new();
    selections.iter().any(|matchers| {
        let (mut of_name, mut others) = (
            matchers.iter().filter(|m| m.name == METRIC_NAME),
            matchers.iter().filter(|m| m.name != METRIC_NAME),
        );
        of_name.all(|m| m.matches(&name))
            && others.all(|m| {
                if pairs.is_empty() {
                    pairs.extend(labels.iter());
                }
                let value = pairs.iter().find(|(n, _)| *n == m.name.as_bytes()).map_or(&b""[..], |(_, v)| v);
                m.matches(&text(value))
            })
    })
}

/// Mapped chunks whose series' labels have not been met yet.
#[derive(Default)]
struct Unclaimed {
    /// In the asked range or out of order; sorted by series.
    chunks: Vec<(u64, bool, MappedChunk)>,
    /// End and kind of every series' last in-order chunk.
    ends: HashMap<u64, (i64, Kind)>,
}

impl Unclaimed {
    fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<(u64, bool, MappedChunk)>()
            + self.ends.capacity() * (size_of::<(u64, (i64, Kind))>() + 1)
    }

    fn claim(&self, series: u64, slot: u32) -> Option<Work> {
        let end = self.ends.get(&series).copied();
        let first = self.chunks.partition_point(|c| c.0 < series);
        let mine = self.chunks[first..].iter().take_while(|c| c.0 == series);
        let (mut chunks, mut out_of_order) = (Vec::new(), Vec::new());
        for (_, late, chunk) in mine {
            if *late {
                out_of_order.push(*chunk);
            } else if end.is_some() {
                chunks.push(*chunk);
            }
        }
        if end.is_none() && out_of_order.is_empty() {
            return None;
        }
        let mapped_end = end.map_or(i64::MIN, |(t, _)| t);
        Some(Work::Mapped { slot, mapped_end, kind: end.map(|(_, k)| k), chunks, out_of_order })
    }
}

/// Work collected for one worker.
struct Outbox {
    to: SyncSender<Work>,
    floats: Vec<FloatItem>,
    starts: Vec<i64>,
    values: Vec<ValueItem>,
    late: Vec<ValueItem>,
    hung_up: bool,
}

impl Outbox {
    fn send(&mut self, work: Work) {
        self.hung_up |= self.to.send(work).is_err();
    }

    fn flush_floats(&mut self) {
        if !self.floats.is_empty() {
            let items = std::mem::replace(&mut self.floats, Vec::with_capacity(FLOATS));
            let starts = std::mem::take(&mut self.starts);
            self.send(Work::Floats { items, starts });
        }
    }

    fn flush_values(&mut self) {
        if !self.values.is_empty() {
            let items = std::mem::take(&mut self.values);
            self.send(Work::Histograms(items));
        }
    }

    fn flush_late(&mut self) {
        if !self.late.is_empty() {
            let items = std::mem::take(&mut self.late);
            self.send(Work::OutOfOrder(items));
        }
    }

    fn flush(&mut self) {
        self.flush_floats();
        self.flush_values();
        self.flush_late();
    }
}

/// Decodes records and routes what they say.
struct Router<'a> {
    options: &'a HeadOptions<'a>,
    directory: Directory,
    hasher: FixedState,
    refs: RefTable,
    unclaimed: Unclaimed,
    late: LateChunks,
    /// Series that the record has markers of, and whether their chunks were found.
    markers: Vec<(u32, bool)>,
    tombstones: HashMap<u32, Vec<(i64, i64)>>,
    exemplars: Exemplars,
    metadata: HashMap<u32, Metadata>,
    outboxes: Vec<Outbox>,
    /// A snapshot is read and its record of tombstones, the one behind all series, was met.
    snapshot_complete: bool,
    /// Times of all series' samples, wanted or not.
    times: (i64, i64),
    // What is being read.
    role: Role,
    v2: bool,
    place: (u32, u64),
    /// What of the record is left out because it is not known.
    left_out: Option<String>,
}

impl Router<'_> {
    /// Ends a record: its markers count. That of a chunk that was not found says nothing: its samples are in this log. A
    /// buffer of several kinds became several chunks: only if all were found are its samples in them.
    fn end_record(&mut self) {
        if self.markers.is_empty() {
            return;
        }
        let mut markers = std::mem::take(&mut self.markers);
        markers.sort_unstable();
        for same in markers.chunk_by(|a, b| a.0 == b.0).filter(|same| same.iter().all(|m| m.1)) {
            let outbox = self.outbox(same[0].0);
            outbox.flush_late();
            outbox.send(Work::Marked(same[0].0));
        }
    }

    /// Bytes held, but for the samples.
    fn bytes(&self) -> usize {
        let ranges: usize = self.tombstones.values().map(|r| r.capacity() * size_of::<(i64, i64)>()).sum();
        let pending: usize = self.outboxes.iter().map(|o| o.floats.capacity() * size_of::<FloatItem>()).sum();
        self.directory.bytes()
            + self.refs.bytes()
            + self.exemplars.estimated_bytes()
            + self.metadata.capacity() * (size_of::<(u32, Metadata)>() + 64)
            + self.tombstones.capacity() * (size_of::<(u32, Vec<(i64, i64)>)>() + 1)
            + ranges
            + pending
    }

    #[inline]
    fn see(&mut self, t: i64) {
        self.times = (self.times.0.min(t), self.times.1.max(t));
    }

    /// The error for a snapshot that is not to be used, not even its sound part.
    fn unusable(&mut self, source: &Source, offset: u64, reason: String) -> StorageError {
        self.snapshot_complete = false;
        StorageError::Corrupt(Loss { file: source.path.clone(), offset, reason })
    }

    /// Takes in one record of a snapshot.
    fn snapshot(&mut self, record: &[u8]) -> Result<(), String> {
        match read_record(record, self)? {
            Entry::Exemplars => {}
            Entry::Tombstones(list) => {
                self.snapshot_complete = true;
                list.into_iter().for_each(|e| self.tombstone(e));
            }
            Entry::Series(entry, chunk) => {
                if let Some(chunk) = &chunk {
                    self.see(chunk.maxt);
                }
                // Its open chunk first: mapped chunks may have replaced it.
                if let Some(chunk) = chunk.filter(|c| c.maxt >= self.options.min_valid_time)
                    && wanted(self.options.selections, entry.labels)
                {
                    let slot = self.directory.slot(entry.series, entry.labels, &self.hasher);
                    self.outbox(slot).send(Work::Snapshot { slot, chunk });
                }
                self.series(entry);
            }
        }
        Ok(())
    }

    #[inline]
    fn lookup(&mut self, series: u64) -> Option<u32> {
        let slot = self.refs.get(series)?;
        let is_removed = self.directory.any_removed && self.directory.slots[slot as usize].removed;
        (!is_removed).then_some(slot)
    }

    #[inline]
    fn outbox(&mut self, slot: u32) -> &mut Outbox {
        let (shard, _) = locate(slot, self.outboxes.len() as u32);
        &mut self.outboxes[shard]
    }

    fn value(&mut self, series: u64, t: i64, st: i64, value: Value) {
        let (role, v2, place) = (self.role, self.v2, self.place);
        let Some(slot) = self.lookup(series) else { return };
        let item = ValueItem { slot, v2, t, st, value, place };
        let outbox = self.outbox(slot);
        if role == Role::OutOfOrder {
            outbox.late.push(item);
            if outbox.late.len() >= VALUES {
                outbox.flush_late();
            }
            return;
        }
        outbox.flush_floats();
        outbox.values.push(item);
        if outbox.values.len() >= VALUES {
            outbox.flush_values();
        }
    }
}

impl Visitor for Router<'_> {
    fn series(&mut self, entry: SeriesEntry<'_>) {
        if self.role == Role::OutOfOrder || !wanted(self.options.selections, entry.labels) {
            return;
        }
        let slot = self.directory.slot(entry.series, entry.labels, &self.hasher);
        if self.refs.get(entry.series) == Some(slot) {
            // A repeated record changes nothing. Upstream would drop the samples before it.
            return;
        }
        self.refs.set(entry.series, slot);
        if let Some(work) = self.unclaimed.claim(entry.series, slot) {
            let outbox = self.outbox(slot);
            outbox.flush();
            outbox.send(work);
        }
    }

    #[inline]
    fn sample(&mut self, entry: SampleEntry<f64>) {
        let (t, st) = (entry.timestamp_ms, entry.start_timestamp_ms);
        if self.role == Role::OutOfOrder {
            self.see(t);
            return self.value(entry.series, t, st, Value::Float(entry.value));
        }
        if t < self.options.min_valid_time {
            return;
        }
        self.see(t);
        let Some(slot) = self.lookup(entry.series) else { return };
        let v2 = self.v2;
        let (shard, place) = locate(slot, self.outboxes.len() as u32);
        let outbox = &mut self.outboxes[shard];
        outbox.flush_values();
        let start = match (v2, st) {
            (false, _) => FloatItem::V1,
            (true, 0) => FloatItem::NO_START,
            (true, st) => {
                outbox.starts.push(st);
                FloatItem::START + outbox.starts.len() as u32 - 1
            }
        };
        outbox.floats.push(FloatItem { place: place as u32, start, t, v: entry.value });
        if outbox.floats.len() >= FLOATS {
            outbox.flush_floats();
        }
    }

    fn wants_histogram(&mut self, series: u64, timestamp_ms: i64) -> bool {
        if self.role != Role::OutOfOrder && timestamp_ms < self.options.min_valid_time {
            return false;
        }
        self.see(timestamp_ms);
        self.lookup(series).is_some()
    }

    fn histogram(&mut self, mut entry: SampleEntry<Histogram>) {
        // Only a newer server writes what is finer than upstream's finest.
        if entry.value.schema > MAX_SCHEMA && entry.value.reduce_resolution(MAX_SCHEMA).is_err() {
            return;
        }
        let value = Value::Integer(Box::new(entry.value));
        self.value(entry.series, entry.timestamp_ms, entry.start_timestamp_ms, value);
    }

    fn float_histogram(&mut self, mut entry: SampleEntry<FloatHistogram>) {
        if entry.value.schema > MAX_SCHEMA && entry.value.reduce_resolution(MAX_SCHEMA).is_err() {
            return;
        }
        let value = Value::FloatHistogram(Box::new(entry.value));
        self.value(entry.series, entry.timestamp_ms, entry.start_timestamp_ms, value);
    }

    fn unknown_schema(&mut self, _: u64, schema: i32) {
        self.left_out = Some(format!("a histogram of schema {schema}, which is not known"));
    }

    fn tombstone(&mut self, entry: TombstoneEntry) {
        if self.role == Role::OutOfOrder {
            return;
        }
        let Some(slot) = self.lookup(entry.series) else { return };
        if entry.is_whole_series() {
            self.directory.remove(slot, &self.hasher);
            self.tombstones.remove(&slot);
        } else if entry.mint <= entry.maxt {
            // There may be samples out of order before `min_valid_time`.
            self.tombstones.entry(slot).or_default().push((entry.mint, entry.maxt));
        }
    }

    fn exemplar(&mut self, entry: ExemplarEntry<'_>) {
        if self.role == Role::OutOfOrder || entry.timestamp_ms < self.options.min_valid_time {
            return;
        }
        let owner = self.lookup(entry.series).map_or(Owner::Other(entry.series), Owner::Slot);
        self.exemplars.add(owner, entry.timestamp_ms, entry.value, entry.labels);
    }

    fn metadata(&mut self, entry: MetadataEntry<'_>) {
        if let Some(slot) = self.lookup(entry.series) {
            let (unit, help) = (text(entry.unit).into(), text(entry.help).into());
            self.metadata
                .insert(slot, Metadata { kind: MetricType::of_number(entry.metric_type.into()), unit, help });
        }
    }

    fn marker(&mut self, entry: MarkerEntry) {
        // That of a series' first sample has no chunk.
        if self.role == Role::OutOfOrder
            && entry.chunk != 0
            && let Some(slot) = self.lookup(entry.series)
        {
            self.markers.push((slot, self.late.has_marked(entry.series, entry.chunk)));
        }
    }
}

/// A replayed head.
pub struct Replayed {
    /// Labels.
    pub directory: Directory,
    /// Samples, by [`locate`].
    pub shards: Vec<Shard>,
    /// Files that chunks of the series lie in.
    pub mapped: MappedChunks,
    /// Deleted ranges by slot, sorted and apart.
    pub tombstones: HashMap<u32, Vec<(i64, i64)>>,
    /// Exemplars.
    pub exemplars: Exemplars,
    /// Metadata by slot, the newest of each.
    pub metadata: HashMap<u32, Metadata>,
    /// Times of the earliest and the latest sample of all series, loaded or not.
    pub times: Option<(i64, i64)>,
    /// What was left out.
    pub losses: Losses,
}

/// The files of a log in the order in which they are read.
pub fn sources(log: Log, role: Role, losses: &mut Losses) -> Result<Vec<Source>, StorageError> {
    for gap in log.gaps {
        losses.add(loss(gap))?;
    }
    let mut list = Vec::new();
    for segment in log.checkpoint.into_iter().flat_map(|(_, parts)| parts) {
        list.push(Source { path: segment.path, role, start: 0, is_last: false });
    }
    // A server that starts makes a new segment before it repairs the one that a crash tore.
    let last = log.segments.iter().rposition(|s| s.size > 0).unwrap_or(0);
    for (i, segment) in log.segments.into_iter().enumerate() {
        list.push(Source { path: segment.path, role, start: 0, is_last: i >= last });
    }
    Ok(list)
}

/// Replays the head of `dir`; `None` if it has no log. `use_snapshot` becomes false if there is a snapshot that
/// cannot be used; the error is to be ignored then and replay to be done without.
pub fn replay(
    dir: &Path,
    options: &HeadOptions<'_>,
    control: &Control,
    use_snapshot: &mut bool,
) -> Result<Option<Replayed>, StorageError> {
    let mut losses = Losses { tolerant: options.tolerant, ..Losses::default() };
    let Some(log) = Log::list(&dir.join("wal")).map_err(storage_error)? else { return Ok(None) };
    let mut sources_list = Vec::new();
    let mut log = log;
    if *use_snapshot && let Some(snapshot) = Snapshot::newest(dir, &log.segments)? {
        let role = Role::Snapshot;
        sources_list.extend(snapshot.paths().map(|path| Source { path, role, start: 0, is_last: false }));
        log.segments.retain(|s| s.index >= snapshot.segment);
        log.checkpoint = log.checkpoint.filter(|(index, _)| *index >= snapshot.segment);
        let first_behind = log.checkpoint.as_ref().map_or(0, |(_, parts)| parts.len()) + sources_list.len();
        let continues = log.segments.first().is_some_and(|s| s.index == snapshot.segment);
        sources_list.extend(sources(log, Role::Log, &mut losses)?);
        if continues && let Some(source) = sources_list.get_mut(first_behind) {
            source.start = snapshot.offset as usize;
        }
    } else {
        sources_list.extend(sources(log, Role::Log, &mut losses)?);
    }
    if sources_list.is_empty() {
        return Ok(None);
    }
    if let Some(late) = Log::list(&dir.join("wbl")).map_err(storage_error)? {
        sources_list.extend(sources(late, Role::OutOfOrder, &mut losses)?);
    }
    let mut unclaimed = Unclaimed::default();
    let mut mapped_times = (i64::MAX, i64::MIN);
    let mut mapped = MappedChunks::open(&dir.join("chunks_head"), &mut losses, |series, late, chunk| {
        if !late {
            if chunk.maxt < options.min_valid_time {
                return;
            }
            let end = unclaimed.ends.entry(series).or_insert((i64::MIN, Kind::Float));
            if chunk.maxt >= end.0 {
                *end = (chunk.maxt, Kind::of(chunk.encoding));
            }
        }
        mapped_times = (mapped_times.0.min(chunk.mint), mapped_times.1.max(chunk.maxt));
        if late || (chunk.maxt >= options.mint && chunk.mint <= options.maxt) {
            unclaimed.chunks.push((series, late, chunk));
        }
    })?;
    unclaimed.chunks.sort_by_key(|(series, ..)| *series);
    let _unclaimed = Taken::new(control, unclaimed.bytes())?;
    control.check("head replay")?;

    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
    let stop = AtomicBool::new(false);
    let failed: std::sync::Mutex<Option<ControlError>> = std::sync::Mutex::new(None);
    let (replayed, shards) = std::thread::scope(|scope| {
        let mut outboxes = Vec::new();
        let mut handles = Vec::new();
        for _ in 0..workers {
            let (to, from) = sync_channel::<Work>(32);
            outboxes.push(Outbox {
                to,
                floats: Vec::new(),
                starts: Vec::new(),
                values: Vec::new(),
                late: Vec::new(),
                hung_up: false,
            });
            let (stop, failed) = (&stop, &failed);
            let mut shard = Shard::new(workers as u32, (options.mint, options.maxt), control.budget.clone());
            handles.push(scope.spawn(move || {
                let done =
                    from.into_iter().try_for_each(|work| shard.run(work)).and_then(|()| shard.settle());
                if let Err(e) = done {
                    stop.store(true, Ordering::Relaxed);
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(e);
                }
                shard
            }));
        }
        let mut router = Router {
            options,
            directory: Directory::default(),
            hasher: FixedState::with_seed(0x4ead),
            refs: RefTable::default(),
            unclaimed,
            late: std::mem::take(&mut mapped.late),
            markers: Vec::new(),
            tombstones: HashMap::new(),
            exemplars: Exemplars::default(),
            metadata: HashMap::new(),
            outboxes,
            snapshot_complete: false,
            times: mapped_times,
            role: Role::Log,
            v2: false,
            place: (0, 0),
            left_out: None,
        };
        let (out, batches) = sync_channel::<Batch>(WAITING);
        let (back, empties) = sync_channel::<Batch>(8);
        let (list, stop_ref) = (&sources_list, &stop);
        scope.spawn(move || read(list, None, &out, &empties, stop_ref));
        let mut done = route(&mut router, list, batches, &back, control, &mut losses, stop_ref);
        let has_snapshot = list.first().is_some_and(|s| s.role == Role::Snapshot);
        if has_snapshot && !router.snapshot_complete && failed.lock().is_ok_and(|f| f.is_none()) {
            // Damaged in front of its last part; a limit that was reached is no fault of the snapshot.
            *use_snapshot = matches!(done, Err(StorageError::Control(_)));
            done = done
                .and_then(|()| Err(router.unusable(&list[0], 0, "the snapshot is incomplete".to_string())));
        }
        router.outboxes.iter_mut().for_each(Outbox::flush);
        router.outboxes.clear();
        let shards: Vec<Shard> = handles.into_iter().filter_map(|h| h.join().ok()).collect();
        (done.map(|()| router), shards)
    });
    let given_back = |shards: &[Shard]| shards.iter().for_each(|s| control.budget.give(s.taken));
    let mut router = match (replayed, failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    {
        (Ok(router), None) => router,
        (_, Some(e)) => {
            given_back(&shards);
            return Err(e.into());
        }
        (Err(e), None) => {
            given_back(&shards);
            return Err(e);
        }
    };
    let mut shards = shards;
    let found: Vec<_> = shards.iter_mut().flat_map(|s| std::mem::take(&mut s.losses)).collect();
    let file =
        |source: u32| sources_list.get(source as usize).map_or_else(|| dir.join("wal"), |s| s.path.clone());
    for loss in crate::series::losses(found, file) {
        if let Err(e) = losses.add(loss) {
            given_back(&shards);
            return Err(e);
        }
    }
    for ranges in router.tombstones.values_mut() {
        join_ranges(ranges);
    }
    Ok(Some(Replayed {
        directory: router.directory,
        shards,
        mapped,
        tombstones: router.tombstones,
        exemplars: router.exemplars,
        metadata: router.metadata,
        times: (router.times.0 <= router.times.1).then_some(router.times),
        losses,
    }))
}

/// Decodes all batches.
fn route(
    router: &mut Router<'_>,
    sources: &[Source],
    batches: Receiver<Batch>,
    back: &SyncSender<Batch>,
    control: &Control,
    losses: &mut Losses,
    stop: &AtomicBool,
) -> Result<(), StorageError> {
    // What replay holds besides the samples; what stays is taken again when it is done.
    let mut taken = Taken::new(control, BATCHES_BYTES)?;
    let result = batches.into_iter().try_for_each(|mut batch| {
        control.check("head replay")?;
        taken.set(BATCHES_BYTES + router.bytes())?;
        let source = &sources[batch.source];
        if let Some(e) = batch.failed.take() {
            return Err(e);
        }
        router.role = source.role;
        let mut start = 0;
        for (end, offset) in &batch.records {
            let record = &batch.bytes[start..*end as usize];
            start = *end as usize;
            router.v2 = matches!(
                RecordType::of(record),
                Some(
                    RecordType::SamplesV2
                        | RecordType::HistogramSamplesV2
                        | RecordType::FloatHistogramSamplesV2
                )
            );
            router.place = (batch.source as u32, *offset);
            if source.role == Role::Snapshot {
                router.snapshot(record).map_err(|reason| router.unusable(source, *offset, reason))?;
                continue;
            }
            let decoded = decode(record, router).map_err(|e| e.to_string());
            router.end_record();
            if let Some(reason) = router.left_out.take().or(decoded.err()) {
                losses.at(&source.path, *offset, reason)?;
            }
        }
        if let Some(bad) = batch.bad.take() {
            if source.role == Role::Snapshot {
                return Err(router.unusable(source, bad.offset, bad.reason));
            }
            losses.add(loss(Damage { file: source.path.clone(), offset: bad.offset, reason: bad.reason }))?;
        }
        if stop.load(Ordering::Relaxed) || router.outboxes.iter().any(|o| o.hung_up) {
            return Err(StorageError::Control(ControlError::Canceled { stage: "head replay" }));
        }
        let _ = back.try_send(batch);
        Ok(())
    });
    if result.is_err() {
        stop.store(true, Ordering::Relaxed);
    }
    result
}

/// Sorts ranges and joins those that touch.
pub fn join_ranges(ranges: &mut Vec<(i64, i64)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touches = next.0 <= before.1.saturating_add(1);
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_wanted_by_name_and_by_other_labels() {
        use tsdbctl_model::{Labels, MatchType};
        let matcher = |kind, name, value| Matcher::new(kind, name, value).unwrap();
        let (is, like) = (MatchType::Equal, MatchType::Regexp);
        let selections = [
            vec![matcher(is, "__name__", "up"), matcher(is, "job", "a")],
            vec![matcher(like, "__name__", "down.*")],
            vec![matcher(is, "__name__", ""), matcher(MatchType::NotEqual, "zone", "")],
            vec![matcher(is, "job", "c"), matcher(is, "zone", "")],
        ];
        for (pairs, want) in [
            (&[("__name__", "up"), ("job", "a")][..], true),
            (&[("A", "x"), ("__name__", "up"), ("job", "a"), ("zone", "z")], true),
            (&[("__name__", "up"), ("job", "b")], false),
            (&[("__name__", "up")], false),
            (&[("__name__", "downwards")], true),
            (&[("__name__", "x"), ("zone", "z")], false),
            (&[("zone", "z")], true),
            (&[("__name__", "x"), ("job", "c")], true),
            (&[("job", "c"), ("zone", "z")], true),
            (&[("__name__", "x"), ("job", "c"), ("zone", "z")], false),
            (&[], false),
        ] {
            let mut bytes = Vec::new();
            tsdbctl_wal::record::encode::labels(&mut bytes, &Labels::from_pairs(pairs.iter().copied()));
            let labels = EncodedLabels::read(&mut tsdbctl_wal::cursor::Cursor::new(&bytes)).unwrap();
            assert_eq!(wanted(&selections, labels), want, "{pairs:?}");
            assert!(wanted(&[], labels));
        }
    }

    #[test]
    fn deleted_ranges_are_joined() {
        let mut r = vec![(5, 9), (1, 2), (10, 12), (20, i64::MAX), (3, 3), (7, 8)];
        join_ranges(&mut r);
        assert_eq!(r, [(1, 3), (5, 12), (20, i64::MAX)]);
    }
}
