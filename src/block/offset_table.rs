//! The index's postings offset table: label names and values, and where the list of each pair is.
//!
//! ```text
//! length (4 bytes) | count (4 bytes)
//! { 2 (1 byte) | name length uvarint | name | value length uvarint | value | offset uvarint } …
//! CRC-32C (4 bytes)
//! ```
//! From version 2 on entries are sorted by name and value; in version 1 they come in any order.

use std::ops::ControlFlow;

use crate::cursor::Cursor;
use crate::index::Damage;

/// Of a sorted table each 16th entry's place is kept per name.
const SAMPLE: usize = 16;

/// The entries of one label name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameRange {
    name_at: u32,
    name_len: u32,
    /// Index of the name's first place in `OffsetTable::places`.
    first_place: usize,
    /// Number of values.
    pub(crate) count: usize,
}

/// What a walk over the table found out. Places are offsets in the table's body.
#[derive(Debug)]
pub(crate) struct OffsetTable {
    /// Start of the body in the file.
    base: usize,
    len: usize,
    names: Vec<NameRange>,
    places: Vec<u32>,
    /// Entries from one place to the next.
    stride: usize,
}

struct Entry<'a> {
    name: &'a [u8],
    name_at: usize,
    value: &'a [u8],
    postings: u64,
    next: usize,
}

#[inline]
fn entry(body: &[u8], at: usize) -> Option<Entry<'_>> {
    let mut c = Cursor::at(body, at);
    if c.u8()? != 2 {
        return None;
    }
    let name = c.uvarint_bytes()?;
    let name_at = c.pos() - name.len();
    let value = c.uvarint_bytes()?;
    let postings = c.uvarint()?;
    Some(Entry { name, name_at, value, postings, next: c.pos() })
}

impl OffsetTable {
    /// Walks a table whose checked body starts at `base` in the file.
    pub(crate) fn walk(body: &[u8], base: usize, version: u8) -> Result<Self, Damage> {
        let bad = |at: usize| Damage::at(base + at, "entry of the postings offset table is damaged");
        let count = Cursor::at(body, 0).be32().ok_or_else(|| bad(0))?;
        let mut at = 4;
        let mut table = Self { base, len: body.len(), names: Vec::new(), places: Vec::new(), stride: SAMPLE };
        if version == 1 {
            table.stride = 1;
            let mut all = Vec::new();
            for _ in 0..count {
                let e = entry(body, at).ok_or_else(|| bad(at))?;
                all.push((e.name, e.value, at as u32, e.name_at));
                at = e.next;
            }
            all.sort_unstable();
            let mut last: Option<&[u8]> = None;
            for (name, _, place, name_at) in all {
                table.note(last == Some(name), name, name_at, place as usize);
                last = Some(name);
            }
            return Ok(table);
        }
        let mut last: Option<&[u8]> = None;
        for _ in 0..count {
            let e = entry(body, at).ok_or_else(|| bad(at))?;
            table.note(last == Some(e.name), e.name, e.name_at, at);
            last = Some(e.name);
            at = e.next;
        }
        Ok(table)
    }

    #[inline]
    fn note(&mut self, same_name: bool, name: &[u8], name_at: usize, place: usize) {
        match self.names.last_mut() {
            Some(range) if same_name => {
                if range.count.is_multiple_of(self.stride) {
                    self.places.push(place as u32);
                }
                range.count += 1;
            }
            _ => {
                self.names.push(NameRange {
                    name_at: name_at as u32,
                    name_len: name.len() as u32,
                    first_place: self.places.len(),
                    count: 1,
                });
                self.places.push(place as u32);
            }
        }
    }

    fn body<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        &file[self.base..self.base + self.len]
    }

    /// The names, `""` of the list of all series included.
    pub(crate) fn names<'a>(&self, file: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let body = self.body(file);
        self.names.iter().map(move |r| &body[r.name_at as usize..(r.name_at + r.name_len) as usize])
    }

    /// The entries of `name`.
    pub(crate) fn find(&self, file: &[u8], name: &str) -> Option<&NameRange> {
        let i = self.names(file).position(|n| n == name.as_bytes())?;
        self.names.get(i)
    }

    /// Index of the first place of a name that is worth looking at for values from `value` on.
    fn place_before(&self, body: &[u8], range: &NameRange, value: &[u8]) -> usize {
        let places = range.count.div_ceil(self.stride);
        let of_name = &self.places[range.first_place..range.first_place + places];
        of_name
            .partition_point(|p| entry(body, *p as usize).is_some_and(|e| e.value <= value))
            .saturating_sub(1)
    }

    /// Where the list of `name`, whose entries are `range`, and `value` is.
    pub(crate) fn postings_offset(
        &self,
        file: &[u8],
        range: &NameRange,
        value: &str,
    ) -> Result<Option<u64>, Damage> {
        let mut found = None;
        self.each_from(file, range, value.as_bytes(), |v, postings| {
            if v == value.as_bytes() {
                found = Some(postings);
            }
            if v >= value.as_bytes() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Calls `each` with values, sorted, and their lists' offsets, starting at or shortly before `from`.
    pub(crate) fn each_from(
        &self,
        file: &[u8],
        range: &NameRange,
        from: &[u8],
        mut each: impl FnMut(&[u8], u64) -> ControlFlow<()>,
    ) -> Result<(), Damage> {
        let body = self.body(file);
        let first = if from.is_empty() { 0 } else { self.place_before(body, range, from) };
        let mut at = 0;
        for i in first * self.stride..range.count {
            if i % self.stride == 0 {
                at = self.places[range.first_place + i / self.stride] as usize;
            }
            let e = entry(body, at).ok_or_else(|| {
                Damage::at(self.base + at, "entry of the postings offset table changed under the map")
            })?;
            if each(e.value, e.postings).is_break() {
                break;
            }
            at = e.next;
        }
        Ok(())
    }
}
