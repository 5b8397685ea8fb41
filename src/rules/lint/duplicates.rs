//! Rules of one file that have the same name and labels: upstream's only lint of rules.

use std::fmt::Write as _;

use crate::file::{GroupSpec, RuleFile, RuleSpec};
use crate::finding::{Finding, Severity, Subject};

/// Upstream's name of the check.
pub const DUPLICATE_RULES: &str = "duplicate-rules";

/// One finding for each name and labels that several rules have, in upstream's order, at the second of the rules.
/// Expressions do not count, and neither does whether a rule records or alerts.
pub fn duplicates(file: &RuleFile) -> Vec<Finding> {
    let mut all: Vec<(&GroupSpec, usize, &RuleSpec)> = Vec::new();
    for group in &file.groups {
        all.extend(group.rules.iter().enumerate().map(|(i, rule)| (group, i + 1, rule)));
    }
    // Names are compared first and differ nearly always; labels are put together only where they do not.
    let labels = |(group, _, rule): &(&GroupSpec, usize, &RuleSpec)| {
        let mut labels = group.merged_labels(rule);
        labels.retain(|(_, value)| !value.is_empty());
        labels
    };
    all.sort_by(|a, b| a.2.name.value.cmp(&b.2.name.value).then_with(|| labels(a).cmp(&labels(b))));
    let same = |a: &(&GroupSpec, usize, &RuleSpec), b: &(&GroupSpec, usize, &RuleSpec)| {
        a.2.name.value == b.2.name.value && labels(a) == labels(b)
    };
    let mut findings = Vec::new();
    for run in all.chunk_by(same).filter(|run| run.len() > 1) {
        let (first, (group, number, rule)) = (run[0], run[1]);
        let mut upstream = format!("Metric: {}\nLabel(s):\n", rule.name.value);
        for (name, value) in labels(&run[1]) {
            let _ = writeln!(upstream, "\t{name}: {value}");
        }
        let message = "a rule of this name with the same labels stands before".to_string();
        let subject =
            Subject { group: group.name.value.clone(), rule: number, name: rule.name.value.clone() };
        let mut finding =
            Finding::new(Severity::Warning, DUPLICATE_RULES, &file.source, rule.name.span, message)
                .about(subject)
                .with_hint("rename one, or give them labels that differ; both write the same series")
                .and_at(first.2.name.span, "the first of them");
        for further in &run[2..] {
            finding = finding.and_at(further.2.name.span, "one more");
        }
        finding.upstream = Some(upstream);
        findings.push(finding);
    }
    findings
}

/// What promtool prints about [`duplicates`]; `None` if there are none.
pub fn duplicate_report(duplicates: &[Finding]) -> Option<String> {
    let each: Vec<&str> = duplicates.iter().filter_map(|f| f.upstream.as_deref()).collect();
    if each.is_empty() {
        return None;
    }
    Some(format!(
        "lint error {} duplicate rule(s) found.\n{}Might cause inconsistency while recording expressions",
        each.len(),
        each.concat()
    ))
}
