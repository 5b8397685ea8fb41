//! Pieces of series: encoded chunks and late samples, kept in memory in the order in which they came, then written to
//! one scratch file as runs, each sorted by block and series.
//!
//! ```text
//! piece    series u32 | order u32 | length of the data u32 | samples u16 | encoding u8 | flags u8 | mint i64 | maxt i64 | data
//! run      one section per block:  series u32 of each piece's series, each once, in label order | pieces in that order
//! ```
//!
//! Numbers are little-endian. The file is one process's own and means nothing to another; it is never synced.

use std::sync::Arc;

use tsdbctl_platform::disk::{DiskFile, read_full_at, write_all_at};
use tsdbctl_storage::{Loss, StorageError};

use super::series::Ranks;

/// Bytes of a piece before its data.
pub(crate) const HEADER: usize = 32;
/// Encoding of late floats as they are: time and value, 8 bytes each, sorted by time, equal times as they came.
pub(crate) const RAW: u8 = 0;
/// The piece begins what one appender made of the samples that came in order; those that follow, up to the next that
/// begins, go on with it.
pub(crate) const BEGINS: u8 = 1;
/// The piece holds samples that came late.
pub(crate) const LATE: u8 = 2;

/// Memory is taken in pages of this length: nothing is moved when more is needed.
const PAGE: usize = 256 << 10;
/// Buffer of the writer of a run.
const WRITE_BUFFER: usize = 1 << 20;

/// What a piece says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) series: u32,
    /// Of samples with the same time that of the lower order came first.
    pub(crate) order: u32,
    pub(crate) length: u32,
    pub(crate) samples: u16,
    pub(crate) encoding: u8,
    pub(crate) flags: u8,
    pub(crate) mint: i64,
    pub(crate) maxt: i64,
}

impl Piece {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.series.to_le_bytes());
        out.extend_from_slice(&self.order.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.samples.to_le_bytes());
        out.extend_from_slice(&[self.encoding, self.flags]);
        out.extend_from_slice(&self.mint.to_le_bytes());
        out.extend_from_slice(&self.maxt.to_le_bytes());
    }

    /// Reads what [`Piece::write`] wrote; `None` if there is too little.
    fn read(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let i64_at = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(i64::from_le_bytes);
        Some(Self {
            series: u32_at(0)?,
            order: u32_at(4)?,
            length: u32_at(8)?,
            samples: u16::from_le_bytes(bytes.get(12..14)?.try_into().ok()?),
            encoding: *bytes.get(14)?,
            flags: *bytes.get(15)?,
            mint: i64_at(16)?,
            maxt: i64_at(24)?,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    block: u32,
    series: u32,
    page: u32,
    offset: u32,
}

/// Pieces in memory.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pages: Vec<Vec<u8>>,
    index: Vec<Place>,
    page_bytes: usize,
}

impl Pieces {
    /// Adds a piece.
    pub(crate) fn push(&mut self, block: u32, piece: Piece, data: &[u8]) {
        let needed = HEADER + data.len();
        if self.pages.last().is_none_or(|p| p.capacity() - p.len() < needed) {
            let page = Vec::with_capacity(PAGE.max(needed));
            self.page_bytes += page.capacity();
            self.pages.push(page);
        }
        let at = self.pages.len() - 1;
        let page = &mut self.pages[at];
        self.index.push(Place { block, series: piece.series, page: at as u32, offset: page.len() as u32 });
        piece.write(page);
        page.extend_from_slice(data);
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.page_bytes + self.index.capacity() * size_of::<Place>()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Sorts them by block and series; those of a series keep their order.
    pub(crate) fn sort(&mut self, ranks: &Ranks) {
        self.index.sort_by_key(|p| u64::from(p.block) << 32 | u64::from(ranks.series[p.series as usize]));
    }

    /// The places of a block's pieces, once sorted.
    fn section(&self, block: u32) -> &[Place] {
        let start = self.index.partition_point(|p| p.block < block);
        let end = self.index.partition_point(|p| p.block <= block);
        &self.index[start..end]
    }

    fn at(&self, place: &Place) -> Option<(Piece, &[u8])> {
        let bytes = self.pages.get(place.page as usize)?.get(place.offset as usize..)?;
        let piece = Piece::read(bytes)?;
        Some((piece, bytes.get(HEADER..HEADER + piece.length as usize)?))
    }

    /// Writes them as a run, once sorted, and forgets them.
    pub(crate) fn write(&mut self, runs: &mut Runs) -> Result<(), StorageError> {
        let mut out =
            Writer { file: &*runs.file, offset: runs.end, buffer: Vec::with_capacity(WRITE_BUFFER) };
        for section in self.index.chunk_by(|a, b| a.block == b.block) {
            let start = out.position();
            let mut series = 0;
            for same in section.chunk_by(|a, b| a.series == b.series) {
                out.put(&same[0].series.to_le_bytes())?;
                series += 1;
            }
            for place in section {
                let Some(piece) = self.at(place) else { continue };
                let bytes = &self.pages[place.page as usize][place.offset as usize..];
                out.put(&bytes[..HEADER + piece.0.length as usize])?;
            }
            runs.sections.push(Section { block: section[0].block, start, series, end: out.position() });
        }
        out.flush()?;
        runs.end = out.offset;
        *self = Self::default();
        Ok(())
    }
}

struct Writer<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn position(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        write_all_at(self.file, &self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The part of a run that belongs to one block.
#[derive(Clone, Copy, Debug)]
struct Section {
    block: u32,
    start: u64,
    series: u32,
    end: u64,
}

/// All runs, one behind the other in one file.
#[derive(Debug)]
pub(crate) struct Runs {
    file: Arc<dyn DiskFile>,
    sections: Vec<Section>,
    /// Length of the file.
    pub(crate) end: u64,
}

impl Runs {
    /// Runs in a new file.
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, sections: Vec::new(), end: 0 }
    }
}

/// The pieces of a block, run by run, the last one in memory.
pub(crate) struct Cursors<'a> {
    pub(crate) all: Vec<Cursor<'a>>,
}

impl<'a> Cursors<'a> {
    /// Those of `block`; `buffers` bytes for all buffers together.
    pub(crate) fn of(block: u32, runs: Option<&'a Runs>, memory: &'a Pieces, buffers: usize) -> Self {
        let sections: Vec<Section> = runs
            .map(|r| r.sections.iter().filter(|s| s.block == block).copied().collect())
            .unwrap_or_default();
        let buffer = (buffers / (sections.len() + 1)).clamp(8 << 10, 1 << 20);
        let mut all = Vec::new();
        if let Some(runs) = runs {
            all.extend(sections.iter().map(|s| {
                Cursor::File(FileCursor {
                    file: &*runs.file,
                    section: *s,
                    at: s.start,
                    buffer: Vec::new(),
                    used: 0,
                    wanted: buffer,
                })
            }));
        }
        let places = memory.section(block);
        if !places.is_empty() {
            all.push(Cursor::Memory { pieces: memory, places, next: 0 });
        }
        Self { all }
    }

    /// Calls `each` with all series of the block; some more than once.
    pub(crate) fn series(&mut self, mut each: impl FnMut(u32)) -> Result<(), StorageError> {
        for cursor in &mut self.all {
            match cursor {
                Cursor::Memory { places, .. } => places.iter().for_each(|p| each(p.series)),
                Cursor::File(f) => {
                    f.seek(f.section.start);
                    for _ in 0..f.section.series {
                        let bytes = f.need(4)?;
                        each(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
                        f.used += 4;
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes to the first piece of each run.
    pub(crate) fn rewind(&mut self) {
        for cursor in &mut self.all {
            match cursor {
                Cursor::Memory { next, .. } => *next = 0,
                Cursor::File(f) => f.seek(f.section.start + 4 * u64::from(f.section.series)),
            }
        }
    }
}

/// Goes through the pieces of one block in one run.
pub(crate) enum Cursor<'a> {
    Memory { pieces: &'a Pieces, places: &'a [Place], next: usize },
    File(FileCursor<'a>),
}

impl Cursor<'_> {
    /// The series of the next piece.
    pub(crate) fn series(&mut self) -> Result<Option<u32>, StorageError> {
        match self {
            Self::Memory { places, next, .. } => Ok(places.get(*next).map(|p| p.series)),
            Self::File(f) => {
                if f.at_end() {
                    return Ok(None);
                }
                let bytes = f.need(4)?;
                Ok(Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
            }
        }
    }

    /// Takes the next piece.
    pub(crate) fn take(&mut self, gathered: &mut Gathered) -> Result<(), StorageError> {
        match self {
            Self::Memory { pieces, places, next } => {
                if let Some((piece, data)) = places.get(*next).and_then(|p| pieces.at(p)) {
                    gathered.push(piece, data);
                }
                *next += 1;
            }
            Self::File(f) => {
                let piece = Piece::read(f.need(HEADER)?);
                let piece = piece.ok_or_else(|| f.cut_short())?;
                let whole = HEADER + piece.length as usize;
                gathered.push(piece, &f.need(whole)?[HEADER..whole]);
                f.used += whole;
            }
        }
        Ok(())
    }
}

pub(crate) struct FileCursor<'a> {
    file: &'a dyn DiskFile,
    section: Section,
    /// Where in the file the buffer ends.
    at: u64,
    buffer: Vec<u8>,
    used: usize,
    wanted: usize,
}

impl FileCursor<'_> {
    fn seek(&mut self, to: u64) {
        self.at = to;
        self.buffer.clear();
        self.used = 0;
    }

    fn at_end(&self) -> bool {
        self.used == self.buffer.len() && self.at >= self.section.end
    }

    fn cut_short(&self) -> StorageError {
        StorageError::Corrupt(Loss {
            file: self.file.path().to_owned(),
            offset: self.at,
            reason: "the scratch file ends before it should".to_owned(),
        })
    }

    /// At least `length` bytes that were not used yet.
    fn need(&mut self, length: usize) -> Result<&[u8], StorageError> {
        let left = self.buffer.len() - self.used;
        if left < length {
            self.buffer.drain(..self.used);
            self.used = 0;
            let room =
                (self.section.end.saturating_sub(self.at)).min(self.wanted.max(length) as u64) as usize;
            self.buffer.resize(left + room, 0);
            let read = read_full_at(self.file, &mut self.buffer[left..], self.at)?;
            self.buffer.truncate(left + read);
            self.at += read as u64;
            if self.buffer.len() < length {
                return Err(self.cut_short());
            }
        }
        Ok(&self.buffer[self.used..])
    }
}

/// The pieces of one series.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    pieces: Vec<(Piece, usize)>,
}

impl Gathered {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    fn push(&mut self, piece: Piece, data: &[u8]) {
        self.pieces.push((piece, self.bytes.len()));
        self.bytes.extend_from_slice(data);
    }

    /// Run by run, in each as they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Piece, &[u8])> {
        self.pieces.iter().map(|(p, at)| (*p, &self.bytes[*at..*at + p.length as usize]))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tsdbctl_platform::disk::{Access, Disk};
    use tsdbctl_platform::real::RealDisk;

    use super::*;

    fn piece(series: u32, order: u32, length: u32) -> Piece {
        Piece { series, order, length, samples: 7, encoding: 1, flags: BEGINS, mint: -5, maxt: i64::MAX }
    }

    fn all(cursors: &mut Cursors<'_>) -> Vec<(u32, u32, usize, u8)> {
        cursors.rewind();
        let mut out = Vec::new();
        for cursor in &mut cursors.all {
            while cursor.series().unwrap().is_some() {
                let mut gathered = Gathered::default();
                cursor.take(&mut gathered).unwrap();
                out.extend(
                    gathered
                        .iter()
                        .map(|(p, d)| (p.series, p.order, d.len(), d.last().copied().unwrap_or(0))),
                );
            }
        }
        out
    }

    #[test]
    fn what_was_written_is_read_by_block_and_series() {
        let dir = tsdbctl_testkit::scratch();
        let ranks = Ranks { series: vec![2, 0, 1], symbols: Vec::new() };
        let file = |name: &str| RealDisk.open(&dir.path().join(Path::new(name)), Access::CreateNew).unwrap();
        let mut runs = Runs::new(file("runs"));
        let mut pieces = Pieces::default();
        for (block, series, order, length) in
            [(1, 0, 1, 10), (0, 2, 2, 0), (1, 1, 3, 300_000), (1, 0, 4, 20), (0, 1, 5, 5)]
        {
            pieces.push(block, piece(series, order, length), &vec![order as u8; length as usize]);
        }
        assert!(pieces.bytes() > 300_000);
        pieces.sort(&ranks);
        let one = [(1, 3, 300_000, 3), (0, 1, 10, 1), (0, 4, 20, 4)];
        assert_eq!(all(&mut Cursors::of(1, None, &pieces, 0)), one);
        pieces.write(&mut runs).unwrap();
        assert!(pieces.is_empty());
        pieces.push(1, piece(2, 9, 3), &[9; 3]);
        pieces.sort(&ranks);
        pieces.write(&mut runs).unwrap();
        pieces.push(1, piece(2, 10, 3), &[10; 3]);
        pieces.sort(&ranks);
        let mut cursors = Cursors::of(1, Some(&runs), &pieces, 0);
        let mut series = Vec::new();
        cursors.series(|s| series.push(s)).unwrap();
        assert_eq!(series, [1, 0, 2, 2]);
        let mut want = one.to_vec();
        want.extend([(2, 9, 3, 9), (2, 10, 3, 10)]);
        assert_eq!(all(&mut cursors), want);
        assert_eq!(all(&mut Cursors::of(0, Some(&runs), &pieces, 0)), [(1, 5, 5, 5), (2, 2, 0, 0)]);
        assert_eq!(all(&mut Cursors::of(7, Some(&runs), &pieces, 0)), []);
    }
}
