//! Lines moved to their columns: what begins an entry goes where its level says, what continues a value moves with it,
//! comments go with what they stand before.

use std::collections::{HashMap, HashSet};

use tsdbctl_yaml::{Node, Source, Value};

use super::{STEP, is_block};

/// How a line that is no beginning of an entry moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// Text of a block scalar, whose lines begin at the column `base`.
    Block { base: usize, explicit: bool },
    /// Inside of brackets.
    Flow,
    /// A further line of a scalar in quotes or without.
    Scalar,
}

/// Lines that continue a value, and places of keys.
struct Lines {
    follows: HashMap<usize, Follows>,
    /// Lines whose end belongs to a value that goes on.
    open: HashSet<usize>,
    keys: HashSet<usize>,
}

impl Lines {
    fn node(&mut self, source: &Source, node: &Node) {
        if node.is_alias(source) {
            return;
        }
        let span = node.content_span(source);
        let (start, mut end) = (span.start as usize, span.end as usize);
        let (first, _) = source.line_col(start);
        match &node.value {
            Value::Scalar(_) => {
                let text = &source.text[start..end];
                let follows = if is_block(node) {
                    let header = text.lines().next().unwrap_or("");
                    let mark = header.split('#').next().unwrap_or("");
                    if !mark.contains('+') {
                        end = start + text.trim_end().len();
                    }
                    let content = text.lines().skip(1).find(|l| !l.trim().is_empty()).unwrap_or("");
                    let base = content.len() - content.trim_start_matches(' ').len();
                    Follows::Block { base, explicit: mark.contains(|c: char| c.is_ascii_digit()) }
                } else {
                    Follows::Scalar
                };
                self.mark(source, first, end, follows);
            }
            Value::Sequence(nodes) => {
                if node.is_flow(source) {
                    self.mark(source, first, end, Follows::Flow);
                } else {
                    nodes.iter().for_each(|n| self.node(source, n));
                }
            }
            Value::Mapping(entries) => {
                if node.is_flow(source) {
                    self.mark(source, first, end, Follows::Flow);
                    return;
                }
                for entry in entries {
                    if !entry.merged {
                        self.keys.insert(entry.key.span.start as usize);
                    }
                    self.node(source, &entry.key);
                    self.node(source, &entry.value);
                }
            }
        }
    }

    fn mark(&mut self, source: &Source, first: usize, end: usize, follows: Follows) {
        let (last, column) = source.line_col(end);
        // A value that ends with a line break ends on the line before.
        let last = if column == 1 && last > first { last - 1 } else { last };
        for line in first + 1..=last {
            self.follows.entry(line).or_insert(follows);
            if !matches!(follows, Follows::Block { .. }) {
                self.open.insert(line - 1);
            }
        }
    }
}

/// One open collection: the column it had, the column it gets.
#[derive(Clone, Copy, Debug)]
struct Level {
    old: usize,
    new: usize,
    list: bool,
}

/// Levels of the collections that are open.
#[derive(Default)]
struct Levels(Vec<Level>);

impl Levels {
    /// The level of an entry that begins at column `old`.
    fn enter(&mut self, old: usize, dash: bool) -> Level {
        while self.0.last().is_some_and(|top| top.old > old || (top.old == old && top.list && !dash)) {
            self.0.pop();
        }
        match self.0.last() {
            Some(top) if top.old == old && top.list == dash => *top,
            top => {
                let new = top.map_or(0, |top| top.new + STEP);
                let level = Level { old, new, list: dash };
                self.0.push(level);
                level
            }
        }
    }

    /// Where a comment at column `old` goes.
    fn of_comment(&self, old: usize) -> usize {
        // Of a list that stands below its key's column-mates, the key's.
        let nearest = self.0.iter().map(|level| level.old).filter(|column| *column <= old).max();
        self.0.iter().find(|level| Some(level.old) == nearest).map_or(0, |level| level.new)
    }
}

/// The text with normal indentation, without trailing blanks, with at most one blank line in a row.
pub(super) fn indent(source: &Source, trees: &[Node]) -> String {
    let mut lines = Lines { follows: HashMap::new(), open: HashSet::new(), keys: HashSet::new() };
    for tree in trees {
        lines.node(source, tree);
    }
    let mut out: Vec<String> = Vec::new();
    let mut levels = Levels::default();
    // The collection that the last entry belongs to.
    let mut owner = Level { old: 0, new: 0, list: false };
    // Comments and blank lines that wait for what they stand before.
    let mut waiting: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for (i, whole) in source.text.split('\n').enumerate() {
        let start = at;
        at += whole.len() + 1;
        let line = whole.trim_end_matches('\r');
        let content = line.trim_start_matches(' ');
        let old = line.len() - content.len();
        if let Some(follows) = lines.follows.get(&(i + 1)) {
            flush(&mut out, &mut waiting, &levels, None);
            out.push(continued(line, *follows, owner, lines.open.contains(&(i + 1))));
            continue;
        }
        if content.trim().is_empty() || content.starts_with('#') {
            waiting.push((old, content.trim_end()));
            continue;
        }
        let marker = |m: &str| {
            old == 0 && content.strip_prefix(m).is_some_and(|r| r.is_empty() || r.starts_with([' ', '\t']))
        };
        if marker("---") || marker("...") || (old == 0 && content.starts_with('%')) {
            flush(&mut out, &mut waiting, &levels, None);
            levels = Levels::default();
            out.push(content.trim_end().to_string());
            continue;
        }
        let mut rest = content;
        let mut column = old;
        let mut text = String::new();
        let before = std::mem::take(&mut levels.0);
        levels.0.clone_from(&before);
        loop {
            let dash = rest == "-" || rest.starts_with("- ");
            let is_key = lines.keys.contains(&(start + column)) || rest.starts_with("<<:");
            if !dash && !is_key && !text.is_empty() {
                break;
            }
            let level = levels.enter(column, dash);
            if text.is_empty() {
                flush(&mut out, &mut waiting, &Levels(before.clone()), Some(level));
                text = " ".repeat(level.new);
            }
            owner = level;
            if !dash {
                break;
            }
            text.push('-');
            let tail = rest[1..].trim_start_matches(' ');
            column += rest.len() - tail.len();
            rest = tail;
            if rest.is_empty() {
                break;
            }
            text.push(' ');
        }
        text.push_str(rest);
        let keep_end = lines.open.contains(&(i + 1));
        out.push(if keep_end { text } else { text.trim_end().to_string() });
    }
    while waiting.last().is_some_and(|(_, text)| text.is_empty()) {
        waiting.pop();
    }
    flush(&mut out, &mut waiting, &levels, None);
    let first = out.iter().position(|l| !l.is_empty()).unwrap_or(out.len());
    let mut text = out[first..].join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Writes the comments and blank lines that stand before an entry (or the end).
fn flush(out: &mut Vec<String>, waiting: &mut Vec<(usize, &str)>, levels: &Levels, next: Option<Level>) {
    let mut blank = false;
    for (old, text) in waiting.drain(..) {
        if text.is_empty() {
            if !blank {
                out.push(String::new());
            }
            blank = true;
            continue;
        }
        blank = false;
        let column = match next {
            Some(level) if level.old == old => level.new,
            _ => levels.of_comment(old),
        };
        out.push(format!("{}{text}", " ".repeat(column)));
    }
}

/// A line that continues a value of an entry of `owner`.
fn continued(line: &str, follows: Follows, owner: Level, keep_end: bool) -> String {
    let content = line.trim_start_matches(' ');
    let old = line.len() - content.len();
    let moved = |column: usize| (column + owner.new).saturating_sub(owner.old);
    match follows {
        Follows::Block { base, explicit } => {
            let new = if explicit { moved(base) } else { owner.new + STEP };
            if content.is_empty() && old <= base {
                return String::new();
            }
            let deeper = old.saturating_sub(base);
            format!("{}{content}", " ".repeat(new + deeper))
        }
        _ if content.trim().is_empty() => String::new(),
        Follows::Flow => format!("{}{}", " ".repeat(moved(old).max(owner.new)), content.trim_end()),
        Follows::Scalar => {
            let content = content.trim_start_matches(['\t', ' ']);
            let content = if keep_end { content } else { content.trim_end() };
            format!("{}{content}", " ".repeat(owner.new + STEP))
        }
    }
}
