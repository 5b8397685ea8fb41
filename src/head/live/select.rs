//! The live head as a querier: series by matchers, samples as they were when the querier was opened.
//!
//! No lock is held while samples are decoded or files are read, and none for longer than a few thousand series.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tsdbctl_chunk::{ChunkError, Encoding, SampleColumns};
use tsdbctl_model::symbols::SymLabels;
use tsdbctl_model::{Matcher, Sym, SymbolTable};
use tsdbctl_storage::querier::SeriesExemplars;
use tsdbctl_storage::{
    Control, LabelNeeds, LabelRows, Loss, Querier, Queryable, ReadStats, SelectHints, SeriesSet,
    StorageError, TimeFilter,
};

use crate::live::chunk_files::ChunkPlace;
use crate::live::head::{Head, lock, read};
use crate::live::index::{Index, SeriesId};
use crate::live::isolation::ReadView;
use crate::live::shard::Piece;
use crate::pieces::{self, is_deleted, keep};

/// Series whose labels are copied under one lock.
const BATCH: usize = 4096;
/// Times beyond these may be cut off in a mapped chunk's first time.
const SATURATED: std::ops::Range<i64> = -(1 << 43) + 1..(1 << 43) - 1;

/// A head to be queried.
#[derive(Clone, Debug)]
pub struct HeadQueryable(pub Arc<Head>);

impl Queryable for HeadQueryable {
    fn querier(
        &self,
        mint: i64,
        maxt: i64,
        _selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(LiveQuerier::new(Arc::clone(&self.0), mint, maxt)))
    }
}

/// Answers queries from a head. What is committed after it was opened it does not see, as far as samples came in order.
#[derive(Clone, Debug)]
pub struct LiveQuerier {
    snapshot: Arc<Snapshot>,
    range: (i64, i64),
}

/// A head at the time a querier was opened.
#[derive(Debug)]
struct Snapshot {
    head: Arc<Head>,
    view: ReadView,
}

/// The samples of a piece.
struct Data {
    encoding: Encoding,
    bytes: Vec<u8>,
    /// Samples at the end to leave out.
    hidden: usize,
    /// Where they were read; `None` if they were in memory.
    place: Option<ChunkPlace>,
}

impl LiveQuerier {
    /// A querier for `mint..=maxt`, Unix ms.
    pub fn new(head: Arc<Head>, mint: i64, maxt: i64) -> Self {
        let view = head.isolation.view();
        Self { snapshot: Arc::new(Snapshot { head, view }), range: (mint, maxt) }
    }

    fn head(&self) -> &Head {
        &self.snapshot.head
    }

    /// Whether the head's times touch the querier's.
    fn in_range(&self) -> bool {
        let head = self.head();
        let first =
            head.min_time.load(Ordering::Acquire).min(head.min_out_of_order_time.load(Ordering::Acquire));
        let last =
            head.max_time.load(Ordering::Acquire).max(head.max_out_of_order_time.load(Ordering::Acquire));
        first <= self.range.1 && last >= self.range.0
    }
}

/// From where on and how far a piece may reach, its neighbour's begin known.
fn bounds(piece: &Piece, next: Option<&Piece>) -> (i64, i64) {
    match piece {
        Piece::Memory { chunk, .. } => (chunk.mint, chunk.maxt),
        Piece::Mapped { mint, out_of_order, .. } => {
            let first = if SATURATED.contains(mint) { *mint } else { i64::MIN };
            let last = match next {
                Some(Piece::Mapped { mint, out_of_order: false, .. })
                    if !out_of_order && SATURATED.contains(mint) =>
                {
                    *mint - 1
                }
                Some(Piece::Memory { chunk, out_of_order: false, .. }) if !out_of_order => chunk.mint - 1,
                _ => i64::MAX,
            };
            (first, last.max(first))
        }
    }
}

impl Snapshot {
    fn pieces(&self, id: SeriesId, mint: i64, maxt: i64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        lock(self.head.shard_of(id)).pieces(id, mint, maxt, self.view.visible, &mut pieces);
        pieces
    }

    fn deleted(&self, id: SeriesId) -> Vec<(i64, i64)> {
        read(&self.head.tombstones).get(&id).cloned().unwrap_or_default()
    }

    /// Reads the file of a mapped piece.
    fn load(&self, piece: Piece) -> Result<pieces::Piece<Data>, StorageError> {
        Ok(match piece {
            Piece::Memory { chunk, hidden, open, out_of_order } => pieces::Piece {
                mint: chunk.mint,
                maxt: chunk.maxt,
                merge_end: if open && !out_of_order { i64::MAX } else { chunk.maxt },
                out_of_order,
                data: Data { encoding: chunk.encoding, bytes: chunk.data, hidden, place: None },
            },
            Piece::Mapped { place, hidden, out_of_order, .. } => {
                let chunk = self.head.files.read(place)?;
                pieces::Piece {
                    mint: chunk.mint,
                    maxt: chunk.maxt,
                    merge_end: chunk.maxt,
                    out_of_order,
                    data: Data { encoding: chunk.encoding, bytes: chunk.data, hidden, place: Some(place) },
                }
            }
        })
    }

    fn damaged(&self, data: &Data, e: ChunkError) -> StorageError {
        let dir = &self.head.dir;
        let (file, offset) = match data.place {
            None => (dir.join("wal"), 0),
            Some(place) => {
                (dir.join("chunks_head").join(format!("{:06}", place.file)), u64::from(place.offset))
            }
        };
        StorageError::Corrupt(Loss { file, offset, reason: e.to_string() })
    }

    fn decode(
        &self,
        data: &Data,
        range: (i64, i64),
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let Data { encoding, bytes, hidden, .. } = data;
        let (encoding, hidden) = (*encoding, *hidden);
        let failed = |e| self.damaged(data, e);
        stats.chunks += 1;
        stats.bytes += bytes.len() as u64;
        let samples = tsdbctl_chunk::sample_count(encoding, bytes).map_err(failed)?;
        stats.samples += samples as u64;
        if hidden == 0 {
            return tsdbctl_chunk::decode(encoding, bytes, range.0, range.1, out).map_err(failed);
        }
        let mut all = SampleColumns::default();
        tsdbctl_chunk::decode(encoding, bytes, i64::MIN, i64::MAX, &mut all).map_err(failed)?;
        // A chunk holds floats or histograms, not both.
        all.floats.truncate(all.floats.len().min(samples.saturating_sub(hidden)));
        all.histograms.truncate(all.histograms.len().min(samples.saturating_sub(hidden)));
        keep(&all, out, |t| (range.0..=range.1).contains(&t));
        Ok(())
    }

    fn read(
        &self,
        id: SeriesId,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        // What was deleted stays deleted, so it may be looked up behind the pieces.
        let mut found = self.pieces(id, filter.mint(), filter.maxt()).into_iter().peekable();
        let deleted = self.deleted(id);
        let (mut in_order, mut late) = (Vec::with_capacity(found.len()), Vec::new());
        while let Some(piece) = found.next() {
            let (first, last) = bounds(&piece, found.peek());
            if !filter.wants(first, last) {
                continue;
            }
            let piece = self.load(piece)?;
            if piece.out_of_order { late.push(piece) } else { in_order.push(piece) }
        }
        pieces::read(in_order, late, &deleted, filter, out, |piece, range, out| {
            self.decode(&piece.data, range, out, stats)
        })
    }

    /// Whether upstream would find a chunk of the series in the range, as far as that is known without reading a file;
    /// `exact` reads it. `first` and `last` are the times of all its samples.
    fn overlaps(
        &self,
        id: SeriesId,
        (first, last): (i64, i64),
        (start, end): (i64, i64),
        exact: bool,
    ) -> Result<bool, StorageError> {
        if first > end || last < start {
            return Ok(false);
        }
        let deleted = self.deleted(id);
        if deleted.is_empty() && ((start..=end).contains(&first) || (start..=end).contains(&last) || !exact) {
            return Ok(true);
        }
        let mut found = self.pieces(id, start, end).into_iter().peekable();
        while let Some(piece) = found.next() {
            let (first, last) = bounds(&piece, found.peek());
            if first > end || last < start {
                continue;
            }
            let known = matches!(&piece, Piece::Memory { .. });
            if !known && deleted.is_empty() && first >= start && first != i64::MIN {
                return Ok(true);
            }
            let (first, last) = match known {
                true => (first, last),
                false => {
                    let piece = self.load(piece)?;
                    (piece.mint, piece.maxt)
                }
            };
            if first <= end && last >= start && !is_deleted(&deleted, first, last) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those of `ids` that may have samples in the range.
    fn overlapping(
        &self,
        ids: Vec<SeriesId>,
        range: (i64, i64),
        exact: bool,
        control: &Control,
    ) -> Result<Vec<SeriesId>, StorageError> {
        let mut kept = Vec::with_capacity(ids.len());
        let mut times = Vec::new();
        // Neighbours are in the same shard.
        for run in ids.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            control.check("series selection")?;
            times.clear();
            {
                let shard = lock(self.head.shard_of(run[0]));
                times.extend(run.iter().map(|id| shard.times(*id)));
            }
            for (id, times) in run.iter().zip(&times) {
                if let Some(times) = times
                    && self.overlaps(*id, *times, range, exact)?
                {
                    kept.push(*id);
                }
            }
        }
        Ok(kept)
    }
}

/// Symbols of pairs that were met, by their numbers in the index.
#[derive(Default)]
struct PairSymbols {
    /// [`Index::removals`] when this was begun.
    removals: u64,
    /// Name in the upper, value in the lower half; 0 for those not met, which no pair has as values are not empty.
    known: Vec<u64>,
}

/// Stands for a pair that is not needed.
const UNNEEDED: u64 = u64::MAX;

impl PairSymbols {
    /// Forgets what may mean something else by now.
    fn renew(&mut self, index: &Index, series: usize) {
        // Few series have few pairs in common.
        if series > 64 && (self.known.is_empty() || self.removals != index.removals()) {
            // Zeroed pages cost nothing until they are touched.
            *self = Self { removals: index.removals(), known: vec![0; index.pair_count()] };
        }
    }

    fn get(
        &mut self,
        pair: u32,
        index: &Index,
        needs: &LabelNeeds,
        symbols: &mut SymbolTable,
    ) -> Option<(Sym, Sym)> {
        let mut place = self.known.get_mut(pair as usize);
        let packed = match place.as_deref() {
            Some(0) | None => {
                let (name, value) = index.pair(pair);
                let packed = match needs.wants(name) {
                    true => u64::from(symbols.intern(name).0) << 32 | u64::from(symbols.intern(value).0),
                    false => UNNEEDED,
                };
                if let Some(place) = &mut place {
                    **place = packed;
                }
                packed
            }
            Some(packed) => *packed,
        };
        (packed != UNNEEDED).then_some((Sym((packed >> 32) as u32), Sym(packed as u32)))
    }
}

impl Querier for LiveQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let found = read(&self.head().index).select(matchers, control)?;
        let range = (hints.start, hints.end);
        let found = self.snapshot.overlapping(found, range, hints.series_only, control)?;
        let mut set = LiveSeriesSet {
            snapshot: Arc::clone(&self.snapshot),
            ids: Vec::with_capacity(found.len()),
            labels: LabelRows::with_capacity(found.len()),
        };
        let mut known = PairSymbols::default();
        for batch in found.chunks(BATCH) {
            control.check("series selection")?;
            let index = read(&self.head().index);
            known.renew(&index, found.len());
            for id in batch.iter().filter(|id| index.is_live(**id)) {
                let pairs = index.pair_numbers(*id);
                set.labels.push(pairs.filter_map(|p| known.get(p, &index, &hints.labels, symbols)));
                set.ids.push(*id);
            }
        }
        Ok(Box::new(set))
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        if !self.in_range() {
            return Ok(Vec::new());
        }
        Ok(read(&self.head().index).matching_names(matchers, control)?)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        if !self.in_range() {
            return Ok(Vec::new());
        }
        Ok(read(&self.head().index).matching_values(name, matchers, control)?)
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        let mut wanted: Vec<SeriesId> = Vec::new();
        for matchers in selections {
            wanted.extend(read(&self.head().index).select(matchers, control)?);
        }
        wanted.sort_unstable();
        wanted.dedup();
        let found = self.head().exemplars_in(start, end, |id| wanted.binary_search(&id).is_ok());
        let index = read(&self.head().index);
        let live = found.into_iter().filter(|(id, _)| index.is_live(*id));
        let mut all: Vec<SeriesExemplars> = live
            .map(|(id, exemplars)| SeriesExemplars { series: index.owned_labels(id), exemplars })
            .collect();
        all.sort_by(|a, b| a.series.cmp(&b.series));
        Ok(all)
    }
}

/// Selected series of a live head, in order of their references.
struct LiveSeriesSet {
    snapshot: Arc<Snapshot>,
    ids: Vec<SeriesId>,
    labels: LabelRows,
}

impl SeriesSet for LiveSeriesSet {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        self.labels.get(i)
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        self.snapshot.read(self.ids[i], filter, out, stats)
    }

    /// Of a chunk in a file only its place is known: it counts as full.
    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        let rules = &self.snapshot.head.options.rules;
        let mut cost = ReadStats::default();
        let mut found =
            self.snapshot.pieces(self.ids[i], filter.mint(), filter.maxt()).into_iter().peekable();
        while let Some(piece) = found.next() {
            let (first, last) = bounds(&piece, found.peek());
            if !filter.wants(first, last) {
                continue;
            }
            cost.chunks += 1;
            let (bytes, samples) = match &piece {
                Piece::Memory { chunk, .. } => (chunk.data.len() as u64, chunk.samples as u64),
                Piece::Mapped { .. } => (u64::from(rules.seal_bytes), u64::from(rules.samples_per_chunk)),
            };
            cost.bytes += bytes;
            cost.samples += samples;
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use tsdbctl_model::histogram::BucketSpan;
    use tsdbctl_model::sample::{Exemplar, stale_nan};
    use tsdbctl_model::{Histogram, Labels, MatchType};
    use tsdbctl_platform::real::RealDisk;

    use crate::live::appender::Appender;
    use crate::live::head::LiveOptions;
    use crate::replay::HeadOptions;
    use crate::{ReadHead, live::shard::ChunkRules};

    const MINUTE: i64 = 60_000;

    fn open(dir: &Path, change: impl Fn(&mut LiveOptions)) -> Arc<Head> {
        let mut options = LiveOptions { out_of_order_window_ms: 600 * MINUTE, ..LiveOptions::default() };
        options.max_exemplars = 100;
        change(&mut options);
        Head::open(Arc::new(RealDisk), dir, options, i64::MIN, &Control::default()).unwrap().0
    }

    /// Numbers that repeat from run to run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    fn series(appender: &mut Appender, i: u64) -> SeriesId {
        let (i, parity) = (i.to_string(), (i % 2).to_string());
        let labels = [("__name__", "m"), ("i", i.as_str()), ("parity", parity.as_str())];
        appender.series(labels.into_iter()).unwrap()
    }

    /// Commits of floats over hours, some of them out of order.
    fn fill(head: &Arc<Head>, numbers: &mut Numbers, series_count: u64, minutes: std::ops::Range<i64>) {
        let mut appender = Appender::new(Arc::clone(head));
        for minute in minutes {
            for i in 0..series_count {
                let id = series(&mut appender, i);
                let v = match numbers.below(20) {
                    0 => f64::from_bits(numbers.below(u64::MAX)),
                    1 => stale_nan(),
                    n => n as f64 * minute as f64,
                };
                let late = numbers.below(12) == 0 && i.is_multiple_of(3);
                let t = minute * MINUTE - if late { numbers.below(300) as i64 * MINUTE / 2 } else { 0 };
                // A sample may be there already with another value.
                let _ = appender.append_float(id, t, v, 0);
            }
            appender.commit().unwrap();
        }
    }

    fn histogram(n: u64) -> Histogram {
        Histogram {
            schema: 1,
            count: n,
            sum: n as f64,
            positive_spans: vec![BucketSpan { offset: (n / 50) as i32, length: 1 }],
            positive_buckets: vec![n as i64],
            ..Histogram::default()
        }
    }

    /// Commits of histograms with resets and other buckets, in between floats, some out of order.
    fn fill_mixed(head: &Arc<Head>, numbers: &mut Numbers, minutes: std::ops::Range<i64>) {
        let mut appender = Appender::new(Arc::clone(head));
        let mut count = 1;
        for minute in minutes {
            for i in 0..4 {
                let id = series(&mut appender, i);
                count = if numbers.below(30) == 0 { 1 } else { count + 1 };
                let late = i % 2 == 1 && numbers.below(10) == 0;
                let t = minute * MINUTE - if late { numbers.below(300) as i64 * MINUTE / 2 } else { 0 };
                let _ = match i {
                    0 | 1 if numbers.below(40) > 0 => appender.append_histogram(id, t, &histogram(count), 0),
                    2 | 3 if numbers.below(40) > 0 => {
                        appender.append_float_histogram(id, t, &histogram(count).to_float(), 0)
                    }
                    _ => appender.append_float(id, t, count as f64, 0),
                };
            }
            appender.commit().unwrap();
        }
    }

    type Dump = Vec<(Labels, Vec<(i64, u64)>, Vec<(i64, String)>)>;

    fn dump(querier: &dyn Querier, matchers: &[Matcher], filter: &TimeFilter, series_only: bool) -> Dump {
        let mut symbols = SymbolTable::new();
        let hints =
            SelectHints { start: filter.mint(), end: filter.maxt(), series_only, ..SelectHints::default() };
        let set = querier.select(&hints, matchers, &mut symbols, &Control::default()).unwrap();
        let mut all = Dump::new();
        for i in 0..set.len() {
            let mut out = SampleColumns::default();
            set.read(i, filter, &mut out, &mut ReadStats::default()).unwrap();
            // Samples between the windows may be there or not.
            let floats = out.floats.t.iter().zip(&out.floats.v).map(|(t, v)| (*t, v.to_bits()));
            let floats = floats.filter(|(t, _)| filter.wants(*t, *t));
            let histograms =
                out.histograms.t.iter().zip(&out.histograms.h).map(|(t, h)| (*t, format!("{h:?}")));
            let histograms = histograms.filter(|(t, _)| filter.wants(*t, *t));
            if series_only || !out.is_empty() {
                all.push((symbols.labels(set.labels(i)), floats.collect(), histograms.collect()));
            }
        }
        all
    }

    fn filters() -> Vec<TimeFilter> {
        let windows = TimeFilter {
            first: 45 * MINUTE,
            step: 40 * MINUTE,
            steps: 9,
            before: 5 * MINUTE,
            after: 0,
            newest_only: false,
        };
        let mut all = vec![windows, TimeFilter::all_between(i64::MIN, i64::MAX)];
        for (from, to) in [(0, 20), (100, 103), (119, 121), (240, 400), (419, 500), (500, 600), (-9, -1)] {
            all.push(TimeFilter::all_between(from * MINUTE, to * MINUTE));
        }
        all
    }

    fn assert_same(live: &dyn Querier, other: &dyn Querier) {
        let matcher = |kind, name: &str, value: &str| Matcher::new(kind, name, value).unwrap();
        let selections = [
            vec![],
            vec![Matcher::equal("parity", "1")],
            vec![matcher(MatchType::NotRegexp, "i", "1.*"), Matcher::equal("__name__", "m")],
        ];
        for filter in filters() {
            for matchers in &selections {
                for series_only in [false, true] {
                    let found = dump(live, matchers, &filter, series_only);
                    let want = dump(other, matchers, &filter, series_only);
                    let text: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                    assert_eq!(found.len(), want.len(), "series of {text:?} in {filter:?}");
                    for (a, b) in found.iter().zip(&want) {
                        let told = format!("{} in {filter:?}, only series: {series_only}", a.0);
                        assert_eq!(a.0, b.0, "{told}");
                        assert_runs(&a.1, &b.1, &told);
                        assert_runs(&a.2, &b.2, &told);
                    }
                }
            }
        }
    }

    fn assert_runs<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T], told: &str) {
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        assert_eq!(a.get(same), b.get(same), "{told}: sample {same} of {} and {}", a.len(), b.len());
    }

    #[test]
    fn a_live_head_answers_as_the_reader_of_its_files_does() {
        let rules = |change: fn(&mut ChunkRules)| move |o: &mut LiveOptions| change(&mut o.rules);
        // Series of floats, 0 for histograms and floats mixed.
        for (count, change) in [
            (1, (|_| {}) as fn(&mut ChunkRules)),
            (7, |r| r.samples_per_chunk = 20),
            (20, |r| r.seal_bytes = 64),
            (0, |_| {}),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let head = open(dir.path(), rules(change));
            match count {
                0 => fill_mixed(&head, &mut Numbers(count), 0..420),
                _ => fill(&head, &mut Numbers(count), count, 0..420),
            }
            for (from, to) in [(60, 75), (130, 260), (262, 262)] {
                let odd = [Matcher::equal("parity", "1")];
                head.delete(from * MINUTE, to * MINUTE, &odd, &Control::default()).unwrap();
            }
            let live = LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX);
            let before = dump(&live, &[], &TimeFilter::all_between(i64::MIN, i64::MAX), false);
            assert_eq!(before.len() as u64, if count == 0 { 4 } else { count });
            head.close().unwrap();
            let reader =
                ReadHead::open(dir.path(), &HeadOptions::default(), &Control::default()).unwrap().unwrap();
            assert_same(&live, &reader);
            assert_eq!(
                live.label_values("i", &[Matcher::equal("parity", "1")], &Control::default()).unwrap(),
                reader.label_values("i", &[Matcher::equal("parity", "1")], &Control::default()).unwrap()
            );
            let again = open(dir.path(), rules(change));
            assert_same(&LiveQuerier::new(again, i64::MIN, i64::MAX), &reader);
        }
    }

    #[test]
    fn a_querier_sees_no_commit_that_came_later() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), |o| {
            o.out_of_order_window_ms = 0;
            o.rules.samples_per_chunk = 20;
        });
        let everything = TimeFilter::all_between(i64::MIN, i64::MAX);
        let mut numbers = Numbers(3);
        let mut views = Vec::new();
        for minute in 0..150 {
            fill(&head, &mut numbers, 5, minute..minute + 1);
            let view = LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX);
            let now = dump(&view, &[], &everything, false);
            assert_eq!(now.last().unwrap().1.last().unwrap().0, minute * MINUTE);
            if minute % 7 == 0 || minute > 140 {
                views.push((view, now));
            }
            for (view, then) in views.iter().rev().take(12) {
                assert_eq!(&dump(view, &[], &everything, false), then, "after minute {minute}");
            }
        }
        for (view, then) in &views {
            assert_eq!(&dump(view, &[], &everything, false), then);
        }
    }

    #[test]
    fn deleted_samples_and_other_labels_stay_out_and_exemplars_come() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), |_| {});
        let mut appender = Appender::new(Arc::clone(&head));
        for minute in 0..200 {
            let id = series(&mut appender, 1);
            appender.append_float(id, minute * MINUTE, minute as f64, 0).unwrap();
            let id = series(&mut appender, 2);
            appender.append_float(id, minute * MINUTE, 1.0, 0).unwrap();
        }
        let id = series(&mut appender, 1);
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 2.0, timestamp_ms: 7 };
        appender.append_exemplar(id, &exemplar).unwrap();
        appender.commit().unwrap();
        super::super::head::write(&head.tombstones).insert(id, vec![(10 * MINUTE, 150 * MINUTE)]);

        let querier =
            HeadQueryable(Arc::clone(&head)).querier(0, i64::MAX, &[], &Control::default()).unwrap();
        let one = [Matcher::equal("i", "1")];
        let all = dump(&*querier, &one, &TimeFilter::all_between(0, 200 * MINUTE), false);
        let times: Vec<i64> = all[0].1.iter().map(|s| s.0 / MINUTE).collect();
        assert_eq!(times, (0..10).chain(151..200).collect::<Vec<_>>());
        assert_eq!(dump(&*querier, &one, &TimeFilter::all_between(20 * MINUTE, 30 * MINUTE), false).len(), 0);

        let mut symbols = SymbolTable::new();
        let hints = SelectHints {
            labels: LabelNeeds::Only(vec!["parity".into()]),
            end: i64::MAX,
            ..SelectHints::default()
        };
        let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
        let labels: Vec<String> = (0..set.len()).map(|i| symbols.labels(set.labels(i)).to_string()).collect();
        assert_eq!(labels, [r#"{parity="1"}"#, r#"{parity="0"}"#]);

        let found = querier.exemplars(0, 10, &[one.to_vec()], &Control::default()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].series.get("i"), found[0].exemplars.as_slice()), ("1", &[exemplar][..]));
        assert!(
            querier
                .exemplars(0, 10, &[vec![Matcher::equal("i", "2")]], &Control::default())
                .unwrap()
                .is_empty()
        );
        assert!(querier.label_names(&one, &Control::default()).unwrap().len() == 3);
    }

    #[test]
    fn a_damaged_chunk_file_is_named_and_a_removed_series_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), |o| o.rules.samples_per_chunk = 20);
        fill(&head, &mut Numbers(5), 2, 0..200);
        head.files.flush().unwrap();
        let querier = LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX);
        let everything = TimeFilter::all_between(i64::MIN, i64::MAX);
        let before = dump(&querier, &[], &everything, false);
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
        let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
        let one = |i: usize| {
            let mut out = SampleColumns::default();
            set.read(i, &everything, &mut out, &mut ReadStats::default()).map(|()| out.len())
        };
        assert_eq!(one(1).unwrap(), before[1].1.len());

        let gone =
            head.index.read().unwrap().select(&[Matcher::equal("i", "1")], &Control::default()).unwrap();
        head.index.write().unwrap().remove(&gone);
        gone.iter().for_each(|id| lock(head.shard_of(*id)).remove(*id));
        assert_eq!(one(1).unwrap(), 0);
        assert_eq!(dump(&querier, &[], &everything, false), before[..1]);

        let file = dir.path().join("chunks_head/000001");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[8..].iter_mut().for_each(|b| *b ^= 0x10);
        std::fs::write(&file, bytes).unwrap();
        let told = one(0).unwrap_err().to_string();
        assert!(told.contains("chunks_head/000001") && told.contains("at byte"), "{told}");
    }

    #[test]
    fn readers_beside_appenders_see_whole_commits() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), |o| {
            o.out_of_order_window_ms = 0;
            o.rules.samples_per_chunk = 10;
        });
        const SERIES: usize = 600;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut appender = Appender::new(Arc::clone(&head));
                for round in 0..60 {
                    for i in 0..SERIES as u64 {
                        let id = series(&mut appender, i);
                        appender.append_float(id, round * 1000, round as f64, 0).unwrap();
                    }
                    appender.commit().unwrap();
                }
            });
            loop {
                let querier = LiveQuerier::new(Arc::clone(&head), i64::MIN, i64::MAX);
                let all = dump(&querier, &[], &TimeFilter::all_between(i64::MIN, i64::MAX), false);
                let Some(first) = all.first() else { continue };
                assert_eq!(all.len(), SERIES);
                for one in &all {
                    assert_eq!(one.1, first.1, "{} beside {}", one.0, first.0);
                }
                if first.1.len() == 60 {
                    break;
                }
            }
        });
    }
}
