//! Data directories and single blocks, opened read-only as one thing to query. No lock is taken.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tsdbctl_head::{HeadOptions, ReadHead};
use tsdbctl_model::Matcher;
use tsdbctl_platform::file;
use tsdbctl_storage::{Control, Loss, MergedQuerier, Querier, Queryable, Source, StorageError};

use crate::blocks::{BlockEntry, Listing, Overlap, gaps, is_block, overlaps, sort, without_raw};
use crate::tiers::{Raw, Stream, reach_back, with_downsampled};

/// How directories are opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Leave damaged parts out and report them as losses, rather than fail.
    pub tolerant: bool,
}

/// Data directories and blocks, merged. A running server may write to them meanwhile.
#[derive(Debug)]
pub struct Database {
    paths: Vec<PathBuf>,
    options: OpenOptions,
    blocks: Vec<BlockEntry>,
    downsampled: Vec<BlockEntry>,
    superseded: Vec<BlockEntry>,
    heads: Vec<HeadDir>,
    losses: Vec<Loss>,
}

/// A data directory that may have a head.
#[derive(Debug)]
struct HeadDir {
    dir: PathBuf,
    /// In-order samples before this are in blocks.
    min_valid_time: i64,
    /// Names of the block directories when it was listed.
    seen: HashSet<String>,
}

impl HeadDir {
    /// Whether samples up to `maxt` may be in the head.
    fn may_have(&self, maxt: i64) -> bool {
        let has_late = || match file::read_dir(&self.dir.join("wbl")) {
            Ok(files) => files.iter().any(|f| f.size > 0),
            // What else is wrong with it will be met when it is opened.
            Err(e) => !e.is_not_found(),
        };
        file::is_dir(&self.dir.join("wal")) && (maxt >= self.min_valid_time || has_late())
    }
}

/// How often directories are listed anew because a running server made or removed blocks meanwhile.
const ATTEMPTS: usize = 4;

impl Database {
    /// Lists what is in `dirs`: each one a data directory, or a single block. Only the blocks' metas are read.
    ///
    /// # Errors
    /// If a path is neither, or (unless tolerant) a meta is damaged.
    pub fn open(dirs: &[PathBuf], options: OpenOptions) -> Result<Self, StorageError> {
        let mut db = Self {
            paths: dirs.to_vec(),
            options,
            blocks: Vec::new(),
            downsampled: Vec::new(),
            superseded: Vec::new(),
            heads: Vec::new(),
            losses: Vec::new(),
        };
        for dir in dirs {
            if is_block(dir) {
                let entry = BlockEntry::read(dir)?;
                let is_raw = entry.meta.resolution_ms() == 0;
                if is_raw { &mut db.blocks } else { &mut db.downsampled }.push(entry);
                continue;
            }
            if file::exists(dir) && !file::is_dir(dir) {
                let reason = "is no directory; give a data directory, or a block's".to_string();
                return Err(StorageError::Unsupported { file: dir.clone(), reason });
            }
            let listing = Listing::of(dir, options.tolerant)?;
            let is_empty = listing.live.is_empty() && listing.downsampled.is_empty();
            if is_empty && listing.superseded.is_empty() && !is_data_dir(dir) {
                return Err(StorageError::Unsupported { file: dir.clone(), reason: what_it_is(dir) });
            }
            let min_valid_time = listing.in_order_end();
            db.heads.push(HeadDir { dir: dir.clone(), min_valid_time, seen: listing.seen });
            db.blocks.extend(listing.live);
            db.downsampled.extend(listing.downsampled);
            db.superseded.extend(listing.superseded);
            db.losses.extend(listing.losses);
        }
        sort(&mut db.blocks);
        sort(&mut db.downsampled);
        Ok(db)
    }

    /// The blocks of raw samples that are queried, by start.
    pub fn blocks(&self) -> &[BlockEntry] {
        &self.blocks
    }

    /// The downsampled blocks, by start; they are of all resolutions.
    pub fn downsampled(&self) -> &[BlockEntry] {
        &self.downsampled
    }

    /// Times in `mint..=maxt` (Unix ms) of which only downsampled samples are left, by start, end exclusive, and the
    /// finest resolution that is there.
    pub fn only_downsampled(&self, mint: i64, maxt: i64) -> Vec<(i64, i64, i64)> {
        let raw = self.blocks.iter().map(|b| &b.meta);
        let mut parts: Vec<(i64, i64, i64)> = Vec::new();
        for block in &self.downsampled {
            let resolution_ms = block.meta.resolution_ms();
            for (start, end) in without_raw(&block.meta, raw.clone()) {
                let (start, end) = (start.max(mint), end.min(maxt.saturating_add(1)));
                if start < end {
                    parts.push((start, end, resolution_ms));
                }
            }
        }
        parts.sort_unstable();
        let mut out: Vec<(i64, i64, i64)> = Vec::new();
        for (start, end, resolution_ms) in parts {
            match out.last_mut() {
                // Blocks side by side end and begin at samples.
                Some(last)
                    if start <= last.1 || !raw.clone().any(|m| m.min_time < start && last.1 < m.max_time) =>
                {
                    last.1 = last.1.max(end);
                    last.2 = last.2.min(resolution_ms);
                }
                _ => out.push((start, end, resolution_ms)),
            }
        }
        out
    }

    fn all_blocks(&self) -> impl Iterator<Item = &BlockEntry> {
        self.blocks.iter().chain(&self.downsampled)
    }

    /// Blocks left out because another one was compacted from them, or they are marked for deletion.
    pub fn superseded(&self) -> &[BlockEntry] {
        &self.superseded
    }

    /// Damage met while listing; always empty unless opened tolerant.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Earliest and latest sample time by the blocks' metas, Unix ms; the head is not looked at.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let mint = self.all_blocks().map(|b| b.meta.min_time).min()?;
        let maxt = self.all_blocks().map(|b| b.meta.max_time.saturating_sub(1)).max()?;
        Some((mint, maxt))
    }

    /// Pairs of blocks that cover the same times.
    pub fn overlaps(&self) -> Vec<Overlap> {
        overlaps(&self.blocks)
    }

    /// Times between blocks that no block covers (start inclusive, end exclusive), if longer than `tolerance_ms`.
    pub fn gaps(&self, tolerance_ms: i64) -> Vec<(i64, i64)> {
        gaps(&self.blocks, tolerance_ms)
    }

    /// Time of the newest sample, Unix ms, without replaying a log: by the times in the logs and head chunks, and by
    /// the index of a block that may have a later one.
    ///
    /// # Errors
    /// If a log or an index cannot be read.
    pub fn newest_sample_time(&self, control: &Control) -> Result<Option<i64>, StorageError> {
        self.current(|db| db.find_newest_sample_time(control))
    }

    /// What `read` finds in a listing of which a running server took nothing away meanwhile: if a block vanished, or
    /// one was cut off the head, directories are listed and read anew.
    fn current<T>(&self, read: impl Fn(&Self) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let mut relisted: Option<Self> = None;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let db = relisted.as_ref().unwrap_or(self);
            let found = read(db);
            let outdated = match &found {
                Ok(_) => db.outdated()?,
                Err(e) if has_vanished(e) => Some(self.paths.first().cloned().unwrap_or_default()),
                Err(StorageError::Corrupt(_)) => db.outdated()?,
                Err(_) => None,
            };
            match outdated {
                None => return found,
                Some(_) if attempt < ATTEMPTS => {}
                Some(_) if found.is_err() => return found,
                Some(file) => {
                    let reason = format!(
                        "a running server made new blocks each of the {ATTEMPTS} times it was read; run the command again"
                    );
                    return Err(StorageError::Unsupported { file, reason });
                }
            }
            relisted = Some(Self::open(&self.paths, self.options)?);
        }
    }

    /// The first data directory that got a block that is not listed.
    fn outdated(&self) -> Result<Option<PathBuf>, StorageError> {
        for head in &self.heads {
            if Listing::is_outdated(&head.dir, &head.seen)? {
                return Ok(Some(head.dir.clone()));
            }
        }
        Ok(None)
    }

    fn find_newest_sample_time(&self, control: &Control) -> Result<Option<i64>, StorageError> {
        let mut newest = None;
        for head in &self.heads {
            newest = newest.max(tsdbctl_head::newest_sample_time(&head.dir, control)?);
        }
        // A block's range may end after its last sample, so its index is asked if the range ends last.
        let mut by_end: Vec<&BlockEntry> = self.all_blocks().collect();
        by_end.sort_by_key(|b| std::cmp::Reverse(b.meta.max_time));
        for entry in by_end {
            if newest >= Some(entry.meta.max_time.saturating_sub(1)) {
                break;
            }
            newest = newest.max(entry.block()?.newest_sample_time(control)?);
        }
        Ok(newest)
    }

    fn sources(
        &self,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<Source>, StorageError> {
        let mut raw = Vec::new();
        for head in self.heads.iter().filter(|h| h.may_have(maxt)) {
            let options = HeadOptions {
                min_valid_time: head.min_valid_time,
                selections,
                mint,
                maxt,
                tolerant: self.options.tolerant,
            };
            let Some(read) = ReadHead::open(&head.dir, &options, control)? else { continue };
            // A head without samples still tells of its exemplars and losses.
            let (first, last) = read.times().unwrap_or((i64::MAX, i64::MAX));
            let source = Source { querier: Box::new(read), mint: first, maxt: last };
            // What is older than the blocks' end came late.
            let from = first.max(head.min_valid_time);
            let covers = (from <= last && first != i64::MAX).then_some((from, last.saturating_add(1)));
            raw.push(Raw::of_head(Stream::of_head(&head.dir), source, covers));
        }
        let downsampled: Vec<&BlockEntry> = self.downsampled.iter().collect();
        let blocks: Vec<&BlockEntry> = self.blocks.iter().collect();
        let from = mint.saturating_sub(reach_back(&downsampled));
        for entry in blocks.iter().filter(|b| b.meta.overlaps(from, maxt)) {
            control.check("block opening")?;
            raw.push(Raw::of_block(entry, &downsampled)?);
        }
        with_downsampled(raw, &blocks, &downsampled, mint, maxt, control)
    }
}

/// Whether a directory without blocks is a data directory: a server's, or an agent's.
fn is_data_dir(dir: &Path) -> bool {
    file::is_dir(&dir.join("wal")) || file::is_dir(&dir.join("chunks_head"))
}

/// Why a directory is no data directory, and what to give instead.
fn what_it_is(dir: &Path) -> String {
    let entries = file::read_dir(dir).unwrap_or_default();
    let has = |test: &dyn Fn(&file::Entry) -> bool| entries.iter().find(|e| test(e)).map(|e| e.name.clone());
    let is_segment = |e: &file::Entry| e.name.len() == 8 && e.name.bytes().all(|b| b.is_ascii_digit());
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".."));
    if has(&|e| e.name.starts_with("checkpoint.") || (!e.is_dir && is_segment(e))).is_some() {
        return format!(
            "this is a write-ahead log, not a data directory; give the directory that contains it: -d {}",
            parent.display()
        );
    }
    if has(&|e| e.name == "meta.json").is_some() {
        return "a block without its index, which nothing can be read without; restore the file".to_string();
    }
    if has(&|e| e.name == "index").is_some() {
        return "a block without its meta.json, which tells its range; give the data directory it came from, or \
                restore the file"
            .to_string();
    }
    let inner = has(&|e| e.is_dir && (is_data_dir(&e.path) || has_block(&e.path)));
    let hint = match inner {
        Some(name) => format!("did you mean -d {}?", dir.join(name).display()),
        None => "give the directory that Prometheus has as --storage.tsdb.path or --storage.agent.path, or a block's"
            .to_string(),
    };
    format!(
        "neither a data directory (no blocks and no wal directory in it) nor a block (no meta.json in it); {hint}"
    )
}

/// Whether there is a block in a directory.
fn has_block(dir: &Path) -> bool {
    file::read_dir(dir).is_ok_and(|entries| entries.iter().any(|e| e.is_dir && is_block(&e.path)))
}

fn has_vanished(error: &StorageError) -> bool {
    matches!(error, StorageError::File(e) if e.is_not_found())
}

impl Queryable for Database {
    fn querier(
        &self,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        let (found, losses) =
            self.current(|db| Ok((db.sources(mint, maxt, selections, control)?, db.losses.clone())))?;
        Ok(Box::new(MergedQuerier::new(found).with_losses(losses)))
    }
}
