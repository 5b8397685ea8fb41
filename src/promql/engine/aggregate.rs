//! Aggregations that fold series into groups as they come, and `quantile`, which has to keep them.

use tsdbctl_model::Span;
use tsdbctl_storage::Annotation;

use super::account::{StepCounts, StepStats, histogram_samples};
use super::check_samples;
use super::column::Column;
use super::error::QueryError;
use super::grouping::{Grouping, Groups};
use super::operator::{Eval, Operator, Report, SeriesList, drain_scalar};
use super::options::StepGrid;
use crate::functions::aggregate::GroupAccumulator;
use crate::functions::order::quantile;
use crate::parser::ast::AggregateOp;

/// The parameter of an aggregation, one value per step.
#[derive(Clone, Debug, Default)]
pub struct Param {
    values: Vec<f64>,
}

impl Param {
    /// Evaluates the parameter's operator.
    ///
    /// # Errors
    /// If it fails.
    pub fn evaluate(op: &mut dyn Operator, ev: &mut Eval) -> Result<Self, QueryError> {
        Ok(Self { values: drain_scalar(op, ev)? })
    }

    /// The value at step `k`.
    pub fn at(&self, k: usize) -> f64 {
        self.values.get(k).copied().unwrap_or(0.0)
    }

    /// Whether any is NaN.
    pub fn has_nan(&self) -> bool {
        self.values.iter().any(|v| v.is_nan())
    }

    /// The largest; NaN if any is, as Go's `math.Max`.
    pub fn max(&self) -> f64 {
        self.values
            .iter()
            .copied()
            .fold(-f64::MAX, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
    }

    /// The smallest; NaN if any is.
    pub fn min(&self) -> f64 {
        self.values
            .iter()
            .copied()
            .fold(f64::MAX, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) })
    }
}

/// What upstream counts while it aggregates: the inputs, then the results.
#[derive(Default)]
pub struct AggregateCounts {
    /// Samples of the result at each step that are counted while aggregating.
    pub results: StepCounts,
    /// Samples of the finished matrix.
    pub matrix: i64,
}

impl AggregateCounts {
    /// Notes a result column.
    pub fn give(&mut self, column: &Column) {
        self.matrix += column.float_count() as i64
            + column.histograms.iter().map(|(_, h)| histogram_samples(h)).sum::<i64>();
    }

    /// Replays upstream: inputs stay until the result is complete.
    pub fn replay(&self, before: i64, current: i64, peak: &mut i64) -> i64 {
        *peak = (*peak).max(current);
        let end = before + self.matrix;
        *peak = (*peak).max(end);
        end
    }
}

/// `sum`, `avg`, `count`, `min`, `max`, `group`, `stddev`, `stdvar`, `quantile`.
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// Its groups.
    pub grouping: Grouping,
    /// Parameter of `quantile`.
    pub param: Option<Box<dyn Operator>>,
    /// What is aggregated.
    pub input: Box<dyn Operator>,
    /// Place of the input, for annotations.
    pub expr_span: Span,
    /// Place of the parameter.
    pub param_span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    groups: Groups,
    input_series: SeriesList,
    phi: Param,
    results: std::vec::IntoIter<Column>,
    folded: bool,
    /// First series with a sample, for each group.
    first_member: Vec<usize>,
    counts: AggregateCounts,
}

impl Aggregate {
    /// An aggregation of `input`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        op: AggregateOp,
        grouping: Grouping,
        param: Option<Box<dyn Operator>>,
        input: Box<dyn Operator>,
        spans: (Span, Span),
        rank: u32,
    ) -> Self {
        Self {
            op,
            grouping,
            param,
            input,
            expr_span: spans.0,
            param_span: spans.1,
            rank,
            groups: Groups::default(),
            input_series: SeriesList::new(),
            phi: Param::default(),
            results: Vec::new().into_iter(),
            folded: false,
            first_member: Vec::new(),
            counts: AggregateCounts::default(),
        }
    }

    fn fold(&mut self, ev: &mut Eval) -> Result<Vec<Column>, QueryError> {
        let steps = self.grid().steps;
        let n = self.groups.series.len();
        let per_step = GroupAccumulator::new(self.op, 1, self.expr_span).bytes_per_step();
        ev.hold("groups of an aggregation", n.saturating_mul(steps).saturating_mul(per_step))?;
        let mut states: Vec<GroupAccumulator> =
            (0..n).map(|_| GroupAccumulator::new(self.op, steps, self.expr_span)).collect();
        let mut i = 0;
        self.first_member = vec![usize::MAX; n];
        while let Some(column) = self.input.next(ev)? {
            self.note_member(i, &column);
            let (rank, annotations) = (self.rank, &mut ev.annotations);
            let name = if column.histograms.is_empty() {
                String::new()
            } else {
                let labels = self.input_series.labels(i);
                let name = super::operator::label_value(labels, tsdbctl_model::symbols::NAME);
                ev.symbols.resolve(name).to_owned()
            };
            let mut note = |a: Annotation| annotations.add(rank, a);
            states[self.groups.of_series[i] as usize].fold(&column, &name, &mut note);
            ev.recycle(column);
            i += 1;
        }
        let (rank, annotations) = (self.rank, &mut ev.annotations);
        let mut note = |a: Annotation| annotations.add(rank, a);
        Ok(states.into_iter().map(|s| s.finish(&mut note)).collect())
    }

    fn quantiles(&mut self, ev: &mut Eval) -> Result<Vec<Column>, QueryError> {
        let steps = self.grid().steps;
        let mut members: Vec<Vec<Column>> = (0..self.groups.series.len()).map(|_| Vec::new()).collect();
        let mut i = 0;
        self.first_member = vec![usize::MAX; members.len()];
        while let Some(column) = self.input.next(ev)? {
            self.note_member(i, &column);
            if !column.histograms.is_empty() {
                let a = Annotation::histogram_ignored_in_aggregation("quantile", self.expr_span);
                ev.annotate(self.rank, a);
            }
            members[self.groups.of_series[i] as usize].push(column);
            i += 1;
        }
        let mut out = Vec::with_capacity(members.len());
        let mut values = Vec::new();
        for columns in members {
            let mut result = ev.column(steps)?;
            for k in 0..steps {
                values.clear();
                values.extend(columns.iter().filter_map(|c| c.float(k)));
                if !values.is_empty() {
                    result.set_float(k, quantile(self.phi.at(k), &mut values));
                }
            }
            for column in columns {
                ev.recycle(column);
            }
            out.push(result);
        }
        Ok(out)
    }

    fn note_member(&mut self, i: usize, column: &Column) {
        let first = &mut self.first_member[self.groups.of_series[i] as usize];
        if *first > i && !column.is_empty() {
            *first = i;
        }
    }

    fn evaluate(&mut self, ev: &mut Eval) -> Result<(), QueryError> {
        self.folded = true;
        let columns = if self.op == AggregateOp::Quantile { self.quantiles(ev)? } else { self.fold(ev)? };
        for column in &columns {
            self.counts.give(column);
        }
        check_samples(self.counts.matrix, ev)?;
        self.results = columns.into_iter();
        Ok(())
    }

    /// An instant's groups stand in the order of their first members that have a sample.
    fn reorder(&mut self) {
        if self.first_member.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.first_member.len()).collect();
        order.sort_by_key(|g| self.first_member[*g]);
        let mut columns: Vec<Column> = std::mem::take(&mut self.results).collect();
        let mut series = SeriesList::new();
        let mut results = Vec::with_capacity(columns.len());
        for g in order {
            series.push(self.groups.series.labels(g), self.groups.series.drop_name(g));
            results.push(std::mem::take(&mut columns[g]));
        }
        self.groups.series = series;
        self.results = results.into_iter();
    }

    fn check_phi(&self, ev: &mut Eval) {
        if self.phi.has_nan() {
            ev.annotate(self.rank, Annotation::invalid_quantile(f64::NAN, self.param_span));
        }
        if self.phi.max() > 1.0 {
            ev.annotate(self.rank, Annotation::invalid_quantile(self.phi.max(), self.param_span));
        }
        if self.phi.min() < 0.0 {
            ev.annotate(self.rank, Annotation::invalid_quantile(self.phi.min(), self.param_span));
        }
    }
}

impl Operator for Aggregate {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        if let Some(param) = &mut self.param {
            self.phi = Param::evaluate(param.as_mut(), ev)?;
        }
        let list = self.input.open(ev)?;
        self.groups = self.grouping.assign(ev, &list);
        self.input_series = list;
        if self.op == AggregateOp::Quantile {
            self.check_phi(ev);
        }
        ev.hold("labels of groups", self.groups.series.bytes())?;
        if self.grid().steps == 1 {
            self.evaluate(ev)?;
            self.reorder();
        }
        Ok(self.groups.series.clone())
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if !self.folded {
            self.evaluate(ev)?;
        }
        Ok(self.results.next())
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let mut now = current;
        for input in self.inputs() {
            now = input.account(now, peak);
        }
        self.counts.replay(current, now, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid().steps)
    }

    fn report(&self) -> Report {
        let words = if self.grouping.without { "without" } else { "by" };
        let name = if self.grouping.labels.is_empty() && !self.grouping.without {
            self.op.as_str().to_string()
        } else {
            format!("{} {words} ({})", self.op.as_str(), self.grouping.labels.join(", "))
        };
        Report { name, series: self.groups.series.len() as u64, ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        let mut all: Vec<&dyn Operator> = self.param.iter().map(|p| p.as_ref() as &dyn Operator).collect();
        all.push(self.input.as_ref());
        all
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        let mut all: Vec<&mut Box<dyn Operator>> = self.param.iter_mut().collect();
        all.push(&mut self.input);
        all
    }
}
