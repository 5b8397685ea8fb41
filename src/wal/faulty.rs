//! A disk for tests: the machine's, but calls fail when told to, and what no sync made durable is lost when one fails.
//! Syncs do not reach the machine.

use std::collections::HashMap;
use std::fmt::{Debug, Formatter};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tsdbctl_platform::disk::{Access, Disk, DiskFile};
use tsdbctl_platform::file::{Entry, FileError};
use tsdbctl_platform::real::RealDisk;

/// What becomes of a call.
pub(crate) enum Fault {
    /// It is carried out.
    No,
    /// It fails with this number of the system; nothing is done.
    Error(i32),
    /// A write takes so many bytes.
    Short(usize),
}

/// The system's number for a full disk.
pub(crate) const NO_SPACE: i32 = 28;
/// And for a broken one.
pub(crate) const BROKEN: i32 = 5;

type Hook = dyn Fn(&str, &str, usize) -> Fault + Send + Sync;

struct Inner {
    hook: Box<Hook>,
    calls: Mutex<Vec<String>>,
    durable_len: Mutex<HashMap<PathBuf, u64>>,
}

/// The disk.
#[derive(Clone)]
pub(crate) struct FaultyDisk(Arc<Inner>);

impl Debug for FaultyDisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyDisk")
    }
}

impl FaultyDisk {
    /// `hook` is asked about every call that changes something: its name, the file's name, and how many calls there
    /// were before.
    pub(crate) fn new(hook: impl Fn(&str, &str, usize) -> Fault + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { hook: Box::new(hook), calls: Mutex::default(), durable_len: Mutex::default() }))
    }

    /// All calls so far, as `name file`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, call: &'static str, path: &Path) -> Result<Option<usize>, FileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let before = {
            let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(format!("{call} {name}"));
            calls.len() - 1
        };
        match (self.0.hook)(call, &name, before) {
            Fault::No => Ok(None),
            Fault::Error(code) => Err(FileError::new(call, path, io::Error::from_raw_os_error(code))),
            Fault::Short(n) => Ok(Some(n)),
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, FileError> {
        if matches!(access, Access::CreateNew | Access::Truncate) {
            self.ask("create", path)?;
        }
        let file = RealDisk.open(path, access)?;
        let len = file.len()?;
        self.0
            .durable_len
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(path.to_owned())
            .or_insert(len);
        Ok(Arc::new(FaultyFile { disk: self.clone(), file }))
    }

    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        self.ask("create_dir", path)?;
        RealDisk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.ask("rename", from)?;
        RealDisk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.ask("link", from)?;
        RealDisk.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), FileError> {
        self.ask("remove_file", path)?;
        RealDisk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
        self.ask("remove_dir", path)?;
        RealDisk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        self.ask("sync_dir", path).map(|_| ())
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        RealDisk.read_dir(path)
    }

    fn free_space(&self, path: &Path) -> Result<u64, FileError> {
        RealDisk.free_space(path)
    }

    fn total_space(&self, path: &Path) -> Result<u64, FileError> {
        RealDisk.total_space(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for FaultyFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, FileError> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, FileError> {
        match self.disk.ask("write", self.path())? {
            Some(n) => self.file.write_at(&bytes[..n.min(bytes.len())], offset),
            None => self.file.write_at(bytes, offset),
        }
    }

    fn sync_data(&self) -> Result<(), FileError> {
        let len = self.len()?;
        let mut durable = self.disk.0.durable_len.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = durable.entry(self.path().to_owned()).or_default();
        if let Err(e) = self.disk.ask("sync", self.path()) {
            // The length is there, the bytes are not.
            self.file.set_len(*durable)?;
            self.file.set_len(len)?;
            return Err(e);
        }
        *durable = len;
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> Result<(), FileError> {
        self.disk.ask("set_len", self.path())?;
        let mut durable = self.disk.0.durable_len.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = durable.entry(self.path().to_owned()).or_default();
        *durable = (*durable).min(bytes);
        self.file.set_len(bytes)
    }

    fn len(&self) -> Result<u64, FileError> {
        self.file.len()
    }
}
