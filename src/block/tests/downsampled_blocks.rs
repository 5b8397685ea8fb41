//! Blocks that Thanos downsampled, read, and made again of its raw ones: the same bytes in every chunk.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_block::downsample::{DownsampleNotes, FIVE_MINUTES_MS, ONE_HOUR_MS};
use tsdbctl_block::{Block, BlockMeta, BlockSource, DownsampledSource, WriterOptions, write_block};
use tsdbctl_chunk::{
    AGGREGATE_ENCODING, Aggregate, AggregateChunk, Floats, decode_counter, decode_float_histograms,
    decode_floats_fast,
};
use tsdbctl_model::float_text::format_g;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control};
use tsdbctl_testkit as testkit;

/// The block of a cluster at a resolution.
fn block(bucket: &Path, cluster: &str, resolution_ms: i64) -> Arc<Block> {
    let found = std::fs::read_dir(bucket).unwrap().map(|e| e.unwrap().path()).find(|dir| {
        let meta = BlockMeta::read(dir).unwrap();
        meta.resolution_ms() == resolution_ms && meta.thanos.unwrap().labels["cluster"] == cluster
    });
    Arc::new(Block::open(&found.unwrap()).unwrap())
}

fn source(block: &Arc<Block>) -> Box<dyn ChunkSource> {
    Box::new(BlockSource::new(Arc::clone(block), i64::MIN, i64::MAX).unwrap())
}

/// All of a source.
fn series(source: &mut dyn ChunkSource) -> Vec<(String, ChunkBatch)> {
    let mut symbols = Vec::new();
    source
        .symbols(&mut |s| {
            symbols.push(s.to_string());
            Ok(())
        })
        .unwrap();
    let mut out = Vec::new();
    while source.next().unwrap() {
        let labels: Vec<_> = source
            .labels()
            .iter()
            .map(|(name, value)| format!("{}={:?}", symbols[*name as usize], symbols[*value as usize]))
            .collect();
        let mut chunks = ChunkBatch::default();
        source.chunks(&mut chunks).unwrap();
        if !chunks.is_empty() {
            out.push((format!("{{{}}}", labels.join(", ")), chunks));
        }
    }
    out
}

/// What the dump says of a downsampled block.
fn dump(series: &[(String, ChunkBatch)]) -> String {
    let mut out = String::new();
    for (labels, chunks) in series {
        for chunk in chunks.iter() {
            assert_eq!(chunk.encoding, AGGREGATE_ENCODING);
            let (mint, maxt, bytes) = (chunk.mint, chunk.maxt, chunk.data.len());
            writeln!(out, "{labels} chunk {mint}..{maxt} encoding 255 bytes {bytes}").unwrap();
            let parts = AggregateChunk::parse(chunk.data).unwrap();
            for aggregate in Aggregate::ALL {
                let Some((encoding, data)) = parts.get(aggregate) else { continue };
                write!(out, "  {} encoding {}:", aggregate.name(), encoding as u8).unwrap();
                if encoding.is_histogram() {
                    for (t, _, h) in decode_float_histograms(encoding, data).unwrap() {
                        write!(out, " {t}={h}").unwrap();
                    }
                } else {
                    let mut floats = Floats::default();
                    if aggregate == Aggregate::Counter {
                        decode_counter(encoding, data, &mut floats).unwrap();
                    } else {
                        decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut floats).unwrap();
                    }
                    for (t, v) in floats.t.iter().zip(&floats.v) {
                        write!(out, " {t}={}", format_g(*v)).unwrap();
                    }
                }
                out.push('\n');
            }
        }
    }
    out
}

#[track_caller]
fn assert_same(got: &[(String, ChunkBatch)], want: &[(String, ChunkBatch)]) {
    let labels = |s: &[(String, ChunkBatch)]| s.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>();
    assert_eq!(labels(got), labels(want));
    for ((labels, got), (_, want)) in got.iter().zip(want) {
        let ranges = |b: &ChunkBatch| b.iter().map(|c| (c.mint, c.maxt)).collect::<Vec<_>>();
        assert_eq!(ranges(got), ranges(want), "{labels}");
        for (got, want) in got.iter().zip(want.iter()) {
            assert!(
                got == want,
                "{labels} {}..{}: {} bytes, not {}",
                got.mint,
                got.maxt,
                got.data.len(),
                want.data.len()
            );
        }
    }
}

const CLUSTERS: [&str; 2] = ["lab", "hist"];

#[test]
fn thanos_blocks_are_read_as_it_does() {
    let Some((_dir, bucket)) = testkit::unpack_directory("data/thanos-downsampled.tar.zst") else { return };
    let Some(dumps) = testkit::unpack("data/thanos-downsampled.dump.tar.zst") else { return };
    for cluster in CLUSTERS {
        for resolution in [FIVE_MINUTES_MS, ONE_HOUR_MS] {
            let name = format!("{cluster}-{resolution}.txt");
            let want = std::fs::read_to_string(dumps.path().join(&name)).unwrap();
            let got = dump(&series(&mut *source(&block(&bucket, cluster, resolution))));
            for (n, (got, want)) in got.lines().zip(want.lines()).enumerate() {
                assert_eq!(got, want.trim_end(), "{name} line {}", n + 1);
            }
            assert_eq!(got.lines().count(), want.lines().count());
        }
    }
}

#[test]
fn ours_are_the_same_bytes_as_those_of_thanos() {
    let Some((_dir, bucket)) = testkit::unpack_directory("data/thanos-downsampled.tar.zst") else { return };
    for cluster in CLUSTERS {
        let [raw, five, hour] = [0, FIVE_MINUTES_MS, ONE_HOUR_MS].map(|r| block(&bucket, cluster, r));
        let mut ours = DownsampledSource::new(source(&raw), FIVE_MINUTES_MS, true);
        assert_same(&series(&mut ours), &series(&mut *source(&five)));
        assert_eq!(ours.notes(), DownsampleNotes::default());
        let mut ours = DownsampledSource::new(source(&five), ONE_HOUR_MS, false);
        assert_same(&series(&mut ours), &series(&mut *source(&hour)));
    }
}

#[test]
fn our_blocks_say_of_themselves_what_those_of_thanos_do() {
    let Some((_dir, bucket)) = testkit::unpack_directory("data/thanos-downsampled.tar.zst") else { return };
    let dir = testkit::scratch();
    for cluster in CLUSTERS {
        let raw = block(&bucket, cluster, 0);
        let mut from = (Arc::clone(&raw), true);
        for resolution in [FIVE_MINUTES_MS, ONE_HOUR_MS] {
            let mut ours = DownsampledSource::new(source(&from.0), resolution, from.1);
            let meta = from.0.meta().downsampled(from.0.meta().ulid.clone(), resolution);
            let written = write_block(
                Arc::new(RealDisk),
                dir.path(),
                &mut ours,
                meta,
                WriterOptions::default(),
                &Control::default(),
            );
            let written = written.unwrap().unwrap();
            let mut want = block(&bucket, cluster, resolution).meta().clone();
            want.ulid.clone_from(&written.ulid);
            let thanos = want.thanos.as_mut().unwrap();
            assert_eq!(thanos.source, "compactor");
            thanos.source = "tsdbctl".to_string();
            thanos.other.remove("upload_time");
            // Thanos does not look at the last chunk of a series, which is the longest one at times.
            let sizes = written.thanos.as_ref().unwrap().index_stats;
            assert!(sizes.chunk_max_size >= thanos.index_stats.chunk_max_size);
            thanos.index_stats.chunk_max_size = sizes.chunk_max_size;
            assert_eq!(written, want);
            let made = dir.path().join(&written.ulid);
            let kept = dir.path().join(format!("{cluster}-{resolution}"));
            std::fs::rename(&made, &kept).unwrap();
            from = (Arc::new(Block::open(&kept).unwrap()), false);
        }
    }
}
