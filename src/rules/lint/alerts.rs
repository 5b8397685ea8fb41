//! Conditions of alerts: missing, never met, always met; what makes an alert flap.

use std::collections::HashSet;

use tsdbctl_model::{MatchType, Span};
use tsdbctl_promql::parser::ast::{AggregateOp, BinaryExpr, BinaryOp, Expr, ValueType, VectorMatching};
use tsdbctl_promql::parser::functions::FunctionId;

use super::bounds::{Holds, bounds, holds};
use super::{Rule, walk};
use crate::file::RuleKind;
use crate::finding::{Finding, Severity};
use crate::labels;

/// Looks at one rule.
pub(super) fn look(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    let expr = &*rule.rule.expr.expr;
    values(rule, expr, findings);
    nan(rule, expr, &mut Vec::new(), findings);
    if rule.rule.kind != RuleKind::Alert {
        return;
    }
    let before = findings.len();
    condition(rule, expr, findings);
    if findings.len() == before {
        absence(rule, expr, findings);
    }
    chosen(rule, expr, findings);
}

/// Comparisons, selectors and divisions, wherever they stand.
fn values(rule: &Rule<'_>, expr: &Expr, findings: &mut Vec<Finding>) {
    walk::each(expr, &mut |expr| {
        if let Some(selector) = walk::selector(expr) {
            if let Some((a, b)) = contradiction(selector) {
                let message = format!("no series meets both {a} and {b}");
                findings.push(
                    rule.in_expr(Severity::Warning, "empty-selector", selector.span, message)
                        .with_hint("use =~ with | between the values to select several"),
                );
            }
            return;
        }
        let Expr::Binary(e) = expr else { return };
        if e.op.is_comparison() {
            compared(rule, expr, e, findings);
        }
        if e.op == BinaryOp::Div {
            divided(rule, expr, e, findings);
        }
    });
}

fn compared(rule: &Rule<'_>, expr: &Expr, e: &BinaryExpr, findings: &mut Vec<Finding>) {
    let filled = e.matching.as_ref().is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
    if filled {
        return;
    }
    let (lhs, rhs) = (bounds(&e.lhs), bounds(&e.rhs));
    let range = |b: super::bounds::Bounds| match (b.low, b.high) {
        (l, h) if l == h => format!("is {l}"),
        (f64::NEG_INFINITY, f64::INFINITY) => "has any value".to_string(),
        (f64::NEG_INFINITY, h) => format!("is at most {h}"),
        (l, f64::INFINITY) => format!("is at least {l}"),
        (l, h) => format!("lies between {l} and {h}"),
    };
    // Say it about the side that is computed.
    let (side, known) = if e.lhs.value_type() == ValueType::Scalar && e.rhs.value_type() != ValueType::Scalar
    {
        (e.rhs.span(), rhs)
    } else {
        (e.lhs.span(), lhs)
    };
    let shown = rule.shown(side);
    match holds(e.op, lhs, rhs) {
        Holds::Never => {
            let message = format!("this never holds: `{shown}` {}", range(known));
            let counted = matches!(
                e.lhs.unwrap_parens(),
                Expr::Aggregate(a) if matches!(a.op, AggregateOp::Count | AggregateOp::CountValues)
            );
            let hint = if counted {
                "what counts nothing gives no result rather than 0: use absent(…), or add `or vector(0)` \
                 before comparing"
            } else if falls_are_resets(&e.lhs) || falls_are_resets(&e.rhs) {
                "a fall of the value counts as the reset of a counter, so it is never negative: use deriv(…) or \
                 delta(…) for a gauge"
            } else {
                "compare with a value that the left side can have"
            };
            findings
                .push(rule.in_expr(Severity::Warning, "never-true", expr.span(), message).with_hint(hint));
        }
        Holds::Always if !(lhs.constant().is_some() && rhs.constant().is_some()) => {
            let message = format!("this always holds: `{shown}` {}", range(known));
            findings.push(rule.in_expr(Severity::Note, "always-true", expr.span(), message));
        }
        _ => {}
    }
}

/// Whether it is the rate or increase of something.
fn falls_are_resets(expr: &Expr) -> bool {
    match expr {
        Expr::Paren(e) => falls_are_resets(&e.expr),
        Expr::Aggregate(e) => falls_are_resets(&e.expr),
        Expr::Call(call) => {
            matches!(call.func.id, FunctionId::Rate | FunctionId::Irate | FunctionId::Increase)
        }
        _ => false,
    }
}

fn divided(rule: &Rule<'_>, expr: &Expr, e: &BinaryExpr, findings: &mut Vec<Finding>) {
    if bounds(&e.rhs).constant() == Some(0.0) {
        let message = "division by 0".to_string();
        findings.push(
            rule.in_expr(Severity::Warning, "division-by-zero", expr.span(), message)
                .with_hint("the result is NaN or infinite for every series"),
        );
    }
}

/// Divisions by what is 0 at rest (rates and what is made of them), where nothing after them drops NaN. `kept` are
/// expressions that a condition beside keeps from being 0.
fn nan(rule: &Rule<'_>, expr: &Expr, kept: &mut Vec<String>, findings: &mut Vec<Finding>) {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
        Expr::Paren(e) => nan(rule, &e.expr, kept, findings),
        Expr::Unary(e) => nan(rule, &e.expr, kept, findings),
        Expr::Subquery(e) => nan(rule, &e.expr, kept, findings),
        Expr::Aggregate(e) => nan(rule, &e.expr, kept, findings),
        Expr::Call(call) => call.args.iter().for_each(|arg| nan(rule, arg, kept, findings)),
        Expr::Binary(e) => match e.op {
            BinaryOp::And => {
                let before = kept.len();
                kept.extend(not_zero(&e.rhs));
                nan(rule, &e.lhs, kept, findings);
                kept.truncate(before);
            }
            BinaryOp::Unless => nan(rule, &e.lhs, kept, findings),
            // No other comparison holds for NaN.
            op if op.is_comparison() && !e.return_bool && op != BinaryOp::Neq => {}
            op => {
                nan(rule, &e.lhs, kept, findings);
                nan(rule, &e.rhs, kept, findings);
                let divisor = bounds(&e.rhs);
                let may_rest = op == BinaryOp::Div
                    && !never_zero(&e.rhs)
                    && divisor.low == 0.0
                    && divisor.high > 0.0
                    && e.rhs.value_type() == ValueType::Vector;
                if may_rest && !kept.contains(&e.rhs.unwrap_parens().to_string()) {
                    let message = format!("`{}` may be 0", rule.shown(e.rhs.span()));
                    findings.push(
                        rule.in_expr(Severity::Note, "nan-by-division", e.rhs.span(), message)
                            .with_hint("0/0 is NaN; `… / (… > 0)` gives nothing instead"),
                    );
                }
            }
        },
    }
}

/// Whether zeros are filtered out.
fn never_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Paren(e) => never_zero(&e.expr),
        Expr::Aggregate(e) => {
            bounds(&e.expr).low >= 0.0
                && matches!(
                    e.op,
                    AggregateOp::Sum
                        | AggregateOp::Avg
                        | AggregateOp::Min
                        | AggregateOp::Max
                        | AggregateOp::TopK
                        | AggregateOp::BottomK
                        | AggregateOp::LimitK
                )
                && never_zero(&e.expr)
        }
        Expr::Binary(e) if e.op == BinaryOp::And => {
            never_zero(&e.lhs) || not_zero(&e.rhs) == Some(e.lhs.unwrap_parens().to_string())
        }
        _ => not_zero(expr).is_some(),
    }
}

/// The expression that a condition keeps from being 0.
fn not_zero(condition: &Expr) -> Option<String> {
    let Expr::Binary(e) = condition.unwrap_parens() else { return None };
    let bound = bounds(&e.rhs);
    let excludes = match e.op {
        BinaryOp::Gtr => bound.low >= 0.0,
        BinaryOp::Gte => bound.low > 0.0,
        BinaryOp::Neq => bound.constant() == Some(0.0),
        _ => false,
    };
    excludes.then(|| e.lhs.unwrap_parens().to_string())
}

/// Two conditions of a selector that no series can meet together.
fn contradiction(selector: &tsdbctl_promql::parser::ast::VectorSelector) -> Option<(String, String)> {
    let matchers = &selector.matchers;
    for (i, equal) in matchers.iter().enumerate().filter(|(_, m)| m.kind == MatchType::Equal) {
        for (j, other) in matchers.iter().enumerate() {
            if i != j && other.name == equal.name && !other.matches(&equal.value) {
                let (a, b) = if i < j { (equal, other) } else { (other, equal) };
                return Some((a.to_string(), b.to_string()));
            }
        }
    }
    None
}

/// Whether the result is certainly empty, whatever the data.
pub(super) fn is_empty(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Vector(_) | Expr::Matrix(_) => {
            walk::selector(expr).is_some_and(|selector| contradiction(selector).is_some())
        }
        Expr::Paren(e) => is_empty(&e.expr),
        Expr::Unary(e) => is_empty(&e.expr),
        Expr::Subquery(e) => is_empty(&e.expr),
        Expr::Aggregate(e) => is_empty(&e.expr),
        Expr::Binary(e) => {
            let filled = e.matching.as_ref().is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
            match e.op {
                BinaryOp::Or => is_empty(&e.lhs) && is_empty(&e.rhs),
                BinaryOp::Unless => is_empty(&e.lhs),
                _ if filled => is_empty(&e.lhs) && is_empty(&e.rhs),
                op if op.is_comparison()
                    && !e.return_bool
                    && holds(op, bounds(&e.lhs), bounds(&e.rhs)) == Holds::Never =>
                {
                    true
                }
                _ => is_empty(&e.lhs) || is_empty(&e.rhs),
            }
        }
        Expr::Call(call) => match call.func.id {
            FunctionId::Absent | FunctionId::AbsentOverTime | FunctionId::Scalar | FunctionId::Vector => {
                false
            }
            FunctionId::Info => call.args.first().is_some_and(is_empty),
            _ => call
                .args
                .iter()
                .filter(|arg| matches!(arg.value_type(), ValueType::Vector | ValueType::Matrix))
                .any(is_empty),
        },
    }
}

/// Whether the result has at least one sample, whatever the data.
fn is_certain(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) => true,
        Expr::Paren(e) => is_certain(&e.expr),
        Expr::Unary(e) => is_certain(&e.expr),
        Expr::Aggregate(e) => e.param.is_none() && is_certain(&e.expr),
        Expr::Binary(e) => match e.op {
            BinaryOp::Or => is_certain(&e.lhs) || is_certain(&e.rhs),
            BinaryOp::And | BinaryOp::Unless => false,
            op if op.is_comparison() && !e.return_bool => {
                e.matching.is_none()
                    && is_certain(&e.lhs)
                    && is_certain(&e.rhs)
                    && holds(op, bounds(&e.lhs), bounds(&e.rhs)) == Holds::Always
            }
            _ => e.matching.is_none() && is_certain(&e.lhs) && is_certain(&e.rhs),
        },
        Expr::Call(call) => match call.func.id {
            FunctionId::Vector => true,
            _ if call.func.return_type == ValueType::Scalar => true,
            FunctionId::Absent | FunctionId::AbsentOverTime => false,
            _ if call.args.is_empty() => true,
            _ => call.args.iter().all(|arg| arg.value_type() != ValueType::Matrix && is_certain(arg)),
        },
        _ => false,
    }
}

/// `vector(1)` and the like: alerts that are meant to fire always, so that their absence is noticed.
fn is_watchdog(expr: &Expr) -> bool {
    match expr.unwrap_parens() {
        Expr::Number(_) => true,
        Expr::Call(call) => call.func.id == FunctionId::Vector && call.args.first().is_some_and(is_watchdog),
        _ => false,
    }
}

/// Whether something in the expression decides that it gives a result, beyond the mere existence of series.
/// `recorded` are metrics for which that is so already.
pub(super) fn has_condition(expr: &Expr, recorded: &HashSet<&str>) -> bool {
    let inner = |e: &Expr| has_condition(e, recorded);
    match expr {
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Vector(_) | Expr::Matrix(_) => walk::selector(expr).is_some_and(|selector| {
            let named = selector
                .matchers
                .iter()
                .find(|m| m.name == "__name__" && m.kind == MatchType::Equal)
                .map(|m| m.value.as_str());
            named
                .is_some_and(|name| name == "ALERTS" || name == "ALERTS_FOR_STATE" || recorded.contains(name))
        }),
        Expr::Paren(e) => inner(&e.expr),
        Expr::Unary(e) => inner(&e.expr),
        Expr::Subquery(e) => inner(&e.expr),
        Expr::Aggregate(e) => inner(&e.expr),
        Expr::Binary(e) => match e.op {
            BinaryOp::And | BinaryOp::Unless => true,
            BinaryOp::Or => inner(&e.lhs) && inner(&e.rhs),
            op if op.is_comparison() && !e.return_bool => true,
            _ => inner(&e.lhs) || inner(&e.rhs),
        },
        Expr::Call(call) => match call.func.id {
            FunctionId::Absent | FunctionId::AbsentOverTime => true,
            // It gives NaN where its vector is empty.
            FunctionId::Scalar => false,
            _ => call.args.iter().any(inner),
        },
    }
}

/// The comparison with `bool` that a result comes from.
fn bool_comparison(expr: &Expr) -> Option<Span> {
    match expr.unwrap_parens() {
        Expr::Binary(e) if e.op.is_comparison() && e.return_bool => Some(expr.span()),
        _ => None,
    }
}

/// Whether it is the labels of series that decide: series of a metric whose value is always 1, or series that are told
/// by a pattern, so that there are none in the good case.
fn chosen_by_labels(expr: &Expr) -> bool {
    match expr {
        Expr::Paren(e) => chosen_by_labels(&e.expr),
        Expr::Aggregate(e) => e.param.is_none() && chosen_by_labels(&e.expr),
        Expr::Vector(selector) => {
            // Of whom it is told, not what.
            let whose = |name: &str| ["__name__", "job", "instance", "namespace", "cluster"].contains(&name);
            let mut others = selector.matchers.iter().filter(|m| !whose(&m.name)).peekable();
            let facts = |name: &str| {
                ["_info", "_metadata", "_labels", "_annotations"].iter().any(|end| name.ends_with(end))
            };
            let name = selector.matchers.iter().find(|m| m.name == "__name__" && m.kind == MatchType::Equal);
            let pattern =
                |value: &str| !matches!(value, ".*" | ".+") && [".*", ".+"].iter().any(|p| value.contains(p));
            (others.peek().is_some() && name.is_some_and(|m| facts(&m.value)))
                || others.any(|m| m.kind == MatchType::Regexp && pattern(&m.value))
        }
        _ => false,
    }
}

fn condition(rule: &Rule<'_>, expr: &Expr, findings: &mut Vec<Finding>) {
    if expr.value_type() == ValueType::String || expr.value_type() == ValueType::Matrix {
        let message = format!("a {} is no result that an alert can have", expr.value_type().documented());
        findings.push(
            rule.in_expr(Severity::Warning, "alert-never-fires", expr.span(), message)
                .with_hint("every evaluation fails: rule result is not a vector or scalar"),
        );
        return;
    }
    if is_empty(expr) || (expr.value_type() == ValueType::Vector && labels::analyze(expr).is_empty()) {
        let message =
            "this alert can never fire: its expression gives nothing, whatever the data".to_string();
        findings.push(rule.in_expr(Severity::Warning, "alert-never-fires", expr.span(), message).with_hint(
            "look at what its parts can give: `tsdbctl rules check --lint strict` names them all",
        ));
        return;
    }
    if is_watchdog(expr) {
        return;
    }
    if is_certain(expr) {
        let message = "this alert always fires: its expression gives something whatever the data".to_string();
        findings.push(rule.in_expr(Severity::Warning, "alert-always-fires", expr.span(), message).with_hint(
            "an alert fires for every series of its result, also if the value is 0: compare with something",
        ));
        return;
    }
    if !has_condition(expr, rule.conditional) && !chosen_by_labels(expr) {
        let message =
            "this alert has no condition: it fires for every series that the expression gives".to_string();
        let finding = rule.in_expr(Severity::Warning, "alert-without-comparison", expr.span(), message);
        findings.push(match bool_comparison(expr) {
            Some(_) => {
                finding.with_hint("take `bool` away: with it the comparison gives 0 instead of nothing")
            }
            None => finding.with_hint("compare the value with something, such as `… > 0`"),
        });
    }
}

/// Alerts on absence without `for`.
fn absence(rule: &Rule<'_>, expr: &Expr, findings: &mut Vec<Finding>) {
    if rule.rule.for_ms > 0 {
        return;
    }
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Paren(e) => open.push(&e.expr),
            Expr::Binary(e) => open.extend([&e.rhs, &e.lhs]),
            Expr::Call(call) if call.func.id == FunctionId::Absent => {
                let message = "an alert on absence without `for` can fire at one failed scrape, and after every restart";
                findings.push(
                    rule.in_expr(Severity::Warning, "absent-without-for", call.span, message.to_string())
                        .with_hint("add `for: 5m`, or use absent_over_time(…[5m])"),
                );
                return;
            }
            _ => {}
        }
    }
}

/// `topk by (a, b) (1, …)` where sides are joined by those labels: the one series of each group that a join needs, and
/// which one it is does not matter.
fn one_of_each(side: &Expr, matching: &VectorMatching) -> bool {
    let Expr::Aggregate(e) = side.unwrap_parens() else { return false };
    let one = e.param.as_ref().is_some_and(|k| bounds(k).constant() == Some(1.0));
    one && matching.on
        && !e.without
        && matches!(e.op, AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK)
        && matching.labels.iter().chain(&matching.include).all(|label| e.grouping.contains(label))
        && !matching.labels.is_empty()
}

/// Alerts on what topk and its like choose.
fn chosen(rule: &Rule<'_>, expr: &Expr, findings: &mut Vec<Finding>) {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Paren(e) => open.push(&e.expr),
            Expr::Unary(e) => open.push(&e.expr),
            Expr::Binary(e) => {
                let kept = |side: &&Expr| !e.matching.as_ref().is_some_and(|m| one_of_each(side, m));
                open.extend([&e.rhs, &e.lhs].into_iter().filter(kept));
            }
            Expr::Call(call) => open.extend(call.args.iter().filter(|a| a.value_type() == ValueType::Vector)),
            Expr::Aggregate(e)
                if matches!(
                    e.op,
                    AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio
                ) =>
            {
                let name = e.op.as_str();
                let message = format!(
                    "which series {name} chooses may change at every evaluation, and `for` then begins anew"
                );
                findings.push(
                    rule.in_expr(Severity::Warning, "topk-in-alert", e.span, message)
                        .with_hint(format!("compare with a threshold, or aggregate what {name} gives")),
                );
            }
            _ => {}
        }
    }
}
