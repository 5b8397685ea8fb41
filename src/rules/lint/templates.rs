//! Templates of labels and annotations: what can be said of them with the labels and values that the rule's expression
//! can give.

use std::cell::RefCell;

use tsdbctl_model::Span;
use tsdbctl_model::quote::go_quote;
use tsdbctl_promql::engine::Features;
use tsdbctl_promql::parser::ast::{AggregateOp, BinaryOp, Expr, ValueType};
use tsdbctl_promql::parser::functions::FunctionId;
use tsdbctl_promql::parser::parse;
use tsdbctl_template::RuleTemplate;
use tsdbctl_template::check::{self, Knowledge, Place};
use tsdbctl_yaml::Spanned;

use super::Rule;
use crate::check::{template_hint, within};
use crate::file::RuleKind;
use crate::finding::{Finding, Severity};
use crate::labels::{LabelSet, Presence, analyze};

/// Looks at one rule.
pub(super) fn look(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    let spec = rule.rule;
    if spec.kind == RuleKind::Record {
        for (key, value) in spec.labels.iter().filter(|(_, value)| value.value.contains("{{")) {
            let message = format!("label {}: recording rules expand no templates", key.value);
            findings.push(
                rule.finding(Severity::Warning, "template-in-recording-rule", value.span, message)
                    .with_hint("set the label in the expression, for example with label_replace"),
            );
        }
        return;
    }
    for (key, _) in spec.labels.iter().filter(|(key, _)| key.value == "alertname") {
        let message = "the label alertname is replaced by the alert's name".to_string();
        findings.push(
            rule.finding(Severity::Warning, "overridden-label", key.span, message)
                .with_hint("take it away, or rename the alert"),
        );
    }
    let is_template = |(_, value): &&(Spanned<String>, Spanned<String>)| value.value.contains("{{");
    // The group's labels are expanded as those of each of its alerts, and nobody parses them before that.
    let of_group: Vec<_> = rule
        .group
        .labels
        .iter()
        .filter(is_template)
        .filter(|(key, _)| spec.labels.iter().all(|(own, _)| own.value != key.value))
        .collect();
    if of_group.is_empty() && !spec.labels.iter().chain(&spec.annotations).any(|pair| is_template(&pair)) {
        return;
    }
    let expr = &*spec.expr.expr;
    let deep = super::too_deep(&spec.expr);
    let known = Known {
        sets: if deep { Vec::new() } else { analyze(expr) },
        histogram: deep || may_be_histogram(expr),
        asked: RefCell::new(Vec::new()),
    };
    for (place, pairs) in [(Place::Label, &spec.labels), (Place::Annotation, &spec.annotations)] {
        for (key, value) in pairs.iter().filter(is_template) {
            template(rule, &known, place, key, value, findings);
        }
    }
    for (key, value) in of_group {
        template(rule, &known, Place::Label, key, value, findings);
        if let Err(error) = RuleTemplate::parse(&spec.name.value, &value.value) {
            let at = within(&rule.file.source, &value.value, value.span, error.span);
            let message = format!("label {}: {}", go_quote(&key.value), error.message);
            let hint = error.hint.unwrap_or_else(|| template_hint(&error.message));
            findings.push(rule.finding(Severity::Warning, "template-syntax", at, message).with_hint(hint));
        }
    }
}

/// What the expression says about the templates around it.
struct Known {
    sets: Vec<LabelSet>,
    histogram: bool,
    /// Labels that a template asked for.
    asked: RefCell<Vec<String>>,
}

impl Known {
    /// Ways to the result that have no such label.
    fn lacking(&self, label: &str) -> Vec<&LabelSet> {
        self.sets.iter().filter(|set| *set.presence(label) == Presence::Impossible).collect()
    }
}

impl Knowledge for Known {
    fn can_have(&self, label: &str) -> check::Presence {
        self.asked.borrow_mut().push(label.to_string());
        match self.lacking(label).len() {
            0 => check::Presence::Possible,
            n if n == self.sets.len() => check::Presence::Impossible,
            _ => check::Presence::Possible,
        }
    }

    fn value_may_be_histogram(&self) -> bool {
        self.histogram
    }

    fn check_query(&self, query: &str) -> Result<(), String> {
        let expr = parse(query, &Features::default()).map_err(|e| e.api_message(query))?;
        match expr.value_type() {
            kind @ (ValueType::Matrix | ValueType::String) => {
                Err(format!("it gives a {}, no instant vector or scalar", kind.documented()))
            }
            _ => Ok(()),
        }
    }
}

fn template(
    rule: &Rule<'_>,
    known: &Known,
    place: Place,
    key: &Spanned<String>,
    value: &Spanned<String>,
    findings: &mut Vec<Finding>,
) {
    known.asked.borrow_mut().clear();
    let source = &rule.file.source;
    for found in check::check(&value.value, place, known) {
        let at = within(source, &value.value, value.span, found.span);
        let text = value.value.get(found.span.start as usize..found.span.end as usize).unwrap_or("");
        let code = match found.code {
            "template-label" => "impossible-label",
            "template-value-in-label" => "value-in-label",
            // It was refused when the file was read, or is told of with its hint.
            "template-syntax" => continue,
            code => code,
        };
        // A condition gives one label for many values.
        if code == "value-in-label"
            && is_condition(value.value.get(..found.span.start as usize).unwrap_or(""))
        {
            continue;
        }
        if code == "impossible-label" {
            findings.push(impossible(rule, known, at, text, found.message));
            continue;
        }
        let severity = match found.severity {
            check::Severity::Error | check::Severity::Warning => Severity::Warning,
            // A label that changes with every evaluation is no matter of taste.
            check::Severity::Note if code == "value-in-label" => Severity::Warning,
            check::Severity::Note => Severity::Note,
        };
        let message = match code {
            "value-in-label" => format!(
                "label {} holds the value: whenever it changes, the alert is another one and `for` begins anew",
                key.value
            ),
            "template-query" => format!("query in template: {}", found.message),
            _ => found.message,
        };
        let hint = match code {
            "value-in-label" => "put the value into an annotation".to_string(),
            _ => found.hint.filter(|h| !h.is_empty()).unwrap_or_else(|| {
                "the template fails when it is rendered, and the text is an error message".to_string()
            }),
        };
        findings.push(rule.finding(severity, code, at, message).with_hint(hint));
    }
    let mut asked = known.asked.take();
    asked.sort_unstable();
    asked.dedup();
    for name in asked {
        let lacking = known.lacking(&name);
        let Some(first) = lacking.first().filter(|_| lacking.len() < known.sets.len()) else { continue };
        let Some(at) = value.value.find(&format!("$labels.{name}")) else { continue };
        let part = Span::new(at, at + "$labels.".len() + name.len());
        let message =
            format!("some series of the result have no label {name}: those of `{}`", rule.shown(first.span));
        let decided = rule.expr_place(first.decided_at(&name));
        findings.push(
            rule.finding(
                Severity::Note,
                "possible-label",
                within(source, &value.value, value.span, part),
                message,
            )
            .and_at(decided, format!("no {name} here")),
        );
    }
}

/// Whether the action that a text ends in is a condition.
fn is_condition(before: &str) -> bool {
    let action = before.rsplit("{{").next().unwrap_or("").trim_start_matches(['-', ' ']);
    ["if ", "else if "].iter().any(|word| action.starts_with(word))
}

/// A label that no series has: `text` is what names it.
fn impossible(rule: &Rule<'_>, known: &Known, at: Span, text: &str, message: String) -> Finding {
    let name = known
        .asked
        .borrow()
        .iter()
        .filter(|name| text.contains(name.as_str()))
        .max_by_key(|n| n.len())
        .cloned();
    let Some(name) = name else { return rule.finding(Severity::Warning, "impossible-label", at, message) };
    let message = format!("{text} is always empty: the expression's result has no label {name}");
    let finding = rule.finding(Severity::Warning, "impossible-label", at, message).with_hint(remedy(
        rule,
        &name,
        &known.sets,
    ));
    match known.sets.first() {
        Some(set) => {
            finding.and_at(rule.expr_place(set.decided_at(&name)), format!("{name} is dropped here"))
        }
        None => finding,
    }
}

/// What to do about a label that is not there.
fn remedy(rule: &Rule<'_>, name: &str, sets: &[LabelSet]) -> String {
    if name == "alertname" {
        return format!("write {} itself: $labels are those of the expression", rule.rule.name.value);
    }
    let own = rule.rule.labels.iter().any(|(key, _)| key.value == name);
    let group = rule.group.labels.iter().any(|(key, _)| key.value == name);
    if own || group {
        let whose = if own { "rule" } else { "group" };
        return format!("{name} is a label of the {whose}, which templates do not see; write its value");
    }
    let mut there: Vec<&str> = sets
        .iter()
        .flat_map(|set| set.named().filter(|(_, p)| **p != Presence::Impossible).map(|(name, _)| name))
        .filter(|name| *name != "__name__")
        .collect();
    there.sort_unstable();
    there.dedup();
    match there.len() {
        0 => format!("keep it in the expression, for example with by ({name})"),
        _ => format!("keep it in the expression: by ({name}, …); there are {}", there.join(", ")),
    }
}

/// Whether samples of the result may be histograms.
fn may_be_histogram(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Vector(_) | Expr::Matrix(_) => true,
        Expr::Paren(e) => may_be_histogram(&e.expr),
        Expr::Unary(e) => may_be_histogram(&e.expr),
        Expr::Subquery(e) => may_be_histogram(&e.expr),
        Expr::Aggregate(e) => match e.op {
            AggregateOp::Count
            | AggregateOp::CountValues
            | AggregateOp::Group
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Stddev
            | AggregateOp::Stdvar
            | AggregateOp::Quantile => false,
            _ => may_be_histogram(&e.expr),
        },
        Expr::Binary(e) => match e.op {
            // Histograms are not compared with numbers.
            op if op.is_comparison() => {
                !e.return_bool
                    && e.lhs.value_type() == ValueType::Vector
                    && e.rhs.value_type() == ValueType::Vector
                    && may_be_histogram(&e.lhs)
            }
            BinaryOp::And | BinaryOp::Unless => may_be_histogram(&e.lhs),
            _ => may_be_histogram(&e.lhs) || may_be_histogram(&e.rhs),
        },
        Expr::Call(call) => match call.func.id {
            FunctionId::Absent
            | FunctionId::AbsentOverTime
            | FunctionId::CountOverTime
            | FunctionId::PresentOverTime
            | FunctionId::Changes
            | FunctionId::Resets
            | FunctionId::HistogramQuantile
            | FunctionId::HistogramQuantiles
            | FunctionId::HistogramAvg
            | FunctionId::HistogramCount
            | FunctionId::HistogramSum
            | FunctionId::HistogramFraction
            | FunctionId::HistogramStddev
            | FunctionId::HistogramStdvar
            | FunctionId::Timestamp
            | FunctionId::Deriv
            | FunctionId::PredictLinear => false,
            _ if call.func.return_type == ValueType::Scalar => false,
            _ => call.args.iter().any(may_be_histogram),
        },
    }
}
