//! Data directories open for writing: those of real servers go on, and are read by all afterwards.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests make files and say what they skip"
)]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::LiveOptions;
use tsdbctl_model::{Matcher, SymbolTable};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, StorageError, TimeFilter};
use tsdbctl_testkit as testkit;
use tsdbctl_tsdb::{Database, LiveDatabase, OpenOptions};

/// Times and values of every series; of histograms a hash of their text.
type Samples = BTreeMap<String, Vec<(i64, u64)>>;

const LABELS: [(&str, &str); 2] = [("__name__", "appended"), ("job", "test")];

fn open(dir: &Path, options: LiveOptions) -> LiveDatabase {
    let (db, report) = LiveDatabase::open(Arc::new(RealDisk), dir, options, &Control::default()).unwrap();
    assert_eq!(report.losses, []);
    db
}

fn read(db: &dyn Queryable, matchers: &[Matcher]) -> Samples {
    let control = Control::default();
    let querier = db.querier(i64::MIN, i64::MAX, &[matchers.to_vec()], &control).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, matchers, &mut symbols, &control).unwrap();
    let (mut out, mut columns, mut stats) = (Samples::new(), SampleColumns::default(), ReadStats::default());
    for i in 0..set.len() {
        columns.clear();
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let mut all: Vec<(i64, u64)> =
            columns.floats.t.iter().zip(&columns.floats.v).map(|(t, v)| (*t, v.to_bits())).collect();
        all.extend(columns.histograms.t.iter().zip(&columns.histograms.h).map(|(t, h)| {
            let mut hash = DefaultHasher::new();
            h.to_string().hash(&mut hash);
            (*t, hash.finish())
        }));
        all.sort_unstable();
        assert!(out.insert(symbols.labels(set.labels(i)).to_string(), all).is_none());
    }
    out
}

fn read_only(dir: &Path) -> Samples {
    read(&Database::open(&[dir.to_owned()], OpenOptions::default()).unwrap(), &[])
}

fn assert_same(found: &Samples, want: &Samples, what: &str) {
    for (name, want) in want {
        let found = found.get(name).map_or(&[][..], Vec::as_slice);
        let differs = found.iter().zip(want).position(|(a, b)| a != b);
        assert!(
            differs.is_none() && found.len() == want.len(),
            "{what}: {name}: {} samples, not {}; first {:?}, not {:?}",
            found.len(),
            want.len(),
            differs.map(|i| found[i]),
            differs.map(|i| want[i]),
        );
    }
    let extra = found.keys().find(|name| !want.contains_key(*name));
    assert_eq!(extra, None, "{what}");
}

fn goes_on(archive: &str, options: LiveOptions) {
    let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
    let mut want = read_only(&top);
    let name = "{__name__=\"appended\", job=\"test\"}";
    for round in 0..2 {
        let db = open(&top, options);
        // All of it takes its time.
        if round == 0 {
            assert_same(&read(&db, &[]), &want, "opened");
        }
        let t = db.head().max_time.load(Ordering::Relaxed) + 15_000;
        let mut appender = db.appender();
        let id = appender.series(LABELS.into_iter()).unwrap();
        appender.append_float(id, t, 7.0, 0).unwrap();
        let done = appender.commit().unwrap();
        appender.wait(&done).unwrap();
        want.entry(name.to_string()).or_default().push((t, 7.0f64.to_bits()));
        assert_same(&read(&db, &[Matcher::equal("job", "test")]), &of_test(&want), "appended");
        // A second one cannot have it.
        let error = LiveDatabase::open(Arc::new(RealDisk), &top, options, &Control::default()).map(drop);
        assert!(matches!(error, Err(StorageError::Unsupported { .. })), "{error:?}");
        drop(appender);
        db.maintain().unwrap();
        db.close().unwrap();
        assert!(!top.join("lock").exists());
    }
    assert_same(&read_only(&top), &want, "closed twice");
}

fn of_test(all: &Samples) -> Samples {
    all.iter()
        .filter(|(name, _)| name.contains("job=\"test\""))
        .map(|(n, s)| (n.clone(), s.clone()))
        .collect()
}

#[test]
fn a_directory_of_3_14_goes_on() {
    goes_on("data/prometheus-3.14-crashed.tar.zst", LiveOptions::default());
}

#[test]
fn a_directory_with_xor2_goes_on() {
    goes_on("data/prometheus-3.14-xor2-crashed.tar.zst", LiveOptions::default());
}

#[test]
fn a_directory_with_a_chunk_snapshot_goes_on() {
    let options = LiveOptions { snapshot_on_close: true, ..LiveOptions::default() };
    goes_on("data/prometheus-3.14-xor2-snapshot.tar.zst", options);
}

#[test]
fn a_directory_of_2_42_goes_on_and_is_read_by_2_42() {
    let archive = "data/prometheus-2.42-crashed.tar.zst";
    goes_on(archive, LiveOptions::default());
    let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
    let Some(dump) = testkit::read_text("data/prometheus-2.42-crashed.dump.zst") else { return };
    let db = open(&top, LiveOptions::default());
    let t = db.head().max_time.load(Ordering::Relaxed) + 15_000;
    let mut appender = db.appender();
    let id = appender.series(LABELS.into_iter()).unwrap();
    appender.append_float(id, t, 7.0, 0).unwrap();
    appender.commit().unwrap();
    drop(appender);
    db.close().unwrap();
    let Ok(out) = Command::new("promtool").args(["tsdb", "dump"]).arg(&top).output() else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found = String::from_utf8(out.stdout).unwrap();
    let mut found: Vec<&str> = found.lines().collect();
    let appended = format!("{{__name__=\"appended\", job=\"test\"}} 7 {t}");
    let mut want: Vec<&str> = dump.lines().chain([&*appended]).collect();
    found.sort_unstable();
    want.sort_unstable();
    assert_eq!(found.len(), want.len());
    assert_eq!(found.iter().zip(&want).find(|(a, b)| a != b), None);
}

#[test]
fn a_new_directory_is_made_and_what_was_left_half_made_goes() {
    let scratch = testkit::scratch();
    let dir = scratch.path().join("a/b");
    open(&dir, LiveOptions::default()).close().unwrap();
    let ulid = "01BKGTZQ1SYQJTR4PB43C8PD90";
    let half = [
        format!("{ulid}.tmp-for-creation"),
        format!("{ulid}.tmp-for-deletion"),
        format!("{ulid}.tmp"),
        "chunk_snapshot.000001.0000032768.tmp".to_string(),
        "wal/checkpoint.00000003.tmp".to_string(),
    ];
    for name in &half {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("x"), b"x").unwrap();
    }
    std::fs::create_dir(dir.join("mine.tmp")).unwrap();
    open(&dir, LiveOptions::default()).close().unwrap();
    for name in &half {
        assert!(!dir.join(name).exists(), "{name}");
    }
    assert!(dir.join("mine.tmp").exists());
}
