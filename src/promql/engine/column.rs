//! One series over all steps: values with presence bits, histograms apart.

use std::sync::Arc;

use tsdbctl_model::FloatHistogram;

/// A series' samples, one slot per step. A step has a float, or a histogram, or nothing.
///
/// `values[k]` means something only where bit `k` of `present` is set; NaN is a value like any other.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// One float per step.
    pub values: Vec<f64>,
    /// Bit `k % 64` of word `k / 64`: step `k` has a float. Bits behind the last step are 0.
    pub present: Vec<u64>,
    /// Histograms by rising step; their steps have no float.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

impl Column {
    /// An empty column of `steps` slots.
    pub fn new(steps: usize) -> Self {
        Self { values: vec![0.0; steps], present: vec![0; steps.div_ceil(64)], histograms: Vec::new() }
    }

    /// A column with the same float at every step.
    pub fn constant(steps: usize, value: f64) -> Self {
        let mut c = Self {
            values: vec![value; steps],
            present: vec![u64::MAX; steps.div_ceil(64)],
            histograms: Vec::new(),
        };
        c.mask_tail();
        c
    }

    fn mask_tail(&mut self) {
        if let (Some(last), rest @ 1..) = (self.present.last_mut(), self.values.len() % 64) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Empties the column and gives it `steps` slots, keeping allocations.
    pub fn reset(&mut self, steps: usize) {
        self.values.clear();
        self.values.resize(steps, 0.0);
        self.present.clear();
        self.present.resize(steps.div_ceil(64), 0);
        self.histograms.clear();
    }

    /// Number of steps.
    #[inline]
    pub fn steps(&self) -> usize {
        self.values.len()
    }

    /// Whether step `k` has a float.
    #[inline]
    pub fn has_float(&self, k: usize) -> bool {
        self.present[k / 64] >> (k % 64) & 1 != 0
    }

    /// The float at step `k`.
    #[inline]
    pub fn float(&self, k: usize) -> Option<f64> {
        self.has_float(k).then(|| self.values[k])
    }

    /// Sets the float at step `k`.
    #[inline]
    pub fn set_float(&mut self, k: usize, v: f64) {
        self.values[k] = v;
        self.present[k / 64] |= 1 << (k % 64);
    }

    /// Removes the float at step `k`.
    #[inline]
    pub fn clear_float(&mut self, k: usize) {
        self.present[k / 64] &= !(1 << (k % 64));
    }

    /// Appends a histogram; steps must rise from call to call.
    pub fn push_histogram(&mut self, k: usize, h: Arc<FloatHistogram>) {
        debug_assert!(self.histograms.last().is_none_or(|(last, _)| (*last as usize) < k));
        self.histograms.push((k as u32, h));
    }

    /// The histogram at step `k`.
    pub fn histogram(&self, k: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        self.histograms.binary_search_by_key(&(k as u32), |(s, _)| *s).ok().map(|i| &self.histograms[i].1)
    }

    /// Whether no step has a sample.
    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.present.iter().all(|w| *w == 0)
    }

    /// Whether every step has a float.
    pub fn is_dense(&self) -> bool {
        self.float_count() == self.steps()
    }

    /// Number of floats.
    pub fn float_count(&self) -> usize {
        self.present.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Number of samples of both kinds.
    pub fn len(&self) -> usize {
        self.float_count() + self.histograms.len()
    }

    /// The steps that have floats, rising.
    pub fn float_steps(&self) -> impl Iterator<Item = usize> + '_ {
        bits(&self.present)
    }

    /// Bytes held, for budgets; histograms by true size.
    pub fn bytes(&self) -> usize {
        self.values.capacity() * 8
            + self.present.capacity() * 8
            + self
                .histograms
                .iter()
                .map(|(_, h)| 192 + 8 * (h.positive_buckets.len() + h.negative_buckets.len()))
                .sum::<usize>()
    }
}

/// The set bits of a bitmap, rising.
pub fn bits(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(i, w)| {
        let mut w = *w;
        std::iter::from_fn(move || {
            (w != 0).then(|| {
                let b = w.trailing_zeros() as usize;
                w &= w - 1;
                i * 64 + b
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_behind_the_last_step_stay_clear() {
        let c = Column::constant(70, 1.0);
        assert_eq!(c.float_count(), 70);
        assert!(c.is_dense());
        assert_eq!(c.float_steps().last(), Some(69));
    }
}
