//! Whole data directories of real servers against what the same version of Prometheus dumped.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::{Matcher, SymbolTable};
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, TimeFilter};
use tsdbctl_testkit as testkit;
use tsdbctl_tsdb::{Database, OpenOptions};

fn open(dirs: &[PathBuf]) -> Database {
    Database::open(dirs, OpenOptions::default()).unwrap()
}

/// All float samples, NaNs as one; histograms as `None`.
fn read(db: &Database, mint: i64, maxt: i64, matchers: &[Matcher]) -> BTreeMap<(String, i64), Option<u64>> {
    let control = Control::default();
    let querier = db.querier(mint, maxt, &[matchers.to_vec()], &control).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
    let set = querier.select(&hints, matchers, &mut symbols, &control).unwrap();
    let mut out = BTreeMap::new();
    let mut columns = SampleColumns::default();
    for i in 0..set.len() {
        columns.clear();
        set.read(i, &TimeFilter::all_between(mint, maxt), &mut columns, &mut ReadStats::default()).unwrap();
        let labels = symbols.labels(set.labels(i)).to_string();
        assert!(columns.floats.t.is_sorted_by(|a, b| a < b), "{labels}");
        assert!(columns.histograms.t.is_sorted_by(|a, b| a < b), "{labels}");
        for (t, v) in columns.floats.t.iter().zip(&columns.floats.v) {
            let bits = if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() };
            assert!(out.insert((labels.clone(), *t), Some(bits)).is_none(), "{labels} at {t} twice");
        }
        for t in &columns.histograms.t {
            assert!(out.insert((labels.clone(), *t), None).is_none(), "{labels} at {t} twice");
        }
    }
    out
}

fn dumped(name: &str) -> Option<BTreeMap<(String, i64), Option<u64>>> {
    let text = testkit::read_text(name)?;
    let mut out = BTreeMap::new();
    for line in text.lines() {
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let (labels, v) = match rest.rfind("} {count:") {
            Some(at) => (&rest[..=at], None),
            None => {
                let (labels, v) = rest.rsplit_once(' ').unwrap();
                let v: f64 = v.replace("Inf", "inf").parse().unwrap();
                (labels, Some(if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }))
            }
        };
        out.insert((labels.to_string(), t.parse().unwrap()), v);
    }
    Some(out)
}

fn everything() -> Vec<Matcher> {
    vec![Matcher::new(tsdbctl_model::MatchType::NotEqual, "__name__", "").unwrap()]
}

fn check(archive: &str, dump: &str) {
    let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
    let Some(want) = dumped(dump) else { return };
    let got = read(&open(std::slice::from_ref(&top)), i64::MIN, i64::MAX, &everything());
    let missing: Vec<_> = want.keys().filter(|k| !got.contains_key(*k)).collect();
    let extra: Vec<_> = got.keys().filter(|k| !want.contains_key(*k)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{} missing, first {:?}; {} too many, first {:?}; {} in all",
        missing.len(),
        missing.first(),
        extra.len(),
        extra.first(),
        want.len()
    );
    for (key, v) in &want {
        assert_eq!(got[key], *v, "{key:?}");
    }
}

#[test]
fn a_directory_of_2_42_is_read_whole() {
    check("data/prometheus-2.42-crashed.tar.zst", "data/prometheus-2.42-crashed.dump.zst");
}

#[test]
fn a_directory_of_3_14_is_read_whole() {
    check("data/prometheus-3.14-crashed.tar.zst", "data/prometheus-3.14-crashed.dump.zst");
}

#[test]
fn a_directory_with_xor2_is_read_whole() {
    check("data/prometheus-3.14-xor2-crashed.tar.zst", "data/prometheus-3.14-xor2-crashed.dump.zst");
}

#[test]
fn a_directory_with_a_chunk_snapshot_is_read_whole() {
    check("data/prometheus-3.14-xor2-snapshot.tar.zst", "data/prometheus-3.14-xor2-crashed.dump.zst");
}

fn block_dirs(top: &Path) -> Vec<PathBuf> {
    open(&[top.to_owned()]).blocks().iter().map(|b| b.dir.clone()).collect()
}

#[test]
fn directories_and_blocks_given_twice_change_nothing() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let up = [Matcher::equal("__name__", "up")];
    let once = read(&open(std::slice::from_ref(&top)), i64::MIN, i64::MAX, &up);
    let mut twice = vec![top.clone(), top.clone()];
    twice.extend(block_dirs(&top));
    assert_eq!(read(&open(&twice), i64::MIN, i64::MAX, &up), once);
    let single = open(&block_dirs(&top)[..1]);
    let (mint, maxt) = single.time_range().unwrap();
    let of_block = read(&single, i64::MIN, i64::MAX, &up);
    assert!(!of_block.is_empty());
    assert!(of_block.keys().all(|(_, t)| (mint..=maxt).contains(t)));
    let last = read(&single, i64::MIN, i64::MAX, &everything()).keys().map(|k| k.1).max();
    assert_eq!(single.newest_sample_time(&Control::default()).unwrap(), last);
}

#[test]
fn superseded_and_half_made_blocks_are_left_out() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let before = block_dirs(&top);
    let (victim, child) = (&before[0], &before[1]);
    let name = victim.file_name().unwrap().to_str().unwrap();
    for suffix in [".tmp-for-creation", ".tmp-for-deletion", ".tmp"] {
        let half = top.join(format!("{}{suffix}", child.file_name().unwrap().to_str().unwrap()));
        std::fs::create_dir(half).unwrap();
    }
    std::fs::create_dir(top.join("01ARZ3NDEKTSV4RRFFQ69G5FAV")).unwrap();
    assert_eq!(block_dirs(&top), before);
    let meta = child.join("meta.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&meta).unwrap()).unwrap();
    json["compaction"]["parents"] = serde_json::json!([{ "ulid": name, "minTime": 0, "maxTime": 1 }]);
    std::fs::write(&meta, json.to_string()).unwrap();
    let db = open(std::slice::from_ref(&top));
    assert_eq!(db.blocks().len(), before.len() - 1);
    assert_eq!(db.superseded()[0].dir, *victim);
    std::fs::write(&meta, "{").unwrap();
    assert!(Database::open(std::slice::from_ref(&top), OpenOptions::default()).is_err());
    let tolerant = Database::open(std::slice::from_ref(&top), OpenOptions { tolerant: true }).unwrap();
    assert_eq!(tolerant.losses().len(), 1);
    assert!(Database::open(&[top.join("01ARZ3NDEKTSV4RRFFQ69G5FAV")], OpenOptions::default()).is_err());
}

#[test]
fn overlaps_and_gaps_are_found() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-3.14-crashed.tar.zst") else { return };
    let db = open(std::slice::from_ref(&top));
    assert!(db.overlaps().is_empty() && db.gaps(0).is_empty());
    let mut dirs = block_dirs(&top);
    dirs.push(dirs[1].clone());
    dirs.remove(2);
    let db = open(&dirs);
    assert_eq!(db.overlaps().len(), 1);
    assert_eq!(db.gaps(0).len(), 1);
}

#[test]
fn instant_reads_over_blocks_and_head_end_with_the_sample_that_whole_reads_end_with() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let db = open(std::slice::from_ref(&top));
    let control = Control::default();
    let querier = db.querier(i64::MIN, i64::MAX, &[], &control).unwrap();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &everything(), &mut symbols, &control).unwrap();
    assert!((1..set.len()).all(|i| symbols.compare(set.labels(i - 1), set.labels(i)).is_lt()));
    let start = db.time_range().unwrap().0;
    let end = db.newest_sample_time(&control).unwrap().unwrap();
    let (mut whole, mut newest) = (SampleColumns::default(), SampleColumns::default());
    let (mut much, mut little) = (ReadStats::default(), ReadStats::default());
    for i in 0..set.len() {
        for k in 0..=8 {
            let first = start + (end - start) * k / 8 + 7;
            let mut filter =
                TimeFilter { first, step: 0, steps: 1, before: 300_000, after: 0, newest_only: false };
            whole.clear();
            newest.clear();
            set.read(i, &filter, &mut whole, &mut much).unwrap();
            filter.newest_only = true;
            set.read(i, &filter, &mut newest, &mut little).unwrap();
            assert_eq!(
                newest.floats.t.last(),
                whole.floats.t.last(),
                "{} at {first}",
                symbols.labels(set.labels(i))
            );
        }
    }
    assert!(little.chunks < much.chunks, "{little:?} {much:?}");
}

#[test]
fn a_block_that_is_cut_between_listing_and_reading_is_not_missed() {
    let Some((_dir, top)) = testkit::unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let up = [Matcher::equal("__name__", "up")];
    let whole = read(&open(std::slice::from_ref(&top)), i64::MIN, i64::MAX, &up);
    let aside = testkit::scratch();
    // The oldest stands for one that was just made: the log has its samples no more either.
    let cut = block_dirs(&top).remove(0);
    let away = aside.path().join(cut.file_name().unwrap());
    std::fs::rename(&cut, &away).unwrap();
    let db = open(std::slice::from_ref(&top));
    let before = read(&db, i64::MIN, i64::MAX, &up);
    assert!(before.len() < whole.len());
    std::fs::rename(&away, &cut).unwrap();
    assert!(read(&db, i64::MIN, i64::MAX, &up) == whole);
    // A block that vanished is not asked for again.
    let db = open(std::slice::from_ref(&top));
    std::fs::rename(&cut, &away).unwrap();
    assert!(read(&db, i64::MIN, i64::MAX, &up) == before);
    assert!(db.newest_sample_time(&Control::default()).unwrap().is_some());
}

#[test]
fn what_is_no_data_directory_is_told_with_what_to_give_instead() {
    let dir = testkit::scratch();
    let at = |name: &str| dir.path().join(name);
    for name in [
        "empty",
        "agent/wal",
        "outer/data/wal",
        "log",
        "log2/checkpoint.00000007",
        "half",
        "half2",
        "file-dir",
    ] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["agent/wal/00000000", "log/00000003", "half/index", "half2/meta.json", "file"] {
        std::fs::write(at(name), "").unwrap();
    }
    let message = |name: &str| match Database::open(&[at(name)], OpenOptions::default()) {
        Ok(_) => String::new(),
        Err(e) => e.to_string().replace(&dir.path().display().to_string(), "D"),
    };
    for (name, want) in [
        ("agent", ""),
        ("outer/data", ""),
        (
            "outer",
            "D/outer: neither a data directory (no blocks and no wal directory in it) nor a block (no meta.json in it); did you mean -d D/outer/data?",
        ),
        (
            "empty",
            "D/empty: neither a data directory (no blocks and no wal directory in it) nor a block (no meta.json in it); give the directory that Prometheus has as --storage.tsdb.path or --storage.agent.path, or a block's",
        ),
        (
            "log",
            "D/log: this is a write-ahead log, not a data directory; give the directory that contains it: -d D",
        ),
        (
            "log2",
            "D/log2: this is a write-ahead log, not a data directory; give the directory that contains it: -d D",
        ),
        (
            "half",
            "D/half: a block without its meta.json, which tells its range; give the data directory it came from, or restore the file",
        ),
        ("half2", "D/half2: a block without its index, which nothing can be read without; restore the file"),
        ("nothing", "D/nothing: cannot list directory: No such file or directory (os error 2)"),
        ("file", "D/file: is no directory; give a data directory, or a block's"),
    ] {
        assert_eq!(message(name), want, "{name}");
    }
}

/// Answers of the `series` API, recorded from a server.
fn check_series(archive: &str, golden: &str) {
    let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
    let Some(text) = testkit::read_text(golden) else { return };
    let db = open(&[top]);
    let control = Control::default();
    let mut checked = 0;
    for line in text.lines().filter(|l| l.contains("\"/api/v1/series\"")) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["code"] != 200 {
            continue;
        }
        let params = &line["params"];
        let ms = |key: &str, default: i64| match &params[key] {
            serde_json::Value::Null => Some(default),
            v => Some((v.as_f64().or_else(|| v.as_str()?.parse().ok())? * 1000.0) as i64),
        };
        let (Some(start), Some(end)) = (ms("start", i64::MIN), ms("end", i64::MAX)) else { continue };
        let texts: Vec<&str> = match &params["match[]"] {
            serde_json::Value::Array(list) => list.iter().filter_map(|m| m.as_str()).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let Some(selections) = texts.iter().map(|t| selector(t)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let querier = db.querier(start, end, &selections, &control).unwrap();
        let mut found = std::collections::BTreeSet::new();
        for matchers in &selections {
            let mut symbols = SymbolTable::new();
            let hints = SelectHints { start, end, series_only: true, ..SelectHints::default() };
            let set = querier.select(&hints, matchers, &mut symbols, &control).unwrap();
            for i in 0..set.len() {
                let labels = set.labels(i).iter().map(|(n, v)| (symbols.resolve(*n), symbols.resolve(*v)));
                let labels: BTreeMap<&str, &str> = labels.collect();
                found.insert(serde_json::to_string(&labels).unwrap());
            }
        }
        let mut want: Vec<String> = Vec::new();
        for series in line["body"]["data"].as_array().into_iter().flatten() {
            let labels: BTreeMap<String, String> = serde_json::from_value(series.clone()).unwrap();
            want.push(serde_json::to_string(&labels).unwrap());
        }
        match params["limit"].as_str() {
            Some(_) => {
                assert!(want.iter().all(|w| found.contains(w)) && found.len() > want.len(), "{texts:?}")
            }
            None => {
                want.sort_unstable();
                assert_eq!(found.into_iter().collect::<Vec<_>>(), want, "{texts:?} {start} {end}");
            }
        }
        checked += 1;
    }
    assert!(checked >= 2, "{checked}");
}

/// The matchers of a plain selector; `None` for what takes a parser.
fn selector(text: &str) -> Option<Vec<Matcher>> {
    let (name, braces) = text.split_once('{').map_or((text, None), |(n, b)| (n, Some(b)));
    let mut matchers = Vec::new();
    if !name.is_empty() {
        matchers.push(Matcher::equal("__name__", name));
    }
    for part in braces.and_then(|b| b.strip_suffix('}')).into_iter().flat_map(|b| b.split(',')) {
        let (name, rest) = part.split_once('=')?;
        let (kind, name, value) = match (name.strip_suffix('!'), rest.strip_prefix('~')) {
            (None, Some(value)) => (tsdbctl_model::MatchType::Regexp, name, value),
            (None, None) => (tsdbctl_model::MatchType::Equal, name, rest),
            (Some(name), None) => (tsdbctl_model::MatchType::NotEqual, name, rest),
            (Some(_), Some(_)) => return None,
        };
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        matchers.push(Matcher::new(kind, name.trim().trim_matches('"'), value).ok()?);
    }
    Some(matchers)
}

#[test]
fn series_are_listed_as_real_servers_list_them() {
    check_series("data/prometheus-2.42-crashed.tar.zst", "data/golden-queries.jsonl");
    check_series("data/prometheus-3.14-crashed.tar.zst", "data/golden-3.14.jsonl");
    check_series("data/prometheus-3.14-xor2-crashed.tar.zst", "data/golden-3.14-xor2.jsonl");
}
