//! Expressions as lists of simple sequences: literals, literals in any case, characters of a set, and gaps.
//!
//! Most matchers of dashboards and alerts are such a list, and a list needs no automaton.

use std::sync::Arc;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look, Repetition};

/// Sequences multiplied out of groups (`(a|b)-(c|d)`) beyond this, and beyond a few times the largest group,
/// are left to the automaton.
const MAX_PRODUCT: usize = 1024;
/// A bounded repetition of a group with more different lengths than this is left to the automaton.
const MAX_LENGTHS: u32 = 16;
/// Alternatives beyond this are left to the automaton.
const MAX_ALTERNATIVES: usize = 500_000;
/// What the sequences of one expression may take, about in bytes.
const MAX_EXPANSION: usize = 64 << 20;

/// A character in all its cases. Unused places repeat the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Orbit([char; 4]);

impl Orbit {
    pub(super) fn contains(self, c: char) -> bool {
        self.0.contains(&c)
    }

    /// The characters, each once.
    pub(super) fn chars(self) -> impl Iterator<Item = char> {
        (0..4).filter(move |i| *i == 0 || self.0[*i] != self.0[0]).map(move |i| self.0[i])
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

/// Characters by inclusive ranges, in order, with a bit for each that is ASCII.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CharSet {
    ascii: u128,
    ranges: Vec<(char, char)>,
}

/// What one character may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// Anything.
    Any,
    /// One of these.
    Of(Arc<CharSet>),
}

impl Set {
    fn new(class: &ClassUnicode) -> Self {
        let ranges: Vec<_> = class.iter().map(|r| (r.start(), r.end())).collect();
        if ranges == [('\0', char::MAX)] {
            return Self::Any;
        }
        let ascii = ranges.iter().flat_map(|(a, b)| *a..=(*b).min('\x7f')).fold(0, |m, c| m | 1 << c as u32);
        Self::Of(Arc::new(CharSet { ascii, ranges }))
    }

    #[inline]
    pub(super) fn contains(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Of(set) if c.is_ascii() => set.ascii >> c as u32 & 1 == 1,
            Self::Of(set) => {
                let at = set.ranges.partition_point(|(_, end)| *end < c);
                set.ranges.get(at).is_some_and(|(start, _)| *start <= c)
            }
        }
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        let (Self::Of(a), Self::Of(b)) = (self, other) else { return false };
        a.ranges.iter().all(|(start, end)| {
            let at = b.ranges.partition_point(|(_, e)| e < start);
            b.ranges.get(at).is_none_or(|(s, _)| s > end)
        })
    }

    /// The characters, if they are at most `limit`.
    pub(super) fn chars(&self, limit: usize) -> Option<Vec<char>> {
        let Self::Of(set) = self else { return None };
        let count: usize = set.ranges.iter().map(|(a, b)| *b as usize - *a as usize + 1).sum();
        (count <= limit).then(|| set.ranges.iter().flat_map(|(a, b)| *a..=*b).collect())
    }
}

/// Between `min` and `max` characters of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gap {
    pub(super) set: Set,
    pub(super) min: u32,
    /// `None`: any number.
    pub(super) max: Option<u32>,
}

impl Gap {
    /// `.*`, `.+` and kin.
    pub(super) fn is_free(&self) -> bool {
        self.set == Set::Any && self.max.is_none()
    }

    /// Whether the whole of `value` fills the gap.
    pub(super) fn is_filled_by(&self, value: &str) -> bool {
        if self.is_free() && self.min <= 1 {
            return self.min == 0 || !value.is_empty();
        }
        let mut count = 0;
        for c in value.chars() {
            if !self.set.contains(c) {
                return false;
            }
            count += 1;
        }
        self.allows(count)
    }

    pub(super) fn allows(&self, count: usize) -> bool {
        count >= self.min as usize && self.max.is_none_or(|max| count <= max as usize)
    }

    /// Whether the gap can only be as wide as there are characters of its set, because `neighbour`, which
    /// follows (or precedes, if not `behind`), takes none of them.
    pub(super) fn is_ended_by(&self, neighbour: &Item, behind: bool) -> bool {
        match neighbour {
            Item::Literal(text) => {
                let c = if behind { text.chars().next() } else { text.chars().next_back() };
                c.is_some_and(|c| !self.set.contains(c))
            }
            Item::Folded(orbits) => {
                let orbit = if behind { orbits.first() } else { orbits.last() };
                orbit.is_some_and(|o| o.chars().all(|c| !self.set.contains(c)))
            }
            Item::Exactly(set, _) => self.set.is_disjoint(set),
            Item::Gap(gap) => gap.min > 0 && self.set.is_disjoint(&gap.set),
            Item::Start | Item::End => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Literal(String),
    Folded(Vec<Orbit>),
    /// So many characters of a set.
    Exactly(Set, u32),
    /// A varying number of characters of a set.
    Gap(Gap),
    /// `^`; gone once [`normal`].
    Start,
    /// `$`; gone once [`normal`].
    End,
}

impl Item {
    fn cost(&self) -> usize {
        match self {
            Self::Literal(text) => 32 + text.len(),
            Self::Folded(orbits) => 32 + 16 * orbits.len(),
            _ => 32,
        }
    }
}

pub(super) type Sequence = Vec<Item>;

/// The sequences of which a value has to match one. `None` if the expression is no such list, or too long a one.
pub(super) fn sequences(hir: &Hir) -> Option<Vec<Sequence>> {
    Expansion { left: MAX_EXPANSION }.expand(hir)?.into_iter().map(normal).collect()
}

/// [`sequences`] of a source of nothing but literals, escaped punctuation, `.`, `.*`, `.+` and `|`, which needs
/// no parser. `None` for all other sources, sound or not.
pub(super) fn sequences_of_source(source: &str) -> Option<Vec<Sequence>> {
    let mut all = Vec::new();
    let mut sequence = Vec::new();
    let mut rest = source;
    loop {
        let plain = rest.find(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$', '|']);
        let (text, tail) = rest.split_at(plain.unwrap_or(rest.len()));
        if !text.is_empty() {
            push_item(&mut sequence, Item::Literal(text.to_string()));
        }
        let bytes = tail.as_bytes();
        let repeats = |at: usize| bytes.get(at).is_some_and(|b| b"*+?{".contains(b));
        match bytes {
            [] => break,
            [b'|', ..] => {
                all.push(std::mem::take(&mut sequence));
                rest = &tail[1..];
                if repeats(1) {
                    return None;
                }
            }
            [b'\\', c, ..] if c.is_ascii_punctuation() && !repeats(2) => {
                push_item(&mut sequence, Item::Literal(char::from(*c).to_string()));
                rest = &tail[2..];
            }
            [b'.', star @ (b'*' | b'+'), ..] if !repeats(2) => {
                let min = u32::from(*star == b'+');
                push_item(&mut sequence, Item::Gap(Gap { set: Set::Any, min, max: None }));
                rest = &tail[2..];
            }
            [b'.', ..] if !repeats(1) => {
                push_item(&mut sequence, Item::Exactly(Set::Any, 1));
                rest = &tail[1..];
            }
            _ => return None,
        }
    }
    all.push(sequence);
    Some(all)
}

struct Expansion {
    left: usize,
}

impl Expansion {
    fn append(&mut self, mut front: Vec<Sequence>, back: &[Sequence]) -> Option<Vec<Sequence>> {
        let cost = |s: &Sequence| 32 + s.iter().map(Item::cost).sum::<usize>();
        let back_cost: usize = back.iter().map(cost).sum();
        self.left = self.left.checked_sub(back_cost.checked_mul(front.len())?)?;
        match back {
            [] => front.clear(),
            [only] => front.iter_mut().for_each(|s| s.extend(only.iter().cloned())),
            _ => {
                let count = front.len().checked_mul(back.len())?;
                if front.len() > 1 && count > MAX_PRODUCT.max(4 * front.len().max(back.len())) {
                    return None;
                }
                let front_cost: usize = front.iter().map(cost).sum();
                self.left = self.left.checked_sub(front_cost.checked_mul(back.len())?)?;
                front = front.iter().flat_map(|s| back.iter().map(|c| [s.as_slice(), c].concat())).collect();
            }
        }
        Some(front)
    }

    fn expand(&mut self, hir: &Hir) -> Option<Vec<Sequence>> {
        let one = |item: Item| Some(vec![vec![item]]);
        match hir.kind() {
            HirKind::Empty => Some(vec![Vec::new()]),
            HirKind::Look(Look::Start) => one(Item::Start),
            HirKind::Look(Look::End) => one(Item::End),
            HirKind::Literal(literal) => one(Item::Literal(String::from_utf8(literal.0.to_vec()).ok()?)),
            HirKind::Class(Class::Unicode(class)) => one(match Orbit::of_class(class) {
                Some(orbit) => Item::Folded(vec![orbit]),
                None => Item::Exactly(Set::new(class), 1),
            }),
            HirKind::Repetition(repetition) => self.repetition(repetition),
            HirKind::Capture(capture) => self.expand(&capture.sub),
            HirKind::Concat(parts) => {
                let mut sequences = vec![Vec::new()];
                for part in parts {
                    let choices = self.expand(part)?;
                    sequences = self.append(sequences, &choices)?;
                }
                Some(sequences)
            }
            HirKind::Alternation(parts) => {
                let mut sequences = Vec::new();
                for part in parts {
                    sequences.extend(self.expand(part)?);
                    if sequences.len() > MAX_ALTERNATIVES {
                        return None;
                    }
                }
                Some(sequences)
            }
            _ => None,
        }
    }

    fn repetition(&mut self, repetition: &Repetition) -> Option<Vec<Sequence>> {
        let Repetition { min, max, sub, .. } = repetition;
        let (min, max) = (*min, *max);
        let is_optional = (min, max) == (0, Some(1));
        let is_short = max.is_some_and(|max| max - min <= MAX_LENGTHS);
        let set = match sub.kind() {
            HirKind::Class(Class::Unicode(class)) if !is_optional => Some(Set::new(class)),
            HirKind::Literal(literal) if !is_short => {
                let mut chars = std::str::from_utf8(&literal.0).ok()?.chars();
                let c = chars.next()?;
                chars.next().is_none().then(|| Set::new(&ClassUnicode::new([ClassUnicodeRange::new(c, c)])))
            }
            _ => None,
        };
        if let Some(set) = set {
            return Some(vec![vec![match max {
                Some(max) if max == min => Item::Exactly(set, min),
                _ => Item::Gap(Gap { set, min, max }),
            }]]);
        }
        if !is_short {
            return None;
        }
        let choices = self.expand(sub)?;
        let mut power = vec![Vec::new()];
        for _ in 0..min {
            power = self.append(power, &choices)?;
        }
        let mut sequences = power.clone();
        for _ in min..max? {
            power = self.append(power, &choices)?;
            sequences.extend(power.iter().cloned());
        }
        (sequences.len() <= MAX_PRODUCT.max(4 * choices.len())).then_some(sequences)
    }
}

/// Adds an item, joined with the last one if they are of one kind.
pub(super) fn push_item(sequence: &mut Sequence, item: Item) {
    match (sequence.last_mut(), item) {
        (Some(Item::Literal(a)), Item::Literal(b)) => a.push_str(&b),
        (Some(Item::Folded(a)), Item::Folded(b)) => a.extend(b),
        (Some(Item::Exactly(a, n)), Item::Exactly(b, m)) if *a == b => *n = n.saturating_add(m),
        (Some(Item::Gap(a)), Item::Exactly(b, m)) if a.set == b => {
            a.min = a.min.saturating_add(m);
            a.max = a.max.map(|max| max.saturating_add(m));
        }
        (Some(last @ Item::Exactly(..)), Item::Gap(mut gap)) => {
            if let Item::Exactly(set, n) = last
                && *set == gap.set
            {
                gap.min = gap.min.saturating_add(*n);
                gap.max = gap.max.map(|max| max.saturating_add(*n));
                *last = Item::Gap(gap);
            } else {
                sequence.push(Item::Gap(gap));
            }
        }
        (Some(Item::Gap(a)), Item::Gap(b)) if a.set == b.set => {
            a.min = a.min.saturating_add(b.min);
            a.max = a.max.zip(b.max).map(|(a, b)| a.saturating_add(b));
        }
        (_, Item::Exactly(_, 0)) => {}
        (_, Item::Literal(text)) if text.is_empty() => {}
        (_, item) => sequence.push(item),
    }
}

/// Joins neighbours of one kind and drops the anchors at the ends, which change nothing because the whole value
/// has to match anyway. `None` if there are anchors elsewhere.
fn normal(sequence: Sequence) -> Option<Sequence> {
    let is_inner = |i: &Item| !matches!(i, Item::Start | Item::End);
    let front = sequence.iter().take_while(|i| **i == Item::Start).count();
    let back = sequence[front..].iter().rev().take_while(|i| **i == Item::End).count();
    let end = sequence.len() - back;
    let mut joined = Sequence::with_capacity(end - front);
    for item in sequence.into_iter().take(end).skip(front) {
        if !is_inner(&item) {
            return None;
        }
        push_item(&mut joined, item);
    }
    Some(joined)
}

/// The values a sequence stands for, if they are at most `limit` (`limit_folded`, if case is of no account).
pub(super) fn finite_values(sequence: &[Item], limit: usize, limit_folded: usize) -> Option<Vec<String>> {
    if sequence.iter().any(|item| matches!(item, Item::Gap(_) | Item::Exactly(Set::Any, _))) {
        return None;
    }
    let mut values = vec![String::new()];
    let mut limit = limit;
    let mut multiply = |choices: &[char], limit: usize| {
        if values.len() * choices.len() > limit {
            return None;
        }
        values = values.iter().flat_map(|v| choices.iter().map(move |c| format!("{v}{c}"))).collect();
        Some(())
    };
    let mut texts: Vec<Vec<char>> = Vec::new();
    for item in sequence {
        match item {
            Item::Exactly(set, count) => {
                let chars = set.chars(limit)?;
                if chars.len() > 1 && *count > 8 {
                    return None;
                }
                texts.extend(std::iter::repeat_n(chars, *count as usize));
            }
            Item::Folded(orbits) => {
                limit = limit.min(limit_folded);
                texts.extend(orbits.iter().map(|o| o.chars().collect()));
            }
            Item::Literal(text) => texts.extend(text.chars().map(|c| vec![c])),
            _ => return None,
        }
    }
    texts.iter().try_for_each(|choices| multiply(choices, limit))?;
    Some(values)
}
