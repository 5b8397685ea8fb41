//! Commits that fail and are tried again until they succeed, and what a reader that outlives them sees.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests make and read their own files, and say what they met"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::select::LiveQuerier;
use tsdbctl_head::live::{Appender, Committed, Head, LiveOptions};
use tsdbctl_model::SymbolTable;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::{is_stale, stale_nan};
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, StorageError, TimeFilter};
use tsdbctl_wal::SyncPolicy;

type Samples = BTreeMap<(String, i64), f64>;

fn options() -> LiveOptions {
    let mut options = LiveOptions { out_of_order_window_ms: 1_000_000, ..LiveOptions::default() };
    options.rules.out_of_order_cap = 3;
    options.log.segment_bytes = 32 << 10;
    options
}

fn open(disk: Arc<dyn Disk>, dir: &Path, options: LiveOptions) -> Result<Arc<Head>, StorageError> {
    let (head, report) = Head::open(disk, dir, options, i64::MIN, &Control::default())?;
    assert!(report.losses.is_empty() && report.unknown_series == 0, "{report:?}");
    Ok(head)
}

/// Floats, and the sums of histograms.
fn all(querier: &dyn Querier) -> Samples {
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
    let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    let mut found = Samples::new();
    for i in 0..set.len() {
        let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let name = symbols.labels(set.labels(i)).get("__name__").to_string();
        let floats = columns.floats.t.iter().copied().zip(columns.floats.v.iter().copied());
        let sums = columns.histograms.t.iter().copied().zip(columns.histograms.h.iter().map(|h| h.sum));
        for (t, v) in floats.chain(sums) {
            assert_eq!(found.insert((name.clone(), t), v), None, "twice: {name} {t}");
        }
    }
    found
}

fn all_of(head: &Arc<Head>) -> Samples {
    all(&LiveQuerier::new(Arc::clone(head), i64::MIN, i64::MAX))
}

/// Does something until it succeeds; the disk is healed after a few failures.
fn insist<T>(disk: &Faulty, failures: &mut u64, mut what: impl FnMut() -> Result<T, StorageError>) -> T {
    loop {
        match what() {
            Ok(done) => return done,
            Err(e) => {
                assert!(e.may_pass(), "{e}");
                *failures += 1;
                assert!(*failures < 4000, "it never goes on: {e}");
                if *failures == 5 {
                    disk.heal();
                }
                std::thread::sleep(Duration::from_millis(3));
            }
        }
    }
}

/// Commits while a call fails; how many failures the appenders met, and whether the fault struck at all.
fn outlive(kind: Kind, nth: u64, for_good: bool, sync: SyncPolicy) -> (u64, bool) {
    let what = format!("{kind:?} {nth}, for good: {for_good}, {sync:?}");
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Arc::new(RealDisk));
    let mut options = options();
    options.log.sync = sync;
    let head = open(Arc::new(disk.clone()), dir.path(), options).unwrap();
    if kind == Kind::SetLen {
        // Lengths are set where a write has failed.
        disk.short_write(3 * nth, 7);
    }
    if for_good {
        disk.fail_from(kind, nth)
    } else {
        disk.fail_once(kind, nth)
    }
    let mut appenders = [Appender::new(Arc::clone(&head)), Appender::new(Arc::clone(&head))];
    let (mut sent, mut failures) = (Samples::new(), 0);
    for n in 0..8i64 {
        let appender = &mut appenders[(n % 2) as usize];
        for i in 0..7 {
            // Old series, in each commit a new one with a long name, so that segments fill, and a late sample.
            let name = if i == 5 { format!("new{n}{}", "x".repeat(900)) } else { format!("m{}", i % 6) };
            let t = n * 1000 - if i == 6 { 1500 } else { 0 };
            if i == 6 && n < 2 {
                continue;
            }
            let id = appender.series([("__name__", name.as_str())].into_iter()).unwrap();
            appender.append_float(id, t, (n * 10 + i) as f64, 0).unwrap();
            sent.insert((name, t), (n * 10 + i) as f64);
        }
        let done = insist(&disk, &mut failures, || appender.commit());
        let late = u64::from(n > 1);
        assert_eq!((done.stored, done.out_of_order, done.same), (6 + late, late, 0), "{what}: commit {n}");
        assert!(appender.is_empty() && appender.partly() == Committed::default());
        insist(&disk, &mut failures, || appender.wait(&done));
        // What a power cut would take from now on was not acknowledged.
        assert!(head.wal.durable() >= done.wal, "{what}");
    }
    drop(appenders);
    insist(&disk, &mut failures, || head.close());
    let struck = disk.struck() > 0;
    disk.heal();
    assert_eq!(all_of(&head), sent, "{what}");
    drop(head);
    for round in 0..2 {
        let head = open(Arc::new(RealDisk), dir.path(), options).unwrap();
        assert_eq!(all_of(&head), sent, "{what}: opened {round}");
        head.close().unwrap();
    }
    (failures, struck)
}

#[test]
fn each_failing_call_is_outlived_and_what_was_acknowledged_is_there() {
    let mut cases = Vec::new();
    let kinds =
        [Kind::Any, Kind::Write, Kind::Sync, Kind::SetLen, Kind::Open, Kind::SyncDir, Kind::CreateDir];
    for (k, kind) in kinds.into_iter().enumerate() {
        for for_good in [false, true] {
            for nth in 1..=if k < 3 { 36 } else { 4 } {
                // A disk that fails for good is asked once per second only.
                if for_good && k < 3 && nth % 3 != 1 {
                    continue;
                }
                let sync = if nth % 4 == 3 { SyncPolicy::Always } else { SyncPolicy::Group };
                cases.push((kind, nth, for_good, sync));
            }
        }
    }
    let (next, struck, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let (failures, was_struck) = outlive(case.0, case.1, case.2, case.3);
                    struck.fetch_add(u64::from(was_struck), Ordering::Relaxed);
                    failed.fetch_add(u64::from(failures > 0), Ordering::Relaxed);
                }
            });
        }
    });
    let (struck, failed) = (struck.into_inner() as usize, failed.into_inner() as usize);
    println!("{} cases, {struck} struck, {failed} of them met by an appender", cases.len());
    assert!(struck > cases.len() / 2 && failed > cases.len() / 3, "{struck} {failed} of {}", cases.len());
}

#[test]
fn a_full_disk_keeps_the_batch_which_may_grow_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Arc::new(RealDisk));
    let head = open(Arc::new(disk.clone()), dir.path(), options()).unwrap();
    let mut appender = Appender::new(Arc::clone(&head));
    let a = appender.series([("__name__", "a")].into_iter()).unwrap();
    let mut sent = Samples::new();
    for n in 0..40 {
        disk.fill_after(n * 7);
        for t in [n as i64 * 10, n as i64 * 10 + 5] {
            appender.append_float(a, t, t as f64, 0).unwrap();
            sent.insert(("a".to_string(), t), t as f64);
            // The third of a hundred bytes is never there.
            if let Err(e) = appender.commit() {
                assert!(e.may_pass() && !appender.is_empty(), "{e}");
            }
        }
        disk.free();
        let done = appender.commit().unwrap();
        appender.wait(&done).unwrap();
        assert_eq!(all_of(&head), sent, "{n}");
    }
    disk.fill_after(0);
    appender.append_float(a, 10_000, 1.0, 0).unwrap();
    appender.commit().unwrap_err();
    appender.rollback();
    assert!(appender.is_empty());
    drop(appender);
    // Without room for the padding, and nothing is missed.
    head.close().unwrap();
    drop(head);
    disk.free();
    let head = open(Arc::new(RealDisk), dir.path(), options()).unwrap();
    assert_eq!(all_of(&head), sent);
}

#[test]
fn a_head_is_closed_on_a_full_disk_without_a_snapshot_and_without_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let options = LiveOptions { snapshot_on_close: true, ..options() };
    let mut sent = Samples::new();
    // The log needs room for its padding, and from some bytes on the snapshot has a part of it.
    for (n, room) in [0, 10, 40_000, 66_000, 70_000, 99_000].into_iter().enumerate() {
        let disk = Faulty::new(Arc::new(RealDisk));
        let head = open(Arc::new(disk.clone()), dir.path(), options).unwrap();
        assert_eq!(all_of(&head), sent, "{room}");
        let mut appender = Appender::new(Arc::clone(&head));
        for i in 0..300 {
            let name = format!("m{i}");
            let id = appender.series([("__name__", name.as_str())].into_iter()).unwrap();
            for t in (n as i64 * 1000..n as i64 * 1000 + 900).step_by(30) {
                appender.append_float(id, t, 0.1 * t as f64, 0).unwrap();
                sent.insert((name.clone(), t), 0.1 * t as f64);
            }
        }
        appender.commit().unwrap();
        drop(appender);
        disk.fill_after(room);
        head.close().unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
        let names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
        assert!(names.iter().all(|n| !n.contains(".tmp")), "{room}: {names:?}");
    }
    assert_eq!(all_of(&open(Arc::new(RealDisk), dir.path(), options).unwrap()), sent);
}

#[test]
fn late_samples_are_safe_only_when_their_own_log_is() {
    for (below, late, safe) in [("wbl", true, false), ("wbl", false, true), ("wal", false, false)] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::new(Arc::new(RealDisk)).only_in(below);
        let head = open(Arc::new(disk.clone()), dir.path(), options()).unwrap();
        let mut appender = Appender::new(Arc::clone(&head));
        let a = appender.series([("__name__", "a")].into_iter()).unwrap();
        for t in [1000, 500, 2000] {
            appender.append_float(a, t, 1.0, 0).unwrap();
        }
        let done = appender.commit().unwrap();
        appender.wait(&done).unwrap();
        disk.fail_from(Kind::Sync, 1);
        appender.append_float(a, if late { 600 } else { 3000 }, 2.0, 0).unwrap();
        let done = appender.commit().unwrap();
        assert_eq!(appender.wait(&done).is_ok(), safe, "{below}, late: {late}");
        disk.heal();
        let mut failures = 0;
        insist(&Faulty::new(Arc::new(RealDisk)), &mut failures, || appender.wait(&done));
        drop(appender);
        head.close().unwrap();
    }
}

#[test]
fn a_long_reader_sees_what_there_was_when_it_came_however_many_commits_follow() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(Arc::new(RealDisk), dir.path(), options()).unwrap();
    let mut appender = Appender::new(Arc::clone(&head));
    let a = appender.series([("__name__", "a")].into_iter()).unwrap();
    let b = appender.series([("__name__", "b")].into_iter()).unwrap();
    let histogram = |n: i64| Histogram {
        schema: 1,
        count: n as u64,
        sum: n as f64,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![n],
        ..Histogram::default()
    };
    let mut sent = Samples::new();
    let mut readers = Vec::new();
    for n in 1..=300i64 {
        // Some commits have several samples of the series, and chunks are ended in between.
        for t in n * 10..n * 10 + 1 + n % 3 {
            appender.append_float(a, t, t as f64, 0).unwrap();
            sent.insert(("a".to_string(), t), t as f64);
        }
        appender.append_histogram(b, n * 10, &histogram(n), 0).unwrap();
        sent.insert(("b".to_string(), n * 10), n as f64);
        appender.commit().unwrap();
        if matches!(n, 1 | 2 | 7 | 110 | 118 | 119 | 120 | 121 | 122 | 200 | 298) {
            readers.push((LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX), sent.clone()));
        }
        if matches!(n, 3 | 4 | 9 | 125 | 126 | 250 | 299 | 300) {
            for (reader, expected) in &readers {
                assert_eq!(&all(reader), expected, "after {n} commits");
            }
        }
        if n == 126 {
            // The oldest ones go: those in the middle still see theirs.
            readers.drain(..4);
        }
    }
    assert_eq!(all_of(&head), sent);
}

#[test]
fn a_late_stale_marker_takes_the_kind_of_its_series() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(Arc::new(RealDisk), dir.path(), options()).unwrap();
    let mut appender = Appender::new(Arc::clone(&head));
    let float_histogram = FloatHistogram {
        schema: 1,
        count: 1.0,
        sum: 1.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![1.0],
        ..FloatHistogram::default()
    };
    let histogram = Histogram {
        schema: 1,
        count: 1,
        sum: 1.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![1],
        ..Histogram::default()
    };
    let id = |appender: &mut Appender, name: &str| appender.series([("__name__", name)].into_iter()).unwrap();
    let (f, h, fh) = (id(&mut appender, "f"), id(&mut appender, "h"), id(&mut appender, "fh"));
    appender.append_float(f, 5000, 1.0, 0).unwrap();
    appender.append_histogram(h, 5000, &histogram, 0).unwrap();
    appender.append_float_histogram(fh, 5000, &float_histogram, 0).unwrap();
    appender.commit().unwrap();
    for series in [f, h, fh] {
        appender.append_float(series, 4000, stale_nan(), 0).unwrap();
    }
    assert_eq!(appender.commit().unwrap().out_of_order, 3);
    drop(appender);
    let look = |head: &Arc<Head>, what: &str| {
        let querier = LiveQuerier::new(Arc::clone(head), i64::MIN, i64::MAX);
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
        let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
        assert_eq!(set.len(), 3);
        for i in 0..3 {
            let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
            set.read(i, &TimeFilter::all_between(0, 4500), &mut columns, &mut stats).unwrap();
            let name = symbols.labels(set.labels(i)).get("__name__").to_string();
            let (floats, sums): (Vec<f64>, Vec<f64>) =
                (columns.floats.v.clone(), columns.histograms.h.iter().map(|h| h.sum).collect());
            let (marker, none) = if name == "f" { (floats, sums) } else { (sums, floats) };
            assert!(marker.len() == 1 && is_stale(marker[0]) && none.is_empty(), "{what}: {name}");
        }
    };
    look(&head, "before");
    head.close().unwrap();
    drop(head);
    look(&open(Arc::new(RealDisk), dir.path(), options()).unwrap(), "opened again");
}
