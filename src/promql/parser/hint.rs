//! What was probably meant, for texts that are no expression.

use tsdbctl_model::spelling::distance;

use super::ast::{AggregateOp, BinaryOp, Expr, ValueType};
use super::functions::{FUNCTIONS, Function};
use super::token::{Kind, Token};

/// Aggregation operators, for spelling.
const AGGREGATIONS: [&str; 14] = [
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "count_values",
    "quantile",
    "limitk",
    "limit_ratio",
];

/// Names from elsewhere, and what they are called here.
const ELSEWHERE: [(&str, &str); 10] = [
    ("mean", "avg"),
    ("average", "avg"),
    ("median", "quantile(0.5, …)"),
    ("percentile", "quantile or histogram_quantile"),
    ("holt_winters", "double_exponential_smoothing"),
    ("log", "ln, log2 or log10"),
    ("now", "time()"),
    ("derivative", "deriv"),
    ("if", "a comparison filters: metric > 5"),
    ("distinct", "count(count by (label) (metric))"),
];

/// The nearest name to a misspelled function.
pub(crate) fn unknown_function(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, here)) = ELSEWHERE.iter().find(|(there, _)| *there == lower) {
        return Some(format!("did you mean {here}?"));
    }
    let names = || FUNCTIONS.iter().map(|f| f.name).chain(AGGREGATIONS);
    if name.len() > 64 {
        return None;
    }
    if let Some(same) = names().find(|n| *n == lower) {
        return Some(format!("function names are written in lower case: {same}"));
    }
    let limit = (lower.len() / 3).clamp(1, 3);
    let nearest = names().map(|n| (distance(&lower, n), n)).min()?;
    if nearest.0 <= limit {
        return Some(format!("did you mean {}?", nearest.1));
    }
    // `over_time` families: `p95_over_time`, `average_over_time`.
    if lower.ends_with("_over_time") {
        return Some(
            "functions over time: avg, min, max, sum, count, quantile, stddev, last, first, present".into(),
        );
    }
    None
}

/// How a function is called.
pub(crate) fn signature(func: &Function) -> String {
    let mut text = format!("{}(", func.name);
    for (i, t) in func.arg_types.iter().enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(match t {
            ValueType::Scalar => "number",
            ValueType::Vector => "vector",
            ValueType::Matrix => "vector[range]",
            ValueType::String => "\"text\"",
        });
    }
    if func.variadic == 1 {
        text.push_str(" (may be left out)");
    } else if func.variadic != 0 {
        text.push_str(", …");
    }
    text.push(')');
    text
}

/// What an aggregation takes.
pub(crate) fn aggregate_arguments(op: AggregateOp) -> Option<String> {
    let name = op.as_str();
    Some(match op {
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => format!("{name}(5, vector)"),
        AggregateOp::Quantile => format!("{name}(0.9, vector)"),
        AggregateOp::LimitRatio => format!("{name}(0.1, vector)"),
        AggregateOp::CountValues => format!("{name}(\"label\", vector)"),
        _ => format!("{name}(vector); several vectors are joined with `or` first"),
    })
}

/// A range or modifier in the wrong place.
pub(crate) fn range_placement(message: &str) -> Option<String> {
    Some(
        match message {
            "no offset modifiers allowed before range" => "write metric[5m] offset 1h",
            "no @ modifiers allowed before range" => "write metric[5m] @ time",
            "ranges only allowed for vector selectors" => {
                "a range over an expression is a subquery and has a colon: (expression)[1h:] or [1h:1m]"
            }
            _ => return None,
        }
        .to_string(),
    )
}

/// An argument of the wrong type.
pub(crate) fn wrong_type(want: ValueType, got: ValueType, text: &str, arg: &Expr) -> Option<String> {
    let span = arg.span();
    let written = text.get(span.start as usize..span.end as usize).filter(|t| t.len() <= 60);
    Some(match (want, got) {
        (ValueType::Matrix, ValueType::Vector) => match (arg.unwrap_parens(), written) {
            (Expr::Vector(_), Some(written)) => format!("add a range: {written}[5m]"),
            (_, Some(written)) => format!("a range over an expression is a subquery: ({written})[1h:]"),
            _ => "add a range, such as [5m], or [1h:] behind an expression".to_string(),
        },
        (ValueType::Vector, ValueType::Matrix) => {
            "apply a function over time first, such as rate(metric[5m]) or avg_over_time(metric[5m])"
                .to_string()
        }
        (ValueType::Vector, ValueType::Scalar) => match written {
            Some(written) => format!("make it a vector: vector({written})"),
            None => "vector(…) makes a vector of a number".to_string(),
        },
        (ValueType::Scalar, ValueType::Vector) => {
            "scalar(…) makes a number of a vector of one series; check the order of the arguments".to_string()
        }
        (ValueType::String, _) => "text is quoted: \"…\"".to_string(),
        (_, ValueType::String) => {
            "a number is written without quotes; check the order of the arguments".to_string()
        }
        _ => return None,
    })
}

/// A token where none of its kind may stand.
pub(crate) fn unexpected(text: &str, previous: Token, token: Token, context: &str) -> Option<String> {
    let before = previous.text(text);
    Some(match (context, token.kind) {
        ("label matching", Kind::Identifier) if matches!(previous.kind, Kind::Assign | Kind::MatchRegexp | Kind::MatchNotRegexp | Kind::Operator(BinaryOp::Neq)) => {
            format!("label values are quoted: {before}\"{}\"", token.text(text))
        }
        ("label matching", Kind::Assign) if previous.kind == Kind::Assign => {
            "labels are compared with a single =".to_string()
        }
        ("label matching", Kind::String | Kind::Identifier) => "conditions are separated by commas".to_string(),
        ("grouping opts", Kind::Operator(_) | Kind::Assign) => "a grouping lists label names alone".to_string(),
        ("grouping opts", Kind::Identifier) if previous.kind != Kind::LeftParen => {
            if matches!(previous.kind, Kind::By | Kind::Without | Kind::On | Kind::Ignoring) {
                format!("label names stand in parentheses: {before} ({})", token.text(text))
            } else {
                "label names are separated by commas".to_string()
            }
        }
        (_, Kind::Assign) => "comparison is ==; a single = belongs inside braces".to_string(),
        (_, Kind::By | Kind::Without) => {
            "by and without belong directly behind an aggregation: sum by (label) (vector) or sum(vector) by (label)"
                .to_string()
        }
        (_, Kind::On | Kind::Ignoring | Kind::GroupLeft | Kind::GroupRight) => {
            "matching stands behind the operator: a * on (label) group_left () b; group_left needs on or ignoring"
                .to_string()
        }
        (_, Kind::Bool) => "bool stands behind a comparison operator: a > bool b".to_string(),
        (_, Kind::Offset) => {
            "offset stands directly behind a selector: rate(metric[5m] offset 1h)".to_string()
        }
        (_, Kind::Operator(BinaryOp::Eql)) if matches!(previous.kind, Kind::Operator(_)) => {
            format!("{before}= is no operator; comparisons are == != > < >= <=")
        }
        (_, Kind::Duration) if matches!(previous.kind, Kind::Identifier | Kind::RightBrace) => {
            format!("a range stands in brackets: {before}[{}]", token.text(text))
        }
        (_, Kind::LeftBrace) if previous.kind == Kind::RightBracket => {
            "braces come before the range: metric{label=\"value\"}[5m]".to_string()
        }
        (_, Kind::Identifier) if before.eq_ignore_ascii_case("not") => {
            "there is no not; use unless, or != and !~ in braces".to_string()
        }
        (_, Kind::Eof) => match previous.kind {
            Kind::Operator(op) => format!("the right side of {} is missing", op.as_str()),
            _ => return None,
        },
        (_, Kind::Identifier | Kind::MetricIdentifier | Kind::Number | Kind::LeftParen | Kind::String) => {
            match previous.kind {
                Kind::Identifier | Kind::MetricIdentifier | Kind::Number | Kind::RightParen | Kind::RightBrace
                | Kind::RightBracket | Kind::String => "an operator is missing in front of it".to_string(),
                _ => return None,
            }
        }
        _ => return None,
    })
}
