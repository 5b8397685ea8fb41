//! `tsdbctl inspect labels`: label names, or the values of one label.

use tsdbctl_promql::api_json::write_string;

use super::Output;
use super::answer::{Asked, TRUNCATED, label_names, label_values};
use crate::data::{ALL_TIMES, Directories, Limits, TimeRange};
use crate::exit::ExitStatus;
use crate::ui::Ui;

/// List label names, or the values of one label, one a line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// List the values of this label; names may be escaped as in the API's paths (U__raum_20_nr).
    #[arg(long, value_name = "NAME")]
    pub values: Option<String>,
    /// Only labels of series of this selector; repeatable, a series needs one of them.
    #[arg(short, long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// When.
    #[command(flatten)]
    pub range: TimeRange,
    /// Most names or values to list; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
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
    let database = args.data.open()?;
    let times = args.range.resolve(&database, &control, ALL_TIMES)?;
    let asked =
        Asked { data: &database, matches: &args.matches, times, limit: args.limit, control: &control };
    let found = match &args.values {
        Some(name) => label_values(asked, name),
        None => label_names(asked),
    };
    let answer = match found {
        Ok(answer) => answer,
        Err(e) => return e.show(ui, args.output),
    };
    match args.output {
        Output::Json => {
            ui.out().write_all(&answer.body(|out, s| write_string(out, s, true)))?;
            writeln!(ui.out())?;
        }
        Output::Table => {
            for text in &answer.items {
                writeln!(ui.out(), "{text}")?;
            }
            if answer.truncated {
                ui.warn(TRUNCATED);
            }
        }
    }
    Ok(ExitStatus::Success)
}
