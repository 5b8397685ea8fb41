//! A growing log against threads, limits and disks that fail.

use std::sync::atomic::AtomicBool;

use tsdbctl_platform::real::RealDisk;

use super::*;
use crate::faulty::{BROKEN, Fault, FaultyDisk, NO_SPACE};
use crate::packed::RecordPacker;
use crate::reader::SegmentReader;
use crate::writer::PageWriter;

fn open(dir: &Path, options: LogOptions) -> Arc<LogWriter> {
    LogWriter::open(Arc::new(RealDisk), dir, options).unwrap()
}

fn record(i: usize) -> Vec<u8> {
    (0..(i * 7919) % 9000).map(|j| (j / 3 + i) as u8).collect()
}

fn records_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = SegmentReader::new(&bytes, 0);
    let mut found = Vec::new();
    loop {
        let mut record = Vec::new();
        if !reader.next_into(&mut record).unwrap() {
            return found;
        }
        found.push(record);
    }
}

fn records_in(dir: &Path) -> Vec<Vec<u8>> {
    let segments = crate::segment::list_segments(dir).unwrap();
    segments.iter().flat_map(|s| records_of(&s.path)).collect()
}

#[test]
fn the_bytes_are_those_of_the_page_writer() {
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), LogOptions { compression, ..LogOptions::default() });
        let mut packer = RecordPacker::new(compression);
        let mut pages = PageWriter::new(compression, 0);
        for i in 0..200 {
            let mut batch: Vec<_> = (0..i % 4).map(|j| packer.pack(&record(i + j))).collect();
            (0..i % 4).for_each(|j| pages.append(&record(i + j)));
            let position = log.lock().append(&batch).unwrap();
            packer.recycle(&mut batch);
            if i % 20 == 0 {
                log.wait(position).unwrap();
                assert!(log.durable() >= position);
            }
        }
        pages.pad();
        let expected = pages.take();
        assert_eq!(log.close().unwrap(), (expected.len() as u64, 0));
        assert!(std::fs::read(dir.path().join("00000000")).unwrap() == expected);
        assert!(log.lock().append(&[packer.pack(b"x")]).is_err());
    }
}

#[test]
fn appenders_share_a_log_and_segments_are_cut_between_batches() {
    for sync in [
        SyncPolicy::Group,
        SyncPolicy::Always,
        SyncPolicy::Interval(Duration::from_millis(3)),
        SyncPolicy::Os,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(
            dir.path(),
            LogOptions { segment_bytes: 4 * PAGE_BYTES as u64, sync, ..LogOptions::default() },
        );
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let log = &log;
                scope.spawn(move || {
                    let mut packer = RecordPacker::new(Compression::Snappy);
                    for i in 0..60usize {
                        let batch: Vec<_> = (0..3u8)
                            .map(|part| {
                                let noise =
                                    (0..1000).map(|j: usize| (j * j * 31 + i * 7) as u8 ^ (j >> 3) as u8);
                                let bytes: Vec<u8> =
                                    [thread, i as u8, part].into_iter().chain(noise).collect();
                                packer.pack(&bytes)
                            })
                            .collect();
                        let position = log.lock().append(&batch).unwrap();
                        if i % 8 == 0 {
                            log.wait(position).unwrap();
                        }
                    }
                });
            }
        });
        let (end, last) = log.close().unwrap();
        assert!(last >= 2 && end % PAGE_BYTES as u64 == 0, "{sync:?}: {last} {end}");
        let segments = crate::segment::list_segments(dir.path()).unwrap();
        for s in &segments {
            assert!(s.size <= 4 * PAGE_BYTES as u64 && s.size % PAGE_BYTES as u64 == 0);
        }
        let found = records_in(dir.path());
        assert_eq!(found.len(), 4 * 60 * 3);
        for batch in found.chunks(3) {
            assert!(batch.iter().enumerate().all(|(part, r)| r[..2] == batch[0][..2] && r[2] == part as u8));
        }
        for thread in 0..4 {
            let order: Vec<u8> = found.iter().filter(|r| r[0] == thread).step_by(3).map(|r| r[1]).collect();
            assert_eq!(order, (0..60).collect::<Vec<u8>>());
        }
    }
}

fn raw(n: usize) -> PackedRecord {
    PackedRecord { how: Compression::None, bytes: vec![n as u8; 500] }
}

fn numbers(dir: &Path) -> Vec<u8> {
    let found = records_in(dir);
    assert!(found.iter().all(|r| r.len() == 500 && r.iter().all(|b| *b == r[0])));
    found.iter().map(|r| r[0]).collect()
}

fn open_faulty(dir: &Path, sync: SyncPolicy, disk: &FaultyDisk) -> Arc<LogWriter> {
    let options = LogOptions { segment_bytes: 4 * PAGE_BYTES as u64, compression: Compression::None, sync };
    LogWriter::open(Arc::new(disk.clone()), dir, options).unwrap()
}

/// Which sync fails, and how many in a row.
fn failing_syncs(first: usize, count: usize) -> FaultyDisk {
    let seen = AtomicU64::new(0);
    FaultyDisk::new(move |call, _, _| {
        if call != "sync" {
            return Fault::No;
        }
        let n = seen.fetch_add(1, Ordering::Relaxed) as usize;
        if (first..first + count).contains(&n) { Fault::Error(BROKEN) } else { Fault::No }
    })
}

#[test]
fn what_a_failed_sync_lost_is_written_again_and_its_waiters_are_told() {
    for first in 0..6 {
        for count in 1..4 {
            let dir = tempfile::tempdir().unwrap();
            let disk = failing_syncs(first, count);
            let log = open_faulty(dir.path(), SyncPolicy::Group, &disk);
            let (mut taken, mut told) = (Vec::new(), 0);
            for i in 0..40 {
                let position = loop {
                    match log.lock().append(&[raw(2 * i), raw(2 * i + 1)]) {
                        Ok(position) => break position,
                        Err(e) => {
                            assert!(matches!(e, WalError::Refusing(_)), "{e}");
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                };
                taken.extend([2 * i as u8, 2 * i as u8 + 1]);
                if let Err(e) = log.wait(position) {
                    assert!(matches!(e, WalError::NotDurable(_)), "{e}");
                    told += 1;
                }
            }
            assert!(told > 0, "sync {first}");
            log.close().unwrap();
            assert_eq!(numbers(dir.path()), taken, "sync {first}, {count} times");
        }
    }
}

#[test]
fn a_batch_that_always_syncs_is_not_in_the_log_if_its_sync_failed() {
    for first in 0..8 {
        for count in 1..4 {
            let dir = tempfile::tempdir().unwrap();
            let disk = failing_syncs(first, count);
            let log = open_faulty(dir.path(), SyncPolicy::Always, &disk);
            let mut taken = Vec::new();
            for i in 0..30 {
                match log.lock().append(&[raw(i)]) {
                    Ok(position) => {
                        assert_eq!(log.durable(), position);
                        taken.push(i as u8);
                    }
                    Err(WalError::Refusing(_)) => std::thread::sleep(Duration::from_millis(3)),
                    Err(e) => assert!(matches!(e, WalError::NotDurable(_)), "{e}"),
                }
            }
            assert!(taken.len() < 30 && taken.len() > 10);
            log.close().unwrap();
            assert_eq!(numbers(dir.path()), taken, "sync {first}, {count} times");
        }
    }
}

#[test]
fn a_full_disk_refuses_batches_whole_and_is_written_on_when_it_is_freed() {
    // Of the calls that take space every one between these fails, after a short one.
    for (from, to) in (0..40).map(|n| (n, n + 5)) {
        for cut_back_fails in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (seen, cuts) = (AtomicU64::new(0), AtomicU64::new(0));
            let disk = FaultyDisk::new(move |call, _, _| match call {
                "write" | "create" => {
                    let n = seen.fetch_add(1, Ordering::Relaxed);
                    if n == from && call == "write" {
                        Fault::Short(1007)
                    } else if (from..to).contains(&n) && n > 0 {
                        Fault::Error(NO_SPACE)
                    } else {
                        Fault::No
                    }
                }
                "set_len" if cut_back_fails && cuts.fetch_add(1, Ordering::Relaxed) < 3 => {
                    Fault::Error(BROKEN)
                }
                _ => Fault::No,
            });
            let log = open_faulty(dir.path(), SyncPolicy::Os, &disk);
            let (mut taken, mut refused) = (Vec::new(), 0);
            for i in 0..60 {
                let batch: Vec<_> = (0..7).map(|_| raw(i)).collect();
                match log.lock().append(&batch) {
                    Ok(_) => taken.extend([i as u8; 7]),
                    Err(e) => {
                        assert!(e.is_no_space() || cut_back_fails, "{e}");
                        refused += 1;
                    }
                }
                // Whatever happens, nothing but sound records lies before the end.
                assert!(numbers_before_end(&log, dir.path()) == taken || refused > 0);
            }
            assert!((1..10).contains(&refused), "{from}: {refused}");
            log.close().unwrap();
            assert_eq!(numbers(dir.path()), taken, "{from} {cut_back_fails}");
        }
    }
}

fn numbers_before_end(log: &LogWriter, dir: &Path) -> Vec<u8> {
    let (segment, end) = {
        let state = log.shared.state();
        (state.segment, state.end as usize)
    };
    let mut numbers = Vec::new();
    for s in crate::segment::list_segments(dir).unwrap() {
        let mut bytes = std::fs::read(&s.path).unwrap();
        if s.index == segment {
            bytes.truncate(end);
        }
        let mut reader = SegmentReader::new(&bytes, 0);
        let mut record = Vec::new();
        while reader.next_into(&mut record).unwrap() {
            numbers.push(record[0]);
            record.clear();
        }
    }
    numbers
}

#[test]
fn at_a_cut_the_next_name_and_this_segment_are_durable_before_the_next_is_written() {
    for sync in [SyncPolicy::Group, SyncPolicy::Always, SyncPolicy::Os] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(|_, _, _| Fault::No);
        let log = open_faulty(dir.path(), sync, &disk);
        (0..1000).for_each(|i| assert!(log.lock().append(&[raw(i)]).is_ok()));
        let forced = log.next_segment().unwrap();
        assert_eq!(forced, log.segment());
        log.truncate(2).unwrap();
        log.close().unwrap();
        let calls = disk.calls();
        let dir_name = dir.path().file_name().unwrap().to_string_lossy();
        let find = |call: &str| calls.iter().position(|c| c == call).unwrap();
        let last = |call: &str| calls.iter().rposition(|c| c == call).unwrap();
        for n in 0..forced {
            let (this, next) = (segment_name(n), segment_name(n + 1));
            let named = find(&format!("create {next}"));
            let synced_name =
                named + calls[named..].iter().position(|c| *c == format!("sync_dir {dir_name}")).unwrap();
            let padded = last(&format!("write {this}"));
            let synced = last(&format!("sync {this}"));
            assert!(synced_name < synced && padded < synced, "{n}");
            if n + 1 < forced {
                assert!(synced < find(&format!("write {next}")), "{n}");
            }
        }
        let removals: Vec<_> = calls.iter().skip_while(|c| !c.starts_with("remove_file")).take(4).collect();
        let synced = format!("sync_dir {dir_name}");
        assert_eq!(removals, ["remove_file 00000000", &synced, "remove_file 00000001", &synced]);
    }
}

#[test]
fn a_segment_whose_name_could_not_be_synced_nor_removed_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let is_bad = Arc::new(AtomicBool::new(false));
    let asked = is_bad.clone();
    let disk = FaultyDisk::new(move |call, _, _| {
        let fails = asked.load(Ordering::Relaxed) && ["sync_dir", "remove_file"].contains(&call);
        if fails { Fault::Error(BROKEN) } else { Fault::No }
    });
    let log = open_faulty(dir.path(), SyncPolicy::Always, &disk);
    log.lock().append(&[raw(1)]).unwrap();
    let before = disk.calls().len();
    is_bad.store(true, Ordering::Relaxed);
    assert!(log.next_segment().is_err());
    is_bad.store(false, Ordering::Relaxed);
    assert_eq!(log.next_segment().unwrap(), 1);
    let calls = disk.calls().split_off(before);
    let names: Vec<&str> = calls.iter().map(String::as_str).filter(|c| !c.contains("00000000")).collect();
    let synced = format!("sync_dir {}", dir.path().file_name().unwrap().to_string_lossy());
    let (made, removed) = ("create 00000001", "remove_file 00000001");
    assert_eq!(names, [made, &synced, removed, removed, made, &synced]);
    log.lock().append(&[raw(2)]).unwrap();
    log.close().unwrap();
    assert_eq!(numbers(dir.path()), [1, 2]);
}

#[test]
fn appenders_wait_when_too_much_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(|call, _, _| {
        if call == "sync" {
            std::thread::sleep(Duration::from_millis(5));
        }
        Fault::No
    });
    let options = LogOptions { segment_bytes: 64 << 20, ..LogOptions::default() };
    let log = LogWriter::open(Arc::new(disk), dir.path(), options).unwrap();
    let batch = [PackedRecord { how: Compression::None, bytes: vec![7; 1 << 20] }];
    for _ in 0..30 {
        log.lock().append(&batch).unwrap();
        assert!(log.shared.state().in_flight() <= IN_FLIGHT_BYTES);
    }
    log.close().unwrap();
    assert_eq!(records_in(dir.path()).len(), 30);
}

#[test]
fn long_batches_find_room_whatever_the_policy() {
    for sync in [SyncPolicy::Os, SyncPolicy::Interval(Duration::from_secs(3600)), SyncPolicy::Group] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 64 << 20, compression: Compression::None, sync };
        let log = open(dir.path(), options);
        // Less waits than is synced whatever the policy, and yet there is no room for the next one.
        for megabytes in [3, 6, 1] {
            let batch = [PackedRecord { how: Compression::None, bytes: vec![7; megabytes << 20] }];
            log.lock().append(&batch).unwrap();
        }
        log.close().unwrap();
        assert_eq!(records_in(dir.path()).len(), 3, "{sync:?}");
    }
}

#[test]
fn a_log_goes_on_behind_its_last_segment_and_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/wal");
    for (expected, checkpoint) in [(0, None), (1, None), (2, None), (9, Some("checkpoint.00000008"))] {
        if let Some(name) = checkpoint {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        let log = open(&path, LogOptions::default());
        log.lock().append(&[raw(expected)]).unwrap();
        assert_eq!(log.close().unwrap().1, expected as u64);
        assert_eq!(log.close().unwrap().0, PAGE_BYTES as u64);
    }
    // An empty one is taken.
    assert_eq!(open(&path, LogOptions::default()).segment(), 10);
    assert_eq!(open(&path, LogOptions::default()).segment(), 10);
    std::fs::create_dir(path.join("checkpoint.9223372036854775807")).unwrap();
    assert!(LogWriter::open(Arc::new(RealDisk), &path, LogOptions::default()).is_err());
}
