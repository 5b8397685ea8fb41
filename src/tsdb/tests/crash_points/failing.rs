//! Disks that fail: at each call of each operation, once and for good. What was acknowledged is found afterwards,
//! whatever a crash leaves; nothing panics; and the head takes samples again by itself once the disk is well.

use std::path::Path;
use std::sync::Arc;

use tsdbctl_platform::crash::CrashImages;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_testkit::scratch_in_memory;

use crate::check::{Check, Met};
use crate::images::{copy_into, every, what_is_left};
use crate::is_on_blocks;
use crate::model::{Fault, Told};
use crate::operations::Operation;
use crate::world::World;

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Once,
    ForGood,
    /// A write takes a few bytes too few, and the next one fails.
    Short,
    /// The disk is full after so many times 512 bytes.
    Full,
}

/// Which calls fail.
#[derive(Clone, Copy, Debug)]
struct Failure {
    kind: Kind,
    how: How,
    /// The first of them, 1 for the next.
    nth: u64,
}

#[derive(Debug, Default)]
struct Counts {
    runs: usize,
    checked: usize,
    came_back: usize,
    faults: Vec<String>,
}

impl Counts {
    fn note(&mut self, result: Result<Met, Fault>, what: impl Fn() -> String) {
        self.checked += 1;
        if let Err(fault) = result {
            self.faults.push(format!("{}: {fault:?}", what()));
        }
    }
}

/// Kinds and how they fail; of a few the first and the distance to the next.
const FAILURES: [(Kind, How, u64, u64); 12] = [
    (Kind::Any, How::Once, 2, 19),
    (Kind::Any, How::ForGood, 5, 41),
    (Kind::Sync, How::Once, 2, 23),
    (Kind::Sync, How::ForGood, 3, 29),
    (Kind::SyncDir, How::ForGood, 2, 23),
    (Kind::Write, How::Short, 1, 8),
    (Kind::Write, How::ForGood, 2, 43),
    (Kind::Open, How::ForGood, 1, 31),
    (Kind::Rename, How::ForGood, 1, 13),
    (Kind::Remove, How::ForGood, 1, 13),
    (Kind::SetLen, How::ForGood, 1, 13),
    (Kind::Write, How::Full, 1, 37),
];

/// Does the operation while calls fail; whether any did.
fn run(
    operation: &Operation,
    template: &Path,
    (told, t): (&Told, i64),
    failure: Failure,
    counts: &mut Counts,
) -> bool {
    let scratch = scratch_in_memory();
    copy_into(template, scratch.path());
    let faulty = Faulty::new(Arc::new(RealDisk));
    let recorder = Recorder::new(Arc::new(faulty.clone()), scratch.path()).unwrap();
    let mut world = World::new(scratch.path(), (operation.options)());
    world.disk = Arc::new(recorder.clone());
    world.recorder = Some(recorder.clone());
    (world.told, world.t, world.well, world.seed) = (told.clone(), t, false, 1000);
    let base = told.events.len();
    let Failure { kind, how, nth } = failure;
    match how {
        How::Once => faulty.fail_once(kind, nth),
        How::ForGood => faulty.fail_from(kind, nth),
        How::Short => faulty.short_write(nth, 3),
        How::Full => faulty.fill_after(nth * 512),
    }
    (operation.act)(&mut world);
    // Other calls may fail that always do, such as removing a directory that is not empty.
    let is_refusal = |e: &String| e.contains("space");
    let is_full = || recorder.recording().ops.iter().any(|op| op.error.as_ref().is_some_and(is_refusal));
    if faulty.struck() == 0 && (how != How::Full || !is_full()) {
        return false;
    }
    counts.runs += 1;
    let what = |image: &str| format!("{}, {failure:?}: {image}\n{}", operation.name, recorder.text());
    // Crashes meanwhile, the last one while it still fails.
    let recording = recorder.recording();
    let last = recording.ops.len();
    let moments = if every().is_some() { 6 } else { 1 };
    for i in 0..=moments {
        let moment = CrashImages::new(&recording).at(last - last * i / (moments + 1));
        let all: Vec<_> = moment.variants(nth, 2).chain(moment.killed(2)).collect();
        let step = all.len() / if every().is_some() { 4 } else { 1 } + 1;
        for image in all.iter().skip(nth as usize * 7 % step).step_by(step) {
            let at = scratch_in_memory();
            image.write_to(at.path()).unwrap();
            let check = Check {
                told: &world.told,
                done: base + image.marks,
                options: (operation.options)(),
                damaged: operation.damaged,
                close: image.content_hash() % 2 == 0,
                blocks: is_on_blocks(operation),
            };
            counts.note(check.run(&at.path().join("data")), || what(&image.describe()));
        }
    }
    faulty.heal();
    faulty.free();
    counts.came_back += 1;
    if !world.comes_back(is_on_blocks(operation)) {
        counts.faults.push(what("it does not come back"));
    }
    world.kill();
    let check = Check {
        told: &world.told,
        done: world.told.events.len(),
        options: (operation.options)(),
        damaged: operation.damaged,
        close: nth % 2 == 0,
        blocks: is_on_blocks(operation),
    };
    let recording = recorder.recording();
    let some = if every().is_some() { 2 } else { 1 };
    for image in CrashImages::new(&recording).at(recording.ops.len()).variants(nth, 1).take(some) {
        let at = scratch_in_memory();
        image.write_to(at.path()).unwrap();
        counts.note(check.run(&at.path().join("data")), || what(&format!("well again: {image}")));
    }
    counts.note(check.run(&world.dir), || what("well again"));
    true
}

pub fn check_operation(operation: &Operation) {
    let template = scratch_in_memory();
    let mut world = World::new(template.path(), (operation.options)());
    (operation.before)(&mut world);
    world.kill();
    // Whose making failed, and whose removal too, a directory of the user's could be: it is not made anew.
    std::fs::create_dir_all(&world.dir).unwrap();
    let t = world.t;
    let mut told = world.told;
    if operation.damaged {
        told = what_is_left(operation, template.path(), told);
    }
    let mut counts = Counts::default();
    for (kind, how, first, distance) in FAILURES {
        let (first, distance) = every().map_or((first, distance), |every| (1, every as u64));
        for nth in (first..).step_by(distance as usize) {
            let failure = Failure { kind, how, nth };
            if !run(operation, template.path(), (&told, t), failure, &mut counts) {
                break;
            }
        }
    }
    let some = &counts.faults[..counts.faults.len().min(3)];
    eprintln!(
        "{}: {} runs with failing calls, {} images, {} times it came back, {} faults",
        operation.name,
        counts.runs,
        counts.checked,
        counts.came_back,
        counts.faults.len()
    );
    assert!(counts.runs > 3, "{}", counts.runs);
    assert!(counts.faults.is_empty(), "{} faults: {}", counts.faults.len(), some.join("\n"));
}
