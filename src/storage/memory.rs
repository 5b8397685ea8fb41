//! Series in memory, as a head alone holds them: for PromQL's test scripts and for tests.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use tsdbctl_chunk::{AppenderOptions, ChunkError, SampleColumns, SeriesAppender, decode};
use tsdbctl_model::labels::Labels;
use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};
use tsdbctl_model::{FloatHistogram, Histogram, Matcher};

use crate::control::Control;
use crate::error::{Loss, StorageError};
use crate::label_rows::LabelRows;
use crate::merge::merge_columns;
use crate::querier::{Querier, Queryable, ReadStats, SelectHints, SeriesExemplars, SeriesSet, TimeFilter};

/// The value of a sample that is appended.
#[derive(Clone, Debug)]
pub enum MemorySample {
    /// A float.
    Float(f64),
    /// A histogram with integer counts.
    Histogram(Histogram),
    /// A histogram with float counts.
    FloatHistogram(FloatHistogram),
}

/// Series in memory. A querier sees what was appended before it was made.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    options: AppenderOptions,
    series: Vec<Series>,
    by_labels: HashMap<Labels, usize>,
}

#[derive(Clone, Debug)]
struct Series {
    labels: Labels,
    in_order: SeriesAppender,
    /// Samples that came late; each appender is in order by itself.
    late: Vec<SeriesAppender>,
    exemplars: Vec<Exemplar>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(options: AppenderOptions) -> Self {
        Self { inner: Arc::new(Inner { options, series: Vec::new(), by_labels: HashMap::new() }) }
    }

    fn series_mut(&mut self, labels: &Labels) -> (&mut Series, AppenderOptions) {
        let inner = Arc::make_mut(&mut self.inner);
        let options = inner.options;
        let i = match inner.by_labels.get(labels) {
            Some(i) => *i,
            None => {
                inner.by_labels.insert(labels.clone(), inner.series.len());
                inner.series.push(Series {
                    labels: labels.clone(),
                    in_order: SeriesAppender::new(options),
                    late: Vec::new(),
                    exemplars: Vec::new(),
                });
                inner.series.len() - 1
            }
        };
        (&mut inner.series[i], options)
    }

    /// Appends a sample at `t` (Unix ms); `st` is its start timestamp, 0 where unknown. Late samples are taken; of
    /// two at one time one is read, as when blocks overlap.
    ///
    /// # Errors
    /// If the sample cannot be encoded.
    pub fn append(
        &mut self,
        labels: &Labels,
        t: i64,
        st: i64,
        sample: &MemorySample,
    ) -> Result<(), ChunkError> {
        let (series, options) = self.series_mut(labels);
        let is_after = |a: &SeriesAppender| a.last_t().is_none_or(|last| t > last);
        let appender = if is_after(&series.in_order) {
            &mut series.in_order
        } else {
            let i = series.late.iter().position(is_after).unwrap_or_else(|| {
                series.late.push(SeriesAppender::new(options));
                series.late.len() - 1
            });
            &mut series.late[i]
        };
        match sample {
            MemorySample::Float(v) => appender.append_float(t, *v, st),
            MemorySample::Histogram(h) => appender.append_histogram(t, h, st),
            MemorySample::FloatHistogram(h) => appender.append_float_histogram(t, h, st),
        }
    }

    /// Adds an exemplar to a series, which is made if it is new.
    pub fn append_exemplar(&mut self, labels: &Labels, exemplar: Exemplar) {
        self.series_mut(labels).0.exemplars.push(exemplar);
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.inner.series.len()
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.inner.series.is_empty()
    }
}

impl Queryable for MemoryStore {
    fn querier(
        &self,
        _mint: i64,
        _maxt: i64,
        _selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(MemoryQuerier { inner: Arc::clone(&self.inner) }))
    }
}

struct MemoryQuerier {
    inner: Arc<Inner>,
}

impl MemoryQuerier {
    fn matching(&self, matchers: &[Matcher]) -> impl Iterator<Item = (usize, &Series)> {
        let fits = move |s: &Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name)));
        self.inner.series.iter().enumerate().filter(move |(_, s)| fits(s))
    }
}

impl Series {
    fn appenders(&self) -> impl Iterator<Item = &SeriesAppender> {
        std::iter::once(&self.in_order).chain(&self.late)
    }
}

impl Querier for MemoryQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        control.check("series selection")?;
        let mut set =
            MemorySet { inner: Arc::clone(&self.inner), rows: Vec::new(), labels: LabelRows::default() };
        for (i, series) in self.matching(matchers) {
            let mut chunks = series.appenders().flat_map(SeriesAppender::chunks);
            if !chunks.any(|c| c.maxt >= hints.start && c.mint <= hints.end) {
                continue;
            }
            set.labels.push_needed(&series.labels, &hints.labels, symbols);
            set.rows.push(i);
        }
        Ok(Box::new(set))
    }

    fn label_names(&self, matchers: &[Matcher], _control: &Control) -> Result<Vec<String>, StorageError> {
        let names: BTreeSet<&str> =
            self.matching(matchers).flat_map(|(_, s)| s.labels.iter()).map(|l| l.name.as_str()).collect();
        Ok(names.into_iter().map(str::to_string).collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        _control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let values: BTreeSet<&str> =
            self.matching(matchers).map(|(_, s)| s.labels.get(name)).filter(|v| !v.is_empty()).collect();
        Ok(values.into_iter().map(str::to_string).collect())
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        let mut out = Vec::new();
        for series in &self.inner.series {
            let fits = |ms: &Vec<Matcher>| ms.iter().all(|m| m.matches(series.labels.get(&m.name)));
            if !selections.iter().any(fits) {
                continue;
            }
            let within = |e: &&Exemplar| (start..=end).contains(&e.timestamp_ms);
            let mut exemplars: Vec<Exemplar> = series.exemplars.iter().filter(within).cloned().collect();
            if !exemplars.is_empty() {
                exemplars.sort_by_key(|e| e.timestamp_ms);
                out.push(SeriesExemplars { series: series.labels.clone(), exemplars });
            }
        }
        out.sort_by(|a, b| a.series.cmp(&b.series));
        Ok(out)
    }
}

struct MemorySet {
    inner: Arc<Inner>,
    rows: Vec<usize>,
    labels: LabelRows,
}

fn read_appender(
    appender: &SeriesAppender,
    filter: &TimeFilter,
    out: &mut SampleColumns,
    stats: &mut ReadStats,
) -> Result<(), StorageError> {
    for chunk in appender.chunks().filter(|c| c.samples > 0 && filter.wants(c.mint, c.maxt)) {
        stats.chunks += 1;
        stats.samples += chunk.samples as u64;
        stats.bytes += chunk.data.len() as u64;
        decode(chunk.encoding, chunk.data, filter.mint(), filter.maxt(), out).map_err(|e| Loss {
            file: PathBuf::from("(memory)"),
            offset: 0,
            reason: e.to_string(),
        })?;
    }
    Ok(())
}

impl SeriesSet for MemorySet {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        self.labels.get(i)
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let series = &self.inner.series[self.rows[i]];
        if series.late.is_empty() {
            return read_appender(&series.in_order, filter, out, stats);
        }
        let mut parts = Vec::with_capacity(1 + series.late.len());
        for appender in series.appenders() {
            let mut part = SampleColumns::default();
            read_appender(appender, filter, &mut part, stats)?;
            parts.push(part);
        }
        merge_columns(&parts, out);
        Ok(())
    }

    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        let mut cost = ReadStats::default();
        for chunk in self.inner.series[self.rows[i]].appenders().flat_map(SeriesAppender::chunks) {
            if filter.wants(chunk.mint, chunk.maxt) {
                cost.chunks += 1;
                cost.bytes += chunk.data.len() as u64;
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(store: &MemoryStore, matcher: Matcher, mint: i64, maxt: i64) -> Vec<(String, Vec<(i64, f64)>)> {
        let control = Control::default();
        let querier = store.querier(mint, maxt, &[], &control).unwrap();
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
        let set = querier.select(&hints, &[matcher], &mut symbols, &control).unwrap();
        (0..set.len())
            .map(|i| {
                let mut out = SampleColumns::default();
                set.read(i, &TimeFilter::all_between(mint, maxt), &mut out, &mut ReadStats::default())
                    .unwrap();
                let samples = out.floats.t.iter().copied().zip(out.floats.v.iter().copied()).collect();
                (symbols.labels(set.labels(i)).to_string(), samples)
            })
            .collect()
    }

    #[test]
    fn series_come_in_order_of_creation_and_late_samples_in_order_of_time() {
        let mut store = MemoryStore::new(AppenderOptions::default());
        let z = Labels::from_pairs([("__name__", "m"), ("l", "z")]);
        let a = Labels::from_pairs([("__name__", "m"), ("l", "a")]);
        for (labels, t, v) in [(&z, 10, 1.0), (&z, 30, 3.0), (&a, 5, 5.0), (&z, 20, 2.0), (&z, 30, 3.0)] {
            store.append(labels, t, 0, &MemorySample::Float(v)).unwrap();
        }
        let got = floats(&store, Matcher::equal("__name__", "m"), 0, 100);
        assert_eq!(
            got,
            [(z.to_string(), vec![(10, 1.0), (20, 2.0), (30, 3.0)]), (a.to_string(), vec![(5, 5.0)]),]
        );
        assert_eq!(floats(&store, Matcher::equal("l", "z"), 11, 29), [(z.to_string(), vec![(20, 2.0)])]);
        assert!(floats(&store, Matcher::equal("l", "a"), 6, 100).is_empty());
    }
}
