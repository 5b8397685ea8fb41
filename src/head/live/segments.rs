//! A directory of segments written in one go, as a checkpoint or a snapshot is: nobody reads it before it is complete.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_platform::disk::{Access, Disk, DiskFile, remove_all, write_all_at};
use tsdbctl_storage::StorageError;
use tsdbctl_wal::page::PAGE_BYTES;
use tsdbctl_wal::{LogOptions, PageWriter, segment};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes records to the segments of a new directory.
#[derive(Debug)]
pub struct SegmentsWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    file: Arc<dyn DiskFile>,
    pages: Pages,
    index: u64,
    written: u64,
}

/// A page writer, which says nothing about itself.
struct Pages(PageWriter);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl SegmentsWriter {
    /// Makes the directory, which must not exist, with its first segment.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Self, StorageError> {
        disk.create_dir(dir)?;
        let file = disk.open(&dir.join(segment::segment_name(0)), Access::CreateNew)?;
        let pages = Pages(PageWriter::new(options.compression, 0));
        Ok(Self { disk, dir: dir.to_owned(), options, file, pages, index: 0, written: 0 })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn append(&mut self, record: &[u8]) -> Result<(), StorageError> {
        // As long as it can get: the headers of its fragments, and one page that is left behind.
        let most = record.len() + record.len() / 1024 + 2 * PAGE_BYTES;
        let offset = self.pages.0.offset() as u64;
        if offset > 0 && offset + most as u64 > self.options.segment_bytes {
            self.end_segment()?;
            self.index += 1;
            self.file =
                self.disk.open(&self.dir.join(segment::segment_name(self.index)), Access::CreateNew)?;
            self.pages = Pages(PageWriter::new(self.options.compression, 0));
            self.written = 0;
        }
        self.pages.0.append(record);
        if self.pages.0.offset() as u64 - self.written >= BUFFER_BYTES as u64 {
            self.write()?;
        }
        Ok(())
    }

    /// Makes all of it durable but the directory's own name.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.end_segment()?;
        Ok(self.disk.sync_dir(&self.dir)?)
    }

    fn end_segment(&mut self) -> Result<(), StorageError> {
        self.pages.0.pad();
        self.write()?;
        Ok(self.file.sync_data()?)
    }

    fn write(&mut self) -> Result<(), StorageError> {
        let bytes = self.pages.0.take();
        write_all_at(&*self.file, &bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Removes a file or directory that may be there.
///
/// # Errors
/// If the system refuses.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match remove_all(disk, path) {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;

    use super::*;
    use crate::live::log_reader::read_records;

    #[test]
    fn records_come_back_in_order_and_no_segment_is_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let options = LogOptions { segment_bytes: 128 << 10, ..LogOptions::default() };
        let mut out = SegmentsWriter::create(Arc::new(RealDisk), &path, options).unwrap();
        let records: Vec<Vec<u8>> =
            (0..3000u32).map(|i| (0..i % 700).map(|j| ((j * i) >> 3) as u8).chain([1]).collect()).collect();
        records.iter().for_each(|r| out.append(r).unwrap());
        out.finish().unwrap();
        let segments = segment::list_segments(&path).unwrap();
        assert!(segments.len() > 3 && segments.iter().all(|s| s.size <= 128 << 10 && s.size % 32768 == 0));
        let (mut found, mut losses) = (Vec::new(), Vec::new());
        for s in segments {
            read_records(&RealDisk, &s.path, &mut losses, |record, _, _| {
                found.push(record.to_vec());
                Ok(())
            })
            .unwrap();
        }
        assert!(found == records && losses.is_empty());
    }
}
