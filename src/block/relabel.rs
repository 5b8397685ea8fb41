//! A source with other labels: some added, some renamed, values replaced, and series in the order of what came of it.
//!
//! Labels are read twice: once to find the new order, of which 4 bytes per series remain, and again one by one as the
//! series are gone through. Chunks are passed on as they are.

use std::ops::Range;
use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, LabelRef, Loss, SeriesTable, StorageError};

use crate::chunk_merge::{ChunkMerger, is_in_order};
use crate::relabel_pseudonyms::{Collision, Pseudonyms};

/// What becomes of labels, in this order.
#[derive(Clone, Debug, Default)]
pub struct Relabelling {
    /// Values that get pseudonyms.
    pub pseudonyms: Option<Arc<Pseudonyms>>,
    /// Names and what takes their place.
    pub renamed: Vec<(String, String)>,
    /// Names and values that every series gets; one that has the name already gets another value.
    pub added: Vec<(String, String)>,
}

impl Relabelling {
    /// Whether labels stay as they are.
    pub fn is_none(&self) -> bool {
        self.pseudonyms.is_none() && self.renamed.is_empty() && self.added.is_empty()
    }

    /// What becomes of a label set.
    ///
    /// # Errors
    /// If pseudonyms collide.
    pub fn apply(&self, labels: &Labels) -> Result<Labels, Collision> {
        let mut out = Labels::empty();
        for label in labels {
            let to = self.renamed.iter().find(|(from, _)| *from == label.name).map(|(_, to)| to);
            let value = match &self.pseudonyms {
                Some(p) if !p.keeps(&label.name) => p.of(&label.value)?,
                _ => label.value.clone(),
            };
            out.set(to.unwrap_or(&label.name).clone(), value);
        }
        for (name, value) in &self.added {
            out.set(name.clone(), value.clone());
        }
        Ok(out)
    }
}

/// Why labels cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    /// The source cannot be read, or the work is to stop.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Two series would be one.
    #[error("{first} and {second} would both become {both}; give the label another name")]
    Same {
        /// A series.
        first: Box<Labels>,
        /// The other.
        second: Box<Labels>,
        /// What both became.
        both: Box<Labels>,
    },
    /// A series would have a label twice.
    #[error("{series} would have two labels of one name; give the label another name")]
    Twice {
        /// The series.
        series: Box<Labels>,
    },
    /// Two values have one pseudonym.
    #[error(transparent)]
    Collision(#[from] Collision),
}

const NONE: u32 = u32::MAX;

/// From the labels of a source to those that come of them, all as places in sorted lists of strings.
#[derive(Debug, Default)]
struct Mapping {
    /// By old symbol, where it is as it was; `NONE` if nothing uses it so.
    same: Vec<u32>,
    /// By old symbol, its pseudonym; empty if there are none.
    pseudonyms: Vec<u32>,
    /// Old names whose values get no pseudonyms, few.
    kept: Vec<u32>,
    /// Old names and new ones, few.
    renamed: Vec<(u32, u32)>,
    /// Names and values of new ones, few.
    added: Vec<LabelRef>,
}

impl Mapping {
    /// The new labels, sorted; false if a name occurs twice.
    fn apply(&self, labels: &[LabelRef], out: &mut Vec<LabelRef>) -> bool {
        out.clear();
        for (name, value) in labels {
            let renamed = self.renamed.iter().find(|(from, _)| from == name);
            let to = renamed.map_or_else(|| self.same[*name as usize], |(_, to)| *to);
            if self.added.iter().any(|(added, _)| *added == to) {
                continue;
            }
            let replaced = !self.pseudonyms.is_empty() && !self.kept.contains(name);
            let values = if replaced { &self.pseudonyms } else { &self.same };
            out.push((to, values[*value as usize]));
        }
        out.extend_from_slice(&self.added);
        out.sort_unstable();
        out.windows(2).all(|w| w[0].0 != w[1].0)
    }
}

/// A source with other labels.
pub struct Relabelled {
    source: Box<dyn SeriesTable>,
    mapping: Mapping,
    /// Strings that are not the source's, or are and came anew; sorted.
    new: Vec<String>,
    /// Series of the source in the new order.
    order: Vec<u32>,
    /// Whether a damaged source has a series several times; they are joined.
    has_copies: bool,
    /// Where the series is in `order`: more than one place only if it is there several times.
    at: Range<usize>,
    before: Vec<LabelRef>,
    labels: Vec<LabelRef>,
    control: Control,
    taken: usize,
}

impl Drop for Relabelled {
    fn drop(&mut self) {
        self.control.budget.give(self.taken);
    }
}

impl Relabelled {
    /// Changes the labels of a source.
    ///
    /// # Errors
    /// If it cannot be read, memory does not suffice, or series would become one.
    pub fn new(
        mut source: Box<dyn SeriesTable>,
        rules: &Relabelling,
        control: &Control,
    ) -> Result<Self, RelabelError> {
        let (mapping, new) = map_symbols(&mut *source, rules, control)?;
        let mut sorted = Self {
            source,
            mapping,
            new,
            order: Vec::new(),
            has_copies: false,
            at: 0..0,
            before: Vec::new(),
            labels: Vec::new(),
            control: control.clone(),
            taken: 0,
        };
        sorted.sort()?;
        Ok(sorted)
    }

    fn sort(&mut self) -> Result<(), RelabelError> {
        let count = self.source.len();
        // All labels, one series after the other, and where each one's end.
        let (mut all, mut ends): (Vec<LabelRef>, Vec<usize>) = (Vec::new(), Vec::with_capacity(count));
        let mut held = Held { control: self.control.clone(), bytes: 0 };
        for series in 0..count {
            if series.is_multiple_of(4096) {
                self.control.check("relabelling").map_err(StorageError::from)?;
                held.grow(all.capacity() * size_of::<LabelRef>() + count * size_of::<usize>())?;
            }
            self.before.clear();
            self.source.labels_of(series, &mut self.before)?;
            if !self.mapping.apply(&self.before, &mut self.labels) {
                let series = Box::new(self.old_labels(series)?);
                return Err(RelabelError::Twice { series });
            }
            all.extend_from_slice(&self.labels);
            ends.push(all.len());
        }
        let labels = |series: u32| {
            let series = series as usize;
            let start = if series == 0 { 0 } else { ends[series - 1] };
            &all[start..ends[series]]
        };
        self.control.budget.take("order of series", count * size_of::<u32>()).map_err(StorageError::from)?;
        self.taken = count * size_of::<u32>();
        self.order = (0..count as u32).collect();
        self.order.sort_by(|a, b| labels(*a).cmp(labels(*b)));
        for same in self.order.windows(2).filter(|w| labels(w[0]) == labels(w[1])) {
            let (first, second) = (same[0], same[1]);
            let (mut old, mut other) = (Vec::new(), Vec::new());
            self.source.labels_of(first as usize, &mut old)?;
            self.source.labels_of(second as usize, &mut other)?;
            if old == other {
                self.has_copies = true;
                continue;
            }
            let both = labels(first).to_vec();
            return Err(RelabelError::Same {
                first: Box::new(self.old_labels(first as usize)?),
                second: Box::new(self.old_labels(second as usize)?),
                both: Box::new(strings(self, &both)?),
            });
        }
        Ok(())
    }

    fn old_labels(&mut self, series: usize) -> Result<Labels, StorageError> {
        let mut labels = Vec::new();
        self.source.labels_of(series, &mut labels)?;
        strings(&mut *self.source, &labels)
    }
}

/// Memory that is given back.
struct Held {
    control: Control,
    bytes: usize,
}

impl Held {
    fn grow(&mut self, to: usize) -> Result<(), StorageError> {
        let more = to.saturating_sub(self.bytes);
        self.control.budget.take("labels to be sorted", more)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.control.budget.give(self.bytes);
    }
}

/// The strings of a few labels, found by going through all.
fn strings<S: ChunkSource + ?Sized>(source: &mut S, labels: &[LabelRef]) -> Result<Labels, StorageError> {
    let mut pairs = vec![(String::new(), String::new()); labels.len()];
    let mut place = 0;
    source.symbols(&mut |s| {
        for (pair, (name, value)) in pairs.iter_mut().zip(labels) {
            if *name == place {
                s.clone_into(&mut pair.0);
            }
            if *value == place {
                s.clone_into(&mut pair.1);
            }
        }
        place += 1;
        Ok(())
    })?;
    Ok(Labels::from_pairs(pairs))
}

/// What a symbol of the source is used for after the change.
const AS_IT_IS: u8 = 1;
const FOR_A_PSEUDONYM: u8 = 2;

fn map_symbols(
    source: &mut dyn SeriesTable,
    rules: &Relabelling,
    control: &Control,
) -> Result<(Mapping, Vec<String>), RelabelError> {
    let mut mapping = Mapping::default();
    // Names that something happens to.
    let mut renamed: Vec<(u32, &str)> = Vec::new();
    let mut overwritten: Vec<u32> = Vec::new();
    let mut count: u32 = 0;
    source.symbols(&mut |s| {
        let to = rules.renamed.iter().find(|(from, _)| from == s).map(|(_, to)| to.as_str());
        renamed.extend(to.map(|to| (count, to)));
        if rules.added.iter().any(|(name, _)| name == to.unwrap_or(s)) {
            overwritten.push(count);
        }
        if rules.pseudonyms.as_ref().is_some_and(|p| p.keeps(s)) {
            mapping.kept.push(count);
        }
        count += 1;
        Ok(())
    })?;
    let mut uses = vec![0u8; count as usize];
    let mut labels = Vec::new();
    for series in 0..source.len() {
        if series.is_multiple_of(4096) {
            control.check("relabelling").map_err(StorageError::from)?;
        }
        labels.clear();
        source.labels_of(series, &mut labels)?;
        for (name, value) in &labels {
            if overwritten.contains(name) {
                continue;
            }
            if !renamed.iter().any(|(from, _)| from == name) {
                uses[*name as usize] |= AS_IT_IS;
            }
            let replaced = rules.pseudonyms.is_some() && !mapping.kept.contains(name);
            uses[*value as usize] |= if replaced { FOR_A_PSEUDONYM } else { AS_IT_IS };
        }
    }
    // New strings: pseudonyms with the symbol they stand for, and those of the rules.
    let mut new: Vec<(String, u32)> = Vec::new();
    if let Some(pseudonyms) = &rules.pseudonyms {
        let (mut place, mut failed) = (0, None);
        source.symbols(&mut |s| {
            if uses[place as usize] & FOR_A_PSEUDONYM != 0 && failed.is_none() {
                match pseudonyms.of(s) {
                    Ok(pseudonym) => new.push((pseudonym, place)),
                    Err(e) => failed = Some(e),
                }
            }
            place += 1;
            Ok(())
        })?;
        if let Some(collision) = failed {
            return Err(collision.into());
        }
    }
    if !source.is_empty() {
        new.extend(renamed.iter().map(|(_, to)| ((*to).to_owned(), NONE)));
        let added = rules.added.iter().flat_map(|(name, value)| [name, value]);
        new.extend(added.map(|s| (s.clone(), NONE)));
    }
    new.sort_unstable();
    // Places in the one sorted list of both.
    let mut places: Vec<u32> = Vec::with_capacity(new.len());
    mapping.same = vec![NONE; count as usize];
    let (mut place, mut next) = (0usize, 0u32);
    source.symbols(&mut |s| {
        while let Some((string, _)) = new.get(places.len()).filter(|(string, _)| string.as_str() < s) {
            let again = places.len().checked_sub(1).is_some_and(|last| new[last].0 == *string);
            places.push(if again { next - 1 } else { next });
            next += u32::from(!again);
        }
        let is_new = new.get(places.len()).is_some_and(|(string, _)| string == s);
        while new.get(places.len()).is_some_and(|(string, _)| string == s) {
            places.push(next);
        }
        if is_new || uses[place] & AS_IT_IS != 0 {
            mapping.same[place] = next;
            next += 1;
        }
        place += 1;
        Ok(())
    })?;
    while let Some((string, _)) = new.get(places.len()) {
        let again = places.len().checked_sub(1).is_some_and(|last| new[last].0 == *string);
        places.push(if again { next - 1 } else { next });
        next += u32::from(!again);
    }
    if rules.pseudonyms.is_some() {
        mapping.pseudonyms = vec![NONE; count as usize];
        for ((_, old), place) in new.iter().zip(&places).filter(|((_, old), _)| *old != NONE) {
            mapping.pseudonyms[*old as usize] = *place;
        }
    }
    let find = |s: &str| {
        let i = new.partition_point(|(string, _)| string.as_str() < s);
        places.get(i).copied().unwrap_or(NONE)
    };
    if !source.is_empty() {
        mapping.renamed = renamed.iter().map(|(from, to)| (*from, find(to))).collect();
        mapping.added = rules.added.iter().map(|(name, value)| (find(name), find(value))).collect();
    }
    let mut strings: Vec<String> = new.into_iter().map(|(string, _)| string).collect();
    strings.dedup();
    Ok((mapping, strings))
}

impl ChunkSource for Relabelled {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut new = self.new.iter().peekable();
        let same = &self.mapping.same;
        let mut place = 0;
        self.source.symbols(&mut |s| {
            while let Some(string) = new.next_if(|string| string.as_str() < s) {
                each(string)?;
            }
            new.next_if(|string| *string == s);
            if same[place] != NONE {
                each(s)?;
            }
            place += 1;
            Ok(())
        })?;
        new.try_for_each(|string| each(string))
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        self.at = self.at.end..self.at.end;
        let Some(series) = self.order.get(self.at.end) else { return Ok(false) };
        self.before.clear();
        self.source.labels_of(*series as usize, &mut self.before)?;
        self.mapping.apply(&self.before, &mut self.labels);
        self.at.end += 1;
        let mut other = Vec::new();
        while self.has_copies
            && let Some(series) = self.order.get(self.at.end)
        {
            other.clear();
            self.source.labels_of(*series as usize, &mut other)?;
            if other != self.before {
                break;
            }
            self.at.end += 1;
        }
        Ok(true)
    }

    fn labels(&self) -> &[LabelRef] {
        &self.labels
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let from = out.len();
        let mut ends = Vec::new();
        for series in &self.order[self.at.clone()] {
            self.source.chunks_of(*series as usize, out)?;
            ends.push(out.len() - from);
        }
        if ends.len() < 2 || is_in_order(out, from) {
            return Ok(());
        }
        let mut copies = ChunkBatch::default();
        out.iter().skip(from).for_each(|c| copies.push(c));
        out.truncate(from);
        let mut merger = ChunkMerger::default();
        let mut start = 0;
        for end in ends {
            merger.add(&copies, start..end);
            start = end;
        }
        merger.run(&copies, out).map_err(|bad| {
            let reason = format!("chunk of a series that is there twice: {}", bad.reason);
            Loss { file: self.source.origin().to_owned(), offset: 0, reason }.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tsdbctl_platform::random::Generator;
    use tsdbctl_storage::EncodedChunk;

    use super::*;
    use crate::relabel_pseudonyms::KEPT_BY_DEFAULT;

    /// Literal series that can be asked in any order.
    struct Table {
        symbols: Vec<String>,
        series: Vec<(Labels, u8)>,
        at: usize,
        labels: Vec<LabelRef>,
    }

    impl Table {
        fn new(series: &BTreeMap<Labels, u8>, unused: &[&str]) -> Box<Self> {
            let mut symbols: BTreeSet<String> = unused.iter().map(|s| (*s).to_owned()).collect();
            for label in series.keys().flatten() {
                symbols.insert(label.name.clone());
                symbols.insert(label.value.clone());
            }
            let symbols = symbols.into_iter().collect();
            let series = series.iter().map(|(l, n)| (l.clone(), *n)).collect();
            Box::new(Self { symbols, series, at: 0, labels: Vec::new() })
        }
    }

    impl ChunkSource for Table {
        fn symbols(
            &mut self,
            each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
        ) -> Result<(), StorageError> {
            self.symbols.iter().try_for_each(|s| each(s))
        }
        fn next(&mut self) -> Result<bool, StorageError> {
            self.at += 1;
            Ok(self.at <= self.series.len())
        }
        fn labels(&self) -> &[LabelRef] {
            &self.labels
        }
        fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
            self.chunks_of(self.at - 1, out)
        }
    }

    impl SeriesTable for Table {
        fn len(&self) -> usize {
            self.series.len()
        }
        fn labels_of(&mut self, series: usize, out: &mut Vec<LabelRef>) -> Result<(), StorageError> {
            let place = |s: &String| self.symbols.binary_search(s).unwrap() as u32;
            out.extend(self.series[series].0.iter().map(|l| (place(&l.name), place(&l.value))));
            Ok(())
        }
        fn chunks_of(&mut self, series: usize, out: &mut ChunkBatch) -> Result<(), StorageError> {
            out.push(EncodedChunk { encoding: 1, data: &[self.series[series].1], mint: 0, maxt: 0 });
            Ok(())
        }
    }

    /// Series of a source by their labels, and its symbols; all in order.
    fn content(source: &mut dyn ChunkSource) -> (BTreeMap<Labels, u8>, Vec<String>) {
        let mut symbols = Vec::new();
        source
            .symbols(&mut |s| {
                symbols.push(s.to_owned());
                Ok(())
            })
            .unwrap();
        assert!(symbols.is_sorted_by(|a, b| a < b), "{symbols:?}");
        let mut all = BTreeMap::new();
        let mut last: Option<Labels> = None;
        while source.next().unwrap() {
            let refs = source.labels().to_vec();
            let labels = Labels::from_pairs(
                refs.iter().map(|(n, v)| (&*symbols[*n as usize], &*symbols[*v as usize])),
            );
            assert_eq!(labels.len(), refs.len());
            assert!(last.as_ref().is_none_or(|last| *last < labels), "{last:?} {labels}");
            let mut batch = ChunkBatch::default();
            source.chunks(&mut batch).unwrap();
            assert_eq!(batch.len(), 1);
            all.insert(labels.clone(), batch.get(0).data[0]);
            last = Some(labels);
        }
        (all, symbols)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_series_that_a_damaged_source_has_twice_is_one() {
        let labels = |a: &str| Labels::from_pairs([("a", a), ("b", "x")]);
        let symbols = ["a", "b", "k", "l", "x"].map(str::to_owned).to_vec();
        let table = |second: u8| {
            let series = vec![(labels("k"), 1), (labels("l"), 2), (labels("l"), second)];
            Box::new(Table { symbols: symbols.clone(), series, at: 0, labels: Vec::new() })
        };
        let rules = Relabelling { added: pairs(&[("b", "y")]), ..Relabelling::default() };
        let mut source = Relabelled::new(table(2), &rules, &Control::default()).unwrap();
        let (all, _) = content(&mut source);
        assert_eq!(all.values().copied().collect::<Vec<_>>(), [1, 2]);
        // What cannot be joined is told when its turn comes.
        let mut source = Relabelled::new(table(3), &rules, &Control::default()).unwrap();
        assert!(source.next().unwrap() && source.next().unwrap());
        let error = source.chunks(&mut ChunkBatch::default()).unwrap_err().to_string();
        assert!(error.contains("a series that is there twice"), "{error}");
        assert!(!source.next().unwrap());
    }

    /// What a plain model makes of it: `None` if series would become one.
    fn model(series: &BTreeMap<Labels, u8>, rules: &Relabelling) -> Option<BTreeMap<Labels, u8>> {
        let mut out = BTreeMap::new();
        for (labels, n) in series {
            // A renamed label may not meet one that is there already.
            let is_lost = |to: &str| rules.added.iter().any(|(name, _)| name == to);
            let meets = |(from, to): &(String, String)| labels.has(from) && labels.has(to) && !is_lost(to);
            let renamed = rules.renamed.iter().any(meets);
            if renamed || out.insert(rules.apply(labels).unwrap(), *n).is_some() {
                return None;
            }
        }
        Some(out)
    }

    #[test]
    fn it_is_as_a_plain_model_has_it() {
        let names = ["__name__", "a", "b", "exported_b", "le", "z"];
        let values = ["", "0", "1", "a", "b", "m", "z", "zz", "ß"];
        let mut done = [0, 0];
        for seed in 0..600 {
            let mut random = Generator::new(seed);
            let mut pick = |of: &[&'static str]| of[random.below(of.len() as u64) as usize];
            let mut series = BTreeMap::new();
            for n in 0..12 {
                let labels = Labels::from_pairs(names.iter().map(|name| (*name, pick(&values))));
                series.insert(labels, n);
            }
            let mut rules = Relabelling::default();
            if seed % 2 == 0 {
                rules.added = pairs(&[(pick(&names[1..]), pick(&values[1..])), ("new", "m")]);
            }
            if seed % 3 == 0 {
                rules.renamed = pairs(&[("b", pick(&["exported_b", "c", "zzz", "0"]))]);
            }
            if seed % 5 < 2 {
                let kept = KEPT_BY_DEFAULT.iter().map(|s| (*s).to_owned()).collect();
                rules.pseudonyms = Some(Arc::new(Pseudonyms::new([seed as u8; 16], kept, false)));
            }
            let table = Table::new(&series, &["", "b", "mm", "new", "zzzz"]);
            let got = Relabelled::new(table, &rules, &Control::default());
            match model(&series, &rules) {
                Some(want) => {
                    let (got, symbols) = content(&mut got.unwrap());
                    assert_eq!(got, want, "{seed}");
                    let used: BTreeSet<&String> =
                        want.keys().flatten().flat_map(|l| [&l.name, &l.value]).collect();
                    // Nothing of the old strings is left behind.
                    assert!(symbols.iter().all(|s| used.contains(s)), "{seed} {symbols:?} {used:?}");
                    done[0] += 1;
                }
                None => {
                    assert!(got.is_err(), "{seed}");
                    done[1] += 1;
                }
            }
        }
        assert!(done[0] > 100 && done[1] > 50, "{done:?}");
    }

    #[test]
    fn series_that_would_become_one_are_named() {
        let one = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let series: BTreeMap<Labels, u8> =
            [(one(&[("a", "1"), ("b", "2")]), 1), (one(&[("a", "1"), ("b", "3")]), 2)].into();
        let rules = Relabelling { added: pairs(&[("b", "x")]), ..Relabelling::default() };
        let error = Relabelled::new(Table::new(&series, &[]), &rules, &Control::default()).err().unwrap();
        assert_eq!(
            error.to_string(),
            r#"{a="1", b="2"} and {a="1", b="3"} would both become {a="1", b="x"}; give the label another name"#
        );
        let rules = Relabelling { renamed: pairs(&[("a", "b")]), ..Relabelling::default() };
        let error = Relabelled::new(Table::new(&series, &[]), &rules, &Control::default()).err().unwrap();
        assert!(error.to_string().starts_with(r#"{a="1", b="2"} would have two labels"#), "{error}");
    }

    #[test]
    fn memory_for_labels_is_given_back() {
        let series: BTreeMap<Labels, u8> =
            (0..50u8).map(|n| (Labels::from_pairs([("a".to_owned(), n.to_string())]), n)).collect();
        let rules = Relabelling { added: pairs(&[("b", "x")]), ..Relabelling::default() };
        let control = Control::default();
        let source = Relabelled::new(Table::new(&series, &[]), &rules, &control).unwrap();
        assert_eq!(control.budget.used(), 200);
        drop(source);
        assert_eq!(control.budget.used(), 0);
        let few = Control::new(Default::default(), tsdbctl_storage::Budget::new(100), None);
        assert!(Relabelled::new(Table::new(&series, &[]), &rules, &few).is_err());
        assert_eq!(few.budget.used(), 0);
    }
}
