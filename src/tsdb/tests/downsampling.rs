//! Downsampling of whole directories: what is made, merged and dropped, and what stays whatever happens.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tsdbctl_block::{Block, BlockMeta, BlockSource, WriterOptions, write_block};
use tsdbctl_chunk::{
    Aggregate, AggregateChunk, AppenderOptions, Encoding, Floats, SeriesAppender, decode_floats_fast,
    sample_count,
};
use tsdbctl_model::Labels;
use tsdbctl_platform::clock::Clock;
use tsdbctl_platform::crash::CrashImages;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::random::SeededRandom;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_platform::world::World;
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, EncodedChunk};
use tsdbctl_testkit::{TempDir, scratch_in_memory, unpack_directory};
use tsdbctl_tsdb::downsampling::Tiers;
use tsdbctl_tsdb::downsampling::run::{DownsamplingOptions, Outcome, run, situation};

const H: i64 = 3_600_000;
const D: i64 = 24 * H;
/// A multiple of 54 hours, in 2026.
const T: i64 = 9_200 * 54 * H;
/// A sample every so often.
const STEP: i64 = 100_000;

struct At(i64);

impl Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn world(disk: Arc<dyn Disk>, now_ms: i64, seed: u64) -> World {
    World { disk, clock: Arc::new(At(now_ms)), random: Arc::new(SeededRandom::new(seed)) }
}

/// Identifiers in order.
fn id(n: usize) -> String {
    format!("01BKGTZQ1SYQJTR4PB43C8PD{n:02}")
}

/// Makes a raw block of two series.
fn put(dir: &Path, n: usize, start: i64, end: i64, offset: i64) {
    put_values(dir, n, start, end, offset, |t| (t / STEP) as f64);
}

fn put_values(dir: &Path, n: usize, start: i64, end: i64, offset: i64, value: fn(i64) -> f64) {
    let series = ["api", "web"].map(|job| {
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        for t in (start + offset..end).step_by(STEP as usize) {
            appender.append_float(t, value(t), 0).unwrap();
        }
        let mut chunks = ChunkBatch::default();
        for c in appender.into_chunks() {
            chunks.push(EncodedChunk {
                encoding: c.encoding as u8,
                data: &c.data,
                mint: c.mint,
                maxt: c.maxt,
            });
        }
        (Labels::from_pairs([("__name__", "m"), ("job", job)]), chunks)
    });
    let meta = BlockMeta::new(id(n), start, end);
    let mut source = LiteralSource::new(series.into());
    write_block(Arc::new(RealDisk), dir, &mut source, meta, WriterOptions::default(), &Control::default())
        .unwrap()
        .unwrap();
}

/// The blocks of a directory that are live: no other one of their resolution names them as a parent.
fn blocks(dir: &Path) -> Vec<(PathBuf, BlockMeta)> {
    let mut all = Vec::new();
    for dir in [dir.to_owned(), dir.join("downsampled")] {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().unwrap().len() == 26 {
                let meta = BlockMeta::read(&path).unwrap();
                all.push((path, meta));
            }
        }
    }
    let parents: Vec<(String, i64)> = all
        .iter()
        .flat_map(|(_, m)| m.compaction.parents.iter().map(|p| (p.ulid.clone(), m.resolution_ms())))
        .collect();
    all.retain(|(_, m)| !parents.contains(&(m.ulid.clone(), m.resolution_ms())));
    all.sort_by_key(|(_, m)| (m.resolution_ms(), m.min_time));
    all
}

/// Samples of the blocks of each resolution, by two hours; of windows, how many went in.
fn counts(dir: &Path) -> BTreeMap<(i64, i64), u64> {
    let mut out = BTreeMap::new();
    for (path, meta) in blocks(dir) {
        let block = Arc::new(Block::open(&path).unwrap());
        let mut source = BlockSource::new(block, i64::MIN, i64::MAX).unwrap();
        while source.next().unwrap() {
            let mut chunks = ChunkBatch::default();
            source.chunks(&mut chunks).unwrap();
            for c in chunks.iter() {
                let mut add = |t: i64, n: u64| {
                    *out.entry((meta.resolution_ms(), (t - T).div_euclid(2 * H))).or_insert(0) += n;
                };
                if let Some(encoding) = Encoding::from_byte(c.encoding) {
                    let mut floats = Floats::default();
                    decode_floats_fast(encoding, c.data, i64::MIN, i64::MAX, &mut floats).unwrap();
                    floats.t.iter().for_each(|t| add(*t, 1));
                    assert_eq!(sample_count(encoding, c.data).unwrap(), floats.len());
                } else {
                    let parts = AggregateChunk::parse(c.data).unwrap();
                    let (encoding, data) = parts.get(Aggregate::Count).unwrap();
                    let mut floats = Floats::default();
                    decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut floats).unwrap();
                    floats.t.iter().zip(&floats.v).for_each(|(t, n)| add(*t, *n as u64));
                }
            }
        }
    }
    out
}

/// Resolution in minutes, start and end in hours from [`T`].
fn spans(dir: &Path) -> Vec<(i64, i64, i64)> {
    let span = |m: &BlockMeta| (m.resolution_ms() / 60_000, (m.min_time - T) / H, (m.max_time - T) / H);
    blocks(dir).iter().map(|(_, m)| span(m)).collect()
}

/// Names at both places.
fn names(dir: &Path) -> usize {
    [dir.to_owned(), dir.join("downsampled")]
        .iter()
        .flat_map(|d| std::fs::read_dir(d).into_iter().flatten())
        .filter(|e| e.as_ref().unwrap().file_name() != "downsampled")
        .count()
}

const RAW_60H: Tiers = Tiers { raw_ms: 60 * H, five_minutes_ms: 0, one_hour_ms: 0 };

fn options(tiers: Option<Tiers>) -> DownsamplingOptions {
    DownsamplingOptions { tiers, into: None }
}

fn run_in(world: &World, dir: &Path, tiers: Option<Tiers>) -> Outcome {
    run(world, dir, &options(tiers), &Control::default(), &mut |_| {}).unwrap()
}

/// Three blocks that fill a range, one apart, and 100 h later the newest.
fn five() -> TempDir {
    let dir = scratch_in_memory();
    for (n, start) in [0, 2, 4, 6, 100].into_iter().enumerate() {
        put(dir.path(), n, T + start * H, T + (start + 2) * H, 0);
    }
    dir
}

const NOW: i64 = T + 103 * H;

#[test]
fn blocks_are_made_merged_and_dropped_and_then_nothing_is_left_to_do() {
    let dir = five();
    let dir = dir.path();
    let before = counts(dir);
    let world = world(Arc::new(RealDisk), NOW, 1);
    let planned = situation(&world, dir, &options(None)).unwrap().simulate();
    let done = run_in(&world, dir, None);
    assert!(done.is_complete(), "{done:?}");
    assert_eq!(done.made.len(), planned.len());
    assert_eq!(done.made.iter().filter(|m| m.is_merge()).count(), 2);
    let want = [(0, 0, 2), (0, 2, 4), (0, 4, 6), (0, 6, 8), (0, 100, 102), (5, 0, 8)];
    assert_eq!(spans(dir), want);
    let after = counts(dir);
    for hour in 0..4 {
        assert_eq!(after[&(300_000, hour)], before[&(0, hour)]);
    }
    assert_eq!(names(dir), 6);
    let again = run_in(&world, dir, None);
    assert!(again.is_complete() && again.made.is_empty() && again.removed.is_empty(), "{again:?}");
    // The gap is longer than a tenth of the tier, and no elapsed time.
    let kept = run_in(&world, dir, Some(RAW_60H));
    assert!(kept.removed.is_empty(), "{kept:?}");
    let tiers = Some(Tiers { raw_ms: 3 * H, ..RAW_60H });
    let dropped = run_in(&world, dir, tiers);
    assert_eq!(dropped.removed.len(), 3, "{dropped:?}");
    assert_eq!(spans(dir), [(0, 6, 8), (0, 100, 102), (5, 0, 8)]);
    assert!(run_in(&world, dir, tiers).removed.is_empty());
}

#[test]
fn late_samples_replace_what_was_made_without_them() {
    let dir = five();
    let dir = dir.path();
    run_in(&world(Arc::new(RealDisk), NOW, 1), dir, None);
    put(dir, 60, T + 6 * H, T + 8 * H, STEP / 2);
    put(dir, 61, T + 2 * H, T + 3 * H, STEP / 2);
    let before = counts(dir);
    let done = run_in(&world(Arc::new(RealDisk), NOW, 2), dir, None);
    assert!(done.is_complete(), "{done:?}");
    let after = counts(dir);
    for hour in 0..4 {
        assert_eq!(after[&(300_000, hour)], before[&(0, hour)], "{hour}");
    }
    assert_eq!(spans(dir)[7..], [(5, 0, 8)]);
    assert_eq!(done.made.len(), 1);
    // Again, when the raw samples of a part are gone.
    std::fs::remove_dir_all(dir.join(id(0))).unwrap();
    put(dir, 62, T + 4 * H, T + 5 * H, STEP / 4);
    let done = run_in(&world(Arc::new(RealDisk), NOW, 3), dir, Some(Tiers { raw_ms: H, ..RAW_60H }));
    let kept: Vec<_> = done.kept_back.iter().map(|k| k.block.meta.ulid.clone()).collect();
    assert_eq!((done.made.len(), kept.contains(&id(62))), (0, true), "{done:?}");
    assert!(dir.join(id(62)).exists() && !done.is_complete());
}

/// Every sample is there, raw or in exactly one block of windows.
#[track_caller]
fn check(dir: &Path, before: &BTreeMap<(i64, i64), u64>, at: &str) {
    let now = counts(dir);
    for ((_, hour), n) in before {
        let (raw, five) = (now.get(&(0, *hour)), now.get(&(300_000, *hour)));
        assert!(raw.or(five).is_some(), "{at}: {hour} is lost");
        assert!(raw.is_none_or(|r| r == n), "{at}: {hour}");
        assert!(five.is_none_or(|f| f == n), "{at}: {hour} {five:?} {n}");
    }
}

#[test]
fn a_crash_at_any_call_loses_and_doubles_nothing() {
    let dir = five();
    let before = counts(dir.path());
    let tiers = Some(Tiers { raw_ms: 3 * H, ..RAW_60H });
    let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
    run_in(&world(recorder.clone(), NOW, 1), dir.path(), tiers);
    let end = spans(dir.path());
    assert_eq!(end, [(0, 6, 8), (0, 100, 102), (5, 0, 8)]);
    let recording = recorder.recording();
    let mut images = 0;
    for image in CrashImages::new(&recording).all(7, 1) {
        images += 1;
        // All are too many for a test that is run often.
        if images % 7 != 0 {
            continue;
        }
        let scratch = scratch_in_memory();
        image.write_to(scratch.path()).unwrap();
        let at = image.describe();
        check(scratch.path(), &before, &at);
        if images % 49 == 0 {
            let done = run_in(&world(Arc::new(RealDisk), NOW, 9), scratch.path(), tiers);
            assert!(done.is_complete(), "{at}: {done:?}");
            check(scratch.path(), &before, &at);
            assert_eq!((spans(scratch.path()), names(scratch.path())), (end.clone(), end.len()), "{at}");
        }
    }
    assert!(images > 300, "{images}");
}

#[test]
fn a_run_that_fails_at_any_call_is_taken_up_again() {
    let tiers = Some(Tiers { raw_ms: 3 * H, ..RAW_60H });
    let dir = five();
    let before = counts(dir.path());
    let faulty = Faulty::new(Arc::new(RealDisk));
    run_in(&world(Arc::new(faulty.clone()), NOW, 1), dir.path(), tiers);
    let (calls, end) = (faulty.calls(), spans(dir.path()));
    assert!(calls > 100, "{calls}");
    for n in (1..=calls).step_by(5) {
        let dir = five();
        let dir = dir.path();
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.fail_from(Kind::Any, n);
        let cut = run(
            &world(Arc::new(faulty.clone()), NOW, 1),
            dir,
            &options(tiers),
            &Control::default(),
            &mut |_| {},
        );
        assert!(faulty.struck() > 0, "{n}");
        assert!(cut.is_err() || cut.is_ok_and(|c| c.quarantined.is_empty()), "{n}");
        check(dir, &before, &format!("call {n}"));
        let done = run_in(&world(Arc::new(RealDisk), NOW, 2), dir, tiers);
        assert!(done.is_complete(), "{n}: {done:?}");
        assert_eq!((spans(dir), names(dir)), (end.clone(), end.len()), "{n}");
        check(dir, &before, &format!("call {n}"));
    }
}

#[test]
fn a_damaged_block_is_set_aside_and_the_others_go_on() {
    for file in ["chunks/000001", "index", "meta.json"] {
        let dir = five();
        let dir = dir.path();
        let path = dir.join(id(1)).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = if file == "meta.json" { 0 } else { 20 };
        bytes[at] ^= 0x40;
        if file == "index" {
            bytes.truncate(40);
        }
        std::fs::write(&path, bytes).unwrap();
        let done = run_in(&world(Arc::new(RealDisk), NOW, 1), dir, None);
        assert_eq!(done.quarantined.len(), 1, "{file}: {done:?}");
        assert!(done.stopped.is_none() && !done.is_complete());
        assert!(dir.join("quarantine").join(id(1)).join("reason.json").exists(), "{file}");
        let five: Vec<_> = spans(dir).into_iter().filter(|s| s.0 == 5).collect();
        assert_eq!(five, [(5, 0, 8)], "{file}");
    }
}

#[test]
fn a_raw_block_stays_when_what_was_made_of_it_is_damaged() {
    let dir = five();
    let dir = dir.path();
    run_in(&world(Arc::new(RealDisk), NOW, 1), dir, None);
    let made = blocks(dir).into_iter().find(|(_, m)| m.resolution_ms() > 0).unwrap().0;
    std::fs::write(made.join("index"), b"no index").unwrap();
    let before = spans(dir);
    let done = run_in(&world(Arc::new(RealDisk), NOW, 2), dir, Some(Tiers { raw_ms: 3 * H, ..RAW_60H }));
    assert!(done.removed.is_empty() && !done.is_complete(), "{done:?}");
    assert_eq!(spans(dir), before);
}

/// Nothing is made of them, so nothing but a note says that they were looked at.
#[test]
fn blocks_without_windows_are_read_once_and_go_with_their_tier() {
    let dir = five();
    let dir = dir.path();
    put_values(dir, 70, T + 10 * H, T + 12 * H, 0, |_| f64::NAN);
    let world = |seed| world(Arc::new(RealDisk), NOW, seed);
    let first = run_in(&world(1), dir, None);
    assert!(first.is_complete(), "{first:?}");
    assert_eq!(first.made.iter().filter(|m| m.into.is_none()).count(), 1);
    let again = run_in(&world(2), dir, None);
    assert!(again.is_complete() && again.made.is_empty(), "{again:?}");
    // A damaged note is none.
    let note = dir.join("downsampled/without-windows.json");
    let text = std::fs::read_to_string(&note).unwrap();
    assert_eq!(text, format!("{{\"version\":1,\"sources\":[\"{}\"]}}\n", id(70)));
    std::fs::write(&note, &text[..20]).unwrap();
    assert_eq!(run_in(&world(3), dir, None).made.len(), 1);
    assert_eq!(std::fs::read_to_string(&note).unwrap(), text);
    let dropped = run_in(&world(5), dir, Some(Tiers { raw_ms: H, ..RAW_60H }));
    assert!(dropped.is_complete(), "{dropped:?}");
    assert!(!dir.join(id(70)).exists());
    let why: Vec<_> = dropped.removed.iter().map(|(b, why)| (b.meta.ulid.clone(), why.to_string())).collect();
    let text = "raw is kept for 1h, and it has nothing but stale markers and not-a-numbers".to_string();
    assert!(why.contains(&(id(70), text)), "{why:?}");
    // Late samples of its time have windows, and bring it in again.
    let dir = five();
    put_values(dir.path(), 70, T + 10 * H, T + 12 * H, 0, |_| f64::NAN);
    run_in(&world(6), dir.path(), None);
    put(dir.path(), 71, T + 10 * H, T + 12 * H, STEP / 2);
    let late = run_in(&world(7), dir.path(), None);
    assert!(late.is_complete() && late.made[0].from.len() == 2 && late.made[0].into.is_some(), "{late:?}");
}

#[test]
fn a_bucket_of_thanos_is_downsampled_beside_its_blocks() {
    let Some((_dir, bucket)) = unpack_directory("data/thanos-downsampled.tar.zst") else { return };
    let all = |dir: &Path| -> Vec<(i64, String)> {
        let labels = |m: &BlockMeta| m.thanos.as_ref().unwrap().labels["cluster"].clone();
        blocks(dir).iter().map(|(_, m)| (m.resolution_ms(), labels(m))).collect()
    };
    let mut before = all(&bucket);
    let world = world(Arc::new(RealDisk), 20_700 * D, 1);
    let done = run_in(&world, &bucket, None);
    assert!(done.made.is_empty() && done.is_complete(), "{done:?}");
    for (path, meta) in blocks(&bucket) {
        if meta.resolution_ms() > 0 {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let done = run_in(&world, &bucket, None);
    assert!(done.made.len() == 4 && done.is_complete(), "{done:?}");
    assert!(!bucket.join("downsampled").exists());
    let mut after = all(&bucket);
    before.sort();
    after.sort();
    assert_eq!(after, before);
    // Somewhere else.
    let into = scratch_in_memory();
    for (path, meta) in blocks(&bucket) {
        if meta.resolution_ms() > 0 {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let options = DownsamplingOptions { tiers: None, into: Some(into.path().join("new")) };
    for made in [4, 0] {
        let done = run(&world, &bucket, &options, &Control::default(), &mut |_| {}).unwrap();
        assert_eq!(done.made.iter().filter(|m| !m.is_merge()).count(), made, "{done:?}");
    }
    assert_eq!(blocks(&bucket).len(), 2);
    assert_eq!(blocks(&into.path().join("new")).len(), 4);
}
