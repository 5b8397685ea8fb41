//! `and`, `or`, `unless`: presence per match id and step decides which samples pass.

use tsdbctl_model::symbols::SymLabels;

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::join::MatchIds;
use super::merge_labels::LabelMerger;
use super::operator::{Eval, Operator, Report, SeriesList, earlier_error_first};
use super::options::StepGrid;
use crate::parser::ast::{BinaryOp, VectorMatching};

/// A set operator between vectors.
pub struct SetOperator {
    /// `and`, `or` or `unless`.
    pub op: BinaryOp,
    /// How series are matched.
    pub matching: VectorMatching,
    /// Left operand.
    pub lhs: Box<dyn Operator>,
    /// Right operand.
    pub rhs: Box<dyn Operator>,
    counts: RangeEvalCounts,
    lhs_ids: Vec<u32>,
    rhs_ids: Vec<u32>,
    /// One bitmap of steps per id.
    present: Vec<u64>,
    words: usize,
    position: usize,
    on_right: bool,
    merger: LabelMerger,
    /// Results that were computed at once.
    ready: Option<std::vec::IntoIter<Column>>,
}

impl SetOperator {
    /// `lhs op rhs`.
    pub fn new(
        op: BinaryOp,
        matching: VectorMatching,
        lhs: Box<dyn Operator>,
        rhs: Box<dyn Operator>,
    ) -> Self {
        Self {
            op,
            matching,
            lhs,
            rhs,
            counts: RangeEvalCounts::default(),
            lhs_ids: Vec::new(),
            rhs_ids: Vec::new(),
            present: Vec::new(),
            words: 0,
            position: 0,
            on_right: false,
            merger: LabelMerger::default(),
            ready: None,
        }
    }

    fn mark(present: &mut [u64], words: usize, id: u32, column: &Column) {
        let bits = &mut present[id as usize * words..][..words];
        for (a, b) in bits.iter_mut().zip(&column.present) {
            *a |= b;
        }
        for (k, _) in &column.histograms {
            bits[*k as usize / 64] |= 1 << (*k % 64);
        }
    }

    /// Keeps the samples of `column` at steps where the id's bit equals `wanted`.
    fn filter(present: &[u64], words: usize, id: u32, column: &mut Column, wanted: bool) {
        let bits = &present[id as usize * words..][..words];
        for (a, b) in column.present.iter_mut().zip(bits) {
            *a &= if wanted { *b } else { !*b };
        }
        column.histograms.retain(|(k, _)| (bits[*k as usize / 64] >> (*k % 64) & 1 != 0) == wanted);
    }

    /// `or` at a single step: what has a sample is found at once and the rest not even listed, so that a
    /// chain of thousands does not carry all its operands' series to its end.
    fn union_at_once(
        &mut self,
        ev: &mut Eval,
        left: &SeriesList,
        right: &SeriesList,
    ) -> Result<SeriesList, QueryError> {
        let mut list = SeriesList::new();
        let mut columns = Vec::new();
        for (side, from, ids) in [(&mut self.lhs, left, &self.lhs_ids), (&mut self.rhs, right, &self.rhs_ids)]
        {
            let is_left = std::ptr::eq(from, left);
            let mut i = 0;
            while let Some(mut column) = side.next(ev)? {
                ev.poll()?;
                self.counts.gather(&column);
                if is_left {
                    Self::mark(&mut self.present, self.words, ids[i], &column);
                } else {
                    Self::filter(&self.present, self.words, ids[i], &mut column, false);
                }
                if column.is_empty() {
                    ev.recycle(column);
                } else {
                    list.push(from.labels(i), from.drop_name(i));
                    columns.push(column);
                }
                i += 1;
            }
        }
        self.ready = Some(columns.into_iter());
        Ok(list)
    }

    /// Series of equal labels are one; under delayed name removal an instant is not looked at.
    fn merge(&mut self, ev: &Eval, list: SeriesList) -> SeriesList {
        let steps = self.grid().steps;
        if steps == 1 && ev.options.features.delayed_name_removal {
            return list;
        }
        self.merger.open(list, steps)
    }
}

impl Operator for SetOperator {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let mut ids = MatchIds::new(ev, &self.matching);
        let left = self.lhs.open(ev)?;
        let right = match self.rhs.open(ev) {
            Ok(right) => right,
            Err(e) => return Err(earlier_error_first(e, self.lhs.as_mut(), ev)),
        };
        self.lhs_ids = ids.of_all(&left);
        self.rhs_ids = ids.of_all(&right);
        self.words = self.grid().steps.div_ceil(64);
        ev.hold("match ids of a set operator", ids.count() * self.words * 8)?;
        self.present = vec![0; ids.count() * self.words];
        if self.op == BinaryOp::Or && self.grid().steps == 1 {
            let list = self.union_at_once(ev, &left, &right)?;
            return Ok(self.merge(ev, list));
        }
        if self.op == BinaryOp::Or {
            let mut list = left;
            for i in 0..right.len() {
                let labels: &SymLabels = right.labels(i);
                list.push(labels, right.drop_name(i));
            }
            return Ok(self.merge(ev, list));
        }
        let mut i = 0;
        loop {
            let column = match self.rhs.next(ev) {
                Ok(Some(column)) => column,
                Ok(None) => break,
                Err(e) => return Err(earlier_error_first(e, self.lhs.as_mut(), ev)),
            };
            self.counts.gather(&column);
            Self::mark(&mut self.present, self.words, self.rhs_ids[i], &column);
            ev.recycle(column);
            i += 1;
        }
        Ok(self.merge(ev, left))
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if let Some(ready) = &mut self.ready {
            let out = self.merger.next(ev, |_| Ok(ready.next()))?;
            if let Some(column) = &out {
                self.counts.give(column);
            }
            return Ok(out);
        }
        let Self {
            op, lhs, rhs, counts, lhs_ids, rhs_ids, present, words, position, on_right, merger, ..
        } = self;
        let op = *op;
        let out = merger.next(ev, |ev| {
            ev.poll()?;
            if !*on_right {
                if let Some(mut column) = lhs.next(ev)? {
                    counts.gather(&column);
                    let id = lhs_ids[*position];
                    *position += 1;
                    match op {
                        BinaryOp::Or => Self::mark(present, *words, id, &column),
                        op => Self::filter(present, *words, id, &mut column, op == BinaryOp::And),
                    }
                    return Ok(Some(column));
                }
                if op != BinaryOp::Or {
                    return Ok(None);
                }
                *on_right = true;
                *position = 0;
            }
            let Some(mut column) = rhs.next(ev)? else { return Ok(None) };
            counts.gather(&column);
            let id = rhs_ids[*position];
            *position += 1;
            Self::filter(present, *words, id, &mut column, false);
            Ok(Some(column))
        })?;
        if let Some(column) = &out {
            self.counts.give(column);
        }
        Ok(out)
    }

    fn grid(&self) -> StepGrid {
        self.lhs.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let now = self.rhs.account(self.lhs.account(current, peak), peak);
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid().steps)
    }

    fn report(&self) -> Report {
        Report { name: self.op.as_str().to_string(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.lhs.as_ref(), self.rhs.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.lhs, &mut self.rhs]
    }
}
