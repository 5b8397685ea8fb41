//! From syntax tree to operators: times resolved, step-invariant parts found, upstream's order of
//! evaluation numbered.

use hashbrown::HashSet;
use tsdbctl_model::regexp::Regexp;
use tsdbctl_model::{MatchType, Span};
use tsdbctl_storage::WindowValue;

use super::absent::Absent;
use super::aggregate::Aggregate;
use super::count_values::CountValues;
use super::element::{Element, ElementKind, NameRule, changes_schema};
use super::error::{ErrorKind, QueryError};
use super::grouping::Grouping;
use super::histogram_functions::{HistogramFunction, HistogramKind};
use super::info::Info;
use super::join::Join;
use super::label_functions::{LabelFunction, Relabel, Sort, SortBy};
use super::leaf::InstantValue;
use super::operator::Operator;
use super::options::{QueryOptions, QueryTime, StepGrid};
use super::range_call::{RangeCall, RangeInput, Subquery};
use super::resolution::Reading;
use super::scalar::{Scalar, ScalarKind, StepInvariant};
use super::select_k::SelectK;
use super::selector::{InstantSelector, Source};
use super::set_operator::SetOperator;
use crate::functions::binary::BinaryKernel;
use crate::functions::math::ElementFunction;
use crate::functions::windows::RangeFunction;
use crate::parser::ast::{
    AggregateExpr, AggregateOp, BinaryExpr, BinaryOp, Call, Expr, NumberLiteral, StartOrEnd, SubqueryExpr,
    TimeModifiers, ValueType, VectorSelector,
};

/// Functions whose value depends on the evaluation time even if their argument is fixed by `@`.
const UNSAFE_WITH_AT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// Most steps of a query or subquery; a column of them takes 1.1 GB.
pub const MAX_STEPS: usize = 1 << 27;

/// When and how often a part of the expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Evaluation times.
    pub grid: StepGrid,
    /// Whether it is a range: its start differs from its end, even if only one step fits.
    pub is_range: bool,
    /// Parameters of aggregations: upstream does not resolve `@ start()` and `@ end()` there.
    in_param: bool,
}

/// An enclosing node that matters to a selector.
#[derive(Clone, Copy, Debug)]
enum Outer {
    /// `histogram_count`, `histogram_sum`, `histogram_avg`: buckets are not needed.
    Stats,
    /// Functions and operators that need buckets.
    Buckets,
    /// A subquery: offset, range, `@`.
    Subquery { offset: i64, range: i64, at: Option<i64> },
    /// `min`, `max`: of downsampled windows their smallest or largest sample.
    Extreme(WindowValue),
    /// Anything else.
    Plain,
}

/// Builds operators for one query.
pub struct Planner<'a> {
    options: &'a QueryOptions,
    start: i64,
    end: i64,
    is_range_query: bool,
    invariant: HashSet<*const Expr>,
    path: Vec<Outer>,
    rank: u32,
    /// Selectors found, with upstream's bounds.
    pub selections: Vec<(VectorSelector, (i64, i64))>,
}

/// Replaces `start()`, `end()`, `range()` and `step()` by numbers, and computed durations by plain ones.
///
/// # Errors
/// If a computed duration is not allowed.
pub fn prepare(expr: &mut Expr, time: QueryTime) -> Result<(), QueryError> {
    let (start, end, step) = match time {
        QueryTime::Instant(t) => (t, t, 0),
        QueryTime::Range { start, end, step } => (start, end, step),
    };
    fold_context(expr, start, end, step);
    crate::parser::resolve(expr, step, end - start)
        .map_err(|e| QueryError { span: Some(e.span), ..QueryError::execution(e.message) })
}

fn fold_context(expr: &mut Expr, start: i64, end: i64, step: i64) {
    match expr {
        Expr::Call(call) => {
            let value = match call.func.name {
                "start" => Some(start as f64 / 1000.0),
                "end" => Some(end as f64 / 1000.0),
                "range" => Some((end - start) as f64 / 1000.0),
                "step" => Some(if start == end { 0.0 } else { step as f64 / 1000.0 }),
                _ => None,
            };
            if let Some(value) = value {
                *expr = Expr::Number(NumberLiteral { value, is_duration: false, span: call.span });
                return;
            }
            for arg in &mut call.args {
                fold_context(arg, start, end, step);
            }
        }
        Expr::Binary(b) => {
            fold_context(&mut b.lhs, start, end, step);
            fold_context(&mut b.rhs, start, end, step);
        }
        Expr::Aggregate(a) => {
            fold_context(&mut a.expr, start, end, step);
            if let Some(param) = &mut a.param {
                fold_context(param, start, end, step);
            }
        }
        Expr::Unary(u) => fold_context(&mut u.expr, start, end, step),
        Expr::Paren(p) => fold_context(&mut p.expr, start, end, step),
        Expr::Subquery(s) => fold_context(&mut s.expr, start, end, step),
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
    }
}

fn fixed(time: &TimeModifiers) -> bool {
    time.at.is_some() || time.start_or_end.is_some()
}

impl<'a> Planner<'a> {
    /// A planner for a query at `time`.
    pub fn new(options: &'a QueryOptions, time: QueryTime) -> Self {
        let (start, end) = match time {
            QueryTime::Instant(t) => (t, t),
            QueryTime::Range { start, end, .. } => (start, end),
        };
        Self {
            options,
            start,
            end,
            is_range_query: matches!(time, QueryTime::Range { .. }),
            invariant: HashSet::new(),
            path: Vec::new(),
            rank: 0,
            selections: Vec::new(),
        }
    }

    /// The scope of the whole query.
    pub fn root_scope(&self, time: QueryTime) -> Scope {
        let grid = match time {
            QueryTime::Instant(t) => StepGrid { start: t, step: 1, steps: 1 },
            QueryTime::Range { start, end, step } => {
                StepGrid { start, step, steps: ((end - start) / step + 1).max(0) as usize }
            }
        };
        Scope { grid, is_range: self.start != self.end, in_param: false }
    }

    /// Finds the step-invariant parts (`preprocessExprHelper`); the root last.
    pub fn find_invariant(&mut self, expr: &Expr) {
        let (_, wrap) = self.invariance(expr);
        if wrap {
            self.invariant.insert(expr);
        }
    }

    fn invariance(&mut self, expr: &Expr) -> (bool, bool) {
        match expr {
            Expr::Vector(v) => (fixed(&v.time), fixed(&v.time)),
            Expr::Matrix(m) => (fixed(&m.selector.time), false),
            Expr::Aggregate(a) => self.invariance(a.expr.unwrap_parens()),
            Expr::Binary(b) => {
                let (left, wrap_left) = self.invariance(&b.lhs);
                let (right, wrap_right) = self.invariance(&b.rhs);
                if left && right {
                    return (true, true);
                }
                if wrap_left {
                    self.invariant.insert(&raw const b.lhs);
                }
                if wrap_right {
                    self.invariant.insert(&raw const b.rhs);
                }
                (false, false)
            }
            Expr::Call(c) => {
                let mut invariant = !UNSAFE_WITH_AT.contains(&c.func.name);
                let mut timestamp = c.func.name == "timestamp";
                let mut wraps = Vec::new();
                for arg in &c.args {
                    let arg = arg.unwrap_parens();
                    let (is, wrap) = self.invariance(arg);
                    invariant &= is;
                    timestamp &= is && matches!(arg, Expr::Vector(_));
                    if wrap {
                        wraps.push(arg as *const Expr);
                    }
                }
                if invariant || timestamp {
                    return (true, true);
                }
                self.invariant.extend(wraps);
                (false, false)
            }
            Expr::Subquery(s) => {
                if self.invariance(&s.expr).0 {
                    self.invariant.insert(&raw const s.expr);
                }
                (fixed(&s.time), false)
            }
            Expr::Paren(p) => self.invariance(&p.expr),
            Expr::Unary(u) => self.invariance(&u.expr),
            Expr::Number(_) | Expr::String(_) => (true, false),
        }
    }

    fn next_rank(&mut self) -> u32 {
        self.rank += 1;
        self.rank
    }

    fn at(&self, time: &TimeModifiers, scope: &Scope) -> Option<i64> {
        match time.start_or_end {
            Some(_) if scope.in_param => time.at,
            Some(StartOrEnd::Start) => Some(self.start),
            Some(StartOrEnd::End) => Some(self.end),
            None => time.at,
        }
    }

    /// What upstream asks storage for (`getTimeRangesForSelector`).
    fn bounds(&self, selector: &VectorSelector, at: Option<i64>, range: Option<i64>) -> (i64, i64) {
        let (mut start, mut end) = (self.start, self.end);
        let (mut offsets, mut ranges, mut subquery_at) = (0i64, 0i64, None);
        for outer in &self.path {
            if let Outer::Subquery { offset, range, at } = outer {
                offsets += offset;
                ranges += range;
                if at.is_some() {
                    (offsets, ranges, subquery_at) = (*offset, *range, *at);
                }
            }
        }
        if let Some(at) = subquery_at {
            (start, end) = (at, at);
        }
        match at {
            Some(at) => (start, end) = (at, at),
            None => {
                start -= offsets + ranges;
                end -= offsets;
            }
        }
        let lookback = self.options.lookback_delta;
        match range {
            None => {
                start -= lookback - 1;
                if selector.smoothed {
                    end += lookback;
                }
            }
            Some(range) if selector.anchored => start -= lookback + range - 1,
            Some(range) if selector.smoothed => {
                start -= lookback + range - 1;
                end += lookback;
            }
            Some(range) => start -= range - 1,
        }
        (start - selector.time.offset, end - selector.time.offset)
    }

    /// Whether a selector's histograms may lose their buckets (`detectHistogramStatsDecoding`).
    fn stats_only(&self) -> bool {
        let mut skip = false;
        for outer in self.path.iter().rev() {
            match outer {
                Outer::Subquery { .. } | Outer::Buckets => return false,
                Outer::Stats => skip = true,
                Outer::Plain | Outer::Extreme(_) => {}
            }
        }
        skip
    }

    /// A selector, noted for the opening of storage.
    pub fn source(
        &mut self,
        selector: &VectorSelector,
        scope: &Scope,
        range: Option<i64>,
        reading: Reading,
        function: &'static str,
    ) -> (Source, Option<i64>) {
        let at = self.at(&selector.time, scope);
        let bounds = self.bounds(selector, at, range);
        self.selections.push((selector.clone(), bounds));
        let rank = self.next_rank();
        let mut source = Source::new(selector.clone(), bounds, self.stats_only(), rank);
        let reading = match selector.anchored || selector.smoothed {
            true => Reading { is_exact: false, needs: 0, ..reading },
            false => reading,
        };
        let step = self.is_range_query.then_some(scope.grid.step);
        source.hint = reading.hint(self.options.max_source_resolution, step, range);
        (source.reading, source.function, source.range) = (reading, function, range);
        (source, at)
    }

    fn within<T>(&mut self, outer: Outer, f: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(outer);
        let out = f(self);
        self.path.pop();
        out
    }

    /// Builds the operator of an expression.
    ///
    /// # Errors
    /// If it cannot be evaluated, whatever the data.
    pub fn build(&mut self, expr: &Expr, scope: &Scope) -> Result<Box<dyn Operator>, QueryError> {
        if self.invariant.contains(&(expr as *const Expr)) {
            let once = Scope {
                grid: StepGrid { steps: scope.grid.steps.min(1), ..scope.grid },
                is_range: false,
                ..*scope
            };
            let inner = self.build_node(expr, &once)?;
            return Ok(Box::new(StepInvariant::new(inner, scope.grid)));
        }
        self.build_node(expr, scope)
    }

    fn build_node(&mut self, expr: &Expr, scope: &Scope) -> Result<Box<dyn Operator>, QueryError> {
        match expr {
            Expr::Number(n) => Ok(Box::new(Scalar::new(ScalarKind::Number(n.value), Vec::new(), scope.grid))),
            Expr::String(s) => Err(QueryError::execution("a string has no samples").at(s.span)),
            Expr::Paren(p) => self.build(&p.expr, scope),
            Expr::Unary(u) => {
                let input = self.within(Outer::Plain, |p| p.build(&u.expr, scope))?;
                if !u.negative {
                    return Ok(input);
                }
                let rank = self.next_rank();
                let kind = ElementKind::Negate;
                Ok(Box::new(Element::new(kind, "-", input, Vec::new(), NameRule::DropMetadata, u.span, rank)))
            }
            Expr::Binary(b) => self.binary(b, scope, expr.span()),
            Expr::Aggregate(a) => self.aggregate(a, scope),
            Expr::Call(c) => self.call(c, scope),
            Expr::Vector(v) => self.instant(v, scope, InstantValue::Sample),
            Expr::Matrix(_) | Expr::Subquery(_) => {
                Err(QueryError::execution("a range vector cannot stand here").at(expr.span()))
            }
        }
    }

    fn instant(
        &mut self,
        selector: &VectorSelector,
        scope: &Scope,
        value: InstantValue,
    ) -> Result<Box<dyn Operator>, QueryError> {
        let (reading, function) = match (value, self.path.last()) {
            (InstantValue::Sample, Some(Outer::Extreme(value))) => (Reading::instant(*value), "a selector"),
            (InstantValue::Sample, _) => (Reading::INSTANT, "a selector"),
            (InstantValue::Timestamp | InstantValue::TimestampMs, _) => (Reading::SAMPLES, "timestamp"),
            (InstantValue::StartTimestamp, _) => (Reading::SAMPLES, "start_timestamp"),
        };
        let (source, at) = self.source(selector, scope, None, reading, function);
        let grid = scope.grid;
        let offset = selector.time.offset;
        let data = match (at, value) {
            // Upstream looks `timestamp(selector @ t)` up at t at every step, whatever the offset.
            (Some(at), InstantValue::Timestamp | InstantValue::StartTimestamp) => {
                StepGrid { start: at, step: 0, steps: grid.steps }
            }
            (Some(at), _) => StepGrid { start: at - offset, ..grid },
            (None, _) => StepGrid { start: grid.start - offset, ..grid },
        };
        Ok(Box::new(InstantSelector::new(source, grid, data, value)))
    }

    fn binary(&mut self, b: &BinaryExpr, scope: &Scope, span: Span) -> Result<Box<dyn Operator>, QueryError> {
        let outer = if matches!(b.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
            Outer::Buckets
        } else {
            Outer::Plain
        };
        let (lhs, rhs) =
            self.within(outer, |p| Ok::<_, QueryError>((p.build(&b.lhs, scope)?, p.build(&b.rhs, scope)?)))?;
        let rank = self.next_rank();
        let kernel = BinaryKernel { op: b.op, return_bool: b.return_bool };
        let names =
            if changes_schema(b.op) || b.return_bool { NameRule::DropMetadata } else { NameRule::Keep };
        let name = b.op.as_str();
        Ok(match (b.lhs.value_type(), b.rhs.value_type()) {
            (ValueType::Scalar, ValueType::Scalar) => {
                Box::new(Scalar::new(ScalarKind::Binary(b.op), vec![lhs, rhs], scope.grid))
            }
            (ValueType::Vector, ValueType::Scalar) => Box::new(Element::new(
                ElementKind::VectorScalar(kernel),
                name,
                lhs,
                vec![rhs],
                names,
                span,
                rank,
            )),
            (ValueType::Scalar, ValueType::Vector) => Box::new(Element::new(
                ElementKind::ScalarVector(kernel),
                name,
                rhs,
                vec![lhs],
                names,
                span,
                rank,
            )),
            _ => {
                let matching = b
                    .matching
                    .clone()
                    .ok_or_else(|| QueryError::execution("operands do not fit the operator").at(span))?;
                if b.op.is_set_operator() {
                    Box::new(SetOperator::new(b.op, matching, lhs, rhs))
                } else {
                    Box::new(Join::new(kernel, matching, lhs, rhs, span, rank))
                }
            }
        })
    }

    fn aggregate(&mut self, a: &AggregateExpr, scope: &Scope) -> Result<Box<dyn Operator>, QueryError> {
        let expr = a.expr.unwrap_parens();
        let param = a.param.as_ref().map(Expr::unwrap_parens);
        let mut labels = a.grouping.clone();
        labels.sort();
        let grouping = Grouping { labels, without: a.without };
        if a.op == AggregateOp::CountValues {
            let Some(Expr::String(label)) = param else {
                return Err(QueryError::execution("count_values needs a label name").at(a.span));
            };
            if label.value.is_empty() || label.invalid_utf8.is_some() {
                return Err(
                    QueryError::execution(format!("invalid label name {}", label.quoted())).at(label.span)
                );
            }
            let input = self.within(Outer::Plain, |p| p.build(expr, scope))?;
            return Ok(Box::new(CountValues::new(label.value.clone(), grouping, input)));
        }
        let param_scope = Scope { in_param: true, ..*scope };
        let built = match param {
            Some(p) => Some(self.within(Outer::Plain, |this| this.build(p, &param_scope))?),
            None => None,
        };
        let outer = match (a.op, expr) {
            (AggregateOp::Min, Expr::Vector(_)) => Outer::Extreme(WindowValue::Min),
            (AggregateOp::Max, Expr::Vector(_)) => Outer::Extreme(WindowValue::Max),
            _ => Outer::Plain,
        };
        let input = self.within(outer, |p| p.build(expr, scope))?;
        let rank = self.next_rank();
        let param_span = param.map_or(a.span, Expr::span);
        match (a.op, built) {
            (
                AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio,
                Some(param),
            ) => Ok(Box::new(SelectK::new(
                a.op,
                grouping,
                param,
                input,
                (param_span, a.span),
                rank,
                scope.is_range,
            ))),
            (op, param) => {
                Ok(Box::new(Aggregate::new(op, grouping, param, input, (expr.span(), param_span), rank)))
            }
        }
    }

    fn scalars(&mut self, args: &[&Expr], scope: &Scope) -> Result<Vec<Box<dyn Operator>>, QueryError> {
        args.iter().map(|a| self.build(a, scope)).collect()
    }

    fn call(&mut self, c: &Call, scope: &Scope) -> Result<Box<dyn Operator>, QueryError> {
        let outer = match c.func.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => Outer::Stats,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => Outer::Buckets,
            _ => Outer::Plain,
        };
        self.within(outer, |p| p.call_within(c, scope))
    }

    fn call_within(&mut self, c: &Call, scope: &Scope) -> Result<Box<dyn Operator>, QueryError> {
        let args: Vec<&Expr> = c.args.iter().map(Expr::unwrap_parens).collect();
        if let Some(i) = args.iter().position(|a| a.value_type() == ValueType::Matrix) {
            return self.range_call(c, &args, i, scope);
        }
        let grid = scope.grid;
        let text = |i: usize| match args.get(i) {
            Some(Expr::String(s)) => s.value.clone(),
            _ => String::new(),
        };
        match c.func.name {
            "time" => return Ok(Box::new(Scalar::new(ScalarKind::Time, Vec::new(), grid))),
            "pi" => {
                return Ok(Box::new(Scalar::new(ScalarKind::Number(std::f64::consts::PI), Vec::new(), grid)));
            }
            "max_of" => {
                return Ok(Box::new(Scalar::new(ScalarKind::MaxOf, self.scalars(&args, scope)?, grid)));
            }
            "min_of" => {
                return Ok(Box::new(Scalar::new(ScalarKind::MinOf, self.scalars(&args, scope)?, grid)));
            }
            "scalar" => {
                return Ok(Box::new(Scalar::new(ScalarKind::OfVector, self.scalars(&args, scope)?, grid)));
            }
            "vector" => {
                return Ok(Box::new(Scalar::new(ScalarKind::ToVector, self.scalars(&args, scope)?, grid)));
            }
            "absent" => {
                let labels = absent_labels(args[0]);
                let input = self.build(args[0], scope)?;
                return Ok(Box::new(Absent::new(input, labels, false)));
            }
            "timestamp" | "start_timestamp" => {
                let start = c.func.name == "start_timestamp";
                if let Expr::Vector(v) = args[0] {
                    let value = if start { InstantValue::StartTimestamp } else { InstantValue::Timestamp };
                    return self.instant(v, scope, value);
                }
                let input = self.build(args[0], scope)?;
                let rank = self.next_rank();
                let kind = if start { ElementKind::Nothing } else { ElementKind::EvaluationTime };
                let names = NameRule::DropMetadata;
                return Ok(Box::new(Element::new(kind, c.func.name, input, Vec::new(), names, c.span, rank)));
            }
            "label_replace" => {
                let (dst, replacement, src, source) = (text(1), text(2), text(3), text(4));
                let regexp = Regexp::with_groups(&source).map_err(|_| {
                    QueryError::execution(format!("invalid regular expression in label_replace(): {source}"))
                        .at(args[4].span())
                })?;
                if !is_label_name(args[1]) {
                    return Err(QueryError::execution(format!(
                        "invalid destination label name in label_replace(): {dst}"
                    ))
                    .at(args[1].span()));
                }
                let input = self.build(args[0], scope)?;
                return Ok(Box::new(LabelFunction::new(
                    Relabel::Replace { dst, replacement, src, regexp },
                    input,
                )));
            }
            "label_join" => {
                let (dst, separator) = (text(1), text(2));
                let src: Vec<String> = (3..args.len()).map(text).collect();
                if let Some(i) = (0..src.len()).find(|i| !is_label_name(args[3 + i])) {
                    return Err(QueryError::execution(format!(
                        "invalid source label name in label_join(): {}",
                        src[i]
                    ))
                    .at(args[3 + i].span()));
                }
                if !is_label_name(args[1]) {
                    return Err(QueryError::execution(format!(
                        "invalid destination label name in label_join(): {dst}"
                    ))
                    .at(args[1].span()));
                }
                let input = self.build(args[0], scope)?;
                return Ok(Box::new(LabelFunction::new(Relabel::Join { dst, separator, src }, input)));
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                let names: Vec<String> = (1..args.len()).map(text).collect();
                let by = match c.func.name {
                    "sort" => SortBy::Value,
                    "sort_desc" => SortBy::ValueDescending,
                    "sort_by_label" => SortBy::Labels(names),
                    _ => SortBy::LabelsDescending(names),
                };
                let input = self.build(args[0], scope)?;
                let rank = self.next_rank();
                return Ok(Box::new(Sort::new(by, input, c.span, rank, scope.is_range)));
            }
            "info" => {
                let (at, offset) = self.info_time(args[0], scope);
                let input = self.build(args[0], scope)?;
                let matchers = match args.get(1) {
                    Some(Expr::Vector(v)) => Some(v.matchers.clone()),
                    _ => None,
                };
                let rank = self.next_rank();
                self.note_info_selection(scope, at, offset);
                return Ok(Box::new(Info::new(input, matchers, at, offset, c.span, rank)));
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                return self.histogram_function(c, &args, scope);
            }
            _ => {}
        }
        let Some(function) = ElementFunction::from_name(c.func.name) else {
            return Err(
                QueryError::execution(format!("function {} is not implemented", c.func.name)).at(c.span)
            );
        };
        let names = match c.func.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev"
            | "histogram_stdvar" => NameRule::DropName,
            _ => NameRule::DropMetadata,
        };
        let input: Box<dyn Operator> = match args.first() {
            Some(vector) => self.build(vector, scope)?,
            None => Box::new(Scalar::new(ScalarKind::Time, Vec::new(), grid)),
        };
        let input_is_implied = args.is_empty();
        let scalars = self.scalars(args.get(1..).unwrap_or(&[]), scope)?;
        let rank = self.next_rank();
        let kind = ElementKind::Function(function);
        let mut element = Element::new(kind, c.func.name, input, scalars, names, c.span, rank);
        element.input_is_implied = input_is_implied;
        Ok(Box::new(element))
    }

    fn histogram_function(
        &mut self,
        c: &Call,
        args: &[&Expr],
        scope: &Scope,
    ) -> Result<Box<dyn Operator>, QueryError> {
        let (kind, scalar_args, vector) = match c.func.name {
            "histogram_quantile" => (HistogramKind::Quantile, vec![args[0]], args[1]),
            "histogram_fraction" => (HistogramKind::Fraction, vec![args[0], args[1]], args[2]),
            _ => {
                let Expr::String(label) = args[1] else {
                    return Err(QueryError::execution("histogram_quantiles needs a label name").at(c.span));
                };
                (HistogramKind::Quantiles(label.value.clone()), args[2..].to_vec(), args[0])
            }
        };
        let vector_first = matches!(kind, HistogramKind::Quantiles(_));
        let spans: Vec<Span> = scalar_args.iter().map(|a| a.span()).collect();
        let (scalars, input);
        if vector_first {
            input = self.build(vector, scope)?;
            scalars = self.scalars(&scalar_args, scope)?;
        } else {
            scalars = self.scalars(&scalar_args, scope)?;
            input = self.build(vector, scope)?;
        }
        let rank = self.next_rank();
        Ok(Box::new(HistogramFunction::new(kind, scalars, spans, input, vector.span(), rank)))
    }

    fn range_call(
        &mut self,
        c: &Call,
        args: &[&Expr],
        matrix: usize,
        scope: &Scope,
    ) -> Result<Box<dyn Operator>, QueryError> {
        let name = c.func.name;
        let over_absent = name == "absent_over_time";
        let function =
            if over_absent { Some(RangeFunction::PresentOverTime) } else { RangeFunction::from_name(name) };
        let Some(function) = function else {
            return Err(QueryError::execution(format!("function {name} is not implemented")).at(c.span));
        };
        let grid = scope.grid;
        let (mut anchored, mut smoothed) = (false, false);
        let (input, range, offset, at);
        match args[matrix] {
            Expr::Matrix(m) => {
                (anchored, smoothed, range) = (m.selector.anchored, m.selector.smoothed, m.range);
                let reading = Reading::of_function(function);
                let found = self.source(&m.selector, scope, Some(m.range), reading, name);
                input = RangeInput::Selector(Box::new(found.0));
                at = found.1;
                offset = m.selector.time.offset;
            }
            Expr::Subquery(s) => {
                (range, offset) = (s.range, s.time.offset);
                at = self.at(&s.time, scope);
                input = RangeInput::Subquery(Box::new(self.subquery(s, scope)?));
            }
            _ => return Err(QueryError::execution("a range vector is missing").at(c.span)),
        }
        let data = match at {
            Some(at) => StepGrid { start: at - offset, step: 0, steps: grid.steps },
            None => StepGrid { start: grid.start - offset, ..grid },
        };
        let others: Vec<&Expr> =
            args.iter().enumerate().filter(|(i, _)| *i != matrix).map(|(_, a)| *a).collect();
        let scalars = self.scalars(&others, scope)?;
        let rank = self.next_rank();
        let call = RangeCall {
            function,
            name,
            input,
            scalars,
            grid,
            data,
            range,
            anchored,
            smoothed,
            // What upstream puts in place of a subquery has no place in the text.
            arg_span: if matches!(args[0], Expr::Subquery(_)) { Span::default() } else { args[0].span() },
            per_step: self.path.iter().any(|o| matches!(o, Outer::Subquery { .. })),
            call_span: c.span,
            keeps_name: matches!(name, "last_over_time" | "first_over_time") || over_absent,
            rank,
            state: Default::default(),
        };
        if over_absent {
            return Ok(Box::new(Absent::new(Box::new(call), absent_labels(args[matrix]), true)));
        }
        Ok(Box::new(call))
    }

    /// The inner expression of a subquery on its grid (`subqueryTimeRange`).
    ///
    /// # Errors
    /// If the inner expression cannot be evaluated.
    pub fn subquery(&mut self, s: &SubqueryExpr, scope: &Scope) -> Result<Subquery, QueryError> {
        let at = self.at(&s.time, scope);
        let grid = scope.grid;
        let offset = match at {
            Some(at) => s.time.offset + grid.start - at,
            None => s.time.offset,
        };
        let step = if s.step != 0 { s.step } else { self.options.default_subquery_step };
        if step <= 0 {
            return Err(QueryError::execution("the step of a subquery must be at least 1ms").at(s.span));
        }
        let end = grid.end() - offset;
        let low = grid.start - offset - s.range;
        let mut start = step * (low / step);
        if start <= low {
            start += step;
        }
        let empty = end < start || grid.steps == 0;
        let steps = if empty { 0 } else { ((end - start) / step + 1) as usize };
        check_steps(steps, s.span)?;
        let inner_scope =
            Scope { grid: StepGrid { start, step, steps }, is_range: start != end, in_param: scope.in_param };
        let outer = Outer::Subquery { offset: s.time.offset, range: s.range, at };
        let inner = match self.within(outer, |p| p.build(&s.expr, &inner_scope)) {
            // Nothing of a subquery without steps is evaluated, so nothing is wrong with it either.
            Err(e) if empty && e.kind == ErrorKind::Execution => {
                let nothing = NumberLiteral { value: 0.0, is_duration: false, span: s.span };
                self.build(&Expr::Number(nothing), &inner_scope)?
            }
            inner => inner?,
        };
        Ok(Subquery { inner, empty, offset: s.time.offset, range: s.range, total: 0 })
    }

    /// `@` and offset that govern the info side (`infoSelectTimestampAndOffset`).
    fn info_time(&self, expr: &Expr, scope: &Scope) -> (Option<i64>, i64) {
        fn first<'e>(e: &'e Expr, path: &mut Vec<&'e SubqueryExpr>) -> Option<&'e VectorSelector> {
            match e {
                Expr::Vector(v) => Some(v),
                Expr::Matrix(m) => Some(&m.selector),
                Expr::Number(_) | Expr::String(_) => None,
                Expr::Paren(p) => first(&p.expr, path),
                Expr::Unary(u) => first(&u.expr, path),
                Expr::Binary(b) => first(&b.lhs, path).or_else(|| first(&b.rhs, path)),
                Expr::Aggregate(a) => {
                    first(&a.expr, path).or_else(|| a.param.as_ref().and_then(|p| first(p, path)))
                }
                Expr::Call(c) => c.args.iter().find_map(|a| first(a, path)),
                Expr::Subquery(s) => {
                    path.push(s);
                    let found = first(&s.expr, path);
                    if found.is_none() {
                        path.pop();
                    }
                    found
                }
            }
        }
        let mut path = Vec::new();
        let Some(v) = first(expr, &mut path) else { return (None, 0) };
        let mut at = self.at(&v.time, scope);
        let mut offset = v.time.offset;
        for s in path.iter().rev() {
            if at.is_some() {
                break;
            }
            offset += s.time.offset;
            at = self.at(&s.time, scope);
        }
        (at, offset)
    }

    /// Storage must have every series that could be an info series open.
    fn note_info_selection(&mut self, scope: &Scope, at: Option<i64>, offset: i64) {
        let (start, end) = match at {
            Some(at) => (at, at),
            None => (scope.grid.start, scope.grid.end()),
        };
        let any = tsdbctl_model::Matcher::new(MatchType::Regexp, tsdbctl_model::labels::METRIC_NAME, ".*");
        let selector = VectorSelector {
            name: String::new(),
            matchers: any.into_iter().collect(),
            time: TimeModifiers::default(),
            anchored: false,
            smoothed: false,
            bypass_empty_matcher_check: true,
            span: Span::default(),
        };
        let lookback = self.options.lookback_delta;
        self.selections.push((selector, (start - lookback + 1 - offset, end - offset)));
    }
}

/// Refuses grids that nobody can have meant.
fn check_steps(steps: usize, span: Span) -> Result<(), QueryError> {
    if steps <= MAX_STEPS {
        return Ok(());
    }
    Err(QueryError {
        hint: Some("lengthen the step or shorten the range".to_string()),
        ..QueryError::execution(format!("{steps} evaluation steps are more than the {MAX_STEPS} allowed"))
            .at(span)
    })
}

/// Whether a label can have the name that a string literal holds: any UTF-8 but the empty text.
fn is_label_name(expr: &Expr) -> bool {
    matches!(expr, Expr::String(s) if !s.value.is_empty() && s.invalid_utf8.is_none())
}

/// Labels of the series that `absent` gives (`createLabelsForAbsentFunction`).
fn absent_labels(expr: &Expr) -> Vec<(String, String)> {
    let matchers = match expr {
        Expr::Vector(v) => &v.matchers,
        Expr::Matrix(m) => &m.selector.matchers,
        _ => return Vec::new(),
    };
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for m in matchers.iter().filter(|m| m.name != tsdbctl_model::labels::METRIC_NAME) {
        if m.kind == MatchType::Equal && !seen.contains(&m.name.as_str()) {
            labels.retain(|(n, _)| *n != m.name);
            labels.push((m.name.clone(), m.value.clone()));
            seen.push(&m.name);
        } else {
            labels.retain(|(n, _)| *n != m.name);
        }
    }
    labels
}
