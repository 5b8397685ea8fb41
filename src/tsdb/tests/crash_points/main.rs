//! A data directory cut off at every point of what is done with it: every prefix of the calls of each operation, with
//! every variant of what a power cut or the end of the process may leave of them, is opened, gone on with, and opened
//! again; then all of it is put into blocks, these are compacted, and it is opened once more. What was acknowledged is
//! found once, and nothing that was not sent. Then the same on disks that fail or are full.
//!
//! A few of all images are checked; `TSDBCTL_CRASH_POINTS=all` checks all of them, a number every so manieth.
//! `TSDBCTL_PEER_PROMTOOL` names a promtool that reads some of the directories too.

#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests make files and say what they did")]

mod block_operations;
mod check;
mod failing;
mod images;
mod model;
mod on_blocks;
mod operations;
mod world;

use block_operations::BLOCK_OPERATIONS;
use operations::{OPERATIONS, Operation};

fn named(name: &str) -> &'static Operation {
    all().find(|o| o.name == name).unwrap_or_else(|| panic!("{name}"))
}

fn all() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().chain(BLOCK_OPERATIONS)
}

/// Whether an operation makes real blocks.
fn is_on_blocks(operation: &Operation) -> bool {
    BLOCK_OPERATIONS.iter().any(|o| o.name == operation.name)
}

macro_rules! operations {
    ($($test:ident: $name:literal,)*) => {
        mod crashes {
            $(#[test]
            fn $test() {
                crate::images::check_operation(crate::named($name));
            })*
        }

        mod failing_disks {
            $(#[test]
            fn $test() {
                crate::failing::check_operation(crate::named($name));
            })*
        }

        #[test]
        fn all_operations_are_tested() {
            assert_eq!(all().map(|o| o.name).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

operations! {
    first_start: "first start",
    append: "append",
    append_synced_always: "append, synced always",
    series_of_two_appenders: "series of two appenders",
    out_of_order: "out of order",
    histograms_exemplars_metadata: "histograms, exemplars, metadata",
    segment_cut: "segment cut",
    long_batches_and_segment_cuts: "long batches and segment cuts",
    chunk_file_cut: "chunk file cut",
    delete: "delete",
    truncate: "truncate",
    truncate_the_out_of_order_log: "truncate the out-of-order log",
    snapshot: "snapshot",
    snapshot_after_a_kill: "snapshot after a kill",
    close: "close",
    start_after_kills: "start after kills",
    start_after_a_crash: "start after a crash",
    start_after_half_a_snapshot: "start after half a snapshot",
    start_after_damage: "start after damage",
    cut_of_the_head: "cut of the head",
    cut_of_late_samples: "cut of late samples",
    cut_of_stale_series: "cut of stale series",
    flush_of_the_head: "flush of the head",
    compaction_of_ranges: "compaction of ranges",
    compaction_of_overlapping_blocks: "compaction of overlapping blocks",
    compaction_with_nothing_left: "compaction with nothing left",
    retention_by_time: "retention by time",
    retention_by_size: "retention by size",
    retention_by_rules: "retention by rules",
    backfill: "backfill",
    downsampling: "downsampling",
    start_after_half_a_cut: "start after half a cut",
    start_after_a_cut_of_which_the_head_does_not_know: "start after a cut of which the head does not know",
    start_after_a_late_cut_of_which_the_head_does_not_know: "start after a late cut of which the head does not know",
    start_after_half_a_compaction: "start after half a compaction",
    start_after_half_a_removal: "start after half a removal",
}
