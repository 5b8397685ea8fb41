//! Rule files with one mistake each: the place (marked with `«`), the message and what to do. No bytes make a panic.

use std::sync::Arc;

use proptest::prelude::*;
use tsdbctl_rules::address::read_at;
use tsdbctl_rules::file::{ReadOptions, read};
use tsdbctl_rules::finding::{Finding, Severity};
use tsdbctl_rules::format::{FormatOptions, format};
use tsdbctl_rules::lint;
use tsdbctl_yaml::Source;

/// All that is found in a text, errors alone if there are any.
fn found(text: &str) -> Vec<Finding> {
    let source = Arc::new(Source::new("f.yml", text));
    match read(source, &ReadOptions::default()) {
        Ok(file) => {
            let mut all = lint::duplicates(&file);
            all.extend(lint::lint(&file));
            all
        }
        Err(errors) => errors,
    }
}

/// A file, the code of its first finding, parts of the message and of the hint. `«` marks the place.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

/// One group `g` around rules that are indented by two.
fn group(rules: &str) -> String {
    format!("groups:\n- name: g\n  rules:\n{rules}")
}

const RULES: &[Mistake] = &[
    // Shape.
    (
        "  - record: r\n    expr: up\n    «sevrity: page\n",
        "unknown-field",
        "field sevrity not found in type rulefmt.Rule",
        "",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    «anotations: {a: b}\n",
        "unknown-field",
        "field anotations not found",
        "`annotations`",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    «severity: page\n",
        "unknown-field",
        "field severity not found",
        "under `labels:`",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    «summary: down\n",
        "unknown-field",
        "field summary not found",
        "under `annotations:`",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    «expr: up == 1\n",
        "repeated-key",
        "mapping key \"expr\" already defined at line 5",
        "keep one `expr`",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    labels: «page\n",
        "wrong-type",
        "cannot unmarshal !!str `page` into map[string]string",
        "NAME: \"value\"",
    ),
    (
        "  - alert: A\n    expr: «[up, down]\n",
        "wrong-type",
        "cannot unmarshal !!seq into string",
        "a text is expected",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    labels:\n      a: «{{ $value }}\n",
        "wrong-type",
        "cannot unmarshal !!map into string",
        "quotes",
    ),
    ("  - «up\n", "wrong-type", "cannot unmarshal !!str `up` into rulefmt.Rule", "- alert: NAME"),
    // Durations.
    (
        "  - alert: A\n    expr: up == 0\n    for: «5\n",
        "invalid-duration",
        "not a valid duration string: \"5\"",
        "5s or 5m",
    ),
    ("  - alert: A\n    expr: up == 0\n    for: «1.5m\n", "invalid-duration", "unknown unit", "1m30s"),
    (
        "  - alert: A\n    expr: up == 0\n    for: «-5m\n",
        "invalid-duration",
        "not a valid duration string: \"-5m\"",
        "5m",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    for: «5 m\n",
        "invalid-duration",
        "unknown unit",
        "without blanks: 5m",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    keep_firing_for: «\"\"\n",
        "invalid-duration",
        "empty duration string",
        "30s",
    ),
    // What a rule must be.
    (
        "  - record: r\n    alert: «A\n    expr: up\n",
        "record-and-alert",
        "only one of 'record' and 'alert'",
        "two rules",
    ),
    ("  - «expr: up\n", "no-record-or-alert", "one of 'record' or 'alert' must be set", "record: NAME"),
    ("  - «record: r\n", "no-expression", "field 'expr' must be set in rule", "add `expr:"),
    ("  - record: r\n    expr: «\"\"\n", "no-expression", "field 'expr' must be set in rule", "add `expr:"),
    (
        "  - record: r\n    expr: up\n    for: «5m\n",
        "for-in-record",
        "invalid field 'for' in recording rule",
        "`alert`",
    ),
    (
        "  - record: r\n    expr: up\n    «annotations: {a: b}\n",
        "annotations-in-record",
        "invalid field 'annotations'",
        "take them away",
    ),
    ("  - record: «r{a=\"b\"}\n    expr: up\n", "braces-in-record", "braces present", "labels:"),
    (
        "  - record: r\n    expr: up\n    labels: {«__name__: x}\n",
        "invalid-label-name",
        "invalid label name: __name__",
        "`record`",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    annotations: {«\"\": x}\n",
        "invalid-annotation-name",
        "invalid annotation name",
        "name",
    ),
    // Expressions, in every style of scalar.
    ("  - record: r\n    expr: sum(rate(«up))\n", "invalid-expression", "expected type range vector", "[5m]"),
    (
        "  - record: r\n    expr: |\n      sum(\n        up)\n      by «job (x)\n",
        "invalid-expression",
        "unexpected identifier \"job\"",
        "",
    ),
    (
        "  - record: r\n    expr: >-\n      sum(up)\n      /« \n",
        "invalid-expression",
        "unexpected end of input",
        "",
    ),
    ("  - record: r\n    expr: 'up{a=''b'', «!}'\n", "invalid-expression", "unexpected", ""),
    (
        "  - record: r\n    expr: \"up{a=\\\"é\\\"} + «rte(x)\"\n",
        "invalid-expression",
        "unknown function",
        "rate",
    ),
    (
        "  - record: r\n    expr: «sum_over_tme(up[5m])\n",
        "invalid-expression",
        "unknown function",
        "sum_over_time",
    ),
    // Templates.
    (
        "  - alert: A\n    expr: up == 0\n    annotations:\n      a: \"{{ «$label.job }}\"\n",
        "annotation-template",
        "undefined variable \"$label\"",
        "",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    labels:\n      a: '{{ «humanise $value }}'\n",
        "label-template",
        "function \"humanise\" not defined",
        "",
    ),
    // What is probably not meant.
    ("  - alert: A\n    expr: «rate(errors_total[5m])\n", "alert-without-comparison", "no condition", "> 0"),
    (
        "  - alert: A\n    expr: «up == bool 0\n",
        "alert-without-comparison",
        "no condition",
        "take `bool` away",
    ),
    (
        "  - alert: A\n    expr: «count(up == 1) == 0\n",
        "never-true",
        "this never holds: `count(up == 1)` is at least 1",
        "absent",
    ),
    (
        "  - alert: A\n    expr: «up{job=\"a\",job=\"b\"} == 0\n",
        "empty-selector",
        "no series meets both",
        "=~",
    ),
    ("  - alert: A\n    expr: «absent(up)\n", "absent-without-for", "without `for`", "for: 5m"),
    (
        "  - alert: A\n    expr: «topk(3, errors) > 5\n",
        "topk-in-alert",
        "which series topk chooses",
        "threshold",
    ),
    (
        "  - alert: A\n    expr: used * on (job) group_left (zone) «topk by (job) (1, zones) > 5\n",
        "topk-in-alert",
        "which series topk chooses",
        "threshold",
    ),
    (
        "  - alert: A\n    expr: «topk by (job) (1, used) > 5\n",
        "topk-in-alert",
        "which series topk chooses",
        "threshold",
    ),
    (
        "  - alert: A\n    expr: «avg by (job) (rate(a_total[5m])) < 0\n",
        "never-true",
        "is at least 0",
        "use deriv(…) or delta(…)",
    ),
    ("  - alert: A\n    expr: «up_info{job=\"a\"}\n", "alert-without-comparison", "no condition", "> 0"),
    (
        "  - alert: A\n    expr: «sum by (pod) (state{state=\"bad\"})\n",
        "alert-without-comparison",
        "no condition",
        "> 0",
    ),
    (
        "  - record: r\n    expr: rate(errors_total[5m]) / «rate(all_total[5m])\n",
        "nan-by-division",
        "`rate(all_total[5m])` may be 0",
        "gives nothing instead",
    ),
    (
        "  - alert: A\n    expr: rate(errors_total[5m]) / «rate(all_total[5m]) != 0\n",
        "nan-by-division",
        "`rate(all_total[5m])` may be 0",
        "gives nothing instead",
    ),
    ("  - alert: A\n    expr: «up or vector(1)\n", "alert-always-fires", "always fires", "compare"),
    (
        "  - alert: A\n    expr: sum by (job) (up) == 0\n    annotations:\n      a: \"é {{ «$labels.instance }}\"\n",
        "impossible-label",
        "$labels.instance is always empty",
        "by (instance, …)",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    labels:\n      a: \"{{ «$value }}\"\n",
        "value-in-label",
        "label a holds the value",
        "annotation",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    annotations:\n      a: '{{ range query «\"up{\" }}{{ end }}'\n",
        "template-query",
        "query in template",
        "",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    annotations:\n      a: '{{ printf \"%d\" «$value }}'\n",
        "template-printf",
        "%!d(float64=",
        "%.0f",
    ),
    (
        "  - alert: A\n    expr: up == 0\n    annotations:\n      a: '{{ if gt $value «90 }}x{{ end }}'\n",
        "template-comparison",
        "incompatible types",
        "90.0",
    ),
    (
        "  - alert: A\n    expr: sum by (job) (a) > on (job) «sum by (zone) (b)\n",
        "join-on-missing-label",
        "joined on job",
        "by (job, …)",
    ),
    (
        "  - record: r\n    expr: «sum by (job) (sum by (zone) (a))\n",
        "impossible-label",
        "has no label job to group by",
        "by (…)",
    ),
    (
        "  - record: r\n    expr: up\n    labels:\n      a: «\"{{ $value }}\"\n",
        "template-in-recording-rule",
        "expand no templates",
        "label_replace",
    ),
    (
        "  - record: r\n    expr: up\n  - record: «r\n    expr: down\n",
        "duplicate-rules",
        "same labels",
        "rename one",
    ),
];

const FILES: &[Mistake] = &[
    (
        "«rules:\n- record: r\n  expr: up\n",
        "unknown-field",
        "field rules not found in type rulefmt.RuleGroups",
        "begins with `groups:`",
    ),
    ("«- name: g\n", "wrong-type", "cannot unmarshal !!seq into rulefmt.RuleGroups", "groups:"),
    ("groups: «none\n", "wrong-type", "into []rulefmt.RuleGroup", "- name:"),
    ("groups:\n- «rules: []\n", "empty-group-name", "Groupname must not be empty", "name"),
    ("groups:\n- name: g\n- name: «g\n", "repeated-group", "groupname: \"g\" is repeated", "rename"),
    ("groups:\n- name: g\n  interval: «5\n", "invalid-duration", "not a valid duration string: \"5\"", "5s"),
    (
        "groups:\n- name: g\n  limit: «many\n",
        "wrong-type",
        "cannot unmarshal !!str `many` into int",
        "whole number",
    ),
    (
        "groups:\n- name: g\n  «namespace: x\n",
        "unknown-field",
        "field namespace not found",
        "--ignore-unknown-fields",
    ),
    ("«tests: []\n", "unknown-field", "field tests not found", "rules test"),
    ("«scrape_configs: []\n", "unknown-field", "field scrape_configs not found", "configuration"),
    ("apiVersion: v1\nkind: «Service\n", "no-rules", "kind Service holds no rules", "PrometheusRule"),
];

/// What is not as expected, if anything is.
fn complaint(marked: &str, code: &str, message: &str, hint: &str) -> Option<String> {
    let text = marked.replacen('«', "", 1);
    let source = Source::new("f.yml", text.clone());
    let findings = found(&text);
    let Some(first) = findings.iter().find(|f| f.code == code) else {
        let others: Vec<_> = findings.iter().map(|f| (f.code, &f.message)).collect();
        return Some(format!("{code} is not found in\n{text}\nbut {others:?}"));
    };
    let (line, column) = source.line_col(marked.find('«')?);
    let said = first.hint.as_deref().unwrap_or("");
    let right = first.place() == format!("f.yml:{line}:{column}")
        && first.message.contains(message)
        && said.contains(hint)
        && !said.is_empty();
    (!right).then(|| {
        format!("{}: {}: {} ({said}), not {line}:{column}\n{text}", first.place(), code, first.message)
    })
}

#[test]
fn each_mistake_is_named_at_its_place_with_what_to_do() {
    let rules =
        RULES.iter().map(|(rules, code, message, hint)| complaint(&group(rules), code, message, hint));
    let files = FILES.iter().map(|(text, code, message, hint)| complaint(text, code, message, hint));
    let complaints: Vec<String> = rules.chain(files).flatten().collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn texts_that_are_no_yaml_are_refused_with_a_place() {
    for (text, place, message) in [
        ("groups:\n- name: \"g\n", "f.yml:2:9", "found unexpected end of stream"),
        ("groups:\n\t- name: g\n", "f.yml:2:1", "cannot start any token"),
        ("groups: [\n", "f.yml:2:1", "did not find expected node content"),
        ("groups:\n- name: g\n rules: []\n", "f.yml:3:2", ""),
        ("groups: *nope\n", "f.yml:1:9", "unknown anchor 'nope' referenced"),
    ] {
        let findings = found(text);
        let [only] = &findings[..] else { panic!("{text:?}: {findings:?}") };
        assert_eq!((only.code, only.place().as_str()), ("yaml-syntax", place), "{text:?}: {}", only.message);
        assert!(only.message.contains(message), "{text:?}: {}", only.message);
        assert!(only.upstream.as_deref().unwrap_or("").starts_with("yaml: "), "{text:?}");
    }
}

#[test]
fn rules_without_a_mistake_are_not_reported() {
    for rules in [
        "  - alert: Watchdog\n    expr: vector(1)\n",
        "  - alert: A\n    expr: absent(up{job=\"a\"})\n    for: 5m\n",
        "  - alert: A\n    expr: up{job=\"a\"} unless on (instance) maintenance\n",
        // One series of each group, as joins need it.
        "  - alert: A\n    expr: sum by (node) (a) * on (node) group_left (zone) topk by (node, zone) (1, kube_node_info) > 5\n",
        "  - alert: A\n    expr: topk by (a, b) (1, used) / on (a, b) group_left () topk by (a, b) (1, hard > 0) > 0.9\n",
        // Series that are there only in the bad case.
        "  - alert: A\n    expr: interface_info{duplex!=\"full\"}\n",
        "  - alert: A\n    expr: count by (db) (index_size{index=~\".*ccnew.*\"})\n",
        // No NaN comes through.
        "  - alert: A\n    expr: rate(errors_total[5m]) / rate(all_total[5m]) > 0.1\n",
        "  - record: r\n    expr: rate(errors_total[5m]) / rate(all_total[5m]) and rate(all_total[5m]) > 0\n",
        "  - record: r\n    expr: rate(errors_total[5m]) / (rate(all_total[5m]) > 0)\n",
        "  - record: r\n    expr: used / size\n",
        "  - record: r\n    expr: a / sum by (job) ((rate(b[5m]) > 0))\n",
        "  - record: r\n    expr: a / (rate(b[5m]) and rate(b[5m]) != 0)\n",
        "  - alert: A\n    expr: ALERTS{alertname=\"B\"}\n",
        "  - record: r\n    expr: up == 0\n  - alert: A\n    expr: r\n",
        "  - alert: A\n    expr: sum by (job) (rate(e[5m])) / sum by (job) (rate(t[5m])) > 0.1\n    annotations:\n      a: \"{{ $labels.job }} {{ $value | humanizePercentage }}\"\n",
        "  - alert: A\n    expr: (up == 0) * on (instance) group_left (nodename) node_uname_info\n    annotations:\n      a: \"{{ $labels.nodename }}\"\n",
        "  - alert: A\n    expr: count without (mode) (cpu) > 3\n    labels:\n      severity: '{{ if gt $value 5.0 }}page{{ else }}ticket{{ end }}'\n",
        "  - alert: A\n    expr: label_replace(sum(up), \"x\", \"y\", \"\", \"\") > 1\n    annotations: {a: \"{{ $labels.x }}\"}\n",
        "  - alert: A\n    expr: absent(up{job=\"a\"}) == 1\n    for: 1m\n    annotations: {a: \"{{ $labels.job }}\"}\n",
        "  - alert: A\n    # tsdbctl: allow alert-without-comparison\n    expr: up\n",
        "  # tsdbctl: allow value-in-label, absent-without-for\n  - alert: A\n    expr: up == 0\n    labels: {a: \"{{ $value }}\"}\n",
    ] {
        let text = group(rules);
        let found: Vec<_> = found(&text)
            .into_iter()
            .filter(|f| f.severity != Severity::Note || f.code == "nan-by-division")
            .map(|f| format!("{} {}: {}", f.place(), f.code, f.message))
            .collect();
        assert!(found.is_empty(), "{text}\n{found:?}");
    }
}

#[test]
fn upstreams_text_stands_beside_ours() {
    let text = group(
        "  - record: r\n    expr: sum(\n  - alert: A\n    expr: up == 0\n    annotations:\n      a: '{{ $x }}'\n",
    );
    let upstream: Vec<_> = found(&text).into_iter().filter_map(|f| f.upstream).collect();
    assert_eq!(
        upstream,
        [
            "5:11: group \"g\", rule 1, \"r\": could not parse expression: 1:5: parse error: unclosed left parenthesis",
            "group \"g\", rule 2, \"A\": annotation \"a\": template: __alert_A:1: undefined variable \"$x\"",
        ]
    );
}

#[test]
fn objects_of_kubernetes_are_read() {
    let spec = "spec:\n  groups:\n  - name: g\n    partial_response_strategy: warn\n    rules:\n    - record: r\n      expr: 1\n";
    let object =
        format!("apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {{name: n}}\n{spec}");
    let rules = |text: &str, all_documents| {
        let options = ReadOptions { all_documents, ..ReadOptions::default() };
        read(Arc::new(Source::new("f", text)), &options)
            .map(|f| (f.groups.len(), f.unread.map(|s| f.source.place(s))))
            .map_err(|f| f[0].message.clone())
    };
    assert_eq!(rules(&object, false), Ok((1, None)));
    let two = format!("{object}---\n{object}");
    assert_eq!(rules(&two, false), Ok((1, Some("f:11:1".to_string()))));
    // Every object has groups of its own.
    assert_eq!(rules(&two, true), Ok((2, None)));
    let indented: String = object.lines().map(|l| format!("    {l}\n")).collect();
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n  -\n{indented}  -\n    apiVersion: v1\n    kind: Service\n"
    );
    assert_eq!(rules(&list, false), Ok((1, None)));
    let wrong = object.replace("expr: 1", "expr: sum(");
    assert!(rules(&wrong, false).unwrap_err().contains("unclosed left parenthesis"));
    // A document separator with nothing behind it is no second document worth a word.
    assert_eq!(rules("groups: []\n---\n# nothing\n", false), Ok((0, None)));
    assert_eq!(rules("groups: []\n...\n", false), Ok((0, None)));
    // What stands behind the end of the first is not read either.
    assert_eq!(rules("groups: []\n...\n# c\ngroups: []\n", false), Ok((0, Some("f:4:1".to_string()))));
    assert_eq!(rules("--- # ---\ngroups: []\n--- {a: b}\n", false), Ok((0, Some("f:3:1".to_string()))));
}

const GOOD: &str = "\
groups:
- name: é &x
  interval: 1m
  labels: &l {a: b}
  rules:
  - record: job:r:sum
    expr: >-
      sum by (job)
        (rate(r_total{a=\"x\"}[5m]))
    labels: {<<: *l, c: 'd''e'}
  - alert: A # why
    expr: |
      sum by (job) (up) == 0
    for: 5m
    labels:
      severity: \"p\\u00e4ge\"
    annotations:
      text: '{{ with query \"up\" }}{{ . | first | value }}{{ end }} {{ $labels.job }}'
---
second: 1
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_panic(edits in prop::collection::vec((0usize..700, 0u8..4, any::<u8>()), 1..6)) {
        let mut bytes = GOOD.as_bytes().to_vec();
        const SPECIAL: &[u8] = b"\n\t :-{}[]\"'|>&*#%!?,@`$()\\.~<";
        for (at, what, byte) in edits {
            let at = at % bytes.len().max(1);
            let byte = if byte < 160 { SPECIAL[byte as usize % SPECIAL.len()] } else { byte };
            match what {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(200)),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for all_documents in [false, true] {
            let options = ReadOptions { all_documents, ..ReadOptions::default() };
            let source = Arc::new(Source::new("f", text.clone()));
            match read(Arc::clone(&source), &options) {
                Ok(file) => {
                    for finding in lint::lint(&file).into_iter().chain(lint::duplicates(&file)) {
                        prop_assert!(finding.span.start as usize <= text.len());
                    }
                }
                Err(findings) => {
                    prop_assert!(!findings.is_empty());
                    for finding in findings {
                        prop_assert!(finding.span.start <= finding.span.end && finding.span.end as usize <= text.len());
                    }
                }
            }
        }
        let _ = read_at(Arc::new(Source::new("f", text.clone())), "groups.0.rules", &ReadOptions::default());
        let options = FormatOptions { sort_keys: text.len().is_multiple_of(2), ..FormatOptions::default() };
        if let Ok(once) = format(&Arc::new(Source::new("f", text)), &options) {
            let again = format(&Arc::new(Source::new("f", once.clone())), &options);
            prop_assert_eq!(again.ok(), Some(once));
        }
    }
}
