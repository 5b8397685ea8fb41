//! Rule files: groups and rules with the place of every value, as 3.14 reads them.

use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_promql::engine::Features;
use tsdbctl_template::RuleTemplate;
use tsdbctl_yaml::{Node, Source, Spanned, documents, read::first_document};

use crate::check::Checker;
use crate::finding::{Finding, Severity};
use crate::kubernetes;
use crate::query::RuleExpr;

/// A rule file that was read and found good.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// Its text and name.
    pub source: Arc<Source>,
    /// Its groups in the order of the file.
    pub groups: Vec<GroupSpec>,
    /// Where the second document begins, if there is one that was not read.
    pub unread: Option<Span>,
}

/// A group as a file gives it.
#[derive(Clone, Debug, Default)]
pub struct GroupSpec {
    /// Unique within the file.
    pub name: Spanned<String>,
    /// Distance of evaluations, ms; absent or 0: the global interval.
    pub interval_ms: Option<i64>,
    /// How far behind the slot the rules look, ms; absent: the global offset.
    pub query_offset_ms: Option<i64>,
    /// Most series or alerts per rule; 0 or less for none.
    pub limit: i64,
    /// Labels of all rules.
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// Its rules in order.
    pub rules: Vec<RuleSpec>,
    /// The group's place.
    pub span: Span,
}

/// Whether a rule records or alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// `record`
    Record,
    /// `alert`
    Alert,
}

/// A rule as a file gives it.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// What it is.
    pub kind: RuleKind,
    /// Name of the recorded metric, or of the alert.
    pub name: Spanned<String>,
    /// Place of the value of `expr`.
    pub expr_span: Span,
    /// Its expression.
    pub expr: RuleExpr,
    /// `for`, ms.
    pub for_ms: i64,
    /// Place of its value, where it is written.
    pub for_span: Option<Span>,
    /// `keep_firing_for`, ms.
    pub keep_firing_for_ms: i64,
    /// Place of its value, where it is written.
    pub keep_firing_for_span: Option<Span>,
    /// The rule's own labels, raw; the group's are merged in by [`GroupSpec::merged_labels`].
    pub labels: Vec<(Spanned<String>, Spanned<String>)>,
    /// Annotations, raw.
    pub annotations: Vec<(Spanned<String>, Spanned<String>)>,
    /// The rule's place.
    pub span: Span,
}

impl GroupSpec {
    /// The labels of a rule with the group's labels below them, sorted by name.
    pub fn merged_labels(&self, rule: &RuleSpec) -> Vec<(String, String)> {
        let pairs = |list: &[(Spanned<String>, Spanned<String>)]| -> Vec<(String, String)> {
            list.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect()
        };
        let all = pairs(&self.labels).into_iter().chain(pairs(&rule.labels));
        all.collect::<std::collections::BTreeMap<_, _>>().into_iter().collect()
    }
}

/// A label or annotation with its parsed template.
#[derive(Clone, Debug)]
pub struct NamedTemplate {
    /// Name of the label or annotation.
    pub name: String,
    /// Its template.
    pub template: RuleTemplate,
}

/// How rule files are read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Fields that rule files do not have are passed over.
    pub ignore_unknown_fields: bool,
    /// Every document of a file is read, not the first alone.
    pub all_documents: bool,
    /// What PromQL may use.
    pub features: Features,
}

/// A rule file and the documents that it was read from.
pub type WithTree = (RuleFile, Vec<Node>);

/// Reads a rule file: the groups of a plain file, or those of the PrometheusRule objects that it holds.
///
/// # Errors
/// All that is wrong with it. As upstream does, rules are looked at only if the whole file has the right shape.
pub fn read(source: Arc<Source>, options: &ReadOptions) -> Result<RuleFile, Vec<Finding>> {
    read_with_tree(source, options).map(|(file, _)| file)
}

/// As [`read`], with the documents that the rules were read from: taking these apart costs a twentieth of a check,
/// which a process that ends soon need not pay.
///
/// # Errors
/// As [`read`].
pub fn read_with_tree(source: Arc<Source>, options: &ReadOptions) -> Result<WithTree, Vec<Finding>> {
    let syntax = |e: &tsdbctl_yaml::YamlError| {
        let finding = Finding::refused("yaml-syntax", &source, e.span, plain(&e.message), &e.message);
        let hint = e.hint.clone().unwrap_or_else(|| syntax_hint(&e.message).to_string());
        vec![finding.with_hint(hint)]
    };
    let (nodes, more) = if options.all_documents {
        (documents(&source).map_err(|e| syntax(&e))?, false)
    } else {
        let (node, more) = first_document(&source).map_err(|e| syntax(&e))?;
        (node.into_iter().collect(), more)
    };
    let unread = if more { nodes.first().and_then(|node| second_document(&source, node)) } else { None };
    let mut file = read_nodes(source, &nodes.iter().collect::<Vec<_>>(), options)?;
    file.unread = unread;
    Ok((file, nodes))
}

/// As [`read`], of documents or parts of them that were found already.
///
/// # Errors
/// As [`read`].
pub fn read_nodes(
    source: Arc<Source>,
    nodes: &[&Node],
    options: &ReadOptions,
) -> Result<RuleFile, Vec<Finding>> {
    let mut checker = Checker::new(Arc::clone(&source), options);
    let (mut objects, mut foreign) = (0, None);
    // Documents of one plain file share the names of their groups; every object has its own.
    for node in nodes {
        match kubernetes::rule_lists(node) {
            kubernetes::Found::Plain => {
                objects += 1;
                checker.rule_groups(node);
            }
            kubernetes::Found::Rules(specs) => {
                objects += specs.len();
                for spec in specs {
                    checker.object(spec);
                }
            }
            kubernetes::Found::Other(kind) => foreign = foreign.or(Some(kind)),
        }
    }
    if let (0, Some(kind)) = (objects, foreign) {
        let name = kind.scalar().map_or("", |s| s.text.as_str());
        let message = format!("an object of kind {name} holds no rules");
        return Err(vec![Finding::new(Severity::Error, "no-rules", &source, kind.span, message).with_hint(
            "rules are read from plain rule files and from objects of kind PrometheusRule; \
                 FILE:path.to.key reads them from a part of any other YAML file",
        )]);
    }
    let groups = checker.finish()?;
    Ok(RuleFile { source, groups, unread: None })
}

/// Where the document behind `first` begins: at its `---`, or at what follows a `...`. `None` if nothing but comments
/// stands there.
fn second_document(source: &Source, first: &Node) -> Option<Span> {
    let from = source.text.as_bytes()[..first.span.end as usize]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |n| n + 1);
    let mut at = from;
    // Whether the first document has ended, and where the mark of the next one stands.
    let (mut ended, mut begins) = (false, None);
    for line in source.text.get(from..)?.split_inclusive('\n') {
        let mark = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        match mark.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            Some(rest) => {
                ended = true;
                if line.starts_with("---") {
                    begins = begins.or(Some(Span::new(at, at + 3)));
                }
                if !is_blank(rest) {
                    return begins.or(Some(Span::new(at, at + line.trim_end().len())));
                }
            }
            None if ended && !is_blank(line) => {
                return begins.or(Some(Span::new(at, at + line.trim_end().len())));
            }
            None => {}
        }
        at += line.len();
    }
    None
}

/// Nothing, or a comment.
fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// What to do about a text that is no YAML, where the parser has no remedy.
fn syntax_hint(message: &str) -> &'static str {
    if message.contains("did not find expected node content") || message.contains("did not find expected ','")
    {
        "close the bracket or brace, and put texts that begin with [ or { in quotes"
    } else if message.contains("did not find expected key") || message.contains("did not find expected '-'") {
        "indent this line as its neighbours are; the mistake may be on the line before"
    } else if message.contains("control characters") {
        "take away the character at this place, which is not seen; perhaps it was pasted"
    } else {
        "this line or the one before is no YAML: look at its indentation, quotes and colons"
    }
}

/// Upstream's words without its prefix, which says nothing to who reads a rule file.
fn plain(message: &str) -> &str {
    let message = message.strip_prefix("yaml: ").unwrap_or(message);
    match message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => message,
    }
}
