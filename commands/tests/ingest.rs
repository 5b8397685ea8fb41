//! `tsdbctl ingest`, run as a user runs it: every format in, the dump out.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use runs::{Place, Ran, command, tsdbctl};
use tsdbctl_model::Labels;
use tsdbctl_model::sample::MetricType;
use tsdbctl_wire::{Metadata, Sample, WriteRequestWriter, WriteV2Writer, snappy};

impl Place {
    fn ingest(&self, args: &[&str]) -> Ran {
        tsdbctl(&[&["ingest", "-d", &self.path("db")], args].concat())
    }
}

const T: i64 = 1_700_000_000_000;

/// What is stored when `content` is ingested from a file of that name.
fn stored(name: &str, content: impl AsRef<[u8]>, args: &[&str]) -> String {
    let place = Place::new();
    let file = place.file(name, content);
    let ran = place.ingest(&[&[&*file], args].concat());
    assert_eq!(ran.code, 0, "{name}: {}", ran.err);
    place.dump("db")
}

fn v1() -> Vec<u8> {
    let mut w = WriteRequestWriter::default();
    let sample = |value, timestamp_ms| Sample { value, timestamp_ms, start_timestamp_ms: 0 };
    let labels = Labels::from_pairs([("__name__", "a"), ("x", "1")]);
    w.series(&labels, &[sample(1.5, T), sample(2.0, T + 1000)], &[], &[]);
    w.finish()
}

fn v2() -> Vec<u8> {
    let mut w = WriteV2Writer::default();
    let sample = |value, timestamp_ms| Sample { value, timestamp_ms, start_timestamp_ms: 0 };
    let labels = Labels::from_pairs([("__name__", "a"), ("x", "1")]);
    w.series(&labels, &[sample(1.5, T), sample(2.0, T + 1000)], &[], &[], &Metadata::default());
    w.finish()
}

#[test]
fn every_format_is_read() {
    let want = format!("{{__name__=\"a\", x=\"1\"}} 1.5 {T}\n{{__name__=\"a\", x=\"1\"}} 2 {}\n", T + 1000);
    let text = "a{x=\"1\"} 1.5 1700000000000\na{x=\"1\"} 2 1700000001000\n";
    let openmetrics =
        "# TYPE a gauge\na{x=\"1\"} 1.5 1700000000\n# EOF\n# TYPE a gauge\na{x=\"1\"} 2 1700000001\n# EOF\n";
    let csv = "__name__,x,time,value\na,1,2023-11-14T22:13:20Z,1.5\na,1,1700000001000,2\n";
    let positions = "1700000000,1,1.5\n1700000001,1,2\n";
    let lines = "{\"metric\":{\"__name__\":\"a\",\"x\":\"1\"},\"values\":[1.5,2],\"timestamps\":[1700000000000,1700000001000]}\n";
    let simple = "{\"name\":\"a\",\"labels\":{\"x\":\"1\"},\"timestamp\":1700000000,\"value\":1.5}\n\
                  {\"name\":\"a\",\"labels\":{\"x\":\"1\"},\"timestamp\":1700000001,\"value\":2}\n";
    let cases: [(&str, Vec<u8>, &[&str]); 14] = [
        ("in.txt", text.into(), &[]),
        ("in.prom", text.into(), &["--format", "text"]),
        ("in.txt", text.into(), &["--content-type", "text/plain; version=0.0.4"]),
        ("in.txt", openmetrics.into(), &[]),
        ("in", openmetrics.into(), &["--content-type", "application/openmetrics-text; version=1.0.0"]),
        ("in.csv", csv.into(), &[]),
        ("in", csv.into(), &[]),
        ("in", positions.into(), &["--columns", "1:time:unix_s,2:label:x,3:metric:a"]),
        ("in.ndjson", lines.into(), &[]),
        ("in", simple.into(), &["--timestamp-unit", "s"]),
        ("in", v1(), &[]),
        ("in", snappy::compress(&v1()).unwrap(), &[]),
        ("in", v2(), &[]),
        (
            "in",
            snappy::compress(&v2()).unwrap(),
            &["--content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"],
        ),
    ];
    for (name, content, args) in cases {
        assert_eq!(stored(name, &content, args), want, "{args:?} {}", String::from_utf8_lossy(&content));
    }
    let packed = zstd(text.as_bytes());
    assert_eq!(stored("in.txt.zst", packed, &[]), want);
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn protobuf_and_its_histograms_are_read() {
    // A gauge `a` and a histogram `h` with classic and native buckets.
    let part = |key: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [&[key, u8::try_from(content.len()).unwrap()][..], &content].concat()
    };
    let double = |key: u8, v: f64| [&[key][..], &v.to_le_bytes()].concat();
    let time = [&[0x30][..], &[0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31]].concat();
    let gauge =
        part(0, &[&part(0x0a, &[b"a"]), &[0x18, 1], &part(0x22, &[&part(0x12, &[&double(9, 1.5)]), &time])]);
    let bucket = part(0x1a, &[&[0x08, 1], &double(0x11, 1.0)]);
    let span = part(0x62, &[&[0x08, 0], &[0x10, 1]]);
    let native: [&[u8]; 7] = [
        &[0x08, 2],
        &double(0x11, 3.0),
        &bucket,
        &double(0x31, 0.001),
        &[0x38, 1],
        &span,
        &part(0x6a, &[&[2]]),
    ];
    let histogram = part(0, &[&part(0x0a, &[b"h"]), &[0x18, 4], &part(0x22, &[&part(0x3a, &native), &time])]);
    let body = [&gauge[1..], &histogram[1..]].concat();
    let at = 1_700_000_000_000u64;
    let gauge = format!("{{__name__=\"a\"}} 1.5 {at}\n");
    let classic = stored("in", &body, &[]);
    assert!(classic.starts_with(&gauge), "{classic}");
    assert_eq!(classic.lines().count(), 5, "{classic}");
    let native = stored("in", &body, &["--scrape-native-histograms"]);
    assert_eq!(
        native,
        format!("{gauge}{{__name__=\"h\"}} {{count:2, sum:3, [-0.001,0.001]:1, (0.5,1]:1}} {at}\n")
    );
    let converted = stored("in", &body, &["--convert-classic-histograms-to-nhcb"]);
    assert_eq!(
        converted,
        format!("{gauge}{{__name__=\"h\"}} {{count:2, sum:3, [-Inf,1]:1, (1,+Inf]:1}} {at}\n")
    );
    let both = stored("in", &body, &["--scrape-native-histograms", "--always-scrape-classic-histograms"]);
    assert_eq!(both.lines().count(), 6, "{both}");
}

#[test]
fn a_converted_histogram_before_a_line_that_cannot_be_read_is_stored_or_counted() {
    let bucket = format!("# TYPE h histogram\nh_bucket{{le=\"1\"}} 1 {T}\n");
    let rest = format!("h_bucket{{le=\"+Inf\"}} 2 {T}\nh_sum 3 {T}\nh_count 2 {T}\n");
    let want = format!("{{__name__=\"h\"}} {{count:2, sum:3, [-Inf,1]:1, (1,+Inf]:1}} {T}\n");
    for (on_error, code) in [("stop", 1), ("skip", 4)] {
        let args = ["--convert-classic-histograms-to-nhcb", "--on-error", on_error, "-o", "json"];
        for (body, dump, unreadable) in [
            (format!("{bucket}{rest}!\n"), &*want, 1),
            // Without the rest it is no histogram: it counts too.
            (format!("{bucket}!\n"), "", 2),
        ] {
            let place = Place::new();
            let ran = place.ingest(&[&[&*place.file("in.txt", &body)], &args[..]].concat());
            assert_eq!(ran.code, code, "{}", ran.err);
            assert_eq!(place.dump("db"), dump, "{on_error} {body}");
            let counts: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
            assert_eq!(counts["read"]["unreadable"], unreadable, "{on_error} {body}");
        }
    }
}

#[test]
fn labels_selectors_and_times_are_as_asked() {
    let text = "a{job=\"x\"} 1\nb 2\n# HELP c what\nc 3\n";
    let got = stored(
        "in.txt",
        text,
        &["--timestamp", "1700000000", "--label", "job=y", "--match", "a", "--match", "{__name__=~\"c|d\"}"],
    );
    assert_eq!(
        got,
        format!(
            "{{__name__=\"a\", exported_job=\"x\", job=\"y\"}} 1 {T}\n{{__name__=\"c\", job=\"y\"}} 3 {T}\n"
        )
    );
}

#[test]
fn a_line_that_cannot_be_read_is_named() {
    let place = Place::new();
    let file = place.file("in.txt", "a 1 1700000000000\nb{x=\"é\"} oops\nc 1 1700000000000\n");
    let ran = place.ingest(&[&file]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let reason = ran.err.lines().next().unwrap_or_default().to_owned();
    assert!(reason.starts_with(&format!("error: {file}:2:11: ")), "{}", ran.err);
    assert!(ran.err.contains("\n2 | b{x=\"é\"} oops\n  |          ^\n"), "{}", ran.err);
    assert_eq!(place.dump("db"), format!("{{__name__=\"a\"}} 1 {T}\n"));
    let ran = place.ingest(&["--on-error", "skip", &file]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert_eq!(place.dump("db"), format!("{{__name__=\"a\"}} 1 {T}\n{{__name__=\"c\"}} 1 {T}\n"));
    let cases = [
        ("in.csv", "__name__,time,value\na,x,1\n", "in.csv:2:3: \"x\" is no timestamp"),
        ("in.csv", "__name__,time,value\na,5\n", "in.csv:2:4: 2 fields, column 3 is missing"),
        ("in.ndjson", "{\"value\":1}\n{\"value\":}\n", "in.ndjson:2:10: expected value"),
        ("in.om", "a 1\n", "in.om:2:1: data does not end with # EOF"),
    ];
    for (name, content, want) in cases {
        let file = place.file(name, content);
        let ran = place.ingest(&["--on-error", "skip", &file]);
        assert_eq!(ran.code, 4, "{name}: {}", ran.err);
        assert!(ran.err.contains(want), "{name}: {}", ran.err);
    }
}

#[test]
fn a_dump_series_by_series_is_put_in_order() {
    let place = Place::new();
    let mut text = String::new();
    let (series, samples) = (9, 2_000);
    for s in 0..series {
        for i in 0..samples {
            text += &format!("m{{s=\"{s}\"}} {i} {}\n", T + i * 15_000);
        }
    }
    let file = place.file("in.txt", &text);
    let ran = place.ingest(&[&file]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(place.dump("db").lines().count() as i64, series * samples);
    // In memory that does not suffice it is refused as a whole, and the way out is said.
    let other = Place::new();
    let ran = other.ingest(&[&file, "--memory-limit", "1MiB"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("--memory-limit") && ran.err.contains("--out-of-order-time-window=9h"),
        "{}",
        ran.err
    );
    let ran = other.ingest(&[&file, "--sort", "never", "-o", "json"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.out.contains("\"out_of_bounds\":"), "{}", ran.out);
    let ran = other.ingest(&[&file, "--memory-limit", "64MiB", "--out-of-order-time-window", "9h"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(other.dump("db"), place.dump("db"));
}

#[test]
fn what_is_refused_is_counted_by_class() {
    let place = Place::new();
    let now = "a 1 1700000000000\na 2 1700000000000\na{x=\"1\",x=\"2\"} 1 1700000000000\na 1 1600000000000\n";
    let file = place.file("in.txt", now);
    let ran = place.ingest(&[&file, "-o", "json"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.out.contains("\"invalid_labels\":1"), "{}", ran.out);
    let read: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let refused: u64 = read["refused"].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum();
    let of = |name: &str| read[name].as_u64().unwrap();
    assert_eq!(read["read"]["samples"], 4);
    assert_eq!(of("stored") + of("already_there") + refused, 4, "{}", ran.out);
    let ran = place.ingest(&[&file, "--max-future", "10m", "--timestamp", "now+1h"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let future = place.file("b.txt", "b 1\n");
    let ran = place.ingest(&[&future, "--max-future", "10m", "--timestamp", "now+1h"]);
    assert!(ran.err.contains("1 too far in the future"), "{}", ran.err);
    let ran = place.ingest(&[&future, "--max-series", "1", "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn acknowledgements_come_while_the_writer_waits() {
    let place = Place::new();
    let mut child = command(&["ingest", "-", "-d", &place.path("db"), "--ack"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut sent = 0u64;
    for round in 0..3 {
        let mut body = String::new();
        for s in 0..100 {
            body += &format!("m{{s=\"{s}\"}} {round} {}\n", T + round * 1000);
            sent += 1;
        }
        input.write_all(body.as_bytes()).unwrap();
        // Nothing more is sent before all of it is safe.
        while acks.next().unwrap().unwrap().parse::<u64>().unwrap() < sent {}
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(place.dump("db").lines().count() as u64, sent);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_with_all_stored() {
    let place = Place::new();
    let mut child = command(&["ingest", "-", "-d", &place.path("db"), "--ack"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"a 1 1700000000000\n").unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(acks.next().unwrap().unwrap(), "1");
    // A directory in use is refused, naming who has it.
    let pid = child.id().to_string();
    let file = place.file("in.txt", "b 1\n");
    let ran = place.ingest(&[&file]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains(&pid), "{pid}: {}", ran.err);
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    drop(input);
    assert_eq!(place.dump("db"), format!("{{__name__=\"a\"}} 1 {T}\n"));
}

#[test]
fn wrong_usage_touches_nothing() {
    let place = Place::new();
    let file = place.file("in.txt", "a 1\n");
    let cases: [(&[&str], &str); 8] = [
        (&["--wal-sync", "never"], "--wal-sync"),
        (&["--label", "x"], "NAME=VALUE"),
        (&["--match", "a{"], "parse error"),
        (&["--enable-feature", "st-storage"], "incompatible with start-timestamp storage"),
        (&["--content-type", "text/html"], "unsupported Content-Type"),
        (&["--columns", "1:x"], "--columns"),
        (&["--timestamp", "yesterday"], "--timestamp"),
        (&["--memory-limit", "x"], "--memory-limit"),
    ];
    for (args, want) in cases {
        let ran = place.ingest(&[&[&*file], args].concat());
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(want), "{args:?}: {}", ran.err);
    }
    let ran = place.ingest(&[&place.path("absent")]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(!Path::new(&place.path("db")).exists());
}

#[test]
fn nothing_at_all_opens_and_closes_the_directory() {
    let place = Place::new();
    let ran = place.ingest(&["/dev/null"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("read      0 samples"), "{}", ran.err);
}

#[test]
fn times_that_count_something_else_are_told() {
    let place = Place::new();
    let line = |t: i64| format!("{{\"name\":\"a\",\"timestamp\":{t},\"value\":1}}\n");
    let rows = |t: i64| format!("metric,time,value\na,{t},1\n");
    let cases = [
        ("in.txt", format!("a 1 {}\n", T / 1000), 1, "--format openmetrics"),
        ("in.txt", format!("a 1 {T}000000\n"), 1, "far in the future"),
        ("in.ndjson", line(T / 1000), 1, "in.ndjson:1:1: a timestamp that is hardly milliseconds"),
        ("in.ndjson", line(T * 1000), 1, "--timestamp-unit"),
        ("in.csv", rows(T / 1000), 1, "in.csv:2:3: \"1700000000\" is hardly milliseconds"),
    ];
    for (name, content, code, want) in cases {
        let file = place.file(name, content);
        let ran = place.ingest(&[&file]);
        assert_eq!(ran.code, code, "{name}: {}", ran.err);
        assert!(ran.err.contains(want), "{name}: {}", ran.err);
    }
    let file = place.file("in.ndjson", line(T / 1000));
    assert_eq!(place.ingest(&[&file, "--timestamp-unit", "s"]).code, 0);
    let file = place.file("in.csv", rows(T / 1000 + 1));
    assert_eq!(place.ingest(&[&file, "--csv-timestamp", "time:s"]).code, 0);
    assert_eq!(place.dump("db").lines().count(), 2);
}

#[test]
fn what_cannot_be_read_at_all_says_what_to_do() {
    let place = Place::new();
    let there = place.file("there", "");
    let cases: [(&str, &[u8], i32, &str); 6] = [
        ("in", b"\xfd7zXZ\0\0\x04", 1, "xz -dc"),
        ("in", b"\x89PNG\r\n\x1a\n\0\0", 1, "neither text nor"),
        ("in", b"a 1\r\nb 2\r\n", 1, "tr -d '\\r'"),
        ("in", b"# HELP a \x1b[1mbold\x1b[0m\na 1\n", 0, "stored    1"),
        (".", b"", 2, "is a directory"),
        ("in", b"a 1\n", 2, "is not a directory"),
    ];
    for (name, content, code, want) in cases {
        let (file, dir) = match (name, want) {
            (".", _) => (place.path("."), place.path("db")),
            (_, "is not a directory") => (place.file(name, content), there.clone()),
            _ => (place.file(name, content), place.path("db")),
        };
        let ran = tsdbctl(&["ingest", &file, "-d", &dir]);
        assert_eq!(ran.code, code, "{want}: {}", ran.err);
        assert!(ran.err.contains(want), "{want}: {}", ran.err);
    }
    // Of a file that is cut off, whole lines are stored, and no part of one.
    let mut cut = zstd(b"a 1 1700000000000\nb 2 17000");
    cut.extend_from_slice(b"no frame");
    let file = place.file("in.zst", &cut);
    let ran = tsdbctl(&["ingest", &file, "-d", &place.path("cut")]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("stored    1 in 1 series") && ran.err.contains("cannot read"), "{}", ran.err);
    // A reason that quotes a long line is cut; bare words in JSON are numbers.
    let file = place.file("in", format!("a{{x=\"{}\" 1\n", "y".repeat(100_000)));
    let ran = place.ingest(&[&file]);
    assert!(ran.code == 1 && ran.err.len() < 2_000, "{} bytes", ran.err.len());
    let file = place.file("in.ndjson", "{\"metric\":{\"__name__\":\"b\"},\"values\":[+Inf,NaN],\"timestamps\":[1700000000000,1700000001000]}\n");
    let ran = tsdbctl(&["ingest", &file, "-d", &place.path("other")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = tsdbctl(&["ingest", &file, "-d", &place.path("other"), "--memory-limit", "10"]);
    assert!(ran.err.contains("--memory-limit 10"), "{}", ran.err);
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {} {}", ran.out, ran.err))
}

#[test]
fn a_body_of_nothing_but_metadata_is_stored() {
    let mut w = WriteV2Writer::default();
    let labels = Labels::from_pairs([("__name__", "a_total")]);
    let said =
        Metadata { family: "", metric_type: MetricType::Counter, unit: "", help: "said once and for all" };
    w.series(&labels, &[], &[], &[], &said);
    let place = Place::new();
    let file = place.file("in", w.finish());
    let ran = place.ingest(&[&file, "--enable-feature", "metadata-wal-records", "--wal-compression", "none"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let wal = std::fs::read_dir(place.path("db/wal")).unwrap();
    let logged: Vec<u8> = wal.flat_map(|f| std::fs::read(f.unwrap().path()).unwrap_or_default()).collect();
    assert!(logged.windows(said.help.len()).any(|w| w == said.help.as_bytes()));
}

#[test]
fn exemplars_are_all_counted() {
    let body = "# TYPE a counter\n\
        a_total{x=\"1\"} 1 1700000000 # {id=\"1\"} 1 1700000000\n\
        a_total{x=\"1\"} 2 1700000001 # {id=\"1\"} 1 1700000000\n\
        a_total{x=\"1\"} 3 1700000002 # {id=\"2\"} 1 1600000000\n\
        a_total{x=\"1\"} 4 1700000003 # {id=\"3\"} 1 9999999999\n\
        # TYPE b counter\n\
        b_total 1 1700000000 # {id=\"4\"} 1 1700000000\n\
        # TYPE c counter\n\
        c_total{x=\"1\"} 1 1700000000 # {id=\"5\"} 1 1700000000\n\
        # EOF\n";
    let place = Place::new();
    let file = place.file("in.om", body);
    let args = ["--format", "openmetrics", "--enable-feature", "exemplar-storage", "--max-future", "10m"];
    let more = ["--match", "{x=\"1\"}", "--max-series", "1", "-o", "json"];
    let ran = place.ingest(&[&[&*file], &args[..], &more[..]].concat());
    assert_eq!(ran.code, 4, "{}", ran.err);
    let counts = json(&ran);
    assert_eq!(counts["read"]["exemplars"], 6);
    assert_eq!(counts["stored_exemplars"], 1);
    assert_eq!(
        counts["exemplars"],
        serde_json::json!({
            "unmatched": 1,
            "already_there": 1,
            "refused": {"out_of_order_exemplar": 1, "too_far_ahead": 1, "limit": 1},
            "not_stored": 0,
        })
    );
    // Those of samples are apart.
    assert_eq!(counts["refused"], serde_json::json!({"limit": 1}));
    assert!(ran.err.contains("1 exemplars: out of order exemplar"), "{}", ran.err);
}

#[test]
fn a_series_counts_once_however_it_is_spelled() {
    let place = Place::new();
    let file =
        place.file("in.txt", format!("a{{x=\"1\",y=\"2\"}} 1 {T}\na{{y=\"2\",x=\"1\"}} 2 {}\n", T + 1));
    let ran = place.ingest(&[&file, "--max-series", "1", "-o", "json"]);
    assert_eq!((ran.code, json(&ran)["series"].as_u64()), (0, Some(1)), "{}", ran.err);
    let more = format!("a{{x=\"1\"}} 1 {T}\nb 1 {T}\na{{ x=\"1\" }} 2 {}\n", T + 1);
    let ran = place.ingest(&[&place.file("more.txt", more), "--max-series", "1", "-o", "json"]);
    assert_eq!(json(&ran)["refused"], serde_json::json!({"limit": 1}), "{}", ran.err);
    assert_eq!(json(&ran)["stored"], 2);
}
