//! Files and directories that are written: one small trait, so that every call can be recorded, made to fail and cut
//! off by a crash in tests. One call costs nanoseconds beside the system's microseconds.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::{Entry, FileError};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must exist.
    Read,
    /// Read and write; it must exist.
    Write,
    /// Read and write; it must not exist.
    CreateNew,
    /// Read and write; made if it does not exist, emptied if it does.
    Truncate,
}

/// A file system. Nothing is durable before it was synced: content and length by the file's
/// [`DiskFile::sync_data`], names by [`Disk::sync_dir`] of their directory.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// If the system refuses.
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, FileError>;
    /// Makes one directory; its parent must exist.
    ///
    /// # Errors
    /// If the system refuses, or it exists.
    fn create_dir(&self, path: &Path) -> Result<(), FileError>;
    /// Renames a file or directory; a file at `to` is replaced.
    ///
    /// # Errors
    /// If the system refuses.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;
    /// Gives a file a second name.
    ///
    /// # Errors
    /// If the system refuses.
    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError>;
    /// Removes a file.
    ///
    /// # Errors
    /// If the system refuses.
    fn remove_file(&self, path: &Path) -> Result<(), FileError>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// If the system refuses.
    fn remove_dir(&self, path: &Path) -> Result<(), FileError>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// If the system refuses.
    fn sync_dir(&self, path: &Path) -> Result<(), FileError>;
    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// As [`crate::file::read_dir`].
    fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, FileError>;
    /// Bytes that may still be written to the file system of `path`.
    ///
    /// # Errors
    /// If the system refuses.
    fn free_space(&self, path: &Path) -> Result<u64, FileError>;
    /// Bytes that the file system of `path` has in all, used ones included.
    ///
    /// # Errors
    /// If the system refuses.
    fn total_space(&self, path: &Path) -> Result<u64, FileError>;
}

/// An open file. Positions are explicit, so that it can be shared.
pub trait DiskFile: Debug + Send + Sync {
    /// Its path when it was opened.
    fn path(&self) -> &Path;
    /// Reads at `offset`; 0 at the end of the file. Interrupted reads are repeated.
    ///
    /// # Errors
    /// If the system refuses.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, FileError>;
    /// Writes at `offset` and says how many bytes were taken, which may be fewer than asked.
    ///
    /// # Errors
    /// If the system refuses.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, FileError>;
    /// Makes content and length durable. After an error nothing is known about what was written since the last
    /// success, and a second call may answer success without having written it.
    ///
    /// # Errors
    /// If the system refuses.
    fn sync_data(&self) -> Result<(), FileError>;
    /// Cuts or extends the file with zeros.
    ///
    /// # Errors
    /// If the system refuses.
    fn set_len(&self, bytes: u64) -> Result<(), FileError>;
    /// Length in bytes.
    ///
    /// # Errors
    /// If the system refuses.
    fn len(&self) -> Result<u64, FileError>;
    /// Whether it has no bytes.
    ///
    /// # Errors
    /// If the system refuses.
    fn is_empty(&self) -> Result<bool, FileError> {
        Ok(self.len()? == 0)
    }
}

/// Makes durable what somebody else wrote, perhaps a process that was killed. If a sync fails, the system shows bytes
/// that it may never write, and answers the next sync with success: so they are written again in their places, before
/// the one retry and also after it, for whoever comes next.
///
/// # Errors
/// If the system refuses.
pub fn settle(file: &dyn DiskFile) -> Result<(), FileError> {
    if file.sync_data().is_ok() {
        return Ok(());
    }
    rewrite(file)?;
    file.sync_data().inspect_err(|_| drop(rewrite(file)))
}

/// Writes a file's bytes in their places, so that the next sync has something to do.
///
/// # Errors
/// If the system refuses.
pub fn rewrite(file: &dyn DiskFile) -> Result<(), FileError> {
    let (mut bytes, mut offset) = (vec![0; 1 << 16], 0);
    loop {
        let read = read_full_at(file, &mut bytes, offset)?;
        if read == 0 {
            return Ok(());
        }
        write_all_at(file, &bytes[..read], offset)?;
        offset += read as u64;
    }
}

/// Writes all bytes at `offset`: short writes are continued.
///
/// # Errors
/// If the system refuses; some of the bytes may be written then.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> Result<(), FileError> {
    while !bytes.is_empty() {
        let taken = file.write_at(bytes, offset)?;
        if taken == 0 {
            return Err(FileError::new("write", file.path(), std::io::ErrorKind::WriteZero.into()));
        }
        bytes = &bytes[taken..];
        offset += taken as u64;
    }
    Ok(())
}

/// Reads until `bytes` is full or the file ends; says how many were read.
///
/// # Errors
/// If the system refuses.
pub fn read_full_at(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> Result<usize, FileError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Makes a directory and all that are missing above it; the names of new ones are durable afterwards.
///
/// # Errors
/// If the system refuses.
pub fn create_dir_all(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    if path.as_os_str().is_empty() || crate::file::is_dir(path) {
        return Ok(());
    }
    let parent: PathBuf = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    create_dir_all(disk, &parent)?;
    disk.create_dir(path)?;
    sync_parent(disk, path).inspect_err(|_| {
        // A second sync would say yes without having made the name durable: it is made anew.
        let _ = disk.remove_dir(path);
    })
}

/// Makes the name of a file or directory durable.
///
/// # Errors
/// If the system refuses.
pub fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Removes a file or a directory with all that is in it; links are removed, not followed.
///
/// # Errors
/// If the system refuses.
pub fn remove_all(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    if !crate::file::is_dir(path) {
        return disk.remove_file(path);
    }
    for entry in disk.read_dir(path)? {
        remove_all(disk, &entry.path)?;
    }
    disk.remove_dir(path)
}
