//! What is planned and what was done, for people and for programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_platform::world::World;
use tsdbctl_storage::StorageError;
use tsdbctl_tsdb::compaction::{Event, Outcome};
use tsdbctl_tsdb::compaction_plan::{Plan, PlannedBlock, Refusal, Removal, Rewrite, Step, Why};
use tsdbctl_tsdb::retention::Expiry;

use super::alike::{future_text, left_alone_json, quarantined_json, status_word, warn_of};
use super::{Flushed, Output};
use crate::exit::ExitStatus;
use crate::sizes::{format_estimate, format_seconds, format_size};
use crate::table::write_table;
use crate::ui::{Progress, Ui};

/// Follows the work: a bar on a terminal, steps under `-v`, what is wrong as it comes.
pub struct Observer<'u> {
    dir: PathBuf,
    ui: &'u mut Ui,
    progress: Progress,
    /// Bytes behind the bar's last step.
    bytes: u64,
}

const BAR_STEP: u64 = 1 << 20;

impl<'u> Observer<'u> {
    /// Watches the work in a directory.
    pub fn new(dir: &Path, ui: &'u mut Ui) -> Self {
        Self { dir: dir.to_owned(), ui, progress: Progress::hidden(), bytes: 0 }
    }

    /// Something happened.
    pub fn see(&mut self, event: Event<'_>) {
        let dir = self.dir.display();
        match event {
            Event::Begun(step) => {
                self.bytes = 0;
                self.progress = self.ui.progress(step.into.bytes / BAR_STEP, "MiB");
                let what = list(&step.blocks);
                self.ui.detail(format!("{dir}: writing {what} anew: {}", why_text(&step.why)));
            }
            Event::Installed(..) | Event::Removing(_) => {}
            Event::Read(bytes) => {
                self.bytes += bytes;
                while self.bytes >= BAR_STEP {
                    self.bytes -= BAR_STEP;
                    self.progress.step();
                }
            }
            Event::Written(written) => {
                self.progress = Progress::hidden();
                let text = match &written.into {
                    Some(b) => format!("{} is there, {}", b.meta.ulid, format_size(b.bytes)),
                    None => "no sample was left".to_owned(),
                };
                self.ui.detail(format!("{dir}: {text}"));
            }
            Event::Removed(block, why) => {
                let size = format_size(block.bytes);
                self.ui.detail(format!(
                    "{dir}: {} is removed, {size}: {}",
                    block.meta.ulid,
                    removal_text(why)
                ));
            }
            Event::Refused(step) => {
                let text = refused_text(step);
                if is_passing(step) {
                    self.ui.detail(format!("{dir}: {text}"));
                } else {
                    self.ui.warn(format!("{dir}: {text}"));
                }
            }
            Event::Quarantined(q) => {
                self.progress = Progress::hidden();
                let what = StorageError::from(q.loss.clone());
                self.ui.warn(format!("{what}; the block is now in {}", q.dir.display()));
            }
        }
    }
}

/// Whether a refusal is no fault: the next flush of the head ends it.
fn is_passing(step: &Rewrite) -> bool {
    step.refusal == Some(Refusal::Head)
}

fn list(blocks: &[PlannedBlock]) -> String {
    let ulids: Vec<&str> = blocks.iter().map(|b| &*b.meta.ulid).collect();
    ulids.join(", ")
}

fn why_text(why: &Why) -> String {
    why.to_string()
}

fn removal_text(why: &Removal) -> String {
    match why {
        Removal::Expired(Expiry::Size { total_bytes, limit_bytes }) => format!(
            "with newer blocks and the head {}, allowed are {}",
            format_size(*total_bytes),
            format_size(*limit_bytes)
        ),
        why => why.to_string(),
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    let size = |bytes: &u64| format_size(*bytes);
    match refusal {
        Refusal::Space { needed, free } => {
            format!("that needs {} beside what there is, {} are free", size(needed), size(free))
        }
        Refusal::Scratch { needed, limit } => {
            format!("that needs {} beside what there is, --scratch-limit is {}", size(needed), size(limit))
        }
        Refusal::Memory { needed, limit } => {
            format!("that needs about {} of memory, --memory-limit is {}", size(needed), size(limit))
        }
        Refusal::Head => format!("{refusal}: --flush-head"),
    }
}

fn refused_text(step: &Rewrite) -> String {
    let why = step.refusal.as_ref().map(refusal_text).unwrap_or_default();
    let what = if step.blocks.len() == 1 { "is not written anew" } else { "are not merged" };
    format!("{} {what}: {why}", list(&step.blocks))
}

fn why_key(why: &Why) -> &'static str {
    match why {
        Why::Range => "range",
        Why::Overlap => "overlap",
        Why::Deletions => "deletions",
        Why::Rule { .. } => "rule",
    }
}

fn removal_key(why: &Removal) -> &'static str {
    match why {
        Removal::Replaced => "replaced",
        Removal::Empty => "empty",
        Removal::Expired(Expiry::Time { .. }) => "time",
        Removal::Expired(Expiry::Size { .. }) => "size",
    }
}

fn block_json(block: &PlannedBlock) -> Value {
    let meta = &block.meta;
    let mut json = json!({
        "min_time_ms": meta.min_time,
        "max_time_ms": meta.max_time,
        "level": meta.compaction.level,
        "bytes": block.bytes,
        "series": meta.stats.num_series,
        "samples": meta.stats.num_samples,
    });
    match block.made_by {
        Some(step) => json["made_by_step"] = step.into(),
        None if !meta.ulid.is_empty() => json["ulid"] = (&*meta.ulid).into(),
        None => {}
    }
    json
}

fn blocks_json(blocks: &[PlannedBlock]) -> Vec<Value> {
    blocks.iter().map(block_json).collect()
}

fn rewrite_json(step: &Rewrite) -> Value {
    json!({
        "action": "write",
        "why": why_key(&step.why),
        "reason": step.why.to_string(),
        "blocks": blocks_json(&step.blocks),
        "into": block_json(&step.into),
        "scratch_bytes": step.scratch_bytes,
        "memory_bytes": step.memory_bytes,
        "time_ms": step.time_ms,
        "refused": step.refusal.as_ref().map(ToString::to_string),
    })
}

fn removal_json(block: &PlannedBlock, why: &Removal) -> Value {
    json!({ "action": "remove", "why": removal_key(why), "reason": why.to_string(), "block": block_json(block) })
}

/// Shows a plan.
///
/// # Errors
/// If stdout fails.
pub fn show_plan(
    dir: &Path,
    plan: &Plan,
    wrong: &[(PathBuf, String)],
    world: &World,
    output: Output,
    ui: &mut Ui,
) -> anyhow::Result<ExitStatus> {
    for (path, why) in wrong {
        let path = path.display().to_string();
        // Most reasons begin with the file.
        ui.warn(if why.starts_with(&path) { why.clone() } else { format!("{path}: {why}") });
    }
    for block in &plan.future {
        ui.warn(format!("{}: {}", dir.display(), future_text(&block.meta)));
    }
    let free = world.disk.free_space(dir)?;
    if output == Output::Json {
        let steps: Vec<Value> = plan
            .steps
            .iter()
            .flat_map(|step| match step {
                Step::Remove(blocks) => blocks.iter().map(|(b, why)| removal_json(b, why)).collect(),
                Step::Rewrite(step) => vec![rewrite_json(step)],
            })
            .collect();
        let json = json!({
            "directory": dir.display().to_string(),
            "plan": {
                "steps": steps,
                "scratch_bytes": plan.peak_bytes,
                "free_bytes": free,
                "time_ms": plan.time_ms,
                "blocks": blocks_json(&plan.blocks),
                "future": blocks_json(&plan.future),
                "wrong": left_alone_json(wrong),
            },
        });
        writeln!(ui.out(), "{json}")?;
    } else if plan.is_idle() {
        writeln!(ui.out(), "{}: nothing to do", dir.display())?;
    } else {
        writeln!(ui.out(), "{}:", dir.display())?;
        write_table(
            ui.out(),
            &["step", "action", "block", "from", "to", "size", "scratch", "time", "why"],
            rows(plan),
            &[0, 5, 6, 7],
        )?;
        let blocks = plan.blocks.len();
        writeln!(
            ui.out(),
            "{} afterwards, at most {}; scratch space {} ({} are free), time {}",
            if blocks == 1 { "1 block".to_owned() } else { format!("{blocks} blocks") },
            format_size(plan.blocks.iter().map(|b| b.bytes).sum()),
            format_size(plan.peak_bytes),
            format_size(free),
            format_estimate(plan.time_ms),
        )?;
    }
    let refused = plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Rewrite(step) if step.refusal.is_some() && !is_passing(step)));
    Ok(if refused || !wrong.is_empty() { ExitStatus::Partial } else { ExitStatus::Success })
}

fn rows(plan: &Plan) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |first: [String; 3], block: &PlannedBlock, last: [String; 3]| {
        let time = format_rfc3339_ms;
        let middle = [time(block.meta.min_time), time(block.meta.max_time), format_size(block.bytes)];
        rows.push(first.into_iter().chain(middle).chain(last).collect());
    };
    let none = || [String::new(), String::new(), String::new()];
    for (n, step) in plan.steps.iter().enumerate() {
        let number = (n + 1).to_string();
        match step {
            Step::Remove(blocks) => {
                for (i, (block, why)) in blocks.iter().enumerate() {
                    let number = if i == 0 { number.clone() } else { String::new() };
                    let [scratch, time, _] = none();
                    row(
                        [number, "remove".to_owned(), block.meta.ulid.clone()],
                        block,
                        [scratch, time, removal_text(why)],
                    );
                }
            }
            Step::Rewrite(step) => {
                let action = match (&step.refusal, step.blocks.len()) {
                    (Some(_), _) => "refuse",
                    (None, 1) => "rewrite",
                    (None, _) => "merge",
                };
                let why = match &step.refusal {
                    Some(refusal) => format!("{}; {}", why_text(&step.why), refusal_text(refusal)),
                    None => why_text(&step.why),
                };
                let into = match step.into.made_by {
                    Some(_) => "into a new block, at most".to_owned(),
                    None => "into a new block".to_owned(),
                };
                row(
                    [number, action.to_owned(), into],
                    &step.into,
                    [format_size(step.scratch_bytes), format_estimate(step.time_ms), why],
                );
                for block in &step.blocks {
                    let [number, action, time] = none();
                    let [scratch, why, _] = none();
                    let name = match block.made_by {
                        Some(step) => format!("the one of step {step}"),
                        None => block.meta.ulid.clone(),
                    };
                    row([number, action, name], block, [scratch, time, why]);
                }
            }
        }
    }
    rows
}

/// Shows what was done: nothing if nothing was and all is well.
///
/// # Errors
/// If stdout fails.
pub fn show_outcome(
    dir: &Path,
    flushed: Option<&Flushed>,
    outcome: &Outcome,
    took: Duration,
    output: Output,
    ui: &mut Ui,
) -> anyhow::Result<ExitStatus> {
    warn_of(dir, &outcome.left_alone, outcome.future.iter().map(|b| &b.meta), ui);
    for block in &outcome.not_downsampled {
        ui.warn(format!(
            "{}: {} was not downsampled before retention removed it; run `tsdbctl downsample` more often, or keep blocks longer",
            dir.display(),
            block.meta.ulid
        ));
    }
    let status = match status(outcome) {
        ExitStatus::Success if flushed.is_some_and(|f| !f.is_whole) => ExitStatus::Partial,
        status => status,
    };
    match &outcome.stopped {
        None => {}
        Some(StorageError::Control(_)) => {
            ui.warn(format!("{}: interrupted; what was done before stays", dir.display()));
        }
        Some(error) => ui.error(format!("{}: stopped: {error}", dir.display())),
    }
    let head_blocks = flushed.map_or(&[][..], |f| &f.blocks);
    let did_something = !head_blocks.is_empty()
        || !outcome.written.is_empty()
        || !outcome.removed.is_empty()
        || !outcome.quarantined.is_empty();
    if did_something {
        ui.say(summary(dir, head_blocks.len(), outcome, took));
    } else if outcome.stopped.is_none() {
        ui.detail(format!("{}: nothing to do", dir.display()));
    }
    if output == Output::Json {
        let json = json!({
            "directory": dir.display().to_string(),
            "result": {
                "status": status_word(status),
                "before": { "blocks": outcome.before.blocks, "bytes": outcome.before.bytes },
                "after": { "blocks": outcome.after.blocks, "bytes": outcome.after.bytes },
                "head_blocks": head_blocks.iter().map(|m| json!({
                    "ulid": m.ulid,
                    "min_time_ms": m.min_time,
                    "max_time_ms": m.max_time,
                    "series": m.stats.num_series,
                    "samples": m.stats.num_samples,
                })).collect::<Vec<_>>(),
                "written": outcome.written.iter().map(|w| json!({
                    "why": why_key(&w.why),
                    "reason": w.why.to_string(),
                    "blocks": blocks_json(&w.blocks),
                    "into": w.into.as_ref().map(block_json),
                })).collect::<Vec<_>>(),
                "removed": outcome.removed.iter().map(|(b, why)| removal_json(b, why)).collect::<Vec<_>>(),
                "quarantined": quarantined_json(&outcome.quarantined),
                "refused": outcome.refused.iter().map(rewrite_json).collect::<Vec<_>>(),
                "future": blocks_json(&outcome.future),
                "not_downsampled": blocks_json(&outcome.not_downsampled),
                "left_alone": left_alone_json(&outcome.left_alone),
                "stopped": outcome.stopped.as_ref().map(ToString::to_string),
                "time_ms": took.as_millis() as u64,
            },
        });
        writeln!(ui.out(), "{json}")?;
    }
    Ok(status)
}

fn status(outcome: &Outcome) -> ExitStatus {
    match &outcome.stopped {
        Some(StorageError::Control(_)) => ExitStatus::Partial,
        Some(_) => ExitStatus::Failure,
        None => {
            let refused = outcome.refused.iter().any(|step| !is_passing(step));
            if refused || !outcome.quarantined.is_empty() || !outcome.left_alone.is_empty() {
                ExitStatus::Partial
            } else {
                ExitStatus::Success
            }
        }
    }
}

/// One line: `/data: 12 blocks, 1.2 GiB (30 blocks, 1.4 GiB before): 6 merges, 2 rewrites, 3 removed; 5.20 s`. Blocks
/// made of the head count as there before.
fn summary(dir: &Path, head_blocks: usize, outcome: &Outcome, took: Duration) -> String {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let blocks = |n: usize| count(n, "block", "blocks");
    let (merges, rewrites): (Vec<_>, Vec<_>) = outcome.written.iter().partition(|w| w.blocks.len() > 1);
    let refused = outcome.refused.iter().filter(|step| !is_passing(step)).count();
    let mut did = Vec::new();
    let mut tell = |n: usize, one: &str, many: &str| {
        if n > 0 {
            did.push(count(n, one, many));
        }
    };
    tell(head_blocks, "block made of the head", "blocks made of the head");
    tell(merges.len(), "merge", "merges");
    tell(rewrites.len(), "rewrite", "rewrites");
    tell(outcome.removed.len(), "removed", "removed");
    tell(outcome.quarantined.len(), "set aside as damaged", "set aside as damaged");
    tell(refused, "refused", "refused");
    format!(
        "{}: {}, {} ({}, {} before): {}; {}",
        dir.display(),
        blocks(outcome.after.blocks),
        format_size(outcome.after.bytes),
        blocks(outcome.before.blocks),
        format_size(outcome.before.bytes),
        did.join(", "),
        format_seconds(took.as_secs_f64()),
    )
}
