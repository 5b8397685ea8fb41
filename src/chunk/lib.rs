//! Chunk codecs: encoded bytes to columns of samples, and back.

pub mod aggregate;
pub mod append;
pub mod bit_buffer;
pub mod bit_reader;
pub mod bit_writer;
mod bucket_merge;
pub mod columns;
pub mod decode;
pub mod encoding;
pub mod error;
pub mod float_histogram;
pub mod histogram;
mod histogram_encode;
mod histogram_layout;
mod start_timestamp;
pub mod xor;
pub mod xor2;

pub use aggregate::{AGGREGATE_ENCODING, Aggregate, AggregateChunk, CounterJoin, decode_counter};
pub use append::{AppenderOptions, Chunk, ChunkRef, SeriesAppender};
pub use columns::{Floats, Histograms, SampleColumns};
pub use decode::{decode, decode_float_histograms, decode_floats_fast, decode_histograms, sample_count};
pub use encoding::Encoding;
pub use error::ChunkError;
pub use float_histogram::{FloatHistogramEncoder, FloatHistogramReader};
pub use histogram::{HistogramEncoder, HistogramReader};
pub use xor::{XorEncoder, XorState};
pub use xor2::Xor2Encoder;
