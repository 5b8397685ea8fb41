//! Truncation that is cut off or fails at any point: what is not in blocks is there afterwards, once, and no reader
//! finds a gap.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

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
use tsdbctl_wal::Compression;

const START: i64 = 1_700_000_640_000 / 7_200_000 * 7_200_000;
const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;
const SERIES: usize = 40;

type Samples = BTreeMap<String, Vec<(i64, f64)>>;

fn open(disk: Arc<dyn Disk>, dir: &Path, min_valid_time: i64) -> Arc<Head> {
    let mut options = LiveOptions::default();
    options.log.segment_bytes = 32 << 10;
    options.log.compression = Compression::None;
    let (head, report) = Head::open(disk, dir, options, min_valid_time, &Control::default()).unwrap();
    assert_eq!(report.losses, []);
    head
}

fn name(i: usize) -> String {
    format!("m{i:04}")
}

fn value(i: usize, t: i64) -> f64 {
    i as f64 * 10_000.0 + ((t - START) / STEP) as f64
}

/// Scrapes; half of the series end with each third hour, and others begin.
fn generation(i: usize, t: i64) -> usize {
    if i.is_multiple_of(2) { i } else { i + SERIES * (1 + ((t - START) / (3 * HOUR)) as usize) }
}

fn scrape(head: &Arc<Head>, from: i64, to: i64) {
    let mut appender = Appender::new(Arc::clone(head));
    let mut last = None;
    for t in (from..to).step_by(STEP as usize) {
        for i in (0..SERIES).map(|i| generation(i, t)) {
            let id = appender.series([("__name__", &*name(i))].into_iter()).unwrap();
            appender.append_float(id, t, value(i, t), 0).unwrap();
        }
        last = Some(appender.commit().unwrap());
    }
    appender.wait(&last.unwrap()).unwrap();
}

fn expected(mint: i64, to: i64) -> Samples {
    let mut all = Samples::new();
    for t in (mint..to).step_by(STEP as usize) {
        for i in (0..SERIES).map(|i| generation(i, t)) {
            let name = format!("{{__name__=\"{}\"}}", name(i));
            all.entry(name).or_default().push((t, value(i, t)));
        }
    }
    all
}

/// What is in a directory whose blocks end at `mint`, of which nothing may be damaged or missing.
fn read(dir: &Path, mint: i64) -> Result<Samples, String> {
    let options = HeadOptions { min_valid_time: mint, ..HeadOptions::default() };
    let head = ReadHead::open(dir, &options, &Control::default()).map_err(|e| e.to_string())?.unwrap();
    select(&head)
}

/// All that a querier finds.
fn select(querier: &dyn Querier) -> Result<Samples, String> {
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
    let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    let mut found = Samples::new();
    for i in 0..set.len() {
        let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
        let all = TimeFilter::all_between(i64::MIN, i64::MAX);
        set.read(i, &all, &mut columns, &mut stats).map_err(|e| e.to_string())?;
        let samples = columns.floats.t.iter().copied().zip(columns.floats.v.iter().copied()).collect();
        found.insert(symbols.labels(set.labels(i)).to_string(), samples);
    }
    Ok(found)
}

/// A directory that was truncated once, with its head closed; where its samples end.
fn truncated_once(dir: &Path) -> i64 {
    let head = open(Arc::new(RealDisk), dir, i64::MIN);
    let end = START + 3 * HOUR;
    scrape(&head, START, end);
    assert!(head.truncate(START + HOUR).unwrap().checkpoint.is_some());
    head.close().unwrap();
    end
}

#[test]
fn a_crash_at_any_point_of_a_truncation_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = truncated_once(dir.path());
    let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
    let head = open(recorder.clone(), dir.path(), START + HOUR);
    let (mint, end) = (START + 2 * HOUR, START + 5 * HOUR);
    scrape(&head, before, end);
    head.files.sync().unwrap();
    let first = recorder.ops().len();
    let done = head.truncate(mint).unwrap();
    assert!(done.memory.is_some() && done.checkpoint.is_some());
    let recording = recorder.recording();
    drop(head);

    let want = expected(mint, end);
    let image_dir = tempfile::tempdir().unwrap();
    let (mut images, mut reopened) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    for moment in CrashImages::new(&recording).moments().skip(first) {
        for image in moment.variants(1, 4).chain(moment.killed(4)) {
            if !seen.insert(image.content_hash()) {
                continue;
            }
            let at = image_dir.path().join(images.to_string());
            images += 1;
            image.write_to(&at).unwrap();
            let found = read(&at, mint).unwrap_or_else(|e| panic!("{}: {e}", image.describe()));
            assert!(found == want, "{}", image.describe());
            // Some go on: what was half done is done by the next truncation.
            if images % 25 == 0 {
                reopened += 1;
                let head = open(Arc::new(RealDisk), &at, mint);
                scrape(&head, end, end + 8 * STEP);
                head.truncate(mint + HOUR).unwrap();
                head.close().unwrap();
                assert!(read(&at, mint + HOUR).unwrap() == expected(mint + HOUR, end + 8 * STEP));
                let left: Vec<_> = std::fs::read_dir(at.join("wal")).unwrap().map(|e| e.unwrap()).collect();
                assert!(left.iter().all(|e| !e.file_name().to_string_lossy().ends_with(".tmp")));
            }
            std::fs::remove_dir_all(&at).unwrap();
        }
    }
    assert!(images > 50 && reopened > 1, "{images} {reopened}");
}

#[test]
fn the_log_is_cut_before_the_checkpoint_and_nothing_goes_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let before = truncated_once(dir.path());
    let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
    let head = open(recorder.clone(), dir.path(), START + HOUR);
    scrape(&head, before, START + 5 * HOUR);
    let first = recorder.ops().len();
    let old = tsdbctl_wal::segment::list_checkpoints(&dir.path().join("wal")).unwrap()[0].0;
    let done = head.truncate(START + 2 * HOUR).unwrap().checkpoint.unwrap();
    let (checkpoint, older) =
        (format!("wal/checkpoint.{:08}", done.index), format!("wal/checkpoint.{old:08}"));
    let (mut unsynced, mut lines) = (0, Vec::new());
    for line in recorder.ops()[first..].iter().map(ToString::to_string) {
        match line.split_once(&format!("{checkpoint}.tmp/")) {
            Some(("create ", _)) => unsynced += 1,
            Some(("sync ", _)) => unsynced -= 1,
            Some(("write ", _)) => assert_eq!(unsynced, 1),
            _ if line.starts_with(&format!("remove {older}.tmp/")) => {}
            _ => {
                assert_eq!(unsynced, 0, "{line}");
                lines.push(line);
            }
        }
    }
    // The cut: the segment that was written to is durable, and its successor has its name.
    let begins = lines.iter().position(|l| l.starts_with("mkdir")).unwrap();
    let cut: Vec<String> = lines.drain(..begins).collect();
    assert!(cut.iter().any(|l| l.starts_with("sync wal/")), "{cut:?}");
    assert!(cut.iter().all(|l| !l.starts_with("remove")), "{cut:?}");
    let mut want = vec![
        format!("mkdir {checkpoint}.tmp"),
        format!("syncdir {checkpoint}.tmp"),
        format!("rename {checkpoint}.tmp {checkpoint}"),
        "syncdir wal".to_string(),
    ];
    for segment in old + 1..=done.index {
        want.extend([format!("remove wal/{segment:08}"), "syncdir wal".to_string()]);
    }
    want.extend([
        format!("rename {older} {older}.tmp"),
        "syncdir wal".to_string(),
        format!("rmdir {older}.tmp"),
        "syncdir wal".to_string(),
    ]);
    assert_eq!(lines[..want.len().min(lines.len())], want);
    let behind = &lines[want.len()..];
    let of_chunks = |l: &String| l.starts_with("remove chunks_head/") || l == "syncdir chunks_head";
    assert!(behind.iter().all(of_chunks), "{behind:?}");
    head.close().unwrap();
}

#[test]
fn a_truncation_that_fails_is_done_by_the_next() {
    let template = tempfile::tempdir().unwrap();
    let before = truncated_once(template.path());
    let (mint, end) = (START + 2 * HOUR, START + 4 * HOUR);
    let mut failures = 0;
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let disk = Faulty::new(Arc::new(RealDisk));
        let head = open(Arc::new(disk.clone()), dir.path(), START + HOUR);
        scrape(&head, before, end);
        disk.fail_once(Kind::Any, n);
        let first = head.truncate(mint);
        let struck = disk.struck();
        disk.heal();
        if first.is_err() {
            failures += 1;
            head.truncate(mint).unwrap();
        }
        assert!(newest_checkpoint(dir.path()) > newest_checkpoint(template.path()), "call {n}");
        scrape(&head, end, end + STEP);
        head.close().unwrap();
        drop(head);
        match read(dir.path(), mint) {
            Ok(found) => assert!(found == expected(mint, end + STEP), "call {n}"),
            Err(e) => panic!("call {n}: {e}"),
        }
        if struck == 0 {
            break;
        }
    }
    assert!(failures > 10, "{failures}");
}

fn newest_checkpoint(dir: &Path) -> u64 {
    tsdbctl_wal::segment::list_checkpoints(&dir.join("wal")).unwrap().last().unwrap().0
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_reader_that_began_before_keeps_what_goes() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(Arc::new(RealDisk), dir.path(), i64::MIN);
    let end = START + 3 * HOUR;
    scrape(&head, START, end);
    let querier = LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX);
    let applied = head.isolation.applied();
    std::thread::scope(|scope| {
        let truncation = scope.spawn(|| head.truncate(START + 2 * HOUR).unwrap());
        // It waits: an empty commit tells readers that began before from later ones.
        while head.isolation.applied() == applied {
            std::thread::yield_now();
        }
        assert!(select(&querier).unwrap() == expected(START, end));
        drop(querier);
        assert!(truncation.join().unwrap().memory.is_some());
    });
    let after = select(&LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX)).unwrap();
    let times = |s: &Samples| s.values().filter_map(|s| s.first()).map(|s| s.0).min();
    assert!(times(&after) > Some(START));
    head.close().unwrap();
}

#[test]
fn appenders_and_readers_go_on_while_the_head_is_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(Arc::new(RealDisk), dir.path(), i64::MIN);
    let (stop, mint) = (AtomicBool::new(false), AtomicI64::new(START));
    let end = START + 24 * HOUR;
    std::thread::scope(|scope| {
        let (head, stop, mint) = (&head, &stop, &mint);
        scope.spawn(move || {
            scrape(head, START, end);
            stop.store(true, Ordering::Release);
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let newest = head.max_time.load(Ordering::Acquire);
                let next = newest.saturating_sub(3 * HOUR / 2).max(START) / HOUR * HOUR;
                if next > mint.load(Ordering::Acquire) {
                    head.truncate(next).unwrap();
                    mint.store(next, Ordering::Release);
                }
                std::thread::yield_now();
            }
        });
        scope.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                // What a reader sees of a scrape it sees of all series: the newest one is whole.
                let querier = LiveQuerier::new(Arc::clone(head), i64::MIN, i64::MAX);
                let mut symbols = SymbolTable::new();
                let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
                let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
                let mut lasts = Vec::new();
                for i in 0..set.len() {
                    let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
                    let all = TimeFilter::all_between(i64::MIN, i64::MAX);
                    set.read(i, &all, &mut columns, &mut stats).unwrap();
                    assert!(columns.floats.t.windows(2).all(|t| t[1] == t[0] + STEP));
                    lasts.extend(columns.floats.t.last().copied());
                }
                if let Some(newest) = lasts.iter().max() {
                    let count = lasts.iter().filter(|t| *t == newest).count();
                    assert_eq!(count, SERIES, "at {newest}");
                }
            }
        });
    });
    head.close().unwrap();
    drop(head);
    let mint = mint.into_inner();
    assert!(mint > START + 4 * HOUR, "{}", (mint - START) / HOUR);
    assert!(read(dir.path(), mint).unwrap() == expected(mint, end));
}
