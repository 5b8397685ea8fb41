//! Mapped head chunks: `chunks_head/000001`…, full chunks of series that are still in the head.
//!
//! ```text
//! file:  magic 0x0130BC91 (4) · version 1 (1) · padding (3) · chunk… · zeros
//! chunk: series ref (8) · mint (8) · maxt (8) · encoding, high bit: out of order (1) · length (uvarint) · data ·
//!        CRC-32C of all before (4)
//! ```
//! Numbers are big-endian. The first two bytes of `data` are the number of samples. A chunk's reference is
//! the file's number in the upper and its offset in the lower 32 bits.

use std::path::Path;

use hashbrown::HashSet;
use tsdbctl_chunk::Encoding;
use tsdbctl_platform::file::{self, Entry};
use tsdbctl_platform::map::Map;
use tsdbctl_storage::StorageError;
use tsdbctl_wal::cursor::Cursor;
use tsdbctl_wal::page::crc32c;

use crate::late_end::late_in_blocks;
use crate::loss::{Losses, cut_short};

const MAGIC: u32 = 0x0130_BC91;
/// Length of a file's header, bytes.
pub const FILE_HEADER: usize = 8;
/// The longest a chunk can be without its data.
pub const MAX_CHUNK_META: usize = 34;
const OUT_OF_ORDER_BIT: u8 = 0x80;
/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Fewer zeros at the end of a sector say nothing: a chunk begins with some.
const LEAST_MISSING: usize = 3;

/// Where a mapped chunk is and what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedChunk {
    /// The chunk's data: index of the file among [`MappedChunks::files`], offset and length.
    pub file: u32,
    /// Offset of the data.
    pub offset: u32,
    /// Length of the data, bytes.
    pub len: u32,
    /// How the data is encoded.
    pub encoding: Encoding,
    /// Time of the first sample, Unix milliseconds.
    pub mint: i64,
    /// Time of the last sample, Unix milliseconds.
    pub maxt: i64,
}

/// The files of mapped chunks, checked.
#[derive(Debug, Default)]
pub struct MappedChunks {
    /// The files in order of their numbers.
    pub files: Vec<Map>,
    /// What markers of the out-of-order log may name.
    pub late: LateChunks,
}

/// Which chunks there are of samples that came out of order.
#[derive(Debug, Default)]
pub struct LateChunks {
    /// Series and places.
    places: HashSet<(u64, u64)>,
    /// Number of the first file, 0 if there is none.
    first_file: u32,
    /// Those up to this place are in blocks.
    in_blocks: u64,
}

impl LateChunks {
    /// Whether the out-of-order chunk that a marker names is there, or lay in a file that is not needed any more because
    /// its samples are in blocks. That later chunks are there says nothing: a crash may have taken this one alone.
    pub fn has_marked(&self, series: u64, place: u64) -> bool {
        place >> 32 < u64::from(self.first_file)
            || place <= self.in_blocks
            || self.places.contains(&(series, place))
    }
}

impl MappedChunks {
    /// The data of a chunk.
    pub fn data(&self, chunk: &MappedChunk) -> &[u8] {
        let start = chunk.offset as usize;
        self.files
            .get(chunk.file as usize)
            .and_then(|f| f.bytes().get(start..start + chunk.len as usize))
            .unwrap_or(&[])
    }

    /// Opens `dir` and gives every sound chunk to `each`, with its series and whether it is out of order; all
    /// checksums are checked. Out-of-order ones that are in blocks are left out. Behind damage nothing is read, because
    /// a later chunk of a series would make replay skip samples of the log that only the damaged one had. What of the
    /// last file a crash has torn ([`Scan::is_torn`]) is no damage: the log has it all.
    ///
    /// # Errors
    /// If a file cannot be read, or is damaged and the reader strict.
    pub fn open(
        dir: &Path,
        losses: &mut Losses,
        mut each: impl FnMut(u64, bool, MappedChunk),
    ) -> Result<Self, StorageError> {
        let mut found = Self::default();
        let files = list_files(dir)?;
        let count = files.len();
        found.late.first_file = files.first().map_or(0, |f| f.0);
        found.late.in_blocks = late_in_blocks(dir)?;
        for (i, (number, entry)) in files.iter().enumerate() {
            if i > 0 && files[i - 1].0 + 1 != *number {
                losses.at(&dir.join(file_name(number - 1)), 0, MISSING)?;
                break;
            }
            let is_last = i + 1 == count;
            let map = Map::open(&entry.path)?;
            found.files.push(map.clone());
            let mut scan = Scan::new(map.bytes(), i as u32, FILE_HEADER);
            match FileHeader::of(map.bytes()) {
                FileHeader::Sound => {}
                FileHeader::Unwritten if is_last => break,
                _ => {
                    losses.at(&entry.path, 0, NO_HEADER)?;
                    break;
                }
            }
            loop {
                let at = scan.at;
                match scan.next() {
                    Ok(Some(Scanned { series, out_of_order, chunk })) => {
                        let place = u64::from(*number) << 32 | at as u64;
                        if out_of_order {
                            if place <= found.late.in_blocks {
                                continue;
                            }
                            found.late.places.insert((series, place));
                        }
                        if let Some(chunk) = chunk {
                            each(series, out_of_order, chunk);
                        }
                    }
                    Ok(None) => {
                        let is_hole = !is_last && scan.is_hole(at);
                        if map.has_faulted() {
                            return Err(cut_short(&entry.path));
                        }
                        if is_hole {
                            losses.at(&entry.path, at as u64, HOLE)?;
                            return Ok(found);
                        }
                        break;
                    }
                    Err(BadChunk { reason, .. }) => {
                        let torn = is_last && scan.is_torn(at);
                        if map.has_faulted() {
                            return Err(cut_short(&entry.path));
                        }
                        if !torn {
                            losses.at(&entry.path, at as u64, reason)?;
                        }
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Asks whether what was read of the files can be trusted.
    ///
    /// # Errors
    /// If a file was cut short under its map and a read met the missing part.
    pub fn check_intact(&self) -> Result<(), StorageError> {
        match self.files.iter().find(|f| f.has_faulted()) {
            Some(file) => Err(cut_short(file.path())),
            None => Ok(()),
        }
    }
}

/// Why nothing is read behind a place where a file is missing.
pub const MISSING: &str = "this file of head chunks is missing";
/// Why nothing is read of a file with another header.
pub const NO_HEADER: &str = "no head chunk file of version 1";

/// Why nothing is read behind zeros that other bytes follow.
pub const HOLE: &str = "zeros where a chunk should be";

/// The name of a file.
pub fn file_name(number: u32) -> String {
    format!("{number:06}")
}

/// The files of a directory in order of their numbers; none if there is no such directory.
///
/// # Errors
/// If it cannot be read.
pub fn list_files(dir: &Path) -> Result<Vec<(u32, Entry)>, StorageError> {
    let entries = match file::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut files: Vec<(u32, Entry)> =
        entries.into_iter().filter(|e| !e.is_dir).filter_map(|e| Some((e.name.parse().ok()?, e))).collect();
    files.sort_by_key(|(number, _)| *number);
    Ok(files)
}

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileHeader {
    /// As it should.
    Sound,
    /// Made, but its header not written before a crash.
    Unwritten,
    /// As no file of this version.
    Other,
}

impl FileHeader {
    /// Judges the first bytes of a file.
    pub fn of(bytes: &[u8]) -> Self {
        // Prometheus takes no shorter one.
        match bytes.first_chunk::<FILE_HEADER>() {
            Some([a, b, c, d, 1, ..]) if u32::from_be_bytes([*a, *b, *c, *d]) == MAGIC => Self::Sound,
            None | Some([0, 0, 0, 0, ..]) => Self::Unwritten,
            _ => Self::Other,
        }
    }
}

/// A chunk as a scan meets it.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    /// Its series' reference.
    pub series: u64,
    /// Whether its samples came out of order.
    pub out_of_order: bool,
    /// Its place, none if its encoding is unknown.
    pub chunk: Option<MappedChunk>,
}

/// A place where no chunk can be read.
#[derive(Clone, Debug)]
pub struct BadChunk {
    /// What is wrong.
    pub reason: String,
    /// The bytes end in it; more of them may make it sound.
    pub is_cut: bool,
}

impl BadChunk {
    fn cut(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_cut: true }
    }

    fn wrong(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_cut: false }
    }
}

/// Reads chunks one behind the other.
pub struct Scan<'a> {
    bytes: &'a [u8],
    file: u32,
    /// Where the next one begins.
    pub at: usize,
}

impl<'a> Scan<'a> {
    /// Begins at `at`; chunks say that they are of `file`.
    pub fn new(bytes: &'a [u8], file: u32, at: usize) -> Self {
        Self { bytes, file, at }
    }

    /// The next chunk; `Ok(None)` at the end.
    ///
    /// # Errors
    /// If there is something else.
    #[allow(clippy::should_implement_trait, reason = "an end and an error are different things here")]
    pub fn next(&mut self) -> Result<Option<Scanned>, BadChunk> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        if rest.len() < MAX_CHUNK_META {
            return if rest.iter().all(|b| *b == 0) {
                Ok(None)
            } else {
                Err(BadChunk::cut("the file ends inside a chunk's header"))
            };
        }
        let mut c = Cursor::new(rest);
        let mut number = || c.be64().map_err(|e| BadChunk::wrong(e.to_string()));
        let (series, mint, maxt) = (number()?, number()? as i64, number()? as i64);
        if (series, mint, maxt) == (0, 0, 0) {
            return Ok(None);
        }
        let kind = c.byte().map_err(|e| BadChunk::wrong(e.to_string()))?;
        let len = c.uvarint().map_err(|_| BadChunk::wrong("a chunk's length is no number"))?;
        let start = rest.len() - c.len();
        let end = usize::try_from(len)
            .ok()
            .and_then(|n| start.checked_add(n))
            .filter(|e| e.saturating_add(4) <= rest.len());
        let Some(end) = end else {
            return Err(BadChunk::cut(format!("a chunk of {len} bytes runs over the end of the file")));
        };
        let stored = u32::from_be_bytes([rest[end], rest[end + 1], rest[end + 2], rest[end + 3]]);
        let computed = crc32c(&rest[..end]);
        if stored != computed {
            let reason = format!("checksum mismatch: stored {stored:08x}, computed {computed:08x}");
            return Err(BadChunk::wrong(reason));
        }
        let offset =
            u32::try_from(self.at + start).map_err(|_| BadChunk::wrong("the file is longer than 4 GiB"))?;
        let chunk = Encoding::from_byte(kind & !OUT_OF_ORDER_BIT).map(|encoding| MappedChunk {
            file: self.file,
            offset,
            len: (end - start) as u32,
            encoding,
            mint,
            maxt,
        });
        self.at += end + 4;
        Ok(Some(Scanned { series, out_of_order: kind & OUT_OF_ORDER_BIT != 0, chunk }))
    }

    /// Whether the bad chunk at `at` is what a crash leaves of the newest file, which is not synced while it is
    /// written: the file ends in it, or parts of it never reached the disk.
    pub fn is_torn(&self, at: usize) -> bool {
        self.has_missing_sector(at) || self.nothing_behind(at)
    }

    /// Whether zeros at `at` are followed by anything else.
    pub fn is_hole(&self, at: usize) -> bool {
        self.bytes.get(at..).is_some_and(|rest| rest.iter().any(|b| *b != 0))
    }

    /// Whether the part of the chunk at `at` that lies in one of the disk's sectors is missing: all zeros.
    fn has_missing_sector(&self, at: usize) -> bool {
        let rest = &self.bytes[at.min(self.bytes.len())..];
        let claimed = rest.get(25..).and_then(|behind| Cursor::new(behind).uvarint().ok()).unwrap_or(0);
        let length = usize::try_from(claimed).unwrap_or(usize::MAX).saturating_add(MAX_CHUNK_META);
        let end = at.saturating_add(length).min(self.bytes.len());
        let mut start = at;
        while start < end {
            let sector_end = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let part = &self.bytes[start..sector_end.min(self.bytes.len())];
            // The first bytes of a reference are zeros anyway.
            if part.len() > LEAST_MISSING && part.iter().all(|b| *b == 0) {
                return true;
            }
            start = sector_end;
        }
        false
    }

    /// Whether no sound chunk follows the bad one at `at`.
    fn nothing_behind(&self, at: usize) -> bool {
        let used = self.bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
        let mut tried = 0usize;
        (at + 1..used.saturating_sub(MAX_CHUNK_META - 1)).all(|start| {
            // The upper bits of a reference and of a length are zero: few places get as far as a checksum.
            if self.bytes[start..start + 3] != [0, 0, 0] || self.bytes[start + 24] & 0x78 != 0 {
                return true;
            }
            let claimed = Cursor::new(&self.bytes[start + 25..]).uvarint().unwrap_or(0) as usize;
            if claimed <= self.bytes.len() - start {
                tried += claimed;
            }
            // In a file made so that each place claims much, the search ends: that is no torn end.
            let mut probe = Scan { bytes: self.bytes, file: self.file, at: start };
            tried <= self.bytes.len().saturating_mul(16) && !matches!(probe.next(), Ok(Some(_)))
        })
    }
}

/// Appends a file header.
pub fn write_file_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&[1, 0, 0, 0]);
}

/// Appends one chunk.
pub fn write_chunk(
    out: &mut Vec<u8>,
    series: u64,
    (mint, maxt): (i64, i64),
    encoding: Encoding,
    out_of_order: bool,
    data: &[u8],
) {
    let start = out.len();
    out.extend_from_slice(&series.to_be_bytes());
    out.extend_from_slice(&mint.to_be_bytes());
    out.extend_from_slice(&maxt.to_be_bytes());
    out.push(encoding as u8 | if out_of_order { OUT_OF_ORDER_BIT } else { 0 });
    tsdbctl_wal::cursor::put_string(out, data);
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}
