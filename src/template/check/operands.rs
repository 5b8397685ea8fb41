//! Pipelines and operands: fields, variables, constants.

use crate::ast::{NodeId, NodeKind};
use crate::rule::{PREFIX, own_span};

use super::calls::looks_only;
use super::types::Type;
use super::{Checker, MAX_DEPTH, Operand, Place, Presence, Severity};

/// What to do about arguments of something that takes none.
const ARGUMENTS_HINT: &str =
    "only functions take arguments: take what follows away, or begin with a function";

impl Checker<'_> {
    pub(super) fn pipe(&mut self, id: NodeId) -> Type {
        let NodeKind::Pipe { assign, variables, commands } = self.ast.kind(id) else { return Type::Unknown };
        self.depth += 1;
        let of = if self.depth < MAX_DEPTH { self.commands(commands) } else { Type::Unknown };
        self.depth -= 1;
        for variable in variables {
            if let NodeKind::Variable(names) = self.ast.kind(*variable) {
                self.declare(*variable, &names[0], of.clone(), *assign);
            }
        }
        of
    }

    pub(super) fn commands(&mut self, commands: &[NodeId]) -> Type {
        let mut last: Option<Operand> = None;
        for (i, command) in commands.iter().enumerate() {
            let NodeKind::Command(args) = self.ast.kind(*command) else { return Type::Unknown };
            // What a later function makes of a value is seen there.
            let of = if i + 1 < commands.len() && self.passes_through(commands[i + 1]) {
                self.within(true, true, |c| c.command(args, last.take()))
            } else {
                self.command(args, last.take())
            };
            last = Some((*command, of));
        }
        last.map_or(Type::Unknown, |(_, of)| of)
    }

    /// Whether the command only looks at what is piped into it.
    fn passes_through(&self, command: NodeId) -> bool {
        let NodeKind::Command(args) = self.ast.kind(command) else { return false };
        match args.first().map(|a| self.ast.kind(*a)) {
            Some(NodeKind::Identifier(function)) => looks_only(function.name),
            _ => false,
        }
    }

    pub(super) fn command(&mut self, args: &[NodeId], last: Option<Operand>) -> Type {
        let Some((first, rest)) = args.split_first() else { return Type::Unknown };
        match self.ast.kind(*first) {
            NodeKind::Identifier(function) => self.call(*first, function, rest, last),
            NodeKind::Field(_) | NodeKind::Chain { .. } | NodeKind::Variable(_)
                if !rest.is_empty() || last.is_some() =>
            {
                for arg in rest {
                    self.within(true, true, |c| c.operand(*arg));
                }
                self.given_arguments(*first);
                Type::Unknown
            }
            _ if !rest.is_empty() || last.is_some() => {
                let name = self.own_text(*first);
                self.no_function(*first, &name);
                Type::Unknown
            }
            NodeKind::Nil => {
                self.fails(*first, "template-arguments", "nil is not a command".to_string(), "");
                Type::Unknown
            }
            _ => self.operand(*first),
        }
    }

    /// A variable, field or chain that is followed by arguments, or has a value piped into it.
    fn given_arguments(&mut self, id: NodeId) {
        let (of, names): (Type, &[Box<str>]) = match self.ast.kind(id) {
            NodeKind::Variable(names) if names.len() == 1 => return self.no_function(id, &names[0]),
            NodeKind::Variable(names) => (self.variable(&names[0]), &names[1..]),
            NodeKind::Field(names) => (self.dot.clone(), names),
            NodeKind::Chain { node, fields } => (self.within(true, true, |c| c.operand(*node)), fields),
            _ => return,
        };
        let Some((name, before)) = names.split_last() else { return };
        let message = match self.within(true, true, |c| c.fields(id, of, before)) {
            Type::Labels | Type::TextMap | Type::AnyMap => {
                format!("{name} is not a method but has arguments")
            }
            Type::Data | Type::Sample => {
                format!("{name} has arguments but cannot be invoked as function")
            }
            // Times and durations have methods, which take some.
            Type::Unknown | Type::Nil | Type::Time | Type::Duration => return,
            other => {
                self.field(id, other, name);
                return;
            }
        };
        self.fails(id, "template-arguments", message, ARGUMENTS_HINT);
    }

    fn no_function(&mut self, id: NodeId, name: &str) {
        let message = format!("can't give argument to non-function {name}");
        self.fails(id, "template-arguments", message, ARGUMENTS_HINT);
    }

    /// The text of a node as the template has it.
    fn own_text(&self, id: NodeId) -> String {
        let span = own_span(self.ast.node(id).span, self.text);
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default().to_string()
    }

    fn variable(&self, name: &str) -> Type {
        self.variables.iter().rev().find(|v| v.0 == name).map_or(Type::Unknown, |v| v.1.clone())
    }

    pub(super) fn operand(&mut self, id: NodeId) -> Type {
        match self.ast.kind(id) {
            NodeKind::Dot => self.dot.clone(),
            NodeKind::Nil => Type::Nil,
            NodeKind::Bool(_) => Type::Bool,
            NodeKind::Number(number, text) => {
                let whole = text.starts_with('\'') || is_hexadecimal_integer(text);
                match (number.complex, number.float) {
                    (Some(_), _) => Type::Unknown,
                    (None, Some(_)) if !whole && text.contains(['.', 'e', 'E', 'p', 'P']) => Type::Float,
                    _ if number.int.is_some() => Type::Int,
                    _ => Type::Unknown,
                }
            }
            NodeKind::Str { text, .. } => Type::Text(Some(text.to_string())),
            NodeKind::Field(names) => {
                let of = self.dot.clone();
                self.fields(id, of, names)
            }
            NodeKind::Variable(names) => {
                let of = self.variable(&names[0]);
                if &*names[0] == "$value" {
                    self.value_in_label(id);
                }
                self.fields(id, of, &names[1..])
            }
            NodeKind::Chain { node, fields } => {
                let of = self.within(true, true, |c| c.operand(*node));
                self.fields(id, of, fields)
            }
            NodeKind::Pipe { .. } => self.pipe(id),
            NodeKind::Identifier(function) => self.call(id, function, &[], None),
            _ => Type::Unknown,
        }
    }

    fn value_in_label(&mut self, id: NodeId) {
        let is_own = self.ast.node(id).span.end as usize > PREFIX.len();
        if self.place == Place::Label && is_own {
            self.report(
                id,
                Severity::Note,
                "template-value-in-label",
                "the value is part of the alert's identity: each change of it is a new alert that starts to wait anew"
                    .to_string(),
                "put it into an annotation",
            );
        }
    }

    fn fields(&mut self, id: NodeId, mut of: Type, names: &[Box<str>]) -> Type {
        for name in names {
            of = self.field(id, of, name);
        }
        of
    }

    fn field(&mut self, id: NodeId, of: Type, name: &str) -> Type {
        let known: &[&str] = match &of {
            Type::Labels => return self.label(id, name),
            Type::TextMap => return Type::Text(None),
            Type::Data => match name {
                "Labels" => return Type::Labels,
                "ExternalLabels" => return Type::TextMap,
                "ExternalURL" => return Type::Text(None),
                "Value" => {
                    self.value_in_label(id);
                    let may_be_histogram = self.knowledge.value_may_be_histogram();
                    return if may_be_histogram { Type::Unknown } else { Type::Float };
                }
                _ => &["Labels", "ExternalLabels", "ExternalURL", "Value"],
            },
            Type::Sample => match name {
                "Labels" => return Type::TextMap,
                "Value" => return Type::Unknown,
                _ => &["Labels", "Value"],
            },
            Type::Bool | Type::Int | Type::Float | Type::Text(_) | Type::Html | Type::Samples { .. } => &[],
            _ => return Type::Unknown,
        };
        if let Type::Data = of {
            let message = format!("there is no .{name} in what a rule's template is given");
            let meant = known.iter().find(|k| k.eq_ignore_ascii_case(name));
            let hint = match meant {
                Some(meant) => format!("did you mean .{meant}?"),
                None => format!("there are .{}", known.join(", .")),
            };
            self.fails(id, "template-field", message, &hint);
            return Type::Unknown;
        }
        let hint = match &of {
            Type::Text(_) | Type::Bool | Type::Int | Type::Float => {
                format!("it is a single value: take .{name} away")
            }
            Type::Samples { .. } => "range over the result, or take its `first`".to_string(),
            _ if known.is_empty() => String::new(),
            _ => format!("there are .{}", known.join(", .")),
        };
        let message = format!("can't evaluate field {name} in type {}", of.go_type());
        self.fails(id, "template-field", message, &hint);
        Type::Unknown
    }

    pub(super) fn label(&mut self, id: NodeId, name: &str) -> Type {
        if self.knowledge.can_have(name) != Presence::Impossible {
            return Type::Text(None);
        }
        self.misprints(
            id,
            "template-label",
            format!("no series of the expression has a label {name:?}: it is always empty here"),
            "keep the label in the expression, for example in its by (…)",
        );
        Type::Text(Some(String::new()))
    }
}

fn is_hexadecimal_integer(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    (digits.starts_with("0x") || digits.starts_with("0X")) && !digits.contains(['p', 'P'])
}
