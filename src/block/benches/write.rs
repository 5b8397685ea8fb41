//! What a series costs on its way into a block: chunks copied, its entry, and its places in the postings. Nine labels as
//! those of a fleet's targets, three chunks, as a compaction of three blocks or a head of six hours has them.

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tsdbctl_block::{BlockMeta, WriterOptions, write_block};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::chunk_source::EncodedChunk;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, LabelRef, StorageError};

const TARGETS: usize = 2000;

/// Metrics of all targets.
struct Fleet {
    symbols: Vec<String>,
    /// Labels of the targets but for the metric's name, in order.
    targets: Vec<Vec<LabelRef>>,
    /// Labels with the metrics' names.
    names: Vec<LabelRef>,
    data: Vec<u8>,
    labels: Vec<LabelRef>,
    /// Number of the series, from 1.
    at: usize,
}

impl Fleet {
    fn new(series: usize) -> Self {
        let names: Vec<String> = (0..series / TARGETS).map(|n| format!("metric_{n:04}_total")).collect();
        let targets: Vec<[(&str, String); 8]> = (0..TARGETS)
            .map(|i| {
                let app = format!("app{:02}", i / 100);
                [
                    ("cluster", "eu-west-1".to_string()),
                    ("container", app.clone()),
                    ("endpoint", "http".to_string()),
                    ("instance", format!("10.0.{}.{}:9100", i / 250, i % 250)),
                    ("job", app.clone()),
                    ("namespace", format!("ns{}", i / 200)),
                    ("pod", format!("{app}-7d9f8b6c5-{i:05}")),
                    ("service", app),
                ]
            })
            .collect();
        let mut symbols = vec!["__name__".to_string()];
        symbols.extend(names.iter().cloned());
        symbols.extend(targets.iter().flatten().flat_map(|(n, v)| [(*n).to_string(), v.clone()]));
        symbols.sort_unstable();
        symbols.dedup();
        let place = |s: &str| symbols.binary_search_by(|x| x.as_str().cmp(s)).unwrap_or(0) as u32;
        let mut targets: Vec<Vec<LabelRef>> =
            targets.iter().map(|t| t.iter().map(|(n, v)| (place(n), place(v))).collect()).collect();
        targets.sort_unstable();
        let names = names.iter().map(|n| (place("__name__"), place(n))).collect();
        let mut random = 3u64;
        let mut data: Vec<u8> = (0..1 << 16)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        data[..2].copy_from_slice(&[0, 120]);
        Self { symbols, targets, names, data, labels: Vec::new(), at: 0 }
    }
}

impl ChunkSource for Fleet {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.symbols.iter().try_for_each(|s| each(s))
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        let Some(name) = self.names.get(self.at / TARGETS) else { return Ok(false) };
        self.labels.clear();
        self.labels.push(*name);
        self.labels.extend_from_slice(&self.targets[self.at % TARGETS]);
        self.at += 1;
        Ok(true)
    }

    fn labels(&self) -> &[LabelRef] {
        &self.labels
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let i = self.at - 1;
        for c in 0..3 {
            let (len, start) = (150 + (i * 7 + c * 13) % 100, (i * 31 + c * 977) % ((1 << 16) - 400));
            let mint = c as i64 * 1_800_000;
            let data = &self.data[start..start + len];
            out.push(EncodedChunk { encoding: 1, data, mint, maxt: mint + 1_799_000 });
        }
        Ok(())
    }
}

/// In memory where there is such a place: what is measured is what the program does, not the disk.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a scratch directory")
}

fn write(fleet: &mut Fleet, dir: PathBuf, memory_bytes: usize) {
    let meta = BlockMeta::new("01BZJ9WJQPWHGNC2W4J9TA62KC".to_string(), 0, 5_400_000);
    let options = WriterOptions { memory_bytes, ..WriterOptions::default() };
    let written = write_block(Arc::new(RealDisk), &dir, fleet, meta, options, &Control::default());
    assert!(written.is_ok_and(|meta| meta.is_some()));
}

fn benches(c: &mut Criterion) {
    for (name, series, memory_bytes) in [
        ("100k series", 100_000, 64 << 20),
        ("500k series", 500_000, 64 << 20),
        ("500k series, 4 MiB", 500_000, 4 << 20),
    ] {
        let mut group = c.benchmark_group("write");
        group.sample_size(10).throughput(Throughput::Elements(series as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || (Fleet::new(series), scratch()),
                |(mut fleet, dir)| {
                    write(&mut fleet, dir.path().to_owned(), memory_bytes);
                    dir
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(group, benches);
criterion_main!(group);
