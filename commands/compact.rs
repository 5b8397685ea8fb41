//! `tsdbctl compact`: keeps data directories small, as a cron job does.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tsdbctl_block::BlockMeta;
use tsdbctl_head::live::LiveOptions;
use tsdbctl_head::start_times;
use tsdbctl_model::duration::parse_duration_ms;
use tsdbctl_platform::file;
use tsdbctl_platform::lock::{DirLock, LockError};
use tsdbctl_platform::open_files::writers;
use tsdbctl_platform::signal::stop_flag;
use tsdbctl_platform::world::World;
use tsdbctl_storage::control::ControlError;
use tsdbctl_storage::{Budget, Control, Interrupt, StorageError};
use tsdbctl_tsdb::compaction::{compact, plan_directory};
use tsdbctl_tsdb::compaction_plan::{CompactionOptions, default_max_block_ms, ranges_up_to};
use tsdbctl_tsdb::head_blocks::CutOptions;
use tsdbctl_tsdb::retention::Retention;
use tsdbctl_tsdb::{Database, LiveDatabase, OpenOptions};

use crate::exit::ExitStatus;
use crate::sizes::parse_size;
use crate::ui::Ui;

pub(crate) mod alike;
mod report;
pub mod rules;

/// Compact data directories: merge blocks, apply deletions and retention.
///
/// What a server does beside its work, for directories that no server runs on: by Prometheus' plan small blocks become
/// larger ones, blocks that overlap become one, deleted samples go, and what is older or larger than is kept. Says
/// nothing when there is nothing to do, else one line per directory.
///
/// A block goes because of its age only if it is that much older than the newest one, or than now if that ends later.
/// Blocks that end in the future (two hours after now) are left alone and count for nothing; a gap between blocks that is
/// longer than a tenth of the retention is no elapsed time, so a clock that jumps deletes nothing, and after a pause that
/// long samples are kept so much longer. The newest block always stays.
///
/// A damaged block is moved to quarantine/ in its directory, with a reason.json, and the others go on. Work that is
/// interrupted, at whatever point, loses nothing; the next run takes it up.
///
/// Exit status: 0 all is done or there was nothing to do, 4 done in part (a block was set aside, a step refused, a
/// directory failed), 1 the work failed, 2 wrong usage, or a directory that cannot be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data directory; repeatable. What goes wrong with one does not keep the others from being compacted.
    #[arg(short, long = "dir", value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Print what would be done, step by step, and do nothing. A running server's directory may be looked at.
    #[arg(long)]
    pub plan: bool,
    /// Write all that the head holds into blocks first. The last of them ends behind the newest sample, so that a server
    /// that starts again goes on from there.
    #[arg(long, conflicts_with = "plan")]
    pub flush_head: bool,
    /// With --flush-head: switch on a feature, by Prometheus' name: histograms-st-encoding, st-storage, xor2-encoding.
    /// Those that start timestamps need are on where the log has such. Repeatable, or with commas between.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',', requires = "flush_head")]
    pub features: Vec<String>,
    /// Memory that may be taken; 0 for no limit. What needs more is not begun.
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub memory_limit: String,
    /// Bytes that a step may write before it removes what it replaces. What needs more, or more than is free, is not
    /// begun.
    #[arg(long, value_name = "BYTES")]
    pub scratch_limit: Option<String>,
    /// Remove blocks older than this: 15d, 1y.
    #[arg(long, value_name = "DURATION")]
    pub retention_time: Option<String>,
    /// Remove the oldest blocks as long as blocks, logs and head take more than this.
    #[arg(long, value_name = "BYTES")]
    pub retention_size: Option<String>,
    /// As --retention-size, in percent of the file system; prevails over it.
    #[arg(long, value_name = "PERCENT")]
    pub retention_percentage: Option<f64>,
    /// Keep series of a selector so long and no longer: '{job="debug"}=3d'; 0s is for ever. Repeatable, the first that a
    /// series satisfies counts. Applied where blocks are rewritten, and at the latest when a block is wholly past it.
    #[arg(long = "retention-rule", value_name = "SELECTOR=DURATION")]
    pub retention_rules: Vec<String>,
    /// Such rules from a file, one a line, behind those given by --retention-rule; # begins a comment.
    #[arg(long = "retention-rules", value_name = "FILE")]
    pub retention_rules_file: Option<PathBuf>,
    /// Range of the smallest blocks.
    #[arg(long, value_name = "DURATION", default_value = "2h")]
    pub min_block_duration: String,
    /// Range of the largest blocks. Default: 31d, or a tenth of --retention-time if that is less.
    #[arg(long, value_name = "DURATION")]
    pub max_block_duration: Option<String>,
    /// A JSON file with the uploaded blocks, such as thanos.shipper.json: blocks of level 1 that are not in it, and those
    /// after them, wait.
    #[arg(long, value_name = "FILE")]
    pub delay_compact_file: Option<PathBuf>,
    /// How the plan or the result is shown.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// How the plan or the result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// The plan as a table; of the result a line on stderr.
    Text,
    /// On stdout, one JSON object a line for each directory.
    Json,
}

/// Runs the command.
///
/// # Errors
/// If an option is wrong.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let Some(options) = args.options(ui)? else { return Ok(ExitStatus::Usage) };
    each_directory(&args.dirs, args.output, ui, |dir, world, control, ui| {
        args.one(dir, &options, world, control, ui)
    })
}

/// Does the work in one directory after the other, until a signal comes. How it ends for all of them.
///
/// # Errors
/// If stdout fails.
pub(crate) fn each_directory(
    dirs: &[PathBuf],
    output: Output,
    ui: &mut Ui,
    mut one: impl FnMut(&Path, &World, &Control, &mut Ui) -> anyhow::Result<ExitStatus>,
) -> anyhow::Result<ExitStatus> {
    let world = World::real();
    let interrupt = Interrupt::default();
    let control = Control::new(interrupt.clone(), Budget::unlimited(), None);
    let _watch = Watch::new(interrupt.clone());
    let mut statuses = Vec::new();
    for dir in dirs {
        if interrupt.is_set() {
            ui.warn(format!("{}: not begun", dir.display()));
            statuses.push(ExitStatus::Partial);
            continue;
        }
        let done = one(dir, &world, &control, ui);
        statuses.push(done.or_else(|e| show_failure(dir, &e, output, ui))?);
    }
    Ok(together(&statuses))
}

/// Says why nothing came of a directory: programs too find a line for each.
fn show_failure(
    dir: &Path,
    error: &anyhow::Error,
    output: Output,
    ui: &mut Ui,
) -> anyhow::Result<ExitStatus> {
    let text = format!("{error:#}");
    if output == Output::Json {
        writeln!(ui.out(), "{}", json!({ "directory": dir.display().to_string(), "error": text }))?;
    }
    ui.error(text);
    Ok(crate::status_of(error))
}

/// How it ends for several directories: as for each of them, or in part.
fn together(statuses: &[ExitStatus]) -> ExitStatus {
    match statuses {
        [] => ExitStatus::Success,
        [first, others @ ..] if others.iter().all(|s| s == first) => *first,
        all if all.iter().any(|s| matches!(s, ExitStatus::Success | ExitStatus::Partial)) => {
            ExitStatus::Partial
        }
        _ => ExitStatus::Failure,
    }
}

impl Args {
    /// What the options come to; `None` if a rule is wrong, which was shown.
    fn options(&self, ui: &mut Ui) -> anyhow::Result<Option<CompactionOptions>> {
        let size = |text: &Option<String>, name: &'static str| {
            text.as_deref().map(|t| parse_size(t).context(name)).transpose()
        };
        let percentage = self.retention_percentage.unwrap_or(0.0);
        if !(0.0..=100.0).contains(&percentage) {
            bail!("--retention-percentage {percentage}: not between 0 and 100");
        }
        if percentage > 0.0 && self.retention_size.is_some() {
            ui.warn("--retention-size is ignored, because --retention-percentage is given");
        }
        let retention = Retention {
            time_ms: self.retention_time.as_deref().map_or(Ok(0), |t| duration(t, "--retention-time"))?,
            size_bytes: size(&self.retention_size, "--retention-size")?.unwrap_or(0),
            percentage,
        };
        let Some(rules) = rules::read(&self.retention_rules, self.retention_rules_file.as_deref(), ui)?
        else {
            return Ok(None);
        };
        let min_ms = duration(&self.min_block_duration, "--min-block-duration")?;
        if min_ms < 1 {
            bail!("--min-block-duration has to be longer than 0");
        }
        let max_ms = match &self.max_block_duration {
            Some(text) => duration(text, "--max-block-duration")?,
            None => default_max_block_ms(retention.time_ms),
        };
        let memory_bytes = parse_size(&self.memory_limit).context("--memory-limit")?;
        Ok(Some(CompactionOptions {
            ranges_ms: ranges_up_to(min_ms, max_ms),
            retention,
            rules,
            memory_bytes: Some(memory_bytes).filter(|bytes| *bytes > 0),
            scratch_bytes: size(&self.scratch_limit, "--scratch-limit")?,
            uploaded: self.delay_compact_file.as_deref().and_then(|path| read_uploaded(path, ui)),
            is_head_flushed: false,
        }))
    }

    fn one(
        &self,
        dir: &Path,
        options: &CompactionOptions,
        world: &World,
        control: &Control,
        ui: &mut Ui,
    ) -> anyhow::Result<ExitStatus> {
        check_directory(dir)?;
        if options.retention.percentage > 0.0 && world.disk.total_space(dir).map_or(true, |total| total == 0)
        {
            bail!(
                "unable to detect total capacity of metric storage at {}, please disable retention percentage ({}%)",
                dir.display(),
                options.retention.percentage
            );
        }
        if self.plan {
            let (plan, wrong) = plan_directory(world, dir, options, control)?;
            return report::show_plan(dir, &plan, &wrong, world, self.output, ui);
        }
        let started = world.clock.monotonic();
        let flushed = if self.flush_head { self.flush(dir, options, world, control, ui)? } else { None };
        let is_head_flushed = flushed.as_ref().is_some_and(|f| f.is_whole);
        let options = &CompactionOptions { is_head_flushed, ..options.clone() };
        let _lock = lock(dir, ui)?;
        let mut observer = report::Observer::new(dir, ui);
        let outcome = compact(world, dir, options, control, &mut |event| observer.see(event));
        drop(observer);
        let took = world.clock.monotonic().saturating_sub(started);
        report::show_outcome(dir, flushed.as_ref(), &outcome, took, self.output, ui)
    }

    /// Puts the head into blocks; `None` if there is none.
    fn flush(
        &self,
        dir: &Path,
        options: &CompactionOptions,
        world: &World,
        control: &Control,
        ui: &mut Ui,
    ) -> anyhow::Result<Option<Flushed>> {
        if !file::is_dir(&dir.join("wal")) {
            return Ok(None);
        }
        // Who writes to it without a lock is found before its log is touched.
        drop(lock(dir, ui)?);
        let mut live = LiveOptions::default();
        live.rules.chunk_range_ms = options.ranges_ms.first().copied().unwrap_or(live.rules.chunk_range_ms);
        // Chunks of the older encodings would drop them.
        let stored = start_times(dir, control)?;
        live.rules.histogram_start_timestamps = stored.histograms;
        live.rules.start_timestamps = stored.floats || stored.histograms;
        live.rules.xor2 = stored.floats;
        for name in self.features.iter().map(|name| name.trim()) {
            match name {
                "histograms-st-encoding" => live.rules.histogram_start_timestamps = true,
                // Upstream refuses it without the encoding that it needs.
                "st-storage" => (live.rules.start_timestamps, live.rules.xor2) = (true, true),
                "xor2-encoding" => live.rules.xor2 = true,
                _ => ui.warn(format!("unknown feature {name:?} in --enable-feature is ignored")),
            }
        }
        let mut cut = CutOptions::default();
        if let Some(limit) = options.memory_bytes {
            live.memory_limit = limit;
            cut.writer.memory_bytes =
                usize::try_from(limit / 8).unwrap_or(usize::MAX).clamp(8 << 20, 64 << 20);
        }
        let opened = LiveDatabase::open(Arc::clone(&world.disk), dir, live, control);
        let (database, report) = opened.map_err(|e| match e {
            StorageError::Control(ControlError::Memory { .. }) => anyhow::anyhow!(
                "{}: what the head holds does not fit in --memory-limit {}; raise it, or leave --flush-head away",
                dir.display(),
                self.memory_limit
            ),
            e => e.into(),
        })?;
        for loss in &report.losses {
            ui.warn(StorageError::from(loss.clone()).to_string());
        }
        if report.unknown_series > 0 {
            let samples = report.unknown_series;
            ui.warn(format!(
                "{}: {samples} samples of unknown series in the log are left out",
                dir.display()
            ));
        }
        let made = database.flush_head(world, &cut, control);
        // What is not in a block stays in the head either way.
        let closed = database.close();
        let blocks = made?;
        closed?;
        for block in &blocks {
            ui.detail(format!("{}: {} is there, made of the head", dir.display(), block.ulid));
        }
        let is_whole = report.losses.is_empty() && report.unknown_series == 0;
        Ok(Some(Flushed { blocks, is_whole }))
    }
}

/// What became of the head.
struct Flushed {
    /// Its blocks.
    blocks: Vec<BlockMeta>,
    /// Whether all of its log could be read.
    is_whole: bool,
}

/// Locks a directory, unless somebody has it.
pub(crate) fn lock(dir: &Path, ui: &mut Ui) -> anyhow::Result<DirLock> {
    let lock = match DirLock::acquire(dir) {
        Ok(lock) => lock,
        Err(LockError::File(e)) => return Err(e.into()),
        Err(held @ LockError::Held { .. }) => {
            bail!("{held}; a server compacts its directory itself: stop it, or look on with --plan")
        }
    };
    // A server may have been told to take no lock.
    let writers = writers(dir);
    if let Some(writer) = writers.found.first() {
        bail!(
            "{}: {writer} has files in it open for writing, though it took no lock; stop it, or look on with --plan",
            dir.display()
        );
    }
    if writers.is_incomplete {
        ui.detail(format!(
            "{}: whether another user's process writes to it without a lock cannot be seen",
            dir.display()
        ));
    }
    Ok(lock)
}

/// Says what is wrong with a path that is no data directory.
pub(crate) fn check_directory(dir: &Path) -> anyhow::Result<()> {
    if file::exists(&dir.join("meta.json")) && file::exists(&dir.join("index")) {
        bail!("{}: is a single block; give the data directory that it is in", dir.display());
    }
    Database::open(&[dir.to_owned()], OpenOptions { tolerant: true })?;
    Ok(())
}

fn duration(text: &str, name: &'static str) -> anyhow::Result<i64> {
    parse_duration_ms(text)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .with_context(|| format!("{name} {text:?} is no duration; write 15d, 2h, 1y"))
}

/// The uploaded blocks; as upstream, nothing is delayed if they cannot be read.
fn read_uploaded(path: &Path, ui: &mut Ui) -> Option<HashSet<String>> {
    #[derive(serde::Deserialize)]
    struct UploadMeta {
        #[serde(default)]
        uploaded: Option<Vec<String>>,
    }
    let bytes = match file::read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            ui.warn(format!("--delay-compact-file: {e}; no block waits for its upload"));
            return None;
        }
    };
    match serde_json::from_slice::<UploadMeta>(&bytes) {
        Ok(meta) => Some(meta.uploaded.unwrap_or_default().into_iter().collect()),
        Err(e) => {
            let path = path.display();
            ui.warn(format!("--delay-compact-file {path}: {e}; no block waits for its upload"));
            None
        }
    }
}

/// Passes a signal on, as long as it lives.
pub(crate) struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn new(interrupt: Interrupt) -> Self {
        let stop = stop_flag();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                if stop.is_set() {
                    interrupt.set();
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_directories_end_as_each_or_in_part() {
        use ExitStatus::{Failure, Partial, Success, Usage};
        for (each, want) in [
            (&[Success, Success][..], Success),
            (&[Usage], Usage),
            (&[Usage, Usage], Usage),
            (&[Failure, Usage], Failure),
            (&[Success, Usage], Partial),
            (&[Partial, Failure], Partial),
        ] {
            assert_eq!(together(each), want, "{each:?}");
        }
    }
}
