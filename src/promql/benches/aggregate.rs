//! Folding series into groups, and quantiles of classic histograms: time per point.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_model::Span;
use tsdbctl_promql::engine::Column;
use tsdbctl_promql::functions::ScalarArg;
use tsdbctl_promql::functions::aggregate::GroupAccumulator;
use tsdbctl_promql::functions::binary::{BinaryKernel, StepIssues};
use tsdbctl_promql::functions::classic_histogram::{Buffers, ClassicHistogram, Repairs};
use tsdbctl_promql::parser::ast::{AggregateOp, BinaryOp};

const STEPS: usize = 360;

fn columns(n: usize, gaps: bool) -> Vec<Column> {
    (0..n)
        .map(|i| {
            let mut c = Column::new(STEPS);
            for k in 0..STEPS {
                if !gaps || (i + k) % 3 != 0 {
                    c.set_float(k, (i * 31 + k) as f64 * 0.37);
                }
            }
            c
        })
        .collect()
}

fn folds(c: &mut Criterion) {
    let mut group = c.benchmark_group("fold");
    for (shape, input) in [("dense", columns(100, false)), ("gaps", columns(100, true))] {
        group.throughput(Throughput::Elements((input.len() * STEPS) as u64));
        for op in
            [AggregateOp::Sum, AggregateOp::Avg, AggregateOp::Max, AggregateOp::Count, AggregateOp::Stddev]
        {
            group.bench_function(format!("{}/{shape}", op.as_str()), |b| {
                b.iter(|| {
                    let mut g = GroupAccumulator::new(op, STEPS, Span::default());
                    for column in &input {
                        g.fold(column, "", &mut |_| {});
                    }
                    black_box(g.finish(&mut |_| {}))
                });
            });
        }
    }
    group.finish();
}

fn classic(c: &mut Criterion) {
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, f64::INFINITY];
    let buckets: Vec<Column> = (0..bounds.len())
        .map(|i| {
            let mut c = Column::new(STEPS);
            for k in 0..STEPS {
                c.set_float(k, ((i + 1) * (i + 2)) as f64 * (1.0 + k as f64 * 0.01));
            }
            c
        })
        .collect();
    let buckets: Vec<&Column> = buckets.iter().collect();
    let mut group = c.benchmark_group("histogram_quantile");
    group.throughput(Throughput::Elements(STEPS as u64));
    group.bench_function("classic/10 buckets", |b| {
        let (mut out, mut repairs, mut buffers) =
            (Column::new(STEPS), Repairs::default(), Buffers::default());
        let histogram = ClassicHistogram { bounds: &bounds, columns: &buckets };
        b.iter(|| {
            histogram.quantile(ScalarArg::Constant(0.9), &mut out, &mut repairs, &mut buffers);
            black_box(&out);
        });
    });
    group.finish();
}

fn operators(c: &mut Criterion) {
    let input = columns(2, false);
    let mut group = c.benchmark_group("binary");
    group.throughput(Throughput::Elements(STEPS as u64));
    for op in [BinaryOp::Add, BinaryOp::Gtr, BinaryOp::Pow] {
        group.bench_function(op.as_str(), |b| {
            let (mut out, mut met, mut issues) = (Column::new(STEPS), Vec::new(), StepIssues::default());
            let kernel = BinaryKernel { op, return_bool: false };
            b.iter(|| {
                kernel.columns(&input[0], &input[1], &mut out, &mut met, 0, &mut issues);
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, folds, classic, operators);
criterion_main!(benches);
