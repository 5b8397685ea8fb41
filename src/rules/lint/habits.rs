//! What works, and is not what it looks like or could be simpler: waiting times between evaluations, alerts that one
//! sample sets off, patterns that are none, names without levels, values with sixteen digits.

use tsdbctl_model::{MatchType, Matcher, Span};
use tsdbctl_promql::parser::ast::{AggregateOp, BinaryOp, Expr, ValueType, VectorSelector};
use tsdbctl_promql::parser::functions::FunctionId;

use super::{Rule, alerts, walk};
use crate::check::within;
use crate::file::RuleKind;
use crate::finding::{Finding, Severity};

/// Looks at one rule.
pub(super) fn look(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    let spec = rule.rule;
    walk::each(&spec.expr.expr, &mut |expr| {
        if let Some(selector) = walk::selector(expr) {
            patterns(rule, selector, findings);
        }
    });
    if spec.kind == RuleKind::Record {
        if !spec.name.value.contains(':') {
            let message = format!("the name {} has no levels", spec.name.value);
            findings.push(
                rule.finding(Severity::Note, "record-name", spec.name.span, message).with_hint(
                    "recorded metrics are called level:metric:operations, as in job:requests:rate5m",
                ),
            );
        }
        return;
    }
    waits(rule, "for", spec.for_ms, spec.for_span, findings);
    waits(rule, "keep_firing_for", spec.keep_firing_for_ms, spec.keep_firing_for_span, findings);
    one_sample(rule, findings);
    raw_values(rule, findings);
}

/// A wait ends at an evaluation.
fn waits(rule: &Rule<'_>, field: &str, ms: i64, place: Option<Span>, findings: &mut Vec<Finding>) {
    let Some(interval) = rule.group.interval_ms.filter(|interval| *interval > 0) else { return };
    if ms <= 0 || ms % interval == 0 {
        return;
    }
    let written = tsdbctl_model::duration::format_duration_ms;
    let until = written((ms / interval + 1).saturating_mul(interval));
    let message = format!(
        "`{field}: {}` acts as {until}: the group is evaluated every {}",
        written(ms),
        written(interval)
    );
    findings.push(
        rule.finding(Severity::Note, "wait-between-evaluations", place.unwrap_or(rule.rule.span), message)
            .with_hint(format!("write {field}: {until}, or change the interval")),
    );
}

/// Alerts that one sample sets off.
fn one_sample(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    let expr = &*rule.rule.expr.expr;
    if rule.rule.for_ms > 0 || !alerts::has_condition(expr, rule.conditional) {
        return;
    }
    let (mut selects, mut looks_back) = (false, false);
    walk::each(expr, &mut |expr| match expr {
        Expr::Vector(selector) => {
            selects = true;
            // What is recorded, and alerts, had time already.
            looks_back |= selector.name.contains(':') || selector.name.starts_with("ALERTS");
        }
        Expr::Matrix(_) | Expr::Subquery(_) => looks_back = true,
        Expr::Call(call) => looks_back |= call.func.id == FunctionId::Absent,
        _ => {}
    });
    if selects && !looks_back {
        let message = "without `for` a single sample sets this alert off".to_string();
        findings.push(
            rule.finding(Severity::Note, "alert-without-for", rule.rule.name.span, message)
                .with_hint("add `for: 5m`, or compare what the series were over time: max_over_time(…[5m])"),
        );
    }
}

/// Regular expressions that are none.
fn patterns(rule: &Rule<'_>, selector: &VectorSelector, findings: &mut Vec<Finding>) {
    for matcher in &selector.matchers {
        let plain = match matcher.kind {
            MatchType::Regexp => "=",
            MatchType::NotRegexp => "!=",
            _ => continue,
        };
        let place = rule.expr_place(matcher_place(rule, selector, matcher));
        let mut say = |code, message: String, hint: String| {
            findings.push(rule.finding(Severity::Note, code, place, message).with_hint(hint));
        };
        let value = matcher.value.as_str();
        if value == ".*" && matcher.kind == MatchType::Regexp {
            let hint =
                format!("leave it away, or write {}=~\".+\" for series that have the label", matcher.name);
            say("pattern-without-effect", format!("{matcher} holds for every series"), hint);
        } else if !value.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$']) {
            let operator = if plain == "=" { "=~" } else { "!~" };
            let hint = format!("write {}", matcher.to_string().replacen(operator, plain, 1));
            say("pattern-of-one-text", format!("{matcher} is met by one text alone"), hint);
        } else if value.starts_with('^') || (value.ends_with('$') && !value.ends_with("\\$")) {
            let hint = "take ^ and $ away".to_string();
            say("anchored-pattern", format!("{matcher}: patterns are matched from end to end anyway"), hint);
        }
    }
}

/// The place of a matcher in the expression: of its name, as far as it is found in the selector's text.
fn matcher_place(rule: &Rule<'_>, selector: &VectorSelector, matcher: &Matcher) -> Span {
    let (start, end) = (selector.span.start as usize, selector.span.end as usize);
    let text = rule.rule.expr.text.get(start..end).unwrap_or("");
    let braces = text.find('{').unwrap_or(0);
    let operator = if matcher.kind == MatchType::Regexp { "=~" } else { "!~" };
    text[braces..]
        .match_indices(matcher.name.as_str())
        .find(|(at, name)| {
            let behind = text[braces + at + name.len()..].trim_start_matches(['"', '\'', ' ']);
            behind.starts_with(operator) && behind[2..].contains(matcher.value.as_str())
        })
        .map_or(selector.span, |(at, name)| Span::new(start + braces + at, start + braces + at + name.len()))
}

/// Values that are printed with all their digits.
fn raw_values(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    if !has_digits(&rule.rule.expr.expr) {
        return;
    }
    for (key, value) in &rule.rule.annotations {
        let text = value.value.as_str();
        for (at, _) in text.match_indices("{{") {
            let Some(action) = text[at + 2..].split("}}").next() else { continue };
            if !matches!(action.trim_matches(['-', ' ', '\t']), "$value" | ".Value") {
                continue;
            }
            let place = within(&rule.file.source, text, value.span, Span::new(at, at + action.len() + 4));
            let message = format!("annotation {} prints the value with all its digits", key.value);
            findings.push(
                rule.finding(Severity::Note, "template-unformatted", place, message).with_hint(
                    "format it: {{ $value | humanize }}, {{ $value | humanizePercentage }} or {{ printf \"%.2f\" $value }}",
                ),
            );
        }
    }
}

/// Whether the values are quotients, rates or averages, which seldom come out even.
fn has_digits(expr: &Expr) -> bool {
    use FunctionId as F;
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => false,
        Expr::Paren(e) => has_digits(&e.expr),
        Expr::Unary(e) => has_digits(&e.expr),
        Expr::Subquery(e) => has_digits(&e.expr),
        Expr::Aggregate(e) => match e.op {
            AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar | AggregateOp::Quantile => true,
            AggregateOp::Count | AggregateOp::CountValues | AggregateOp::Group => false,
            _ => has_digits(&e.expr),
        },
        Expr::Binary(e) => match e.op {
            op if op.is_comparison() && e.return_bool => false,
            op if op.is_comparison() && e.lhs.value_type() == ValueType::Scalar => has_digits(&e.rhs),
            op if op.is_comparison() => has_digits(&e.lhs),
            BinaryOp::And | BinaryOp::Unless => has_digits(&e.lhs),
            BinaryOp::Div => true,
            _ => has_digits(&e.lhs) || has_digits(&e.rhs),
        },
        Expr::Call(call) => match call.func.id {
            F::Rate | F::Irate | F::Increase | F::Deriv | F::Delta | F::PredictLinear => true,
            F::AvgOverTime | F::QuantileOverTime | F::HistogramQuantile | F::HistogramAvg => true,
            F::HistogramFraction => true,
            F::Abs | F::Clamp | F::ClampMin | F::ClampMax | F::LabelReplace | F::LabelJoin => {
                call.args.first().is_some_and(has_digits)
            }
            F::Sort | F::SortDesc | F::MaxOverTime | F::MinOverTime | F::LastOverTime => {
                call.args.first().is_some_and(has_digits)
            }
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::found;

    #[test]
    fn habits_are_told_where_they_are_and_nowhere_else() {
        let alert = |expr: &str, more: &str| format!("  - alert: A\n    expr: {expr}\n{more}");
        let text = |text: &str| format!("    for: 5m\n    annotations: {{a: '{text}'}}\n");
        let record = |name: &str, expr: &str| format!("  - record: {name}\n    expr: {expr}\n");
        for (rules, code, place) in [
            (alert("up == 0", "    for: 90s # why\n"), "wait-between-evaluations", "7:10"),
            (alert("up == 0", "    keep_firing_for: 30s\n"), "wait-between-evaluations", "7:22"),
            ("  - {alert: A, expr: up == 0, for: 90s}\n".to_string(), "wait-between-evaluations", "5:36"),
            (alert("up == 0", "    for: 2m\n    keep_firing_for: 0s\n"), "wait-between-evaluations", ""),
            (alert("up == 0", ""), "alert-without-for", "5:12"),
            (alert("up == 0", "    for: 1m\n"), "alert-without-for", ""),
            (alert("rate(a[5m]) > 1", ""), "alert-without-for", ""),
            (alert("vector(1)", ""), "alert-without-for", ""),
            (alert("a:b > 1", ""), "alert-without-for", ""),
            (record("a:b", "up{job=~\"x\"}"), "pattern-of-one-text", "6:14"),
            (record("a:b", "up{x=\"job\", job!~\"x\"}"), "pattern-of-one-text", "6:23"),
            (record("a:b", "up{job=~\"x|y\", a=~\"b.*\", c=~\"\\\\\\\\d\"}"), "pattern-of-one-text", ""),
            (record("a:b", "up{job=\"x\"}"), "pattern-of-one-text", ""),
            (record("a:b", "up{job=~\".*\"}"), "pattern-without-effect", "6:14"),
            (record("a:b", "up{job=~\".+\"}"), "pattern-without-effect", ""),
            (record("a:b", "up{job=~\"^a.*\"}"), "anchored-pattern", "6:14"),
            (record("a:b", "up{job=~\"a.*$\"}"), "anchored-pattern", "6:14"),
            (record("a:b", "up{job=~'a.*\\\\$'}"), "anchored-pattern", ""),
            (record("b", "up"), "record-name", "5:13"),
            (record("a:b", "up"), "record-name", ""),
            (alert("a / b > 1", &text("{{ $value }}")), "template-unformatted", "8:23"),
            (alert("1 < rate(a[5m])", &text("é {{- .Value -}}")), "template-unformatted", "8:25"),
            (alert("a / b > 1", &text("{{ $value | humanize }}")), "template-unformatted", ""),
            (alert("a / b > 1", &text("{{ printf \"%.2f\" $value }}")), "template-unformatted", ""),
            (alert("a > b / 2", &text("{{ $value }}")), "template-unformatted", ""),
            (alert("count(a / b) > 1", &text("{{ $value }}")), "template-unformatted", ""),
        ] {
            assert_eq!(
                found("groups:\n- name: g\n  interval: 1m\n  rules:\n", &rules, code),
                place,
                "{code}\n{rules}"
            );
        }
    }
}
