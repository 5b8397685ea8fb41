//! Quantiles and fractions of classic histograms: cumulative counts per upper bound.
//!
//! The counts of a scrape may be torn or rounded, so they are made monotonic first; how much had to be
//! repaired is told in an info that upstream adds up over a query (see [`Repairs`]).

use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{Span, go_math};
use tsdbctl_storage::annotations::{Annotation, Detail};

use super::ScalarArg;
use super::order::go_sort;
use crate::engine::column::Column;

/// Relative differences between neighbours below this are taken for rounding.
const SMALL_DELTA_TOLERANCE: f64 = 1e-12;

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// `le`
    pub upper_bound: f64,
    /// Observations up to the bound.
    pub count: f64,
}

/// Where counts fell from one bucket to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repair {
    /// Lowest bound repaired.
    pub min_bucket: f64,
    /// Highest bound repaired.
    pub max_bucket: f64,
    /// Largest fall.
    pub max_diff: f64,
}

/// Whether two numbers differ by less than `epsilon` of their sum (`almost.Equal` upstream).
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < epsilon * f64::MIN_POSITIVE;
    }
    diff / go_math::min(sum, f64::MAX) < epsilon
}

/// [`almost_equal`] within the tolerance for buckets, without its division where it is plain to see.
#[inline]
fn is_rounding(a: f64, b: f64) -> bool {
    let sum = a.abs() + b.abs();
    // Twice the tolerance is farther from it than the division could round; NaN and infinities fall through.
    if (a - b).abs() > 2.0 * SMALL_DELTA_TOLERANCE * sum && sum > 1e-280 {
        return false;
    }
    almost_equal(a, b, SMALL_DELTA_TOLERANCE)
}

/// Makes `count(0) ..= count(n - 1)` monotonic; a fall is lifted to the count before.
#[inline]
fn make_monotonic(counts: &mut [f64], bounds: impl Fn(usize) -> f64) -> Option<Repair> {
    let mut repair: Option<Repair> = None;
    let mut previous = counts[0];
    for (i, count) in counts.iter_mut().enumerate().skip(1) {
        let current = *count;
        if current == previous {
            continue;
        }
        if is_rounding(previous, current) {
            *count = previous;
            continue;
        }
        if current < previous {
            *count = previous;
            let bound = bounds(i);
            let r = repair.get_or_insert(Repair {
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_diff: 0.0,
            });
            if bound < r.min_bucket {
                r.min_bucket = bound;
            }
            if bound > r.max_bucket {
                r.max_bucket = bound;
            }
            if previous - current > r.max_diff {
                r.max_diff = previous - current;
            }
            continue;
        }
        previous = current;
    }
    repair
}

/// The quantile of monotonic counts with rising bounds, the last of them +Inf; `q` is in 0 to 1.
#[inline]
fn interpolate(q: f64, bounds: &[f64], counts: &[f64]) -> f64 {
    let last = bounds.len() - 1;
    if last == 0 {
        return f64::NAN;
    }
    let observations = counts[last];
    if observations == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * observations;
    // Go's binary search; NaN counts would make a plain scan differ.
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = usize::midpoint(low, high);
        if counts[middle] >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let b = low;
    if b == last {
        return bounds[last - 1];
    }
    if b == 0 && bounds[0] <= 0.0 {
        return bounds[0];
    }
    let end = bounds[b];
    let mut start = 0.0;
    let mut count = counts[b];
    if b > 0 {
        start = bounds[b - 1];
        count -= counts[b - 1];
        rank -= counts[b - 1];
    }
    start + (end - start) * (rank / count)
}

/// What a `q` outside 0 to 1 gives, whatever the buckets.
#[inline]
fn degenerate(q: f64) -> Option<f64> {
    if q.is_nan() {
        Some(f64::NAN)
    } else if q < 0.0 {
        Some(f64::NEG_INFINITY)
    } else if q > 1.0 {
        Some(f64::INFINITY)
    } else {
        None
    }
}

/// Buffers that calculations reuse.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    buckets: Vec<Bucket>,
    bounds: Vec<f64>,
    counts: Vec<f64>,
}

fn sort_buckets(buckets: &mut [Bucket]) {
    go_sort(buckets, |a, b| a.upper_bound < b.upper_bound);
}

/// Adds up neighbours of one bound, leaving them in front; says how many are left. What lies behind stays
/// as it was, which a second quantile of the same buckets sees upstream.
fn coalesce(buckets: &mut [Bucket]) -> usize {
    let mut kept = 0;
    let mut last = buckets[0];
    for i in 1..buckets.len() {
        let b = buckets[i];
        if b.upper_bound == last.upper_bound {
            last.count += b.count;
        } else {
            buckets[kept] = last;
            last = b;
            kept += 1;
        }
    }
    buckets[kept] = last;
    kept + 1
}

/// The quantile `q` of buckets in any order (`BucketQuantile` upstream). Changes the buckets, as upstream
/// does between the quantiles of one `histogram_quantiles`.
pub fn bucket_quantile(q: f64, buckets: &mut [Bucket], buffers: &mut Buffers) -> (f64, Option<Repair>) {
    if let Some(v) = degenerate(q) {
        return (v, None);
    }
    if buckets.is_empty() {
        return (f64::NAN, None);
    }
    sort_buckets(buckets);
    if buckets[buckets.len() - 1].upper_bound != f64::INFINITY {
        return (f64::NAN, None);
    }
    let n = coalesce(buckets);
    let Buffers { bounds, counts, .. } = buffers;
    bounds.clear();
    counts.clear();
    bounds.extend(buckets[..n].iter().map(|b| b.upper_bound));
    counts.extend(buckets[..n].iter().map(|b| b.count));
    let repair = make_monotonic(counts, |i| bounds[i]);
    for (b, count) in buckets.iter_mut().zip(counts.iter()) {
        b.count = *count;
    }
    (interpolate(q, bounds, counts), repair)
}

/// Which part of the observations lies between `lower` and `upper` (`BucketFraction` upstream).
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut [Bucket]) -> f64 {
    sort_buckets(buckets);
    if buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
        return f64::NAN;
    }
    let n = coalesce(buckets);
    let buckets = &buckets[..n];
    let count = buckets[n - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut rank = 0.0;
    let (mut lower_rank, mut upper_rank) = (None, None);
    // Buckets above zero only start at zero.
    let mut start = if buckets[0].upper_bound <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for b in buckets {
        let end = b.upper_bound;
        let interpolated = |v: f64| {
            if start == f64::NEG_INFINITY {
                b.count
            } else {
                rank + (b.count - rank) * (v - start) / (end - start)
            }
        };
        if lower_rank.is_none() && start >= lower {
            lower_rank = Some(rank);
        }
        if upper_rank.is_none() && start >= upper {
            upper_rank = Some(rank);
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        if lower_rank.is_none() && start < lower && end > lower {
            lower_rank = Some(interpolated(lower));
        }
        if upper_rank.is_none() && start < upper && end > upper {
            upper_rank = Some(interpolated(upper));
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = b.count;
        start = end;
    }
    let capped = |rank: Option<f64>| match rank {
        Some(rank) if rank > count => count,
        Some(rank) => rank,
        None => count,
    };
    (capped(upper_rank) - capped(lower_rank)) / count
}

/// The repairs of one `histogram_quantile` over all its groups and steps (under delayed name removal: of
/// one metric name), which become one info.
///
/// Upstream counts them wrongly, and this repeats it: its sum goes through two maps that share the entry,
/// so every step after the first with a repair doubles what there is, wrapping at 64 bits.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    /// Repairs by step; empty until there is one.
    by_step: Vec<u32>,
    worst: Option<Repair>,
}

impl Repairs {
    /// Notes a repair at step `k`.
    pub fn add(&mut self, k: usize, repair: Repair) {
        if self.by_step.len() <= k {
            self.by_step.resize(k + 1, 0);
        }
        self.by_step[k] += 1;
        match &mut self.worst {
            None => self.worst = Some(repair),
            Some(w) => {
                w.min_bucket = w.min_bucket.min(repair.min_bucket);
                w.max_bucket = w.max_bucket.max(repair.max_bucket);
                w.max_diff = w.max_diff.max(repair.max_diff);
            }
        }
    }

    /// Adds what another worker has found.
    pub fn merge(&mut self, other: &Self) {
        let Some(worst) = other.worst else { return };
        if self.by_step.len() < other.by_step.len() {
            self.by_step.resize(other.by_step.len(), 0);
        }
        for (mine, n) in self.by_step.iter_mut().zip(&other.by_step) {
            *mine += n;
        }
        match &mut self.worst {
            None => self.worst = Some(worst),
            Some(w) => {
                w.min_bucket = w.min_bucket.min(worst.min_bucket);
                w.max_bucket = w.max_bucket.max(worst.max_bucket);
                w.max_diff = w.max_diff.max(worst.max_diff);
            }
        }
    }

    /// The info, if anything was repaired. `span` is the histograms' expression, `metric_name` empty unless
    /// names are removed late; `steps` all steps of the evaluation.
    pub fn annotation(
        &self,
        metric_name: &str,
        span: Span,
        start_ms: i64,
        step_ms: i64,
        steps: usize,
    ) -> Option<Annotation> {
        let worst = self.worst?;
        let time = |k: usize| start_ms.wrapping_add((k as i64).wrapping_mul(step_ms));
        let first = self.by_step.iter().position(|n| *n > 0)?;
        let last = self.by_step.iter().rposition(|n| *n > 0)?;
        let mut shown = i64::from(self.by_step[first]);
        for k in first + 1..steps {
            let n = self.by_step.get(k).copied().unwrap_or(0);
            shown = shown.wrapping_add(i64::from(n)).wrapping_mul(2);
        }
        let mut it = Annotation::forced_monotonicity(
            metric_name,
            span,
            time(first),
            worst.min_bucket,
            worst.max_bucket,
            worst.max_diff,
        );
        if let Detail::Monotonicity { max_ts, count, .. } = &mut it.detail {
            *max_ts = time(last);
            *count = shown.wrapping_sub(1);
        }
        Some(it)
    }
}

/// The buckets of one classic histogram over all steps. `bounds[i]` is the `le` of `columns[i]`, in input
/// order; several columns may have one bound.
#[derive(Clone, Copy, Debug)]
pub struct ClassicHistogram<'a> {
    /// Upper bounds.
    pub bounds: &'a [f64],
    /// Counts; only floats are looked at.
    pub columns: &'a [&'a Column],
}

impl ClassicHistogram<'_> {
    /// Calls `f` with the buckets of every step that has any.
    fn each_step(&self, buckets: &mut Vec<Bucket>, mut f: impl FnMut(usize, &mut [Bucket])) {
        let steps = self.columns.first().map_or(0, |c| c.steps());
        for k in 0..steps {
            self.gather(k, buckets);
            if !buckets.is_empty() {
                f(k, buckets);
            }
        }
    }

    fn gather(&self, k: usize, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        for (bound, column) in self.bounds.iter().zip(self.columns) {
            if column.has_float(k) {
                buckets.push(Bucket { upper_bound: *bound, count: column.values[k] });
            }
        }
    }

    /// `histogram_quantile` at every step, set in `out` where there are buckets.
    pub fn quantile(
        &self,
        phi: ScalarArg<'_>,
        out: &mut Column,
        repairs: &mut Repairs,
        buffers: &mut Buffers,
    ) {
        let rising =
            self.bounds.windows(2).all(|w| w[0] < w[1]) && self.bounds.last() == Some(&f64::INFINITY);
        if !rising {
            return self.quantiles(&[phi], std::slice::from_mut(out), repairs, buffers);
        }
        let mut buckets = std::mem::take(&mut buffers.buckets);
        let words = self.columns[0].present.len();
        for word in 0..words {
            let (all, any) = self
                .columns
                .iter()
                .fold((u64::MAX, 0), |(all, any), c| (all & c.present[word], any | c.present[word]));
            let mut rest = any;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let k = word * 64 + bit;
                let q = phi.at(k);
                if let Some(v) = degenerate(q) {
                    out.set_float(k, v);
                    continue;
                }
                let (v, repair) = if all >> bit & 1 != 0 {
                    let counts = &mut buffers.counts;
                    counts.clear();
                    counts.extend(self.columns.iter().map(|c| c.values[k]));
                    let repair = make_monotonic(counts, |i| self.bounds[i]);
                    (interpolate(q, self.bounds, counts), repair)
                } else {
                    self.gather(k, &mut buckets);
                    bucket_quantile(q, &mut buckets, buffers)
                };
                out.set_float(k, v);
                if let Some(repair) = repair {
                    repairs.add(k, repair);
                }
            }
        }
        buffers.buckets = buckets;
    }

    /// `histogram_quantiles`: several quantiles of the same buckets, one after the other at every step.
    pub fn quantiles(
        &self,
        phis: &[ScalarArg<'_>],
        outs: &mut [Column],
        repairs: &mut Repairs,
        buffers: &mut Buffers,
    ) {
        let mut buckets = std::mem::take(&mut buffers.buckets);
        self.each_step(&mut buckets, |k, buckets| {
            for (phi, out) in phis.iter().zip(outs.iter_mut()) {
                let (v, repair) = bucket_quantile(phi.at(k), buckets, buffers);
                out.set_float(k, v);
                if let Some(repair) = repair {
                    repairs.add(k, repair);
                }
            }
        });
        buffers.buckets = buckets;
    }

    /// `histogram_fraction` at every step, set in `out` where there are buckets.
    pub fn fraction(
        &self,
        lower: ScalarArg<'_>,
        upper: ScalarArg<'_>,
        out: &mut Column,
        buffers: &mut Buffers,
    ) {
        self.each_step(&mut buffers.buckets, |k, buckets| {
            out.set_float(k, bucket_fraction(lower.at(k), upper.at(k), buckets));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;

    fn cases() -> Vec<Vec<Bucket>> {
        let buckets = |all: &[(f64, f64)]| {
            all.iter()
                .map(|(upper_bound, count)| Bucket { upper_bound: *upper_bound, count: *count })
                .collect()
        };
        vec![
            buckets(&[(1.0, 10.0), (2.0, 20.0), (INF, 30.0)]),
            buckets(&[(INF, 30.0), (2.0, 20.0), (1.0, 10.0)]),
            buckets(&[(-1.0, 10.0), (0.0, 20.0), (1.0, 25.0), (INF, 30.0)]),
            buckets(&[(1.0, 10.0), (2.0, 8.0), (3.0, 25.0), (4.0, 20.0), (INF, 30.0)]),
            buckets(&[(1.0, 10.0), (2.0, 10.000000000001), (3.0, 9.9999999999999), (INF, 10.1)]),
            buckets(&[(1.0, 10.0), (1.0, 5.0), (2.0, 20.0), (INF, 30.0)]),
            buckets(&[(INF, 30.0)]),
            buckets(&[(1.0, 5.0), (2.0, 5.0)]),
            buckets(&[(1.0, 0.0), (INF, 0.0)]),
            buckets(&[(1.0, NAN), (2.0, 5.0), (INF, 7.0)]),
            buckets(&[(0.1, 0.0), (0.2, 3.0), (0.5, 3.0), (INF, 4.0)]),
            buckets(&[(-5.0, 2.0), (-2.0, 4.0), (INF, 9.0)]),
        ]
    }

    fn float(text: &str) -> f64 {
        if text == "NAN" { NAN } else { f64::from_bits(u64::from_str_radix(text, 16).unwrap()) }
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    fn columns_of(buckets: &[Bucket], steps: usize) -> (Vec<f64>, Vec<Column>) {
        buckets.iter().map(|b| (b.upper_bound, Column::constant(steps, b.count))).unzip()
    }

    #[test]
    fn quantiles_of_the_reference() {
        let cases = cases();
        let mut lines = 0;
        for line in include_str!("reference/classic_quantile.txt").lines().filter(|l| !l.starts_with('#')) {
            let f: Vec<&str> = line.split(' ').collect();
            let buckets = &cases[f[0].parse::<usize>().unwrap()];
            let (q, expected) = (float(f[1]), float(f[2]));
            let repair = (f[3] != "-").then(|| Repair {
                min_bucket: f[3].parse().unwrap(),
                max_bucket: f[4].parse().unwrap(),
                max_diff: f[5].parse().unwrap(),
            });
            let mut buffers = Buffers::default();
            let (got, repaired) = bucket_quantile(q, &mut buckets.clone(), &mut buffers);
            assert!(same(got, expected), "{line}: {got}");
            assert_eq!(repaired, repair, "{line}");

            // The same over columns.
            let (bounds, columns) = columns_of(buckets, 3);
            let columns: Vec<&Column> = columns.iter().collect();
            let mut out = Column::new(3);
            let mut repairs = Repairs::default();
            ClassicHistogram { bounds: &bounds, columns: &columns }.quantile(
                ScalarArg::Constant(q),
                &mut out,
                &mut repairs,
                &mut buffers,
            );
            assert!((0..3).all(|k| same(out.float(k).unwrap(), expected)), "{line}: {:?}", out.values);
            assert_eq!(repairs.worst, repair, "{line}");
            lines += 1;
        }
        assert_eq!(lines, 120);
    }

    #[test]
    fn fractions_of_the_reference() {
        let cases = cases();
        let mut lines = 0;
        for line in include_str!("reference/classic_fraction.txt").lines().filter(|l| !l.starts_with('#')) {
            let f: Vec<&str> = line.split(' ').collect();
            let mut buckets = cases[f[0].parse::<usize>().unwrap()].clone();
            let got = bucket_fraction(float(f[1]), float(f[2]), &mut buckets);
            assert!(same(got, float(f[3])), "{line}: {got}");
            lines += 1;
        }
        assert_eq!(lines, 108);
    }

    #[test]
    fn absent_buckets_are_left_out_and_steps_without_any_stay_empty() {
        let mut columns =
            vec![Column::constant(3, 10.0), Column::constant(3, 20.0), Column::constant(3, 40.0)];
        columns[1].clear_float(1);
        for c in &mut columns {
            c.clear_float(2);
        }
        let columns: Vec<&Column> = columns.iter().collect();
        let mut out = Column::new(3);
        let histogram = ClassicHistogram { bounds: &[1.0, 2.0, INF], columns: &columns };
        let mut buffers = Buffers::default();
        histogram.quantile(
            ScalarArg::PerStep(&[0.375, 0.125, 0.5]),
            &mut out,
            &mut Repairs::default(),
            &mut buffers,
        );
        assert_eq!([out.float(0), out.float(1), out.float(2)], [Some(1.5), Some(0.5), None]);
        let mut fraction = Column::new(3);
        let (lower, upper) = (ScalarArg::Constant(0.0), ScalarArg::Constant(1.0));
        histogram.fraction(lower, upper, &mut fraction, &mut buffers);
        assert_eq!([fraction.float(0), fraction.float(1), fraction.float(2)], [Some(0.25), Some(0.25), None]);
    }

    /// The second quantile sees the buckets the first has repaired.
    #[test]
    fn several_quantiles_repair_once() {
        let (bounds, columns) = columns_of(&cases()[3], 1);
        let columns: Vec<&Column> = columns.iter().collect();
        let mut outs = vec![Column::new(1); 3];
        let mut repairs = Repairs::default();
        let phis = [2.0, 0.5, 0.9].map(ScalarArg::Constant);
        ClassicHistogram { bounds: &bounds, columns: &columns }.quantiles(
            &phis,
            &mut outs,
            &mut repairs,
            &mut Buffers::default(),
        );
        assert_eq!(
            outs.iter().map(|c| c.float(0).unwrap()).collect::<Vec<_>>(),
            [INF, 2.3333333333333335, 4.0]
        );
        assert_eq!(repairs.by_step, [1]);
    }

    #[test]
    fn repairs_are_counted_as_upstream_counts_them() {
        let repair = Repair { min_bucket: 1.0, max_bucket: 2.0, max_diff: 3.0 };
        for (steps, shown) in [(1, 24), (2, 96), (3, 240), (4, 528), (5, 1104)] {
            let mut repairs = Repairs::default();
            for k in 0..steps {
                for _ in 0..24 {
                    repairs.add(k, repair);
                }
            }
            let it = repairs.annotation("", Span::default(), 1000, 10, steps).unwrap();
            let Detail::Monotonicity { min_ts, max_ts, count, .. } = it.detail else { panic!() };
            assert_eq!((min_ts, max_ts, count + 1), (1000, 1000 + 10 * (steps as i64 - 1), shown));
        }
        // A step without repairs doubles what there is.
        let mut repairs = Repairs::default();
        repairs.add(1, repair);
        let it = repairs.annotation("", Span::default(), 0, 1, 4).unwrap();
        assert!(matches!(it.detail, Detail::Monotonicity { count: 3, min_ts: 1, max_ts: 1, .. }), "{it:?}");
        assert!(Repairs::default().annotation("", Span::default(), 0, 1, 4).is_none());
    }
}
