//! Many sequences as trees over the characters they begin or end with, so that a value is compared with few.

use std::collections::BTreeMap;

use smallvec::{SmallVec, smallvec};

use super::items::{Item, Orbit, Sequence, Set, push_item};
use super::pattern::Pattern;

/// More sequences than this that no character tells apart are left to the automaton.
const MAX_TAILS: usize = 32;
/// Free gaps of more different least lengths than this in front are left to the automaton.
const MAX_SEARCHES: usize = 8;
/// Characters of all sequences beyond this are left to the automaton.
const MAX_UNITS: usize = 16 << 20;

/// What one character has to be, if it is not one that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Folded(Orbit),
    One(Set),
}

impl Kind {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Folded(orbit) => orbit.contains(c),
            Self::One(set) => set.contains(c),
        }
    }

    fn item(&self) -> Item {
        match self {
            Self::Folded(orbit) => Item::Folded(vec![*orbit]),
            Self::One(set) => Item::Exactly(set.clone(), 1),
        }
    }
}

/// What one character has to be: a character's number, or [`FIRST_KIND`] and more for a kind.
type Unit = u32;

/// Beyond all characters.
const FIRST_KIND: Unit = 1 << 31;

/// The kinds of a tree, numbered.
#[derive(Default)]
struct Kinds {
    numbers: BTreeMap<Kind, Unit>,
    list: Vec<Kind>,
}

impl Kinds {
    fn unit(&mut self, kind: Kind) -> Unit {
        let list = &mut self.list;
        *self.numbers.entry(kind).or_insert_with_key(|kind| {
            list.push(kind.clone());
            FIRST_KIND + list.len() as Unit - 1
        })
    }

    fn get(&self, unit: Unit) -> Option<&Kind> {
        self.list.get(unit.checked_sub(FIRST_KIND)? as usize)
    }

    fn push_units<'a>(&self, items: &mut Sequence, units: impl Iterator<Item = &'a Unit>) {
        for unit in units {
            match (char::from_u32(*unit), items.last_mut()) {
                (Some(c), Some(Item::Literal(text))) => text.push(c),
                (Some(c), _) => items.push(Item::Literal(c.to_string())),
                (None, _) => self.get(*unit).into_iter().for_each(|kind| push_item(items, kind.item())),
            }
        }
    }
}

/// From which end a tree reads values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    #[inline]
    fn take(self, value: &str) -> Option<(char, &str)> {
        let mut chars = value.chars();
        let c = match self {
            Self::Forward => chars.next(),
            Self::Backward => chars.next_back(),
        }?;
        Some((c, chars.as_str()))
    }
}

/// A sequence in the order a tree reads it: characters up to the first gap, and the items from there on.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    units: Vec<Unit>,
    /// In the order of the sequence, whatever the direction.
    others: Sequence,
}

impl Entry {
    fn new(sequence: &[Item], direction: Direction, kinds: &mut Kinds) -> Self {
        let is_gap = |item: &Item| matches!(item, Item::Gap(_));
        let (fixed, others) = match direction {
            Direction::Forward => {
                sequence.split_at(sequence.iter().position(is_gap).unwrap_or(sequence.len()))
            }
            Direction::Backward => {
                let at = sequence.iter().rposition(is_gap).map_or(0, |i| i + 1);
                let (others, fixed) = sequence.split_at(at);
                (fixed, others)
            }
        };
        let mut units = Vec::with_capacity(fixed.iter().map(length).sum());
        for item in fixed {
            match item {
                Item::Literal(text) => units.extend(text.chars().map(Unit::from)),
                Item::Folded(orbits) => units.extend(orbits.iter().map(|o| kinds.unit(Kind::Folded(*o)))),
                Item::Exactly(set, count) => {
                    units.extend(std::iter::repeat_n(kinds.unit(Kind::One(set.clone())), *count as usize));
                }
                Item::Gap(_) | Item::Start | Item::End => {}
            }
        }
        if direction == Direction::Backward {
            units.reverse();
        }
        Self { units, others: others.to_vec() }
    }

    /// What is left of the sequence behind `depth` characters.
    fn tail(&self, depth: usize, direction: Direction, kinds: &Kinds) -> Sequence {
        let units = &self.units[depth..];
        let mut items = Sequence::new();
        match direction {
            Direction::Forward => {
                kinds.push_units(&mut items, units.iter());
                items.extend(self.others.iter().cloned());
            }
            Direction::Backward => {
                items.extend(self.others.iter().cloned());
                kinds.push_units(&mut items, units.iter().rev());
            }
        }
        items
    }
}

/// About how many characters a tree reads for an item.
fn length(item: &Item) -> usize {
    match item {
        Item::Literal(text) => text.len(),
        Item::Folded(orbits) => orbits.len(),
        Item::Exactly(_, count) => *count as usize,
        _ => 1,
    }
}

/// Ranges into the lists of a tree.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    chars: (u32, u32),
    others: (u32, u32),
    tails: (u32, u32),
    /// Whether a sequence ends here.
    accepts: bool,
}

#[derive(Clone, Debug)]
struct Tree {
    direction: Direction,
    nodes: Vec<Node>,
    /// Children by character, sorted for each node.
    chars: Vec<(char, u32)>,
    /// Children by sets of characters.
    others: Vec<(Kind, u32)>,
    /// What to compare the rest of a value with.
    tails: Vec<Pattern>,
}

fn slice<T>(list: &[T], (from, to): (u32, u32)) -> &[T] {
    list.get(from as usize..to as usize).unwrap_or_default()
}

impl Tree {
    fn new(sequences: &[&[Item]], direction: Direction) -> Option<Self> {
        if sequences.iter().copied().flatten().map(length).sum::<usize>() > MAX_UNITS {
            return None;
        }
        let mut kinds = Kinds::default();
        let mut entries: Vec<Entry> =
            sequences.iter().map(|s| Entry::new(s, direction, &mut kinds)).collect();
        entries.sort_unstable();
        entries.dedup();
        let mut tree = Self {
            direction,
            nodes: vec![Node::default()],
            chars: Vec::new(),
            others: Vec::new(),
            tails: Vec::new(),
        };
        let mut work = vec![(0, entries.as_slice(), 0)];
        while let Some((at, entries, depth)) = work.pop() {
            let mut node = Node::default();
            let chars_from = tree.chars.len();
            let others_from = tree.others.len();
            let tails_from = tree.tails.len();
            // Shorter sequences come first.
            let ending = entries.iter().take_while(|e| e.units.len() == depth).count();
            let (ending, mut going_on) =
                if entries.len() == 1 { (entries, &[][..]) } else { entries.split_at(ending) };
            if ending.len() > MAX_TAILS {
                return None;
            }
            for entry in ending {
                match entry.tail(depth, direction, &kinds).as_slice() {
                    [] => node.accepts = true,
                    items => tree.tails.push(Pattern::new(items)?),
                }
            }
            while let Some(first) = going_on.first() {
                let unit = first.units[depth];
                let same = going_on.partition_point(|e| e.units[depth] == unit);
                let (group, others) = going_on.split_at(same);
                going_on = others;
                let child = tree.nodes.len() as u32;
                tree.nodes.push(Node::default());
                match (char::from_u32(unit), kinds.get(unit)) {
                    (Some(c), _) => tree.chars.push((c, child)),
                    (None, Some(kind)) => tree.others.push((kind.clone(), child)),
                    (None, None) => return None,
                }
                work.push((child as usize, group, depth + 1));
            }
            node.chars = (chars_from as u32, tree.chars.len() as u32);
            node.others = (others_from as u32, tree.others.len() as u32);
            node.tails = (tails_from as u32, tree.tails.len() as u32);
            tree.nodes[at] = node;
        }
        Some(tree)
    }

    fn matches(&self, value: &str) -> bool {
        // At one node with one rest at most once, because a node's depth is the number of characters read.
        let mut open: SmallVec<[(u32, &str); 8]> = smallvec![(0, value)];
        while let Some((mut at, mut rest)) = open.pop() {
            loop {
                let node = &self.nodes[at as usize];
                if (node.accepts && rest.is_empty())
                    || slice(&self.tails, node.tails).iter().any(|tail| tail.matches(rest))
                {
                    return true;
                }
                let Some((c, after)) = self.direction.take(rest) else { break };
                for (kind, child) in slice(&self.others, node.others) {
                    if kind.contains(c) {
                        open.push((*child, after));
                    }
                }
                let chars = slice(&self.chars, node.chars);
                let Ok(found) = chars.binary_search_by_key(&c, |(c, _)| *c) else { break };
                (at, rest) = (chars[found].1, after);
            }
        }
        false
    }
}

/// Trees for sequences that begin with characters, that end with characters, and that do neither.
#[derive(Clone, Debug)]
pub(super) struct Index {
    trees: Vec<Tree>,
    /// For what follows a free gap of at least so many characters.
    searches: Vec<(u32, Tree)>,
}

impl Index {
    /// `None` if too many sequences cannot be told apart by what they begin or end with.
    pub(super) fn new(sequences: &[Sequence]) -> Option<Self> {
        let fixed = |items: &mut dyn Iterator<Item = &Item>| -> usize {
            items
                .map_while(|item| match item {
                    Item::Literal(text) => Some(text.len()),
                    Item::Folded(orbits) => Some(orbits.len()),
                    Item::Exactly(Set::Of(_), count) => Some(*count as usize),
                    Item::Exactly(Set::Any, _) => Some(0),
                    _ => None,
                })
                .sum()
        };
        type IsBackward<'a> = &'a dyn Fn(&Sequence) -> bool;
        let longer: IsBackward<'_> = &|s| fixed(&mut s.iter().rev()) > fixed(&mut s.iter());
        let choices: [IsBackward<'_>; 3] = [longer, &|_| false, &|_| true];
        choices.iter().find_map(|is_backward| Self::with_directions(sequences, is_backward))
    }

    fn with_directions(sequences: &[Sequence], is_backward: &dyn Fn(&Sequence) -> bool) -> Option<Self> {
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let mut searched: Vec<(u32, Vec<&[Item]>)> = Vec::new();
        for sequence in sequences {
            match sequence.as_slice() {
                [Item::Gap(gap), .., Item::Gap(_)] if gap.is_free() => {
                    let others = &sequence[1..];
                    match searched.iter_mut().find(|(least, _)| *least == gap.min) {
                        Some((_, list)) => list.push(others),
                        None => searched.push((gap.min, vec![others])),
                    }
                    if searched.len() > MAX_SEARCHES {
                        return None;
                    }
                }
                [.., Item::Gap(_)] => forward.push(sequence.as_slice()),
                [Item::Gap(_), ..] => backward.push(sequence.as_slice()),
                items if !items.iter().any(|i| matches!(i, Item::Gap(_))) => {
                    forward.push(sequence.as_slice())
                }
                _ if is_backward(sequence) => backward.push(sequence.as_slice()),
                _ => forward.push(sequence.as_slice()),
            }
        }
        let mut trees = Vec::new();
        for (list, direction) in [(forward, Direction::Forward), (backward, Direction::Backward)] {
            if !list.is_empty() {
                trees.push(Tree::new(&list, direction)?);
            }
        }
        let searches = searched
            .into_iter()
            .map(|(least, list)| Some((least, Tree::new(&list, Direction::Forward)?)))
            .collect::<Option<_>>()?;
        Some(Self { trees, searches })
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        let at_any_place = |least: u32, tree: &Tree| {
            let starts = value.char_indices().map(|(i, _)| i).chain([value.len()]);
            starts.skip(least as usize).any(|i| tree.matches(&value[i..]))
        };
        self.trees.iter().any(|tree| tree.matches(value))
            || self.searches.iter().any(|(least, tree)| at_any_place(*least, tree))
    }
}
