//! Clocks that lie: random scripts of a server whose clock jumps by hours to years, or to zero, that is off for a while,
//! merges its blocks and removes the old ones. Nothing goes by age that has not been there that long, by the true time, or
//! before as much came that says it is later; and once the clock is right again, what is too old goes as ever.
//!
//! A few hundred scripts; `TSDBCTL_CLOCK_SCRIPTS` says how many, `TSDBCTL_SEED` which is the first.

#![allow(clippy::print_stderr, reason = "tests say what they did")]

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use tsdbctl_block::BlockMeta;
use tsdbctl_platform::random::Generator;
use tsdbctl_tsdb::compaction_plan::{
    CompactionOptions, PlannedBlock, Removal, Situation, Step, default_max_block_ms, next_steps, ranges_up_to,
};
use tsdbctl_tsdb::downsampling::{self, Departure, StoredBlock, Tiers};
use tsdbctl_tsdb::retention::{Expiry, Retention};

const H: i64 = 3_600_000;
const D: i64 = 24 * H;
const Y: i64 = 365 * D;
/// Length of the smallest blocks, and how often a server makes one.
const RANGE: i64 = 2 * H;
/// A day in 2026, at midnight.
const START: i64 = 20_700 * D;
const BLOCK_BYTES: u64 = 10;

/// What a clock is put forward or back by.
const JUMPS: [i64; 14] =
    [H / 60, H, 2 * H, 3 * H, 7 * H, D, 36 * H, 3 * D, 5 * D, 11 * D, 40 * D, 100 * D, Y, 10 * Y];

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable}={v}")))
}

/// A server, and what is true of it.
struct Server {
    random: Generator,
    /// The true time.
    now: i64,
    /// How far the clock is ahead.
    ahead: i64,
    retention: Retention,
    tiers: Option<Tiers>,
    live: Vec<PlannedBlock>,
    downsampled: Vec<StoredBlock>,
    /// By identifier of the smallest blocks: how old the youngest sample can be taken to be, as a time. That is when it
    /// came; or what it says, if the clock was behind then: of that nobody can know better afterwards.
    came: HashMap<String, i64>,
    /// Of blocks made while the clock was ahead: when that was, and what they say. As long as the clock is right they are
    /// from the future. When it is ahead once more, or their time has come, they count as time that passed: nothing tells
    /// them from blocks of a server that was off.
    ahead_of_time: Vec<(i64, i64)>,
    /// The times of the smallest blocks by identifier.
    spans: HashMap<String, (i64, i64)>,
    /// By how much the clock was put by steps that are too small to be told from time that passed.
    crept: i64,
    made: usize,
    removed: usize,
    trace: Vec<String>,
}

/// How long spans of time are together.
fn covered_ms(mut spans: Vec<(i64, i64)>) -> i64 {
    spans.sort_unstable();
    let (mut covered_ms, mut reached) = (0, i64::MIN);
    for (start, end) in spans {
        covered_ms += (end - start.max(reached)).max(0);
        reached = reached.max(end);
    }
    covered_ms
}

impl Server {
    fn new(seed: u64) -> Self {
        let mut random = Generator::new(seed);
        let time_ms = [2 * D, 4 * D, 10 * D][random.below(3) as usize];
        let size_bytes = if random.one_in(4) { BLOCK_BYTES * (5 + random.below(60)) } else { 0 };
        let (time_ms, size_bytes) =
            if size_bytes > 0 && random.one_in(2) { (0, size_bytes) } else { (time_ms, size_bytes) };
        let tiers = Tiers { raw_ms: 3 * D, five_minutes_ms: 12 * D, one_hour_ms: 20 * D };
        Self {
            now: START,
            ahead: 0,
            retention: Retention { time_ms, size_bytes, percentage: 0.0 },
            tiers: random.one_in(3).then_some(tiers),
            random,
            live: Vec::new(),
            downsampled: Vec::new(),
            came: HashMap::new(),
            ahead_of_time: Vec::new(),
            spans: HashMap::new(),
            crept: 0,
            made: 0,
            removed: 0,
            trace: Vec::new(),
        }
    }

    fn clock(&self) -> i64 {
        self.now + self.ahead
    }

    fn ulid(&mut self) -> String {
        self.made += 1;
        format!("{:026}", self.made)
    }

    /// Time passes while samples come, and becomes a block. What earlier blocks are ahead of may be refused.
    fn scrape(&mut self, is_refused: bool) {
        self.now += RANGE;
        let end = self.clock().div_euclid(RANGE) * RANGE;
        let (ulid, start) = (self.ulid(), end - RANGE);
        let mut meta = BlockMeta::new(ulid.clone(), start, end);
        meta.stats.num_samples = 1;
        if self.live.iter().any(|b| b.meta.is_in_order() && b.meta.max_time > start) {
            // It has a head that began anew, or is out of order, or is refused.
            match self.random.below(3) {
                0 if is_refused => return,
                1 => meta.compaction.hints = vec!["from-out-of-order".to_string()],
                _ => {}
            }
        }
        if end > self.now {
            self.ahead_of_time.push((self.now, end));
        }
        self.spans.insert(ulid.clone(), (start, end));
        self.came.insert(ulid, self.now.min(end));
        self.live.push(PlannedBlock { meta, bytes: BLOCK_BYTES, made_by: None });
    }

    /// The clock is put to something else.
    fn jump(&mut self) {
        let before = self.ahead;
        self.ahead = match self.random.below(8) {
            0 => -self.now,
            1 => 0,
            2 | 3 if before != 0 => 0,
            _ => {
                let by = JUMPS[self.random.below(JUMPS.len() as u64) as usize];
                before + if self.random.one_in(2) { by } else { -by }
            }
        };
        if self.clock() < 0 {
            self.ahead = -self.now;
        }
        let by = self.ahead - before;
        // More than that leaves a gap that is no elapsed time; unless there are blocks in it.
        self.crept += by.abs().min(self.least_gap());
        self.trace.push(format!("clock {:+} h, now {:+} h", by / H, self.ahead / H));
    }

    fn least_gap(&self) -> i64 {
        (self.retention.time_ms / 10).max(RANGE)
    }

    /// How much of a block's time is in none of the smallest it was made of.
    fn gaps_ms(&self, meta: &BlockMeta) -> i64 {
        let spans = meta.compaction.sources.iter().map(|s| self.spans[s]).collect();
        meta.max_time - meta.min_time - covered_ms(spans)
    }

    /// When the youngest of some blocks of level 1 came.
    fn came(&self, meta: &BlockMeta) -> i64 {
        meta.compaction.sources.iter().map(|s| self.came[s]).max().unwrap()
    }

    #[track_caller]
    fn check_age(&self, meta: &BlockMeta, keep_ms: i64) {
        let came = self.came(meta);
        let age = self.now - came;
        let before = self.ahead_of_time.iter().filter(|(made, end)| *made < came && *end > meta.max_time);
        assert!(
            age + self.crept + before.count() as i64 * RANGE >= keep_ms,
            "{} of {} h to {} h went at an age of {} h, {} h are kept, the clock crept {} h: {:#?}",
            meta.ulid,
            (meta.min_time - START) / H,
            (meta.max_time - START) / H,
            age / H,
            keep_ms / H,
            self.crept / H,
            self.trace
        );
    }

    /// What `compact` does.
    fn compact(&mut self) {
        let options = CompactionOptions {
            ranges_ms: ranges_up_to(RANGE, default_max_block_ms(self.retention.time_ms)),
            retention: self.retention,
            ..CompactionOptions::default()
        };
        loop {
            let situation = Situation {
                live: self.live.clone(),
                free_bytes: u64::MAX,
                now_ms: self.clock(),
                ..Situation::default()
            };
            let timeline = situation.timeline(&options);
            let steps = next_steps(&situation, &options, &mut |_, _| Ok(None)).unwrap();
            match steps.into_iter().next() {
                None => break,
                Some(Step::Remove(blocks)) => {
                    for (block, why) in &blocks {
                        assert!(!timeline.is_future(&block.meta), "{block:?}");
                        match why {
                            Removal::Expired(Expiry::Time { retention_ms, .. }) => {
                                self.check_age(&block.meta, *retention_ms);
                            }
                            Removal::Expired(Expiry::Size { .. }) => assert!(self.retention.size_bytes > 0),
                            other => panic!("{other:?}"),
                        }
                    }
                    let gone: BTreeSet<&str> = blocks.iter().map(|(b, _)| &*b.meta.ulid).collect();
                    self.removed += gone.len();
                    self.live.retain(|b| !gone.contains(&*b.meta.ulid));
                    let counted = situation.live.iter().filter(|b| !timeline.is_future(&b.meta)).count();
                    assert!(counted > gone.len(), "the newest stays: {:#?}", self.trace);
                }
                Some(Step::Rewrite(step)) => {
                    assert_eq!(step.refusal, None);
                    let ulid = self.ulid();
                    if self.retention.time_ms == 0 {
                        // Raw blocks are merged as upstream does, across any gap that is shorter than the largest blocks:
                        // of what is in one nobody can know better afterwards.
                        let known: i64 = step.blocks.iter().map(|b| self.gaps_ms(&b.meta)).sum();
                        self.crept += (self.gaps_ms(&step.into.meta) - known).max(0);
                    }
                    let gone: BTreeSet<&str> = step.blocks.iter().map(|b| &*b.meta.ulid).collect();
                    self.live.retain(|b| !gone.contains(&*b.meta.ulid));
                    let meta = BlockMeta { ulid, ..step.into.meta };
                    self.live.push(PlannedBlock { meta, bytes: BLOCK_BYTES, made_by: None });
                }
            }
        }
    }

    fn to_downsample(&self, tiers: Tiers) -> downsampling::Situation {
        let raw = self.live.iter().map(|b| StoredBlock {
            meta: b.meta.clone(),
            dir: PathBuf::new(),
            bytes: b.bytes,
        });
        downsampling::Situation {
            blocks: raw.chain(self.downsampled.iter().cloned()).collect(),
            now_ms: self.clock(),
            tiers: Some(tiers),
            merges: true,
            ..downsampling::Situation::default()
        }
    }

    /// What `downsample --tiers` does.
    fn downsample(&mut self) {
        let Some(tiers) = self.tiers else { return };
        loop {
            let steps = self.to_downsample(tiers).next_steps();
            if steps.is_empty() {
                break;
            }
            steps.into_iter().for_each(|step| self.step(step));
        }
    }

    fn step(&mut self, step: downsampling::Step) {
        match step {
            downsampling::Step::Make { replaces, meta, .. } => {
                let ulid = self.ulid();
                self.downsampled.retain(|b| replaces.iter().all(|r| r.meta.ulid != b.meta.ulid));
                let meta = BlockMeta { ulid, ..*meta };
                self.downsampled.push(StoredBlock { meta, dir: PathBuf::new(), bytes: 1 });
            }
            downsampling::Step::Remove { block, why, .. } => {
                let resolution_ms = block.meta.resolution_ms();
                let Departure::Expired { keep_ms, .. } = why else { panic!("{why:?}") };
                self.check_age(&block.meta, keep_ms);
                let coarser: BTreeSet<&str> = self
                    .downsampled
                    .iter()
                    .filter(|b| b.meta.resolution_ms() > resolution_ms)
                    .flat_map(|b| b.meta.compaction.sources.iter().map(String::as_str))
                    .collect();
                let goes_on = block.meta.compaction.sources.iter().all(|s| coarser.contains(&**s));
                assert!(goes_on || resolution_ms == H, "{block:?} {:#?}", self.trace);
                self.removed += 1;
                self.live.retain(|b| b.meta.ulid != block.meta.ulid);
                self.downsampled.retain(|b| b.meta.ulid != block.meta.ulid);
            }
        }
    }

    fn clean_up(&mut self) {
        self.compact();
        self.downsample();
    }

    /// The blocks as they lie before now, in hours.
    fn lie(&self) -> Vec<(i64, i64)> {
        let hours = |time: i64| (time - self.now) / H;
        let mut spans: Vec<_> =
            self.live.iter().map(|b| (hours(b.meta.min_time), hours(b.meta.max_time))).collect();
        spans.sort_unstable_by_key(|&(start, end)| (end, start));
        spans
    }

    /// The time that raw blocks cover which are not from the future.
    fn covered_ms(&self) -> i64 {
        let present = self.live.iter().map(|b| (b.meta.min_time, b.meta.max_time));
        covered_ms(present.filter(|(_, end)| *end <= self.now + RANGE).collect())
    }

    /// Blocks that downsampling says it cannot take, and why they stay.
    fn kept_back(&self) -> BTreeSet<String> {
        let Some(tiers) = self.tiers.filter(|t| t.raw_ms < self.retention.time_ms) else {
            return BTreeSet::new();
        };
        self.to_downsample(tiers).kept_back().into_iter().map(|k| k.block.meta.ulid).collect()
    }

    /// The clock is right from here on, and nothing happens: what is too old goes.
    fn settle(&mut self) {
        self.ahead = 0;
        let keep = self.retention.time_ms.max(3 * D);
        let until = self.now + keep + keep / 5 + 2 * RANGE;
        while self.now < until {
            self.scrape(false);
            if self.now % (3 * RANGE) == 0 {
                self.clean_up();
            }
        }
        self.clean_up();
        let Retention { time_ms, size_bytes, .. } = self.retention;
        // Blocks are as long as a tenth of what is kept.
        let most_ms = time_ms + time_ms / 10 + RANGE;
        let kept_back = self.kept_back();
        for block in self.live.iter().filter(|_| time_ms > 0) {
            let is_young = block.meta.max_time > self.now - most_ms;
            assert!(
                is_young || kept_back.contains(&block.meta.ulid),
                "{} is left, at {} h, of {:?}: {:#?}",
                block.meta.ulid,
                self.now / H,
                self.lie(),
                self.trace
            );
        }
        // Late samples that cannot be downsampled are not their tier's to take. They go when newer raw samples are as much
        // as is kept: never where the tier takes those before, but that is all there ever is of them.
        let covered_ms = self.covered_ms();
        assert!(time_ms == 0 || covered_ms <= most_ms, "{covered_ms} of {:?}: {:#?}", self.lie(), self.trace);
        let future: u64 =
            self.live.iter().filter(|b| b.meta.max_time > self.now + RANGE).map(|b| b.bytes).sum();
        let total: u64 = self.live.iter().map(|b| b.bytes).sum();
        assert!(size_bytes == 0 || total - future <= size_bytes, "{total} {future} {size_bytes}");
    }
}

#[test]
fn a_clock_that_lies_takes_nothing_with_it_and_keeps_nothing_for_ever() {
    let (scripts, first) = (setting("TSDBCTL_CLOCK_SCRIPTS", 200), setting("TSDBCTL_SEED", 1));
    let (mut jumps, mut made, mut removed) = (0, 0, 0);
    for seed in first..first + scripts {
        let mut server = Server::new(seed);
        server.trace.push(format!("TSDBCTL_SEED={seed} {:?} {:?}", server.retention, server.tiers));
        for _ in 0..8 + server.random.below(40) {
            match server.random.below(10) {
                0..=4 => {
                    let blocks = 1 + server.random.below(18);
                    server.trace.push(format!("{blocks} blocks"));
                    (0..blocks).for_each(|_| server.scrape(true));
                }
                5..=7 => {
                    server.jump();
                    jumps += 1;
                }
                8 => {
                    // It is off; a restart is no event for what is on disk.
                    let off = [RANGE, D, 4 * D, 30 * D][server.random.below(4) as usize];
                    server.trace.push(format!("off for {} h", off / H));
                    server.now += off;
                }
                _ => {}
            }
            if server.random.one_in(2) {
                server.clean_up();
            }
        }
        server.settle();
        made += server.came.len();
        removed += server.removed;
    }
    eprintln!(
        "{scripts} scripts with {jumps} jumps, {made} blocks of two hours, {removed} blocks removed, none wrongly"
    );
    assert!(removed as u64 > scripts);
}
