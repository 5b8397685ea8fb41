//! Blocks of real servers written again: the same bytes, as long as the same rules made them.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tsdbctl_block::{Block, BlockMeta, BlockStats, BlockWriter, Tombstones, WriterOptions, write_block};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::chunk_source::EncodedChunk;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, LabelRef, StorageError};
use tsdbctl_testkit as testkit;

/// A block read in the plainest way, and a source of what is in it.
struct RawBlock {
    index: Vec<u8>,
    version: u8,
    /// Offsets of the table of contents.
    sections: [usize; 6],
    symbols: Vec<String>,
    series: Vec<RawSeries>,
    segments: Vec<Vec<u8>>,
    at: usize,
}

/// Labels, and (mint, maxt, reference) of chunks.
type RawSeries = (Vec<LabelRef>, Vec<(i64, i64, u64)>);

struct Bytes<'a>(&'a [u8], usize);

impl Bytes<'_> {
    fn uvarint(&mut self) -> u64 {
        let (mut v, mut shift) = (0, 0);
        loop {
            let b = self.0[self.1];
            self.1 += 1;
            v |= u64::from(b & 0x7f) << shift;
            shift += 7;
            if b < 0x80 {
                return v;
            }
        }
    }

    fn varint(&mut self) -> i64 {
        let u = self.uvarint();
        (u >> 1) as i64 ^ -((u & 1) as i64)
    }

    fn text(&mut self) -> String {
        let len = self.uvarint() as usize;
        self.1 += len;
        String::from_utf8(self.0[self.1 - len..self.1].to_vec()).unwrap()
    }

    fn be32(&mut self) -> usize {
        self.1 += 4;
        u32::from_be_bytes(self.0[self.1 - 4..self.1].try_into().unwrap()) as usize
    }
}

impl RawBlock {
    fn read(dir: &Path) -> Self {
        let index = std::fs::read(dir.join("index")).unwrap();
        let meta = BlockMeta::read(dir).unwrap();
        let version = if meta.version == 2 { 2 } else { index[4] };
        let toc = &index[index.len() - 52..];
        let sections =
            std::array::from_fn(|i| u64::from_be_bytes(toc[i * 8..i * 8 + 8].try_into().unwrap()) as usize);
        let mut b = Bytes(&index, sections[0] + 4);
        let mut places = BTreeMap::new();
        let symbols: Vec<String> = (0..b.be32())
            .map(|i| {
                places.insert(if version == 1 { b.1 as u32 } else { i as u32 }, i as u32);
                b.text()
            })
            .collect();
        let mut series = Vec::new();
        let end = if sections[2] == 0 { sections[4] } else { sections[2] };
        b.1 = sections[1];
        loop {
            if version > 1 {
                b.1 = b.1.next_multiple_of(16);
            }
            if b.1 >= end {
                break;
            }
            let len = b.uvarint() as usize;
            let next = b.1 + len + 4;
            let labels = (0..b.uvarint())
                .map(|_| (places[&(b.uvarint() as u32)], places[&(b.uvarint() as u32)]))
                .collect();
            let mut chunks: Vec<(i64, i64, u64)> = Vec::new();
            for _ in 0..b.uvarint() {
                let chunk = match chunks.last().copied() {
                    None => {
                        let mint = b.varint();
                        (mint, mint + b.uvarint() as i64, b.uvarint())
                    }
                    Some((_, maxt, reference)) => {
                        let mint = maxt + b.uvarint() as i64;
                        (mint, mint + b.uvarint() as i64, reference.wrapping_add(b.varint() as u64))
                    }
                };
                chunks.push(chunk);
            }
            series.push((labels, chunks));
            b.1 = next;
        }
        let segments = chunk_files(dir).into_iter().map(|(_, bytes)| bytes).collect();
        Self { version, sections, symbols, series, segments, at: 0, index }
    }

    /// Name, value and offset of all lists, and how far the first is from the table's idea of it.
    fn table(&self) -> Vec<(String, String, usize)> {
        let mut b = Bytes(&self.index, self.sections[5] + 4);
        (0..b.be32())
            .map(|_| {
                assert_eq!(b.uvarint(), 2);
                (b.text(), b.text(), b.uvarint() as usize)
            })
            .collect()
    }
}

impl ChunkSource for RawBlock {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.symbols.iter().try_for_each(|s| each(s))
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        self.at += 1;
        Ok(self.at <= self.series.len())
    }

    fn labels(&self) -> &[LabelRef] {
        &self.series[self.at - 1].0
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        for (mint, maxt, reference) in &self.series[self.at - 1].1 {
            let mut b = Bytes(&self.segments[(reference >> 32) as usize], *reference as u32 as usize);
            let len = b.uvarint() as usize;
            let data = &b.0[b.1 + 1..b.1 + 1 + len];
            out.push(EncodedChunk { encoding: b.0[b.1], data, mint: *mint, maxt: *maxt });
        }
        Ok(())
    }
}

fn chunk_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(dir.join("chunks")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    let name = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().to_string();
    paths.iter().map(|p| (name(p), std::fs::read(p).unwrap())).collect()
}

fn blocks_in(dir: &Path) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("meta.json").exists());
    dirs.sort();
    dirs
}

/// Writes a block anew and answers where, and what its meta says.
fn written(
    source: &mut dyn ChunkSource,
    meta: BlockMeta,
    into: &Path,
    options: WriterOptions,
) -> (PathBuf, BlockMeta) {
    let path = into.join(&meta.ulid);
    let meta = write_block(Arc::new(RealDisk), into, source, meta, options, &Control::default());
    let meta = meta.unwrap().unwrap();
    assert_eq!(BlockMeta::read(&path).unwrap(), meta);
    let names: Vec<_> = std::fs::read_dir(into).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [path.file_name().unwrap()], "no temporary directory stays");
    (path, meta)
}

/// Little memory: several passes over the series. Little files: many.
const SMALL: WriterOptions = WriterOptions { segment_bytes: 20_000, memory_bytes: 0 };

fn rewrite_all(archive: &str, label_indices: bool) {
    let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
    let blocks = blocks_in(&top);
    assert!(!blocks.is_empty());
    for dir in blocks {
        let at = dir.display();
        let mut raw = RawBlock::read(&dir);
        let old = BlockMeta::read(&dir).unwrap();
        let into = testkit::scratch();
        let mut meta = old.clone();
        meta.stats = BlockStats::default();
        let (new, meta) = written(&mut raw, meta, into.path(), WriterOptions::default());
        check_meta(&old, &meta);
        assert!(chunk_files(&new) == chunk_files(&dir), "{at}: chunk files differ");
        let index = std::fs::read(new.join("index")).unwrap();
        if label_indices {
            check_index_without_label_indices(&raw, &RawBlock::read(&new));
        } else {
            assert!(index == raw.index, "{at}: index differs");
        }
        assert_eq!(std::fs::read(new.join("tombstones")).unwrap(), [1, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0]);
        assert!(Tombstones::read(&new).unwrap().is_empty());
        let block = Block::open(&new).unwrap();
        let newest = block.newest_sample_time(&Control::default()).unwrap();
        assert!(newest.is_some_and(|t| old.overlaps(t, t)), "{at}");

        let into = testkit::scratch();
        raw.at = 0;
        let (small, _) = written(&mut raw, old, into.path(), SMALL);
        let again = RawBlock::read(&small);
        let bytes: usize = raw.segments.iter().map(Vec::len).sum();
        assert!(again.segments.len() >= bytes / 20_000, "{at}");
        assert!(again.segments.iter().all(|s| s.len() <= 20_000), "{at}");
        check_same_content(&mut raw, again);
        // Files as before, so that the references are: the memory alone makes no difference.
        let into = testkit::scratch();
        raw.at = 0;
        let little = WriterOptions { memory_bytes: 0, ..WriterOptions::default() };
        let (small, _) = written(&mut raw, meta, into.path(), little);
        assert!(std::fs::read(small.join("index")).unwrap() == index, "{at}: memory makes a difference");
    }
}

/// Deletions are not taken along by this source. Thanos leaves counts of the raw block in those of downsampled ones, and
/// its sizes are guesses by the distance of one entry or chunk from the next.
fn check_meta(old: &BlockMeta, new: &BlockMeta) {
    let (mut old, mut new) = (old.clone(), new.clone());
    old.stats.num_tombstones = 0;
    if old.stats.num_float_samples == 0 && old.stats.num_histogram_samples == 0 {
        // 2.42 counted them together.
        assert!(new.stats.num_float_samples + new.stats.num_histogram_samples == old.stats.num_samples);
        (new.stats.num_float_samples, new.stats.num_histogram_samples) = (0, 0);
    }
    if let (Some(old_thanos), Some(new_thanos)) = (&old.thanos, &mut new.thanos) {
        let (guessed, sizes) = (old_thanos.index_stats, new_thanos.index_stats);
        assert!(sizes.series_max_size + 16 > guessed.series_max_size, "{sizes:?} {guessed:?}");
        assert!(sizes.chunk_max_size >= guessed.chunk_max_size, "{sizes:?} {guessed:?}");
        new_thanos.index_stats = guessed;
        if old_thanos.downsample.resolution > 0 {
            assert_eq!((new.stats.num_float_samples, new.stats.num_histogram_samples), (0, 0));
            (old.stats.num_float_samples, old.stats.num_histogram_samples) = (0, 0);
        }
    }
    assert_eq!(new, old);
}

/// 2.42 wrote label indices between series and postings, which nobody reads; all else is the same, only moved.
fn check_index_without_label_indices(old: &RawBlock, new: &RawBlock) {
    let series_end = old.sections[2];
    assert!(new.index[..series_end] == old.index[..series_end], "symbols and series");
    let (old_table, new_table) = (old.table(), new.table());
    assert_eq!(old_table.len(), new_table.len());
    let shift = old_table[0].2 - new_table[0].2;
    for (old, new) in old_table.iter().zip(&new_table) {
        assert_eq!((&old.0, &old.1, old.2 - shift), (&new.0, &new.1, new.2));
    }
    let lists = new.index[new_table[0].2..new.sections[5]].len();
    let old_start = old_table[0].2;
    assert!(
        old.index[old_start..old_start + lists] == new.index[new_table[0].2..new.sections[5]],
        "postings"
    );
}

fn check_same_content(old: &mut RawBlock, mut new: RawBlock) {
    old.at = 0;
    assert_eq!(old.symbols, new.symbols);
    assert_eq!(old.series.len(), new.series.len());
    let (mut a, mut b) = (ChunkBatch::default(), ChunkBatch::default());
    while old.next().unwrap() && new.next().unwrap() {
        assert_eq!(old.labels(), new.labels());
        a.clear();
        b.clear();
        old.chunks(&mut a).unwrap();
        new.chunks(&mut b).unwrap();
        assert!(a.iter().eq(b.iter()));
    }
}

#[test]
fn blocks_of_3_14_come_out_byte_for_byte() {
    rewrite_all("data/prometheus-3.14-crashed.tar.zst", false);
}

#[test]
fn blocks_of_3_14_with_start_timestamps_come_out_byte_for_byte() {
    rewrite_all("data/prometheus-3.14-xor2-crashed.tar.zst", false);
    rewrite_all("data/prometheus-3.14-xor2-snapshot.tar.zst", false);
}

#[test]
fn blocks_of_2_42_come_out_the_same_without_label_indices() {
    rewrite_all("data/prometheus-2.42-crashed.tar.zst", true);
}

#[test]
fn blocks_of_thanos_come_out_byte_for_byte() {
    rewrite_all("data/thanos-downsampled.tar.zst", false);
}

#[test]
fn an_index_of_version_1_comes_out_as_version_2() {
    let Some(dir) = testkit::shared("conformance/tsdb/index_format_v1") else { return };
    let mut raw = RawBlock::read(&dir);
    assert_eq!(raw.version, 1);
    let into = testkit::scratch();
    let (new, _) = written(&mut raw, BlockMeta::read(&dir).unwrap(), into.path(), WriterOptions::default());
    let new = RawBlock::read(&new);
    assert_eq!((new.version, new.series.len()), (2, raw.series.len()));
    check_same_content(&mut raw, new);
}

#[test]
fn what_is_out_of_order_is_refused_with_both_named() {
    let into = testkit::scratch();
    let chunks = |times: &[(i64, i64)]| {
        let mut batch = ChunkBatch::default();
        for (mint, maxt) in times {
            batch.push(EncodedChunk { encoding: 1, data: &[0, 1, 0], mint: *mint, maxt: *maxt });
        }
        batch
    };
    let one = chunks(&[(0, 5)]);
    let refused = |labels: &[LabelRef], chunks: &ChunkBatch| {
        let disk = Arc::new(RealDisk);
        let mut w =
            BlockWriter::create(disk, into.path(), "01BZJ9WJQPWHGNC2W4J9TA62KC", WriterOptions::default())
                .unwrap();
        for symbol in ["a", "b", "c", "x"] {
            w.add_symbol(symbol).unwrap();
        }
        let unordered = w.add_symbol("b").unwrap_err().to_string();
        assert!(unordered.ends_with(r#"symbols are out of order: "b" comes after "x""#), "{unordered}");
        w.add_series(&[(0, 2), (1, 3)], &one).unwrap();
        let late = w.add_symbol("y").unwrap_err().to_string();
        assert!(late.ends_with(r#"symbol "y" comes after the first series"#), "{late}");
        let e = w.add_series(labels, chunks).unwrap_err().to_string();
        e.split_once("/index: ").unwrap().1.to_string()
    };
    for (labels, times, want) in [
        (&[(0, 2)][..], &[(0, 5)][..], r#"series are out of order: {a="c"} comes after {a="c", b="x"}"#),
        (
            &[(0, 2), (1, 3)],
            &[(0, 5)],
            r#"series are out of order: {a="c", b="x"} comes after {a="c", b="x"}"#,
        ),
        (&[], &[(0, 5)], r#"series are out of order: {} comes after {a="c", b="x"}"#),
        (&[(1, 3), (0, 2)], &[(0, 5)], r#"labels are out of order in series {b="x", a="c"}"#),
        (&[(1, 4)], &[(0, 5)], "labels [(1, 4)] refer to one of 4 symbols"),
        (
            &[(0, 3)],
            &[(0, 5), (5, 9)],
            r#"a chunk of series {a="x"} starts at 5, when the one before it ends at 5"#,
        ),
        (&[(0, 3)], &[(6, 5)], r#"a chunk of series {a="x"} ends at 5, before it starts at 6"#),
    ] {
        assert_eq!(refused(labels, &chunks(times)), want);
    }
    for (encoding, data, want) in [
        (7, &[0, 1, 0][..], "has the unknown encoding 7"),
        (0, &[0, 1, 0], "has the unknown encoding 0"),
        (1, &[0], "is damaged: "),
        (0xff, &[0, 0, 0, 0, 0], "has aggregates that are cut short"),
        (0xff, &[0, 9, 1, 0, 1], "has aggregates that are cut short"),
    ] {
        let mut batch = ChunkBatch::default();
        batch.push(EncodedChunk { encoding, data, mint: 0, maxt: 5 });
        let e = refused(&[(0, 3)], &batch);
        assert!(e.starts_with(&format!(r#"a chunk of series {{a="x"}} {want}"#)), "{e}");
    }
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0, "what was begun is removed");
}

#[test]
fn a_block_without_samples_is_none() {
    let into = testkit::scratch();
    let mut writer =
        BlockWriter::create(Arc::new(RealDisk), into.path(), "01BZJ9WJQPWHGNC2W4J9TA62KC", SMALL).unwrap();
    writer.add_symbol("a").unwrap();
    writer.add_series(&[(0, 0)], &ChunkBatch::default()).unwrap();
    let meta = BlockMeta::new("01BZJ9WJQPWHGNC2W4J9TA62KC".to_string(), 0, 10);
    assert_eq!(writer.finish(meta).unwrap(), None);
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
}

fn promtool(arguments: &[&str], dir: &Path) -> Option<String> {
    let out = Command::new("promtool").arg("tsdb").args(arguments).arg(dir).output().ok()?;
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

/// An older reader finds in blocks of many files what it finds in those they were copied from.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
fn promtool_reads_what_was_written() {
    for archive in ["data/prometheus-2.42-crashed.tar.zst", "data/prometheus-3.14-crashed.tar.zst"] {
        let Some((_dir, top)) = testkit::unpack_directory(archive) else { return };
        let (old, new) = (testkit::scratch(), testkit::scratch());
        // promtool wants one.
        for dir in [&old, &new] {
            std::fs::create_dir(dir.path().join("wal")).unwrap();
        }
        for dir in blocks_in(&top) {
            // Without the deletions, which this source does not know.
            std::fs::remove_file(dir.join("tombstones")).unwrap();
            let block = old.path().join(dir.file_name().unwrap());
            std::fs::rename(&dir, &block).unwrap();
            let meta = BlockMeta::read(&block).unwrap();
            let disk = Arc::new(RealDisk);
            let mut raw = RawBlock::read(&block);
            write_block(disk, new.path(), &mut raw, meta, SMALL, &Control::default()).unwrap().unwrap();
        }
        let Some(list) = promtool(&["list"], new.path()) else {
            eprintln!("skipped: promtool is not installed");
            return;
        };
        let without_size = |list: &str| -> Vec<String> {
            list.lines().map(|l| l.split_whitespace().rev().skip(1).collect()).collect()
        };
        assert_eq!(without_size(&list).len(), blocks_in(old.path()).len() + 1);
        if archive.contains("3.14") {
            assert_eq!(without_size(&list), without_size(&promtool(&["list"], old.path()).unwrap()));
        }
        let both = |what: &[&str]| {
            let texts = [&old, &new].map(|dir| promtool(what, dir.path()).unwrap());
            assert!(texts.iter().all(|t| t.lines().count() > 10), "{archive}: {what:?}");
            texts
        };
        let [old_dump, new_dump] = both(&["dump", r#"--match={__name__=~"go_memstats_.*"}"#]);
        assert!(old_dump == new_dump, "{archive}: dump");
        // Which of equal counts come first differs from run to run.
        let counts = both(&["analyze"]).map(|text| -> Vec<String> {
            text.lines().map(|l| l.split(' ').next().unwrap_or("").to_string()).collect()
        });
        assert_eq!(counts[0], counts[1], "{archive}: analyze");
    }
}
