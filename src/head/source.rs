//! The reader's thread: segments to batches of unpacked records.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use tsdbctl_platform::map::Map;
use tsdbctl_storage::StorageError;
use tsdbctl_wal::{BadRecord, SegmentReader};

use crate::loss::cut_short;

/// Bytes of records in one batch.
const BATCH_BYTES: usize = 512 * 1024;
/// Batches that may wait for the decoder.
pub const WAITING: usize = 4;
/// About the bytes of all batches: those that wait, the one being filled, the one being decoded and those that come
/// back. Few records are so long that a batch is much longer.
pub const BATCHES_BYTES: usize = (WAITING + 3) * BATCH_BYTES;

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
    pub failed: Option<StorageError>,
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
                let _ = out.send(Batch { source: i, failed: Some(e.into()), ..Batch::default() });
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
            // Zeros of a missing page look like the end, or like damage.
            if batch.bad.is_some() && map.has_faulted() {
                break;
            }
            if batch.bytes.len() >= BATCH_BYTES || batch.bad.is_some() {
                if stop.load(Ordering::Relaxed) || out.send(batch).is_err() {
                    return;
                }
                batch = next_batch(i);
            }
        }
        if map.has_faulted() {
            batch.failed = Some(cut_short(&source.path));
            let _ = out.send(batch);
            return;
        }
        if (!batch.records.is_empty() || batch.bad.is_some()) && out.send(batch).is_err() {
            return;
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tsdbctl_wal::{Compression, PageWriter};

    use super::*;

    #[test]
    fn a_log_cut_short_while_it_is_read_is_an_error_and_no_end() {
        let mut writer = PageWriter::new(Compression::None, 0);
        (0..4000u32).for_each(|i| writer.append(&[i as u8; 2000]));
        let bytes = writer.take();
        for cut in [None, Some(4 << 20)] {
            let path = std::env::temp_dir().join(format!("tsdbctl-source-{}", std::process::id()));
            std::fs::write(&path, &bytes).unwrap();
            let sources = [Source { path: path.clone(), role: Role::Log, start: 0, is_last: true }];
            let ((out, batches), (_back, empties)) = (sync_channel(0), sync_channel(1));
            let stop = AtomicBool::new(false);
            let (records, failed) = std::thread::scope(|scope| {
                let (sources, stop) = (&sources, &stop);
                scope.spawn(move || read(sources, &out, &empties, stop));
                let mut found = batches.recv().unwrap().records.len();
                if let Some(len) = cut {
                    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
                }
                let mut failed = None;
                for batch in batches {
                    found += batch.records.len();
                    failed = failed.or(batch.failed);
                }
                (found, failed)
            });
            std::fs::remove_file(&path).unwrap();
            match cut {
                None => assert!(records == 4000 && failed.is_none()),
                Some(_) => assert!(failed.is_some_and(|e| e.to_string().contains("cut short"))),
            }
        }
    }
}
