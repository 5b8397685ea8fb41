//! Reading files and directories, and replacing whole files; every error names its path.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, write_all_at};

/// An operation on a path that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {operation}: {cause}", path.display())]
pub struct FileError {
    /// What was tried.
    pub operation: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

impl FileError {
    /// Wraps what the system said about `path`.
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), cause: source }
    }

    /// Whether the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    /// Whether the same may succeed later without anybody changing what is asked: the disk is full, mounted for reading
    /// only, does not answer or answers with an error, or something else the system has runs out.
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind::*;
        let kind = self.cause.kind();
        let is_full = matches!(kind, StorageFull | QuotaExceeded | WriteZero | OutOfMemory);
        let is_away =
            matches!(kind, ReadOnlyFilesystem | TimedOut | StaleNetworkFileHandle | HostUnreachable);
        is_full || is_away || is_system_trouble(&self.cause)
    }
}

/// What the standard library has no names for: errors of the device, too many open files.
#[cfg(unix)]
fn is_system_trouble(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EIO | libc::EMFILE | libc::ENFILE))
}

#[cfg(not(unix))]
fn is_system_trouble(_: &io::Error) -> bool {
    false
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of its path; names that are no UTF-8 are shown lossily.
    pub name: String,
    /// Its whole path.
    pub path: PathBuf,
    /// Whether it is a directory (links are followed).
    pub is_dir: bool,
    /// Size in bytes, 0 for directories.
    pub size: u64,
}

/// The entries of a directory, sorted by name.
///
/// # Errors
/// If the directory cannot be read, or an entry not be looked at. Entries that vanish while it is read are left out,
/// and links that lead nowhere.
pub fn read_dir(path: &Path) -> Result<Vec<Entry>, FileError> {
    let wrap = |e| FileError::new("list directory", path, e);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(wrap)? {
        let entry = entry.map_err(wrap)?;
        let meta = match std::fs::metadata(entry.path()) {
            Ok(meta) => meta,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(FileError::new("look at", &entry.path(), e)),
        };
        entries.push(Entry {
            name: entry.file_name().to_string_lossy().into_owned(),
            path: entry.path(),
            is_dir: meta.is_dir(),
            size: if meta.is_dir() { 0 } else { meta.len() },
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The bytes of a file.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|e| FileError::new("read", path, e))
}

/// Opens what is read from beginning to end: a file, a pipe, a device.
///
/// # Errors
/// If it cannot be opened, or is a directory.
pub fn open_stream(path: &Path) -> Result<Box<dyn io::Read + Send>, FileError> {
    let wrap = |e| FileError::new("open", path, e);
    let file = std::fs::File::open(path).map_err(wrap)?;
    if file.metadata().map_err(wrap)?.is_dir() {
        return Err(wrap(io::ErrorKind::IsADirectory.into()));
    }
    Ok(Box::new(file))
}

/// Size in bytes of a plain file; `None` of anything else.
pub fn size(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|m| m.len())
}

/// Whether the path is a plain file, which can be mapped.
pub fn is_plain_file(path: &Path) -> bool {
    path.is_file()
}

/// Writes a whole file, replacing what was there. For what can be made again, such as a drawn chart: a crash may
/// leave a part of it.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    std::fs::write(path, bytes).map_err(|e| FileError::new("write", path, e))
}

/// The directory a path is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Replaces a whole file, or makes it: whatever crash comes, there is the old content or the new, and after success
/// the new. What is written first has the name with `.tmp` behind; one that a crash left is written over.
///
/// # Errors
/// If the system refuses. The old content stays then; only if the last step fails, which makes the new name durable,
/// the new content is there and may be gone after a crash.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_with(disk, path, bytes, |_| Ok(()))
}

/// As [`replace`], and nobody but the file's owner can read it, from the beginning.
///
/// # Errors
/// As [`replace`].
pub fn replace_private(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_with(disk, path, bytes, make_private)
}

#[cfg(unix)]
fn make_private(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(|e| FileError::new("make private", path, e))
}

/// Elsewhere the directory's rules hold.
#[cfg(not(unix))]
fn make_private(_: &Path) -> Result<(), FileError> {
    Ok(())
}

/// As [`replace`] for a file that people keep: a link to it stays a link, and who may read, write or run it stays.
///
/// # Errors
/// As [`replace`].
pub fn rewrite(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let path = resolve(path);
    let permissions = match std::fs::metadata(&path) {
        Ok(metadata) => Some(metadata.permissions()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(FileError::new("look at", &path, e)),
    };
    replace_with(disk, &path, bytes, |temporary| match permissions {
        Some(permissions) => std::fs::set_permissions(temporary, permissions)
            .map_err(|e| FileError::new("set permissions of", temporary, e)),
        None => Ok(()),
    })
}

fn replace_with(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    prepare: impl FnOnce(&Path) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = disk.open(&temporary, Access::Truncate)?;
    let written =
        prepare(&temporary).and_then(|()| write_all_at(&*file, bytes, 0)).and_then(|()| file.sync_data());
    if let Err(e) = written.and_then(|()| disk.rename(&temporary, path)) {
        // The first error says what is wrong; what stays is written over next time.
        let _ = disk.remove_file(&temporary);
        return Err(e);
    }
    disk.sync_dir(parent(path))
}

/// Moves a file or directory, and makes that durable. A crash may leave it at either place.
///
/// # Errors
/// If the system refuses.
pub fn move_to(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), FileError> {
    disk.rename(from, to)?;
    let (old, new) = (parent(from), parent(to));
    disk.sync_dir(new)?;
    if old == new { Ok(()) } else { disk.sync_dir(old) }
}

/// The whole path, with links followed as far as it exists; what does not exist yet is appended as it is.
pub fn resolve(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in whole.ancestors() {
        if let Ok(resolved) = there.canonicalize() {
            let rest = whole.strip_prefix(there).unwrap_or(Path::new(""));
            // Joining an empty path would add a separator.
            return if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) };
        }
    }
    whole
}

/// Whether the path exists and is a directory.
pub fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

/// Whether the path exists.
pub fn exists(path: &Path) -> bool {
    path.exists()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_rewritten_file_keeps_its_links_and_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("tsdbctl-rewrite-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let (file, link) = (dir.join("a"), dir.join("b"));
        std::fs::write(&file, b"old").unwrap();
        symlink("a", &link).unwrap();
        for mode in [0o640, 0o444, 0o755] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            rewrite(&crate::real::RealDisk, &link, b"new").unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        rewrite(&crate::real::RealDisk, &dir.join("c"), b"made").unwrap();
        assert_eq!(std::fs::read(dir.join("c")).unwrap(), b"made");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_cannot_be_looked_at_is_told_and_not_left_out() {
        let dir = std::env::temp_dir().join(format!("tsdbctl-file-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a"), b"xyz").unwrap();
        symlink("nowhere", dir.join("b")).unwrap();
        symlink("a", dir.join("c")).unwrap();
        let found = read_dir(&dir);
        // A link to itself cannot be followed, as a file behind a closed directory cannot be.
        symlink("d", dir.join("d")).unwrap();
        let error = read_dir(&dir).map_err(|e| e.path);
        std::fs::remove_dir_all(&dir).unwrap();
        let found: Vec<_> = found.unwrap().into_iter().map(|e| (e.name, e.size)).collect();
        assert_eq!(found, [("a".to_string(), 3), ("c".to_string(), 3)]);
        assert_eq!(error, Err(dir.join("d")));
    }
}
