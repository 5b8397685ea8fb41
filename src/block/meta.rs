//! `meta.json`: what a block says about itself. Unknown fields are tolerated, and kept when it is written again. Written
//! as upstream does: JSON, indented by tabs, fields without a value left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tsdbctl_platform::disk::{Access, Disk, write_all_at};
use tsdbctl_platform::file::{self, FileError};
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Loss, StorageError};
use ulid::Ulid;

/// The file's name in a block's directory.
pub const FILE_NAME: &str = "meta.json";

/// A block compacted from out-of-order samples.
pub const HINT_OUT_OF_ORDER: &str = "from-out-of-order";
/// A block compacted from series that went stale.
pub const HINT_STALE_SERIES: &str = "from-stale-series";
/// A block compacted from chosen series.
pub const HINT_SELECTED_SERIES: &str = "from-selected-series";

/// The content of a `meta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block's identifier.
    pub ulid: String,
    /// Earliest sample time, Unix ms, inclusive.
    pub min_time: i64,
    /// End of the block's range, Unix ms, exclusive.
    pub max_time: i64,
    /// Counts.
    #[serde(default)]
    pub stats: BlockStats,
    /// How the block came to be.
    #[serde(default)]
    pub compaction: Compaction,
    /// 1; 2 was written by a release whose index files say 1 where they are of version 2.
    #[serde(default)]
    pub version: i64,
    /// What Thanos adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<Thanos>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What Thanos adds (its `pkg/block/metadata`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thanos {
    /// External labels, sorted by name.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Resolution.
    pub downsample: Downsample,
    /// Who made the block: `sidecar`, `compactor`, `ruler`, `tsdbctl` …
    pub source: String,
    /// Names of the chunk files.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// Files and their sizes.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ThanosFile>,
    /// Sizes that readers may count on.
    pub index_stats: IndexStats,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How far a block's samples are downsampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Downsample {
    /// Length of a window, ms; 0 in raw blocks.
    pub resolution: i64,
}

/// A file of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosFile {
    /// Its path in the block, `/` between the parts.
    pub rel_path: String,
    /// Bytes; not said of `meta.json`.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Largest sizes in a block, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexStats {
    /// Of a series entry.
    #[serde(skip_serializing_if = "is_zero")]
    pub series_max_size: i64,
    /// Of a chunk.
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_max_size: i64,
}

fn is_zero<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}

/// Counts of a block's content; 0 where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Samples of all kinds.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Native histogram samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deleted intervals.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// A block in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockDescription {
    /// The block's identifier.
    pub ulid: String,
    /// Earliest sample time, Unix ms.
    pub min_time: i64,
    /// End of its range, Unix ms, exclusive.
    pub max_time: i64,
}

/// How a block came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// Most compactions any source went through.
    pub level: i64,
    /// All blocks of level 1 that went into this one.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The block has no samples and is to be deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub deletable: bool,
    /// The blocks this one was made of, and replaces.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockDescription>,
    /// Compacting this block failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: bool,
    /// See the `HINT_` constants.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

fn null_is_default<'de, D, T>(de: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(de)?.unwrap_or_default())
}

impl BlockMeta {
    /// Reads the `meta.json` of a block's directory.
    ///
    /// # Errors
    /// If it cannot be read, is no JSON of this shape, or is of an unknown version.
    pub fn read(block_dir: &Path) -> Result<Self, StorageError> {
        let path = block_dir.join(FILE_NAME);
        let bytes = file::read(&path)?;
        let meta: Self = serde_json::from_slice(&bytes).map_err(|e| {
            StorageError::Corrupt(Loss {
                offset: offset_of(&bytes, e.line(), e.column()),
                reason: format!("not a block's meta.json: {e}"),
                file: path.clone(),
            })
        })?;
        if !(1..=2).contains(&meta.version) {
            return Err(StorageError::Unsupported {
                file: path,
                reason: format!("block version {} is not supported, only 1 and 2 are", meta.version),
            });
        }
        Ok(meta)
    }

    /// A block that is not made of others, of level 1.
    pub fn new(ulid: String, min_time: i64, max_time: i64) -> Self {
        let compaction = Compaction { level: 1, sources: vec![ulid.clone()], ..Compaction::default() };
        let (stats, version, thanos, other) = (BlockStats::default(), 1, None, Map::new());
        Self { ulid, min_time, max_time, stats, compaction, version, thanos, other }
    }

    /// What a block says that has this one's samples in windows of `resolution_ms`, counts and files left out. As Thanos, it
    /// keeps where the samples came from, and of the counts those of raw samples of each kind.
    pub fn downsampled(&self, ulid: String, resolution_ms: i64) -> Self {
        let before = self.thanos.clone().unwrap_or_default();
        let thanos = Thanos {
            labels: before.labels,
            downsample: Downsample { resolution: resolution_ms },
            source: "tsdbctl".to_string(),
            other: before.other.into_iter().filter(|(name, _)| name != "upload_time").collect(),
            ..Thanos::default()
        };
        Self { ulid, thanos: Some(thanos), ..self.clone() }
    }

    /// The content of the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut to = serde_json::Serializer::with_formatter(&mut out, format);
        // A map of strings in memory always can be written.
        let _ = self.serialize(&mut to);
        out
    }

    /// Writes the `meta.json` of a block that is being made, and makes its content durable; its name is the caller's.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_new(&self, disk: &dyn Disk, block_dir: &Path) -> Result<(), FileError> {
        let file = disk.open(&block_dir.join(FILE_NAME), Access::Truncate)?;
        write_all_at(&*file, &self.to_json(), 0)?;
        file.sync_data()
    }

    /// Replaces the `meta.json` of a block: whatever crash comes, there is the old one or this.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn replace(&self, disk: &dyn Disk, block_dir: &Path) -> Result<(), FileError> {
        file::replace(disk, &block_dir.join(FILE_NAME), &self.to_json())
    }

    /// Length of the windows its samples are aggregated over, ms; 0 if they are raw.
    pub fn resolution_ms(&self) -> i64 {
        self.thanos.as_ref().map_or(0, |t| t.downsample.resolution)
    }

    /// Whether a sample in `mint..=maxt` can be in the block.
    pub fn overlaps(&self, mint: i64, maxt: i64) -> bool {
        self.min_time <= maxt && mint < self.max_time
    }

    /// Whether the block's end is the start of what the head holds: no block made of late, stale or chosen series.
    pub fn is_in_order(&self) -> bool {
        !self
            .compaction
            .hints
            .iter()
            .any(|h| matches!(h.as_str(), HINT_OUT_OF_ORDER | HINT_STALE_SERIES | HINT_SELECTED_SERIES))
    }
}

fn offset_of(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize = bytes.split(|b| *b == b'\n').take(line.saturating_sub(1)).map(|l| l.len() + 1).sum();
    (before + column.saturating_sub(1)) as u64
}

/// A new block identifier (ULID): the time, and random bits.
///
/// # Errors
/// If there is no randomness.
pub fn new_ulid(world: &World) -> Result<String, FileError> {
    let mut random = [0; 16];
    world.random.fill(&mut random[..10])?;
    let now_ms = u64::try_from(world.clock.now_ms()).unwrap_or(0);
    Ok(Ulid::from_parts(now_ms, u128::from_le_bytes(random)).to_string())
}

/// Whether `name` is a block identifier: 26 letters of Crockford's base 32, 128 bits.
pub fn is_ulid(name: &str) -> bool {
    name.len() == 26
        && name.as_bytes()[0] <= b'7'
        && name.bytes().all(|b| {
            b.is_ascii_alphanumeric() && !matches!(b.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_nulls_are_tolerated() {
        let text = r#"{"ulid":"01BKGTZQ1SYQJTR4PB43C8PD98","minTime":-5,"maxTime":10,"new":[1],"version":1,
            "stats":{"numSamples":3,"x":1},"compaction":{"level":2,"sources":null,"parents":null,"hints":["from-out-of-order"]},
            "thanos":{"downsample":{"resolution":300000}}}"#;
        let m: BlockMeta = serde_json::from_str(text).unwrap();
        assert_eq!((m.min_time, m.max_time, m.stats.num_samples, m.compaction.level), (-5, 10, 3, 2));
        assert!(!m.is_in_order());
        assert!(m.overlaps(9, 20) && !m.overlaps(10, 20) && m.overlaps(-9, -5) && !m.overlaps(-9, -6));
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "{\n\"ulid\": x}").unwrap();
        let Err(StorageError::Corrupt(loss)) = BlockMeta::read(dir.path()) else { panic!() };
        assert_eq!(loss.offset, 10);
        std::fs::write(dir.path().join(FILE_NAME), r#"{"ulid":"a","minTime":0,"maxTime":0,"version":3}"#)
            .unwrap();
        assert!(matches!(BlockMeta::read(dir.path()), Err(StorageError::Unsupported { .. })));
    }

    #[test]
    fn only_identifiers_are_blocks() {
        for (name, want) in [
            ("01BKGTZQ1SYQJTR4PB43C8PD98", true),
            ("01BKGTZQ1SYQJTR4PB43C8PD98.tmp-for-creation", false),
            ("81BKGTZQ1SYQJTR4PB43C8PD98", false),
            ("01BKGTZQ1SYQJTR4PB43C8PDI8", false),
            ("wal", false),
        ] {
            assert_eq!(is_ulid(name), want, "{name}");
        }
    }
}
