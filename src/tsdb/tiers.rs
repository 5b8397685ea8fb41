//! Raw and downsampled blocks of the same data: which belong together, and how they are queried as one.
//!
//! Blocks belong together if they are of one directory (`<DIR>/downsampled` belongs to `<DIR>`) and have the same external
//! labels. Within such a stream each time is answered from one resolution.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The times of which they are all there is, end exclusive. Outside of it they came late, and say nothing about what else
    /// there is of their time.
    pub(crate) covers: Option<(i64, i64)>,
    /// The same once more, of late ones.
    pub(crate) late: Option<Source>,
}

/// Whether a raw block has late samples alone: it says so, or the windows of its time were made of other blocks.
fn is_late(entry: &BlockEntry, downsampled: &[&BlockEntry]) -> bool {
    if !entry.meta.is_in_order() {
        return true;
    }
    let stream = Stream::of_block(entry);
    let mut overlapping = downsampled
        .iter()
        .filter(|d| d.meta.overlaps(entry.meta.min_time, entry.meta.max_time.saturating_sub(1)))
        .filter(|d| Stream::of_block(d) == stream)
        .peekable();
    let is_of = |d: &BlockEntry| sources(d).any(|s| sources(entry).any(|own| own == s));
    overlapping.peek().is_some() && !overlapping.any(|d| is_of(d))
}

impl Raw {
    /// An open block, beside all that is downsampled.
    pub(crate) fn of_block(entry: &BlockEntry, downsampled: &[&BlockEntry]) -> Result<Self, StorageError> {
        let is_late = is_late(entry, downsampled);
        Ok(Self {
            stream: Stream::of_block(entry),
            source: source(entry)?,
            covers: (!is_late).then_some((entry.meta.min_time, entry.meta.max_time)),
            late: if is_late { Some(source(entry)?) } else { None },
        })
    }

    /// An open head; `covers` as the field.
    pub(crate) fn of_head(stream: Stream, source: Source, covers: Option<(i64, i64)>) -> Self {
        Self { stream, source, covers, late: None }
    }
}

fn sources(entry: &BlockEntry) -> impl Iterator<Item = &str> {
    entry.meta.compaction.sources.iter().map(|s| &**s)
}

fn source(entry: &BlockEntry) -> Result<Source, StorageError> {
    let (mint, maxt) = (entry.meta.min_time, entry.meta.max_time.saturating_sub(1));
    Ok(Source { querier: Box::new(entry.block()?.querier()), mint, maxt })
}

/// What there is of one stream.
#[derive(Default)]
struct Found {
    raw: Vec<Source>,
    late: Vec<Source>,
    covered: Vec<(i64, i64)>,
    everything: Vec<(i64, i64)>,
}

impl Found {
    fn add(&mut self, raw: Raw) {
        self.covered.extend(raw.covers);
        // An empty head has no times.
        if raw.source.mint != i64::MAX {
            self.everything.push((raw.source.mint, raw.source.maxt.saturating_add(1)));
        }
        self.raw.push(raw.source);
        self.late.extend(raw.late);
    }
}

/// The times of a downsampled block between raw blocks if these are all it was made of, or the newest ones of those: where
/// there are no raw samples between them, nothing was scraped.
fn known_raw(entry: &BlockEntry, raw: &[&BlockEntry]) -> Option<(i64, i64)> {
    let (start, end) = (entry.meta.min_time, entry.meta.max_time);
    let made_of: BTreeSet<&str> = raw.iter().flat_map(|r| sources(r)).collect();
    let first = made_of.first()?;
    if sources(entry).any(|s| !made_of.contains(s) && s >= *first) {
        return None;
    }
    let inside = || raw.iter().filter(|r| r.meta.min_time < end && r.meta.max_time > start);
    let (from, to) = (inside().map(|r| r.meta.min_time).min()?, inside().map(|r| r.meta.max_time).max()?);
    Some((from.max(start), to.min(end)))
}

/// How far in front of the times asked for raw blocks are to be open, ms.
pub(crate) fn reach_back(downsampled: &[&BlockEntry]) -> i64 {
    let coarsest = downsampled.iter().map(|d| d.meta.resolution_ms()).max().unwrap_or(0);
    coarsest.saturating_mul(WINDOWS_BEFORE)
}

/// The sources of `mint..=maxt` (Unix ms): those of `raw`, in their order, and the downsampled blocks. Streams that have
/// none of these are left as they are. `blocks` are all raw ones there are, open or not.
pub(crate) fn with_downsampled(
    raw: Vec<Raw>,
    blocks: &[&BlockEntry],
    downsampled: &[&BlockEntry],
    mint: i64,
    maxt: i64,
    control: &Control,
) -> Result<Vec<Source>, StorageError> {
    let mut tiers: BTreeMap<Stream, BTreeMap<i64, Vec<&BlockEntry>>> = BTreeMap::new();
    for entry in downsampled {
        let resolution = entry.meta.resolution_ms();
        if !entry.meta.overlaps(mint.saturating_sub(resolution.saturating_mul(WINDOWS_BEFORE)), maxt) {
            continue;
        }
        let tier = tiers.entry(Stream::of_block(entry)).or_default();
        tier.entry(resolution).or_default().push(entry);
    }
    let mut out = Vec::new();
    let mut streams: BTreeMap<Stream, Found> = BTreeMap::new();
    for raw in raw {
        if tiers.contains_key(&raw.stream) {
            streams.entry(raw.stream.clone()).or_default().add(raw);
        } else {
            out.push(raw.source);
        }
    }
    for (stream, tiers) in tiers {
        let mut found = streams.remove(&stream).unwrap_or_default();
        let own = blocks.iter().copied().filter(|b| Stream::of_block(b) == stream);
        let own: Vec<&BlockEntry> = own.filter(|b| !is_late(b, downsampled)).collect();
        found.covered.extend(tiers.values().flatten().filter_map(|entry| known_raw(entry, &own)));
        let Found { raw, late, covered, everything, .. } = found;
        let of = |ranges, partial| Coverage { resolution_ms: 0, ranges, partial };
        let mut coverage = vec![of(covered, false), of(everything, true)];
        let mut open: Vec<(i64, Vec<Source>)> = Vec::with_capacity(tiers.len());
        for (resolution_ms, entries) in tiers {
            control.check("block opening")?;
            let sources = entries.into_iter().map(source).collect::<Result<Vec<_>, _>>()?;
            let ranges = sources.iter().map(|s| (s.mint, s.maxt.saturating_add(1))).collect();
            coverage.push(Coverage { resolution_ms, ranges, partial: false });
            open.push((resolution_ms, sources));
        }
        let ranges = || coverage.iter().flat_map(|c| &c.ranges);
        let mint = ranges().map(|r| r.0).min().unwrap_or(i64::MAX);
        let maxt = ranges().map(|r| r.1.saturating_sub(1)).max().unwrap_or(i64::MAX);
        let querier = TieredQuerier::new(MergedQuerier::new(raw), open, coverage).with_late(late);
        out.push(Source { querier: Box::new(querier), mint, maxt });
    }
    Ok(out)
}
