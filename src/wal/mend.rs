//! What a start does to a log before it is appended to, so that it and Prometheus read all that can be read.
//!
//! A torn tail is cut off, for nothing may follow it. Behind rot there are sound records: the segment is written anew,
//! with records of a type that nobody knows, which every reader passes over, in place of the damage; so all offsets
//! stay. Missing segments are replaced by empty ones, since Prometheus does not start without them. Whatever is cut
//! off or replaced lies in the quarantine before. After a crash at any point the same is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tsdbctl_platform::disk::{
    Access, Disk, DiskFile, create_dir_all, read_full_at, remove_all, write_all_at,
};
use tsdbctl_platform::file::FileError;

use crate::damage::{Damage, WalError};
use crate::page::{FragmentKind, HEADER_BYTES, PAGE_BYTES, Place, crc32c, read_place};
use crate::reader::SegmentReader;
use crate::record::RecordType;
use crate::segment::{Segment, checkpoints_among, segment_name, segments_among};

/// More missing segments than these are not replaced; those behind them get other numbers.
const MOST_REPLACED: u64 = 4096;
/// Bytes that are looked at together.
const WINDOW_BYTES: usize = 32 * PAGE_BYTES;
/// The type of a record that stands in the place of damage.
const FILLER_TYPE: u8 = 0xff;

/// What was done to one file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The file; of missing segments, the first.
    pub file: PathBuf,
    /// What.
    pub how: Mending,
    /// Where what was taken out lies now.
    pub kept: Option<PathBuf>,
}

/// How something was mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mending {
    /// The log's end was torn, as a crash leaves it: cut off.
    TornTail {
        /// Length of the segment now.
        offset: u64,
        /// Bytes cut off.
        bytes: u64,
    },
    /// Damage was replaced, and cut off at the segment's end. Sound records follow in this or later segments.
    Rot {
        /// Where each damaged place begins, and its length, bytes.
        places: Vec<(u64, u64)>,
    },
    /// Empty segments stand for missing ones.
    Gap {
        /// How many.
        segments: u64,
    },
    /// A segment has another number, since too many before it were missing. What names places of the log by segment,
    /// as chunk snapshots do, must not be believed any more.
    Renumbered {
        /// The new path.
        to: PathBuf,
    },
    /// What an interrupted run left unfinished was removed.
    Unfinished,
}

/// Mends the log in `dir`. `damages` is what a reader of all of it met: bad fragments, or records at the given offset
/// that are sound but no records of their type. Other files than those, and than the names of the segments, are not
/// looked at. What is taken out goes to `quarantine`, which is made if it is needed.
///
/// # Errors
/// If the system refuses.
pub fn mend(
    disk: &dyn Disk,
    dir: &Path,
    quarantine: &Path,
    damages: &[Damage],
) -> Result<Vec<Mended>, WalError> {
    let mut mender = Mender { disk, dir, quarantine, done: Vec::new() };
    match mender.remove_unfinished() {
        Err(e) if e.is_not_found() && e.path == dir => return Ok(Vec::new()),
        done => done?,
    }
    let mut by_file: BTreeMap<&Path, BTreeSet<u64>> = BTreeMap::new();
    for damage in damages {
        by_file.entry(&damage.file).or_default().insert(damage.offset);
    }
    let segments = segments_among(disk.read_dir(dir)?);
    let last = segments.iter().rfind(|s| s.size > 0).map(|s| s.path.clone());
    let mut checkpoints = Vec::new();
    for (_, path) in checkpoints_among(disk.read_dir(dir)?) {
        checkpoints.extend(segments_among(disk.read_dir(&path)?));
    }
    for segment in segments.iter().chain(&checkpoints) {
        if let Some(offsets) = by_file.get(segment.path.as_path()) {
            mender.mend_segment(segment, offsets, last.as_ref() == Some(&segment.path))?;
        }
    }
    mender.close_gaps()?;
    Ok(mender.done)
}

/// As [`mend`], for who has not read the log: looks itself, at the last segment alone.
///
/// # Errors
/// As [`mend`].
pub fn mend_end(disk: &dyn Disk, dir: &Path, quarantine: &Path) -> Result<Vec<Mended>, WalError> {
    let mut damages = Vec::new();
    let entries = match disk.read_dir(dir) {
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        entries => entries?,
    };
    let last = segments_among(entries).into_iter().rfind(|s| s.size > 0);
    if let Some(segment) = last
        && let Some(offset) = first_damage(&*disk.open(&segment.path, Access::Read)?)?
    {
        damages.push(Damage { file: segment.path, offset, reason: "damaged".to_string() });
    }
    mend(disk, dir, quarantine, &damages)
}

/// Where a segment's first bad fragment lies, or that of a record without an end; a few pages in memory at a time.
fn first_damage(file: &dyn DiskFile) -> Result<Option<u64>, FileError> {
    let mut window = vec![0; WINDOW_BYTES];
    let (mut start, mut open) = (0u64, None);
    loop {
        let n = read_full_at(file, &mut window, start)?;
        let mut at = 0;
        while at < n {
            match read_place(&window[..n], at) {
                Ok(Place::Fragment(fragment, end)) => {
                    let offset = start + at as u64;
                    open = match (fragment.kind, open) {
                        (FragmentKind::Full, None) => None,
                        (FragmentKind::First, None) => Some(offset),
                        (FragmentKind::Middle, Some(first)) => Some(first),
                        (FragmentKind::Last, Some(_)) => None,
                        _ => return Ok(Some(offset)),
                    };
                    at = end;
                }
                Ok(Place::Padding(end)) => at = end,
                Ok(Place::End) => break,
                Err(_) => return Ok(Some(start + at as u64)),
            }
        }
        if n < window.len() {
            return Ok(open);
        }
        start += n as u64;
    }
}

/// The damaged places of a segment, and where its last sound record ends.
fn damaged_places(bytes: &[u8], unwanted: &BTreeSet<u64>) -> (Vec<(usize, usize)>, usize) {
    let mut reader = SegmentReader::new(bytes, 0);
    let (mut places, mut sound_end, mut damaged) = (Vec::new(), 0, false);
    let mut record = Vec::new();
    loop {
        record.clear();
        match reader.next_into(&mut record) {
            // What stands in the place of damage already is no damage.
            Ok(true) if unwanted.contains(&reader.record_offset()) && RecordType::of(&record).is_some() => {
                damaged = true;
            }
            Ok(true) => {
                if std::mem::take(&mut damaged) {
                    places.push((sound_end, reader.record_offset() as usize));
                }
                sound_end = reader.offset() as usize;
            }
            Ok(false) => break,
            Err(_) => {
                damaged = true;
                if !reader.resync() {
                    break;
                }
            }
        }
    }
    if damaged {
        places.push((sound_end, bytes.len()));
    }
    (places, sound_end)
}

/// Puts records of an unknown type over a place. Where what is left of it in a page is no room for one, the records
/// behind it go too: no writer leaves such a place.
fn fill(bytes: &mut [u8], start: usize, end: usize) -> usize {
    let mut at = start;
    while at < end {
        let page_end = ((at / PAGE_BYTES + 1) * PAGE_BYTES).min(bytes.len());
        let piece_end = if end.saturating_sub(at) < HEADER_BYTES { page_end } else { page_end.min(end) };
        let piece = &mut bytes[at..piece_end];
        piece.fill(0);
        if let Some((header, data)) = piece.split_first_chunk_mut::<HEADER_BYTES>() {
            if let Some(first) = data.first_mut() {
                *first = FILLER_TYPE;
            }
            header[0] = FragmentKind::Full as u8;
            header[1..3].copy_from_slice(&(data.len() as u16).to_be_bytes());
            header[3..].copy_from_slice(&crc32c(data).to_be_bytes());
        }
        at = piece_end;
    }
    at
}

struct Mender<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    quarantine: &'a Path,
    done: Vec<Mended>,
}

impl Mender<'_> {
    /// Removes what carries the name of something unfinished: it is all in the log too.
    fn remove_unfinished(&mut self) -> Result<(), FileError> {
        let mut dirs = vec![self.dir.to_owned()];
        for entry in self.disk.read_dir(self.dir)? {
            if entry.is_dir && entry.name.starts_with("checkpoint.") && !entry.name.ends_with(".tmp") {
                dirs.push(entry.path);
            }
        }
        for dir in dirs {
            for entry in self.disk.read_dir(&dir)? {
                let Some(stem) = entry.name.strip_suffix(".tmp") else { continue };
                let is_segment = !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
                if (entry.is_dir && stem.starts_with("checkpoint.")) || (!entry.is_dir && is_segment) {
                    remove_all(self.disk, &entry.path)?;
                    self.disk.sync_dir(&dir)?;
                    self.done.push(Mended { file: entry.path, how: Mending::Unfinished, kept: None });
                }
            }
        }
        Ok(())
    }

    /// The name under which a part of a file goes to the quarantine.
    fn quarantine_name(&self, file: &Path) -> String {
        let parts = self.dir.file_name().into_iter().chain(file.strip_prefix(self.dir).unwrap_or(file));
        parts.map(|p| p.to_string_lossy()).collect::<Vec<_>>().join("-")
    }

    /// The name under which `bytes` may lie in the quarantine: one that is free, or that has them from an earlier
    /// attempt. And whether it has.
    fn place(&self, name: &str, bytes: &[u8]) -> Result<(PathBuf, bool), FileError> {
        create_dir_all(self.disk, self.quarantine)?;
        let mut path = self.quarantine.join(name);
        for attempt in 1.. {
            let file = match self.disk.open(&path, Access::Read) {
                Ok(file) => file,
                Err(e) if e.is_not_found() => break,
                Err(e) => return Err(e),
            };
            if file.len()? == bytes.len() as u64 {
                let mut held = vec![0; bytes.len()];
                if read_full_at(&*file, &mut held, 0)? == held.len() && held == bytes {
                    file.sync_data()?;
                    return Ok((path, true));
                }
            }
            path = self.quarantine.join(format!("{name}.{attempt}"));
        }
        Ok((path, false))
    }

    /// Puts bytes into the quarantine, durably.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, FileError> {
        let (path, is_there) = self.place(name, bytes)?;
        if !is_there {
            let unfinished = self.quarantine.join(format!("{name}.tmp"));
            let file = self.disk.open(&unfinished, Access::Truncate)?;
            write_all_at(&*file, bytes, 0)?;
            file.sync_data()?;
            self.disk.rename(&unfinished, &path)?;
        }
        self.disk.sync_dir(self.quarantine)?;
        Ok(path)
    }

    /// Gives a file a second name in the quarantine, or copies it there.
    fn keep_file(&self, file: &dyn DiskFile, bytes: &[u8]) -> Result<PathBuf, FileError> {
        let name = self.quarantine_name(file.path());
        let (path, is_there) = self.place(&name, bytes)?;
        file.sync_data()?;
        if !is_there && self.disk.link(file.path(), &path).is_err() {
            return self.keep(&name, bytes);
        }
        self.disk.sync_dir(self.quarantine)?;
        Ok(path)
    }

    fn mend_segment(
        &mut self,
        segment: &Segment,
        unwanted: &BTreeSet<u64>,
        is_last: bool,
    ) -> Result<(), WalError> {
        let file = self.disk.open(&segment.path, Access::Write)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let n = read_full_at(&*file, &mut bytes, 0)?;
        bytes.truncate(n);
        let (places, sound_end) = damaged_places(&bytes, unwanted);
        let Some(last) = places.last() else { return Ok(()) };
        let cut_at = (last.1 == bytes.len()).then_some(sound_end);
        let told = places.iter().map(|(start, end)| (*start as u64, (end - start) as u64)).collect();
        let mended = if let (Some(cut_at), 1) = (cut_at, places.len()) {
            let name = format!("{}-from-{cut_at}", self.quarantine_name(&segment.path));
            let kept = self.keep(&name, &bytes[cut_at..])?;
            file.set_len(cut_at as u64)?;
            file.sync_data()?;
            let how = if is_last {
                Mending::TornTail { offset: cut_at as u64, bytes: (n - cut_at) as u64 }
            } else {
                Mending::Rot { places: told }
            };
            Mended { file: segment.path.clone(), how, kept: Some(kept) }
        } else {
            let kept = self.keep_file(&*file, &bytes)?;
            bytes.truncate(cut_at.unwrap_or(n));
            let mut filled_to = 0;
            for (start, end) in places {
                if end <= bytes.len() && end > filled_to {
                    filled_to = fill(&mut bytes, start.max(filled_to), end);
                }
            }
            let parent = segment.path.parent().unwrap_or(self.dir);
            let unfinished = parent.join(format!("{}.tmp", segment_name(segment.index)));
            let new = self.disk.open(&unfinished, Access::Truncate)?;
            write_all_at(&*new, &bytes, 0)?;
            new.sync_data()?;
            self.disk.rename(&unfinished, &segment.path)?;
            self.disk.sync_dir(parent)?;
            Mended { file: segment.path.clone(), how: Mending::Rot { places: told }, kept: Some(kept) }
        };
        self.done.push(mended);
        Ok(())
    }

    /// Makes the numbers of the segments follow one another, and the checkpoint's.
    fn close_gaps(&mut self) -> Result<(), FileError> {
        let entries = self.disk.read_dir(self.dir)?;
        let checkpoint = checkpoints_among(entries.clone()).pop();
        if let Some((_, path)) = &checkpoint {
            let parts = segments_among(self.disk.read_dir(path)?);
            let first = parts.first().map_or(0, |s| s.index);
            self.close_gaps_of(path, &parts, first)?;
        }
        let segments = segments_among(entries);
        let Some(first) = segments.first() else { return Ok(()) };
        let behind = checkpoint.map_or(first.index, |(index, _)| index.saturating_add(1));
        let next = self.close_gaps_of(self.dir, &segments, behind.min(first.index))?;
        if next >= behind {
            return Ok(());
        }
        // All are older than the checkpoint, and the next one will be the one behind it.
        if behind - next <= MOST_REPLACED {
            return self.replace(self.dir, next, behind);
        }
        for (segment, index) in
            segments_among(self.disk.read_dir(self.dir)?).iter().rev().zip((0..behind).rev())
        {
            self.renumber(self.dir, &segment.path, index)?;
        }
        Ok(())
    }

    fn close_gaps_of(&mut self, dir: &Path, segments: &[Segment], first: u64) -> Result<u64, FileError> {
        let (mut expected, mut shift) = (first, 0);
        for segment in segments {
            let missing = (segment.index - shift).saturating_sub(expected);
            if missing > MOST_REPLACED {
                shift += missing;
            } else if missing > 0 {
                self.replace(dir, expected, expected + missing)?;
            }
            let index = segment.index - shift;
            if shift > 0 {
                self.renumber(dir, &segment.path, index)?;
            }
            expected = index + 1;
        }
        Ok(expected)
    }

    fn renumber(&mut self, dir: &Path, file: &Path, index: u64) -> Result<(), FileError> {
        let to = dir.join(segment_name(index));
        self.disk.rename(file, &to)?;
        self.disk.sync_dir(dir)?;
        self.done.push(Mended { file: file.to_owned(), how: Mending::Renumbered { to }, kept: None });
        Ok(())
    }

    /// Makes empty segments.
    fn replace(&mut self, dir: &Path, from: u64, to: u64) -> Result<(), FileError> {
        for index in from..to {
            self.disk.open(&dir.join(segment_name(index)), Access::CreateNew)?;
        }
        self.disk.sync_dir(dir)?;
        let file = dir.join(segment_name(from));
        self.done.push(Mended { file, how: Mending::Gap { segments: to - from }, kept: None });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_platform::real::RealDisk;

    use super::*;
    use crate::compression::Compression;
    use crate::faulty::{BROKEN, Fault, FaultyDisk};
    use crate::log_writer::{LogOptions, LogWriter};
    use crate::packed::RecordPacker;
    use crate::writer::PageWriter;

    /// A sound one that syncs at once.
    fn disk() -> FaultyDisk {
        FaultyDisk::new(|_, _, _| Fault::No)
    }

    /// Records of a known type, of one to three pages.
    fn record(i: u8) -> Vec<u8> {
        let mut record = vec![i | 0x80; [40, 3000, 9, 40_000, 700][usize::from(i) % 5]];
        record[0] = RecordType::Tombstones as u8;
        record
    }

    fn segment(numbers: std::ops::Range<u8>) -> Vec<u8> {
        let mut writer = PageWriter::new(Compression::None, 0);
        numbers.for_each(|i| writer.append(&record(i)));
        writer.take()
    }

    /// Numbers of the records of a segment, fillers aside, and where they lie. It must be sound.
    fn read(path: &Path) -> Vec<(u8, u64)> {
        let bytes = std::fs::read(path).unwrap();
        let mut reader = SegmentReader::new(&bytes, 0);
        let (mut found, mut got) = (Vec::new(), Vec::new());
        while reader.next_into(&mut got).unwrap_or_else(|e| panic!("{}: {e:?}", path.display())) {
            if RecordType::of(&got).is_some() {
                assert_eq!(got, record(got[1] & 0x7f));
                found.push((got[1] & 0x7f, reader.record_offset()));
            }
            got.clear();
        }
        found
    }

    fn numbers(dir: &Path) -> Vec<u8> {
        let segments = crate::segment::list_segments(dir).unwrap();
        assert!(segments.windows(2).all(|s| s[0].index + 1 == s[1].index));
        segments.iter().flat_map(|s| read(&s.path)).map(|(i, _)| i).collect()
    }

    /// What a reader of the whole log would pass on.
    fn met(dir: &Path) -> Vec<Damage> {
        let mut damages = Vec::new();
        let mut dirs = vec![dir.to_owned()];
        dirs.extend(crate::segment::list_checkpoints(dir).unwrap().into_iter().map(|(_, path)| path));
        for s in dirs.iter().flat_map(|d| crate::segment::list_segments(d).unwrap()) {
            let bytes = std::fs::read(&s.path).unwrap();
            let mut reader = SegmentReader::new(&bytes, 0);
            loop {
                match reader.next_into(&mut Vec::new()) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(bad) => {
                        let (file, offset) = (s.path.clone(), bad.offset);
                        damages.push(Damage { file, offset, reason: bad.reason });
                        reader.resync();
                    }
                }
            }
        }
        damages
    }

    #[test]
    fn a_torn_tail_goes_to_the_quarantine_and_the_log_goes_on_behind_it() {
        let whole = segment(0..9);
        let ends: Vec<usize> = (0..=9).map(|n| segment(0..n).len()).collect();
        for cut in (1..whole.len()).step_by(2013).chain(ends[1..].iter().flat_map(|e| [e - 1, e - 6, *e])) {
            for end_alone in [false, true] {
                let data = tempfile::tempdir().unwrap();
                let (wal, quarantine) = (data.path().join("wal"), data.path().join("quarantine"));
                std::fs::create_dir(&wal).unwrap();
                std::fs::write(wal.join("00000004"), &whole[..cut]).unwrap();
                // The next one was made before it was needed.
                std::fs::write(wal.join("00000005"), b"").unwrap();
                let mend = || match end_alone {
                    true => mend_end(&disk(), &wal, &quarantine).unwrap(),
                    false => mend(&disk(), &wal, &quarantine, &met(&wal)).unwrap(),
                };
                let done = mend();
                let sound = ends.iter().rposition(|e| *e <= cut).unwrap();
                // A record may end in the padding of a page, or before it.
                let left: Vec<u8> = (0..sound as u8).collect();
                assert_eq!(numbers(&wal), left, "cut at {cut}");
                if cut > ends[sound] + 6 {
                    let kept = done[0].kept.as_ref().unwrap();
                    let now = std::fs::read(wal.join("00000004")).unwrap();
                    assert_eq!([now, std::fs::read(kept).unwrap()].concat(), whole[..cut]);
                    assert!(matches!(done[0].how, Mending::TornTail { .. }));
                }
                assert_eq!(mend(), [], "cut at {cut}");
                let log = LogWriter::open(Arc::new(disk()), &wal, LogOptions::default()).unwrap();
                let mut packer = RecordPacker::new(Compression::Snappy);
                log.lock().append(&[packer.pack(&record(99))]).unwrap();
                log.close().unwrap();
                assert_eq!(numbers(&wal), [&left[..], &[99]].concat());
            }
        }
    }

    #[test]
    fn rot_costs_its_record_and_moves_no_other() {
        let whole = segment(0..12);
        for at in (0..whole.len()).step_by(1517) {
            let data = tempfile::tempdir().unwrap();
            let (wal, quarantine) = (data.path().join("wal"), data.path().join("quarantine"));
            let checkpoint = wal.join("checkpoint.00000002");
            std::fs::create_dir_all(&checkpoint).unwrap();
            let mut rotten = whole.clone();
            rotten[at] ^= 0x40;
            std::fs::write(wal.join("00000003"), &whole).unwrap();
            let before = read(&wal.join("00000003"));
            std::fs::write(wal.join("00000003"), &rotten).unwrap();
            std::fs::write(checkpoint.join("00000000"), &rotten).unwrap();
            std::fs::write(wal.join("00000004"), segment(50..52)).unwrap();
            let damages = met(&wal);
            let done = mend(&disk(), &wal, &quarantine, &damages).unwrap();
            for path in [wal.join("00000003"), checkpoint.join("00000000")] {
                let after = read(&path);
                if damages.is_empty() {
                    // Spare bits mean nothing.
                    assert_eq!(after, before);
                    continue;
                }
                let lost: Vec<_> = before.iter().filter(|r| !after.contains(r)).collect();
                assert!(after.iter().all(|r| before.contains(r)) && lost.len() == 1, "byte {at}: {lost:?}");
                let kept = done.iter().find(|d| d.file == path).unwrap().kept.as_ref().unwrap();
                let kept = std::fs::read(kept).unwrap();
                assert!(kept == rotten || rotten.ends_with(&kept));
            }
            assert_eq!(met(&wal), []);
            assert_eq!(mend(&disk(), &wal, &quarantine, &damages).unwrap(), []);
        }
    }

    #[test]
    fn a_sound_record_that_says_nothing_is_taken_out_by_its_offset() {
        let data = tempfile::tempdir().unwrap();
        let (wal, quarantine) = (data.path().join("wal"), data.path().join("quarantine"));
        std::fs::create_dir(&wal).unwrap();
        let path = wal.join("00000000");
        std::fs::write(&path, segment(0..12)).unwrap();
        let before = read(&path);
        for gone in [3, 7, 11] {
            let offset = before[gone].1;
            let damages = [Damage { file: path.clone(), offset, reason: String::new() }];
            mend(&disk(), &wal, &quarantine, &damages).unwrap();
            assert!(!read(&path).contains(&before[gone]));
        }
        assert_eq!(read(&path).len(), 9);
        assert_eq!(RealDisk.read_dir(&quarantine).unwrap().len(), 3);
    }

    #[test]
    fn missing_segments_are_replaced_and_far_ones_renumbered() {
        let far = MOST_REPLACED + 100;
        for (checkpoint, present, expected) in [
            (None, vec![3, 5, 9], vec![3, 4, 5, 6, 7, 8, 9]),
            (Some(4), vec![7, 8], vec![5, 6, 7, 8]),
            (Some(4), vec![2, 3, 5], vec![2, 3, 4, 5]),
            (Some(4), vec![2], vec![2, 3, 4]),
            (Some(4), vec![], vec![]),
            (None, vec![0, far, far + 2], vec![0, 1, 2, 3]),
            (Some(1), vec![far], vec![2]),
            (Some(far), vec![1, 2], vec![far - 1, far]),
            (Some(i64::MAX as u64 - 1), vec![i64::MAX as u64], vec![i64::MAX as u64]),
        ] {
            let data = tempfile::tempdir().unwrap();
            let (wal, quarantine) = (data.path().join("wal"), data.path().join("quarantine"));
            std::fs::create_dir(&wal).unwrap();
            if let Some(index) = checkpoint {
                std::fs::create_dir(wal.join(format!("checkpoint.{index:08}"))).unwrap();
            }
            for (i, index) in present.iter().enumerate() {
                std::fs::write(wal.join(segment_name(*index)), segment(i as u8..i as u8 + 1)).unwrap();
            }
            mend(&disk(), &wal, &quarantine, &[]).unwrap();
            let found: Vec<u64> =
                crate::segment::list_segments(&wal).unwrap().into_iter().map(|s| s.index).collect();
            assert_eq!(found, expected, "{checkpoint:?} {present:?}");
            assert_eq!(numbers(&wal), (0..present.len() as u8).collect::<Vec<u8>>());
            assert_eq!(mend_end(&disk(), &wal, &quarantine).unwrap(), []);
        }
        assert_eq!(mend_end(&disk(), Path::new("/nowhere"), Path::new("/nowhere")).unwrap(), []);
    }

    #[test]
    fn stopped_anywhere_it_is_done_again_to_the_same_end() {
        let make = |data: &Path| {
            let wal = data.join("wal");
            std::fs::create_dir_all(wal.join("checkpoint.00000001")).unwrap();
            std::fs::create_dir_all(wal.join("checkpoint.00000002.tmp")).unwrap();
            std::fs::write(wal.join("checkpoint.00000002.tmp/00000000"), b"x").unwrap();
            std::fs::write(wal.join("00000007.tmp"), b"x").unwrap();
            let mut rotten = segment(0..12);
            rotten[20_000] ^= 1;
            std::fs::write(wal.join("checkpoint.00000001/00000000"), &rotten).unwrap();
            std::fs::write(wal.join("00000003"), &rotten).unwrap();
            std::fs::write(wal.join("00000007"), &rotten[..30_000]).unwrap();
            wal
        };
        let tree = |data: &Path| {
            let mut files = Vec::new();
            for dir in ["wal", "wal/checkpoint.00000001", "quarantine"] {
                for e in RealDisk.read_dir(&data.join(dir)).unwrap() {
                    let bytes = if e.is_dir { Vec::new() } else { std::fs::read(&e.path).unwrap() };
                    files.push((dir, e.name, bytes));
                }
            }
            files
        };
        let data = tempfile::tempdir().unwrap();
        let wal = make(data.path());
        let whole = FaultyDisk::new(|_, _, _| Fault::No);
        mend(&whole, &wal, &data.path().join("quarantine"), &met(&wal)).unwrap();
        let (expected, calls) = (tree(data.path()), whole.calls().len());
        assert!(calls > 20);
        for stop in 0..calls {
            for short in [false, true] {
                let data = tempfile::tempdir().unwrap();
                let wal = make(data.path());
                let stopping = FaultyDisk::new(move |call, _, n| match n {
                    n if n < stop => Fault::No,
                    n if n == stop && short && call == "write" => Fault::Short(100),
                    _ => Fault::Error(BROKEN),
                });
                let quarantine = data.path().join("quarantine");
                let stopped = mend(&stopping, &wal, &quarantine, &met(&wal));
                assert!(stopped.is_err(), "at {stop}");
                mend(&disk(), &wal, &quarantine, &met(&wal)).unwrap();
                let found = tree(data.path());
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(found == expected, "at {stop}: {} {}", found.0, found.1);
                }
                assert_eq!(found.len(), expected.len(), "at {stop}");
            }
        }
    }
}
