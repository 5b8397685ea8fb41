//! The exposition formats: Prometheus text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0, and delimited protobuf
//! (`io.prometheus.client.MetricFamily`).
//!
//! [`Parser`] pulls one [`Entry`] after the other out of a body without copying it: names, values and help texts
//! are slices of the body, escapes are resolved only for who asks, and nothing is allocated per line. What is
//! accepted, what is refused and in which words is what Prometheus 3.14 does. [`scrape`] adds what a scrape makes
//! of a body: target labels, timestamps, exemplars, metadata, the scrape's own samples.

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
