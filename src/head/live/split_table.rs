//! A hash table of numbers in sixteen parts: growing holds a sixteenth twice, not all.

use hashbrown::HashTable;

const PARTS: usize = 16;

/// The table. What is hashed and compared is the caller's.
#[derive(Debug, Default)]
pub struct SplitTable {
    parts: [HashTable<u32>; PARTS],
}

/// Bits that the parts' tables do not use: theirs are the lowest and the seven highest.
#[inline]
fn part(hash: u64) -> usize {
    (hash >> 48) as usize % PARTS
}

impl SplitTable {
    /// The number with this hash for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.parts[part(hash)].find(hash, |n| is_it(*n)).copied()
    }

    /// Adds a number that is not there.
    pub fn insert(&mut self, hash: u64, number: u32, rehash: impl Fn(u32) -> u64) {
        self.parts[part(hash)].insert_unique(hash, number, |n| rehash(*n));
    }

    /// Takes a number out.
    pub fn remove(&mut self, hash: u64, number: u32) {
        if let Ok(entry) = self.parts[part(hash)].find_entry(hash, |n| *n == number) {
            entry.remove();
        }
    }

    /// Gives room back that removals left.
    pub fn shrink(&mut self, rehash: impl Fn(u32) -> u64) {
        for table in self.parts.iter_mut().filter(|t| t.capacity() > 3 * t.len() + 16) {
            table.shrink_to_fit(|n| rehash(*n));
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(HashTable::allocation_size).sum()
    }
}
