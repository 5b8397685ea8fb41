//! Short byte strings in pages of 64 KiB, never moved by growth, known by a number of 32 bits.
//!
//! ```text
//! address: page u16 << 16 | offset in the page u16
//! record:  uvarint length; the bytes
//! ```
//!
//! A record that does not fit into a page gets one of its own. A page without live records is given back; pages that
//! are less than half alive are emptied by moving what is left, see [`Arena::sparse`].

/// No record.
pub const NONE: u32 = u32::MAX;
/// Bytes of a page.
const PAGE: usize = 1 << 16;
/// Pages there can be; the last address stays free for [`NONE`].
const MAX_PAGES: usize = (1 << 16) - 1;

/// Writes a number in groups of seven bits, lowest first.
pub fn push_uvarint(out: &mut impl Extend<u8>, mut value: u32) {
    while value >= 0x80 {
        out.extend([value as u8 | 0x80]);
        value >>= 7;
    }
    out.extend([value as u8]);
}

/// Takes a number off the front; `None` at the end.
#[inline]
pub fn take_uvarint(bytes: &mut &[u8]) -> Option<u32> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        *bytes = rest;
        return Some(u32::from(*first));
    }
    if let Some((second, rest)) = rest.split_first()
        && *second < 0x80
    {
        *bytes = rest;
        return Some(u32::from(*first & 0x7f) | u32::from(*second) << 7);
    }
    take_long_uvarint(bytes)
}

fn take_long_uvarint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}

#[derive(Debug, Default)]
struct Page {
    bytes: Vec<u8>,
    /// Bytes of records that were not freed, their lengths included.
    live: u32,
}

/// The pages.
#[derive(Debug, Default)]
pub struct Arena {
    pages: Vec<Page>,
    /// Numbers of pages that hold nothing.
    free: Vec<u16>,
    /// The page that records are added to.
    open: Option<u16>,
}

/// Pages that are to be emptied.
#[derive(Debug)]
pub struct Sparse(Vec<bool>);

impl Sparse {
    /// Whether the record at `address` is to be moved.
    #[inline]
    pub fn has(&self, address: u32) -> bool {
        address != NONE && self.0.get((address >> 16) as usize).copied().unwrap_or(false)
    }
}

impl Arena {
    /// Adds a record, given in two parts. `None` if no more pages can be numbered.
    pub fn push(&mut self, head: &[u8], tail: &[u8]) -> Option<u32> {
        let len = u32::try_from(head.len() + tail.len()).ok()?;
        let mut prefix = smallvec::SmallVec::<[u8; 8]>::new();
        push_uvarint(&mut prefix, len);
        let total = prefix.len() + len as usize;
        let number = match self.open {
            Some(open) if self.pages[usize::from(open)].bytes.len() + total <= PAGE => open,
            _ => {
                let number = self.new_page(total.max(PAGE))?;
                if total <= PAGE {
                    let before = self.open.replace(number);
                    // Kept while it was open though nothing in it is alive.
                    if let Some(before) = before.filter(|b| self.pages[usize::from(*b)].live == 0) {
                        self.release(before);
                    }
                }
                number
            }
        };
        let page = &mut self.pages[usize::from(number)];
        let offset = page.bytes.len();
        page.bytes.extend_from_slice(&prefix);
        page.bytes.extend_from_slice(head);
        page.bytes.extend_from_slice(tail);
        page.live += total as u32;
        Some(u32::from(number) << 16 | offset as u32)
    }

    fn new_page(&mut self, capacity: usize) -> Option<u16> {
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.pages.len() < MAX_PAGES => {
                self.pages.push(Page::default());
                (self.pages.len() - 1) as u16
            }
            None => return None,
        };
        self.pages[usize::from(number)].bytes = Vec::with_capacity(capacity);
        Some(number)
    }

    fn release(&mut self, number: u16) {
        self.pages[usize::from(number)] = Page::default();
        self.free.push(number);
    }

    /// A record; empty for [`NONE`].
    #[inline]
    pub fn get(&self, address: u32) -> &[u8] {
        self.record(address).1
    }

    /// The bytes that a record takes, and its content.
    #[inline]
    fn record(&self, address: u32) -> (usize, &[u8]) {
        let page = self.pages.get((address >> 16) as usize);
        let mut rest = page.and_then(|p| p.bytes.get((address & 0xffff) as usize..)).unwrap_or(&[]);
        let before = rest.len();
        let len = take_uvarint(&mut rest).unwrap_or(0) as usize;
        (before - rest.len() + len, rest.get(..len).unwrap_or(&[]))
    }

    /// Takes a record out. It can be read until the next change.
    pub fn free(&mut self, address: u32) {
        let number = (address >> 16) as u16;
        let total = self.record(address).0 as u32;
        let Some(page) = self.pages.get_mut(usize::from(number)) else { return };
        page.live = page.live.saturating_sub(total);
        if page.live == 0 && self.open != Some(number) {
            self.release(number);
        }
    }

    /// The pages that are less than half alive, if they are a part of all that is worth going through the owners of
    /// records, who call [`Arena::relocate`] for each record in them.
    pub fn sparse(&self) -> Option<Sparse> {
        let is_sparse = |(i, p): (usize, &Page)| {
            self.open != Some(i as u16) && p.live > 0 && (p.live as usize) < p.bytes.len() / 2
        };
        let found: Vec<bool> = self.pages.iter().enumerate().map(is_sparse).collect();
        let count = found.iter().filter(|f| **f).count();
        let used = self.pages.len() - self.free.len();
        (count > 0 && count * 16 >= used).then_some(Sparse(found))
    }

    /// Moves a record to the open page: its new address.
    pub fn relocate(&mut self, address: u32) -> u32 {
        let copy = smallvec::SmallVec::<[u8; 256]>::from_slice(self.get(address));
        match self.push(&copy, &[]) {
            Some(moved) => {
                self.free(address);
                moved
            }
            None => address,
        }
    }

    /// Whether no more than a few records can be added for sure.
    pub fn is_nearly_full(&self) -> bool {
        self.pages.len() - self.free.len() >= MAX_PAGES - 1024
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|p| p.bytes.capacity()).sum::<usize>()
            + self.pages.capacity() * size_of::<Page>()
            + self.free.capacity() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            push_uvarint(&mut bytes, value);
            let mut rest = bytes.as_slice();
            assert_eq!((take_uvarint(&mut rest), rest.len()), (Some(value), 0));
            assert_eq!(take_uvarint(&mut &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn records_of_all_lengths_come_back_and_free_pages_are_used_again() {
        let mut arena = Arena::default();
        let record = |i: usize| vec![i as u8; if i.is_multiple_of(100) { 70_000 + i } else { i * 7 % 300 }];
        let places: Vec<u32> = (0..2000).map(|i| arena.push(&record(i), b"tail").unwrap()).collect();
        for (i, place) in places.iter().enumerate() {
            assert_eq!(arena.get(*place), [record(i), b"tail".to_vec()].concat(), "record {i}");
        }
        let full = arena.bytes();
        places.iter().for_each(|p| arena.free(*p));
        assert!(arena.bytes() < full / 8, "{} of {full} bytes left", arena.bytes());
        for round in 0..20 {
            let places: Vec<u32> = (0..2000).map(|i| arena.push(&record(i), &[round]).unwrap()).collect();
            places.iter().for_each(|p| arena.free(*p));
        }
        assert!(arena.bytes() < full / 8, "{} of {full} bytes left", arena.bytes());
    }

    #[test]
    fn sparse_pages_are_emptied_by_moving() {
        let mut arena = Arena::default();
        let record = |i: usize| format!("record {i}");
        let mut places: Vec<u32> =
            (0..100_000).map(|i| arena.push(record(i).as_bytes(), &[]).unwrap()).collect();
        let full = arena.bytes();
        for (i, place) in places.iter_mut().enumerate().filter(|(i, _)| !i.is_multiple_of(10)) {
            arena.free(*place);
            *place = NONE;
            assert_eq!(arena.get(NONE), b"", "{i}");
        }
        let sparse = arena.sparse().unwrap();
        for place in places.iter_mut().filter(|p| sparse.has(**p)) {
            *place = arena.relocate(*place);
        }
        assert!(arena.bytes() < full / 4, "{} of {full} bytes left", arena.bytes());
        for (i, place) in places.iter().enumerate().filter(|(i, _)| i.is_multiple_of(10)) {
            assert_eq!(arena.get(*place), record(i).as_bytes());
        }
    }
}
