//! Expressions as text, character by character as upstream's `String()` writes them.

use std::fmt::{self, Write};

use tsdbctl_model::MatchType;
use tsdbctl_model::duration::format_duration_ms;
use tsdbctl_model::float_text::{format_f, format_g, go_quote};
use tsdbctl_model::labels::{METRIC_NAME, is_legacy_label_name};

use super::ast::{
    AggregateExpr, BinaryExpr, Cardinality, DurationExpr, DurationOp, DurationOperand, Expr, MatrixSelector,
    NumberLiteral, StartOrEnd, SubqueryExpr, TimeModifiers, VectorSelector,
};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::String(e) => f.write_str(&e.quoted()),
            Self::Paren(e) => write!(f, "({})", e.expr),
            Self::Unary(e) => write!(f, "{}{}", if e.negative { "-" } else { "+" }, e.expr),
            Self::Binary(_) => {
                // A chain leans to the left: down first, then out in the order of the text.
                let mut operators = Vec::new();
                let mut leftmost = self;
                while let Self::Binary(b) = leftmost {
                    operators.push(b);
                    leftmost = &b.lhs;
                }
                leftmost.fmt(f)?;
                while let Some(b) = operators.pop() {
                    f.write_char(' ')?;
                    write_operator(b, f)?;
                    write!(f, " {}", b.rhs)?;
                }
                Ok(())
            }
            Self::Aggregate(e) => {
                write_aggregate_head(e, f)?;
                match &e.param {
                    Some(param) => write!(f, "({param}, {})", e.expr),
                    None => write!(f, "({})", e.expr),
                }
            }
            Self::Call(e) => {
                write!(f, "{}(", e.func.name)?;
                for (i, arg) in e.args.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    arg.fmt(f)?;
                }
                f.write_char(')')
            }
            Self::Vector(e) => e.fmt(f),
            Self::Matrix(e) => e.fmt(f),
            Self::Subquery(e) => {
                e.expr.fmt(f)?;
                write_subquery_suffix(e, f)
            }
        }
    }
}

/// `sum by (job) `, without the arguments.
pub(crate) fn write_aggregate_head(e: &AggregateExpr, f: &mut dyn Write) -> fmt::Result {
    f.write_str(e.op.as_str())?;
    if e.without || !e.grouping.is_empty() {
        f.write_str(if e.without { " without (" } else { " by (" })?;
        write_labels(&e.grouping, f)?;
        f.write_str(") ")?;
    }
    Ok(())
}

fn write_labels(labels: &[String], f: &mut dyn Write) -> fmt::Result {
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_legacy_label_name(label) {
            f.write_str(label)?;
        } else {
            f.write_str(&go_quote(label))?;
        }
    }
    Ok(())
}

/// The operator with `bool`, matching and fills.
pub(crate) fn write_operator(e: &BinaryExpr, f: &mut dyn Write) -> fmt::Result {
    f.write_str(e.op.as_str())?;
    if e.return_bool {
        f.write_str(" bool")?;
    }
    let Some(m) = &e.matching else { return Ok(()) };
    let grouped = matches!(m.card, Cardinality::ManyToOne | Cardinality::OneToMany);
    if !m.labels.is_empty() || m.on || grouped {
        f.write_str(if m.on { " on (" } else { " ignoring (" })?;
        write_labels(&m.labels, f)?;
        f.write_char(')')?;
    }
    if grouped {
        f.write_str(if m.card == Cardinality::ManyToOne { " group_left (" } else { " group_right (" })?;
        write_labels(&m.include, f)?;
        f.write_char(')')?;
    }
    match (m.fill_left, m.fill_right) {
        (Some(l), Some(r)) if l == r => write!(f, " fill ({})", format_g(l)),
        (l, r) => {
            if let Some(l) = l {
                write!(f, " fill_left ({})", format_g(l))?;
            }
            if let Some(r) = r {
                write!(f, " fill_right ({})", format_g(r))?;
            }
            Ok(())
        }
    }
}

impl fmt::Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_duration {
            return f.write_str(&format_f(self.value));
        }
        let (sign, seconds) = if self.value < 0.0 { ("-", -self.value) } else { ("", self.value) };
        write!(f, "{sign}{}", format_duration_ms((seconds * 1e9) as i64 / 1_000_000))
    }
}

impl fmt::Display for DurationOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::Expr(e) => e.fmt(f),
        }
    }
}

impl DurationOp {
    /// The operator's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Step => "step",
            Self::Range => "range",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_char('(')?;
        }
        let op = self.op.as_str();
        match (self.op, &self.lhs, &self.rhs) {
            (DurationOp::MinOf | DurationOp::MaxOf, Some(l), Some(r)) => write!(f, "{op}({l}, {r})")?,
            (DurationOp::Add, None, Some(r)) => r.fmt(f)?,
            (_, None, Some(r)) => write!(f, "{op}{r}")?,
            (_, Some(l), Some(r)) => write!(f, "{l} {op} {r}")?,
            _ => write!(f, "{op}()")?,
        }
        if self.wrapped {
            f.write_char(')')?;
        }
        Ok(())
    }
}

fn write_at(time: &TimeModifiers, f: &mut dyn Write) -> fmt::Result {
    match (time.at, time.start_or_end) {
        (Some(ms), _) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
        (None, Some(StartOrEnd::Start)) => f.write_str(" @ start()"),
        (None, Some(StartOrEnd::End)) => f.write_str(" @ end()"),
        (None, None) => Ok(()),
    }
}

fn write_offset(time: &TimeModifiers, f: &mut dyn Write) -> fmt::Result {
    match &time.offset_expr {
        Some(e) => write!(f, " offset {e}"),
        None if time.offset > 0 => write!(f, " offset {}", format_duration_ms(time.offset)),
        None if time.offset < 0 => write!(f, " offset -{}", format_duration_ms(time.offset.saturating_neg())),
        None => Ok(()),
    }
}

fn write_extended(v: &VectorSelector, f: &mut dyn Write) -> fmt::Result {
    if v.anchored {
        f.write_str(" anchored")
    } else if v.smoothed {
        f.write_str(" smoothed")
    } else {
        Ok(())
    }
}

/// The name and the braces.
fn write_matchers(v: &VectorSelector, f: &mut dyn Write) -> fmt::Result {
    let mut conditions: Vec<String> = v
        .matchers
        .iter()
        .filter(|m| {
            // A condition that only repeats the name in front is left out.
            !(m.name == METRIC_NAME && m.kind == MatchType::Equal && m.value == v.name && !m.value.is_empty())
        })
        .map(ToString::to_string)
        .collect();
    f.write_str(&v.name)?;
    if !conditions.is_empty() {
        conditions.sort_unstable();
        write!(f, "{{{}}}", conditions.join(","))?;
    }
    Ok(())
}

impl fmt::Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_matchers(self, f)?;
        write_at(&self.time, f)?;
        write_extended(self, f)?;
        write_offset(&self.time, f)
    }
}

impl fmt::Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_matchers(&self.selector, f)?;
        match &self.range_expr {
            Some(e) => write!(f, "[{e}]")?,
            None => write!(f, "[{}]", format_duration_ms(self.range))?,
        }
        write_extended(&self.selector, f)?;
        write_at(&self.selector.time, f)?;
        write_offset(&self.selector.time, f)
    }
}

/// `[range:step]` and the modifiers.
pub(crate) fn write_subquery_suffix(e: &SubqueryExpr, f: &mut dyn Write) -> fmt::Result {
    match &e.range_expr {
        Some(range) => write!(f, "[{range}:")?,
        None => write!(f, "[{}:", format_duration_ms(e.range))?,
    }
    match &e.step_expr {
        _ if e.step != 0 => f.write_str(&format_duration_ms(e.step))?,
        Some(step) => write!(f, "{step}")?,
        None => {}
    }
    f.write_char(']')?;
    write_at(&e.time, f)?;
    write_offset(&e.time, f)
}
