//! Chunks of one series from several sources as one list: copied where nothing overlaps; kept once where they are the
//! same; else decoded, merged and encoded anew.
//!
//! Of samples with the same time one is kept. Which one, and where new chunks begin, is as in upstream's
//! `NewCompactingChunkSeriesMerger` with `ChainedSeriesMerge` (`storage/merge.go`), so that the same blocks in the same
//! order give the same bytes. With two chunks, in a run of times that both have, it is the chunk that did not give the
//! sample before the run; where they begin together, the one that ends earlier, else that of the earlier source. With
//! more than two it is a mixture, though always the same one. Start timestamps are kept: samples that have one go into
//! encodings with a place for it.

use std::ops::Range;

use tsdbctl_chunk::bit_reader::BitReader;
use tsdbctl_chunk::{
    AppenderOptions, ChunkError, Encoding, FloatHistogramReader, Floats, HistogramReader, SeriesAppender,
    decode_floats_fast,
};
use tsdbctl_model::histogram::CounterResetHint;
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use crate::heap;

/// Samples of a chunk that is encoded anew.
const SAMPLES_PER_CHUNK: usize = 120;

/// A chunk that could not be decoded or merged.
#[derive(Debug)]
pub(crate) struct BadChunk {
    /// Its place in the batch.
    pub(crate) place: usize,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// Whether the chunks from `from` on are in order of time and apart from each other.
pub(crate) fn is_in_order(chunks: &ChunkBatch, from: usize) -> bool {
    let mut last: Option<i64> = None;
    chunks.iter().skip(from).all(|c| last.replace(c.maxt).is_none_or(|end| end < c.mint))
}

/// Merges lists of chunks; buffers are used again.
#[derive(Debug, Default)]
pub(crate) struct ChunkMerger {
    /// Places in the input, list by list, in order of time.
    order: Vec<u32>,
    lists: Vec<List>,
    heap: Vec<u32>,
    /// Chunks encoded anew that are still to be given.
    encoded: ChunkBatch,
    fresh: ChunkBatch,
    buffers: Vec<Floats>,
}

#[derive(Clone, Copy, Debug)]
struct List {
    /// Whether places are those of `encoded`, and not of `order`.
    is_encoded: bool,
    at: u32,
    end: u32,
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Input(u32),
    Encoded(u32),
}

impl ChunkMerger {
    /// Forgets all lists.
    pub(crate) fn begin(&mut self) {
        self.order.clear();
        self.lists.clear();
        self.heap.clear();
        self.encoded.clear();
    }

    /// Adds a source's chunks, which are a range of the input of [`ChunkMerger::run`].
    pub(crate) fn add(&mut self, input: &ChunkBatch, range: Range<usize>) {
        let at = self.order.len();
        self.order.extend(range.map(|i| i as u32));
        let time = |i: &u32| {
            let c = input.get(*i as usize);
            (c.mint, c.maxt)
        };
        if !self.order[at..].is_sorted_by_key(time) {
            self.order[at..].sort_by_key(time);
        }
        self.lists.push(List { is_encoded: false, at: at as u32, end: self.order.len() as u32 });
    }

    /// Appends the chunks of all lists to `out`.
    pub(crate) fn run(&mut self, input: &ChunkBatch, out: &mut ChunkBatch) -> Result<(), BadChunk> {
        for i in 0..self.lists.len() {
            self.put_back(input, i as u32);
        }
        let mut cluster: Vec<Place> = Vec::new();
        while let Some(first) = self.take(input) {
            cluster.clear();
            let head = self.chunk(input, first);
            let (mut prev, mut end) = (first, head.maxt);
            while let Some(next) = self.peek(input) {
                let (chunk, before) = (self.chunk(input, next), self.chunk(input, prev));
                if chunk.mint > end {
                    break;
                }
                if chunk != before {
                    cluster.push(next);
                    end = end.max(chunk.maxt);
                    prev = next;
                }
                let _ = self.take(input);
            }
            if cluster.is_empty() {
                out.push(self.chunk(input, first));
                continue;
            }
            cluster.push(first);
            let mut fresh = std::mem::take(&mut self.fresh);
            fresh.clear();
            let mut buffers = std::mem::take(&mut self.buffers);
            let chunks: Vec<EncodedChunk<'_>> = cluster.iter().map(|p| self.chunk(input, *p)).collect();
            let merged = Chain::new(&chunks, &mut buffers).and_then(|chain| chain.encode(&mut fresh));
            (self.fresh, self.buffers) = (fresh, buffers);
            if let Err((i, reason)) = merged {
                let place = match cluster[i] {
                    Place::Input(place) => place as usize,
                    Place::Encoded(_) => 0,
                };
                return Err(BadChunk { place, reason });
            }
            // The first is the next to be given whatever comes; the others wait their turn.
            let mut new = self.fresh.iter();
            let Some(first) = new.next() else { continue };
            out.push(first);
            if new.len() > 0 {
                let at = self.encoded.len() as u32;
                new.for_each(|c| self.encoded.push(c));
                self.lists.push(List { is_encoded: true, at, end: self.encoded.len() as u32 });
                self.put_back(input, self.lists.len() as u32 - 1);
            }
        }
        Ok(())
    }

    fn chunk<'a>(&'a self, input: &'a ChunkBatch, place: Place) -> EncodedChunk<'a> {
        match place {
            Place::Input(i) => input.get(i as usize),
            Place::Encoded(i) => self.encoded.get(i as usize),
        }
    }

    /// The first chunk of a list that is not empty.
    fn first(&self, list: u32) -> Place {
        let List { is_encoded, at, .. } = self.lists[list as usize];
        if is_encoded { Place::Encoded(at) } else { Place::Input(self.order[at as usize]) }
    }

    fn less(&self, input: &ChunkBatch) -> impl Fn(&u32, &u32) -> bool {
        |a, b| {
            let (a, b) = (self.chunk(input, self.first(*a)), self.chunk(input, self.first(*b)));
            (a.mint, a.maxt) < (b.mint, b.maxt)
        }
    }

    fn put_back(&mut self, input: &ChunkBatch, list: u32) {
        let List { at, end, .. } = self.lists[list as usize];
        if at < end {
            let mut heap = std::mem::take(&mut self.heap);
            heap::push(&mut heap, list, self.less(input));
            self.heap = heap;
        }
    }

    fn peek(&self, _: &ChunkBatch) -> Option<Place> {
        self.heap.first().map(|list| self.first(*list))
    }

    /// The next chunk by start, then by end.
    fn take(&mut self, input: &ChunkBatch) -> Option<Place> {
        let mut heap = std::mem::take(&mut self.heap);
        let list = heap::pop(&mut heap, self.less(input));
        self.heap = heap;
        let list = list?;
        let place = self.first(list);
        self.lists[list as usize].at += 1;
        self.put_back(input, list);
        Some(place)
    }
}

/// One chunk's samples, one after the other. Floats are decoded when their turn comes, so that few of many chunks are
/// decoded at a time.
pub(crate) enum Stream<'a> {
    /// Nothing read yet.
    Fresh(Encoding, EncodedChunk<'a>),
    /// A chunk of floats of which only the first time is known.
    Peeked(Encoding, EncodedChunk<'a>, i64),
    Floats(Floats, usize),
    Histograms(Box<HistogramReader<'a>>),
    FloatHistograms(Box<FloatHistogramReader<'a>>),
    Ended,
}

impl Stream<'_> {
    pub(crate) fn t(&self) -> i64 {
        match self {
            Self::Peeked(_, _, t) => *t,
            Self::Floats(floats, at) => floats.t[*at],
            Self::Histograms(r) => r.t(),
            Self::FloatHistograms(r) => r.t(),
            Self::Fresh(..) | Self::Ended => i64::MIN,
        }
    }

    /// Goes to the next sample; false behind the last.
    pub(crate) fn advance(&mut self, buffers: &mut Vec<Floats>) -> Result<bool, ChunkError> {
        match self {
            Self::Fresh(encoding, chunk) => {
                let (encoding, chunk) = (*encoding, *chunk);
                match encoding {
                    Encoding::Xor | Encoding::Xor2 => {
                        if tsdbctl_chunk::sample_count(encoding, chunk.data)? == 0 {
                            *self = Self::Ended;
                            return Ok(false);
                        }
                        let header = if encoding == Encoding::Xor { 2 } else { 3 };
                        let t = BitReader::new(chunk.data, header)
                            .varint()
                            .map_err(|_| ChunkError::Truncated { sample: 0, count: 1 })?;
                        *self = Self::Peeked(encoding, chunk, t);
                        return Ok(true);
                    }
                    Encoding::Histogram | Encoding::HistogramSt => {
                        *self = Self::Histograms(Box::new(HistogramReader::new(encoding, chunk.data)?));
                    }
                    Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                        let reader = FloatHistogramReader::new(encoding, chunk.data)?;
                        *self = Self::FloatHistograms(Box::new(reader));
                    }
                }
                self.advance(buffers)
            }
            Self::Peeked(..) => {
                self.decode(buffers)?;
                self.advance(buffers)
            }
            Self::Floats(floats, at) => {
                *at += 1;
                if *at < floats.len() {
                    return Ok(true);
                }
                let mut floats = std::mem::take(floats);
                floats.clear();
                buffers.push(floats);
                *self = Self::Ended;
                Ok(false)
            }
            Self::Histograms(r) => r.advance(),
            Self::FloatHistograms(r) => r.advance(),
            Self::Ended => Ok(false),
        }
    }

    /// Decodes a chunk of floats whose first sample is the current one.
    pub(crate) fn decode(&mut self, buffers: &mut Vec<Floats>) -> Result<(), ChunkError> {
        if let Self::Peeked(encoding, chunk, t) = *self {
            let mut floats = buffers.pop().unwrap_or_default();
            decode_floats_fast(encoding, chunk.data, i64::MIN, i64::MAX, &mut floats)?;
            if floats.t.first() != Some(&t) {
                return Err(ChunkError::Truncated { sample: 0, count: 1 });
            }
            *self = Self::Floats(floats, 0);
        }
        Ok(())
    }
}

/// The samples of overlapping chunks in order of time, each time once. What fails is told with the chunk's place.
struct Chain<'a, 'b> {
    streams: Vec<Stream<'a>>,
    buffers: &'b mut Vec<Floats>,
    /// Streams but the current one, with the times of their samples.
    heap: Vec<(i64, usize)>,
    current: usize,
    last_t: Option<i64>,
    started: bool,
    /// Whether the current sample follows the one before in its chunk too.
    is_consecutive: bool,
    xor2: bool,
}

type Failure = (usize, String);

fn failure(i: usize) -> impl Fn(ChunkError) -> Failure {
    move |e| (i, e.to_string())
}

impl<'a, 'b> Chain<'a, 'b> {
    fn new(chunks: &[EncodedChunk<'a>], buffers: &'b mut Vec<Floats>) -> Result<Self, Failure> {
        let mut streams = Vec::with_capacity(chunks.len());
        let mut xor2 = false;
        for (i, chunk) in chunks.iter().enumerate() {
            let Some(encoding) = Encoding::from_byte(chunk.encoding) else {
                let reason = format!("overlapping chunks of encoding {} cannot be merged", chunk.encoding);
                return Err((i, reason));
            };
            xor2 |= encoding == Encoding::Xor2;
            streams.push(Stream::Fresh(encoding, *chunk));
        }
        Ok(Self {
            streams,
            buffers,
            heap: Vec::new(),
            current: 0,
            last_t: None,
            started: false,
            is_consecutive: false,
            xor2,
        })
    }

    fn advance(&mut self, i: usize) -> Result<bool, Failure> {
        self.streams[i].advance(self.buffers).map_err(failure(i))
    }

    fn push(&mut self, i: usize) {
        heap::push(&mut self.heap, (self.streams[i].t(), i), |a, b| a.0 < b.0);
    }

    /// Goes to the next sample; false behind the last.
    fn next(&mut self) -> Result<bool, Failure> {
        let mut changed = false;
        if !self.started {
            (self.started, changed) = (true, true);
            for i in 1..self.streams.len() {
                if self.advance(i)? {
                    self.push(i);
                }
            }
        }
        loop {
            if self.advance(self.current)? {
                let t = self.streams[self.current].t();
                if Some(t) == self.last_t {
                    continue;
                }
                if self.heap.first().is_none_or(|(top_t, _)| t < *top_t) {
                    self.last_t = Some(t);
                    break;
                }
                self.push(self.current);
            }
            let Some((t, top)) = heap::pop(&mut self.heap, |a, b| a.0 < b.0) else { return Ok(false) };
            (self.current, changed) = (top, true);
            if self.last_t != Some(t) {
                self.last_t = Some(t);
                break;
            }
        }
        self.is_consecutive = !changed;
        Ok(true)
    }

    /// Appends all samples as new chunks to `out`.
    fn encode(mut self, out: &mut ChunkBatch) -> Result<(), Failure> {
        let mut sink = Sink::new(out, self.xor2);
        while self.next()? {
            let i = self.current;
            self.streams[i].decode(self.buffers).map_err(failure(i))?;
            let appended = sink.sample(&self.streams[i], self.is_consecutive);
            appended.map_err(failure(i))?;
        }
        sink.flush();
        Ok(())
    }
}

/// Encodes samples as upstream's `seriesToChunkEncoder` does.
pub(crate) struct Sink<'o> {
    out: &'o mut ChunkBatch,
    xor2: bool,
    appender: SeriesAppender,
    /// Of the open chunk.
    encoding: Option<Encoding>,
    samples: usize,
}

impl<'o> Sink<'o> {
    pub(crate) fn new(out: &'o mut ChunkBatch, xor2: bool) -> Self {
        Self { out, xor2, appender: new_appender(Encoding::Xor), encoding: None, samples: 0 }
    }

    /// Appends the current sample of a decoded stream. What its chunk says of counter resets holds if the sample before
    /// is the one before in its source.
    pub(crate) fn sample(&mut self, stream: &Stream<'_>, is_consecutive: bool) -> Result<(), ChunkError> {
        let is_unsure = |hint| !is_consecutive && hint != CounterResetHint::Gauge;
        match stream {
            Stream::Floats(f, at) => self.float(f.t[*at], f.v[*at], f.start_timestamp(*at)),
            Stream::Histograms(r) => {
                let mut h = r.histogram();
                if is_unsure(h.counter_reset_hint) {
                    h.counter_reset_hint = CounterResetHint::Unknown;
                }
                self.appender(Encoding::Histogram, Encoding::HistogramSt, r.st())
                    .append_histogram(r.t(), &h, r.st())
                    .map(|()| self.count(r.t()))
            }
            Stream::FloatHistograms(r) => {
                let mut h = r.float_histogram();
                if is_unsure(h.counter_reset_hint) {
                    h.counter_reset_hint = CounterResetHint::Unknown;
                }
                self.appender(Encoding::FloatHistogram, Encoding::FloatHistogramSt, r.st())
                    .append_float_histogram(r.t(), &h, r.st())
                    .map(|()| self.count(r.t()))
            }
            Stream::Fresh(..) | Stream::Peeked(..) | Stream::Ended => Ok(()),
        }
    }

    fn float(&mut self, t: i64, v: f64, st: i64) -> Result<(), ChunkError> {
        let plain = if self.xor2 { Encoding::Xor2 } else { Encoding::Xor };
        self.appender(plain, Encoding::Xor2, st).append_float(t, v, st)?;
        self.count(t);
        Ok(())
    }

    /// The appender for the next sample, of one encoding or the other if it has a start timestamp.
    fn appender(&mut self, plain: Encoding, with_st: Encoding, st: i64) -> &mut SeriesAppender {
        let wanted = if st == 0 { plain } else { with_st };
        let goes_on = match self.encoding {
            _ if self.samples >= SAMPLES_PER_CHUNK => false,
            // A chunk with room for start timestamps takes floats that have none.
            Some(Encoding::Xor2) => matches!(wanted, Encoding::Xor | Encoding::Xor2),
            open => open == Some(wanted),
        };
        if !goes_on {
            self.flush();
            self.appender = new_appender(wanted);
            (self.encoding, self.samples) = (Some(wanted), 0);
        }
        &mut self.appender
    }

    /// A sample was appended.
    fn count(&mut self, t: i64) {
        self.samples = if self.appender.open_start() == Some(t) { 1 } else { self.samples + 1 };
    }

    pub(crate) fn flush(&mut self) {
        give(&self.appender, self.out);
    }
}

fn new_appender(encoding: Encoding) -> SeriesAppender {
    let options = AppenderOptions {
        xor2: encoding == Encoding::Xor2,
        st: encoding == Encoding::Xor2,
        histograms_st: matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt),
        ..AppenderOptions::default()
    };
    SeriesAppender::new(options).without_limits()
}

fn give(appender: &SeriesAppender, out: &mut ChunkBatch) {
    for c in appender.chunks() {
        out.push(EncodedChunk { encoding: c.encoding as u8, data: c.data, mint: c.mint, maxt: c.maxt });
    }
}

/// Appends a chunk without the samples that are `deleted`, in its encoding, to `out`; nothing if none are left.
pub(crate) fn without_samples(
    encoding: Encoding,
    data: &[u8],
    deleted: impl Fn(i64) -> bool,
    out: &mut ChunkBatch,
) -> Result<(), ChunkError> {
    let mut appender = new_appender(encoding);
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut floats = Floats::default();
            decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut floats)?;
            for (i, t) in floats.t.iter().enumerate().filter(|(_, t)| !deleted(**t)) {
                appender.append_float(*t, floats.v[i], floats.start_timestamp(i))?;
            }
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut r = HistogramReader::new(encoding, data)?;
            while r.advance()? {
                if !deleted(r.t()) {
                    appender.append_histogram(r.t(), &r.histogram(), r.st())?;
                }
            }
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut r = FloatHistogramReader::new(encoding, data)?;
            while r.advance()? {
                if !deleted(r.t()) {
                    appender.append_float_histogram(r.t(), &r.float_histogram(), r.st())?;
                }
            }
        }
    }
    give(&appender, out);
    Ok(())
}
