//! The operations on blocks that are cut off at every point.

use std::sync::Arc;

use tsdbctl_head::live::LiveOptions;
use tsdbctl_model::sample::STALE_NAN_BITS;
use tsdbctl_platform::faulty::{Faulty, Kind};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_testkit::scratch_in_memory;

use crate::images::copy_into;
use crate::model::{Offer, Value};
use crate::on_blocks::compaction_options;
use crate::operations::{NAMES, Operation, scrapes};
use crate::world::{BLOCK_MS, START, STEP, World, options};

/// Blocks of few samples.
fn short_blocks() -> LiveOptions {
    let mut options = options();
    options.rules.chunk_range_ms = BLOCK_MS;
    options
}

/// A head with late samples and a deletion.
fn filled(world: &mut World, count: usize) {
    world.start();
    scrapes(world, count);
    world.late(&["a", "b"], &[4500, 2500, 5500]);
    world.delete("c", world.t - 4 * STEP, world.t - 3 * STEP);
}

/// Blocks of whole ranges.
fn with_blocks(world: &mut World) {
    filled(world, 5 * BLOCK_MS as usize / STEP as usize + 5);
    assert!(world.cut() >= 4);
}

/// Makes some series stale.
fn end(world: &mut World, names: &[&str]) {
    world.t += STEP;
    let (t, stale) = (world.t, f64::from_bits(STALE_NAN_BITS));
    let offers: Vec<Offer> =
        names.iter().map(|name| Offer { name: (*name).to_string(), t, value: Value::Float(stale) }).collect();
    world.send(&offers);
}

/// As if it was killed when a call of a kind was to be done for the `nth` time.
fn half(world: &mut World, kind: Kind, nth: u64, act: impl FnOnce(&mut World)) {
    let faulty = Faulty::new(Arc::new(RealDisk));
    world.close();
    (world.disk, world.well) = (Arc::new(faulty.clone()), false);
    world.start();
    faulty.fail_from(kind, nth);
    act(world);
    assert!(faulty.struck() > 0, "{kind:?} {nth}");
    world.kill();
    (world.disk, world.well) = (Arc::new(RealDisk), true);
}

/// As if it was killed when blocks were there and nothing else was done yet.
fn unknown_to_the_head(world: &mut World, act: impl FnOnce(&mut World)) {
    world.close();
    let before = scratch_in_memory();
    copy_into(&world.dir, before.path());
    world.start();
    act(world);
    world.kill();
    for part in ["wal", "wbl", "chunks_head"] {
        let (from, to) = (before.path().join(part), world.dir.join(part));
        std::fs::remove_dir_all(&to).unwrap();
        std::fs::create_dir(&to).unwrap();
        copy_into(&from, &to);
    }
}

/// Goes on as a server does.
fn go_on(world: &mut World) {
    world.start();
    scrapes(world, 9);
    world.late(&["a", "d"], &[1500]);
    world.cut();
    world.cut_late();
    world.compact(&compaction_options());
}

pub const BLOCK_OPERATIONS: &[Operation] = &[
    Operation {
        name: "cut of the head",
        options: short_blocks,
        before: |world| {
            filled(world, 10);
            world.close();
        },
        act: |world| {
            world.start();
            scrapes(world, 6);
            world.cut();
            scrapes(world, 9);
            world.cut();
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "cut of late samples",
        options: short_blocks,
        before: |world| {
            filled(world, 14);
            world.cut();
            world.close();
        },
        act: |world| {
            world.start();
            world.late(&["a", "b"], &[3700, 9700, 1700]);
            world.cut_late();
            scrapes(world, 1);
            world.late(&["a", "new"], &[700, 1600]);
            world.cut_late();
        },
        damaged: false,
    },
    Operation {
        name: "cut of stale series",
        options: short_blocks,
        before: |world| {
            filled(world, 10);
            end(world, &["b", "c"]);
            world.close();
        },
        act: |world| {
            world.start();
            world.cut_stale();
            scrapes(world, 2);
            end(world, &["c", "d"]);
            world.cut_stale();
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "flush of the head",
        options: short_blocks,
        before: |world| {
            filled(world, 14);
            world.maintain();
            world.kill();
        },
        act: |world| {
            world.start();
            world.flush();
            scrapes(world, 2);
            world.late(&["a", "c"], &[500, 1500, 4400]);
            world.flush();
            world.close();
        },
        damaged: false,
    },
    Operation {
        name: "compaction of ranges",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            world.close();
        },
        act: |world| {
            world.start();
            world.compact(&compaction_options());
            scrapes(world, 9);
            world.cut();
            world.compact(&compaction_options());
        },
        damaged: false,
    },
    Operation {
        name: "compaction of overlapping blocks",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            world.late(&["a", "d", "e"], &[3300, 12_300]);
            world.cut_late();
            world.close();
        },
        act: |world| world.compact(&compaction_options()),
        damaged: false,
    },
    Operation {
        name: "compaction with nothing left",
        options: short_blocks,
        before: |world| {
            filled(world, 18);
            world.flush();
            world.close();
            NAMES.iter().for_each(|name| world.delete_in_blocks(name, i64::MIN, START + 2 * BLOCK_MS - 1));
        },
        act: |world| {
            world.start();
            world.compact(&compaction_options());
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "retention by time",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            world.close();
        },
        act: |world| {
            world.start();
            world.retain_time(10 * STEP);
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "retention by size",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            world.close();
        },
        act: |world| {
            world.start();
            world.retain_size();
            world.retain_size();
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "retention by rules",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            world.close();
        },
        act: |world| {
            world.start();
            world.retain_rule("b", 10 * STEP);
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "backfill",
        options: short_blocks,
        before: |world| {
            filled(world, 6);
            world.close();
        },
        act: |world| {
            let times = |n: i64| (1..20).map(move |i| START - (i * 7 % 20 + n) * STEP);
            world.backfill(&["a", "old"], times(0), BLOCK_MS);
            world.backfill(&["b", "older"], times(15), BLOCK_MS);
            world.start();
            scrapes(world, 1);
            world.close();
            world.compact(&compaction_options());
        },
        damaged: false,
    },
    Operation {
        name: "downsampling",
        options: short_blocks,
        before: |world| {
            const LONG_MS: i64 = 243 * 2 * 3_600_000;
            let start = START.div_euclid(LONG_MS) * LONG_MS - LONG_MS;
            world.backfill(&["a", "old"], (0..120).map(|i| start + i * 4 * 3_600_000), LONG_MS);
            filled(world, 14);
            world.cut();
            world.close();
        },
        act: |world| {
            world.start();
            world.downsample();
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "start after half a cut",
        options: short_blocks,
        before: |world| {
            filled(world, 14);
            half(world, Kind::Sync, 4, |world| assert_eq!(world.cut(), 0));
        },
        act: go_on,
        damaged: false,
    },
    Operation {
        name: "start after a cut of which the head does not know",
        options: short_blocks,
        before: |world| {
            filled(world, 14);
            unknown_to_the_head(world, |world| {
                world.cut();
            });
            assert!(world.blocks() > 0);
        },
        act: go_on,
        damaged: false,
    },
    Operation {
        name: "start after a late cut of which the head does not know",
        options: short_blocks,
        before: |world| {
            filled(world, 14);
            world.cut();
            unknown_to_the_head(world, |world| {
                world.cut_late();
            });
            assert!(world.blocks() > 1);
        },
        act: go_on,
        damaged: false,
    },
    Operation {
        name: "start after half a compaction",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            half(world, Kind::Rename, 2, |world| world.compact(&compaction_options()));
        },
        act: go_on,
        damaged: false,
    },
    Operation {
        name: "start after half a removal",
        options: short_blocks,
        before: |world| {
            with_blocks(world);
            half(world, Kind::Remove, 3, |world| world.compact(&compaction_options()));
        },
        act: go_on,
        damaged: false,
    },
];
