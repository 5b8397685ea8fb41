//! A log that grows: batches of records in one write each, made durable in groups, segments cut, failed writes cut
//! back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tsdbctl_platform::disk::Disk;

use crate::compression::Compression;
use crate::damage::WalError;

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// In groups: at once when the disk is idle, else 10 ms after the previous start; [`LogWriter::wait`] waits for it.
    #[default]
    Group,
    /// Each batch, before its append returns.
    Always,
    /// At intervals; [`LogWriter::wait`] does not wait.
    Interval(Duration),
    /// When a segment is complete, and at close, as Prometheus; [`LogWriter::wait`] does not wait.
    Os,
}

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A segment ends at this length at the latest, bytes; a longer record has its own.
    pub segment_bytes: u64,
    /// How records are compressed.
    pub compression: Compression,
    /// When it is synced.
    pub sync: SyncPolicy,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 128 << 20, compression: Compression::Snappy, sync: SyncPolicy::Group }
    }
}

/// A place in a log: everything appended before it. Grows with every append, whatever segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// A record, compressed and ready to be framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedRecord {
    /// How.
    pub how: Compression,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A log open for appending. Shared by threads.
#[derive(Debug)]
pub struct LogWriter {}

impl LogWriter {
    /// Opens `dir` (made if it does not exist) for appending. What is there must have been mended
    /// ([`crate::mend`]); a new segment behind the last one is begun, its name durable before the first append.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Arc<Self>, WalError> {
        let _ = (disk, dir, options);
        todo!()
    }

    /// The right to append. Batches lie in the log in the order in which they had it.
    pub fn lock(&self) -> LogGuard<'_> {
        todo!()
    }

    /// Waits until everything before `position` is durable, under [`SyncPolicy::Group`]; under the other policies it
    /// only says whether the log has failed.
    ///
    /// # Errors
    /// If a sync failed that should have made it durable: it may be lost.
    pub fn wait(&self, position: Position) -> Result<(), WalError> {
        let _ = position;
        todo!()
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        todo!()
    }

    /// Number of the segment that is appended to.
    pub fn segment(&self) -> u64 {
        todo!()
    }

    /// Ends the segment (padded, durable) and begins the next, whose number is returned.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn next_segment(&self) -> Result<u64, WalError> {
        todo!()
    }

    /// Removes all segments before `index`, oldest first, each removal durable before the next.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn truncate(&self, index: u64) -> Result<(), WalError> {
        let _ = index;
        todo!()
    }

    /// Pads and syncs, and ends the syncing thread. Offset and number of the segment at its end.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn close(&self) -> Result<(u64, u64), WalError> {
        todo!()
    }
}

/// The right to append to a log.
#[derive(Debug)]
pub struct LogGuard<'a> {
    /// The log.
    pub log: &'a LogWriter,
}

impl LogGuard<'_> {
    /// Appends a batch in one write. All of it is in the log or nothing: after a failed or short write the log is cut
    /// back to where it was before anything else is appended.
    ///
    /// # Errors
    /// If it could not be written. The next batch may succeed.
    pub fn append(&mut self, batch: &[PackedRecord]) -> Result<Position, WalError> {
        let _ = batch;
        todo!()
    }
}
