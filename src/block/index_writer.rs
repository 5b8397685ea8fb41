//! An index file in the making, version 2, laid out as [`crate::index`] tells, without label indices. Symbols and series
//! are written as they come; postings by reading the series again, see [`crate::postings_writer`].

use std::path::Path;

use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::map::Map;
use tsdbctl_storage::{ChunkBatch, Control, LabelRef, Loss, StorageError};

use crate::checksum::{Crc32c, crc32c};
use crate::cursor::Cursor;
use crate::file_writer::{FileWriter, push_uvarint, push_varint};
use crate::index::{self, Damage};
use crate::pair_table::PairTable;
use crate::postings_writer::{PostingsError, SeriesSection, list_bytes, write_lists};

/// Magic number and version.
const HEADER: [u8; 5] = [0xba, 0xaa, 0xd7, 0x00, 2];

/// Series entries begin at multiples of this.
const SERIES_ALIGN: u64 = 16;

/// Every so many symbols a place is kept.
const SYMBOL_STRIDE: usize = 8;

/// What the format allows; lower in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Offsets of series are kept in 32 bits, in units of 16 bytes.
    pub(crate) index_bytes: u64,
    /// Lengths of the symbol table and the postings offset table have 32 bits.
    pub(crate) table_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { index_bytes: 16 * u32::MAX as u64, table_bytes: u32::MAX as u64 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Symbols,
    Series,
}

/// Writes one index.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    out: FileWriter,
    limits: Limits,
    stage: Stage,
    symbols: u32,
    /// Where each so manieth symbol begins.
    symbol_places: Vec<u64>,
    symbol_sum: Crc32c,
    last_symbol: String,
    /// End of the symbol table.
    series_start: u64,
    series: u32,
    last_labels: Vec<LabelRef>,
    pairs: PairTable,
    /// An entry in the making.
    entry: Vec<u8>,
    largest_entry: u64,
}

impl IndexWriter {
    /// Makes the index file of a block.
    pub(crate) fn create(
        disk: &dyn Disk,
        block_dir: &Path,
        buffer_bytes: usize,
        limits: Limits,
    ) -> Result<Self, StorageError> {
        let mut out = FileWriter::create(disk, &block_dir.join(index::FILE_NAME), buffer_bytes, Vec::new())?;
        // Length and number of the symbols are filled in later.
        out.put(&HEADER)?;
        out.put(&[0; 8])?;
        Ok(Self {
            out,
            limits,
            stage: Stage::Symbols,
            symbols: 0,
            symbol_places: Vec::new(),
            symbol_sum: Crc32c::default(),
            last_symbol: String::new(),
            series_start: 0,
            series: 0,
            last_labels: Vec::new(),
            pairs: PairTable::default(),
            entry: Vec::new(),
            largest_entry: 0,
        })
    }

    fn refuse(&self, reason: String) -> StorageError {
        StorageError::Unsupported { file: self.out.path().to_owned(), reason }
    }

    /// The next symbol, in order.
    pub(crate) fn add_symbol(&mut self, symbol: &str) -> Result<(), StorageError> {
        if self.stage != Stage::Symbols {
            return Err(self.refuse(format!("symbol {symbol:?} comes after the first series")));
        }
        if self.symbols > 0 && symbol <= self.last_symbol.as_str() {
            let reason = format!("symbols are out of order: {symbol:?} comes after {:?}", self.last_symbol);
            return Err(self.refuse(reason));
        }
        let start = self.out.position();
        if (self.symbols as usize).is_multiple_of(SYMBOL_STRIDE) {
            self.symbol_places.push(start);
        }
        let out = self.out.end();
        let at = out.len();
        push_uvarint(out, symbol.len() as u64);
        out.extend_from_slice(symbol.as_bytes());
        self.symbol_sum.update(&out[at..]);
        self.out.spill()?;
        let bytes = self.out.position() - HEADER.len() as u64 - 4;
        if bytes > self.limits.table_bytes {
            let reason = format!(
                "symbol table would be larger than {} bytes, the most the format has room for; \
                 make blocks of shorter ranges or fewer series",
                self.limits.table_bytes
            );
            return Err(self.refuse(reason));
        }
        self.symbols += 1;
        self.last_symbol.clear();
        self.last_symbol.push_str(symbol);
        Ok(())
    }

    fn end_symbols(&mut self) -> Result<(), StorageError> {
        let bytes = self.out.position() - HEADER.len() as u64 - 4;
        let count = self.symbols.to_be_bytes();
        self.out.put(&self.symbol_sum.value_behind(&count).to_be_bytes())?;
        let mut head = [0; 8];
        head[..4].copy_from_slice(&(bytes as u32).to_be_bytes());
        head[4..].copy_from_slice(&count);
        self.out.fill_in(HEADER.len() as u64, &head)?;
        self.series_start = self.out.position();
        self.pairs = PairTable::new(self.symbols as usize);
        self.stage = Stage::Series;
        Ok(())
    }

    /// Checks what comes next before anything of it is written: it must be in order, and its chunks too.
    pub(crate) fn check(&mut self, labels: &[LabelRef], chunks: &ChunkBatch) -> Result<(), StorageError> {
        if labels.iter().any(|(name, value)| (*name).max(*value) >= self.symbols) {
            return Err(self.refuse(format!("labels {labels:?} refer to one of {} symbols", self.symbols)));
        }
        if labels <= self.last_labels.as_slice() {
            let (next, last) = (self.text_of(labels)?, self.text_of(&self.last_labels.clone())?);
            return Err(self.refuse(format!("series are out of order: {next} comes after {last}")));
        }
        if labels.windows(2).any(|w| w[0].0 >= w[1].0) {
            let next = self.text_of(labels)?;
            return Err(self.refuse(format!("labels are out of order in series {next}")));
        }
        let mut before: Option<i64> = None;
        for chunk in chunks.iter() {
            let (mint, maxt) = (chunk.mint, chunk.maxt);
            let wrong = match before {
                _ if maxt < mint => format!("ends at {maxt}, before it starts at {mint}"),
                Some(before) if mint <= before => {
                    format!("starts at {mint}, when the one before it ends at {before}")
                }
                _ => {
                    before = Some(maxt);
                    continue;
                }
            };
            return Err(self.refuse_chunk(labels, &wrong));
        }
        Ok(())
    }

    /// Says what is wrong with a chunk of a series whose labels are sound.
    pub(crate) fn refuse_chunk(&mut self, labels: &[LabelRef], wrong: &str) -> StorageError {
        match self.text_of(labels) {
            Ok(labels) => self.refuse(format!("a chunk of series {labels} {wrong}")),
            Err(e) => e,
        }
    }

    /// The next series, checked; `references` are those of its chunks.
    pub(crate) fn add_series(
        &mut self,
        labels: &[LabelRef],
        chunks: &ChunkBatch,
        references: &[u64],
    ) -> Result<(), StorageError> {
        if self.stage == Stage::Symbols {
            self.end_symbols()?;
        }
        let entry = &mut self.entry;
        entry.clear();
        push_uvarint(entry, labels.len() as u64);
        for (place, (name, value)) in labels.iter().enumerate() {
            push_uvarint(entry, u64::from(*name));
            push_uvarint(entry, u64::from(*value));
            self.pairs.count(place, (*name, *value));
        }
        push_uvarint(entry, chunks.len() as u64);
        let mut before: Option<(i64, u64)> = None;
        for (chunk, reference) in chunks.iter().zip(references) {
            match before {
                None => push_varint(entry, chunk.mint),
                Some((maxt, _)) => push_uvarint(entry, chunk.mint.wrapping_sub(maxt) as u64),
            }
            push_uvarint(entry, chunk.maxt.wrapping_sub(chunk.mint) as u64);
            match before {
                None => push_uvarint(entry, *reference),
                Some((_, last)) => push_varint(entry, reference.wrapping_sub(last) as i64),
            }
            before = Some((chunk.maxt, *reference));
        }
        let sum = crc32c(entry);
        self.out.pad_to(SERIES_ALIGN);
        let start = self.out.position();
        let out = self.out.end();
        push_uvarint(out, entry.len() as u64);
        out.extend_from_slice(entry);
        out.extend_from_slice(&sum.to_be_bytes());
        self.out.spill()?;
        self.largest_entry = self.largest_entry.max(self.out.position() - start);
        self.check_size()?;
        self.series += 1;
        self.last_labels.clear();
        self.last_labels.extend_from_slice(labels);
        Ok(())
    }

    fn check_size(&self) -> Result<(), StorageError> {
        if self.out.position() <= self.limits.index_bytes {
            return Ok(());
        }
        Err(self.refuse(format!(
            "index would be larger than {} bytes, the most the format has room for; \
             make blocks of shorter ranges or fewer series",
            self.limits.index_bytes
        )))
    }

    /// Labels for a message.
    fn text_of(&mut self, labels: &[LabelRef]) -> Result<String, StorageError> {
        self.out.flush()?;
        let map = Map::open(self.out.path())?;
        let symbol =
            |n: u32| String::from_utf8_lossy(self.symbol(map.bytes(), n).unwrap_or(&[])).into_owned();
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{}={:?}", symbol(*name), symbol(*value))).collect();
        Ok(format!("{{{}}}", labels.join(", ")))
    }

    /// A symbol that was written; `file` is the index.
    fn symbol<'a>(&self, file: &'a [u8], n: u32) -> Option<&'a [u8]> {
        let place = *self.symbol_places.get(n as usize / SYMBOL_STRIDE)?;
        let mut c = Cursor::at(file, place as usize);
        for _ in 0..n as usize % SYMBOL_STRIDE {
            c.uvarint_bytes()?;
        }
        c.uvarint_bytes()
    }

    /// Writes what is left, lists in `memory_bytes`, and makes the file durable. Answers its length.
    pub(crate) fn finish(&mut self, memory_bytes: usize, control: &Control) -> Result<u64, StorageError> {
        if self.stage == Stage::Symbols {
            self.end_symbols()?;
        }
        self.out.flush()?;
        let series_end = self.out.position();
        let map = Map::open(self.out.path())?;
        let (names, order) = self.pairs.order();
        self.out.pad_to(4);
        let postings_start = self.out.position();
        let section = SeriesSection {
            file: map.bytes(),
            start: self.series_start as usize,
            end: series_end as usize,
            count: self.series,
        };
        write_lists(&mut self.out, section, &mut self.pairs, &order, memory_bytes, control).map_err(|e| {
            match e {
                PostingsError::Storage(e) => e,
                PostingsError::Damaged(damage) => self.corrupt(damage),
            }
        })?;
        self.check_size()?;

        let table_start = self.out.position();
        let mut sum = Crc32c::default();
        let count = u32::try_from(order.len() + 1).map_err(|_| self.refuse("too many label pairs".into()))?;
        self.out.put(&[0; 4])?;
        self.out.put(&count.to_be_bytes())?;
        sum.update(&count.to_be_bytes());
        let mut offset = postings_start;
        let mut put = |out: &mut FileWriter, name: &[u8], value: &[u8], series: u32| {
            let to = out.end();
            let at = to.len();
            push_uvarint(to, 2);
            for text in [name, value] {
                push_uvarint(to, text.len() as u64);
                to.extend_from_slice(text);
            }
            push_uvarint(to, offset);
            sum.update(&to[at..]);
            offset += list_bytes(series);
            out.spill()
        };
        put(&mut self.out, b"", b"", self.series)?;
        let mut rest = order.as_slice();
        for name in names {
            let (pairs, behind) = rest.split_at(name.pairs.min(rest.len()));
            rest = behind;
            let lost = || Damage::at(HEADER.len(), "symbols changed while the index was written");
            let text = self.symbol(map.bytes(), name.name).ok_or_else(|| self.corrupt(lost()))?;
            for (n, pair) in pairs.iter().enumerate() {
                if n.is_multiple_of(1 << 16) {
                    control.check("writing the postings offset table")?;
                }
                let value = self.symbol(map.bytes(), pair.value).ok_or_else(|| self.corrupt(lost()))?;
                put(&mut self.out, text, value, self.pairs.series(*pair))?;
            }
        }
        let bytes = self.out.position() - table_start - 4;
        if bytes > self.limits.table_bytes {
            return Err(self.refuse(format!(
                "postings offset table would be {bytes} bytes, the format has room for {}; \
                 make blocks of shorter ranges or fewer series",
                self.limits.table_bytes
            )));
        }
        self.out.put(&sum.value().to_be_bytes())?;
        self.out.fill_in(table_start, &(bytes as u32).to_be_bytes())?;

        let mut toc = Vec::with_capacity(52);
        // Symbols, series, label indices, their table, postings (padding included), their table.
        let sections =
            [HEADER.len() as u64, self.series_start, series_end, table_start, series_end, table_start];
        for start in sections {
            toc.extend_from_slice(&start.to_be_bytes());
        }
        toc.extend_from_slice(&crc32c(&toc).to_be_bytes());
        self.out.put(&toc)?;
        self.check_size()?;
        if map.has_faulted() {
            return Err(self.corrupt(Damage::at(0, "the file was cut short while it was written")));
        }
        self.out.sync()?;
        Ok(self.out.position())
    }

    fn corrupt(&self, damage: Damage) -> StorageError {
        let (offset, reason) = damage.into_parts();
        StorageError::Corrupt(Loss { file: self.out.path().to_owned(), offset, reason })
    }

    /// Length of the largest series entry, bytes.
    pub(crate) fn largest_entry(&self) -> u64 {
        self.largest_entry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use tsdbctl_model::labels::Labels;
    use tsdbctl_platform::real::RealDisk;
    use tsdbctl_storage::EncodedChunk;

    use super::*;
    use crate::chunk_writer::ChunkWriter;
    use crate::fingerprint::{Fingerprint, Numbers};

    /// 2904 series whose names and values come in all mixtures, as upstream's writer was given them.
    fn series(numbers: &mut Numbers) -> (Vec<String>, Vec<Labels>) {
        let mut all = BTreeSet::new();
        for _ in 0..3000 {
            let mut labels = Labels::empty();
            for _ in 0..1 + numbers.below(9) {
                let name = format!("n{}", numbers.below(40));
                let mut value = format!("v{}", numbers.below(6));
                if numbers.below(4) == 0 {
                    value = format!("w{}", numbers.below(2000));
                }
                if numbers.below(50) == 0 {
                    value = name.clone();
                }
                labels.set(name, value);
            }
            all.insert(labels);
        }
        let mut symbols: BTreeSet<String> = ["".to_string(), "unused".to_string()].into();
        for label in all.iter().flatten() {
            symbols.insert(label.name.clone());
            symbols.insert(label.value.clone());
        }
        (symbols.into_iter().collect(), all.into_iter().collect())
    }

    fn refs(symbols: &[String], labels: &Labels) -> Vec<LabelRef> {
        let place = |s: &String| symbols.binary_search(s).unwrap() as u32;
        labels.into_iter().map(|l| (place(&l.name), place(&l.value))).collect()
    }

    /// Writes an index as upstream was told to, and answers its bytes.
    fn index(buffer_bytes: usize, memory_bytes: usize, limits: Limits) -> Result<Vec<u8>, String> {
        let dir = tsdbctl_testkit::scratch_in_memory();
        let mut numbers = Numbers(2);
        let (symbols, series) = series(&mut numbers);
        let text = |e: StorageError| e.to_string();
        let mut chunk_writer = ChunkWriter::create(Arc::new(RealDisk), dir.path(), 50_000, 1000).unwrap();
        let mut writer = IndexWriter::create(&RealDisk, dir.path(), buffer_bytes, limits).map_err(text)?;
        for symbol in &symbols {
            writer.add_symbol(symbol).map_err(text)?;
        }
        for labels in &series {
            let labels = refs(&symbols, labels);
            let mut t = numbers.below(1_000_000) as i64 - 500_000;
            let mut chunks = ChunkBatch::default();
            for _ in 0..1 + numbers.below(5) {
                let mint = t + numbers.below(100_000) as i64;
                let maxt = mint + numbers.below(100_000) as i64;
                t = maxt + 1;
                let data = vec![0; 3 + numbers.below(60) as usize];
                chunks.push(EncodedChunk { encoding: 1, data: &data, mint, maxt });
            }
            let mut references = Vec::new();
            chunk_writer.write(&chunks, &mut references).map_err(text)?;
            writer.check(&labels, &chunks).map_err(text)?;
            writer.add_series(&labels, &chunks, &references).map_err(text)?;
        }
        let length = writer.finish(memory_bytes, &Control::default()).map_err(text)?;
        let bytes = std::fs::read(dir.path().join(index::FILE_NAME)).unwrap();
        assert_eq!((bytes.len() as u64, writer.series), (length, 2904));
        Ok(bytes)
    }

    #[test]
    fn bytes_are_upstreams_whatever_the_memory() {
        for (buffer_bytes, memory_bytes) in [(1 << 20, 1 << 20), (1, 1 << 20), (5000, 0), (333, 40_000)] {
            let mut sum = Fingerprint::default();
            let bytes = index(buffer_bytes, memory_bytes, Limits::default()).unwrap();
            sum.add(&bytes);
            assert_eq!(
                (bytes.len(), sum.0),
                (310_124, 0x6a13_7538_e2c2_d1f4),
                "buffer {buffer_bytes}, memory {memory_bytes}"
            );
        }
    }

    #[test]
    fn limits_of_the_format_are_told() {
        let whole = index(1000, 0, Limits::default()).unwrap();
        let symbols = u64::from(u32::from_be_bytes(whole[5..9].try_into().unwrap()));
        let table_start = u64::from_be_bytes(whole[whole.len() - 12..whole.len() - 4].try_into().unwrap());
        let table = whole.len() as u64 - 52 - 4 - table_start - 4;
        assert!(symbols < table);
        let limits = |index_bytes, table_bytes| Limits { index_bytes, table_bytes };
        let length = whole.len() as u64;
        assert!(index(1000, 0, limits(length, table)).unwrap() == whole);
        let remedy = "the most the format has room for; make blocks of shorter ranges or fewer series";
        for (limits, want) in [
            (limits(length - 1, table), format!("index would be larger than {} bytes, {remedy}", length - 1)),
            (limits(50_000, table), format!("index would be larger than 50000 bytes, {remedy}")),
            (
                limits(length, table - 1),
                format!(
                    "postings offset table would be {table} bytes, the format has room for {}",
                    table - 1
                ),
            ),
            (
                limits(length, symbols - 1),
                format!("symbol table would be larger than {} bytes, {remedy}", symbols - 1),
            ),
        ] {
            let e = index(1000, 0, limits).unwrap_err();
            assert!(e.contains(&format!("/index: {want}")), "{e}");
        }
    }

    #[test]
    fn stopped_work_ends_early() {
        let dir = tsdbctl_testkit::scratch_in_memory();
        let mut writer = IndexWriter::create(&RealDisk, dir.path(), 100, Limits::default()).unwrap();
        writer.add_symbol("a").unwrap();
        writer.add_series(&[(0, 0)], &ChunkBatch::default(), &[]).unwrap();
        let control = Control::default();
        control.interrupt.set();
        assert!(matches!(writer.finish(0, &control), Err(StorageError::Control(_))));
    }
}
