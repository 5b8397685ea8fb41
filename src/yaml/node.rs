//! The tree of a document: every node with its place; aliases are followed, merge keys applied.

use tsdbctl_model::Span;

/// One node of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands, quotes included; of an alias, where the alias stands.
    pub span: Span,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// A scalar of any style.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the text; repeated keys are kept.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Node,
    /// Its value.
    pub value: Node,
    /// It came through a merge key (`<<`), so a key that is written out wins over it.
    pub merged: bool,
}

/// A scalar.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Its value, escapes and folding resolved.
    pub text: String,
    /// How it is written.
    pub style: ScalarStyle,
    /// Its tag, if one is written (`!!str` as `tag:yaml.org,2002:str`).
    pub tag: Option<String>,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarStyle {
    /// Without quotes.
    Plain,
    /// In `'`.
    SingleQuoted,
    /// In `"`.
    DoubleQuoted,
    /// Block scalar with `|`.
    Literal,
    /// Block scalar with `>`.
    Folded,
}
