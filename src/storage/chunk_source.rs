//! Series with their encoded chunks, in label order: what blocks are made of. Heads, blocks, merged blocks, slices and
//! downsampled series are such sources; each may be put behind another.

use std::path::Path;

use tsdbctl_model::labels::Labels;

use crate::error::StorageError;

/// One encoded chunk. Times are Unix ms, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedChunk<'a> {
    /// The encoding byte: a `tsdbctl_chunk::Encoding`, or 0xff for an aggregate chunk.
    pub encoding: u8,
    /// The encoded samples.
    pub data: &'a [u8],
    /// Time of the first sample.
    pub mint: i64,
    /// Time of the last sample.
    pub maxt: i64,
}

/// Chunks of one series in one buffer, which is used again for the next.
#[derive(Clone, Debug, Default)]
pub struct ChunkBatch {
    bytes: Vec<u8>,
    chunks: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    encoding: u8,
    /// Where the data ends in `bytes`.
    end: usize,
    mint: i64,
    maxt: i64,
}

impl ChunkBatch {
    /// Removes all chunks.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.chunks.clear();
    }

    /// Appends a chunk.
    pub fn push(&mut self, chunk: EncodedChunk<'_>) {
        self.bytes.extend_from_slice(chunk.data);
        let EncodedChunk { encoding, mint, maxt, .. } = chunk;
        self.chunks.push(Place { encoding, end: self.bytes.len(), mint, maxt });
    }

    /// Keeps the first `len` chunks.
    pub fn truncate(&mut self, len: usize) {
        self.chunks.truncate(len);
        self.bytes.truncate(self.chunks.last().map_or(0, |c| c.end));
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes of all chunks' data.
    pub fn data_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The chunk at a place; panics if there is none.
    pub fn get(&self, i: usize) -> EncodedChunk<'_> {
        let start = if i == 0 { 0 } else { self.chunks[i - 1].end };
        let Place { encoding, end, mint, maxt } = self.chunks[i];
        EncodedChunk { encoding, data: &self.bytes[start..end], mint, maxt }
    }

    /// The chunks in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EncodedChunk<'_>> {
        (0..self.chunks.len()).map(|i| self.get(i))
    }
}

/// A label as the places of its name and value in [`ChunkSource::symbols`]. As these are sorted, series compare by
/// their lists of labels as they do by their strings.
pub type LabelRef = (u32, u32);

/// Series in label order (`labels.Compare` upstream), gone through once.
pub trait ChunkSource: Send {
    /// Calls `each` with the strings of all labels, sorted bytewise, each once; there may be some that no series has.
    /// May be called at any time, as often as wanted.
    ///
    /// # Errors
    /// What `each` answers; or if they cannot be read.
    fn symbols(&mut self, each: &mut dyn FnMut(&str) -> Result<(), StorageError>)
    -> Result<(), StorageError>;

    /// Goes to the next series; false behind the last.
    ///
    /// # Errors
    /// If it cannot be read.
    fn next(&mut self) -> Result<bool, StorageError>;

    /// Labels of the series, sorted by name.
    fn labels(&self) -> &[LabelRef];

    /// Appends the chunks of the series, sorted by time; deleted samples are not in them. Chunks of one source do not
    /// overlap, unless it says so itself. A series may turn out to have none, and is to be left out then.
    ///
    /// # Errors
    /// If they cannot be read.
    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError>;

    /// What is read, for errors: a block's directory, say. Empty if it is no file.
    fn origin(&self) -> &Path {
        Path::new("")
    }
}

/// A source that tells of each series that is read: how many bytes its chunks have.
pub struct Watched<'a, F> {
    /// What is read.
    pub inner: &'a mut dyn ChunkSource,
    /// Is told.
    pub tell: F,
}

impl<F: FnMut(u64) + Send> ChunkSource for Watched<'_, F> {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.inner.symbols(each)
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        self.inner.next()
    }

    fn labels(&self) -> &[LabelRef] {
        self.inner.labels()
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let before = out.data_bytes();
        self.inner.chunks(out)?;
        (self.tell)((out.data_bytes() - before) as u64);
        Ok(())
    }

    fn origin(&self) -> &Path {
        self.inner.origin()
    }
}

/// A source of literal series, for tests.
#[derive(Clone, Debug, Default)]
pub struct LiteralSource {
    symbols: Vec<String>,
    series: Vec<(Vec<LabelRef>, ChunkBatch)>,
    /// Number of the series, from 1.
    at: usize,
}

impl LiteralSource {
    /// A source of series in any order; each is to be there once.
    pub fn new(mut series: Vec<(Labels, ChunkBatch)>) -> Self {
        let mut symbols: Vec<String> = Vec::new();
        for (labels, _) in &series {
            for label in labels {
                symbols.push(label.name.clone());
                symbols.push(label.value.clone());
            }
        }
        symbols.sort_unstable();
        symbols.dedup();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let place = |s: &str| symbols.binary_search_by(|x| x.as_str().cmp(s)).unwrap_or(0) as u32;
        let series = series
            .into_iter()
            .map(|(labels, chunks)| {
                let refs = labels.iter().map(|l| (place(&l.name), place(&l.value))).collect();
                (refs, chunks)
            })
            .collect();
        Self { symbols, series, at: 0 }
    }
}

impl ChunkSource for LiteralSource {
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
        self.series[self.at - 1].1.iter().for_each(|c| out.push(c));
        Ok(())
    }
}
