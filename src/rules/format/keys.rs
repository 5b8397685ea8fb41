//! Keys of groups and rules in the usual order, with the comments right above them.

use tsdbctl_yaml::{Node, Source};

/// Keys of a rule in the usual order.
pub(super) const RULE_KEYS: [&str; 7] =
    ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];

/// Keys of a group in the usual order.
pub(super) const GROUP_KEYS: [&str; 6] = ["name", "interval", "query_offset", "limit", "labels", "rules"];

/// The text with the keys of rules or groups in the usual order.
pub(super) fn sort_keys(source: &Source, trees: &[Node], keys: &[&str]) -> String {
    let mut lines: Vec<String> = source.text.split('\n').map(str::to_string).collect();
    let mut mappings = Vec::new();
    for tree in trees {
        mappings_with(source, tree, keys, &mut mappings);
    }
    for node in mappings {
        sort_mapping(source, node, keys, &mut lines);
    }
    lines.join("\n")
}

/// Mappings that have keys of rules, or of groups.
fn mappings_with<'n>(source: &Source, node: &'n Node, keys: &[&str], out: &mut Vec<&'n Node>) {
    if node.is_alias(source) || node.is_flow(source) {
        return;
    }
    for element in node.elements() {
        mappings_with(source, element, keys, out);
    }
    let entries = node.entries();
    for entry in entries {
        mappings_with(source, &entry.value, keys, out);
    }
    let needed = [keys[0], if keys.len() == RULE_KEYS.len() { "expr" } else { "rules" }];
    let has = |name: &str| node.get(name).is_some();
    let fits = has(needed[1]) && (has(needed[0]) || (keys.len() == RULE_KEYS.len() && has("alert")));
    if fits && entries.iter().all(|e| !e.merged) {
        out.push(node);
    }
}

fn sort_mapping(source: &Source, node: &Node, keys: &[&str], lines: &mut [String]) {
    let entries = node.entries();
    let starts: Vec<(usize, usize)> =
        entries.iter().map(|e| source.line_col(e.key.span.start as usize)).collect();
    let column = starts[0].1 - 1;
    // Keys stand on lines of their own, one below the other, and no merge is among them.
    if starts.windows(2).any(|w| w[0].0 >= w[1].0) || starts.iter().any(|s| s.1 != column + 1) {
        return;
    }
    let last = &entries[entries.len() - 1].value.span;
    let value_end = source.text[..last.end as usize].trim_end().len();
    let (mut end, _) = source.line_col(value_end.max(entries[entries.len() - 1].key.span.end as usize));
    end += 1;
    // Comments right above a key go with it.
    let is_comment = |line: usize| {
        let text = source.line(line);
        let content = text.trim_start();
        content.starts_with('#') && text.len() - content.len() == column
    };
    let mut begins: Vec<usize> = starts.iter().map(|s| s.0).collect();
    for i in 1..begins.len() {
        while begins[i] - 1 > starts[i - 1].0 && is_comment(begins[i] - 1) {
            begins[i] -= 1;
        }
    }
    let rank = |i: usize| {
        let name = entries[i].key.scalar().map_or("", |s| s.text.as_str());
        keys.iter().position(|k| *k == name).unwrap_or(keys.len())
    };
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|i| rank(*i));
    if order.iter().enumerate().all(|(i, o)| i == *o) {
        return;
    }
    let chunk = |i: usize| begins[i]..begins.get(i + 1).copied().unwrap_or(end);
    let first_line = starts[0].0;
    // What stands before the first key on its line: the dash, or blanks.
    let Some(lead) = lines[first_line - 1].get(..column).map(str::to_string) else { return };
    let blank = " ".repeat(column);
    let mut out: Vec<String> = Vec::new();
    for i in &order {
        for (k, number) in chunk(*i).enumerate() {
            let line = &lines[number - 1];
            let line = if *i == 0 && k == 0 { format!("{blank}{}", &line[column..]) } else { line.clone() };
            out.push(line);
        }
    }
    // The dash goes to the first line that is a key; comments above it stand before the dash.
    if let Some(key) = out.iter_mut().find(|l| !l.trim_start().starts_with('#') && !l.trim().is_empty()) {
        *key = format!("{lead}{}", &key[column..]);
    }
    let dash_column = lead.len() - lead.trim_start().len();
    for line in out.iter_mut().take_while(|l| l.trim_start().starts_with('#')) {
        if lead.trim_start().starts_with('-') {
            *line = format!("{}{}", " ".repeat(dash_column), line.trim_start());
        }
    }
    for (slot, line) in lines[first_line - 1..].iter_mut().zip(out) {
        *slot = line;
    }
}
