//! The write-ahead log on disk: segments, pages, records and checkpoints, read and written.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read their own files"))]

pub mod checkpoint_writer;
pub mod compression;
#[cfg(test)]
mod crash_tests;
pub mod cursor;
pub mod damage;
#[cfg(test)]
mod faulty;
pub mod log_writer;
pub mod mend;
pub mod packed;
pub mod page;
pub mod reader;
pub mod record;
pub mod segment;
pub mod writer;

pub use checkpoint_writer::{CheckpointWriter, remove_older_checkpoints};
pub use compression::Compression;
pub use damage::{Damage, WalError};
pub use log_writer::{LogGuard, LogOptions, LogWriter, Position, SyncPolicy};
pub use mend::{Mended, Mending, mend, mend_end};
pub use packed::{PackedRecord, RecordPacker};
pub use reader::{BadRecord, SegmentReader};
pub use segment::{Log, Segment};
pub use writer::PageWriter;
