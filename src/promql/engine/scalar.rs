//! Scalars: numbers, time, `scalar()`, `vector()`, operators between scalars.

use tsdbctl_model::go_math;

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::operator::{Eval, Operator, Report, SeriesList, drain_scalar};
use super::options::StepGrid;
use crate::functions::binary::scalar_op;
use crate::parser::ast::BinaryOp;

/// What a [`Scalar`] computes.
pub enum ScalarKind {
    /// The same number everywhere.
    Number(f64),
    /// The evaluation time in seconds.
    Time,
    /// `lhs op rhs`.
    Binary(BinaryOp),
    /// `max_of(lhs, rhs)`.
    MaxOf,
    /// `min_of(lhs, rhs)`.
    MinOf,
    /// `scalar(vector)`.
    OfVector,
    /// `vector(scalar)`.
    ToVector,
}

/// One float per step, as a single series without labels.
pub struct Scalar {
    /// What it computes.
    pub kind: ScalarKind,
    /// Operands.
    pub inputs: Vec<Box<dyn Operator>>,
    grid: StepGrid,
    counts: RangeEvalCounts,
    done: bool,
}

impl Scalar {
    /// A scalar on `grid`.
    pub fn new(kind: ScalarKind, inputs: Vec<Box<dyn Operator>>, grid: StepGrid) -> Self {
        Self { kind, inputs, grid, counts: RangeEvalCounts::default(), done: false }
    }

    fn of_vector(&mut self, ev: &mut Eval, out: &mut Column) -> Result<(), QueryError> {
        // 0: none so far, 1: one float, 2: more.
        let mut found = vec![0u8; self.grid.steps];
        let input = &mut self.inputs[0];
        input.open(ev)?;
        while let Some(column) = input.next(ev)? {
            self.counts.gather(&column);
            for k in column.float_steps() {
                found[k] = (found[k] + 1).min(2);
                out.values[k] = column.values[k];
            }
            ev.recycle(column);
        }
        for (k, n) in found.iter().enumerate() {
            let v =
                if *n == 1 { out.values[k] } else { f64::from_bits(tsdbctl_model::sample::NORMAL_NAN_BITS) };
            out.set_float(k, v);
        }
        Ok(())
    }
}

impl Operator for Scalar {
    fn open(&mut self, _: &mut Eval) -> Result<SeriesList, QueryError> {
        Ok(SeriesList::scalar())
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        let mut out = ev.column(self.grid.steps)?;
        let pair = |ev: &mut Eval,
                    inputs: &mut [Box<dyn Operator>],
                    counts: &mut RangeEvalCounts,
                    out: &mut Column,
                    f: &dyn Fn(f64, f64) -> f64| {
            let a = drain_scalar(inputs[0].as_mut(), ev)?;
            let b = drain_scalar(inputs[1].as_mut(), ev)?;
            for k in 0..out.steps() {
                out.set_float(k, f(a[k], b[k]));
                counts.gathered.add_at(k, out.steps(), 2);
            }
            Ok::<_, QueryError>(())
        };
        let grid = self.grid;
        match &self.kind {
            ScalarKind::Number(v) => {
                for k in 0..grid.steps {
                    out.set_float(k, *v);
                }
            }
            ScalarKind::Time => {
                for k in 0..grid.steps {
                    out.set_float(k, grid.time(k) as f64 / 1000.0);
                }
            }
            ScalarKind::Binary(op) => {
                let op = *op;
                let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
                pair(ev, &mut self.inputs, &mut self.counts, &mut out, &|a, b| scalar_op(op, a, b))?;
                if trims && grid.steps > 0 {
                    return Err(QueryError::execution(format!(
                        "operator {} not allowed for Scalar operations",
                        tsdbctl_model::quote::go_quote(op.as_str())
                    )));
                }
            }
            ScalarKind::MaxOf => pair(ev, &mut self.inputs, &mut self.counts, &mut out, &go_math::max)?,
            ScalarKind::MinOf => pair(ev, &mut self.inputs, &mut self.counts, &mut out, &go_math::min)?,
            ScalarKind::OfVector => self.of_vector(ev, &mut out)?,
            ScalarKind::ToVector => {
                let values = drain_scalar(self.inputs[0].as_mut(), ev)?;
                for (k, v) in values.iter().enumerate() {
                    out.set_float(k, *v);
                }
                self.counts.gather(&out);
            }
        }
        self.counts.give(&out);
        Ok(Some(out))
    }

    fn grid(&self) -> StepGrid {
        self.grid
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let mut now = current;
        for input in &self.inputs {
            now = input.account(now, peak);
        }
        self.counts.replay(current, now, self.grid.steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid.steps)
    }

    fn report(&self) -> Report {
        let name = match &self.kind {
            ScalarKind::Number(v) => format!("number {}", tsdbctl_model::float_text::format_g(*v)),
            ScalarKind::Time => "time".into(),
            ScalarKind::Binary(op) => format!("scalar {}", op.as_str()),
            ScalarKind::MaxOf => "max_of".into(),
            ScalarKind::MinOf => "min_of".into(),
            ScalarKind::OfVector => "scalar".into(),
            ScalarKind::ToVector => "vector".into(),
        };
        Report { name, series: 1, ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        self.inputs.iter().map(|i| i.as_ref()).collect()
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        self.inputs.iter_mut().collect()
    }
}

/// A part that does not depend on the step: evaluated once, then repeated at every step.
pub struct StepInvariant {
    /// The part, on a grid of one step.
    pub inner: Box<dyn Operator>,
    grid: StepGrid,
    repeated: i64,
    once: i64,
}

impl StepInvariant {
    /// Repeats `inner` at every step of `grid`.
    pub fn new(inner: Box<dyn Operator>, grid: StepGrid) -> Self {
        Self { inner, grid, repeated: 0, once: 0 }
    }
}

impl Operator for StepInvariant {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        self.inner.open(ev)
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let Some(one) = self.inner.next(ev)? else { return Ok(None) };
        let mut out = ev.column(self.grid.steps)?;
        if let Some(v) = one.float(0) {
            for k in 0..self.grid.steps {
                out.set_float(k, v);
            }
            self.once += 1;
            self.repeated += self.grid.steps as i64 - 1;
        } else if let Some(h) = one.histogram(0) {
            for k in 0..self.grid.steps {
                out.push_histogram(k, h.clone());
            }
            let n = super::account::histogram_samples(h);
            self.once += n;
            self.repeated += n * (self.grid.steps as i64 - 1);
        }
        ev.recycle(one);
        super::check_samples(self.once + self.repeated, ev)?;
        Ok(Some(out))
    }

    fn grid(&self) -> StepGrid {
        self.grid
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let end = self.inner.account(current, peak) + self.repeated;
        *peak = (*peak).max(end);
        end
    }

    fn step_stats(&self) -> StepStats {
        let inner = self.inner.step_stats();
        let mut stats = StepStats::new(self.grid.steps);
        let total: i64 = inner.total.iter().sum();
        stats.total.iter_mut().for_each(|t| *t = total);
        if let Some(first) = stats.read.first_mut() {
            *first = inner.read.iter().sum();
        }
        stats
    }

    fn report(&self) -> Report {
        Report { name: "once, repeated at each step".into(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.inner.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.inner]
    }
}
