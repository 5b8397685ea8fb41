//! Sources whose series can be asked in any order, as changing labels needs.

use crate::chunk_source::{ChunkBatch, ChunkSource, LabelRef};
use crate::error::StorageError;

/// A source whose series have numbers, from 0 in label order, by which they can be asked at any time; going through it
/// with [`ChunkSource::next`] is not disturbed.
pub trait SeriesTable: ChunkSource {
    /// Number of series. Some may turn out to have no chunks.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the labels of a series, sorted by name.
    ///
    /// # Errors
    /// If they cannot be read.
    fn labels_of(&mut self, series: usize, out: &mut Vec<LabelRef>) -> Result<(), StorageError>;

    /// Appends the chunks of a series, as [`ChunkSource::chunks`].
    ///
    /// # Errors
    /// If they cannot be read.
    fn chunks_of(&mut self, series: usize, out: &mut ChunkBatch) -> Result<(), StorageError>;
}
