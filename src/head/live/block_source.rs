//! The head as a source of series with their chunks, to be written into a block: what came in order, what came out of
//! order, or the series that went stale.
//!
//! No lock is held while chunks are read or cut anew. What is read stays in place because the caller takes nothing out of
//! the head meanwhile; appends go on.

use std::sync::{Arc, Mutex};

use smallvec::SmallVec;
use tsdbctl_chunk::ChunkError;
use tsdbctl_storage::{ChunkBatch, ChunkSource, LabelRef, Loss, StorageError};

use crate::live::chunk_files::ChunkPlace;
use crate::live::chunk_maps::{ChunkMaps, FoundChunk};
use crate::live::delete::{LateStone, Ranges, add_range};
use crate::live::head::{Head, lock, read};
use crate::live::index::SeriesId;
use crate::live::rechunk::{HeadChunk, Rechunker};
use crate::live::series_order::SeriesOrder;
use crate::live::shard::{Piece, Shard};

/// Every sample is visible.
const ALL: u64 = u64::MAX;

/// Which chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    InOrder,
    /// Out-of-order ones up to a place.
    Late(ChunkPlace),
}

/// How the chunks of a series lie.
#[derive(Clone, Copy, Debug)]
enum How {
    FollowingEachOther,
    /// Over each other; cut by what they hold alone, or as the head cuts.
    Merged {
        by_size: bool,
    },
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
    maps: ChunkMaps,
    /// Chunks of the series, and where they were found, if in a file.
    chunks: Vec<(FoundChunk, Option<ChunkPlace>)>,
}

/// Chunks of a series as they are looked at; few have more.
type Views<'a> = SmallVec<[HeadChunk<'a>; 16]>;

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
            maps: ChunkMaps::default(),
            chunks: Vec::new(),
        }
    }

    /// Number of series; some of them may have no samples in the range.
    pub fn series(&self) -> usize {
        self.order.ids().len()
    }

    fn find(&mut self, place: ChunkPlace) -> Result<(), StorageError> {
        let chunk = self.maps.find(&self.head.files, place)?;
        self.chunks.push((chunk, Some(place)));
        Ok(())
    }

    /// Appends what is wanted of the chunks that were found, and forgets these. `deleted` is of the first ones, the last of
    /// them of all that follow.
    fn make(&mut self, how: How, deleted: &[Ranges], out: &mut ChunkBatch) -> Result<(), StorageError> {
        let range = self.range;
        let Self { maps, chunks, rechunker, .. } = self;
        let mut views = Views::new();
        for (i, (chunk, _)) in chunks.iter().enumerate() {
            let FoundChunk { encoding, mint, maxt, .. } = *chunk;
            let deleted = deleted.get(i).or(deleted.last()).map_or(&[][..], Vec::as_slice);
            views.push(HeadChunk { encoding, data: maps.data(chunk), mint, maxt, deleted });
        }
        let made = match (how, &views[..]) {
            (How::FollowingEachOther, all) => rechunker.in_order(all, range, out),
            (How::Merged { by_size: true }, [alone]) => rechunker.copy(alone, range, out).map_err(|e| (0, e)),
            (How::Merged { by_size }, all) => rechunker.merged(all, by_size, range, out),
        };
        drop(views);
        self.chunks.iter().try_for_each(|(chunk, _)| self.maps.check_intact(chunk))?;
        made.map_err(|e| self.damaged(e))?;
        self.chunks.clear();
        Ok(())
    }

    /// What is wrong with the chunk of a number.
    fn damaged(&self, (chunk, e): (usize, ChunkError)) -> StorageError {
        let (file, offset) = match self.chunks.get(chunk).and_then(|c| c.1) {
            None => (self.head.dir.join("wal"), 0),
            Some(place) => (self.head.files.path(place.file), u64::from(place.offset)),
        };
        StorageError::Corrupt(Loss { file, offset, reason: e.to_string() })
    }

    fn in_order_chunks(
        &mut self,
        id: SeriesId,
        deleted: &[Ranges],
        out: &mut ChunkBatch,
    ) -> Result<(), StorageError> {
        let (mint, maxt) = self.range;
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
                Piece::Mapped { place, .. } => self.find(place)?,
                Piece::Memory { chunk, .. } => self.chunks.push((FoundChunk::in_memory(chunk), None)),
            }
        }
        self.pieces = pieces;
        if beside.is_empty() {
            return self.make(How::FollowingEachOther, deleted, out);
        }
        beside.into_iter().try_for_each(|place| self.find(place))?;
        self.make(How::Merged { by_size: false }, deleted, out)
    }

    fn late_chunks(
        &mut self,
        id: SeriesId,
        up_to: ChunkPlace,
        deleted: &[Ranges],
        out: &mut ChunkBatch,
    ) -> Result<(), StorageError> {
        let (mint, maxt) = self.range;
        let stones = match deleted {
            [] => None,
            _ => lock(&self.head.late_deleted).get(&id).cloned(),
        };
        let mut places = Vec::new();
        lock(self.head.shard_of(id)).late_chunks(id, up_to, &mut places);
        places.retain(|c| c.1 <= maxt && c.2 >= mint);
        // Of equal begin the older one is the first.
        places.sort_by_key(|c| (c.1, c.0));
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
            rest[..count].iter().try_for_each(|c| self.find(c.0))?;
            let each: Vec<Ranges> = match &stones {
                // What came behind a deletion is not deleted.
                Some(stones) => rest[..count].iter().map(|c| deleted_of(stones, c.0)).collect(),
                None => Vec::new(),
            };
            rest = &rest[count..];
            let deleted = if stones.is_some() { &each } else { deleted };
            self.make(How::Merged { by_size: true }, deleted, out)?;
        }
        Ok(())
    }
}

/// What of an out-of-order chunk is deleted.
fn deleted_of(stones: &[LateStone], place: ChunkPlace) -> Ranges {
    let mut ranges = Ranges::new();
    for stone in stones.iter().filter(|s| place.reference() < s.end) {
        add_range(&mut ranges, stone.mint, stone.maxt);
    }
    ranges
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
        let deleted = read(&self.head.tombstones).get(&id).cloned();
        match self.which {
            Which::InOrder => self.in_order_chunks(id, deleted.as_slice(), out),
            Which::Late(up_to) => self.late_chunks(id, up_to, deleted.as_slice(), out),
        }
    }
}
