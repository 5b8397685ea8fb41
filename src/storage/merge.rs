//! Several queriers as one: series merged by labels, samples by time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::labels::Labels;
use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};
use tsdbctl_model::{CounterResetHint, Matcher};

use crate::control::Control;
use crate::error::{Loss, StorageError};
use crate::overlap::{Overlapping, give_way, merge_counters};
use crate::querier::{LabelNeeds, Querier, ReadStats, SelectHints, SeriesExemplars, SeriesSet, TimeFilter};
use crate::resolution::{Piece, WindowValue, join_counters};

/// A querier and the times its samples lie in, Unix ms, both ends inclusive.
pub struct Source {
    /// What is asked.
    pub querier: Box<dyn Querier>,
    /// Earliest sample time.
    pub mint: i64,
    /// Latest sample time.
    pub maxt: i64,
}

/// Several queriers as one. One alone passes through in its own order; several give label order.
pub struct MergedQuerier {
    sources: Vec<Source>,
    losses: Vec<Loss>,
}

impl MergedQuerier {
    /// Merges queriers. Of samples at one time, upstream's merge decides by the order of `sources`: the head first,
    /// then blocks by their start.
    pub fn new(sources: Vec<Source>) -> Self {
        Self { sources, losses: Vec::new() }
    }

    /// Adds damage found before, to be told by [`Querier::losses`].
    pub fn with_losses(mut self, losses: Vec<Loss>) -> Self {
        self.losses = losses;
        self
    }

    fn strings(
        &self,
        mut ask: impl FnMut(&dyn Querier) -> Result<Vec<String>, StorageError>,
    ) -> Result<Vec<String>, StorageError> {
        if let [one] = self.sources.as_slice() {
            return ask(&*one.querier);
        }
        let mut all = BTreeSet::new();
        for source in &self.sources {
            all.extend(ask(&*source.querier)?);
        }
        Ok(all.into_iter().collect())
    }
}

impl Querier for MergedQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        if let [one] = self.sources.as_slice() {
            return one.querier.select(hints, matchers, symbols, control);
        }
        // Series are told apart by all their labels, so none may be left out.
        let hints = SelectHints { labels: LabelNeeds::All, ..hints.clone() };
        let mut parts = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let set = source.querier.select(&hints, matchers, symbols, control)?;
            if !set.is_empty() {
                parts.push(Part { set, mint: source.mint, maxt: source.maxt });
            }
        }
        if parts.len() == 1
            && let Some(part) = parts.pop()
        {
            // The order is that of labels still, as it would be had the others found something.
            return Ok(Box::new(MergedSet::new(vec![part], symbols, control)?));
        }
        Ok(Box::new(MergedSet::new(parts, symbols, control)?))
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        self.strings(|q| q.label_names(matchers, control))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.strings(|q| q.label_values(name, matchers, control))
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        let mut all: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for source in &self.sources {
            for found in source.querier.exemplars(start, end, selections, control)? {
                all.entry(found.series).or_default().extend(found.exemplars);
            }
        }
        let sorted = all.into_iter().map(|(series, mut exemplars)| {
            exemplars.sort_by_key(|e| e.timestamp_ms);
            exemplars.dedup();
            SeriesExemplars { series, exemplars }
        });
        Ok(sorted.collect())
    }

    fn losses(&self) -> Vec<Loss> {
        let mut all = self.losses.clone();
        for source in &self.sources {
            all.extend(source.querier.losses());
        }
        all
    }
}

/// Several series sets as one in label order; with each the times its samples lie in, both ends inclusive.
pub(crate) fn merged_set(
    parts: Vec<(Box<dyn SeriesSet>, i64, i64)>,
    symbols: &SymbolTable,
    control: &Control,
) -> Result<Box<dyn SeriesSet>, StorageError> {
    merged_with_last_resort(parts, None, symbols, control)
}

/// As [`merged_set`]; of a last one the series are taken that no other part has windows of.
pub(crate) fn merged_with_last_resort(
    parts: Vec<(Box<dyn SeriesSet>, i64, i64)>,
    last_resort: Option<(Box<dyn SeriesSet>, i64, i64)>,
    symbols: &SymbolTable,
    control: &Control,
) -> Result<Box<dyn SeriesSet>, StorageError> {
    let place = last_resort.is_some().then_some(parts.len());
    let parts = parts.into_iter().chain(last_resort);
    let parts = parts.map(|(set, mint, maxt)| Part { set, mint, maxt }).collect();
    Ok(Box::new(MergedSet::with_last_resort(parts, place, symbols, control)?))
}

/// What one source selected.
struct Part {
    set: Box<dyn SeriesSet>,
    mint: i64,
    maxt: i64,
}

impl Part {
    /// Reads a series: as it is, or the value of its windows.
    fn read(
        &self,
        series: u32,
        filter: &TimeFilter,
        value: Option<WindowValue>,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        match value {
            None => self.set.read(series as usize, filter, out, stats),
            Some(value) => self.set.read_window(series as usize, filter, value, out, stats),
        }
    }
}

/// A series in a part.
#[derive(Clone, Copy)]
struct Place {
    part: u32,
    series: u32,
}

/// Series of several sources, in label order.
struct MergedSet {
    parts: Vec<Part>,
    /// Places of all series; those of one merged series are neighbours.
    places: Vec<Place>,
    /// Where the places of each merged series end.
    ends: Vec<u32>,
    /// Whether no two parts share a time.
    apart: bool,
    /// A part that shares times with the others, and is used for series that they have no windows of.
    last_resort: Option<usize>,
    /// What times each part has at which resolution; empty if all have raw samples alone.
    pieces: Vec<Vec<Piece>>,
    control: Control,
    taken: usize,
}

impl Drop for MergedSet {
    fn drop(&mut self) {
        self.control.budget.give(self.taken);
    }
}

impl MergedSet {
    fn new(parts: Vec<Part>, symbols: &SymbolTable, control: &Control) -> Result<Self, StorageError> {
        Self::with_last_resort(parts, None, symbols, control)
    }

    fn with_last_resort(
        parts: Vec<Part>,
        last_resort: Option<usize>,
        symbols: &SymbolTable,
        control: &Control,
    ) -> Result<Self, StorageError> {
        let total: usize = parts.iter().map(|p| p.set.len()).sum();
        let taken = total * (size_of::<Place>() + size_of::<u32>());
        control.budget.take("merged series", taken)?;
        let compare = |a: Place, b: Place| {
            symbols.compare(
                parts[a.part as usize].set.labels(a.series as usize),
                parts[b.part as usize].set.labels(b.series as usize),
            )
        };
        // Runs in label order, merged two by two. A head's series come in any order and are sorted first.
        let mut runs: Vec<Vec<Place>> = Vec::with_capacity(parts.len());
        for (part, p) in parts.iter().enumerate() {
            control.check("series merging")?;
            let mut run: Vec<Place> =
                (0..p.set.len() as u32).map(|series| Place { part: part as u32, series }).collect();
            if !run.is_sorted_by(|a, b| compare(*a, *b) != Ordering::Greater) {
                run.sort_by(|a, b| compare(*a, *b));
            }
            runs.push(run);
        }
        while runs.len() > 1 {
            control.check("series merging")?;
            let mut next = Vec::with_capacity(runs.len().div_ceil(2));
            let mut pairs = runs.into_iter();
            while let Some(a) = pairs.next() {
                next.push(match pairs.next() {
                    Some(b) => merge_runs(&a, &b, compare),
                    None => a,
                });
            }
            runs = next;
        }
        let mut places = runs.pop().unwrap_or_default();
        if let Some(last_resort) = last_resort {
            // Those of one series are neighbours.
            let same = places.chunk_by(|a, b| compare(*a, *b) == Ordering::Equal);
            let has_windows = |p: &Place| !parts[p.part as usize].set.is_raw(p.series as usize);
            let wanted = same.flat_map(|series| {
                let known = series.iter().any(has_windows);
                series.iter().copied().filter(move |p| !known || p.part as usize != last_resort)
            });
            places = wanted.collect();
        }
        let mut ends: Vec<u32> = Vec::with_capacity(places.len());
        for (i, place) in places.iter().enumerate() {
            match ends.last_mut() {
                Some(end) if compare(places[i - 1], *place) == Ordering::Equal => *end += 1,
                _ => ends.push(i as u32 + 1),
            }
        }
        ends.shrink_to_fit();
        let others = parts.iter().enumerate().filter(|(i, _)| last_resort != Some(*i));
        let mut ranges: Vec<(i64, i64)> = others.map(|(_, p)| (p.mint, p.maxt)).collect();
        ranges.sort_unstable();
        let apart = ranges.windows(2).all(|w| w[0].1 < w[1].0);
        let mut pieces: Vec<Vec<Piece>> = parts.iter().map(|p| p.set.pieces()).collect();
        if pieces.iter().flatten().all(|p| p.resolution_ms == 0) {
            pieces.clear();
        }
        for (own, part) in pieces.iter_mut().zip(&parts).filter(|(own, _)| own.is_empty()) {
            own.push(Piece { start: part.mint, end: part.maxt.saturating_add(1), resolution_ms: 0 });
        }
        Ok(Self { parts, places, ends, apart, last_resort, pieces, control: control.clone(), taken })
    }

    /// Reads a series of each part and merges by time.
    fn merge(
        &self,
        places: &[Place],
        filter: &TimeFilter,
        value: Option<WindowValue>,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let mut columns = Vec::with_capacity(places.len());
        for place in places {
            let mut own = SampleColumns::default();
            self.parts[place.part as usize].read(place.series, filter, value, &mut own, stats)?;
            columns.push(own);
        }
        let is_raw = |p: &Place| self.parts[p.part as usize].set.is_raw(p.series as usize);
        if self.pieces.is_empty() || places.iter().all(is_raw) {
            merge_columns(&columns, out);
            return Ok(());
        }
        let is_counter = value == Some(WindowValue::Counter);
        let sources = columns.into_iter().zip(places).map(|(mut columns, place)| {
            let last = (columns.floats.v.last().copied(), columns.histograms.h.last().cloned());
            if is_counter {
                join_counters(&mut columns);
            }
            let pieces = self.pieces.get(place.part as usize).map_or(&[][..], Vec::as_slice);
            Overlapping { columns, pieces, last }
        });
        let sources: Vec<Overlapping<'_>> = sources.collect();
        if is_counter {
            merge_counters(&sources, out);
        } else {
            merge_columns(&give_way(sources), out);
        }
        Ok(())
    }

    fn read_series(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: Option<WindowValue>,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let places = self.places(i);
        let part = |p: &Place| &self.parts[p.part as usize];
        if let [one] = places {
            return part(one).read(one.series, filter, value, out, stats);
        }
        let is_last_resort = |p: &Place| self.last_resort == Some(p.part as usize);
        if !self.apart
            || places.iter().any(is_last_resort)
            || places.windows(2).any(|w| w[0].part == w[1].part)
        {
            return self.merge(places, filter, value, out, stats);
        }
        let mut by_time: Vec<Place> = places.to_vec();
        by_time.sort_by_key(|p| part(p).mint);
        if filter.newest_only && filter.steps <= 1 {
            for place in by_time.iter().rev().filter(|p| filter.wants(part(p).mint, part(p).maxt)) {
                let (before, histograms) = (out.len(), out.histograms.len());
                part(place).read(place.series, filter, value, out, stats)?;
                if out.len() > before {
                    forget_reset(out, histograms);
                    break;
                }
            }
            return Ok(());
        }
        let start = (out.floats.len(), out.histograms.len());
        let mut last = None;
        for place in by_time.iter().filter(|p| filter.wants(part(p).mint, part(p).maxt)) {
            let (floats, histograms) = (out.floats.len(), out.histograms.len());
            part(place).read(place.series, filter, value, out, stats)?;
            let (float, histogram) = (out.floats.t.get(floats), out.histograms.t.get(histograms));
            let histogram_first = histogram.is_some_and(|h| float.is_none_or(|f| h < f));
            let first = if histogram_first { histogram } else { float };
            if last.is_some_and(|last| first.is_some_and(|first| *first <= last)) {
                // A block has samples outside of the range it claims, as old compactors left them.
                out.floats.truncate(start.0);
                out.histograms.truncate(start.1);
                return self.merge(places, filter, value, out, stats);
            }
            last = last.max(out.floats.t[floats..].last().copied());
            last = last.max(out.histograms.t[histograms..].last().copied());
            if histogram_first {
                forget_reset(out, histograms);
            }
        }
        Ok(())
    }

    fn places(&self, i: usize) -> &[Place] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.places[start..self.ends[i] as usize]
    }
}

fn merge_runs(a: &[Place], b: &[Place], compare: impl Fn(Place, Place) -> Ordering) -> Vec<Place> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match compare(a[i], b[j]) {
            Ordering::Greater => {
                out.push(b[j]);
                j += 1;
            }
            Ordering::Less => {
                out.push(a[i]);
                i += 1;
            }
            Ordering::Equal => {
                out.push(a[i]);
                i += 1;
                // All of `a`'s of one merged series come before `b`'s.
                while i < a.len() && compare(a[i], b[j]) == Ordering::Equal {
                    out.push(a[i]);
                    i += 1;
                }
                out.push(b[j]);
                j += 1;
            }
        }
    }
    out.extend_from_slice(&a[i..]);
    out.extend_from_slice(&b[j..]);
    out
}

impl SeriesSet for MergedSet {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        let place = self.places(i)[0];
        self.parts[place.part as usize].set.labels(place.series as usize)
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        self.read_series(i, filter, None, out, stats)
    }

    fn read_window(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: WindowValue,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        self.read_series(i, filter, Some(value), out, stats)
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut all: Vec<Piece> = self.pieces.iter().flatten().copied().collect();
        all.sort_by_key(|p| (p.start, p.end));
        all.dedup();
        all
    }

    fn is_raw(&self, i: usize) -> bool {
        let is_raw = |p: &Place| self.parts[p.part as usize].set.is_raw(p.series as usize);
        self.pieces.is_empty() || self.places(i).iter().all(is_raw)
    }

    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        let mut all = ReadStats::default();
        for place in self.places(i) {
            all.add(&self.parts[place.part as usize].set.cost(place.series as usize, filter));
        }
        all
    }
}

/// Makes the reset hint of histogram `i` unknown, unless it is a gauge's: what came before it is of another source.
fn forget_reset(out: &mut SampleColumns, i: usize) {
    if let Some(h) = out.histograms.h.get_mut(i)
        && !matches!(h.counter_reset_hint, CounterResetHint::Unknown | CounterResetHint::Gauge)
    {
        Arc::make_mut(h).counter_reset_hint = CounterResetHint::Unknown;
    }
}

/// A place in the samples of one source.
struct Head<'a> {
    columns: &'a SampleColumns,
    float: usize,
    histogram: usize,
}

impl Head<'_> {
    /// Time of the sample it is at; `None` behind the last one.
    fn time(&self) -> Option<i64> {
        let f = self.columns.floats.t.get(self.float);
        let h = self.columns.histograms.t.get(self.histogram);
        match (f, h) {
            (Some(f), Some(h)) => Some(*f.min(h)),
            (one, other) => one.or(other).copied(),
        }
    }

    fn advance(&mut self) {
        let Some(t) = self.time() else { return };
        if self.columns.floats.t.get(self.float) == Some(&t) {
            self.float += 1;
        } else {
            self.histogram += 1;
        }
    }

    fn copy_to(&self, out: &mut SampleColumns, t: i64, same_source: bool) {
        let floats = &self.columns.floats;
        if floats.t.get(self.float) == Some(&t) {
            out.floats.push(t, floats.v[self.float], floats.start_timestamp(self.float));
            return;
        }
        let (h, i) = (&self.columns.histograms, self.histogram);
        out.histograms.push(t, Arc::clone(&h.h[i]), h.integer[i], h.start_timestamp(i));
        if !same_source {
            forget_reset(out, out.histograms.len() - 1);
        }
    }
}

/// Appends the samples of several sources to `out` in time order, one per time.
///
/// Which of two samples at one time is taken, and where reset hints are forgotten, is as in upstream's chained
/// iterators: the source read last goes on while its next sample is strictly the earliest.
pub fn merge_columns(sources: &[SampleColumns], out: &mut SampleColumns) {
    let mut heads: Vec<Head<'_>> =
        sources.iter().map(|columns| Head { columns, float: 0, histogram: 0 }).collect();
    // A binary heap kept as Go's container/heap keeps it, since its order of equal times decides.
    let mut heap: Vec<(i64, usize)> = Vec::with_capacity(heads.len());
    for (i, head) in heads.iter().enumerate().skip(1) {
        if let Some(t) = head.time() {
            heap_push(&mut heap, (t, i));
        }
    }
    if heads.is_empty() {
        return;
    }
    let mut current = 0;
    let mut fresh = true;
    let mut last: Option<i64> = None;
    let mut first = true;
    loop {
        let mut switched = first;
        first = false;
        let t = loop {
            if !std::mem::take(&mut fresh) {
                heads[current].advance();
            }
            match heads[current].time() {
                None if heap.is_empty() => return,
                None => {}
                Some(t) if last == Some(t) => continue,
                Some(t) if heap.first().is_none_or(|top| t < top.0) => break t,
                Some(t) => heap_push(&mut heap, (t, current)),
            }
            let Some((t, next)) = heap_pop(&mut heap) else { return };
            current = next;
            switched = true;
            if last != Some(t) {
                break t;
            }
        };
        heads[current].copy_to(out, t, !switched);
        last = Some(t);
    }
}

fn heap_push(heap: &mut Vec<(i64, usize)>, item: (i64, usize)) {
    heap.push(item);
    let mut j = heap.len() - 1;
    while j > 0 {
        let parent = (j - 1) / 2;
        if heap[j].0 >= heap[parent].0 {
            break;
        }
        heap.swap(parent, j);
        j = parent;
    }
}

fn heap_pop(heap: &mut Vec<(i64, usize)>) -> Option<(i64, usize)> {
    let n = heap.len().checked_sub(1)?;
    heap.swap(0, n);
    let mut i = 0;
    loop {
        let mut child = 2 * i + 1;
        if child >= n {
            break;
        }
        if child + 1 < n && heap[child + 1].0 < heap[child].0 {
            child += 1;
        }
        if heap[child].0 >= heap[i].0 {
            break;
        }
        heap.swap(i, child);
        i = child;
    }
    heap.pop()
}

#[cfg(test)]
mod tests {
    use tsdbctl_chunk::AppenderOptions;
    use tsdbctl_model::FloatHistogram;

    use super::*;
    use crate::memory::{MemorySample, MemoryStore};
    use crate::querier::Queryable;

    fn floats(samples: &[(i64, f64)]) -> SampleColumns {
        let mut c = SampleColumns::default();
        samples.iter().for_each(|(t, v)| c.floats.push(*t, *v, 0));
        c
    }

    fn histograms(times: &[i64], hint: CounterResetHint) -> SampleColumns {
        let mut c = SampleColumns::default();
        for t in times {
            let h = FloatHistogram { counter_reset_hint: hint, ..FloatHistogram::default() };
            c.histograms.push(*t, Arc::new(h), true, 0);
        }
        c
    }

    fn merged(sources: &[SampleColumns]) -> Vec<(i64, f64)> {
        let mut out = SampleColumns::default();
        merge_columns(sources, &mut out);
        out.floats.t.into_iter().zip(out.floats.v).collect()
    }

    #[test]
    fn samples_come_once_per_time_and_equal_times_from_the_source_upstream_takes() {
        let a = || floats(&[(1, 1.0), (2, 1.0), (4, 1.0), (5, 1.0)]);
        let b = || floats(&[(2, 2.0), (3, 2.0), (4, 2.0)]);
        // `a` runs into `b` at 2: `b` takes over and stays as long as it is not later than `a`.
        assert_eq!(merged(&[a(), b()]), [(1, 1.0), (2, 2.0), (3, 2.0), (4, 1.0), (5, 1.0)]);
        assert_eq!(merged(&[b(), a()]), [(1, 1.0), (2, 2.0), (3, 2.0), (4, 1.0), (5, 1.0)]);
        // The first source is compared before it goes into the heap, so the others win at their first sample.
        assert_eq!(merged(&[floats(&[(1, 1.0), (2, 1.0)]), floats(&[(1, 2.0)])]), [(1, 2.0), (2, 1.0)]);
        assert_eq!(
            merged(&[floats(&[(1, 1.0), (3, 1.0)]), floats(&[(2, 2.0), (3, 2.0), (4, 2.0)])]),
            [(1, 1.0), (2, 2.0), (3, 1.0), (4, 2.0)]
        );
        assert_eq!(merged(&[floats(&[]), floats(&[(5, 1.0)]), floats(&[])]), [(5, 1.0)]);
        assert_eq!(merged(&[floats(&[]), a()]), [(1, 1.0), (2, 1.0), (4, 1.0), (5, 1.0)]);
        assert_eq!(merged(&[]), []);
    }

    #[test]
    fn hints_are_forgotten_where_the_source_changes() {
        use CounterResetHint::{Gauge, NotCounterReset, Unknown};
        let hints = |sources: &[SampleColumns]| {
            let mut out = SampleColumns::default();
            merge_columns(sources, &mut out);
            out.histograms.h.iter().map(|h| h.counter_reset_hint).collect::<Vec<_>>()
        };
        let n = |t: &[i64]| histograms(t, NotCounterReset);
        assert_eq!(
            hints(&[n(&[1, 2, 5]), n(&[3, 4])]),
            [Unknown, NotCounterReset, Unknown, NotCounterReset, Unknown]
        );
        let mut late_gauge = n(&[3]);
        late_gauge.histograms.push(6, histograms(&[6], Gauge).histograms.h[0].clone(), true, 0);
        assert_eq!(
            hints(&[n(&[1, 2, 4, 5]), late_gauge]),
            [Unknown, NotCounterReset, Unknown, Unknown, NotCounterReset, Gauge]
        );
        assert_eq!(hints(&[histograms(&[1, 3], Gauge), histograms(&[2], Gauge)]), [Gauge; 3]);
    }

    fn source(series: &[(&str, &[(i64, f64)])], mint: i64, maxt: i64) -> Source {
        let mut store = MemoryStore::new(AppenderOptions::default());
        for (name, samples) in series {
            for (t, v) in *samples {
                let labels = Labels::from_pairs([("a", *name)]);
                store.append(&labels, *t, 0, &MemorySample::Float(*v)).unwrap();
            }
        }
        Source { querier: store.querier(mint, maxt, &[], &Control::default()).unwrap(), mint, maxt }
    }

    fn all(sources: Vec<Source>) -> Vec<(String, Vec<i64>)> {
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start: 0, end: 1000, ..SelectHints::default() };
        let querier = MergedQuerier::new(sources);
        let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
        (0..set.len())
            .map(|i| {
                let mut out = SampleColumns::default();
                set.read(i, &TimeFilter::all_between(0, 1000), &mut out, &mut ReadStats::default()).unwrap();
                (symbols.labels(set.labels(i)).get("a").to_string(), out.floats.t)
            })
            .collect()
    }

    #[test]
    fn a_source_with_samples_outside_of_its_range_is_merged_all_the_same() {
        let late = || source(&[("b", &[(30, 1.0), (40, 1.0)])], 30, 40);
        let early = Source { maxt: 20, ..source(&[("b", &[(10, 1.0), (35, 1.0)])], 10, 40) };
        assert_eq!(all(vec![late(), early]), [("b".to_string(), vec![10, 30, 35, 40])]);
        let early = Source { maxt: 20, ..source(&[("b", &[(10, 1.0), (30, 2.0)])], 10, 40) };
        assert_eq!(all(vec![early, late()]), [("b".to_string(), vec![10, 30, 40])]);
    }

    #[test]
    fn one_source_keeps_its_order_and_several_come_in_label_order() {
        let late = || source(&[("z", &[(30, 1.0)]), ("b", &[(40, 1.0)])], 30, 40);
        let early = || source(&[("b", &[(10, 1.0), (20, 1.0)]), ("a", &[(5, 1.0)])], 5, 20);
        let wide = || source(&[("b", &[(15, 1.0), (20, 1.0), (45, 1.0)])], 15, 45);
        let of = |name: &str, t: &[i64]| (name.to_string(), t.to_vec());
        assert_eq!(all(vec![late()]), [of("z", &[30]), of("b", &[40])]);
        assert_eq!(all(vec![late(), early()]), [of("a", &[5]), of("b", &[10, 20, 40]), of("z", &[30])]);
        assert_eq!(
            all(vec![late(), early(), wide()]),
            [of("a", &[5]), of("b", &[10, 15, 20, 40, 45]), of("z", &[30])]
        );
        assert_eq!(all(vec![late(), late()]), [of("b", &[40]), of("z", &[30])]);
        assert!(all(Vec::new()).is_empty());
    }
}
