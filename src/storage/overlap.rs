//! Sources that have samples of the same series and times at different resolutions, or the same windows twice: each time is
//! answered by one of them, the finest that has samples there.

use std::sync::Arc;

use tsdbctl_chunk::{Floats, Histograms, SampleColumns};
use tsdbctl_model::FloatHistogram;

use crate::resolution::Piece;

/// A source's samples, and what it covers.
pub(crate) struct Overlapping<'a> {
    /// Its samples; of counters, joined.
    pub columns: SampleColumns,
    /// What times it has at which resolution.
    pub pieces: &'a [Piece],
    /// What the next sample of another source is to be compared with, if they are a counter's.
    pub last: (Option<f64>, Option<Arc<FloatHistogram>>),
}

impl Overlapping<'_> {
    fn resolution_at(&self, t: i64) -> Option<i64> {
        self.pieces.iter().filter(|p| p.start <= t && t < p.end).map(|p| p.resolution_ms).min()
    }

    fn has_between(&self, from: i64, to: i64) -> bool {
        [&self.columns.floats.t, &self.columns.histograms.t]
            .into_iter()
            .any(|t| t.get(t.partition_point(|t| *t < from)).is_some_and(|t| *t <= to))
    }
}

/// Which samples stay, of floats and of histograms of each source: of a window none of which another source has finer
/// samples, or, coming first, as coarse ones.
fn kept(sources: &[Overlapping<'_>]) -> Vec<[Vec<bool>; 2]> {
    let keep = |own: usize, t: i64| {
        let Some(resolution) = sources[own].resolution_at(t).filter(|r| *r > 0) else { return true };
        let from = t.saturating_sub(t.rem_euclid(resolution));
        let to = from.saturating_add(resolution - 1);
        !sources.iter().enumerate().any(|(i, other)| {
            let is_better = |r: i64| r < resolution || (r == resolution && i < own);
            i != own && other.resolution_at(t).is_some_and(is_better) && other.has_between(from, to)
        })
    };
    let of = |own: usize, t: &[i64]| t.iter().map(|t| keep(own, *t)).collect();
    let all = sources.iter().enumerate();
    all.map(|(i, s)| [of(i, &s.columns.floats.t), of(i, &s.columns.histograms.t)]).collect()
}

/// Removes what another source answers better.
pub(crate) fn give_way(sources: Vec<Overlapping<'_>>) -> Vec<SampleColumns> {
    let kept = kept(&sources);
    let mut out = Vec::with_capacity(sources.len());
    for (source, [of_floats, of_histograms]) in sources.into_iter().zip(kept) {
        let (f, h) = (source.columns.floats, source.columns.histograms);
        let mut columns = SampleColumns::default();
        for i in (0..f.len()).filter(|i| of_floats[*i]) {
            columns.floats.push(f.t[i], f.v[i], f.start_timestamp(i));
        }
        for i in (0..h.len()).filter(|i| of_histograms[*i]) {
            columns.histograms.push(h.t[i], Arc::clone(&h.h[i]), h.integer[i], h.start_timestamp(i));
        }
        out.push(columns);
    }
    out
}

/// What a counter counts in.
trait Amount: Clone {
    fn plus(&self, other: &Self) -> Option<Self>;
    fn minus(&self, other: &Self) -> Option<Self>;
    fn fell_from(&self, before: &Self) -> bool;
}

impl Amount for f64 {
    fn plus(&self, other: &Self) -> Option<Self> {
        Some(self + other)
    }
    fn minus(&self, other: &Self) -> Option<Self> {
        Some(self - other)
    }
    fn fell_from(&self, before: &Self) -> bool {
        self < before
    }
}

impl Amount for Arc<FloatHistogram> {
    fn plus(&self, other: &Self) -> Option<Self> {
        let mut sum = FloatHistogram::clone(self);
        sum.add(other).ok()?;
        Some(Self::new(sum))
    }
    fn minus(&self, other: &Self) -> Option<Self> {
        let mut difference = FloatHistogram::clone(self);
        difference.sub(other).ok()?;
        Some(Self::new(difference))
    }
    fn fell_from(&self, before: &Self) -> bool {
        self.count < before.count
    }
}

/// One source of a counter.
struct Strand<'a, A> {
    t: &'a [i64],
    v: &'a [A],
    kept: &'a [bool],
    last: Option<A>,
    /// The source is left for another one where it has no samples for longer than this, ms.
    patience: i64,
}

impl<A> Strand<'_, A> {
    /// The first sample after a time that is to be used.
    fn next(&self, after: Option<i64>) -> Option<usize> {
        let from = after.map_or(0, |after| self.t.partition_point(|t| *t <= after));
        (from..self.t.len()).find(|i| self.kept[*i])
    }
}

/// Goes through strands that never fall and follows one as long as it goes on; `each` gets the counter of all.
fn follow<A: Amount>(strands: &[Strand<'_, A>], mut each: impl FnMut(i64, A)) {
    let mut current: Option<(usize, i64, A)> = None;
    loop {
        let at = current.as_ref().map(|c| c.1);
        let earliest =
            (0..strands.len()).filter_map(|s| strands[s].next(at).map(|i| (strands[s].t[i], s, i))).min();
        let Some((_, mut strand, mut i)) = earliest else { return };
        if let Some((own, last_t, _)) = &current
            && let Some(next) = strands[*own].next(at)
            && strands[*own].t[next] - last_t <= strands[*own].patience
        {
            (strand, i) = (*own, next);
        }
        let Strand { t, v, .. } = &strands[strand];
        let total = match &current {
            None => Some(v[i].clone()),
            Some((own, last_t, total)) => {
                let before = t.partition_point(|t| t <= last_t).checked_sub(1);
                let rise =
                    match (before, &strands[*own].last) {
                        (Some(before), _) => v[i].minus(&v[before]),
                        (None, Some(last)) if strands[*own].t.last() == Some(last_t) => {
                            if v[i].fell_from(last) { Some(v[i].clone()) } else { v[i].minus(last) }
                        }
                        (None, _) => None,
                    };
                Some(rise.and_then(|rise| total.plus(&rise)).unwrap_or_else(|| total.clone()))
            }
        };
        let Some(total) = total else { return };
        each(t[i], total.clone());
        current = Some((strand, t[i], total));
    }
}

/// Appends one counter made of several joined ones.
pub(crate) fn merge_counters(sources: &[Overlapping<'_>], out: &mut SampleColumns) {
    let kept = kept(sources);
    let patience =
        |s: &Overlapping<'_>| 2 * s.pieces.iter().map(|p| p.resolution_ms).max().unwrap_or(0).max(150_000);
    let floats: Vec<Strand<'_, f64>> = sources
        .iter()
        .zip(&kept)
        .map(|(s, [kept, _])| {
            let Floats { t, v, .. } = &s.columns.floats;
            Strand { t, v, kept, last: s.last.0, patience: patience(s) }
        })
        .collect();
    follow(&floats, |t, v| out.floats.push(t, v, 0));
    let histograms: Vec<Strand<'_, Arc<FloatHistogram>>> = sources
        .iter()
        .zip(&kept)
        .map(|(s, [_, kept])| {
            let Histograms { t, h, .. } = &s.columns.histograms;
            Strand { t, v: h, kept, last: s.last.1.clone(), patience: patience(s) }
        })
        .collect();
    let mut is_first = true;
    follow(&histograms, |t, mut h| {
        let hint = if std::mem::take(&mut is_first) {
            tsdbctl_model::CounterResetHint::Unknown
        } else {
            tsdbctl_model::CounterResetHint::NotCounterReset
        };
        if h.counter_reset_hint != hint {
            Arc::make_mut(&mut h).counter_reset_hint = hint;
        }
        out.histograms.push(t, h, false, 0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: i64 = 300_000;

    fn source(pieces: &[Piece], from: i64, to: i64, step: i64, reset: i64) -> Overlapping<'_> {
        // One more per second, from the last reset on.
        let mut columns = SampleColumns::default();
        let mut last = 0.0;
        for t in (from..to).step_by(step as usize) {
            columns.floats.push(t, ((t - from) / 1000) as f64 + 5.0, 0);
            last = ((t - reset) / 1000) as f64;
        }
        Overlapping { columns, pieces, last: (Some(last), None) }
    }

    #[test]
    fn counters_go_on_from_one_source_to_the_next() {
        let piece = |start, end, resolution_ms| [Piece { start, end, resolution_ms }];
        let (fine, coarse) = (piece(0, 20 * R, 0), piece(10 * R, 40 * R, R));
        for swapped in [false, true] {
            let mut sources =
                vec![source(&fine, 0, 20 * R, 30_000, 0), source(&coarse, 11 * R - 1, 40 * R, R, 0)];
            if swapped {
                sources.reverse();
            }
            let mut out = SampleColumns::default();
            merge_counters(&sources, &mut out);
            let f = out.floats;
            assert!(f.t.windows(2).all(|w| w[0] < w[1]) && f.v.windows(2).all(|w| w[0] <= w[1]));
            let (rise, time) = (f.v[f.len() - 1] - f.v[0], f.t[f.len() - 1] - f.t[0]);
            // What lies between the last sample of one and the window it lies in is counted twice at most.
            assert!((rise - time as f64 / 1000.0).abs() <= 300.0, "{rise} in {time}");
        }
        // Without a common time: compared with the true value, 30 at the end.
        let (first, second) = (piece(0, 10 * R, R), piece(10 * R, 20 * R, 0));
        let mut a = source(&first, R - 1, 10 * R, R, 0);
        a.last.0 = Some(3.0);
        let end = a.columns.floats.v.last().copied().unwrap();
        let b = source(&second, 10 * R, 20 * R, 60_000, 0);
        let mut out = SampleColumns::default();
        merge_counters(&[a, b], &mut out);
        assert_eq!(out.floats.v[10], end + 2.0);
    }

    #[test]
    fn a_window_that_two_have_is_used_once_and_gaps_of_the_finer_are_filled() {
        let whole = [Piece { start: 0, end: 10 * R, resolution_ms: R }];
        let raw = [Piece { start: 0, end: 10 * R, resolution_ms: 0 }];
        // The second archive's windows end elsewhere where its chunks do.
        let mut b = source(&whole, R - 1, 10 * R, R, 0);
        b.columns.floats.t[3] -= 100;
        let merged = give_way(vec![source(&whole, R - 1, 10 * R, R, 0), b]);
        assert_eq!((merged[0].len(), merged[1].len()), (10, 0));
        // Raw samples up to the middle only, though the block says more.
        let merged = give_way(vec![source(&whole, R - 1, 10 * R, R, 0), source(&raw, 0, 5 * R, 30_000, 0)]);
        assert_eq!((merged[0].floats.t[0], merged[0].len(), merged[1].len()), (6 * R - 1, 5, 50));
    }
}
