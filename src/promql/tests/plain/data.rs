//! Series with everything that has ever been trouble, made from a seed.

use std::sync::Arc;

use tsdbctl_chunk::AppenderOptions;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram, Labels};
use tsdbctl_storage::{MemorySample, MemoryStore};

use crate::random::Random;

/// Generated data and the time it spans.
pub struct Data {
    pub store: MemoryStore,
    pub start: i64,
    pub end: i64,
}

const SPACING: i64 = 15_000;

struct Maker {
    r: Random,
    store: MemoryStore,
    start: i64,
    samples: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Odd,
    Whole,
    Steady,
}

impl Maker {
    fn value(&mut self, kind: Kind, previous: f64) -> f64 {
        let r = &mut self.r;
        match kind {
            Kind::Counter => {
                if r.one_in(12) {
                    r.below(3) as f64
                } else {
                    previous + r.below(50) as f64 * 0.25
                }
            }
            Kind::Gauge => r.between(-1000, 1000) as f64 / 7.0,
            Kind::Steady => {
                if r.one_in(5) {
                    r.below(4) as f64
                } else {
                    previous
                }
            }
            Kind::Whole => 9_007_199_254_740_992.0 - r.between(-20, 20) as f64,
            Kind::Odd => r.pick(&[
                0.0,
                -0.0,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN_POSITIVE / 4.0,
                5e-324,
                1.7e308,
                -1.7e308,
                1e100,
                -1e100,
                1e-30,
                0.1,
                1.0,
                -1.0,
                3.0,
            ]),
        }
    }

    /// Times with jitter and gaps.
    fn times(&mut self) -> Vec<i64> {
        let mut out = Vec::new();
        let jitter = self.r.pick(&[0, 0, 1, 400, 3000]);
        let mut k = self.r.pick(&[0, 0, 0, 5]);
        let last = self.samples - self.r.pick(&[0, 0, 0, 8]);
        while k < last {
            let shift = if jitter == 0 { 0 } else { self.r.between(-jitter, jitter) };
            out.push(self.start + k * SPACING + shift);
            k += if self.r.one_in(15) { self.r.between(2, 25) } else { 1 };
        }
        out
    }

    fn put(&mut self, labels: &Labels, t: i64, st: i64, sample: &MemorySample) {
        // What the encoders refuse is no data.
        let _ = self.store.append(labels, t, st, sample);
    }

    /// A start timestamp for a sample at `t` after one at `before`.
    fn start_timestamp(&mut self, t: i64, before: i64, current: i64) -> i64 {
        match self.r.below(14) {
            0 => before,
            1 => before + (t - before) / 2,
            2 => before - 5000,
            3 => t,
            4 => 0,
            5 => t + 100,
            _ => current,
        }
    }

    fn floats(&mut self, labels: &Labels, kind: Kind) {
        let mut v = self.r.below(100) as f64;
        let (mut before, mut st) = (self.start - SPACING, self.start - 20_000);
        for t in self.times() {
            v = self.value(kind, v);
            st = self.start_timestamp(t, before, st);
            let stored = if self.r.one_in(25) { stale_nan() } else { v };
            self.put(labels, t, st, &MemorySample::Float(stored));
            before = t;
        }
    }

    fn histograms(&mut self, labels: &Labels, custom: Option<bool>, gauge: bool, with_floats: bool) {
        let mut schema = self.r.between(-1, 2) as i32;
        let mut is_custom = custom.unwrap_or(false);
        let mut bounds: Arc<[f64]> = Arc::from([0.5, 1.0, 5.0].as_slice());
        let mut counts = vec![0u64; 6];
        let mut offset = self.r.between(-3, 2) as i32;
        let negative = self.r.one_in(2);
        let whole = self.r.one_in(2);
        let (mut before, mut st) = (self.start - SPACING, self.start - 20_000);
        let mut sum = 0.0;
        for (k, t) in self.times().into_iter().enumerate() {
            if with_floats && (k / 3) % 2 == 1 && !self.r.one_in(4) {
                let v = self.value(Kind::Gauge, 0.0);
                self.put(labels, t, 0, &MemorySample::Float(v));
                continue;
            }
            if self.r.one_in(10) {
                schema = self.r.between(-1, 3) as i32;
            }
            if custom.is_none() && self.r.one_in(9) {
                is_custom = !is_custom;
            }
            if self.r.one_in(10) {
                bounds = match self.r.below(4) {
                    0 => Arc::from([0.5, 1.0, 5.0].as_slice()),
                    1 => Arc::from([1.0, 5.0].as_slice()),
                    2 => Arc::from([-1.0, 0.5, 1.0, 2.0].as_slice()),
                    _ => Arc::from([0.25, 3.0].as_slice()),
                };
            }
            if self.r.one_in(12) {
                counts.iter_mut().for_each(|c| *c = 0);
            }
            if self.r.one_in(15) {
                offset = self.r.between(-3, 3) as i32;
            }
            for c in &mut counts {
                *c += self.r.below(4);
                if gauge && self.r.one_in(3) {
                    *c = self.r.below(9);
                }
            }
            sum += self.r.between(0, 40) as f64 / 3.0;
            if self.r.one_in(20) {
                sum = self.r.pick(&[f64::NAN, f64::INFINITY, 1.0]);
            }
            st = self.start_timestamp(t, before, st);
            before = t;
            let hint = if gauge && !self.r.one_in(12) {
                CounterResetHint::Gauge
            } else if self.r.one_in(30) {
                CounterResetHint::CounterReset
            } else {
                CounterResetHint::Unknown
            };
            let mut h = FloatHistogram { counter_reset_hint: hint, sum, ..FloatHistogram::default() };
            if is_custom {
                let n = (bounds.len() + 1).min(counts.len());
                h.schema = tsdbctl_model::histogram::CUSTOM_BUCKETS_SCHEMA;
                h.custom_values = Some(bounds.clone());
                h.positive_spans = vec![BucketSpan { offset: 0, length: n as u32 }];
                h.positive_buckets = counts[..n].iter().map(|c| *c as f64).collect();
            } else {
                h.schema = schema;
                h.zero_threshold = if self.r.one_in(10) { 0.01 } else { 0.001 };
                h.zero_count = counts[0] as f64;
                h.positive_spans =
                    vec![BucketSpan { offset, length: 2 }, BucketSpan { offset: 1, length: 1 }];
                h.positive_buckets = counts[1..4].iter().map(|c| *c as f64).collect();
                if negative {
                    h.negative_spans = vec![BucketSpan { offset: 0, length: 2 }];
                    h.negative_buckets = counts[4..6].iter().map(|c| *c as f64).collect();
                }
            }
            h.count = h.zero_count
                + h.positive_buckets.iter().sum::<f64>()
                + h.negative_buckets.iter().sum::<f64>();
            if h.sum.is_nan() {
                h.count += self.r.below(3) as f64;
            }
            if self.r.one_in(25) {
                h = FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() };
            }
            let sample = if whole {
                MemorySample::Histogram(whole_counts(&h))
            } else {
                MemorySample::FloatHistogram(h)
            };
            self.put(labels, t, st, &sample);
        }
    }
}

fn whole_counts(h: &FloatHistogram) -> Histogram {
    let deltas = |counts: &[f64]| {
        let mut before = 0i64;
        counts
            .iter()
            .map(|c| {
                let d = *c as i64 - before;
                before = *c as i64;
                d
            })
            .collect()
    };
    Histogram {
        counter_reset_hint: h.counter_reset_hint,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count as u64,
        count: h.count as u64,
        sum: h.sum,
        positive_spans: h.positive_spans.clone(),
        negative_spans: h.negative_spans.clone(),
        positive_buckets: deltas(&h.positive_buckets),
        negative_buckets: deltas(&h.negative_buckets),
        custom_values: h.custom_values.clone(),
    }
}

/// The data of a seed.
pub fn make(seed: u64) -> Data {
    let mut r = Random::new(seed);
    let start = r.pick(&[0, 0, -400_000, -1_000_000, 1_700_000_000_000, 7_190_000]);
    let samples = r.between(8, 45);
    let samples_per_chunk = r.pick(&[120, 120, 10, 4]);
    let st = r.one_in(2);
    let options = AppenderOptions {
        samples_per_chunk,
        st,
        histograms_st: st,
        xor2: r.one_in(3),
        ..AppenderOptions::default()
    };
    let mut m = Maker { store: MemoryStore::new(options), start, samples, r };
    let pairs = [("x", "1"), ("x", "2"), ("y", "1"), ("y", "10")];
    let n = m.r.between(2, 4) as usize;
    let odd_names = m.r.one_in(3);
    let mut plans: Vec<(Vec<(&str, String)>, u64)> = Vec::new();
    for (job, instance) in pairs.iter().take(n) {
        let base = |name: &'static str| {
            vec![("__name__", name.to_string()), ("job", job.to_string()), ("instance", instance.to_string())]
        };
        for (name, kind) in [
            ("requests_total", 0),
            ("a", 1),
            ("b", 1),
            ("odd", 2),
            ("whole", 3),
            ("steady", 4),
            ("h", 5),
            ("hc", 6),
            ("hg", 7),
            ("mix", 8),
            ("hx", 9),
        ] {
            if m.r.one_in(6) {
                continue;
            }
            let mut labels = base(name);
            if odd_names && m.r.one_in(4) {
                labels.push(("__type__", m.r.pick(&["counter", "gauge"]).to_string()));
            }
            plans.push((labels, kind));
        }
        for le in ["0.1", "1", "5", "+Inf", "bad"] {
            if le == "bad" && !m.r.one_in(8) || m.r.one_in(12) {
                continue;
            }
            let mut labels = base("lat_bucket");
            labels.push(("le", le.to_string()));
            plans.push((labels, 10));
            if le == "1" && m.r.one_in(6) {
                let mut labels = base("lat_bucket");
                labels.push(("le", "1.0".to_string()));
                plans.push((labels, 10));
            }
        }
        if m.r.one_in(4) {
            plans.push((base("lat_bucket"), 5));
        }
        for name in ["target_info", "build_info"] {
            for version in ["1", "2"] {
                if !m.r.one_in(3) {
                    let mut labels = base(name);
                    labels.push(("version", version.to_string()));
                    labels.push((
                        if name == "target_info" { "host" } else { "rev" },
                        format!("{job}{version}"),
                    ));
                    plans.push((labels, 11));
                }
            }
        }
    }
    // Creation order is the storage's order: not that of labels.
    for i in (1..plans.len()).rev() {
        let j = m.r.below(i as u64 + 1) as usize;
        plans.swap(i, j);
    }
    for (labels, kind) in plans {
        let labels = Labels::from_pairs(labels);
        match kind {
            0 => m.floats(&labels, Kind::Counter),
            1 => m.floats(&labels, Kind::Gauge),
            2 => m.floats(&labels, Kind::Odd),
            3 => m.floats(&labels, Kind::Whole),
            4 => m.floats(&labels, Kind::Steady),
            5 => m.histograms(&labels, Some(false), false, false),
            6 => m.histograms(&labels, Some(true), false, false),
            7 => m.histograms(&labels, Some(false), true, false),
            8 => m.histograms(&labels, Some(false), false, true),
            9 => m.histograms(&labels, None, false, false),
            10 => m.floats(&labels, Kind::Counter),
            _ => m.floats(&labels, Kind::Steady),
        }
    }
    Data { store: m.store, start, end: start + samples * SPACING }
}
