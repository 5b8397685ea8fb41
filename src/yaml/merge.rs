//! Merge keys: a mapping takes entries over from others.

use std::collections::HashSet;

use crate::{Dialect, Entry, Node, Scalar, Value, YamlError};

/// Replaces `<<` by what it merges: keys that are written out win, then the earlier of a list. Two `<<` in one
/// mapping are left alone in v3, whose readers refuse them as repeated.
pub(crate) fn merge(dialect: Dialect, mut entries: Vec<Entry>) -> Result<Vec<Entry>, YamlError> {
    let is_merge = |entry: &Entry| entry.key.scalar().is_some_and(Scalar::is_merge);
    let count = entries.iter().filter(|entry| is_merge(entry)).count();
    if count == 0 || (count > 1 && dialect == Dialect::V3) {
        return Ok(entries);
    }
    let mut sources: Vec<Node> = Vec::new();
    let mut written = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        if !is_merge(&entry) {
            written.push(entry);
            continue;
        }
        let span = entry.value.span;
        match entry.value.value {
            Value::Mapping(_) => sources.push(entry.value),
            Value::Sequence(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Mapping(_))) => {
                sources.extend(nodes);
            }
            _ => {
                return Err(YamlError {
                    hint: Some(
                        "`<<` takes an alias of a mapping, `<<: *name`, or a list of these".to_owned(),
                    ),
                    ..YamlError::without_line("map merge requires map or sequence of maps as the value", span)
                });
            }
        }
    }
    let mut known: HashSet<String> =
        written.iter().filter_map(|entry| entry.key.scalar()).map(|key| key.text.clone()).collect();
    for node in sources {
        let Value::Mapping(merged) = node.value else { continue };
        for entry in merged {
            if entry.key.scalar().is_none_or(|key| known.insert(key.text.clone())) {
                written.push(Entry { merged: true, ..entry });
            }
        }
    }
    Ok(written)
}
