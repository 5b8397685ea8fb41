//! What a scrape makes of a body: which samples would be stored under which labels and timestamps, what is refused
//! without a word, what fails the scrape, and what the scrape says about itself.
//!
//! This is the meaning in one place, for tests and small inputs: it copies every label set. A scraper that keeps
//! series between scrapes reads the [`Parser`] itself, with [`SeriesLabels::raw`] as the key.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use tsdbctl_model::Labels;
use tsdbctl_model::histogram::nhcb::ConvertedHistogram;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::quote::go_quote;
use tsdbctl_model::sample::{Exemplar, MetricType};

use crate::content_type::ContentTypeError;
use crate::entry::{Entry, Exemplars, SeriesLabels};
use crate::error::ParseError;
use crate::parser::{Options, Parser, validate};

/// Labels and values of an exemplar may have this many characters together; longer ones are left out.
pub const EXEMPLAR_CHARACTERS_MAX: usize = 128;
/// How far behind the newest sample one may lie in a head with two-hour chunk ranges.
pub const BEHIND_MAX_MS: i64 = 3_600_000;
/// How far ahead of the scrape a sample may lie.
pub const AHEAD_MAX_MS: i64 = 600_000;

/// What a scrape configuration makes of histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramMode {
    /// Classic histograms only.
    Default,
    /// Native ones (`scrape_native_histograms`) and always the classic ones too
    /// (`always_scrape_classic_histograms`).
    Native,
    /// Classic ones converted (`convert_classic_histograms_to_nhcb`).
    Nhcb,
}

impl HistogramMode {
    /// `options` with this choice.
    pub fn apply(self, options: Options) -> Options {
        Options {
            native_histograms: self == Self::Native,
            keep_classic_histograms: self == Self::Native,
            convert_classic_histograms: self == Self::Nhcb,
            ..options
        }
    }
}

/// One scrape's circumstances.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// How the body is parsed.
    pub options: Options,
    /// The time of the scrape.
    pub now_ms: i64,
    /// Whether exposed timestamps count.
    pub honor_timestamps: bool,
    /// Whether exposed labels win over the target's.
    pub honor_labels: bool,
    /// The target's labels.
    pub target: Labels,
}

/// A sample's value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(ConvertedHistogram),
}

/// A sample to store.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The series.
    pub labels: Labels,
    /// When.
    pub timestamp_ms: i64,
    /// What.
    pub value: Value,
}

/// What is said about a metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its type.
    pub metric_type: MetricType,
    /// Its help text.
    pub help: String,
    /// Its unit.
    pub unit: String,
}

/// Why a scrape fails. Nothing of the body is stored then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeError {
    /// The format is not known.
    ContentType(ContentTypeError),
    /// The body is wrong.
    Parse(ParseError),
    /// A series cannot be stored.
    Series(String),
}

impl std::fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ContentType(e) => e.fmt(f),
            Self::Parse(e) => e.fmt(f),
            Self::Series(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ScrapeError {}

/// What comes of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Scraped {
    /// Why it failed, if it did.
    pub error: Option<ScrapeError>,
    /// The samples to store, in the order of the body.
    pub samples: Vec<Sample>,
    /// Exemplars to store, by series.
    pub exemplars: Vec<(Labels, Exemplar)>,
    /// Metadata by family; kept also from a body that fails further down.
    pub metadata: BTreeMap<String, Metadata>,
    /// Samples in the body.
    pub scraped: usize,
    /// Samples that were not dropped by relabelling.
    pub post_relabeling: usize,
    /// Series that a first scrape adds.
    pub series_added: usize,
}

impl Scraped {
    /// The samples a scrape adds about itself, but for its duration.
    pub fn report(&self, scrape: &Scrape) -> Vec<Sample> {
        let sample = |name: &str, value: f64| {
            let mut labels = Labels::from_pairs([(METRIC_NAME, name)]);
            scrape.target.iter().for_each(|l| labels.set(l.name.as_str(), l.value.as_str()));
            Sample { labels, timestamp_ms: scrape.now_ms, value: Value::Float(value) }
        };
        vec![
            sample("up", if self.error.is_none() { 1.0 } else { 0.0 }),
            sample("scrape_samples_scraped", self.scraped as f64),
            sample("scrape_samples_post_metric_relabeling", self.post_relabeling as f64),
            sample("scrape_series_added", self.series_added as f64),
        ]
    }
}

/// Reads `body` as a first scrape of a target does.
pub fn samples_of_scrape(body: &[u8], content_type: &str, scrape: &Scrape) -> Scraped {
    let mut collector =
        Collector { scrape, out: Scraped::default(), cache: HashMap::new(), series: HashMap::new() };
    if let Err(error) = collector.read(body, content_type) {
        // The rest is rolled back.
        collector.out.samples.clear();
        collector.out.exemplars.clear();
        collector.out.error = Some(error);
    }
    collector.out
}

#[derive(Default)]
struct SeriesState {
    last_ms: Option<i64>,
    newest_exemplar: Option<Exemplar>,
}

/// How a body writes a series: its bytes, or its labels where it has none.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Raw(Box<[u8]>),
    Labels(Labels),
}

struct Collector<'s> {
    scrape: &'s Scrape,
    out: Scraped,
    cache: HashMap<Key, Labels>,
    series: HashMap<Labels, SeriesState>,
}

impl Collector<'_> {
    fn read(&mut self, body: &[u8], content_type: &str) -> Result<(), ScrapeError> {
        if body.is_empty() {
            return Ok(());
        }
        let mut parser =
            Parser::new(content_type, body, self.scrape.options).map_err(ScrapeError::ContentType)?;
        let mut scraped = HashSet::new();
        while let Some(entry) = parser.next().map_err(ScrapeError::Parse)? {
            match entry {
                Entry::Comment(_) => {}
                Entry::Help { family, text } => self.metadata(family).help = text.into_owned(),
                Entry::Type { family, metric_type } => self.metadata(family).metric_type = metric_type,
                Entry::Unit { family, unit } => self.metadata(family).unit = unit.to_owned(),
                Entry::Series(s) => {
                    let value = Value::Float(s.value);
                    self.sample(s.labels, s.timestamp_ms, value, s.exemplars, &mut scraped)?;
                }
                Entry::Histogram(s) => {
                    let value = Value::Histogram(s.histogram.clone());
                    self.sample(s.labels, s.timestamp_ms, value, s.exemplars, &mut scraped)?;
                }
            }
        }
        Ok(())
    }

    fn metadata(&mut self, family: &str) -> &mut Metadata {
        self.out.metadata.entry(family.to_owned()).or_default()
    }

    fn sample(
        &mut self,
        labels: SeriesLabels<'_>,
        exposed_ms: Option<i64>,
        value: Value,
        exemplars: Exemplars<'_>,
        scraped: &mut HashSet<Key>,
    ) -> Result<(), ScrapeError> {
        self.out.scraped += 1;
        let exposed_ms = exposed_ms.filter(|_| self.scrape.honor_timestamps);
        let timestamp_ms = exposed_ms.unwrap_or(self.scrape.now_ms);
        let series = |reason: String| Err(ScrapeError::Series(reason));
        let key = match labels.raw() {
            Some(raw) => Key::Raw(raw.into()),
            None => Key::Labels(match labels.to_labels() {
                Ok(labels) => labels,
                Err(name) => return series(not_unique(&name)),
            }),
        };
        let cached = self.cache.get(&key).cloned();
        let lset = match &cached {
            Some(lset) => lset.clone(),
            None => {
                let exposed = match labels.to_labels() {
                    Ok(labels) => labels,
                    Err(name) => return series(not_unique(&name)),
                };
                let lset = self.with_target(&exposed);
                if !lset.has(METRIC_NAME) {
                    return series(format!("missing metric name ({METRIC_NAME} label)"));
                }
                if lset.iter().any(|l| l.name.is_empty()) {
                    return series(format!("invalid metric name or label names: {lset}"));
                }
                lset
            }
        };
        if cached.is_some() && exposed_ms.is_none() && scraped.contains(&key) {
            // Once is enough; the first stays.
            self.out.post_relabeling += 1;
            return Ok(());
        }
        if let Value::Histogram(histogram) = &value
            && let Err(reason) = validate(histogram)
        {
            return series(reason);
        }
        let bounds = self.scrape.now_ms - BEHIND_MAX_MS..=self.scrape.now_ms + AHEAD_MAX_MS;
        if bounds.contains(&timestamp_ms) {
            let is_histogram = matches!(value, Value::Histogram(_));
            let state = self.series.entry(lset.clone()).or_default();
            if state.last_ms.is_none_or(|last| timestamp_ms > last) {
                state.last_ms = Some(timestamp_ms);
                self.out.samples.push(Sample { labels: lset.clone(), timestamp_ms, value });
            }
            let found = exemplars_of(exemplars, timestamp_ms, is_histogram);
            keep_exemplars(&lset, found, state, &mut self.out.exemplars);
            if cached.is_none() {
                self.cache.insert(key.clone(), lset);
                self.out.series_added += 1;
            }
            scraped.insert(key);
        }
        self.out.post_relabeling += 1;
        Ok(())
    }

    /// The series' labels with the target's. Where both have one, the exposed one is kept as `exported_…`.
    fn with_target(&self, exposed: &Labels) -> Labels {
        let mut lset = exposed.clone();
        let mut conflicts = Vec::new();
        for label in &self.scrape.target {
            if exposed.has(&label.name) {
                if self.scrape.honor_labels {
                    continue;
                }
                conflicts.push((label.name.as_str(), exposed.get(&label.name)));
            }
            lset.set(label.name.as_str(), label.value.as_str());
        }
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, value) in conflicts {
            let mut exported = format!("exported_{name}");
            while lset.has(&exported) {
                exported.insert_str(0, "exported_");
            }
            lset.set(exported, value);
        }
        lset
    }
}

fn not_unique(name: &str) -> String {
    format!("label name {} is not unique: invalid sample", go_quote(name))
}

/// A sample's exemplars, the oldest first. Those of floats without a timestamp get the sample's.
fn exemplars_of(exemplars: Exemplars<'_>, timestamp_ms: i64, is_histogram: bool) -> Vec<Exemplar> {
    let mut found = Vec::new();
    for e in exemplars.iter() {
        if e.timestamp_ms.is_none() && is_histogram {
            continue;
        }
        let labels = Labels::from_pairs(e.labels.iter().copied());
        found.push(Exemplar { labels, value: e.value, timestamp_ms: e.timestamp_ms.unwrap_or(timestamp_ms) });
    }
    found.sort_by(|a, b| {
        (a.timestamp_ms.cmp(&b.timestamp_ms))
            .then(a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal))
            .then_with(|| a.labels.cmp(&b.labels))
    });
    found
}

/// Keeps the exemplars that upstream's store takes: short enough, and in order of time, value and label hash.
fn keep_exemplars(
    lset: &Labels,
    found: Vec<Exemplar>,
    state: &mut SeriesState,
    out: &mut Vec<(Labels, Exemplar)>,
) {
    for e in found {
        let characters: usize =
            e.labels.iter().map(|l| l.name.chars().count() + l.value.chars().count()).sum();
        if characters > EXEMPLAR_CHARACTERS_MAX {
            continue;
        }
        if let Some(newest) = &state.newest_exemplar {
            let key = |e: &Exemplar| (e.timestamp_ms, e.labels.packed_hash());
            let older = e.timestamp_ms < newest.timestamp_ms
                || (e.timestamp_ms == newest.timestamp_ms && e.value < newest.value)
                || (e.value == newest.value
                    && e.timestamp_ms == newest.timestamp_ms
                    && key(&e) < key(newest));
            if older || e == *newest {
                continue;
            }
        }
        state.newest_exemplar = Some(e.clone());
        out.push((lset.clone(), e));
    }
}
