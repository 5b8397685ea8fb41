//! The head as a source of series with their chunks, to be written into a block: what came in order, what came out of
//! order, or the series that went stale.
//!
//! No lock is held while chunks are read or cut anew. What is read stays in place because the caller takes nothing out of
//! the head meanwhile; appends go on.

use std::sync::{Arc, Mutex};

use tsdbctl_chunk::ChunkError;
use tsdbctl_storage::{ChunkBatch, ChunkSource, LabelRef, Loss, StorageError};

use crate::live::chunk_files::ChunkPlace;
use crate::live::head::{Head, lock, read};
use crate::live::index::SeriesId;
use crate::live::rechunk::{HeadChunk, Rechunker, Wanted};
use crate::live::series_order::SeriesOrder;
use crate::live::shard::{Piece, Shard};
use crate::mapped::file_name;

/// Every sample is visible.
const ALL: u64 = u64::MAX;

/// Which chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    InOrder,
    /// Out-of-order ones up to a place.
    Late(ChunkPlace),
}

/// Series of a head with the samples of a range, in label order.
#[derive(Debug)]
pub struct HeadSource {
    head: Arc<Head>,
    order: Arc<SeriesOrder>,
    which: Which,
    /// First and last time, Unix ms.
    range: (i64, i64),
    /// Number of the series, from 1.
    at: usize,
    labels: Vec<LabelRef>,
    rechunker: Rechunker,
    pieces: Vec<Piece>,
    chunks: Vec<HeadChunk>,
    /// Where the chunks were read, if in a file.
    places: Vec<Option<ChunkPlace>>,
}

impl Head {
    /// Time of the earliest sample that came in order; `None` without any.
    pub fn first_in_order(&self) -> Option<i64> {
        let first = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.ids().filter_map(|id| shard.in_order_times(id)).map(|times| times.0).min()
        };
        self.shards.iter().filter_map(first).min()
    }
}

impl HeadSource {
    /// What came in order at `mint..=maxt`, Unix ms. [`Head::end_in_order`] comes before this, and nothing is taken out of
    /// the head until it is dropped.
    pub fn in_order(head: &Arc<Head>, mint: i64, maxt: i64) -> Self {
        let mut ids = Vec::new();
        for shard in &head.shards {
            let all: Vec<SeriesId> = lock(shard).ids().collect();
            for run in all.chunks(1024) {
                let shard = lock(shard);
                ids.extend(run.iter().copied().filter(|id| {
                    shard.in_order_times(*id).is_some_and(|(first, last)| first <= maxt && last >= mint)
                }));
            }
        }
        Self::of_series(head, Arc::new(SeriesOrder::new(head, ids)), mint, maxt)
    }

    /// What series have in order at `mint..=maxt`.
    pub(super) fn of_series(head: &Arc<Head>, order: Arc<SeriesOrder>, mint: i64, maxt: i64) -> Self {
        Self::new(head, order, Which::InOrder, (mint, maxt))
    }

    /// What series have out of order at `mint..=maxt`, in chunks up to a place.
    pub(super) fn late(
        head: &Arc<Head>,
        order: Arc<SeriesOrder>,
        up_to: ChunkPlace,
        mint: i64,
        maxt: i64,
    ) -> Self {
        Self::new(head, order, Which::Late(up_to), (mint, maxt))
    }

    fn new(head: &Arc<Head>, order: Arc<SeriesOrder>, which: Which, range: (i64, i64)) -> Self {
        Self {
            rechunker: Rechunker::new(&head.options.rules),
            head: Arc::clone(head),
            order,
            which,
            range,
            at: 0,
            labels: Vec::new(),
            pieces: Vec::new(),
            chunks: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Number of series; some of them may have no samples in the range.
    pub fn series(&self) -> usize {
        self.order.ids().len()
    }

    fn read(&mut self, place: ChunkPlace) -> Result<(), StorageError> {
        let chunk = self.head.files.read(place)?;
        let (mint, maxt) = (chunk.mint, chunk.maxt);
        self.chunks.push(HeadChunk { encoding: chunk.encoding, data: chunk.data, mint, maxt });
        self.places.push(Some(place));
        Ok(())
    }

    /// What is wrong with the chunk of a number.
    fn damaged(&self, (chunk, e): (usize, ChunkError)) -> StorageError {
        let (file, offset) = match self.places.get(chunk).copied().flatten() {
            None => (self.head.dir.join("wal"), 0),
            Some(place) => {
                (self.head.dir.join("chunks_head").join(file_name(place.file)), u64::from(place.offset))
            }
        };
        StorageError::Corrupt(Loss { file, offset, reason: e.to_string() })
    }

    fn in_order_chunks(
        &mut self,
        id: SeriesId,
        deleted: &[(i64, i64)],
        out: &mut ChunkBatch,
    ) -> Result<(), StorageError> {
        let range @ (mint, maxt) = self.range;
        let mut beside = Vec::new();
        let mut pieces = std::mem::take(&mut self.pieces);
        {
            let shard = lock(self.head.shard_of(id));
            shard.in_order_pieces(id, mint, maxt, ALL, &mut pieces);
            if shard.has_late(id) {
                shard.misplaced_chunks(id, mint, maxt, &mut beside);
            }
        }
        for piece in pieces.drain(..) {
            match piece {
                Piece::Mapped { place, .. } => self.read(place)?,
                Piece::Memory { chunk, .. } => {
                    let (encoding, mint, maxt) = (chunk.encoding, chunk.mint, chunk.maxt);
                    self.chunks.push(HeadChunk { encoding, data: chunk.data, mint, maxt });
                    self.places.push(None);
                }
            }
        }
        self.pieces = pieces;
        let wanted = Wanted { range, deleted };
        let made = if beside.is_empty() {
            self.rechunker.in_order(&self.chunks, wanted, out)
        } else {
            beside.into_iter().try_for_each(|place| self.read(place))?;
            self.rechunker.merged(&self.chunks, false, wanted, out)
        };
        made.map_err(|e| self.damaged(e))
    }

    fn late_chunks(
        &mut self,
        id: SeriesId,
        up_to: ChunkPlace,
        deleted: &[(i64, i64)],
        out: &mut ChunkBatch,
    ) -> Result<(), StorageError> {
        let range @ (mint, maxt) = self.range;
        let mut places = Vec::new();
        lock(self.head.shard_of(id)).late_chunks(id, up_to, &mut places);
        places.retain(|c| c.1 <= maxt && c.2 >= mint);
        // Of equal begin the older one is the first.
        places.sort_by_key(|c| (c.1, c.0));
        let wanted = Wanted { range, deleted };
        let mut rest = &places[..];
        while let Some((_, _, first_end)) = rest.first() {
            let mut end = *first_end;
            let mut count = 1;
            while let Some((_, next_start, next_end)) = rest.get(count)
                && *next_start <= end
            {
                end = end.max(*next_end);
                count += 1;
            }
            self.chunks.clear();
            self.places.clear();
            rest[..count].iter().try_for_each(|c| self.read(c.0))?;
            rest = &rest[count..];
            let made = match &self.chunks[..] {
                [alone] => self.rechunker.copy(alone, wanted, out).map_err(|e| (0, e)),
                all => self.rechunker.merged(all, true, wanted, out),
            };
            made.map_err(|e| self.damaged(e))?;
        }
        Ok(())
    }
}

impl ChunkSource for HeadSource {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.order.strings().try_for_each(each)
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        loop {
            let Some(id) = self.order.ids().get(self.at).copied() else { return Ok(false) };
            self.at += 1;
            self.order.labels(&read(&self.head.index), id, &mut self.labels);
            // One that was removed meanwhile had nothing any more.
            if !self.labels.is_empty() {
                return Ok(true);
            }
        }
    }

    fn labels(&self) -> &[LabelRef] {
        &self.labels
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let Some(id) = self.at.checked_sub(1).and_then(|at| self.order.ids().get(at)).copied() else {
            return Ok(());
        };
        self.chunks.clear();
        self.places.clear();
        let deleted = read(&self.head.tombstones).get(&id).cloned().unwrap_or_default();
        match self.which {
            Which::InOrder => self.in_order_chunks(id, &deleted, out),
            Which::Late(up_to) => self.late_chunks(id, up_to, &deleted, out),
        }
    }
}
