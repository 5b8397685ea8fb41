//! The tree as the API's `parse_query` gives it: objects with upstream's keys, in alphabetical order.

use serde_json::{Number, Value, json};
use tsdbctl_model::Matcher;
use tsdbctl_model::float_text::format_f;

use super::ast::{DurationExpr, DurationOperand, Expr, StartOrEnd, TimeModifiers};

/// The tree as JSON.
pub fn ast_json(e: &Expr) -> Value {
    match e {
        Expr::Aggregate(n) => json!({
            "expr": ast_json(&n.expr),
            "grouping": n.grouping,
            "op": n.op.as_str(),
            "param": n.param.as_ref().map(ast_json),
            "type": "aggregation",
            "without": n.without,
        }),
        Expr::Binary(_) => {
            let mut operators = Vec::new();
            let mut leftmost = e;
            while let Expr::Binary(b) = leftmost {
                operators.push(b);
                leftmost = &b.lhs;
            }
            let mut lhs = ast_json(leftmost);
            while let Some(n) = operators.pop() {
                let matching = n.matching.as_ref().map(|m| {
                    json!({
                        "card": m.card.as_str(),
                        "fillValues": { "lhs": m.fill_left.map(number), "rhs": m.fill_right.map(number) },
                        "include": m.include,
                        "labels": m.labels,
                        "on": m.on,
                    })
                });
                lhs = json!({
                    "bool": n.return_bool,
                    "lhs": lhs,
                    "matching": matching,
                    "op": n.op.as_str(),
                    "rhs": ast_json(&n.rhs),
                    "type": "binaryExpr",
                });
            }
            lhs
        }
        Expr::Call(n) => json!({
            "args": n.args.iter().map(ast_json).collect::<Vec<_>>(),
            "func": {
                "argTypes": n.func.arg_types.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
                "name": n.func.name,
                "returnType": n.func.return_type.as_str(),
                "variadic": n.func.variadic,
            },
            "type": "call",
        }),
        Expr::Matrix(n) => json!({
            "anchored": n.selector.anchored,
            "matchers": matchers(&n.selector.matchers),
            "name": n.selector.name,
            "offset": n.selector.time.offset,
            "offsetExpr": n.selector.time.offset_expr.as_ref().map(duration),
            "range": n.range,
            "rangeExpr": n.range_expr.as_ref().map(duration),
            "smoothed": n.selector.smoothed,
            "startOrEnd": start_or_end(&n.selector.time),
            "timestamp": n.selector.time.at,
            "type": "matrixSelector",
        }),
        Expr::Subquery(n) => json!({
            "expr": ast_json(&n.expr),
            "offset": n.time.offset,
            "offsetExpr": n.time.offset_expr.as_ref().map(duration),
            "range": n.range,
            "rangeExpr": n.range_expr.as_ref().map(duration),
            "startOrEnd": start_or_end(&n.time),
            "step": n.step,
            "stepExpr": n.step_expr.as_ref().map(duration),
            "timestamp": n.time.at,
            "type": "subquery",
        }),
        Expr::Number(n) => json!({ "type": "numberLiteral", "val": format_f(n.value) }),
        Expr::Paren(n) => json!({ "expr": ast_json(&n.expr), "type": "parenExpr" }),
        Expr::String(n) => json!({ "type": "stringLiteral", "val": n.value }),
        Expr::Unary(n) => json!({
            "expr": ast_json(&n.expr),
            "op": if n.negative { "-" } else { "+" },
            "type": "unaryExpr",
        }),
        Expr::Vector(n) => json!({
            "anchored": n.anchored,
            "matchers": matchers(&n.matchers),
            "name": n.name,
            "offset": n.time.offset,
            "offsetExpr": n.time.offset_expr.as_ref().map(duration),
            "smoothed": n.smoothed,
            "startOrEnd": start_or_end(&n.time),
            "timestamp": n.time.at,
            "type": "vectorSelector",
        }),
    }
}

/// A number as upstream writes it: whole ones without a fraction.
fn number(v: f64) -> Value {
    if v.fract() == 0.0 && v.abs() < 9e15 {
        return Value::from(v as i64);
    }
    Number::from_f64(v).map_or(Value::Null, Value::Number)
}

fn matchers(matchers: &[Matcher]) -> Vec<Value> {
    matchers.iter().map(|m| json!({ "name": m.name, "type": m.kind.as_str(), "value": m.value })).collect()
}

fn start_or_end(time: &TimeModifiers) -> Option<&'static str> {
    time.start_or_end.map(|s| if s == StartOrEnd::Start { "start" } else { "end" })
}

fn duration(e: &DurationExpr) -> Value {
    json!({
        "lhs": e.lhs.as_deref().map(operand),
        "op": e.op.as_str(),
        "rhs": e.rhs.as_deref().map(operand),
        "type": "durationExpr",
        "wrapped": e.wrapped,
    })
}

fn operand(e: &DurationOperand) -> Value {
    match e {
        DurationOperand::Expr(e) => duration(e),
        DurationOperand::Number(n) => {
            json!({ "duration": n.is_duration, "type": "numberLiteral", "val": format_f(n.value) })
        }
    }
}
