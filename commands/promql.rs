//! `tsdbctl promql`: expressions and test scripts, without data.

use crate::exit::ExitStatus;
use crate::ui::Ui;

pub mod explain;
pub mod fmt;
pub mod parse;
pub mod test;

/// Format, parse and explain expressions, run test scripts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "the help is written at each command's Args")]
pub enum Command {
    Fmt(fmt::Args),
    Parse(parse::Args),
    Explain(explain::Args),
    Test(test::Args),
}

/// Runs the command.
///
/// # Errors
/// As the subcommand.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    match &args.command {
        Command::Fmt(args) => fmt::run(args, ui),
        Command::Parse(args) => parse::run(args, ui),
        Command::Explain(args) => explain::run(args, ui),
        Command::Test(args) => test::run(args, ui),
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
