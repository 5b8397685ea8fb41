//! What passes in silence upstream and is probably not meant. Verdicts do not depend on it.

use tsdbctl_model::duration::format_duration_ms;

use super::explain::no_such_alert;
use super::file::{TestFile, TestGroup};
use super::outcome::Warning;
use super::program::{GroupProgram, Program};
use super::run::{alert_names, last_eval_time_ms};
use crate::group::Rule;

/// About the file as a whole.
pub fn file_warnings(file: &TestFile, program: &Program) -> Vec<Warning> {
    let mut out = Vec::new();
    if file.has_more_documents {
        out.push(Warning {
            message: "a second YAML document is not read: its tests do not run".to_string(),
            span: file.tests.last().map(|t| t.span).unwrap_or_default(),
            hint: Some("move them to the first document or to another file".to_string()),
        });
    }
    for name in &file.group_eval_order {
        if !program.groups.is_empty() && !program.groups.iter().any(|g| g.name == name.value) {
            out.push(Warning {
                message: format!("group_eval_order names a group that no rule file has: {}", name.value),
                span: name.span,
                hint: Some("it has no effect; is the name spelled as in the rule file?".to_string()),
            });
        }
    }
    let every = file.evaluation_interval_ms;
    let own = |g: &&GroupProgram| g.interval_ms.is_some_and(|i| i != 0 && i != every);
    let groups: Vec<&GroupProgram> = program.groups.iter().filter(own).collect();
    if let Some(first) = groups.first() {
        let more = if groups.len() > 1 { format!(" and {} more", groups.len() - 1) } else { String::new() };
        out.push(Warning {
            message: format!(
                "the interval {} of group {}{more} is not heeded: tests run all groups every {} ({})",
                format_duration_ms(first.interval_ms.unwrap_or_default()),
                first.name,
                format_duration_ms(every),
                first.source.place(first.span)
            ),
            span: file.rule_files.first().map(|f| f.span).unwrap_or_default(),
            hint: Some("set evaluation_interval to the group's interval".to_string()),
        });
    }
    out
}

/// About one test.
pub fn test_warnings(file: &TestFile, test: &TestGroup, groups: &[&GroupProgram]) -> Vec<Warning> {
    let mut out = Vec::new();
    let every = file.evaluation_interval_ms;
    let names = alert_names(groups);
    for case in &test.alert_cases {
        let name = case.alertname.value.as_str();
        if !name.is_empty() && !names.contains_key(name) && case.expected.is_empty() {
            out.push(Warning {
                message: format!("{name} cannot fire, so this passes whatever the rules say"),
                span: case.alertname.span,
                hint: Some(no_such_alert(name, names.keys().copied())),
            });
        }
        if case.eval_time_ms % every != 0 {
            out.push(Warning {
                message: format!(
                    "alerts at {} are those of the evaluation at {}: evaluations are {} apart",
                    format_duration_ms(case.eval_time_ms),
                    format_duration_ms(case.eval_time_ms / every * every),
                    format_duration_ms(every)
                ),
                span: case.eval_time_span,
                hint: Some("use a multiple of evaluation_interval".to_string()),
            });
        }
    }
    let last = last_eval_time_ms(test) / every * every;
    for case in test.expr_cases.iter().filter(|c| c.eval_time_ms > last) {
        out.push(Warning {
            message: format!(
                "samples after {}, the last evaluation, are not there yet at {}",
                format_duration_ms(last),
                format_duration_ms(case.eval_time_ms)
            ),
            span: case.eval_time_span,
            hint: Some("use a multiple of evaluation_interval, or a smaller evaluation_interval".to_string()),
        });
    }
    for case in &test.expr_cases {
        for sample in case.expected.iter().filter(|s| !s.histogram.value.is_empty() && s.value != 0.0) {
            out.push(Warning {
                message: "a sample with a histogram has no value: this can never be met".to_string(),
                span: sample.value_span.unwrap_or(sample.span),
                hint: Some("remove value".to_string()),
            });
        }
    }
    if test.alert_cases.is_empty() && test.expr_cases.is_empty() {
        out.push(Warning {
            message: "this test expects nothing: the rules are evaluated once, at its start".to_string(),
            span: test.span,
            hint: Some("add alert_rule_test or promql_expr_test".to_string()),
        });
    }
    for group in groups {
        for placed in &group.rules {
            let Rule::Alert(rule) = &placed.rule else { continue };
            let asked = test.alert_cases.iter().filter(|c| c.alertname.value == rule.name);
            let latest = asked.map(|c| (c.eval_time_ms, c)).max_by_key(|(t, _)| *t);
            if let Some((t, case)) = latest
                && t < rule.for_ms
                && case.expected.is_empty()
                && case.present.is_none()
            {
                out.push(Warning {
                    message: format!(
                        "{} cannot fire before {}, so that nothing fires at {} says little",
                        rule.name,
                        format_duration_ms(rule.for_ms),
                        format_duration_ms(t)
                    ),
                    span: case.eval_time_span,
                    hint: Some(format!("its for is at {}", group.source.place(placed.span))),
                });
            }
        }
    }
    out
}
