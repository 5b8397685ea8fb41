//! From text to trees: the parser's events put together without recursion, aliases followed within a budget, merge
//! keys applied.

use std::collections::{HashMap, HashSet};

use tsdbctl_model::Span;

use crate::events::{Event, Events, Kind};
use crate::{Dialect, Entry, Node, Scalar, ScalarStyle, Source, Value, YamlError};

/// Deeper nesting is refused, also where aliases make it: no file of the ecosystem needs more than a dozen levels,
/// and whoever walks or drops a tree may then do so recursively. (go-yaml, whose stacks grow, goes to 10,000 each of
/// brackets and of indentations, and counts no aliases.)
const DEPTH_LIMIT: usize = 256;

/// Bytes of text that aliases may add to a tree.
const ALIAS_BYTES_LIMIT: usize = 64 << 20;

/// Longer texts are refused, as places are 32 bits wide.
const TEXT_LIMIT: usize = u32::MAX as usize - 8;

/// The documents of a text, in order; none where the text is empty or holds comments only. Aliases are followed
/// (within a budget) and merge keys applied.
///
/// # Errors
/// If the text is no YAML. Documents behind the first are not looked at if only the first is wanted: see
/// [`first_document`].
pub fn documents(source: &Source) -> Result<Vec<Node>, YamlError> {
    let mut reader = Reader::new(source)?;
    let mut documents = Vec::new();
    while let Some(node) = reader.document()? {
        documents.push(node);
    }
    Ok(documents)
}

/// The first document and whether something follows it that is not read: another document, or what is no YAML at
/// all (upstream drops both).
///
/// # Errors
/// If the first document is no YAML.
pub fn first_document(source: &Source) -> Result<(Option<Node>, bool), YamlError> {
    let mut reader = Reader::new(source)?;
    let document = reader.document()?;
    let more = document.is_some() && reader.begins_another();
    Ok((document, more))
}

struct Reader<'s> {
    source: &'s Source,
    events: Events<'s>,
    anchors: HashMap<String, Node>,
    /// The names behind all `*` of the text: what else is anchored need not be kept.
    aliases: Option<HashSet<&'s str>>,
    budget: Budget,
}

/// What aliases may cost: go-yaml's share of all nodes, and an amount of text.
#[derive(Default)]
struct Budget {
    nodes: usize,
    alias_nodes: usize,
    alias_bytes: usize,
    kept_nodes: usize,
}

/// A collection that is still being read.
struct Open {
    value: Value,
    /// The key that waits for its value.
    key: Option<Node>,
    anchor: Option<String>,
    span: Span,
    flow: bool,
}

impl<'s> Reader<'s> {
    fn new(source: &'s Source) -> Result<Self, YamlError> {
        if source.text.len().max(source.bytes().len()) > TEXT_LIMIT {
            return Err(YamlError::without_line("input is too long", Span::default()));
        }
        let mut reader = Self {
            source,
            events: Events::new(source.bytes()),
            anchors: HashMap::new(),
            aliases: None,
            budget: Budget::default(),
        };
        reader.event()?;
        Ok(reader)
    }

    fn event(&mut self) -> Result<Event, YamlError> {
        self.events.next().map_err(|failure| YamlError::of_failure(self.source, &failure))
    }

    fn begins_another(&mut self) -> bool {
        !matches!(self.events.next(), Ok(Event { kind: Kind::StreamEnd, .. }))
    }

    fn document(&mut self) -> Result<Option<Node>, YamlError> {
        if matches!(self.event()?.kind, Kind::StreamEnd) {
            return Ok(None);
        }
        self.anchors.clear();
        self.budget = Budget::default();
        let root = self.root()?;
        self.event()?;
        Ok(Some(root))
    }

    fn root(&mut self) -> Result<Node, YamlError> {
        let mut stack: Vec<Open> = Vec::new();
        loop {
            let Event { kind, span } = self.event()?;
            let (mut node, anchor) = match kind {
                Kind::Scalar { anchor, tag, text, style } => {
                    let span = self.scalar_span(span, style, &text);
                    (Node { value: Value::Scalar(Scalar { text, style, tag }), span }, anchor)
                }
                Kind::Alias(name) => (self.alias(&name, span, &stack)?, None),
                Kind::SequenceStart { anchor, flow } => {
                    self.open(
                        &mut stack,
                        Open { value: Value::Sequence(Vec::new()), key: None, anchor, span, flow },
                    )?;
                    continue;
                }
                Kind::MappingStart { anchor, flow } => {
                    self.open(
                        &mut stack,
                        Open { value: Value::Mapping(Vec::new()), key: None, anchor, span, flow },
                    )?;
                    continue;
                }
                Kind::SequenceEnd | Kind::MappingEnd => {
                    let Some(open) = stack.pop() else { continue };
                    self.close(open, span)?
                }
                Kind::StreamStart | Kind::DocumentStart => continue,
                // The grammar has a node between start and end; this only keeps the loop finite.
                Kind::DocumentEnd | Kind::StreamEnd => {
                    return Err(YamlError::without_line("unknown problem parsing YAML content", span));
                }
            };
            self.budget.nodes += 1;
            if let Some(name) = anchor {
                self.remember(name, &node)?;
            }
            let Some(parent) = stack.last_mut() else { return Ok(node) };
            match (&mut parent.value, parent.key.take()) {
                (Value::Mapping(entries), Some(key)) => {
                    // An absent value stands behind its key, not where the next token begins.
                    if node.span.start == node.span.end && node.span.start > key.span.end {
                        node.span = self.behind_colon(key.span, node.span);
                    }
                    entries.push(Entry { key, value: node, merged: false });
                }
                (Value::Mapping(_), None) => parent.key = Some(node),
                (Value::Sequence(nodes), _) => nodes.push(node),
                (Value::Scalar(_), _) => {}
            }
        }
    }

    fn open(&self, stack: &mut Vec<Open>, open: Open) -> Result<(), YamlError> {
        if stack.len() >= DEPTH_LIMIT {
            return Err(self.too_deep(open.span));
        }
        stack.push(open);
        Ok(())
    }

    fn too_deep(&self, span: Span) -> YamlError {
        let (line, _) = self.source.line_col(span.start as usize);
        YamlError {
            message: format!("yaml: line {line}: exceeded max depth of {DEPTH_LIMIT}"),
            span,
            hint: Some(
                "no file of this kind nests so deeply: is it the right one, are its brackets closed?"
                    .to_owned(),
            ),
        }
    }

    fn close(&self, open: Open, end: Span) -> Result<(Node, Option<String>), YamlError> {
        let Open { value, anchor, span, flow, .. } = open;
        let last = match &value {
            Value::Sequence(nodes) => nodes.last().map(|node| node.span),
            Value::Mapping(entries) => entries.last().map(|entry| entry.key.span.to(entry.value.span)),
            Value::Scalar(_) => None,
        };
        let span = match last {
            _ if flow => span.to(end),
            Some(last) => span.to(last),
            None => span,
        };
        let value = match value {
            Value::Mapping(entries) => Value::Mapping(merge(self.source.dialect, entries)?),
            value => value,
        };
        Ok((Node { value, span }, anchor))
    }

    /// The parser lets block scalars end behind all blank lines that follow; these belong to it only with `+`.
    fn scalar_span(&self, span: Span, style: ScalarStyle, text: &str) -> Span {
        if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return span;
        }
        let whole = &self.source.text[span.start as usize..span.end as usize];
        let header = whole.lines().next().unwrap_or_default();
        let keeps = header.split(" #").next().is_some_and(|indicators| indicators.contains('+'));
        if keeps {
            return span;
        }
        if text.is_empty() {
            return Span::new(span.start as usize, span.start as usize + header.trim_end().len());
        }
        let content = whole.trim_end_matches([' ', '\n', '\r', '\t']);
        // Blanks at the end of the last line are content; its line break is too.
        let rest = &whole[content.len()..];
        let line_end = rest.find('\n').map_or(rest.len(), |i| i + 1);
        Span::new(span.start as usize, span.start as usize + content.len() + line_end)
    }

    /// The place behind the colon of `key`, if one stands there.
    fn behind_colon(&self, key: Span, absent: Span) -> Span {
        let between = &self.source.text[key.end as usize..absent.start as usize];
        match between.find(':') {
            Some(at) if !between[..at].contains('\n') => {
                let at = key.end as usize + at + 1;
                Span::new(at, at)
            }
            _ => absent,
        }
    }

    fn alias(&mut self, name: &str, span: Span, stack: &[Open]) -> Result<Node, YamlError> {
        if stack.iter().any(|open| open.anchor.as_deref() == Some(name)) {
            return Err(YamlError::without_line(&format!("anchor '{name}' value contains itself"), span));
        }
        let Some(node) = self.anchors.get(name) else {
            return Err(YamlError {
                hint: Some(format!("define it with `&{name}` before this line, or put the text in quotes")),
                ..YamlError::without_line(&format!("unknown anchor '{name}' referenced"), span)
            });
        };
        if stack.len() + self.budget.spend(node, span)? > DEPTH_LIMIT {
            return Err(self.too_deep(span));
        }
        Ok(Node { value: node.value.clone(), span })
    }

    /// Keeps an anchored node for its aliases, if there can be any.
    fn remember(&mut self, name: String, node: &Node) -> Result<(), YamlError> {
        let text = &self.source.text;
        let aliases = self.aliases.get_or_insert_with(|| alias_names(text));
        if aliases.contains(name.as_str()) {
            self.budget.keep(node)?;
            self.anchors.insert(name, node.clone());
        }
        Ok(())
    }
}

/// Whatever may be the name of an alias.
fn alias_names(text: &str) -> HashSet<&str> {
    let names = text.match_indices('*').map(|(at, _)| {
        let rest = &text[at + 1..];
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
        &rest[..end]
    });
    names.collect()
}

/// What a tree is made of.
#[derive(Default)]
struct Size {
    nodes: usize,
    /// Bytes of text.
    bytes: usize,
    /// Collections within each other.
    depth: usize,
}

impl Size {
    fn of(node: &Node) -> Self {
        let mut size = Self::default();
        let mut waiting = vec![(node, 0)];
        while let Some((node, around)) = waiting.pop() {
            size.nodes += 1;
            if let Value::Scalar(scalar) = &node.value {
                size.bytes += scalar.text.len();
                continue;
            }
            let depth = around + 1;
            size.depth = size.depth.max(depth);
            waiting.extend(node.elements().iter().map(|node| (node, depth)));
            let both = node.entries().iter().flat_map(|entry| [&entry.key, &entry.value]);
            waiting.extend(both.map(|node| (node, depth)));
        }
        size
    }
}

impl Budget {
    /// An anchored node is copied, also within others that are.
    fn keep(&mut self, node: &Node) -> Result<(), YamlError> {
        let Size { nodes, bytes, .. } = Size::of(node);
        self.kept_nodes += nodes;
        self.alias_bytes += bytes;
        if self.kept_nodes > 1_000_000 || self.alias_bytes > ALIAS_BYTES_LIMIT {
            return Err(YamlError::without_line("document contains excessive aliasing", node.span));
        }
        Ok(())
    }

    /// An alias stands for the node; the depth of that.
    fn spend(&mut self, node: &Node, span: Span) -> Result<usize, YamlError> {
        let Size { nodes, bytes, depth } = Size::of(node);
        self.nodes += nodes;
        self.alias_nodes += nodes;
        self.alias_bytes += bytes;
        // go-yaml's rule: up to 400,000 nodes 99 in 100 may come from aliases, from 4,000,000 on 1 in 10.
        let share = match self.nodes {
            ..=400_000 => 0.99,
            4_000_000.. => 0.10,
            nodes => 0.99 - 0.89 * ((nodes - 400_000) as f64 / 3_600_000.0),
        };
        let too_many = self.alias_nodes > 100
            && self.nodes > 1000
            && self.alias_nodes as f64 / self.nodes as f64 > share;
        if too_many || self.alias_bytes > ALIAS_BYTES_LIMIT {
            return Err(YamlError::without_line("document contains excessive aliasing", span));
        }
        Ok(depth)
    }
}

/// Replaces `<<` by what it merges: keys that are written out win, then the earlier of a list. Two `<<` in one
/// mapping are left alone in v3, whose readers refuse them as repeated.
fn merge(dialect: Dialect, mut entries: Vec<Entry>) -> Result<Vec<Entry>, YamlError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What promtool 3.14 says of rule files (v3) and of configurations (v2), and where our caret stands.
    #[test]
    fn verdicts_are_go_yamls_and_places_are_right() {
        for (text, v3, v2, place) in [
            ("a: b: c\n", "yaml: mapping values are not allowed in this context", "", (1, 5)),
            (
                "a:\n- name: x\n\trules: []\n",
                "yaml: line 2: found a tab character that violates indentation",
                "yaml: line 3: found a tab character that violates indentation",
                (3, 1),
            ),
            (
                "a:\n  - b\n  c: d\n",
                "yaml: line 1: did not find expected '-' indicator",
                "yaml: line 2: did not find expected '-' indicator",
                (3, 3),
            ),
            (
                "b: 1\na: 'x\n",
                "yaml: line 2: found unexpected end of stream",
                "yaml: line 3: found unexpected end of stream",
                (2, 4),
            ),
            ("a: @x\n", "yaml: found character that cannot start any token", "", (1, 4)),
            ("%YAML 1.2\n---\na: 1\n", "yaml: found incompatible YAML document", "", (1, 1)),
            ("a: *x\n", "yaml: unknown anchor 'x' referenced", "", (1, 4)),
        ] {
            for (dialect, message) in [(Dialect::V3, v3), (Dialect::V2, if v2.is_empty() { v3 } else { v2 })]
            {
                let source = Source::new("t", text).with_dialect(dialect);
                let error = first_document(&source).expect_err(text);
                assert_eq!(error.message, message, "{text:?} {dialect:?}");
                assert_eq!(source.line_col(error.span.start as usize), place, "{text:?}");
                assert!(error.hint.is_some(), "{text:?}");
            }
        }
    }

    #[test]
    fn only_the_first_document_is_read() {
        for (text, there, more) in [
            ("", false, false),
            ("# c\n", false, false),
            ("a: 1\n", true, false),
            ("a: 1\n---\nb: [\n", true, true),
            ("a: 1\n...\n", true, false),
        ] {
            let (root, next) = first_document(&Source::new("t", text)).expect("the first is YAML");
            assert_eq!((root.is_some(), next), (there, more), "{text:?}");
        }
    }

    #[test]
    fn places_are_exact() {
        let text =
            "\u{feff}é: &x 'ü'\r\nl:\r\n  - *x\r\n  - {a: [1, 2] }\r\nb: |\r\n  t\r\n\r\n# c\r\nn:\r\n";
        let source = Source::new("t", text);
        let root = first_document(&source).expect("it is YAML").0.expect("it is not empty");
        let at = |node: &Node| &text[node.span.start as usize..node.span.end as usize];
        let get = |name: &str| root.get(name).expect("the key is there");
        assert_eq!(at(get("é")), "&x 'ü'");
        assert_eq!(get("l").elements().iter().map(at).collect::<Vec<_>>(), ["*x", "{a: [1, 2] }"]);
        assert_eq!(get("l").elements()[0].scalar().map(|scalar| scalar.text.as_str()), Some("ü"));
        assert_eq!(at(get("l")), "- *x\r\n  - {a: [1, 2] }");
        assert_eq!(at(get("b")), "|\r\n  t\r\n");
        assert_eq!((at(get("n")), get("n").span.end as usize), ("", text.len() - 2));
    }
}
