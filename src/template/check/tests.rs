//! What the check claims, against what templates do.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tsdbctl_model::Labels;

use super::*;
use crate::{Environment, RuleData, RuleTemplate, TemplateSample, Value};

struct Rule;

impl Knowledge for Rule {
    fn can_have(&self, label: &str) -> Presence {
        match label {
            "job" => Presence::Certain,
            "gone" => Presence::Impossible,
            _ => Presence::Possible,
        }
    }
    fn value_may_be_histogram(&self) -> bool {
        false
    }
    fn check_query(&self, query: &str) -> Result<(), String> {
        if query == "up" { Ok(()) } else { Err("parse error".to_string()) }
    }
}

struct World {
    series: usize,
}

impl Environment for World {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        if expr != "up" {
            return Err("parse error".to_string());
        }
        let labels = Arc::new(BTreeMap::from([("z".to_string(), "1".to_string())]));
        Ok(vec![TemplateSample { labels, value: Value::Float(3.5) }; self.series])
    }
    fn now_ms(&self) -> i64 {
        1000
    }
    fn external_url(&self) -> &str {
        "http://h"
    }
}

fn codes(text: &str) -> Vec<(Severity, &'static str)> {
    check(text, Place::Annotation, &Rule).into_iter().map(|f| (f.severity, f.code)).collect()
}

#[test]
fn sound_templates_are_left_alone() {
    for text in [
        "plain",
        "{{ $labels.job }} {{ $value | humanize }} {{ printf \"%.2f%%\" $value }} {{ .Value }}",
        "{{ with query \"up\" }}{{ . | first | value | humanize }}{{ end }}",
        "{{ $q := query \"up\" }}{{ if $q }}{{ $q | first | label \"z\" }}{{ end }}",
        "{{ range query \"up\" | sortByLabel \"z\" }}{{ .Labels.z }}={{ .Value }}{{ end }}",
        "{{ if gt $value 90.0 }}high{{ else }}low{{ end }}",
        "{{ range $k, $v := $labels }}{{ $k }}={{ $v }}{{ end }}{{ len $labels }}",
        "{{ index $labels \"job\" }} {{ match \"a.*\" $labels.job }} {{ $externalLabels.x | toUpper }}",
        "{{ define \"T\" }}{{ . | printf \"%s\" }}{{ end }}{{ template \"T\" $labels.job }}",
        "{{ $n := 1 }}{{ range query \"up\" }}{{ $n = .Value }}{{ end }}{{ humanize $n }}",
        "{{ (toTime $value).Format \"2006\" }} {{ $x := 1 }}{{ $x = 2 }}{{ printf \"%.0f%%\" $value }}",
        "{{ range $i := 3 }}{{ $i }}{{ end }} {{ parseDuration \"-1h30m\" }} {{ slice $labels.job 0 1 }}",
        "{{ (toTime $value).Year }} {{ (toDuration 1.5).Seconds }} {{ eq \"a\" $labels.job }}",
    ] {
        assert_eq!(codes(text), [], "{text}");
    }
}

#[test]
fn faults_are_found() {
    use Severity::{Error, Note, Warning};
    for (text, severity, code) in [
        ("{{ foo }}", Error, "template-syntax"),
        ("{{ humanize }}", Error, "template-arity"),
        ("{{ humanize 1 2 }}", Error, "template-arity"),
        ("{{ gt $value 90 }}", Error, "template-comparison"),
        ("{{ if eq $value \"a\" }}x{{ end }}", Error, "template-comparison"),
        ("{{ lt true false }}", Error, "template-comparison"),
        ("{{ $value.x }}", Error, "template-field"),
        ("{{ (query \"up\").Value }}", Error, "template-field"),
        ("{{ .Nope }}", Error, "template-field"),
        ("{{ range $labels.job }}{{ end }}", Error, "template-range"),
        ("{{ range $value }}{{ end }}", Error, "template-range"),
        ("{{ $labels.gone }}", Error, "template-label"),
        ("{{ index $labels \"gone\" }}", Error, "template-label"),
        ("{{ if $labels.gone }}a{{ end }}", Note, "template-label"),
        ("{{ or $labels.gone \"none\" }}", Note, "template-label"),
        ("{{ humanize $labels.gone }}", Error, "template-number"),
        ("{{ humanize \"x\" }}", Error, "template-number"),
        ("{{ query \"up\" | humanize }}", Error, "template-number"),
        ("{{ match \"(\" \"a\" }}", Error, "template-regexp"),
        ("{{ query \"up(\" | first | value }}", Error, "template-query"),
        ("{{ printf \"%d\" $value }}", Error, "template-printf"),
        ("{{ printf \"%s\" 1 }}", Error, "template-printf"),
        ("{{ printf \"%s %s\" \"a\" }}", Error, "template-printf"),
        ("{{ printf \"%s\" \"a\" \"b\" }}", Error, "template-printf"),
        ("{{ query \"up\" }}", Error, "template-address"),
        ("{{ toUpper $value }}", Error, "template-kind"),
        ("{{ query \"up\" | value }}", Error, "template-kind"),
        ("{{ template \"T\" }}", Error, "template-undefined"),
        ("{{ $value 1 }}", Error, "template-arguments"),
        ("{{ $labels.job 1 }}", Error, "template-arguments"),
        ("{{ .Labels.job 1 }}", Error, "template-arguments"),
        ("{{ $value | $labels.job }}", Error, "template-arguments"),
        ("{{ .Value 1 }}", Error, "template-arguments"),
        ("{{ (.Value) 1 }}", Error, "template-arguments"),
        ("{{ . 1 }}", Error, "template-arguments"),
        ("{{ true 1 }}", Error, "template-arguments"),
        ("{{ nil }}", Error, "template-arguments"),
        ("{{ if $value }}{{ 1 2 }}{{ end }}", Warning, "template-arguments"),
        ("{{ range query \"up\" }}{{ .Labels.z 1 }}{{ end }}", Warning, "template-arguments"),
        ("{{ $labels.job.x 1 }}", Error, "template-field"),
        ("{{ $x = 1 }}", Error, "template-undefined"),
        ("{{ range $i, $e := 3 }}{{ end }}", Error, "template-range"),
        ("{{ parseDuration \"x\" }}", Error, "template-number"),
        ("{{ slice $value 1 }}", Error, "template-kind"),
        ("{{ call $value }}", Error, "template-kind"),
        ("{{ printf \"%.2f%\" $value }}", Error, "template-printf"),
        ("{{ query \"up\" | first | value }}", Note, "template-first"),
        ("{{ if $labels.job }}{{ humanize $labels }}{{ end }}", Warning, "template-number"),
        ("{{ define \"T\" }}{{ .x.y }}{{ end }}{{ template \"T\" $labels }}", Error, "template-field"),
    ] {
        assert!(codes(text).contains(&(severity, code)), "{text}: {:?}", codes(text));
    }
    let in_label = check("{{ $value }}", Place::Label, &Rule);
    assert_eq!((in_label[0].severity, in_label[0].code), (Note, "template-value-in-label"));
    assert_eq!(in_label.len(), 1);
}

#[test]
fn findings_name_their_place() {
    let text = "é {{ gt $value 90 }}";
    let finding = &check(text, Place::Annotation, &Rule)[0];
    assert_eq!(&text[finding.span.start as usize..finding.span.end as usize], "90");
    assert!(finding.hint.as_deref().is_some_and(|h| h.contains("90.0")));
}

fn operand() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "$value",
        "$labels",
        "$labels.job",
        "$labels.gone",
        "$labels.x",
        "$externalLabels.e",
        "1",
        "2.5",
        "\"a\"",
        "\"1\"",
        "true",
        "nil",
        ".",
        ".Value",
        ".Labels",
        "$q",
        "$n",
        "\"up\"",
        "\"(\"",
        "\"%d\"",
        "\"%s %v\"",
        "'c'",
        "0x1p4",
        "$externalURL",
        ".Labels.gone",
    ])
    .prop_map(str::to_string);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = proptest::sample::select(vec![
            "query",
            "first",
            "label",
            "value",
            "args",
            "match",
            "toUpper",
            "sortByLabel",
            "humanize",
            "humanizeDuration",
            "toTime",
            "toDuration",
            "now",
            "parseDuration",
            "eq",
            "ne",
            "lt",
            "ge",
            "len",
            "not",
            "and",
            "or",
            "index",
            "slice",
            "print",
            "printf",
            "html",
            "safeHtml",
            "reReplaceAll",
        ]);
        prop_oneof![
            (name, proptest::collection::vec(inner.clone(), 0..3))
                .prop_map(|(name, args)| format!("({name} {})", args.join(" "))),
            (inner.clone(), proptest::sample::select(vec!["Labels", "Value", "job", "Seconds"]))
                .prop_map(|(of, field)| format!("({of}).{field}")),
            (
                inner,
                proptest::sample::select(vec![
                    "humanize",
                    "first",
                    "value",
                    "toUpper",
                    "len",
                    "printf \"%s\""
                ])
            )
                .prop_map(|(of, to)| format!("({of} | {to})")),
        ]
    })
}

fn statement() -> impl Strategy<Value = String> {
    let action = operand().prop_map(|o| format!("{{{{ {o} }}}}"));
    action.prop_recursive(2, 8, 3, |inner| {
        let body = proptest::collection::vec(inner, 0..3).prop_map(|b| b.concat());
        let head = proptest::sample::select(vec!["if", "with", "range", "with $q =", "range $n ="]);
        prop_oneof![
            (head, operand(), body.clone(), body.clone()).prop_map(|(head, of, list, other)| {
                format!("{{{{ {head} {of} }}}}{list}{{{{ else }}}}{other}{{{{ end }}}}")
            }),
            (proptest::sample::select(vec!["$n = ", "$q := ", "$n := "]), operand(), body)
                .prop_map(|(to, of, list)| format!("{{{{ {to}{of} }}}}{list}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn what_is_claimed_comes_true(
        body in proptest::collection::vec(statement(), 1..4),
        series in 0usize..3,
        value in prop_oneof![Just(0.0), Just(1.5), Just(f64::NAN)],
    ) {
        let text = format!("{{{{ $q := query \"up\" }}}}{{{{ $n := 1 }}}}{}", body.concat());
        let claims: Vec<Finding> = check(&text, Place::Annotation, &Rule)
            .into_iter()
            .filter(|f| f.severity == Severity::Error)
            .collect();
        let failing: Vec<&Finding> = claims
            .iter()
            .filter(|f| !matches!(f.code, "template-label" | "template-printf" | "template-address"))
            .collect();
        let labels = Labels::from_pairs([("job", "j"), ("__name__", "m")]);
        let data = RuleData {
            labels: &labels,
            external_labels: &Labels::from_pairs([("e", "f")]),
            external_url: "http://h",
            value: Value::Float(value),
        };
        let rendered = match RuleTemplate::parse("A", &text) {
            Ok(template) => template.expand(&data, &mut World { series }).map_err(|e| e.message),
            Err(error) => Err(error.message),
        };
        if let Ok(rendered) = &rendered {
            prop_assert!(failing.is_empty(), "{text} renders as {rendered}: {failing:?}");
            if claims.iter().any(|f| f.code == "template-printf") {
                prop_assert!(rendered.contains("%!"), "{text}: {rendered}");
            }
            if claims.iter().any(|f| f.code == "template-address") {
                prop_assert!(rendered.contains("0x0") || rendered.contains("[]"), "{text}: {rendered}");
            }
        }
    }
}
