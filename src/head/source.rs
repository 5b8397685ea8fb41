//! The reader's thread: segments to batches of unpacked records.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use tsdbctl_platform::file::FileError;
use tsdbctl_platform::map::Map;
use tsdbctl_wal::{BadRecord, SegmentReader};

/// Bytes of records in one batch.
const BATCH_BYTES: usize = 512 * 1024;

/// What a file's records mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A log or its checkpoint.
    Log,
    /// The log of out-of-order samples.
    OutOfOrder,
    /// What a server held in memory when it stopped.
    Snapshot,
}

/// A segment to read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub role: Role,
    /// Where to begin, bytes.
    pub start: usize,
    /// Whether a crash may have cut its end.
    pub is_last: bool,
}

/// Records of one source, one behind the other.
#[derive(Default)]
pub struct Batch {
    /// Index of the source.
    pub source: usize,
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// End in `bytes` and offset in the file of each.
    pub records: Vec<(u32, u64)>,
    /// Damage behind these records.
    pub bad: Option<BadRecord>,
    /// The file could not be read.
    pub failed: Option<FileError>,
}

/// Reads all sources and sends their records, until the other side hangs up or `stop` is set. Batches come
/// back through `empties`.
pub fn read(sources: &[Source], out: &SyncSender<Batch>, empties: &Receiver<Batch>, stop: &AtomicBool) {
    let next_batch = |source: usize| {
        let mut batch = empties.try_recv().unwrap_or_default();
        batch.bytes.clear();
        batch.records.clear();
        (batch.bad, batch.failed, batch.source) = (None, None, source);
        batch
    };
    for (i, source) in sources.iter().enumerate() {
        let map = match Map::open(&source.path) {
            Ok(map) => map,
            Err(e) => {
                let _ = out.send(Batch { source: i, failed: Some(e), ..Batch::default() });
                return;
            }
        };
        let mut reader = SegmentReader::new(map.bytes(), source.start);
        let mut batch = next_batch(i);
        loop {
            match reader.next_into(&mut batch.bytes) {
                Ok(true) => batch.records.push((batch.bytes.len() as u32, reader.record_offset())),
                Ok(false) => break,
                Err(bad) => {
                    let torn = bad.torn && source.is_last;
                    let go_on = !torn && reader.resync();
                    batch.bad = (!torn).then_some(bad);
                    if !go_on {
                        break;
                    }
                }
            }
            if batch.bytes.len() >= BATCH_BYTES || batch.bad.is_some() {
                if stop.load(Ordering::Relaxed) || out.send(batch).is_err() {
                    return;
                }
                batch = next_batch(i);
            }
        }
        if (!batch.records.is_empty() || batch.bad.is_some()) && out.send(batch).is_err() {
            return;
        }
    }
}
