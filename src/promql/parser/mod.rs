//! From text to tree and back.

pub mod ast;
pub mod ast_json;
mod check;
pub mod duration;
pub mod edit;
pub mod error;
pub mod functions;
mod hint;
mod lexer;
pub(crate) mod literal;
pub mod parse;
pub mod pretty;
mod print;
pub mod series;
mod token;

pub use ast_json::ast_json;
pub use duration::resolve;
pub use error::ParseError;
pub(crate) use lexer::quote_char;
pub use parse::{parse, parse_label_matchers, parse_metric_selector};
pub use pretty::prettify;
pub use series::{
    SequenceItem, SequenceValue, SeriesDescription, next_histogram, parse_metric, parse_series,
    parse_series_items,
};
