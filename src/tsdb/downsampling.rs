//! Which blocks are downsampled, merged and dropped: pure functions of what blocks say about themselves and what time it is.
//!
//! **Due** are raw blocks that are older than 40 hours, for windows of five minutes, and blocks of such windows older than
//! ten days, for windows of an hour; age is counted as retention counts it. A block as long as that is due whatever its age,
//! as in Thanos. Blocks from the future are left alone.
//!
//! **Done** is a block whose samples are in downsampled blocks: all its `compaction.sources`, the blocks of level 1 that its
//! samples first were in, are among theirs. So raw blocks may be merged later, or be gone, and nothing is made twice. Where
//! late samples joined raw blocks that were downsampled before, a source is missing, and the range is made anew of the raw
//! blocks there are now; the new block names those it replaces as its parents. If raw blocks of that range are gone, what is
//! late is kept raw, and said.
//!
//! Blocks that overlap are downsampled as one. Short downsampled blocks of one resolution are merged by the plan of raw
//! ones, windows staying as they are.
//!
//! **Tiers**: a raw block goes only when it is older than its tier and done, one of five minutes alike; those of an hour
//! when they are older. The newest raw block stays. Nothing goes unless tiers are given.

pub mod run;
pub(crate) mod without_windows;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;

use tsdbctl_block::downsample::{FIVE_MINUTES_MS, ONE_HOUR_MS};
use tsdbctl_block::plan::{block_ranges, merged_meta, plan_ahead};
use tsdbctl_block::{BlockDescription, BlockMeta};
use tsdbctl_model::duration::{DurationError, format_duration_ms, parse_duration_ms};

use crate::retention::Timeline;

/// Age from which raw blocks are due, ms.
const RAW_DUE_MS: i64 = 40 * 3_600_000;
/// Age from which blocks of five minutes are due, ms.
const FIVE_MINUTES_DUE_MS: i64 = 10 * 24 * 3_600_000;
/// Length of the smallest blocks, ms.
const SMALLEST_BLOCK_MS: i64 = 7_200_000;

/// How long each resolution is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiers {
    /// Raw samples, ms; 0 for ever.
    pub raw_ms: i64,
    /// Windows of five minutes, ms; 0 for ever.
    pub five_minutes_ms: i64,
    /// Windows of an hour, ms; 0 for ever.
    pub one_hour_ms: i64,
}

/// What is wrong with tiers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TierError {
    /// No name and duration.
    #[error("{0:?} is not NAME=DURATION with raw, 5m or 1h as NAME")]
    Item(String),
    /// Not a duration.
    #[error("{text:?}: {error}")]
    Duration {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: DurationError,
    },
    /// There twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// A coarser tier ends first.
    #[error("{coarse} is kept for less time than {fine}, so that samples would be gone between the two")]
    Order {
        /// The finer tier.
        fine: &'static str,
        /// The coarser tier.
        coarse: &'static str,
    },
}

impl Tiers {
    /// What suits a single node: raw samples for two weeks, windows of five minutes for 90 days, of an hour for a year.
    pub const SINGLE_NODE: Self = {
        const DAY_MS: i64 = 24 * 3_600_000;
        Self { raw_ms: 14 * DAY_MS, five_minutes_ms: 90 * DAY_MS, one_hour_ms: 365 * DAY_MS }
    };

    /// Reads `raw=14d,5m=90d,1h=1y`, or `default` for that. What is not named is kept for ever.
    ///
    /// # Errors
    /// If it is something else, or a coarser tier ends before a finer one.
    pub fn parse(text: &str) -> Result<Self, TierError> {
        if text == "default" {
            return Ok(Self::SINGLE_NODE);
        }
        let mut tiers = Self::default();
        let mut seen = BTreeSet::new();
        for item in text.split(',').map(str::trim) {
            let Some((name, duration)) = item.split_once('=') else {
                return Err(TierError::Item(item.to_string()));
            };
            let tier = match name {
                "raw" => &mut tiers.raw_ms,
                "5m" => &mut tiers.five_minutes_ms,
                "1h" => &mut tiers.one_hour_ms,
                _ => return Err(TierError::Item(item.to_string())),
            };
            if !seen.insert(name) {
                return Err(TierError::Twice(name.to_string()));
            }
            *tier = parse_duration_ms(duration)
                .map_err(|error| TierError::Duration { text: duration.to_string(), error })?;
        }
        let ends = [("raw", tiers.raw_ms), ("5m", tiers.five_minutes_ms), ("1h", tiers.one_hour_ms)];
        for (i, (fine, fine_ms)) in ends.iter().enumerate() {
            for (coarse, coarse_ms) in &ends[i + 1..] {
                if *coarse_ms > 0 && (*fine_ms == 0 || coarse_ms < fine_ms) {
                    // A tier that is kept for ever is no gap: samples are in it.
                    if *fine_ms > 0 {
                        return Err(TierError::Order { fine, coarse });
                    }
                }
            }
        }
        Ok(tiers)
    }

    /// How long blocks of a resolution are kept, ms; 0 for ever.
    pub fn of(&self, resolution_ms: i64) -> i64 {
        match resolution_ms {
            ..=0 => self.raw_ms,
            1..ONE_HOUR_MS => self.five_minutes_ms,
            _ => self.one_hour_ms,
        }
    }
}

/// The name of a resolution.
pub fn resolution_name(resolution_ms: i64) -> String {
    if resolution_ms <= 0 { "raw".to_string() } else { format_duration_ms(resolution_ms) }
}

/// A block that is there, or that a step will make.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBlock {
    /// What it says about itself; of one to be made the identifier is `step N`.
    pub meta: BlockMeta,
    /// Where it is; empty of one to be made.
    pub dir: PathBuf,
    /// Bytes on disk; of one to be made what it is made of has, which is more.
    pub bytes: u64,
}

/// All that planning looks at.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// The live blocks of all resolutions.
    pub blocks: Vec<StoredBlock>,
    /// Blocks that others were made of, and that were not yet removed; downsampled ones alone.
    pub superseded: Vec<StoredBlock>,
    /// Identifiers of blocks that nothing is made of in this run.
    pub held: HashSet<String>,
    /// What time it is, Unix ms.
    pub now_ms: i64,
    /// How long each resolution is kept; none if nothing is to go.
    pub tiers: Option<Tiers>,
    /// Whether short downsampled blocks are merged; in the folder of a Thanos bucket its compactor does that.
    pub merges: bool,
    /// Blocks of level 1 that have been read and have nothing for a window: stale markers and not-a-numbers alone.
    pub without_windows: HashSet<String>,
}

/// Why a block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Another block was made of it.
    Replaced,
    /// Its tier ends before it.
    Expired {
        /// Its resolution, ms; 0 for raw.
        resolution_ms: i64,
        /// How long that is kept, ms.
        keep_ms: i64,
        /// Whether it has nothing but stale markers and not-a-numbers, of which nothing goes on.
        is_without_windows: bool,
    },
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("another block holds what it held"),
            Self::Expired { resolution_ms, keep_ms, is_without_windows } => {
                write!(
                    f,
                    "{} is kept for {}",
                    resolution_name(*resolution_ms),
                    format_duration_ms(*keep_ms)
                )?;
                if *is_without_windows {
                    f.write_str(", and it has nothing but stale markers and not-a-numbers")?;
                }
                Ok(())
            }
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write a block.
    Make {
        /// Length of the windows of the new block, ms.
        resolution_ms: i64,
        /// What it is made of; the same resolution, if blocks are merged.
        from: Vec<StoredBlock>,
        /// What it replaces: if blocks are merged, these; if not, earlier ones of the same range.
        replaces: Vec<StoredBlock>,
        /// What it says about itself, its identifier left out.
        meta: Box<BlockMeta>,
    },
    /// Remove a block.
    Remove {
        /// The block.
        block: Box<StoredBlock>,
        /// Why.
        why: Departure,
        /// Identifiers of the coarser blocks that hold what it held, all of which must be sound when it goes.
        relies_on: Vec<String>,
    },
}

impl Step {
    /// Whether blocks of one resolution are merged.
    pub fn is_merge(&self) -> bool {
        match self {
            Self::Make { resolution_ms, from, .. } => {
                from.first().is_some_and(|b| b.meta.resolution_ms() == *resolution_ms)
            }
            Self::Remove { .. } => false,
        }
    }
}

/// A block of late samples that cannot be downsampled.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptBack {
    /// The block, which stays as it is.
    pub block: StoredBlock,
    /// A block of the range whose samples are no longer there in the finer resolution.
    pub beside: String,
}

/// Blocks of one producer; those of several (Thanos' external labels) are never mixed.
type Labels = BTreeMap<String, String>;

fn labels(meta: &BlockMeta) -> Labels {
    meta.thanos.as_ref().map(|t| t.labels.clone()).unwrap_or_default()
}

fn has_labels(meta: &BlockMeta, wanted: &Labels) -> bool {
    meta.thanos.as_ref().map_or(wanted.is_empty(), |t| t.labels == *wanted)
}

/// The blocks of level 1 that a block's samples first were in.
fn sources(meta: &BlockMeta) -> BTreeSet<&str> {
    let named: BTreeSet<&str> = meta.compaction.sources.iter().map(String::as_str).collect();
    if named.is_empty() { BTreeSet::from([&*meta.ulid]) } else { named }
}

fn overlap(a: &BlockMeta, b: &BlockMeta) -> bool {
    a.min_time < b.max_time && b.min_time < a.max_time
}

/// Blocks found by their times.
struct ByTime<'a> {
    /// By start.
    blocks: Vec<&'a StoredBlock>,
    /// Length of the longest, ms.
    longest_ms: i64,
}

impl<'a> ByTime<'a> {
    fn new(blocks: impl Iterator<Item = &'a StoredBlock>) -> Self {
        let mut blocks: Vec<_> = blocks.collect();
        blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, &b.meta.ulid));
        let length = |b: &&StoredBlock| b.meta.max_time.saturating_sub(b.meta.min_time);
        let longest_ms = blocks.iter().map(length).max().unwrap_or(0);
        Self { blocks, longest_ms }
    }

    /// The places of those that overlap with a block.
    fn overlapping(&self, meta: &BlockMeta) -> impl Iterator<Item = usize> {
        let earliest = meta.min_time.saturating_sub(self.longest_ms);
        let first = self.blocks.partition_point(|b| b.meta.min_time < earliest);
        let end = self.blocks.partition_point(|b| b.meta.min_time < meta.max_time);
        let min_time = meta.min_time;
        (first..end.max(first)).filter(move |i| min_time < self.blocks[*i].meta.max_time)
    }

    /// Those that overlap with no other.
    fn apart(&self) -> Vec<&'a StoredBlock> {
        let mut is_apart = vec![true; self.blocks.len()];
        let mut last: Option<usize> = None;
        for (i, block) in self.blocks.iter().enumerate() {
            // Whatever overlaps with this one ends last of those before, or overlaps with the one that does.
            let Some(before) = last else {
                last = Some(i);
                continue;
            };
            let end = self.blocks[before].meta.max_time;
            if block.meta.min_time < end {
                is_apart[i] = false;
                is_apart[before] = false;
            }
            if block.meta.max_time > end {
                last = Some(i);
            }
        }
        self.blocks.iter().zip(is_apart).filter(|(_, is_apart)| *is_apart).map(|(b, _)| *b).collect()
    }
}

/// Blocks that hold what finer ones held.
struct Coarse<'a> {
    by_time: ByTime<'a>,
    /// Of each, in its order.
    sources: Vec<BTreeSet<&'a str>>,
}

impl<'a> Coarse<'a> {
    fn new(blocks: impl Iterator<Item = &'a StoredBlock>) -> Self {
        let by_time = ByTime::new(blocks);
        let sources = by_time.blocks.iter().map(|b| sources(&b.meta)).collect();
        Self { by_time, sources }
    }

    /// Those that overlap with a block, with their sources.
    fn overlapping(&self, meta: &BlockMeta) -> impl Iterator<Item = (&'a StoredBlock, &BTreeSet<&'a str>)> {
        self.by_time.overlapping(meta).map(|i| (self.by_time.blocks[i], &self.sources[i]))
    }
}

impl Situation {
    /// The blocks' times.
    pub fn timeline(&self) -> Timeline {
        Timeline::new(self.blocks.iter().map(|b| &b.meta), self.now_ms, SMALLEST_BLOCK_MS)
    }

    /// What to do next: steps in order of which none changes what another is about; when all are done, or one could not be,
    /// the rest is to be asked for again. None if nothing is left to do.
    pub fn next_steps(&self) -> Vec<Step> {
        let replaced = |block: &StoredBlock| Step::Remove {
            block: Box::new(block.clone()),
            why: Departure::Replaced,
            relies_on: Vec::new(),
        };
        if !self.superseded.is_empty() {
            return self.superseded.iter().map(replaced).collect();
        }
        let timeline = self.timeline();
        let all = self.labels();
        for (from_ms, to_ms) in [(0, FIVE_MINUTES_MS), (FIVE_MINUTES_MS, ONE_HOUR_MS)] {
            for labels in &all {
                let mut steps = Level::new(self, labels, &timeline, from_ms, to_ms).steps();
                if steps.is_empty() {
                    steps = self.merges(labels, to_ms, &timeline);
                }
                if !steps.is_empty() {
                    return steps;
                }
            }
        }
        self.expired(&timeline)
    }

    fn labels(&self) -> BTreeSet<Labels> {
        let mut all: BTreeSet<Labels> = BTreeSet::new();
        for meta in self.blocks.iter().map(|b| &b.meta) {
            // Most have the same.
            if !all.last().is_some_and(|last| has_labels(meta, last)) {
                all.insert(labels(meta));
            }
        }
        all
    }

    /// Late samples that cannot be downsampled.
    pub fn kept_back(&self) -> Vec<KeptBack> {
        let timeline = self.timeline();
        let mut out = Vec::new();
        for labels in &self.labels() {
            for (from_ms, to_ms) in [(0, FIVE_MINUTES_MS), (FIVE_MINUTES_MS, ONE_HOUR_MS)] {
                out.extend(Level::new(self, labels, &timeline, from_ms, to_ms).kept_back());
            }
        }
        out
    }

    /// All steps, as if each were done. The identifiers of blocks that are made are `step N`.
    pub fn simulate(&self) -> Vec<Step> {
        const MOST: usize = 100_000;
        let mut situation = self.clone();
        let mut steps = Vec::new();
        while steps.len() < MOST {
            let next = situation.next_steps();
            if next.is_empty() {
                break;
            }
            let mut gone: HashSet<&str> = HashSet::new();
            let mut new = Vec::new();
            for (i, step) in next.iter().enumerate() {
                match step {
                    Step::Make { replaces, meta, from, .. } => {
                        gone.extend(replaces.iter().map(|b| &*b.meta.ulid));
                        let mut meta = (**meta).clone();
                        meta.ulid = format!("step {}", steps.len() + i + 1);
                        meta.stats.num_series =
                            from.iter().map(|b| b.meta.stats.num_series).max().unwrap_or(0);
                        let bytes = from.iter().map(|b| b.bytes).sum();
                        new.push(StoredBlock { meta, dir: PathBuf::new(), bytes });
                    }
                    Step::Remove { block, .. } => {
                        gone.insert(&block.meta.ulid);
                    }
                }
            }
            situation.leave(&gone);
            situation.blocks.extend(new);
            steps.extend(next);
        }
        steps
    }

    /// Takes blocks out that are gone.
    pub(crate) fn leave(&mut self, gone: &HashSet<&str>) {
        self.blocks.retain(|b| !gone.contains(&*b.meta.ulid));
        self.superseded.retain(|b| !gone.contains(&*b.meta.ulid));
    }

    fn of<'a>(
        &'a self,
        wanted: &'a Labels,
        resolution_ms: i64,
        timeline: &'a Timeline,
    ) -> impl Iterator<Item = &'a StoredBlock> {
        self.blocks.iter().filter(move |b| {
            b.meta.resolution_ms() == resolution_ms
                && has_labels(&b.meta, wanted)
                && !timeline.is_future(&b.meta)
        })
    }

    /// The next merges of downsampled blocks.
    fn merges(&self, labels: &Labels, resolution_ms: i64, timeline: &Timeline) -> Vec<Step> {
        if !self.merges {
            return Vec::new();
        }
        // Windows of the same time cannot be put together: counters of both would have to be known.
        let mut blocks = ByTime::new(self.of(labels, resolution_ms, timeline)).apart();
        blocks.retain(|b| !self.held.contains(&b.meta.ulid));
        // What comes next is not there before this. With it the last blocks are merged when their range is over, and need
        // not wait for newer ones as raw blocks do.
        let end = blocks.iter().map(|b| b.meta.max_time).max().unwrap_or(i64::MIN);
        let start = end.max(due_before(timeline, due_ms(resolution_ms)));
        let mut next = [0, 1].map(|i| {
            let start = start.saturating_add(i);
            let meta = BlockMeta::new(String::new(), start, start.saturating_add(1));
            meta.downsampled(String::new(), resolution_ms)
        });
        next[0].compaction.failed = true;
        // A gap in a merged block would look like time that passed: it may be a clock's that jumped.
        let is_joined = |a: &&StoredBlock, b: &&StoredBlock| {
            b.meta.min_time.saturating_sub(a.meta.max_time) <= SMALLEST_BLOCK_MS
        };
        let merge = |from: Vec<StoredBlock>| {
            let metas: Vec<&BlockMeta> = from.iter().map(|b| &b.meta).collect();
            let merged = merged_meta(String::new(), &metas);
            let mut meta = merged.downsampled(String::new(), resolution_ms);
            if let Some(thanos) = &mut meta.thanos {
                thanos.labels.clone_from(labels);
            }
            count_raw(&mut meta, &metas);
            Step::Make { resolution_ms, replaces: from.clone(), from, meta: Box::new(meta) }
        };
        let mut steps = Vec::new();
        for run in blocks.chunk_by(is_joined).filter(|run| run.len() > 1) {
            let metas: Vec<&BlockMeta> = run.iter().map(|b| &b.meta).chain(&next).collect();
            let chosen = plan_ahead(&metas, &block_ranges(SMALLEST_BLOCK_MS, 7, 3), &|_| false);
            for places in chosen.into_iter().filter(|places| places.len() > 1) {
                steps.push(merge(places.into_iter().map(|i| run[i].clone()).collect()));
            }
        }
        steps
    }

    /// The blocks that their tier does not reach.
    fn expired(&self, timeline: &Timeline) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(tiers) = self.tiers else { return steps };
        let newest = self.of_any(0, timeline).map(|b| b.meta.max_time).max();
        for (resolution_ms, coarser_ms) in
            [(0, Some(FIVE_MINUTES_MS)), (FIVE_MINUTES_MS, Some(ONE_HOUR_MS)), (ONE_HOUR_MS, None)]
        {
            let keep_ms = tiers.of(resolution_ms);
            if keep_ms == 0 {
                continue;
            }
            // Of what goes for good, no gap is elapsed time: it may be a clock's that jumped.
            let cutoff = match coarser_ms {
                Some(_) => timeline.cutoff_ms(keep_ms),
                None => timeline.cutoff_without_gaps_ms(keep_ms),
            };
            let Some(cutoff) = cutoff else { continue };
            let mut old: Vec<&StoredBlock> = self
                .of_any(resolution_ms, timeline)
                .filter(|b| b.meta.max_time <= cutoff && !self.held.contains(&b.meta.ulid))
                .filter(|b| resolution_ms > 0 || Some(b.meta.max_time) != newest)
                .collect();
            old.sort_by_key(|b| (b.meta.min_time, &b.meta.ulid));
            let coarser = coarser_ms.map(|ms| self.sound(ms, timeline));
            for block in old {
                let successors = match &coarser {
                    None => Some(Vec::new()),
                    Some(coarser) => self.covering(&block.meta, coarser),
                };
                let Some(successors) = successors else { continue };
                let is_without_windows = coarser.is_some() && successors.is_empty();
                steps.push(Step::Remove {
                    block: Box::new(block.clone()),
                    why: Departure::Expired { resolution_ms, keep_ms, is_without_windows },
                    relies_on: successors.into_iter().map(|b| b.meta.ulid.clone()).collect(),
                });
            }
            // One tier after the other: what goes here may be what another relied on.
            if !steps.is_empty() {
                break;
            }
        }
        steps
    }

    fn of_any<'a>(
        &'a self,
        resolution_ms: i64,
        timeline: &'a Timeline,
    ) -> impl Iterator<Item = &'a StoredBlock> {
        self.blocks
            .iter()
            .filter(move |b| b.meta.resolution_ms() == resolution_ms && !timeline.is_future(&b.meta))
    }

    /// The blocks of a resolution that others may rely on.
    fn sound(&self, resolution_ms: i64, timeline: &Timeline) -> Coarse<'_> {
        Coarse::new(self.blocks.iter().filter(|b| {
            b.meta.resolution_ms() == resolution_ms
                && !timeline.is_future(&b.meta)
                && !self.held.contains(&b.meta.ulid)
        }))
    }

    /// The blocks of a coarser resolution that together hold what a block holds, as far as there was something to hold;
    /// `None` if a part of it is missing.
    fn covering<'a>(&self, meta: &BlockMeta, coarser: &Coarse<'a>) -> Option<Vec<&'a StoredBlock>> {
        let producer = labels(meta);
        let wanted = sources(meta);
        let mut missing = wanted.clone();
        let mut successors = Vec::new();
        for (block, held) in coarser.overlapping(meta).filter(|(b, _)| has_labels(&b.meta, &producer)) {
            missing.retain(|s| !held.contains(s));
            if wanted.iter().any(|s| held.contains(s)) {
                successors.push(block);
            }
        }
        if meta.resolution_ms() == 0 {
            missing.retain(|s| !self.without_windows.contains(*s));
        }
        missing.is_empty().then_some(successors)
    }
}

/// Age from which blocks are due for windows of a resolution, ms.
fn due_ms(to_ms: i64) -> i64 {
    if to_ms <= FIVE_MINUTES_MS { RAW_DUE_MS } else { FIVE_MINUTES_DUE_MS }
}

fn due_before(timeline: &Timeline, due_ms: i64) -> i64 {
    timeline.reference_ms().unwrap_or(i64::MIN).saturating_sub(due_ms)
}

/// Adds up how many raw samples there were.
fn count_raw(meta: &mut BlockMeta, of: &[&BlockMeta]) {
    meta.stats.num_float_samples = of.iter().map(|m| m.stats.num_float_samples).sum();
    meta.stats.num_histogram_samples = of.iter().map(|m| m.stats.num_histogram_samples).sum();
}

/// Blocks of one producer in a resolution, and in the next.
struct Level<'a> {
    to_ms: i64,
    /// By start: blocks that overlap with each other, together.
    fine: Vec<Vec<&'a StoredBlock>>,
    coarse: Coarse<'a>,
    held: &'a HashSet<String>,
    /// Blocks of level 1 that have nothing for a window.
    without_windows: Option<&'a HashSet<String>>,
    due_before: i64,
    due_length: i64,
}

fn end_of(group: &[&StoredBlock]) -> i64 {
    group.iter().map(|b| b.meta.max_time).max().unwrap_or(i64::MIN)
}

/// What there is to do about blocks that overlap.
enum Finding<'a> {
    Nothing,
    Make { from: Vec<&'a StoredBlock>, replaces: Vec<&'a StoredBlock> },
    KeptBack { blocks: Vec<&'a StoredBlock>, beside: &'a StoredBlock },
}

impl<'a> Level<'a> {
    fn new(
        situation: &'a Situation,
        labels: &'a Labels,
        timeline: &'a Timeline,
        from_ms: i64,
        to_ms: i64,
    ) -> Self {
        let due_ms = due_ms(to_ms);
        let mut fine: Vec<&StoredBlock> = situation.of(labels, from_ms, timeline).collect();
        fine.sort_by_key(|b| (b.meta.min_time, b.meta.max_time, &b.meta.ulid));
        let mut groups: Vec<Vec<&StoredBlock>> = Vec::new();
        let mut end = i64::MIN;
        for block in fine {
            match groups.last_mut() {
                Some(group) if block.meta.min_time < end => group.push(block),
                _ => groups.push(vec![block]),
            }
            end = end.max(block.meta.max_time);
        }
        Self {
            to_ms,
            fine: groups,
            coarse: Coarse::new(situation.of(labels, to_ms, timeline)),
            held: &situation.held,
            without_windows: (from_ms == 0).then_some(&situation.without_windows),
            due_before: due_before(timeline, due_ms),
            due_length: due_ms,
        }
    }

    fn is_due(&self, block: &StoredBlock) -> bool {
        let meta = &block.meta;
        (meta.max_time <= self.due_before || meta.max_time.saturating_sub(meta.min_time) >= self.due_length)
            && !self.held.contains(&meta.ulid)
    }

    fn findings(&self) -> impl Iterator<Item = Finding<'a>> {
        (0..self.fine.len()).map(|i| self.find(i))
    }

    fn find(&self, place: usize) -> Finding<'a> {
        let mut from = BTreeSet::from([place]);
        loop {
            let blocks: Vec<&'a StoredBlock> = from.iter().flat_map(|i| &self.fine[*i]).copied().collect();
            let wanted: BTreeSet<&str> = blocks.iter().flat_map(|b| sources(&b.meta)).collect();
            let mut there: Vec<(&'a StoredBlock, &BTreeSet<&'a str>)> =
                blocks.iter().flat_map(|b| self.coarse.overlapping(&b.meta)).collect();
            there.sort_by_key(|(b, _)| (b.meta.min_time, &b.meta.ulid));
            there.dedup_by_key(|(b, _)| &b.meta.ulid);
            let is_held = |s: &&str| {
                there.iter().any(|(_, held)| held.contains(s))
                    || self.without_windows.is_some_and(|w| w.contains(*s))
            };
            if from.len() == 1 && wanted.iter().all(is_held) || !blocks.iter().all(|b| self.is_due(b)) {
                return Finding::Nothing;
            }
            let Some((partly, _)) = there.iter().find(|(_, held)| !held.is_subset(&wanted)) else {
                return Finding::Make { from: blocks, replaces: there.iter().map(|(b, _)| *b).collect() };
            };
            // It holds more than what is made here: that has to be made with it.
            let first = self.fine.partition_point(|g| end_of(g) <= partly.meta.min_time);
            let end = self.fine.partition_point(|g| g[0].meta.min_time < partly.meta.max_time);
            let more = (first..end.max(first)).filter(|i| {
                !from.contains(i) && self.fine[*i].iter().any(|b| overlap(&b.meta, &partly.meta))
            });
            let more: Vec<usize> = more.collect();
            if more.is_empty() {
                return Finding::KeptBack { blocks, beside: partly };
            }
            from.extend(more);
        }
    }

    /// What can be made, no block being used or replaced twice.
    fn steps(&self) -> Vec<Step> {
        let mut used: HashSet<&str> = HashSet::new();
        let mut steps = Vec::new();
        for finding in self.findings() {
            let Finding::Make { from, replaces } = finding else { continue };
            let about = || from.iter().chain(&replaces).map(|b| &*b.meta.ulid);
            if !about().any(|ulid| used.contains(ulid)) {
                used.extend(about());
                steps.push(self.make(&from, &replaces));
            }
        }
        steps
    }

    fn make(&self, from: &[&StoredBlock], replaces: &[&StoredBlock]) -> Step {
        let metas: Vec<&BlockMeta> = from.iter().map(|b| &b.meta).collect();
        let mut meta = match &metas[..] {
            [one] => one.downsampled(String::new(), self.to_ms),
            _ => {
                let mut merged = merged_meta(String::new(), &metas);
                merged.compaction.parents.clear();
                let mut meta = merged.downsampled(String::new(), self.to_ms);
                if let Some(thanos) = &mut meta.thanos {
                    thanos.labels = labels(metas[0]);
                }
                count_raw(&mut meta, &metas);
                meta
            }
        };
        meta.compaction.failed = false;
        for block in replaces {
            meta.compaction.parents.push(BlockDescription {
                ulid: block.meta.ulid.clone(),
                min_time: block.meta.min_time,
                max_time: block.meta.max_time,
            });
        }
        let owned = |blocks: &[&StoredBlock]| blocks.iter().copied().cloned().collect();
        Step::Make {
            resolution_ms: self.to_ms,
            from: owned(from),
            replaces: owned(replaces),
            meta: Box::new(meta),
        }
    }

    fn kept_back(&self) -> Vec<KeptBack> {
        let mut out = Vec::new();
        // Blocks beside the same one are found from each of them.
        let mut seen: HashSet<&str> = HashSet::new();
        for finding in self.findings() {
            if let Finding::KeptBack { blocks, beside } = finding {
                out.extend(
                    blocks
                        .into_iter()
                        .filter(|b| seen.insert(&b.meta.ulid))
                        .map(|b| KeptBack { block: b.clone(), beside: beside.meta.ulid.clone() }),
                );
            }
        }
        out
    }
}

#[cfg(test)]
#[path = "downsampling/tests.rs"]
mod tests;
