//! Loading `chunks_head/`: which chunks there are, whose they are, and what of the files is put aside because it is
//! damaged.
//!
//! A damaged chunk's header is not to be believed either, and a later chunk of its series would make the log's samples
//! in front of it count as known. So nothing behind damage is used, in order of the files: it is moved to `quarantine/`,
//! and the log, which has it all, fills the files anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tsdbctl_chunk::Encoding;
use tsdbctl_platform::disk::{Access, Disk, create_dir_all, write_all_at};
use tsdbctl_platform::map::Map;
use tsdbctl_storage::{Control, StorageError};

use crate::late_end::late_in_blocks;
use crate::live::chunk_files::ChunkPlace;
use crate::live::shard::AttachedChunk;
use crate::live::snapshot::remove_older;
use crate::loss::{Losses, cut_short};
use crate::mapped::{
    FILE_HEADER, FileHeader, HOLE, MAX_CHUNK_META, MISSING, NO_HEADER, Scan, Scanned, file_name, list_files,
};
use crate::window::{WINDOW_BYTES, Window};

/// References of this many bits can be a series'.
const REF_BITS: u32 = 40;
const OUT_OF_ORDER: u64 = 0x40;
const TAKEN: u64 = 0x80;
const ENCODING: u64 = 0x3f;

/// A chunk whose series' labels have not been met yet.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// The series' reference, [`TAKEN`], [`OUT_OF_ORDER`], encoding.
    key: u64,
    /// As markers have it.
    place: u64,
    mint: i64,
    maxt: i64,
}

/// The chunks of a directory.
#[derive(Debug, Default)]
pub struct FoundChunks {
    /// Sorted by series and place.
    chunks: Vec<Found>,
    /// Behind those that were claimed last.
    next: usize,
    /// Number of the first file, 0 if there is none.
    pub first_file: u32,
    /// Number of the last file that is left, 0 if there is none.
    pub last_file: u32,
    /// Highest reference met.
    pub highest_ref: u64,
    /// Out-of-order chunks up to this place are in blocks.
    late_in_blocks: u64,
    /// Whether anything was put aside.
    pub is_mended: bool,
}

/// A place from which on the files are not used.
struct Bad {
    /// Index of the file.
    file: usize,
    offset: u64,
    /// None for what a crash leaves.
    reason: Option<String>,
}

impl FoundChunks {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Found>()
    }

    /// Takes the chunks of a series, in order of their places.
    pub fn claim(&mut self, series: u64, out: &mut Vec<AttachedChunk>) {
        // Series come in the order of their references, nearly all of them.
        let is_first = |at: usize| {
            self.chunks.get(at).is_none_or(|c| c.key >> 8 >= series)
                && at.checked_sub(1).is_none_or(|before| self.chunks[before].key >> 8 < series)
        };
        let first = match self.next {
            next if is_first(next) => next,
            _ => self.chunks.partition_point(|c| c.key >> 8 < series),
        };
        self.next = first;
        for c in self.chunks[first..].iter_mut().take_while(|c| c.key >> 8 == series) {
            self.next += 1;
            if c.key & TAKEN != 0 {
                continue;
            }
            c.key |= TAKEN;
            let Some(encoding) = Encoding::from_byte((c.key & ENCODING) as u8) else { continue };
            out.push(AttachedChunk {
                place: ChunkPlace { file: (c.place >> 32) as u32, offset: c.place as u32 },
                mint: c.mint,
                maxt: c.maxt,
                encoding,
                out_of_order: c.key & OUT_OF_ORDER != 0,
            });
        }
    }

    /// Chunks that no series has claimed.
    pub fn unclaimed(&self) -> u64 {
        self.chunks.iter().filter(|c| c.key & TAKEN == 0).count() as u64
    }

    /// Whether the out-of-order chunk of a marker was found, or lay in a file that is not needed any more because its
    /// samples are in blocks.
    pub fn has_marked(&self, series: u64, place: u64) -> bool {
        let at = |c: &Found| (c.key >> 8, c.place);
        let found = self.chunks.binary_search_by_key(&(series, place), at);
        found.is_ok_and(|i| self.chunks[i].key & OUT_OF_ORDER != 0)
            || (place >> 32 != 0 && place >> 32 < u64::from(self.first_file))
            || place <= self.late_in_blocks
    }

    /// Scans `chunks_head/` of a data directory and checks every checksum. In-order chunks that end before
    /// `min_valid_time` are in blocks and left out, as are out-of-order ones of which [`late_in_blocks`] says so. What is not sound is put aside.
    ///
    /// # Errors
    /// If the system refuses, or the memory limit does not suffice.
    pub fn scan(
        disk: &dyn Disk,
        dir: &Path,
        min_valid_time: i64,
        losses: &mut Losses,
        control: &Control,
    ) -> Result<Self, StorageError> {
        let chunks_dir = dir.join("chunks_head");
        let files = list_files(&chunks_dir)?;
        let mut found = Self {
            first_file: files.first().map_or(0, |f| f.0),
            late_in_blocks: late_in_blocks(&chunks_dir)?,
            ..Self::default()
        };
        let mut bad: Option<Bad> = None;
        let mut buffer = Vec::new();
        for (i, (number, entry)) in files.iter().enumerate() {
            control.check("head load")?;
            if i > 0 && files[i - 1].0.checked_add(1) != Some(*number) {
                losses.at(&chunks_dir.join(file_name(number - 1)), 0, MISSING)?;
                bad = Some(Bad { file: i, offset: 0, reason: None });
                break;
            }
            let is_last = i + 1 == files.len();
            let mut each = |chunk: Scanned, offset: u64| found.add(*number, chunk, offset, min_valid_time);
            let stopped = scan_file(disk, &entry.path, is_last, &mut buffer, &mut each)?;
            if let Some((offset, reason)) = stopped {
                bad = Some(Bad { file: i, offset, reason });
                break;
            }
        }
        drop(buffer);
        found.chunks.sort_unstable_by_key(|c| (c.key >> 8, c.place));
        if let Some((place, reason)) = found.first_out_of_sequence() {
            let file = files.iter().position(|f| u64::from(f.0) == place >> 32).unwrap_or(0);
            bad = Some(Bad { file, offset: place & 0xffff_ffff, reason: Some(reason) });
            found.chunks.retain(|c| c.place < place);
        }
        found.chunks.shrink_to_fit();
        found.last_file = files.last().map_or(0, |f| f.0);
        if let Some(bad) = bad {
            if let Some(reason) = bad.reason {
                losses.at(&files[bad.file].1.path, bad.offset, reason)?;
            }
            found.is_mended = true;
            // A snapshot does not have what is put aside here, and this start may not live to fill the files anew.
            remove_older(disk, dir, (u64::MAX, u64::MAX))?;
            let paths: Vec<(u32, PathBuf)> = files.into_iter().map(|(n, e)| (n, e.path)).collect();
            found.last_file = put_aside(disk, dir, &chunks_dir, &paths, bad.file, bad.offset)?;
        }
        Ok(found)
    }

    fn add(&mut self, file: u32, scanned: Scanned, offset: u64, min_valid_time: i64) {
        let Scanned { series, out_of_order, chunk } = scanned;
        if series >> REF_BITS == 0 {
            self.highest_ref = self.highest_ref.max(series);
        }
        let Some(chunk) = chunk else { return };
        if (!out_of_order && chunk.maxt < min_valid_time) || series >> 56 != 0 {
            return;
        }
        let place = u64::from(file) << 32 | offset;
        if out_of_order && place <= self.late_in_blocks {
            return;
        }
        let late = if out_of_order { OUT_OF_ORDER } else { 0 };
        let key = series << 8 | late | (chunk.encoding as u64 & ENCODING);
        self.chunks.push(Found { key, place, mint: chunk.mint, maxt: chunk.maxt });
    }

    /// The first place of an in-order chunk that does not follow the one before it.
    fn first_out_of_sequence(&self) -> Option<(u64, String)> {
        let mut first: Option<(u64, String)> = None;
        let mut before: Option<&Found> = None;
        for c in self.chunks.iter().filter(|c| c.key & OUT_OF_ORDER == 0) {
            if let Some(b) = before.filter(|b| b.key >> 8 == c.key >> 8)
                && c.mint <= b.maxt
                && first.as_ref().is_none_or(|(place, _)| c.place < *place)
            {
                let reason = format!(
                    "out of sequence m-mapped chunk for series ref {}, last chunk: [{}, {}], new: [{}, {}]",
                    c.key >> 8,
                    b.mint,
                    b.maxt,
                    c.mint,
                    c.maxt
                );
                first = Some((c.place, reason));
            }
            before = Some(c);
        }
        first
    }
}

/// Gives the chunks of one file to `each`. Where nothing more can be read, if that is not the end: the offset, and what
/// is wrong if it is not what a crash leaves.
#[allow(clippy::type_complexity)]
fn scan_file(
    disk: &dyn Disk,
    path: &Path,
    is_last: bool,
    buffer: &mut Vec<u8>,
    each: &mut impl FnMut(Scanned, u64),
) -> Result<Option<(u64, Option<String>)>, StorageError> {
    let mut window = Window::open(disk, path, std::mem::take(buffer))?;
    window.read(0, WINDOW_BYTES)?;
    match FileHeader::of(window.bytes()) {
        FileHeader::Sound => {}
        FileHeader::Unwritten if is_last => return Ok(Some((0, None))),
        _ => return Ok(Some((0, Some(NO_HEADER.to_string())))),
    }
    let mut length = WINDOW_BYTES;
    let mut start = FILE_HEADER;
    loop {
        let base = window.base();
        let mut scan = Scan::new(window.bytes(), 0, start);
        let bad = loop {
            let at = scan.at;
            match scan.next() {
                Ok(Some(chunk)) => each(chunk, base + at as u64),
                // Zeros at the end of a window may be the beginning of anything.
                Ok(None) if window.is_at_end() || at + MAX_CHUNK_META <= window.bytes().len() => break None,
                Ok(None) => break Some(None),
                Err(bad) => break Some(Some(bad)),
            }
        };
        let at = base + scan.at as u64;
        match bad {
            None => {
                // Zeros end a file, but not if anything follows them.
                let map = Map::open(path)?;
                let is_hole =
                    at < map.bytes().len() as u64 && Scan::new(map.bytes(), 0, 0).is_hole(at as usize);
                if map.has_faulted() {
                    return Err(cut_short(path));
                }
                if is_hole {
                    return Ok(Some((at, (!is_last).then(|| HOLE.to_string()))));
                }
                break;
            }
            Some(bad) if window.is_at_end() || bad.as_ref().is_some_and(|b| !b.is_cut) => {
                let Some(bad) = bad else { break };
                let map = Map::open(path)?;
                let torn = is_last && Scan::new(map.bytes(), 0, 0).is_torn(at as usize);
                if map.has_faulted() {
                    return Err(cut_short(path));
                }
                return Ok(Some((at, (!torn).then_some(bad.reason))));
            }
            // The chunk goes on behind the window.
            Some(_) => {
                length = if at == base { length.saturating_mul(2) } else { WINDOW_BYTES };
                window.read(at, length)?;
                start = 0;
            }
        }
    }
    *buffer = window.into_buffer();
    Ok(None)
}

/// Moves what lies behind `offset` of a file, and all later files, to `quarantine/`. The number of the last file that
/// is left.
fn put_aside(
    disk: &dyn Disk,
    dir: &Path,
    chunks_dir: &Path,
    files: &[(u32, PathBuf)],
    file: usize,
    offset: u64,
) -> Result<u32, StorageError> {
    let quarantine = dir.join("quarantine");
    create_dir_all(disk, &quarantine)?;
    let mut names = Names::of(disk, &quarantine)?;
    // The last one first: what is left is always a run without gaps.
    // One of which the header is sound keeps its number, so that markers never name a chunk of another.
    let whole = if offset < FILE_HEADER as u64 { file } else { file + 1 };
    for (number, path) in files[whole..].iter().rev() {
        if disk.open(path, Access::Read)?.is_empty()? {
            disk.remove_file(path)?;
            disk.sync_dir(chunks_dir)?;
            continue;
        }
        let to = quarantine.join(names.free(&format!("chunks_head-{}", file_name(*number))));
        disk.rename(path, &to)?;
        disk.sync_dir(&quarantine)?;
        disk.sync_dir(chunks_dir)?;
    }
    if whole > file {
        let (number, path) = &files[file];
        let name = names.free(&format!("chunks_head-{}-from-{offset}", file_name(*number)));
        let to = disk.open(&quarantine.join(name), Access::CreateNew)?;
        let mut window = Window::open(disk, path, Vec::new())?;
        window.read(offset, WINDOW_BYTES)?;
        while !window.bytes().is_empty() {
            write_all_at(to.as_ref(), window.bytes(), window.base() - offset)?;
            window.read(window.end(), WINDOW_BYTES)?;
        }
        to.sync_data()?;
        disk.sync_dir(&quarantine)?;
        let from = disk.open(path, Access::Write)?;
        from.set_len(offset)?;
        from.sync_data()?;
    }
    Ok(whole.checked_sub(1).map_or(0, |i| files[i].0))
}

/// Names that are taken in a directory.
struct Names(HashMap<String, u32>);

impl Names {
    fn of(disk: &dyn Disk, dir: &Path) -> Result<Self, StorageError> {
        Ok(Self(disk.read_dir(dir)?.into_iter().map(|e| (e.name, 0)).collect()))
    }

    /// A name that is not taken: as it is, or with a number behind it.
    fn free(&mut self, name: &str) -> String {
        let mut free = name.to_string();
        let mut n = self.0.get(name).copied().unwrap_or(0);
        while self.0.contains_key(&free) {
            n += 1;
            free = format!("{name}.{n}");
        }
        self.0.insert(free.clone(), 0);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_claimed_once_in_any_order_of_the_series() {
        let chunk = |series: u64, place: u64| Found {
            key: series << 8 | Encoding::Xor as u64,
            place,
            mint: place as i64,
            maxt: place as i64 + 1,
        };
        let all = [(1, 5), (1, 9), (3, 2), (4, 1), (4, 3), (4, 8), (9, 4)];
        for order in [[1, 2, 3, 4, 9, 10], [10, 9, 4, 3, 2, 1], [4, 4, 1, 9, 3, 3], [3, 4, 1, 2, 9, 4]] {
            let mut found = FoundChunks {
                chunks: all.iter().map(|(series, place)| chunk(*series, *place)).collect(),
                ..FoundChunks::default()
            };
            let mut seen = Vec::new();
            for series in order {
                let mut out = Vec::new();
                found.claim(series, &mut out);
                let mine = all.iter().filter(|(s, _)| *s == series && !seen.contains(&series));
                let places: Vec<u64> = mine.map(|(_, place)| *place).collect();
                assert_eq!(out.iter().map(|c| c.place.reference()).collect::<Vec<_>>(), places, "{order:?}");
                seen.push(series);
            }
            let rest = all.iter().filter(|(s, _)| !seen.contains(s)).count();
            assert_eq!(found.unclaimed(), rest as u64);
        }
    }

    #[test]
    fn names_in_the_quarantine_are_not_taken_twice() {
        let mut names = Names([("a".to_string(), 0), ("a.1".to_string(), 0)].into());
        let given: Vec<String> = ["a", "a", "a", "b"].map(|name| names.free(name)).to_vec();
        assert_eq!(given, ["a.2", "a.3", "a.4", "b"]);
    }
}
