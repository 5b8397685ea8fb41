//! Which rule reads what which rule writes, and so which may be evaluated at the same time.

use hashbrown::HashMap;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::{MatchType, Matcher};
use tsdbctl_promql::engine::{Features, QueryOptions, parse_query};
use tsdbctl_promql::parser::ast::{Expr, VectorSelector};
use tsdbctl_template::RuleTemplate;
use tsdbctl_template::ast::NodeKind;

use crate::alerting::{ALERT_NAME, ALERTS, ALERTS_FOR_STATE};
use crate::group::Rule;

/// A rule among all groups' rules.
#[derive(Clone, Copy, Debug)]
pub struct RuleNode<'a> {
    /// Number of its group.
    pub group: usize,
    /// Its number within the group, from 0.
    pub index: usize,
    /// The rule.
    pub rule: &'a Rule,
}

/// Why one rule depends on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A selector of the expression matches the recorded metric; the selector as it prints.
    Metric(String),
    /// A selector matches `ALERTS` or `ALERTS_FOR_STATE` of the alert.
    Alerts(String),
    /// As either, in a `query` of a template; the query.
    Template(String),
    /// Both write series of one name.
    SameName(String),
    /// A selector names no metric, so that it may read anything.
    Unknown(String),
}

/// `reader` depends on `writer`; both count the list that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The rule that is read, or that writes first.
    pub writer: usize,
    /// The rule that reads.
    pub reader: usize,
    /// Why.
    pub reason: Reason,
}

/// All reads of a rule.
#[derive(Clone, Debug, Default)]
struct Reads {
    /// Matchers of each selector, its text, and whether it stands in a template.
    selectors: Vec<(Vec<Matcher>, String, bool)>,
    /// A template computes its query.
    computed: Option<String>,
}

/// Rules by what they write, so that not every rule is held against every other.
struct Writers<'a> {
    records: HashMap<&'a str, Vec<usize>>,
    alerts: HashMap<&'a str, Vec<usize>>,
    all_alerts: Vec<usize>,
    all: Vec<usize>,
}

impl<'a> Writers<'a> {
    fn new(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let (records, alerts) = (HashMap::new(), HashMap::new());
        let mut writers = Self { records, alerts, all_alerts: Vec::new(), all: Vec::new() };
        for (i, rule) in rules.enumerate() {
            match rule {
                Rule::Record(rule) => writers.records.entry(rule.name.as_str()).or_default().push(i),
                Rule::Alert(rule) => {
                    writers.alerts.entry(rule.name.as_str()).or_default().push(i);
                    writers.all_alerts.push(i);
                }
            }
            writers.all.push(i);
        }
        writers
    }

    fn recording(&self, name: &str) -> impl Iterator<Item = usize> {
        self.records.get(name).into_iter().flatten().copied()
    }

    /// The rules that `rule` may be tied to as their reader or by a shared name, in order; more than are tied, but
    /// none is missing.
    fn near(&self, rule: &Rule, reads: &Reads) -> Vec<usize> {
        let mut near: Vec<usize> = Vec::new();
        if reads.computed.is_some() {
            return self.all.clone();
        }
        for (matchers, ..) in &reads.selectors {
            let equal = |name: &str| {
                matchers.iter().find(|m| m.name == name && m.kind == MatchType::Equal).map(|m| &m.value)
            };
            // Any other matcher of the name may fit any name.
            let Some(metric) = equal(METRIC_NAME) else { return self.all.clone() };
            near.extend(self.recording(metric));
            if metric == ALERTS || metric == ALERTS_FOR_STATE {
                match equal(ALERT_NAME) {
                    Some(name) => near.extend(self.alerts.get(name.as_str()).into_iter().flatten()),
                    None => near.extend(&self.all_alerts),
                }
            }
        }
        match rule {
            Rule::Record(rule) => {
                near.extend(self.recording(&rule.name));
                if rule.name == ALERTS || rule.name == ALERTS_FOR_STATE {
                    near.extend(&self.all_alerts);
                }
            }
            Rule::Alert(rule) => {
                near.extend(self.alerts.get(rule.name.as_str()).into_iter().flatten());
                near.extend(self.recording(ALERTS).chain(self.recording(ALERTS_FOR_STATE)));
            }
        }
        near.sort_unstable();
        near.dedup();
        near
    }
}

/// Every dependency between the rules, by reader and then by writer. A rule that reads itself is an edge to itself.
pub fn edges(rules: &[RuleNode<'_>]) -> Vec<Edge> {
    let writers = Writers::new(rules.iter().map(|n| n.rule));
    let mut edges = Vec::new();
    for (reader, node) in rules.iter().enumerate() {
        let reads = reads(node.rule);
        for writer in writers.near(node.rule, &reads) {
            let other = rules[writer];
            if let Some(reason) = reason(&reads, other.rule) {
                edges.push(Edge { writer, reader, reason });
            } else if writer < reader
                && let Some(name) = shared_name(other.rule, node.rule)
            {
                edges.push(Edge { writer, reader, reason: Reason::SameName(name) });
            }
        }
    }
    edges
}

/// The rules of a group in batches that may each be evaluated at the same time, so that all see what they see in
/// order: first those that need nothing before them, then one by one those in the middle, then those that nothing
/// after them needs. A rule that may read anything leaves all in order.
pub fn batches(rules: &[Rule]) -> Vec<Vec<usize>> {
    let in_order = || (0..rules.len()).map(|i| vec![i]).collect();
    let reads: Vec<Reads> = rules.iter().map(reads).collect();
    if reads.iter().any(|r| r.computed.is_some() || r.selectors.iter().any(|(m, ..)| names(m).is_none())) {
        return in_order();
    }
    let writers = Writers::new(rules.iter());
    let (mut needs, mut needed) = (vec![false; rules.len()], vec![false; rules.len()]);
    for (i, rule) in rules.iter().enumerate() {
        for other in writers.near(rule, &reads[i]) {
            // An earlier rule that reads a later one must see the old value: it has to go first as well.
            let tied = other != i
                && (reason(&reads[i], &rules[other]).is_some() || shared_name(rule, &rules[other]).is_some());
            if tied {
                (needs[i.max(other)], needed[i.min(other)]) = (true, true);
            }
        }
    }
    let pick =
        |keep: &dyn Fn(usize) -> bool| -> Vec<usize> { (0..rules.len()).filter(|i| keep(*i)).collect() };
    let first = pick(&|i| !needs[i]);
    let middle = pick(&|i| needs[i] && needed[i]);
    let last = pick(&|i| needs[i] && !needed[i]);
    let parts = std::iter::once(first).chain(middle.into_iter().map(|i| vec![i])).chain([last]);
    parts.filter(|batch| !batch.is_empty()).collect()
}

fn names(matchers: &[Matcher]) -> Option<impl Iterator<Item = &Matcher>> {
    let is_name = |m: &&Matcher| m.name == METRIC_NAME;
    matchers.iter().any(|m| m.name == METRIC_NAME).then(|| matchers.iter().filter(is_name))
}

/// Why a rule with these reads depends on `writer`.
fn reason(reads: &Reads, writer: &Rule) -> Option<Reason> {
    let fits =
        |matchers: &[Matcher], name: &str| names(matchers).is_some_and(|mut n| n.all(|m| m.matches(name)));
    for (matchers, text, in_template) in &reads.selectors {
        let found = match writer {
            Rule::Record(rule) => fits(matchers, &rule.name).then(|| Reason::Metric(text.clone())),
            Rule::Alert(rule) => {
                let mut alert_names = matchers.iter().filter(|m| m.name == ALERT_NAME);
                ((fits(matchers, ALERTS) || fits(matchers, ALERTS_FOR_STATE))
                    && alert_names.all(|m| m.matches(&rule.name)))
                .then(|| Reason::Alerts(text.clone()))
            }
        };
        if found.is_some() {
            return if *in_template { Some(Reason::Template(text.clone())) } else { found };
        }
    }
    let unnamed = reads.selectors.iter().find(|(matchers, ..)| names(matchers).is_none());
    if let Some((_, text, _)) = unnamed {
        return Some(Reason::Unknown(text.clone()));
    }
    reads.computed.clone().map(Reason::Unknown)
}

fn shared_name(a: &Rule, b: &Rule) -> Option<String> {
    let same = match (a, b) {
        (Rule::Record(a), Rule::Record(b)) => a.name == b.name,
        (Rule::Alert(a), Rule::Alert(b)) => a.name == b.name,
        (Rule::Record(r), Rule::Alert(_)) | (Rule::Alert(_), Rule::Record(r)) => {
            r.name == ALERTS || r.name == ALERTS_FOR_STATE
        }
    };
    same.then(|| b.name().to_string())
}

fn reads(rule: &Rule) -> Reads {
    let mut reads = Reads::default();
    add_expr(&mut reads, &rule.expr().expr, None);
    if let Rule::Alert(rule) = rule {
        for named in rule.labels.iter().chain(&rule.annotations) {
            add_template(&mut reads, &named.template);
        }
    }
    reads
}

fn add_expr(reads: &mut Reads, expr: &Expr, template: Option<&str>) {
    let mut stack = vec![expr];
    let selectors = &mut reads.selectors;
    let mut add = |matchers: Vec<Matcher>, text: String| {
        selectors.push((matchers, template.map_or(text, str::to_string), template.is_some()));
    };
    let text = |selector: &VectorSelector| Expr::Vector(Box::new(selector.clone())).to_string();
    while let Some(expr) = stack.pop() {
        match expr {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Paren(e) => stack.push(&e.expr),
            Expr::Unary(e) => stack.push(&e.expr),
            Expr::Binary(e) => stack.extend([&e.rhs, &e.lhs]),
            Expr::Aggregate(e) => stack.extend(e.param.iter().chain([&e.expr])),
            Expr::Call(e) => stack.extend(e.args.iter().rev()),
            Expr::Vector(e) => add(e.matchers.clone(), text(e)),
            Expr::Matrix(e) => add(e.selector.matchers.clone(), text(&e.selector)),
            Expr::Subquery(e) => stack.push(&e.expr),
        }
        if let Expr::Call(call) = expr
            && call.func.name == "info"
            && call.args.len() < 2
        {
            add(vec![Matcher::equal(METRIC_NAME, "target_info")], "target_info".to_string());
        }
    }
}

/// The queries of a template: constant ones are read as expressions, any other may be anything.
fn add_template(reads: &mut Reads, template: &RuleTemplate) {
    let Some(parsed) = template.template() else { return };
    let ast = parsed.ast();
    let mut stack: Vec<_> = ast.trees.iter().map(|t| t.root).collect();
    while let Some(id) = stack.pop() {
        match ast.kind(id) {
            NodeKind::List(list) => stack.extend(list),
            NodeKind::Action(pipe) => stack.push(*pipe),
            NodeKind::Branch { pipe, list, else_list, .. } => {
                stack.extend([*pipe, *list]);
                stack.extend(else_list);
            }
            NodeKind::Template { pipe, .. } => stack.extend(pipe),
            NodeKind::Chain { node, .. } => stack.push(*node),
            NodeKind::Pipe { commands, .. } => {
                for (k, command) in commands.iter().enumerate() {
                    let NodeKind::Command(words) = ast.kind(*command) else { continue };
                    stack.extend(words);
                    let is_query = words.first().is_some_and(
                        |w| matches!(ast.kind(*w), NodeKind::Identifier(f) if f.name == "query"),
                    );
                    if !is_query {
                        continue;
                    }
                    // `query "m"`, or `"m" | query`.
                    let piped = || match (k.checked_sub(1).map(|p| ast.kind(commands[p])), k) {
                        (Some(NodeKind::Command(before)), 1) if before.len() == 1 => Some(before[0]),
                        _ => None,
                    };
                    let argument = words.get(1).copied().or_else(piped);
                    match argument.map(|a| ast.kind(a)) {
                        Some(NodeKind::Str { text, .. }) => add_query(reads, text),
                        _ => reads.computed = Some(ast.text(*command)),
                    }
                }
            }
            _ => {}
        }
    }
}

fn add_query(reads: &mut Reads, text: &str) {
    let features = Features {
        experimental_functions: true,
        extended_range_selectors: true,
        binop_fill_modifiers: true,
        ..Features::default()
    };
    // What is no expression reads nothing: it fails.
    if let Ok(expr) = parse_query(text, &QueryOptions { features, ..QueryOptions::default() }) {
        add_expr(reads, &expr, Some(text));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_yaml::Source;

    use super::*;
    use crate::file::{ReadOptions, read};
    use crate::group::{Group, Settings};

    fn rules(text: String) -> Vec<Rule> {
        let file = read(Arc::new(Source::new("f.yml", text)), &ReadOptions::default()).expect("reads");
        Group::new("f.yml", &file.groups[0], &Settings::default(), false).expect("a group").rules
    }

    fn nodes(rules: &[Rule]) -> Vec<RuleNode<'_>> {
        rules.iter().enumerate().map(|(index, rule)| RuleNode { group: 0, index, rule }).collect()
    }

    #[test]
    fn what_is_looked_up_by_name_is_what_comparing_all_with_all_finds() {
        let exprs = [
            "m0",
            "m1 + m2",
            "ALERTS",
            "ALERTS_FOR_STATE{alertname=\"A1\"}",
            "ALERTS{alertname=~\"A.\"}",
            "{__name__=~\"m[12]\"}",
            "{__name__!=\"m1\",a=\"b\"}",
            "{a=\"b\"}",
            "{__name__=\"m1\"}",
            "{\"m2\"}",
            "rate(m0[5m:1m])",
            "other",
        ];
        let mut dice = 1_u64;
        let mut below = |n: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % n
        };
        for _ in 0..300 {
            let mut text = "groups:\n- name: g\n  rules:\n".to_string();
            for _ in 0..1 + below(8) {
                let name = ["m0", "m1", "m2", "ALERTS"][below(4)];
                let head = match below(3) {
                    0 => format!("alert: A{}", below(3)),
                    _ => format!("record: {name}"),
                };
                text += &format!("  - {head}\n    expr: '{}'\n", exprs[below(exprs.len())]);
            }
            let rules = rules(text.clone());
            let mut plain = Vec::new();
            for (reader, own) in rules.iter().enumerate() {
                let reads = reads(own);
                for (writer, other) in rules.iter().enumerate() {
                    if let Some(reason) = reason(&reads, other) {
                        plain.push(Edge { writer, reader, reason });
                    } else if writer < reader
                        && let Some(name) = shared_name(other, own)
                    {
                        plain.push(Edge { writer, reader, reason: Reason::SameName(name) });
                    }
                }
            }
            assert_eq!(edges(&nodes(&rules)), plain, "{text}");
        }
    }

    #[test]
    fn thousands_of_rules_that_read_one_another_are_few_edges() {
        let mut text = "groups:\n- name: g\n  rules:\n".to_string();
        for i in 0..5000 {
            text += &format!("  - record: r{}\n    expr: r{i} + m\n", i + 1);
        }
        let rules = rules(text);
        assert_eq!(edges(&nodes(&rules)).len(), 4999);
        assert_eq!(batches(&rules).len(), 5000);
    }
}
