//! Actions that are statements: what opens and ends blocks.

use tsdbctl_model::Span;

use crate::ast::{BranchKind, NodeKind};
use crate::lex::{Token, TokenKind};
use crate::literal;

use super::{Open, Owner, Parsed, Parser, Scope, Statement};

impl Parser<'_> {
    /// `{{define` is passed.
    pub(super) fn define(&mut self) -> Parsed<()> {
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

    pub(super) fn statement(&mut self) -> Parsed<Statement> {
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
    pub(super) fn action(&mut self, start: usize) -> Parsed<Statement> {
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

    pub(super) fn control(&mut self, kind: BranchKind, start: usize, chained: bool) -> Parsed<Statement> {
        let variables = self.top().variables.len();
        let pipe = self.pipeline(kind.keyword())?;
        let scope = self.scope();
        if kind == BranchKind::Range {
            scope.ranges += 1;
        }
        scope.open.push(Open { kind, pipe, start, variables, nodes: Vec::new(), list: None, chained });
        Ok(Statement::Opened)
    }

    pub(super) fn block(&mut self, start: usize) -> Parsed<Statement> {
        const CONTEXT: &str = "block clause";
        let token = self.next_solid();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT)?;
        self.scopes.push(Scope::new(Owner::Block { name, pos: token.start, pipe, start }));
        Ok(Statement::Opened)
    }

    /// `{{end}}` is passed.
    pub(super) fn end(&mut self) -> Parsed<()> {
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
    pub(super) fn or_else(&mut self) -> Parsed<()> {
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
}
