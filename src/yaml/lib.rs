//! The one way YAML is read: serde_yaml's verdict on the syntax, Go's habits in meaning, the position of every
//! value, edits that keep comments.

pub mod decode;
pub mod edit;
pub mod error;
pub mod node;
pub mod read;
pub mod source;

pub use decode::{Decoder, Fields, Problem, Spanned};
pub use edit::Edits;
pub use error::YamlError;
pub use node::{Entry, Node, Scalar, ScalarStyle, Value};
pub use read::documents;
pub use source::Source;
