//! Commits on disks that fail or are cut off: what was answered for is found, and nothing that was never sent.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::select::LiveQuerier;
use tsdbctl_head::live::{Appender, Head, LiveOptions};
use tsdbctl_head::{HeadOptions, ReadHead};
use tsdbctl_model::SymbolTable;
use tsdbctl_platform::crash::CrashImages;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, TimeFilter};
use tsdbctl_wal::SyncPolicy;

/// Values by series and time.
type Samples = BTreeMap<(String, i64), f64>;

/// What was sent, and what of it was answered for.
#[derive(Debug, Default)]
struct Told {
    sent: Samples,
    /// In the order of the answers.
    acknowledged: Vec<Samples>,
}

fn options(sync: SyncPolicy) -> LiveOptions {
    let mut options = LiveOptions { out_of_order_window_ms: 1_000_000, ..LiveOptions::default() };
    options.rules.out_of_order_cap = 3;
    options.log.sync = sync;
    // Some segments are cut.
    options.log.segment_bytes = 32 << 10;
    options
}

/// Commits of two appenders, each tried again once if it fails; `answered` is called after each answer.
fn script(
    disk: Arc<dyn Disk>,
    dir: &Path,
    sync: SyncPolicy,
    commits: i64,
    mut answered: impl FnMut(usize),
) -> Told {
    let mut told = Told::default();
    let Ok((head, _)) = Head::open(disk, dir, options(sync), i64::MIN, &Control::default()) else {
        return told;
    };
    let mut appenders = [Appender::new(Arc::clone(&head)), Appender::new(Arc::clone(&head))];
    for n in 0..commits {
        let appender = &mut appenders[(n % 2) as usize];
        let mut batch = Samples::new();
        for i in 0..6 {
            // Old series and in each commit a new one; the latter has a long name, so that segments fill.
            let name = if i == 5 { format!("new{n}{}", "x".repeat(700)) } else { format!("m{i}") };
            let late = i == 3 && n > 2;
            let t = n * 1000 + if late { -2500 } else { 0 };
            batch.insert((name, t), (n * 10 + i) as f64);
        }
        for ((name, t), v) in &batch {
            let labels = [("__name__", name.as_str())];
            let id = appender.series(labels.into_iter()).unwrap();
            appender.append_float(id, *t, *v, 0).unwrap();
        }
        told.sent.extend(batch.clone());
        for _ in 0..2 {
            let Ok(done) = appender.commit() else { continue };
            assert_eq!(done.stored, 6, "{done:?}");
            if appender.wait(&done).is_ok() {
                told.acknowledged.push(batch);
                answered(told.acknowledged.len());
            }
            break;
        }
        appender.rollback();
    }
    drop(appenders);
    told
}

fn all(querier: &dyn Querier) -> Samples {
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
    let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    let mut found = Samples::new();
    for i in 0..set.len() {
        let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let name = symbols.labels(set.labels(i)).get("__name__").to_string();
        for (t, v) in columns.floats.t.iter().zip(&columns.floats.v) {
            assert_eq!(found.insert((name.clone(), *t), *v), None, "twice: {name} {t}");
        }
    }
    found
}

/// Opens what a run left, twice, and compares.
fn check(dir: &Path, told: &Told, answers: usize, what: &str) {
    for round in 0..2 {
        let open =
            Head::open(Arc::new(RealDisk), dir, options(SyncPolicy::Os), i64::MIN, &Control::default());
        let (head, report) = open.unwrap_or_else(|e| panic!("{what}: {e}"));
        let found = all(&LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX));
        // Sectors of one write that nobody was told of may be there without those of its series.
        assert!(report.unknown_series == 0 || what.contains("calls over"), "{what}: {report:?}");
        for (sample, v) in told.acknowledged[..answers].iter().flatten() {
            assert_eq!(found.get(sample), Some(v), "{what}, round {round}: {sample:?} of {report:?}");
        }
        for (sample, v) in &found {
            assert_eq!(told.sent.get(sample), Some(v), "{what}, round {round}: {sample:?} was never sent");
        }
        head.close().unwrap();
        drop(head);
        let read = ReadHead::open(dir, &HeadOptions::default(), &Control::default()).unwrap();
        assert_eq!(read.map(|head| all(&head)).unwrap_or_default(), found, "{what}: Prometheus' view");
    }
}

#[test]
fn a_call_that_fails_loses_nothing_that_was_answered_for() {
    let (group, always) = (SyncPolicy::Group, SyncPolicy::Always);
    for (sync, kind) in [(group, Kind::Any), (group, Kind::Sync), (always, Kind::Any), (always, Kind::Write)]
    {
        for for_good in [false, true] {
            let mut nth = 1;
            loop {
                let dir = tempfile::tempdir().unwrap();
                let disk = Arc::new(Faulty::new(Arc::new(RealDisk)));
                if for_good {
                    disk.fail_from(kind, nth)
                } else {
                    disk.fail_once(kind, nth)
                };
                let told = script(disk.clone(), dir.path(), sync, 10, |_| {});
                let what = format!("{sync:?}, {kind:?} {nth}, for good: {for_good}");
                check(dir.path(), &told, told.acknowledged.len(), &what);
                if disk.struck() == 0 {
                    assert!(told.acknowledged.len() == 10 && nth > 8, "{what}");
                    break;
                }
                nth += 4;
            }
        }
    }
}

#[test]
fn a_crash_between_any_two_calls_loses_nothing_that_was_answered_for() {
    for sync in [SyncPolicy::Group, SyncPolicy::Always] {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(Arc::new(RealDisk), dir.path()).unwrap();
        let told = script(Arc::new(recorder.clone()), dir.path(), sync, 10, |n| recorder.mark(n.to_string()));
        assert_eq!(told.acknowledged.len(), 10);
        let recording = recorder.recording();
        let images: Vec<_> = CrashImages::new(&recording).all(7, 2).collect();
        assert!(images.len() > 100, "{}", images.len());
        let step = images.len() / 80 + 1;
        for image in images.iter().step_by(step) {
            let at = tempfile::tempdir().unwrap();
            image.write_to(at.path()).unwrap();
            check(at.path(), &told, image.marks, &image.describe());
        }
    }
}
