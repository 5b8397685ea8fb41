//! Every case of the shared verdicts through `tsdbctl ingest`: what Prometheus 3.14 made of a scraped body, against what
//! the directory has afterwards.
//!
//! The crate exposition compares the parser's answers; here the whole way is taken, to the write-ahead log and back.

#![allow(clippy::disallowed_methods, reason = "tests read their own files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value as Json, json};
use tsdbctl_testkit::scratch;
use tsdbctl_wal::SegmentReader;
use tsdbctl_wal::record::{MetadataEntry, SeriesEntry, Visitor, decode};
use tsdbctl_wal::segment::list_segments;

/// When the bodies with timestamps were judged.
const NOW_MS: i64 = 1_795_262_660_000;
const NOW: &str = "1795262660";
/// Exemplars further off were stored by upstream too, but not asked for when the verdicts were made.
const ASKED_MS: i64 = 86_400_000;

/// Samples that a scrape adds about itself.
const REPORT: [&str; 4] =
    ["up", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"];

/// What `ingest` does instead, where it differs from a scrape on purpose.
#[derive(Clone, Copy)]
enum Instead {
    /// Exit status and a part of what is said.
    Says(i32, &'static str),
    /// A sample more.
    Stores(&'static str),
    /// Nothing is said about the series.
    NoMetadata,
}

/// Names of bodies where `ingest` differs on purpose, and why. Besides, what stands in front of an error is stored, as
/// its samples may be all there is of them; a scrape takes all or nothing.
const ON_PURPOSE: &[(&str, Instead, &str)] = &[
    ("ct-none", Instead::Says(2, "Content-Type"), "there is no fallback: --format says what it is"),
    ("ct-html", Instead::Says(2, "Content-Type"), "as ct-none"),
    ("ct-json", Instead::Says(2, "Content-Type"), "as ct-none"),
    ("t-dup-label", Instead::Says(4, "1 invalid labels"), "a wrong series costs only itself"),
    ("t-name-label", Instead::Says(4, "1 invalid labels"), "as t-dup-label"),
    (
        "t-ts-future",
        Instead::Stores("{__name__=\"a\"} 1 1795266250000"),
        "the future has no limit unless --max-future sets one, by the clock",
    ),
    (
        "t-type-after",
        Instead::NoMetadata,
        "a scrape's next round would write it, here the series has gone by",
    ),
    ("o-after-eof", Instead::Says(1, ":4:1: data does not end with # EOF"), "another body may follow"),
    ("pb-truncated", Instead::Says(1, "at byte 16345: the metric family goes on"), "the place is named"),
];

fn tsdbctl(args: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tsdbctl")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

fn case_key(case: &Json) -> String {
    format!("{}/{}", case["mode"].as_str().unwrap(), case["name"].as_str().unwrap())
}

/// Takes a label out of a set in braces.
fn without(labels: &str, name: &str) -> (String, String) {
    let after = |before: &str| labels.find(&format!("{before}{name}=\"")).map(|p| p + before.len());
    let start = after("{").or_else(|| after(" ")).unwrap_or_else(|| panic!("{name} is in {labels}"));
    let value = start + name.len() + 2;
    let end = value + labels[value..].find('"').unwrap();
    let (mut before, mut after) = (&labels[..start], &labels[end + 1..]);
    match after.strip_prefix(", ") {
        Some(rest) => after = rest,
        None => before = before.strip_suffix(", ").unwrap_or(before),
    }
    (format!("{before}{after}"), labels[value..end].to_owned())
}

/// What is stored for each case.
#[derive(Default)]
struct Stored {
    samples: BTreeSet<String>,
    exemplars: BTreeSet<String>,
    /// Names of series, and type, help and unit.
    metadata: BTreeSet<(String, String)>,
}

const TYPES: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

/// Metadata records of a log, by series.
#[derive(Default)]
struct Records {
    series: BTreeMap<u64, BTreeMap<String, String>>,
    metadata: Vec<(u64, String)>,
}

impl Visitor for Records {
    fn series(&mut self, entry: SeriesEntry<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.series.insert(entry.series, entry.labels.iter().map(|(n, v)| (text(n), text(v))).collect());
    }

    fn metadata(&mut self, entry: MetadataEntry<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = json!([TYPES[usize::from(entry.metric_type)], text(entry.help), text(entry.unit)]);
        self.metadata.push((entry.series, said.to_string()));
    }
}

fn metadata_of(dir: &Path, stored: &mut BTreeMap<String, Stored>) {
    let mut records = Records::default();
    for segment in list_segments(&dir.join("wal")).unwrap() {
        let map = segment.open().unwrap();
        let (mut reader, mut record) = (SegmentReader::new(map.bytes(), 0), Vec::new());
        while reader.next_into(&mut record).unwrap() {
            decode(&record, &mut records).unwrap();
            record.clear();
        }
    }
    for (series, said) in records.metadata {
        let labels = &records.series[&series];
        stored.entry(labels["case"].clone()).or_default().metadata.insert((labels["__name__"].clone(), said));
    }
}

fn samples_of(dir: &str, stored: &mut BTreeMap<String, Stored>) {
    let (code, dump, err) = tsdbctl(&["export", "-d", dir]);
    assert_eq!(code, 0, "{err}");
    for line in dump.lines() {
        let (line, _) = without(line, "job");
        let (line, _) = without(&line, "instance");
        let (line, case) = without(&line, "case");
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let t = if t.parse() == Ok(NOW_MS) { "T" } else { t };
        stored.entry(case).or_default().samples.insert(format!("{rest} {t}"));
    }
}

fn exemplars_of(dir: &str, stored: &mut BTreeMap<String, Stored>) {
    let (code, out, err) = tsdbctl(&["inspect", "exemplars", "-d", dir, "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let answer: Json = serde_json::from_str(&out).unwrap();
    for series in answer["data"].as_array().unwrap() {
        let mut labels = series["seriesLabels"].as_object().unwrap().clone();
        let case = labels.remove("case").unwrap();
        labels.remove("job");
        labels.remove("instance");
        for e in series["exemplars"].as_array().unwrap() {
            let at = e["timestamp"].as_f64().unwrap();
            let ms = (at * 1000.0).round() as i64;
            if (ms - NOW_MS).abs() > ASKED_MS {
                continue;
            }
            let at = if ms == NOW_MS { json!("T") } else { json!(at) };
            let e = json!([labels, {"labels": e["labels"], "value": e["value"], "timestamp": at}]);
            stored.entry(case.as_str().unwrap().to_owned()).or_default().exemplars.insert(plain(&e));
        }
    }
}

/// JSON with sorted keys and one form of numbers.
fn plain(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<&String, String> = map.iter().map(|(k, v)| (k, plain(v))).collect();
            format!("{sorted:?}")
        }
        Json::Array(list) => format!("{:?}", list.iter().map(plain).collect::<Vec<_>>()),
        Json::Number(n) => format!("{:?}", n.as_f64().unwrap()),
        other => other.to_string(),
    }
}

fn name_of(line: &str) -> &str {
    let start = line.find("__name__=\"").unwrap() + 10;
    &line[start..start + line[start..].find('"').unwrap()]
}

fn difference(what: &str, got: &BTreeSet<String>, want: &BTreeSet<String>) -> Option<String> {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).take(3).cloned().collect()
    };
    (got != want).then(|| format!("{what}: missing {:#?}, surplus {:#?}", only(want, got), only(got, want)))
}

/// Names of families that a series of this name may belong to.
fn families(series: &str) -> Vec<String> {
    let suffixes = ["_total", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info"];
    let cut = suffixes.iter().filter_map(|s| series.strip_suffix(s)).map(str::to_owned);
    cut.chain([series.to_owned(), format!("{series}_total"), format!("{series}_info")]).collect()
}

/// What is in the log about a series is what upstream knows of its family, and nothing is missing of series that are
/// called as their family is.
fn metadata_difference(case: &Json, stored: &Stored) -> Option<String> {
    let said: BTreeMap<&str, String> = case["metadata"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m[0].as_str().unwrap(), json!([m[1], m[2], m[3]]).to_string()))
        .collect();
    let is_said = |(name, record): &(String, String)| {
        families(name).iter().any(|family| said.get(family.as_str()) == Some(record))
    };
    if let Some(surplus) = stored.metadata.iter().find(|m| !is_said(m)) {
        return Some(format!("metadata {surplus:?} is not upstream's"));
    }
    let empty = json!(["unknown", "", ""]).to_string();
    let names: BTreeSet<&str> = stored.samples.iter().map(|line| name_of(line)).collect();
    let missing = said.iter().find(|(family, text)| {
        let record = ((**family).to_owned(), (*text).clone());
        **text != empty && names.contains(**family) && !stored.metadata.contains(&record)
    });
    missing.map(|missing| format!("metadata {missing:?} is missing"))
}

/// Cases of one mode, each with a label of its own in one directory.
fn run_mode(mode: &str, cases: &[Json], bodies: &Path) -> (usize, Vec<String>) {
    let place = scratch();
    let dir = place.path().join("db");
    let path = dir.to_str().unwrap();
    let choices: &[&str] = match mode {
        "native" => &["--scrape-native-histograms", "--always-scrape-classic-histograms"],
        "nhcb" => &["--convert-classic-histograms-to-nhcb"],
        _ => &[],
    };
    let mut failures = Vec::new();
    // As at a server that has scraped something before: the head's time is that of the scrape.
    let first = place.path().join("first.txt");
    std::fs::write(&first, "first 1\n").unwrap();
    tsdbctl(&[
        "ingest",
        "-d",
        path,
        first.to_str().unwrap(),
        "--timestamp",
        NOW,
        "--label",
        "case=first",
        "--label",
        "job=j",
        "--label",
        "instance=i",
    ]);
    let mut ran = Vec::new();
    for case in cases {
        let file = bodies.join(case["name"].as_str().unwrap());
        let label = format!("case={}", case_key(case));
        let args = [
            "ingest",
            file.to_str().unwrap(),
            "-d",
            path,
            "--timestamp",
            NOW,
            "--label",
            &label,
            "--label",
            "job=target",
            "--label",
            "instance=body",
            "--content-type",
            case["content_type"].as_str().unwrap(),
            "--enable-feature",
            "exemplar-storage,metadata-wal-records",
            "--out-of-order-time-window",
            "0s",
            "--sort",
            "never",
        ];
        ran.push(tsdbctl(&[&args[..], choices].concat()));
    }
    let mut stored = BTreeMap::new();
    samples_of(path, &mut stored);
    exemplars_of(path, &mut stored);
    metadata_of(&dir, &mut stored);
    for (case, (code, _, err)) in cases.iter().zip(ran) {
        let key = case_key(case);
        let name = case["name"].as_str().unwrap();
        let got = stored.remove(&key).unwrap_or_default();
        let mut wrong = Vec::new();
        let error = case["error"].as_str().unwrap();
        let instead = ON_PURPOSE.iter().find(|(body, ..)| *body == name).map(|p| p.1);
        if let Some(Instead::Says(status, text)) = instead {
            if code != status || !err.contains(text) {
                wrong.push(format!("exit {code}: {err}"));
            }
        } else if case["up"] == true {
            if !matches!(code, 0 | 4) {
                wrong.push(format!("exit {code}: {err}"));
            }
            let set =
                |list: &Json, of: fn(&Json) -> String| list.as_array().unwrap().iter().map(of).collect();
            let mut samples: BTreeSet<String> = set(&case["samples"], |s| s.as_str().unwrap().to_owned());
            samples.retain(|line| !REPORT.contains(&name_of(line)));
            if let Some(Instead::Stores(line)) = instead {
                assert!(samples.insert(line.to_owned()), "{key}: upstream stores it too");
            }
            wrong.extend(difference("samples", &got.samples, &samples).map(|d| format!("{d}\n{err}")));
            wrong.extend(difference("exemplars", &got.exemplars, &set(&case["exemplars"], plain)));
            let metadata = metadata_difference(case, &got);
            match instead {
                Some(Instead::NoMetadata) => assert!(metadata.is_some(), "{key}: no difference"),
                _ => wrong.extend(metadata),
            }
        } else if !matches!(code, 1 | 2) || !err.contains(error) {
            wrong.push(format!("exit {code}, not {error:?}: {err}"));
        }
        if !wrong.is_empty() {
            failures.push(format!("{key}\n{}", wrong.join("\n")));
        }
    }
    (cases.len(), failures)
}

#[test]
fn bodies_are_stored_as_prometheus_stores_them() {
    let Some(text) = tsdbctl_testkit::read_text("data/exposition-3.14/cases.jsonl.zst") else { return };
    let Some(bodies) = tsdbctl_testkit::shared("data/exposition-3.14/bodies") else { return };
    let mut modes: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for line in text.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        modes.entry(case["mode"].as_str().unwrap().to_owned()).or_default().push(case);
    }
    // What it stores shuts out what is an hour older.
    modes.values_mut().for_each(|cases| cases.sort_by_key(|case| case["name"] == "t-ts-future"));
    // A few in one directory: every run reads what the directory has.
    let groups: Vec<(&String, &[Json])> =
        modes.iter().flat_map(|(mode, cases)| cases.chunks(6).map(move |cases| (mode, cases))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        while let Some((mode, cases)) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push(run_mode(mode, cases, &bodies));
        }
        results
    };
    let results: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(work));
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let count: usize = results.iter().map(|r| r.0).sum();
    let failures: Vec<String> = results.into_iter().flat_map(|r| r.1).collect();
    assert_eq!(count, 198, "cases");
    assert!(failures.is_empty(), "{} of {count} differ\n{}", failures.len(), failures.join("\n\n"));
}
