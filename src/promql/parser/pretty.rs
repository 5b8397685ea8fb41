//! Expressions over several lines, as upstream's formatter lays them out: what is longer than 100 bytes is
//! split at its operator, parentheses or arguments, each level indented by two spaces.

use std::fmt::{self, Write};

use super::ast::Expr;
use super::print::{write_aggregate_head, write_operator, write_subquery_suffix};

/// Bytes that stay on one line.
const LINE_BYTES: usize = 100;

/// Counts up to the limit and stops the writer there.
struct Measure {
    left: usize,
}

impl Write for Measure {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.left = self.left.checked_sub(s.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// The formatted expression, without a line break at its end.
pub fn prettify(e: &Expr) -> String {
    prettify_within(e, LINE_BYTES)
}

/// As [`prettify`], split where longer than `line_bytes`.
pub fn prettify_within(e: &Expr, line_bytes: usize) -> String {
    let mut out = String::new();
    let written = Layout { line_bytes }.write(&mut out, e, 0);
    debug_assert!(written.is_ok(), "a String takes everything");
    out
}

struct Layout {
    line_bytes: usize,
}

fn indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

impl Layout {
    fn needs_split(&self, e: &Expr) -> bool {
        write!(Measure { left: self.line_bytes }, "{e}").is_err()
    }

    fn write(&self, out: &mut String, e: &Expr, level: usize) -> fmt::Result {
        match e {
            // Upstream does not indent a subquery that fits.
            Expr::Subquery(s) => {
                if !self.needs_split(e) {
                    return write!(out, "{e}");
                }
                self.write(out, &s.expr, level)?;
                return write_subquery_suffix(s, out);
            }
            Expr::Unary(u) => {
                indent(out, level);
                out.push(if u.negative { '-' } else { '+' });
                let mut operand = String::new();
                self.write(&mut operand, &u.expr, level)?;
                out.push_str(operand.trim());
                return Ok(());
            }
            Expr::Binary(_) => {
                // The operators from the outermost on; each operand on the left lies one level deeper.
                let mut operators = Vec::new();
                let mut lhs = e;
                while let Expr::Binary(b) = lhs {
                    if !self.needs_split(lhs) {
                        break;
                    }
                    operators.push(b);
                    lhs = &b.lhs;
                }
                let mut depth = level + operators.len();
                if operators.is_empty() {
                    indent(out, depth);
                    return write!(out, "{lhs}");
                }
                match lhs {
                    Expr::Binary(_) => {
                        indent(out, depth);
                        write!(out, "{lhs}")?;
                    }
                    lhs => self.write(out, lhs, depth)?,
                }
                while let Some(b) = operators.pop() {
                    depth -= 1;
                    out.push('\n');
                    indent(out, depth);
                    write_operator(b, out)?;
                    out.push('\n');
                    self.write(out, &b.rhs, depth + 1)?;
                }
                return Ok(());
            }
            _ => {}
        }
        indent(out, level);
        if !self.needs_split(e) {
            return write!(out, "{e}");
        }
        match e {
            Expr::Aggregate(a) => {
                write_aggregate_head(a, out)?;
                out.push_str("(\n");
                if let Some(param) = &a.param {
                    self.write(out, param, level + 1)?;
                    out.push_str(",\n");
                }
                self.write(out, &a.expr, level + 1)?;
                out.push('\n');
                indent(out, level);
                out.push(')');
            }
            Expr::Call(c) => {
                writeln!(out, "{}(", c.func.name)?;
                for (i, arg) in c.args.iter().enumerate() {
                    if i > 0 {
                        out.push_str(",\n");
                    }
                    self.write(out, arg, level + 1)?;
                }
                out.push('\n');
                indent(out, level);
                out.push(')');
            }
            Expr::Paren(p) => {
                out.push_str("(\n");
                self.write(out, &p.expr, level + 1)?;
                out.push('\n');
                indent(out, level);
                out.push(')');
            }
            e => write!(out, "{e}")?,
        }
        Ok(())
    }
}
