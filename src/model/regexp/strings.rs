//! String tests in place of an automaton: a set of values, and sequences with gaps.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::index::Index;
use super::items::{Item, Sequence, finite_values};
use super::pattern::Pattern;

/// Values multiplied out of classes (`a[0-9]b[0-9]`) beyond this stay sequences.
const MAX_VALUES: usize = 256;
/// The same where case is of no account; looking up so many spellings costs more than comparing.
const MAX_SPELLINGS: usize = 32;
/// Sequences are tried one by one; more than this are indexed.
const MAX_PATTERNS: usize = 32;
/// Sets up to this size are searched one by one.
const SMALL_SET: usize = 4;

#[derive(Clone, Debug)]
enum Patterns {
    Few(Vec<Pattern>),
    Many(Box<Index>),
}

/// A test that needs no automaton.
#[derive(Clone, Debug)]
pub(super) struct StringTest {
    /// The values that match exactly, sorted.
    values: Vec<String>,
    /// Places in `values`; empty for small sets.
    table: HashTable<u32>,
    state: RandomState,
    patterns: Patterns,
    /// What every match starts with.
    prefix: String,
}

impl StringTest {
    /// The test for the values of which each is like one of the sequences, if it is simple enough.
    pub(super) fn new(sequences: Vec<Sequence>) -> Option<Self> {
        let (mut values, mut others) = (Vec::new(), Vec::new());
        let mut prefix: Option<String> = None;
        for mut sequence in sequences {
            match sequence.as_mut_slice() {
                [] => values.push(String::new()),
                [Item::Literal(text)] => values.push(std::mem::take(text)),
                items => match finite_values(items, MAX_VALUES, MAX_SPELLINGS) {
                    Some(spelled) => values.extend(spelled),
                    None => {
                        let front = match items.first() {
                            Some(Item::Literal(text)) => text.as_str(),
                            _ => "",
                        };
                        let common = prefix.as_deref().map_or(front, |p| common_prefix(p, front));
                        prefix = Some(common.to_string());
                        others.push(sequence);
                    }
                },
            }
        }
        values.sort_unstable();
        values.dedup();
        // Of a sorted list the first and the last value share what all share.
        if let (Some(first), Some(last)) = (values.first(), values.last()) {
            let shared = common_prefix(first, last);
            prefix = Some(prefix.map_or(shared, |p| common_prefix(shared, &p)).to_string());
        }
        let patterns = if others.len() <= MAX_PATTERNS {
            Patterns::Few(others.iter().map(|s| Pattern::new(s)).collect::<Option<_>>()?)
        } else {
            Patterns::Many(Box::new(Index::new(&others)?))
        };
        let state = RandomState::default();
        let mut table = HashTable::new();
        if values.len() > SMALL_SET {
            table.reserve(values.len(), |_| 0);
            for (place, value) in (0u32..).zip(&values) {
                let rehash = |at: &u32| state.hash_one(values[*at as usize].as_str());
                table.insert_unique(state.hash_one(value.as_str()), place, rehash);
            }
        }
        Some(Self { values, table, state, patterns, prefix: prefix.unwrap_or_default() })
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        let listed = if self.values.len() <= SMALL_SET {
            self.values.iter().any(|v| v == value)
        } else {
            let is_same = |at: &u32| self.values.get(*at as usize).is_some_and(|v| v == value);
            self.table.find(self.state.hash_one(value), is_same).is_some()
        };
        listed
            || match &self.patterns {
                Patterns::Few(patterns) => patterns.iter().any(|p| p.matches(value)),
                Patterns::Many(index) => index.matches(value),
            }
    }

    /// What every match starts with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// All values that match, if they are finitely many.
    pub(super) fn values(&self) -> Option<&[String]> {
        matches!(&self.patterns, Patterns::Few(list) if list.is_empty()).then_some(self.values.as_slice())
    }
}

pub(super) fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let end = a
        .char_indices()
        .zip(b.chars())
        .find(|((_, x), y)| x != y)
        .map_or(a.len().min(b.len()), |((i, _), _)| i);
    &a[..end]
}
