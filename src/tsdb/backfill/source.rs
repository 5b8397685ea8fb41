//! One block's series out of all runs. What one appender made of samples that came in order is given as it is; anything
//! else is decoded, put in order of time and encoded as if it had come so.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tsdbctl_chunk::{
    AppenderOptions, ChunkError, Encoding, FloatHistogramReader, Floats, HistogramReader, SeriesAppender,
    decode_floats_fast,
};
use tsdbctl_model::histogram::{ConvertedHistogram, CounterResetHint};
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::{ChunkBatch, ChunkSource, EncodedChunk, LabelRef, Loss, StorageError};

use super::pieces::{BEGINS, Cursors, Gathered, LATE, Piece, RAW};
use super::series::{Ranks, SeriesTable};

/// What became of samples that met another one of their series and time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    /// The other had the same value.
    pub(crate) same: u64,
    /// The other, which came first, had another value.
    pub(crate) conflicts: u64,
    /// A series and a time of such.
    pub(crate) example: Option<(u32, i64)>,
    /// Samples stored.
    pub(crate) stored: u64,
}

impl Met {
    pub(crate) fn conflict(&mut self, series: u32, t: i64) {
        self.conflicts += 1;
        self.example.get_or_insert((series, t));
    }
}

/// A sample that is put in its place.
#[derive(Clone, Copy, Debug)]
struct Sample {
    t: i64,
    order: u32,
    /// Its histogram's place from 1; 0 for a float.
    histogram: u32,
    v: f64,
    st: i64,
}

/// One block's series.
pub(crate) struct BlockOfPieces<'a> {
    table: &'a SeriesTable,
    ranks: &'a Ranks,
    cursors: Cursors<'a>,
    /// The next series of each cursor, the first of them on top.
    heap: BinaryHeap<Reverse<(u32, usize)>>,
    /// By their strings.
    symbols: Vec<u32>,
    /// Place in `symbols` by symbol.
    ordinals: Vec<u32>,
    series: u32,
    labels: Vec<LabelRef>,
    gathered: Gathered,
    options: AppenderOptions,
    samples: Vec<Sample>,
    histograms: Vec<ConvertedHistogram>,
    floats: Floats,
    pub(crate) met: &'a mut Met,
}

impl<'a> BlockOfPieces<'a> {
    pub(crate) fn new(
        table: &'a SeriesTable,
        ranks: &'a Ranks,
        mut cursors: Cursors<'a>,
        options: AppenderOptions,
        met: &'a mut Met,
    ) -> Result<Self, StorageError> {
        let mut ordinals = vec![0; ranks.symbols.len()];
        cursors.series(|series| {
            for (name, value) in table.symbols_of(series) {
                (ordinals[name.0 as usize], ordinals[value.0 as usize]) = (1, 1);
            }
        })?;
        let mut symbols: Vec<u32> =
            (0..ordinals.len() as u32).filter(|s| ordinals[*s as usize] == 1).collect();
        symbols.sort_unstable_by_key(|s| ranks.symbols[*s as usize]);
        for (place, symbol) in symbols.iter().enumerate() {
            ordinals[*symbol as usize] = place as u32;
        }
        cursors.rewind();
        let mut heap = BinaryHeap::new();
        for (i, cursor) in cursors.all.iter_mut().enumerate() {
            if let Some(series) = cursor.series()? {
                heap.push(Reverse((ranks.series[series as usize], i)));
            }
        }
        Ok(Self {
            table,
            ranks,
            cursors,
            heap,
            symbols,
            ordinals,
            series: 0,
            labels: Vec::new(),
            gathered: Gathered::default(),
            options,
            samples: Vec::new(),
            histograms: Vec::new(),
            floats: Floats::default(),
            met,
        })
    }

    /// Whether the pieces are the chunks of one appender.
    fn is_whole(&self) -> bool {
        let (mut begun, mut others) = (0, false);
        for (piece, _) in self.gathered.iter() {
            begun += usize::from(piece.flags & BEGINS != 0);
            others |= piece.flags & LATE != 0;
        }
        begun == 1 && !others
    }

    /// Decodes all pieces.
    fn read(&mut self) -> Result<(), ChunkError> {
        self.samples.clear();
        self.histograms.clear();
        // The last histogram of what one appender made: tells whether a reset in the next chunk shows by itself.
        let mut before: Option<FloatHistogram> = None;
        for (piece, data) in self.gathered.iter() {
            if piece.flags & BEGINS != 0 {
                before = None;
            }
            let order = piece.order;
            let Some(encoding) = Encoding::from_byte(piece.encoding) else {
                for sample in data.chunks_exact(16) {
                    let (t, bits) = sample.split_at(8);
                    let t = i64::from_le_bytes(t.try_into().unwrap_or_default());
                    let v = f64::from_bits(u64::from_le_bytes(bits.try_into().unwrap_or_default()));
                    self.samples.push(Sample { t, order, histogram: 0, v, st: 0 });
                }
                continue;
            };
            match encoding {
                Encoding::Xor | Encoding::Xor2 => {
                    self.floats.clear();
                    decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut self.floats)?;
                    for i in 0..self.floats.len() {
                        let (t, v) = (self.floats.t[i], self.floats.v[i]);
                        let st = self.floats.start_timestamp(i);
                        self.samples.push(Sample { t, order, histogram: 0, v, st });
                    }
                }
                Encoding::Histogram | Encoding::HistogramSt => {
                    let mut reader = HistogramReader::new(encoding, data)?;
                    let header = reader.counter_reset();
                    let mut first = true;
                    while reader.advance()? {
                        let mut h = reader.histogram();
                        h.counter_reset_hint = CounterResetHint::Unknown;
                        h.counter_reset_hint =
                            hint(piece, header, std::mem::take(&mut first), &h.to_float(), before.as_ref());
                        before = Some(h.to_float());
                        self.histograms.push(ConvertedHistogram::Integer(h));
                        let histogram = self.histograms.len() as u32;
                        self.samples.push(Sample {
                            t: reader.t(),
                            order,
                            histogram,
                            v: 0.0,
                            st: reader.st(),
                        });
                    }
                }
                Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                    let mut reader = FloatHistogramReader::new(encoding, data)?;
                    let header = reader.counter_reset();
                    let mut first = true;
                    while reader.advance()? {
                        let mut h = reader.float_histogram();
                        h.counter_reset_hint = CounterResetHint::Unknown;
                        h.counter_reset_hint =
                            hint(piece, header, std::mem::take(&mut first), &h, before.as_ref());
                        before = Some(h.clone());
                        self.histograms.push(ConvertedHistogram::Float(h));
                        let histogram = self.histograms.len() as u32;
                        self.samples.push(Sample {
                            t: reader.t(),
                            order,
                            histogram,
                            v: 0.0,
                            st: reader.st(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Encodes what was decoded, in order of time; of samples with the same time the one that came first.
    fn encode(&mut self) -> Result<SeriesAppender, ChunkError> {
        self.samples.sort_by_key(|s| (s.t, s.order));
        let mut appender = SeriesAppender::new(self.options);
        for same in self.samples.chunk_by(|a, b| a.t == b.t) {
            let first = same[0];
            for other in &same[1..] {
                let equal = match (first.histogram, other.histogram) {
                    (0, 0) => first.v.to_bits() == other.v.to_bits(),
                    (0, _) | (_, 0) => false,
                    (a, b) => is_same(&self.histograms[a as usize - 1], &self.histograms[b as usize - 1]),
                };
                if equal {
                    self.met.same += 1;
                } else {
                    self.met.conflict(self.series, first.t);
                }
            }
            self.met.stored += 1;
            match first.histogram {
                0 => appender.append_float(first.t, first.v, first.st)?,
                i => append(&mut appender, first.t, &self.histograms[i as usize - 1], first.st)?,
            }
        }
        Ok(appender)
    }

    fn corrupt(&self, e: &ChunkError) -> StorageError {
        StorageError::Corrupt(Loss {
            file: "scratch".into(),
            offset: 0,
            reason: format!("samples of {} cannot be put in order: {e}", self.table.labels(self.series)),
        })
    }
}

/// What the input said about a reset before a sample, as far as it can be told.
fn hint(
    piece: Piece,
    header: CounterResetHint,
    is_first: bool,
    h: &FloatHistogram,
    before: Option<&FloatHistogram>,
) -> CounterResetHint {
    match header {
        CounterResetHint::Gauge => CounterResetHint::Gauge,
        _ if piece.flags & LATE != 0 => header,
        // The appender says so too where it has found the reset itself; it will again, if it is still there.
        CounterResetHint::CounterReset if is_first && !before.is_some_and(|b| h.detect_reset(b)) => header,
        _ => CounterResetHint::Unknown,
    }
}

/// Appends a histogram.
pub(crate) fn append(
    appender: &mut SeriesAppender,
    t: i64,
    h: &ConvertedHistogram,
    st: i64,
) -> Result<(), ChunkError> {
    match h {
        ConvertedHistogram::Integer(h) => appender.append_histogram(t, h, st),
        ConvertedHistogram::Float(h) => appender.append_float_histogram(t, h, st),
    }
}

/// Whether two histograms are of one kind and equal, whatever empty buckets an encoding gave them.
pub(crate) fn is_same(a: &ConvertedHistogram, b: &ConvertedHistogram) -> bool {
    match (a, b) {
        (ConvertedHistogram::Integer(a), ConvertedHistogram::Integer(b)) => {
            let plain = |h: &Histogram| {
                let mut h = h.clone();
                h.compact(0);
                h
            };
            plain(a).equals(&plain(b))
        }
        (ConvertedHistogram::Float(a), ConvertedHistogram::Float(b)) => {
            let plain = |h: &FloatHistogram| {
                let mut h = h.clone();
                h.compact(0);
                h
            };
            plain(a).equals(&plain(b))
        }
        _ => false,
    }
}

impl ChunkSource for BlockOfPieces<'_> {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.symbols.iter().try_for_each(|s| each(self.table.text(*s)))
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        let Some(Reverse((rank, _))) = self.heap.peek().copied() else { return Ok(false) };
        self.gathered.clear();
        // Cursors of the same rank come in their order.
        while let Some(Reverse((other, i))) = self.heap.peek().copied()
            && other == rank
        {
            self.heap.pop();
            let cursor = &mut self.cursors.all[i];
            while let Some(series) = cursor.series()? {
                let next = self.ranks.series[series as usize];
                if next != rank {
                    self.heap.push(Reverse((next, i)));
                    break;
                }
                self.series = series;
                cursor.take(&mut self.gathered)?;
            }
        }
        let place = |symbol: tsdbctl_model::Sym| self.ordinals[symbol.0 as usize];
        self.labels.clear();
        self.labels.extend(self.table.symbols_of(self.series).iter().map(|(n, v)| (place(*n), place(*v))));
        Ok(true)
    }

    fn labels(&self) -> &[LabelRef] {
        &self.labels
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        if self.is_whole() {
            for (Piece { encoding, mint, maxt, samples, .. }, data) in self.gathered.iter() {
                self.met.stored += u64::from(samples);
                out.push(EncodedChunk { encoding, data, mint, maxt });
            }
            return Ok(());
        }
        self.read().map_err(|e| self.corrupt(&e))?;
        let appender = self.encode().map_err(|e| self.corrupt(&e))?;
        for chunk in appender.chunks() {
            let (encoding, mint, maxt) = (chunk.encoding as u8, chunk.mint, chunk.maxt);
            out.push(EncodedChunk { encoding, data: chunk.data, mint, maxt });
        }
        Ok(())
    }
}

const _: () = assert!(RAW == 0, "no chunk encoding has this byte");
