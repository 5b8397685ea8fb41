//! Parsing: typical expressions, and a chain of many terms.

use criterion::{Criterion, criterion_group, criterion_main};
use tsdbctl_promql::engine::options::Features;
use tsdbctl_promql::parser::parse;

const TYPICAL: &str = "sum by (job, instance) (rate(http_requests_total{job=\"api\", code!=\"200\"}[5m] offset 1h)) \
     / on (job, instance) group_left (version) max without (pod) (up{env=\"prod\"} @ 1700000000) > 0.5";

fn parsing(c: &mut Criterion) {
    let features = Features::default();
    c.bench_function("parse_typical", |b| b.iter(|| parse(TYPICAL, &features)));
    let chain = "metric_total{job=\"a\"} + ".repeat(20_000) + "1";
    c.bench_function("parse_chain_20000", |b| b.iter(|| parse(&chain, &features)));
}

criterion_group!(benches, parsing);
criterion_main!(benches);
