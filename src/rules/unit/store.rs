//! The samples of one test: the input up to the clock, and what the rules recorded. It takes and refuses samples as
//! upstream's head does, with its words.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tsdbctl_chunk::{AppenderOptions, SampleColumns, SeriesAppender, decode};
use tsdbctl_model::float_text::{format_g, go_quote};
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::matcher::MatchType;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_promql::engine::Sample;
use tsdbctl_storage::LabelRows;
use tsdbctl_storage::control::Control;
use tsdbctl_storage::error::{Loss, StorageError};
use tsdbctl_storage::querier::{
    Querier, Queryable, ReadStats, SelectHints, SeriesExemplars, SeriesSet, TimeFilter,
};

use super::series::LazySeries;

/// Half of what a head holds in upstream's tests.
const HALF_HEAD_MS: i64 = 12 * 60 * 60 * 1000;

/// Why a sample is not taken; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is older than the newest of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// There is another value at its time.
    #[error("duplicate sample for timestamp{0}")]
    Duplicate(String),
    /// It is a histogram that contradicts itself, or one that cannot be encoded.
    #[error("{0}")]
    Invalid(String),
}

/// The series of one test. Copies are the same store.
#[derive(Clone, Debug, Default)]
pub struct UnitStore {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Time of the newest sample of all.
    newest: Option<i64>,
    series: Vec<Series>,
    by_labels: HashMap<Labels, usize>,
    by_name: HashMap<String, Vec<usize>>,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    last: Option<(i64, Sample)>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Floats {
        t: Vec<i64>,
        v: Vec<f64>,
    },
    /// With histograms: encoded, because their counter reset hints come of the chunks.
    Encoded(Box<SeriesAppender>),
}

impl UnitStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one sample.
    ///
    /// # Errors
    /// If upstream's head refuses it.
    pub fn append(&self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), AppendError> {
        self.write().append(labels, t_ms, sample)
    }

    /// Takes the input's samples up to `t_ms`.
    ///
    /// # Errors
    /// If one is refused; the ones behind it are not taken.
    pub fn load_until(&self, input: &mut [LazySeries], t_ms: i64) -> Result<(), AppendError> {
        let mut inner = self.write();
        for series in input.iter_mut().filter(|s| !s.is_spent()) {
            let repeated = series.repeated.clone();
            series.take_until(t_ms, |labels, t, sample| match &repeated {
                Some(name) => {
                    let name = go_quote(name);
                    Err(AppendError::Invalid(format!("label name {name} is not unique: invalid sample")))
                }
                None => inner.append(labels, t, &sample),
            })?;
        }
        Ok(())
    }

    /// The oldest time that a head of upstream's tests takes: half of its day before the newest sample.
    pub fn oldest_taken_ms(&self) -> i64 {
        self.read().newest.map_or(i64::MIN, |t| t.saturating_sub(HALF_HEAD_MS))
    }

    /// Drops all samples behind `t_ms`.
    pub fn forget_after(&self, t_ms: i64) {
        for series in &mut self.write().series {
            series.forget_after(t_ms);
        }
    }

    /// Whether there is a series that satisfies all matchers.
    pub fn has(&self, matchers: &[Matcher]) -> bool {
        self.read().matching(matchers, |_| true)
    }

    /// All series with the time and value of their samples, by labels, for dumps.
    pub fn dump(&self) -> Vec<(Labels, Vec<(i64, Sample)>)> {
        let inner = self.read();
        let mut all: Vec<_> = inner
            .series
            .iter()
            .map(|s| (s.labels.clone(), s.samples()))
            .filter(|(_, samples)| !samples.is_empty())
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl Inner {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), AppendError> {
        if let Sample::Histogram(h) = sample {
            h.validate().map_err(|e| AppendError::Invalid(e.to_string()))?;
        }
        let i = match self.by_labels.get(labels) {
            Some(i) => *i,
            None => {
                let i = self.series.len();
                self.by_labels.insert(labels.clone(), i);
                self.by_name.entry(labels.get(METRIC_NAME).to_string()).or_default().push(i);
                let data = Data::Floats { t: Vec::new(), v: Vec::new() };
                self.series.push(Series { labels: labels.clone(), last: None, data });
                i
            }
        };
        self.series[i].append(t_ms, sample)?;
        self.newest = self.newest.max(Some(t_ms));
        Ok(())
    }

    /// Calls `f` with each series that satisfies the matchers until it says that this is enough.
    fn matching(&self, matchers: &[Matcher], mut f: impl FnMut(usize) -> bool) -> bool {
        let fits = |s: &Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name)));
        let name = matchers.iter().find(|m| m.name == METRIC_NAME && m.kind == MatchType::Equal);
        match name {
            Some(name) => {
                let named = self.by_name.get(&name.value).map(Vec::as_slice).unwrap_or_default();
                named.iter().any(|i| fits(&self.series[*i]) && f(*i))
            }
            None => (0..self.series.len()).any(|i| fits(&self.series[i]) && f(i)),
        }
    }
}

/// What stands behind upstream's text about two values at one time.
fn clash(t_ms: i64, existing: &Sample, new: &Sample) -> String {
    match (existing, new) {
        // Upstream takes time 0 for a time that is not known.
        _ if t_ms == 0 => String::new(),
        (Sample::Float(old), Sample::Float(new)) => {
            let (old, new) = (format_g(*old), format_g(*new));
            format!(" {t_ms}; overrides not allowed: existing {old}, new value {new}")
        }
        (Sample::Histogram(_), Sample::Float(new)) => {
            let new = format_g(*new);
            format!(" {t_ms}; overrides not allowed: existing is a histogram, new value {new}")
        }
        _ => String::new(),
    }
}

impl Series {
    fn append(&mut self, t_ms: i64, sample: &Sample) -> Result<(), AppendError> {
        if let Some((last_t, last)) = &self.last {
            if t_ms < *last_t {
                return Err(AppendError::OutOfOrder);
            }
            if t_ms == *last_t {
                let same = match (last, sample) {
                    (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits(),
                    (Sample::Histogram(a), Sample::Histogram(b)) => a.equals(b),
                    _ => false,
                };
                return if same { Ok(()) } else { Err(AppendError::Duplicate(clash(t_ms, last, sample))) };
            }
        }
        let wrong = |e: tsdbctl_chunk::ChunkError| AppendError::Invalid(e.to_string());
        match (&mut self.data, sample) {
            (Data::Floats { t, v }, Sample::Float(value)) => {
                t.push(t_ms);
                v.push(*value);
            }
            (Data::Floats { t, v }, Sample::Histogram(h)) => {
                let mut appender = SeriesAppender::new(AppenderOptions::default());
                for (t, v) in t.iter().zip(v.iter()) {
                    appender.append_float(*t, *v, 0).map_err(wrong)?;
                }
                appender.append_float_histogram(t_ms, h, 0).map_err(wrong)?;
                self.data = Data::Encoded(Box::new(appender));
            }
            (Data::Encoded(appender), Sample::Float(v)) => {
                appender.append_float(t_ms, *v, 0).map_err(wrong)?
            }
            (Data::Encoded(appender), Sample::Histogram(h)) => {
                appender.append_float_histogram(t_ms, h, 0).map_err(wrong)?;
            }
        }
        self.last = Some((t_ms, sample.clone()));
        Ok(())
    }

    /// All its samples in order.
    fn samples(&self) -> Vec<(i64, Sample)> {
        let mut columns = SampleColumns::default();
        let filter = TimeFilter::all_between(i64::MIN / 4, i64::MAX / 4);
        // What cannot be decoded was encoded here, so there is nothing to tell.
        let _ = self.read(&filter, &mut columns, &mut ReadStats::default());
        let floats = columns.floats.t.iter().zip(&columns.floats.v);
        let mut samples: Vec<(i64, Sample)> = floats.map(|(t, v)| (*t, Sample::Float(*v))).collect();
        let histograms = columns.histograms.t.iter().zip(&columns.histograms.h);
        samples.extend(histograms.map(|(t, h)| (*t, Sample::Histogram(Arc::clone(h)))));
        samples.sort_by_key(|(t, _)| *t);
        samples
    }

    fn forget_after(&mut self, t_ms: i64) {
        if self.last.as_ref().is_none_or(|(t, _)| *t <= t_ms) {
            return;
        }
        let kept = self.samples();
        self.last = None;
        self.data = Data::Floats { t: Vec::new(), v: Vec::new() };
        for (t, sample) in kept.iter().take_while(|(t, _)| *t <= t_ms) {
            // It was taken before.
            let _ = self.append(*t, sample);
        }
    }

    fn touches(&self, start: i64, end: i64) -> bool {
        match &self.data {
            Data::Floats { t, .. } => {
                t.first().is_some_and(|first| *first <= end) && t.last().is_some_and(|last| *last >= start)
            }
            Data::Encoded(appender) => appender.chunks().any(|c| c.maxt >= start && c.mint <= end),
        }
    }

    fn read(
        &self,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        match &self.data {
            Data::Floats { t, v } => {
                let mut from = t.partition_point(|x| *x < filter.mint());
                let to = t.partition_point(|x| *x <= filter.maxt());
                if filter.newest_only && filter.steps <= 1 {
                    from = from.max(to.saturating_sub(1));
                }
                stats.chunks += 1;
                stats.samples += (to - from) as u64;
                for i in from..to {
                    out.floats.push(t[i], v[i], 0);
                }
            }
            Data::Encoded(appender) => {
                for chunk in appender.chunks().filter(|c| c.samples > 0 && filter.wants(c.mint, c.maxt)) {
                    stats.chunks += 1;
                    stats.samples += chunk.samples as u64;
                    decode(chunk.encoding, chunk.data, filter.mint(), filter.maxt(), out).map_err(|e| {
                        Loss { file: PathBuf::from("(memory)"), offset: 0, reason: e.to_string() }
                    })?;
                }
            }
        }
        Ok(())
    }
}

impl Queryable for UnitStore {
    fn querier(
        &self,
        _mint: i64,
        _maxt: i64,
        _selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for UnitStore {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        control.check("series selection")?;
        let mut set = UnitSet { store: self.clone(), rows: Vec::new(), labels: LabelRows::default() };
        let inner = self.read();
        inner.matching(matchers, |i| {
            let series = &inner.series[i];
            if !series.touches(hints.start, hints.end) {
                return false;
            }
            set.labels.push_needed(&series.labels, &hints.labels, symbols);
            set.rows.push(i);
            false
        });
        drop(inner);
        Ok(Box::new(set))
    }

    fn label_names(&self, matchers: &[Matcher], _control: &Control) -> Result<Vec<String>, StorageError> {
        let inner = self.read();
        let mut names = std::collections::BTreeSet::new();
        inner.matching(matchers, |i| {
            names.extend(inner.series[i].labels.iter().map(|l| l.name.clone()));
            false
        });
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        _control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let inner = self.read();
        let mut values = std::collections::BTreeSet::new();
        inner.matching(matchers, |i| {
            values.insert(inner.series[i].labels.get(name).to_string());
            false
        });
        values.remove("");
        Ok(values.into_iter().collect())
    }

    fn exemplars(
        &self,
        _start: i64,
        _end: i64,
        _selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        Ok(Vec::new())
    }
}

struct UnitSet {
    store: UnitStore,
    rows: Vec<usize>,
    labels: LabelRows,
}

impl SeriesSet for UnitSet {
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
        self.store.read().series[self.rows[i]].read(filter, out, stats)
    }

    fn cost(&self, _i: usize, _filter: &TimeFilter) -> ReadStats {
        ReadStats { chunks: 1, ..ReadStats::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_and_refused_as_by_a_head() {
        let store = UnitStore::new();
        let m = Labels::from_pairs([("__name__", "m")]);
        let float = |v: f64| Sample::Float(v);
        assert_eq!(store.append(&m, 10, &float(1.0)), Ok(()));
        assert_eq!(store.append(&m, 10, &float(1.0)), Ok(()));
        let twice = store.append(&m, 10, &float(-1.0)).map_err(|e| e.to_string());
        let text = "duplicate sample for timestamp 10; overrides not allowed: existing 1, new value -1";
        assert_eq!(twice, Err(text.to_string()));
        assert_eq!(store.append(&m, 9, &float(1.0)), Err(AppendError::OutOfOrder));
        let h = Sample::Histogram(Arc::default());
        assert_eq!(store.append(&m, 10, &h), Err(AppendError::Duplicate(String::new())));
        assert_eq!(store.append(&m, 20, &h), Ok(()));
        assert_eq!(store.append(&m, 30, &float(3.0)), Ok(()));
        assert_eq!(store.dump()[0].1.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [10, 20, 30]);
    }

    #[test]
    fn only_what_was_loaded_is_seen() {
        let (labels, items) =
            tsdbctl_promql::parser::parse_series_items("m{a=\"b\"} 1+1x1000000", 1 << 40).unwrap();
        let mut input = [LazySeries::new(labels, items, 0, 60_000)];
        let store = UnitStore::new();
        store.load_until(&mut input, 90_000).unwrap();
        assert_eq!(store.dump()[0].1.len(), 2);
        assert!(store.has(&[Matcher::equal("__name__", "m")]));
        assert!(!store.has(&[Matcher::equal("__name__", "n")]));
        assert!(store.has(&[Matcher::equal("a", "b")]));
    }
}
