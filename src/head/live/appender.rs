//! Appenders: batches of samples, validated as they come, logged and applied at commit.

use std::sync::Arc;

use tsdbctl_model::sample::{Exemplar, MetricType};
use tsdbctl_model::{FloatHistogram, Histogram, Labels};
use tsdbctl_storage::StorageError;
use tsdbctl_storage::append::{Refusal, RefusalCounts};
use tsdbctl_wal::Position;

use crate::live::head::Head;
use crate::live::index::SeriesId;

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Samples stored, in order and not.
    pub stored: u64,
    /// Of these, out of order.
    pub out_of_order: u64,
    /// Samples that were there already with the same value.
    pub same: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Samples that passed validation but not the second look at commit.
    pub refused: RefusalCounts,
    /// The commit's end in the log.
    pub wal: Position,
    /// Its end in the out-of-order log, 0 if it has nothing there.
    pub wbl: Position,
}

/// A batch of samples; used again after commit or rollback.
#[derive(Debug)]
pub struct Appender {
    head: Arc<Head>,
}

impl Appender {
    /// An empty batch.
    pub fn new(head: Arc<Head>) -> Self {
        Self { head }
    }

    /// The head it appends to.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// The series of a label set (sorted by name, names unique, values not empty), made if it is new.
    ///
    /// # Errors
    /// If the set is empty, or no more series are taken.
    pub fn series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<SeriesId, Refusal> {
        let _ = labels;
        todo!()
    }

    /// Adds a float. `st` is its start timestamp, 0 for none.
    ///
    /// # Errors
    /// The class in which it is refused; [`Refusal::UnknownSeries`] if the series was collected meanwhile.
    pub fn append_float(&mut self, id: SeriesId, t: i64, v: f64, st: i64) -> Result<(), Refusal> {
        let _ = (id, t, v, st);
        todo!()
    }

    /// Adds floats of many series at one go; `refused` is told about each that is refused.
    pub fn append_floats(&mut self, samples: &[(SeriesId, i64, f64)], refused: impl FnMut(usize, Refusal)) {
        let _ = (samples, refused);
        todo!()
    }

    /// Adds an integer histogram.
    ///
    /// # Errors
    /// As [`Appender::append_float`].
    pub fn append_histogram(&mut self, id: SeriesId, t: i64, h: &Histogram, st: i64) -> Result<(), Refusal> {
        let _ = (id, t, h, st);
        todo!()
    }

    /// Adds a float histogram.
    ///
    /// # Errors
    /// As [`Appender::append_float`].
    pub fn append_float_histogram(
        &mut self,
        id: SeriesId,
        t: i64,
        h: &FloatHistogram,
        st: i64,
    ) -> Result<(), Refusal> {
        let _ = (id, t, h, st);
        todo!()
    }

    /// Adds an exemplar; one that is there already is no error.
    ///
    /// # Errors
    /// As [`Appender::append_float`], and if its labels are too long.
    pub fn append_exemplar(&mut self, id: SeriesId, exemplar: &Exemplar) -> Result<(), Refusal> {
        let _ = (id, exemplar);
        todo!()
    }

    /// Sets type, unit and help; logged only if they changed and the head is told to.
    pub fn set_metadata(&mut self, id: SeriesId, metric_type: MetricType, unit: &str, help: &str) {
        let _ = (id, metric_type, unit, help);
        todo!()
    }

    /// Samples in the batch.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Logs and applies the batch. It is visible afterwards, but durable only when [`Appender::wait`] says so.
    ///
    /// # Errors
    /// If it could not be logged: nothing of it is stored.
    pub fn commit(&mut self) -> Result<Committed, StorageError> {
        todo!()
    }

    /// Waits until a commit is as durable as the log's policy promises.
    ///
    /// # Errors
    /// If it may be lost.
    pub fn wait(&self, committed: &Committed) -> Result<(), StorageError> {
        let _ = committed;
        todo!()
    }

    /// Drops the batch. Series it made are kept, and logged.
    pub fn rollback(&mut self) {
        todo!()
    }

    /// Labels of a series, for messages.
    pub fn labels(&self, id: SeriesId) -> Labels {
        let _ = id;
        todo!()
    }
}
