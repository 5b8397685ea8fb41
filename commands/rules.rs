//! `tsdbctl rules`: recording and alerting rules, without a server.

use crate::exit::ExitStatus;
use crate::ui::Ui;

pub mod backtest;
pub mod check;
pub mod deps;
pub mod eval;
pub mod fmt;
pub mod input;
pub mod test;

/// Check, test, evaluate and backtest recording and alerting rules.
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
    Check(check::Args),
    Test(test::Args),
    Eval(eval::Args),
    Backtest(backtest::Args),
    Fmt(fmt::Args),
    Deps(deps::Args),
}

/// Runs the command.
///
/// # Errors
/// As the subcommand.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    match &args.command {
        Command::Check(args) => check::run(args, ui),
        Command::Test(args) => test::run(args, ui),
        Command::Eval(args) => eval::run(args, ui),
        Command::Backtest(args) => backtest::run(args, ui),
        Command::Fmt(args) => fmt::run(args, ui),
        Command::Deps(args) => deps::run(args, ui),
    }
}
