//! The HTTP API's answers about series, labels and exemplars (`web/api/v1` upstream): how they are found, and
//! their bodies.

use std::collections::{BTreeSet, HashSet};

use tsdbctl_model::float_text::{write_json_float, write_json_timestamp};
use tsdbctl_model::quote::go_quote;
use tsdbctl_model::{Labels, Matcher, SymbolTable};
use tsdbctl_promql::api_json::{error_body, write_string};
use tsdbctl_promql::engine::{Features, QueryError};
use tsdbctl_promql::parser::edit::for_each_selector;
use tsdbctl_promql::parser::{ParseError, parse, parse_label_matchers};
use tsdbctl_storage::querier::SeriesExemplars;
use tsdbctl_storage::{Control, Queryable, SelectHints, StorageError};

use crate::diagnostic::{show_parse_error, show_query_error};
use crate::exit::ExitStatus;
use crate::inspect::Output;
use crate::ui::Ui;

/// What the API says where a limit cut the answer.
pub const TRUNCATED: &str = "results truncated due to limit";

/// A request that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No selector where one is needed.
    #[error("no match[] parameter provided")]
    NoMatch,
    /// A selector is none; `named` if the API names the parameter in its message.
    #[error("{}", parse_message(.text, .error, *.named))]
    Selector {
        /// The selector.
        text: String,
        /// What is wrong with it.
        error: ParseError,
        /// The parameter, where the API's text names it.
        named: Option<&'static str>,
    },
    /// A name that cannot be a label's.
    #[error("invalid label name: {}", go_quote(.0))]
    LabelName(String),
    /// The range ends before it begins.
    #[error("end timestamp must not be before start timestamp")]
    Backwards,
    /// Reading failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn parse_message(text: &str, error: &ParseError, named: Option<&str>) -> String {
    // Of a selector that selects everything the API gives no place.
    let message = if error.message.starts_with("match[] must") {
        error.message.clone()
    } else {
        error.api_message(text)
    };
    match named {
        Some(name) => format!("invalid parameter {}: {message}", go_quote(name)),
        None => message,
    }
}

impl AnswerError {
    /// The API's body.
    pub fn body(&self) -> Vec<u8> {
        match self {
            Self::Storage(e) => {
                let kind = match e {
                    StorageError::Control(e) => QueryError::from(e.clone()).kind.as_str(),
                    _ => "execution",
                };
                error_body(kind, &e.to_string())
            }
            e => error_body("bad_data", &e.to_string()),
        }
    }

    /// Shows it: as the API's body on stdout, or to people on stderr.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn show(&self, ui: &mut Ui, output: Output) -> anyhow::Result<ExitStatus> {
        if output == Output::Json {
            ui.out().write_all(&self.body())?;
            writeln!(ui.out())?;
            return Ok(ExitStatus::Failure);
        }
        match self {
            Self::Selector { text, error, .. } => show_parse_error(ui, text, error),
            Self::NoMatch => ui.error("no selector is given; --match '{__name__=~\".+\"}' lists everything"),
            Self::Storage(StorageError::Control(e)) => show_query_error(ui, "", &e.clone().into()),
            e => ui.error(e.to_string()),
        }
        Ok(ExitStatus::Failure)
    }
}

/// An answer, and whether a limit cut it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Whether there was more.
    pub truncated: bool,
}

impl<T> Answer<T> {
    fn limited(mut items: Vec<T>, limit: usize) -> Self {
        let truncated = limit > 0 && items.len() > limit;
        if truncated {
            items.truncate(limit);
        }
        Self { items, truncated }
    }

    /// The API's body; `write` writes one item.
    pub fn body(&self, mut write: impl FnMut(&mut Vec<u8>, &T)) -> Vec<u8> {
        let mut out = b"{\"status\":\"success\",\"data\":[".to_vec();
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write(&mut out, item);
        }
        out.push(b']');
        if self.truncated {
            out.extend_from_slice(b",\"warnings\":[");
            write_string(&mut out, TRUNCATED, true);
            out.push(b']');
        }
        out.push(b'}');
        out
    }
}

/// Parses selectors; each needs a condition that refuses the empty value.
///
/// # Errors
/// The first one that is wrong; `named` as in [`AnswerError::Selector`].
pub fn selectors(texts: &[String], named: Option<&'static str>) -> Result<Vec<Vec<Matcher>>, AnswerError> {
    let parse = |text: &String| {
        parse_label_matchers(text).map_err(|error| AnswerError::Selector { text: text.clone(), error, named })
    };
    texts.iter().map(parse).collect()
}

/// What is asked of the stored data.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Where.
    pub data: &'a dyn Queryable,
    /// Selectors.
    pub matches: &'a [String],
    /// Sample times, Unix ms, both ends inclusive.
    pub times: (i64, i64),
    /// Most items, 0 for all.
    pub limit: usize,
    /// Limits.
    pub control: &'a Control,
}

/// `/api/v1/series`.
///
/// # Errors
/// If a selector is wrong or reading fails.
pub fn series(asked: Asked<'_>) -> Result<Answer<Labels>, AnswerError> {
    if asked.matches.is_empty() {
        return Err(AnswerError::NoMatch);
    }
    let sets = selectors(asked.matches, Some("match[]"))?;
    let (start, end) = asked.times;
    let querier = asked.data.querier(start, end, &sets, asked.control)?;
    let hints = SelectHints { start, end, series_only: true, ..SelectHints::default() };
    let mut symbols = SymbolTable::new();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for matchers in &sets {
        let set = querier.select(&hints, matchers, &mut symbols, asked.control)?;
        for i in 0..set.len() {
            let labels = set.labels(i);
            if sets.len() == 1 || seen.insert(labels.to_vec()) {
                found.push(symbols.labels(labels));
            }
            // Several selections are sorted before they are cut.
            if asked.limit > 0 && sets.len() == 1 && found.len() > asked.limit {
                break;
            }
        }
    }
    if sets.len() > 1 {
        found.sort();
    }
    Ok(Answer::limited(found, asked.limit))
}

/// `/api/v1/labels`.
///
/// # Errors
/// If a selector is wrong or reading fails.
pub fn label_names(asked: Asked<'_>) -> Result<Answer<String>, AnswerError> {
    strings(asked, |querier, matchers| querier.label_names(matchers, asked.control))
}

/// `/api/v1/label/NAME/values`; `name` may be escaped (`U__…`).
///
/// # Errors
/// If the name or a selector is wrong or reading fails.
pub fn label_values(asked: Asked<'_>, name: &str) -> Result<Answer<String>, AnswerError> {
    let name = unescape_name(name);
    if name.is_empty() {
        return Err(AnswerError::LabelName(name));
    }
    strings(asked, |querier, matchers| querier.label_values(&name, matchers, asked.control))
}

fn strings(
    asked: Asked<'_>,
    ask: impl Fn(&dyn tsdbctl_storage::Querier, &[Matcher]) -> Result<Vec<String>, StorageError>,
) -> Result<Answer<String>, AnswerError> {
    let sets = selectors(asked.matches, None)?;
    let querier = asked.data.querier(asked.times.0, asked.times.1, &sets, asked.control)?;
    let found = match sets.as_slice() {
        [] => ask(querier.as_ref(), &[])?,
        [one] => ask(querier.as_ref(), one)?,
        several => {
            let mut all = BTreeSet::new();
            for matchers in several {
                all.extend(ask(querier.as_ref(), matchers)?);
            }
            all.into_iter().collect()
        }
    };
    Ok(Answer::limited(found, asked.limit))
}

/// `/api/v1/query_exemplars`: exemplars of the series that an expression selects, or one of the selectors.
///
/// # Errors
/// If the expression or a selector is wrong or reading fails.
pub fn exemplars(
    asked: Asked<'_>,
    query: Option<&str>,
    features: &Features,
) -> Result<Answer<SeriesExemplars>, AnswerError> {
    if asked.times.1 < asked.times.0 {
        return Err(AnswerError::Backwards);
    }
    let mut sets = selectors(asked.matches, Some("match[]"))?;
    if let Some(text) = query {
        let mut expr = parse(text, features).map_err(|error| AnswerError::Selector {
            text: text.to_string(),
            error,
            named: None,
        })?;
        let _ = for_each_selector(&mut expr, &mut |selector| -> Result<(), ()> {
            sets.push(selector.matchers.clone());
            Ok(())
        });
    }
    if sets.is_empty() {
        return Ok(Answer { items: Vec::new(), truncated: false });
    }
    let querier = asked.data.querier(asked.times.0, asked.times.1, &sets, asked.control)?;
    let found = querier.exemplars(asked.times.0, asked.times.1, &sets, asked.control)?;
    Ok(Answer::limited(found, asked.limit))
}

/// Writes a label set as the API does.
pub fn write_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, &label.name, false);
        out.push(b':');
        write_string(out, &label.value, false);
    }
    out.push(b'}');
}

/// Writes the exemplars of a series as the API does.
pub fn write_exemplars(out: &mut Vec<u8>, found: &SeriesExemplars) {
    out.extend_from_slice(b"{\"seriesLabels\":");
    write_labels(out, &found.series);
    out.extend_from_slice(b",\"exemplars\":[");
    for (i, exemplar) in found.exemplars.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"labels\":");
        write_labels(out, &exemplar.labels);
        out.extend_from_slice(b",\"value\":\"");
        write_json_float(out, exemplar.value);
        out.extend_from_slice(b"\",\"timestamp\":");
        write_json_timestamp(out, exemplar.timestamp_ms);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// A label name from the escaped form that fits into a URL: `U__`, then `__` for `_` and `_HEX_` for any other
/// character. What is not escaped, or wrongly, is taken as it is.
pub fn unescape_name(name: &str) -> String {
    fn unescaped(mut rest: &str) -> Option<String> {
        let mut out = String::with_capacity(rest.len());
        while let Some(at) = rest.find('_') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('_') {
                out.push('_');
                rest = after;
                continue;
            }
            let end = rest.find('_')?;
            let code =
                rest.get(..end).filter(|c| c.len() <= 6 && c.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(u32::from_str_radix(code, 16).ok().and_then(char::from_u32)?);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Some(out)
    }
    name.strip_prefix("U__").and_then(unescaped).unwrap_or_else(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unescaped_as_upstream_does() {
        for (escaped, want) in [
            ("U__raum_20_nr", "raum nr"),
            ("U__a__b", "a_b"),
            ("U___2603__e9_", "☃é"),
            ("plain_name", "plain_name"),
            ("U__", ""),
            ("U__a_", "U__a_"),
            ("U__a_20", "U__a_20"),
            ("U__a_xyz_", "U__a_xyz_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_1234567_", "U__a_1234567_"),
            ("U__é_20_", "é "),
        ] {
            assert_eq!(unescape_name(escaped), want, "{escaped}");
        }
    }

    #[test]
    fn bodies_are_the_apis() {
        let body = |e: AnswerError| String::from_utf8(e.body()).unwrap();
        assert_eq!(
            body(AnswerError::NoMatch),
            r#"{"status":"error","errorType":"bad_data","error":"no match[] parameter provided"}"#
        );
        let wrong = selectors(&["{".to_string()], Some("match[]")).unwrap_err();
        assert_eq!(
            body(wrong),
            r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"match[]\": 1:2: parse error: unexpected end of input inside braces"}"#
        );
        let all = selectors(&["{a=~\".*\"}".to_string()], None).unwrap_err();
        assert_eq!(
            body(all),
            r#"{"status":"error","errorType":"bad_data","error":"match[] must contain at least one non-empty matcher"}"#
        );
        let cut = Answer::limited(vec!["<a>".to_string(), "b".to_string()], 1);
        let text = String::from_utf8(cut.body(|out, s| write_string(out, s, true))).unwrap();
        assert_eq!(
            text,
            r#"{"status":"success","data":["\u003ca\u003e"],"warnings":["results truncated due to limit"]}"#
        );
    }
}
