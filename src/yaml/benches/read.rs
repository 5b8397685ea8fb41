//! How fast upstream's largest rule file becomes a tree.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_yaml::{Source, first_document};

fn read(c: &mut Criterion) {
    let Some(text) = tsdbctl_testkit::read_text("conformance/promtool/rules_large.yml") else { return };
    let mut group = c.benchmark_group("rules_large.yml");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("nodes", |b| {
        b.iter(|| first_document(&Source::new("rules_large.yml", text.as_str())).expect("it is YAML"));
    });
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
