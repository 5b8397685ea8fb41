//! `rules eval --write` beside `promtool tsdb create-blocks-from rules` and a server of 3.14: the same samples where both
//! mean the same; what differs on purpose is told here.
//!
//! Runs where `TSDBCTL_PEER_PROMETHEUS_3` and `TSDBCTL_PEER_PROMTOOL_3` name the peer's programs.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod peers;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use peers::assert_same;
use runs::{Place, copy, ok, peer, text_of};
use tsdbctl_rules::schedule::offset_ns;
use tsdbctl_testkit::peer::Prometheus;
use tsdbctl_testkit::{shared, unpack_directory};

/// A multiple of two hours.
const T: i64 = 1_699_999_200;
const BLOCK_S: i64 = 7200;
const INTERVAL_NS: i64 = 60_000_000_000;

/// A group's name for which the hash gives slots that `fits` (offset in ns). The peer rounds slots to ms where a server
/// truncates them: half of all names differ by 1 ms, and these are not taken.
fn name(file: &str, prefix: &str, fits: impl Fn(i64) -> bool) -> String {
    let names = (0..100_000).map(|k| format!("{prefix}{k}"));
    let offset = |name: &String| offset_ns(file, name, INTERVAL_NS / 1_000_000);
    names.into_iter().find(|n| offset(n) % 1_000_000 < 400_000 && fits(offset(n))).unwrap()
}

/// Five hours: a gauge that goes on, one that is gone after two and a half, counters, a classic histogram.
fn input() -> String {
    let mut text = String::from("# TYPE m gauge\n");
    let times = || (0..600).map(|k| (k, T + k * 30));
    for (k, t) in times() {
        writeln!(text, "m{{job=\"a\",i=\"0\"}} {} {t}", (k * 7 % 31) as f64 / 7.0).unwrap();
    }
    for (_, t) in times().filter(|(k, _)| *k < 300) {
        writeln!(text, "m{{job=\"b\",i=\"1\"}} 5 {t}").unwrap();
    }
    text += "# TYPE latency histogram\n";
    for i in 1..4 {
        for (le, part) in [("0.1", 1), ("1.0", 2), ("+Inf", 3)] {
            for (k, t) in times() {
                writeln!(text, "latency_bucket{{i=\"{i}\",le=\"{le}\"}} {} {t}", k * part * i).unwrap();
            }
        }
    }
    text + "# EOF\n"
}

struct Bench {
    promtool: String,
    prometheus: String,
    place: Place,
}

impl Bench {
    fn new() -> Option<Self> {
        let promtool = peer("TSDBCTL_PEER_PROMTOOL_3")?;
        let prometheus = peer("TSDBCTL_PEER_PROMETHEUS_3")?;
        Some(Self { promtool, prometheus, place: Place::new() })
    }

    /// What promtool makes of rules, with a server over a copy of `dir`.
    fn theirs(&self, dir: &Path, rules: &str, range: [&str; 4], to: &str) -> PathBuf {
        let (data, scratch) =
            (self.place.within(&format!("{to}-data")), self.place.within(&format!("{to}-etc")));
        copy(dir, &data);
        fs::create_dir_all(&scratch).unwrap();
        let server = Prometheus::start(&self.prometheus, &data, &scratch, &[]);
        let out = self.place.within(to);
        let mut command = Command::new(&self.promtool);
        command.args(["tsdb", "create-blocks-from", "rules", "--url", &server.url()]);
        command.args(range).args(["--output-dir", text_of(&out), rules]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.kill();
        out
    }

    fn ours(&self, dir: &Path, rules: &str, range: [&str; 4], more: &[&str], to: &str) -> PathBuf {
        let out = self.place.within(to);
        let args = ["rules", "eval", rules, "-d", text_of(dir), "--write", "--output-dir", text_of(&out)];
        ok(&[&args[..], &range[..], more].concat());
        out
    }
}

/// Samples of a directory: series and time, value. Markers of staleness are `NaN`.
fn samples(dir: &Path) -> BTreeMap<(String, i64), String> {
    let part = |line: &str| {
        let (rest, t) = line.rsplit_once(' ').unwrap();
        let end = rest.find("\"} ").unwrap() + 2;
        ((rest[..end].to_string(), t.parse().unwrap()), rest[end + 1..].to_string())
    };
    ok(&["export", "-d", text_of(dir)]).lines().map(part).collect()
}

type Samples = BTreeMap<(String, i64), String>;

fn of_metrics(samples: &Samples, names: &[&str]) -> BTreeSet<String> {
    let is_of = |series: &str| names.iter().any(|n| series.starts_with(&format!("{{__name__=\"{n}\"")));
    let line = |((series, t), v): (&(String, i64), &String)| format!("{series} {v} {t}");
    samples.iter().filter(|((series, _), _)| is_of(series)).map(line).collect()
}

fn without(samples: &Samples, leaves_out: impl Fn(i64, &str) -> bool) -> Samples {
    samples.iter().filter(|((_, t), v)| !leaves_out(*t, v)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[test]
fn recorded_series_are_those_of_promtool() {
    let Some(bench) = Bench::new() else { return };
    let data = bench.place.within("db");
    ok(&["ingest", "--blocks", "-d", text_of(&data), &bench.place.file("in.om", input())]);
    let file = bench.place.path("rules.yml");
    let plain = name(&file, "plain", |o| o < 50_000_000_000);
    // The last second of a block, not at its beginning.
    let edge = name(&file, "edge", |o| o > 59_100_000_000);
    let chain = name(&file, "chain", |o| o < 50_000_000_000);
    let behind = name(&file, "behind", |o| o < 20_000_000_000);
    let rules = format!(
        r#"groups:
- name: {plain}
  labels: {{of: group}}
  rules:
  - {{record: "job:m:sum", expr: "sum by (job) (m{{job='a'}})", labels: {{env: lab, job: over}}}}
  - {{record: "p90", expr: "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))", labels: {{i: ""}}}}
  - {{record: "one", expr: "m > 2"}}
  - {{record: "number", expr: "time() * 2"}}
- name: {edge}
  rules:
  - {{record: "at_edges", expr: "m"}}
- name: {chain}
  rules:
  - {{record: "base", expr: "m{{job='a'}} * 3"}}
  - {{record: "upon_base", expr: "base + 1"}}
  - {{record: "upon_that", expr: "sum(sum_over_time(upon_base[4m]))"}}
- name: {behind}
  query_offset: 30s
  rules:
  - {{record: "behind", expr: "time()"}}
"#
    );
    bench.place.file("rules.yml", &rules);
    let (start, end) = ((T + 1800).to_string(), (T + 4 * 3600 + 59).to_string());
    let range = ["--start", start.as_str(), "--end", end.as_str()];
    let first = bench.theirs(&data, &file, range, "theirs");
    let ours = samples(&bench.ours(&data, &file, range, &[], "ours"));
    let theirs = samples(&first);
    assert!(theirs.len() > 1500, "{}", theirs.len());

    // Markers are written where a server would: promtool leaves them out.
    let markers = ours.values().filter(|v| v.as_str() == "NaN").count();
    assert!(markers > 5, "{markers}");
    let marked = without(&ours, |_, v| v == "NaN");
    let names = ["job:m:sum", "p90", "one", "number", "base"];
    let (a, b) = (of_metrics(&marked, &names), of_metrics(&theirs, &names));
    assert!(a.len() > 1000, "{}", a.len());
    assert_same(&a, &b, "plain rules");

    // Promtool asks for whole seconds: slots within the last second of a block of two hours are lost.
    let lost = |t: i64| t % 1000 != 0 && (t / 1000 + 1) % BLOCK_S == 0;
    let at_edges = of_metrics(&marked, &["at_edges"]);
    let kept = of_metrics(&without(&marked, |t, _| lost(t)), &["at_edges"]);
    assert_eq!(at_edges.len() - kept.len(), 3, "two series at the first edge, one at the second");
    assert_same(&kept, &of_metrics(&theirs, &["at_edges"]), "slots at edges");

    // A server evaluates and stores that far behind the slot, which promtool does not.
    let times = |samples: &Samples, by: i64| -> BTreeSet<i64> {
        samples.keys().filter(|(s, _)| s.contains("\"behind\"")).map(|(_, t)| t + by).collect()
    };
    assert!(times(&ours, 0).len() > 200);
    assert_eq!(times(&ours, 30_000), times(&theirs, 0));

    // Rules upon recorded series give something at once; with promtool once those are in the server, run after run.
    let chained = ["upon_base", "upon_that"];
    assert_eq!(of_metrics(&theirs, &chained).len(), 0);
    copy(&first, &data);
    let second = bench.theirs(&data, &file, range, "theirs2");
    assert_same(
        &of_metrics(&marked, &chained[..1]),
        &of_metrics(&samples(&second), &chained[..1]),
        "a rule upon a recorded series",
    );
    fs::rename(&second, bench.place.within("second")).unwrap();
    let only = bench.place.within("only");
    copy(&bench.place.within("second"), &only);
    copy(&only, &data);
    let third = samples(&bench.theirs(&data, &file, range, "theirs3"));
    let (a, b) = (of_metrics(&marked, &chained), of_metrics(&third, &chained));
    assert!(a.len() > 400, "{}", a.len());
    assert_same(&a, &b, "a rule upon a rule upon a recorded series");
}

#[test]
fn alerts_are_no_series_of_their_name() {
    let Some(bench) = Bench::new() else { return };
    let data = bench.place.within("db");
    ok(&["ingest", "--blocks", "-d", text_of(&data), &bench.place.file("in.om", input())]);
    let file = bench.place.path("rules.yml");
    let group = name(&file, "g", |o| o < 50_000_000_000);
    bench.place.file(
        "rules.yml",
        format!("groups: [{{name: {group}, rules: [{{alert: Up, expr: m > 2}}, {{record: r, expr: m}}]}}]\n"),
    );
    let (start, end) = (T.to_string(), (T + 3600).to_string());
    let range = ["--start", start.as_str(), "--end", end.as_str()];
    let theirs = samples(&bench.theirs(&data, &file, range, "theirs"));
    let ours = samples(&bench.ours(&data, &file, range, &[], "ours"));
    // Promtool's documentation says that it leaves alerts out; it stores their expressions under their names.
    assert!(!of_metrics(&theirs, &["Up"]).is_empty());
    assert!(of_metrics(&ours, &["Up", "ALERTS"]).is_empty());
    assert_same(&of_metrics(&ours, &["r"]), &of_metrics(&theirs, &["r"]), "beside an alert");
    let ours = samples(&bench.ours(&data, &file, range, &["--alerts"], "with-alerts"));
    assert!(!of_metrics(&ours, &["ALERTS"]).is_empty());
}

#[test]
fn a_real_servers_data_gives_the_same_but_for_native_histograms() {
    let Some(bench) = Bench::new() else { return };
    let Some(rules) = shared("data/prometheus-3.14-rules.yml") else { return };
    let Some((_unpacked, dir)) = unpack_directory("data/prometheus-3.14-crashed.tar.zst") else { return };
    let file = bench.place.path("rules.yml");
    let group = {
        let names = (0..1000).map(|k| format!("rec{k}"));
        let fits = |n: &String| offset_ns(&file, n, 10_000) % 1_000_000 < 400_000;
        names.into_iter().find(fits).unwrap()
    };
    let text = fs::read_to_string(rules).unwrap().replace("name: rec", &format!("name: {group}"));
    bench.place.file("rules.yml", &text[..text.find("- name: al").unwrap()]);
    let range = ["--start", "2026-11-21T11:20:00Z", "--end", "2026-11-21T11:50:00Z"];
    let theirs = samples(&bench.theirs(&dir, &file, range, "theirs"));
    let ours = samples(&bench.ours(&dir, &file, range, &["--slots", "hash"], "ours"));
    let metrics = ["job:up:sum", "node:cpu:util", "demo:latency:rate1m"];
    let shown = without(&ours, |_, v| v == "NaN" || v.starts_with('{'));
    assert_same(&of_metrics(&shown, &metrics), &of_metrics(&theirs, &metrics), "a real server's data");
    assert!(theirs.len() > 100, "{}", theirs.len());
    println_counts(theirs.len(), ours.len() - shown.len());
}

#[allow(clippy::print_stdout, reason = "the counts are what is to be seen")]
fn println_counts(same: usize, more: usize) {
    println!("{same} samples are the same; {more} histograms and markers are ours alone");
}
