//! From matchers to series: which postings lists to read, in which order, and what is cheaper to ask of the series
//! themselves.

use std::ops::ControlFlow;

use hashbrown::HashMap;
use tsdbctl_model::{MatchType, Matcher};
use tsdbctl_storage::{Control, StorageError};

use crate::index::Index;
use crate::offset_table::NameRange;
use crate::postings::{RawPostings, filter, filter_sorted, union};

/// Numbers by symbol reference; 0 for those not set.
pub(crate) enum RefMap {
    /// For ordinals.
    Dense(Vec<u32>),
    /// For offsets in a file.
    Sparse(HashMap<u32, u32, foldhash::fast::FixedState>),
}

impl RefMap {
    /// An empty map for the symbols of `index`.
    pub(crate) fn new(index: &Index) -> Result<Self, StorageError> {
        Ok(match index.symbols()?.count() {
            // Zeroed pages cost nothing until they are touched.
            Some(count) => Self::Dense(vec![0; count]),
            None => Self::Sparse(HashMap::default()),
        })
    }

    #[inline]
    pub(crate) fn get(&self, reference: u32) -> u32 {
        match self {
            Self::Dense(all) => all.get(reference as usize).copied().unwrap_or(0),
            Self::Sparse(all) => all.get(&reference).copied().unwrap_or(0),
        }
    }

    pub(crate) fn set(&mut self, reference: u32, number: u32) {
        match self {
            Self::Dense(all) => {
                if let Some(place) = all.get_mut(reference as usize) {
                    *place = number;
                }
            }
            Self::Sparse(all) => drop(all.insert(reference, number)),
        }
    }
}

/// Series that may satisfy all matchers, and the matchers that are still to be asked per series.
pub(crate) struct Candidates<'m> {
    pub(crate) references: Vec<u32>,
    deferred: Vec<&'m Matcher>,
}

/// One matcher as a set of label values whose series are kept, or left out.
struct Term<'m> {
    matcher: &'m Matcher,
    /// Whether series without the label are out. Then those with a value that matches are kept; else those with a
    /// value that does not match are left out.
    include: bool,
}

impl<'m> Term<'m> {
    /// The values meant, where they are few and known.
    fn values(&self) -> Option<Vec<&'m str>> {
        let m = self.matcher;
        match (m.kind, self.include) {
            (MatchType::Equal, true) | (MatchType::NotEqual, false) => Some(vec![&m.value]),
            _ if self.is_positive_regexp() => {
                let mut set: Vec<&str> = m.regexp()?.set_matches()?.iter().map(String::as_str).collect();
                set.sort_unstable();
                set.dedup();
                Some(set)
            }
            _ => None,
        }
    }

    /// Whether the values meant are those that the expression matches.
    fn is_positive_regexp(&self) -> bool {
        matches!((self.matcher.kind, self.include), (MatchType::Regexp, true) | (MatchType::NotRegexp, false))
    }

    /// Whether all values are meant.
    fn is_any_value(&self) -> bool {
        let m = self.matcher;
        match m.kind {
            MatchType::Equal | MatchType::NotEqual => m.value.is_empty(),
            _ => self.is_positive_regexp() && m.value == ".+",
        }
    }

    /// The lists of all values meant, found by looking at each value of the name.
    fn scan<'i>(
        &self,
        index: &'i Index,
        range: &NameRange,
        control: &Control,
    ) -> Result<Vec<RawPostings<'i>>, StorageError> {
        let any = self.is_any_value();
        let prefix = match self.matcher.regexp() {
            Some(re) if self.is_positive_regexp() => re.prefix(),
            _ => "",
        };
        let mut offsets = Vec::new();
        let mut stopped = Ok(());
        let mut seen = 0usize;
        let walked = index.table()?.each_from(index.bytes(), range, prefix.as_bytes(), |value, offset| {
            seen += 1;
            if seen.is_multiple_of(4096) {
                stopped = control.check("label value matching");
                if stopped.is_err() {
                    return ControlFlow::Break(());
                }
            }
            if !value.starts_with(prefix.as_bytes()) {
                let past = value > prefix.as_bytes();
                return if past { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            }
            let wanted = !value.is_empty()
                && (any || std::str::from_utf8(value).is_ok_and(|v| self.matcher.matches(v) == self.include));
            if wanted {
                offsets.push(offset);
            }
            ControlFlow::Continue(())
        });
        walked.map_err(|d| index.corrupt(d))?;
        stopped?;
        offsets.into_iter().map(|o| index.postings(o)).collect()
    }
}

/// Keeps of `base` what is in some list (`keep`), or in none.
fn restrict(base: &mut Vec<u32>, lists: &[RawPostings<'_>], keep: bool) {
    let total: usize = lists.iter().map(|l| l.len()).sum();
    let each_alone = lists.len() <= 1 || base.len().saturating_mul(lists.len()) < total / 2;
    match (each_alone, keep) {
        (true, false) => lists.iter().for_each(|l| filter(base, *l, false)),
        (true, true) => {
            let mut out = Vec::new();
            for list in lists {
                let mut part = base.clone();
                filter(&mut part, *list, true);
                out.append(&mut part);
            }
            out.sort();
            out.dedup();
            *base = out;
        }
        (false, _) => filter_sorted(base, &union(lists), keep),
    }
}

/// The series that may satisfy `matchers`.
pub(crate) fn candidates<'m>(
    index: &Index,
    matchers: &'m [Matcher],
    control: &Control,
) -> Result<Candidates<'m>, StorageError> {
    let none = || Ok(Candidates { references: Vec::new(), deferred: Vec::new() });
    let mut terms = Vec::with_capacity(matchers.len());
    for m in matchers {
        match (m.kind, m.value.as_str()) {
            (MatchType::Regexp, ".*") => continue,
            (MatchType::NotRegexp, ".*") => return none(),
            _ => terms.push(Term { matcher: m, include: !m.matches("") }),
        }
    }
    let table = index.table()?;
    let bytes = index.bytes();

    // Lists of known values, those to keep first: they are read without looking at other values.
    let mut singles = Vec::new();
    let mut unions = Vec::new();
    let mut exclusions = Vec::new();
    let mut scans = Vec::new();
    for term in terms {
        let range = table.find(bytes, &term.matcher.name);
        let Some(range) = range else {
            if term.include {
                return none();
            }
            continue;
        };
        let Some(values) = term.values() else {
            scans.push((term, range));
            continue;
        };
        let mut lists = Vec::with_capacity(values.len());
        for value in values {
            if let Some(offset) = table.postings_offset(bytes, range, value).map_err(|d| index.corrupt(d))? {
                lists.push(index.postings(offset)?);
            }
        }
        match (term.include, lists.as_slice()) {
            (true, []) => return none(),
            (true, [one]) => singles.push(*one),
            (true, _) => unions.push(lists),
            (false, _) => exclusions.extend(lists),
        }
    }

    let mut base: Option<Vec<u32>> = None;
    singles.sort_by_key(|l| l.len());
    for list in singles {
        match &mut base {
            None => base = Some(list.to_vec()),
            Some(base) => filter(base, list, true),
        }
    }
    for lists in unions {
        match &mut base {
            None => base = Some(union(&lists)),
            Some(base) => restrict(base, &lists, true),
        }
    }
    // Expressions over values: those to keep first, those that keep everything that has the label last.
    scans.sort_by_key(|(term, range)| (!term.include, term.is_any_value(), range.count));
    let mut deferred = Vec::new();
    for (term, range) in scans {
        if base.as_ref().is_some_and(Vec::is_empty) {
            return none();
        }
        match &mut base {
            // Fewer series than values: ask the series, which are read anyway.
            Some(base) if base.len() <= range.count.saturating_mul(4) && deferred.len() < 32 => {
                deferred.push(term.matcher);
            }
            Some(base) => restrict(base, &term.scan(index, range, control)?, term.include),
            None => {
                let lists = term.scan(index, range, control)?;
                if term.include {
                    base = Some(union(&lists));
                } else {
                    let mut all = index.all_postings()?.to_vec();
                    restrict(&mut all, &lists, false);
                    base = Some(all);
                }
            }
        }
    }
    let mut references = match base {
        Some(base) => base,
        None => index.all_postings()?.to_vec(),
    };
    restrict(&mut references, &exclusions, false);
    Ok(Candidates { references, deferred })
}

/// A series that satisfies all matchers.
pub(crate) struct Found<'a> {
    /// Its reference.
    pub(crate) reference: u32,
    /// Its labels as symbol references.
    pub(crate) labels: &'a [(u32, u32)],
    /// Where its list of chunks starts in the index.
    pub(crate) chunks_at: u64,
}

impl Candidates<'_> {
    /// Calls `each` for the candidates that satisfy the deferred matchers too.
    pub(crate) fn each_series(
        &self,
        index: &Index,
        control: &Control,
        mut each: impl FnMut(Found<'_>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut names = RefMap::new(index)?;
        let mut verdicts =
            self.deferred.iter().map(|_| RefMap::new(index)).collect::<Result<Vec<_>, StorageError>>()?;
        let absent_fails: u32 =
            self.deferred.iter().enumerate().filter(|(_, m)| !m.matches("")).map(|(i, _)| 1u32 << i).sum();
        let mut labels = Vec::new();
        'series: for (n, reference) in self.references.iter().enumerate() {
            if n.is_multiple_of(4096) {
                control.check("series selection")?;
            }
            let entry = index.series(*reference)?;
            let mut c = entry.cursor;
            labels.clear();
            for _ in 0..entry.labels {
                match (c.uvarint(), c.uvarint()) {
                    (Some(name), Some(value)) => labels.push((name as u32, value as u32)),
                    _ => return Err(index.cut_series(c.pos())),
                }
            }
            if !self.deferred.is_empty() {
                let mut absent = absent_fails;
                for (name, value) in &labels {
                    let asked = self.asked(index, &mut names, *name)?;
                    if asked == 0 {
                        continue;
                    }
                    absent &= !asked;
                    for (i, m) in self.deferred.iter().enumerate().filter(|(i, _)| asked & 1 << i != 0) {
                        let verdict = match verdicts[i].get(*value) {
                            0 => {
                                let v = 1 + u32::from(m.matches(index.symbol(*value)?));
                                verdicts[i].set(*value, v);
                                v
                            }
                            v => v,
                        };
                        if verdict == 1 {
                            continue 'series;
                        }
                    }
                }
                if absent != 0 {
                    continue;
                }
            }
            each(Found { reference: *reference, labels: &labels, chunks_at: c.pos() as u64 })?;
        }
        Ok(())
    }

    /// Which deferred matchers are about a name, as bits.
    fn asked(&self, index: &Index, names: &mut RefMap, name: u32) -> Result<u32, StorageError> {
        let known = names.get(name);
        if known != 0 {
            // One is added where that fits; 32 matchers on one label are asked each time anew.
            return Ok(known - 1);
        }
        let text = index.symbol(name)?;
        let bits = self
            .deferred
            .iter()
            .enumerate()
            .filter(|(_, m)| m.name == text)
            .map(|(i, _)| 1u32 << i)
            .sum::<u32>();
        names.set(name, bits.wrapping_add(1));
        Ok(bits)
    }
}
