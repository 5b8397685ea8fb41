//! `tsdbctl inspect series`: label sets of matching series.

use std::path::PathBuf;

use super::Output;
use super::answer::{Asked, TRUNCATED, series, write_labels};
use crate::data::{ALL_TIMES, Directories, Limits, TimeRange};
use crate::exit::ExitStatus;
use crate::ui::Ui;

/// List series, one a line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// Only series of this selector, such as 'up{job="node"}'; repeatable, a series needs one of them.
    #[arg(short, long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// When.
    #[command(flatten)]
    pub range: TimeRange,
    /// Most series to list; 0 for all.
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
    let answer = match series(asked) {
        Ok(answer) => answer,
        Err(e) => return e.show(ui, args.output),
    };
    match args.output {
        Output::Json => {
            ui.out().write_all(&answer.body(write_labels))?;
            writeln!(ui.out())?;
        }
        Output::Table => {
            for labels in &answer.items {
                writeln!(ui.out(), "{labels}")?;
            }
            if answer.truncated {
                ui.warn(TRUNCATED);
            }
            ui.detail(format!("{} series in {}", answer.items.len(), names(&args.data.dirs)));
        }
    }
    Ok(ExitStatus::Success)
}

fn names(dirs: &[PathBuf]) -> String {
    let names: Vec<String> = dirs.iter().map(|d| d.display().to_string()).collect();
    names.join(", ")
}
