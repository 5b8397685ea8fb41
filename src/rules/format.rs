//! Rule files in one form: indentation, blank lines, expressions, on demand the order of keys. Comments, the order of
//! everything else and every value stay; what was written is read again and compared before it is given away.

use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_promql::engine::{Features, on_big_stack};
use tsdbctl_promql::parser::parse;
use tsdbctl_yaml::{Node, ScalarStyle, Source, Value, documents};

use crate::file::{ReadOptions, read};
use crate::finding::{Finding, Severity};

mod expressions;
mod indentation;
mod keys;

use expressions::expressions;
use indentation::indent;
use keys::{GROUP_KEYS, RULE_KEYS, sort_keys};

/// Blanks of one level.
const STEP: usize = 2;

/// How files are written.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// How they are read.
    pub read: ReadOptions,
    /// Keys of groups and rules are put into the usual order.
    pub sort_keys: bool,
}

/// The file in its form.
///
/// # Errors
/// If it is no good rule file, or its meaning would not stay.
pub fn format(source: &Arc<Source>, options: &FormatOptions) -> Result<String, Vec<Finding>> {
    on_big_stack(|| format_here(source, options))
}

fn format_here(source: &Arc<Source>, options: &FormatOptions) -> Result<String, Vec<Finding>> {
    let read_options = ReadOptions { all_documents: true, ..options.read.clone() };
    let file = read(Arc::clone(source), &read_options)?;
    let features = &options.read.features;
    let before = trees(source)?;
    let edited = Source::new(source.name.clone(), expressions(&file, &before, features));
    // A text that did not change has the trees it had.
    let mut text =
        if edited.text == source.text { indent(&edited, &before) } else { indent(&edited, &trees(&edited)?) };
    if options.sort_keys {
        for keys in [&RULE_KEYS[..], &GROUP_KEYS[..]] {
            let source = Source::new(source.name.clone(), text);
            text = sort_keys(&source, &trees(&source)?, keys);
        }
    }
    if text == source.text {
        return Ok(text);
    }
    let written = Source::new(source.name.clone(), text);
    let after = trees(&written)?;
    let same = before.len() == after.len()
        && before.iter().zip(&after).all(|(a, b)| same(a, b, options.sort_keys, features))
        && comments(source, &before) == comments(&written, &after);
    if !same {
        let message = "this file cannot be formatted without changing what it says";
        return Err(vec![
            Finding::new(Severity::Error, "not-formatted", source, Span::new(0, 0), message)
                .with_hint("it stays as it is; please report the file"),
        ]);
    }
    Ok(written.text)
}

fn trees(source: &Source) -> Result<Vec<Node>, Vec<Finding>> {
    documents(source).map_err(|e| {
        let source = Arc::new(source.clone());
        vec![Finding::new(Severity::Error, "not-formatted", &source, e.span, e.message)]
    })
}

/// Whether two trees say the same; expressions may be laid out differently.
fn same(a: &Node, b: &Node, sorted: bool, features: &Features) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
        (Value::Sequence(a), Value::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, sorted, features))
        }
        (Value::Mapping(a), Value::Mapping(b)) => {
            let key = |node: &Node| node.scalar().map_or(String::new(), |s| s.text.clone());
            let (mut a, mut b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
            if sorted {
                a.sort_by_key(|e| key(&e.key));
                b.sort_by_key(|e| key(&e.key));
            }
            a.len() == b.len()
                && a.iter().zip(&b).all(|(a, b)| {
                    same(&a.key, &b.key, sorted, features)
                        && (same(&a.value, &b.value, sorted, features)
                            || (key(&a.key) == "expr" && same_expression(&a.value, &b.value, features)))
                })
        }
        _ => false,
    }
}

fn same_expression(a: &Node, b: &Node, features: &Features) -> bool {
    let printed = |node: &Node| parse(&node.scalar()?.text, features).ok().map(|e| e.to_string());
    match (printed(a), printed(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// The comments of a text that stand on lines of their own or behind values, sorted.
fn comments(source: &Source, trees: &[Node]) -> Vec<String> {
    let text = &source.text;
    let mut scalars = Vec::new();
    for tree in trees {
        scalar_spans(tree, source, &mut scalars);
    }
    scalars.sort_unstable();
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        for (i, _) in line.match_indices('#') {
            let here = at + i;
            let begins = i == 0 || line.as_bytes()[i - 1].is_ascii_whitespace();
            let before = scalars.partition_point(|(start, _)| *start <= here);
            let inside = before > 0 && scalars[..before].iter().rev().take(4).any(|(_, end)| here < *end);
            if begins && !inside {
                found.push(line[i..].trim_end().to_string());
                break;
            }
        }
        at += line.len();
    }
    found.sort_unstable();
    found
}

fn scalar_spans(node: &Node, source: &Source, out: &mut Vec<(usize, usize)>) {
    match &node.value {
        Value::Scalar(_) => {
            let (start, end) = (node.span.start as usize, node.span.end as usize);
            // Of a block scalar the header's line may have a comment; the text ends with its last line.
            let start = match is_block(node) {
                true => source.text[start..end].find('\n').map_or(end, |n| start + n),
                false => start,
            };
            out.push((start, end));
        }
        Value::Sequence(nodes) => nodes.iter().for_each(|n| scalar_spans(n, source, out)),
        Value::Mapping(entries) => {
            for entry in entries {
                scalar_spans(&entry.key, source, out);
                scalar_spans(&entry.value, source, out);
            }
        }
    }
}

fn is_block(node: &Node) -> bool {
    node.scalar().is_some_and(|s| matches!(s.style, ScalarStyle::Literal | ScalarStyle::Folded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str, sort_keys: bool) -> Result<String, String> {
        let options = FormatOptions { sort_keys, ..FormatOptions::default() };
        let source = |text: &str| Arc::new(Source::new("f", text));
        let once =
            format(&source(text), &options).map_err(|f| format!("{}: {}", f[0].place(), f[0].message))?;
        let twice = format(&source(&once), &options).map_err(|f| f[0].message.clone())?;
        assert_eq!(once, twice, "a second time changes nothing");
        Ok(once)
    }

    #[test]
    fn files_get_normal_indentation_and_keep_their_comments() {
        let text = "\
# head

groups:
# of the group
- name: a   # the name
  rules:


  # of the rule
  -   record: r
      # of the expression
      expr:    'sum( up )'
      labels: {a: b,
        c: d}
  - alert: A
    expr: |
        up   ==
          0

    annotations:
            summary: \"two
              lines\"
            text: |
                    one
                      two

                    three
# tail
";
        let expected = "\
# head

groups:
  # of the group
  - name: a   # the name
    rules:

      # of the rule
      - record: r
        # of the expression
        expr:    'sum(up)'
        labels: {a: b,
          c: d}
      - alert: A
        expr: |
          up == 0

        annotations:
          summary: \"two
            lines\"
          text: |
            one
              two

            three
# tail
";
        assert_eq!(formatted(text, false).unwrap(), expected);
    }

    #[test]
    fn long_expressions_become_blocks() {
        let text = format!(
            "groups:\n- name: a\n  rules:\n  - record: r\n    expr: sum by (job) (rate({0}_total{{code=~\"5..\"}}[5m])) / on (job) group_left () sum by (job) (rate({0}_total[5m])) > 0.05 # c\n",
            "http_requests_and_so_on"
        );
        let got = formatted(&text, false).unwrap();
        assert_eq!(
            got,
            "groups:\n  - name: a\n    rules:\n      - record: r\n        expr: | # c\n          \
             sum by (job) (rate(http_requests_and_so_on_total{code=~\"5..\"}[5m]))\n          \
             / on (job) group_left () sum by (job) (rate(http_requests_and_so_on_total[5m]))\n          > 0.05\n"
        );
    }

    #[test]
    fn expressions_with_comments_are_left_alone() {
        let text = "groups:\n  - name: a\n    rules:\n      - record: r\n        expr: |\n          sum( # all\n            up)\n";
        assert_eq!(formatted(text, false).unwrap(), text);
    }

    #[test]
    fn odd_texts_stay() {
        for (from, to) in [
            ("groups:\n- name: 'a\n\n\t    b'\n", "groups:\n  - name: 'a\n\n      b'\n"),
            (
                "groups:\n- name: a\n  rules:\n  - record: r\n    expr: !!binary dXA=\n",
                "groups:\n  - name: a\n    rules:\n      - record: r\n        expr: !!binary dXA=\n",
            ),
        ] {
            assert_eq!(formatted(from, false).unwrap(), to);
        }
    }

    #[test]
    fn keys_are_sorted_with_their_comments() {
        let text = "\
groups:
  - rules:
      - labels:
          a: b
        # why
        expr: up
        # which
        alert: A
        for: 5m
    # its name
    name: g
";
        let expected = "\
groups:
  # its name
  - name: g
    rules:
      # which
      - alert: A
        # why
        expr: up
        for: 5m
        labels:
          a: b
";
        assert_eq!(formatted(text, true).unwrap(), expected);
        assert_eq!(formatted(text, false).unwrap(), text);
    }

    #[test]
    fn what_is_no_rule_file_stays_as_it_is() {
        assert_eq!(formatted("groups: [", false).unwrap_err().split(':').next(), Some("f"));
        assert_eq!(formatted("", false).unwrap(), "");
        assert_eq!(formatted("# nothing\n", false).unwrap(), "# nothing\n");
    }
}
