//! `tsdbctl promql explain`: the plan of an expression, without data.

use anyhow::Context;
use tsdbctl_promql::engine::{self, QueryOptions, QueryTime};

use super::fmt::given;
use crate::data::{FeatureFlags, now_ms};
use crate::diagnostic::show_query_error;
use crate::exit::ExitStatus;
use crate::query::operators::write_plan;
use crate::times::{parse_step, parse_time};
use crate::ui::Ui;

/// Print the operators that an expression would run as.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The expression; read from standard input if not given.
    #[arg(allow_hyphen_values = true)]
    pub expr: Option<String>,
    /// First evaluation time of a range.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "end")]
    pub start: Option<String>,
    /// Latest evaluation time of a range.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "start")]
    pub end: Option<String>,
    /// Distance of evaluation times.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub step: String,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
}

/// Runs the command.
///
/// # Errors
/// If a time is none, or standard input or output fails.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let options = QueryOptions { features: args.features.features(ui), ..QueryOptions::default() };
    let now = now_ms();
    let time = match (&args.start, &args.end) {
        (Some(start), Some(end)) => QueryTime::Range {
            start: parse_time(start, now).context("--start")?,
            end: parse_time(end, now).context("--end")?,
            step: parse_step(&args.step).context("--step")?.max(1),
        },
        _ => QueryTime::Instant(now),
    };
    let exprs: Vec<String> = args.expr.iter().cloned().collect();
    for text in given(&exprs)? {
        match engine::explain(&text, time, &options) {
            Ok(plan) => write_plan(ui.out(), &plan)?,
            Err(e) => {
                show_query_error(ui, &text, &e);
                return Ok(ExitStatus::Failure);
            }
        }
    }
    Ok(ExitStatus::Success)
}
