//! From trees to values, strictly and with Go's habits: unknown and repeated keys are problems, all problems are
//! collected, each with its place and go-yaml's words.

use tsdbctl_model::Span;

use crate::{Node, Source};

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
    /// What was wrong.
    pub problems: Vec<Problem>,
}

/// The fields of a mapping that is read as a struct.
#[derive(Debug)]
pub struct Fields<'n> {
    entries: Vec<(&'n str, &'n Node, &'n Node)>,
}

impl<'s> Decoder<'s> {
    /// Reads nodes of `source`.
    pub fn new(source: &'s Source, ignore_unknown_fields: bool) -> Self {
        Self { source, ignore_unknown_fields, problems: Vec::new() }
    }

    /// The fields of a mapping; `go_type` is upstream's name of the struct (`rulefmt.RuleGroup`). A node that is
    /// no mapping is a problem, null is a mapping without fields; repeated keys are problems.
    pub fn fields<'n>(&mut self, node: &'n Node, go_type: &'static str) -> Fields<'n> {
        let _ = (node, go_type);
        Fields { entries: Vec::new() }
    }

    /// All fields that were not taken are problems, unless unknown fields are passed over.
    pub fn finish(&mut self, fields: Fields<'_>) {
        let _ = fields;
    }

    /// A text; numbers and booleans as they are written, null as the empty text.
    pub fn string(&mut self, node: &Node) -> Option<Spanned<String>> {
        let _ = node;
        None
    }

    /// A truth value (YAML 1.1: `yes`, `on`, `y` too).
    pub fn bool(&mut self, node: &Node) -> Option<bool> {
        let _ = node;
        None
    }

    /// A whole number.
    pub fn int(&mut self, node: &Node) -> Option<i64> {
        let _ = node;
        None
    }

    /// A number.
    pub fn float(&mut self, node: &Node) -> Option<f64> {
        let _ = node;
        None
    }

    /// A list; null is an empty one. `go_type` is upstream's element type.
    pub fn list<'n>(&mut self, node: &'n Node, go_type: &'static str) -> &'n [Node] {
        let _ = (node, go_type);
        &[]
    }

    /// A mapping of texts to texts, in the order of the text.
    pub fn string_map(&mut self, node: &Node) -> Vec<(Spanned<String>, Spanned<String>)> {
        let _ = node;
        Vec::new()
    }
}

impl<'n> Fields<'n> {
    /// The value of a field, if it is there; it counts as known from now on.
    pub fn take(&mut self, name: &str) -> Option<&'n Node> {
        let at = self.entries.iter().position(|(key, ..)| *key == name)?;
        Some(self.entries.remove(at).2)
    }
}
