//! Logs cut off by crashes at any point, mended, and gone on with: what was acknowledged is found, and nothing that was
//! not submitted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tsdbctl_platform::crash::{CrashImages, Image};
use tsdbctl_platform::recorder::{Recorder, Recording};

use crate::compression::Compression;
use crate::damage::Damage;
use crate::faulty::{BROKEN, Fault, FaultyDisk, NO_SPACE};
use crate::log_writer::{LogOptions, LogWriter, SyncPolicy};
use crate::mend::mend;
use crate::packed::PackedRecord;
use crate::page::PAGE_BYTES;
use crate::reader::SegmentReader;
use crate::record::RecordType;
use crate::segment::list_segments;

const BATCHES: u8 = 14;
/// Lengths of a batch's records: one in a page, and one that may take three.
const LENGTHS: [usize; 2] = [900, 9000];

fn batch(number: u8) -> Vec<PackedRecord> {
    let record = |(part, bytes): (usize, &usize)| {
        let mut bytes = vec![number | 0x80; *bytes];
        (bytes[0], bytes[1]) = (RecordType::Tombstones as u8, part as u8);
        PackedRecord { how: Compression::None, bytes }
    };
    LENGTHS.iter().enumerate().map(record).collect()
}

/// Batches whose records are all there, and all records, in their order; the log must be sound unless `damages` takes
/// what is not.
fn read(dir: &Path, mut damages: Option<&mut Vec<Damage>>) -> (Vec<u8>, Vec<(u8, u8)>) {
    let mut found: Vec<(u8, u8)> = Vec::new();
    let segments = list_segments(dir).unwrap();
    assert!(segments.windows(2).all(|s| s[0].index + 1 == s[1].index));
    for segment in segments {
        let bytes = std::fs::read(&segment.path).unwrap();
        let mut reader = SegmentReader::new(&bytes, 0);
        loop {
            let mut record = Vec::new();
            match (reader.next_into(&mut record), &mut damages) {
                (Ok(true), _) if RecordType::of(&record).is_none() => {}
                (Ok(true), _) => {
                    let number = record[2] & 0x7f;
                    assert!(record == batch(number)[usize::from(record[1])].bytes, "a record nobody wrote");
                    found.push((number, record[1]));
                }
                (Ok(false), _) => break,
                (Err(bad), Some(damages)) => {
                    damages.push(Damage {
                        file: segment.path.clone(),
                        offset: bad.offset,
                        reason: bad.reason,
                    });
                    reader.resync();
                }
                (Err(bad), None) => panic!("{}: {bad:?}", segment.path.display()),
            }
        }
    }
    let whole = (0..BATCHES).filter(|n| (0..LENGTHS.len() as u8).all(|part| found.contains(&(*n, part))));
    (whole.collect(), found)
}

/// Appends batches until all were tried; those that were acknowledged, a mark for each.
fn record(sync: SyncPolicy, disk: FaultyDisk) -> (Recording, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::new(Arc::new(disk), dir.path()).unwrap());
    let options = LogOptions { segment_bytes: 2 * PAGE_BYTES as u64, compression: Compression::None, sync };
    let wal = dir.path().join("wal");
    let log = loop {
        if let Ok(log) = LogWriter::open(recorder.clone(), &wal, options) {
            break log;
        }
    };
    let mut acked = Vec::new();
    let mut position = None;
    for number in 0..BATCHES {
        let appended = log.lock().append(&batch(number));
        if appended.is_err() {
            std::thread::sleep(Duration::from_millis(8));
        }
        if let Ok(end) = appended {
            position = Some((end, number));
        }
        // Some batches share a sync.
        if number % 3 != 1
            && let Some((end, number)) = position
            && log.wait(end).is_ok()
            && !acked.contains(&number)
            && appended.is_ok()
        {
            acked.push(number);
            recorder.mark("acked");
        }
    }
    // It may be waiting for its next attempt.
    while log.close().is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    (recorder.recording(), acked)
}

fn check(image: &Image, acked: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    image.write_to(dir.path()).unwrap();
    let wal = dir.path().join("wal");
    if !wal.is_dir() {
        assert_eq!(image.marks, 0);
        return;
    }
    let disk = FaultyDisk::new(|_, _, _| Fault::No);
    let quarantine = dir.path().join("quarantine");
    let mut damages = Vec::new();
    read(&wal, Some(&mut damages));
    let at = image.describe();
    mend(&disk, &wal, &quarantine, &damages).unwrap();
    let (whole, found) = read(&wal, None);
    for number in &acked[..image.marks] {
        assert!(whole.contains(number), "{at}: batch {number} is lost: {whole:?}");
    }
    assert!(found.windows(2).all(|w| w[0] < w[1]), "{at}: {found:?}");
    assert_eq!(mend(&disk, &wal, &quarantine, &damages).unwrap(), [], "{at}");
    let log = LogWriter::open(Arc::new(disk), &wal, LogOptions::default()).unwrap();
    log.lock().append(&batch(BATCHES)).unwrap();
    log.close().unwrap();
    let (_, after) = read(&wal, None);
    assert_eq!((&after[..found.len()], after.len()), (&found[..], found.len() + LENGTHS.len()), "{at}");
}

/// Every so many images of a recording are checked; how many there are.
fn check_images(recording: &Recording, acked: &[u8], every: usize) -> usize {
    let mut images = 0;
    for image in CrashImages::new(recording).all(7, 4) {
        if images % every == 0 {
            check(&image, acked);
        }
        images += 1;
    }
    images
}

#[test]
fn what_was_acknowledged_is_found_wherever_a_crash_cuts_the_log_off() {
    for sync in [SyncPolicy::Group, SyncPolicy::Always] {
        let (recording, acked) = record(sync, FaultyDisk::new(|_, _, _| Fault::No));
        assert!(acked.len() >= usize::from(BATCHES) * 2 / 3, "{acked:?}");
        let images = check_images(&recording, &acked, 4);
        assert!(images > 200, "{images}");
    }
}

#[test]
fn what_was_acknowledged_is_found_whichever_call_fails_before_the_crash() {
    for sync in [SyncPolicy::Group, SyncPolicy::Always] {
        for (kind, code) in [("sync", BROKEN), ("write", NO_SPACE), ("set_len", BROKEN), ("sync_dir", BROKEN)]
        {
            for first in (2..20).step_by(5) {
                // A length is only set after something else failed.
                let seen = [const { AtomicUsize::new(0) }; 2];
                let disk = FaultyDisk::new(move |call, _, _| {
                    let strikes = |call_of: usize, n: usize| {
                        (n..n + 2).contains(&seen[call_of].fetch_add(1, Ordering::Relaxed))
                    };
                    match call {
                        "write" if kind == "write" && seen[0].load(Ordering::Relaxed) == first => {
                            seen[0].fetch_add(1, Ordering::Relaxed);
                            Fault::Short(5000)
                        }
                        "sync" if kind == "set_len" && strikes(1, first) => Fault::Error(code),
                        "set_len" if kind == "set_len" && strikes(0, 0) => Fault::Error(code),
                        _ if call == kind && kind != "set_len" && strikes(0, first) => Fault::Error(code),
                        _ => Fault::No,
                    }
                });
                let (recording, acked) = record(sync, disk);
                check_images(&recording, &acked, 61);
            }
        }
    }
}
