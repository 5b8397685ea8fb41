//! Which resolution answers which part of a selection's time, and which value of a downsampled window is wanted.
//!
//! A downsampled sample stands at the end of its window (or at the last sample it was made of, if that is earlier), so
//! pieces of a coarser resolution begin and end with whole windows, and every stored sample is used once.

use std::sync::Arc;

use tsdbctl_chunk::{CounterJoin, Floats, Histograms, SampleColumns};
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{CounterResetHint, FloatHistogram};

/// Which value of a window is wanted. Raw samples are their own value, but count as 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WindowValue {
    /// Sum by count.
    #[default]
    Average,
    /// Number of samples.
    Count,
    /// Their sum.
    Sum,
    /// The smallest float.
    Min,
    /// The largest float.
    Max,
    /// The counter at the window's end; see [`join_counters`].
    Counter,
    /// Samples that fall and change as often as is known for sure; of histograms the average, its hint telling of resets.
    Movements,
}

/// Which resolutions a selection takes. The default: raw samples only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolutionHint {
    /// The coarsest wanted, ms; 0 for raw samples.
    pub at_most_ms: i64,
    /// Where nothing of that is left, the next coarser will do.
    pub or_coarser: bool,
}

/// A part of the time line and the resolution of its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First sample time, Unix ms.
    pub start: i64,
    /// End, exclusive.
    pub end: i64,
    /// Length of windows, ms; 0 for raw samples.
    pub resolution_ms: i64,
}

/// The times for which there are samples of one resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Length of windows, ms; 0 for raw samples.
    pub resolution_ms: i64,
    /// Start inclusive, end exclusive, in any order.
    pub ranges: Vec<(i64, i64)>,
    /// Some samples only (late ones): to be used where there is nothing else.
    pub partial: bool,
}

fn floor(t: i64, r: i64) -> i64 {
    t.saturating_sub(t.rem_euclid(r.max(1)))
}

fn ceil(t: i64, r: i64) -> i64 {
    match t.rem_euclid(r.max(1)) {
        0 => t,
        rest => t.saturating_add(r.max(1) - rest),
    }
}

/// Sorted, touching ones joined.
fn joined(ranges: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut sorted: Vec<(i64, i64)> = ranges.iter().copied().filter(|r| r.0 < r.1).collect();
    sorted.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
    for (start, end) in sorted {
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => out.push((start, end)),
        }
    }
    out
}

fn covering(ranges: &[(i64, i64)], t: i64) -> Option<(i64, i64)> {
    ranges.iter().copied().find(|(start, end)| *start <= t && t < *end)
}

/// One resolution, its ranges joined.
struct Tier {
    resolution: i64,
    ranges: Vec<(i64, i64)>,
}

/// The ranges that `tier` answers for, given those that come after it: cut so that a coarser neighbour has whole windows.
/// A hole too short for one of its windows is no hole.
fn whole_windows(tier: &Tier, others: &[Tier]) -> Vec<(i64, i64)> {
    let neighbour = |t: i64| {
        let found = others.iter().find_map(|o| covering(&o.ranges, t).map(|range| (o.resolution, range)));
        found.filter(|(resolution, _)| *resolution > tier.resolution)
    };
    let mut out: Vec<(i64, i64)> = Vec::with_capacity(tier.ranges.len());
    for (i, (start, end)) in tier.ranges.iter().copied().enumerate() {
        let before = if i == 0 { i64::MIN } else { tier.ranges[i - 1].1 };
        let after = tier.ranges.get(i + 1).map_or(i64::MAX, |r| r.0);
        let (mut from, mut to) = (start, end);
        if let Some((r, (low, high))) = neighbour(start.saturating_sub(1))
            && ceil(low.max(before), r).saturating_add(r) <= start
        {
            from = ceil(start, r).min(high);
        }
        if let Some((r, (low, high))) = neighbour(end)
            && ceil(end, r).saturating_add(r) <= high.min(after)
        {
            to = floor(end, r).max(low);
        }
        match out.last_mut() {
            // Nobody has whole windows in the hole.
            Some(last) if from == start && last.1 == before && !has_window(others, before, start) => {
                last.1 = to
            }
            _ if from < to => out.push((from, to)),
            _ => {}
        }
    }
    out
}

/// Whether somebody has a whole window, or raw samples, between two times.
fn has_window(tiers: &[Tier], from: i64, to: i64) -> bool {
    tiers.iter().any(|tier| {
        tier.ranges.iter().any(|(start, end)| {
            let (a, b) = (from.max(*start), to.min(*end));
            a < b && ceil(a, tier.resolution).saturating_add(tier.resolution) <= b
        })
    })
}

/// Cuts `start..end` (exclusive) into pieces: each time gets the coarsest resolution that is at most the wanted one, or
/// else, if allowed, the finest of the coarser ones. Times that nothing covers are in no piece.
pub fn choose(coverage: &[Coverage], start: i64, end: i64, hint: ResolutionHint) -> Vec<Piece> {
    let mut order: Vec<&Coverage> =
        coverage.iter().filter(|c| c.resolution_ms <= hint.at_most_ms || hint.or_coarser).collect();
    order.sort_by_key(|c| {
        let r = c.resolution_ms;
        let coarser = r > hint.at_most_ms;
        (c.partial, coarser, if coarser { r } else { -r })
    });
    let tiers: Vec<Tier> =
        order.iter().map(|c| Tier { resolution: c.resolution_ms, ranges: joined(&c.ranges) }).collect();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open = vec![(start, end)];
    for (i, tier) in tiers.iter().enumerate() {
        let mut rest = Vec::new();
        let ranges = whole_windows(tier, &tiers[i + 1..]);
        for (mut from, to) in open {
            for (a, b) in &ranges {
                let (a, b) = ((*a).max(from), (*b).min(to));
                if a >= b {
                    continue;
                }
                if from < a {
                    rest.push((from, a));
                }
                pieces.push(Piece { start: a, end: b, resolution_ms: tier.resolution });
                from = b;
            }
            if from < to {
                rest.push((from, to));
            }
        }
        open = rest;
    }
    pieces.sort_by_key(|p| p.start);
    pieces.dedup_by(|next, piece| {
        let joins = piece.end == next.start && piece.resolution_ms == next.resolution_ms;
        if joins {
            piece.end = next.end;
        }
        joins
    });
    pieces
}

/// Makes raw samples, from these places on, what windows of one sample each would give.
pub fn raw_as_windows(
    out: &mut SampleColumns,
    from_floats: usize,
    from_histograms: usize,
    value: WindowValue,
) {
    if value != WindowValue::Count {
        return;
    }
    let Floats { t, v, st } = &mut out.floats;
    let mut times: Vec<i64> = t[from_floats..]
        .iter()
        .zip(&v[from_floats..])
        .filter(|(_, v)| !is_stale(**v))
        .map(|(t, _)| *t)
        .collect();
    let h = &mut out.histograms;
    if h.len() > from_histograms {
        let present = h.t[from_histograms..].iter().zip(&h.h[from_histograms..]);
        times.extend(present.filter(|(_, h)| !is_stale(h.sum)).map(|(t, _)| *t));
        times.sort_unstable();
        h.truncate(from_histograms);
    }
    st.truncate(from_floats.min(st.len()));
    t.truncate(from_floats);
    v.truncate(from_floats);
    v.resize(from_floats + times.len(), 1.0);
    if !st.is_empty() {
        st.resize(from_floats + times.len(), 0);
    }
    t.extend(times);
}

/// Joins the values of a counter, read as [`WindowValue::Counter`], to one that never falls.
///
/// A downsampled counter begins with a true value and goes on without resets. Where the true value is another one then, it
/// comes as a second sample at the time of the last: that one tells whether the counter was reset before the next sample, and
/// goes. At the start it may come in front in the same way. Resets between raw samples are taken out as well, so that all
/// differences are right across all borders.
pub fn join_counters(samples: &mut SampleColumns) {
    let stored = std::mem::take(&mut samples.floats);
    CounterJoin::default().add(&stored, &mut samples.floats);
    join_histograms(&mut samples.histograms);
}

fn join_histograms(histograms: &mut Histograms) {
    let stored = std::mem::take(histograms);
    // The sample that the next is compared with, and what is added to it.
    let mut last: Option<(i64, Arc<FloatHistogram>)> = None;
    let mut added: Option<FloatHistogram> = None;
    for (i, (&t, h)) in stored.t.iter().zip(&stored.h).enumerate() {
        if is_stale(h.sum) {
            continue;
        }
        let is_gauge = h.counter_reset_hint == CounterResetHint::Gauge;
        let mut is_first = false;
        match &last {
            Some((before, _)) if t < *before => continue,
            Some((before, other)) if t == *before => {
                // From here on it is told from this one on.
                if let Some(more) = sum(Some(other), added.as_ref()).and_then(|total| difference(&total, h)) {
                    added = Some(more);
                }
                last = Some((t, Arc::clone(h)));
                continue;
            }
            Some((_, other)) if !is_gauge && h.detect_reset(other) => {
                match sum(Some(other), added.as_ref()) {
                    Some(more) => added = Some(more),
                    None => is_first = true,
                }
            }
            Some(_) => {}
            None => is_first = true,
        }
        let mut joined = Arc::clone(h);
        if let Some(more) = added.as_ref().filter(|_| !is_gauge && !is_first) {
            match sum(Some(h), Some(more)) {
                Some(total) => joined = Arc::new(total),
                None => (is_first, added) = (true, None),
            }
        }
        let hint = match (is_gauge, is_first) {
            (true, _) => CounterResetHint::Gauge,
            (false, true) => CounterResetHint::Unknown,
            (false, false) => CounterResetHint::NotCounterReset,
        };
        if joined.counter_reset_hint != hint {
            Arc::make_mut(&mut joined).counter_reset_hint = hint;
        }
        last = Some((t, Arc::clone(h)));
        histograms.push(t, joined, stored.integer[i], stored.start_timestamp(i));
    }
}

/// None if they cannot be added.
fn sum(a: Option<&FloatHistogram>, b: Option<&FloatHistogram>) -> Option<FloatHistogram> {
    let (Some(a), Some(b)) = (a, b) else { return a.or(b).cloned() };
    let mut sum = a.clone();
    sum.add(b).ok()?;
    Some(sum)
}

fn difference(a: &FloatHistogram, b: &FloatHistogram) -> Option<FloatHistogram> {
    let mut difference = a.clone();
    difference.sub(b).ok()?;
    Some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    const M5: i64 = 300_000;
    const H1: i64 = 3_600_000;
    const DAY: i64 = 24 * H1;

    fn of(resolution_ms: i64, ranges: &[(i64, i64)]) -> Coverage {
        Coverage { resolution_ms, ranges: ranges.to_vec(), partial: false }
    }

    fn chosen(coverage: &[Coverage], start: i64, end: i64, at_most_ms: i64) -> Vec<(i64, i64, i64)> {
        let hint = ResolutionHint { at_most_ms, or_coarser: true };
        choose(coverage, start, end, hint).iter().map(|p| (p.start, p.end, p.resolution_ms)).collect()
    }

    #[test]
    fn the_coarsest_wanted_is_taken_and_gaps_are_filled_by_the_next() {
        let all = [of(0, &[(20 * DAY, 30 * DAY)]), of(M5, &[(10 * DAY, 28 * DAY)]), of(H1, &[(0, 25 * DAY)])];
        for (at_most, want) in [
            (0, vec![(0, 10 * DAY, H1), (10 * DAY, 20 * DAY, M5), (20 * DAY, 30 * DAY, 0)]),
            (M5 - 1, vec![(0, 10 * DAY, H1), (10 * DAY, 20 * DAY, M5), (20 * DAY, 30 * DAY, 0)]),
            (M5, vec![(0, 10 * DAY, H1), (10 * DAY, 28 * DAY, M5), (28 * DAY, 30 * DAY, 0)]),
            (2 * H1, vec![(0, 25 * DAY, H1), (25 * DAY, 28 * DAY, M5), (28 * DAY, 30 * DAY, 0)]),
        ] {
            assert_eq!(chosen(&all, 0, 40 * DAY, at_most), want, "{at_most}");
        }
        assert_eq!(chosen(&all, 21 * DAY, 22 * DAY, 0), [(21 * DAY, 22 * DAY, 0)]);
        assert_eq!(chosen(&all, 30 * DAY, 40 * DAY, 0), []);
        // What is coarser has to be allowed.
        let strict = ResolutionHint { at_most_ms: M5, or_coarser: false };
        let pieces = choose(&all, 0, 40 * DAY, strict);
        assert_eq!((pieces[0].start, pieces.len()), (10 * DAY, 2));
        assert_eq!(choose(&all, 0, 5 * DAY, ResolutionHint::default()), []);
    }

    #[test]
    fn coarser_neighbours_get_whole_windows() {
        // Raw samples begin inside of a window that the coarser level has whole.
        let late = [of(0, &[(DAY + 7, 2 * DAY)]), of(M5, &[(0, 2 * DAY)])];
        assert_eq!(chosen(&late, 0, 2 * DAY, 0), [(0, DAY + M5, M5), (DAY + M5, 2 * DAY, 0)]);
        // The cut does not depend on what is asked for.
        assert_eq!(
            chosen(&late, DAY + 100, DAY + M5 + 1, 0),
            [(DAY + 100, DAY + M5, M5), (DAY + M5, DAY + M5 + 1, 0)]
        );
        // The coarser level ends there: it has nothing of the rest of the window.
        let ends = [of(0, &[(DAY + 7, 2 * DAY)]), of(M5, &[(0, DAY + 7)])];
        assert_eq!(chosen(&ends, 0, 2 * DAY, 0), [(0, DAY + 7, M5), (DAY + 7, 2 * DAY, 0)]);
        // Raw samples end inside of one.
        let early = [of(0, &[(0, DAY + 7)]), of(H1, &[(0, 2 * DAY)])];
        assert_eq!(chosen(&early, 0, 2 * DAY, 0), [(0, DAY, 0), (DAY, 2 * DAY, H1)]);
        // Behind a coarser level raw samples go on where it ends, whatever the window.
        let behind = [of(0, &[(0, 2 * DAY)]), of(H1, &[(0, DAY + 7)])];
        assert_eq!(chosen(&behind, 0, 2 * DAY, H1), [(0, DAY + 7, H1), (DAY + 7, 2 * DAY, 0)]);
    }

    #[test]
    fn short_holes_are_none_and_late_samples_alone_are_a_last_resort() {
        let coarse = of(M5, &[(0, 9 * DAY)]);
        let short = [of(0, &[(0, DAY), (DAY + 15_000, 2 * DAY), (2 * DAY + M5, 9 * DAY)]), coarse.clone()];
        assert_eq!(
            chosen(&short, 0, 9 * DAY, 0),
            [(0, 2 * DAY, 0), (2 * DAY, 2 * DAY + M5, M5), (2 * DAY + M5, 9 * DAY, 0)]
        );
        // The first sample of a block does not stand at the start of a window.
        assert_eq!(chosen(&[of(0, &[(7, DAY)]), of(M5, &[(0, DAY)])], 7, DAY, 0), [(7, DAY, 0)]);
        let late = Coverage { partial: true, ..of(0, &[(0, DAY)]) };
        let all = [late, of(M5, &[(H1, 2 * DAY)])];
        assert_eq!(chosen(&all, 0, DAY, 0), [(0, H1, 0), (H1, DAY, M5)]);
    }

    fn floats(samples: &[(i64, f64)]) -> Floats {
        let mut f = Floats::default();
        for (t, v) in samples {
            f.t.push(*t);
            f.v.push(*v);
        }
        f
    }

    #[test]
    fn counters_are_joined_across_chunks_and_resets() {
        for (samples, want) in [
            // Two chunks; the first saw a reset inside and ended at a true value of 3.
            (
                &[(1, 5.0), (10, 9.0), (20, 12.0), (20, 3.0), (25, 4.0), (30, 8.0), (30, 8.0)][..],
                &[5.0, 9.0, 12.0, 13.0, 17.0][..],
            ),
            // A reset between the two.
            (&[(1, 5.0), (10, 9.0), (10, 9.0), (15, 2.0), (20, 3.0), (20, 3.0)], &[5.0, 9.0, 11.0, 12.0]),
            // Raw samples behind a chunk, with a reset of their own.
            (
                &[(1, 5.0), (10, 9.0), (10, 7.0), (11, 8.0), (12, 1.0), (13, f64::INFINITY)],
                &[5.0, 9.0, 10.0, 11.0, f64::INFINITY],
            ),
            (&[], &[]),
        ] {
            let mut columns = SampleColumns { floats: floats(samples), ..Default::default() };
            join_counters(&mut columns);
            let f = columns.floats;
            assert_eq!(f.v, want, "{samples:?}");
            assert!(f.t.windows(2).all(|w| w[0] < w[1]), "{:?}", f.t);
        }
        let f = floats(&[(1, 2.0), (2, f64::NAN), (3, 5.0)]);
        let mut columns = SampleColumns { floats: f, ..Default::default() };
        join_counters(&mut columns);
        let f = columns.floats;
        assert_eq!((f.t, f.v), (vec![1, 3], vec![2.0, 5.0]));
    }

    #[test]
    fn raw_samples_count_as_one_and_stale_markers_as_none() {
        let stale = f64::from_bits(tsdbctl_model::sample::STALE_NAN_BITS);
        let mut columns =
            SampleColumns { floats: floats(&[(1, 7.0), (2, 8.0), (3, stale)]), ..Default::default() };
        let h = Arc::new(FloatHistogram::default());
        columns.histograms.push(2, h.clone(), true, 0);
        columns.histograms.push(9, h, true, 0);
        raw_as_windows(&mut columns, 1, 1, WindowValue::Sum);
        assert_eq!(columns.len(), 5);
        raw_as_windows(&mut columns, 1, 1, WindowValue::Count);
        assert_eq!((columns.floats.t, columns.floats.v), (vec![1, 2, 9], vec![7.0, 1.0, 1.0]));
        assert_eq!(columns.histograms.t, [2]);
    }
}
