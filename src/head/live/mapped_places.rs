//! The places of a series' full chunks: up to three to a half block, in chains as open chunks are.
//!
//! ```text
//! block: first entry (96 bits) · up to 2 more (54 bits each) · number of entries (6 bits, the last)
//! first: file (24) · offset (28) · mint, Unix ms, two's complement (44)
//! more:  position behind that of the entry before, bytes (31) · mint behind its mint, ms (23)
//! ```
//! A position counts files as 128 MiB each. What does not fit begins the next block. A `mint` that does not fit is the
//! nearest one that does. A chunk ends before the next one begins; the exact times stand in front of the chunk in its
//! file.

use smallvec::SmallVec;

use crate::live::chunk_files::ChunkPlace;
use crate::live::memory::{HALF_BLOCK_DATA, HalfBlockPool, NONE};
use crate::live::record::Record;

const FIRST_BITS: usize = 96;
const POSITION_BITS: usize = 31;
const STEP_BITS: usize = 23;
const MORE_BITS: usize = POSITION_BITS + STEP_BITS;
const PER_BLOCK: usize = 3;
/// Where the number of entries stands.
const COUNT_AT: usize = HALF_BLOCK_DATA * 8 - 6;
const FILE_BITS: u32 = 27;
const MAX_MINT: i64 = (1 << 43) - 1;
const MIN_MINT: i64 = -(1 << 43);

const _: () = assert!(FIRST_BITS + (PER_BLOCK - 1) * MORE_BITS <= COUNT_AT);

type Data = [u8; HALF_BLOCK_DATA];

/// The 16 bytes that bits lie in, where these begin, and how far the bits are from their end.
fn window(data: &Data, at: usize, count: usize) -> (u128, usize, usize) {
    let start = (at / 8).min(HALF_BLOCK_DATA - 16);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&data[start..start + 16]);
    (u128::from_be_bytes(bytes), start, 128 - (at - start * 8) - count)
}

/// Reads `count` (1..=63) bits.
fn get(data: &Data, at: usize, count: usize) -> u64 {
    let (window, _, shift) = window(data, at, count);
    (window >> shift) as u64 & ((1 << count) - 1)
}

/// Writes the low `count` (1..=63) bits of `value`.
fn set(data: &mut Data, at: usize, count: usize, value: u64) {
    let (window, start, shift) = window(data, at, count);
    let mask = (1u128 << count) - 1;
    let window = window & !(mask << shift) | (u128::from(value) & mask) << shift;
    data[start..start + 16].copy_from_slice(&window.to_be_bytes());
}

/// Where a full chunk lies and when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappedPlace {
    pub place: ChunkPlace,
    /// First time; at an end of what 44 bits hold it is not exact.
    mint: i64,
}

impl MappedPlace {
    pub fn new(place: ChunkPlace, mint: i64) -> Self {
        Self { place, mint: mint.clamp(MIN_MINT, MAX_MINT) }
    }

    /// The chunk does not begin before this.
    pub fn begins(self) -> i64 {
        if self.mint == MIN_MINT { i64::MIN } else { self.mint }
    }

    /// The chunk before this one ends here or earlier.
    pub fn before_ends(self) -> i64 {
        if self.mint == MAX_MINT { i64::MAX } else { self.mint - 1 }
    }

    fn position(self) -> Option<u64> {
        let inside = self.place.offset >> FILE_BITS == 0 && self.mint > MIN_MINT && self.mint < MAX_MINT;
        inside.then(|| u64::from(self.place.file) << FILE_BITS | u64::from(self.place.offset))
    }

    /// How far it lies behind another, if that can be held.
    fn behind(self, before: Self) -> Option<u64> {
        let position = self.position()?.checked_sub(before.position()?)?;
        let step = u64::try_from(self.mint.checked_sub(before.mint)?).ok()?;
        (position >> POSITION_BITS == 0 && step >> STEP_BITS == 0).then_some(position << STEP_BITS | step)
    }
}

/// The entries of a block.
fn entries(data: &Data) -> SmallVec<[MappedPlace; PER_BLOCK]> {
    let count = get(data, COUNT_AT, 6) as usize;
    let place = ChunkPlace { file: get(data, 0, 24) as u32, offset: get(data, 24, 28) as u32 };
    let mut entry = MappedPlace { place, mint: (get(data, 52, 44) << 20) as i64 >> 20 };
    let mut found = SmallVec::new();
    found.push(entry);
    for i in 1..count.min(PER_BLOCK) {
        let at = FIRST_BITS + (i - 1) * MORE_BITS;
        let position = (u64::from(entry.place.file) << FILE_BITS | u64::from(entry.place.offset))
            + get(data, at, POSITION_BITS);
        let step = get(data, at + POSITION_BITS, STEP_BITS);
        let offset = (position & ((1 << FILE_BITS) - 1)) as u32;
        let place = ChunkPlace { file: (position >> FILE_BITS) as u32, offset };
        entry = MappedPlace { place, mint: entry.mint + step as i64 };
        found.push(entry);
    }
    found
}

/// Adds a place behind the others. False if it cannot be held: its numbers are larger than this program makes them.
pub(super) fn push(pool: &mut HalfBlockPool, record: &mut Record, new: MappedPlace) -> bool {
    if new.place.file >> 24 != 0 || new.place.offset >> 28 != 0 {
        return false;
    }
    let count = usize::from(record.mapped_in_block);
    if record.mapped != NONE && count < PER_BLOCK {
        let data = &mut pool.get_mut(record.mapped).data;
        if let Some(more) = entries(data).last().and_then(|last| new.behind(*last)) {
            set(data, FIRST_BITS + (count - 1) * MORE_BITS, MORE_BITS, more);
            set(data, COUNT_AT, 6, count as u64 + 1);
            record.mapped_in_block += 1;
            return true;
        }
    }
    record.mapped = pool.take(record.mapped);
    record.mapped_in_block = 1;
    let data = &mut pool.get_mut(record.mapped).data;
    set(data, 0, 24, u64::from(new.place.file));
    set(data, 24, 28, u64::from(new.place.offset));
    set(data, 52, 44, new.mint as u64);
    set(data, COUNT_AT, 6, 1);
    true
}

/// All places, oldest first.
pub(super) fn list(pool: &HalfBlockPool, record: &Record) -> SmallVec<[MappedPlace; 16]> {
    let mut places = SmallVec::new();
    let mut block = record.mapped;
    while block != NONE {
        let content = pool.get(block);
        places.extend(entries(&content.data).into_iter().rev());
        block = content.before;
    }
    places.reverse();
    places
}

/// The newest place.
pub(super) fn last(pool: &HalfBlockPool, record: &Record) -> Option<MappedPlace> {
    if record.mapped == NONE { None } else { entries(&pool.get(record.mapped).data).last().copied() }
}

/// Keeps these places only.
pub(super) fn replace(pool: &mut HalfBlockPool, record: &mut Record, places: &[MappedPlace]) {
    clear(pool, record);
    for place in places {
        push(pool, record, *place);
    }
}

/// Forgets all places.
pub(super) fn clear(pool: &mut HalfBlockPool, record: &mut Record) {
    pool.free_chain(record.mapped);
    record.mapped = NONE;
    record.mapped_in_block = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let mut pool = HalfBlockPool::default();
        let mut record = Record::EMPTY;
        let mut wanted = Vec::new();
        for (i, mint) in
            [0, -1, 1, 1_700_000_000_000, MAX_MINT - 1, MIN_MINT + 1, -1_700_000_000_000].iter().enumerate()
        {
            for (file, offset) in [(1, 8), (0xff_ffff, 0xfff_ffff), (7, 134_217_000)] {
                let place = ChunkPlace { file, offset: offset - i as u32 };
                assert!(push(&mut pool, &mut record, MappedPlace::new(place, *mint)));
                wanted.push((place, *mint, *mint - 1));
                let got: Vec<_> =
                    list(&pool, &record).iter().map(|p| (p.place, p.begins(), p.before_ends())).collect();
                assert_eq!(got, wanted);
                assert_eq!(last(&pool, &record).unwrap().place, place);
            }
        }
        let kept = list(&pool, &record)[10..].to_vec();
        replace(&mut pool, &mut record, &kept);
        assert_eq!(list(&pool, &record)[..], kept);
        clear(&mut pool, &mut record);
        assert_eq!((list(&pool, &record).len(), last(&pool, &record), pool.used()), (0, None, 0));
    }

    #[test]
    fn three_go_into_a_block_if_they_are_near() {
        let mut pool = HalfBlockPool::default();
        let mut record = Record::EMPTY;
        for i in 0..24u32 {
            let place = ChunkPlace { file: 1 + i * 2, offset: 8 + i * 5_000_000 };
            let mint = 1_700_000_000_000 + i64::from(i) * 7_200_000;
            assert!(push(&mut pool, &mut record, MappedPlace::new(place, mint)));
        }
        assert_eq!((pool.used(), list(&pool, &record).len()), (8, 24));
        let far = ChunkPlace { file: 70, offset: 8 };
        assert!(push(&mut pool, &mut record, MappedPlace::new(far, 1_800_000_000_000)));
        let farther = ChunkPlace { file: 87, offset: 8 };
        assert!(push(&mut pool, &mut record, MappedPlace::new(farther, 1_800_000_000_001)));
        assert_eq!((pool.used(), list(&pool, &record).len()), (10, 26));
    }

    #[test]
    fn times_that_do_not_fit_exclude_nothing() {
        let place = ChunkPlace { file: 1, offset: 8 };
        for (mint, begins, before_ends) in [
            (i64::MAX, MAX_MINT, i64::MAX),
            (MAX_MINT, MAX_MINT, i64::MAX),
            (MIN_MINT, i64::MIN, MIN_MINT - 1),
            (i64::MIN, i64::MIN, MIN_MINT - 1),
        ] {
            let (mut pool, mut record) = (HalfBlockPool::default(), Record::EMPTY);
            push(&mut pool, &mut record, MappedPlace::new(place, mint));
            let got = last(&pool, &record).unwrap();
            assert_eq!((got.begins(), got.before_ends()), (begins, before_ends), "{mint}");
        }
        for place in [ChunkPlace { file: 1 << 24, offset: 8 }, ChunkPlace { file: 1, offset: 1 << 28 }] {
            let (mut pool, mut record) = (HalfBlockPool::default(), Record::EMPTY);
            assert!(!push(&mut pool, &mut record, MappedPlace::new(place, 0)));
        }
    }
}
