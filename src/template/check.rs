//! What can be said of a rule's template without running it: an abstract run over types.
//!
//! An error is claimed only where every run that gets so far fails or prints what nobody wants (`%!d(float64=1)`, an
//! address, a label that is not there). What is not known has the type [`Type::Unknown`], of which nothing is claimed.

use tsdbctl_model::Span;
use tsdbctl_model::float_text::parse_float;
use tsdbctl_model::regexp::Search;

use crate::ast::{Ast, BranchKind, NodeId, NodeKind};
use crate::func::{Form, Function, FunctionSet, Parameter};
use crate::rule::{PREFIX, own_span};
use crate::template::Template;

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

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
enum Type {
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
    fn go_type(&self) -> &'static str {
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

    fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown | Self::Nil)
    }

    /// The kinds that `eq` and `lt` tell apart; `None` for what has no order.
    fn comparable(&self) -> Option<u8> {
        match self {
            Self::Bool => Some(0),
            Self::Int => Some(1),
            Self::Float => Some(2),
            Self::Text(_) | Self::Html => Some(3),
            _ => None,
        }
    }

    fn passes_as(&self, parameter: Parameter) -> bool {
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

fn join(a: &Type, b: &Type) -> Type {
    match (a, b) {
        _ if a == b => a.clone(),
        (Type::Text(_), Type::Text(_)) => Type::Text(None),
        (Type::Samples { .. }, Type::Samples { .. }) => Type::Samples { may_be_empty: true },
        _ => Type::Unknown,
    }
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

    fn list(&mut self, id: NodeId) {
        self.depth += 1;
        if self.depth < MAX_DEPTH {
            for node in self.ast.list(id) {
                self.statement(*node);
            }
        }
        self.depth -= 1;
    }

    fn statement(&mut self, id: NodeId) {
        match self.ast.kind(id) {
            NodeKind::Action(pipe) => {
                let declares =
                    matches!(self.ast.kind(*pipe), NodeKind::Pipe { variables, .. } if !variables.is_empty());
                let printed = self.within(true, declares, |c| c.pipe(*pipe));
                if !declares && let Type::Samples { .. } = printed {
                    self.misprints(
                        *pipe,
                        "template-address",
                        "the result of a query prints as addresses in memory".to_string(),
                        "range over it, or take one series of it: {{ query \"…\" | first | value }}",
                    );
                }
            }
            NodeKind::Branch { kind, pipe, list, else_list } => self.branch(*kind, *pipe, *list, *else_list),
            NodeKind::Template { name, pipe } => self.call_template(id, name, *pipe),
            _ => {}
        }
    }

    fn branch(&mut self, kind: BranchKind, pipe: NodeId, list: NodeId, else_list: Option<NodeId>) {
        let (scope, dot) = (self.variables.len(), self.dot.clone());
        if kind == BranchKind::Range {
            // A later turn sees what an earlier one assigned.
            self.forget_assigned(list, 0);
        }
        let of = match kind {
            BranchKind::Range => self.range_pipe(pipe),
            _ => self.within(true, true, |c| c.pipe(pipe)),
        };
        let inside = self.variables.len();
        let before = self.variables.clone();
        let filled = match &of {
            Type::Samples { .. } => Type::Samples { may_be_empty: false },
            other => other.clone(),
        };
        match kind {
            BranchKind::If => self.narrow(pipe, &filled),
            BranchKind::With => {
                self.dot = filled.clone();
                self.narrow(pipe, &filled);
            }
            BranchKind::Range => {
                self.dot = match of {
                    Type::Samples { .. } => Type::Sample,
                    Type::Labels | Type::TextMap => Type::Text(None),
                    Type::Int => Type::Int,
                    _ => Type::Unknown,
                };
            }
        }
        self.within(false, false, |c| c.list(list));
        self.variables.truncate(inside);
        let after = std::mem::replace(&mut self.variables, before);
        self.dot = dot;
        if let Some(list) = else_list {
            self.within(false, false, |c| c.list(list));
            self.variables.truncate(inside);
        }
        for (variable, other) in self.variables.iter_mut().zip(&after) {
            variable.1 = join(&variable.1, &other.1);
        }
        self.variables.truncate(scope);
    }

    /// Where `if $x` holds, `$x` is not empty.
    fn narrow(&mut self, pipe: NodeId, filled: &Type) {
        let NodeKind::Pipe { variables, commands, .. } = self.ast.kind(pipe) else { return };
        let variable = match (variables.as_slice(), commands.as_slice()) {
            ([variable], _) => Some(*variable),
            ([], [command]) => match self.ast.kind(*command) {
                NodeKind::Command(args) if args.len() == 1 => Some(args[0]),
                _ => None,
            },
            _ => None,
        };
        let Some(NodeKind::Variable(names)) = variable.map(|v| self.ast.kind(v)) else { return };
        if let [name] = &**names {
            self.assign(name, filled.clone());
        }
    }

    fn assign(&mut self, name: &str, to: Type) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|v| v.0 == name) {
            variable.1 = to;
        }
    }

    fn forget_assigned(&mut self, list: NodeId, depth: usize) {
        let mut todo = vec![list];
        let _ = depth;
        while let Some(id) = todo.pop() {
            match self.ast.kind(id) {
                NodeKind::List(nodes) | NodeKind::Command(nodes) => todo.extend(nodes),
                NodeKind::Action(pipe) => todo.push(*pipe),
                NodeKind::Branch { pipe, list, else_list, .. } => {
                    todo.extend([*pipe, *list]);
                    todo.extend(else_list);
                }
                NodeKind::Template { pipe, .. } => todo.extend(pipe),
                NodeKind::Chain { node, .. } => todo.push(*node),
                NodeKind::Pipe { assign, variables, commands } => {
                    todo.extend(commands);
                    for variable in variables.iter().filter(|_| *assign) {
                        if let NodeKind::Variable(names) = self.ast.kind(*variable) {
                            let name = names[0].to_string();
                            self.assign(&name, Type::Unknown);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The pipe of a `range`: its variables are a key and an element.
    fn range_pipe(&mut self, pipe: NodeId) -> Type {
        let NodeKind::Pipe { variables, commands, assign } = self.ast.kind(pipe) else {
            return Type::Unknown;
        };
        let of = self.within(true, true, |c| c.commands(commands));
        let failing = matches!(
            of,
            Type::Bool | Type::Float | Type::Text(_) | Type::Html | Type::Sample | Type::Time | Type::Data
        );
        if failing {
            let what = of.go_type();
            self.fails(
                pipe,
                "template-range",
                format!("range can't iterate over a {what}"),
                "range goes over lists, maps and the results of queries",
            );
        }
        let element = match of {
            Type::Samples { .. } => Type::Sample,
            Type::Labels | Type::TextMap => Type::Text(None),
            _ => Type::Unknown,
        };
        let key = match of {
            Type::Samples { .. } => Type::Int,
            Type::Labels | Type::TextMap | Type::AnyMap => Type::Text(None),
            _ => Type::Unknown,
        };
        let types = if variables.len() == 2 { vec![key, element] } else { vec![element] };
        for (variable, mut of) in variables.iter().zip(types) {
            if let NodeKind::Variable(names) = self.ast.kind(*variable) {
                if *assign {
                    of = Type::Unknown;
                }
                self.declare(&names[0], of, *assign);
            }
        }
        of
    }

    fn declare(&mut self, name: &str, of: Type, assign: bool) {
        if assign { self.assign(name, of) } else { self.variables.push((name.to_string(), of)) }
    }

    fn call_template(&mut self, id: NodeId, name: &str, pipe: Option<NodeId>) {
        let data = pipe.map_or(Type::Nil, |pipe| self.within(true, true, |c| c.pipe(pipe)));
        let Some(tree) = self.ast.tree(name) else {
            self.fails(
                id,
                "template-undefined",
                format!("template {name:?} not defined"),
                "define it in the same text: {{ define \"…\" }}…{{ end }}",
            );
            return;
        };
        self.calls += 1;
        if self.calls > MAX_CALLS || self.depth + 10 > MAX_DEPTH {
            return;
        }
        let variables = std::mem::replace(&mut self.variables, vec![("$".to_string(), data.clone())]);
        let dot = std::mem::replace(&mut self.dot, data);
        self.depth += 8;
        self.list(tree.root);
        self.depth -= 8;
        self.dot = dot;
        self.variables = variables;
    }

    fn pipe(&mut self, id: NodeId) -> Type {
        let NodeKind::Pipe { assign, variables, commands } = self.ast.kind(id) else { return Type::Unknown };
        self.depth += 1;
        let of = if self.depth < MAX_DEPTH { self.commands(commands) } else { Type::Unknown };
        self.depth -= 1;
        for variable in variables {
            if let NodeKind::Variable(names) = self.ast.kind(*variable) {
                self.declare(&names[0], of.clone(), *assign);
            }
        }
        of
    }

    fn commands(&mut self, commands: &[NodeId]) -> Type {
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

    fn command(&mut self, args: &[NodeId], last: Option<Operand>) -> Type {
        let Some((first, rest)) = args.split_first() else { return Type::Unknown };
        match self.ast.kind(*first) {
            NodeKind::Identifier(function) => self.call(*first, function, rest, last),
            NodeKind::Field(_) | NodeKind::Chain { .. } | NodeKind::Variable(_)
                if !rest.is_empty() || last.is_some() =>
            {
                for arg in rest {
                    self.within(true, true, |c| c.operand(*arg));
                }
                if let NodeKind::Variable(names) = self.ast.kind(*first)
                    && let [name] = &**names
                {
                    self.fails(
                        *first,
                        "template-arguments",
                        format!("can't give argument to non-function {name}"),
                        "",
                    );
                }
                Type::Unknown
            }
            _ => self.operand(*first),
        }
    }

    fn operand(&mut self, id: NodeId) -> Type {
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
                let found = self.variables.iter().rev().find(|v| v.0 == *names[0]);
                let of = found.map_or(Type::Unknown, |v| v.1.clone());
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
        let hint = match &of {
            Type::Samples { .. } => "range over the result, or take its `first`".to_string(),
            _ if known.is_empty() => String::new(),
            _ => format!("there are .{}", known.join(", .")),
        };
        let message = format!("can't evaluate field {name} in type {}", of.go_type());
        self.fails(id, "template-field", message, &hint);
        Type::Unknown
    }

    fn label(&mut self, id: NodeId, name: &str) -> Type {
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

    fn call(
        &mut self,
        id: NodeId,
        function: &'static Function,
        args: &[NodeId],
        last: Option<Operand>,
    ) -> Type {
        let name = function.name;
        let mut operands: Vec<Operand> = Vec::with_capacity(args.len() + 1);
        for (i, arg) in args.iter().enumerate() {
            let skipped = i > 0 && matches!(function.form, Form::And | Form::Or);
            let of = self.within(!skipped, looks_only(name), |c| c.operand(*arg));
            operands.push((*arg, of));
        }
        operands.extend(last);
        let (least, got) = (function.parameters.len(), operands.len());
        let fits = if function.variadic.is_some() { got >= least } else { got == least };
        if !fits {
            let want =
                if function.variadic.is_some() { format!("at least {least}") } else { least.to_string() };
            let message = format!("wrong number of args for {name}: want {want} got {got}");
            self.fails(id, "template-arity", message, "");
            return result(function, &operands);
        }
        let mut all_pass = true;
        for (i, (node, of)) in operands.iter().enumerate() {
            let Some(parameter) = function.parameters.get(i).copied().or(function.variadic) else { continue };
            if !of.passes_as(parameter) {
                all_pass = false;
                let (want, got) = (parameter.go_type(), of.go_type());
                let message = format!("wrong type for an argument of {name}; expected {want}; got {got}");
                let hint = match (parameter, of) {
                    (Parameter::String, Type::Int | Type::Float) => "turn it into text with printf or print",
                    (Parameter::Sample, Type::Samples { .. }) => "take the `first` of it",
                    _ => "",
                };
                self.fails(*node, "template-kind", message, hint);
            }
        }
        if all_pass {
            self.arguments(id, name, &operands);
        }
        result(function, &operands)
    }

    /// What a function says of arguments whose types its parameters take.
    fn arguments(&mut self, id: NodeId, name: &str, operands: &[Operand]) {
        match name {
            "humanize" | "humanize1024" | "humanizeDuration" | "humanizePercentage" | "humanizeTimestamp"
            | "toTime" | "toDuration" => self.number(name, &operands[0]),
            "eq" | "ne" | "lt" | "le" | "gt" | "ge" => self.comparison(id, name, operands),
            "len" => {
                if let (node, of @ (Type::Bool | Type::Int | Type::Float | Type::Sample | Type::Data)) =
                    &operands[0]
                {
                    self.fails(*node, "template-kind", format!("len of type {}", of.go_type()), "");
                }
            }
            "index" => self.index(operands),
            "first" => {
                if let (_, Type::Samples { may_be_empty: true }) = operands[0] {
                    self.report(
                        id,
                        Severity::Note,
                        "template-first",
                        "`first` fails where the query gives nothing, and the whole text with it".to_string(),
                        "put it into {{ with query \"…\" }}{{ . | first | value }}{{ end }}",
                    );
                }
            }
            "match" | "reReplaceAll" => {
                if let (node, Type::Text(Some(pattern))) = &operands[0]
                    && let Err(error) = Search::new(pattern)
                {
                    self.fails(*node, "template-regexp", error.to_string(), "");
                }
            }
            "query" => {
                if let (node, Type::Text(Some(query))) = &operands[0]
                    && let Err(message) = self.knowledge.check_query(query)
                {
                    self.fails(*node, "template-query", message, "");
                }
            }
            "printf" => self.printf(id, operands),
            _ => {}
        }
    }

    fn number(&mut self, name: &str, (node, of): &Operand) {
        let message = match of {
            Type::Unknown | Type::Int | Type::Float | Type::Text(None) => return,
            Type::Text(Some(text)) => match parse_float(text) {
                Ok(_) => return,
                Err(error) => format!("{name} of {text:?}: {error}"),
            },
            other => format!("{name}: can't convert {} to float", other.go_type()),
        };
        let hint = match of {
            Type::Samples { .. } => "take one number of it: query \"…\" | first | value",
            Type::Sample => "take its number: … | value",
            _ => "",
        };
        self.fails(*node, "template-number", message, hint);
    }

    fn comparison(&mut self, id: NodeId, name: &str, operands: &[Operand]) {
        let [(_, a), rest @ ..] = operands else { return };
        if rest.is_empty() {
            self.fails(id, "template-comparison", "missing argument for comparison".to_string(), "");
            return;
        }
        let ordered = matches!(name, "lt" | "le" | "gt" | "ge");
        for (i, (node, b)) in rest.iter().enumerate() {
            if !a.is_known() || !b.is_known() {
                continue;
            }
            let (kind_a, kind_b) = (a.comparable(), b.comparable());
            // A duration's kind is not known here: a pointer compares with nothing, what it points at does.
            let message = if kind_a != kind_b && (!ordered || (kind_a.is_some() && kind_b.is_some())) {
                format!("incompatible types for comparison: {} and {}", a.go_type(), b.go_type())
            } else if ordered && (matches!(a, Type::Bool) || kind_a.is_none() || kind_b.is_none()) {
                "invalid type for comparison".to_string()
            } else {
                continue;
            };
            let hint = match (a, b) {
                (Type::Float, Type::Int) | (Type::Int, Type::Float) => {
                    "write the whole number with a decimal point: 90.0"
                }
                _ => "",
            };
            // Further arguments are looked at only where the earlier ones differ.
            self.within(i == 0, false, |c| c.fails(*node, "template-comparison", message, hint));
        }
    }

    fn index(&mut self, operands: &[Operand]) {
        let [(node, of), (key, key_type), ..] = operands else { return };
        match (of, key_type) {
            (Type::Labels, Type::Text(Some(name))) if operands.len() == 2 => {
                let name = name.clone();
                self.label(*key, &name);
            }
            (Type::Labels | Type::TextMap | Type::AnyMap, Type::Bool | Type::Int | Type::Float) => {
                let message = format!("value has type {}; should be string", key_type.go_type());
                self.fails(*key, "template-kind", message, "");
            }
            (Type::Bool | Type::Int | Type::Float | Type::Sample | Type::Data, _) => {
                let message = format!("can't index item of type {}", of.go_type());
                self.fails(*node, "template-kind", message, "");
            }
            _ => {}
        }
    }

    /// Verbs against the types of a `printf` whose format is written in the template.
    fn printf(&mut self, id: NodeId, operands: &[Operand]) {
        let [(format_node, Type::Text(Some(format))), args @ ..] = operands else { return };
        let Some(verbs) = verbs(format) else { return };
        let code = "template-printf";
        for (i, verb) in verbs.iter().enumerate() {
            let Some((node, of)) = args.get(i) else {
                self.misprints(
                    *format_node,
                    code,
                    format!("no value is left for %{verb}: it prints %!{verb}(MISSING)"),
                    "",
                );
                return;
            };
            let wrong = match of {
                Type::Bool => !matches!(verb, 't' | 'v' | 'T'),
                Type::Int => !matches!(verb, 'v' | 'T' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U'),
                Type::Float => {
                    !matches!(verb, 'v' | 'T' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E')
                }
                Type::Text(_) | Type::Html => !matches!(verb, 'v' | 'T' | 's' | 'x' | 'X' | 'q'),
                _ => false,
            };
            if wrong {
                let hint = match of {
                    Type::Float => "use %.0f, or %g for the shortest form",
                    Type::Int => "use %d",
                    Type::Text(_) => "use %s",
                    _ => "",
                };
                let message = format!("%{verb} cannot print a {0}: it prints %!{verb}({0}=…)", of.go_type());
                self.misprints(*node, code, message, hint);
            }
        }
        if args.len() > verbs.len() {
            let message = format!("{} values for {} verbs: it prints %!(EXTRA …)", args.len(), verbs.len());
            self.misprints(id, code, message, "");
        }
    }
}

/// Functions of which the result does not print an empty argument as such.
fn looks_only(name: &str) -> bool {
    matches!(
        name,
        "and"
            | "or"
            | "not"
            | "eq"
            | "ne"
            | "lt"
            | "le"
            | "gt"
            | "ge"
            | "len"
            | "index"
            | "args"
            | "match"
            | "call"
            | "slice"
            | "query"
            | "label"
    )
}

fn is_hexadecimal_integer(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    (digits.starts_with("0x") || digits.starts_with("0X")) && !digits.contains(['p', 'P'])
}

/// The verbs of a format that take one value each; `None` where it is not that simple.
fn verbs(format: &str) -> Option<Vec<char>> {
    let mut verbs = Vec::new();
    let mut rest = format;
    while let Some((_, after)) = rest.split_once('%') {
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit() || "+-# .".contains(c));
        let verb = after.chars().next()?;
        if matches!(verb, '*' | '[') {
            return None;
        }
        if verb != '%' {
            verbs.push(verb);
        }
        rest = &after[verb.len_utf8()..];
    }
    Some(verbs)
}

/// The type of what a function gives.
fn result(function: &Function, operands: &[Operand]) -> Type {
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

#[cfg(test)]
mod tests;
