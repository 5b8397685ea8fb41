//! `absent` and `absent_over_time`: one where nobody has a sample.

use tsdbctl_model::symbols::Sym;

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::operator::{Eval, Operator, Report, SeriesList};
use super::options::StepGrid;

/// One series that is 1 at the steps where the input has no sample.
pub struct Absent {
    /// The vector, or the windows that hold something.
    pub input: Box<dyn Operator>,
    /// Labels that the selector's equality matchers name.
    pub labels: Vec<(String, String)>,
    /// `absent_over_time`: the series loses its name at the end, and an input that covers everything
    /// gives nothing at all.
    pub over_time: bool,
    counts: RangeEvalCounts,
    done: bool,
}

impl Absent {
    /// Where `input` has no sample.
    pub fn new(input: Box<dyn Operator>, labels: Vec<(String, String)>, over_time: bool) -> Self {
        Self { input, labels, over_time, counts: RangeEvalCounts::default(), done: false }
    }
}

impl Operator for Absent {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        self.input.open(ev)?;
        let mut labels: Vec<(Sym, Sym)> = Vec::new();
        for (name, value) in &self.labels {
            let (name, value) = (ev.symbols.intern(name), ev.symbols.intern(value));
            super::operator::set_label(&ev.symbols, &mut labels, name, value);
        }
        let mut list = SeriesList::new();
        list.push(&labels, self.over_time);
        Ok(list)
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        let steps = self.grid().steps;
        let mut present = vec![0u64; steps.div_ceil(64)];
        while let Some(column) = self.input.next(ev)? {
            self.counts.gather(&column);
            for (a, b) in present.iter_mut().zip(&column.present) {
                *a |= b;
            }
            for (k, _) in &column.histograms {
                present[*k as usize / 64] |= 1 << (*k % 64);
            }
            ev.recycle(column);
        }
        let mut out = ev.column(steps)?;
        for k in (0..steps).filter(|k| present[k / 64] >> (k % 64) & 1 == 0) {
            out.set_float(k, 1.0);
        }
        self.counts.give(&out);
        Ok(Some(out))
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let now = self.input.account(current, peak);
        if self.over_time {
            return now;
        }
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        self.input.step_stats()
    }

    fn report(&self) -> Report {
        let name = if self.over_time { "absent_over_time" } else { "absent" };
        Report { name: name.into(), series: 1, ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.input]
    }
}
