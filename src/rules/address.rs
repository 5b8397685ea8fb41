//! Rules in a part of any YAML file: `path.to.key` says where.

use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_yaml::{Node, ScalarStyle, Source, Value, first_document};

use crate::check::Checker;
use crate::file::{self, ReadOptions, RuleFile};
use crate::finding::{Finding, Severity};

/// Reads the rules that stand at `path` in the first document. What stands there is a mapping with `groups`, a list of
/// groups, a PrometheusRule, or a text that holds a rule file (as in a ConfigMap).
///
/// Names are separated by dots; a name may hold dots itself (`data.rules.yml`). Elements of lists are counted from 0:
/// `items.0.spec` or `items[0].spec`.
///
/// # Errors
/// If nothing is there, or it is no rule file.
pub fn read_at(source: Arc<Source>, path: &str, options: &ReadOptions) -> Result<RuleFile, Vec<Finding>> {
    let (root, _) = match first_document(&source) {
        Ok(found) => found,
        // The same error again, as a finding.
        Err(_) => return file::read(source, options),
    };
    let nothing = |span, message: String, hint: String| {
        vec![Finding::new(Severity::Error, "no-rules", &source, span, message).with_hint(hint)]
    };
    let Some(root) = root else {
        let message = format!("there is no {path}: the file is empty");
        return Err(nothing(Span::new(0, 0), message, "is it the right file?".to_string()));
    };
    let node = find(&root, path).map_err(|missing| {
        let hint = match missing.names.len() {
            0 => "it holds neither names nor elements".to_string(),
            _ => format!("there are {}", missing.names.join(", ")),
        };
        let start = missing.at.span.start as usize;
        nothing(Span::new(start, start), format!("there is no {} here", missing.rest), hint)
    })?;
    match &node.value {
        Value::Sequence(_) => {
            let mut checker = Checker::new(Arc::clone(&source), options);
            checker.group_list(node);
            Ok(RuleFile { groups: checker.finish()?, source, unread: None })
        }
        Value::Scalar(_) => read_text(&source, node, path, options),
        Value::Mapping(_) => file::read_nodes(Arc::clone(&source), &[node], options),
    }
}

/// A path that leads nowhere.
struct Missing<'n> {
    /// Where it ends.
    at: &'n Node,
    /// The rest of the path.
    rest: String,
    /// What there is instead.
    names: Vec<String>,
}

fn find<'n>(root: &'n Node, path: &str) -> Result<&'n Node, Missing<'n>> {
    let mut node = root;
    let mut rest = path.trim_matches('.');
    while !rest.is_empty() {
        let next = match &node.value {
            // The longest name that fits, for names may hold dots.
            Value::Mapping(entries) => entries
                .iter()
                .filter_map(|entry| {
                    let name = entry.key.scalar()?.text.as_str();
                    let tail = rest.strip_prefix(name).filter(|_| !name.is_empty())?;
                    (tail.is_empty() || tail.starts_with(['.', '['])).then_some((name.len(), &entry.value))
                })
                .max_by_key(|(length, _)| *length),
            Value::Sequence(nodes) => {
                let bare = rest.trim_start_matches('[');
                let digits = bare.len() - bare.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let length = rest.len() - bare.len() + digits;
                let length = length + usize::from(rest[length..].starts_with(']'));
                bare[..digits].parse().ok().and_then(|i: usize| nodes.get(i)).map(|node| (length, node))
            }
            Value::Scalar(_) => None,
        };
        let Some((length, found)) = next else {
            let names = match &node.value {
                Value::Mapping(entries) => {
                    entries.iter().filter_map(|e| e.key.scalar()).take(20).map(|s| s.text.clone()).collect()
                }
                Value::Sequence(nodes) if !nodes.is_empty() => vec![format!("0 to {}", nodes.len() - 1)],
                _ => Vec::new(),
            };
            return Err(Missing { at: node, rest: rest.to_string(), names });
        };
        node = found;
        rest = rest[length..].trim_start_matches('.');
    }
    Ok(node)
}

/// A rule file that is the text of a scalar.
fn read_text(
    source: &Arc<Source>,
    node: &Node,
    path: &str,
    options: &ReadOptions,
) -> Result<RuleFile, Vec<Finding>> {
    let Some(scalar) = node.scalar() else { return file::read(Arc::clone(source), options) };
    if scalar.style == ScalarStyle::Literal && !node.is_alias(source) {
        // The lines of a literal block are YAML where they stand: all else is blanked, so that places stay true.
        let span = node.content_span(source);
        let (start, end) = (span.start as usize, span.end as usize);
        let first = source.text[start..end].find('\n').map_or(end, |n| start + n);
        let blank = |text: &str| -> String {
            text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b as char } else { ' ' }).collect()
        };
        let mut text = blank(&source.text[..first]);
        text.push_str(&source.text[first..end]);
        text.push_str(&blank(&source.text[end..]));
        let inner = Arc::new(Source::new(source.name.clone(), text));
        let to_file = |mut finding: Finding| {
            finding.source = Arc::clone(source);
            finding
        };
        return match file::read(inner, options) {
            Ok(read) => Ok(RuleFile { source: Arc::clone(source), ..read }),
            Err(findings) => Err(findings.into_iter().map(to_file).collect()),
        };
    }
    let name = format!("{}:{path}", source.name);
    file::read(Arc::new(Source::new(name, scalar.text.clone())), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, path: &str) -> Result<Vec<String>, String> {
        let source = Arc::new(Source::new("f.yml", text));
        match read_at(source, path, &ReadOptions::default()) {
            Ok(file) => Ok(file
                .groups
                .iter()
                .map(|g| format!("{}={}", file.source.place(g.name.span), g.name.value))
                .collect()),
            Err(findings) => Err(format!(
                "{}: {} ({})",
                findings[0].place(),
                findings[0].message,
                findings[0].hint.as_deref().unwrap_or("")
            )),
        }
    }

    #[test]
    fn rules_are_found_where_the_path_says() {
        let config_map = "kind: ConfigMap\ndata:\n  rules.yml: |\n    groups:\n      - name: é\n        rules:\n          - record: a\n            expr: up +\n  x: y\n";
        assert_eq!(
            read(config_map, "data.rules.yml"),
            Err("f.yml:8:23: could not parse expression: 1:5: parse error: unexpected end of input (the \
                 right side of + is missing)"
                .to_string())
        );
        let good = config_map.replace("up +", "up");
        assert_eq!(read(&good, "data.rules.yml"), Ok(vec!["f.yml:5:15=é".to_string()]));
        let values = "a:\n  b:\n  - groups: [{name: g}]\n  c:\n  - name: h\n";
        assert_eq!(read(values, "a.b.0"), Ok(vec!["f.yml:3:21=g".to_string()]));
        assert_eq!(read(values, "a.b[0]"), read(values, "a.b.0"));
        assert_eq!(read(values, "a.c"), Ok(vec!["f.yml:5:11=h".to_string()]));
        assert_eq!(read(values, "a.d"), Err("f.yml:2:3: there is no d here (there are b, c)".to_string()));
        assert_eq!(
            read(values, "a.b.7"),
            Err("f.yml:3:3: there is no 7 here (there are 0 to 0)".to_string())
        );
        assert_eq!(read("x: \"groups: [{name: g}]\"\n", "x"), Ok(vec!["f.yml:x:1:17=g".to_string()]));
    }
}
