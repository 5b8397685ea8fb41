//! Which blocks are to become one, by upstream's plan (`tsdb/compact.go`), and what the new one says about itself.

use crate::meta::{
    BlockDescription, BlockMeta, Compaction, HINT_OUT_OF_ORDER, HINT_SELECTED_SERIES, HINT_STALE_SERIES,
    Thanos,
};

/// Ranges of blocks, ms, ascending: `steps` of them, each `factor` times the one before (upstream's
/// `ExponentialBlockRanges`).
pub fn block_ranges(first_ms: i64, steps: usize, factor: i64) -> Vec<i64> {
    let grow = |range: &i64| range.checked_mul(factor);
    std::iter::successors(Some(first_ms), grow).take(steps).collect()
}

/// What a block was made of. Blocks of different kinds are never merged: one made of a part of the head's series must
/// not lose its hint, or the part of the log that holds the other series would be thought to be in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Stale,
    Selected,
}

fn has(meta: &BlockMeta, hint: &str) -> bool {
    meta.compaction.hints.iter().any(|h| h == hint)
}

fn kind(meta: &BlockMeta) -> Kind {
    if has(meta, HINT_STALE_SERIES) {
        Kind::Stale
    } else if has(meta, HINT_SELECTED_SERIES) {
        Kind::Selected
    } else {
        Kind::All
    }
}

/// The blocks to be compacted into one next, as places in `metas`, by start; empty if there is nothing to do. Blocks from
/// the first that `is_held_back` on (which its upload delays, say; first by name, as upstream lists them) are left
/// alone, and so are those that are downsampled further than others of them. Blocks that begin together come by name; in
/// upstream, whose sort is not stable, by chance if there are more than twelve.
pub fn plan(metas: &[&BlockMeta], ranges: &[i64], is_held_back: &dyn Fn(&BlockMeta) -> bool) -> Vec<usize> {
    plan_ahead(metas, ranges, is_held_back).into_iter().next().unwrap_or_default()
}

/// What [`plan`] would answer, one after the other, as long as that can be told before anything is compacted: the runs
/// have no block in common, and what becomes of one does not change the next. Many blocks are planned fast with it.
pub fn plan_ahead(
    metas: &[&BlockMeta],
    ranges: &[i64],
    is_held_back: &dyn Fn(&BlockMeta) -> bool,
) -> Vec<Vec<usize>> {
    if ranges.is_empty() {
        return Vec::new();
    }
    let held = metas.iter().filter(|m| is_held_back(m)).map(|m| &*m.ulid).min();
    let mut all: Vec<usize> =
        (0..metas.len()).filter(|i| held.is_none_or(|h| *metas[*i].ulid < *h)).collect();
    let resolution = all.iter().map(|i| metas[*i].resolution_ms()).min().unwrap_or(0);
    all.retain(|i| metas[*i].resolution_ms() == resolution);
    all.sort_by(|a, b| (metas[*a].min_time, &metas[*a].ulid).cmp(&(metas[*b].min_time, &metas[*b].ulid)));
    // What the others wait for may be many; it comes first.
    [Kind::All, Kind::Stale, Kind::Selected]
        .into_iter()
        .map(|k| {
            let blocks: Vec<usize> = all.iter().copied().filter(|i| kind(metas[*i]) == k).collect();
            plan_kind(metas, &blocks, ranges)
        })
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// The plan for blocks of one kind, sorted by start.
fn plan_kind(metas: &[&BlockMeta], blocks: &[usize], ranges: &[i64]) -> Vec<Vec<usize>> {
    let overlapping = overlapping(metas, blocks);
    if !overlapping.is_empty() {
        return overlapping;
    }
    // The newest stays as it is for a while, so that it can be copied elsewhere before it is in another.
    let Some((_, blocks)) = blocks.split_last() else { return Vec::new() };
    let groups = aligned_groups(metas, blocks, ranges);
    if !groups.is_empty() {
        return groups;
    }
    let long = ranges[ranges.len() / 2];
    for i in blocks.iter().rev() {
        let (meta, stats) = (metas[*i], &metas[*i].stats);
        if meta.max_time.saturating_sub(meta.min_time) < long {
            // Of a short one there must be nothing left, and then the older ones are not looked at.
            let nothing_left = stats.num_tombstones > 0 && stats.num_tombstones >= stats.num_series;
            return if nothing_left { vec![vec![*i]] } else { Vec::new() };
        }
        if stats.num_tombstones as f64 / (stats.num_series.wrapping_add(1)) as f64 > 0.05 {
            return vec![vec![*i]];
        }
    }
    Vec::new()
}

/// The runs of blocks that overlap.
fn overlapping(metas: &[&BlockMeta], blocks: &[usize]) -> Vec<Vec<usize>> {
    let mut found: Vec<Vec<usize>> = Vec::new();
    let Some(first) = blocks.first() else { return found };
    let mut end = metas[*first].max_time;
    let mut is_in_run = false;
    for pair in blocks.windows(2) {
        let next = metas[pair[1]];
        if next.min_time < end {
            match found.last_mut().filter(|_| is_in_run) {
                Some(run) => run.push(pair[1]),
                None => found.push(pair.to_vec()),
            }
        }
        is_in_run = next.min_time < end;
        end = end.max(next.max_time);
    }
    found
}

/// Runs of blocks that together fill a range, or have one behind them that begins after it: all of the smallest range that
/// has any.
fn aligned_groups(metas: &[&BlockMeta], blocks: &[usize], ranges: &[i64]) -> Vec<Vec<usize>> {
    let Some(last) = blocks.last() else { return Vec::new() };
    let newest_start = metas[*last].min_time;
    let is_full = |group: &&[usize], range: i64| {
        let (start, end) = (metas[group[0]].min_time, metas[group[group.len() - 1]].max_time);
        group.len() > 1
            && !group.iter().any(|i| metas[*i].compaction.failed)
            && (end.saturating_sub(start) == range || end <= newest_start)
    };
    let full = |range: i64| {
        let groups = groups(metas, blocks, range).into_iter();
        groups.filter(|group| is_full(group, range)).map(<[usize]>::to_vec).collect::<Vec<_>>()
    };
    let larger = ranges[1..].iter().copied().filter(|r| *r > 0);
    larger.map(full).find(|found| !found.is_empty()).unwrap_or_default()
}

/// Runs of blocks that lie inside of one multiple of `range`; blocks that lie in none are left out.
fn groups<'b>(metas: &[&BlockMeta], blocks: &'b [usize], range: i64) -> Vec<&'b [usize]> {
    let mut out = Vec::new();
    let mut rest = blocks;
    while let Some(first) = rest.first() {
        let end = metas[*first].min_time.div_euclid(range).saturating_mul(range).saturating_add(range);
        let len = rest.iter().take_while(|i| metas[**i].max_time <= end).count();
        if len > 0 {
            out.push(&rest[..len]);
        }
        rest = &rest[len.max(1)..];
    }
    out
}

/// What the block made of `metas` (by start) says about itself, counts left out (upstream's `CompactBlockMetas`). What
/// Thanos adds is kept as far as it holds for all of them.
pub fn merged_meta(ulid: String, metas: &[&BlockMeta]) -> BlockMeta {
    let start = metas.iter().map(|m| m.min_time).min().unwrap_or(0);
    let end = metas.iter().map(|m| m.max_time).max().unwrap_or(0);
    let mut sources: Vec<String> = metas.iter().flat_map(|m| m.compaction.sources.iter().cloned()).collect();
    sources.sort_unstable();
    sources.dedup();
    let describe = |m: &&BlockMeta| BlockDescription {
        ulid: m.ulid.clone(),
        min_time: m.min_time,
        max_time: m.max_time,
    };
    // In their sorted order. Out of order is a block only if all of it is; the other hints must not get lost.
    let mut hints = Vec::new();
    if !metas.is_empty() && metas.iter().all(|m| has(m, HINT_OUT_OF_ORDER)) {
        hints.push(HINT_OUT_OF_ORDER.to_string());
    }
    for hint in [HINT_SELECTED_SERIES, HINT_STALE_SERIES] {
        if metas.iter().any(|m| has(m, hint)) {
            hints.push(hint.to_string());
        }
    }
    let compaction = Compaction {
        level: metas.iter().map(|m| m.compaction.level).max().unwrap_or(0).saturating_add(1),
        sources,
        parents: metas.iter().map(describe).collect(),
        hints,
        ..Compaction::default()
    };
    BlockMeta { compaction, thanos: merged_thanos(metas), ..BlockMeta::new(ulid, start, end) }
}

fn merged_thanos(metas: &[&BlockMeta]) -> Option<Thanos> {
    let first = metas.first()?.thanos.as_ref()?;
    let same = |m: &&BlockMeta| {
        m.thanos.as_ref().is_some_and(|t| t.labels == first.labels && t.downsample == first.downsample)
    };
    metas.iter().all(same).then(|| Thanos {
        labels: first.labels.clone(),
        downsample: first.downsample,
        source: "tsdbctl".to_string(),
        ..Thanos::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_until_they_do_not_fit() {
        assert_eq!(block_ranges(2, 4, 3), [2, 6, 18, 54]);
        assert_eq!(block_ranges(i64::MAX / 2, 5, 3), [i64::MAX / 2]);
        assert!(block_ranges(2, 0, 3).is_empty());
    }
}
