//! Blocks read as sources: deletions and ranges, selections, indices of version 1, and what damaged writers left.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_block::{
    Block, BlockMeta, BlockSource, Interval, MergedSource, Tombstones, WriterOptions, write_block,
};
use tsdbctl_chunk::{
    AppenderOptions, Chunk, Encoding, Floats, SeriesAppender, decode_floats_fast, decode_histograms,
};
use tsdbctl_model::labels::Labels;
use tsdbctl_model::{Histogram, MatchType, Matcher};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, EncodedChunk, StorageError};
use tsdbctl_testkit as testkit;

type Series = BTreeMap<String, Vec<Chunk>>;
/// Labels and chunks of a series to be written.
type Written<'a> = (&'a [(&'a str, &'a str)], Vec<Chunk>);

/// Everything of a source, and its symbols.
fn read_all(source: &mut dyn ChunkSource) -> (Series, Vec<String>) {
    let mut symbols = Vec::new();
    source
        .symbols(&mut |s| {
            symbols.push(s.to_string());
            Ok::<(), StorageError>(())
        })
        .unwrap();
    assert!(symbols.is_sorted_by(|a, b| a < b), "{symbols:?}");
    let (mut out, mut last) = (Series::new(), None);
    let mut batch = ChunkBatch::default();
    while source.next().unwrap() {
        let text = |i: u32| symbols[i as usize].clone();
        let labels = Labels::from_pairs(source.labels().iter().map(|(n, v)| (text(*n), text(*v))));
        assert!(last.as_ref().is_none_or(|l| *l < labels), "series are sorted, each once");
        last = Some(labels.clone());
        batch.clear();
        source.chunks(&mut batch).unwrap();
        let chunk = |c: EncodedChunk<'_>| Chunk {
            encoding: Encoding::from_byte(c.encoding).unwrap(),
            data: c.data.to_vec(),
            mint: c.mint,
            maxt: c.maxt,
            samples: 0,
        };
        out.insert(labels.to_string(), batch.iter().map(chunk).collect());
    }
    (out, symbols)
}

fn times(chunks: &[Chunk]) -> Vec<Vec<i64>> {
    let of = |c: &Chunk| {
        if c.encoding.is_histogram() {
            return decode_histograms(c.encoding, &c.data).unwrap().iter().map(|s| s.0).collect();
        }
        let mut floats = Floats::default();
        decode_floats_fast(c.encoding, &c.data, i64::MIN, i64::MAX, &mut floats).unwrap();
        floats.t
    };
    chunks
        .iter()
        .map(|c| {
            let times: Vec<i64> = of(c);
            assert_eq!((c.mint, c.maxt), (times[0], times[times.len() - 1]));
            times
        })
        .collect()
}

fn chunk(times: &[i64], value: f64) -> Chunk {
    let options =
        AppenderOptions { samples_per_chunk: 1000, xor2: true, st: true, ..AppenderOptions::default() };
    let mut a = SeriesAppender::new(options);
    times.iter().for_each(|t| a.append_float(*t, value, *t - 1).unwrap());
    a.into_chunks().remove(0)
}

fn histograms(times: &[i64]) -> Chunk {
    let mut a = SeriesAppender::new(AppenderOptions::default());
    for t in times {
        let h =
            Histogram { count: 4 + *t as u64, zero_count: 4 + *t as u64, sum: 1.0, ..Histogram::default() };
        a.append_histogram(*t, &h, 0).unwrap();
    }
    a.into_chunks().remove(0)
}

fn batch(chunks: &[Chunk]) -> ChunkBatch {
    let mut out = ChunkBatch::default();
    for c in chunks {
        out.push(EncodedChunk { encoding: c.encoding as u8, data: &c.data, mint: c.mint, maxt: c.maxt });
    }
    out
}

/// A block of series, written to a directory.
fn block_of(dir: &Path, series: &[Written<'_>]) -> PathBuf {
    let all = series
        .iter()
        .map(|(labels, chunks)| (Labels::from_pairs(labels.iter().copied()), batch(chunks)))
        .collect();
    let meta = BlockMeta::new("01DXXFZDYD1MQW6079WK0K6EDQ".to_string(), 0, 10_000);
    let options = WriterOptions::default();
    write_block(Arc::new(RealDisk), dir, &mut LiteralSource::new(all), meta, options, &Control::default())
        .unwrap()
        .unwrap();
    dir.join("01DXXFZDYD1MQW6079WK0K6EDQ")
}

fn open(dir: &Path) -> Arc<Block> {
    Arc::new(Block::open(dir).unwrap())
}

fn plain() -> Vec<Written<'static>> {
    vec![
        (&[("a", "1")], vec![chunk(&[10, 20, 30], 1.0), chunk(&[40, 50], 2.0), chunk(&[60, 70], 3.0)]),
        (&[("a", "1"), ("b", "x")], vec![histograms(&[10, 20, 30]), histograms(&[40, 50])]),
        (&[("a", "2")], vec![chunk(&[5], 1.0)]),
    ]
}

#[test]
fn a_whole_block_is_given_as_it_is() {
    let dir = testkit::scratch();
    let block = block_of(dir.path(), &plain());
    let (series, symbols) = read_all(&mut BlockSource::new(open(&block), i64::MIN, i64::MAX).unwrap());
    assert_eq!(symbols, ["1", "2", "a", "b", "x"]);
    for (labels, chunks) in plain() {
        let got = &series[&Labels::from_pairs(labels.iter().copied()).to_string()];
        let bytes =
            |chunks: &[Chunk]| chunks.iter().map(|c| (c.encoding, c.data.clone())).collect::<Vec<_>>();
        assert_eq!(bytes(got), bytes(&chunks));
    }
}

/// References of the series, in label order.
fn references(block: &Path) -> Vec<u64> {
    let bytes = std::fs::read(block.join("index")).unwrap();
    let at =
        |o: usize| u64::from_be_bytes(bytes[bytes.len() - 52 + o * 8..][..8].try_into().unwrap()) as usize;
    // The first list is that of all series.
    let list = &bytes[at(4) + 4..];
    let count = u32::from_be_bytes(list[..4].try_into().unwrap()) as usize;
    list[4..].chunks(4).take(count).map(|r| u64::from(u32::from_be_bytes(r.try_into().unwrap()))).collect()
}

#[test]
fn deletions_and_the_range_are_applied() {
    let (first, second) = ("{a=\"1\"}", "{a=\"1\", b=\"x\"}");
    let all = (i64::MIN, i64::MAX);
    type Case<'a> = (&'a str, (i64, i64), &'a [(usize, i64, i64)], &'a [(&'a str, &'a [&'a [i64]])]);
    let cases: [Case<'_>; 9] = [
        (
            "nothing",
            all,
            &[],
            &[(first, &[&[10, 20, 30], &[40, 50], &[60, 70]]), (second, &[&[10, 20, 30], &[40, 50]])],
        ),
        (
            "a chunk",
            all,
            &[(0, 35, 55)],
            &[(first, &[&[10, 20, 30], &[60, 70]]), (second, &[&[10, 20, 30], &[40, 50]])],
        ),
        (
            "a part of a chunk",
            all,
            &[(0, 20, 20), (1, 20, 45)],
            &[(first, &[&[10, 30], &[40, 50], &[60, 70]]), (second, &[&[10], &[50]])],
        ),
        ("a chunk by two", all, &[(0, 40, 45), (0, 46, 50)], &[(first, &[&[10, 20, 30], &[60, 70]])]),
        (
            "a chunk by two with a gap",
            all,
            &[(0, 40, 44), (0, 46, 50)],
            &[(first, &[&[10, 20, 30], &[60, 70]])],
        ),
        ("a series", all, &[(1, i64::MIN, i64::MAX)], &[(first, &[&[10, 20, 30], &[40, 50], &[60, 70]])]),
        (
            "before the start",
            (20, 1000),
            &[],
            &[(first, &[&[20, 30], &[40, 50], &[60, 70]]), (second, &[&[20, 30], &[40, 50]])],
        ),
        (
            "behind the end",
            (i64::MIN, 40),
            &[],
            &[(first, &[&[10, 20, 30], &[40]]), (second, &[&[10, 20, 30], &[40]])],
        ),
        ("on both sides and inside", (20, 60), &[(0, 30, 40)], &[(first, &[&[20], &[50], &[60]])]),
    ];
    for (what, (mint, maxt), deleted, want) in cases {
        let dir = testkit::scratch();
        let block = block_of(dir.path(), &plain());
        let references = references(&block);
        let mut tombstones = Tombstones::default();
        for (i, mint, maxt) in deleted {
            tombstones.insert(references[*i], Interval { mint: *mint, maxt: *maxt });
        }
        tombstones.replace(&RealDisk, &block).unwrap();
        let (series, _) = read_all(&mut BlockSource::new(open(&block), mint, maxt).unwrap());
        for (labels, want) in want {
            assert_eq!(times(&series[*labels]), *want, "{what}: {labels}");
        }
        if what == "a series" {
            assert!(!series.contains_key(second));
        }
        if mint > 5 {
            assert!(!series.contains_key("{a=\"2\"}"), "{what}");
        }
        // Start timestamps stay with their samples.
        let mut floats = Floats::default();
        let chunk = &series[first][0];
        decode_floats_fast(chunk.encoding, &chunk.data, i64::MIN, i64::MAX, &mut floats).unwrap();
        assert_eq!(floats.st, floats.t.iter().map(|t| t - 1).collect::<Vec<_>>(), "{what}");
    }
}

#[test]
fn a_selection_has_its_series_and_their_symbols_alone() {
    let dir = testkit::scratch();
    let block = open(&block_of(dir.path(), &plain()));
    let is = |n: &str, v: &str| vec![Matcher::new(MatchType::Equal, n, v).unwrap()];
    for (selections, range, series, symbols) in [
        (vec![is("a", "1")], (0, 100), vec!["{a=\"1\", b=\"x\"}", "{a=\"1\"}"], vec!["1", "a", "b", "x"]),
        (vec![is("a", "2")], (0, 100), vec!["{a=\"2\"}"], vec!["2", "a"]),
        (
            vec![is("a", "2"), is("b", "x"), is("b", "x")],
            (0, 100),
            vec!["{a=\"1\", b=\"x\"}", "{a=\"2\"}"],
            vec!["1", "2", "a", "b", "x"],
        ),
        // What the range leaves nothing of is not told.
        (vec![is("a", "2"), is("b", "x")], (6, 100), vec!["{a=\"1\", b=\"x\"}"], vec!["1", "a", "b", "x"]),
        (vec![is("a", "1")], (55, 100), vec!["{a=\"1\"}"], vec!["1", "a"]),
        (vec![is("a", "3")], (0, 100), vec![], vec![]),
        (vec![], (0, 100), vec![], vec![]),
    ] {
        let mut source =
            BlockSource::select(Arc::clone(&block), range.0, range.1, &selections, &Control::default())
                .unwrap();
        let (got, names) = read_all(&mut source);
        assert_eq!(
            (got.keys().map(String::as_str).collect::<Vec<_>>(), names),
            (series, symbols.iter().map(ToString::to_string).collect()),
            "{selections:?}"
        );
    }
}

// What follows writes blocks from the format, as no writer here does.

fn crc(bytes: &[u8]) -> [u8; 4] {
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_be_bytes()
}

fn uvarint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn section(out: &mut Vec<u8>, body: &[u8]) -> u64 {
    let at = out.len() as u64;
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out.extend(crc(body));
    at
}

/// A block whose symbols and series stand as they are given; series in postings order.
fn write_by_hand(dir: &Path, version: u8, symbols: &[&str], series: &[Written<'_>]) {
    std::fs::create_dir_all(dir.join("chunks")).unwrap();
    let mut segment = vec![0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
    let mut index = vec![0xba, 0xaa, 0xd7, 0x00, version];
    let mut body = (symbols.len() as u32).to_be_bytes().to_vec();
    let mut names = BTreeMap::new();
    for (i, symbol) in symbols.iter().enumerate() {
        let offset = index.len() + 4 + body.len();
        names.insert(*symbol, if version == 1 { offset as u64 } else { i as u64 });
        uvarint(&mut body, symbol.len() as u64);
        body.extend(symbol.as_bytes());
    }
    let symbols_at = section(&mut index, &body);
    let series_at = index.len() as u64;
    let mut postings = Vec::new();
    for (labels, chunks) in series {
        let unit = if version == 1 { 1 } else { 16 };
        index.resize(index.len().next_multiple_of(unit), 0);
        postings.push((index.len() / unit) as u32);
        let mut body = Vec::new();
        uvarint(&mut body, labels.len() as u64);
        for (name, value) in *labels {
            uvarint(&mut body, names[name]);
            uvarint(&mut body, names[value]);
        }
        uvarint(&mut body, chunks.len() as u64);
        let (mut end, mut last) = (0, 0);
        let varint = |out: &mut Vec<u8>, v: i64| uvarint(out, (v << 1 ^ v >> 63) as u64);
        for (i, c) in chunks.iter().enumerate() {
            let at = segment.len() as i64;
            uvarint(&mut segment, c.data.len() as u64);
            let mut coded = vec![c.encoding as u8];
            coded.extend(&c.data);
            segment.extend(&coded);
            segment.extend(crc(&coded));
            if i == 0 {
                varint(&mut body, c.mint);
                uvarint(&mut body, (c.maxt - c.mint) as u64);
                uvarint(&mut body, at as u64);
            } else {
                uvarint(&mut body, (c.mint - end) as u64);
                uvarint(&mut body, (c.maxt - c.mint) as u64);
                varint(&mut body, at - last);
            }
            (end, last) = (c.maxt, at);
        }
        uvarint(&mut index, body.len() as u64);
        index.extend(&body);
        index.extend(crc(&body));
    }
    let mut body = (postings.len() as u32).to_be_bytes().to_vec();
    postings.iter().for_each(|r| body.extend(r.to_be_bytes()));
    let postings_at = section(&mut index, &body);
    let mut table = 1u32.to_be_bytes().to_vec();
    table.extend([2, 0, 0]);
    uvarint(&mut table, postings_at);
    let table_at = section(&mut index, &table);
    let toc: Vec<u8> =
        [symbols_at, series_at, 0, 0, postings_at, table_at].iter().flat_map(|o| o.to_be_bytes()).collect();
    index.extend(&toc);
    index.extend(crc(&toc));
    std::fs::write(dir.join("index"), index).unwrap();
    std::fs::write(dir.join("chunks/000001"), segment).unwrap();
    let meta = r#"{"ulid":"01DXXFZDYD1MQW6079WK0K6EDQ","minTime":0,"maxTime":10000,"version":1}"#;
    std::fs::write(dir.join("meta.json"), meta).unwrap();
}

#[test]
fn symbols_may_be_named_by_offset_and_stand_in_any_order() {
    for version in [1, 2] {
        let dir = testkit::scratch();
        let symbols = ["z", "b", "", "unused", "a", "y"];
        let series: Vec<Written<'_>> = vec![
            (&[("a", "y")], vec![chunk(&[1, 2], 0.0)]),
            (&[("a", "z"), ("b", "a")], vec![chunk(&[3], 0.0)]),
            (&[("b", "b")], vec![chunk(&[4], 0.0)]),
        ];
        write_by_hand(dir.path(), version, &symbols, &series);
        let mut source = BlockSource::new(open(dir.path()), i64::MIN, i64::MAX).unwrap();
        let (got, names) = read_all(&mut source);
        assert_eq!(names, ["", "a", "b", "unused", "y", "z"], "version {version}");
        let keys: Vec<&str> = got.keys().map(String::as_str).collect();
        assert_eq!(keys, ["{a=\"y\"}", "{a=\"z\", b=\"a\"}", "{b=\"b\"}"]);
        assert_eq!(times(&got["{a=\"y\"}"]), [[1, 2]]);
    }
}

#[test]
fn series_out_of_order_are_sorted_and_those_there_twice_joined() {
    let dir = testkit::scratch();
    let series: Vec<Written<'_>> = vec![
        (&[("a", "z")], vec![chunk(&[1, 2], 0.0)]),
        // Labels out of order.
        (&[("b", "y"), ("a", "y")], vec![chunk(&[3], 0.0)]),
        (&[("a", "b")], vec![chunk(&[10, 20], 0.0)]),
        (&[("a", "y"), ("b", "y")], vec![chunk(&[7], 0.0)]),
        (&[("a", "b")], vec![chunk(&[5], 0.0), chunk(&[15], 0.0)]),
    ];
    write_by_hand(dir.path(), 2, &["a", "b", "y", "z"], &series);
    let (got, _) = read_all(&mut BlockSource::new(open(dir.path()), i64::MIN, i64::MAX).unwrap());
    let got: Vec<(&str, Vec<Vec<i64>>)> = got.iter().map(|(l, c)| (l.as_str(), times(c))).collect();
    let want = [
        ("{a=\"b\"}", vec![vec![5], vec![10, 15, 20]]),
        ("{a=\"y\", b=\"y\"}", vec![vec![3], vec![7]]),
        ("{a=\"z\"}", vec![vec![1, 2]]),
    ];
    assert_eq!(got, want);
}

#[test]
fn chunks_out_of_order_are_sorted_and_overlapping_ones_merged() {
    let (a, b, c) = (chunk(&[10, 20], 1.0), chunk(&[30, 50], 2.0), chunk(&[40, 60], 3.0));
    for (chunks, want) in [
        (vec![&b, &a], vec![vec![10, 20], vec![30, 50]]),
        (vec![&a, &b, &c], vec![vec![10, 20], vec![30, 40, 50, 60]]),
        (vec![&c, &b, &a], vec![vec![10, 20], vec![30, 40, 50, 60]]),
        (vec![&a, &a, &b], vec![vec![10, 20], vec![30, 50]]),
    ] {
        let dir = testkit::scratch();
        write_by_hand(dir.path(), 2, &["a", "b"], &[(&[("a", "b")], chunks.into_iter().cloned().collect())]);
        let (got, _) = read_all(&mut BlockSource::new(open(dir.path()), i64::MIN, i64::MAX).unwrap());
        assert_eq!(times(&got["{a=\"b\"}"]), want);
        // What is left out of one may part them.
        let (got, _) = read_all(&mut BlockSource::new(open(dir.path()), 15, 45).unwrap());
        let got: Vec<i64> = times(&got["{a=\"b\"}"]).concat();
        assert_eq!(got, want.concat().into_iter().filter(|t| (15..=45).contains(t)).collect::<Vec<_>>());
    }
}

#[test]
fn damage_is_told_with_the_file_it_is_in() {
    let bad = Chunk { data: vec![0, 9, 1], ..chunk(&[10, 20], 1.0) };
    let dir = testkit::scratch();
    let good = (&[("a", "b")] as &[_], vec![chunk(&[5, 15], 1.0)]);
    let other = testkit::scratch();
    write_by_hand(dir.path(), 2, &["a", "b"], &[(&[("a", "b")], vec![bad])]);
    write_by_hand(other.path(), 2, &["a", "b"], &[good]);
    let source = |dir: &Path| {
        Box::new(BlockSource::new(open(dir), i64::MIN, i64::MAX).unwrap()) as Box<dyn ChunkSource>
    };
    // Copied, it is not looked into.
    let mut alone = source(dir.path());
    assert!(alone.next().unwrap());
    alone.chunks(&mut ChunkBatch::default()).unwrap();
    let mut merged = MergedSource::new(vec![source(other.path()), source(dir.path())]).unwrap();
    assert!(merged.next().unwrap());
    let Err(StorageError::Corrupt(loss)) = merged.chunks(&mut ChunkBatch::default()) else { panic!() };
    assert_eq!(loss.file, dir.path());
    // A symbol that is not there.
    let index = std::fs::read(dir.path().join("index")).unwrap();
    let at = index.windows(3).rposition(|w| w == [1, 0, 1]).unwrap();
    let mut damaged = index.clone();
    damaged[at + 2] = 77;
    let len = usize::from(damaged[at - 1]);
    let sum = crc(&damaged[at..at + len]);
    damaged[at + len..at + len + 4].copy_from_slice(&sum);
    std::fs::write(dir.path().join("index"), damaged).unwrap();
    let Err(StorageError::Corrupt(loss)) = BlockSource::new(open(dir.path()), 0, 100) else { panic!() };
    assert!(loss.file.ends_with("index") && loss.reason.contains("symbol 77"), "{loss:?}");
}

#[test]
fn blocks_of_servers_and_of_thanos_are_given_as_they_are() {
    for archive in ["data/prometheus-3.14-crashed.tar.zst", "data/thanos-downsampled.tar.zst"] {
        let Some(dir) = testkit::unpack(archive) else { return };
        let mut blocks = Vec::new();
        let mut look = vec![dir.path().to_owned()];
        while let Some(at) = look.pop() {
            if at.join("meta.json").exists() {
                blocks.push(at);
            } else if at.is_dir() {
                look.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
            }
        }
        assert!(blocks.len() >= 4, "{archive}");
        for path in blocks {
            if std::fs::metadata(path.join("tombstones")).is_ok_and(|m| m.len() > 9) {
                continue;
            }
            let (to, block) = (testkit::scratch(), open(&path));
            let mut source = BlockSource::new(Arc::clone(&block), i64::MIN, i64::MAX).unwrap();
            let (meta, options) = (block.meta().clone(), WriterOptions::default());
            write_block(Arc::new(RealDisk), to.path(), &mut source, meta, options, &Control::default())
                .unwrap();
            for file in ["index", "chunks/000001"] {
                let copy = std::fs::read(to.path().join(&block.meta().ulid).join(file)).unwrap();
                assert!(copy == std::fs::read(path.join(file)).unwrap(), "{}: {file}", path.display());
            }
        }
    }
}
