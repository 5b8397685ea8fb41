//! `count_values`: one series per distinct value.

use std::collections::hash_map::RandomState;

use hashbrown::HashMap;
use tsdbctl_model::float_text::format_f;
use tsdbctl_model::symbols::{Sym, SymLabels};

use super::account::{RangeEvalCounts, StepStats};
use super::check_samples;
use super::column::Column;
use super::error::QueryError;
use super::grouping::Grouping;
use super::operator::{Eval, Operator, Report, SeriesList, set_label};
use super::options::StepGrid;

/// `count_values("label", vector)`.
pub struct CountValues {
    /// The label that receives the value.
    pub label: String,
    /// Groups as written (the label is added to `by`).
    pub grouping: Grouping,
    /// What is counted.
    pub input: Box<dyn Operator>,
    counts: RangeEvalCounts,
    ready: std::vec::IntoIter<Column>,
}

impl CountValues {
    /// Counts the values of `input`.
    pub fn new(label: String, grouping: Grouping, input: Box<dyn Operator>) -> Self {
        Self { label, grouping, input, counts: RangeEvalCounts::default(), ready: Vec::new().into_iter() }
    }
}

/// Result columns by labels, in order of first appearance.
struct Results {
    index: HashMap<Vec<(Sym, Sym)>, usize, RandomState>,
    list: SeriesList,
    columns: Vec<Column>,
}

impl Results {
    fn column(&mut self, ev: &mut Eval, labels: &SymLabels, steps: usize) -> Result<&mut Column, QueryError> {
        let at = match self.index.get(labels) {
            Some(at) => *at,
            None => {
                self.index.insert(labels.to_vec(), self.columns.len());
                self.list.push(labels, false);
                self.columns.push(ev.column(steps)?);
                self.columns.len() - 1
            }
        };
        Ok(&mut self.columns[at])
    }
}

impl Operator for CountValues {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let steps = self.grid().steps;
        let label = ev.symbols.intern(&self.label);
        let mut grouping = self.grouping.clone();
        if !grouping.without {
            grouping.labels.push(self.label.clone());
        }
        let names = grouping.symbols(ev);
        let inner = self.input.open(ev)?;
        let mut results = Results {
            index: HashMap::with_hasher(RandomState::new()),
            list: SeriesList::new(),
            columns: Vec::new(),
        };
        let (mut labels, mut reduced) = (Vec::new(), Vec::new());
        let mut i = 0;
        while let Some(column) = self.input.next(ev)? {
            self.counts.gather(&column);
            // The same value often repeats from step to step, so its text is made once per series.
            let mut seen: HashMap<u64, Sym> = HashMap::new();
            let mut count = |ev: &mut Eval, value: Sym, k: usize| {
                labels.clear();
                labels.extend_from_slice(inner.labels(i));
                set_label(&ev.symbols, &mut labels, label, value);
                grouping.reduce(&names, &labels, &mut reduced);
                let column = results.column(ev, &reduced, steps)?;
                let n = column.float(k).unwrap_or(0.0);
                column.set_float(k, n + 1.0);
                Ok::<_, QueryError>(())
            };
            for k in column.float_steps() {
                let v = column.values[k];
                let value = match seen.get(&v.to_bits()) {
                    Some(s) => *s,
                    None => {
                        let s = ev.symbols.intern(&format_f(v));
                        seen.insert(v.to_bits(), s);
                        s
                    }
                };
                count(ev, value, k)?;
            }
            for (k, h) in &column.histograms {
                let value = ev.symbols.intern(&h.to_string());
                count(ev, value, *k as usize)?;
            }
            ev.recycle(column);
            i += 1;
        }
        for column in &results.columns {
            self.counts.give(column);
        }
        check_samples(self.counts.matrix, ev)?;
        self.ready = results.columns.into_iter();
        Ok(results.list)
    }

    fn next(&mut self, _: &mut Eval) -> Result<Option<Column>, QueryError> {
        Ok(self.ready.next())
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let now = self.input.account(current, peak);
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        self.input.step_stats()
    }

    fn report(&self) -> Report {
        Report { name: "count_values".into(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.input]
    }
}
