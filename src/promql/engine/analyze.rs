//! `--explain` and `--analyze`: the operator tree with what each operator did.

use std::time::{Duration, Instant};

use super::account::StepStats;
use super::column::Column;
use super::error::QueryError;
use super::operator::{Eval, Operator, Report, SeriesList};
use super::options::StepGrid;
use super::result::OperatorStats;

/// An operator under the clock.
pub struct Analyzed {
    inner: Box<dyn Operator>,
    elapsed: Duration,
    series: u64,
    peak: u64,
}

impl Analyzed {
    /// Wraps an operator and all below it.
    pub fn wrap(op: &mut Box<dyn Operator>) {
        for input in op.inputs_mut() {
            Self::wrap(input);
        }
        let placeholder: Box<dyn Operator> = Box::new(super::scalar::Scalar::new(
            super::scalar::ScalarKind::Time,
            Vec::new(),
            StepGrid { start: 0, step: 1, steps: 0 },
        ));
        let inner = std::mem::replace(op, placeholder);
        *op = Box::new(Self { inner, elapsed: Duration::ZERO, series: 0, peak: 0 });
    }
}

impl Operator for Analyzed {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let (start, before) = (Instant::now(), ev.control.budget.used());
        let out = self.inner.open(ev);
        self.elapsed += start.elapsed();
        self.peak = self.peak.max(ev.control.budget.used().saturating_sub(before));
        out
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let (start, before) = (Instant::now(), ev.control.budget.used());
        let out = self.inner.next(ev);
        self.elapsed += start.elapsed();
        self.peak = self.peak.max(ev.control.budget.used().saturating_sub(before));
        if let Ok(Some(column)) = &out {
            self.series += u64::from(!column.is_empty());
        }
        out
    }

    fn grid(&self) -> StepGrid {
        self.inner.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        self.inner.account(current, peak)
    }

    fn step_stats(&self) -> StepStats {
        self.inner.step_stats()
    }

    fn report(&self) -> Report {
        Report { series: self.series, ..self.inner.report() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        self.inner.inputs()
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        self.inner.inputs_mut()
    }

    fn clocked(&self) -> Option<(Duration, u64)> {
        Some((self.elapsed, self.peak))
    }
}

/// The tree below `root` in depth-first order; times are an operator's own, its inputs' taken out.
pub fn describe(root: &dyn Operator) -> Vec<OperatorStats> {
    fn walk(op: &dyn Operator, depth: usize, out: &mut Vec<OperatorStats>) {
        let report = op.report();
        let inputs = op.inputs();
        let (elapsed, peak) = op.clocked().unwrap_or_default();
        let below: Duration = inputs.iter().filter_map(|i| i.clocked()).map(|(d, _)| d).sum();
        out.push(OperatorStats {
            depth,
            name: report.name,
            series: report.series,
            chunks: report.read.chunks,
            samples: report.read.samples,
            bytes: report.read.bytes,
            peak_memory: peak,
            seconds: elapsed.saturating_sub(below).as_secs_f64(),
        });
        for input in inputs {
            walk(input, depth + 1, out);
        }
    }
    let mut out = Vec::new();
    walk(root, 0, &mut out);
    out
}
