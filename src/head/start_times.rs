//! Whether a head's logs hold start timestamps: by the types of their records, which is cheap to see.

use std::path::Path;

use tsdbctl_storage::{Control, StorageError};
use tsdbctl_wal::record::RecordType;
use tsdbctl_wal::{Log, SegmentReader};

use crate::loss::storage_error;

/// Which samples of a directory's logs have places for start timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// Floats.
    pub floats: bool,
    /// Native histograms.
    pub histograms: bool,
}

/// Looks through the logs of a data directory. Damage is passed over: who loads the head will meet it.
///
/// # Errors
/// If a log cannot be listed or opened, or the work is to stop.
pub fn start_times(dir: &Path, control: &Control) -> Result<StartTimes, StorageError> {
    let mut found = StartTimes::default();
    for log in ["wal", "wbl"] {
        let Some(log) = Log::list(&dir.join(log)).map_err(storage_error)? else { continue };
        let checkpoint = log.checkpoint.into_iter().flat_map(|(_, segments)| segments);
        for segment in checkpoint.chain(log.segments) {
            control.check("looking through the log")?;
            if segment.size > 0 {
                let map = segment.open()?;
                look(map.bytes(), &mut found);
            }
            if found.floats && found.histograms {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn look(bytes: &[u8], found: &mut StartTimes) {
    let kind = |byte: u8| match RecordType::of(&[byte]) {
        Some(RecordType::SamplesV2) => StartTimes { floats: true, histograms: false },
        Some(RecordType::HistogramSamplesV2 | RecordType::FloatHistogramSamplesV2) => {
            StartTimes { floats: false, histograms: true }
        }
        _ => StartTimes::default(),
    };
    let wants = |byte: u8| kind(byte) != StartTimes::default();
    let mut reader = SegmentReader::new(bytes, 0);
    let mut record = Vec::new();
    loop {
        record.clear();
        match reader.next_where(wants, &mut record) {
            Ok(false) => return,
            Ok(true) => {
                let StartTimes { floats, histograms } =
                    record.first().map_or_else(Default::default, |b| kind(*b));
                found.floats |= floats;
                found.histograms |= histograms;
            }
            Err(_) if reader.resync() => {}
            Err(_) => return,
        }
        if found.floats && found.histograms {
            return;
        }
    }
}
