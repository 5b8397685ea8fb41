//! Rules in Kubernetes objects: PrometheusRule, alone or in lists.

use tsdbctl_yaml::{Node, Value};

/// What a document is.
#[derive(Debug)]
pub enum Found<'n> {
    /// No Kubernetes object: a plain rule file.
    Plain,
    /// The `spec` of every PrometheusRule in it.
    Rules(Vec<&'n Node>),
    /// An object without rules: where its kind is named.
    Other(&'n Node),
}

/// Lists in lists are followed so far.
const DEPTH: usize = 8;

/// Looks for PrometheusRule objects in a document. Something is an object if it says its kind and has no groups.
pub fn rule_lists(node: &Node) -> Found<'_> {
    let Some(kind) = kind_of(node) else { return Found::Plain };
    let mut specs = Vec::new();
    let mut lists = 0;
    collect(node, DEPTH, &mut specs, &mut lists);
    if specs.is_empty() && lists == 0 { Found::Other(kind) } else { Found::Rules(specs) }
}

fn kind_of(node: &Node) -> Option<&Node> {
    if !matches!(node.value, Value::Mapping(_)) || node.get("groups").is_some() {
        return None;
    }
    let kind = node.get("kind")?;
    kind.scalar().filter(|_| node.get("apiVersion").is_some()).map(|_| kind)
}

fn collect<'n>(node: &'n Node, depth: usize, specs: &mut Vec<&'n Node>, lists: &mut usize) {
    let Some(kind) = kind_of(node).and_then(Node::scalar) else { return };
    match kind.text.as_str() {
        // An object whose spec is missing is looked at whole, so that what is missing is said at its place.
        "PrometheusRule" => specs.push(node.get("spec").unwrap_or(node)),
        "List" | "PrometheusRuleList" if depth > 0 => {
            *lists += 1;
            for item in node.get("items").map_or(&[][..], Node::elements) {
                collect(item, depth - 1, specs, lists);
            }
        }
        _ => {}
    }
}
