//! Prometheus reads what was written here, also behind what was mended.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]
#![allow(clippy::print_stderr, reason = "tells what is left out")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_wal::page::PAGE_BYTES;
use tsdbctl_wal::record::{SampleEntry, encode};
use tsdbctl_wal::segment::{Log, list_segments};
use tsdbctl_wal::{
    CheckpointWriter, Compression, Damage, LogOptions, LogWriter, RecordPacker, SegmentReader, SyncPolicy,
    mend, mend_end, remove_older_checkpoints,
};

const SERIES: u64 = 50;

fn series() -> Vec<u8> {
    let labels: Vec<(u64, Labels)> = (1..=SERIES)
        .map(|i| {
            let number = i.to_string();
            (i, Labels::from_pairs([("__name__", "written"), ("number", number.as_str())]))
        })
        .collect();
    let mut record = Vec::new();
    encode::series(&mut record, labels.iter().map(|(i, labels)| (*i, labels)));
    record
}

fn samples(time: i64) -> Vec<u8> {
    let entry = |series| SampleEntry {
        series,
        start_timestamp_ms: 0,
        timestamp_ms: 1_700_000_000_000 + time * 1000,
        value: (series as f64 + 0.1) * (time as f64).sin(),
    };
    let mut record = Vec::new();
    encode::samples(&mut record, &(1..=SERIES).map(entry).collect::<Vec<_>>());
    record
}

fn options(compression: Compression) -> LogOptions {
    LogOptions { segment_bytes: 2 * PAGE_BYTES as u64, compression, sync: SyncPolicy::Os }
}

/// Appends the scrapes of these times; does not close the log.
fn append(
    dir: &Path,
    compression: Compression,
    times: std::ops::Range<i64>,
    with_series: bool,
) -> Arc<LogWriter> {
    let log = LogWriter::open(Arc::new(RealDisk), &dir.join("wal"), options(compression)).unwrap();
    let mut packer = RecordPacker::new(compression);
    if with_series {
        log.lock().append(&[packer.pack(&series())]).unwrap();
    }
    for time in times {
        log.lock().append(&[packer.pack(&samples(time))]).unwrap();
    }
    log
}

/// Samples that promtool finds, or what it says.
fn dump(dir: &Path) -> Result<usize, String> {
    let out = Command::new("promtool").args(["tsdb", "dump"]).arg(dir).output().unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    Ok(out.stdout.iter().filter(|b| **b == b'\n').count())
}

fn has_promtool() -> bool {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        eprintln!("left out: there is no promtool here");
    }
    found
}

fn damages(dir: &Path) -> Vec<Damage> {
    let mut damages = Vec::new();
    for s in list_segments(dir).unwrap() {
        let bytes = std::fs::read(&s.path).unwrap();
        let mut reader = SegmentReader::new(&bytes, 0);
        loop {
            match reader.next_into(&mut Vec::new()) {
                Ok(true) => {}
                Ok(false) => break,
                Err(bad) => {
                    damages.push(Damage { file: s.path.clone(), offset: bad.offset, reason: bad.reason });
                    reader.resync();
                }
            }
        }
    }
    damages
}

#[test]
fn prometheus_reads_logs_however_they_ended() {
    if !has_promtool() {
        return;
    }
    for compression in [Compression::None, Compression::Snappy] {
        let dir = tempfile::tempdir().unwrap();
        let log = append(dir.path(), compression, 0..200, true);
        assert!(log.segment() >= 1);
        assert_eq!(dump(dir.path()), Ok(200 * SERIES as usize), "{compression:?}");
        drop(log);
        let log = append(dir.path(), compression, 200..300, false);
        log.close().unwrap();
        assert_eq!(dump(dir.path()), Ok(300 * SERIES as usize), "{compression:?}");
    }
}

#[test]
fn prometheus_reads_mended_logs() {
    if !has_promtool() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (wal, quarantine) = (dir.path().join("wal"), dir.path().join("quarantine"));
    append(dir.path(), Compression::Snappy, 0..300, true).close().unwrap();
    let segments = list_segments(&wal).unwrap();
    assert!(segments.len() >= 3);

    // Rot in the second segment.
    let rotten = &segments[1].path;
    let mut bytes = std::fs::read(rotten).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(rotten, &bytes).unwrap();
    assert!(dump(dir.path()).is_err());
    let done = mend(&RealDisk, &wal, &quarantine, &damages(&wal)).unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!(dump(dir.path()), Ok(299 * SERIES as usize));

    // A torn tail, and the log goes on.
    append(dir.path(), Compression::Snappy, 300..310, false);
    let last = list_segments(&wal).unwrap().pop().unwrap();
    std::fs::OpenOptions::new().write(true).open(&last.path).unwrap().set_len(last.size - 5).unwrap();
    assert!(dump(dir.path()).is_err());
    mend_end(&RealDisk, &wal, &quarantine).unwrap();
    assert_eq!(dump(dir.path()), Ok(308 * SERIES as usize));
    append(dir.path(), Compression::Snappy, 310..320, false).close().unwrap();
    assert_eq!(dump(dir.path()), Ok(318 * SERIES as usize));

    // A missing segment.
    std::fs::rename(&segments[1].path, dir.path().join("gone")).unwrap();
    assert!(dump(dir.path()).unwrap_err().contains("not sequential"));
    mend_end(&RealDisk, &wal, &quarantine).unwrap();
    let left = dump(dir.path()).unwrap();
    assert!(left > 100 * SERIES as usize && left < 318 * SERIES as usize);
}

#[test]
fn prometheus_reads_checkpoints() {
    if !has_promtool() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let log = append(dir.path(), Compression::Snappy, 0..300, true);
    let next = log.next_segment().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut writer =
        CheckpointWriter::new(disk.clone(), &wal, next - 1, options(Compression::Snappy)).unwrap();
    writer.append(&series()).unwrap();
    (100..300).for_each(|time| writer.append(&samples(time)).unwrap());
    writer.finish().unwrap();
    log.truncate(next).unwrap();
    remove_older_checkpoints(&*disk, &wal, next - 1).unwrap();
    let mut packer = RecordPacker::new(Compression::Snappy);
    (300..350).for_each(|time| assert!(log.lock().append(&[packer.pack(&samples(time))]).is_ok()));
    log.close().unwrap();
    assert!(Log::list(&wal).unwrap().unwrap().gaps.is_empty());
    assert_eq!(dump(dir.path()), Ok(250 * SERIES as usize));
}
