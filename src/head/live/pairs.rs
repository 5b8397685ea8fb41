//! Label pairs: a name with a value, numbered by first use, each with the list of series that have it.
//!
//! ```text
//! text of a pair in its arena: uvarint number of the name; the value
//! ```

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::live::arena::{Arena, NONE, push_uvarint, take_uvarint};
use crate::live::paged::Paged;
use crate::live::postings::Postings;
use crate::live::split_table::SplitTable;

#[derive(Debug, Default)]
struct Name {
    /// Empty if the number is free.
    text: Box<str>,
    /// Numbers of the pairs, in no order.
    pairs: Vec<u32>,
    /// Of these, without text and series. Their numbers are used again once they are out of the list.
    dead: u32,
}

/// The pairs of an index.
#[derive(Debug, Default)]
pub struct Pairs {
    names: Vec<Name>,
    free_names: Vec<u32>,
    by_name: HashTable<u32>,
    text: Arena,
    /// Addresses in `text`.
    places: Paged<u32>,
    postings: Paged<Postings>,
    /// Bytes of the lists outside of their handles.
    postings_bytes: usize,
    free: Vec<u32>,
    by_text: SplitTable,
    hasher: RandomState,
}

fn decode<'a>(names: &'a [Name], text: &'a Arena, place: u32) -> (u32, &'a str, &'a [u8]) {
    let mut value = text.get(place);
    let number = take_uvarint(&mut value).unwrap_or(NONE);
    let name = names.get(number as usize).map_or("", |n| &n.text);
    (number, name, value)
}

#[inline]
fn hash(hasher: &RandomState, name: &str, value: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(name.as_bytes());
    state.write_u8(0xff);
    state.write(value);
    state.finish()
}

impl Pairs {
    fn place(&self, pair: u32) -> u32 {
        self.places.get(pair).copied().unwrap_or(NONE)
    }

    /// Numbers given so far, those of freed pairs included: all are below this.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// The pair with this text.
    #[inline]
    pub fn find(&self, name: &str, value: &str) -> Option<u32> {
        let value = value.as_bytes();
        self.by_text.find(hash(&self.hasher, name, value), |pair| {
            let (_, n, v) = decode(&self.names, &self.text, self.place(pair));
            v == value && n == name
        })
    }

    /// The pair with this text, made if it is new; `None` if there is no room.
    pub fn find_or_create(&mut self, name: &str, value: &str) -> Option<u32> {
        match self.find(name, value) {
            Some(pair) => Some(pair),
            None => self.create(name, value),
        }
    }

    fn create(&mut self, name: &str, value: &str) -> Option<u32> {
        let number = self.name(name).unwrap_or_else(|| self.create_name(name));
        let mut head = smallvec::SmallVec::<[u8; 8]>::new();
        push_uvarint(&mut head, number);
        let Some(place) = self.text.push(&head, value.as_bytes()) else {
            self.release_name(number);
            return None;
        };
        let pair = match self.free.pop() {
            Some(pair) => {
                if let Some(slot) = self.places.get_mut(pair) {
                    *slot = place;
                }
                pair
            }
            None => {
                self.places.push(place);
                self.postings.push(Postings::default());
                (self.places.len() - 1) as u32
            }
        };
        let pairs = &mut self.names[number as usize].pairs;
        if pairs.len() == pairs.capacity() {
            pairs.reserve_exact(pairs.len() / 4 + 1);
        }
        pairs.push(pair);
        let (names, text, places, hasher) = (&self.names, &self.text, &self.places, &self.hasher);
        let rehash = |pair| {
            let (_, n, v) = decode(names, text, places.get(pair).copied().unwrap_or(NONE));
            hash(hasher, n, v)
        };
        self.by_text.insert(hash(hasher, name, value.as_bytes()), pair, rehash);
        Some(pair)
    }

    fn create_name(&mut self, name: &str) -> u32 {
        let entry = Name { text: name.into(), pairs: Vec::new(), dead: 0 };
        let number = match self.free_names.pop() {
            Some(number) => {
                self.names[number as usize] = entry;
                number
            }
            None => {
                self.names.push(entry);
                (self.names.len() - 1) as u32
            }
        };
        let (names, hasher) = (&self.names, &self.hasher);
        let of = |number: &u32| hasher.hash_one(&*names[*number as usize].text);
        self.by_name.insert_unique(of(&number), number, of);
        number
    }

    /// Name and value of a pair.
    #[inline]
    pub fn text(&self, pair: u32) -> (&str, &str) {
        let (_, name, value) = decode(&self.names, &self.text, self.place(pair));
        (name, std::str::from_utf8(value).unwrap_or(""))
    }

    /// Name and value of a pair, unchecked whether they are UTF-8, as they always are.
    #[inline]
    pub fn bytes_of(&self, pair: u32) -> (&[u8], &[u8]) {
        let (_, name, value) = decode(&self.names, &self.text, self.place(pair));
        (name.as_bytes(), value)
    }

    /// Number of the name of a pair.
    #[inline]
    pub fn name_of(&self, pair: u32) -> u32 {
        take_uvarint(&mut self.text.get(self.place(pair))).unwrap_or(NONE)
    }

    /// The number of a name that live series have.
    pub fn name(&self, name: &str) -> Option<u32> {
        self.by_name.find(self.hasher.hash_one(name), |n| *self.names[*n as usize].text == *name).copied()
    }

    /// A name.
    pub fn name_text(&self, number: u32) -> &str {
        &self.names[number as usize].text
    }

    /// Numbers of names given so far are below this.
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// All names, unsorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|n| n.pairs.len() as u32 > n.dead).map(|n| &*n.text)
    }

    /// How many values a name has, about: those just removed may be counted.
    pub fn value_count(&self, name: u32) -> usize {
        self.names[name as usize].pairs.len()
    }

    /// The pairs of a name.
    pub fn of_name(&self, name: u32) -> impl Iterator<Item = u32> {
        self.names[name as usize].pairs.iter().copied().filter(|p| self.place(*p) != NONE)
    }

    /// The series that have a pair, if there are any.
    #[inline]
    pub fn series(&self, pair: u32) -> Option<&Postings> {
        self.postings.get(pair).filter(|list| !list.is_empty())
    }

    /// Adds a series, higher than all that a pair has.
    #[inline]
    pub fn add_series(&mut self, pair: u32, id: u32) {
        if let Some(list) = self.postings.get_mut(pair) {
            let before = list.bytes();
            list.push(id);
            self.postings_bytes += list.bytes() - before;
        }
    }

    /// Takes series (ascending) out of a pair. One that is left without is gone.
    pub fn remove_series(&mut self, pair: u32, gone: &[u32]) {
        if let Some(list) = self.postings.get_mut(pair) {
            let before = list.bytes();
            list.remove(gone);
            self.postings_bytes = self.postings_bytes + list.bytes() - before;
        }
        self.release_if_unused(pair);
    }

    /// Frees a pair that no series has.
    pub fn release_if_unused(&mut self, pair: u32) {
        let place = self.place(pair);
        if self.series(pair).is_some() || place == NONE {
            return;
        }
        let (number, name, value) = decode(&self.names, &self.text, place);
        self.by_text.remove(hash(&self.hasher, name, value), pair);
        self.text.free(place);
        if let Some(slot) = self.places.get_mut(pair) {
            *slot = NONE;
        }
        self.names[number as usize].dead += 1;
        self.release_name(number);
    }

    /// Takes dead pairs out of a name's list where they are many, and the name out if none is left.
    fn release_name(&mut self, number: u32) {
        let name = &mut self.names[number as usize];
        if (name.dead as usize) * 8 < name.pairs.len() {
            return;
        }
        let (places, free) = (&self.places, &mut self.free);
        name.pairs.retain(|pair| {
            let alive = places.get(*pair).is_some_and(|p| *p != NONE);
            if !alive {
                free.push(*pair);
            }
            alive
        });
        name.dead = 0;
        name.pairs.shrink_to(name.pairs.len() + name.pairs.len() / 4);
        if name.pairs.is_empty() {
            let hash = self.hasher.hash_one(&*name.text);
            if let Ok(entry) = self.by_name.find_entry(hash, |n| *n == number) {
                entry.remove();
            }
            *name = Name::default();
            self.free_names.push(number);
        }
    }

    /// Gives room back that removals left.
    pub fn shrink(&mut self) {
        if let Some(sparse) = self.text.sparse() {
            for place in self.places.iter_mut().filter(|p| sparse.has(**p)) {
                *place = self.text.relocate(*place);
            }
        }
        let (names, text, places, hasher) = (&self.names, &self.text, &self.places, &self.hasher);
        self.by_text.shrink(|pair| {
            let (_, n, v) = decode(names, text, places.get(pair).copied().unwrap_or(NONE));
            hash(hasher, n, v)
        });
    }

    /// Whether no more than a few pairs can be added for sure.
    pub fn is_nearly_full(&self) -> bool {
        self.text.is_nearly_full()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let name = |n: &Name| n.text.len() + n.pairs.capacity() * 4 + 16;
        self.names.iter().map(name).sum::<usize>()
            + self.names.capacity() * size_of::<Name>()
            + (self.free_names.capacity() + self.free.capacity()) * 4
            + self.by_name.allocation_size()
            + self.text.bytes()
            + self.places.bytes()
            + self.postings.bytes()
            + self.postings_bytes
            + self.by_text.bytes()
    }
}
