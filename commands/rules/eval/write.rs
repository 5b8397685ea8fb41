//! Recorded samples as blocks, without those that are stored already.

use std::collections::{BTreeSet, HashMap};
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

use crate::exit::ExitStatus;
use crate::query::lines::sample_text;
use crate::ui::Ui;

/// Samples that are compared with what is stored at a time.
const BATCH: usize = 200_000;

/// Differing samples that are named.
const NAMED: usize = 10;

/// Samples by series; evaluations mostly share the labels of a series, so that it is found by their place in memory.
#[derive(Default)]
struct Batch {
    numbers: HashMap<usize, usize>,
    series: Vec<(Arc<Labels>, Vec<(i64, Sample)>)>,
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
    /// The first few: series, time, stored value, computed value.
    examples: Vec<(Labels, i64, Sample, Sample)>,
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
            examples: Vec::new(),
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
                        if self.examples.len() < NAMED {
                            self.examples.push((Labels::clone(labels), *t, before, sample.clone()));
                        }
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
            for (labels, t, before, now) in &self.examples {
                ui.error(format!(
                    "{labels} at {} is stored as {} and computed as {}",
                    format_rfc3339_ms(*t),
                    sample_text(before),
                    sample_text(now)
                ));
            }
            ui.error(format!(
                "{} of {} samples are stored with another value; nothing was written. They come of other rules, or of \
                 a server that evaluated before all samples had been committed. Take a range without them; -o prom \
                 shows what is computed",
                self.differing, self.computed
            ));
            return Ok(ExitStatus::Failure);
        }
        let report = self.backfill.finish(&self.control)?;
        if self.refused > 0 {
            ui.warn(format!("{} samples cannot be stored (invalid histograms or times)", self.refused));
        }
        if report.stored == 0 {
            ui.error(if self.computed == 0 {
                "nothing was written: the rules gave no samples in this range".to_string()
            } else {
                format!("nothing was written: all {} samples are stored already", self.same)
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
            n => format!("; {n} were stored already"),
        };
        ui.say(format!(
            "wrote {} samples in {} blocks to {}{already}",
            report.stored,
            report.blocks.len(),
            dir.display()
        ));
        Ok(ExitStatus::Success)
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
