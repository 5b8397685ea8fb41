//! Raw and downsampled samples of the same series as one querier: each piece of time is read from one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::Matcher;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};

use crate::control::Control;
use crate::error::{Loss, StorageError};
use crate::merge::{MergedQuerier, Source, merged_set};
use crate::querier::{LabelNeeds, Querier, ReadStats, SelectHints, SeriesExemplars, SeriesSet, TimeFilter};
use crate::resolution::{Coverage, Piece, WindowValue, choose};

/// How many windows of a downsampled piece a reader may want to see before the start it asks for.
pub const WINDOWS_BEFORE: i64 = 2;

/// Raw samples, and the same downsampled.
pub struct TieredQuerier {
    raw: MergedQuerier,
    /// By resolution, ms.
    downsampled: BTreeMap<i64, MergedQuerier>,
    coverage: Vec<Coverage>,
}

impl TieredQuerier {
    /// `raw` and what is downsampled, by resolution in ms; `coverage` says for which times there is what.
    pub fn new(raw: MergedQuerier, downsampled: Vec<(i64, Vec<Source>)>, coverage: Vec<Coverage>) -> Self {
        let downsampled = downsampled.into_iter().map(|(r, sources)| (r, MergedQuerier::new(sources)));
        Self { raw, downsampled: downsampled.collect(), coverage }
    }

    fn all(&self) -> impl Iterator<Item = &MergedQuerier> {
        std::iter::once(&self.raw).chain(self.downsampled.values())
    }

    fn of(&self, resolution_ms: i64) -> &MergedQuerier {
        self.downsampled.get(&resolution_ms).unwrap_or(&self.raw)
    }
}

impl Querier for TieredQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let needs = SelectHints { labels: LabelNeeds::All, ..hints.clone() };
        if hints.series_only {
            let mut parts = Vec::new();
            for querier in self.all() {
                parts.push((querier.select(&needs, matchers, symbols, control)?, hints.start, hints.end));
            }
            return merged_set(parts, symbols, control);
        }
        let end = hints.end.saturating_add(1);
        let asked = choose(&self.coverage, hints.start, end, hints.resolution);
        let coarsest = asked.iter().map(|p| p.resolution_ms).max().unwrap_or(0);
        if coarsest == 0 {
            return self.raw.select(hints, matchers, symbols, control);
        }
        let start = hints.start.saturating_sub(coarsest.saturating_mul(WINDOWS_BEFORE));
        let pieces = choose(&self.coverage, start, end, hints.resolution);
        let mut sets: BTreeMap<i64, Arc<dyn SeriesSet>> = BTreeMap::new();
        let mut parts: Vec<(Box<dyn SeriesSet>, i64, i64)> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let set = match sets.get(&piece.resolution_ms) {
                Some(set) => Arc::clone(set),
                None => {
                    let needs = SelectHints { start, ..needs.clone() };
                    let found = self.of(piece.resolution_ms).select(&needs, matchers, symbols, control)?;
                    let set: Arc<dyn SeriesSet> = Arc::from(found);
                    sets.insert(piece.resolution_ms, Arc::clone(&set));
                    set
                }
            };
            parts.push((Box::new(PieceSet { set, piece }), piece.start, piece.end - 1));
        }
        merged_set(parts, symbols, control)
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        let mut all = Vec::new();
        for querier in self.all() {
            all.extend(querier.label_names(matchers, control)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let mut all = Vec::new();
        for querier in self.all() {
            all.extend(querier.label_values(name, matchers, control)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        self.raw.exemplars(start, end, selections, control)
    }

    fn losses(&self) -> Vec<Loss> {
        self.all().flat_map(|q| q.losses()).collect()
    }
}

/// The series of one resolution, their samples in one piece of time.
struct PieceSet {
    set: Arc<dyn SeriesSet>,
    piece: Piece,
}

impl PieceSet {
    /// What `filter` wants of the piece; `None` if nothing.
    fn within(&self, filter: &TimeFilter) -> Option<TimeFilter> {
        let (mint, maxt) = (filter.mint().max(self.piece.start), filter.maxt().min(self.piece.end - 1));
        if mint > maxt {
            return None;
        }
        if filter.steps <= 1 || filter.step <= 0 {
            let newest_only = filter.newest_only;
            return Some(TimeFilter { newest_only, ..TimeFilter::all_between(mint, maxt) });
        }
        // The steps whose windows reach into the piece.
        let step = filter.step;
        let first = mint.saturating_sub(filter.after).saturating_sub(filter.first);
        let first = first.saturating_add(step - 1).div_euclid(step).clamp(0, filter.steps - 1);
        let last = maxt.saturating_add(filter.before).saturating_sub(filter.first);
        let last = last.div_euclid(step).clamp(first, filter.steps - 1);
        Some(TimeFilter {
            first: filter.first.saturating_add(first.saturating_mul(step)),
            steps: last - first + 1,
            newest_only: false,
            ..*filter
        })
    }

    /// Reads and removes what lies outside of the piece.
    fn clipped(
        &self,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        read: impl FnOnce(&TimeFilter, &mut SampleColumns) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let Some(filter) = self.within(filter) else { return Ok(()) };
        let (floats, histograms) = (out.floats.len(), out.histograms.len());
        read(&filter, out)?;
        let inside = |t: &[i64], from: usize| {
            let to = from + t[from..].partition_point(|t| *t < self.piece.end);
            (from + t[from..to].partition_point(|t| *t < self.piece.start), to)
        };
        let f = &mut out.floats;
        let (start, end) = inside(&f.t, floats);
        f.truncate(end);
        f.t.drain(floats..start);
        f.v.drain(floats..start);
        if !f.st.is_empty() {
            f.st.drain(floats..start);
        }
        let h = &mut out.histograms;
        let (start, end) = inside(&h.t, histograms);
        h.truncate(end);
        h.t.drain(histograms..start);
        h.h.drain(histograms..start);
        h.integer.drain(histograms..start);
        if !h.st.is_empty() {
            h.st.drain(histograms..start);
        }
        Ok(())
    }
}

impl PieceSet {
    /// A piece may begin and end inside of a chunk, whose counter says nothing of the true value there. The largest
    /// sample of the window is that value, unless the counter was reset in this very window.
    fn tell_true_values(
        &self,
        i: usize,
        from: usize,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let mut largest = |t: i64| {
            let mut found = SampleColumns::default();
            let filter = TimeFilter::all_between(t, t);
            self.set.read_window(i, &filter, WindowValue::Max, &mut found, stats)?;
            Ok::<_, StorageError>(found.floats.v.first().copied())
        };
        let f = &mut out.floats;
        let Some(first) = f.t.get(from).copied() else { return Ok(()) };
        let times = &f.t[from..];
        let (last, is_told) =
            (times[times.len() - 1], times.len() > 1 && times[times.len() - 2] == times[times.len() - 1]);
        // Two samples at one time: what the counter is, and what the next is to be compared with.
        if !is_told && let Some(value) = largest(last)? {
            f.t.push(last);
            f.v.push(value);
        }
        if let Some(value) = largest(first)? {
            f.t.insert(from, first);
            f.v.insert(from, value);
        }
        f.st.clear();
        Ok(())
    }
}

impl SeriesSet for PieceSet {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        self.set.labels(i)
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        self.clipped(filter, out, |filter, out| self.set.read(i, filter, out, stats))
    }

    fn read_window(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: WindowValue,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let from = out.floats.len();
        self.clipped(filter, out, |filter, out| self.set.read_window(i, filter, value, out, stats))?;
        if value == WindowValue::Counter && self.piece.resolution_ms > 0 {
            self.tell_true_values(i, from, out, stats)?;
        }
        Ok(())
    }

    fn pieces(&self) -> Vec<Piece> {
        vec![self.piece]
    }

    fn is_raw(&self, _: usize) -> bool {
        self.piece.resolution_ms == 0
    }

    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        self.within(filter).map_or_else(ReadStats::default, |filter| self.set.cost(i, &filter))
    }
}
