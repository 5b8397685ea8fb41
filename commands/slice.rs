//! `tsdbctl slice`: a piece of the data as a data directory of its own, to be handed to somebody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tsdbctl_block::relabel_pseudonyms::KEPT_BY_DEFAULT;
use tsdbctl_block::{Pseudonyms, Relabelling};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::file;
use tsdbctl_platform::world::World;
use tsdbctl_tsdb::rewrite::{RewriteError, Wanted};

use crate::data::{ALL_TIMES, Directories, TimeRange};
use crate::diagnostic::show_parse_error;
use crate::exit::ExitStatus;
use crate::rewriting::{Destination, Rerun};
use crate::sizes::format_count;
use crate::ui::Ui;

/// Copy chosen series of a time range into a data directory of their own.
///
/// The cut is exact: samples outside the range (both ends belong to it) are not in the result, nor are labels of other
/// series. What is only in the write-ahead log is in it too; several directories are merged. They are only read, and may
/// be in use. Exemplars and metadata, which blocks cannot hold, and downsampled samples are left out.
///
/// With --pseudonyms the values of labels are replaced: equal ones by equal pseudonyms, in all series, and in all runs
/// with the same key file; without a file the key is forgotten, and a second run gives others. Names of metrics and labels,
/// le and quantile stay as they are, and so do samples and their times.
///
/// Exit status: 0 done, 4 of some times only downsampled samples are left, or it was interrupted (the same command again
/// finishes it, unless the key was forgotten), 1 something is damaged, 2 wrong usage, or a directory that cannot be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// Only series of this selector, such as 'up{job="node"}'; repeatable, a series needs one of them.
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// When.
    #[command(flatten)]
    pub range: TimeRange,
    /// Replace label values, by the key in FILE, which is made if it does not exist, for its owner alone. Who has it can
    /// find out which value a pseudonym stands for.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[allow(clippy::option_option, reason = "the option may be given without its value")]
    pub pseudonyms: Option<Option<PathBuf>>,
    /// A label whose values stay; repeatable.
    #[arg(long, value_name = "NAME", requires = "pseudonyms")]
    pub pseudonyms_keep: Vec<String>,
    /// Write to FILE what each pseudonym stands for: a line for each, the pseudonym, a tab, the value as a JSON string.
    /// What it holds already stays.
    #[arg(long, value_name = "FILE", requires = "pseudonyms")]
    pub pseudonyms_table: Option<PathBuf>,
    /// Where the result goes.
    #[command(flatten)]
    pub into: Destination,
}

/// Runs the command.
///
/// # Errors
/// If an option is wrong, or something cannot be read or written.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let mut selections = Vec::new();
    for text in &args.matches {
        match tsdbctl_promql::parser::parse_metric_selector(text) {
            Ok(matchers) => selections.push(matchers),
            Err(e) => {
                show_parse_error(ui, text, &e);
                return Ok(ExitStatus::Usage);
            }
        }
    }
    let control = args.into.control()?;
    let range = args.range.resolve(&args.data.open()?, &control, ALL_TIMES)?;
    if range.0 > range.1 {
        bail!("--start is later than --end");
    }
    let wanted = Wanted { range, selections };
    let mut inputs = args.into.open_inputs(&args.data.dirs, &wanted, &control)?;
    let world = World::real();
    let mut table = BTreeMap::new();
    if let Some(path) = &args.pseudonyms_table {
        table = read_table(path)?;
    }
    let pseudonyms = match &args.pseudonyms {
        None => None,
        Some(path) => Some(Arc::new(args.new_pseudonyms(path.as_deref(), &world)?)),
    };
    for input in &mut inputs {
        input.relabelling = Relabelling { pseudonyms: pseudonyms.clone(), ..Relabelling::default() };
    }
    let rerun = if matches!(args.pseudonyms, Some(None)) { Rerun::BeginsAnew } else { Rerun::GoesOn };
    let status = args.into.write(&inputs, &wanted, &control, rerun, ui);
    if let Some(pseudonyms) = &pseudonyms {
        if let Some(path) = &args.pseudonyms_table {
            table.extend(pseudonyms.table());
            write_table(&*world.disk, path, &table)?;
        }
        ui.detail(format!("{} label values have pseudonyms", format_count(pseudonyms.len() as u64)));
    }
    match status {
        Err(e)
            if rerun == Rerun::BeginsAnew
                && matches!(e.downcast_ref(), Some(RewriteError::Overlap { .. })) =>
        {
            bail!(
                "{e}; pseudonyms of an earlier run have another key, which is forgotten: --pseudonyms=FILE keeps it"
            )
        }
        status => status,
    }
}

impl Args {
    fn new_pseudonyms(&self, path: Option<&Path>, world: &World) -> anyhow::Result<Pseudonyms> {
        let key = match path {
            Some(path) if file::exists(path) => read_key(path)?,
            path => {
                let mut key = [0; 16];
                world.random.fill(&mut key)?;
                if let Some(path) = path {
                    write_key(&*world.disk, path, key)?;
                }
                key
            }
        };
        let kept =
            KEPT_BY_DEFAULT.iter().map(|s| (*s).to_owned()).chain(self.pseudonyms_keep.iter().cloned());
        Ok(Pseudonyms::new(key, kept.collect(), self.pseudonyms_table.is_some()))
    }
}

/// First line of a key file.
const KEY_HEAD: &str = "tsdbctl pseudonyms key; keep it secret";

fn write_key(disk: &dyn Disk, path: &Path, key: [u8; 16]) -> anyhow::Result<()> {
    let text = format!("{KEY_HEAD}\n{:032x}\n", u128::from_be_bytes(key));
    Ok(file::replace_private(disk, path, text.as_bytes())?)
}

fn read_key(path: &Path) -> anyhow::Result<[u8; 16]> {
    let bytes = file::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let key = text.strip_prefix(KEY_HEAD).map(str::trim).filter(|k| k.len() == 32);
    match key.and_then(|key| u128::from_str_radix(key, 16).ok()) {
        Some(key) => Ok(key.to_be_bytes()),
        None => bail!(
            "{}: is no key of pseudonyms; give the file that an earlier run made, or one that does not exist",
            path.display()
        ),
    }
}

fn read_table(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    if !file::exists(path) {
        return Ok(BTreeMap::new());
    }
    let bytes = file::read(path)?;
    let mut table = BTreeMap::new();
    for (n, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        let read =
            line.split_once('\t').and_then(|(p, v)| Some((p.to_owned(), serde_json::from_str(v).ok()?)));
        let (pseudonym, value) =
            read.with_context(|| format!("{}: line {}: is no table of pseudonyms", path.display(), n + 1))?;
        table.insert(pseudonym, value);
    }
    Ok(table)
}

fn write_table(disk: &dyn Disk, path: &Path, table: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let mut text = String::new();
    for (pseudonym, value) in table {
        text += &format!("{pseudonym}\t{}\n", serde_json::Value::from(value.as_str()));
    }
    Ok(file::replace_private(disk, path, text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tests look at their own files")]
    fn keys_and_tables_are_read_as_they_were_written() {
        let dir = tsdbctl_testkit::scratch();
        let path = dir.path().join("key");
        let key: [u8; 16] = std::array::from_fn(|i| i as u8 * 3);
        write_key(&RealDisk, &path, key).unwrap();
        assert_eq!(read_key(&path).unwrap(), key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let table: BTreeMap<String, String> = [("p-1", "a\tb\n\"c\""), ("p-2", "ß")]
            .into_iter()
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect();
        write_table(&RealDisk, &path, &table).unwrap();
        assert_eq!(read_table(&path).unwrap(), table);
        assert!(read_key(&path).unwrap_err().to_string().contains("is no key of pseudonyms"));
        write_key(&RealDisk, &path, key).unwrap();
        assert!(read_table(&path).unwrap_err().to_string().contains("line 1: is no table of pseudonyms"));
        assert!(read_table(&dir.path().join("none")).unwrap().is_empty());
    }
}
