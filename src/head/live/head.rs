//! The head as a whole: what it is made of, how it is opened and closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use hashbrown::HashMap;
use tsdbctl_platform::disk::Disk;
use tsdbctl_storage::{Control, Loss, StorageError};
use tsdbctl_wal::{LogOptions, LogWriter};

use crate::live::chunk_files::ChunkFiles;
use crate::live::index::{Index, SeriesId};
use crate::live::isolation::Isolation;
use crate::live::shard::{Bounds, ChunkRules, Shard};
use crate::replay::Metadata;

/// How a head is run. Defaults are upstream's.
#[derive(Clone, Copy, Debug)]
pub struct LiveOptions {
    /// Chunks.
    pub rules: ChunkRules,
    /// The logs.
    pub log: LogOptions,
    /// How far a sample may lie behind the head's newest one, ms; 0 takes none out of order.
    pub out_of_order_window_ms: i64,
    /// Exemplars kept; 0 switches them off.
    pub max_exemplars: usize,
    /// Metadata goes into the log (upstream's `metadata-wal-records`).
    pub metadata_records: bool,
    /// Bytes the head may take; more is spilled, then refused.
    pub memory_limit: u64,
    /// A chunk snapshot is written at close and used at open (upstream's `memory-snapshot-on-shutdown`).
    pub snapshot_on_close: bool,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            rules: ChunkRules {
                chunk_range_ms: 7_200_000,
                samples_per_chunk: 120,
                seal_bytes: 256,
                xor2: false,
                start_timestamps: false,
                out_of_order_cap: 32,
            },
            log: LogOptions::default(),
            out_of_order_window_ms: 0,
            max_exemplars: 0,
            metadata_records: false,
            memory_limit: u64::MAX,
            snapshot_on_close: false,
        }
    }
}

/// A head that takes samples. Shared by threads.
#[derive(Debug)]
pub struct Head {
    /// How it is run.
    pub options: LiveOptions,
    /// Where its files are written.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub dir: PathBuf,
    /// `wal/`.
    pub wal: Arc<LogWriter>,
    /// `wbl/`, begun with the first out-of-order sample.
    pub wbl: Mutex<Option<Arc<LogWriter>>>,
    /// Labels.
    pub index: RwLock<Index>,
    /// Samples: series `id` is in `shards[(id >> 8) % shards.len()]`.
    pub shards: Box<[Mutex<Shard>]>,
    /// `chunks_head/`.
    pub files: ChunkFiles,
    /// Commits and readers.
    pub isolation: Isolation,
    /// Deleted ranges, sorted and apart.
    pub tombstones: RwLock<HashMap<SeriesId, Vec<(i64, i64)>>>,
    /// The newest metadata of each series.
    pub metadata: Mutex<HashMap<SeriesId, Metadata>>,
    /// The next new series' reference.
    pub next_ref: AtomicU64,
    /// Earliest sample time, `i64::MAX` without samples.
    pub min_time: AtomicI64,
    /// Latest in-order sample time, `i64::MIN` without samples.
    pub max_time: AtomicI64,
    /// In-order samples before this are in blocks.
    pub min_valid_time: AtomicI64,
}

/// What opening a head met.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// What could not be used.
    pub losses: Vec<Loss>,
    /// Samples that were read from the logs.
    pub samples: u64,
    /// Samples of series that are not known.
    pub unknown_series: u64,
}

impl Head {
    /// Opens the head of a data directory (whose lock the caller holds) for appending: loads what is there, mends the
    /// logs, begins a new segment. `min_valid_time` is the end of the newest block made of in-order samples.
    ///
    /// # Errors
    /// If a file cannot be read or written, or the memory limit does not suffice.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LiveOptions,
        min_valid_time: i64,
        control: &Control,
    ) -> Result<(Arc<Self>, LoadReport), StorageError> {
        let _ = (disk, dir, options, min_valid_time, control);
        todo!()
    }

    /// The shard of a series.
    #[inline]
    pub fn shard_of(&self, id: SeriesId) -> &Mutex<Shard> {
        &self.shards[(id.0 >> 8) as usize % self.shards.len()]
    }

    /// What decides about samples right now.
    pub fn bounds(&self) -> Bounds {
        let head_max_ms = self.max_time.load(Ordering::Acquire);
        let floor = self.min_valid_time.load(Ordering::Acquire);
        Bounds {
            min_valid_ms: head_max_ms.saturating_sub(self.options.rules.chunk_range_ms / 2).max(floor),
            head_max_ms,
            window_ms: self.options.out_of_order_window_ms,
        }
    }

    /// Seals nothing, makes everything durable, writes a snapshot if told to.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn close(&self) -> Result<(), StorageError> {
        todo!()
    }
}
