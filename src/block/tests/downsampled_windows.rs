//! Windows against a model that knows nothing of chunks: count, sum, minimum, maximum and counter of random series.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;

use tsdbctl_block::DownsampledSource;
use tsdbctl_block::downsample::{DownsampleNotes, FIVE_MINUTES_MS, ONE_HOUR_MS};
use tsdbctl_chunk::{
    Aggregate, AggregateChunk, AppenderOptions, CounterJoin, Floats, SeriesAppender, decode_counter,
    decode_float_histograms, decode_floats_fast,
};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Labels};
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, ChunkSource, EncodedChunk};

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn batch(appender: SeriesAppender) -> ChunkBatch {
    let mut out = ChunkBatch::default();
    for c in appender.into_chunks() {
        out.push(EncodedChunk { encoding: c.encoding as u8, data: &c.data, mint: c.mint, maxt: c.maxt });
    }
    out
}

fn source(chunks: ChunkBatch) -> Box<dyn ChunkSource> {
    Box::new(LiteralSource::new(vec![(Labels::from_pairs([("__name__", "m")]), chunks)]))
}

/// The chunks of the only series.
fn chunks(mut source: DownsampledSource) -> (ChunkBatch, DownsampleNotes) {
    let mut out = ChunkBatch::default();
    assert!(source.next().unwrap());
    source.chunks(&mut out).unwrap();
    (out, source.notes())
}

/// Raw samples to windows of five minutes, these to windows of an hour, and these put together from short blocks.
fn both(raw: ChunkBatch) -> Vec<(i64, ChunkBatch)> {
    let five = chunks(DownsampledSource::new(source(raw), FIVE_MINUTES_MS, true)).0;
    let again = chunks(DownsampledSource::rechunked(source(five.clone()), FIVE_MINUTES_MS)).0;
    let hour = chunks(DownsampledSource::new(source(five.clone()), ONE_HOUR_MS, false)).0;
    let hour_again = chunks(DownsampledSource::new(source(again.clone()), ONE_HOUR_MS, false)).0;
    vec![(FIVE_MINUTES_MS, five), (FIVE_MINUTES_MS, again), (ONE_HOUR_MS, hour), (ONE_HOUR_MS, hour_again)]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
}

/// Adds values to windows of the plain grid.
fn add(windows: &mut BTreeMap<i64, Window>, t: i64, resolution: i64, of: Window) {
    let w = windows.entry(t.div_euclid(resolution)).or_insert(Window {
        count: 0.0,
        sum: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    });
    w.count += of.count;
    w.sum += of.sum;
    w.min = w.min.min(of.min);
    w.max = w.max.max(of.max);
}

fn floats(chunk: &AggregateChunk<'_>, aggregate: Aggregate) -> Floats {
    let mut out = Floats::default();
    let (encoding, data) = chunk.get(aggregate).unwrap();
    if aggregate == Aggregate::Counter {
        decode_counter(encoding, data, &mut out).unwrap();
    } else {
        decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut out).unwrap();
    }
    out
}

#[test]
fn floats_are_what_a_plain_count_says() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let step = [1_000, 15_000, 60_000, 300_000, 1_234_567][dice.roll(5) as usize];
        // Some begin before 1970.
        let mut t = [-40_000_000, 0, 1_700_000_000_123][dice.roll(3) as usize];
        let mut v = 0.0;
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        let mut samples = Vec::new();
        for _ in 0..3000 + dice.roll(5000) {
            t += step + dice.roll(7) as i64;
            if dice.roll(400) == 0 {
                t += 7_000_000;
            }
            match dice.roll(100) {
                0 => v = dice.roll(5) as f64,
                1 => {
                    appender.append_float(t, stale_nan(), 0).unwrap();
                    continue;
                }
                2 => {
                    appender.append_float(t, f64::NAN, 0).unwrap();
                    continue;
                }
                n => v += n as f64,
            }
            appender.append_float(t, v, 0).unwrap();
            samples.push((t, v));
        }
        let increase: f64 =
            samples.windows(2).map(|w| if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 }).sum();
        for (n, (resolution, made)) in both(batch(appender)).into_iter().enumerate() {
            let mut want = BTreeMap::new();
            for (t, v) in &samples {
                add(&mut want, *t, resolution, Window { count: 1.0, sum: *v, min: *v, max: *v });
            }
            let mut got = BTreeMap::new();
            let (mut join, mut counter) = (CounterJoin::default(), Floats::default());
            let mut last = i64::MIN;
            for c in made.iter() {
                let parts = AggregateChunk::parse(c.data).unwrap();
                let [count, sum, min, max] =
                    [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max]
                        .map(|a| floats(&parts, a));
                assert_eq!((count.t[0], count.t[count.len() - 1]), (c.mint, c.maxt));
                assert!(last < c.mint && count.len() < 1000);
                assert_eq!((&count.t, &count.t, &count.t), (&sum.t, &min.t, &max.t));
                last = c.maxt;
                for i in 0..count.len() {
                    let of = Window { count: count.v[i], sum: sum.v[i], min: min.v[i], max: max.v[i] };
                    add(&mut got, count.t[i], resolution, of);
                }
                join.add(&floats(&parts, Aggregate::Counter), &mut counter);
            }
            assert_eq!(got, want, "seed {seed}, way {n}");
            assert_eq!(counter.v[counter.len() - 1] - counter.v[0], increase, "seed {seed}, way {n}");
            assert_eq!(join.last_value(), samples.last().map(|s| s.1));
        }
    }
}

#[test]
fn extremes_of_infinities_are_infinities() {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    for (t, v) in [(0, f64::INFINITY), (300_000, f64::NEG_INFINITY), (600_000, 1.0)] {
        appender.append_float(t, v, 0).unwrap();
    }
    let (five, _) = chunks(DownsampledSource::new(source(batch(appender)), FIVE_MINUTES_MS, true));
    let parts = AggregateChunk::parse(five.get(0).data).unwrap();
    assert_eq!(floats(&parts, Aggregate::Min).v, [f64::INFINITY, f64::NEG_INFINITY, 1.0]);
    assert_eq!(floats(&parts, Aggregate::Max).v, [f64::INFINITY, f64::NEG_INFINITY, 1.0]);
}

/// A histogram of three buckets in a row.
fn histogram(schema: i32, zero_threshold: f64, offset: i32, counts: [f64; 3]) -> FloatHistogram {
    FloatHistogram {
        schema,
        zero_threshold,
        zero_count: 1.0,
        count: counts.iter().sum::<f64>() + 1.0,
        sum: counts.iter().sum::<f64>() * 0.5,
        positive_spans: vec![BucketSpan { offset, length: 3 }],
        positive_buckets: counts.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], counts: [f64; 3]) -> FloatHistogram {
    FloatHistogram {
        custom_values: Some(bounds.into()),
        zero_count: 0.0,
        count: counts.iter().sum(),
        ..histogram(-53, 0.0, 0, counts)
    }
}

/// Windows, count of samples, sum of all sums' counts.
fn totals(made: &ChunkBatch) -> (usize, f64, f64) {
    let mut out = (0, 0.0, 0.0);
    let mut last = i64::MIN;
    for c in made.iter() {
        let parts = AggregateChunk::parse(c.data).unwrap();
        assert!(parts.is_histogram());
        let count = floats(&parts, Aggregate::Count);
        let of = |a| {
            let (encoding, data) = parts.get(a).unwrap();
            decode_float_histograms(encoding, data).unwrap()
        };
        let (sums, counters) = (of(Aggregate::Sum), of(Aggregate::Counter));
        assert!(last < c.mint && (count.t[0], *count.t.last().unwrap()) == (c.mint, c.maxt));
        last = c.maxt;
        assert!(count.t.iter().eq(sums.iter().map(|s| &s.0)), "{:?} {sums:?}", count.t);
        assert!(count.t.iter().eq(counters.iter().map(|s| &s.0)));
        assert!(sums.iter().all(|(_, _, h)| h.counter_reset_hint == CounterResetHint::Gauge));
        out.0 += count.len();
        out.1 += count.v.iter().sum::<f64>();
        out.2 += sums.iter().map(|(_, _, h)| h.count).sum::<f64>();
    }
    out
}

#[test]
fn no_histogram_is_lost_whatever_its_buckets() {
    for seed in 0..40 {
        let mut dice = Dice(seed + 1000);
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        let mut counts = [0.0; 3];
        let (mut schema, mut threshold, mut bounds, mut offset) = (2, 0.001, None::<Vec<f64>>, 1);
        let gauge = dice.roll(4) == 0;
        let (mut samples, mut sum, mut custom_seen) = (0.0, 0.0, false);
        let mut t = 1_700_000_000_000;
        for _ in 0..1500 {
            t += 45_000;
            match dice.roll(120) {
                0 => counts = [0.0; 3],
                1 => schema = dice.roll(5) as i32,
                2 => threshold = [0.0, 0.001, 0.01, 0.5][dice.roll(4) as usize],
                3 => offset = dice.roll(6) as i32,
                4 => {
                    bounds = [None, Some(vec![1.0, 2.0]), Some(vec![1.0, 3.0])][dice.roll(3) as usize].clone()
                }
                5 => {
                    let h = FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() };
                    appender.append_float_histogram(t, &h, 0).unwrap();
                    continue;
                }
                _ => {}
            }
            counts[dice.roll(3) as usize] += dice.roll(9) as f64;
            let mut h = match &bounds {
                Some(bounds) => custom(bounds, counts),
                None => histogram(schema, threshold, offset, counts),
            };
            custom_seen |= bounds.is_some();
            if dice.roll(50) == 0 {
                h.sum = f64::NAN;
            }
            if gauge {
                h.counter_reset_hint = CounterResetHint::Gauge;
            }
            appender.append_float_histogram(t, &h, 0).unwrap();
            samples += 1.0;
            sum += h.count;
        }
        let raw = batch(appender);
        let (_, notes) = chunks(DownsampledSource::new(source(raw.clone()), FIVE_MINUTES_MS, true));
        assert_eq!(notes.custom_bucket_series, u64::from(custom_seen));
        for (n, (_, made)) in both(raw).into_iter().enumerate() {
            let (windows, got_samples, got_sum) = totals(&made);
            assert!(windows > 0);
            assert_eq!((got_samples, got_sum), (samples, sum), "seed {seed}, way {n}");
        }
    }
}

#[test]
fn floats_and_histograms_of_one_series_are_kept_apart() {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    for i in 0..400 {
        let t = i * 60_000;
        if (i / 100) % 2 == 0 {
            appender.append_float(t, i as f64, 0).unwrap();
        } else {
            appender.append_float_histogram(t, &histogram(1, 0.0, 0, [1.0, i as f64, 2.0]), 0).unwrap();
        }
    }
    for (_, made) in both(batch(appender)) {
        let kinds: Vec<bool> =
            made.iter().map(|c| AggregateChunk::parse(c.data).unwrap().is_histogram()).collect();
        assert_eq!(kinds, [false, true, false, true]);
        let count: f64 = made
            .iter()
            .map(|c| floats(&AggregateChunk::parse(c.data).unwrap(), Aggregate::Count).v.iter().sum::<f64>())
            .sum();
        assert_eq!(count, 400.0);
    }
}

#[test]
fn a_series_without_numbers_is_left_out() {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    for t in 0..10 {
        appender.append_float(t, stale_nan(), 0).unwrap();
    }
    let (made, notes) = chunks(DownsampledSource::new(source(batch(appender)), FIVE_MINUTES_MS, true));
    assert_eq!((made.len(), notes.empty_series), (0, 1));
}

#[test]
fn damaged_chunks_are_errors() {
    let mut appender = SeriesAppender::new(AppenderOptions::default());
    for i in 0..300 {
        appender.append_float(i * 60_000, i as f64, 0).unwrap();
    }
    let (five, _) = chunks(DownsampledSource::new(source(batch(appender)), FIVE_MINUTES_MS, true));
    let chunk = five.get(0);
    let mut failed = 0;
    for bit in 0..chunk.data.len() * 8 {
        let mut data = chunk.data.to_vec();
        data[bit / 8] ^= 1 << (bit % 8);
        for data in [&data[..], &chunk.data[..bit / 8]] {
            let mut one = ChunkBatch::default();
            one.push(EncodedChunk { data, ..chunk });
            let mut source = DownsampledSource::new(source(one), ONE_HOUR_MS, false);
            source.next().unwrap();
            failed += usize::from(source.chunks(&mut ChunkBatch::default()).is_err());
        }
    }
    assert!(failed > chunk.data.len() * 8, "{failed}");
}
