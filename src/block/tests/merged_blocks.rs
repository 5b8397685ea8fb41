//! Merged sources against a plain model: all samples decoded, by series and time.

use std::collections::{BTreeMap, BTreeSet};

use tsdbctl_block::MergedSource;
use tsdbctl_chunk::{
    AppenderOptions, Encoding, Floats, SeriesAppender, decode_float_histograms, decode_floats_fast,
    decode_histograms,
};
use tsdbctl_model::histogram::{BucketSpan, CounterResetHint};
use tsdbctl_model::labels::Labels;
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, ChunkSource, EncodedChunk, StorageError};

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const OTHER_NAN: f64 = f64::from_bits(0x7ff8_0000_dead_beef);

/// A sample as far as it can be seen: start timestamp, and value as text.
type Sample = (i64, String);
type Samples = BTreeMap<i64, Sample>;

fn xorshift(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % below
}

fn hash(a: u64, b: u64) -> u64 {
    let mut s = a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.wrapping_mul(0xC2B2_AE3D_27D4_EB4F) | 1;
    xorshift(&mut s, 10);
    xorshift(&mut s, u64::MAX)
}

/// Buckets that are not empty, by index: chunks may add empty ones.
fn buckets(spans: &[BucketSpan], counts: &[f64]) -> BTreeMap<i32, u64> {
    let (mut at, mut i, mut out) = (0, 0, BTreeMap::new());
    for span in spans {
        at += span.offset;
        for _ in 0..span.length {
            if counts[i] != 0.0 {
                out.insert(at, counts[i].to_bits());
            }
            (at, i) = (at + 1, i + 1);
        }
    }
    out
}

fn histogram_text(kind: &str, h: &FloatHistogram) -> String {
    let gauge = h.counter_reset_hint == CounterResetHint::Gauge;
    if h.sum.to_bits() == STALE.to_bits() {
        return format!("{kind} stale");
    }
    format!(
        "{kind} gauge {gauge} schema {} count {} zero {} sum {:x} {:?} {:?}",
        h.schema,
        h.count,
        h.zero_count,
        h.sum.to_bits(),
        buckets(&h.positive_spans, &h.positive_buckets),
        buckets(&h.negative_spans, &h.negative_buckets),
    )
}

fn is_histogram(encoding: Encoding) -> bool {
    encoding.is_histogram()
}

fn decode(chunk: EncodedChunk<'_>) -> Vec<(i64, Sample, Option<FloatHistogram>)> {
    let encoding = Encoding::from_byte(chunk.encoding).unwrap();
    if !is_histogram(encoding) {
        let mut f = Floats::default();
        decode_floats_fast(encoding, chunk.data, i64::MIN, i64::MAX, &mut f).unwrap();
        let sample = |i: usize| (f.t[i], (f.start_timestamp(i), format!("{:x}", f.v[i].to_bits())), None);
        return (0..f.len()).map(sample).collect();
    }
    if matches!(encoding, Encoding::Histogram | Encoding::HistogramSt) {
        let all = decode_histograms(encoding, chunk.data).unwrap();
        return all
            .into_iter()
            .map(|(t, st, h)| (t, (st, histogram_text("integers", &h.to_float())), Some(h.to_float())))
            .collect();
    }
    let all = decode_float_histograms(encoding, chunk.data).unwrap();
    all.into_iter().map(|(t, st, h)| (t, (st, histogram_text("floats", &h)), Some(h))).collect()
}

/// All of a source: the chunks by series.
fn read_all(source: &mut dyn ChunkSource) -> BTreeMap<String, ChunkBatch> {
    let mut symbols = Vec::new();
    source
        .symbols(&mut |s| {
            symbols.push(s.to_string());
            Ok::<(), StorageError>(())
        })
        .unwrap();
    assert!(symbols.is_sorted_by(|a, b| a < b), "symbols are sorted, each once");
    let mut out = BTreeMap::new();
    let mut last: Option<Labels> = None;
    while source.next().unwrap() {
        let text = |i: u32| symbols[i as usize].clone();
        let labels = Labels::from_pairs(source.labels().iter().map(|(n, v)| (text(*n), text(*v))));
        assert!(last.as_ref().is_none_or(|l| *l < labels), "series are sorted, each once");
        last = Some(labels.clone());
        let mut batch = ChunkBatch::default();
        source.chunks(&mut batch).unwrap();
        assert!(out.insert(labels.to_string(), batch).is_none());
    }
    out
}

fn histogram(series: u64, t: i64, salt: u64) -> Histogram {
    let era = t.div_euclid(600_000) as u64;
    let mut s = hash(series, era) | 1;
    let first = 1 + xorshift(&mut s, 4) as usize;
    let mut spans = vec![BucketSpan { offset: xorshift(&mut s, 5) as i32 - 2, length: first as u32 }];
    let second = xorshift(&mut s, 3) as usize;
    if second > 0 {
        spans.push(BucketSpan { offset: 1 + xorshift(&mut s, 3) as i32, length: second as u32 });
    }
    // Falls back to nothing every 40 minutes.
    let seen = t.rem_euclid(2_400_000) / 15_000 + salt as i64;
    let counts: Vec<i64> = (0..(first + second) as i64).map(|i| 1 + i + seen).collect();
    let before = [0].into_iter().chain(counts.iter().copied());
    Histogram {
        counter_reset_hint: if series.is_multiple_of(3) {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
        },
        schema: (hash(series, era / 3) % 2) as i32,
        zero_threshold: 0.001,
        zero_count: seen as u64,
        count: counts.iter().sum::<i64>() as u64 + seen as u64,
        sum: seen as f64 * 1.5,
        positive_buckets: counts.iter().zip(before).map(|(c, before)| c - before).collect(),
        positive_spans: spans,
        ..Histogram::default()
    }
}

fn append(a: &mut SeriesAppender, series: u64, t: i64, salt: u64) {
    let h = hash(series, t as u64);
    let st = if h.is_multiple_of(5) { 0 } else { t - 7000 - (h % 3) as i64 };
    let kind = series % 6;
    // Kinds may differ between sources at the same time, and change over time.
    let is_float = match kind {
        0 | 1 => true,
        2 => t.div_euclid(300_000) % 2 == 0,
        3 => salt % 2 == 1,
        _ => false,
    };
    if is_float {
        let v = match h % 23 {
            0 => STALE,
            1 => OTHER_NAN,
            2 => f64::INFINITY,
            _ => (h % 1000) as f64 * 0.25 + salt as f64,
        };
        return a.append_float(t, v, st).unwrap();
    }
    let mut histogram = histogram(series, t, salt);
    if h.is_multiple_of(29) {
        histogram = Histogram { sum: STALE, ..Histogram::default() };
    }
    if kind == 4 {
        a.append_float_histogram(t, &histogram.to_float(), st).unwrap();
    } else {
        a.append_histogram(t, &histogram, st).unwrap();
    }
}

fn source_of(seed: &mut u64, number: u64, start: i64, conflicts: bool) -> Vec<(Labels, ChunkBatch)> {
    let mut all = Vec::new();
    for series in 0..8 {
        if xorshift(seed, 4) == 0 {
            continue;
        }
        let options = AppenderOptions {
            samples_per_chunk: [10, 30, 120][xorshift(seed, 3) as usize],
            xor2: xorshift(seed, 3) == 0,
            st: true,
            histograms_st: xorshift(seed, 3) == 0,
            ..AppenderOptions::default()
        };
        let mut a = SeriesAppender::new(options);
        let sparse = 1 + xorshift(seed, 3);
        let mut t = start + xorshift(seed, 120) as i64 * 15_000;
        for _ in 0..xorshift(seed, 240) {
            // Some come a little later than others.
            t += 15_000 * (1 + xorshift(seed, sparse) as i64);
            let t = if series == 1 { t + number as i64 % 2 } else { t };
            let salt = if conflicts && xorshift(seed, 3) == 0 { number } else { 0 };
            append(&mut a, series, t, salt);
        }
        let mut batch = ChunkBatch::default();
        for c in a.chunks() {
            batch.push(EncodedChunk { encoding: c.encoding as u8, data: c.data, mint: c.mint, maxt: c.maxt });
        }
        let labels = Labels::from_pairs([
            ("__name__", "m".to_string()),
            ("series", series.to_string()),
            ("of", "x".repeat(number as usize % 2 * 3 + 1)),
        ]);
        all.push((
            if series < 5 { Labels::from_pairs([("series", series.to_string())]) } else { labels },
            batch,
        ));
    }
    all
}

/// The lesser of all bucket counts must not fall where a chunk says that there was no reset.
fn check_hints(series: &str, histograms: &[(i64, FloatHistogram)]) {
    for pair in histograms.windows(2) {
        let ((_, before), (t, h)) = (&pair[0], &pair[1]);
        if h.counter_reset_hint == CounterResetHint::NotCounterReset {
            let sparse = |h: &FloatHistogram| buckets(&h.positive_spans, &h.positive_buckets);
            let (old, new) = (sparse(before), sparse(h));
            let fell = old
                .iter()
                .any(|(i, n)| f64::from_bits(new.get(i).copied().unwrap_or(0)) < f64::from_bits(*n));
            assert!(!fell && before.schema == h.schema, "{series} at {t}: a reset is hidden");
        }
    }
}

#[test]
fn merged_sources_have_the_samples_of_all_of_them() {
    let (mut merged_chunks, mut copied_chunks, mut contested) = (0, 0, 0);
    for case in 0..40u64 {
        let mut seed = hash(case, 99) | 1;
        let base = if case.is_multiple_of(4) { -3_600_000 } else { 1_700_000_000_000 };
        let count = 2 + xorshift(&mut seed, 4);
        let inputs: Vec<Vec<(Labels, ChunkBatch)>> = (0..count)
            .map(|n| {
                let start = base + xorshift(&mut seed, 4) as i64 * 900_000;
                source_of(&mut seed, n, start, case.is_multiple_of(2))
            })
            .collect();
        let sources =
            inputs.iter().map(|i| Box::new(LiteralSource::new(i.clone())) as Box<dyn ChunkSource>).collect();
        let merged = read_all(&mut MergedSource::new(sources).unwrap());

        let mut candidates: BTreeMap<String, BTreeMap<i64, BTreeSet<Sample>>> = BTreeMap::new();
        let mut by_series: BTreeMap<String, Vec<EncodedChunk<'_>>> = BTreeMap::new();
        for (labels, batch) in inputs.iter().flatten() {
            let of_series = candidates.entry(labels.to_string()).or_default();
            by_series.entry(labels.to_string()).or_default().extend(batch.iter());
            for chunk in batch.iter() {
                decode(chunk).into_iter().for_each(|(t, sample, _)| {
                    of_series.entry(t).or_default().insert(sample);
                });
            }
        }
        assert_eq!(merged.keys().collect::<Vec<_>>(), candidates.keys().collect::<Vec<_>>(), "case {case}");
        for (series, batch) in &merged {
            let mut got: Samples = BTreeMap::new();
            let mut last = i64::MIN;
            let mut histograms = Vec::new();
            for chunk in batch.iter() {
                assert!(chunk.mint > last || last == i64::MIN, "case {case} {series}: chunks overlap");
                let samples = decode(chunk);
                assert_eq!(samples.first().map(|s| s.0), Some(chunk.mint));
                assert_eq!(samples.last().map(|s| s.0), Some(chunk.maxt));
                last = chunk.maxt;
                if by_series[series].contains(&chunk) {
                    copied_chunks += 1;
                } else {
                    assert!(samples.len() <= 120);
                    merged_chunks += 1;
                }
                for (t, sample, histogram) in samples {
                    got.insert(t, sample);
                    match histogram {
                        Some(h)
                            if h.counter_reset_hint != CounterResetHint::Gauge
                                && h.sum.to_bits() != STALE.to_bits() =>
                        {
                            histograms.push((t, h))
                        }
                        _ => histograms.clear(),
                    }
                    check_hints(series, &histograms[histograms.len().saturating_sub(2)..]);
                }
            }
            let want = &candidates[series];
            assert_eq!(
                got.keys().collect::<Vec<_>>(),
                want.keys().collect::<Vec<_>>(),
                "case {case} {series}"
            );
            for (t, sample) in &got {
                assert!(want[t].contains(sample), "case {case} {series} at {t}: {sample:?} of {:?}", want[t]);
                contested += usize::from(want[t].len() > 1);
            }
            // What overlaps nothing is there as it was.
            let chunks = &by_series[series];
            for (i, chunk) in chunks.iter().enumerate() {
                let alone = chunks
                    .iter()
                    .enumerate()
                    .all(|(j, c)| i == j || c == chunk || c.maxt < chunk.mint || chunk.maxt < c.mint);
                assert!(!alone || batch.iter().any(|c| c == *chunk), "case {case} {series}: not copied");
            }
        }
    }
    assert!(
        merged_chunks > 100 && copied_chunks > 100 && contested > 100,
        "{merged_chunks} {copied_chunks} {contested}"
    );
}

/// A series of floats with a value per source, in one chunk.
fn floats(times: &[i64], value: f64) -> Vec<(Labels, ChunkBatch)> {
    let mut a = SeriesAppender::new(AppenderOptions::default());
    times.iter().for_each(|t| a.append_float(*t, value, 0).unwrap());
    let mut batch = ChunkBatch::default();
    a.chunks().for_each(|c| {
        batch.push(EncodedChunk { encoding: c.encoding as u8, data: c.data, mint: c.mint, maxt: c.maxt });
    });
    vec![(Labels::from_pairs([("a", "b")]), batch)]
}

#[test]
fn which_of_conflicting_samples_is_kept_is_as_upstream_has_it() {
    let range = |from: i64, to: i64| (from..=to).collect::<Vec<i64>>();
    let odd = |from: i64, to: i64| (from..=to).filter(|t| t % 2 != 0).collect::<Vec<i64>>();
    for (what, sources, want) in [
        ("the first of two that begin and end together", vec![range(1, 6), range(1, 6)], "000000"),
        ("the second from where it begins", vec![range(1, 6), range(4, 9)], "000111111"),
        ("whatever their order", vec![range(4, 9), range(1, 6)], "111000000"),
        ("the shorter of two that begin together", vec![range(1, 6), range(1, 3)], "111000"),
        ("the inner one", vec![range(1, 9), range(4, 6)], "000111000"),
        ("each time the one that was not read just before", vec![range(1, 9), odd(3, 9)], "001010101"),
        (
            "of three that begin and end together a mixture",
            vec![range(1, 4), range(1, 4), range(1, 4)],
            "2102",
        ),
        ("of three in steps a mixture", vec![range(1, 6), range(3, 8), range(5, 9)], "001110222"),
    ] {
        let sources: Vec<Box<dyn ChunkSource>> = sources
            .iter()
            .enumerate()
            .map(|(i, times)| Box::new(LiteralSource::new(floats(times, i as f64))) as Box<dyn ChunkSource>)
            .collect();
        let merged = read_all(&mut MergedSource::new(sources).unwrap());
        let mut got = String::new();
        for chunk in merged["{a=\"b\"}"].iter() {
            for (_, (_, bits), _) in decode(chunk) {
                got += &f64::from_bits(u64::from_str_radix(&bits, 16).unwrap()).to_string();
            }
        }
        assert_eq!(got, want, "{what}");
    }
}

#[test]
fn equal_chunks_are_kept_once_and_as_they_are() {
    let one = floats(&(0..50).collect::<Vec<_>>(), 1.5);
    let sources = (0..3).map(|_| Box::new(LiteralSource::new(one.clone())) as Box<dyn ChunkSource>).collect();
    let merged = read_all(&mut MergedSource::new(sources).unwrap());
    let chunks: Vec<EncodedChunk<'_>> = merged["{a=\"b\"}"].iter().collect();
    assert_eq!(chunks, one[0].1.iter().collect::<Vec<_>>());
}

#[test]
fn merged_chunks_have_120_samples_and_xor2_where_one_had() {
    let with = |xor2, times: Vec<i64>, st: i64| {
        let mut a = SeriesAppender::new(AppenderOptions {
            xor2,
            st: xor2,
            samples_per_chunk: 1000,
            ..AppenderOptions::default()
        });
        times.iter().for_each(|t| a.append_float(*t, 1.0, st).unwrap());
        let mut batch = ChunkBatch::default();
        a.chunks().for_each(|c| {
            batch.push(EncodedChunk { encoding: c.encoding as u8, data: c.data, mint: c.mint, maxt: c.maxt });
        });
        Box::new(LiteralSource::new(vec![(Labels::from_pairs([("a", "b")]), batch)])) as Box<dyn ChunkSource>
    };
    let times = |from: i64| (0..150).map(|i| i * 20 + from).collect::<Vec<i64>>();
    let (xor, xor2) = (Encoding::Xor as u8, Encoding::Xor2 as u8);
    for (sources, want) in [
        (vec![with(false, times(0), 0), with(false, times(7), 0)], vec![(xor, 120), (xor, 120), (xor, 60)]),
        (vec![with(true, times(0), 0), with(false, times(7), 0)], vec![(xor2, 120), (xor2, 120), (xor2, 60)]),
        (vec![with(true, times(0), 5), with(false, times(7), 0)], vec![(xor2, 120), (xor2, 120), (xor2, 60)]),
    ] {
        let merged = read_all(&mut MergedSource::new(sources).unwrap());
        let got: Vec<(u8, usize)> =
            merged["{a=\"b\"}"].iter().map(|c| (c.encoding, decode(c).len())).collect();
        assert_eq!(got, want);
    }
}

#[test]
fn nothing_and_one_source_are_sources_too() {
    assert!(read_all(&mut MergedSource::new(Vec::new()).unwrap()).is_empty());
    let one = floats(&[1, 2], 1.0);
    let mut single = MergedSource::new(vec![Box::new(LiteralSource::new(one.clone()))]).unwrap();
    let read = read_all(&mut single);
    assert_eq!(read["{a=\"b\"}"].iter().collect::<Vec<_>>(), one[0].1.iter().collect::<Vec<_>>());
}

#[test]
fn overlapping_chunks_that_cannot_be_merged_are_told() {
    let aggregate = |data: &'static [u8]| {
        let mut batch = ChunkBatch::default();
        batch.push(EncodedChunk { encoding: 0xff, data, mint: 0, maxt: 10 });
        Box::new(LiteralSource::new(vec![(Labels::from_pairs([("a", "b")]), batch)])) as Box<dyn ChunkSource>
    };
    let mut source = MergedSource::new(vec![aggregate(&[1]), aggregate(&[2])]).unwrap();
    assert!(source.next().unwrap());
    let error = source.chunks(&mut ChunkBatch::default()).unwrap_err().to_string();
    assert!(error.contains("encoding 255") && error.contains("begins at 0 ms"), "{error}");
    let mut source = MergedSource::new(vec![aggregate(&[1]), aggregate(&[1])]).unwrap();
    assert!(source.next().unwrap());
    let mut out = ChunkBatch::default();
    source.chunks(&mut out).unwrap();
    assert_eq!(out.len(), 1);
}

#[test]
fn damaged_chunks_are_errors_and_never_more() {
    let (mut failed, mut merged) = (0, 0);
    for case in 0..300u64 {
        let mut seed = hash(case, 5) | 1;
        let sources: Vec<Box<dyn ChunkSource>> = (0..2)
            .map(|n| {
                let mut series = source_of(&mut seed, n, 1_700_000_000_000, false);
                series.truncate(3);
                for (_, batch) in &mut series {
                    let whole = std::mem::take(batch);
                    for chunk in whole.iter() {
                        let mut data = chunk.data.to_vec();
                        for _ in 0..xorshift(&mut seed, 3) {
                            let at = xorshift(&mut seed, data.len() as u64) as usize;
                            data[at] ^= 1 << xorshift(&mut seed, 8);
                        }
                        if xorshift(&mut seed, 10) == 0 {
                            data.truncate(xorshift(&mut seed, data.len() as u64) as usize);
                        }
                        batch.push(EncodedChunk { data: &data, ..chunk });
                    }
                }
                Box::new(LiteralSource::new(series)) as Box<dyn ChunkSource>
            })
            .collect();
        let mut source = MergedSource::new(sources).unwrap();
        while source.next().unwrap() {
            match source.chunks(&mut ChunkBatch::default()) {
                Ok(()) => merged += 1,
                Err(_) => failed += 1,
            }
        }
    }
    assert!(failed > 50 && merged > 50, "{failed} {merged}");
}
