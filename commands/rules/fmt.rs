//! `tsdbctl rules fmt`: rule files written in one form.

use std::path::PathBuf;
use std::sync::Arc;

use tsdbctl_platform::file;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_rules::file::ReadOptions;
use tsdbctl_rules::format::{FormatOptions, format};
use tsdbctl_yaml::Source;

use super::input::{Input, inputs};
use crate::data::FeatureFlags;
use crate::exit::ExitStatus;
use crate::findings;
use crate::line_diff::unified;
use crate::ui::Ui;

/// Format rule files: indentation, blank lines, expressions. Comments and order stay.
///
/// Without --write, --check or --diff the formatted text goes to standard output. Expressions with comments are left
/// as they are. What was formatted is read again and compared with the original before it is written.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rule files; standard input if there are none.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write nothing; name the files that are not formatted, and exit with 1 if there are any.
    #[arg(long, conflicts_with = "write")]
    pub check: bool,
    /// Write the files in place.
    #[arg(short, long)]
    pub write: bool,
    /// Print what would change.
    #[arg(long)]
    pub diff: bool,
    /// Put the keys of groups and rules into the usual order.
    #[arg(long)]
    pub sort_keys: bool,
    /// Pass over fields that rule files do not have.
    #[arg(long)]
    pub ignore_unknown_fields: bool,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read or written.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let options = FormatOptions {
        read: ReadOptions {
            ignore_unknown_fields: args.ignore_unknown_fields,
            all_documents: true,
            features: args.features.features(ui),
        },
        sort_keys: args.sort_keys,
    };
    let (mut status, mut unread) = (ExitStatus::Success, false);
    for input in inputs(&args.files) {
        anyhow::ensure!(
            input.key.is_none(),
            "{}: only whole files are formatted; leave the part behind the colon away",
            input.name
        );
        match one(&input, args, &options, ui) {
            Ok(true) => {}
            Ok(false) => status = ExitStatus::Failure,
            Err(e) if args.files.len() == 1 => return Err(e),
            // The other files are formatted all the same.
            Err(e) => {
                ui.flush()?;
                ui.error(format!("{e:#}"));
                unread = true;
            }
        }
    }
    Ok(if unread { ExitStatus::Usage } else { status })
}

/// Formats one file; false if it cannot be, or is not and should be.
fn one(input: &Input, args: &Args, options: &FormatOptions, ui: &mut Ui) -> anyhow::Result<bool> {
    let Ok(old) = String::from_utf8(input.bytes()?) else {
        anyhow::bail!("{}: this is no UTF-8; save the file as UTF-8", input.name);
    };
    let source = Arc::new(Source::new(input.name.clone(), old));
    let new = match format(&source, options) {
        Ok(new) => new,
        Err(found) => {
            ui.flush()?;
            findings::show(ui, &found);
            return Ok(false);
        }
    };
    let changed = new != source.text;
    if args.diff && changed {
        ui.out().write_all(unified(&input.name, &source.text, &new).as_bytes())?;
    }
    if args.check {
        if changed {
            match input.path {
                Some(_) => {
                    ui.say(format!("{}: not formatted; `tsdbctl rules fmt --write` formats it", input.name));
                }
                None => ui.say(format!("{}: not formatted", input.name)),
            }
        }
        return Ok(!changed);
    }
    match (&input.path, args.write) {
        (Some(path), true) => {
            if changed {
                file::rewrite(&RealDisk, path, new.as_bytes())?;
                ui.detail(format!("{}: formatted", input.name));
            }
        }
        _ if args.diff => {}
        _ => ui.out().write_all(new.as_bytes())?,
    }
    Ok(true)
}
