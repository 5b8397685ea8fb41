//! The head of a data directory, read: what is not in blocks yet, from the write-ahead log, the log of
//! out-of-order samples, mapped chunks and chunk snapshots.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make and read their own files"))]

mod exemplars;
mod late_end;
pub mod live;
mod loss;
pub mod mapped;
mod newest;
mod pieces;
mod queue;
mod read;
mod refs;
mod replay;
mod series;
mod snapshot;
mod source;
mod start_times;
mod window;

pub use newest::newest_sample_time;
pub use read::ReadHead;
pub use replay::{HeadOptions, Metadata};
pub use start_times::{StartTimes, start_times};
