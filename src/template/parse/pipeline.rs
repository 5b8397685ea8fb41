//! Pipelines: their variables, commands, and the terms of these.

use tsdbctl_model::Span;
use tsdbctl_model::quote::go_quote;

use crate::ast::{NodeId, NodeKind};
use crate::hint;
use crate::lex::{Token, TokenKind};
use crate::literal;

use super::{Owner, Parsed, Parser};

/// How deep parentheses may nest, as in Go.
const MAX_PARENTHESES: usize = 10_000;

/// A pipeline being read.
struct OpenPipe {
    pos: usize,
    /// Of the parenthesis.
    start: usize,
    context: &'static str,
    end: TokenKind,
    assign: bool,
    variables: Vec<NodeId>,
    commands: Vec<NodeId>,
    /// Place and operands of the command being read.
    command: Option<(usize, Vec<NodeId>)>,
}

impl Parser<'_> {
    /// Begins a pipeline: its variables, if any.
    fn open_pipe(&mut self, context: &'static str, end: TokenKind, start: usize) -> Parsed<OpenPipe> {
        let pos = self.peek_solid().start;
        let mut pipe = OpenPipe {
            pos,
            start,
            context,
            end,
            assign: false,
            variables: Vec::new(),
            commands: Vec::new(),
            command: None,
        };
        loop {
            let variable = self.peek_solid();
            if variable.kind != TokenKind::Variable {
                return Ok(pipe);
            }
            self.next();
            let after = self.peek();
            let next = self.peek_solid();
            match next.kind {
                TokenKind::Assign | TokenKind::Declare => {
                    pipe.assign = next.kind == TokenKind::Assign;
                    self.next_solid();
                    self.declare(&mut pipe, &variable);
                }
                TokenKind::Char if &self.text[next.start..next.end] == "," => {
                    self.next_solid();
                    self.declare(&mut pipe, &variable);
                    if context == "range" && pipe.variables.len() < 2 {
                        let next = self.peek_solid();
                        if matches!(
                            next.kind,
                            TokenKind::Variable | TokenKind::RightDelim | TokenKind::RightParen
                        ) {
                            continue;
                        }
                        return Err(self.error("range can only initialize variables", self.here()));
                    }
                    return Err(self.error(
                        format_args!("too many declarations in {context}"),
                        Span::new(variable.start, next.end),
                    ));
                }
                _ if after.kind == TokenKind::Space => self.backup_three(variable, after),
                _ => self.backup_two(variable),
            }
            return Ok(pipe);
        }
    }

    fn declare(&mut self, pipe: &mut OpenPipe, token: &Token) {
        let text = self.text;
        let name = &text[token.start..token.end];
        let span = Span::new(token.start, token.end);
        pipe.variables.push(self.add(NodeKind::Variable(vec![name.into()]), token.start, span));
        self.scope().variables.push(name);
    }

    pub(super) fn pipeline(&mut self, context: &'static str) -> Parsed<NodeId> {
        let mut outer: Vec<OpenPipe> = Vec::new();
        let mut pipe = self.open_pipe(context, TokenKind::RightDelim, usize::MAX)?;
        loop {
            let Some((pos, args)) = pipe.command.take() else {
                // Another command, or the end.
                let token = self.next_solid();
                if token.kind == pipe.end {
                    let id = self.close_pipe(pipe, token.end)?;
                    let Some(around) = outer.pop() else { return Ok(id) };
                    pipe = around;
                    self.scope().parentheses -= 1;
                    self.operand(id, &mut pipe)?;
                    self.after_operand(&mut pipe)?;
                    continue;
                }
                if !is_term(token.kind) {
                    return Err(self.unexpected(&token, pipe.context));
                }
                self.backup();
                pipe.command = Some((token.start, Vec::new()));
                continue;
            };
            let token = self.next_solid();
            if token.kind == TokenKind::LeftParen {
                if self.top().parentheses >= MAX_PARENTHESES {
                    return Err(self.error("max expression depth exceeded", self.here()));
                }
                self.scope().parentheses += 1;
                pipe.command = Some((pos, args));
                let inner = self.open_pipe("parenthesized pipeline", TokenKind::RightParen, token.start)?;
                outer.push(std::mem::replace(&mut pipe, inner));
                continue;
            }
            if let Some(term) = self.term(&token)? {
                pipe.command = Some((pos, args));
                self.operand(term, &mut pipe)?;
            } else {
                self.backup();
                pipe.command = Some((pos, args));
            }
            self.after_operand(&mut pipe)?;
        }
    }

    /// What follows an operand decides whether the command goes on.
    fn after_operand(&mut self, pipe: &mut OpenPipe) -> Parsed<()> {
        let token = self.next();
        match token.kind {
            TokenKind::Space => return Ok(()),
            TokenKind::RightDelim | TokenKind::RightParen => self.backup(),
            TokenKind::Pipe => {}
            _ => return Err(self.unexpected(&token, "operand")),
        }
        let Some((pos, args)) = pipe.command.take() else { return Ok(()) };
        let (Some(first), Some(last)) = (args.first(), args.last()) else {
            return Err(self.error("empty command", self.here()));
        };
        let span = self.ast.node(*first).span.to(self.ast.node(*last).span);
        let id = self.add(NodeKind::Command(args), pos, span);
        pipe.commands.push(id);
        Ok(())
    }

    fn close_pipe(&mut self, pipe: OpenPipe, end: usize) -> Parsed<NodeId> {
        let Some(last) = pipe.commands.last() else {
            return Err(self.error(format_args!("missing value for {}", pipe.context), self.here()));
        };
        let last = self.ast.node(*last).span;
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            let NodeKind::Command(args) = self.ast.kind(*command) else { continue };
            if matches!(
                self.ast.kind(args[0]),
                NodeKind::Bool(_)
                    | NodeKind::Dot
                    | NodeKind::Nil
                    | NodeKind::Number(..)
                    | NodeKind::Str { .. }
            ) {
                let message = format!("non executable command in pipeline stage {}", i + 1);
                return Err(self.error(message, self.ast.node(*command).span));
            }
        }
        let span = if pipe.start == usize::MAX {
            Span::new(pipe.pos, last.end as usize)
        } else {
            Span::new(pipe.start, end)
        };
        let kind = NodeKind::Pipe { assign: pipe.assign, variables: pipe.variables, commands: pipe.commands };
        Ok(self.add(kind, pipe.pos, span))
    }

    /// Adds a term with the fields behind it to the command.
    fn operand(&mut self, term: NodeId, pipe: &mut OpenPipe) -> Parsed<()> {
        let mut id = term;
        let first = self.peek();
        if first.kind == TokenKind::Field {
            let mut fields: Vec<Box<str>> = Vec::new();
            let mut end = first.end;
            while self.peek().kind == TokenKind::Field {
                let token = self.next();
                fields.push(self.text[token.start + 1..token.end].into());
                end = token.end;
            }
            let span = Span::new(self.ast.node(term).span.start as usize, end);
            let kind = match self.ast.kind(term) {
                NodeKind::Field(names) => NodeKind::Field(names.iter().cloned().chain(fields).collect()),
                NodeKind::Variable(names) => {
                    NodeKind::Variable(names.iter().cloned().chain(fields).collect())
                }
                NodeKind::Bool(_)
                | NodeKind::Str { .. }
                | NodeKind::Number(..)
                | NodeKind::Nil
                | NodeKind::Dot => {
                    let text = go_quote(&self.ast.text(term));
                    return Err(self.error(format_args!("unexpected . after term {text}"), span));
                }
                _ => NodeKind::Chain { node: term, fields },
            };
            id = self.add(kind, first.start, span);
        }
        if let Some((_, args)) = &mut pipe.command {
            args.push(id);
        }
        Ok(())
    }

    /// The term that a token is; `None` if it is none.
    fn term(&mut self, token: &Token) -> Parsed<Option<NodeId>> {
        let text = self.text;
        let word = &text[token.start..token.end];
        let span = Span::new(token.start, token.end);
        let kind = match token.kind {
            TokenKind::Identifier => match self.functions.get(word) {
                Some(function) => NodeKind::Identifier(function),
                None => {
                    let message = format!("function {} not defined", go_quote(word));
                    let mut error = self.error(message, span);
                    error.hint = hint::nearest_function(self.functions, word);
                    return Err(error);
                }
            },
            TokenKind::Dot => NodeKind::Dot,
            TokenKind::Nil => NodeKind::Nil,
            TokenKind::Variable => {
                if !self.top().variables.contains(&word) {
                    let message = format!("undefined variable {}", go_quote(word));
                    let mut error = self.error(message, span);
                    if !matches!(self.top().owner, Owner::Top) {
                        error.hint = Some(
                            "a defined template knows only $ and ., which are what it is called with"
                                .to_string(),
                        );
                    }
                    return Err(error);
                }
                NodeKind::Variable(vec![word.into()])
            }
            TokenKind::Field => NodeKind::Field(vec![word[1..].into()]),
            TokenKind::Bool => NodeKind::Bool(word == "true"),
            TokenKind::CharConstant | TokenKind::Complex | TokenKind::Number => {
                let number = match token.kind {
                    TokenKind::CharConstant => literal::character(word),
                    TokenKind::Complex => literal::complex(word),
                    _ => literal::number(word),
                };
                match number {
                    Ok(number) => NodeKind::Number(number, word.into()),
                    Err(e) => return Err(self.error(e, span)),
                }
            }
            TokenKind::String | TokenKind::RawString => match literal::unquote(word) {
                Ok(text) => NodeKind::Str { quoted: word.into(), text: text.into() },
                Err(e) => return Err(self.error(e, span)),
            },
            _ => return Ok(None),
        };
        Ok(Some(self.add(kind, token.start, span)))
    }
}

fn is_term(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Bool
            | TokenKind::CharConstant
            | TokenKind::Complex
            | TokenKind::Dot
            | TokenKind::Field
            | TokenKind::Identifier
            | TokenKind::Number
            | TokenKind::Nil
            | TokenKind::RawString
            | TokenKind::String
            | TokenKind::Variable
            | TokenKind::LeftParen
    )
}
