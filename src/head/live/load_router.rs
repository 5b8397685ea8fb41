//! The middle of loading: what records say, brought to the worker that has the series.

use std::borrow::Cow;
use std::sync::mpsc::SyncSender;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;
use tsdbctl_chunk::Chunk;
use tsdbctl_model::sample::MetricType;
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_wal::record::histogram::MAX_SCHEMA;
use tsdbctl_wal::record::{
    EncodedLabels, ExemplarEntry, MarkerEntry, MetadataEntry, SampleEntry, SeriesEntry, TombstoneEntry,
    Visitor,
};

use crate::exemplars::{Exemplars, Owner, Verdict};
use crate::live::index::{Index, SeriesId};
use crate::live::load_chunks::FoundChunks;
use crate::live::load_shard::{MetSeries, ValueItem, Work, locate};
use crate::live::shard::{AttachedChunk, SampleValue};
use crate::queue::FloatItem;
use crate::refs::RefTable;
use crate::replay::{Metadata, text};
use crate::snapshot::{Entry, read_record};
use crate::source::Role;

/// Floats that go to a worker at once.
const FLOATS: usize = 2048;
/// Histograms that go to a worker at once.
const VALUES: usize = 128;
/// Series that go to a worker at once.
const SERIES: usize = 512;
/// Upstream's references end here; a number behind it is no series'.
const MAX_REF: u64 = 1 << 40;

/// A second reference of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The series.
    pub id: SeriesId,
    /// Time of its last sample under this reference, in the log or in chunks; `i64::MIN` if it has none, `i64::MAX` if it
    /// has some out of order. Until the log is cut off behind it, its series record is needed.
    pub last_t: i64,
}

/// Work collected for one worker.
pub struct Outbox {
    to: SyncSender<Work>,
    series: Vec<MetSeries>,
    chunks: Vec<AttachedChunk>,
    floats: Vec<FloatItem>,
    starts: Vec<i64>,
    values: Vec<ValueItem>,
    late: Vec<ValueItem>,
    /// The worker is gone.
    pub hung_up: bool,
}

impl Outbox {
    /// Nothing, for the worker behind `to`.
    pub fn new(to: SyncSender<Work>) -> Self {
        Self {
            to,
            series: Vec::new(),
            chunks: Vec::new(),
            floats: Vec::new(),
            starts: Vec::new(),
            values: Vec::new(),
            late: Vec::new(),
            hung_up: false,
        }
    }

    fn send(&mut self, work: Work) {
        self.hung_up |= self.to.send(work).is_err();
    }

    /// What comes behind this is done behind it.
    fn flush_series(&mut self) {
        if !self.series.is_empty() {
            let (series, chunks) = (std::mem::take(&mut self.series), std::mem::take(&mut self.chunks));
            self.send(Work::Series(series, chunks));
        }
    }

    fn flush_floats(&mut self) {
        if !self.floats.is_empty() {
            self.flush_series();
            let items = std::mem::replace(&mut self.floats, Vec::with_capacity(FLOATS));
            let starts = std::mem::take(&mut self.starts);
            self.send(Work::Floats { items, starts });
        }
    }

    fn flush_values(&mut self) {
        if !self.values.is_empty() {
            self.flush_series();
            let items = std::mem::take(&mut self.values);
            self.send(Work::Histograms(items));
        }
    }

    fn flush_late(&mut self) {
        if !self.late.is_empty() {
            self.flush_series();
            let items = std::mem::take(&mut self.late);
            self.send(Work::OutOfOrder(items));
        }
    }

    /// Sends all that is collected.
    pub fn flush(&mut self) {
        self.flush_floats();
        self.flush_values();
        self.flush_late();
        self.flush_series();
    }
}

/// Decodes records and routes what they say.
pub struct Router {
    /// Labels of all series.
    pub index: Index,
    refs: RefTable,
    /// Chunks of files, by reference.
    pub found: FoundChunks,
    claimed: Vec<AttachedChunk>,
    /// Series that were deleted by a record.
    removed: HashSet<SeriesId>,
    /// Second references.
    aliases: HashMap<u64, Alias>,
    /// Deleted ranges.
    pub tombstones: HashMap<SeriesId, Vec<(i64, i64)>>,
    /// Exemplars; none if they are switched off.
    pub exemplars: Option<Exemplars>,
    /// How far an exemplar may lie behind its series' newest, ms.
    pub exemplar_window_ms: i64,
    /// The newest of each series.
    pub metadata: HashMap<SeriesId, Metadata>,
    /// To the workers.
    pub outboxes: Vec<Outbox>,
    min_valid_time: i64,
    /// Highest reference in any record.
    pub highest_ref: u64,
    /// Samples of series that are not known.
    pub unknown: u64,
    /// Of these, by reference: if the series was taken out, a record that says so may come.
    unknown_of: HashMap<u64, u64>,
    /// References of series that were taken out.
    pub taken_out: Vec<u64>,
    /// What is being read.
    pub role: Role,
    /// Whether the record can hold start timestamps.
    pub v2: bool,
    /// What of the record is left out because it is not known.
    pub left_out: Option<String>,
    /// Markers of the record, and whether their chunks were found.
    markers: Vec<(SeriesId, bool)>,
    /// Markers named chunks that are not there.
    pub has_made_chunks: bool,
}

impl Router {
    /// Nothing met yet.
    pub fn new(found: FoundChunks, outboxes: Vec<Outbox>, min_valid_time: i64, max_exemplars: usize) -> Self {
        Self {
            index: Index::default(),
            refs: RefTable::default(),
            highest_ref: found.highest_ref,
            found,
            claimed: Vec::new(),
            removed: HashSet::new(),
            aliases: HashMap::new(),
            tombstones: HashMap::new(),
            exemplars: (max_exemplars > 0).then(|| Exemplars::new(max_exemplars)),
            exemplar_window_ms: 0,
            metadata: HashMap::new(),
            outboxes,
            min_valid_time,
            unknown: 0,
            unknown_of: HashMap::new(),
            taken_out: Vec::new(),
            role: Role::Log,
            v2: false,
            left_out: None,
            markers: Vec::new(),
            has_made_chunks: false,
        }
    }

    /// Bytes held, but for the samples.
    pub fn bytes(&self) -> usize {
        let ranges: usize = self.tombstones.values().map(|r| r.capacity() * size_of::<(i64, i64)>()).sum();
        let pending: usize = self.outboxes.iter().map(|o| o.floats.capacity() * size_of::<FloatItem>()).sum();
        self.index.bytes()
            + self.refs.bytes()
            + self.found.bytes()
            + self.exemplars.as_ref().map_or(0, Exemplars::estimated_bytes)
            + self.metadata.capacity() * (size_of::<(SeriesId, Metadata)>() + 64)
            + self.tombstones.capacity() * (size_of::<(SeriesId, Vec<(i64, i64)>)>() + 1)
            + ranges
            + pending
    }

    /// Forgets what few series have.
    pub fn forget(&mut self, id: SeriesId) {
        self.tombstones.remove(&id);
        self.metadata.remove(&id);
        if let Some(exemplars) = &mut self.exemplars {
            exemplars.remove(Owner::Slot(id.0));
        }
    }

    /// Second references of series that were not deleted.
    pub fn live_aliases(&self) -> impl Iterator<Item = (u64, Alias)> {
        self.aliases
            .iter()
            .filter(|(_, alias)| !self.removed.contains(&alias.id))
            .map(|(r, alias)| (*r, *alias))
    }

    /// Tells all workers to seal.
    pub fn seal(&mut self) {
        for outbox in &mut self.outboxes {
            outbox.flush();
            outbox.send(Work::Seal);
        }
    }

    /// Ends a record: its markers count. A buffer of several kinds became several chunks: only if all of them were found
    /// are its samples in them; else they are made anew, for Prometheus believes the marker as soon as there are later
    /// chunks.
    pub fn end_record(&mut self) {
        if self.markers.is_empty() {
            return;
        }
        let mut markers = std::mem::take(&mut self.markers);
        markers.sort_unstable();
        for same in markers.chunk_by(|a, b| a.0 == b.0) {
            let id = same[0].0;
            let is_found = same.iter().all(|(_, is_found)| *is_found);
            self.has_made_chunks |= !is_found;
            let outbox = self.outbox(id);
            outbox.flush_late();
            outbox.send(if is_found { Work::Marked(id) } else { Work::Unmarked(id) });
        }
    }

    /// Takes in one record of a snapshot.
    ///
    /// # Errors
    /// If it is none.
    pub fn snapshot(&mut self, record: &[u8]) -> Result<(), String> {
        match read_record(record, self)? {
            Entry::Exemplars => {}
            Entry::Tombstones(list) => list.into_iter().for_each(|e| self.tombstone(e)),
            Entry::Series(entry, open) => {
                self.met(entry, open.filter(|c| c.maxt >= self.min_valid_time));
            }
        }
        Ok(())
    }

    #[inline]
    fn see_ref(&mut self, series: u64) {
        if series > self.highest_ref && series < MAX_REF {
            self.highest_ref = series;
        }
    }

    #[inline]
    fn lookup(&mut self, series: u64) -> Option<SeriesId> {
        self.see_ref(series);
        let id = SeriesId(self.refs.get(series)?);
        (self.removed.is_empty() || !self.removed.contains(&id)).then_some(id)
    }

    /// The series of a sample.
    #[inline]
    fn owner(&mut self, series: u64, t: i64) -> Option<SeriesId> {
        let id = self.lookup(series);
        if id.is_none() {
            self.see_unknown(series);
        } else if !self.aliases.is_empty()
            && let Some(alias) = self.aliases.get_mut(&series)
        {
            // The out-of-order log is cut off by other times than this one.
            alias.last_t = if self.role == Role::OutOfOrder { i64::MAX } else { alias.last_t.max(t) };
        }
        id
    }

    #[cold]
    fn see_unknown(&mut self, series: u64) {
        self.unknown += 1;
        *self.unknown_of.entry(series).or_default() += 1;
    }

    #[inline]
    fn outbox(&mut self, id: SeriesId) -> &mut Outbox {
        let (worker, _) = locate(id, self.outboxes.len() as u32);
        &mut self.outboxes[worker]
    }

    /// A series record.
    fn met(&mut self, entry: SeriesEntry<'_>, open: Option<Chunk>) {
        let known = self.lookup(entry.series);
        let Some((id, is_new)) = find_or_create(&mut self.index, entry.labels) else { return };
        if id == SeriesId::NONE {
            return;
        }
        if known == Some(id) {
            // A repeated record changes nothing. Upstream would drop the samples before it.
            return;
        }
        self.refs.set(entry.series, id.0);
        self.claimed.clear();
        self.found.claim(entry.series, &mut self.claimed);
        if is_new {
            self.aliases.remove(&entry.series);
        } else {
            let last_t = self.claimed.iter().map(|c| if c.out_of_order { i64::MAX } else { c.maxt }).max();
            self.aliases.insert(entry.series, Alias { id, last_t: last_t.unwrap_or(i64::MIN) });
            if self.claimed.is_empty() {
                return;
            }
        }
        let met = MetSeries {
            id,
            series_ref: is_new.then_some(entry.series),
            chunks: self.claimed.len() as u32,
            open: open.filter(|_| is_new),
        };
        let claimed = std::mem::take(&mut self.claimed);
        let outbox = self.outbox(id);
        if !is_new {
            outbox.flush();
        }
        outbox.series.push(met);
        outbox.chunks.extend_from_slice(&claimed);
        if outbox.series.len() >= SERIES {
            // Floats that are collected are of other series.
            outbox.flush_series();
        }
        self.claimed = claimed;
    }

    fn value(&mut self, series: u64, t: i64, st: i64, value: SampleValue) {
        let role = self.role;
        let Some(id) = self.owner(series, t) else { return };
        let item = ValueItem { id, t, st, value };
        let outbox = self.outbox(id);
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

/// The series of a label set as a record has it; none without labels.
fn find_or_create(index: &mut Index, labels: EncodedLabels<'_>) -> Option<(SeriesId, bool)> {
    let mut pairs: SmallVec<[(&str, &str); 24]> = SmallVec::new();
    let mut before = "";
    let mut is_plain = true;
    for (name, value) in labels.iter() {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            is_plain = false;
            break;
        };
        is_plain &= before < name && !value.is_empty();
        before = name;
        pairs.push((name, value));
    }
    if is_plain {
        return (!pairs.is_empty()).then(|| index.find_or_create(pairs.iter().copied()));
    }
    // What no server writes: made into a label set, of equal names the first.
    let mut owned: Vec<(Cow<'_, str>, Cow<'_, str>)> = labels
        .iter()
        .map(|(n, v)| (text(n), text(v)))
        .filter(|(n, v)| !n.is_empty() && !v.is_empty())
        .collect();
    owned.sort_by(|a, b| a.0.cmp(&b.0));
    owned.dedup_by(|a, b| a.0 == b.0);
    (!owned.is_empty()).then(|| index.find_or_create(owned.iter().map(|(n, v)| (&**n, &**v))))
}

impl Visitor for Router {
    fn series(&mut self, entry: SeriesEntry<'_>) {
        if self.role != Role::OutOfOrder {
            self.met(entry, None);
        }
    }

    #[inline]
    fn sample(&mut self, entry: SampleEntry<f64>) {
        let (t, st) = (entry.timestamp_ms, entry.start_timestamp_ms);
        if self.role == Role::OutOfOrder {
            return self.value(entry.series, t, st, SampleValue::Float(entry.value));
        }
        if t < self.min_valid_time {
            return self.see_ref(entry.series);
        }
        let Some(id) = self.owner(entry.series, t) else { return };
        let v2 = self.v2;
        let (worker, place) = locate(id, self.outboxes.len() as u32);
        let outbox = &mut self.outboxes[worker];
        if !outbox.values.is_empty() {
            outbox.flush_values();
        }
        let start = match (v2, st) {
            (false, _) => FloatItem::V1,
            (true, 0) => FloatItem::NO_START,
            (true, st) => {
                outbox.starts.push(st);
                FloatItem::START + outbox.starts.len() as u32 - 1
            }
        };
        outbox.floats.push(FloatItem { place, start, t, v: entry.value });
        if outbox.floats.len() >= FLOATS {
            outbox.flush_floats();
        }
    }

    fn wants_histogram(&mut self, series: u64, timestamp_ms: i64) -> bool {
        if self.role != Role::OutOfOrder && timestamp_ms < self.min_valid_time {
            self.see_ref(series);
            return false;
        }
        let is_known = self.lookup(series).is_some();
        if !is_known {
            self.see_unknown(series);
        }
        is_known
    }

    fn histogram(&mut self, mut entry: SampleEntry<Histogram>) {
        // Only a newer server writes what is finer than upstream's finest.
        if entry.value.schema > MAX_SCHEMA && entry.value.reduce_resolution(MAX_SCHEMA).is_err() {
            return;
        }
        let value = SampleValue::Histogram(Box::new(entry.value));
        self.value(entry.series, entry.timestamp_ms, entry.start_timestamp_ms, value);
    }

    fn float_histogram(&mut self, mut entry: SampleEntry<FloatHistogram>) {
        if entry.value.schema > MAX_SCHEMA && entry.value.reduce_resolution(MAX_SCHEMA).is_err() {
            return;
        }
        let value = SampleValue::FloatHistogram(Box::new(entry.value));
        self.value(entry.series, entry.timestamp_ms, entry.start_timestamp_ms, value);
    }

    fn unknown_schema(&mut self, _: u64, schema: i32) {
        self.left_out = Some(format!("a histogram of schema {schema}, which is not known"));
    }

    fn tombstone(&mut self, entry: TombstoneEntry) {
        let known = self.lookup(entry.series);
        if self.role == Role::OutOfOrder {
            return;
        }
        if entry.is_whole_series() {
            // A checkpoint may have left out the series record; all samples are in a block.
            self.unknown -= self.unknown_of.remove(&entry.series).unwrap_or(0);
            self.taken_out.push(entry.series);
        }
        let Some(id) = known else { return };
        if entry.is_whole_series() {
            self.index.remove(&[id]);
            self.removed.insert(id);
            self.forget(id);
            let outbox = self.outbox(id);
            outbox.flush();
            outbox.send(Work::Remove(id));
        } else if entry.mint <= entry.maxt {
            // Of one before `min_valid_time` it is not known yet whether there are samples out of order.
            if let Some(alias) = self.aliases.get_mut(&entry.series) {
                alias.last_t = alias.last_t.max(entry.maxt);
            }
            self.tombstones.entry(id).or_default().push((entry.mint, entry.maxt));
        }
    }

    fn exemplar(&mut self, entry: ExemplarEntry<'_>) {
        let owner = self.lookup(entry.series);
        if self.role == Role::OutOfOrder || entry.timestamp_ms < self.min_valid_time {
            return;
        }
        if let (Some(id), Some(exemplars)) = (owner, &mut self.exemplars) {
            if let Some(alias) = self.aliases.get_mut(&entry.series) {
                alias.last_t = alias.last_t.max(entry.timestamp_ms);
            }
            let (owner, t, value) = (Owner::Slot(id.0), entry.timestamp_ms, entry.value);
            // The log also has those that were refused at commit; a snapshot has none.
            let is_refused = self.role == Role::Log
                && exemplars.judge(owner, (t, value), entry.labels, self.exemplar_window_ms)
                    == Verdict::OutOfOrder;
            if !is_refused {
                exemplars.add(owner, t, value, entry.labels);
            }
        }
    }

    fn metadata(&mut self, entry: MetadataEntry<'_>) {
        if let Some(id) = self.lookup(entry.series) {
            let (unit, help) = (text(entry.unit).into(), text(entry.help).into());
            self.metadata
                .insert(id, Metadata { kind: MetricType::of_number(entry.metric_type.into()), unit, help });
        }
    }

    fn marker(&mut self, entry: MarkerEntry) {
        let known = self.lookup(entry.series);
        // A marker of a chunk that was not found says nothing: its samples are in this log. That of a series' first sample
        // says nothing either.
        if let (Some(id), Role::OutOfOrder, 1..) = (known, self.role, entry.chunk) {
            self.markers.push((id, self.found.has_marked(entry.series, entry.chunk)));
        }
    }
}
