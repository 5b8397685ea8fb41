//! Data directories: blocks and head together, several directories merged.

pub mod blocks;
pub mod database;

pub use blocks::{BlockEntry, Overlap};
pub use database::{Database, OpenOptions};
