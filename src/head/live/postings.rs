//! Lists of series ids, ascending: up to three lie in the handle, longer ones are runs of neighbours.
//!
//! ```text
//! number of ids u32 · end of the runs that are written u32 · start of the open run u32 · its length u32 · runs
//! run: uvarint 2 × ids between it and the run before, + 1 if it is longer than one · uvarint length - 2 if so
//! ```
//! Series that are made together, as those of a target are, have most of their pairs in common: a list takes about one
//! byte an id.

/// One list.
#[derive(Debug)]
pub enum Postings {
    /// The first `len` of `ids`.
    Few {
        /// How many.
        len: u32,
        /// The ids.
        ids: [u32; FEW],
    },
    /// More.
    Many(Vec<u8>),
}

const _: () = assert!(size_of::<Postings>() <= 24);

/// So many ids lie in the handle.
const FEW: usize = 3;
/// The bytes in front of the runs.
const HEADER: usize = 16;

impl Default for Postings {
    fn default() -> Self {
        Self::Few { len: 0, ids: [0; FEW] }
    }
}

/// The capacity for `wanted` bytes that wastes nothing of what an allocator hands out in steps of 16 bytes, 8 of them
/// its own.
fn rounded(wanted: usize) -> usize {
    wanted.saturating_sub(8).div_ceil(16) * 16 + 8
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn take_uvarint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
        shift = (shift + 7).min(56);
    }
    value
}

/// What stands in front of the runs.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    count: u32,
    closed_end: u32,
    open_start: u32,
    open_len: u32,
}

impl Header {
    #[inline]
    fn of(bytes: &[u8]) -> Self {
        let number = |at: usize| match bytes.get(at..at + 4) {
            Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        };
        Self { count: number(0), closed_end: number(4), open_start: number(8), open_len: number(12) }
    }

    #[inline]
    fn put(self, bytes: &mut [u8]) {
        for (at, number) in [self.count, self.closed_end, self.open_start, self.open_len].iter().enumerate() {
            if let Some(place) = bytes.get_mut(at * 4..at * 4 + 4) {
                place.copy_from_slice(&number.to_le_bytes());
            }
        }
    }
}

/// Runs of neighbours, start and end (not included), ascending.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    few: &'a [u32],
    closed: &'a [u8],
    end: u32,
    open: (u32, u32),
}

impl Iterator for Runs<'_> {
    type Item = (u32, u32);

    #[inline]
    fn next(&mut self) -> Option<(u32, u32)> {
        if let Some((id, rest)) = self.few.split_first() {
            self.few = rest;
            return Some((*id, *id + 1));
        }
        if !self.closed.is_empty() {
            let token = take_uvarint(&mut self.closed);
            let more = if token & 1 == 0 { 0 } else { take_uvarint(&mut self.closed) as u32 + 1 };
            let start = self.end.wrapping_add((token >> 1) as u32);
            self.end = start.wrapping_add(1).wrapping_add(more);
            return Some((start, self.end));
        }
        let (start, len) = std::mem::take(&mut self.open);
        (len > 0).then_some((start, start.wrapping_add(len)))
    }
}

impl Postings {
    /// The ids, run by run.
    #[inline]
    pub fn runs(&self) -> Runs<'_> {
        match self {
            Self::Few { len, ids } => Runs { few: &ids[..*len as usize], closed: &[], end: 0, open: (0, 0) },
            Self::Many(bytes) => {
                let header = Header::of(bytes);
                let open = (header.open_start, header.open_len);
                Runs { few: &[], closed: bytes.get(HEADER..).unwrap_or(&[]), end: 0, open }
            }
        }
    }

    #[cfg(test)]
    fn ids(&self) -> impl Iterator<Item = u32> {
        self.runs().flat_map(|(start, end)| start..end)
    }

    /// How many ids.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Few { len, .. } => *len as usize,
            Self::Many(bytes) => Header::of(bytes).count as usize,
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Few { len: 0, .. })
    }

    /// Adds an id that is higher than all.
    #[inline]
    pub fn push(&mut self, id: u32) {
        match self {
            Self::Few { len, ids } if (*len as usize) < FEW => {
                ids[*len as usize] = id;
                *len += 1;
            }
            Self::Few { ids, .. } => {
                let mut bytes = Vec::with_capacity(rounded(HEADER + 4));
                bytes.resize(HEADER, 0);
                ids.iter().chain([&id]).for_each(|id| push_to(&mut bytes, *id));
                *self = Self::Many(bytes);
            }
            Self::Many(bytes) => push_to(bytes, id),
        }
    }

    /// Takes ids out; `gone` is ascending and may hold others.
    pub fn remove(&mut self, gone: &[u32]) {
        let mut left = Self::default();
        let mut rest = gone;
        for (mut start, end) in self.runs() {
            rest = &rest[lower_bound(rest, start)..];
            while let Some((first, behind)) = rest.split_first()
                && *first < end
            {
                (start..*first).for_each(|id| left.push(id));
                start = *first + 1;
                rest = behind;
            }
            (start..end).for_each(|id| left.push(id));
        }
        if let Self::Many(bytes) = &mut left {
            bytes.shrink_to(rounded(bytes.len() + bytes.len() / 8));
        }
        *self = left;
    }

    /// Bytes outside the handle, the allocator's own included.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many(bytes) => bytes.capacity() + 8,
        }
    }
}

#[inline]
fn push_to(bytes: &mut Vec<u8>, id: u32) {
    let mut header = Header::of(bytes);
    header.count += 1;
    if header.open_len > 0 && header.open_start.wrapping_add(header.open_len) == id {
        header.open_len += 1;
    } else {
        if header.open_len > 0 {
            if bytes.capacity() - bytes.len() < 16 {
                let wanted = rounded(bytes.len() + bytes.len() / 8 + 4);
                bytes.reserve_exact(wanted.saturating_sub(bytes.len()));
            }
            let gap = u64::from(header.open_start.wrapping_sub(header.closed_end));
            put_uvarint(bytes, gap << 1 | u64::from(header.open_len > 1));
            if header.open_len > 1 {
                put_uvarint(bytes, u64::from(header.open_len - 2));
            }
            header.closed_end = header.open_start.wrapping_add(header.open_len);
        }
        (header.open_start, header.open_len) = (id, 1);
    }
    header.put(bytes);
}

/// How many ids of `list` are below `id`, found by steps that double: cheap if they are few.
#[inline]
pub fn lower_bound(list: &[u32], id: u32) -> usize {
    let mut step = 1;
    let mut low = 0;
    while low + step <= list.len() && list[low + step - 1] < id {
        low += step;
        step *= 2;
    }
    let high = (low + step - 1).min(list.len());
    low + list[low..high].partition_point(|x| *x < id)
}

/// Keeps of `base` what is in the runs (`keep`), or what is not.
pub fn filter(base: &mut Vec<u32>, runs: impl Iterator<Item = (u32, u32)>, keep: bool) {
    let (mut at, mut count) = (0, 0);
    for (start, end) in runs {
        if at == base.len() {
            break;
        }
        let first = at + lower_bound(&base[at..], start);
        let behind = first + lower_bound(&base[first..], end);
        let kept = if keep { first..behind } else { at..first };
        let length = kept.len();
        // `count` is never behind what is moved: the place in front was looked at already.
        base.copy_within(kept, count);
        count += length;
        at = behind;
    }
    if !keep {
        let length = base.len() - at;
        base.copy_within(at.., count);
        count += length;
    }
    base.truncate(count);
}

/// The ids of all lists, none twice.
pub fn union(lists: &[&Postings]) -> Vec<u32> {
    let mut all = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
    lists.iter().for_each(|list| list.runs().for_each(|(start, end)| all.extend(start..end)));
    if lists.len() > 1 {
        // The lists are sorted runs, which a stable sort merges.
        all.sort();
        all.dedup();
    }
    all
}

/// Ids as runs.
pub fn runs_of(ids: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    ids.chunk_by(|a, b| a.wrapping_add(1) == *b).map(|run| (run[0], run[0].wrapping_add(run.len() as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of(ids: &[u32]) -> Postings {
        let mut list = Postings::default();
        ids.iter().for_each(|id| list.push(*id));
        list
    }

    fn ids(list: &Postings) -> Vec<u32> {
        list.ids().collect()
    }

    #[test]
    fn lists_keep_what_is_not_removed_whatever_their_length() {
        for (step, run) in [(3, 1), (3, 2), (1000, 999), (7, 1), (300, 2), (40_000, 3)] {
            for len in [0u32, 1, 2, 3, 4, 5, 7, 100, 1000, 5000] {
                let all: Vec<u32> = (0..len).map(|i| i / run * step + i % run).collect();
                let end = all.last().map_or(0, |last| last + 1);
                for every in [1u32, 2, 3, 10, 100, 1001] {
                    let mut list = list_of(&all);
                    assert_eq!((ids(&list), list.len(), list.is_empty()), (all.clone(), all.len(), len == 0));
                    // With some that it does not have.
                    let mut gone: Vec<u32> = all.iter().flat_map(|i| [*i, *i + 1]).collect();
                    gone.dedup();
                    gone.retain(|i| i.is_multiple_of(every));
                    list.remove(&gone);
                    let want: Vec<u32> = all.iter().copied().filter(|i| !i.is_multiple_of(every)).collect();
                    assert_eq!(ids(&list), want, "{len} without every {every}");
                    assert_eq!((list.len(), list.is_empty()), (want.len(), want.is_empty()));
                    assert!(list.bytes() <= want.len() * 4 + 48, "{} bytes for {}", list.bytes(), want.len());
                    list.push(end + 5);
                    assert_eq!((list.ids().last(), list.len()), (Some(end + 5), want.len() + 1));
                }
            }
        }
        // As far as ids go.
        let far = [0, 1, 5, 1 << 31, (1 << 31) + 1, u32::MAX - 2, u32::MAX - 1];
        let mut list = list_of(&far);
        assert_eq!(ids(&list), far);
        list.remove(&[1, 1 << 31, u32::MAX - 1]);
        assert_eq!(ids(&list), [0, 5, (1 << 31) + 1, u32::MAX - 2]);
    }

    #[test]
    fn neighbours_take_hardly_any_room() {
        let all: Vec<u32> = (0..100_000).collect();
        assert!(list_of(&all).bytes() <= 48);
        let of_targets: Vec<u32> = (0..1000).flat_map(|i| i * 1000..i * 1000 + 40).collect();
        assert!(list_of(&of_targets).bytes() < 4000);
    }

    #[test]
    fn filters_and_unions_are_those_of_sets() {
        let mut lists: Vec<Vec<u32>> = [1u32, 2, 3, 7, 50, 1000]
            .iter()
            .map(|n| (0..3000u32).filter(|i| i.is_multiple_of(*n)).collect())
            .collect();
        lists.push((0..3000).filter(|i| i / 100 % 3 == 1).collect());
        lists.push(Vec::new());
        for a in &lists {
            for b in &lists {
                let list = list_of(b);
                for keep in [true, false] {
                    let want: Vec<u32> = a.iter().copied().filter(|i| b.contains(i) == keep).collect();
                    let mut got = a.clone();
                    filter(&mut got, list.runs(), keep);
                    assert_eq!(got, want);
                    let mut got = a.clone();
                    filter(&mut got, runs_of(b), keep);
                    assert_eq!(got, want);
                }
                let mut both: Vec<u32> = [a.as_slice(), b].concat();
                both.sort_unstable();
                both.dedup();
                assert_eq!(union(&[&list_of(a), &list]), both);
            }
        }
    }
}
