//! The time of the newest sample, without replay.

use std::path::Path;

use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_wal::record::{SampleEntry, Visitor, decode};
use tsdbctl_wal::{Log, SegmentReader};

use crate::loss::{Losses, storage_error};
use crate::mapped::MappedChunks;

struct Newest(Option<i64>);

impl Newest {
    fn see(&mut self, t: i64) {
        self.0 = Some(self.0.map_or(t, |n| n.max(t)));
    }
}

impl Visitor for Newest {
    fn sample(&mut self, entry: SampleEntry<f64>) {
        self.see(entry.timestamp_ms);
    }
    fn wants_histogram(&mut self, _: u64, timestamp_ms: i64) -> bool {
        self.see(timestamp_ms);
        false
    }
    fn histogram(&mut self, _: SampleEntry<Histogram>) {}
    fn float_histogram(&mut self, _: SampleEntry<FloatHistogram>) {}
}

/// The time of the newest sample in the head, for the default of `--time`: the latest in the newest segment
/// that has samples, or in a mapped chunk. Damage is left for the query to report.
///
/// # Errors
/// If a file cannot be read.
pub fn newest_sample_time(dir: &Path, control: &Control) -> Result<Option<i64>, StorageError> {
    let mut newest = Newest(None);
    let Some(log) = Log::list(&dir.join("wal")).map_err(storage_error)? else { return Ok(None) };
    let checkpoint = log.checkpoint.into_iter().flat_map(|(_, segments)| segments);
    let sources: Vec<_> = checkpoint.chain(log.segments).collect();
    for segment in sources.iter().rev() {
        control.check("newest sample")?;
        let map = match segment.open() {
            Ok(map) => map,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e.into()),
        };
        let mut reader = SegmentReader::new(map.bytes(), 0);
        let mut record = Vec::new();
        loop {
            record.clear();
            match reader.next_into(&mut record) {
                // A damaged record is reported by replay.
                Ok(true) => drop(decode(&record, &mut newest)),
                Ok(false) => break,
                Err(_) if reader.resync() => {}
                Err(_) => break,
            }
        }
        if newest.0.is_some() {
            break;
        }
    }
    let mut losses = Losses { tolerant: true, ..Losses::default() };
    MappedChunks::open(&dir.join("chunks_head"), &mut losses, |_, _, chunk| newest.see(chunk.maxt))?;
    Ok(newest.0)
}
