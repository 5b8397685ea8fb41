//! What to do about an error, for the slips that are made most.

use tsdbctl_model::spelling::distance;

use crate::func::FunctionSet;
use crate::lex::TokenKind;
use crate::value::Struct;

/// What the most frequent slips should have been.
pub(crate) fn for_token(kind: TokenKind, word: &str, context: &str) -> Option<String> {
    Some(match (kind, word) {
        (TokenKind::Assign, "=") if context == "operand" => {
            "`=` sets a variable; to compare, write `eq A B`".to_string()
        }
        (TokenKind::Char, "<" | ">" | "!" | "&") => {
            "templates have no operators: write `lt A B`, `gt A B`, `not A`, `and A B`".to_string()
        }
        (TokenKind::Char, "+" | "*" | "/" | "%") => {
            "templates cannot calculate: do it in the expression".to_string()
        }
        (TokenKind::Char, "{") => "an action is `{{ … }}`, with two braces on each side".to_string(),
        _ => return None,
    })
}

/// The function whose name is nearest to one that does not exist.
pub(crate) fn nearest_function(functions: FunctionSet, word: &str) -> Option<String> {
    let allowed = if word.len() < 5 { 1 } else { 2 };
    let (distance, name) = functions.iter().map(|f| (distance(f.name, word), f.name)).min()?;
    (distance <= allowed).then(|| format!("did you mean `{name}`?"))
}

/// The field of the data that differs in letter case only.
pub(crate) fn for_field(data: &Struct, name: &str) -> Option<&'static str> {
    match data.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name))?.name {
        "Labels" => Some("did you mean `.Labels`?"),
        "Value" => Some("did you mean `.Value`?"),
        "ExternalLabels" => Some("did you mean `.ExternalLabels`?"),
        "ExternalURL" => Some("did you mean `.ExternalURL`?"),
        _ => None,
    }
}

/// What to do about the error of a function.
pub(crate) fn for_call(message: &str) -> Option<&'static str> {
    Some(match message {
        "incompatible types for comparison: float64 and int"
        | "incompatible types for comparison: int and float64" => {
            "compare a float with a float: write the number with a decimal point, such as 90.0"
        }
        "incompatible types for comparison: string and int"
        | "incompatible types for comparison: string and float64" => {
            "a label is a text: compare it with a text, such as \"90\""
        }
        "first() called on vector with no elements" => {
            "the query found nothing: ask first, as in `{{ with query \"…\" }}{{ . | first | value }}{{ end }}`"
        }
        _ => return None,
    })
}
