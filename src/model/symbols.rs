//! One query's symbol table: label names and values as small numbers, strings only at the edges.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::labels::{Label, Labels};

/// A string of a [`SymbolTable`]. Equal symbols are equal strings; the order of symbols means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(pub u32);

/// The empty string in every table.
pub const EMPTY: Sym = Sym(0);
/// `__name__` in every table.
pub const NAME: Sym = Sym(1);
/// `__type__` in every table.
pub const TYPE: Sym = Sym(2);
/// `__unit__` in every table.
pub const UNIT: Sym = Sym(3);
/// `le` in every table.
pub const LE: Sym = Sym(4);

/// Whether a label name describes the metric rather than the series.
pub fn is_metadata(name: Sym) -> bool {
    matches!(name, NAME | TYPE | UNIT)
}

/// A label set in symbols, sorted by the *strings* of the names.
pub type SymLabels = [(Sym, Sym)];

/// Strings numbered in the order of their first use. Text lies in one buffer, so a symbol costs its bytes
/// plus about 12.
pub struct SymbolTable {
    text: String,
    /// `ends[i]` is where symbol `i` ends in `text`; it starts where `i - 1` ends.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: FixedState,
}

impl Default for SymbolTable {
    fn default() -> Self {
        Self::new()
    }
}

impl SymbolTable {
    /// A table that holds the well-known symbols only.
    pub fn new() -> Self {
        let mut table = Self {
            text: String::new(),
            ends: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(0x5eed),
        };
        for s in
            ["", crate::labels::METRIC_NAME, crate::labels::METRIC_TYPE, crate::labels::METRIC_UNIT, "le"]
        {
            table.intern(s);
        }
        table
    }

    /// The symbol of `s`, made if it is new.
    ///
    /// # Panics
    /// If the table's text would pass 4 GiB.
    pub fn intern(&mut self, s: &str) -> Sym {
        let hash = self.hasher.hash_one(s);
        let (text, ends) = (&self.text, &self.ends);
        if let Some(i) = self.index.find(hash, |i| lookup(text, ends, *i) == s) {
            return Sym(*i);
        }
        let id = self.ends.len() as u32;
        self.text.push_str(s);
        self.ends.push(u32::try_from(self.text.len()).expect("symbol text under 4 GiB"));
        let (text, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.index.insert_unique(hash, id, |i| hasher.hash_one(lookup(text, ends, *i)));
        Sym(id)
    }

    /// The symbol of `s` if the table has it.
    pub fn get(&self, s: &str) -> Option<Sym> {
        let hash = self.hasher.hash_one(s);
        self.index.find(hash, |i| lookup(&self.text, &self.ends, *i) == s).map(|i| Sym(*i))
    }

    /// The string of a symbol of this table.
    pub fn resolve(&self, sym: Sym) -> &str {
        lookup(&self.text, &self.ends, sym.0)
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never true: the well-known symbols are always there.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes held, for memory budgets.
    pub fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.index.capacity() * 5
    }

    /// `labels.Compare` upstream: name, value, name, value as bytes, shorter set first.
    pub fn compare(&self, a: &SymLabels, b: &SymLabels) -> std::cmp::Ordering {
        for (x, y) in a.iter().zip(b) {
            if x.0 != y.0 {
                return self.resolve(x.0).cmp(self.resolve(y.0));
            }
            if x.1 != y.1 {
                return self.resolve(x.1).cmp(self.resolve(y.1));
            }
        }
        a.len().cmp(&b.len())
    }

    /// The strings of a label set.
    pub fn labels(&self, set: &SymLabels) -> Labels {
        Labels::from_pairs(set.iter().map(|(n, v)| (self.resolve(*n), self.resolve(*v))))
    }

    /// Interns a label set; the result is sorted as `labels` is.
    pub fn intern_labels(&mut self, labels: &Labels) -> Vec<(Sym, Sym)> {
        labels.iter().map(|Label { name, value }| (self.intern(name), self.intern(value))).collect()
    }
}

fn lookup<'a>(text: &'a str, ends: &[u32], i: u32) -> &'a str {
    let i = i as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] as usize };
    &text[start..ends[i] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interning_twice_gives_one_symbol_and_the_string_back() {
        let mut t = SymbolTable::new();
        let a = t.intern("job");
        assert_eq!(t.intern("job"), a);
        assert_eq!(t.resolve(a), "job");
        assert_eq!(t.get("nope"), None);
        assert_eq!((t.get(""), t.get("__name__"), t.get("le")), (Some(EMPTY), Some(NAME), Some(LE)));
    }
}
