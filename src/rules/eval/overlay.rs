//! Stored data with what a run recorded laid over it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tsdbctl_chunk::{AppenderOptions, SampleColumns};
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};
use tsdbctl_model::{FloatHistogram, Labels, Matcher, Sym};
use tsdbctl_promql::engine::Sample;
use tsdbctl_storage::querier::SeriesExemplars;
use tsdbctl_storage::{
    Control, Loss, MemorySample, MemoryStore, MergedQuerier, Querier, Queryable, ReadStats, Refusal,
    SelectHints, SeriesSet, Source, StorageError, TimeFilter,
};

/// Stores by metric name.
pub type ByName = BTreeMap<String, MemoryStore>;

/// Samples that rules recorded, taken and refused as a server's head does.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    by_name: Arc<ByName>,
    newest: hashbrown::HashMap<Labels, (i64, Sample)>,
    /// Metrics that nobody reads, of which the newest samples alone are kept.
    unread: BTreeSet<String>,
}

/// Whether two samples are the same to the bit.
pub fn same(a: &Sample, b: &Sample) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits(),
        (Sample::Histogram(a), Sample::Histogram(b)) => a.equals(b),
        _ => false,
    }
}

impl Recorded {
    /// Adds a sample. A stale marker behind histograms is one of histograms.
    ///
    /// # Errors
    /// Why a head would not take it.
    pub fn append(&mut self, labels: &Labels, t: i64, sample: &Sample) -> Result<Sample, Refusal> {
        let mut before = self.newest.get_mut(labels);
        let mut sample = sample.clone();
        if let Sample::Float(v) = sample
            && is_stale(v)
            && matches!(before, Some((_, Sample::Histogram(_))))
        {
            let marker = FloatHistogram { sum: v, ..FloatHistogram::default() };
            sample = Sample::Histogram(Arc::new(marker));
        }
        match &before {
            Some((last, _)) if t < *last => return Err(Refusal::OutOfOrder),
            Some((last, value)) if t == *last => {
                return if same(value, &sample) { Ok(sample) } else { Err(Refusal::Duplicate) };
            }
            _ => {}
        }
        let name = labels.get(METRIC_NAME);
        if !self.unread.contains(name) {
            let stored = match &sample {
                Sample::Float(v) => MemorySample::Float(*v),
                Sample::Histogram(h) => MemorySample::FloatHistogram(FloatHistogram::clone(h)),
            };
            // Nobody reads while samples are added, so that nothing is copied.
            let by_name = Arc::make_mut(&mut self.by_name);
            let store = match by_name.get_mut(name) {
                Some(store) => store,
                None => by_name
                    .entry(name.to_string())
                    .or_insert_with(|| MemoryStore::new(AppenderOptions::default())),
            };
            store.append(labels, t, 0, &stored).map_err(|_| Refusal::InvalidHistogram)?;
        }
        match &mut before {
            Some(newest) => **newest = (t, sample.clone()),
            None => drop(self.newest.insert(labels.clone(), (t, sample.clone()))),
        }
        Ok(sample)
    }

    /// Notes the newest sample of a series that was told without being added here.
    pub fn note(&mut self, labels: &Labels, t: i64, sample: Sample) {
        self.newest.insert(labels.clone(), (t, sample));
    }

    /// Whether nobody reads a metric.
    pub fn is_unread(&self, name: &str) -> bool {
        self.unread.contains(name)
    }

    /// A store in which samples of `unread` are not kept: nobody will read them.
    pub fn without(unread: BTreeSet<String>) -> Self {
        Self { unread, ..Self::default() }
    }

    /// What was added so far.
    pub fn by_name(&self) -> Arc<ByName> {
        Arc::clone(&self.by_name)
    }
}

/// Whether a selector may select a metric of this name.
pub fn name_fits(name: &str, matchers: &[Matcher]) -> bool {
    matchers.iter().filter(|m| m.name == METRIC_NAME).all(|m| m.matches(name))
}

/// Metric names whose stored samples are not read from a time on (Unix ms), because they are computed anew.
pub type Hidden = BTreeMap<String, i64>;

/// What stored data and recorded samples give together.
pub struct Overlay {
    /// Stored data, opened for all that will be asked.
    pub stored: Arc<dyn Querier>,
    /// What of it is not read.
    pub hidden: Arc<Hidden>,
    /// What this run recorded.
    pub recorded: Vec<Arc<ByName>>,
}

impl Queryable for Overlay {
    fn querier(
        &self,
        _mint: i64,
        _maxt: i64,
        selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        let mut recorded = Vec::new();
        for (name, store) in self.recorded.iter().flat_map(|by_name| by_name.iter()) {
            if selections.is_empty() || selections.iter().any(|s| name_fits(name, s)) {
                recorded.push((name.clone(), store.clone()));
            }
        }
        Ok(Box::new(OverlayQuerier {
            stored: Arc::clone(&self.stored),
            hidden: Arc::clone(&self.hidden),
            recorded,
        }))
    }
}

struct OverlayQuerier {
    stored: Arc<dyn Querier>,
    hidden: Arc<Hidden>,
    recorded: Vec<(String, MemoryStore)>,
}

impl Querier for OverlayQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let is_hidden = self.hidden.iter().any(|(n, from)| *from <= hints.end && name_fits(n, matchers));
        let recorded: Vec<&MemoryStore> =
            self.recorded.iter().filter(|(n, _)| name_fits(n, matchers)).map(|(_, s)| s).collect();
        if !is_hidden && recorded.is_empty() {
            return self.stored.select(hints, matchers, symbols, control);
        }
        let clipped = Clipped { stored: Arc::clone(&self.stored), hidden: Arc::clone(&self.hidden) };
        if recorded.is_empty() {
            return clipped.select(hints, matchers, symbols, control);
        }
        let (mint, maxt) = (i64::MIN / 4, i64::MAX / 4);
        let mut sources = vec![Source { querier: Box::new(clipped), mint, maxt }];
        for store in recorded {
            sources.push(Source { querier: store.querier(mint, maxt, &[], control)?, mint, maxt });
        }
        MergedQuerier::new(sources).select(hints, matchers, symbols, control)
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        self.stored.label_names(matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.stored.label_values(name, matchers, control)
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        self.stored.exemplars(start, end, selections, control)
    }

    fn losses(&self) -> Vec<Loss> {
        self.stored.losses()
    }
}

/// Stored data without what is hidden.
struct Clipped {
    stored: Arc<dyn Querier>,
    hidden: Arc<Hidden>,
}

impl Querier for Clipped {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        // The name is needed to know what is hidden.
        let hints = SelectHints { labels: tsdbctl_storage::LabelNeeds::All, ..hints.clone() };
        let set = self.stored.select(&hints, matchers, symbols, control)?;
        let name = symbols.intern(METRIC_NAME);
        let hidden: HashMap<Sym, i64> =
            self.hidden.iter().map(|(n, from)| (symbols.intern(n), *from)).collect();
        let mut rows = Vec::with_capacity(set.len());
        for i in 0..set.len() {
            let of_metric = set.labels(i).iter().find(|(n, _)| *n == name);
            let until = of_metric.and_then(|(_, v)| hidden.get(v)).copied().unwrap_or(i64::MAX);
            if until > hints.start {
                rows.push((i, until));
            }
        }
        Ok(Box::new(ClippedSet { set, rows }))
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        self.stored.label_names(matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.stored.label_values(name, matchers, control)
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        self.stored.exemplars(start, end, selections, control)
    }

    fn losses(&self) -> Vec<Loss> {
        self.stored.losses()
    }
}

struct ClippedSet {
    set: Box<dyn SeriesSet>,
    /// Of each series its row in `set` and the time from which on its samples are hidden.
    rows: Vec<(usize, i64)>,
}

impl SeriesSet for ClippedSet {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        self.set.labels(self.rows[i].0)
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let (row, until) = self.rows[i];
        if filter.maxt() < until {
            return self.set.read(row, filter, out, stats);
        }
        // The newest sample of a window may be a hidden one, with one before it that is not.
        let filter = TimeFilter { newest_only: false, ..*filter };
        let start = (out.floats.len(), out.histograms.len());
        self.set.read(row, &filter, out, stats)?;
        let shown = |times: &[i64]| times.partition_point(|t| *t < until);
        let floats = start.0 + shown(&out.floats.t[start.0..]);
        let histograms = start.1 + shown(&out.histograms.t[start.1..]);
        out.floats.truncate(floats);
        out.histograms.truncate(histograms);
        Ok(())
    }

    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        self.set.cost(self.rows[i].0, filter)
    }
}

/// A store that only notes what it would be asked for.
#[derive(Debug, Default)]
pub struct Asked {
    noted: std::sync::Mutex<Selections>,
}

/// Times and selectors of queries.
#[derive(Clone, Debug)]
pub struct Selections {
    /// Earliest sample time, Unix ms.
    pub mint: i64,
    /// Latest sample time.
    pub maxt: i64,
    /// The selectors' matchers, each list once.
    pub matchers: Vec<Vec<Matcher>>,
}

impl Default for Selections {
    fn default() -> Self {
        Self { mint: i64::MAX, maxt: i64::MIN, matchers: Vec::new() }
    }
}

impl Asked {
    /// What was asked for.
    pub fn into_selections(self) -> Selections {
        self.noted.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Queryable for Asked {
    fn querier(
        &self,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        let mut noted = self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        noted.mint = noted.mint.min(mint);
        noted.maxt = noted.maxt.max(maxt);
        for selection in selections {
            if !noted.matchers.contains(selection) {
                noted.matchers.push(selection.clone());
            }
        }
        MemoryStore::new(AppenderOptions::default()).querier(mint, maxt, selections, control)
    }
}
