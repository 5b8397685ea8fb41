//! String tests in place of an automaton: sets of values, prefixes, suffixes, and texts in order with gaps.
//!
//! An expression is expanded into the list of the simple sequences it stands for, each made of literals,
//! case-insensitive literals and gaps (`.*`, `.+`). Most matchers of dashboards and alerts are such a list.

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use memchr::memmem;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

/// Values multiplied out of classes and groups (`a[0-9]b[0-9]`) beyond this are left to the automaton.
const MAX_PRODUCT: usize = 256;
/// Alternatives beyond this are left to the automaton.
const MAX_ALTERNATIVES: usize = 500_000;
/// Sequences with gaps or folded case are tried one by one; beyond this an automaton is faster.
const MAX_PATTERNS: usize = 32;
/// Sets up to this size are searched one by one.
const SMALL_SET: usize = 4;

/// A character in all its cases. Unused places repeat the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Orbit([char; 4]);

impl Orbit {
    fn contains(self, c: char) -> bool {
        self.0.contains(&c)
    }

    /// The orbit a class consists of, if it is one of more than one character.
    fn of_class(class: &ClassUnicode) -> Option<Self> {
        let mut chars = class.iter().flat_map(|r| r.start()..=r.end());
        let first = chars.next()?;
        let mut orbit = [first; 4];
        let mut len = 1;
        for c in chars {
            *orbit.get_mut(len)? = c;
            len += 1;
        }
        let mut closed = ClassUnicode::new([ClassUnicodeRange::new(first, first)]);
        closed.try_case_fold_simple().ok()?;
        (len > 1 && closed == *class).then_some(Self(orbit))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(String),
    Folded(Vec<Orbit>),
    /// At least so many arbitrary characters.
    Gap(u32),
}

type Sequence = Vec<Item>;

/// A literal or folded text to be found in a value.
#[derive(Clone, Debug)]
enum Needle {
    Exact(Box<memmem::Finder<'static>>),
    Folded(Vec<Orbit>),
}

impl Needle {
    fn new(item: &Item) -> Option<Self> {
        match item {
            Item::Literal(s) => Some(Self::Exact(Box::new(memmem::Finder::new(s).into_owned()))),
            Item::Folded(orbits) => Some(Self::Folded(orbits.clone())),
            Item::Gap(_) => None,
        }
    }

    /// The rest behind this text, if `value` starts with it.
    fn strip_front<'v>(&self, value: &'v str) -> Option<&'v str> {
        match self {
            Self::Exact(finder) => {
                let len = finder.needle().len();
                value.as_bytes().starts_with(finder.needle()).then(|| &value[len..])
            }
            Self::Folded(orbits) => {
                let mut chars = value.chars();
                orbits.iter().all(|o| chars.next().is_some_and(|c| o.contains(c))).then_some(chars.as_str())
            }
        }
    }

    /// The rest in front of this text, if `value` ends with it.
    fn strip_back<'v>(&self, value: &'v str) -> Option<&'v str> {
        match self {
            Self::Exact(finder) => {
                let needle = finder.needle();
                value.as_bytes().ends_with(needle).then(|| &value[..value.len() - needle.len()])
            }
            Self::Folded(orbits) => {
                let mut chars = value.chars();
                orbits
                    .iter()
                    .rev()
                    .all(|o| chars.next_back().is_some_and(|c| o.contains(c)))
                    .then_some(chars.as_str())
            }
        }
    }

    /// The rest behind the first occurrence.
    fn find<'v>(&self, value: &'v str) -> Option<&'v str> {
        match self {
            Self::Exact(finder) => {
                finder.find(value.as_bytes()).map(|at| &value[at + finder.needle().len()..])
            }
            Self::Folded(_) => value
                .char_indices()
                .map(|(i, _)| &value[i..])
                .chain([""])
                .find_map(|rest| self.strip_front(rest)),
        }
    }
}

fn skip_chars(value: &str, count: u32) -> Option<&str> {
    let mut chars = value.chars();
    for _ in 0..count {
        chars.next()?;
    }
    Some(chars.as_str())
}

/// One sequence, ready to be compared: a fixed beginning, texts behind gaps, a fixed end.
#[derive(Clone, Debug)]
struct Pattern {
    front: Vec<Needle>,
    /// Each text with the least number of characters in front of it. Empty and without a tail: no gap at all.
    middle: Vec<(u32, Vec<Needle>)>,
    /// The least number of characters of the last gap; `None` if there is none.
    last_gap: Option<u32>,
    back: Vec<Needle>,
}

impl Pattern {
    /// `None` if a text between gaps mixes literal and folded parts, which a plain search cannot find.
    fn new(sequence: &Sequence) -> Option<Self> {
        let mut parts: Vec<(u32, Vec<Needle>)> = vec![(0, Vec::new())];
        let mut gaps = 0;
        for item in sequence {
            match (item, parts.last_mut()) {
                (Item::Gap(least), _) => {
                    gaps += 1;
                    parts.push((*least, Vec::new()));
                }
                (item, Some((_, needles))) => needles.extend(Needle::new(item)),
                _ => return None,
            }
        }
        let mut parts = parts.into_iter();
        let (_, front) = parts.next()?;
        let mut middle: Vec<_> = parts.collect();
        let (last_gap, back) = match middle.pop() {
            Some((least, needles)) => (Some(least), needles),
            None => (None, Vec::new()),
        };
        debug_assert_eq!(gaps == 0, last_gap.is_none());
        middle.iter().all(|(_, needles)| needles.len() == 1).then_some(Self { front, middle, last_gap, back })
    }

    fn matches(&self, value: &str) -> bool {
        let mut rest = value;
        for needle in &self.front {
            let Some(tail) = needle.strip_front(rest) else { return false };
            rest = tail;
        }
        let Some(last_gap) = self.last_gap else { return rest.is_empty() };
        for needle in self.back.iter().rev() {
            let Some(head) = needle.strip_back(rest) else { return false };
            rest = head;
        }
        // The leftmost occurrence leaves the most room for what follows.
        for (least, needles) in &self.middle {
            let Some(tail) = skip_chars(rest, *least) else { return false };
            let Some(tail) = needles[0].find(tail) else { return false };
            rest = tail;
        }
        last_gap == 0 || skip_chars(rest, last_gap).is_some()
    }
}

/// A test that needs no automaton.
#[derive(Clone, Debug)]
pub(super) struct StringTest {
    /// The values that match exactly, sorted.
    values: Vec<String>,
    index: Option<HashSet<String, RandomState>>,
    patterns: Vec<Pattern>,
    /// What every match starts with.
    prefix: String,
}

impl StringTest {
    /// A test for exactly these values.
    pub(super) fn of_values(mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        let index = (values.len() > SMALL_SET).then(|| values.iter().cloned().collect());
        // Of a sorted list the first and the last value share what all share.
        let prefix = match (values.first(), values.last()) {
            (Some(first), Some(last)) => common_prefix(first, last).to_string(),
            _ => String::new(),
        };
        Self { values, index, patterns: Vec::new(), prefix }
    }

    /// The test that decides like the expression, if it is simple enough.
    pub(super) fn of_expression(hir: &Hir) -> Option<Self> {
        let sequences = expand(trim_anchors(hir).as_slice())?;
        let (mut values, mut patterns, mut fronts) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in sequences {
            match merge(sequence).as_mut_slice() {
                [] => values.push(String::new()),
                [Item::Literal(s)] => values.push(std::mem::take(s)),
                items => {
                    if patterns.len() == MAX_PATTERNS {
                        return None;
                    }
                    fronts.push(match &items[0] {
                        Item::Literal(s) => s.clone(),
                        _ => String::new(),
                    });
                    patterns.push(Pattern::new(&items.to_vec())?);
                }
            }
        }
        let mut test = Self::of_values(values);
        if !patterns.is_empty() {
            if !test.values.is_empty() {
                fronts.push(std::mem::take(&mut test.prefix));
            }
            let first = fronts.first().cloned().unwrap_or_default();
            test.prefix = fronts.iter().fold(first, |p, front| common_prefix(&p, front).to_string());
        }
        test.patterns = patterns;
        Some(test)
    }

    pub(super) fn is_match(&self, value: &str) -> bool {
        let listed = match &self.index {
            Some(index) => index.contains(value),
            None => self.values.iter().any(|v| v == value),
        };
        listed || self.patterns.iter().any(|p| p.matches(value))
    }

    /// What every match starts with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// All values that match, if they are finitely many.
    pub(super) fn values(&self) -> Option<&[String]> {
        self.patterns.is_empty().then_some(self.values.as_slice())
    }
}

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let end = a
        .char_indices()
        .zip(b.chars())
        .find(|((_, x), y)| x != y)
        .map_or(a.len().min(b.len()), |((i, _), _)| i);
    &a[..end]
}

/// The parts of a top-level sequence without `^` in front and `$` behind, which change nothing because the
/// whole value has to match anyway.
fn trim_anchors(hir: &Hir) -> Vec<&Hir> {
    let parts: Vec<&Hir> = match hir.kind() {
        HirKind::Concat(parts) => parts.iter().collect(),
        _ => vec![hir],
    };
    let is = |part: &&&Hir, look: Look| *part.kind() == HirKind::Look(look);
    let front = parts.iter().take_while(|p| is(p, Look::Start)).count();
    let back = parts[front..].iter().rev().take_while(|p| is(p, Look::End)).count();
    parts[front..parts.len() - back].to_vec()
}

fn expand(parts: &[&Hir]) -> Option<Vec<Sequence>> {
    let mut sequences: Vec<Sequence> = vec![Vec::new()];
    for part in parts {
        let choices = expand_one(part)?;
        if sequences.len() > 1 && choices.len() > 1 && sequences.len() * choices.len() > MAX_PRODUCT {
            return None;
        }
        sequences = match choices.as_slice() {
            [] => return Some(Vec::new()),
            [only] => {
                sequences.iter_mut().for_each(|s| s.extend(only.iter().cloned()));
                sequences
            }
            _ => sequences.iter().flat_map(|s| choices.iter().map(|c| [s.as_slice(), c].concat())).collect(),
        };
    }
    Some(sequences)
}

fn expand_one(hir: &Hir) -> Option<Vec<Sequence>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(literal) => {
            Some(vec![vec![Item::Literal(std::str::from_utf8(&literal.0).ok()?.to_string())]])
        }
        HirKind::Class(Class::Unicode(class)) => {
            if let Some(orbit) = Orbit::of_class(class) {
                return Some(vec![vec![Item::Folded(vec![orbit])]]);
            }
            if class.iter().map(ClassUnicodeRange::len).sum::<usize>() > MAX_PRODUCT {
                return None;
            }
            let chars = class.iter().flat_map(|r| r.start()..=r.end());
            Some(chars.map(|c| vec![Item::Literal(c.to_string())]).collect())
        }
        HirKind::Repetition(Repetition { min, max: None, sub, .. }) if is_any_char(sub) => {
            Some(vec![vec![Item::Gap(*min)]])
        }
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            let mut sequences = expand_one(sub)?;
            sequences.push(Vec::new());
            Some(sequences)
        }
        HirKind::Capture(capture) => expand_one(&capture.sub),
        HirKind::Concat(parts) => expand(&parts.iter().collect::<Vec<_>>()),
        HirKind::Alternation(parts) => {
            let mut sequences = Vec::new();
            for part in parts {
                sequences.extend(expand_one(part)?);
                if sequences.len() > MAX_ALTERNATIVES {
                    return None;
                }
            }
            Some(sequences)
        }
        _ => None,
    }
}

fn is_any_char(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Class(Class::Unicode(class))
        if matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX))
}

/// Joins neighbours of one kind.
fn merge(sequence: Sequence) -> Sequence {
    let mut merged: Sequence = Vec::with_capacity(sequence.len());
    for item in sequence {
        match (merged.last_mut(), item) {
            (Some(Item::Literal(a)), Item::Literal(b)) => a.push_str(&b),
            (Some(Item::Folded(a)), Item::Folded(b)) => a.extend(b),
            (Some(Item::Gap(a)), Item::Gap(b)) => *a = a.saturating_add(b),
            (_, item) => merged.push(item),
        }
    }
    merged
}

/// Literals that every match of an expression has: cheap reasons to say no before the automaton is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Required {
    pub(super) prefix: String,
    suffix: String,
    inner: Vec<memmem::Finder<'static>>,
}

impl Required {
    pub(super) fn of_expression(hir: &Hir) -> Self {
        let parts = trim_anchors(hir);
        let literal = |hir: &Hir| match hir.kind() {
            HirKind::Literal(l) => std::str::from_utf8(&l.0).map(str::to_string).unwrap_or_default(),
            _ => String::new(),
        };
        let mut required = Self::default();
        for (i, part) in parts.iter().enumerate() {
            let text = literal(part);
            if i == 0 {
                required.prefix = text;
            } else if i + 1 == parts.len() {
                required.suffix = text;
            } else if !text.is_empty() {
                required.inner.push(memmem::Finder::new(&text).into_owned());
            }
        }
        required
    }

    pub(super) fn allows(&self, value: &str) -> bool {
        let Some(rest) = value.strip_prefix(&self.prefix) else { return false };
        let Some(rest) = rest.strip_suffix(&self.suffix) else { return false };
        let mut rest = rest.as_bytes();
        self.inner.iter().all(|finder| match finder.find(rest) {
            Some(at) => {
                rest = &rest[at + finder.needle().len()..];
                true
            }
            None => false,
        })
    }
}

/// Whether an expression is literals and `|` only, and so needs no parsing.
pub(super) fn plain_alternatives(source: &str) -> Option<Vec<String>> {
    let plain = source.bytes().all(|b| !br"\.+*?()[]{}^$".contains(&b));
    plain.then(|| source.split('|').map(str::to_string).collect())
}
