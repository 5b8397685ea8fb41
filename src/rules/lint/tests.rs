//! Every kind of finding where it is, and where it is not.

use std::collections::HashSet;
use std::sync::Arc;

use tsdbctl_yaml::Source;

use super::*;
use crate::file::{ReadOptions, read};

/// `LINE:COLUMN` of the first finding of a kind in a head and what stands below it; `""` if there is none.
pub(super) fn found(head: &str, rules: &str, code: &str) -> String {
    let source = Arc::new(Source::new("f", format!("{head}{rules}")));
    let file = read(source, &ReadOptions::default())
        .unwrap_or_else(|f| panic!("{}: {}\n{rules}", f[0].place(), f[0].message));
    let mut all = lint(&file);
    all.extend(duplicates(&file));
    let first = all.into_iter().find(|finding| finding.code == code);
    first.map_or(String::new(), |finding| finding.place().replacen("f:", "", 1))
}

#[test]
fn every_code_is_there_once() {
    let mut codes: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    let all = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), all);
}

/// A kind, a rule that has it, with `«` at its place, and one that does not.
type Case = (&'static str, &'static str, &'static str);

/// Alerts, by their expression.
const EXPRESSIONS: &[Case] = &[
    ("alert-without-comparison", "«rate(errors_total[5m])", "rate(errors_total[5m]) > 0"),
    ("alert-never-fires", "«count(up) == 0 and up", "count(up) == 1 and up"),
    ("alert-never-fires", "«up[5m]", "max_over_time(up[5m]) == 0"),
    ("alert-always-fires", "«vector(1) or up == 0", "up == 0"),
    ("alert-always-fires", "«hour() >= 0", "hour() >= 8"),
    ("absent-without-for", "«absent(up)", "absent_over_time(up[5m])"),
    (
        "impossible-label",
        "«sum by (job) (sum by (zone) (a)) > 1",
        "sum by (zone) (sum by (zone, job) (a)) > 1",
    ),
    (
        "join-on-missing-label",
        "sum by (job) (a) > on (job) «sum by (zone) (b)",
        "sum by (job) (a) > on (job) b",
    ),
    (
        "join-on-missing-label",
        "a * on (job) group_left (x) «sum by (job) (b) > 1",
        "a * on (job) group_left (x) b > 1",
    ),
    (
        "join-never-matches",
        "«sum by (job) (a{job=\"x\"}) > sum by (zone) (b)",
        "sum by (job) (a) > sum by (zone) (b)",
    ),
    (
        "join-never-matches",
        "«max by (x) (a{x=\"1\"}) > a{x=\"2\"}",
        "max by (x) (a{x=\"1\"}) > ignoring (x) a{x=\"2\"}",
    ),
    (
        "dead-unless",
        "«a{zone=\"z\"} > 1 unless sum by (job) (a)",
        "a{zone=\"z\"} > 1 unless on (job) sum by (job) (a)",
    ),
    ("never-true", "«count(up == 1) == 0", "count(up == 1) < 2"),
    ("never-true", "«rate(a_total[5m]) < 0", "deriv(a[5m]) < 0"),
    ("never-true", "«increase(a_total[5m]) < 0", "delta(a[5m]) < 0"),
    ("never-true", "«irate(a_total[5m]) == -1", "idelta(a[5m]) == -1"),
    ("never-true", "«abs(a) < 0", "abs(a) <= 0"),
    ("never-true", "«day_of_week() == 7", "day_of_week() == 0"),
    ("never-true", "«month() < 1", "month() < 2"),
    ("never-true", "«clamp_max(a, 5) > 5", "clamp_min(a, 5) > 5"),
    ("always-true", "«changes(a[5m]) >= 0 and up", "changes(a[5m]) > 0 and up"),
    // NaN meets no comparison.
    ("always-true", "«count(up) > 0", "rate(a[5m]) >= 0"),
    ("empty-selector", "«up{job=\"a\", job=\"b\"} == 0", "up{job=~\"a|b\", job!=\"b\"} == 0"),
    ("empty-selector", "«up{job=\"a\", job!~\"a|b\"} == 0", "up{job=\"a\", job!~\"b|c\"} == 0"),
    ("topk-in-alert", "«topk(3, errors) > 5", "sum(topk(3, errors)) > 5"),
    ("division-by-zero", "(«a / 0) > 1", "(a / 2) > 1"),
    ("nan-by-division", "a / «rate(b_total[5m]) != 1", "a / rate(b_total[5m]) > 1"),
    ("rate-of-aggregate", "rate(«sum(a_total)[5m:1m]) > 1", "sum(rate(a_total[5m])) > 1"),
    ("pattern-of-one-text", "up{«job=~\"a\"} == 0", "up{job=~\"a.\"} == 0"),
    ("pattern-without-effect", "up{«job=~\".*\"} == 0", "up{job=~\".+\"} == 0"),
    ("anchored-pattern", "up{«job=~\"^a.\"} == 0", "up{job=~\"a.\"} == 0"),
];

/// Annotations of `sum by (job) (a) / 2 > 1`.
const TEMPLATES: &[Case] = &[
    ("impossible-label", "{{ «$labels.instance }}", "{{ $labels.job }}"),
    ("template-query", "{{ range query «\"up{\" }}{{ end }}", "{{ range query \"up{}\" }}{{ end }}"),
    ("template-address", "{{ «query \"up\" }}", "{{ len (query \"up\") }}"),
    ("template-arguments", "{{ «$value 1 }}", "{{ printf \"%g\" $value }}"),
    ("template-arity", "{{ «humanize }}", "{{ humanize 1.0 }}"),
    ("template-comparison", "{{ if gt $value «90 }}x{{ end }}", "{{ if gt $value 90.0 }}x{{ end }}"),
    (
        "template-field",
        "{{ range query \"up\" }}{{ «.Name }}{{ end }}",
        "{{ range query \"up\" }}{{ .Value }}{{ end }}",
    ),
    ("template-first", "{{ query \"up\" | «first }}", "{{ with query \"up\" }}{{ . | first }}{{ end }}"),
    ("template-kind", "{{ toUpper «$value }}", "{{ toUpper $labels.job }}"),
    ("template-number", "{{ humanize «\"x\" }}", "{{ humanize \"1\" }}"),
    ("template-printf", "{{ printf \"%d\" «$value }}", "{{ printf \"%.0f\" $value }}"),
    ("template-range", "{{ range «$value }}{{ end }}", "{{ range $labels }}{{ end }}"),
    ("template-regexp", "{{ match «\"(\" \"a\" }}", "{{ match \"a\" \"a\" }}"),
    ("template-undefined", "«{{ template \"x\" }}", "{{ define \"x\" }}{{ end }}{{ template \"x\" }}"),
    ("template-unformatted", "«{{ $value }}", "{{ $value | humanize }}"),
];

/// Rules, whole.
const RULES: &[Case] = &[
    (
        "duplicate-rules",
        "  - record: r\n    expr: a\n  - record: «r\n    expr: b\n",
        "  - record: r\n    expr: a\n  - record: r\n    expr: b\n    labels: {x: y}\n",
    ),
    (
        "possible-label",
        "  - alert: A\n    expr: sum by (job) (a) > 1 or sum by (zone) (a) > 1\n    annotations: {a: '{{ «$labels.zone }}'}\n",
        "  - alert: A\n    expr: sum by (zone) (a) > 1 or sum by (zone) (b) > 1\n    annotations: {a: '{{ $labels.zone }}'}\n",
    ),
    (
        "value-in-label",
        "  - alert: A\n    expr: a > 1\n    labels: {a: '{{ «$value }}'}\n",
        "  - alert: A\n    expr: a > 1\n    annotations: {a: '{{ $value }}'}\n",
    ),
    (
        "template-syntax",
        "  - record: r\n    expr: a\n- name: other\n  labels: {a: '{{ «foo }}'}\n  rules:\n  - alert: A\n    expr: a > 1\n",
        "  - record: r\n    expr: a\n- name: other\n  labels: {a: '{{ $value }}'}\n  rules:\n  - alert: A\n    expr: a > 1\n",
    ),
    (
        "template-in-recording-rule",
        "  - record: r\n    expr: a\n    labels: {a: «'{{ $value }}'}\n",
        "  - record: r\n    expr: a\n    labels: {a: '$value'}\n",
    ),
    (
        "overridden-label",
        "  - alert: A\n    expr: a > 1\n    labels: {«alertname: B}\n",
        "  - record: r\n    expr: a > 1\n    labels: {alertname: B}\n",
    ),
    (
        "reads-later-rule",
        "  - record: a:b\n    expr: «b:c + 1\n  - record: b:c\n    expr: c\n",
        "  - record: b:c\n    expr: c\n  - record: a:b\n    expr: b:c + 1\n",
    ),
    (
        "reads-other-group",
        "  - record: a:b\n    expr: «b:c + 1\n- name: other\n  rules:\n  - record: b:c\n    expr: c\n",
        "  - record: b:c\n    expr: c\n  - record: a:b\n    expr: b:c + 1\n- name: other\n",
    ),
    (
        "wait-between-evaluations",
        "  - alert: A\n    expr: a > 1\n    for: «90s\n",
        "  - alert: A\n    expr: a > 1\n    for: 2m\n",
    ),
    ("alert-without-for", "  - alert: «A\n    expr: a > 1\n", "  - alert: A\n    expr: a > 1\n    for: 1m\n"),
    ("record-name", "  - record: «r\n    expr: a\n", "  - record: r:s\n    expr: a\n"),
];

#[test]
fn every_kind_is_found_where_it_is_and_nowhere_else() {
    let rule = |expr: &str| format!("  - alert: A\n    expr: {expr}\n");
    let annotation = |text: &str| {
        format!("  - alert: A\n    expr: sum by (job) (a) / 2 > 1\n    annotations:\n      a: '{text}'\n")
    };
    let whole = |text: &str| text.to_string();
    type Wrap<'a> = &'a dyn Fn(&str) -> String;
    let tables: [(&[Case], Wrap<'_>); 3] = [(EXPRESSIONS, &rule), (TEMPLATES, &annotation), (RULES, &whole)];
    let head = "groups:\n- name: g\n  interval: 1m\n  rules:\n";
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    for (table, wrap) in tables {
        for (code, bad, good) in table {
            seen.insert(*code);
            let marked = format!("{head}{}", wrap(bad));
            let source = Source::new("f", marked.clone());
            let (line, column) = source.line_col(marked.find('«').unwrap());
            let (there, gone) =
                (found(head, &wrap(&bad.replace('«', "")), code), found(head, &wrap(good), code));
            if there != format!("{line}:{column}") {
                wrong.push(format!("{code}: {there:?}, not {line}:{column} in {bad}"));
            }
            if !gone.is_empty() {
                wrong.push(format!("{code}: {gone} in {good}"));
            }
        }
    }
    wrong.extend(
        CODES.iter().filter(|(code, _)| !seen.contains(code)).map(|(code, _)| format!("{code}: no case")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn templates_of_a_groups_labels_are_looked_at_once() {
    let head = "groups:\n- name: g\n  labels: {a: '{{ foo }}', b: '{{ $labels.nope }}'}\n  rules:\n";
    let rules = "  - {alert: A, expr: sum(up) < 1}\n  - {alert: B, expr: sum(up) < 1}\n";
    assert_eq!(found(head, rules, "template-syntax"), "3:19");
    assert_eq!(found(head, rules, "impossible-label"), "3:35");
    let source = Arc::new(Source::new("f", format!("{head}{rules}")));
    let all = lint(&read(source, &ReadOptions::default()).unwrap());
    for code in ["template-syntax", "impossible-label"] {
        assert_eq!(all.iter().filter(|f| f.code == code).count(), 1, "{code}");
    }
    // A rule's own label takes its place, and recorded metrics have no templates.
    let rules =
        "  - {alert: A, expr: sum(up) < 1, labels: {a: x, b: x}}\n  - {record: b, expr: sum(up) < 1}\n";
    assert_eq!(found(head, rules, "template-syntax"), "");
}

#[test]
fn rates_of_gauges_may_be_negative() {
    let head = "groups:\n- name: g\n  rules:\n";
    assert_ne!(found(head, "  - {alert: A, expr: 'rate(errors_total[5m]) < 0'}\n", "never-true"), "");
    assert_eq!(found(head, "  - {alert: A, expr: 'rate(temperature_celsius[5m]) < 0'}\n", "never-true"), "");
}

#[test]
fn rules_that_share_a_text_each_have_its_findings() {
    let text = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: &e errors}\n  - {alert: B, expr: *e}\n";
    let file = read(Arc::new(Source::new("f", text.to_string())), &ReadOptions::default()).unwrap();
    let about: Vec<usize> = lint(&file)
        .into_iter()
        .filter(|f| f.code == "alert-without-comparison")
        .filter_map(|f| f.subject.map(|s| s.rule))
        .collect();
    assert_eq!(about, [1, 2]);
}
