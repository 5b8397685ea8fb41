//! Blocks on disk: index, postings, chunk files, tombstones, meta.json, the querier over them, and how blocks are written, merged and made smaller.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read their own files"))]

mod aggregate_cut;
pub mod block;
pub mod block_writer;
mod checksum;
mod chunk_merge;
mod chunk_writer;
mod counters;
mod cursor;
pub mod cut;
pub mod downsample;
mod file_writer;
#[cfg(test)]
mod fingerprint;
pub mod first_wins;
mod heap;
pub mod index;
mod index_writer;
mod matching;
pub mod merge;
mod merge_memory;
pub mod meta;
mod offset_table;
mod pair_table;
pub mod plan;
mod postings;
mod postings_writer;
pub mod querier;
pub mod relabel;
pub mod relabel_pseudonyms;
pub mod segment;
mod series_set;
pub mod source;
mod symbol_order;
mod symbols;
pub mod tombstones;
mod windows;

pub use block::Block;
pub use block_writer::{BlockWriter, WriterOptions, write_block};
pub use downsample::DownsampledSource;
pub use first_wins::Conflicts;
pub use index::{ChunkMeta, Index, Toc};
pub use merge::MergedSource;
pub use merge_memory::merge_memory;
pub use meta::{BlockDescription, BlockMeta, BlockStats, Compaction};
pub use querier::BlockQuerier;
pub use relabel::{RelabelError, Relabelled, Relabelling};
pub use relabel_pseudonyms::Pseudonyms;
pub use segment::Segments;
pub use source::BlockSource;
pub use tombstones::{Interval, Tombstones};
