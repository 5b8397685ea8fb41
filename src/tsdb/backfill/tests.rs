//! Blocks of a backfill against a plain model: whatever the order, the memory and the lengths of blocks.

use std::collections::BTreeMap;

use tsdbctl_block::Block;
use tsdbctl_block::source::BlockSource;
use tsdbctl_chunk::{Encoding, SampleColumns, decode};
use tsdbctl_model::Histogram;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_platform::clock::SystemClock;
use tsdbctl_platform::crash::CrashImages;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::random::{Generator, SeededRandom};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_storage::{ChunkBatch, ChunkSource};

use super::*;

/// A sample: number of the series, time, value; histograms have their value as count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Float(f64),
    Histogram(u64),
}

type Input = Vec<(u32, i64, Value)>;

fn name(series: u32) -> String {
    format!("{:03}", series * 7919 % 1000)
}

fn histogram(count: u64) -> ConvertedHistogram {
    ConvertedHistogram::Integer(Histogram {
        count,
        sum: count as f64,
        positive_spans: vec![BucketSpan { offset: (count % 3) as i32, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    })
}

/// All chunks of a block by series: encoding, first and last time, bytes.
type Chunks = BTreeMap<Vec<(String, String)>, Vec<(u8, i64, i64, Vec<u8>)>>;

fn chunks_of(dir: &Path) -> (BlockMeta, Chunks) {
    let block = Arc::new(Block::open(dir).unwrap());
    let meta = BlockMeta::read(dir).unwrap();
    let mut source = BlockSource::new(block, i64::MIN, i64::MAX).unwrap();
    let mut symbols = Vec::new();
    source
        .symbols(&mut |s| {
            symbols.push(s.to_owned());
            Ok(())
        })
        .unwrap();
    assert!(symbols.is_sorted());
    let mut out = Chunks::new();
    let mut last = Vec::new();
    while source.next().unwrap() {
        let labels: Vec<(String, String)> = source
            .labels()
            .iter()
            .map(|(n, v)| (symbols[*n as usize].clone(), symbols[*v as usize].clone()))
            .collect();
        assert!(last < labels, "{last:?} {labels:?}");
        last.clone_from(&labels);
        let mut batch = ChunkBatch::default();
        source.chunks(&mut batch).unwrap();
        out.insert(labels, batch.iter().map(|c| (c.encoding, c.mint, c.maxt, c.data.to_vec())).collect());
    }
    (meta, out)
}

/// Blocks by their range, and what they hold.
fn blocks_of(dir: &Path, report: &BackfillReport) -> Vec<((i64, i64), Chunks)> {
    let mut out = Vec::new();
    for block in &report.blocks {
        let (meta, chunks) = chunks_of(&dir.join(&block.meta.ulid));
        assert_eq!(meta, block.meta);
        assert_eq!((meta.compaction.level, &meta.compaction.sources), (1, &vec![meta.ulid.clone()]));
        assert_eq!(meta.stats.num_series, chunks.len() as u64);
        out.push(((meta.min_time, meta.max_time), chunks));
    }
    out
}

fn samples_of(blocks: &[((i64, i64), Chunks)]) -> BTreeMap<(String, i64), Value> {
    let mut out = BTreeMap::new();
    for ((mint, maxt), chunks) in blocks {
        for (labels, chunks) in chunks {
            let mut end = i64::MIN;
            for (encoding, first, last, data) in chunks {
                assert!(end < *first, "chunks do not overlap");
                end = *last;
                let mut columns = SampleColumns::default();
                let encoding = Encoding::from_byte(*encoding).unwrap();
                decode(encoding, data, i64::MIN, i64::MAX, &mut columns).unwrap();
                let floats = (0..columns.floats.len())
                    .map(|i| (columns.floats.t[i], Value::Float(columns.floats.v[i])));
                let histograms = (0..columns.histograms.len()).map(|i| {
                    (columns.histograms.t[i], Value::Histogram(columns.histograms.h[i].count as u64))
                });
                for (t, v) in floats.chain(histograms) {
                    assert!((*mint..*maxt).contains(&t));
                    assert!(out.insert((labels[1].1.clone(), t), v).is_none(), "twice");
                }
            }
        }
    }
    out
}

/// What the rule says: the first of a series and time is stored.
fn model(input: &Input) -> (BTreeMap<(String, i64), Value>, u64, u64) {
    let (mut stored, mut same, mut conflicts) = (BTreeMap::new(), 0, 0);
    for (series, t, v) in input {
        match stored.entry((name(*series), *t)) {
            std::collections::btree_map::Entry::Vacant(e) => {
                e.insert(*v);
            }
            std::collections::btree_map::Entry::Occupied(e) if e.get() == v => same += 1,
            _ => conflicts += 1,
        }
    }
    (stored, same, conflicts)
}

fn world() -> World {
    World::real()
}

fn feed(backfill: &mut Backfill, input: &Input) {
    for (series, t, v) in input {
        let id = backfill.series([("__name__", "m"), ("n", name(*series).as_str())].into_iter());
        let taken = match v {
            Value::Float(v) => backfill.float(id, *t, *v, 0),
            Value::Histogram(count) => backfill.histogram(id, *t, &histogram(*count), 0),
        };
        assert_eq!(taken, Taken::Kept);
        backfill.check().unwrap();
    }
}

fn run(dir: &Path, options: BackfillOptions, input: &Input) -> BackfillReport {
    let mut backfill = Backfill::open(world(), dir, options).unwrap();
    feed(&mut backfill, input);
    let report = backfill.finish(&Control::default()).unwrap();
    assert_eq!(report.stored + report.same + report.conflicts, input.len() as u64);
    report
}

fn left_over(dir: &Path) -> Vec<String> {
    file::read_dir(dir).unwrap().into_iter().map(|e| e.name).filter(|n| n.contains("tmp")).collect()
}

fn shuffle<T>(items: &mut [T], random: &mut Generator) {
    for i in (1..items.len()).rev() {
        items.swap(i, (random.next() % (i as u64 + 1)) as usize);
    }
}

/// Random input of a few series: floats, or histograms too, each time once.
fn sorted_input(random: &mut Generator, with_histograms: bool) -> Input {
    let mut out = Vec::new();
    let series = 1 + random.next() % 6;
    for s in 0..series as u32 {
        let mut t = -(random.next() as i64).rem_euclid(9_000_000);
        let is_histogram = with_histograms && s % 2 == 1;
        for _ in 0..random.next() % 300 {
            t += 1 + (random.next() % 60_000) as i64;
            let v = random.next() % 50;
            out.push((s, t, if is_histogram { Value::Histogram(v + 1) } else { Value::Float(v as f64) }));
        }
    }
    out.sort_by_key(|s| s.1);
    out
}

#[test]
fn any_order_and_any_memory_make_the_same_blocks() {
    let mut random = Generator::new(11);
    for round in 0..6 {
        let sorted = sorted_input(&mut random, false);
        let block_ms = [7_200_000, 600_000, 21_600_000][round % 3];
        let options = BackfillOptions { block_ms, ..BackfillOptions::default() };
        let dir = tsdbctl_testkit::scratch_in_memory();
        let report = run(dir.path(), options, &sorted);
        let want = blocks_of(dir.path(), &report);
        assert_eq!(samples_of(&want), model(&sorted).0);
        assert!(want.windows(2).all(|w| w[0].0.1 <= w[1].0.0), "blocks by time, apart");
        assert_eq!(report.scratch_bytes, 0);
        let mut by_series = sorted.clone();
        by_series.sort_by_key(|s| s.0);
        let backwards: Input = sorted.iter().rev().copied().collect();
        let mut shuffled = sorted.clone();
        shuffle(&mut shuffled, &mut random);
        let mut halves = sorted.clone();
        halves.rotate_left(sorted.len() / 2);
        for (order, input) in [
            ("sorted", &sorted),
            ("by series", &by_series),
            ("backwards", &backwards),
            ("shuffled", &shuffled),
            ("halves", &halves),
        ] {
            for memory_bytes in [usize::MAX, 4_000, 300_000] {
                let dir = tsdbctl_testkit::scratch_in_memory();
                let options = BackfillOptions { memory_bytes, ..options };
                let report = run(dir.path(), options, input);
                assert_eq!(
                    blocks_of(dir.path(), &report),
                    want,
                    "round {round}, {order}, {memory_bytes} bytes"
                );
                assert_eq!(report.scratch_bytes > 0, memory_bytes <= 4_000 && !input.is_empty());
                assert_eq!(left_over(dir.path()), [""; 0]);
            }
        }
    }
}

#[test]
fn histograms_come_out_in_any_order() {
    let mut random = Generator::new(12);
    for _ in 0..8 {
        let sorted = sorted_input(&mut random, true);
        let mut shuffled = sorted.clone();
        shuffle(&mut shuffled, &mut random);
        for input in [&sorted, &shuffled] {
            for memory_bytes in [usize::MAX, 4_000] {
                let dir = tsdbctl_testkit::scratch_in_memory();
                let report =
                    run(dir.path(), BackfillOptions { memory_bytes, ..BackfillOptions::default() }, input);
                assert_eq!(samples_of(&blocks_of(dir.path(), &report)), model(&sorted).0);
            }
        }
    }
}

#[test]
fn the_first_of_a_series_and_time_is_stored_and_the_others_are_counted() {
    let mut random = Generator::new(13);
    for round in 0..60 {
        // Few times and values: many meet.
        let mut input: Input = (0..300)
            .map(|_| {
                let v = random.next() % 3;
                let t = (random.next() % 40) as i64 * 400_000 - 8_000_000;
                let float = round % 2 == 0 || !random.next().is_multiple_of(3);
                let series = (random.next() % 3) as u32;
                (series, t, if float { Value::Float(v as f64) } else { Value::Histogram(v + 1) })
            })
            .collect();
        if round % 3 == 0 {
            input.sort_by_key(|s| s.1);
        }
        let (stored, same, conflicts) = model(&input);
        for memory_bytes in [usize::MAX, 1, 2_000, 6_000] {
            let dir = tsdbctl_testkit::scratch_in_memory();
            let report =
                run(dir.path(), BackfillOptions { memory_bytes, ..BackfillOptions::default() }, &input);
            let found = samples_of(&blocks_of(dir.path(), &report));
            let counts = (report.stored, report.same, report.conflicts);
            assert_eq!(counts, (stored.len() as u64, same, conflicts), "round {round}, {memory_bytes}");
            assert_eq!(report.conflict.is_some(), conflicts > 0);
            assert_eq!(found, stored, "round {round}, {memory_bytes}");
        }
    }
}

#[test]
fn time_that_is_held_is_refused_unless_asked_for() {
    let dir = tsdbctl_testkit::scratch_in_memory();
    let input = |times: &[i64]| times.iter().map(|t| (0, *t, Value::Float(1.0))).collect::<Input>();
    let first = run(dir.path(), BackfillOptions::default(), &input(&[1000, 5000]));
    let ulid = first.blocks[0].meta.ulid.clone();
    for (t, held) in
        [(999, false), (1000, true), (4999, true), (5000, true), (5001, false), (7_200_000, false)]
    {
        let mut backfill = Backfill::open(world(), dir.path(), BackfillOptions::default()).unwrap();
        let id = backfill.series([("__name__", "m")].into_iter());
        backfill.float(id, t, 1.0, 0);
        match backfill.check() {
            Ok(()) => assert!(!held, "{t}"),
            Err(BackfillError::Overlap { t: at, held: by, .. }) => {
                assert!(held && at == t, "{t}");
                assert_eq!(by, [Held { block: Some(ulid.clone()), start: 1000, end: 5001 }]);
                assert!(backfill.check().is_err(), "it stays so");
            }
            Err(e) => panic!("{e}"),
        }
    }
    // Around it, in one run: two blocks that do not overlap.
    let report = run(dir.path(), BackfillOptions::default(), &input(&[6000, 999, 0]));
    let ranges: Vec<(i64, i64)> = report.blocks.iter().map(|b| (b.meta.min_time, b.meta.max_time)).collect();
    assert_eq!(ranges, [(0, 1000), (6000, 6001)]);
    let over = BackfillOptions { allow_overlap: true, ..BackfillOptions::default() };
    let report = run(dir.path(), over, &input(&[0, 2000, 9000]));
    let ranges: Vec<(i64, i64)> = report.blocks.iter().map(|b| (b.meta.min_time, b.meta.max_time)).collect();
    assert_eq!(ranges, [(0, 9001)]);
}

#[test]
fn a_directory_that_is_in_use_is_refused_and_what_was_left_of_another_run_goes() {
    let dir = tsdbctl_testkit::scratch_in_memory();
    let left = dir.path().join(format!("01BKGTZQ1SYQJTR4PB43C8PD98{TEMPORARY_SUFFIX}"));
    std::fs::create_dir_all(left.join("chunks")).unwrap();
    let backfill = Backfill::open(world(), dir.path(), BackfillOptions::default()).unwrap();
    assert!(!left.exists());
    let error = Backfill::open(world(), dir.path(), BackfillOptions::default()).unwrap_err().to_string();
    assert!(error.contains("lock DB directory"), "{error}");
    drop(backfill);
    let mut backfill = Backfill::open(
        world(),
        dir.path(),
        BackfillOptions { memory_bytes: 1, ..BackfillOptions::default() },
    )
    .unwrap();
    feed(&mut backfill, &vec![(0, 5, Value::Float(1.0)), (0, 6, Value::Float(1.0))]);
    assert_eq!(left_over(dir.path()).len(), 1);
    drop(backfill);
    assert_eq!(left_over(dir.path()), [""; 0]);
}

#[test]
fn blocks_that_end_later_than_now_do_not_shut_a_server_out() {
    let dir = tsdbctl_testkit::scratch_in_memory();
    let now = world().clock.now_ms();
    let report = run(
        dir.path(),
        BackfillOptions::default(),
        &vec![(0, now - 86_400_000, Value::Float(1.0)), (0, now + 86_400_000, Value::Float(1.0))],
    );
    let in_order: Vec<bool> = report.blocks.iter().map(|b| b.meta.is_in_order()).collect();
    assert_eq!(in_order, [true, false]);
}

#[test]
fn durations_are_promtools() {
    const HOUR: i64 = 3_600_000;
    for (max, want) in
        [(0, 2), (2, 2), (5, 2), (6, 6), (17, 6), (18, 18), (24, 18), (54, 54), (1_000_000, 2 * 19_683)]
    {
        assert_eq!(block_duration(max * HOUR), want * HOUR, "{max}");
    }
}

#[test]
fn impossible_samples_are_refused_one_by_one() {
    let dir = tsdbctl_testkit::scratch_in_memory();
    let mut backfill = Backfill::open(world(), dir.path(), BackfillOptions::default()).unwrap();
    let id = backfill.series([("__name__", "m")].into_iter());
    for t in [i64::MIN, i64::MAX, i64::MAX / 2] {
        assert_eq!(backfill.float(id, t, 1.0, 0), Taken::OutOfBounds);
    }
    let ConvertedHistogram::Integer(mut h) = histogram(5) else { panic!() };
    h.count = 1;
    assert_eq!(backfill.histogram(id, 5, &ConvertedHistogram::Integer(h), 0), Taken::InvalidHistogram);
    backfill.check().unwrap();
    let report = backfill.finish(&Control::default()).unwrap();
    assert_eq!((report.blocks.len(), report.stored), (0, 0));
    assert_eq!(left_over(dir.path()), [""; 0]);
}

/// Three blocks, through the scratch file, late samples too.
fn crash_input() -> Input {
    (0..60).map(|i| (i % 3, i64::from(i * 37 % 60) * 360_000, Value::Float(f64::from(i)))).collect()
}

fn attempt(disk: Arc<dyn Disk>, dir: &Path, input: &Input) -> Result<BackfillReport, BackfillError> {
    let clock = Arc::new(SystemClock::default());
    let world = World { disk, clock, random: Arc::new(SeededRandom::new(5)) };
    let options = BackfillOptions { memory_bytes: 1_000, ..BackfillOptions::default() };
    let mut backfill = Backfill::open(world, dir, options)?;
    for (series, t, v) in input {
        let id = backfill.series([("__name__", "m"), ("n", name(*series).as_str())].into_iter());
        if let Value::Float(v) = v {
            backfill.float(id, *t, *v, 0);
        }
        backfill.check()?;
    }
    backfill.finish(&Control::default())
}

/// The samples in a directory: each block is whole, and none of them overlaps another.
fn found(dir: &Path) -> BTreeMap<(String, i64), Value> {
    let listing = Listing::of(dir, false).unwrap();
    let blocks: Vec<_> =
        listing.live.iter().map(|b| ((b.meta.min_time, b.meta.max_time), chunks_of(&b.dir).1)).collect();
    samples_of(&blocks)
}

/// What a directory that a run was cut off in has, and what a second run does about it.
fn check_rerun(dir: &Path, input: &Input, at: &str) -> usize {
    let before = found(dir);
    let (all, ..) = model(input);
    assert!(before.iter().all(|(k, v)| all.get(k) == Some(v)), "{at}");
    match attempt(Arc::new(RealDisk), dir, input) {
        Ok(_) => assert_eq!(found(dir), all, "{at}"),
        Err(BackfillError::Overlap { .. }) => assert_eq!(found(dir), before, "{at}"),
        Err(e) => panic!("{at}: {e}"),
    }
    assert_eq!(left_over(dir), [""; 0], "{at}");
    before.len()
}

#[test]
fn a_crash_leaves_whole_blocks_and_a_second_run_doubles_nothing() {
    let input = crash_input();
    let dir = tsdbctl_testkit::scratch_in_memory();
    let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
    assert_eq!(attempt(recorder.clone(), &dir.path().join("db"), &input).unwrap().blocks.len(), 3);
    recorder.mark("written");
    let recording = recorder.recording();
    let (mut images, mut complete) = (0, 0);
    for image in CrashImages::new(&recording).all(3, 1) {
        let dir = tsdbctl_testkit::scratch_in_memory();
        image.write_to(dir.path()).unwrap();
        let db = dir.path().join("db");
        std::fs::create_dir_all(&db).unwrap();
        let had = check_rerun(&db, &input, &image.describe());
        assert!(image.marks == 0 || had == input.len(), "{}: lost", image.describe());
        images += 1;
        complete += usize::from(had == input.len());
    }
    assert!(images > 100 && complete > 0 && complete < images, "{complete} of {images}");
}

#[test]
fn a_failing_disk_gives_an_error_and_no_block() {
    let input = crash_input();
    let faulty = Faulty::new(Arc::new(RealDisk));
    let dir = tsdbctl_testkit::scratch_in_memory();
    attempt(Arc::new(faulty.clone()), &dir.path().join("db"), &input).unwrap();
    let calls = faulty.calls();
    assert!(calls > 60, "{calls}");
    for n in 1..=calls {
        for for_good in [false, true] {
            let at = format!("call {n}, for good: {for_good}");
            let dir = tsdbctl_testkit::scratch_in_memory();
            let faulty = Faulty::new(Arc::new(RealDisk));
            if for_good {
                faulty.fail_from(Kind::Any, n);
            } else {
                faulty.fail_once(Kind::Any, n);
            }
            let db = dir.path().join("db");
            let ended = attempt(Arc::new(faulty.clone()), &db, &input);
            std::fs::create_dir_all(&db).unwrap();
            // Temporaries go with the next run.
            let had = found(&db).len();
            match &ended {
                Ok(report) => assert_eq!(had, report.stored as usize, "{at}"),
                Err(BackfillError::Partly { blocks, .. }) => assert!(!blocks.is_empty(), "{at}"),
                Err(BackfillError::Storage(_)) => assert_eq!(had, 0, "{at}"),
                Err(e) => panic!("{at}: {e}"),
            }
            check_rerun(&db, &input, &at);
        }
    }
}
