//! An expression pinned to its evaluation time with `@`, so that it must give the same at any other time.

use crate::engine::options::QueryTime;
use crate::parser::ast::{Expr, TimeModifiers};
use crate::parser::functions::FunctionId;
use crate::parser::{ParseError, parse};

/// Functions that look at the evaluation time itself.
fn looks_at_the_time(f: FunctionId) -> bool {
    matches!(
        f,
        FunctionId::DaysInMonth
            | FunctionId::DayOfMonth
            | FunctionId::DayOfWeek
            | FunctionId::DayOfYear
            | FunctionId::End
            | FunctionId::Hour
            | FunctionId::Minute
            | FunctionId::Month
            | FunctionId::Year
            | FunctionId::PredictLinear
            | FunctionId::Range
            | FunctionId::Start
            | FunctionId::Step
            | FunctionId::Time
            | FunctionId::Timestamp
    )
}

/// The expression with every outermost selector and subquery pinned to `t`, and other times to evaluate it at;
/// nothing where the time matters otherwise.
pub(crate) fn pinned(text: &str, t: i64) -> Result<Vec<(String, QueryTime)>, ParseError> {
    let mut expr = parse(text, &super::read::script_features())?;
    if !pin(&mut expr, t) {
        return Ok(Vec::new());
    }
    let printed = expr.to_string();
    let times = if t == 0 { vec![-1000, 0, 1000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
    Ok(times.into_iter().map(|t| (printed.clone(), QueryTime::Instant(t))).collect())
}

fn fix(time: &mut TimeModifiers, t: i64) {
    time.at.get_or_insert(t);
}

/// False if the time matters to a function.
fn pin(expr: &mut Expr, t: i64) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Paren(e) => pin(&mut e.expr, t),
        Expr::Unary(e) => pin(&mut e.expr, t),
        Expr::Binary(e) => pin(&mut e.lhs, t) && pin(&mut e.rhs, t),
        Expr::Aggregate(e) => e.param.as_mut().is_none_or(|p| pin(p, t)) && pin(&mut e.expr, t),
        Expr::Call(e) => !looks_at_the_time(e.func.id) && e.args.iter_mut().all(|a| pin(a, t)),
        Expr::Vector(e) => {
            fix(&mut e.time, t);
            true
        }
        Expr::Matrix(e) => {
            fix(&mut e.selector.time, t);
            true
        }
        // What is inside a pinned subquery is evaluated at the subquery's own times.
        Expr::Subquery(e) => {
            fix(&mut e.time, t);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_selectors_are_pinned() {
        let at = |text: &str| pinned(text, 60_000).unwrap().first().map(|(e, _)| e.clone());
        assert_eq!(
            at("a + rate(b[1m] offset 5m)").as_deref(),
            Some("a @ 60.000 + rate(b[1m] @ 60.000 offset 5m)")
        );
        assert_eq!(
            at("sum_over_time(rate(b[1m])[1h:])").as_deref(),
            Some("sum_over_time(rate(b[1m])[1h:] @ 60.000)")
        );
        assert_eq!(at("a @ 5").as_deref(), Some("a @ 5.000"));
        assert_eq!(at("hour(a)"), None);
        assert_eq!(at("vector(time())").as_deref(), None);
    }
}
