//! Downsampling a data directory: what is planned is done, step by step, until nothing is left to do. Whoever calls holds
//! the directory's lock.
//!
//! Downsampled blocks are written to `downsampled/` in the directory, which Prometheus does not look into; in the folder of
//! a Thanos bucket (blocks there have its extension), beside the others. Each step leaves the directory whole: a new block
//! is durable, visible and can be opened before anything goes that it replaces. A run that is cut off leaves only temporary
//! directories, which the next one removes, and blocks that say by their parents what they replace.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tsdbctl_block::block_writer::{WriterOptions, write_block};
use tsdbctl_block::downsample::DownsampleNotes;
use tsdbctl_block::meta::new_ulid;
use tsdbctl_block::{Block, BlockMeta, BlockSource, DownsampledSource, MergedSource};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::file::{self, FileError};
use tsdbctl_platform::world::World;
use tsdbctl_storage::{ChunkSource, Control, StorageError, Watched};

use super::{Departure, KeptBack, Situation, Step, StoredBlock, Tiers, sources, without_windows};
use crate::block_names;
use crate::blocks::{BlockEntry, DOWNSAMPLED, Listing, is_block};
use crate::live::remove_temporary;
use crate::quarantine::{Quarantined, damage_of, set_aside};

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct DownsamplingOptions {
    /// How long each resolution is kept; none if nothing is to go.
    pub tiers: Option<Tiers>,
    /// Where downsampled blocks go, if not to the usual place.
    pub into: Option<PathBuf>,
}

/// What is going on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A block begins to be made.
    Begun(&'a Step),
    /// A series of it was read.
    Series,
    /// It is done.
    Made(&'a Made),
    /// A block goes.
    Removed(&'a StoredBlock, Departure),
    /// A block was set aside.
    Quarantined(&'a Quarantined),
}

/// A block that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Length of its windows, ms.
    pub resolution_ms: i64,
    /// What it was made of.
    pub from: Vec<StoredBlock>,
    /// Identifiers of blocks it replaced.
    pub replaced: Vec<String>,
    /// The block; `None` if nothing was left: stale markers and not-a-numbers alone.
    pub into: Option<StoredBlock>,
    /// What was met on the way.
    pub notes: DownsampleNotes,
}

impl Made {
    /// Whether blocks of one resolution were merged.
    pub fn is_merge(&self) -> bool {
        self.from.first().is_some_and(|b| b.meta.resolution_ms() == self.resolution_ms)
    }
}

/// Blocks of a resolution and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Length of windows, ms; 0 for raw.
    pub resolution_ms: i64,
    /// How many blocks.
    pub blocks: usize,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What there was before, by resolution.
    pub before: Vec<Total>,
    /// What there is now.
    pub after: Vec<Total>,
    /// Blocks made.
    pub made: Vec<Made>,
    /// Blocks that went, those that were replaced by this run left out.
    pub removed: Vec<(StoredBlock, Departure)>,
    /// Blocks set aside.
    pub quarantined: Vec<Quarantined>,
    /// Blocks of late samples that cannot be downsampled.
    pub kept_back: Vec<KeptBack>,
    /// Blocks from the future, which were left alone.
    pub future: Vec<StoredBlock>,
    /// Blocks that could not be judged or read, and why.
    pub left_alone: Vec<(PathBuf, String)>,
    /// What ended the run early; what was done before stays.
    pub stopped: Option<StorageError>,
}

impl Outcome {
    /// Whether all was done.
    pub fn is_complete(&self) -> bool {
        self.quarantined.is_empty()
            && self.left_alone.is_empty()
            && self.kept_back.is_empty()
            && self.stopped.is_none()
    }
}

/// A directory's blocks.
struct Found {
    situation: Situation,
    entries: HashMap<String, BlockEntry>,
    /// Raw blocks that others were compacted from and that are still there.
    raw_superseded: Vec<BlockEntry>,
    damaged: Vec<(PathBuf, StorageError)>,
}

/// What steps changed, which need not be looked for.
#[derive(Default)]
struct Changes {
    gone: HashSet<String>,
    new: Vec<StoredBlock>,
}

impl Found {
    /// Takes over what steps did.
    fn follow(&mut self, changes: &Changes) -> Result<(), StorageError> {
        self.situation.leave(&changes.gone.iter().map(String::as_str).collect());
        self.entries.retain(|ulid, _| !changes.gone.contains(ulid));
        for new in &changes.new {
            self.situation.blocks.push(new.clone());
            self.entries.insert(new.meta.ulid.clone(), BlockEntry::read(&new.dir)?);
        }
        Ok(())
    }
}

struct Work<'a> {
    world: &'a World,
    dir: &'a Path,
    output: PathBuf,
    options: &'a DownsamplingOptions,
    control: &'a Control,
    held: HashSet<String>,
    left_alone: Vec<(PathBuf, String)>,
    /// Blocks that others relied on, and that could be opened.
    sound: HashSet<String>,
    /// Whether more blocks are known now to have nothing for a window.
    is_outdated: bool,
}

impl<'a> Work<'a> {
    fn new(
        world: &'a World,
        dir: &'a Path,
        options: &'a DownsamplingOptions,
        control: &'a Control,
    ) -> Result<Self, StorageError> {
        if is_block(dir) {
            return Err(StorageError::Unsupported {
                file: dir.to_owned(),
                reason: "this is a single block; name the directory it is in".to_string(),
            });
        }
        let output = match &options.into {
            Some(into) => into.clone(),
            None if is_bucket(dir)? => dir.to_owned(),
            None => dir.join(DOWNSAMPLED),
        };
        Ok(Self {
            world,
            dir,
            output,
            options,
            control,
            held: HashSet::new(),
            left_alone: Vec::new(),
            sound: HashSet::new(),
            is_outdated: false,
        })
    }

    fn disk(&self) -> &dyn Disk {
        &*self.world.disk
    }

    fn look(&self) -> Result<Found, StorageError> {
        let mut found = Found {
            situation: Situation {
                held: self.held.clone(),
                now_ms: self.world.clock.now_ms(),
                tiers: self.options.tiers,
                merges: self.output != self.dir,
                without_windows: without_windows::read(&self.output),
                ..Situation::default()
            },
            entries: HashMap::new(),
            raw_superseded: Vec::new(),
            damaged: Vec::new(),
        };
        // The listing of the directory has those of its own directory for downsampled ones too.
        let own = self.output == self.dir || self.output == self.dir.join(DOWNSAMPLED);
        let other = Some(&*self.output).filter(|output| !own && file::exists(output));
        for dir in std::iter::once(self.dir).chain(other) {
            let listing = Listing::of(dir, true)?;
            for loss in listing.losses {
                let dir = file::parent(&loss.file).to_owned();
                if let Err(e) = BlockEntry::read(&dir) {
                    found.damaged.push((dir, e));
                }
            }
            for entry in listing.live.into_iter().chain(listing.downsampled) {
                let named = entry.dir.file_name().is_some_and(|name| *name == *entry.meta.ulid);
                if !named {
                    let reason = format!("its meta.json says that it is {}", entry.meta.ulid);
                    let loss = tsdbctl_storage::Loss { file: entry.dir.clone(), offset: 0, reason };
                    found.damaged.push((entry.dir, loss.into()));
                    continue;
                }
                found.situation.blocks.push(stored(&entry)?);
                found.entries.insert(entry.meta.ulid.clone(), entry);
            }
            for entry in listing.superseded {
                if entry.meta.resolution_ms() > 0 {
                    found.situation.superseded.push(stored(&entry)?);
                    found.entries.insert(entry.meta.ulid.clone(), entry);
                } else {
                    found.raw_superseded.push(entry);
                }
            }
        }
        // Those go first that others which go were made of.
        found.situation.superseded.sort_by(|a, b| a.meta.ulid.cmp(&b.meta.ulid));
        // What was replaced goes only when what replaces it can be opened, and that is of the same resolution.
        let superseded = std::mem::take(&mut found.situation.superseded);
        for block in superseded {
            let is_child = |e: &&BlockEntry| {
                e.meta.resolution_ms() == block.meta.resolution_ms()
                    && e.meta.compaction.parents.iter().any(|p| p.ulid == block.meta.ulid)
            };
            let child = found.entries.values().find(is_child);
            if block.meta.compaction.deletable
                || child.is_some_and(|c| Block::open_with_meta(&c.dir, c.meta.clone()).is_ok())
            {
                found.situation.superseded.push(block);
            }
        }
        Ok(found)
    }

    fn make(
        &self,
        step: &Step,
        found: &Found,
        observer: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Made, StorageError> {
        let Step::Make { resolution_ms, from, replaces, meta } = step else {
            return Err(self.unsupported("no block is to be made"));
        };
        let entries: Vec<&BlockEntry> = from.iter().filter_map(|b| found.entries.get(&b.meta.ulid)).collect();
        let mut sources: Vec<Box<dyn ChunkSource>> = Vec::with_capacity(entries.len());
        for entry in &entries {
            // Opened apart, so that it is not kept open.
            let block = Arc::new(Block::open_with_meta(&entry.dir, entry.meta.clone())?);
            sources.push(Box::new(BlockSource::new(block, i64::MIN, i64::MAX)?));
        }
        let single = sources.len() == 1;
        let source: Box<dyn ChunkSource> = match sources.pop() {
            Some(source) if single => source,
            Some(source) => {
                sources.push(source);
                Box::new(MergedSource::new(sources)?)
            }
            None => return Err(self.unsupported("the blocks are gone")),
        };
        let mut source = if step.is_merge() {
            DownsampledSource::rechunked(source, *resolution_ms)
        } else {
            DownsampledSource::new(source, *resolution_ms, from.iter().all(|b| b.meta.resolution_ms() == 0))
        };
        if !single {
            // Of several blocks it is not known which one is damaged.
            source = source.named(self.output.clone());
        }
        let meta = BlockMeta { ulid: new_ulid(self.world)?, ..(**meta).clone() };
        let ulid = meta.ulid.clone();
        let mut watched = Watched { inner: &mut source, tell: |_| observer(Event::Series) };
        let disk = Arc::clone(&self.world.disk);
        let options = WriterOptions::default();
        let written = write_block(disk, &self.output, &mut watched, meta, options, self.control)?;
        let notes = source.notes();
        let into = match written {
            None => None,
            Some(meta) => {
                let dir = self.output.join(&ulid);
                Block::open(&dir)?;
                let bytes = BlockEntry::read(&dir)?.size_bytes()?;
                Some(StoredBlock { meta, dir, bytes })
            }
        };
        let mut made =
            Made { resolution_ms: *resolution_ms, from: from.clone(), replaced: Vec::new(), into, notes };
        if made.into.is_some() {
            made.replaced = replaces.iter().map(|b| b.meta.ulid.clone()).collect();
            block_names::remove(self.disk(), replaces.iter().map(|b| &*b.dir))?;
        }
        Ok(made)
    }

    fn perform(
        &mut self,
        step: &Step,
        found: &Found,
        changes: &mut Changes,
        outcome: &mut Outcome,
        observer: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<(), StorageError> {
        match step {
            Step::Make { from, .. } => {
                observer(Event::Begun(step));
                let made = self.make(step, found, observer)?;
                observer(Event::Made(&made));
                match &made.into {
                    Some(new) => changes.new.push(new.clone()),
                    None => self.remember(from, found)?,
                }
                changes.gone.extend(made.replaced.iter().cloned());
                outcome.made.push(made);
            }
            Step::Remove { block, why, relies_on } => {
                if self.depart(block, *why, relies_on, found)? {
                    observer(Event::Removed(block, *why));
                    changes.gone.insert(block.meta.ulid.clone());
                    outcome.removed.push(((**block).clone(), *why));
                } else {
                    self.held.insert(block.meta.ulid.clone());
                }
            }
        }
        Ok(())
    }

    /// Nothing was left of blocks: that is noted of a raw one, so that it is not read again and may go with its tier. Of
    /// several, one may have a number where the not-a-number of another was taken; compaction will make one of them.
    fn remember(&mut self, from: &[StoredBlock], found: &Found) -> Result<(), StorageError> {
        if from.len() > 1 || from.iter().any(|b| b.meta.resolution_ms() > 0) {
            self.held.extend(from.iter().map(|b| b.meta.ulid.clone()));
            return Ok(());
        }
        let raw = found.situation.blocks.iter().filter(|b| b.meta.resolution_ms() == 0);
        let there: HashSet<&str> = raw.flat_map(|b| sources(&b.meta)).collect();
        let new = from.iter().flat_map(|b| sources(&b.meta));
        without_windows::add(self.disk(), &self.output, new, |ulid| there.contains(ulid))?;
        self.is_outdated = true;
        Ok(())
    }

    fn unsupported(&self, reason: &str) -> StorageError {
        StorageError::Unsupported { file: self.dir.to_owned(), reason: reason.to_string() }
    }

    /// Removes a block because of its tier, or because it was replaced; false if something speaks against it.
    fn depart(
        &mut self,
        block: &StoredBlock,
        why: Departure,
        relies_on: &[String],
        found: &Found,
    ) -> Result<bool, StorageError> {
        if matches!(why, Departure::Expired { .. }) {
            for successor in relies_on {
                let Some(entry) = found.entries.get(successor) else {
                    return Ok(false);
                };
                if self.sound.contains(successor) {
                    continue;
                }
                if let Err(e) = Block::open_with_meta(&entry.dir, entry.meta.clone()) {
                    if self.held.insert(successor.clone()) {
                        self.left_alone.push((entry.dir.clone(), e.to_string()));
                    }
                    return Ok(false);
                }
                self.sound.insert(successor.clone());
            }
            // Blocks it was compacted from would be live again.
            let parents: HashSet<&str> = block.meta.compaction.parents.iter().map(|p| &*p.ulid).collect();
            let still_there = found.raw_superseded.iter().filter(|e| parents.contains(&*e.meta.ulid));
            block_names::remove(self.disk(), still_there.map(|e| &*e.dir))?;
        }
        block_names::remove(self.disk(), [&*block.dir])?;
        Ok(true)
    }

    /// Sees to a step that failed: true if the others can go on.
    fn survive(
        &mut self,
        step: &Step,
        error: StorageError,
        outcome: &mut Outcome,
        observer: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<bool, StorageError> {
        let blocks: &[StoredBlock] = match step {
            Step::Make { from, .. } => from,
            Step::Remove { .. } => &[],
        };
        for block in blocks {
            if let Some(loss) = damage_of(&error, &block.dir) {
                self.quarantine(&block.dir, loss, outcome, observer)?;
                return Ok(true);
            }
        }
        if matches!(error, StorageError::Corrupt(_) | StorageError::Unsupported { .. }) {
            for block in blocks {
                self.held.insert(block.meta.ulid.clone());
                self.left_alone.push((block.dir.clone(), error.to_string()));
            }
            return Ok(!blocks.is_empty());
        }
        outcome.stopped = Some(error);
        Ok(false)
    }

    fn quarantine(
        &self,
        block_dir: &Path,
        loss: tsdbctl_storage::Loss,
        outcome: &mut Outcome,
        observer: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<(), FileError> {
        let now_ms = self.world.clock.now_ms();
        let step = "downsampling".to_string();
        let done = set_aside(self.disk(), self.dir, block_dir, loss, step, now_ms)?;
        observer(Event::Quarantined(&done));
        outcome.quarantined.push(done);
        Ok(())
    }
}

fn stored(entry: &BlockEntry) -> Result<StoredBlock, StorageError> {
    Ok(StoredBlock { meta: entry.meta.clone(), dir: entry.dir.clone(), bytes: entry.size_bytes()? })
}

/// Whether a directory is the folder of a Thanos bucket: its blocks have the extension.
fn is_bucket(dir: &Path) -> Result<bool, StorageError> {
    let listing = Listing::of(dir, true)?;
    let mut own =
        listing.live.iter().chain(&listing.downsampled).filter(|b| file::parent(&b.dir) == dir).peekable();
    Ok(own.peek().is_some() && own.all(|b| b.meta.thanos.is_some()))
}

fn totals(blocks: &[StoredBlock]) -> Vec<Total> {
    let mut out: Vec<Total> = Vec::new();
    for block in blocks {
        let resolution_ms = block.meta.resolution_ms();
        let place = out.iter().position(|t| t.resolution_ms == resolution_ms);
        let place = place.unwrap_or_else(|| {
            out.push(Total { resolution_ms, ..Total::default() });
            out.len() - 1
        });
        out[place].blocks += 1;
        out[place].bytes += block.bytes;
    }
    out.sort_by_key(|t| t.resolution_ms);
    out
}

/// What would be done, and with what.
///
/// # Errors
/// If the directory cannot be read.
pub fn situation(
    world: &World,
    dir: &Path,
    options: &DownsamplingOptions,
) -> Result<Situation, StorageError> {
    Ok(Work::new(world, dir, options, &Control::default())?.look()?.situation)
}

/// Downsamples a directory whose lock is held.
///
/// # Errors
/// If it cannot be listed, or a damaged block cannot be set aside. What ends the run later is in the outcome.
pub fn run(
    world: &World,
    dir: &Path,
    options: &DownsamplingOptions,
    control: &Control,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<Outcome, StorageError> {
    let mut work = Work::new(world, dir, options, control)?;
    let mut outcome = Outcome::default();
    remove_temporary(work.disk(), dir)?;
    if work.output != dir && file::exists(&work.output) {
        remove_temporary(work.disk(), &work.output)?;
        // A run that was killed may have left a block whose name is not durable, and raw ones elsewhere rely on it.
        work.disk().sync_dir(&work.output)?;
    }
    let mut found = work.look()?;
    outcome.before = totals(&found.situation.blocks);
    loop {
        for (dir, error) in std::mem::take(&mut found.damaged) {
            match damage_of(&error, &dir) {
                Some(loss) => work.quarantine(&dir, loss, &mut outcome, observer)?,
                None if work.left_alone.iter().all(|(known, _)| *known != dir) => {
                    work.left_alone.push((dir, error.to_string()));
                }
                None => {}
            }
        }
        let steps = found.situation.next_steps();
        if steps.is_empty() {
            break;
        }
        let mut changes = Changes::default();
        let mut failed = None;
        for step in &steps {
            let done = match control.check("downsampling") {
                Err(e) => Err(e.into()),
                Ok(()) => work.perform(step, &found, &mut changes, &mut outcome, observer),
            };
            if let Err(error) = done {
                failed = Some((step, error));
                break;
            }
        }
        found.follow(&changes)?;
        found.situation.held.clone_from(&work.held);
        if let Some((step, error)) = failed {
            if !work.survive(step, error, &mut outcome, observer)? {
                break;
            }
            found = work.look()?;
        } else if work.is_outdated {
            found.situation.without_windows = without_windows::read(&work.output);
            work.is_outdated = false;
        }
    }
    let timeline = found.situation.timeline();
    let (future, _): (Vec<_>, Vec<_>) =
        found.situation.blocks.iter().cloned().partition(|b| timeline.is_future(&b.meta));
    outcome.future = future;
    outcome.kept_back = found.situation.kept_back();
    outcome.after = totals(&found.situation.blocks);
    outcome.left_alone = work.left_alone;
    Ok(outcome)
}
