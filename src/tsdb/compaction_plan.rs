//! What compacting a data directory comes to, step by step: which blocks go, which become one, what is applied to them,
//! and what each step needs. [`next_steps`] decides; the compaction does as it says, and [`simulate`] goes on with what
//! would be there then.

use std::collections::HashSet;
use std::fmt;

use tsdbctl_block::BlockMeta;
use tsdbctl_block::plan::{block_ranges, merged_meta, plan_ahead};
use tsdbctl_model::duration::format_duration_ms;
use tsdbctl_storage::StorageError;

use crate::retention::{Expiry, Retention, Timeline, judge};
use crate::retention_rules::Rules;

/// Upstream's range of the smallest blocks, ms.
pub const MIN_BLOCK_MS: i64 = 2 * 3_600_000;
/// Upstream's range of the largest blocks, ms; a tenth of the retention if that is less.
pub const MAX_BLOCK_MS: i64 = 31 * 24 * 3_600_000;
/// Bytes a second that are read, merged and written, for estimates.
const BYTES_PER_SECOND: u64 = 60 << 20;
/// What making a block durable takes however small it is, ms, for estimates.
const STEP_MS: u64 = 20;

/// What compaction is to do.
#[derive(Clone, Debug, Default)]
pub struct CompactionOptions {
    /// Ranges of blocks, ms, ascending.
    pub ranges_ms: Vec<i64>,
    /// What is kept of the blocks.
    pub retention: Retention,
    /// What is kept of some series.
    pub rules: Rules,
    /// Memory that a step may take, bytes.
    pub memory_bytes: Option<u64>,
    /// Bytes that a step may write before what it replaces is removed.
    pub scratch_bytes: Option<u64>,
    /// Identifiers of uploaded blocks: others of level 1 wait, and all that begin later.
    pub uploaded: Option<HashSet<String>>,
    /// Whether all that the head held is in blocks.
    pub is_head_flushed: bool,
}

/// The ranges of blocks as upstream has them, ms: each three times the one before, up to `max_ms`.
pub fn ranges_up_to(min_ms: i64, max_ms: i64) -> Vec<i64> {
    let max_ms = max_ms.max(min_ms);
    let mut ranges = block_ranges(min_ms, 10, 3);
    ranges.retain(|range| *range <= max_ms);
    ranges
}

/// The range of the largest blocks by upstream's defaults, ms.
pub fn default_max_block_ms(retention_ms: i64) -> i64 {
    match retention_ms {
        1.. => MAX_BLOCK_MS.min(retention_ms / 10),
        _ => MAX_BLOCK_MS,
    }
}

/// A block that is there, or that a step will make.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedBlock {
    /// What it says about itself; of one to be made the identifier is not known, and `step N` stands for it.
    pub meta: BlockMeta,
    /// Bytes on disk; of one to be made, at most.
    pub bytes: u64,
    /// Number of the step that makes it, from 1.
    pub made_by: Option<usize>,
}

/// Why a block is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Another block holds what it held.
    Replaced,
    /// It has no samples.
    Empty,
    /// Retention.
    Expired(Expiry),
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("another block holds what it held"),
            Self::Empty => f.write_str("it has no samples"),
            Self::Expired(expiry) => expiry.fmt(f),
        }
    }
}

/// Why blocks are written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Together they fill a range of larger blocks.
    Range,
    /// They cover the same times.
    Overlap,
    /// Much of the block is deleted.
    Deletions,
    /// A retention rule takes some of its series.
    Rule {
        /// Its selector.
        selector: String,
        /// What it keeps, ms.
        keep_ms: i64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("they fill a larger range"),
            Self::Overlap => f.write_str("they cover the same times"),
            Self::Deletions => f.write_str("much of it is deleted"),
            Self::Rule { selector, keep_ms } => {
                write!(f, "rule {selector}={}", format_duration_ms(*keep_ms))
            }
        }
    }
}

/// Why a step is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file system has not enough room.
    Space {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// It would write more than it may.
    Scratch {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// It would take more memory than it may.
    Memory {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The result would seem to hold in-order samples up to where the head still has some, and these would be left out
    /// when it is loaded.
    Head,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Space { needed, free } => {
                write!(f, "it needs {needed} bytes beside what there is, {free} are free")
            }
            Self::Scratch { needed, limit } => {
                write!(f, "it needs {needed} bytes beside what there is, the limit is {limit}")
            }
            Self::Memory { needed, limit } => {
                write!(f, "it needs about {needed} bytes of memory, the limit is {limit}")
            }
            Self::Head => f.write_str(
                "late samples would join a block that ends where the head still has samples; the head has to be flushed first",
            ),
        }
    }
}

/// Blocks written anew as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// Why.
    pub why: Why,
    /// Which, by start.
    pub blocks: Vec<PlannedBlock>,
    /// What they become.
    pub into: PlannedBlock,
    /// Bytes needed beside what there is until the old blocks are removed.
    pub scratch_bytes: u64,
    /// Estimate of the memory it takes, bytes.
    pub memory_bytes: u64,
    /// Estimate of the time it takes, ms.
    pub time_ms: u64,
    /// Why it is not done.
    pub refusal: Option<Refusal>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Remove blocks, in this order.
    Remove(Vec<(PlannedBlock, Removal)>),
    /// Write blocks anew.
    Rewrite(Box<Rewrite>),
}

/// What a directory holds and what time it is.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// Blocks that count.
    pub live: Vec<PlannedBlock>,
    /// Blocks that are to be removed anyway, in an order in which none is removed before one it was made of.
    pub superseded: Vec<(PlannedBlock, Removal)>,
    /// Blocks of steps that were refused: they are left alone, and nothing is merged across them.
    pub held: HashSet<String>,
    /// Bytes of logs and head chunks; `None` without a head.
    pub head_bytes: Option<u64>,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes of the file system, where the system tells.
    pub total_bytes: Option<u64>,
    /// What time it is, Unix ms.
    pub now_ms: i64,
}

/// Which rule a block should be rewritten for, if any; `cutoffs` are the rules'.
pub type RuleCheck<'a> = dyn FnMut(&PlannedBlock, &[Option<i64>]) -> Result<Option<usize>, StorageError> + 'a;

impl Situation {
    /// The times of the blocks that count.
    pub fn timeline(&self, options: &CompactionOptions) -> Timeline {
        let range_ms = options.ranges_ms.first().copied().unwrap_or(MIN_BLOCK_MS);
        Timeline::new(self.raw().map(|b| &b.meta), self.now_ms, range_ms)
    }

    /// Blocks from the future.
    pub fn future(&self, options: &CompactionOptions) -> Vec<&PlannedBlock> {
        let timeline = self.timeline(options);
        self.raw().filter(|b| timeline.is_future(&b.meta)).collect()
    }

    /// Downsampled blocks have other rules.
    fn raw(&self) -> impl Iterator<Item = &PlannedBlock> {
        self.live.iter().filter(|b| b.meta.resolution_ms() == 0)
    }

    /// Whether the head may hold samples before `end` that are in no block, or a server may still bring such in order.
    fn may_head_hold(&self, options: &CompactionOptions, end: i64) -> bool {
        let may_come = !options.is_head_flushed || end > self.now_ms;
        self.head_bytes.is_some() && end > self.in_order_end() && may_come
    }

    /// The end of what in-order blocks hold.
    fn in_order_end(&self) -> i64 {
        let in_order = self.live.iter().filter(|b| b.meta.is_in_order());
        in_order.map(|b| b.meta.max_time).max().unwrap_or(i64::MIN)
    }
}

/// What is to be done next, in order; nothing if nothing is. Each step is what would be next if those before it were done,
/// as long as that can be told; then, or if one could not be done, the rest is to be asked for again. A step that is
/// refused is the last, with the reason: its blocks are to be held from then on.
///
/// # Errors
/// What `overdue_rule` answers.
pub fn next_steps(
    situation: &Situation,
    options: &CompactionOptions,
    overdue_rule: &mut RuleCheck<'_>,
) -> Result<Vec<Step>, StorageError> {
    if !situation.superseded.is_empty() {
        return Ok(vec![Step::Remove(situation.superseded.clone())]);
    }
    let timeline = situation.timeline(options);
    let raw: Vec<&PlannedBlock> = situation.raw().collect();
    let sized: Vec<_> = raw.iter().map(|b| (&b.meta, b.bytes)).collect();
    let limit = options.retention.limit_bytes(situation.total_bytes);
    let head_bytes = situation.head_bytes.unwrap_or(0);
    let verdict = judge(&sized, options.retention.time_ms, limit, head_bytes, &timeline);
    if !verdict.expired.is_empty() {
        let expired = verdict.expired.into_iter().map(|(i, why)| (raw[i].clone(), Removal::Expired(why)));
        return Ok(vec![Step::Remove(expired.collect())]);
    }
    // A block from the future would take the others with it.
    let present: Vec<&PlannedBlock> = raw.into_iter().filter(|b| !timeline.is_future(&b.meta)).collect();
    let waits = |meta: &BlockMeta| {
        meta.compaction.level <= 1 && options.uploaded.as_ref().is_some_and(|up| !up.contains(&meta.ulid))
    };
    let was_refused = |meta: &BlockMeta| situation.held.contains(&meta.ulid);
    let is_held = |meta: &BlockMeta| was_refused(meta) || waits(meta);
    for mut group in by_origin(&present) {
        // As upstream: those that wait, and all behind them by name.
        let first = group.iter().filter(|b| waits(&b.meta)).map(|b| b.meta.ulid.clone()).min();
        group.retain(|b| first.as_ref().is_none_or(|first| b.meta.ulid < *first));
        // One that was refused ends a run, and is the newest there, which stays as it is; others go on behind it.
        for run in group.split_inclusive(|b| was_refused(&b.meta)) {
            let metas: Vec<&BlockMeta> = run.iter().map(|b| &b.meta).collect();
            let mut steps = Vec::new();
            for chosen in plan_ahead(&metas, &options.ranges_ms, &|_| false) {
                let blocks: Vec<PlannedBlock> =
                    chosen.into_iter().filter_map(|i| run.get(i)).map(|b| (*b).clone()).collect();
                if blocks.iter().any(|b| was_refused(&b.meta)) {
                    break;
                }
                let step = rewrite(reason(&blocks), blocks, situation, options);
                let is_refused = step.refusal.is_some();
                steps.push(Step::Rewrite(Box::new(step)));
                if is_refused {
                    break;
                }
            }
            if !steps.is_empty() {
                return Ok(steps);
            }
        }
    }
    let cutoffs = options.rules.cutoffs(&timeline);
    let mut steps = Vec::new();
    if cutoffs.iter().any(Option::is_some) {
        for block in present.iter().filter(|b| !is_held(&b.meta)) {
            let rule = overdue_rule(block, &cutoffs)?.and_then(|i| options.rules.0.get(i));
            let Some(rule) = rule else { continue };
            let why = Why::Rule { selector: rule.selector.clone(), keep_ms: rule.keep_ms };
            let step = rewrite(why, vec![(*block).clone()], situation, options);
            let is_refused = step.refusal.is_some();
            steps.push(Step::Rewrite(Box::new(step)));
            if is_refused {
                break;
            }
        }
    }
    Ok(steps)
}

/// Blocks of different origin (Thanos' labels) lie side by side in a bucket, and are never merged. Each group is by start.
fn by_origin<'a>(blocks: &[&'a PlannedBlock]) -> Vec<Vec<&'a PlannedBlock>> {
    let origin = |b: &'a PlannedBlock| b.meta.thanos.as_ref().map(|t| &t.labels).filter(|l| !l.is_empty());
    let mut groups: Vec<Vec<&PlannedBlock>> = Vec::new();
    for block in blocks {
        match groups.iter_mut().find(|g| g.first().is_some_and(|b| origin(b) == origin(block))) {
            Some(group) => group.push(block),
            None => groups.push(vec![block]),
        }
    }
    for group in &mut groups {
        group.sort_by(|a, b| {
            let times = |b: &PlannedBlock| (b.meta.min_time, b.meta.max_time);
            times(a).cmp(&times(b)).then_with(|| a.meta.ulid.cmp(&b.meta.ulid))
        });
    }
    groups
}

fn reason(blocks: &[PlannedBlock]) -> Why {
    let mut end = i64::MIN;
    for block in blocks {
        if block.meta.min_time < end {
            return Why::Overlap;
        }
        end = end.max(block.meta.max_time);
    }
    if blocks.len() == 1 { Why::Deletions } else { Why::Range }
}

/// Bytes a block of `bytes` may take when it is written anew: what is encoded anew may be a little longer.
fn with_margin(bytes: u64) -> u64 {
    bytes + bytes / 20 + (64 << 10)
}

/// Memory that writing takes at least, bytes.
pub(crate) const MEMORY_LEAST: u64 = 16 << 20;

/// What a step takes beside buffers and postings, which the writer limits: a number for each symbol of each source, and
/// what finds a series again.
fn memory(blocks: &[PlannedBlock]) -> u64 {
    let series: u64 = blocks.iter().map(|b| b.meta.stats.num_series).sum();
    MEMORY_LEAST + series.saturating_mul(16)
}

fn rewrite(
    why: Why,
    blocks: Vec<PlannedBlock>,
    situation: &Situation,
    options: &CompactionOptions,
) -> Rewrite {
    let metas: Vec<&BlockMeta> = blocks.iter().map(|b| &b.meta).collect();
    let mut meta = merged_meta(String::new(), &metas);
    // Of overlapping blocks fewer may be left.
    let sum = |count: fn(&BlockMeta) -> u64| metas.iter().map(|m| count(m)).sum();
    meta.stats.num_samples = sum(|m| m.stats.num_samples);
    meta.stats.num_float_samples = sum(|m| m.stats.num_float_samples);
    meta.stats.num_histogram_samples = sum(|m| m.stats.num_histogram_samples);
    meta.stats.num_chunks = sum(|m| m.stats.num_chunks);
    meta.stats.num_series = metas.iter().map(|m| m.stats.num_series).max().unwrap_or(0);
    let bytes: u64 = blocks.iter().map(|b| b.bytes).sum();
    let needed = with_margin(bytes);
    let memory_bytes = memory(&blocks);
    let mut step = Rewrite {
        why,
        into: PlannedBlock { meta, bytes, made_by: None },
        blocks,
        scratch_bytes: needed,
        memory_bytes,
        time_ms: STEP_MS + bytes.saturating_mul(1000) / BYTES_PER_SECOND,
        refusal: None,
    };
    step.refusal = step.refused(situation, options);
    step
}

impl Rewrite {
    /// Why it is not to be done, if that is so.
    pub fn refused(&self, situation: &Situation, options: &CompactionOptions) -> Option<Refusal> {
        let (needed, meta) = (self.scratch_bytes, &self.into.meta);
        if situation.may_head_hold(options, meta.max_time) && meta.is_in_order() {
            Some(Refusal::Head)
        } else if let Some(limit) = options.memory_bytes.filter(|limit| self.memory_bytes > *limit) {
            Some(Refusal::Memory { needed: self.memory_bytes, limit })
        } else if let Some(limit) = options.scratch_bytes.filter(|limit| needed > *limit) {
            Some(Refusal::Scratch { needed, limit })
        } else if needed > situation.free_bytes {
            Some(Refusal::Space { needed, free: situation.free_bytes })
        } else {
            None
        }
    }
}

/// All steps, as far as can be told before they are done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// Blocks from the future, which are left alone.
    pub future: Vec<PlannedBlock>,
    /// What there is at the end.
    pub blocks: Vec<PlannedBlock>,
    /// Most bytes needed at once beside what there is now.
    pub peak_bytes: u64,
    /// Estimate of the time all steps take, ms.
    pub time_ms: u64,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }
}

/// A plan longer than this is no plan.
const STEPS_MAX: usize = 100_000;

/// Follows the steps from a situation to the end.
///
/// # Errors
/// What `overdue_rule` answers.
pub fn simulate(
    mut situation: Situation,
    options: &CompactionOptions,
    overdue_rule: &mut RuleCheck<'_>,
) -> Result<Plan, StorageError> {
    let mut plan =
        Plan { future: situation.future(options).into_iter().cloned().collect(), ..Plan::default() };
    // Beside what there is at the beginning; negative if there is less.
    let mut beside: i128 = 0;
    while plan.steps.len() < STEPS_MAX {
        // What was made by an earlier step has the rules applied.
        let mut check = |block: &PlannedBlock, cutoffs: &[Option<i64>]| match block.made_by {
            Some(_) => Ok(None),
            None => overdue_rule(block, cutoffs),
        };
        let steps = next_steps(&situation, options, &mut check)?;
        if steps.is_empty() {
            break;
        }
        let mut gone: HashSet<String> = HashSet::new();
        for mut step in steps {
            let number = plan.steps.len() + 1;
            match &mut step {
                Step::Remove(removed) => {
                    let bytes: u64 = removed.iter().map(|(b, _)| b.bytes).sum();
                    situation.free_bytes = situation.free_bytes.saturating_add(bytes);
                    beside -= i128::from(bytes);
                    gone.extend(removed.iter().map(|(b, _)| b.meta.ulid.clone()));
                    situation.superseded.clear();
                }
                Step::Rewrite(step) if step.refusal.is_some() => {
                    situation.held.extend(step.blocks.iter().map(|b| b.meta.ulid.clone()));
                }
                Step::Rewrite(step) => {
                    step.into.meta.ulid = format!("step {number}");
                    step.into.made_by = Some(number);
                    plan.time_ms += step.time_ms;
                    let peak = beside + i128::from(step.scratch_bytes);
                    plan.peak_bytes = plan.peak_bytes.max(u64::try_from(peak).unwrap_or(0));
                    gone.extend(step.blocks.iter().map(|b| b.meta.ulid.clone()));
                    situation.live.push(step.into.clone());
                }
            }
            plan.steps.push(step);
        }
        situation.live.retain(|b| !gone.contains(&b.meta.ulid));
    }
    plan.blocks = situation.live;
    plan.blocks.sort_by_key(|b| (b.meta.min_time, b.meta.max_time));
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000;
    const MIB: u64 = 1 << 20;

    fn block(n: usize, start: i64, end: i64) -> PlannedBlock {
        let mut meta = BlockMeta::new(format!("{n:026}"), start * H, end * H);
        meta.stats.num_series = 100;
        PlannedBlock { meta, bytes: MIB, made_by: None }
    }

    /// Blocks of two hours.
    fn small(count: usize) -> Vec<PlannedBlock> {
        (0..count).map(|n| block(n, n as i64 * 2, n as i64 * 2 + 2)).collect()
    }

    fn situation(live: Vec<PlannedBlock>) -> Situation {
        Situation { live, free_bytes: 1 << 40, now_ms: 1000 * H, ..Situation::default() }
    }

    fn options() -> CompactionOptions {
        CompactionOptions { ranges_ms: ranges_up_to(2 * H, 54 * H), ..CompactionOptions::default() }
    }

    fn simulated(situation: Situation, options: &CompactionOptions) -> Plan {
        simulate(situation, options, &mut |_, _| Ok(None)).unwrap()
    }

    /// Start and end of what each step is about, in hours, and what is done.
    fn told(plan: &Plan) -> Vec<(i64, i64, String)> {
        let tell = |step: &Step| match step {
            Step::Remove(blocks) => {
                let (first, last) = (&blocks[0].0.meta, &blocks[blocks.len() - 1].0.meta);
                (first.min_time / H, last.max_time / H, format!("remove {}", blocks.len()))
            }
            Step::Rewrite(step) => {
                let refused = if step.refusal.is_some() { " refused" } else { "" };
                let what = format!("{:?} {}{refused}", step.why, step.blocks.len());
                (step.into.meta.min_time / H, step.into.meta.max_time / H, what)
            }
        };
        plan.steps.iter().map(tell).collect()
    }

    #[test]
    fn ranges_are_upstreams() {
        assert_eq!(ranges_up_to(2 * H, 36 * H), [2 * H, 6 * H, 18 * H]);
        assert_eq!(ranges_up_to(2 * H, H), [2 * H]);
        assert_eq!(ranges_up_to(2 * H, MAX_BLOCK_MS).last(), Some(&(2 * 243 * H)));
        assert_eq!(default_max_block_ms(0), 31 * 24 * H);
        assert_eq!(default_max_block_ms(15 * 24 * H), 36 * H);
        assert_eq!(default_max_block_ms(10 * 365 * 24 * H), 31 * 24 * H);
    }

    #[test]
    fn steps_build_on_steps_until_nothing_is_left_to_do() {
        let plan = simulated(situation(small(28)), &options());
        let range = |a, b, n| (a, b, format!("Range {n}"));
        assert_eq!(
            told(&plan),
            [
                range(0, 6, 3),
                range(6, 12, 3),
                range(12, 18, 3),
                range(18, 24, 3),
                range(24, 30, 3),
                range(30, 36, 3),
                range(36, 42, 3),
                range(42, 48, 3),
                range(48, 54, 3),
                range(0, 18, 3),
                range(18, 36, 3),
                range(36, 54, 3),
                range(0, 54, 3)
            ]
        );
        assert_eq!(plan.blocks.len(), 2);
        assert_eq!((plan.blocks[0].bytes, plan.blocks[0].made_by), (27 * MIB, Some(13)));
        // Most is needed at the end, when all is written once more.
        assert_eq!(plan.peak_bytes, with_margin(27 * MIB));
        assert!(plan.time_ms > 0);
        let again = simulated(situation(plan.blocks), &options());
        assert!(again.is_idle());
    }

    #[test]
    fn many_blocks_are_planned() {
        const N: usize = 10_000;
        // Slow in proportion to their square, this would take minutes.
        let mut there = situation(small(N));
        there.now_ms = 2 * N as i64 * H;
        let plan = simulated(there, &options());
        let full = |hours: usize| (N - 1) * 2 / hours;
        assert_eq!(plan.steps.len(), full(6) + full(18) + full(54));
        assert_eq!(plan.blocks.iter().map(|b| b.bytes).sum::<u64>(), N as u64 * MIB);
        // None of which fits.
        let mut there = situation(small(500));
        there.free_bytes = MIB;
        assert_eq!(simulated(there, &options()).steps.len(), 166);
    }

    #[test]
    fn what_is_removed_first_makes_room() {
        let mut there = situation(small(8));
        there.superseded = vec![(block(90, 0, 6), Removal::Replaced)];
        there.superseded[0].0.bytes = 10 * MIB;
        let options = CompactionOptions {
            retention: Retention { time_ms: 10 * H, ..Retention::default() },
            ..options()
        };
        // Not enough for a merge before that.
        there.free_bytes = 0;
        let plan = simulated(there, &options);
        assert_eq!(
            told(&plan),
            [(0, 6, "remove 1".into()), (0, 6, "remove 3".into()), (6, 12, "Range 3".into())]
        );
        assert_eq!(plan.peak_bytes, 0, "less than there is now");
        assert_eq!(plan.blocks.len(), 3);
    }

    #[test]
    fn what_is_refused_is_not_planned_again() {
        let mut there = situation(small(10));
        there.free_bytes = MIB;
        let plan = simulated(there, &options());
        let want = |start, end| (start, end, "Range 3 refused".to_string());
        assert_eq!(told(&plan), [want(0, 6), want(6, 12), want(12, 18)]);
        assert_eq!((plan.blocks.len(), plan.peak_bytes, plan.time_ms), (10, 0, 0));
    }

    /// A step that does not fit keeps what is behind it from nothing.
    #[test]
    fn others_go_on_beside_what_is_refused() {
        let mut blocks = small(10);
        blocks[1].bytes = 100 * MIB;
        let options = CompactionOptions { scratch_bytes: Some(20 * MIB), ..options() };
        let plan = simulated(situation(blocks), &options);
        let want = [(0, 6, "Range 3 refused"), (6, 12, "Range 3"), (12, 18, "Range 3")];
        assert_eq!(told(&plan), want.map(|(start, end, what)| (start, end, what.to_string())));
        // One that overlaps what was refused waits with it.
        let mut blocks = small(10);
        blocks[4].bytes = 100 * MIB;
        blocks.push(block(20, 9, 10));
        let plan = simulated(situation(blocks), &options);
        assert_eq!(told(&plan)[0].2, "Overlap 2 refused");
        let planned: Vec<_> = told(&plan)[1..].iter().map(|s| (s.0, s.1)).collect();
        assert_eq!(planned, [(0, 6), (12, 18)]);
    }

    #[test]
    fn a_flushed_head_holds_nothing_that_would_be_shut_out() {
        let late = |now_ms: i64, is_head_flushed: bool| {
            let mut blocks = vec![block(1, 0, 6), block(2, 4, 8)];
            blocks[1].meta.compaction.hints = vec!["from-out-of-order".to_string()];
            let mut there = situation(blocks);
            (there.now_ms, there.head_bytes) = (now_ms, Some(MIB));
            let options = CompactionOptions { is_head_flushed, ..options() };
            told(&simulated(there, &options))
        };
        assert_eq!(late(7 * H, true)[0].2, "Overlap 2 refused");
        assert_eq!(late(9 * H, false)[0].2, "Overlap 2 refused");
        assert_eq!(late(9 * H, true), [(0, 8, "Overlap 2".to_string())]);
    }

    #[test]
    fn blocks_of_another_origin_or_resolution_or_time_are_not_merged() {
        let mut there = situation(small(8));
        let thanos = |labels: &[(&str, &str)], resolution: i64| {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let downsample = tsdbctl_block::meta::Downsample { resolution };
            let thanos = tsdbctl_block::meta::Thanos { labels, downsample, ..Default::default() };
            Some(thanos)
        };
        // The first three are of another replica, the next three downsampled.
        for b in &mut there.live[..3] {
            b.meta.thanos = thanos(&[("replica", "b")], 0);
        }
        for b in &mut there.live[3..6] {
            b.meta.thanos = thanos(&[], 300_000);
        }
        assert!(simulated(there.clone(), &options()).is_idle());
        // With one more of the replica, three of it are no more the newest.
        let mut more = block(50, 6, 8);
        more.meta.thanos = thanos(&[("replica", "b")], 0);
        there.live.push(more);
        assert_eq!(told(&simulated(there.clone(), &options())), [(0, 6, "Range 3".into())]);
        // One from the future overlaps all and takes none with it.
        there.live = small(3);
        there.live.push(block(60, 0, 5000));
        let plan = simulated(there, &options());
        assert_eq!((plan.steps.len(), plan.future.len(), plan.blocks.len()), (0, 1, 4));
    }

    #[test]
    fn a_rule_is_asked_about_blocks_that_are_there_and_not_about_what_is_made_of_them() {
        let rule = crate::retention_rules::Rule { selector: "x".into(), matchers: vec![], keep_ms: H };
        let options = CompactionOptions { rules: Rules(vec![rule]), ..options() };
        let mut asked = Vec::new();
        let plan = simulate(situation(small(5)), &options, &mut |b, cutoffs| {
            assert_eq!(cutoffs, [Some(9 * H)]);
            asked.push(b.meta.min_time / H);
            Ok((b.meta.min_time == 6 * H).then_some(0))
        })
        .unwrap();
        let rewritten = plan.steps.iter().filter(
            |s| matches!(s, Step::Rewrite(s) if matches!(s.why, Why::Rule { .. }) && s.blocks.len() == 1),
        );
        assert_eq!((plan.steps.len(), rewritten.count(), plan.blocks.len()), (2, 1, 3));
        assert!(!asked.contains(&0), "{asked:?}");
    }
}
