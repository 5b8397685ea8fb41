//! Going through expressions.

use tsdbctl_promql::parser::ast::{Expr, VectorSelector};

/// Puts the operands of an expression on a stack, so that the leftmost is taken first.
fn push_operands<'e>(expr: &'e Expr, open: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
        Expr::Paren(e) => open.push(&e.expr),
        Expr::Unary(e) => open.push(&e.expr),
        Expr::Binary(e) => open.extend([&e.rhs, &e.lhs]),
        Expr::Aggregate(e) => {
            open.push(&e.expr);
            open.extend(&e.param);
        }
        Expr::Call(e) => open.extend(e.args.iter().rev()),
        Expr::Subquery(e) => open.push(&e.expr),
    }
}

/// Calls `visit` with the expression and all that is in it, without using the thread's stack.
pub fn each<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    let mut open = Vec::new();
    let mut next = Some(expr);
    while let Some(expr) = next {
        visit(expr);
        // Most expressions have one operand or none, for which no memory is needed.
        next = only_operand(expr).or_else(|| {
            push_operands(expr, &mut open);
            open.pop()
        });
    }
}

/// The operand of an expression that has one alone.
fn only_operand(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Paren(e) => Some(&e.expr),
        Expr::Unary(e) => Some(&e.expr),
        Expr::Subquery(e) => Some(&e.expr),
        Expr::Aggregate(e) if e.param.is_none() => Some(&e.expr),
        Expr::Call(e) => e.args.first().filter(|_| e.args.len() == 1),
        _ => None,
    }
}

/// Whether an expression nests deeper than `most`.
pub fn depth_exceeds(expr: &Expr, most: usize) -> bool {
    let mut level = vec![expr];
    let mut next = Vec::new();
    for _ in 0..=most {
        for expr in level.drain(..) {
            push_operands(expr, &mut next);
        }
        if next.is_empty() {
            return false;
        }
        std::mem::swap(&mut level, &mut next);
    }
    true
}

/// The selector of an instant or range selector.
pub fn selector(expr: &Expr) -> Option<&VectorSelector> {
    match expr {
        Expr::Vector(selector) => Some(selector),
        Expr::Matrix(matrix) => Some(&matrix.selector),
        _ => None,
    }
}
