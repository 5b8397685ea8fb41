//! Questions to the samples of one test. An expression none of whose series exist is answered without asking.

use std::collections::HashMap;
use std::sync::Arc;

use tsdbctl_model::Matcher;
use tsdbctl_promql::engine::{QueryError, QueryOptions, QueryTime, parse_query, run_parsed};
use tsdbctl_promql::parser::ast::{Expr, ValueType, VectorSelector};
use tsdbctl_storage::control::Control;

use super::store::UnitStore;
use crate::error::RuleError;
use crate::query::{Element, RuleExpr, RuleQuery};
use crate::storage_query::{elements, failed};

/// Asks a test's samples.
pub struct UnitQuery<'a> {
    store: UnitStore,
    options: QueryOptions,
    control: &'a Control,
    /// Per address of a rule's expression: the selectors one of which must have series for it to have a result; none if it may
    /// have one anyway. The expression is held so that its address stays its own.
    known: HashMap<usize, (Arc<Expr>, Option<Selections>)>,
    texts: HashMap<String, Result<Arc<Expr>, QueryError>>,
}

type Selections = Vec<Vec<Matcher>>;

impl<'a> UnitQuery<'a> {
    /// Asks `store`.
    pub fn new(store: UnitStore, options: QueryOptions, control: &'a Control) -> Self {
        Self { store, options, control, known: HashMap::new(), texts: HashMap::new() }
    }

    /// An instant query of a text.
    ///
    /// # Errors
    /// If it does not parse or cannot be evaluated.
    pub fn ask(&mut self, text: &str, t_ms: i64) -> Result<Result<Vec<Element>, RuleError>, QueryError> {
        let options = &self.options;
        let parsed = self.texts.entry(text.to_string());
        let expr = parsed.or_insert_with(|| parse_query(text, options).map(Arc::new)).clone()?;
        let result = run_parsed(&self.store, &expr, QueryTime::Instant(t_ms), &self.options, self.control)?;
        Ok(elements(&result))
    }

    /// An expression that was asked before.
    pub fn parsed(&self, text: &str) -> Option<Arc<Expr>> {
        self.texts.get(text).and_then(|parsed| parsed.as_ref().ok()).cloned()
    }

    /// The value of a parsed expression, for reports.
    ///
    /// # Errors
    /// If it cannot be evaluated.
    pub fn value(&self, expr: &Expr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let time = QueryTime::Instant(t_ms);
        let result = run_parsed(&self.store, expr, time, &self.options, self.control);
        elements(&result.map_err(failed)?)
    }
}

impl RuleQuery for UnitQuery<'_> {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let (_, selections) = self
            .known
            .entry(Arc::as_ptr(&expr.expr).addr())
            .or_insert_with(|| (Arc::clone(&expr.expr), only_from(&expr.expr)));
        if let Some(list) = selections {
            if !list.iter().any(|matchers| self.store.has(matchers)) {
                return Ok(Vec::new());
            }
            // Series never vanish.
            *selections = None;
        }
        self.value(&expr.expr, t_ms)
    }

    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.ask(text, t_ms).map_err(failed)?
    }
}

/// The selectors of an expression, if without any series it surely gives nothing and no error.
fn only_from(expr: &Expr) -> Option<Selections> {
    let mut out = Vec::new();
    (expr.value_type() == ValueType::Vector && gather(expr, &mut out) && !out.is_empty()).then_some(out)
}

/// Functions of a range or vector that give nothing for nothing.
const PLAIN_FUNCTIONS: [&str; 30] = [
    "abs",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp_max",
    "clamp_min",
    "count_over_time",
    "delta",
    "deriv",
    "exp",
    "floor",
    "histogram_quantile",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "ln",
    "log2",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "quantile_over_time",
    "rate",
    "resets",
    "round",
    "sort",
    "sort_desc",
    "sqrt",
    "sum_over_time",
    "timestamp",
];

fn gather(expr: &Expr, out: &mut Selections) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Paren(p) => gather(&p.expr, out),
        Expr::Unary(u) => gather(&u.expr, out),
        Expr::Binary(b) => {
            // Between two vectors; a number on one side takes its value from the other.
            let empty_alone = |e: &Expr| {
                !matches!(e.unwrap_parens(), Expr::Number(_)) && e.value_type() == ValueType::Vector
            };
            let fills = b.matching.as_ref().is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
            !fills
                && (empty_alone(&b.lhs) || empty_alone(&b.rhs))
                && gather(&b.lhs, out)
                && gather(&b.rhs, out)
        }
        Expr::Aggregate(a) => {
            a.param.as_ref().is_none_or(|p| matches!(p, Expr::Number(_)))
                && a.op.as_str() != "count_values"
                && gather(&a.expr, out)
        }
        Expr::Call(c) => PLAIN_FUNCTIONS.contains(&c.func.name) && c.args.iter().all(|a| gather(a, out)),
        Expr::Vector(v) => select(v, out),
        Expr::Matrix(m) => m.range_expr.is_none() && select(&m.selector, out),
        Expr::Subquery(s) => {
            s.range_expr.is_none()
                && s.step_expr.is_none()
                && s.expr.value_type() == ValueType::Vector
                && gather(&s.expr, out)
        }
    }
}

fn select(selector: &VectorSelector, out: &mut Selections) -> bool {
    out.push(selector.matchers.clone());
    selector.time.offset_expr.is_none()
}

/// All selectors of an expression, in its order.
pub fn selectors<'e>(expr: &'e Expr, out: &mut Vec<&'e VectorSelector>) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Paren(p) => selectors(&p.expr, out),
        Expr::Unary(u) => selectors(&u.expr, out),
        Expr::Binary(b) => {
            selectors(&b.lhs, out);
            selectors(&b.rhs, out);
        }
        Expr::Aggregate(a) => {
            if let Some(p) = &a.param {
                selectors(p, out);
            }
            selectors(&a.expr, out);
        }
        Expr::Call(c) => c.args.iter().for_each(|a| selectors(a, out)),
        Expr::Vector(v) => out.push(v),
        Expr::Matrix(m) => out.push(&m.selector),
        Expr::Subquery(s) => selectors(&s.expr, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_a_result_without_series_is_asked() {
        let options = QueryOptions::default();
        for (text, selections) in [
            ("up == 0", Some(1)),
            ("rate(a[5m]) / ignoring(x) b > 0.5", Some(2)),
            ("sum by (job) (up) or b", Some(2)),
            ("absent(up)", None),
            ("vector(1)", None),
            ("1", None),
            ("up or vector(1)", None),
            ("scalar(up) + 1", None),
            ("label_replace(up, \"a\", \"b\", \"c\", \"(\")", None),
            ("count(up) == 0", Some(1)),
            ("topk(scalar(a), up)", None),
        ] {
            let expr = parse_query(text, &options).unwrap();
            assert_eq!(only_from(&expr).map(|s| s.len()), selections, "{text}");
        }
    }
}
