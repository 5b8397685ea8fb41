//! `tsdbctl inspect`: what is stored, without evaluating anything.

use crate::exit::ExitStatus;
use crate::ui::Ui;

pub mod answer;
pub mod blocks;
pub mod exemplars;
pub mod labels;
pub mod series;

/// Look at what is stored.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// At what.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "the help is written at each command's Args")]
pub enum Command {
    Blocks(blocks::Args),
    Series(series::Args),
    Labels(labels::Args),
    Exemplars(exemplars::Args),
}

/// Runs the command.
///
/// # Errors
/// As the subcommand.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    match &args.command {
        Command::Blocks(args) => blocks::run(args, ui),
        Command::Series(args) => series::run(args, ui),
        Command::Labels(args) => labels::run(args, ui),
        Command::Exemplars(args) => exemplars::run(args, ui),
    }
}

/// Output of the commands that have an API answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// The HTTP API's answer, errors included.
    Json,
}
