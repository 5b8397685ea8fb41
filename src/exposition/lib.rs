//! The exposition formats: Prometheus text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0, and delimited protobuf
//! (`io.prometheus.client.MetricFamily`).
//!
//! [`Parser`] pulls one [`Entry`] after the other out of a body without copying it: names, values and help texts
//! are slices of the body, and escapes (and the numbers in `le` and `quantile`) are resolved only for who asks.
//! Nothing is allocated per line; native and converted histograms are, as they are built. What is accepted, what is
//! refused and in which words is what Prometheus 3.14 does. [`scrape`] adds what a scrape makes of a body: target
//! labels, timestamps, exemplars, metadata, the scrape's own samples.
//!
//! Where it differs from upstream on purpose, outside what real exporters write:
//! - Names and units that are not UTF-8 are refused by the parser; upstream passes them on to the scrape, which
//!   refuses series by them but keeps metadata.
//! - An untyped protobuf metric without a value is 0; upstream repeats the value of the metric before it.
//! - Every native histogram of a protobuf family is checked against its spans, and a classic one behind a native one
//!   is read as classic; upstream checks the first and fails on the other.
//! - A look ahead for `_created` lines stops at a token that fits nothing, where upstream never ends.
//!
//! Not done: the labels of the feature `type-and-unit-labels`.

mod content_type;
mod entry;
mod error;
mod lexer;
mod line;
mod nhcb;
mod number;
mod openmetrics;
mod parser;
mod protobuf;
pub mod scrape;
mod text;
mod token;

pub use content_type::{ContentTypeError, Format};
pub use entry::{Entry, ExemplarView, Exemplars, HistogramSeries, Series, SeriesLabels};
pub use error::ParseError;
pub use parser::{Options, Parser};
