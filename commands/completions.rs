//! `tsdbctl completions`: completion scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::ExitStatus;
use crate::ui::Ui;

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    pub shell: CompletedShell,
}

/// Shells that have a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CompletedShell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

impl CompletedShell {
    /// All of them, with the names of their files in `completions/`.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Bash, "tsdbctl.bash"), (Self::Zsh, "_tsdbctl"), (Self::Fish, "tsdbctl.fish")];
}

/// The script of a shell.
pub fn script(shell: CompletedShell) -> Vec<u8> {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "tsdbctl", &mut out);
    out
}

/// Runs the command.
///
/// # Errors
/// If stdout fails.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    ui.out().write_all(&script(args.shell))?;
    Ok(ExitStatus::Success)
}
