//! What a sample costs on its way into the log: encoded, packed, framed, written; and its bytes there. The values move
//! as those of machines, services and containers do.

#![allow(clippy::print_stderr, reason = "sizes are shown beside the times")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_wal::record::{SampleEntry, encode};
use tsdbctl_wal::{Compression, LogOptions, LogWriter, RecordPacker, SyncPolicy};

const SERIES: usize = 1000;
const SCRAPES: usize = 240;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a value moves.
#[derive(Clone, Copy)]
enum Kind {
    Still(f64),
    /// A whole-number counter with about this step.
    Counter(f64),
    /// Grows half of the time, in units of 512.
    Bursts(f64),
    /// A counter whose unit is a part of one.
    Parts(f64, f64),
    /// A sum of arbitrary numbers.
    Sum(f64),
    /// A size in pages that wanders.
    Pages(f64),
    Rarely(f64),
    Small(f64),
    /// Any number around this one.
    Around(f64),
}

/// Series of each kind in a thousand of a fleet.
const FLEET: [(usize, Kind); 21] = [
    (208, Kind::Still(0.0)),
    (79, Kind::Still(1.0)),
    (103, Kind::Still(5.4e8)),
    (208, Kind::Counter(3000.0)),
    (51, Kind::Counter(260.0)),
    (16, Kind::Counter(9e4)),
    (39, Kind::Counter(7e7)),
    (20, Kind::Bursts(6e6)),
    (65, Kind::Parts(700.0, 100.0)),
    (11, Kind::Parts(900.0, 1000.0)),
    (21, Kind::Parts(1.4e9, 1e9)),
    (16, Kind::Sum(60.0)),
    (99, Kind::Pages(3e8)),
    (21, Kind::Rarely(9e7)),
    (4, Kind::Rarely(3e7)),
    (10, Kind::Small(120.0)),
    (4, Kind::Small(3000.0)),
    (1, Kind::Small(4e5)),
    (9, Kind::Small(430.0)),
    (10, Kind::Around(0.004)),
    (5, Kind::Around(1.0)),
];

fn step(random: &mut Random, kind: Kind, v: f64) -> f64 {
    match kind {
        Kind::Still(_) => v,
        Kind::Counter(a) => v + (a * (0.5 + random.next())).floor(),
        Kind::Bursts(a) if random.next() < 0.5 => v + (random.next() * a / 256.0).floor() * 512.0,
        Kind::Bursts(_) => v,
        Kind::Parts(a, unit) => ((v * unit).round() + (a * (0.5 + random.next())).floor()) / unit,
        Kind::Sum(a) => v + a * 2.0 * random.next(),
        Kind::Pages(a) if random.next() < 0.65 => {
            v + ((random.next() - 0.5) * a / 4096.0 * 0.002).floor() * 4096.0
        }
        Kind::Rarely(_) if random.next() < 0.05 => v + ((random.next() - 0.5) * 5000.0).floor(),
        Kind::Small(a) if random.next() < 0.5 => v + ((random.next() - 0.5) * (a * 0.1).max(2.0)).round(),
        Kind::Around(a) => a * (1.0 + 0.05 * (random.next() - 0.5)),
        _ => v,
    }
}

/// The samples of scrapes of a thousand series, each with one time.
fn scrapes() -> Vec<Vec<SampleEntry<f64>>> {
    let mut random = Random(9_871_234_567);
    let kinds: Vec<Kind> = FLEET.iter().flat_map(|(n, kind)| std::iter::repeat_n(*kind, *n)).collect();
    assert_eq!(kinds.len(), SERIES);
    // Kinds lie in runs, as the metrics of a page do.
    let kinds: Vec<Kind> = (0..SERIES).map(|i| kinds[(i / 8 * 8 * 387 + i % 8) % SERIES]).collect();
    let mut values: Vec<f64> = kinds
        .iter()
        .map(|kind| match kind {
            Kind::Still(a) => *a,
            Kind::Counter(a) | Kind::Bursts(a) | Kind::Sum(a) => (random.next() * a * 1e4).floor(),
            Kind::Parts(a, unit) => (random.next() * a * 1e4).floor() / unit,
            Kind::Pages(a) => (random.next() * a / 4096.0).floor() * 4096.0,
            Kind::Rarely(a) | Kind::Small(a) | Kind::Around(a) => *a,
        })
        .collect();
    (0..SCRAPES)
        .map(|scrape| {
            (0..SERIES)
                .map(|i| {
                    values[i] = step(&mut random, kinds[i], values[i]);
                    SampleEntry {
                        series: 100_000 + i as u64,
                        start_timestamp_ms: 0,
                        timestamp_ms: 1_700_000_000_000 + scrape as i64 * 15_000,
                        value: values[i],
                    }
                })
                .collect()
        })
        .collect()
}

fn packing(c: &mut Criterion) {
    let scrapes = scrapes();
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(SERIES as u64));
    for (name, compression) in
        [("plain", Compression::None), ("snappy", Compression::Snappy), ("zstd-3", Compression::Zstd)]
    {
        let (mut packer, mut record, mut bytes) = (RecordPacker::new(compression), Vec::new(), 0);
        for scrape in &scrapes {
            record.clear();
            encode::samples(&mut record, scrape);
            bytes += packer.pack(&record).bytes.len();
        }
        eprintln!("{name}: {:.2} bytes/sample", bytes as f64 / (SERIES * SCRAPES) as f64);
        let mut next = scrapes.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                record.clear();
                if let Some(scrape) = next.next() {
                    encode::samples(&mut record, scrape);
                }
                let mut batch = vec![packer.pack(&record)];
                black_box(&batch);
                packer.recycle(&mut batch);
            });
        });
    }
    group.finish();
}

fn appending(c: &mut Criterion) {
    let scrapes = scrapes();
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(SERIES as u64));
    for (place, parent) in [("memory", Path::new("/dev/shm")), ("disk", Path::new("."))] {
        if !parent.is_dir() {
            continue;
        }
        for (name, sync) in [("os", SyncPolicy::Os), ("group", SyncPolicy::Group)] {
            let dir = tempfile::tempdir_in(parent).expect("a directory for the log");
            let options = LogOptions { sync, ..LogOptions::default() };
            let log = LogWriter::open(Arc::new(RealDisk), &dir.path().join("wal"), options).expect("a log");
            let (mut packer, mut record, mut batch) =
                (RecordPacker::new(Compression::Snappy), Vec::new(), Vec::new());
            let mut next = scrapes.iter().cycle();
            group.bench_function(format!("{name} to {place}"), |b| {
                b.iter(|| {
                    record.clear();
                    if let Some(scrape) = next.next() {
                        encode::samples(&mut record, scrape);
                    }
                    batch.push(packer.pack(&record));
                    log.lock().append(&batch).expect("an append");
                    packer.recycle(&mut batch);
                });
                log.truncate(u64::MAX).expect("older segments go");
            });
        }
    }
    group.finish();
}

criterion_group!(benches, packing, appending);
criterion_main!(benches);
