//! Why a text is no YAML.

use tsdbctl_model::Span;

use crate::Source;
use crate::events::Failure;
use crate::source::Dialect;

/// libyaml's word for a colon within brackets that a bracket or comma follows.
pub(crate) const BEFORE_BRACKET: &str = "found unexpected ':'";

/// go-yaml's and libyaml's word for a wrong escape.
pub(crate) const UNKNOWN_ESCAPE: &str = "found unknown escape character";

/// A text that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// go-yaml's words, `yaml: line N: …`. Upstream's N is often one less than the true line; the place is right.
    pub message: String,
    /// The place.
    pub span: Span,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl YamlError {
    /// An error that go-yaml reports without a line.
    pub(crate) fn without_line(message: &str, span: Span) -> Self {
        Self { message: format!("yaml: {message}"), span, hint: None }
    }

    /// The parser's failure in go-yaml's words, with our place and remedy.
    pub(crate) fn of_failure(source: &Source, failure: &Failure) -> Self {
        let problem = match failure.problem.as_str() {
            "did not find expected hexadecimal number" => "did not find expected hexdecimal number",
            other => other,
        };
        let message = match go_line(source.dialect, failure) {
            0 => format!("yaml: {problem}"),
            line => format!("yaml: line {line}: {problem}"),
        };
        let mark = match failure.context.as_str() {
            "while scanning a quoted scalar" | "while scanning a simple key" => failure.context_mark,
            _ => failure.problem_mark,
        };
        let start = match failure.by_reader {
            true => source.offset_of_byte(mark.offset),
            false => source.floor(mark.offset),
        };
        let width = source.text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        let hint = hint(source, failure, start);
        Self { message, span: Span::new(start, start + width), hint }
    }
}

/// The line go-yaml names: of the context in v3, of the problem in v2, and too small by one where the parser
/// found the error and not the scanner. 0 for none.
fn go_line(dialect: Dialect, failure: &Failure) -> usize {
    let one = usize::from(failure.by_scanner);
    let (context, problem) = (failure.context_mark.line, failure.problem_mark.line);
    match dialect {
        Dialect::V3 if context != 0 => context + one,
        _ if problem != 0 => problem + one,
        Dialect::V2 => context,
        Dialect::V3 => 0,
    }
}

fn hint(source: &Source, failure: &Failure, offset: usize) -> Option<String> {
    let (line, _) = source.line_col(offset);
    let text = source.line(line);
    let indent: &str = &text[..text.len() - text.trim_start().len()];
    let at = &source.text[offset..];
    if indent.contains('\t') {
        return Some("indent with blanks: YAML allows no tabs there".to_owned());
    }
    let value = text.split_once(": ").map_or(text, |(_, value)| value).trim_start();
    let template = value.starts_with("{{");
    let began = failure.context_mark.line + 1;
    if failure.by_reader && failure.problem != "control characters are not allowed" {
        return Some("save the file as UTF-8".to_owned());
    }
    Some(match failure.problem.as_str() {
        "control characters are not allowed" => {
            "remove the character, or write it as an escape between double quotes".to_owned()
        }
        "found character that cannot start any token" => match at.chars().next() {
            Some('\t') => "write blanks in place of the tab".to_owned(),
            Some(c) => format!("no value may begin with `{c}`: put it in quotes"),
            None => return None,
        },
        _ if template => "put the template in quotes: without them `{{` begins a YAML mapping".to_owned(),
        "mapping values are not allowed in this context" if value.contains(": ") || value.ends_with(':') => {
            "put the value in quotes, as it contains `: `; or indent this key as its neighbours are"
                .to_owned()
        }
        "mapping values are not allowed in this context" => {
            "indent this key as its neighbours are, and put a text that contains `: ` in quotes".to_owned()
        }
        "did not find expected key" if failure.context == "while parsing a block mapping" => {
            format!("indent this line as the keys of its mapping, which begins on line {began}")
        }
        "did not find expected '-' indicator" => {
            format!("indent this line as the `-` of its list, which begins on line {began}")
        }
        "could not find expected ':'" => {
            "write `key: value`; a text of several lines must be indented more than its key".to_owned()
        }
        "found unexpected end of stream" | "found unexpected document indicator"
            if failure.context == "while scanning a quoted scalar" =>
        {
            "the quote that opens here is never closed".to_owned()
        }
        "did not find expected ',' or '}'" | "did not find expected ',' or ']'" if at.starts_with('?') => {
            "put the text in quotes, as it contains `?` within brackets".to_owned()
        }
        "did not find expected ',' or '}'" => {
            format!("close the `{{` of line {began}, or put the text in quotes")
        }
        "did not find expected ',' or ']'" => {
            format!("close the `[` of line {began}, or put the text in quotes")
        }
        UNKNOWN_ESCAPE => {
            "double the backslash, or use single quotes, in which it needs no escape".to_owned()
        }
        BEFORE_BRACKET => "write a blank behind the `:`, or put the text in quotes".to_owned(),
        "found incompatible YAML document" => "write `%YAML 1.1`, or nothing".to_owned(),
        "found undefined tag handle" => "put a value that begins with `!` in quotes".to_owned(),
        _ => return None,
    })
}
