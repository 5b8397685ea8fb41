//! Runs a template over its data: the statements. They and the expressions have stacks of their own, so no template,
//! however deep, grows the thread's; steps and output are counted and end a template that asks for too much.

use std::sync::Arc;

use crate::ast::{Ast, BranchKind, NodeId, NodeKind};
use crate::error::TemplateError;
use crate::eval::Frame;
use crate::format;
use crate::reflect::{Cell, Elements};
use crate::rule::Environment;
use crate::value::Value;

use tsdbctl_model::quote::go_quote;

/// How deep templates may call each other, as in Go.
const MAX_CALLS: usize = 100_000;

/// What one run of a template may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of output, and of any text on the way.
    pub output_bytes: usize,
    /// Statements, operands and calls; 64 bytes of output also count as one.
    pub steps: u64,
}

impl Default for Limits {
    /// 1 MiB and what takes below a second.
    fn default() -> Self {
        Self { output_bytes: 1 << 20, steps: 4_000_000 }
    }
}

/// Where to begin: the first statements of a template may be known to the caller already.
pub(crate) struct Start {
    pub(crate) statement: usize,
    pub(crate) variables: Vec<(&'static str, Cell)>,
}

/// Runs the template `tree` of `ast` over `data`.
///
/// # Errors
/// Go's text, `template: PARSE_NAME:LINE:COLUMN: executing "NAME" at <NODE>: …`.
pub(crate) fn run(
    source: Source<'_>,
    tree: &str,
    data: Cell,
    start: Start,
    environment: &mut dyn Environment,
    limits: Limits,
) -> Result<String, TemplateError> {
    let ast = source.ast;
    let Some(tree) = ast.tree(tree) else {
        let name = source.name;
        return Err(TemplateError {
            message: format!(
                "template: no template {} associated with template {}",
                go_quote(tree),
                go_quote(name)
            ),
            span: tsdbctl_model::Span::default(),
            hint: None,
        });
    };
    let mut variables: Vec<(&str, Cell)> = Vec::with_capacity(1 + start.variables.len());
    variables.push(("$", data.clone()));
    variables.extend(start.variables);
    let mut run = Run {
        source,
        ast,
        out: String::new(),
        environment,
        variables,
        base: 0,
        node: tree.root,
        tree: &tree.name,
        calls: 0,
        statements: vec![Walk::List { nodes: ast.list(tree.root), next: start.statement, dot: data }],
        frames: Vec::new(),
        steps_left: limits.steps,
        limits,
    };
    run.statements()?;
    Ok(run.out)
}

/// A parsed template as error texts need it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'t> {
    pub(crate) name: &'t str,
    pub(crate) text: &'t str,
    pub(crate) ast: &'t Ast,
}

pub(crate) type Ran<T> = Result<T, TemplateError>;

/// A statement that is under way.
pub(crate) enum Walk<'t> {
    List {
        nodes: &'t [NodeId],
        next: usize,
        dot: Cell,
    },
    /// Forgets variables of a block that is over.
    Forget(usize),
    /// The else part of a range: a `break` in it ends here.
    RangeElse(usize),
    Range(Box<Iteration<'t>>),
    Return {
        base: usize,
        variables: usize,
        tree: &'t str,
        node: NodeId,
    },
}

pub(crate) struct Iteration<'t> {
    pub(crate) elements: Elements,
    assign: bool,
    /// Names of the variables.
    names: Vec<&'t str>,
    list: &'t [NodeId],
    /// Variables before the statement, and after its own.
    before: usize,
    mark: usize,
}

pub(crate) struct Run<'t, 'e> {
    source: Source<'t>,
    pub(crate) ast: &'t Ast,
    out: String,
    pub(crate) environment: &'e mut dyn Environment,
    pub(crate) variables: Vec<(&'t str, Cell)>,
    /// Variables below belong to callers.
    base: usize,
    /// The node last visited, which error texts name.
    pub(crate) node: NodeId,
    /// The template being run.
    tree: &'t str,
    calls: usize,
    pub(crate) statements: Vec<Walk<'t>>,
    pub(crate) frames: Vec<Frame<'t>>,
    steps_left: u64,
    pub(crate) limits: Limits,
}

impl<'t> Run<'t, '_> {
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> TemplateError {
        let source = self.source;
        let node = self.ast.node(self.node);
        let before = &source.text.as_bytes()[..node.pos as usize];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let column = before.iter().rev().take_while(|b| **b != b'\n').count();
        let (name, tree) = (source.name, go_quote(self.tree));
        let context = self.ast.text(self.node);
        TemplateError {
            message: format!("template: {name}:{line}:{column}: executing {tree} at <{context}>: {message}"),
            span: node.span,
            hint: None,
        }
    }

    /// Puts the caret of an error under the node at fault; the text keeps to the one that Go names.
    pub(crate) fn blame(&self, error: TemplateError, node: NodeId) -> TemplateError {
        TemplateError { span: self.ast.node(node).span, ..error }
    }

    pub(crate) fn with_hint(&self, message: impl std::fmt::Display, hint: Option<&str>) -> TemplateError {
        TemplateError { hint: hint.map(str::to_string), ..self.error(message) }
    }

    pub(crate) fn spend(&mut self, steps: u64) -> Ran<()> {
        match self.steps_left.checked_sub(steps) {
            Some(left) => {
                self.steps_left = left;
                Ok(())
            }
            None => Err(self.error("template takes too long")),
        }
    }

    fn check_output(&mut self, before: usize) -> Ran<()> {
        if self.out.len() > self.limits.output_bytes {
            let limit = self.limits.output_bytes;
            return Err(self.error(format_args!("output is longer than {limit} bytes")));
        }
        self.spend(((self.out.len() - before) / 64) as u64)
    }

    // Statements.

    fn statements(&mut self) -> Ran<()> {
        while let Some(walk) = self.statements.last_mut() {
            match walk {
                Walk::List { nodes, next, dot } => {
                    let Some(node) = nodes.get(*next).copied() else {
                        self.statements.pop();
                        continue;
                    };
                    *next += 1;
                    let dot = dot.clone();
                    self.spend(1)?;
                    self.statement(node, dot)?;
                }
                Walk::Forget(mark) | Walk::RangeElse(mark) => {
                    self.variables.truncate(*mark);
                    self.statements.pop();
                }
                Walk::Range(iteration) => {
                    self.variables.truncate(iteration.mark);
                    let Some((index, element)) = iteration.elements.next() else {
                        self.variables.truncate(iteration.before);
                        self.statements.pop();
                        continue;
                    };
                    let (assign, list) = (iteration.assign, iteration.list);
                    let (first, second) = (iteration.names.first().copied(), iteration.names.get(1).copied());
                    let len = self.variables.len();
                    match (first, second) {
                        (None, _) => {}
                        (Some(name), None) if assign => self.set(name, element.clone())?,
                        (Some(first), Some(second)) if assign => {
                            self.set(first, index)?;
                            self.set(second, element.clone())?;
                        }
                        (Some(_), None) => self.variables[len - 1].1 = element.clone(),
                        (Some(_), Some(_)) => {
                            self.variables[len - 1].1 = element.clone();
                            self.variables[len - 2].1 = index;
                        }
                    }
                    self.spend(1)?;
                    self.statements.push(Walk::List { nodes: list, next: 0, dot: element });
                }
                Walk::Return { base, variables, tree, node } => {
                    self.base = *base;
                    self.variables.truncate(*variables);
                    self.tree = tree;
                    self.node = *node;
                    self.calls -= 1;
                    self.statements.pop();
                }
            }
        }
        Ok(())
    }

    fn statement(&mut self, id: NodeId, dot: Cell) -> Ran<()> {
        self.node = id;
        match self.ast.kind(id) {
            NodeKind::Text(text) => {
                let before = self.out.len();
                self.out.push_str(text);
                self.check_output(before)
            }
            NodeKind::Action(pipe) => {
                let value = self.pipeline(*pipe, &dot)?;
                if matches!(self.ast.kind(*pipe), NodeKind::Pipe { variables, .. } if variables.is_empty()) {
                    self.node = id;
                    let before = self.out.len();
                    format::print_indirect(&value.value, &mut self.out, self.limits.output_bytes);
                    self.check_output(before)?;
                }
                Ok(())
            }
            NodeKind::Branch { kind: BranchKind::Range, pipe, list, else_list } => {
                self.range(*pipe, *list, *else_list, dot)
            }
            NodeKind::Branch { kind, pipe, list, else_list } => {
                let mark = self.variables.len();
                let value = self.pipeline(*pipe, &dot)?;
                let (list, dot) = match (value.value.is_true(), kind) {
                    (true, BranchKind::With) => (Some(*list), value),
                    (true, _) => (Some(*list), dot),
                    (false, _) => (*else_list, dot),
                };
                self.statements.push(Walk::Forget(mark));
                self.enter(list, dot);
                Ok(())
            }
            NodeKind::Break => {
                while let Some(walk) = self.statements.pop() {
                    if let Walk::Range(iteration) = walk {
                        self.variables.truncate(iteration.before);
                        break;
                    }
                    if let Walk::RangeElse(mark) = walk {
                        self.variables.truncate(mark);
                        break;
                    }
                }
                Ok(())
            }
            NodeKind::Continue => {
                while !matches!(self.statements.last(), None | Some(Walk::Range(_))) {
                    self.statements.pop();
                }
                Ok(())
            }
            NodeKind::Template { name, pipe } => self.template(name, *pipe, &dot),
            // Nothing else is a statement.
            _ => Err(self.error(format_args!("unknown node: {}", self.ast.text(id)))),
        }
    }

    fn enter(&mut self, list: Option<NodeId>, dot: Cell) {
        if let Some(list) = list {
            self.statements.push(Walk::List { nodes: self.ast.list(list), next: 0, dot });
        }
    }

    fn range(&mut self, pipe: NodeId, list: NodeId, else_list: Option<NodeId>, dot: Cell) -> Ran<()> {
        let before = self.variables.len();
        let value = self.pipeline(pipe, &dot)?.value;
        let mark = self.variables.len();
        let NodeKind::Pipe { assign, variables, .. } = self.ast.kind(pipe) else { return Ok(()) };
        let Some(elements) = Elements::of(&value) else {
            let text = self.display(&value);
            let error = self.error(format_args!("range can't iterate over {text}"));
            return Err(self.blame(error, pipe));
        };
        if elements.is_count() && variables.len() > 1 {
            let text = self.display(&value);
            let error = self.error(format_args!("can't use {text} to iterate over more than one variable"));
            return Err(self.blame(error, pipe));
        }
        if elements.is_empty() {
            self.statements.push(Walk::RangeElse(before));
            self.enter(else_list, dot);
            return Ok(());
        }
        let ast = self.ast;
        let names = variables.iter().map(|v| variable_name(ast, *v)).collect();
        self.statements.push(Walk::Range(Box::new(Iteration {
            elements,
            assign: *assign,
            names,
            list: ast.list(list),
            before,
            mark,
        })));
        Ok(())
    }

    fn template(&mut self, name: &'t str, pipe: Option<NodeId>, dot: &Cell) -> Ran<()> {
        let ast = self.ast;
        let Some(tree) = ast.tree(name) else {
            return Err(self.error(format_args!("template {} not defined", go_quote(name))));
        };
        if self.calls == MAX_CALLS {
            return Err(self.error(format_args!("exceeded maximum template depth ({MAX_CALLS})")));
        }
        let data = match pipe {
            Some(pipe) => self.pipeline(pipe, dot)?,
            None => Cell::INVALID,
        };
        self.statements.push(Walk::Return {
            base: self.base,
            variables: self.variables.len(),
            tree: self.tree,
            node: self.node,
        });
        self.calls += 1;
        self.base = self.variables.len();
        self.variables.push(("$", data.clone()));
        self.tree = &tree.name;
        self.enter(Some(tree.root), data);
        Ok(())
    }

    /// `%v`, a pointer as what it points at.
    fn display(&self, value: &Value) -> String {
        let mut text = String::new();
        // A histogram itself, not behind its pointer, prints as any struct.
        let fields = match value {
            Value::Histogram(h) => Some(Value::Struct(Arc::new(crate::histogram::fields(h)))),
            _ => None,
        };
        format::print_indirect(fields.as_ref().unwrap_or(value), &mut text, self.limits.output_bytes);
        text
    }

    // Variables.

    pub(crate) fn set(&mut self, name: &str, value: Cell) -> Ran<()> {
        match self.variables[self.base..].iter_mut().rev().find(|(n, _)| *n == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => Err(self.with_hint(
                format_args!("undefined variable: {name}"),
                Some("declare it with `:=`, outside of the block that sets it"),
            )),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Ran<Cell> {
        match self.variables[self.base..].iter().rev().find(|(n, _)| *n == name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(self.error(format_args!("undefined variable: {name}"))),
        }
    }
}

pub(crate) fn variable_name(ast: &Ast, id: NodeId) -> &str {
    match ast.kind(id) {
        NodeKind::Variable(names) => &names[0],
        _ => "",
    }
}
