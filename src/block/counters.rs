//! Counters of aggregate chunks: what is known of the true values, which the stored ones, that never fall, do not tell.
//!
//! The stored counter is ahead of the true one by what the counter had reached at each reset since the chunk began.
//! Of floats the largest value of a window tells how far: in a window without a reset it is the true value at the end. Of
//! native histograms the average tells it: it lies between the true values at the window's ends. Both bound how far ahead
//! the counter is between two resets, the tighter the more windows there are.
//!
//! Thanos takes the first sample of each raw chunk for a reset if a coarser schema comes later in the chunk it makes. Such a
//! counter is ahead, yet its averages go on where they were: such resets are undone.

use std::ops::Range;
use std::sync::Arc;

use tsdbctl_chunk::{Aggregate, AggregateChunk, ChunkError, Floats, SampleColumns, decode, decode_counter};
use tsdbctl_model::{CounterResetHint, FloatHistogram};

/// What rounding may make of a difference of values of this size.
fn rounding(of: f64) -> f64 {
    of.abs() * 1e-9
}

fn floats_of(chunk: &AggregateChunk<'_>, aggregate: Aggregate) -> Result<Floats, ChunkError> {
    let mut out = SampleColumns::default();
    if let Some((encoding, data)) = chunk.get(aggregate) {
        decode(encoding, data, i64::MIN, i64::MAX, &mut out)?;
    }
    Ok(out.floats)
}

/// Windows whose ends lie in `mint..=maxt`.
fn wanted(times: &[i64], mint: i64, maxt: i64) -> Range<usize> {
    let to = times.partition_point(|t| *t <= maxt);
    times[..to].partition_point(|t| *t < mint)..to
}

/// A chunk of floats.
struct FloatCounter {
    /// Time and value of the first sample.
    first: (i64, f64),
    /// Ends of the windows.
    t: Vec<i64>,
    /// The stored counter there.
    counter: Vec<f64>,
    /// The true one there, as far as is known.
    truth: Vec<f64>,
    /// How often it fell in each window, at least.
    falls: Vec<usize>,
    min: Vec<f64>,
    max: Vec<f64>,
}

impl FloatCounter {
    /// None if the parts do not belong together, or not all is finite.
    fn of(stored: &Floats, count: Floats, min: Floats, max: Floats) -> Option<Self> {
        let n = max.len();
        let is_whole = n > 0 && stored.len() == n + 2 && stored.t[1..=n] == max.t && min.t == max.t;
        let is_finite = |f: &Floats| f.v.iter().all(|v| v.is_finite());
        if !is_whole || count.t != max.t || ![stored, &min, &max].into_iter().all(is_finite) {
            return None;
        }
        let counter = stored.v[1..=n].to_vec();
        let (mut truth, mut falls) = (Vec::with_capacity(n), Vec::with_capacity(n));
        // How far the counter is ahead, at least and at most, and the least the true value was before.
        let (mut before, mut ahead) = (stored.v[0], (0.0, 0.0));
        let least = |i: usize| match counter.get(i) {
            Some(c) => c - max.v[i],
            None => counter[n - 1] - stored.v[n + 1],
        };
        for (i, &value) in counter.iter().enumerate() {
            let slack = rounding(value.abs().max(max.v[i].abs()));
            let has_fallen =
                |i: usize, ahead: f64, before: f64| least(i) > ahead + slack || min.v[i] < before - slack;
            let fell = has_fallen(i, ahead.1, before);
            let now = if i + 1 == n {
                (least(n), least(n))
            } else if fell {
                // Without a fall in the next window it is what that one says.
                let next = least(i + 1);
                let goes_on = !has_fallen(i + 1, next, value - next) && least(i + 2) <= next + slack;
                (if goes_on { next } else { least(i).max(ahead.0) }, next.max(least(i)))
            } else {
                ahead
            };
            let fallen_from = now.0 - ahead.1;
            let highest = max.v[i].max(before);
            let at_least = if highest > 0.0 { (fallen_from / highest - 1e-6).ceil().max(1.0) } else { 1.0 };
            let is_fall = if i + 1 == n { fell || fallen_from > slack } else { fell };
            falls.push(if is_fall { at_least.min(count.v[i].max(1.0)) as usize } else { 0 });
            let now = if is_fall { now } else { ahead };
            before = (value - now.1).clamp(min.v[i].min(max.v[i]), max.v[i]);
            truth.push(before);
            ahead = now;
        }
        let first = (stored.t[0], stored.v[0]);
        Some(Self { first, t: max.t, counter, truth, falls, min: min.v, max: max.v })
    }

    /// The counter, and its true values at both ends: two samples at one time.
    fn counter(&self, mint: i64, maxt: i64, out: &mut Floats) {
        let wanted = wanted(&self.t, mint, maxt);
        let (Some(from), Some(to)) = (self.t.get(wanted.start), wanted.end.checked_sub(1)) else { return };
        if wanted.is_empty() {
            return;
        }
        match self.first {
            (t, v) if wanted.start == 0 && t >= mint => out.add(t, v, 0),
            _ => out.add(*from, self.truth[wanted.start], 0),
        }
        for i in wanted {
            out.add(self.t[i], self.counter[i], 0);
        }
        out.add(self.t[to], self.truth[to], 0);
    }

    /// Samples that rise and fall as often as is known.
    fn movements(&self, mint: i64, maxt: i64, out: &mut Floats) {
        let wanted = wanted(&self.t, mint, maxt);
        let mut last = mint.saturating_sub(1);
        if wanted.start == 0 && !wanted.is_empty() && self.first.0 >= mint && self.first.0 < self.t[0] {
            out.push(self.first.0, self.first.1, 0);
            last = self.first.0;
        }
        for i in wanted {
            let before = if i == 0 { self.first.1 } else { self.truth[i - 1] };
            let (end, low, high, mut falls) = (self.truth[i], self.min[i], self.max[i], self.falls[i]);
            let end = if falls == 0 { end.max(before) } else { end };
            let mut within: Vec<f64> = Vec::new();
            while falls > 1 && high > low {
                within.extend([high, low]);
                falls -= 1;
            }
            let at = within.last().copied().unwrap_or(before);
            match falls {
                0 if low >= before && low < end => within.push(low),
                0 => {}
                // One fall is left to be made on the way to the end.
                _ if end < high && high >= at => within.push(high),
                _ if end >= at && low < at => within.push(low),
                _ => {}
            }
            // Each at a time of its own.
            let room = self.t[i].saturating_sub(last).saturating_sub(1).max(0) as usize;
            let within = &within[..within.len().min(room)];
            for (k, v) in within.iter().enumerate() {
                out.push(self.t[i] - (within.len() - k) as i64, *v, 0);
            }
            out.push(self.t[i], end, 0);
            last = self.t[i];
        }
    }
}

/// Windows between two resets of a counter of histograms.
#[derive(Clone, Debug)]
struct Run {
    windows: Range<usize>,
    /// How far the stored counter is ahead, by count of observations.
    ahead: (f64, f64),
}

/// A chunk of native histograms.
struct HistogramCounter {
    t: Vec<i64>,
    counter: Vec<Arc<FloatHistogram>>,
    average: Vec<FloatHistogram>,
    runs: Vec<Run>,
    /// Windows of false resets, whose rise is an estimate.
    estimated: Vec<usize>,
}

impl HistogramCounter {
    /// None if the parts do not belong together, or it is no counter.
    fn of(chunk: &AggregateChunk<'_>) -> Result<Option<Self>, ChunkError> {
        let mut parts = [SampleColumns::default(), SampleColumns::default()];
        for (aggregate, out) in [Aggregate::Counter, Aggregate::Sum].into_iter().zip(&mut parts) {
            if let Some((encoding, data)) = chunk.get(aggregate) {
                decode(encoding, data, i64::MIN, i64::MAX, out)?;
            }
        }
        let count = floats_of(chunk, Aggregate::Count)?;
        let [counter, sums] = parts.map(|part| part.histograms);
        let is_gauge = counter.h.first().is_none_or(|h| h.counter_reset_hint == CounterResetHint::Gauge);
        let is_whole = counter.t == sums.t && counter.t == count.t && count.v.iter().all(|n| *n > 0.0);
        if is_gauge || !is_whole {
            return Ok(None);
        }
        let average = sums.h.iter().zip(&count.v).map(|(sum, n)| {
            let mut sum = FloatHistogram::clone(sum);
            sum.div(*n);
            sum
        });
        let average = average.collect();
        let (runs, estimated) = (Vec::new(), Vec::new());
        let mut all = Self { average, t: counter.t, counter: counter.h, runs, estimated };
        all.undo_false_resets();
        all.runs = all.find_runs();
        Ok(Some(all))
    }

    fn stored(&self, i: usize) -> f64 {
        self.counter[i].count
    }

    /// How far the counter rises in window `i`, as stored.
    fn rise(&self, i: usize) -> f64 {
        self.stored(i) - i.checked_sub(1).map_or(0.0, |before| self.stored(before))
    }

    /// Whether the stored counter rose in window `i` by what it had before, or more, while its averages went on.
    fn is_false_reset(&self, i: usize) -> bool {
        let average = |i: usize| self.average.get(i).map(|h| h.count);
        let Some(own) = average(i) else { return false };
        let before = i.checked_sub(1).and_then(average);
        let (was, is) = (before.unwrap_or(own), average(i + 1).unwrap_or(own));
        let pairs =
            [(i.checked_sub(2), i.checked_sub(1)), (i.checked_sub(1), Some(i)), (Some(i + 1), Some(i + 2))];
        let usual = pairs.into_iter().filter_map(|(a, b)| Some((average(b?)? - average(a?)?).abs()));
        let usual = usual.fold(f64::INFINITY, f64::min);
        // From nothing no counter rises in one window to what it had before, unless that was little.
        let goes_on = own >= was && is >= own && was > 2.5 * usual;
        let rise = self.rise(i);
        match before {
            Some(_) => goes_on && rise >= 0.9 * was && is - was < rise / 2.0,
            None => goes_on && rise >= 1.9 * own,
        }
    }

    /// Takes what false resets added out of the counter.
    fn undo_false_resets(&mut self) {
        let n = self.t.len();
        let wrong: Vec<usize> = (0..n).filter(|i| self.is_false_reset(*i)).collect();
        if wrong.is_empty() {
            return;
        }
        let mut counter: Vec<Arc<FloatHistogram>> = Vec::with_capacity(n);
        for i in 0..n {
            let right = match counter.last() {
                // No reset yet: it is the true value, as it is between two averages.
                None if wrong.contains(&i) => Some(mean(&self.average[i], self.average.get(i + 1))),
                None => None,
                Some(before) if wrong.contains(&i) => {
                    let next = (i + 1).min(n - 1);
                    let windows = (next + 1 - i) as f64;
                    rise_between(&self.average[i - 1], &self.average[next], 1.0 / windows).and_then(
                        |mut rise| {
                            rise.add(before).ok()?;
                            Some(rise)
                        },
                    )
                }
                Some(before) => {
                    rise_between(&self.counter[i - 1], &self.counter[i], 1.0).and_then(|mut rise| {
                        rise.add(before).ok()?;
                        Some(rise)
                    })
                }
            };
            counter.push(right.map_or_else(|| Arc::clone(&self.counter[i]), Arc::new));
        }
        self.counter = counter;
        self.estimated = wrong;
    }

    /// How far the counter is ahead in a window without a reset.
    fn ahead(&self, i: usize) -> (f64, f64) {
        let low = i.checked_sub(1).map_or(0.0, |before| self.stored(before) - self.average[i].count);
        (low.max(0.0), (self.stored(i) - self.average[i].count).max(0.0))
    }

    fn find_runs(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut run = Run { windows: 0..0, ahead: (0.0, 0.0) };
        for i in 0..self.t.len() {
            let (low, high) = self.ahead(i);
            let both = (low.max(run.ahead.0), high.min(run.ahead.1));
            if both.0 <= both.1 + rounding(self.stored(i)) {
                run.windows.end = i + 1;
                if both.0 <= both.1 {
                    run.ahead = both;
                }
            } else {
                // There was a reset in this window, or late in the one before.
                let next = Run { windows: i..i + 1, ahead: (run.ahead.0, self.stored(i)) };
                runs.push(std::mem::replace(&mut run, next));
            }
        }
        runs.push(run);
        runs
    }

    fn run_of(&self, i: usize) -> Option<(usize, &Run)> {
        self.runs.iter().enumerate().find(|(_, run)| run.windows.contains(&i))
    }

    /// Whether the counter is the true one at the end of window `i`: nothing has fallen yet.
    fn is_true(&self, i: usize) -> bool {
        self.run_of(i).is_some_and(|(k, _)| k == 0) && self.estimated.iter().all(|w| *w > i)
    }

    /// What the true counter is at the end of window `i` at least, or at most.
    fn truth(&self, i: usize, at_most: bool) -> Option<FloatHistogram> {
        if self.is_true(i) {
            return Some(FloatHistogram::clone(&self.counter[i]));
        }
        let (k, run) = self.run_of(i)?;
        // The window in which a run begins has samples of both.
        let begin = if k == 0 { 0 } else { run.windows.start + 1 };
        let guessed = self.estimated.iter().filter(|w| **w <= i).max().map_or(0, |w| w + 1);
        let clean = begin.max(guessed).max(1)..run.windows.end.min(i + 1);
        let Some(quietest) = clean.min_by(|a, b| self.rise(*a).total_cmp(&self.rise(*b))) else {
            let next = if i + 1 < run.windows.end { i + 1 } else { i };
            let mut truth = self.average[if at_most { next } else { i }].clone();
            if !at_most && i < begin {
                truth.mul(0.0);
            }
            return Some(truth);
        };
        let mut truth = FloatHistogram::clone(&self.counter[i]);
        truth.sub(&self.counter[if at_most { quietest - 1 } else { quietest }]).ok()?;
        truth.add(&self.average[quietest]).ok()?;
        Some(truth)
    }

    /// The counter, and its true values at both ends: two samples at one time.
    fn counter(&self, mint: i64, maxt: i64, out: &mut SampleColumns) {
        let wanted = wanted(&self.t, mint, maxt);
        let Some(to) = wanted.end.checked_sub(1).filter(|_| !wanted.is_empty()) else { return };
        let mut push = |t: i64, mut h: Arc<FloatHistogram>, is_first: bool| {
            let hint = if is_first { CounterResetHint::Unknown } else { CounterResetHint::NotCounterReset };
            if h.counter_reset_hint != hint {
                Arc::make_mut(&mut h).counter_reset_hint = hint;
            }
            out.histograms.add(t, h, false, 0);
        };
        let from = wanted.start;
        let mut is_first = true;
        if from > 0
            && let Some(truth) = self.truth(from, true)
        {
            push(self.t[from], Arc::new(truth), std::mem::take(&mut is_first));
        }
        for i in wanted {
            push(self.t[i], Arc::clone(&self.counter[i]), std::mem::take(&mut is_first));
        }
        if !self.is_true(to)
            && let Some(truth) = self.truth(to, false)
        {
            push(self.t[to], Arc::new(truth), false);
        }
    }

    /// Averages that say where there was a reset.
    fn movements(&self, mint: i64, maxt: i64, out: &mut SampleColumns) {
        for i in wanted(&self.t, mint, maxt) {
            let mut h = self.average[i].clone();
            h.counter_reset_hint = match i {
                0 => CounterResetHint::Unknown,
                _ if self.runs.iter().skip(1).any(|run| run.windows.start == i) => {
                    CounterResetHint::CounterReset
                }
                _ => CounterResetHint::NotCounterReset,
            };
            out.histograms.push(self.t[i], Arc::new(h), false, 0);
        }
    }
}

fn mean(a: &FloatHistogram, b: Option<&FloatHistogram>) -> FloatHistogram {
    let mut mean = a.clone();
    if b.is_some_and(|b| mean.add(b).is_ok()) {
        mean.mul(0.5);
    }
    mean
}

/// What `later` has more than `earlier`, by a factor.
fn rise_between(earlier: &FloatHistogram, later: &FloatHistogram, factor: f64) -> Option<FloatHistogram> {
    let mut rise = later.clone();
    rise.sub(earlier).ok()?;
    rise.mul(factor);
    Some(rise)
}

/// Appends the samples of [`tsdbctl_storage::WindowValue::Counter`] in `mint..=maxt`.
pub(crate) fn decode_counters(
    chunk: &AggregateChunk<'_>,
    mint: i64,
    maxt: i64,
    out: &mut SampleColumns,
) -> Result<(), ChunkError> {
    let Some((encoding, data)) = chunk.get(Aggregate::Counter) else { return Ok(()) };
    if chunk.is_histogram() {
        match HistogramCounter::of(chunk)? {
            Some(counter) => counter.counter(mint, maxt, out),
            None => decode(encoding, data, mint, maxt, out)?,
        }
        return Ok(());
    }
    let mut stored = Floats::default();
    decode_counter(encoding, data, &mut stored)?;
    let within = wanted(&stored.t, mint, maxt);
    if within.len() < stored.len() {
        // True values are wanted inside of the chunk.
        let [count, min, max] = float_parts(chunk)?;
        if let Some(counter) = FloatCounter::of(&stored, count, min, max) {
            counter.counter(mint, maxt, &mut out.floats);
            return Ok(());
        }
    }
    within.for_each(|i| out.floats.add(stored.t[i], stored.v[i], 0));
    Ok(())
}

/// Appends the samples of [`tsdbctl_storage::WindowValue::Movements`] in `mint..=maxt`; false if there are none to be had.
pub(crate) fn decode_movements(
    chunk: &AggregateChunk<'_>,
    mint: i64,
    maxt: i64,
    out: &mut SampleColumns,
) -> Result<bool, ChunkError> {
    let Some((encoding, data)) = chunk.get(Aggregate::Counter) else { return Ok(false) };
    if chunk.is_histogram() {
        let counter = HistogramCounter::of(chunk)?;
        if let Some(counter) = &counter {
            counter.movements(mint, maxt, out);
        }
        return Ok(counter.is_some());
    }
    let mut stored = Floats::default();
    decode_counter(encoding, data, &mut stored)?;
    let [count, min, max] = float_parts(chunk)?;
    let counter = FloatCounter::of(&stored, count, min, max);
    if let Some(counter) = &counter {
        counter.movements(mint, maxt, &mut out.floats);
    }
    Ok(counter.is_some())
}

fn float_parts(chunk: &AggregateChunk<'_>) -> Result<[Floats; 3], ChunkError> {
    Ok([
        floats_of(chunk, Aggregate::Count)?,
        floats_of(chunk, Aggregate::Min)?,
        floats_of(chunk, Aggregate::Max)?,
    ])
}
