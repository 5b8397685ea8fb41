//! What the query engine asks of stored data: queriers, series sets, hints, limits and annotations; and what
//! writers ask of it: the classes in which samples are refused.

pub mod annotations;
pub mod append;
pub mod chunk_source;
pub mod control;
pub mod error;
pub mod label_rows;
pub mod memory;
pub mod merge;
mod overlap;
pub mod querier;
pub mod querier_source;
pub mod resolution;
pub mod series_table;
pub mod tiered;

pub use annotations::{Annotation, Annotations};
pub use append::{Refusal, RefusalCounts};
pub use chunk_source::{ChunkBatch, ChunkSource, EncodedChunk, LabelRef, Watched};
pub use control::{Budget, Control, ControlError, Interrupt};
pub use error::{Loss, StorageError};
pub use label_rows::LabelRows;
pub use memory::{MemorySample, MemoryStore};
pub use merge::{MergedQuerier, Source};
pub use querier::{LabelNeeds, Querier, Queryable, ReadStats, SelectHints, SeriesSet, TimeFilter};
pub use querier_source::{QuerierSource, encode_samples};
pub use resolution::{Coverage, Piece, ResolutionHint, WindowValue};
pub use series_table::SeriesTable;
pub use tiered::TieredQuerier;
