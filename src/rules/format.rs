//! Rule files in one form: indentation, blank lines, expressions, on demand the order of keys. Comments, the order of
//! everything else and every value stay; what was written is read again and compared before it is given away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_promql::engine::{Features, on_big_stack};
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_promql::parser::{parse, prettify};
use tsdbctl_yaml::{Edits, Node, ScalarStyle, Source, Value, documents, quoted};

use crate::file::{ReadOptions, RuleFile, read};
use crate::finding::{Finding, Severity};

/// Blanks of one level.
const STEP: usize = 2;

/// Longest expression that stays on one line.
const LINE: usize = 100;

/// How files are written.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// How they are read.
    pub read: ReadOptions,
    /// Keys of groups and rules are put into the usual order.
    pub sort_keys: bool,
}

/// Keys of a rule in the usual order.
const RULE_KEYS: [&str; 7] = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];

/// Keys of a group in the usual order.
const GROUP_KEYS: [&str; 6] = ["name", "interval", "query_offset", "limit", "labels", "rules"];

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
    let indented = indent(&edited, &trees(&edited)?);
    let mut text = indented;
    if options.sort_keys {
        for keys in [&RULE_KEYS[..], &GROUP_KEYS[..]] {
            let source = Source::new(source.name.clone(), text);
            text = sort_keys(&source, &trees(&source)?, keys);
        }
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

/// The text with all expressions laid out.
fn expressions(file: &RuleFile, trees: &[Node], features: &Features) -> String {
    let mut edits = Edits::default();
    let mut places = HashMap::new();
    for tree in trees {
        expression_places(&file.source, tree, false, &mut places);
    }
    for rule in file.groups.iter().flat_map(|g| &g.rules) {
        let Some((column, node)) = places.remove(&(rule.expr_span.start, rule.expr_span.end)) else {
            continue;
        };
        let Some(style) = node.scalar().map(|s| s.style) else { continue };
        if rule.expr.text.contains('#') {
            continue;
        }
        let text = layout(&rule.expr.expr, 0);
        let unchanged = parse(&text, features).is_ok_and(|e| e.to_string() == *rule.expr.printed);
        if !unchanged {
            continue;
        }
        let span = node.content_span(&file.source);
        let (start, end) = (span.start as usize, span.end as usize);
        let old = &file.source.text[start..end];
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let header = old.lines().next().unwrap_or("");
        // Indentation and chomping that are written out stay.
        if block && header.contains(|c: char| c.is_ascii_digit()) {
            continue;
        }
        if block || text.contains('\n') {
            let chomping = if block { header.trim_start_matches(['|', '>']).trim_end() } else { "" };
            let mut new = format!("|{chomping}");
            // A comment behind the value goes to the header: below it would be text.
            let rest = file.source.text[end..].split('\n').next().unwrap_or("").trim_end();
            let comment = if !block && rest.trim_start().starts_with('#') { rest.len() } else { 0 };
            new.push_str(&file.source.text[end..end + comment]);
            for line in text.lines() {
                new.push('\n');
                new.push_str(&" ".repeat(column + STEP));
                new.push_str(line);
            }
            // What follows the text's last line stays: blank lines, comments.
            let last = start + old.trim_end().len();
            edits.replace(Span::new(start, last.max(start) + comment), new);
        } else {
            let new = quoted(&text, style);
            if new != old {
                edits.replace(span, new);
            }
        }
    }
    edits.apply(&file.source).unwrap_or_else(|_| file.source.text.clone())
}

/// Values of `expr` outside of brackets by their places, with the columns of their keys.
fn expression_places<'n>(
    source: &Source,
    node: &'n Node,
    in_flow: bool,
    out: &mut HashMap<(u32, u32), (usize, &'n Node)>,
) {
    if node.is_alias(source) {
        return;
    }
    let in_flow = in_flow || node.is_flow(source);
    match &node.value {
        Value::Scalar(_) => {}
        Value::Sequence(nodes) => nodes.iter().for_each(|n| expression_places(source, n, in_flow, out)),
        Value::Mapping(entries) => {
            for entry in entries.iter().filter(|e| !e.merged) {
                expression_places(source, &entry.value, in_flow, out);
                let is_expr = entry.key.scalar().is_some_and(|k| k.text == "expr");
                if is_expr && !in_flow && !entry.value.is_alias(source) {
                    let (_, column) = source.line_col(entry.key.span.start as usize);
                    let span = entry.value.span;
                    out.insert((span.start, span.end), (column - 1, &entry.value));
                }
            }
        }
    }
}

/// An expression over as many lines as it needs: a chain of operators with one operand per line, the operator in
/// front; what is still too long as upstream lays it out.
fn layout(expr: &Expr, depth: usize) -> String {
    let printed = expr.to_string();
    if printed.len() <= LINE || depth > 20 {
        return printed;
    }
    let Expr::Binary(_) = expr else { return prettify(expr) };
    let mut operators = Vec::new();
    let mut leftmost = expr;
    while let Expr::Binary(e) = leftmost {
        operators.push(&**e);
        leftmost = &e.lhs;
    }
    let mut out = layout(leftmost, depth + 1);
    while let Some(e) = operators.pop() {
        // The operator with its modifiers is what stands between its operands.
        let shallow = Expr::Binary(Box::new(tsdbctl_promql::parser::ast::BinaryExpr {
            op: e.op,
            lhs: operand(),
            rhs: operand(),
            matching: e.matching.clone(),
            return_bool: e.return_bool,
        }))
        .to_string();
        let operator = shallow.strip_prefix(ONE).and_then(|s| s.strip_suffix(ONE)).unwrap_or(" ").trim();
        let rhs = layout(&e.rhs, depth + 1);
        out.push('\n');
        out.push_str(operator);
        if rhs.contains('\n') {
            // An operand that is a chain itself is indented, so that its operators are not taken for these.
            let chain = matches!(e.rhs, Expr::Binary(_));
            for line in rhs.lines() {
                out.push('\n');
                out.push_str(if chain { "  " } else { "" });
                out.push_str(line);
            }
        } else {
            out.push(' ');
            out.push_str(&rhs);
        }
    }
    out
}

/// The name that stands for an operand.
const ONE: &str = "operand";

fn operand() -> Expr {
    Expr::Vector(Box::new(tsdbctl_promql::parser::ast::VectorSelector {
        name: ONE.to_string(),
        matchers: vec![tsdbctl_model::Matcher::equal("__name__", ONE)],
        time: tsdbctl_promql::parser::ast::TimeModifiers::default(),
        anchored: false,
        smoothed: false,
        bypass_empty_matcher_check: false,
        span: Span::default(),
    }))
}

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
fn indent(source: &Source, trees: &[Node]) -> String {
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
            let content = content.trim_start_matches('\t');
            let content = if keep_end { content } else { content.trim_end() };
            format!("{}{content}", " ".repeat(owner.new + STEP))
        }
    }
}

/// The text with the keys of rules or groups in the usual order.
fn sort_keys(source: &Source, trees: &[Node], keys: &[&str]) -> String {
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
