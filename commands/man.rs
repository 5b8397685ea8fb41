//! `tsdbctl man`: the manual.

use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::exit::ExitStatus;
use crate::ui::Ui;

/// Print the manual page, or write the pages of all commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one page per command into this directory.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Names and contents of all pages.
///
/// # Errors
/// Never; rendering into memory does not fail.
pub fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    fn walk(command: &Command, name: &str, out: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
        let mut page = Vec::new();
        Man::new(command.clone().display_name(name.to_string())).title(name.to_string()).render(&mut page)?;
        out.push((format!("{name}.1"), page));
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            walk(sub, &format!("{name}-{}", sub.get_name()), out)?;
        }
        Ok(())
    }
    let mut command = crate::Cli::command();
    command.build();
    let mut out = Vec::new();
    walk(&command, "tsdbctl", &mut out)?;
    Ok(out)
}

/// Runs the command.
///
/// # Errors
/// If a page cannot be written.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let pages = pages()?;
    match &args.out {
        None => ui.out().write_all(&pages[0].1)?,
        Some(dir) => {
            for (name, page) in &pages {
                tsdbctl_platform::file::write(&dir.join(name), page)?;
            }
            ui.detail(format!("{} pages written to {}", pages.len(), dir.display()));
        }
    }
    Ok(ExitStatus::Success)
}
