//! Which blocks have to go, by time and by size: pure functions of what blocks say about themselves and what time it is.
//!
//! As upstream, age is counted from the end of the newest block and not from now, so that a server that was off for long
//! loses nothing when it comes back. Unlike upstream, no block goes because of a timestamp in data alone:
//!
//! - Age is counted from now where the newest block ends later.
//! - A block that ends more than [`Timeline::tolerance_ms`] after now is from the future: it counts for nothing and stays.
//! - A gap between blocks that is longer than a tenth of the retention (and than a block) is no elapsed time. A clock that
//!   jumps makes one; and a server that was off that long keeps its samples so much longer.
//! - The newest block stays, whatever its age and size.

use std::fmt;

use tsdbctl_block::BlockMeta;
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retention {
    /// Age from which a block goes, ms; 0 for never.
    pub time_ms: i64,
    /// Bytes of blocks and head together; 0 for no limit.
    pub size_bytes: u64,
    /// Share of the file system, percent; 0 for no limit. It prevails over `size_bytes`, as upstream.
    pub percentage: f64,
}

impl Retention {
    /// The limit of bytes on a file system of `total` bytes (`None` if the system does not tell); 0 for none.
    pub fn limit_bytes(&self, total: Option<u64>) -> u64 {
        match total {
            Some(total) if self.percentage > 0.0 && total > 0 => {
                (total as f64 * self.percentage / 100.0) as u64
            }
            _ => self.size_bytes,
        }
    }
}

/// The least a block may end after now to be from the future, ms. A block of late samples ends where its range does.
const TOLERANCE_MS: i64 = 3_600_000;

/// The times of the blocks that count, seen from now backwards.
#[derive(Clone, Debug)]
pub struct Timeline {
    now_ms: i64,
    /// Of the smallest blocks.
    range_ms: i64,
    /// Start and end of each block that is not from the future, latest end first.
    spans: Vec<(i64, i64)>,
}

impl Timeline {
    /// The blocks' times; the smallest block covers `range_ms`.
    pub fn new<'a>(metas: impl IntoIterator<Item = &'a BlockMeta>, now_ms: i64, range_ms: i64) -> Self {
        let mut timeline = Self { now_ms, range_ms: range_ms.max(1), spans: Vec::new() };
        let metas = metas.into_iter().filter(|m| !timeline.is_future(m));
        let mut spans: Vec<_> = metas.map(|m| (m.min_time, m.max_time)).collect();
        spans.sort_unstable_by_key(|&(start, end)| std::cmp::Reverse((end, start)));
        timeline.spans = spans;
        timeline
    }

    /// How long after now a block may end: an hour, or the range of the smallest blocks if that is longer.
    pub fn tolerance_ms(&self) -> i64 {
        TOLERANCE_MS.max(self.range_ms)
    }

    /// Whether a block is from the future.
    pub fn is_future(&self, meta: &BlockMeta) -> bool {
        meta.max_time.saturating_sub(self.now_ms) > self.tolerance_ms()
    }

    /// From where age is counted back, Unix ms; `None` without blocks that count.
    pub fn reference_ms(&self) -> Option<i64> {
        self.spans.first().map(|&(_, end)| end.min(self.now_ms))
    }

    /// The time before which samples are older than `retention_ms`, Unix ms; `None` if there are none to judge by.
    pub fn cutoff_ms(&self, retention_ms: i64) -> Option<i64> {
        self.cutoff(retention_ms, (retention_ms / 10).max(self.range_ms))
    }

    /// The same where no gap that a block could fill is elapsed time, however short the gap is beside the retention.
    pub fn cutoff_without_gaps_ms(&self, retention_ms: i64) -> Option<i64> {
        self.cutoff(retention_ms, self.range_ms)
    }

    fn cutoff(&self, retention_ms: i64, long_gap_ms: i64) -> Option<i64> {
        let mut cutoff = self.reference_ms()?.saturating_sub(retention_ms);
        let mut start = i64::MAX;
        for &(from, to) in &self.spans {
            // What is left of the blocks so far reaches back to `start`, or the retention ends before that.
            if cutoff >= start {
                break;
            }
            let gap = start.saturating_sub(to);
            if start != i64::MAX && gap > long_gap_ms {
                cutoff = cutoff.saturating_sub(gap);
            }
            start = start.min(from);
        }
        Some(cutoff)
    }
}

/// Why a block has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// All its samples are too old.
    Time {
        /// The retention, ms.
        retention_ms: i64,
        /// Samples before this are too old, Unix ms.
        cutoff_ms: i64,
    },
    /// With it, head and newer blocks are larger than allowed.
    Size {
        /// Bytes of head, newer blocks and this one.
        total_bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
    },
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { retention_ms, cutoff_ms } => write!(
                f,
                "all of it is before {}, older than {}",
                format_rfc3339_ms(*cutoff_ms),
                format_duration_ms(*retention_ms)
            ),
            Self::Size { total_bytes, limit_bytes } => {
                write!(f, "with newer blocks and the head {total_bytes} bytes, {limit_bytes} are allowed")
            }
        }
    }
}

/// What retention says of blocks; they are places in the list it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The blocks that have to go, oldest first.
    pub expired: Vec<(usize, Expiry)>,
    /// Blocks from the future, which are kept and do not count.
    pub future: Vec<usize>,
}

/// Which of `blocks` (with their bytes on disk) have to go. `head_bytes` is what log and head chunks take; `limit_bytes` 0
/// is no limit ([`Retention::limit_bytes`]). Blocks that are removed anyway are not to be in the list.
pub fn judge(
    blocks: &[(&BlockMeta, u64)],
    retention_ms: i64,
    limit_bytes: u64,
    head_bytes: u64,
    timeline: &Timeline,
) -> Verdict {
    let mut order: Vec<usize> = (0..blocks.len()).filter(|i| !timeline.is_future(blocks[*i].0)).collect();
    // The latest end first; of equal ends the longer block counts as the older one, and goes first.
    order.sort_by_key(|i| {
        let meta = blocks[*i].0;
        (std::cmp::Reverse((meta.max_time, meta.min_time)), &meta.ulid)
    });
    let cutoff = if retention_ms > 0 { timeline.cutoff_ms(retention_ms) } else { None };
    let mut verdict = Verdict {
        future: (0..blocks.len()).filter(|i| timeline.is_future(blocks[*i].0)).collect(),
        ..Verdict::default()
    };
    let mut total_bytes = head_bytes;
    for (n, &i) in order.iter().enumerate() {
        let (meta, bytes) = blocks[i];
        total_bytes = total_bytes.saturating_add(bytes);
        // Everything older than the first that goes goes too: ends only get earlier, the total only larger.
        if n == 0 {
            continue;
        }
        match cutoff {
            Some(cutoff_ms) if meta.max_time <= cutoff_ms => {
                verdict.expired.push((i, Expiry::Time { retention_ms, cutoff_ms }));
            }
            _ if limit_bytes > 0 && total_bytes > limit_bytes => {
                verdict.expired.push((i, Expiry::Size { total_bytes, limit_bytes }));
            }
            _ => {}
        }
    }
    verdict.expired.reverse();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000;
    const D: i64 = 24 * H;
    /// A day in 2026.
    const NOW: i64 = 1_790_000_000_000;

    fn meta(start: i64, end: i64) -> BlockMeta {
        BlockMeta::new(format!("{start}"), start, end)
    }

    /// Blocks of a day each, from so many days ago to so many days ago.
    fn days(from: i64, to: i64) -> Vec<(i64, i64)> {
        (to..from).rev().map(|d| (NOW - (d + 1) * D, NOW - d * D)).collect()
    }

    /// The places of the blocks that go by time and of those from the future.
    fn by_time(spans: &[(i64, i64)], now: i64, retention: i64) -> (Vec<usize>, Vec<usize>) {
        let metas: Vec<_> = spans.iter().map(|&(a, b)| meta(a, b)).collect();
        let blocks: Vec<_> = metas.iter().map(|m| (m, 1)).collect();
        let timeline = Timeline::new(&metas, now, 2 * H);
        let verdict = judge(&blocks, retention, 0, 0, &timeline);
        let mut gone: Vec<_> = verdict.expired.iter().map(|(i, _)| *i).collect();
        gone.sort_unstable();
        (gone, verdict.future)
    }

    #[test]
    fn age_is_counted_from_the_newest_block_or_from_now() {
        for (what, spans, now, retention, gone, future) in [
            ("nothing", vec![], NOW, D, vec![], vec![]),
            ("no retention", days(30, 0), NOW, 0, vec![], vec![]),
            ("as upstream", days(20, 0), NOW, 18 * D, vec![0, 1], vec![]),
            ("exactly as old", days(3, 0), NOW, 2 * D, vec![0], vec![]),
            ("a moment younger", days(3, 0), NOW, 2 * D + 1, vec![], vec![]),
            ("a server off for a year", days(3, 0), NOW + 365 * D, 2 * D + 1, vec![], vec![]),
            ("the only block is too old", days(1, 0), NOW, H, vec![], vec![]),
            ("the clock 1 h behind", days(3, 0), NOW - H, 2 * D, vec![], vec![]),
        ] {
            assert_eq!(by_time(&spans, now, retention), (gone, future), "{what}");
        }
    }

    #[test]
    fn a_block_from_the_future_deletes_nothing() {
        // Upstream deletes all five good blocks here.
        let mut spans = days(5, 0);
        spans.push((NOW + 30 * D, NOW + 30 * D + 1));
        assert_eq!(by_time(&spans, NOW, 15 * D), (vec![], vec![5]));
        // One that begins in the past too.
        spans[5].0 = NOW - 40 * D;
        assert_eq!(by_time(&spans, NOW, 15 * D), (vec![], vec![5]));
        // A block of late samples may end with its range.
        spans[5] = (NOW, NOW + 2 * H);
        assert_eq!(by_time(&spans, NOW, 5 * D), (vec![], vec![]));
        assert_eq!(by_time(&spans, NOW, 4 * D), (vec![0], vec![]));
        spans[5] = (NOW, NOW + 2 * H + 1);
        assert_eq!(by_time(&spans, NOW, 4 * D), (vec![0], vec![5]));
    }

    #[test]
    fn a_clock_that_jumps_takes_nothing_with_it() {
        let year = 365 * D;
        for jump in [10 * year, -10 * year, 40 * D, -40 * D, 2 * D, i64::MAX / 4, i64::MIN / 4] {
            // Two blocks are written while the clock is wrong.
            let mut spans = days(10, 0);
            spans.extend([(NOW + jump, NOW + jump + 2 * H), (NOW + jump + 2 * H, NOW + jump + 4 * H)]);
            let (gone, _) = by_time(&spans, NOW + jump + 4 * H, 15 * D);
            assert_eq!(gone, Vec::<usize>::new(), "while it is wrong, {jump}");
            // Then it is right again.
            spans.push((NOW + 4 * H, NOW + 6 * H));
            let (gone, future) = by_time(&spans, NOW + 6 * H, 15 * D);
            assert_eq!(gone, Vec::<usize>::new(), "afterwards, {jump}");
            assert_eq!(future.len(), if jump > 0 { 2 } else { 0 }, "{jump}");
        }
    }

    #[test]
    fn long_gaps_are_no_elapsed_time_and_short_ones_are() {
        // A retention of 20 d: gaps above 2 d are long.
        let blocks = |gap: i64| {
            let mut spans = days(10, 0);
            spans.splice(0..0, days(20, 10).into_iter().map(|(a, b)| (a - gap, b - gap)));
            spans
        };
        for (gap, gone) in [(0, 0), (D, 1), (2 * D, 2), (2 * D + 1, 0), (1000 * D, 0)] {
            let (found, _) = by_time(&blocks(gap), NOW, 20 * D);
            assert_eq!(found.len(), gone, "{gap}");
        }
        // Behind a gap the retention goes on where it was.
        assert_eq!(by_time(&blocks(1000 * D), NOW, 15 * D).0, [0, 1, 2, 3, 4]);
        // No gap is long that a block could fill.
        let spans = [(NOW - 8 * H, NOW - 6 * H), (NOW - 4 * H, NOW - 2 * H), (NOW - 2 * H, NOW)];
        assert_eq!(by_time(&spans, NOW, 6 * H).0, [0]);
    }

    #[test]
    fn the_cutoff_lies_in_the_block_that_is_partly_too_old() {
        let metas = [meta(NOW - 100 * D, NOW - 90 * D), meta(NOW - 10 * D, NOW)];
        let timeline = Timeline::new(&metas, NOW, 2 * H);
        for (retention, want) in [
            (3 * D, NOW - 3 * D),
            (10 * D, NOW - 10 * D),
            // The gap of 80 d does not count.
            (12 * D, NOW - 92 * D),
            (200 * D, NOW - 280 * D),
            (801 * D, NOW - 801 * D),
        ] {
            assert_eq!(timeline.cutoff_ms(retention), Some(want), "{retention}");
        }
        assert_eq!(Timeline::new(&[], NOW, 2 * H).cutoff_ms(D), None);
    }

    #[test]
    fn by_size_the_oldest_go_and_the_newest_stays() {
        let spans = days(4, 0);
        let metas: Vec<_> = spans.iter().map(|&(a, b)| meta(a, b)).collect();
        let future = meta(NOW + 30 * D, NOW + 31 * D);
        let mut blocks: Vec<_> = metas.iter().map(|m| (m, 10)).collect();
        blocks.push((&future, 1000));
        let timeline = Timeline::new(blocks.iter().map(|(m, _)| *m), NOW, 2 * H);
        for (limit, head, want) in [
            (0, 1000, &[][..]),
            (40, 0, &[]),
            (39, 0, &[0]),
            (40, 1, &[0]),
            (25, 5, &[0, 1]),
            (1, 1000, &[0, 1, 2]),
        ] {
            let verdict = judge(&blocks, 0, limit, head, &timeline);
            let gone: Vec<_> = verdict.expired.iter().map(|(i, _)| *i).collect();
            assert_eq!((&*gone, &*verdict.future), (want, &[4][..]), "{limit} {head}");
        }
        let verdict = judge(&blocks, 3 * D, 25, 0, &timeline);
        assert_eq!(
            verdict.expired,
            [
                (0, Expiry::Time { retention_ms: 3 * D, cutoff_ms: NOW - 3 * D }),
                (1, Expiry::Size { total_bytes: 30, limit_bytes: 25 })
            ]
        );
    }

    #[test]
    fn the_percentage_prevails() {
        let retention = |size_bytes, percentage| Retention { time_ms: 0, size_bytes, percentage };
        assert_eq!(retention(7, 0.0).limit_bytes(Some(1000)), 7);
        assert_eq!(retention(7, 25.0).limit_bytes(Some(1000)), 250);
        assert_eq!(retention(7, 25.0).limit_bytes(None), 7);
        assert_eq!(retention(0, 0.0).limit_bytes(None), 0);
    }
}
