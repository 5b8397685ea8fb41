//! Templates of labels and annotations: labels that cannot be there, values in labels, queries that are none.

use tsdbctl_model::Span;
use tsdbctl_model::quote::go_unquote;
use tsdbctl_promql::engine::Features;
use tsdbctl_promql::parser::ast::ValueType;
use tsdbctl_promql::parser::parse;
use tsdbctl_yaml::Spanned;

use super::Rule;
use crate::file::RuleKind;
use crate::finding::{Finding, Severity};
use crate::labels::{LabelSet, Presence, analyze};

/// Looks at one rule.
pub(super) fn look(rule: &Rule<'_>, findings: &mut Vec<Finding>) {
    let spec = rule.rule;
    if spec.kind == RuleKind::Record {
        for (key, value) in spec.labels.iter().filter(|(_, value)| value.value.contains("{{")) {
            let message = format!("label {}: recording rules expand no templates", key.value);
            findings.push(
                rule.finding(Severity::Warning, "template-in-recording-rule", value.span, message)
                    .with_hint("set the label in the expression, for example with label_replace"),
            );
        }
        return;
    }
    for (key, _) in spec.labels.iter().filter(|(key, _)| key.value == "alertname") {
        let message = "the label alertname is replaced by the alert's name".to_string();
        findings.push(
            rule.finding(Severity::Warning, "overridden-label", key.span, message)
                .with_hint("take it away, or rename the alert"),
        );
    }
    let templates = || spec.labels.iter().chain(&spec.annotations);
    if !templates().any(|(_, value)| value.value.contains("{{")) {
        return;
    }
    let sets = if super::too_deep(&spec.expr.expr) { Vec::new() } else { analyze(&spec.expr.expr) };
    for (key, value) in &spec.labels {
        values(rule, key, value, findings);
    }
    for (_, value) in templates() {
        labels(rule, value, &sets, findings);
        queries(rule, value, findings);
    }
}

/// The actions of a template: what stands between `{{` and `}}`, with its place in the text. Comments are left out.
fn actions(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find("{{") {
        let start = at + open + 2;
        let mut quote = None;
        let mut escaped = false;
        let mut end = text.len();
        for (i, c) in text[start..].char_indices() {
            match quote {
                Some(_) if escaped => escaped = false,
                Some('"' | '\'') if c == '\\' => escaped = true,
                Some(q) if c == q => quote = None,
                Some(_) => {}
                None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
                None if text[start + i..].starts_with("}}") => {
                    end = start + i;
                    break;
                }
                None => {}
            }
        }
        let action = &text[start..end];
        if !action.trim_start_matches(['-', ' ']).starts_with("/*") {
            found.push((start, action));
        }
        at = (end + 2).min(text.len());
        if !text.is_char_boundary(at) {
            break;
        }
    }
    found
}

/// Calls `found` with the place behind every `word` in an action that stands outside of quotes.
fn each_word(action: &str, word: &str, found: &mut dyn FnMut(usize)) {
    let (mut quote, mut escaped) = (None, false);
    let mut before = ' ';
    for (i, c) in action.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None => {
                if matches!(c, '"' | '`' | '\'') {
                    quote = Some(c);
                } else if action[i..].starts_with(word)
                    && !(before.is_alphanumeric() || matches!(before, '_' | '$' | '.'))
                    && !action[i + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
                {
                    found(i + word.len());
                }
            }
        }
        before = c;
    }
}

fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// The places of labels of `$labels` that a template names.
fn used_labels(text: &str) -> Vec<(Span, String)> {
    let mut used = Vec::new();
    let actions = actions(text);
    // Where the variable is set anew, it says nothing about the expression.
    if actions.iter().any(|(_, action)| {
        let mut set = false;
        each_word(action, "$labels", &mut |end| {
            let rest = action[end..].trim_start();
            set |= rest.starts_with(":=") || (rest.starts_with('=') && !rest.starts_with("=="));
        });
        set
    }) {
        return used;
    }
    for (start, action) in actions {
        each_word(action, "$labels", &mut |end| {
            let rest = &action[end..];
            let (at, name) = match rest.strip_prefix('.') {
                Some(rest) => (end + 1, name_at(rest).to_string()),
                // `index $labels "name"`
                None if action[..end - "$labels".len()].trim_end().ends_with("index") => {
                    let at = end + rest.len() - rest.trim_start().len();
                    match quoted(&action[at..]) {
                        Some((_, name)) => (at, name),
                        None => return,
                    }
                }
                None => return,
            };
            if !name.is_empty() {
                used.push((Span::new(start + at, start + at + name.len()), name));
            }
        });
    }
    used
}

/// The literal that a text begins with: its length, its value.
fn quoted(text: &str) -> Option<(usize, String)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '`'))?;
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            let literal = &text[..=i];
            return go_unquote(literal).ok().map(|value| (literal.len(), value));
        }
    }
    None
}

fn labels(rule: &Rule<'_>, value: &Spanned<String>, sets: &[LabelSet], findings: &mut Vec<Finding>) {
    if sets.is_empty() {
        return;
    }
    for (part, name) in used_labels(&value.value) {
        let lacking: Vec<&LabelSet> =
            sets.iter().filter(|set| *set.presence(&name) == Presence::Impossible).collect();
        let Some(first) = lacking.first() else { continue };
        let at = crate::check::within(&rule.file.source, &value.value, value.span, part);
        let decided = first.decided_at(&name);
        let dropped = rule.expr_place(decided);
        if lacking.len() < sets.len() {
            let message = format!(
                "some series of the result have no label {name}: those of `{}`",
                rule.shown(first.span)
            );
            findings.push(
                rule.finding(Severity::Note, "possible-label", at, message)
                    .and_at(dropped, format!("no {name} here")),
            );
            continue;
        }
        let message = format!("$labels.{name} is always empty: the expression's result has no label {name}");
        findings.push(
            rule.finding(Severity::Warning, "impossible-label", at, message)
                .with_hint(remedy(rule, &name, sets))
                .and_at(dropped, format!("{name} is dropped here")),
        );
    }
}

/// What to do about a label that is not there.
fn remedy(rule: &Rule<'_>, name: &str, sets: &[LabelSet]) -> String {
    if name == "alertname" {
        return format!("write {} itself: $labels are those of the expression", rule.rule.name.value);
    }
    let own = rule.rule.labels.iter().any(|(key, _)| key.value == name);
    let group = rule.group.labels.iter().any(|(key, _)| key.value == name);
    if own || group {
        let whose = if own { "rule" } else { "group" };
        return format!("{name} is a label of the {whose}, which templates do not see; write its value");
    }
    let mut there: Vec<&str> = sets
        .iter()
        .flat_map(|set| set.named().filter(|(_, p)| **p != Presence::Impossible).map(|(name, _)| name))
        .filter(|name| *name != "__name__")
        .collect();
    there.sort_unstable();
    there.dedup();
    match there.len() {
        0 => format!("keep it in the expression, for example with by ({name})"),
        _ => format!("keep it in the expression: by ({name}, …); there are {}", there.join(", ")),
    }
}

/// Labels that change with the value.
fn values(rule: &Rule<'_>, key: &Spanned<String>, value: &Spanned<String>, findings: &mut Vec<Finding>) {
    for (start, action) in actions(&value.value) {
        for word in ["$value", ".Value"] {
            let mut place = None;
            each_word(action, word, &mut |end| place = place.or(Some(end)));
            let Some(end) = place else { continue };
            // A comparison gives the same label for many values.
            let decides = ["if ", "else if ", "with ", "eq ", "gt ", "ge ", "lt ", "le ", "ne "];
            if decides.iter().any(|word| action.trim_start_matches(['-', ' ']).starts_with(word)) {
                continue;
            }
            let part = Span::new(start + end - word.len(), start + end);
            let at = crate::check::within(&rule.file.source, &value.value, value.span, part);
            let message = format!(
                "label {} holds the value: whenever it changes, the alert is another one and `for` begins anew",
                key.value
            );
            findings.push(
                rule.finding(Severity::Warning, "value-in-label", at, message)
                    .with_hint("put the value into an annotation"),
            );
            return;
        }
    }
}

fn queries(rule: &Rule<'_>, value: &Spanned<String>, findings: &mut Vec<Finding>) {
    for (start, action) in actions(&value.value) {
        each_word(action, "query", &mut |end| {
            let rest = action[end..].trim_start();
            let at = action.len() - rest.len();
            let Some((length, text)) = quoted(rest) else { return };
            let features = Features::default();
            let (part, message, hint) = match parse(&text, &features) {
                Err(e) => {
                    // Escapes shift places; without any the caret stands in the query.
                    let plain = length == text.len() + 2;
                    let part = match plain {
                        true => Span::new(
                            start + at + 1 + e.span.start as usize,
                            start + at + 1 + e.span.end as usize,
                        ),
                        false => Span::new(start + at, start + at + length),
                    };
                    (part, format!("query in template: {}", e.api_message(&text)), e.hint)
                }
                Ok(expr) if matches!(expr.value_type(), ValueType::Matrix | ValueType::String) => {
                    let kind = expr.value_type().documented();
                    let hint = "a query must give an instant vector or a scalar".to_string();
                    let part = Span::new(start + at, start + at + length);
                    (part, format!("query in template gives a {kind}"), Some(hint))
                }
                Ok(_) => return,
            };
            let place = crate::check::within(&rule.file.source, &value.value, value.span, part);
            let mut finding = rule.finding(Severity::Warning, "template-query", place, message);
            finding.hint = Some(hint.unwrap_or_else(|| "the template fails whenever it is rendered".to_string()));
            findings.push(finding);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_templates_use() {
        let of = |text: &str| -> Vec<String> {
            used_labels(text)
                .into_iter()
                .map(|(span, name)| {
                    assert!(text[span.start as usize..].trim_start_matches('"').starts_with(&name), "{text}");
                    name
                })
                .collect()
        };
        assert_eq!(of("{{ $labels.job }} {{$labels.a_b|title}} $labels.no"), ["job", "a_b"]);
        assert_eq!(of("{{ index $labels \"a-b\" }} {{ if eq $labels.x \"$labels.y }}\" }}{{ end }}"), ["a-b", "x"]);
        assert_eq!(of("{{/* $labels.job */}}{{ $labels }}{{ range $labels }}{{ . }}{{ end }}"), [""; 0]);
        assert_eq!(of("{{ $labels := 1 }}{{ $labels.job }}"), [""; 0]);
        assert_eq!(of("{{ $labels.é }} {{"), ["é"]);
    }

    #[test]
    fn actions_end_where_go_ends_them() {
        let of = |text| actions(text).into_iter().map(|(_, a)| a).collect::<Vec<_>>();
        assert_eq!(of("a {{ b }} c {{- \"}}\" -}} d"), [" b ", "- \"}}\" -"]);
        assert_eq!(of("{{"), [""]);
        assert_eq!(of("{{ `}}"), [" `}}"]);
        assert_eq!(of("}} x"), [""; 0]);
    }
}
