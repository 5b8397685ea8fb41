//! Appenders: batches of samples, validated as they come, logged and applied at commit.
//!
//! A sample is judged by what is committed when it comes and by the head's times when its batch began. What clashes
//! inside the batch, or with another appender, shows at the second look at commit, when it is logged already; its
//! class is counted there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tsdbctl_model::histogram::EXPONENTIAL_SCHEMA_MAX;
use tsdbctl_model::histogram::is_exponential_schema_reserved;
use tsdbctl_model::sample::{Exemplar, MetricType, is_stale};
use tsdbctl_model::{FloatHistogram, Histogram, Labels};
use tsdbctl_storage::StorageError;
use tsdbctl_storage::append::{Refusal, RefusalCounts};
use tsdbctl_wal::Position;
use tsdbctl_wal::record::SampleEntry;

use crate::live::batch::{Batches, Column, Kind};
use crate::live::commit::Buffers;
use crate::live::head::{Head, lock, read};
use crate::live::index::SeriesId;
use crate::live::record::flags;
use crate::live::shard::{Bounds, SampleValue, Shard};
use crate::replay::Metadata;

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Samples stored, in order and not.
    pub stored: u64,
    /// Of these, out of order.
    pub out_of_order: u64,
    /// Samples that were there already with the same value, or are taken to have it because the chunk they are in cannot be
    /// read.
    pub same: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Samples and exemplars that passed validation but not the second look at commit.
    pub refused: RefusalCounts,
    /// The commit's end in the log.
    pub wal: Position,
    /// Its end in the out-of-order log, 0 if it has nothing there.
    pub wbl: Position,
}

/// A batch of samples; used again after commit or rollback. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Appender {
    pub(super) head: Arc<Head>,
    /// Something was put into the batch.
    open: bool,
    /// The head's times, taken with the first sample.
    bounds: Option<Bounds>,
    pub(super) batches: Batches,
    /// Series that the batch made, or has exemplars or metadata of; each has a mark that keeps it.
    pub(super) held: Vec<SeriesId>,
    /// Series that were not in the log when they were met.
    pub(super) unlogged: Vec<SeriesId>,
    pub(super) buffers: Buffers,
    /// What the commit that is under way did so far.
    pub(super) done: Committed,
    /// What is out of order waits for its log; the rest of the batch is stored.
    pub(super) half: bool,
    /// What was done with samples that are in memory but not yet in the out-of-order log.
    pub(super) late_done: Committed,
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.rollback();
    }
}

/// Notes that an append to the series waits for its commit; a series with such notes is not collected. Its reference,
/// and whether its series record is in the log.
fn mark(shard: &mut Shard, id: SeriesId, again: bool) -> Result<(u64, bool), Refusal> {
    let record = shard.record_mut(id).ok_or(Refusal::UnknownSeries)?;
    if !again {
        record.pending = record.pending.saturating_add(1);
    }
    record.flags &= !flags::CANDIDATE;
    Ok((record.series_ref, record.flags & flags::LOGGED != 0))
}

impl Appender {
    /// An empty batch.
    pub fn new(head: Arc<Head>) -> Self {
        let buffers = Buffers::new(head.options.log.compression);
        Self {
            head,
            open: false,
            bounds: None,
            batches: Batches::default(),
            held: Vec::new(),
            unlogged: Vec::new(),
            buffers,
            done: Committed::default(),
            half: false,
            late_done: Committed::default(),
        }
    }

    /// The head it appends to.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// The head's times as the batch took them with its first sample, or would.
    pub fn bounds(&self) -> Bounds {
        self.bounds.unwrap_or_else(|| self.head.bounds())
    }

    fn begin(&mut self) {
        if !self.open {
            self.open = true;
            self.head.open_batches.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn begin_samples(&mut self, t: i64) -> Bounds {
        match self.bounds {
            Some(bounds) => bounds,
            None => {
                self.begin();
                self.head.begin_time(t);
                *self.bounds.insert(self.head.bounds())
            }
        }
    }

    /// Empties the batch, whose marks are taken back already.
    pub(super) fn empty(&mut self) {
        self.batches.clear();
        self.held.clear();
        self.unlogged.clear();
        self.bounds = None;
    }

    fn end(&mut self) {
        self.empty();
        if std::mem::take(&mut self.open) {
            self.head.open_batches.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The series of a label set (sorted by name, names unique; empty values are left out), made if it is new.
    ///
    /// # Errors
    /// If the set is empty, not sorted or names a label twice, or no more series are taken.
    pub fn series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<SeriesId, Refusal> {
        let (id, new) = self.head.series(labels)?;
        if new {
            self.begin();
            self.held.push(id);
            self.unlogged.push(id);
        }
        Ok(id)
    }

    /// The series of a label set, as [`Appender::series`] takes it, if there is one.
    pub fn find<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<SeriesId> {
        read(&self.head.index).look_up(labels.filter(|(_, value)| !value.is_empty())).ok()
    }

    /// Adds a float. `st` is its start timestamp, 0 for none; where those are not stored it is left out.
    ///
    /// # Errors
    /// The class in which it is refused; [`Refusal::UnknownSeries`] if the series was collected meanwhile.
    pub fn append_float(&mut self, id: SeriesId, t: i64, v: f64, st: i64) -> Result<(), Refusal> {
        let bounds = self.begin_samples(t);
        if is_stale(v) && !self.batches.is_plain() {
            // The marker takes the kind of what the batch has of the series, rather than begin a new set of columns.
            match self.batches.kind(id) {
                Kind::Float => {}
                Kind::Histogram | Kind::CustomHistogram => {
                    return self.add_histogram(id, t, Histogram { sum: v, ..Histogram::default() }, st);
                }
                Kind::FloatHistogram | Kind::CustomFloatHistogram => {
                    return self.add_float_histogram(
                        id,
                        t,
                        FloatHistogram { sum: v, ..Default::default() },
                        st,
                    );
                }
            }
        }
        let head = Arc::clone(&self.head);
        let mut shard = lock(head.shard_of(id));
        self.add_float(&mut shard, id, (t, self.start(st)), v, &bounds)
    }

    #[inline]
    fn start(&self, st: i64) -> i64 {
        if self.head.options.rules.start_timestamps { st } else { 0 }
    }

    #[inline]
    fn add_float(
        &mut self,
        shard: &mut Shard,
        id: SeriesId,
        (t, start_timestamp_ms): (i64, i64),
        v: f64,
        bounds: &Bounds,
    ) -> Result<(), Refusal> {
        shard.check_float(id, t, v, bounds)?;
        let column = if self.batches.is_plain() {
            &mut self.batches.last().floats
        } else {
            &mut self.batches.for_kind(id, Kind::Float).floats
        };
        let (series, logged) = mark(shard, id, column.ids.last() == Some(&id))?;
        column.push(id, SampleEntry { series, start_timestamp_ms, timestamp_ms: t, value: v });
        if !logged && self.unlogged.last() != Some(&id) {
            self.unlogged.push(id);
        }
        Ok(())
    }

    /// Adds floats of many series at one go; `refused` is told about each that is refused. Neighbouring series share a
    /// shard, which is locked once for a run of them.
    pub fn append_floats(
        &mut self,
        samples: &[(SeriesId, i64, f64)],
        mut refused: impl FnMut(usize, Refusal),
    ) {
        let Some((_, t, _)) = samples.first() else { return };
        let bounds = self.begin_samples(*t);
        if !self.batches.is_plain() {
            for (i, (id, t, v)) in samples.iter().enumerate() {
                if let Err(refusal) = self.append_float(*id, *t, *v, 0) {
                    refused(i, refusal);
                }
            }
            return;
        }
        let head = Arc::clone(&self.head);
        let mut at = 0;
        for run in samples.chunk_by(|a, b| a.0.0 >> 8 == b.0.0 >> 8) {
            let mut shard = lock(head.shard_of(run[0].0));
            for (i, (id, t, v)) in run.iter().enumerate() {
                if let Err(refusal) = self.add_float(&mut shard, *id, (*t, 0), *v, &bounds) {
                    refused(at + i, refusal);
                }
            }
            at += run.len();
        }
    }

    /// Adds an integer histogram. Finer schemas than are stored are reduced to the finest that is.
    ///
    /// # Errors
    /// As [`Appender::append_float`], and if it contradicts itself.
    pub fn append_histogram(&mut self, id: SeriesId, t: i64, h: &Histogram, st: i64) -> Result<(), Refusal> {
        let mut h = h.clone();
        if is_exponential_schema_reserved(h.schema) && h.schema > EXPONENTIAL_SCHEMA_MAX {
            h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX).map_err(|_| Refusal::InvalidHistogram)?;
        }
        h.validate().map_err(|_| Refusal::InvalidHistogram)?;
        self.add_histogram(id, t, h, st)
    }

    fn add_histogram(&mut self, id: SeriesId, t: i64, h: Histogram, st: i64) -> Result<(), Refusal> {
        let bounds = self.begin_samples(t);
        let head = Arc::clone(&self.head);
        let mut shard = lock(head.shard_of(id));
        let value = SampleValue::Histogram(Box::new(h));
        shard.check(id, t, &value, &bounds)?;
        let SampleValue::Histogram(h) = value else { return Ok(()) };
        let start_timestamp_ms = self.start(st);
        let column = if h.uses_custom_buckets() {
            &mut self.batches.for_kind(id, Kind::CustomHistogram).custom_histograms
        } else {
            &mut self.batches.for_kind(id, Kind::Histogram).histograms
        };
        let (series, logged) = mark(&mut shard, id, column.ids.last() == Some(&id))?;
        column.push(id, SampleEntry { series, start_timestamp_ms, timestamp_ms: t, value: *h });
        if !logged {
            self.unlogged.push(id);
        }
        Ok(())
    }

    /// Adds a float histogram. Finer schemas than are stored are reduced to the finest that is.
    ///
    /// # Errors
    /// As [`Appender::append_histogram`].
    pub fn append_float_histogram(
        &mut self,
        id: SeriesId,
        t: i64,
        h: &FloatHistogram,
        st: i64,
    ) -> Result<(), Refusal> {
        let mut h = h.clone();
        if is_exponential_schema_reserved(h.schema) && h.schema > EXPONENTIAL_SCHEMA_MAX {
            h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX).map_err(|_| Refusal::InvalidHistogram)?;
        }
        h.validate().map_err(|_| Refusal::InvalidHistogram)?;
        self.add_float_histogram(id, t, h, st)
    }

    fn add_float_histogram(
        &mut self,
        id: SeriesId,
        t: i64,
        h: FloatHistogram,
        st: i64,
    ) -> Result<(), Refusal> {
        let bounds = self.begin_samples(t);
        let head = Arc::clone(&self.head);
        let mut shard = lock(head.shard_of(id));
        let value = SampleValue::FloatHistogram(Box::new(h));
        shard.check(id, t, &value, &bounds)?;
        let SampleValue::FloatHistogram(h) = value else { return Ok(()) };
        let start_timestamp_ms = self.start(st);
        let column = if h.uses_custom_buckets() {
            &mut self.batches.for_kind(id, Kind::CustomFloatHistogram).custom_float_histograms
        } else {
            &mut self.batches.for_kind(id, Kind::FloatHistogram).float_histograms
        };
        let (series, logged) = mark(&mut shard, id, column.ids.last() == Some(&id))?;
        column.push(id, SampleEntry { series, start_timestamp_ms, timestamp_ms: t, value: *h });
        if !logged {
            self.unlogged.push(id);
        }
        Ok(())
    }

    /// Keeps a series, which is about to get something else than samples, until the batch ends. Its reference.
    fn hold(&mut self, id: SeriesId) -> Result<u64, Refusal> {
        let again = self.held.last() == Some(&id);
        let (series, logged) = mark(&mut lock(self.head.shard_of(id)), id, again)?;
        self.begin();
        if !again {
            self.held.push(id);
        }
        if !logged {
            self.unlogged.push(id);
        }
        Ok(series)
    }

    /// Adds an exemplar; one that is there already is no error, nor is any where exemplars are switched off.
    ///
    /// # Errors
    /// If the series is not known, the labels are too long ([`Refusal::InvalidLabels`]), or it is behind the series'
    /// newest exemplar.
    pub fn append_exemplar(&mut self, id: SeriesId, exemplar: &Exemplar) -> Result<(), Refusal> {
        if self.head.options.max_exemplars == 0 {
            return Ok(());
        }
        let head = Arc::clone(&self.head);
        if lock(head.shard_of(id)).record(id).is_none() {
            return Err(Refusal::UnknownSeries);
        }
        crate::live::exemplars::check_labels(&exemplar.labels)?;
        let (t, value) = (exemplar.timestamp_ms, exemplar.value);
        if !head.judge_exemplar(id, t, value, &exemplar.labels)? {
            return Ok(());
        }
        let series = self.hold(id)?;
        let value = (value, exemplar.labels.clone());
        let entry = SampleEntry { series, start_timestamp_ms: 0, timestamp_ms: t, value };
        self.batches.last().exemplars.push(id, entry);
        Ok(())
    }

    /// Sets type, unit and help; logged only if they changed and the head is told to.
    pub fn set_metadata(&mut self, id: SeriesId, metric_type: MetricType, unit: &str, help: &str) {
        let head = Arc::clone(&self.head);
        let is_known = lock(&head.metadata)
            .get(&id)
            .is_some_and(|m| m.kind == metric_type && *m.unit == *unit && *m.help == *help);
        if is_known {
            return;
        }
        let Ok(series) = self.hold(id) else { return };
        let metadata = Metadata { kind: metric_type, unit: unit.into(), help: help.into() };
        self.batches.last().metadata.push((id, series, metadata));
    }

    /// Samples in the batch; after a commit that failed, those that are not stored.
    pub fn len(&self) -> usize {
        let late = self.buffers.late_len() + self.late_done.stored as usize;
        self.batches.iter().map(|b| b.samples()).sum::<usize>() + late
    }

    /// Whether the batch has no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Logs and applies the batch. It is visible afterwards, but durable only when [`Appender::wait`] says so.
    ///
    /// # Errors
    /// If it could not be logged. Nothing is stored then but what [`Appender::partly`] tells, and nothing is lost: the
    /// batch is kept, may grow, and goes on where it stopped with the next commit. [`Appender::rollback`] gives it up.
    pub fn commit(&mut self) -> Result<Committed, StorageError> {
        if self.half {
            self.apply_late()?;
        }
        self.log_and_apply()?;
        self.end();
        Ok(std::mem::take(&mut self.done))
    }

    /// What a commit that failed has stored all the same: what was in order, if only the out-of-order log failed.
    pub fn partly(&self) -> Committed {
        self.done
    }

    /// Waits until a commit is as durable as the log's policy promises.
    ///
    /// # Errors
    /// If it may be lost.
    pub fn wait(&self, committed: &Committed) -> Result<(), StorageError> {
        self.head.wait(committed)
    }

    /// Drops the batch. Series it made are kept, and logged if the log takes them; else by who commits to them first.
    /// What a commit that failed has stored stays; so does what is out of order if it reached the memory, and goes to
    /// its log with the next that does.
    pub fn rollback(&mut self) {
        if !self.open {
            return;
        }
        if std::mem::take(&mut self.half) {
            self.forget_late();
        }
        (self.done, self.late_done) = (Committed::default(), Committed::default());
        // Series that are not kept by a mark may be gone while they are logged.
        let _ = self.log_series_alone();
        self.forget_marks();
        self.forget_held();
        self.end();
    }

    /// Labels of a series, for messages.
    pub fn labels(&self, id: SeriesId) -> Labels {
        read(&self.head.index).owned_labels(id)
    }

    /// Takes the marks of all samples back.
    pub(super) fn forget_marks(&mut self) {
        for batch in self.batches.iter() {
            for ids in batch.sample_ids() {
                forget(&self.head, ids);
            }
        }
    }

    /// Takes the marks of series that are held back.
    pub(super) fn forget_held(&mut self) {
        for id in self.held.drain(..) {
            unmark(&mut lock(self.head.shard_of(id)), id);
        }
    }
}

/// Takes the marks of a column back: one for each run of a series.
pub(super) fn forget(head: &Head, ids: &[SeriesId]) {
    for run in ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
        let mut shard = lock(head.shard_of(run[0]));
        for same in run.chunk_by(|a, b| a == b) {
            unmark(&mut shard, same[0]);
        }
    }
}

/// Takes one mark back.
#[inline]
pub(super) fn unmark(shard: &mut Shard, id: SeriesId) {
    if let Some(record) = shard.record_mut(id)
        && record.pending != u16::MAX
    {
        record.pending = record.pending.saturating_sub(1);
    }
}

impl<V> Column<V> {
    /// Adds an entry at commit, marked as [`Appender`] marks those that come from outside.
    pub(super) fn push_marked(&mut self, shard: &mut Shard, id: SeriesId, entry: SampleEntry<V>) {
        let again = self.ids.last() == Some(&id);
        if mark(shard, id, again).is_ok() {
            self.push(id, entry);
        }
    }
}
