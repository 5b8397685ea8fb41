//! `tsdbctl inspect exemplars`: exemplars of the series that an expression selects.

use tsdbctl_model::duration::format_rfc3339_fixed_ms;
use tsdbctl_model::float_text::format_g;

use super::Output;
use super::answer::{Asked, exemplars, write_exemplars};
use crate::data::{ALL_TIMES, Directories, FeatureFlags, Limits, TimeRange};
use crate::exit::ExitStatus;
use crate::table::write_table;
use crate::ui::Ui;

/// List exemplars of matching series.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An expression; exemplars of the series that it selects are listed. Everything if neither this nor --match is
    /// given.
    pub query: Option<String>,
    /// Only series of this selector; repeatable, a series needs one of them.
    #[arg(short, long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// When.
    #[command(flatten)]
    pub range: TimeRange,
    /// Most series to list; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
    /// Limits.
    #[command(flatten)]
    pub limits: Limits,
}

/// Runs the command.
///
/// # Errors
/// If the directories cannot be opened or a time is none.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let control = args.limits.control()?;
    let features = args.features.features(ui);
    let database = args.data.open()?;
    let times = args.range.resolve(&database, &control, ALL_TIMES)?;
    let query = match &args.query {
        None if args.matches.is_empty() => Some("{__name__=~\".+\"}"),
        query => query.as_deref(),
    };
    let asked =
        Asked { data: &database, matches: &args.matches, times, limit: args.limit, control: &control };
    let answer = match exemplars(asked, query, &features) {
        Ok(answer) => answer,
        Err(e) => return e.show(ui, args.output),
    };
    match args.output {
        Output::Json => {
            ui.out().write_all(&answer.body(write_exemplars))?;
            writeln!(ui.out())?;
        }
        Output::Table => {
            let rows = answer.items.iter().flat_map(|found| {
                found.exemplars.iter().map(|e| {
                    vec![
                        found.series.to_string(),
                        format_rfc3339_fixed_ms(e.timestamp_ms),
                        format_g(e.value),
                        e.labels.to_string(),
                    ]
                })
            });
            write_table(ui.out(), &["series", "time", "value", "labels"], rows, &[2])?;
        }
    }
    Ok(ExitStatus::Success)
}
