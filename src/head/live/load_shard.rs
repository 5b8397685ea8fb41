//! A worker of loading: some of the shards for itself, and what comes for their series, in order.

use std::sync::atomic::{AtomicUsize, Ordering};

use tsdbctl_chunk::Chunk;

use crate::live::chunk_files::ChunkFiles;
use crate::live::index::SeriesId;
use crate::live::shard::{Applied, AttachedChunk, ChunkRules, SampleValue, Shard};
use crate::queue::{FloatItem, FloatQueue};

/// Fewest and most floats that wait at a worker.
const QUEUE_ITEMS: (usize, usize) = (1 << 12, 1 << 19);

/// A series that was met.
#[derive(Debug)]
pub struct MetSeries {
    /// Its number.
    pub id: SeriesId,
    /// Its reference if it is new.
    pub series_ref: Option<u64>,
    /// How many of the chunks that come with it are its.
    pub chunks: u32,
    /// The open chunk that a snapshot had.
    pub open: Option<Chunk>,
}

/// A histogram, or a sample out of order.
#[derive(Debug)]
pub struct ValueItem {
    pub id: SeriesId,
    pub t: i64,
    pub st: i64,
    pub value: SampleValue,
}

/// What a worker is to do, in order.
#[derive(Debug)]
pub enum Work {
    /// Series and the chunks of all of them.
    Series(Vec<MetSeries>, Vec<AttachedChunk>),
    /// In-order floats and their start timestamps.
    Floats { items: Vec<FloatItem>, starts: Vec<i64> },
    /// In-order histograms.
    Histograms(Vec<ValueItem>),
    /// Out-of-order samples.
    OutOfOrder(Vec<ValueItem>),
    /// The out-of-order samples of this series so far are in a chunk.
    Marked(SeriesId),
    /// The same, but the chunks are not there.
    Unmarked(SeriesId),
    /// The series was deleted.
    Remove(SeriesId),
    /// Memory is short: all open chunks go to files.
    Seal,
}

/// Which worker has a series, and where: workers share out the runs of 256 numbers, so that the shards of a run are one
/// worker's as long as the number of shards is a multiple of that of workers.
#[inline]
pub fn locate(id: SeriesId, workers: u32) -> (usize, u32) {
    let run = id.0 >> 8;
    ((run % workers) as usize, (run / workers) << 8 | id.0 & 255)
}

/// Times of the earliest and the latest sample; of none at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times(pub i64, pub i64);

impl Default for Times {
    fn default() -> Self {
        Self(i64::MAX, i64::MIN)
    }
}

impl Times {
    /// Extends them.
    #[inline]
    pub fn see(&mut self, first: i64, last: i64) {
        *self = Self(self.0.min(first), self.1.max(last));
    }
}

/// Some of the shards.
#[derive(Debug)]
struct Shards {
    /// Those with the numbers `first`, `first + step`…
    list: Vec<Shard>,
    count: u32,
    step: u32,
}

impl Shards {
    #[inline]
    fn of(&mut self, id: SeriesId) -> &mut Shard {
        let number = (id.0 >> 8) % self.count;
        &mut self.list[(number / self.step) as usize]
    }
}

/// A worker.
#[derive(Debug)]
pub struct Worker<'a> {
    number: u32,
    shards: Shards,
    queue: FloatQueue,
    rules: &'a ChunkRules,
    files: &'a ChunkFiles,
    /// Bytes held, for who watches the limit.
    held: &'a AtomicUsize,
    /// Of in-order samples.
    pub times: Times,
    /// Of the others.
    pub late_times: Times,
    /// Samples that are in the head now and came from the log.
    pub samples: u64,
    /// Samples of one series.
    run: Vec<(i64, i64, f64)>,
    /// Why a snapshot's chunks could not be used.
    pub refused: Vec<String>,
}

impl<'a> Worker<'a> {
    /// Worker `number` of `workers`, for `shards` shards, a multiple of `workers`.
    pub fn new(
        (number, workers, shards): (u32, u32, u32),
        rules: &'a ChunkRules,
        files: &'a ChunkFiles,
        held: &'a AtomicUsize,
    ) -> Self {
        let list = (number..shards).step_by(workers as usize).map(|n| Shard::new(n, shards)).collect();
        Self {
            number,
            shards: Shards { list, count: shards, step: workers },
            queue: FloatQueue::new(QUEUE_ITEMS),
            rules,
            files,
            held,
            times: Times::default(),
            late_times: Times::default(),
            samples: 0,
            run: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Does one piece of work.
    pub fn run(&mut self, work: Work) {
        match work {
            Work::Series(series, chunks) => {
                let mut rest = &chunks[..];
                for met in series {
                    let (mine, others) = rest.split_at(met.chunks as usize);
                    rest = others;
                    self.series(met, mine);
                }
            }
            Work::Floats { items, starts } => {
                self.queue.enqueue(&items, &starts);
                if self.queue.is_full() {
                    self.drain();
                }
            }
            Work::Histograms(items) => items.into_iter().for_each(|item| self.value(item)),
            Work::OutOfOrder(items) => items.into_iter().for_each(|item| self.out_of_order(item)),
            Work::Marked(id) => {
                self.settle(id);
                self.shards.of(id).clear_out_of_order(id);
            }
            Work::Unmarked(id) => {
                self.settle(id);
                let shard = self.shards.of(id);
                shard.forget_mapped_out_of_order(id, 1, self.rules, self.files);
                shard.map_out_of_order(id, self.rules, self.files);
            }
            Work::Remove(id) => {
                self.settle(id);
                self.shards.of(id).remove(id);
            }
            Work::Seal => {
                self.drain();
                for shard in &mut self.shards.list {
                    let ids: Vec<SeriesId> = shard.ids().collect();
                    ids.into_iter().for_each(|id| shard.seal(id, self.files));
                }
                self.measure();
            }
        }
    }

    /// Ends the work: the shards, and the series that have no samples, which are removed from them.
    pub fn finish(&mut self) -> (Vec<Shard>, Vec<(SeriesId, u64)>) {
        self.drain();
        self.queue = FloatQueue::new(QUEUE_ITEMS);
        let mut empty = Vec::new();
        for shard in &mut self.shards.list {
            let start = empty.len();
            let reference = |id: SeriesId| shard.record(id).map_or(0, |r| r.series_ref);
            let ids = shard.ids().filter(|id| shard.times(*id).is_none());
            empty.extend(ids.map(|id| (id, reference(id))));
            empty[start..].iter().for_each(|(id, _)| shard.remove(*id));
        }
        (std::mem::take(&mut self.shards.list), empty)
    }

    fn measure(&self) {
        let bytes = self.shards.list.iter().map(Shard::bytes).sum::<usize>() + self.queue.bytes();
        self.held.store(bytes, Ordering::Relaxed);
    }

    /// Appends what waits if something of this series does.
    fn settle(&mut self, id: SeriesId) {
        if self.queue.has(locate(id, self.shards.step).1 as usize) {
            self.drain();
        }
    }

    fn series(&mut self, met: MetSeries, chunks: &[AttachedChunk]) {
        let MetSeries { id, series_ref, open, .. } = met;
        self.settle(id);
        let shard = self.shards.of(id);
        if let Some(series_ref) = series_ref {
            shard.create(id, series_ref);
        }
        if chunks.is_empty() && open.is_none() {
            return;
        }
        if chunks.iter().any(|c| !c.out_of_order) {
            shard.seal(id, self.files);
        }
        // What a second reference of the series has, and is not behind what the first one has, readers merge.
        shard.attach(id, chunks);
        for chunk in chunks {
            if chunk.out_of_order { &mut self.late_times } else { &mut self.times }
                .see(chunk.mint, chunk.maxt);
        }
        let last = shard.last_t(id);
        // The chunk of a snapshot may have been completed and written after all.
        let Some(open) = open.filter(|open| last.is_none_or(|last| last < open.maxt)) else { return };
        match shard.restore_open(id, &open, self.rules, self.files) {
            Ok(()) => self.times.see(open.mint, open.maxt),
            Err(reason) => self.refused.push(reason),
        }
    }

    fn value(&mut self, item: ValueItem) {
        self.settle(item.id);
        let shard = self.shards.of(item.id);
        if shard.last_t(item.id).is_some_and(|last| item.t <= last) {
            return;
        }
        if shard.append(item.id, (item.t, item.st), item.value, 0, self.rules, self.files) == Applied::Stored
        {
            self.times.see(item.t, item.t);
            self.samples += 1;
        }
    }

    fn out_of_order(&mut self, item: ValueItem) {
        let shard = self.shards.of(item.id);
        shard.forget_mapped_out_of_order(item.id, self.rules.out_of_order_cap, self.rules, self.files);
        shard.make_room_out_of_order(item.id, self.rules, self.files);
        if matches!(shard.insert_out_of_order(item.id, (item.t, item.st), item.value), Applied::OutOfOrder) {
            self.late_times.see(item.t, item.t);
            self.samples += 1;
        }
    }

    /// Appends the floats that wait, series by series.
    fn drain(&mut self) {
        let mut queue = std::mem::replace(&mut self.queue, FloatQueue::new(QUEUE_ITEMS));
        let mut current = None;
        queue.drain(|place, (t, st, _), v| {
            if current != Some(place) {
                self.append_run(current);
                current = Some(place);
            }
            self.run.push((t, st, v));
        });
        self.append_run(current);
        self.queue = queue;
        self.measure();
    }

    /// Appends the collected floats of the series at a place.
    fn append_run(&mut self, place: Option<usize>) {
        let Some(place) = place else { return };
        let run = (place as u32 >> 8) * self.shards.step + self.number;
        let id = SeriesId(run << 8 | place as u32 & 255);
        let shard = self.shards.of(id);
        let mut last = shard.last_t(id).unwrap_or(i64::MIN);
        let mut any = last != i64::MIN;
        for (t, st, v) in self.run.drain(..) {
            if t <= last && any {
                continue;
            }
            if shard.append_float(id, (t, st), v, 0, self.rules, self.files) == Applied::Stored {
                (last, any) = (t, true);
                self.times.see(t, t);
                self.samples += 1;
            }
        }
    }
}
