//! The tree of a document: every node with its place; aliases are followed, merge keys applied.

use tsdbctl_model::Span;

/// One node of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands, quotes and properties (`&anchor`, `!tag`) included: the place that go-yaml names. Of a block
    /// scalar from its indicator on; of an alias, where the alias stands; of a collection to the end of its last
    /// value.
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

impl Node {
    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The entries of a mapping, none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list, none of anything else.
    pub fn elements(&self) -> &[Self] {
        match &self.value {
            Value::Sequence(nodes) => nodes,
            _ => &[],
        }
    }

    /// The entry of a mapping with the key `name`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.scalar().is_some_and(|key| key.text == name))
    }

    /// The value of the key `name` of a mapping.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// It is null: empty, `~`, `null`, also tagged so. What is only called null (`!!null x`) is not.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| {
            let may_be = match scalar.tag.as_deref() {
                Some("tag:yaml.org,2002:null") => true,
                Some("!") | None => scalar.style == ScalarStyle::Plain,
                Some(_) => false,
            };
            may_be && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
        })
    }
}

impl Scalar {
    /// It is the key of a merge: `<<` without quotes.
    pub(crate) fn is_merge(&self) -> bool {
        self.text == "<<"
            && match self.tag.as_deref() {
                None => self.style == ScalarStyle::Plain,
                Some(tag) => tag == "tag:yaml.org,2002:merge",
            }
    }
}
