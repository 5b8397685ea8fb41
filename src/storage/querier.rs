//! Queriers and series sets: how series are found, and how their samples are read as columns.

use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::Matcher;
use tsdbctl_model::labels::Labels;
use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};

use crate::control::Control;
use crate::error::{Loss, StorageError};
use crate::resolution::{Piece, ResolutionHint, WindowValue, raw_as_windows};

/// Which labels of the selected series the query will look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LabelNeeds {
    /// All of them.
    #[default]
    All,
    /// Only these names (sorted); others may be left out, and need not be read.
    Only(Vec<String>),
}

impl LabelNeeds {
    /// Whether the label of that name will be looked at.
    pub fn wants(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.binary_search_by(|n| n.as_str().cmp(name)).is_ok(),
        }
    }
}

/// What a selection is for. Times are Unix milliseconds, both ends inclusive.
#[derive(Clone, Debug, Default)]
pub struct SelectHints {
    /// Earliest sample time of interest.
    pub start: i64,
    /// Latest sample time of interest.
    pub end: i64,
    /// Labels that the query needs.
    pub labels: LabelNeeds,
    /// Leave samples out and answer labels only (`series` API): of all resolutions.
    pub series_only: bool,
    /// Which resolutions will do.
    pub resolution: ResolutionHint,
    /// What of downsampled windows will be read.
    pub value: WindowValue,
}

/// The sample times a query will look at: for each of `steps` evaluation times `first + k * step`, those in
/// `(t - before, t + after]`. A reader may leave out any chunk that touches none of these windows, and any
/// sample outside `mint()..=maxt()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFilter {
    /// First evaluation time, offset applied.
    pub first: i64,
    /// Distance of evaluation times, ms; 0 only if `steps` is 1.
    pub step: i64,
    /// Number of evaluation times, at least 1.
    pub steps: i64,
    /// Length of the window before each evaluation time, ms.
    pub before: i64,
    /// Length of the window behind each evaluation time, ms (0 but for `smoothed`).
    pub after: i64,
    /// Only the newest sample of each window matters (an instant selector). A reader may then leave out
    /// earlier chunks of a window if a later chunk of the same series surely holds a sample in it.
    pub newest_only: bool,
}

impl TimeFilter {
    /// One window: all samples with `mint <= t <= maxt`.
    pub fn all_between(mint: i64, maxt: i64) -> Self {
        let mint = mint.max(i64::MIN / 4);
        let maxt = maxt.min(i64::MAX / 4);
        Self {
            first: maxt,
            step: 0,
            steps: 1,
            before: maxt.saturating_sub(mint).saturating_add(1),
            after: 0,
            newest_only: false,
        }
    }

    /// Earliest sample time of interest (inclusive).
    pub fn mint(&self) -> i64 {
        self.first.saturating_sub(self.before).saturating_add(1)
    }

    /// Latest sample time of interest (inclusive).
    pub fn maxt(&self) -> i64 {
        self.first.saturating_add((self.steps - 1).saturating_mul(self.step)).saturating_add(self.after)
    }

    /// Whether samples in `mint..=maxt` can lie in some window.
    pub fn wants(&self, mint: i64, maxt: i64) -> bool {
        if maxt < self.mint() || mint > self.maxt() {
            return false;
        }
        if self.steps <= 1 || self.step <= self.before.saturating_add(self.after) {
            return true;
        }
        // The first window that does not end before `mint`: t + after >= mint.
        let behind = mint.saturating_sub(self.after).saturating_sub(self.first);
        let k = behind.saturating_add(self.step - 1).div_euclid(self.step).max(0);
        k < self.steps
            && self.first.saturating_add(k.saturating_mul(self.step)).saturating_sub(self.before) < maxt
    }
}

/// What reading cost, for `--stats` and `--analyze`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Chunks decoded.
    pub chunks: u64,
    /// Samples decoded, the ones outside the asked range included.
    pub samples: u64,
    /// Bytes of encoded chunks read.
    pub bytes: u64,
}

impl ReadStats {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.samples += other.samples;
        self.bytes += other.bytes;
    }
}

/// A thing that can be queried.
pub trait Queryable: Send + Sync {
    /// Opens the data of `mint..=maxt` (Unix ms). `selections` are all selectors that will be asked, so
    /// that a write-ahead log need not be loaded for anything else; an empty list means everything.
    ///
    /// # Errors
    /// If the data cannot be opened or is damaged.
    fn querier(
        &self,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError>;
}

/// Exemplars of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// The series.
    pub series: Labels,
    /// Its exemplars in time order.
    pub exemplars: Vec<Exemplar>,
}

/// Data of a fixed time range.
pub trait Querier: Send + Sync {
    /// The series that satisfy all matchers and may have samples in `hints.start..=hints.end`.
    ///
    /// Order: a single source gives its own order (a block label order, a head alone creation order);
    /// several merged sources give label order (`labels.Compare`).
    ///
    /// # Errors
    /// If an index is damaged, or a limit is reached.
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError>;

    /// All label names of matching series, sorted. No matchers: of all series.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError>;

    /// All values of `name` among matching series, sorted.
    ///
    /// # Errors
    /// As [`Querier::select`].
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError>;

    /// Exemplars with `start <= t <= end` of series that satisfy any of the matcher lists, by series labels.
    ///
    /// # Errors
    /// If the log is damaged.
    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError>;

    /// What had to be left out because it is damaged. Strict callers turn the first into an error.
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }
}

/// Selected series; samples are read on demand, from any thread.
pub trait SeriesSet: Send + Sync {
    /// Number of series.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of series `i`, in the symbols of the table given to `select`, sorted by the names' strings.
    fn labels(&self, i: usize) -> &SymLabels;

    /// Appends the samples of series `i` that `filter` wants to `out`, in time order, one sample per time,
    /// deleted ones left out, stale markers kept. Samples outside all windows may be included as long as
    /// they lie in `filter.mint()..=filter.maxt()`.
    ///
    /// Counter reset hints of histograms are what upstream's iterators give: gauge by chunk header,
    /// not-reset for all samples of a chunk but its first, that one by header; unknown after a change of source.
    ///
    /// # Errors
    /// If a chunk is damaged.
    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError>;

    /// As [`SeriesSet::read`], but of windows where there are any, and of raw samples as if each were a window.
    /// `read` itself gives the windows' averages.
    ///
    /// Of [`WindowValue::Counter`] two samples may come at one time, the second telling the true value:
    /// [`crate::resolution::join_counters`] is to be applied to the whole.
    ///
    /// # Errors
    /// As [`SeriesSet::read`].
    fn read_window(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: WindowValue,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let (floats, histograms) = (out.floats.len(), out.histograms.len());
        self.read(i, filter, out, stats)?;
        raw_as_windows(out, floats, histograms, value);
        Ok(())
    }

    /// The times that are read at one resolution each, if there are others than raw samples.
    fn pieces(&self) -> Vec<Piece> {
        Vec::new()
    }

    /// Whether series `i` has raw samples alone, by what is known without reading.
    fn is_raw(&self, i: usize) -> bool {
        let _ = i;
        self.pieces().iter().all(|p| p.resolution_ms == 0)
    }

    /// Number of chunks and bytes that reading series `i` would touch, from metadata alone, for plans.
    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        let _ = (i, filter);
        ReadStats::default()
    }
}

/// A shared series set is a series set.
impl SeriesSet for Arc<dyn SeriesSet> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn labels(&self, i: usize) -> &SymLabels {
        (**self).labels(i)
    }
    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        (**self).read(i, filter, out, stats)
    }
    fn read_window(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: WindowValue,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        (**self).read_window(i, filter, value, out, stats)
    }
    fn pieces(&self) -> Vec<Piece> {
        (**self).pieces()
    }
    fn is_raw(&self, i: usize) -> bool {
        (**self).is_raw(i)
    }
    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        (**self).cost(i, filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_skip_what_lies_between_windows() {
        let f = TimeFilter { first: 1000, step: 1000, steps: 3, before: 100, after: 0, newest_only: false };
        assert_eq!((f.mint(), f.maxt()), (901, 3000));
        assert!(f.wants(950, 960) && f.wants(1000, 1000) && f.wants(0, 901) && f.wants(1001, 1901));
        assert!(!f.wants(1001, 1900) && !f.wants(0, 900) && !f.wants(3001, 9000));
        // Times at the ends of all that can be stored.
        assert!(f.wants(i64::MIN, i64::MAX) && f.wants(i64::MIN, 901) && !f.wants(i64::MIN, 900));
        assert!(f.wants(2950, i64::MAX) && !f.wants(i64::MAX, i64::MAX));
        let all = TimeFilter::all_between(-5, 7);
        assert_eq!((all.mint(), all.maxt()), (-5, 7));
    }
}
