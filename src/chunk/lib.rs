//! Chunk codecs: encoded bytes to columns of samples, and back.

pub mod columns;
pub mod encoding;

pub use columns::{Floats, Histograms, SampleColumns};
pub use encoding::Encoding;
