//! `rules test`, run as a user runs it: promtool's verdicts, random suites beside promtool, mistakes, rewriting.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::CommandCargoExt;
use serde_json::Value;
use tsdbctl_testkit::{read_text, scratch_in_memory, shared};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Ran {
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}

fn rules_test(dir: &Path, args: &[&str]) -> Ran {
    run(Command::cargo_bin("tsdbctl").unwrap().args(["rules", "test"]).args(args).current_dir(dir))
}

/// Upstream's text of all failures of a JSON report.
fn failures(report: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for file in report["files"].as_array().unwrap() {
        out.extend(file["errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_string()));
        for test in file["tests"].as_array().unwrap() {
            let texts = test["failures"].as_array().unwrap().iter().map(|f| f["text"].as_str().unwrap());
            out.extend(texts.map(str::to_string));
        }
    }
    out
}

#[test]
fn recorded_runs_have_upstreams_verdict() {
    let Some(verdicts) = read_text("data/verdicts-3.14.jsonl") else { return };
    let Some(dir) = shared("conformance") else { return };
    let mut runs = 0;
    for line in verdicts.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        let argv: Vec<&str> =
            verdict["argv"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        if argv.get(1..3) != Some(&["test", "rules"]) {
            continue;
        }
        runs += 1;
        let mut args = argv[3..].to_vec();
        let dir = dir.join(verdict["dir"].as_str().unwrap());
        let plain = rules_test(&dir, &args);
        assert_eq!(i64::from(plain.code), verdict["exit"].as_i64().unwrap(), "{argv:?}\n{}", plain.err);
        let successes = |text: &str| text.matches("  SUCCESS\n").count();
        assert_eq!(successes(&plain.out), successes(verdict["stdout"].as_str().unwrap()), "{argv:?}");
        args.extend(["-o", "json"]);
        let report: Value = serde_json::from_str(&rules_test(&dir, &args).out).unwrap();
        if argv.contains(&"--diff") {
            continue;
        }
        let ours = failures(&report);
        let expected = verdict["stderr"].as_str().unwrap();
        let text = if ours.is_empty() { String::new() } else { format!("  FAILED:\n{}\n", ours.join("\n")) };
        assert_eq!(text, expected, "{argv:?}");
    }
    assert!(runs >= 30, "{runs}");
}

/// Numbers that look random, the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

const VALUES: [&str; 14] = [
    "0x20",
    "1+1x20",
    "0+0.1x15",
    "5-1x9",
    "1 _ 3 _x4 7",
    "stale 1 2 stale",
    "1 2 NaN 4 Inf -Inf",
    "100-7x12 0 0 1",
    "1x3 stale 1x5",
    "_ _ 1 1 1 0 0 0 1 1",
    "3 3 3 2 1 0 1 2 3",
    "1e3 1.5 0.5 1000",
    "0+60x20",
    "1 2 1 2 1 2 1 2 1 2",
];

const EXPRS: [&str; 16] = [
    "m",
    "m > 2",
    "sum(m)",
    "sum by (a) (m)",
    "rate(c[2m])",
    "increase(c[5m])",
    "m == 0",
    "absent(m{a=\"1\"})",
    "count_over_time(m[3m])",
    "max_over_time(m[2m:30s])",
    "m unless c",
    "m * on(a) group_left c",
    "timestamp(m)",
    "vector(1)",
    "r0",
    "changes(m[4m]) > 1",
];

/// Rules and tests of one suite.
fn suite(seed: u64) -> (String, String) {
    let mut n = Numbers(seed.wrapping_mul(7919).wrapping_add(17));
    let mut rules = String::from("groups:\n");
    for g in 0..1 + n.below(2) {
        let _ = writeln!(rules, "  - name: g{g}");
        if n.below(4) == 0 {
            rules.push_str("    interval: 5m\n");
        }
        if n.below(6) == 0 {
            let _ = writeln!(rules, "    limit: {}", 1 + n.below(3));
        }
        rules.push_str("    rules:\n");
        for r in 0..1 + n.below(4) {
            let expr = n.pick(&EXPRS);
            if n.below(2) == 0 {
                let _ = writeln!(rules, "      - record: r{r}\n        expr: '{expr}'");
                if n.below(3) == 0 {
                    let _ = writeln!(rules, "        labels: {{a: '', g: 'g{g}'}}");
                }
                continue;
            }
            let _ = writeln!(rules, "      - alert: A{}\n        expr: '{expr}'", n.below(3));
            let held = n.pick(&["", "        for: 1m\n", "        for: 90s\n", "        for: 3m\n"]);
            let kept = n.pick(&["", "", "        keep_firing_for: 2m\n"]);
            let _ = write!(rules, "{held}{kept}");
            if n.below(2) == 0 {
                let _ = writeln!(
                    rules,
                    "        labels: {{severity: '{}', was: '{{{{ $labels.a }}}}'}}",
                    n.below(2)
                );
            }
            if n.below(2) == 0 {
                rules.push_str("        annotations:\n          text: 'a={{ $labels.a }} v={{ $value | humanize }} {{ printf \"%.2f\" $value }}'\n");
                if n.below(3) == 0 {
                    rules.push_str(
                        "          empty: ''\n          q: '{{ query \"count(m)\" | first | value }}'\n",
                    );
                }
            }
        }
    }
    let mut tests = String::from("rule_files: [rules.yml]\n");
    let _ = write!(
        tests,
        "{}",
        n.pick(&["", "evaluation_interval: 1m\n", "evaluation_interval: 30s\n", "evaluation_interval: 2m\n"])
    );
    tests.push_str("group_eval_order: [g0, g1]\ntests:\n");
    for t in 0..1 + n.below(3) {
        let _ = writeln!(tests, "  - name: t{t}");
        let _ = write!(
            tests,
            "{}",
            n.pick(&["", "    interval: 1m\n", "    interval: 30s\n", "    interval: 15s\n"])
        );
        tests.push_str("    input_series:\n");
        for (name, count) in [("m", n.below(4)), ("c", 1 + n.below(2))] {
            for i in 0..count {
                let _ = writeln!(
                    tests,
                    "      - series: '{name}{{a=\"{i}\"}}'\n        values: '{}'",
                    n.pick(&VALUES)
                );
            }
        }
        tests.push_str("    alert_rule_test:\n");
        for _ in 0..n.below(4) {
            let time = n.pick(&["0m", "1m", "2m", "90s", "5m", "8m", "0", "12m"]);
            let _ = writeln!(tests, "      - eval_time: {time}\n        alertname: A{}", n.below(3));
            if n.below(3) > 0 {
                let _ = writeln!(
                    tests,
                    "        exp_alerts:\n          - exp_labels: {{a: '{}', severity: '1'}}\n            exp_annotations: {{text: 'a=0'}}",
                    n.below(3)
                );
            }
        }
        tests.push_str("    promql_expr_test:\n");
        for _ in 0..1 + n.below(4) {
            let expr = n.pick(&[
                "m",
                "r0",
                "r1",
                "ALERTS",
                "ALERTS_FOR_STATE",
                "c[1m]",
                "1",
                "sum(m) + sum(c)",
                "\"x\"",
                "r0 + r1",
                "m +",
                "time()",
                "count({__name__=~\".+\"})",
            ]);
            let time = n.pick(&["0m", "1m", "4m", "150s", "6m", "10m"]);
            let _ = writeln!(tests, "      - expr: '{expr}'\n        eval_time: {time}");
            if n.below(2) == 0 {
                let _ = writeln!(
                    tests,
                    "        exp_samples:\n          - labels: 'm{{a=\"0\"}}'\n            value: {}",
                    n.below(4)
                );
            }
        }
    }
    (rules, tests)
}

#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
fn skipped(variable: &str) {
    eprintln!("skipped: {variable} is not set");
}

fn beside(variable: &str) {
    let Some(promtool) = std::env::var_os(variable) else {
        skipped(variable);
        return;
    };
    let dir = scratch_in_memory();
    let path = dir.path();
    let (mut failed, mut passed, mut rewritten) = (0, 0, 0);
    for seed in 0..200 {
        let (rules, tests) = suite(seed);
        std::fs::write(path.join("rules.yml"), &rules).unwrap();
        std::fs::write(path.join("test.yml"), &tests).unwrap();
        let peer = |file: &str| {
            run(Command::new(&promtool).args(["test", "rules", file]).current_dir(path).env("NO_COLOR", "1"))
        };
        let theirs = peer("test.yml");
        let ours = rules_test(path, &["-o", "json", "test.yml"]);
        // Older ones let two rules that write one series go on at another time.
        let clash = |text: &str| text.contains("duplicate sample for timestamp");
        if clash(&ours.out) && !theirs.err.contains("overrides not allowed") {
            continue;
        }
        assert_eq!(ours.code, theirs.code, "suite {seed}\n{rules}\n{tests}\n{}\n{}", theirs.err, ours.out);
        let report: Value = serde_json::from_str(&ours.out).unwrap();
        let ours = failures(&report);
        let text = if ours.is_empty() { String::new() } else { format!("  FAILED:\n{}\n", ours.join("\n")) };
        let plain = |text: &str| text.trim_end().to_string();
        assert_eq!(plain(&text), plain(&theirs.err), "suite {seed}\n{rules}\n{tests}");
        if theirs.code == 0 {
            passed += 1
        } else {
            failed += 1
        }
        // What --update makes of it passes there too.
        std::fs::write(path.join("new.yml"), &tests).unwrap();
        if rules_test(path, &["--update", "new.yml"]).code == 0 {
            rewritten += 1;
            let theirs = peer("new.yml");
            let new = std::fs::read_to_string(path.join("new.yml")).unwrap();
            assert_eq!(theirs.code, 0, "suite {seed}\n{rules}\n{new}\n{}", theirs.err);
            rules_test(path, &["--update", "new.yml"]);
            assert_eq!(std::fs::read_to_string(path.join("new.yml")).unwrap(), new, "suite {seed}");
        }
    }
    assert!(
        failed > 50 && passed + rewritten > 20,
        "{failed} failed, {passed} passed, {rewritten} rewritten"
    );
}

#[test]
fn random_suites_have_the_verdict_of_the_promtool_of_the_distribution() {
    beside("TSDBCTL_PEER_PROMTOOL");
}

#[test]
fn random_suites_have_the_verdict_of_promtool_3_14() {
    beside("TSDBCTL_PEER_PROMTOOL_3");
}

const RULES: &str = "groups:\n  - name: g\n    rules:\n      - record: r\n        expr: m * 2\n      - alert: HighLoad\n        expr: m > 1\n        labels: {severity: page}\n        annotations: {text: 'load of {{ $labels.a }} is {{ $value }}'}\n";

#[test]
fn mistakes_are_named_with_place_and_remedy() {
    let head = "rule_files: [rules.yml]\ntests:\n  - input_series:\n      - series: m{a=\"x\"}\n        values: 0 1 2 3\n";
    let case = |rest: &str| format!("{head}{rest}");
    let cases: Vec<(String, &str, &str, &str)> = vec![
        ("rule_file: [rules.yml]\n".into(), "t.yml:1:1", "field rule_file not found", "rule_files"),
        ("evaluation_interval: 60\n".into(), "t.yml:1:22", "not a valid duration string: \"60\"", "60s"),
        ("evaluation_interval: 1.5m\n".into(), "t.yml:1:22", "unknown unit", "units"),
        ("evaluation_interval: -1m\n".into(), "t.yml:1:22", "not a valid duration string", "negative"),
        ("group_eval_order: [g, g]\n".into(), "t.yml:1:23", "group name repeated", "remove"),
        ("fuzzy_compare: maybe\n".into(), "t.yml:1:16", "into bool", ""),
        ("tests: 5\n".into(), "t.yml:1:8", "cannot unmarshal", ""),
        ("tests:\n  - interval: 1m\n    interval: 2m\n".into(), "t.yml:3:5", "already set", ""),
        ("tests:\n  - start_timestamp: soon\n".into(), "t.yml:2:22", "to a valid timestamp", "Unix seconds"),
        ("tests: [\n".into(), "t.yml:", "yaml:", ""),
        ("rule_files: ['[']\n".into(), "t.yml:1:14", "syntax error in pattern", "bracket"),
        ("rule_files: [none.yml]\n".into(), "t.yml:1:14", "no file match pattern none.yml", "relative"),
        (case("        value: 1\n"), "t.yml:6:9", "field value not found in type main.series", "values"),
        (
            case("    alert_rule_tests: []\n"),
            "t.yml:6:5",
            "field alert_rule_tests not found",
            "alert_rule_test",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        time: 1m\n"),
            "t.yml:8:9",
            "field time not found",
            "",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        exp_samples:\n          - value: '1'\n"),
            "t.yml:9:20",
            "into float64",
            "",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        exp_samples:\n          - value: Inf\n"),
            "t.yml:9:20",
            "into float64",
            "",
        ),
        (
            case("    promql_expr_test:\n      - expr: m +\n"),
            "t.yml:7:1",
            "parse error: unexpected end of input",
            "",
        ),
        (
            case("    promql_expr_test:\n      - expr: rat(m[5m])\n"),
            "t.yml:7:15",
            "unknown function",
            "did you mean",
        ),
        (
            case(
                "    promql_expr_test:\n      - expr: m\n        exp_samples:\n          - labels: m{a=x}\n",
            ),
            "t.yml:9:13",
            "parse error",
            "",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        exp_samples: [{histogram: '1'}]\n"),
            "t.yml:8:23",
            "expected histogram",
            "",
        ),
        (case("    promql_expr_test:\n      - expr: m[1m]\n"), "t.yml:7:15", "not a vector or scalar", ""),
        (
            case("    alert_rule_test:\n      - eval_time: 1m\n"),
            "t.yml:7:9",
            "misses required attribute alertname",
            "add alertname",
        ),
        (
            case("    alert_rule_test:\n      - {eval_time: 1m, alertname: HighLod}\n"),
            "t.yml:7:36",
            "HighLod cannot fire",
            "is HighLoad meant?",
        ),
        (
            case("    alert_rule_test:\n      - {eval_time: 90s, alertname: HighLoad}\n"),
            "t.yml:7:21",
            "those of the evaluation at 1m",
            "multiple of evaluation_interval",
        ),
        (
            case("    promql_expr_test:\n      - {expr: m, eval_time: 90s}\n"),
            "t.yml:7:30",
            "not there yet",
            "multiple of evaluation_interval",
        ),
        (
            "tests:\n  - input_series:\n      - {series: m, values: 1s 2s}\n".into(),
            "t.yml:3:29",
            "2:3: parse error: bad number syntax",
            "unit",
        ),
        (
            "tests:\n  - input_series:\n      - {series: m, values: 1 + 1x3}\n".into(),
            "t.yml:3:32",
            "parse error",
            "without blanks",
        ),
        (
            "tests:\n  - input_series:\n      - series: 'm{a=\"1\"'\n        values: 1\n".into(),
            "t.yml:",
            "2:9: parse error: unexpected character inside braces: '1'",
            "quoted",
        ),
        (
            "tests:\n  - input_series:\n      - {series: m, values: '1, 2'}\n".into(),
            "t.yml:3:31",
            "parse error",
            "blanks",
        ),
        (
            "tests:\n  - input_series:\n      - {series: '# m', values: 1}\n      - {series: n, values: 1}\n"
                .into(),
            "t.yml:3:9",
            "ends the input series",
            "one line",
        ),
        (
            "tests:\n  - promql_expr_test:\n      - {expr: m, match: fuzzy}\n".into(),
            "t.yml:3:26",
            "unknown way to match",
            "subset",
        ),
        ("tests: [{}]\n---\ntests: [{}]\n".into(), "t.yml:", "second YAML document", "first document"),
    ];
    let dir = scratch_in_memory();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let mut wrong = Vec::new();
    for (text, place, message, hint) in &cases {
        std::fs::write(dir.path().join("t.yml"), text).unwrap();
        let ran = rules_test(dir.path(), &["t.yml"]);
        if !(ran.err.contains(place) && ran.err.contains(message) && ran.err.contains(hint)) {
            wrong.push(format!("{text}\nwanted {place} {message:?} {hint:?}\ngot {}", ran.err));
        }
        assert!(matches!(ran.code, 0 | 1), "{}: {text}\n{}", ran.code, ran.err);
    }
    assert!(cases.len() >= 30 && wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

#[test]
fn our_own_kinds_of_expectation() {
    let dir = scratch_in_memory();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    for (case, code, said) in [
        (
            "alert_rule_test: [{eval_time: 3m, alertname: HighLoad, exp_alerts: [{match: subset, exp_labels: {a: x}}]}]",
            0,
            "",
        ),
        (
            "alert_rule_test: [{eval_time: 3m, alertname: HighLoad, exp_alerts: [{match: subset, exp_labels: {a: y}}]}]",
            1,
            "no alert matches",
        ),
        (
            "alert_rule_test: [{eval_time: 3m, alertname: HighLoad, match: regex, exp_alerts: [{exp_annotations: {text: 'load of . is \\d'}}]}]",
            0,
            "",
        ),
        (
            "alert_rule_test: [{eval_time: 3m, alertname: HighLoad, match: regex, exp_alerts: [{exp_annotations: {text: '('}}]}]",
            1,
            "no alert matches",
        ),
        ("alert_rule_test: [{eval_time: 3m, alertname: HighLoad, present: true}]", 0, ""),
        (
            "alert_rule_test: [{eval_time: 0m, alertname: HighLoad, present: true}]",
            1,
            "present: no alert fires",
        ),
        ("alert_rule_test: [{eval_time: 3m, alertname: HighLoad, absent: true}]", 1, "absent: 1 fire"),
        ("alert_rule_test: [{eval_time: 3m, alertname: HighLoad, absent: [{exp_labels: {a: y}}]}]", 0, ""),
        ("promql_expr_test: [{eval_time: 3m, expr: r, exp_samples: [{match: subset, value: 6}]}]", 0, ""),
        (
            "promql_expr_test: [{eval_time: 3m, expr: r, exp_samples: [{match: subset, value: 7}]}]",
            1,
            "no sample matches",
        ),
        ("promql_expr_test: [{eval_time: 3m, expr: r, present: [{labels: '{a=\"x\"}'}]}]", 0, ""),
        (
            "promql_expr_test: [{eval_time: 3m, expr: r, absent: [{labels: '{a=\".\"}', match: regex}]}]",
            1,
            "absent: {",
        ),
    ] {
        let text = format!(
            "rule_files: [rules.yml]\ntests:\n  - input_series: [{{series: 'm{{a=\"x\"}}', values: 0 1 2 3}}]\n    {case}\n"
        );
        std::fs::write(dir.path().join("t.yml"), text).unwrap();
        let ran = rules_test(dir.path(), &["t.yml"]);
        assert!(ran.code == code && ran.err.contains(said), "{case}\n{} {}", ran.code, ran.err);
    }
}

#[test]
fn mutated_files_never_panic() {
    let dir = scratch_in_memory();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let mut n = Numbers(5);
    let mut names = Vec::new();
    for i in 0..60 {
        let (_, text) = suite(i);
        let mut bytes = text.into_bytes();
        for _ in 0..1 + n.below(6) {
            let at = n.below(bytes.len() as u64) as usize;
            match n.below(3) {
                0 => bytes[at] = b"{}[]:'\"x#-&*|>\n 0\xff"[n.below(18) as usize],
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.truncate(bytes.len() - at.min(20)),
            }
        }
        let name = format!("t{i}.yml");
        std::fs::write(dir.path().join(&name), bytes).unwrap();
        names.push(name);
    }
    let mut args: Vec<&str> = names.iter().map(String::as_str).collect();
    let ran = rules_test(dir.path(), &args);
    assert!(ran.code == 1 && !ran.err.contains("panicked"), "{}", ran.err);
    args.insert(0, "--update");
    let ran = rules_test(dir.path(), &args);
    assert!(ran.code == 1 && !ran.err.contains("panicked"), "{}", ran.err);
}
