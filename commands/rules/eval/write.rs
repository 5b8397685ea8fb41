//! Recorded samples as blocks, without those that are stored already.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_model::histogram::ConvertedHistogram;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::{Labels, Matcher, SymbolTable};
use tsdbctl_platform::file;
use tsdbctl_platform::world::World;
use tsdbctl_promql::engine::Sample;
use tsdbctl_rules::eval::overlay::same;
use tsdbctl_rules::eval::{EvalSample, Evaluated};
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, TimeFilter};
use tsdbctl_tsdb::backfill::{Backfill, BackfillOptions, Taken, block_duration};
use tsdbctl_tsdb::{Database, OpenOptions};

use super::show::value_text;
use crate::exit::ExitStatus;
use crate::ui::{Ui, counted};

/// Samples that are compared with what is stored at a time.
const BATCH: usize = 200_000;

/// Series with differing samples that are named.
const NAMED: usize = 10;

/// A series and its samples.
type Recorded = (Arc<Labels>, Vec<(i64, Sample)>);

/// Samples by series; evaluations mostly share the labels of a series, so that it is found by their place in memory.
#[derive(Default)]
struct Batch {
    numbers: HashMap<usize, usize>,
    series: Vec<Recorded>,
    samples: usize,
}

impl Batch {
    fn add(&mut self, s: &EvalSample) {
        let number = *self.numbers.entry(address(&s.labels)).or_insert_with(|| {
            self.series.push((Arc::clone(&s.labels), Vec::new()));
            self.series.len() - 1
        });
        self.series[number].1.push((s.t_ms, s.sample.clone()));
        self.samples += 1;
    }
}

/// Where labels are in memory.
pub(super) fn address(labels: &Arc<Labels>) -> usize {
    Arc::as_ptr(labels) as usize
}

/// Samples of a series that are stored with other values.
struct Differing {
    samples: u64,
    first_ms: i64,
    last_ms: i64,
    /// Stored and computed at the first of them.
    stored: Sample,
    computed: Sample,
}

/// Writes what rules recorded.
pub struct Writer {
    backfill: Backfill,
    /// What is stored: the data, and the directory that is written to.
    stored: Vec<Database>,
    control: Control,
    alerts: bool,
    batch: Batch,
    computed: u64,
    same: u64,
    differing: u64,
    /// By series, in order.
    differing_series: BTreeMap<Labels, Differing>,
    refused: u64,
}

impl Writer {
    /// Begins in `dir`, which is this one's alone until it ends.
    ///
    /// # Errors
    /// If somebody else has it, or it cannot be read or written.
    pub fn open(
        data: &[PathBuf],
        dir: &Path,
        alerts: bool,
        longest_ms: i64,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let mut stored = vec![Database::open(data, OpenOptions::default())?];
        if !data.iter().any(|d| d == dir) && file::is_dir(dir) && !is_empty(dir)? {
            stored.push(Database::open(&[dir.to_path_buf()], OpenOptions::default())?);
        }
        let options = BackfillOptions {
            block_ms: block_duration(longest_ms),
            allow_overlap: true,
            ..BackfillOptions::default()
        };
        Ok(Self {
            backfill: Backfill::open(World::real(), dir, options).context(
                "--write needs the directory for itself (--output-dir DIR writes the blocks elsewhere)",
            )?,
            stored,
            control: control.clone(),
            alerts,
            batch: Batch::default(),
            computed: 0,
            same: 0,
            differing: 0,
            differing_series: BTreeMap::new(),
            refused: 0,
        })
    }

    /// What a rule gave.
    ///
    /// # Errors
    /// If what is stored cannot be read, or nothing can be written.
    pub fn take(&mut self, e: &Evaluated<'_>, is_alert: bool) -> anyhow::Result<()> {
        if is_alert && !self.alerts {
            return Ok(());
        }
        for s in e.outcome.unwrap_or(&[]).iter().chain(e.vanished) {
            self.batch.add(s);
        }
        if self.batch.samples >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let mut times = batch.series.iter().flat_map(|(_, samples)| samples).map(|(t, _)| *t);
        let Some(first) = times.next() else { return Ok(()) };
        let times = times.fold((first, first), |(a, b), t| (a.min(t), b.max(t)));
        let names: BTreeSet<&str> = batch.series.iter().map(|(l, _)| l.get(METRIC_NAME)).collect();
        let stored = self.stored(&names, times)?;
        for (labels, samples) in &batch.series {
            let columns = stored.get(labels.as_ref());
            let mut series = None;
            for (t, sample) in samples {
                self.computed += 1;
                match columns.and_then(|columns| at(columns, *t)) {
                    Some(before) if same(&before, sample) => self.same += 1,
                    Some(before) => {
                        self.differing += 1;
                        note(&mut self.differing_series, labels, *t, before, sample);
                    }
                    None => {
                        let pairs = || labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
                        let series = *series.get_or_insert_with(|| self.backfill.series(pairs()));
                        self.store(series, *t, sample);
                    }
                }
            }
        }
        Ok(())
    }

    fn store(&mut self, series: u32, t: i64, sample: &Sample) {
        let taken = match sample {
            Sample::Float(v) => self.backfill.float(series, t, *v, 0),
            Sample::Histogram(h) => {
                let h = ConvertedHistogram::Float(tsdbctl_model::FloatHistogram::clone(h));
                self.backfill.histogram(series, t, &h, 0)
            }
        };
        if taken != Taken::Kept {
            self.refused += 1;
        }
    }

    /// Stored samples of metrics in a range of time.
    fn stored(
        &self,
        names: &BTreeSet<&str>,
        (mint, maxt): (i64, i64),
    ) -> anyhow::Result<HashMap<Labels, SampleColumns>> {
        let mut found: HashMap<Labels, SampleColumns> = HashMap::new();
        let selections: Vec<Vec<Matcher>> =
            names.iter().map(|n| vec![Matcher::equal(METRIC_NAME, *n)]).collect();
        let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
        for database in &self.stored {
            let querier = database.querier(mint, maxt, &selections, &self.control)?;
            let mut symbols = SymbolTable::new();
            for matchers in &selections {
                let set = querier.select(&hints, matchers, &mut symbols, &self.control)?;
                for i in 0..set.len() {
                    let mut out = SampleColumns::default();
                    set.read(i, &TimeFilter::all_between(mint, maxt), &mut out, &mut ReadStats::default())?;
                    if out.floats.is_empty() && out.histograms.is_empty() {
                        continue;
                    }
                    let labels = symbols.labels(set.labels(i));
                    match found.entry(labels) {
                        std::collections::hash_map::Entry::Vacant(free) => {
                            free.insert(out);
                        }
                        std::collections::hash_map::Entry::Occupied(mut held) => {
                            let both = [held.get().clone(), out];
                            let mut merged = SampleColumns::default();
                            tsdbctl_storage::merge::merge_columns(&both, &mut merged);
                            held.insert(merged);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Writes the blocks and tells of them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish(mut self, dir: &Path, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
        self.flush()?;
        if self.differing > 0 {
            self.say_differing(ui);
            return Ok(ExitStatus::Failure);
        }
        let report = self.backfill.finish(&self.control)?;
        if self.refused > 0 {
            ui.warn(format!(
                "{} cannot be stored (invalid histograms or times)",
                counted(self.refused, "sample", "samples")
            ));
        }
        if report.stored == 0 {
            ui.error(match (self.same, self.refused) {
                (0, 0) => "nothing was written: the rules gave no samples in this range".to_string(),
                (0, _) => "nothing was written: no sample can be stored".to_string(),
                (1, 0) => "nothing was written: the one sample is stored already".to_string(),
                (n, 0) => format!("nothing was written: all {n} samples are stored already"),
                (n, _) => format!(
                    "nothing was written: {} stored already, the others cannot be",
                    counted(n, "sample is", "samples are")
                ),
            });
            return Ok(ExitStatus::Failure);
        }
        for block in &report.blocks {
            ui.detail(format!(
                "{}: {} to {}, {} series, {} samples",
                block.meta.ulid,
                format_rfc3339_ms(block.meta.min_time),
                format_rfc3339_ms(block.meta.max_time),
                block.meta.stats.num_series,
                block.meta.stats.num_samples
            ));
        }
        let already = match self.same {
            0 => String::new(),
            1 => "; 1 was stored already".to_string(),
            n => format!("; {n} were stored already"),
        };
        ui.say(format!(
            "wrote {} in {} to {}{already}",
            counted(report.stored, "sample", "samples"),
            counted(report.blocks.len() as u64, "block", "blocks"),
            dir.display()
        ));
        Ok(ExitStatus::Success)
    }

    /// Which series are stored with other values and when, and what can be done.
    fn say_differing(&self, ui: &mut Ui) {
        for (labels, d) in self.differing_series.iter().take(NAMED) {
            let (values, more) = (
                format!("{} and computed as {}", value_text(&d.stored), value_text(&d.computed)),
                d.samples - 1,
            );
            let first = format_rfc3339_ms(d.first_ms);
            ui.error(match more {
                0 => format!("{labels} at {first} is stored as {values}"),
                n => format!(
                    "{labels} at {first} is stored as {values}; so {} up to {}",
                    counted(n, "other differs", "others differ"),
                    format_rfc3339_ms(d.last_ms)
                ),
            });
        }
        let names: BTreeSet<&str> = self.differing_series.keys().map(|l| l.get(METRIC_NAME)).collect();
        if let Some(more) = self.differing_series.len().checked_sub(NAMED).filter(|n| *n > 0) {
            ui.error(format!("{more} more series {}", if more == 1 { "differs" } else { "differ" }));
        }
        let times = self.differing_series.values();
        let first = times.clone().map(|d| d.first_ms).min().unwrap_or(0);
        let last = times.map(|d| d.last_ms).max().unwrap_or(0);
        let names: Vec<String> = names.iter().map(|n| format!("__name__!={n:?}")).collect();
        ui.error(format!(
            "{} of {} stored with another value, from {} to {}; nothing was written. They come of other rules, or of a \
             server that evaluated before all samples had been committed. Take a range without them (--start, --end). \
             To have the new ones instead, copy the data without these metrics and write into the copy: tsdbctl slice \
             -d DIR --match '{{{}}}' --into COPY",
            self.differing,
            counted(self.computed, "sample is", "samples are"),
            format_rfc3339_ms(first),
            format_rfc3339_ms(last),
            names.join(",")
        ));
    }
}

/// Notes a sample that is stored with another value.
fn note(by_series: &mut BTreeMap<Labels, Differing>, labels: &Labels, t: i64, stored: Sample, now: &Sample) {
    match by_series.get_mut(labels) {
        Some(d) => {
            d.samples += 1;
            d.last_ms = d.last_ms.max(t);
            if t < d.first_ms {
                (d.first_ms, d.stored, d.computed) = (t, stored, now.clone());
            }
        }
        None => {
            let computed = now.clone();
            let first = Differing { samples: 1, first_ms: t, last_ms: t, stored, computed };
            by_series.insert(labels.clone(), first);
        }
    }
}

fn is_empty(dir: &Path) -> anyhow::Result<bool> {
    Ok(file::read_dir(dir)?.is_empty())
}

/// The sample of a time.
fn at(columns: &SampleColumns, t: i64) -> Option<Sample> {
    let (floats, histograms) = (&columns.floats, &columns.histograms);
    if let Ok(i) = floats.t.binary_search(&t) {
        return Some(Sample::Float(floats.v[i]));
    }
    histograms.t.binary_search(&t).ok().map(|i| Sample::Histogram(histograms.h[i].clone()))
}
