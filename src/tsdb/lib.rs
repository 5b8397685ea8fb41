//! Data directories: blocks and head together, several directories merged.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read their own files"))]

pub mod blocks;
pub mod database;
pub mod live;
pub mod retention;

pub use blocks::{BlockEntry, Overlap};
pub use database::{Database, OpenOptions};
pub use live::LiveDatabase;
