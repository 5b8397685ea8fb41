//! The one way YAML is read: libyaml's verdict on the syntax, Go's habits in meaning, the position of every value,
//! edits that keep comments.
//!
//! ```
//! use tsdbctl_yaml::{Decoder, Edits, ScalarStyle, Source, YamlError, first_document, quoted};
//!
//! let source = Source::new("rules.yml", "groups:\n- name: g # mine\n  limit: ten\n");
//! let (root, _more) = first_document(&source)?;
//! let group = &root.as_ref().and_then(|root| root.get("groups")).expect("it is there").elements()[0];
//!
//! // Values are decoded as go-yaml does; what is wrong is collected, in its words and with a place.
//! let mut decoder = Decoder::new(&source, false);
//! let mut fields = decoder.fields(group, "rulefmt.RuleGroup");
//! let name = fields.take("name").and_then(|node| decoder.string(node)).map(|name| name.value);
//! let limit = fields.take("limit").and_then(|node| decoder.int(node));
//! decoder.finish(fields);
//! assert_eq!((name.as_deref(), limit), (Some("g"), None));
//! let problems = decoder.into_problems();
//! assert_eq!(problems[0].message, "cannot unmarshal !!str `ten` into int");
//! assert_eq!(source.place(problems[0].span), "rules.yml:3:10");
//!
//! // Edits leave every other byte alone.
//! let mut edits = Edits::default();
//! edits.replace(problems[0].span, quoted("007", ScalarStyle::Plain));
//! let text = edits.apply(&source).expect("they do not overlap");
//! assert_eq!(text, "groups:\n- name: g # mine\n  limit: \"007\"\n");
//! # Ok::<(), YamlError>(())
//! ```
//!
//! Texts come from files as bytes: [`Source::from_bytes`] takes UTF-8 and UTF-16, as go-yaml does. Nesting, aliases
//! and length are bounded: see [`read`], which also says where libyaml and go-yaml part.

mod budget;
pub mod decode;
pub mod edit;
pub mod error;
mod events;
mod merge;
pub mod node;
mod offset;
pub mod read;
mod repair;
mod resolve;
mod scalar;
pub mod source;

pub use decode::{Decoder, Fields, Problem, Spanned};
pub use edit::{EditError, Edits, block_scalar, quoted, quoted_in_flow};
pub use error::YamlError;
pub use node::{Entry, Node, Scalar, ScalarStyle, Value};
pub use read::{documents, first_document};
pub use source::{Dialect, Source};
