//! Statements: what is known within each, and behind it.

use crate::ast::{BranchKind, NodeId, NodeKind};

use super::types::{Type, join};
use super::{Checker, MAX_CALLS, MAX_DEPTH};

impl Checker<'_> {
    pub(super) fn list(&mut self, id: NodeId) {
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
            self.forget_assigned(list);
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

    pub(super) fn assign(&mut self, name: &str, to: Type) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|v| v.0 == name) {
            variable.1 = to;
        }
    }

    fn forget_assigned(&mut self, list: NodeId) {
        let mut todo = vec![list];
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
        if of == Type::Int && variables.len() == 2 {
            self.fails(
                pipe,
                "template-range",
                "range over a number has one variable".to_string(),
                "write {{ range $i := … }}",
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
                self.declare(*variable, &names[0], of, *assign);
            }
        }
        of
    }

    pub(super) fn declare(&mut self, id: NodeId, name: &str, of: Type, assign: bool) {
        if !assign {
            self.variables.push((name.to_string(), of));
        } else if self.variables.iter().any(|v| v.0 == name) || !name.starts_with('$') {
            self.assign(name, of);
        } else {
            let hint = format!("set it first: {{{{ {name} := … }}}}");
            self.fails(id, "template-undefined", format!("undefined variable: {name}"), &hint);
        }
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
}
