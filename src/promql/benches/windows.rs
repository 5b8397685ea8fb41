//! Window kernels over one dense series: scrapes every 15 s, a day long, steps of a minute.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_chunk::columns::SampleColumns;
use tsdbctl_model::Span;
use tsdbctl_promql::engine::{Column, StepGrid};
use tsdbctl_promql::functions::windows::{
    RangeFunction, ScalarArg, Scratch, SeriesInfo, WindowQuery, evaluate, instant_values,
};

const SCRAPES: i64 = 5760;

/// A name, the function, and the value of the nth scrape.
type Case<'a> = (&'a str, RangeFunction, &'a dyn Fn(i64) -> f64);

fn series(value: impl Fn(i64) -> f64) -> SampleColumns {
    let mut c = SampleColumns::default();
    for i in 0..SCRAPES {
        // Scrapes wander a few milliseconds around their time.
        c.floats.push(i * 15_000 + (i * 7919) % 5, value(i), 0);
    }
    c
}

fn kernels(c: &mut Criterion) {
    let grid = StepGrid { start: 300_000, step: 60_000, steps: (SCRAPES * 15_000 / 60_000 - 5) as usize };
    let counter = |i: i64| i as f64 * 1.25 + ((i * 31) % 17) as f64 / 16.0;
    let gauge = |i: i64| ((i * 7919) % 1009) as f64 / 7.0;
    let whole = |i: i64| ((i * 7919) % 1009) as f64;
    let phi = [ScalarArg::Constant(0.9), ScalarArg::Constant(0.5)];
    use RangeFunction as F;
    let mut group = c.benchmark_group("windows of 20");
    group.throughput(Throughput::Elements(grid.steps as u64));
    let cases: [Case<'_>; 14] = [
        ("rate", F::Rate, &counter),
        ("rate with resets", F::Rate, &gauge),
        ("delta", F::Delta, &gauge),
        ("irate", F::Irate, &counter),
        ("changes", F::Changes, &gauge),
        ("sum", F::SumOverTime, &gauge),
        ("sum of whole numbers", F::SumOverTime, &whole),
        ("avg", F::AvgOverTime, &gauge),
        ("max", F::MaxOverTime, &gauge),
        ("last", F::LastOverTime, &gauge),
        ("count", F::CountOverTime, &gauge),
        ("stddev", F::StddevOverTime, &gauge),
        ("deriv", F::Deriv, &gauge),
        ("quantile", F::QuantileOverTime, &gauge),
    ];
    for (name, function, value) in cases {
        let mut samples = series(value);
        let (mut scratch, mut out) = (Scratch::default(), Column::default());
        let query = WindowQuery {
            function,
            grid,
            eval_start: grid.start,
            eval_step: grid.step,
            range_ms: 300_000,
            lookback_ms: 300_000,
            anchored: false,
            smoothed: false,
            args: &phi,
            use_start_timestamps: false,
            type_and_unit: false,
            per_step_stats: false,
            arg_span: Span::default(),
            call_span: Span::default(),
        };
        let info = SeriesInfo { metric_name: "requests_total", type_label: "" };
        group.bench_function(name, |b| {
            b.iter(|| {
                let stats =
                    evaluate(&query, &info, black_box(&mut samples), &mut scratch, &mut out, &mut |_| {})
                        .unwrap();
                black_box((stats.samples_read, &out.values));
            });
        });
    }
    let samples = series(gauge);
    let mut out = Column::default();
    group.bench_function("instant", |b| {
        b.iter(|| {
            instant_values(black_box(&samples), grid, 300_000, &mut out);
            black_box(&out.values);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_millis(600)).warm_up_time(std::time::Duration::from_millis(200));
    targets = kernels
}
criterion_main!(benches);
