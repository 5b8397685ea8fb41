//! Writers that are wrong in known ways are caught by the images of crashes, right ones are not: the model of the disk
//! is worth what it catches.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tsdbctl_platform::crash::{CrashImages, Image};
use tsdbctl_platform::disk::{Access, Disk, write_all_at};
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::file::{FileError, move_to, replace};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::{Recorder, Recording};

type Done = Result<(), FileError>;

/// A new directory, removed when dropped.
struct Temp(PathBuf);

impl Temp {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tsdbctl-writers-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Content of version `n` of the state file: longer than a sector, and of no length twice.
fn version(n: usize) -> Vec<u8> {
    format!("version {n}\n").repeat(100 + n).into_bytes()
}

/// Lets a writer put versions 1 to 4 over version 0, acknowledging each that it calls done.
fn record_versions(write: impl Fn(&dyn Disk, &Path, &[u8]) -> Done) -> Recording {
    let dir = Temp::new();
    std::fs::write(dir.0.join("state"), version(0)).unwrap();
    let disk = Recorder::new(Arc::new(RealDisk), &dir.0).unwrap();
    for n in 1..5 {
        write(&disk, &dir.0.join("state"), &version(n)).unwrap();
        disk.mark("acked");
    }
    disk.recording()
}

/// The first image whose state is neither the last acknowledged version nor a later one.
fn lost_version(recording: &Recording) -> Option<String> {
    let wrong = |image: &Image| {
        let found = image.file("state").and_then(|bytes| (0..5).find(|n| version(*n) == bytes));
        found.is_none_or(|found| found < image.marks)
    };
    CrashImages::new(recording).all(1, 50).find(wrong).map(|image| image.describe())
}

fn make(disk: &dyn Disk, path: &Path, bytes: &[u8], sync: bool) -> Done {
    let file = disk.open(path, Access::Truncate)?;
    write_all_at(&*file, bytes, 0)?;
    if sync { file.sync_data() } else { Ok(()) }
}

#[test]
fn a_state_file_is_whole_and_never_older_than_acknowledged() {
    let recording = record_versions(replace);
    assert_eq!(lost_version(&recording), None);
    let first: Vec<_> = recording.text().lines().take(6).map(str::to_owned).collect();
    let expected = [
        "create state.tmp",
        "write state.tmp 0+1010",
        "sync state.tmp",
        "rename state.tmp state",
        "syncdir .",
        "mark acked",
    ];
    assert_eq!(first, expected);
    let images = CrashImages::new(&recording).all(1, 50).count();
    assert!(images > 80, "{images}");
}

#[test]
fn wrong_replacements_are_caught() {
    let tmp = |path: &Path| path.with_extension("tmp");
    let dir = |path: &Path| path.parent().unwrap().to_owned();
    let rename_before_sync = lost_version(&record_versions(|disk, path, bytes| {
        make(disk, &tmp(path), bytes, false)?;
        disk.rename(&tmp(path), path)?;
        disk.open(path, Access::Write)?.sync_data()?;
        disk.sync_dir(&dir(path))
    }));
    let never_synced = lost_version(&record_versions(|disk, path, bytes| {
        make(disk, &tmp(path), bytes, false)?;
        disk.rename(&tmp(path), path)?;
        disk.sync_dir(&dir(path))
    }));
    let no_dir_sync = lost_version(&record_versions(|disk, path, bytes| {
        make(disk, &tmp(path), bytes, true)?;
        disk.rename(&tmp(path), path)
    }));
    let dir_before_rename = lost_version(&record_versions(|disk, path, bytes| {
        make(disk, &tmp(path), bytes, true)?;
        disk.sync_dir(&dir(path))?;
        disk.rename(&tmp(path), path)
    }));
    let in_place = lost_version(&record_versions(|disk, path, bytes| {
        make(disk, path, bytes, true)?;
        disk.sync_dir(&dir(path))
    }));
    let removed_first = lost_version(&record_versions(|disk, path, bytes| {
        make(disk, &tmp(path), bytes, true)?;
        disk.remove_file(path)?;
        disk.rename(&tmp(path), path)?;
        disk.sync_dir(&dir(path))
    }));
    for (name, caught) in [
        ("rename before sync", rename_before_sync),
        ("never synced", never_synced),
        ("no dir sync", no_dir_sync),
        ("dir sync before rename", dir_before_rename),
        ("in place", in_place),
        ("removed first", removed_first),
    ] {
        assert!(caught.is_some(), "{name} was not caught");
    }
}

/// How a writer of a log errs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    AckBeforeSync,
    NoDirSync,
    /// A failed sync is tried again and believed.
    SyncTriedAgain,
    /// After a short write the next record is written behind what was taken.
    BehindTheTorn,
}

const RECORDS: u8 = 6;
const RECORDS_PER_FILE: u8 = 3;
/// Longer than a sector.
const RECORD_BYTES: usize = 700;

fn record(n: u8) -> Vec<u8> {
    vec![n + 1; RECORD_BYTES]
}

/// Records appended to files of three, each acknowledged after it was synced. After a failure the file is left as it is
/// and a new one begun, with all that is not acknowledged.
fn append_records(disk: &Recorder, dir: &Path, mistake: Mistake) {
    let (mut number, mut n) = (0, 0);
    while n < RECORDS {
        let until = (n / RECORDS_PER_FILE + 1) * RECORDS_PER_FILE;
        let result = (|| {
            let file = disk.open(&dir.join(format!("log.{number}")), Access::CreateNew)?;
            if mistake != Mistake::NoDirSync {
                disk.sync_dir(dir)?;
            }
            let mut offset = 0;
            while n < until {
                let bytes = record(n);
                if mistake == Mistake::BehindTheTorn {
                    while write_all_at(&*file, &bytes, offset).is_err() {
                        offset = file.len()?;
                    }
                } else {
                    write_all_at(&*file, &bytes, offset)?;
                }
                offset += bytes.len() as u64;
                if mistake == Mistake::AckBeforeSync {
                    disk.mark("acked");
                }
                let synced = file.sync_data();
                if synced.is_err() && mistake == Mistake::SyncTriedAgain {
                    file.sync_data()?;
                } else {
                    synced?;
                }
                if mistake != Mistake::AckBeforeSync {
                    disk.mark("acked");
                }
                n += 1;
            }
            Ok::<(), FileError>(())
        })();
        number += 1;
        if let Err(e) = result {
            assert!(number < 100, "{e}");
        }
    }
}

/// Records that a reader finds, who stops in each file at the first that is not whole.
fn read_records(image: &Image) -> Vec<u8> {
    let mut paths: Vec<_> = image.paths().filter(|path| path.to_string_lossy().starts_with("log.")).collect();
    paths.sort_by_key(|path| path.extension().and_then(|n| n.to_str()?.parse::<u32>().ok()));
    let mut found = Vec::new();
    for path in paths {
        for bytes in image.file(path).unwrap().chunks(RECORD_BYTES) {
            match bytes[0].checked_sub(1) {
                Some(n) if record(n) == bytes => found.push(n),
                _ => break,
            }
        }
    }
    found.dedup();
    found
}

/// The first image that misses an acknowledged record; a record found twice in a row counts once.
fn lost_record(mistake: Mistake, faults: impl Fn(&Faulty)) -> (u64, Option<String>) {
    let dir = Temp::new();
    let faulty = Faulty::new(Arc::new(RealDisk));
    let disk = Recorder::new(Arc::new(faulty.clone()), &dir.0).unwrap();
    faults(&faulty);
    append_records(&disk, &dir.0, mistake);
    let recording = disk.recording();
    let wrong = |image: &Image| {
        let found = read_records(image);
        (0..image.marks as u8).any(|n| !found.contains(&n))
    };
    let lost = CrashImages::new(&recording).all(2, 10).find(wrong).map(|image| image.describe());
    (faulty.calls(), lost)
}

#[test]
fn a_log_loses_nothing_whatever_call_fails() {
    let (calls, lost) = lost_record(Mistake::None, |_| {});
    assert_eq!((calls, lost), (16, None));
    for n in 1..=calls {
        assert_eq!(
            lost_record(Mistake::None, |faulty| faulty.fail_once(Kind::Any, n)).1,
            None,
            "call {n} failed"
        );
    }
    for n in 1..=u64::from(RECORDS) {
        for bytes in [1, 188, 189, 700] {
            let lost = lost_record(Mistake::None, |faulty| faulty.short_write(n, bytes)).1;
            assert_eq!(lost, None, "write {n} was short by {bytes}");
        }
    }
}

#[test]
fn wrong_logs_are_caught() {
    for mistake in [Mistake::AckBeforeSync, Mistake::NoDirSync] {
        assert!(lost_record(mistake, |_| {}).1.is_some(), "{mistake:?} was not caught");
    }
    for n in 1..=u64::from(RECORDS) {
        let lost = lost_record(Mistake::SyncTriedAgain, |faulty| faulty.fail_once(Kind::Sync, n)).1;
        assert!(lost.is_some(), "the failed sync {n} was not caught");
    }
    assert_eq!(lost_record(Mistake::SyncTriedAgain, |_| {}).1, None);
    assert_eq!(lost_record(Mistake::BehindTheTorn, |_| {}).1, None);
    assert!(lost_record(Mistake::BehindTheTorn, |faulty| faulty.short_write(2, 300)).1.is_some());
}

#[test]
fn a_replacement_that_fails_leaves_what_was_there_and_no_other_file() {
    for n in 1..=6 {
        let dir = Temp::new();
        let path = dir.0.join("state");
        std::fs::write(&path, b"old").unwrap();
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.fail_once(Kind::Any, n);
        let result = replace(&faulty, &path, b"new");
        let names: Vec<_> = faulty.read_dir(&dir.0).unwrap().into_iter().map(|entry| entry.name).collect();
        let content = std::fs::read(&path).unwrap();
        // When the directory's sync fails the new one is there, but it may not stay.
        let expected: (bool, &[u8]) = (n == 6, if n < 5 { b"old" } else { b"new" });
        assert_eq!((result.is_ok(), content.as_slice()), expected, "call {n}");
        assert_eq!(names, ["state"], "call {n}");
    }
}

#[test]
fn a_file_that_is_moved_is_at_one_of_two_places() {
    let dir = Temp::new();
    for sub in ["a", "b"] {
        std::fs::create_dir(dir.0.join(sub)).unwrap();
    }
    std::fs::write(dir.0.join("a/x"), b"content").unwrap();
    let disk = Recorder::new(Arc::new(RealDisk), &dir.0).unwrap();
    move_to(&disk, &dir.0.join("a/x"), &dir.0.join("b/y")).unwrap();
    disk.mark("done");
    assert_eq!(disk.text(), "rename a/x b/y\nsyncdir b\nsyncdir a\nmark done\n");
    let recording = disk.recording();
    for image in CrashImages::new(&recording).all(3, 20) {
        let at = (image.file("a/x"), image.file("b/y"));
        let moved = (None, Some(&b"content"[..]));
        let ok = at == moved || (image.marks == 0 && at == (moved.1, None));
        assert!(ok, "{}", image.describe());
    }
}
