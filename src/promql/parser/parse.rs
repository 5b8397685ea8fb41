//! The expression parser: operator precedence with an explicit stack, so neither long chains nor deep
//! nesting use the thread's stack, in one pass over the tokens.
//!
//! Which text an error has depends on the innermost construct that is open where the unexpected token
//! stands; each place below says its own.

use std::mem::take;

use tsdbctl_model::duration::parse_duration_ms;
use tsdbctl_model::float_text::go_quote;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::{MatchType, Matcher, Span};

use super::ast::{
    AggregateExpr, AggregateOp, BinaryExpr, BinaryOp, Call, Cardinality, DurationOperand, Expr,
    MatrixSelector, NumberLiteral, ParenExpr, StartOrEnd, StringLiteral, SubqueryExpr, TimeModifiers,
    UnaryExpr, VectorMatching, VectorSelector,
};
use super::error::ParseError;
use super::functions::function;
use super::lexer::Lexer;
use super::token::{Kind, Token};
use super::{check, hint, literal};
use crate::engine::options::Features;

/// How deep brackets, signs and powers may nest.
pub const MAX_DEPTH: usize = 1000;

/// Parses and checks an expression.
///
/// # Errors
/// The first thing wrong with it, with upstream's text and place.
pub fn parse(text: &str, features: &Features) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, features)?;
    if parser.peek.kind == Kind::Eof {
        return Err(ParseError::new(Span::default(), "no expression found in input")
            .with_hint("an expression is a metric name such as up, or a call such as rate(metric[5m])"));
    }
    let mut expr = parser.expression()?;
    check::check(&mut expr, text)?;
    Ok(expr)
}

/// Parses a selector without modifiers, such as the API's `match[]` or `metric{label="value"}`; it may be one
/// that selects everything.
///
/// # Errors
/// The first thing wrong with it.
pub fn parse_metric_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let features = Features::default();
    let mut parser = Parser::new(text, &features)?;
    let token = parser.peek;
    let selector = if token.kind == Kind::LeftBrace || token.is_metric_name() {
        parser.advance()?;
        parser.selector(token)?
    } else {
        return Err(parser.unexpected("", ""));
    };
    if parser.peek.kind != Kind::Eof {
        return Err(parser.unexpected("", ""));
    }
    Ok(selector.matchers)
}

/// Parses an argument of `match[]`: a selector with at least one condition that refuses the empty value.
///
/// # Errors
/// The first thing wrong with it.
pub fn parse_label_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let matchers = parse_metric_selector(text)?;
    if matchers.iter().all(|m| m.matches("")) {
        return Err(ParseError::new(
            Span::new(0, text.len()),
            "match[] must contain at least one non-empty matcher",
        ));
    }
    Ok(matchers)
}

/// What is open around the place that is being parsed.
enum Frame {
    Paren { start: u32 },
    Call { name: Token, args: Vec<Expr> },
    Aggregate(Box<OpenAggregate>),
    Binary(Box<OpenBinary>),
    Unary { negative: bool, start: u32 },
}

struct OpenAggregate {
    op: AggregateOp,
    name: Token,
    /// `by` or `without` in front of the arguments.
    modifier: Option<Modifier>,
    args: Vec<Expr>,
}

struct OpenBinary {
    lhs: Expr,
    op: BinaryOp,
    matching: VectorMatching,
    return_bool: bool,
}

struct Modifier {
    grouping: Vec<String>,
    without: bool,
}

/// How tightly an operator binds.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eql
        | BinaryOp::Neq
        | BinaryOp::Gtr
        | BinaryOp::Lss
        | BinaryOp::Gte
        | BinaryOp::Lte
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => SIGN_PRECEDENCE,
        BinaryOp::Pow => 6,
    }
}

/// A sign binds like a multiplication.
const SIGN_PRECEDENCE: u8 = 5;

/// Whether a frame is complete when `incoming` follows its right operand.
fn completes(frame: &Frame, incoming: u8) -> bool {
    match frame {
        Frame::Binary(b) => {
            precedence(b.op) > incoming || (precedence(b.op) == incoming && b.op != BinaryOp::Pow)
        }
        Frame::Unary { .. } => SIGN_PRECEDENCE >= incoming,
        _ => false,
    }
}

pub(crate) struct Parser<'a> {
    pub(crate) lexer: Lexer<'a>,
    pub(crate) peek: Token,
    /// The token in front of `peek`.
    pub(crate) previous: Token,
    features: &'a Features,
    frames: Vec<Frame>,
    depth: usize,
    subqueries: usize,
    pub(crate) duration_terms: usize,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, features: &'a Features) -> Result<Self, ParseError> {
        if text.len() > u32::MAX as usize {
            return Err(ParseError::new(Span::default(), "the text is longer than 4 GiB"));
        }
        let mut lexer = Lexer::new(text);
        let peek = lexer.next()?;
        let previous = Token { kind: Kind::Eof, start: 0, end: 0 };
        Ok(Self {
            lexer,
            peek,
            previous,
            features,
            frames: Vec::new(),
            depth: 0,
            subqueries: 0,
            duration_terms: 0,
        })
    }

    /// Consumes the token in front and reads the one behind it.
    pub(crate) fn advance(&mut self) -> Result<Token, ParseError> {
        let token = self.peek;
        self.previous = token;
        self.peek = self.lexer.next()?;
        Ok(token)
    }

    pub(crate) fn text(&self, token: Token) -> &'a str {
        token.text(self.lexer.input)
    }

    /// The error about the token in front.
    pub(crate) fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let mut message = format!("unexpected {}", self.peek.describe(self.lexer.input));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        let mut e = ParseError::new(self.peek.span(), message);
        e.hint = hint::unexpected(self.lexer.input, self.previous, self.peek, context);
        e
    }

    /// The error about the token in front where no construct has a text of its own.
    fn unexpected_here(&self) -> ParseError {
        let aggregation = self.frames.iter().any(|f| matches!(f, Frame::Aggregate(_)));
        self.unexpected(if aggregation { "aggregation" } else { "" }, "")
    }

    /// Counts one more level of nesting.
    pub(crate) fn deeper(&mut self, span: Span) -> Result<(), ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::new(
                span,
                format!(
                    "expression is nested too deeply: more than {MAX_DEPTH} levels of brackets, signs or powers"
                ),
            ));
        }
        Ok(())
    }

    pub(crate) fn shallower(&mut self) {
        self.depth -= 1;
    }

    fn push(&mut self, frame: Frame, token: Token) -> Result<(), ParseError> {
        let nests = match &frame {
            Frame::Binary(b) => b.op == BinaryOp::Pow,
            _ => true,
        };
        if nests {
            self.deeper(token.span())?;
        }
        self.frames.push(frame);
        Ok(())
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop();
        let nests = match &frame {
            Some(Frame::Binary(b)) => b.op == BinaryOp::Pow,
            Some(_) => true,
            None => false,
        };
        if nests {
            self.depth -= 1;
        }
        frame
    }

    /// The whole text as one expression.
    fn expression(&mut self) -> Result<Expr, ParseError> {
        // Operands and operators alternate; `operand` opens frames until one is complete.
        let mut current = self.operand()?;
        loop {
            current = self.modifiers(current)?;
            match self.peek.kind {
                Kind::Operator(op) => {
                    current = self.complete(current, precedence(op))?;
                    let token = self.peek;
                    let (matching, return_bool) = self.operator()?;
                    let open = OpenBinary { lhs: current, op, matching, return_bool };
                    self.push(Frame::Binary(Box::new(open)), token)?;
                    current = self.operand()?;
                }
                Kind::RightParen => {
                    current = self.complete(current, 0)?;
                    current = match self.pop() {
                        Some(Frame::Paren { start }) => {
                            let end = self.peek.end;
                            let expr = Box::new(current);
                            let paren = Expr::Paren(ParenExpr { expr, span: Span { start, end } });
                            self.advance()?;
                            paren
                        }
                        Some(Frame::Call { name, mut args }) => {
                            args.push(current);
                            self.close_call(name, args)?
                        }
                        Some(Frame::Aggregate(mut open)) => {
                            open.args.push(current);
                            self.close_aggregate(*open)?
                        }
                        _ => return Err(self.unexpected_here()),
                    };
                }
                Kind::Comma => {
                    current = self.complete(current, 0)?;
                    let args = match self.frames.last_mut() {
                        Some(Frame::Call { args, .. }) => args,
                        Some(Frame::Aggregate(open)) => &mut open.args,
                        _ => return Err(self.unexpected_here()),
                    };
                    args.push(current);
                    let comma = self.advance()?;
                    if !self.peek.starts_expression() {
                        return Err(ParseError::new(
                            comma.span(),
                            "trailing commas not allowed in function call args",
                        )
                        .with_hint("remove the comma"));
                    }
                    current = self.operand()?;
                }
                Kind::Eof => {
                    current = self.complete(current, 0)?;
                    if self.frames.is_empty() {
                        return Ok(current);
                    }
                    return Err(self.unexpected_here());
                }
                _ => {
                    self.complete(current, 0)?;
                    return Err(self.unexpected_here());
                }
            }
        }
    }

    /// Opens frames up to the first complete operand and gives it.
    fn operand(&mut self) -> Result<Expr, ParseError> {
        loop {
            let token = self.peek;
            match token.kind {
                Kind::LeftParen => {
                    self.advance()?;
                    self.push(Frame::Paren { start: token.start }, token)?;
                }
                Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                    self.advance()?;
                    self.push(Frame::Unary { negative: op == BinaryOp::Sub, start: token.start }, token)?;
                }
                Kind::Number | Kind::Duration => return Ok(Expr::Number(self.number()?)),
                Kind::String => {
                    let literal = self.string_literal(token)?;
                    self.advance()?;
                    return Ok(Expr::String(literal));
                }
                Kind::LeftBrace => {
                    self.advance()?;
                    return Ok(Expr::Vector(Box::new(self.selector(token)?)));
                }
                Kind::Identifier
                | Kind::Start
                | Kind::End
                | Kind::Step
                | Kind::Range
                | Kind::MaxOf
                | Kind::MinOf => {
                    self.advance()?;
                    if self.peek.kind != Kind::LeftParen {
                        return Ok(Expr::Vector(Box::new(self.selector(token)?)));
                    }
                    self.advance()?;
                    if self.peek.kind == Kind::RightParen {
                        return self.close_call(token, Vec::new());
                    }
                    self.push(Frame::Call { name: token, args: Vec::new() }, token)?;
                }
                Kind::Aggregate(op) => {
                    self.advance()?;
                    let mut open = OpenAggregate { op, name: token, modifier: None, args: Vec::new() };
                    match self.peek.kind {
                        Kind::LeftParen => {}
                        Kind::By | Kind::Without => {
                            open.modifier = Some(self.modifier()?);
                            self.advance()?;
                            if self.peek.kind != Kind::LeftParen {
                                return Err(self.unexpected("aggregation", ""));
                            }
                        }
                        _ => return Ok(Expr::Vector(Box::new(self.selector(token)?))),
                    }
                    self.push(Frame::Aggregate(Box::new(open)), token)?;
                    self.advance()?;
                    if self.peek.kind == Kind::RightParen
                        && let Some(Frame::Aggregate(open)) = self.pop()
                    {
                        return self.close_aggregate(*open);
                    }
                }
                _ if token.is_metric_name() => {
                    self.advance()?;
                    return Ok(Expr::Vector(Box::new(self.selector(token)?)));
                }
                _ => return Err(self.unexpected_here()),
            }
        }
    }

    /// Closes the operators on top of the stack that bind tighter than what follows.
    fn complete(&mut self, mut current: Expr, incoming: u8) -> Result<Expr, ParseError> {
        while self.frames.last().is_some_and(|f| completes(f, incoming)) {
            current = match self.pop() {
                Some(Frame::Unary { negative, start }) => match current {
                    Expr::Number(mut n) => {
                        if negative {
                            n.value = -n.value;
                        }
                        n.span.start = start;
                        Expr::Number(n)
                    }
                    expr => {
                        let span = Span { start, end: expr.span().end };
                        Expr::Unary(UnaryExpr { negative, expr: Box::new(expr), span })
                    }
                },
                Some(Frame::Binary(open)) => {
                    let OpenBinary { lhs, op, matching, return_bool } = *open;
                    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
                    let expr = Expr::Binary(Box::new(BinaryExpr {
                        op,
                        lhs,
                        rhs: current,
                        matching: Some(matching),
                        return_bool,
                    }));
                    if fills && !self.features.binop_fill_modifiers {
                        return Err(ParseError::new(
                            expr.span(),
                            "binop fill modifiers are experimental and not enabled",
                        )
                        .with_hint("enable the feature promql-binop-fill-modifiers"));
                    }
                    expr
                }
                _ => return Ok(current),
            };
        }
        Ok(current)
    }

    /// A number or duration token as a literal.
    pub(crate) fn number(&mut self) -> Result<NumberLiteral, ParseError> {
        let token = self.peek;
        let is_duration = token.kind == Kind::Duration;
        let value = self.number_value(token)?;
        self.advance()?;
        Ok(NumberLiteral { value, is_duration, span: token.span() })
    }

    /// The value of a number or duration token, in seconds.
    pub(crate) fn number_value(&self, token: Token) -> Result<f64, ParseError> {
        let text = self.text(token);
        if token.kind == Kind::Duration {
            let ms = parse_duration_ms(text).map_err(|e| {
                ParseError::new(token.span(), e.to_string())
                    .with_hint("durations look like 30s, 5m, 1h30m; larger units come first, each once")
            })?;
            Ok((ms / 1000) as f64 + ((ms % 1000) * 1_000_000) as f64 / 1e9)
        } else {
            literal::number(text)
                .map_err(|e| ParseError::new(token.span(), format!("error parsing number: {e}")))
        }
    }

    fn string_literal(&self, token: Token) -> Result<StringLiteral, ParseError> {
        let (value, invalid_utf8) = match String::from_utf8(self.unquote_bytes(token)?) {
            Ok(value) => (value, None),
            Err(e) => (String::from_utf8_lossy(e.as_bytes()).into_owned(), Some(e.into_bytes().into())),
        };
        Ok(StringLiteral { value, invalid_utf8, span: token.span() })
    }

    fn unquote(&self, token: Token) -> Result<String, ParseError> {
        let bytes = self.unquote_bytes(token)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn unquote_bytes(&self, token: Token) -> Result<Vec<u8>, ParseError> {
        let text = self.text(token);
        literal::unquote_bytes(text).map_err(|e| {
            ParseError::new(token.span(), format!("error unquoting string {}: {e}", go_quote(text)))
        })
    }

    /// Behind the operator's token: `bool`, `on`, `ignoring`, `group_left`, `group_right`, `fill`.
    fn operator(&mut self) -> Result<(VectorMatching, bool), ParseError> {
        self.advance()?;
        let mut matching = VectorMatching {
            card: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.peek.kind == Kind::Bool;
        if return_bool {
            self.advance()?;
        }
        if matches!(self.peek.kind, Kind::On | Kind::Ignoring) {
            matching.on = self.advance()?.kind == Kind::On;
            matching.labels = self.grouping()?;
            self.advance()?;
            if matches!(self.peek.kind, Kind::GroupLeft | Kind::GroupRight) {
                matching.card = if self.advance()?.kind == Kind::GroupLeft {
                    Cardinality::ManyToOne
                } else {
                    Cardinality::OneToMany
                };
                if self.peek.kind == Kind::LeftParen {
                    matching.include = self.grouping()?;
                    self.advance()?;
                } else if !self.peek.begins_operand() {
                    return Err(self.unexpected("grouping opts", "\"(\""));
                }
            }
        }
        match self.peek.kind {
            Kind::Fill => {
                let v = self.fill_value()?;
                matching.fill_left = Some(v);
                matching.fill_right = Some(v);
            }
            Kind::FillLeft => {
                matching.fill_left = Some(self.fill_value()?);
                if self.peek.kind == Kind::FillRight {
                    matching.fill_right = Some(self.fill_value()?);
                }
            }
            Kind::FillRight => {
                matching.fill_right = Some(self.fill_value()?);
                if self.peek.kind == Kind::FillLeft {
                    matching.fill_left = Some(self.fill_value()?);
                }
            }
            _ => {}
        }
        Ok((matching, return_bool))
    }

    /// `fill(number)`, the keyword in front.
    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.advance()?;
        if self.peek.kind != Kind::LeftParen {
            return Err(self.unexpected_here());
        }
        self.advance()?;
        let mut negative = false;
        if let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek.kind {
            negative = op == BinaryOp::Sub;
            self.advance()?;
        }
        if !matches!(self.peek.kind, Kind::Number | Kind::Duration) {
            return Err(self.unexpected_here());
        }
        let value = self.number()?.value;
        if self.peek.kind != Kind::RightParen {
            return Err(self.unexpected_here());
        }
        self.advance()?;
        Ok(if negative { -value } else { value })
    }

    /// `by (…)` or `without (…)`, the keyword in front; its `)` stays in front.
    fn modifier(&mut self) -> Result<Modifier, ParseError> {
        let without = self.advance()?.kind == Kind::Without;
        Ok(Modifier { grouping: self.grouping()?, without })
    }

    /// `(label, …)`; its `)` stays in front, for what is wrong with the whole is reported before what is wrong
    /// with the token behind.
    fn grouping(&mut self) -> Result<Vec<String>, ParseError> {
        const CONTEXT: &str = "grouping opts";
        let mut labels = Vec::new();
        if self.peek.kind != Kind::LeftParen {
            return Err(self.unexpected(CONTEXT, "\"(\""));
        }
        self.advance()?;
        loop {
            let token = self.peek;
            match token.kind {
                Kind::RightParen => return Ok(labels),
                Kind::String => {
                    let label = self.unquote_bytes(token)?;
                    match String::from_utf8(label) {
                        Ok(label) if !label.is_empty() => labels.push(label),
                        label => {
                            let bytes = label.map_or_else(|e| e.into_bytes(), String::into_bytes);
                            let shown = literal::quote_bytes(&bytes);
                            let message = format!("invalid label name for grouping: {shown}");
                            return Err(ParseError::new(token.span(), message));
                        }
                    }
                }
                _ if token.is_grouping_label() => labels.push(self.text(token).to_string()),
                _ => return Err(self.unexpected(CONTEXT, "label")),
            }
            self.advance()?;
            match self.peek.kind {
                Kind::Comma => {
                    self.advance()?;
                }
                Kind::RightParen => {}
                _ => return Err(self.unexpected(CONTEXT, "\",\" or \")\"")),
            }
        }
    }

    /// A call whose `)` is in front.
    fn close_call(&mut self, name: Token, args: Vec<Expr>) -> Result<Expr, ParseError> {
        let word = self.text(name);
        let span = Span { start: name.start, end: self.peek.end };
        let Some(func) = function(word) else {
            let mut e =
                ParseError::new(name.span(), format!("unknown function with name {}", go_quote(word)));
            e.hint = hint::unknown_function(word);
            return Err(e);
        };
        if func.experimental && !self.features.experimental_functions {
            return Err(ParseError::new(name.span(), format!("function {} is not enabled", go_quote(word)))
                .with_hint("enable the feature promql-experimental-functions"));
        }
        self.advance()?;
        Ok(Expr::Call(Box::new(Call { func, args, span })))
    }

    /// An aggregation whose `)` is in front, and the modifier behind it.
    fn close_aggregate(&mut self, open: OpenAggregate) -> Result<Expr, ParseError> {
        let OpenAggregate { op, name, modifier, mut args } = open;
        let mut end = self.peek.end as usize;
        let mut modifier = modifier;
        // Whether the closing bracket is still in front.
        let mut pending = modifier.is_some();
        if !pending {
            self.advance()?;
            if matches!(self.peek.kind, Kind::By | Kind::Without) {
                modifier = Some(self.modifier()?);
                end = self.peek.end as usize;
                pending = true;
            } else {
                end = self.lexer.previous_right_paren(self.lexer.last_closing);
            }
        }
        let span = Span { start: name.start, end: end as u32 };
        if args.is_empty() {
            return Err(ParseError::new(span, "no arguments for aggregate expression provided"));
        }
        let mut param = None;
        if matches!(op, AggregateOp::LimitK | AggregateOp::LimitRatio)
            && !self.features.experimental_functions
        {
            return Err(ParseError::new(
                    span,
                    format!(
                        "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                        op.as_str()
                    ),
                )
                .with_hint("enable the feature promql-experimental-functions"));
        }
        let desired = 1 + usize::from(op.has_param());
        if args.len() != desired {
            let mut e = ParseError::new(
                span,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {desired}, got {}",
                    args.len()
                ),
            );
            e.hint = hint::aggregate_arguments(op);
            return Err(e);
        }
        let expr = args.pop();
        if desired == 2 {
            param = args.pop();
        }
        let Some(expr) = expr else {
            return Err(ParseError::new(span, "no arguments for aggregate expression provided"));
        };
        let Modifier { grouping, without } =
            modifier.unwrap_or(Modifier { grouping: Vec::new(), without: false });
        if pending {
            self.advance()?;
        }
        Ok(Expr::Aggregate(Box::new(AggregateExpr { op, expr, param, grouping, without, span })))
    }

    /// `offset`, `@`, `[…]`, `anchored`, `smoothed` behind an operand.
    fn modifiers(&mut self, mut current: Expr) -> Result<Expr, ParseError> {
        loop {
            match self.peek.kind {
                Kind::LeftBracket => current = self.brackets(current)?,
                Kind::Offset => self.offset(&mut current)?,
                Kind::At => self.at(&mut current)?,
                Kind::Anchored | Kind::Smoothed => self.extended(&mut current)?,
                _ => return Ok(current),
            }
        }
    }

    /// `[range]`, `[range:step]`, `[range:]`, the bracket in front.
    fn brackets(&mut self, current: Expr) -> Result<Expr, ParseError> {
        let open = self.advance()?;
        let range =
            self.positive_duration("subquery or range selector", "number, duration, step(), or range()")?;
        match self.peek.kind {
            Kind::RightBracket => {
                let close = self.peek;
                let problem = match &current {
                    Expr::Vector(v) if v.time.offset != 0 || v.time.offset_expr.is_some() => {
                        Some("no offset modifiers allowed before range")
                    }
                    Expr::Vector(v) if v.time.at.is_some() || v.time.start_or_end.is_some() => {
                        Some("no @ modifiers allowed before range")
                    }
                    Expr::Vector(_) => None,
                    _ => Some("ranges only allowed for vector selectors"),
                };
                match (problem, current) {
                    (None, Expr::Vector(selector)) => {
                        let span = Span { start: selector.span.start, end: close.end };
                        let (range, range_expr) = range.milliseconds();
                        self.advance()?;
                        Ok(Expr::Matrix(Box::new(MatrixSelector {
                            selector: *selector,
                            range,
                            range_expr,
                            span,
                        })))
                    }
                    (problem, _) => {
                        let span = open.span().to(close.span());
                        let mut e = ParseError::new(span, problem.unwrap_or_default());
                        e.hint = hint::range_placement(&e.message);
                        Err(e)
                    }
                }
            }
            Kind::Colon => {
                self.advance()?;
                let mut step = None;
                if self.peek.kind != Kind::RightBracket {
                    step = Some(self.positive_duration(
                        "subquery selector",
                        "number, duration, step(), range(), or \"]\"",
                    )?);
                    if self.peek.kind != Kind::RightBracket {
                        return Err(self.unexpected("subquery selector", "\"]\""));
                    }
                }
                let span = Span { start: current.span().start, end: self.peek.end };
                self.subqueries += 1;
                if self.subqueries > MAX_DEPTH {
                    return Err(ParseError::new(span, format!("more than {MAX_DEPTH} subqueries")));
                }
                let (range, range_expr) = range.milliseconds();
                let (step, step_expr) = step.map_or((0, None), DurationOperand::milliseconds);
                self.advance()?;
                Ok(Expr::Subquery(Box::new(SubqueryExpr {
                    expr: current,
                    range,
                    range_expr,
                    step,
                    step_expr,
                    time: TimeModifiers::default(),
                    span,
                })))
            }
            _ => Err(self.unexpected("subquery or range", "\":\" or \"]\"")),
        }
    }

    /// The modifiers of a selector or subquery, and the end of its place.
    fn time_of<'e>(
        current: &'e mut Expr,
        message: &str,
    ) -> Result<(&'e mut TimeModifiers, &'e mut u32), ParseError> {
        let span = current.span();
        match current {
            Expr::Vector(v) => Ok((&mut v.time, &mut v.span.end)),
            Expr::Matrix(m) => Ok((&mut m.selector.time, &mut m.span.end)),
            Expr::Subquery(s) => Ok((&mut s.time, &mut s.span.end)),
            _ => Err(ParseError::new(span, message).with_hint(
                "put it directly behind the selector, inside the function: rate(metric[5m] offset 1h)",
            )),
        }
    }

    fn offset(&mut self, current: &mut Expr) -> Result<(), ParseError> {
        self.advance()?;
        let span = current.span();
        let (offset, pending) = self.offset_duration()?;
        let closing = if pending { self.peek.end as usize } else { self.lexer.last_closing };
        let (time, end) = Self::time_of(
            current,
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )?;
        if time.offset != 0 || time.offset_expr.is_some() {
            return Err(ParseError::new(span, "offset may not be set multiple times"));
        }
        (time.offset, time.offset_expr) = offset.milliseconds();
        *end = closing as u32;
        if pending {
            self.advance()?;
        }
        Ok(())
    }

    fn at(&mut self, current: &mut Expr) -> Result<(), ParseError> {
        const MISPLACED: &str = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
        self.advance()?;
        let span = current.span();
        let repeated = || ParseError::new(span, "@ <timestamp> may not be set multiple times");
        match self.peek.kind {
            kind @ (Kind::Start | Kind::End) => {
                self.advance()?;
                for paren in [Kind::LeftParen, Kind::RightParen] {
                    if self.peek.kind != paren {
                        return Err(self.unexpected("@", "timestamp"));
                    }
                    if paren == Kind::LeftParen {
                        self.advance()?;
                    }
                }
                let (time, end) = Self::time_of(current, MISPLACED)?;
                if time.at.is_some() || time.start_or_end.is_some() {
                    return Err(repeated());
                }
                time.start_or_end =
                    Some(if kind == Kind::Start { StartOrEnd::Start } else { StartOrEnd::End });
                *end = self.peek.end;
            }
            _ => {
                let mut negative = false;
                if let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = self.peek.kind {
                    negative = op == BinaryOp::Sub;
                    self.advance()?;
                }
                if !matches!(self.peek.kind, Kind::Number | Kind::Duration) {
                    return Err(self.unexpected("@", "timestamp"));
                }
                let mut seconds = self.number_value(self.peek)?;
                if negative {
                    seconds = -seconds;
                }
                if !seconds.is_finite() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
                    let shown = match seconds {
                        s if s.is_nan() => "NaN".to_string(),
                        f64::INFINITY => "+Inf".to_string(),
                        f64::NEG_INFINITY => "-Inf".to_string(),
                        s => format!("{s:.6}"),
                    };
                    return Err(ParseError::new(
                        span,
                        format!("timestamp out of bounds for @ modifier: {shown}"),
                    ));
                }
                let (time, end) = Self::time_of(current, MISPLACED)?;
                if time.at.is_some() || time.start_or_end.is_some() {
                    return Err(repeated());
                }
                time.at = Some((seconds * 1000.0).round() as i64);
                *end = self.peek.end;
            }
        }
        self.advance()?;
        Ok(())
    }

    /// `anchored`, `smoothed`
    fn extended(&mut self, current: &mut Expr) -> Result<(), ParseError> {
        let anchored = self.peek.kind == Kind::Anchored;
        let word = if anchored { "anchored" } else { "smoothed" };
        let span = current.span();
        if !self.features.extended_range_selectors {
            return Err(ParseError::new(span, format!("{word} modifier is experimental and not enabled"))
                .with_hint("enable the feature promql-extended-range-selectors"));
        }
        let selector = match current {
            Expr::Vector(v) => v,
            Expr::Matrix(m) => &mut m.selector,
            Expr::Subquery(_) => {
                return Err(ParseError::new(
                    span,
                    format!("{word} modifier is not supported for subqueries"),
                ));
            }
            _ => return Err(ParseError::new(span, format!("{word} modifier not implemented"))),
        };
        if anchored {
            selector.anchored = true;
        } else {
            selector.smoothed = true;
        }
        if selector.anchored && selector.smoothed {
            return Err(ParseError::new(span, "anchored and smoothed modifiers cannot be used together"));
        }
        self.advance()?;
        Ok(())
    }

    /// A selector whose name or `{` was consumed last.
    fn selector(&mut self, first: Token) -> Result<VectorSelector, ParseError> {
        let mut span = first.span();
        let mut name = String::new();
        let mut matchers = Vec::new();
        if first.kind == Kind::LeftBrace {
            (matchers, span.end) = self.matchers()?;
        } else {
            name = self.text(first).to_string();
            if self.peek.kind == Kind::LeftBrace {
                self.advance()?;
                (matchers, span.end) = self.matchers()?;
            }
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        Ok(VectorSelector {
            name: take(&mut name),
            matchers,
            time: TimeModifiers::default(),
            anchored: false,
            smoothed: false,
            bypass_empty_matcher_check: false,
            span,
        })
    }

    /// The conditions behind `{` and the end of the `}`.
    fn matchers(&mut self) -> Result<(Vec<Matcher>, u32), ParseError> {
        const CONTEXT: &str = "label matching";
        let mut matchers = Vec::new();
        loop {
            let label = self.peek;
            match label.kind {
                Kind::RightBrace => {
                    self.advance()?;
                    return Ok((matchers, label.end));
                }
                Kind::Identifier | Kind::String => {}
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            }
            let name =
                if label.kind == Kind::String { self.unquote(label)? } else { self.text(label).to_string() };
            self.advance()?;
            let kind = match self.peek.kind {
                Kind::Assign => Some(MatchType::Equal),
                Kind::Operator(BinaryOp::Neq) => Some(MatchType::NotEqual),
                Kind::MatchRegexp => Some(MatchType::Regexp),
                Kind::MatchNotRegexp => Some(MatchType::NotRegexp),
                _ => None,
            };
            match kind {
                Some(kind) => {
                    self.advance()?;
                    let token = self.peek;
                    if token.kind != Kind::String {
                        return Err(self.unexpected(CONTEXT, "string"));
                    }
                    let value = self.unquote(token)?;
                    let matcher = Matcher::new(kind, name, value)
                        .map_err(|e| ParseError::new(label.span().to(token.span()), e.to_string()))?;
                    matchers.push(matcher);
                    self.advance()?;
                }
                None if label.kind == Kind::String => matchers.push(Matcher::equal(METRIC_NAME, name)),
                None => return Err(self.unexpected(CONTEXT, "label matching operator")),
            }
            match self.peek.kind {
                Kind::Comma => {
                    self.advance()?;
                }
                Kind::RightBrace => {}
                _ => return Err(self.unexpected(CONTEXT, "\",\" or \"}\"")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Features {
        Features {
            experimental_functions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
            ..Features::default()
        }
    }

    #[test]
    fn operators_bind_as_documented() {
        for (text, grouped) in [
            ("1 + 2 * 3", "1 + (2 * 3)"),
            ("1 - 2 - 3", "(1 - 2) - 3"),
            ("2 ^ 3 ^ 4", "2 ^ (3 ^ 4)"),
            ("a or b and c", "a or (b and c)"),
            ("a and b unless c", "(a and b) unless c"),
            ("a == b + c", "a == (b + c)"),
            ("a % b atan2 c", "(a % b) atan2 c"),
            ("-a ^ b", "-(a ^ b)"),
            ("-a * b", "(-a) * b"),
            ("2 ^ -a * b", "(2 ^ (-a)) * b"),
        ] {
            let strip = |e: Expr| shape(&e);
            assert_eq!(strip(parse(text, &all()).unwrap()), strip(parse(grouped, &all()).unwrap()), "{text}");
        }
    }

    /// The tree with parentheses made explicit.
    fn shape(e: &Expr) -> String {
        match e.unwrap_parens() {
            Expr::Binary(b) => format!("({} {} {})", shape(&b.lhs), b.op.as_str(), shape(&b.rhs)),
            Expr::Unary(u) => format!("(-{})", shape(&u.expr)),
            Expr::Number(n) => n.value.to_string(),
            Expr::Vector(v) => v.name.clone(),
            e => format!("{e:?}"),
        }
    }

    #[test]
    fn long_chains_and_deep_nesting_do_not_use_the_stack() {
        let chain = "1 + ".repeat(20_000) + "1";
        assert!(parse(&chain, &all()).is_ok());
        let vectors = "a or ".repeat(20_000) + "a";
        assert!(parse(&vectors, &all()).is_ok());
        let deep = "(".repeat(1000) + "1" + &")".repeat(1000);
        assert!(parse(&deep, &all()).is_ok());
        for text in [
            "(".repeat(1001) + "1" + &")".repeat(1001),
            "-".repeat(1001) + "a",
            "2 ^ ".repeat(1001) + "a",
            "abs(".repeat(100_000) + "a" + &")".repeat(100_000),
        ] {
            let e = parse(&text, &all()).unwrap_err();
            assert!(e.message.contains("nested too deeply"), "{e}");
        }
        let terms = "a[".to_string() + &"1m+".repeat(2000) + "1m]";
        assert_eq!(
            parse(&terms, &all()).unwrap_err().message,
            "duration expression has more than 1000 terms"
        );
    }
}
