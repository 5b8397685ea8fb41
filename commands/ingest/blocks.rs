//! `tsdbctl ingest --blocks`: samples straight into blocks.

use std::sync::Arc;

use serde_json::json;
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_platform::signal::stop_flag;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Control, Refusal};
use tsdbctl_tsdb::backfill::{Backfill, BackfillError, BackfillReport, Held, NewBlock};

use super::patience::{OnDiskError, Patience};
use super::report::Report;
use super::run::Run;
use super::sink::{Counts, Sink, Stop};
use super::{Args, Plan, read_files};
use crate::exit::ExitStatus;
use crate::sizes::{format_count, format_size};
use crate::ui::{Tone, Ui};

/// Blocks that are shown in full; the others are counted.
const SHOWN: usize = 24;

/// Reads all input and writes the blocks.
///
/// # Errors
/// If the directory cannot be used, or stdout fails.
pub(super) fn run(args: &Args, plan: &Plan, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let backfill = Backfill::open(World::real(), &args.dir, plan.blocks)?;
    let stop = stop_flag();
    let patience = Arc::new(Patience::new(&args.dir, OnDiskError::Stop, stop));
    let mut settings = plan.settings.clone();
    // Read to be counted; metadata is counted where it is read.
    (settings.exemplars, settings.metadata) = (true, false);
    let progress = ui.progress(args.pieces(), "MiB");
    let mut run = Run {
        sink: Sink::into(backfill, settings, patience),
        ui,
        on_error: args.on_error,
        timestamp_ms: plan.timestamp_ms,
        needs_times: plan.timestamp_ms.is_none(),
        start_timestamps: plan.live.rules.start_timestamps,
        stop,
        unreadable: 0,
        progress,
    };
    let mut bytes = 0;
    let ended = read_files(args, plan, &mut run, &mut bytes);
    let unreadable = run.unreadable;
    drop(run.progress);
    let (mut counts, backfill) = run.sink.into_blocks();
    let made = match (ended, backfill) {
        (Err(stop), _) => Err(stop),
        (Ok(()), None) => Ok(BackfillReport::default()),
        (Ok(()), Some(backfill)) => {
            // What was read is remembered no longer; writing needs the memory.
            let control = Control::default();
            let finished = std::thread::scope(|scope| {
                let interrupt = control.interrupt.clone();
                let (ended, wait) = std::sync::mpsc::channel::<()>();
                scope.spawn(move || {
                    while wait.recv_timeout(TICK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                        if stop.is_set() {
                            interrupt.set();
                        }
                    }
                });
                let finished = backfill.finish(&control);
                drop(ended);
                finished
            });
            match finished {
                Err(_) if stop.is_set() => Err(Stop::Asked),
                finished => finished.map_err(Stop::of_backfill),
            }
        }
    };
    let (report, status) = match made {
        Ok(made) => {
            add(&mut counts, &made);
            let blocks = Some(made.blocks);
            let report = Report { counts, unreadable, bytes, loaded: 0, blocks };
            let status = report.status();
            (report, status)
        }
        Err(stop) => {
            let refused = counts.refused.total() + counts.unmatched;
            counts.not_stored = counts.read().saturating_sub(refused);
            let status = show_stop(stop, ui);
            (Report { counts, unreadable, bytes, loaded: 0, blocks: Some(Vec::new()) }, status)
        }
    };
    report.show(args, ui)?;
    Ok(status)
}

const TICK: std::time::Duration = std::time::Duration::from_millis(50);

/// What became of samples is known only at the end.
fn add(counts: &mut Counts, made: &BackfillReport) {
    counts.stored = made.stored;
    counts.same = made.same;
    (0..made.conflicts).for_each(|_| counts.refused.add(Refusal::Duplicate));
    if let Some((labels, t)) = &made.conflict {
        counts.examples.push((Refusal::Duplicate, format!("{labels} at {t}")));
    }
}

/// Says why there are no blocks.
fn show_stop(stop: Stop, ui: &mut Ui) -> ExitStatus {
    let hint = ui.paint(Tone::Green, "hint");
    match stop {
        Stop::Asked => {
            ui.warn("interrupted; no block was written");
            return ExitStatus::Failure;
        }
        Stop::Unreadable => {
            ui.say("no block was written");
            ui.say(format!("  = {hint}: --on-error=skip leaves out what cannot be read"));
        }
        Stop::Blocks(BackfillError::Overlap { labels, t, held }) => {
            let at = format_rfc3339_ms(t);
            ui.error(format!("the directory has the time of {labels} at {at} already; no block was written"));
            let has_head = held.iter().any(|h| h.block.is_none());
            for Held { block, start, end } in &held {
                let start_text = format_rfc3339_ms(*start);
                ui.say(match block {
                    Some(ulid) => format!("  block {ulid} has {start_text} to {}", format_rfc3339_ms(*end)),
                    None => format!("  the head has samples from {start_text} on"),
                });
            }
            if has_head {
                ui.say(format!(
                    "  = {hint}: tsdbctl compact --flush-head makes blocks of the head, and what lies before them can be written; --allow-overlap writes blocks all the same, marked as out of order, so that no server takes them for the end of its head"
                ));
            } else {
                ui.say(format!(
                    "  = {hint}: --allow-overlap writes blocks all the same; samples that are in both count once, and compaction makes one block of them"
                ));
            }
        }
        Stop::Blocks(e) => ui.error(e.to_string()),
        Stop::Disk { error, .. } => ui.error(format!("{error}; no block was written")),
        Stop::Failed(e) => ui.error(format!("{e:#}; no block was written")),
        // Blocks take samples in any order.
        Stop::Unordered { .. } => {}
    }
    ExitStatus::Failure
}

/// A block as JSON.
pub(super) fn block_json(block: &NewBlock) -> serde_json::Value {
    let meta = &block.meta;
    json!({
        "ulid": meta.ulid,
        "minTime": meta.min_time,
        "maxTime": meta.max_time,
        "series": meta.stats.num_series,
        "chunks": meta.stats.num_chunks,
        "samples": meta.stats.num_samples,
        "bytes": block.bytes,
        "hints": meta.compaction.hints,
    })
}

/// A line for each block.
pub(super) fn show_blocks(blocks: &[NewBlock], ui: &mut Ui) {
    for block in blocks.iter().take(SHOWN) {
        let meta = &block.meta;
        let mark = if meta.is_in_order() { "" } else { ", marked as out of order" };
        ui.say(format!(
            "block     {}  {} to {}  {} samples in {} series, {}{mark}",
            meta.ulid,
            format_rfc3339_ms(meta.min_time),
            format_rfc3339_ms(meta.max_time),
            format_count(meta.stats.num_samples),
            format_count(meta.stats.num_series),
            format_size(block.bytes)
        ));
    }
    if blocks.len() > SHOWN {
        let rest = &blocks[SHOWN..];
        let bytes = rest.iter().map(|b| b.bytes).sum();
        ui.say(format!(
            "          and {} further blocks, {}",
            format_count(rest.len() as u64),
            format_size(bytes)
        ));
    }
}
