//! Functions over range vectors: one pass over each series' samples, all windows at once.

use std::sync::Arc;

use hashbrown::HashMap;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::symbols::Sym;
use tsdbctl_model::{CounterResetHint, Span};
use tsdbctl_storage::{Annotation, TimeFilter};

use super::account::{StepStats, histogram_samples};
use super::check_samples;
use super::column::Column;
use super::error::QueryError;
use super::leaf::{Leaf, RangeWork, Work};
use super::merge_labels::SAME_LABELSET;
use super::operator::{
    Eval, Operator, Report, SeriesList, constant_as_one, drain_scalar, earlier_error_first, without_metadata,
};
use super::options::StepGrid;
use super::selector::{Source, series_names};
use crate::functions::windows::{RangeFunction, Scratch, SeriesInfo, WindowStats};

/// Where the samples come from.
pub enum RangeInput {
    /// Storage.
    Selector(Box<Source>),
    /// An inner expression on its own grid.
    Subquery(Box<Subquery>),
}

/// A subquery's inner expression.
pub struct Subquery {
    /// The inner expression, evaluated on the subquery's grid.
    pub inner: Box<dyn Operator>,
    /// Steps of the inner grid; 0 if the grid is empty (its end lies before its start).
    pub empty: bool,
    /// `offset` as written, ms, to attribute inner reads to outer steps.
    pub offset: i64,
    /// Range, ms.
    pub range: i64,
    /// Inner samples, by upstream's count.
    pub total: i64,
}

impl Subquery {
    /// Appends a column's samples to `samples`, as upstream hands an inner matrix to the outer function.
    pub fn to_samples(grid: StepGrid, column: &Column, samples: &mut SampleColumns) {
        samples.clear();
        for k in column.float_steps() {
            samples.floats.push(grid.time(k), column.values[k], 0);
        }
        for (k, h) in &column.histograms {
            // A window may miss samples between the inner steps, so what the chunk said about resets
            // no longer holds.
            let h = match h.counter_reset_hint {
                CounterResetHint::NotCounterReset | CounterResetHint::CounterReset => {
                    let mut copy = (**h).clone();
                    copy.counter_reset_hint = CounterResetHint::Unknown;
                    Arc::new(copy)
                }
                _ => h.clone(),
            };
            samples.histograms.push(grid.time(*k as usize), h, false, 0);
        }
    }

    /// The inner step stats seen from the outer grid (`MergeSamplesReadFromSubquery`): what is read counts at
    /// the first outer step that uses it.
    pub fn outer_stats(&self, outer: StepGrid, offset: i64, range: i64) -> StepStats {
        let mut stats = StepStats::new(outer.steps);
        if self.empty || outer.steps == 0 {
            return stats;
        }
        let inner_grid = self.inner.grid();
        let inner = self.inner.step_stats();
        for (k, n) in inner.read.iter().enumerate().filter(|(_, n)| **n != 0) {
            if outer.steps <= 1 {
                stats.read[0] += n;
                continue;
            }
            let t = inner_grid.time(k) + offset;
            let step = if t > outer.start { (t - outer.start + outer.step - 1) / outer.step } else { 0 };
            let step = (step as usize).min(outer.steps - 1);
            if range > 0 && t <= outer.time(step) - range {
                continue;
            }
            stats.read[step] += n;
        }
        stats
    }
}

/// A function over a range vector.
pub struct RangeCall {
    /// Which function.
    pub function: RangeFunction,
    /// The function's name as written.
    pub name: &'static str,
    /// The range vector.
    pub input: RangeInput,
    /// The other arguments in order.
    pub scalars: Vec<Box<dyn Operator>>,
    /// Evaluation times.
    pub grid: StepGrid,
    /// Window ends: `@` and `offset` applied (step 0 where `@` fixes the window).
    pub data: StepGrid,
    /// Range, ms.
    pub range: i64,
    /// Selector modifier.
    pub anchored: bool,
    /// Selector modifier.
    pub smoothed: bool,
    /// Place of the range vector argument.
    pub arg_span: Span,
    /// Whether an enclosing subquery needs to know what each step read.
    pub per_step: bool,
    /// Place of the call.
    pub call_span: Span,
    /// Whether the result keeps its name (`last_over_time`, `first_over_time`).
    pub keeps_name: bool,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    /// The rest is state.
    pub state: RangeState,
}

/// What a [`RangeCall`] keeps while it runs.
#[derive(Default)]
pub struct RangeState {
    position: usize,
    series: SeriesList,
    args: Vec<Vec<f64>>,
    leaf: Option<Leaf>,
    samples: SampleColumns,
    scratch: Scratch,
    held: usize,
    /// Positions of series that share their labels with an earlier one, and whether that group has samples.
    collisions: HashMap<usize, usize>,
    seen: Vec<bool>,
    stats: StepStats,
    results: i64,
    peak: i64,
}

impl RangeCall {
    fn filter(&self, ev: &Eval) -> TimeFilter {
        let lookback = ev.options.lookback_delta;
        let (before, after) = match (self.anchored, self.smoothed) {
            (true, _) => (self.range + lookback, 0),
            (_, true) => (self.range + lookback, lookback),
            _ => (self.range, 0),
        };
        TimeFilter {
            first: self.data.start,
            step: self.data.step,
            steps: if self.data.step == 0 { 1 } else { self.data.steps as i64 },
            before,
            after,
            newest_only: false,
        }
    }

    fn count_series(&self) -> usize {
        self.state.series.len()
    }

    fn work(&self, ev: &Eval) -> RangeWork {
        RangeWork {
            function: self.function,
            grid: self.grid,
            data: self.data,
            range: self.range,
            lookback: ev.options.lookback_delta,
            anchored: self.anchored,
            smoothed: self.smoothed,
            args: self.state.args.clone(),
            use_start_timestamps: ev.options.features.use_start_timestamps
                && matches!(self.input, RangeInput::Selector(_)),
            type_and_unit: ev.options.features.type_and_unit_labels,
            per_step: self.per_step || ev.options.per_step_stats,
            arg_span: self.arg_span,
            call_span: self.call_span,
        }
    }

    /// Notes what a column counts for upstream.
    fn count(&mut self, column: &Column, stats: &WindowStats, ev: &Eval) -> Result<(), QueryError> {
        let given = column.float_count() as i64
            + column.histograms.iter().map(|(_, h)| histogram_samples(h)).sum::<i64>();
        let state = &mut self.state;
        if stats.per_step.is_empty() {
            // Nobody asks for single steps: the sums stand at the first.
            state.stats.total[0] += stats.samples_in_windows;
            state.stats.read[0] += stats.samples_read;
        }
        for (k, (window, read)) in stats.per_step.iter().enumerate() {
            state.stats.total[k] += window;
            state.stats.read[k] += read;
        }
        state.peak =
            state.peak.max(state.results + stats.max_window).max(state.results + given + stats.last_window);
        state.results += given;
        check_samples(state.peak, ev)
    }

    /// The next column of a selector's series.
    fn next_stored(&mut self, ev: &mut Eval) -> Result<Option<(Column, WindowStats)>, QueryError> {
        let RangeInput::Selector(source) = &mut self.input else { return Ok(None) };
        let Some(leaf) = &mut self.state.leaf else { return Ok(None) };
        let Some(out) = leaf.next(ev, |ev, i| series_names(ev, source.labels(i)))? else { return Ok(None) };
        source.read.add(&out.read);
        for a in out.annotations {
            ev.annotate(self.rank, a);
        }
        Ok(Some((out.column, out.window)))
    }

    /// The next column of a subquery's series.
    fn next_computed(
        &mut self,
        ev: &mut Eval,
        i: usize,
    ) -> Result<Option<(Column, WindowStats)>, QueryError> {
        let work = self.work(ev);
        let RangeInput::Subquery(subquery) = &mut self.input else { return Ok(None) };
        if subquery.empty {
            return Ok(None);
        }
        ev.poll()?;
        let Some(column) = subquery.inner.next(ev)? else { return Ok(None) };
        subquery.total += column.float_count() as i64
            + column.histograms.iter().map(|(_, h)| histogram_samples(h)).sum::<i64>();
        let state = &mut self.state;
        Subquery::to_samples(subquery.inner.grid(), &column, &mut state.samples);
        ev.recycle(column);
        let bytes = state.samples.bytes();
        if bytes > state.held {
            ev.hold("samples of a subquery", bytes - state.held)?;
            state.held = bytes;
        }
        let names = series_names(ev, state.series.labels(i));
        let info = SeriesInfo { metric_name: &names.metric_name, type_label: &names.type_label };
        let mut out = ev.column(self.grid.steps)?;
        let (rank, annotations) = (self.rank, &mut ev.annotations);
        let mut note = |a: Annotation| annotations.add(rank, a);
        match work.evaluate(&info, &mut state.samples, &mut state.scratch, &mut out, &mut note) {
            Ok(stats) => Ok(Some((out, stats))),
            Err(e) => Err(earlier_error_first(e, subquery.inner.as_mut(), ev)),
        }
    }
}

impl Operator for RangeCall {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        self.state.stats = StepStats::held(self.grid.steps, ev)?;
        let delayed = ev.options.features.delayed_name_removal;
        let mut list = SeriesList::new();
        let mut stripped: Vec<(Sym, Sym)> = Vec::new();
        let mut push = |list: &mut SeriesList, labels: &[(Sym, Sym)], input_drops: bool| {
            let drop = !self.keeps_name || input_drops;
            if drop && !delayed {
                without_metadata(labels, &mut stripped);
                list.push(&stripped, drop);
            } else {
                list.push(labels, drop);
            }
        };
        // Upstream evaluates a subquery first, then the other arguments, then selects.
        if let RangeInput::Subquery(subquery) = &mut self.input {
            let inner = if subquery.empty { SeriesList::new() } else { subquery.inner.open(ev)? };
            for i in 0..inner.len() {
                push(&mut list, inner.labels(i), inner.drop_name(i));
            }
            self.state.series = inner;
        }
        for scalar in &mut self.scalars {
            let values = match (drain_scalar(scalar.as_mut(), ev), &mut self.input) {
                (Err(e), RangeInput::Subquery(s)) if !s.empty => {
                    return Err(earlier_error_first(e, s.inner.as_mut(), ev));
                }
                (values, _) => values?,
            };
            self.state.args.push(constant_as_one(values));
        }
        let modifier = if self.anchored { "anchored" } else { "smoothed" };
        let allowed: &[&str] = if self.anchored {
            &["changes", "delta", "increase", "rate", "resets"]
        } else {
            &["delta", "increase", "rate"]
        };
        if (self.anchored || self.smoothed) && !allowed.contains(&self.name) {
            return Err(QueryError::execution(format!(
                "{modifier} modifier can only be used with: {} - not with {}",
                allowed.join(", "),
                self.name
            ))
            .at(self.call_span));
        }
        if let RangeInput::Selector(source) = &mut self.input {
            source.open(ev)?;
            for i in 0..source.series_count() {
                push(&mut list, source.labels(i), false);
            }
            let work = Work::Range(Box::new(self.work(ev)));
            let filter = self.filter(ev);
            if let RangeInput::Selector(source) = &self.input {
                self.state.leaf = source.leaf(filter, work, self.grid.steps, ev);
            }
        }
        if !delayed && !self.keeps_name {
            let mut first: HashMap<&[(Sym, Sym)], usize> = HashMap::with_capacity(list.len());
            for i in 0..list.len() {
                let owner = *first.entry(list.labels(i)).or_insert(i);
                if owner != i {
                    self.state.collisions.insert(i, owner);
                    self.state.collisions.insert(owner, owner);
                }
            }
            if !self.state.collisions.is_empty() {
                self.state.seen = vec![false; list.len()];
            }
        }
        ev.hold("labels of selected series", list.bytes())?;
        Ok(list)
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let i = self.state.position;
        let next = match self.input {
            RangeInput::Selector(_) => self.next_stored(ev)?,
            RangeInput::Subquery(_) => self.next_computed(ev, i)?,
        };
        let Some((out, stats)) = next else { return Ok(None) };
        self.state.position += 1;
        self.count(&out, &stats, ev)?;
        if let Some(owner) = self.state.collisions.get(&i).copied()
            && !out.is_empty()
        {
            if self.state.seen[owner] {
                let error = QueryError::execution(SAME_LABELSET).at(self.call_span);
                return Err(match &mut self.input {
                    RangeInput::Subquery(s) => earlier_error_first(error, s.inner.as_mut(), ev),
                    RangeInput::Selector(_) => error,
                });
            }
            self.state.seen[owner] = true;
        }
        Ok(Some(out))
    }

    fn grid(&self) -> StepGrid {
        self.grid
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let mut now = current;
        let mut inner_total = 0;
        if let RangeInput::Subquery(subquery) = &self.input
            && !subquery.empty
        {
            now = subquery.inner.account(now, peak);
            inner_total = subquery.total;
        }
        for scalar in &self.scalars {
            now = scalar.account(now, peak);
        }
        *peak = (*peak).max(now + self.state.peak).max(now + self.state.results);
        now + self.state.results - inner_total
    }

    fn step_stats(&self) -> StepStats {
        let mut stats = StepStats::of_inputs(
            &self.scalars.iter().map(|s| s.as_ref()).collect::<Vec<_>>(),
            self.grid.steps,
        );
        let mut own = self.state.stats.clone();
        if let RangeInput::Subquery(subquery) = &self.input {
            own.read = subquery.outer_stats(self.grid, subquery.offset, subquery.range).read;
        }
        stats.add(&own);
        stats
    }

    fn report(&self) -> Report {
        let (series, read) = match &self.input {
            RangeInput::Selector(source) => (source.series_count(), source.read),
            RangeInput::Subquery(_) => (self.count_series(), Default::default()),
        };
        let over = match &self.input {
            RangeInput::Selector(source) => format!(
                "{}[{}]",
                crate::parser::ast::Expr::Vector(Box::new(source.selector.clone())),
                tsdbctl_model::duration::format_duration_ms(self.range)
            ),
            RangeInput::Subquery(_) => "subquery".to_string(),
        };
        let resolutions = match &self.input {
            RangeInput::Selector(source) => source.resolutions(),
            RangeInput::Subquery(_) => String::new(),
        };
        Report { name: format!("{} over {over}{resolutions}", self.name), series: series as u64, read }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        let mut all: Vec<&dyn Operator> = Vec::new();
        if let RangeInput::Subquery(s) = &self.input {
            all.push(s.inner.as_ref());
        }
        all.extend(self.scalars.iter().map(|s| s.as_ref() as &dyn Operator));
        all
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        let mut all: Vec<&mut Box<dyn Operator>> = Vec::new();
        if let RangeInput::Subquery(s) = &mut self.input {
            all.push(&mut s.inner);
        }
        all.extend(self.scalars.iter_mut());
        all
    }
}
