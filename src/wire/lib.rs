//! Messages of remote write, 1.0 and 2.0, decoded in place and encoded; no transport.
//!
//! A body is one message, compressed as a snappy block ([`snappy`]). [`Reader`] hands out its series one by one,
//! whatever the version; nothing is allocated by a length that the body only claims.

mod error;
mod histogram;
mod reader;
pub mod snappy;
mod writer;

pub use error::WireError;
pub use histogram::HistogramSample;
pub use reader::{Item, Metadata, Reader, SentExemplar, TimeSeries, Version};
pub use writer::{Sample, WriteRequestWriter, WriteV2Writer};
