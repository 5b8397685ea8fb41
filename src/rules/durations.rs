//! Durations as upstream's metrics count them: number, sum, classes, and quantiles of the last minutes.

use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds of the classes of [`Durations`], in seconds; upstream's classic buckets.
pub const DURATION_BOUNDS_SECONDS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

/// Durations as a summary and a histogram count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: Duration,
    /// How many were at most each of [`DURATION_BOUNDS_SECONDS`].
    pub at_most: [u64; 4],
}

impl Durations {
    /// Counts one.
    pub fn observe(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        for (count, bound) in self.at_most.iter_mut().zip(DURATION_BOUNDS_SECONDS) {
            *count += u64::from(duration.as_secs_f64() <= bound);
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        for (count, more) in self.at_most.iter_mut().zip(other.at_most) {
            *count += more;
        }
    }
}

/// How long one slice of a window lasts, ms.
const SLICE_MS: i64 = 120_000;

/// Slices of a window: 10 min in all, of which the last 8 to 10 are told of, as upstream's client does it.
const SLICES: i64 = 5;

/// Ratio of the bounds of one class to the next: what is told is within 1 % of what was observed.
const CLASS_RATIO: f64 = 1.02;

/// Quantiles of the durations of the last minutes. They are counted in narrow classes, so that the memory is bounded
/// (some 1,500 classes from 1 ns to hours in each slice) however much is observed.
#[derive(Clone, Debug, Default)]
pub struct RecentDurations {
    /// Counts by class, by number of the slice.
    slices: BTreeMap<i64, BTreeMap<i32, u64>>,
}

impl RecentDurations {
    /// Counts one at `now_ms` on any clock that only goes forward.
    pub fn observe(&mut self, now_ms: i64, duration: Duration) {
        let slice = now_ms.div_euclid(SLICE_MS);
        self.slices = self.slices.split_off(&(slice - SLICES + 1));
        *self.slices.entry(slice).or_default().entry(class(duration)).or_default() += 1;
    }

    /// Seconds that a share of `quantile` was at most; NaN if nothing was observed of late.
    pub fn quantile_seconds(&self, now_ms: i64, quantile: f64) -> f64 {
        let slice = now_ms.div_euclid(SLICE_MS);
        let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
        for (class, count) in self.slices.range(slice - SLICES + 1..).flat_map(|(_, counts)| counts) {
            *counts.entry(*class).or_default() += count;
        }
        let all: u64 = counts.values().sum();
        let rank = ((all as f64 * quantile).ceil() as u64).max(1);
        let mut up_to = 0;
        for (class, count) in counts {
            up_to += count;
            if up_to >= rank {
                return middle_seconds(class);
            }
        }
        f64::NAN
    }
}

/// The class of a duration: class k reaches from `CLASS_RATIO`^k ns up to the next.
fn class(duration: Duration) -> i32 {
    let ns = duration.as_nanos() as f64;
    if ns < 1.0 { i32::MIN } else { (ns.ln() / CLASS_RATIO.ln()).floor() as i32 }
}

fn middle_seconds(class: i32) -> f64 {
    if class == i32::MIN { 0.0 } else { CLASS_RATIO.powf(f64::from(class) + 0.5) / 1e9 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_reach_up_to_and_with_their_bounds() {
        let mut durations = Durations::default();
        for ms in [0, 10, 11, 100, 1_000, 1_001, 10_000, 10_001] {
            durations.observe(Duration::from_millis(ms));
        }
        assert_eq!((durations.count, durations.at_most), (8, [2, 4, 5, 7]));
        assert_eq!(durations.sum, Duration::from_millis(22_123));
        let mut twice = durations;
        twice.add(&durations);
        assert_eq!((twice.count, twice.at_most), (16, [4, 8, 10, 14]));
        assert_eq!(twice.sum, durations.sum * 2);
    }

    #[test]
    fn quantiles_are_within_a_hundredth_of_what_was_observed() {
        let mut recent = RecentDurations::default();
        assert!(recent.quantile_seconds(0, 0.5).is_nan());
        for us in 1..=1000 {
            recent.observe(0, Duration::from_micros(us * 7));
        }
        for (quantile, us) in [(0.01, 70.0), (0.05, 350.0), (0.5, 3500.0), (0.9, 6300.0), (0.99, 6930.0)] {
            let got = recent.quantile_seconds(0, quantile) * 1e6;
            assert!((got - us).abs() <= us * 0.0101, "{quantile}: {got}, not {us}");
        }
        // Nothing at all takes no time.
        let mut none = RecentDurations::default();
        none.observe(0, Duration::ZERO);
        assert_eq!(none.quantile_seconds(0, 0.99), 0.0);
    }

    #[test]
    fn quantiles_forget_what_is_older_than_ten_minutes() {
        let mut recent = RecentDurations::default();
        recent.observe(0, Duration::from_secs(9));
        recent.observe(5 * SLICE_MS - 1, Duration::from_secs(1));
        let max = |recent: &RecentDurations, now_ms| recent.quantile_seconds(now_ms, 1.0).round();
        assert_eq!(max(&recent, 5 * SLICE_MS - 1), 9.0);
        assert_eq!(max(&recent, 5 * SLICE_MS), 1.0);
        assert!(max(&recent, 9 * SLICE_MS).is_nan());
        recent.observe(9 * SLICE_MS, Duration::from_secs(2));
        assert_eq!((recent.slices.len(), max(&recent, 9 * SLICE_MS)), (1, 2.0));
    }
}
