//! A file read a part at a time with positioned reads: what is read this way does not count as mapped memory.

use std::path::Path;
use std::sync::Arc;

use tsdbctl_platform::disk::{Access, Disk, DiskFile, read_full_at};
use tsdbctl_platform::file::FileError;

/// Bytes read at once; a multiple of the log's page.
pub const WINDOW_BYTES: usize = 1 << 20;

/// The part of a file that was read last.
pub struct Window {
    file: Arc<dyn DiskFile>,
    size: u64,
    base: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Opens a file; nothing is read yet. `bytes` is a buffer to use again.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(disk: &dyn Disk, path: &Path, mut bytes: Vec<u8>) -> Result<Self, FileError> {
        let file = disk.open(path, Access::Read)?;
        let size = file.len()?;
        bytes.clear();
        Ok(Self { file, size, base: 0, bytes })
    }

    /// Reads `length` bytes from `base` on, fewer at the end of the file.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn read(&mut self, base: u64, length: usize) -> Result<(), FileError> {
        let rest = usize::try_from(self.size.saturating_sub(base)).unwrap_or(usize::MAX);
        self.bytes.resize(length.min(rest), 0);
        let filled = read_full_at(self.file.as_ref(), &mut self.bytes, base)?;
        if filled < self.bytes.len() {
            self.bytes.truncate(filled);
            self.size = base + filled as u64;
        }
        self.base = base;
        Ok(())
    }

    /// What was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where that begins in the file.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Whether the file ends there too.
    pub fn is_at_end(&self) -> bool {
        self.end() >= self.size
    }

    /// The buffer, for the next file.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}
