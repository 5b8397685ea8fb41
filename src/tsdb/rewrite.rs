//! Data directories written anew into another one: merged, cut to a range and to chosen series, with other labels. Inputs
//! are only read, heads included. Of samples of one series at one time, that of the first input is kept.
//!
//! The result is blocks in aligned ranges, as large as upstream's compaction would make them in the end; each appears
//! whole or not at all. A block carries a fingerprint of what it was made from, so that a second run after an
//! interruption makes only those that are missing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tsdbctl_block::meta::{HINT_OUT_OF_ORDER, new_ulid};
use tsdbctl_block::{
    Block, BlockMeta, BlockSource, BlockWriter, Conflicts, MergedSource, RelabelError, Relabelled,
    Relabelling, WriterOptions,
};
use tsdbctl_head::{HeadOptions, ReadHead};
use tsdbctl_model::Matcher;
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_platform::file;
use tsdbctl_platform::lock::DirLock;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, Querier, QuerierSource, SeriesTable, StorageError};

use crate::blocks::{BlockEntry, Listing, is_block, without_raw};
use crate::live::{make_dumpable, take_directory};

/// Where a block says what it was made from.
const FINGERPRINT: &str = "tsdbctl";
/// How often a directory is listed anew because a running server made or removed blocks meanwhile.
const ATTEMPTS: usize = 4;
/// More blocks than this point to a sample with a wrong time.
const WINDOWS_MAX: usize = 10_000;

/// A data directory or block to be read, and what becomes of its labels.
#[derive(Debug)]
pub struct Input {
    path: PathBuf,
    /// What becomes of its labels.
    pub relabelling: Relabelling,
    blocks: Vec<Arc<Block>>,
    head: Option<Head>,
    only_downsampled: Vec<(PathBuf, i64, i64)>,
}

struct Head {
    head: ReadHead,
    first: i64,
    last: i64,
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("first", &self.first).field("last", &self.last).finish_non_exhaustive()
    }
}

/// What of the inputs is wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Earliest and latest sample time, Unix ms, both inclusive.
    pub range: (i64, i64),
    /// Series that satisfy all matchers of one of these; all if there are none.
    pub selections: Vec<Vec<Matcher>>,
}

impl Input {
    /// Opens a data directory, a server's or an agent's, or a single block. It may be in use.
    ///
    /// # Errors
    /// If it is neither, or something in it is damaged, or its head does not fit into memory.
    pub fn open(path: &Path, wanted: &Wanted, control: &Control) -> Result<Self, StorageError> {
        let mut attempt = 1;
        loop {
            let (found, seen) = Self::read(path, wanted, control);
            let outdated = match &found {
                Ok(_) => Listing::is_outdated(path, &seen).unwrap_or(false),
                Err(StorageError::File(e)) => e.is_not_found(),
                Err(StorageError::Corrupt(_)) => Listing::is_outdated(path, &seen).unwrap_or(false),
                Err(_) => false,
            };
            if !outdated || (attempt == ATTEMPTS && found.is_err()) {
                return found;
            }
            if attempt == ATTEMPTS {
                let reason = format!(
                    "a running server made new blocks each of the {ATTEMPTS} times it was read; run the command again"
                );
                return Err(StorageError::Unsupported { file: path.to_owned(), reason });
            }
            attempt += 1;
        }
    }

    fn read(
        path: &Path,
        wanted: &Wanted,
        control: &Control,
    ) -> (Result<Self, StorageError>, HashSet<String>) {
        let mut seen = HashSet::new();
        let found = Self::read_listing(path, wanted, control, &mut seen);
        (found, seen)
    }

    fn read_listing(
        path: &Path,
        wanted: &Wanted,
        control: &Control,
        seen: &mut HashSet<String>,
    ) -> Result<Self, StorageError> {
        // What it is not is told as everywhere.
        crate::Database::open(&[path.to_owned()], crate::OpenOptions::default())?;
        let (mint, maxt) = wanted.range;
        let mut input = Self {
            path: path.to_owned(),
            relabelling: Relabelling::default(),
            blocks: Vec::new(),
            head: None,
            only_downsampled: Vec::new(),
        };
        let mut listed = Vec::new();
        let mut downsampled = Vec::new();
        let mut min_valid_time = None;
        if is_block(path) {
            listed.push(BlockEntry::read(path)?);
            seen.extend(path.file_name().map(|n| n.to_string_lossy().into_owned()));
        } else {
            let listing = Listing::of(path, false)?;
            min_valid_time = Some(listing.in_order_end());
            seen.clone_from(&listing.seen);
            (listed, downsampled) = (listing.live, listing.downsampled);
        }
        let (mut raw, coarse): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|e| e.meta.resolution_ms() == 0);
        for entry in coarse.iter().chain(&downsampled) {
            for (start, end) in without_raw(&entry.meta, raw.iter().map(|e| &e.meta)) {
                if start <= maxt && mint < end {
                    input.only_downsampled.push((entry.dir.clone(), start, end));
                }
            }
        }
        raw.retain(|e| e.meta.overlaps(mint, maxt));
        input.blocks = raw.iter().map(BlockEntry::block).collect::<Result<_, _>>()?;
        let Some(min_valid_time) = min_valid_time else { return Ok(input) };
        if !file::is_dir(&path.join("wal")) {
            return Ok(input);
        }
        let options =
            HeadOptions { min_valid_time, selections: &wanted.selections, mint, maxt, tolerant: false };
        if let Some(head) = ReadHead::open(path, &options, control)?
            && let Some((first, last)) = head.times()
        {
            input.head = Some(Head { head, first, last });
        }
        Ok(input)
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of blocks with samples in the range.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Downsampled blocks, and times of theirs, end exclusive, of which no raw samples are left. They are left out.
    pub fn only_downsampled(&self) -> &[(PathBuf, i64, i64)] {
        &self.only_downsampled
    }

    /// Names of its labels.
    ///
    /// # Errors
    /// If an index is damaged.
    pub fn label_names(&self, control: &Control) -> Result<HashSet<String>, StorageError> {
        let mut names = HashSet::new();
        for block in &self.blocks {
            names.extend(block.querier().label_names(&[], control)?);
        }
        if let Some(Head { head, .. }) = &self.head {
            names.extend(head.label_names(&[], control)?);
        }
        Ok(names)
    }

    /// Times that samples may have: start inclusive, end exclusive.
    fn extents(&self, range: (i64, i64)) -> impl Iterator<Item = (i64, i64)> {
        let blocks = self.blocks.iter().map(|b| (b.meta().min_time, b.meta().max_time));
        let head = self.head.iter().map(|h| (h.first, h.last.saturating_add(1)));
        let clip = move |(start, end): (i64, i64)| (start.max(range.0), end.min(range.1.saturating_add(1)));
        blocks.chain(head).map(clip).filter(|(start, end)| start < end)
    }

    /// Adds its sources of samples in `mint..=maxt`.
    fn add_sources(
        &self,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
        out: &mut Vec<Box<dyn ChunkSource>>,
    ) -> Result<(), RewriteError> {
        let mut add = |source: Box<dyn SeriesTable>| {
            out.push(if self.relabelling.is_none() {
                source as Box<dyn ChunkSource>
            } else {
                Box::new(Relabelled::new(source, &self.relabelling, control)?)
            });
            Ok::<(), RewriteError>(())
        };
        if let Some(Head { head, first, last }) = &self.head
            && *first <= maxt
            && mint <= *last
        {
            let source = QuerierSource::new(&self.path, head, mint, maxt, selections, control)?;
            add(Box::new(source))?;
        }
        let everything = [Vec::new()];
        for block in self.blocks.iter().filter(|b| b.meta().overlaps(mint, maxt)) {
            let whole = mint <= block.meta().min_time && block.meta().max_time.saturating_sub(1) <= maxt;
            let block = Arc::clone(block);
            let source = if selections.is_empty() && whole {
                BlockSource::new(block, mint, maxt)?
            } else {
                // Strings of series that are left out are left out too.
                let selections = if selections.is_empty() { &everything } else { selections };
                BlockSource::select(block, mint, maxt, selections, control)?
            };
            add(Box::new(source))?;
        }
        Ok(())
    }

    /// What makes two runs the same, as far as samples of `mint..=maxt` go.
    fn describe(&self, mint: i64, maxt: i64) -> serde_json::Value {
        let blocks: Vec<&str> = self
            .blocks
            .iter()
            .filter(|b| b.meta().overlaps(mint, maxt))
            .map(|b| b.meta().ulid.as_str())
            .collect();
        let head = self.head.iter().filter(|h| h.first <= maxt && mint <= h.last);
        let head: Vec<(i64, i64)> = head.map(|h| (h.first.max(mint), h.last.min(maxt))).collect();
        let r = &self.relabelling;
        let pseudonyms = r.pseudonyms.as_ref().map(|p| p.fingerprint());
        json!([blocks, head, r.renamed, r.added, pseudonyms])
    }
}

/// The directory that is written to.
#[derive(Debug)]
pub struct Target {
    dir: PathBuf,
    blocks: Vec<BlockEntry>,
    /// Times of the first and the last sample of its head.
    head: Option<(i64, i64)>,
    _lock: DirLock,
}

impl Target {
    /// Locks a directory, which is made if it does not exist, and removes what an interrupted run left half made.
    ///
    /// # Errors
    /// If somebody else has it, or it cannot be read or written.
    pub fn open(world: &World, dir: &Path, control: &Control) -> Result<Self, StorageError> {
        let lock = take_directory(&*world.disk, dir)?;
        let listing = Listing::of(dir, false)?;
        let options = HeadOptions { min_valid_time: listing.in_order_end(), ..HeadOptions::default() };
        let head = match file::is_dir(&dir.join("wal")) {
            true => ReadHead::open(dir, &options, control)?.and_then(|h| h.times()),
            false => None,
        };
        Ok(Self { dir: dir.to_owned(), blocks: listing.live, head, _lock: lock })
    }
}

/// How it is written.
#[derive(Clone, Debug)]
pub struct RewriteOptions {
    /// Ranges of blocks, ms, ascending; see `tsdbctl_block::plan::block_ranges`.
    pub ranges: Vec<i64>,
    /// Blocks may be made where the directory has samples already.
    pub allow_overlap: bool,
    /// How blocks are written.
    pub writer: WriterOptions,
}

/// Why directories cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// Reading or writing failed, or was interrupted.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Labels cannot be changed so.
    #[error(transparent)]
    Relabel(#[from] RelabelError),
    /// The target has a block there already.
    #[error(
        "{} has samples of that time already ({what} from {} to {}); give an empty directory, remove what is there, or allow the overlap with --allow-overlap",
        dir.display(), format_rfc3339_ms(*start), format_rfc3339_ms(*end)
    )]
    Overlap {
        /// The target.
        dir: PathBuf,
        /// What has them.
        what: String,
        /// Start of what they share, Unix ms.
        start: i64,
        /// End of what they share, exclusive.
        end: i64,
    },
    /// The samples lie far apart.
    #[error(
        "samples from {} to {} would need more than {WINDOWS_MAX} blocks; some have a wrong time: give the range with --start and --end, or a longer --max-block-duration",
        format_rfc3339_ms(*start), format_rfc3339_ms(*end)
    )]
    TooLong {
        /// The first sample's time, Unix ms.
        start: i64,
        /// The last one's, exclusive.
        end: i64,
    },
}

/// A block of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Start of its aligned range, Unix ms.
    pub start: i64,
    /// End of its aligned range, exclusive.
    pub end: i64,
    /// Times that its samples may have, end exclusive.
    extent: (i64, i64),
    fingerprint: String,
    /// Whether an earlier run made it.
    pub is_done: bool,
}

/// What is to be written where, checked against what is there.
#[derive(Debug)]
pub struct Rewrite<'a> {
    inputs: &'a [Input],
    wanted: &'a Wanted,
    target: &'a Target,
    options: RewriteOptions,
    windows: Vec<Window>,
    conflicts: Arc<Conflicts>,
}

impl<'a> Rewrite<'a> {
    /// Decides on the blocks. Nothing is written.
    ///
    /// # Errors
    /// If the target has samples of those times already, or there would be too many blocks.
    pub fn plan(
        inputs: &'a [Input],
        wanted: &'a Wanted,
        target: &'a Target,
        options: RewriteOptions,
    ) -> Result<Self, RewriteError> {
        let mut extents: Vec<(i64, i64)> = inputs.iter().flat_map(|i| i.extents(wanted.range)).collect();
        extents.sort_unstable();
        let ranges = windows(&extents, &options.ranges)?;
        let selections: Vec<Vec<String>> =
            wanted.selections.iter().map(|s| s.iter().map(ToString::to_string).collect()).collect();
        let mut planned = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            let inside = extents.iter().filter(|e| e.0 < end && start < e.1);
            let extent = inside.fold((i64::MAX, i64::MIN), |a, e| (a.0.min(e.0), a.1.max(e.1)));
            let extent = (extent.0.max(start), extent.1.min(end));
            let (mint, maxt) = (extent.0, extent.1 - 1);
            let described: Vec<_> = inputs.iter().map(|i| i.describe(mint, maxt)).collect();
            let description = json!([1, start, end, mint, maxt, selections, described]).to_string();
            let fingerprint = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(description.as_bytes()));
            let is_done = target.blocks.iter().any(|b| fingerprint_of(&b.meta) == Some(&fingerprint));
            planned.push(Window { start, end, extent, fingerprint, is_done });
        }
        let plan = Self { inputs, wanted, target, options, windows: planned, conflicts: Arc::default() };
        if !plan.options.allow_overlap {
            plan.check_overlap()?;
        }
        Ok(plan)
    }

    fn check_overlap(&self) -> Result<(), RewriteError> {
        let head = self.target.head.iter().map(|(first, last)| ("its head", *first, last.saturating_add(1)));
        let there =
            self.target.blocks.iter().map(|b| (b.meta.ulid.as_str(), b.meta.min_time, b.meta.max_time));
        let there: Vec<_> = head.chain(there).collect();
        for window in self.windows.iter().filter(|w| !w.is_done) {
            for (what, from, to) in &there {
                let (start, end) = (window.extent.0.max(*from), window.extent.1.min(*to));
                if start < end {
                    let what = if *what == "its head" { (*what).to_owned() } else { format!("block {what}") };
                    let dir = self.target.dir.clone();
                    return Err(RewriteError::Overlap { dir, what, start, end });
                }
            }
        }
        Ok(())
    }

    /// The blocks of the result, by time.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Samples that an earlier input had one for at the same time, in the blocks written so far.
    pub fn conflicts(&self) -> &Conflicts {
        &self.conflicts
    }

    /// Writes a block; of samples at one time that of the first input is kept. `None` if there turn out to be no samples. `each` is called for each series.
    ///
    /// # Errors
    /// If something cannot be read or written, or the work is to stop. Nothing is left of the block then.
    pub fn write(
        &self,
        window: &Window,
        world: &World,
        control: &Control,
        each: &mut dyn FnMut(),
    ) -> Result<Option<BlockMeta>, RewriteError> {
        let (mint, maxt) = (window.extent.0, window.extent.1 - 1);
        let mut sources: Vec<Box<dyn ChunkSource>> = Vec::new();
        for input in self.inputs {
            let mut own = Vec::new();
            input.add_sources(mint, maxt, &self.wanted.selections, control, &mut own)?;
            if !own.is_empty() {
                sources.push(Box::new(MergedSource::new(own)?));
            }
        }
        let mut source = MergedSource::first_wins(sources, Arc::clone(&self.conflicts))?;
        let ulid = new_ulid(world).map_err(StorageError::from)?;
        let mut writer =
            BlockWriter::create(Arc::clone(&world.disk), &self.target.dir, &ulid, self.options.writer)?;
        source.symbols(&mut |s| writer.add_symbol(s))?;
        let mut chunks = ChunkBatch::default();
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        while source.next()? {
            control.check("writing a block").map_err(StorageError::from)?;
            chunks.clear();
            source.chunks(&mut chunks)?;
            for chunk in chunks.iter() {
                first = first.min(chunk.mint);
                last = last.max(chunk.maxt);
            }
            writer.add_series(source.labels(), &chunks)?;
            each();
        }
        // The range ends behind the last sample: what ends later would keep a server from taking new ones.
        let mut meta = BlockMeta::new(ulid, first, last.saturating_add(1));
        meta.other.insert(FINGERPRINT.to_owned(), json!({ "madeFrom": window.fingerprint }));
        if self.target.head.is_some_and(|(first, _)| first <= last) {
            // Else a server would take what its head holds up to the end of this block for stored in blocks.
            meta.compaction.hints.push(HINT_OUT_OF_ORDER.to_owned());
        }
        let written = writer.finish_under(meta, control)?;
        if written.is_some() {
            make_dumpable(&*world.disk, &self.target.dir)?;
        }
        Ok(written)
    }
}

/// What a block says it was made from.
fn fingerprint_of(meta: &BlockMeta) -> Option<&str> {
    meta.other.get(FINGERPRINT)?.get("madeFrom")?.as_str()
}

/// Aligned ranges that hold all extents (sorted by start): the largest ones that end where all samples do, or before;
/// smaller ones behind.
fn windows(extents: &[(i64, i64)], ranges: &[i64]) -> Result<Vec<(i64, i64)>, RewriteError> {
    let (Some(start), Some(end)) = (extents.iter().map(|e| e.0).min(), extents.iter().map(|e| e.1).max())
    else {
        return Ok(Vec::new());
    };
    let Some(base) = ranges.first() else { return Ok(Vec::new()) };
    let floor = |t: i64, range: i64| t.div_euclid(range).saturating_mul(range);
    // Where a further block of the smallest range would begin.
    let limit = floor(end.saturating_sub(1), *base).saturating_add(*base);
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (from, to) in extents {
        let mut at = *from;
        if let Some(last) = out.last() {
            at = at.max(last.1);
        }
        while at < *to {
            let range = ranges.iter().rev().find(|r| {
                let start = floor(at, **r);
                start.saturating_add(**r) <= limit && out.last().is_none_or(|last| last.1 <= start)
            });
            let range = *range.unwrap_or(base);
            let window = (floor(at, range), floor(at, range).saturating_add(range));
            if out.len() == WINDOWS_MAX || window.1 <= at {
                return Err(RewriteError::TooLong { start, end });
            }
            out.push(window);
            at = window.1;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_aligned_and_as_large_as_they_can_be() {
        let ranges = [2, 6, 18];
        for (extents, want) in [
            (&[][..], &[][..]),
            (&[(0, 1)], &[(0, 2)]),
            (&[(0, 2)], &[(0, 2)]),
            (&[(3, 6)], &[(0, 6)]),
            (&[(0, 18)], &[(0, 18)]),
            (&[(1, 29)], &[(0, 18), (18, 24), (24, 30)]),
            // The last ones are not complete yet.
            (&[(1, 27)], &[(0, 18), (18, 24), (24, 26), (26, 28)]),
            (&[(0, 2), (0, 7), (5, 6)], &[(0, 6), (6, 8)]),
            (&[(-5, -3), (40, 41)], &[(-18, 0), (36, 42)]),
            (&[(1, 2), (100, 108)], &[(0, 18), (90, 108)]),
        ] {
            assert_eq!(windows(extents, &ranges).unwrap(), want, "{extents:?}");
        }
        assert!(matches!(windows(&[(0, i64::MAX)], &ranges), Err(RewriteError::TooLong { .. })));
        // The ends of time.
        let (first, last) = (i64::MIN, i64::MAX);
        let want = [(first, first + 2), (first + 2, first + 4), (first + 4, first + 6)];
        assert_eq!(windows(&[(first, first + 5)], &[2]).unwrap(), want);
        assert_eq!(windows(&[(last - 3, last)], &[2]).unwrap(), [(last - 3, last - 1), (last - 1, last)]);
    }
}
