//! Rule files: groups and rules with the place of every value.

use std::sync::Arc;

use tsdbctl_template::RuleTemplate;
use tsdbctl_yaml::{Source, Spanned};

use crate::query::RuleExpr;

/// A rule file that was read and found good.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// Its text and name.
    pub source: Arc<Source>,
    /// Its groups in the order of the file.
    pub groups: Vec<GroupSpec>,
}

/// A group as a file gives it.
#[derive(Clone, Debug, Default)]
pub struct GroupSpec {
    /// Unique within the file.
    pub name: Spanned<String>,
    /// Distance of evaluations, ms; absent or 0: the global interval.
    pub interval_ms: Option<i64>,
    /// How far behind the slot the rules look, ms; absent: the global offset.
    pub query_offset_ms: Option<i64>,
    /// Most series or alerts per rule; 0 or less for none.
    pub limit: i64,
    /// Labels of all rules.
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// Its rules in order.
    pub rules: Vec<RuleSpec>,
    /// The group's place.
    pub span: tsdbctl_model::Span,
}

/// Whether a rule records or alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// `record`
    Record,
    /// `alert`
    Alert,
}

/// A rule as a file gives it.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// What it is.
    pub kind: RuleKind,
    /// Name of the recorded metric, or of the alert.
    pub name: Spanned<String>,
    /// Place of the value of `expr`.
    pub expr_span: tsdbctl_model::Span,
    /// Its expression.
    pub expr: RuleExpr,
    /// `for`, ms.
    pub for_ms: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for_ms: i64,
    /// The rule's own labels, raw; the group's are merged in by [`GroupSpec::merged_labels`].
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// Annotations, raw.
    pub annotations: Vec<(Spanned<String>, Spanned<String>)>,
    /// The rule's place.
    pub span: tsdbctl_model::Span,
}

impl GroupSpec {
    /// The labels of a rule with the group's labels below them, sorted by name.
    pub fn merged_labels(&self, rule: &RuleSpec) -> Vec<(String, String)> {
        let pairs = |list: &[(Spanned<String>, Spanned<String>)]| -> Vec<(String, String)> {
            list.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect()
        };
        let all = pairs(&self.labels).into_iter().chain(pairs(&rule.labels));
        all.collect::<std::collections::BTreeMap<_, _>>().into_iter().collect()
    }
}

/// A label or annotation with its parsed template.
#[derive(Clone, Debug)]
pub struct NamedTemplate {
    /// Name of the label or annotation.
    pub name: String,
    /// Its template.
    pub template: RuleTemplate,
}
