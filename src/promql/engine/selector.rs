//! Selectors: finding series once, reading their samples as columns.

use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::symbols::{NAME, SymLabels, TYPE};
use tsdbctl_storage::{LabelNeeds, ReadStats, SelectHints, SeriesSet, TimeFilter};

use super::account::{StepStats, histogram_samples};
use super::column::Column;
use super::error::QueryError;
use super::operator::{Eval, Operator, Report, SeriesList, label_value, without_metadata};
use super::options::StepGrid;
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
    set: Option<Box<dyn SeriesSet>>,
    /// What reading cost.
    pub read: ReadStats,
}

impl Source {
    /// A selector that is yet to be opened.
    pub fn new(selector: VectorSelector, bounds: (i64, i64), stats_only: bool, rank: u32) -> Self {
        Self { selector, bounds, stats_only, rank, set: None, read: ReadStats::default() }
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
        };
        let set = ev
            .querier
            .select(&hints, &self.selector.matchers, &mut ev.symbols, ev.control)
            .map_err(expanding)?;
        self.set = Some(set);
        Ok(())
    }

    /// Number of series.
    pub fn len(&self) -> usize {
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
            clip(samples, self.bounds.0, self.bounds.1);
        }
        if self.stats_only && !samples.histograms.is_empty() {
            windows::convert_to_stats_only(&mut samples.histograms);
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

/// Removes samples outside `mint..=maxt`.
fn clip(samples: &mut SampleColumns, mint: i64, maxt: i64) {
    let f = &mut samples.floats;
    let (from, to) = bounds(&f.t, mint, maxt);
    f.t.truncate(to);
    f.v.truncate(to);
    f.st.truncate(to);
    f.t.drain(..from);
    f.v.drain(..from);
    let n = from.min(f.st.len());
    f.st.drain(..n);
    let h = &mut samples.histograms;
    let (from, to) = bounds(&h.t, mint, maxt);
    h.t.truncate(to);
    h.h.truncate(to);
    h.integer.truncate(to);
    h.st.truncate(to);
    h.t.drain(..from);
    h.h.drain(..from);
    h.integer.drain(..from);
    let n = from.min(h.st.len());
    h.st.drain(..n);
}

fn bounds(t: &[i64], mint: i64, maxt: i64) -> (usize, usize) {
    let to = t.partition_point(|t| *t <= maxt);
    (t[..to].partition_point(|t| *t < mint), to)
}

/// Which value an instant selector gives at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstantValue {
    /// The sample.
    Sample,
    /// Its time in seconds (`timestamp(selector)`).
    Timestamp,
    /// Its start timestamp in seconds (`start_timestamp(selector)`).
    StartTimestamp,
    /// Its time in milliseconds (the info side of `info`).
    TimestampMs,
}

/// The newest sample within the lookback at each step.
pub struct InstantSelector {
    /// The selector.
    pub source: Source,
    grid: StepGrid,
    /// Evaluation times as the data sees them: `@` and `offset` applied.
    data: StepGrid,
    value: InstantValue,
    position: usize,
    samples: SampleColumns,
    held: usize,
    stats: StepStats,
    total: i64,
    /// Samples per step, for `timestamp()`, which upstream evaluates step by step.
    rank: u32,
}

impl InstantSelector {
    /// A selector evaluated on `grid`, whose samples are looked up at `data`'s times.
    pub fn new(source: Source, grid: StepGrid, data: StepGrid, value: InstantValue) -> Self {
        let rank = source.rank;
        Self {
            source,
            grid,
            data,
            value,
            position: 0,
            samples: SampleColumns::default(),
            held: 0,
            stats: StepStats::new(grid.steps),
            total: 0,
            rank,
        }
    }

    fn filter(&self, ev: &Eval) -> TimeFilter {
        let lookback = ev.options.lookback_delta;
        TimeFilter {
            first: self.data.start,
            step: self.data.step,
            steps: self.data.steps as i64,
            before: lookback,
            after: if self.source.selector.smoothed { lookback } else { 0 },
            newest_only: !self.source.selector.smoothed,
        }
    }
}

impl Operator for InstantSelector {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        self.source.open(ev)?;
        let mut list = SeriesList::new();
        let drops = self.value == InstantValue::Timestamp || self.value == InstantValue::StartTimestamp;
        let mut stripped = Vec::new();
        for i in 0..self.source.len() {
            let labels = self.source.labels(i);
            if drops && !ev.options.features.delayed_name_removal {
                without_metadata(labels, &mut stripped);
                list.push(&stripped, true);
            } else {
                list.push(labels, drops);
            }
        }
        ev.hold("labels of selected series", list.bytes())?;
        Ok(list)
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if self.position >= self.source.len() {
            return Ok(None);
        }
        ev.poll()?;
        let i = self.position;
        self.position += 1;
        let filter = self.filter(ev);
        self.source.read(i, &filter, &mut self.samples)?;
        let mut column = ev.column(self.grid.steps)?;
        hold_growth(ev, &self.samples, &mut self.held)?;
        if self.source.selector.smoothed && self.value == InstantValue::Sample {
            let name = ev.symbols.resolve(label_value(self.source.labels(i), NAME)).to_owned();
            let (rank, annotations) = (self.rank, &mut ev.annotations);
            windows::smoothed_instant(
                &mut self.samples,
                self.data,
                ev.options.lookback_delta,
                &name,
                self.source.selector.span,
                &mut column,
                &mut |a| annotations.add(rank, a),
            );
            return Ok(Some(column));
        }
        let lookback = ev.options.lookback_delta;
        match self.value {
            InstantValue::Sample => {
                windows::instant_values(&self.samples, self.data, lookback, &mut column);
            }
            InstantValue::Timestamp => {
                windows::instant_timestamps(&self.samples, self.data, lookback, &mut column);
                for v in &mut column.values {
                    *v /= 1000.0;
                }
            }
            InstantValue::StartTimestamp if ev.options.features.use_start_timestamps => {
                windows::instant_start_timestamps(&self.samples, self.data, lookback, &mut column);
                for v in &mut column.values {
                    *v /= 1000.0;
                }
            }
            InstantValue::StartTimestamp => {}
            InstantValue::TimestampMs => {
                windows::instant_values(&self.samples, self.data, lookback, &mut column);
                if !column.histograms.is_empty() {
                    let labels = ev.symbols.labels(self.source.labels(i));
                    return Err(QueryError::execution(format!(
                        "this should be an info metric, with float samples: {labels}"
                    )));
                }
                windows::instant_timestamps(&self.samples, self.data, lookback, &mut column);
            }
        }
        if column.is_dense() {
            self.total += column.steps() as i64;
            for (total, read) in self.stats.total.iter_mut().zip(&mut self.stats.read) {
                *total += 1;
                *read += 1;
            }
        } else {
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
        super::check_samples(self.total, ev)?;
        Ok(Some(column))
    }

    fn grid(&self) -> StepGrid {
        self.grid
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        // `timestamp(selector)` counts as it goes, then forgets all but the step's results, like rangeEval.
        let end = current + self.total;
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
            ),
            series: self.source.len() as u64,
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

/// Takes from the budget what a reused sample buffer has grown by since last time.
///
/// # Errors
/// If the budget does not have it.
pub fn hold_growth(ev: &Eval, samples: &SampleColumns, held: &mut usize) -> Result<(), QueryError> {
    let bytes = samples.bytes();
    if bytes > *held {
        ev.hold("decoded samples", bytes - *held)?;
        *held = bytes;
    }
    Ok(())
}

/// Name and type label of a series, for annotations.
pub fn series_names(ev: &Eval, labels: &SymLabels) -> (String, String) {
    (
        ev.symbols.resolve(label_value(labels, NAME)).to_owned(),
        ev.symbols.resolve(label_value(labels, TYPE)).to_owned(),
    )
}

/// A shared, already opened set, as a boxed one.
pub fn boxed(set: Arc<dyn SeriesSet>) -> Box<dyn SeriesSet> {
    Box::new(set)
}
