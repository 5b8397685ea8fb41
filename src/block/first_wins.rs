//! Chunks of one series from several sources as one list, where of samples at one time that of the first source is kept,
//! and those that are lost thereby are counted. For sources that have nothing to do with each other; what overlaps in one
//! directory is merged as upstream merges it (`chunk_merge`).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use tsdbctl_chunk::{ChunkError, Encoding, Floats};
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use crate::chunk_merge::{BadChunk, Sink, Stream};

/// Samples that were left out because an earlier source has one at the same time.
#[derive(Debug, Default)]
pub struct Conflicts {
    same: AtomicU64,
    different: AtomicU64,
}

impl Conflicts {
    /// Those with the same value.
    pub fn same(&self) -> u64 {
        self.same.load(Ordering::Relaxed)
    }

    /// Those with another value.
    pub fn different(&self) -> u64 {
        self.different.load(Ordering::Relaxed)
    }
}

/// Appends the chunks of `lists`, ranges of `input` in the order of their sources, to `out`. Chunks that are alike are
/// kept once, those that overlap are merged, others are copied.
pub(crate) fn join(
    input: &ChunkBatch,
    lists: &[Range<usize>],
    conflicts: &Conflicts,
    out: &mut ChunkBatch,
) -> Result<(), BadChunk> {
    // Source and place, by time.
    let mut order: Vec<(usize, usize)> = Vec::new();
    for (source, list) in lists.iter().enumerate() {
        order.extend(list.clone().map(|place| (source, place)));
    }
    order.sort_by_key(|(source, place)| (input.get(*place).mint, *source));
    let mut at = 0;
    while let Some((_, first)) = order.get(at).copied() {
        let mut maxt = input.get(first).maxt;
        let mut end = at + 1;
        while let Some((_, next)) = order.get(end).filter(|(_, next)| input.get(*next).mint <= maxt) {
            maxt = maxt.max(input.get(*next).maxt);
            end += 1;
        }
        let cluster = &mut order[at..end];
        let is_copy = |(_, place): &(usize, usize)| input.get(*place) == input.get(first);
        if cluster.iter().all(is_copy) {
            let chunk = input.get(first);
            let samples = Encoding::from_byte(chunk.encoding)
                .and_then(|e| tsdbctl_chunk::sample_count(e, chunk.data).ok())
                .unwrap_or(0);
            conflicts.same.fetch_add((samples * (cluster.len() - 1)) as u64, Ordering::Relaxed);
            out.push(chunk);
        } else {
            cluster.sort_by_key(|(source, place)| (*source, input.get(*place).mint));
            merge(input, cluster, conflicts, out)?;
        }
        at = end;
    }
    Ok(())
}

/// What is left of the chunks of a source, in order of time.
struct Source<'a> {
    chunks: Vec<(usize, EncodedChunk<'a>)>,
    /// Number of the chunk that is read.
    at: usize,
    stream: Stream<'a>,
}

impl Source<'_> {
    /// The chunk that is read, in the input.
    fn place(&self) -> usize {
        self.chunks.get(self.at).or(self.chunks.last()).map_or(0, |c| c.0)
    }

    fn bad(&self) -> impl Fn(ChunkError) -> BadChunk {
        let place = self.place();
        move |e| BadChunk { place, reason: e.to_string() }
    }

    /// Goes to the next sample, decoded; false behind the last.
    fn advance(&mut self, buffers: &mut Vec<Floats>) -> Result<bool, BadChunk> {
        while !self.stream.advance(buffers).map_err(self.bad())? {
            self.at += 1;
            let Some((place, chunk)) = self.chunks.get(self.at) else { return Ok(false) };
            self.stream = stream(*place, *chunk)?;
        }
        self.stream.decode(buffers).map_err(self.bad())?;
        Ok(true)
    }
}

fn stream(place: usize, chunk: EncodedChunk<'_>) -> Result<Stream<'_>, BadChunk> {
    match Encoding::from_byte(chunk.encoding) {
        Some(encoding) => Ok(Stream::Fresh(encoding, chunk)),
        None => {
            Err(BadChunk { place, reason: format!("chunks of encoding {} cannot be merged", chunk.encoding) })
        }
    }
}

/// Merges chunks that overlap, sorted by source and time.
fn merge(
    input: &ChunkBatch,
    cluster: &[(usize, usize)],
    conflicts: &Conflicts,
    out: &mut ChunkBatch,
) -> Result<(), BadChunk> {
    let mut buffers = Vec::new();
    let mut sources: Vec<Source<'_>> = Vec::new();
    for list in cluster.chunk_by(|a, b| a.0 == b.0) {
        let chunks: Vec<_> = list.iter().map(|(_, place)| (*place, input.get(*place))).collect();
        let Some((place, first)) = chunks.first() else { continue };
        let mut source = Source { stream: stream(*place, *first)?, chunks, at: 0 };
        if source.advance(&mut buffers)? {
            sources.push(source);
        }
    }
    let is_xor2 = |(_, place): &(usize, usize)| input.get(*place).encoding == Encoding::Xor2 as u8;
    let mut sink = Sink::new(out, cluster.iter().any(is_xor2));
    // Time of the sample before, and which chunk's source gave it.
    let mut before: Option<(i64, usize)> = None;
    while let Some(kept) = (0..sources.len()).min_by_key(|i| (sources[*i].stream.t(), *i)) {
        let (t, bad) = (sources[kept].stream.t(), sources[kept].bad());
        if before.is_some_and(|(last, _)| t <= last) {
            return Err(BadChunk { place: sources[kept].place(), reason: format!("{t} ms is out of order") });
        }
        let first_chunk = sources[kept].chunks[0].0;
        let is_consecutive = before.is_some_and(|(_, source)| source == first_chunk);
        sink.sample(&sources[kept].stream, is_consecutive).map_err(bad)?;
        before = Some((t, first_chunk));
        for i in (kept..sources.len()).rev() {
            if sources[i].stream.t() != t {
                continue;
            }
            if i > kept {
                let is_same = is_same(&sources[kept].stream, &sources[i].stream);
                let count = if is_same { &conflicts.same } else { &conflicts.different };
                count.fetch_add(1, Ordering::Relaxed);
            }
            if !sources[i].advance(&mut buffers)? {
                sources.remove(i);
            }
        }
    }
    sink.flush();
    Ok(())
}

fn is_same(a: &Stream<'_>, b: &Stream<'_>) -> bool {
    match (a, b) {
        (Stream::Floats(x, i), Stream::Floats(y, j)) => x.v[*i].to_bits() == y.v[*j].to_bits(),
        (Stream::Histograms(x), Stream::Histograms(y)) => x.histogram().equals(&y.histogram()),
        (Stream::FloatHistograms(x), Stream::FloatHistograms(y)) => {
            x.float_histogram().equals(&y.float_histogram())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tsdbctl_chunk::{AppenderOptions, HistogramReader, SampleColumns, SeriesAppender, decode};
    use tsdbctl_model::Histogram;
    use tsdbctl_model::histogram::CounterResetHint;
    use tsdbctl_platform::random::Generator;
    use tsdbctl_storage::encode_samples;

    use super::*;
    use crate::chunk_merge::is_in_order;

    /// A value: a float, or a histogram with that count and sum.
    type Value = (bool, u64);

    fn encoded(samples: &BTreeMap<i64, Value>) -> ChunkBatch {
        let mut out = ChunkBatch::default();
        let mut columns = SampleColumns::default();
        for (t, (is_histogram, v)) in samples {
            if *is_histogram {
                let h = Histogram { count: *v, zero_count: *v, sum: *v as f64, ..Histogram::default() };
                columns.histograms.push(*t, Arc::new(h.to_float()), true, 0);
            } else {
                columns.floats.push(*t, *v as f64, 0);
            }
        }
        encode_samples(&columns, &mut out).unwrap();
        out
    }

    fn decoded(batch: &ChunkBatch) -> BTreeMap<i64, Value> {
        let mut out = BTreeMap::new();
        for chunk in batch.iter() {
            let mut columns = SampleColumns::default();
            let encoding = Encoding::from_byte(chunk.encoding).unwrap();
            decode(encoding, chunk.data, i64::MIN, i64::MAX, &mut columns).unwrap();
            let (f, h) = (&columns.floats, &columns.histograms);
            out.extend(f.t.iter().zip(&f.v).map(|(t, v)| (*t, (false, *v as u64))));
            out.extend(h.t.iter().zip(&h.h).map(|(t, h)| (*t, (true, h.count as u64))));
        }
        out
    }

    #[test]
    fn the_first_source_s_sample_is_kept_and_others_are_counted() {
        let (mut overlapping, mut copied) = (0, 0);
        for seed in 0..300 {
            let mut random = Generator::new(seed);
            let mut sources: Vec<BTreeMap<i64, Value>> = Vec::new();
            for _ in 0..2 + random.below(2) {
                if seed % 5 == 0 && !sources.is_empty() {
                    // A copy of what is there.
                    sources.push(sources[0].clone());
                    continue;
                }
                let start = random.below(400) as i64;
                let count = 1 + random.below(200) as i64;
                let value = |random: &mut Generator| (random.one_in(9), random.below(3));
                sources.push((start..start + count).map(|t| (t * 30_000, value(&mut random))).collect());
            }
            let mut want: BTreeMap<i64, Value> = BTreeMap::new();
            let (mut same, mut different) = (0, 0);
            for source in &sources {
                for (t, v) in source {
                    match want.get(t) {
                        None => drop(want.insert(*t, *v)),
                        Some(kept) if kept == v => same += 1,
                        Some(_) => different += 1,
                    }
                }
            }
            let mut input = ChunkBatch::default();
            let mut lists = Vec::new();
            for source in &sources {
                let from = input.len();
                encoded(source).iter().for_each(|c| input.push(c));
                lists.push(from..input.len());
            }
            let (conflicts, mut out) = (Conflicts::default(), ChunkBatch::default());
            join(&input, &lists, &conflicts, &mut out).unwrap();
            assert_eq!(decoded(&out), want, "{seed}");
            assert!(is_in_order(&out, 0), "{seed}");
            assert_eq!((conflicts.same(), conflicts.different()), (same, different), "{seed}");
            overlapping += different;
            copied += u64::from(seed % 5 == 0 && different == 0);
        }
        assert!(overlapping > 1000 && copied > 20, "{overlapping} {copied}");
    }

    fn appended(options: AppenderOptions, append: impl FnOnce(&mut SeriesAppender)) -> ChunkBatch {
        let mut appender = SeriesAppender::new(options);
        append(&mut appender);
        let mut out = ChunkBatch::default();
        for c in appender.chunks() {
            out.push(EncodedChunk { encoding: c.encoding as u8, data: c.data, mint: c.mint, maxt: c.maxt });
        }
        out
    }

    #[test]
    fn counts_beyond_what_a_float_holds_stay_as_they_are() {
        let big = (1u64 << 60) + 1;
        let histogram = |n: u64| Histogram { count: big + n, zero_count: big + n, ..Histogram::default() };
        let source = |times: &[i64], add: u64| {
            appended(AppenderOptions::default(), |a| {
                times.iter().for_each(|t| a.append_histogram(*t, &histogram(*t as u64 + add), 0).unwrap());
            })
        };
        let mut input = source(&[1, 3, 5, 6], 0);
        let first = input.len();
        source(&[2, 3, 4, 5], 0).iter().for_each(|c| input.push(c));
        let second = input.len();
        // A difference that floats do not show.
        source(&[5], 1).iter().for_each(|c| input.push(c));
        let (conflicts, mut out) = (Conflicts::default(), ChunkBatch::default());
        let lists = [0..first, first..second, second..input.len()];
        join(&input, &lists, &conflicts, &mut out).unwrap();
        let mut got = Vec::new();
        for chunk in out.iter() {
            let mut reader =
                HistogramReader::new(Encoding::from_byte(chunk.encoding).unwrap(), chunk.data).unwrap();
            while reader.advance().unwrap() {
                got.push((reader.t(), reader.histogram().count, reader.histogram().counter_reset_hint));
            }
        }
        let counts: Vec<(i64, u64)> = got.iter().map(|g| (g.0, g.1)).collect();
        assert_eq!(counts, (1..7).map(|t| (t, big + t as u64)).collect::<Vec<_>>());
        assert!(got[1..].iter().all(|g| g.2 == CounterResetHint::NotCounterReset), "{got:?}");
        assert_eq!((conflicts.same(), conflicts.different()), (2, 1));
    }

    #[test]
    fn an_encoding_that_one_of_them_has_is_kept() {
        let xor2 = AppenderOptions { xor2: true, ..AppenderOptions::default() };
        let floats = |times: [i64; 3], options| {
            appended(options, |a| times.iter().for_each(|t| a.append_float(*t, *t as f64, 0).unwrap()))
        };
        for (second, want) in [(xor2, Encoding::Xor2), (AppenderOptions::default(), Encoding::Xor)] {
            let mut input = floats([1, 3, 5], AppenderOptions::default());
            floats([2, 3, 4], second).iter().for_each(|c| input.push(c));
            let mut out = ChunkBatch::default();
            join(&input, &[0..1, 1..2], &Conflicts::default(), &mut out).unwrap();
            assert_eq!(out.iter().map(|c| c.encoding).collect::<Vec<_>>(), [want as u8]);
            assert_eq!(decoded(&out).len(), 5);
        }
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let mut input = encoded(&[(0, (false, 1)), (5, (false, 2))].into());
        input.push(EncodedChunk { encoding: 1, data: &[0, 2, 1], mint: 3, maxt: 9 });
        let error =
            join(&input, &[0..1, 1..2], &Conflicts::default(), &mut ChunkBatch::default()).unwrap_err();
        assert_eq!(error.place, 1);
        let mut input = encoded(&[(0, (false, 1)), (5, (false, 2))].into());
        input.push(EncodedChunk { encoding: 0xff, data: &[0], mint: 3, maxt: 9 });
        let error =
            join(&input, &[0..1, 1..2], &Conflicts::default(), &mut ChunkBatch::default()).unwrap_err();
        assert!(error.reason.contains("encoding 255"), "{}", error.reason);
    }
}
