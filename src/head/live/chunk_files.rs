//! The files of full chunks, `chunks_head/`: written in order through a buffer, read back with positioned reads.
//! Nothing is synced per chunk: the log has all that is in them until the head is truncated.

use std::path::Path;
use std::sync::Arc;

use tsdbctl_chunk::Encoding;
use tsdbctl_platform::disk::Disk;
use tsdbctl_storage::StorageError;

/// Where a chunk lies: file number (24 bits) and offset in it (28 bits); upstream's chunk disk mapper reference is
/// the number in the upper and the offset in the lower 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkPlace {
    /// Number of the file.
    pub file: u32,
    /// Offset of the chunk's header.
    pub offset: u32,
}

impl ChunkPlace {
    /// As markers have it.
    pub fn reference(self) -> u64 {
        u64::from(self.file) << 32 | u64::from(self.offset)
    }
}

/// A chunk read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// The series' reference.
    pub series_ref: u64,
    /// First time, Unix ms.
    pub mint: i64,
    /// Last time, Unix ms.
    pub maxt: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Whether its samples came out of order.
    pub out_of_order: bool,
    /// The samples.
    pub data: Vec<u8>,
}

/// The files. Shared by all shards behind one lock for writing; reads do not wait for writes.
#[derive(Debug)]
pub struct ChunkFiles {}

impl ChunkFiles {
    /// Opens `dir` (made if missing) for appending behind file `last` (0: none); files that are there can be read.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, last: u32) -> Result<Self, StorageError> {
        let _ = (disk, dir, last);
        todo!()
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// If the system refuses: the caller keeps the chunk in memory and may try again.
    pub fn write(
        &self,
        series_ref: u64,
        times: (i64, i64),
        encoding: Encoding,
        out_of_order: bool,
        data: &[u8],
    ) -> Result<ChunkPlace, StorageError> {
        let _ = (series_ref, times, encoding, out_of_order, data);
        todo!()
    }

    /// Reads a chunk, wherever it is by now, and checks it.
    ///
    /// # Errors
    /// If it is damaged or gone.
    pub fn read(&self, place: ChunkPlace) -> Result<StoredChunk, StorageError> {
        let _ = place;
        todo!()
    }

    /// Hands what is buffered to the system.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn flush(&self) -> Result<(), StorageError> {
        todo!()
    }

    /// Flushes and makes the current file durable.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sync(&self) -> Result<(), StorageError> {
        todo!()
    }

    /// Number of the file that is written to, 0 if none was begun.
    pub fn current(&self) -> u32 {
        todo!()
    }

    /// Removes the files before `file`, oldest first, each removal durable before the next.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn truncate(&self, file: u32) -> Result<(), StorageError> {
        let _ = file;
        todo!()
    }
}
