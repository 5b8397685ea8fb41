//! `tsdbctl rules backtest`, run as a user runs it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::path::{Path, PathBuf};

use runs::{Ran, ok, peer, text_of, tsdbctl};
use serde_json::Value;
use tsdbctl_testkit::{TempDir, scratch};

/// Multiple of two hours.
const T: i64 = 1_699_999_200;

struct Bench {
    scratch: TempDir,
}

impl Bench {
    /// `m{job="a"}` is 1 in every other ten minutes for two hours, else 0; `m{job="b"}` is 3 throughout.
    fn new() -> Self {
        let bench = Self { scratch: scratch() };
        let mut text = String::from("# TYPE m gauge\n");
        for (job, value) in [("a", (|k| k / 10 % 2) as fn(i64) -> i64), ("b", |_| 3)] {
            for k in 0..120 {
                text += &format!("m{{job=\"{job}\"}} {} {}\n", value(k), T + k * 60);
            }
        }
        let input = bench.file("in.om", &(text + "# EOF\n"));
        let dir = bench.scratch.path().join("db");
        ok(&["ingest", "--blocks", "-d", text_of(&dir), text_of(&input)]);
        bench
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn rules(&self, name: &str, threshold: i64, wait: &str) -> PathBuf {
        let text = format!(
            "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {{record: \"m:max\", expr: max by (job) (m)}}\n  - {{alert: Plain, expr: m > {threshold}, for: {wait}}}\n  - {{alert: Recorded, expr: \"m:max > 2\"}}\n"
        );
        self.file(name, &text)
    }

    fn backtest(&self, rules: &Path, more: &[&str]) -> Ran {
        let (dir, start, end) =
            (self.scratch.path().join("db"), (T + 1800).to_string(), (T + 5400).to_string());
        let mut args = vec!["rules", "backtest", text_of(rules), "-d", text_of(&dir)];
        args.extend(["--start", &start, "--end", &end]);
        args.extend(more);
        tsdbctl(&args)
    }
}

#[test]
fn spans_and_figures_of_every_alert() {
    let bench = Bench::new();
    let ran = bench.backtest(&bench.rules("rules.yml", 0, "2m"), &["-o", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    let alerts = all["alerts"].as_array().unwrap();
    let figures = |a: &Value| {
        ["heldSeries", "heldSteps", "pending", "firing", "resolved", "flaps", "failed"]
            .map(|f| a[f].as_u64().unwrap())
    };
    // From minute 30 to 90 job a holds at 30 to 39, 50 to 59, 70 to 79 and 90, pending for two steps each time.
    assert_eq!(figures(&alerts[0]), [2, 31 + 61, 4, 3, 3, 2, 0]);
    assert_eq!(figures(&alerts[1]), [1, 61, 0, 0, 0, 0, 0]);
    let first = &alerts[0]["series"][0];
    assert_eq!(first["labels"]["job"], "a");
    assert_eq!(
        first["spans"][1],
        serde_json::json!({
            "state": "firing", "start": "2023-11-14T22:32:00Z", "end": "2023-11-14T22:40:00Z", "ended": "gone",
            "beforeRange": false, "value": "1", "annotations": {},
        })
    );
    let always = &alerts[1]["series"][0]["spans"][0];
    assert_eq!((&always["beforeRange"], &always["ended"]), (&Value::Bool(true), &Value::from("open")));
}

#[test]
fn noise_against_an_older_version() {
    let bench = Bench::new();
    let (old, new) = (bench.rules("old.yml", 0, "5m"), bench.rules("new.yml", 0, "10m"));
    let quieter = bench.backtest(&new, &["--against", text_of(&old)]);
    assert_eq!((quieter.code, quieter.out.contains("quieter")), (0, true), "{}", quieter.out);
    let noisier = bench.backtest(&old, &["--against", text_of(&new)]);
    assert_eq!((noisier.code, noisier.out.contains("noisier")), (1, true), "{}", noisier.out);
    assert!(noisier.err.contains("--max-noise-increase"), "{}", noisier.err);
    let same = bench.backtest(&old, &["--against", text_of(&old), "--max-noise-increase", "0"]);
    assert_eq!((same.code, same.out.contains("no alert changed")), (0, true), "{}", same.out);
}

#[test]
fn a_timeline_is_drawn() {
    let bench = Bench::new();
    let rules = bench.rules("rules.yml", 0, "2m");
    let picture = bench.scratch.path().join("out.svg");
    let ran = bench.backtest(&rules, &["--svg", text_of(&picture)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("Plain") && drawn.contains("job=&quot;a&quot;"));
    assert_eq!(bench.backtest(&rules, &["-o", "svg"]).out, drawn);
}

#[test]
fn a_range_without_evaluations_is_refused() {
    let bench = Bench::new();
    let rules = bench.rules("rules.yml", 0, "2m");
    let dir = bench.scratch.path().join("db");
    let ran =
        tsdbctl(&["rules", "backtest", text_of(&rules), "-d", text_of(&dir), "--start", "9", "--end", "8"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is before --start"), "{}", ran.err);
}

/// The 200 alerts over the data M of `../shared/bench`, whose directory TSDBCTL_BENCH_M names (made by its `gen.py`): in
/// a release build it takes seconds.
#[test]
fn alerts_of_the_bench_hold_where_they_did_in_prometheus() {
    let (Some(dir), Some(rules), Some(golden)) = (
        peer("TSDBCTL_BENCH_M"),
        tsdbctl_testkit::shared("bench/backtest-rules.yml"),
        tsdbctl_testkit::read_text("bench/golden/backtest-M.json"),
    ) else {
        return;
    };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let (start, end) = (golden["start"].to_string(), golden["end"].to_string());
    let out = ok(&[
        "rules",
        "backtest",
        text_of(&rules),
        "-d",
        &dir,
        "--start",
        &start,
        "--end",
        &end,
        "-o",
        "json",
        "--timeout",
        "0",
    ]);
    let all: Value = serde_json::from_str(&out).unwrap();
    let alerts = all["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), golden["alerts"].as_object().unwrap().len());
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let got = serde_json::json!([alert["heldSeries"], alert["heldSteps"]]);
        assert_eq!(got, golden["alerts"][name], "{name}");
    }
}
