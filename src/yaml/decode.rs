//! From trees to values, strictly and with Go's habits: unknown and repeated keys are problems, all problems are
//! collected, each with its place and go-yaml's words.

use std::borrow::Cow;
use std::collections::HashMap;

use tsdbctl_model::Span;
use tsdbctl_model::quote::go_quote;
use tsdbctl_model::spelling::distance;

use crate::resolve::{Resolved, old_bool, resolve, short_tag};
use crate::{Dialect, Entry, Node, Source, Value, YamlError};

/// Mappings of at most so many keys are looked through for repeated ones pair by pair.
const FEW_KEYS: usize = 12;
/// Structs seldom have more fields.
const FIELDS: usize = 8;
/// A mapping with more repeated keys than this names only these: their pairs grow with the square.
const REPEATS_LIMIT: usize = 1000;

/// go-yaml's words.
const NO_BASE64: &str = "!!binary value contains invalid base64 data";

/// A value and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The place of its node.
    pub span: Span,
}

/// Something that a node is not, and should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place.
    pub span: Span,
    /// go-yaml's words behind `line N: `, such as `field foo not found in type rulefmt.Rule`.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Reads values out of nodes and collects what is wrong with them.
#[derive(Debug)]
pub struct Decoder<'s> {
    /// The text.
    pub source: &'s Source,
    /// Unknown fields are passed over.
    pub ignore_unknown_fields: bool,
    /// What was wrong, in the order it was met; go-yaml's order is that of [`Decoder::into_problems`].
    pub problems: Vec<Problem>,
    /// What ends go-yaml's decoding at once: then this is all it reports.
    pub fatal: Option<YamlError>,
}

/// The fields of a mapping that is read as a struct.
#[derive(Debug)]
pub struct Fields<'n> {
    entries: Vec<(Cow<'n, str>, &'n Entry)>,
    /// The fields that were asked for, and whether they were there.
    known: Vec<(&'static str, bool)>,
    go_type: &'static str,
}

impl<'s> Decoder<'s> {
    /// Reads nodes of `source`.
    pub fn new(source: &'s Source, ignore_unknown_fields: bool) -> Self {
        Self { source, ignore_unknown_fields, problems: Vec::new(), fatal: None }
    }

    /// The problems in the order of the text, which is go-yaml's.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.span.start);
        problems
    }

    /// Notes a problem.
    pub fn problem(&mut self, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(Problem { span, message: message.into(), hint });
    }

    /// The fields of a mapping; `go_type` is upstream's name of the struct (`rulefmt.RuleGroup`). A node that is
    /// no mapping is a problem, null is a mapping without fields; repeated keys are problems.
    pub fn fields<'n>(&mut self, node: &'n Node, go_type: &'static str) -> Fields<'n> {
        let mut fields = Fields { entries: Vec::new(), known: Vec::with_capacity(FIELDS), go_type };
        let Value::Mapping(entries) = &node.value else {
            if !self.null(node) {
                self.cannot_unmarshal(node, go_type);
            }
            return fields;
        };
        if self.repeated(entries) {
            return fields;
        }
        fields.entries.reserve_exact(entries.len());
        for entry in entries {
            match &entry.key.value {
                Value::Scalar(_) if entry.key.is_null() && self.source.dialect == Dialect::V3 => {}
                Value::Scalar(key) if key.tag.is_none() => {
                    fields.entries.push((Cow::Borrowed(&key.text), entry));
                }
                // What a tag makes of the text is the name.
                Value::Scalar(_) => {
                    if let Some(name) = self.text(&entry.key, "string") {
                        fields.entries.push((Cow::Owned(name), entry));
                    }
                }
                _ => self.cannot_unmarshal(&entry.key, "string"),
            }
        }
        fields
    }

    /// All fields that were not taken are problems, unless unknown fields are passed over.
    pub fn finish(&mut self, fields: Fields<'_>) {
        let Fields { entries, known, go_type } = fields;
        for (name, entry) in entries {
            let span = entry.key.span;
            if known.iter().any(|(field, there)| *there && **field == *name) {
                if !entry.merged {
                    let hint = Some(format!("keep one `{name}`"));
                    self.problem(span, format!("field {name} already set in type {go_type}"), hint);
                }
            } else if !self.ignore_unknown_fields {
                let hint = nearest(&name, known.iter().map(|(field, _)| *field));
                self.problem(span, format!("field {name} not found in type {go_type}"), hint);
            }
        }
    }

    /// A text; numbers and booleans as they are written, null as the empty text.
    pub fn string(&mut self, node: &Node) -> Option<Spanned<String>> {
        let value = self.text(node, "string")?;
        Some(Spanned { value, span: node.span })
    }

    /// A truth value (YAML 1.1: `yes`, `on`, `y` too); null leaves what was there.
    pub fn bool(&mut self, node: &Node) -> Option<bool> {
        match self.resolved(node, "bool")? {
            Resolved::Null => return None,
            Resolved::Bool(value) => return Some(value),
            Resolved::Text if self.source.dialect == Dialect::V3 => {
                if let Some(value) = node.scalar().and_then(|scalar| old_bool(&scalar.text)) {
                    return Some(value);
                }
            }
            _ => {}
        }
        self.cannot_unmarshal(node, "bool");
        None
    }

    /// A whole number; a fraction is cut off as go-yaml does. Null leaves what was there.
    pub fn int(&mut self, node: &Node) -> Option<i64> {
        match self.resolved(node, "int")? {
            Resolved::Null => return None,
            Resolved::Int(value) => return Some(value),
            // Go compares with MaxInt64 as a float, 2^63, and converts that to the least value.
            Resolved::Float(value) if value < 9_223_372_036_854_775_808.0 => return Some(value as i64),
            Resolved::Float(9_223_372_036_854_775_808.0) => return Some(i64::MIN),
            _ => {}
        }
        self.cannot_unmarshal(node, "int");
        None
    }

    /// A number; null leaves what was there.
    pub fn float(&mut self, node: &Node) -> Option<f64> {
        match self.resolved(node, "float64")? {
            Resolved::Null => return None,
            Resolved::Int(value) => return Some(value as f64),
            Resolved::Unsigned(value) => return Some(value as f64),
            Resolved::Float(value) => return Some(value),
            _ => {}
        }
        self.cannot_unmarshal(node, "float64");
        None
    }

    /// A list; null is an empty one. `go_type` is upstream's element type. Rule files drop elements that are null,
    /// as v3 does.
    pub fn list<'n>(&mut self, node: &'n Node, go_type: &'static str) -> Vec<&'n Node> {
        match &node.value {
            Value::Sequence(nodes) if self.source.dialect == Dialect::V3 => {
                nodes.iter().filter(|node| !node.is_null()).collect()
            }
            Value::Sequence(nodes) => nodes.iter().collect(),
            _ if self.null(node) => Vec::new(),
            _ => {
                self.cannot_unmarshal(node, &format!("[]{go_type}"));
                Vec::new()
            }
        }
    }

    /// A mapping of texts to texts, in the order of the text.
    pub fn string_map(&mut self, node: &Node) -> Vec<(Spanned<String>, Spanned<String>)> {
        self.string_map_as(node, "map[string]string")
    }

    /// As [`Decoder::string_map`], where upstream's type has another name.
    pub fn string_map_as(&mut self, node: &Node, go_type: &str) -> Vec<(Spanned<String>, Spanned<String>)> {
        let Value::Mapping(entries) = &node.value else {
            if !self.null(node) {
                self.cannot_unmarshal(node, go_type);
            }
            return Vec::new();
        };
        if self.repeated(entries) {
            return Vec::new();
        }
        let v2 = self.source.dialect == Dialect::V2;
        let mut seen = std::collections::HashSet::new();
        let mut pairs = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.key.is_null() && !v2 {
                continue;
            }
            let (key, value) = (self.string(&entry.key), self.string(&entry.value));
            let (Some(key), Some(value)) = (key, value) else { continue };
            if v2 && !seen.insert(key.value.clone()) {
                if !entry.merged {
                    let message = format!("key {} already set in map", go_quote(&key.value));
                    self.problem(value.span, message, Some(format!("keep one `{}`", key.value)));
                }
                continue;
            }
            pairs.push((key, value));
        }
        pairs
    }

    /// The problem of a node that is no `go_type`.
    pub fn cannot_unmarshal(&mut self, node: &Node, go_type: &str) {
        let mut hint = None;
        let what = match &node.value {
            Value::Sequence(_) | Value::Mapping(_) if self.tag_of(node).is_some() => {
                match self.tag_of(node).unwrap_or_default() {
                    tag if tag == "!!seq" || tag == "!!map" => tag,
                    tag => format!("{tag} ``"),
                }
            }
            Value::Sequence(_) => "!!seq".to_owned(),
            Value::Mapping(_) => {
                let start = &self.source.text[node.span.start as usize..node.span.end as usize];
                if start.starts_with("{{") {
                    hint = Some(
                        "put the template in quotes: without them `{{` begins a YAML mapping".to_owned(),
                    );
                }
                "!!map".to_owned()
            }
            Value::Scalar(scalar) => {
                // A text that is not what its tag says ends the decoding before its kind is looked at.
                let tag = match resolve(self.source.dialect, scalar) {
                    Ok((_, Resolved::Binary(None))) => return self.fail(NO_BASE64, node.span),
                    Err(message) => return self.fail(&message, node.span),
                    Ok((tag, _)) => tag,
                };
                let text = match scalar.text.len() {
                    0..=10 => scalar.text.clone(),
                    _ => format!("{}...", String::from_utf8_lossy(&scalar.text.as_bytes()[..7])),
                };
                format!("{tag} `{text}`")
            }
        };
        self.problem(node.span, format!("cannot unmarshal {what} into {go_type}"), hint);
    }

    /// The text of a scalar, `None` with a problem if it is none.
    pub fn text(&mut self, node: &Node, go_type: &str) -> Option<String> {
        self.borrowed_text(node, go_type).map(Cow::into_owned)
    }

    /// As [`Decoder::string`], of a text that need not be kept.
    pub fn borrowed_string<'n>(&mut self, node: &'n Node) -> Option<Spanned<Cow<'n, str>>> {
        let value = self.borrowed_text(node, "string")?;
        Some(Spanned { value, span: node.span })
    }

    fn borrowed_text<'n>(&mut self, node: &'n Node, go_type: &str) -> Option<Cow<'n, str>> {
        match (self.resolved(node, go_type)?, node.scalar()) {
            (Resolved::Null, _) => Some(Cow::Borrowed("")),
            (Resolved::Binary(Some(bytes)), _) => {
                Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
            }
            (_, Some(scalar)) => Some(Cow::Borrowed(&scalar.text)),
            (_, None) => None,
        }
    }

    fn resolved(&mut self, node: &Node, go_type: &str) -> Option<Resolved> {
        let Value::Scalar(scalar) = &node.value else {
            self.cannot_unmarshal(node, go_type);
            return None;
        };
        // Most scalars of a rule file are untagged texts that need no look at their meaning.
        match resolve(self.source.dialect, scalar) {
            Ok((_, Resolved::Binary(None))) => {
                self.fail(NO_BASE64, node.span);
                None
            }
            Ok((_, resolved)) => Some(resolved),
            Err(message) => {
                self.fail(&message, node.span);
                None
            }
        }
    }

    /// Whether a node is null; one that is only called so is not.
    fn null(&self, node: &Node) -> bool {
        let resolved = node.scalar().map(|scalar| resolve(self.source.dialect, scalar));
        matches!(resolved, Some(Ok((_, Resolved::Null))))
    }

    /// The first in the text counts: fields are not read in its order.
    fn fail(&mut self, message: &str, span: Span) {
        if self.fatal.as_ref().is_none_or(|fatal| span.start < fatal.span.start) {
            self.fatal = Some(YamlError::without_line(message, span));
        }
    }

    /// The tag that a list or mapping was given, short.
    fn tag_of(&self, node: &Node) -> Option<String> {
        let properties = &self.source.text[node.span.start as usize..];
        properties
            .split_whitespace()
            .take_while(|word| word.starts_with(['!', '&']))
            .find_map(|word| word.strip_prefix('!'))
            .filter(|name| !name.is_empty())
            .map(|name| match name.strip_prefix('<') {
                Some(verbatim) => short_tag(verbatim.trim_end_matches('>')),
                None => format!("!{name}"),
            })
    }

    /// Notes repeated keys; v3 then passes over the whole mapping. v2 looks at each kind of mapping in its own way.
    fn repeated(&mut self, entries: &[Entry]) -> bool {
        if self.source.dialect == Dialect::V2 {
            return false;
        }
        // Few keys are compared pair by pair, which needs no memory.
        let differ = |a: &Entry, b: &Entry| match (a.key.scalar(), b.key.scalar()) {
            (Some(a), Some(b)) => a.text != b.text,
            (None, None) => false,
            _ => true,
        };
        if entries.len() <= FEW_KEYS
            && entries.iter().enumerate().all(|(i, a)| entries[i + 1..].iter().all(|b| differ(a, b)))
        {
            return false;
        }
        // Collections count as keys without a text, all the same.
        let mut first: HashMap<(u8, &str), Vec<usize>> = HashMap::with_capacity(entries.len());
        let mut repeated = false;
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.merged) {
            let key = match &entry.key.value {
                Value::Scalar(scalar) => (0, scalar.text.as_str()),
                Value::Sequence(_) => (1, ""),
                Value::Mapping(_) => (2, ""),
            };
            let places = first.entry(key).or_default();
            places.push(at);
            repeated |= places.len() > 1;
        }
        if !repeated {
            return false;
        }
        let mut pairs = Vec::new();
        for places in first.values() {
            for (i, before) in places.iter().enumerate() {
                pairs.extend(places[i + 1..].iter().take(REPEATS_LIMIT).map(|after| (*before, *after)));
                if pairs.len() > REPEATS_LIMIT {
                    break;
                }
            }
        }
        pairs.sort_unstable();
        for (before, after) in pairs.into_iter().take(REPEATS_LIMIT) {
            let (before, after) = (&entries[before].key, &entries[after].key);
            let name = after.scalar().map_or("", |scalar| &scalar.text);
            let (line, _) = self.source.line_col(before.span.start as usize);
            let message = format!("mapping key {} already defined at line {line}", go_quote(name));
            self.problem(after.span, message, Some(format!("keep one `{name}`")));
        }
        true
    }
}

impl<'n> Fields<'n> {
    /// The value of a field, if it is there; it counts as known from now on.
    pub fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.take_entry(name).map(|entry| &entry.value)
    }

    /// As [`Fields::take`], with the key.
    pub fn take_entry(&mut self, name: &'static str) -> Option<&'n Entry> {
        let at = self.entries.iter().position(|(key, _)| *key == name);
        self.known.push((name, at.is_some()));
        Some(self.entries.remove(at?).1)
    }
}

/// `did you mean …` for the known name that is nearest to `name`, if one is near.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let best = known.map(|candidate| (distance(name, candidate), candidate)).min()?;
    let limit = (name.chars().count() / 3).max(1);
    (best.0 <= limit).then(|| format!("did you mean `{}`?", best.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_document;

    /// `v` of a mapping read as `kind`: the value, or go-yaml's words (most asked of promtool 3.14, the rest taken from go-yaml's decoder).
    fn read(dialect: Dialect, kind: &str, text: &str) -> String {
        let source = Source::new("t", format!("v: {text}\n")).with_dialect(dialect);
        let root = first_document(&source).expect("it is YAML").0.expect("it is not empty");
        let node = root.get("v").expect("the key is there");
        let mut decoder = Decoder::new(&source, false);
        let value = match kind {
            "string" => decoder.string(node).map(|text| text.value),
            "bool" => decoder.bool(node).map(|value| value.to_string()),
            "int" => decoder.int(node).map(|value| value.to_string()),
            "float" => decoder.float(node).map(|value| value.to_string()),
            "list" => Some(decoder.list(node, "T").len().to_string()),
            _ => {
                let pairs = decoder.string_map(node);
                Some(pairs.iter().map(|(key, value)| format!("{}={} ", key.value, value.value)).collect())
            }
        };
        if let Some(fatal) = decoder.fatal {
            return fatal.message;
        }
        let problems = decoder.into_problems();
        match problems.is_empty() {
            true => value.unwrap_or_else(|| "absent".to_owned()),
            false => problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn values_are_read_with_go_yamls_habits() {
        use Dialect::{V2, V3};
        for (dialect, kind, text, expected) in [
            (V3, "string", "007", "007"),
            (V3, "string", "~", ""),
            (V3, "string", "", ""),
            (V3, "string", "yes", "yes"),
            (V3, "string", "!!binary aGk=", "hi"),
            (V3, "string", "!!binary abc", "yaml: !!binary value contains invalid base64 data"),
            (V3, "string", "[a]", "cannot unmarshal !!seq into string"),
            (V3, "string", "{{ a }}", "cannot unmarshal !!map into string"),
            (V3, "int", "abc", "cannot unmarshal !!str `abc` into int"),
            (V3, "int", "abcdefghijklmnop", "cannot unmarshal !!str `abcdefg...` into int"),
            (V3, "int", "1.7", "1"),
            (V3, "int", "0o17", "15"),
            (V3, "int", "yes", "cannot unmarshal !!str `yes` into int"),
            (V2, "int", "yes", "cannot unmarshal !!bool `yes` into int"),
            (V3, "int", "'5'", "cannot unmarshal !!str `5` into int"),
            (V3, "int", "2026-01-01", "cannot unmarshal !!timestamp `2026-01-01` into int"),
            (V3, "int", "99999999999999999999", "cannot unmarshal !!float `9999999...` into int"),
            (V3, "int", "1e30", "cannot unmarshal !!float `1e30` into int"),
            (V3, "int", "9223372036854775807", "9223372036854775807"),
            (V3, "int", "~", "absent"),
            (V3, "int", "!!int abc", "yaml: cannot decode !!str `abc` as a !!int"),
            (V2, "bool", "yes", "true"),
            (V3, "bool", "Off", "false"),
            (V3, "bool", "'yes'", "true"),
            (V2, "bool", "'yes'", "cannot unmarshal !!str `yes` into bool"),
            (V2, "bool", "1", "cannot unmarshal !!int `1` into bool"),
            (V2, "float", ".inf", "inf"),
            (V2, "float", "1e3", "1000"),
            (V2, "float", "0x10", "16"),
            (V2, "float", "Inf", "cannot unmarshal !!str `Inf` into float64"),
            (V2, "float", "'1'", "cannot unmarshal !!str `1` into float64"),
            (V3, "list", "[a, ~, b]", "2"),
            (V2, "list", "[a, ~, b]", "3"),
            (V3, "list", "~", "0"),
            (V3, "list", "{a: 1}", "cannot unmarshal !!map into []T"),
            (V3, "list", "!foo a", "cannot unmarshal !foo `a` into []T"),
            (V3, "list", "!!int a", "yaml: cannot decode !!str `a` as a !!int"),
            (V3, "list", "!!null x", "yaml: cannot decode !!str `x` as a !!null"),
            (V3, "string", "!!null x", "yaml: cannot decode !!str `x` as a !!null"),
            (V3, "string", "!!null ''", ""),
            (V3, "list", "[a, !!null x, !!null '']", "2"),
            (V3, "list", "! 5", "cannot unmarshal !!int `5` into []T"),
            (V3, "int", "! 5", "5"),
            (V3, "string", "! 5", "5"),
            (V3, "string", "!!set {a}", "cannot unmarshal !!set `` into string"),
            (V3, "string", "&x !!str [a]", "cannot unmarshal !!str `` into string"),
            (V3, "map", "{a: 1, b: ~}", "a=1 b= "),
            (V3, "map", "[a]", "cannot unmarshal !!seq into map[string]string"),
            (V3, "map", "{a: [b]}", "cannot unmarshal !!seq into string"),
            (V3, "map", "{a: b, <<: {a: c, d: e}}", "a=b d=e "),
            (V2, "map", "{a: b, a: c}", "key \"a\" already set in map"),
            (
                V3,
                "map",
                "{a: b, a: c, a: d}",
                "mapping key \"a\" already defined at line 1; mapping key \"a\" already defined at line 1; \
                 mapping key \"a\" already defined at line 1",
            ),
        ] {
            assert_eq!(read(dialect, kind, text), expected, "{dialect:?} {kind} {text}");
        }
    }

    fn struct_problems(dialect: Dialect, text: &str) -> Vec<(String, usize, Option<String>)> {
        let source = Source::new("t", text).with_dialect(dialect);
        let root = first_document(&source).expect("it is YAML").0.expect("it is not empty");
        let mut decoder = Decoder::new(&source, false);
        let mut fields = decoder.fields(&root, "T");
        for name in ["name", "expr"] {
            if let Some(node) = fields.take(name) {
                decoder.string(node);
            }
        }
        decoder.finish(fields);
        let line = |problem: &Problem| source.line_col(problem.span.start as usize).0;
        decoder
            .into_problems()
            .into_iter()
            .map(|problem| (problem.message.clone(), line(&problem), problem.hint))
            .collect()
    }

    #[test]
    fn fields_are_known_and_there_once() {
        let problems = |dialect, text| {
            struct_problems(dialect, text)
                .into_iter()
                .map(|(message, line, _)| format!("{line} {message}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            problems(Dialect::V3, "foo: 1\nname: [a]\n5: 1\n"),
            [
                "1 field foo not found in type T",
                "2 cannot unmarshal !!seq into string",
                "3 field 5 not found in type T",
            ]
        );
        assert_eq!(
            problems(Dialect::V3, "name: a\nfoo: 1\nname: b\n"),
            ["3 mapping key \"name\" already defined at line 1"]
        );
        assert_eq!(
            problems(Dialect::V2, "name: a\nfoo: 1\nname: b\nfoo: 2\n"),
            [
                "2 field foo not found in type T",
                "3 field name already set in type T",
                "4 field foo not found in type T",
            ]
        );
        assert_eq!(problems(Dialect::V3, "a\n"), ["1 cannot unmarshal !!str `a` into T"]);
        assert_eq!(problems(Dialect::V3, "~: 1\n"), [""; 0]);
        assert_eq!(problems(Dialect::V3, "? [a]\n: 1\n"), ["1 cannot unmarshal !!seq into string"]);
        let hints = struct_problems(Dialect::V3, "exprs: 1\n");
        assert_eq!(hints[0].2.as_deref(), Some("did you mean `expr`?"));
    }
}
