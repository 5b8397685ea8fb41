//! One block directory, opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_platform::file::{self, FileError};
use tsdbctl_storage::{Control, StorageError};

use crate::index::{self, Index};
use crate::meta::BlockMeta;
use crate::querier::BlockQuerier;
use crate::segment::Segments;
use crate::tombstones::Tombstones;

/// An open block. Only `meta.json`, the index's table of contents and the tombstones are read up front; the chunk files
/// are mapped, so that all of it stays readable should a running server remove the block.
#[derive(Debug)]
pub struct Block {
    dir: PathBuf,
    meta: BlockMeta,
    index: Index,
    tombstones: Tombstones,
    segments: Segments,
}

impl Block {
    /// Opens the block in a directory.
    ///
    /// # Errors
    /// If a file of it is missing, damaged, or of an unknown version.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Self::open_with_meta(path, BlockMeta::read(path)?)
    }

    /// Opens the block in a directory whose meta is known.
    ///
    /// # Errors
    /// As [`Block::open`].
    pub fn open_with_meta(path: &Path, meta: BlockMeta) -> Result<Self, StorageError> {
        let index = Index::open(path, meta.version)?;
        let tombstones = Tombstones::read(path)?;
        let segments = Segments::open(path)?;
        // What is absent may be so because a running server removed the block just now.
        if (tombstones.is_empty() || segments.is_empty()) && !file::exists(&path.join(index::FILE_NAME)) {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(FileError::new("open block", path, gone).into());
        }
        Ok(Self { dir: path.to_owned(), meta, index, tombstones, segments })
    }

    /// The block's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the block says about itself.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The deletions.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The chunk files.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Time of the newest sample by the index, Unix ms: the block's range may end later. Chunks that are deleted as a
    /// whole do not count.
    ///
    /// # Errors
    /// If the index is damaged, or the query is to stop.
    pub fn newest_sample_time(&self, control: &Control) -> Result<Option<i64>, StorageError> {
        let end = self.meta.max_time.saturating_sub(1);
        let mut newest = None;
        for (n, reference) in self.index.all_postings()?.to_vec().into_iter().enumerate() {
            if n.is_multiple_of(4096) {
                control.check("newest sample")?;
            }
            let mut c = self.index.series(reference)?;
            for _ in 0..c.labels.saturating_mul(2) {
                if c.cursor.uvarint().is_none() {
                    return Err(self.index.cut_series(c.cursor.pos()));
                }
            }
            let deleted = self.tombstones.of(u64::from(reference));
            let last = self
                .index
                .chunks(c.cursor.pos() as u64)
                .filter(|c| !deleted.iter().any(|d| d.mint <= c.mint && c.maxt <= d.maxt))
                .map(|c| c.maxt)
                .max();
            newest = newest.max(last);
            if newest >= Some(end) {
                break;
            }
        }
        self.index.check_intact()?;
        Ok(newest)
    }

    /// A querier over the whole block.
    pub fn querier(self: &Arc<Self>) -> BlockQuerier {
        BlockQuerier::new(Arc::clone(self))
    }
}
