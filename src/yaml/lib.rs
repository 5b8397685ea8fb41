//! The one way YAML is read: libyaml's verdict on the syntax (serde_yaml's parser), Go's habits in meaning, the position of every
//! value, edits that keep comments.

mod budget;
pub mod decode;
pub mod edit;
pub mod error;
mod events;
mod merge;
pub mod node;
mod offset;
pub mod read;
mod resolve;
mod scalar;
pub mod source;

pub use decode::{Decoder, Fields, Problem, Spanned};
pub use edit::{EditError, Edits, block_scalar, quoted, quoted_in_flow};
pub use error::YamlError;
pub use node::{Entry, Node, Scalar, ScalarStyle, Value};
pub use read::{documents, first_document};
pub use source::{Dialect, Source};
