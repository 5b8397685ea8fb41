//! A block in the making: chunk files and index written as the series come, in bounded memory, then made visible by
//! one rename.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_platform::disk::Disk;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, LabelRef, StorageError};

use crate::meta::BlockMeta;

/// End of the name of a block's directory while it is being made.
pub const TEMPORARY_SUFFIX: &str = ".tmp-for-creation";

/// How blocks are written.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// A chunk file ends before this length, bytes (upstream: 512 MiB).
    pub segment_bytes: u64,
    /// Memory for buffers and postings, bytes; more postings are written in several passes.
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
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WriterOptions,
}

impl BlockWriter {
    /// Begins a block in `parent`, in a directory named `ulid` with [`TEMPORARY_SUFFIX`] behind.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn create(
        disk: Arc<dyn Disk>,
        parent: &Path,
        ulid: &str,
        options: WriterOptions,
    ) -> Result<Self, StorageError> {
        let dir = parent.join(format!("{ulid}{TEMPORARY_SUFFIX}"));
        Ok(Self { disk, dir, options })
    }

    /// The next string, in bytewise order. All come before the first series.
    ///
    /// # Errors
    /// If the system refuses, or a limit of the format is reached.
    pub fn add_symbol(&mut self, _symbol: &str) -> Result<(), StorageError> {
        Err(self.unfinished())
    }

    /// The next series, in label order; labels are places of symbols in the order they were added. One without chunks
    /// is left out.
    ///
    /// # Errors
    /// If the system refuses, or a limit of the format is reached.
    pub fn add_series(&mut self, _labels: &[LabelRef], _chunks: &ChunkBatch) -> Result<(), StorageError> {
        Err(self.unfinished())
    }

    /// Ends the block: everything is made durable, then visible. Answers `meta` with the counts filled in; `None` if
    /// the block had no samples, and is not there then.
    ///
    /// # Errors
    /// If the system refuses. Nothing is visible then, or (only if the last step failed, which makes the name durable) the
    /// whole block.
    pub fn finish(self, _meta: BlockMeta) -> Result<Option<BlockMeta>, StorageError> {
        Err(self.unfinished())
    }

    fn unfinished(&self) -> StorageError {
        let _ = (&self.disk, self.options);
        StorageError::Unsupported { file: self.dir.clone(), reason: "not written yet".to_string() }
    }
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
    writer.finish(meta)
}
