//! How long one number takes to be written as the HTTP API writes it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_model::float_text::{parse_float, write_json_float, write_json_timestamp};

fn write_floats(c: &mut Criterion) {
    let series = |f: fn(f64) -> f64| (1..=1000).map(|i| f(f64::from(i))).collect::<Vec<f64>>();
    let inputs = [
        ("integers", series(|i| i * 7919.0)),
        ("decimals", series(|i| i * 7.919)),
        ("all_digits", series(|i| (i * 0.37).sin() * 100.0)),
        ("tiny", series(|i| (i * 0.37).sin() * 1e-9)),
        ("large", series(|i| (i * 0.37).sin() * 1e18)),
    ];
    let mut group = c.benchmark_group("write_json_float");
    for (name, values) in inputs {
        let mut out = Vec::with_capacity(1 << 16);
        group.throughput(Throughput::Elements(values.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                values.iter().for_each(|v| write_json_float(&mut out, *v));
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn write_timestamps(c: &mut Criterion) {
    let mut out = Vec::with_capacity(1 << 16);
    let mut group = c.benchmark_group("write_json_timestamp");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("whole_seconds", |b| {
        b.iter(|| {
            out.clear();
            (0..1000).for_each(|i| write_json_timestamp(&mut out, 1_700_000_000_000 + i * 15_000));
            black_box(out.len())
        });
    });
    group.finish();
}

fn parse_floats(c: &mut Criterion) {
    let texts: Vec<String> = (1..=1000).map(|i| (f64::from(i) * 7.919).to_string()).collect();
    let mut group = c.benchmark_group("parse_float");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("decimals", |b| {
        b.iter(|| texts.iter().filter_map(|t| parse_float(black_box(t)).ok()).sum::<f64>());
    });
    group.finish();
}

criterion_group!(benches, write_floats, write_timestamps, parse_floats);
criterion_main!(benches);
