//! Blocks on disk: index, postings, chunk files, tombstones, meta.json, and the querier over them.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read their own files"))]

pub mod block;
mod checksum;
mod cursor;
pub mod index;
mod matching;
pub mod meta;
mod offset_table;
mod postings;
pub mod querier;
pub mod segment;
mod series_set;
mod symbols;
pub mod tombstones;

pub use block::Block;
pub use index::{ChunkMeta, Index, Toc};
pub use meta::{BlockDescription, BlockMeta, BlockStats, Compaction};
pub use querier::BlockQuerier;
pub use segment::Segments;
pub use tombstones::{Interval, Tombstones};
