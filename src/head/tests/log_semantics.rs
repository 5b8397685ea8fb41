//! What records mean to a replayed head, on hand-written logs.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod loaded;

use std::path::Path;

use tempfile::TempDir;
use tsdbctl_chunk::{AppenderOptions, SampleColumns, SeriesAppender};
use tsdbctl_head::{HeadOptions, Metadata, ReadHead, mapped, newest_sample_time};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::{MetricType, stale_nan};
use tsdbctl_model::{FloatHistogram, Histogram, Labels, Matcher, SymbolTable};
use tsdbctl_storage::{
    Budget, Control, Interrupt, LabelNeeds, Querier, ReadStats, SelectHints, StorageError, TimeFilter,
};
use tsdbctl_wal::record::{MarkerEntry, SampleEntry, TombstoneEntry, encode};
use tsdbctl_wal::{Compression, PageWriter};

/// Samples of one series: times with values, and how many of them are histograms.
type Found = Vec<(String, Vec<(i64, f64)>)>;

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "test")])
}

fn series(entries: &[(u64, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let sets: Vec<(u64, Labels)> = entries.iter().map(|(r, n)| (*r, labels(n))).collect();
    encode::series(&mut out, sets.iter().map(|(r, l)| (*r, l)));
    out
}

fn entry<V>(series: u64, t: i64, value: V) -> SampleEntry<V> {
    SampleEntry { series, start_timestamp_ms: 0, timestamp_ms: t, value }
}

fn samples(entries: &[(u64, i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::samples(&mut out, &entries.iter().map(|(r, t, v)| entry(*r, *t, *v)).collect::<Vec<_>>());
    out
}

fn tombstone(series: u64, mint: i64, maxt: i64) -> Vec<u8> {
    let mut out = Vec::new();
    encode::tombstones(&mut out, &[TombstoneEntry { series, mint, maxt }]);
    out
}

fn marker(series: u64, chunk: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode::markers(&mut out, &[MarkerEntry { series, chunk }]);
    out
}

fn segment(records: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = PageWriter::new(Compression::Snappy, 0);
    records.iter().for_each(|r| writer.append(r));
    writer.take()
}

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A directory with one segment in `wal/` and one in `wbl/`.
fn log(records: &[Vec<u8>], late: &[Vec<u8>]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "wal/00000000", &segment(records));
    put(dir.path(), "wbl/00000000", &segment(late));
    dir
}

fn open(dir: &Path, options: &HeadOptions<'_>) -> Result<ReadHead, StorageError> {
    ReadHead::open(dir, options, &Control::default()).map(Option::unwrap)
}

fn read(head: &ReadHead, mint: i64, maxt: i64) -> Found {
    let control = Control::default();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: mint, end: maxt, ..Default::default() };
    let set = head.select(&hints, &[], &mut symbols, &control).unwrap();
    (0..set.len())
        .map(|i| {
            let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
            set.read(i, &TimeFilter::all_between(mint, maxt), &mut columns, &mut stats).unwrap();
            (symbols.labels(set.labels(i)).get("__name__").to_string(), values(&columns))
        })
        .collect()
}

fn everything(dir: &Path) -> Found {
    let found = read(&open(dir, &HeadOptions::default()).unwrap(), i64::MIN, i64::MAX);
    assert_eq!(live(dir, i64::MIN), found, "loaded to be appended to");
    found
}

/// What a head that is loaded to be appended to has; it must have the same when it is loaded once more, with the chunks
/// that it wrote.
fn live(dir: &Path, min_valid_time: i64) -> Found {
    let copy = loaded::copy(dir);
    let read = || -> Found {
        let head = loaded::load_in(copy.path(), &loaded::options(), min_valid_time);
        let all = loaded::series(&head);
        head.files.flush().unwrap();
        all.into_iter()
            .map(|(labels, columns)| (labels.get("__name__").to_string(), values(&columns)))
            .collect()
    };
    let found = read();
    assert_eq!(read(), found, "loaded a second time");
    found
}

/// Times and values, of histograms their sums.
fn values(columns: &SampleColumns) -> Vec<(i64, f64)> {
    let f = columns.floats.t.iter().copied().zip(columns.floats.v.iter().copied());
    let h = columns.histograms.t.iter().copied().zip(columns.histograms.h.iter().map(|h| h.sum));
    let mut all: Vec<(i64, f64)> = f.chain(h).collect();
    all.sort_by_key(|(t, _)| *t);
    all
}

fn found(list: &[(&str, &[(i64, f64)])]) -> Found {
    list.iter().map(|(n, s)| (n.to_string(), s.to_vec())).collect()
}

#[test]
fn a_second_reference_for_the_same_labels_is_the_same_series() {
    let dir = log(
        &[
            series(&[(1, "a"), (2, "b")]),
            samples(&[(1, 10, 1.0), (2, 10, 2.0)]),
            series(&[(7, "a"), (1, "a")]),
            // The last one is not later than what came before.
            samples(&[(7, 20, 3.0), (2, 20, 4.0), (1, 15, 9.0)]),
        ],
        &[samples(&[(7, 5, 0.5)])],
    );
    assert_eq!(
        everything(dir.path()),
        found(&[("a", &[(5, 0.5), (10, 1.0), (20, 3.0)]), ("b", &[(10, 2.0), (20, 4.0)])])
    );
}

#[test]
fn series_come_in_order_of_their_references_and_those_without_samples_not_at_all() {
    let dir = log(
        &[series(&[(9, "z"), (3, "m"), (5, "none")]), samples(&[(9, 1, 1.0), (3, 1, 2.0), (8, 1, 3.0)])],
        &[],
    );
    assert_eq!(everything(dir.path()), found(&[("m", &[(1, 2.0)]), ("z", &[(1, 1.0)])]));
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    assert_eq!(head.label_values("__name__", &[], &Control::default()).unwrap(), ["m", "z"]);
    assert_eq!(
        head.label_names(&[Matcher::equal("__name__", "m")], &Control::default()).unwrap(),
        ["__name__", "job"]
    );
    assert_eq!(head.times(), Some((1, 1)));
}

#[test]
fn only_wanted_series_are_kept_and_only_the_asked_range_of_their_floats() {
    let dir = log(
        &[
            series(&[(1, "a"), (2, "b"), (3, "c")]),
            samples(&[(1, 10, 1.0), (2, 10, 2.0), (3, 10, 3.0)]),
            samples(&[(1, 20, 1.0), (2, 20, 2.0), (3, 20, 3.0)]),
            samples(&[(1, 30, 1.0), (2, 30, 2.0), (3, 30, 3.0)]),
        ],
        &[],
    );
    let selections = [
        vec![Matcher::equal("__name__", "b")],
        vec![Matcher::equal("__name__", "c"), Matcher::equal("job", "x")],
    ];
    let options = HeadOptions { selections: &selections, mint: 15, maxt: 25, ..Default::default() };
    let head = open(dir.path(), &options).unwrap();
    assert_eq!(head.series_count(), 1);
    assert_eq!(read(&head, 15, 25), found(&[("b", &[(20, 2.0)])]));
    assert_eq!(read(&head, i64::MIN, i64::MAX), found(&[("b", &[(20, 2.0)])]));
    // Between two scrapes there is no sample, but the chunk covers the time.
    let options = HeadOptions { mint: 21, maxt: 25, ..options };
    assert_eq!(read(&open(dir.path(), &options).unwrap(), 21, 25), found(&[("b", &[])]));
    let options = HeadOptions { mint: 31, maxt: 35, ..options };
    assert_eq!(read(&open(dir.path(), &options).unwrap(), 31, 35), found(&[]));
}

#[test]
fn only_needed_labels_are_given() {
    let dir = log(&[series(&[(1, "a")]), samples(&[(1, 10, 1.0)])], &[]);
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints {
        start: 0,
        end: 20,
        labels: LabelNeeds::Only(vec!["job".into()]),
        series_only: true,
        ..Default::default()
    };
    let set = head.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    assert_eq!(symbols.labels(set.labels(0)), Labels::from_pairs([("job", "test")]));
}

#[test]
fn samples_that_blocks_have_are_not_replayed() {
    let dir = log(&[series(&[(1, "a")]), samples(&[(1, 10, 1.0), (1, 20, 2.0)])], &[samples(&[(1, 5, 5.0)])]);
    let options = HeadOptions { min_valid_time: 20, ..Default::default() };
    // Out-of-order samples are not in blocks of that kind.
    let expected = found(&[("a", &[(5, 5.0), (20, 2.0)])]);
    assert_eq!(read(&open(dir.path(), &options).unwrap(), 0, 99), expected);
    assert_eq!(live(dir.path(), 20), expected);
}

#[test]
fn deleted_ranges_are_left_out_and_deleted_series_begin_anew() {
    let dir = log(
        &[
            series(&[(1, "a"), (2, "b")]),
            samples(&[(1, 10, 1.0), (1, 20, 2.0), (1, 30, 3.0), (2, 10, 1.0)]),
            tombstone(1, 15, 20),
            tombstone(2, i64::MIN, i64::MAX),
            samples(&[(2, 15, 7.0)]),
            series(&[(9, "b")]),
            samples(&[(9, 12, 4.0), (2, 40, 8.0)]),
        ],
        &[samples(&[(1, 16, 9.0), (1, 17, 9.0)])],
    );
    assert_eq!(everything(dir.path()), found(&[("a", &[(10, 1.0), (30, 3.0)]), ("b", &[(12, 4.0)])]));
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    assert_eq!(read(&head, 16, 20), found(&[("a", &[])]), "the chunk is not deleted as a whole");
}

#[test]
fn late_samples_are_merged_and_chunks_of_them_cut() {
    let late: Vec<(u64, i64, f64)> = (0..80).map(|i| (1, 1000 - i * 10, i as f64)).collect();
    let dir = log(
        &[series(&[(1, "a")]), samples(&[(1, 505, 1.0), (1, 1005, 2.0)])],
        &[samples(&late), samples(&[(1, 207, 7.0), (1, 210, 0.5)])],
    );
    let mut expected: Vec<(i64, f64)> =
        late.iter().map(|(_, t, v)| (*t, *v)).chain([(505, 1.0), (1005, 2.0), (207, 7.0)]).collect();
    expected.sort_by_key(|(t, _)| *t);
    assert_eq!(everything(dir.path()), found(&[("a", &expected)]));
}

/// A series, whether its chunk is out of order, the samples in it.
type LateOrNot<'a> = (u64, bool, &'a [(i64, f64)]);

/// A file of head chunks and the references of its chunks.
fn chunk_file(chunks: &[LateOrNot<'_>]) -> (Vec<u8>, Vec<u64>) {
    let mut out = Vec::new();
    let mut refs = Vec::new();
    mapped::write_file_header(&mut out);
    for (series, late, samples) in chunks {
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        samples.iter().for_each(|(t, v)| appender.append_float(*t, *v, 0).unwrap());
        let chunk = appender.into_chunks().remove(0);
        refs.push(1 << 32 | out.len() as u64);
        mapped::write_chunk(&mut out, *series, (chunk.mint, chunk.maxt), chunk.encoding, *late, &chunk.data);
    }
    (out, refs)
}

#[test]
fn mapped_chunks_stand_for_the_samples_of_the_log() {
    let (file, refs) = chunk_file(&[
        (1, false, &[(10, 1.0), (20, 2.0)]),
        (1, true, &[(4, 4.0), (12, 5.0)]),
        (2, false, &[(1, 1.0)]),
    ]);
    let late = [
        samples(&[(1, 4, 4.5), (1, 12, 5.5), (1, 6, 6.0)]),
        marker(1, refs[1]),
        samples(&[(1, 8, 8.0)]),
        // Of a chunk that is not there: nothing is dropped.
        marker(1, refs[2] + 1),
    ];
    let dir =
        log(&[series(&[(1, "a"), (2, "b")]), samples(&[(1, 10, 7.0), (1, 20, 7.0), (1, 30, 3.0)])], &late);
    let mut padded = file.clone();
    padded.resize(padded.len() + 1000, 0);
    put(dir.path(), "chunks_head/000001", &padded);
    let expected = found(&[
        ("a", &[(4, 4.0), (8, 8.0), (10, 1.0), (12, 5.0), (20, 2.0), (30, 3.0)]),
        ("b", &[(1, 1.0)]),
    ]);
    assert_eq!(everything(dir.path()), expected);
    assert_eq!(newest_sample_time(dir.path(), &Control::default()).unwrap(), Some(30));

    // Torn in its last chunk: that one comes from the log, or is gone if the log has it not.
    put(dir.path(), "chunks_head/000001", &file[..file.len() - 3]);
    assert_eq!(everything(dir.path()), found(&[("a", &expected[0].1)]));
    // Damaged in front: an error, or for a tolerant reader all comes from the log.
    let mut damaged = file.clone();
    damaged[40] ^= 1;
    put(dir.path(), "chunks_head/000001", &damaged);
    let Err(StorageError::Corrupt(loss)) = open(dir.path(), &HeadOptions::default()) else {
        panic!("no error")
    };
    assert_eq!((loss.file, loss.offset), (dir.path().join("chunks_head/000001"), 8));
    let head = open(dir.path(), &HeadOptions { tolerant: true, ..Default::default() }).unwrap();
    assert_eq!(head.losses().len(), 1);
    let all = [(4, 4.5), (6, 6.0), (8, 8.0), (10, 7.0), (12, 5.5), (20, 7.0), (30, 3.0)];
    assert_eq!(read(&head, 0, 99), found(&[("a", &all)]));
    assert_eq!(live(dir.path(), i64::MIN), found(&[("a", &all)]));
}

/// A record of a snapshot: a series with its open chunk.
fn snapshot_series(series: u64, name: &str, samples: &[(i64, f64)]) -> Vec<u8> {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    samples.iter().for_each(|(t, v)| appender.append_float(*t, *v, 0).unwrap());
    let chunk = appender.into_chunks().remove(0);
    let mut out = vec![1];
    out.extend_from_slice(&series.to_be_bytes());
    encode::labels(&mut out, &labels(name));
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
    out.extend_from_slice(&chunk.mint.to_be_bytes());
    out.extend_from_slice(&chunk.maxt.to_be_bytes());
    out.push(chunk.encoding as u8);
    tsdbctl_wal::cursor::put_string(&mut out, &chunk.data);
    out.resize(out.len() + 64, 0);
    out
}

#[test]
fn a_snapshot_replaces_the_log_in_front_of_it_if_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    // In the log the samples have other values, so that it shows which were read.
    let first = [
        series(&[(1, "a"), (2, "b"), (3, "c")]),
        samples(&[(1, 10, 7.0), (2, 10, 7.0), (3, 5, 7.0), (3, 10, 7.0)]),
    ];
    let mut writer = PageWriter::new(Compression::None, 0);
    first.iter().for_each(|r| writer.append(r));
    writer.pad();
    writer.append(&samples(&[(1, 10, 8.0), (1, 20, 2.0), (3, 20, 3.0)]));
    put(dir.path(), "wal/00000004", &writer.take());
    let (file, _) = chunk_file(&[(3, false, &[(5, 5.0), (10, 6.0)])]);
    put(dir.path(), "chunks_head/000001", &file);
    let mut exemplar = vec![3];
    let mut record = Vec::new();
    encode::exemplars(&mut record, &[entry(1, 10, (0.5, Labels::from_pairs([("trace_id", "x")])))]);
    exemplar.extend_from_slice(&record[1..]);
    let records = [
        snapshot_series(2, "b", &[(10, 1.0), (12, 1.5)]),
        snapshot_series(1, "a", &[(10, 1.0)]),
        snapshot_series(3, "c", &[(5, 1.0)]),
        vec![2, 4, 1, 2, 24, 24],
        exemplar,
    ];
    let name = "chunk_snapshot.000004.0000032768/00000000";
    put(dir.path(), name, &segment(&records));
    let expected =
        [("a", &[(10, 1.0), (20, 2.0)][..]), ("b", &[(10, 1.0)]), ("c", &[(5, 5.0), (10, 6.0), (20, 3.0)])];
    assert_eq!(everything(dir.path()), found(&expected));
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    assert_eq!(head.exemplars(0, 99, &[vec![]], &Control::default()).unwrap().len(), 1);
    let selection = [vec![Matcher::equal("__name__", "b")]];
    let narrow = open(dir.path(), &HeadOptions { selections: &selection, ..Default::default() }).unwrap();
    assert_eq!(read(&narrow, 0, 99), found(&expected[1..2]));

    let from_log =
        [("a", &[(10, 7.0), (20, 2.0)][..]), ("b", &[(10, 7.0)]), ("c", &[(5, 5.0), (10, 6.0), (20, 3.0)])];
    let whole = segment(&records);
    for cut in 0..whole.len() - 60 {
        put(dir.path(), name, &whole[..cut]);
        for tolerant in [false, true] {
            let head = open(dir.path(), &HeadOptions { tolerant, ..Default::default() }).unwrap();
            assert_eq!(read(&head, 0, 99), found(&from_log), "cut at {cut}");
        }
    }
    std::fs::remove_dir_all(dir.path().join("chunk_snapshot.000004.0000032768")).unwrap();
    for wrong in ["000004.0000032769", "000004.0000065536", "000005.0000000000"] {
        put(dir.path(), &format!("chunk_snapshot.{wrong}/00000000"), &whole);
        assert_eq!(everything(dir.path()), found(&from_log), "{wrong}");
    }
}

#[test]
fn floats_and_histograms_of_one_series_keep_their_order() {
    let h = |t, sum| {
        let mut out = Vec::new();
        encode::histograms(
            &mut out,
            &[entry(1, t, Histogram { count: 1, sum, zero_count: 1, ..Default::default() })],
        );
        out
    };
    let records = [
        series(&[(1, "a"), (2, "b")]),
        samples(&[(1, 10, 1.0), (2, 10, 1.0)]),
        h(20, 2.0),
        samples(&[(1, 30, 3.0), (2, 30, 3.0), (1, 15, 9.0)]),
        h(40, 4.0),
        h(35, 9.0),
    ];
    let a = [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)];
    assert_eq!(everything(log(&records, &[]).path()), found(&[("a", &a), ("b", &[(10, 1.0), (30, 3.0)])]));
}

#[test]
fn schemas_finer_than_the_finest_are_made_coarser() {
    let spans = vec![BucketSpan { offset: 0, length: 2 }];
    let h = Histogram {
        schema: 9,
        count: 3,
        sum: 1.0,
        positive_spans: spans,
        positive_buckets: vec![1, 1],
        ..Default::default()
    };
    let mut record = Vec::new();
    encode::histograms(&mut record, &[entry(1, 10, h)]);
    let dir = log(&[series(&[(1, "a")]), record], &[]);
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    let hints = SelectHints { start: 0, end: 99, ..Default::default() };
    let set = head.select(&hints, &[], &mut SymbolTable::new(), &Control::default()).unwrap();
    let (mut c, mut stats) = (SampleColumns::default(), ReadStats::default());
    set.read(0, &TimeFilter::all_between(0, 99), &mut c, &mut stats).unwrap();
    assert_eq!((c.histograms.h[0].schema, c.histograms.h[0].positive_buckets.iter().sum::<f64>()), (8, 3.0));
}

#[test]
fn buckets_of_samples_behind_the_range_are_in_the_chunk_that_reaches_into_it() {
    let h = |t: i64, buckets: u32| {
        let h = Histogram {
            count: u64::from(buckets),
            sum: 1.0,
            positive_spans: vec![BucketSpan { offset: 0, length: buckets }],
            positive_buckets: (0..buckets).map(|i| i64::from(i == 0)).collect(),
            ..Default::default()
        };
        let mut out = Vec::new();
        encode::histograms(&mut out, &[entry(1, t, h)]);
        out
    };
    // The two hours of the chunk end in front of the last sample.
    let dir = log(&[series(&[(1, "a")]), h(10, 1), h(20, 2), h(30, 5), h(7_200_000, 9)], &[]);
    for end in [10, 20, 25, 99, 8_000_000] {
        let options = HeadOptions { mint: 0, maxt: end, ..Default::default() };
        let head = open(dir.path(), &options).unwrap();
        let hints = SelectHints { start: 0, end, ..Default::default() };
        let set = head.select(&hints, &[], &mut SymbolTable::new(), &Control::default()).unwrap();
        let (mut c, mut stats) = (SampleColumns::default(), ReadStats::default());
        set.read(0, &TimeFilter::all_between(0, end), &mut c, &mut stats).unwrap();
        let layout: Vec<(i64, usize)> =
            c.histograms.t.iter().zip(&c.histograms.h).map(|(t, h)| (*t, h.positive_buckets.len())).collect();
        let all = [(10, 5), (20, 5), (30, 5), (7_200_000, 9)];
        let want: Vec<(i64, usize)> = all.into_iter().filter(|(t, _)| *t <= end).collect();
        assert_eq!(layout, want, "up to {end}");
    }
}

#[test]
fn an_empty_log_is_no_head() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("wal")).unwrap();
    assert!(ReadHead::open(dir.path(), &HeadOptions::default(), &Control::default()).unwrap().is_none());
    assert_eq!(newest_sample_time(dir.path(), &Control::default()).unwrap(), None);
}

#[test]
fn a_torn_end_is_silent_and_damage_is_an_error_that_names_its_place() {
    let records: Vec<Vec<u8>> = std::iter::once(series(&[(1, "a")]))
        .chain((1..20).map(|i| samples(&[(1, i * 10, i as f64)])))
        .collect();
    let mut writer = PageWriter::new(Compression::None, 0);
    let mut starts = Vec::new();
    for r in &records {
        starts.push(writer.offset());
        writer.append(r);
    }
    let whole = writer.take();
    let dir = tempfile::tempdir().unwrap();
    for cut in starts[1]..whole.len() {
        put(dir.path(), "wal/00000003", &whole[..cut]);
        let complete = starts.iter().filter(|s| **s <= cut).count() - 2 + usize::from(cut == whole.len());
        let all = read(&open(dir.path(), &HeadOptions::default()).unwrap(), i64::MIN, i64::MAX);
        assert_eq!(all.first().map_or(0, |s| s.1.len()), complete, "cut at {cut}");
        if cut % 29 == 0 {
            assert_eq!(live(dir.path(), i64::MIN), all, "cut at {cut}");
        }
    }
    // A server that started but did not get far makes the torn segment the last but one, then it is damage if
    // that one got records.
    put(dir.path(), "wal/00000003", &whole[..whole.len() - 4]);
    put(dir.path(), "wal/00000004", &[]);
    assert_eq!(everything(dir.path())[0].1.len(), 18);
    put(dir.path(), "wal/00000004", &segment(&[samples(&[(1, 500, 5.0)])]));
    let Err(StorageError::Corrupt(loss)) = open(dir.path(), &HeadOptions::default()) else {
        panic!("no error")
    };
    assert_eq!((loss.file, loss.offset), (dir.path().join("wal/00000003"), starts[19] as u64));

    let mut damaged = whole.clone();
    damaged[starts[5] + 30] ^= 0x10;
    put(dir.path(), "wal/00000003", &damaged);
    let Err(StorageError::Corrupt(loss)) = open(dir.path(), &HeadOptions::default()) else {
        panic!("no error")
    };
    assert_eq!((loss.file, loss.offset), (dir.path().join("wal/00000003"), starts[5] as u64));
    let head = open(dir.path(), &HeadOptions { tolerant: true, ..Default::default() }).unwrap();
    let found = read(&head, 0, 999);
    assert_eq!(found[0].1.len(), 19, "one lost, one more in the next segment");
    assert_eq!(live(dir.path(), i64::MIN), found);
    assert_eq!(head.losses().len(), 1);

    put(dir.path(), "wal/00000006", &[]);
    let Err(StorageError::Corrupt(loss)) = open(dir.path(), &HeadOptions::default()) else {
        panic!("no error")
    };
    assert_eq!(loss.file, dir.path().join("wal/00000005"));
}

#[test]
fn a_record_that_is_no_record_is_damage_and_one_of_an_unknown_type_is_not() {
    let dir = log(&[series(&[(1, "a")]), vec![200, 1, 2, 3], samples(&[(1, 10, 1.0)])], &[]);
    assert_eq!(everything(dir.path()), found(&[("a", &[(10, 1.0)])]));
    let dir = log(&[series(&[(1, "a")]), vec![2, 0, 0, 1], samples(&[(1, 10, 1.0)])], &[]);
    let Err(StorageError::Corrupt(loss)) = open(dir.path(), &HeadOptions::default()) else {
        panic!("no error")
    };
    assert!(loss.reason.starts_with("samples record"), "{}", loss.reason);
}

#[test]
fn the_checkpoint_comes_first_and_older_segments_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "wal/checkpoint.00000002/00000000",
        &segment(&[series(&[(1, "a")]), samples(&[(1, 10, 1.0)])]),
    );
    put(dir.path(), "wal/00000002", &segment(&[samples(&[(1, 15, 9.0)])]));
    put(dir.path(), "wal/00000003", &segment(&[samples(&[(1, 20, 2.0)])]));
    assert_eq!(everything(dir.path()), found(&[("a", &[(10, 1.0), (20, 2.0)])]));
    assert_eq!(newest_sample_time(dir.path(), &Control::default()).unwrap(), Some(20));
    assert!(
        ReadHead::open(&dir.path().join("wal"), &HeadOptions::default(), &Control::default())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_stale_float_ends_a_histogram_series_as_a_histogram() {
    let h = |sum| Histogram { count: 1, sum, zero_count: 1, ..Default::default() };
    let mut ints = Vec::new();
    encode::histograms(&mut ints, &[entry(1, 10, h(1.5)), entry(1, 20, h(2.5))]);
    let mut floats = Vec::new();
    let f = FloatHistogram { count: 1.0, sum: 3.5, zero_count: 1.0, ..Default::default() };
    encode::float_histograms(&mut floats, &[entry(2, 10, f)]);
    let dir = log(
        &[
            series(&[(1, "a"), (2, "b"), (3, "c")]),
            ints,
            floats,
            samples(&[(1, 30, stale_nan()), (2, 30, stale_nan()), (3, 30, stale_nan())]),
        ],
        &[],
    );
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: 0, end: 99, ..Default::default() };
    let set = head.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    let kinds: Vec<_> = (0..3)
        .map(|i| {
            let (mut c, mut stats) = (SampleColumns::default(), ReadStats::default());
            set.read(i, &TimeFilter::all_between(0, 99), &mut c, &mut stats).unwrap();
            (c.floats.t, c.histograms.t, c.histograms.integer)
        })
        .collect();
    assert_eq!(kinds[0], (vec![], vec![10, 20, 30], vec![true; 3]));
    assert_eq!(kinds[1], (vec![], vec![10, 30], vec![false; 2]));
    assert_eq!(kinds[2], (vec![30], vec![], vec![]));
}

#[test]
fn start_timestamps_are_kept() {
    let start = |t, st| SampleEntry { series: 1, start_timestamp_ms: st, timestamp_ms: t, value: 1.0 };
    let mut v2 = Vec::new();
    encode::samples_v2(&mut v2, &[start(20, 7), start(30, 7), start(40, 0)]);
    let dir = log(&[series(&[(1, "a")]), samples(&[(1, 10, 1.0)]), v2], &[]);
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: 0, end: 99, ..Default::default() };
    let set = head.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    let (mut c, mut stats) = (SampleColumns::default(), ReadStats::default());
    set.read(0, &TimeFilter::all_between(0, 99), &mut c, &mut stats).unwrap();
    assert_eq!((c.floats.t, c.floats.st), (vec![10, 20, 30, 40], vec![0, 7, 7, 0]));
}

#[test]
fn exemplars_are_found_by_series_and_time() {
    let trace = |id: &str| Labels::from_pairs([("trace_id", id)]);
    let mut record = Vec::new();
    encode::exemplars(
        &mut record,
        &[
            entry(2, 10, (0.5, trace("x"))),
            entry(1, 20, (1.5, trace("y"))),
            entry(1, 30, (2.5, trace("z"))),
            entry(1, 30, (2.5, trace("z"))),
        ],
    );
    let dir = log(&[series(&[(1, "a"), (2, "b")]), record, samples(&[(1, 1, 1.0)])], &[]);
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    let any = [vec![Matcher::equal("job", "test")]];
    let all = head.exemplars(0, 25, &any, &Control::default()).unwrap();
    let short: Vec<_> = all
        .iter()
        .map(|s| {
            (
                s.series.get("__name__"),
                s.exemplars.iter().map(|e| (e.timestamp_ms, e.labels.get("trace_id"))).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(short, [("a", vec![(20, "y")]), ("b", vec![(10, "x")])]);
    let one = [vec![Matcher::equal("__name__", "a")]];
    assert_eq!(head.exemplars(0, 99, &one, &Control::default()).unwrap()[0].exemplars.len(), 2);
    assert!(head.exemplars(0, 99, &[], &Control::default()).unwrap().is_empty());
}

#[test]
fn the_newest_metadata_of_a_series_counts() {
    let meta = |kind, unit, help| {
        let mut out = Vec::new();
        encode::metadata(&mut out, [(1, kind, unit, help), (9, kind, unit, help)]);
        out
    };
    let dir = log(
        &[series(&[(1, "a")]), meta(2, "", "Old."), meta(1, "bytes", "New."), samples(&[(1, 1, 1.0)])],
        &[],
    );
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    let new = Metadata { kind: MetricType::Counter, unit: "bytes".into(), help: "New.".into() };
    assert_eq!(head.metadata(), [(labels("a"), new)]);
}

#[test]
fn limits_hold_and_memory_is_given_back() {
    let names: Vec<String> = (0..5000).map(|i| format!("metric_{i}")).collect();
    let entries: Vec<(u64, &str)> =
        names.iter().enumerate().map(|(i, n)| (i as u64 + 1, n.as_str())).collect();
    let at = |t| samples(&(1..=5000).map(|r| (r, t, r as f64)).collect::<Vec<_>>());
    let dir = log(&[series(&entries), at(1), at(2), at(3)], &[]);
    let control = Control::new(Interrupt::default(), Budget::new(300_000), None);
    assert!(matches!(
        ReadHead::open(dir.path(), &HeadOptions::default(), &control),
        Err(StorageError::Control(_))
    ));
    assert_eq!(control.budget.used(), 0);
    let control = Control::default();
    let head = ReadHead::open(dir.path(), &HeadOptions::default(), &control).unwrap().unwrap();
    assert_eq!(head.series_count(), 5000);
    assert!(control.budget.used() > 300_000);
    drop(head);
    assert_eq!(control.budget.used(), 0);
    control.interrupt.set();
    assert!(matches!(
        ReadHead::open(dir.path(), &HeadOptions::default(), &control),
        Err(StorageError::Control(_))
    ));
}

#[test]
fn the_newest_time_is_found_wherever_it_is() {
    let of = |files: &[(&str, &[Vec<u8>])]| {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "wal/00000009", &segment(&[series(&[(1, "a")]), samples(&[(1, 50, 1.0)])]));
        files.iter().for_each(|(name, records)| put(dir.path(), name, &segment(records)));
        newest_sample_time(dir.path(), &Control::default()).unwrap()
    };
    let at = |t: i64| samples(&[(1, t, 1.0), (1, t - 9, 1.0)]);
    let (mut whole, mut float, mut second) = (Vec::new(), Vec::new(), Vec::new());
    encode::histograms(&mut whole, &[entry(1, 70, Histogram::default())]);
    encode::float_histograms(&mut float, &[entry(1, 71, FloatHistogram::default())]);
    encode::samples_v2(&mut second, &[entry(1, 60, 1.0), entry(1, 72, 1.0), entry(1, 65, 1.0)]);
    for (files, want) in [
        (&[][..], 50),
        // A time in the future, in a segment that is not the last.
        (&[("wal/00000008", &[at(90), at(40)][..])], 90),
        (&[("wal/checkpoint.00000008/00000000", &[at(90)])], 90),
        // In front of the checkpoint nothing counts.
        (&[("wal/checkpoint.00000008/00000000", &[at(60)]), ("wal/00000008", &[at(90)])], 60),
        (&[("wbl/00000000", &[at(90)])], 90),
        (&[("wal/00000010", &[whole.clone()])], 70),
        (&[("wal/00000010", &[float.clone()])], 71),
        (&[("wal/00000010", &[second.clone()])], 72),
        (&[("wal/00000010", &[tombstone(1, 0, 99), marker(1, 99)])], 50),
    ] {
        assert_eq!(of(files), Some(want), "{files:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_chunk_file_cut_short_under_a_loaded_head_is_an_error_and_no_zeros() {
    let mut late: Vec<LateOrNot<'_>> = Vec::new();
    let many: Vec<(i64, f64)> = (0..120).map(|i| (i * 10, (i * i) as f64 * 0.1)).collect();
    for i in 0..40 {
        late.push((i + 1, false, &many));
    }
    let (file, _) = chunk_file(&late);
    assert!(file.len() > 3 * 4096);
    let names: Vec<(u64, String)> = (0..40).map(|i| (i + 1, format!("s{i:02}"))).collect();
    let refs: Vec<(u64, &str)> = names.iter().map(|(r, n)| (*r, n.as_str())).collect();
    let dir = log(&[series(&refs)], &[]);
    put(dir.path(), "chunks_head/000001", &file);
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    assert_eq!(read(&head, 0, 9999).len(), 40);
    let path = dir.path().join("chunks_head/000001");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let control = Control::default();
    let hints = SelectHints { start: 0, end: 9999, ..Default::default() };
    let set = head.select(&hints, &[], &mut SymbolTable::new(), &control).unwrap();
    let filter = TimeFilter::all_between(0, 9999);
    let read = |i| set.read(i, &filter, &mut SampleColumns::default(), &mut ReadStats::default());
    read(0).unwrap();
    let Err(StorageError::Corrupt(loss)) = read(39) else { panic!("no error") };
    assert_eq!((loss.file, loss.offset), (path, 0));
    assert_eq!(loss.reason, "the file was cut short while it was read; run the command again");
}

#[test]
fn errors_about_damage_name_the_place_and_what_to_do() {
    const LOG: &str = "; this release does not read around it, a later one will: query the blocks alone, each given \
                       with -d, or start Prometheus on a copy of the directory: it drops what the log has from here on";
    let good = segment(&[series(&[(1, "a")]), samples(&[(1, 10, 1.0)]), samples(&[(1, 20, 1.0)])]);
    let mut bad = good.clone();
    bad[10] ^= 1;
    let mut chunks = chunk_file(&[(1, false, &[(3, 1.0)]), (1, false, &[(5, 1.0)])]).0;
    chunks[40] ^= 1;
    let stored = |bytes: &[u8]| {
        let sum = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<String>();
        (sum(&bytes[3..7]), sum(&tsdbctl_wal::page::crc32c(&bytes[7..]).to_be_bytes()))
    };
    let first = 7 + usize::from(u16::from_be_bytes([bad[1], bad[2]]));
    let (was, is) = stored(&bad[..first]);
    let (chunk_was, chunk_is) = {
        let body = &chunks[8..];
        let end = 25 + 1 + usize::from(body[25]);
        let is = tsdbctl_wal::page::crc32c(&body[..end]);
        (u32::from_be_bytes(body[end..end + 4].try_into().unwrap()), is)
    };
    for (name, bytes, want) in [
        ("wal/00000001", &bad, format!("at byte 0: checksum mismatch: stored {was}, computed {is}{LOG}")),
        ("wbl/00000000", &bad, format!("at byte 0: checksum mismatch: stored {was}, computed {is}{LOG}")),
        ("wal/00000003", &good, "at byte 0: this segment is missing".to_string() + LOG),
        (
            "wal/checkpoint.00000001/00000000",
            &bad,
            format!(
                "at byte 0: checksum mismatch: stored {was}, computed {is}; this release does not read around it, a \
                 later one will: query the blocks alone, each given with -d; Prometheus does not start with this \
                 checkpoint either"
            ),
        ),
        (
            "chunks_head/000001",
            &chunks,
            format!(
                "at byte 8: checksum mismatch: stored {chunk_was:08x}, computed {chunk_is:08x}; this release does not \
                 read around it, a later one will: query a copy of the directory without chunks_head, whose samples \
                 are in wal and wbl too"
            ),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        if name.contains("checkpoint") {
            put(dir.path(), "wal/00000002", &good);
        } else {
            put(dir.path(), "wal/00000001", &good);
            put(dir.path(), "wbl/00000001", &good);
        }
        put(dir.path(), name, bytes);
        if name != "wal/00000003" && !name.contains("checkpoint") && name.starts_with("wal") {
            put(dir.path(), "wal/00000002", &good);
        }
        let error = open(dir.path(), &HeadOptions::default()).err().map(|e| e.to_string());
        let file = dir.path().join(if name == "wal/00000003" { "wal/00000002" } else { name });
        assert_eq!(error, Some(format!("{}: {want}", file.display())));
    }
}

#[test]
fn a_log_without_anything_else_is_read_as_an_agent_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "wal/checkpoint.00000003/00000000", &segment(&[series(&[(1, "a"), (2, "b")])]));
    put(dir.path(), "wal/00000004", &segment(&[samples(&[(1, 10, 1.0), (2, 10, 2.0)])]));
    put(dir.path(), "wal/00000005", &segment(&[series(&[(3, "c")]), samples(&[(1, 20, 3.0), (3, 20, 4.0)])]));
    assert_eq!(
        everything(dir.path()),
        found(&[("a", &[(10, 1.0), (20, 3.0)]), ("b", &[(10, 2.0)]), ("c", &[(20, 4.0)])])
    );
    assert_eq!(newest_sample_time(dir.path(), &Control::default()).unwrap(), Some(20));
}

#[test]
fn a_series_that_is_silent_in_the_range_is_found_if_a_chunk_reaches_over_it() {
    let steady = |name: u64, gaps: &'static [i64]| {
        let times = (0..1200).map(|i| i * 15_000).filter(move |t| !gaps.contains(&(t / 15_000)));
        times.map(move |t| (name, t, 1.0))
    };
    // The first chunks end at 1,800 s; ranges of two hours end at 7,200 s. The gaps lie around these and elsewhere.
    const GAPS: [i64; 8] = [1, 60, 118, 119, 120, 121, 479, 480];
    let mut all: Vec<(u64, i64, f64)> = steady(1, &GAPS).chain(steady(2, &[])).collect();
    all.extend([(3, 10, 1.0), (3, 7_100_000, 1.0), (3, 7_300_000, 1.0)]);
    all.sort_by_key(|s| s.1);
    let mut records = vec![series(&[(1, "gaps"), (2, "steady"), (3, "rare")])];
    records.extend(all.chunks(100).map(samples));
    let dir = log(&records, &[]);
    let whole = open(dir.path(), &HeadOptions::default()).unwrap();
    let names = |head: &ReadHead, start: i64, end: i64| -> Vec<String> {
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start, end, series_only: true, ..Default::default() };
        let set = head.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
        (0..set.len()).map(|i| symbols.labels(set.labels(i)).get("__name__").to_string()).collect()
    };
    let mut silent = 0;
    for gap in GAPS.iter().copied().chain([300, 475]) {
        for (start, end) in [
            (gap * 15_000 - 14_000, gap * 15_000 + 14_000),
            (gap * 15_000 - 1, gap * 15_000 + 1),
            (gap * 15_000 + 1, gap * 15_000 + 2),
            (gap * 15_000 - 10, gap * 15_000 - 5),
        ] {
            let options = HeadOptions { mint: start, maxt: end, ..Default::default() };
            let narrow = open(dir.path(), &options).unwrap();
            let want = names(&whole, start, end);
            assert_eq!(names(&narrow, start, end), want, "{start} to {end}");
            silent += 3 - want.len();
        }
    }
    assert!(silent > 20, "{silent}");
    assert_eq!(names(&whole, 20_000_000, 30_000_000), Vec::<String>::new());
}

#[test]
fn labels_are_listed_if_any_series_has_samples_in_the_range() {
    let dir = log(&[series(&[(1, "a"), (2, "b")]), samples(&[(1, 10, 1.0), (2, 500, 2.0)])], &[]);
    let only = [vec![Matcher::equal("__name__", "a")]];
    let values = |mint, maxt| {
        let options = HeadOptions { selections: &only, mint, maxt, ..Default::default() };
        let head = open(dir.path(), &options).unwrap();
        head.label_values("__name__", &only[0], &Control::default()).unwrap()
    };
    assert_eq!(values(100, 200), ["a"]);
    assert_eq!(values(501, 600), Vec::<String>::new());
    assert_eq!(values(0, 9), Vec::<String>::new());
}

#[test]
fn a_budget_holds_for_labels_of_series_without_samples_too() {
    let names: Vec<String> = (0..50_000).map(|i| format!("name_{i}")).collect();
    let refs: Vec<(u64, &str)> =
        names.iter().enumerate().map(|(i, n)| (i as u64 * 4096, n.as_str())).collect();
    let records: Vec<Vec<u8>> = refs.chunks(1000).map(series).collect();
    let dir = log(&records, &[]);
    // The labels take some 3 MB, and every page of the table of references has one series.
    for (limit, fits) in [(100 << 20, false), (2 << 30, true)] {
        let control = Control::new(Interrupt::default(), Budget::new(limit), None);
        let head = ReadHead::open(dir.path(), &HeadOptions::default(), &control);
        assert_eq!(head.is_ok(), fits);
        drop(head);
        assert_eq!(control.budget.used(), 0);
    }
}

#[test]
fn a_histogram_of_a_schema_that_is_not_known_is_told_as_in_a_block() {
    let odd = Histogram { schema: 60, count: 1, ..Histogram::default() };
    let mut histogram = Vec::new();
    encode::histograms(&mut histogram, &[entry(1, 20, odd)]);
    let dir = log(&[series(&[(1, "a")]), histogram, samples(&[(1, 30, 3.0)])], &[]);
    let Err(StorageError::Corrupt(loss)) = open(dir.path(), &HeadOptions::default()) else {
        panic!("no error")
    };
    assert_eq!(loss.file, dir.path().join("wal/00000000"));
    assert!(loss.offset > 0 && loss.reason.starts_with("a histogram of schema 60"), "{}", loss.reason);
    let head = open(dir.path(), &HeadOptions { tolerant: true, ..Default::default() }).unwrap();
    assert_eq!(read(&head, 0, 99), found(&[("a", &[(30, 3.0)])]));
    assert_eq!(live(dir.path(), i64::MIN), found(&[("a", &[(30, 3.0)])]));
    assert_eq!(head.losses().len(), 1);
}

#[test]
fn times_at_the_ends_of_all_and_labels_without_measure_are_read() {
    let ends = [i64::MIN + 1, i64::MIN / 4 + 5, -5, 0, i64::MAX / 4 - 5, i64::MAX];
    let floats = |step: i64| -> Vec<(u64, i64, f64)> {
        ends.iter().map(|t| (1, t.saturating_add(step), *t as f64)).collect()
    };
    let h = Histogram { count: 1, sum: 1.0, ..Histogram::default() };
    let (mut histograms, mut v2) = (Vec::new(), Vec::new());
    encode::histograms(&mut histograms, &ends.map(|t| entry(2, t, h.clone())));
    encode::samples_v2(&mut v2, &ends.map(|t| SampleEntry { start_timestamp_ms: t, ..entry(3, t, 1.0) }));
    let pairs: Vec<(String, String)> = (0..1000)
        .map(|i| (format!("label_{i:04}"), if i == 7 { "x".repeat(3 << 20) } else { i.to_string() }))
        .chain([("__name__".to_string(), "many".to_string())])
        .collect();
    let many = Labels::from_pairs(pairs);
    let mut wide = Vec::new();
    encode::series(&mut wide, [(4, &many)]);
    let dir = log(
        &[
            series(&[(1, "a"), (2, "b"), (3, "c")]),
            wide,
            samples(&floats(0)),
            histograms,
            v2,
            samples(&[(4, 5, 5.0)]),
            tombstone(1, i64::MIN, -6),
            tombstone(2, 1, i64::MAX),
        ],
        &[samples(&floats(-1)), samples(&floats(1))],
    );
    let low = i64::MIN / 4 + 5;
    let high = i64::MAX / 4 - 5;
    let head = open(dir.path(), &HeadOptions::default()).unwrap();
    assert_eq!(head.times(), Some((i64::MIN, i64::MAX)));
    assert_eq!(newest_sample_time(dir.path(), &Control::default()).unwrap(), Some(i64::MAX));
    let got = read(&head, i64::MIN, i64::MAX);
    let times = |name: &str| -> Vec<i64> {
        got.iter().filter(|(n, _)| n == name).flat_map(|(_, s)| s.iter().map(|(t, _)| *t)).collect()
    };
    assert_eq!(times("a"), [-5, -4, -1, 0, 1, high - 1, high, high + 1]);
    assert_eq!(times("b"), [low, -5, 0]);
    assert_eq!(times("c"), [low, -5, 0, high]);
    assert_eq!(times("many"), [5]);
}
