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

    fn free_space(&self, path: &Path) -> Result<u64, FileError> {
        space(path).map(|s| s.free).map_err(|e| FileError::new("ask for the free space of", path, e))
    }

    fn total_space(&self, path: &Path) -> Result<u64, FileError> {
        space(path)
            .map(|s| s.total)
            .map_err(|e| FileError::new("ask for the size of the file system of", path, e))
    }
}

/// Bytes of a file system.
struct Space {
    /// What this user may still write; what is kept for the administrator is not counted.
    free: u64,
    total: u64,
}

/// Bytes of the file system of a path.
#[allow(unsafe_code)]
#[allow(clippy::useless_conversion, reason = "elsewhere the fields are narrower")]
fn space(path: &Path) -> std::io::Result<Space> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut space = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    loop {
        // SAFETY: the path ends with a zero, the structure is of the right type and zeros are valid values of it.
        let (status, space) = unsafe {
            let status = libc::statvfs(path.as_ptr(), space.as_mut_ptr());
            (status, space.assume_init())
        };
        let error = match status {
            0 => {
                let bytes = |blocks: u64| blocks.saturating_mul(u64::from(space.f_frsize));
                let (free, total) = (u64::from(space.f_bavail), u64::from(space.f_blocks));
                return Ok(Space { free: bytes(free), total: bytes(total) });
            }
            _ => std::io::Error::last_os_error(),
        };
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{create_dir_all, read_full_at, remove_all, write_all_at};

    #[test]
    fn files_are_opened_as_asked_and_written_where_asked() {
        let root = std::env::temp_dir().join(format!("tsdbctl-real-{}", std::process::id()));
        let (a, b) = (root.join("deep/a"), root.join("deep/b"));
        let disk = RealDisk;
        create_dir_all(&disk, &root.join("deep")).unwrap();
        create_dir_all(&disk, &root.join("deep")).unwrap();
        for access in [Access::Read, Access::Write] {
            assert!(disk.open(&a, access).unwrap_err().is_not_found());
        }
        let file = disk.open(&a, Access::CreateNew).unwrap();
        assert!(file.is_empty().unwrap() && file.path() == a);
        let error = disk.open(&a, Access::CreateNew).unwrap_err();
        assert!(error.to_string().contains("deep/a: cannot create: "), "{error}");
        write_all_at(&*file, b"world", 6).unwrap();
        write_all_at(&*file, b"hello", 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(&root.join("deep")).unwrap();
        let mut bytes = [9; 20];
        let read = disk.open(&a, Access::Read).unwrap();
        assert_eq!((read_full_at(&*read, &mut bytes, 0).unwrap(), &bytes[..11]), (11, &b"hello\0world"[..]));
        assert_eq!(read.read_at(&mut bytes, 11).unwrap(), 0);
        assert!(read.write_at(b"x", 0).is_err());
        file.set_len(3).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), b"hel\0");
        disk.open(&a, Access::Write).unwrap().write_at(b"p!", 3).unwrap();
        assert_eq!((std::fs::read(&a).unwrap().as_slice(), read.len().unwrap()), (&b"help!"[..], 5));
        disk.link(&a, &b).unwrap();
        assert!(disk.link(&a, &b).is_err());
        assert_eq!(disk.open(&b, Access::Truncate).unwrap().len().unwrap(), 0);
        disk.rename(&b, &root.join("c")).unwrap();
        let names: Vec<_> = disk.read_dir(&root).unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
        assert_eq!(names, [("c".to_owned(), false), ("deep".to_owned(), true)]);
        assert!(disk.remove_dir(&root.join("deep")).is_err());
        std::os::unix::fs::symlink("/", root.join("deep/root")).unwrap();
        disk.remove_file(&root.join("deep/root")).unwrap();
        remove_all(&disk, &root).unwrap();
        assert!(!crate::file::exists(&root));
        assert!(disk.sync_dir(&root).unwrap_err().is_not_found());
    }

    #[test]
    fn free_space_is_what_the_system_says() {
        let here = std::env::temp_dir();
        let free = RealDisk.free_space(&here).unwrap();
        assert!((1..1 << 60).contains(&free), "{free}");
        assert!(RealDisk.total_space(&here).unwrap() >= free);
        assert!(RealDisk.free_space(&here.join("no such place")).unwrap_err().is_not_found());
        let error = RealDisk.free_space(Path::new("a\0b")).unwrap_err();
        assert_eq!(error.cause.kind(), std::io::ErrorKind::InvalidInput);
    }
}
