//! What cutting the head costs: three hours of series in memory, two of them into a block.
//!
//! Not a part of `cargo test`; run `cargo bench -p tsdbctl-tsdb --bench cut`. `CUT_SERIES` sets how many series there are,
//! `CUT_DIR` where the directory is made, and kept. `CUT_ONLY=1` cuts what an earlier run left there, as it found it.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark makes its files and prints")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tsdbctl_head::live::{HeadSource, LiveOptions};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control};
use tsdbctl_testkit as testkit;
use tsdbctl_tsdb::LiveDatabase;
use tsdbctl_tsdb::head_blocks::CutOptions;
use tsdbctl_wal::SyncPolicy;

const TARGET: usize = 1000;
const START: i64 = 1_700_000_000_000 / 7_200_000 * 7_200_000;
const STEP_MS: i64 = 15_000;
const STEPS: usize = 725;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Resident memory of anonymous pages, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap_or("0");
    line.trim().split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// A counter, a gauge or a constant, as a fleet mixes them.
fn value(series: usize, scrape: usize) -> f64 {
    let noise = (series.wrapping_mul(2_654_435_761) ^ scrape.wrapping_mul(40_503)) % 1009;
    match series % 10 {
        0..=4 => (scrape * (series % 97) + series) as f64,
        5..=6 => 12.5,
        7..=8 => (series % 1000) as f64 + (noise % 16) as f64,
        _ => noise as f64 * 0.001_3,
    }
}

fn fill(db: &LiveDatabase, series: usize) {
    let mut appender = db.appender();
    for step in 0..STEPS {
        for first in (0..series).step_by(TARGET) {
            let target = first / TARGET;
            for i in first..(first + TARGET).min(series) {
                let (name, instance) = (format!("metric_{}_total", i % 40), format!("host-{target:04}:9100"));
                let (device, mode) = (format!("device{}", i / 40 % 25), format!("m{}", i % 8));
                let labels = [
                    ("__name__", name.as_str()),
                    ("cluster", "eu-west-1"),
                    ("device", &device),
                    ("env", "production"),
                    ("instance", &instance),
                    ("job", "node"),
                    ("mode", &mode),
                ];
                let id = appender.series(labels.into_iter()).unwrap();
                let t = START + step as i64 * STEP_MS + (target as i64 * 7919 % STEP_MS);
                appender.append_float(id, t, value(i, step), 0).unwrap();
            }
            appender.commit().unwrap();
        }
    }
}

fn main() {
    let series = number("CUT_SERIES", 100_000);
    let scratch = testkit::scratch();
    let dir = std::env::var("CUT_DIR").map_or_else(|_| scratch.path().to_owned(), PathBuf::from);
    let mut options = LiveOptions::default();
    options.log.sync = SyncPolicy::Os;
    let disk = Arc::new(RealDisk);
    let (db, _) = LiveDatabase::open(disk, &dir, options, &Control::default()).unwrap();
    if number("CUT_ONLY", 0) == 0 {
        let start = Instant::now();
        fill(&db, series);
        println!("filled in {:.1} s", start.elapsed().as_secs_f64());
    }
    if number("CUT_FILL_ONLY", 0) > 0 {
        db.close().unwrap();
        return;
    }
    let end = START + 7_200_000;
    let mut batch = ChunkBatch::default();
    let (start, before) = ((Instant::now(), cpu()), resident());
    db.head().end_in_order(end);
    let mut source = HeadSource::in_order(db.head(), START, end - 1);
    let sorted = (start.0.elapsed(), cpu() - start.1);
    let (mut chunks, mut bytes) = (0, 0);
    while source.next().unwrap() {
        batch.clear();
        source.chunks(&mut batch).unwrap();
        chunks += batch.len();
        bytes += batch.data_bytes();
    }
    println!(
        "source: sorted after {:.2} s ({:.2} s CPU), read after {:.2} s ({:.2} s CPU); {chunks} chunks, {bytes} bytes; {} KiB more memory",
        sorted.0.as_secs_f64(),
        sorted.1.as_secs_f64(),
        start.0.elapsed().as_secs_f64(),
        (cpu() - start.1).as_secs_f64(),
        resident().saturating_sub(before) / 1024,
    );
    drop(source);
    let (start, before) = ((Instant::now(), cpu()), resident());
    let made = db.cut_head(&World::real(), &CutOptions::default(), &Control::default()).unwrap();
    let size: u64 = db.blocks().iter().map(|b| b.size_bytes().unwrap()).sum();
    println!(
        "cut: {:.2} s ({:.2} s CPU), {} blocks, {} series, {} samples, {size} bytes; {} KiB more memory afterwards",
        start.0.elapsed().as_secs_f64(),
        (cpu() - start.1).as_secs_f64(),
        made.len(),
        made.iter().map(|m| m.stats.num_series).sum::<u64>(),
        made.iter().map(|m| m.stats.num_samples).sum::<u64>(),
        resident().saturating_sub(before) / 1024,
    );
}
