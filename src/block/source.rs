//! A block as a source of series with their chunks, to be written anew.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_chunk::{AGGREGATE_ENCODING, Encoding};
use tsdbctl_model::Matcher;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, EncodedChunk, LabelRef, StorageError};

use crate::aggregate_cut::without_windows;
use crate::block::Block;
use crate::chunk_merge::{BadChunk, ChunkMerger, is_in_order, without_samples};
use crate::index::{ChunkMeta, Damage, Index};
use crate::matching::candidates;
use crate::segment::RawChunk;
use crate::symbol_order::{Names, SymbolOrder};
use crate::tombstones::Interval;

mod table;

/// The series of a block that have chunks in a range, deletions applied: a chunk that is touched by one, or by an end of
/// the range, is written anew, others are given as they are. What damaged writers left is put right: series out of order
/// are sorted, those that are there twice are joined, chunks out of order are sorted, and merged where they overlap.
#[derive(Debug)]
pub struct BlockSource {
    block: Arc<Block>,
    mint: i64,
    maxt: i64,
    symbols: SymbolOrder,
    /// References of series, in label order.
    series: Vec<u32>,
    /// Place of the series behind `ahead`.
    at: usize,
    labels: Vec<LabelRef>,
    /// Where the series is in the index; several places only if it is there several times.
    entries: Vec<Entry>,
    /// The next series.
    ahead: Option<Entry>,
    ahead_labels: Vec<LabelRef>,
    wanted: Vec<Wanted>,
    /// Whether chunks of the series are out of order or overlap.
    is_tangled: bool,
    scratch: ChunkBatch,
    merger: ChunkMerger,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    reference: u32,
    /// Where the list of chunks starts in the index.
    chunks_at: u64,
}

/// A chunk of the current series.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    chunk: ChunkMeta,
    /// The series' reference, which deletions are kept by.
    series: u32,
    /// Whether samples of it are to be left out.
    is_touched: bool,
}

impl BlockSource {
    /// All series of a block, samples of `mint..=maxt` (Unix ms).
    ///
    /// # Errors
    /// If the index is damaged.
    pub fn new(block: Arc<Block>, mint: i64, maxt: i64) -> Result<Self, StorageError> {
        let symbols = SymbolOrder::of_all(block.index())?;
        let series = block.index().all_postings()?.to_vec();
        Self::open(block, mint, maxt, symbols, series)
    }

    /// Those series alone that satisfy all matchers of one of `selections`; of symbols, only those that they have.
    ///
    /// # Errors
    /// As [`BlockSource::new`]; or if the work is to stop.
    pub fn select(
        block: Arc<Block>,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Self, StorageError> {
        let index = block.index();
        let mut series = Vec::new();
        for matchers in selections {
            candidates(index, matchers, control)?.each_series(index, control, |found| {
                series.push(found.reference);
                Ok(())
            })?;
        }
        if selections.len() > 1 {
            series.sort_unstable();
            series.dedup();
        }
        let mut used = Vec::new();
        let mut kept = Vec::with_capacity(series.len());
        for reference in series {
            let from = used.len();
            let chunks_at = each_label(index, reference, |name, value| used.extend([name, value]))?;
            let deleted = block.tombstones().of(u64::from(reference));
            let mut chunks = index.chunks(chunks_at);
            if chunks.any(|c| is_wanted(&c, mint, maxt, deleted)) {
                kept.push(reference);
            } else {
                used.truncate(from);
            }
            // Many more than there can be different ones: keep each once.
            if used.len() > 1 << 20 {
                used.sort_unstable();
                used.dedup();
            }
        }
        used.sort_unstable();
        used.dedup();
        let symbols = SymbolOrder::of_some(index, used)?;
        Self::open(block, mint, maxt, symbols, kept)
    }

    fn open(
        block: Arc<Block>,
        mint: i64,
        maxt: i64,
        symbols: SymbolOrder,
        series: Vec<u32>,
    ) -> Result<Self, StorageError> {
        let mut source = Self {
            block,
            mint,
            maxt,
            symbols,
            series,
            at: 0,
            labels: Vec::new(),
            entries: Vec::new(),
            ahead: None,
            ahead_labels: Vec::new(),
            wanted: Vec::new(),
            is_tangled: false,
            scratch: ChunkBatch::default(),
            merger: ChunkMerger::default(),
        };
        if !source.is_sorted()? {
            source.sort()?;
        }
        source.look_ahead()?;
        Ok(source)
    }

    /// Labels of a series; answers where its list of chunks starts.
    fn read_labels(&self, reference: u32, out: &mut Vec<LabelRef>) -> Result<u64, StorageError> {
        out.clear();
        let index = self.block.index();
        let names = &self.symbols.names;
        let mut unknown = None;
        let chunks_at = match names {
            Names::AsTheyAre(count) => each_label(index, reference, |name, value| {
                if name.max(value) >= *count {
                    unknown = Some(name.max(value));
                }
                out.push((name, value));
            }),
            _ => each_label(index, reference, |name, value| match (names.place(name), names.place(value)) {
                (Some(name), Some(value)) => out.push((name, value)),
                _ => unknown = Some(name),
            }),
        }?;
        if let Some(symbol) = unknown {
            let reason = format!("a series refers to symbol {symbol}, which is not there");
            return Err(index.corrupt(Damage::at(chunks_at as usize, reason)));
        }
        if !out.is_sorted_by(|a, b| a.0 <= b.0) {
            out.sort_by_key(|l| l.0);
        }
        Ok(chunks_at)
    }

    /// Whether the series are in label order.
    fn is_sorted(&self) -> Result<bool, StorageError> {
        let (mut last, mut labels) = (Vec::new(), Vec::new());
        for reference in &self.series {
            self.read_labels(*reference, &mut labels)?;
            if labels < last {
                return Ok(false);
            }
            std::mem::swap(&mut last, &mut labels);
        }
        Ok(true)
    }

    fn sort(&mut self) -> Result<(), StorageError> {
        let mut all: Vec<LabelRef> = Vec::new();
        let mut rows = Vec::with_capacity(self.series.len());
        let mut labels = Vec::new();
        for reference in &self.series {
            self.read_labels(*reference, &mut labels)?;
            rows.push((all.len(), all.len() + labels.len(), *reference));
            all.extend_from_slice(&labels);
        }
        rows.sort_by(|a, b| all[a.0..a.1].cmp(&all[b.0..b.1]));
        self.series.clear();
        self.series.extend(rows.iter().map(|r| r.2));
        Ok(())
    }

    /// Reads the next series.
    fn look_ahead(&mut self) -> Result<(), StorageError> {
        self.ahead = None;
        if let Some(reference) = self.series.get(self.at).copied() {
            let mut labels = std::mem::take(&mut self.ahead_labels);
            let read = self.read_labels(reference, &mut labels);
            self.ahead_labels = labels;
            self.ahead = Some(Entry { reference, chunks_at: read? });
            self.at += 1;
        }
        Ok(())
    }

    /// Finds the chunks of the current series.
    fn find_chunks(&mut self) -> Result<(), StorageError> {
        self.wanted.clear();
        self.is_tangled = false;
        let index = self.block.index();
        let (mint, maxt) = (self.mint, self.maxt);
        for entry in &self.entries {
            let deleted = self.block.tombstones().of(u64::from(entry.reference));
            let mut chunks = index.chunks(entry.chunks_at);
            for chunk in chunks.by_ref().filter(|c| is_wanted(c, mint, maxt, deleted)) {
                let is_touched = chunk.mint < mint
                    || chunk.maxt > maxt
                    || deleted.iter().any(|d| d.mint <= chunk.maxt && chunk.mint <= d.maxt);
                self.is_tangled |= self.wanted.last().is_some_and(|w| chunk.mint <= w.chunk.maxt);
                self.wanted.push(Wanted { chunk, series: entry.reference, is_touched });
            }
            if chunks.is_cut() {
                return Err(index.cut_series(entry.chunks_at as usize));
            }
        }
        index.check_intact()
    }

    fn read_chunk(&self, wanted: &Wanted, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let segments = self.block.segments();
        let ChunkMeta { mint, maxt, reference } = wanted.chunk;
        let chunk = segments.raw_chunk(reference)?;
        if !wanted.is_touched {
            out.push(EncodedChunk { encoding: chunk.encoding, data: chunk.data, mint, maxt });
            return segments.check_intact(reference);
        }
        let deleted = self.block.tombstones().of(u64::from(wanted.series));
        let is_deleted = |t: i64| {
            !(self.mint..=self.maxt).contains(&t) || deleted.iter().any(|d| (d.mint..=d.maxt).contains(&t))
        };
        let RawChunk { encoding, data } = chunk;
        let written = match Encoding::from_byte(encoding) {
            Some(encoding) => without_samples(encoding, data, is_deleted, out),
            None if encoding == AGGREGATE_ENCODING => {
                without_windows(EncodedChunk { encoding, data, mint, maxt }, is_deleted, out)
            }
            None => {
                let reason = format!("samples of a chunk of encoding {encoding} cannot be deleted");
                return Err(segments.loss(reference, reason).into());
            }
        };
        written.map_err(|e| segments.loss(reference, e.to_string()))?;
        segments.check_intact(reference)
    }

    /// Chunks that are out of order or overlap.
    fn untangle(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        self.wanted.sort_by_key(|w| (w.chunk.mint, w.chunk.maxt));
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // Which chunk of the index each of them is.
        let mut origins: Vec<u64> = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            self.read_chunk(wanted, &mut scratch)?;
            origins.resize(scratch.len(), wanted.chunk.reference);
        }
        self.merger.begin();
        self.merger.add(&scratch, 0..scratch.len());
        let merged = self.merger.run(&scratch, out);
        self.scratch = scratch;
        merged.map_err(|BadChunk { place, reason }| {
            let reference = origins.get(place).copied().unwrap_or(0);
            self.block.segments().loss(reference, reason).into()
        })
    }
}

/// Calls `each` with the symbol references of a series' labels; answers where its list of chunks starts.
fn each_label(index: &Index, reference: u32, mut each: impl FnMut(u32, u32)) -> Result<u64, StorageError> {
    let entry = index.series(reference)?;
    let mut c = entry.cursor;
    for _ in 0..entry.labels {
        match (c.uvarint().map(u32::try_from), c.uvarint().map(u32::try_from)) {
            (Some(Ok(name)), Some(Ok(value))) => each(name, value),
            _ => return Err(index.cut_series(c.pos())),
        }
    }
    Ok(c.pos() as u64)
}

/// Whether a chunk has samples in a range that are not deleted.
fn is_wanted(chunk: &ChunkMeta, mint: i64, maxt: i64, deleted: &[Interval]) -> bool {
    chunk.maxt >= mint
        && chunk.mint <= maxt
        && !deleted.iter().any(|d| d.mint <= chunk.mint && chunk.maxt <= d.maxt)
}

impl ChunkSource for BlockSource {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.symbols.each(self.block.index(), each)
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        while let Some(entry) = self.ahead {
            self.entries.clear();
            self.entries.push(entry);
            std::mem::swap(&mut self.labels, &mut self.ahead_labels);
            self.look_ahead()?;
            while let Some(again) = self.ahead
                && self.labels.cmp(&self.ahead_labels) == Ordering::Equal
            {
                self.entries.push(again);
                self.look_ahead()?;
            }
            self.find_chunks()?;
            if !self.wanted.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn labels(&self) -> &[LabelRef] {
        &self.labels
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        if self.is_tangled {
            return self.untangle(out);
        }
        let from = out.len();
        for wanted in &self.wanted {
            self.read_chunk(wanted, out)?;
        }
        // Only if the index is wrong about times, of chunks that were looked into.
        if !is_in_order(out, from) {
            out.truncate(from);
            return self.untangle(out);
        }
        Ok(())
    }

    fn origin(&self) -> &Path {
        self.block.dir()
    }
}
