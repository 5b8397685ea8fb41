//! What is probably not meant in rules that are right: found without data, each kind with a name of its own.

use std::collections::HashSet;

use tsdbctl_model::Span;
use tsdbctl_promql::engine::on_big_stack;

use crate::file::{GroupSpec, RuleFile, RuleKind, RuleSpec};
use crate::finding::{Finding, Severity, Subject};
use crate::query::RuleExpr;

mod alerts;
pub mod bounds;
mod duplicates;
mod habits;
mod joins;
mod order;
mod templates;
mod walk;

pub use duplicates::{DUPLICATE_RULES, duplicate_report, duplicates};

/// Every code that [`lint`] may give, and what it means.
pub const CODES: &[(&str, &str)] = &[
    (DUPLICATE_RULES, "two rules write the same series, or two alerts have the same name and labels"),
    (
        "alert-without-comparison",
        "an alert whose expression has no condition fires for every series there is",
    ),
    ("alert-never-fires", "an alert whose expression can give nothing, whatever the data"),
    ("alert-always-fires", "an alert whose expression gives something whatever the data"),
    (
        "absent-without-for",
        "an alert on absence that does not wait can fire at every failed scrape and restart",
    ),
    ("impossible-label", "a label is used that no series there can carry"),
    ("possible-label", "a label is used that some of the series there do not carry"),
    ("join-on-missing-label", "two sides are joined by a label that one of them never has"),
    ("join-never-matches", "no series of one side can match one of the other"),
    ("dead-unless", "nothing on the right of unless can match, so it takes nothing away"),
    ("never-true", "a comparison holds for no value that its operand can have"),
    ("always-true", "a comparison holds for every value that its operand can have"),
    ("empty-selector", "the conditions of a selector contradict each other"),
    ("topk-in-alert", "which series topk and its like choose changes, and with it the alerts"),
    ("division-by-zero", "a division by the constant 0"),
    ("nan-by-division", "a divisor that is 0 at rest gives NaN or infinity, and nothing after it drops that"),
    ("value-in-label", "a label that holds the value makes a new alert whenever the value changes"),
    ("template-query", "a query in a template that is no expression, or gives no series"),
    ("template-address", "a template prints the address of a value instead of the value"),
    ("template-arguments", "a template calls something that is no function, or a field with arguments"),
    ("template-arity", "a template calls a function with too many or too few arguments"),
    ("template-comparison", "a template compares values of kinds that cannot be compared"),
    ("template-field", "a template asks for a field that the value does not have"),
    ("template-first", "a template takes the first of a query's result, which may be empty"),
    ("template-kind", "a template uses a value of a kind that does not fit there"),
    ("template-number", "a template takes something for a number that is none"),
    ("template-printf", "a template's printf does not fit its arguments"),
    ("template-range", "a template goes through something that has no elements"),
    ("template-regexp", "a template's regular expression is none"),
    (
        "template-syntax",
        "a template of a group's label that does not parse: alerts get an error text in its place",
    ),
    ("template-undefined", "a template calls another one that is not defined"),
    ("template-in-recording-rule", "labels of recording rules are not expanded"),
    ("overridden-label", "a label that the alert's own name replaces"),
    (
        "reads-later-rule",
        "a rule reads a metric that a later rule of its group records: the value is an interval old",
    ),
    ("reads-other-group", "a rule reads a metric that another group records, at times of its own"),
    ("rate-of-aggregate", "the rate of a sum: the restart of one counter looks like one of all"),
    (
        "wait-between-evaluations",
        "for or keep_firing_for ends between two evaluations, and so acts until the next",
    ),
    ("alert-without-for", "an alert that a single sample sets off"),
    ("pattern-of-one-text", "a regular expression that one text alone meets: = and != say that"),
    ("pattern-without-effect", "a regular expression that every series meets"),
    ("anchored-pattern", "a regular expression with ^ or $, between which it stands anyway"),
    ("record-name", "the name of a recorded metric is not of the form level:metric:operations"),
    ("template-unformatted", "an annotation prints a quotient or a rate with all its digits"),
];

/// The code of a name given by a user.
pub fn code(name: &str) -> Option<&'static str> {
    CODES.iter().map(|(code, _)| *code).find(|code| *code == name)
}

/// What is known while one rule is looked at.
pub(crate) struct Rule<'f> {
    pub file: &'f RuleFile,
    pub group: &'f GroupSpec,
    pub number: usize,
    pub rule: &'f RuleSpec,
    /// Names of recorded metrics of the file whose expressions have a condition.
    pub conditional: &'f HashSet<&'f str>,
}

impl Rule<'_> {
    fn subject(&self) -> Subject {
        Subject {
            group: self.group.name.value.clone(),
            rule: self.number,
            name: self.rule.name.value.clone(),
        }
    }

    /// A finding at a place in the file.
    pub fn finding(&self, severity: Severity, code: &'static str, span: Span, message: String) -> Finding {
        debug_assert!(self::code(code).is_some(), "{code} is not listed");
        Finding::new(severity, code, &self.file.source, span, message).about(self.subject())
    }

    /// A finding at a place in the expression.
    pub fn in_expr(&self, severity: Severity, code: &'static str, part: Span, message: String) -> Finding {
        self.finding(severity, code, self.expr_place(part), message)
    }

    /// The place in the file of a part of the expression.
    pub fn expr_place(&self, part: Span) -> Span {
        crate::check::within(&self.file.source, &self.rule.expr.text, self.rule.expr_span, part)
    }

    /// The text of a part of the expression, on one line and not too long.
    pub fn shown(&self, part: Span) -> String {
        let text = self.rule.expr.text.get(part.start as usize..part.end as usize).unwrap_or("");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(60) {
            Some((at, _)) => format!("{}…", &words[..at]),
            None => words,
        }
    }
}

/// Findings of a file in the order of its text, without [`duplicates()`]. A comment `# tsdbctl: allow CODE` in a rule
/// or right above it takes those of the rule away.
pub fn lint(file: &RuleFile) -> Vec<Finding> {
    on_big_stack(|| lint_here(file))
}

fn lint_here(file: &RuleFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let nothing = HashSet::new();
    let rules = || file.groups.iter().flat_map(|g| &g.rules);
    let conditional: HashSet<&str> = rules()
        .filter(|rule| rule.kind == RuleKind::Record && !too_deep(&rule.expr))
        .filter(|rule| alerts::has_condition(&rule.expr.expr, &nothing))
        .map(|rule| rule.name.value.as_str())
        .collect();
    let recorded = order::Recorded::of(file);
    for (g, group) in file.groups.iter().enumerate() {
        for (i, rule) in group.rules.iter().enumerate() {
            let rule = Rule { file, group, number: i + 1, rule, conditional: &conditional };
            let before = findings.len();
            if !too_deep(&rule.rule.expr) {
                alerts::look(&rule, &mut findings);
                joins::look(&rule, &mut findings);
                order::look(&rule, g, &recorded, &mut findings);
                habits::look(&rule, &mut findings);
            }
            templates::look(&rule, &mut findings);
            if findings.len() > before {
                let allowed = allowed(file, rule.rule);
                let mut kept = findings.split_off(before);
                kept.retain(|f| !allowed.iter().any(|code| code == f.code || code == "all"));
                findings.append(&mut kept);
            }
        }
    }
    crate::finding::sort(&mut findings);
    // What a label of a group does wrong is the same for each of its rules.
    let of_group = |span: Span| {
        let labels = file.groups.iter().flat_map(|g| &g.labels);
        labels.map(|(_, value)| value.span).any(|whole| whole.start <= span.start && span.end <= whole.end)
    };
    findings.dedup_by(|a, b| (a.code, a.span, &a.hint) == (b.code, b.span, &b.hint) && of_group(a.span));
    findings
}

/// Levels of an expression that are looked at.
const MOST_LEVELS: usize = 500;

/// Expressions that nest deeper than any that a person writes are left alone.
fn too_deep(expr: &RuleExpr) -> bool {
    // Every level takes a byte at least.
    expr.text.len() > MOST_LEVELS && walk::depth_exceeds(&expr.expr, MOST_LEVELS)
}

/// Codes that comments in or right above a rule allow.
fn allowed(file: &RuleFile, rule: &RuleSpec) -> Vec<String> {
    let source = &file.source;
    let (first, _) = source.line_col(rule.span.start as usize);
    let (last, _) = source.line_col(rule.span.end as usize);
    let mut from = first;
    while from > 1 && source.line(from - 1).trim_start().starts_with('#') {
        from -= 1;
    }
    let mut codes = Vec::new();
    for number in from..=last {
        let Some((_, rest)) = source.line(number).split_once("# tsdbctl: allow ") else { continue };
        codes.extend(rest.split([',', ' ']).filter(|c| !c.is_empty()).map(str::to_string));
    }
    codes
}

#[cfg(test)]
mod tests;
