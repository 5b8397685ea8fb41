//! The lock of a data directory: Prometheus and this program keep each other out.
//!
//! As Prometheus has it: an empty file `lock` in the directory, held by flock(2) as long as the process lives and removed
//! when it is given back. A file that a dead process left is no lock: the system gave it back already. Debian's
//! Prometheus takes it only with `--storage.tsdb.use-lockfile`.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::file::FileError;

/// Name of the file.
pub const LOCK_FILE: &str = "lock";

/// A directory that only this process writes to, until dropped.
#[derive(Debug)]
pub struct DirLock {
    path: PathBuf,
    /// Open as long as the lock is held; the system gives it back when it is closed.
    _file: File,
    left_over: bool,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one has it.
    #[error(
        "lock DB directory: resource temporarily unavailable: {} is held by {}",
        path.display(),
        holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string)
    )]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who has it, where the system tells.
        holder: Option<Holder>,
    },
    /// The file cannot be made, opened or locked.
    #[error("lock DB directory: {0}")]
    File(#[from] FileError),
}

/// The process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, where it can be read.
    pub name: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

impl DirLock {
    /// Locks a directory, which must exist, without waiting.
    ///
    /// # Errors
    /// If it is locked already, also by this process, or the file cannot be made.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        /// Who gives a lock back removes its file, perhaps between our opening and our locking it.
        const TRIES: usize = 100;
        let path = std::path::absolute(dir).map_err(|e| FileError::new("find", dir, e))?.join(LOCK_FILE);
        let wrap = |e| FileError::new("lock", &path, e);
        for _ in 0..TRIES {
            let left_over = path.exists();
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(wrap)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&file);
                    return Err(LockError::Held { path, holder });
                }
                Err(TryLockError::Error(e)) => return Err(wrap(e).into()),
            }
            if is_at(&file, &path).map_err(wrap)? {
                return Ok(Self { path, _file: file, left_over });
            }
        }
        Err(LockError::Held { path, holder: None })
    }

    /// Whether the file of an earlier process was found, which then did not end cleanly.
    pub fn was_left_over(&self) -> bool {
        self.left_over
    }

    /// The lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Removed while it is held: nobody can have locked the file that goes. One that stays is no lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the open file is the one that has this name now.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Other systems do not remove a file that is open.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Who holds the lock of a file.
#[cfg(target_os = "linux")]
fn holder(file: &File) -> Option<Holder> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata().ok()?;
    // The list is read piece by piece, and a line may be missed while others lock and unlock.
    let pid = (0..5).find_map(|_| {
        let locks = std::fs::read("/proc/locks").ok()?;
        holder_in(&String::from_utf8_lossy(&locks), meta.dev(), meta.ino())
    })?;
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok();
    let name = name.map(|name| String::from_utf8_lossy(&name).trim_end().to_owned());
    Some(Holder { pid, name })
}

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
fn holder(_: &File) -> Option<Holder> {
    None
}

/// The process that holds a file in the system's list: `5: FLOCK ADVISORY WRITE 4711 fd:01:1234 0 EOF`. Layered file
/// systems show files under another device than the list has, so a line with the same inode must do if none has both.
#[cfg(target_os = "linux")]
fn holder_in(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
    let mut likely = None;
    for line in locks.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // Who waits is listed below the one it waits for, with an arrow as its second field.
        let [_, "FLOCK", _, _, pid, place, ..] = fields[..] else { continue };
        let (Ok(pid), Some((of, number))) = (pid.parse(), place.rsplit_once(':')) else { continue };
        if number.parse() == Ok(inode) {
            if of == device {
                return Some(pid);
            }
            likely.get_or_insert(pid);
        }
    }
    likely
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tsdbctl-lock-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn one_at_a_time_and_the_second_is_told_who_has_it() {
        let dir = temp("twice");
        let first = DirLock::acquire(&dir).unwrap();
        assert!(!first.was_left_over());
        assert_eq!(std::fs::read(dir.join("lock")).unwrap(), b"");
        let error = DirLock::acquire(&dir).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("lock DB directory: resource temporarily unavailable: "), "{text}");
        #[cfg(target_os = "linux")]
        {
            let LockError::Held { holder: Some(holder), .. } = error else { panic!("{error:?}") };
            let name = std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
            assert_eq!(holder, Holder { pid: std::process::id(), name: Some(name) });
            assert!(
                text.contains(&format!("{}/lock is held by process {} (", dir.display(), holder.pid)),
                "{text}"
            );
        }
        drop(first);
        assert!(!dir.join("lock").exists());
        let again = DirLock::acquire(&dir).unwrap();
        assert!(!again.was_left_over());
        drop(again);
        std::fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn a_file_that_was_left_is_no_lock() {
        let dir = temp("left");
        std::fs::write(dir.join("lock"), b"1\n").unwrap();
        let lock = DirLock::acquire(&dir).unwrap();
        assert!(lock.was_left_over());
        assert!(matches!(DirLock::acquire(&dir), Err(LockError::Held { .. })));
        drop(lock);
        std::fs::remove_dir(&dir).unwrap();
    }

    #[test]
    fn without_a_directory_there_is_no_lock() {
        let error = DirLock::acquire(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(&error, LockError::File(e) if e.is_not_found()), "{error:?}");
        assert!(
            error.to_string().starts_with("lock DB directory: /nowhere/at/all/lock: cannot lock: "),
            "{error}"
        );
    }

    /// Many at once, each giving it back: never two at the same time, whatever is removed under whose hands.
    #[test]
    fn a_file_removed_under_our_hands_is_no_lock() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let dir = temp("race");
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if let Ok(lock) = DirLock::acquire(&dir) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
        std::fs::remove_dir(&dir).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_holder_is_found_in_the_systems_list() {
        const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 10 fd:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 11 00:2f:77 0 EOF
3: FLOCK  ADVISORY  WRITE 12 fd:01:77 0 EOF
3: -> FLOCK  ADVISORY  WRITE 13 fd:01:77 0 EOF
4: FLOCK  ADVISORY  WRITE x fd:01:78 0 EOF
5: FLOCK  ADVISORY  WRITE 14 nonsense
6: OFDLCK
";
        let device = libc::makedev(0xfd, 1);
        for (device, inode, pid) in [
            (device, 77, Some(12)),
            (libc::makedev(0, 0x2f), 77, Some(11)),
            (libc::makedev(8, 1), 77, Some(11)),
            (device, 78, None),
            (device, 7, None),
        ] {
            assert_eq!(holder_in(LOCKS, device, inode), pid, "{device} {inode}");
        }
    }
}
