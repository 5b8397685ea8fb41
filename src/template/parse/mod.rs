//! Tokens into a syntax tree, with Go's error texts. Open blocks and parentheses lie on stacks of their own.

mod pipeline;
mod statement;

use tsdbctl_model::Span;
use tsdbctl_model::quote::go_quote;

use crate::ast::{Ast, BranchKind, Node, NodeId, NodeKind, Tree};
use crate::error::TemplateError;
use crate::func::FunctionSet;
use crate::hint;
use crate::lex::{Lexer, Token, TokenKind};

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
}
