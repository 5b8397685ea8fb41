//! A data directory open for writing: locked, cleaned of what an interrupted run left half made, its head loaded, its
//! blocks listed.
//!
//! Order of opening: directory, its name durable → lock → half-made directories away → blocks listed → head loaded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tsdbctl_block::meta::is_ulid;
use tsdbctl_head::live::head::LoadReport;
use tsdbctl_head::live::select::LiveQuerier;
use tsdbctl_head::live::{Appender, Head, LiveOptions};
use tsdbctl_model::Matcher;
use tsdbctl_platform::disk::{Disk, create_dir_all, remove_all, sync_parent};
use tsdbctl_platform::file;
use tsdbctl_platform::lock::{DirLock, LockError};
use tsdbctl_storage::{Control, Loss, MergedQuerier, Querier, Queryable, Source, StorageError};

use crate::block_names::DELETION_SUFFIX;
use crate::blocks::{BlockEntry, DOWNSAMPLED, Listing};
use crate::tiers::{Raw, Stream, reach_back, with_downsampled};

/// Ends of names of directories that are being made or removed.
const TEMPORARY: [&str; 3] = [".tmp-for-creation", ".tmp-for-deletion", ".tmp"];

/// Raw and downsampled blocks.
type Lists = (Arc<Vec<Arc<BlockEntry>>>, Arc<Vec<Arc<BlockEntry>>>);

/// A data directory that takes samples. Shared by threads.
#[derive(Debug)]
pub struct LiveDatabase {
    dir: PathBuf,
    head: Arc<Head>,
    blocks: RwLock<Arc<Vec<Arc<BlockEntry>>>>,
    /// The downsampled ones.
    downsampled: RwLock<Arc<Vec<Arc<BlockEntry>>>>,
    /// Held while the list of blocks is made anew.
    listing: Mutex<()>,
    /// Held while something is cut off the head.
    pub(crate) cutting: Mutex<()>,
    /// When the head was cut last, Unix ms; `i64::MIN` if never.
    pub(crate) last_cut_ms: AtomicI64,
    lock: DirLock,
}

impl LiveDatabase {
    /// Opens a data directory, which is made if it does not exist. What of it could not be used is in the report.
    ///
    /// # Errors
    /// If somebody else has it, or a file cannot be read or written.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LiveOptions,
        control: &Control,
    ) -> Result<(Self, LoadReport), StorageError> {
        let lock = take_directory(&*disk, dir)?;
        // A block that cannot be read is no reason to take no samples.
        let listing = Listing::of(dir, true)?;
        let (head, mut report) = Head::open(disk, dir, options, listing.in_order_end(), control)?;
        report.losses.splice(0..0, listing.losses);
        let shared =
            |blocks: Vec<BlockEntry>| RwLock::new(Arc::new(blocks.into_iter().map(Arc::new).collect()));
        let (blocks, downsampled) = (shared(listing.live), shared(listing.downsampled));
        let (listing, cutting, last_cut_ms) = (Mutex::default(), Mutex::default(), AtomicI64::new(i64::MIN));
        Ok((
            Self { dir: dir.to_owned(), head, blocks, downsampled, listing, cutting, last_cut_ms, lock },
            report,
        ))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The head.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// The blocks, by start.
    pub fn blocks(&self) -> Arc<Vec<Arc<BlockEntry>>> {
        Arc::clone(&self.blocks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The downsampled blocks, by start; they are of all resolutions.
    pub fn downsampled(&self) -> Arc<Vec<Arc<BlockEntry>>> {
        Arc::clone(&self.downsampled.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lists the blocks anew: somebody compacted or removed some. Readers keep those that they have; their directories may
    /// be gone. What could not be read is given back.
    ///
    /// # Errors
    /// If the directory cannot be read; the list stays as it was.
    pub fn reload_blocks(&self) -> Result<Vec<Loss>, StorageError> {
        let _listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Listing::of(&self.dir, true)?;
        let known = (self.blocks(), self.downsampled());
        let kept = |new: BlockEntry| {
            // It may be open.
            let same =
                known.0.iter().chain(known.1.iter()).find(|old| old.dir == new.dir && old.meta == new.meta);
            same.map_or_else(|| Arc::new(new), Arc::clone)
        };
        // Downsampled blocks first: what was dropped after it was downsampled is found there at once.
        let downsampled = Arc::new(found.downsampled.into_iter().map(kept).collect());
        *self.downsampled.write().unwrap_or_else(PoisonError::into_inner) = downsampled;
        self.set_blocks(found.live.into_iter().map(kept).collect());
        Ok(found.losses)
    }

    /// Replaces some blocks, by their identifiers, by others; readers see both changes at once. Once this is done no new
    /// reader opens those that were replaced.
    pub fn replace_blocks(&self, gone: &[&str], new: Vec<BlockEntry>) {
        let _listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks: Vec<Arc<BlockEntry>> =
            self.blocks().iter().filter(|b| !gone.contains(&&*b.meta.ulid)).cloned().collect();
        for entry in new {
            // It may have been found in the directory already.
            if blocks.iter().all(|b| b.meta.ulid != entry.meta.ulid) {
                blocks.push(Arc::new(entry));
            }
        }
        self.set_blocks(blocks);
    }

    /// Shows new blocks to readers.
    pub(crate) fn publish(&self, new: Vec<BlockEntry>) {
        self.replace_blocks(&[], new);
    }

    fn set_blocks(&self, mut blocks: Vec<Arc<BlockEntry>>) {
        blocks.sort_by(|a, b| {
            let key = |e: &BlockEntry| (e.meta.min_time, e.meta.max_time);
            key(a).cmp(&key(b)).then_with(|| a.meta.ulid.cmp(&b.meta.ulid))
        });
        *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(blocks);
    }

    /// Whether the program that had the directory before did not close it.
    pub fn was_left_open(&self) -> bool {
        self.lock.was_left_over()
    }

    /// Whether these are the blocks that there are.
    fn are_current(&self, lists: &Lists) -> bool {
        Arc::ptr_eq(&lists.0, &self.blocks()) && Arc::ptr_eq(&lists.1, &self.downsampled())
    }

    /// A new batch of samples.
    pub fn appender(&self) -> Appender {
        Appender::new(Arc::clone(&self.head))
    }

    /// What has to be done once in a while: full chunks go to their files.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn maintain(&self) -> Result<(), StorageError> {
        self.head.files.flush()
    }

    /// Makes everything durable and gives the directory back.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn close(self) -> Result<(), StorageError> {
        self.head.close()
    }
}

/// Locks a directory to write to it, which is made if it does not exist, and removes what an interrupted run left half
/// made.
///
/// # Errors
/// If somebody else has it, or the system refuses.
pub(crate) fn take_directory(disk: &dyn Disk, dir: &Path) -> Result<DirLock, StorageError> {
    create_dir_all(disk, dir)?;
    // Whoever made it may have been killed before its name was durable. Who may not list the parent did not make it.
    match sync_parent(disk, &std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())) {
        Err(e) if e.cause.kind() != std::io::ErrorKind::PermissionDenied => return Err(e.into()),
        _ => {}
    }
    let lock = DirLock::acquire(dir).map_err(|e| match e {
        LockError::File(e) => StorageError::File(e),
        held @ LockError::Held { .. } => {
            StorageError::Unsupported { file: dir.to_owned(), reason: held.to_string() }
        }
    })?;
    remove_temporary(disk, dir)?;
    Ok(lock)
}

/// Removes what an interrupted run left half made or half removed, as upstream does: of the directory itself and of its
/// log, and of its downsampled blocks.
///
/// The name of a block's directory may not be durable: behind a sync that failed the disk may still have it under its
/// proper name, and would after a crash show a block without content. So it is named anew, and that made durable, before
/// content goes. A whole block gets its proper name back for that: only what is done to that name again makes the disk
/// forget it. Of a block that lost files already, the name was durable before they went.
pub(crate) fn remove_temporary(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    for dir in [dir.join("wal"), dir.join(DOWNSAMPLED), dir.to_owned()] {
        let entries = match disk.read_dir(&dir) {
            Err(e) if e.is_not_found() => continue,
            entries => entries?,
        };
        let mut leftovers = Vec::new();
        let mut renamed = false;
        for entry in entries.into_iter().filter(|e| e.is_dir && is_temporary(&e.name)) {
            let stem = entry.name.split('.').next().filter(|stem| is_ulid(stem));
            let named = |stem| ["tmp", "tmp-for-deletion"].map(|end| dir.join(format!("{stem}.{end}")));
            let anew = stem.and_then(|stem| named(stem).into_iter().find(|anew| !file::exists(anew)));
            if let Some(anew) = anew {
                let proper = dir.join(stem.unwrap_or_default());
                if entry.name.ends_with(DELETION_SUFFIX)
                    && !file::exists(&proper)
                    && is_whole(disk, &entry.path)?
                {
                    disk.rename(&entry.path, &proper)?;
                    disk.rename(&proper, &anew)?;
                } else {
                    disk.rename(&entry.path, &anew)?;
                }
                renamed = true;
                leftovers.push(anew);
            } else {
                leftovers.push(entry.path);
            }
        }
        if renamed {
            disk.sync_dir(&dir)?;
        }
        for leftover in leftovers {
            remove_all(disk, &leftover)?;
        }
    }
    Ok(())
}

/// Whether no file of a block seems to be missing.
fn is_whole(disk: &dyn Disk, block_dir: &Path) -> Result<bool, StorageError> {
    if !["meta.json", "index"].iter().all(|name| file::exists(&block_dir.join(name))) {
        return Ok(false);
    }
    let mut chunks = match disk.read_dir(&block_dir.join("chunks")) {
        Err(e) if e.is_not_found() => return Ok(false),
        entries => entries?.into_iter().map(|e| e.name).collect::<Vec<_>>(),
    };
    chunks.sort_unstable();
    Ok(!chunks.is_empty() && chunks.iter().zip(1..).all(|(name, number)| *name == format!("{number:06}")))
}

/// `promtool tsdb dump` reads no directory without a log, be it an empty one.
///
/// # Errors
/// If the system refuses.
pub(crate) fn make_dumpable(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let wal = dir.join("wal");
    if !file::is_dir(&wal) {
        create_dir_all(disk, &wal)?;
        disk.sync_dir(dir)?;
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    let stem = TEMPORARY.iter().find_map(|end| name.strip_suffix(end));
    stem.is_some_and(|stem| {
        is_ulid(stem)
            || stem.starts_with("chunk_snapshot.")
            || (stem.starts_with("checkpoint.") && name.ends_with(".tmp"))
    })
}

impl LiveDatabase {
    /// The sources of a querier: the head, which was asked for first, and blocks of these lists.
    fn sources(
        &self,
        lists: &Lists,
        head: LiveQuerier,
        (mint, maxt): (i64, i64),
        control: &Control,
    ) -> Result<Vec<Source>, StorageError> {
        let time = |t: &AtomicI64| t.load(Ordering::Acquire);
        let first = time(&self.head.min_time).min(time(&self.head.min_out_of_order_time));
        let last = time(&self.head.max_time).max(time(&self.head.max_out_of_order_time));
        // A head without samples still tells of its exemplars.
        let (first, last) = if first <= last { (first, last) } else { (i64::MAX, i64::MAX) };
        let in_order = (time(&self.head.min_time), time(&self.head.max_time));
        let covers = (in_order.0 <= in_order.1).then_some((in_order.0, in_order.1.saturating_add(1)));
        let source = Source { querier: Box::new(head), mint: first, maxt: last };
        let mut raw = vec![Raw::of_head(Stream::of_head(&self.dir), source, covers)];
        let blocks: Vec<&BlockEntry> = lists.0.iter().map(|b| &**b).collect();
        let downsampled: Vec<&BlockEntry> = lists.1.iter().map(|b| &**b).collect();
        let from = mint.saturating_sub(reach_back(&downsampled));
        for entry in blocks.iter().filter(|b| b.meta.overlaps(from, maxt)) {
            control.check("block opening")?;
            raw.push(Raw::of_block(entry, &downsampled)?);
        }
        with_downsampled(raw, &blocks, &downsampled, mint, maxt, control)
    }
}

impl Queryable for LiveDatabase {
    fn querier(
        &self,
        mint: i64,
        maxt: i64,
        _selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        loop {
            // The head before the blocks: what leaves the head meanwhile is in a block that is listed already.
            let head = LiveQuerier::new(Arc::clone(&self.head), mint, maxt);
            let lists = (self.blocks(), self.downsampled());
            match self.sources(&lists, head, (mint, maxt), control) {
                // Blocks are opened when first needed, and this one was replaced meanwhile.
                Err(StorageError::File(e)) if e.is_not_found() && !self.are_current(&lists) => {}
                sources => return Ok(Box::new(MergedQuerier::new(sources?))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_made_directories_are_known_by_their_names() {
        let ulid = "01BKGTZQ1SYQJTR4PB43C8PD90";
        for (name, want) in [
            (&*format!("{ulid}.tmp-for-creation"), true),
            (&*format!("{ulid}.tmp-for-deletion"), true),
            (&*format!("{ulid}.tmp"), true),
            ("chunk_snapshot.000001.0000032768.tmp", true),
            ("checkpoint.00000003.tmp", true),
            ("checkpoint.00000003.tmp-for-deletion", false),
            (ulid, false),
            ("checkpoint.00000003", false),
            ("chunk_snapshot.000001.0000032768", false),
            ("backup.tmp", false),
            ("x.tmp-for-creation", false),
            (".tmp", false),
        ] {
            assert_eq!(is_temporary(name), want, "{name}");
        }
    }
}
