//! A block's index file, versions 1 to 3.
//!
//! ```text
//! 0xbaaad700 (4 bytes) | version (1 byte)
//! symbols | series | label indices (obsolete) | postings lists | label index table (obsolete) | postings offset table
//! table of contents: 6 offsets (8 bytes each) | CRC-32C (4 bytes)
//!
//! series entry:  length uvarint | labels uvarint | { name uvarint | value uvarint } … |
//!                chunks uvarint | mint varint | maxt - mint uvarint | reference uvarint |
//!                { mint - maxt before uvarint | maxt - mint uvarint | reference - reference before varint } … |
//!                CRC-32C (4 bytes)
//! postings list: length (4 bytes) | count (4 bytes) | { reference (4 bytes) } … | CRC-32C (4 bytes)
//! ```
//! From version 2 on a series reference is the entry's offset divided by 16, in version 1 the offset itself.
//! Version 3 differs in nothing a reader sees.

use std::path::Path;
use std::sync::OnceLock;

use tsdbctl_platform::map::Map;
use tsdbctl_storage::{Loss, StorageError};

use crate::checksum::crc32c;
use crate::cursor::Cursor;
use crate::offset_table::OffsetTable;
use crate::postings::RawPostings;
use crate::symbols::Symbols;

/// The file's name in a block's directory.
pub const FILE_NAME: &str = "index";

const MAGIC: u32 = 0xbaaa_d700;
const TOC_LEN: usize = 6 * 8 + 4;

/// What is wrong at which offset of the index.
#[derive(Debug)]
pub(crate) struct Damage {
    offset: u64,
    reason: String,
}

impl Damage {
    pub(crate) fn at(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset: offset as u64, reason: reason.into() }
    }

    /// Offset and reason.
    pub(crate) fn into_parts(self) -> (u64, String) {
        (self.offset, self.reason)
    }
}

/// Where the sections of an index are; 0 for those that are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toc {
    /// Symbols.
    pub symbols: u64,
    /// Series entries.
    pub series: u64,
    /// Label indices, obsolete.
    pub label_indices: u64,
    /// Label index table, obsolete.
    pub label_indices_table: u64,
    /// Postings lists.
    pub postings: u64,
    /// Postings offset table.
    pub postings_table: u64,
}

/// What the index says about one chunk. Times are Unix ms, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of the first sample.
    pub mint: i64,
    /// Time of the last sample.
    pub maxt: i64,
    /// See [`crate::segment`].
    pub reference: u64,
}

/// The body of a series entry, its checksum verified.
#[derive(Clone, Copy)]
pub(crate) struct SeriesEntry<'a> {
    pub(crate) cursor: Cursor<'a>,
    pub(crate) labels: u64,
}

/// An index file, mapped. Sections are parsed when first used.
#[derive(Debug)]
pub struct Index {
    map: Map,
    version: u8,
    toc: Toc,
    symbols: OnceLock<Symbols>,
    table: OnceLock<OffsetTable>,
}

impl Index {
    /// Opens the index in a block's directory. `meta_version` is that of `meta.json`: 2 marks blocks of Prometheus
    /// 2.1, whose indices are of version 2 but say 1.
    ///
    /// # Errors
    /// If the file cannot be mapped, is of an unknown version, or its table of contents is damaged.
    pub fn open(block_dir: &Path, meta_version: i64) -> Result<Self, StorageError> {
        let map = Map::open(&block_dir.join(FILE_NAME))?;
        let bytes = map.bytes();
        let bad = |offset: usize, reason: &str| {
            let loss =
                Loss { file: map.path().to_owned(), offset: offset as u64, reason: reason.to_string() };
            Err(StorageError::Corrupt(loss))
        };
        let mut c = Cursor::at(bytes, 0);
        let (Some(magic), Some(mut version)) = (c.be32(), c.u8()) else {
            return bad(0, "index is shorter than its header");
        };
        if magic != MAGIC {
            return bad(0, "not an index: wrong magic number");
        }
        if version == 1 && meta_version == 2 {
            version = 2;
        }
        if !(1..=3).contains(&version) {
            let reason = format!("index version {version} is not supported, only 1 to 3 are");
            return Err(StorageError::Unsupported { file: map.path().to_owned(), reason });
        }
        let Some(start) = bytes.len().checked_sub(TOC_LEN).filter(|s| *s >= 5) else {
            return bad(0, "index is shorter than its table of contents");
        };
        let mut c = Cursor::at(bytes, start);
        let mut at = [0u64; 6];
        for offset in &mut at {
            *offset = c.be64().unwrap_or(0);
        }
        if c.be32() != Some(crc32c(&bytes[start..start + 48])) {
            return bad(start, "checksum of the table of contents does not match");
        }
        let [symbols, series, label_indices, label_indices_table, postings, postings_table] = at;
        let toc = Toc { symbols, series, label_indices, label_indices_table, postings, postings_table };
        Ok(Self { map, version, toc, symbols: OnceLock::new(), table: OnceLock::new() })
    }

    /// The format's version.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The table of contents.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// Size of the file, bytes.
    pub fn size(&self) -> u64 {
        self.map.bytes().len() as u64
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// A damage of this file as an error.
    pub(crate) fn corrupt(&self, damage: Damage) -> StorageError {
        StorageError::Corrupt(Loss {
            file: self.map.path().to_owned(),
            offset: damage.offset,
            reason: damage.reason,
        })
    }

    /// The body at `offset` of what is framed by a length in front and a checksum behind, and where it starts.
    fn section(&self, offset: u64, what: &str) -> Result<(&[u8], usize), Damage> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut c = Cursor::at(self.bytes(), at);
        let start = c.pos() + 4;
        let body = c.be32().and_then(|len| c.take(u64::from(len)));
        let (Some(body), Some(sum)) = (body, c.be32()) else {
            return Err(Damage::at(at, format!("{what} lies outside of the index")));
        };
        if crc32c(body) != sum {
            return Err(Damage::at(at, format!("checksum of {what} does not match")));
        }
        Ok((body, start))
    }

    /// The symbol table, walked when first asked for.
    pub(crate) fn symbols(&self) -> Result<&Symbols, StorageError> {
        if let Some(s) = self.symbols.get() {
            return Ok(s);
        }
        let walked = self
            .section(self.toc.symbols, "the symbol table")
            .and_then(|(body, start)| Symbols::walk(body, start, self.version))
            .map_err(|d| self.corrupt(d))?;
        Ok(self.symbols.get_or_init(|| walked))
    }

    /// The symbol table from its count on, checked, and where that is in the file.
    pub(crate) fn symbol_table(&self) -> Result<(Cursor<'_>, usize), StorageError> {
        let (body, start) =
            self.section(self.toc.symbols, "the symbol table").map_err(|d| self.corrupt(d))?;
        Ok((Cursor::at(body, 0), start))
    }

    /// The string of a symbol as series entries name it.
    pub(crate) fn symbol(&self, reference: u32) -> Result<&str, StorageError> {
        self.symbols()?.get(self.bytes(), reference).map_err(|d| self.corrupt(d))
    }

    /// The postings offset table, walked when first asked for.
    pub(crate) fn table(&self) -> Result<&OffsetTable, StorageError> {
        if let Some(t) = self.table.get() {
            return Ok(t);
        }
        let walked = self
            .section(self.toc.postings_table, "the postings offset table")
            .and_then(|(body, start)| OffsetTable::walk(body, start, self.version))
            .map_err(|d| self.corrupt(d))?;
        Ok(self.table.get_or_init(|| walked))
    }

    /// The postings offset table from its count on, checked, and where that is in the file.
    pub(crate) fn pair_table(&self) -> Result<(Cursor<'_>, usize), StorageError> {
        let (body, start) = self
            .section(self.toc.postings_table, "the postings offset table")
            .map_err(|d| self.corrupt(d))?;
        Ok((Cursor::at(body, 0), start))
    }

    /// The list at an offset that the postings offset table gave.
    pub(crate) fn postings(&self, offset: u64) -> Result<RawPostings<'_>, StorageError> {
        let (body, start) = self.section(offset, "a postings list").map_err(|d| self.corrupt(d))?;
        let Some(count) = Cursor::at(body, 0).be32() else {
            return Err(self.corrupt(Damage::at(start, "postings list is shorter than its count")));
        };
        let count = count as usize;
        let (list, rest) = body.get(4..).unwrap_or(&[]).as_chunks::<4>();
        if list.len() != count || !rest.is_empty() {
            let reason = format!("postings list of {} bytes says it has {count} entries", body.len());
            return Err(self.corrupt(Damage::at(start, reason)));
        }
        Ok(RawPostings(list))
    }

    /// All series.
    pub(crate) fn all_postings(&self) -> Result<RawPostings<'_>, StorageError> {
        let table = self.table()?;
        let Some(range) = table.find(self.bytes(), "") else { return Ok(RawPostings(&[])) };
        match table.postings_offset(self.bytes(), range, "").map_err(|d| self.corrupt(d))? {
            Some(offset) => self.postings(offset),
            None => Ok(RawPostings(&[])),
        }
    }

    /// The series entry of a reference.
    #[inline]
    pub(crate) fn series(&self, reference: u32) -> Result<SeriesEntry<'_>, StorageError> {
        self.checked_series(reference).map_err(|d| self.corrupt(d))
    }

    #[inline]
    fn checked_series(&self, reference: u32) -> Result<SeriesEntry<'_>, Damage> {
        let at = reference as usize * if self.version == 1 { 1 } else { 16 };
        let mut c = Cursor::at(self.bytes(), at);
        let len = c.uvarint();
        let start = c.pos();
        let (Some(body), Some(sum)) = (len.and_then(|l| c.take(l)), c.be32()) else {
            return Err(Damage::at(at, "a series entry lies outside of the index"));
        };
        if crc32c(body) != sum {
            return Err(Damage::at(at, "checksum of a series entry does not match"));
        }
        // Positions stay those of the file, so that chunks can be found again without the entry's start.
        let mut cursor = Cursor::at(&self.bytes()[..start + body.len()], start);
        match cursor.uvarint() {
            Some(labels) => Ok(SeriesEntry { cursor, labels }),
            None => Err(Damage::at(at, "a series entry is cut short")),
        }
    }

    /// The chunks whose list starts at `at`; the entry's checksum was verified before.
    #[inline]
    pub(crate) fn chunks(&self, at: u64) -> ChunkMetas<'_> {
        let mut cursor = Cursor::at(self.bytes(), at as usize);
        let left = cursor.uvarint().unwrap_or(0);
        ChunkMetas { cursor, left, first: true, maxt: 0, reference: 0 }
    }

    /// Whether what was read so far can be trusted: the file was not cut short under its map.
    pub(crate) fn check_intact(&self) -> Result<(), StorageError> {
        if self.map.has_faulted() {
            return Err(self.corrupt(Damage::at(0, "the file was cut short while it was read")));
        }
        Ok(())
    }

    /// A series entry that ends too early.
    pub(crate) fn cut_series(&self, at: usize) -> StorageError {
        self.corrupt(Damage::at(at, "a series entry is cut short"))
    }
}

/// Iterates over the chunks of a series entry. Ends early where the entry does; see [`ChunkMetas::is_cut`].
pub(crate) struct ChunkMetas<'a> {
    cursor: Cursor<'a>,
    left: u64,
    first: bool,
    maxt: i64,
    reference: u64,
}

impl ChunkMetas<'_> {
    /// Whether the iteration ended before all chunks were seen.
    pub(crate) fn is_cut(&self) -> bool {
        self.left > 0
    }
}

impl Iterator for ChunkMetas<'_> {
    type Item = ChunkMeta;

    #[inline]
    fn next(&mut self) -> Option<ChunkMeta> {
        if self.left == 0 {
            return None;
        }
        let c = &mut self.cursor;
        let mint = if self.first { c.varint()? } else { self.maxt.wrapping_add(c.uvarint()? as i64) };
        let maxt = mint.wrapping_add(c.uvarint()? as i64);
        let reference =
            if self.first { c.uvarint()? } else { self.reference.wrapping_add(c.varint()? as u64) };
        (self.first, self.maxt, self.reference) = (false, maxt, reference);
        self.left -= 1;
        Some(ChunkMeta { mint, maxt, reference })
    }
}
