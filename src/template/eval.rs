//! Expressions of a template: pipelines, commands, fields, calls. A step returns the value for the frame that is then
//! on top, or `None` if that frame has to go on by itself, having been pushed just now.

use std::sync::Arc;

use crate::ast::{NodeId, NodeKind};
use crate::exec::{Ran, Run, Walk, variable_name};
use crate::func::methods::method;
use crate::func::{Call, Form, Function, Parameter, TOO_LONG};
use crate::hint;
use crate::literal::Number;
use crate::reflect::{Cell, convert, field, replace};
use crate::value::{Struct, TemplateSample, Value};

/// An expression that is under way.
pub(crate) enum Frame<'t> {
    Pipe {
        assign: bool,
        variables: &'t [NodeId],
        commands: &'t [NodeId],
        next: usize,
    },
    Call {
        function: &'static Function,
        /// Blamed if the function fails.
        node: NodeId,
        args: &'t [NodeId],
        next: usize,
        last: Option<Cell>,
        values: Vec<Value>,
        method: bool,
    },
    Logic {
        or: bool,
        args: &'t [NodeId],
        next: usize,
        last: Option<Cell>,
        value: Cell,
    },
    Chain {
        chain: NodeId,
        fields: &'t [Box<str>],
        args: &'t [NodeId],
        last: Option<Cell>,
    },
}

impl<'t> Run<'t, '_> {
    pub(crate) fn pipeline(&mut self, pipe: NodeId, dot: &Cell) -> Ran<Cell> {
        let floor = self.frames.len();
        self.push_pipe(pipe);
        let mut given = None;
        loop {
            self.spend(1)?;
            let value = self.resume(given.take(), dot)?;
            if let Some(value) = value {
                if self.frames.len() == floor {
                    return Ok(value);
                }
                given = Some(value);
            }
        }
    }

    fn push_pipe(&mut self, pipe: NodeId) {
        self.node = pipe;
        if let NodeKind::Pipe { assign, variables, commands } = self.ast.kind(pipe) {
            self.frames.push(Frame::Pipe { assign: *assign, variables, commands, next: 0 });
        }
    }

    /// Goes on with the topmost frame, given the value it waits for.
    fn resume(&mut self, given: Option<Cell>, dot: &Cell) -> Ran<Option<Cell>> {
        let Some(frame) = self.frames.pop() else { return Ok(Some(Cell::INVALID)) };
        match frame {
            Frame::Pipe { assign, variables, commands, next } => {
                let value = given.map(Cell::concrete);
                if let Some(command) = commands.get(next) {
                    self.frames.push(Frame::Pipe { assign, variables, commands, next: next + 1 });
                    return self.command(*command, dot, value);
                }
                let value = value.unwrap_or(Cell::INVALID);
                let ast = self.ast;
                for variable in variables {
                    let name = variable_name(ast, *variable);
                    if assign {
                        self.set(name, value.clone())?;
                    } else {
                        self.variables.push((name, value.clone()));
                    }
                }
                Ok(Some(value))
            }
            Frame::Call { function, node, args, mut next, last, mut values, method } => {
                let skipped = usize::from(method);
                if let Some(value) = given {
                    let parameter = parameter(function, next - 1);
                    self.refuse_len_of_nil(function, node, &value)?;
                    let checked = self.validated(value, parameter);
                    let value = checked.map_err(|e| self.blame(e, args[next - 1]))?;
                    values.push(passed(function, values.len(), value));
                }
                while let Some(arg) = args.get(next) {
                    let parameter = parameter(function, next);
                    next += 1;
                    // Whatever the argument needs comes above this frame.
                    let at = self.frames.len();
                    match self.argument(*arg, parameter, dot)? {
                        Some(value) => {
                            self.refuse_len_of_nil(function, node, &value)?;
                            values.push(passed(function, values.len(), value));
                        }
                        None => {
                            let frame = Frame::Call { function, node, args, next, last, values, method };
                            self.frames.insert(at, frame);
                            return Ok(None);
                        }
                    }
                }
                if let Some(last) = last {
                    let parameter = parameter(function, values.len() - skipped);
                    let checked = self.validated(last, parameter);
                    let value = checked.map_err(|e| self.blame(e, node))?;
                    values.push(passed(function, values.len(), value));
                }
                self.invoke(function, node, args, values).map(Some)
            }
            Frame::Logic { or, args, mut next, last, mut value } => {
                if let Some(given) = given {
                    value = given;
                    if value.value.is_true() == or {
                        return Ok(Some(value));
                    }
                }
                while let Some(arg) = args.get(next) {
                    next += 1;
                    let at = self.frames.len();
                    match self.argument(*arg, Some(Parameter::Reflect), dot)? {
                        Some(found) => {
                            value = found;
                            if value.value.is_true() == or {
                                return Ok(Some(value));
                            }
                        }
                        None => {
                            self.frames.insert(at, Frame::Logic { or, args, next, last, value });
                            return Ok(None);
                        }
                    }
                }
                Ok(Some(last.unwrap_or(value)))
            }
            Frame::Chain { chain, fields, args, last } => {
                let receiver = given.unwrap_or(Cell::INVALID);
                self.field_chain(receiver, chain, fields, args, last)
            }
        }
    }

    fn not_a_function(&self, args: &[NodeId], last: Option<&Cell>) -> Ran<()> {
        if args.len() > 1 || last.is_some() {
            let text = args.first().map_or_else(|| "nil".to_string(), |first| self.ast.text(*first));
            let error = self.error(format_args!("can't give argument to non-function {text}"));
            return Err(args.first().map_or(error.clone(), |first| self.blame(error, *first)));
        }
        Ok(())
    }

    fn command(&mut self, command: NodeId, dot: &Cell, last: Option<Cell>) -> Ran<Option<Cell>> {
        let ast = self.ast;
        let NodeKind::Command(args) = ast.kind(command) else { return Ok(Some(Cell::INVALID)) };
        let first = args[0];
        match ast.kind(first) {
            NodeKind::Field(names) => {
                self.node = first;
                self.field_chain(dot.clone(), first, names, args, last)
            }
            NodeKind::Chain { .. } => self.chain(first, args, last),
            NodeKind::Identifier(function) => {
                self.node = first;
                let call = self.begin_call(function, command, &args[1..], last, None);
                call.map_err(|e| self.blame(e, command))
            }
            NodeKind::Pipe { .. } => {
                self.not_a_function(args, last.as_ref())?;
                self.push_pipe(first);
                Ok(None)
            }
            NodeKind::Variable(names) => {
                self.node = first;
                let value = self.get(&names[0])?;
                if names.len() == 1 {
                    self.not_a_function(args, last.as_ref())?;
                    return Ok(Some(value));
                }
                self.field_chain(value, first, &names[1..], args, last)
            }
            kind => {
                self.node = first;
                self.not_a_function(args, last.as_ref())?;
                match kind {
                    NodeKind::Bool(value) => Ok(Some(Value::Bool(*value).into())),
                    NodeKind::Dot => Ok(Some(dot.clone())),
                    NodeKind::Number(number, text) => self.constant(number, text).map(Some),
                    NodeKind::Str { text, .. } => Ok(Some(Value::Str(Arc::clone(text)).into())),
                    _ => Err(self.error("nil is not a command")),
                }
            }
        }
    }

    /// A number where nothing says what it should be: the way it is written decides.
    fn constant(&self, number: &Number, text: &str) -> Ran<Cell> {
        if let Some((re, im)) = number.complex {
            return Ok(Value::Complex(re, im).into());
        }
        let hexadecimal = text.len() > 2
            && (text.starts_with("0x") || text.starts_with("0X"))
            && !text.contains(['p', 'P']);
        if let Some(value) = number.float
            && !hexadecimal
            && !text.starts_with('\'')
            && text.contains(['.', 'e', 'E', 'p', 'P'])
        {
            return Ok(Value::Float(value).into());
        }
        match number.int {
            Some(value) => Ok(Value::Int(value).into()),
            None => Err(self.error(format_args!("{text} overflows int"))),
        }
    }

    fn chain(&mut self, chain: NodeId, args: &'t [NodeId], last: Option<Cell>) -> Ran<Option<Cell>> {
        self.node = chain;
        let ast = self.ast;
        let NodeKind::Chain { node, fields } = ast.kind(chain) else { return Ok(Some(Cell::INVALID)) };
        self.node = *node;
        match ast.kind(*node) {
            NodeKind::Identifier(function) => {
                // Without arguments a function is called at once.
                let receiver = self.begin_call(function, *node, &[], None, None)?;
                self.field_chain(receiver.unwrap_or(Cell::INVALID), chain, fields, args, last)
            }
            NodeKind::Nil => {
                let text = ast.text(chain);
                Err(self.error(format_args!("indirection through explicit nil in {text}")))
            }
            _ => {
                self.frames.push(Frame::Chain { chain, fields, args, last });
                self.push_pipe(*node);
                Ok(None)
            }
        }
    }

    fn field_chain(
        &mut self,
        mut receiver: Cell,
        node: NodeId,
        names: &'t [Box<str>],
        args: &'t [NodeId],
        last: Option<Cell>,
    ) -> Ran<Option<Cell>> {
        let Some((final_name, names)) = names.split_last() else { return Ok(Some(receiver)) };
        for name in names {
            // Without arguments a method is called at once.
            let field = self.field(name, node, &[], None, receiver);
            receiver = field.map_err(|e| self.blame(e, node))?.unwrap_or(Cell::INVALID);
        }
        self.field(final_name, node, args, last, receiver).map_err(|e| self.blame(e, node))
    }

    fn field(
        &mut self,
        name: &'t str,
        node: NodeId,
        args: &'t [NodeId],
        last: Option<Cell>,
        receiver: Cell,
    ) -> Ran<Option<Cell>> {
        if matches!(receiver.value, Value::Nil) {
            if receiver.interface {
                return Err(self.error(format_args!("nil pointer evaluating interface {{}}.{name}")));
            }
            return Ok(Some(Cell::INVALID));
        }
        let rest = args.get(1..).unwrap_or_default();
        if let Some(function) = method(&receiver.value, name) {
            return self.begin_call(function, node, rest, last, Some(receiver.value));
        }
        let has_arguments = !rest.is_empty() || last.is_some();
        match field(&receiver.value, name) {
            Some(_) if has_arguments && matches!(receiver.value, Value::StrMap(_) | Value::AnyMap(_)) => {
                Err(self.error(format_args!("{name} is not a method but has arguments")))
            }
            Some(_) if has_arguments => {
                Err(self.error(format_args!("{name} has arguments but cannot be invoked as function")))
            }
            Some(found) => Ok(Some(found)),
            None => {
                let go_type = receiver.go_type();
                let hint = match &receiver.value {
                    Value::Struct(data) => hint::for_field(data, name),
                    Value::Samples(_) => {
                        Some("a query gives a list: take one with `first`, or `range` over it")
                    }
                    _ => None,
                };
                Err(self.with_hint(format_args!("can't evaluate field {name} in type {go_type}"), hint))
            }
        }
    }

    /// Calls a function or method, at once if no argument needs another expression first.
    fn begin_call(
        &mut self,
        function: &'static Function,
        node: NodeId,
        args: &'t [NodeId],
        last: Option<Cell>,
        receiver: Option<Value>,
    ) -> Ran<Option<Cell>> {
        let given = args.len() + usize::from(last.is_some());
        let (name, fixed) = (function.name, function.parameters.len());
        if function.variadic.is_some() {
            if given < fixed {
                return Err(self.error(format_args!(
                    "wrong number of args for {name}: want at least {fixed} got {}",
                    args.len()
                )));
            }
        } else if given != fixed {
            return Err(self.error(format_args!("wrong number of args for {name}: want {fixed} got {given}")));
        }
        let frame = match function.form {
            Form::Unfit(reason) => return Err(self.error(reason)),
            Form::And | Form::Or => {
                Frame::Logic { or: function.form == Form::Or, args, next: 0, last, value: Cell::INVALID }
            }
            _ => {
                let method = receiver.is_some();
                let mut values = Vec::with_capacity(given + usize::from(method));
                values.extend(receiver);
                if args.is_empty() {
                    if let Some(last) = last {
                        values.push(self.validated(last, parameter(function, 0))?.value);
                    }
                    return self.invoke(function, node, args, values).map(Some);
                }
                Frame::Call { function, node, args, next: 0, last, values, method }
            }
        };
        self.frames.push(frame);
        Ok(None)
    }

    fn invoke(
        &mut self,
        function: &'static Function,
        node: NodeId,
        args: &[NodeId],
        mut values: Vec<Value>,
    ) -> Ran<Cell> {
        if function.form == Form::Call {
            let name = match (args.first(), values.first()) {
                (Some(arg), _) => self.ast.text(*arg),
                (None, Some(Value::Str(text))) => text.to_string(),
                (None, Some(Value::Nil) | None) => "<invalid Value>".to_string(),
                (None, Some(value)) => format!("<{} Value>", value.go_type()),
            };
            values.insert(0, Value::text(name));
        }
        let limit_bytes = self.limits.output_bytes;
        let sorted = match values.get(1) {
            Some(Value::Samples(samples)) if function.name == "sortByLabel" => Some(Arc::clone(samples)),
            _ => None,
        };
        let mut call = Call { environment: &mut *self.environment, limit_bytes };
        let result = (function.code)(&mut call, values);
        if let (Some(old), Ok(new)) = (sorted, &result) {
            self.replace_everywhere(&old, new);
        }
        match result {
            Ok(Value::Str(text)) if text.len() > limit_bytes => {
                self.node = node;
                let name = function.name;
                Err(self.error(format_args!("error calling {name}: {}", TOO_LONG)))
            }
            Ok(value) => {
                if let Value::Str(text) = &value {
                    self.spend((text.len() / 64) as u64)?;
                }
                Ok(value.into())
            }
            Err(message) => {
                self.node = node;
                let hint = hint::for_call(&message);
                Err(self.with_hint(format_args!("error calling {}: {message}", function.name), hint))
            }
        }
    }

    /// Go sorts in place: whoever holds the result of the query sees it sorted.
    fn replace_everywhere(&mut self, old: &Arc<Vec<TemplateSample>>, new: &Value) {
        self.variables.iter_mut().for_each(|(_, cell)| replace(&mut cell.value, old, new));
        self.statements.iter_mut().for_each(|walk| match walk {
            Walk::List { dot, .. } => replace(&mut dot.value, old, new),
            Walk::Range(iteration) => iteration.elements.replace(old, new),
            _ => {}
        });
        for frame in &mut self.frames {
            if let Frame::Call { values, .. } = frame {
                values.iter_mut().for_each(|value| replace(value, old, new));
            }
        }
    }

    /// Of a nil in an `interface {}`, which its code does not see, `len` alone says something else.
    fn refuse_len_of_nil(&mut self, function: &Function, node: NodeId, cell: &Cell) -> Ran<()> {
        if cell.interface && matches!(cell.value, Value::Nil) && function.name == "len" {
            self.node = node;
            return Err(self.error("error calling len: len of nil pointer"));
        }
        Ok(())
    }

    fn validated(&self, cell: Cell, parameter: Option<Parameter>) -> Ran<Cell> {
        convert(cell, parameter).map_err(|message| self.error(message))
    }

    /// An argument as the parameter wants it; without a parameter, as it is.
    fn argument(&mut self, id: NodeId, parameter: Option<Parameter>, dot: &Cell) -> Ran<Option<Cell>> {
        self.node = id;
        let ast = self.ast;
        let value = match ast.kind(id) {
            NodeKind::Dot => Some(dot.clone()),
            NodeKind::Nil => {
                let parameter = parameter.unwrap_or(Parameter::Any);
                if !parameter.can_be_nil() {
                    let go_type = parameter.go_type();
                    return Err(self.error(format_args!("cannot assign nil to {go_type}")));
                }
                Some(Cell::INVALID)
            }
            NodeKind::Field(names) => self.field_chain(dot.clone(), id, names, &[], None)?,
            NodeKind::Variable(names) => {
                let value = self.get(&names[0])?;
                if names.len() == 1 {
                    Some(value)
                } else {
                    self.field_chain(value, id, &names[1..], &[], None)?
                }
            }
            NodeKind::Pipe { .. } => {
                self.push_pipe(id);
                return Ok(None);
            }
            NodeKind::Identifier(function) => self.begin_call(function, id, &[], None, None)?,
            NodeKind::Chain { .. } => self.chain(id, &[], None)?,
            kind => return self.literal(id, kind, parameter).map(Some),
        };
        match value {
            Some(value) => self.validated(value, parameter).map(Some),
            None => Ok(None),
        }
    }

    /// A constant as the parameter wants it.
    fn literal(&self, id: NodeId, kind: &NodeKind, parameter: Option<Parameter>) -> Ran<Cell> {
        let text = || self.ast.text(id);
        let number = match kind {
            NodeKind::Number(number, _) => Some(number),
            _ => None,
        };
        let value = match parameter.unwrap_or(Parameter::Any) {
            Parameter::Any | Parameter::Reflect => match kind {
                NodeKind::Bool(value) => Value::Bool(*value),
                NodeKind::Str { text, .. } => Value::Str(Arc::clone(text)),
                NodeKind::Number(number, text) => return self.constant(number, text),
                _ => Value::Nil,
            },
            Parameter::String => match kind {
                NodeKind::Str { text, .. } => Value::Str(Arc::clone(text)),
                _ => return Err(self.error(format_args!("expected string; found {}", text()))),
            },
            Parameter::Float => match number.and_then(|n| n.float) {
                Some(value) => Value::Float(value),
                None => return Err(self.error(format_args!("expected float; found {}", text()))),
            },
            kind @ (Parameter::Int | Parameter::Duration) => match number.and_then(|n| n.int) {
                Some(value) if kind == Parameter::Int => Value::Int(value),
                Some(value) => Value::DurationValue(value),
                None => return Err(self.error(format_args!("expected integer; found {}", text()))),
            },
            other => {
                let go_type = other.go_type();
                return Err(self.error(format_args!("can't handle {} for arg of type {go_type}", text())));
            }
        };
        Ok(value.into())
    }
}

fn parameter(function: &Function, index: usize) -> Option<Parameter> {
    function.parameters.get(index).copied().or(function.variadic)
}

/// What a function gets of an argument. `slice` alone does not take its bounds out of an `interface {}`: it refuses
/// them by that type.
fn passed(function: &Function, position: usize, cell: Cell) -> Value {
    if cell.interface && position > 0 && function.name == "slice" {
        return Value::Struct(Arc::new(Struct { go_type: "interface {}", fields: Vec::new() }));
    }
    cell.value
}
