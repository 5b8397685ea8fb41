//! A fleet of targets taken in as a scraper takes it: bodies made ahead, parsed, looked up, appended and committed to a
//! log that is synced in groups. What a sample costs, what a new series costs, what a series takes in memory; before
//! that, on a smaller fleet, whether what is stored is what was sent.
//!
//! ```text
//! cargo bench --bench fleet                  the check, then the fleet
//! cargo bench --bench fleet -- memory        no text and no scrape cache: resident bytes per series
//! cargo bench --bench fleet -- check
//! ```
//!
//! `FLEET_TARGETS` (1000), `FLEET_SERIES` (1000 each), `FLEET_SCRAPES` (12), `FLEET_SYNC` (group, always, os),
//! `FLEET_WAL` (snappy, zstd, none), `FLEET_DIR` (where the data directory is made, removed at the end).
//!
//! Only the thread that parses, appends and commits is counted; the log's syncing thread is told apart, the one that
//! makes the bodies is not counted at all.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark makes its files and prints")]

mod model;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use model::{Random, Target};
use tsdbctl::ingest::exposition::{Reading, read_lines};
use tsdbctl::ingest::input::Input;
use tsdbctl::ingest::patience::{OnDiskError, Patience};
use tsdbctl::ingest::run::{OnError, Run};
use tsdbctl::ingest::series::SeriesCache;
use tsdbctl::ingest::sink::{Settings, Sink, Sort};
use tsdbctl::ui::{Progress, Ui};
use tsdbctl_chunk::SampleColumns;
use tsdbctl_exposition::{Format, Options};
use tsdbctl_head::live::{Appender, LiveOptions, SeriesId};
use tsdbctl_model::{Labels, SymbolTable};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::signal::stop_flag;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, TimeFilter};
use tsdbctl_tsdb::LiveDatabase;
use tsdbctl_wal::{Compression, LogOptions, SyncPolicy};

const START: i64 = 1_795_000_000_000;
const INTERVAL_MS: i64 = 15_000;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// CPU time of this thread, ns.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// CPU time of the threads that carry a name, ns.
fn cpu_of(name: &str) -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter(|t| {
            std::fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm.trim().starts_with(name))
        })
        .filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()))
        .sum()
}

/// A line of `/proc/self/status`, bytes.
fn status(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(line)).unwrap_or("0");
    line.trim().split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn options() -> LiveOptions {
    let sync = match std::env::var("FLEET_SYNC").as_deref() {
        Ok("os") => SyncPolicy::Os,
        Ok("always") => SyncPolicy::Always,
        _ => SyncPolicy::Group,
    };
    let compression = match std::env::var("FLEET_WAL").as_deref() {
        Ok("zstd") => Compression::Zstd,
        Ok("none") => Compression::None,
        _ => Compression::Snappy,
    };
    LiveOptions { log: LogOptions { compression, sync, ..LogOptions::default() }, ..LiveOptions::default() }
}

/// Which targets are scraped when, round by round, ms: a few come late or early.
struct Schedule(Random);

impl Schedule {
    fn time(&mut self, step: u64, phase: f64) -> i64 {
        let at = START + ((step as f64 + phase) * INTERVAL_MS as f64) as i64;
        let late = if self.0.unit() < 0.03 { [-1, 1, 2, 3][self.0.number() as usize % 4] } else { 0 };
        at + late
    }
}

/// The targets in the order in which they are scraped.
fn fleet(targets: usize, series: usize) -> Vec<Target> {
    let mut all: Vec<Target> = (0..targets).map(|i| Target::new(i, series)).collect();
    all.sort_by(|a, b| a.phase.total_cmp(&b.phase));
    all
}

/// The bodies of a round: time of the scrape, text.
type Bodies = Vec<(i64, Vec<u8>)>;

fn bodies(targets: &mut [Target], step: u64, schedule: &mut Schedule) -> Bodies {
    let one = |target: &mut Target| {
        let mut body = Vec::with_capacity(64 << 10);
        target.body(step, &mut body);
        (schedule.time(step, target.phase), body)
    };
    targets.iter_mut().map(one).collect()
}

/// What `ingest` is made of, taking scrapes of many targets.
struct Scraper<'a> {
    run: Run<'a>,
    targets: Vec<(SeriesCache, Labels)>,
}

impl<'a> Scraper<'a> {
    fn new(database: &LiveDatabase, ui: &'a mut Ui, labels: impl Iterator<Item = Labels>) -> Self {
        let settings = Settings {
            sort: Sort::Never,
            buffer_bytes: 1 << 30,
            series_bytes: usize::MAX,
            behind_ms: 3_600_000,
            ..Settings::default()
        };
        let patience = Arc::new(Patience::new(database.dir(), OnDiskError::Stop, stop_flag()));
        let run = Run {
            sink: Sink::new(database.appender(), settings, patience),
            ui,
            on_error: OnError::Stop,
            timestamp_ms: None,
            needs_times: false,
            start_timestamps: false,
            stop: stop_flag(),
            unreadable: 0,
            progress: Progress::hidden(),
        };
        Self { run, targets: labels.map(|l| (SeriesCache::default(), l)).collect() }
    }

    fn take(&mut self, bodies: Bodies) {
        for ((t, body), (cache, added)) in bodies.into_iter().zip(&mut self.targets) {
            self.run.sink.swap_target(cache, added);
            self.run.timestamp_ms = Some(t);
            let mut input = Input::of_bytes("body".to_owned(), body);
            let reading = Reading { format: Format::Text, options: Options::default(), guessed: false };
            read_lines(&mut input, reading, &mut self.run).expect("the body is read");
            self.run.sink.flush().expect("the body is committed");
            self.run.sink.swap_target(cache, added);
        }
    }
}

fn open(dir: &Path) -> LiveDatabase {
    let opened = LiveDatabase::open(Arc::new(RealDisk), dir, options(), &Control::default());
    opened.expect("the data directory is opened").0
}

type Dump = HashMap<String, Vec<(i64, u64)>>;

fn dump(database: &LiveDatabase) -> Dump {
    let querier = database.querier(i64::MIN, i64::MAX, &[], &Control::default()).expect("a querier");
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &[], &mut symbols, &Control::default()).expect("series");
    let everything = TimeFilter::all_between(i64::MIN, i64::MAX);
    let one = |i: usize| {
        let mut out = SampleColumns::default();
        set.read(i, &everything, &mut out, &mut ReadStats::default()).expect("samples");
        let samples = out.floats.t.iter().zip(&out.floats.v).map(|(t, v)| (*t, v.to_bits())).collect();
        (symbols.labels(set.labels(i)).to_string(), samples)
    };
    (0..set.len()).map(one).collect()
}

/// Ingests a small fleet and compares what is stored with the bodies, read another way; then once more after a start.
fn check(dir: &Path) {
    let (targets, series, scrapes) = (20, 1000, 300);
    let mut all = fleet(targets, series);
    let mut want = Dump::new();
    let mut ui = Ui::stdio(false);
    let database = open(dir);
    let mut scraper = Scraper::new(&database, &mut ui, all.iter().map(|t| t.added.clone()));
    let mut schedule = Schedule(Random::new(99));
    for step in 0..scrapes {
        let round = bodies(&mut all, step, &mut schedule);
        for ((t, body), target) in round.iter().zip(&all) {
            let text = std::str::from_utf8(body).expect("text");
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            for (i, line) in lines.enumerate() {
                let v: f64 = line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a value");
                want.entry(target.labels(i).to_string()).or_default().push((*t, v.to_bits()));
            }
        }
        scraper.take(round);
    }
    let (counts, finished) = scraper.run.sink.finish();
    finished.expect("all is committed");
    let count: usize = want.values().map(Vec::len).sum();
    assert_eq!((counts.stored, count), ((targets * series) as u64 * scrapes, counts.stored as usize));
    assert!(dump(&database) == want, "what is stored is not what was sent");
    database.close().expect("closed");
    let database = open(dir);
    assert!(dump(&database) == want, "what is stored is something else after a start");
    println!("check   {} series, {count} samples: the dump is the input, also after a start", want.len());
}

/// Makes rounds of bodies on a thread of its own.
fn ahead(mut all: Vec<Target>, scrapes: u64) -> Receiver<Bodies> {
    let (send, rounds) = sync_channel(1);
    let make = move || {
        let mut schedule = Schedule(Random::new(99));
        for step in 0..scrapes {
            if send.send(bodies(&mut all, step, &mut schedule)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("bodies".to_owned()).spawn(make).expect("a thread");
    rounds
}

fn ingest(dir: &Path) {
    let (targets, series) = (number("FLEET_TARGETS", 1000), number("FLEET_SERIES", 1000));
    let scrapes = number("FLEET_SCRAPES", 12) as u64;
    let all = fleet(targets, series);
    let labels: Vec<Labels> = all.iter().map(|t| t.added.clone()).collect();
    let mut ui = Ui::stdio(false);
    let database = open(dir);
    let mut scraper = Scraper::new(&database, &mut ui, labels.into_iter());
    let (mut steady, mut steady_samples, mut steady_bytes) = (0, 0, 0);
    let syncer = cpu_of("log-sync");
    let began = Instant::now();
    for (step, round) in ahead(all, scrapes).into_iter().enumerate() {
        let bytes: usize = round.iter().map(|b| b.1.len()).sum();
        let before = (cpu(), scraper.run.sink.counts.stored, wal_bytes(dir));
        scraper.take(round);
        let samples = scraper.run.sink.counts.stored - before.1;
        let spent = cpu() - before.0;
        if step == 0 {
            let each = spent as f64 / samples as f64;
            println!(
                "create  {samples} series: {:.2} s, {each:.0} ns each, sample included",
                spent as f64 / 1e9
            );
        } else {
            steady += spent;
            steady_samples += samples;
            steady_bytes += wal_bytes(dir) - before.2;
            if std::env::var_os("FLEET_VERBOSE").is_some() {
                let each = spent as f64 / samples as f64;
                println!("round   {step}: {each:.0} ns a sample, {} B of text each", bytes as u64 / samples);
            }
        }
    }
    let n = steady_samples.max(1) as f64;
    println!(
        "steady  {steady_samples} samples: {:.0} ns of CPU each, {:.2} M/s per core; log {:.2} B each; its syncs {:.1} ns each; {:.1} s in all",
        steady as f64 / n,
        n / steady as f64 * 1e3,
        steady_bytes as f64 / n,
        (cpu_of("log-sync") - syncer) as f64 / n,
        began.elapsed().as_secs_f64()
    );
    let (counts, finished) = scraper.run.sink.finish();
    finished.expect("all is committed");
    assert_eq!(counts.stored, (targets * series) as u64 * scrapes);
    database.close().expect("closed");
}

fn wal_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("wal")).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

fn memory(dir: &Path) {
    let (targets, series) = (number("FLEET_TARGETS", 1000), number("FLEET_SERIES", 1000));
    let scrapes = number("FLEET_SCRAPES", 241) as u64;
    let mut all = fleet(targets, series);
    let mut ids: Vec<SeriesId> = Vec::with_capacity(targets * series);
    let mut values: Vec<(SeriesId, i64, f64)> = Vec::with_capacity(series);
    let before = status("RssAnon:");
    let database = open(dir);
    let mut appender: Appender = database.appender();
    let mut schedule = Schedule(Random::new(99));
    let head = Arc::clone(database.head());
    for step in 0..scrapes {
        let mut spent = 0;
        for (n, target) in all.iter_mut().enumerate() {
            let t = schedule.time(step, target.phase);
            if step == 0 {
                for i in 0..target.len() {
                    let labels = target.labels(i);
                    let began = cpu();
                    let id = appender.series(labels.iter().map(|l| (&*l.name, &*l.value)));
                    spent += cpu() - began;
                    ids.push(id.expect("a series"));
                }
            }
            values.clear();
            let own = &ids[n * series..];
            target.values(step, |i, v| values.push((own[i], t, v)));
            let began = cpu();
            appender.append_floats(&values, |i, refusal| panic!("{i}: {refusal:?}"));
            appender.commit().expect("committed");
            if n % 64 == 0 {
                database.maintain().expect("chunks are written");
            }
            spent += cpu() - began;
        }
        let samples = step + 1;
        if samples.is_multiple_of(60) || [1, 6, 119, 121].contains(&samples) {
            let count = ids.len() as u64;
            let used = head.bytes();
            println!(
                "{samples:5} samples: {:4} B a series (peak {}), of which the head counts {}; {:.0} ns a sample",
                (status("RssAnon:") - before) / count,
                status("VmHWM:").saturating_sub(before) / count,
                used / count,
                spent as f64 / count as f64
            );
        }
    }
    drop(appender);
    database.close().expect("closed");
}

fn main() {
    let what = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let scratch = std::env::var("FLEET_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let dir = scratch.join(format!("fleet-{}", std::process::id()));
    match what.as_str() {
        "memory" => memory(&dir),
        "check" => check(&dir),
        "ingest" => ingest(&dir),
        _ => {
            check(&dir);
            let _ = std::fs::remove_dir_all(&dir);
            ingest(&dir);
        }
    }
    if std::env::var_os("FLEET_KEEP").is_none() {
        let _ = std::fs::remove_dir_all(&dir);
    }
}
