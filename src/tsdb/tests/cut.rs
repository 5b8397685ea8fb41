//! The head cut into blocks: every sample once, through whatever reads it, whatever comes meanwhile.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests make files and say what they skip"
)]

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tsdbctl_block::BlockMeta;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::{LiveOptions, SeriesId};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{Histogram, Matcher, SymbolTable};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, TimeFilter};
use tsdbctl_testkit as testkit;
use tsdbctl_tsdb::head_blocks::CutOptions;
use tsdbctl_tsdb::{Database, LiveDatabase, OpenOptions};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const WIDTH: i64 = 2 * HOUR;
/// At a boundary of two hours.
const START: i64 = 1_700_000_000_000 / WIDTH * WIDTH;

/// Of every series, by time: the bits of a float, or a hash of a histogram's text.
type Samples = BTreeMap<String, BTreeMap<i64, u64>>;

fn options() -> LiveOptions {
    let mut options = LiveOptions { out_of_order_window_ms: 12 * HOUR, ..LiveOptions::default() };
    options.log.segment_bytes = 64 << 10;
    options.log.sync = tsdbctl_wal::SyncPolicy::Os;
    options
}

fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> LiveDatabase {
    let (db, report) = LiveDatabase::open(disk, dir, options(), &Control::default()).unwrap();
    assert_eq!(report.losses, []);
    db
}

fn open(dir: &Path) -> LiveDatabase {
    open_on(Arc::new(RealDisk), dir)
}

fn read(db: &dyn Queryable) -> Samples {
    let control = Control::default();
    let querier = db.querier(i64::MIN, i64::MAX, &[], &control).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &[], &mut symbols, &control).unwrap();
    let (mut out, mut columns, mut stats) = (Samples::new(), SampleColumns::default(), ReadStats::default());
    for i in 0..set.len() {
        columns.clear();
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let mut all = BTreeMap::new();
        let floats = columns.floats.t.iter().zip(&columns.floats.v).map(|(t, v)| (*t, v.to_bits()));
        let histograms =
            columns.histograms.t.iter().zip(&columns.histograms.h).map(|(t, h)| (*t, code(&h.to_string())));
        for (t, v) in floats.chain(histograms) {
            assert_eq!(all.insert(t, v), None, "twice at {t}");
        }
        let name = symbols.labels(set.labels(i)).get("__name__").to_string();
        if !all.is_empty() {
            assert!(out.insert(name, all).is_none());
        }
    }
    out
}

fn code(text: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    hash.finish()
}

fn assert_same(found: &Samples, want: &Samples, what: &str) {
    let names: Vec<_> = found.keys().chain(want.keys()).collect();
    for name in names {
        let none = BTreeMap::new();
        let (found, want) = (found.get(name).unwrap_or(&none), want.get(name).unwrap_or(&none));
        let lost = want.iter().find(|(t, v)| found.get(t) != Some(v)).map(|(t, _)| (t - START) / 1000);
        let extra = found.keys().find(|t| !want.contains_key(t)).map(|t| (t - START) / 1000);
        assert_eq!((lost, extra), (None, None), "{what}: {name}, seconds of lost and extra ones");
    }
}

fn check(db: &LiveDatabase, want: &Samples, what: &str) {
    assert_same(&read(db), want, what);
    // A look from outside needs what is in memory to be in the logs, where it is.
    let from_outside = Database::open(&[db.dir().to_owned()], OpenOptions::default()).unwrap();
    assert_same(&read(&from_outside), want, &format!("{what}, read only"));
}

fn histogram(n: u64) -> Histogram {
    Histogram {
        schema: 1,
        count: n + n / 3,
        sum: n as f64,
        zero_threshold: 1e-9,
        zero_count: n / 3,
        positive_spans: vec![BucketSpan { offset: (n / 70) as i32, length: 1 }],
        positive_buckets: vec![n as i64],
        ..Histogram::default()
    }
}

fn series(appender: &mut tsdbctl_head::live::Appender, name: &str) -> SeriesId {
    appender.series([("__name__", name), ("job", "test")].into_iter()).unwrap()
}

/// Samples of all kinds at `minutes`, some of them late; those that were taken are added to `want`.
fn fill(db: &LiveDatabase, minutes: std::ops::Range<i64>, want: &mut Samples) {
    let mut appender = db.appender();
    for minute in minutes {
        let mut batch: Vec<(String, i64, u64)> = Vec::new();
        for i in 0..24i64 {
            let noise = (minute * 24 + i).wrapping_mul(0x5851_f42d_4c95_7f2d) as u64 >> 33;
            // What comes into a deleted range stays hidden.
            let late = i % 4 == 1 && noise.is_multiple_of(7) && (i != 1 || minute < 400);
            // No two at one time.
            let t = START + minute * MINUTE - if late { (noise % 500) as i64 * MINUTE - minute } else { 0 };
            let name = format!("s{i:02}");
            let id = series(&mut appender, &name);
            let (taken, code) = match i {
                0..12 => {
                    let v =
                        if i % 3 == 0 { f64::from_bits(noise << 31 | 0x4000 << 48) } else { minute as f64 };
                    (appender.append_float(id, t, v, 0).is_ok(), v.to_bits())
                }
                12..18 => {
                    let h = histogram(minute as u64 % 97 + i as u64);
                    let text = code(&h.to_float().to_string());
                    (appender.append_histogram(id, t, &h, 0).is_ok(), text)
                }
                18..22 => {
                    let h = histogram(minute as u64 % 131 + i as u64).to_float();
                    (appender.append_float_histogram(id, t, &h, 0).is_ok(), code(&h.to_string()))
                }
                _ if minute % 50 < 25 => {
                    let h = histogram(minute as u64);
                    let text = code(&h.to_float().to_string());
                    (appender.append_histogram(id, t, &h, 0).is_ok(), text)
                }
                _ => (appender.append_float(id, t, 7.5, 0).is_ok(), 7.5f64.to_bits()),
            };
            if taken {
                batch.push((name, t, code));
            }
        }
        let done = appender.commit().unwrap();
        assert_eq!(done.refused.total(), 0, "{done:?}");
        for (name, t, code) in batch {
            want.entry(name).or_default().entry(t).or_insert(code);
        }
    }
}

fn delete(db: &LiveDatabase, name: &str, minutes: (i64, i64), want: &mut Samples) {
    let (mint, maxt) = (START + minutes.0 * MINUTE, START + minutes.1 * MINUTE);
    let matchers = [Matcher::equal("__name__", name)];
    db.head().delete(mint, maxt, &matchers, &Control::default()).unwrap();
    want.get_mut(name).unwrap().retain(|t, _| *t < mint || *t > maxt);
}

fn cut(db: &LiveDatabase) -> Vec<BlockMeta> {
    db.cut_head(&World::real(), &CutOptions::default(), &Control::default()).unwrap()
}

fn cut_late(db: &LiveDatabase) -> Vec<BlockMeta> {
    db.cut_late(&World::real(), &CutOptions::default(), &Control::default()).unwrap()
}

fn ranges(metas: &[BlockMeta]) -> Vec<(i64, i64)> {
    metas.iter().map(|m| ((m.min_time - START) / MINUTE, (m.max_time - START) / MINUTE)).collect()
}

#[test]
fn every_sample_is_there_once_however_much_was_cut() {
    let scratch = testkit::scratch();
    let mut want = Samples::new();
    let db = open(scratch.path());
    fill(&db, 0..175, &mut want);
    assert_eq!(cut(&db), []);
    fill(&db, 175..400, &mut want);
    for (name, minutes) in [("s00", (30, 90)), ("s01", (0, 500)), ("s13", (100, 130)), ("s22", (110, 119))] {
        delete(&db, name, minutes, &mut want);
    }
    check(&db, &want, "filled");
    let made = cut(&db);
    assert_eq!(ranges(&made), [(0, 120), (120, 240)]);
    assert!(made.iter().all(BlockMeta::is_in_order));
    check(&db, &want, "cut");
    // What is late lies before the head's start now.
    let db = {
        db.close().unwrap();
        open(scratch.path())
    };
    check(&db, &want, "cut and opened again");
    let late = cut_late(&db);
    assert!(late.len() > 3 && late.iter().all(|m| m.compaction.hints == ["from-out-of-order"]), "{late:?}");
    assert_eq!(db.head_times().late, None);
    check(&db, &want, "late ones cut");
    assert_eq!(cut_late(&db), []);
    // A killed process' directory.
    drop(db);
    let db = open(scratch.path());
    check(&db, &want, "killed and opened again");
    fill(&db, 400..640, &mut want);
    let world = World::real();
    let made = db.maintain_head(&world, &CutOptions::default(), &Control::default()).unwrap();
    assert_eq!(ranges(&made)[..2], [(240, 360), (360, 480)]);
    assert!(made.len() > 2);
    check(&db, &want, "a server's minute");
    let made = db.flush_head(&world, &CutOptions::default(), &Control::default()).unwrap();
    let flushed = made.iter().filter(|m| m.is_in_order()).cloned().collect::<Vec<_>>();
    assert_eq!(ranges(&flushed), [(480, 600), (600, 639)]);
    assert_eq!(flushed[1].max_time, START + 639 * MINUTE + 1);
    check(&db, &want, "flushed");
    assert_eq!(db.flush_head(&world, &CutOptions::default(), &Control::default()).unwrap(), []);
    assert_eq!(db.head().count_stale().1, 0);
    fill(&db, 640..700, &mut want);
    check(&db, &want, "filled behind a flush");
    db.close().unwrap();
    let db = open(scratch.path());
    check(&db, &want, "opened behind a flush");
    assert_eq!(db.head_times().in_order.unwrap().1, START + 699 * MINUTE);
    // Upstream's tool reads all of it.
    db.close().unwrap();
    let Ok(out) = Command::new("promtool").args(["tsdb", "dump"]).arg(scratch.path()).output() else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in String::from_utf8(out.stdout).unwrap().lines() {
        let name = line.split('"').nth(1).unwrap().to_string();
        seen.entry(name).or_default().push(line.rsplit(' ').next().unwrap().parse().unwrap());
    }
    // It writes no histograms.
    for (name, want) in want.iter().filter(|(name, _)| name.as_str() < "s12") {
        let mut found = seen.remove(name).unwrap_or_default();
        found.sort_unstable();
        assert!(found.iter().eq(want.keys()), "{name}: {} and {} samples", found.len(), want.len());
    }
}

#[test]
fn stale_series_leave_the_head_and_come_back_as_new_ones() {
    let scratch = testkit::scratch();
    let mut want = Samples::new();
    let db = open(scratch.path());
    let mut appender = db.appender();
    let mut add = |appender: &mut tsdbctl_head::live::Appender, i: i64, minute: i64, v: f64| {
        let name = format!("s{i:02}");
        let id = series(appender, &name);
        appender.append_float(id, START + minute * MINUTE, v, 0).unwrap();
        want.entry(name).or_default().insert(START + minute * MINUTE, v.to_bits());
    };
    for minute in 0..150 {
        (0..40).for_each(|i| add(&mut appender, i, minute, (minute * i) as f64));
        appender.commit().unwrap();
    }
    (0..30).for_each(|i| add(&mut appender, i, 150, stale_nan()));
    appender.commit().unwrap();
    // One has something late, to another something is about to be appended.
    drop(appender);
    let mut late = db.appender();
    let id = series(&mut late, "s03");
    late.append_float(id, START + 20 * MINUTE + 1, 1.0, 0).unwrap();
    late.commit().unwrap();
    want.get_mut("s03").unwrap().insert(START + 20 * MINUTE + 1, 1f64.to_bits());
    let id = series(&mut late, "s04");
    late.append_float(id, START + 151 * MINUTE, 4.0, 0).unwrap();
    let (world, options) = (World::real(), CutOptions::default());
    assert_eq!(db.head().count_stale(), (30, 40));
    assert_eq!(db.cut_stale(0.8, &world, &options, &Control::default()).unwrap(), []);
    let made = db.cut_stale(0.5, &world, &options, &Control::default()).unwrap();
    assert_eq!(ranges(&made), [(0, 120), (120, 240)]);
    assert!(made.iter().all(|m| m.compaction.hints == ["from-stale-series"] && m.stats.num_series == 29));
    assert_eq!(db.head().count_stale(), (2, 12));
    late.commit().unwrap();
    want.get_mut("s04").unwrap().insert(START + 151 * MINUTE, 4f64.to_bits());
    check(&db, &want, "cut");
    drop(late);
    drop(db);
    let db = open(scratch.path());
    assert_eq!(db.head().count_stale().1, 12);
    check(&db, &want, "killed and opened again");
    let fill = |db: &LiveDatabase, want: &mut Samples, minutes: std::ops::Range<i64>| {
        let mut appender = db.appender();
        for minute in minutes {
            for i in 0..20 {
                let name = format!("s{i:02}");
                let id = series(&mut appender, &name);
                appender.append_float(id, START + minute * MINUTE, 0.5, 0).unwrap();
                want.entry(name).or_default().insert(START + minute * MINUTE, 0.5f64.to_bits());
            }
            assert_eq!(appender.commit().unwrap().stored, 20);
        }
    };
    fill(&db, &mut want, 160..170);
    check(&db, &want, "some are back");
    drop(db);
    let db = open(scratch.path());
    check(&db, &want, "some are back, killed and opened again");
    fill(&db, &mut want, 170..330);
    cut(&db);
    check(&db, &want, "cut in order");
    db.close().unwrap();
    let db = open(scratch.path());
    fill(&db, &mut want, 330..460);
    cut(&db);
    cut_late(&db);
    check(&db, &want, "cut in order once more");
    db.close().unwrap();
    check(&open(scratch.path()), &want, "closed");
}

/// Threads append while everything there is to cut is cut, again and again.
#[test]
fn nothing_that_comes_meanwhile_is_lost() {
    let scratch = testkit::scratch();
    let db = open(scratch.path());
    let (stop, world) = (AtomicBool::new(false), World::real());
    let mut want = Samples::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let db = &db;
                scope.spawn(move || {
                    let mut taken = Samples::new();
                    let mut appender = db.appender();
                    for minute in 0..1500i64 {
                        let mut batch = Vec::new();
                        for i in 0..12i64 {
                            // Some end, and begin again under the same labels.
                            let age = (minute + i * 37) % 300;
                            if age > 200 {
                                continue;
                            }
                            let name = format!("t{thread}s{i:02}");
                            let id = series(&mut appender, &name);
                            let v = if age == 200 { stale_nan() } else { (minute * i) as f64 };
                            let late = i % 5 == 2 && minute % 3 == 0;
                            let t = START + minute * MINUTE - if late { 47 * MINUTE + 1 } else { 0 };
                            let v = if late { 0.25 } else { v };
                            if appender.append_float(id, t, v, 0).is_ok() {
                                batch.push((name, t, v.to_bits()));
                            }
                        }
                        let done = appender.commit().unwrap();
                        // What a cut overtook in an open batch comes out of order, or is told of.
                        if done.refused.total() == 0 {
                            for (name, t, v) in batch {
                                taken.entry(name).or_default().insert(t, v);
                            }
                        } else {
                            panic!("{done:?}");
                        }
                    }
                    taken
                })
            })
            .collect();
        let cutter = scope.spawn(|| {
            let mut blocks = 0;
            let (options, control) = (CutOptions::default(), Control::default());
            while !stop.load(Ordering::Relaxed) {
                blocks += db.cut_head(&world, &options, &control).unwrap().len();
                blocks += db.cut_late(&world, &options, &control).unwrap().len();
                blocks += db.cut_stale(0.1, &world, &options, &control).unwrap().len();
                read(&db);
            }
            blocks
        });
        for thread in threads {
            want.extend(thread.join().unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(cutter.join().unwrap() >= 5);
    });
    check(&db, &want, "at the end");
    drop(db);
    let db = open(scratch.path());
    check(&db, &want, "opened again");
    db.flush_head(&world, &CutOptions::default(), &Control::default()).unwrap();
    check(&db, &want, "flushed");
    assert_eq!(db.reload_blocks().unwrap(), []);
    check(&db, &want, "listed anew");
}

/// Every call of the system fails once while blocks are written: what is in no block stays in the head.
#[test]
fn a_cut_that_fails_loses_nothing() {
    let scratch = testkit::scratch_in_memory();
    let db = open(scratch.path());
    let mut want = Samples::new();
    fill(&db, 0..320, &mut want);
    let faulty = Faulty::new(Arc::new(RealDisk));
    let world = World { disk: Arc::new(faulty.clone()), ..World::real() };
    let (options, control) = (CutOptions::default(), Control::default());
    let (mut failures, mut struck) = (0, 0);
    for nth in 1.. {
        faulty.fail_once(Kind::Any, nth);
        let cut = db.maintain_head(&world, &options, &control);
        let late = db.cut_late(&world, &options, &control);
        faulty.heal();
        failures += u64::from(cut.is_err()) + u64::from(late.is_err());
        assert_same(&read(&db), &want, &format!("call {nth} failed"));
        if faulty.struck() == struck {
            break;
        }
        struck = faulty.struck();
    }
    assert!(failures >= 15, "{failures}");
    assert_eq!(db.head_times().in_order.unwrap().0, START + 2 * WIDTH);
    db.close().unwrap();
    let db = open(scratch.path());
    check(&db, &want, "opened again");
}

/// A file of chunks stays while anything in it is needed. What of it is in blocks is not there again when the directory is
/// opened anew: it would go into another block, and come back after the first one is deleted.
#[test]
fn late_samples_that_were_cut_do_not_come_back() {
    let scratch = testkit::scratch();
    let (mut in_order, mut late) = (Samples::new(), Samples::new());
    let db = open(scratch.path());
    let add = |db: &LiveDatabase, i: i64, t: i64, want: &mut Samples| {
        let name = format!("s{i}");
        let mut appender = db.appender();
        let id = series(&mut appender, &name);
        appender.append_float(id, t, i as f64, 0).unwrap();
        assert_eq!(appender.commit().unwrap().stored, 1);
        want.entry(name).or_default().insert(t, (i as f64).to_bits());
    };
    for minute in 0..150 {
        (0..5).for_each(|i| add(&db, i, START + minute * MINUTE, &mut in_order));
    }
    (1..80).for_each(|n| add(&db, n % 3, START + n * MINUTE + 1, &mut late));
    let made = cut_late(&db);
    assert_eq!(ranges(&made), [(0, 120)]);
    // These come behind, and are in no block.
    (1..40).for_each(|n| add(&db, 4, START + n * MINUTE + 1, &mut in_order));
    let all = || {
        let mut all = in_order.clone();
        late.iter().for_each(|(name, samples)| all.get_mut(name).unwrap().extend(samples));
        all
    };
    check(&db, &all(), "cut");
    drop(db);
    let db = open(scratch.path());
    check(&db, &all(), "killed and opened again");
    db.close().unwrap();
    let chunks = std::fs::read_dir(scratch.path().join("chunks_head")).unwrap().map(|e| e.unwrap());
    let kept = chunks.filter(|e| e.file_name() == "000001").count();
    assert_eq!(kept, 1, "what came in order is in there too");
    std::fs::remove_dir_all(scratch.path().join(&made[0].ulid)).unwrap();
    let db = open(scratch.path());
    check(&db, &in_order, "the block is deleted");
    let second = cut_late(&db);
    assert_eq!((second.len(), second[0].stats.num_samples), (1, 39));
    db.close().unwrap();
    check(&open(scratch.path()), &in_order, "cut once more");
}

/// Many late samples of series that had none come while all there are go into chunks.
#[test]
fn late_samples_that_come_while_they_are_cut_are_not_lost() {
    let scratch = testkit::scratch_in_memory();
    let db = open(scratch.path());
    let mut appender = db.appender();
    for i in 0..1500 {
        let id = series(&mut appender, &format!("a{i}"));
        appender.append_float(id, START + 300 * MINUTE, 1.0, 0).unwrap();
    }
    appender.commit().unwrap();
    let mut want: Samples = (0..1500)
        .map(|i| (format!("a{i}"), BTreeMap::from([(START + 300 * MINUTE, 1f64.to_bits())])))
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            let mut blocks = 0;
            while !done.load(Ordering::Relaxed) {
                blocks += cut_late(&db).len();
            }
            blocks
        });
        for i in (0..1500).rev() {
            let name = format!("a{i}");
            let id = series(&mut appender, &name);
            let samples = want.get_mut(&name).unwrap();
            for minute in 1..80 {
                let t = START + minute * MINUTE;
                appender.append_float(id, t, minute as f64, 0).unwrap();
                samples.insert(t, (minute as f64).to_bits());
            }
            appender.commit().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(cutter.join().unwrap() > 1);
    });
    check(&db, &want, "cut");
    drop(db);
    check(&open(scratch.path()), &want, "opened again");
}

/// What is deleted is what there is: late samples that come into the range afterwards are in the block that is made of
/// them, though the head's readers do not see them yet, as upstream's do not.
#[test]
fn late_samples_behind_a_deletion_go_into_blocks() {
    let scratch = testkit::scratch();
    let mut db = open(scratch.path());
    let mut want = Samples::new();
    let add = |db: &LiveDatabase, minute: i64, ms: i64| {
        let mut appender = db.appender();
        let id = series(&mut appender, "s");
        appender.append_float(id, START + minute * MINUTE + ms, minute as f64, 0).unwrap();
        assert_eq!(appender.commit().unwrap().stored, 1);
        ("s".to_string(), START + minute * MINUTE + ms, (minute as f64).to_bits())
    };
    let see = |want: &mut Samples, (name, t, v): (String, i64, u64)| {
        want.entry(name).or_default().insert(t, v);
    };
    for minute in 0..150 {
        see(&mut want, add(&db, minute, 0));
    }
    (0..40).for_each(|minute| see(&mut want, add(&db, minute, 1)));
    delete(&db, "s", (5, 30), &mut want);
    for ms in 2..6 {
        let hidden = [add(&db, 12, ms), add(&db, 25, ms)];
        see(&mut want, add(&db, 35, ms));
        check(&db, &want, "hidden");
        assert_eq!(cut_late(&db).len(), 1);
        hidden.into_iter().for_each(|s| see(&mut want, s));
        check(&db, &want, &format!("cut {ms}"));
        if ms % 2 == 1 {
            drop(db);
            db = open(scratch.path());
            check(&db, &want, &format!("opened {ms}"));
        }
    }
}
