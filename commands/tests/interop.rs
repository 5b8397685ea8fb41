//! The same directory asked by us and by a Prometheus server: equal answers, equal dumps.
//!
//! Runs where `TSDBCTL_PEER_PROMETHEUS` and `TSDBCTL_PEER_PROMTOOL` name the peer's programs, and skips with a
//! message elsewhere. The peer may be old (2.42 is what distributions have), so the expressions are those whose
//! meaning has not changed since (extrapolation of a counter that was born near zero has), and no evaluation time
//! coincides with a sample.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tsdbctl_testkit::peer::Prometheus;

/// Within the recording, in seconds; the .137 keeps clear of samples, which lie elsewhere within their second.
const START: f64 = 1_795_550_912.137;
const END: f64 = 1_795_551_557.137;
const STEP: f64 = 7.0;
/// Sums are compensated by newer versions, so the last digits may differ.
const TOLERANCE: f64 = 1e-9;

const EXPRESSIONS: &[&str] = &[
    "up",
    "node_load1",
    "sum by (mode) (rate(node_cpu_seconds_total[1m]))",
    "1 - avg without (cpu) (rate(node_cpu_seconds_total{mode=\"idle\"}[30s]))",
    "irate(node_network_receive_bytes_total[1m])",
    "increase(node_disk_written_bytes_total[2m])",
    "delta(node_memory_MemFree_bytes[1m])",
    "deriv(node_memory_MemFree_bytes[1m])",
    "predict_linear(node_filesystem_avail_bytes[2m], 3600)",
    "histogram_quantile(0.9, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[1m])))",
    "topk(3, node_memory_Active_bytes or node_memory_Cached_bytes or node_memory_MemTotal_bytes or node_load5)",
    "count by (__name__) ({job=\"node\"})",
    "node_memory_MemFree_bytes / ignoring (x) node_memory_MemTotal_bytes * 100",
    "sum by (instance) (up) * on (instance) group_right () prometheus_tsdb_head_series",
    "max_over_time(node_load1[1m]) - min_over_time(node_load1[1m])",
    "quantile_over_time(0.75, node_load5[2m])",
    "stddev_over_time(node_load1[2m])",
    "avg_over_time(rate(node_disk_written_bytes_total[30s])[2m:10s])",
    "node_load1 offset 1m",
    "changes(node_load1[2m]) + resets(node_load1[2m])",
    "absent(node_load1{job=\"nobody\"})",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "{__name__=~\"node_load.*\", job!=\"prometheus\"} > 0.5",
    // Errors: three series left without a name to tell them apart, and no expression.
    "{__name__=~\"node_load.*\", job!=\"prometheus\"} > bool 0.5",
    "sum by (mode (node_cpu_seconds_total)",
    "sum by (job) (scrape_samples_scraped) unless on (job) (up == 0)",
    "quantile by (job) (0.5, scrape_duration_seconds)",
    "sum(rate(node_cpu_seconds_total[30s])) by (cpu) > 0.01 and on () node_load1 > 0",
    "ALERTS or ALERTS_FOR_STATE",
    "time() - timestamp(up)",
];

/// The body of an answer.
fn ask(peer: &Prometheus, path: &str) -> Value {
    let body = peer.body(path);
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}

/// Exit status and stdout.
fn tsdbctl(args: &[&str]) -> (Option<i32>, Vec<u8>) {
    let output = Command::new(env!("CARGO_BIN_EXE_tsdbctl")).args(args).output().unwrap();
    assert!(!output.stdout.is_empty(), "tsdbctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), output.stdout)
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let into = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &into)
        } else {
            fs::copy(entry.path(), into).map(drop).unwrap()
        }
    }
}

/// The series of an answer by their labels, each with its times and values; none of an error.
fn series(body: &Value) -> BTreeMap<String, Vec<(f64, f64)>> {
    if body["status"] == "error" {
        return BTreeMap::new();
    }
    let pair = |p: &Value| (p[0].as_f64().unwrap(), number(p[1].as_str().unwrap()));
    let rows = body["data"]["result"].as_array().unwrap_or_else(|| panic!("no rows: {body}"));
    let row = |row: &Value| {
        let labels: BTreeMap<&String, &Value> = row["metric"].as_object().unwrap().iter().collect();
        let points = match row["values"].as_array() {
            Some(values) => values.iter().map(pair).collect(),
            None => vec![pair(&row["value"])],
        };
        (format!("{labels:?}"), points)
    };
    rows.iter().map(row).collect()
}

fn number(text: &str) -> f64 {
    text.replace("Inf", "inf").parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The first difference.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    let (a, b) = (series(ours), series(theirs));
    let kind = |body: &Value| {
        [&body["status"], &body["errorType"], &body["data"]["resultType"]].map(Value::to_string)
    };
    if kind(ours) != kind(theirs) {
        return Some(format!(
            "{:?} {}, not {:?} {}",
            kind(ours),
            ours["error"],
            kind(theirs),
            theirs["error"]
        ));
    }
    if a.keys().ne(b.keys()) {
        return Some(format!("other series:\n ours   {:?}\n theirs {:?}", a.keys(), b.keys()));
    }
    for (labels, points) in &a {
        let others = &b[labels];
        let close = |x: f64, y: f64| {
            x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= TOLERANCE * x.abs().max(y.abs())
        };
        if points.len() != others.len() {
            return Some(format!("{labels}: {} points, not {}", points.len(), others.len()));
        }
        for (ours, theirs) in points.iter().zip(others) {
            if (ours.0 - theirs.0).abs() > 1e-6 || !close(ours.1, theirs.1) {
                return Some(format!("{labels}: {ours:?}, not {theirs:?}"));
            }
        }
    }
    None
}

fn peer(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|v| !v.is_empty());
    if found.is_none() {
        skipped(variable);
    }
    found
}

#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
fn skipped(variable: &str) {
    eprintln!("skipped: {variable} is not set");
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/demo")
}

#[test]
fn a_server_on_the_same_directory_answers_the_same() {
    let Some(program) = peer("TSDBCTL_PEER_PROMETHEUS") else { return };
    let scratch = tempfile::TempDir::with_prefix("tsdbctl-").unwrap();
    let data = scratch.path().join("data");
    copy(&demo(), &data);
    let peer = Prometheus::start(&program, &data, scratch.path(), &["--log.level=error"]);
    let directory = demo().display().to_string();

    let (mut wrong, mut points) = (Vec::new(), 0);
    let mut check = |expression: &str, args: &[String], path: &str| {
        let args: Vec<&str> = ["query", expression, "-d", &directory, "-o", "json"]
            .into_iter()
            .chain(args.iter().map(String::as_str))
            .collect();
        let (status, body) = tsdbctl(&args);
        let ours: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, Some(i32::from(ours["status"] == "error")), "{args:?}: {ours}");
        let theirs = ask(&peer, path);
        points += series(&theirs).values().map(Vec::len).sum::<usize>();
        wrong.extend(difference(&ours, &theirs).map(|d| format!("{expression}: {d}")));
    };
    for expression in EXPRESSIONS {
        let query = percent(expression);
        for time in [START + 90.0, (START + END) / 2.0, END] {
            let path = format!("/api/v1/query?query={query}&time={time}");
            check(expression, &["--time".to_owned(), time.to_string()], &path);
        }
        let args = [format!("--start={START}"), format!("--end={END}"), format!("--step={STEP}")];
        let path = format!("/api/v1/query_range?query={query}&start={START}&end={END}&step={STEP}");
        check(expression, &args, &path);
    }
    assert!(
        wrong.is_empty(),
        "{} of {} answers differ:\n{}",
        wrong.len(),
        4 * EXPRESSIONS.len(),
        wrong.join("\n")
    );
    assert!(points > 10_000, "the peer answered with {points} points only: is the recording still in range?");
}

#[test]
fn promtool_dumps_what_we_export() {
    let Some(program) = peer("TSDBCTL_PEER_PROMTOOL") else { return };
    let scratch = tempfile::TempDir::with_prefix("tsdbctl-").unwrap();
    let data = scratch.path().join("data");
    copy(&demo(), &data);
    let output = Command::new(&program).args(["tsdb", "dump"]).arg(&data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let sorted = |bytes: &[u8]| -> Vec<String> {
        let mut lines: Vec<String> =
            String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let theirs = sorted(&output.stdout);
    let (status, dump) = tsdbctl(&["export", "-d", &demo().display().to_string(), "-o", "prom"]);
    assert_eq!(status, Some(0));
    let ours = sorted(&dump);
    let first = ours.iter().zip(&theirs).find(|(a, b)| a != b);
    assert!(
        first.is_none() && ours.len() == theirs.len(),
        "{} lines, not {}; {first:?}",
        ours.len(),
        theirs.len()
    );
    assert!(theirs.len() > 10_000, "promtool dumped {} lines only", theirs.len());
}
