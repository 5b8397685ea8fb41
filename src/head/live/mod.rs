//! The head that grows: series, their newest samples in memory, full chunks in files, everything in the log.
//!
//! Ids: a series has a number, [`SeriesId`], dense, given in the order of creation and never used twice. Runs of 256
//! ids share a page of records and a shard: `shard = (id >> 8) % shards`. A series' reference is the number that the
//! log and the chunk files know it by (upstream's `HeadSeriesRef`); it grows in the same order but has gaps.
//!
//! Locks, in the order in which they may be held together: out-of-order log → log → index → shard (one at a time) →
//! chunk files. Small side tables (exemplars, metadata) are leaves.

pub mod appender;
mod arena;
mod batch;
pub mod block_source;
pub mod checkpoint;
pub mod chunk_files;
mod chunk_maps;
pub mod collect;
mod commit;
pub mod delete;
pub mod exemplars;
pub mod head;
mod hidden;
pub mod index;
pub mod isolation;
pub mod late;
pub mod load;
mod load_chunks;
mod load_router;
mod load_shard;
mod log_reader;
mod mapped_places;
mod matching;
pub mod memory;
mod open_chunk;
pub mod out_of_order;
mod paged;
mod pairs;
mod postings;
mod rechunk;
pub mod record;
pub mod sample;
pub mod select;
mod series_order;
pub mod shard;
#[cfg(test)]
mod shard_tests;
mod side;
pub mod snapshot;
mod split_table;
pub mod stale;
mod state_file;

pub use appender::{Appender, Committed};
pub use block_source::HeadSource;
pub use head::{Head, LiveOptions};
pub use index::SeriesId;
pub use late::SealedLate;
pub use select::{HeadQueryable, LiveQuerier};
pub use stale::StaleSeries;
