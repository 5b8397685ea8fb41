//! Directories merged into another one while the machine fails: whatever is left is whole, and the same again makes
//! the rest, no sample twice.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_block::plan::block_ranges;
use tsdbctl_block::{Relabelling, WriterOptions};
use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::SymbolTable;
use tsdbctl_platform::clock::SystemClock;
use tsdbctl_platform::crash::CrashImages;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::random::SeededRandom;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, TimeFilter};
use tsdbctl_testkit::{TempDir, scratch_in_memory};
use tsdbctl_tsdb::backfill::{Backfill, BackfillOptions};
use tsdbctl_tsdb::rewrite::{Input, Rewrite, RewriteError, RewriteOptions, Target, Wanted};
use tsdbctl_tsdb::{Database, OpenOptions};

const MINUTE: i64 = 60_000;

type Samples = BTreeMap<(String, i64), u64>;

fn world(disk: Arc<dyn Disk>) -> World {
    World { disk, clock: Arc::new(SystemClock::default()), random: Arc::new(SeededRandom::new(7)) }
}

/// Samples of some series, every ten minutes.
fn put(dir: &Path, series: &[&str], hours: std::ops::Range<i64>, value: f64) {
    let mut backfill = Backfill::open(world(Arc::new(RealDisk)), dir, BackfillOptions::default()).unwrap();
    for name in series {
        let id = backfill.series([("__name__", *name)].into_iter());
        for t in (hours.start * 60..hours.end * 60).step_by(10) {
            backfill.float(id, t * MINUTE, value + t as f64, 0);
        }
    }
    backfill.finish(&Control::default()).unwrap();
}

/// Two directories that overlap in time, of one series also in samples.
fn inputs() -> (TempDir, Samples) {
    let dir = scratch_in_memory();
    put(&dir.path().join("a"), &["both", "first"], 0..5, 0.0);
    put(&dir.path().join("b"), &["both", "second"], 3..9, 0.5);
    let mut want = read(&dir.path().join("b"));
    want.extend(read(&dir.path().join("a")));
    assert_eq!(want.len(), 54 + 30 + 36);
    (dir, want)
}

/// All samples of a directory, each of which is there once.
fn read(dir: &Path) -> Samples {
    let database = Database::open(&[dir.to_owned()], OpenOptions::default()).unwrap();
    let control = Control::default();
    let querier = database.querier(i64::MIN, i64::MAX, &[], &control).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &[], &mut symbols, &control).unwrap();
    let (mut out, mut columns, mut stats) = (Samples::new(), SampleColumns::default(), ReadStats::default());
    for i in 0..set.len() {
        columns.clear();
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let name = symbols.labels(set.labels(i)).get("__name__").to_string();
        for (t, v) in columns.floats.t.iter().zip(&columns.floats.v) {
            out.insert((name.clone(), *t), v.to_bits());
        }
    }
    let stored: u64 = database.blocks().iter().map(|b| b.meta.stats.num_samples).sum();
    assert_eq!(stored as usize, out.len(), "a sample is in two blocks");
    out
}

/// What is in a directory that may be there.
fn found(dir: &Path) -> Samples {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let is_there = entries.flatten().any(|e| e.file_name().len() == 26);
    if is_there { read(dir) } else { Samples::new() }
}

fn attempt(disk: Arc<dyn Disk>, from: &Path, into: &Path) -> Result<(), RewriteError> {
    let (world, control) = (world(disk), Control::default());
    let wanted = Wanted { range: (i64::MIN, i64::MAX), selections: Vec::new() };
    let mut inputs = Vec::new();
    for name in ["a", "b"] {
        let mut input = Input::open(&from.join(name), &wanted, &control)?;
        input.relabelling = Relabelling::default();
        inputs.push(input);
    }
    let target = Target::open(&world, into, &control)?;
    let ranges = block_ranges(120 * MINUTE, 1, 3);
    let options = RewriteOptions { ranges, allow_overlap: false, writer: WriterOptions::default() };
    let rewrite = Rewrite::plan(&inputs, &wanted, &target, options)?;
    for window in rewrite.windows().iter().filter(|w| !w.is_done) {
        rewrite.write(window, &world, &control, &mut || {})?;
    }
    Ok(())
}

/// What a run that was cut off left, and what a second one does about it.
fn check_rerun(from: &Path, into: &Path, want: &Samples, at: &str) -> usize {
    let before = found(into);
    assert!(before.iter().all(|(k, v)| want.get(k) == Some(v)), "{at}");
    attempt(Arc::new(RealDisk), from, into).unwrap_or_else(|e| panic!("{at}: {e}"));
    assert_eq!(found(into), *want, "{at}");
    let names = std::fs::read_dir(into).unwrap().map(|e| e.unwrap().file_name());
    let left: Vec<_> = names.filter(|n| n.to_string_lossy().contains("tmp")).collect();
    assert!(left.is_empty(), "{at}: {left:?}");
    before.len()
}

#[test]
fn a_crash_leaves_whole_blocks_and_a_second_run_makes_the_others() {
    let (from, want) = inputs();
    let dir = scratch_in_memory();
    let recorder = Arc::new(Recorder::new(Arc::new(RealDisk), dir.path()).unwrap());
    attempt(recorder.clone(), from.path(), &dir.path().join("into")).unwrap();
    recorder.mark("written");
    let recording = recorder.recording();
    let (mut images, mut empty, mut complete) = (0, 0, 0);
    for image in CrashImages::new(&recording).all(3, 1) {
        let dir = scratch_in_memory();
        image.write_to(dir.path()).unwrap();
        let had = check_rerun(from.path(), &dir.path().join("into"), &want, &image.describe());
        assert!(image.marks == 0 || had == want.len(), "{}: lost", image.describe());
        images += 1;
        empty += usize::from(had == 0);
        complete += usize::from(had == want.len());
    }
    assert!(images > 100 && empty > 0 && complete > 0, "{images} {empty} {complete}");
    assert!(images - empty - complete > 20, "{images} {empty} {complete}");
}

#[test]
fn a_failing_disk_gives_an_error_and_the_rest_is_made_later() {
    let (from, want) = inputs();
    let faulty = Faulty::new(Arc::new(RealDisk));
    let dir = scratch_in_memory();
    attempt(Arc::new(faulty.clone()), from.path(), &dir.path().join("into")).unwrap();
    let calls = faulty.calls();
    assert!(calls > 60, "{calls}");
    let mut failed = 0;
    for n in 1..=calls {
        let dir = scratch_in_memory();
        let into = dir.path().join("into");
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.fail_once(Kind::Any, n);
        failed += usize::from(attempt(Arc::new(faulty.clone()), from.path(), &into).is_err());
        check_rerun(from.path(), &into, &want, &format!("call {n}"));
    }
    assert!(failed as u64 > calls * 3 / 4, "{failed} of {calls}");
}
