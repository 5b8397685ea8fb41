//! What rules of a file read of each other: metrics that are written after they are read, and rates of what was
//! aggregated.

use std::cell::OnceCell;

use hashbrown::HashMap;
use tsdbctl_model::MatchType;
use tsdbctl_promql::parser::ast::{AggregateOp, Expr, VectorSelector};
use tsdbctl_promql::parser::functions::FunctionId;
use tsdbctl_yaml::Spanned;

use super::{Rule, too_deep, walk};
use crate::file::{GroupSpec, RuleFile, RuleKind, RuleSpec};
use crate::finding::{Finding, Severity};

/// Where a metric is recorded.
#[derive(Clone, Copy)]
struct Place<'f> {
    group: &'f GroupSpec,
    rule: &'f RuleSpec,
    /// Number of the group in the file, number of the rule in it.
    at: (usize, usize),
}

impl Place<'_> {
    /// Whether its labels are those that a selector asks for, as far as they are known.
    fn fits(&self, selector: &VectorSelector) -> bool {
        // The rule's labels win over the group's.
        let known = |name: &str| {
            let named = |(key, _): &&(Spanned<String>, Spanned<String>)| key.value == name;
            let found = self.rule.labels.iter().rfind(named);
            found.or_else(|| self.group.labels.iter().rfind(named)).map(|(_, value)| value.value.as_str())
        };
        selector.matchers.iter().all(|m| known(&m.name).is_none_or(|value| m.matches(value)))
    }

    /// It is a sum or the like of what may be counters.
    fn is_aggregated(&self) -> bool {
        !too_deep(&self.rule.expr) && aggregate_of_counters(&self.rule.expr.expr).is_some()
    }
}

/// What the rules of a file record: put together when the first metric is looked up.
pub(super) struct Recorded<'f> {
    file: &'f RuleFile,
    places: OnceCell<HashMap<&'f str, Vec<Place<'f>>>>,
}

impl<'f> Recorded<'f> {
    /// Of all rules of the file.
    pub fn of(file: &'f RuleFile) -> Self {
        Self { file, places: OnceCell::new() }
    }

    fn places(&self) -> &HashMap<&'f str, Vec<Place<'f>>> {
        self.places.get_or_init(|| {
            let mut names: HashMap<&str, Vec<Place<'_>>> = HashMap::new();
            for (g, group) in self.file.groups.iter().enumerate() {
                for (r, rule) in group.rules.iter().enumerate().filter(|(_, r)| r.kind == RuleKind::Record) {
                    names.entry(&rule.name.value).or_default().push(Place { group, rule, at: (g, r + 1) });
                }
            }
            names
        })
    }

    fn get(&self, selector: &VectorSelector) -> Vec<Place<'f>> {
        let name = selector.matchers.iter().find(|m| m.name == "__name__" && m.kind == MatchType::Equal);
        let places = name.and_then(|m| self.places().get(m.value.as_str())).map_or(&[][..], Vec::as_slice);
        places.iter().filter(|place| place.fits(selector)).copied().collect()
    }
}

/// Looks at one rule of the group `group`.
pub(super) fn look(rule: &Rule<'_>, group: usize, recorded: &Recorded<'_>, findings: &mut Vec<Finding>) {
    let mut told: Vec<&str> = Vec::new();
    walk::each(&rule.rule.expr.expr, &mut |expr| match expr {
        Expr::Vector(selector) => {
            let places = recorded.get(selector);
            // A metric that is named once is told of once; what looks back reads older values anyway.
            if places.is_empty() || is_moved(selector) || told.contains(&name_of(selector)) {
                return;
            }
            told.push(name_of(selector));
            read(rule, group, selector, &places, findings);
        }
        Expr::Call(call)
            if matches!(call.func.id, FunctionId::Rate | FunctionId::Irate | FunctionId::Increase) =>
        {
            let Some(arg) = call.args.first() else { return };
            rated(rule, call.func.name, arg, recorded, findings);
        }
        _ => {}
    });
}

fn name_of(selector: &VectorSelector) -> &str {
    selector.matchers.iter().find(|m| m.name == "__name__").map_or("", |m| m.value.as_str())
}

fn is_moved(selector: &VectorSelector) -> bool {
    let time = &selector.time;
    time.offset != 0 || time.offset_expr.is_some() || time.at.is_some() || time.start_or_end.is_some()
}

fn read(
    rule: &Rule<'_>,
    group: usize,
    selector: &VectorSelector,
    places: &[Place<'_>],
    findings: &mut Vec<Finding>,
) {
    let name = name_of(selector);
    let own = rule.rule.kind == RuleKind::Record && rule.rule.name.value == name;
    let here = || places.iter().filter(|place| place.at.0 == group);
    if own || here().any(|place| place.at.1 < rule.number) {
        return;
    }
    if let Some(later) = here().find(|place| place.at.1 > rule.number) {
        let message = format!("{name} is recorded after this rule: it reads what the evaluation before gave");
        findings.push(
            rule.in_expr(Severity::Warning, "reads-later-rule", selector.span, message)
                .with_hint(format!("put the rule that records {name} before this one"))
                .and_at(later.rule.name.span, format!("rule {} of the group", later.at.1)),
        );
    } else if let Some(other) = places.first().filter(|_| here().next().is_none()) {
        let message = format!(
            "{name} is recorded by the group {}, at times of its own: it may be an interval old",
            other.group.name.value
        );
        findings.push(
            rule.in_expr(Severity::Note, "reads-other-group", selector.span, message)
                .with_hint("put both rules into one group where that matters")
                .and_at(other.rule.name.span, "recorded here"),
        );
    }
}

/// Rates of sums: over a subquery, or over what another rule recorded.
fn rated(rule: &Rule<'_>, function: &str, arg: &Expr, recorded: &Recorded<'_>, findings: &mut Vec<Finding>) {
    let (span, related) = match arg.unwrap_parens() {
        Expr::Subquery(e) if aggregate_of_counters(&e.expr).is_some() => (e.expr.span(), None),
        Expr::Matrix(e) => match recorded.get(&e.selector).iter().find(|place| place.is_aggregated()) {
            Some(place) => (e.span, Some(place.rule.name.span)),
            None => return,
        },
        _ => return,
    };
    let message = format!(
        "{function} of an aggregate: if one counter restarts the whole falls, which {function} takes for a restart \
         of all"
    );
    let finding = rule
        .in_expr(Severity::Warning, "rate-of-aggregate", span, message)
        .with_hint(format!("take the {function} first and aggregate that: sum({function}(…[5m]))"));
    findings.push(match related {
        Some(span) => finding.and_at(span, "aggregated here"),
        None => finding,
    });
}

/// The aggregation that an expression is, if what it aggregates may be counters: selected series, not rates.
fn aggregate_of_counters(expr: &Expr) -> Option<&Expr> {
    match expr.unwrap_parens() {
        Expr::Aggregate(e) if matches!(e.op, AggregateOp::Sum | AggregateOp::Avg) => {
            let mut inner = e.expr.unwrap_parens();
            while let Expr::Aggregate(e) = inner {
                inner = e.expr.unwrap_parens();
            }
            matches!(inner, Expr::Vector(_)).then_some(inner)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::found;

    #[test]
    fn what_rules_read_of_each_other() {
        let sum = "  - record: a:sum\n    expr: sum(a_total)\n";
        let rates = "  - record: a:sum\n    expr: sum(rate(a_total[5m]))\n";
        let read = "  - alert: A\n    expr: a:sum > 1\n    for: 5m\n";
        let other = "- name: other\n  rules:\n";
        for (text, code, place) in [
            (format!("{sum}{read}"), "reads-later-rule", ""),
            (format!("{read}{sum}"), "reads-later-rule", "5:11"),
            // Written before and after.
            (format!("{sum}{read}{sum}"), "reads-later-rule", ""),
            (format!("{}{sum}", read.replace("a:sum >", "a:sum offset 5m >")), "reads-later-rule", ""),
            ("  - record: a:all\n    expr: a:all + a or a\n".to_string(), "reads-later-rule", ""),
            (format!("{sum}{other}{read}"), "reads-other-group", "9:11"),
            (format!("{sum}{other}{sum}{read}"), "reads-other-group", ""),
            // Of several that write a metric, only those count that write what is read.
            (
                format!("{sum}    labels: {{env: x}}\n{other}{}", read.replace("a:sum", "a:sum{env=\"y\"}")),
                "reads-other-group",
                "",
            ),
            (
                format!("{}{sum}    labels: {{env: x}}\n", read.replace("a:sum", "a:sum{env!=\"x\"}")),
                "reads-later-rule",
                "",
            ),
            (format!("{sum}  - record: b:c\n    expr: rate(a:sum[5m])\n"), "rate-of-aggregate", "7:16"),
            (format!("{rates}  - record: b:c\n    expr: deriv(a:sum[5m])\n"), "rate-of-aggregate", ""),
            (
                format!("{rates}  - record: b:c\n    expr: max_over_time(a:sum[5m])\n"),
                "rate-of-aggregate",
                "",
            ),
            (
                "  - record: b:c\n    expr: rate(sum by (x) (a)[5m:1m])\n".to_string(),
                "rate-of-aggregate",
                "5:16",
            ),
            ("  - record: b:c\n    expr: sum(rate(a[5m]))\n".to_string(), "rate-of-aggregate", ""),
            ("  - record: b:c\n    expr: rate(max(up)[5m:1m])\n".to_string(), "rate-of-aggregate", ""),
        ] {
            assert_eq!(found("groups:\n- name: g\n  rules:\n", &text, code), place, "{code}\n{text}");
        }
    }
}
