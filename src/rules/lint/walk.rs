//! Going through expressions.

use tsdbctl_promql::parser::ast::{Expr, VectorSelector};

/// The operands of an expression, left to right.
pub fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => Vec::new(),
        Expr::Paren(e) => vec![&e.expr],
        Expr::Unary(e) => vec![&e.expr],
        Expr::Binary(e) => vec![&e.lhs, &e.rhs],
        Expr::Aggregate(e) => e.param.iter().chain(std::iter::once(&e.expr)).collect(),
        Expr::Call(e) => e.args.iter().collect(),
        Expr::Subquery(e) => vec![&e.expr],
    }
}

/// Calls `visit` with the expression and all that is in it, without using the thread's stack.
pub fn each<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        visit(expr);
        let before = open.len();
        open.extend(children(expr));
        open[before..].reverse();
    }
}

/// Whether an expression nests deeper than `most`.
pub fn depth_exceeds(expr: &Expr, most: usize) -> bool {
    let mut open = vec![(expr, 0)];
    while let Some((expr, depth)) = open.pop() {
        if depth > most {
            return true;
        }
        open.extend(children(expr).into_iter().map(|child| (child, depth + 1)));
    }
    false
}

/// The selector of an instant or range selector.
pub fn selector(expr: &Expr) -> Option<&VectorSelector> {
    match expr {
        Expr::Vector(selector) => Some(selector),
        Expr::Matrix(matrix) => Some(&matrix.selector),
        _ => None,
    }
}
