//! Recording rules: from a result to the samples that are recorded.

use hashbrown::HashSet;
use tsdbctl_model::Labels;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_promql::engine::Sample;

use crate::alerting::At;
use crate::error::RuleError;
use crate::file::{GroupSpec, RuleSpec};
use crate::query::{Element, RuleExpr, RuleQuery};

/// A sample that a rule gives.
#[derive(Clone, Debug)]
pub struct RuleSample {
    /// Its series.
    pub labels: Labels,
    /// Its time, Unix ms (query offset applied).
    pub t_ms: i64,
    /// Its value.
    pub sample: Sample,
}

/// A recording rule.
#[derive(Clone, Debug)]
pub struct RecordRule {
    /// Name of the recorded metric.
    pub name: String,
    /// Its expression.
    pub expr: RuleExpr,
    /// Labels of group and rule, by name; an empty value removes the label.
    pub labels: Vec<(String, String)>,
}

impl RecordRule {
    /// The rule of a file, its group's labels merged in.
    pub fn from_spec(group: &GroupSpec, rule: &RuleSpec) -> Self {
        Self { name: rule.name.value.clone(), expr: rule.expr.clone(), labels: group.merged_labels(rule) }
    }

    /// The series that an element of the result is recorded as.
    pub fn series(&self, element: &Labels) -> Labels {
        let mut labels = element.clone();
        labels.set(METRIC_NAME, self.name.as_str());
        for (name, value) in &self.labels {
            labels.set(name.as_str(), value.as_str());
        }
        labels
    }
}

/// Evaluates a rule: asks its expression and takes a step.
///
/// # Errors
/// If the query fails, labels collide, or there are too many series.
pub fn evaluate(
    rule: &RecordRule,
    at: &At<'_>,
    query: &mut dyn RuleQuery,
) -> Result<Vec<RuleSample>, RuleError> {
    step(rule, query.instant(&rule.expr, at.sample_ms())?, at)
}

/// The samples that a result is recorded as, in its order.
///
/// # Errors
/// [`RuleError::SameLabels`] or [`RuleError::SeriesLimit`].
pub fn step(rule: &RecordRule, result: Vec<Element>, at: &At<'_>) -> Result<Vec<RuleSample>, RuleError> {
    let t_ms = at.sample_ms();
    let mut samples = Vec::with_capacity(result.len());
    for Element { labels, sample } in result {
        samples.push(RuleSample { labels: rule.series(&labels), t_ms, sample });
    }
    if samples.len() > 1 {
        let mut seen = HashSet::with_capacity(samples.len());
        if !samples.iter().all(|s| seen.insert(&s.labels)) {
            return Err(RuleError::SameLabels);
        }
    }
    match usize::try_from(at.limit) {
        Ok(limit) if limit > 0 && samples.len() > limit => {
            Err(RuleError::SeriesLimit { limit, series: samples.len() })
        }
        _ => Ok(samples),
    }
}
