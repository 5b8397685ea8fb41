//! The blocks of a directory: which there are, which are superseded, where they overlap or leave gaps.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tsdbctl_block::meta::{FILE_NAME as META, is_ulid};
use tsdbctl_block::{Block, BlockMeta};
use tsdbctl_platform::file;
use tsdbctl_storage::{Loss, StorageError};

/// A block that is listed, and opened when first needed.
#[derive(Debug)]
pub struct BlockEntry {
    /// Its directory.
    pub dir: PathBuf,
    /// What it says about itself.
    pub meta: BlockMeta,
    opened: OnceLock<Arc<Block>>,
}

impl BlockEntry {
    /// Reads the meta of the block in `dir`.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn read(dir: &Path) -> Result<Self, StorageError> {
        Ok(Self { dir: dir.to_owned(), meta: BlockMeta::read(dir)?, opened: OnceLock::new() })
    }

    /// The open block.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn block(&self) -> Result<Arc<Block>, StorageError> {
        if let Some(block) = self.opened.get() {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(Block::open_with_meta(&self.dir, self.meta.clone())?);
        Ok(Arc::clone(self.opened.get_or_init(|| block)))
    }

    /// Bytes on disk: meta, index, tombstones and chunk files.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub fn size_bytes(&self) -> Result<u64, StorageError> {
        let mut total: u64 = 0;
        for entry in file::read_dir(&self.dir)? {
            match entry.name.as_str() {
                META | tsdbctl_block::index::FILE_NAME | tsdbctl_block::tombstones::FILE_NAME => {
                    total += entry.size
                }
                "chunks" if entry.is_dir => {
                    total += file::read_dir(&entry.path)?.iter().map(|e| e.size).sum::<u64>()
                }
                _ => {}
            }
        }
        Ok(total)
    }
}

/// The directory inside of a data directory that has the downsampled blocks.
pub const DOWNSAMPLED: &str = "downsampled";

/// The blocks of one directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Those of raw samples, by start, then identifier.
    pub(crate) live: Vec<BlockEntry>,
    /// The downsampled ones in it and in its directory for them, in the same order.
    pub(crate) downsampled: Vec<BlockEntry>,
    /// Those that another one was compacted from, or that are empty and marked for deletion.
    pub(crate) superseded: Vec<BlockEntry>,
    /// Those whose meta cannot be read.
    pub(crate) losses: Vec<Loss>,
    /// Names of all directories that were looked at.
    pub(crate) seen: HashSet<String>,
}

/// Whether `dir` is itself a block.
pub(crate) fn is_block(dir: &Path) -> bool {
    file::exists(&dir.join(META)) && file::exists(&dir.join(tsdbctl_block::index::FILE_NAME))
}

impl Listing {
    /// Lists the blocks in a data directory. Directories that are still being made or deleted are no blocks.
    pub(crate) fn of(dir: &Path, tolerant: bool) -> Result<Self, StorageError> {
        let mut listing = Self::default();
        let mut all = Vec::new();
        let mut damaged = Vec::new();
        let inner = match file::read_dir(&dir.join(DOWNSAMPLED)) {
            Err(e) if e.is_not_found() => Vec::new(),
            entries => entries?,
        };
        let own = file::read_dir(dir)?;
        listing.seen.extend(own.iter().filter(|e| e.is_dir && is_ulid(&e.name)).map(|e| e.name.clone()));
        for entry in own.into_iter().chain(inner).filter(|e| e.is_dir && is_ulid(&e.name)) {
            match BlockEntry::read(&entry.path) {
                Ok(block) => all.push(block),
                // An empty directory, or one that a running server has just removed.
                Err(StorageError::File(e))
                    if e.is_not_found()
                        && !file::exists(&entry.path.join(tsdbctl_block::index::FILE_NAME)) => {}
                Err(e) => damaged.push((entry, e)),
            }
        }
        // A downsampled block has the parents of the one it was made of: it replaces none of another resolution.
        let parents: HashSet<(String, i64)> = all
            .iter()
            .flat_map(|b| b.meta.compaction.parents.iter().map(|p| (p.ulid.clone(), b.meta.resolution_ms())))
            .collect();
        // A damaged block that another one was compacted from is not missed.
        let is_parent = |name: &str| parents.iter().any(|(parent, _)| parent == name);
        for (entry, e) in damaged.into_iter().filter(|(entry, _)| !is_parent(&entry.name)) {
            listing.losses.push(match e {
                e if !tolerant => return Err(e),
                StorageError::Corrupt(loss) => loss,
                e => Loss { file: entry.path.join(META), offset: 0, reason: e.to_string() },
            });
        }
        for block in all {
            let resolution = block.meta.resolution_ms();
            if parents.contains(&(block.meta.ulid.clone(), resolution)) || block.meta.compaction.deletable {
                listing.superseded.push(block);
            } else if resolution > 0 {
                listing.downsampled.push(block);
            } else {
                listing.live.push(block);
            }
        }
        sort(&mut listing.downsampled);
        sort(&mut listing.live);
        Ok(listing)
    }

    /// Whether a block came since the directory was listed that holds what none of the blocks `seen` then had: a
    /// running server made it of the head, and may have removed that from the head since. A block that was compacted
    /// from seen ones brings nothing new.
    pub(crate) fn is_outdated(dir: &Path, seen: &HashSet<String>) -> Result<bool, StorageError> {
        for entry in file::read_dir(dir)?.into_iter().filter(|e| e.is_dir && is_ulid(&e.name)) {
            if seen.contains(&entry.name) {
                continue;
            }
            // One that is damaged will be met when it is listed.
            let parents = match BlockEntry::read(&entry.path) {
                Err(StorageError::File(e)) if e.is_not_found() => continue,
                Err(_) => return Ok(true),
                Ok(block) => block.meta.compaction.parents,
            };
            if parents.is_empty() || parents.iter().any(|p| !seen.contains(&p.ulid)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The end of what in-order blocks hold; the head's earlier samples are theirs.
    pub(crate) fn in_order_end(&self) -> i64 {
        self.live.iter().filter(|b| b.meta.is_in_order()).map(|b| b.meta.max_time).max().unwrap_or(i64::MIN)
    }
}

/// Parts of a downsampled block's time, end exclusive, whose raw samples are in none of `raw`: by the blocks that it
/// was made of in the end, and if some of those are gone, by time. Shorter ones than its windows are none.
pub(crate) fn without_raw<'a>(
    block: &BlockMeta,
    raw: impl Iterator<Item = &'a BlockMeta> + Clone,
) -> Vec<(i64, i64)> {
    let there: HashSet<&str> = raw.clone().flat_map(|m| &m.compaction.sources).map(String::as_str).collect();
    let sources = &block.compaction.sources;
    if !sources.is_empty() && sources.iter().all(|s| there.contains(s.as_str())) {
        return Vec::new();
    }
    let mut covered: Vec<(i64, i64)> = raw.map(|m| (m.min_time, m.max_time)).collect();
    covered.sort_unstable();
    let mut parts = Vec::new();
    let mut at = block.min_time;
    for (start, end) in covered.into_iter().chain([(block.max_time, i64::MAX)]) {
        if start.min(block.max_time).saturating_sub(at) > block.resolution_ms() {
            parts.push((at, start.min(block.max_time)));
        }
        at = at.max(end);
    }
    parts
}

pub(crate) fn sort(blocks: &mut [BlockEntry]) {
    blocks.sort_by(|a, b| {
        (a.meta.min_time, a.meta.max_time, &a.meta.ulid).cmp(&(
            b.meta.min_time,
            b.meta.max_time,
            &b.meta.ulid,
        ))
    });
}

/// Times that several blocks cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Start of the shared range, Unix ms.
    pub mint: i64,
    /// End of the shared range, exclusive.
    pub maxt: i64,
    /// The two blocks, as places in the list.
    pub blocks: (usize, usize),
}

/// Pairs of blocks, sorted by start, that cover the same times.
pub(crate) fn overlaps(blocks: &[BlockEntry]) -> Vec<Overlap> {
    let mut out = Vec::new();
    for (i, a) in blocks.iter().enumerate() {
        for (j, b) in blocks.iter().enumerate().skip(i + 1) {
            if b.meta.min_time >= a.meta.max_time {
                break;
            }
            let maxt = a.meta.max_time.min(b.meta.max_time);
            out.push(Overlap { mint: b.meta.min_time, maxt, blocks: (i, j) });
        }
    }
    out
}

/// Times between blocks, sorted by start, that none covers: start inclusive, end exclusive. `tolerance_ms` is what
/// may lie between the last sample of a block and the first of the next without being a gap.
pub(crate) fn gaps(blocks: &[BlockEntry], tolerance_ms: i64) -> Vec<(i64, i64)> {
    let mut out = Vec::new();
    let mut end: Option<i64> = None;
    for block in blocks {
        if let Some(end) = end
            && block.meta.min_time.saturating_sub(end) > tolerance_ms
        {
            out.push((end, block.meta.min_time));
        }
        end = end.max(Some(block.meta.max_time));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 4] = [
        "01BKGTZQ1SYQJTR4PB43C8PD90",
        "01BKGTZQ1SYQJTR4PB43C8PD91",
        "01BKGTZQ1SYQJTR4PB43C8PD92",
        "01BKGTZQ1SYQJTR4PB43C8PD93",
    ];

    fn put(dir: &Path, id: &str, range: (i64, i64), compaction: &serde_json::Value) {
        let json = serde_json::json!({
            "ulid": id, "minTime": range.0, "maxTime": range.1, "version": 1, "compaction": compaction
        });
        std::fs::create_dir_all(dir.join(id)).unwrap();
        std::fs::write(dir.join(id).join(META), json.to_string()).unwrap();
    }

    #[test]
    fn blocks_of_late_stale_or_chosen_series_do_not_end_the_head() {
        let end = |hints: &[&str], deletable: bool| {
            let dir = tsdbctl_testkit::scratch();
            put(dir.path(), IDS[0], (0, 100), &serde_json::json!({}));
            // Overlaps: the newest block by start need not be the one that ends last.
            put(dir.path(), IDS[1], (50, 80), &serde_json::json!({}));
            put(
                dir.path(),
                IDS[2],
                (100, 200),
                &serde_json::json!({ "hints": hints, "deletable": deletable }),
            );
            Listing::of(dir.path(), false).unwrap().in_order_end()
        };
        for (hints, want) in [
            (&[][..], 200),
            (&["from-out-of-order"], 100),
            (&["from-stale-series"], 100),
            (&["from-selected-series"], 100),
            (&["x", "from-out-of-order"], 100),
            (&["x"], 200),
        ] {
            assert_eq!(end(hints, false), want, "{hints:?}");
        }
        assert_eq!(end(&[], true), 100);
        assert_eq!(Listing::default().in_order_end(), i64::MIN);
    }

    #[test]
    fn raw_samples_are_missed_where_none_of_their_blocks_is_left() {
        let meta = |start: i64, end: i64, sources: &[&str]| {
            let mut meta = BlockMeta::new(IDS[0].to_owned(), start, end);
            meta.compaction.sources = sources.iter().map(|s| (*s).to_owned()).collect();
            meta
        };
        let coarse = |sources: &[&str]| {
            let downsample = tsdbctl_block::meta::Downsample { resolution: 10 };
            let thanos = tsdbctl_block::meta::Thanos { downsample, ..Default::default() };
            BlockMeta { thanos: Some(thanos), ..meta(0, 400, sources) }
        };
        let found = |coarse: &BlockMeta, raw: &[BlockMeta]| without_raw(coarse, raw.iter());
        let (a, b) = (meta(0, 90, &["a"]), meta(150, 405, &["b", "c"]));
        // The gap between them is none of downsampling.
        assert_eq!(found(&coarse(&["a", "b"]), &[a.clone(), b.clone()]), []);
        assert_eq!(found(&coarse(&["a", "b", "d"]), &[a.clone(), b.clone()]), [(90, 150)]);
        assert_eq!(found(&coarse(&["a", "b"]), std::slice::from_ref(&a)), [(90, 400)]);
        assert_eq!(found(&coarse(&["a", "b"]), &[b]), [(0, 150)]);
        assert_eq!(found(&coarse(&["a", "b"]), &[]), [(0, 400)]);
        // Windows end behind the last sample.
        assert_eq!(found(&coarse(&[]), &[meta(5, 395, &["x"])]), []);
        assert_eq!(found(&coarse(&["b"]), &[a, meta(395, 900, &["y"])]), [(90, 395)]);
    }

    #[test]
    fn a_damaged_block_is_no_error_if_another_one_replaced_it() {
        let dir = tsdbctl_testkit::scratch();
        put(dir.path(), IDS[0], (0, 100), &serde_json::json!({}));
        put(dir.path(), IDS[1], (100, 200), &serde_json::json!({}));
        let broken = dir.path().join(IDS[0]).join(META);
        std::fs::write(&broken, "{").unwrap();
        let error = Listing::of(dir.path(), false).map(|l| l.live.len()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: at byte ", broken.display())), "{error}");
        assert_eq!(Listing::of(dir.path(), true).unwrap().losses.len(), 1);
        put(
            dir.path(),
            IDS[2],
            (0, 200),
            &serde_json::json!({ "parents": [{ "ulid": IDS[0] }, { "ulid": IDS[1] }] }),
        );
        let listing = Listing::of(dir.path(), false).unwrap();
        assert_eq!((listing.live.len(), listing.superseded.len(), listing.losses.len()), (1, 1, 0));
    }

    #[test]
    fn only_blocks_with_something_new_outdate_a_listing() {
        let dir = tsdbctl_testkit::scratch();
        let parents = |ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(|id| serde_json::json!({ "ulid": id })).collect();
            serde_json::json!({ "parents": ids })
        };
        put(dir.path(), IDS[0], (0, 100), &serde_json::json!({}));
        put(dir.path(), IDS[1], (100, 200), &serde_json::json!({}));
        let seen = Listing::of(dir.path(), false).unwrap().seen;
        let outdated = || Listing::is_outdated(dir.path(), &seen).unwrap();
        assert!(!outdated());
        put(dir.path(), IDS[3], (0, 200), &parents(&IDS[..2]));
        std::fs::remove_dir_all(dir.path().join(IDS[0])).unwrap();
        assert!(!outdated());
        put(dir.path(), IDS[3], (0, 300), &parents(&IDS[..3]));
        assert!(outdated());
        put(dir.path(), IDS[3], (200, 300), &serde_json::json!({}));
        assert!(outdated());
        std::fs::remove_file(dir.path().join(IDS[3]).join(META)).unwrap();
        assert!(!outdated());
    }
}
