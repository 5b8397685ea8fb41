//! A block's series in any order.

use tsdbctl_storage::{ChunkBatch, ChunkSource, LabelRef, SeriesTable, StorageError};

use super::{BlockSource, Entry};

impl SeriesTable for BlockSource {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels_of(&mut self, series: usize, out: &mut Vec<LabelRef>) -> Result<(), StorageError> {
        if out.is_empty() {
            return self.read_labels(self.series[series], out).map(|_| ());
        }
        let mut labels = Vec::new();
        self.read_labels(self.series[series], &mut labels)?;
        out.append(&mut labels);
        Ok(())
    }

    fn chunks_of(&mut self, series: usize, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let reference = self.series[series];
        let mut labels = Vec::new();
        let chunks_at = self.read_labels(reference, &mut labels)?;
        let entries = std::mem::replace(&mut self.entries, vec![Entry { reference, chunks_at }]);
        let wanted = std::mem::take(&mut self.wanted);
        let is_tangled = self.is_tangled;
        let read = self.find_chunks().and_then(|()| self.chunks(out));
        (self.entries, self.wanted, self.is_tangled) = (entries, wanted, is_tangled);
        read
    }
}
