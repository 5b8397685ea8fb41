//! Blocks written by hand from the format: index versions 2 and 3 (which no server writes), overlapping chunks,
//! deletions, files cut short under the map.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tsdbctl_block::Block;
use tsdbctl_chunk::{AppenderOptions, Chunk, SampleColumns, SeriesAppender};
use tsdbctl_model::labels::Labels;
use tsdbctl_model::{MatchType, Matcher, SymbolTable};
use tsdbctl_storage::{
    Control, LabelNeeds, Querier, ReadStats, ResolutionHint, SelectHints, SeriesSet, StorageError,
    TimeFilter, WindowValue,
};
use tsdbctl_testkit as testkit;

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

fn varint(out: &mut Vec<u8>, v: i64) {
    uvarint(out, (v << 1 ^ v >> 63) as u64);
}

fn text(out: &mut Vec<u8>, s: &str) {
    uvarint(out, s.len() as u64);
    out.extend(s.as_bytes());
}

fn section(out: &mut Vec<u8>, body: &[u8]) -> u64 {
    let at = out.len() as u64;
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out.extend(crc(body));
    at
}

fn chunk(samples: &[(i64, f64)]) -> Chunk {
    let mut a =
        SeriesAppender::new(AppenderOptions { samples_per_chunk: 1000, ..AppenderOptions::default() });
    samples.iter().for_each(|(t, v)| a.append_float(*t, *v, 0).unwrap());
    let mut chunks = a.into_chunks();
    assert_eq!(chunks.len(), 1);
    chunks.remove(0)
}

/// Writes a block; series must be sorted by labels.
fn write_block(dir: &Path, version: u8, series: &[(Labels, Vec<Chunk>)]) {
    std::fs::create_dir_all(dir.join("chunks")).unwrap();
    let mut segment = vec![0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
    let symbols: BTreeSet<&str> =
        series.iter().flat_map(|(l, _)| l.iter().flat_map(|l| [l.name.as_str(), l.value.as_str()])).collect();
    let ordinal = |s: &str| symbols.iter().position(|x| *x == s).unwrap() as u64;
    let mut index = vec![0xba, 0xaa, 0xd7, 0x00, version];
    let mut body = (symbols.len() as u32).to_be_bytes().to_vec();
    symbols.iter().for_each(|s| text(&mut body, s));
    let symbols_at = section(&mut index, &body);
    let series_at = index.len() as u64;
    let mut postings: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for (labels, chunks) in series {
        index.resize(index.len().next_multiple_of(16), 0);
        let reference = (index.len() / 16) as u32;
        postings.entry(("", "")).or_default().push(reference);
        let mut body = Vec::new();
        uvarint(&mut body, labels.len() as u64);
        for l in labels {
            postings.entry((&l.name, &l.value)).or_default().push(reference);
            uvarint(&mut body, ordinal(&l.name));
            uvarint(&mut body, ordinal(&l.value));
        }
        uvarint(&mut body, chunks.len() as u64);
        let (mut end, mut last) = (0, 0);
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
    let postings_at = index.len() as u64;
    let mut table = (postings.len() as u32).to_be_bytes().to_vec();
    for ((name, value), list) in &postings {
        let mut body = (list.len() as u32).to_be_bytes().to_vec();
        list.iter().for_each(|r| body.extend(r.to_be_bytes()));
        let at = section(&mut index, &body);
        table.push(2);
        text(&mut table, name);
        text(&mut table, value);
        uvarint(&mut table, at);
    }
    let table_at = section(&mut index, &table);
    let toc: Vec<u8> =
        [symbols_at, series_at, 0, 0, postings_at, table_at].iter().flat_map(|o| o.to_be_bytes()).collect();
    index.extend(&toc);
    index.extend(crc(&toc));
    std::fs::write(dir.join("index"), index).unwrap();
    std::fs::write(dir.join("chunks/000001"), segment).unwrap();
    let meta = r#"{"ulid":"01DXXFZDYD1MQW6079WK0K6EDQ","minTime":0,"maxTime":7200000,"version":1}"#;
    std::fs::write(dir.join("meta.json"), meta).unwrap();
}

fn many_series() -> Vec<(Labels, Vec<Chunk>)> {
    let mut series: Vec<(Labels, Vec<Chunk>)> = (0..300)
        .map(|i| {
            let (pod, zone) = (format!("pod-{i}"), format!("z{}", i % 7));
            let mut labels = Labels::from_pairs([("__name__", "m"), ("pod", &pod), ("zone", &zone)]);
            if i % 3 == 0 {
                labels.set("übel", "1");
            }
            (labels, vec![chunk(&[(1000, f64::from(i)), (2000, 1.0)]), chunk(&[(3000, 2.0)])])
        })
        .collect();
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

const ALL: SelectHints = SelectHints {
    start: i64::MIN,
    end: i64::MAX,
    labels: LabelNeeds::All,
    series_only: false,
    resolution: ResolutionHint { at_most_ms: 0, or_coarser: false },
    value: WindowValue::Average,
};

fn select(
    block: &Arc<Block>,
    matchers: &[Matcher],
) -> Result<(Vec<Labels>, Box<dyn SeriesSet>), StorageError> {
    let mut symbols = SymbolTable::new();
    let set = block.querier().select(&ALL, matchers, &mut symbols, &Control::default())?;
    let labels = (0..set.len()).map(|i| symbols.labels(set.labels(i))).collect();
    Ok((labels, set))
}

fn floats(set: &dyn SeriesSet, i: usize, filter: &TimeFilter) -> Result<Vec<(i64, f64)>, StorageError> {
    let mut out = SampleColumns::default();
    set.read(i, filter, &mut out, &mut ReadStats::default())?;
    Ok(out.floats.t.into_iter().zip(out.floats.v).collect())
}

#[test]
fn versions_2_and_3_are_read_alike_and_4_is_refused() {
    let series = many_series();
    for version in [2, 3] {
        let dir = testkit::scratch();
        write_block(dir.path(), version, &series);
        let block = Arc::new(Block::open(dir.path()).unwrap());
        assert_eq!(block.index().version(), version);
        let cases: [&[(MatchType, &str, &str)]; 7] = [
            &[],
            &[(MatchType::Equal, "__name__", "m")],
            &[(MatchType::Equal, "pod", "pod-299")],
            &[(MatchType::Regexp, "pod", "pod-1.")],
            &[(MatchType::Equal, "zone", "z3"), (MatchType::NotRegexp, "pod", "pod-.*1")],
            &[(MatchType::NotEqual, "übel", "1"), (MatchType::Regexp, "zone", "z1|z2")],
            &[(MatchType::Equal, "pod", "pod-30"), (MatchType::NotEqual, "übel", "")],
        ];
        for case in cases {
            let matchers: Vec<Matcher> =
                case.iter().map(|(k, n, v)| Matcher::new(*k, *n, *v).unwrap()).collect();
            let fits = |l: &&Labels| matchers.iter().all(|m| m.matches(l.get(&m.name)));
            let want: Vec<Labels> = series.iter().map(|s| &s.0).filter(fits).cloned().collect();
            assert!(!want.is_empty());
            assert_eq!(select(&block, &matchers).unwrap().0, want, "{case:?}");
        }
        let (labels, set) = select(&block, &[Matcher::equal("pod", "pod-77")]).unwrap();
        assert_eq!(labels.len(), 1);
        let all = TimeFilter::all_between(i64::MIN, i64::MAX);
        assert_eq!(floats(&*set, 0, &all).unwrap(), [(1000, 77.0), (2000, 1.0), (3000, 2.0)]);
        assert_eq!(floats(&*set, 0, &TimeFilter::all_between(1001, 2000)).unwrap(), [(2000, 1.0)]);
        assert_eq!(set.cost(0, &all).chunks, 2);
        let control = Control::default();
        assert_eq!(block.querier().label_values("pod", &[], &control).unwrap().len(), 300);
        assert_eq!(block.querier().label_names(&[], &control).unwrap(), ["__name__", "pod", "zone", "übel"]);
    }
    let dir = testkit::scratch();
    write_block(dir.path(), 4, &series);
    let error = Block::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("index version 4 is not supported, only 1 to 3 are"), "{error}");
}

#[test]
fn only_the_labels_asked_for_are_given() {
    let dir = testkit::scratch();
    write_block(dir.path(), 2, &many_series());
    let block = Arc::new(Block::open(dir.path()).unwrap());
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { labels: LabelNeeds::Only(vec!["zone".into(), "übel".into()]), ..ALL };
    let pod = [Matcher::equal("pod", "pod-9")];
    let set = block.querier().select(&hints, &pod, &mut symbols, &Control::default()).unwrap();
    assert_eq!(symbols.labels(set.labels(0)).to_string(), "{zone=\"z2\", \"übel\"=\"1\"}");
    assert_eq!(symbols.get("pod-9"), None);
}

#[test]
fn overlapping_chunks_are_merged_and_deletions_left_out() {
    let dir = testkit::scratch();
    let labels = Labels::from_pairs([("__name__", "m")]);
    let tick = |t: i64| (t, t as f64);
    // The second chunk starts inside the first: its start wraps below the end before it.
    let chunks = vec![
        chunk(&[tick(10), tick(20), tick(30), tick(60)]),
        chunk(&[tick(20), tick(25), tick(40)]),
        chunk(&[tick(70), tick(80), tick(90)]),
    ];
    write_block(dir.path(), 2, &[(labels, chunks)]);
    let block = Arc::new(Block::open(dir.path()).unwrap());
    let (_, set) = select(&block, &[Matcher::equal("__name__", "m")]).unwrap();
    let all = TimeFilter::all_between(0, 1000);
    let times = |set: &dyn SeriesSet, f: &TimeFilter| {
        floats(set, 0, f).unwrap().into_iter().map(|s| s.0).collect::<Vec<i64>>()
    };
    assert_eq!(times(&*set, &all), [10, 20, 25, 30, 40, 60, 70, 80, 90]);
    let newest = |t, before| TimeFilter { first: t, step: 0, steps: 1, before, after: 0, newest_only: true };
    assert_eq!(times(&*set, &newest(50, 100)).last(), Some(&40));
    assert_eq!(times(&*set, &newest(75, 100)).last(), Some(&70));
    assert_eq!(times(&*set, &newest(95, 10)), [90]);
    assert!(times(&*set, &newest(69, 9)).is_empty());

    // Series reference 2 or so: delete 25..=60 and 80.
    let mut body = Vec::new();
    let reference = std::fs::read(dir.path().join("index")).unwrap();
    assert_eq!(reference[4], 2);
    for r in 1..8 {
        for (mint, maxt) in [(25, 60), (80, 80)] {
            uvarint(&mut body, r);
            varint(&mut body, mint);
            varint(&mut body, maxt);
        }
    }
    let mut file = vec![0x01, 0x30, 0xba, 0x30, 1];
    file.extend(&body);
    file.extend(crc(&body));
    std::fs::write(dir.path().join("tombstones"), file).unwrap();
    let block = Arc::new(Block::open(dir.path()).unwrap());
    let (_, set) = select(&block, &[Matcher::equal("__name__", "m")]).unwrap();
    assert_eq!(times(&*set, &all), [10, 20, 70, 90]);
    assert_eq!(times(&*set, &TimeFilter::all_between(65, 1000)), [70, 90]);
    assert_eq!(times(&*set, &newest(85, 10)).last(), None);
}

#[cfg(unix)]
#[test]
fn files_cut_short_under_the_map_fail_the_read() {
    let dir = testkit::scratch();
    write_block(dir.path(), 2, &many_series());
    let cut = |name: &str, len: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
        file.set_len(len).unwrap();
    };
    let block = Arc::new(Block::open(dir.path()).unwrap());
    let everything = [Matcher::equal("__name__", "m")];
    let (_, set) = select(&block, &everything).unwrap();
    let all = TimeFilter::all_between(i64::MIN, i64::MAX);
    assert_eq!(floats(&*set, 250, &all).unwrap().len(), 3);
    cut("chunks/000001", 100);
    let failed = (0..set.len()).filter(|i| floats(&*set, *i, &all).is_err()).count();
    assert!(failed > 150, "{failed}");
    let error = floats(&*set, 299, &all).unwrap_err().to_string();
    assert!(
        error.contains("000001: at byte") && error.ends_with("the file was cut short while it was read"),
        "{error}"
    );
    cut("index", 4096);
    assert!(select(&block, &everything).is_err());
    assert!(floats(&*set, 0, &all).is_err());
}
