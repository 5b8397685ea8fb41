//! Which blocks are to become one, by upstream's plan (`tsdb/compact.go`).

use crate::meta::BlockMeta;

/// Ranges of blocks, ms, ascending: `steps` of them, each `factor` times the one before (upstream's
/// `ExponentialBlockRanges`).
pub fn block_ranges(first_ms: i64, steps: usize, factor: i64) -> Vec<i64> {
    let grow = |range: &i64| range.checked_mul(factor);
    std::iter::successors(Some(first_ms), grow).take(steps).collect()
}

/// The blocks to be compacted into one next, as places in `metas`, by start; empty if there is nothing to do. Blocks from
/// the first that `is_held_back` on (which its upload delays, say) are left alone.
pub fn plan(
    _metas: &[&BlockMeta],
    _ranges: &[i64],
    _is_held_back: &dyn Fn(&BlockMeta) -> bool,
) -> Vec<usize> {
    Vec::new()
}

/// What the block made of `metas` (by start) says about itself, counts left out (upstream's `CompactBlockMetas`).
pub fn merged_meta(ulid: String, metas: &[&BlockMeta]) -> BlockMeta {
    let start = metas.iter().map(|m| m.min_time).min().unwrap_or(0);
    let end = metas.iter().map(|m| m.max_time).max().unwrap_or(0);
    BlockMeta::new(ulid, start, end)
}
