//! Types and rules that the grammar alone does not say: what functions take, what operators join.

use tsdbctl_model::Span;
use tsdbctl_model::float_text::go_quote;
use tsdbctl_model::labels::METRIC_NAME;

use super::ast::{AggregateOp, BinaryOp, Call, Cardinality, Expr, ValueType, VectorMatching, VectorSelector};
use super::error::ParseError;
use super::functions::FunctionId;
use super::hint;

/// Checks a tree and completes it: `matching` stays only where both operands are vectors, set operators are
/// many-to-many, the selector of `info` may match everything.
pub(crate) fn check(expr: &mut Expr, text: &str) -> Result<ValueType, ParseError> {
    Checker { text }.visit(expr)
}

struct Checker<'a> {
    text: &'a str,
}

/// One operator of a chain, waiting for the operands left of it.
struct Pending<'e> {
    op: BinaryOp,
    rhs: &'e mut Expr,
    matching: &'e mut Option<VectorMatching>,
    return_bool: bool,
}

impl Checker<'_> {
    fn visit(&self, expr: &mut Expr) -> Result<ValueType, ParseError> {
        let span = expr.span();
        match expr {
            Expr::Number(_) => Ok(ValueType::Scalar),
            Expr::String(_) => Ok(ValueType::String),
            Expr::Paren(e) => self.visit(&mut e.expr),
            Expr::Binary(_) => self.chain(expr),
            Expr::Unary(e) => match self.visit(&mut e.expr)? {
                t @ (ValueType::Scalar | ValueType::Vector) => Ok(t),
                t => Err(ParseError::new(
                    span,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                        go_quote(t.documented())
                    ),
                )),
            },
            Expr::Aggregate(e) => {
                self.expect(&mut e.expr, ValueType::Vector, "aggregation expression")?;
                if let Some(param) = &mut e.param {
                    let want =
                        if e.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
                    self.expect(param, want, "aggregation parameter")?;
                }
                Ok(ValueType::Vector)
            }
            Expr::Call(call) => self.call(call),
            Expr::Vector(v) => {
                self.selector(v)?;
                Ok(ValueType::Vector)
            }
            Expr::Matrix(m) => {
                self.selector(&m.selector)?;
                Ok(ValueType::Matrix)
            }
            Expr::Subquery(s) => match self.visit(&mut s.expr)? {
                ValueType::Vector => Ok(ValueType::Matrix),
                t => Err(ParseError::new(
                    span,
                    format!("subquery is only allowed on instant vector, got {} instead", t.as_str()),
                )),
            },
        }
    }

    fn expect(&self, expr: &mut Expr, want: ValueType, context: &str) -> Result<(), ParseError> {
        let got = self.visit(expr)?;
        if got == want {
            return Ok(());
        }
        let mut e = ParseError::new(
            expr.span(),
            format!("expected type {} in {context}, got {}", want.documented(), got.documented()),
        );
        e.hint = hint::wrong_type(want, got, self.text, expr);
        Err(e)
    }

    fn chain(&self, expr: &mut Expr) -> Result<ValueType, ParseError> {
        let mut pending = Vec::new();
        let mut current = expr;
        while let Expr::Binary(b) = current {
            let b = &mut **b;
            pending.push(Pending {
                op: b.op,
                rhs: &mut b.rhs,
                matching: &mut b.matching,
                return_bool: b.return_bool,
            });
            current = &mut b.lhs;
        }
        let mut lhs = self.visit(current)?;
        let mut span = current.span();
        while let Some(operator) = pending.pop() {
            let rhs_span = operator.rhs.span();
            lhs = self.operator(operator, lhs, span)?;
            span.end = rhs_span.end;
        }
        Ok(lhs)
    }

    fn operator(&self, pending: Pending<'_>, lt: ValueType, lhs: Span) -> Result<ValueType, ParseError> {
        let Pending { op, rhs, matching, return_bool } = pending;
        let rt = self.visit(rhs)?;
        let rhs = rhs.span();
        let whole = Span { start: lhs.start, end: rhs.end };
        // The operator and its modifiers, as upstream places it.
        let operator = || {
            let space = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
            let between = &self.text.as_bytes()[lhs.end as usize..rhs.start as usize];
            let start = between.iter().position(|b| !space(b)).unwrap_or(0);
            let end = between.iter().rposition(|b| !space(b)).unwrap_or(0);
            Span { start: lhs.end + start as u32, end: lhs.end + end as u32 }
        };
        if return_bool && !op.is_comparison() {
            return Err(ParseError::new(
                operator(),
                "bool modifier can only be used on comparison operators",
            ));
        }
        if op.is_comparison() && !return_bool && lt == ValueType::Scalar && rt == ValueType::Scalar {
            return Err(ParseError::new(operator(), "comparisons between scalars must use BOOL modifier")
                .with_hint(format!("write {} bool", op.as_str())));
        }
        if let Some(m) = matching.as_mut() {
            if op.is_set_operator() && m.card == Cardinality::OneToOne {
                m.card = Cardinality::ManyToMany;
            }
            let shared = m.labels.iter().find(|l| m.include.contains(l));
            if let (true, Some(label)) = (m.on, shared) {
                return Err(ParseError::new(
                    operator(),
                    format!("label {} must not occur in ON and GROUP clause at once", go_quote(label)),
                ));
            }
        }
        for (t, span) in [(lt, lhs), (rt, rhs)] {
            if !matches!(t, ValueType::Scalar | ValueType::Vector) {
                let mut e = ParseError::new(
                    span,
                    "binary expression must contain only scalar and instant vector types",
                );
                if t == ValueType::Matrix {
                    e.hint = Some(
                        "turn the range vector into an instant vector first, with rate() or sum_over_time()"
                            .into(),
                    );
                }
                return Err(e);
            }
        }
        let vectors = lt == ValueType::Vector && rt == ValueType::Vector;
        if let Some(m) = matching.as_ref() {
            let fills = m.fill_left.is_some() || m.fill_right.is_some();
            if !vectors {
                if !m.labels.is_empty() {
                    return Err(ParseError::new(
                        whole,
                        "vector matching only allowed between instant vectors",
                    ));
                }
                if fills {
                    return Err(ParseError::new(
                        whole,
                        "filling in missing series only allowed between instant vectors",
                    ));
                }
            } else if op.is_set_operator() {
                if matches!(m.card, Cardinality::OneToMany | Cardinality::ManyToOne) {
                    return Err(ParseError::new(
                        whole,
                        format!("no grouping allowed for {} operation", go_quote(op.as_str())),
                    ));
                }
                if fills {
                    return Err(ParseError::new(
                        whole,
                        "filling in missing series not allowed for set operators",
                    ));
                }
            }
        }
        if !vectors {
            *matching = None;
        }
        if op.is_set_operator() && (lt == ValueType::Scalar || rt == ValueType::Scalar) {
            return Err(ParseError::new(
                whole,
                format!("set operator {} not allowed in binary scalar expression", go_quote(op.as_str())),
            )
            .with_hint("vector(…) makes a vector of a number"));
        }
        Ok(if lt == ValueType::Scalar && rt == ValueType::Scalar {
            ValueType::Scalar
        } else {
            ValueType::Vector
        })
    }

    fn call(&self, call: &mut Call) -> Result<ValueType, ParseError> {
        let Call { func, args, span } = call;
        let wanted = func.arg_types.len();
        let name = go_quote(func.name);
        let counted = |text: String| {
            let mut e = ParseError::new(*span, text);
            e.hint = Some(hint::signature(func));
            e
        };
        if func.variadic == 0 {
            if wanted != args.len() {
                return Err(counted(format!(
                    "expected {wanted} argument(s) in call to {name}, got {}",
                    args.len()
                )));
            }
        } else {
            let least = wanted - 1;
            if least > args.len() {
                return Err(counted(format!(
                    "expected at least {least} argument(s) in call to {name}, got {}",
                    args.len()
                )));
            }
            if func.variadic > 0 && least + (func.variadic as usize) < args.len() {
                return Err(counted(format!(
                    "expected at most {} argument(s) in call to {name}, got {}",
                    least + func.variadic as usize,
                    args.len()
                )));
            }
        }
        if func.id == FunctionId::Info && args.len() > 1 {
            let t = args[1].value_type();
            if t != ValueType::Vector {
                return Err(ParseError::new(
                    *span,
                    format!(
                        "expected type {} in call to function {name}, got {}",
                        ValueType::Vector.documented(),
                        t.documented()
                    ),
                ));
            }
            let place = args[1].span();
            match &mut args[1] {
                Expr::Vector(v) if v.name.is_empty() => v.bypass_empty_matcher_check = true,
                Expr::Vector(_) => {
                    return Err(ParseError::new(
                        place,
                        "expected label selectors only, got vector selector instead",
                    )
                    .with_hint("name the info metric in braces: {__name__=\"target_info\"}"));
                }
                _ => return Err(ParseError::new(place, "expected label selectors only")),
            }
        }
        for (i, arg) in args.iter_mut().enumerate() {
            let Some(want) = func.arg_types.get(i).or(func.arg_types.last()) else { break };
            let got = self.visit(arg)?;
            if got != *want {
                let mut e = ParseError::new(
                    arg.span(),
                    format!(
                        "expected type {} in call to function {name}, got {}",
                        want.documented(),
                        got.documented()
                    ),
                );
                e.hint = hint::wrong_type(*want, got, self.text, arg);
                return Err(e);
            }
        }
        Ok(func.return_type)
    }

    fn selector(&self, v: &VectorSelector) -> Result<(), ParseError> {
        if !v.name.is_empty() {
            let inside = &v.matchers[..v.matchers.len() - 1];
            return match inside.iter().find(|m| m.name == METRIC_NAME) {
                Some(m) => Err(ParseError::new(
                    v.span,
                    format!(
                        "metric name must not be set twice: {} or {}",
                        go_quote(&v.name),
                        go_quote(&m.value)
                    ),
                )),
                None => Ok(()),
            };
        }
        if !v.bypass_empty_matcher_check && v.matchers.iter().all(|m| m.matches("")) {
            return Err(ParseError::new(
                v.span,
                "vector selector must contain at least one non-empty matcher",
            )
            .with_hint("add a metric name or a condition such as job=~\".+\""));
        }
        Ok(())
    }
}
