//! What is planned and what was done, for people and for programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_storage::StorageError;
use tsdbctl_tsdb::downsampling::run::{Event, Outcome, Total};
use tsdbctl_tsdb::downsampling::{Departure, KeptBack, Situation, Step, StoredBlock, resolution_name};

use crate::compact::Output;
use crate::compact::alike::{future_text, left_alone_json, quarantined_json, status_word, warn_of};
use crate::exit::ExitStatus;
use crate::sizes::{format_count, format_seconds, format_size};
use crate::table::write_table;
use crate::ui::{Progress, Ui};

/// Follows the work: a bar on a terminal, steps under `-v`, what is wrong as it comes.
pub struct Observer<'u> {
    dir: PathBuf,
    ui: &'u mut Ui,
    progress: Progress,
}

impl<'u> Observer<'u> {
    /// Watches the work in a directory.
    pub fn new(dir: &Path, ui: &'u mut Ui) -> Self {
        Self { dir: dir.to_owned(), ui, progress: Progress::hidden() }
    }

    /// Something happened.
    pub fn see(&mut self, event: Event<'_>) {
        let dir = self.dir.display();
        match event {
            Event::Begun(Step::Make { resolution_ms, from, .. }) => {
                // Of several blocks most series are the same.
                let series = from.iter().map(|b| b.meta.stats.num_series).max().unwrap_or(0);
                self.progress = self.ui.progress(series, "series");
                let what = list(from);
                self.ui.detail(format!("{dir}: making {} of {what}", resolution_name(*resolution_ms)));
            }
            Event::Begun(_) => {}
            Event::Series => self.progress.step(),
            Event::Made(made) => {
                self.progress = Progress::hidden();
                let text = match &made.into {
                    Some(b) => format!("{} is there, {}", b.meta.ulid, format_size(b.bytes)),
                    None => "there is nothing to keep: stale markers and not-a-numbers alone".to_owned(),
                };
                self.ui.detail(format!("{dir}: {text}"));
            }
            Event::Removed(block, why) => {
                let size = format_size(block.bytes);
                self.ui.detail(format!("{dir}: {} is removed, {size}: {why}", block.meta.ulid));
            }
            Event::Quarantined(q) => {
                self.progress = Progress::hidden();
                let what = StorageError::from(q.loss.clone());
                self.ui.warn(format!("{what}; the block is now in {}", q.dir.display()));
            }
        }
    }
}

fn list(blocks: &[StoredBlock]) -> String {
    let ulids: Vec<&str> = blocks.iter().map(|b| &*b.meta.ulid).collect();
    ulids.join(", ")
}

fn kept_back_text(kept: &KeptBack) -> String {
    format!(
        "{} has late samples of the time of {}, of which the finer samples are gone: it stays as it is",
        kept.block.meta.ulid, kept.beside
    )
}

fn block_json(block: &StoredBlock) -> Value {
    let meta = &block.meta;
    json!({
        "ulid": meta.ulid,
        "resolution_ms": meta.resolution_ms(),
        "min_time_ms": meta.min_time,
        "max_time_ms": meta.max_time,
        "bytes": block.bytes,
        "series": meta.stats.num_series,
        "samples": meta.stats.num_samples,
    })
}

fn blocks_json(blocks: &[StoredBlock]) -> Vec<Value> {
    blocks.iter().map(block_json).collect()
}

fn removal_json(block: &StoredBlock, why: Departure) -> Value {
    let key = match why {
        Departure::Replaced => "replaced",
        Departure::Expired { .. } => "tier",
    };
    json!({ "action": "remove", "why": key, "reason": why.to_string(), "block": block_json(block) })
}

fn kept_back_json(kept: &[KeptBack]) -> Vec<Value> {
    kept.iter().map(|k| json!({ "block": block_json(&k.block), "beside": k.beside })).collect()
}

fn step_json(step: &Step) -> Value {
    match step {
        Step::Make { resolution_ms, from, replaces, .. } => json!({
            "action": if step.is_merge() { "merge" } else { "downsample" },
            "resolution_ms": resolution_ms,
            "blocks": blocks_json(from),
            "replaces": replaces.iter().map(|b| &b.meta.ulid).collect::<Vec<_>>(),
        }),
        Step::Remove { block, why, .. } => removal_json(block, *why),
    }
}

/// Shows a plan.
///
/// # Errors
/// If stdout fails.
pub fn show_plan(
    dir: &Path,
    situation: &Situation,
    output: Output,
    ui: &mut Ui,
) -> anyhow::Result<ExitStatus> {
    let steps = situation.simulate();
    let timeline = situation.timeline();
    let future: Vec<StoredBlock> =
        situation.blocks.iter().filter(|b| timeline.is_future(&b.meta)).cloned().collect();
    let kept = situation.kept_back();
    for block in &future {
        ui.warn(format!("{}: {}", dir.display(), future_text(&block.meta)));
    }
    for kept in &kept {
        ui.warn(format!("{}: {}", dir.display(), kept_back_text(kept)));
    }
    if output == Output::Json {
        let json = json!({
            "directory": dir.display().to_string(),
            "plan": {
                "steps": steps.iter().map(step_json).collect::<Vec<_>>(),
                "future": blocks_json(&future),
                "kept_back": kept_back_json(&kept),
            },
        });
        writeln!(ui.out(), "{json}")?;
    } else if steps.is_empty() {
        writeln!(ui.out(), "{}: nothing to do", dir.display())?;
    } else {
        writeln!(ui.out(), "{}:", dir.display())?;
        let mut rows = Vec::new();
        for (n, step) in steps.iter().enumerate() {
            let row = |number: String, action: &str, block: &StoredBlock, why: String| {
                vec![
                    number,
                    action.to_owned(),
                    resolution_name(block.meta.resolution_ms()),
                    block.meta.ulid.clone(),
                    format_rfc3339_ms(block.meta.min_time),
                    format_rfc3339_ms(block.meta.max_time),
                    format_size(block.bytes),
                    why,
                ]
            };
            let number = (n + 1).to_string();
            match step {
                Step::Make { resolution_ms, from, replaces, .. } => {
                    let action = if step.is_merge() { "merge" } else { "downsample" };
                    let mut why = format!("into {}", resolution_name(*resolution_ms));
                    if !step.is_merge() && !replaces.is_empty() {
                        why += &format!(", late samples: instead of {}", list(replaces));
                    }
                    for (i, block) in from.iter().enumerate() {
                        rows.push(if i == 0 {
                            row(number.clone(), action, block, why.clone())
                        } else {
                            row(String::new(), "", block, String::new())
                        });
                    }
                }
                Step::Remove { block, why, .. } => {
                    rows.push(row(number, "remove", block, why.to_string()));
                }
            }
        }
        let head = ["step", "action", "resolution", "block", "from", "to", "size", "what for"];
        write_table(ui.out(), &head, rows, &[0, 6])?;
    }
    Ok(if kept.is_empty() { ExitStatus::Success } else { ExitStatus::Partial })
}

/// Shows what was done: nothing if nothing was and all is well.
///
/// # Errors
/// If stdout fails.
pub fn show_outcome(
    dir: &Path,
    outcome: &Outcome,
    took: Duration,
    output: Output,
    ui: &mut Ui,
) -> anyhow::Result<ExitStatus> {
    warn_of(dir, &outcome.left_alone, outcome.future.iter().map(|b| &b.meta), ui);
    for kept in &outcome.kept_back {
        ui.warn(format!("{}: {}", dir.display(), kept_back_text(kept)));
    }
    let custom = outcome.made.iter().map(|m| m.notes.custom_bucket_series).max().unwrap_or(0);
    if custom > 0 {
        ui.info(format!(
            "{}: {} have histograms with custom buckets, which Thanos' own downsampling panics on",
            dir.display(),
            if custom == 1 { "1 series".to_owned() } else { format!("{} series", format_count(custom)) },
        ));
    }
    let status = match &outcome.stopped {
        Some(StorageError::Control(_)) => {
            ui.warn(format!("{}: interrupted; what was done before stays", dir.display()));
            ExitStatus::Partial
        }
        Some(error) => {
            ui.error(format!("{}: stopped: {error}", dir.display()));
            ExitStatus::Failure
        }
        None if outcome.is_complete() => ExitStatus::Success,
        None => ExitStatus::Partial,
    };
    let did_something =
        !outcome.made.is_empty() || !outcome.removed.is_empty() || !outcome.quarantined.is_empty();
    if did_something {
        ui.say(summary(dir, outcome, took));
    } else if outcome.stopped.is_none() {
        ui.detail(format!("{}: nothing to do", dir.display()));
    }
    if output == Output::Json {
        let totals = |totals: &[Total]| {
            totals
                .iter()
                .map(|t| json!({ "resolution_ms": t.resolution_ms, "blocks": t.blocks, "bytes": t.bytes }))
                .collect::<Vec<_>>()
        };
        let json = json!({
            "directory": dir.display().to_string(),
            "result": {
                "status": status_word(status),
                "before": totals(&outcome.before),
                "after": totals(&outcome.after),
                "made": outcome.made.iter().map(|m| json!({
                    "action": if m.is_merge() { "merge" } else { "downsample" },
                    "resolution_ms": m.resolution_ms,
                    "blocks": blocks_json(&m.from),
                    "replaced": m.replaced,
                    "into": m.into.as_ref().map(block_json),
                    "series_with_custom_buckets": m.notes.custom_bucket_series,
                    "series_without_numbers": m.notes.empty_series,
                })).collect::<Vec<_>>(),
                "removed": outcome.removed.iter().map(|(b, why)| removal_json(b, *why)).collect::<Vec<_>>(),
                "quarantined": quarantined_json(&outcome.quarantined),
                "kept_back": kept_back_json(&outcome.kept_back),
                "future": blocks_json(&outcome.future),
                "left_alone": left_alone_json(&outcome.left_alone),
                "stopped": outcome.stopped.as_ref().map(ToString::to_string),
                "time_ms": took.as_millis() as u64,
            },
        });
        writeln!(ui.out(), "{json}")?;
    }
    Ok(status)
}

/// One line: `/data: raw 3 blocks, 1.2 GiB; 5m 2 blocks, 90 MiB (before: raw 9 blocks, 3 GiB): 2 downsampled, 6 removed; 5.20 s`.
fn summary(dir: &Path, outcome: &Outcome, took: Duration) -> String {
    let totals = |totals: &[Total]| {
        let each = totals.iter().map(|t| {
            let blocks = if t.blocks == 1 { "1 block".to_owned() } else { format!("{} blocks", t.blocks) };
            format!("{} {blocks}, {}", resolution_name(t.resolution_ms), format_size(t.bytes))
        });
        each.collect::<Vec<_>>().join("; ")
    };
    let (merges, made): (Vec<_>, Vec<_>) = outcome.made.iter().partition(|m| m.is_merge());
    let empty = made.iter().filter(|m| m.into.is_none()).count();
    let did: Vec<String> = [
        (made.len() - empty, "downsampled"),
        (empty, "with nothing to keep"),
        (merges.len(), if merges.len() == 1 { "merge" } else { "merges" }),
        (outcome.removed.len(), "removed"),
        (outcome.quarantined.len(), "set aside as damaged"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    format!(
        "{}: {} (before: {}): {}; {}",
        dir.display(),
        totals(&outcome.after),
        totals(&outcome.before),
        did.join(", "),
        format_seconds(took.as_secs_f64()),
    )
}
