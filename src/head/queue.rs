//! Floats in line for a worker, so that a series gets several at once: an append to a series that is not in the cache
//! costs five times the encoding.

/// A float sample. Many millions pass by, so it is kept short.
#[derive(Clone, Copy, Debug)]
pub struct FloatItem {
    /// The series' place at its worker.
    pub place: u32,
    /// [`FloatItem::V1`], [`FloatItem::NO_START`], or the index of the start timestamp behind these.
    pub start: u32,
    pub t: i64,
    pub v: f64,
}

impl FloatItem {
    /// From a record that can hold no start timestamps.
    pub const V1: u32 = 0;
    /// Without a start timestamp.
    pub const NO_START: u32 = 1;
    /// The first index.
    pub const START: u32 = 2;
}

/// Floats that wait per series, on the average.
const PER_SERIES: usize = 8;

/// The line.
#[derive(Debug)]
pub struct FloatQueue {
    /// Fewest and most that wait.
    limits: (usize, usize),
    items: Vec<FloatItem>,
    /// Their start timestamps.
    starts: Vec<i64>,
    /// How many of them each series has, in sorting where its next one goes.
    waiting: Vec<u32>,
    /// The order by series.
    sorted: Vec<u32>,
}

impl FloatQueue {
    /// An empty line that is full with as many as there are series, eight times, within `limits`.
    pub fn new(limits: (usize, usize)) -> Self {
        Self { limits, items: Vec::new(), starts: Vec::new(), waiting: Vec::new(), sorted: Vec::new() }
    }

    /// Puts floats in line; `starts` are their start timestamps.
    pub fn enqueue(&mut self, items: &[FloatItem], starts: &[i64]) {
        let before = self.starts.len() as u32;
        self.items.reserve(items.len());
        for item in items {
            let i = item.place as usize;
            if i >= self.waiting.len() {
                self.waiting.resize(i + 1, 0);
            }
            self.waiting[i] += 1;
            let start = if item.start >= FloatItem::START { item.start + before } else { item.start };
            self.items.push(FloatItem { start, ..*item });
        }
        self.starts.extend_from_slice(starts);
    }

    /// Whether floats of a series wait.
    pub fn has(&self, place: usize) -> bool {
        self.waiting.get(place).is_some_and(|n| *n > 0)
    }

    /// One more than the highest place met.
    pub fn places(&self) -> usize {
        self.waiting.len()
    }

    /// Whether it is time to drain.
    pub fn is_full(&self) -> bool {
        self.items.len() >= (self.waiting.len() * PER_SERIES).clamp(self.limits.0, self.limits.1)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.items.capacity() * (size_of::<FloatItem>() + 4)
            + self.starts.capacity() * 8
            + self.waiting.capacity() * 4
    }

    /// Gives all that wait to `each`, series by series, those of one series in the order in which they came: place;
    /// time, start timestamp, whether the record could hold one; value.
    pub fn drain(&mut self, mut each: impl FnMut(usize, (i64, i64, bool), f64)) {
        let mut next = 0;
        for count in &mut self.waiting {
            next += std::mem::replace(count, next);
        }
        self.sorted.resize(self.items.len(), 0);
        for (i, item) in self.items.iter().enumerate() {
            let position = &mut self.waiting[item.place as usize];
            self.sorted[*position as usize] = i as u32;
            *position += 1;
        }
        for i in &self.sorted {
            let item = &self.items[*i as usize];
            let start = item.start.checked_sub(FloatItem::START).map_or(0, |i| self.starts[i as usize]);
            each(item.place as usize, (item.t, start, item.start != FloatItem::V1), item.v);
        }
        self.items.clear();
        self.starts.clear();
        self.waiting.fill(0);
    }
}
