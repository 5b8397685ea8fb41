//! The command line of `tsdbctl`: one file per subcommand, each an `Args` and a `run`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod exit;
pub mod query;
pub mod times;
pub mod ui;

use exit::ExitStatus;
use ui::Ui;

/// The Prometheus world in one binary.
#[derive(Debug, Parser)]
#[command(name = "tsdbctl", version, max_term_width = 100)]
pub struct Cli {
    /// Say what was understood and done, on stderr.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Evaluate PromQL over data directories, with no server.
    Query(query::Args),
}

/// Runs the command line and says how it ended.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let mut ui = Ui::stdio(cli.verbose);
    let status = match cli.command {
        Command::Query(args) => query::run(&args, &mut ui),
    };
    let status = status.and_then(|s| {
        ui.flush()?;
        Ok(s)
    });
    match status {
        Ok(status) => status.into(),
        Err(e) if is_broken_pipe(&e) => ExitStatus::Success.into(),
        Err(e) => {
            ui.say(format!("error: {e:#}"));
            ExitStatus::Usage.into()
        }
    }
}

/// Whether the reader of our output has gone, which is no error of ours.
fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain().any(|c| {
        c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
