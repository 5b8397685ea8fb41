//! What is known of a value, and of what functions give.

use crate::func::{Function, Parameter};

use super::Operand;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Unknown,
    Nil,
    Bool,
    Int,
    Float,
    /// A text; the text itself if it is written in the template or sure to be empty.
    Text(Option<String>),
    Html,
    /// `$labels`
    Labels,
    TextMap,
    AnyMap,
    Samples {
        may_be_empty: bool,
    },
    Sample,
    Time,
    Duration,
    /// What `.` is at first.
    Data,
}

impl Type {
    pub(super) fn go_type(&self) -> &'static str {
        match self {
            Self::Unknown => "interface {}",
            Self::Nil => "<nil>",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Text(_) => "string",
            Self::Html => "template.HTML",
            Self::Labels | Self::TextMap => "map[string]string",
            Self::AnyMap => "map[string]interface {}",
            Self::Samples { .. } => "template.queryResult",
            Self::Sample => "*template.sample",
            Self::Time => "*time.Time",
            Self::Duration => "*time.Duration",
            Self::Data => "the template's data",
        }
    }

    pub(super) fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Nil)
    }

    /// The kinds that `eq` and `lt` tell apart; `None` for what has no order.
    pub(super) fn comparable(&self) -> Option<u8> {
        match self {
            Self::Bool => Some(0),
            Self::Int => Some(1),
            Self::Float => Some(2),
            Self::Text(_) | Self::Html => Some(3),
            _ => None,
        }
    }

    pub(super) fn passes_as(&self, parameter: Parameter) -> bool {
        match (self, parameter) {
            (Self::Unknown, _) | (_, Parameter::Any | Parameter::Reflect) => true,
            (Self::Nil, _) => parameter.can_be_nil(),
            (Self::Text(_), Parameter::String)
            | (Self::Samples { .. }, Parameter::Samples)
            | (Self::Sample, Parameter::Sample) => true,
            (_, Parameter::String | Parameter::Samples | Parameter::Sample) => false,
            _ => true,
        }
    }
}

pub(super) fn join(a: &Type, b: &Type) -> Type {
    match (a, b) {
        _ if a == b => a.clone(),
        (Type::Text(_), Type::Text(_)) => Type::Text(None),
        (Type::Samples { .. }, Type::Samples { .. }) => Type::Samples { may_be_empty: true },
        _ => Type::Unknown,
    }
}

/// The type of what a function gives.
pub(super) fn result(function: &Function, operands: &[Operand]) -> Type {
    let first = operands.first().map_or(Type::Unknown, |o| o.1.clone());
    match function.name {
        "query" => Type::Samples { may_be_empty: true },
        "sortByLabel" => match operands.get(1) {
            Some((_, of @ Type::Samples { .. })) => of.clone(),
            _ => Type::Samples { may_be_empty: true },
        },
        "first" => Type::Sample,
        "label" | "strvalue" | "reReplaceAll" | "title" | "toUpper" | "toLower" | "graphLink"
        | "tableLink" | "stripPort" | "stripDomain" | "humanize" | "humanize1024" | "humanizeDuration"
        | "humanizePercentage" | "humanizeTimestamp" | "pathPrefix" | "externalURL" | "urlQueryEscape"
        | "html" | "js" | "urlquery" | "print" | "printf" | "println" => Type::Text(None),
        "safeHtml" => Type::Html,
        "match" | "not" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => Type::Bool,
        "len" => Type::Int,
        "now" | "parseDuration" => Type::Float,
        "toTime" => Type::Time,
        "toDuration" => Type::Duration,
        "args" => Type::AnyMap,
        "and" | "or" => {
            operands.iter().map(|o| o.1.clone()).reduce(|a, b| join(&a, &b)).unwrap_or(Type::Unknown)
        }
        "index" if operands.len() == 2 => match first {
            Type::Labels | Type::TextMap => Type::Text(None),
            Type::Samples { .. } => Type::Sample,
            _ => Type::Unknown,
        },
        "index" if operands.len() == 1 => first,
        "slice" => match first {
            Type::Text(_) => Type::Text(None),
            Type::Html => Type::Html,
            Type::Samples { .. } => Type::Samples { may_be_empty: true },
            _ => Type::Unknown,
        },
        _ => Type::Unknown,
    }
}
