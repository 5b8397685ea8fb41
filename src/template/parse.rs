//! Tokens into a syntax tree, with Go's error texts. Open blocks and parentheses lie on stacks of their own.

use tsdbctl_model::Span;
use tsdbctl_model::quote::go_quote;

use crate::ast::{Ast, BranchKind, Node, NodeId, NodeKind, Tree};
use crate::error::TemplateError;
use crate::func::FunctionSet;
use crate::hint;
use crate::lex::{Lexer, Token, TokenKind};
use crate::literal;

/// How deep parentheses may nest, as in Go.
const MAX_PARENTHESES: usize = 10_000;

/// Reads the template `text` called `name`.
///
/// # Errors
/// Go's text, `template: NAME:LINE: …`.
pub fn parse(name: &str, text: &str, functions: FunctionSet) -> Result<Ast, TemplateError> {
    if u32::try_from(text.len()).is_err() {
        return Err(TemplateError {
            message: format!("template: {name}:1: text is longer than 4 GiB"),
            span: Span::default(),
            hint: None,
        });
    }
    let mut parser = Parser {
        name,
        text,
        functions,
        lexer: Lexer::new(text),
        ast: Ast::default(),
        scopes: vec![Scope::new(Owner::Top)],
    };
    parser.run()?;
    Ok(parser.ast)
}

/// What the statements of a scope are for.
enum Owner {
    Top,
    Define { name: Box<str> },
    Block { name: Box<str>, pos: usize, pipe: NodeId, start: usize },
}

/// What Go keeps per template while it reads.
struct Scope<'a> {
    owner: Owner,
    /// The last token read, then those that were pushed back before it.
    tokens: [Token; 3],
    peeked: usize,
    variables: Vec<&'a str>,
    /// The line of the `{{` of the action being read, 0 if there is none.
    action_line: usize,
    ranges: usize,
    parentheses: usize,
    nodes: Vec<NodeId>,
    open: Vec<Open>,
}

/// A control structure whose `{{end}}` is still to come.
struct Open {
    kind: BranchKind,
    pipe: NodeId,
    start: usize,
    variables: usize,
    nodes: Vec<NodeId>,
    /// The part before `{{else}}`, if that was passed.
    list: Option<NodeId>,
    /// Whether it belongs to an `{{else if}}` or `{{else with}}`, and ends with what is around it.
    chained: bool,
}

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

/// What a statement was.
enum Statement {
    Node(NodeId),
    End,
    Else,
    /// Something that stays open.
    Opened,
}

impl Scope<'_> {
    fn new(owner: Owner) -> Self {
        let token = Token { kind: TokenKind::Error, start: 0, end: 0, line: 0, error: None };
        Self {
            owner,
            tokens: [token.clone(), token.clone(), token],
            peeked: 0,
            variables: vec!["$"],
            action_line: 0,
            ranges: 0,
            parentheses: 0,
            nodes: Vec::new(),
            open: Vec::new(),
        }
    }
}

struct Parser<'a> {
    name: &'a str,
    text: &'a str,
    functions: FunctionSet,
    lexer: Lexer<'a>,
    ast: Ast,
    scopes: Vec<Scope<'a>>,
}

type Parsed<T> = Result<T, TemplateError>;

impl<'a> Parser<'a> {
    fn scope(&mut self) -> &mut Scope<'a> {
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn top(&self) -> &Scope<'a> {
        &self.scopes[self.scopes.len() - 1]
    }

    fn next(&mut self) -> Token {
        if self.top().peeked > 0 {
            let scope = self.scope();
            scope.peeked -= 1;
            return scope.tokens[scope.peeked].clone();
        }
        let token = self.lexer.next();
        self.scope().tokens[0] = token.clone();
        token
    }

    fn backup(&mut self) {
        self.scope().peeked += 1;
    }

    /// Pushes `before` back in front of the token already pushed back.
    fn backup_two(&mut self, before: Token) {
        let scope = self.scope();
        scope.tokens[1] = before;
        scope.peeked = 2;
    }

    fn backup_three(&mut self, first: Token, second: Token) {
        let scope = self.scope();
        scope.tokens[1] = second;
        scope.tokens[2] = first;
        scope.peeked = 3;
    }

    fn peek(&mut self) -> Token {
        let token = self.next();
        self.backup();
        token
    }

    fn next_solid(&mut self) -> Token {
        loop {
            let token = self.next();
            if token.kind != TokenKind::Space {
                return token;
            }
        }
    }

    fn peek_solid(&mut self) -> Token {
        let token = self.next_solid();
        self.backup();
        token
    }

    fn error(&self, message: impl std::fmt::Display, span: Span) -> TemplateError {
        self.error_on(self.top().tokens[0].line, message, span)
    }

    fn error_on(&self, line: usize, message: impl std::fmt::Display, span: Span) -> TemplateError {
        let name = self.name;
        TemplateError { message: format!("template: {name}:{line}: {message}"), span, hint: None }
    }

    /// The place of the last token.
    fn here(&self) -> Span {
        let token = &self.top().tokens[0];
        Span::new(token.start, token.end)
    }

    fn unexpected(&self, token: &Token, context: &str) -> TemplateError {
        let span = Span::new(token.start, token.end);
        let described = token.describe(self.text);
        if token.kind != TokenKind::Error {
            let mut error = self.error(format_args!("unexpected {described} in {context}"), span);
            error.hint = hint::for_token(token.kind, &self.text[token.start..token.end], context);
            return error;
        }
        let action = self.top().action_line;
        let mut extra = String::new();
        if action != 0 && action != token.line {
            extra = format!(" in action started at {}:{action}", self.name);
            if described.ends_with(" action") {
                extra.drain(.." in action".len());
            }
        }
        self.error(format_args!("{described}{extra}"), span)
    }

    fn expect(&mut self, kind: TokenKind, context: &str) -> Parsed<Token> {
        let token = self.next_solid();
        if token.kind == kind { Ok(token) } else { Err(self.unexpected(&token, context)) }
    }

    fn add(&mut self, kind: NodeKind, pos: usize, span: Span) -> NodeId {
        let id = NodeId(self.ast.nodes.len() as u32);
        self.ast.nodes.push(Node { kind, pos: pos as u32, span });
        id
    }

    fn add_list(&mut self, nodes: Vec<NodeId>) -> NodeId {
        let span = match (nodes.first(), nodes.last()) {
            (Some(first), Some(last)) => self.ast.node(*first).span.to(self.ast.node(*last).span),
            _ => self.here(),
        };
        self.add(NodeKind::List(nodes), span.start as usize, span)
    }

    fn append(&mut self, id: NodeId) {
        let scope = self.scope();
        scope.open.last_mut().map_or(&mut scope.nodes, |open| &mut open.nodes).push(id);
    }

    fn run(&mut self) -> Parsed<()> {
        loop {
            let outermost = self.scopes.len() == 1 && self.top().open.is_empty();
            let token = if outermost { self.peek() } else { self.peek_solid() };
            if token.kind == TokenKind::Eof {
                if !outermost {
                    let mut error = self.error("unexpected EOF", self.unclosed());
                    error.hint = Some("add the missing {{end}}".to_string());
                    return Err(error);
                }
                let nodes = std::mem::take(&mut self.scope().nodes);
                let root = self.add_list(nodes);
                return self.add_tree(self.name.into(), root);
            }
            if outermost && token.kind == TokenKind::LeftDelim {
                let delim = self.next();
                if self.next_solid().kind == TokenKind::Define {
                    self.define()?;
                    continue;
                }
                self.backup_two(delim);
            }
            match self.statement()? {
                Statement::Node(id) => self.append(id),
                Statement::Opened => {}
                Statement::End => self.end()?,
                Statement::Else => self.or_else()?,
            }
        }
    }

    /// The place of the innermost block that has no end.
    fn unclosed(&self) -> Span {
        let start = match (self.top().open.last(), &self.top().owner) {
            (Some(open), _) => open.start,
            (None, Owner::Block { start, .. }) => *start,
            _ => return self.here(),
        };
        let end = self.text[start..].find("}}").map_or(self.text.len(), |i| start + i + 2);
        Span::new(start, end)
    }

    fn add_tree(&mut self, name: Box<str>, root: NodeId) -> Parsed<()> {
        let Some(at) = self.ast.trees.iter().position(|tree| tree.name == name) else {
            self.ast.trees.push(Tree { name, root });
            return Ok(());
        };
        if self.ast.is_blank(self.ast.trees[at].root) {
            self.ast.trees[at].root = root;
        } else if !self.ast.is_blank(root) {
            let message = format!("template: multiple definition of template {}", go_quote(&name));
            return Err(self.error(message, self.ast.node(root).span));
        }
        Ok(())
    }

    /// `{{define` is passed.
    fn define(&mut self) -> Parsed<()> {
        const CONTEXT: &str = "define clause";
        self.scopes.push(Scope::new(Owner::Define { name: "".into() }));
        let token = self.next_solid();
        let name = self.template_name(&token, CONTEXT)?;
        self.expect(TokenKind::RightDelim, CONTEXT)?;
        self.scope().owner = Owner::Define { name };
        Ok(())
    }

    fn template_name(&mut self, token: &Token, context: &str) -> Parsed<Box<str>> {
        if !matches!(token.kind, TokenKind::String | TokenKind::RawString) {
            return Err(self.unexpected(token, context));
        }
        match literal::unquote(&self.text[token.start..token.end]) {
            Ok(name) => Ok(name.into()),
            Err(e) => Err(self.error(e, Span::new(token.start, token.end))),
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let token = self.next_solid();
        match token.kind {
            TokenKind::Text => {
                let text = self.text[token.start..token.end].into();
                let span = Span::new(token.start, token.end);
                Ok(Statement::Node(self.add(NodeKind::Text(text), token.start, span)))
            }
            TokenKind::LeftDelim => {
                self.scope().action_line = token.line;
                let statement = self.action(token.start)?;
                if !matches!(statement, Statement::Opened) {
                    self.scope().action_line = 0;
                }
                Ok(statement)
            }
            _ => Err(self.unexpected(&token, "input")),
        }
    }

    /// The `{{` at `start` is passed.
    fn action(&mut self, start: usize) -> Parsed<Statement> {
        let token = self.next_solid();
        match token.kind {
            TokenKind::Block => self.block(start),
            TokenKind::Break => self.leave(&token, start, NodeKind::Break, "{{break}}"),
            TokenKind::Continue => self.leave(&token, start, NodeKind::Continue, "{{continue}}"),
            TokenKind::Else => {
                let next = self.peek_solid();
                if !matches!(next.kind, TokenKind::If | TokenKind::With) {
                    self.expect(TokenKind::RightDelim, "else")?;
                }
                Ok(Statement::Else)
            }
            TokenKind::End => {
                self.expect(TokenKind::RightDelim, "end")?;
                Ok(Statement::End)
            }
            TokenKind::If => self.control(BranchKind::If, start, false),
            TokenKind::Range => self.control(BranchKind::Range, start, false),
            TokenKind::With => self.control(BranchKind::With, start, false),
            TokenKind::Template => {
                const CONTEXT: &str = "template clause";
                let token = self.next_solid();
                let name = self.template_name(&token, CONTEXT)?;
                let mut pipe = None;
                if self.next_solid().kind != TokenKind::RightDelim {
                    self.backup();
                    pipe = Some(self.pipeline(CONTEXT)?);
                }
                let span = Span::new(start, self.here().end as usize);
                let id = self.add(NodeKind::Template { name, pipe }, token.start, span);
                Ok(Statement::Node(id))
            }
            _ => {
                self.backup();
                let first = self.peek();
                let pipe = self.pipeline("command")?;
                let span = Span::new(start, self.here().end as usize);
                Ok(Statement::Node(self.add(NodeKind::Action(pipe), first.start, span)))
            }
        }
    }

    fn leave(&mut self, keyword: &Token, start: usize, kind: NodeKind, context: &str) -> Parsed<Statement> {
        let token = self.next_solid();
        if token.kind != TokenKind::RightDelim {
            return Err(self.unexpected(&token, context));
        }
        let span = Span::new(start, token.end);
        if self.top().ranges == 0 {
            return Err(self.error(format_args!("{context} outside {{{{range}}}}"), span));
        }
        Ok(Statement::Node(self.add(kind, keyword.start, span)))
    }

    fn control(&mut self, kind: BranchKind, start: usize, chained: bool) -> Parsed<Statement> {
        let variables = self.top().variables.len();
        let pipe = self.pipeline(kind.keyword())?;
        let scope = self.scope();
        if kind == BranchKind::Range {
            scope.ranges += 1;
        }
        scope.open.push(Open { kind, pipe, start, variables, nodes: Vec::new(), list: None, chained });
        Ok(Statement::Opened)
    }

    fn block(&mut self, start: usize) -> Parsed<Statement> {
        const CONTEXT: &str = "block clause";
        let token = self.next_solid();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT)?;
        self.scopes.push(Scope::new(Owner::Block { name, pos: token.start, pipe, start }));
        Ok(Statement::Opened)
    }

    /// `{{end}}` is passed.
    fn end(&mut self) -> Parsed<()> {
        while let Some(open) = self.scope().open.pop() {
            let last = self.add_list(open.nodes);
            let (list, else_list) = match open.list {
                Some(list) => (list, Some(last)),
                None => (last, None),
            };
            if open.kind == BranchKind::Range && else_list.is_none() {
                self.scope().ranges -= 1;
            }
            self.scope().variables.truncate(open.variables);
            let kind = NodeKind::Branch { kind: open.kind, pipe: open.pipe, list, else_list };
            let pos = self.ast.node(open.pipe).pos as usize;
            let span = Span::new(open.start, self.here().end as usize);
            let id = self.add(kind, pos, span);
            self.append(id);
            if !open.chained {
                self.scope().action_line = 0;
                return Ok(());
            }
        }
        let nodes = std::mem::take(&mut self.scope().nodes);
        match &self.top().owner {
            Owner::Top => Err(self.error("unexpected {{end}}", self.here())),
            Owner::Define { name } => {
                let name = name.clone();
                let root = self.add_list(nodes);
                self.add_tree(name, root)?;
                self.scopes.pop();
                Ok(())
            }
            Owner::Block { name, pos, pipe, start } => {
                let (name, pos, pipe, start) = (name.clone(), *pos, *pipe, *start);
                let root = self.add_list(nodes);
                self.add_tree(name.clone(), root)?;
                let span = Span::new(start, self.here().end as usize);
                self.scopes.pop();
                let id = self.add(NodeKind::Template { name, pipe: Some(pipe) }, pos, span);
                self.append(id);
                self.scope().action_line = 0;
                Ok(())
            }
        }
    }

    /// `{{else}}` is passed, or the `{{else` before an `if` or `with`.
    fn or_else(&mut self) -> Parsed<()> {
        let here = self.here();
        let Some(open) = self.scope().open.last_mut() else {
            return Err(match self.top().owner {
                Owner::Top => self.error("unexpected {{else}}", here),
                Owner::Define { .. } => self.error("unexpected {{else}} in define clause", here),
                // Go counts this one from the line of the block's own action.
                Owner::Block { .. } => self.error_on(
                    self.scopes[self.scopes.len() - 2].tokens[0].line,
                    "unexpected {{else}} in block clause",
                    here,
                ),
            });
        };
        if open.list.is_some() {
            return Err(self.error("expected end; found {{else}}", here));
        }
        let (kind, nodes) = (open.kind, std::mem::take(&mut open.nodes));
        let list = self.add_list(nodes);
        let scope = self.scope();
        if kind == BranchKind::Range {
            scope.ranges -= 1;
        }
        if let Some(open) = scope.open.last_mut() {
            open.list = Some(list);
        }
        let chain = matches!(
            (kind, self.peek().kind),
            (BranchKind::If, TokenKind::If) | (BranchKind::With, TokenKind::With)
        );
        if chain {
            let token = self.next();
            self.control(kind, token.start, true)?;
        }
        Ok(())
    }

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

    fn pipeline(&mut self, context: &'static str) -> Parsed<NodeId> {
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
