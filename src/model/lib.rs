//! Labels, symbols, matchers, samples and native histograms: the nouns every other crate speaks in.

pub mod duration;
pub mod float_text;
pub mod go_math;
pub mod histogram;
pub mod kahan;
pub mod label_hash;
pub mod labels;
pub mod matcher;
pub mod printable;
pub mod protobuf;
pub mod quote;
pub mod regexp;
pub mod sample;
pub mod span;
pub mod spelling;
pub mod symbols;

pub use histogram::{CounterResetHint, FloatHistogram, Histogram};
pub use labels::{Label, Labels};
pub use matcher::{MatchType, Matcher};
pub use span::Span;
pub use symbols::{Sym, SymbolTable};
