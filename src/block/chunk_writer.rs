//! Chunk files in the making. Their layout is told in [`crate::segment`]; a new one begins where upstream begins one,
//! so that the same chunks give the same files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::file::FileError;
use tsdbctl_storage::{ChunkBatch, StorageError};

use crate::checksum::crc32c;
use crate::file_writer::{FileWriter, push_uvarint};
use crate::segment::HEADER;

/// What a chunk takes beside its data, by the estimate that decides where a file ends: longest length, encoding, checksum.
const MOST_BYTES_BESIDE_DATA: u64 = 5 + 1 + 4;

/// A file cannot be longer: references have 32 bits for offsets.
const MOST_SEGMENT_BYTES: u64 = u32::MAX as u64;

/// Writes the chunks of one series after the other.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    buffer_bytes: usize,
    file: Option<FileWriter>,
    /// Lengths of the files that are done, bytes.
    done: Vec<u64>,
    largest_chunk: u64,
}

impl ChunkWriter {
    /// Makes the directory `chunks` of a block. No file is made before the first chunk.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        block_dir: &Path,
        segment_bytes: u64,
        buffer_bytes: usize,
    ) -> Result<Self, FileError> {
        let dir = block_dir.join("chunks");
        disk.create_dir(&dir)?;
        let segment_bytes = segment_bytes.min(MOST_SEGMENT_BYTES);
        Ok(Self { disk, dir, segment_bytes, buffer_bytes, file: None, done: Vec::new(), largest_chunk: 0 })
    }

    /// Writes the chunks of a series and appends their references.
    ///
    /// Upstream plans each series' chunks in batches, a batch for each file, by sizes that are estimated from above and
    /// from different starts for the first batch and the others; what looks odd here is that.
    pub(crate) fn write(
        &mut self,
        chunks: &ChunkBatch,
        references: &mut Vec<u64>,
    ) -> Result<(), StorageError> {
        let header = HEADER.len() as u64;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.next_file(Vec::new())?,
        };
        // What lies before the batch; a file that has nothing but its header takes any chunk as its first.
        let mut before = file.position();
        let mut batch = 0u64;
        for (i, chunk) in chunks.iter().enumerate() {
            let estimate = MOST_BYTES_BESIDE_DATA + chunk.data.len() as u64;
            batch += estimate;
            if batch + before > self.segment_bytes && (before > header || i > 0) {
                file = self.cut(file)?;
                (before, batch) = (header, estimate);
            }
            let offset = file.position();
            if offset > MOST_SEGMENT_BYTES || chunk.data.len() as u64 > MOST_SEGMENT_BYTES {
                let reason = format!("a chunk of {} bytes does not fit at byte {offset}", chunk.data.len());
                return Err(StorageError::Unsupported { file: file.path().to_owned(), reason });
            }
            references.push((self.done.len() as u64) << 32 | offset);
            let out = file.end();
            push_uvarint(out, chunk.data.len() as u64);
            let start = out.len();
            out.push(chunk.encoding);
            out.extend_from_slice(chunk.data);
            let sum = crc32c(&out[start..]);
            out.extend_from_slice(&sum.to_be_bytes());
            file.spill()?;
            self.largest_chunk = self.largest_chunk.max(file.position() - offset);
        }
        self.file = Some(file);
        Ok(())
    }

    fn next_file(&self, buffer: Vec<u8>) -> Result<FileWriter, FileError> {
        let path = self.dir.join(file_name(self.done.len()));
        let mut file = FileWriter::create(&*self.disk, &path, self.buffer_bytes, buffer)?;
        file.end().extend_from_slice(&HEADER);
        Ok(file)
    }

    fn cut(&mut self, mut file: FileWriter) -> Result<FileWriter, FileError> {
        file.sync()?;
        self.done.push(file.position());
        self.next_file(file.into_buffer())
    }

    /// Makes all files durable, names included; no more may be written.
    pub(crate) fn finish(&mut self) -> Result<(), FileError> {
        if let Some(mut file) = self.file.take() {
            file.sync()?;
            self.done.push(file.position());
        }
        self.disk.sync_dir(&self.dir)
    }

    /// Lengths of the finished files, bytes.
    pub(crate) fn files(&self) -> &[u64] {
        &self.done
    }

    /// Length of the largest chunk with all that belongs to it, bytes.
    pub(crate) fn largest_chunk(&self) -> u64 {
        self.largest_chunk
    }
}

/// Name of the `n`th chunk file, from 0.
pub(crate) fn file_name(n: usize) -> String {
    format!("{:06}", n + 1)
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;
    use tsdbctl_storage::EncodedChunk;

    use super::*;
    use crate::fingerprint::{Fingerprint, Numbers};

    fn batch(lengths: &[usize]) -> ChunkBatch {
        let mut batch = ChunkBatch::default();
        for length in lengths {
            batch.push(EncodedChunk { encoding: 1, data: &vec![0; *length], mint: 0, maxt: 0 });
        }
        batch
    }

    /// References as file and offset, for lengths of the chunks of each series.
    fn references(segment_bytes: u64, series: &[&[usize]]) -> Vec<(u64, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ChunkWriter::create(Arc::new(RealDisk), dir.path(), segment_bytes, 100).unwrap();
        let mut references = Vec::new();
        for lengths in series {
            writer.write(&batch(lengths), &mut references).unwrap();
        }
        writer.finish().unwrap();
        references.into_iter().map(|r| (r >> 32, r & 0xffff_ffff)).collect()
    }

    #[test]
    fn files_end_before_their_length_unless_one_chunk_is_longer() {
        // A chunk of 10 bytes takes 16, but 20 are reckoned with.
        assert_eq!(references(48, &[&[10, 10]]), [(0, 8), (0, 24)]);
        assert_eq!(references(47, &[&[10, 10]]), [(0, 8), (1, 8)]);
        assert_eq!(references(44, &[&[10], &[10]]), [(0, 8), (0, 24)]);
        assert_eq!(references(43, &[&[10], &[10]]), [(0, 8), (1, 8)]);
        assert_eq!(references(20, &[&[100, 100], &[1], &[]]), [(0, 8), (1, 8), (2, 8)]);
    }

    /// The files and references upstream's writer makes of the same 22,597 chunks in 6,950 files.
    #[test]
    fn files_begin_where_upstream_begins_them() {
        let mut numbers = Numbers(1);
        let mut all = Fingerprint::default();
        for _ in 0..1000 {
            let dir = tsdbctl_testkit::scratch_in_memory();
            let segment_bytes = 60 + numbers.below(2000);
            let mut writer = ChunkWriter::create(Arc::new(RealDisk), dir.path(), segment_bytes, 500).unwrap();
            for _ in 0..1 + numbers.below(12) {
                let lengths: Vec<usize> =
                    (0..1 + numbers.below(6)).map(|_| numbers.below(300) as usize).collect();
                let mut references = Vec::new();
                writer.write(&batch(&lengths), &mut references).unwrap();
                references.iter().for_each(|r| all.add(&r.to_le_bytes()));
            }
            writer.finish().unwrap();
            for (n, length) in writer.files().iter().enumerate() {
                let bytes = std::fs::read(dir.path().join("chunks").join(file_name(n))).unwrap();
                assert_eq!(bytes.len() as u64, *length);
                all.add(&bytes);
            }
        }
        assert_eq!(all.0, 0x474b_d448_910d_1f1e);
    }
}
