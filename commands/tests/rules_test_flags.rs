//! The flags of `rules test`, each as a CI job or a person at a desk uses it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runs::{rules_test, rules_test_command};
use serde_json::Value;
use tempfile::TempDir;
use tsdbctl_testkit::scratch_in_memory;

const RULES: &str = r"groups:
  - name: load
    rules:
      - record: job:load:sum
        expr: sum by (job) (load)
      - alert: HighLoad
        expr: job:load:sum > 10
        for: 2m
        labels: {severity: page}
        annotations:
          summary: 'Load of {{ $labels.job }} is {{ $value }}, above 10'
";

/// Four cases that fail, each in its own way, and a test that passes.
const TESTS: &str = r#"# Tests of the load.
rule_files:
  - rules.yml # all there are
tests:
  - name: high load <pages> & "more"
    input_series:
      - series: load{job="web", instance="a"}
        values: 1 5 9x9
      - series: load{job="web", instance="b"}
        values: 1 5 9x9
    alert_rule_test:
      - eval_time: 5m # late
        alertname: HighLoad
        exp_alerts:
          # the first
          - exp_annotations:
              summary: Load of web is 19, above 10 # words
            exp_labels:
              severity: warning # severity
              job: web
      - alertname: HighLoad
        eval_time: 3m
        exp_alerts: # too early
          - exp_labels: {job: web, severity: page}
    # expressions
    promql_expr_test:
      - expr: job:load:sum
        eval_time: 4m
        exp_samples:
          - value: 17 # seventeen
            labels: job:load:sum{job="web"}
      - expr: count(ALERTS) # how many
        eval_time: 4m
  - name: low load
    input_series: [{series: 'load{job="web"}', values: 1x9}]
    alert_rule_test:
      - {eval_time: 5m, alertname: HighLoad}
"#;

const UPDATED: &str = r#"# Tests of the load.
rule_files:
  - rules.yml # all there are
tests:
  - name: high load <pages> & "more"
    input_series:
      - series: load{job="web", instance="a"}
        values: 1 5 9x9
      - series: load{job="web", instance="b"}
        values: 1 5 9x9
    alert_rule_test:
      - eval_time: 5m # late
        alertname: HighLoad
        exp_alerts:
          # the first
          - exp_annotations:
              summary: Load of web is 18, above 10 # words
            exp_labels:
              severity: page # severity
              job: web
      - alertname: HighLoad
        eval_time: 3m
        exp_alerts: # too early
          []
    # expressions
    promql_expr_test:
      - expr: job:load:sum
        eval_time: 4m
        exp_samples:
          - value: 18 # seventeen
            labels: job:load:sum{job="web"}
      - expr: count(ALERTS) # how many
        eval_time: 4m
        exp_samples: [{labels: '{}', value: 1}]
  - name: low load
    input_series: [{series: 'load{job="web"}', values: 1x9}]
    alert_rule_test:
      - {eval_time: 5m, alertname: HighLoad}
"#;

fn place() -> TempDir {
    let dir = scratch_in_memory();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    std::fs::write(dir.path().join("test.yml"), TESTS).unwrap();
    dir
}

/// The lines of a text are there, in this order, whatever stands between them.
fn assert_lines(text: &str, lines: &[&str]) {
    let mut rest = text.lines();
    for line in lines {
        assert!(rest.any(|l| l.trim() == *line), "no {line:?} at its place in\n{text}");
    }
}

#[test]
fn a_failure_says_where_what_and_why() {
    let dir = place();
    let ran = rules_test(dir.path(), &["test.yml"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "\n"));
    assert_lines(
        &ran.err,
        &[
            "FAILED:",
            "alertname: HighLoad, time: 3m,",
            "got:[]",
            "at test.yml:21:9",
            "rule at rules.yml:6:9",
            r#"does not fire: {alertname="HighLoad", job="web", severity="page"}"#,
            "job:load:sum > 10 at 3m was",
            r#"job:load:sum{job="web"} 18"#,
            "hint: it is pending since 2m: with for: 2m it does not fire before 4m",
            "alertname: HighLoad, time: 5m,",
            "at test.yml:12:9",
            "rule at rules.yml:6:9",
            r#"label severity: expected "warning", got "page""#,
            r#"annotation summary: expected "Load of web is 19, above 10", got "Load of web is 18, above 10""#,
            ": Load of web is [-19-]{+18+}, above 10",
            r#"expr: "job:load:sum", time: 4m,"#,
            r#"exp: {__name__="job:load:sum", job="web"} 1.7E+01"#,
            r#"got: {__name__="job:load:sum", job="web"} 1.8E+01"#,
            "at test.yml:27:9",
            "rule at rules.yml:4:9",
            r#"value of job:load:sum{job="web"}: expected 17, got 18"#,
            "sum by (job) (load) at 4m was",
            r#"{job="web"} 18"#,
            r#"expr: "count(ALERTS)", time: 4m,"#,
            "not expected: {} 1",
            "ALERTS at 4m was",
            r#"ALERTS{alertname="HighLoad", alertstate="firing", job="web", severity="page"} 1"#,
            "1 of 2 tests failed",
        ],
    );
}

#[test]
fn an_update_mends_every_failing_case_and_touches_nothing_else() {
    let dir = place();
    let ran = rules_test(dir.path(), &["--update", "test.yml"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "  SUCCESS\n\n"), "{}", ran.err);
    assert_eq!(ran.err, "test.yml: 4 expectations rewritten\n");
    let text = || std::fs::read_to_string(dir.path().join("test.yml")).unwrap();
    assert_eq!(text(), UPDATED);
    let ran = rules_test(dir.path(), &["--update", "test.yml"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(text(), UPDATED);
    // Only what is selected is rewritten.
    std::fs::write(dir.path().join("test.yml"), TESTS).unwrap();
    assert_eq!(rules_test(dir.path(), &["--update", "--run", "^low", "test.yml"]).code, 0);
    assert_eq!(text(), TESTS);
    // Rules that are not there would take every expectation away.
    let elsewhere = TESTS.replacen("rule_files:\n", "rule_files:\n  - gone.yml\n", 1);
    assert_ne!(elsewhere, TESTS);
    std::fs::write(dir.path().join("test.yml"), &elsewhere).unwrap();
    let ran = rules_test(dir.path(), &["--update", "test.yml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("not updated: no rule file matches \"gone.yml\""), "{}", ran.err);
    assert_eq!(text(), elsewhere);
    // A pattern may match nothing beside others that do.
    let optional = elsewhere.replacen("gone.yml", "gone/*.yml", 1);
    std::fs::write(dir.path().join("test.yml"), &optional).unwrap();
    assert_eq!(rules_test(dir.path(), &["--update", "test.yml"]).code, 0);
    assert_eq!(text(), UPDATED.replacen("rule_files:\n", "rule_files:\n  - gone/*.yml\n", 1));
}

#[test]
fn differing_words_are_coloured_where_that_is_asked_for() {
    let dir = place();
    let plain = rules_test(dir.path(), &["test.yml"]);
    assert!(!plain.err.contains('\x1b'));
    let ran = rules_test(dir.path(), &["--diff", "test.yml"]);
    assert_eq!(ran.code, 1);
    let words = "Load of web is \x1b[0;31m19\x1b[0m\x1b[0;32m18\x1b[0m, above 10";
    assert!(ran.err.contains(words), "{}", ran.err);
}

#[test]
fn the_number_of_jobs_changes_nothing() {
    let dir = place();
    for i in 0..6 {
        let text =
            TESTS.replace("9x9", &format!("{}x9", 5 + i)).replace("low load", &format!("low load {i}"));
        std::fs::write(dir.path().join(format!("t{i}.yml")), text).unwrap();
    }
    let files: Vec<String> = (0..6).map(|i| format!("t{i}.yml")).collect();
    let shown = |jobs: &str, output: &str| {
        let mut args = vec!["--jobs", jobs, "-o", output];
        args.extend(files.iter().map(String::as_str));
        let ran = rules_test(dir.path(), &args);
        (ran.code, ran.out, ran.err)
    };
    for output in ["text", "tap", "json"] {
        let one = shown("1", output);
        assert_eq!(one.0, 1);
        assert_eq!(one, shown("4", output), "{output}");
    }
}

#[test]
fn tests_are_selected_by_patterns_anywhere_in_their_names() {
    let dir = place();
    for (patterns, code, failed) in [
        (&["--run", "low"][..], 0, ""),
        (&["--run", "l.w"][..], 0, ""),
        (&["--run", "high"][..], 1, "1 of 1 tests failed"),
        (&["--run", "nothing", "--run", "gh l"][..], 1, "1 of 1 tests failed"),
        (&["--run", "LOW"][..], 0, ""),
        (&["--run", "^load"][..], 0, ""),
    ] {
        let ran = rules_test(dir.path(), &[patterns, &["test.yml"]].concat());
        assert_eq!(ran.code, code, "{patterns:?}");
        assert!(ran.err.contains(failed), "{patterns:?} {}", ran.err);
    }
    for (pattern, message, mark) in [
        ("a(b", "missing closing ): `a(b`", "1 | a(b\n  |  ^"),
        ("a[(]b)", "unexpected ): `a[(]b)`", "1 | a[(]b)\n  |      ^"),
        ("x**", "invalid nested repetition operator: `**`", "1 | x**\n  |  ^^"),
        ("[z-a]", "invalid character class range: `z-a`", "1 | [z-a]\n  |  ^^^"),
    ] {
        let ran = rules_test(dir.path(), &["--run", "fine", "--run", pattern, "test.yml"]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{pattern}");
        for part in [message, mark, "hint: "] {
            assert!(ran.err.contains(part), "{pattern} {part} in {}", ran.err);
        }
    }
}

#[test]
fn debugging_shows_every_sample() {
    let dir = place();
    let ran = rules_test(dir.path(), &["--debug", "--run", "high", "test.yml"]);
    assert_eq!(ran.code, 1);
    assert_lines(
        &ran.err,
        &[
            "DEBUG: Dump of all data (input_series and rules):",
            r#"{__name__="ALERTS", alertname="HighLoad", alertstate="pending", job="web", severity="page"} =>"#,
            "1 @[120000]",
            "1 @[180000]",
            "stale @[240000]",
            r#"{__name__="job:load:sum", job="web"} =>"#,
            "2 @[0]",
            r#"{__name__="load", instance="b", job="web"} =>"#,
            "9 @[300000]",
            "FAILED:",
        ],
    );
    assert!(ran.err.contains("DEBUG: Test high load <pages> & \"more\" finished, took 0."), "{}", ran.err);
    assert!(!rules_test(dir.path(), &["test.yml"]).err.contains("DEBUG"));
}

#[test]
fn upstreams_limit_on_samples_is_ours_only_when_asked_for() {
    let dir = scratch_in_memory();
    let text = "tests:\n  - interval: 1s\n    input_series: [{series: m, values: 0+1x12000}]\n    promql_expr_test:\n      - {expr: 'count_over_time(m[12000s])', eval_time: 200m, exp_samples: [{value: 12000}]}\n";
    std::fs::write(dir.path().join("t.yml"), text).unwrap();
    let ran = rules_test(dir.path(), &["t.yml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = rules_test(dir.path(), &["--compat.upstream-limits", "t.yml"]);
    assert_eq!(ran.code, 1);
    let said = "expr: \"count_over_time(m[12000s])\", time: 3h20m, err: query processing would load too many samples into memory in query execution";
    assert!(ran.err.contains(said), "{}", ran.err);
}

/// What is far away costs what is evaluated on the way, not what is written: samples are made as the clock reaches them,
/// and without rules nothing happens between the times that are looked at.
#[test]
fn far_away_times_cost_what_is_evaluated() {
    let dir = scratch_in_memory();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let year = "tests:\n  - interval: 1d\n    input_series: [{series: m, values: '0+1x400'}, {series: n, values: _x364 7}]\n    promql_expr_test:\n      - {expr: m, eval_time: 365d, exp_samples: [{labels: m, value: 365}]}\n      - {expr: n, eval_time: 365d}\n      - {expr: 'sum_over_time(n[2d])', eval_time: 365d, exp_samples: [{value: 7}]}\n      - {expr: time(), eval_time: 365d, exp_samples: [{value: 31536000}]}\n";
    let ruled = "rule_files: [rules.yml]\nevaluation_interval: 6h\ntests:\n  - interval: 6h\n    start_timestamp: 2026-01-01T00:00:00Z\n    input_series: [{series: 'load{job=\"web\"}', values: '0x1459 20x20'}]\n    alert_rule_test:\n      - {eval_time: 364d, alertname: HighLoad}\n      - {eval_time: 365d6h, alertname: HighLoad, exp_alerts: [{exp_labels: {job: web, severity: page}, exp_annotations: {summary: 'Load of web is 20, above 10'}}]}\n    promql_expr_test:\n      - {expr: 'count_over_time(job:load:sum[366d])', eval_time: 365d, exp_samples: [{labels: '{job=\"web\"}', value: 1461}]}\n";
    let long = "tests:\n  - input_series: [{series: m, values: '0+1x4000000000'}, {series: n, values: '_x9000000000 1'}]\n    promql_expr_test:\n      - {expr: m, eval_time: 5m, exp_samples: [{labels: m, value: 5}]}\n      - {expr: n, eval_time: 5m}\n";
    for (name, text) in [("year.yml", year), ("ruled.yml", ruled), ("long.yml", long)] {
        std::fs::write(dir.path().join(name), text).unwrap();
        let ran = rules_test(dir.path(), &[name]);
        assert_eq!((ran.code, ran.out.as_str()), (0, "  SUCCESS\n\n"), "{name}\n{}", ran.err);
    }
}

/// An element: its depth, name, attributes and own text.
#[derive(Debug, Default)]
struct Element {
    depth: usize,
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
}

impl Element {
    fn get(&self, name: &str) -> &str {
        self.attributes.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }
}

/// The elements of an XML document; panics where it is not well-formed.
fn read_xml(text: &str) -> Vec<Element> {
    fn unescape(text: &str) -> String {
        assert!(!text.contains('<') && !text.contains("]]>"), "{text}");
        let bad = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || c == '\u{fffe}' || c == '\u{ffff}';
        assert!(!text.contains(bad), "a sign that XML has no place for: {text:?}");
        let mut parts = text.split('&');
        let mut out = parts.next().unwrap().to_string();
        for part in parts {
            let (entity, rest) = part.split_once(';').expect("an & begins an entity");
            out.push(match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                _ => {
                    char::from_u32(u32::from_str_radix(entity.strip_prefix("#x").expect(entity), 16).unwrap())
                        .unwrap()
                }
            });
            out.push_str(rest);
        }
        out
    }
    let body = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").expect("a declaration");
    let (mut elements, mut open): (Vec<Element>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut rest = body;
    while let Some((before, from)) = rest.split_once('<') {
        match open.last() {
            Some(i) => elements[*i].text.push_str(&unescape(before)),
            None => assert!(before.trim().is_empty(), "text outside of the root: {before}"),
        }
        let (tag, behind) = from.split_once('>').expect("a tag ends");
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(elements[open.pop().expect("an open element")].name, name);
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()), "{name}");
        let mut element = Element { depth: open.len(), name: name.to_string(), ..Element::default() };
        while !attributes.trim().is_empty() {
            let (name, from) = attributes.trim_start().split_once("=\"").expect("name=\"value\"");
            let (value, behind) = from.split_once('"').expect("a quote closes");
            assert!(element.get(name).is_empty(), "{name} twice");
            element.attributes.push((name.to_string(), unescape(value)));
            attributes = behind;
        }
        assert!(!open.is_empty() || elements.is_empty(), "one root");
        if !empty {
            open.push(elements.len());
        }
        elements.push(element);
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    elements
}

#[test]
fn reports_for_machines_are_well_formed() {
    let dir = place();
    std::fs::write(dir.path().join("bad.yml"), "tests: [\n").unwrap();
    std::fs::write(
        dir.path().join("odd.yml"),
        "tests:\n  - name: \"a\\x01 ]]> \\u2028 # 'q' é\"\n    promql_expr_test:\n      - {expr: '\"\\u0007<&\"', eval_time: 1m}\n  - input_series: []\n",
    )
    .unwrap();
    let files = ["test.yml", "bad.yml", "odd.yml", "gone.yml"];
    let args = |output: &'static str| [&["-o", output, "--junit", "junit.xml"][..], &files[..]].concat();

    let ran = rules_test(dir.path(), &args("junit"));
    assert_eq!(ran.code, 1);
    let xml = std::fs::read_to_string(dir.path().join("junit.xml")).unwrap();
    let untimed = |text: &str| {
        let parts =
            text.split(" time=\"").map(|p| p.split_once('"').filter(|(t, _)| t.parse::<f64>().is_ok()));
        parts.map(|p| p.map_or(String::new(), |(_, rest)| rest.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(untimed(&xml), untimed(&ran.out));
    let elements = read_xml(&xml);
    let named = |name: &str| elements.iter().filter(|e| e.name == name).collect::<Vec<_>>();
    assert_eq!(elements[0].name, "testsuites");
    let suites = named("testsuite");
    let counts: Vec<[&str; 4]> =
        suites.iter().map(|s| ["name", "tests", "failures", "errors"].map(|a| s.get(a))).collect();
    assert_eq!(
        counts,
        [
            ["test.yml", "2", "1", "0"],
            ["bad.yml", "1", "0", "1"],
            ["odd.yml", "2", "1", "0"],
            ["gone.yml", "1", "0", "1"]
        ]
    );
    assert!(suites.iter().all(|s| s.depth == 1 && s.get("time").parse::<f64>().is_ok()));
    let cases = named("testcase");
    let names: Vec<&str> = cases.iter().map(|c| c.get("name")).collect();
    let odd = "a\u{fffd} ]]> \u{2028} # 'q' é";
    let high = "high load <pages> & \"more\"";
    assert_eq!(names, [high, "low load", "unknown", odd, "unnamed#1", "unknown"]);
    assert_eq!((cases[0].get("file"), cases[0].get("line")), ("test.yml", "5"));
    let failures = named("failure");
    assert_eq!(failures.len(), 5);
    assert_eq!(failures[0].get("message"), "alert HighLoad at 3m: 1 expected, 0 firing, they differ");
    assert!(failures[0].text.contains("at test.yml:21:9\n") && failures[0].depth == 3, "{:?}", failures[0]);
    assert_eq!(named("error")[1].text, "open gone.yml: no such file or directory");

    let tap = rules_test(dir.path(), &args("tap"));
    let lines: Vec<&str> = tap.out.lines().collect();
    assert_eq!(lines[..2], ["TAP version 14", "1..6"]);
    let points: Vec<&str> =
        lines.iter().copied().filter(|l| l.starts_with("ok") || l.starts_with("not ok")).collect();
    let starts = [
        "not ok 1 - test.yml: high",
        "ok 2 - ",
        "not ok 3 - bad.yml",
        "not ok 4 - odd.yml: a",
        "ok 5 - ",
        "not ok 6 - gone.yml",
    ];
    assert!(points.iter().zip(starts).all(|(p, s)| p.starts_with(s)) && points.len() == 6, "{points:?}");
    let inside: Vec<&&str> = lines[2..].iter().filter(|l| !points.contains(l)).collect();
    assert!(inside.iter().all(|l| l.starts_with("  ")), "{inside:?}");
    assert_eq!(inside.iter().filter(|l| **l == &"  ---").count(), 4);
    assert_eq!(inside.iter().filter(|l| **l == &"  ...").count(), 4);

    let json: Value = serde_json::from_str(&rules_test(dir.path(), &args("json")).out).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["files"][1]["errors"].as_array().unwrap().len(), 1);
    let failure = &json["files"][0]["tests"][0]["failures"][2];
    assert_eq!(failure["place"], serde_json::json!({"file": "test.yml", "line": 27, "column": 9}));
    assert_eq!(failure["rules"][0]["line"], 4);
    assert_eq!(failure["values"][0]["values"][0], r#"{job="web"} 18"#);
}

/// A run that goes on, and what it has said by now.
struct Watching {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watching {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = rules_test_command(dir, args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Self { child, said }
    }

    /// Waits until it has said `text` `times` times.
    fn wait(&self, text: &str, times: usize) {
        for _ in 0..600 {
            if self.said.lock().unwrap().matches(text).count() >= times {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no {times} times {text:?} in {}", self.said.lock().unwrap());
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watching_sees_every_change_and_ends_when_told() {
    for (signal, last) in [("-INT", 1), ("-TERM", 0)] {
        let dir = place();
        let path = dir.path();
        let text = TESTS.replace("- rules.yml # all there are", "- '*rules.yml'");
        std::fs::write(path.join("test.yml"), &text).unwrap();
        let mut run = Watching::start(path, &["--watch", "test.yml"]);
        run.wait("watching 2 files", 1);
        run.wait("1 of 2 tests failed", 1);
        // The tests change, the rules change, a rule file comes.
        std::fs::write(
            path.join("test.yml"),
            UPDATED.replace("- rules.yml # all there are", "- '*rules.yml'"),
        )
        .unwrap();
        run.wait("watching 2 files", 2);
        std::fs::write(path.join("rules.yml"), RULES.replace("> 10", "> 100")).unwrap();
        run.wait("watching 2 files", 3);
        run.wait("1 of 2 tests failed", 2);
        std::fs::write(path.join("rules.yml"), RULES).unwrap();
        run.wait("watching 2 files", 4);
        if last == 1 {
            std::fs::write(path.join("more-rules.yml"), "groups: 5\n").unwrap();
            run.wait("watching 3 files", 1);
            run.wait("2 of 2 tests failed", 1);
        }
        let pid = run.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(run.child.wait().unwrap().code(), Some(last), "{}", run.said.lock().unwrap());
    }
}

#[test]
fn files_that_are_not_there_are_named_and_the_others_run() {
    let dir = place();
    let ran = rules_test(dir.path(), &["gone.yml", "test.yml"]);
    assert_eq!(ran.code, 1);
    assert_lines(
        &ran.err,
        &[
            "FAILED:",
            "open gone.yml: no such file or directory",
            "FAILED:",
            "1 of 2 tests failed",
            "1 of 2 files could not be read",
        ],
    );
    assert_eq!(rules_test(dir.path(), &[]).code, 2);
}
