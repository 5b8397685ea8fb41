//! Functions and operators that work sample by sample: one column in, one column out.

use tsdbctl_model::Span;
use tsdbctl_model::symbols::{NAME, Sym};

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::merge_labels::LabelMerger;
use super::operator::{Eval, Operator, Report, SeriesList, constant_as_one, drain_scalar, without_metadata};
use super::options::StepGrid;
use crate::functions::ScalarArg;
use crate::functions::binary::{BinaryKernel, StepIssues};
use crate::functions::math::{self, ElementFunction};
use crate::parser::ast::BinaryOp;

/// What is done to each sample.
pub enum ElementKind {
    /// A function.
    Function(ElementFunction),
    /// `vector op scalar`.
    VectorScalar(BinaryKernel),
    /// `scalar op vector`.
    ScalarVector(BinaryKernel),
    /// `-vector`: not evaluated by `rangeEval` upstream, so counted otherwise.
    Negate,
    /// `timestamp(expression)`: the evaluation time.
    EvaluationTime,
    /// `start_timestamp(expression)`: nothing.
    Nothing,
}

/// Which labels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// The labels that describe the metric are dropped.
    DropMetadata,
    /// `__name__` alone is dropped.
    DropName,
    /// All labels stay.
    Keep,
}

/// A function or operator applied to each sample of a vector.
pub struct Element {
    /// What is done.
    pub kind: ElementKind,
    /// The function's or operator's name.
    pub name: &'static str,
    /// The vector.
    pub input: Box<dyn Operator>,
    /// Scalar arguments.
    pub scalars: Vec<Box<dyn Operator>>,
    /// Scalars are evaluated before the vector (`scalar op vector`).
    pub scalars_first: bool,
    /// What happens to the name.
    pub names: NameRule,
    /// Place of the node.
    pub span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    /// The input stands for an argument left out: upstream has none of its samples in memory.
    pub input_is_implied: bool,
    args: Vec<Vec<f64>>,
    merger: LabelMerger,
    counts: RangeEvalCounts,
    issues: StepIssues,
    position: u32,
}

impl Element {
    /// A function or operator over `input`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        kind: ElementKind,
        name: &'static str,
        input: Box<dyn Operator>,
        scalars: Vec<Box<dyn Operator>>,
        names: NameRule,
        span: Span,
        rank: u32,
    ) -> Self {
        let scalars_first = matches!(kind, ElementKind::ScalarVector(_));
        Self {
            kind,
            name,
            input,
            scalars,
            scalars_first,
            names,
            span,
            rank,
            input_is_implied: false,
            args: Vec::new(),
            merger: LabelMerger::default(),
            counts: RangeEvalCounts::default(),
            issues: StepIssues::default(),
            position: 0,
        }
    }

    fn drain_scalars(&mut self, ev: &mut Eval) -> Result<(), QueryError> {
        for scalar in &mut self.scalars {
            self.args.push(constant_as_one(drain_scalar(scalar.as_mut(), ev)?));
        }
        Ok(())
    }

    fn relabel(&self, ev: &Eval, inner: SeriesList) -> SeriesList {
        let delayed = ev.options.features.delayed_name_removal;
        let mut list = SeriesList::new();
        let mut kept: Vec<(Sym, Sym)> = Vec::new();
        for i in 0..inner.len() {
            let (labels, drops) = (inner.labels(i), inner.drop_name(i));
            match self.names {
                NameRule::Keep => list.push(labels, drops),
                NameRule::DropMetadata | NameRule::DropName if delayed => list.push(labels, true),
                NameRule::DropMetadata => {
                    without_metadata(labels, &mut kept);
                    list.push(&kept, true);
                }
                NameRule::DropName => {
                    kept.clear();
                    kept.extend(labels.iter().filter(|(n, _)| *n != NAME));
                    list.push(&kept, true);
                }
            }
        }
        list
    }
}

fn transform(
    kind: &ElementKind,
    grid: StepGrid,
    args: &[Vec<f64>],
    column: &mut Column,
    order: u32,
    issues: &mut StepIssues,
) {
    let scalars: Vec<ScalarArg> = args
        .iter()
        .map(|a| match a.as_slice() {
            [one] => ScalarArg::Constant(*one),
            many => ScalarArg::PerStep(many),
        })
        .collect();
    match kind {
        ElementKind::Function(f) => math::apply(*f, column, &scalars),
        ElementKind::Negate => math::apply(ElementFunction::Negate, column, &[]),
        ElementKind::VectorScalar(kernel) => kernel.with_scalar(column, scalars[0], false, order, issues),
        ElementKind::ScalarVector(kernel) => kernel.with_scalar(column, scalars[0], true, order, issues),
        ElementKind::EvaluationTime => math::step_timestamps(column, grid.start, grid.step),
        ElementKind::Nothing => column.reset(grid.steps),
    }
}

impl Operator for Element {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        if self.scalars_first {
            self.drain_scalars(ev)?;
        }
        let inner = self.input.open(ev)?;
        if !self.scalars_first {
            self.drain_scalars(ev)?;
        }
        let steps = self.grid().steps;
        for _ in &self.args {
            self.counts.gathered.add(&Column::constant(steps, 0.0), |_| 1);
        }
        let list = self.relabel(ev, inner);
        let delayed = ev.options.features.delayed_name_removal;
        if delayed && (matches!(self.kind, ElementKind::Negate) || steps == 1) {
            return Ok(list);
        }
        Ok(self.merger.open(list, steps))
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let grid = self.input.grid();
        let Self { kind, input, args, counts, issues, position, merger, input_is_implied: implied, .. } =
            self;
        let out = merger.next(ev, |ev| {
            ev.poll()?;
            let Some(mut column) = input.next(ev)? else { return Ok(None) };
            if !*implied {
                counts.gather(&column);
            }
            transform(kind, grid, args, &mut column, *position, issues);
            *position += 1;
            Ok(Some(column))
        })?;
        match &out {
            Some(column) => counts.give(column),
            None => {
                if let ElementKind::VectorScalar(kernel) | ElementKind::ScalarVector(kernel) = &self.kind {
                    for a in self.issues.annotations(kernel.op, self.span) {
                        ev.annotate(self.rank, a);
                    }
                }
            }
        }
        Ok(out)
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        if self.input_is_implied {
            return self.counts.replay(current, current, self.grid().steps, peak);
        }
        let mut now = current;
        for input in self.inputs() {
            now = input.account(now, peak);
        }
        if matches!(self.kind, ElementKind::Negate) {
            return now;
        }
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid().steps)
    }

    fn report(&self) -> Report {
        Report { name: self.name.to_string(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        let mut all: Vec<&dyn Operator> = self.scalars.iter().map(|s| s.as_ref() as &dyn Operator).collect();
        all.insert(if self.scalars_first { all.len() } else { 0 }, self.input.as_ref());
        all
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        let first = self.scalars_first;
        let mut all: Vec<&mut Box<dyn Operator>> = self.scalars.iter_mut().collect();
        let at = if first { all.len() } else { 0 };
        all.insert(at, &mut self.input);
        all
    }
}

/// Whether an operator changes what the value means, so that the name goes (`changesMetricSchema`).
pub fn changes_schema(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Div | Mul | Pow | Mod | Atan2)
}
