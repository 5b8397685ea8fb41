//! The command line of `tsdbctl`: one file per subcommand, each an `Args` and a `run`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod compact;
pub mod completions;
pub mod data;
pub mod diagnostic;
pub mod downsample;
pub mod exit;
pub mod export;
pub mod findings;
pub mod in_use;
pub mod ingest;
pub mod inspect;
pub mod line_diff;
pub mod man;
pub mod merge;
pub mod promql;
pub mod query;
pub mod rewriting;
pub mod rules;
pub mod sizes;
pub mod slice;
pub mod table;
pub mod times;
pub mod ui;

use exit::ExitStatus;
use tsdbctl_storage::StorageError;
use ui::Ui;

/// The Prometheus world in one binary.
///
/// Results go to stdout, everything else to stderr. Exit status: 0 done, 1 the check failed or the work did,
/// 2 wrong usage or an environment that does not allow the work, 3 lint findings where they are fatal, 4 done in
/// part.
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
#[allow(missing_docs, reason = "the help is written at each command's Args")]
pub enum Command {
    Query(query::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    Ingest(ingest::Args),
    Compact(compact::Args),
    Downsample(downsample::Args),
    Merge(merge::Args),
    Slice(slice::Args),
    Promql(promql::Args),
    Rules(rules::Args),
    Completions(completions::Args),
    Man(man::Args),
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
    let status = match &cli.command {
        Command::Query(args) => query::run(args, &mut ui),
        Command::Inspect(args) => inspect::run(args, &mut ui),
        Command::Export(args) => export::run(args, &mut ui),
        Command::Ingest(args) => ingest::run(args, &mut ui),
        Command::Compact(args) => compact::run(args, &mut ui),
        Command::Downsample(args) => downsample::run(args, &mut ui),
        Command::Merge(args) => merge::run(args, &mut ui),
        Command::Slice(args) => slice::run(args, &mut ui),
        Command::Promql(args) => promql::run(args, &mut ui),
        Command::Rules(args) => rules::run(args, &mut ui),
        Command::Completions(args) => completions::run(args, &mut ui),
        Command::Man(args) => man::run(args, &mut ui),
    };
    let status = status.and_then(|s| {
        ui.flush()?;
        Ok(s)
    });
    match status {
        Ok(status) => status.into(),
        Err(e) if is_broken_pipe(&e) => ExitStatus::Success.into(),
        Err(e) => {
            // What was written before the failure is still data.
            let _ = ui.flush();
            ui.error(format!("{e:#}"));
            status_of(&e).into()
        }
    }
}

/// Damaged data and limits that were reached are the work's failure, all else is the user's or the system's.
fn status_of(e: &anyhow::Error) -> ExitStatus {
    let failed = e.chain().any(|c| {
        let storage = match c.downcast_ref::<export::ExportError>() {
            Some(export::ExportError::Storage(e)) => Some(e),
            _ => c.downcast_ref::<StorageError>(),
        };
        matches!(storage, Some(StorageError::Corrupt(_) | StorageError::Control(_)))
    });
    if failed { ExitStatus::Failure } else { ExitStatus::Usage }
}

/// Whether the reader of our output has gone, which is no error of ours.
fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain().any(|c| {
        c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
