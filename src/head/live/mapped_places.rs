//! The places of a series' full chunks: five to a block, in the chains that open chunks are made of.
//!
//! ```text
//! entry: 96 bits, big-endian: file (24) · offset (28) · mint, Unix ms, two's complement (44)
//! ```
//! A `mint` that does not fit is the nearest one that does. A chunk ends before the next one begins; the exact times
//! stand in front of the chunk in its file.

use smallvec::SmallVec;

use crate::live::chunk_files::ChunkPlace;
use crate::live::memory::{BlockPool, NONE};
use crate::live::record::Record;

const ENTRY: usize = 12;
const PER_BLOCK: u8 = 5;
const MAX_MINT: i64 = (1 << 43) - 1;
const MIN_MINT: i64 = -(1 << 43);

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

    fn pack(self) -> Option<[u8; ENTRY]> {
        if self.place.file >> 24 != 0 || self.place.offset >> 28 != 0 {
            return None;
        }
        let packed = u128::from(self.place.file) << 72
            | u128::from(self.place.offset) << 44
            | u128::from(self.mint as u64 & ((1 << 44) - 1));
        let mut entry = [0; ENTRY];
        entry.copy_from_slice(&packed.to_be_bytes()[4..]);
        Some(entry)
    }

    fn unpack(entry: &[u8]) -> Self {
        let packed = entry.iter().fold(0u128, |n, byte| n << 8 | u128::from(*byte));
        Self {
            place: ChunkPlace {
                file: (packed >> 72) as u32 & 0xff_ffff,
                offset: (packed >> 44) as u32 & 0xfff_ffff,
            },
            mint: (packed << 20) as i64 >> 20,
        }
    }
}

/// Adds a place behind the others. False if it cannot be held: its numbers are larger than this program makes them.
pub(super) fn push(pool: &mut BlockPool, record: &mut Record, place: MappedPlace) -> bool {
    let Some(entry) = place.pack() else { return false };
    if record.mapped == NONE || record.mapped_in_block == PER_BLOCK {
        record.mapped = pool.take(record.mapped);
        record.mapped_in_block = 0;
    }
    let at = usize::from(record.mapped_in_block) * ENTRY;
    pool.get_mut(record.mapped).data[at..at + ENTRY].copy_from_slice(&entry);
    record.mapped_in_block += 1;
    true
}

/// All places, oldest first.
pub(super) fn list(pool: &BlockPool, record: &Record) -> SmallVec<[MappedPlace; 15]> {
    let mut places = SmallVec::new();
    let (mut block, mut count) = (record.mapped, usize::from(record.mapped_in_block));
    while block != NONE {
        let content = pool.get(block);
        places.extend(content.data[..count * ENTRY].chunks_exact(ENTRY).rev().map(MappedPlace::unpack));
        (block, count) = (content.before, usize::from(PER_BLOCK));
    }
    places.reverse();
    places
}

/// The newest place.
pub(super) fn last(pool: &BlockPool, record: &Record) -> Option<MappedPlace> {
    let at = usize::from(record.mapped_in_block.checked_sub(1)?) * ENTRY;
    (record.mapped != NONE).then(|| MappedPlace::unpack(&pool.get(record.mapped).data[at..at + ENTRY]))
}

/// Keeps these places only.
pub(super) fn replace(pool: &mut BlockPool, record: &mut Record, places: &[MappedPlace]) {
    clear(pool, record);
    for place in places {
        push(pool, record, *place);
    }
}

/// Forgets all places.
pub(super) fn clear(pool: &mut BlockPool, record: &mut Record) {
    pool.free_chain(record.mapped);
    record.mapped = NONE;
    record.mapped_in_block = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let mut pool = BlockPool::default();
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
    fn times_that_do_not_fit_exclude_nothing() {
        let place = ChunkPlace { file: 1, offset: 8 };
        for (mint, begins, before_ends) in [
            (i64::MAX, MAX_MINT, i64::MAX),
            (MAX_MINT, MAX_MINT, i64::MAX),
            (MIN_MINT, i64::MIN, MIN_MINT - 1),
            (i64::MIN, i64::MIN, MIN_MINT - 1),
        ] {
            let packed = MappedPlace::new(place, mint).pack().unwrap();
            let got = MappedPlace::unpack(&packed);
            assert_eq!((got.begins(), got.before_ends()), (begins, before_ends), "{mint}");
        }
        for place in [ChunkPlace { file: 1 << 24, offset: 8 }, ChunkPlace { file: 1, offset: 1 << 28 }] {
            assert_eq!(MappedPlace::new(place, 0).pack(), None);
        }
    }
}
