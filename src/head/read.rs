//! The replayed head as a querier.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_chunk::{ChunkError, Encoding, SampleColumns};
use tsdbctl_model::labels::Labels;
use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::symbols::{EMPTY, SymLabels};
use tsdbctl_model::{Matcher, Sym, SymbolTable};
use tsdbctl_platform::file;
use tsdbctl_storage::querier::SeriesExemplars;
use tsdbctl_storage::{
    Budget, Control, LabelRows, Loss, Querier, ReadStats, SelectHints, SeriesSet, StorageError, TimeFilter,
};
use tsdbctl_wal::cursor::Cursor;
use tsdbctl_wal::record::EncodedLabels;

use crate::loss::damaged;
use crate::pieces::{self, is_deleted, keep};
use crate::replay::{HeadOptions, Metadata, Replayed, replay};
use crate::series::{OutOfOrderChunk, OutOfOrderHead, Series, float_columns, locate};

/// The head of a data directory, loaded for reading.
#[derive(Clone)]
pub struct ReadHead {
    inner: Arc<Inner>,
}

struct Inner {
    data: Replayed,
    /// Live series in order of their references.
    order: Vec<u32>,
    /// Times of the earliest and the latest sample, asked for or not.
    times: Option<(i64, i64)>,
    range: (i64, i64),
    wal: std::path::PathBuf,
    budget: Budget,
    taken: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.give(self.taken);
    }
}

/// How often a directory is listed anew because a running server removed files meanwhile.
const ATTEMPTS: usize = 3;

impl ReadHead {
    /// Loads the head of a data directory: `wal/`, `wbl/`, `chunks_head/`. `None` if it has no log.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged (unless `options.tolerant`), or a limit is reached.
    pub fn open(
        dir: &Path,
        options: &HeadOptions<'_>,
        control: &Control,
    ) -> Result<Option<Self>, StorageError> {
        let (mut attempt, mut use_snapshot) = (1, true);
        let data = loop {
            let tried = use_snapshot;
            let before = file_names(dir);
            match replay(dir, options, control, &mut use_snapshot) {
                Ok(Some(data)) => break data,
                Ok(None) => return Ok(None),
                Err(StorageError::File(e)) if e.is_not_found() && attempt < ATTEMPTS => attempt += 1,
                Err(_) if tried && !use_snapshot => {}
                // A gap or a file that was cut short may come from a running server that removes what it no longer
                // needs.
                Err(StorageError::Corrupt(_)) if attempt < ATTEMPTS && file_names(dir) != before => {
                    attempt += 1
                }
                Err(e) => return Err(e),
            }
        };
        let mut taken: usize = data.shards.iter().map(|s| s.taken).sum();
        let ranges = data.tombstones.values().map(|r| r.capacity() * size_of::<(i64, i64)>() + 32);
        let metadata =
            data.metadata.values().map(|m| m.unit.len() + m.help.len() + size_of::<(u32, Metadata)>());
        let others = data.directory.bytes()
            + data.exemplars.bytes()
            + ranges.sum::<usize>()
            + metadata.sum::<usize>()
            + data.directory.slots.len() * size_of::<u32>();
        if let Err(e) = control.budget.take("head", others) {
            control.budget.give(taken);
            return Err(e.into());
        }
        taken += others;
        let mut order: Vec<u32> = (0..data.directory.slots.len() as u32)
            .filter(|slot| {
                !data.directory.slots[*slot as usize].removed && series(&data, *slot).has_samples()
            })
            .collect();
        order.sort_by_key(|slot| data.directory.slots[*slot as usize].series);
        let times = order
            .iter()
            .filter_map(|slot| times(series(&data, *slot)))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let inner = Inner {
            data,
            order,
            times,
            range: (options.mint, options.maxt),
            wal: dir.join("wal"),
            budget: control.budget.clone(),
            taken,
        };
        Ok(Some(Self { inner: Arc::new(inner) }))
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.inner.order.len()
    }

    /// Metadata of the loaded series, by labels.
    pub fn metadata(&self) -> Vec<(Labels, Metadata)> {
        let directory = &self.inner.data.directory;
        let labels = |slot: u32| directory.symbols.labels(directory.labels(slot));
        let mut all: Vec<_> =
            self.inner.data.metadata.iter().map(|(slot, m)| (labels(*slot), m.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Times of the earliest and the latest sample of the loaded series, Unix milliseconds; samples outside the
    /// asked range count where they were met.
    pub fn times(&self) -> Option<(i64, i64)> {
        self.inner.times
    }
}

/// The names of the files that replay reads.
fn file_names(dir: &Path) -> Vec<String> {
    ["wal", "wbl", "chunks_head"]
        .iter()
        .flat_map(|part| file::read_dir(&dir.join(part)).unwrap_or_default())
        .map(|entry| entry.name)
        .collect()
}

fn series(data: &Replayed, slot: u32) -> &Series {
    let (shard, i) = locate(slot, data.shards.len() as u32);
    data.shards[shard].series.get(i).unwrap_or(&NO_SAMPLES)
}

/// A series that no work came for.
static NO_SAMPLES: Series = Series::EMPTY;

/// Where the samples of a piece are.
enum Data<'a> {
    Chunk(Encoding, Cow<'a, [u8]>),
    /// Floats that are not encoded.
    Head(&'a OutOfOrderHead),
}

/// A chunk of a series.
type Piece<'a> = pieces::Piece<Data<'a>>;

fn in_order_pieces<'a>(data: &'a Replayed, s: &'a Series) -> Vec<Piece<'a>> {
    let mut pieces: Vec<Piece<'a>> = s
        .mapped
        .iter()
        .map(|c| Piece {
            mint: c.mint,
            maxt: c.maxt,
            merge_end: c.maxt,
            out_of_order: false,
            data: Data::Chunk(c.encoding, Cow::Borrowed(data.mapped.data(c))),
        })
        .collect();
    pieces.extend(s.made.iter().map(|c| Piece {
        mint: c.mint,
        maxt: c.maxt,
        merge_end: c.maxt,
        out_of_order: false,
        data: Data::Chunk(c.encoding, Cow::Borrowed(&c.data)),
    }));
    if let Some(i) = &s.in_order {
        pieces.extend(i.appender.chunks().map(|c| Piece {
            mint: c.mint,
            maxt: c.maxt,
            merge_end: c.maxt,
            out_of_order: false,
            data: Data::Chunk(c.encoding, Cow::Borrowed(c.data)),
        }));
        if let Some(open) = pieces.last_mut() {
            open.merge_end = i64::MAX;
        }
    }
    pieces
}

fn late_pieces<'a>(data: &'a Replayed, s: &'a Series) -> Result<Vec<Piece<'a>>, ChunkError> {
    let late = |mint, maxt, data| Piece { mint, maxt, merge_end: maxt, out_of_order: true, data };
    let mut pieces: Vec<Piece<'a>> = s
        .out_of_order
        .iter()
        .map(|c| match c {
            OutOfOrderChunk::Mapped(c) => (c.mint, c.maxt, c.encoding, data.mapped.data(c)),
            OutOfOrderChunk::Made(c) => (c.mint, c.maxt, c.encoding, &c.data[..]),
        })
        .map(|(mint, maxt, encoding, bytes)| late(mint, maxt, Data::Chunk(encoding, Cow::Borrowed(bytes))))
        .collect();
    if let Some(head) = &s.out_of_order_head
        && let (Some(first), Some(last)) = (head.samples.first(), head.samples.last())
    {
        if head.is_floats() {
            pieces.push(late(first.0, last.0, Data::Head(head)));
        } else {
            // As many chunks as kinds and buckets make, each with its own times, as upstream reads them.
            pieces.extend(
                head.chunks()?
                    .into_iter()
                    .map(|c| late(c.mint, c.maxt, Data::Chunk(c.encoding, Cow::Owned(c.data)))),
            );
        }
    }
    Ok(pieces)
}

/// First and last times of all chunks.
fn spans(s: &Series) -> impl Iterator<Item = (i64, i64)> {
    let mapped = s.mapped.iter().map(|c| (c.mint, c.maxt));
    let made = s.made.iter().map(|c| (c.mint, c.maxt));
    let appended = s.in_order.iter().flat_map(|i| i.appender.chunks()).map(|c| (c.mint, c.maxt));
    let late = s.out_of_order.iter().map(|c| match c {
        OutOfOrderChunk::Mapped(c) => (c.mint, c.maxt),
        OutOfOrderChunk::Made(c) => (c.mint, c.maxt),
    });
    let head = s.out_of_order_head.iter().filter_map(|h| Some((h.samples.first()?.0, h.samples.last()?.0)));
    mapped.chain(made).chain(appended).chain(late).chain(head)
}

fn times(s: &Series) -> Option<(i64, i64)> {
    spans(s).chain(s.skipped).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

impl Inner {
    fn deleted(&self, slot: u32) -> &[(i64, i64)] {
        self.data.tombstones.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Whether upstream would find a chunk of the series in the range.
    fn overlaps(&self, slot: u32, start: i64, end: i64) -> bool {
        let s = series(&self.data, slot);
        let ranges = self.deleted(slot);
        let hit =
            |(first, last): (i64, i64)| first <= end && last >= start && !is_deleted(ranges, first, last);
        if spans(s).any(hit) {
            return true;
        }
        s.straddles && times(s).is_some_and(|(first, last)| first <= end && last >= start)
    }

    /// Live series that satisfy all matchers.
    fn matching(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<u32>, StorageError> {
        let symbols = &self.data.directory.symbols;
        let mut asked: Vec<(Option<Sym>, &Matcher, Vec<u8>)> =
            matchers.iter().map(|m| (symbols.get(&m.name), m, vec![0; symbols.len()])).collect();
        let mut found = Vec::new();
        for (i, slot) in self.order.iter().enumerate() {
            if i % 4096 == 0 {
                control.check("head select")?;
            }
            let labels = self.data.directory.labels(*slot);
            let all = asked.iter_mut().all(|(name, matcher, known)| {
                let value = name.and_then(|n| labels.iter().find(|l| l.0 == n)).map_or(EMPTY, |l| l.1);
                let known = &mut known[value.0 as usize];
                if *known == 0 {
                    *known = 1 + u8::from(matcher.matches(symbols.resolve(value)));
                }
                *known == 2
            });
            if all {
                found.push(*slot);
            }
        }
        Ok(found)
    }

    fn in_range(&self) -> bool {
        self.data.times.is_some_and(|(first, last)| first <= self.range.1 && last >= self.range.0)
    }

    fn corrupt(&self, data: &Data<'_>, reason: String) -> StorageError {
        let bytes = match data {
            Data::Chunk(_, bytes) => bytes.as_ptr() as usize,
            Data::Head(_) => 0,
        };
        for map in &self.data.mapped.files {
            let start = map.bytes().as_ptr() as usize;
            if (start..start + map.bytes().len()).contains(&bytes) {
                return damaged(Loss { file: map.path().to_owned(), offset: (bytes - start) as u64, reason });
            }
        }
        damaged(Loss { file: self.wal.clone(), offset: 0, reason })
    }

    fn decode(
        &self,
        piece: &Piece<'_>,
        range: (i64, i64),
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let failed = |e: ChunkError| match self.data.mapped.check_intact() {
            Ok(()) => self.corrupt(&piece.data, e.to_string()),
            Err(cut) => cut,
        };
        match &piece.data {
            Data::Chunk(encoding, bytes) => {
                stats.chunks += 1;
                stats.bytes += bytes.len() as u64;
                stats.samples += tsdbctl_chunk::sample_count(*encoding, bytes).map_err(failed)? as u64;
                tsdbctl_chunk::decode(*encoding, bytes, range.0, range.1, out).map_err(failed)
            }
            Data::Head(head) => {
                let mut all = SampleColumns::default();
                float_columns(head, &mut all);
                stats.chunks += 1;
                stats.samples += head.samples.len() as u64;
                keep(&all, out, |t| (range.0..=range.1).contains(&t));
                Ok(())
            }
        }
    }

    fn read(
        &self,
        slot: u32,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let s = series(&self.data, slot);
        let in_order = in_order_pieces(&self.data, s);
        let late = late_pieces(&self.data, s)
            .map_err(|e| damaged(Loss { file: self.wal.clone(), offset: 0, reason: e.to_string() }))?;
        pieces::read(in_order, late, self.deleted(slot), filter, out, |piece, range, out| {
            self.decode(piece, range, out, stats)
        })?;
        if !s.mapped.is_empty() || !s.out_of_order.is_empty() {
            self.data.mapped.check_intact()?;
        }
        Ok(())
    }
}

impl Querier for ReadHead {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let inner = &self.inner;
        let own = &inner.data.directory.symbols;
        let mut known: Vec<Option<Sym>> = vec![None; own.len()];
        let mut intern =
            |sym: Sym| *known[sym.0 as usize].get_or_insert_with(|| symbols.intern(own.resolve(sym)));
        let mut set = HeadSeriesSet { inner: inner.clone(), slots: Vec::new(), labels: LabelRows::default() };
        for slot in inner.matching(matchers, control)? {
            if !inner.overlaps(slot, hints.start, hints.end) {
                continue;
            }
            let labels = inner.data.directory.labels(slot).iter();
            let needed = labels.filter(|(name, _)| hints.labels.wants(own.resolve(*name)));
            set.labels.push(needed.map(|(name, value)| (intern(*name), intern(*value))));
            set.slots.push(slot);
        }
        Ok(Box::new(set))
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        let directory = &self.inner.data.directory;
        if !self.inner.in_range() {
            return Ok(Vec::new());
        }
        let mut names = BTreeSet::new();
        for slot in self.inner.matching(matchers, control)? {
            names.extend(directory.labels(slot).iter().map(|(n, _)| *n));
        }
        let mut names: Vec<String> =
            names.into_iter().map(|n| directory.symbols.resolve(n).to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        let directory = &self.inner.data.directory;
        let Some(name) = directory.symbols.get(name).filter(|_| self.inner.in_range()) else {
            return Ok(Vec::new());
        };
        let mut values = BTreeSet::new();
        for slot in self.inner.matching(matchers, control)? {
            values.extend(directory.labels(slot).iter().filter(|(n, _)| *n == name).map(|(_, v)| *v));
        }
        let mut values: Vec<String> =
            values.into_iter().map(|v| directory.symbols.resolve(v).to_string()).collect();
        values.sort_unstable();
        Ok(values)
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        control.check("exemplars")?;
        let directory = &self.inner.data.directory;
        let mut found = Vec::new();
        for (slot, list) in self.inner.data.exemplars.between(start, end) {
            let series = directory.symbols.labels(directory.labels(slot));
            let wanted = selections.iter().any(|set| set.iter().all(|m| m.matches(series.get(&m.name))));
            if !wanted {
                continue;
            }
            let exemplars = list
                .map(|e| Exemplar { labels: decode_labels(&e.labels), value: e.value, timestamp_ms: e.t })
                .collect();
            found.push(SeriesExemplars { series, exemplars });
        }
        found.sort_by(|a, b| a.series.cmp(&b.series));
        Ok(found)
    }

    fn losses(&self) -> Vec<Loss> {
        self.inner.data.losses.list.clone()
    }
}

fn decode_labels(bytes: &[u8]) -> Labels {
    let text = |b| -> Cow<'_, str> { String::from_utf8_lossy(b) };
    match EncodedLabels::read(&mut Cursor::new(bytes)) {
        Ok(labels) => Labels::from_pairs(labels.iter().map(|(n, v)| (text(n), text(v)))),
        Err(_) => Labels::empty(),
    }
}

/// Selected series of a head.
struct HeadSeriesSet {
    inner: Arc<Inner>,
    slots: Vec<u32>,
    labels: LabelRows,
}

impl SeriesSet for HeadSeriesSet {
    fn len(&self) -> usize {
        self.slots.len()
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
        self.inner.read(self.slots[i], filter, out, stats)
    }

    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        let s = series(&self.inner.data, self.slots[i]);
        let mut cost = ReadStats::default();
        let late = late_pieces(&self.inner.data, s).unwrap_or_default();
        for p in in_order_pieces(&self.inner.data, s).iter().chain(&late) {
            if filter.wants(p.mint, p.maxt) {
                cost.chunks += 1;
                match &p.data {
                    Data::Chunk(encoding, bytes) => {
                        cost.bytes += bytes.len() as u64;
                        cost.samples += tsdbctl_chunk::sample_count(*encoding, bytes).unwrap_or(0) as u64;
                    }
                    Data::Head(head) => cost.samples += head.samples.len() as u64,
                }
            }
        }
        cost
    }
}
