//! Series that end up with equal labels: merged where they never meet, refused where they do.

use hashbrown::HashMap;
use tsdbctl_model::symbols::Sym;

use super::column::Column;
use super::error::QueryError;
use super::operator::{Eval, SeriesList};

/// Collects columns of series with equal labels into one, in the order of first appearance.
///
/// The usual case, all labels distinct, holds nothing back: columns pass straight through.
#[derive(Default)]
pub struct LabelMerger {
    /// For each input series, the output series; empty if all are distinct.
    target: Vec<u32>,
    /// Inputs still to come for each output series.
    waiting: Vec<u32>,
    partial: Vec<Option<Column>>,
    /// At a single step: whether a series of these labels has had a sample. All series are kept then, for an
    /// instant vector has its elements where those that have samples stand.
    seen: Vec<bool>,
    position: usize,
    next_out: usize,
}

/// The text upstream gives for both kinds of collision.
pub const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

impl LabelMerger {
    /// Plans the merge of `list` over `steps` steps and returns the distinct series.
    pub fn open(&mut self, list: SeriesList, steps: usize) -> SeriesList {
        let mut first: HashMap<&[(Sym, Sym)], u32> = HashMap::with_capacity(list.len());
        let mut target = Vec::with_capacity(list.len());
        for i in 0..list.len() {
            let n = first.len() as u32;
            target.push(*first.entry(list.labels(i)).or_insert(n));
        }
        let distinct = first.len();
        drop(first);
        if distinct == list.len() {
            return list;
        }
        if steps == 1 {
            self.seen = vec![false; distinct];
            self.target = target;
            return list;
        }
        let mut out = SeriesList::new();
        self.waiting = vec![0; distinct];
        for (i, t) in target.iter().enumerate() {
            if *t as usize == out.len() {
                out.push(list.labels(i), list.drop_name(i));
            }
            self.waiting[*t as usize] += 1;
        }
        self.partial = (0..distinct).map(|_| None).collect();
        self.target = target;
        out
    }

    /// Whether columns pass straight through.
    pub fn is_identity(&self) -> bool {
        self.target.is_empty()
    }

    /// The next output column; `input` gives the input's columns.
    ///
    /// # Errors
    /// If two series of equal labels have a sample at the same step, or `input` fails.
    pub fn next(
        &mut self,
        ev: &mut Eval,
        mut input: impl FnMut(&mut Eval) -> Result<Option<Column>, QueryError>,
    ) -> Result<Option<Column>, QueryError> {
        if self.is_identity() {
            return input(ev);
        }
        if !self.seen.is_empty() {
            let Some(column) = input(ev)? else { return Ok(None) };
            let seen = &mut self.seen[self.target[self.position] as usize];
            self.position += 1;
            if !column.is_empty() && std::mem::replace(seen, true) {
                return Err(QueryError::execution(SAME_LABELSET));
            }
            return Ok(Some(column));
        }
        if self.next_out >= self.partial.len() {
            while let Some(c) = input(ev)? {
                ev.recycle(c);
            }
            return Ok(None);
        }
        while self.waiting[self.next_out] > 0 {
            let Some(column) = input(ev)? else { break };
            let t = self.target[self.position] as usize;
            self.position += 1;
            self.waiting[t] -= 1;
            match &mut self.partial[t] {
                Some(have) => {
                    merge_into(have, &column)?;
                    ev.recycle(column);
                }
                slot => *slot = Some(column),
            }
        }
        let column = match self.partial[self.next_out].take() {
            Some(c) => c,
            None => return Ok(None),
        };
        self.next_out += 1;
        Ok(Some(column))
    }
}

/// Adds the samples of `other` to `column`.
///
/// # Errors
/// If a step has a sample in both.
pub fn merge_into(column: &mut Column, other: &Column) -> Result<(), QueryError> {
    let clash = column.present.iter().zip(&other.present).any(|(a, b)| a & b != 0)
        || other
            .histograms
            .iter()
            .any(|(k, _)| column.has_float(*k as usize) || column.histogram(*k as usize).is_some())
        || column.histograms.iter().any(|(k, _)| other.has_float(*k as usize));
    if clash {
        return Err(QueryError::execution(SAME_LABELSET));
    }
    for k in other.float_steps() {
        column.set_float(k, other.values[k]);
    }
    if !other.histograms.is_empty() {
        column.histograms.extend(other.histograms.iter().cloned());
        column.histograms.sort_by_key(|(k, _)| *k);
    }
    Ok(())
}
