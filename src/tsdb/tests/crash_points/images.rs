//! Crashes at any point.

use std::path::Path;
use std::sync::Arc;

use tsdbctl_platform::crash::{CrashImages, Image};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::{Action, Op, Recorder, Recording};
use tsdbctl_testkit::scratch_in_memory;

use crate::check::{Check, same_in_promtool};
use crate::is_on_blocks;
use crate::model::{Fault, Told};
use crate::operations::Operation;
use crate::world::World;

/// Images of an operation that are checked if no more are asked for, about.
const FEW: usize = 15;
/// Series that make a scrape fill more than a sector.
const WIDE: usize = 80;
/// Random choices of what is there, at each moment.
const SUBSETS: u64 = 200;
/// Images of an operation that promtool reads too.
const PEER_IMAGES: usize = 5;

/// `None`: a few.
pub fn every() -> Option<usize> {
    match std::env::var("TSDBCTL_CRASH_POINTS").ok()?.as_str() {
        "all" => Some(1),
        every => Some(every.parse().expect("a number or all")),
    }
}

/// What was done in the recorded part, and what was told before it.
fn record(operation: &Operation, root: &Path, wait_for: usize, width: usize) -> (Recording, Told, usize) {
    let mut world = World::new(root, (operation.options)());
    (operation.before)(&mut world);
    world.kill();
    if operation.damaged {
        world.told = what_is_left(operation, root, world.told);
    }
    let base = world.told.events.len();
    let recorder = Recorder::new(Arc::new(RealDisk), root).unwrap();
    world.disk = Arc::new(recorder.clone());
    world.recorder = Some(recorder.clone());
    (world.wait_for, world.width) = (wait_for, width);
    (operation.act)(&mut world);
    // What a thread still does for the head is no part of it.
    let recording = recorder.recording();
    world.kill();
    (recording, world.told, base)
}

/// Damage takes samples along: what is found in a copy must be found.
pub fn what_is_left(operation: &Operation, root: &Path, mut told: Told) -> Told {
    use crate::model::Event;
    let copy = scratch_in_memory();
    copy_into(root, copy.path());
    let left = crate::check::samples_of(&copy.path().join("data"), (operation.options)());
    for event in &mut told.events {
        if let Event::Acknowledged(batch) = event {
            batch.samples.retain(|key| left.contains_key(key));
        }
    }
    told
}

pub fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_into(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn is_mark(op: &Op) -> bool {
    matches!(op.action, Action::Mark(_))
}

#[derive(Debug, Default)]
struct Counts {
    power_cuts: usize,
    kills: usize,
    checked: usize,
    refused: usize,
    with_losses: usize,
    by_promtool: usize,
    unreadable: usize,
    lost: usize,
    doubled: usize,
    other: usize,
}

/// With each commit waiting for its answer, with several together, so that more is pending, and with writes of several
/// sectors.
pub fn check_operation(operation: &Operation) {
    check_recording(operation, 1, 0);
    check_recording(operation, 6, 0);
    if every().is_some() {
        check_recording(operation, usize::MAX, 0);
        check_recording(operation, 6, WIDE);
    }
}

fn check_recording(operation: &Operation, wait_for: usize, width: usize) {
    let scratch = scratch_in_memory();
    let (recording, told, base) = record(operation, scratch.path(), wait_for, width);
    // Promtool passes over our note of late samples that are in blocks, and this operation's block has no content.
    let promtool = std::env::var("TSDBCTL_PEER_PROMTOOL").ok();
    let promtool = promtool.filter(|_| operation.name != "truncate the out-of-order log");
    let subsets = if every().is_some() { SUBSETS } else { 4 };
    let images = || {
        CrashImages::new(&recording).moments().flat_map(|moment| {
            // Right after an answer, with nothing there but what is durable: always checked.
            let is_after_answer = recording.ops[..moment.ops()].last().is_some_and(is_mark);
            let power_cuts: Vec<Image> = moment.variants(7, subsets).collect();
            let kills: Vec<Image> = moment.killed(20).collect();
            let power_cuts = power_cuts
                .into_iter()
                .enumerate()
                .map(move |(i, image)| (image, false, i == 0 && is_after_answer));
            power_cuts.chain(kills.into_iter().map(|image| (image, true, false)))
        })
    };
    let step = every().unwrap_or_else(|| images().count() / FEW + 1);
    let mut counts = Counts::default();
    let mut seen = std::collections::HashSet::new();
    let mut faults = Vec::new();
    let at = scratch_in_memory();
    for (number, (image, is_kill, always)) in images().enumerate() {
        if (number % step != 0 && !always) || !seen.insert((image.content_hash(), image.marks)) {
            continue;
        }
        *(if is_kill { &mut counts.kills } else { &mut counts.power_cuts }) += 1;
        counts.checked += 1;
        let dir = at.path().join(number.to_string());
        image.write_to(&dir).unwrap();
        let check = Check {
            told: &told,
            done: base + image.marks,
            options: (operation.options)(),
            damaged: operation.damaged,
            close: image.content_hash() % 2 == 0,
            blocks: is_on_blocks(operation) || image.content_hash() % 3 == 0,
        };
        let mut result = check.run(&dir.join("data"));
        if let (Some(promtool), Ok(_)) = (&promtool, &result)
            && counts.by_promtool < PEER_IMAGES
            && counts.checked % (FEW / PEER_IMAGES) == 0
        {
            counts.by_promtool += 1;
            result = same_in_promtool(promtool, &dir.join("data")).and(result);
        }
        match result {
            Ok(met) => {
                counts.refused += usize::from(met.refused);
                counts.with_losses += usize::from(met.losses > 0);
            }
            Err(fault) => {
                *match fault {
                    Fault::Unreadable(_) => &mut counts.unreadable,
                    Fault::Lost(_) => &mut counts.lost,
                    Fault::Doubled(_) => &mut counts.doubled,
                    Fault::Other(_) => &mut counts.other,
                } += 1;
                faults.push(format!("{}: {image}: {fault:?}", operation.name));
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    eprintln!(
        "{}, waiting for {wait_for}, {width} series more: {} calls, {counts:?}",
        operation.name,
        recording.ops.len()
    );
    assert!(counts.checked > FEW / 4 || every().is_some(), "{counts:?}");
    let some = &faults[..faults.len().min(5)];
    assert!(
        faults.is_empty(),
        "{} of {} images: {some:#?}\n{}",
        faults.len(),
        counts.checked,
        recording.text()
    );
}
