//! Raw and downsampled blocks of the same data: which belong together, and how they are queried as one.
//!
//! Blocks belong together if they are of one directory (`<DIR>/downsampled` belongs to `<DIR>`) and have the same external
//! labels. Within such a stream each time is answered from one resolution.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tsdbctl_storage::tiered::WINDOWS_BEFORE;
use tsdbctl_storage::{Control, Coverage, MergedQuerier, Source, StorageError, TieredQuerier};

use crate::blocks::{BlockEntry, DOWNSAMPLED};

/// Blocks with one of these belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stream {
    root: PathBuf,
    labels: BTreeMap<String, String>,
}

impl Stream {
    /// The stream of a data directory's head.
    pub(crate) fn of_head(dir: &Path) -> Self {
        Self { root: dir.to_owned(), labels: BTreeMap::new() }
    }

    /// The stream of a block.
    pub(crate) fn of_block(entry: &BlockEntry) -> Self {
        let parent = entry.dir.parent().unwrap_or(Path::new(""));
        let inner = parent.file_name().is_some_and(|name| name == DOWNSAMPLED);
        let root = if inner { parent.parent().unwrap_or(Path::new("")) } else { parent };
        let labels = entry.meta.thanos.as_ref().map(|t| t.labels.clone()).unwrap_or_default();
        Self { root: root.to_owned(), labels }
    }
}

/// Raw samples that are open.
pub(crate) struct Raw {
    pub(crate) stream: Stream,
    pub(crate) source: Source,
    /// Late or chosen samples only, which say nothing about what else there is of their time.
    pub(crate) is_partial: bool,
}

impl Raw {
    /// An open block.
    pub(crate) fn of_block(entry: &BlockEntry) -> Result<Self, StorageError> {
        Ok(Self {
            stream: Stream::of_block(entry),
            source: source(entry)?,
            is_partial: !entry.meta.is_in_order(),
        })
    }
}

fn source(entry: &BlockEntry) -> Result<Source, StorageError> {
    let (mint, maxt) = (entry.meta.min_time, entry.meta.max_time.saturating_sub(1));
    Ok(Source { querier: Box::new(entry.block()?.querier()), mint, maxt })
}

/// The sources of `mint..=maxt` (Unix ms): those of `raw`, in their order, and the downsampled blocks. Streams that have
/// none of these are left as they are.
pub(crate) fn with_downsampled(
    raw: Vec<Raw>,
    downsampled: &[BlockEntry],
    mint: i64,
    maxt: i64,
    control: &Control,
) -> Result<Vec<Source>, StorageError> {
    let mut tiers: BTreeMap<Stream, BTreeMap<i64, Vec<Source>>> = BTreeMap::new();
    for entry in downsampled {
        let resolution = entry.meta.resolution_ms();
        if !entry.meta.overlaps(mint.saturating_sub(resolution.saturating_mul(WINDOWS_BEFORE)), maxt) {
            continue;
        }
        control.check("block opening")?;
        let tier = tiers.entry(Stream::of_block(entry)).or_default();
        tier.entry(resolution).or_default().push(source(entry)?);
    }
    let mut out = Vec::new();
    let mut streams: BTreeMap<Stream, (Vec<Source>, [Coverage; 2])> = BTreeMap::new();
    for Raw { stream, source, is_partial } in raw {
        if !tiers.contains_key(&stream) {
            out.push(source);
            continue;
        }
        let (sources, coverage) = streams.entry(stream).or_default();
        // An empty head has no times.
        if source.mint != i64::MAX {
            coverage[usize::from(is_partial)].ranges.push((source.mint, source.maxt.saturating_add(1)));
        }
        sources.push(source);
    }
    for (stream, tiers) in tiers {
        let (raw, [all, mut some]) = streams.remove(&stream).unwrap_or_default();
        some.partial = true;
        let mut coverage = vec![all, some];
        for (resolution_ms, sources) in &tiers {
            let ranges = sources.iter().map(|s| (s.mint, s.maxt.saturating_add(1))).collect();
            coverage.push(Coverage { resolution_ms: *resolution_ms, ranges, partial: false });
        }
        let ranges = || coverage.iter().flat_map(|c| &c.ranges);
        let mint = ranges().map(|r| r.0).min().unwrap_or(i64::MAX);
        let maxt = ranges().map(|r| r.1.saturating_sub(1)).max().unwrap_or(i64::MAX);
        let querier = TieredQuerier::new(MergedQuerier::new(raw), tiers.into_iter().collect(), coverage);
        out.push(Source { querier: Box::new(querier), mint, maxt });
    }
    Ok(out)
}
