//! `chunks_head/late_in_blocks`: up to which place the chunks of samples that came out of order are in blocks. A file
//! that has such chunks stays as long as anything else in it is needed, so that without this they would be there again
//! when the head is opened anew: written into another block, and what was deleted in the first one back.
//!
//! ```text
//! tsdbctl 1 · file · offset · series · mint · maxt · length, of the last such chunk: decimal numbers, a line
//! ```
//! It holds as long as that chunk lies where it says: whoever makes the files anew begins with their numbers anew.
//! Prometheus does not look at it and knows such chunks only until it ends.

use std::path::Path;

use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::file;
use tsdbctl_platform::map::Map;
use tsdbctl_storage::StorageError;

use crate::mapped::{Scan, Scanned, file_name};

const NAME: &str = "late_in_blocks";
const BEGINS: &str = "tsdbctl 1";

/// A chunk as the note has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateEnd {
    /// Number of its file.
    pub file: u32,
    /// Where its header begins.
    pub offset: u32,
    /// Reference of its series.
    pub series: u64,
    /// First time, Unix ms.
    pub mint: i64,
    /// Last time, Unix ms.
    pub maxt: i64,
    /// Length of its data, bytes.
    pub length: u32,
}

impl LateEnd {
    /// Notes it down; durable afterwards. The chunk is to be durable before.
    ///
    /// # Errors
    /// If the system refuses; the note is as it was then.
    pub fn write(&self, disk: &dyn Disk, chunks_dir: &Path) -> Result<(), StorageError> {
        let Self { file, offset, series, mint, maxt, length } = self;
        let text = format!("{BEGINS} {file} {offset} {series} {mint} {maxt} {length}\n");
        Ok(file::replace(disk, &chunks_dir.join(NAME), text.as_bytes())?)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(BEGINS)?.strip_suffix('\n')?;
        let mut words = text.split_ascii_whitespace();
        let found = Self {
            file: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            series: words.next()?.parse().ok()?,
            mint: words.next()?.parse().ok()?,
            maxt: words.next()?.parse().ok()?,
            length: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(found)
    }

    /// Whether the chunk is there.
    fn holds(&self, chunks_dir: &Path) -> Result<bool, StorageError> {
        let map = match Map::open(&chunks_dir.join(file_name(self.file))) {
            Err(e) if e.is_not_found() => return Ok(false),
            map => map?,
        };
        let found = Scan::new(map.bytes(), 0, self.offset as usize).next();
        let Ok(Some(Scanned { series, out_of_order: true, chunk: Some(chunk) })) = found else {
            return Ok(false);
        };
        let (is, noted) = ((series, chunk.mint, chunk.maxt, chunk.len), (self.series, self.mint, self.maxt));
        Ok(!map.has_faulted() && is == (noted.0, noted.1, noted.2, self.length))
    }
}

/// The last place, as markers have it, of which out-of-order chunks are in blocks; 0 if nothing is known of any.
///
/// # Errors
/// If a file cannot be read.
pub fn late_in_blocks(chunks_dir: &Path) -> Result<u64, StorageError> {
    let text = match file::read(&chunks_dir.join(NAME)) {
        Err(e) if e.is_not_found() => return Ok(0),
        text => text?,
    };
    match LateEnd::parse(&text) {
        Some(end) if end.holds(chunks_dir)? => Ok(u64::from(end.file) << 32 | u64::from(end.offset)),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_chunk::Encoding;
    use tsdbctl_platform::real::RealDisk;

    use super::*;
    use crate::mapped::{FILE_HEADER, write_chunk, write_file_header};

    #[test]
    fn a_note_holds_as_long_as_its_chunk_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let file = |late: bool, maxt: i64| {
            let mut bytes = Vec::new();
            write_file_header(&mut bytes);
            write_chunk(&mut bytes, 7, (1, 2), Encoding::Xor, true, &[0, 1, 9, 9]);
            let at = bytes.len() as u32;
            write_chunk(&mut bytes, 8, (-3, maxt), Encoding::Xor, late, &[0, 1, 9, 9, 9, 9, 9, 9, 9]);
            std::fs::write(dir.join(file_name(3)), bytes).unwrap();
            at
        };
        assert_eq!(late_in_blocks(dir).unwrap(), 0);
        let offset = file(true, 5);
        let end = LateEnd { file: 3, offset, series: 8, mint: -3, maxt: 5, length: 9 };
        end.write(&RealDisk, dir).unwrap();
        let noted = 3 << 32 | u64::from(offset);
        assert_eq!(late_in_blocks(dir).unwrap(), noted);
        // Other chunks at its place.
        for (late, maxt) in [(false, 5), (true, 6)] {
            file(late, maxt);
            assert_eq!(late_in_blocks(dir).unwrap(), 0, "{late} {maxt}");
        }
        file(true, 5);
        let others = [
            LateEnd { offset: FILE_HEADER as u32, ..end },
            LateEnd { offset: u32::MAX, ..end },
            LateEnd { file: 4, ..end },
            LateEnd { series: 9, ..end },
            LateEnd { length: 4, ..end },
        ];
        for other in others {
            other.write(&RealDisk, dir).unwrap();
            assert_eq!(late_in_blocks(dir).unwrap(), 0, "{other:?}");
        }
        end.write(&RealDisk, dir).unwrap();
        let note = std::fs::read(dir.join(NAME)).unwrap();
        assert_eq!(String::from_utf8_lossy(&note), format!("tsdbctl 1 3 {offset} 8 -3 5 9\n"));
        for wrong in
            [&b""[..], b"tsdbctl 1\n", b"tsdbctl 2 3 46 8 -3 5 9\n", &note[..note.len() - 1], b"\xff"]
        {
            std::fs::write(dir.join(NAME), wrong).unwrap();
            assert_eq!(late_in_blocks(dir).unwrap(), 0, "{wrong:?}");
        }
        std::fs::write(dir.join(NAME), &note).unwrap();
        assert_eq!(late_in_blocks(dir).unwrap(), noted);
    }
}
