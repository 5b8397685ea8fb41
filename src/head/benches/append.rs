//! What an append costs: series made, then scrapes of 1,000 neighbouring series, validated, logged and applied; and the
//! memory that they take.
//!
//! Not a part of `cargo test`; run `cargo bench -p tsdbctl-head --bench append`. `APPEND_SERIES` and `APPEND_SCRAPES`
//! set how many series there are and how often each is scraped, `APPEND_DIR` where the directory is made.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark makes its files and prints")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tsdbctl_head::live::{Appender, Head, LiveOptions, SeriesId};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::Control;

const TARGET: usize = 1000;
const START: i64 = 1_700_000_000_000;
const INTERVAL_MS: i64 = 15_000;

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

fn main() {
    let (series, scrapes) = (number("APPEND_SERIES", 200_000), number("APPEND_SCRAPES", 130));
    let scratch = tempfile::tempdir().unwrap();
    let dir = std::env::var("APPEND_DIR").map_or_else(|_| scratch.path().to_owned(), PathBuf::from);
    let options = LiveOptions::default();
    let (head, _) = Head::open(Arc::new(RealDisk), &dir, options, i64::MIN, &Control::default()).unwrap();
    let mut appender = Appender::new(Arc::clone(&head));
    let before = resident();

    let start = (Instant::now(), cpu());
    let mut ids: Vec<SeriesId> = Vec::with_capacity(series);
    for target in 0..series / TARGET {
        let (instance, job) = (format!("host-{target:05}:9100"), format!("job-{:02}", target % 20));
        for metric in 0..TARGET {
            let (name, cpu) = (format!("metric_{:03}_total", metric / 10), format!("{}", metric % 10));
            let labels = [
                ("__name__", name.as_str()),
                ("cluster", "eu-1"),
                ("cpu", &cpu),
                ("env", "production"),
                ("instance", &instance),
                ("job", &job),
                ("region", "eu-central"),
                ("team", "storage"),
                ("zone", "a"),
            ];
            ids.push(appender.series(labels.into_iter()).unwrap());
        }
        appender.commit().unwrap();
    }
    let per = |d: Duration, n: usize| d.as_nanos() as f64 / n as f64;
    println!(
        "{} series: {:.0} ns each ({:.0} CPU), {:.0} B each",
        ids.len(),
        per(start.0.elapsed(), ids.len()),
        per(cpu() - start.1, ids.len()),
        (resident() - before) as f64 / ids.len() as f64
    );

    let mut samples = Vec::with_capacity(TARGET);
    let (mut checks, mut commits, mut wall) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for scrape in 0..scrapes {
        let begin = Instant::now();
        for (target, own) in ids.chunks(TARGET).enumerate() {
            let jitter = (target * 7919 + scrape * 31) % 450;
            let t = START + scrape as i64 * INTERVAL_MS + jitter as i64;
            samples.clear();
            samples
                .extend(own.iter().enumerate().map(|(i, id)| (*id, t, value(target * TARGET + i, scrape))));
            let t0 = cpu();
            appender.append_floats(&samples, |_, refusal| panic!("{refusal}"));
            let t1 = cpu();
            appender.commit().unwrap();
            let t2 = cpu();
            checks += t1 - t0;
            commits += t2 - t1;
        }
        wall += begin.elapsed();
        if [6, 60, 119, 121, 240, 480].contains(&(scrape + 1)) || scrape + 1 == scrapes {
            let n = ids.len() * (scrape + 1);
            println!(
                "{:4} samples: {:.0} ns each ({:.1} checks, {:.1} commit, CPU), {:.0} B per series, head says {:.0}",
                scrape + 1,
                per(wall, n),
                per(checks, n),
                per(commits, n),
                (resident() - before) as f64 / ids.len() as f64,
                head.bytes() as f64 / ids.len() as f64
            );
        }
    }
    drop(appender);
    head.close().unwrap();
}
