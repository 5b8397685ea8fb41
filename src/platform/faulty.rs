//! A disk that fails as it is told to, for tests: the nth call of a kind, writes that are cut short, a full disk.
//!
//! A refused call does nothing. A refused sync is as on ext4 and XFS: what was written stays readable and the next
//! sync answers success without having it written; below a [`crate::recorder::Recorder`] a crash may lose it then.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Access, Disk, DiskFile};
use crate::file::{Entry, FileError};

/// Kinds of calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opening for writing, making files included.
    Open,
    /// Writing.
    Write,
    /// Setting a length.
    SetLen,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Renaming.
    Rename,
    /// Giving a second name.
    Link,
    /// Removing a file.
    Remove,
    /// Making a directory.
    CreateDir,
    /// Removing a directory.
    RemoveDir,
    /// Reading; the only kind that [`Kind::Any`] leaves out.
    Read,
    /// Every call that changes something or makes it durable.
    Any,
}

impl Kind {
    fn covers(self, kind: Self) -> bool {
        self == kind || (self == Self::Any && kind != Self::Read)
    }
}

/// What a fault does.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// The call fails; the ones after it too if `for_good`.
    Fail { for_good: bool },
    /// A write takes so many bytes fewer than asked.
    Short(usize),
}

#[derive(Clone, Debug)]
struct Fault {
    kind: Kind,
    /// Calls of the kind to go until it strikes; 1 for the next one.
    to_go: u64,
    effect: Effect,
    /// What is told by the system.
    code: i32,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    /// Changing calls so far, failed ones included.
    calls: u64,
    struck: u64,
    /// Bytes that may still be written.
    room: Option<u64>,
    /// Name of the directory whose files are met; all are without one.
    only_in: Option<String>,
}

/// A disk over another one that fails as it is told to.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<dyn Disk>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(code: i32, path: &Path) -> FileError {
    FileError::new("do as asked with", path, io::Error::from_raw_os_error(code))
}

impl State {
    /// Whether faults meet calls on this path.
    fn meets(&self, path: &Path) -> bool {
        let directory = || path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        self.only_in.as_deref().is_none_or(|only| directory() == Some(only))
    }

    /// Counts a call and says how it ends: refused, or short by some bytes.
    fn call(&mut self, kind: Kind, path: &Path) -> Result<usize, FileError> {
        if !self.meets(path) {
            return Ok(0);
        }
        if kind != Kind::Read {
            self.calls += 1;
        }
        let (mut short, mut refused, mut follow) = (0, None, None);
        self.faults.retain_mut(|fault| {
            if !fault.kind.covers(kind) {
                return true;
            }
            fault.to_go = fault.to_go.saturating_sub(1);
            if fault.to_go > 0 {
                return true;
            }
            match fault.effect {
                Effect::Fail { for_good } => {
                    refused.get_or_insert(fault.code);
                    for_good
                }
                Effect::Short(bytes) => {
                    short = bytes;
                    follow = Some(fault.code);
                    false
                }
            }
        });
        if let Some(code) = follow {
            // The rest of the write, or the next one, meets the reason.
            self.faults.push(Fault { kind, to_go: 1, effect: Effect::Fail { for_good: false }, code });
        }
        self.struck += u64::from(refused.is_some() || short > 0);
        refused.map_or(Ok(short), |code| Err(refuse(code, path)))
    }
}

impl Faulty {
    /// A disk that does as the inner one until faults are set.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Only calls on what lies right in directories of this name are counted and fail; only there the disk fills up.
    pub fn only_in(self, directory: &str) -> Self {
        lock(&self.state).only_in = Some(directory.to_owned());
        self
    }

    fn add(&self, kind: Kind, nth: u64, effect: Effect, code: i32) {
        lock(&self.state).faults.push(Fault { kind, to_go: nth.max(1), effect, code });
    }

    /// The nth call of the kind from now (1 is the next) fails with an I/O error.
    pub fn fail_once(&self, kind: Kind, nth: u64) {
        self.add(kind, nth, Effect::Fail { for_good: false }, libc::EIO);
    }

    /// The nth call of the kind from now (1 is the next) and all that follow fail with an I/O error.
    pub fn fail_from(&self, kind: Kind, nth: u64) {
        self.add(kind, nth, Effect::Fail { for_good: true }, libc::EIO);
    }

    /// The nth write from now takes `bytes` fewer than asked, and the write after it fails. If nothing is left to
    /// take it fails itself.
    pub fn short_write(&self, nth: u64, bytes: usize) {
        self.add(Kind::Write, nth, Effect::Short(bytes), libc::EIO);
    }

    /// The disk is full after so many more written bytes, until [`Self::free`].
    pub fn fill_after(&self, bytes: u64) {
        lock(&self.state).room = Some(bytes);
    }

    /// There is room again.
    pub fn free(&self) {
        lock(&self.state).room = None;
    }

    /// No faults from here on; a full disk stays full.
    pub fn heal(&self) {
        lock(&self.state).faults.clear();
    }

    /// Calls so far that change something or make it durable, failed ones included: how many n there are to try.
    pub fn calls(&self) -> u64 {
        lock(&self.state).calls
    }

    /// How many calls faults were met by, a full disk aside: 0 says that a test has tested nothing.
    pub fn struck(&self) -> u64 {
        lock(&self.state).struck
    }

    fn call(&self, kind: Kind, path: &Path) -> Result<(), FileError> {
        lock(&self.state).call(kind, path).map(|_| ())
    }
}

impl Disk for Faulty {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, FileError> {
        self.call(if access == Access::Read { Kind::Read } else { Kind::Open }, path)?;
        Ok(Arc::new(FaultyFile { inner: self.inner.open(path, access)?, state: Arc::clone(&self.state) }))
    }

    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        self.call(Kind::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.call(Kind::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.call(Kind::Link, from)?;
        self.inner.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), FileError> {
        self.call(Kind::Remove, path)?;
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
        self.call(Kind::RemoveDir, path)?;
        self.inner.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        self.call(Kind::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        self.call(Kind::Read, path)?;
        self.inner.read_dir(path)
    }

    fn free_space(&self, path: &Path) -> Result<u64, FileError> {
        let room = lock(&self.state).room;
        room.map_or_else(|| self.inner.free_space(path), Ok)
    }

    fn total_space(&self, path: &Path) -> Result<u64, FileError> {
        self.inner.total_space(path)
    }
}

impl DiskFile for FaultyFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, FileError> {
        lock(&self.state).call(Kind::Read, self.path())?;
        self.inner.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, FileError> {
        let mut state = lock(&self.state);
        let short = state.call(Kind::Write, self.path())?;
        let mut taken = bytes.len().saturating_sub(short);
        if taken == 0 && short > 0 {
            // Nothing is left for the write after it.
            return Err(state
                .call(Kind::Write, self.path())
                .err()
                .unwrap_or_else(|| refuse(libc::EIO, self.path())));
        }
        let room = state.room.filter(|_| state.meets(self.path()));
        if let Some(room) = room {
            taken = taken.min(usize::try_from(room).unwrap_or(usize::MAX));
            if taken == 0 && !bytes.is_empty() {
                return Err(refuse(libc::ENOSPC, self.path()));
            }
        }
        let written = self.inner.write_at(&bytes[..taken], offset)?;
        if let Some(room) = room {
            state.room = Some(room.saturating_sub(written as u64));
        }
        Ok(written)
    }

    fn sync_data(&self) -> Result<(), FileError> {
        lock(&self.state).call(Kind::Sync, self.path())?;
        self.inner.sync_data()
    }

    fn set_len(&self, bytes: u64) -> Result<(), FileError> {
        lock(&self.state).call(Kind::SetLen, self.path())?;
        self.inner.set_len(bytes)
    }

    fn len(&self) -> Result<u64, FileError> {
        self.inner.len()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::disk::write_all_at;
    use crate::real::RealDisk;
    use crate::recorder::Recorder;

    fn with(name: &str, test: impl FnOnce(&Faulty, &Recorder, &Path)) {
        let root: PathBuf =
            std::env::temp_dir().join(format!("tsdbctl-faulty-{name}-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let faulty = Faulty::new(Arc::new(RealDisk));
        let recorder = Recorder::new(Arc::new(faulty.clone()), &root).unwrap();
        test(&faulty, &recorder, &root);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_nth_call_fails_once_or_for_good() {
        with("nth", |faulty, disk, root| {
            let file = disk.open(&root.join("a"), Access::CreateNew).unwrap();
            faulty.fail_once(Kind::Sync, 2);
            let syncs: Vec<_> = (0..4).map(|_| file.sync_data().is_ok()).collect();
            assert_eq!(syncs, [true, false, true, true]);
            faulty.fail_from(Kind::Any, 2);
            file.set_len(5).unwrap();
            assert!(disk.sync_dir(root).is_err() && file.write_at(b"x", 0).is_err());
            assert!(disk.rename(&root.join("a"), &root.join("b")).is_err());
            assert_eq!(file.read_at(&mut [0; 9], 0).unwrap(), 5);
            assert_eq!((faulty.calls(), faulty.struck()), (9, 4));
            faulty.heal();
            disk.sync_dir(root).unwrap();
            faulty.fail_once(Kind::Read, 1);
            assert!(file.read_at(&mut [0; 9], 0).is_err());
            assert_eq!(
                disk.text(),
                "create a\nsync a\nsync a failed\nsync a\nsync a\nlength a 5\nsyncdir . failed\nwrite a 0+1 failed\n\
                 rename a b failed\nsyncdir .\n"
            );
            let error = disk.ops()[2].error.clone().unwrap();
            assert!(error.contains("os error 5"), "{error}");
        });
    }

    #[test]
    fn writes_are_cut_short_and_then_fail() {
        with("short", |faulty, disk, root| {
            let file = disk.open(&root.join("a"), Access::CreateNew).unwrap();
            faulty.short_write(2, 3);
            write_all_at(&*file, b"0123", 0).unwrap();
            write_all_at(&*file, b"456789", 4).unwrap_err();
            write_all_at(&*file, b"789", 7).unwrap();
            faulty.short_write(1, 9);
            write_all_at(&*file, b"abc", 10).unwrap_err();
            write_all_at(&*file, b"abc", 10).unwrap();
            assert_eq!(
                disk.text(),
                "create a\nwrite a 0+4\nwrite a 4+3 of 6\nwrite a 7+3 failed\nwrite a 7+3\nwrite a 10+3 failed\n\
                 write a 10+3\n"
            );
            assert_eq!(std::fs::read(root.join("a")).unwrap(), b"0123456789abc");
        });
    }

    #[test]
    fn a_full_disk_stays_full_until_there_is_room() {
        with("full", |faulty, disk, root| {
            let file = disk.open(&root.join("a"), Access::CreateNew).unwrap();
            faulty.fill_after(5);
            assert_eq!(disk.free_space(root).unwrap(), 5);
            write_all_at(&*file, b"012", 0).unwrap();
            let error = write_all_at(&*file, b"345678", 3).unwrap_err();
            assert_eq!(error.cause.kind(), io::ErrorKind::StorageFull);
            assert!(file.write_at(b"5", 5).is_err());
            assert_eq!(disk.free_space(root).unwrap(), 0);
            file.sync_data().unwrap();
            faulty.free();
            write_all_at(&*file, b"5678", 5).unwrap();
            assert_eq!(std::fs::read(root.join("a")).unwrap(), b"012345678");
            assert!(
                disk.text().contains("write a 3+2 of 6\nwrite a 5+4 failed\nwrite a 5+1 failed\nsync a\n")
            );
            assert_eq!(faulty.struck(), 0);
        });
    }

    #[test]
    fn faults_in_one_directory_spare_the_others() {
        let root = std::env::temp_dir().join(format!("tsdbctl-faulty-only-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let disk = Faulty::new(Arc::new(RealDisk)).only_in("here");
        let file = |name: &str| {
            disk.create_dir(&root.join(name)).unwrap();
            disk.open(&root.join(name).join("f"), Access::CreateNew).unwrap()
        };
        let (here, there) = (file("here"), file("there"));
        disk.fill_after(3);
        write_all_at(&*there, b"12345", 0).unwrap();
        assert_eq!(write_all_at(&*here, b"12345", 0).unwrap_err().cause.kind(), io::ErrorKind::StorageFull);
        disk.free();
        disk.fail_from(Kind::Sync, 1);
        there.sync_data().unwrap();
        here.sync_data().unwrap_err();
        assert_eq!((here.len().unwrap(), there.len().unwrap(), disk.struck()), (3, 5, 1));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
