//! Names of blocks' directories: taken away, durably, before their content; given anew where nobody knows whether they are
//! durable.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tsdbctl_block::block_writer::TEMPORARY_SUFFIX;
use tsdbctl_platform::disk::{Disk, remove_all};
use tsdbctl_platform::file::{self, FileError};

/// End of the name of a block's directory while it is being removed.
pub(crate) const DELETION_SUFFIX: &str = ".tmp-for-deletion";

fn beside(block_dir: &Path, suffix: &str) -> PathBuf {
    let mut name = block_dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes a block's name away, which is durable when the directory it is in was synced. Where its content is then.
pub(crate) fn take_away(disk: &dyn Disk, block_dir: &Path) -> Result<PathBuf, FileError> {
    let to = beside(block_dir, DELETION_SUFFIX);
    if file::exists(&to) {
        remove_all(disk, &to)?;
    }
    disk.rename(block_dir, &to)?;
    Ok(to)
}

/// Removes what blocks had whose names were taken away, when that is durable.
pub(crate) fn remove_content(disk: &dyn Disk, taken: &[PathBuf]) -> Result<(), FileError> {
    let parents: BTreeSet<&Path> = taken.iter().map(|dir| file::parent(dir)).collect();
    for parent in parents {
        disk.sync_dir(parent)?;
    }
    taken.iter().try_for_each(|dir| remove_all(disk, dir))
}

/// Removes blocks: all names go before any content.
pub(crate) fn remove<'p>(
    disk: &dyn Disk,
    blocks: impl IntoIterator<Item = &'p Path>,
) -> Result<(), FileError> {
    let taken: Vec<PathBuf> = blocks.into_iter().map(|dir| take_away(disk, dir)).collect::<Result<_, _>>()?;
    remove_content(disk, &taken)
}

/// Gives a block its name anew, durably: who made it may have been told that this failed, and then no later sync of the
/// same name has to do it. A crash on the way leaves the block, or a temporary directory; so what it replaces or stands for
/// has to be there still.
pub(crate) fn settle(disk: &dyn Disk, block_dir: &Path) -> Result<(), FileError> {
    let away = beside(block_dir, TEMPORARY_SUFFIX);
    if file::exists(&away) {
        remove_all(disk, &away)?;
    }
    disk.rename(block_dir, &away)?;
    disk.rename(&away, block_dir)?;
    disk.sync_dir(file::parent(block_dir))
}
