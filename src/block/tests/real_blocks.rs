//! Blocks of real servers against what the same version of Prometheus dumped.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_block::{Block, BlockMeta};
use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::labels::Labels;
use tsdbctl_model::{MatchType, Matcher, SymbolTable};
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, TimeFilter};
use tsdbctl_testkit as testkit;

fn open_blocks(dir: &Path) -> Vec<Arc<Block>> {
    let mut dirs: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("meta.json").exists());
    dirs.sort();
    dirs.iter().map(|d| Arc::new(Block::open(d).unwrap())).collect()
}

fn matcher(kind: MatchType, name: &str, value: &str) -> Matcher {
    Matcher::new(kind, name, value).unwrap()
}

/// All float samples of a block: labels as text, time, bits.
fn floats_of(block: &Arc<Block>, matchers: &[Matcher]) -> Vec<(String, i64, u64)> {
    let control = Control::default();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = block.querier().select(&hints, matchers, &mut symbols, &control).unwrap();
    let mut out = Vec::new();
    let mut columns = SampleColumns::default();
    let mut stats = ReadStats::default();
    for i in 0..set.len() {
        columns.clear();
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let labels = symbols.labels(set.labels(i)).to_string();
        for (t, v) in columns.floats.t.iter().zip(&columns.floats.v) {
            out.push((labels.clone(), *t, v.to_bits()));
        }
    }
    out
}

/// Float lines of a dump.
fn dumped(name: &str) -> Option<Vec<(String, i64, u64)>> {
    let text = testkit::read_text(name)?;
    let mut out = Vec::new();
    for line in text.lines() {
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let (labels, v) = rest.split_at(rest.rfind("} ").unwrap() + 1);
        let v = v.trim();
        if v.starts_with('{') || v.ends_with(']') || labels.contains("{count:") {
            continue;
        }
        let v = match v {
            "NaN" => f64::NAN,
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            v => v.parse().unwrap_or_else(|_| panic!("{line}")),
        };
        out.push((labels.to_string(), t.parse().unwrap(), v.to_bits()));
    }
    Some(out)
}

/// NaNs as one, since a dump does not tell them apart.
fn plain(bits: u64) -> u64 {
    if f64::from_bits(bits).is_nan() { f64::NAN.to_bits() } else { bits }
}

fn check_against_dump(archive: &str, dump: &str, has_late: bool) {
    let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
    let Some(want) = dumped(dump) else { return };
    let mut want: BTreeMap<(String, i64), u64> = want.into_iter().map(|(l, t, v)| ((l, t), v)).collect();
    let blocks = open_blocks(&top);
    assert!(!blocks.is_empty());
    let everything = [matcher(MatchType::NotEqual, "__name__", "")];
    let mut seen = 0;
    let mut last_end = i64::MIN;
    for block in &blocks {
        let mut samples = 0;
        for (labels, t, v) in floats_of(block, &everything) {
            samples += 1;
            seen += 1;
            let known = want.remove(&(labels.clone(), t));
            assert_eq!(known.map(plain), Some(plain(v)), "{labels} at {t}");
        }
        let stats = &block.meta().stats;
        if block.tombstones().is_empty() && stats.num_histogram_samples == 0 {
            assert_eq!(samples, stats.num_samples, "{}", block.dir().display());
        }
        last_end = last_end.max(block.meta().max_time);
    }
    // What is left is the head's: nothing that a block should have had, unless it came late.
    let early: Vec<_> = want.keys().filter(|(_, t)| *t < last_end).collect();
    if !has_late {
        assert!(early.is_empty(), "{} left before {last_end}, first {:?}", early.len(), early.first());
    }
    assert!(seen > 1000);
}

#[test]
fn floats_of_2_42_are_those_dumped() {
    check_against_dump(
        "data/prometheus-2.42-crashed.tar.zst",
        "data/prometheus-2.42-crashed.dump.zst",
        false,
    );
}

#[test]
fn floats_of_3_14_are_those_dumped() {
    check_against_dump("data/prometheus-3.14-crashed.tar.zst", "data/prometheus-3.14-crashed.dump.zst", true);
}

#[test]
fn floats_of_3_14_with_xor2_are_those_dumped() {
    check_against_dump(
        "data/prometheus-3.14-xor2-crashed.tar.zst",
        "data/prometheus-3.14-xor2-crashed.dump.zst",
        true,
    );
}

#[test]
fn selections_are_those_of_trying_every_series() {
    use MatchType::{Equal, NotEqual, NotRegexp, Regexp};
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let first = open_blocks(&top)[0].dir().to_owned();
    std::fs::remove_file(first.join("tombstones")).unwrap();
    let block = Arc::new(Block::open(&first).unwrap());
    let control = Control::default();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let select = |matchers: &[Matcher]| {
        let mut symbols = SymbolTable::new();
        let set = block.querier().select(&hints, matchers, &mut symbols, &control).unwrap();
        (0..set.len()).map(|i| symbols.labels(set.labels(i))).collect::<Vec<Labels>>()
    };
    let all = select(&[]);
    assert_eq!(all.len() as u64, block.meta().stats.num_series);
    assert!(all.is_sorted());
    let single = [
        (Equal, "__name__", "up"),
        (Equal, "__name__", "no_such_metric"),
        (Equal, "job", ""),
        (Equal, "handler", ""),
        (NotEqual, "handler", ""),
        (NotEqual, "job", "prometheus"),
        (Equal, "job", "prometheus"),
        (Regexp, "__name__", "go_.*"),
        (Regexp, "__name__", "go_.*|up"),
        (Regexp, "__name__", ".+"),
        (NotRegexp, "handler", ".+"),
        (Regexp, "handler", ".*"),
        (NotRegexp, "handler", ".*"),
        (Regexp, "handler", "/api/.*|"),
        (NotRegexp, "handler", "/api/.*"),
        (NotRegexp, "job", "prometheus|node"),
        (Regexp, "job", "prometheus|node"),
        (Regexp, "le", "0\\..*"),
        (NotEqual, "no_such_label", ""),
        (Equal, "no_such_label", ""),
    ];
    let mut tried = 0;
    let mut check = |matchers: &[Matcher]| {
        let want: Vec<Labels> =
            all.iter().filter(|l| matchers.iter().all(|m| m.matches(l.get(&m.name)))).cloned().collect();
        assert_eq!(select(matchers), want, "{matchers:?}");
        let values = block.querier().label_values("job", matchers, &control).unwrap();
        let mut jobs: Vec<String> =
            want.iter().map(|l| l.get("job").to_string()).filter(|v| !v.is_empty()).collect();
        jobs.sort();
        jobs.dedup();
        if !matchers.iter().all(|m| m.name == "job") {
            assert_eq!(values, jobs, "{matchers:?}");
        }
        let mut names: Vec<String> = want.iter().flat_map(|l| l.iter().map(|l| l.name.clone())).collect();
        names.sort();
        names.dedup();
        assert_eq!(block.querier().label_names(matchers, &control).unwrap(), names, "{matchers:?}");
        tried += usize::from(!want.is_empty());
    };
    let built: Vec<Matcher> = single.iter().map(|(k, n, v)| matcher(*k, n, v)).collect();
    for a in &built {
        check(std::slice::from_ref(a));
        for b in &built {
            check(&[a.clone(), b.clone()]);
        }
    }
    check(&[built[2].clone(), built[7].clone(), built[9].clone(), built[14].clone()]);
    assert!(tried > 100, "{tried}");
}

#[test]
fn an_index_of_version_1_is_read() {
    let Some(dir) = testkit::shared("conformance/tsdb/index_format_v1") else { return };
    let block = Arc::new(Block::open(&dir).unwrap());
    assert_eq!(block.index().version(), 1);
    let control = Control::default();
    let querier = block.querier();
    assert_eq!(querier.label_values("foo", &[], &control).unwrap(), ["bar", "baz"]);
    assert_eq!(querier.label_values("bar", &[], &control).unwrap().len(), 100);
    assert_eq!(querier.label_names(&[], &control).unwrap(), ["bar", "foo"]);
    assert_eq!(
        floats_of(&block, &[matcher(MatchType::NotRegexp, "foo", "^.?$")]),
        [("{foo=\"bar\"}".to_string(), 1, 2f64.to_bits()), ("{foo=\"baz\"}".to_string(), 3, 4f64.to_bits())]
    );
    let all = floats_of(&block, &[]);
    assert_eq!(all.len() as u64, block.meta().stats.num_samples);
    let few = floats_of(&block, &[matcher(MatchType::Regexp, "bar", "1.")]);
    assert_eq!(few.len(), 10);
    assert_eq!(floats_of(&block, &[Matcher::equal("bar", "7")]).len(), 1);
}

#[test]
fn an_index_that_lies_about_its_version_is_read_as_what_it_is() {
    let Some(dir) = testkit::shared("conformance/tsdb/repair_index_version/01BZJ9WJQPWHGNC2W4J9TA62KC")
    else {
        return;
    };
    let block = Arc::new(Block::open(&dir).unwrap());
    assert_eq!((block.meta().version, block.index().version()), (2, 2));
    let control = Control::default();
    let b = Matcher::equal("b", "1");
    let names = block.querier().label_names(std::slice::from_ref(&b), &control).unwrap();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(block.querier().label_values("a", &[b], &control).unwrap(), ["1", "2"]);
}

#[test]
fn chunks_in_the_wrong_order_do_not_hide_a_series() {
    let Some(fixture) = testkit::shared("conformance/thanos/block/testdata/out_of_order_chunks") else {
        return;
    };
    let dir = testkit::scratch();
    std::fs::copy(fixture.join("index"), dir.path().join("index")).unwrap();
    let meta = r#"{"ulid":"01DXXFZDYD1MQW6079WK0K6EDQ","minTime":0,"maxTime":7200000,"version":1}"#;
    std::fs::write(dir.path().join("meta.json"), meta).unwrap();
    let block = Arc::new(Block::open(dir.path()).unwrap());
    let control = Control::default();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = block.querier().select(&hints, &[], &mut symbols, &control).unwrap();
    assert!(!set.is_empty());
    // There are no chunk files: reading names what is missing.
    let filter = TimeFilter::all_between(i64::MIN, i64::MAX);
    let error = set.read(0, &filter, &mut SampleColumns::default(), &mut ReadStats::default()).unwrap_err();
    assert!(error.to_string().contains("chunk file"), "{error}");
}

#[test]
fn a_flipped_bit_is_an_error_with_its_place_and_never_a_panic() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let mut dirs: Vec<_> = std::fs::read_dir(&top).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("meta.json").exists());
    dirs.sort();
    let dir = &dirs[2];
    let index = dir.join("index");
    let good = std::fs::read(&index).unwrap();
    let everything = [matcher(MatchType::Regexp, "__name__", ".+")];
    let control = Control::default();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let (mut refused, mut tried) = (0, 0);
    for at in (0..good.len()).step_by(good.len() / 150) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&index, &bad).unwrap();
        tried += 1;
        let result = Block::open(dir).and_then(|b| {
            let b = Arc::new(b);
            b.querier().select(&hints, &everything, &mut SymbolTable::new(), &control).map(|s| s.len())
        });
        refused += usize::from(result.is_err());
    }
    assert!(refused * 10 > tried * 4, "{refused} of {tried}");
    for len in [0, 4, 5, 60, good.len() / 2, good.len() - 1] {
        std::fs::write(&index, &good[..len]).unwrap();
        assert!(Block::open(dir).is_err(), "{len}");
    }
    std::fs::write(&index, &good).unwrap();
    let meta = BlockMeta::read(dir).unwrap();
    let chunks = dir.join("chunks/000001");
    let mut bytes = std::fs::read(&chunks).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&chunks, &bytes).unwrap();
    let block = Arc::new(Block::open_with_meta(dir, meta).unwrap());
    let mut symbols = SymbolTable::new();
    let set = block.querier().select(&hints, &everything, &mut symbols, &control).unwrap();
    let filter = TimeFilter::all_between(i64::MIN, i64::MAX);
    let errors: Vec<String> = (0..set.len())
        .filter_map(|i| set.read(i, &filter, &mut SampleColumns::default(), &mut ReadStats::default()).err())
        .map(|e| e.to_string())
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("chunks/000001: at byte "), "{errors:?}");
}

#[test]
fn newest_only_reads_end_with_the_sample_that_whole_reads_end_with() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-3.14-crashed.tar.zst") else { return };
    let block = open_blocks(&top).remove(0);
    let control = Control::default();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = block.querier().select(&hints, &[], &mut symbols, &control).unwrap();
    let (mut whole, mut newest) = (SampleColumns::default(), SampleColumns::default());
    let (mut much, mut little) = (ReadStats::default(), ReadStats::default());
    let last = |c: &SampleColumns| c.floats.t.last().max(c.histograms.t.last()).copied();
    let span = block.meta().max_time - block.meta().min_time;
    for i in 0..set.len() {
        for k in 0..5 {
            let first = block.meta().min_time + span * k / 4 + i as i64;
            let mut filter =
                TimeFilter { first, step: 0, steps: 1, before: 300_000, after: 0, newest_only: false };
            whole.clear();
            newest.clear();
            set.read(i, &filter, &mut whole, &mut much).unwrap();
            filter.newest_only = true;
            set.read(i, &filter, &mut newest, &mut little).unwrap();
            assert_eq!(last(&newest), last(&whole), "{} at {first}", symbols.labels(set.labels(i)));
        }
    }
    assert!(little.chunks < much.chunks && little.chunks > 0);
}

#[test]
fn the_oldest_index_kept_by_thanos_is_read() {
    let Some(fixture) = testkit::shared("conformance/thanos/block/indexheader/testdata/index_format_v1")
    else {
        return;
    };
    let block = Arc::new(Block::open(&fixture).unwrap());
    assert_eq!(block.index().version(), 1);
    let control = Control::default();
    for name in block.querier().label_names(&[], &control).unwrap() {
        let values = block.querier().label_values(&name, &[], &control).unwrap();
        assert!(!values.is_empty());
        for value in values {
            let found = series_of(&block, &Matcher::equal(&name, &value));
            assert!(found > 0, "{name}={value}");
        }
    }
}

/// Number of series that satisfy a matcher, without reading chunks.
fn series_of(block: &Arc<Block>, matcher: &Matcher) -> usize {
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let matchers = std::slice::from_ref(matcher);
    block.querier().select(&hints, matchers, &mut SymbolTable::new(), &Control::default()).unwrap().len()
}
