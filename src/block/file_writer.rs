//! A file that is written from its start to its end through a buffer, with places that are filled in later.

use std::path::Path;
use std::sync::Arc;

use tsdbctl_platform::disk::{Access, Disk, DiskFile, write_all_at};
use tsdbctl_platform::file::FileError;

/// A new file. Nothing of it is durable before [`FileWriter::sync`].
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: Arc<dyn DiskFile>,
    /// What is not written yet; goes to the file once it has `buffer_bytes`.
    buffer: Vec<u8>,
    buffer_bytes: usize,
    /// Length of what is written.
    written: u64,
}

impl FileWriter {
    /// Makes a file. `buffer` is one that may be used again.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        buffer_bytes: usize,
        mut buffer: Vec<u8>,
    ) -> Result<Self, FileError> {
        let file = disk.open(path, Access::CreateNew)?;
        buffer.clear();
        Ok(Self { file, buffer, buffer_bytes, written: 0 })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Where the next byte goes.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The end of the file, to append to; [`FileWriter::spill`] is to be called afterwards.
    #[inline]
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer if it is full.
    #[inline]
    pub(crate) fn spill(&mut self) -> Result<(), FileError> {
        if self.buffer.len() >= self.buffer_bytes { self.flush() } else { Ok(()) }
    }

    /// Appends bytes; long ones pass by the buffer.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if bytes.len() < self.buffer_bytes {
            self.buffer.extend_from_slice(bytes);
            return self.spill();
        }
        self.flush()?;
        write_all_at(&*self.file, bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Appends zeros up to the next multiple of `align`.
    #[inline]
    pub(crate) fn pad_to(&mut self, align: u64) {
        let zeros = self.position().next_multiple_of(align) - self.position();
        self.buffer.resize(self.buffer.len() + zeros as usize, 0);
    }

    /// Writes over bytes that were appended before.
    pub(crate) fn fill_in(&mut self, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        if let Some(start) = offset.checked_sub(self.written) {
            let start = start as usize;
            if let Some(place) = self.buffer.get_mut(start..start + bytes.len()) {
                place.copy_from_slice(bytes);
                return Ok(());
            }
        }
        self.flush()?;
        write_all_at(&*self.file, bytes, offset)
    }

    /// Writes the buffer: other readers of the file see all of it then.
    pub(crate) fn flush(&mut self) -> Result<(), FileError> {
        if !self.buffer.is_empty() {
            write_all_at(&*self.file, &self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes the content durable.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        self.flush()?;
        self.file.sync_data()
    }

    /// The buffer, for the next file.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// Appends a varint.
#[inline]
pub(crate) fn push_uvarint(to: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        to.push(v as u8 | 0x80);
        v >>= 7;
    }
    to.push(v as u8);
}

/// Appends a zigzag varint.
#[inline]
pub(crate) fn push_varint(to: &mut Vec<u8>, v: i64) {
    push_uvarint(to, ((v << 1) ^ (v >> 63)) as u64);
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;

    use super::*;
    use crate::cursor::Cursor;

    #[test]
    fn bytes_are_where_they_were_put_whatever_the_buffer() {
        for buffer_bytes in [1, 3, 7, 1000] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            let mut f = FileWriter::create(&RealDisk, &path, buffer_bytes, b"old".to_vec()).unwrap();
            f.put(b"0123").unwrap();
            f.end().extend_from_slice(b"45");
            f.spill().unwrap();
            f.pad_to(4);
            f.put(b"89").unwrap();
            f.fill_in(1, b"xy").unwrap();
            f.fill_in(9, b"z").unwrap();
            assert_eq!(f.position(), 10, "buffer {buffer_bytes}");
            f.sync().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"0xy345\0\08z", "buffer {buffer_bytes}");
        }
    }

    #[test]
    fn varints_are_read_again() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            push_uvarint(&mut bytes, v);
            assert_eq!(Cursor::at(&bytes, 0).uvarint(), Some(v));
        }
        for v in [0, -1, 1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, v);
            assert_eq!(Cursor::at(&bytes, 0).varint(), Some(v));
        }
    }
}
