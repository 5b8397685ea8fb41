//! The Go text/template language and the functions that Prometheus (later Alertmanager) gives to templates.
//! A query is a function passed in.

pub mod ast;
pub mod check;
pub mod error;
mod eval;
pub mod exec;
pub mod format;
pub mod func;
mod hint;
pub mod histogram;
mod lex;
mod literal;
pub mod number;
mod parse;
mod reflect;
pub mod rule;
pub mod template;
pub mod time;
pub mod value;

pub use error::TemplateError;
pub use func::FunctionSet;
pub use rule::{Environment, RuleData, RuleTemplate};
pub use template::Template;
pub use value::{TemplateSample, Value};
