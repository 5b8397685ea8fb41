//! The rules that tests run, read and compiled once for all tests of a run.

use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_yaml::Source;

use crate::alerting::AlertRule;
use crate::file::{GroupSpec, RuleFile, RuleKind};
use crate::group::Rule;
use crate::recording::RecordRule;

/// A rule and where it stands.
#[derive(Clone, Debug)]
pub struct PlacedRule {
    /// What it does.
    pub rule: Rule,
    /// Its place in the group's file.
    pub span: Span,
    /// Place of its expression.
    pub expr_span: Span,
}

/// A group, ready to run.
#[derive(Clone, Debug)]
pub struct GroupProgram {
    /// The file it is in.
    pub source: Arc<Source>,
    /// Its name.
    pub name: String,
    /// How far behind the clock its rules look, ms.
    pub query_offset_ms: i64,
    /// Most series or alerts per rule; 0 or less for none.
    pub limit: i64,
    /// The interval it gives itself, which tests do not heed, and its place.
    pub interval_ms: Option<i64>,
    /// The group's place.
    pub span: Span,
    /// Its rules in order.
    pub rules: Vec<PlacedRule>,
}

/// All groups of some files.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// In the order of the files.
    pub groups: Vec<GroupProgram>,
}

impl PlacedRule {
    /// Whether it is an alerting rule of this name.
    pub fn alerts_as(&self, name: &str) -> bool {
        matches!(&self.rule, Rule::Alert(rule) if rule.name == name)
    }
}

impl Program {
    /// Compiles the groups of `files`.
    ///
    /// # Errors
    /// If a template cannot be parsed, which reading the file refuses before.
    pub fn of(files: &[Arc<RuleFile>]) -> Result<Self, String> {
        let mut groups = Vec::new();
        for file in files {
            for group in &file.groups {
                groups.push(compile(file, group)?);
            }
        }
        Ok(Self { groups })
    }
}

fn compile(file: &RuleFile, group: &GroupSpec) -> Result<GroupProgram, String> {
    let mut rules = Vec::with_capacity(group.rules.len());
    for rule in &group.rules {
        let compiled = match rule.kind {
            RuleKind::Alert => Rule::Alert(
                AlertRule::from_spec(group, rule)
                    .map_err(|e| format!("{}: {}", file.source.place(rule.span), e.message))?,
            ),
            RuleKind::Record => Rule::Record(RecordRule::from_spec(group, rule)),
        };
        rules.push(PlacedRule { rule: compiled, span: rule.span, expr_span: rule.expr_span });
    }
    Ok(GroupProgram {
        source: Arc::clone(&file.source),
        name: group.name.value.clone(),
        query_offset_ms: group.query_offset_ms.unwrap_or(0),
        limit: group.limit,
        interval_ms: group.interval_ms,
        span: group.span,
        rules,
    })
}
