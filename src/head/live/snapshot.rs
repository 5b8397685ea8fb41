//! Writing chunk snapshots (their format: `crate::snapshot`): what is in memory when the head is closed, so that the
//! log need not be replayed.
//!
//! Order: full chunks durable → `chunk_snapshot.N.M.tmp` with its segments written and synced → its directory synced →
//! renamed → the data directory synced → older snapshots removed. The record of tombstones comes behind all series: a
//! snapshot without it is not believed.

use std::path::Path;
use std::sync::atomic::Ordering;

use tsdbctl_chunk::{Chunk, Encoding, FloatHistogramReader, HistogramReader};
use tsdbctl_platform::disk::{Disk, remove_all};
use tsdbctl_storage::StorageError;
use tsdbctl_wal::CheckpointWriter;
use tsdbctl_wal::cursor::{put_be64, put_float, put_string, put_uvarint, put_varint};
use tsdbctl_wal::page::PAGE_BYTES;
use tsdbctl_wal::record::histogram::{write_float_histogram, write_histogram};

use crate::live::checkpoint::put_labels;
use crate::live::head::{Head, lock, read};
use crate::live::index::SeriesId;
use crate::live::record::Record;
use crate::live::shard::Piece;
use crate::loss::storage_error;

/// First bytes of records.
const SERIES: u8 = 1;
const TOMBSTONES: u8 = 2;
const EXEMPLARS: u8 = 3;
/// Format of the tombstones.
const TOMBSTONE_FORMAT: u8 = 1;
/// Exemplars in one record (upstream's number).
const EXEMPLARS_PER_RECORD: usize = 10_000;

/// Writes a snapshot that stands for the log up to byte `offset` of `segment`, which must be the log's end: nothing may
/// be appended meanwhile. None is made while samples in the head are those of a second reference of their series.
///
/// # Errors
/// If a file cannot be written, or the head has something that a snapshot cannot hold: no snapshot is made then, and
/// older ones stay.
pub fn write(head: &Head, segment: u64, offset: u64) -> Result<(), StorageError> {
    let name = format!("chunk_snapshot.{segment:06}.{offset:010}");
    let dir = head.dir.join(&name);
    let refused = |reason: &str| StorageError::Unsupported { file: dir.clone(), reason: reason.to_string() };
    if !offset.is_multiple_of(PAGE_BYTES as u64) {
        return Err(refused("a snapshot must begin with a page of the log"));
    }
    let _exclusive = head.collection.exclusive();
    // It has one reference for a series: chunks of others, and what later logs have of them, would be nobody's.
    let first_t = head.min_valid_time.load(Ordering::Acquire).max(i64::MIN + 1);
    if !head.collection.needed(u64::MAX, first_t).is_empty() {
        return Ok(());
    }
    // Without the log before the snapshot these are all that there is of the full chunks.
    head.files.sync()?;
    remove_if_there(&*head.disk, &head.dir.join(format!("{name}.tmp")))?;
    let mut out =
        CheckpointWriter::begin(head.disk.clone(), &dir, head.options.log).map_err(storage_error)?;
    let unwritten = write_records(head, &mut out)?;
    if unwritten > 0 {
        return Err(refused(&format!("the full chunks of {unwritten} series could not be written to files")));
    }
    // Half of one of the same place would hide the log.
    if tsdbctl_platform::file::is_dir(&dir) {
        let going = head.dir.join(format!("{name}.tmp-for-deletion"));
        remove_if_there(&*head.disk, &going)?;
        head.disk.rename(&dir, &going)?;
        head.disk.sync_dir(&head.dir)?;
        remove_if_there(&*head.disk, &going)?;
    }
    out.finish().map_err(storage_error)?;
    remove_older(&*head.disk, &head.dir, (segment, offset))
}

/// Removes a directory that may be there.
fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match remove_all(disk, path) {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Removes the snapshots that were taken before a place in the log.
///
/// # Errors
/// If the system refuses.
pub fn remove_older(disk: &dyn Disk, dir: &Path, before: (u64, u64)) -> Result<(), StorageError> {
    for entry in disk.read_dir(dir)?.into_iter().filter(|e| e.is_dir) {
        let place = entry.name.strip_prefix("chunk_snapshot.").and_then(|n| n.split_once('.'));
        let place = place.and_then(|(s, o)| Some((s.parse::<u64>().ok()?, o.parse::<u64>().ok()?)));
        if place.is_some_and(|p| p < before) {
            // Half of it must not look like one, and what its going makes way for comes behind it.
            let going = dir.join(format!("{}.tmp-for-deletion", entry.name));
            remove_if_there(disk, &going)?;
            disk.rename(&entry.path, &going)?;
            disk.sync_dir(dir)?;
            remove_all(disk, &going)?;
        }
    }
    Ok(())
}

/// Writes all records; how many series have chunks that are neither open nor in a file.
fn write_records(head: &Head, out: &mut CheckpointWriter) -> Result<u64, StorageError> {
    let mut unwritten = 0;
    let end = read(&head.index).next_id();
    let (mut records, mut lengths, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    for first in (0..end).step_by(256) {
        records.clear();
        lengths.clear();
        {
            let index = read(&head.index);
            let shard = lock(head.shard_of(SeriesId(first)));
            for id in (first..end.min(first.saturating_add(256))).map(SeriesId) {
                let Some(record) = shard.record(id) else { continue };
                pieces.clear();
                shard.pieces(id, i64::MIN, i64::MAX, u64::MAX, &mut pieces);
                let mut in_memory = pieces.drain(..).filter_map(|piece| match piece {
                    Piece::Memory { chunk, out_of_order: false, open, .. } => Some((chunk, open)),
                    _ => None,
                });
                let open = in_memory.next();
                if open.as_ref().is_some_and(|(_, open)| !open) || in_memory.next().is_some() {
                    unwritten += 1;
                    continue;
                }
                records.push(SERIES);
                put_be64(&mut records, record.series_ref);
                put_labels(&mut records, &index, id);
                put_be64(&mut records, 0);
                put_chunk(&mut records, record, open.as_ref().map(|(chunk, _)| chunk), head)?;
                lengths.push(records.len());
            }
        }
        let mut start = 0;
        for end in &lengths {
            out.append(&records[start..*end]).map_err(storage_error)?;
            start = *end;
        }
    }
    out.append(&tombstones(head)).map_err(storage_error)?;
    write_exemplars(head, out)?;
    Ok(unwritten)
}

fn put_chunk(
    out: &mut Vec<u8>,
    record: &Record,
    chunk: Option<&Chunk>,
    head: &Head,
) -> Result<(), StorageError> {
    let Some(chunk) = chunk.filter(|c| c.samples > 0) else {
        put_uvarint(out, 0);
        return Ok(());
    };
    put_uvarint(out, 1);
    put_be64(out, chunk.mint as u64);
    put_be64(out, chunk.maxt as u64);
    out.push(chunk.encoding as u8);
    put_string(out, &chunk.data);
    put_last_value(out, chunk).map_err(|e| StorageError::Unsupported {
        file: head.dir.clone(),
        reason: format!("the open chunk of series {} does not decode: {e}", record.series_ref),
    })
}

/// Appends the last value of a chunk, which the next sample is compared with.
fn put_last_value(out: &mut Vec<u8>, chunk: &Chunk) -> Result<(), tsdbctl_chunk::ChunkError> {
    match chunk.encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut columns = tsdbctl_chunk::SampleColumns::default();
            tsdbctl_chunk::decode(chunk.encoding, &chunk.data, chunk.maxt, chunk.maxt, &mut columns)?;
            // Once there were four samples here; the last one's value is what is left of them.
            (0..7).for_each(|_| put_be64(out, 0));
            put_float(out, columns.floats.v.last().copied().unwrap_or_default());
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut reader = HistogramReader::new(chunk.encoding, &chunk.data)?;
            while reader.advance()? {}
            write_histogram(out, &reader.histogram());
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut reader = FloatHistogramReader::new(chunk.encoding, &chunk.data)?;
            while reader.advance()? {}
            write_float_histogram(out, &reader.float_histogram());
        }
    }
    Ok(())
}

fn tombstones(head: &Head) -> Vec<u8> {
    let mut all: Vec<(SeriesId, Vec<(i64, i64)>)> = {
        let ranges = read(&head.tombstones);
        ranges.iter().map(|(id, r)| (*id, r.clone())).collect()
    };
    all.sort_unstable_by_key(|(id, _)| *id);
    let mut bytes = vec![TOMBSTONE_FORMAT];
    for (id, ranges) in all {
        let shard = lock(head.shard_of(id));
        let Some(series_ref) = shard.record(id).map(|r| r.series_ref) else { continue };
        for (mint, maxt) in ranges {
            put_uvarint(&mut bytes, series_ref);
            put_varint(&mut bytes, mint);
            put_varint(&mut bytes, maxt);
        }
    }
    let mut record = vec![TOMBSTONES];
    put_string(&mut record, &bytes);
    record
}

fn write_exemplars(head: &Head, out: &mut CheckpointWriter) -> Result<(), StorageError> {
    for next in (0..).step_by(EXEMPLARS_PER_RECORD) {
        // Copied: no other lock is taken while theirs is held.
        let some: Vec<(SeriesId, i64, f64, Box<[u8]>)> = {
            let all = lock(&head.exemplars);
            let some = all.by_arrival().skip(next).take(EXEMPLARS_PER_RECORD);
            some.map(|(slot, e)| (SeriesId(slot), e.t, e.value, e.labels.clone())).collect()
        };
        if some.is_empty() {
            break;
        }
        let mut record = vec![EXEMPLARS];
        let mut base = None;
        for (id, t, value, labels) in some {
            let shard = lock(head.shard_of(id));
            let Some(series_ref) = shard.record(id).map(|r| r.series_ref) else { continue };
            drop(shard);
            let (base_ref, base_t) = *base.get_or_insert_with(|| {
                put_be64(&mut record, series_ref);
                put_be64(&mut record, t as u64);
                (series_ref, t)
            });
            put_varint(&mut record, series_ref.wrapping_sub(base_ref) as i64);
            put_varint(&mut record, t.wrapping_sub(base_t));
            put_float(&mut record, value);
            record.extend_from_slice(&labels);
        }
        if base.is_some() {
            out.append(&record).map_err(storage_error)?;
        }
    }
    Ok(())
}
