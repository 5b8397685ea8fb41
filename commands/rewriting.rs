//! What `merge` and `slice` have in common: writing data directories anew into another one, and telling what came of it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;
use tsdbctl_block::plan::block_ranges;
use tsdbctl_block::{BlockMeta, RelabelError, WriterOptions};
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_platform::file;
use tsdbctl_platform::signal::stop_flag;
use tsdbctl_platform::world::World;
use tsdbctl_storage::control::ControlError;
use tsdbctl_storage::{Budget, Control, Interrupt, StorageError};
use tsdbctl_tsdb::rewrite::{Input, Rewrite, RewriteError, RewriteOptions, Target, Wanted};

use crate::exit::ExitStatus;
use crate::in_use::refuse_unlocked_writer;
use crate::sizes::{format_count, format_size, parse_size};
use crate::times::parse_step;
use crate::ui::Ui;

/// Where the result goes, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Destination {
    /// The data directory that is written; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// Longest range of a block. Blocks are as long as Prometheus would make them in the end: 2h, 6h, 18h …
    #[arg(long, value_name = "DURATION", default_value = "31d")]
    pub max_block_duration: String,
    /// Make blocks also where the directory has samples of that time already. Prometheus merges them when it compacts.
    #[arg(long)]
    pub allow_overlap: bool,
    /// Most memory that heads, labels and buffers may take; 0 for no limit.
    #[arg(long, value_name = "BYTES", default_value = "2GiB")]
    pub memory_limit: String,
    /// How the result is shown.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// On stderr.
    Text,
    /// On stdout as one line of JSON, and on stderr.
    Json,
}

/// Upstream's smallest range of blocks.
const BASE_MS: i64 = 7_200_000;
/// Most memory that a writer can make use of.
const WRITER_BYTES_MAX: u64 = 256 << 20;

impl Destination {
    /// What limits the work.
    ///
    /// # Errors
    /// If the limit is no size.
    pub fn control(&self) -> anyhow::Result<Control> {
        let budget = match self.limit()? {
            u64::MAX => Budget::unlimited(),
            limit => Budget::new(limit - self.writer_bytes()?),
        };
        Ok(Control::new(Interrupt::default(), budget, None))
    }

    fn limit(&self) -> anyhow::Result<u64> {
        Ok(match parse_size(&self.memory_limit).context("--memory-limit")? {
            0 => u64::MAX,
            limit => limit,
        })
    }

    fn writer_bytes(&self) -> anyhow::Result<u64> {
        Ok((self.limit()? / 4).min(WRITER_BYTES_MAX))
    }

    fn options(&self) -> anyhow::Result<RewriteOptions> {
        let longest = parse_step(&self.max_block_duration).context("--max-block-duration")?;
        if longest < BASE_MS {
            bail!("--max-block-duration: a block is at least 2h long");
        }
        let mut ranges = block_ranges(BASE_MS, 10, 3);
        ranges.retain(|range| *range <= longest);
        let memory_bytes = usize::try_from(self.writer_bytes()?).unwrap_or(usize::MAX);
        let writer = WriterOptions { memory_bytes, ..WriterOptions::default() };
        Ok(RewriteOptions { ranges, allow_overlap: self.allow_overlap, writer })
    }

    /// Opens the inputs.
    ///
    /// # Errors
    /// If one of them is not what it should be, or is the directory that is written.
    pub fn open_inputs(
        &self,
        dirs: &[PathBuf],
        wanted: &Wanted,
        control: &Control,
    ) -> anyhow::Result<Vec<Input>> {
        // Told before anything is made.
        self.options()?;
        let into = file::resolve(&self.into);
        if file::exists(&self.into) && !file::is_dir(&self.into) {
            bail!("{}: is not a directory", self.into.display());
        }
        let mut inputs = Vec::with_capacity(dirs.len());
        for dir in dirs {
            let dir_whole = file::resolve(dir);
            if dir_whole.parent() == Some(&into) || into.starts_with(&dir_whole) {
                bail!("{}: is read, so it cannot be written: give --into another directory", dir.display());
            }
            inputs.push(Input::open(dir, wanted, control).map_err(|e| self.explain(e))?);
        }
        Ok(inputs)
    }

    /// An error in terms of this command.
    fn explain(&self, error: StorageError) -> anyhow::Error {
        match error {
            StorageError::Control(ControlError::Memory { what, asked, used, .. }) => anyhow::anyhow!(
                "--memory-limit {} does not suffice: {what} asks for {asked} bytes, {used} are in use; raise it, or do a part of the time or of the series at once",
                self.memory_limit
            ),
            e => e.into(),
        }
    }

    fn explain_rewrite(&self, error: RewriteError) -> anyhow::Error {
        match error {
            RewriteError::Storage(e) | RewriteError::Relabel(RelabelError::Storage(e)) => self.explain(e),
            e => e.into(),
        }
    }

    /// Writes what is wanted of the inputs, and shows what came of it.
    ///
    /// # Errors
    /// If something cannot be read or written, or the directory has samples of that time.
    pub fn write(
        &self,
        inputs: &[Input],
        wanted: &Wanted,
        control: &Control,
        rerun: Rerun,
        ui: &mut Ui,
    ) -> anyhow::Result<ExitStatus> {
        let stop = stop_flag();
        let world = World::real();
        refuse_unlocked_writer(&self.into)?;
        let target = Target::open(&world, &self.into, control).map_err(|e| self.explain(e))?;
        let rewrite =
            Rewrite::plan(inputs, wanted, &target, self.options()?).map_err(|e| self.explain_rewrite(e))?;
        let todo = rewrite.windows().iter().filter(|w| !w.is_done).count() as u64;
        let there = rewrite.windows().len() as u64 - todo;
        let mut result = Written { there, rerun, ..Written::default() };
        let mut progress = ui.progress(todo, "blocks");
        for window in rewrite.windows().iter().filter(|w| !w.is_done) {
            let mut each = || {
                if stop.is_set() {
                    control.interrupt.set();
                }
            };
            each();
            match rewrite.write(window, &world, control, &mut each) {
                Ok(block) => result.blocks.extend(block),
                Err(
                    RewriteError::Storage(StorageError::Control(ControlError::Canceled { .. }))
                    | RewriteError::Relabel(RelabelError::Storage(StorageError::Control(
                        ControlError::Canceled { .. },
                    ))),
                ) => {
                    result.is_interrupted = true;
                    break;
                }
                Err(e) => {
                    drop(progress);
                    if !result.blocks.is_empty() {
                        result.show(self, inputs, ui)?;
                    }
                    return Err(self.explain_rewrite(e));
                }
            }
            progress.step();
        }
        drop(progress);
        result.same = rewrite.conflicts().same();
        result.different = rewrite.conflicts().different();
        result.show(self, inputs, ui)?;
        let skipped = inputs.iter().any(|i| !i.only_downsampled().is_empty());
        Ok(if result.is_interrupted || skipped { ExitStatus::Partial } else { ExitStatus::Success })
    }
}

/// What the same command does if it is given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rerun {
    /// It makes the blocks that are missing.
    #[default]
    GoesOn,
    /// Something else: pseudonyms come of a key that is forgotten.
    BeginsAnew,
}

/// What came of it.
#[derive(Debug, Default)]
struct Written {
    blocks: Vec<BlockMeta>,
    /// Blocks that an earlier run made.
    there: u64,
    is_interrupted: bool,
    rerun: Rerun,
    /// Samples left out because an earlier directory has the same, or another, at that time.
    same: u64,
    different: u64,
}

impl Written {
    fn show(&self, into: &Destination, inputs: &[Input], ui: &mut Ui) -> anyhow::Result<()> {
        let size = |block: &BlockMeta| {
            let dir = into.into.join(&block.ulid);
            let files = file::read_dir(&dir).into_iter().chain(file::read_dir(&dir.join("chunks")));
            files.flatten().filter(|e| !e.is_dir).map(|e| e.size).sum::<u64>()
        };
        let sizes: Vec<u64> = self.blocks.iter().map(size).collect();
        let samples: u64 = self.blocks.iter().map(|b| b.stats.num_samples).sum();
        let skipped: Vec<_> = inputs.iter().flat_map(Input::only_downsampled).collect();
        if into.output == Output::Json {
            let blocks = self.blocks.iter().zip(&sizes).map(|(b, bytes)| {
                json!({
                    "ulid": b.ulid,
                    "min_time": b.min_time,
                    "max_time": b.max_time,
                    "series": b.stats.num_series,
                    "samples": b.stats.num_samples,
                    "chunks": b.stats.num_chunks,
                    "bytes": bytes,
                })
            });
            let line = json!({
                "into": into.into.to_string_lossy(),
                "blocks": blocks.collect::<Vec<_>>(),
                "samples": samples,
                "bytes": sizes.iter().sum::<u64>(),
                "already_there": self.there,
                "same_twice": self.same,
                "conflicts": self.different,
                "skipped": skipped
                    .iter()
                    .map(|(p, start, end)| json!({ "path": p.to_string_lossy(), "min_time": start, "max_time": end }))
                    .collect::<Vec<_>>(),
                "interrupted": self.is_interrupted,
            });
            writeln!(ui.out(), "{line}")?;
            ui.flush()?;
        }
        for (path, start, end) in &skipped {
            ui.warn(format!(
                "{}: from {} to {} only downsampled samples are left; they are not copied",
                path.display(),
                format_rfc3339_ms(*start),
                format_rfc3339_ms(*end)
            ));
        }
        for (block, bytes) in self.blocks.iter().zip(&sizes) {
            ui.detail(format!(
                "{}: {} to {}, {} series, {} samples, {}",
                block.ulid,
                format_rfc3339_ms(block.min_time),
                format_rfc3339_ms(block.max_time),
                format_count(block.stats.num_series),
                format_count(block.stats.num_samples),
                format_size(*bytes)
            ));
        }
        let plural = |n: u64| if n == 1 { "block" } else { "blocks" };
        let n = self.blocks.len() as u64;
        let mut line = format!(
            "wrote {} samples in {} {} ({}) into {}",
            format_count(samples),
            format_count(n),
            plural(n),
            format_size(sizes.iter().sum()),
            into.into.display()
        );
        if self.there > 0 {
            line += &format!("; {} {} were there already", format_count(self.there), plural(self.there));
        }
        if n == 0 && self.there == 0 && !self.is_interrupted {
            line = "no samples".to_owned();
        }
        ui.say(line);
        if self.different > 0 {
            ui.warn(format!(
                "{} samples had another value at the same time in an earlier directory, whose value is kept; --label of merge keeps directories apart",
                format_count(self.different)
            ));
        }
        if self.same > 0 {
            ui.detail(format!("{} samples were in several directories", format_count(self.same)));
        }
        if self.is_interrupted {
            ui.warn(match self.rerun {
                Rerun::GoesOn => "interrupted; the same command again makes the blocks that are missing".to_owned(),
                Rerun::BeginsAnew => format!(
                    "interrupted; the key of its pseudonyms is forgotten: remove {}, and keep the key with --pseudonyms=FILE",
                    into.into.display()
                ),
            });
        }
        Ok(())
    }
}
