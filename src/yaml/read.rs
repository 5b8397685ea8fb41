//! From text to trees: the parser's events put together without recursion, aliases followed within a budget, merge
//! keys applied.
//!
//! Where libyaml and go-yaml part, this follows go-yaml:
//! - plain scalars may end with a colon before a bracket or a comma, as in `[a:]`;
//! - `\'` is an escape between double quotes, `\/` is none;
//! - a `?` ends a plain scalar within brackets;
//! - v3 looks at two tokens more than it parses, so that an error in them comes first, even if the next document has
//!   it.
//!
//! What differs and stays so:
//! - nesting ends at 256, not at 10,000;
//! - a byte order mark may stand only at the start, for go-yaml at the start of any line;
//! - wrong bytes behind the first document are met by v2 if they are within 512 bytes, here within 16 KiB;
//! - an alias within what it stands for, and a merge of what is no mapping, are refused wherever they are; go-yaml
//!   does so only where it wants the value, which is nowhere below fields that it does not know.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tsdbctl_model::Span;

use crate::budget::Budget;
use crate::error::UNKNOWN_ESCAPE;
use crate::events::{Event, Events, Failure, Kind, Mark};
use crate::merge::merge;
use crate::repair::Repairs;
use crate::{Dialect, Entry, Node, Scalar, ScalarStyle, Source, Value, YamlError};

/// Deeper nesting is refused, also where aliases make it: no file of the ecosystem needs more than a dozen levels,
/// and whoever walks or drops a tree may then do so recursively. (go-yaml, whose stacks grow, goes to 10,000 each of
/// brackets and of indentations, and counts no aliases.)
const DEPTH_LIMIT: usize = 256;

/// Longer texts are refused, as places are 32 bits wide.
const TEXT_LIMIT: usize = u32::MAX as usize - 8;

/// The documents of a text, in order; none where the text is empty or holds comments only. Aliases are followed
/// (within a budget) and merge keys applied.
///
/// # Errors
/// If the text is no YAML. Documents behind the first are not looked at if only the first is wanted: see
/// [`first_document`].
pub fn documents(source: &Source) -> Result<Vec<Node>, YamlError> {
    read(source, |reader| {
        let mut documents = Vec::new();
        while let Some(node) = reader.document()? {
            documents.push(node);
        }
        Ok(documents)
    })
}

/// The first document and whether something follows it that is not read: another document, or what is no YAML at
/// all (upstream drops both).
///
/// # Errors
/// If the first document is no YAML.
pub fn first_document(source: &Source) -> Result<(Option<Node>, bool), YamlError> {
    read(source, |reader| {
        let document = reader.document()?;
        let more = document.is_some() && reader.more()?;
        Ok((document, more))
    })
}

/// Runs over the text, and again from its start wherever the parser stops at what go-yaml takes.
fn read<T>(source: &Source, run: impl Fn(&mut Reader<'_>) -> Result<T, YamlError>) -> Result<T, YamlError> {
    if source.text.len().max(source.bytes().len()) > TEXT_LIMIT {
        return Err(YamlError::without_line("input is too long", Span::default()));
    }
    let mut text = Cow::Borrowed(source.bytes());
    let mut repairs = Repairs::of(&text);
    loop {
        let result = Reader::new(source, &text, &repairs).and_then(|mut reader| run(&mut reader));
        match result {
            Err(error) if repairs.apply(&mut text, &error) => {}
            result => return result,
        }
    }
}

struct Reader<'s> {
    source: &'s Source,
    /// The source's, but for the repairs.
    text: &'s [u8],
    repairs: &'s Repairs,
    /// Where the document ended.
    end: usize,
    events: Events<'s>,
    anchors: HashMap<String, Node>,
    /// The names behind all `*` of the text: what else is anchored need not be kept.
    aliases: Option<HashSet<&'s str>>,
    budget: Budget,
}

/// A collection that is still being read.
struct Open {
    is_sequence: bool,
    /// Where its elements begin among those of all that is open.
    from: usize,
    /// The key that waits for its value.
    key: Option<Node>,
    anchor: Option<String>,
    span: Span,
    flow: bool,
}

/// The elements of all collections that are open, the innermost last: a collection is as large as it has to be when
/// it is closed.
#[derive(Default)]
struct Elements {
    nodes: Vec<Node>,
    entries: Vec<Entry>,
}

/// Why a document is not read to its end.
enum Stop {
    /// go-yaml's parser stops there too.
    Syntax(YamlError),
    /// go-yaml finds out when it decodes.
    Meaning(YamlError),
}

impl From<YamlError> for Stop {
    fn from(error: YamlError) -> Self {
        Self::Syntax(error)
    }
}

impl<'s> Reader<'s> {
    fn new(source: &'s Source, text: &'s [u8], repairs: &'s Repairs) -> Result<Self, YamlError> {
        let mut reader = Self {
            source,
            text,
            repairs,
            end: 0,
            events: Events::new(text),
            anchors: HashMap::new(),
            aliases: None,
            budget: Budget::default(),
        };
        reader.event()?;
        Ok(reader)
    }

    fn event(&mut self) -> Result<Event, YamlError> {
        let result = self.events.next();
        result.map_err(|failure| {
            let before = match failure.by_scanner || failure.by_reader {
                true => None,
                false => self.ahead(failure.problem_mark.offset),
            };
            self.failed(before.as_ref().unwrap_or(&failure))
        })
    }

    fn failed(&self, failure: &Failure) -> YamlError {
        YamlError::of_failure(self.source, failure)
    }

    /// What v3 meets before it is done with the token at `from`.
    fn ahead(&self, from: usize) -> Option<Failure> {
        let looks_ahead = self.source.dialect == Dialect::V3;
        looks_ahead.then(|| Events::failure_ahead(self.text, from)).flatten()
    }

    /// Something follows the document. It is not read, but for what v3 cannot help seeing.
    fn more(&mut self) -> Result<bool, YamlError> {
        if matches!(self.events.next(), Ok(Event { kind: Kind::StreamEnd, .. })) {
            return Ok(false);
        }
        self.ahead(self.end).map_or(Ok(true), |failure| Err(self.failed(&failure)))
    }

    fn document(&mut self) -> Result<Option<Node>, YamlError> {
        if matches!(self.event()?.kind, Kind::StreamEnd) {
            return Ok(None);
        }
        self.anchors.clear();
        self.budget = Budget::default();
        let root = match self.root() {
            Err(Stop::Meaning(error)) => {
                // go-yaml sees it when all of the document has been parsed.
                self.end = loop {
                    let Event { kind, span } = self.event()?;
                    if matches!(kind, Kind::DocumentEnd | Kind::StreamEnd) {
                        break span.start as usize;
                    }
                };
                self.more()?;
                return Err(error);
            }
            Err(Stop::Syntax(error)) => return Err(error),
            Ok(root) => root,
        };
        self.end = self.event()?.span.start as usize;
        Ok(Some(root))
    }

    fn root(&mut self) -> Result<Node, Stop> {
        let mut stack: Vec<Open> = Vec::new();
        let mut elements = Elements::default();
        loop {
            let Event { kind, span } = self.event()?;
            let (mut node, anchor) = match kind {
                Kind::Scalar { anchor, tag, mut text, style } => {
                    if style == ScalarStyle::DoubleQuoted {
                        self.no_escaped_slash(span)?;
                    }
                    self.repairs.undo(span, style, &mut text);
                    if style == ScalarStyle::Plain && text.contains('?') {
                        self.no_question_in_flow(span, &stack)?;
                    }
                    let span = self.scalar_span(span, style, &text);
                    (Node { value: Value::Scalar(Scalar { text, style, tag }), span }, anchor)
                }
                Kind::Alias(name) => (self.alias(&name, span, &stack)?, None),
                Kind::SequenceStart { anchor, flow } => {
                    let from = elements.nodes.len();
                    self.open(&mut stack, Open { is_sequence: true, from, key: None, anchor, span, flow })?;
                    continue;
                }
                Kind::MappingStart { anchor, flow } => {
                    let from = elements.entries.len();
                    self.open(&mut stack, Open { is_sequence: false, from, key: None, anchor, span, flow })?;
                    continue;
                }
                Kind::SequenceEnd | Kind::MappingEnd => {
                    let Some(open) = stack.pop() else { continue };
                    self.close(open, &mut elements, span).map_err(Stop::Meaning)?
                }
                Kind::StreamStart | Kind::DocumentStart => continue,
                // The grammar has a node between start and end; this only keeps the loop finite.
                Kind::DocumentEnd | Kind::StreamEnd => {
                    return Err(YamlError::without_line("unknown problem parsing YAML content", span).into());
                }
            };
            self.budget.nodes += 1;
            if let Some(name) = anchor {
                self.remember(name, &node).map_err(Stop::Meaning)?;
            }
            let Some(parent) = stack.last_mut() else { return Ok(node) };
            match parent.key.take() {
                _ if parent.is_sequence => elements.nodes.push(node),
                Some(key) => {
                    // An absent value stands behind its key, not where the next token begins.
                    if node.span.start == node.span.end && node.span.start > key.span.end {
                        node.span = self.behind_colon(key.span, node.span);
                    }
                    elements.entries.push(Entry { key, value: node, merged: false });
                }
                None => parent.key = Some(node),
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

    fn close(
        &self,
        open: Open,
        elements: &mut Elements,
        end: Span,
    ) -> Result<(Node, Option<String>), YamlError> {
        let Open { is_sequence, from, anchor, span, flow, .. } = open;
        let value = match is_sequence {
            true => Value::Sequence(elements.nodes.split_off(from)),
            false => Value::Mapping(elements.entries.split_off(from)),
        };
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

    fn alias(&mut self, name: &str, span: Span, stack: &[Open]) -> Result<Node, Stop> {
        if stack.iter().any(|open| open.anchor.as_deref() == Some(name)) {
            let message = format!("anchor '{name}' value contains itself");
            return Err(Stop::Meaning(YamlError::without_line(&message, span)));
        }
        let Some(node) = self.anchors.get(name) else {
            if let Some(failure) = self.ahead(span.start as usize) {
                return Err(self.failed(&failure).into());
            }
            return Err(Stop::Syntax(YamlError {
                hint: Some(format!("define it with `&{name}` before this line, or put the text in quotes")),
                ..YamlError::without_line(&format!("unknown anchor '{name}' referenced"), span)
            }));
        };
        let depth = self.budget.spend(node, span).map_err(Stop::Meaning)?;
        if stack.len() + depth > DEPTH_LIMIT {
            return Err(self.too_deep(span).into());
        }
        Ok(Node { value: node.value.clone(), span })
    }

    /// `\/` is an escape of YAML 1.2.
    fn no_escaped_slash(&self, span: Span) -> Result<(), YamlError> {
        let (start, end) = (span.start as usize, span.end as usize);
        let written = &self.source.text.as_bytes()[start..end];
        let mut rest = 0;
        while let Some(found) = written[rest..].iter().position(|byte| *byte == b'\\') {
            let at = rest + found;
            if written.get(at + 1) == Some(&b'/') {
                return Err(self.failed(&Failure {
                    problem: UNKNOWN_ESCAPE.to_owned(),
                    context: "while parsing a quoted scalar".to_owned(),
                    problem_mark: self.mark(start + at),
                    context_mark: self.mark(start),
                    by_scanner: true,
                    by_reader: false,
                }));
            }
            rest = at + 2;
        }
        Ok(())
    }

    /// In brackets every `?` ends a plain scalar, and none may follow one.
    fn no_question_in_flow(&self, span: Span, stack: &[Open]) -> Result<(), YamlError> {
        let text = self.source.text.as_bytes();
        // A mapping of one pair without braces is part of its list.
        let opens = |open: &&Open| open.is_sequence || text[..open.span.end as usize].ends_with(b"{");
        let around = stack.iter().rev().take_while(|open| open.flow).find(opens);
        let Some(around) = around else { return Ok(()) };
        let found = text[span.start as usize..span.end as usize].iter().position(|byte| *byte == b'?');
        let Some(at) = found else { return Ok(()) };
        let (what, end) = match around.is_sequence {
            true => ("sequence", ']'),
            false => ("mapping", '}'),
        };
        Err(self.failed(&Failure {
            problem: format!("did not find expected ',' or '{end}'"),
            context: format!("while parsing a flow {what}"),
            problem_mark: self.mark(span.start as usize + at),
            context_mark: self.mark(around.span.end as usize - 1),
            by_scanner: false,
            by_reader: false,
        }))
    }

    fn mark(&self, offset: usize) -> Mark {
        Mark { offset, line: self.source.line_col(offset).0 - 1 }
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
