//! Upstream's sample counts, derived from counts per step: what `--max-samples` limits and `stats` shows.
//!
//! Upstream holds whole matrices and counts each float as one sample and each histogram as
//! `(Size + 8) / 16`; nodes that evaluate step by step (`rangeEval`) also count what they gather and give
//! back at the step. Operators here stream, so they note counts per step while they run, and the peak is
//! derived from them at the end.

use tsdbctl_model::FloatHistogram;

use super::column::Column;

/// Samples a stored histogram counts for (`HPoint.size`).
pub fn histogram_samples(h: &FloatHistogram) -> i64 {
    ((h.size() + 8) / 16) as i64
}

/// Samples per step over many columns; columns that are full everywhere cost one addition.
#[derive(Clone, Debug, Default)]
pub struct StepCounts {
    dense: i64,
    per_step: Vec<i64>,
    total: i64,
}

impl StepCounts {
    /// Adds a column: 1 for each float, `weigh(histogram)` for each histogram.
    pub fn add(&mut self, column: &Column, weigh: impl Fn(&FloatHistogram) -> i64) {
        let floats = column.float_count();
        self.total += floats as i64;
        if floats == column.steps() {
            self.dense += 1;
            return;
        }
        if self.per_step.is_empty() {
            self.per_step = vec![0; column.steps()];
        }
        for k in column.float_steps() {
            self.per_step[k] += 1;
        }
        for (k, h) in &column.histograms {
            let n = weigh(h);
            self.per_step[*k as usize] += n;
            self.total += n;
        }
    }

    /// Adds `n` samples at step `k` of `steps`.
    pub fn add_at(&mut self, k: usize, steps: usize, n: i64) {
        if self.per_step.is_empty() {
            self.per_step = vec![0; steps];
        }
        self.per_step[k] += n;
        self.total += n;
    }

    /// Samples at step `k`.
    pub fn at(&self, k: usize) -> i64 {
        self.dense + self.per_step.get(k).copied().unwrap_or(0)
    }

    /// Samples at all steps.
    pub fn total(&self) -> i64 {
        self.total
    }
}

/// The counts of a node that upstream evaluates with `rangeEval`.
#[derive(Clone, Debug, Default)]
pub struct RangeEvalCounts {
    /// Samples gathered from all inputs (1 each).
    pub gathered: StepCounts,
    /// Samples of the result at each step (histograms 1 + size / 16).
    pub results: StepCounts,
    /// Samples of the finished matrix.
    pub matrix: i64,
}

impl RangeEvalCounts {
    /// Notes an input column.
    pub fn gather(&mut self, column: &Column) {
        self.gathered.add(column, |_| 1);
    }

    /// Notes a result column.
    pub fn give(&mut self, column: &Column) {
        self.results.add(column, |h| 1 + (h.size() / 16) as i64);
        self.matrix += column.float_count() as i64
            + column.histograms.iter().map(|(_, h)| histogram_samples(h)).sum::<i64>();
    }

    /// Replays the steps: `before` samples when the node started, `current` after its inputs.
    pub fn replay(&self, before: i64, current: i64, steps: usize, peak: &mut i64) -> i64 {
        let mut held = current;
        for k in 0..steps {
            *peak = (*peak).max(held + self.gathered.at(k));
            *peak = (*peak).max(held + self.gathered.at(k) + self.results.at(k));
            held += self.results.at(k);
        }
        let end = before + self.matrix;
        *peak = (*peak).max(end);
        end
    }
}

/// Queryable and read samples per step.
#[derive(Clone, Debug, Default)]
pub struct StepStats {
    /// Window sizes (`totalQueryableSamples`).
    pub total: Vec<i64>,
    /// Samples read, each once.
    pub read: Vec<i64>,
}

impl StepStats {
    /// No samples at `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self { total: vec![0; steps], read: vec![0; steps] }
    }

    /// No samples at `steps` steps, the bytes taken from the budget.
    ///
    /// # Errors
    /// If the budget does not have them.
    pub fn held(steps: usize, ev: &super::operator::Eval) -> Result<Self, super::error::QueryError> {
        ev.hold("sample counts per step", steps.saturating_mul(16))?;
        Ok(Self::new(steps))
    }

    /// Adds the counts of another node on the same grid.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in self.total.iter_mut().zip(&other.total) {
            *a += b;
        }
        for (a, b) in self.read.iter_mut().zip(&other.read) {
            *a += b;
        }
    }

    /// The sum over `inputs` on a grid of `steps`.
    pub fn of_inputs(inputs: &[&dyn super::operator::Operator], steps: usize) -> Self {
        let mut sum = Self::new(steps);
        for input in inputs {
            sum.add(&input.step_stats());
        }
        sum
    }
}
