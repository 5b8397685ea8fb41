//! The index's symbol table.
//!
//! ```text
//! length (4 bytes) | count (4 bytes) | { length uvarint | bytes } … | CRC-32C (4 bytes)
//! ```
//! From version 2 on a symbol is named by its ordinal, in version 1 by its offset in the index file.

use crate::cursor::Cursor;
use crate::index::Damage;

/// Every 32nd symbol's place is kept; those between are walked to.
const SAMPLE: u32 = 32;

/// Where symbols lie, once the table was walked.
#[derive(Debug)]
pub(crate) enum Symbols {
    /// Named by offset in the file.
    ByOffset,
    /// Named by ordinal.
    ByOrdinal {
        /// Start of the section's body in the file.
        base: usize,
        /// Number of symbols.
        count: u32,
        /// Offsets in the body of each 32nd symbol.
        samples: Vec<u32>,
    },
}

impl Symbols {
    /// Walks a table whose checked body starts at `base` in the file.
    pub(crate) fn walk(body: &[u8], base: usize, version: u8) -> Result<Self, Damage> {
        if version == 1 {
            return Ok(Self::ByOffset);
        }
        let mut c = Cursor::at(body, 0);
        let cut = |c: &Cursor<'_>| Damage::at(base + c.pos(), "symbol table is cut short");
        let count = c.be32().ok_or_else(|| cut(&c))?;
        let mut samples = Vec::with_capacity((count as usize).min(body.len()) / SAMPLE as usize + 1);
        for i in 0..count {
            if i % SAMPLE == 0 {
                samples.push(c.pos() as u32);
            }
            c.uvarint_bytes().ok_or_else(|| cut(&c))?;
        }
        Ok(Self::ByOrdinal { base, count, samples })
    }

    /// The symbol a series entry names by `reference`; `file` is the whole index.
    pub(crate) fn get<'a>(&self, file: &'a [u8], reference: u32) -> Result<&'a str, Damage> {
        let (at, skip) = match self {
            Self::ByOffset => (reference as usize, 0),
            Self::ByOrdinal { base, count, samples } => {
                if reference >= *count {
                    return Err(Damage::at(*base, format!("symbol {reference} of {count} is asked for")));
                }
                (base + samples[(reference / SAMPLE) as usize] as usize, reference % SAMPLE)
            }
        };
        let mut c = Cursor::at(file, at);
        for _ in 0..skip {
            c.uvarint_bytes();
        }
        let at = c.pos();
        let bytes = c.uvarint_bytes().ok_or_else(|| Damage::at(at, "symbol lies outside of the index"))?;
        std::str::from_utf8(bytes).map_err(|_| Damage::at(at, "symbol is not UTF-8"))
    }

    /// Number of symbols, where known.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Self::ByOffset => None,
            Self::ByOrdinal { count, .. } => Some(*count as usize),
        }
    }
}
