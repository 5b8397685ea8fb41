//! Checkpoints: what the oldest segments of the log have that is still needed, written anew, so that they can go.
//!
//! A checkpoint holds, in this order: series records of retired references that later segments still use; those of all
//! live series, from memory, so that a damaged series record costs nothing; samples and exemplars from `mint` on, as
//! the previous checkpoint and the segments have them; the deleted ranges; the newest metadata. A retired reference
//! comes before the live one of the same labels: Prometheus keeps the mapped chunks of the one that it meets last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tsdbctl_model::{FloatHistogram, Histogram, Labels};
use tsdbctl_storage::{Loss, StorageError};
use tsdbctl_wal::Segment;
use tsdbctl_wal::checkpoint_writer::{CheckpointWriter, remove_older_checkpoints};
use tsdbctl_wal::cursor::{put_be64, put_string, put_uvarint};
use tsdbctl_wal::record::histogram::CUSTOM_BUCKETS_SCHEMA;
use tsdbctl_wal::record::{
    ExemplarEntry, MetadataEntry, RecordType, SampleEntry, SeriesEntry, TombstoneEntry, Visitor, decode,
    encode, has_samples, timestamps,
};
use tsdbctl_wal::segment::{checkpoints_among, segment_name, segments_among};

use crate::live::head::{Head, lock, read};
use crate::live::index::{Index, SeriesId};
use crate::live::log_reader::read_records;
use crate::live::record::flags;
use crate::loss::storage_error;

/// Bytes of series in one record, about.
const SERIES_BYTES: usize = 64 * 1024;
/// Entries in one record of deleted ranges or metadata.
const ENTRIES: usize = 4096;

/// A checkpoint that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpointed {
    /// It replaces the segments up to this.
    pub index: u64,
    /// Series records in it.
    pub series: u64,
    /// Samples in it, as far as it was known without decoding them.
    pub samples: u64,
    /// Samples that were left out: they are in blocks.
    pub dropped: u64,
    /// What of the old segments could not be read, and is lost with them.
    pub losses: Vec<Loss>,
}

/// A set of references: dense in practice.
#[derive(Debug, Default)]
struct RefSet {
    pages: HashMap<u64, Box<[u64; 64]>>,
}

impl RefSet {
    fn insert(&mut self, series_ref: u64) -> bool {
        let word = &mut self.pages.entry(series_ref >> 12).or_insert_with(|| Box::new([0; 64]))
            [(series_ref >> 6 & 63) as usize];
        let before = *word;
        *word |= 1 << (series_ref & 63);
        *word != before
    }

    fn contains(&self, series_ref: u64) -> bool {
        let page = self.pages.get(&(series_ref >> 12));
        page.is_some_and(|p| p[(series_ref >> 6 & 63) as usize] >> (series_ref & 63) & 1 == 1)
    }
}

impl Head {
    /// Begins a new segment and replaces the older two thirds of the others, as upstream, by a checkpoint of what they
    /// have from `mint` on. `None` if there are too few, or it was done up to `mint` already.
    ///
    /// # Errors
    /// If a file cannot be read or written. Until the checkpoint is complete nothing is removed; if removing fails,
    /// what is left is not read any more and goes with the next checkpoint.
    pub fn truncate_wal(&self, mint: i64) -> Result<Option<Checkpointed>, StorageError> {
        let mut truncated = self.collection.exclusive();
        if truncated.wal_mint.is_some_and(|done| mint <= done) {
            return Ok(None);
        }
        let dir = self.dir.join("wal");
        let listed = self.disk.read_dir(&dir)?;
        let segments = segments_among(listed.clone());
        // The newest is the one that is written to: what is behind it is empty and only made ahead.
        let newest = self.wal.segment();
        self.wal.next_segment().map_err(storage_error)?;
        let old = checkpoints_among(listed).pop();
        // Segments that a checkpoint replaced already may still be there.
        let behind = old.as_ref().map_or(0, |(number, _)| number + 1);
        let first = segments.first().map(|s| s.index.max(behind));
        let Some(first) = first.filter(|first| *first < newest) else { return Ok(None) };
        let index = first + (newest - 1 - first) * 2 / 3;
        if index <= first {
            truncated.wal_mint = Some(mint);
            return Ok(None);
        }
        let done = self.checkpoint(old, segments, index, mint)?;
        truncated.wal_mint = Some(mint);
        self.collection.forget_unneeded(index, mint);
        let removed = self.wal.truncate(index + 1).map_err(storage_error);
        remove_older_checkpoints(&*self.disk, &dir, index).map_err(storage_error)?;
        removed?;
        Ok(Some(done))
    }

    /// Removes the segments of the out-of-order log before `segment`: all their samples are in durable blocks.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn truncate_wbl(&self, segment: u64) -> Result<(), StorageError> {
        let wbl = lock(&self.wbl).clone();
        wbl.map_or(Ok(()), |wbl| wbl.truncate(segment)).map_err(storage_error)
    }

    /// Writes the checkpoint of the segments up to `index` and of the one before.
    fn checkpoint(
        &self,
        old: Option<(u64, PathBuf)>,
        segments: Vec<Segment>,
        index: u64,
        mint: i64,
    ) -> Result<Checkpointed, StorageError> {
        let dir = self.dir.join("wal");
        let mut done = Checkpointed { index, ..Checkpointed::default() };
        let mut sources = Vec::new();
        let mut next = segments.first().map_or(0, |s| s.index);
        if let Some((number, path)) = old {
            sources = segments_among(self.disk.read_dir(&path)?);
            note_missing(&path, 0, &sources, None, &mut done.losses);
            next = number + 1;
        }
        let behind: Vec<Segment> =
            segments.into_iter().filter(|s| (next..=index).contains(&s.index)).collect();
        note_missing(&dir, next, &behind, Some(index), &mut done.losses);
        sources.extend(behind);

        let mut out = CheckpointWriter::new(Arc::clone(&self.disk), &dir, index, self.options.log)
            .map_err(storage_error)?;
        let mut writing = Writing {
            out: &mut out,
            mint,
            done: &mut done,
            declared: RefSet::default(),
            metadata: HashMap::new(),
            taken_out: self.collection.taken_out(),
        };
        writing.retired_series(self, &sources, &self.collection.needed(index, mint))?;
        writing.live_series(self)?;
        writing.samples(self, &sources)?;
        writing.tombstones(self)?;
        writing.latest_metadata()?;
        out.finish().map_err(storage_error)?;
        Ok(done)
    }
}

/// Notes the segments from `first` on, up to `last` if it is known, that are not there.
fn note_missing(dir: &Path, first: u64, there: &[Segment], last: Option<u64>, losses: &mut Vec<Loss>) {
    let mut next = first;
    for index in there.iter().map(|s| s.index).chain(last.map(|l| l + 1)) {
        if index > next {
            let reason = match index - next {
                1 => "this segment is missing".to_string(),
                n => format!("this segment and the {} behind it are missing", n - 1),
            };
            losses.push(Loss { file: dir.join(segment_name(next)), offset: 0, reason });
        }
        next = index + 1;
    }
}

/// Metadata as a record has it.
struct Latest {
    kind: u8,
    unit: Box<str>,
    help: Box<str>,
}

/// A checkpoint that is being written.
struct Writing<'a> {
    out: &'a mut CheckpointWriter,
    mint: i64,
    done: &'a mut Checkpointed,
    /// References whose series records are in it.
    declared: RefSet,
    /// The newest metadata of these.
    metadata: HashMap<u64, Latest>,
    /// References of which nothing is needed, and the time of the last sample.
    taken_out: HashMap<u64, i64>,
}

impl Writing<'_> {
    fn append(&mut self, record: &[u8]) -> Result<(), StorageError> {
        self.out.append(record).map_err(storage_error)
    }

    /// Series records of the references in `needed`, as the old files have them. After a start from a snapshot these are
    /// those that the log behind it has: of one that only the log in front of it has, and that is no live series' (a
    /// snapshot that Prometheus made may be so), samples are kept without a series record. All before the snapshot's place
    /// is in the snapshot or in blocks, so that only who reads the log without the snapshot misses them.
    fn retired_series(
        &mut self,
        head: &Head,
        sources: &[Segment],
        needed: &HashSet<u64>,
    ) -> Result<(), StorageError> {
        if needed.is_empty() {
            return Ok(());
        }
        let mut found =
            RetiredSeries { needed, record: new_series_record(), count: 0, declared: RefSet::default() };
        // What cannot be read is noted when samples are looked for.
        let mut unread = Vec::new();
        for source in sources {
            read_records(&*head.disk, &source.path, &mut unread, |record, _, _| {
                if RecordType::of(record) == Some(RecordType::Series) {
                    let _ = decode(record, &mut found);
                }
                if found.record.len() >= SERIES_BYTES {
                    self.append(&found.record)?;
                    found.record = new_series_record();
                }
                Ok(())
            })?;
        }
        if found.record.len() > 1 {
            self.append(&found.record)?;
        }
        self.done.series += found.count;
        self.declared = found.declared;
        Ok(())
    }

    /// Series records of all live series that are in the log.
    fn live_series(&mut self, head: &Head) -> Result<(), StorageError> {
        let end = read(&head.index).next_id();
        let mut record = new_series_record();
        for first in (0..end).step_by(256) {
            {
                let index = read(&head.index);
                let shard = lock(head.shard_of(SeriesId(first)));
                for id in (first..end.min(first.saturating_add(256))).map(SeriesId) {
                    let Some(r) = shard.record(id).filter(|r| r.flags & flags::LOGGED != 0) else { continue };
                    if self.declared.insert(r.series_ref) {
                        self.done.series += 1;
                    }
                    put_be64(&mut record, r.series_ref);
                    put_labels(&mut record, &index, id);
                }
            }
            if record.len() >= SERIES_BYTES {
                self.append(&record)?;
                record = new_series_record();
            }
        }
        if record.len() > 1 { self.append(&record) } else { Ok(()) }
    }

    /// Samples and exemplars from `mint` on.
    fn samples(&mut self, head: &Head, sources: &[Segment]) -> Result<(), StorageError> {
        let mut losses = std::mem::take(&mut self.done.losses);
        let taken_out = std::mem::take(&mut self.taken_out);
        let mut kept = Kept { mint: self.mint, taken_out: Some(&taken_out), ..Kept::default() };
        for source in sources {
            read_records(&*head.disk, &source.path, &mut losses, |record, offset, losses| {
                let mut damaged = |reason: String| {
                    losses.push(Loss { file: source.path.clone(), offset, reason });
                };
                match RecordType::of(record) {
                    Some(RecordType::Exemplars | RecordType::Metadata) => {}
                    Some(kind) if has_samples(kind as u8) => {
                        let (mut early, mut late) = (0, 0);
                        let whole =
                            timestamps(record, |t| *if t < self.mint { &mut early } else { &mut late } += 1);
                        if whole.is_ok() {
                            self.done.dropped += early;
                            self.done.samples += late;
                            match (early, late) {
                                (_, 0) => return Ok(()),
                                (0, _) if taken_out.is_empty() => return self.append(record),
                                _ => {}
                            }
                        }
                    }
                    _ => return Ok(()),
                }
                if let Err(e) = decode(record, &mut kept) {
                    damaged(e.to_string());
                }
                for (series_ref, latest) in kept.metadata.drain(..) {
                    if self.declared.contains(series_ref) {
                        self.metadata.insert(series_ref, latest);
                    }
                }
                let v2 = matches!(
                    RecordType::of(record),
                    Some(
                        RecordType::SamplesV2
                            | RecordType::HistogramSamplesV2
                            | RecordType::FloatHistogramSamplesV2
                    )
                );
                kept.take_records(v2).iter().try_for_each(|record| self.append(record))
            })?;
        }
        self.done.losses = losses;
        drop(kept);
        self.taken_out = taken_out;
        Ok(())
    }

    /// Deleted ranges of live series. Those before `mint` that memory still has are of samples out of order.
    fn tombstones(&mut self, head: &Head) -> Result<(), StorageError> {
        let mut all: Vec<(SeriesId, Vec<(i64, i64)>)> = {
            let ranges = read(&head.tombstones);
            ranges.iter().map(|(id, r)| (*id, r.clone())).collect()
        };
        all.sort_unstable_by_key(|(id, _)| *id);
        let mut entries = Vec::new();
        for (id, ranges) in all {
            let shard = lock(head.shard_of(id));
            let Some(series) = shard.record(id).map(|r| r.series_ref) else { continue };
            drop(shard);
            entries.extend(ranges.into_iter().map(|(mint, maxt)| TombstoneEntry { series, mint, maxt }));
        }
        // As long as chunk files may have something of a reference, nobody must give it to another series.
        let taken_out = self.taken_out.iter().filter(|(_, last_t)| **last_t >= self.mint);
        let whole =
            |(series, _): (&u64, _)| TombstoneEntry { series: *series, mint: i64::MIN, maxt: i64::MAX };
        entries.extend(taken_out.map(whole));
        for some in entries.chunks(ENTRIES) {
            let mut record = Vec::new();
            encode::tombstones(&mut record, some);
            self.append(&record)?;
        }
        Ok(())
    }

    fn latest_metadata(&mut self) -> Result<(), StorageError> {
        let mut all: Vec<(u64, Latest)> = self.metadata.drain().collect();
        all.sort_unstable_by_key(|(series_ref, _)| *series_ref);
        for some in all.chunks(ENTRIES) {
            let mut record = Vec::new();
            let entries = some.iter().map(|(series_ref, m)| (*series_ref, m.kind, &*m.unit, &*m.help));
            encode::metadata(&mut record, entries);
            self.append(&record)?;
        }
        Ok(())
    }
}

fn new_series_record() -> Vec<u8> {
    vec![RecordType::Series as u8]
}

/// Appends the labels of a series as records have them.
pub(crate) fn put_labels(out: &mut Vec<u8>, index: &Index, id: SeriesId) {
    let start = out.len();
    let mut count = 0u64;
    for (name, value) in index.labels(id) {
        put_string(out, name.as_bytes());
        put_string(out, value.as_bytes());
        count += 1;
    }
    let mut head = Vec::with_capacity(2);
    put_uvarint(&mut head, count);
    out.splice(start..start, head);
}

/// Collects the series records of retired references.
struct RetiredSeries<'a> {
    needed: &'a HashSet<u64>,
    record: Vec<u8>,
    count: u64,
    declared: RefSet,
}

impl Visitor for RetiredSeries<'_> {
    fn series(&mut self, entry: SeriesEntry<'_>) {
        if self.needed.contains(&entry.series) && self.declared.insert(entry.series) {
            put_be64(&mut self.record, entry.series);
            self.record.extend_from_slice(entry.labels.bytes());
            self.count += 1;
        }
    }
}

/// What is kept of records that are not kept whole.
#[derive(Default)]
struct Kept<'a> {
    mint: i64,
    /// References of which nothing is kept.
    taken_out: Option<&'a HashMap<u64, i64>>,
    floats: Vec<SampleEntry<f64>>,
    histograms: Vec<SampleEntry<Histogram>>,
    float_histograms: Vec<SampleEntry<FloatHistogram>>,
    exemplars: Vec<SampleEntry<(f64, Labels)>>,
    metadata: Vec<(u64, Latest)>,
}

impl Kept<'_> {
    fn wants(&self, series: u64, timestamp_ms: i64) -> bool {
        timestamp_ms >= self.mint && self.taken_out.is_none_or(|refs| !refs.contains_key(&series))
    }

    /// Records of what was kept; the next ones begin empty.
    fn take_records(&mut self, v2: bool) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        let mut add = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut record = Vec::new();
            encode(&mut record);
            records.push(record);
        };
        if !self.floats.is_empty() {
            let encode = if v2 { encode::samples_v2 } else { encode::samples };
            add(&|out| encode(out, &self.floats));
        }
        // Records without start timestamps have custom buckets, or none of them has.
        for some in
            self.histograms.chunk_by(|a, b| v2 || is_custom(a.value.schema) == is_custom(b.value.schema))
        {
            let encode = if v2 { encode::histograms_v2 } else { encode::histograms };
            add(&|out| encode(out, some));
        }
        for some in self
            .float_histograms
            .chunk_by(|a, b| v2 || is_custom(a.value.schema) == is_custom(b.value.schema))
        {
            let encode = if v2 { encode::float_histograms_v2 } else { encode::float_histograms };
            add(&|out| encode(out, some));
        }
        if !self.exemplars.is_empty() {
            add(&|out| encode::exemplars(out, &self.exemplars));
        }
        self.floats.clear();
        self.histograms.clear();
        self.float_histograms.clear();
        self.exemplars.clear();
        records
    }
}

fn is_custom(schema: i32) -> bool {
    schema == CUSTOM_BUCKETS_SCHEMA
}

impl Visitor for Kept<'_> {
    fn sample(&mut self, entry: SampleEntry<f64>) {
        if self.wants(entry.series, entry.timestamp_ms) {
            self.floats.push(entry);
        }
    }

    fn wants_histogram(&mut self, series: u64, timestamp_ms: i64) -> bool {
        self.wants(series, timestamp_ms)
    }

    fn histogram(&mut self, entry: SampleEntry<Histogram>) {
        self.histograms.push(entry);
    }

    fn float_histogram(&mut self, entry: SampleEntry<FloatHistogram>) {
        self.float_histograms.push(entry);
    }

    fn exemplar(&mut self, entry: ExemplarEntry<'_>) {
        if entry.timestamp_ms < self.mint {
            return;
        }
        let pairs: Vec<_> = entry
            .labels
            .iter()
            .map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect();
        let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (&**n, &**v)));
        self.exemplars.push(SampleEntry {
            series: entry.series,
            start_timestamp_ms: 0,
            timestamp_ms: entry.timestamp_ms,
            value: (entry.value, labels),
        });
    }

    fn metadata(&mut self, entry: MetadataEntry<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
        let (unit, help) = (text(entry.unit), text(entry.help));
        self.metadata.push((entry.series, Latest { kind: entry.metric_type, unit, help }));
    }
}
