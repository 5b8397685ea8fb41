//! The labels of several series, side by side in one list.

use tsdbctl_model::symbols::SymLabels;
use tsdbctl_model::{Labels, Sym, SymbolTable};

use crate::querier::LabelNeeds;

/// Labels of series by row, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct LabelRows {
    pairs: Vec<(Sym, Sym)>,
    /// Where each row ends in `pairs`.
    ends: Vec<usize>,
}

impl LabelRows {
    /// No rows yet, with room for as many.
    pub fn with_capacity(rows: usize) -> Self {
        Self { pairs: Vec::new(), ends: Vec::with_capacity(rows) }
    }

    /// Adds a row of pairs that are sorted by label name.
    pub fn push(&mut self, pairs: impl IntoIterator<Item = (Sym, Sym)>) {
        self.pairs.extend(pairs);
        self.ends.push(self.pairs.len());
    }

    /// Adds a row of those labels that are needed.
    pub fn push_needed(&mut self, labels: &Labels, needs: &LabelNeeds, symbols: &mut SymbolTable) {
        let needed = labels.iter().filter(|l| needs.wants(&l.name));
        self.pairs.extend(needed.map(|l| (symbols.intern(&l.name), symbols.intern(&l.value))));
        self.ends.push(self.pairs.len());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The labels of row `i`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn get(&self, i: usize) -> &SymLabels {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.pairs[start..self.ends[i]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_was_added() {
        let mut symbols = SymbolTable::default();
        let mut rows = LabelRows::with_capacity(3);
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]);
        rows.push_needed(&labels, &LabelNeeds::Only(vec!["b".to_string()]), &mut symbols);
        rows.push([]);
        rows.push_needed(&labels, &LabelNeeds::All, &mut symbols);
        let text = |i| -> Vec<(&str, &str)> {
            rows.get(i).iter().map(|(n, v)| (symbols.resolve(*n), symbols.resolve(*v))).collect()
        };
        assert_eq!((rows.len(), rows.is_empty()), (3, false));
        assert_eq!([text(0), text(1), text(2)], [vec![("b", "2")], vec![], vec![("a", "1"), ("b", "2")]]);
    }
}
