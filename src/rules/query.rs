//! How rules ask: an expression parsed once, evaluated by whatever is passed in.

use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_promql::engine::Sample;
use tsdbctl_promql::parser::ast::Expr;

use crate::error::RuleError;

/// An expression, parsed once.
#[derive(Clone, Debug)]
pub struct RuleExpr {
    /// As it stands in the file.
    pub text: Arc<str>,
    /// As upstream prints it: what makes two versions of a rule equal, and what alerts link to.
    pub printed: Arc<str>,
    /// Parsed, durations not resolved yet.
    pub expr: Arc<Expr>,
}

/// One element of a result.
#[derive(Clone, Debug)]
pub struct Element {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub sample: Sample,
}

/// Evaluates expressions. A scalar is one element without labels.
pub trait RuleQuery {
    /// The value of `expr` at `t_ms` (Unix ms; query offset applied).
    ///
    /// # Errors
    /// [`RuleError::Query`] or [`RuleError::NotAVector`].
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError>;

    /// As [`RuleQuery::instant`], of a text that a template computed; sorted as upstream does.
    ///
    /// # Errors
    /// As [`RuleQuery::instant`]; the text may be no expression.
    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError>;
}
