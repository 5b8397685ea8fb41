//! Raw and downsampled samples of the same series as one querier: each piece of time is read from one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::Matcher;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};

use crate::control::Control;
use crate::error::{Loss, StorageError};
use crate::merge::{MergedQuerier, Source, merged_set, merged_with_last_resort};
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
    late: Option<MergedQuerier>,
}

impl TieredQuerier {
    /// `raw` and what is downsampled, by resolution in ms; `coverage` says for which times there is what.
    pub fn new(raw: MergedQuerier, downsampled: Vec<(i64, Vec<Source>)>, coverage: Vec<Coverage>) -> Self {
        let downsampled = downsampled.into_iter().map(|(r, sources)| (r, MergedQuerier::new(sources)));
        Self { raw, downsampled: downsampled.collect(), coverage, late: None }
    }

    /// Samples that came late, which are among the raw ones too. Where windows answer they are used for series that have
    /// none.
    pub fn with_late(mut self, late: Vec<Source>) -> Self {
        self.late = (!late.is_empty()).then(|| MergedQuerier::new(late));
        self
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
                    // Nobody is told of windows that nothing of the selection has.
                    let set: Arc<dyn SeriesSet> = Arc::from(found);
                    sets.insert(piece.resolution_ms, Arc::clone(&set));
                    set
                }
            };
            if !set.is_empty() {
                parts.push((Box::new(PieceSet { set, piece }), piece.start, piece.end - 1));
            }
        }
        let late = match &self.late {
            Some(late) => {
                let needs = SelectHints { start, ..needs };
                let found = late.select(&needs, matchers, symbols, control)?;
                Some((found, start, hints.end)).filter(|(found, _, _)| !found.is_empty())
            }
            None => None,
        };
        merged_with_last_resort(parts, late, symbols, control)
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
        if !out.is_empty() {
            // What is there ends before this piece, but not before all that is read of it.
            let mut own = SampleColumns::default();
            self.clipped(&filter, &mut own, read)?;
            let SampleColumns { floats: f, histograms: h } = own;
            for i in 0..f.len() {
                out.floats.add(f.t[i], f.v[i], f.start_timestamp(i));
            }
            for (i, histogram) in h.h.iter().enumerate() {
                out.histograms.add(h.t[i], Arc::clone(histogram), h.integer[i], h.start_timestamp(i));
            }
            return Ok(());
        }
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
        // Of a counter the true values where the piece begins and ends are wanted, so it is read as far as that.
        let whole = (self.piece.resolution_ms > 0 && value == WindowValue::Counter).then(|| {
            let mint = filter.mint().max(self.piece.start);
            TimeFilter::all_between(mint, filter.maxt().min(self.piece.end - 1).max(mint))
        });
        let filter = whole.as_ref().unwrap_or(filter);
        self.clipped(filter, out, |filter, out| self.set.read_window(i, filter, value, out, stats))
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
