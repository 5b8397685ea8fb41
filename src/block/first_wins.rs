//! Chunks of one series from several sources as one list, where of samples at one time that of the first source is kept,
//! and those that are lost thereby are counted. For sources that have nothing to do with each other; what overlaps in one
//! directory is merged as upstream merges it (`chunk_merge`).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tsdbctl_chunk::{Encoding, SampleColumns, decode};
use tsdbctl_model::CounterResetHint;
use tsdbctl_storage::{ChunkBatch, encode_samples};

use crate::chunk_merge::BadChunk;

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

/// A sample of a source: its time, and where it is.
#[derive(Clone, Copy)]
struct Sample {
    t: i64,
    source: usize,
    is_histogram: bool,
    at: usize,
}

/// Merges chunks that overlap, sorted by source and time.
fn merge(
    input: &ChunkBatch,
    cluster: &[(usize, usize)],
    conflicts: &Conflicts,
    out: &mut ChunkBatch,
) -> Result<(), BadChunk> {
    let mut sources: Vec<SampleColumns> = Vec::new();
    let mut last = None;
    for (source, place) in cluster {
        if last != Some(*source) {
            sources.push(SampleColumns::default());
            last = Some(*source);
        }
        let bad = |reason: String| BadChunk { place: *place, reason };
        let chunk = input.get(*place);
        let encoding = Encoding::from_byte(chunk.encoding)
            .ok_or_else(|| bad(format!("chunks of encoding {} cannot be merged", chunk.encoding)))?;
        let Some(columns) = sources.last_mut() else { continue };
        decode(encoding, chunk.data, i64::MIN, i64::MAX, columns).map_err(|e| bad(e.to_string()))?;
    }
    let mut all: Vec<Sample> = Vec::new();
    for (source, columns) in sources.iter().enumerate() {
        let sample =
            |is_histogram: bool| move |(at, t): (usize, &i64)| Sample { t: *t, source, is_histogram, at };
        all.extend(columns.floats.t.iter().enumerate().map(sample(false)));
        all.extend(columns.histograms.t.iter().enumerate().map(sample(true)));
    }
    all.sort_by_key(|s| (s.t, s.source));
    let mut merged = SampleColumns::default();
    let mut before: Option<Sample> = None;
    for sample in all {
        let columns = &sources[sample.source];
        if let Some(kept) = before.filter(|b| b.t == sample.t) {
            let count = if is_same(&sources, kept, sample) { &conflicts.same } else { &conflicts.different };
            count.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if sample.is_histogram {
            let h = &columns.histograms;
            let mut histogram = Arc::clone(&h.h[sample.at]);
            if before.is_none_or(|b| b.source != sample.source)
                && histogram.counter_reset_hint == CounterResetHint::NotCounterReset
            {
                // That was said of the sample before it in its own source.
                Arc::make_mut(&mut histogram).counter_reset_hint = CounterResetHint::Unknown;
            }
            merged.histograms.push(sample.t, histogram, h.integer[sample.at], h.start_timestamp(sample.at));
        } else {
            let f = &columns.floats;
            merged.floats.push(sample.t, f.v[sample.at], f.start_timestamp(sample.at));
        }
        before = Some(sample);
    }
    let place = cluster.first().map_or(0, |c| c.1);
    encode_samples(&merged, out).map_err(|e| BadChunk { place, reason: e.to_string() })
}

fn is_same(sources: &[SampleColumns], a: Sample, b: Sample) -> bool {
    let (x, y) = (&sources[a.source], &sources[b.source]);
    match (a.is_histogram, b.is_histogram) {
        (false, false) => x.floats.v[a.at].to_bits() == y.floats.v[b.at].to_bits(),
        (true, true) => {
            x.histograms.integer[a.at] == y.histograms.integer[b.at]
                && x.histograms.h[a.at].equals(&y.histograms.h[b.at])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tsdbctl_model::Histogram;
    use tsdbctl_platform::random::Generator;
    use tsdbctl_storage::EncodedChunk;

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
