//! Expressions laid out: on one line where they fit, else a chain of operators with one operand per line.

use std::collections::HashMap;

use tsdbctl_model::{Matcher, Span};
use tsdbctl_promql::engine::Features;
use tsdbctl_promql::parser::ast::{BinaryExpr, Expr, TimeModifiers, VectorSelector};
use tsdbctl_promql::parser::{parse, prettify};
use tsdbctl_yaml::{Edits, Node, ScalarStyle, Source, Value, quoted};

use super::STEP;
use crate::file::RuleFile;

/// Longest expression that stays on one line.
const LINE: usize = 100;

/// The text with all expressions laid out.
pub(super) fn expressions(file: &RuleFile, trees: &[Node], features: &Features) -> String {
    let mut edits = Edits::default();
    let mut places = HashMap::new();
    for tree in trees {
        expression_places(&file.source, tree, false, &mut places);
    }
    for rule in file.groups.iter().flat_map(|g| &g.rules) {
        let Some((column, node)) = places.remove(&(rule.expr_span.start, rule.expr_span.end)) else {
            continue;
        };
        let Some(style) = node.scalar().filter(|s| s.tag.is_none()).map(|s| s.style) else { continue };
        if rule.expr.text.contains('#') {
            continue;
        }
        let text = layout(&rule.expr.expr, 0);
        let unchanged = parse(&text, features).is_ok_and(|e| e.to_string() == *rule.expr.printed);
        if !unchanged {
            continue;
        }
        let span = node.content_span(&file.source);
        let (start, end) = (span.start as usize, span.end as usize);
        let old = &file.source.text[start..end];
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let header = old.lines().next().unwrap_or("");
        // Indentation and chomping that are written out stay.
        if block && header.contains(|c: char| c.is_ascii_digit()) {
            continue;
        }
        if block || text.contains('\n') {
            let chomping = if block { header.trim_start_matches(['|', '>']).trim_end() } else { "" };
            let mut new = format!("|{chomping}");
            // A comment behind the value goes to the header: below it would be text.
            let rest = file.source.text[end..].split('\n').next().unwrap_or("").trim_end();
            let comment = if !block && rest.trim_start().starts_with('#') { rest.len() } else { 0 };
            new.push_str(&file.source.text[end..end + comment]);
            for line in text.lines() {
                new.push('\n');
                new.push_str(&" ".repeat(column + STEP));
                new.push_str(line);
            }
            // What follows the text's last line stays: blank lines, comments.
            let last = start + old.trim_end().len();
            edits.replace(Span::new(start, last.max(start) + comment), new);
        } else {
            let new = quoted(&text, style);
            if new != old {
                edits.replace(span, new);
            }
        }
    }
    edits.apply(&file.source).unwrap_or_else(|_| file.source.text.clone())
}

/// Values of `expr` outside of brackets by their places, with the columns of their keys.
fn expression_places<'n>(
    source: &Source,
    node: &'n Node,
    in_flow: bool,
    out: &mut HashMap<(u32, u32), (usize, &'n Node)>,
) {
    if node.is_alias(source) {
        return;
    }
    let in_flow = in_flow || node.is_flow(source);
    match &node.value {
        Value::Scalar(_) => {}
        Value::Sequence(nodes) => nodes.iter().for_each(|n| expression_places(source, n, in_flow, out)),
        Value::Mapping(entries) => {
            for entry in entries.iter().filter(|e| !e.merged) {
                expression_places(source, &entry.value, in_flow, out);
                let is_expr = entry.key.scalar().is_some_and(|k| k.text == "expr");
                if is_expr && !in_flow && !entry.value.is_alias(source) {
                    let (_, column) = source.line_col(entry.key.span.start as usize);
                    let span = entry.value.span;
                    out.insert((span.start, span.end), (column - 1, &entry.value));
                }
            }
        }
    }
}

/// An expression over as many lines as it needs: a chain of operators with one operand per line, the operator in
/// front; what is still too long as upstream lays it out.
fn layout(expr: &Expr, depth: usize) -> String {
    let printed = expr.to_string();
    if printed.len() <= LINE || depth > 20 {
        return printed;
    }
    let Expr::Binary(_) = expr else { return prettify(expr) };
    let mut operators = Vec::new();
    let mut leftmost = expr;
    while let Expr::Binary(e) = leftmost {
        operators.push(&**e);
        leftmost = &e.lhs;
    }
    let mut out = layout(leftmost, depth + 1);
    while let Some(e) = operators.pop() {
        // The operator with its modifiers is what stands between its operands.
        let shallow = Expr::Binary(Box::new(BinaryExpr {
            op: e.op,
            lhs: operand(),
            rhs: operand(),
            matching: e.matching.clone(),
            return_bool: e.return_bool,
        }))
        .to_string();
        let operator = shallow.strip_prefix(ONE).and_then(|s| s.strip_suffix(ONE)).unwrap_or(" ").trim();
        let rhs = layout(&e.rhs, depth + 1);
        out.push('\n');
        out.push_str(operator);
        if rhs.contains('\n') {
            // An operand that is a chain itself is indented, so that its operators are not taken for these.
            let chain = matches!(e.rhs, Expr::Binary(_));
            for line in rhs.lines() {
                out.push('\n');
                out.push_str(if chain { "  " } else { "" });
                out.push_str(line);
            }
        } else {
            out.push(' ');
            out.push_str(&rhs);
        }
    }
    out
}

/// The name that stands for an operand.
const ONE: &str = "operand";

fn operand() -> Expr {
    Expr::Vector(Box::new(VectorSelector {
        name: ONE.to_string(),
        matchers: vec![Matcher::equal("__name__", ONE)],
        time: TimeModifiers::default(),
        anchored: false,
        smoothed: false,
        bypass_empty_matcher_check: false,
        span: Span::default(),
    }))
}
