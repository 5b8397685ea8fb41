//! Chunk snapshots: `chunk_snapshot.000010.0000032768`, what a server held in memory when it stopped, in the
//! framing of the log. The log up to segment 10, byte 32768 need not be replayed if the snapshot is sound; who
//! ignores it loses nothing.
//!
//! ```text
//! series 1:     ref (8) · labels · 0 (8) · number of chunks, 0 or 1 (uvarint) [· mint (8) · maxt (8) ·
//!               encoding (1) · length (uvarint) · data · last value]
//! tombstones 2: length (uvarint) · format 1 (1) · (ref uvarint · mint varint · maxt varint)…
//! exemplars 3:  as a record of exemplars behind its type
//! ```
//! Series come first, then one record of tombstones, then exemplars.

use std::path::{Path, PathBuf};

use tsdbctl_chunk::{Chunk, Encoding, sample_count};
use tsdbctl_platform::file;
use tsdbctl_storage::StorageError;
use tsdbctl_wal::cursor::{Cursor, ShortRecord};
use tsdbctl_wal::page::PAGE_BYTES;
use tsdbctl_wal::record::{EncodedLabels, SeriesEntry, TombstoneEntry, Visitor, decode};
use tsdbctl_wal::{Segment, segment};

/// The newest snapshot of a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The segment of the log it was taken at.
    pub segment: u64,
    /// The offset in that segment.
    pub offset: u64,
    /// Its own segments.
    pub parts: Vec<Segment>,
}

impl Snapshot {
    /// The newest snapshot, if the log reaches up to where it was taken.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn newest(dir: &Path, log: &[Segment]) -> Result<Option<Self>, StorageError> {
        let names = file::read_dir(dir)?.into_iter().filter(|e| e.is_dir).filter_map(|e| {
            let (segment, offset) = e.name.strip_prefix("chunk_snapshot.")?.split_once('.')?;
            Some((segment.parse::<u64>().ok()?, offset.parse::<u64>().ok()?, e.path))
        });
        let Some((segment, offset, path)) = names.max() else { return Ok(None) };
        // A log that was cut back has other records behind the offset than those the snapshot means.
        let covered = log.iter().any(|s| s.index == segment && s.size >= offset);
        if !covered || offset % PAGE_BYTES as u64 != 0 {
            return Ok(None);
        }
        let parts: Vec<Segment> = segment::list_segments(&path)?;
        let whole = parts.iter().enumerate().all(|(i, p)| p.index == i as u64);
        Ok((whole && !parts.is_empty()).then_some(Self { segment, offset, parts }))
    }

    /// Paths of its segments.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.parts.iter().map(|p| p.path.clone())
    }
}

/// One entry of a snapshot.
pub enum Entry<'a> {
    /// A series and its open chunk, if it had one that can be read.
    Series(SeriesEntry<'a>, Option<Chunk>),
    /// All tombstones: every series is before them.
    Tombstones(Vec<TombstoneEntry>),
    /// Exemplars, given to the visitor.
    Exemplars,
}

/// Reads one record of a snapshot.
///
/// # Errors
/// If it is none.
pub fn read_record<'a>(record: &'a [u8], exemplars: &mut impl Visitor) -> Result<Entry<'a>, String> {
    let mut c = Cursor::new(record);
    let short = |e: ShortRecord| e.to_string();
    match c.byte().map_err(short)? {
        1 => series(&mut c).map_err(short),
        2 => tombstones(c.string().map_err(short)?).map_err(short),
        3 => decode::exemplars(&mut c, exemplars).map(|()| Entry::Exemplars).map_err(short),
        other => Err(format!("unknown snapshot record type {other}")),
    }
}

fn series<'a>(c: &mut Cursor<'a>) -> Result<Entry<'a>, ShortRecord> {
    let entry = SeriesEntry { series: c.be64()?, labels: EncodedLabels::read(c)? };
    c.be64()?;
    if c.uvarint()? == 0 {
        return Ok(Entry::Series(entry, None));
    }
    let (mint, maxt) = (c.be64_signed()?, c.be64_signed()?);
    let encoding = Encoding::from_byte(c.byte()?).ok_or(ShortRecord)?;
    let data = c.string()?.to_vec();
    let samples = sample_count(encoding, &data).map_err(|_| ShortRecord)?;
    Ok(Entry::Series(entry, Some(Chunk { encoding, data, mint, maxt, samples })))
}

fn tombstones<'a>(bytes: &[u8]) -> Result<Entry<'a>, ShortRecord> {
    let mut c = Cursor::new(bytes);
    if c.byte()? != 1 {
        return Err(ShortRecord);
    }
    let mut list = Vec::new();
    while !c.is_empty() {
        list.push(TombstoneEntry { series: c.uvarint()?, mint: c.varint()?, maxt: c.varint()? });
    }
    Ok(Entry::Tombstones(list))
}
