//! `tsdbctl merge`: several data directories become one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use tsdbctl_block::Relabelling;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_tsdb::rewrite::Wanted;

use crate::data::ALL_TIMES;
use crate::exit::ExitStatus;
use crate::rewriting::{Destination, Rerun};
use crate::ui::Ui;

/// Make one data directory of several.
///
/// Blocks and what is only in the write-ahead log are merged, each sample once, into blocks of aligned ranges; deletions
/// are carried out. The directories are only read, and may be in use. Of two different values of one series at one time
/// that of the directory named first is kept, and the others are counted; labels keep directories apart. Exemplars and
/// metadata, which blocks cannot hold, and downsampled samples are left out.
///
/// A run that was interrupted is finished by running it again: blocks appear whole, and those that are there are not
/// made twice.
///
/// Exit status: 0 done, 4 of some times only downsampled samples are left, or it was interrupted, 1 something is damaged,
/// 2 wrong usage, or a directory that cannot be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data directories of Prometheus (or of its agent), or single blocks.
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// A label for every series; {dir} in it stands for the last part of the directory's name. Given once for a name it
    /// holds for all directories; given as many times as there are directories, each gets its own, in their order. A
    /// label of that name in the data is kept as exported_NAME.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Where the result goes.
    #[command(flatten)]
    pub into: Destination,
}

/// Runs the command.
///
/// # Errors
/// If an option is wrong, or something cannot be read or written.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let added = labels_of(&args.labels, &args.dirs)?;
    let control = args.into.control()?;
    let wanted = Wanted { range: ALL_TIMES, selections: Vec::new() };
    let mut inputs = args.into.open_inputs(&args.dirs, &wanted, &control)?;
    let mut names = HashSet::new();
    if !args.labels.is_empty() {
        for input in &inputs {
            names.extend(input.label_names(&control)?);
        }
    }
    let renamed = displaced(added.iter().flatten().map(|(name, _)| name.as_str()), &names);
    for (from, to) in &renamed {
        ui.info(format!("the data has a label {from}; it is kept as {to}"));
    }
    for (input, added) in inputs.iter_mut().zip(added) {
        input.relabelling = Relabelling { renamed: renamed.clone(), added, pseudonyms: None };
    }
    args.into.write(&inputs, &wanted, &control, Rerun::GoesOn, ui)
}

/// The labels that each directory's series get.
fn labels_of(texts: &[String], dirs: &[PathBuf]) -> anyhow::Result<Vec<Vec<(String, String)>>> {
    let mut by_name: Vec<(&str, Vec<&str>)> = Vec::new();
    for text in texts {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() && name != METRIC_NAME => {
                match by_name.iter_mut().find(|(n, _)| *n == name) {
                    Some((_, values)) => values.push(value),
                    None => by_name.push((name, vec![value])),
                }
            }
            _ => bail!("--label: {text:?} is no label; write NAME=VALUE"),
        }
    }
    let mut all = vec![Vec::new(); dirs.len()];
    for (name, values) in by_name {
        if values.len() != 1 && values.len() != dirs.len() {
            bail!(
                "--label {name}: given {} times for {} directories; give it once, or once for each directory",
                values.len(),
                dirs.len()
            );
        }
        for (i, dir) in dirs.iter().enumerate() {
            let value = values.get(i).or(values.first()).copied().unwrap_or_default();
            let value =
                if value.contains("{dir}") { value.replace("{dir}", &name_of(dir)?) } else { value.into() };
            let mut others = dirs[..i].iter().zip(&all[..i]);
            if values.len() == 1
                && values[0].contains("{dir}")
                && let Some((other, _)) = others.find(|(_, labels): &(_, &Vec<(String, String)>)| {
                    labels.last().is_some_and(|l| l.1 == value)
                })
            {
                bail!(
                    "--label {name}: {} and {} have the same name; give each its own, --label {name}=A --label {name}=B",
                    other.display(),
                    dir.display()
                );
            }
            all[i].push((name.to_owned(), value));
        }
    }
    Ok(all)
}

/// The last part of a directory's name.
fn name_of(dir: &Path) -> anyhow::Result<String> {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    match whole.file_name() {
        Some(name) => Ok(name.to_string_lossy().into_owned()),
        None => bail!("{}: has no name for {{dir}}; write the label's value", dir.display()),
    }
}

/// What labels are called that give way to added ones: as a scrape has it, but the same name for all series, one that
/// none has yet, so that no two series become one.
fn displaced<'a>(added: impl Iterator<Item = &'a str>, names: &HashSet<String>) -> Vec<(String, String)> {
    let added: Vec<&str> = added.collect();
    let mut out: Vec<(String, String)> = Vec::new();
    for name in &added {
        if !names.contains(*name) || out.iter().any(|(from, _)| from == name) {
            continue;
        }
        let mut to = format!("exported_{name}");
        while names.contains(&to) || added.contains(&to.as_str()) {
            to.insert_str(0, "exported_");
        }
        out.push(((*name).to_owned(), to));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str], dirs: &[&str]) -> Result<String, String> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let dirs: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
        let all = labels_of(&texts, &dirs).map_err(|e| e.to_string())?;
        let text = |labels: Vec<(String, String)>| {
            labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(",")
        };
        Ok(all.into_iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_label_is_for_all_directories_or_one_for_each() {
        for (texts, want) in [
            (&["o=x"][..], Ok("o=x o=x")),
            (&["o=a", "z=1", "o=b"], Ok("o=a,z=1 o=b,z=1")),
            (&["o={dir}"], Ok("o=one o=two")),
            (&["o=p-{dir}", "o=x"], Ok("o=p-one o=x")),
            (&[], Ok(" ")),
            (&["o=a", "o=b", "o=c"], Err("--label o: given 3 times for 2 directories")),
            (&["o"], Err("--label: \"o\" is no label")),
            (&["o="], Err("--label: \"o=\" is no label")),
            (&["__name__=x"], Err("--label: \"__name__=x\" is no label")),
        ] {
            match (labels(texts, &["a/one", "b/two/"]), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.starts_with(want), "{got}"),
                (got, want) => panic!("{got:?} {want:?}"),
            }
        }
        let error = labels(&["o={dir}"], &["a/data", "b/data"]).unwrap_err();
        assert!(error.contains("have the same name"), "{error}");
        assert!(labels(&["o={dir}"], &["/"]).unwrap_err().contains("has no name"));
    }

    #[test]
    fn displaced_labels_get_a_name_that_no_series_has() {
        let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<HashSet<String>>();
        for (added, there, want) in [
            (&["o"][..], &["a"][..], &[][..]),
            (&["o", "o"], &["o"], &[("o", "exported_o")]),
            (&["o"], &["o", "exported_o"], &[("o", "exported_exported_o")]),
            (&["o", "exported_o"], &["o"], &[("o", "exported_exported_o")]),
        ] {
            let got = displaced(added.iter().copied(), &names(there));
            let got: Vec<(&str, &str)> = got.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(got, want, "{added:?} {there:?}");
        }
    }
}
