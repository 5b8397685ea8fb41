//! What the head knows of one series in 64 bytes, and the pages of these: 256 neighbours each, given back when all of
//! them are gone.

use crate::live::index::SeriesId;
use crate::live::memory::NONE;

/// One series. `last_t` and with it the order of samples survive the sealing of a chunk: an empty open chunk
/// (`samples == 0`) keeps `base_t + last_dt`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Record {
    /// Time of the open chunk's first sample, Unix ms.
    pub base_t: i64,
    /// Bits of the last float.
    pub last_v: u64,
    /// The series' reference in the log; 0 for a place without a series.
    pub series_ref: u64,
    /// Time of the last sample, ms from `base_t`. A longer gap cuts the chunk.
    pub last_dt: u32,
    /// Last step, ms.
    pub delta: u32,
    /// From which time on a sample begins a new chunk, ms from `base_t`.
    pub cut_dt: u32,
    /// Last block of the open chunk, or NONE.
    pub chunk: u32,
    /// Last block of the mapped chunks' places, or NONE.
    pub mapped: u32,
    /// State that few series have: index in the shard's side table, or NONE.
    pub side: u32,
    /// Number of the last commit that appended in order (low 32 bits).
    pub commit: u32,
    /// Bits used in the open chunk, its two bytes of count left out.
    pub bits: u16,
    /// XOR window: leading zeros (0xff: none yet) in the upper byte, trailing zeros in the lower.
    pub window: u16,
    /// [`flags`].
    pub flags: u16,
    /// Samples in the open chunk.
    pub samples: u8,
    /// How many of the last samples came with `commit`.
    pub committed: u8,
    /// Number of mapped chunks in the last block of `mapped`, 0 if there is none.
    pub mapped_in_block: u8,
    /// Free.
    pub spare: u8,
    /// Appends validated but not yet committed, one for a run of them; a series with any is not collected. Saturates: at
    /// the highest number it stays.
    pub pending: u16,
}

/// Bits of [`Record::flags`].
pub mod flags {
    /// Its series record is in the log.
    pub const LOGGED: u16 = 1;
    /// It has had an in-order sample: `base_t + last_dt` means something.
    pub const HAS_LAST: u16 = 2;
    /// The last sample was a stale marker.
    pub const STALE: u16 = 4;
    /// Candidate for collection.
    pub const CANDIDATE: u16 = 8;
    /// The kind of the newest in-order sample: two bits, 0 float, 1 integer histogram, 2 float histogram.
    pub const KIND_SHIFT: u16 = 4;
    /// Mask of the kind.
    pub const KIND_MASK: u16 = 0x30;
    /// `last_v` holds the bits of the last sample (they are unknown behind a mapped chunk that was loaded).
    pub const KNOWS_VALUE: u16 = 0x40;
    /// The open chunk is in the side table: no plain chunk of floats.
    pub const ASIDE: u16 = 0x80;
}

const _: () = assert!(size_of::<Record>() == 64);

/// Kind of a sample, as [`flags::KIND_MASK`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Floats.
    Float = 0,
    /// Histograms of integers.
    Integer = 1,
    /// Histograms of floats.
    FloatHistogram = 2,
}

impl Record {
    /// A place without a series.
    pub const EMPTY: Self = Self {
        base_t: 0,
        last_v: 0,
        series_ref: 0,
        last_dt: 0,
        delta: 0,
        cut_dt: 0,
        chunk: NONE,
        mapped: NONE,
        side: NONE,
        commit: 0,
        bits: 0,
        window: 0xff00,
        flags: 0,
        samples: 0,
        committed: 0,
        mapped_in_block: 0,
        spare: 0,
        pending: 0,
    };

    /// Whether a flag is set.
    #[inline]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Sets or clears a flag.
    #[inline]
    pub fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    /// Time of the newest in-order sample.
    #[inline]
    pub fn last_t(&self) -> Option<i64> {
        self.has(flags::HAS_LAST).then(|| self.base_t.saturating_add(i64::from(self.last_dt)))
    }

    /// Kind of the newest in-order sample.
    #[inline]
    pub fn kind(&self) -> Kind {
        match (self.flags & flags::KIND_MASK) >> flags::KIND_SHIFT {
            0 => Kind::Float,
            1 => Kind::Integer,
            _ => Kind::FloatHistogram,
        }
    }

    /// Sets the kind.
    #[inline]
    pub fn set_kind(&mut self, kind: Kind) {
        self.flags = self.flags & !flags::KIND_MASK | (kind as u16) << flags::KIND_SHIFT;
    }
}

const PAGE: usize = 256;

#[derive(Debug)]
struct Page {
    records: Box<[Record]>,
    live: u32,
}

/// The records of a shard.
#[derive(Debug, Default)]
pub struct Records {
    number: u32,
    shards: u32,
    pages: Vec<Option<Page>>,
    allocated: usize,
}

impl Records {
    /// No records, of shard `number` of `shards`.
    pub fn new(number: u32, shards: u32) -> Self {
        Self { number, shards: shards.max(1), pages: Vec::new(), allocated: 0 }
    }

    /// Makes a record.
    pub fn create(&mut self, id: SeriesId, series_ref: u64) -> &mut Record {
        let at = (id.0 >> 8) / self.shards;
        if self.pages.len() <= at as usize {
            self.pages.resize_with(at as usize + 1, || None);
        }
        let allocated = &mut self.allocated;
        let page = self.pages[at as usize].get_or_insert_with(|| {
            *allocated += 1;
            Page { records: vec![Record::EMPTY; PAGE].into_boxed_slice(), live: 0 }
        });
        let record = &mut page.records[(id.0 & 255) as usize];
        if record.series_ref == 0 {
            page.live += 1;
        }
        *record = Record { series_ref, ..Record::EMPTY };
        record
    }

    /// A live record.
    #[inline]
    pub fn get(&self, id: SeriesId) -> Option<&Record> {
        let page = self.pages.get(((id.0 >> 8) / self.shards) as usize)?.as_ref()?;
        page.records.get((id.0 & 255) as usize).filter(|r| r.series_ref != 0)
    }

    /// A live record, to change.
    #[inline]
    pub fn get_mut(&mut self, id: SeriesId) -> Option<&mut Record> {
        let page = self.pages.get_mut(((id.0 >> 8) / self.shards) as usize)?.as_mut()?;
        page.records.get_mut((id.0 & 255) as usize).filter(|r| r.series_ref != 0)
    }

    /// Takes a record out.
    pub fn remove(&mut self, id: SeriesId) -> Option<Record> {
        let place = self.pages.get_mut(((id.0 >> 8) / self.shards) as usize)?;
        let page = place.as_mut()?;
        let record = page.records.get_mut((id.0 & 255) as usize).filter(|r| r.series_ref != 0)?;
        let gone = std::mem::replace(record, Record::EMPTY);
        page.live -= 1;
        if page.live == 0 {
            *place = None;
            self.allocated -= 1;
        }
        Some(gone)
    }

    /// Live series, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.pages.iter().zip(0u32..).filter_map(|(page, at)| Some((page.as_ref()?, at))).flat_map(
            |(page, at)| {
                let first = (at * self.shards + self.number) << 8;
                page.records
                    .iter()
                    .zip(first..)
                    .filter(|(r, _)| r.series_ref != 0)
                    .map(|(_, id)| SeriesId(id))
            },
        )
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.allocated * PAGE * size_of::<Record>() + self.pages.capacity() * size_of::<Option<Page>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_and_go() {
        let mut records = Records::new(1, 4);
        // Shard 1 of 4 has the runs 256..512, 1280..1536, …
        let ids: Vec<u32> = (256..512).chain(1280..1300).collect();
        for id in &ids {
            records.create(SeriesId(*id), u64::from(*id) + 7);
        }
        assert_eq!(records.ids().map(|id| id.0).collect::<Vec<_>>(), ids);
        assert!(records.get(SeriesId(1300)).is_none() && records.get(SeriesId(99_999)).is_none());
        assert_eq!(records.get(SeriesId(1299)).unwrap().series_ref, 1306);
        let both = records.bytes();
        for id in 256..512 {
            assert_eq!(records.remove(SeriesId(id)).unwrap().series_ref, u64::from(id) + 7);
            assert!(records.remove(SeriesId(id)).is_none());
        }
        assert_eq!(both - records.bytes(), 256 * 64);
        assert_eq!(records.ids().count(), 20);
    }
}
