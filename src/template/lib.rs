//! The Go text/template language and the functions that Prometheus (later Alertmanager) gives to templates.
//! A query is a function passed in.
//!
//! ```
//! use tsdbctl_model::Labels;
//! use tsdbctl_template::{Environment, RuleData, RuleTemplate, TemplateSample, Value};
//!
//! struct Server;
//! impl Environment for Server {
//!     fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
//!         Err(format!("nobody answers {expr}"))
//!     }
//!     fn now_ms(&self) -> i64 {
//!         0
//!     }
//!     fn external_url(&self) -> &str {
//!         "http://localhost:9090"
//!     }
//! }
//!
//! // Parsed once, when the rule is loaded; an error has upstream's words, a place in the text, often a remedy.
//! let text = "{{ $labels.job }} is at {{ $value | humanizePercentage }}";
//! let template = RuleTemplate::parse("DiskFull", text)?;
//! let data = RuleData {
//!     labels: &Labels::from_pairs([("job", "node")]),
//!     external_labels: &Labels::default(),
//!     external_url: "",
//!     value: Value::Float(0.93),
//! };
//! assert_eq!(template.expand(&data, &mut Server)?, "node is at 93%");
//!
//! let error = RuleTemplate::parse("DiskFull", "{{ humanise $value }}").expect_err("there is no such function");
//! assert_eq!(error.message, "template: __alert_DiskFull:1: function \"humanise\" not defined");
//! assert_eq!((error.span.start, error.hint.as_deref()), (3, Some("did you mean `humanize`?")));
//! # Ok::<(), tsdbctl_template::TemplateError>(())
//! ```
//!
//! What renders, and what fails, is the same as upstream's to the last character, but for these:
//! - Texts are UTF-8. A byte that is none, written as an escape (`"\xff"`) or left by a cut through a character,
//!   becomes U+FFFD.
//! - An address prints as `0x0`, as it differs from run to run.
//! - A `%` in an alert's name stands in error texts as it is; upstream reads it as a verb of `printf` there.
//! - A run ends with an error where its output passes 1 MiB, or after some million steps
//!   ([`exec::Limits`]); upstream goes on until memory ends. Maps of `args` nest to 200 in each other.
//! - `sortByLabel` sorts for all that hold the result, as upstream does, but not within a map of `args` or for a part
//!   that `slice` cut out before.
//! - Of the methods of times, durations and histograms those in [`func::methods`] can be called.

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
