//! What few series have: chunks that are no plain XOR, full chunks that could not be written, out-of-order samples.

use tsdbctl_chunk::{Chunk, SeriesAppender};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::{FloatHistogram, Histogram};

use crate::live::memory::NONE;
use crate::live::out_of_order::OutOfOrder;
use crate::live::shard::SampleValue;

/// Side state of one series.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// The open chunk, if it holds histograms or XOR2.
    pub growing: Option<Box<SeriesAppender>>,
    /// The last in-order sample, if it is a histogram.
    pub last: Option<SampleValue>,
    /// Full chunks, oldest first, that are not in a file yet.
    pub waiting: Vec<Chunk>,
    /// What came out of order.
    pub out_of_order: Option<Box<OutOfOrder>>,
    /// As last counted.
    bytes: usize,
}

impl Side {
    fn is_empty(&self) -> bool {
        self.growing.is_none()
            && self.last.is_none()
            && self.waiting.is_empty()
            && self.out_of_order.is_none()
    }

    fn count(&self) -> usize {
        size_of::<Self>()
            + self.growing.as_ref().map_or(0, |g| size_of::<SeriesAppender>() + g.heap_bytes())
            + self.last.as_ref().map_or(0, value_bytes)
            + self.waiting.capacity() * size_of::<Chunk>()
            + self.waiting.iter().map(|c| c.data.capacity()).sum::<usize>()
            + self.out_of_order.as_ref().map_or(0, |o| o.bytes())
    }
}

/// Bytes a value has on the heap; bounds that are shared count in full.
pub(super) fn value_bytes(value: &SampleValue) -> usize {
    let spans = size_of::<BucketSpan>();
    match value {
        SampleValue::Float(_) => 0,
        SampleValue::Histogram(h) => {
            size_of::<Histogram>()
                + (h.positive_spans.capacity() + h.negative_spans.capacity()) * spans
                + (h.positive_buckets.capacity() + h.negative_buckets.capacity()) * 8
                + h.custom_values.as_ref().map_or(0, |v| v.len() * 8)
        }
        SampleValue::FloatHistogram(h) => {
            size_of::<FloatHistogram>()
                + (h.positive_spans.capacity() + h.negative_spans.capacity()) * spans
                + (h.positive_buckets.capacity() + h.negative_buckets.capacity()) * 8
                + h.custom_values.as_ref().map_or(0, |v| v.len() * 8)
        }
    }
}

/// The side states of a shard.
#[derive(Debug, Default)]
pub(super) struct Sides {
    places: Vec<Option<Box<Side>>>,
    free: Vec<u32>,
    bytes: usize,
}

impl Sides {
    /// A series' side state; `at` is its record's `side`.
    pub fn get(&self, at: u32) -> Option<&Side> {
        self.places.get(at as usize)?.as_deref()
    }

    /// Changes a series' side state, which is made if there is none and goes if nothing is left in it.
    pub fn change<R>(&mut self, at: &mut u32, f: impl FnOnce(&mut Side) -> R) -> R {
        if *at == NONE {
            *at = self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                (self.places.len() - 1) as u32
            });
        }
        let place = &mut self.places[*at as usize];
        let side = place.get_or_insert_default();
        let result = f(side);
        let now = if side.is_empty() { 0 } else { side.count() };
        self.bytes = self.bytes + now - side.bytes;
        side.bytes = now;
        if now == 0 {
            *place = None;
            self.free.push(*at);
            *at = NONE;
            if self.free.len() == self.places.len() {
                (self.places, self.free) = (Vec::new(), Vec::new());
            }
        }
        result
    }

    /// Drops a series' side state.
    pub fn remove(&mut self, at: &mut u32) {
        if *at != NONE {
            self.change(at, |side| *side = Side { bytes: side.bytes, ..Side::default() });
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * 8 + self.free.capacity() * 4
    }
}
