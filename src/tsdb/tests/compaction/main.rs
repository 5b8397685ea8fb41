//! Compaction of whole directories: what is merged, what goes, what is set aside, and what stays whatever happens.

#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests make files and say what they did")]

mod crash;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tsdbctl_block::{BlockMeta, BlockSource, WriterOptions, write_block};
use tsdbctl_chunk::{AppenderOptions, Encoding, Floats, SeriesAppender, decode_floats_fast};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::file;
use tsdbctl_platform::random::SeededRandom;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::world::World;
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, EncodedChunk, StorageError};
use tsdbctl_testkit::{TempDir, scratch_in_memory};
use tsdbctl_tsdb::compaction::{Event, Outcome, compact, plan_directory};
use tsdbctl_tsdb::compaction_plan::{CompactionOptions, Refusal, Removal, Step, Why, ranges_up_to};
use tsdbctl_tsdb::retention::Retention;
use tsdbctl_tsdb::retention_rules::{Rule, Rules};
use tsdbctl_tsdb::{Database, OpenOptions};

const H: i64 = 3_600_000;
/// A multiple of 54 hours, in 2026.
const T: i64 = 9_200 * 54 * H;

struct At(i64);

impl Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn world(disk: Arc<dyn Disk>, now_ms: i64) -> World {
    // No two runs make blocks of the same name.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let random = Arc::new(SeededRandom::new(RUNS.fetch_add(1, Ordering::Relaxed)));
    World { disk, clock: Arc::new(At(now_ms)), random }
}

fn options() -> CompactionOptions {
    CompactionOptions { ranges_ms: ranges_up_to(2 * H, 54 * H), ..CompactionOptions::default() }
}

/// Identifiers in order.
fn id(n: usize) -> String {
    format!("01BKGTZQ1SYQJTR4PB43C8PD{n:02}")
}

/// Makes a block with samples every ten minutes of three series.
fn put(dir: &Path, n: usize, start: i64, end: i64) -> BlockMeta {
    put_at(dir, n, (start, end), start, 1.0)
}

fn put_at(dir: &Path, n: usize, range: (i64, i64), first: i64, value: f64) -> BlockMeta {
    let series = ["api", "debug", "web"].map(|job| {
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        for t in (first..range.1).step_by(600_000) {
            appender.append_float(t, value, 0).unwrap();
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
    let meta = BlockMeta::new(id(n), range.0, range.1);
    let mut source = LiteralSource::new(series.into());
    let options = WriterOptions::default();
    write_block(Arc::new(RealDisk), dir, &mut source, meta, options, &Control::default()).unwrap().unwrap()
}

fn edit(dir: &Path, n: usize, edit: impl FnOnce(&mut BlockMeta)) {
    let block = dir.join(id(n));
    let mut meta = BlockMeta::read(&block).unwrap();
    edit(&mut meta);
    meta.replace(&RealDisk, &block).unwrap();
}

/// Samples by series and time, and how many blocks have them.
type Samples = BTreeMap<(String, i64), (f64, usize)>;

fn samples(dir: &Path) -> Samples {
    let mut all = Samples::new();
    let database = Database::open(&[dir.to_owned()], OpenOptions::default()).unwrap();
    for entry in database.blocks() {
        let mut source = BlockSource::new(entry.block().unwrap(), i64::MIN, i64::MAX).unwrap();
        let mut symbols = Vec::new();
        source
            .symbols(&mut |s| {
                symbols.push(s.to_owned());
                Ok(())
            })
            .unwrap();
        while source.next().unwrap() {
            let job = symbols[source.labels().last().unwrap().1 as usize].clone();
            let mut chunks = ChunkBatch::default();
            source.chunks(&mut chunks).unwrap();
            for c in chunks.iter() {
                let mut floats = Floats::default();
                let encoding = Encoding::from_byte(c.encoding).unwrap();
                decode_floats_fast(encoding, c.data, i64::MIN, i64::MAX, &mut floats).unwrap();
                for (t, v) in floats.t.iter().zip(&floats.v) {
                    all.entry((job.clone(), *t)).or_insert((*v, 0)).1 += 1;
                }
            }
        }
    }
    all
}

/// Start and end of each block that counts, in hours from [`T`], and its level.
fn spans(dir: &Path) -> Vec<(i64, i64, i64)> {
    let database = Database::open(&[dir.to_owned()], OpenOptions::default()).unwrap();
    let span = |m: &BlockMeta| ((m.min_time - T) / H, (m.max_time - T) / H, m.compaction.level);
    database.blocks().iter().map(|b| span(&b.meta)).collect()
}

/// Names in the directory.
fn names(dir: &Path) -> Vec<String> {
    file::read_dir(dir).unwrap().into_iter().map(|e| e.name).collect()
}

fn run_in(world: &World, dir: &Path, options: &CompactionOptions) -> Outcome {
    compact(world, dir, options, &Control::default(), &mut |_| {})
}

fn run(dir: &Path, options: &CompactionOptions) -> Outcome {
    run_in(&world(Arc::new(RealDisk), T + 24 * H), dir, options)
}

/// Four blocks of two hours, of which three fill a range.
fn four() -> TempDir {
    let dir = scratch_in_memory();
    for n in 0..4 {
        let start = T + n * 2 * H;
        put(dir.path(), n as usize, start, start + 2 * H);
    }
    dir
}

#[test]
fn blocks_that_fill_a_range_become_one_and_then_nothing_is_left_to_do() {
    let dir = four();
    let dir = dir.path();
    let before = samples(dir);
    let world = world(Arc::new(RealDisk), T + 24 * H);
    let (plan, wrong) = plan_directory(&world, dir, &options(), &Control::default()).unwrap();
    assert_eq!((plan.steps.len(), wrong.len(), plan.blocks.len()), (1, 0, 2));
    let Step::Rewrite(step) = &plan.steps[0] else { panic!("{plan:?}") };
    assert_eq!((&step.why, &step.refusal, step.blocks.len()), (&Why::Range, &None, 3));
    assert_eq!(plan.peak_bytes, step.scratch_bytes);
    assert!(step.scratch_bytes > step.blocks.iter().map(|b| b.bytes).sum());
    assert_eq!(spans(dir).len(), 4, "planning does nothing");

    let mut events = Vec::new();
    let done = compact(&world, dir, &options(), &Control::default(), &mut |event| {
        events.push(match event {
            Event::Begun(_) => "begun",
            Event::Read(bytes) if bytes > 0 => "read",
            Event::Installed(Some(block), replaced) => {
                assert!(dir.join(&block.meta.ulid).exists());
                assert!(replaced.iter().all(|b| dir.join(&b.meta.ulid).exists()));
                "installed"
            }
            Event::Written(_) => "written",
            other => panic!("{other:?}"),
        });
    });
    assert!(done.is_complete() && !done.is_idle(), "{done:?}");
    assert_eq!((done.before.blocks, done.after.blocks, done.written.len()), (4, 2, 1));
    assert!(done.after.bytes < done.before.bytes);
    assert_eq!(events, ["begun", "read", "read", "read", "installed", "written"]);
    assert_eq!(spans(dir), [(0, 6, 2), (6, 8, 1)]);
    assert_eq!(samples(dir), before);
    assert_eq!(names(dir).len(), 2);
    assert!(run(dir, &options()).is_idle());
}

#[test]
fn overlapping_blocks_hold_each_sample_once_afterwards() {
    let dir = scratch_in_memory();
    let dir = dir.path();
    put(dir, 0, T, T + 2 * H);
    put(dir, 1, T + H, T + 3 * H);
    put(dir, 2, T + H, T + 2 * H);
    let before = samples(dir);
    assert!(before.values().any(|v| v.1 == 3));
    let done = run(dir, &options());
    assert_eq!((done.written.len(), &done.written[0].why), (1, &Why::Overlap), "{done:?}");
    assert_eq!(spans(dir), [(0, 3, 2)]);
    let after = samples(dir);
    assert!(after.values().all(|v| v.1 == 1));
    assert!(before.keys().eq(after.keys()));
}

#[test]
fn a_run_cut_off_at_any_call_loses_nothing_and_is_taken_up_again() {
    let dir = four();
    let before = samples(dir.path());
    let faulty = Faulty::new(Arc::new(RealDisk));
    run_in(&world(Arc::new(faulty.clone()), T + 24 * H), dir.path(), &options());
    let calls = faulty.calls();
    assert!(calls > 20, "{calls}");
    for n in 1..=calls {
        let dir = four();
        let dir = dir.path();
        // Even temporaries cannot be removed from here on, as if the process had ended.
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.fail_from(Kind::Any, n);
        let cut = run_in(&world(Arc::new(faulty.clone()), T + 24 * H), dir, &options());
        assert!(faulty.struck() > 0 && cut.quarantined.is_empty(), "{n}");
        assert_eq!(samples(dir), before, "call {n} failed");
        let done = run(dir, &options());
        assert!(done.is_complete(), "{n}: {done:?}");
        assert_eq!(spans(dir), [(0, 6, 2), (6, 8, 1)], "{n}");
        assert_eq!((samples(dir), names(dir).len()), (before.clone(), 2), "{n}");
    }
}

#[test]
fn a_full_disk_stops_the_step_and_takes_nothing() {
    let before = samples(four().path());
    let mut stopped = 0;
    for room in (0..6000).step_by(100) {
        let dir = four();
        let dir = dir.path();
        let faulty = Faulty::new(Arc::new(RealDisk));
        let on_event = faulty.clone();
        let full = compact(
            &world(Arc::new(faulty.clone()), T + 24 * H),
            dir,
            &options(),
            &Control::default(),
            // There was room when it was asked for.
            &mut |event| {
                if matches!(event, Event::Begun(_)) {
                    on_event.fill_after(room);
                }
            },
        );
        assert!(full.quarantined.is_empty(), "{full:?}");
        assert_eq!(samples(dir), before, "{room}");
        if let Some(error) = full.stopped {
            stopped += 1;
            assert!(error.may_pass(), "{error}");
            assert_eq!(names(dir).len(), 4, "{room}");
        }
        faulty.free();
        assert!(run(dir, &options()).is_complete());
        assert_eq!(spans(dir), [(0, 6, 2), (6, 8, 1)], "{room}");
    }
    assert!(stopped > 5, "{stopped}");
}

#[test]
fn a_step_that_cannot_fit_is_refused_before_it_begins() {
    type Change = fn(&mut CompactionOptions);
    type Expected = fn(&Refusal) -> bool;
    let cases: [(u64, Change, Expected); 3] = [
        (10, |_| {}, |r| matches!(r, Refusal::Space { needed: 66_000.., free: 10 })),
        (
            1 << 30,
            |o| o.scratch_bytes = Some(1000),
            |r| matches!(r, Refusal::Scratch { needed: 66_000.., limit: 1000 }),
        ),
        (1 << 30, |o| o.memory_bytes = Some(1000), |r| matches!(r, Refusal::Memory { limit: 1000, .. })),
    ];
    for (room, change, is_expected) in cases {
        let dir = four();
        let faulty = Faulty::new(Arc::new(RealDisk));
        faulty.fill_after(room);
        let mut options = options();
        change(&mut options);
        let world = world(Arc::new(faulty.clone()), T + 24 * H);
        let (plan, _) = plan_directory(&world, dir.path(), &options, &Control::default()).unwrap();
        let Step::Rewrite(step) = &plan.steps[0] else { panic!("{plan:?}") };
        assert!(is_expected(step.refusal.as_ref().unwrap()), "{step:?}");
        assert_eq!((plan.steps.len(), plan.blocks.len()), (1, 4));
        let done = run_in(&world, dir.path(), &options);
        assert_eq!(done.refused.len(), 1);
        assert!(is_expected(done.refused[0].refusal.as_ref().unwrap()), "{done:?}");
        assert!(!done.is_complete() && done.written.is_empty() && done.stopped.is_none());
        assert_eq!((names(dir.path()).len(), faulty.calls()), (4, 0));
    }
}

#[test]
fn labels_that_do_not_fit_into_memory_are_known_before_it_begins() {
    let dir = scratch_in_memory();
    let dir = dir.path();
    let labels = |block: usize, i: usize| {
        // Half of them are in both blocks.
        Labels::from_pairs([("id", format!("{:0200}", 300 * block + i)), ("job", "api".to_owned())])
    };
    for n in 0..3 {
        let start = T + n as i64 * 2 * H;
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        appender.append_float(start, 1.0, 0).unwrap();
        let mut chunks = ChunkBatch::default();
        for c in appender.into_chunks() {
            let encoding = c.encoding as u8;
            chunks.push(EncodedChunk { encoding, data: &c.data, mint: c.mint, maxt: c.maxt });
        }
        let series = (0..600).map(|i| (labels(n, i), chunks.clone())).collect();
        let meta = BlockMeta::new(id(n), start, start + 2 * H);
        let (mut source, writer) = (LiteralSource::new(series), WriterOptions::default());
        write_block(Arc::new(RealDisk), dir, &mut source, meta, writer, &Control::default()).unwrap();
    }
    put(dir, 3, T + 6 * H, T + 8 * H);
    let limited = |bytes: u64| CompactionOptions { memory_bytes: Some((16 << 20) + bytes), ..options() };
    let world = world(Arc::new(RealDisk), T + 24 * H);
    // 1,200 strings of 200 bytes, twice while they are put together; all of the three are 1,800.
    for (bytes, fits) in [(400_000, false), (600_000, true), (1 << 30, true)] {
        let options = limited(bytes);
        let (plan, _) = plan_directory(&world, dir, &options, &Control::default()).unwrap();
        let Step::Rewrite(step) = &plan.steps[0] else { panic!("{plan:?}") };
        assert!(step.memory_bytes > (16 << 20) + 480_000, "{step:?}");
        assert_eq!(step.refusal.is_none(), fits, "{step:?}");
        if !fits {
            let done = run(dir, &options);
            assert_eq!((done.refused.len(), done.written.len()), (1, 0), "{done:?}");
            assert_eq!(done.refused[0].refusal, step.refusal);
        }
    }
    let done = run(dir, &limited(600_000));
    assert_eq!((done.refused.len(), done.written.len()), (0, 1), "{done:?}");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_block_is_set_aside_and_the_others_go_on() {
    let index_toc = |block: &Path| {
        let path = block.join("index");
        let len = std::fs::metadata(&path).unwrap().len() as usize;
        flip(&path, len - 2);
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Damage<'_>, &str); 5] = [
        ("a chunk", &|b| flip(&b.join("chunks/000001"), 20), "chunks/000001"),
        ("the index", &index_toc, "index"),
        ("no index", &|b| std::fs::remove_file(b.join("index")).unwrap(), "index"),
        ("the meta", &|b| std::fs::write(b.join("meta.json"), "{").unwrap(), "meta.json"),
        (
            "tombstones",
            &|b| std::fs::write(b.join("tombstones"), b"\x01\x30\xba\x30\x07xxxx").unwrap(),
            "tombstones",
        ),
    ];
    for (what, damage, file) in cases {
        let dir = four();
        let dir = dir.path();
        let kept: Samples =
            samples(dir).into_iter().filter(|((_, t), _)| !(T + 2 * H..T + 4 * H).contains(t)).collect();
        damage(&dir.join(id(1)));
        let done = run(dir, &options());
        assert_eq!(done.quarantined.len(), 1, "{what}: {done:?}");
        assert!(done.stopped.is_none() && !done.is_complete(), "{what}: {done:?}");
        let aside = dir.join("quarantine").join(id(1));
        assert_eq!(done.quarantined[0].dir, aside);
        let reason = std::fs::read_to_string(aside.join("reason.json")).unwrap();
        assert!(reason.contains(&format!("\"file\": \"{file}\"")), "{what}: {reason}");
        assert!(aside.join("chunks/000001").exists());
        assert_eq!(samples(dir), kept, "{what}");
        assert_eq!(spans(dir), [(0, 6, 2), (6, 8, 1)], "{what}");
        assert!(run(dir, &options()).is_idle(), "what is set aside does not come up again");
    }
}

#[test]
fn what_a_later_program_wrote_is_left_alone() {
    let dir = four();
    let dir = dir.path();
    edit(dir, 1, |m| m.version = 9);
    let done = run(dir, &options());
    assert_eq!((done.left_alone.len(), done.quarantined.len()), (1, 0), "{done:?}");
    assert!(done.left_alone[0].1.contains("version 9"), "{done:?}");
    assert!(dir.join(id(1)).join("index").exists());
}

#[test]
fn what_is_replaced_or_empty_goes_and_what_it_was_made_of_goes_first() {
    let dir = four();
    let dir = dir.path();
    let parents = |ns: &[usize]| {
        ns.iter()
            .map(|n| tsdbctl_block::BlockDescription { ulid: id(*n), ..Default::default() })
            .collect::<Vec<_>>()
    };
    // 0 → 1 → 2, and 3 is empty.
    edit(dir, 1, |m| m.compaction.parents = parents(&[0]));
    edit(dir, 2, |m| m.compaction.parents = parents(&[1]));
    edit(dir, 3, |m| m.compaction.deletable = true);
    let done = run(dir, &options());
    let removed: Vec<_> = done.removed.iter().map(|(b, why)| (&*b.meta.ulid, why.clone())).collect();
    let position = |n| removed.iter().position(|(ulid, _)| *ulid == id(n)).unwrap();
    assert!(position(0) < position(1), "{removed:?}");
    assert_eq!(removed[position(3)].1, Removal::Empty);
    assert_eq!(removed[position(1)].1, Removal::Replaced);
    assert_eq!((names(dir), removed.len()), (vec![id(2)], 3));
}

#[test]
fn parents_stay_when_what_replaced_them_is_damaged() {
    let dir = four();
    let dir = dir.path();
    let before = samples(dir);
    put(dir, 9, T, T + 6 * H);
    edit(dir, 9, |m| {
        m.compaction.level = 2;
        m.compaction.parents =
            (0..3).map(|n| tsdbctl_block::BlockDescription { ulid: id(n), ..Default::default() }).collect();
    });
    std::fs::write(dir.join(id(9)).join("index"), b"no index").unwrap();
    let done = run(dir, &options());
    assert_eq!((done.quarantined.len(), done.written.len()), (1, 1), "{done:?}");
    assert_eq!(spans(dir), [(0, 6, 2), (6, 8, 1)]);
    assert_eq!(samples(dir), before);
}

#[test]
fn temporaries_of_an_interrupted_run_go() {
    let dir = four();
    let dir = dir.path();
    for name in [format!("{}.tmp-for-creation", id(50)), format!("{}.tmp-for-deletion", id(51))] {
        std::fs::create_dir_all(dir.join(&name).join("chunks")).unwrap();
        std::fs::write(dir.join(name).join("index"), "x").unwrap();
    }
    std::fs::create_dir(dir.join("mine.tmp")).unwrap();
    assert!(run(dir, &options()).is_complete());
    assert_eq!(names(dir).len(), 3, "{:?}", names(dir));
}

#[test]
fn expired_blocks_go_and_a_block_from_the_future_takes_none_with_it() {
    let dir = four();
    let dir = dir.path();
    let keep =
        |time_ms| CompactionOptions { retention: Retention { time_ms, ..Retention::default() }, ..options() };
    put_at(dir, 8, (T + 720 * H, T + 721 * H), T + 720 * H, 1.0);
    let done = run(dir, &keep(8 * H));
    assert_eq!((done.removed.len(), done.future.len()), (0, 1), "{done:?}");
    let done = run(dir, &keep(2 * H));
    assert_eq!(done.removed.len(), 1, "{done:?}");
    assert!(matches!(done.removed[0].1, Removal::Expired(_)));
    assert_eq!(spans(dir), [(6, 8, 1), (720, 721, 1)]);
}

#[test]
fn what_retention_takes_before_it_is_downsampled_is_told() {
    for (sources, told) in [(vec![], 0), (vec![0, 9], 1), (vec![0, 1, 2], 0)] {
        let dir = four();
        let dir = dir.path();
        run(dir, &options());
        if !sources.is_empty() {
            let mut windows = BlockMeta::new(id(50), T, T + 6 * H).downsampled(id(50), 300_000);
            windows.compaction.sources = sources.iter().map(|n| id(*n)).collect();
            let block = dir.join("downsampled").join(id(50));
            std::fs::create_dir_all(&block).unwrap();
            std::fs::write(block.join("meta.json"), serde_json::to_vec(&windows).unwrap()).unwrap();
        }
        let retention = Retention { time_ms: 2 * H, ..Retention::default() };
        let done = run(dir, &CompactionOptions { retention, ..options() });
        assert_eq!((done.removed.len(), done.not_downsampled.len()), (1, told), "{sources:?} {done:?}");
    }
}

fn rule(job: &str, keep_ms: i64) -> Rule {
    Rule { selector: format!("{{job={job:?}}}"), matchers: vec![Matcher::equal("job", job)], keep_ms }
}

#[test]
fn a_rule_takes_its_series_and_a_block_is_not_rewritten_for_it_each_time() {
    let dir = scratch_in_memory();
    let dir = dir.path();
    put(dir, 0, T, T + 10 * H);
    put(dir, 1, T + 10 * H, T + 22 * H);
    let before = samples(dir);
    let left = |cutoff: i64| -> Samples {
        before.clone().into_iter().filter(|((job, t), _)| job != "debug" || *t >= cutoff).collect()
    };
    // The rule's cutoff at a time from the start, whether blocks are rewritten, and what is cut off then.
    let mut expected = 0;
    for (cutoff, writes) in [(4, 0), (5, 1), (6, 0), (9, 0), (10, 1), (11, 0)] {
        let options = CompactionOptions { rules: Rules(vec![rule("debug", (22 - cutoff) * H)]), ..options() };
        let done = run(dir, &options);
        assert!(done.is_complete(), "{done:?}");
        assert_eq!(done.written.len(), writes, "{cutoff}: {done:?}");
        if writes > 0 {
            expected = cutoff;
            assert!(matches!(done.written[0].why, Why::Rule { .. }));
        }
        assert_eq!(samples(dir), left(T + expected * H), "{cutoff}");
    }
    // A block of which nothing is left goes.
    let all = CompactionOptions {
        rules: Rules(vec![rule("none", 0), Rule { matchers: vec![], ..rule("", 10 * H) }]),
        ..options()
    };
    let done = run(dir, &all);
    assert_eq!((done.written.len(), &done.written[0].into), (1, &None), "{done:?}");
    assert_eq!((spans(dir), names(dir).len()), (vec![(10, 22, 1)], 1));
}

#[test]
fn rules_apply_where_blocks_are_merged_anyway() {
    let dir = four();
    let dir = dir.path();
    let options = CompactionOptions {
        rules: Rules(vec![rule("web", 0), Rule { matchers: vec![], ..rule("", 6 * H) }]),
        ..options()
    };
    let done = run(dir, &options);
    assert_eq!((done.written.len(), &done.written[0].why), (1, &Why::Range));
    let after = samples(dir);
    let count = |job: &str| after.keys().filter(|k| k.0 == job).count();
    assert_eq!((count("web"), count("api"), count("debug")), (48, 36, 36));
    assert!(after.keys().all(|(job, t)| job == "web" || *t >= T + 2 * H));
}

#[test]
fn blocks_that_are_not_uploaded_wait() {
    let dir = four();
    let dir = dir.path();
    let uploaded =
        |ns: &[usize]| CompactionOptions { uploaded: Some(ns.iter().map(|n| id(*n)).collect()), ..options() };
    assert!(run(dir, &uploaded(&[0, 1, 3])).is_idle());
    assert_eq!(run(dir, &uploaded(&[0, 1, 2, 3])).written.len(), 1);
}

#[test]
fn late_samples_do_not_hide_what_the_head_still_has() {
    let dir = scratch_in_memory();
    let dir = dir.path();
    put(dir, 0, T, T + 2 * H);
    for (n, start) in [(1, T + 2 * H), (2, T + 6 * H), (3, T + 8 * H)] {
        put(dir, n, start, start + 2 * H);
        edit(dir, n, |m| m.compaction.hints = vec!["from-out-of-order".into()]);
    }
    std::fs::create_dir(dir.join("wal")).unwrap();
    let done = run(dir, &options());
    assert_eq!(done.refused.iter().map(|r| r.refusal.clone()).collect::<Vec<_>>(), [Some(Refusal::Head)]);
    assert!(done.written.is_empty());
    std::fs::remove_dir(dir.join("wal")).unwrap();
    assert_eq!(run(dir, &options()).written.len(), 1);
}

#[test]
fn who_asks_it_to_stop_finds_all_as_it_was() {
    let dir = four();
    let dir = dir.path();
    let control = Control::default();
    let interrupt = control.interrupt.clone();
    let done = compact(&world(Arc::new(RealDisk), T + 24 * H), dir, &options(), &control, &mut |event| {
        if matches!(event, Event::Read(_)) {
            interrupt.set();
        }
    });
    assert!(matches!(done.stopped, Some(StorageError::Control(_))), "{done:?}");
    assert_eq!((spans(dir).len(), names(dir).len()), (4, 4));
}
