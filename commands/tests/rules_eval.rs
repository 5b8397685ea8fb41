//! `tsdbctl rules eval`, run as a user runs it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::path::{Path, PathBuf};

use runs::{ok, sorted, text_of, tsdbctl};
use serde_json::Value;
use tsdbctl_testkit::{TempDir, scratch};

/// Multiple of two hours and of the interval.
const T: i64 = 1_699_999_200;

const RULES: &str = r#"groups:
- name: later
  interval: 1m
  rules:
  - {record: "job:m:double", expr: "job:m:sum * 2"}
- name: g
  interval: 1m
  rules:
  - {record: "job:m:sum", expr: "sum by (job) (m)", labels: {env: lab}}
  - {alert: High, expr: "m > 30", for: 2m, annotations: {summary: "{{ $labels.job }} at {{ $value }}"}}
"#;

struct Bench {
    scratch: TempDir,
}

impl Bench {
    /// `m{job="a"}` counts minutes for two hours; `m{job="b"}` is gone after the first.
    fn new() -> Self {
        let bench = Self { scratch: scratch() };
        let mut text = String::from("# TYPE m gauge\n");
        for k in 0..120 {
            text += &format!("m{{job=\"a\"}} {k} {}\n", T + k * 60);
        }
        for k in 0..60 {
            text += &format!("m{{job=\"b\"}} 5 {}\n", T + k * 60);
        }
        let input = bench.file("in.om", &(text + "# EOF\n"));
        ok(&["ingest", "--blocks", "-d", text_of(&bench.dir()), text_of(&input)]);
        bench.file("rules.yml", RULES);
        bench
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("db")
    }

    fn args<'a>(&self, dir: &'a Path, more: &[&'a str]) -> Vec<String> {
        let rules = self.scratch.path().join("rules.yml");
        let mut all: Vec<String> =
            ["rules", "eval", text_of(&rules), "-d", text_of(dir)].map(str::to_string).to_vec();
        all.extend(more.iter().map(|a| a.to_string()));
        all
    }

    fn eval(&self, more: &[&str]) -> runs::Ran {
        let dir = self.dir();
        let args = self.args(&dir, more);
        tsdbctl(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn query(&self, dir: &Path, expr: &str, start: i64, end: i64) -> String {
        let (start, end) = (start.to_string(), end.to_string());
        ok(&[
            "query",
            expr,
            "-d",
            text_of(dir),
            "--start",
            &start,
            "--end",
            &end,
            "--step",
            "1m",
            "-o",
            "prom",
        ])
    }

    fn blocks(&self, dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        entries.filter(|p| p.join("meta.json").exists()).count()
    }
}

/// The range in which both groups have `slots=start` slots at whole minutes.
fn range(from: i64, to: i64) -> [String; 6] {
    let (start, end) = ((T + from * 60).to_string(), (T + to * 60).to_string());
    ["--start".into(), start, "--end".into(), end, "--slots".into(), "start".into()]
}

fn strs(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[test]
fn one_time_gives_values_and_alerts_that_lived_before() {
    let bench = Bench::new();
    let at = (T + 32 * 60).to_string();
    let ran = bench.eval(&["--time", &at, "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let evaluations = json["evaluations"].as_array().unwrap();
    let of = |rule: &str| evaluations.iter().find(|e| e["rule"] == rule).unwrap();
    assert_eq!(of("job:m:sum")["samples"][0]["value"], "32");
    // Its group comes first in the file: at one time it sees what was recorded a minute before.
    assert_eq!(of("job:m:double")["samples"][0]["value"], "62");
    let alert = &of("High")["alerts"][0];
    assert_eq!((alert["state"].as_str(), alert["value"].as_str()), (Some("pending"), Some("32")));
    assert_eq!(alert["annotations"]["summary"], "a at 32");
    let at = (T + 33 * 60).to_string();
    let table = bench.eval(&["--time", &at]).out;
    assert!(table.contains("job:m:sum{env=\"lab\", job=\"a\"}"), "{table}");
    assert!(table.contains("firing"), "{table}");
}

#[test]
fn what_is_written_is_what_the_expression_gives() {
    let bench = Bench::new();
    let range = range(1, 119);
    let ran = bench.eval(&[&strs(&range)[..], &["--write"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("samples in 1 block"), "{}", ran.err);
    let dir = bench.dir();
    let strip = |text: String| sorted(&text).join("\n").replace("__name__=\"job:m:sum\", env=\"lab\", ", "");
    let want = bench.query(&dir, "sum by (job) (m)", T + 60, T + 119 * 60);
    let got = strip(bench.query(&dir, "job:m:sum", T + 60, T + 119 * 60));
    assert_eq!(got, sorted(&want).join("\n"));
    assert_eq!(bench.query(&dir, "ALERTS", T, T + 119 * 60), "");
    // Its group comes first, so each value is that of the minute before.
    let double = bench.query(&dir, "job:m:double{job=\"a\"}", T + 10 * 60, T + 10 * 60);
    assert!(double.contains(" 18 "), "{double}");
    // A series that ends is marked: there is no value right after.
    assert_eq!(bench.query(&dir, "job:m:sum{job=\"b\"}", T + 66 * 60, T + 70 * 60), "");
}

#[test]
fn a_second_run_writes_nothing_and_other_rules_are_refused() {
    let bench = Bench::new();
    let range = range(1, 60);
    let write = |more: &[&str]| bench.eval(&[&strs(&range)[..], &["--write", "--alerts"], more].concat());
    assert_eq!(write(&[]).code, 0);
    let blocks = bench.blocks(&bench.dir());
    let again = write(&[]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("are stored already"), "{}", again.err);
    assert_eq!(bench.blocks(&bench.dir()), blocks);
    // What is new of a longer range is added to what is there.
    let longer = crate::range(1, 70);
    let ran = bench.eval(&[&strs(&longer)[..], &["--write", "--alerts"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("were stored already"), "{}", ran.err);
    let want = bench.query(&bench.dir(), "sum by (job) (m)", T + 60, T + 70 * 60);
    let got = bench.query(&bench.dir(), "job:m:sum", T + 60, T + 70 * 60);
    assert_eq!(got.lines().count(), want.lines().count());
    let blocks = bench.blocks(&bench.dir());
    bench.file("rules.yml", &RULES.replace("sum by (job) (m)", "sum by (job) (m) + 1"));
    let ran = write(&[]);
    assert_eq!(ran.code, 1);
    assert_eq!(bench.blocks(&bench.dir()), blocks);
    // Which series, when, what came first, and the way out.
    let said = ran.err.replace("\n", " ");
    for what in [
        "{__name__=\"job:m:sum\", env=\"lab\", job=\"a\"} at 2023-11-14T22:01:00Z is stored as 1 and computed as 2; \
         so 59 others differ up to 2023-11-14T23:00:00Z",
        "240 of 301 samples are stored with another value, from 2023-11-14T22:01:00Z to 2023-11-14T23:00:00Z",
        "nothing was written",
        "tsdbctl slice -d DIR --match '{__name__!=\"job:m:double\",__name__!=\"job:m:sum\"}' --into COPY",
    ] {
        assert!(said.contains(what), "{what}: {}", ran.err);
    }
    // It is one.
    let copy = bench.scratch.path().join("copy");
    let without = "{__name__!=\"job:m:double\",__name__!=\"job:m:sum\"}";
    ok(&["slice", "-d", text_of(&bench.dir()), "--match", without, "--into", text_of(&copy)]);
    let args = bench.args(&copy, &[&strs(&range)[..], &["--write"]].concat());
    ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let got = bench.query(&copy, "job:m:sum{job=\"a\"}", T + 60, T + 60);
    assert!(got.contains(" 2 "), "{got}");
    bench.file("rules.yml", &RULES.replace("for: 2m", "for: 4m"));
    let ran = write(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("at 2023-11-14T22:33:00Z is stored as stale and computed as 1"), "{}", ran.err);
}

#[test]
fn blocks_of_their_own_directory_are_whole_and_nothing_is_no_success() {
    let bench = Bench::new();
    let own = bench.scratch.path().join("own");
    let range = range(1, 30);
    let args = [&strs(&range)[..], &["--write", "--output-dir", text_of(&own)]].concat();
    assert_eq!(bench.eval(&args).code, 0);
    assert_eq!(bench.blocks(&bench.dir()), 1);
    assert_eq!(bench.blocks(&own), 1);
    assert_eq!(bench.query(&own, "job:m:sum", T + 60, T + 60).lines().count(), 2);
    assert_eq!(bench.eval(&args).code, 1, "a second run writes no second copy there either");
    let nowhere = crate::range(1000, 1010);
    let ran = bench.eval(&[&strs(&nowhere)[..], &["--write"]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("nothing was written: the rules gave no samples"), "{}", ran.err);
}

#[test]
fn what_fails_is_named_with_its_place() {
    let bench = Bench::new();
    let rules = "groups:\n- name: g\n  rules:\n  - {record: r, expr: \"label_replace(m, 'job', 'x', '', '')\"}\n  - {record: s, expr: m}\n";
    bench.file("rules.yml", rules);
    let at = T.to_string();
    let ran = bench.eval(&["--time", &at]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(
        ran.err.contains("rules.yml:4:14: group \"g\", rule \"r\": vector cannot contain metrics"),
        "{}",
        ran.err
    );
    bench.file("rules.yml", "groups: [{name: g, rules: [{record: r, expr: 'm +'}]}]\n");
    assert_eq!(bench.eval(&["--time", &at]).code, 1);
    let ran = bench.eval(&["--write", "--time", &at]);
    assert_eq!(ran.code, 2, "{}", ran.err);
}

#[test]
fn promtool_takes_openmetrics_and_ingest_gives_it_back() {
    let bench = Bench::new();
    let range = range(1, 5);
    let text = bench.eval(&[&strs(&range)[..], &["-o", "openmetrics"]].concat());
    let file = bench.file("out.om", &text.out);
    let other = bench.scratch.path().join("other");
    ok(&["ingest", "--blocks", "-d", text_of(&other), text_of(&file)]);
    let got = bench.query(&other, "job:m:sum", T + 60, T + 5 * 60);
    assert_eq!(got.lines().count(), 10, "{got}");
}

const TIED: &str = r#"groups:
- name: one
  rules:
  - {record: a, expr: "b + m"}
  - {record: b, expr: "sum(a)"}
  - {alert: X, expr: "b > 1", annotations: {s: "{{ range query `c` }}{{ . }}{{ end }}"}}
- name: two
  rules:
  - {record: c, expr: "sum(a) + c"}
  - {record: d, expr: "{job='x'}"}
  - {record: "e:ok", expr: "m"}
"#;

#[test]
fn dependencies_are_told_with_what_is_seen() {
    let bench = Bench::new();
    let rules = bench.file("tied.yml", TIED);
    let rules = text_of(&rules);
    let text = ok(&["rules", "deps", rules]);
    for line in [
        "  reads record b; later in the group: of the slot before",
        "  reads record a; earlier in the group: of the same slot",
        "  reads record c (group \"two\") in a template; another group: what was written by then",
        "  reads record a (group \"one\"); another group: what was written by then",
        "  reads record c; itself, as of the slot before",
        "  may read anything: {job=\"x\"}",
        "cycle: a, b",
        "cycle: c",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
    }
    assert!(!text.contains("e:ok"), "{text}");
    let json: Value = serde_json::from_str(&ok(&["rules", "deps", rules, "-o", "json"])).unwrap();
    assert_eq!(json["cycles"], serde_json::json!([[0, 1], [3]]));
    let dot = ok(&["rules", "deps", rules, "-o", "dot"]);
    assert!(dot.starts_with("digraph rules {") && dot.contains("r1 -> r0 [style=dashed, color=red"), "{dot}");
    for (deny, code) in [("cycle", 3), ("late-read", 3), ("unknown", 3)] {
        let ran = tsdbctl(&["rules", "deps", rules, "--deny", deny]);
        assert_eq!(ran.code, code);
        assert!(ran.err.contains("error: denied: "), "{}", ran.err);
    }
}

#[test]
fn a_run_that_is_killed_leaves_all_or_nothing() {
    let bench = Bench::new();
    let mut rules = String::from("groups:\n- name: g\n  interval: 1s\n  rules:\n");
    for k in 0..40 {
        rules += &format!("  - {{record: \"r:{k}\", expr: \"m + {k}\"}}\n");
    }
    bench.file("rules.yml", &rules);
    let range = range(1, 110);
    let (dir, mut killed) = (bench.dir(), 0);
    let args = bench.args(&dir, &[&strs(&range)[..], &["--write"]].concat());
    for wait_ms in [5, 20, 60, 150, 400, 800] {
        let mut run = runs::command(&strs(&args)).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        if run.try_wait().unwrap().is_some() {
            break;
        }
        run.kill().unwrap();
        run.wait().unwrap();
        killed += 1;
        // Whatever moment it was: blocks are whole or not there.
        bench.query(&dir, "count({__name__=~\"r:.*\"})", T + 60, T + 600);
    }
    let ran = tsdbctl(&strs(&args));
    assert!(ran.code == 0 || ran.err.contains("are stored already"), "{}", ran.err);
    for k in [0, 39] {
        let strip = |text: String, name: &str| sorted(&text).join("\n").replace(name, "");
        let want = strip(bench.query(&dir, &format!("m + {k}"), T + 60, T + 110 * 60), "");
        let got = bench.query(&dir, &format!("{{__name__=\"r:{k}\"}}"), T + 60, T + 110 * 60);
        assert_eq!(strip(got, &format!("__name__=\"r:{k}\", ")), want, "killed {killed} times");
    }
}

#[test]
fn what_is_not_in_the_data_is_said() {
    let bench = Bench::new();
    let rules = "groups:\n- name: g\n  rules:\n  - {record: r, expr: sum(typo)}\n  - {alert: A, expr: \"m{job='zzz'} > 1\"}\n  - {alert: Quiet, expr: m > 1e9}\n  - {alert: Gone, expr: absent(typo)}\n  - {record: s, expr: r + 1}\n";
    bench.file("rules.yml", rules);
    let at = (T + 600).to_string();
    let ran = bench.eval(&["--time", &at]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for want in [
        "rules.yml:4:14: group \"g\", rule \"r\" gives nothing: {__name__=\"typo\"} is not in the data; there are no such series",
        "rules.yml:5:13: group \"g\", alert \"A\" gives nothing: {",
        "none of its series has these labels",
    ] {
        assert!(ran.err.contains(want), "{want} is missing in\n{}", ran.err);
    }
    assert_eq!(ran.err.matches("gives nothing").count(), 2, "{}", ran.err);
}

/// The block's file with one thing done to its bytes.
fn damage(dir: &Path, file: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let blocks = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let path = blocks.into_iter().find(|p| p.join("meta.json").exists()).unwrap().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    how(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn damage_is_told_with_its_place_and_ends_everything() {
    type Case = (&'static str, &'static str, fn(&mut Vec<u8>));
    let cases: [Case; 4] = [
        ("chunks/000001", "a byte of a chunk", |b| b[30] ^= 0x55),
        ("chunks/000001", "the end is missing", |b| b.truncate(b.len() - 20)),
        ("index", "a byte of the postings", |b| {
            let at = b.len() - 70;
            b[at] ^= 0x55;
        }),
        ("index", "the end is missing", |b| b.truncate(b.len() / 2)),
    ];
    for (file, what, how) in cases {
        let bench = Bench::new();
        damage(&bench.dir(), file, how);
        let range = range(1, 119);
        for more in [&["-o", "json"][..], &["--write", "--alerts"], &["--use-stored"]] {
            let ran = bench.eval(&[&strs(&range)[..], more].concat());
            assert_eq!(ran.code, 1, "{what} {more:?}: {}", ran.err);
            assert!(
                ran.err.contains(&format!("{file}: at byte ")),
                "{what} {more:?}: the file and the place are named: {}",
                ran.err
            );
            assert_eq!(bench.blocks(&bench.dir()), 1, "{what}");
        }
        // An alert that reads a recorded metric is stepped, one that does not is not.
        for expr in ["m > 30", "job:m:sum > 30"] {
            let rules = RULES.replace("expr: \"m > 30\"", &format!("expr: \"{expr}\""));
            let rules = bench.file("alerts.yml", &rules);
            let (start, end) = (T.to_string(), (T + 7140).to_string());
            let dir = bench.dir();
            let args = ["rules", "backtest", text_of(&rules), "-d", text_of(&dir)];
            let ran = tsdbctl(&[&args[..], &["--start", &start, "--end", &end]].concat());
            assert_eq!(ran.code, 1, "{what} {expr}: {}", ran.err);
            assert!(ran.err.contains(&format!("{file}: at byte ")), "{what} {expr}: {}", ran.err);
            assert_eq!(ran.out, "", "{what} {expr}");
        }
    }
}

#[test]
fn nothing_is_said_in_words_and_a_document_that_is_passed_over_is_named() {
    let bench = Bench::new();
    let empty = "groups:\n- name: g\n  rules:\n  - {record: r, expr: \"m > 1e9\"}\n  - {alert: A, expr: \"m > 1e9\"}\n";
    bench.file("rules.yml", empty);
    let at = T.to_string();
    assert_eq!(bench.eval(&["--time", &at]).out, "no values\n\nno alerts\n");
    let range = range(1, 60);
    assert_eq!(bench.eval(&strs(&range)).out, "no values\n\nno alerts\n");
    // At the end of a range it is told what is still active.
    let alive = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: \"m > 30\", for: 2m}\n";
    bench.file("rules.yml", alive);
    let told = bench.eval(&strs(&range)).out;
    assert!(told.lines().nth(1).is_some_and(|l| l.ends_with("firing")), "{told}");
    let longer = crate::range(1, 150);
    let told = bench.eval(&strs(&longer)).out;
    assert!(told.lines().nth(1).is_some_and(|l| l.ends_with("inactive")), "{told}");
    let rules = bench.file("rules.yml", &format!("{empty}---\n{}", alive.replace("name: g", "name: h")));
    let dir = bench.dir();
    let backtest = ["rules", "backtest", text_of(&rules), "-d", text_of(&dir), "--start", &at];
    for args in [&bench.args(&dir, &["--time", &at])[..], &backtest.map(str::to_string)] {
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = tsdbctl(&args);
        assert!(ran.err.contains("rules.yml:6:1: the document that begins here is not read"), "{}", ran.err);
        args.push("--all-documents");
        let ran = tsdbctl(&args);
        assert!(!ran.err.contains("is not read"), "{}", ran.err);
    }
}
