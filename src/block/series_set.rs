//! Selected series of a block: labels in one arena, chunks read when samples are asked for.

use std::sync::Arc;

use smallvec::SmallVec;
use tsdbctl_chunk::{
    AGGREGATE_ENCODING, AggregateChunk, Encoding, Floats, Histograms, SampleColumns, decode, sample_count,
};
use tsdbctl_model::symbols::{SymLabels, SymbolTable};
use tsdbctl_model::{Matcher, Sym};
use tsdbctl_storage::merge::merge_columns;
use tsdbctl_storage::resolution::raw_as_windows;
use tsdbctl_storage::{Control, ReadStats, SelectHints, SeriesSet, StorageError, TimeFilter, WindowValue};

use crate::block::Block;
use crate::index::ChunkMeta;
use crate::matching::{RefMap, candidates};
use crate::tombstones::Interval;
use crate::windows::decode_windows;

/// One series, 16 bytes.
struct Row {
    /// Where its list of chunks starts in the index.
    chunks_at: u64,
    /// Where its labels end in the arena.
    labels_end: u32,
    reference: u32,
}

/// Series of one block.
pub(crate) struct BlockSeriesSet {
    block: Arc<Block>,
    rows: Vec<Row>,
    labels: Vec<(Sym, Sym)>,
    control: Control,
    taken: usize,
}

impl Drop for BlockSeriesSet {
    fn drop(&mut self) {
        self.control.budget.give(self.taken);
    }
}

/// Whether one deletion covers all of `mint..=maxt`.
fn is_deleted(deleted: &[Interval], mint: i64, maxt: i64) -> bool {
    deleted.iter().any(|d| d.mint <= mint && maxt <= d.maxt)
}

impl BlockSeriesSet {
    pub(crate) fn select(
        block: &Arc<Block>,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Self, StorageError> {
        const SKIPPED: u32 = u32::MAX;
        let index = block.index();
        let found = candidates(index, matchers, control)?;
        let mut set = Self {
            block: Arc::clone(block),
            rows: Vec::new(),
            labels: Vec::new(),
            control: control.clone(),
            taken: 0,
        };
        // Symbols of the query's table, plus one.
        let mut names = RefMap::new(index)?;
        let mut values = RefMap::new(index)?;
        let mut budgeted = 0;
        found.each_series(index, control, |series| {
            let deleted = block.tombstones().of(u64::from(series.reference));
            let mut chunks = index.chunks(series.chunks_at);
            let has_samples = chunks.any(|c| {
                c.maxt >= hints.start && c.mint <= hints.end && !is_deleted(deleted, c.mint, c.maxt)
            });
            if !has_samples {
                return if chunks.is_cut() {
                    Err(index.cut_series(series.chunks_at as usize))
                } else {
                    Ok(())
                };
            }
            for (name, value) in series.labels {
                let name = match names.get(*name) {
                    0 => {
                        let text = index.symbol(*name)?;
                        let number =
                            if hints.labels.wants(text) { symbols.intern(text).0 + 1 } else { SKIPPED };
                        names.set(*name, number);
                        number
                    }
                    number => number,
                };
                if name == SKIPPED {
                    continue;
                }
                let value = match values.get(*value) {
                    0 => {
                        let number = symbols.intern(index.symbol(*value)?).0 + 1;
                        values.set(*value, number);
                        number
                    }
                    number => number,
                };
                set.labels.push((Sym(name - 1), Sym(value - 1)));
            }
            let labels_end = u32::try_from(set.labels.len()).map_err(|_| StorageError::Unsupported {
                file: block.dir().to_owned(),
                reason: "the selection has more than four billion labels; narrow it".to_string(),
            })?;
            set.rows.push(Row { chunks_at: series.chunks_at, labels_end, reference: series.reference });
            let bytes = set.rows.capacity() * size_of::<Row>() + set.labels.capacity() * 8;
            if bytes > budgeted {
                control.budget.take("series of a block", bytes - budgeted)?;
                budgeted = bytes;
                set.taken = bytes;
            }
            Ok(())
        })?;
        index.check_intact()?;
        Ok(set)
    }

    /// Chunks of a row that `filter` wants, and whether some overlap or are out of order.
    fn wanted(
        &self,
        row: &Row,
        filter: &TimeFilter,
    ) -> Result<(SmallVec<[ChunkMeta; 24]>, bool), StorageError> {
        let deleted = self.block.tombstones().of(u64::from(row.reference));
        let mut wanted: SmallVec<[ChunkMeta; 24]> = SmallVec::new();
        let mut overlapping = false;
        let mut metas = self.block.index().chunks(row.chunks_at);
        for meta in metas.by_ref() {
            if !filter.wants(meta.mint, meta.maxt) || is_deleted(deleted, meta.mint, meta.maxt) {
                continue;
            }
            overlapping |= wanted.last().is_some_and(|last| meta.mint <= last.maxt);
            wanted.push(meta);
        }
        if metas.is_cut() {
            return Err(self.block.index().cut_series(row.chunks_at as usize));
        }
        self.block.index().check_intact()?;
        Ok((wanted, overlapping))
    }

    /// Appends what is wanted of the windows of one chunk that end in `mint..=maxt` and are not deleted. A chunk of
    /// samples, as some compactors left them in downsampled blocks, has windows of one sample each.
    fn decode_windows(
        &self,
        meta: &ChunkMeta,
        (mint, maxt): (i64, i64),
        value: WindowValue,
        deleted: &[Interval],
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let segments = self.block.segments();
        let chunk = segments.raw_chunk(meta.reference)?;
        stats.chunks += 1;
        stats.bytes += chunk.data.len() as u64;
        let (floats, histograms) = (out.floats.len(), out.histograms.len());
        if chunk.encoding == AGGREGATE_ENCODING {
            let parts = AggregateChunk::parse(chunk.data);
            let windows = parts.and_then(|parts| {
                stats.samples += parts.sample_count() as u64;
                decode_windows(&parts, value, mint, maxt, out)
            });
            windows.map_err(|e| segments.loss(meta.reference, e.to_string()))?;
        } else {
            let encoding = Encoding::from_byte(chunk.encoding).ok_or_else(|| {
                segments.loss(meta.reference, format!("unknown chunk encoding {}", chunk.encoding))
            })?;
            stats.samples += sample_count(encoding, chunk.data).unwrap_or(0) as u64;
            decode(encoding, chunk.data, mint, maxt, out)
                .map_err(|e| segments.loss(meta.reference, e.to_string()))?;
            raw_as_windows(out, floats, histograms, value);
        }
        segments.check_intact(meta.reference)?;
        if deleted.iter().any(|d| d.mint <= meta.maxt && meta.mint <= d.maxt) {
            remove_deleted(out, floats, histograms, deleted);
        }
        Ok(())
    }

    /// As [`SeriesSet::read_window`], of a downsampled block: chunks follow each other, and of two that overlap a bit
    /// the earlier one goes on to its end.
    fn read_downsampled(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: WindowValue,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let row = &self.rows[i];
        let deleted = self.block.tombstones().of(u64::from(row.reference));
        let (mint, maxt) = (filter.mint(), filter.maxt());
        let (mut wanted, _) = self.wanted(row, filter)?;
        wanted.sort_by_key(|m| m.mint);
        let mut from = mint;
        for meta in &wanted {
            self.decode_windows(meta, (from, maxt), value, deleted, out, stats)?;
            from = last_time(out).map_or(mint, |t| t.saturating_add(1)).max(mint);
        }
        Ok(())
    }

    /// Appends the samples of one chunk in `mint..=maxt` that are not deleted.
    fn decode(
        &self,
        meta: &ChunkMeta,
        mint: i64,
        maxt: i64,
        deleted: &[Interval],
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        let segments = self.block.segments();
        let chunk = segments.chunk(meta.reference)?;
        stats.chunks += 1;
        stats.bytes += chunk.data.len() as u64;
        stats.samples += sample_count(chunk.encoding, chunk.data).unwrap_or(0) as u64;
        let (floats, histograms) = (out.floats.len(), out.histograms.len());
        decode(chunk.encoding, chunk.data, mint, maxt, out)
            .map_err(|e| segments.loss(meta.reference, e.to_string()))?;
        segments.check_intact(meta.reference)?;
        if deleted.iter().any(|d| d.mint <= meta.maxt && meta.mint <= d.maxt) {
            remove_deleted(out, floats, histograms, deleted);
        }
        Ok(())
    }
}

fn last_time(out: &SampleColumns) -> Option<i64> {
    out.floats.t.last().max(out.histograms.t.last()).copied()
}

fn remove_deleted(out: &mut SampleColumns, from_floats: usize, from_histograms: usize, deleted: &[Interval]) {
    let gone = |t: i64| deleted.iter().any(|d| (d.mint..=d.maxt).contains(&t));
    let Floats { t, v, st } = &mut out.floats;
    let mut to = from_floats;
    for i in from_floats..t.len() {
        if !gone(t[i]) {
            (t[to], v[to]) = (t[i], v[i]);
            if !st.is_empty() {
                st[to] = st[i];
            }
            to += 1;
        }
    }
    t.truncate(to);
    v.truncate(to);
    st.truncate(to);
    let Histograms { t, h, integer, st } = &mut out.histograms;
    let mut to = from_histograms;
    for i in from_histograms..t.len() {
        if !gone(t[i]) {
            t.swap(to, i);
            h.swap(to, i);
            integer.swap(to, i);
            if !st.is_empty() {
                st.swap(to, i);
            }
            to += 1;
        }
    }
    t.truncate(to);
    h.truncate(to);
    integer.truncate(to);
    st.truncate(to);
}

impl SeriesSet for BlockSeriesSet {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        let start = if i == 0 { 0 } else { self.rows[i - 1].labels_end as usize };
        &self.labels[start..self.rows[i].labels_end as usize]
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        if self.block.meta().resolution_ms() > 0 {
            return self.read_downsampled(i, filter, WindowValue::Average, out, stats);
        }
        let row = &self.rows[i];
        let deleted = self.block.tombstones().of(u64::from(row.reference));
        let (mint, maxt) = (filter.mint(), filter.maxt());
        let (mut wanted, overlapping) = self.wanted(row, filter)?;
        if overlapping {
            wanted.sort_by_key(|m| m.mint);
            let mut parts = Vec::with_capacity(wanted.len());
            for meta in &wanted {
                let mut part = SampleColumns::default();
                self.decode(meta, mint, maxt, deleted, &mut part, stats)?;
                parts.push(part);
            }
            merge_columns(&parts, out);
            return Ok(());
        }
        let mut first = 0;
        if filter.newest_only && filter.steps <= 1 && deleted.is_empty() {
            // The newest chunk with an end inside the window surely has a sample in it.
            let surely = |m: &ChunkMeta| (mint..=maxt).contains(&m.mint) || (mint..=maxt).contains(&m.maxt);
            first = wanted.iter().rposition(surely).unwrap_or(0);
        }
        let mut from = mint;
        for meta in &wanted[first..] {
            self.decode(meta, from, maxt, deleted, out, stats)?;
            // A chunk that goes on behind the end the index gives it must not break the order.
            from = last_time(out).map_or(mint, |t| t.saturating_add(1)).max(mint);
        }
        Ok(())
    }

    fn read_window(
        &self,
        i: usize,
        filter: &TimeFilter,
        value: WindowValue,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        if self.block.meta().resolution_ms() > 0 {
            return self.read_downsampled(i, filter, value, out, stats);
        }
        let (floats, histograms) = (out.floats.len(), out.histograms.len());
        self.read(i, filter, out, stats)?;
        raw_as_windows(out, floats, histograms, value);
        Ok(())
    }

    fn cost(&self, i: usize, filter: &TimeFilter) -> ReadStats {
        let mut cost = ReadStats::default();
        let mut last: Option<ChunkMeta> = None;
        for meta in self.block.index().chunks(self.rows[i].chunks_at) {
            // Chunks of a series lie one behind the other, so the next one tells where this one ends.
            if let Some(last) = last
                && last.reference >> 32 == meta.reference >> 32
                && filter.wants(last.mint, last.maxt)
            {
                cost.bytes += meta.reference.saturating_sub(last.reference);
            }
            cost.chunks += u64::from(filter.wants(meta.mint, meta.maxt));
            last = Some(meta);
        }
        cost
    }
}
