//! Expectations rewritten to what came: a value where a value differs, a list where the list does. Comments and order
//! stay; a second time changes nothing.

use tsdbctl_model::Labels;
use tsdbctl_model::float_text::format_g;
use tsdbctl_yaml::edit::{EditError, quoted, quoted_in_flow};
use tsdbctl_yaml::read::first_document;
use tsdbctl_yaml::{Edits, Entry, Node, ScalarStyle, Source};

use super::compare::{AlertText, Pairs, SampleText, assign, distance, pairs};
use super::file::{Matching, TestFile};
use super::outcome::FailureKind;
use super::report::FileReport;

use crate::alerting::ALERT_NAME;

/// A file with its expectations rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The new text.
    pub text: String,
    /// Cases that were rewritten.
    pub rewritten: usize,
    /// Failures that no new expectation makes good.
    pub left: usize,
}

/// Rewrites the expectations that failed.
///
/// # Errors
/// If two edits overlap, such as those of expectations that share an anchor.
pub fn update(file: &TestFile, selected: &[usize], report: &FileReport) -> Result<Updated, EditError> {
    let source = &file.source;
    let mut edits = Edits::default();
    let (mut rewritten, mut left) = (0, 0);
    let root = first_document(source).ok().and_then(|(root, _)| root);
    let tests = root.as_ref().and_then(|r| r.get("tests")).map(Node::elements).unwrap_or_default();
    for (index, test) in selected.iter().zip(&report.tests) {
        for failure in &test.outcome.failures {
            let node = tests.get(*index);
            let done = match &failure.kind {
                FailureKind::Alerts { case, got, .. } => {
                    let spec = &file.tests[*index].alert_cases[*case];
                    let own_kind = spec.present.is_some()
                        || spec.absent.is_some()
                        || spec.expected.iter().any(|e| e.matching != Matching::Exact);
                    let node =
                        node.and_then(|n| n.get("alert_rule_test")).and_then(|n| n.elements().get(*case));
                    match node {
                        Some(node) if !own_kind => {
                            update_alerts(source, node, got, &spec.alertname.value, &mut edits);
                            true
                        }
                        _ => false,
                    }
                }
                FailureKind::Samples { case, got, .. } => {
                    let spec = &file.tests[*index].expr_cases[*case];
                    let own_kind = spec.present.is_some()
                        || spec.absent.is_some()
                        || spec.expected.iter().any(|e| e.matching != Matching::Exact);
                    let node =
                        node.and_then(|n| n.get("promql_expr_test")).and_then(|n| n.elements().get(*case));
                    // NaN equals nothing, whatever is expected.
                    match node {
                        Some(node) if !own_kind && !got.iter().any(|g| g.value.is_nan()) => {
                            update_samples(source, node, got, &mut edits);
                            true
                        }
                        _ => false,
                    }
                }
                FailureKind::Expr { .. } | FailureKind::Rule { .. } | FailureKind::Other(_) => false,
            };
            if done {
                rewritten += 1;
            } else {
                left += 1;
            }
        }
    }
    Ok(Updated { text: edits.apply(source)?, rewritten, left })
}

fn map_of(node: Option<&Node>) -> Pairs {
    let entries = node.map(Node::entries).unwrap_or_default();
    let text = |n: &Node| n.scalar().map(|s| s.text.clone()).unwrap_or_default();
    pairs(entries.iter().map(|e| (text(&e.key), text(&e.value))))
}

fn update_alerts(source: &Source, case: &Node, got: &[AlertText], alertname: &str, edits: &mut Edits) {
    let mut got: Vec<AlertText> = got.to_vec();
    for alert in &mut got {
        alert.labels.retain(|(n, _)| n != ALERT_NAME);
    }
    let items = case.get("exp_alerts").map(Node::elements).unwrap_or_default();
    let expected: Vec<AlertText> = items
        .iter()
        .map(|item| {
            let mut labels = map_of(item.get("exp_labels"));
            labels.retain(|(n, v)| n != ALERT_NAME || v != alertname);
            AlertText { labels, annotations: map_of(item.get("exp_annotations")) }
        })
        .collect();
    let pairing = pair(&expected, &got, |e, g| {
        distance(&e.labels, &g.labels) * 2 + distance(&e.annotations, &g.annotations)
    });
    // As many as expected: each keeps its place, and what is as expected is not touched.
    if expected.len() == got.len() {
        let maps: Option<Vec<_>> = pairing
            .iter()
            .enumerate()
            .flat_map(|(e, g)| {
                [
                    (&items[e], "exp_labels", &expected[e].labels, &got[*g].labels),
                    (&items[e], "exp_annotations", &expected[e].annotations, &got[*g].annotations),
                ]
            })
            .filter(|(_, _, before, now)| before != now)
            .map(|(item, key, before, now)| {
                let entry = item.entry(key)?;
                (!now.is_empty()).then_some((entry, before, now))
            })
            .collect();
        if let Some(maps) = maps {
            for (entry, before, now) in maps {
                set_map(source, entry, before, now, edits);
            }
            return;
        }
    }
    let block: Vec<String> = got.iter().map(alert_block).collect();
    let flow: Vec<String> = got.iter().map(alert_flow).collect();
    set_list(source, case, "exp_alerts", &block, &flow, edits);
}

/// Puts other pairs into a mapping: only values, if they are what differs.
fn set_map(source: &Source, entry: &Entry, before: &Pairs, now: &Pairs, edits: &mut Edits) {
    if entry.value.is_alias(source) {
        // What stands elsewhere may be meant for others.
        edits.set_value(source, entry, &map_flow(now));
    } else if before.iter().map(|(name, _)| name).eq(now.iter().map(|(name, _)| name)) {
        set_values(source, Some(&entry.value), now, edits);
    } else if entry.value.is_flow(source) {
        edits.set_value(source, entry, &map_flow(now));
    } else {
        edits.set_block(source, entry, &map_block(now, ""));
    }
}

fn map_block(pairs: &Pairs, indent: &str) -> String {
    let line = |(name, value): &(String, String)| {
        let name = quoted(name, ScalarStyle::Plain);
        format!("{indent}{name}: {}\n", quoted(value, ScalarStyle::Plain))
    };
    pairs.iter().map(line).collect()
}

fn map_flow(pairs: &Pairs) -> String {
    let one = |(n, v): &(String, String)| {
        format!("{}: {}", quoted_in_flow(n, ScalarStyle::Plain), quoted_in_flow(v, ScalarStyle::Plain))
    };
    format!("{{{}}}", pairs.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn set_values(source: &Source, map: Option<&Node>, values: &Pairs, edits: &mut Edits) {
    let Some(map) = map else { return };
    for entry in map.entries() {
        let (Some(key), Some(old)) = (entry.key.scalar(), entry.value.scalar()) else { continue };
        let Some((_, new)) = values.iter().find(|(n, _)| *n == key.text) else { continue };
        if *new != old.text {
            let in_flow = map.is_flow(source);
            let text = if in_flow { quoted_in_flow(new, old.style) } else { quoted(new, old.style) };
            edits.set_value(source, entry, &text);
        }
    }
}

/// For each expectation what came in its place, the same first; as far as there are enough.
fn pair<T: PartialEq>(expected: &[T], got: &[T], distance: impl Fn(&T, &T) -> usize) -> Vec<usize> {
    let same = assign(expected.len(), got.len(), |e, g| expected[e] == got[g]);
    let mut free: Vec<usize> = (0..got.len()).filter(|g| !same.contains(&Some(*g))).collect();
    let mut out = Vec::new();
    for (e, taken) in same.iter().enumerate() {
        if let Some(g) = taken {
            out.push(*g);
        } else if let Some(at) = (0..free.len()).min_by_key(|i| distance(&expected[e], &got[free[*i]])) {
            out.push(free.remove(at));
        }
    }
    out
}

fn alert_block(alert: &AlertText) -> String {
    let mut out = String::new();
    for (key, list) in [("exp_labels", &alert.labels), ("exp_annotations", &alert.annotations)] {
        if list.is_empty() {
            continue;
        }
        out.push_str(&format!("{}{key}:\n", if out.is_empty() { "- " } else { "  " }));
        out.push_str(&map_block(list, "    "));
    }
    if out.is_empty() { "- {}\n".to_string() } else { out }
}

fn alert_flow(alert: &AlertText) -> String {
    let parts = [("exp_labels", &alert.labels), ("exp_annotations", &alert.annotations)];
    let parts = parts.iter().filter(|(_, list)| !list.is_empty());
    format!(
        "{{{}}}",
        parts.map(|(key, list)| format!("{key}: {}", map_flow(list))).collect::<Vec<_>>().join(", ")
    )
}

fn update_samples(source: &Source, case: &Node, got: &[SampleText], edits: &mut Edits) {
    let items = case.get("exp_samples").map(Node::elements).unwrap_or_default();
    let labels_of = |item: &Node| -> Option<Pairs> {
        let text = item.get("labels").and_then(Node::scalar).map(|s| s.text.clone()).unwrap_or_default();
        let labels = tsdbctl_promql::parser::parse_metric(&text).ok()?;
        Some(pairs(labels.iter().map(|l| (l.name.as_str(), l.value.as_str()))))
    };
    let expected: Option<Vec<Pairs>> = items.iter().map(labels_of).collect();
    let came: Vec<Pairs> = got.iter().map(|g| g.labels.clone()).collect();
    if let Some(expected) = expected
        && expected.len() == came.len()
    {
        let pairing = pair(&expected, &came, |e, g| distance(e, g));
        let entries: Option<Vec<_>> = pairing
            .iter()
            .enumerate()
            .map(|(e, g)| {
                let sample = &got[*g];
                let (key, other) =
                    if sample.histogram.is_empty() { ("value", "histogram") } else { ("histogram", "value") };
                if items[e].get(other).is_some() {
                    return None;
                }
                let labels = match expected[e] == sample.labels {
                    true => None,
                    false => Some(items[e].entry("labels")?),
                };
                Some((items[e].entry(key)?, labels, sample))
            })
            .collect();
        if let Some(entries) = entries {
            for (entry, labels, sample) in entries {
                if let Some(labels) = labels {
                    let style = labels.value.scalar().map_or(ScalarStyle::SingleQuoted, |s| s.style);
                    edits.set_value(source, labels, &quoted_in_flow(&selector_text(&sample.labels), style));
                }
                let old = entry.value.scalar().map(|s| s.text.clone()).unwrap_or_default();
                if sample.histogram.is_empty() {
                    let same = tsdbctl_model::float_text::parse_float(&old).is_ok_and(|v| v == sample.value);
                    if !same {
                        edits.set_value(source, entry, &number(sample.value));
                    }
                } else if old != sample.histogram {
                    edits.set_value(
                        source,
                        entry,
                        &quoted_in_flow(&sample.histogram, ScalarStyle::DoubleQuoted),
                    );
                }
            }
            return;
        }
    }
    let text = |g: &SampleText| {
        let labels = quoted_in_flow(&selector_text(&g.labels), ScalarStyle::SingleQuoted);
        let (key, value) = if g.histogram.is_empty() {
            ("value", number(g.value))
        } else {
            ("histogram", quoted_in_flow(&g.histogram, ScalarStyle::DoubleQuoted))
        };
        (labels, key, value)
    };
    let block: Vec<String> = got
        .iter()
        .map(|g| {
            let (labels, key, value) = text(g);
            format!("- labels: {labels}\n  {key}: {value}\n")
        })
        .collect();
    let flow: Vec<String> = got
        .iter()
        .map(|g| {
            let (labels, key, value) = text(g);
            format!("{{labels: {labels}, {key}: {value}}}")
        })
        .collect();
    set_list(source, case, "exp_samples", &block, &flow, edits);
}

fn selector_text(pairs: &Pairs) -> String {
    Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))).selector_text()
}

fn set_list(source: &Source, case: &Node, key: &str, block: &[String], flow: &[String], edits: &mut Edits) {
    let flow = format!("[{}]", flow.join(", "));
    match case.entry(key) {
        None => edits.insert_key(source, case, None, key, &flow),
        Some(entry) if block.is_empty() => edits.set_value(source, entry, "[]"),
        Some(entry) if case.is_flow(source) => edits.set_value(source, entry, &flow),
        Some(entry) => edits.set_block(source, entry, &block.concat()),
    }
}

/// A number as YAML writes it.
fn number(v: f64) -> String {
    if v == f64::INFINITY {
        ".inf".to_string()
    } else if v == f64::NEG_INFINITY {
        "-.inf".to_string()
    } else if v.is_nan() {
        ".nan".to_string()
    } else {
        format_g(v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::file::read_test_file;
    use crate::unit::report::TestReport;
    use crate::unit::run::{Settings, display_name, run_test};
    use std::sync::Arc;
    use tsdbctl_storage::control::Control;
    use tsdbctl_yaml::source::Dialect;

    fn updated(text: &str) -> Updated {
        let source = Source::new("t.yml", text).with_dialect(Dialect::V2);
        let file = read_test_file(Arc::new(source)).unwrap();
        let selected: Vec<usize> = (0..file.tests.len()).collect();
        let tests = selected
            .iter()
            .map(|i| TestReport {
                name: display_name(&file, *i),
                named: false,
                span: file.tests[*i].span,
                outcome: run_test(&file, &file.tests[*i], &[], &Settings::default(), &Control::default()),
                seconds: 0.0,
            })
            .collect();
        let report = FileReport {
            name: "t.yml".to_string(),
            source: None,
            refused: Vec::new(),
            problems: Vec::new(),
            tests,
        };
        update(&file, &selected, &report).unwrap()
    }

    #[test]
    fn what_failed_is_rewritten_and_the_rest_stays() {
        let head = "# head\ntests:\n  - input_series:\n      - {series: 'm{a=\"1\"}', values: 1.5}\n      - {series: 'm{a=\"2\"}', values: 2}\n    promql_expr_test:\n      - expr: m # the metric\n        eval_time: 0m\n";
        for (before, after) in [
            (
                "        exp_samples:\n          # one\n          - labels: m{a=\"2\"} # two\n            value: 7 # seven\n          - value: 1.5\n            labels: m{a=\"1\"}\n",
                "        exp_samples:\n          # one\n          - labels: m{a=\"2\"} # two\n            value: 2 # seven\n          - value: 1.5\n            labels: m{a=\"1\"}\n",
            ),
            (
                "        exp_samples:\n          # one\n          - labels: m{a=\"3\"} # two\n            value: 1.5 # seven\n          - labels: 'm{a=\"2\"}'\n            value: 2\n",
                "        exp_samples:\n          # one\n          - labels: 'm{a=\"1\"}' # two\n            value: 1.5 # seven\n          - labels: 'm{a=\"2\"}'\n            value: 2\n",
            ),
            (
                "        exp_samples: [] # none\n",
                "        exp_samples: # none\n          - labels: 'm{a=\"1\"}'\n            value: 1.5\n          - labels: 'm{a=\"2\"}'\n            value: 2\n",
            ),
            (
                "",
                "        exp_samples: [{labels: 'm{a=\"1\"}', value: 1.5}, {labels: 'm{a=\"2\"}', value: 2}]\n",
            ),
        ] {
            let once = updated(&format!("{head}{before}"));
            assert_eq!(once.text, format!("{head}{after}"));
            assert_eq!((once.rewritten, once.left), (1, 0));
            let twice = updated(&once.text);
            assert_eq!((twice.text, twice.rewritten), (once.text, 0));
        }
    }

    #[test]
    fn alerts_that_do_not_fire_are_taken_out() {
        let text = "tests:\n  - alert_rule_test:\n      - alertname: A\n        exp_alerts: # c\n          - exp_labels: {a: b}\n";
        let once = updated(text);
        assert_eq!(
            once.text,
            "tests:\n  - alert_rule_test:\n      - alertname: A\n        exp_alerts: # c\n          []\n"
        );
        assert_eq!(updated(&once.text).rewritten, 0);
    }
}
