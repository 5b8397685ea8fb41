//! The series of one shard: records, open chunks, places of full ones, and what few series have.

use tsdbctl_chunk::{
    AppenderOptions, Chunk, ChunkRef, Encoding, Floats, SeriesAppender, decode_float_histograms,
    decode_floats_fast, decode_histograms,
};
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::append::Refusal;

use crate::live::chunk_files::{ChunkFiles, ChunkPlace};
use crate::live::hidden::HiddenLog;
use crate::live::index::SeriesId;
use crate::live::mapped_places::{self, MappedPlace};
use crate::live::memory::{BlockPool, HalfBlockPool, NONE};
use crate::live::open_chunk;
use crate::live::out_of_order::{LateChunk, LateSample};
use crate::live::record::{Kind, Record, Records, flags};
pub use crate::live::sample::{Applied, AttachedChunk, Bounds, ChunkRules, Piece, Route, SampleValue};
use crate::live::side::{Side, Sides};

/// One shard of a head, behind its own lock.
#[derive(Debug)]
pub struct Shard {
    records: Records,
    store: Store,
}

/// What the records lead to.
#[derive(Debug, Default)]
struct Store {
    /// Of open chunks.
    pool: BlockPool,
    /// Of the places of full ones.
    places: HalfBlockPool,
    sides: Sides,
    hidden: HiddenLog,
    /// Data of a chunk on its way into a file.
    scratch: Vec<u8>,
    write_failures: u64,
}

impl Store {
    /// Puts a full chunk into a file, or, if the system refuses, in line for the next attempt. Chunks of a series go
    /// into files in order of time.
    fn put_away(&mut self, id: SeriesId, record: &mut Record, chunk: ChunkRef<'_>, files: &ChunkFiles) {
        self.hidden.seal(id, record, chunk.samples);
        let times = (chunk.mint, chunk.maxt);
        if self.write_waiting(record, files) {
            match files.write(record.series_ref, times, chunk.encoding, false, chunk.data) {
                Ok(place) => return self.attach(record, place, times),
                Err(_) => self.write_failures += 1,
            }
        }
        let waiting = Chunk {
            encoding: chunk.encoding,
            data: chunk.data.to_vec(),
            mint: chunk.mint,
            maxt: chunk.maxt,
            samples: chunk.samples,
        };
        self.sides.change(&mut record.side, |side| side.waiting.push(waiting));
    }

    /// Tries to write the chunks that wait; whether none does any more.
    fn write_waiting(&mut self, record: &mut Record, files: &ChunkFiles) -> bool {
        let waiting = match self.sides.get(record.side) {
            Some(side) if !side.waiting.is_empty() => {
                self.sides.change(&mut record.side, |side| std::mem::take(&mut side.waiting))
            }
            _ => return true,
        };
        let mut waiting = waiting.into_iter();
        while let Some(chunk) = waiting.next() {
            let times = (chunk.mint, chunk.maxt);
            match files.write(record.series_ref, times, chunk.encoding, false, &chunk.data) {
                Ok(place) => self.attach(record, place, times),
                Err(_) => {
                    self.write_failures += 1;
                    let rest = std::iter::once(chunk).chain(waiting).collect();
                    self.sides.change(&mut record.side, |side| side.waiting = rest);
                    return false;
                }
            }
        }
        true
    }

    fn attach(&mut self, record: &mut Record, place: ChunkPlace, (mint, maxt): (i64, i64)) {
        if !mapped_places::push(&mut self.places, record, MappedPlace::new(place, mint)) {
            // Chunks that cannot be held in order are found all the same: these are kept with all they are.
            self.attach_late(record, LateChunk { place, mint, maxt, misplaced: true });
        }
    }

    fn attach_late(&mut self, record: &mut Record, chunk: LateChunk) {
        self.sides
            .change(&mut record.side, |side| side.out_of_order.get_or_insert_default().mapped.push(chunk));
    }

    /// Ends the open chunk of floats.
    fn seal_plain(&mut self, id: SeriesId, record: &mut Record, files: &ChunkFiles) {
        let mut data = std::mem::take(&mut self.scratch);
        data.clear();
        open_chunk::copy(&self.pool, record, &mut data);
        let chunk = ChunkRef {
            encoding: Encoding::Xor,
            data: &data,
            mint: record.base_t,
            maxt: record.base_t + i64::from(record.last_dt),
            samples: usize::from(record.samples),
        };
        self.put_away(id, record, chunk, files);
        self.scratch = data;
        self.drop_plain(record);
    }

    /// Forgets the open chunk of floats.
    fn drop_plain(&mut self, record: &mut Record) {
        self.pool.free_chain(record.chunk);
        record.chunk = NONE;
        record.bits = 0;
        record.samples = 0;
    }

    /// Ends the open chunk that is in the side table.
    fn seal_aside(&mut self, id: SeriesId, record: &mut Record, files: &ChunkFiles) {
        record.set(flags::ASIDE, false);
        if record.side == NONE {
            return;
        }
        let growing = self.sides.change(&mut record.side, |side| side.growing.take());
        for chunk in growing.map(|g| g.into_chunks()).unwrap_or_default() {
            self.put_away(id, record, as_ref(&chunk), files);
        }
    }

    fn side(&self, record: &Record) -> Option<&Side> {
        self.sides.get(record.side)
    }

    /// Time of the newest out-of-order sample.
    #[cold]
    fn last_late_t(&self, record: &Record) -> Option<i64> {
        let late = self.side(record)?.out_of_order.as_ref()?;
        late.samples.last().map(|s| s.t).into_iter().chain(late.mapped.iter().map(|c| c.maxt)).max()
    }
}

fn as_ref(chunk: &Chunk) -> ChunkRef<'_> {
    ChunkRef {
        encoding: chunk.encoding,
        data: &chunk.data,
        mint: chunk.mint,
        maxt: chunk.maxt,
        samples: chunk.samples,
    }
}

fn to_owned(chunk: ChunkRef<'_>) -> Chunk {
    Chunk {
        encoding: chunk.encoding,
        data: chunk.data.to_vec(),
        mint: chunk.mint,
        maxt: chunk.maxt,
        samples: chunk.samples,
    }
}

fn kind_of(encoding: Encoding) -> Kind {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => Kind::Float,
        Encoding::Histogram | Encoding::HistogramSt => Kind::Integer,
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => Kind::FloatHistogram,
    }
}

/// A float stale marker of a series of histograms is one of these.
fn in_kind(value: SampleValue, kind: Kind) -> SampleValue {
    match (value, kind) {
        (SampleValue::Float(sum), Kind::Integer) if is_stale(sum) => {
            SampleValue::Histogram(Box::new(Histogram { sum, ..Histogram::default() }))
        }
        (SampleValue::Float(sum), Kind::FloatHistogram) if is_stale(sum) => {
            SampleValue::FloatHistogram(Box::new(FloatHistogram { sum, ..FloatHistogram::default() }))
        }
        (value, _) => value,
    }
}

/// An open chunk behind one that was ended early: as a new chunk of histograms says whether counters were reset, it is
/// led by the sample before it, in a chunk of its own that is full at once. The second says whether it is.
fn begin_behind(
    options: AppenderOptions,
    before: Option<i64>,
    last: Option<&SampleValue>,
    value: &SampleValue,
) -> (SeriesAppender, bool) {
    let mut growing = SeriesAppender::new(options);
    let led = match (before, last, value) {
        (Some(t), Some(SampleValue::Histogram(h)), SampleValue::Histogram(_)) => {
            growing.append_histogram(t, h, 0).is_ok()
        }
        (Some(t), Some(SampleValue::FloatHistogram(h)), SampleValue::FloatHistogram(_)) => {
            growing.append_float_histogram(t, h, 0).is_ok()
        }
        _ => false,
    };
    growing.end_chunk();
    (growing, led)
}

/// What the last sample of a chunk is.
fn last_value(encoding: Encoding, data: &[u8]) -> Option<SampleValue> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut out = Floats::default();
            decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut out).ok()?;
            out.v.last().copied().map(SampleValue::Float)
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let (_, _, h) = decode_histograms(encoding, data).ok()?.pop()?;
            Some(SampleValue::Histogram(Box::new(h)))
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let (_, _, h) = decode_float_histograms(encoding, data).ok()?.pop()?;
            Some(SampleValue::FloatHistogram(Box::new(h)))
        }
    }
}

impl Shard {
    /// An empty shard, number `number` of `shards`.
    pub fn new(number: u32, shards: u32) -> Self {
        Self { records: Records::new(number, shards), store: Store::default() }
    }

    /// Makes the record of a new series.
    pub fn create(&mut self, id: SeriesId, series_ref: u64) {
        self.remove(id);
        self.records.create(id, series_ref);
    }

    /// The record of a live series.
    #[inline]
    pub fn record(&self, id: SeriesId) -> Option<&Record> {
        self.records.get(id)
    }

    /// The record of a live series, to change.
    #[inline]
    pub fn record_mut(&mut self, id: SeriesId) -> Option<&mut Record> {
        self.records.get_mut(id)
    }

    /// Touches what appends to these series are about to write. One after the other each would wait for memory; here
    /// they wait together.
    #[inline]
    pub fn warm(&self, ids: &[SeriesId]) {
        let mut sum = 0u8;
        for id in ids {
            if let Some(record) = self.records.get(*id)
                && record.chunk != NONE
            {
                sum ^= self.store.pool.get(record.chunk).data[0];
            }
        }
        std::hint::black_box(sum);
    }

    /// Time of the newest in-order sample.
    #[inline]
    pub fn last_t(&self, id: SeriesId) -> Option<i64> {
        self.records.get(id)?.last_t()
    }

    /// Every reader, open or to come, sees commits up to this one ([`crate::live::isolation::Isolation::oldest_view`]):
    /// what they came with need not be known any more. To be told before a run of appends.
    #[inline]
    pub fn set_oldest_view(&mut self, oldest: u64) {
        self.store.hidden.set_oldest_view(oldest);
    }

    /// Whether a sample may come, judged by what is committed, in upstream's order (`memSeries.appendable`). One at the
    /// time of the last sample passes if that one's value is not known: appending it looks at its chunk.
    ///
    /// # Errors
    /// The class in which it is refused.
    pub fn check(
        &mut self,
        id: SeriesId,
        t: i64,
        value: &SampleValue,
        bounds: &Bounds,
    ) -> Result<Route, Refusal> {
        let record = self.records.get(id).ok_or(Refusal::UnknownSeries)?;
        judge(record, t, bounds, || self.is_last(record, value), || self.store.last_late_t(record))
    }

    /// As [`Shard::check`], for a float.
    ///
    /// # Errors
    /// The class in which it is refused.
    #[inline]
    pub fn check_float(&mut self, id: SeriesId, t: i64, v: f64, bounds: &Bounds) -> Result<Route, Refusal> {
        let record = self.records.get(id).ok_or(Refusal::UnknownSeries)?;
        let is_last = || record.kind() == Kind::Float && record.last_v == v.to_bits();
        judge(record, t, bounds, is_last, || self.store.last_late_t(record))
    }

    /// Whether a value is that of the last sample, which is known.
    fn is_last(&self, record: &Record, value: &SampleValue) -> bool {
        let last = self.store.side(record).and_then(|side| side.last.as_ref());
        match (value, last) {
            (SampleValue::Float(v), None) => record.kind() == Kind::Float && v.to_bits() == record.last_v,
            (SampleValue::Histogram(h), Some(SampleValue::Histogram(last))) => h.equals(last),
            (SampleValue::FloatHistogram(h), Some(SampleValue::FloatHistogram(last))) => h.equals(last),
            _ => false,
        }
    }

    /// Appends a float that came in order; `commit` is the low half of its commit's number, 0 for none that a reader
    /// could have to be kept from.
    #[inline]
    pub fn append_float(
        &mut self,
        id: SeriesId,
        (t, st): (i64, i64),
        v: f64,
        commit: u32,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Applied {
        let Some(record) = self.records.get_mut(id) else {
            return Applied::Refused(Refusal::UnknownSeries);
        };
        if record.flags & (flags::ASIDE | flags::KIND_MASK) != 0 || rules.xor2 {
            return self.append(id, (t, st), SampleValue::Float(v), commit, rules, files);
        }
        if let Some(last) = record.last_t()
            && t <= last
        {
            return self.repeated(id, t, &SampleValue::Float(v), files);
        }
        Self::append_plain(&mut self.store, id, record, (t, v), commit, rules, files)
    }

    #[inline]
    fn append_plain(
        store: &mut Store,
        id: SeriesId,
        record: &mut Record,
        (t, v): (i64, f64),
        commit: u32,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Applied {
        if record.samples > 0 && open_chunk::is_full(record, t, rules) {
            store.seal_plain(id, record, files);
        } else if record.samples == 0 && record.side != NONE {
            store.write_waiting(record, files);
        }
        if record.samples == 0 {
            open_chunk::begin(record, t, rules);
        }
        // It has room: it is sealed long before its count is at an end.
        if open_chunk::append(&mut store.pool, record, t, v).is_err() {
            return Applied::Refused(Refusal::Limit);
        }
        store.hidden.stamp(id, record, commit);
        record.flags = record.flags & !(flags::STALE | flags::CANDIDATE)
            | flags::HAS_LAST
            | flags::KNOWS_VALUE
            | if is_stale(v) { flags::STALE } else { 0 };
        Applied::Stored
    }

    /// Appends a sample of any kind that came in order.
    pub fn append(
        &mut self,
        id: SeriesId,
        (t, st): (i64, i64),
        value: SampleValue,
        commit: u32,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Applied {
        let Some(record) = self.records.get_mut(id) else {
            return Applied::Refused(Refusal::UnknownSeries);
        };
        let value = in_kind(value, record.kind());
        if let Some(last) = record.last_t()
            && t <= last
        {
            return self.repeated(id, t, &value, files);
        }
        let store = &mut self.store;
        if let SampleValue::Float(v) = value
            && !rules.xor2
        {
            if record.has(flags::ASIDE) {
                store.seal_aside(id, record, files);
            }
            forget_last(store, record);
            return Self::append_plain(store, id, record, (t, v), commit, rules, files);
        }
        if record.samples > 0 {
            store.seal_plain(id, record, files);
        } else if !record.has(flags::ASIDE) {
            store.write_waiting(record, files);
        }
        let options = AppenderOptions {
            chunk_range_ms: rules.chunk_range_ms.max(1),
            samples_per_chunk: rules.samples_per_chunk as usize,
            xor2: rules.xor2,
            st: rules.start_timestamps,
            histograms_st: rules.histogram_start_timestamps,
        };
        let before = record.last_t();
        let (result, full) = store.sides.change(&mut record.side, |side| {
            let mut is_led = false;
            let growing = side.growing.get_or_insert_with(|| {
                let (growing, led) = begin_behind(options, before, side.last.as_ref(), &value);
                is_led = led;
                Box::new(growing)
            });
            let result = match &value {
                SampleValue::Float(v) => growing.append_float(t, *v, st),
                SampleValue::Histogram(h) => growing.append_histogram(t, h, st),
                SampleValue::FloatHistogram(h) => growing.append_float_histogram(t, h, st),
            };
            let mut full = growing.take_full();
            if is_led {
                full.drain(..full.len().min(1));
            }
            if result.is_err() && is_led || growing.open_start().is_none() {
                side.growing = None;
            }
            (result, full)
        });
        for chunk in full {
            store.put_away(id, record, as_ref(&chunk), files);
        }
        record.set(flags::ASIDE, store.side(record).is_some_and(|side| side.growing.is_some()));
        if result.is_err() {
            return Applied::Refused(Refusal::InvalidHistogram);
        }
        store.hidden.stamp(id, record, commit);
        record.base_t = t;
        record.last_dt = 0;
        remember_last(store, record, value);
        record.set(flags::HAS_LAST, true);
        record.set(flags::CANDIDATE, false);
        Applied::Stored
    }

    /// What becomes of a sample that is not behind the last one.
    #[cold]
    fn repeated(&mut self, id: SeriesId, t: i64, value: &SampleValue, files: &ChunkFiles) -> Applied {
        let Some(record) = self.records.get_mut(id) else {
            return Applied::Refused(Refusal::UnknownSeries);
        };
        if record.last_t() != Some(t) {
            return Applied::Refused(Refusal::OutOfOrder);
        }
        if !record.has(flags::KNOWS_VALUE) {
            let waiting = self.store.side(record).and_then(|side| side.waiting.last());
            let last = match (waiting, mapped_places::last(&self.store.places, record)) {
                (Some(chunk), _) => last_value(chunk.encoding, &chunk.data),
                (None, Some(last)) => {
                    files.read(last.place).ok().and_then(|c| last_value(c.encoding, &c.data))
                }
                (None, None) => None,
            };
            match last {
                Some(last) => remember_last(&mut self.store, record, last),
                // Upstream takes any such sample for a repeated one.
                None => return Applied::Same,
            }
        }
        let Some(record) = self.records.get(id) else {
            return Applied::Refused(Refusal::UnknownSeries);
        };
        if self.is_last(record, value) { Applied::Same } else { Applied::Refused(Refusal::Duplicate) }
    }

    /// Whether the next out-of-order sample of the series would first map a full chunk: the out-of-order log needs the
    /// marker in front of the sample. Maps it and gives the places (several if kinds alternate); `[0]` for a series'
    /// first out-of-order sample; empty otherwise, also if the chunk could not be written and stays in memory.
    pub fn make_room_out_of_order(
        &mut self,
        id: SeriesId,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Vec<u64> {
        let Some(record) = self.records.get_mut(id) else { return Vec::new() };
        let side = self.store.side(record).and_then(|side| side.out_of_order.as_ref());
        match side.map_or(0, |o| o.samples.len()) {
            0 => vec![0],
            n if n < rules.out_of_order_cap.max(1) => Vec::new(),
            _ => self.map_out_of_order(id, rules, files),
        }
    }

    /// Maps the out-of-order samples in memory, as before a compaction of these; gives the places. Empty if there are
    /// none, or if the system refuses: then they stay in memory.
    pub fn map_out_of_order(&mut self, id: SeriesId, rules: &ChunkRules, files: &ChunkFiles) -> Vec<u64> {
        let Some(record) = self.records.get_mut(id) else { return Vec::new() };
        if self.store.side(record).is_none_or(|side| side.out_of_order.is_none()) {
            return Vec::new();
        }
        let series_ref = record.series_ref;
        let (places, complete) =
            self.store.sides.change(&mut record.side, |side| match &mut side.out_of_order {
                Some(late) => late.map(series_ref, rules, files),
                None => (Vec::new(), true),
            });
        self.store.write_failures += u64::from(!complete);
        places.into_iter().map(ChunkPlace::reference).collect()
    }

    /// Inserts an out-of-order sample, unless the buffer has one of its time. A float stale marker stays one: what the series was is decided by who logs it.
    pub fn insert_out_of_order(&mut self, id: SeriesId, (t, st): (i64, i64), value: SampleValue) -> Applied {
        let Some(record) = self.records.get_mut(id) else {
            return Applied::Refused(Refusal::UnknownSeries);
        };
        record.set(flags::CANDIDATE, false);
        self.store.sides.change(&mut record.side, |side| {
            side.out_of_order.get_or_insert_default().insert(LateSample { t, st, value })
        })
    }

    /// Empties the buffer of out-of-order samples: a marker says that they are in chunks that were attached.
    pub fn clear_out_of_order(&mut self, id: SeriesId) {
        self.change_out_of_order(id, |late| late.samples = Vec::new());
    }

    /// Empties a buffer of at least so many out-of-order samples if they are in chunks that were attached (loading).
    pub fn forget_mapped_out_of_order(
        &mut self,
        id: SeriesId,
        least: usize,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) {
        self.change_out_of_order(id, |late| late.forget_mapped(least, rules, files));
    }

    /// Forgets the out-of-order chunks up to this place: they are in a block. Those that are kept beside the order are not,
    /// wherever they lie.
    pub fn drop_out_of_order_up_to(&mut self, id: SeriesId, reference: u64) {
        self.change_out_of_order(id, |late| {
            late.mapped.retain(|c| c.misplaced || c.place.reference() > reference);
        });
    }

    fn change_out_of_order(
        &mut self,
        id: SeriesId,
        f: impl FnOnce(&mut crate::live::out_of_order::OutOfOrder),
    ) {
        let Some(record) = self.records.get_mut(id) else { return };
        if self.store.side(record).is_some_and(|side| side.out_of_order.is_some()) {
            self.store.sides.change(&mut record.side, |side| {
                if let Some(late) = &mut side.out_of_order {
                    f(late);
                    if late.is_empty() {
                        side.out_of_order = None;
                    }
                }
            });
        }
    }

    /// Attaches chunks found in files (loading): in-order ones in order of time, and out-of-order ones. The last
    /// in-order one's end becomes the series' last time, its value unknown. An in-order chunk that is not behind the
    /// samples there are, or behind an open chunk, is kept beside the out-of-order ones.
    pub fn attach(&mut self, id: SeriesId, chunks: &[AttachedChunk]) {
        let Some(record) = self.records.get_mut(id) else { return };
        for chunk in chunks {
            // What is in memory is newer than what is in order in files.
            let late = chunk.out_of_order
                || record.last_t().is_some_and(|last| chunk.mint <= last)
                || record.samples > 0
                || record.has(flags::ASIDE)
                || self.store.side(record).is_some_and(|side| !side.waiting.is_empty());
            if late {
                let AttachedChunk { place, mint, maxt, .. } = *chunk;
                let misplaced = !chunk.out_of_order;
                self.store.attach_late(record, LateChunk { place, mint, maxt, misplaced });
                continue;
            }
            self.store.attach(record, chunk.place, (chunk.mint, chunk.maxt));
            record.base_t = chunk.maxt;
            record.last_dt = 0;
            record.set(flags::HAS_LAST, true);
            record.set(flags::KNOWS_VALUE | flags::STALE, false);
            record.set_kind(kind_of(chunk.encoding));
        }
    }

    /// Puts a chunk that a snapshot had back as the open chunk; what follows begins a new one, as upstream has it. If it
    /// was written after all, or some of it, only what lies behind that is appended.
    ///
    /// # Errors
    /// If it does not decode.
    pub fn restore_open(
        &mut self,
        id: SeriesId,
        chunk: &Chunk,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> Result<(), String> {
        let last = last_value(chunk.encoding, &chunk.data)
            .ok_or_else(|| "the open chunk of a series does not decode".to_owned())?;
        let Some(record) = self.records.get_mut(id) else { return Ok(()) };
        if let Some(written) = record.last_t().filter(|last| chunk.mint <= *last) {
            if written < chunk.maxt {
                self.append_behind(id, written, chunk, rules, files);
            }
            return Ok(());
        }
        self.seal(id, files);
        let Some(record) = self.records.get_mut(id) else { return Ok(()) };
        let span = u32::try_from(chunk.maxt.saturating_sub(chunk.mint)).unwrap_or(u32::MAX);
        let is_plain = chunk.encoding == Encoding::Xor
            && (1..=255).contains(&chunk.samples)
            && chunk.data.len() < 8_000
            && chunk.maxt >= chunk.mint
            && span < u32::MAX;
        record.base_t = chunk.mint;
        if is_plain {
            open_chunk::put(&mut self.store.pool, record, &chunk.data);
            record.last_dt = span;
            record.cut_dt = span;
            record.samples = chunk.samples as u8;
        } else {
            record.base_t = chunk.maxt;
            record.last_dt = 0;
            let chunk = to_owned(as_ref(chunk));
            self.store.sides.change(&mut record.side, |side| side.waiting.push(chunk));
        }
        record.set(flags::HAS_LAST, true);
        remember_last(&mut self.store, record, last);
        Ok(())
    }

    /// Appends what a chunk, which decodes, has behind a time.
    #[cold]
    fn append_behind(
        &mut self,
        id: SeriesId,
        last: i64,
        chunk: &Chunk,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) {
        let (encoding, data) = (chunk.encoding, &chunk.data);
        let samples: Vec<(i64, i64, SampleValue)> = match encoding {
            Encoding::Xor | Encoding::Xor2 => {
                let mut out = Floats::default();
                let _ = decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut out);
                let starts = out.st.iter().copied().chain(std::iter::repeat(0));
                out.t
                    .iter()
                    .zip(starts)
                    .zip(&out.v)
                    .map(|((t, st), v)| (*t, st, SampleValue::Float(*v)))
                    .collect()
            }
            Encoding::Histogram | Encoding::HistogramSt => {
                let all = decode_histograms(encoding, data).unwrap_or_default();
                all.into_iter().map(|(t, st, h)| (t, st, SampleValue::Histogram(Box::new(h)))).collect()
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                let all = decode_float_histograms(encoding, data).unwrap_or_default();
                all.into_iter().map(|(t, st, h)| (t, st, SampleValue::FloatHistogram(Box::new(h)))).collect()
            }
        };
        for (t, st, value) in samples {
            if t > last {
                self.append(id, (t, st), value, 0, rules, files);
            }
        }
    }

    /// Copies of the series' chunks, in-order ones in order of time, then the out-of-order ones, oldest first, that may
    /// hold samples in `mint..=maxt`. `visible` is the reader's snapshot: what later commits appended is hidden.
    pub fn pieces(&self, id: SeriesId, mint: i64, maxt: i64, visible: u64, out: &mut Vec<Piece>) {
        self.in_order_pieces(id, mint, maxt, visible, out);
        let side = self.records.get(id).and_then(|record| self.store.side(record));
        if let Some(late) = side.and_then(|s| s.out_of_order.as_ref()) {
            for chunk in late.mapped.iter().filter(|c| c.mint <= maxt && c.maxt >= mint) {
                let (place, mint) = (chunk.place, chunk.mint);
                out.push(Piece::Mapped { place, mint, hidden: 0, out_of_order: true });
            }
            if late.samples.first().is_some_and(|s| s.t <= maxt)
                && late.samples.last().is_some_and(|s| s.t >= mint)
            {
                out.extend(
                    late.encode_to_read()
                        .into_iter()
                        .filter(|c| c.mint <= maxt && c.maxt >= mint)
                        .map(|chunk| Piece::Memory { chunk, hidden: 0, open: false, out_of_order: true }),
                );
            }
        }
    }

    /// As [`Shard::pieces`], without what came out of order or is kept beside the order.
    pub fn in_order_pieces(&self, id: SeriesId, mint: i64, maxt: i64, visible: u64, out: &mut Vec<Piece>) {
        let Some(record) = self.records.get(id) else { return };
        let store = &self.store;
        let side = store.side(record);
        let first = out.len();
        let mut to_hide = store.hidden.count(id, record, visible);
        let mut sealed = store.hidden.sealed(id);
        // From the end, as hidden samples are counted from there.
        let mut begins = None;
        let open = open_piece(store, record, side, &mut begins, &mut to_hide, (mint, maxt));
        out.extend(open);
        let is_open_last = begins.is_some();
        for (i, chunk) in side.map_or(&[][..], |s| &s.waiting).iter().rev().enumerate() {
            sealed.next();
            let hidden = to_hide.min(chunk.samples);
            to_hide -= hidden;
            begins = Some(chunk.mint);
            let open = i == 0 && !is_open_last;
            if chunk.mint <= maxt && (chunk.maxt >= mint || open) {
                out.push(Piece::Memory { chunk: chunk.clone(), hidden, open, out_of_order: false });
            }
        }
        let mut ends = match begins {
            Some(begins) => begins.saturating_sub(1),
            None => record.last_t().unwrap_or(i64::MAX),
        };
        for mapped in mapped_places::list(&store.places, record).iter().rev() {
            let hidden = match sealed.next() {
                Some(samples) => to_hide.min(samples),
                None => to_hide,
            };
            to_hide -= hidden;
            if mapped.begins() <= maxt && ends >= mint {
                let (place, mint) = (mapped.place, mapped.begins());
                out.push(Piece::Mapped { place, mint, hidden, out_of_order: false });
            }
            ends = mapped.before_ends();
            if ends < mint {
                break;
            }
        }
        out[first..].reverse();
    }

    /// Places of chunks in `mint..=maxt` that are kept beside the order although their samples came in it.
    pub fn misplaced_chunks(&self, id: SeriesId, mint: i64, maxt: i64, out: &mut Vec<ChunkPlace>) {
        let late = self.late(id).into_iter().flat_map(|late| &late.mapped);
        out.extend(late.filter(|c| c.misplaced && c.mint <= maxt && c.maxt >= mint).map(|c| c.place));
    }

    /// Places and times of the full out-of-order chunks up to a place, oldest first.
    pub fn late_chunks(&self, id: SeriesId, up_to: ChunkPlace, out: &mut Vec<(ChunkPlace, i64, i64)>) {
        let late = self.late(id).into_iter().flat_map(|late| &late.mapped);
        out.extend(late.filter(|c| !c.misplaced && c.place <= up_to).map(|c| (c.place, c.mint, c.maxt)));
    }

    /// Whether the series has anything out of order, or beside the order.
    pub fn has_late(&self, id: SeriesId) -> bool {
        self.late(id).is_some()
    }

    /// As [`Shard::map_out_of_order`]: place of the newest full out-of-order chunk, and times of them all; `None` without
    /// any. The second says whether nothing had to stay in memory.
    pub fn seal_out_of_order(
        &mut self,
        id: SeriesId,
        rules: &ChunkRules,
        files: &ChunkFiles,
    ) -> (Option<(ChunkPlace, i64, i64)>, bool) {
        let had_samples = self.late(id).is_some_and(|late| !late.samples.is_empty());
        let is_mapped = !self.map_out_of_order(id, rules, files).is_empty();
        let chunks = self.late(id).into_iter().flat_map(|late| &late.mapped).filter(|c| !c.misplaced);
        let all = chunks
            .map(|c| (c.place, c.mint, c.maxt))
            .reduce(|a, b| (a.0.max(b.0), a.1.min(b.1), a.2.max(b.2)));
        (all, is_mapped || !had_samples)
    }

    /// Earliest and latest sample of a series that came in order; `None` without any.
    pub fn in_order_times(&self, id: SeriesId) -> Option<(i64, i64)> {
        let record = self.records.get(id)?;
        let in_order = self.first_t(record, self.store.side(record)).zip(record.last_t());
        let late = self.late(id).into_iter().flat_map(|late| &late.mapped);
        let beside = late.filter(|c| c.misplaced).map(|c| (c.mint, c.maxt));
        in_order.into_iter().chain(beside).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Earliest and latest sample of a series that came out of order, or is kept beside the order; `None` without any.
    pub fn late_times(&self, id: SeriesId) -> Option<(i64, i64)> {
        let late = self.late(id)?;
        let buffer = late.samples.first().zip(late.samples.last()).map(|(a, b)| (a.t, b.t));
        let mapped = late.mapped.iter().map(|c| (c.mint, c.maxt));
        buffer.into_iter().chain(mapped).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn late(&self, id: SeriesId) -> Option<&crate::live::out_of_order::OutOfOrder> {
        self.store.side(self.records.get(id)?)?.out_of_order.as_deref()
    }

    /// The open chunk of a series, or what waits to be written of it, as a snapshot takes it; none if all its in-order
    /// samples are in files.
    pub fn open_chunk(&self, id: SeriesId) -> Option<Chunk> {
        let record = self.records.get(id)?;
        let side = self.store.side(record);
        match open_piece(&self.store, record, side, &mut None, &mut 0, (i64::MIN, i64::MAX)) {
            Some(Piece::Memory { chunk, .. }) => Some(chunk),
            _ => side.and_then(|s| s.waiting.last()).cloned(),
        }
    }

    /// Earliest and latest sample time of a series, in order or not; `None` without samples.
    pub fn times(&self, id: SeriesId) -> Option<(i64, i64)> {
        let record = self.records.get(id)?;
        let side = self.store.side(record);
        let in_order = self.first_t(record, side).zip(record.last_t());
        let late = side.and_then(|s| s.out_of_order.as_ref());
        let buffer = late.and_then(|o| Some((o.samples.first()?.t, o.samples.last()?.t)));
        let mapped = late.into_iter().flat_map(|o| o.mapped.iter().map(|c| (c.mint, c.maxt)));
        in_order.into_iter().chain(buffer).chain(mapped).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Earliest in-order sample.
    fn first_t(&self, record: &Record, side: Option<&Side>) -> Option<i64> {
        mapped_places::list(&self.store.places, record)
            .first()
            .map(|m| m.begins())
            .or_else(|| side?.waiting.first().map(|c| c.mint))
            .or_else(|| (record.samples > 0).then_some(record.base_t))
            .or_else(|| side?.growing.as_ref()?.open_start())
    }

    /// Seals the open chunk (a sample is needed to begin the next), and writes what waits for it.
    pub fn seal(&mut self, id: SeriesId, files: &ChunkFiles) {
        let Some(record) = self.records.get_mut(id) else { return };
        if record.samples > 0 {
            self.store.seal_plain(id, record, files);
        } else if record.has(flags::ASIDE) {
            self.store.seal_aside(id, record, files);
        } else {
            self.store.write_waiting(record, files);
        }
    }

    /// Live series of this shard, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.records.ids()
    }

    /// Forgets in-order chunks, full or open, that end before `mint`; the lowest file number that is still needed. A
    /// full chunk goes when the one behind it begins at `mint` or before. Those out of order are in no block of this
    /// range: they go by [`Shard::drop_out_of_order_up_to`]. In-order ones that are kept beside them go here.
    pub fn drop_chunks_before(&mut self, id: SeriesId, mint: i64) -> Option<u32> {
        let record = self.records.get_mut(id)?;
        let store = &mut self.store;
        if record.last_t().is_some_and(|last| last < mint) {
            store.drop_plain(record);
            mapped_places::clear(&mut store.places, record);
            record.set(flags::ASIDE, false);
            if record.side != NONE {
                store.sides.change(&mut record.side, |side| {
                    side.growing = None;
                    side.waiting = Vec::new();
                });
            }
        } else {
            let side = store.sides.get(record.side);
            let behind = side
                .and_then(|s| s.waiting.first())
                .map(|c| c.mint)
                .or_else(|| (record.samples > 0).then_some(record.base_t))
                .or_else(|| side?.growing.as_ref()?.open_start());
            let places = mapped_places::list(&store.places, record);
            let ends =
                places.iter().skip(1).map(|p| p.before_ends()).chain(behind.map(|b| b.saturating_sub(1)));
            let gone = ends.take_while(|end| *end < mint).count().min(places.len());
            if gone > 0 {
                mapped_places::replace(&mut store.places, record, &places[gone..]);
            }
            if side.is_some_and(|s| s.waiting.iter().any(|c| c.maxt < mint)) {
                store.sides.change(&mut record.side, |side| side.waiting.retain(|c| c.maxt >= mint));
            }
        }
        self.change_out_of_order(id, |late| late.drop_misplaced_before(mint));
        self.first_file(id)
    }

    /// The lowest number of a file that the series needs.
    pub fn first_file(&self, id: SeriesId) -> Option<u32> {
        let record = self.records.get(id)?;
        let late = self.store.side(record).and_then(|side| side.out_of_order.as_ref());
        let in_order = mapped_places::list(&self.store.places, record).first().map(|m| m.place.file);
        let late = late.into_iter().flat_map(|o| o.mapped.iter().map(|c| c.place.file));
        in_order.into_iter().chain(late).min()
    }

    /// Frees all that a series has.
    pub fn remove(&mut self, id: SeriesId) {
        if let Some(mut record) = self.records.remove(id) {
            self.store.drop_plain(&mut record);
            mapped_places::clear(&mut self.store.places, &mut record);
            self.store.sides.remove(&mut record.side);
        }
    }

    /// How often a full chunk could not be written; such chunks stay in memory and are tried again.
    pub fn write_failures(&self) -> u64 {
        self.store.write_failures
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let store = &self.store;
        self.records.bytes()
            + store.pool.bytes()
            + store.places.bytes()
            + store.sides.bytes()
            + store.hidden.bytes()
            + store.scratch.capacity()
    }
}

/// `memSeries.appendable`: whether a sample may come. `same` says whether it is the last sample, if it has its time.
///
/// What appenders that began at different times bring may be out of order although nothing in order is behind it. The log
/// has those samples too, and loading takes them as being in order: one that comes behind them in the log, but is older,
/// would be left out then. It goes out of order as well.
#[inline]
fn judge(
    record: &Record,
    t: i64,
    bounds: &Bounds,
    same: impl FnOnce() -> bool,
    last_late: impl FnOnce() -> Option<i64>,
) -> Result<Route, Refusal> {
    if t >= bounds.min_valid_ms {
        match record.last_t() {
            Some(last) if t == last => {
                return match record.has(flags::KNOWS_VALUE) {
                    false => Ok(Route::InOrder),
                    true if same() => Ok(Route::Same),
                    true => Err(Refusal::Duplicate),
                };
            }
            Some(last) if t < last => {}
            _ if record.side != NONE && last_late().is_some_and(|late| t <= late) => {
                return Ok(Route::OutOfOrder);
            }
            _ => return Ok(Route::InOrder),
        }
    }
    if bounds.window_ms > 0 {
        let oldest = bounds.head_max_ms.saturating_sub(bounds.window_ms);
        return if t >= oldest { Ok(Route::OutOfOrder) } else { Err(Refusal::TooOld) };
    }
    Err(if t < bounds.min_valid_ms { Refusal::OutOfBounds } else { Refusal::OutOfOrder })
}

/// The open chunk, if it may hold samples in the range; takes what it hides from `to_hide` and notes where it begins.
fn open_piece(
    store: &Store,
    record: &Record,
    side: Option<&Side>,
    begins: &mut Option<i64>,
    to_hide: &mut usize,
    (_, maxt): (i64, i64),
) -> Option<Piece> {
    let chunk = if record.samples > 0 {
        *begins = Some(record.base_t);
        let samples = usize::from(record.samples);
        if record.base_t > maxt {
            *to_hide -= samples.min(*to_hide);
            return None;
        }
        let mut data = Vec::with_capacity(2 + usize::from(record.bits).div_ceil(8));
        open_chunk::copy(&store.pool, record, &mut data);
        let maxt = record.base_t + i64::from(record.last_dt);
        Chunk { encoding: Encoding::Xor, data, mint: record.base_t, maxt, samples }
    } else {
        let chunk = side?.growing.as_ref()?.chunks().last()?;
        *begins = Some(chunk.mint);
        if chunk.mint > maxt {
            *to_hide -= chunk.samples.min(*to_hide);
            return None;
        }
        to_owned(chunk)
    };
    let hidden = chunk.samples.min(*to_hide);
    *to_hide -= hidden;
    Some(Piece::Memory { chunk, hidden, open: true, out_of_order: false })
}

/// The last sample is a float from now on.
fn forget_last(store: &mut Store, record: &mut Record) {
    record.set_kind(Kind::Float);
    if store.side(record).is_some_and(|side| side.last.is_some()) {
        store.sides.change(&mut record.side, |side| side.last = None);
    }
}

/// Notes what the last sample is.
fn remember_last(store: &mut Store, record: &mut Record, value: SampleValue) {
    let stale = match &value {
        SampleValue::Float(v) => is_stale(*v),
        SampleValue::Histogram(h) => h.is_stale(),
        SampleValue::FloatHistogram(h) => h.is_stale(),
    };
    record.set(flags::STALE, stale);
    record.set(flags::KNOWS_VALUE, true);
    match value {
        SampleValue::Float(v) => {
            forget_last(store, record);
            record.last_v = v.to_bits();
        }
        value => {
            let is_integer = matches!(value, SampleValue::Histogram(_));
            record.set_kind(if is_integer { Kind::Integer } else { Kind::FloatHistogram });
            store.sides.change(&mut record.side, |side| side.last = Some(value));
        }
    }
}
