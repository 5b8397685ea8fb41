//! From text to tree and back.

pub mod ast;
mod check;
pub mod duration;
pub mod error;
pub mod functions;
mod hint;
mod lexer;
mod literal;
pub mod parse;
mod token;

pub use duration::resolve;
pub use error::ParseError;
pub use parse::{parse, parse_label_matchers, parse_metric_selector};
