//! Every prefix of the calls of a compaction, with what a power cut or the end of the process may leave of them: the
//! directory opens, holds what it held before or after, each sample once, and the next run ends as an undisturbed one.
//!
//! A share of the images is checked; `TSDBCTL_CRASH_POINTS=all` checks all of them.

use tsdbctl_block::BlockDescription;
use tsdbctl_platform::crash::CrashImages;
use tsdbctl_platform::recorder::Recorder;

use super::*;

/// How many images of an operation are checked by default.
const SHARE: usize = 40;

struct Case {
    name: &'static str,
    make: fn(&Path),
    options: fn() -> CompactionOptions,
    /// Whether samples are there once in every image, and not only in the end.
    once: bool,
}

fn make_four(dir: &Path) {
    for n in 0..4 {
        let start = T + n * 2 * H;
        put(dir, n as usize, start, start + 2 * H);
    }
}

fn parents(ns: &[usize]) -> Vec<BlockDescription> {
    ns.iter().map(|n| BlockDescription { ulid: id(*n), ..BlockDescription::default() }).collect()
}

fn with_rule(keep_ms: i64) -> CompactionOptions {
    CompactionOptions { rules: Rules(vec![rule("debug", keep_ms)]), ..options() }
}

const CASES: [Case; 8] = [
    Case { name: "merge", make: make_four, options, once: true },
    Case {
        name: "merge twice",
        make: |dir| {
            for n in 0..10 {
                let start = T + n * 2 * H;
                put(dir, n as usize, start, start + 2 * H);
            }
        },
        options,
        once: true,
    },
    Case {
        name: "overlapping",
        make: |dir| {
            put(dir, 0, T, T + 2 * H);
            put(dir, 1, T + H, T + 3 * H);
            put(dir, 2, T + H, T + 2 * H);
        },
        options,
        once: false,
    },
    Case {
        name: "retention",
        make: make_four,
        options: || CompactionOptions {
            retention: Retention { time_ms: 4 * H, ..Retention::default() },
            ..options()
        },
        once: true,
    },
    Case { name: "rule", make: make_four, options: || with_rule(5 * H), once: true },
    Case {
        name: "nothing left",
        make: |dir| {
            put(dir, 0, T, T + 10 * H);
            put(dir, 1, T + 10 * H, T + 22 * H);
        },
        options: || CompactionOptions {
            rules: Rules(vec![Rule { matchers: vec![], ..rule("", 12 * H) }]),
            ..options()
        },
        once: true,
    },
    Case {
        // Blocks of blocks that an earlier run did not get to removing; what was deleted must not come back.
        name: "leftovers",
        make: |dir| {
            put_at(dir, 0, (T, T + 6 * H), T, 1.0);
            put_at(dir, 1, (T, T + 6 * H), T + H, 1.0);
            put_at(dir, 2, (T, T + 6 * H), T + 2 * H, 1.0);
            put(dir, 3, T + 6 * H, T + 8 * H);
            edit(dir, 1, |m| m.compaction.parents = parents(&[0]));
            edit(dir, 2, |m| m.compaction.parents = parents(&[1]));
        },
        options,
        once: true,
    },
    Case {
        name: "empty",
        make: |dir| {
            make_four(dir);
            edit(dir, 0, |m| m.compaction.deletable = true);
            put_at(dir, 5, (T, T + 2 * H), T, 1.0);
            edit(dir, 0, |m| m.compaction.parents = parents(&[5]));
        },
        options,
        once: true,
    },
];

/// The distance between two images that are checked.
fn step(images: usize) -> usize {
    match std::env::var("TSDBCTL_CRASH_POINTS") {
        Ok(share) if share == "all" => 1,
        _ => (images / SHARE).max(1),
    }
}

fn check(case: &Case) {
    let dir = scratch_in_memory();
    let dir = dir.path();
    (case.make)(dir);
    let before = samples(dir);
    let options = (case.options)();
    let recorder = Recorder::new(Arc::new(RealDisk), dir).unwrap();
    let done = run_in(&world(Arc::new(recorder.clone()), T + 24 * H), dir, &options);
    assert!(done.is_complete() && !done.is_idle(), "{}: {done:?}", case.name);
    let (after, spans_after) = (samples(dir), spans(dir));
    let recording = recorder.recording();
    let images: Vec<_> = CrashImages::new(&recording).all(7, 4).collect();
    let step = step(images.len());
    let mut checked = 0;
    for image in images.iter().step_by(step) {
        let place = scratch_in_memory();
        let dir = place.path();
        image.write_to(dir).unwrap();
        let what = || format!("{}, {}", case.name, image.describe());
        let found = samples(dir);
        for (key, (value, count)) in &found {
            assert!(before.get(key).is_some_and(|b| b.0 == *value), "{}: {key:?}", what());
            assert!(!case.once || *count == 1, "{}: {key:?} {count} times", what());
        }
        assert!(after.keys().all(|key| found.contains_key(key)), "{}", what());
        let again = run(dir, &options);
        assert!(again.is_complete(), "{}: {again:?}", what());
        assert_eq!(samples(dir), after, "{}", what());
        assert_eq!(spans(dir).len(), spans_after.len(), "{}", what());
        assert!(names(dir).iter().all(|name| name.len() == 26), "{}: {:?}", what(), names(dir));
        checked += 1;
    }
    eprintln!("{}: {checked} of {} images", case.name, images.len());
    assert!(checked > 20, "{}: {checked} of {}", case.name, images.len());
}

#[test]
fn a_compaction_that_ends_anywhere() {
    let only = std::env::var("TSDBCTL_CRASH_CASE").ok();
    for case in CASES.iter().filter(|c| only.as_deref().is_none_or(|only| only == c.name)) {
        check(case);
    }
}

#[test]
fn a_block_that_is_set_aside_is_at_one_place_or_the_other() {
    let place = scratch_in_memory();
    let dir = place.path();
    make_four(dir);
    flip(&dir.join(id(1)).join("chunks/000001"), 20);
    let recorder = Recorder::new(Arc::new(RealDisk), dir).unwrap();
    let done = run_in(&world(Arc::new(recorder.clone()), T + 24 * H), dir, &options());
    assert_eq!(done.quarantined.len(), 1, "{done:?}");
    let after = samples(dir);
    let recording = recorder.recording();
    let images: Vec<_> = CrashImages::new(&recording).all(7, 4).collect();
    for image in images.iter().step_by(step(images.len())) {
        let place = scratch_in_memory();
        let dir = place.path();
        image.write_to(dir).unwrap();
        let aside = dir.join("quarantine").join(id(1));
        let (here, there) = (dir.join(id(1)).join("index").exists(), aside.join("index").exists());
        assert!(here != there, "{}", image.describe());
        assert!(!there || aside.join("reason.json").exists(), "{}", image.describe());
        let again = run(dir, &options());
        assert!(again.stopped.is_none() && again.refused.is_empty(), "{}: {again:?}", image.describe());
        assert!(aside.join("reason.json").exists() && aside.join("chunks/000001").exists());
        assert_eq!(samples(dir), after, "{}", image.describe());
    }
}
