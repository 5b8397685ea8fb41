//! A data directory cut off at every point of what is done with it: every prefix of the calls of each operation, with
//! every variant of what a power cut or the end of the process may leave of them, is opened, gone on with, and opened
//! again. What was acknowledged is found once, and nothing that was not sent. Then the same on disks that fail.
//!
//! A few of all images are checked; `TSDBCTL_CRASH_POINTS=all` checks all of them, a number every so manieth.
//! `TSDBCTL_PEER_PROMTOOL` names a promtool that reads some of the directories too.

#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests make files and say what they did")]

mod check;
mod failing;
mod images;
mod model;
mod operations;
mod world;

use operations::{OPERATIONS, Operation};

fn named(name: &str) -> &'static Operation {
    OPERATIONS.iter().find(|o| o.name == name).unwrap_or_else(|| panic!("{name}"))
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
            assert_eq!(OPERATIONS.iter().map(|o| o.name).collect::<Vec<_>>(), [$($name),*]);
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
}
