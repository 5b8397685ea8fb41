//! Test support: where the shared test data lies, and how to get at what is packed in it.
//!
//! The data is read in place, beside the workspace. Where it is absent, these functions print that the test is
//! skipped and return `None`, so a test begins with `let Some(dir) = unpack("data/NAME.tar.zst") else { return };`.

#![allow(clippy::disallowed_methods, reason = "it serves tests, not the product")]

pub mod peer;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub use tempfile::TempDir;

/// A fresh empty scratch directory, removed when dropped.
///
/// # Panics
/// If the system has no place for one.
pub fn scratch() -> TempDir {
    TempDir::with_prefix("tsdbctl-").expect("a scratch directory")
}

/// As [`scratch`], in memory where the system has such a place: for tests that make many files.
///
/// # Panics
/// If the system has no place for one.
pub fn scratch_in_memory() -> TempDir {
    TempDir::with_prefix_in("tsdbctl-", "/dev/shm").unwrap_or_else(|_| scratch())
}

/// The path of a shared file or directory, such as `data/golden-3.14.jsonl` or `conformance/promqltest`.
/// `None`, with a message, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    let found = full.canonicalize().ok();
    if found.is_none() {
        skipped(path);
    }
    found
}

#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
fn skipped(path: &str) {
    eprintln!("skipped: ../shared/{path} is absent");
}

/// Unpacks a shared `.tar.zst`, such as `data/prometheus-3.14-crashed.tar.zst`, into a scratch directory that
/// is removed when dropped.
///
/// # Panics
/// If the archive is damaged or the scratch directory cannot be written.
pub fn unpack(archive: &str) -> Option<TempDir> {
    let reader = open_zst(&shared(archive)?);
    let dir = scratch();
    tar::Archive::new(reader).unpack(dir.path()).unwrap_or_else(|e| panic!("{archive}: {e}"));
    Some(dir)
}

/// Unpacks a shared `.tar.zst` whose content is one directory; the second value is that directory.
///
/// # Panics
/// As [`unpack`], and if there is not exactly one directory at the top.
pub fn unpack_directory(archive: &str) -> Option<(TempDir, PathBuf)> {
    let dir = unpack(archive)?;
    let entries = std::fs::read_dir(dir.path()).expect("the scratch directory lists");
    let tops: Vec<PathBuf> = entries.map(|e| e.expect("the scratch directory lists").path()).collect();
    let [top] = tops.as_slice() else { panic!("{archive}: {} entries at the top, not one", tops.len()) };
    let top = top.clone();
    Some((dir, top))
}

/// The text of a shared file; `.zst` is decompressed.
///
/// # Panics
/// If the file is damaged or not UTF-8.
pub fn read_text(path: &str) -> Option<String> {
    let full = shared(path)?;
    let mut text = String::new();
    let read = if path.ends_with(".zst") {
        open_zst(&full).read_to_string(&mut text)
    } else {
        open(&full).read_to_string(&mut text)
    };
    read.unwrap_or_else(|e| panic!("{path}: {e}"));
    Some(text)
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn open_zst(path: &Path) -> zstd::Decoder<'static, BufReader<File>> {
    zstd::Decoder::new(open(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_unpack_and_vanish() {
        let Some((dir, top)) = unpack_directory("data/prometheus-3.14-crashed.tar.zst") else { return };
        assert!(top.join("wal").is_dir());
        let path = dir.path().to_path_buf();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn packed_texts_are_read_whole() {
        let Some(text) = read_text("data/pushgateway-1.11.jsonl.zst") else { return };
        assert_eq!(text.lines().count(), 248);
    }

    #[test]
    fn what_is_absent_is_none() {
        assert!(shared("no/such/file").is_none());
        assert!(unpack("no/such/file.tar.zst").is_none());
    }
}
