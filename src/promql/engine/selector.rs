//! Selectors: finding series once, reading their samples as columns.

use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::symbols::{NAME, SymLabels, TYPE};
use tsdbctl_storage::{LabelNeeds, Piece, ReadStats, ResolutionHint, SelectHints, SeriesSet, TimeFilter};

use super::account::{RangeEvalCounts, StepStats, histogram_samples};
use super::column::Column;
use super::error::QueryError;
use super::leaf::{self, InstantValue, InstantWork, Leaf, SeriesNames, Work};
use super::merge_labels::LabelMerger;
use super::operator::{Eval, Operator, Report, SeriesList, label_value, without_metadata};
use super::options::StepGrid;
use super::resolution::{self, Reading, View};
use crate::functions::windows;
use crate::parser::ast::VectorSelector;

/// A selector with the times upstream would ask storage for.
pub struct Source {
    /// The selector as written.
    pub selector: VectorSelector,
    /// Upstream's hint bounds (`getTimeRangesForSelector`), inclusive; samples outside are not seen.
    pub bounds: (i64, i64),
    /// Reduce histograms to count and sum (`detectHistogramStatsDecoding`).
    pub stats_only: bool,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    /// Which resolutions will do.
    pub hint: ResolutionHint,
    /// What is read of downsampled windows.
    pub reading: Reading,
    /// What is evaluated, for infos.
    pub function: &'static str,
    /// The range that it is evaluated over, ms.
    pub range: Option<i64>,
    /// Times by resolution, if there are others than raw samples.
    pub pieces: Vec<Piece>,
    set: Option<Arc<dyn SeriesSet>>,
    /// What reading cost.
    pub read: ReadStats,
}

impl Source {
    /// A selector that is yet to be opened.
    pub fn new(selector: VectorSelector, bounds: (i64, i64), stats_only: bool, rank: u32) -> Self {
        Self {
            selector,
            bounds,
            stats_only,
            rank,
            hint: ResolutionHint { at_most_ms: 0, or_coarser: true },
            reading: Reading::SAMPLES,
            function: "a selector",
            range: None,
            pieces: Vec::new(),
            set: None,
            read: ReadStats::default(),
        }
    }

    /// Finds the series.
    ///
    /// # Errors
    /// If storage fails.
    pub fn open(&mut self, ev: &mut Eval) -> Result<(), QueryError> {
        let hints = SelectHints {
            start: self.bounds.0,
            end: self.bounds.1,
            labels: LabelNeeds::All,
            series_only: false,
            resolution: self.hint,
            value: self.reading.value,
        };
        let set = ev
            .querier
            .select(&hints, &self.selector.matchers, &mut ev.symbols, ev.control)
            .map_err(expanding)?;
        self.pieces = set.pieces();
        if self.pieces.iter().all(|p| p.resolution_ms == 0) {
            self.pieces.clear();
        }
        if !set.is_empty() {
            ev.add_coarser(self.rank, self.selector.span, resolution::coarser(self, &self.pieces));
            for note in resolution::notes(self, &self.pieces) {
                ev.annotate(self.rank, note);
            }
        }
        self.set = Some(Arc::from(set));
        Ok(())
    }

    /// The found series on their way through `work`.
    pub fn leaf(&self, mut filter: TimeFilter, work: Work, steps: usize, ev: &Eval) -> Option<Leaf> {
        let set = self.set.clone()?;
        let view = (!self.pieces.is_empty()).then(|| View::new(&self.reading, &self.pieces, &work));
        let mut bounds = self.bounds;
        if let Some(view) = &view {
            filter.before = filter.before.saturating_add(view.longer_by);
            bounds.0 = bounds.0.saturating_sub(view.longer_by);
        }
        Some(Leaf::new(set, filter, bounds, self.stats_only, (work, view), steps, ev))
    }

    /// The resolutions that it was read at, for plans; empty for raw samples.
    pub fn resolutions(&self) -> String {
        resolution::list(&self.pieces)
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.set.as_ref().map_or(0, |s| s.len())
    }

    /// Labels of series `i`.
    pub fn labels(&self, i: usize) -> &SymLabels {
        self.set.as_ref().map_or(&[], |s| s.labels(i))
    }

    /// Reads series `i` into `samples` (cleared first), clipped to the bounds.
    ///
    /// # Errors
    /// If storage fails.
    pub fn read(
        &mut self,
        i: usize,
        filter: &TimeFilter,
        samples: &mut SampleColumns,
    ) -> Result<(), QueryError> {
        samples.clear();
        let Some(set) = &self.set else { return Ok(()) };
        set.read(i, filter, samples, &mut self.read)?;
        if filter.mint() < self.bounds.0 || filter.maxt() > self.bounds.1 {
            leaf::clip(samples, self.bounds.0, self.bounds.1);
        }
        if self.stats_only && !samples.histograms.is_empty() {
            windows::convert_to_stats_only(&mut samples.histograms, None);
        }
        Ok(())
    }
}

fn expanding(e: tsdbctl_storage::StorageError) -> QueryError {
    let mut e = QueryError::from(e);
    if e.kind == super::error::ErrorKind::Internal {
        e.message = format!("expanding series: {}", e.message);
    }
    e
}

/// The newest sample within the lookback at each step.
pub struct InstantSelector {
    /// The selector.
    pub source: Source,
    grid: StepGrid,
    /// Evaluation times as the data sees them: `@` and `offset` applied.
    data: StepGrid,
    value: InstantValue,
    leaf: Option<Leaf>,
    position: usize,
    stats: StepStats,
    total: i64,
    /// Most samples of windows at once, and those that stay (`smoothed`).
    held: (i64, i64),
    /// What `timestamp(selector)` gathers and gives.
    counts: RangeEvalCounts,
    merger: LabelMerger,
}

impl InstantSelector {
    /// A selector evaluated on `grid`, whose samples are looked up at `data`'s times.
    pub fn new(source: Source, grid: StepGrid, data: StepGrid, value: InstantValue) -> Self {
        Self {
            source,
            grid,
            data,
            value,
            leaf: None,
            position: 0,
            stats: StepStats::new(grid.steps),
            total: 0,
            held: (0, 0),
            counts: RangeEvalCounts::default(),
            merger: LabelMerger::default(),
        }
    }

    fn work(&self, ev: &Eval) -> InstantWork {
        InstantWork {
            data: self.data,
            value: self.value,
            lookback: ev.options.lookback_delta,
            smoothed: self.source.selector.smoothed,
            use_start_timestamps: ev.options.features.use_start_timestamps,
            span: self.source.selector.span,
        }
    }

    fn filter(&self, ev: &Eval) -> TimeFilter {
        let lookback = ev.options.lookback_delta;
        TimeFilter {
            first: self.data.start,
            step: self.data.step,
            steps: if self.data.step == 0 { 1 } else { self.data.steps as i64 },
            before: lookback,
            after: if self.source.selector.smoothed { lookback } else { 0 },
            // Of histograms reduced to count and sum the sample before decides about the hint.
            newest_only: !self.source.selector.smoothed && !self.source.stats_only,
        }
    }

    fn gives_times(&self) -> bool {
        matches!(self.value, InstantValue::Timestamp | InstantValue::StartTimestamp)
    }

    /// Every sample given is one read; `smoothed` ones are not counted upstream.
    fn count(&mut self, column: &Column) {
        if self.source.selector.smoothed && self.value == InstantValue::Sample {
            return;
        }
        if column.is_dense() {
            self.total += column.steps() as i64;
            for (total, read) in self.stats.total.iter_mut().zip(&mut self.stats.read) {
                *total += 1;
                *read += 1;
            }
            return;
        }
        for k in column.float_steps() {
            self.stats.total[k] += 1;
            self.stats.read[k] += 1;
            self.total += 1;
        }
        for (k, h) in &column.histograms {
            let n = histogram_samples(h);
            self.stats.total[*k as usize] += n;
            self.stats.read[*k as usize] += n;
            self.total += n;
        }
    }

    fn next_series(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let Some(leaf) = &mut self.leaf else { return Ok(None) };
        let source = &self.source;
        let Some(out) = leaf.next(ev, |ev, i| series_names(ev, source.labels(i)))? else { return Ok(None) };
        let i = self.position;
        self.position += 1;
        for a in out.annotations {
            ev.annotate(self.source.rank, a);
        }
        if out.histograms_where_none_are_allowed {
            let labels = ev.symbols.labels(self.source.labels(i));
            return Err(QueryError::execution(format!(
                "this should be an info metric, with float samples: {labels}"
            )));
        }
        self.source.read.add(&out.read);
        self.held = (self.held.0.max(self.held.1 + out.held.0), self.held.1 + out.held.1);
        let mut column = out.column;
        self.count(&column);
        super::check_samples(self.total.max(self.held.0), ev)?;
        if self.gives_times() {
            self.counts.gather(&column);
            if self.value == InstantValue::StartTimestamp && !ev.options.features.use_start_timestamps {
                // The samples are looked up all the same.
                column.reset(self.grid.steps);
            }
        }
        Ok(Some(column))
    }
}

impl Operator for InstantSelector {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        self.source.open(ev)?;
        self.stats = StepStats::held(self.grid.steps, ev)?;
        let mut list = SeriesList::new();
        let drops = self.gives_times();
        let delayed_instant = ev.options.features.delayed_name_removal && self.grid.steps == 1;
        let mut stripped = Vec::new();
        for i in 0..self.source.series_count() {
            let labels = self.source.labels(i);
            if drops && !ev.options.features.delayed_name_removal {
                without_metadata(labels, &mut stripped);
                list.push(&stripped, true);
            } else {
                list.push(labels, drops);
            }
        }
        ev.hold("labels of selected series", list.bytes())?;
        let work = Work::Instant(self.work(ev));
        self.leaf = self.source.leaf(self.filter(ev), work, self.grid.steps, ev);
        Ok(if drops && !delayed_instant { self.merger.open(list, self.grid.steps) } else { list })
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if !self.gives_times() {
            return self.next_series(ev);
        }
        let mut merger = std::mem::take(&mut self.merger);
        let out = merger.next(ev, |ev| self.next_series(ev));
        self.merger = merger;
        if let Ok(Some(column)) = &out {
            self.counts.give(column);
        }
        out
    }

    fn grid(&self) -> StepGrid {
        self.grid
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        if self.gives_times() {
            // Counts as it goes, then forgets all but the step's results, like rangeEval.
            return self.counts.replay(current, current, self.grid.steps, peak);
        }
        *peak = (*peak).max(current + self.held.0);
        let end = current + self.total + self.held.1;
        *peak = (*peak).max(end);
        end
    }

    fn step_stats(&self) -> StepStats {
        self.stats.clone()
    }

    fn report(&self) -> Report {
        let what = match self.value {
            InstantValue::Sample | InstantValue::TimestampMs => "instant selector",
            InstantValue::Timestamp => "timestamps of selector",
            InstantValue::StartTimestamp => "start timestamps of selector",
        };
        Report {
            name: format!(
                "{what} {}",
                crate::parser::ast::Expr::Vector(Box::new(self.source.selector.clone()))
            ) + &self.source.resolutions(),
            series: self.source.series_count() as u64,
            read: self.source.read,
        }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        Vec::new()
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        Vec::new()
    }
}

/// Name and type label of a series, for annotations.
pub fn series_names(ev: &Eval, labels: &SymLabels) -> SeriesNames {
    SeriesNames {
        metric_name: ev.shared_text(label_value(labels, NAME)),
        type_label: ev.shared_text(label_value(labels, TYPE)),
    }
}
