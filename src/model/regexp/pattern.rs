//! One sequence, ready to be compared with values.

use memchr::memmem;

use super::items::{Gap, Item, Orbit, Set};

/// What can be taken off an end of a value in one way only.
#[derive(Clone, Debug)]
enum Step {
    Exact(Box<str>),
    Folded(Box<[Orbit]>),
    Exactly(Set, u32),
    /// All characters of the gap's set that are there, if they are as many as the gap allows.
    Run(Gap),
}

impl Step {
    fn new(item: &Item) -> Option<Self> {
        match item {
            Item::Literal(text) => Some(Self::Exact(text.as_str().into())),
            Item::Folded(orbits) => Some(Self::Folded(orbits.as_slice().into())),
            Item::Exactly(set, count) => Some(Self::Exactly(set.clone(), *count)),
            Item::Gap(gap) => Some(Self::Run(gap.clone())),
            Item::Start | Item::End => None,
        }
    }

    /// The rest behind this step, if `value` starts with it.
    #[inline]
    fn strip_front<'v>(&self, value: &'v str) -> Option<&'v str> {
        match self {
            Self::Exact(text) => value.strip_prefix(&**text),
            Self::Folded(orbits) => {
                let mut chars = value.chars();
                orbits.iter().all(|o| chars.next().is_some_and(|c| o.contains(c))).then_some(chars.as_str())
            }
            Self::Exactly(set, count) => {
                let mut chars = value.chars();
                (0..*count).all(|_| chars.next().is_some_and(|c| set.contains(c))).then_some(chars.as_str())
            }
            Self::Run(gap) => {
                let rest = value.trim_start_matches(|c| gap.set.contains(c));
                gap.allows(value[..value.len() - rest.len()].chars().count()).then_some(rest)
            }
        }
    }

    /// The rest in front of this step, if `value` ends with it.
    #[inline]
    fn strip_back<'v>(&self, value: &'v str) -> Option<&'v str> {
        match self {
            Self::Exact(text) => value.strip_suffix(&**text),
            Self::Folded(orbits) => {
                let mut chars = value.chars();
                let mut orbits = orbits.iter().rev();
                orbits.all(|o| chars.next_back().is_some_and(|c| o.contains(c))).then_some(chars.as_str())
            }
            Self::Exactly(set, count) => {
                let mut chars = value.chars();
                (0..*count)
                    .all(|_| chars.next_back().is_some_and(|c| set.contains(c)))
                    .then_some(chars.as_str())
            }
            Self::Run(gap) => {
                let rest = value.trim_end_matches(|c| gap.set.contains(c));
                gap.allows(value[rest.len()..].chars().count()).then_some(rest)
            }
        }
    }
}

/// Items of fixed length to be found behind at least `least` characters.
#[derive(Clone, Debug)]
struct Part {
    least: u32,
    /// Finds the first item, if that is a literal.
    finder: Option<Box<memmem::Finder<'static>>>,
    steps: Vec<Step>,
}

impl Part {
    /// The rest behind the first occurrence, which leaves the most room for what follows.
    fn find<'v>(&self, value: &'v str) -> Option<&'v str> {
        let mut rest = skip_chars(value, self.least)?;
        let strip = |rest: &'v str| self.steps.iter().try_fold(rest, |rest, step| step.strip_front(rest));
        loop {
            if let Some(finder) = &self.finder {
                rest = &rest[finder.find(rest.as_bytes())?..];
            }
            if let Some(tail) = strip(rest) {
                return Some(tail);
            }
            rest = skip_chars(rest, 1)?;
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

/// What lies between the steps from the front and those from the back.
#[derive(Clone, Debug)]
enum Middle {
    Nothing,
    Gap(Gap),
    /// Parts behind free gaps, and the least number of characters of the last gap.
    Parts(Vec<Part>, u32),
}

/// A sequence as steps from both ends and a search in the middle.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    front: Vec<Step>,
    middle: Middle,
    back: Vec<Step>,
}

impl Pattern {
    /// `None` if a value would have to be tried in several ways.
    pub(super) fn new(items: &[Item]) -> Option<Self> {
        let gaps: Vec<(usize, &Gap)> = (0..)
            .zip(items)
            .filter_map(|(i, item)| match item {
                Item::Gap(gap) => Some((i, gap)),
                _ => None,
            })
            .collect();
        let steps = |items: &[Item]| items.iter().map(Step::new).collect::<Option<Vec<_>>>();
        let mut gaps = gaps.as_slice();
        while let [(at, gap), others @ ..] = gaps
            && !others.is_empty()
            && items.get(at + 1).is_some_and(|next| gap.is_ended_by(next, true))
        {
            gaps = others;
        }
        while let [others @ .., (at, gap)] = gaps
            && !others.is_empty()
            && gap.is_ended_by(&items[at - 1], false)
        {
            gaps = others;
        }
        let (first, last) = match gaps {
            [] => {
                return Some(Self { front: steps(items)?, middle: Middle::Nothing, back: Vec::new() });
            }
            [(at, _)] => (*at, *at),
            [(first, _), .., (last, _)] => (*first, *last),
        };
        let middle = match gaps {
            [(_, gap)] => Middle::Gap((*gap).clone()),
            _ if gaps.iter().any(|(_, gap)| !gap.is_free()) => return None,
            _ => {
                let mut parts = Vec::new();
                for pair in gaps.windows(2) {
                    let (from, gap) = pair[0];
                    let between = &items[from + 1..pair[1].0];
                    let finder = match between.first()? {
                        Item::Literal(text) => Some(Box::new(memmem::Finder::new(text).into_owned())),
                        _ => None,
                    };
                    parts.push(Part { least: gap.min, finder, steps: steps(between)? });
                }
                Middle::Parts(parts, gaps.last()?.1.min)
            }
        };
        Some(Self { front: steps(&items[..first])?, middle, back: steps(&items[last + 1..])? })
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        let mut rest = value;
        for step in &self.front {
            let Some(tail) = step.strip_front(rest) else { return false };
            rest = tail;
        }
        for step in self.back.iter().rev() {
            let Some(head) = step.strip_back(rest) else { return false };
            rest = head;
        }
        match &self.middle {
            Middle::Nothing => rest.is_empty(),
            Middle::Gap(gap) => gap.is_filled_by(rest),
            Middle::Parts(parts, last) => parts
                .iter()
                .try_fold(rest, |rest, part| part.find(rest))
                .is_some_and(|rest| skip_chars(rest, *last).is_some()),
        }
    }
}
