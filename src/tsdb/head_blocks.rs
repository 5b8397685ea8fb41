//! The head into blocks: what came in order by ranges of two hours, what came out of order, series that went stale.
//!
//! ```text
//! in order: no more samples before the end · block written, durable, visible · readers have it · memory, files, log
//! late, stale: fixed what goes · blocks written, durable, visible · readers have them · taken out of memory and log
//! ```
//! Nothing leaves the head before its block is durable and seen by readers. A crash in between leaves samples in both: of
//! those in order the head's are dropped at the next start, as the block's end says so; of the others readers see one of
//! two equal ones, until a compaction makes one of them. A deletion has to wait for a cut that goes on: see
//! [`LiveDatabase::hold_cuts`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tsdbctl_block::BlockMeta;
use tsdbctl_block::block_writer::{WriterOptions, write_block};
use tsdbctl_block::meta::{HINT_OUT_OF_ORDER, HINT_STALE_SERIES, new_ulid};
use tsdbctl_head::live::HeadSource;
use tsdbctl_platform::world::World;
use tsdbctl_storage::{Control, StorageError};

use crate::block_names;
use crate::blocks::BlockEntry;
use crate::live::LiveDatabase;

/// With less than this until the head is cut anyway, stale series are left to that (upstream: 10 minutes).
const SOON_MS: i64 = 600_000;

/// How the head is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct CutOptions {
    /// How blocks are written.
    pub writer: WriterOptions,
    /// From which share of stale series on these are cut out by [`LiveDatabase::maintain_head`] (upstream's
    /// `stale_series_compaction_threshold`); 0 for never.
    pub stale_threshold: f64,
}

/// What a block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// Samples that came in order.
    InOrder,
    /// Samples that came out of order.
    Late,
    /// Stale series.
    Stale,
}

/// A block that would be made of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedCut {
    /// Of what.
    pub kind: CutKind,
    /// Its start, Unix ms.
    pub mint: i64,
    /// Its end, exclusive.
    pub maxt: i64,
}

/// Earliest and latest samples of a head, Unix ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadTimes {
    /// Of those that came in order.
    pub in_order: Option<(i64, i64)>,
    /// Of the others.
    pub late: Option<(i64, i64)>,
}

/// End of the range of `width_ms` that `t` lies in, as upstream has it (`rangeForTimestamp`).
fn range_end(t: i64, width_ms: i64) -> i64 {
    (t / width_ms).saturating_mul(width_ms).saturating_add(width_ms)
}

/// Whether a head of these times is to be cut: it spans more than one and a half ranges, so that what is cut off is
/// older than what may still come in order.
fn is_due((mint, maxt): (i64, i64), width_ms: i64) -> bool {
    maxt.saturating_sub(mint) > width_ms / 2 * 3
}

/// The range that is cut next, its end exclusive. With `flush` all goes, the last block ending behind the last sample:
/// what comes later in order comes behind that, so the block's end keeps nothing out.
fn next_range((mint, maxt): (i64, i64), width_ms: i64, flush: bool) -> Option<(i64, i64)> {
    if mint > maxt || !flush && !is_due((mint, maxt), width_ms) {
        return None;
    }
    let end = range_end(mint, width_ms).min(maxt.saturating_add(1));
    (mint < end).then_some((mint, end))
}

/// The ranges of `width_ms`, aligned, that `mint..=maxt` touches.
fn ranges(mint: i64, maxt: i64, width_ms: i64) -> impl Iterator<Item = (i64, i64)> {
    let first = mint.div_euclid(width_ms).saturating_mul(width_ms);
    let next = move |start: &i64| start.checked_add(width_ms).filter(|start| *start <= maxt);
    std::iter::successors(Some(first), next).map(move |start| (start, start.saturating_add(width_ms)))
}

/// The blocks that would be made of a head, ranges without samples among them; `flush` as for
/// [`LiveDatabase::flush_head`]. Samples out of order go when others do.
pub fn planned_cuts(times: &HeadTimes, width_ms: i64, flush: bool) -> Vec<PlannedCut> {
    let width_ms = width_ms.max(1);
    let mut cuts = Vec::new();
    let mut rest = times.in_order;
    while let Some((mint, maxt)) = rest.and_then(|times| next_range(times, width_ms, flush)) {
        cuts.push(PlannedCut { kind: CutKind::InOrder, mint, maxt });
        rest = times.in_order.map(|(_, last)| (maxt, last));
    }
    if let Some((mint, maxt)) = times.late.filter(|_| flush || !cuts.is_empty()) {
        let late = ranges(mint, maxt, width_ms);
        cuts.extend(late.map(|(mint, maxt)| PlannedCut { kind: CutKind::Late, mint, maxt }));
    }
    cuts
}

impl LiveDatabase {
    /// Earliest and latest samples of the head.
    pub fn head_times(&self) -> HeadTimes {
        let head = self.head();
        let load = |t: &std::sync::atomic::AtomicI64| t.load(Ordering::Acquire);
        let known = |(first, last): (i64, i64)| (first <= last).then_some((first, last));
        HeadTimes {
            in_order: known((load(&head.min_time), load(&head.max_time))),
            late: known((load(&head.min_out_of_order_time), load(&head.max_out_of_order_time))),
        }
    }

    /// As long as this is held nothing is cut off the head. Who deletes holds it until head and blocks are done with:
    /// what is written into a block meanwhile would not know of it. So does who compacts, if in another thread: it would
    /// find a block, and replace it, that readers do not have yet, and would get afterwards.
    pub fn hold_cuts(&self) -> MutexGuard<'_, ()> {
        self.cutting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a server does for its head every minute: full chunks go to their files; if the head spans more than one and
    /// a half ranges, all ranges but the newest go into blocks, then what came out of order; if many series are stale,
    /// they do. The new blocks.
    ///
    /// # Errors
    /// As [`LiveDatabase::cut_head`].
    pub fn maintain_head(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        self.maintain()?;
        let now_ms = world.clock.now_ms();
        let width_ms = self.width_ms();
        let mut made = Vec::new();
        let is_head_due = self.head_times().in_order.is_some_and(|times| is_due(times, width_ms));
        if is_head_due {
            self.last_cut_ms.store(now_ms, Ordering::Relaxed);
            made = self.cut_head(world, options, control)?;
            made.extend(self.cut_late(world, options, control)?);
        }
        let last_ms = self.last_cut_ms.load(Ordering::Relaxed);
        let is_soon =
            last_ms != i64::MIN && now_ms.saturating_add(SOON_MS) > last_ms.saturating_add(width_ms);
        if options.stale_threshold > 0.0 && !is_soon {
            made.extend(self.cut_stale(options.stale_threshold, world, options, control)?);
        }
        Ok(made)
    }

    /// Cuts off the head's whole ranges as long as it spans more than one and a half. The new blocks; a range without
    /// samples has none.
    ///
    /// Waits for readers that began before: who holds one must not call this.
    ///
    /// # Errors
    /// If the system refuses, or the work is to stop. What is in no block yet is in the head as before.
    pub fn cut_head(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let _cut = self.hold_cuts();
        self.cut_in_order(world, options, control, false)
    }

    /// Puts all that is in the head into blocks: whole ranges, what came out of order, and the last range as far as it is
    /// there. Its block ends behind the newest sample: later ones may still come in order, those that other series are
    /// behind with come out of order from now on, if a window is set.
    ///
    /// # Errors
    /// As [`LiveDatabase::cut_head`].
    pub fn flush_head(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let _cut = self.hold_cuts();
        let mut made = self.cut_in_order(world, options, control, true)?;
        made.extend(self.cut_out_of_order(world, options, control)?);
        Ok(made)
    }

    /// Puts the samples that came out of order into blocks, one for each range.
    ///
    /// # Errors
    /// As [`LiveDatabase::cut_head`].
    pub fn cut_late(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let _cut = self.hold_cuts();
        self.cut_out_of_order(world, options, control)
    }

    /// Puts the series that ended with a stale marker into blocks, one for each range, if their share is at least
    /// `threshold`. Those to which something is appended meanwhile stay in the head as well.
    ///
    /// # Errors
    /// As [`LiveDatabase::cut_head`].
    pub fn cut_stale(
        &self,
        threshold: f64,
        world: &World,
        options: &CutOptions,
        control: &Control,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let (stale, all) = self.head().count_stale();
        if stale == 0 || (stale as f64) < threshold * all as f64 {
            return Ok(Vec::new());
        }
        let _cut = self.hold_cuts();
        let Some(series) = self.head().stale_series() else { return Ok(Vec::new()) };
        let sources = ranges(series.mint, series.maxt, self.width_ms());
        let made = self.write_all(world, options, control, HINT_STALE_SERIES, sources, |mint, maxt| {
            series.source(mint, maxt)
        })?;
        series.take_out()?;
        Ok(made)
    }

    fn width_ms(&self) -> i64 {
        self.head().options.rules.chunk_range_ms.max(1)
    }

    fn cut_in_order(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
        flush: bool,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let (head, width_ms) = (self.head(), self.width_ms());
        let (mut made, mut end) = (Vec::new(), None);
        // A flush is of what there is now.
        let newest = head.max_time.load(Ordering::Acquire);
        let next = |mint: i64| {
            let maxt = if flush { newest } else { head.max_time.load(Ordering::Acquire) };
            next_range((mint, maxt), width_ms, flush)
        };
        loop {
            control.check("cutting the head")?;
            let Some((_, maxt)) = next(head.min_time.load(Ordering::Acquire)) else { break };
            head.end_in_order(maxt);
            // A commit that was on its way may have brought earlier ones.
            let mint = head.min_time.load(Ordering::Acquire);
            let mut maxt = maxt.min(range_end(mint, width_ms));
            let mut source = HeadSource::in_order(head, mint, maxt.saturating_sub(1));
            if source.series() > 0 {
                let meta = BlockMeta::new(new_ulid(world)?, mint, maxt);
                let written = self.write(world, options, control, &mut source, meta)?;
                drop(source);
                if let Some(entry) = written {
                    made.push(entry.meta.clone());
                    self.publish(vec![entry]);
                }
            } else {
                // Many ranges may be as empty as this one.
                let first = || head.first_in_order().unwrap_or(i64::MAX);
                let begins = first();
                while let Some((_, after)) = next(maxt).filter(|(_, after)| *after <= begins) {
                    maxt = after;
                }
                head.end_in_order(maxt);
                if first() < maxt {
                    continue;
                }
            }
            head.truncate_memory_and_files(maxt)?;
            end = Some(maxt);
        }
        if let Some(end) = end {
            head.truncate_wal(end)?;
        }
        Ok(made)
    }

    fn cut_out_of_order(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let Some(late) = self.head().seal_out_of_order()? else { return Ok(Vec::new()) };
        let ranges = late.ranges(self.width_ms()).into_iter();
        let made = self.write_all(world, options, control, HINT_OUT_OF_ORDER, ranges, |mint, maxt| {
            late.source(mint, maxt)
        })?;
        late.take_out()?;
        Ok(made)
    }

    /// Writes blocks of some ranges, then shows all of them to readers; if one cannot be written, none stays.
    fn write_all(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
        hint: &str,
        ranges: impl Iterator<Item = (i64, i64)>,
        source: impl Fn(i64, i64) -> HeadSource,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let mut entries: Vec<BlockEntry> = Vec::new();
        for (mint, maxt) in ranges {
            let mut source = source(mint, maxt.saturating_sub(1));
            let written = new_ulid(world).map_err(StorageError::from).and_then(|ulid| {
                let mut meta = BlockMeta::new(ulid, mint, maxt);
                meta.compaction.hints = vec![hint.to_string()];
                self.write(world, options, control, &mut source, meta)
            });
            match written {
                Ok(entry) => entries.extend(entry),
                Err(e) => {
                    // The head has all that is in them.
                    for entry in &entries {
                        let _ = block_names::remove(&*world.disk, [&*entry.dir]);
                    }
                    return Err(e);
                }
            }
        }
        let made = entries.iter().map(|e| e.meta.clone()).collect();
        self.publish(entries);
        Ok(made)
    }

    /// Writes a block and opens it; `None` if there is nothing in it.
    fn write(
        &self,
        world: &World,
        options: &CutOptions,
        control: &Control,
        source: &mut HeadSource,
        meta: BlockMeta,
    ) -> Result<Option<BlockEntry>, StorageError> {
        let dir = self.dir().join(&meta.ulid);
        let disk = Arc::clone(&world.disk);
        let Some(_) = write_block(disk, self.dir(), source, meta, options.writer, control)? else {
            return Ok(None);
        };
        match BlockEntry::read(&dir).and_then(|entry| entry.block().map(|_| entry)) {
            Ok(entry) => Ok(Some(entry)),
            Err(e) => {
                block_names::remove(&*world.disk, [&*dir])?;
                Err(StorageError::Unsupported {
                    file: dir,
                    reason: format!("what was just written cannot be read back, the head keeps it: {e}"),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const WIDTH: i64 = 2 * HOUR;

    #[test]
    fn what_is_cut() {
        use CutKind::{InOrder, Late};
        type Cuts = &'static [(CutKind, i64, i64)];
        type Times = Option<(i64, i64)>;
        let minutes = |t: i64| t * 60_000;
        // In minutes: times in order and not, whether all is to go, and what does.
        let cases: &[(Times, Times, bool, Cuts)] = &[
            (None, None, false, &[]),
            (None, None, true, &[]),
            (Some((0, 180)), None, false, &[]),
            (Some((30, 211)), None, false, &[(InOrder, 30, 120)]),
            (Some((119, 360)), None, false, &[(InOrder, 119, 120), (InOrder, 120, 240)]),
            (
                Some((0, 420)),
                Some((50, 130)),
                false,
                &[(InOrder, 0, 120), (InOrder, 120, 240), (Late, 0, 120), (Late, 120, 240)],
            ),
            (Some((0, 100)), Some((50, 130)), false, &[]),
            (None, Some((-5, 130)), true, &[(Late, -120, 0), (Late, 0, 120), (Late, 120, 240)]),
            (Some((-30, 211)), None, false, &[(InOrder, -30, 120)]),
        ];
        for (in_order, late, flush, want) in cases {
            let ms = |times: Times| times.map(|(a, b)| (minutes(a), minutes(b)));
            let times = HeadTimes { in_order: ms(*in_order), late: ms(*late) };
            let got: Vec<_> =
                planned_cuts(&times, WIDTH, *flush).iter().map(|c| (c.kind, c.mint, c.maxt)).collect();
            let want: Vec<_> = want.iter().map(|c| (c.0, minutes(c.1), minutes(c.2))).collect();
            assert_eq!(got, want, "{in_order:?} {late:?} {flush}");
        }
    }

    #[test]
    fn the_last_block_of_a_flush_ends_behind_the_last_sample() {
        let times = HeadTimes { in_order: Some((HOUR, 5 * HOUR + 7)), late: None };
        let got: Vec<_> = planned_cuts(&times, WIDTH, true).iter().map(|c| (c.mint, c.maxt)).collect();
        assert_eq!(got, [(HOUR, WIDTH), (WIDTH, 4 * HOUR), (4 * HOUR, 5 * HOUR + 8)]);
        let times = HeadTimes { in_order: Some((WIDTH, WIDTH)), late: None };
        assert_eq!(planned_cuts(&times, WIDTH, true).len(), 1);
        let times = HeadTimes { in_order: Some((i64::MAX - 5, i64::MAX)), late: None };
        assert_eq!(planned_cuts(&times, WIDTH, true).len(), 1);
    }
}
