//! `tsdbctl ingest --blocks`, run as a user runs it; and its blocks, read by promtool beside those promtool makes.
//!
//! What needs promtool runs where `TSDBCTL_PEER_PROMTOOL` names it (2.42 or newer), and skips with a message elsewhere.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::io::Write;
use std::process::{Command, Stdio};

use runs::{Place, Ran, command, peer, ran, tsdbctl};
use serde_json::Value;
use tsdbctl_model::histogram::{BucketSpan, ConvertedHistogram};
use tsdbctl_model::{Histogram, Labels};
use tsdbctl_wire::{HistogramSample, Sample, WriteRequestWriter, snappy};

impl Place {
    fn backfill(&self, args: &[&str]) -> Ran {
        tsdbctl(&[&["ingest", "--blocks", "-d", &self.path("db")], args].concat())
    }

    /// Names in the data directory.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path("db")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Blocks, as their metas tell; nothing else may be there but the lock and an empty log.
    fn blocks(&self) -> Vec<Value> {
        let names = self.names();
        let blocks = names.iter().filter(|n| *n != "lock" && *n != "wal");
        let metas = blocks.map(|n| std::fs::read(format!("{}/{n}/meta.json", self.path("db"))).unwrap());
        let mut metas: Vec<Value> = metas.map(|m| serde_json::from_slice(&m).unwrap()).collect();
        metas.sort_by_key(|m| m["minTime"].as_i64());
        metas
    }

    fn ranges(&self) -> Vec<(i64, i64)> {
        self.blocks()
            .iter()
            .map(|m| (m["minTime"].as_i64().unwrap(), m["maxTime"].as_i64().unwrap()))
            .collect()
    }
}

const T: i64 = 1_700_000_000_000;

/// What promtool keeps 60 samples of: series by series, each series' times descending in steps.
fn out_of_order(series: i64, samples: i64) -> String {
    let mut text = String::from("# TYPE m gauge\n");
    for s in 0..series {
        for i in 0..samples {
            let t = 1_700_000_000 + (i * 7919 % samples) * 60;
            text += &format!("m{{s=\"{s}\"}} {} {t}\n", i * s);
        }
    }
    text + "# EOF\n"
}

fn sorted_dump(dump: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = dump.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn samples_in_any_order_are_all_stored() {
    let place = Place::new();
    let file = place.file("in.om", out_of_order(4, 600));
    let ran = place.backfill(&[&file, "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((json["read"]["samples"].as_i64(), json["stored"].as_i64()), (Some(2400), Some(2400)));
    let blocks = place.blocks();
    let told = json["blocks"].as_array().unwrap();
    assert_eq!(told.len(), blocks.len());
    for (told, meta) in told.iter().zip(&blocks) {
        assert_eq!(told["ulid"], meta["ulid"]);
        assert_eq!((&told["minTime"], &told["maxTime"]), (&meta["minTime"], &meta["maxTime"]));
        assert_eq!(told["samples"], meta["stats"]["numSamples"]);
        assert!(told["bytes"].as_u64().unwrap() > 100);
        assert_eq!(meta["compaction"]["level"], 1);
        let range = |t: &Value| t.as_i64().unwrap().div_euclid(7_200_000);
        assert_eq!(range(&meta["minTime"]), (meta["maxTime"].as_i64().unwrap() - 1).div_euclid(7_200_000));
    }
    let dump = place.dump("db");
    assert_eq!(dump.lines().count(), 2400);
    // The same with next to no memory.
    let other = Place::new();
    let file = other.file("in.om", out_of_order(4, 600));
    let ran = other.backfill(&[&file, "--memory-limit", "1KiB"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(other.dump("db"), dump);
    assert_eq!(other.ranges(), place.ranges());
}

fn remote_write() -> Vec<u8> {
    let mut w = WriteRequestWriter::default();
    let sample = |value, timestamp_ms| Sample { value, timestamp_ms, start_timestamp_ms: 0 };
    let labels = Labels::from_pairs([("__name__", "a"), ("x", "1")]);
    w.series(&labels, &[sample(1.5, T), sample(2.0, T + 1000)], &[], &[]);
    snappy::compress(&w.finish()).unwrap()
}

#[test]
fn every_format_is_read() {
    let want = format!("{{__name__=\"a\", x=\"1\"}} 1.5 {T}\n{{__name__=\"a\", x=\"1\"}} 2 {}\n", T + 1000);
    let text = "a{x=\"1\"} 1.5 1700000000000\na{x=\"1\"} 2 1700000001000\n";
    let openmetrics =
        "# TYPE a gauge\na{x=\"1\"} 1.5 1700000000\n# EOF\n# TYPE a gauge\na{x=\"1\"} 2 1700000001\n# EOF\n";
    let csv = "__name__,x,time,value\na,1,2023-11-14T22:13:20Z,1.5\na,1,1700000001000,2\n";
    let lines = "{\"metric\":{\"__name__\":\"a\",\"x\":\"1\"},\"values\":[1.5,2],\"timestamps\":[1700000000000,1700000001000]}\n";
    let part = |key: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [&[key, u8::try_from(content.len()).unwrap()][..], &content].concat()
    };
    let label = part(0x0a, &[&part(0x0a, &[b"x"]), &part(0x12, &[b"1"])]);
    let metric = |value: f64, time: [u8; 6]| {
        let value = part(0x12, &[&[9][..], &value.to_le_bytes()]);
        part(0x22, &[&label, &value, &[0x30], &time])
    };
    // Newest first.
    let (t, later) = ([0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31], [0xe8, 0xd7, 0x95, 0xff, 0xbc, 0x31]);
    let family = part(0, &[&part(0x0a, &[b"a"]), &[0x18, 1], &metric(2.0, later), &metric(1.5, t)]);
    let protobuf = family[1..].to_vec();
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("in.txt", text.into(), &[]),
        ("in.om", openmetrics.into(), &[]),
        ("in.csv", csv.into(), &[]),
        ("in.ndjson", lines.into(), &[]),
        ("in", remote_write(), &[]),
        ("in", protobuf, &["--format", "protobuf"]),
    ];
    for (name, content, args) in cases {
        let place = Place::new();
        let file = place.file(name, content);
        let ran = place.backfill(&[&[&*file], args].concat());
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert_eq!(place.dump("db"), want, "{name}");
        assert_eq!(place.ranges(), [(T, T + 1001)], "{name}");
    }
}

#[test]
fn native_histograms_are_stored_and_their_exemplars_counted() {
    let mut w = WriteRequestWriter::default();
    let labels = Labels::from_pairs([("__name__", "h")]);
    let histogram = |n: u64, t: i64| HistogramSample {
        histogram: ConvertedHistogram::Integer(Histogram {
            count: n,
            sum: n as f64,
            positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
            positive_buckets: vec![n as i64],
            ..Histogram::default()
        }),
        timestamp_ms: t,
        start_timestamp_ms: 0,
    };
    // Late ones too.
    let all: Vec<HistogramSample> =
        [5, 6, 2, 9].iter().map(|n| histogram(*n, T + 1000 * i64::try_from(*n).unwrap())).collect();
    w.series(&labels, &[], &[], &all);
    let place = Place::new();
    let file = place.file("in", snappy::compress(&w.finish()).unwrap());
    let text = place.file("in.om", "# TYPE a counter\na_total 1 1700000000 # {trace=\"x\"} 1\n# EOF\n");
    let ran = place.backfill(&[&file, &text, "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["read"]["histograms"], &json["stored"]), (&4.into(), &5.into()));
    assert_eq!(json["exemplars"]["without_place"], 1);
    assert_eq!(json["metadata_without_place"], 1);
    assert!(ran.err.contains("1 exemplars, which have no place in blocks"), "{}", ran.err);
    let query = tsdbctl(&["query", "-d", &place.path("db"), "histogram_count(h)", "--time", "1700000002"]);
    assert!(query.out.contains('2'), "{} {}", query.out, query.err);
    assert_eq!(place.blocks()[0]["stats"]["numHistogramSamples"], 4);
}

#[test]
fn stdin_is_read_once() {
    let place = Place::new();
    let mut command = command(&["ingest", "--blocks", "-", "-d", &place.path("db")]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(out_of_order(2, 300).as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(place.dump("db").lines().count(), 600);
}

#[test]
fn a_time_that_the_directory_has_is_refused_and_a_rerun_doubles_nothing() {
    let place = Place::new();
    let file = place.file("in.om", out_of_order(1, 300));
    assert_eq!(place.backfill(&[&file]).code, 0);
    let (names, dump) = (place.names(), place.dump("db"));
    let ran = place.backfill(&[&file]);
    assert_eq!(ran.code, 1);
    let ulid = place.blocks()[0]["ulid"].as_str().unwrap().to_owned();
    assert!(ran.err.contains(&ulid) && ran.err.contains("--allow-overlap"), "{}", ran.err);
    assert!(ran.err.contains("no block was written"), "{}", ran.err);
    assert_eq!(place.names(), names);
    // Told to, it writes; what is in both is there once.
    let ran = place.backfill(&[&file, "--allow-overlap"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // One of the names is the log's.
    assert_eq!(place.blocks().len(), 2 * (names.len() - 1));
    assert_eq!(place.dump("db"), dump);
    // Before and after what is there, nothing is in the way.
    let around = place.file("around.txt", format!("m 1 {}\nm 1 {}\n", T - 1, T + 300 * 60_000));
    let ran = place.backfill(&[&around]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(place.dump("db").lines().count(), 302);
}

#[test]
fn duplicates_count_and_the_first_one_is_stored() {
    let place = Place::new();
    let file = place.file("in.txt", format!("a 1 {T}\nb 1 {T}\na 2 {T}\na 1 {T}\nb 1 {}\nb 1 {T}\n", T + 5));
    let ran = place.backfill(&[&file, "-o", "json"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["stored"], &json["already_there"]), (&3.into(), &2.into()));
    assert_eq!(json["refused"], serde_json::json!({"duplicate": 1}));
    assert!(ran.err.contains("duplicate sample for timestamp, first {__name__=\"a\"}"), "{}", ran.err);
    assert!(place.dump("db").contains("{__name__=\"a\"} 1 "));
}

#[test]
fn samples_need_a_time_unless_they_are_given_one() {
    for (name, text, what) in [
        ("in.om", "# TYPE a gauge\na 1 1700000000\na 2\n# EOF\n", "in.om:3:1: expected timestamp for series"),
        ("in.txt", "a 1 1700000000000\na 2\n", "in.txt:2:1: expected timestamp for series"),
        ("in.txt", "a 2\n", "in.txt:1:1: expected timestamp for series"),
        ("in.csv", "__name__,value\na,1\n", "in.csv:2:1: no column has the time"),
        ("in.ndjson", "{\"name\":\"a\",\"value\":1}\n", "a sample without a time"),
    ] {
        let place = Place::new();
        let file = place.file(name, text);
        let ran = place.backfill(&[&file]);
        assert_eq!(ran.code, 1, "{name}");
        assert!(ran.err.contains(what) && ran.err.contains("no block was written"), "{name}: {}", ran.err);
        assert_eq!(place.blocks().len(), 0, "{name}");
        let ran = place.backfill(&[&file, "--timestamp", "1700000000.5"]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
    }
    let place = Place::new();
    let file = place.file("in.txt", "a 1\na 2 1700000000000\na 3\na 4 1700000001000\n");
    let ran = place.backfill(&[&file, "--on-error", "skip"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert_eq!(place.dump("db").lines().count(), 2);
}

#[test]
fn blocks_are_as_long_as_is_asked_and_start_before_1970_too() {
    for (duration, want) in [
        ("2h", vec![(-7_200_001, -7_200_000), (-7_200_000, 0), (0, 1), (21_600_000, 21_600_001)]),
        ("17h", vec![(-7_200_001, 0), (0, 1), (21_600_000, 21_600_001)]),
        ("1d", vec![(-7_200_001, 0), (0, 21_600_001)]),
    ] {
        let place = Place::new();
        let times = [21_600_000, -1, 0, -7_200_001, -7_200_000];
        let lines = times.map(|t| format!("{{\"name\":\"a\",\"timestamp\":{t},\"value\":1}}\n")).concat();
        let file = place.file("in.ndjson", lines);
        let ran = place.backfill(&[&file, "--max-block-duration", duration, "--timestamp-unit", "ms"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(place.ranges(), want, "{duration}");
    }
}

#[test]
fn a_head_keeps_its_samples() {
    let place = Place::new();
    let head = place.file("head.txt", format!("h 1 {T}\nh 2 {}\n", T + 60_000));
    let ran = tsdbctl(&["ingest", "-d", &place.path("db"), &head]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for t in [T, T + 30_000, T + 100_000_000] {
        let late = place.file("late.txt", format!("b 1 {t}\n"));
        let ran = place.backfill(&[&late]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("the head has samples from 2023-11-14T22:13:20Z on"), "{}", ran.err);
    }
    let before = place.file("before.txt", format!("b 1 {}\nb 2 {}\n", T - 1, T - 10_000_000));
    let ran = place.backfill(&[&before]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let behind = place.file("behind.txt", format!("b 3 {}\n", T + 100_000_000));
    let ran = place.backfill(&[&behind, "--allow-overlap"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("marked as out of order"), "{}", ran.err);
    let want = format!(
        "{{__name__=\"b\"}} 2 {}\n{{__name__=\"b\"}} 1 {}\n{{__name__=\"b\"}} 3 {}\n{{__name__=\"h\"}} 1 {T}\n{{__name__=\"h\"}} 2 {}\n",
        T - 10_000_000,
        T - 1,
        T + 100_000_000,
        T + 60_000
    );
    assert_eq!(sorted_dump(&place.dump("db")), sorted_dump(&want));
}

#[test]
fn options_that_are_for_the_log_are_refused() {
    let place = Place::new();
    let file = place.file("in.txt", "a 1 1700000000000\n");
    for args in
        [&["--ack"][..], &["--wal-sync", "os"], &["--sort", "never"], &["--out-of-order-time-window", "1h"]]
    {
        assert_eq!(place.backfill(&[&[&*file], args].concat()).code, 2, "{args:?}");
    }
    assert_eq!(tsdbctl(&["ingest", "-d", &place.path("db"), &file, "--allow-overlap"]).code, 2);
    assert_eq!(place.names(), [""; 0]);
}

/// Metas without what differs between two runs.
fn metas(dir: &str) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let Ok(bytes) = std::fs::read(entry.unwrap().path().join("meta.json")) else { continue };
        let meta: Value = serde_json::from_slice(&bytes).unwrap();
        let stats = &meta["stats"];
        out.push(format!(
            "{} {} {} {} {} {}",
            meta["minTime"],
            meta["maxTime"],
            stats["numSamples"],
            stats["numSeries"],
            stats["numChunks"],
            meta["compaction"]["level"]
        ));
    }
    out.sort();
    out
}

#[test]
fn promtool_makes_and_reads_the_same() {
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL") else { return };
    for (duration, memory) in [("2h", "256MiB"), ("6h", "256MiB"), ("2h", "64KiB")] {
        promtool_makes_the_same(&promtool, duration, memory);
    }
}

fn promtool_makes_the_same(promtool: &str, duration: &str, memory: &str) {
    let mut text = String::from("# HELP m x\n# TYPE m gauge\n");
    for s in 0..20 {
        for i in 0..1500 {
            let t = T + i * 15_000 + (s * 777 + i % 3);
            let v = if i % 500 == 7 { "NaN".to_owned() } else { format!("{}", (i * s) as f64 / 2.0) };
            text += &format!("m{{s=\"{s}\",t=\"{}\"}} {v} {}.{:03}\n", s % 3, t / 1000, t % 1000);
        }
    }
    text += "# EOF\n";
    let place = Place::new();
    let file = place.file("in.om", &text);
    let theirs = place.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let mut command = Command::new(promtool);
    command.args([
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        "--max-block-duration",
        duration,
        &file,
        &theirs,
    ]);
    let made = ran(&mut command);
    assert_eq!(made.code, 0, "{}", made.err);
    let made = place.backfill(&[&file, "--max-block-duration", duration, "--memory-limit", memory]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(metas(&place.path("db")), metas(&theirs), "{duration} {memory}");
    // Without one, 2.42 does not dump.
    for dir in [&place.path("db"), &theirs] {
        std::fs::create_dir_all(format!("{dir}/wal")).unwrap();
    }
    let asked = |args: &[&str], dir: &str| {
        let mut command = Command::new(promtool);
        command.arg("tsdb").args(args).arg(dir);
        let done = ran(&mut command);
        assert_eq!(done.code, 0, "{}", done.err);
        done.out
    };
    let dump = asked(&["dump"], &place.path("db"));
    assert_eq!(dump.lines().count(), 30_000);
    assert_eq!(dump, asked(&["dump"], &theirs), "{duration} {memory}");
    assert_eq!(
        asked(&["list"], &place.path("db")).lines().count(),
        asked(&["list"], &theirs).lines().count()
    );
    // Newer releases write what follows a jump shorter.
    let bytes = |dir: &str| -> u64 {
        let blocks = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        blocks.filter_map(|b| Some(std::fs::metadata(b.join("chunks/000001")).ok()?.len())).sum()
    };
    assert!(bytes(&place.path("db")) <= bytes(&theirs), "{duration} {memory}");
}
