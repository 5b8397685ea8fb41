//! `tsdbctl downsample`: windows of five minutes and of an hour beside raw samples, and tiers of them, as a cron job does.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tsdbctl_platform::world::World;
use tsdbctl_storage::Control;
use tsdbctl_tsdb::downsampling::Tiers;
use tsdbctl_tsdb::downsampling::run::{DownsamplingOptions, run as downsample, situation};

use crate::compact::{Output, check_directory, each_directory, lock};
use crate::exit::ExitStatus;
use crate::ui::Ui;

mod report;

/// Downsample data directories, in Thanos' format.
///
/// Of raw blocks older than 40 h windows of five minutes are made, of such older than 10 d windows of an hour: count, sum,
/// smallest, largest and counter of each series, of native histograms count, sum and counter. What is long enough is due
/// whatever its age: raw blocks of 40 h, others of 10 d. query takes them where they do.
///
/// They are written to downsampled/ in the directory, where Prometheus does not look; in the folder of a Thanos bucket
/// beside the other blocks. Short ones are merged as they come. What was downsampled before is not done again, unless late
/// samples came: then its range is made anew. Nothing is removed without --tiers; with it raw blocks go when they are older
/// than their tier and wholly downsampled, those of five minutes alike, those of an hour when they are older. Age is
/// counted as by compact: a block from the future counts for nothing, and a clock that jumps removes nothing.
///
/// Left out are stale markers, and of floats what is not a number. Says nothing when there is nothing to do, else one line
/// per directory. A damaged block is moved to quarantine/, and the others go on. Work that is interrupted loses nothing; the
/// next run takes it up.
///
/// Exit status: 0 all is done or there was nothing to do, 4 done in part (a block was set aside or left alone, a directory
/// failed), 1 the work failed, 2 wrong usage, or a directory that cannot be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data directory, or the folder of a Thanos bucket; repeatable. What goes wrong with one does not keep the others
    /// from being downsampled.
    #[arg(short, long = "dir", value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Print what would be done, step by step, and do nothing. A running server's directory may be looked at.
    #[arg(long)]
    pub plan: bool,
    /// How long each resolution is kept: raw=14d,5m=90d,1h=1y, which is also what default stands for. What is not named is
    /// kept for ever.
    #[arg(long, value_name = "TIERS")]
    pub tiers: Option<String>,
    /// Write downsampled blocks to this directory, made if it does not exist. For one --dir alone.
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// How the plan or the result is shown.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// Runs the command.
///
/// # Errors
/// If an option is wrong.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let tiers = args.tiers.as_deref().map(Tiers::parse).transpose().context("--tiers")?;
    if args.into.is_some() && args.dirs.len() > 1 {
        bail!("--into takes the blocks of one directory; {} are given", args.dirs.len());
    }
    let options = DownsamplingOptions { tiers, into: args.into.clone() };
    each_directory(&args.dirs, args.output, ui, |dir, world, control, ui| {
        args.one(dir, &options, world, control, ui)
    })
}

impl Args {
    fn one(
        &self,
        dir: &Path,
        options: &DownsamplingOptions,
        world: &World,
        control: &Control,
        ui: &mut Ui,
    ) -> anyhow::Result<ExitStatus> {
        check_directory(dir)?;
        if self.plan {
            return report::show_plan(dir, &situation(world, dir, options)?, self.output, ui);
        }
        let _lock = lock(dir, ui)?;
        let started = world.clock.monotonic();
        let mut observer = report::Observer::new(dir, ui);
        let outcome = downsample(world, dir, options, control, &mut |event| observer.see(event));
        drop(observer);
        let took = world.clock.monotonic().saturating_sub(started);
        report::show_outcome(dir, &outcome?, took, self.output, ui)
    }
}
