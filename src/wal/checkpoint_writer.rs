//! Checkpoints, written: a directory of segments that replaces the segments of the log up to its number. Snapshots of a
//! head are directories of that kind too.
//!
//! Order: the files synced → their directory synced → renamed to its name → the log's directory synced. What stops
//! before leaves a directory ending in `.tmp`, which nobody reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_platform::disk::{Access, Disk, DiskFile, remove_all, write_all_at};
use tsdbctl_platform::file::FileError;

use crate::compression::{Compression, Packer};
use crate::damage::WalError;
use crate::log_writer::{LogOptions, padding};
use crate::page::{HEADER_BYTES, MAX_FRAGMENT_BYTES, PAGE_BYTES};
use crate::segment::{checkpoint_name, checkpoints_among, segment_name};
use crate::writer::write_record;

/// Bytes that are written together.
const WRITE_BYTES: usize = 1 << 20;

/// A checkpoint that is being written. Dropped before [`CheckpointWriter::finish`] it vanishes.
#[derive(Debug)]
pub struct CheckpointWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    unfinished: PathBuf,
    segment_bytes: u64,
    compression: Compression,
    packer: Packer,
    packed: Vec<u8>,
    frames: Vec<u8>,
    file: Arc<dyn DiskFile>,
    segment: u64,
    /// Bytes of the segment written; `frames` follow.
    written: u64,
    finished: bool,
}

/// Bytes of a record that fit a segment behind `end`, as upstream counts them.
fn room(segment_bytes: u64, end: u64) -> u64 {
    let page = PAGE_BYTES as u64;
    let mut used = end % page;
    let mut pages_left = (segment_bytes / page).saturating_sub(end / page + 1);
    if page - used < HEADER_BYTES as u64 {
        (used, pages_left) = (0, pages_left.saturating_sub(1));
    }
    if end >= segment_bytes {
        return 0;
    }
    page - used - HEADER_BYTES as u64 + pages_left * MAX_FRAGMENT_BYTES as u64
}

impl CheckpointWriter {
    /// Begins the checkpoint that replaces the segments up to `index`. What an earlier attempt left is removed.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new(
        disk: Arc<dyn Disk>,
        wal_dir: &Path,
        index: u64,
        options: LogOptions,
    ) -> Result<Self, WalError> {
        for entry in disk.read_dir(wal_dir)? {
            if entry.is_dir && entry.name.starts_with("checkpoint.") && entry.name.ends_with(".tmp") {
                remove_all(&*disk, &entry.path)?;
            }
        }
        Self::begin(disk, &wal_dir.join(checkpoint_name(index)), options)
    }

    /// Begins a directory of segments that gets its name when it is complete. There must be none of that name, nor with
    /// `.tmp` behind it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn begin(disk: Arc<dyn Disk>, path: &Path, options: LogOptions) -> Result<Self, WalError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".tmp");
        let unfinished = PathBuf::from(unfinished);
        disk.create_dir(&unfinished)?;
        let file = disk.open(&unfinished.join(segment_name(0)), Access::CreateNew)?;
        Ok(Self {
            disk,
            path: path.to_owned(),
            unfinished,
            segment_bytes: options.segment_bytes,
            compression: options.compression,
            packer: Packer::default(),
            packed: Vec::new(),
            frames: Vec::new(),
            file,
            segment: 0,
            written: 0,
            finished: false,
        })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If the system refuses; the checkpoint cannot be finished then.
    pub fn append(&mut self, record: &[u8]) -> Result<(), WalError> {
        let how = self.packer.pack(self.compression, record, &mut self.packed);
        let mut end = self.written + self.frames.len() as u64;
        if end > 0 && self.packed.len() as u64 > room(self.segment_bytes, end) {
            self.end_segment()?;
            self.segment += 1;
            self.file =
                self.disk.open(&self.unfinished.join(segment_name(self.segment)), Access::CreateNew)?;
            (self.written, end) = (0, 0);
        }
        write_record(&mut self.frames, end as usize, how, &self.packed);
        if self.frames.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), FileError> {
        write_all_at(&*self.file, &self.frames, self.written)?;
        self.written += self.frames.len() as u64;
        self.frames.clear();
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), FileError> {
        let end = self.written + self.frames.len() as u64;
        self.frames.extend_from_slice(padding(end));
        self.write()?;
        self.file.sync_data()
    }

    /// Completes the checkpoint and makes it durable; the directory it is in.
    ///
    /// # Errors
    /// If the system refuses, or there is a checkpoint with this number: there is none then, or it may vanish in a
    /// crash.
    pub fn finish(mut self) -> Result<PathBuf, WalError> {
        self.end_segment()?;
        self.disk.sync_dir(&self.unfinished)?;
        self.disk.rename(&self.unfinished, &self.path)?;
        self.finished = true;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        self.disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
        Ok(self.path.clone())
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.finished {
            // If it stays, the next one removes it.
            let _ = remove_all(&*self.disk, &self.unfinished);
        }
    }
}

/// Removes the checkpoints before the one with number `index`.
///
/// # Errors
/// If the system refuses.
pub fn remove_older_checkpoints(disk: &dyn Disk, wal_dir: &Path, index: u64) -> Result<(), WalError> {
    for (older, path) in checkpoints_among(disk.read_dir(wal_dir)?) {
        if older < index {
            // Half of it must not look like one.
            let unfinished = wal_dir.join(format!("{}.tmp", checkpoint_name(older)));
            disk.rename(&path, &unfinished)?;
            disk.sync_dir(wal_dir)?;
            remove_all(disk, &unfinished)?;
        }
    }
    disk.sync_dir(wal_dir)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::{Fault, FaultyDisk};
    use crate::reader::SegmentReader;
    use crate::segment::Log;

    fn options(segment_bytes: u64) -> LogOptions {
        LogOptions { segment_bytes, compression: Compression::None, ..LogOptions::default() }
    }

    #[test]
    fn a_checkpoint_replaces_segments_and_the_checkpoint_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(|_, _, _| Fault::No));
        for index in [3, 7] {
            let mut writer =
                CheckpointWriter::new(disk.clone(), dir.path(), index, options(2 * PAGE_BYTES as u64))
                    .unwrap();
            (0..30u8).for_each(|i| writer.append(&[i; 5000]).unwrap());
            assert!(Log::list(dir.path()).unwrap().unwrap().checkpoint.is_none_or(|(i, _)| i < index));
            writer.finish().unwrap();
        }
        std::fs::create_dir(dir.path().join("checkpoint.00000009.tmp")).unwrap();
        remove_older_checkpoints(&*disk, dir.path(), 7).unwrap();
        let (index, segments) = Log::list(dir.path()).unwrap().unwrap().checkpoint.unwrap();
        assert_eq!((index, segments.len()), (7, 3));
        let mut found = Vec::new();
        for segment in &segments {
            assert_eq!(segment.size, (if segment.index < 2 { 2 } else { 1 }) * PAGE_BYTES as u64);
            let bytes = std::fs::read(&segment.path).unwrap();
            let mut reader = SegmentReader::new(&bytes, 0);
            let mut record = Vec::new();
            while reader.next_into(&mut record).unwrap() {
                assert_eq!(record.len(), 5000);
                found.push(record[0]);
                record.clear();
            }
        }
        assert_eq!(found, (0..30).collect::<Vec<u8>>());
        let mut dropped = CheckpointWriter::new(disk.clone(), dir.path(), 8, options(1 << 20)).unwrap();
        dropped.append(b"x").unwrap();
        drop(dropped);
        let names: Vec<_> = disk.read_dir(dir.path()).unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["checkpoint.00000007"]);
    }

    #[test]
    fn room_in_a_segment_is_upstreams() {
        let page = PAGE_BYTES as u64;
        for (end, expected) in [
            (0, 2 * MAX_FRAGMENT_BYTES as u64),
            (100, 2 * MAX_FRAGMENT_BYTES as u64 - 100),
            (page - 7, MAX_FRAGMENT_BYTES as u64),
            (page - 6, MAX_FRAGMENT_BYTES as u64),
            (page, MAX_FRAGMENT_BYTES as u64),
            (2 * page - 8, 1),
            (2 * page - 7, 0),
            (2 * page, 0),
            (9 * page, 0),
        ] {
            assert_eq!(room(2 * page, end), expected, "{end}");
        }
    }
}
