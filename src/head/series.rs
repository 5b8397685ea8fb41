//! What replay knows of one series, and the shards of workers that append to it.

use tsdbctl_chunk::{AppenderOptions, Chunk, ChunkError, Encoding, SampleColumns, SeriesAppender};
use tsdbctl_model::sample::{is_stale, stale_nan};
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::control::ControlError;
use tsdbctl_storage::{Budget, Loss};

use crate::mapped::MappedChunk;
use crate::queue::{FloatItem, FloatQueue};

/// Samples an out-of-order chunk takes before it is closed (upstream's default).
pub const OUT_OF_ORDER_CAP: usize = 32;
/// Upstream's block range: no chunk of the head reaches over a multiple of it.
const CHUNK_RANGE_MS: i64 = 2 * 60 * 60 * 1000;

/// The value of a sample.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float.
    Float(f64),
    /// An integer histogram.
    Integer(Box<Histogram>),
    /// A float histogram.
    FloatHistogram(Box<FloatHistogram>),
}

/// A histogram sample, or an out-of-order sample of any kind.
#[derive(Clone, Debug)]
pub struct ValueItem {
    pub slot: u32,
    pub v2: bool,
    pub t: i64,
    pub st: i64,
    pub value: Value,
    /// Where it was read: index of the source, offset.
    pub place: (u32, u64),
}

/// What a worker is to do, in order.
pub enum Work {
    /// In-order floats and the start timestamps of those that have one.
    Floats { items: Vec<FloatItem>, starts: Vec<i64> },
    /// In-order histograms.
    Histograms(Vec<ValueItem>),
    /// Out-of-order samples.
    OutOfOrder(Vec<ValueItem>),
    /// Mapped chunks that belong to a slot; `mapped_end` is the end of its last in-order chunk.
    Mapped {
        slot: u32,
        mapped_end: i64,
        kind: Option<Kind>,
        chunks: Vec<MappedChunk>,
        out_of_order: Vec<MappedChunk>,
    },
    /// The chunk that was open when a snapshot was taken. What follows begins a new one.
    Snapshot { slot: u32, chunk: Chunk },
    /// The out-of-order samples of this slot so far are in mapped chunks.
    Marked(u32),
}

/// The kinds of samples, in the order of the stale marker's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Float,
    Integer,
    FloatHistogram,
}

impl Kind {
    /// The kind of samples that chunks of this encoding hold.
    pub fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Xor | Encoding::Xor2 => Self::Float,
            Encoding::Histogram | Encoding::HistogramSt => Self::Integer,
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => Self::FloatHistogram,
        }
    }
}

/// Out-of-order samples that are not in a closed chunk: sorted by time, one per time.
#[derive(Clone, Debug, Default)]
pub struct OutOfOrderHead {
    pub samples: Vec<(i64, i64, Value)>,
}

impl OutOfOrderHead {
    fn insert(&mut self, t: i64, st: i64, value: Value) {
        match self.samples.last() {
            Some((last, ..)) if *last >= t => {
                if let Err(at) = self.samples.binary_search_by_key(&t, |s| s.0) {
                    self.samples.insert(at, (t, st, value));
                }
            }
            _ => self.samples.push((t, st, value)),
        }
    }

    /// Whether all samples are floats.
    pub fn is_floats(&self) -> bool {
        self.samples.iter().all(|s| matches!(s.2, Value::Float(_)))
    }

    /// The samples as chunks, as upstream encodes them when it reads or maps them.
    pub fn chunks(&self) -> Result<Vec<Chunk>, ChunkError> {
        let st = self.samples.iter().any(|s| s.1 != 0);
        let mut appender = SeriesAppender::new(AppenderOptions {
            chunk_range_ms: i64::MAX,
            samples_per_chunk: 1 << 14,
            xor2: st,
            st,
            histograms_st: st,
        });
        for (t, st, value) in &self.samples {
            append(&mut appender, *t, *st, value)?;
        }
        Ok(appender.into_chunks())
    }
}

fn append(appender: &mut SeriesAppender, t: i64, st: i64, value: &Value) -> Result<(), ChunkError> {
    match value {
        Value::Float(v) => appender.append_float(t, *v, st),
        Value::Integer(h) => appender.append_histogram(t, h, st),
        Value::FloatHistogram(h) => appender.append_float_histogram(t, h, st),
    }
}

/// A chunk of out-of-order samples.
#[derive(Clone, Debug)]
pub enum OutOfOrderChunk {
    /// In a file.
    Mapped(MappedChunk),
    /// Made in replay.
    Made(Chunk),
}

/// Samples in time order, in chunks.
#[derive(Clone, Debug)]
pub struct InOrder {
    pub appender: SeriesAppender,
    v2: bool,
    last_t: i64,
    has_histograms: bool,
    bytes: usize,
}

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    /// In-order chunks in files, as they were found.
    pub mapped: Vec<MappedChunk>,
    /// Chunks made before the series' records could hold start timestamps.
    pub made: Vec<Chunk>,
    /// The chunks being made.
    pub in_order: Option<Box<InOrder>>,
    /// Out-of-order chunks, oldest first.
    pub out_of_order: Vec<OutOfOrderChunk>,
    /// Out-of-order samples not in a chunk.
    pub out_of_order_head: Option<Box<OutOfOrderHead>>,
    /// End of the last mapped in-order chunk.
    mapped_end: i64,
    /// End of the chunk that a snapshot had.
    snapshot_end: i64,
    kind: Option<Kind>,
    /// Samples outside the asked range that were not kept: the earliest and the latest.
    pub skipped: Option<(i64, i64)>,
    /// The chunk that the skipped floats in front of the range would end in.
    unmade: UnmadeChunk,
    /// No sample is in the asked range, but a chunk of upstream's reaches over it.
    pub straddles: bool,
}

/// Where upstream would cut the chunks of floats that are not kept. That it cuts chunks of more than about 1,000
/// bytes too is left aside: it takes the values to know.
#[derive(Clone, Copy, Debug, Default)]
struct UnmadeChunk {
    start: i64,
    next_at: i64,
    samples: u32,
}

impl UnmadeChunk {
    /// Whether the sample at `t` begins a new chunk; `last` is the time of the one before.
    fn is_cut_by(&mut self, t: i64, last: i64) -> bool {
        let options = options(false);
        let full = options.samples_per_chunk as u32;
        if self.samples == full / 4 {
            let (span, filled) = (self.next_at.wrapping_sub(self.start), last.wrapping_sub(self.start));
            let n = span as f64 / (filled.wrapping_add(1) as f64 * 4.0);
            if n > 1.0 {
                self.next_at = (self.start as f64 + span as f64 / n.floor()) as i64;
            }
        }
        self.samples == 0 || t >= self.next_at || self.samples >= full * 2
    }

    fn add(&mut self, t: i64, last: i64) {
        if self.is_cut_by(t, last) {
            let next_at = (t / CHUNK_RANGE_MS).saturating_add(1).saturating_mul(CHUNK_RANGE_MS);
            *self = Self { start: t, next_at, samples: 0 };
        }
        self.samples += 1;
    }
}

impl Default for Series {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Series {
    /// A series without samples.
    pub const EMPTY: Self = Self {
        mapped: Vec::new(),
        made: Vec::new(),
        in_order: None,
        out_of_order: Vec::new(),
        out_of_order_head: None,
        mapped_end: i64::MIN,
        snapshot_end: i64::MIN,
        kind: None,
        skipped: None,
        unmade: UnmadeChunk { start: 0, next_at: 0, samples: 0 },
        straddles: false,
    };

    /// Whether upstream's head would hold it: it has samples, asked for or not.
    pub fn has_samples(&self) -> bool {
        !self.mapped.is_empty()
            || self.mapped_end > i64::MIN
            || self.in_order.is_some()
            || !self.made.is_empty()
            || !self.out_of_order.is_empty()
            || self.out_of_order_head.is_some()
            || self.skipped.is_some()
    }

    fn last_t(&self) -> i64 {
        let skipped = self.skipped.map_or(i64::MIN, |(_, last)| last);
        self.in_order
            .as_ref()
            .map_or(i64::MIN, |i| i.last_t)
            .max(self.mapped_end)
            .max(self.snapshot_end)
            .max(skipped)
    }

    fn skip(&mut self, t: i64) {
        let (first, last) = self.skipped.unwrap_or((t, t));
        self.skipped = Some((first.min(t), last.max(t)));
    }

    fn skip_float(&mut self, t: i64, range: (i64, i64)) {
        let last = self.skipped.map_or(i64::MIN, |(_, last)| last);
        if t < range.0 {
            self.unmade.add(t, last);
        } else if self.unmade.samples > 0 && self.in_order.is_none() {
            // The first behind the range.
            self.straddles |= last < range.0 && !self.unmade.is_cut_by(t, last);
            self.unmade.samples = 0;
        }
        self.skip(t);
    }

    fn float(&mut self, (t, st, v2): (i64, i64, bool), v: f64, range: (i64, i64)) -> Result<(), ChunkError> {
        if t <= self.last_t() {
            return Ok(());
        }
        if is_stale(v) {
            // A marker is of the kind of the newest chunk.
            let value = match self.kind {
                Some(Kind::Integer) => {
                    Some(Value::Integer(Box::new(Histogram { sum: stale_nan(), ..Default::default() })))
                }
                Some(Kind::FloatHistogram) => Some(Value::FloatHistogram(Box::new(FloatHistogram {
                    sum: stale_nan(),
                    ..Default::default()
                }))),
                _ => None,
            };
            if let Some(value) = value {
                return self.histogram(t, st, v2, &value, range.1);
            }
        }
        if (t < range.0 || t > range.1) && !self.in_order.as_ref().is_some_and(|i| i.has_histograms) {
            self.skip_float(t, range);
            self.kind = Some(Kind::Float);
            return Ok(());
        }
        self.kind = Some(Kind::Float);
        let series = self.in_order(v2);
        series.last_t = t;
        series.appender.append_float(t, v, st)
    }

    fn histogram(&mut self, t: i64, st: i64, v2: bool, value: &Value, maxt: i64) -> Result<(), ChunkError> {
        if t <= self.last_t() {
            return Ok(());
        }
        self.kind =
            Some(if matches!(value, Value::Integer(_)) { Kind::Integer } else { Kind::FloatHistogram });
        // Those before the range are kept: how a chunk begins decides about the hints behind. Those behind the range too,
        // as long as its last chunk grows: their buckets are added to all of its samples.
        if t > maxt
            && self.in_order.as_ref().and_then(|i| i.appender.open_start()).is_none_or(|start| start > maxt)
        {
            self.skip(t);
            return Ok(());
        }
        let series = self.in_order(v2);
        series.has_histograms = true;
        append(&mut series.appender, t, st, value)?;
        series.last_t = t;
        Ok(())
    }

    fn in_order(&mut self, v2: bool) -> &mut InOrder {
        if let Some(old) = self.in_order.take_if(|i| v2 && !i.v2) {
            let options = options(true);
            let fresh = InOrder { appender: SeriesAppender::new(options), v2: true, ..*old };
            self.made.extend(old.appender.into_chunks());
            self.in_order = Some(Box::new(fresh));
        }
        self.in_order.get_or_insert_with(|| {
            Box::new(InOrder {
                appender: SeriesAppender::new(options(v2)),
                v2,
                last_t: i64::MIN,
                has_histograms: false,
                bytes: 0,
            })
        })
    }

    fn out_of_order(&mut self, t: i64, st: i64, value: Value) -> Result<(), ChunkError> {
        if let Some(full) = self.out_of_order_head.take_if(|h| h.samples.len() >= OUT_OF_ORDER_CAP) {
            self.out_of_order.extend(full.chunks()?.into_iter().map(OutOfOrderChunk::Made));
        }
        self.out_of_order_head.get_or_insert_default().insert(t, st, value);
        Ok(())
    }
}

fn options(v2: bool) -> AppenderOptions {
    AppenderOptions {
        chunk_range_ms: CHUNK_RANGE_MS,
        samples_per_chunk: 120,
        xor2: v2,
        st: v2,
        histograms_st: v2,
    }
}

/// Where a slot lies: its shard, and its place there. Neighbours share a shard.
#[inline]
pub fn locate(slot: u32, shards: u32) -> (usize, usize) {
    let run = slot >> 6;
    ((run % shards) as usize, ((run / shards) << 6 | slot & 63) as usize)
}

/// Fewest and most floats that wait in a shard.
const QUEUE_ITEMS: (usize, usize) = (1 << 12, 1 << 19);

/// The series of one worker.
pub struct Shard {
    pub series: Vec<Series>,
    shards: u32,
    range: (i64, i64),
    budget: Budget,
    /// Bytes taken from the budget.
    pub taken: usize,
    /// Samples that could not be appended.
    pub losses: Vec<(u32, u64, String)>,
    owed: usize,
    queue: FloatQueue,
}

impl Shard {
    /// An empty shard of `shards`, for samples in `range`.
    pub fn new(shards: u32, range: (i64, i64), budget: Budget) -> Self {
        Self {
            series: Vec::new(),
            shards,
            range,
            budget,
            taken: 0,
            losses: Vec::new(),
            owed: 0,
            queue: FloatQueue::new(QUEUE_ITEMS),
        }
    }

    /// Appends the floats that wait, series by series.
    fn drain(&mut self) {
        let Some(last) = self.queue.places().checked_sub(1) else { return };
        if last >= self.series.len() {
            self.grow(last);
        }
        let (series, range, losses) = (&mut self.series, self.range, &mut self.losses);
        self.queue.drain(|place, head, v| {
            if let Err(e) = series[place].float(head, v, range) {
                losses.push((u32::MAX, 0, e.to_string()));
            }
        });
    }

    fn grow(&mut self, last: usize) {
        let before = self.series.capacity();
        self.series.resize_with(last + 1, Series::default);
        self.owed += (self.series.capacity() - before) * size_of::<Series>();
    }

    /// Series of a slot, with nothing in line for it.
    fn current(&mut self, slot: u32) -> &mut Series {
        let (_, i) = locate(slot, self.shards);
        if self.queue.has(i) {
            self.drain();
        }
        self.at(slot)
    }

    fn at(&mut self, slot: u32) -> &mut Series {
        let (_, i) = locate(slot, self.shards);
        if i >= self.series.len() {
            self.grow(i);
        }
        &mut self.series[i]
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// If the memory budget is used up.
    pub fn run(&mut self, work: Work) -> Result<(), ControlError> {
        match work {
            Work::Floats { items, starts } => {
                // About what a sample takes once encoded; the truth is taken at the end.
                self.owed += items.len() * 3 + starts.len() * 8;
                let before = self.queue.bytes();
                self.queue.enqueue(&items, &starts);
                self.owed += self.queue.bytes() - before;
                if self.queue.is_full() {
                    self.drain();
                }
            }
            Work::Histograms(items) => {
                self.owed += items.len() * 64;
                let maxt = self.range.1;
                for item in items {
                    if let Err(e) =
                        self.current(item.slot).histogram(item.t, item.st, item.v2, &item.value, maxt)
                    {
                        self.losses.push((item.place.0, item.place.1, e.to_string()));
                    }
                }
            }
            Work::OutOfOrder(items) => {
                self.owed += items.len() * 48;
                for item in items {
                    if let Err(e) = self.at(item.slot).out_of_order(item.t, item.st, item.value) {
                        self.losses.push((item.place.0, item.place.1, e.to_string()));
                    }
                }
            }
            Work::Mapped { slot, mapped_end, kind, chunks, out_of_order } => {
                self.owed += (chunks.len() + out_of_order.len()) * size_of::<MappedChunk>();
                let series = self.current(slot);
                // The chunk of a snapshot was completed and mapped after all.
                series.made.retain(|c| !chunks.iter().any(|m| m.mint <= c.mint && m.maxt >= c.maxt));
                series.mapped.extend(chunks);
                series.out_of_order.extend(out_of_order.into_iter().map(OutOfOrderChunk::Mapped));
                if mapped_end > series.last_t() {
                    series.kind = kind;
                }
                series.mapped_end = series.mapped_end.max(mapped_end);
            }
            Work::Snapshot { slot, chunk } => {
                let range = self.range;
                self.owed += chunk.data.len() + size_of::<Chunk>();
                let series = self.at(slot);
                series.kind = Some(Kind::of(chunk.encoding));
                series.snapshot_end = chunk.maxt;
                if chunk.mint <= range.1 && chunk.maxt >= range.0 {
                    series.made.push(chunk);
                } else {
                    series.skip(chunk.mint);
                    series.skip(chunk.maxt);
                }
            }
            Work::Marked(slot) => self.at(slot).out_of_order_head = None,
        }
        if self.owed > 1 << 16 {
            self.budget.take("head", self.owed)?;
            self.taken += self.owed;
            self.owed = 0;
        }
        Ok(())
    }

    /// Takes what the series really hold from the budget instead of the estimate.
    ///
    /// # Errors
    /// If that is more than the budget has.
    pub fn settle(&mut self) -> Result<(), ControlError> {
        self.drain();
        self.queue = FloatQueue::new(QUEUE_ITEMS);
        let mut bytes = self.series.capacity() * size_of::<Series>();
        for s in &mut self.series {
            s.mapped.shrink_to_fit();
            bytes += s.mapped.capacity() * size_of::<MappedChunk>();
            bytes += s.made.iter().map(|c| c.data.len() + size_of::<Chunk>()).sum::<usize>();
            if let Some(i) = &mut s.in_order {
                i.bytes = i.appender.bytes();
                bytes += i.bytes + size_of::<InOrder>() + i.appender.chunks().count() * size_of::<Chunk>();
            }
            bytes += s.out_of_order.capacity() * size_of::<OutOfOrderChunk>();
            if let Some(h) = &s.out_of_order_head {
                bytes += h.samples.capacity() * size_of::<(i64, i64, Value)>();
            }
        }
        if bytes > self.taken {
            self.budget.take("head", bytes - self.taken)?;
        } else {
            self.budget.give(self.taken - bytes);
        }
        self.taken = bytes;
        Ok(())
    }
}

/// The losses of workers, with the files they come from.
pub fn losses(
    found: Vec<(u32, u64, String)>,
    file: impl Fn(u32) -> std::path::PathBuf,
) -> impl Iterator<Item = Loss> {
    found.into_iter().map(move |(source, offset, reason)| Loss { file: file(source), offset, reason })
}

/// The samples of a head that has floats only: they need no encoding to be read.
pub fn float_columns(head: &OutOfOrderHead, out: &mut SampleColumns) {
    for (t, st, value) in &head.samples {
        if let Value::Float(v) = value {
            out.floats.push(*t, *v, *st);
        }
    }
}
