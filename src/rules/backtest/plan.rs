//! What a backtest evaluates: each left-hand side once, and what it has to be compared with for every alert.

use tsdbctl_promql::engine::MaxResolution;
use tsdbctl_promql::parser::ast::{BinaryOp, DurationExpr, DurationOp, DurationOperand, Expr, TimeModifiers};

/// The comparison that an alert ends with, `expr op number`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The comparison.
    pub op: BinaryOp,
    /// The number on its right.
    pub number: f64,
}

impl Threshold {
    /// Whether a value passes.
    #[inline]
    pub fn passes(self, value: f64) -> bool {
        match self.op {
            BinaryOp::Eql => value == self.number,
            BinaryOp::Neq => value != self.number,
            BinaryOp::Gtr => value > self.number,
            BinaryOp::Lss => value < self.number,
            BinaryOp::Gte => value >= self.number,
            BinaryOp::Lte => value <= self.number,
            _ => false,
        }
    }
}

/// Coarser samples than the stored ones are never what a rule saw.
pub const RESOLUTION: MaxResolution = MaxResolution::Fixed(0);

/// Takes a filter by a number off an expression; histograms never pass one.
pub fn split(expr: &Expr) -> Option<(&Expr, Threshold)> {
    let Expr::Binary(b) = expr.unwrap_parens() else { return None };
    if !b.op.is_comparison() || b.return_bool {
        return None;
    }
    let is_vector = |e: &Expr| e.value_type() == tsdbctl_promql::parser::ast::ValueType::Vector;
    if let Some(number) = number(&b.rhs).filter(|_| is_vector(&b.lhs)) {
        return Some((&b.lhs, Threshold { op: b.op, number }));
    }
    let number = number(&b.lhs).filter(|_| is_vector(&b.rhs))?;
    Some((&b.rhs, Threshold { op: mirrored(b.op), number }))
}

fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Gtr => BinaryOp::Lss,
        BinaryOp::Lss => BinaryOp::Gtr,
        BinaryOp::Gte => BinaryOp::Lte,
        BinaryOp::Lte => BinaryOp::Gte,
        op => op,
    }
}

fn number(expr: &Expr) -> Option<f64> {
    match expr.unwrap_parens() {
        Expr::Number(n) => Some(n.value),
        Expr::Unary(u) => number(&u.expr).map(|v| if u.negative { -v } else { v }),
        Expr::Binary(b) => {
            let (x, y) = (number(&b.lhs)?, number(&b.rhs)?);
            match b.op {
                BinaryOp::Add => Some(x + y),
                BinaryOp::Sub => Some(x - y),
                BinaryOp::Mul => Some(x * y),
                BinaryOp::Div => Some(x / y),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether an expression means something else in a range than at each of its steps: `@ start()`, `@ end()`, `start()`,
/// `end()`, `range()`, `step()`.
pub fn is_bound_to_range(expr: &Expr) -> bool {
    let time =
        |t: &TimeModifiers| t.start_or_end.is_some() || t.offset_expr.as_ref().is_some_and(duration_is_bound);
    match expr {
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Paren(p) => is_bound_to_range(&p.expr),
        Expr::Unary(u) => is_bound_to_range(&u.expr),
        Expr::Binary(b) => is_bound_to_range(&b.lhs) || is_bound_to_range(&b.rhs),
        Expr::Aggregate(a) => is_bound_to_range(&a.expr) || a.param.as_ref().is_some_and(is_bound_to_range),
        Expr::Call(c) => {
            matches!(c.func.name, "start" | "end" | "range" | "step") || c.args.iter().any(is_bound_to_range)
        }
        Expr::Vector(v) => time(&v.time),
        Expr::Matrix(m) => time(&m.selector.time) || m.range_expr.as_ref().is_some_and(duration_is_bound),
        Expr::Subquery(s) => {
            time(&s.time)
                || s.range_expr.as_ref().is_some_and(duration_is_bound)
                || s.step_expr.as_ref().is_some_and(duration_is_bound)
                || is_bound_to_range(&s.expr)
        }
    }
}

/// How far back from its evaluation an expression reads at most, ms, an instant selector's lookback aside.
pub fn reach(expr: &Expr) -> i64 {
    match expr {
        Expr::Number(_) | Expr::String(_) => 0,
        Expr::Paren(p) => reach(&p.expr),
        Expr::Unary(u) => reach(&u.expr),
        Expr::Binary(b) => reach(&b.lhs).max(reach(&b.rhs)),
        Expr::Aggregate(a) => reach(&a.expr).max(a.param.as_ref().map_or(0, reach)),
        Expr::Call(c) => c.args.iter().map(reach).max().unwrap_or(0),
        Expr::Vector(v) => v.time.offset.max(0),
        Expr::Matrix(m) => m.range.saturating_add(m.selector.time.offset.max(0)),
        Expr::Subquery(s) => s.range.saturating_add(s.time.offset.max(0)).saturating_add(reach(&s.expr)),
    }
}

fn duration_is_bound(d: &DurationExpr) -> bool {
    let operand = |o: &Option<Box<DurationOperand>>| {
        o.as_deref().is_some_and(|o| match o {
            DurationOperand::Expr(e) => duration_is_bound(e),
            _ => false,
        })
    };
    matches!(d.op, DurationOp::Step | DurationOp::Range) || operand(&d.lhs) || operand(&d.rhs)
}

/// What the text of a label's template depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// Labels of the series at most: one text per series.
    Series,
    /// The value too: one text per value.
    Value,
    /// The time or a query too: one text per step.
    Step,
}

/// What a template's text may depend on; rather too much than too little.
pub fn dependence(template: &str) -> Dependence {
    let mut worst = Dependence::Series;
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        let body = &rest[start + 2..];
        let end = body.find("}}").unwrap_or(body.len());
        let mut action = body[..end].to_string();
        if action.contains("query") || action.contains("now") || action.contains("template") {
            return Dependence::Step;
        }
        for known in
            ["$labels", ".Labels", "$externalLabels", ".ExternalLabels", "$externalURL", ".ExternalURL"]
        {
            action = strip_access(&action, known);
        }
        if action.contains('$') || action.contains('.') {
            worst = Dependence::Value;
        }
        rest = &body[end..];
    }
    worst
}

/// Takes `known` and a field behind it (`$labels.instance`) out of an action.
fn strip_access(action: &str, known: &str) -> String {
    let mut out = String::new();
    let mut rest = action;
    while let Some(at) = rest.find(known) {
        out.push_str(&rest[..at]);
        rest = &rest[at + known.len()..];
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if let Some(field) = rest.strip_prefix('.') {
            rest = field.trim_start_matches(word);
        } else if rest.starts_with(word) {
            // Another variable with a longer name.
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsdbctl_promql::engine::Features;
    use tsdbctl_promql::parser::parse;

    fn parsed(text: &str) -> Expr {
        parse(text, &Features { experimental_functions: true, ..Features::default() }).unwrap()
    }

    #[test]
    fn filters_by_numbers_are_taken_off() {
        for (text, left, op, number) in [
            ("up > 1", "up", BinaryOp::Gtr, 1.0),
            ("(up == -1)", "up", BinaryOp::Eql, -1.0),
            ("5 < up", "up", BinaryOp::Gtr, 5.0),
            ("5 != up", "up", BinaryOp::Neq, 5.0),
            ("a / b >= 2 * 3 - 1", "a / b", BinaryOp::Gte, 5.0),
            ("a > b > 4", "a > b", BinaryOp::Gtr, 4.0),
        ] {
            let expr = parsed(text);
            let (l, t) = split(&expr).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((l.to_string().as_str(), t), (left, Threshold { op, number }), "{text}");
        }
        for text in
            ["up", "up > bool 1", "a > b", "up > time()", "1 > bool 2", "up and 1 < b", "up > scalar(b)"]
        {
            assert!(split(&parsed(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_bound_to_the_range_is_seen() {
        for (text, bound) in [
            ("rate(a[5m])", false),
            ("a @ 5", false),
            ("a @ start()", true),
            ("1 + max_over_time(b[5m:1m] @ end())", true),
            ("sum(rate(a[5m] @ end()))", true),
            ("rate(a[step()])", true),
            ("a offset (2 * range())", true),
        ] {
            assert_eq!(is_bound_to_range(&parsed(text)), bound, "{text}");
        }
    }

    #[test]
    fn templates_depend_on_what_they_read() {
        for (text, wanted) in [
            ("page", Dependence::Series),
            ("{{ $labels.instance }} a.b $value", Dependence::Series),
            ("{{ .Labels.instance | toUpper }}{{ $externalURL }}", Dependence::Series),
            ("{{ $value }}", Dependence::Value),
            ("{{ $labels.a }}{{ .Value | humanize }}", Dependence::Value),
            ("{{ . }}", Dependence::Value),
            ("{{ $labelsx }}", Dependence::Value),
            ("{{ with query \"up\" }}{{ end }}", Dependence::Step),
            ("{{ now }}", Dependence::Step),
        ] {
            assert_eq!(dependence(text), wanted, "{text}");
        }
    }
}
