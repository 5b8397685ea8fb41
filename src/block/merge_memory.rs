//! What merging blocks takes in memory, told from their indices before anything is written: labels are all that is kept of
//! a whole block.

use std::cmp::Ordering;
use std::sync::Arc;

use tsdbctl_storage::StorageError;

use crate::block::Block;
use crate::cursor::Cursor;
use crate::index::{Damage, Index};

/// Bytes a series of a block: its reference.
const SERIES_BYTES: u64 = 4;
/// Bytes a symbol of a block: its place among the symbols of all.
const PLACE_BYTES: u64 = 4;
/// Bytes a symbol of all beside its text: where it ends, its first label pair, and where it is in the new index.
const SYMBOL_BYTES: u64 = 4 + 4 + 1;
/// Bytes a label pair of all: with its counts, and its place in the order.
const PAIR_BYTES: u64 = 16 + 8;

/// Labels of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    symbols: u64,
    text_bytes: u64,
    pairs: u64,
}

/// Bytes that merging blocks takes at most beside what a [`WriterOptions`](crate::WriterOptions) limits. If that is above
/// `enough`, labels that blocks share are found out and counted once.
///
/// # Errors
/// If an index is damaged.
pub fn merge_memory(blocks: &[Arc<Block>], enough: u64) -> Result<u64, StorageError> {
    let mut series = 0;
    let (mut most, mut all) = (Sizes::default(), Sizes::default());
    for block in blocks {
        let index = block.index();
        let sizes = sizes(index)?;
        series += index.all_postings()?.len() as u64;
        for (most, all, one) in [
            (&mut most.symbols, &mut all.symbols, sizes.symbols),
            (&mut most.text_bytes, &mut all.text_bytes, sizes.text_bytes),
            (&mut most.pairs, &mut all.pairs, sizes.pairs),
        ] {
            *most = one.max(*most);
            *all += one;
        }
    }
    let bytes = |union: Sizes| {
        // Texts are copied when some are put between.
        let copies = if union.text_bytes > most.text_bytes { 2 } else { 1 };
        let (texts, places) = match blocks.len() {
            // Those of a single block are not kept.
            1 => (0, 0),
            _ => (union.text_bytes * copies, all.symbols * PLACE_BYTES),
        };
        series * SERIES_BYTES + places + texts + union.symbols * SYMBOL_BYTES + union.pairs * PAIR_BYTES
    };
    let at_most = bytes(all);
    if at_most <= enough || !blocks.iter().all(|b| b.index().version() > 1) {
        return Ok(at_most);
    }
    let indices: Vec<&Index> = blocks.iter().map(|b| b.index()).collect();
    union(&indices).map(bytes)
}

/// Labels of an index, by the heads of its tables.
fn sizes(index: &Index) -> Result<Sizes, StorageError> {
    let (mut symbols, _) = index.symbol_table()?;
    let count = u64::from(symbols.be32().unwrap_or(0));
    let (mut pairs, _) = index.pair_table()?;
    // A string has at least a byte for its length beside.
    let text_bytes = (symbols.left() as u64).saturating_sub(count);
    Ok(Sizes { symbols: count, text_bytes, pairs: u64::from(pairs.be32().unwrap_or(0)) })
}

/// The labels of all of the indices together.
fn union(indices: &[&Index]) -> Result<Sizes, StorageError> {
    let mut sizes = Sizes::default();
    let mut tables = Vec::with_capacity(indices.len());
    for index in indices {
        let (mut cursor, start) = index.symbol_table()?;
        let left = cursor.be32().unwrap_or(0);
        tables.push(Table { index, cursor, start, left, head: (b"", b""), read: symbol });
    }
    each_once(tables, |(_, text)| {
        sizes.symbols += 1;
        sizes.text_bytes += text.len() as u64;
    })?;
    let mut tables = Vec::with_capacity(indices.len());
    for index in indices {
        let (mut cursor, start) = index.pair_table()?;
        let left = cursor.be32().unwrap_or(0);
        tables.push(Table { index, cursor, start, left, head: (b"", b""), read: pair });
    }
    each_once(tables, |_| sizes.pairs += 1)?;
    Ok(sizes)
}

type Head<'a> = (&'a [u8], &'a [u8]);

/// A sorted table that is being read.
struct Table<'a> {
    index: &'a Index,
    cursor: Cursor<'a>,
    /// Where the table starts in the file.
    start: usize,
    left: u32,
    /// The entry that was read last.
    head: Head<'a>,
    read: fn(&mut Cursor<'a>) -> Option<Head<'a>>,
}

fn symbol<'a>(cursor: &mut Cursor<'a>) -> Option<Head<'a>> {
    Some((b"", cursor.uvarint_bytes()?))
}

fn pair<'a>(cursor: &mut Cursor<'a>) -> Option<Head<'a>> {
    cursor.u8()?;
    let head = (cursor.uvarint_bytes()?, cursor.uvarint_bytes()?);
    cursor.uvarint()?;
    Some(head)
}

impl Table<'_> {
    /// Goes to the next entry; false behind the last.
    fn advance(&mut self) -> Result<bool, StorageError> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let at = self.cursor.pos();
        self.head = (self.read)(&mut self.cursor).ok_or_else(|| {
            self.index.corrupt(Damage::at(self.start + at, "a table of the index is cut short"))
        })?;
        Ok(true)
    }
}

/// Calls `each` with the entries of sorted tables, each once. Out of order, some are counted several times.
fn each_once(tables: Vec<Table<'_>>, mut each: impl FnMut(Head<'_>)) -> Result<(), StorageError> {
    let mut rest = Vec::with_capacity(tables.len());
    for mut table in tables {
        if table.advance()? {
            rest.push(table);
        }
    }
    while let Some(least) = rest.iter().map(|t| t.head).min() {
        each(least);
        let mut i = 0;
        while i < rest.len() {
            if rest[i].head.cmp(&least) == Ordering::Equal && !rest[i].advance()? {
                rest.swap_remove(i);
            } else {
                i += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tsdbctl_model::labels::Labels;
    use tsdbctl_platform::real::RealDisk;
    use tsdbctl_storage::chunk_source::{EncodedChunk, LiteralSource};
    use tsdbctl_storage::{ChunkBatch, Control};

    use super::*;
    use crate::{BlockMeta, WriterOptions, write_block};

    fn block(dir: &std::path::Path, name: &str, values: &[&str]) -> Arc<Block> {
        let mut chunks = ChunkBatch::default();
        chunks.push(EncodedChunk { encoding: 1, data: &[0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0], mint: 1, maxt: 1 });
        let series = values.iter().map(|v| (Labels::from_pairs([("name", *v)]), chunks.clone())).collect();
        let meta = BlockMeta::new(name.to_owned(), 1, 2);
        let options = WriterOptions::default();
        let control = Control::default();
        write_block(Arc::new(RealDisk), dir, &mut LiteralSource::new(series), meta, options, &control)
            .unwrap();
        Arc::new(Block::open(&dir.join(name)).unwrap())
    }

    #[test]
    fn labels_that_blocks_share_are_counted_once_if_that_matters() {
        let dir = tempfile::tempdir().unwrap();
        let one = block(dir.path(), "01DXXFZDYD1MQW6079WK0K6ED1", &["a", "b", "cc"]);
        let two = block(dir.path(), "01DXXFZDYD1MQW6079WK0K6ED2", &["b", "cc", "ddd"]);
        // The list of all series counts as a pair.
        let want = union(&[one.index(), two.index()]).unwrap();
        assert_eq!(want, Sizes { symbols: 5, text_bytes: 4 + 1 + 1 + 2 + 3, pairs: 5 });
        let both = [Arc::clone(&one), two];
        let at_most = merge_memory(&both, u64::MAX).unwrap();
        assert_eq!(at_most, 6 * 4 + 8 * 4 + (8 + 10) * 2 + 8 * 9 + 8 * 24);
        assert_eq!(merge_memory(&both, at_most - 1).unwrap(), 6 * 4 + 8 * 4 + 11 * 2 + 5 * 9 + 5 * 24);
        assert_eq!(merge_memory(&both, at_most).unwrap(), at_most);
        assert_eq!(merge_memory(&[one], 0).unwrap(), 3 * 4 + 4 * 9 + 4 * 24);
    }
}
