//! Whether a server that took no lock writes to a directory (Debian's takes none unless told): two who append to one log
//! destroy it, and what one is making would be taken for what a crash left.

use std::path::Path;

use anyhow::bail;
use tsdbctl_platform::lock::{DirLock, LockError};
use tsdbctl_platform::open_files::writers;

/// Refuses a directory whose log another process has open for writing. One that holds the lock is told of by who locks.
///
/// # Errors
/// If there is one.
pub fn refuse_unlocked_writer(dir: &Path) -> anyhow::Result<()> {
    let found = writers(&dir.join("wal")).found;
    let Some(writer) = found.first() else { return Ok(()) };
    if let Err(LockError::Held { .. }) = DirLock::acquire(dir) {
        return Ok(());
    }
    bail!(
        "{}: {writer} writes to it, though it took no lock; stop it, or write to another directory and move the blocks",
        dir.display()
    )
}
