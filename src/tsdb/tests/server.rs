//! A server's days: samples come, in order and late, series end and begin anew, some of it is deleted, while the head is
//! cut once a minute, blocks are merged and readers look. Each sample is there once, at any time, and after a kill.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::LiveOptions;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{Matcher, SymbolTable};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, TimeFilter};
use tsdbctl_testkit as testkit;
use tsdbctl_tsdb::compaction::{Event, compact};
use tsdbctl_tsdb::compaction_plan::{CompactionOptions, ranges_up_to};
use tsdbctl_tsdb::head_blocks::CutOptions;
use tsdbctl_tsdb::{BlockEntry, Database, LiveDatabase, OpenOptions};

const MINUTE: i64 = 60_000;
const WIDTH: i64 = 120 * MINUTE;
/// At a boundary of all ranges.
const START: i64 = 1_700_000_000_000 / (27 * WIDTH) * (27 * WIDTH);
/// How far the samples may be ahead of who cuts.
const LEAD_MINUTES: i64 = 200;
/// Series that have a sample every minute.
const STEADY: i64 = 8;
/// Series of which some is late.
const LATE: i64 = 6;
/// Series that end and begin again.
const FLEETING: i64 = 6;

/// Of every series, by time.
type Samples = BTreeMap<String, BTreeMap<i64, u64>>;

fn open(dir: &Path) -> LiveDatabase {
    let mut options = LiveOptions { out_of_order_window_ms: 10 * WIDTH, ..LiveOptions::default() };
    options.log.segment_bytes = 64 << 10;
    options.log.sync = tsdbctl_wal::SyncPolicy::Os;
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
        let mut all = BTreeMap::new();
        for (t, v) in columns.floats.t.iter().zip(&columns.floats.v) {
            assert_eq!(all.insert(*t, v.to_bits()), None, "twice at {t}");
        }
        if !all.is_empty() {
            assert!(out.insert(symbols.labels(set.labels(i)).get("__name__").to_string(), all).is_none());
        }
    }
    out
}

fn assert_same(found: &Samples, want: &Samples, what: &str) {
    let none = BTreeMap::new();
    for name in found.keys().chain(want.keys()) {
        let (found, want) = (found.get(name).unwrap_or(&none), want.get(name).unwrap_or(&none));
        let lost = want.iter().find(|(t, v)| found.get(t) != Some(v)).map(|(t, _)| (t - START) / MINUTE);
        let extra = found.keys().find(|t| !want.contains_key(t)).map(|t| (t - START) / MINUTE);
        assert_eq!((lost, extra), (None, None), "{what}: {name}, minutes of lost and extra ones");
    }
}

fn check(db: &LiveDatabase, want: &Samples, what: &str) {
    assert_same(&read(db, &[]), want, what);
    let from_outside = Database::open(&[db.dir().to_owned()], OpenOptions::default()).unwrap();
    assert_same(&read(&from_outside, &[]), want, &format!("{what}, from outside"));
}

/// Merges blocks as a server does; how many were made.
fn merge(db: &LiveDatabase, world: &World) -> usize {
    let options =
        CompactionOptions { ranges_ms: ranges_up_to(WIDTH, 9 * WIDTH), ..CompactionOptions::default() };
    let mut observer = |event: Event<'_>| match event {
        Event::Installed(into, gone) => {
            let gone: Vec<&str> = gone.iter().map(|b| &*b.meta.ulid).collect();
            let new = into.map(|b| BlockEntry::read(&db.dir().join(&b.meta.ulid)).unwrap());
            db.replace_blocks(&gone, new.into_iter().collect());
        }
        Event::Removing(blocks) => {
            let gone: Vec<&str> = blocks.iter().map(|(b, _)| &*b.meta.ulid).collect();
            db.replace_blocks(&gone, Vec::new());
        }
        Event::Quarantined(block) => panic!("{block:?}"),
        _ => {}
    };
    let outcome = compact(world, db.dir(), &options, &Control::default(), &mut observer);
    assert!(outcome.stopped.is_none(), "{:?}", outcome.stopped);
    outcome.written.len()
}

/// What threads tell each other.
struct Clockwork<'a> {
    db: &'a LiveDatabase,
    /// Samples of all minutes before are there.
    minute: AtomicI64,
    /// The minute that there was when the head was looked after.
    looked_after: AtomicI64,
    is_over: AtomicBool,
    want: Mutex<&'a mut Samples>,
}

impl Clockwork<'_> {
    fn append(&self, minutes: std::ops::Range<i64>) {
        let mut appender = self.db.appender();
        for minute in minutes {
            while minute > self.looked_after.load(Ordering::Acquire) + LEAD_MINUTES {
                assert!(!self.is_over.load(Ordering::Acquire), "who cuts has failed");
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut batch = Vec::new();
            for i in 0..STEADY {
                batch.push((format!("steady{i}"), START + minute * MINUTE, (minute * i) as f64));
            }
            for i in 0..LATE {
                let noise = (minute * LATE + i).wrapping_mul(0x5851_f42d_4c95_7f2d) as u64 >> 33;
                // No two at one time.
                let late =
                    if noise.is_multiple_of(3) { (noise % 900) as i64 * MINUTE + 1 + minute } else { 0 };
                let t = START + minute * MINUTE - late;
                batch.push((format!("late{i}"), t, noise as f64));
            }
            for i in 0..FLEETING {
                let age = (minute + i * 53) % 400;
                let v = if age == 250 { stale_nan() } else { minute as f64 };
                if age <= 250 {
                    batch.push((format!("fleeting{i}"), START + minute * MINUTE, v));
                }
            }
            for (name, t, v) in &batch {
                let id = appender.series([("__name__", name.as_str()), ("job", "x")].into_iter()).unwrap();
                appender.append_float(id, *t, *v, 0).unwrap();
            }
            let done = appender.commit().unwrap();
            assert_eq!(done.refused.total(), 0, "{minute}: {done:?}");
            let mut want = self.want.lock().unwrap();
            for (name, t, v) in batch {
                want.entry(name).or_default().entry(t).or_insert(v.to_bits());
            }
            if minute % 150 == 149 {
                let cuts = self.db.hold_cuts();
                let (mint, maxt) = (START + (minute - 25) * MINUTE, START + (minute - 20) * MINUTE);
                for name in ["steady0", "fleeting0"] {
                    let matchers = [Matcher::equal("__name__", name)];
                    self.db.head().delete(mint, maxt, &matchers, &Control::default()).unwrap();
                    want.get_mut(name).unwrap().retain(|t, _| !(mint..=maxt).contains(t));
                }
                drop(cuts);
            }
            drop(want);
            self.minute.store(minute + 1, Ordering::Release);
        }
        self.is_over.store(true, Ordering::Release);
    }

    /// Cuts and merges; blocks that were made by each.
    fn look_after(&self, world: &World) -> (usize, usize) {
        let options = CutOptions { stale_threshold: 0.05, ..CutOptions::default() };
        let (mut cut, mut merged) = (0, 0);
        loop {
            let is_last = self.is_over.load(Ordering::Acquire);
            let minute = self.minute.load(Ordering::Acquire);
            // The hour's cut is not awaited: time is what the samples say.
            cut += self.db.maintain_head(world, &options, &Control::default()).unwrap().len();
            cut += self.db.cut_stale(0.05, world, &options, &Control::default()).unwrap().len();
            merged += merge(self.db, world);
            self.looked_after.store(minute, Ordering::Release);
            if is_last {
                return (cut, merged);
            }
        }
    }

    /// Looks until all is over; how often.
    fn look(&self) -> usize {
        let mut looks = 0;
        while !self.is_over.load(Ordering::Acquire) {
            let minute = self.minute.load(Ordering::Acquire);
            let found = read(self.db, &[Matcher::equal("__name__", "steady3")]);
            let got = found.get("steady3").map(|s| s.range(..START + minute * MINUTE).count());
            let there = |m: &i64| found.get("steady3").is_some_and(|s| s.contains_key(&(START + m * MINUTE)));
            let lost: Vec<i64> = (0..minute).filter(|m| !there(m)).collect();
            assert_eq!((got.unwrap_or(0) as i64, &*lost), (minute, &[][..]), "seen at {minute}");
            looks += 1;
        }
        looks
    }
}

#[test]
fn days_of_a_server() {
    let scratch = testkit::scratch_in_memory();
    let world = World::real();
    let mut want = Samples::new();
    let mut minute = 0;
    for (days, minutes) in [1700, 900, 1100].into_iter().enumerate() {
        let db = open(scratch.path());
        check(&db, &want, &format!("opened {days}"));
        let work = Clockwork {
            db: &db,
            minute: AtomicI64::new(minute),
            looked_after: AtomicI64::new(minute),
            is_over: AtomicBool::new(false),
            want: Mutex::new(&mut want),
        };
        std::thread::scope(|scope| {
            let (work, world) = (&work, &world);
            let cutter = scope.spawn(move || {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.look_after(world)));
                work.is_over.store(true, Ordering::Release);
                done
            });
            let reader = scope.spawn(|| work.look());
            work.append(minute..minute + minutes);
            let (cut, merged) = cutter.join().unwrap().unwrap_or_else(|e| std::panic::resume_unwind(e));
            assert!(cut > 5 && merged > 2, "{cut} {merged}");
            assert!(reader.join().unwrap() > 2);
        });
        minute += minutes;
        check(&db, &want, &format!("part {days}"));
        if days == 1 {
            db.flush_head(&world, &CutOptions::default(), &Control::default()).unwrap();
            merge(&db, &world);
            check(&db, &want, "flushed");
            db.close().unwrap();
        }
        // Else it is killed.
    }
    let db = open(scratch.path());
    check(&db, &want, "opened at last");
    merge(&db, &world);
    check(&db, &want, "merged at last");
}
