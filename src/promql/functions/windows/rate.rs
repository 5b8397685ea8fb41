//! `rate`, `increase` and `delta` over floats: extrapolated to the window's edges, or from and to the edges
//! themselves under `anchored` and `smoothed`.

use super::pairs::{is_start_timestamp_reset, starts_before_previous};
use super::{FloatWindows, Notes, RangeFunction, WindowQuery, lanes};
use crate::engine::Column;

/// Steps that are extrapolated together.
const BLOCK: usize = 64;

/// What extrapolation needs of the windows of one block of steps, each fact in an array of its own.
pub(super) struct Block {
    /// The increase seen, then the result.
    increase: [f64; BLOCK],
    first_value: [f64; BLOCK],
    /// From the window's start to its first sample, ms.
    to_start: [i64; BLOCK],
    /// From the last sample to the window's end, ms.
    to_end: [i64; BLOCK],
    /// From the first to the last sample, ms.
    between: [i64; BLOCK],
    intervals: [i64; BLOCK],
}

/// 1.5 · 2^52: added to a small integer in the mantissa's last bits, gives the integer as a float exactly.
const SHIFTER: f64 = 6_755_399_441_055_744.0;

/// Ranges up to here are computed with [`small_to_f64`].
const SMALL_MS: i64 = 1 << 50;

/// The float of an integer between −2^51 and 2^51, exact, in operations that every vector unit has.
#[inline(always)]
fn small_to_f64(x: i64) -> f64 {
    f64::from_bits((x as u64).wrapping_add(SHIFTER.to_bits())) - SHIFTER
}

impl Block {
    fn new() -> Self {
        Self {
            increase: [0.0; BLOCK],
            first_value: [0.0; BLOCK],
            to_start: [0; BLOCK],
            to_end: [0; BLOCK],
            between: [1; BLOCK],
            intervals: [1; BLOCK],
        }
    }

    /// Turns increases into results.
    #[inline(always)]
    pub(super) fn extrapolate<const COUNTER: bool, const RATE: bool>(&mut self, range_seconds: f64) {
        for i in 0..BLOCK {
            let increase = self.increase[i];
            let to_start = small_to_f64(self.to_start[i]) / 1000.0;
            let to_end = small_to_f64(self.to_end[i]) / 1000.0;
            let between = small_to_f64(self.between[i]) / 1000.0;
            let average = between / small_to_f64(self.intervals[i]);
            let threshold = average * 1.1;
            let half = average / 2.0;
            let mut start = if to_start >= threshold { half } else { to_start };
            if COUNTER {
                let first = self.first_value[i];
                let to_zero = between * (first / increase);
                let clamp = (increase > 0.0) & (first >= 0.0) & (to_zero < start);
                start = if clamp { to_zero } else { start };
            }
            let end = if to_end >= threshold { half } else { to_end };
            let mut factor = (between + start + end) / between;
            if RATE {
                factor /= range_seconds;
            }
            self.increase[i] = increase * factor;
        }
    }
}

/// The factor that extrapolates what was seen between the first and the last sample to the window.
pub(super) struct Extrapolation {
    /// Window bounds, ms.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Times of the first and the last sample.
    pub(super) first: i64,
    pub(super) last: i64,
    /// Samples less one.
    pub(super) intervals: usize,
    /// Where the first sample began, if inside the window.
    pub(super) began: Option<i64>,
    /// First value and increase of a counter: the line through zero bounds the extrapolation.
    pub(super) to_zero: Option<(f64, f64)>,
}

impl Extrapolation {
    /// The factor; per second if `range_seconds` is given.
    pub(super) fn factor(&self, range_seconds: Option<f64>) -> f64 {
        let mut to_start = (self.first - self.start) as f64 / 1000.0;
        let mut to_end = (self.end - self.last) as f64 / 1000.0;
        let mut between = (self.last - self.first) as f64 / 1000.0;
        let average = if self.intervals > 0 { between / self.intervals as f64 } else { 0.0 };
        let threshold = average * 1.1;
        if let Some(began) = self.began {
            to_start = 0.0;
            between = (self.last - began) as f64 / 1000.0;
        } else {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some((first, increase)) = self.to_zero {
                let to_zero = between * (first / increase);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        let mut factor = 1.0;
        if between != 0.0 {
            factor = (between + to_start + to_end) / between;
        }
        if let Some(range_seconds) = range_seconds {
            factor /= range_seconds;
        }
        factor
    }
}

/// Positions of the samples that follow a counter reset.
fn find_resets(w: &FloatWindows, positions: &mut Vec<u32>) {
    positions.clear();
    let v = w.v;
    if !w.st.is_empty() {
        positions.extend((1..v.len()).filter(|i| w.is_reset(*i)).map(|i| i as u32));
        return;
    }
    let mut from = 1;
    while from < v.len() {
        let to = (from + 64).min(v.len());
        let fell = v[from..to].iter().zip(&v[from - 1..to - 1]).fold(false, |any, (b, a)| any | (b < a));
        if fell {
            positions.extend((from..to).filter(|i| v[*i] < v[*i - 1]).map(|i| i as u32));
        }
        from = to;
    }
}

/// Extrapolated `rate`, `increase`, `delta`.
pub(super) fn extrapolated(
    query: &WindowQuery,
    w: &FloatWindows,
    positions: &mut Vec<u32>,
    out: &mut Column,
    notes: &mut Notes,
) {
    positions.clear();
    if query.function != RangeFunction::Delta {
        find_resets(w, positions);
    }
    if !w.st.is_empty() || query.range_ms > SMALL_MS {
        return with_start_timestamps(query, w, positions, out, notes);
    }
    let seconds = query.range_seconds();
    let extrapolate = match query.function {
        RangeFunction::Rate => lanes::extrapolate::<true, true>,
        RangeFunction::Increase => lanes::extrapolate::<true, false>,
        _ => lanes::extrapolate::<false, false>,
    };
    let steps = out.values.len();
    let mut block = Block::new();
    let mut next_reset = 0;
    for (word, slot) in out.present.iter_mut().enumerate() {
        let from = word * BLOCK;
        let count = BLOCK.min(steps - from);
        let (lo, hi) = (&w.lo[from..from + count], &w.hi[from..from + count]);
        let mut bits = 0u64;
        let mut end = query.grid.time(from);
        for i in 0..count {
            let (a, b) = (lo[i] as usize, hi[i] as usize);
            if b >= a + 2 {
                let (first, last) = (w.t[a], w.t[b - 1]);
                let mut increase = w.v[b - 1] - w.v[a];
                if !positions.is_empty() {
                    while next_reset < positions.len() && positions[next_reset] as usize <= a {
                        next_reset += 1;
                    }
                    for p in &positions[next_reset..] {
                        if *p as usize >= b {
                            break;
                        }
                        increase += w.v[*p as usize - 1];
                    }
                }
                block.increase[i] = increase;
                block.first_value[i] = w.v[a];
                block.to_start[i] = first - (end - query.range_ms);
                block.to_end[i] = end - last;
                block.between[i] = last - first;
                block.intervals[i] = (b - a - 1) as i64;
                bits |= 1 << i;
            }
            end = end.wrapping_add(query.grid.step);
        }
        if bits != 0 {
            extrapolate(&mut block, seconds);
            out.values[from..from + count].copy_from_slice(&block.increase[..count]);
        }
        *slot = bits;
    }
}

/// The same where start timestamps (or absurd ranges) take part.
fn with_start_timestamps(
    query: &WindowQuery,
    w: &FloatWindows,
    resets: &[u32],
    out: &mut Column,
    notes: &mut Notes,
) {
    let counter = query.function != RangeFunction::Delta;
    let per_second = (query.function == RangeFunction::Rate).then(|| query.range_seconds());
    let st = |i: usize| w.start_timestamp(i);
    let overlaps: Vec<usize> = if w.st.is_empty() {
        Vec::new()
    } else {
        (1..w.v.len()).filter(|i| starts_before_previous(st(i - 1), w.t[i - 1], st(*i))).collect()
    };
    for k in 0..out.steps() {
        let window = w.window(k);
        let (a, b) = (window.start, window.end);
        if a == b {
            continue;
        }
        if !overlaps.is_empty() && overlaps.get(overlaps.partition_point(|i| *i <= a)).is_some_and(|i| *i < b)
        {
            notes.add_overlap();
        }
        let end = query.grid.time(k);
        let start = end.saturating_sub(query.range_ms);
        let mut increase = w.v[b - 1] - w.v[a];
        for p in &resets[resets.partition_point(|p| *p as usize <= a)..] {
            if *p as usize >= b {
                break;
            }
            increase += w.v[*p as usize - 1];
        }
        let began = Some(st(a)).filter(|s| counter && *s != 0 && *s > start && *s < w.t[a]);
        if began.is_some() {
            increase += w.v[a];
        } else if b - a < 2 {
            continue;
        }
        let factor = Extrapolation {
            start,
            end,
            first: w.t[a],
            last: w.t[b - 1],
            intervals: b - a - 1,
            began,
            to_zero: (counter && increase > 0.0 && w.v[a] >= 0.0).then_some((w.v[a], increase)),
        }
        .factor(per_second);
        out.set_float(k, increase * factor);
    }
}

/// The line through two samples at `t`; a counter that fell starts from 0.
pub(super) fn interpolate(left: (i64, f64), right: (i64, f64), t: i64, counter: bool) -> f64 {
    let (mut y1, y2) = (left.1, right.1);
    if counter && y2 < y1 {
        y1 = 0.0;
    }
    y1 + (y2 - y1) * (t - left.0) as f64 / (right.0 - left.0) as f64
}

/// The samples that an `anchored` or `smoothed` window of times `t` reaches from and to, if it measures
/// anything: indices of the one at the left and the one at the right edge.
pub(super) fn extended_edges(t: &[i64], start: i64, end: i64, smoothed: bool) -> Option<(usize, usize)> {
    let newest = t.len().checked_sub(1)?;
    let first = t[..newest].partition_point(|t| *t <= start).saturating_sub(1);
    let last = if smoothed { t[..newest].partition_point(|t| *t < end) } else { newest };
    (t[last] > start && !(smoothed && t[first] > end)).then_some((first, last))
}

/// `rate`, `increase`, `delta` under `anchored` and `smoothed`.
pub(super) fn extended(query: &WindowQuery, w: &FloatWindows, out: &mut Column) {
    let counter = query.function != RangeFunction::Delta;
    let smoothed = query.smoothed;
    for k in 0..out.steps() {
        let end = query.grid.time(k);
        let start = end.saturating_sub(query.range_ms);
        let (t, v) = (&w.t[w.window(k)], &w.v[w.window(k)]);
        let Some((mut first, last)) = extended_edges(t, start, end, smoothed) else { continue };
        let left = if smoothed && t[first] < start {
            interpolate((t[first], v[first]), (t[first + 1], v[first + 1]), start, counter)
        } else {
            v[first]
        };
        let right = if smoothed && last > 0 && t[last] > end {
            interpolate((t[last - 1], v[last - 1]), (t[last], v[last]), end, counter)
        } else {
            v[last]
        };
        let mut result = right - left;
        if counter {
            // Resets at the edges are in `left` and `right` already.
            if t[first] <= start {
                first += 1;
            }
            let behind = if t[last] >= end { last } else { last + 1 };
            let mut correction = 0.0;
            let mut before = left;
            for v in v.get(first..behind).unwrap_or(&[]) {
                if *v < before {
                    correction += before;
                }
                before = *v;
            }
            if right < before {
                correction += before;
            }
            result += correction;
        }
        if query.function == RangeFunction::Rate {
            result /= query.range_seconds();
        }
        out.set_float(k, result);
    }
}

/// Whether the pair `(i − 1, i)` of a column with start timestamps shows a reset.
pub(super) fn is_reset_by_start(t: &[i64], st: &[i64], i: usize) -> bool {
    match (st.get(i - 1), st.get(i)) {
        (Some(prev), Some(st)) => is_start_timestamp_reset(*prev, t[i - 1], *st, t[i]),
        _ => false,
    }
}
