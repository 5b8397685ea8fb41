//! The expression as upstream prepares it: parentheses of arguments gone, times resolved, parts that do not
//! depend on the step wrapped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tsdbctl_model::{Matcher, Span};
use tsdbctl_promql::parser::ast::{
    AggregateOp, BinaryOp, Expr, StartOrEnd, TimeModifiers, ValueType, VectorMatching,
};
use tsdbctl_promql::parser::functions::Function;

use crate::iterate::RawSeries;

/// An instant selector.
#[derive(Debug)]
pub struct Selector {
    pub matchers: Vec<Matcher>,
    pub original_offset: i64,
    pub offset: Cell<i64>,
    pub timestamp: Option<i64>,
    pub anchored: bool,
    pub smoothed: bool,
    pub stats_only: bool,
    /// Samples outside are not in what storage gives; inclusive.
    pub bounds: (i64, i64),
    pub span: Span,
    pub series: RefCell<Option<Rc<Vec<RawSeries>>>>,
}

/// A binary operation.
#[derive(Debug)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    pub matching: Option<VectorMatching>,
    pub return_bool: bool,
    pub span: Span,
}

/// An aggregation.
#[derive(Debug)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Node,
    pub param: Option<Node>,
    pub grouping: Vec<String>,
    pub without: bool,
    pub span: Span,
}

/// A function call.
#[derive(Debug)]
pub struct Call {
    pub func: &'static Function,
    pub args: Vec<Node>,
    pub span: Span,
}

/// A subquery.
#[derive(Debug)]
pub struct Subquery {
    pub expr: Node,
    pub range: i64,
    pub step: i64,
    pub original_offset: i64,
    pub offset: Cell<i64>,
    pub timestamp: Option<i64>,
    pub span: Span,
}

/// A node.
#[derive(Debug)]
pub enum Node {
    Number(f64, Span),
    Text(String, Span),
    Paren(Box<Node>, Span),
    Unary(bool, Box<Node>, Span),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Box<Call>),
    Vector(Box<Selector>),
    Matrix(Box<Selector>, i64, Span),
    Subquery(Box<Subquery>),
    Invariant(Box<Node>),
}

impl Node {
    pub fn span(&self) -> Span {
        match self {
            Self::Number(_, s) | Self::Text(_, s) | Self::Paren(_, s) | Self::Unary(_, _, s) => *s,
            Self::Matrix(_, _, s) => *s,
            Self::Binary(b) => b.span,
            Self::Aggregate(a) => a.span,
            Self::Call(c) => c.span,
            Self::Vector(v) => v.span,
            Self::Subquery(s) => s.span,
            Self::Invariant(n) => n.span(),
        }
    }

    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(..) => ValueType::Scalar,
            Self::Text(..) => ValueType::String,
            Self::Paren(n, _) | Self::Unary(_, n, _) | Self::Invariant(n) => n.value_type(),
            Self::Binary(b) => match (b.lhs.value_type(), b.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Self::Aggregate(_) | Self::Vector(_) => ValueType::Vector,
            Self::Call(c) => c.func.return_type,
            Self::Matrix(..) | Self::Subquery(_) => ValueType::Matrix,
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Text(s, _) => s,
            Self::Invariant(n) => n.text(),
            other => panic!("no text: {other:?}"),
        }
    }
}

/// Builds the tree; durations and `start()` and kin must be resolved.
pub struct Builder {
    pub start: i64,
    pub end: i64,
    pub lookback: i64,
    /// Below the parameter of an aggregation upstream prepares nothing: `@ start()` is not resolved there,
    /// parentheses stay.
    pub in_param: Cell<bool>,
}

/// What lies above a selector, innermost last, as far as it decides on decoding of histograms.
#[derive(Clone)]
enum Above {
    Subquery { offset: i64, range: i64, timestamp: Option<i64> },
    Function(&'static str),
    Trim,
}

impl Builder {
    pub fn build(&self, expr: &Expr) -> Node {
        let node = self.node(expr, &mut Vec::new());
        let (_, wrap, node) = self.prepare(node);
        if wrap { Node::Invariant(Box::new(node)) } else { node }
    }

    fn timestamp(&self, time: &TimeModifiers) -> Option<i64> {
        match time.start_or_end.filter(|_| !self.in_param.get()) {
            Some(StartOrEnd::Start) => Some(self.start),
            Some(StartOrEnd::End) => Some(self.end),
            None => time.at,
        }
    }

    fn selector(
        &self,
        v: &tsdbctl_promql::parser::ast::VectorSelector,
        above: &[Above],
        range: Option<i64>,
    ) -> Box<Selector> {
        let timestamp = self.timestamp(&v.time);
        let (mut offsets, mut ranges, mut fixed) = (0, 0, None);
        for a in above {
            if let Above::Subquery { offset, range, timestamp } = a {
                if timestamp.is_some() {
                    (offsets, ranges, fixed) = (*offset, *range, *timestamp);
                } else {
                    offsets += offset;
                    ranges += range;
                }
            }
        }
        let (mut start, mut end) = fixed.map_or((self.start, self.end), |t| (t, t));
        match timestamp {
            Some(t) => (start, end) = (t, t),
            None => {
                start -= offsets + ranges;
                end -= offsets;
            }
        }
        start -= range.unwrap_or(self.lookback) - 1;
        if range.is_some() && (v.anchored || v.smoothed) {
            start -= self.lookback;
        }
        if v.smoothed {
            end += self.lookback;
        }
        let bounds = (start - v.time.offset, end - v.time.offset);
        let mut stats_only = false;
        for a in above.iter().rev() {
            match a {
                Above::Subquery { .. } | Above::Trim => {
                    stats_only = false;
                    break;
                }
                Above::Function("histogram_count" | "histogram_sum" | "histogram_avg") => stats_only = true,
                Above::Function("histogram_quantile" | "histogram_quantiles" | "histogram_fraction") => {
                    stats_only = false;
                    break;
                }
                Above::Function(_) => {}
            }
        }
        Box::new(Selector {
            matchers: v.matchers.clone(),
            original_offset: v.time.offset,
            offset: Cell::new(v.time.offset),
            timestamp,
            bounds,
            anchored: v.anchored,
            smoothed: v.smoothed,
            stats_only,
            span: v.span,
            series: RefCell::new(None),
        })
    }

    fn bare<'e>(&self, expr: &'e Expr) -> &'e Expr {
        if self.in_param.get() { expr } else { expr.unwrap_parens() }
    }

    fn under(&self, expr: &Expr, above: &mut Vec<Above>, a: Above) -> Node {
        above.push(a);
        let node = self.node(expr, above);
        above.pop();
        node
    }

    fn node(&self, expr: &Expr, above: &mut Vec<Above>) -> Node {
        match expr {
            Expr::Number(n) => Node::Number(n.value, n.span),
            Expr::String(s) => Node::Text(s.value.clone(), s.span),
            Expr::Paren(p) => Node::Paren(Box::new(self.node(&p.expr, above)), p.span),
            Expr::Unary(u) => Node::Unary(u.negative, Box::new(self.node(&u.expr, above)), u.span),
            Expr::Binary(b) => {
                let trims = matches!(b.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
                let above_operands = if trims { Above::Trim } else { Above::Function("") };
                Node::Binary(Box::new(Binary {
                    op: b.op,
                    lhs: self.under(&b.lhs, above, above_operands.clone()),
                    rhs: self.under(&b.rhs, above, above_operands),
                    matching: b.matching.clone(),
                    return_bool: b.return_bool,
                    span: expr.span(),
                }))
            }
            Expr::Aggregate(a) => {
                let mut grouping = a.grouping.clone();
                grouping.sort();
                Node::Aggregate(Box::new(Aggregate {
                    op: a.op,
                    expr: self.node(self.bare(&a.expr), above),
                    param: a.param.as_ref().map(|p| {
                        let before = self.in_param.replace(true);
                        let node = self.node(p.unwrap_parens(), above);
                        self.in_param.set(before);
                        node
                    }),
                    grouping,
                    without: a.without,
                    span: a.span,
                }))
            }
            Expr::Call(c) => Node::Call(Box::new(Call {
                func: c.func,
                args: c
                    .args
                    .iter()
                    .map(|a| self.under(self.bare(a), above, Above::Function(c.func.name)))
                    .collect(),
                span: c.span,
            })),
            Expr::Vector(v) => Node::Vector(self.selector(v, above, None)),
            Expr::Matrix(m) => {
                Node::Matrix(self.selector(&m.selector, above, Some(m.range)), m.range, m.span)
            }
            Expr::Subquery(s) => Node::Subquery(Box::new(Subquery {
                expr: {
                    let (offset, range) = (s.time.offset, s.range);
                    let timestamp = self.timestamp(&s.time);
                    self.under(&s.expr, above, Above::Subquery { offset, range, timestamp })
                },
                range: s.range,
                step: s.step,
                original_offset: s.time.offset,
                offset: Cell::new(s.time.offset),
                timestamp: self.timestamp(&s.time),
                span: s.span,
            })),
        }
    }

    /// Whether the node depends on the step, whether it wants to be wrapped if not, and the node.
    fn prepare(&self, node: Node) -> (bool, bool, Node) {
        let wrapped = |wrap: bool, n: Node| if wrap { Node::Invariant(Box::new(n)) } else { n };
        match node {
            Node::Vector(v) => {
                let fixed = v.timestamp.is_some();
                (fixed, fixed, Node::Vector(v))
            }
            Node::Matrix(v, range, span) => (v.timestamp.is_some(), false, Node::Matrix(v, range, span)),
            Node::Number(..) | Node::Text(..) => (true, false, node),
            Node::Paren(n, span) => {
                let (fixed, wrap, n) = self.prepare(*n);
                (fixed, wrap, Node::Paren(Box::new(n), span))
            }
            Node::Unary(negative, n, span) => {
                let (fixed, wrap, n) = self.prepare(*n);
                (fixed, wrap, Node::Unary(negative, Box::new(n), span))
            }
            Node::Aggregate(mut a) => {
                let (fixed, wrap, expr) = self.prepare(a.expr);
                a.expr = expr;
                (fixed, wrap, Node::Aggregate(a))
            }
            Node::Binary(mut b) => {
                let (fixed_left, wrap_left, lhs) = self.prepare(b.lhs);
                let (fixed_right, wrap_right, rhs) = self.prepare(b.rhs);
                let all = fixed_left && fixed_right;
                b.lhs = wrapped(wrap_left && !all, lhs);
                b.rhs = wrapped(wrap_right && !all, rhs);
                (all, all, Node::Binary(b))
            }
            Node::Call(mut c) => {
                let unsafe_names = [
                    "days_in_month",
                    "day_of_month",
                    "day_of_week",
                    "day_of_year",
                    "end",
                    "hour",
                    "minute",
                    "month",
                    "year",
                    "predict_linear",
                    "range",
                    "start",
                    "step",
                    "time",
                    "timestamp",
                ];
                let mut fixed = !unsafe_names.contains(&c.func.name);
                let mut fixed_timestamp = c.func.name == "timestamp";
                let mut args = Vec::new();
                for arg in std::mem::take(&mut c.args) {
                    let (arg_fixed, wrap, arg) = self.prepare(arg);
                    fixed &= arg_fixed;
                    if !arg_fixed || !matches!(arg, Node::Vector(_)) {
                        fixed_timestamp = false;
                    }
                    args.push((wrap, arg));
                }
                let all = fixed || fixed_timestamp;
                c.args = args.into_iter().map(|(wrap, arg)| wrapped(wrap && !all, arg)).collect();
                (all, all, Node::Call(c))
            }
            Node::Subquery(mut s) => {
                let (fixed, _, expr) = self.prepare(s.expr);
                s.expr = wrapped(fixed, expr);
                (s.timestamp.is_some(), false, Node::Subquery(s))
            }
            Node::Invariant(_) => unreachable!("wrapped only here"),
        }
    }
}

/// Offsets, ranges and the fixed time of the enclosing subqueries.
#[derive(Clone, Copy, Default)]
struct Enclosing {
    offset: i64,
    timestamp: Option<i64>,
}

/// Fits the offsets of what has `@` to an evaluation that starts at `start`.
pub fn set_offsets(start: i64, node: &Node) {
    walk(start, node, Enclosing::default());
}

fn shifted(start: i64, timestamp: Option<i64>, original: i64, enclosing: Enclosing) -> i64 {
    let Some(t) = timestamp else { return original };
    let mut outer = enclosing.offset;
    if let Some(outer_t) = enclosing.timestamp {
        outer += start - outer_t;
    }
    original + (start - t) - outer
}

fn walk(start: i64, node: &Node, enclosing: Enclosing) {
    match node {
        Node::Number(..) | Node::Text(..) => {}
        Node::Paren(n, _) | Node::Unary(_, n, _) | Node::Invariant(n) => walk(start, n, enclosing),
        Node::Binary(b) => {
            walk(start, &b.lhs, enclosing);
            walk(start, &b.rhs, enclosing);
        }
        Node::Aggregate(a) => {
            walk(start, &a.expr, enclosing);
            if let Some(p) = &a.param {
                walk(start, p, enclosing);
            }
        }
        Node::Call(c) => c.args.iter().for_each(|a| walk(start, a, enclosing)),
        Node::Vector(v) | Node::Matrix(v, ..) => {
            v.offset.set(shifted(start, v.timestamp, v.original_offset, enclosing));
        }
        Node::Subquery(s) => {
            s.offset.set(shifted(start, s.timestamp, s.original_offset, enclosing));
            let inner = match s.timestamp {
                Some(t) => Enclosing { offset: s.original_offset, timestamp: Some(t) },
                None => Enclosing { offset: enclosing.offset + s.original_offset, ..enclosing },
            };
            walk(start, &s.expr, inner);
        }
    }
}
