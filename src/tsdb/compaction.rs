//! Compacting a data directory: what is planned is done, step by step, until nothing is left to do. Whoever calls holds
//! the directory's lock.
//!
//! Each step leaves the directory whole: a new block is durable and visible, and can be opened, before what it replaces
//! is renamed away and removed. A run that is cut off anywhere leaves only temporary directories, which the next one
//! removes, and blocks that say by their parents what they replace.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tsdbctl_block::block_writer::{WriterOptions, write_block};
use tsdbctl_block::merge::MergedSource;
use tsdbctl_block::meta::new_ulid;
use tsdbctl_block::plan::merged_meta;
use tsdbctl_block::source::BlockSource;
use tsdbctl_block::{Block, BlockMeta, merge_memory};
use tsdbctl_platform::disk::{Access, Disk};
use tsdbctl_platform::file::{self, FileError};
use tsdbctl_platform::world::World;
use tsdbctl_storage::{ChunkSource, Control, Loss, StorageError, Watched};

use crate::block_names::{self, remove_content, take_away};
use crate::blocks::{BlockEntry, DOWNSAMPLED, Listing};
use crate::compaction_plan::{
    CompactionOptions, MEMORY_LEAST, Plan, PlannedBlock, Refusal, Removal, Rewrite, Situation, Step, Why,
    next_steps, simulate,
};
use crate::downsampling::without_windows;
use crate::live::remove_temporary;
use crate::quarantine::{Quarantined, damage_of, set_aside};
use crate::retention_rules::{RuledSource, overdue_rule};

/// Steps that are done before the directory is looked at again: a server's head may have been cut meanwhile.
const STEPS_AT_ONCE: usize = 64;

/// What is going on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A rewrite begins.
    Begun(&'a Rewrite),
    /// So many bytes of chunks were read since the last time.
    Read(u64),
    /// A new block is there, or nothing was left for one, and what it replaces is about to be removed: who lists blocks
    /// for readers changes the list now.
    Installed(Option<&'a PlannedBlock>, &'a [PlannedBlock]),
    /// Blocks are about to be removed.
    Removing(&'a [(PlannedBlock, Removal)]),
    /// A rewrite is done.
    Written(&'a Written),
    /// A rewrite is not done.
    Refused(&'a Rewrite),
    /// A block goes.
    Removed(&'a PlannedBlock, &'a Removal),
    /// A block was set aside.
    Quarantined(&'a Quarantined),
}

/// A rewrite that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Why.
    pub why: Why,
    /// What was replaced.
    pub blocks: Vec<PlannedBlock>,
    /// The new block; `None` if no sample was left.
    pub into: Option<PlannedBlock>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What there was before.
    pub before: Totals,
    /// What there is now.
    pub after: Totals,
    /// Blocks written anew.
    pub written: Vec<Written>,
    /// Blocks removed, those that were replaced by this run left out.
    pub removed: Vec<(PlannedBlock, Removal)>,
    /// Blocks set aside.
    pub quarantined: Vec<Quarantined>,
    /// What was not done.
    pub refused: Vec<Rewrite>,
    /// Blocks from the future, which were left alone.
    pub future: Vec<PlannedBlock>,
    /// Blocks that cannot be judged: of an unknown version, or the system does not let them be read.
    pub left_alone: Vec<(PathBuf, String)>,
    /// Blocks that retention removed before they were downsampled, in a directory that is.
    pub not_downsampled: Vec<PlannedBlock>,
    /// What ended the run early; what was done before stays.
    pub stopped: Option<StorageError>,
}

/// Blocks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub blocks: usize,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Outcome {
    /// Whether nothing was to be done and nothing is wrong.
    pub fn is_idle(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty() && self.is_complete()
    }

    /// Whether all was done.
    pub fn is_complete(&self) -> bool {
        self.quarantined.is_empty()
            && self.refused.is_empty()
            && self.left_alone.is_empty()
            && self.stopped.is_none()
    }
}

/// A directory's blocks, and what is wrong with others.
struct Found {
    situation: Situation,
    entries: HashMap<String, BlockEntry>,
    /// The blocks of level 1 that were downsampled; none if nothing ever was.
    downsampled: HashSet<String>,
    /// By directory.
    damaged: Vec<(PathBuf, Loss)>,
    left_alone: Vec<(PathBuf, String)>,
}

/// What to do and with what.
struct Work<'a> {
    world: &'a World,
    dir: &'a Path,
    options: &'a CompactionOptions,
    control: &'a Control,
    /// Refused ones.
    held: HashSet<String>,
    /// By block: whether a rule is overdue does not change during a run.
    overdue: HashMap<String, Option<usize>>,
}

impl Work<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.world.disk
    }

    fn look(&self) -> Result<Found, StorageError> {
        let listing = Listing::of(self.dir, true)?;
        let mut found = Found {
            situation: Situation {
                held: self.held.clone(),
                head_bytes: head_bytes(self.dir)?,
                free_bytes: self.disk().free_space(self.dir)?,
                total_bytes: self.disk().total_space(self.dir).ok(),
                now_ms: self.world.clock.now_ms(),
                ..Situation::default()
            },
            entries: HashMap::new(),
            downsampled: HashSet::new(),
            damaged: Vec::new(),
            left_alone: Vec::new(),
        };
        let windows = listing.downsampled.iter();
        found.downsampled.extend(windows.flat_map(|e| e.meta.compaction.sources.iter().cloned()));
        if !found.downsampled.is_empty() {
            found.downsampled.extend(without_windows::read(&self.dir.join(DOWNSAMPLED)));
        }
        for loss in listing.losses {
            let dir = file::parent(&loss.file).to_owned();
            match BlockEntry::read(&dir) {
                Ok(_) => {}
                Err(e) => match damage_of(&e, &dir) {
                    Some(loss) => found.damaged.push((dir, loss)),
                    None => found.left_alone.push((dir, e.to_string())),
                },
            }
        }
        for entry in listing.live {
            // A block that is listed under another's name would be taken for that one.
            let named = entry.dir.file_name().is_some_and(|name| *name == *entry.meta.ulid);
            if !named {
                let reason = format!("its meta.json says that it is {}", entry.meta.ulid);
                found.left_alone.push((entry.dir, reason));
                continue;
            }
            let block = planned(&entry)?;
            found.situation.live.push(block);
            found.entries.insert(entry.meta.ulid.clone(), entry);
        }
        let mut superseded = Vec::new();
        for entry in listing.superseded {
            let empty = entry.meta.compaction.deletable;
            superseded.push((planned(&entry)?, if empty { Removal::Empty } else { Removal::Replaced }));
            found.entries.insert(entry.meta.ulid.clone(), entry);
        }
        found.situation.superseded = parents_first(superseded);
        Ok(found)
    }

    /// Blocks that others were made of go only when those can be opened.
    fn check_children(&self, found: &mut Found) {
        if found.situation.superseded.is_empty() {
            return;
        }
        let mut still_needed: HashSet<String> = HashSet::new();
        let superseded: HashSet<&str> =
            found.situation.superseded.iter().map(|(b, _)| &*b.meta.ulid).collect();
        for entry in found.entries.values() {
            let parents = &entry.meta.compaction.parents;
            if !parents.iter().any(|p| superseded.contains(&*p.ulid)) {
                continue;
            }
            if let Err(e) = entry.block() {
                match damage_of(&e, &entry.dir) {
                    Some(loss) => found.damaged.push((entry.dir.clone(), loss)),
                    None => found.left_alone.push((entry.dir.clone(), e.to_string())),
                }
                still_needed.extend(parents.iter().map(|p| p.ulid.clone()));
            }
        }
        found.situation.superseded.retain(|(b, _)| !still_needed.contains(&b.meta.ulid));
    }

    fn next(&mut self, found: &Found) -> Result<Vec<Step>, StorageError> {
        let (options, control, overdue) = (self.options, self.control, &mut self.overdue);
        let mut check = |block: &PlannedBlock, cutoffs: &[Option<i64>]| {
            check_rules(&found.entries, overdue, options, control, block, cutoffs)
        };
        next_steps(&found.situation, options, &mut check)
    }

    /// Removes blocks in their order: names go before content, and a block's before those of what was made of it.
    fn remove(
        &self,
        blocks: &[(PlannedBlock, Removal)],
        entries: &HashMap<String, BlockEntry>,
    ) -> Result<(), StorageError> {
        self.settle_children(blocks, entries)?;
        let mut renamed = Vec::new();
        let mut pending: HashSet<&str> = HashSet::new();
        for (block, _) in blocks {
            let Some(entry) = entries.get(&block.meta.ulid) else { continue };
            // Its parents have to be gone for sure before it goes.
            if block.meta.compaction.parents.iter().any(|p| pending.contains(&*p.ulid)) {
                self.disk().sync_dir(self.dir)?;
                pending.clear();
            }
            renamed.push(take_away(self.disk(), &entry.dir)?);
            pending.insert(&block.meta.ulid);
        }
        Ok(remove_content(self.disk(), &renamed)?)
    }

    /// Blocks that replace others get their names anew where these were not made durable; no later sync of the same
    /// names has to do it. If one is lost on the way its parents are there. Not done where nothing failed: a crash on the
    /// way would bring back what was deleted since.
    fn settle_children(
        &self,
        blocks: &[(PlannedBlock, Removal)],
        entries: &HashMap<String, BlockEntry>,
    ) -> Result<(), StorageError> {
        let gone: HashSet<&str> = blocks
            .iter()
            .filter(|(_, why)| *why == Removal::Replaced)
            .map(|(block, _)| &*block.meta.ulid)
            .collect();
        let children = entries.values().filter(|e| {
            e.meta.resolution_ms() == 0 && e.meta.compaction.parents.iter().any(|p| gone.contains(&*p.ulid))
        });
        for child in children.filter(|child| doubtful().contains(&child.dir)) {
            block_names::settle(self.disk(), &child.dir)?;
            doubtful().remove(&child.dir);
        }
        Ok(())
    }

    /// Writes the new block of a step and removes what it replaces.
    fn rewrite(
        &self,
        step: &Rewrite,
        found: &Found,
        observer: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Written, StorageError> {
        let entries: Vec<&BlockEntry> =
            step.blocks.iter().filter_map(|b| found.entries.get(&b.meta.ulid)).collect();
        let mut sources: Vec<Box<dyn ChunkSource>> = Vec::with_capacity(entries.len());
        for entry in &entries {
            sources.push(Box::new(BlockSource::new(entry.block()?, i64::MIN, i64::MAX)?));
        }
        let mut source: Box<dyn ChunkSource> = Box::new(MergedSource::new(sources)?);
        let cutoffs = self.options.rules.cutoffs(&found.situation.timeline(self.options));
        if cutoffs.iter().any(Option::is_some) {
            source = Box::new(RuledSource::new(source, &self.options.rules, cutoffs)?);
        }
        let metas: Vec<&BlockMeta> = entries.iter().map(|e| &e.meta).collect();
        let meta = merged_meta(new_ulid(self.world)?, &metas);
        let ulid = meta.ulid.clone();
        let mut options = WriterOptions::default();
        if let Some(limit) = self.options.memory_bytes {
            let left = usize::try_from(limit.saturating_sub(step.memory_bytes)).unwrap_or(usize::MAX);
            options.memory_bytes = (left / 2).clamp(8 << 20, 256 << 20);
        }
        let mut watched = Watched { inner: &mut *source, tell: |bytes| observer(Event::Read(bytes)) };
        let disk = Arc::clone(&self.world.disk);
        let written = write_block(disk, self.dir, &mut watched, meta, options, self.control);
        let written = written.inspect_err(|_| {
            let block_dir = self.dir.join(&ulid);
            if file::exists(&block_dir) {
                doubtful().insert(block_dir);
            }
        })?;
        let into = match written {
            Some(_) => Some(self.verified(&self.dir.join(&ulid))?),
            None => {
                // As upstream: what nothing is left of says so itself, whatever happens before it is removed.
                for entry in &entries {
                    let mut meta = entry.meta.clone();
                    meta.compaction.deletable = true;
                    meta.replace(self.disk(), &entry.dir)?;
                }
                None
            }
        };
        observer(Event::Installed(into.as_ref(), &step.blocks));
        block_names::remove(self.disk(), entries.iter().map(|e| &*e.dir))?;
        Ok(Written { why: step.why.clone(), blocks: step.blocks.clone(), into })
    }

    /// A new block that can be opened; one that cannot is removed again.
    fn verified(&self, block_dir: &Path) -> Result<PlannedBlock, StorageError> {
        match BlockEntry::read(block_dir).and_then(|entry| entry.block().map(|_| entry)) {
            Ok(entry) => planned(&entry),
            Err(e) => {
                block_names::remove(self.disk(), [block_dir])?;
                Err(StorageError::Unsupported {
                    file: block_dir.to_owned(),
                    reason: format!("what was just written cannot be read back, nothing was replaced: {e}"),
                })
            }
        }
    }
}

/// What a step takes in memory by its blocks' labels, of which the plan knows nothing; refuses it if that is too much.
fn look_at_memory(
    step: &mut Rewrite,
    entries: &HashMap<String, BlockEntry>,
    options: &CompactionOptions,
) -> Result<(), StorageError> {
    let (Some(limit), None) = (options.memory_bytes, &step.refusal) else { return Ok(()) };
    let mut blocks = Vec::with_capacity(step.blocks.len());
    for entry in step.blocks.iter().filter_map(|b| entries.get(&b.meta.ulid)) {
        blocks.push(entry.block()?);
    }
    let needed = MEMORY_LEAST + merge_memory(&blocks, limit.saturating_sub(MEMORY_LEAST))?;
    step.memory_bytes = needed;
    if needed > limit {
        step.refusal = Some(Refusal::Memory { needed, limit });
    }
    Ok(())
}

/// Blocks that are visible though making their names durable failed, and taking them back too.
fn doubtful() -> MutexGuard<'static, HashSet<PathBuf>> {
    static DOUBTFUL: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    DOUBTFUL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_rules(
    entries: &HashMap<String, BlockEntry>,
    overdue: &mut HashMap<String, Option<usize>>,
    options: &CompactionOptions,
    control: &Control,
    block: &PlannedBlock,
    cutoffs: &[Option<i64>],
) -> Result<Option<usize>, StorageError> {
    let ulid = &block.meta.ulid;
    if let Some(known) = overdue.get(ulid) {
        return Ok(*known);
    }
    let Some(entry) = entries.get(ulid) else { return Ok(None) };
    // Opened apart, so that it is not kept open.
    let opened = Arc::new(Block::open_with_meta(&entry.dir, entry.meta.clone())?);
    let rule = overdue_rule(&opened, &options.rules, cutoffs, control)?;
    overdue.insert(ulid.clone(), rule);
    Ok(rule)
}

fn planned(entry: &BlockEntry) -> Result<PlannedBlock, StorageError> {
    Ok(PlannedBlock { meta: entry.meta.clone(), bytes: entry.size_bytes()?, made_by: None })
}

/// Sorts blocks so that none comes before one it was made of: else, if a crash comes between, the older one would count
/// again.
fn parents_first(mut blocks: Vec<(PlannedBlock, Removal)>) -> Vec<(PlannedBlock, Removal)> {
    let mut sorted = Vec::with_capacity(blocks.len());
    while !blocks.is_empty() {
        let waiting: HashSet<String> = blocks.iter().map(|(b, _)| b.meta.ulid.clone()).collect();
        let is_free = |b: &PlannedBlock| {
            !b.meta.compaction.parents.iter().any(|p| p.ulid != b.meta.ulid && waiting.contains(&p.ulid))
        };
        let (free, others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(b, _)| is_free(b));
        // Blocks made of each other are nonsense, and in any order.
        let stuck = free.is_empty();
        sorted.extend(free);
        blocks = others;
        if stuck {
            sorted.append(&mut blocks);
        }
    }
    sorted
}

/// Bytes of what belongs to the head, as upstream counts them: logs with their checkpoints, and chunk files. `None` if
/// there is no log.
pub fn head_bytes(dir: &Path) -> Result<Option<u64>, StorageError> {
    if !file::is_dir(&dir.join("wal")) {
        return Ok(None);
    }
    let mut total = 0;
    for part in ["wal", "wbl", "chunks_head"] {
        total += tree_bytes(&dir.join(part))?;
    }
    Ok(Some(total))
}

fn tree_bytes(dir: &Path) -> Result<u64, StorageError> {
    let entries = match file::read_dir(dir) {
        // A running server may have removed it.
        Err(e) if e.is_not_found() => return Ok(0),
        entries => entries?,
    };
    let mut total = 0;
    for entry in entries {
        total += if entry.is_dir { tree_bytes(&entry.path)? } else { entry.size };
    }
    Ok(total)
}

/// What compacting a directory would do. Needs no lock: a running server's directory may be looked at.
///
/// # Errors
/// If the directory or a block that is asked about cannot be read.
pub fn plan_directory(
    world: &World,
    dir: &Path,
    options: &CompactionOptions,
    control: &Control,
) -> Result<(Plan, Vec<(PathBuf, String)>), StorageError> {
    let mut work = Work { world, dir, options, control, held: HashSet::new(), overdue: HashMap::new() };
    let found = work.look()?;
    let mut wrong = found.left_alone;
    wrong.extend(found.damaged.into_iter().map(|(dir, loss)| (dir, StorageError::from(loss).to_string())));
    let overdue = &mut work.overdue;
    let mut check = |block: &PlannedBlock, cutoffs: &[Option<i64>]| match check_rules(
        &found.entries,
        overdue,
        options,
        control,
        block,
        cutoffs,
    ) {
        Err(e @ StorageError::Control(_)) => Err(e),
        Err(e) => {
            overdue.insert(block.meta.ulid.clone(), None);
            wrong.push((dir.join(&block.meta.ulid), e.to_string()));
            Ok(None)
        }
        rule => rule,
    };
    let mut plan = simulate(found.situation, options, &mut check)?;
    for step in &mut plan.steps {
        if let Step::Rewrite(step) = step
            && step.blocks.iter().all(|b| b.made_by.is_none())
            && let Err(e) = look_at_memory(step, &found.entries, options)
        {
            wrong.extend(step.blocks.first().map(|b| (dir.join(&b.meta.ulid), e.to_string())));
        }
    }
    Ok((plan, wrong))
}

/// Compacts a directory whose lock the caller holds, until nothing is left to do, or something ends it: then that is in
/// the outcome, and what was done before stays.
pub fn compact(
    world: &World,
    dir: &Path,
    options: &CompactionOptions,
    control: &Control,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut work = Work { world, dir, options, control, held: HashSet::new(), overdue: HashMap::new() };
    if let Err(e) = run(&mut work, &mut outcome, observer) {
        // What the step left is no use; if it cannot be removed now, the next run does it.
        let _ = remove_temporary(&*world.disk, dir);
        outcome.stopped = Some(e);
    }
    if let Ok(found) = work.look() {
        outcome.after = totals(&found.situation);
    }
    outcome
}

fn totals(situation: &Situation) -> Totals {
    let superseded = situation.superseded.iter().map(|(b, _)| b);
    let all = situation.live.iter().chain(superseded);
    Totals { blocks: all.clone().count(), bytes: all.map(|b| b.bytes).sum() }
}

fn run(
    work: &mut Work<'_>,
    outcome: &mut Outcome,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<(), StorageError> {
    remove_temporary(work.disk(), work.dir)?;
    let mut is_first = true;
    loop {
        work.control.check("compaction")?;
        let mut found = work.look()?;
        if std::mem::take(&mut is_first) {
            outcome.before = totals(&found.situation);
            outcome.future = found.situation.future(work.options).into_iter().cloned().collect();
        }
        work.check_children(&mut found);
        outcome.left_alone = std::mem::take(&mut found.left_alone);
        if !found.damaged.is_empty() {
            for (block_dir, loss) in std::mem::take(&mut found.damaged) {
                quarantine(work, outcome, observer, &block_dir, loss, "listing the blocks".to_owned())?;
            }
            continue;
        }
        let mut steps = match work.next(&found) {
            Ok(steps) if steps.is_empty() => return Ok(()),
            Ok(steps) => steps,
            Err(e) => {
                let step = "looking for series that retention rules take".to_owned();
                blame(work, outcome, observer, &found, e, step)?;
                continue;
            }
        };
        steps.truncate(STEPS_AT_ONCE);
        for (i, step) in steps.into_iter().enumerate() {
            if i > 0 {
                work.control.check("compaction")?;
                found.situation.free_bytes = work.disk().free_space(work.dir)?;
            }
            if !perform(work, step, &found, outcome, observer)? {
                break;
            }
        }
    }
}

/// Does a step; false if it could not be done, and what comes next is to be asked for again.
fn perform(
    work: &mut Work<'_>,
    step: Step,
    found: &Found,
    outcome: &mut Outcome,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<bool, StorageError> {
    let mut step = match step {
        Step::Rewrite(step) => step,
        Step::Remove(blocks) => {
            observer(Event::Removing(&blocks));
            work.remove(&blocks, &found.entries)?;
            for (block, removal) in blocks {
                let is_done = |s: &String| found.downsampled.contains(s);
                if matches!(removal, Removal::Expired(_))
                    && !found.downsampled.is_empty()
                    && !block.meta.compaction.sources.iter().all(is_done)
                {
                    outcome.not_downsampled.push(block.clone());
                }
                observer(Event::Removed(&block, &removal));
                outcome.removed.push((block, removal));
            }
            return Ok(true);
        }
    };
    step.refusal = step.refused(&found.situation, work.options);
    let looked = look_at_memory(&mut step, &found.entries, work.options);
    if step.refusal.is_some() {
        work.held.extend(step.blocks.iter().map(|b| b.meta.ulid.clone()));
        observer(Event::Refused(&step));
        outcome.refused.push(*step);
        return Ok(false);
    }
    observer(Event::Begun(&step));
    match looked.and_then(|()| work.rewrite(&step, found, observer)) {
        Ok(written) => {
            observer(Event::Written(&written));
            outcome.written.push(written);
            Ok(true)
        }
        Err(e) => {
            let ulids: Vec<&str> = step.blocks.iter().map(|b| &*b.meta.ulid).collect();
            let what = format!("writing {} anew", ulids.join(", "));
            blame(work, outcome, observer, found, e, what)?;
            Ok(false)
        }
    }
}

/// Sets the block aside whose damage an error is; any other error ends the run.
fn blame(
    work: &Work<'_>,
    outcome: &mut Outcome,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
    found: &Found,
    error: StorageError,
    step: String,
) -> Result<(), StorageError> {
    let culprit = found.entries.values().find_map(|e| Some((e, damage_of(&error, &e.dir)?)));
    let Some((entry, loss)) = culprit else { return Err(error) };
    if file::exists(&loss.file) {
        // A file that the system cannot read looks cut short through its map.
        read_through(work.disk(), &loss.file)?;
    }
    remove_temporary(work.disk(), work.dir)?;
    quarantine(work, outcome, observer, &entry.dir, loss, step)
}

fn quarantine(
    work: &Work<'_>,
    outcome: &mut Outcome,
    observer: &mut (dyn FnMut(Event<'_>) + Send),
    block_dir: &Path,
    loss: Loss,
    step: String,
) -> Result<(), StorageError> {
    let now_ms = work.world.clock.now_ms();
    let quarantined = set_aside(work.disk(), work.dir, block_dir, loss, step, now_ms)?;
    observer(Event::Quarantined(&quarantined));
    outcome.quarantined.push(quarantined);
    Ok(())
}

fn read_through(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    let file = disk.open(path, Access::Read)?;
    let (mut bytes, mut offset) = (vec![0; 1 << 16], 0);
    loop {
        match file.read_at(&mut bytes, offset)? {
            0 => return Ok(()),
            n => offset += n as u64,
        }
    }
}
