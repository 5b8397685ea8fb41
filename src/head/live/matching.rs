//! From matchers to live series: which lists are read, in which order, and what is cheaper to ask of the series.

use hashbrown::HashMap;
use tsdbctl_model::{MatchType, Matcher};
use tsdbctl_storage::Control;
use tsdbctl_storage::control::ControlError;

use crate::live::index::{Index, PairSet, SeriesId};
use crate::live::postings::{Postings, filter, runs_of, union};

/// So many bytes of a list are read in the time that one series is asked for its pairs.
const ASK_BYTES: usize = 16;
/// Values or series between two looks at the control.
const CHECK_EVERY: usize = 4096;

/// One matcher as a set of label values whose series are kept, or left out.
struct Term<'m> {
    matcher: &'m Matcher,
    /// Whether series without the label are out. Then those with a value that matches are kept; else those with a
    /// value that does not match are left out.
    include: bool,
}

impl<'m> Term<'m> {
    /// Whether the values meant are those that the expression matches.
    fn is_positive_regexp(&self) -> bool {
        matches!((self.matcher.kind, self.include), (MatchType::Regexp, true) | (MatchType::NotRegexp, false))
    }

    /// The values meant, where they are few and known.
    fn values(&self) -> Option<Vec<&'m str>> {
        let m = self.matcher;
        match (m.kind, self.include) {
            (MatchType::Equal, true) | (MatchType::NotEqual, false) => Some(vec![&m.value]),
            _ if self.is_positive_regexp() => {
                Some(m.regexp()?.set_matches()?.iter().map(String::as_str).collect())
            }
            _ => None,
        }
    }

    /// Whether all values are meant.
    fn is_any_value(&self) -> bool {
        let m = self.matcher;
        match m.kind {
            MatchType::Equal | MatchType::NotEqual => m.value.is_empty(),
            _ => self.is_positive_regexp() && m.value == ".+",
        }
    }

    /// Whether a value is meant.
    fn means(&self, value: &str) -> bool {
        self.matcher.matches(value) == self.include
    }
}

impl Index {
    /// Live series that satisfy all matchers, ascending.
    ///
    /// # Errors
    /// If the control says stop.
    pub fn select(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<SeriesId>, ControlError> {
        let mut groups: Vec<(usize, Vec<u32>)> = Vec::new();
        let mut excluded = Vec::new();
        let mut scans = Vec::new();
        for matcher in matchers {
            match (matcher.kind, matcher.value.as_str()) {
                (MatchType::Regexp, ".*") => continue,
                (MatchType::NotRegexp, ".*") => return Ok(Vec::new()),
                _ => {}
            }
            let term = Term { matcher, include: !matcher.matches("") };
            let Some(name) = self.pairs.name(&matcher.name) else {
                if term.include {
                    return Ok(Vec::new());
                }
                continue;
            };
            let Some(values) = term.values() else {
                scans.push((term, name));
                continue;
            };
            let mut pairs: Vec<u32> =
                values.into_iter().filter_map(|v| self.pairs.find(&matcher.name, v)).collect();
            pairs.sort_unstable();
            pairs.dedup();
            match (term.include, pairs.is_empty()) {
                (true, true) => return Ok(Vec::new()),
                (true, false) => groups.push((self.series_count(&pairs), pairs)),
                (false, _) => excluded.append(&mut pairs),
            }
        }

        groups.sort_unstable_by_key(|(count, _)| *count);
        let mut base: Option<Vec<u32>> = None;
        for (_, pairs) in groups {
            base = Some(match base {
                None => union(&self.lists(&pairs)),
                Some(base) => self.restrict(base, &pairs, true, control)?,
            });
        }
        // Expressions over values: those to keep first, those that keep everything that has the label last.
        scans.sort_by_key(|(term, name)| (!term.include, term.is_any_value(), self.pairs.value_count(*name)));
        for (term, name) in scans {
            if base.as_ref().is_some_and(Vec::is_empty) {
                return Ok(Vec::new());
            }
            base = Some(match base {
                Some(base) if base.len() <= self.pairs.value_count(name) => {
                    self.ask_series(base, &term, name, control)?
                }
                Some(base) => {
                    self.restrict(base, &self.scan(&term, name, control)?, term.include, control)?
                }
                None if term.include => union(&self.lists(&self.scan(&term, name, control)?)),
                None => self.restrict(self.all(), &self.scan(&term, name, control)?, false, control)?,
            });
        }
        let found = self.restrict(base.unwrap_or_else(|| self.all()), &excluded, false, control)?;
        Ok(found.into_iter().map(SeriesId).collect())
    }

    fn all(&self) -> Vec<u32> {
        let mut all = Vec::with_capacity(self.len());
        all.extend(self.places.iter().map(|(id, _)| id));
        all
    }

    fn lists(&self, pairs: &[u32]) -> Vec<&Postings> {
        pairs.iter().filter_map(|p| self.pairs.series(*p)).collect()
    }

    fn series_count(&self, pairs: &[u32]) -> usize {
        pairs.iter().filter_map(|p| self.pairs.series(*p)).map(Postings::len).sum()
    }

    fn list_bytes(&self, pair: u32) -> usize {
        self.pairs.series(pair).map_or(0, Postings::bytes)
    }

    /// The pairs of a name whose values are meant.
    fn scan(&self, term: &Term<'_>, name: u32, control: &Control) -> Result<Vec<u32>, ControlError> {
        let any = term.is_any_value();
        let prefix = match term.matcher.regexp() {
            Some(re) if term.is_positive_regexp() => re.prefix(),
            _ => "",
        };
        let mut found = Vec::new();
        for (i, pair) in self.pairs.of_name(name).enumerate() {
            if i.is_multiple_of(CHECK_EVERY) {
                control.check("label value matching")?;
            }
            let value = self.pairs.text(pair).1;
            if !value.is_empty() && (any || value.starts_with(prefix) && term.means(value)) {
                found.push(pair);
            }
        }
        Ok(found)
    }

    /// Keeps of `base` the series that have one of the pairs (`keep`), or none of them.
    fn restrict(
        &self,
        mut base: Vec<u32>,
        pairs: &[u32],
        keep: bool,
        control: &Control,
    ) -> Result<Vec<u32>, ControlError> {
        control.check("series selection")?;
        match pairs {
            [] if keep => base.clear(),
            [] => {}
            [one] if base.len() >= self.list_bytes(*one) / ASK_BYTES => {
                filter(&mut base, self.pairs.series(*one).into_iter().flat_map(Postings::runs), keep);
            }
            _ if base.len() < self.series_count(pairs) / 4 => {
                let mut wanted = PairSet::new(self.pairs.count());
                pairs.iter().for_each(|p| wanted.add(*p));
                let has = |id: u32| self.pair_numbers(SeriesId(id)).any(|p| wanted.has(p)) == keep;
                base = keep_series(base, control, has)?;
            }
            _ => filter(&mut base, runs_of(&union(&self.lists(pairs))), keep),
        }
        Ok(base)
    }

    /// Keeps the series whose own value of the name is as the term wants it. Each value is looked at once.
    fn ask_series(
        &self,
        base: Vec<u32>,
        term: &Term<'_>,
        name: u32,
        control: &Control,
    ) -> Result<Vec<u32>, ControlError> {
        let mut known: HashMap<u32, bool, foldhash::fast::FixedState> = HashMap::default();
        keep_series(base, control, |id| {
            let pair = self.pair_numbers(SeriesId(id)).find(|p| self.pairs.name_of(*p) == name);
            let means = pair.is_some_and(|pair| {
                *known.entry(pair).or_insert_with(|| term.means(self.pairs.text(pair).1))
            });
            means == term.include
        })
    }

    /// All label names of live series that satisfy all matchers, sorted.
    ///
    /// # Errors
    /// If the control says stop.
    pub fn matching_names(
        &self,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, ControlError> {
        if matchers.is_empty() {
            return Ok(self.label_names());
        }
        let mut seen = PairSet::new(self.pairs.count());
        let mut names = vec![false; self.pairs.name_count()];
        for id in self.select(matchers, control)? {
            for pair in self.pair_numbers(id) {
                if !seen.has(pair) {
                    seen.add(pair);
                    names[self.pairs.name_of(pair) as usize] = true;
                }
            }
        }
        let numbers = (0u32..).zip(names).filter(|(_, seen)| *seen);
        let mut names: Vec<String> = numbers.map(|(n, _)| self.pairs.name_text(n).to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// All values of a name among live series that satisfy all matchers, sorted.
    ///
    /// # Errors
    /// If the control says stop.
    pub fn matching_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, ControlError> {
        let Some(number) = self.pairs.name(name) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        if matchers.iter().all(|m| m.name == name) {
            for (i, pair) in self.pairs.of_name(number).enumerate() {
                if i.is_multiple_of(CHECK_EVERY) {
                    control.check("label value matching")?;
                }
                let value = self.pairs.text(pair).1;
                if matchers.iter().all(|m| m.matches(value)) {
                    found.push(value.to_string());
                }
            }
        } else {
            let mut wanted = PairSet::new(self.pairs.count());
            self.pairs.of_name(number).for_each(|pair| wanted.add(pair));
            let mut seen = PairSet::new(self.pairs.count());
            for id in self.select(matchers, control)? {
                let pair = self.pair_numbers(id).find(|p| wanted.has(*p));
                if let Some(pair) = pair.filter(|p| !seen.has(*p)) {
                    seen.add(pair);
                    found.push(self.pairs.text(pair).1.to_string());
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Keeps the series that pass, looking at the control now and then.
fn keep_series(
    base: Vec<u32>,
    control: &Control,
    mut passes: impl FnMut(u32) -> bool,
) -> Result<Vec<u32>, ControlError> {
    let mut kept = Vec::new();
    for part in base.chunks(CHECK_EVERY) {
        control.check("series selection")?;
        kept.extend(part.iter().copied().filter(|id| passes(*id)));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Numbers that repeat from run to run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    type Set = BTreeMap<&'static str, String>;

    fn label_set(numbers: &mut Numbers) -> Set {
        let mut set = Set::new();
        for (i, name) in NAMES.iter().enumerate() {
            let spread = [2, 5, 30, 400, 3][i];
            if numbers.below(5) > 0 {
                set.insert(name, format!("v{}", numbers.below(spread)));
            }
        }
        set
    }

    fn matcher(numbers: &mut Numbers) -> Matcher {
        const KINDS: [MatchType; 4] =
            [MatchType::Equal, MatchType::NotEqual, MatchType::Regexp, MatchType::NotRegexp];
        let names = ["a", "b", "c", "d", "e", "absent"];
        let kind = KINDS[numbers.below(4) as usize];
        let value = match kind {
            MatchType::Equal | MatchType::NotEqual => match numbers.below(4) {
                0 => String::new(),
                _ => format!("v{}", numbers.below(6)),
            },
            _ => {
                let fixed = [
                    "", ".*", ".+", "v1|v2|v3", "v1.*", "v.*5", "v1|", "(v2|v4)?", ".*1", "w.*", "[^v]*",
                    "v[0-9]",
                ];
                fixed[numbers.below(fixed.len() as u64) as usize].to_string()
            }
        };
        Matcher::new(kind, names[numbers.below(6) as usize], value).unwrap()
    }

    #[test]
    fn selections_names_and_values_are_those_of_looking_at_every_series() {
        for seed in 0..2 {
            let mut numbers = Numbers(seed);
            let mut index = Index::default();
            let mut model: BTreeMap<u32, Set> = BTreeMap::new();
            let control = Control::default();
            for round in 0..6 {
                for _ in 0..[30, 900][seed as usize % 2] {
                    let set = label_set(&mut numbers);
                    let labels = set.iter().map(|(n, v)| (*n, v.as_str()));
                    let known = model.iter().find(|(_, s)| **s == set).map(|(id, _)| *id);
                    assert_eq!(index.find(labels.clone()).map(|id| id.0), known);
                    let (id, is_new) = index.find_or_create(labels);
                    assert_eq!((Some(id.0), is_new), (known.or(Some(id.0)), known.is_none()));
                    model.insert(id.0, set);
                }
                if round % 2 == 1 {
                    let every = 2 + numbers.below(20) as u32;
                    let gone: Vec<SeriesId> =
                        model.keys().filter(|id| *id % every != 1).map(|id| SeriesId(*id)).collect();
                    index.remove(&gone);
                    gone.iter().for_each(|id| drop(model.remove(&id.0)));
                }
                for (id, set) in &model {
                    assert!(index.labels(SeriesId(*id)).eq(set.iter().map(|(n, v)| (*n, v.as_str()))));
                }
                for _ in 0..60 {
                    let matchers: Vec<Matcher> =
                        (0..numbers.below(4)).map(|_| matcher(&mut numbers)).collect();
                    let value = |set: &Set, name: &str| set.get(name).cloned().unwrap_or_default();
                    let fits = |set: &Set| matchers.iter().all(|m| m.matches(&value(set, &m.name)));
                    let want: Vec<SeriesId> =
                        model.iter().filter(|(_, s)| fits(s)).map(|(id, _)| SeriesId(*id)).collect();
                    let text: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                    assert_eq!(index.select(&matchers, &control).unwrap(), want, "{text:?}");
                    let sets = || model.values().filter(|s| fits(s));
                    let mut names: Vec<&str> = sets().flat_map(|s| s.keys().copied()).collect();
                    names.sort_unstable();
                    names.dedup();
                    assert_eq!(index.matching_names(&matchers, &control).unwrap(), names, "{text:?}");
                    for name in ["a", "d", "absent"] {
                        let mut values: Vec<String> = sets().filter_map(|s| s.get(name).cloned()).collect();
                        values.sort_unstable();
                        values.dedup();
                        assert_eq!(
                            index.matching_values(name, &matchers, &control).unwrap(),
                            values,
                            "{name} {text:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_interrupted_selection_stops() {
        let mut index = Index::default();
        index.find_or_create([("a", "b")].into_iter());
        let control = Control::default();
        control.interrupt.set();
        let scan = [Matcher::new(MatchType::Regexp, "a", "b.*").unwrap()];
        assert!(index.select(&scan, &control).is_err());
    }
}
