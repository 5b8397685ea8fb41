//! Rules that ask a store through the engine.

use std::sync::{Mutex, PoisonError};

use tsdbctl_promql::engine::{
    ErrorKind, QueryError, QueryOptions, QueryResult, QueryTime, Sample, Value, parse_query, run_parsed,
};
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_storage::{Control, Queryable};

use crate::error::RuleError;
use crate::query::{Element, RuleExpr, RuleQuery};

/// Expressions evaluated over a store, on the caller's own stack: evaluations belong into
/// [`tsdbctl_promql::engine::on_big_stack`].
pub struct StorageQuery<'a> {
    /// The data.
    pub storage: &'a dyn Queryable,
    /// Settings.
    pub options: &'a QueryOptions,
    /// Limits.
    pub control: &'a Control,
    /// Warnings and infos that evaluations gave, each text once.
    pub annotations: Option<&'a Mutex<Vec<String>>>,
    /// The first failure that says nothing of the rule: the data cannot be read, or all was stopped.
    pub interruption: Option<&'a Mutex<Option<QueryError>>>,
}

impl<'a> StorageQuery<'a> {
    /// Over `storage`.
    pub fn new(storage: &'a dyn Queryable, options: &'a QueryOptions, control: &'a Control) -> Self {
        Self { storage, options, control, annotations: None, interruption: None }
    }

    fn evaluate(&mut self, text: &str, expr: &Expr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let time = QueryTime::Instant(t_ms);
        let result = run_parsed(self.storage, expr, time, self.options, self.control).map_err(|e| {
            if let (Some(met), ErrorKind::Internal | ErrorKind::Timeout | ErrorKind::Canceled) =
                (self.interruption, e.kind)
            {
                met.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| e.clone());
            }
            failed(e)
        })?;
        if let Some(met) = self.annotations {
            let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
            let (warnings, infos) = result.annotations.render(text, 10);
            for line in warnings.into_iter().chain(infos) {
                if !met.contains(&line) {
                    met.push(line);
                }
            }
        }
        elements(&result)
    }
}

/// A failed query, in upstream's words.
pub fn failed(e: QueryError) -> RuleError {
    RuleError::Query(e.message)
}

/// The elements of an instant query's result.
///
/// # Errors
/// [`RuleError::NotAVector`].
pub fn elements(result: &QueryResult) -> Result<Vec<Element>, RuleError> {
    match &result.value {
        Value::Vector(vector) => Ok(vector
            .iter()
            .map(|e| Element { labels: result.labels(&e.labels), sample: e.sample.clone() })
            .collect()),
        Value::Scalar { v, .. } => {
            Ok(vec![Element { labels: tsdbctl_model::Labels::empty(), sample: Sample::Float(*v) }])
        }
        Value::String { .. } | Value::Matrix { .. } => Err(RuleError::NotAVector),
    }
}

impl RuleQuery for StorageQuery<'_> {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.evaluate(&expr.text, &expr.expr, t_ms)
    }

    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let expr = parse_query(text, self.options).map_err(failed)?;
        self.evaluate(text, &expr, t_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_chunk::AppenderOptions;
    use tsdbctl_model::Labels;
    use tsdbctl_storage::{MemorySample, MemoryStore};

    use super::*;

    #[test]
    fn vectors_and_scalars_are_elements_and_nothing_else_is() {
        let mut store = MemoryStore::new(AppenderOptions::default());
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "1")]);
        store.append(&labels, 60_000, 0, &MemorySample::Float(3.0)).unwrap();
        let (options, control) = (QueryOptions::default(), Control::default());
        let mut query = StorageQuery::new(&store, &options, &control);
        let mut ask = |text: &str| {
            let expr = Arc::new(parse_query(text, &options).unwrap());
            let expr = RuleExpr { text: text.into(), printed: text.into(), expr };
            let got = query.instant(&expr, 60_000)?;
            Ok(got.iter().map(|e| format!("{} {:?}", e.labels, e.sample)).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(ask("m"), Ok("{__name__=\"m\", a=\"1\"} Float(3.0)".to_string()));
        assert_eq!(ask("2"), Ok("{} Float(2.0)".to_string()));
        assert_eq!(ask("m[1m]"), Err(RuleError::NotAVector));
        assert_eq!(ask("\"x\""), Err(RuleError::NotAVector));
        assert!(
            matches!(query.instant_text("m ++", 0), Err(RuleError::Query(m)) if m.contains("parse error"))
        );
    }
}
