//! What helps to see why a case failed: the rules it is about, and what they and the selectors gave.

use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_model::duration::format_duration_ms;
use tsdbctl_model::spelling::distance;
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_yaml::Source;

use super::file::{AlertCase, ExprCase};
use super::fit::sample_text;
use super::outcome::{Failure, Values};
use super::query::selectors;
use super::run::TestRun;
use crate::alerting::AlertState;
use crate::group::Rule;

/// Elements of an expression's value that a report shows.
const MOST_SHOWN: usize = 8;

impl TestRun<'_> {
    /// The rules of an alert's name, what they asked and got.
    pub(super) fn explain_alert(&self, case: &AlertCase, ts_ms: i64, failure: &mut Failure) {
        let mut pending = None;
        for group in &self.groups {
            for (placed, state) in group.rules() {
                let Rule::Alert(rule) = &placed.rule else { continue };
                if rule.name != case.alertname.value {
                    continue;
                }
                let first = state.active.active().filter(|a| a.state == AlertState::Pending);
                if let Some(since) = first.map(|a| a.active_at_ms).min() {
                    pending = pending.or(Some((since, rule.for_ms)));
                }
                failure.rules.push((Arc::clone(&group.group.source), placed.span));
                let t_ms = ts_ms.saturating_sub(group.group.query_offset_ms);
                let whole = self.values(&rule.expr.expr, &rule.expr.text, t_ms);
                // The operands of a comparison tell more than what is left of them.
                let mut sides = Vec::new();
                if let Expr::Binary(b) = rule.expr.expr.unwrap_parens() {
                    sides.extend(
                        [&b.lhs, &b.rhs]
                            .into_iter()
                            .filter(|s| !matches!(s.unwrap_parens(), Expr::Number(_))),
                    );
                }
                let sides = sides.into_iter().map(|side| self.values(side, &side.to_string(), t_ms));
                let sides: Vec<Values> = sides.filter(|side| side.lines != whole.lines).collect();
                failure.values.push(whole);
                failure.values.extend(sides);
            }
        }
        if failure.rules.is_empty() {
            failure.hint = Some(self.no_such_alert(&case.alertname.value));
        } else if let Some((since, for_ms)) = pending {
            let behind = |t_ms: i64| format_duration_ms(t_ms.saturating_sub(self.test.start_ms).max(0));
            failure.hint = Some(format!(
                "it is pending since {}: with for: {} it does not fire before {}",
                behind(since),
                format_duration_ms(for_ms),
                behind(since.saturating_add(for_ms))
            ));
        }
    }

    fn no_such_alert(&self, name: &str) -> String {
        let names = self.groups.iter().flat_map(|g| &g.group.rules).filter_map(|r| match &r.rule {
            Rule::Alert(a) => Some(a.name.as_str()),
            Rule::Record(_) => None,
        });
        no_such_alert(name, names)
    }

    fn values(&self, expr: &Expr, text: &str, t_ms: i64) -> Values {
        let (lines, more) = match self.storage.unit_query().value(expr, t_ms) {
            Ok(elements) if elements.is_empty() => (vec!["nothing".to_string()], 0),
            Ok(elements) => {
                let mut lines: Vec<String> = elements.iter().map(|e| sample_text(e).plain()).collect();
                lines.sort();
                let more = lines.len().saturating_sub(MOST_SHOWN);
                lines.truncate(MOST_SHOWN);
                (lines, more)
            }
            Err(e) => (vec![e.to_string()], 0),
        };
        Values { expr: text.trim().to_string(), time_ms: t_ms - self.test.start_ms, lines, more }
    }

    /// What the selectors of an expression gave, and the rules that record what it reads.
    pub(super) fn explain_expr(&self, case: &ExprCase, t_ms: i64, failure: &mut Failure) {
        let Some(expr) = self.storage.unit_query().parsed(&case.expr.value) else { return };
        let mut found = Vec::new();
        selectors(&expr, &mut found);
        let whole = matches!(expr.unwrap_parens(), Expr::Vector(_));
        let mut seen: Vec<String> = Vec::new();
        for selector in found {
            for group in &self.groups {
                for placed in &group.group.rules {
                    let Rule::Record(rule) = &placed.rule else { continue };
                    let reads = selector
                        .matchers
                        .iter()
                        .any(|m| m.name == tsdbctl_model::labels::METRIC_NAME && m.matches(&rule.name));
                    let place = (Arc::clone(&group.group.source), placed.span);
                    let known = |p: &(Arc<Source>, Span)| Arc::ptr_eq(&p.0, &place.0) && p.1 == place.1;
                    if reads && !failure.rules.iter().any(known) {
                        failure.rules.push(place);
                        if failure.values.len() < 4 {
                            let at_ms = t_ms.saturating_sub(group.group.query_offset_ms);
                            failure.values.push(self.values(&rule.expr.expr, &rule.expr.text, at_ms));
                        }
                    }
                }
            }
            let selector = Expr::Vector(Box::new(selector.clone()));
            let text = selector.to_string();
            if !whole && !seen.contains(&text) && failure.values.len() < 6 {
                failure.values.push(self.values(&selector, &text, t_ms));
                seen.push(text);
            }
        }
    }
}

/// What to say about an alert name that no rule has.
pub fn no_such_alert<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let nearest = names.map(|n| (distance(name, n), n)).min();
    match nearest {
        Some((edits, nearest)) if edits <= 2.max(name.len() / 4) => {
            format!("no alerting rule has this name; is {nearest} meant?")
        }
        _ => "no alerting rule of the rule files has this name".to_string(),
    }
}
