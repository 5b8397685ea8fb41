//! The world that scripts play in: what expressions give, what is stored, what was sent, what time it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tsdbctl_model::histogram::{BucketSpan, FloatHistogram};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::{QueryOptions, Sample, parse_query};
use tsdbctl_rules::error::RuleError;
use tsdbctl_rules::group::{RuleAppender, RuleStorage};
use tsdbctl_rules::query::{Element, RuleExpr, RuleQuery};
use tsdbctl_rules::restore::LastFloat;
use tsdbctl_rules::sending::{AlertSink, OutgoingAlert};
use tsdbctl_storage::Refusal;

pub const STALE: u64 = 0x7ff0_0000_0000_0002;
pub type Set = BTreeMap<String, String>;

/// What is stored: bits of the value per series and time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk(pub BTreeMap<Set, BTreeMap<i64, u64>>);

impl Disk {
    pub fn put(&mut self, series: &Set, t: i64, bits: u64) -> Result<(), Refusal> {
        let samples = self.0.entry(series.clone()).or_default();
        match samples.last_key_value() {
            Some((last, _)) if *last > t => Err(Refusal::OutOfOrder),
            Some((last, old)) if *last == t && *old != bits => Err(Refusal::Duplicate),
            _ => {
                samples.insert(t, bits);
                Ok(())
            }
        }
    }
}

pub fn set(labels: &Labels) -> Set {
    labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect()
}

/// The world as a script has it: which series an expression gives at a time.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    pub seed: u64,
    /// Histograms, NaN and infinity too.
    pub wild: bool,
}

impl Nature {
    pub fn roll(&self, what: u64, a: u64, b: u64) -> u64 {
        let mut x = self.seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for part in [a, b] {
            x = (x ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x ^= x >> 29;
            x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^= x >> 32;
        }
        x
    }

    /// Numbers of the series that expression `e` gives at `t`, or an error.
    pub fn result(&self, e: u64, t: i64) -> Result<Vec<u64>, ()> {
        let t = t as u64;
        if self.roll(1, e, t).is_multiple_of(16) {
            return Err(());
        }
        let period = [60_000, 170_000, 420_000, 1_500_000][(self.roll(2, e, 0) % 4) as usize];
        Ok((0..3).filter(|s| !self.roll(3 + s, e, (t + s * 17_000) / period).is_multiple_of(3)).collect())
    }

    /// The value of series `s` of expression `e` at `t`.
    pub fn value(&self, e: u64, s: u64, t: i64) -> Sample {
        let t = t as u64;
        match self.roll(20 + s, e, t) % 12 {
            0 if self.wild => Sample::Float(f64::from_bits(0x7ff8_0000_0000_0001)),
            1 if self.wild => Sample::Float(f64::INFINITY),
            2 if self.wild => Sample::Histogram(Arc::new(histogram(self.roll(30, e, t) % 4))),
            _ => Sample::Float(s as f64),
        }
    }
}

/// One of four histograms, told from each other by their count.
pub fn histogram(i: u64) -> FloatHistogram {
    let i = i as f64;
    let spans = || vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 2 }];
    let buckets = || vec![i + 1.0, i + 2.0, i + 1.0, i + 1.0];
    FloatHistogram {
        schema: 1,
        count: 12.0 + i * 9.0,
        zero_count: 2.0 + i,
        zero_threshold: 0.001,
        sum: 18.4 * (i + 1.0),
        positive_spans: spans(),
        negative_spans: spans(),
        positive_buckets: buckets(),
        negative_buckets: buckets(),
        ..FloatHistogram::default()
    }
}

/// Bits that stand for a histogram of this count.
pub fn histogram_bits(count: f64) -> u64 {
    0xfff8_0000_0001_0000 + count as u64
}

pub struct Store {
    pub nature: Nature,
    pub disk: Mutex<Disk>,
    pub sent: Mutex<Vec<(Set, i64, i64)>>,
    pub letters: Mutex<Vec<Value>>,
    pub now: AtomicI64,
}

pub struct Ask(pub Nature);
impl RuleQuery for Ask {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let e = expr.text.trim_start_matches('x').parse().expect("a number");
        let found = self.0.result(e, t_ms).map_err(|()| RuleError::Query("no".into()))?;
        let element = |s: u64| Element {
            labels: Labels::from_pairs([("__name__", "x".to_string()), ("s", s.to_string())]),
            sample: self.0.value(e, s, t_ms),
        };
        Ok(found.into_iter().map(element).collect())
    }
    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let options = QueryOptions::default();
        let expr = Arc::new(parse_query(text, &options).map_err(|e| RuleError::Query(e.message))?);
        self.instant(&RuleExpr { text: text.into(), printed: text.into(), expr }, t_ms)
    }
}

pub struct Put<'a>(pub &'a Mutex<Disk>);
impl RuleAppender for Put<'_> {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal> {
        let bits = match sample {
            Sample::Float(v) => v.to_bits(),
            Sample::Histogram(h) => histogram_bits(h.count),
        };
        self.0.lock().expect("whole").put(&set(labels), t_ms, bits)
    }
    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl RuleStorage for Store {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        Box::new(Ask(self.nature))
    }
    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        Box::new(Put(&self.disk))
    }
    fn last_floats(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> Result<Vec<LastFloat>, String> {
        let disk = self.disk.lock().expect("whole");
        let fits = |s: &Set| matchers.iter().all(|m| m.matches(s.get(&m.name).map_or("", |v| v.as_str())));
        let found = disk.0.iter().filter(|(s, _)| fits(s)).filter_map(|(s, samples)| {
            let (t, bits) = samples.range(mint..=maxt).next_back()?;
            let labels = Labels::from_pairs(s.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            Some(LastFloat { labels, t_ms: *t, value: f64::from_bits(*bits) })
        });
        Ok(found.collect())
    }
}

impl AlertSink for Store {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        self.letters.lock().expect("whole").extend(alerts.iter().map(|a| {
            let mut labels = set(&a.labels);
            labels.remove("ext");
            json!({"L": labels, "A": a.annotations, "S": a.starts_at_ms, "E": a.ends_at_ms, "U": a.generator_url})
        }));
        let mut sent = self.sent.lock().expect("whole");
        sent.extend(alerts.into_iter().map(|a| (set(&a.labels), a.starts_at_ms, a.ends_at_ms)));
    }
}

impl Clock for Store {
    fn now_ms(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
