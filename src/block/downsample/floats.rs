//! Floats: five XOR chunks of each run of windows.

use tsdbctl_chunk::{
    Aggregate, AggregateChunk, ChunkError, CounterJoin, Encoding, Floats, XorEncoder, decode_counter,
};
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use super::{RAW_INTERVAL_MS, batch_end, chunk_count, decode_floats, push, window_end};

/// The aggregates of a window, and the counter from the start of the chunk on.
#[derive(Clone, Copy, Debug)]
struct Window {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    counter: f64,
    /// The sample before; none at the start of the chunk.
    last: Option<f64>,
}

impl Window {
    fn new() -> Self {
        let mut window =
            Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, counter: 0.0, last: None };
        window.reset();
        window
    }

    fn reset(&mut self) {
        self.count = 0;
        self.sum = 0.0;
        self.min = f64::INFINITY;
        self.max = f64::NEG_INFINITY;
    }

    #[inline]
    fn add(&mut self, v: f64) {
        self.counter = match self.last {
            Some(last) if v < last => self.counter + v,
            Some(last) => self.counter + (v - last),
            None => v,
        };
        self.last = Some(v);
        self.sum += v;
        self.count += 1;
        if v < self.min {
            self.min = v;
        }
        if v > self.max {
            self.max = v;
        }
    }
}

/// Calls `each` with the end of every window that has samples and its aggregates; answers the last end.
fn windows(
    times: &[i64],
    values: &[f64],
    resolution_ms: i64,
    mut each: impl FnMut(i64, &Window) -> Result<(), ChunkError>,
) -> Result<Option<i64>, ChunkError> {
    let Some(last) = times.last() else {
        return Ok(None);
    };
    let mut window = Window::new();
    let mut end = None;
    for (t, v) in times.iter().zip(values) {
        if end.is_none_or(|end| *t > end) {
            if let Some(end) = end {
                each(end, &window)?;
            }
            window.reset();
            end = Some(window_end(*t, resolution_ms).min(*last));
        }
        window.add(*v);
    }
    if let Some(end) = end {
        each(end, &window)?;
    }
    Ok(end)
}

/// Buffers that are used again for each series.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The raw samples of a series.
    pub raw: Floats,
    /// Samples of a batch, or of one aggregate.
    values: Floats,
    stored: Floats,
}

impl Scratch {
    /// Downsamples raw samples.
    pub fn downsample(
        &mut self,
        samples: &Floats,
        resolution_ms: i64,
        out: &mut ChunkBatch,
    ) -> Result<(), ChunkError> {
        let (Some(first), Some(last)) = (samples.t.first(), samples.t.last()) else {
            return Ok(());
        };
        let count = chunk_count(*first, *last, RAW_INTERVAL_MS, resolution_ms, samples.len());
        let batch = samples.len() / count + 1;
        let mut start = 0;
        while start < samples.len() {
            let end = start + batch_end(&samples.t[start..], batch, resolution_ms);
            let values = &mut self.values;
            values.clear();
            for i in start..end {
                if !samples.v[i].is_nan() {
                    values.t.push(samples.t[i]);
                    values.v.push(samples.v[i]);
                }
            }
            start = end;
            raw_batch(values, resolution_ms, out)?;
        }
        Ok(())
    }

    /// Makes one chunk of chunks of shorter windows.
    pub fn merge(
        &mut self,
        part: &[(EncodedChunk<'_>, AggregateChunk<'_>)],
        resolution_ms: i64,
        out: &mut ChunkBatch,
    ) -> Result<(), ChunkError> {
        let (mut mint, mut maxt) = (i64::MAX, i64::MIN);
        let mut encoders: [XorEncoder; 5] = Default::default();
        for aggregate in [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max] {
            self.values.clear();
            for (_, chunk) in part {
                if let Some((encoding, data)) = chunk.get(aggregate) {
                    decode_floats(encoding, data, &mut self.values)?;
                }
            }
            let encoder = &mut encoders[aggregate as usize];
            windows(&self.values.t, &self.values.v, resolution_ms, |end, window| {
                (mint, maxt) = (mint.min(end), maxt.max(end));
                encoder.append(
                    end,
                    match aggregate {
                        Aggregate::Min => window.min,
                        Aggregate::Max => window.max,
                        _ => window.sum,
                    },
                )
            })?;
        }

        self.values.clear();
        let mut join = CounterJoin::default();
        for (_, chunk) in part {
            if let Some((encoding, data)) = chunk.get(Aggregate::Counter) {
                self.stored.clear();
                decode_counter(encoding, data, &mut self.stored)?;
                join.add(&self.stored, &mut self.values);
            }
        }
        let encoder = &mut encoders[Aggregate::Counter as usize];
        if let (Some(t), Some(v)) = (self.values.t.first(), self.values.v.first()) {
            encoder.append(*t, *v)?;
        }
        let last = windows(&self.values.t, &self.values.v, resolution_ms, |end, window| {
            (mint, maxt) = (mint.min(end), maxt.max(end));
            encoder.append(end, window.counter)
        })?;
        if let (Some(t), Some(v)) = (last, join.last_value()) {
            encoder.append(t, v)?;
        }
        if mint <= maxt {
            push_all(&encoders, mint, maxt, out);
        }
        Ok(())
    }
}

/// One chunk of samples that are numbers.
fn raw_batch(samples: &Floats, resolution_ms: i64, out: &mut ChunkBatch) -> Result<(), ChunkError> {
    let (Some(first), Some(last)) = (samples.v.first(), samples.v.last()) else {
        return Ok(());
    };
    let mut encoders: [XorEncoder; 5] = Default::default();
    let mut mint = None;
    encoders[Aggregate::Counter as usize].append(samples.t[0], *first)?;
    let end = windows(&samples.t, &samples.v, resolution_ms, |end, window| {
        mint.get_or_insert(end);
        let Window { count, sum, min, max, counter, .. } = *window;
        for (encoder, v) in encoders.iter_mut().zip([count as f64, sum, min, max, counter]) {
            encoder.append(end, v)?;
        }
        Ok(())
    })?;
    if let (Some(mint), Some(maxt)) = (mint, end) {
        encoders[Aggregate::Counter as usize].append(maxt, *last)?;
        push_all(&encoders, mint, maxt, out);
    }
    Ok(())
}

fn push_all(encoders: &[XorEncoder; 5], mint: i64, maxt: i64, out: &mut ChunkBatch) {
    let parts = Aggregate::ALL.map(|aggregate| {
        let encoder = &encoders[aggregate as usize];
        let data = if encoder.samples() == 0 { &[][..] } else { encoder.data() };
        (aggregate, Encoding::Xor, data)
    });
    push(out, &parts, mint, maxt);
}
