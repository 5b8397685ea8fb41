//! How many lines a second are read from a body as node_exporter writes it, in each format.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads its own files")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_exposition::{Entry, Format, Options, Parser};

fn read(format: Format, body: &[u8], labels: bool) -> (f64, usize) {
    let mut parser = Parser::with_format(format, body, Options::default());
    let (mut sum, mut bytes) = (0.0, 0);
    while let Ok(Some(entry)) = parser.next() {
        if let Entry::Series(series) = entry {
            sum += series.value;
            if labels {
                series.labels.for_each(|name, value| bytes += name.len() + value.len());
            } else {
                bytes += series.labels.raw().map_or(0, <[u8]>::len);
            }
        }
    }
    (sum, bytes)
}

fn formats(c: &mut Criterion) {
    let mut group = c.benchmark_group("node_exporter");
    let Some(text) = tsdbctl_testkit::read_text("data/exposition-3.14/bodies/node-exporter.text") else {
        return;
    };
    let lines = text.lines().count() as u64;
    let samples: String = text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let openmetrics = format!("{}# EOF\n", text.replace(" untyped\n", " unknown\n"));
    let sample_lines = samples.lines().count() as u64;
    let cases = [
        ("text", Format::Text, text.as_bytes(), lines),
        ("text_samples_only", Format::Text, samples.as_bytes(), sample_lines),
        ("openmetrics", Format::OpenMetrics, openmetrics.as_bytes(), lines),
    ];
    for (name, format, body, lines) in cases {
        group.throughput(Throughput::Elements(lines));
        group.bench_function(name, |b| b.iter(|| black_box(read(format, black_box(body), false))));
        group.bench_function(format!("{name}_with_labels"), |b| {
            b.iter(|| black_box(read(format, black_box(body), true)))
        });
    }
    if let Some(path) = tsdbctl_testkit::shared("data/exposition-3.14/bodies/node-exporter.pb") {
        let body = std::fs::read(path).expect("a body");
        group.throughput(Throughput::Elements(sample_lines));
        group.bench_function("protobuf_with_labels", |b| {
            b.iter(|| black_box(read(Format::Protobuf, black_box(&body), true)));
        });
    }
    group.finish();
}

criterion_group!(benches, formats);
criterion_main!(benches);
