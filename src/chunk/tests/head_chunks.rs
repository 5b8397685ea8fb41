//! Series of random samples are cut and encoded as Prometheus 3.14's head does it.
//!
//! `data/head-chunks-3.14.txt` holds, for each seed, how many chunks and samples upstream's `memSeries` made of the same
//! samples, and a hash over encodings, times and bytes of the chunks.

use tsdbctl_chunk::{AppenderOptions, ChunkRef, SeriesAppender};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram};

const UPSTREAM: &str = include_str!("data/head-chunks-3.14.txt");

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Spans of bucket indices, now and then split or with an empty one in between.
fn spans(r: &mut Random, indices: &[i32]) -> Vec<BucketSpan> {
    let mut out: Vec<BucketSpan> = Vec::new();
    let mut last = 0;
    for (i, index) in indices.iter().enumerate() {
        if i == 0 {
            out.push(BucketSpan { offset: *index, length: 1 });
        } else if *index == last + 1 && r.below(12) != 0 {
            out.last_mut().unwrap().length += 1;
        } else {
            let offset = index - last - 1;
            if r.below(20) == 0 {
                out.push(BucketSpan { offset, length: 0 });
                out.push(BucketSpan { offset: 0, length: 1 });
            } else {
                out.push(BucketSpan { offset, length: 1 });
            }
        }
        last = *index;
    }
    out
}

#[derive(Default)]
struct Side {
    counts: [i64; 16],
    present: [bool; 16],
}

impl Side {
    fn step(&mut self, r: &mut Random, gauge: bool) {
        for (count, present) in self.counts.iter_mut().zip(&mut self.present) {
            if !*present && r.below(60) == 0 {
                *present = true;
            }
            if *present && r.below(3) != 0 {
                *count = (*count + r.below(9) as i64 - if gauge { 4 } else { 0 }).max(0);
            }
        }
    }

    fn pick(&self, r: &mut Random) -> (Vec<i32>, Vec<i64>) {
        let drop = r.below(4) == 0;
        (0..16)
            .filter(|i| self.present[*i] && !(drop && self.counts[*i] == 0))
            .map(|i| (i as i32 - 5, self.counts[i]))
            .unzip()
    }
}

fn run(seed: u64) -> SeriesAppender {
    let mut r = Random(seed);
    let chunk_range_ms = [7_200_000, 1_800_000, 600_000][r.below(3) as usize];
    let samples_per_chunk = [120, 60][r.below(2) as usize];
    let xor2 = r.below(2) == 1;
    let store = r.below(2) == 1;
    let mut series = SeriesAppender::new(AppenderOptions {
        chunk_range_ms,
        samples_per_chunk,
        xor2,
        st: store,
        histograms_st: store,
    });
    let st_mode = r.below(4);
    let mut t = 1_700_000_000_000 + r.below(7_200_000) as i64;
    let mut kind = r.below(3);
    let n = 200 + r.below(800);
    let mut st = t - 100_000;
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let (mut gauge, mut schema, mut zero_threshold, mut zero) = (false, 0, 0.001, 0u64);
    let (mut v, mut sum) = (0.0, 0.0);
    let mut bounds = [0.1, 1.0, 2.5, 1e6];
    for i in 0..n {
        if r.below(150) == 0 {
            kind = r.below(3);
        }
        t += match r.below(40) {
            0 => r.below(400_000) as i64 + 1,
            1..=3 => 15_000 + r.below(9) as i64 - 4,
            _ => 15_000,
        };
        match st_mode {
            1 if i == 0 || r.below(100) == 0 => st = t - 3000,
            2 => st = t - 15_000,
            3 => st = t - r.below(100_000) as i64,
            _ => {}
        }
        let stored = if store && st_mode != 0 { st } else { 0 };
        let stale = r.below(50) == 0;
        if kind == 0 {
            match r.below(4) {
                0 => v += r.below(1000) as f64,
                1 => v = r.next() as f64 / 3.0,
                _ => {}
            }
            series.append_float(t, if stale { stale_nan() } else { v }, stored).unwrap();
            continue;
        }
        if r.below(200) == 0 {
            gauge = !gauge;
        }
        if r.below(120) == 0 {
            (positive.counts, negative.counts, zero) = ([0; 16], [0; 16], 0);
        }
        if r.below(250) == 0 {
            schema = [0, 3, -53][r.below(3) as usize];
            positive.present = [false; 16];
        }
        if r.below(250) == 0 {
            zero_threshold = r.below(4) as f64 / 4.0;
        }
        if r.below(250) == 0 {
            bounds[3] = r.below(1_000_000) as f64 / 7.0;
        }
        positive.step(&mut r, gauge);
        if r.below(2) == 0 {
            negative.step(&mut r, gauge);
        }
        zero += r.below(3);
        sum += r.below(100) as f64 / 8.0;
        let counter_reset_hint = if gauge {
            CounterResetHint::Gauge
        } else if r.below(100) == 0 {
            CounterResetHint::CounterReset
        } else {
            CounterResetHint::Unknown
        };
        let (positive_indices, positive_counts) = positive.pick(&mut r);
        let (negative_indices, mut negative_counts) = negative.pick(&mut r);
        let positive_spans = spans(&mut r, &positive_indices);
        let mut negative_spans = spans(&mut r, &negative_indices);
        let custom = schema == -53;
        let (mut zero_count, mut threshold) = (zero, zero_threshold);
        if custom {
            (zero_count, threshold) = (0, 0.0);
            negative_spans.clear();
            negative_counts.clear();
        }
        let count =
            (positive_counts.iter().sum::<i64>() + negative_counts.iter().sum::<i64>()) as u64 + zero_count;
        let sum = if stale { stale_nan() } else { sum };
        let custom_values = custom.then(|| bounds.into());
        if kind == 1 {
            let deltas = |counts: &[i64]| {
                let before = [0].iter().chain(counts);
                counts.iter().zip(before).map(|(c, before)| c - before).collect::<Vec<_>>()
            };
            let h = Histogram {
                counter_reset_hint,
                schema,
                zero_threshold: threshold,
                zero_count,
                count,
                sum,
                positive_spans,
                negative_spans,
                positive_buckets: deltas(&positive_counts),
                negative_buckets: deltas(&negative_counts),
                custom_values,
            };
            series.append_histogram(t, &h, stored).unwrap();
        } else {
            let halves = |counts: &[i64]| counts.iter().map(|c| *c as f64 / 2.0).collect::<Vec<_>>();
            let h = FloatHistogram {
                counter_reset_hint,
                schema,
                zero_threshold: threshold,
                zero_count: zero_count as f64 / 2.0,
                count: count as f64 / 2.0,
                sum,
                positive_spans,
                negative_spans,
                positive_buckets: halves(&positive_counts),
                negative_buckets: halves(&negative_counts),
                custom_values,
            };
            series.append_float_histogram(t, &h, stored).unwrap();
        }
    }
    series
}

fn describe(chunk: &ChunkRef<'_>) -> String {
    let ChunkRef { encoding, mint, maxt, .. } = chunk;
    format!("{} {mint} {maxt};", *encoding as u8)
}

#[test]
fn chunks_are_upstreams() {
    for line in UPSTREAM.lines() {
        let seed = line.split(' ').next().unwrap().parse().unwrap();
        let series = run(seed);
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let (mut count, mut samples) = (0, 0);
        for chunk in series.chunks() {
            for byte in describe(&chunk).bytes().chain(chunk.data.iter().copied()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
            count += 1;
            samples += chunk.samples;
        }
        assert_eq!(series.bytes(), series.chunks().map(|c| c.data.len()).sum());
        assert_eq!(format!("{seed} {count} {samples} {hash:016x}"), line);
    }
}
