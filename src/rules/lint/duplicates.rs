//! Rules of one file that have the same name and labels: upstream's only lint of rules.

use std::fmt::Write as _;

use hashbrown::HashMap;

use crate::file::{GroupSpec, RuleFile, RuleSpec};
use crate::finding::{Finding, Severity, Subject};

/// Upstream's name of the check.
pub const DUPLICATE_RULES: &str = "duplicate-rules";

/// A rule whose name others have too.
struct Named<'f> {
    name: &'f str,
    /// Its labels and the group's, as far as they have values.
    labels: Vec<(String, String)>,
    group: &'f GroupSpec,
    number: usize,
    rule: &'f RuleSpec,
}

/// One finding for each name and labels that several rules have, in upstream's order, at the second of the rules.
/// Expressions do not count, and neither does whether a rule records or alerts.
pub fn duplicates(file: &RuleFile) -> Vec<Finding> {
    // Names differ nearly always: labels are put together only where they do not.
    let mut repeated: HashMap<&str, bool> = HashMap::new();
    let rules = || file.groups.iter().flat_map(|group| &group.rules);
    repeated.reserve(rules().count());
    for rule in rules() {
        repeated.entry(&rule.name.value).and_modify(|again| *again = true).or_insert(false);
    }
    let mut all: Vec<Named<'_>> = Vec::new();
    for group in &file.groups {
        let rules = group.rules.iter().enumerate();
        let rules = rules.filter(|(_, rule)| repeated.get(rule.name.value.as_str()) == Some(&true));
        all.extend(rules.map(|(i, rule)| {
            let mut labels = group.merged_labels(rule);
            labels.retain(|(_, value)| !value.is_empty());
            Named { name: &rule.name.value, labels, group, number: i + 1, rule }
        }));
    }
    all.sort_by(|a, b| (a.name, &a.labels).cmp(&(b.name, &b.labels)));
    let same = |a: &Named<'_>, b: &Named<'_>| a.name == b.name && a.labels == b.labels;
    let mut findings = Vec::new();
    for run in all.chunk_by(same).filter(|run| run.len() > 1) {
        let (first, Named { labels, group, number, rule, .. }) = (&run[0], &run[1]);
        let mut upstream = format!("Metric: {}\nLabel(s):\n", rule.name.value);
        for (name, value) in labels {
            let _ = writeln!(upstream, "\t{name}: {value}");
        }
        let message = "a rule of this name with the same labels stands before".to_string();
        let subject =
            Subject { group: group.name.value.clone(), rule: *number, name: rule.name.value.clone() };
        let mut finding =
            Finding::new(Severity::Warning, DUPLICATE_RULES, &file.source, rule.name.span, message)
                .about(subject)
                .with_hint("rename one, or give them labels that differ; both write the same series")
                .and_at(first.rule.name.span, "the first of them");
        for further in &run[2..] {
            finding = finding.and_at(further.rule.name.span, "one more");
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
