//! What the data cannot tell a backtest: selectors that match no series, times at which nothing was scraped.

use std::collections::BTreeMap;

use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::symbols::SymbolTable;
use tsdbctl_model::{MatchType, Matcher};
use tsdbctl_promql::engine::{Points, QueryError, QueryOptions, QueryTime, Value, run};
use tsdbctl_promql::parser::ast::{BinaryOp, Expr, VectorSelector};
use tsdbctl_storage::{Control, Queryable, SelectHints, StorageError};

use std::sync::Arc;

use super::plan::reach;
use super::report::AlertReport;
use super::{BacktestError, STRETCH};
use crate::alerting::{ALERTS, ALERTS_FOR_STATE};

/// Values of a label that are named where none fits.
const VALUES_NAMED: usize = 3;

/// Gaps that are named.
const GAPS_NAMED: usize = 3;

/// Distance of the evaluations that look for gaps, ms.
const GAP_STEP_MS: i64 = 60_000;

/// Data, and the range of a backtest over it.
pub struct Looked<'a> {
    /// The data.
    pub storage: &'a dyn Queryable,
    /// Limits.
    pub control: &'a Control,
    /// Settings of queries.
    pub options: &'a QueryOptions,
    /// First evaluation, Unix ms.
    pub start_ms: i64,
    /// Latest evaluation, Unix ms.
    pub end_ms: i64,
}

impl Looked<'_> {
    /// Finds the selectors of alerts that never were which match no series; `exprs` are the alerts' expressions.
    /// Metrics that the set records itself are passed over.
    ///
    /// # Errors
    /// If the data cannot be read.
    pub fn at_selectors(
        &self,
        alerts: &mut [AlertReport],
        exprs: &[Arc<Expr>],
        recorded: &[String],
    ) -> Result<(), BacktestError> {
        let mut told: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (alert, expr) in alerts.iter_mut().zip(exprs) {
            if !alert.series.is_empty() || alert.failed > 0 {
                continue;
            }
            let mut selectors = Vec::new();
            collect(expr, &mut selectors);
            for selector in selectors {
                let is_own = |name: &str| {
                    name == ALERTS || name == ALERTS_FOR_STATE || recorded.iter().any(|r| r == name)
                };
                if name_of(&selector.matchers).is_none_or(is_own) {
                    continue;
                }
                let text = selector_text(&selector.matchers);
                if !told.contains_key(&text) {
                    let why = self.why_unmatched(&selector.matchers, reach(expr)).map_err(Arc::new)?;
                    told.insert(text.clone(), why);
                }
                if let Some(why) = told.get(&text).cloned().flatten()
                    && !alert.unmatched.contains(&why)
                {
                    alert.unmatched.push(why);
                }
            }
        }
        Ok(())
    }

    /// Why no series matches; `None` if one does.
    fn why_unmatched(&self, matchers: &[Matcher], back_ms: i64) -> Result<Option<String>, StorageError> {
        let mint = self.start_ms.saturating_sub(back_ms).saturating_sub(self.options.lookback_delta);
        let name: Vec<Matcher> = matchers.iter().filter(|m| m.name == METRIC_NAME).cloned().collect();
        // Opened for the metric's name, so that each label can be left out in turn.
        let querier = self.storage.querier(mint, self.end_ms, std::slice::from_ref(&name), self.control)?;
        let any = |matchers: &[Matcher]| -> Result<bool, StorageError> {
            let hints =
                SelectHints { start: mint, end: self.end_ms, series_only: true, ..SelectHints::default() };
            let mut symbols = SymbolTable::new();
            Ok(!querier.select(&hints, matchers, &mut symbols, self.control)?.is_empty())
        };
        if any(matchers)? {
            return Ok(None);
        }
        let metric = name_of(matchers).unwrap_or_default();
        if !any(&name)? {
            return Ok(Some(format!("there is no metric {metric}")));
        }
        for wrong in matchers.iter().filter(|m| m.name != METRIC_NAME) {
            let alone: Vec<Matcher> = name.iter().chain([wrong]).cloned().collect();
            if any(&alone)? {
                continue;
            }
            let values = querier.label_values(&wrong.name, &name, self.control)?;
            let named: Vec<String> = values.iter().take(VALUES_NAMED).map(|v| format!("{v:?}")).collect();
            let rest = values.len().saturating_sub(VALUES_NAMED);
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            let has = match values.len() {
                0 => format!("no series of it has the label {}", wrong.name),
                _ => format!("{} is {}{rest}", wrong.name, named.join(", ")),
            };
            return Ok(Some(format!("no series of {metric} matches {wrong}: {has}")));
        }
        Ok(Some(format!("no series matches {}", selector_text(matchers))))
    }

    /// Times in the range at which no target had been scraped within the lookback, where there are times with some.
    ///
    /// # Errors
    /// If the data cannot be read.
    pub fn at_scrapes(&self) -> Result<Vec<String>, BacktestError> {
        let gaps = self.gaps().map_err(|error| BacktestError::Query { place: "up".to_string(), error })?;
        let text = |(from, to): &(i64, i64)| {
            format!(
                "{} to {} ({})",
                format_rfc3339_ms(*from),
                format_rfc3339_ms(*to),
                format_duration_ms(to - from)
            )
        };
        if gaps.is_empty() {
            return Ok(Vec::new());
        }
        let named: Vec<String> = gaps.iter().take(GAPS_NAMED).map(text).collect();
        let rest = match gaps.len() - named.len() {
            0 => String::new(),
            n => format!(" and {n} more times"),
        };
        Ok(vec![format!(
            "there are no samples of up from {}{rest}: nothing was scraped then, so that alerts end and absent() holds; a server that was down itself would have evaluated nothing",
            named.join(", ")
        )])
    }

    fn gaps(&self) -> Result<Vec<(i64, i64)>, QueryError> {
        let steps = (self.end_ms - self.start_ms) / GAP_STEP_MS + 1;
        let (mut gaps, mut last_seen): (Vec<(i64, i64)>, Option<i64>) = (Vec::new(), None);
        let mut first = 0;
        while first < steps {
            let count = (steps - first).min(i64::from(STRETCH));
            let start = self.start_ms + first * GAP_STEP_MS;
            let time = QueryTime::Range { start, end: start + (count - 1) * GAP_STEP_MS, step: GAP_STEP_MS };
            let used = self.control.budget.used();
            let result = run(self.storage, "group(up)", time, self.options, self.control)?;
            if let Value::Matrix { series, .. } = &result.value {
                for points in series.iter().map(|s| &s.points) {
                    let Points::Grid(column) = points else { continue };
                    for k in tsdbctl_promql::engine::column::bits(&column.present) {
                        let t = start + k as i64 * GAP_STEP_MS;
                        if let Some(before) = last_seen.filter(|before| t - before > GAP_STEP_MS) {
                            gaps.push((before + GAP_STEP_MS, t));
                        }
                        last_seen = Some(t);
                    }
                }
            }
            drop(result);
            let more = self.control.budget.used().saturating_sub(used);
            self.control.budget.give(usize::try_from(more).unwrap_or(0));
            first += count;
        }
        Ok(gaps)
    }
}

/// The selectors without which an expression gives nothing, or less: not those that take something away.
fn collect<'a>(expr: &'a Expr, out: &mut Vec<&'a VectorSelector>) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Paren(p) => collect(&p.expr, out),
        Expr::Unary(u) => collect(&u.expr, out),
        Expr::Binary(b) => {
            collect(&b.lhs, out);
            if b.op != BinaryOp::Unless {
                collect(&b.rhs, out);
            }
        }
        Expr::Aggregate(a) => {
            collect(&a.expr, out);
            if let Some(param) = &a.param {
                collect(param, out);
            }
        }
        // That there is nothing is what these are about.
        Expr::Call(c) if matches!(c.func.name, "absent" | "absent_over_time") => {}
        Expr::Call(c) => c.args.iter().for_each(|a| collect(a, out)),
        Expr::Vector(v) => out.push(v),
        Expr::Matrix(m) => out.push(&m.selector),
        Expr::Subquery(s) => collect(&s.expr, out),
    }
}

fn name_of(matchers: &[Matcher]) -> Option<&str> {
    let named = matchers.iter().find(|m| m.name == METRIC_NAME && m.kind == MatchType::Equal)?;
    Some(&named.value)
}

fn selector_text(matchers: &[Matcher]) -> String {
    let rest: Vec<String> =
        matchers.iter().filter(|m| m.name != METRIC_NAME).map(ToString::to_string).collect();
    let name = name_of(matchers).unwrap_or_default();
    if rest.is_empty() { name.to_string() } else { format!("{name}{{{}}}", rest.join(", ")) }
}
