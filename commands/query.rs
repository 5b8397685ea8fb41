//! `tsdbctl query`: PromQL over data directories.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tsdbctl_platform::clock::{Clock, SystemClock};
use tsdbctl_promql::api_json::{StatsLevel, query_error_body, write_result};
use tsdbctl_promql::engine::{self, QueryOptions, QueryTime};
use tsdbctl_storage::{Budget, Control, Interrupt};
use tsdbctl_tsdb::{Database, OpenOptions};

use crate::exit::ExitStatus;
use crate::times::{parse_step, parse_time};
use crate::ui::Ui;

/// Evaluate PromQL over data directories, with no server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The expression.
    #[arg(allow_hyphen_values = true)]
    pub expr: String,
    /// A data directory or a single block; several are merged.
    #[arg(short, long = "dir", value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Evaluate at this time; the newest sample's time if nothing is given.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    pub time: Option<String>,
    /// First evaluation time of a range.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// Last evaluation time of a range.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,
    /// Distance of evaluation times: 15s, 1m, or seconds.
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    /// How far an instant selector looks back.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub lookback_delta: String,
    /// Most samples in memory at once, by Prometheus' count.
    #[arg(long, value_name = "N", default_value_t = 50_000_000)]
    pub max_samples: u64,
    /// Output format.
    #[arg(short, long, default_value = "json")]
    pub output: String,
}

/// Runs the command.
///
/// # Errors
/// If the arguments make no sense or the directories cannot be opened.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let now = SystemClock::default().now_ms();
    let options = QueryOptions {
        lookback_delta: parse_step(&args.lookback_delta)?,
        max_samples: args.max_samples,
        ..QueryOptions::default()
    };
    let control = Control::new(Interrupt::default(), Budget::unlimited(), Some(Duration::from_secs(120)));
    let database = Database::open(&args.dirs, OpenOptions::default())?;
    let time = match (&args.start, &args.end, &args.step) {
        (Some(start), Some(end), Some(step)) => QueryTime::Range {
            start: parse_time(start, now)?,
            end: parse_time(end, now)?,
            step: parse_step(step)?,
        },
        (None, None, None) => match &args.time {
            Some(t) => QueryTime::Instant(parse_time(t, now)?),
            None => QueryTime::Instant(
                database.newest_sample_time(&control)?.context("the directories hold no samples")?,
            ),
        },
        _ => bail!("a range needs --start, --end and --step"),
    };
    match engine::run(&database, &args.expr, time, &options, &control) {
        Ok(result) => {
            write_result(ui.out(), &result, &args.expr, StatsLevel::None)?;
            writeln!(ui.out())?;
            Ok(ExitStatus::Success)
        }
        Err(e) => {
            ui.out().write_all(&query_error_body(&e))?;
            writeln!(ui.out())?;
            Ok(ExitStatus::Failure)
        }
    }
}
