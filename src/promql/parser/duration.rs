//! Durations that are computed: parsing them, and turning them into numbers once step and range are known.

use tsdbctl_model::Span;
use tsdbctl_model::go_math;

use super::ast::{BinaryOp, DurationExpr, DurationOp, DurationOperand, Expr, NumberLiteral, TimeModifiers};
use super::error::ParseError;
use super::parse::{MAX_DEPTH, Parser};
use super::token::{Kind, Token};

/// Seconds that 64 bits of nanoseconds hold.
const LIMIT_SECONDS: f64 = 9_223_372_036.854_775;

fn is_out_of_range(seconds: f64) -> bool {
    // NaN is not.
    seconds.abs() > LIMIT_SECONDS
}

/// Seconds as milliseconds: rounded to nanoseconds, then cut.
pub(crate) fn seconds_to_ms(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

impl DurationOperand {
    /// Its place.
    pub fn span(&self) -> Span {
        match self {
            Self::Number(n) => n.span,
            Self::Expr(e) => e.span,
        }
    }

    /// As the two fields of selectors: milliseconds of a literal, or 0 and what must be computed.
    pub(crate) fn milliseconds(self) -> (i64, Option<DurationExpr>) {
        match self {
            Self::Number(n) => (seconds_to_ms(n.value), None),
            Self::Expr(e) => (0, Some(e)),
        }
    }
}

fn unary(op: DurationOp, start: u32, operand: DurationOperand) -> DurationOperand {
    let span = Span { start, end: operand.span().end };
    DurationOperand::Expr(DurationExpr { op, lhs: None, rhs: Some(Box::new(operand)), wrapped: false, span })
}

/// Marks an operand as written in parentheses; a literal becomes a sum of itself alone.
fn wrap(operand: DurationOperand, start: u32) -> DurationOperand {
    match operand {
        DurationOperand::Expr(mut e) => {
            e.wrapped = true;
            DurationOperand::Expr(e)
        }
        number => match unary(DurationOp::Add, start, number) {
            DurationOperand::Expr(e) => DurationOperand::Expr(DurationExpr { wrapped: true, ..e }),
            number => number,
        },
    }
}

/// Applies a sign.
fn signed(sign: Token, operand: DurationOperand) -> Result<DurationOperand, ParseError> {
    let negative = sign.kind == Kind::Operator(BinaryOp::Sub);
    match operand {
        DurationOperand::Expr(_) if negative => Ok(unary(DurationOp::Sub, sign.start, operand)),
        DurationOperand::Expr(_) => Ok(operand),
        DurationOperand::Number(mut n) => {
            if negative {
                n.value = -n.value;
            }
            if is_out_of_range(n.value) {
                return Err(ParseError::new(sign.span(), "duration out of range"));
            }
            n.span.start = sign.start;
            Ok(DurationOperand::Number(n))
        }
    }
}

fn is_sign(kind: Kind) -> bool {
    matches!(kind, Kind::Operator(BinaryOp::Add | BinaryOp::Sub))
}

fn operation(kind: Kind) -> Option<(DurationOp, u8)> {
    Some(match kind {
        Kind::Operator(BinaryOp::Add) => (DurationOp::Add, 1),
        Kind::Operator(BinaryOp::Sub) => (DurationOp::Sub, 1),
        Kind::Operator(BinaryOp::Mul) => (DurationOp::Mul, 2),
        Kind::Operator(BinaryOp::Div) => (DurationOp::Div, 2),
        Kind::Operator(BinaryOp::Mod) => (DurationOp::Mod, 2),
        Kind::Operator(BinaryOp::Pow) => (DurationOp::Pow, 3),
        _ => return None,
    })
}

/// What an error says about the construct the duration stands in.
#[derive(Clone, Copy)]
struct Place<'s> {
    context: &'s str,
    expected: &'s str,
}

impl Parser<'_> {
    /// A duration inside brackets. `context` and `expected` are for errors.
    pub(crate) fn positive_duration(
        &mut self,
        context: &str,
        expected: &str,
    ) -> Result<DurationOperand, ParseError> {
        self.duration_terms = 0;
        let operand = self.duration(1, Place { context, expected })?;
        match operand {
            DurationOperand::Number(n) if n.value <= 0.0 => {
                Err(ParseError::new(n.span, "duration must be greater than 0"))
            }
            operand => Ok(operand),
        }
    }

    /// The duration behind `offset`. Without parentheses in front it ends with its first literal or call, so
    /// that `metric offset 5m ^ 2` is a power of the selector; then its last token stays in front, and the
    /// flag is true.
    pub(crate) fn offset_duration(&mut self) -> Result<(DurationOperand, bool), ParseError> {
        const PLACE: Place<'_> =
            Place { context: "offset", expected: "number, duration, step(), or range()" };
        self.duration_terms = 0;
        let sign = is_sign(self.peek.kind).then_some(self.peek);
        if sign.is_some() {
            self.advance()?;
        }
        match (sign, self.peek.kind) {
            (sign, Kind::Number | Kind::Duration) => {
                let token = self.peek;
                let value = self.number_value(token)?;
                let mut n =
                    NumberLiteral { value, is_duration: token.kind == Kind::Duration, span: token.span() };
                if let Some(sign) = sign {
                    n.span.start = sign.start;
                    if sign.kind == Kind::Operator(BinaryOp::Sub) {
                        n.value = -n.value;
                    }
                }
                if is_out_of_range(n.value) {
                    return Err(ParseError::new(
                        sign.map_or(token.span(), Token::span),
                        "duration out of range",
                    ));
                }
                Ok((DurationOperand::Number(n), true))
            }
            (sign, Kind::Step | Kind::Range | Kind::MaxOf | Kind::MinOf) => {
                let call = self.duration_call(PLACE)?;
                Ok(match sign {
                    Some(sign) => {
                        let op = if sign.kind == Kind::Operator(BinaryOp::Sub) {
                            DurationOp::Sub
                        } else {
                            DurationOp::Add
                        };
                        (unary(op, sign.start, call), true)
                    }
                    None => (call, true),
                })
            }
            (Some(sign), Kind::LeftParen) => {
                let open = self.advance()?;
                self.deeper(open.span())?;
                let inner = self.duration(1, PLACE)?;
                self.shallower();
                if self.peek.kind != Kind::RightParen {
                    return Err(self.unexpected(PLACE.context, PLACE.expected));
                }
                let start = inner.span().start;
                Ok((signed(sign, wrap(inner, start))?, true))
            }
            (Some(sign), kind) if is_sign(kind) => {
                let inner = self.duration_operand(PLACE)?;
                let inner = self.duration_operations(inner, 3, PLACE)?;
                let first = signed(sign, inner)?;
                Ok((self.duration_operations(first, 1, PLACE)?, false))
            }
            (None, Kind::LeftParen) => Ok((self.duration(1, PLACE)?, false)),
            _ => Err(self.unexpected(PLACE.context, PLACE.expected)),
        }
    }

    fn duration(&mut self, precedence: u8, place: Place<'_>) -> Result<DurationOperand, ParseError> {
        let first = self.duration_operand(place)?;
        self.duration_operations(first, precedence, place)
    }

    fn count_term(&mut self) -> Result<(), ParseError> {
        self.duration_terms += 1;
        if self.duration_terms > MAX_DEPTH {
            return Err(ParseError::new(
                self.peek.span(),
                format!("duration expression has more than {MAX_DEPTH} terms"),
            ));
        }
        Ok(())
    }

    /// Operations behind `left` that bind at least as tight as `precedence`.
    fn duration_operations(
        &mut self,
        mut left: DurationOperand,
        precedence: u8,
        place: Place<'_>,
    ) -> Result<DurationOperand, ParseError> {
        while let Some((op, p)) = operation(self.peek.kind) {
            if p < precedence {
                break;
            }
            self.count_term()?;
            let token = self.advance()?;
            // Powers group to the right.
            let right = self.duration(if op == DurationOp::Pow { p } else { p + 1 }, place)?;
            let zero = matches!(&right, DurationOperand::Number(n) if n.value == 0.0);
            match op {
                DurationOp::Div if zero => return Err(ParseError::new(token.span(), "division by zero")),
                DurationOp::Mod if zero => return Err(ParseError::new(token.span(), "modulo by zero")),
                _ => {}
            }
            let span = Span { start: left.span().start, end: right.span().end };
            left = DurationOperand::Expr(DurationExpr {
                op,
                lhs: Some(Box::new(left)),
                rhs: Some(Box::new(right)),
                wrapped: false,
                span,
            });
        }
        Ok(left)
    }

    fn duration_operand(&mut self, place: Place<'_>) -> Result<DurationOperand, ParseError> {
        let token = self.peek;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let value = self.number_value(token)?;
                if is_out_of_range(value) {
                    return Err(ParseError::new(token.span(), "duration out of range"));
                }
                Ok(DurationOperand::Number(self.number()?))
            }
            Kind::Step | Kind::Range | Kind::MaxOf | Kind::MinOf => {
                let call = self.duration_call(place)?;
                self.advance()?;
                Ok(call)
            }
            Kind::LeftParen => {
                self.advance()?;
                self.deeper(token.span())?;
                let inner = self.duration(1, place)?;
                self.shallower();
                if self.peek.kind != Kind::RightParen {
                    return Err(self.unexpected(place.context, place.expected));
                }
                self.advance()?;
                Ok(wrap(inner, token.start))
            }
            kind if is_sign(kind) => {
                self.count_term()?;
                self.advance()?;
                // A sign binds like a multiplication, so only powers come before it.
                let inner = self.duration(3, place)?;
                signed(token, inner)
            }
            _ => Err(self.unexpected(place.context, place.expected)),
        }
    }

    /// `step()`, `range()`, `max_of(…, …)`, `min_of(…, …)`; the `)` stays in front.
    fn duration_call(&mut self, place: Place<'_>) -> Result<DurationOperand, ParseError> {
        let name = self.advance()?;
        if self.peek.kind != Kind::LeftParen {
            return Err(self.unexpected(place.context, place.expected));
        }
        self.advance()?;
        let op = match name.kind {
            Kind::Step => DurationOp::Step,
            Kind::Range => DurationOp::Range,
            Kind::MaxOf => DurationOp::MaxOf,
            _ => DurationOp::MinOf,
        };
        let (mut lhs, mut rhs) = (None, None);
        if matches!(op, DurationOp::MaxOf | DurationOp::MinOf) {
            self.deeper(name.span())?;
            lhs = Some(Box::new(self.duration(1, place)?));
            if self.peek.kind != Kind::Comma {
                return Err(self.unexpected(place.context, place.expected));
            }
            self.advance()?;
            rhs = Some(Box::new(self.duration(1, place)?));
            self.shallower();
        }
        if self.peek.kind != Kind::RightParen {
            return Err(self.unexpected(place.context, place.expected));
        }
        // Upstream's place of the two-sided ones is that of their operands.
        let span = match (&lhs, &rhs) {
            (Some(l), Some(r)) => Span { start: l.span().start, end: r.span().end },
            _ => Span { start: name.start, end: self.peek.end },
        };
        Ok(DurationOperand::Expr(DurationExpr { op, lhs, rhs, wrapped: false, span }))
    }
}

/// Computes every duration of the tree: `*_expr` fields stay as written, the plain fields get their values.
///
/// # Errors
/// Upstream's text, its place in front, for what is no duration.
pub fn resolve(expr: &mut Expr, step_ms: i64, query_range_ms: i64) -> Result<(), ParseError> {
    let query = Query { step: step_ms as f64 / 1000.0, range: query_range_ms as f64 / 1000.0 };
    query.visit(expr)
}

struct Query {
    step: f64,
    range: f64,
}

impl Query {
    fn visit(&self, expr: &mut Expr) -> Result<(), ParseError> {
        let mut operands = Vec::new();
        let mut current = expr;
        while let Expr::Binary(b) = current {
            let b = &mut **b;
            operands.push(&mut b.rhs);
            current = &mut b.lhs;
        }
        match current {
            Expr::Number(_) | Expr::String(_) | Expr::Binary(_) => {}
            Expr::Paren(e) => self.visit(&mut e.expr)?,
            Expr::Unary(e) => self.visit(&mut e.expr)?,
            Expr::Aggregate(e) => {
                self.visit(&mut e.expr)?;
                if let Some(param) = &mut e.param {
                    self.visit(param)?;
                }
            }
            Expr::Call(e) => {
                for arg in &mut e.args {
                    self.visit(arg)?;
                }
            }
            Expr::Vector(e) => self.offset(&mut e.time)?,
            Expr::Matrix(e) => {
                if let Some(range) = &e.range_expr {
                    e.range = self.calculate(range, false)?;
                }
                self.offset(&mut e.selector.time)?;
            }
            Expr::Subquery(e) => {
                self.offset(&mut e.time)?;
                if let Some(step) = &e.step_expr {
                    e.step = self.calculate(step, false)?;
                }
                if let Some(range) = &e.range_expr {
                    e.range = self.calculate(range, false)?;
                }
                self.visit(&mut e.expr)?;
            }
        }
        while let Some(operand) = operands.pop() {
            self.visit(operand)?;
        }
        Ok(())
    }

    fn offset(&self, time: &mut TimeModifiers) -> Result<(), ParseError> {
        if let Some(offset) = &time.offset_expr {
            time.offset = self.calculate(offset, true)?;
        }
        Ok(())
    }

    fn calculate(&self, expr: &DurationExpr, may_be_negative: bool) -> Result<i64, ParseError> {
        let seconds = self.evaluate(expr)?;
        if !seconds.is_finite() {
            return Err(misfit(expr, "duration is NaN or infinite"));
        }
        if seconds <= 0.0 && !may_be_negative {
            return Err(misfit(expr, "duration must be greater than 0"));
        }
        if is_out_of_range(seconds) {
            return Err(misfit(expr, "duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn operand(&self, operand: Option<&DurationOperand>) -> Result<f64, ParseError> {
        match operand {
            None => Ok(0.0),
            Some(DurationOperand::Number(n)) => Ok(n.value),
            Some(DurationOperand::Expr(e)) => self.evaluate(e),
        }
    }

    fn evaluate(&self, expr: &DurationExpr) -> Result<f64, ParseError> {
        let lhs = self.operand(expr.lhs.as_deref())?;
        let rhs = self.operand(expr.rhs.as_deref())?;
        let unary = expr.lhs.is_none();
        Ok(match expr.op {
            DurationOp::Step => self.step,
            DurationOp::Range => self.range,
            DurationOp::MinOf => go_math::min(lhs, rhs),
            DurationOp::MaxOf => go_math::max(lhs, rhs),
            DurationOp::Add if unary => rhs,
            DurationOp::Sub if unary => -rhs,
            DurationOp::Add => lhs + rhs,
            DurationOp::Sub => lhs - rhs,
            DurationOp::Mul => lhs * rhs,
            DurationOp::Div if rhs == 0.0 => return Err(misfit(expr, "division by zero")),
            DurationOp::Div => lhs / rhs,
            DurationOp::Mod if rhs == 0.0 => return Err(misfit(expr, "modulo by zero")),
            DurationOp::Mod => lhs % rhs,
            DurationOp::Pow => go_math::pow(lhs, rhs),
        })
    }
}

fn misfit(expr: &DurationExpr, message: &str) -> ParseError {
    ParseError::new(expr.span, format!("{}:{}: {message}", expr.span.start, expr.span.end))
}
