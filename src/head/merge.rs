//! Chunks that overlap in time, merged into one sample per time as upstream's `chainSampleIterator` does it:
//! of equal times the first met wins, and after a change of the source a histogram's hint is unknown.

use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::{CounterResetHint, FloatHistogram};

/// The samples of one chunk and how far they have been given out.
#[derive(Debug, Default)]
pub struct Stream {
    columns: SampleColumns,
    float: usize,
    histogram: usize,
    /// The sample `advance` went to: whether it is a float, and its index.
    current: Option<(bool, usize)>,
    t: i64,
}

impl Stream {
    /// Starts in front of the first sample.
    pub fn new(columns: SampleColumns) -> Self {
        Self { columns, ..Self::default() }
    }

    fn advance(&mut self) -> bool {
        let f = self.columns.floats.t.get(self.float).copied();
        let h = self.columns.histograms.t.get(self.histogram).copied();
        self.current = match (f, h) {
            (Some(f), h) if h.is_none_or(|h| f < h) => {
                (self.t, self.float) = (f, self.float + 1);
                Some((true, self.float - 1))
            }
            (_, Some(h)) => {
                (self.t, self.histogram) = (h, self.histogram + 1);
                Some((false, self.histogram - 1))
            }
            _ => None,
        };
        self.current.is_some()
    }
}

/// Go's `container/heap` over the streams' current times; which of equal times comes first depends on it.
struct Heap(Vec<usize>);

impl Heap {
    fn push(&mut self, stream: usize, time: impl Fn(usize) -> i64) {
        self.0.push(stream);
        let mut j = self.0.len() - 1;
        while j > 0 {
            let i = (j - 1) / 2;
            if time(self.0[j]) >= time(self.0[i]) {
                break;
            }
            self.0.swap(i, j);
            j = i;
        }
    }

    fn pop(&mut self, time: impl Fn(usize) -> i64) -> Option<usize> {
        let n = self.0.len().checked_sub(1)?;
        self.0.swap(0, n);
        let mut i = 0;
        loop {
            let left = 2 * i + 1;
            if left >= n {
                break;
            }
            let right = left + 1;
            let j = if right < n && time(self.0[right]) < time(self.0[left]) { right } else { left };
            if time(self.0[j]) >= time(self.0[i]) {
                break;
            }
            self.0.swap(i, j);
            i = j;
        }
        self.0.pop()
    }
}

/// Appends the merged samples of `streams` to `out`.
pub fn merge(streams: &mut [Stream], out: &mut SampleColumns) {
    let Some((first, others)) = streams.split_first_mut() else { return };
    let _ = first;
    let mut heap = Heap(Vec::with_capacity(others.len()));
    for i in 1..streams.len() {
        if streams[i].advance() {
            heap.push(i, |s| streams[s].t);
        }
    }
    let (mut current, mut last_t, mut changed) = (0, i64::MIN, true);
    loop {
        // One sample per turn.
        let t = loop {
            if streams[current].advance() {
                let t = streams[current].t;
                if t == last_t {
                    continue;
                }
                match heap.0.first() {
                    Some(top) if streams[*top].t <= t => heap.push(current, |s| streams[s].t),
                    _ => break t,
                }
            }
            match heap.pop(|s| streams[s].t) {
                Some(next) => current = next,
                None => return,
            }
            changed = true;
            if streams[current].t != last_t {
                break streams[current].t;
            }
        };
        let stream = &streams[current];
        match stream.current {
            Some((true, i)) => {
                out.floats.push(t, stream.columns.floats.v[i], stream.columns.floats.start_timestamp(i));
            }
            Some((false, i)) => {
                let from = &stream.columns.histograms;
                let h = if changed { unknown(&from.h[i]) } else { from.h[i].clone() };
                out.histograms.push(t, h, from.integer[i], from.start_timestamp(i));
            }
            None => {}
        }
        (last_t, changed) = (t, false);
    }
}

fn unknown(h: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match h.counter_reset_hint {
        CounterResetHint::Unknown | CounterResetHint::Gauge => h.clone(),
        _ => Arc::new(FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..(**h).clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(samples: &[(i64, f64)]) -> Stream {
        let mut c = SampleColumns::default();
        samples.iter().for_each(|(t, v)| c.floats.push(*t, *v, 0));
        Stream::new(c)
    }

    fn merged(mut streams: Vec<Stream>) -> Vec<(i64, f64)> {
        let mut out = SampleColumns::default();
        merge(&mut streams, &mut out);
        out.floats.t.into_iter().zip(out.floats.v).collect()
    }

    #[test]
    fn of_equal_times_one_sample_stays() {
        assert_eq!(
            merged(vec![floats(&[(1, 1.0), (3, 1.0)]), floats(&[(2, 2.0), (3, 2.0), (4, 2.0)])]),
            [(1, 1.0), (2, 2.0), (3, 1.0), (4, 2.0)]
        );
        // The first stream is compared before it is put into the heap, so the others win at their first sample.
        assert_eq!(merged(vec![floats(&[(1, 1.0), (2, 1.0)]), floats(&[(1, 2.0)])]), [(1, 2.0), (2, 1.0)]);
        assert_eq!(merged(vec![floats(&[]), floats(&[(5, 1.0)]), floats(&[])]), [(5, 1.0)]);
        assert_eq!(merged(vec![]), []);
    }

    #[test]
    fn a_histogram_behind_a_change_of_source_has_no_hint() {
        let h = |hint| Arc::new(FloatHistogram { counter_reset_hint: hint, ..Default::default() });
        let stream = |samples: &[(i64, CounterResetHint)]| {
            let mut c = SampleColumns::default();
            samples.iter().for_each(|(t, hint)| c.histograms.push(*t, h(*hint), true, 0));
            Stream::new(c)
        };
        use CounterResetHint::{Gauge, NotCounterReset as Not, Unknown};
        let mut streams =
            [stream(&[(1, Not), (2, Not), (4, Not), (5, Not)]), stream(&[(3, Not), (6, Gauge)])];
        let mut out = SampleColumns::default();
        merge(&mut streams, &mut out);
        let hints: Vec<_> = out.histograms.h.iter().map(|h| h.counter_reset_hint).collect();
        assert_eq!(out.histograms.t, [1, 2, 3, 4, 5, 6]);
        assert_eq!(hints, [Unknown, Not, Unknown, Unknown, Not, Gauge]);
    }
}
