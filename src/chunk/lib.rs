//! Chunk codecs: encoded bytes to columns of samples, and back.

pub mod append;
pub mod bit_reader;
pub mod bit_writer;
pub mod columns;
pub mod decode;
pub mod encoding;
pub mod error;
mod start_timestamp;
pub mod xor;
pub mod xor2;

pub use append::{AppenderOptions, Chunk, ChunkRef, SeriesAppender};
pub use columns::{Floats, Histograms, SampleColumns};
pub use decode::{decode, sample_count};
pub use encoding::Encoding;
pub use error::ChunkError;
