//! Walking over the selectors of an expression, and editing their conditions.

use tsdbctl_model::regexp::RegexpError;
use tsdbctl_model::{MatchType, Matcher};

use super::ast::{Expr, VectorSelector};

/// Calls `visit` with every selector, those of range selectors included, left to right.
///
/// # Errors
/// The first that `visit` gives.
pub fn for_each_selector<E>(
    expr: &mut Expr,
    visit: &mut dyn FnMut(&mut VectorSelector) -> Result<(), E>,
) -> Result<(), E> {
    let mut operands = Vec::new();
    let mut current = expr;
    while let Expr::Binary(b) = current {
        let b = &mut **b;
        operands.push(&mut b.rhs);
        current = &mut b.lhs;
    }
    match current {
        Expr::Number(_) | Expr::String(_) | Expr::Binary(_) => {}
        Expr::Paren(e) => for_each_selector(&mut e.expr, visit)?,
        Expr::Unary(e) => for_each_selector(&mut e.expr, visit)?,
        Expr::Aggregate(e) => {
            if let Some(param) = &mut e.param {
                for_each_selector(param, visit)?;
            }
            for_each_selector(&mut e.expr, visit)?;
        }
        Expr::Call(e) => {
            for arg in &mut e.args {
                for_each_selector(arg, visit)?;
            }
        }
        Expr::Vector(e) => visit(e)?,
        Expr::Matrix(e) => visit(&mut e.selector)?,
        Expr::Subquery(e) => for_each_selector(&mut e.expr, visit)?,
    }
    while let Some(operand) = operands.pop() {
        for_each_selector(operand, visit)?;
    }
    Ok(())
}

/// Sets the condition on one label in every selector: those on that label are replaced, and where there is
/// none, one is added.
///
/// # Errors
/// If `kind` is a regexp kind and `value` is no regular expression.
pub fn set_label_matcher(
    expr: &mut Expr,
    kind: MatchType,
    name: &str,
    value: &str,
) -> Result<(), RegexpError> {
    let matcher = Matcher::new(kind, name, value)?;
    for_each_selector(expr, &mut |selector| {
        let mut found = false;
        for m in selector.matchers.iter_mut().filter(|m| m.name == name) {
            *m = matcher.clone();
            found = true;
        }
        if !found {
            selector.matchers.push(matcher.clone());
        }
        Ok(())
    })
}

/// Removes the conditions on one label from every selector.
pub fn delete_label_matcher(expr: &mut Expr, name: &str) {
    let visited: Result<(), std::convert::Infallible> = for_each_selector(expr, &mut |selector| {
        selector.matchers.retain(|m| m.name != name);
        Ok(())
    });
    let Ok(()) = visited;
}
