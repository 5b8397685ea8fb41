//! What is found in a directory, and whether it is what must be.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tsdbctl_block::BlockMeta;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::LiveOptions;
use tsdbctl_head::live::head::LoadReport;
use tsdbctl_model::SymbolTable;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, StorageError, TimeFilter};
use tsdbctl_tsdb::head_blocks::CutOptions;
use tsdbctl_tsdb::{Database, LiveDatabase, OpenOptions};
use tsdbctl_wal::SyncPolicy;

use crate::model::{Fault, Found, Samples, Told, text_code};
use crate::on_blocks::{compact, compaction_options, downsample, outside};
use crate::world::{START, STEP, World, float};

/// All samples from `floor` on.
fn read(db: &dyn Queryable, floor: i64) -> Result<Samples, Fault> {
    let unreadable = |e: &dyn std::fmt::Display| Fault::Unreadable(e.to_string());
    let control = Control::default();
    let querier = db.querier(floor, i64::MAX, &[], &control).map_err(|e| unreadable(&e))?;
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: floor, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &[], &mut symbols, &control).map_err(|e| unreadable(&e))?;
    let (mut out, mut columns, mut stats) = (Samples::new(), SampleColumns::default(), ReadStats::default());
    let filter = TimeFilter::all_between(floor, i64::MAX);
    for i in 0..set.len() {
        columns.clear();
        set.read(i, &filter, &mut columns, &mut stats).map_err(|e| unreadable(&e))?;
        let name = symbols.labels(set.labels(i)).get("__name__").to_string();
        let floats = columns.floats.t.iter().zip(&columns.floats.v).map(|(t, v)| (*t, v.to_bits()));
        let histograms = columns
            .histograms
            .t
            .iter()
            .zip(&columns.histograms.h)
            .map(|(t, h)| (*t, text_code(&h.to_string())));
        for (t, code) in floats.chain(histograms) {
            if out.insert((name.clone(), t), code).is_some() {
                return Err(Fault::Doubled(format!("{name} at {t}")));
            }
        }
    }
    Ok(out)
}

/// As `tsdbctl export` reads it: damage is an error.
fn read_strictly(dir: &Path, floor: i64) -> Result<Samples, Fault> {
    let db = Database::open(&[dir.to_owned()], OpenOptions::default());
    let db = db.map_err(|e| Fault::Unreadable(format!("strictly: {e}")))?;
    read(&db, floor).map_err(|fault| match fault {
        Fault::Unreadable(e) => Fault::Unreadable(format!("strictly: {e}")),
        other => other,
    })
}

/// Blocks of which there is only the description.
fn described(dir: &Path) -> Vec<BlockMeta> {
    let db = Database::open(&[dir.to_owned()], OpenOptions::default());
    let blocks = db.iter().flat_map(Database::blocks).filter(|b| !b.dir.join("index").exists());
    blocks.map(|b| b.meta.clone()).collect()
}

/// Where the head begins: before it all is in blocks that are only described.
fn floor(described: &[BlockMeta]) -> i64 {
    described.iter().filter(|m| m.is_in_order()).map(|m| m.max_time).max().unwrap_or(1)
}

fn open(dir: &Path, mut options: LiveOptions) -> Result<(LiveDatabase, LoadReport), Fault> {
    options.log.sync = SyncPolicy::Os;
    LiveDatabase::open(Arc::new(RealDisk), dir, options, &Control::default())
        .map_err(|e| Fault::Unreadable(format!("start: {e}")))
}

fn found(db: &LiveDatabase, floor: i64) -> Result<Found, Fault> {
    let head = db.head();
    let index = head.index.read().unwrap();
    let name = |id| index.owned_labels(id).get("__name__").to_string();
    let exemplars = head.exemplars_in(i64::MIN, i64::MAX, |_| true).into_iter();
    let exemplars = exemplars.flat_map(|(id, list)| {
        let name = name(id);
        list.into_iter().map(move |e| (name.clone(), e.timestamp_ms, e.value.to_bits()))
    });
    let exemplars = exemplars.collect();
    let all = head.metadata.lock().unwrap();
    let metadata = all.iter().map(|(id, m)| (name(*id), m.help.to_string())).collect();
    drop(all);
    drop(index);
    Ok(Found { samples: read(db, floor)?, exemplars, metadata })
}

/// How a directory is checked.
pub struct Check<'a> {
    pub told: &'a Told,
    /// So many of the events are over.
    pub done: usize,
    pub options: LiveOptions,
    /// Strict readers may refuse it before it was opened once.
    pub damaged: bool,
    /// It is closed in between, rather than left as by a killed process.
    pub close: bool,
    /// All of it is put into blocks in the end.
    pub blocks: bool,
}

/// What a check met besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// What could not be used, though no damage was done.
    pub losses: usize,
    /// Strict readers did not read it before it was opened.
    pub refused: bool,
}

fn differ(a: &Samples, b: &Samples, what: &str) -> Result<(), Fault> {
    let missing = a.iter().find(|(k, v)| b.get(*k) != Some(v));
    let added = b.iter().find(|(k, v)| a.get(*k) != Some(v));
    match missing.or(added) {
        None => Ok(()),
        Some(first) => Err(Fault::Other(format!("{what}: {} then {}, first {first:?}", a.len(), b.len()))),
    }
}

impl Check<'_> {
    /// Opens the directory, goes on with it, and opens it again.
    pub fn run(&self, dir: &Path) -> Result<Met, Fault> {
        let mut met = Met::default();
        if !dir.is_dir() && self.done == 0 {
            return Ok(met);
        }
        let described = described(dir);
        let (floor, late_in_blocks) = (floor(&described), described.iter().any(|m| !m.is_in_order()));
        let metadata = !self.options.snapshot_on_close;
        let before = if self.damaged || !dir.join("wal").is_dir() {
            None
        } else {
            match read_strictly(dir, floor) {
                Ok(samples) => Some(samples),
                Err(Fault::Unreadable(_)) => {
                    met.refused = true;
                    None
                }
                Err(fault) => return Err(fault),
            }
        };
        let (db, report) = open(dir, self.options)?;
        met.losses = report.losses.len();
        let first = found(&db, floor)?;
        let told = |found: &Found| self.told.check(self.done, found, floor, late_in_blocks, metadata);
        told(&first)?;
        if let Some(before) = before {
            differ(&before, &first.samples, "read strictly, then opened")?;
        }
        // It goes on.
        let newest = first.samples.keys().map(|(_, t)| *t).max().unwrap_or(floor);
        let t = newest.max(floor) + STEP;
        let mut after = first.clone();
        let mut appender = db.appender();
        for name in ["a", "probe"] {
            let sample = float(name, t, 0.25);
            let id = World::series(&mut appender, name)
                .ok_or_else(|| Fault::Other("no series is taken".to_string()))?;
            let crate::model::Value::Float(v) = sample.value else { continue };
            appender.append_float(id, t, v, 0).map_err(|e| Fault::Other(format!("refused: {e}")))?;
            after.samples.insert((sample.name, t), v.to_bits());
        }
        appender.commit().map_err(|e| Fault::Other(format!("commit: {e}")))?;
        drop(appender);
        if self.close {
            db.close().map_err(|e| Fault::Other(format!("close: {e}")))?;
        } else {
            drop(db);
        }
        let (db, report) = open(dir, self.options)?;
        if !report.losses.is_empty() || !report.mended.is_empty() {
            return Err(Fault::Other(format!("opened twice: {report:?}")));
        }
        let second = found(&db, floor)?;
        differ(&after.samples, &second.samples, "opened once, then twice")?;
        if first.exemplars != second.exemplars {
            return Err(Fault::Other("the exemplars changed".to_string()));
        }
        if metadata && first.metadata != second.metadata {
            return Err(Fault::Other("the metadata changed".to_string()));
        }
        db.close().map_err(|e| Fault::Other(format!("close: {e}")))?;
        differ(&after.samples, &read_strictly(dir, floor)?, "opened, then read strictly")?;
        no_leftovers(dir)?;
        if self.blocks && described.is_empty() {
            self.put_into_blocks(dir, &after.samples)?;
        }
        Ok(met)
    }

    /// All goes into blocks, which are compacted, while it is open; then it is opened again.
    fn put_into_blocks(&self, dir: &Path, want: &Samples) -> Result<(), Fault> {
        let (db, _) = open(dir, self.options)?;
        let newest = want.keys().map(|(_, t)| *t).max().unwrap_or(START);
        let outside = outside(Arc::new(RealDisk), newest, 1 << 32);
        let failed = |what: &str, e: &StorageError| Fault::Other(format!("{what}: {e}"));
        db.flush_head(&outside, &CutOptions::default(), &Control::default())
            .map_err(|e| failed("flush", &e))?;
        differ(want, &read(&db, 1)?, "put into blocks")?;
        compact(&outside, dir, &compaction_options(), Some(&db)).map_err(|e| failed("compaction", &e))?;
        differ(want, &read(&db, 1)?, "compacted")?;
        downsample(&outside, dir).map_err(|e| failed("downsampling", &e))?;
        if self.close {
            db.close().map_err(|e| failed("close", &e))?;
        } else {
            drop(db);
        }
        differ(want, &read_strictly(dir, 1)?, "in blocks, read strictly")?;
        let (db, report) = open(dir, self.options)?;
        if !report.losses.is_empty() {
            return Err(Fault::Other(format!("opened behind a flush: {report:?}")));
        }
        differ(want, &read(&db, 1)?, "in blocks, opened")?;
        db.close().map_err(|e| failed("close", &e))?;
        no_leftovers(dir)
    }
}

/// Files that were about to be replaced, and are written anew the next time.
const REPLACED: [&str; 2] = ["meta.json.tmp", "late_in_blocks.tmp"];

fn no_leftovers(dir: &Path) -> Result<(), Fault> {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".tmp") && !REPLACED.contains(&&*name) {
            return Err(Fault::Other(format!("{} is left over", path.display())));
        }
        if path.is_dir() && name != "quarantine" {
            no_leftovers(&path)?;
        }
    }
    Ok(())
}

/// Whether promtool dumps the same floats.
pub fn same_in_promtool(promtool: &str, dir: &Path) -> Result<(), Fault> {
    let floor = floor(&described(dir));
    let ours = read_strictly(dir, floor)?;
    // Descriptions without blocks: it would look for their samples.
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.join("meta.json").exists() && !path.join("index").exists() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let output = Command::new(promtool).args(["tsdb", "dump"]).arg(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !errors.is_empty() {
        return Err(Fault::Unreadable(format!("promtool: {errors}")));
    }
    let mut theirs = Samples::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.rsplitn(3, ' ');
        let (Some(t), Some(value), Some(labels)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let (Ok(t), Ok(value)) = (t.parse::<i64>(), value.parse::<f64>()) else { continue };
        let name = labels.split("__name__=\"").nth(1).and_then(|rest| rest.split('"').next());
        if t >= floor
            && let Some(name) = name
        {
            theirs.insert((name.to_string(), t), if value.is_nan() { 0 } else { value.to_bits() });
        }
    }
    let is_float = |name: &str| !["h", "fh", "custom", "fcustom", "gauge"].contains(&name);
    let ours: Samples = ours
        .into_iter()
        .filter(|((name, _), _)| is_float(name))
        .map(|(key, code)| (key, if f64::from_bits(code).is_nan() { 0 } else { code }))
        .collect();
    theirs.retain(|(name, _), _| is_float(name));
    differ(&ours, &theirs, "read by us, then by promtool")
}

/// What a start finds in a directory.
pub fn samples_of(dir: &Path, options: LiveOptions) -> Samples {
    let (db, _) = open(dir, options).unwrap();
    read(&db, floor(&described(dir))).unwrap()
}
