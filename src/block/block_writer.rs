//! A block in the making: chunk files and index written as the series come, in bounded memory, then made visible by
//! one rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_chunk::{Encoding, sample_count};
use tsdbctl_platform::disk::{self, Disk};
use tsdbctl_platform::file;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, EncodedChunk, LabelRef, StorageError};

use crate::chunk_writer::{ChunkWriter, file_name};
use crate::cursor::Cursor;
use crate::index;
use crate::index_writer::{IndexWriter, Limits};
use crate::meta::{self, BlockMeta, BlockStats, IndexStats, Thanos, ThanosFile};
use crate::tombstones::Tombstones;

/// End of the name of a block's directory while it is being made.
pub const TEMPORARY_SUFFIX: &str = ".tmp-for-creation";

/// The encoding byte of aggregate chunks, which Thanos' downsampling makes.
const AGGREGATES: u8 = 0xff;

/// How blocks are written.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// A chunk file ends before this length, bytes (upstream: 512 MiB).
    pub segment_bytes: u64,
    /// Memory for buffers and postings, bytes; more postings are written in several passes. Beside it there are 24 bytes
    /// for each label pair and 5 for each symbol; and the longest postings list must fit.
    pub memory_bytes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { segment_bytes: 512 << 20, memory_bytes: 64 << 20 }
    }
}

/// Writes one block. If it is dropped before [`BlockWriter::finish`], what it wrote is removed as far as the disk lets it.
#[derive(Debug)]
pub struct BlockWriter {
    /// First, so that files are closed before they are removed.
    chunks: ChunkWriter,
    index: IndexWriter,
    memory_bytes: usize,
    stats: BlockStats,
    references: Vec<u64>,
    dir: TemporaryDir,
}

/// The directory of a block in the making; removed when dropped.
#[derive(Debug)]
struct TemporaryDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    keep: bool,
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if !self.keep {
            // Whatever stays is no block by its name, and is removed at the next start.
            let _ = disk::remove_all(&*self.disk, &self.path);
        }
    }
}

impl BlockWriter {
    /// Begins a block in `parent`, in a directory named `ulid` with [`TEMPORARY_SUFFIX`] behind; one that is there is
    /// removed.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn create(
        disk: Arc<dyn Disk>,
        parent: &Path,
        ulid: &str,
        options: WriterOptions,
    ) -> Result<Self, StorageError> {
        let path = parent.join(format!("{ulid}{TEMPORARY_SUFFIX}"));
        disk::create_dir_all(&*disk, parent)?;
        if file::exists(&path) {
            // It may be one whose last rename could not be taken back for sure, see `finish_under`.
            disk::sync_parent(&*disk, &path)?;
            disk::remove_all(&*disk, &path)?;
        }
        disk.create_dir(&path)?;
        let dir = TemporaryDir { disk: Arc::clone(&disk), path, keep: false };
        let buffer_bytes = (options.memory_bytes / 16).clamp(1 << 14, 1 << 20);
        Ok(Self {
            index: IndexWriter::create(&*disk, &dir.path, buffer_bytes, Limits::default())?,
            chunks: ChunkWriter::create(disk, &dir.path, options.segment_bytes, buffer_bytes)?,
            memory_bytes: options.memory_bytes.saturating_sub(2 * buffer_bytes),
            stats: BlockStats::default(),
            references: Vec::new(),
            dir,
        })
    }

    /// The next string, in bytewise order. All come before the first series.
    ///
    /// # Errors
    /// If the system refuses, a limit of the format is reached, or it is out of order.
    pub fn add_symbol(&mut self, symbol: &str) -> Result<(), StorageError> {
        self.index.add_symbol(symbol)
    }

    /// The next series, in label order; labels are places of symbols in the order they were added. One without chunks
    /// is left out.
    ///
    /// # Errors
    /// If the system refuses, a limit of the format is reached, or series or chunks are out of order or overlap.
    pub fn add_series(&mut self, labels: &[LabelRef], chunks: &ChunkBatch) -> Result<(), StorageError> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.index.check(labels, chunks)?;
        for chunk in chunks.iter() {
            // What cannot be counted would be left out with an empty block.
            if let Err(wrong) = count(&mut self.stats, chunk) {
                return Err(self.index.refuse_chunk(labels, &wrong));
            }
        }
        self.stats.num_series += 1;
        self.references.clear();
        self.chunks.write(chunks, &mut self.references)?;
        self.index.add_series(labels, chunks, &self.references)
    }

    /// What was written so far.
    pub fn stats(&self) -> &BlockStats {
        &self.stats
    }

    /// Ends the block: everything is made durable, then visible. Answers `meta` with the counts filled in, and with the
    /// files and sizes if it has the extension of Thanos; `None` if the block had no samples, and is not there then.
    ///
    /// # Errors
    /// If the system refuses. Nothing is visible then, or (only if the last step failed, which makes the name durable, and
    /// then taking it back failed too) the whole block.
    pub fn finish(self, meta: BlockMeta) -> Result<Option<BlockMeta>, StorageError> {
        self.finish_under(meta, &Control::default())
    }

    /// As [`BlockWriter::finish`], unless the work is to stop.
    ///
    /// # Errors
    /// As [`BlockWriter::finish`], and if it was stopped.
    pub fn finish_under(
        mut self,
        mut meta: BlockMeta,
        control: &Control,
    ) -> Result<Option<BlockMeta>, StorageError> {
        if self.stats.num_samples == 0 {
            return Ok(None);
        }
        self.chunks.finish()?;
        let index_bytes = self.index.finish(self.memory_bytes, control)?;
        let Self { chunks, index, stats, mut dir, .. } = self;
        let before = std::mem::replace(&mut meta.stats, stats);
        if meta.resolution_ms() > 0 {
            // What its windows were made of, as Thanos has it.
            meta.stats.num_float_samples = before.num_float_samples;
            meta.stats.num_histogram_samples = before.num_histogram_samples;
        }
        if let Some(thanos) = &mut meta.thanos {
            describe_files(thanos, &chunks, &index, index_bytes);
        }
        drop((chunks, index));
        let disk = Arc::clone(&dir.disk);
        Tombstones::default().write_new(&*disk, &dir.path)?;
        meta.write_new(&*disk, &dir.path)?;
        disk.sync_dir(&dir.path)?;
        control.check("writing a block")?;
        let path = dir.path.with_file_name(&meta.ulid);
        disk.rename(&dir.path, &path)?;
        if let Err(e) = disk::sync_parent(&*disk, &path) {
            // The disk may have either name now. The content goes only once it is sure to be the temporary one.
            dir.keep = true;
            if disk.rename(&path, &dir.path).is_ok() && disk::sync_parent(&*disk, &path).is_ok() {
                dir.keep = false;
            }
            return Err(e.into());
        }
        dir.keep = true;
        Ok(Some(meta))
    }
}

/// Adds a chunk to the counts, or says what is wrong with it.
fn count(stats: &mut BlockStats, chunk: EncodedChunk<'_>) -> Result<(), String> {
    if chunk.encoding == AGGREGATES {
        stats.num_samples += windows(chunk.data).ok_or("has aggregates that are cut short")?;
    } else {
        let encoding = Encoding::from_byte(chunk.encoding)
            .ok_or_else(|| format!("has the unknown encoding {}", chunk.encoding))?;
        let samples = sample_count(encoding, chunk.data).map_err(|e| format!("is damaged: {e}"))? as u64;
        stats.num_samples += samples;
        let of_kind = if encoding.is_histogram() {
            &mut stats.num_histogram_samples
        } else {
            &mut stats.num_float_samples
        };
        *of_kind += samples;
    }
    stats.num_chunks += 1;
    Ok(())
}

/// Windows of an aggregate chunk: samples of the first aggregate that is there, which is their count in all that Thanos
/// makes. Each begins with its length, or 0 if it is absent, and its encoding.
fn windows(data: &[u8]) -> Option<u64> {
    let mut c = Cursor::at(data, 0);
    loop {
        let len = c.uvarint()?;
        if len > 0 {
            let encoding = Encoding::from_byte(c.u8()?)?;
            return sample_count(encoding, c.take(len)?).ok().map(|samples| samples as u64);
        }
    }
}

/// What Thanos' `meta.json` says of the files.
fn describe_files(thanos: &mut Thanos, chunks: &ChunkWriter, index: &IndexWriter, index_bytes: u64) {
    let file = |rel_path: String, bytes: u64| ThanosFile {
        rel_path,
        size_bytes: bytes as i64,
        ..ThanosFile::default()
    };
    thanos.segment_files = (0..chunks.files().len()).map(file_name).collect();
    thanos.files = chunks
        .files()
        .iter()
        .enumerate()
        .map(|(n, bytes)| file(format!("chunks/{}", file_name(n)), *bytes))
        .collect();
    thanos.files.push(file(index::FILE_NAME.to_string(), index_bytes));
    thanos.files.push(file(meta::FILE_NAME.to_string(), 0));
    thanos.index_stats = IndexStats {
        // From one entry to the next, as Thanos measures it.
        series_max_size: index.largest_entry().next_multiple_of(16) as i64,
        chunk_max_size: chunks.largest_chunk() as i64,
    };
}

/// Writes all of a source as one block in `parent`, named by `meta.ulid`.
///
/// # Errors
/// As [`BlockWriter`]; if the source cannot be read, or the work is to stop.
pub fn write_block(
    disk: Arc<dyn Disk>,
    parent: &Path,
    source: &mut dyn ChunkSource,
    meta: BlockMeta,
    options: WriterOptions,
    control: &Control,
) -> Result<Option<BlockMeta>, StorageError> {
    let mut writer = BlockWriter::create(disk, parent, &meta.ulid, options)?;
    source.symbols(&mut |s| writer.add_symbol(s))?;
    let mut chunks = ChunkBatch::default();
    while source.next()? {
        control.check("writing a block")?;
        chunks.clear();
        source.chunks(&mut chunks)?;
        writer.add_series(source.labels(), &chunks)?;
    }
    writer.finish_under(meta, control)
}
