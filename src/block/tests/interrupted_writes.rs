//! Blocks whose writing was cut off by a crash, or met a disk that fails: there is the whole block or none.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_block::block_writer::TEMPORARY_SUFFIX;
use tsdbctl_block::{Block, BlockMeta, Interval, Tombstones, WriterOptions, write_block};
use tsdbctl_model::labels::Labels;
use tsdbctl_platform::crash::{CrashImages, Image};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_storage::chunk_source::{EncodedChunk, LiteralSource};
use tsdbctl_storage::{ChunkBatch, Control, StorageError};
use tsdbctl_testkit as testkit;

const ULID: &str = "01BZJ9WJQPWHGNC2W4J9TA62KC";

/// Three chunk files, two of them written in parts.
const OPTIONS: WriterOptions = WriterOptions { segment_bytes: 30_000, memory_bytes: 0 };

fn source() -> LiteralSource {
    let series = (0..40)
        .map(|n| {
            let labels = Labels::from_pairs([("__name__", "m".to_string()), ("n", n.to_string())]);
            let mut chunks = ChunkBatch::default();
            for t in [0, 10] {
                let data = [&[0, 1, 0][..], &[n as u8 + 1; 950]].concat();
                chunks.push(EncodedChunk { encoding: 1, data: &data, mint: t, maxt: t + 5 });
            }
            (labels, chunks)
        })
        .collect();
    LiteralSource::new(series)
}

fn write(disk: Arc<dyn Disk>, parent: &Path) -> Result<Option<BlockMeta>, StorageError> {
    let meta = BlockMeta::new(ULID.to_string(), 0, 20);
    write_block(disk, parent, &mut source(), meta, OPTIONS, &Control::default())
}

/// All files below a directory by their paths.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What the block is when nothing happens.
fn expected() -> BTreeMap<PathBuf, Vec<u8>> {
    let dir = testkit::scratch_in_memory();
    write(Arc::new(RealDisk), dir.path()).unwrap().unwrap();
    Block::open(&dir.path().join(ULID)).unwrap();
    let files = files(&dir.path().join(ULID));
    let names: Vec<_> = files.keys().map(|p| p.to_str().unwrap()).collect();
    let want = ["chunks/000001", "chunks/000002", "chunks/000003", "index", "meta.json", "tombstones"];
    assert_eq!(names, want);
    files
}

#[test]
fn a_crash_at_any_call_leaves_a_whole_block_or_none() {
    let want = expected();
    let dir = testkit::scratch_in_memory();
    let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
    write(recorder.clone(), &dir.path().join("db")).unwrap().unwrap();
    recorder.mark("written");
    let recording = recorder.recording();
    let (mut images, mut whole) = (0, 0);
    for image in CrashImages::new(&recording).all(7, 20) {
        images += 1;
        whole += usize::from(check(&image, &want));
    }
    assert!(whole > 0 && images > 300, "{whole} of {images}");
}

/// Whether the block is there.
fn check(image: &Image, want: &BTreeMap<PathBuf, Vec<u8>>) -> bool {
    let at = image.describe();
    let block = Path::new("db").join(ULID);
    let there = image.paths().any(|p| p == block);
    for path in image.paths() {
        let Some(name) = path.components().nth(1) else { continue };
        let name = name.as_os_str().to_str().unwrap();
        assert!(name == ULID || name == format!("{ULID}{TEMPORARY_SUFFIX}"), "{at}: {name}");
    }
    if there {
        for (path, bytes) in want {
            assert!(image.file(block.join(path)) == Some(bytes), "{at}: {}", path.display());
        }
        let files = image.paths().filter(|p| p.starts_with(&block) && image.file(p).is_some());
        assert_eq!(files.count(), want.len(), "{at}");
    }
    assert!(there || image.marks == 0, "{at}: the block is lost");
    there
}

/// What a failed write left: nothing, or if a disk that goes on failing lets it be so, what is no block by its name.
fn check_after_failure(parent: &Path, want: &BTreeMap<PathBuf, Vec<u8>>, gone: bool, at: &str) {
    for entry in std::fs::read_dir(parent).into_iter().flatten() {
        let entry = entry.unwrap();
        assert!(!gone, "{at}: {:?} stays", entry.file_name());
        if entry.file_name() == ULID {
            assert!(&files(&entry.path()) == want, "{at}: half a block");
        }
    }
}

#[test]
fn a_failing_disk_gives_an_error_and_no_half_block() {
    let want = expected();
    let faulty = Faulty::new(Arc::new(RealDisk));
    let dir = testkit::scratch_in_memory();
    write(Arc::new(faulty.clone()), &dir.path().join("db")).unwrap();
    let calls = faulty.calls();
    assert!(calls > 25, "{calls}");
    for n in 1..=calls {
        for for_good in [false, true] {
            let at = format!("call {n}, for good: {for_good}");
            let dir = testkit::scratch_in_memory();
            let parent = dir.path().join("db");
            let faulty = Faulty::new(Arc::new(RealDisk));
            if for_good {
                faulty.fail_from(Kind::Any, n)
            } else {
                faulty.fail_once(Kind::Any, n)
            }
            write(Arc::new(faulty.clone()), &parent).unwrap_err();
            assert!(faulty.struck() > 0, "{at}");
            check_after_failure(&parent, &want, !for_good, &at);
            faulty.heal();
            // Where the rename could not be taken back the block is there, and its name is taken.
            if !parent.join(ULID).exists() {
                write(Arc::new(faulty), &parent).unwrap().unwrap();
            }
            assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 1, "{at}");
            assert!(files(&parent.join(ULID)) == want, "{at}");
        }
    }
}

/// The disk fails, and then the power: what is taken back must not have been half visible.
#[test]
fn a_crash_after_a_failed_call_leaves_a_whole_block_or_none() {
    let want = expected();
    for (kind, calls) in [(Kind::Sync, 6), (Kind::SyncDir, 4), (Kind::Rename, 1), (Kind::Any, 29)] {
        for n in 1..=calls {
            let dir = testkit::scratch_in_memory();
            let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
            let faulty = Faulty::new(recorder.clone());
            faulty.fail_once(kind, n);
            write(Arc::new(faulty.clone()), &dir.path().join("db")).unwrap_err();
            assert!(faulty.struck() > 0, "{kind:?} {n}");
            let recording = recorder.recording();
            let from = recording.ops.len().saturating_sub(if kind == Kind::Any { 12 } else { 1000 });
            for moment in CrashImages::new(&recording).moments().filter(|m| m.ops() >= from) {
                for image in moment.variants(7, 4) {
                    check(&image, &want);
                }
            }
        }
    }
}

#[test]
fn a_full_disk_gives_an_error_and_leaves_nothing() {
    let want = expected();
    let total: usize = want.values().map(Vec::len).sum();
    // Some bytes are written twice, as they are filled in later.
    for room in (0..total + 12).step_by(97).chain([total - 1, total]) {
        let dir = testkit::scratch_in_memory();
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.fill_after(room as u64);
        let at = format!("room for {room} of {total} bytes");
        match write(Arc::new(faulty), dir.path()) {
            Ok(_) => assert!(room >= total && files(&dir.path().join(ULID)) == want, "{at}"),
            Err(_) => check_after_failure(dir.path(), &want, true, &at),
        }
    }
}

#[test]
fn short_writes_are_continued() {
    let want = expected();
    for n in 1..8 {
        let dir = testkit::scratch_in_memory();
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.short_write(n, 2);
        // The write behind a short one fails, which is the reason for its being short.
        write(Arc::new(faulty.clone()), dir.path()).unwrap_err();
        check_after_failure(dir.path(), &want, true, "short");
        assert!(faulty.struck() > 0);
    }
}

#[test]
fn replaced_tombstones_are_the_old_or_the_new_ones() {
    let dir = testkit::scratch_in_memory();
    let (old, new) = ([(1, 0, 10)], [(1, 0, 10), (2, -5, 5), (700, 3, 3)]);
    let of = |list: &[(u64, i64, i64)]| {
        let mut t = Tombstones::default();
        for (series, mint, maxt) in list {
            t.insert(*series, Interval { mint: *mint, maxt: *maxt });
        }
        t
    };
    of(&old).write_new(&RealDisk, dir.path()).unwrap();
    let recorder = Recorder::new(Arc::new(RealDisk), dir.path()).unwrap();
    of(&new).replace(&recorder, dir.path()).unwrap();
    recorder.mark("written");
    let recording = recorder.recording();
    let mut seen = [0, 0];
    for image in CrashImages::new(&recording).all(7, 20) {
        let is_new = image.file("tombstones") == Some(&of(&new).to_bytes());
        assert!(is_new || image.marks == 0 && image.file("tombstones") == Some(&of(&old).to_bytes()));
        seen[usize::from(is_new)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0);
}
