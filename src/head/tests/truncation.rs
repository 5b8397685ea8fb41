//! What is in blocks goes: of memory, of the log, of the chunk files; and snapshots of what stays.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests make files and say what they skip"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::{Appender, Head, LiveOptions, SeriesId, snapshot};
use tsdbctl_head::{HeadOptions, ReadHead};
use tsdbctl_model::sample::{Exemplar, MetricType};
use tsdbctl_model::{Labels, Matcher, SymbolTable};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::append::Refusal;
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, TimeFilter};
use tsdbctl_wal::segment::{list_checkpoints, list_segments};

/// Start of the samples, at a boundary of two hours.
const START: i64 = 1_700_000_640_000 / 7_200_000 * 7_200_000;
const STEP: i64 = 15_000;
const HOUR: i64 = 3_600_000;

type Samples = BTreeMap<String, Vec<(i64, f64)>>;

fn options() -> LiveOptions {
    let mut options = LiveOptions { max_exemplars: 1000, metadata_records: true, ..LiveOptions::default() };
    options.log.segment_bytes = 32 << 10;
    options.log.compression = tsdbctl_wal::Compression::None;
    options
}

fn open_with(dir: &Path, options: LiveOptions, min_valid_time: i64) -> Arc<Head> {
    let (head, report) =
        Head::open(Arc::new(RealDisk), dir, options, min_valid_time, &Control::default()).unwrap();
    assert_eq!(report.losses, []);
    head
}

fn open(dir: &Path, min_valid_time: i64) -> Arc<Head> {
    open_with(dir, options(), min_valid_time)
}

fn pairs(name: &str) -> [(&str, &str); 2] {
    [("__name__", name), ("job", "test")]
}

fn series(appender: &mut Appender, name: &str) -> SeriesId {
    appender.series(pairs(name).into_iter()).unwrap()
}

fn add(head: &Arc<Head>, name: &str, t: i64, v: f64) {
    let mut appender = Appender::new(Arc::clone(head));
    let id = series(&mut appender, name);
    appender.append_float(id, t, v, 0).unwrap();
    assert_eq!(appender.commit().unwrap().stored, 1);
}

/// Scrapes of `count` series from `from` on; the value says which series and when. Names from `first` on.
fn scrape(head: &Arc<Head>, first: usize, count: usize, from: i64, to: i64) {
    let mut appender = Appender::new(Arc::clone(head));
    for t in (from..to).step_by(STEP as usize) {
        for i in first..first + count {
            let id = series(&mut appender, &format!("m{i:04}"));
            appender.append_float(id, t, value(i, t), 0).unwrap();
        }
        assert_eq!(appender.commit().unwrap().stored, count as u64);
    }
}

fn value(i: usize, t: i64) -> f64 {
    i as f64 * 1000.0 + ((t - START) / STEP) as f64
}

fn expected(first: usize, count: usize, from: i64, to: i64) -> Samples {
    let times = || (from..to).step_by(STEP as usize);
    (first..first + count)
        .map(|i| {
            let name = Labels::from_pairs(pairs(&format!("m{i:04}"))).to_string();
            (name, times().map(|t| (t, value(i, t))).collect())
        })
        .collect()
}

/// What a directory has from `mint` on, read as one whose blocks end there.
fn read(dir: &Path, mint: i64) -> Samples {
    let options = HeadOptions { min_valid_time: mint, ..HeadOptions::default() };
    let head = ReadHead::open(dir, &options, &Control::default()).unwrap().unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
    let set = head.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    (0..set.len())
        .map(|i| {
            let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
            set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
            let samples = columns.floats.t.iter().copied().zip(columns.floats.v.iter().copied()).collect();
            (symbols.labels(set.labels(i)).to_string(), samples)
        })
        .collect()
}

/// What Prometheus' own tool reads of a directory from `mint` on; `None` where it is not installed.
fn dump(dir: &Path, mint: i64) -> Option<Samples> {
    let mint = format!("--min-time={mint}");
    let out = Command::new("promtool").args(["tsdb", "dump", &mint]).arg(dir).output();
    let Ok(out) = out else {
        eprintln!("skipped: promtool is not installed");
        return None;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut found = Samples::new();
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let (labels, rest) = line.rsplit_once("} ").unwrap();
        let (v, t) = rest.split_once(' ').unwrap();
        let labels = format!("{labels}}}").replace("\", ", "\",");
        let labels = canonical(&labels);
        found.entry(labels).or_default().push((t.parse().unwrap(), v.parse().unwrap()));
    }
    Some(found)
}

/// Labels as ours print them, from `{__name__="x",job="test"}`.
fn canonical(text: &str) -> String {
    let value = |name: &str| {
        let from = text.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        &text[from..from + text[from..].find('"').unwrap()]
    };
    Labels::from_pairs([("__name__", value("__name__")), ("job", value("job"))]).to_string()
}

/// Equal, or told at the first place that differs.
fn assert_same(found: &Samples, want: &Samples) {
    let names = |s: &Samples| s.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(want));
    for (name, want) in want {
        let found = &found[name];
        let differs = found.iter().zip(want).position(|(a, b)| a != b);
        assert!(
            differs.is_none() && found.len() == want.len(),
            "{name}: {} samples, not {}; at {differs:?}: {:?}, not {:?}",
            found.len(),
            want.len(),
            differs.map(|i| found[i]),
            differs.map(|i| want[i]),
        );
    }
}

fn segments(dir: &Path) -> Vec<u64> {
    list_segments(&dir.join("wal")).unwrap().iter().map(|s| s.index).collect()
}

fn checkpoints(dir: &Path) -> Vec<u64> {
    list_checkpoints(&dir.join("wal")).unwrap().iter().map(|c| c.0).collect()
}

fn assert_continuous(dir: &Path) {
    let found = segments(dir);
    let first = checkpoints(dir).last().map_or(found[0], |c| c + 1);
    assert_eq!(found, (first..first + found.len() as u64).collect::<Vec<_>>());
    let leftovers: Vec<_> =
        std::fs::read_dir(dir.join("wal")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(leftovers.iter().all(|n| !n.to_string_lossy().ends_with(".tmp")), "{leftovers:?}");
}

#[test]
fn what_is_left_after_truncation_is_read_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    let mint = START + 2 * HOUR;
    // Some end before the cut, some go on, some begin behind it.
    scrape(&head, 0, 50, START, START + HOUR);
    scrape(&head, 50, 50, START + HOUR, START + 3 * HOUR);
    scrape(&head, 100, 50, START + 3 * HOUR, START + 3 * HOUR + HOUR / 2);
    let before = segments(dir.path());
    assert!(before.len() > 8, "{before:?}");
    let done = head.truncate(mint).unwrap();
    assert_eq!(done.memory.unwrap().series, 50);
    let checkpoint = done.checkpoint.unwrap();
    assert_eq!(checkpoint.index, (before.last().unwrap() - 1) * 2 / 3);
    assert_eq!(checkpoint.losses, []);
    assert!(checkpoint.dropped > 0);
    assert_eq!(checkpoints(dir.path()), [checkpoint.index]);
    assert_continuous(dir.path());
    assert_eq!(head.min_time.load(std::sync::atomic::Ordering::Relaxed), mint);
    head.close().unwrap();
    drop(head);

    let mut want = expected(50, 50, mint, START + 3 * HOUR);
    want.extend(expected(100, 50, START + 3 * HOUR, START + 3 * HOUR + HOUR / 2));
    assert_same(&read(dir.path(), mint), &want);
    if let Some(found) = dump(dir.path(), mint) {
        assert_same(&found, &want);
    }

    // Again, in a head that was opened anew: the old checkpoint is read and replaced.
    let head = open(dir.path(), mint);
    scrape(&head, 100, 50, START + 3 * HOUR + HOUR / 2, START + 6 * HOUR);
    let later = START + 4 * HOUR;
    let done = head.truncate(later).unwrap();
    assert_eq!(done.memory.unwrap().series, 50);
    assert!(done.checkpoint.unwrap().index > checkpoint.index);
    assert_eq!(checkpoints(dir.path()).len(), 1);
    assert_continuous(dir.path());
    head.close().unwrap();
    drop(head);
    let want = expected(100, 50, later, START + 6 * HOUR);
    assert_same(&read(dir.path(), later), &want);
    if let Some(found) = dump(dir.path(), later) {
        assert_same(&found, &want);
    }
}

#[test]
fn a_series_with_an_append_on_the_way_is_not_freed() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    add(&head, "busy", START, 1.0);
    add(&head, "idle", START, 1.0);
    add(&head, "other", START + 3 * HOUR, 1.0);
    let t = START + 3 * HOUR;
    let (mut a, mut b) = (Appender::new(Arc::clone(&head)), Appender::new(Arc::clone(&head)));
    for appender in [&mut a, &mut b] {
        let id = series(appender, "busy");
        appender.append_float(id, t, 7.0, 0).unwrap();
    }
    // One of two goes: the other still counts.
    b.rollback();
    let mint = START + 2 * HOUR;
    assert_eq!(head.truncate_memory(mint).unwrap().series, 1);
    assert_eq!(a.commit().unwrap().stored, 1);
    head.close().unwrap();
    drop((a, b, head));
    let found = read(dir.path(), mint);
    let busy = Labels::from_pairs(pairs("busy")).to_string();
    assert_eq!(found.get(&busy).map(Vec::as_slice), Some(&[(t, 7.0)][..]));
    if let Some(found) = dump(dir.path(), mint) {
        assert_eq!(found.get(&busy).map(Vec::as_slice), Some(&[(t, 7.0)][..]));
    }
}

#[test]
fn a_freed_series_begins_anew_under_another_reference() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    add(&head, "stays", START, 1.0);
    add(&head, "goes", START, 1.0);
    add(&head, "stays", START + 3 * HOUR, 2.0);
    let reference = |head: &Arc<Head>, name: &str| {
        let mut appender = Appender::new(Arc::clone(head));
        let id = series(&mut appender, name);
        let found = head.shard_of(id).lock().unwrap().record(id).unwrap().series_ref;
        appender.rollback();
        found
    };
    let old = reference(&head, "goes");
    let mut cached = Appender::new(Arc::clone(&head));
    let id = series(&mut cached, "goes");
    cached.rollback();
    let mint = START + 2 * HOUR;
    assert_eq!(head.truncate(mint).unwrap().memory.unwrap().series, 1);
    // Who kept its number is told.
    let refused = cached.append_float(id, START + 3 * HOUR, 1.0, 0).unwrap_err();
    assert_eq!(refused, Refusal::UnknownSeries);
    head.close().unwrap();
    drop((cached, head));
    // It was the highest reference; the log still has it.
    let head = open(dir.path(), mint);
    add(&head, "new", START + 3 * HOUR, 3.0);
    assert!(reference(&head, "new") > old);
    add(&head, "goes", START + 3 * HOUR, 4.0);
    assert!(reference(&head, "goes") > old);
    head.close().unwrap();
    drop(head);
    let want: Samples = [("goes", 4.0), ("new", 3.0), ("stays", 2.0)]
        .map(|(n, v)| (Labels::from_pairs(pairs(n)).to_string(), vec![(START + 3 * HOUR, v)]))
        .into();
    assert_same(&read(dir.path(), mint), &want);
    if let Some(found) = dump(dir.path(), mint) {
        assert_same(&found, &want);
    }
}

#[test]
fn a_freed_reference_is_kept_as_long_as_the_log_has_samples_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    scrape(&head, 0, 40, START, START + HOUR);
    let mut mint = START + 2 * HOUR;
    let mut now = START + HOUR;
    let mut kept = Vec::new();
    for _ in 0..6 {
        scrape(&head, 100, 40, now, mint + HOUR);
        now = mint + HOUR;
        head.truncate(mint).unwrap();
        kept.push(head.collection.retired_count());
        // No sample of the log is without its series.
        let copy = copy_of_log(dir.path());
        let (_, report) =
            Head::open(Arc::new(RealDisk), copy.path(), options(), i64::MIN, &Control::default()).unwrap();
        assert_eq!((report.unknown_series, report.losses), (0, vec![]));
        mint += HOUR;
    }
    assert_eq!((kept[0], kept[5]), (40, 0), "{kept:?}");
    head.close().unwrap();
}

#[test]
fn damage_of_an_old_segment_costs_its_record_and_no_series() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    let mint = START + 2 * HOUR;
    scrape(&head, 0, 30, START + HOUR, START + 4 * HOUR);
    // The first record of the log: the series.
    let path = dir.path().join("wal/00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let done = head.truncate(mint).unwrap().checkpoint.unwrap();
    assert_eq!(done.losses.len(), 1);
    assert_eq!((&done.losses[0].file, done.losses[0].offset), (&path, 0));
    head.close().unwrap();
    drop(head);
    std::fs::remove_dir_all(dir.path().join("chunks_head")).unwrap();
    assert_same(&read(dir.path(), mint), &expected(0, 30, mint, START + 4 * HOUR));
    if let Some(found) = dump(dir.path(), mint) {
        assert_same(&found, &expected(0, 30, mint, START + 4 * HOUR));
    }
}

#[test]
fn deletions_metadata_and_exemplars_are_in_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    let mint = START + 2 * HOUR;
    let mut appender = Appender::new(Arc::clone(&head));
    let id = series(&mut appender, "m0000");
    appender.append_float(id, START + HOUR, value(0, START + HOUR), 0).unwrap();
    appender.set_metadata(id, MetricType::Counter, "bytes", "what was sent");
    appender.commit().unwrap();
    let exemplar =
        |t: i64| Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 1.5, timestamp_ms: t };
    for t in [START + HOUR + 1, mint + 1] {
        scrape(&head, 0, 30, START + HOUR + (t - START - HOUR - 1) + STEP, t + HOUR - 1);
        appender.append_exemplar(id, &exemplar(t)).unwrap();
        appender.commit().unwrap();
    }
    let gone = (mint + 10 * STEP, mint + 20 * STEP);
    head.delete(gone.0, gone.1, &[Matcher::equal("__name__", "m0001")], &Control::default()).unwrap();
    let end = head.max_time.load(std::sync::atomic::Ordering::Relaxed);
    scrape(&head, 0, 30, end + STEP, end + 3 * HOUR);
    let done = head.truncate(mint).unwrap().checkpoint.unwrap();
    assert!(done.index > 3);
    head.close().unwrap();
    drop((appender, head));
    let options = HeadOptions { min_valid_time: mint, ..HeadOptions::default() };
    let loaded = ReadHead::open(dir.path(), &options, &Control::default()).unwrap().unwrap();
    let metadata = loaded.metadata();
    assert_eq!(metadata.len(), 1);
    assert_eq!((&*metadata[0].1.unit, &*metadata[0].1.help), ("bytes", "what was sent"));
    assert_eq!(metadata[0].1.kind, MetricType::Counter);
    let found = loaded.exemplars(i64::MIN, i64::MAX, &[vec![]], &Control::default()).unwrap();
    let times: Vec<i64> = found.iter().flat_map(|s| s.exemplars.iter().map(|e| e.timestamp_ms)).collect();
    assert_eq!(times, [mint + 1]);
    let found = read(dir.path(), mint);
    let name = Labels::from_pairs(pairs("m0001")).to_string();
    assert!(found[&name].iter().all(|(t, _)| !(gone.0..=gone.1).contains(t)));
    let other = Labels::from_pairs(pairs("m0002")).to_string();
    assert_eq!(found[&other].len() - found[&name].len(), 11);
    if let Some(dumped) = dump(dir.path(), mint) {
        assert_same(&dumped, &found);
    }
}

#[test]
fn a_series_with_an_exemplar_or_metadata_on_the_way_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    for name in ["a", "b", "c"] {
        add(&head, name, START, 1.0);
    }
    add(&head, "z", START + 2 * HOUR, 1.0);
    let mut appender = Appender::new(Arc::clone(&head));
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    let labels = Labels::from_pairs([("trace_id", "x")]);
    for t in [START, START + 1] {
        appender
            .append_exemplar(a, &Exemplar { timestamp_ms: t, value: 1.0, labels: labels.clone() })
            .unwrap();
    }
    appender.set_metadata(b, MetricType::Counter, "bytes", "Help.");
    let segment = head.wal.segment();
    assert_eq!(head.truncate_memory(START + HOUR).unwrap().series, 1);
    // Records that are written again after a failed sync go into the next segment.
    assert_eq!(head.collection.retired(3).map(|r| r.last_segment), Some(segment + 1));
    assert_eq!(appender.commit().unwrap().exemplars, 2);
    assert_eq!((head.collect_garbage().series, head.collect_garbage().series), (2, 0));
    appender.set_metadata(b, MetricType::Gauge, "bytes", "Help.");
    assert_eq!(
        appender.append_exemplar(a, &Exemplar { timestamp_ms: START, value: 1.0, labels }),
        Err(Refusal::UnknownSeries)
    );
}

#[test]
fn a_batch_that_began_before_a_block_adds_nothing_that_the_block_should_have() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    add(&head, "a", START, 1.0);
    let mut before = Appender::new(Arc::clone(&head));
    let (a, b) = (series(&mut before, "a"), series(&mut before, "b"));
    before.append_float(a, START + STEP, 2.0, 0).unwrap();
    before.append_float(b, START + 2 * HOUR, 3.0, 0).unwrap();
    add(&head, "z", START + 3 * HOUR, 1.0);
    head.end_in_order(START + HOUR);
    let done = before.commit().unwrap();
    assert_eq!((done.stored, done.refused.get(Refusal::OutOfBounds)), (1, 1));
    // A new batch too.
    assert_eq!(before.append_float(a, START + STEP, 2.0, 0), Err(Refusal::OutOfBounds));
    before.rollback();
    assert_eq!(head.truncate_memory(START + HOUR).unwrap().series, 1);
}

#[test]
fn a_snapshot_has_what_the_log_has() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), i64::MIN);
    scrape(&head, 0, 300, START, START + HOUR);
    scrape(&head, 300, 10, START + HOUR, START + HOUR + 5 * STEP);
    head.delete(START + STEP, START + 3 * STEP, &[Matcher::equal("__name__", "m0007")], &Control::default())
        .unwrap();
    head.files.sync().unwrap();
    let (segment, offset) = end(&head);
    snapshot::write(&head, segment, offset).unwrap();
    drop(head);
    let name = format!("chunk_snapshot.{segment:06}.{offset:010}");
    assert!(dir.path().join(&name).join("00000000").is_file());
    let with = read(dir.path(), i64::MIN);
    // The log in front of the snapshot is not looked at: it need not be sound.
    let without = without_snapshot(dir.path());
    assert_eq!(with.len(), 310);
    assert_same(&with, &without);
    // One more of the same place, as of a head that was opened and closed without samples.
    let head = open(dir.path(), i64::MIN);
    snapshot::write(&head, segment, offset).unwrap();
    drop(head);
    assert_same(&read(dir.path(), i64::MIN), &with);
    // A second one replaces it.
    let head = open(dir.path(), i64::MIN);
    scrape(&head, 0, 300, START + HOUR, START + HOUR + 3 * STEP);
    let (segment, offset) = end(&head);
    snapshot::write(&head, segment, offset).unwrap();
    drop(head);
    let found: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with("chunk_snapshot"))
        .collect();
    assert_eq!(found, [format!("chunk_snapshot.{segment:06}.{offset:010}")]);
    assert_same(&read(dir.path(), i64::MIN), &without_snapshot(dir.path()));
}

/// Ends the log and says where that is.
fn end(head: &Arc<Head>) -> (u64, u64) {
    let ended = head.wal.close().unwrap();
    let last = list_segments(&head.dir.join("wal")).unwrap().into_iter().rfind(|s| s.size > 0).unwrap();
    assert!(ended == (last.index, last.size) || ended == (last.size, last.index), "{ended:?}");
    (last.index, last.size)
}

fn copy_of_log(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut parts = vec!["wal".to_string(), "chunks_head".to_string()];
    parts.extend(checkpoints(dir).iter().map(|c| format!("wal/checkpoint.{c:08}")));
    for part in parts {
        std::fs::create_dir(copy.path().join(&part)).unwrap();
        for entry in std::fs::read_dir(dir.join(&part)).unwrap().map(|e| e.unwrap()) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), copy.path().join(&part).join(entry.file_name())).unwrap();
            }
        }
    }
    copy
}

fn without_snapshot(dir: &Path) -> Samples {
    read(copy_of_log(dir).path(), i64::MIN)
}
