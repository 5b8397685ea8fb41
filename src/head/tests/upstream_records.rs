//! What 3.14 servers wrote, written again by us: records of their logs re-encoded, their samples appended once more and
//! the chunks compared, byte by byte.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod loaded;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use tsdbctl_head::live::{Appender, Head, LiveOptions, SeriesId};
use tsdbctl_model::{FloatHistogram, Histogram, Labels};
use tsdbctl_storage::Control;
use tsdbctl_testkit::{scratch, unpack_directory};
use tsdbctl_wal::SegmentReader;
use tsdbctl_wal::record::{
    ExemplarEntry, MarkerEntry, MetadataEntry, RecordType, SampleEntry, SeriesEntry, TombstoneEntry, Visitor,
    decode, encode,
};
use tsdbctl_wal::segment::{list_checkpoints, list_segments};

/// The entries of one record.
#[derive(Default)]
struct Record {
    series: Vec<(u64, Labels)>,
    floats: Vec<SampleEntry<f64>>,
    histograms: Vec<SampleEntry<Histogram>>,
    float_histograms: Vec<SampleEntry<FloatHistogram>>,
    tombstones: Vec<TombstoneEntry>,
    exemplars: Vec<SampleEntry<(f64, Labels)>>,
    markers: Vec<MarkerEntry>,
    metadata: Vec<(u64, u8, String, String)>,
    unknown: usize,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn labels<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Labels {
    let pairs: Vec<(String, String)> = pairs.map(|(n, v)| (text(n), text(v))).collect();
    Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

impl Visitor for Record {
    fn series(&mut self, e: SeriesEntry<'_>) {
        self.series.push((e.series, labels(e.labels.iter())));
    }
    fn sample(&mut self, e: SampleEntry<f64>) {
        self.floats.push(e);
    }
    fn histogram(&mut self, e: SampleEntry<Histogram>) {
        self.histograms.push(e);
    }
    fn float_histogram(&mut self, e: SampleEntry<FloatHistogram>) {
        self.float_histograms.push(e);
    }
    fn unknown_schema(&mut self, _: u64, _: i32) {
        self.unknown += 1;
    }
    fn tombstone(&mut self, e: TombstoneEntry) {
        self.tombstones.push(e);
    }
    fn exemplar(&mut self, e: ExemplarEntry<'_>) {
        let value = (e.value, labels(e.labels.iter()));
        let (series, timestamp_ms) = (e.series, e.timestamp_ms);
        self.exemplars.push(SampleEntry { series, start_timestamp_ms: 0, timestamp_ms, value });
    }
    fn marker(&mut self, e: MarkerEntry) {
        self.markers.push(e);
    }
    fn metadata(&mut self, e: MetadataEntry<'_>) {
        self.metadata.push((e.series, e.metric_type, text(e.unit), text(e.help)));
    }
}

impl Record {
    fn of(bytes: &[u8]) -> Self {
        let mut record = Self::default();
        decode(bytes, &mut record).unwrap();
        assert_eq!(record.unknown, 0);
        record
    }

    fn encode(&self, kind: RecordType) -> Vec<u8> {
        let mut out = Vec::new();
        match kind {
            RecordType::Series => encode::series(&mut out, self.series.iter().map(|(r, l)| (*r, l))),
            RecordType::Samples => encode::samples(&mut out, &self.floats),
            RecordType::Tombstones => encode::tombstones(&mut out, &self.tombstones),
            RecordType::Exemplars => encode::exemplars(&mut out, &self.exemplars),
            RecordType::MmapMarkers => encode::markers(&mut out, &self.markers),
            RecordType::Metadata => encode::metadata(
                &mut out,
                self.metadata.iter().map(|(r, kind, unit, help)| (*r, *kind, unit.as_str(), help.as_str())),
            ),
            RecordType::HistogramSamples | RecordType::CustomBucketsHistogramSamples => {
                encode::histograms(&mut out, &self.histograms);
            }
            RecordType::FloatHistogramSamples | RecordType::CustomBucketsFloatHistogramSamples => {
                encode::float_histograms(&mut out, &self.float_histograms);
            }
            RecordType::SamplesV2 => encode::samples_v2(&mut out, &self.floats),
            RecordType::HistogramSamplesV2 => encode::histograms_v2(&mut out, &self.histograms),
            RecordType::FloatHistogramSamplesV2 => {
                encode::float_histograms_v2(&mut out, &self.float_histograms);
            }
        }
        out
    }
}

/// The records of the segments of a directory, until the first that is cut off.
fn records_of_segments(dir: &Path, each: &mut dyn FnMut(&[u8])) {
    for segment in list_segments(dir).unwrap() {
        let map = segment.open().unwrap();
        let (mut reader, mut record) = (SegmentReader::new(map.bytes(), 0), Vec::new());
        while reader.next_into(&mut record).unwrap_or(false) {
            each(&record);
            record.clear();
        }
    }
}

/// The records of a log, its checkpoint first.
fn records_of(log: &Path, each: &mut dyn FnMut(&[u8])) {
    if let Some((_, checkpoint)) = list_checkpoints(log).unwrap().pop() {
        records_of_segments(&checkpoint, each);
    }
    records_of_segments(log, each);
}

#[test]
fn records_are_encoded_as_upstream_encodes_them() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in ["2.42-crashed", "3.14-crashed", "3.14-xor2-crashed"] {
        let Some((_keep, dir)) = unpack_directory(&format!("data/prometheus-{name}.tar.zst")) else { return };
        for log in ["wal", "wbl"] {
            let log = dir.join(log);
            if !log.exists() {
                continue;
            }
            records_of(&log, &mut |bytes| {
                let kind =
                    RecordType::of(bytes).unwrap_or_else(|| panic!("{name}: record type {}", bytes[0]));
                let again = Record::of(bytes).encode(kind);
                assert!(again == bytes, "{name} {}:\n{bytes:02x?}\n{again:02x?}", kind.as_str());
                *counts.entry(kind.as_str()).or_default() += 1;
            });
        }
    }
    // All kinds but metadata.
    assert_eq!(counts.len(), 12, "{counts:?}");
}

/// A chunk in a file of the head.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    mint: i64,
    maxt: i64,
    encoding: u8,
    data: Vec<u8>,
}

/// The chunks of a head's files, by series reference, in the order in which they stand. Such a file has 8 bytes in
/// front, then of each chunk: series (8) · mint (8) · maxt (8) · encoding (1) · length (uvarint) · data · CRC (4).
fn chunks(dir: &Path) -> HashMap<u64, Vec<Chunk>> {
    let mut found: HashMap<u64, Vec<Chunk>> = HashMap::new();
    let mut files: Vec<_> =
        std::fs::read_dir(dir.join("chunks_head")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let mut at = 8;
        // Behind the last one the file may be full of zeros.
        while at + 30 < bytes.len() && word(at) != 0 {
            let (series, mint, maxt, encoding) =
                (word(at), word(at + 8) as i64, word(at + 16) as i64, bytes[at + 24]);
            at += 25;
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let b = bytes[at];
                at += 1;
                length |= usize::from(b & 0x7f) << shift;
                shift += 7;
                if b < 0x80 {
                    break;
                }
            }
            let data = bytes[at..at + length].to_vec();
            at += length + 4;
            found.entry(series).or_default().push(Chunk { mint, maxt, encoding, data });
        }
    }
    found
}

/// Labels of the series of a log, by reference.
fn series_of(dir: &Path) -> HashMap<u64, Labels> {
    let mut found = HashMap::new();
    records_of(&dir.join("wal"), &mut |bytes| {
        if RecordType::of(bytes) == Some(RecordType::Series) {
            found.extend(Record::of(bytes).series);
        }
    });
    found
}

/// Appends what the log of a real server has, in its order, and compares the chunks that the server had put into files
/// with ours of the same range: `want` of them are the same and the same but for a restart.
fn check_chunks(name: &str, mut options: LiveOptions, want: (usize, usize), want_encodings: &[u8]) {
    // As the servers were told; and our chunks end where theirs do, not earlier.
    options.rules.chunk_range_ms = 240_000;
    options.rules.seal_bytes = u32::MAX;
    let Some((_keep, dir)) = unpack_directory(&format!("data/prometheus-{name}.tar.zst")) else { return };
    let theirs = chunks(&dir);
    let place = scratch();
    let head = open(place.path(), options);
    let mut appender = Appender::new(Arc::clone(&head));
    let mut ids: HashMap<u64, SeriesId> = HashMap::new();
    records_of(&dir.join("wal"), &mut |bytes| {
        let record = Record::of(bytes);
        for (reference, labels) in record.series {
            // Series without a chunk in the files have nothing to compare.
            if theirs.contains_key(&reference) {
                let id = appender.series(labels.iter().map(|l| (l.name.as_str(), l.value.as_str()))).unwrap();
                ids.insert(reference, id);
            }
        }
        // What is refused (late, twice) went to the other log there, or nowhere.
        for e in record.floats {
            if let Some(id) = ids.get(&e.series) {
                let _ = appender.append_float(*id, e.timestamp_ms, e.value, e.start_timestamp_ms);
            }
        }
        for e in record.histograms {
            if let Some(id) = ids.get(&e.series) {
                let _ = appender.append_histogram(*id, e.timestamp_ms, &e.value, e.start_timestamp_ms);
            }
        }
        for e in record.float_histograms {
            if let Some(id) = ids.get(&e.series) {
                let _ = appender.append_float_histogram(*id, e.timestamp_ms, &e.value, e.start_timestamp_ms);
            }
        }
        appender.commit().unwrap();
    });
    drop(appender);
    head.close().unwrap();
    let names = series_of(&dir);
    let ours: HashMap<Labels, Vec<Chunk>> = {
        let names = series_of(place.path());
        chunks(place.path()).into_iter().map(|(r, chunks)| (names[&r].clone(), chunks)).collect()
    };
    let (mut same, mut restarted, mut encodings) = (0, 0, BTreeMap::<u8, usize>::new());
    let mut wrong = Vec::new();
    for (reference, chunks) in &theirs {
        for chunk in chunks {
            let found = names.get(reference).and_then(|labels| ours.get(labels)).and_then(|all| {
                all.iter().find(|c| (c.mint, c.maxt, c.encoding) == (chunk.mint, chunk.maxt, chunk.encoding))
            });
            *encodings.entry(chunk.encoding).or_default() += 1;
            match found {
                Some(found) if found.data == chunk.data => same += 1,
                Some(found) if found.data == after_restart(&chunk.data) => restarted += 1,
                _ => wrong.push(format!("{:?} {}..{}", names.get(reference), chunk.mint, chunk.maxt)),
            }
        }
    }
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{name}: {} differ, {same} are the same; such as {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    assert_eq!((same, restarted), want, "{name}");
    assert_eq!(encodings.into_keys().collect::<Vec<_>>(), want_encodings, "{name}");
}

/// A chunk of histograms that begins with no word about a counter reset, with the word that there was none. Where the
/// server was restarted between two chunks it did not look at the one before.
fn after_restart(data: &[u8]) -> Vec<u8> {
    const NO_RESET: u8 = 0x40;
    let mut data = data.to_vec();
    data[2] |= NO_RESET;
    data
}

fn open(dir: &Path, options: LiveOptions) -> Arc<Head> {
    Head::open(loaded::disk(), dir, options, i64::MIN, &Control::default()).unwrap().0
}

#[test]
fn chunks_are_encoded_as_upstream_encodes_them() {
    check_chunks("3.14-crashed", LiveOptions::default(), (3549, 3), &[1, 2, 3]);
}

#[test]
fn chunks_of_the_new_encodings_are_encoded_as_upstream_encodes_them() {
    check_chunks("3.14-xor2-crashed", loaded::options(), (3528, 0), &[4, 5, 6]);
}
