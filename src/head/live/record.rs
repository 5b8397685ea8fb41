//! What the head knows of one series in 64 bytes.

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
    /// Appends validated but not yet committed; a series with any is not collected. Saturates: at 255 it stays.
    pub pending: u8,
    /// Free.
    pub spare: [u8; 2],
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
}

const _: () = assert!(size_of::<Record>() == 64);
