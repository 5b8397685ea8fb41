//! Window bounds: for every step, which samples of a column its window holds.

use super::WindowQuery;

/// A pointer into a rising column of times that moves forward with the steps.
///
/// It guesses that it moves as far as before, give or take one sample: with steps and scrapes both regular
/// that is right nearly always, also where scrapes wander across the steps, and one predictable branch per
/// step is all that is left.
pub(super) struct Cursor<'a> {
    times: &'a [i64],
    at: usize,
    stride: usize,
}

impl<'a> Cursor<'a> {
    /// A pointer before the first sample.
    pub(super) fn new(times: &'a [i64]) -> Self {
        Self { times, at: 0, stride: 0 }
    }

    /// The number of samples at or before `t`; `t` must not fall from call to call.
    #[inline(always)]
    pub(super) fn advance(&mut self, t: i64) -> usize {
        let guess = self.at + self.stride;
        if let Some(&[a, b, c, d]) = self.times.get(guess.wrapping_sub(2)..guess.wrapping_add(2))
            && a <= t
            && t < d
        {
            self.at = guess - 1 + usize::from(b <= t) + usize::from(c <= t);
            return self.at;
        }
        self.search(t)
    }

    fn search(&mut self, t: i64) -> usize {
        let from = self.at;
        let times = self.times;
        let mut i = from;
        let mut jump = 8;
        while i + jump <= times.len() && times[i + jump - 1] <= t {
            i += jump;
            jump *= 2;
        }
        let end = (i + jump).min(times.len());
        if end - i <= 8 {
            while i < end && times[i] <= t {
                i += 1;
            }
        } else {
            i += times[i..end].partition_point(|x| *x <= t);
        }
        self.at = i;
        self.stride = i - from;
        i
    }
}

/// For every step the number of samples at or before `first + k * step`.
fn counts(times: &[i64], first: i64, step: i64, out: &mut [u32]) {
    let mut cursor = Cursor::new(times);
    let mut t = first;
    for slot in out {
        *slot = cursor.advance(t) as u32;
        t = t.wrapping_add(step);
    }
}

/// Bounds of all windows of `query`: window `k` is `lo[k]..hi[k]`.
pub(super) fn windows(times: &[i64], query: &WindowQuery, lo: &mut Vec<u32>, hi: &mut Vec<u32>) {
    let grid = query.grid;
    let (back, ahead) = (query.back_ms(), query.ahead_ms());
    lo.clear();
    hi.clear();
    lo.resize(grid.steps, 0);
    hi.resize(grid.steps, 0);
    if grid.steps == 0 || times.is_empty() {
        return;
    }
    counts(times, grid.start.saturating_add(ahead), grid.step, hi);
    let length = back.saturating_add(ahead);
    let first = grid.start.saturating_sub(back);
    // A window that is a whole number of steps long starts where an earlier one ended.
    let shift = if grid.step > 0 && length % grid.step == 0 { length / grid.step } else { i64::MAX };
    if shift < grid.steps as i64 {
        let shift = shift as usize;
        counts(times, first, grid.step, &mut lo[..shift]);
        lo[shift..].copy_from_slice(&hi[..grid.steps - shift]);
    } else {
        counts(times, first, grid.step, lo);
    }
}
