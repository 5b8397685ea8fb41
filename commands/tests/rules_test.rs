//! `rules test`, run as a user runs it: promtool's verdicts, mistakes, expectations of our own.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use runs::rules_test;
use serde_json::Value;
use tsdbctl_testkit::{read_text, scratch_in_memory, shared};

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
        ("fuzzy_compare: maybe\n".into(), "t.yml:1:16", "into bool", "true or false"),
        ("tests: 5\n".into(), "t.yml:1:8", "cannot unmarshal", "list of tests"),
        ("tests:\n  - interval: 1m\n    interval: 2m\n".into(), "t.yml:3:5", "already set", ""),
        ("tests:\n  - start_timestamp: soon\n".into(), "t.yml:2:22", "to a valid timestamp", "Unix seconds"),
        ("tests: [\n".into(), "t.yml:", "yaml:", ""),
        ("rule_files: ['[']\n".into(), "t.yml:1:14", "syntax error in pattern", "bracket"),
        ("rule_files: [none.yml]\n".into(), "t.yml:1:14", "no file match pattern none.yml", "relative"),
        (
            case("    promql_expr_test:\n      - eval_time: 1m\n"),
            "t.yml:7:9",
            "no expression found",
            "add `expr:`",
        ),
        (
            "tests:\n  - input_series:\n      - {values: 1}\n".into(),
            "t.yml:3:9",
            "parse error",
            "add `series:`",
        ),
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
            "eval_time",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        exp_samples:\n          - value: '1'\n"),
            "t.yml:9:20",
            "into float64",
            "number without quotes",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        exp_samples:\n          - value: Inf\n"),
            "t.yml:9:20",
            "into float64",
            "number without quotes",
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
            "t.yml:9:25",
            "parse error",
            "name{label=",
        ),
        (
            case("    promql_expr_test:\n      - expr: m\n        exp_samples: [{histogram: '1'}]\n"),
            "t.yml:8:35",
            "expected histogram",
            "{{schema:0",
        ),
        (
            case("    promql_expr_test:\n      - expr: m[1m]\n"),
            "t.yml:7:15",
            "not a vector or scalar",
            "take the range away",
        ),
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
            "t.yml:3:25",
            "2:9: parse error: unexpected character inside braces: '1'",
            "add `}`",
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
            "error parsing regexp: missing closing ): `(`",
        ),
        ("alert_rule_test: [{eval_time: 3m, alertname: HighLoad, present: true}]", 0, ""),
        (
            "alert_rule_test: [{eval_time: 0m, alertname: HighLoad, present: true}]",
            1,
            "present: no alert fires",
        ),
        ("alert_rule_test: [{eval_time: 3m, alertname: HighLoad, absent: true}]", 1, "absent: 1 fires"),
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
            "absent: r{a=\"x\"} 6",
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
