//! Series in label order, with the strings of their labels as ordinals: a fixed picture of a part of the index, for who
//! writes series down.
//!
//! It takes 4 bytes per series, 8 per label pair of the head and a copy of the strings that the series have; sorting takes
//! 16 more per series. The index is locked for a few thousand series at a time.

use tsdbctl_storage::LabelRef;

use crate::live::head::{Head, read};
use crate::live::index::{Index, SeriesId};

/// Series looked at under one lock of the index.
const BATCH: usize = 4096;

/// Strings, sorted bytewise, each once.
#[derive(Debug, Default)]
struct Strings {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Strings {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn find(&self, text: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(text) {
                std::cmp::Ordering::Equal => return u32::try_from(middle).ok(),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// Stands for a pair that none of the series has.
const NO_PAIR: LabelRef = (u32::MAX, u32::MAX);

/// Series in label order.
#[derive(Debug, Default)]
pub struct SeriesOrder {
    ids: Vec<SeriesId>,
    strings: Strings,
    /// Name and value of each pair, by its number in the index, as long as that has these `removals`.
    pairs: Vec<LabelRef>,
    removals: u64,
}

impl SeriesOrder {
    /// Those of `ids` that are live, sorted by labels.
    pub fn new(head: &Head, ids: Vec<SeriesId>) -> Self {
        let mut ids = ids;
        loop {
            // Numbers of pairs mean something else once a series is removed; that is rare.
            if let Some(order) = Self::attempt(head, &mut ids) {
                return order;
            }
        }
    }

    fn attempt(head: &Head, ids: &mut Vec<SeriesId>) -> Option<Self> {
        let (removals, mut used) = {
            let index = read(&head.index);
            ids.retain(|id| index.is_live(*id));
            (index.removals(), vec![false; index.pair_count()])
        };
        for some in ids.chunks(BATCH) {
            let index = read(&head.index);
            if index.removals() != removals {
                return None;
            }
            for pair in some.iter().flat_map(|id| index.pair_numbers(*id)) {
                if let Some(used) = used.get_mut(pair as usize) {
                    *used = true;
                }
            }
        }
        let (mut text, mut ends) = (String::new(), Vec::new());
        {
            let index = read(&head.index);
            if index.removals() != removals {
                return None;
            }
            for pair in (0u32..).zip(&used).filter(|(_, used)| **used).map(|(pair, _)| pair) {
                let (name, value) = index.pair(pair);
                text.push_str(name);
                ends.push(text.len());
                text.push_str(value);
                ends.push(text.len());
            }
        }
        let (strings, pairs) = strings_of(&Strings { text, ends }, &used);
        // Ranks begin with 1: none is less than any.
        let mut sorted: Vec<u32> =
            (0..pairs.len() as u32).filter(|p| pairs[*p as usize] != NO_PAIR).collect();
        sorted.sort_unstable_by_key(|p| pairs[*p as usize]);
        let mut ranks = vec![0; pairs.len()];
        for (pair, rank) in sorted.into_iter().zip(1u32..) {
            ranks[pair as usize] = rank;
        }
        let mut keyed: Vec<(u64, SeriesId)> = ids.iter().map(|id| (0, *id)).collect();
        sort(head, &mut keyed, &ranks, removals, 0)?;
        Some(Self { ids: keyed.into_iter().map(|(_, id)| id).collect(), strings, pairs, removals })
    }

    /// The series.
    pub fn ids(&self) -> &[SeriesId] {
        &self.ids
    }

    /// The strings of their labels, sorted bytewise, each once.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        (0..self.strings.len()).map(|i| self.strings.get(i))
    }

    /// The labels of one of the series as places in [`SeriesOrder::strings`], none if it was removed meanwhile.
    pub fn labels(&self, index: &Index, id: SeriesId, out: &mut Vec<LabelRef>) {
        out.clear();
        if index.removals() == self.removals {
            out.extend(index.pair_numbers(id).filter_map(|p| self.pairs.get(p as usize)));
            return;
        }
        let find = |text: &str| self.strings.find(text).unwrap_or(u32::MAX);
        out.extend(index.labels(id).map(|(name, value)| (find(name), find(value))));
    }
}

/// The strings of the used pairs, whose names and values are in `texts`, and the pairs in terms of these.
fn strings_of(texts: &Strings, used: &[bool]) -> (Strings, Vec<LabelRef>) {
    let names = (0..texts.len()).step_by(2).map(|i| texts.get(i));
    let mut all: Vec<&str> = names.collect();
    all.sort_unstable();
    all.dedup();
    all.extend((1..texts.len()).step_by(2).map(|i| texts.get(i)));
    all.sort_unstable();
    all.dedup();
    let mut strings = Strings::default();
    all.iter().for_each(|s| strings.push(s));
    let place = |i: usize| strings.find(texts.get(i)).unwrap_or(u32::MAX);
    let mut next = (0..).step_by(2);
    let pairs = used.iter().map(|used| match used {
        true => next.next().map_or(NO_PAIR, |i| (place(i), place(i + 1))),
        false => NO_PAIR,
    });
    let pairs = pairs.collect();
    (strings, pairs)
}

/// Sorts series that agree in their first `depth` labels by the next two, then those that agree in these too by what
/// follows. `None` if a series was removed meanwhile.
fn sort(
    head: &Head,
    series: &mut [(u64, SeriesId)],
    ranks: &[u32],
    removals: u64,
    depth: usize,
) -> Option<()> {
    for some in series.chunks_mut(BATCH) {
        let index = read(&head.index);
        if index.removals() != removals {
            return None;
        }
        for (key, id) in some {
            let mut pairs = index.pair_numbers(*id).skip(depth);
            let mut rank = || pairs.next().map_or(0, |p| ranks.get(p as usize).copied().unwrap_or(0));
            *key = u64::from(rank()) << 32 | u64::from(rank());
        }
    }
    series.sort_unstable();
    for same in series.chunk_by_mut(|a, b| a.0 == b.0) {
        // Where the second is missing, all labels are the same: there is one such series.
        if same.len() > 1 && same[0].0 as u32 != 0 {
            sort(head, same, ranks, removals, depth + 2)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_model::Labels;
    use tsdbctl_platform::real::RealDisk;
    use tsdbctl_storage::Control;

    use super::*;
    use crate::live::head::{LiveOptions, write};

    fn head() -> (tempfile::TempDir, Arc<Head>) {
        let dir = tempfile::tempdir().unwrap();
        let opened =
            Head::open(Arc::new(RealDisk), dir.path(), LiveOptions::default(), i64::MIN, &Control::default());
        (dir, opened.unwrap().0)
    }

    fn owned(order: &SeriesOrder, index: &Index, id: SeriesId) -> Labels {
        let strings: Vec<&str> = order.strings().collect();
        let mut refs = Vec::new();
        order.labels(index, id, &mut refs);
        Labels::from_pairs(refs.iter().map(|(n, v)| (strings[*n as usize], strings[*v as usize])))
    }

    #[test]
    fn series_come_in_the_order_of_their_labels() {
        let (_dir, head) = head();
        let mut sets: Vec<Vec<(String, String)>> = Vec::new();
        for i in 0..9_000u64 {
            // Names that begin each other, values that do, sets of all lengths.
            let n = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let names = ["a", "aa", "ab", "b", "c", "cc", "d"];
            let set = names.iter().enumerate().filter(|(k, _)| n >> k & 1 == 1);
            let mut set: Vec<(String, String)> = set
                .map(|(k, name)| (name.to_string(), "x".repeat((n >> (k + 7)) as usize % 3 + 1)))
                .collect();
            if i % 3 > 0 {
                set.push(("z".to_string(), (i / 7).to_string()));
            }
            if !set.is_empty() {
                sets.push(set);
            }
        }
        let ids: Vec<SeriesId> = {
            let mut index = write(&head.index);
            let mut find = |s: &Vec<(String, String)>| {
                index.find_or_create(s.iter().map(|(n, v)| (n.as_str(), v.as_str()))).0
            };
            let mut ids: Vec<SeriesId> = sets.iter().map(&mut find).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let left_out = ids[3];
        let kept: Vec<SeriesId> = ids.iter().copied().filter(|id| *id != left_out).collect();
        let order = SeriesOrder::new(&head, kept.clone());
        let check = |order: &SeriesOrder, skip: Option<SeriesId>| {
            let index = read(&head.index);
            let got: Vec<Labels> = order
                .ids()
                .iter()
                .filter(|id| Some(**id) != skip)
                .map(|id| owned(order, &index, *id))
                .collect();
            let mut want: Vec<Labels> =
                kept.iter().filter(|id| Some(**id) != skip).map(|id| index.owned_labels(*id)).collect();
            want.sort();
            assert_eq!(got, want);
        };
        assert_eq!(order.ids().len(), kept.len());
        check(&order, None);
        // Numbers of pairs may be used again once a series is gone.
        let gone = order.ids()[50];
        {
            let mut index = write(&head.index);
            index.remove(&[gone]);
            index.find_or_create([("a", "entirely"), ("new", "pairs")].into_iter());
        }
        check(&order, Some(gone));
        let mut refs = vec![(0, 0)];
        order.labels(&read(&head.index), gone, &mut refs);
        assert!(refs.is_empty());
        assert_eq!(SeriesOrder::new(&head, vec![gone]).ids(), []);
    }
}
