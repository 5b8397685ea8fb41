//! A series' chunks, in order and not, as one run of samples: which chunks are wanted, which must be merged, and what
//! was deleted.

use tsdbctl_chunk::SampleColumns;
use tsdbctl_storage::merge::merge_columns;
use tsdbctl_storage::{StorageError, TimeFilter};

/// A chunk of a series.
pub struct Piece<D> {
    /// First time, Unix ms.
    pub mint: i64,
    /// Last time.
    pub maxt: i64,
    /// End for the question of overlaps: the open chunk has none.
    pub merge_end: i64,
    /// Whether its samples came out of order.
    pub out_of_order: bool,
    /// Its samples.
    pub data: D,
}

/// Whether everything in `mint..=maxt` is deleted.
pub fn is_deleted(ranges: &[(i64, i64)], mint: i64, maxt: i64) -> bool {
    ranges.iter().any(|(a, b)| *a <= mint && maxt <= *b)
}

/// Appends the samples of a series that `filter` wants and that are not `deleted`. `pieces` are the in-order chunks in
/// order of time, `late` the others, oldest first; `decode` appends the samples of a piece within a range.
///
/// # Errors
/// Those of `decode`.
pub fn read<D>(
    mut pieces: Vec<Piece<D>>,
    late: Vec<Piece<D>>,
    deleted: &[(i64, i64)],
    filter: &TimeFilter,
    out: &mut SampleColumns,
    mut decode: impl FnMut(&Piece<D>, (i64, i64), &mut SampleColumns) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let in_order = late.is_empty() && pieces.is_sorted_by(|a, b| a.maxt < b.mint);
    if !in_order {
        // Of equal begin, upstream's chunk references decide: in-order ones first, then by age.
        pieces.extend(late);
        pieces.sort_by_key(|p| (p.mint, p.out_of_order));
    }
    let maxt = filter.maxt();
    let mut scratch = SampleColumns::default();
    let mut group: Vec<&Piece<D>> = Vec::new();
    let mut group_end = i64::MIN;
    let mut from = filter.mint();
    let mut wanted = pieces.iter().filter(|p| filter.wants(p.mint, p.maxt)).peekable();
    while let Some(piece) = wanted.next() {
        group.push(piece);
        group_end = group_end.max(if in_order { piece.maxt } else { piece.merge_end });
        if wanted.peek().is_some_and(|next| !in_order && next.mint <= group_end) {
            continue;
        }
        let touched = deleted.iter().any(|(a, b)| *a <= group_end && *b >= group[0].mint);
        let target = if touched { &mut scratch } else { &mut *out };
        if let [single] = group[..] {
            decode(single, (from, maxt), target)?;
        } else {
            let mut parts = Vec::with_capacity(group.len());
            for piece in &group {
                let mut columns = SampleColumns::default();
                decode(piece, (from, maxt), &mut columns)?;
                parts.push(columns);
            }
            merge_columns(&parts, target);
        }
        let last = target.floats.t.last().max(target.histograms.t.last()).copied();
        from = from.max(last.map_or(i64::MIN, |t| t.saturating_add(1)));
        if touched {
            keep(&scratch, out, |t| !is_deleted(deleted, t, t));
            scratch.clear();
        }
        group.clear();
        group_end = i64::MIN;
    }
    Ok(())
}

/// Appends the samples whose time passes.
pub fn keep(from: &SampleColumns, to: &mut SampleColumns, passes: impl Fn(i64) -> bool) {
    for (i, t) in from.floats.t.iter().enumerate().filter(|(_, t)| passes(**t)) {
        to.floats.push(*t, from.floats.v[i], from.floats.start_timestamp(i));
    }
    let h = &from.histograms;
    for (i, t) in h.t.iter().enumerate().filter(|(_, t)| passes(**t)) {
        to.histograms.push(*t, h.h[i].clone(), h.integer[i], h.start_timestamp(i));
    }
}
