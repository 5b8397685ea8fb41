//! The reader's thread: segments to batches of unpacked records.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::map::Map;
use tsdbctl_storage::StorageError;
use tsdbctl_wal::page::PAGE_BYTES;
use tsdbctl_wal::{BadRecord, SegmentReader};

use crate::loss::cut_short;
use crate::window::{WINDOW_BYTES, Window};

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
    /// The end that a crash left of the log.
    pub torn: Option<BadRecord>,
    /// The file could not be read.
    pub failed: Option<StorageError>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.bad.is_none() && self.torn.is_none()
    }
}

/// Reads all sources and sends their records, until the other side hangs up or `stop` is set. Batches come
/// back through `empties`. With a `disk` the files are read a part at a time, and mapped only from the first place on
/// that cannot be read; without one they are mapped.
pub fn read(
    sources: &[Source],
    disk: Option<&dyn Disk>,
    out: &SyncSender<Batch>,
    empties: &Receiver<Batch>,
    stop: &AtomicBool,
) {
    let mut reading = Reading { out, empties, stop, batch: Batch::default(), is_last: false };
    let mut buffer = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        reading.batch = reading.next_batch(i);
        reading.is_last = source.is_last;
        let done = match disk {
            None => reading.mapped(source, source.start as u64),
            Some(disk) => reading.windows(source, disk, &mut buffer),
        };
        match done {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => {
                reading.batch.failed = Some(e);
                let _ = out.send(reading.batch);
                return;
            }
        }
        if !reading.batch.is_empty() && !reading.send() {
            return;
        }
    }
}

/// Why no more records were read.
enum Stopped {
    /// There are none.
    End,
    /// The next one cannot be read from these bytes alone.
    Unfinished,
    /// Nobody wants them.
    HungUp,
}

/// The reader at work on one source.
struct Reading<'a> {
    out: &'a SyncSender<Batch>,
    empties: &'a Receiver<Batch>,
    stop: &'a AtomicBool,
    batch: Batch,
    is_last: bool,
}

impl Reading<'_> {
    fn next_batch(&self, source: usize) -> Batch {
        let mut batch = self.empties.try_recv().unwrap_or_default();
        batch.bytes.clear();
        batch.records.clear();
        (batch.bad, batch.torn, batch.failed, batch.source) = (None, None, None, source);
        batch
    }

    /// Sends the batch; `false` if nobody wants more.
    fn send(&mut self) -> bool {
        let next = self.next_batch(self.batch.source);
        !self.stop.load(Ordering::Relaxed) && self.out.send(std::mem::replace(&mut self.batch, next)).is_ok()
    }

    /// Reads records from `at` on, which is moved behind the last one, out of bytes that begin at `base`. If they are
    /// not all the file has (`whole`), nothing is said about what cannot be read.
    fn records(
        &mut self,
        (bytes, base): (&[u8], u64),
        at: &mut u64,
        whole: bool,
        has_faulted: impl Fn() -> bool,
    ) -> Stopped {
        let mut reader = SegmentReader::new(bytes, (*at - base) as usize);
        loop {
            match reader.next_into(&mut self.batch.bytes) {
                Ok(true) => {
                    self.batch.records.push((self.batch.bytes.len() as u32, base + reader.record_offset()));
                    *at = base + reader.offset();
                }
                Ok(false) => {
                    *at = base + bytes.len() as u64;
                    return Stopped::End;
                }
                Err(_) if !whole => return Stopped::Unfinished,
                Err(mut bad) => {
                    bad.offset += base;
                    let torn = bad.torn && self.is_last;
                    let go_on = !torn && reader.resync();
                    *(if torn { &mut self.batch.torn } else { &mut self.batch.bad }) = Some(bad);
                    if !go_on {
                        return Stopped::End;
                    }
                }
            }
            // Zeros of a missing page look like the end, or like damage.
            if self.batch.bad.is_some() && has_faulted() {
                return Stopped::End;
            }
            if (self.batch.bytes.len() >= BATCH_BYTES || self.batch.bad.is_some()) && !self.send() {
                return Stopped::HungUp;
            }
        }
    }

    /// Reads a source through a map, from `at` on.
    fn mapped(&mut self, source: &Source, mut at: u64) -> Result<bool, StorageError> {
        let map = Map::open(&source.path)?;
        let stopped = self.records((map.bytes(), 0), &mut at, true, || map.has_faulted());
        if map.has_faulted() {
            return Err(cut_short(&source.path));
        }
        Ok(!matches!(stopped, Stopped::HungUp))
    }

    /// Reads a source a part at a time.
    fn windows(
        &mut self,
        source: &Source,
        disk: &dyn Disk,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, StorageError> {
        let mut window = Window::open(disk, &source.path, std::mem::take(buffer))?;
        let mut at = source.start as u64;
        loop {
            let base = at - at % PAGE_BYTES as u64;
            window.read(base, WINDOW_BYTES)?;
            let is_whole = window.is_at_end();
            if at > window.end() {
                break;
            }
            match self.records((window.bytes(), base), &mut at, is_whole, || false) {
                Stopped::HungUp => return Ok(false),
                Stopped::End if is_whole => break,
                Stopped::End => {}
                // Longer than a window, or damaged: what follows decides.
                Stopped::Unfinished if at - at % PAGE_BYTES as u64 == base => return self.mapped(source, at),
                Stopped::Unfinished => {}
            }
        }
        *buffer = window.into_buffer();
        Ok(true)
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
                scope.spawn(move || read(sources, None, &out, &empties, stop));
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
