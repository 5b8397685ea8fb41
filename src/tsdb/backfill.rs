//! Samples straight into new blocks of a directory, in whatever order they come, in bounded memory.
//!
//! A series has one open appender, whose full chunks are *pieces* of the series and its block. A sample that is not newer
//! than the appender's last one is late: such samples are kept apart, and are pieces too when there are many. Pieces
//! live in memory; when that is full they are written, sorted, to a scratch file as a run. At the end all runs are merged,
//! block by block. A series whose pieces in a block all came in order keeps its chunks, others are made anew, so that the
//! blocks are the same whatever the order of the input was.
//!
//! Of samples of a series with the same time the one that came first is stored, as a head that takes one after the
//! other does.
//!
//! Everything is made in one directory that is named as a block in the making: an interrupted run leaves only that,
//! and whoever opens the directory next removes it. At the end all blocks are durable there and get their names, one
//! after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_block::block_writer::{TEMPORARY_SUFFIX, WriterOptions, write_block};
use tsdbctl_block::meta::{HINT_OUT_OF_ORDER, new_ulid};
use tsdbctl_block::{BlockMeta, plan::block_ranges};
use tsdbctl_chunk::{
    AppenderOptions, Chunk, ChunkError, FloatHistogramEncoder, HistogramEncoder, SeriesAppender,
};
use tsdbctl_head::{HeadOptions, ReadHead};
use tsdbctl_model::histogram::ConvertedHistogram;
use tsdbctl_model::labels::Labels;
use tsdbctl_platform::disk::{Access, remove_all};
use tsdbctl_platform::file;
use tsdbctl_platform::lock::DirLock;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Control, StorageError};

use crate::blocks::Listing;
use crate::live::{make_dumpable, take_directory};

mod pieces;
mod rooms;
mod series;
mod source;

use pieces::{BEGINS, Cursors, HEADER, LATE, Piece, Pieces, RAW, Runs};
pub use rooms::Held;
use rooms::{Room, Rooms};
use series::SeriesTable;
use source::{BlockOfPieces, Met};

/// Length of a block by default, ms (upstream's `DefaultBlockDuration`).
pub const BLOCK_MS: i64 = 7_200_000;
/// Times beyond this (in either direction) are refused: sums with them would pass the largest number.
const TIME_MAX_MS: i64 = i64::MAX / 4;
/// What an open appender takes besides what it is asked for: its own fields and the bytes of its chunk.
const OPEN_BYTES: usize = size_of::<Open>() + 256;
/// A late float in memory.
const LATE_BYTES: usize = size_of::<(u32, i64, f64)>();
/// Late samples of one piece at most.
const RAW_SAMPLES: usize = 4096;

/// How blocks are made.
#[derive(Clone, Copy, Debug)]
pub struct BackfillOptions {
    /// Length of the aligned range that a block may have samples of, ms; see [`block_duration`].
    pub block_ms: i64,
    /// Memory for samples; that of the series comes on top.
    pub memory_bytes: usize,
    /// Whether blocks may lie over others, and over the head.
    pub allow_overlap: bool,
    /// How chunks are encoded; their range is the blocks'.
    pub chunks: AppenderOptions,
}

impl Default for BackfillOptions {
    fn default() -> Self {
        Self {
            block_ms: BLOCK_MS,
            memory_bytes: 128 << 20,
            allow_overlap: false,
            chunks: AppenderOptions::default(),
        }
    }
}

/// The longest range of blocks that is not above `max_ms`: two hours times a power of three, as promtool has it.
pub fn block_duration(max_ms: i64) -> i64 {
    block_ranges(BLOCK_MS, 10, 3).into_iter().take_while(|r| *r <= max_ms).last().unwrap_or(BLOCK_MS)
}

/// Why a backfill ends.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// A file, the directory or a limit.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A sample belongs to a time that is held already.
    #[error("a sample of {labels} at {t} ms belongs to a time that the directory has already")]
    Overlap {
        /// Its series.
        labels: Box<Labels>,
        /// Its time, Unix ms.
        t: i64,
        /// What holds the time around it.
        held: Vec<Held>,
    },
    /// Blocks could not be given their names, and some that had got theirs may have kept them.
    #[error("{error}; these blocks are there, or may be after a crash: {}", blocks.join(", "))]
    Partly {
        /// What went wrong.
        error: Box<StorageError>,
        /// The blocks.
        blocks: Vec<String>,
    },
}

impl From<file::FileError> for BackfillError {
    fn from(e: file::FileError) -> Self {
        Self::Storage(e.into())
    }
}

/// What became of a sample, as far as is known at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is kept; it may turn out at the end that the series had a sample of its time before.
    Kept,
    /// It cannot be stored: its time is out of all bounds.
    OutOfBounds,
    /// It cannot be stored: the histogram contradicts itself.
    InvalidHistogram,
}

/// What a backfill came to.
#[derive(Clone, Debug, Default)]
pub struct BackfillReport {
    /// The new blocks, by time.
    pub blocks: Vec<NewBlock>,
    /// Samples stored.
    pub stored: u64,
    /// Samples that came again, with the same value.
    pub same: u64,
    /// Samples left out because one of their series and time with another value came before.
    pub conflicts: u64,
    /// The first such.
    pub conflict: Option<(Labels, i64)>,
    /// Bytes that were written to the scratch file.
    pub scratch_bytes: u64,
}

/// A block that was made.
#[derive(Clone, Debug)]
pub struct NewBlock {
    /// What it says about itself.
    pub meta: BlockMeta,
    /// Bytes on disk.
    pub bytes: u64,
}

/// A series that is open.
struct Open {
    appender: SeriesAppender,
    /// Time of its last sample.
    last: i64,
    /// The end of its block's room.
    until: i64,
    /// Bits of the last sample, if that was a float.
    bits: Option<u64>,
    block: u32,
    order: u32,
    begun: bool,
    /// Whether it got a sample since memory was last short.
    is_warm: bool,
}

/// A bit for each series.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, series: u32) {
        let word = series as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (series % 64);
    }

    fn get(&self, series: u32) -> bool {
        self.0.get(series as usize / 64).is_some_and(|word| word >> (series % 64) & 1 == 1)
    }
}

/// A backfill under way. Dropped before its end it leaves nothing behind, as far as the disk lets it.
pub struct Backfill {
    world: World,
    dir: PathBuf,
    _lock: DirLock,
    options: BackfillOptions,
    table: SeriesTable,
    rooms: Rooms,
    open: Vec<Option<Box<Open>>>,
    open_count: usize,
    /// Which series were closed for want of memory, a bit each: the sample that is the first of its time in what is open
    /// may have come again itself.
    closed: Bits,
    /// Which series have late floats that are no pieces yet.
    late_floats: Bits,
    pieces: Pieces,
    late: Vec<(u32, i64, f64)>,
    /// Grows whenever late samples become pieces.
    period: u32,
    runs: Option<Runs>,
    temporary: PathBuf,
    /// Whether what is in it may have another name on the disk.
    keep_temporary: bool,
    met: Met,
    /// In-order blocks end here; the head's samples begin here or later. `None`: there is no head.
    head_start: Option<i64>,
    failed: Option<BackfillError>,
    is_full: bool,
}

impl Backfill {
    /// Begins in a directory, which is made if it does not exist, and is this one's alone until it is dropped.
    ///
    /// # Errors
    /// If somebody else has it, or it cannot be read or written.
    pub fn open(world: World, dir: &Path, options: BackfillOptions) -> Result<Self, BackfillError> {
        let disk = &*world.disk;
        let lock = take_directory(disk, dir)?;
        // What a damaged block holds is not known, so nothing can be kept clear of it.
        let listing = Listing::of(dir, false)?;
        let head_start = head_start(dir, listing.in_order_end())?;
        let mut held = Vec::new();
        if !options.allow_overlap {
            held.extend(listing.live.iter().map(|b| Held {
                block: Some(b.meta.ulid.clone()),
                start: b.meta.min_time,
                end: b.meta.max_time,
            }));
            held.extend(head_start.map(|start| Held { block: None, start, end: i64::MAX }));
        }
        let options = BackfillOptions {
            // As promtool's block writer, whose head is twice as long as its blocks.
            chunks: AppenderOptions { chunk_range_ms: options.block_ms.saturating_mul(2), ..options.chunks },
            ..options
        };
        let temporary = dir.join(format!("{}{TEMPORARY_SUFFIX}", new_ulid(&world)?));
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
            options,
            table: SeriesTable::default(),
            rooms: Rooms::new(options.block_ms, held),
            open: Vec::new(),
            open_count: 0,
            closed: Bits::default(),
            late_floats: Bits::default(),
            pieces: Pieces::default(),
            late: Vec::new(),
            period: 0,
            runs: None,
            temporary,
            keep_temporary: false,
            met: Met::default(),
            head_start,
            failed: None,
            is_full: false,
            world,
        })
    }

    /// The number of a series, made if it is new; labels are sorted by name.
    pub fn series<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> u32 {
        let series = self.table.add(labels);
        if self.open.len() <= series as usize {
            self.open.resize_with(series as usize + 1, || None);
        }
        series
    }

    /// The number of a series that came before.
    pub fn find<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Option<u32> {
        self.table.find(labels)
    }

    /// Labels of a series.
    pub fn labels(&self, series: u32) -> Labels {
        self.table.labels(series)
    }

    /// A float sample; `st` is its start timestamp, 0 for none. [`Backfill::check`] is due afterwards.
    #[inline]
    pub fn float(&mut self, series: u32, t: i64, v: f64, st: i64) -> Taken {
        if let Some(Some(open)) = self.open.get_mut(series as usize)
            && open.last < t
            && t <= open.until
            && open.appender.append_float(t, v, st).is_ok()
        {
            open.last = t;
            open.bits = Some(v.to_bits());
            if open.appender.has_full() {
                self.seal_full(series);
            }
            return Taken::Kept;
        }
        self.float_elsewhere(series, t, v, st)
    }

    #[inline(never)]
    fn float_elsewhere(&mut self, series: u32, t: i64, v: f64, st: i64) -> Taken {
        if let Some(Some(open)) = self.open.get(series as usize)
            && open.last == t
            && let Some(bits) = open.bits
            && !self.closed.get(series)
        {
            if bits == v.to_bits() {
                self.met.same += 1;
            } else {
                self.met.conflict(series, t);
            }
            return Taken::Kept;
        }
        let st = if self.options.chunks.st { st } else { 0 };
        let (room, is_late) = match self.room(series, t) {
            Ok(Some(found)) => found,
            Ok(None) => return Taken::OutOfBounds,
            Err(e) => return self.fail(e),
        };
        if !is_late {
            let open = self.reopen(series, room);
            let appended = open.appender.append_float(t, v, st);
            (open.last, open.bits) = (t, Some(v.to_bits()));
            return self.done(appended);
        }
        if st == 0 {
            self.late.push((series, t, v));
            self.late_floats.set(series);
            self.is_full |= self.late.len() >= self.late_max();
            return Taken::Kept;
        }
        let mut appender = SeriesAppender::new(self.options.chunks);
        let appended = appender.append_float(t, v, st);
        self.push_late(series, room.block, appender.into_chunks());
        self.done(appended)
    }

    /// A histogram; see [`Backfill::float`].
    pub fn histogram(&mut self, series: u32, t: i64, h: &ConvertedHistogram, st: i64) -> Taken {
        let valid = match h {
            ConvertedHistogram::Integer(h) => h.validate().is_ok(),
            ConvertedHistogram::Float(h) => h.validate().is_ok(),
        };
        if !valid {
            return Taken::InvalidHistogram;
        }
        if let Some(Some(open)) = self.open.get_mut(series as usize)
            && open.last < t
            && t <= open.until
            && source::append(&mut open.appender, t, h, st).is_ok()
        {
            (open.last, open.bits) = (t, None);
            if open.appender.has_full() {
                self.seal_full(series);
            }
            return Taken::Kept;
        }
        let (room, is_late) = match self.room(series, t) {
            Ok(Some(found)) => found,
            Ok(None) => return Taken::OutOfBounds,
            Err(e) => return self.fail(e),
        };
        if !is_late {
            let open = self.reopen(series, room);
            let appended = source::append(&mut open.appender, t, h, st);
            (open.last, open.bits) = (t, None);
            return self.done(appended);
        }
        if self.late_floats.get(series)
            && let Err(e) = self.sort_late()
        {
            // They came first.
            return self.fail(e);
        }
        // A chunk of its own keeps what it says about a reset.
        let with_st = self.options.chunks.histograms_st;
        let st = if with_st { st } else { 0 };
        let (appended, encoding, data) = match h {
            ConvertedHistogram::Integer(h) => {
                let mut encoder = HistogramEncoder::new(with_st);
                let appended = encoder.append(t, h, st);
                encoder.set_counter_reset(h.counter_reset_hint);
                (appended, encoder.encoding(), encoder.take())
            }
            ConvertedHistogram::Float(h) => {
                let mut encoder = FloatHistogramEncoder::new(with_st);
                let appended = encoder.append(t, h, st);
                encoder.set_counter_reset(h.counter_reset_hint);
                (appended, encoder.encoding(), encoder.take())
            }
        };
        self.push_late(series, room.block, vec![Chunk { encoding, data, mint: t, maxt: t, samples: 1 }]);
        self.done(appended)
    }

    /// Whether all is well; makes room where memory is short.
    ///
    /// # Errors
    /// What went wrong with a sample before, or that the scratch file cannot be written.
    #[inline]
    pub fn check(&mut self) -> Result<(), BackfillError> {
        if self.is_full { self.relieve() } else { Ok(()) }
    }

    /// The room of a time, and whether the sample is late there; `None` if no block can have it.
    fn room(&mut self, series: u32, t: i64) -> Result<Option<(Room, bool)>, BackfillError> {
        if !(-TIME_MAX_MS..=TIME_MAX_MS).contains(&t) {
            return Ok(None);
        }
        let room = self.rooms.of(t).map_err(|held| BackfillError::Overlap {
            labels: Box::new(self.table.labels(series)),
            t,
            held,
        })?;
        let is_late = matches!(self.open.get(series as usize), Some(Some(open)) if t <= open.last);
        Ok(Some((room, is_late)))
    }

    fn done(&mut self, appended: Result<(), ChunkError>) -> Taken {
        match appended {
            Ok(()) => Taken::Kept,
            Err(e) => {
                let (file, reason) = (self.dir.clone(), format!("a sample cannot be encoded: {e}"));
                self.fail(BackfillError::Storage(StorageError::Unsupported { file, reason }))
            }
        }
    }

    fn fail(&mut self, e: BackfillError) -> Taken {
        self.failed.get_or_insert(e);
        self.is_full = true;
        Taken::Kept
    }

    /// The series begins in a block; what it had in another one is a piece there.
    fn reopen(&mut self, series: u32, room: Room) -> &mut Open {
        self.close(series);
        let appender = SeriesAppender::new(self.options.chunks);
        let open = Open {
            appender,
            last: i64::MIN,
            until: room.last,
            bits: None,
            block: room.block,
            order: 2 * self.period,
            begun: false,
            is_warm: true,
        };
        self.open_count += 1;
        self.look_at_memory();
        let i = series as usize;
        if self.open.len() <= i {
            self.open.resize_with(i + 1, || None);
        }
        self.open[i].insert(Box::new(open))
    }

    #[inline(never)]
    fn seal_full(&mut self, series: u32) {
        if let Some(Some(open)) = self.open.get_mut(series as usize) {
            let chunks = open.appender.take_full();
            open.is_warm = true;
            let (block, order) = (open.block, open.order);
            for chunk in chunks {
                let flags = if std::mem::replace(&mut open.begun, true) { 0 } else { BEGINS };
                push(&mut self.pieces, &mut self.rooms, (series, block, order, flags), &chunk);
            }
        }
        self.look_at_memory();
    }

    /// All chunks of an open series become pieces.
    fn close(&mut self, series: u32) {
        let Some(open) = self.open.get_mut(series as usize).and_then(Option::take) else { return };
        self.open_count -= 1;
        let Open { appender, block, order, mut begun, .. } = *open;
        for chunk in appender.into_chunks() {
            let flags = if std::mem::replace(&mut begun, true) { 0 } else { BEGINS };
            push(&mut self.pieces, &mut self.rooms, (series, block, order, flags), &chunk);
        }
    }

    fn close_for_memory(&mut self, series: u32) {
        self.closed.set(series);
        self.close(series);
    }

    fn push_late(&mut self, series: u32, block: u32, chunks: Vec<Chunk>) {
        let order = 2 * self.period + 1;
        for chunk in chunks {
            push(&mut self.pieces, &mut self.rooms, (series, block, order, LATE), &chunk);
        }
        self.look_at_memory();
    }

    fn late_max(&self) -> usize {
        (self.options.memory_bytes / 4 / LATE_BYTES).max(1)
    }

    fn look_at_memory(&mut self) {
        self.is_full |= self.memory() > self.options.memory_bytes;
    }

    /// Bytes that samples take.
    fn memory(&self) -> usize {
        self.pieces.bytes() + self.open_count * OPEN_BYTES + self.late.capacity() * LATE_BYTES
    }

    #[inline(never)]
    fn relieve(&mut self) -> Result<(), BackfillError> {
        if let Some(e) = self.failed.take() {
            // It stays so.
            self.is_full = true;
            self.failed = Some(BackfillError::Storage(StorageError::Unsupported {
                file: self.dir.clone(),
                reason: "the work failed before".to_owned(),
            }));
            return Err(e);
        }
        self.is_full = false;
        if self.late.len() >= self.late_max() {
            self.sort_late()?;
        }
        if self.memory() > self.options.memory_bytes {
            self.spill()?;
        }
        Ok(())
    }

    /// Late samples become pieces.
    fn sort_late(&mut self) -> Result<(), BackfillError> {
        if self.late.is_empty() {
            return Ok(());
        }
        let mut late = std::mem::take(&mut self.late);
        late.sort_by_key(|s| (s.0, s.1));
        let order = 2 * self.period + 1;
        let mut data = Vec::new();
        let mut from = 0;
        while let Some(&(series, mint, _)) = late.get(from) {
            let room = self.rooms.of(mint).map_err(|held| BackfillError::Overlap {
                labels: Box::new(self.table.labels(series)),
                t: mint,
                held,
            })?;
            data.clear();
            let (mut to, mut maxt) = (from, mint);
            while let Some(&(s, t, v)) = late.get(to)
                && s == series
                && t <= room.last
                && to - from < RAW_SAMPLES
            {
                data.extend_from_slice(&t.to_le_bytes());
                data.extend_from_slice(&v.to_bits().to_le_bytes());
                (to, maxt) = (to + 1, t);
            }
            let (length, samples) = (data.len() as u32, (to - from) as u16);
            let piece = Piece { series, order, length, samples, encoding: RAW, flags: LATE, mint, maxt };
            self.pieces.push(room.block, piece, &data);
            self.rooms.extend(room.block, mint, maxt);
            from = to;
        }
        late.clear();
        self.late = late;
        self.late_floats = Bits::default();
        self.period += 1;
        Ok(())
    }

    /// Pieces go to the scratch file.
    fn spill(&mut self) -> Result<(), BackfillError> {
        self.sort_late()?;
        self.late = Vec::new();
        // What is open again after this comes behind all that was late before.
        self.period += 1;
        // Series that got nothing since the last time make room first, then all. Those that go on later begin a new
        // chunk, which costs work at the end.
        let open_max = self.options.memory_bytes / 2 / OPEN_BYTES;
        if self.open_count > open_max {
            for series in 0..self.open.len() as u32 {
                let cold =
                    self.open[series as usize].as_mut().is_some_and(|o| !std::mem::take(&mut o.is_warm));
                if cold {
                    self.close_for_memory(series);
                }
            }
            if self.open_count > open_max {
                (0..self.open.len() as u32).for_each(|series| self.close_for_memory(series));
            }
        }
        if self.pieces.is_empty() {
            return Ok(());
        }
        let ranks = self.table.ranks();
        self.pieces.sort(&ranks);
        if self.runs.is_none() {
            self.make_temporary()?;
            let file = self.world.disk.open(&self.temporary.join("runs"), Access::CreateNew)?;
            self.runs = Some(Runs::new(file));
        }
        if let Some(runs) = &mut self.runs {
            self.pieces.write(runs)?;
        }
        Ok(())
    }

    fn make_temporary(&self) -> Result<(), BackfillError> {
        if !file::exists(&self.temporary) {
            self.world.disk.create_dir(&self.temporary)?;
        }
        Ok(())
    }

    /// Writes the blocks. They get their names when all of them are durable.
    ///
    /// # Errors
    /// What went wrong with a sample, or that a block cannot be written. No block is there then, but for
    /// [`BackfillError::Partly`].
    pub fn finish(mut self, control: &Control) -> Result<BackfillReport, BackfillError> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        self.sort_late()?;
        self.late = Vec::new();
        for series in 0..self.open.len() as u32 {
            self.close(series);
        }
        self.open = Vec::new();
        let ranks = self.table.ranks();
        self.pieces.sort(&ranks);
        let mut report = BackfillReport {
            scratch_bytes: self.runs.as_ref().map_or(0, |r| r.end),
            ..BackfillReport::default()
        };
        let blocks: Vec<u32> = self.rooms.in_order().collect();
        for block in blocks {
            let extent = self.rooms.blocks[block as usize];
            if extent.mint > extent.maxt {
                continue;
            }
            self.make_temporary()?;
            let mut meta = BlockMeta::new(new_ulid(&self.world)?, extent.mint, extent.maxt + 1);
            if self.shuts_out(meta.max_time) {
                meta.compaction.hints.push(HINT_OUT_OF_ORDER.to_owned());
            }
            let buffers = self.options.memory_bytes / 4;
            let cursors = Cursors::of(block, self.runs.as_ref(), &self.pieces, buffers);
            let mut source =
                BlockOfPieces::new(&self.table, &ranks, cursors, self.options.chunks, &mut self.met)?;
            let memory_bytes =
                WriterOptions::default().memory_bytes.min((self.options.memory_bytes / 4).max(1 << 20));
            let options = WriterOptions { memory_bytes, ..WriterOptions::default() };
            let disk = Arc::clone(&self.world.disk);
            if let Some(meta) = write_block(disk, &self.temporary, &mut source, meta, options, control)? {
                let bytes = size_of_block(&self.temporary.join(&meta.ulid))?;
                report.blocks.push(NewBlock { meta, bytes });
            }
        }
        self.publish(&report)?;
        let met = std::mem::take(&mut self.met);
        report.stored = met.stored;
        report.same = met.same;
        report.conflicts = met.conflicts;
        report.conflict = met.example.map(|(series, t)| (self.table.labels(series), t));
        Ok(report)
    }

    /// Whether a block that ends here would, if taken for what the head has left behind, make a server drop samples:
    /// those of the head before the block's end when it starts, or what is scraped until then if it ends in the future.
    /// Marked as made of samples that came out of order, it does not.
    fn shuts_out(&self, max_time: i64) -> bool {
        self.head_start.is_some_and(|start| max_time > start) || max_time > self.world.clock.now_ms()
    }

    /// The blocks get their names; if one cannot, those that had got theirs lose them again.
    fn publish(&mut self, report: &BackfillReport) -> Result<(), BackfillError> {
        self.runs = None;
        let disk = &*self.world.disk;
        if !report.blocks.is_empty() {
            make_dumpable(disk, &self.dir)?;
        }
        let paths =
            |block: &NewBlock| (self.temporary.join(&block.meta.ulid), self.dir.join(&block.meta.ulid));
        let mut named = 0;
        let mut name_all = || -> Result<(), file::FileError> {
            for block in &report.blocks {
                let (made, name) = paths(block);
                disk.rename(&made, &name)?;
                named += 1;
            }
            if named > 0 {
                disk.sync_dir(&self.dir)?;
                disk.sync_dir(&self.temporary)?;
            }
            Ok(())
        };
        if let Err(e) = name_all() {
            let mut blocks = Vec::new();
            for block in report.blocks[..named].iter().rev() {
                let (made, name) = paths(block);
                if disk.rename(&name, &made).is_err() {
                    blocks.push(block.meta.ulid.clone());
                }
            }
            let synced = |dir: &Path| disk.sync_dir(dir).is_ok();
            if named > 0 && !(synced(&self.dir) && synced(&self.temporary)) {
                // Whether they are there is only known after the next start.
                blocks = report.blocks[..named].iter().map(|b| b.meta.ulid.clone()).collect();
                self.keep_temporary = true;
            }
            let error = Box::new(StorageError::from(e));
            return Err(if blocks.is_empty() {
                (*error).into()
            } else {
                BackfillError::Partly { error, blocks }
            });
        }
        if file::exists(&self.temporary) {
            // All is done; whoever opens the directory next removes it else.
            let _ = remove_all(disk, &self.temporary);
        }
        Ok(())
    }
}

impl Drop for Backfill {
    fn drop(&mut self) {
        self.runs = None;
        if !self.keep_temporary && file::exists(&self.temporary) {
            // Whoever opens the directory next removes it else.
            let _ = remove_all(&*self.world.disk, &self.temporary);
        }
    }
}

impl std::fmt::Debug for Backfill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backfill")
            .field("dir", &self.dir)
            .field("series", &self.table.len())
            .finish_non_exhaustive()
    }
}

fn push(
    pieces: &mut Pieces,
    rooms: &mut Rooms,
    (series, block, order, flags): (u32, u32, u32, u8),
    chunk: &Chunk,
) {
    let piece = Piece {
        series,
        order,
        length: chunk.data.len() as u32,
        samples: chunk.samples as u16,
        encoding: chunk.encoding as u8,
        flags,
        mint: chunk.mint,
        maxt: chunk.maxt,
    };
    pieces.push(block, piece, &chunk.data);
    rooms.extend(block, chunk.mint, chunk.maxt);
}

/// When the head's samples begin, if there are any.
fn head_start(dir: &Path, in_order_end: i64) -> Result<Option<i64>, StorageError> {
    if !file::is_dir(&dir.join("wal")) {
        return Ok(None);
    }
    // Its samples themselves are not needed, so they are not kept.
    let options = HeadOptions {
        min_valid_time: in_order_end,
        mint: i64::MAX - 1,
        maxt: i64::MAX,
        ..HeadOptions::default()
    };
    let head = ReadHead::open(dir, &options, &Control::default())?;
    Ok(head.and_then(|h| h.times()).map(|t| t.0))
}

fn size_of_block(dir: &Path) -> Result<u64, StorageError> {
    crate::blocks::BlockEntry::read(dir)?.size_bytes()
}

const _: () = assert!(HEADER == 32);

#[cfg(test)]
mod tests;
