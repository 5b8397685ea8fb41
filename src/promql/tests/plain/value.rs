//! What the plain evaluator computes with: matrices of points, vectors of samples, notes, statistics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tsdbctl_model::{FloatHistogram, Labels};
use tsdbctl_storage::annotations::{Annotation, Detail};

/// Labels by name.
pub type Metric = BTreeMap<String, String>;

/// A histogram of a sample.
pub type Hist = Arc<FloatHistogram>;

pub fn value_of<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get(name).map_or("", String::as_str)
}

pub fn set_label(metric: &mut Metric, name: &str, value: &str) {
    if value.is_empty() {
        metric.remove(name);
    } else {
        metric.insert(name.to_string(), value.to_string());
    }
}

pub fn without_metadata(metric: &Metric) -> Metric {
    let mut out = metric.clone();
    for name in ["__name__", "__type__", "__unit__"] {
        out.remove(name);
    }
    out
}

pub fn text_of(metric: &Metric) -> String {
    Labels::from_pairs(metric.iter().map(|(n, v)| (n.as_str(), v.as_str()))).to_string()
}

/// One series of a matrix.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub metric: Metric,
    pub floats: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Hist)>,
    pub drop_name: bool,
}

/// Samples a histogram counts for in a matrix.
pub fn weight(h: &FloatHistogram) -> i64 {
    ((h.size() + 8) / 16) as i64
}

pub fn weights(histograms: &[(i64, Hist)]) -> i64 {
    histograms.iter().map(|(_, h)| weight(h)).sum()
}

/// Series, and whether upstream would give them in an order of chance.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    pub series: Vec<Series>,
    pub shuffled: bool,
}

impl Matrix {
    pub fn samples(&self) -> i64 {
        self.series.iter().map(|s| s.floats.len() as i64 + weights(&s.histograms)).sum()
    }

    pub fn has_twins(&self) -> bool {
        let mut seen = std::collections::BTreeSet::new();
        !self.series.iter().all(|s| seen.insert(&s.metric))
    }
}

/// One sample of a vector.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub metric: Metric,
    pub t: i64,
    pub f: f64,
    pub h: Option<Hist>,
    pub drop_name: bool,
    /// Match group of the series in a binary operation.
    pub group: usize,
}

impl Sample {
    pub fn number(f: f64) -> Self {
        Self { f, ..Self::default() }
    }
}

/// What a step has as result in memory.
pub fn step_samples(vector: &[Sample]) -> i64 {
    vector.iter().map(|s| 1 + s.h.as_ref().map_or(0, |h| (h.size() / 16) as i64)).sum()
}

/// Annotations by text. As upstream, two sets may hold the very same annotation, and then change it both.
#[derive(Clone, Debug, Default)]
pub struct Notes(BTreeMap<String, Rc<RefCell<Annotation>>>);

impl Notes {
    pub fn of(annotation: Annotation) -> Self {
        let mut notes = Self::default();
        notes.add(annotation);
        notes
    }

    pub fn add(&mut self, annotation: Annotation) {
        self.put(Rc::new(RefCell::new(annotation)));
    }

    fn put(&mut self, new: Rc<RefCell<Annotation>>) {
        let text = new.borrow().text.clone();
        let Some(old) = self.0.get(&text) else {
            self.0.insert(text, new);
            return;
        };
        let detail = new.borrow().detail;
        let mut merged = old.borrow_mut_detail();
        match (&mut merged, detail) {
            (
                Detail::Monotonicity { min_ts, max_ts, min_bucket, max_bucket, max_diff, count },
                Detail::Monotonicity {
                    min_ts: t0,
                    max_ts: t1,
                    min_bucket: b0,
                    max_bucket: b1,
                    max_diff: d,
                    count: n,
                },
            ) => {
                *min_ts = t0.min(*min_ts);
                *max_ts = t1.max(*max_ts);
                if b0 < *min_bucket {
                    *min_bucket = b0;
                }
                if b1 > *max_bucket {
                    *max_bucket = b1;
                }
                if d > *max_diff {
                    *max_diff = d;
                }
                *count = count.wrapping_add(n.wrapping_add(1));
                old.borrow_mut().detail = merged;
            }
            (Detail::StartOverlap { count }, Detail::StartOverlap { count: n }) => {
                *count += n;
                old.borrow_mut().detail = merged;
            }
            _ => {
                self.0.insert(text, new);
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for new in other.0.values() {
            self.put(Rc::clone(new));
        }
    }

    /// All texts with positions, in the order of the bare texts.
    pub fn render(&self, query: &str) -> Vec<String> {
        self.0.values().map(|a| a.borrow().render(query)).collect()
    }
}

trait BorrowDetail {
    fn borrow_mut_detail(&self) -> Detail;
}

impl BorrowDetail for Rc<RefCell<Annotation>> {
    fn borrow_mut_detail(&self) -> Detail {
        self.borrow().detail
    }
}

/// Counts of samples (`QuerySamples`).
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub peak: i64,
    pub total: i64,
    pub read: i64,
    pub total_per_step: Vec<i64>,
    pub read_per_step: Vec<i64>,
    start: i64,
    interval: i64,
}

impl Counts {
    pub fn tracking(start: i64, end: i64, interval: i64) -> Self {
        let steps = ((end - start) / interval + 1).max(0) as usize;
        let zeros = vec![0; steps];
        Self { start, interval, total_per_step: zeros.clone(), read_per_step: zeros, ..Self::default() }
    }

    pub fn see(&mut self, samples: i64) {
        self.peak = self.peak.max(samples);
    }

    pub fn total_at(&mut self, step: usize, n: i64) {
        self.total += n;
        if let Some(slot) = self.total_per_step.get_mut(step) {
            *slot += n;
        }
    }

    pub fn read_at(&mut self, step: usize, n: i64) {
        self.read += n;
        if let Some(slot) = self.read_per_step.get_mut(step) {
            *slot += n;
        }
    }

    pub fn step_of(&self, t: i64) -> usize {
        if self.interval == 0 { 0 } else { ((t - self.start) / self.interval) as usize }
    }

    /// Reads of a subquery go to the outer steps that use them first.
    pub fn absorb_reads(
        &mut self,
        child: &Self,
        start: i64,
        interval: i64,
        steps: i64,
        outer_offset: i64,
        outer_range: i64,
    ) {
        if steps <= 1 {
            self.read_at(0, child.read);
            return;
        }
        for (k, n) in child.read_per_step.iter().enumerate().filter(|(_, n)| **n != 0) {
            let t = child.start + k as i64 * child.interval + outer_offset;
            let mut outer = if t > start { (t - start + interval - 1) / interval } else { 0 };
            outer = outer.min(steps - 1);
            if outer_range > 0 && t <= start + outer * interval - outer_range {
                continue;
            }
            self.read_at(outer as usize, *n);
        }
    }
}
