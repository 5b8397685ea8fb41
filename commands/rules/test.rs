//! `tsdbctl rules test`: unit tests of rules.

use std::path::PathBuf;

use crate::exit::ExitStatus;
use crate::ui::Ui;

/// Run unit tests of rules.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rule files; stdin if there are none.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read.
pub fn run(args: &Args, _ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    anyhow::bail!("not there yet: {:?}", args.files)
}
