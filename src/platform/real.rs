//! The machine's own file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile};
use crate::file::{Entry, FileError};

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    path: PathBuf,
    file: std::fs::File,
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, FileError> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true);
        let operation = match access {
            Access::Read => "open",
            Access::Write => {
                options.write(true);
                "open for writing"
            }
            Access::CreateNew => {
                options.write(true).create_new(true);
                "create"
            }
            Access::Truncate => {
                options.write(true).create(true).truncate(true);
                "create"
            }
        };
        let file = options.open(path).map_err(|e| FileError::new(operation, path, e))?;
        Ok(Arc::new(RealFile { path: path.to_owned(), file }))
    }

    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        std::fs::create_dir(path).map_err(|e| FileError::new("create directory", path, e))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        std::fs::rename(from, to).map_err(|e| FileError::new("rename", from, e))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        std::fs::hard_link(from, to).map_err(|e| FileError::new("link", from, e))
    }

    fn remove_file(&self, path: &Path) -> Result<(), FileError> {
        std::fs::remove_file(path).map_err(|e| FileError::new("remove", path, e))
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
        std::fs::remove_dir(path).map_err(|e| FileError::new("remove directory", path, e))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        let wrap = |e| FileError::new("sync directory", path, e);
        std::fs::File::open(path).map_err(wrap)?.sync_all().map_err(wrap)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        crate::file::read_dir(path)
    }

    fn free_space(&self, _path: &Path) -> Result<u64, FileError> {
        Ok(u64::MAX)
    }
}

impl DiskFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, FileError> {
        use std::os::unix::fs::FileExt;
        loop {
            match self.file.read_at(bytes, offset) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                done => return done.map_err(|e| FileError::new("read", &self.path, e)),
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, FileError> {
        use std::os::unix::fs::FileExt;
        loop {
            match self.file.write_at(bytes, offset) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                done => return done.map_err(|e| FileError::new("write", &self.path, e)),
            }
        }
    }

    fn sync_data(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|e| FileError::new("sync", &self.path, e))
    }

    fn set_len(&self, bytes: u64) -> Result<(), FileError> {
        self.file.set_len(bytes).map_err(|e| FileError::new("set the length of", &self.path, e))
    }

    fn len(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(|e| FileError::new("look at", &self.path, e))?.len())
    }
}
