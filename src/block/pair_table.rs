//! Every label pair of an index in the making, and how many series have it: 24 bytes for a pair and 4 for a symbol.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tsdbctl_storage::LabelRef;

/// No pair, or no place.
const NONE: u32 = u32::MAX;

/// Pairs with the same value that are looked at one by one; those behind are found by their hash.
const NEAR: usize = 8;

/// A label pair. The value is known by the chain it is in.
#[derive(Clone, Copy, Debug)]
struct Pair {
    name: u32,
    /// Another pair with the same value.
    next: u32,
    /// Series that have it.
    count: u32,
    /// Where the next series goes, in words of the lists being made; `NONE` if its list is not among them.
    cursor: u32,
}

/// A pair in the order of names and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderedPair {
    /// Symbol of the value.
    pub(crate) value: u32,
    pair: u32,
}

/// The pairs of one name, a part of the order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamePairs {
    /// Symbol of the name.
    pub(crate) name: u32,
    /// Number of values.
    pub(crate) pairs: usize,
}

/// Pairs by value and name.
#[derive(Debug, Default)]
pub(crate) struct PairTable {
    /// First pair of a value, by its symbol.
    first: Vec<u32>,
    pairs: Vec<Pair>,
    /// Pairs behind the first few of a value.
    far: HashMap<LabelRef, u32, RandomState>,
    /// Pairs of each name.
    names: HashMap<u32, u32, RandomState>,
    /// Labels of the series before and their pairs: neighbours have most of them in common.
    last: Vec<(LabelRef, u32)>,
}

impl PairTable {
    /// A table for labels out of `symbols` symbols.
    pub(crate) fn new(symbols: usize) -> Self {
        Self { first: vec![NONE; symbols], ..Self::default() }
    }

    /// Counts a series, given its label at each place.
    #[inline]
    pub(crate) fn count(&mut self, place: usize, label: LabelRef) {
        let pair = self.pair(place, label);
        self.pairs[pair as usize].count += 1;
    }

    /// The pair of a label that stands at `place` among those of its series.
    #[inline]
    fn pair(&mut self, place: usize, label: LabelRef) -> u32 {
        match self.last.get(place) {
            Some((last, pair)) if *last == label => return *pair,
            _ => {}
        }
        let pair = self.find(label);
        match self.last.get_mut(place) {
            Some(last) => *last = (label, pair),
            None => self.last.push((label, pair)),
        }
        pair
    }

    fn find(&mut self, label: LabelRef) -> u32 {
        let (name, value) = label;
        let (mut at, mut end) = (self.first[value as usize], NONE);
        for _ in 0..NEAR {
            let Some(pair) = self.pairs.get(at as usize) else { break };
            if pair.name == name {
                return at;
            }
            (at, end) = (pair.next, at);
        }
        if at != NONE
            && let Some(found) = self.far.get(&label)
        {
            return *found;
        }
        // Behind the last that was looked at, so that whoever is near stays so.
        let new = self.pairs.len() as u32;
        self.pairs.push(Pair { name, next: at, count: 0, cursor: NONE });
        match self.pairs.get_mut(end as usize) {
            Some(pair) => pair.next = new,
            None => self.first[value as usize] = new,
        }
        if at != NONE || self.is_full(value, new) {
            self.far.insert(label, new);
        }
        *self.names.entry(name).or_default() += 1;
        new
    }

    /// Whether `pair`, the last of a value, is no longer near.
    fn is_full(&self, value: u32, pair: u32) -> bool {
        let mut at = self.first[value as usize];
        for _ in 0..NEAR {
            if at == pair {
                return false;
            }
            at = self.pairs[at as usize].next;
        }
        true
    }

    /// All pairs in the order of names and values, and how many each name has.
    pub(crate) fn order(&self) -> (Vec<NamePairs>, Vec<OrderedPair>) {
        let mut names: Vec<NamePairs> = self
            .names
            .iter()
            .map(|(name, pairs)| NamePairs { name: *name, pairs: *pairs as usize })
            .collect();
        names.sort_unstable_by_key(|n| n.name);
        let mut place: HashMap<u32, usize, RandomState> = HashMap::default();
        let mut start = 0;
        for name in &names {
            place.insert(name.name, start);
            start += name.pairs;
        }
        let mut order = vec![OrderedPair { value: 0, pair: 0 }; self.pairs.len()];
        let (mut last_name, mut last_place) = (NONE, 0);
        for (value, first) in self.first.iter().enumerate() {
            let mut at = *first;
            while let Some(pair) = self.pairs.get(at as usize) {
                if pair.name != last_name {
                    place.entry(last_name).and_modify(|p| *p = last_place);
                    (last_name, last_place) = (pair.name, place.get(&pair.name).copied().unwrap_or(0));
                }
                order[last_place] = OrderedPair { value: value as u32, pair: at };
                last_place += 1;
                at = pair.next;
            }
        }
        (names, order)
    }

    /// Series of a pair.
    #[inline]
    pub(crate) fn series(&self, pair: OrderedPair) -> u32 {
        self.pairs[pair.pair as usize].count
    }

    /// Where the pair's next series goes.
    pub(crate) fn set_cursor(&mut self, pair: OrderedPair, word: u32) {
        self.pairs[pair.pair as usize].cursor = word;
    }

    /// Where the pair's next series would have gone; it gets none from now on.
    pub(crate) fn take_cursor(&mut self, pair: OrderedPair) -> u32 {
        std::mem::replace(&mut self.pairs[pair.pair as usize].cursor, NONE)
    }

    /// The place of the next series in the list of a label that was counted, if its list is being made.
    #[inline]
    pub(crate) fn next_place(&mut self, place: usize, label: LabelRef) -> Option<usize> {
        let pair = self.pair(place, label);
        let cursor = &mut self.pairs[pair as usize].cursor;
        if *cursor == NONE {
            return None;
        }
        *cursor += 1;
        Some(*cursor as usize - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_and_ordered_whatever_values_they_share() {
        // 40 names with one value, 3 with another; each name with a value of its own.
        let mut table = PairTable::new(100);
        for round in 0..3 {
            for name in (0..40).rev() {
                table.count(round % 2, (name, 90));
                table.count(1, (name, 50 + name));
            }
            for name in [5, 7, 0] {
                table.count(0, (name, 99));
            }
        }
        let (names, order) = table.order();
        assert_eq!(names.len(), 40);
        let mut at = 0;
        for (n, name) in names.iter().enumerate() {
            let n = n as u32;
            assert_eq!(name.name, n);
            let mut want = vec![50 + n, 90];
            if n == 0 || n == 5 || n == 7 {
                want.push(99);
            }
            want.sort_unstable();
            // Name 39 has 89, name 40 would have 90.
            let got: Vec<u32> = order[at..at + name.pairs].iter().map(|p| p.value).collect();
            assert_eq!(got, want, "name {n}");
            assert!(order[at..at + name.pairs].iter().all(|p| table.series(*p) == 3));
            at += name.pairs;
        }
        assert_eq!(at, order.len());
        // Only the list that has a cursor gets places.
        table.set_cursor(order[0], 2);
        assert_eq!(table.next_place(0, (0, 50)), Some(2));
        assert_eq!(table.next_place(0, (0, 50)), Some(3));
        assert_eq!(table.next_place(0, (0, 90)), None);
        assert_eq!(table.take_cursor(order[0]), 4);
        assert_eq!(table.next_place(0, (0, 50)), None);
    }
}
