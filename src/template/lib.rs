//! The Go text/template language and the functions that Prometheus (later Alertmanager) gives to templates.
//! A query is a function passed in.

pub mod error;
pub mod format;
pub mod func;
pub mod rule;
pub mod value;

pub use error::TemplateError;
pub use func::FunctionSet;
pub use rule::{Environment, RuleData, RuleTemplate};
pub use value::{TemplateSample, Value};
