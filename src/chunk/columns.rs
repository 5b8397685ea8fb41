//! Columns of decoded samples: what the decoders fill and the query engine reads.

use std::sync::Arc;

use tsdbctl_model::FloatHistogram;

/// Float samples of one series in strictly rising time order, stale markers included.
#[derive(Clone, Debug, Default)]
pub struct Floats {
    /// Unix milliseconds.
    pub t: Vec<i64>,
    /// Values; same length as `t`.
    pub v: Vec<f64>,
    /// Start timestamps in Unix milliseconds, 0 where unknown. Either empty (none known) or as long as `t`.
    pub st: Vec<i64>,
}

/// Histogram samples of one series in strictly rising time order, stale markers included.
#[derive(Clone, Debug, Default)]
pub struct Histograms {
    /// Unix milliseconds.
    pub t: Vec<i64>,
    /// Histograms; integer ones are converted, with absolute counts.
    pub h: Vec<Arc<FloatHistogram>>,
    /// Whether the stored sample had integer counts (the text of a dump differs).
    pub integer: Vec<bool>,
    /// Start timestamps, as [`Floats::st`].
    pub st: Vec<i64>,
}

/// The samples of one series; a time occurs in `floats` or in `histograms`, never in both.
#[derive(Clone, Debug, Default)]
pub struct SampleColumns {
    /// Float samples.
    pub floats: Floats,
    /// Histogram samples.
    pub histograms: Histograms,
}

impl Floats {
    /// Appends one sample; `st` 0 means unknown. `t` must be later than the last one.
    #[inline]
    pub fn push(&mut self, t: i64, v: f64, st: i64) {
        debug_assert!(self.t.last().is_none_or(|last| *last < t));
        self.add(t, v, st);
    }

    /// [`Floats::push`] of a time that may be there already, for who takes one of them out again.
    #[inline]
    pub fn add(&mut self, t: i64, v: f64, st: i64) {
        if st != 0 && self.st.is_empty() {
            self.st.resize(self.t.len(), 0);
        }
        if st != 0 || !self.st.is_empty() {
            self.st.push(st);
        }
        self.t.push(t);
        self.v.push(v);
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// Start timestamp of sample `i`, 0 where unknown.
    #[inline]
    pub fn start_timestamp(&self, i: usize) -> i64 {
        self.st.get(i).copied().unwrap_or(0)
    }

    /// Removes all samples, keeps the allocation.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `len` samples.
    pub fn truncate(&mut self, len: usize) {
        self.t.truncate(len);
        self.v.truncate(len);
        self.st.truncate(len);
    }
}

impl Histograms {
    /// Appends one sample; `st` 0 means unknown. `t` must be later than the last one.
    pub fn push(&mut self, t: i64, h: Arc<FloatHistogram>, integer: bool, st: i64) {
        debug_assert!(self.t.last().is_none_or(|last| *last < t));
        self.add(t, h, integer, st);
    }

    /// [`Histograms::push`] for what may overlap with what is there, until the caller merges it.
    pub fn add(&mut self, t: i64, h: Arc<FloatHistogram>, integer: bool, st: i64) {
        if st != 0 && self.st.is_empty() {
            self.st.resize(self.t.len(), 0);
        }
        if st != 0 || !self.st.is_empty() {
            self.st.push(st);
        }
        self.t.push(t);
        self.h.push(h);
        self.integer.push(integer);
    }

    /// Makes room for `count` more samples.
    pub fn reserve(&mut self, count: usize) {
        self.t.reserve(count);
        self.h.reserve(count);
        self.integer.reserve(count);
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// Start timestamp of sample `i`, 0 where unknown.
    #[inline]
    pub fn start_timestamp(&self, i: usize) -> i64 {
        self.st.get(i).copied().unwrap_or(0)
    }

    /// Removes all samples, keeps the allocation.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `len` samples.
    pub fn truncate(&mut self, len: usize) {
        self.t.truncate(len);
        self.h.truncate(len);
        self.integer.truncate(len);
        self.st.truncate(len);
    }
}

impl SampleColumns {
    /// Removes all samples, keeps the allocations.
    pub fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
    }

    /// Number of samples of both kinds.
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    /// Bytes held, for memory budgets; histograms by their true size.
    pub fn bytes(&self) -> usize {
        let (f, h) = (&self.floats, &self.histograms);
        (f.t.capacity() + f.v.capacity() + f.st.capacity() + h.t.capacity() + h.st.capacity()) * 8
            + h.h
                .iter()
                .map(|h| {
                    160 + 8
                        * (h.positive_buckets.len()
                            + h.negative_buckets.len()
                            + h.positive_spans.len()
                            + h.negative_spans.len())
                })
                .sum::<usize>()
    }
}
