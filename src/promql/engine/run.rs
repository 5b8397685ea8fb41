//! From text to answer: parse, plan, open, evaluate, sort.

use std::time::Instant;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::Matcher;
use tsdbctl_model::symbols::SymLabels;
use tsdbctl_storage::{Control, Queryable, TimeFilter};

use super::account::{StepStats, histogram_samples};
use super::analyze::{self, Analyzed};
use super::error::{ErrorKind, QueryError};
use super::merge_labels::LabelMerger;
use super::operator::{Eval, Operator, SeriesList, drain, without_metadata};
use super::options::{QueryOptions, QueryTime, StepGrid};
use super::plan::{MAX_STEPS, Planner, Scope, prepare};
use super::range_call::Subquery;
use super::resolution::Reading;
use super::result::{
    MatrixSeries, OperatorStats, Points, QueryResult, Sample, SampleStats, Timings, Value, VectorElement,
};
use super::selector::Source;
use super::{Column, too_many_samples};
use crate::functions::windows;
use crate::parser::ast::{Expr, ValueType};
use crate::parser::parse;

/// Stack of the thread that evaluates: expressions nest up to a thousand brackets and chain many thousand
/// terms, and untouched pages cost nothing.
const STACK_BYTES: usize = 512 << 20;

/// Evaluates an expression.
///
/// # Errors
/// If it does not parse, cannot be evaluated, or a limit is reached.
pub fn run(
    storage: &dyn Queryable,
    text: &str,
    time: QueryTime,
    options: &QueryOptions,
    control: &Control,
) -> Result<QueryResult, QueryError> {
    on_big_stack(|| evaluate(storage, parse_query(text, options)?, time, options, control, false))
}

/// Evaluates an expression that was parsed before, on the caller's own stack: for rules, which ask the same again
/// and again. Many evaluations belong into one [`on_big_stack`].
///
/// # Errors
/// As [`run`].
pub fn run_parsed(
    storage: &dyn Queryable,
    expr: &Expr,
    time: QueryTime,
    options: &QueryOptions,
    control: &Control,
) -> Result<QueryResult, QueryError> {
    evaluate(storage, expr.clone(), time, options, control, false)
}

/// Evaluates an expression and notes what each operator did.
///
/// # Errors
/// As [`run`].
pub fn run_analyzed(
    storage: &dyn Queryable,
    text: &str,
    time: QueryTime,
    options: &QueryOptions,
    control: &Control,
) -> Result<QueryResult, QueryError> {
    on_big_stack(|| evaluate(storage, parse_query(text, options)?, time, options, control, true))
}

/// The operators an expression would run as, root first, nothing opened.
///
/// # Errors
/// If it does not parse or cannot be evaluated whatever the data.
pub fn explain(
    text: &str,
    time: QueryTime,
    options: &QueryOptions,
) -> Result<Vec<OperatorStats>, QueryError> {
    on_big_stack(|| {
        let expr = ready(parse_query(text, options)?, time)?;
        let mut planner = Planner::new(options, time);
        let root = Root::plan(&mut planner, &expr, time)?;
        Ok(root.describe())
    })
}

/// Runs `f` on a thread whose stack holds the deepest expression.
pub fn on_big_stack<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, f);
        match spawned.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(e) => panic!("cannot start the evaluating thread: {e}"),
        }
    })
}

/// Runs `f` beside what goes on, on a thread of `scope` with such a stack.
///
/// # Errors
/// If there is no thread to be had.
pub fn spawn_on_big_stack<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    f: impl FnOnce() -> T + Send + 'scope,
) -> std::io::Result<std::thread::ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, f)
}

/// Parses an expression, the error as [`run`] would give it.
///
/// # Errors
/// If the text is no expression.
pub fn parse_query(text: &str, options: &QueryOptions) -> Result<Expr, QueryError> {
    parse(text, &options.features).map_err(|e| QueryError {
        kind: ErrorKind::BadData,
        message: e.api_message(text),
        span: Some(e.span),
        hint: e.hint,
    })
}

/// Checks the expression against the times of the query and resolves what depends on them.
fn ready(mut expr: Expr, time: QueryTime) -> Result<Expr, QueryError> {
    if let QueryTime::Range { step, .. } = time {
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Scalar | ValueType::Vector) {
            return Err(QueryError::bad_data(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                kind.documented()
            ))
            .at(expr.span()));
        }
        if step <= 0 {
            return Err(QueryError::bad_data(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
    }
    if let QueryTime::Range { start, end, step } = time
        && end.checked_sub(start).is_none_or(|range| range / step >= MAX_STEPS as i64)
    {
        return Err(QueryError::bad_data(format!(
            "a range of more than {MAX_STEPS} steps; lengthen the step or shorten the range"
        )));
    }
    prepare(&mut expr, time)?;
    Ok(expr)
}

/// What the query evaluates to, before it runs.
enum Root {
    Text(String),
    Vector(Box<dyn Operator>),
    Scalar(Box<dyn Operator>),
    /// A bare range selector.
    Samples {
        source: Box<Source>,
        grid: StepGrid,
        range: i64,
    },
    /// A bare subquery.
    Subquery(Box<Subquery>, StepGrid),
}

impl Root {
    fn plan(planner: &mut Planner, expr: &Expr, time: QueryTime) -> Result<Self, QueryError> {
        let scope: Scope = planner.root_scope(time);
        planner.find_invariant(expr);
        match expr.unwrap_parens() {
            Expr::String(s) => Ok(Self::Text(s.value.clone())),
            Expr::Matrix(m) => {
                let (source, at) =
                    planner.source(&m.selector, &scope, Some(m.range), Reading::RANGE, "a range selector");
                let end = at.unwrap_or(scope.grid.start) - m.selector.time.offset;
                let grid = StepGrid { start: end, step: 1, steps: 1 };
                Ok(Self::Samples { source: Box::new(source), grid, range: m.range })
            }
            Expr::Subquery(s) => Ok(Self::Subquery(Box::new(planner.subquery(s, &scope)?), scope.grid)),
            e if e.value_type() == ValueType::Scalar => Ok(Self::Scalar(planner.build(expr, &scope)?)),
            _ => Ok(Self::Vector(planner.build(expr, &scope)?)),
        }
    }

    fn operator(&self) -> Option<&dyn Operator> {
        match self {
            Self::Text(_) | Self::Samples { .. } => None,
            Self::Vector(op) | Self::Scalar(op) => Some(op.as_ref()),
            Self::Subquery(s, _) => Some(s.inner.as_ref()),
        }
    }

    fn describe(&self) -> Vec<OperatorStats> {
        let one = |name: String| vec![OperatorStats { name, ..OperatorStats::default() }];
        match self {
            Self::Text(s) => one(format!("string {}", tsdbctl_model::float_text::go_quote(s))),
            Self::Samples { source, range, .. } => {
                let mut stats = one(format!(
                    "range selector {}[{}]",
                    Expr::Vector(Box::new(source.selector.clone())),
                    tsdbctl_model::duration::format_duration_ms(*range)
                ));
                (stats[0].chunks, stats[0].samples, stats[0].bytes) =
                    (source.read.chunks, source.read.samples, source.read.bytes);
                stats[0].series = source.series_count() as u64;
                stats
            }
            _ => self.operator().map(analyze::describe).unwrap_or_default(),
        }
    }

    fn wrap(&mut self) {
        match self {
            Self::Vector(op) | Self::Scalar(op) => Analyzed::wrap(op),
            Self::Subquery(s, _) => Analyzed::wrap(&mut s.inner),
            Self::Text(_) | Self::Samples { .. } => {}
        }
    }
}

fn evaluate(
    storage: &dyn Queryable,
    expr: Expr,
    time: QueryTime,
    options: &QueryOptions,
    control: &Control,
    analyzed: bool,
) -> Result<QueryResult, QueryError> {
    let started = Instant::now();
    control.check("query preparation")?;
    let expr = ready(expr, time)?;
    control.check("query preparation")?;
    let mut planner = Planner::new(options, time);
    let mut root = Root::plan(&mut planner, &expr, time)?;
    if let QueryTime::Range { start, end, step } = time
        && end < start
    {
        let value = Value::Matrix { grid: StepGrid { start, step, steps: 0 }, series: Vec::new() };
        return Ok(QueryResult::empty(value));
    }
    if analyzed {
        root.wrap();
    }
    let (mint, maxt) = planner
        .selections
        .iter()
        .fold((i64::MAX, i64::MIN), |(a, b), (_, (start, end))| (a.min(*start), b.max(*end)));
    let (mint, maxt) = if planner.selections.is_empty() { (0, 0) } else { (mint, maxt) };
    let selections: Vec<Vec<Matcher>> = planner.selections.iter().map(|(s, _)| s.matchers.clone()).collect();
    let nothing = NoData;
    let opened;
    let querier: &dyn tsdbctl_storage::Querier = if selections.is_empty() {
        &nothing
    } else {
        opened = storage.querier(mint, maxt, &selections, control)?;
        opened.as_ref()
    };
    if let Some(loss) = querier.losses().into_iter().next() {
        return Err(tsdbctl_storage::StorageError::from(loss).into());
    }
    let prepared = Instant::now();
    let mut ev = Eval::new(querier, *options, control);
    let (mut value, counted) = root.evaluate(&mut ev, time)?;
    if counted.peak as u64 > options.max_samples && counted.peak > 0 {
        return Err(too_many_samples());
    }
    let evaluated = Instant::now();
    control.check("expression evaluation")?;
    if let Value::Matrix { series, .. } = &mut value {
        let symbols = &ev.symbols;
        series.sort_by(|a, b| symbols.compare(&a.labels, &b.labels));
    }
    let sorted = Instant::now();
    let per_step = |counts: &[i64]| {
        let grid = match time {
            QueryTime::Instant(t) => StepGrid { start: t, step: 1, steps: 1 },
            QueryTime::Range { start, step, .. } => StepGrid { start, step, steps: counts.len() },
        };
        Some(counts.iter().enumerate().map(|(k, n)| (grid.time(k), *n)).collect::<Vec<_>>())
    };
    let stats = SampleStats {
        total_queryable_samples: counted.steps.total.iter().sum(),
        samples_read: counted.steps.read.iter().sum(),
        peak_samples: counted.peak,
        total_per_step: if options.per_step_stats { per_step(&counted.steps.total) } else { None },
        read_per_step: if options.per_step_stats { per_step(&counted.steps.read) } else { None },
    };
    let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
    let timings = Timings {
        eval_total: seconds(started, sorted),
        result_sort: seconds(evaluated, sorted),
        query_preparation: seconds(started, prepared),
        inner_eval: seconds(prepared, evaluated),
        exec_queue: 0.0,
        exec_total: started.elapsed().as_secs_f64(),
    };
    let operators = if analyzed { root.describe() } else { Vec::new() };
    ev.tell_coarser();
    Ok(QueryResult { value, symbols: ev.symbols, annotations: ev.annotations, stats, timings, operators })
}

/// Upstream's counts of the whole query.
struct Counted {
    peak: i64,
    steps: StepStats,
}

impl Root {
    fn evaluate(&mut self, ev: &mut Eval, time: QueryTime) -> Result<(Value, Counted), QueryError> {
        let t = match time {
            QueryTime::Instant(t) => t,
            QueryTime::Range { start, .. } => start,
        };
        match self {
            Self::Text(v) => {
                let none = Counted { peak: 0, steps: StepStats::new(1) };
                Ok((Value::String { t, v: v.clone() }, none))
            }
            Self::Scalar(op) => {
                let (_, mut columns) = drain(op.as_mut(), ev)?;
                let counted = count(op.as_ref());
                let column = columns.pop().unwrap_or_default();
                let value = match time {
                    QueryTime::Instant(_) => Value::Scalar { t, v: column.float(0).unwrap_or(f64::NAN) },
                    QueryTime::Range { .. } => {
                        let series = if column.is_empty() {
                            Vec::new()
                        } else {
                            vec![MatrixSeries { labels: Vec::new(), points: Points::Grid(column) }]
                        };
                        Value::Matrix { grid: op.grid(), series }
                    }
                };
                Ok((value, counted))
            }
            Self::Vector(op) => {
                let (list, columns) = finish(op.as_mut(), ev)?;
                let counted = count(op.as_ref());
                let value = match time {
                    QueryTime::Instant(_) => Value::Vector(elements(t, &list, columns)),
                    QueryTime::Range { .. } => matrix(op.grid(), &list, columns),
                };
                Ok((value, counted))
            }
            Self::Samples { source, grid, range } => samples(source, *grid, *range, ev),
            Self::Subquery(subquery, outer) => {
                if subquery.empty {
                    let none = Counted { peak: 0, steps: StepStats::new(outer.steps) };
                    return Ok((Value::Matrix { grid: *outer, series: Vec::new() }, none));
                }
                let (list, columns) = finish(subquery.inner.as_mut(), ev)?;
                let mut counted = count(subquery.inner.as_ref());
                let total: i64 = counted.steps.total.iter().sum();
                counted.steps = subquery.outer_stats(*outer, 0, 0);
                if let Some(last) = counted.steps.total.last_mut() {
                    *last += total;
                }
                Ok((matrix(subquery.inner.grid(), &list, columns), counted))
            }
        }
    }
}

fn count(op: &dyn Operator) -> Counted {
    let mut peak = 0;
    op.account(0, &mut peak);
    Counted { peak, steps: op.step_stats() }
}

/// Runs the root and, under delayed name removal, drops the names that are marked
/// (`cleanupMetricLabels`).
fn finish(op: &mut dyn Operator, ev: &mut Eval) -> Result<(SeriesList, Vec<Column>), QueryError> {
    let list = op.open(ev)?;
    let delayed = ev.options.features.delayed_name_removal && (0..list.len()).any(|i| list.drop_name(i));
    let mut merger = LabelMerger::default();
    let list = if delayed {
        let mut cleaned = SeriesList::new();
        let mut labels = Vec::new();
        for i in 0..list.len() {
            if list.drop_name(i) {
                without_metadata(list.labels(i), &mut labels);
                cleaned.push(&labels, false);
            } else {
                cleaned.push(list.labels(i), false);
            }
        }
        merger.open(cleaned, op.grid().steps)
    } else {
        list
    };
    let mut columns = Vec::with_capacity(list.len());
    while let Some(column) = merger.next(ev, |ev| op.next(ev))? {
        if column.is_empty() {
            // An empty slot keeps the order; its memory goes back.
            ev.recycle(column);
            columns.push(Column::default());
        } else {
            columns.push(column);
        }
    }
    Ok((list, columns))
}

fn elements(t: i64, list: &SeriesList, columns: Vec<Column>) -> Vec<VectorElement> {
    let mut out = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        if column.steps() == 0 {
            continue;
        }
        let sample = match (column.float(0), column.histogram(0)) {
            (Some(v), _) => Sample::Float(v),
            (None, Some(h)) => Sample::Histogram(h.clone()),
            (None, None) => continue,
        };
        out.push(VectorElement { labels: list.labels(i).to_vec(), t, sample });
    }
    out
}

fn matrix(grid: StepGrid, list: &SeriesList, columns: Vec<Column>) -> Value {
    let series = columns
        .into_iter()
        .enumerate()
        .filter(|(_, column)| !column.is_empty())
        .map(|(i, column)| MatrixSeries { labels: list.labels(i).to_vec(), points: Points::Grid(column) })
        .collect();
    Value::Matrix { grid, series }
}

/// A bare range selector: the samples themselves, stale markers left out.
fn samples(
    source: &mut Source,
    grid: StepGrid,
    range: i64,
    ev: &mut Eval,
) -> Result<(Value, Counted), QueryError> {
    source.open(ev)?;
    let lookback = ev.options.lookback_delta;
    let (anchored, smoothed) = (source.selector.anchored, source.selector.smoothed);
    let filter = TimeFilter {
        first: grid.start,
        step: 0,
        steps: 1,
        before: range + if anchored || smoothed { lookback } else { 0 },
        after: if smoothed { lookback } else { 0 },
        newest_only: false,
    };
    let mut series = Vec::new();
    let mut steps = StepStats::new(1);
    let mut peak = 0i64;
    for i in 0..source.series_count() {
        ev.poll()?;
        let mut samples = SampleColumns::default();
        source.read(i, &filter, &mut samples)?;
        windows::strip_stale(&mut samples);
        samples.histograms.integer.iter_mut().for_each(|i| *i = false);
        let weight = |s: &SampleColumns| {
            s.floats.len() as i64 + s.histograms.h.iter().map(|h| histogram_samples(h)).sum::<i64>()
        };
        // In memory is what was read; the values on the window's edges come after.
        peak += weight(&samples);
        if peak as u64 > ev.options.max_samples {
            return Err(too_many_samples());
        }
        if anchored || smoothed {
            if !samples.histograms.is_empty() {
                let word = if anchored { "anchored" } else { "smoothed" };
                return Err(QueryError::execution(format!(
                    "{word} modifier is not supported with histograms"
                )));
            }
            super::extend::extend_floats(&mut samples.floats, grid.start - range, grid.start, smoothed);
        }
        let n = weight(&samples);
        steps.total[0] += n;
        steps.read[0] += n;
        if n > 0 {
            ev.hold("samples of the result", samples.bytes())?;
            series.push(MatrixSeries { labels: source.labels(i).to_vec(), points: Points::Raw(samples) });
        }
    }
    Ok((Value::Matrix { grid, series }, Counted { peak, steps }))
}

/// Storage of an expression that selects nothing.
struct NoData;

impl tsdbctl_storage::Querier for NoData {
    fn select(
        &self,
        _: &tsdbctl_storage::SelectHints,
        _: &[Matcher],
        _: &mut tsdbctl_model::SymbolTable,
        _: &Control,
    ) -> Result<Box<dyn tsdbctl_storage::SeriesSet>, tsdbctl_storage::StorageError> {
        Ok(Box::new(NoSeries))
    }

    fn label_names(&self, _: &[Matcher], _: &Control) -> Result<Vec<String>, tsdbctl_storage::StorageError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Matcher],
        _: &Control,
    ) -> Result<Vec<String>, tsdbctl_storage::StorageError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: i64,
        _: i64,
        _: &[Vec<Matcher>],
        _: &Control,
    ) -> Result<Vec<tsdbctl_storage::querier::SeriesExemplars>, tsdbctl_storage::StorageError> {
        Ok(Vec::new())
    }
}

struct NoSeries;

impl tsdbctl_storage::SeriesSet for NoSeries {
    fn len(&self) -> usize {
        0
    }

    fn labels(&self, _: usize) -> &SymLabels {
        &[]
    }

    fn read(
        &self,
        _: usize,
        _: &TimeFilter,
        _: &mut SampleColumns,
        _: &mut tsdbctl_storage::ReadStats,
    ) -> Result<(), tsdbctl_storage::StorageError> {
        Ok(())
    }
}
