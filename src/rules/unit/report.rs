//! What tests came to, as text (upstream's lines, then what helps), TAP, JUnit and JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tsdbctl_model::Span;
use tsdbctl_model::duration::format_duration_ms;
use tsdbctl_model::float_text::{format_g, go_quote};
use tsdbctl_yaml::Source;

use super::compare::{AlertText, Pairs, SampleText, Word, assign, distance, pairs_text, series_text, words};
use super::outcome::{Failure, FailureKind, Outcome, Values, rule_time};
use crate::finding::Finding;

/// How words are marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marks {
    /// `[-expected-]` and `{+got+}`.
    #[default]
    Brackets,
    /// Red and green, as upstream's `--diff`.
    Colours,
}

/// One test that ran.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// Its name; of one without, `unnamed#N`.
    pub name: String,
    /// Whether it has a name of its own.
    pub named: bool,
    /// Its place.
    pub span: Span,
    /// What it came to.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One file of tests.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its path as given.
    pub name: String,
    /// Its text, if it was read.
    pub source: Option<std::sync::Arc<Source>>,
    /// Why it cannot be run; upstream's text.
    pub refused: Vec<String>,
    /// The same with places, as far as they are known.
    pub problems: Vec<Finding>,
    /// Its tests that were selected.
    pub tests: Vec<TestReport>,
}

impl FileReport {
    /// Whether all is well.
    pub fn is_ok(&self) -> bool {
        self.refused.is_empty() && self.tests.iter().all(|t| t.outcome.failures.is_empty())
    }

    /// Why it cannot be run: upstream's text, then the places and what to do.
    fn refusal(&self) -> Vec<String> {
        let mut lines = self.refused.clone();
        for problem in &self.problems {
            lines.push(format!("at {}: {}", problem.place(), problem.message));
            lines.extend(problem.hint.iter().map(|hint| format!("hint: {hint}")));
        }
        lines
    }

    fn place(&self, span: Span) -> String {
        self.source.as_ref().map_or_else(|| self.name.clone(), |s| s.place(span))
    }
}

fn alerts_text(list: &[AlertText], indent: &str) -> String {
    if list.is_empty() {
        return "[]".to_string();
    }
    let mut out = String::from("[");
    for (i, a) in list.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            out,
            "{comma}\n{indent}{i}:\n{indent}  Labels:{}\n{indent}  Annotations:{}",
            pairs_text(&a.labels),
            pairs_text(&a.annotations)
        );
    }
    let _ = write!(out, "\n{indent}]");
    out
}

fn samples_text(list: &[SampleText]) -> String {
    if list.is_empty() {
        return "nil".to_string();
    }
    list.iter().map(SampleText::text).collect::<Vec<_>>().join(", ")
}

/// The text that promtool prints for a failure.
pub fn upstream_text(test: &TestReport, failure: &Failure) -> String {
    match &failure.kind {
        FailureKind::Alerts { alertname, eval_time_ms, expected, got, .. } => {
            let name = if test.named { format!("    name: {},\n", test.name) } else { String::new() };
            format!(
                "{name}    alertname: {alertname}, time: {}, \n        exp:{}, \n        got:{}",
                format_duration_ms(*eval_time_ms),
                alerts_text(expected, "            "),
                alerts_text(got, "            ")
            )
        }
        FailureKind::Samples { expr, eval_time_ms, expected, got, .. } => format!(
            "    expr: {}, time: {},\n        exp: {}\n        got: {}",
            go_quote(expr),
            format_duration_ms(*eval_time_ms),
            samples_text(expected),
            samples_text(got)
        ),
        FailureKind::Expr { expr, eval_time_ms, error } => {
            format!("    expr: {}, time: {}, err: {error}", go_quote(expr), format_duration_ms(*eval_time_ms))
        }
        FailureKind::Rule { name, t_ms, error } => {
            format!("    rule: {name}, time: {}, err: {error}", rule_time(*t_ms))
        }
        FailureKind::Other(text) => text.clone(),
    }
}

fn marked(list: &[Word], marks: Marks) -> String {
    let mut out = String::new();
    for word in list {
        let _ = match (word, marks) {
            (Word::Same(t), _) => write!(out, "{t}"),
            (Word::Missing(t), Marks::Brackets) => write!(out, "[-{t}-]"),
            (Word::Extra(t), Marks::Brackets) => write!(out, "{{+{t}+}}"),
            (Word::Missing(t), Marks::Colours) => write!(out, "\x1b[0;31m{t}\x1b[0m"),
            (Word::Extra(t), Marks::Colours) => write!(out, "\x1b[0;32m{t}\x1b[0m"),
        };
    }
    out
}

/// The pairs in which two texts differ, one line each.
fn pair_differences(kind: &str, expected: &Pairs, got: &Pairs, marks: Marks, out: &mut Vec<String>) {
    for (name, value) in expected {
        match got.iter().find(|(n, _)| n == name) {
            Some((_, v)) if v == value => {}
            Some((_, v)) => {
                out.push(format!("{kind} {name}: expected {}, got {}", go_quote(value), go_quote(v)));
                let list = words(value, v);
                if list.iter().any(|w| matches!(w, Word::Same(t) if t.chars().any(char::is_alphanumeric))) {
                    out.push(format!(
                        "{:width$}: {}",
                        "",
                        marked(&list, marks),
                        width = kind.len() + name.len() + 1
                    ));
                }
            }
            None => out.push(format!("{kind} {name}: expected {}, is absent", go_quote(value))),
        }
    }
    for (name, value) in got.iter().filter(|(n, _)| !expected.iter().any(|(e, _)| e == n)) {
        out.push(format!("{kind} {name}: not expected, got {}", go_quote(value)));
    }
}

/// Pairs what differs: the same twice is left out, the rest goes to its nearest.
fn nearest<T: PartialEq>(
    expected: &[T],
    got: &[T],
    distance: impl Fn(&T, &T) -> usize,
) -> (Vec<(usize, usize)>, Vec<usize>, Vec<usize>) {
    let same = assign(expected.len(), got.len(), |e, g| expected[e] == got[g]);
    let mut left: Vec<usize> = (0..expected.len()).filter(|e| same[*e].is_none()).collect();
    let mut right: Vec<usize> = (0..got.len()).filter(|g| !same.contains(&Some(*g))).collect();
    let mut pairs = Vec::new();
    // Many differences are not paired: what is shown would not be read.
    while !left.is_empty() && !right.is_empty() && left.len().saturating_mul(right.len()) <= 10_000 {
        let all = left.iter().flat_map(|e| right.iter().map(move |g| (*e, *g)));
        let Some((e, g)) = all.min_by_key(|(e, g)| distance(&expected[*e], &got[*g])) else { break };
        pairs.push((e, g));
        left.retain(|x| *x != e);
        right.retain(|x| *x != g);
    }
    pairs.sort_unstable();
    (pairs, left, right)
}

fn differences(kind: &FailureKind, marks: Marks) -> Vec<String> {
    let mut out = Vec::new();
    match kind {
        FailureKind::Alerts { expected, got, unmet, .. } => {
            if !unmet.is_empty() {
                return unmet.clone();
            }
            let (pairs, missing, extra) = nearest(expected, got, |e, g| {
                distance(&e.labels, &g.labels) * 2 + distance(&e.annotations, &g.annotations)
            });
            for (e, g) in pairs {
                let (e, g) = (&expected[e], &got[g]);
                pair_differences("label", &e.labels, &g.labels, marks, &mut out);
                pair_differences("annotation", &e.annotations, &g.annotations, marks, &mut out);
            }
            out.extend(
                missing.iter().map(|e| format!("does not fire: {}", pairs_text(&expected[*e].labels))),
            );
            out.extend(extra.iter().map(|g| format!("not expected: {}", pairs_text(&got[*g].labels))));
        }
        FailureKind::Samples { expected, got, unmet, .. } => {
            if !unmet.is_empty() {
                return unmet.clone();
            }
            let (pairs, missing, extra) = nearest(expected, got, |e, g| {
                distance(&e.labels, &g.labels) * 2 + usize::from(e.value != g.value)
            });
            for (e, g) in pairs {
                let (e, g) = (&expected[e], &got[g]);
                let before = out.len();
                pair_differences("label", &e.labels, &g.labels, marks, &mut out);
                if e.histogram != g.histogram {
                    out.push(format!("histogram: {}", marked(&words(&e.histogram, &g.histogram), marks)));
                }
                if e.value != g.value {
                    let apart = (e.value - g.value).abs();
                    let near = if apart > 0.0 && apart <= e.value.abs() * 1e-9 {
                        "; the difference is rounding: round() the expression or set fuzzy_compare: true (1 ulp)"
                    } else {
                        ""
                    };
                    let nan =
                        if e.value.is_nan() && g.value.is_nan() { "; NaN never equals NaN" } else { "" };
                    out.push(format!(
                        "value of {}: expected {}, got {}{near}{nan}",
                        series_text(&g.labels),
                        format_g(e.value),
                        format_g(g.value)
                    ));
                } else if e.value.is_nan() && g.value.is_nan() {
                    out.push(
                        "NaN never equals NaN: test for it with an expression such as m != m".to_string(),
                    );
                }
                if out.len() == before {
                    out.push(format!("same labels and value: {}", g.plain()));
                }
            }
            out.extend(missing.iter().map(|e| format!("is not there: {}", expected[*e].plain())));
            out.extend(extra.iter().map(|g| format!("not expected: {}", got[*g].plain())));
        }
        FailureKind::Expr { .. } | FailureKind::Rule { .. } | FailureKind::Other(_) => {}
    }
    out
}

fn values_lines(values: &Values) -> Vec<String> {
    let mut out =
        vec![format!("{} at {} was", one_line(&values.expr), format_duration_ms(values.time_ms.max(0)))];
    out.extend(values.lines.iter().map(|l| format!("  {l}")));
    if values.more > 0 {
        out.push(format!("  … and {} more", values.more));
    }
    out
}

fn one_line(expr: &str) -> String {
    let text = expr.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= 160 { text } else { text.chars().take(159).chain(['…']).collect() }
}

/// What we have to say about a failure beyond upstream's text.
pub fn detail(file: &FileReport, failure: &Failure, marks: Marks) -> Vec<String> {
    let mut out = Vec::new();
    let unplaced = matches!(failure.kind, FailureKind::Other(_)) && failure.span == Span::default();
    if !unplaced {
        out.push(format!("at {}", file.place(failure.span)));
    }
    for (source, span) in &failure.rules {
        out.push(format!("rule at {}", source.place(*span)));
    }
    out.extend(differences(&failure.kind, marks));
    out.extend(failure.values.iter().flat_map(values_lines));
    if let Some(hint) = &failure.hint {
        out.push(format!("hint: {hint}"));
    }
    out
}

/// TAP version 14: a test point per test.
pub fn tap(files: &[FileReport]) -> String {
    let count: usize = files.iter().map(|f| f.tests.len() + usize::from(!f.refused.is_empty())).sum();
    let mut out = format!("TAP version 14\n1..{count}\n");
    let escape = |text: &str| text.replace('\\', "\\\\").replace('#', "\\#").replace('\n', " ");
    let mut number = 0;
    for file in files {
        if !file.refused.is_empty() {
            number += 1;
            let _ = writeln!(out, "not ok {number} - {}", escape(&file.name));
            diagnostic(&mut out, &file.refusal());
        }
        for test in &file.tests {
            number += 1;
            let ok = if test.outcome.failures.is_empty() { "ok" } else { "not ok" };
            let _ = writeln!(out, "{ok} {number} - {}: {}", escape(&file.name), escape(&test.name));
            let texts: Vec<String> =
                test.outcome.failures.iter().map(|f| whole_text(file, test, f)).collect();
            if !texts.is_empty() {
                diagnostic(&mut out, &texts);
            }
        }
    }
    out
}

fn diagnostic(out: &mut String, texts: &[String]) {
    out.push_str("  ---\n  message: |\n");
    for line in texts.iter().flat_map(|t| t.lines()) {
        let _ = writeln!(out, "    {line}");
    }
    out.push_str("  ...\n");
}

fn whole_text(file: &FileReport, test: &TestReport, failure: &Failure) -> String {
    let mut text = upstream_text(test, failure);
    for line in detail(file, failure, Marks::Brackets) {
        let _ = write!(text, "\n      {line}");
    }
    text
}

/// What failed, in a line.
fn short_text(failure: &Failure) -> String {
    match &failure.kind {
        FailureKind::Alerts { alertname, eval_time_ms, expected, got, unmet, .. } => {
            let at = format_duration_ms(*eval_time_ms);
            match unmet.first() {
                Some(first) => format!("alert {alertname} at {at}: {first}"),
                None => format!(
                    "alert {alertname} at {at}: {} expected, {} firing, they differ",
                    expected.len(),
                    got.len()
                ),
            }
        }
        FailureKind::Samples { expr, eval_time_ms, unmet, .. } => {
            let at = format_duration_ms(*eval_time_ms);
            let why = unmet.first().map_or("other samples than expected", String::as_str);
            format!("{} at {at}: {why}", one_line(expr))
        }
        FailureKind::Expr { expr, eval_time_ms, error } => {
            format!("{} at {}: {error}", one_line(expr), format_duration_ms(*eval_time_ms))
        }
        FailureKind::Rule { name, t_ms, error } => format!("rule {name} at {}: {error}", rule_time(*t_ms)),
        FailureKind::Other(text) => text.lines().next().unwrap_or_default().to_string(),
    }
}

/// JUnit XML: a suite per file, a case per test, as promtool writes it.
pub fn junit(files: &[FileReport]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for file in files {
        let refused = usize::from(!file.refused.is_empty());
        let failed = file.tests.iter().filter(|t| !t.outcome.failures.is_empty()).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"{refused}\" time=\"{:.6}\">",
            xml(&file.name),
            file.tests.len() + refused,
            // The sum of nothing is -0.
            file.tests.iter().map(|t| t.seconds).sum::<f64>().abs()
        );
        if refused > 0 {
            let headline = match file.problems.first() {
                Some(problem) => format!("{}: {}", problem.place(), problem.message),
                None => file.refused.first().cloned().unwrap_or_default(),
            };
            let _ = writeln!(
                out,
                "    <testcase name=\"unknown\"><error message=\"{}\">{}</error></testcase>",
                xml(headline.lines().next().unwrap_or_default()),
                xml(&file.refusal().join("\n"))
            );
        }
        for test in &file.tests {
            let line = file.source.as_ref().map_or(0, |s| s.line_col(test.span.start as usize).0);
            let _ = write!(
                out,
                "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{line}\" time=\"{:.6}\"",
                xml(&test.name),
                xml(&file.name),
                xml(&file.name),
                test.seconds
            );
            if test.outcome.failures.is_empty() {
                out.push_str("/>\n");
                continue;
            }
            out.push_str(">\n");
            for failure in &test.outcome.failures {
                let _ = writeln!(
                    out,
                    "      <failure message=\"{}\">{}</failure>",
                    xml(&short_text(failure)),
                    xml(&whole_text(file, test, failure))
                );
            }
            out.push_str("    </testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text for XML 1.0, which has no place for most control characters.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#xA;"),
            '\t' => out.push_str("&#x9;"),
            c if (c as u32) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON: files, tests, failures with all facts.
pub fn json(files: &[FileReport]) -> Value {
    let place = |source: &Source, span: Span| {
        let (line, column) = source.line_col(span.start as usize);
        json!({"file": source.name, "line": line, "column": column})
    };
    let files_json: Vec<Value> = files
        .iter()
        .map(|file| {
            let tests: Vec<Value> = file
                .tests
                .iter()
                .map(|test| {
                    let failures: Vec<Value> = test
                        .outcome
                        .failures
                        .iter()
                        .map(|f| {
                            let mut value = failure_json(f);
                            if let (Value::Object(map), Some(source)) = (&mut value, &file.source) {
                                map.insert("place".to_string(), place(source, f.span));
                                let rules: Vec<Value> = f.rules.iter().map(|(s, p)| place(s, *p)).collect();
                                map.insert("rules".to_string(), Value::from(rules));
                                map.insert("text".to_string(), json!(upstream_text(test, f)));
                                map.insert(
                                    "differences".to_string(),
                                    json!(differences(&f.kind, Marks::Brackets)),
                                );
                                map.insert("hint".to_string(), json!(f.hint));
                            }
                            value
                        })
                        .collect();
                    let warnings: Vec<Value> = test
                        .outcome
                        .warnings
                        .iter()
                        .map(|w| {
                            let at = file.source.as_ref().map(|s| place(s, w.span));
                            json!({"message": w.message, "place": at, "hint": w.hint})
                        })
                        .collect();
                    json!({
                        "name": test.name,
                        "ok": test.outcome.failures.is_empty(),
                        "failures": failures,
                        "warnings": warnings,
                    })
                })
                .collect();
            let problems: Vec<Value> = file
                .problems
                .iter()
                .map(|p| json!({"message": p.message, "place": place(&p.source, p.span), "hint": p.hint}))
                .collect();
            json!({
                "file": file.name,
                "ok": file.is_ok(),
                "errors": file.refused,
                "problems": problems,
                "tests": tests,
            })
        })
        .collect();
    json!({"ok": files.iter().all(FileReport::is_ok), "files": files_json})
}

fn pairs_json(pairs: &Pairs) -> Value {
    Value::Object(pairs.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect())
}

fn failure_json(failure: &Failure) -> Value {
    let values: Vec<Value> = failure
        .values
        .iter()
        .map(|v| json!({"expr": v.expr, "time": format_duration_ms(v.time_ms.max(0)), "values": v.lines, "more": v.more}))
        .collect();
    match &failure.kind {
        FailureKind::Alerts { alertname, eval_time_ms, expected, got, .. } => {
            let alerts = |list: &[AlertText]| -> Vec<Value> {
                let one = |a: &AlertText| json!({"labels": pairs_json(&a.labels), "annotations": pairs_json(&a.annotations)});
                list.iter().map(one).collect()
            };
            json!({
                "kind": "alerts", "alertname": alertname, "time": format_duration_ms(*eval_time_ms),
                "expected": alerts(expected), "got": alerts(got), "values": values,
            })
        }
        FailureKind::Samples { expr, eval_time_ms, expected, got, .. } => {
            let samples = |list: &[SampleText]| -> Vec<Value> {
                let one = |s: &SampleText| {
                    let value = tsdbctl_model::float_text::format_f(s.value);
                    json!({"labels": pairs_json(&s.labels), "value": value, "histogram": s.histogram})
                };
                list.iter().map(one).collect()
            };
            json!({
                "kind": "samples", "expr": expr, "time": format_duration_ms(*eval_time_ms),
                "expected": samples(expected), "got": samples(got), "values": values,
            })
        }
        FailureKind::Expr { expr, eval_time_ms, error } => {
            json!({"kind": "expr", "expr": expr, "time": format_duration_ms(*eval_time_ms), "error": error})
        }
        FailureKind::Rule { name, t_ms, error } => {
            json!({"kind": "rule", "rule": name, "time": rule_time(*t_ms), "error": error})
        }
        FailureKind::Other(text) => json!({"kind": "error", "error": text}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::pairs;
    use super::*;

    fn test(named: bool) -> TestReport {
        TestReport {
            name: "t".to_string(),
            named,
            span: Span::default(),
            outcome: Outcome::default(),
            seconds: 0.0,
        }
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure::of(kind, Span::default())
    }

    #[test]
    fn upstreams_blocks_are_word_for_word() {
        let alert = AlertText { labels: pairs([("alertname", "A")]), annotations: Vec::new() };
        let kind = FailureKind::Alerts {
            case: 0,
            alertname: "A".to_string(),
            eval_time_ms: 300_000,
            expected: vec![alert.clone(), alert],
            got: Vec::new(),
            unmet: Vec::new(),
        };
        assert_eq!(
            upstream_text(&test(true), &failure(kind)),
            "    name: t,\n    alertname: A, time: 5m, \n        exp:[\n            0:\n              \
             Labels:{alertname=\"A\"}\n              Annotations:{},\n            1:\n              \
             Labels:{alertname=\"A\"}\n              Annotations:{}\n            ], \n        got:[]"
        );
        let sample = SampleText { labels: pairs([("a", "b")]), value: 1.0, histogram: String::new() };
        let kind = FailureKind::Samples {
            case: 0,
            expr: "m\"".to_string(),
            eval_time_ms: 0,
            expected: vec![sample],
            got: Vec::new(),
            unmet: Vec::new(),
        };
        assert_eq!(
            upstream_text(&test(false), &failure(kind)),
            "    expr: \"m\\\"\", time: 0s,\n        exp: {a=\"b\"} 1E+00\n        got: nil"
        );
    }

    #[test]
    fn reports_hold_up_with_any_text() {
        let mut t = test(false);
        t.name = "a<b>&\"#\u{1}".to_string();
        t.outcome.failures.push(failure(FailureKind::Other("x\n]]>\u{0}".to_string())));
        let file = FileReport {
            name: "f#.yml".to_string(),
            source: None,
            refused: Vec::new(),
            problems: Vec::new(),
            tests: vec![t],
        };
        let files = [file];
        assert!(tap(&files).starts_with("TAP version 14\n1..1\nnot ok 1 - f\\#.yml: a<b>&\"\\#"));
        let xml = junit(&files);
        assert!(xml.contains("a&lt;b&gt;&amp;&quot;#\u{fffd}") && xml.contains("]]&gt;\u{fffd}"), "{xml}");
        assert_eq!(json(&files)["ok"], false);
    }

    #[test]
    fn files_that_cannot_be_run_are_reported_with_places() {
        let source = std::sync::Arc::new(Source::new("t.yml", "tests: 1\n"));
        let message = "cannot unmarshal !!int `1` into []main.testGroup";
        let problem = Finding::refused("test-file", &source, Span::new(7, 8), message, message);
        let text = format!("yaml: unmarshal errors:\n  line 1: {message}");
        let report = [FileReport {
            name: "t.yml".to_string(),
            source: Some(source),
            refused: vec![text.clone()],
            problems: vec![problem.with_hint("a list")],
            tests: Vec::new(),
        }];
        let junit = junit(&report);
        assert!(
            junit.contains("message=\"t.yml:1:8: cannot unmarshal") && junit.contains("hint: a list"),
            "{junit}"
        );
        assert!(junit.contains(" time=\"0.000000\""), "{junit}");
        assert!(tap(&report).contains("at t.yml:1:8: cannot"), "{}", tap(&report));
        let file = &json(&report)["files"][0];
        assert_eq!(file["errors"][0], text);
        let problem = json!({
            "message": message,
            "place": {"file": "t.yml", "line": 1, "column": 8},
            "hint": "a list",
        });
        assert_eq!(file["problems"][0], problem);
    }
}
