//! A disk that records what is changed on it, for tests: the order of calls is asserted as text, and
//! [`crate::crash`] makes from it what a crash may leave.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Access, Disk, DiskFile, read_full_at};
use crate::file::{Entry, FileError};

/// Number of the recorded directory itself. Others are numbered as they are met.
pub const ROOT: u64 = 1;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the directory.
    pub dir: u64,
    /// The name in it.
    pub name: String,
}

/// One call that changes something, or a mark.
#[derive(Clone, Debug)]
pub struct Op {
    /// What was called.
    pub action: Action,
    /// Path from the recorded directory, as it was when the file was opened.
    pub path: String,
    /// Number of the file or directory; 0 if it failed to be made.
    pub inode: u64,
    /// What the system said if it refused; then nothing was done.
    pub error: Option<String>,
}

/// What was called.
#[derive(Clone, Debug)]
pub enum Action {
    /// A file was made.
    Create {
        /// Its name.
        at: Place,
    },
    /// An existing file was opened and emptied.
    Truncate,
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// What the system took, or, of a refused call, what was asked.
        bytes: Arc<[u8]>,
        /// How many were asked.
        asked: usize,
    },
    /// A file was cut or extended.
    SetLen {
        /// The new length.
        bytes: u64,
    },
    /// A file's content was synced.
    Sync {
        /// Number of ops there were when the call began: what came later is not covered.
        began: usize,
    },
    /// A directory's names were synced.
    SyncDir {
        /// Number of ops there were when the call began.
        began: usize,
    },
    /// A file or directory got another name.
    Rename {
        /// Its old name.
        from: Place,
        /// Its new name.
        to: Place,
        /// The path of the new name.
        to_path: String,
    },
    /// A file got a second name.
    Link {
        /// The new name.
        at: Place,
        /// The path of the new name.
        to_path: String,
    },
    /// A file lost a name.
    Remove {
        /// The name.
        at: Place,
    },
    /// A directory was made.
    CreateDir {
        /// Its name.
        at: Place,
    },
    /// A directory was removed.
    RemoveDir {
        /// Its name.
        at: Place,
    },
    /// The test's own remark, such as what was acknowledged.
    Mark(String),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "." } else { &self.path };
        match &self.action {
            Action::Create { .. } => write!(f, "create {path}")?,
            Action::Truncate => write!(f, "truncate {path}")?,
            Action::Write { offset, bytes, asked } => {
                write!(f, "write {path} {offset}+{}", bytes.len())?;
                if bytes.len() < *asked {
                    write!(f, " of {asked}")?;
                }
            }
            Action::SetLen { bytes } => write!(f, "length {path} {bytes}")?,
            Action::Sync { .. } => write!(f, "sync {path}")?,
            Action::SyncDir { .. } => write!(f, "syncdir {path}")?,
            Action::Rename { to_path, .. } => write!(f, "rename {path} {to_path}")?,
            Action::Link { to_path, .. } => write!(f, "link {path} {to_path}")?,
            Action::Remove { .. } => write!(f, "remove {path}")?,
            Action::CreateDir { .. } => write!(f, "mkdir {path}")?,
            Action::RemoveDir { .. } => write!(f, "rmdir {path}")?,
            Action::Mark(text) => write!(f, "mark {text}")?,
        }
        if self.error.is_some() { f.write_str(" failed") } else { Ok(()) }
    }
}

/// What was there before and what was done then.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Directories there were, by number: their names.
    pub dirs: BTreeMap<u64, BTreeMap<String, u64>>,
    /// Files there were, by number: their content.
    pub files: BTreeMap<u64, Arc<Vec<u8>>>,
    /// The calls, in order.
    pub ops: Vec<Op>,
}

impl Recording {
    /// The marks among the first `ops` calls.
    pub fn marks(&self, ops: usize) -> impl Iterator<Item = &str> {
        self.ops[..ops].iter().filter_map(|op| match &op.action {
            Action::Mark(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The calls as text, one a line.
    pub fn text(&self) -> String {
        self.ops.iter().map(|op| format!("{op}\n")).collect()
    }
}

/// A disk over another one that records every changing call below one directory. Changes elsewhere are refused.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<dyn Disk>,
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    recording: Recording,
    /// Numbers of what there is now, by path from the root.
    now: BTreeMap<PathBuf, u64>,
    next: u64,
}

#[derive(Debug)]
struct RecordedFile {
    inner: Arc<dyn DiskFile>,
    path: String,
    inode: u64,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn push<T>(&mut self, action: Action, path: &str, inode: u64, result: &Result<T, FileError>) {
        let error = result.as_ref().err().map(ToString::to_string);
        self.recording.ops.push(Op { action, path: path.to_owned(), inode, error });
    }

    fn new_inode(&mut self, path: &Path) -> u64 {
        let inode = self.next;
        self.next += 1;
        self.now.insert(path.to_owned(), inode);
        inode
    }

    fn inode(&self, path: &Path) -> u64 {
        self.now.get(path).copied().unwrap_or(0)
    }

    fn place(&self, path: &Path) -> Place {
        Place {
            dir: path.parent().map_or(0, |parent| self.inode(parent)),
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }

    fn index(&self) -> usize {
        self.recording.ops.len()
    }
}

impl Recorder {
    /// Records what is done below `root` through this disk. What is there now counts as durable; it is read into
    /// memory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(inner: Arc<dyn Disk>, root: &Path) -> Result<Self, FileError> {
        let mut state = State { recording: Recording::default(), now: BTreeMap::new(), next: ROOT + 1 };
        state.now.insert(PathBuf::new(), ROOT);
        let mut numbers = HashMap::new();
        scan(&*inner, root, Path::new(""), ROOT, &mut state, &mut numbers)?;
        Ok(Self { inner, root: root.to_owned(), state: Arc::new(Mutex::new(state)) })
    }

    /// Remarks something in the list of calls: with an acknowledgement in it, it says how far the list was then.
    pub fn mark(&self, text: impl Into<String>) {
        lock(&self.state).push(Action::Mark(text.into()), "", 0, &Ok(()));
    }

    /// The calls so far.
    pub fn ops(&self) -> Vec<Op> {
        lock(&self.state).recording.ops.clone()
    }

    /// What there was and the calls so far.
    pub fn recording(&self) -> Recording {
        lock(&self.state).recording.clone()
    }

    /// The calls so far as text, one a line.
    pub fn text(&self) -> String {
        lock(&self.state).recording.text()
    }

    /// The path from the root, as path and as text.
    fn below(&self, path: &Path) -> Result<(PathBuf, String), FileError> {
        let below = path.strip_prefix(&self.root).ok().map(|rest| rest.components().collect::<PathBuf>());
        match below {
            Some(rest) if rest.components().all(|c| matches!(c, Component::Normal(_))) => {
                let text = rest.to_string_lossy().into_owned();
                Ok((rest, text))
            }
            _ => Err(FileError::new("record", path, io::ErrorKind::InvalidInput.into())),
        }
    }

    /// A call that gives a path another meaning: done and recorded in one step.
    fn change(
        &self,
        path: &Path,
        call: impl FnOnce() -> Result<(), FileError>,
        action: impl FnOnce(&mut State, &Path, bool) -> (Action, u64),
    ) -> Result<(), FileError> {
        let (below, text) = self.below(path)?;
        let mut state = lock(&self.state);
        let result = call();
        let (action, inode) = action(&mut state, &below, result.is_ok());
        state.push(action, &text, inode, &result);
        result
    }
}

/// Numbers what is in a directory and reads it.
fn scan(
    disk: &dyn Disk,
    path: &Path,
    below: &Path,
    inode: u64,
    state: &mut State,
    numbers: &mut HashMap<(u64, u64), u64>,
) -> Result<(), FileError> {
    let mut names = BTreeMap::new();
    for entry in disk.read_dir(path)? {
        let below = below.join(&entry.name);
        let number = match identity(&entry.path).and_then(|id| numbers.get(&id)) {
            Some(number) if !entry.is_dir => *number,
            _ => state.next,
        };
        names.insert(entry.name, number);
        state.now.insert(below.clone(), number);
        if number < state.next {
            continue;
        }
        state.next += 1;
        if let Some(id) = identity(&entry.path) {
            numbers.insert(id, number);
        }
        if entry.is_dir {
            scan(disk, &entry.path, &below, number, state, numbers)?;
        } else {
            let file = disk.open(&entry.path, Access::Read)?;
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
            let read = read_full_at(&*file, &mut bytes, 0)?;
            bytes.truncate(read);
            state.recording.files.insert(number, Arc::new(bytes));
        }
    }
    state.recording.dirs.insert(inode, names);
    Ok(())
}

/// What two names of one file have in common.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

impl Disk for Recorder {
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, FileError> {
        let (below, text) = match self.below(path) {
            Ok(below) => below,
            Err(_) if access == Access::Read => return self.inner.open(path, access),
            Err(e) => return Err(e),
        };
        let mut state = lock(&self.state);
        let result = self.inner.open(path, access);
        let known = state.inode(&below);
        let inode = match access {
            Access::Truncate if known != 0 => {
                state.push(Action::Truncate, &text, known, &result);
                known
            }
            Access::CreateNew | Access::Truncate => {
                let at = state.place(&below);
                let inode = if result.is_ok() { state.new_inode(&below) } else { 0 };
                state.push(Action::Create { at }, &text, inode, &result);
                inode
            }
            Access::Read | Access::Write => known,
        };
        Ok(Arc::new(RecordedFile { inner: result?, path: text, inode, state: Arc::clone(&self.state) }))
    }

    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        self.change(
            path,
            || self.inner.create_dir(path),
            |state, below, done| {
                let inode = if done { state.new_inode(below) } else { 0 };
                (Action::CreateDir { at: state.place(below) }, inode)
            },
        )
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let (to_below, to_path) = self.below(to)?;
        self.change(
            from,
            || self.inner.rename(from, to),
            |state, below, done| {
                let inode = state.inode(below);
                let from = state.place(below);
                // Of two names of one file the system lets both be.
                let same = state.inode(&to_below) == inode;
                let to = if same { from.clone() } else { state.place(&to_below) };
                let action = Action::Rename { from, to, to_path };
                if done && !same {
                    let moved: Vec<_> = state
                        .now
                        .iter()
                        .filter(|(p, _)| p.starts_with(below))
                        .map(|(p, i)| (p.clone(), *i))
                        .collect();
                    for (path, inode) in moved {
                        state.now.remove(&path);
                        let rest = path.strip_prefix(below).unwrap_or(Path::new(""));
                        // Joining nothing would add a slash.
                        let new = if rest == Path::new("") { to_below.clone() } else { to_below.join(rest) };
                        state.now.insert(new, inode);
                    }
                }
                (action, inode)
            },
        )
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let (to_below, to_path) = self.below(to)?;
        self.change(
            from,
            || self.inner.link(from, to),
            |state, below, done| {
                let inode = state.inode(below);
                if done {
                    state.now.insert(to_below.clone(), inode);
                }
                (Action::Link { at: state.place(&to_below), to_path }, inode)
            },
        )
    }

    fn remove_file(&self, path: &Path) -> Result<(), FileError> {
        self.change(
            path,
            || self.inner.remove_file(path),
            |state, below, done| {
                let inode = state.inode(below);
                if done {
                    state.now.remove(below);
                }
                (Action::Remove { at: state.place(below) }, inode)
            },
        )
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
        self.change(
            path,
            || self.inner.remove_dir(path),
            |state, below, done| {
                let inode = state.inode(below);
                if done {
                    state.now.remove(below);
                }
                (Action::RemoveDir { at: state.place(below) }, inode)
            },
        )
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        let (below, text) = self.below(path)?;
        let (began, inode) = {
            let state = lock(&self.state);
            (state.index(), state.inode(&below))
        };
        let result = self.inner.sync_dir(path);
        lock(&self.state).push(Action::SyncDir { began }, &text, inode, &result);
        result
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        self.inner.read_dir(path)
    }

    fn free_space(&self, path: &Path) -> Result<u64, FileError> {
        self.inner.free_space(path)
    }

    fn total_space(&self, path: &Path) -> Result<u64, FileError> {
        self.inner.total_space(path)
    }
}

impl DiskFile for RecordedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, FileError> {
        self.inner.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, FileError> {
        let mut state = lock(&self.state);
        let result = self.inner.write_at(bytes, offset);
        let taken = *result.as_ref().unwrap_or(&bytes.len());
        let action = Action::Write { offset, bytes: bytes[..taken].into(), asked: bytes.len() };
        state.push(action, &self.path, self.inode, &result);
        result
    }

    fn sync_data(&self) -> Result<(), FileError> {
        // Not under the lock: others may write while one syncs.
        let began = lock(&self.state).index();
        let result = self.inner.sync_data();
        lock(&self.state).push(Action::Sync { began }, &self.path, self.inode, &result);
        result
    }

    fn set_len(&self, bytes: u64) -> Result<(), FileError> {
        let mut state = lock(&self.state);
        let result = self.inner.set_len(bytes);
        state.push(Action::SetLen { bytes }, &self.path, self.inode, &result);
        result
    }

    fn len(&self) -> Result<u64, FileError> {
        self.inner.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{create_dir_all, remove_all, write_all_at};
    use crate::real::RealDisk;

    #[test]
    fn what_is_changed_is_told_in_order() {
        let root = std::env::temp_dir().join(format!("tsdbctl-recorder-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("old"), b"was here").unwrap();
        std::fs::hard_link(root.join("old"), root.join("twin")).unwrap();
        let disk = Recorder::new(Arc::new(RealDisk), &root).unwrap();
        create_dir_all(&disk, &root.join("wal/deep")).unwrap();
        let file = disk.open(&root.join("wal/0"), Access::CreateNew).unwrap();
        assert!(disk.open(&root.join("wal/0"), Access::CreateNew).is_err());
        write_all_at(&*file, b"0123456789", 0).unwrap();
        file.sync_data().unwrap();
        disk.mark("acked 10");
        disk.sync_dir(&root.join("wal")).unwrap();
        disk.rename(&root.join("wal"), &root.join("log")).unwrap();
        file.set_len(3).unwrap();
        let same = disk.open(&root.join("log/0"), Access::Write).unwrap();
        same.write_at(b"x", 3).unwrap();
        disk.link(&root.join("log/0"), &root.join("copy")).unwrap();
        disk.open(&root.join("old"), Access::Truncate).unwrap();
        disk.open(&root.join("./log/deep/1"), Access::Truncate).unwrap();
        disk.open(&root.join("old"), Access::Read).unwrap().write_at(b"no", 0).unwrap_err();
        remove_all(&disk, &root.join("log")).unwrap();
        disk.sync_dir(&root).unwrap();
        for outside in [root.join("../x"), "/nowhere/x".into()] {
            assert!(disk.open(&outside, Access::Truncate).is_err());
        }
        let recording = disk.recording();
        let mut lines: Vec<_> = recording.ops.iter().map(|op| format!("{op} #{}", op.inode)).collect();
        for line in &mut lines {
            line.truncate(line.trim_end_matches("#0").trim_end().len());
        }
        let (old, wal, deep, zero) = (2, 3, 4, 5);
        let expected = [
            format!("mkdir wal #{wal}"),
            "syncdir . #1".into(),
            format!("mkdir wal/deep #{deep}"),
            format!("syncdir wal #{wal}"),
            format!("create wal/0 #{zero}"),
            "create wal/0 failed".into(),
            format!("write wal/0 0+10 #{zero}"),
            format!("sync wal/0 #{zero}"),
            "mark acked 10".into(),
            format!("syncdir wal #{wal}"),
            format!("rename wal log #{wal}"),
            format!("length wal/0 3 #{zero}"),
            format!("write log/0 3+1 #{zero}"),
            format!("link log/0 copy #{zero}"),
            format!("truncate old #{old}"),
            "create log/deep/1 #6".into(),
            format!("write old 0+2 failed #{old}"),
            format!("remove log/0 #{zero}"),
            "remove log/deep/1 #6".into(),
            format!("rmdir log/deep #{deep}"),
            format!("rmdir log #{wal}"),
            "syncdir . #1".into(),
        ];
        assert_eq!(lines, expected);
        assert_eq!(recording.marks(8).count(), 0);
        assert_eq!(recording.marks(9).collect::<Vec<_>>(), ["acked 10"]);
        assert_eq!(*recording.files[&old], b"was here");
        assert_eq!(recording.dirs[&ROOT], BTreeMap::from([("old".into(), old), ("twin".into(), old)]));
        assert_eq!(std::fs::read(root.join("copy")).unwrap(), b"012x");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
