//! Fifty generated directories of blocks, compacted until nothing is left to do, against what Prometheus 3.14 makes of
//! the same ones (`upstream/directories.txt`: `tsdb.Open` and `DB.Compact`): which blocks were merged, and every byte of
//! the new ones' index and chunk files.
//!
//! `TSDBCTL_DIRECTORIES=DIR` puts the directories there, in the state before, so that upstream can be asked again.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_block::meta::{BlockDescription, HINT_OUT_OF_ORDER, HINT_SELECTED_SERIES, HINT_STALE_SERIES};
use tsdbctl_block::{BlockMeta, Interval, Tombstones, WriterOptions, write_block};
use tsdbctl_chunk::{AppenderOptions, SeriesAppender};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::{Histogram, Labels};
use tsdbctl_platform::random::Generator;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World;
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, Control, EncodedChunk};
use tsdbctl_testkit::scratch_in_memory;
use tsdbctl_tsdb::compaction::compact;
use tsdbctl_tsdb::compaction_plan::{CompactionOptions, ranges_up_to};
use xxhash_rust::xxh64::Xxh64;

const MINUTE: i64 = 60_000;
const H: i64 = 60 * MINUTE;
/// A multiple of 54 hours, in 2026.
const T: i64 = 9_200 * 54 * H;
const CASES: u64 = 50;

/// A block to be made; times in minutes from [`T`].
#[derive(Clone, Debug, Default)]
struct Wanted {
    start: i64,
    end: i64,
    level: i64,
    series: Vec<u64>,
    step: i64,
    hints: Vec<&'static str>,
    failed: bool,
    deletable: bool,
    /// How many of its series have deletions, and whether these are of all of their samples.
    deleted: (usize, bool),
    /// One that it was made of, which is still there.
    parent: Option<usize>,
}

fn any<T: Copy>(g: &mut Generator, of: &[T]) -> T {
    of[g.below(of.len() as u64) as usize]
}

/// Blocks one after the other: equal ones, ones that were compacted already, or of any length.
fn row(g: &mut Generator) -> Vec<Wanted> {
    let style = g.below(4);
    let count = 3 + g.below(if style == 2 { 9 } else { 22 });
    let gap = any(g, &[2, 5, 1000]);
    let mut t = 120 * (g.below(60) as i64 - 30);
    let mut out = Vec::new();
    for _ in 0..count {
        let mut level = 1;
        let length = match style {
            0 => 120,
            1 | 3 => {
                let fits = [3240, 1080, 360, 120].into_iter().filter(|l| t % l == 0).collect::<Vec<i64>>();
                let length = if style == 3 && g.one_in(3) { 120 } else { any(g, &fits) };
                level += [120, 360, 1080, 3240].iter().position(|l| *l == length).unwrap() as i64;
                length
            }
            _ => any(g, &[30, 90, 120, 120, 150, 200, 360, 700]),
        };
        out.push(Wanted { start: t, end: t + length, level, ..Wanted::default() });
        t += length;
        if g.one_in(gap) {
            t += any(g, &[120, 120, 240, 360, 1080]);
        }
    }
    out
}

fn wanted(seed: u64) -> (i64, Vec<Wanted>) {
    let g = &mut Generator::new(seed);
    let max_hours = any(g, &[744, 744, 744, 162, 54, 36, 18, 2]);
    let mut blocks = row(g);
    let (first, last) = (blocks[0].start, blocks[blocks.len() - 1].end);
    let extra = match g.below(5) {
        0 | 1 => 0,
        2 => 1,
        _ => 1 + g.below(4),
    };
    for _ in 0..extra {
        let start = first + 10 * g.below((last - first) as u64 / 10) as i64;
        let length = any(g, &[30, 60, 120, 130, 400]);
        let aligned = g.one_in(2);
        let (start, length) = if aligned { (start.div_euclid(120) * 120, 120) } else { (start, length) };
        let mut block = Wanted { start, end: start + length, level: 1, ..Wanted::default() };
        match g.below(4) {
            0 => {}
            1 => block.hints.push(HINT_STALE_SERIES),
            _ => block.hints.push(HINT_OUT_OF_ORDER),
        }
        blocks.push(block);
    }
    if g.one_in(8) {
        let hint = any(g, &[HINT_STALE_SERIES, HINT_SELECTED_SERIES]);
        blocks.iter_mut().skip(g.below(4) as usize).for_each(|b| b.hints.push(hint));
    }
    let many_deleted = g.one_in(4);
    let failures = g.one_in(5);
    for i in 0..blocks.len() {
        let b = &mut blocks[i];
        let series = 2 + g.below(5);
        let from = g.below(4);
        b.series = (from..from + series).collect();
        b.step = any(g, &[1, 5, 10, 10, 15, 30]) * (1 + (b.end - b.start) / 1200);
        if g.one_in(if many_deleted { 3 } else { 20 }) {
            let all = g.one_in(3);
            b.deleted = (if all { 9 } else { 1 + g.below(series) as usize }, all || g.one_in(2));
        }
        b.failed = failures && g.one_in(4);
        b.deletable = g.one_in(40);
        if g.one_in(30) && i > 0 && !blocks[i - 1].deletable {
            let parent = blocks[i - 1].clone();
            let b = &mut blocks[i];
            (b.start, b.end, b.level, b.parent) =
                (parent.start.min(b.start), b.end.max(parent.end), 1 + parent.level, Some(i - 1));
        }
    }
    (max_hours, blocks)
}

/// Identifiers that do not follow the order of the blocks.
fn ids(seed: u64, count: usize) -> Vec<String> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let g = &mut Generator::new(seed ^ 0x5eed);
    for i in (1..count).rev() {
        numbers.swap(i, g.below(i as u64 + 1) as usize);
    }
    numbers.iter().map(|n| format!("01BKGTZQ1SYQJTR4PB43C8PD{n:02}")).collect()
}

fn histogram(series: u64, t: i64) -> Histogram {
    let n = (t / MINUTE).rem_euclid(500) as u64 + series;
    let buckets = 1 + n / 40 % 4;
    Histogram {
        schema: 1,
        count: n * buckets,
        sum: n as f64 / 3.0,
        positive_spans: vec![BucketSpan { offset: 0, length: buckets as u32 }],
        positive_buckets: std::iter::once(n as i64).chain((1..buckets).map(|_| 0)).collect(),
        ..Histogram::default()
    }
}

/// What a series has at a time is the same in every block, so that it does not matter which one is taken.
fn chunks(series: u64, from: i64, to: i64, step: i64) -> ChunkBatch {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    let first = from + series as i64 % 2 * MINUTE;
    for t in (first..to).step_by((step * MINUTE) as usize) {
        match series % 4 {
            0 => appender.append_float(t, 42.0, 0).unwrap(),
            3 => appender.append_histogram(t, &histogram(series, t), 0).unwrap(),
            _ => appender.append_float(t, (t / MINUTE * (series as i64 + 1)) as f64 / 8.0, 0).unwrap(),
        }
    }
    let mut chunks = ChunkBatch::default();
    for c in appender.into_chunks() {
        let encoding = c.encoding as u8;
        chunks.push(EncodedChunk { encoding, data: &c.data, mint: c.mint, maxt: c.maxt });
    }
    chunks
}

fn references(block: &Path) -> Vec<u64> {
    let bytes = std::fs::read(block.join("index")).unwrap();
    let toc = &bytes[bytes.len() - 52..];
    let postings = u64::from_be_bytes(toc[4 * 8..5 * 8].try_into().unwrap()) as usize;
    // The first list is that of all series; lists are aligned.
    let list = &bytes[postings.next_multiple_of(4) + 4..];
    let count = u32::from_be_bytes(list[..4].try_into().unwrap()) as usize;
    list[4..].chunks(4).take(count).map(|r| u64::from(u32::from_be_bytes(r.try_into().unwrap()))).collect()
}

/// Makes the directory of a case; the ranges of its blocks reach up to so many hours.
fn make(dir: &Path, seed: u64) -> i64 {
    let (max_hours, blocks) = wanted(seed);
    let ids = ids(seed, blocks.len());
    let range = |b: &Wanted| (T + b.start * MINUTE, T + b.end * MINUTE);
    for (b, id) in blocks.iter().zip(&ids) {
        let (start, end) = range(b);
        let series = b.series.iter().map(|s| {
            let (name, kind) = (format!("m{}", s % 3), format!("{s}"));
            (
                Labels::from_pairs([("__name__", name.as_str()), ("s", kind.as_str())]),
                chunks(*s, start, end, b.step),
            )
        });
        let mut source = LiteralSource::new(series.collect());
        let mut meta = BlockMeta::new(id.clone(), start, end);
        meta.compaction.level = b.level;
        meta.compaction.sources = vec![id.clone()];
        meta.compaction.hints = b.hints.iter().map(ToString::to_string).collect();
        meta.compaction.hints.sort();
        meta.compaction.failed = b.failed;
        meta.compaction.deletable = b.deletable;
        if let Some(parent) = b.parent {
            let (min_time, max_time) = range(&blocks[parent]);
            let ulid = ids[parent].clone();
            meta.compaction.sources.push(ulid.clone());
            meta.compaction.parents = vec![BlockDescription { ulid, min_time, max_time }];
        }
        let (options, control) = (WriterOptions::default(), Control::default());
        let written = write_block(Arc::new(RealDisk), dir, &mut source, meta, options, &control).unwrap();
        let (mut meta, block) = (written.unwrap(), dir.join(id));
        let mut tombstones = Tombstones::default();
        for reference in references(&block).into_iter().take(b.deleted.0) {
            let middle = (start + end) / 2;
            let mint = if b.deleted.1 { start } else { middle };
            tombstones.insert(reference, Interval { mint, maxt: end });
        }
        if !tombstones.is_empty() {
            tombstones.replace(&RealDisk, &block).unwrap();
            meta.stats.num_tombstones = tombstones.len() as u64;
            meta.replace(&RealDisk, &block).unwrap();
        }
    }
    max_hours
}

fn hash(files: &[PathBuf]) -> u64 {
    let mut hash = Xxh64::new(0);
    files.iter().for_each(|f| hash.update(&std::fs::read(f).unwrap()));
    hash.digest()
}

fn span(start: i64, end: i64) -> String {
    let minutes = |t: i64| (t - T) as f64 / MINUTE as f64;
    format!("{}..{}", minutes(start), minutes(end))
}

/// A line for each block of a directory, by start.
fn blocks(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut rows: Vec<(i64, i64, String)> = entries
        .filter(|path| path.join("meta.json").exists())
        .map(|path| {
            let meta = BlockMeta::read(&path).unwrap();
            let c = &meta.compaction;
            let sources: Vec<&str> = c.sources.iter().map(|s| &s[s.len() - 2..]).collect();
            let mut line = format!(
                "= {} level {} of {}",
                span(meta.min_time, meta.max_time),
                c.level,
                sources.join(" ")
            );
            for (i, p) in c.parents.iter().enumerate() {
                let before = if i == 0 { " from " } else { " " };
                line = line + before + &span(p.min_time, p.max_time);
            }
            c.hints.iter().for_each(|h| line = format!("{line} {h}"));
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(path.join("chunks")).unwrap().map(|e| e.unwrap().path()).collect();
            files.sort();
            let s = &meta.stats;
            let (index, chunks) = (hash(&[path.join("index")]), hash(&files));
            write!(
                line,
                " : {} series {} chunks {}+{} samples index {index:016x} chunks {chunks:016x}",
                s.num_series, s.num_chunks, s.num_float_samples, s.num_histogram_samples
            )
            .unwrap();
            (meta.min_time, meta.max_time, line)
        })
        .collect();
    rows.sort();
    rows.into_iter().map(|r| r.2).collect()
}

#[test]
fn directories_become_what_upstream_makes_of_them() {
    let place = scratch_in_memory();
    let kept = std::env::var_os("TSDBCTL_DIRECTORIES").map(PathBuf::from);
    let mut cases = Vec::new();
    for case in 0..CASES {
        let dir = kept.as_deref().unwrap_or(place.path()).join(format!("{case:02}"));
        let max_hours = make(&dir, case);
        if kept.is_some() {
            std::fs::write(dir.join("max"), max_hours.to_string()).unwrap();
        }
        cases.push((case, dir, max_hours));
    }
    if kept.is_some() {
        return;
    }
    let text = include_str!("upstream/directories.txt");
    let mut answers = text.lines().filter(|l| !l.starts_with('#')).peekable();
    let mut merged = 0;
    for (case, dir, max_hours) in cases {
        let ranges_ms = ranges_up_to(2 * H, max_hours * H);
        let options = CompactionOptions { ranges_ms, ..CompactionOptions::default() };
        let before = blocks(&dir);
        let done = compact(&World::real(), &dir, &options, &Control::default(), &mut |_| {});
        assert!(done.is_complete(), "case {case}: {done:?}");
        let after = blocks(&dir);
        assert_eq!(before == after, done.is_idle(), "case {case}");
        merged += done.written.len();
        assert_eq!(answers.next(), Some(format!("case {case:02} max {max_hours}").as_str()));
        let want: Vec<&str> = std::iter::from_fn(|| answers.next_if(|l| l.starts_with('='))).collect();
        assert_eq!(after, want, "case {case}, of\n{}", before.join("\n"));
    }
    assert_eq!(answers.next(), None);
    assert!(merged > 100, "{merged} steps");
}
