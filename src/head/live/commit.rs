//! Commit: the batch is encoded outside of all locks, logged in one write, then applied shard by shard.
//!
//! ```text
//! encode, compress · log locked: series that are not logged yet, the batch, one write, the commit's number
//! · in-order samples to memory · the number is visible
//! · out-of-order log locked: markers and samples to memory, then to the log
//! ```
//! Who commits first logs a series, whoever made it, so that no sample precedes its series. A series counts as logged
//! only once that write is done: a failed one leaves nothing to take back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::StorageError;
use tsdbctl_wal::cursor::{put_be64, put_string, put_uvarint};
use tsdbctl_wal::record::{MarkerEntry, RecordType, SampleEntry, encode};
use tsdbctl_wal::{Compression, LogGuard, PackedRecord, Position, RecordPacker};

use crate::live::appender::{Appender, Committed, forget, unmark};
use crate::live::batch::{Batch, Column};
use crate::live::head::{Head, lock, read};
use crate::live::index::SeriesId;
use crate::live::isolation::Isolation;
use crate::live::record::{Record, flags};
use crate::live::shard::{Applied, Bounds, Route, SampleValue, Shard};
use crate::loss::storage_error;

/// A record of series is ended behind this many bytes.
const SERIES_RECORD_BYTES: usize = 1 << 20;
/// Samples that are applied under one lock of a shard at most.
const RUN: usize = 1024;
/// Series whose memory is asked for at one time: as many as a core can wait for, and a bit more.
const WARM: usize = 32;

/// What commits use again.
#[derive(Debug)]
pub(super) struct Buffers {
    packer: RecordPacker,
    raw: Vec<u8>,
    records: Vec<PackedRecord>,
    /// Samples that go out of order.
    late: Column<SampleValue>,
    /// What of them the out-of-order log gets next.
    late_batch: Batch,
    markers: Vec<MarkerEntry>,
    /// Series that have something in `late_batch` or `markers`.
    touched: HashSet<SeriesId>,
}

impl Buffers {
    pub fn new(compression: Compression) -> Self {
        Self {
            packer: RecordPacker::new(compression),
            raw: Vec::new(),
            records: Vec::new(),
            late: Column::default(),
            late_batch: Batch::default(),
            markers: Vec::new(),
            touched: HashSet::new(),
        }
    }

    /// Samples that wait for the out-of-order log.
    pub fn late_len(&self) -> usize {
        self.late.len()
    }

    fn pack(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.raw.clear();
        encode(&mut self.raw);
        let packed = self.packer.pack(&self.raw);
        self.records.push(packed);
    }

    /// Packs the records of a set of columns, in upstream's order. `v2` keeps start timestamps.
    fn pack_batch(&mut self, batch: &Batch, v2: bool, metadata: bool) {
        if metadata && !batch.metadata.is_empty() {
            let entries =
                batch.metadata.iter().map(|(_, series, m)| (*series, m.kind.number(), &*m.unit, &*m.help));
            self.pack(|out| encode::metadata(out, entries));
        }
        self.pack_samples(batch, v2);
        if batch.exemplars.len() > 0 {
            self.pack(|out| encode::exemplars(out, &batch.exemplars.entries));
        }
    }

    fn pack_samples(&mut self, batch: &Batch, v2: bool) {
        let mut column = |filled: bool, encode: &dyn Fn(&mut Vec<u8>)| {
            if filled {
                self.pack(encode);
            }
        };
        let floats = &batch.floats.entries;
        column(!floats.is_empty(), &|out| {
            if v2 { encode::samples_v2(out, floats) } else { encode::samples(out, floats) }
        });
        for histograms in [&batch.histograms.entries, &batch.custom_histograms.entries] {
            column(!histograms.is_empty(), &|out| {
                if v2 { encode::histograms_v2(out, histograms) } else { encode::histograms(out, histograms) }
            });
        }
        for histograms in [&batch.float_histograms.entries, &batch.custom_float_histograms.entries] {
            column(!histograms.is_empty(), &|out| {
                if v2 {
                    encode::float_histograms_v2(out, histograms);
                } else {
                    encode::float_histograms(out, histograms);
                }
            });
        }
    }

    /// Packs what is gathered for the out-of-order log, markers in front.
    fn pack_late(&mut self, v2: bool) {
        if !self.markers.is_empty() {
            let markers = std::mem::take(&mut self.markers);
            self.pack(|out| encode::markers(out, &markers));
            self.markers = markers;
            self.markers.clear();
        }
        let mut batch = std::mem::take(&mut self.late_batch);
        self.pack_samples(&batch, v2);
        batch.clear();
        self.late_batch = batch;
        self.touched.clear();
    }

    /// Series records of series whose labels the index has.
    fn pack_series(&mut self, head: &Head, series: &[(SeriesId, u64)]) -> Vec<PackedRecord> {
        let mut packed = Vec::new();
        let index = read(&head.index);
        let mut rest = series;
        while !rest.is_empty() {
            self.raw.clear();
            self.raw.push(RecordType::Series as u8);
            while let [(id, series_ref), behind @ ..] = rest
                && self.raw.len() < SERIES_RECORD_BYTES
            {
                put_be64(&mut self.raw, *series_ref);
                put_uvarint(&mut self.raw, index.pair_numbers(*id).count() as u64);
                for pair in index.pair_numbers(*id) {
                    let (name, value) = index.pair_bytes(pair);
                    put_string(&mut self.raw, name);
                    put_string(&mut self.raw, value);
                }
                rest = behind;
            }
            packed.push(self.packer.pack(&self.raw));
        }
        packed
    }
}

/// The kind of a series' newest sample, in [`Record::flags`].
fn kind_of(record: &Record) -> u16 {
    (record.flags & flags::KIND_MASK) >> flags::KIND_SHIFT
}

/// Those of the series that are not in the log, with their references.
fn not_logged(head: &Head, ids: &[SeriesId]) -> Vec<(SeriesId, u64)> {
    let mut found = Vec::new();
    for run in ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
        let shard = lock(head.shard_of(run[0]));
        for id in run {
            if let Some(record) = shard.record(*id)
                && record.flags & flags::LOGGED == 0
            {
                found.push((*id, record.series_ref));
            }
        }
    }
    found
}

fn set_logged(head: &Head, series: &[(SeriesId, u64)]) {
    for run in series.chunk_by(|a, b| a.0.0 >> 8 == b.0.0 >> 8) {
        let mut shard = lock(head.shard_of(run[0].0));
        for (id, _) in run {
            if let Some(record) = shard.record_mut(*id) {
                record.flags |= flags::LOGGED;
            }
        }
    }
}

/// A commit's number, finished when it is dropped.
struct Numbered<'a> {
    isolation: &'a Isolation,
    number: u64,
}

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.isolation.finish_commit(self.number);
    }
}

/// Times of stored samples.
#[derive(Clone, Copy)]
struct Times(i64, i64);

impl Times {
    const NONE: Self = Self(i64::MAX, i64::MIN);

    fn add(&mut self, t: i64) {
        self.0 = self.0.min(t);
        self.1 = self.1.max(t);
    }
}

/// What is the same for all samples of a commit.
struct Apply<'a> {
    head: &'a Head,
    bounds: &'a Bounds,
    number: u64,
    /// All commits before this one are finished.
    is_next: bool,
    oldest_view: u64,
    done: Committed,
    times: Times,
}

impl Head {
    /// Waits until a commit is as durable as the log's policy promises.
    ///
    /// # Errors
    /// If it may be lost.
    pub fn wait(&self, committed: &Committed) -> Result<(), StorageError> {
        self.wal.wait(committed.wal).map_err(storage_error)?;
        if committed.wbl == Position::default() {
            return Ok(());
        }
        let log = lock(&self.wbl).clone();
        log.map_or(Ok(()), |log| log.wait(committed.wbl).map_err(storage_error))
    }

    /// Appends records to the log behind the records of those series that are not in it yet, in one write; `then` runs
    /// before anything else can be appended.
    fn append_to_log<T>(
        &self,
        unlogged: &mut Vec<SeriesId>,
        buffers: &mut Buffers,
        then: impl FnOnce(Position) -> T,
    ) -> Result<Option<T>, StorageError> {
        unlogged.sort_unstable();
        unlogged.dedup();
        let mut series = if unlogged.is_empty() { Vec::new() } else { not_logged(self, unlogged) };
        let mut packed = buffers.pack_series(self, &series);
        let mut log = self.wal.lock();
        if !series.is_empty() {
            // Another appender may have logged some of them meanwhile; a second record would cost Prometheus, which
            // reads it as a new series, what it has of the first.
            let now = not_logged(self, unlogged);
            if now != series {
                packed = buffers.pack_series(self, &now);
                series = now;
            }
        }
        if packed.is_empty() && buffers.records.is_empty() {
            return Ok(None);
        }
        buffers.records.splice(0..0, packed);
        let position = log.append(&buffers.records).map_err(storage_error)?;
        set_logged(self, &series);
        Ok(Some(then(position)))
    }
}

impl Appender {
    /// Logs series that are not logged, without any samples.
    pub(super) fn log_series_alone(&mut self) -> Result<(), StorageError> {
        let head = Arc::clone(&self.head);
        let done = head.append_to_log(&mut self.unlogged, &mut self.buffers, |_| ());
        self.buffers.packer.recycle(&mut self.buffers.records);
        done.map(|_| ())
    }

    /// The commit of the batch, added to what is done. If it cannot be logged, the batch is as before. Once it is, it is
    /// stored and emptied but for what is out of order.
    pub(super) fn log_and_apply(&mut self) -> Result<(), StorageError> {
        let head = Arc::clone(&self.head);
        let (v2, metadata) = (head.options.rules.start_timestamps, head.options.metadata_records);
        for batch in self.batches.iter() {
            self.buffers.pack_batch(batch, v2, metadata);
        }
        let logged = head.append_to_log(&mut self.unlogged, &mut self.buffers, |position| {
            (position, head.isolation.begin_commit())
        });
        self.buffers.packer.recycle(&mut self.buffers.records);
        let Some((position, number)) = logged? else {
            // Without records there are neither samples nor exemplars; metadata may be for memory only.
            self.apply_metadata();
            self.forget_marks();
            self.forget_held();
            self.empty();
            return Ok(());
        };
        let numbered = Numbered { isolation: &head.isolation, number };
        // What is in blocks by now takes no more samples, whatever was so when the batch began. Asked behind the number:
        // see `Head::end_in_order`.
        let mut bounds = self.bounds();
        bounds.min_valid_ms = bounds.min_valid_ms.max(head.min_valid_time.load(Ordering::Acquire));
        let mut apply = Apply {
            head: &head,
            bounds: &bounds,
            number,
            is_next: head.isolation.is_next(number),
            oldest_view: head.isolation.oldest_view(),
            done: Committed { wal: position, ..self.done },
            times: Times::NONE,
        };
        for batch in self.batches.used() {
            apply.batch(batch, &mut self.buffers.late);
        }
        let Apply { done, times, .. } = apply;
        head.extend_times((times.0, times.1), (i64::MAX, i64::MIN));
        drop(numbered);
        // Who is told that it is stored sees it from then on, though commits before it are still on their way.
        head.isolation.wait_until_next(number.saturating_add(1));
        self.apply_metadata();
        self.forget_held();
        head.note_samples(done.stored - self.done.stored);
        self.done = done;
        self.empty();
        if self.buffers.late.len() > 0 { self.apply_late() } else { Ok(()) }
    }

    fn apply_metadata(&mut self) {
        let mut known = None;
        for batch in self.batches.used() {
            for (id, _, metadata) in batch.metadata.drain(..) {
                known.get_or_insert_with(|| lock(&self.head.metadata)).insert(id, metadata);
            }
        }
    }

    /// Out-of-order samples to memory and to their log, or on from where that failed. What is in memory but could not
    /// be logged is kept as a debt that is paid before anything else is taken out of order, so that an answer never
    /// rests on memory alone.
    pub(super) fn apply_late(&mut self) -> Result<(), StorageError> {
        let head = Arc::clone(&self.head);
        self.half = true;
        let log = head.out_of_order_log()?;
        let mut guard = log.lock();
        pay_debt(&head, &mut guard)?;
        let (late, buffers) = (std::mem::take(&mut self.buffers.late), &mut self.buffers);
        let (mut ids, mut entries) = (late.ids, late.entries);
        let v2 = head.options.rules.start_timestamps;
        let mut times = Times::NONE;
        let mut drained = entries.drain(..);
        for run in ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            let mut shard = lock(head.shard_of(run[0]));
            for same in run.chunk_by(|a, b| a == b) {
                for (id, entry) in same.iter().zip(&mut drained) {
                    insert_late(&head, &mut shard, *id, entry, buffers, v2, &mut self.late_done, &mut times);
                }
                unmark(&mut shard, same[0]);
            }
        }
        drop(drained);
        ids.clear();
        self.buffers.late = Column { ids, entries };
        self.buffers.pack_late(v2);
        head.extend_times((i64::MAX, i64::MIN), (times.0, times.1));
        // With nothing to append, because a debt was paid, it tells the end of the log.
        let position = guard.append(&self.buffers.records).map_err(|e| {
            lock(&head.wbl_debt).append(&mut self.buffers.records);
            storage_error(e)
        })?;
        drop(guard);
        self.buffers.packer.recycle(&mut self.buffers.records);
        let late = std::mem::take(&mut self.late_done);
        self.done.stored += late.stored;
        self.done.out_of_order += late.out_of_order;
        self.done.same += late.same;
        self.done.refused.merge(&late.refused);
        self.done.wbl = position;
        self.half = false;
        head.note_samples(late.stored);
        Ok(())
    }

    /// Drops what was to go out of order.
    pub(super) fn forget_late(&mut self) {
        forget(&self.head, &self.buffers.late.ids);
        self.buffers.late.clear();
    }
}

/// Writes what the out-of-order log should have already.
pub(super) fn pay_debt(head: &Head, guard: &mut LogGuard<'_>) -> Result<(), StorageError> {
    let mut debt = lock(&head.wbl_debt);
    if !debt.is_empty() {
        guard.append(&debt).map_err(storage_error)?;
        debt.clear();
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the loop's state, taken apart for the borrow checker")]
fn insert_late(
    head: &Head,
    shard: &mut Shard,
    id: SeriesId,
    entry: SampleEntry<SampleValue>,
    buffers: &mut Buffers,
    v2: bool,
    done: &mut Committed,
    times: &mut Times,
) {
    let SampleEntry { series, start_timestamp_ms, timestamp_ms: t, value } = entry;
    let full = shard.make_room_out_of_order(id, &head.options.rules, &head.files);
    if !full.is_empty() {
        // A marker says that all samples before it are in chunks: those of the series that are gathered go first.
        if buffers.touched.contains(&id) {
            buffers.pack_late(v2);
        }
        buffers.markers.extend(full.iter().map(|chunk| MarkerEntry { series, chunk: *chunk }));
        buffers.touched.insert(id);
    }
    match shard.insert_out_of_order(id, (t, start_timestamp_ms), value.clone()) {
        Applied::OutOfOrder | Applied::Stored => {
            done.stored += 1;
            done.out_of_order += 1;
            times.add(t);
        }
        Applied::Same => {
            done.same += 1;
            return;
        }
        Applied::Refused(refusal) => {
            done.refused.add(refusal);
            return;
        }
    }
    buffers.touched.insert(id);
    let (batch, at) = (&mut buffers.late_batch, (series, start_timestamp_ms, t));
    match value {
        SampleValue::Float(v) => batch.floats.push(id, entry_of(at, v)),
        SampleValue::Histogram(h) if h.uses_custom_buckets() => {
            batch.custom_histograms.push(id, entry_of(at, *h))
        }
        SampleValue::Histogram(h) => batch.histograms.push(id, entry_of(at, *h)),
        SampleValue::FloatHistogram(h) if h.uses_custom_buckets() => {
            batch.custom_float_histograms.push(id, entry_of(at, *h));
        }
        SampleValue::FloatHistogram(h) => batch.float_histograms.push(id, entry_of(at, *h)),
    }
}

fn entry_of<V>((series, start_timestamp_ms, timestamp_ms): (u64, i64, i64), value: V) -> SampleEntry<V> {
    SampleEntry { series, start_timestamp_ms, timestamp_ms, value }
}

/// Whether somebody else has a sample of the series on the way.
#[inline]
fn is_contended(shard: &Shard, id: SeriesId) -> bool {
    shard.record(id).is_some_and(|record| record.pending > 1)
}

impl Apply<'_> {
    /// The samples of a series are applied in the order of the log: of two that were applied the other way round, the
    /// older one would be in order in memory but not for who loads. So who finds a series that another batch has too
    /// waits for the commits in front of its own. No lock of a shard may be held.
    #[cold]
    fn wait_until_next(&mut self) {
        self.head.isolation.wait_until_next(self.number);
        self.is_next = true;
    }

    /// A set of columns, in the order of their records.
    fn batch(&mut self, batch: &mut Batch, late: &mut Column<SampleValue>) {
        let Batch {
            floats, histograms, custom_histograms, float_histograms, custom_float_histograms, ..
        } = batch;
        self.floats(floats, late);
        for column in [histograms, custom_histograms] {
            self.column(column, |h| SampleValue::Histogram(Box::new(h)), late);
        }
        for column in [float_histograms, custom_float_histograms] {
            self.column(column, |h| SampleValue::FloatHistogram(Box::new(h)), late);
        }
        if batch.exemplars.len() > 0 && !self.is_next {
            self.wait_until_next();
        }
        for (id, entry) in batch.exemplars.ids.iter().zip(&batch.exemplars.entries) {
            let (v, labels) = &entry.value;
            match self.head.judge_exemplar(*id, entry.timestamp_ms, *v, labels) {
                Ok(true) => {
                    self.head.store_exemplar(*id, entry.timestamp_ms, *v, labels);
                    self.done.exemplars += 1;
                }
                Ok(false) => {}
                Err(refusal) => self.done.refused.add(refusal),
            }
        }
    }

    fn floats(&mut self, column: &Column<f64>, late: &mut Column<SampleValue>) {
        let mut at = 0;
        while at < column.len() {
            let page = column.ids[at].0 >> 8;
            let end = (at + RUN).min(column.len());
            let mut shard = lock(self.head.shard_of(column.ids[at]));
            shard.set_oldest_view(self.oldest_view);
            let mut warm = at;
            while at < end && column.ids[at].0 >> 8 == page {
                if at == warm {
                    let next = &column.ids[at..end.min(at + WARM)];
                    let same = next.iter().take_while(|id| id.0 >> 8 == page).count();
                    shard.warm(&next[..same]);
                    warm += WARM;
                }
                let (id, entry) = (column.ids[at], &column.entries[at]);
                if !self.is_next && is_contended(&shard, id) {
                    drop(shard);
                    self.wait_until_next();
                    shard = lock(self.head.shard_of(id));
                    shard.set_oldest_view(self.oldest_view);
                }
                if is_stale(entry.value) {
                    self.stale(&mut shard, id, entry, late);
                } else {
                    self.float(&mut shard, id, entry, late);
                }
                at += 1;
                if column.ids.get(at) != Some(&id) {
                    unmark(&mut shard, id);
                }
            }
        }
    }

    #[inline]
    fn float(
        &mut self,
        shard: &mut Shard,
        id: SeriesId,
        entry: &SampleEntry<f64>,
        late: &mut Column<SampleValue>,
    ) {
        let (t, st, v) = (entry.timestamp_ms, entry.start_timestamp_ms, entry.value);
        match shard.check_float(id, t, v, self.bounds) {
            Ok(Route::InOrder) => {
                let head = self.head;
                let applied =
                    shard.append_float(id, (t, st), v, self.number as u32, &head.options.rules, &head.files);
                self.count(applied, t);
            }
            Ok(Route::Same) => self.done.same += 1,
            Ok(Route::OutOfOrder) => {
                late.push_marked(shard, id, entry_of((entry.series, st, t), SampleValue::Float(v)));
            }
            Err(refusal) => self.done.refused.add(refusal),
        }
    }

    /// A stale marker takes the kind of the series' newest sample. What the batch has of histograms of its series came
    /// behind it.
    fn stale(
        &mut self,
        shard: &mut Shard,
        id: SeriesId,
        entry: &SampleEntry<f64>,
        late: &mut Column<SampleValue>,
    ) {
        let at = (entry.series, entry.start_timestamp_ms, entry.timestamp_ms);
        let kind = match shard.record(id) {
            Some(record) if record.flags & flags::HAS_LAST != 0 => kind_of(record),
            _ => 0,
        };
        let sum = entry.value;
        match kind {
            1 => {
                let h = Histogram { sum, ..Default::default() };
                self.value(shard, id, entry_of(at, h), |h| SampleValue::Histogram(Box::new(h)), late);
            }
            2 => {
                let h = FloatHistogram { sum, ..Default::default() };
                self.value(shard, id, entry_of(at, h), |h| SampleValue::FloatHistogram(Box::new(h)), late);
            }
            _ => self.float(shard, id, entry, late),
        }
    }

    fn column<V>(
        &mut self,
        column: &mut Column<V>,
        wrap: impl Fn(V) -> SampleValue,
        late: &mut Column<SampleValue>,
    ) {
        if !self.is_next {
            let is_contended = |run: &[SeriesId]| {
                let shard = lock(self.head.shard_of(run[0]));
                run.iter().any(|id| is_contended(&shard, *id))
            };
            if column.ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8).any(is_contended) {
                self.wait_until_next();
            }
        }
        let mut entries = column.entries.drain(..);
        for run in column.ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            let mut shard = lock(self.head.shard_of(run[0]));
            shard.set_oldest_view(self.oldest_view);
            for same in run.chunk_by(|a, b| a == b) {
                for (id, entry) in same.iter().zip(&mut entries) {
                    self.value(&mut shard, *id, entry, &wrap, late);
                }
                unmark(&mut shard, same[0]);
            }
        }
    }

    fn value<V>(
        &mut self,
        shard: &mut Shard,
        id: SeriesId,
        entry: SampleEntry<V>,
        wrap: impl Fn(V) -> SampleValue,
        late: &mut Column<SampleValue>,
    ) {
        let SampleEntry { series, start_timestamp_ms: st, timestamp_ms: t, value } = entry;
        let value = wrap(value);
        match shard.check(id, t, &value, self.bounds) {
            Ok(Route::InOrder) => {
                let head = self.head;
                let applied =
                    shard.append(id, (t, st), value, self.number as u32, &head.options.rules, &head.files);
                self.count(applied, t);
            }
            Ok(Route::Same) => self.done.same += 1,
            Ok(Route::OutOfOrder) => late.push_marked(shard, id, entry_of((series, st, t), value)),
            Err(refusal) => self.done.refused.add(refusal),
        }
    }

    #[inline]
    fn count(&mut self, applied: Applied, t: i64) {
        match applied {
            Applied::Stored => {
                self.done.stored += 1;
                self.times.add(t);
            }
            Applied::OutOfOrder => {
                self.done.stored += 1;
                self.done.out_of_order += 1;
            }
            Applied::Same => self.done.same += 1,
            Applied::Refused(refusal) => self.done.refused.add(refusal),
        }
    }
}
