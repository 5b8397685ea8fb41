//! Iterators over the samples of a series, moved exactly as upstream moves its own: with histograms read for
//! their sums alone, hints depend on where a reader has been before.

use std::rc::Rc;

use tsdbctl_model::{CounterResetHint, FloatHistogram};

use crate::value::{Hist, Metric};

/// A value.
#[derive(Clone, Debug)]
pub enum RawValue {
    Float(f64),
    Histogram(Hist),
}

/// A stored sample.
#[derive(Clone, Debug)]
pub struct Raw {
    pub t: i64,
    pub st: i64,
    pub value: RawValue,
}

/// A stored series, or one that a subquery gave.
#[derive(Clone, Debug)]
pub struct RawSeries {
    pub metric: Metric,
    pub samples: Rc<Vec<Raw>>,
    pub stats_only: bool,
    pub drop_name: bool,
}

/// An iterator of samples (`HistogramStatsIterator` where only sums are wanted).
pub struct Cursor<'a> {
    samples: &'a [Raw],
    /// Number of samples begun; the current one is `at - 1`.
    at: usize,
    stats_only: bool,
    last: Option<FloatHistogram>,
    last_is_current: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(series: &'a RawSeries) -> Self {
        Self {
            samples: &series.samples,
            at: 0,
            stats_only: series.stats_only,
            last: None,
            last_is_current: false,
        }
    }

    fn next(&mut self) -> bool {
        self.last_is_current = false;
        if self.at <= self.samples.len() {
            self.at += 1;
        }
        self.at <= self.samples.len()
    }

    fn t(&self) -> i64 {
        match self.samples {
            [] => i64::MIN,
            samples => samples[(self.at.max(1) - 1).min(samples.len() - 1)].t,
        }
    }

    fn seek(&mut self, t: i64) -> bool {
        if t > self.t() {
            self.last = None;
            self.last_is_current = false;
        }
        if self.at == 0 {
            self.at = 1;
        }
        while self.at <= self.samples.len() && self.samples[self.at - 1].t < t {
            self.at += 1;
        }
        self.at <= self.samples.len()
    }

    fn read(&mut self) -> Raw {
        let raw = self.samples[self.at - 1].clone();
        let RawValue::Histogram(h) = &raw.value else { return raw };
        if !self.stats_only {
            return raw;
        }
        let bare = |h: &FloatHistogram, hint| FloatHistogram {
            counter_reset_hint: hint,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            ..FloatHistogram::default()
        };
        let out = if let (true, Some(last)) = (self.last_is_current, &self.last) {
            bare(last, last.counter_reset_hint)
        } else if h.is_stale() {
            bare(h, h.counter_reset_hint)
        } else {
            let hint = match (h.counter_reset_hint, &self.last) {
                (CounterResetHint::Unknown, Some(last)) if h.detect_reset(last) => {
                    CounterResetHint::CounterReset
                }
                (CounterResetHint::Unknown, Some(_)) => CounterResetHint::NotCounterReset,
                (hint, _) => hint,
            };
            let out = bare(h, hint);
            self.last = Some(FloatHistogram { counter_reset_hint: hint, ..(**h).clone() });
            self.last_is_current = true;
            out
        };
        Raw { value: RawValue::Histogram(out.into()), ..raw }
    }
}

/// Remembers the previous sample (`MemoizedSeriesIterator`).
pub struct Memoized<'a> {
    cursor: Cursor<'a>,
    delta: i64,
    last_t: i64,
    valid: bool,
    previous: Option<Raw>,
}

impl<'a> Memoized<'a> {
    pub fn new(series: &'a RawSeries, delta: i64) -> Self {
        let mut cursor = Cursor::new(series);
        let valid = cursor.next();
        Self { cursor, delta, last_t: i64::MIN, valid, previous: None }
    }

    fn seek(&mut self, t: i64) -> bool {
        let t0 = t - self.delta;
        if self.valid && t0 > self.last_t {
            self.previous = None;
            self.valid = self.cursor.seek(t0);
            if !self.valid {
                return false;
            }
            self.last_t = self.cursor.t();
        }
        if self.last_t >= t {
            return self.valid;
        }
        while self.valid {
            self.previous = Some(self.cursor.read());
            self.valid = self.cursor.next();
            if self.valid {
                self.last_t = self.cursor.t();
                if self.last_t >= t {
                    return true;
                }
            }
        }
        false
    }

    /// The newest sample in `(t - lookback, t]`, unless it is a stale marker (`vectorSelectorSingle`).
    pub fn newest(&mut self, t: i64, lookback: i64) -> Option<Raw> {
        let found = self.seek(t).then(|| self.cursor.read()).filter(|r| r.t <= t);
        let raw = match found {
            Some(raw) => raw,
            None => self.previous.clone().filter(|p| p.t > t - lookback)?,
        };
        let stale = match &raw.value {
            RawValue::Float(v) => tsdbctl_model::sample::is_stale(*v),
            RawValue::Histogram(h) => h.is_stale(),
        };
        (!stale).then_some(raw)
    }
}

/// Keeps the samples of the last `delta` milliseconds (`BufferedSeriesIterator`).
pub struct Buffered<'a> {
    cursor: Cursor<'a>,
    delta: i64,
    last_t: i64,
    valid: bool,
    buffer: Vec<Raw>,
}

impl<'a> Buffered<'a> {
    pub fn new(series: &'a RawSeries, delta: i64) -> Self {
        let mut cursor = Cursor::new(series);
        let valid = cursor.next();
        Self { cursor, delta, last_t: i64::MIN, valid, buffer: Vec::new() }
    }

    pub fn reduce_delta(&mut self, delta: i64) {
        if delta > self.delta {
            return;
        }
        self.delta = delta;
        if let Some(last) = self.buffer.last().map(|r| r.t) {
            self.buffer.retain(|r| r.t >= last - delta);
        }
    }

    fn seek(&mut self, t: i64) -> bool {
        let t0 = t - self.delta;
        if self.valid && t0 > self.last_t {
            self.buffer.clear();
            self.valid = self.cursor.seek(t0);
            if !self.valid {
                return false;
            }
            self.last_t = self.cursor.t();
        }
        if self.last_t >= t {
            return self.valid;
        }
        while self.valid {
            let raw = self.cursor.read();
            let oldest = raw.t - self.delta;
            self.buffer.push(raw);
            self.buffer.retain(|r| r.t >= oldest);
            self.valid = self.cursor.next();
            if self.valid {
                self.last_t = self.cursor.t();
                if self.last_t >= t {
                    return true;
                }
            }
        }
        false
    }

    /// What was buffered before `maxt`, and the sample at `maxt`.
    pub fn up_to(&mut self, maxt: i64) -> Vec<Raw> {
        let found = self.seek(maxt);
        let mut out = self.buffer.clone();
        if found && self.cursor.t() == maxt {
            out.push(self.cursor.read());
        }
        out
    }
}
