//! Templates of alerting rules' labels and annotations: upstream's prefix, name and error texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_model::{Labels, Span};

use crate::ast::{Ast, NodeKind};
use crate::exec::{Limits, Start};
use crate::format;
use crate::func::FunctionSet;
use crate::reflect::Cell;
use crate::template::Template;
use crate::value::{Field, Struct};
use crate::{TemplateError, TemplateSample, Value};

/// What upstream puts before every text, on the same line.
pub(crate) const PREFIX: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                      {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// How many statements the prefix is.
const PREFIX_STATEMENTS: usize = 4;

const DATA_TYPE: &str = "struct { Labels map[string]string; ExternalLabels map[string]string; \
                         ExternalURL string; Value interface {} }";

/// What a template may ask of the world outside.
pub trait Environment {
    /// An instant query at the time of the evaluation, its result sorted as upstream does. A scalar is one sample
    /// without labels.
    ///
    /// # Errors
    /// The text of the query's error.
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String>;
    /// The time of the evaluation (`now`), Unix ms.
    fn now_ms(&self) -> i64;
    /// The server's external URL (`externalURL`, `pathPrefix`), without a slash at its end; empty where there is none.
    fn external_url(&self) -> &str;
}

/// What `$labels`, `$externalLabels`, `$externalURL` and `$value` are.
#[derive(Clone, Debug)]
pub struct RuleData<'a> {
    /// Labels of the element that the rule's expression gave.
    pub labels: &'a Labels,
    /// The server's external labels.
    pub external_labels: &'a Labels,
    /// `$externalURL`
    pub external_url: &'a str,
    /// [`Value::Float`] or [`Value::Histogram`].
    pub value: Value,
}

/// A template of one label or annotation, parsed once.
#[derive(Clone, Debug)]
pub struct RuleTemplate {
    /// The template's own text.
    pub text: String,
    program: Program,
}

#[derive(Clone, Debug)]
enum Program {
    /// The text is its own result.
    Plain,
    /// Nothing but text, labels and the value, which needs no execution.
    Pieces(Box<[Piece]>),
    Full(Arc<Template>),
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Label(Box<str>),
    ExternalLabel(Box<str>),
    ExternalUrl,
    Value,
}

impl RuleTemplate {
    /// Parses the template of a rule called `alert`, as when rules are loaded.
    ///
    /// # Errors
    /// Upstream's text at load, `template: __alert_NAME:LINE: …`. Its span is in `text`.
    pub fn parse(alert: &str, text: &str) -> Result<Self, TemplateError> {
        let text = text.to_string();
        if !text.contains("{{") {
            return Ok(Self { text, program: Program::Plain });
        }
        let name = format!("__alert_{alert}");
        let template = Template::parse(&name, &format!("{PREFIX}{text}"), FunctionSet::PROMETHEUS)
            .map_err(|e| TemplateError { span: own_span(e.span, &text), ..e })?;
        let program = match pieces(template.ast(), &name) {
            Some(pieces) => Program::Pieces(pieces),
            None => Program::Full(Arc::new(template)),
        };
        Ok(Self { text, program })
    }

    /// Whether the text holds no action, so that it is its own result.
    pub fn is_plain(&self) -> bool {
        matches!(self.program, Program::Plain)
    }

    /// Renders it.
    ///
    /// # Errors
    /// Upstream's whole text, `error executing template __alert_NAME: …`; a rule then takes
    /// `<error expanding template: TEXT>` as the value. Its span is in the template's own text.
    pub fn expand(
        &self,
        data: &RuleData<'_>,
        environment: &mut dyn Environment,
    ) -> Result<String, TemplateError> {
        let template = match &self.program {
            Program::Plain => return Ok(self.text.clone()),
            Program::Pieces(pieces) => return Ok(join(pieces, data)),
            Program::Full(template) => template,
        };
        let labels = map(data.labels);
        let external_labels = map(data.external_labels);
        let external_url = Value::text(data.external_url);
        let field = |name, value: &Value, interface| Field { name, value: value.clone(), interface };
        let dot = Value::Struct(Arc::new(Struct {
            go_type: DATA_TYPE,
            fields: vec![
                field("Labels", &labels, false),
                field("ExternalLabels", &external_labels, false),
                field("ExternalURL", &external_url, false),
                field("Value", &data.value, true),
            ],
        }));
        let name = template.name();
        // An empty text leaves the place to a template of the same name that it defines, which has no prefix.
        let prefixed = starts_with_prefix(template.ast(), name);
        let start = if prefixed {
            Start {
                statement: PREFIX_STATEMENTS,
                variables: vec![
                    ("$labels", labels.into()),
                    ("$externalLabels", external_labels.into()),
                    ("$externalURL", external_url.into()),
                    ("$value", Cell::from(data.value.clone())),
                ],
            }
        } else {
            Start { statement: 0, variables: Vec::new() }
        };
        template.execute_from(name, dot.into(), start, environment, Limits::default()).map_err(|e| {
            TemplateError {
                message: format!("error executing template {name}: {}", e.message),
                span: own_span(e.span, &self.text),
                hint: e.hint,
            }
        })
    }

    /// The template with its prefix, if it is more than text, labels and values.
    pub fn template(&self) -> Option<&Template> {
        match &self.program {
            Program::Full(template) => Some(template),
            _ => None,
        }
    }
}

fn starts_with_prefix(ast: &Ast, name: &str) -> bool {
    ast.tree(name).is_some_and(|tree| ast.node(tree.root).span.start == 0)
}

/// A place behind the prefix, in the text alone.
pub(crate) fn own_span(span: Span, text: &str) -> Span {
    let shift = |offset: u32| (offset as usize).saturating_sub(PREFIX.len()).min(text.len());
    Span::new(shift(span.start), shift(span.end))
}

fn map(labels: &Labels) -> Value {
    let map: BTreeMap<String, String> =
        labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
    Value::StrMap(Arc::new(map))
}

/// The template as pieces, if it is made of those alone.
fn pieces(ast: &Ast, name: &str) -> Option<Box<[Piece]>> {
    if ast.trees.len() != 1 || !starts_with_prefix(ast, name) {
        return None;
    }
    let piece = |id| match ast.kind(id) {
        NodeKind::Text(text) => Some(Piece::Text(text.clone())),
        NodeKind::Action(pipe) => {
            let NodeKind::Pipe { variables, commands, .. } = ast.kind(*pipe) else { return None };
            let (true, [command]) = (variables.is_empty(), commands.as_slice()) else { return None };
            let NodeKind::Command(args) = ast.kind(*command) else { return None };
            let [arg] = args.as_slice() else { return None };
            let names: Vec<&str> = match ast.kind(*arg) {
                NodeKind::Variable(names) | NodeKind::Field(names) => names.iter().map(|n| &**n).collect(),
                _ => return None,
            };
            match names.as_slice() {
                ["$labels" | "Labels", label] | ["$", "Labels", label] => Some(Piece::Label((*label).into())),
                ["$externalLabels" | "ExternalLabels", label] => Some(Piece::ExternalLabel((*label).into())),
                ["$externalURL" | "ExternalURL"] => Some(Piece::ExternalUrl),
                ["$value" | "Value"] => Some(Piece::Value),
                _ => None,
            }
        }
        _ => None,
    };
    ast.list(ast.trees[0].root).iter().skip(PREFIX_STATEMENTS).map(|id| piece(*id)).collect()
}

fn join(pieces: &[Piece], data: &RuleData<'_>) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Label(name) => out.push_str(data.labels.get(name)),
            Piece::ExternalLabel(name) => out.push_str(data.external_labels.get(name)),
            Piece::ExternalUrl => out.push_str(data.external_url),
            Piece::Value => format::print_indirect(&data.value, &mut out, usize::MAX),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_as_long_as_upstreams() {
        assert_eq!(PREFIX.len(), 112);
    }
}
