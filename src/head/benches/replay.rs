//! How fast a log is replayed, and in how much memory: whole, for one metric of a hundred, for the newest time only, and
//! into a live head.
//!
//! Not a part of `cargo test`; run `cargo bench -p tsdbctl-head --bench replay`. `REPLAY_SERIES` and `REPLAY_SAMPLES`
//! set how many series and how many samples of each the made log has, `REPLAY_DIR` where it is kept for the next run,
//! `REPLAY_ONLY` which one is measured.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark makes its files and prints")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tsdbctl_head::live::LiveOptions;
use tsdbctl_head::live::load::load;
use tsdbctl_head::{HeadOptions, ReadHead, newest_sample_time};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{Budget, Control, Interrupt};
use tsdbctl_wal::record::{SampleEntry, encode};
use tsdbctl_wal::{Compression, PageWriter};

/// Series of one target, which come in one record.
const TARGET: u64 = 1000;
const METRICS: u64 = 100;
const START: i64 = 1_700_000_000_000;
const SEGMENT: usize = 128 << 20;

struct Log {
    dir: PathBuf,
    writer: PageWriter,
    bytes: Vec<u8>,
    number: usize,
}

impl Log {
    fn append(&mut self, record: &[u8]) {
        self.writer.append(record);
        self.bytes.append(&mut self.writer.take());
        if self.bytes.len() >= SEGMENT {
            self.end_segment();
        }
    }

    fn end_segment(&mut self) {
        std::fs::write(self.dir.join(format!("{:08}", self.number)), &self.bytes).unwrap();
        self.bytes.clear();
        self.number += 1;
        self.writer = PageWriter::new(Compression::Snappy, 0);
    }
}

fn make(dir: &Path, series: u64, samples: i64) {
    let wal = dir.join("wal");
    std::fs::create_dir_all(&wal).unwrap();
    let writer = PageWriter::new(Compression::Snappy, 0);
    let mut log = Log { dir: wal, writer, bytes: Vec::new(), number: 0 };
    let mut record = Vec::new();
    for target in 0..series / TARGET {
        let sets: Vec<(u64, Labels)> = (0..TARGET)
            .map(|i| {
                let pairs = [
                    ("__name__".to_string(), format!("application_metric_number_{:02}_total", i % METRICS)),
                    ("container".to_string(), "server".to_string()),
                    ("endpoint".to_string(), "http-metrics".to_string()),
                    ("instance".to_string(), format!("10.{}.{}.17:9090", target / 256, target % 256)),
                    ("job".to_string(), format!("job-{}", target % 40)),
                    ("le".to_string(), format!("{}", i / METRICS)),
                    ("namespace".to_string(), format!("team-{}", target % 25)),
                    (
                        "pod".to_string(),
                        format!("server-{:x}-{target}", target * 2_654_435_761 % 0xffff_ffff),
                    ),
                ];
                (1 + target * TARGET + i, Labels::from_pairs(pairs))
            })
            .collect();
        record.clear();
        encode::series(&mut record, sets.iter().map(|(r, l)| (*r, l)));
        log.append(&record);
    }
    let mut entries = Vec::new();
    for k in 0..samples {
        for target in 0..series / TARGET {
            entries.clear();
            let jitter = i64::from((k as u64 * 31 + target * 17).is_multiple_of(33)) * 3;
            entries.extend((0..TARGET).map(|i| {
                let noise =
                    (k as u64 * 7919 + i * 104_729 + target * 1_299_709).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                // As a fleet has it: two of five never change, some count, some are measured.
                let value = match i % 10 {
                    0..4 => i as f64,
                    4..7 => (k * (i as i64 % 7 + 1) * 10 + (noise >> 61) as i64 + i as i64) as f64,
                    _ => ((noise >> 50) % 4096) as f64 / 8.0,
                };
                SampleEntry {
                    series: 1 + target * TARGET + i,
                    start_timestamp_ms: 0,
                    timestamp_ms: START + k * 15_000 + target as i64 * 7 % 15_000 + jitter,
                    value,
                }
            }));
            record.clear();
            encode::samples(&mut record, &entries);
            log.append(&record);
        }
    }
    log.end_segment();
}

/// Memory of the process without mapped files, bytes.
fn memory() -> u64 {
    status("RssAnon:")
}

/// A line of the process' status, bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The most memory the process had, while `run` ran.
fn peak<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(memory(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let found = run();
        done.store(true, Ordering::Relaxed);
        (found, most.load(Ordering::Relaxed))
    })
}

/// Seconds of processor time used so far.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = |i: usize| -> f64 {
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_whitespace().nth(i).and_then(|n| n.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn measure(what: &str, samples: f64, run: impl Fn(&Control) -> String) {
    let only = std::env::var("REPLAY_ONLY").unwrap_or_default();
    if !only.is_empty() && only != what {
        return;
    }
    for _ in 0..2 {
        let control = Control::new(Interrupt::default(), Budget::unlimited(), None);
        let (wall, cpu, before) = (Instant::now(), cpu_s(), memory());
        let (found, peak) = peak(|| run(&control));
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_s() - cpu);
        println!(
            "{what}: {wall:.2} s, {:.0} ns a sample; processors {cpu:.2} s, {:.0} ns; memory {} MiB, of which \
             counted {} MiB; {found}",
            wall * 1e9 / samples,
            cpu * 1e9 / samples,
            peak.saturating_sub(before) >> 20,
            control.budget.peak() >> 20
        );
    }
}

fn main() {
    let number = |key: &str, default: u64| -> u64 {
        std::env::var(key).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let (series, samples) = (number("REPLAY_SERIES", 1_000_000), number("REPLAY_SAMPLES", 30));
    let scratch = tempfile::tempdir().unwrap();
    let dir = std::env::var("REPLAY_DIR").map_or(scratch.path().to_owned(), PathBuf::from);
    if !dir.join("wal").exists() {
        make(&dir, series, samples as i64);
    }
    let all = (series * samples) as f64;
    measure("newest time", all, |c| format!("{:?}", newest_sample_time(&dir, c).unwrap()));
    let one = [vec![Matcher::equal("__name__", "application_metric_number_07_total")]];
    let found = |options: &HeadOptions<'_>, control: &Control| {
        let head = ReadHead::open(&dir, options, control).unwrap().unwrap();
        format!("{} series", head.series_count())
    };
    measure("one metric", all, |c| found(&HeadOptions { selections: &one, ..Default::default() }, c));
    let last = START + samples as i64 * 15_000;
    let recent = HeadOptions { mint: last - 300_000, ..Default::default() };
    measure("all series, last 5 minutes", all, |c| found(&recent, c));
    measure("all", all, |c| found(&HeadOptions::default(), c));
    measure("live", all, |c| {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let _ = std::fs::remove_dir_all(dir.join("chunks_head"));
        let loaded = load(&disk, &dir, &LiveOptions::default(), i64::MIN, c).unwrap();
        let shards: usize = loaded.shards.iter().map(|s| s.lock().unwrap().bytes()).sum();
        format!(
            "{} series, {} samples; index {} MiB, shards {} MiB; most resident {} MiB",
            loaded.index.len(),
            loaded.report.samples,
            loaded.index.bytes() >> 20,
            shards >> 20,
            status("VmHWM:") >> 20
        )
    });
    let _ = std::fs::remove_dir_all(dir.join("chunks_head"));
}
