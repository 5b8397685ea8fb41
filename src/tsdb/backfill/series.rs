//! The series of a backfill: label sets as symbols, numbered as they come, and their order.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use tsdbctl_model::labels::Labels;
use tsdbctl_model::{Sym, SymbolTable};

/// Places of series and symbols in order. They are given anew when there are more series; how two stand to each other
/// never changes.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    /// Of each series.
    pub(crate) series: Vec<u32>,
    /// Of each symbol.
    pub(crate) symbols: Vec<u32>,
}

/// All series.
pub(crate) struct SeriesTable {
    symbols: SymbolTable,
    labels: Vec<(Sym, Sym)>,
    /// Where the labels of a series end.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: FixedState,
    scratch: Vec<(Sym, Sym)>,
    ranks: Arc<Ranks>,
}

impl Default for SeriesTable {
    fn default() -> Self {
        Self {
            symbols: SymbolTable::new(),
            labels: Vec::new(),
            ends: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::with_seed(0xb10c),
            scratch: Vec::new(),
            ranks: Arc::default(),
        }
    }
}

fn slice<'a>(labels: &'a [(Sym, Sym)], ends: &[u32], series: u32) -> &'a [(Sym, Sym)] {
    let i = series as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] as usize };
    &labels[start..ends[i] as usize]
}

impl SeriesTable {
    /// The series of these labels (sorted by name), made if it is new.
    pub(crate) fn add<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> u32 {
        let mut set = std::mem::take(&mut self.scratch);
        set.clear();
        set.extend(labels.map(|(n, v)| (self.symbols.intern(n), self.symbols.intern(v))));
        let hash = self.hasher.hash_one(&set[..]);
        let found = self.index.find(hash, |i| slice(&self.labels, &self.ends, *i) == set).copied();
        let series = found.unwrap_or_else(|| {
            let new = self.ends.len() as u32;
            self.labels.extend_from_slice(&set);
            self.ends.push(self.labels.len() as u32);
            let (all, ends, hasher) = (&self.labels, &self.ends, &self.hasher);
            self.index.insert_unique(hash, new, |i| hasher.hash_one(slice(all, ends, *i)));
            new
        });
        self.scratch = set;
        series
    }

    /// The series of these labels, if there is one.
    pub(crate) fn find<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<u32> {
        let set: Option<Vec<(Sym, Sym)>> =
            labels.map(|(n, v)| Some((self.symbols.get(n)?, self.symbols.get(v)?))).collect();
        let set = set?;
        let hash = self.hasher.hash_one(&set[..]);
        self.index.find(hash, |i| slice(&self.labels, &self.ends, *i) == set).copied()
    }

    /// Labels of a series as symbols.
    pub(crate) fn symbols_of(&self, series: u32) -> &[(Sym, Sym)] {
        slice(&self.labels, &self.ends, series)
    }

    /// Labels of a series.
    pub(crate) fn labels(&self, series: u32) -> Labels {
        self.symbols.labels(self.symbols_of(series))
    }

    /// A symbol's string.
    pub(crate) fn text(&self, symbol: u32) -> &str {
        self.symbols.resolve(Sym(symbol))
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The order as it is now.
    pub(crate) fn ranks(&mut self) -> Arc<Ranks> {
        if self.ranks.series.len() == self.len() && self.ranks.symbols.len() == self.symbols.len() {
            return Arc::clone(&self.ranks);
        }
        let symbols = places(self.symbols.len(), |a, b| self.text(a).cmp(self.text(b)));
        let key = |s: &(Sym, Sym)| (symbols[s.0.0 as usize], symbols[s.1.0 as usize]);
        let series = places(self.len(), |a, b| {
            self.symbols_of(a).iter().map(key).cmp(self.symbols_of(b).iter().map(key))
        });
        self.ranks = Arc::new(Ranks { series, symbols });
        Arc::clone(&self.ranks)
    }
}

/// For each of `count` things its place in order.
fn places(count: usize, compare: impl Fn(u32, u32) -> std::cmp::Ordering) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.sort_unstable_by(|a, b| compare(*a, *b));
    let mut places = vec![0; count];
    for (place, i) in order.iter().enumerate() {
        places[*i as usize] = place as u32;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_one_number_and_the_order_of_their_labels() {
        let sets: [&[(&str, &str)]; 6] = [
            &[("__name__", "b")],
            &[("__name__", "a"), ("x", "2")],
            &[("__name__", "a")],
            &[("__name__", "a"), ("x", "10")],
            &[("__name__", "b")],
            &[("__name__", "a"), ("w", "z"), ("x", "0")],
        ];
        let mut table = SeriesTable::default();
        let ids: Vec<u32> = sets.iter().map(|s| table.add(s.iter().copied())).collect();
        assert_eq!(ids, [0, 1, 2, 3, 0, 4]);
        let mut by_rank: Vec<u32> = (0..5).collect();
        let ranks = table.ranks();
        by_rank.sort_by_key(|s| ranks.series[*s as usize]);
        let mut want: Vec<u32> = (0..5).collect();
        want.sort_by_key(|a| table.labels(*a));
        assert_eq!(by_rank, want);
        assert_eq!(by_rank, [2, 4, 3, 1, 0]);
        assert!(Arc::ptr_eq(&ranks, &table.ranks()));
        table.add([("__name__", "0")].into_iter());
        assert_eq!(table.ranks().series[5], 0);
        assert_eq!(table.find([("__name__", "a"), ("x", "10")].into_iter()), Some(3));
        assert_eq!(table.find([("__name__", "a"), ("x", "b")].into_iter()), None);
    }
}
