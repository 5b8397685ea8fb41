//! Loading into a live head: what else it finds than samples, what it puts aside, what it holds on to.

#![allow(
    clippy::disallowed_methods,
    clippy::type_complexity,
    reason = "tests make and read their own files, listed in tuples"
)]

mod loaded;

use std::path::Path;

use loaded::{disk, load_in, options};
use tempfile::TempDir;
use tsdbctl_chunk::{AppenderOptions, SeriesAppender};
use tsdbctl_head::live::load::{Loaded, load};
use tsdbctl_head::live::sample::Piece;
use tsdbctl_head::live::{Head, LiveOptions, SeriesId};
use tsdbctl_head::{HeadOptions, ReadHead, mapped};
use tsdbctl_model::{Labels, SymbolTable};
use tsdbctl_storage::control::ControlError;
use tsdbctl_storage::{
    Budget, Control, Interrupt, Querier, ReadStats, SelectHints, StorageError, TimeFilter,
};
use tsdbctl_wal::record::{MarkerEntry, SampleEntry, TombstoneEntry, encode};
use tsdbctl_wal::{Compression, PageWriter};

type Samples = Vec<(String, Vec<(i64, f64)>)>;

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

fn markers(list: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let list: Vec<_> =
        list.iter().map(|(series, chunk)| MarkerEntry { series: *series, chunk: *chunk }).collect();
    encode::markers(&mut out, &list);
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

fn log(records: &[Vec<u8>], late: &[Vec<u8>]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "wal/00000000", &segment(records));
    put(dir.path(), "wbl/00000000", &segment(late));
    dir
}

/// A file of head chunks: series, whether out of order, samples. And the references of the chunks.
fn chunk_file(number: u64, chunks: &[(u64, bool, Vec<(i64, f64)>)]) -> (Vec<u8>, Vec<u64>) {
    let (mut out, mut refs) = (Vec::new(), Vec::new());
    mapped::write_file_header(&mut out);
    for (series, late, samples) in chunks {
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        samples.iter().for_each(|(t, v)| appender.append_float(*t, *v, 0).unwrap());
        let chunk = appender.into_chunks().remove(0);
        refs.push(number << 32 | out.len() as u64);
        mapped::write_chunk(&mut out, *series, (chunk.mint, chunk.maxt), chunk.encoding, *late, &chunk.data);
    }
    (out, refs)
}

fn found(head: &Loaded) -> Samples {
    let of = |(labels, c): (Labels, tsdbctl_chunk::SampleColumns)| {
        let samples = c.floats.t.iter().copied().zip(c.floats.v.iter().copied()).collect();
        (labels.get("__name__").to_string(), samples)
    };
    loaded::series(head).into_iter().map(of).collect()
}

fn expected(list: &[(&str, &[(i64, f64)])]) -> Samples {
    list.iter().map(|(n, s)| (n.to_string(), s.to_vec())).collect()
}

fn names(dir: &Path, part: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir.join(part)) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn losses(head: &Loaded, dir: &Path) -> Vec<(String, u64)> {
    let short = |p: &Path| p.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
    head.report.losses.iter().map(|l| (short(&l.file), l.offset)).collect()
}

#[test]
fn nothing_is_an_empty_head() {
    let dir = tempfile::tempdir().unwrap();
    let head = load_in(&dir.path().join("data"), &options(), i64::MIN);
    assert_eq!((head.index.len(), head.next_ref, head.last_segment), (0, 1, None));
    assert_eq!((head.times, head.out_of_order_times), ((i64::MAX, i64::MIN), (i64::MAX, i64::MIN)));
}

#[test]
fn the_next_reference_is_higher_than_any_that_was_met() {
    let high = 1000;
    let exemplar = {
        let mut out = Vec::new();
        encode::exemplars(&mut out, &[entry(high, 10, (0.5, Labels::from_pairs([("trace_id", "x")])))]);
        out
    };
    let metadata = {
        let mut out = Vec::new();
        encode::metadata(&mut out, [(high, 1, "", "Help.")]);
        out
    };
    let histogram = {
        let mut out = Vec::new();
        encode::histograms(&mut out, &[entry(high, 10, tsdbctl_model::Histogram::default())]);
        out
    };
    for (what, record, late) in [
        ("series", series(&[(high, "b")]), false),
        ("samples of an unknown series", samples(&[(high, 10, 1.0)]), false),
        ("samples that blocks have", samples(&[(high, 1, 1.0)]), false),
        ("a tombstone", tombstone(high, 1, 2), false),
        ("an exemplar", exemplar, false),
        ("metadata", metadata, false),
        ("a histogram", histogram, false),
        ("samples out of order", samples(&[(high, 10, 1.0)]), true),
        ("a marker", markers(&[(high, 77)]), true),
    ] {
        let mut records = vec![series(&[(7, "a")]), samples(&[(7, 10, 1.0)])];
        let mut out_of_order = Vec::new();
        if late { &mut out_of_order } else { &mut records }.push(record);
        let dir = log(&records, &out_of_order);
        assert_eq!(load_in(dir.path(), &options(), 5).next_ref, high + 1, "{what}");
    }
    let dir = log(&[series(&[(7, "a")]), samples(&[(7, 10, 1.0)])], &[]);
    put(dir.path(), "chunks_head/000001", &chunk_file(1, &[(high, false, vec![(3, 1.0)])]).0);
    let head = load_in(dir.path(), &options(), 5);
    assert_eq!((head.next_ref, head.report.unclaimed_chunks), (high + 1, 0), "a chunk, which is in a block");
    let head = load_in(dir.path(), &options(), 2);
    assert_eq!((head.next_ref, head.report.unclaimed_chunks), (high + 1, 1));
    // What can be no reference is none.
    let dir = log(&[series(&[(7, "a")]), samples(&[(1 << 40, 10, 1.0), (u64::MAX, 10, 1.0)])], &[]);
    let head = load_in(dir.path(), &options(), 5);
    assert_eq!((head.next_ref, head.report.unknown_series), (8, 2));
}

#[test]
fn references_that_are_no_live_series_are_told_of() {
    let dir = log(
        &[
            series(&[(1, "a"), (2, "b"), (3, "empty")]),
            samples(&[(1, 10, 1.0), (2, 10, 2.0)]),
            series(&[(4, "a"), (5, "a"), (6, "b"), (7, "a")]),
            samples(&[(4, 30, 3.0), (4, 20, 9.0)]),
            tombstone(2, i64::MIN, i64::MAX),
            tombstone(3, 1, 2),
        ],
        // A checkpoint says nothing about when these can go.
        &[samples(&[(7, 15, 4.0)])],
    );
    let head = load_in(dir.path(), &options(), i64::MIN);
    assert_eq!(found(&head), expected(&[("a", &[(10, 1.0), (15, 4.0), (30, 3.0)])]));
    let mut retired: Vec<_> = head.retired.iter().map(|(r, until)| (*r, until.last_t)).collect();
    retired.sort_unstable();
    assert_eq!(retired, [(3, i64::MIN), (4, 30), (5, i64::MIN), (7, i64::MAX)]);
    assert_eq!((head.index.len(), head.tombstones.len(), head.times), (1, 0, (10, 30)));
    assert_eq!((head.report.samples, head.report.unknown_series), (4, 0));
}

#[test]
fn chunks_of_a_second_reference_follow_those_of_the_first() {
    let at = |from: i64, v: f64| -> Vec<(i64, f64)> { (from..from + 3).map(|t| (t, v)).collect() };
    let (file, _) = chunk_file(
        1,
        &[
            (1, false, at(10, 1.0)),
            (2, false, at(20, 2.0)),
            (1, false, at(13, 1.5)),
            // Over the samples that the log has of the first reference.
            (3, false, at(31, 3.0)),
            (4, false, at(50, 4.0)),
        ],
    );
    let dir = log(
        &[
            series(&[(1, "a")]),
            series(&[(2, "a")]),
            samples(&[(1, 12, 9.0), (2, 21, 9.0), (2, 30, 5.0), (1, 32, 5.0)]),
            series(&[(3, "a")]),
            samples(&[(3, 33, 9.0), (3, 40, 6.0), (2, 39, 9.0)]),
        ],
        &[],
    );
    put(dir.path(), "chunks_head/000001", &file);
    let all: Vec<(i64, f64)> = [at(10, 1.0), at(13, 1.5), at(20, 2.0)].concat();
    let all = [all, vec![(30, 5.0), (31, 3.0), (32, 5.0), (33, 3.0), (40, 6.0)]].concat();
    for attempt in 0..3 {
        let head = load_in(dir.path(), &options(), i64::MIN);
        let got = found(&head);
        let times = |s: &Samples| s[0].1.iter().map(|(t, _)| *t).collect::<Vec<_>>();
        assert_eq!(times(&got), times(&expected(&[("a", &all)])), "{attempt}");
        assert_eq!((head.report.unclaimed_chunks, head.report.losses.len()), (1, 0));
        head.files.flush().unwrap();
    }
}

#[test]
fn what_lies_behind_a_damaged_chunk_is_put_aside_and_comes_from_the_log() {
    let chunk = |series: u64, i: i64| {
        (series, false, (0..10).map(|k| (i * 100 + k * 10, (i * 10 + k) as f64)).collect::<Vec<_>>())
    };
    let all: Vec<(i64, f64)> = (0..60).map(|k| (k * 10, k as f64)).collect();
    let records: Vec<Vec<u8>> = std::iter::once(series(&[(1, "a")]))
        .chain(all.iter().map(|(t, v)| samples(&[(1, *t, *v)])))
        .collect();
    let files = [
        chunk_file(1, &[chunk(1, 0), chunk(1, 1)]),
        chunk_file(2, &[chunk(1, 2), chunk(1, 3)]),
        chunk_file(3, &[chunk(1, 4)]),
    ];
    let at = |file: usize, chunk: usize| (files[file].1[chunk] & 0xffff_ffff) as usize;
    type Change = Box<dyn Fn(&Path)>;
    let flip = |file: usize, at: usize| -> Change {
        let mut bytes = files[file].0.clone();
        bytes[at] ^= 0x40;
        Box::new(move |dir| put(dir, &format!("chunks_head/00000{}", file + 1), &bytes))
    };
    let cut = |file: usize, length: usize| -> Change {
        let bytes = files[file].0[..length].to_vec();
        Box::new(move |dir| put(dir, &format!("chunks_head/00000{}", file + 1), &bytes))
    };
    let cases: Vec<(&str, Change, Vec<(&str, u64)>, Vec<&str>, usize)> = vec![
        ("nothing", Box::new(|_| {}), vec![], vec![], 3),
        (
            "the second chunk of the second file",
            flip(1, at(1, 1) + 30),
            vec![("chunks_head/000002", at(1, 1) as u64)],
            vec!["chunks_head-000002-from-", "chunks_head-000003"],
            2,
        ),
        (
            "a header that says another length",
            flip(0, at(0, 0) + 25),
            vec![("chunks_head/000001", 8)],
            vec!["chunks_head-000001-from-", "chunks_head-000002", "chunks_head-000003"],
            1,
        ),
        (
            "no file header",
            flip(1, 0),
            vec![("chunks_head/000002", 0)],
            vec!["chunks_head-000002", "chunks_head-000003"],
            1,
        ),
        (
            "a file that is missing",
            Box::new(|dir| std::fs::remove_file(dir.join("chunks_head/000002")).unwrap()),
            vec![("chunks_head/000002", 0)],
            vec!["chunks_head-000003"],
            1,
        ),
        ("a torn end", cut(2, files[2].0.len() - 3), vec![], vec!["chunks_head-000003-from-"], 3),
        (
            "a torn end that is not the end",
            cut(0, files[0].0.len() - 3),
            vec![("chunks_head/000001", at(0, 1) as u64)],
            vec!["chunks_head-000001-from-", "chunks_head-000002", "chunks_head-000003"],
            1,
        ),
        ("an empty last file", cut(2, 0), vec![], vec![], 2),
        (
            "chunks of a series that overlap",
            Box::new(move |dir| put(dir, "chunks_head/000003", &chunk_file(3, &[chunk(1, 3)]).0)),
            vec![("chunks_head/000003", 8)],
            vec!["chunks_head-000003-from-"],
            3,
        ),
    ];
    for (what, change, want_losses, want_aside, left) in cases {
        let dir = log(&records, &[]);
        for (i, (bytes, _)) in files.iter().enumerate() {
            put(dir.path(), &format!("chunks_head/00000{}", i + 1), bytes);
        }
        change(dir.path());
        let before: usize = names(dir.path(), "chunks_head")
            .iter()
            .map(|n| std::fs::read(dir.path().join("chunks_head").join(n)).unwrap().len())
            .sum();
        let head = load_in(dir.path(), &options(), i64::MIN);
        assert_eq!(found(&head), expected(&[("a", &all)]), "{what}");
        let want: Vec<(String, u64)> = want_losses.iter().map(|(f, o)| (f.to_string(), *o)).collect();
        assert_eq!(losses(&head, dir.path()), want, "{what}");
        let aside = names(dir.path(), "quarantine");
        assert_eq!(aside.len(), want_aside.len(), "{what}: {aside:?}");
        assert!(aside.iter().zip(&want_aside).all(|(a, w)| a.starts_with(w)), "{what}: {aside:?}");
        let on_disk = |part: &str| -> usize {
            let of = |n: &String| std::fs::read(dir.path().join(part).join(n)).unwrap().len();
            names(dir.path(), part).iter().map(of).sum()
        };
        assert_eq!(names(dir.path(), "chunks_head").len(), left, "{what}");
        assert_eq!(on_disk("chunks_head") + on_disk("quarantine"), before, "{what}: not a byte is gone");
        // New files follow what is left, and then nothing is wrong any more.
        for attempt in 0..2 {
            let id = SeriesId(0);
            head.shards[0].lock().unwrap().seal(id, &head.files);
            head.files.flush().unwrap();
            let again = load_in(dir.path(), &options(), i64::MIN);
            assert_eq!(found(&again), expected(&[("a", &all)]), "{what}, {attempt}");
            assert!(again.report.losses.is_empty(), "{what}: {:?}", again.report.losses);
            assert_eq!(names(dir.path(), "quarantine"), aside, "{what}");
        }
    }
}

#[test]
fn a_marker_counts_only_if_its_chunks_were_found() {
    let late = |from: i64| -> Vec<(u64, i64, f64)> { (0..4).map(|i| (1, from + i, i as f64)).collect() };
    let chunk = |from: i64| (1, true, late(from).iter().map(|(_, t, v)| (*t, *v + 0.5)).collect::<Vec<_>>());
    let (file, refs) = chunk_file(5, &[chunk(100), (1, false, vec![(1, 1.0)]), chunk(200)]);
    for (what, marked, want) in [
        ("found", vec![(1, refs[0])], (2, 1)),
        ("a chunk in order", vec![(1, refs[1])], (3, 1)),
        ("in front of the last chunk, but not there", vec![(1, refs[1] + 4)], (3, 1)),
        ("behind the last chunk", vec![(1, refs[2] + 4)], (3, 1)),
        ("both found", vec![(1, refs[0]), (1, refs[2])], (2, 1)),
        ("one of two found", vec![(1, refs[0]), (1, refs[2] + 4)], (3, 1)),
        ("in a file that is gone because blocks have it", vec![(1, 4 << 32 | 8)], (2, 1)),
        ("the first sample", vec![(1, 0)], (2, 5)),
        ("of a series that is not known", vec![(2, refs[0])], (2, 5)),
    ] {
        let dir = log(
            &[series(&[(1, "a")]), samples(&[(1, 1000, 1.0)])],
            &[samples(&late(100)), markers(&marked), samples(&[(1, 300, 0.25)])],
        );
        put(dir.path(), "chunks_head/000005", &file);
        let head = load_in(dir.path(), &options(), i64::MIN);
        let shard = head.shards[0].lock().unwrap();
        let mut pieces = Vec::new();
        shard.pieces(SeriesId(0), 100, 300, u64::MAX, &mut pieces);
        // Two chunks are in the file. A buffer of which the chunk is not there is put into one more.
        let (mut mapped, mut in_memory) = (0, 0);
        for piece in &pieces {
            match piece {
                Piece::Mapped { out_of_order: true, .. } => mapped += 1,
                Piece::Memory { chunk, out_of_order: true, .. } => in_memory += chunk.samples,
                _ => {}
            }
        }
        assert_eq!((mapped, in_memory), want, "{what}");
        drop(shard);
        assert_eq!(head.out_of_order_times, (100, 300), "{what}");
        assert_eq!(found(&head)[0].1.len(), 11, "{what}");
    }
}

#[test]
fn chunks_of_late_samples_that_a_crash_took_are_made_once() {
    let late: Vec<(u64, i64, f64)> = (0..100).map(|i| (1, 1000 - i, i as f64)).collect();
    let dir = log(&[series(&[(1, "a")]), samples(&[(1, 5000, 1.0)])], &[samples(&late)]);
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let head = load_in(dir.path(), &options(), i64::MIN);
        assert_eq!(found(&head)[0].1.len(), 101);
        head.files.flush().unwrap();
        let of = |n: &String| std::fs::read(dir.path().join("chunks_head").join(n)).unwrap().len();
        sizes.push(names(dir.path(), "chunks_head").iter().map(of).sum::<usize>());
    }
    assert!(sizes[0] > 100 && sizes[1] == sizes[0] && sizes[2] == sizes[0], "{sizes:?}");
}

#[test]
fn long_records_and_long_segments_are_read_in_parts() {
    let many: Vec<(u64, String)> = (1..=30_000).map(|i| (i, format!("metric_number_{i:05}"))).collect();
    let refs: Vec<(u64, &str)> = many.iter().map(|(r, n)| (*r, n.as_str())).collect();
    // Not packed: one record of 1.5 MB, over the border between two parts; then many of 30 kB.
    let mut records = vec![series(&refs)];
    for k in 0..10 {
        let all: Vec<(u64, i64, f64)> = (1..=30_000).map(|r| (r, k * 1000, r as f64 + k as f64)).collect();
        records.extend(all.chunks(2000).map(samples));
    }
    let mut writer = PageWriter::new(Compression::None, 0);
    let mut starts = Vec::new();
    for record in &records {
        starts.push(writer.offset());
        writer.append(record);
    }
    let whole = writer.take();
    assert!(whole.len() > 4 << 20);
    let count = |bytes: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "wal/00000003", bytes);
        put(dir.path(), "wal/00000004", &segment(&[samples(&[(1, 99_000, 1.0)])]));
        let head = load_in(dir.path(), &LiveOptions::default(), i64::MIN);
        let damage: Vec<u64> = head.wal_damage.iter().map(|d| d.offset).collect();
        (head.index.len(), head.report.samples, damage)
    };
    assert_eq!(count(&whole), (30_000, 300_001, vec![]));
    // Damage costs its record, wherever it lies.
    for record in [1, 35, 149] {
        let mut damaged = whole.clone();
        damaged[starts[record] + 100] ^= 1;
        let (series, samples, damage) = count(&damaged);
        assert_eq!((series, damage.len()), (30_000, 1), "{record}");
        assert_eq!(samples, 298_001, "{record}");
    }
}

#[test]
fn chunk_files_are_read_in_parts() {
    let noise = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12) as f64;
    let chunks: Vec<(u64, bool, Vec<(i64, f64)>)> = (0..1500u64)
        .map(|i| (1 + i % 7, false, (0..100).map(|k| ((i * 1000 + k) as i64, noise(i * 100 + k))).collect()))
        .collect();
    let (file, refs) = chunk_file(1, &chunks);
    assert!(file.len() > 1 << 20);
    let records = vec![series(&[(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f"), (7, "g")])];
    let dir = log(&records, &[]);
    let count = |bytes: &[u8]| {
        put(dir.path(), "chunks_head/000001", bytes);
        let head = load_in(dir.path(), &options(), i64::MIN);
        (
            found(&head).iter().map(|(_, s)| s.len()).sum::<usize>(),
            head.report.losses.first().map(|l| l.offset),
        )
    };
    assert_eq!(count(&file), (150_000, None));
    let mut padded = file.clone();
    padded.resize(file.len() + (3 << 20), 0);
    assert_eq!(count(&padded), (150_000, None));
    for bad in [0, 700, 1300, 1499] {
        let mut damaged = file.clone();
        let at = (refs[bad] & 0xffff_ffff) as usize;
        damaged[at + 60] ^= 1;
        let offset = (bad < 1499).then_some(at as u64);
        assert_eq!(count(&damaged), (bad * 100, offset), "{bad}");
    }
}

/// A snapshot of series 1, "a", with this open chunk.
fn put_snapshot(dir: &Path, place: &str, samples: &[(i64, f64)]) {
    let mut record = vec![1];
    record.extend_from_slice(&1u64.to_be_bytes());
    encode::labels(&mut record, &labels("a"));
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    samples.iter().for_each(|(t, v)| appender.append_float(*t, *v, 0).unwrap());
    let chunk = appender.into_chunks().remove(0);
    record.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
    record.extend_from_slice(&chunk.mint.to_be_bytes());
    record.extend_from_slice(&chunk.maxt.to_be_bytes());
    record.push(chunk.encoding as u8);
    tsdbctl_wal::cursor::put_string(&mut record, &chunk.data);
    record.resize(record.len() + 64, 0);
    put(dir, &format!("chunk_snapshot.{place}/00000000"), &segment(&[record, vec![2, 1, 1]]));
}

#[test]
fn of_the_open_chunk_of_a_snapshot_what_is_not_in_files_is_kept() {
    type Chunk = &'static [(i64, f64)];
    let open: Chunk = &[(10, 1.0), (11, 2.0), (12, 3.0), (13, 4.0)];
    // What a file has, and what there is then.
    let cases: &[(Chunk, Chunk)] = &[
        (&[(9, 0.0)], &[(9, 0.0), (10, 1.0), (11, 2.0), (12, 3.0), (13, 4.0)]),
        (&[(10, 1.0), (11, 2.0)], open),
        (open, open),
        (
            &[(10, 1.0), (11, 2.0), (12, 3.0), (13, 4.0), (14, 5.0)],
            &[(10, 1.0), (11, 2.0), (12, 3.0), (13, 4.0), (14, 5.0)],
        ),
    ];
    for (written, all) in cases {
        let dir = log(&[series(&[(1, "a")])], &[]);
        put_snapshot(dir.path(), "000000.0000000000", open);
        put(dir.path(), "chunks_head/000001", &chunk_file(1, &[(1, false, written.to_vec())]).0);
        let head = load_in(dir.path(), &options(), i64::MIN);
        assert_eq!(found(&head), expected(&[("a", all)]), "{written:?}");
        assert_eq!(head.times, (all[0].0, all[all.len() - 1].0));
    }
}

#[test]
fn chunks_that_came_in_order_but_lie_elsewhere_go_with_the_others() {
    let (file, _) =
        chunk_file(1, &[(1, false, vec![(100, 1.0), (110, 1.0)]), (2, false, vec![(20, 2.0), (30, 2.0)])]);
    let dir = log(&[series(&[(1, "a"), (2, "a")])], &[]);
    put(dir.path(), "chunks_head/000001", &file);
    let (head, _) = Head::open(disk(), dir.path(), options(), i64::MIN, &Control::default()).unwrap();
    let times = || head.shard_of(SeriesId(0)).lock().unwrap().times(SeriesId(0));
    assert_eq!(times(), Some((20, 110)));
    head.truncate_memory(30).unwrap();
    assert_eq!(times(), Some((20, 110)));
    head.truncate_memory(31).unwrap();
    assert_eq!(times(), Some((100, 110)));
}

#[test]
fn snapshots_are_used_only_where_they_are_made_and_what_is_unfinished_goes() {
    let dir = log(&[series(&[(1, "a")]), samples(&[(1, 10, 1.0)])], &[]);
    for name in ["chunk_snapshot.000000.0000000000.tmp", "wal/checkpoint.00000003.tmp"] {
        put(dir.path(), &format!("{name}/00000000"), b"half");
    }
    // It has another value than the log.
    put_snapshot(dir.path(), "000000.0000000000", &[(10, 7.0)]);
    let with = load_in(dir.path(), &options(), i64::MIN);
    assert_eq!(found(&with), expected(&[("a", &[(10, 7.0)])]));
    let without = LiveOptions { snapshot_on_close: false, ..options() };
    assert_eq!(found(&load_in(dir.path(), &without, i64::MIN)), expected(&[("a", &[(10, 1.0)])]));
    assert_eq!(names(dir.path(), "wal"), ["00000000"]);
    // Where head chunks were put aside, only the log in front of the snapshot may have what they had.
    put(dir.path(), "chunks_head/000001", &chunk_file(1, &[(1, false, vec![(3, 1.0)])]).0[..40]);
    assert_eq!(found(&load_in(dir.path(), &options(), i64::MIN)), expected(&[("a", &[(10, 1.0)])]));
    // So it is at the next start, if this one ends before the files are filled anew.
    assert_eq!(found(&load_in(dir.path(), &options(), i64::MIN)), expected(&[("a", &[(10, 1.0)])]));
}

#[test]
fn a_snapshot_hides_nothing_of_a_second_reference() {
    let at = |from: i64, v: f64| -> Vec<(i64, f64)> { (from..from + 3).map(|t| (t, v)).collect() };
    let (file, _) = chunk_file(1, &[(1, false, at(10, 1.0)), (2, false, at(20, 2.0))]);
    let dir = log(
        &[
            series(&[(1, "a")]),
            series(&[(2, "a"), (3, "b")]),
            samples(&[(2, 22, 2.0), (2, 30, 5.0), (3, 30, 6.0)]),
        ],
        &[],
    );
    std::fs::remove_dir_all(dir.path().join("wbl")).unwrap();
    put(dir.path(), "chunks_head/000001", &file);
    let all = [at(10, 1.0), at(20, 2.0), vec![(30, 5.0)]].concat();
    for (min_valid_time, snapshots, from) in [(i64::MIN, 0, 10), (10, 0, 10), (31, 1, i64::MAX)] {
        for attempt in 0..2 {
            let control = Control::default();
            let (head, _) = Head::open(disk(), dir.path(), options(), min_valid_time, &control).unwrap();
            head.close().unwrap();
            drop(head);
            let got = found(&load_in(dir.path(), &options(), min_valid_time));
            let left: Vec<(i64, f64)> = all.iter().copied().filter(|s| s.0 >= from).collect();
            let want: Samples =
                if left.is_empty() { vec![] } else { expected(&[("a", &left), ("b", &[(30, 6.0)])]) };
            assert_eq!(got, want, "{min_valid_time} {attempt}");
            let there = names(dir.path(), "").iter().filter(|n| n.starts_with("chunk_snapshot.")).count();
            assert_eq!(there, snapshots, "{min_valid_time} {attempt}");
        }
    }
}

#[test]
fn exemplars_and_metadata_come_with_their_series() {
    let trace = |id: &str| Labels::from_pairs([("trace_id", id)]);
    let mut exemplars = Vec::new();
    encode::exemplars(
        &mut exemplars,
        &[entry(1, 20, (1.5, trace("y"))), entry(3, 20, (1.5, trace("z"))), entry(9, 20, (1.5, trace("z")))],
    );
    let mut metadata = Vec::new();
    encode::metadata(&mut metadata, [(3, 2, "bytes", "Help."), (9, 1, "", "")]);
    let dir = log(&[series(&[(1, "a"), (3, "a")]), exemplars, metadata, samples(&[(1, 10, 1.0)])], &[]);
    let head = load_in(dir.path(), &options(), i64::MIN);
    assert_eq!(head.metadata.len(), 1);
    assert_eq!(&*head.metadata[&SeriesId(0)].unit, "bytes");
    // The same exemplar under both references, and that of nobody.
    assert!(format!("{:?}", head.exemplars).contains("Slot(0)"));
    assert!(!format!("{:?}", head.exemplars).contains("Other"));
}

#[test]
fn over_the_memory_limit_chunks_are_sealed_and_then_the_limit_is_told() {
    let many: Vec<(u64, String)> = (1..=4000).map(|i| (i, format!("m{i:05}"))).collect();
    let refs: Vec<(u64, &str)> = many.iter().map(|(r, n)| (*r, n.as_str())).collect();
    let mut records = vec![series(&refs)];
    for k in 0..90i64 {
        let value = |r: u64| ((r * 7919 + k as u64 * 104_729) % 100_003) as f64 * 0.37;
        let all: Vec<(u64, i64, f64)> = (1..=4000).map(|r| (r, k * 1000, value(r))).collect();
        records.extend(all.chunks(500).map(samples));
    }
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "wal/00000000", &segment(&records));
    let open = |limit: u64, budget: u64| {
        let _ = std::fs::remove_dir_all(dir.path().join("chunks_head"));
        let control = Control::new(Interrupt::default(), Budget::new(budget), None);
        let options = LiveOptions { memory_limit: limit, ..LiveOptions::default() };
        let done = load(&disk(), dir.path(), &options, i64::MIN, &control);
        assert_eq!(control.budget.used(), 0, "what loading took is given back");
        done
    };
    let free = open(u64::MAX, u64::MAX).unwrap();
    let used = |head: &Loaded| head.shards.iter().map(|s| s.lock().unwrap().bytes()).sum::<usize>();
    assert_eq!(free.report.samples, 360_000);
    let tight = open(14 << 20, u64::MAX).unwrap();
    assert_eq!(tight.report.samples, 360_000);
    assert!(used(&tight) <= used(&free));
    for (limit, budget) in [(5 << 20, u64::MAX), (u64::MAX, 5 << 20)] {
        let Err(StorageError::Control(ControlError::Memory { what, limit, .. })) = open(limit, budget) else {
            panic!("no error")
        };
        assert_eq!((what, limit), ("head", 5 << 20));
    }
}

/// A generator of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

#[test]
fn a_damaged_directory_is_opened_with_all_that_can_be_read_and_is_whole_afterwards() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let order = |from: i64, n: i64| -> Vec<Vec<u8>> {
        (from..from + n)
            .map(|k| samples(&[(1, k * 10, k as f64), (2, k * 10, 0.5), (3, k * 10 + 1, 1.0)]))
            .collect()
    };
    let late = |from: i64, n: i64| -> Vec<Vec<u8>> {
        (from..from + n).map(|k| samples(&[(1, 997 - k * 10, 7.0), (2, 998 - k * 10, 8.0)])).collect()
    };
    let first = [vec![series(&[(1, "a"), (2, "b"), (3, "c")])], order(0, 60)].concat();
    let mut writer = PageWriter::new(Compression::None, 0);
    let long = samples(&(0..4000).map(|k| (3, 2000 + k, k as f64)).collect::<Vec<_>>());
    order(60, 30).iter().chain([&long]).chain(&order(700, 30)).for_each(|r| writer.append(r));
    let in_order = |from: i64| (from..from + 10).map(|k| (k * 10, k as f64)).collect::<Vec<_>>();
    let out_of_order = (0..6).map(|k| (500 + k, 9.0)).collect::<Vec<_>>();
    let files = [
        ("wal/00000007", segment(&first)),
        ("wal/00000008", writer.take()),
        ("wbl/00000000", segment(&late(0, 20))),
        ("wbl/00000001", segment(&late(20, 20))),
        ("chunks_head/000003", chunk_file(3, &[(1, false, in_order(0)), (1, false, in_order(10))]).0),
        ("chunks_head/000004", chunk_file(4, &[(1, true, out_of_order), (1, false, in_order(20))]).0),
    ];
    let mut read_before = 0;
    for round in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = Vec::new();
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            if random.below(3) == 0 {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << random.below(8),
                    2 => bytes[at..].iter_mut().take(20).for_each(|b| *b = 0),
                    _ => bytes.extend_from_slice(&[random.below(256) as u8; 9]),
                }
                changes.push((*name, at));
            }
            put(dir.path(), name, &bytes);
        }
        if random.below(8) == 0 {
            std::fs::remove_file(dir.path().join("wal/00000007")).unwrap();
        }
        let read = |tolerant: bool| -> Samples {
            let options = HeadOptions { tolerant, ..HeadOptions::default() };
            let head = ReadHead::open(dir.path(), &options, &Control::default());
            let head = head.unwrap_or_else(|e| panic!("{round} {changes:?}: {e}"));
            head.map(|head| of_reader(&head)).unwrap_or_default()
        };
        let before = read(true);
        read_before += before.iter().map(|(_, s)| s.len()).sum::<usize>();
        let open = || {
            let options = LiveOptions { out_of_order_window_ms: 100_000, ..LiveOptions::default() };
            Head::open(disk(), dir.path(), options, i64::MIN, &Control::default()).unwrap()
        };
        let (head, report) = open();
        head.close().unwrap();
        drop(head);
        assert_eq!(read(false), before, "{round} {changes:?}: {report:?}");
        let (head, report) = open();
        assert!(report.losses.is_empty(), "{round} {changes:?}: {report:?}");
        head.close().unwrap();
        assert_eq!(read(false), before, "{round} {changes:?}, a second time");
    }
    assert!(read_before > 40 * 2000, "{read_before}");
}

/// Samples of a reader of files.
fn of_reader(head: &ReadHead) -> Samples {
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
    let set = head.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    (0..set.len())
        .map(|i| {
            let (mut c, mut stats) = (tsdbctl_chunk::SampleColumns::default(), ReadStats::default());
            set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut c, &mut stats).unwrap();
            let samples = c.floats.t.iter().copied().zip(c.floats.v.iter().copied()).collect();
            (symbols.labels(set.labels(i)).get("__name__").to_string(), samples)
        })
        .collect()
}
