//! Blocks that `compact`, `compact --flush-head`, `ingest --blocks`, `merge` and `slice` made, read by promtool and opened
//! by a Prometheus server: the same lists, counts, dumps and answers; it compacts them further without complaint, and
//! what comes of that holds the same.
//!
//! Runs where `TSDBCTL_PEER_PROMETHEUS` and `TSDBCTL_PEER_PROMTOOL` name the peer's programs (2.42 or newer), and skips
//! with a message elsewhere. What 2.42 does not know (XOR2, start timestamps, custom buckets) is not written here.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod peers;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use peers::{
    ask_both, assert_same, complaints, export, has_histogram, percent, promtool_dump, push, terminate,
};
use runs::{copy, ok, peer, text_of};
use serde_json::Value;
use tsdbctl_model::histogram::{BucketSpan, ConvertedHistogram};
use tsdbctl_model::{Histogram, Labels};
use tsdbctl_testkit::peer::Prometheus;
use tsdbctl_testkit::{TempDir, scratch};
use tsdbctl_wire::{HistogramSample, WriteRequestWriter, snappy};

const MINUTE: i64 = 60_000;
const H: i64 = 60 * MINUTE;
/// A multiple of 54 hours, in 2023.
const T: i64 = 8_750 * 54 * H;
/// What is written lies within so many hours from [`T`].
const HOURS: i64 = 8;
/// Selects every series.
const ALL: &str = "{__name__=~\".+\"}";

/// A sample: name, labels (`a="b", …`), value and time.
struct Row {
    name: &'static str,
    labels: String,
    value: String,
    t: i64,
}

impl Row {
    /// As text exposition has it.
    fn text(&self) -> String {
        format!("{}{{{}}} {} {}\n", self.name, self.labels, self.value, self.t)
    }

    /// As OpenMetrics has it.
    fn openmetrics(&self) -> String {
        let seconds = self.t as f64 / 1000.0;
        let labels = self.labels.replace(", ", ",");
        format!("{}{{{labels}}} {} {seconds}\n", self.name, self.value)
    }

    /// As promtool dumps it.
    fn dumped(&self, label: &str) -> String {
        // Labels that are added here sort behind.
        let labels = [self.labels.as_str(), label].into_iter().filter(|l| !l.is_empty());
        let labels = labels.collect::<Vec<_>>().join(", ");
        let name = self.name;
        let between = if labels.is_empty() { "" } else { ", " };
        format!("{{__name__=\"{name}\"{between}{labels}}} {} {}", self.value, self.t)
    }
}

/// A sample a minute of series of every kind of values, in hours from [`T`]; `which` makes other series.
fn rows(which: &str, hours: std::ops::Range<i64>) -> Vec<Row> {
    let odd = ["NaN", "+Inf", "-Inf", "-0", "5e-324", "1.7976931348623157e+308", "0.1", "9007199254740993"];
    let mut rows = Vec::new();
    for t in (T + hours.start * H + 7..T + hours.end * H).step_by(MINUTE as usize) {
        let i = (t - T) / MINUTE;
        let mut add = |name, labels: String, value: String| rows.push(Row { name, labels, value, t });
        for s in 0..6 {
            // Some come and go.
            if (i / 50 + s) % 4 > 0 {
                let gauge = (i * 7 + s) % 31;
                add("gauge", format!("from=\"{which}\", g=\"{s}\""), format!("{gauge}.25"));
            }
            add("requests_total", format!("from=\"{which}\", g=\"{s}\""), (i * (s + 1) % 500).to_string());
        }
        add("constant", format!("from=\"{which}\""), "42".to_owned());
        let value = odd[i as usize % odd.len()];
        add("odd", format!("from=\"{which}\""), value.replace("9007199254740993", "9.007199254740992e+15"));
    }
    rows
}

fn text(rows: &[Row]) -> String {
    rows.iter().map(Row::text).collect()
}

fn dumped(rows: &[Row], label: &str) -> BTreeSet<String> {
    rows.iter().map(|r| r.dumped(label)).collect()
}

/// A native histogram a minute, which restarts and gets more buckets, as remote write.
fn histograms(hours: std::ops::Range<i64>) -> Vec<u8> {
    let samples: Vec<HistogramSample> = (T + hours.start * H + 7..T + hours.end * H)
        .step_by(MINUTE as usize)
        .map(|t| {
            let n = (t / MINUTE).rem_euclid(170) as u64;
            let buckets = 1 + n / 50;
            let histogram = Histogram {
                schema: 1,
                count: n * buckets,
                sum: n as f64 / 4.0,
                positive_spans: vec![BucketSpan { offset: 0, length: buckets as u32 }],
                positive_buckets: std::iter::once(n as i64).chain((1..buckets).map(|_| 0)).collect(),
                ..Histogram::default()
            };
            let histogram = ConvertedHistogram::Integer(histogram);
            HistogramSample { timestamp_ms: t, start_timestamp_ms: 0, histogram }
        })
        .collect();
    let mut w = WriteRequestWriter::default();
    w.series(&Labels::from_pairs([("__name__", "native"), ("from", "a")]), &[], &[], &samples);
    snappy::compress(&w.finish()).unwrap()
}

/// Backfills a directory with rows and histograms, into blocks of two hours.
fn backfilled(place: &Path, name: &str, rows: &[Row], native: Option<&[u8]>) -> PathBuf {
    let dir = place.join(name);
    let mut files = vec![place.join(format!("{name}.txt"))];
    fs::write(&files[0], text(rows)).unwrap();
    if let Some(body) = native {
        files.push(place.join(format!("{name}.rw")));
        fs::write(&files[1], body).unwrap();
    }
    let files: Vec<&str> = files.iter().map(|f| text_of(f)).collect();
    ok(&[&["ingest", "--blocks", "-d", text_of(&dir)], &files[..]].concat());
    dir
}

/// Metas by identifier.
fn metas(dir: &Path) -> BTreeMap<String, Value> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries
        .filter_map(|e| {
            let meta = fs::read(e.path().join("meta.json")).ok()?;
            Some((e.file_name().into_string().unwrap(), serde_json::from_slice(&meta).unwrap()))
        })
        .collect()
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries
        .map(|e| if e.path().is_dir() { bytes_below(&e.path()) } else { e.metadata().unwrap().len() })
        .sum()
}

fn promtool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).arg("tsdb").args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && complaints(&said).is_empty(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `promtool tsdb list` says of a directory is what is in its blocks.
fn check_list(program: &str, dir: &Path) {
    let text = promtool(program, &["list", text_of(dir)]);
    let listed: BTreeMap<String, Vec<u64>> = text
        .lines()
        .skip(1)
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // The duration is that of the range.
            let numbers = [1, 2, 4, 5, 6, 7].map(|i| words[i].parse().unwrap());
            (words[0].to_owned(), numbers.to_vec())
        })
        .collect();
    let want: BTreeMap<String, Vec<u64>> = metas(dir)
        .into_iter()
        .map(|(ulid, meta)| {
            let stats = ["numSamples", "numChunks", "numSeries"].map(|k| meta["stats"][k].as_u64().unwrap());
            let range = ["minTime", "maxTime"].map(|k| meta[k].as_u64().unwrap());
            let size = bytes_below(&dir.join(&ulid));
            (ulid, [&range[..], &stats, &[size]].concat())
        })
        .collect();
    assert_eq!(listed, want, "{text}");
}

/// What `promtool tsdb analyze` counts in each block is what comes of the series we list.
fn check_analysis(program: &str, dir: &Path) {
    for ulid in metas(dir).keys() {
        let block = dir.join(ulid);
        let answer = ok(&["inspect", "series", "-d", text_of(&block), "-m", ALL, "-o", "json"]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let series: Vec<&serde_json::Map<String, Value>> =
            answer["data"].as_array().unwrap().iter().map(|s| s.as_object().unwrap()).collect();
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut by_metric: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, value) in series.iter().copied().flatten() {
            values.entry(name).or_default().insert(value.as_str().unwrap());
        }
        for name in series.iter().map(|s| s["__name__"].as_str().unwrap()) {
            *by_metric.entry(name).or_default() += 1;
        }
        let text = promtool(program, &["analyze", "--limit=1000", text_of(dir), ulid]);
        let number = |what: &str| -> usize {
            let line = text.lines().find_map(|l| l.strip_prefix(what)).unwrap_or_else(|| panic!("{text}"));
            line.trim().parse().unwrap()
        };
        let list = |what: &str| -> BTreeSet<String> {
            let lines = text.lines().skip_while(|l| *l != what).skip(1);
            lines.take_while(|l| !l.is_empty()).map(str::to_owned).collect()
        };
        assert_eq!(number("Series:"), series.len(), "{text}");
        assert_eq!(number("Label names:"), values.len(), "{text}");
        let pairs = values.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(number("Postings (unique label pairs):"), pairs, "{text}");
        let entries = series.iter().map(|s| s.len()).sum::<usize>();
        assert_eq!(number("Postings entries (total label pairs):"), entries, "{text}");
        let want: BTreeSet<String> = values.iter().map(|(n, v)| format!("{} {n}", v.len())).collect();
        assert_eq!(list("Highest cardinality labels:"), want);
        let want: BTreeSet<String> = by_metric.iter().map(|(n, count)| format!("{count} {n}")).collect();
        assert_eq!(list("Highest cardinality metric names:"), want);
    }
}

fn floats(lines: &BTreeSet<String>) -> BTreeSet<String> {
    lines.iter().filter(|l| !has_histogram(l)).cloned().collect()
}

/// 2.42 dumps no histograms.
fn check_dump(program: &str, dir: &Path, want: &BTreeSet<String>) {
    let (dump, said) = promtool_dump(program, dir);
    assert_eq!(complaints(&said), Vec::<String>::new());
    assert_same(&floats(want), &floats(&dump), "what promtool dumps");
}

const EXPRESSIONS: &[&str] = &[
    "gauge",
    "sum by (g) (rate(requests_total[10m]))",
    "odd",
    "constant",
    "sum by (from, g) (count_over_time(gauge[1h]))",
    "last_over_time(gauge{g=~\"[0-3]\"}[40m])",
    "native",
    "histogram_count(native)",
    // Quantiles of native histograms are interpolated otherwise by newer versions.
    "histogram_sum(native)",
    "count({__name__=~\".+\"})",
    "late",
];

fn check_answers(server: &Prometheus, dir: &Path) {
    let seconds = |ms: i64| format!("{}.137", ms / 1000);
    let (start, end) = (seconds(T - H), seconds(T + (HOURS + 1) * H));
    let (mut wrong, mut bytes) = (Vec::new(), 0);
    let mut check = |path: &str, args: &[&str]| {
        let (differs, size) = ask_both(server, dir, path, args);
        wrong.extend(differs);
        bytes += size;
    };
    for expression in EXPRESSIONS {
        let query = percent(expression);
        let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=97");
        check(&path, &["query", expression, "--start", &start, "--end", &end, "--step", "97"]);
        for t in [T + H, T + 2 * H, T + 6 * H - MINUTE, T + 7 * H] {
            let time = seconds(t);
            let path = format!("/api/v1/query?query={query}&time={time}");
            check(&path, &["query", expression, "--time", &time]);
        }
    }
    let range = format!("start={start}&end={end}");
    let times = ["--start", &start, "--end", &end];
    let path = format!("/api/v1/series?{range}&match[]={}", percent(ALL));
    check(&path, &[&["inspect", "series", "--match", ALL], &times[..]].concat());
    for label in ["__name__", "from", "g", "origin"] {
        let path = format!("/api/v1/label/{label}/values?{range}");
        check(&path, &[&["inspect", "labels", "--values", label], &times[..]].concat());
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(bytes > 50_000, "the peer answered with {bytes} bytes only");
}

/// Everything that a peer can say of blocks that hold `want`.
fn check(place: &TempDir, dir: &Path, want: &BTreeSet<String>) {
    let (Some(prometheus), Some(tool)) = (peer("TSDBCTL_PEER_PROMETHEUS"), peer("TSDBCTL_PEER_PROMTOOL"))
    else {
        return;
    };
    assert_same(&export(dir), want, "what we export");
    let copied = place.path().join("peer");
    copy(dir, &copied);
    check_list(&tool, &copied);
    check_analysis(&tool, &copied);
    check_dump(&tool, &copied, want);
    let features = ["--enable-feature=native-histograms", "--web.enable-remote-write-receiver"];
    let server = Prometheus::start(&prometheus, &copied, place.path(), &features);
    check_answers(&server, dir);

    // Later samples make it compact its head, and then what lies complete before them.
    let later = [T + 30 * H, T + 34 * H];
    later.iter().for_each(|t| push(&server, "afterwards", *t));
    let mut quiet = 0;
    for _ in 0..300 {
        let before = server.log();
        std::thread::sleep(Duration::from_millis(100));
        quiet = if server.log() == before { quiet + 1 } else { 0 };
        if quiet > 10 && before.contains("compact blocks") && before.contains("Deleting obsolete block") {
            break;
        }
    }
    let log = terminate(server);
    assert_eq!(complaints(&log), Vec::<String>::new());
    let (before, after) = (metas(dir), metas(&copied));
    let merged = after.values().filter(|m| m["compaction"]["parents"].as_array().is_some());
    let parents: BTreeSet<&str> = merged
        .flat_map(|m| m["compaction"]["parents"].as_array().unwrap())
        .filter_map(|p| p["ulid"].as_str())
        .filter(|p| before.contains_key(*p))
        .collect();
    assert!(parents.len() > 1, "none of our blocks were merged: {log}");
    assert!(parents.iter().all(|p| !after.contains_key(*p)), "{parents:?}, {:?}", after.keys());
    let mut want = want.clone();
    want.extend(later.iter().map(|t| format!("{{__name__=\"afterwards\"}} 7 {t}")));
    assert_same(&export(&copied), &want, "what it compacted");
}

/// What has histograms is known by our reader alone.
fn with_histograms(rows: &BTreeSet<String>, dir: &Path) -> BTreeSet<String> {
    let all = export(dir);
    assert_same(&floats(&all), rows, "floats");
    assert!(all.len() > rows.len(), "no histograms");
    all
}

#[test]
fn blocks_of_a_backfill() {
    let place = scratch();
    let rows = rows("a", 0..HOURS);
    let dir = backfilled(place.path(), "data", &rows, Some(&histograms(0..HOURS)));
    assert_eq!(metas(&dir).len(), 4);
    let want = with_histograms(&dumped(&rows, ""), &dir);
    assert_eq!(want.len(), rows.len() + 60 * HOURS as usize);
    check(&place, &dir, &want);
}

#[test]
fn blocks_that_were_compacted() {
    let Some(tool) = peer("TSDBCTL_PEER_PROMTOOL") else { return };
    let place = scratch();
    let dir = place.path().join("data");
    // Its own blocks; the second time they overlap the first ones, with new series and some samples again.
    let mut all = BTreeSet::new();
    for (file, rows) in [("a", rows("a", 0..HOURS)), ("b", rows("b", 3..5)), ("c", rows("a", 2..4))] {
        let path = place.path().join(file);
        let mut rows = rows;
        rows.sort_by_key(|r| r.t);
        fs::write(&path, rows.iter().map(Row::openmetrics).collect::<String>() + "# EOF\n").unwrap();
        promtool(&tool, &["create-blocks-from", "openmetrics", text_of(&path), text_of(&dir)]);
        all.extend(dumped(&rows, ""));
    }
    // Without a log promtool dumps nothing, and its backfill leaves none.
    fs::create_dir_all(dir.join("wal")).unwrap();
    let before = promtool_dump(&tool, &dir).0;
    assert_same(&all, &before, "what promtool made");
    let blocks = metas(&dir).len();
    ok(&["compact", "-d", text_of(&dir)]);
    assert!(metas(&dir).len() < blocks, "nothing was compacted");
    check_dump(&tool, &dir, &before);
    check(&place, &dir, &before);
}

#[test]
fn blocks_of_a_head() {
    let place = scratch();
    let dir = place.path().join("data");
    let file = |name: &str, content: &[u8]| {
        let path = place.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let ingest = |path: &Path, args: &[&str]| {
        ok(&[&["ingest", "-d", text_of(&dir), text_of(path)], args].concat());
    };
    let mut all = Vec::new();
    for (name, hours) in [("1", 0..5), ("2", 5..HOURS)] {
        let rows = rows("a", hours.clone());
        ingest(&file(name, text(&rows).as_bytes()), &[]);
        ingest(&file("native", &histograms(hours)), &["--out-of-order-time-window", "9h"]);
        all.extend(rows);
    }
    // Late ones, newest first.
    let late = (0..300).map(|i| {
        let labels = format!("g=\"{}\"", i % 3);
        Row { name: "late", labels, value: i.to_string(), t: T + 7 * H - i * 61_000 }
    });
    let late: Vec<Row> = late.collect();
    let window = ["--out-of-order-time-window", "9h", "--sort", "never"];
    ingest(&file("late", text(&late).as_bytes()), &window);
    all.extend(late);
    let want = with_histograms(&dumped(&all, ""), &dir);
    assert_eq!(metas(&dir).len(), 0);
    // What is left for the peer to merge.
    ok(&["compact", "--flush-head", "--max-block-duration", "2h", "-d", text_of(&dir)]);
    assert!(metas(&dir).len() >= 2);
    check(&place, &dir, &want);
}

#[test]
fn blocks_of_a_merge() {
    let place = scratch();
    let (a, b) = (rows("a", 0..HOURS), rows("b", 1..4));
    let native = histograms(0..HOURS);
    let one = backfilled(place.path(), "one", &a, Some(&native));
    let two = backfilled(place.path(), "two", &b, None);
    let dir = place.path().join("data");
    let args = ["--label", "origin={dir}", "--max-block-duration", "2h", "--into", text_of(&dir)];
    ok(&[&["merge", text_of(&one), text_of(&two)], &args[..]].concat());
    let mut floats = dumped(&a, "origin=\"one\"");
    floats.extend(dumped(&b, "origin=\"two\""));
    let want = with_histograms(&floats, &dir);
    check(&place, &dir, &want);
}

#[test]
fn blocks_of_a_slice() {
    let place = scratch();
    let all = rows("a", 0..HOURS);
    let one = backfilled(place.path(), "one", &all, Some(&histograms(0..HOURS)));
    let dir = place.path().join("data");
    let (start, end) = (T + H / 2, T + 7 * H);
    let times = [start, end].map(|t| (t as f64 / 1000.0).to_string());
    let args = [
        ["slice", "-d", text_of(&one)],
        ["--into", text_of(&dir), "--max-block-duration"],
        ["2h", "--match", "{g=~\"[0-2]\"}"],
    ]
    .concat();
    let more = ["--match", "native", "--match", "odd", "--start", &times[0], "--end", &times[1]];
    ok(&[&args[..], &more].concat());
    let is_in = |r: &&Row| {
        let wanted =
            r.name == "odd" || ["g=\"0\"", "g=\"1\"", "g=\"2\""].iter().any(|g| r.labels.contains(g));
        wanted && (start..=end).contains(&r.t)
    };
    let floats = all.iter().filter(is_in).map(|r| r.dumped("")).collect();
    let want = with_histograms(&floats, &dir);
    check(&place, &dir, &want);
}
