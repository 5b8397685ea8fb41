//! The time of the newest sample, without replay.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tsdbctl_platform::map::Map;
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_wal::record::{has_samples, timestamps};
use tsdbctl_wal::{Log, SegmentReader};

use crate::loss::{Losses, cut_short, storage_error};
use crate::mapped::MappedChunks;

/// How often a directory is listed anew because a running server removed files meanwhile.
const ATTEMPTS: usize = 3;

/// The time of the newest sample in the head, for the default of `--time`: over both logs, the checkpoint included,
/// and the mapped chunks. A snapshot holds nothing that these have not. Records without samples are not unpacked
/// and values are not read; segments are shared out among the processors. Samples that replay would leave out
/// because their series' record is lost count; damage is left for the query to report.
///
/// # Errors
/// If a file cannot be read.
pub fn newest_sample_time(dir: &Path, control: &Control) -> Result<Option<i64>, StorageError> {
    let mut attempt = 1;
    loop {
        match newest(dir, control) {
            Err(StorageError::File(e)) if e.is_not_found() && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

fn newest(dir: &Path, control: &Control) -> Result<Option<i64>, StorageError> {
    let mut paths: Vec<(u64, PathBuf)> = Vec::new();
    let Some(log) = Log::list(&dir.join("wal")).map_err(storage_error)? else { return Ok(None) };
    for log in [Some(log), Log::list(&dir.join("wbl")).map_err(storage_error)?].into_iter().flatten() {
        let checkpoint = log.checkpoint.into_iter().flat_map(|(_, segments)| segments);
        paths.extend(checkpoint.chain(log.segments).map(|s| (s.size, s.path)));
    }
    // The longest first, so that no processor is left with one at the end.
    paths.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    let (next, found) = (AtomicUsize::new(0), AtomicI64::new(i64::MIN));
    let failed: Mutex<Option<StorageError>> = Mutex::new(None);
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8).min(paths.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((_, path)) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match newest_in(path, control) {
                        Ok(t) => drop(found.fetch_max(t.unwrap_or(i64::MIN), Ordering::Relaxed)),
                        Err(e) => {
                            next.store(paths.len(), Ordering::Relaxed);
                            *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(e);
                        }
                    }
                }
            });
        }
    });
    if let Some(e) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(e);
    }
    let found = found.into_inner();
    let mut newest = (found > i64::MIN).then_some(found);
    let mut losses = Losses { tolerant: true, ..Losses::default() };
    MappedChunks::open(&dir.join("chunks_head"), &mut losses, |_, _, chunk| {
        newest = newest.max(Some(chunk.maxt));
    })?;
    Ok(newest)
}

/// The time of the newest sample in one segment.
fn newest_in(path: &Path, control: &Control) -> Result<Option<i64>, StorageError> {
    let map = Map::open(path)?;
    let mut reader = SegmentReader::new(map.bytes(), 0);
    let (mut record, mut newest) = (Vec::new(), i64::MIN);
    for n in 0u32.. {
        if n % 256 == 0 {
            control.check("newest sample")?;
        }
        record.clear();
        match reader.next_where(has_samples, &mut record) {
            // A damaged record is reported by replay.
            Ok(true) => drop(timestamps(&record, |t| newest = newest.max(t))),
            Ok(false) => break,
            Err(_) if reader.resync() => {}
            Err(_) => break,
        }
    }
    if map.has_faulted() {
        return Err(cut_short(path));
    }
    Ok((newest > i64::MIN).then_some(newest))
}
