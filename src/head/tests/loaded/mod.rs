//! What loading a directory into a live head gives, read back without its querier.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::sync::{Arc, PoisonError};

use tempfile::TempDir;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::LiveOptions;
use tsdbctl_head::live::chunk_files::ChunkFiles;
use tsdbctl_head::live::load::{Loaded, load};
use tsdbctl_head::live::shard::Piece;
use tsdbctl_model::Labels;
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::Control;
use tsdbctl_storage::merge::merge_columns;

/// Options under which everything in a log is kept as it is.
pub fn options() -> LiveOptions {
    let mut options = LiveOptions { max_exemplars: 100, snapshot_on_close: true, ..LiveOptions::default() };
    options.rules.xor2 = true;
    options.rules.start_timestamps = true;
    options.rules.histogram_start_timestamps = true;
    options
}

/// The system's disk.
pub fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// A copy of a directory.
pub fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(from, to.path());
    to
}

fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Loads a directory, which is changed by that.
pub fn load_in(dir: &Path, options: &LiveOptions, min_valid_time: i64) -> Loaded {
    load(&disk(), dir, options, min_valid_time, &Control::default()).unwrap()
}

/// A chunk, decoded.
struct Part {
    mint: i64,
    maxt: i64,
    open: bool,
    out_of_order: bool,
    columns: SampleColumns,
}

impl Part {
    fn read(piece: Piece, files: &ChunkFiles) -> Self {
        let (mint, maxt, encoding, data, open, out_of_order) = match piece {
            Piece::Mapped { place, out_of_order, .. } => {
                let stored = files.read(place).unwrap();
                (stored.mint, stored.maxt, stored.encoding, stored.data, false, out_of_order)
            }
            Piece::Memory { chunk, hidden, open, out_of_order } => {
                assert_eq!(hidden, 0);
                (chunk.mint, chunk.maxt, chunk.encoding, chunk.data, open, out_of_order)
            }
        };
        let mut columns = SampleColumns::default();
        tsdbctl_chunk::decode(encoding, &data, i64::MIN, i64::MAX, &mut columns).unwrap();
        Self { mint, maxt, open, out_of_order, columns }
    }
}

/// Labels and samples of all series with samples, in the order of the references.
pub fn series(loaded: &Loaded) -> Vec<(Labels, SampleColumns)> {
    let mut all = Vec::new();
    for id in loaded.index.ids() {
        let shard = &loaded.shards[(id.0 >> 8) as usize % loaded.shards.len()];
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::new();
        shard.pieces(id, i64::MIN, i64::MAX, u64::MAX, &mut pieces);
        let mut parts: Vec<Part> = pieces.into_iter().map(|piece| Part::read(piece, &loaded.files)).collect();
        let in_order = parts.iter().all(|p| !p.out_of_order) && parts.is_sorted_by(|a, b| a.maxt < b.mint);
        parts.sort_by_key(|p| (p.mint, p.out_of_order));
        let (mut merged, mut kept) = (SampleColumns::default(), SampleColumns::default());
        let (mut group, mut group_end) = (Vec::new(), i64::MIN);
        let mut rest = parts.into_iter().peekable();
        while let Some(part) = rest.next() {
            group_end = group_end.max(if part.open { i64::MAX } else { part.maxt });
            group.push(part.columns);
            if in_order || rest.peek().is_none_or(|next| next.mint > group_end) {
                merge_columns(&group, &mut merged);
                group.clear();
                group_end = i64::MIN;
            }
        }
        let deleted = loaded.tombstones.get(&id).map_or(&[][..], Vec::as_slice);
        let is_kept = |t: &i64| !deleted.iter().any(|(a, b)| (a..=b).contains(&t));
        for (i, t) in merged.floats.t.iter().enumerate().filter(|(_, t)| is_kept(t)) {
            kept.floats.push(*t, merged.floats.v[i], merged.floats.start_timestamp(i));
        }
        let h = &merged.histograms;
        for (i, t) in h.t.iter().enumerate().filter(|(_, t)| is_kept(t)) {
            kept.histograms.push(*t, h.h[i].clone(), h.integer[i], h.start_timestamp(i));
        }
        all.push((shard.record(id).unwrap().series_ref, loaded.index.owned_labels(id), kept));
    }
    all.sort_by_key(|(series_ref, ..)| *series_ref);
    all.into_iter().map(|(_, labels, samples)| (labels, samples)).collect()
}
