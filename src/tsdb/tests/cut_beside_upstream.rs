//! A head that we cut beside the same head that Prometheus cuts: equal blocks; and what we leave of a head, read by it.
//!
//! Runs where `TSDBCTL_PEER_PROMETHEUS_3` names a program of 3.14 (2.42 makes other chunks of histograms and knows nothing of
//! stale series that were taken out), and skips with a message elsewhere.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests make files and say what they skip"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tsdbctl_block::source::BlockSource;
use tsdbctl_block::{Block, BlockMeta};
use tsdbctl_head::live::{Appender, LiveOptions};
use tsdbctl_model::Histogram;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control};
use tsdbctl_testkit as testkit;
use tsdbctl_testkit::peer::Prometheus;
use tsdbctl_tsdb::LiveDatabase;
use tsdbctl_tsdb::head_blocks::CutOptions;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// At a boundary of six hours, so that no blocks are merged.
const START: i64 = 1_700_000_000_000 / (6 * HOUR) * 6 * HOUR;

/// Labels, encoding, times and data of every chunk of a block.
type Content = Vec<(String, Vec<(u8, i64, i64, Vec<u8>)>)>;

fn peer(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|v| !v.is_empty());
    if found.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    found
}

fn open(dir: &Path) -> LiveDatabase {
    let mut options = LiveOptions { out_of_order_window_ms: 12 * HOUR, ..LiveOptions::default() };
    options.log.sync = tsdbctl_wal::SyncPolicy::Os;
    LiveDatabase::open(Arc::new(RealDisk), dir, options, &Control::default()).unwrap().0
}

fn histogram(n: u64) -> Histogram {
    let buckets = 1 + n / 200 % 5;
    Histogram {
        schema: 2,
        count: n * buckets,
        sum: n as f64 / 3.0,
        positive_spans: vec![BucketSpan { offset: 0, length: buckets as u32 }],
        positive_buckets: std::iter::once(n as i64).chain((1..buckets).map(|_| 0)).collect(),
        ..Histogram::default()
    }
}

fn append(appender: &mut Appender, i: i64, t: i64, n: u64) {
    let (name, parity) = (format!("m{i:02}"), (i % 2).to_string());
    let labels = [("__name__", name.as_str()), ("job", "test"), ("parity", &parity)];
    let id = appender.series(labels.into_iter()).unwrap();
    let noise = (n + i as u64).wrapping_mul(0x5851_f42d_4c95_7f2d) >> 12;
    match i % 8 {
        0 => appender.append_float(id, t, f64::from_bits(noise | 0x3ff << 52), 0).unwrap(),
        1 => appender.append_float(id, t, 42.0, 0).unwrap(),
        2 => appender.append_float(id, t, (noise % 100) as f64 / 10.0, 0).unwrap(),
        3 | 4 => appender.append_float(id, t, n as f64, 0).unwrap(),
        5 => appender.append_histogram(id, t, &histogram(n % 1500), 0).unwrap(),
        6 => appender.append_float_histogram(id, t, &histogram(n % 1700).to_float(), 0).unwrap(),
        _ if n % 200 < 100 => appender.append_float(id, t, n as f64, 0).unwrap(),
        _ => appender.append_histogram(id, t, &histogram(n), 0).unwrap(),
    };
}

fn content(dir: &Path) -> Content {
    let block = Arc::new(Block::open(dir).unwrap());
    let mut source = BlockSource::new(block, i64::MIN, i64::MAX).unwrap();
    let mut strings = Vec::new();
    source
        .symbols(&mut |s| {
            strings.push(s.to_string());
            Ok(())
        })
        .unwrap();
    let (mut out, mut batch) = (Content::new(), ChunkBatch::default());
    while source.next().unwrap() {
        let text = |(n, v): &(u32, u32)| format!("{}={}", strings[*n as usize], strings[*v as usize]);
        let labels: Vec<String> = source.labels().iter().map(text).collect();
        batch.clear();
        source.chunks(&mut batch).unwrap();
        let chunks = batch.iter().map(|c| (c.encoding, c.mint, c.maxt, c.data.to_vec())).collect();
        out.push((labels.join(","), chunks));
    }
    out
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn blocks(dir: &Path) -> Vec<BlockMeta> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut metas: Vec<BlockMeta> = entries.filter_map(|e| BlockMeta::read(&e.path()).ok()).collect();
    metas.sort_by_key(|m| m.min_time);
    metas
}

#[test]
fn blocks_are_those_that_prometheus_makes_of_the_same_head() {
    let Some(program) = peer("TSDBCTL_PEER_PROMETHEUS_3") else { return };
    let scratch = testkit::scratch();
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    let db = open(&ours);
    let mut appender = db.appender();
    for n in 0..400 * 4u64 {
        for i in 0..32 {
            let t = START + n as i64 * 15_000 + if i % 3 == 0 { (n * 7919 % 900) as i64 } else { i };
            if i % 5 != 4 || n * 31 % 6 > 0 {
                append(&mut appender, i, t, n);
            }
        }
        // Late ones lie in front of all others, so that their block overlaps with no other.
        if n > 0 && n % 5 == 0 {
            for i in 3..7 {
                append(&mut appender, i, START - HOUR - (n * 7 % 1600) as i64 * 1000 - n as i64, n);
            }
        }
        assert_eq!(appender.commit().unwrap().refused.total(), 0);
    }
    drop(appender);
    db.close().unwrap();
    copy(&ours, &theirs);
    // What of it is cut is to be theirs as well.
    std::fs::remove_dir_all(theirs.join("chunks_head")).unwrap();
    let db = open(&ours);
    let (world, options, control) = (World::real(), CutOptions::default(), Control::default());
    db.maintain_head(&world, &options, &control).unwrap();
    db.close().unwrap();
    let configuration = "storage: {tsdb: {out_of_order_time_window: 12h}}\n";
    let server = Prometheus::start_with(configuration, &program, &theirs, scratch.path(), &[]);
    for _ in 0..120 {
        if blocks(&theirs).len() >= 3 {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(server);
    let (our_blocks, their_blocks) = (blocks(&ours), blocks(&theirs));
    let described = |metas: &[BlockMeta]| {
        let of = |m: &BlockMeta| {
            let times = ((m.min_time - START) / MINUTE, (m.max_time - START) / MINUTE);
            (times, m.stats.clone(), m.compaction.hints.clone(), m.compaction.level)
        };
        metas.iter().map(of).collect::<Vec<_>>()
    };
    for (our, their) in our_blocks.iter().zip(&their_blocks) {
        let (ours, theirs) = (content(&ours.join(&our.ulid)), content(&theirs.join(&their.ulid)));
        for ((labels, ours), (their_labels, theirs)) in ours.iter().zip(&theirs) {
            assert_eq!(labels, their_labels);
            let short = |c: &[(u8, i64, i64, Vec<u8>)]| -> Vec<_> {
                c.iter().map(|c| (c.0, c.1 - START, c.2 - START, c.3.len())).collect()
            };
            assert_eq!(short(ours), short(theirs), "{labels}");
            for (i, (our, their)) in ours.iter().zip(theirs).enumerate() {
                let differs = our.3.iter().zip(&their.3).position(|(a, b)| a != b);
                // Theirs forgets whether counters were reset in front of a chunk that it still appended to.
                let is_known = differs == Some(2) && matches!(our.0, 2 | 3);
                let rest = if is_known { our.3[3..] == their.3[3..] } else { differs.is_none() };
                assert!(rest, "{labels}, chunk {i}: other bytes at {differs:?}");
                if is_known {
                    eprintln!(
                        "{labels}, chunk {i}: ours says {:#x}, theirs {:#x} of resets",
                        our.3[2], their.3[2]
                    );
                }
            }
        }
        assert_eq!(ours.len(), theirs.len());
    }
    assert_eq!(described(&our_blocks), described(&their_blocks));
}

/// Times of every series that a server finds in a directory. (Its tool takes the end of any block for that of the head.)
fn seen_by(program: &str, dir: &Path) -> BTreeMap<String, Vec<i64>> {
    let scratch = testkit::scratch();
    let data = scratch.path().join("data");
    copy(dir, &data);
    let server = Prometheus::start(program, &data, scratch.path(), &[]);
    let body = server.body(&format!(
        "/api/v1/query?query=%7Bjob%3D%22test%22%7D%5B100h%5D&time={}",
        (START + 50 * HOUR) / 1000
    ));
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let times = seen.entry(series["metric"]["__name__"].as_str().unwrap().to_string()).or_default();
        for kind in ["values", "histograms"] {
            let samples = series[kind].as_array().into_iter().flatten();
            times.extend(samples.map(|s| (s[0].as_f64().unwrap() * 1000.0).round() as i64));
        }
        times.sort_unstable();
    }
    let log = server.log();
    assert!(!log.contains("level=ERROR") && !log.contains("corrupt"), "{log}");
    seen
}

#[test]
fn what_is_left_of_a_head_is_read_by_prometheus() {
    let Some(program) = peer("TSDBCTL_PEER_PROMETHEUS_3") else { return };
    let scratch = testkit::scratch();
    let dir = scratch.path().join("data");
    let mut want: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let db = open(&dir);
    let mut minute = 0;
    let mut fill = |db: &LiveDatabase, minutes: i64, series: std::ops::Range<i64>, last: bool| {
        let mut appender = db.appender();
        for _ in 0..minutes {
            for i in series.clone() {
                append(&mut appender, i, START + minute * MINUTE, minute as u64);
                want.entry(format!("m{i:02}")).or_default().push(START + minute * MINUTE);
            }
            appender.commit().unwrap();
            minute += 1;
        }
        if last {
            for i in series {
                let (name, parity) = (format!("m{i:02}"), (i % 2).to_string());
                let labels = [("__name__", name.as_str()), ("job", "test"), ("parity", &parity)];
                let id = appender.series(labels.into_iter()).unwrap();
                // Answers leave these out.
                appender.append_float(id, START + minute * MINUTE, stale_nan(), 0).unwrap();
            }
            appender.commit().unwrap();
            minute += 1;
        }
        want.clone()
    };
    let check = |want: &BTreeMap<String, Vec<i64>>, what: &str| {
        let found = seen_by(&program, &dir);
        for (name, want) in want {
            let found = found.get(name).map_or(0, Vec::len);
            assert_eq!(found, want.len(), "{what}: {name}");
        }
        assert!(found == *want, "{what}");
    };
    fill(&db, 100, 0..30, true);
    let want_now = fill(&db, 20, 30..40, false);
    let (world, options, control) = (World::real(), CutOptions::default(), Control::default());
    assert_eq!(db.cut_stale(0.5, &world, &options, &control).unwrap().len(), 1);
    assert_eq!(db.head().count_stale(), (0, 10));
    drop(db);
    check(&want_now, "stale ones cut");
    let db = open(&dir);
    let want_now = fill(&db, 20, 20..40, false);
    drop(db);
    check(&want_now, "some are back");
    let db = open(&dir);
    let want_now = fill(&db, 200, 20..40, false);
    assert!(!db.maintain_head(&world, &options, &control).unwrap().is_empty());
    drop(db);
    check(&want_now, "cut");
    let db = open(&dir);
    let want_now = fill(&db, 30, 0..40, false);
    db.flush_head(&world, &options, &control).unwrap();
    drop(db);
    check(&want_now, "flushed");
    let db = open(&dir);
    let want_now = fill(&db, 30, 0..40, false);
    db.close().unwrap();
    check(&want_now, "filled behind the flush");
}
