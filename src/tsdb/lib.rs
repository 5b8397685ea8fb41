//! Data directories: blocks and head together, several directories merged.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read their own files"))]

pub mod backfill;
mod block_names;
pub mod blocks;
pub mod compaction;
pub mod compaction_plan;
pub mod database;
pub mod downsampling;
pub mod head_blocks;
pub mod live;
pub mod quarantine;
pub mod retention;
pub mod retention_rules;
pub mod rewrite;
mod tiers;

pub use blocks::{BlockEntry, Overlap};
pub use database::{Database, OpenOptions};
pub use live::LiveDatabase;
