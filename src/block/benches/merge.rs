//! What a series costs when three blocks become one: blocks behind each other, whose chunks are copied; and blocks over
//! each other, whose chunks are decoded, merged and encoded anew. Nine labels as those of a fleet's targets.

use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tsdbctl_block::{Block, BlockMeta, BlockSource, MergedSource, WriterOptions, write_block};
use tsdbctl_chunk::{AppenderOptions, SeriesAppender};
use tsdbctl_model::labels::Labels;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::chunk_source::{EncodedChunk, LiteralSource};
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control};

const SERIES: usize = 10_000;
/// Two hours of a sample each 15 s.
const SAMPLES: i64 = 480;
const STEP_MS: i64 = 15_000;

fn labels(i: usize) -> Labels {
    let target = i % 500;
    Labels::from_pairs([
        ("__name__", format!("some_metric_of_a_service_{:03}_total", i / 500)),
        ("cluster", "eu-west-1-production".to_string()),
        ("instance", format!("10.0.{}.{}:9100", target / 256, target % 256)),
        ("job", format!("job-{}", target % 20)),
        ("namespace", format!("namespace-{}", target % 50)),
        ("node", format!("ip-10-0-{}.internal", target % 100)),
        ("pod", format!("deployment-{:05x}", target * 7919)),
        ("region", "eu-west-1".to_string()),
        ("zone", format!("eu-west-1{}", target % 3)),
    ])
}

fn block(dir: &Path, number: usize, start: i64) -> Arc<Block> {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    for n in 0..SAMPLES {
        // Values of the second are those of the first, if it lies over it.
        let t = start + n * STEP_MS;
        appender.append_float(t, (t / STEP_MS * 37 % 1009) as f64, 0).unwrap();
    }
    let mut chunks = ChunkBatch::default();
    for c in appender.chunks() {
        chunks.push(EncodedChunk { encoding: c.encoding as u8, data: c.data, mint: c.mint, maxt: c.maxt });
    }
    let series = (0..SERIES).map(|i| (labels(i), chunks.clone())).collect();
    let ulid = format!("01DXXFZDYD1MQW6079WK0K6ED{number}");
    let meta = BlockMeta::new(ulid.clone(), start, start + SAMPLES * STEP_MS);
    let (mut source, options) = (LiteralSource::new(series), WriterOptions::default());
    write_block(Arc::new(RealDisk), dir, &mut source, meta, options, &Control::default()).unwrap();
    Arc::new(Block::open(&dir.join(ulid)).unwrap())
}

fn read_all(blocks: &[Arc<Block>]) -> usize {
    let source = |b: &Arc<Block>| {
        Box::new(BlockSource::new(Arc::clone(b), i64::MIN, i64::MAX).unwrap()) as Box<dyn ChunkSource>
    };
    let mut merged = MergedSource::new(blocks.iter().map(source).collect()).unwrap();
    let (mut chunks, mut bytes) = (ChunkBatch::default(), 0);
    while merged.next().unwrap() {
        chunks.clear();
        merged.chunks(&mut chunks).unwrap();
        bytes += chunks.data_bytes();
    }
    bytes
}

fn merging(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.sample_size(10).throughput(Throughput::Elements(SERIES as u64));
    let range = SAMPLES * STEP_MS;
    for (name, shift) in [("three behind each other", range), ("three over each other", range / 3)] {
        let dir = TempDir::new().unwrap();
        let blocks: Vec<Arc<Block>> =
            (0..3).map(|n| block(dir.path(), n, 1_700_006_400_000 + n as i64 * shift)).collect();
        group.bench_function(name, |b| b.iter(|| read_all(&blocks)));
    }
    group.finish();
}

criterion_group!(benches, merging);
criterion_main!(benches);
