//! Labels that expressions group and join by, and no series there can carry.

use tsdbctl_promql::parser::ast::{AggregateExpr, BinaryExpr, BinaryOp, Cardinality, Expr};

use super::{Rule, walk};
use crate::finding::{Finding, Severity};
use crate::labels::{LabelSet, Presence, analyze};

/// Looks at one rule.
pub(super) fn look(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    walk::each(&rule.rule.expr.expr, &mut |expr| match expr {
        Expr::Binary(e) if e.matching.is_some() => joined(rule, expr, e, findings),
        Expr::Aggregate(e) if !e.without && !e.grouping.is_empty() => grouped(rule, e, findings),
        _ => {}
    });
}

/// No arm can have the label.
fn lacks(sets: &[LabelSet], label: &str) -> bool {
    !sets.is_empty() && sets.iter().all(|set| *set.presence(label) == Presence::Impossible)
}

fn grouped(rule: &Rule<'_>, e: &AggregateExpr, findings: &mut Vec<Finding>) {
    // What is selected may have any label; only what was computed cannot.
    if matches!(e.expr, Expr::Vector(_)) {
        return;
    }
    let sets = analyze(&e.expr);
    for label in e.grouping.iter().filter(|label| lacks(&sets, label)) {
        let message = format!("`{}` has no label {label} to group by", rule.shown(e.expr.span()));
        let decided = sets[0].decided_at(label);
        findings.push(
            rule.in_expr(Severity::Warning, "impossible-label", e.span, message)
                .with_hint(format!("keep {label} further inside, or take it out of by (…)"))
                .and_at(rule.expr_place(decided), format!("{label} is dropped here")),
        );
    }
}

fn joined(rule: &Rule<'_>, expr: &Expr, e: &BinaryExpr, findings: &mut Vec<Finding>) {
    let Some(matching) = &e.matching else { return };
    let plain = |e: &Expr| matches!(e, Expr::Vector(_));
    if plain(&e.lhs) && plain(&e.rhs) {
        return;
    }
    let (left, right) = (analyze(&e.lhs), analyze(&e.rhs));
    if left.is_empty() || right.is_empty() {
        return;
    }
    let before = findings.len();
    if matching.on {
        for label in &matching.labels {
            let (l, r) = (lacks(&left, label), lacks(&right, label));
            if l == r {
                continue;
            }
            let (side, sets, name) = if l { (&e.lhs, &left, "left") } else { (&e.rhs, &right, "right") };
            let message = format!("joined on {label}, which no series of the {name} side has");
            let decided = sets[0].decided_at(label);
            findings.push(
                rule.in_expr(Severity::Warning, "join-on-missing-label", side.span(), message)
                    .with_hint(format!(
                        "keep {label} on that side: by ({label}, …), or join on what both sides have"
                    ))
                    .and_at(rule.expr_place(decided), format!("{label} is dropped here")),
            );
        }
    }
    let one = match matching.card {
        Cardinality::ManyToOne => Some((&e.rhs, &right, "right")),
        Cardinality::OneToMany => Some((&e.lhs, &left, "left")),
        _ => None,
    };
    if let Some((side, sets, name)) = one {
        for label in matching.include.iter().filter(|label| lacks(sets, label)) {
            let message = format!("{label} is to be copied from the {name} side, where no series has it");
            let decided = sets[0].decided_at(label);
            findings.push(
                rule.in_expr(Severity::Warning, "join-on-missing-label", side.span(), message)
                    .with_hint(format!(
                        "keep {label} on that side, or take it out of group_left or group_right"
                    ))
                    .and_at(rule.expr_place(decided), format!("{label} is dropped here")),
            );
        }
    }
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    if findings.len() > before || filled || e.op == BinaryOp::Or {
        return;
    }
    let sets = if e.op == BinaryOp::Unless {
        let mut both = e.clone();
        both.op = BinaryOp::And;
        analyze(&Expr::Binary(Box::new(both)))
    } else {
        analyze(expr)
    };
    if !sets.is_empty() {
        return;
    }
    let (code, message) = match e.op {
        BinaryOp::Unless => ("dead-unless", "nothing on the right can match, so this takes nothing away"),
        _ => ("join-never-matches", "no series of the left side can match one of the right side"),
    };
    findings.push(
        rule.in_expr(Severity::Warning, code, expr.span(), message.to_string())
            .with_hint("the labels of both sides differ: say which count with on (…) or ignoring (…)"),
    );
}
