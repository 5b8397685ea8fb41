//! Samples on their way to the head: gathered, looked at for their order in time, sorted where that is needed.

use tsdbctl_head::live::SeriesId;
use tsdbctl_model::histogram::ConvertedHistogram;
use tsdbctl_model::sample::Exemplar;

/// A sample that is more than a float.
#[derive(Clone, Debug)]
pub struct Other {
    /// How many of the floats stand before it.
    pub after: usize,
    /// The series.
    pub id: SeriesId,
    /// Unix ms.
    pub t: i64,
    /// Start timestamp, 0 for none.
    pub st: i64,
    /// What it is.
    pub value: OtherValue,
}

/// What is more than a float.
#[derive(Clone, Debug)]
pub enum OtherValue {
    /// A float with a start timestamp.
    Float(f64),
    /// A histogram.
    Histogram(Box<ConvertedHistogram>),
}

/// Samples in the order in which they were read, or by time once sorted.
#[derive(Debug, Default)]
pub struct Batch {
    /// Plain floats.
    pub floats: Vec<(SeriesId, i64, f64)>,
    /// The others.
    pub others: Vec<Other>,
    /// Exemplars; they go in behind all samples.
    pub exemplars: Vec<(SeriesId, Exemplar)>,
    /// Bytes of histograms and exemplars.
    heap_bytes: usize,
}

/// How the times of a batch follow on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The farthest that a sample lies behind one read before it, ms.
    pub back_ms: i64,
    /// Samples that follow one of their own series.
    pub runs: usize,
}

impl Batch {
    /// Adds a float.
    #[inline]
    pub fn float(&mut self, id: SeriesId, t: i64, v: f64, st: i64) {
        if st == 0 {
            self.floats.push((id, t, v));
        } else {
            let after = self.floats.len();
            self.others.push(Other { after, id, t, st, value: OtherValue::Float(v) });
        }
    }

    /// Adds a histogram.
    pub fn histogram(&mut self, id: SeriesId, t: i64, h: ConvertedHistogram, st: i64) {
        self.heap_bytes += match &h {
            ConvertedHistogram::Integer(h) => {
                8 * (h.positive_buckets.len() + h.negative_buckets.len() + h.positive_spans.len())
            }
            ConvertedHistogram::Float(h) => {
                8 * (h.positive_buckets.len() + h.negative_buckets.len() + h.positive_spans.len())
            }
        } + size_of::<ConvertedHistogram>();
        let after = self.floats.len();
        self.others.push(Other { after, id, t, st, value: OtherValue::Histogram(Box::new(h)) });
    }

    /// Adds an exemplar.
    pub fn exemplar(&mut self, id: SeriesId, exemplar: Exemplar) {
        self.heap_bytes += 64 + 96 * exemplar.labels.len();
        self.exemplars.push((id, exemplar));
    }

    /// Samples.
    #[inline]
    pub fn len(&self) -> usize {
        self.floats.len() + self.others.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.exemplars.is_empty()
    }

    /// Bytes it takes, with what sorting needs on top.
    pub fn bytes(&self) -> usize {
        let floats = self.floats.capacity() * size_of::<(SeriesId, i64, f64)>();
        let others = self.others.capacity() * size_of::<Other>();
        let exemplars = self.exemplars.capacity() * size_of::<(SeriesId, Exemplar)>();
        floats + floats / 2 + others + others / 2 + exemplars + self.heap_bytes
    }

    /// Looks at the times of the samples from `from` (floats, others) on; `high` is the newest time before them.
    pub fn order(&self, from: (usize, usize), high: &mut i64) -> Order {
        let mut order = Order::default();
        let mut last = None;
        let mut see = |id: SeriesId, t: i64| {
            order.back_ms = order.back_ms.max(high.saturating_sub(t));
            *high = (*high).max(t);
            order.runs += usize::from(last.is_some_and(|(i, before)| i == id && before < t));
            last = Some((id, t));
        };
        let mut next = from.0;
        for other in &self.others[from.1..] {
            for (id, t, _) in &self.floats[next..other.after.max(next)] {
                see(*id, *t);
            }
            next = other.after.max(next);
            see(other.id, other.t);
        }
        for (id, t, _) in &self.floats[next..] {
            see(*id, *t);
        }
        order
    }

    /// Puts everything in order of time; what has the same time keeps its order, floats and others each.
    pub fn sort(&mut self) {
        self.floats.sort_by_key(|f| f.1);
        self.others.sort_by_key(|o| o.t);
        self.exemplars.sort_by_key(|e| e.1.timestamp_ms);
        for other in &mut self.others {
            other.after = self.floats.partition_point(|f| f.1 <= other.t);
        }
    }

    /// Forgets everything and keeps the space, unless it is large.
    pub fn clear(&mut self) {
        const KEPT: usize = 1 << 16;
        self.floats.clear();
        self.floats.shrink_to(KEPT);
        self.others.clear();
        self.others.shrink_to(KEPT);
        self.exemplars.clear();
        self.exemplars.shrink_to(KEPT);
        self.heap_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(samples: &[(u32, i64, bool)]) -> Batch {
        let mut batch = Batch::default();
        for (id, t, plain) in samples {
            batch.float(SeriesId(*id), *t, *t as f64, if *plain { 0 } else { 1 });
        }
        batch
    }

    fn times(batch: &Batch) -> Vec<(u32, i64)> {
        let mut out = Vec::new();
        let mut next = 0;
        for o in &batch.others {
            out.extend(batch.floats[next..o.after].iter().map(|f| (f.0.0, f.1)));
            next = o.after;
            out.push((o.id.0, o.t));
        }
        out.extend(batch.floats[next..].iter().map(|f| (f.0.0, f.1)));
        out
    }

    #[test]
    fn order_tells_jumps_back_and_runs_of_a_series() {
        type Case = (&'static [(u32, i64, bool)], Order, i64);
        let cases: [Case; 5] = [
            (&[], Order::default(), i64::MIN),
            (&[(1, 5, true), (2, 5, true), (1, 6, false)], Order { back_ms: 0, runs: 0 }, 6),
            (&[(1, 5, true), (1, 9, false), (2, 5, true), (2, 9, true)], Order { back_ms: 4, runs: 2 }, 9),
            (&[(1, 5, false), (2, 1, false), (2, 3, true)], Order { back_ms: 4, runs: 1 }, 5),
            (&[(1, i64::MAX, true), (1, i64::MIN, true)], Order { back_ms: i64::MAX, runs: 0 }, i64::MAX),
        ];
        for (samples, want, newest) in cases {
            let mut high = i64::MIN;
            assert_eq!(batch(samples).order((0, 0), &mut high), want, "{samples:?}");
            assert_eq!(high, newest);
        }
        let mut high = 7;
        assert_eq!(batch(&[(1, 9, true), (1, 5, true)]).order((1, 0), &mut high).back_ms, 2);
    }

    #[test]
    fn sorted_samples_ascend_and_equal_ones_keep_their_order() {
        let mut state = 1u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..200 {
            let samples: Vec<(u32, i64, bool)> =
                (0..next(40)).map(|i| (i as u32, next(9) as i64, next(3) > 0)).collect();
            let mut b = batch(&samples);
            b.sort();
            let got = times(&b);
            assert!(got.is_sorted_by_key(|s| s.1), "{got:?}");
            let mut all: Vec<_> = samples.iter().map(|s| (s.0, s.1)).collect();
            all.sort_by_key(|s| s.1);
            let mut sorted = got.clone();
            sorted.sort();
            all.sort();
            assert_eq!(sorted, all);
            assert!(b.floats.is_sorted_by_key(|f| (f.1, f.0)));
        }
    }
}
