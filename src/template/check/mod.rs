//! What can be said of a rule's template without running it: an abstract run over types.
//!
//! An error is claimed only where every run that gets so far fails or prints what nobody wants (`%!d(float64=1)`, an
//! address, a label that is not there). What is not known has the type `Unknown`, of which nothing is claimed.

mod calls;
mod operands;
mod statements;
mod types;

use tsdbctl_model::Span;

use crate::ast::{Ast, NodeId};
use crate::func::FunctionSet;
use crate::rule::{PREFIX, own_span};
use crate::template::Template;

use self::types::Type;

/// Deeper nesting is not looked at.
const MAX_DEPTH: usize = 200;
/// So many calls of templates are followed.
const MAX_CALLS: usize = 200;

/// Whether the result of the rule's expression has a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every series has it.
    Certain,
    /// A series may have it.
    Possible,
    /// No series has it.
    Impossible,
}

/// What is known about the rule around a template.
pub trait Knowledge {
    /// Whether the result of the rule's expression has the label.
    fn can_have(&self, label: &str) -> Presence;
    /// Whether `$value` may be a histogram.
    fn value_may_be_histogram(&self) -> bool;
    /// What is wrong with a query: the error's text.
    ///
    /// # Errors
    /// If it does not parse, or gives no vector or scalar.
    fn check_query(&self, query: &str) -> Result<(), String>;
}

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A label: part of the alert's identity.
    Label,
    /// An annotation.
    Annotation,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Sure to fail, or to print nonsense.
    Error,
    /// An error whenever that part of the template is reached.
    Warning,
    /// Works, and may not be what is meant.
    Note,
}

/// Something to say about a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where, in the template's own text.
    pub span: Span,
    /// How bad it is.
    pub severity: Severity,
    /// Its kind, by a stable name.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Checks the template `text` of a label or annotation.
pub fn check(text: &str, place: Place, knowledge: &dyn Knowledge) -> Vec<Finding> {
    if !text.contains("{{") {
        return Vec::new();
    }
    let template = match Template::parse("", &format!("{PREFIX}{text}"), FunctionSet::PROMETHEUS) {
        Ok(template) => template,
        Err(error) => {
            return vec![Finding {
                span: own_span(error.span, text),
                severity: Severity::Error,
                code: "template-syntax",
                message: error.message,
                hint: error.hint,
            }];
        }
    };
    let Some(tree) = template.ast().tree("") else { return Vec::new() };
    // An empty text whose name a definition takes has no prefix.
    if template.ast().node(tree.root).span.start != 0 {
        return Vec::new();
    }
    let mut checker = Checker {
        ast: template.ast(),
        text,
        place,
        knowledge,
        findings: Vec::new(),
        variables: vec![("$".to_string(), Type::Data)],
        dot: Type::Data,
        depth: 0,
        calls: 0,
        is_sure: true,
        is_test: false,
    };
    checker.list(tree.root);
    let mut findings = checker.findings;
    findings.sort_by_key(|f| (f.span.start, f.span.end, f.severity));
    findings.dedup_by(|a, b| (a.span, a.code) == (b.span, b.code));
    findings
}

struct Checker<'a> {
    ast: &'a Ast,
    text: &'a str,
    place: Place,
    knowledge: &'a dyn Knowledge,
    findings: Vec<Finding>,
    variables: Vec<(String, Type)>,
    dot: Type,
    depth: usize,
    calls: usize,
    /// Every run gets here.
    is_sure: bool,
    /// The value is looked at, not printed.
    is_test: bool,
}

/// An operand with its node.
type Operand = (NodeId, Type);

impl Checker<'_> {
    fn report(&mut self, id: NodeId, severity: Severity, code: &'static str, message: String, hint: &str) {
        let span = own_span(self.ast.node(id).span, self.text);
        let hint = (!hint.is_empty()).then(|| hint.to_string());
        self.findings.push(Finding { span, severity, code, message, hint });
    }

    /// What fails if it is reached.
    fn fails(&mut self, id: NodeId, code: &'static str, message: String, hint: &str) {
        let severity = if self.is_sure { Severity::Error } else { Severity::Warning };
        self.report(id, severity, code, message, hint);
    }

    /// What prints nonsense if it is printed.
    fn misprints(&mut self, id: NodeId, code: &'static str, message: String, hint: &str) {
        let severity = match (self.is_test, self.is_sure) {
            (true, _) => Severity::Note,
            (false, true) => Severity::Error,
            (false, false) => Severity::Warning,
        };
        self.report(id, severity, code, message, hint);
    }

    fn within<T>(&mut self, is_sure: bool, is_test: bool, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = (self.is_sure, self.is_test);
        self.is_sure &= is_sure;
        self.is_test |= is_test;
        let result = run(self);
        (self.is_sure, self.is_test) = before;
        result
    }
}

#[cfg(test)]
mod tests;
