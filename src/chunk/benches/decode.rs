//! How fast chunks of 120 samples are decoded, in samples.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tsdbctl_chunk::{
    Encoding, Floats, HistogramEncoder, SampleColumns, Xor2Encoder, XorEncoder, decode, decode_floats_fast,
};
use tsdbctl_model::Histogram;
use tsdbctl_model::histogram::BucketSpan;

const SAMPLES: usize = 120;
const CHUNKS: usize = 512;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Times every 15 s, a few of them some milliseconds off, and values.
fn series(random: &mut Random, value: impl Fn(&mut Random, f64) -> f64) -> Vec<(i64, f64)> {
    let start = 1_700_006_400_000 + (random.next() * 15_000.0) as i64;
    let mut v = (random.next() * 1e6).floor();
    (0..SAMPLES as i64)
        .map(|i| {
            let jitter = if random.next() < 0.03 { (random.next() * 9.0) as i64 - 4 } else { 0 };
            v = value(random, v);
            (start + i * 15_000 + jitter, v)
        })
        .collect()
}

fn floats(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements((SAMPLES * CHUNKS) as u64));
    type Value = fn(&mut Random, f64) -> f64;
    let kinds: [(&str, Value); 4] = [
        ("constant", |_, v| v),
        ("counter", |r, v| v + (r.next() * 500.0).floor()),
        ("gauge", |r, v| (v * 100.0 + (r.next() * 20.0 - 10.0).floor()).round() / 100.0),
        ("random", |r, _| r.next()),
    ];
    for (name, value) in kinds {
        let mut random = Random(88_172_645_463_325_252);
        let all: Vec<_> = (0..CHUNKS).map(|_| series(&mut random, value)).collect();
        let encoded = |encoding: Encoding| -> Vec<Vec<u8>> {
            all.iter()
                .map(|samples| {
                    let (mut xor, mut xor2) = (XorEncoder::new(), Xor2Encoder::new());
                    for (t, v) in samples {
                        xor.append(*t, *v).unwrap();
                        xor2.append(*t, *v, 0).unwrap();
                    }
                    if encoding == Encoding::Xor { xor.take() } else { xor2.take() }
                })
                .collect()
        };
        for encoding in [Encoding::Xor, Encoding::Xor2] {
            let chunks = encoded(encoding);
            let mut out = Floats::default();
            group.bench_function(format!("{encoding:?}/{name}"), |b| {
                b.iter(|| {
                    for chunk in &chunks {
                        out.clear();
                        decode_floats_fast(encoding, chunk, i64::MIN, i64::MAX, &mut out).unwrap();
                        black_box(&out);
                    }
                });
            });
        }
    }
    group.finish();
}

fn histograms(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements((SAMPLES * 16) as u64));
    let mut random = Random(88_172_645_463_325_252);
    let chunks: Vec<Vec<u8>> = (0..16)
        .map(|_| {
            let mut encoder = HistogramEncoder::new(false);
            let mut counts = [0i64; 20];
            for (t, _) in series(&mut random, |_, v| v) {
                counts.iter_mut().for_each(|c| *c += (random.next() * 10.0) as i64);
                let count = counts.iter().sum::<i64>() as u64;
                let deltas = (0..20).map(|i| counts[i] - if i > 0 { counts[i - 1] } else { 0 }).collect();
                let h = Histogram {
                    schema: 3,
                    zero_threshold: 2f64.powi(-128),
                    count,
                    sum: count as f64 * 0.3,
                    positive_spans: vec![
                        BucketSpan { offset: -5, length: 12 },
                        BucketSpan { offset: 2, length: 8 },
                    ],
                    positive_buckets: deltas,
                    ..Histogram::default()
                };
                encoder.append(t, &h, 0).unwrap();
            }
            encoder.take()
        })
        .collect();
    let mut out = SampleColumns::default();
    group.bench_function("Histogram/20 buckets", |b| {
        b.iter(|| {
            for chunk in &chunks {
                out.clear();
                decode(Encoding::Histogram, chunk, i64::MIN, i64::MAX, &mut out).unwrap();
                black_box(&out);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, floats, histograms);
criterion_main!(benches);
