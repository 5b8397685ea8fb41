//! The binary, run as a user runs it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use assert_cmd::assert::OutputAssertExt;
use assert_cmd::cargo::CommandCargoExt;
use tsdbctl_testkit::{TempDir, scratch, unpack_directory};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn tsdbctl(args: &[&str]) -> Ran {
    run(Command::cargo_bin("tsdbctl").unwrap().args(args))
}

fn run(command: &mut Command) -> Ran {
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}

/// A real data directory, unpacked once.
fn data() -> Option<String> {
    static DATA: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let data = DATA.get_or_init(|| unpack_directory("data/prometheus-3.14-crashed.tar.zst"));
    data.as_ref().map(|(_, dir)| dir.to_str().unwrap().to_string())
}

#[test]
fn every_command_has_help() {
    for command in [
        &["query"][..],
        &["inspect"],
        &["inspect", "blocks"],
        &["inspect", "series"],
        &["inspect", "labels"],
        &["inspect", "exemplars"],
        &["export"],
        &["ingest"],
        &["promql"],
        &["promql", "fmt"],
        &["promql", "parse"],
        &["promql", "explain"],
        &["promql", "test"],
        &["completions"],
        &["man"],
        &[],
    ] {
        let got = tsdbctl(&[command, &["--help"]].concat());
        assert_eq!(got.code, 0, "{command:?}");
        assert!(got.out.contains("Usage: tsdbctl"), "{command:?}: {}", got.out);
        // The first line says what the command does.
        assert!(got.out.lines().next().is_some_and(|l| l.ends_with('.') || l.len() > 15), "{command:?}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &["nonsense"][..],
        &["query", "up"],
        &["query", "up", "-d", "/no/such/directory"],
        &["export", "-d", "/no/such/directory"],
        &["inspect", "blocks", "-d", "/no/such/directory"],
        &["query", "up", "-d", ".", "--time", "1", "--start", "2"],
        &["promql", "test", "/no/such/file"],
    ] {
        let got = tsdbctl(args);
        assert_eq!(got.code, 2, "{args:?}: {}", got.err);
        assert!(got.out.is_empty(), "{args:?}");
        assert!(got.err.starts_with("error: "), "{args:?}: {}", got.err);
    }
}

#[test]
fn expressions_are_formatted_and_checked() {
    let got = tsdbctl(&["promql", "fmt", "sum by(job)(rate(up[5m]))>1", "-1"]);
    assert_eq!((got.code, got.out.as_str()), (0, "sum by (job) (rate(up[5m])) > 1\n-1\n"));
    assert_eq!(tsdbctl(&["promql", "fmt", "--check", "up + 1"]).code, 0);
    assert_eq!(tsdbctl(&["promql", "fmt", "--check", "up+1"]).code, 1);
    let got = tsdbctl(&["promql", "fmt", "-o", "json", "up+1"]);
    assert_eq!(got.out, "{\"status\":\"success\",\"data\":\"up + 1\"}\n");
}

#[test]
fn an_error_shows_its_place() {
    let got = tsdbctl(&["promql", "fmt", "sum(rate(foo))"]);
    assert_eq!(got.code, 1);
    assert_eq!(
        got.err,
        "error: 1:10: parse error: expected type range vector in call to function \"rate\", got instant vector\n  |\n1 | sum(rate(foo))\n  |          ^^^\n  = hint: add a range: foo[5m]\n"
    );
}

#[test]
fn plans_need_no_data() {
    let got = tsdbctl(&["promql", "explain", "sum by (job) (rate(up[5m]))"]);
    assert_eq!(got.code, 0, "{}", got.err);
    assert!(got.out.contains("└─ "), "{}", got.out);
}

#[test]
fn scripts_report_file_and_line() {
    let dir = scratch();
    let file = dir.path().join("a.test");
    std::fs::write(
        &file,
        "load 1m\n  up 1 2 3\n\neval instant at 1m up\n  up 2\n\neval instant at 1m up + 1\n  {} 7\n",
    )
    .unwrap();
    let name = file.to_str().unwrap();
    let got = tsdbctl(&["promql", "test", name]);
    assert_eq!(got.code, 1);
    assert!(got.out.starts_with(&format!("{name}:7: up + 1")), "{}", got.out);
    assert!(got.out.ends_with("1 passed, 1 failed\n"), "{}", got.out);
    let got = tsdbctl(&["promql", "test", name, "--filter", "nothing like this"]);
    assert_eq!((got.code, got.out.as_str()), (0, "0 passed, 0 failed\n"));
}

#[test]
fn a_query_says_when_it_looked() {
    let Some(dir) = data() else { return };
    let got = tsdbctl(&["query", "count(up)", "-d", &dir]);
    assert_eq!((got.code, got.out.as_str()), (0, "VALUE\n    9\n"));
    assert_eq!(got.err, "at the newest sample's time, 2026-11-21T11:45:01.131Z\n");
    let got = tsdbctl(&["query", "count(up)", "-d", &dir, "--time", "1795261501", "-v"]);
    assert!(got.err.contains("evaluating at 2026-11-21T11:45:01Z (1795261501.000)"), "{}", got.err);
}

#[test]
fn results_in_every_format() {
    let Some(dir) = data() else { return };
    let query = |output: &str| {
        let got = tsdbctl(&["query", "up{job=\"node\"}", "-d", &dir, "--time", "1795261501", "-o", output]);
        assert_eq!(got.code, 0, "{}", got.err);
        got.out
    };
    assert_eq!(
        query("json"),
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"up\",\"instance\":\"127.0.0.1:19100\",\"job\":\"node\"},\"value\":[1795261501,\"1\"]}]}}\n"
    );
    assert_eq!(
        query("ndjson"),
        "{\"metric\":{\"__name__\":\"up\",\"instance\":\"127.0.0.1:19100\",\"job\":\"node\"},\"value\":[1795261501,\"1\"]}\n"
    );
    assert_eq!(
        query("csv"),
        "__name__,instance,job,time,value\nup,127.0.0.1:19100,node,2026-11-21T11:45:01.000Z,1\n"
    );
    assert_eq!(
        query("prom"),
        "{__name__=\"up\", instance=\"127.0.0.1:19100\", job=\"node\"} 1 1795261501000\n"
    );
    assert_eq!(
        query("table"),
        "METRIC  INSTANCE         JOB   VALUE\nup      127.0.0.1:19100  node      1\n"
    );
    let graph = query("graph");
    assert!(graph.contains('┤') && graph.contains('\u{28c0}') || graph.contains('⠤'), "{graph}");
}

#[test]
fn pictures_are_written() {
    let Some(dir) = data() else { return };
    let out = scratch();
    let (svg, png) = (out.path().join("a.svg"), out.path().join("a.png"));
    let got = tsdbctl(&[
        "query",
        "rate(node_cpu_seconds_total[2m])",
        "-d",
        &dir,
        "--svg",
        svg.to_str().unwrap(),
        "--png",
        png.to_str().unwrap(),
    ]);
    assert_eq!(got.code, 0, "{}", got.err);
    assert!(std::fs::read_to_string(svg).unwrap().contains("<polyline"));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG\r\n"));
}

#[test]
fn errors_are_the_apis_where_json_is_asked_for() {
    let Some(dir) = data() else { return };
    let got = tsdbctl(&["query", "up{", "-d", &dir, "--time", "0", "-o", "json"]);
    assert_eq!(got.code, 1);
    assert_eq!(
        got.out,
        "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter \\\"query\\\": 1:4: parse error: unexpected end of input inside braces\"}\n"
    );
    let got = tsdbctl(&["query", "up + on (job) up", "-d", &dir]);
    assert_eq!((got.code, got.out.as_str()), (1, ""));
    assert!(got.err.contains("error: found duplicate series"), "{}", got.err);
    let got = tsdbctl(&["inspect", "series", "-d", &dir, "-o", "json"]);
    assert_eq!(got.code, 1);
    assert!(got.out.contains("no match[] parameter provided"), "{}", got.out);
}

#[test]
fn limits_end_a_query() {
    let Some(dir) = data() else { return };
    let over = |flag: &str, value: &str, message: &str| {
        let got = tsdbctl(&["query", "count({__name__=~\".+\"}) by (__name__)", "-d", &dir, flag, value]);
        assert_eq!((got.code, got.out.as_str()), (1, ""), "{flag}: {}", got.err);
        assert!(got.err.contains(message), "{flag}: {}", got.err);
    };
    over("--memory-budget", "20kB", "more memory than allowed");
    over("--max-samples", "10", "too many samples");
    over("--timeout", "1ms", "timed out");
}

#[test]
fn unknown_features_are_warned_about() {
    let Some(dir) = data() else { return };
    let got = tsdbctl(&["query", "1", "-d", &dir, "--enable-feature", "promql-experimental-functions,what"]);
    assert_eq!(got.code, 0);
    assert!(got.err.contains("warning: unknown feature \"what\""), "{}", got.err);
}

#[test]
fn analysis_goes_to_stderr() {
    let Some(dir) = data() else { return };
    let got = tsdbctl(&["query", "sum(up)", "-d", &dir, "--time", "1795261501", "--analyze"]);
    assert_eq!((got.code, got.out.as_str()), (0, "VALUE\n    8\n"));
    assert!(got.err.contains("PEAK MEMORY") && got.err.contains("└─ "), "{}", got.err);
}

#[test]
fn blocks_are_listed_with_gaps_and_overlaps() {
    let Some(dir) = data() else { return };
    let got = tsdbctl(&["inspect", "blocks", "-d", &dir]);
    assert_eq!(got.code, 0);
    let lines: Vec<&str> = got.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", got.out);
    assert!(lines[1].starts_with("01M7YXPA4VN8HHP3DHBDFZQ47X  2026-11-21T11:12:00Z  2026-11-21T11:24:00Z"));
    assert!(lines[4].contains("out-of-order"));

    // Without the second block there is a gap; a block and its copy overlap.
    let other = scratch();
    let copy = |ulid: &str, to: &str| {
        let (from, to) = (PathBuf::from(&dir).join(ulid), other.path().join(to));
        std::fs::create_dir(&to).unwrap();
        for name in ["meta.json", "index"] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    };
    copy("01M7YXPA4VN8HHP3DHBDFZQ47X", "01M7YXPA4VN8HHP3DHBDFZQ47X");
    copy("01M7YYKKK2STH96SD5T1617A9J", "01M7YYKKK2STH96SD5T1617A9J");
    copy("01M7YYKKK2STH96SD5T1617A9J", "01M7YYKKK2STH96SD5T1617A9K");
    let got = tsdbctl(&["inspect", "blocks", "-d", other.path().to_str().unwrap()]);
    assert_eq!(got.code, 0, "{}", got.err);
    assert!(
        got.out.contains("-- gap --                   2026-11-21T11:24:00Z  2026-11-21T11:36:00Z       12m"),
        "{}",
        got.out
    );
    assert_eq!(got.out.matches("overlap").count(), 2, "{}", got.out);
    assert!(got.err.contains("both cover 2026-11-21T11:36:00Z to 2026-11-21T11:40:00Z"), "{}", got.err);
}

#[test]
fn exports_are_narrowed_by_selector_and_time() {
    let Some(dir) = data() else { return };
    let got = tsdbctl(&[
        "export",
        "-d",
        &dir,
        "--match",
        "up{job=\"node\"}",
        "--match",
        "up{job=\"gone\"}",
        "--match",
        "up{instance=\"127.0.0.1:19100\"}",
        "--start",
        "1795261490",
        "--end",
        "1795261500",
    ]);
    assert_eq!(got.code, 0, "{}", got.err);
    let lines: Vec<&str> = got.out.lines().collect();
    assert!(lines.iter().all(|l| l.contains("job=\"node\"") || l.contains("job=\"gone\"")), "{}", got.out);
    let mut once = lines.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), lines.len(), "no sample is written twice");
    assert!(lines.len() >= 3, "{}", got.out);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let Some(dir) = data() else { return };
    let mut child = Command::cargo_bin("tsdbctl")
        .unwrap()
        .args(["export", "-d", &dir])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(done.stderr.clone()).unwrap(), "");
    done.assert().success();
}

#[test]
fn times_at_the_ends_are_answered_or_refused() {
    const WIDE: &[&str] = &["--start=-9e15", "--end=9e15"];
    const FAR: &[&str] = &["--start=-4e15", "--end=4e15", "--step=9e12", "-o", "graph"];
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/demo");
    let nested =
        "sum_over_time((sum_over_time((up offset -290y)[290y:290y] offset -290y))[290y:290y] offset -290y)";
    for (args, times, code) in [
        (&["query", "up offset 200y"][..], &["--time=-9e15"][..], 0),
        (&["query", "up offset -200y"], &["--time=9e15"], 0),
        (&["query", "up[292y]"], &["--time=-9e15"], 0),
        (&["query", "max_over_time(rate(up[200y])[292y:10y] offset 200y)"], &["--time=-9e15"], 0),
        (&["query", nested], &["--time=9e15"], 0),
        (&["query", "up @ -9e15 offset 200y"], &["--time=9e15", "-o", "json"], 0),
        (&["query", "vector(time())"], &["--time=-9e15", "-o", "csv"], 0),
        (&["query", "up", "--lookback-delta", "292y"], &["--time=-9e15"], 0),
        (&["query", "vector(time())"], FAR, 0),
        (&["query", "up @ start() offset 292y or absent_over_time(up[292y] offset -292y)", "-v"], FAR, 0),
        // More than an i64 of milliseconds from start to end.
        (&["query", "vector(time())", "--step=8e12"], WIDE, 1),
        (&["query", "up", "--step=1"], WIDE, 1),
        (&["query", "up offset 300y"], &[], 1),
        (&["query", "up"], &["--time=9e18"], 2),
        (&["inspect", "series", "--match", "up"], WIDE, 0),
        (&["inspect", "exemplars"], WIDE, 0),
        (&["inspect", "blocks", "--gap", "292y"], &[], 0),
        (&["export", "--match", "up"], WIDE, 0),
        (&["export"], &["--start=newest+292y"], 0),
    ] {
        let got = tsdbctl(&[args, times, &["-d", demo]].concat());
        assert_eq!(got.code, code, "{args:?} {times:?}: {}", got.err);
        assert!(!got.err.contains("panicked"), "{args:?} {times:?}: {}", got.err);
    }
}
