//! Damaged directories: bytes flipped and files cut, with checksums as they were and with checksums made to fit. What
//! is read is right, or there is an error that names the file; nothing panics, and no length that a file claims makes
//! much memory be taken.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tsdbctl_chunk::{AppenderOptions, Encoding, SampleColumns, SeriesAppender};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::{Histogram, Labels, MatchType, Matcher, SymbolTable};
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, StorageError, TimeFilter};
use tsdbctl_testkit as testkit;
use tsdbctl_tsdb::{Database, OpenOptions};
use tsdbctl_wal::page::{PAGE_BYTES, crc32c};
use tsdbctl_wal::record::{MarkerEntry, SampleEntry, TombstoneEntry, encode};
use tsdbctl_wal::{Compression, PageWriter};

/// The system's allocator; notes the largest piece asked for.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(old, layout, size) }
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Far above what any file here needs (a batch of a log has half a MiB), far below what a length can claim.
const MOST_BYTES: usize = 16 << 20;

/// Samples by series and time: the bits of a float, or of a histogram's sum.
type Found = BTreeMap<(String, i64), u64>;

/// Everything that can be asked of a directory.
fn read(dir: &Path) -> Result<Found, StorageError> {
    let control = Control::default();
    let db = Database::open(&[dir.to_owned()], OpenOptions::default())?;
    db.newest_sample_time(&control)?;
    let _ = (db.gaps(0), db.overlaps(), db.time_range());
    let (mint, maxt) = (i64::MIN, i64::MAX);
    let named = vec![Matcher::new(MatchType::Regexp, "__name__", ".+").unwrap()];
    let few = vec![Matcher::new(MatchType::NotRegexp, "job", "no.*|x").unwrap()];
    let querier = db.querier(mint, maxt, &[named.clone(), few.clone()], &control)?;
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
    querier.select(&hints, &few, &mut symbols, &control)?;
    let set = querier.select(&hints, &named, &mut symbols, &control)?;
    let mut out = BTreeMap::new();
    let mut columns = SampleColumns::default();
    let windows =
        TimeFilter { first: 0, step: 1 << 40, steps: 1 << 20, before: 1000, after: 0, newest_only: true };
    for i in 0..set.len() {
        columns.clear();
        set.cost(i, &windows);
        set.read(i, &windows, &mut columns, &mut ReadStats::default())?;
        columns.clear();
        set.read(i, &TimeFilter::all_between(mint, maxt), &mut columns, &mut ReadStats::default())?;
        let labels = symbols.labels(set.labels(i)).to_string();
        for (t, v) in columns.floats.t.iter().zip(&columns.floats.v) {
            out.insert((labels.clone(), *t), v.to_bits());
        }
        for (t, h) in columns.histograms.t.iter().zip(&columns.histograms.h) {
            out.insert((labels.clone(), *t), h.sum.to_bits());
        }
    }
    querier.label_names(&[], &control)?;
    querier.label_values("job", &few, &control)?;
    querier.label_values("__name__", &[], &control)?;
    querier.exemplars(mint, maxt, &[named], &control)?;
    Ok(out)
}

/// What may be read from a damaged file without an error.
#[derive(Clone, Copy, PartialEq)]
enum Right {
    /// The same as before.
    All,
    /// Some of it: a crash may have cut what is missing.
    Some,
    /// Anything: no checksum covers the file, or it was made to fit.
    Any,
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn demo(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/demo").join(part)
}

/// Writes `bytes` to `file` and judges what is read of `dir`. Whether there was an error.
fn try_bytes(dir: &Path, file: &Path, bytes: &[u8], good: &Found, right: Right, what: &str) -> bool {
    std::fs::write(file, bytes).unwrap();
    LARGEST.store(0, Ordering::Relaxed);
    let result = read(dir);
    let largest = LARGEST.load(Ordering::Relaxed);
    let what = format!("{} {what}", file.strip_prefix(dir).unwrap().display());
    assert!(largest < MOST_BYTES, "{what}: {largest} bytes were asked for at once");
    match result {
        Ok(found) => {
            let (mut missing, mut wrong) = (0, found.keys().filter(|k| !good.contains_key(*k)).count());
            for (key, value) in good {
                match found.get(key) {
                    None => missing += 1,
                    Some(v) => wrong += usize::from(v != value),
                }
            }
            assert!(right == Right::Any || wrong == 0, "{what}: {wrong} wrong samples");
            assert!(right != Right::All || missing == 0, "{what}: {missing} samples lost without a word");
            false
        }
        Err(e) => {
            let text = e.to_string();
            assert!(text.contains(&dir.display().to_string()), "{what}: no path in {text:?}");
            assert!(
                right == Right::Any || text.contains(&file.display().to_string()),
                "{what}: another file in {text:?}"
            );
            true
        }
    }
}

/// At most `most` positions below `len`, spread by a step that shares no factor with the formats' own.
fn positions(len: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by((len / most.max(1)).max(1) | 1)
}

/// Flips and cuts one file. Which share of the flips was told, in percent.
fn damage(dir: &Path, name: &str, most: usize, flipped: Right, cut: Right) -> usize {
    let file = dir.join(name);
    let bytes = std::fs::read(&file).unwrap();
    let good = read(dir).unwrap();
    assert!(!good.is_empty());
    let (mut told, mut tried) = (0, 0);
    for (n, at) in positions(bytes.len(), most).enumerate() {
        // In a log bits 3 and 4 of some bytes tell the compression, and no checksum covers them.
        for bit in [n % 8, 3 + n % 2] {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let what = format!("byte {at} bit {bit} flipped");
            told += usize::from(try_bytes(dir, &file, &bad, &good, flipped, &what));
            tried += 1;
        }
    }
    for len in positions(bytes.len(), most.min(16)) {
        try_bytes(dir, &file, &bytes[..len], &good, cut, &format!("cut at {len}"));
    }
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(read(dir).unwrap(), good);
    told * 100 / tried
}

fn uvarint(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0usize, 0);
    loop {
        let b = bytes[*at];
        *at += 1;
        value |= usize::from(b & 0x7f) << shift;
        shift += 7;
        if b < 0x80 {
            return value;
        }
    }
}

/// Flips bytes that a checksum covers, and makes it fit again: `covered` has the places of the bytes, and of the
/// checksum that covers them.
fn damage_resealed(dir: &Path, name: &str, covered: &[(Range<usize>, usize)], most: usize) {
    let file = dir.join(name);
    let bytes = std::fs::read(&file).unwrap();
    let good = read(dir).unwrap();
    for (n, i) in positions(most, most).map(|i| (i, i % covered.len())) {
        let (range, sum) = &covered[i];
        for (k, at) in [(n, range.start + n * 7919 % range.len()), (n + 1, range.start + n % range.len())] {
            let mut bad = bytes.clone();
            match k % 3 {
                0 => bad[at] ^= 1 << (k % 8),
                1 => bad[at] = 0xff,
                _ => bad[at..(at + 8).min(range.end)].fill(if k % 2 == 0 { 0x7f } else { 0xff }),
            }
            let fitting = crc32c(&bad[range.clone()]).to_be_bytes();
            bad[*sum..*sum + 4].copy_from_slice(&fitting);
            try_bytes(dir, &file, &bad, &good, Right::Any, &format!("byte {at} replaced ({k})"));
        }
    }
    std::fs::write(&file, &bytes).unwrap();
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

/// What is behind a length of four bytes, and the place of its checksum.
fn section(bytes: &[u8], at: usize) -> (Range<usize>, usize) {
    let end = at + 4 + be(&bytes[at..at + 4]);
    (at + 4..end, end)
}

fn covered_of_index(bytes: &[u8]) -> Vec<(Range<usize>, usize)> {
    let toc = bytes.len() - 52;
    let offset = |i: usize| be(&bytes[toc + 8 * i..toc + 8 * i + 8]);
    let mut out = vec![
        (toc..toc + 48, toc + 48),
        section(bytes, offset(0)),
        section(bytes, offset(5)),
        section(bytes, offset(4)),
    ];
    let mut at = offset(1).next_multiple_of(16);
    for _ in 0..4 {
        let mut start = at;
        let len = uvarint(bytes, &mut start);
        out.push((start..start + len, start + len));
        at = (start + len + 4).next_multiple_of(16);
    }
    // The list of all series is the first.
    let mut list = offset(4);
    for _ in 0..2 {
        let found = section(bytes, list);
        list = (found.1 + 4).next_multiple_of(4);
        out.push(found);
    }
    out
}

fn covered_of_chunks(bytes: &[u8], mut at: usize, meta: usize, most: usize) -> Vec<(Range<usize>, usize)> {
    let mut out = Vec::new();
    while out.len() < most && at + meta + 8 < bytes.len() && bytes[at..at + 34] != [0; 34] {
        // Mapped chunks have the series and the times in front and cover the length too.
        let mut start = at + meta;
        let len = uvarint(bytes, &mut start) + usize::from(meta == 0);
        out.push((if meta == 0 { start } else { at }..start + len, start + len));
        at = start + len + 4;
    }
    out
}

#[test]
fn a_damaged_block_is_told_or_read_as_before() {
    const BLOCK: &str = "01M87K54N0SXWB4EY86VHMY8DV";
    let scratch = testkit::scratch();
    let dir = scratch.path().join(BLOCK);
    copy(&demo(BLOCK), &dir);
    // What no checksum covers: padding, versions that differ in nothing, obsolete sections.
    assert!(damage(&dir, "index", 60, Right::All, Right::All) >= 60);
    assert!(damage(&dir, "chunks/000001", 40, Right::All, Right::All) >= 90);
    assert!(damage(&dir, "tombstones", 9, Right::All, Right::All) >= 90);
    damage(&dir, "meta.json", 60, Right::Any, Right::Any);

    let index = std::fs::read(dir.join("index")).unwrap();
    damage_resealed(&dir, "index", &covered_of_index(&index), 60);
    let chunks = std::fs::read(dir.join("chunks/000001")).unwrap();
    damage_resealed(&dir, "chunks/000001", &covered_of_chunks(&chunks, 8, 0, 12), 24);
    let body = [1, 2, 4, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 6];
    let tombstones = [&[0x01, 0x30, 0xba, 0x30, 1][..], &body, &crc32c(&body).to_be_bytes()].concat();
    std::fs::write(dir.join("tombstones"), tombstones).unwrap();
    damage_resealed(&dir, "tombstones", &[(5..5 + body.len(), 5 + body.len())], 15);
}

#[test]
fn a_damaged_head_is_told_or_read_as_before() {
    let scratch = testkit::scratch();
    let dir = scratch.path();
    for part in ["wal", "chunks_head"] {
        copy(&demo(part), &dir.join(part));
    }
    for (name, most, cut) in
        [("wal/checkpoint.00000001/00000000", 12, Right::Any), ("wal/00000003", 12, Right::Any)]
    {
        damage(dir, name, most, Right::All, cut);
    }
    damage(dir, "wal/00000005", 12, Right::Some, Right::Some);
    damage(dir, "chunks_head/000005", 20, Right::All, Right::Any);
}

fn entry<V>(series: u64, t: i64, value: V) -> SampleEntry<V> {
    SampleEntry { series, start_timestamp_ms: 0, timestamp_ms: t, value }
}

fn record(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn segment(records: &[Vec<u8>], how: Compression) -> Vec<u8> {
    let mut writer = PageWriter::new(how, 0);
    records.iter().for_each(|r| writer.append(r));
    writer.take()
}

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn chunk(samples: &[(i64, f64)]) -> tsdbctl_chunk::Chunk {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    samples.iter().for_each(|(t, v)| appender.append_float(*t, *v, 0).unwrap());
    appender.into_chunks().remove(0)
}

/// A directory with a bit of everything a head can have, small enough to damage each of its bytes.
fn small_head(dir: &Path) {
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "test")]);
    let sets = [(1, labels("a")), (2, labels("b")), (3, labels("c"))];
    let series = record(|out| encode::series(out, sets.iter().map(|(r, l)| (*r, l))));
    let histogram = Histogram {
        count: 3,
        sum: 5.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
        positive_buckets: vec![1, 1],
        ..Histogram::default()
    };
    let floats = |entries: &[(u64, i64, f64)]| {
        record(|out| {
            encode::samples(out, &entries.iter().map(|(r, t, v)| entry(*r, *t, *v)).collect::<Vec<_>>());
        })
    };
    let trace = Labels::from_pairs([("trace_id", "x")]);
    let first = [
        series,
        floats(&[(1, 100, 1.0), (2, 100, 2.0)]),
        record(|out| encode::histograms(out, &[entry(3, 100, histogram.clone()), entry(3, 200, histogram)])),
        record(|out| encode::exemplars(out, &[entry(1, 100, (0.5, trace))])),
        record(|out| encode::metadata(out, [(1, 1, "seconds", "help")])),
    ];
    put(dir, "wal/checkpoint.00000003/00000000", &segment(&first, Compression::Snappy));
    let tombstone = TombstoneEntry { series: 2, mint: 150, maxt: 250 };
    let mut writer = PageWriter::new(Compression::Zstd, 0);
    for r in [
        floats(&[(1, 200, 1.5), (2, 200, 2.5)]),
        record(|out| encode::tombstones(out, &[tombstone])),
        record(|out| encode::samples_v2(out, &[entry(1, 300, 3.0), entry(2, 300, 4.0)])),
    ] {
        writer.append(&r);
    }
    put(dir, "wal/00000004", &writer.take());
    put(
        dir,
        "wal/00000005",
        &segment(&[floats(&[(1, 400, 9.0)]), floats(&[(2, 400, 9.5)])], Compression::None),
    );
    let mut file = Vec::new();
    tsdbctl_head::mapped::write_file_header(&mut file);
    let mapped = chunk(&[(10, 0.1), (20, 0.2)]);
    tsdbctl_head::mapped::write_chunk(&mut file, 1, (10, 20), Encoding::Xor, false, &mapped.data);
    let late = file.len() as u64;
    let mapped = chunk(&[(15, 0.3), (25, 0.4)]);
    tsdbctl_head::mapped::write_chunk(&mut file, 1, (15, 25), Encoding::Xor, true, &mapped.data);
    file.resize(file.len() + 100, 0);
    put(dir, "chunks_head/000001", &file);
    let marker = MarkerEntry { series: 1, chunk: 1 << 32 | late };
    let late = [
        floats(&[(1, 15, 0.3), (1, 25, 0.4)]),
        record(|out| encode::markers(out, &[marker])),
        floats(&[(1, 12, 0.7), (2, 30, 0.8)]),
    ];
    put(dir, "wbl/00000000", &segment(&late, Compression::Snappy));
    put(dir, "wbl/00000001", &segment(&[floats(&[(2, 40, 0.9)])], Compression::None));
}

#[test]
fn every_byte_of_a_small_head_may_be_damaged() {
    let scratch = testkit::scratch();
    let dir = scratch.path();
    small_head(dir);
    // A cut looks like a crash in the last file of a log, and like an earlier end of a record in the others.
    for (name, flipped, cut) in [
        ("wal/checkpoint.00000003/00000000", Right::All, Right::Any),
        ("wal/00000004", Right::All, Right::Any),
        ("wal/00000005", Right::Some, Right::Some),
        ("wbl/00000000", Right::All, Right::Any),
        ("wbl/00000001", Right::Some, Right::Some),
        ("chunks_head/000001", Right::Any, Right::Any),
    ] {
        damage(dir, name, usize::MAX, flipped, cut);
    }
    let chunks = std::fs::read(dir.join("chunks_head/000001")).unwrap();
    damage_resealed(dir, "chunks_head/000001", &covered_of_chunks(&chunks, 8, 25, 2), 80);
}

#[test]
fn every_byte_of_a_snapshot_may_be_damaged() {
    let scratch = testkit::scratch();
    let dir = scratch.path();
    small_head(dir);
    let log = std::fs::read(dir.join("wal/00000005")).unwrap();
    let mut padded = log.clone();
    padded.resize(PAGE_BYTES, 0);
    put(dir, "wal/00000005", &padded);
    let mut records = Vec::new();
    for (series, name, at) in [(1u64, "a", 400i64), (2, "b", 400)] {
        let chunk = chunk(&[(at, if series == 1 { 9.0 } else { 9.5 })]);
        let mut out = vec![1];
        out.extend_from_slice(&series.to_be_bytes());
        encode::labels(&mut out, &Labels::from_pairs([("__name__", name), ("job", "test")]));
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
        out.extend_from_slice(&chunk.mint.to_be_bytes());
        out.extend_from_slice(&chunk.maxt.to_be_bytes());
        out.push(chunk.encoding as u8);
        tsdbctl_wal::cursor::put_string(&mut out, &chunk.data);
        out.resize(out.len() + 64, 0);
        records.push(out);
    }
    records.push(vec![2, 1, 1]);
    let from_log = read(dir).unwrap();
    let name = "chunk_snapshot.000005.0000032768/00000000";
    let whole = segment(&records, Compression::Snappy);
    put(dir, name, &whole);
    let from_snapshot = read(dir).unwrap();
    assert!(from_snapshot.len() < from_log.len());
    for at in 0..whole.len() {
        for bad in
            [[&whole[..at], &[whole[at] ^ 1 << (at % 8)], &whole[at + 1..]].concat(), whole[..at].to_vec()]
        {
            put(dir, name, &bad);
            let found = read(dir).unwrap();
            assert!(found == from_log || found == from_snapshot, "byte {at}");
        }
    }
    // The same with records that are damaged before they are framed.
    for at in 0..records[0].len() {
        let mut bad = records.clone();
        bad[0][at] = if at % 2 == 0 { 0xff } else { bad[0][at] ^ 0x81 };
        put(dir, name, &segment(&bad, Compression::None));
        LARGEST.store(0, Ordering::Relaxed);
        let _ = read(dir);
        assert!(LARGEST.load(Ordering::Relaxed) < MOST_BYTES, "byte {at}");
    }
}

#[test]
fn records_damaged_before_they_are_framed_are_no_danger() {
    let scratch = testkit::scratch();
    let dir = scratch.path();
    small_head(dir);
    for name in ["wal/checkpoint.00000003/00000000", "wal/00000004", "wbl/00000000"] {
        let file = dir.join(name);
        let bytes = std::fs::read(&file).unwrap();
        let mut reader = tsdbctl_wal::SegmentReader::new(&bytes, 0);
        let mut records = Vec::new();
        loop {
            let mut record = Vec::new();
            if !reader.next_into(&mut record).unwrap() {
                break;
            }
            records.push(record);
        }
        for i in 0..records.len() {
            for at in 0..records[i].len() {
                let mut bad = records.clone();
                match at % 3 {
                    0 => bad[i][at] = 0xff,
                    1 => bad[i][at] ^= 1 << (at % 8),
                    _ => bad[i].truncate(at),
                }
                std::fs::write(&file, segment(&bad, Compression::None)).unwrap();
                LARGEST.store(0, Ordering::Relaxed);
                if let Err(e) = read(dir) {
                    assert!(e.to_string().contains(&dir.display().to_string()), "{e}");
                }
                assert!(LARGEST.load(Ordering::Relaxed) < MOST_BYTES, "{name} record {i} byte {at}");
            }
        }
        std::fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn a_block_that_is_removed_while_it_is_read_stays_readable() {
    const BLOCK: &str = "01M87K54N0SXWB4EY86VHMY8DV";
    let scratch = testkit::scratch();
    let dir = scratch.path().join(BLOCK);
    copy(&demo(BLOCK), &dir);
    let control = Control::default();
    let db = Database::open(std::slice::from_ref(&dir), OpenOptions::default()).unwrap();
    let querier = db.querier(i64::MIN, i64::MAX, &[], &control).unwrap();
    // A compaction ends.
    std::fs::remove_dir_all(&dir).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &[], &mut symbols, &control).unwrap();
    let mut columns = SampleColumns::default();
    let everything = TimeFilter::all_between(i64::MIN, i64::MAX);
    set.read(0, &everything, &mut columns, &mut ReadStats::default()).unwrap();
    assert!(!columns.is_empty());
}
