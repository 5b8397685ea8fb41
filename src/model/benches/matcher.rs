//! How long a regular expression takes to be compiled and to judge one label value.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tsdbctl_model::regexp::Regexp;

fn expressions() -> Vec<(&'static str, String)> {
    let alternatives = |make: &dyn Fn(u32) -> String| (0..50_000).map(make).collect::<Vec<_>>().join("|");
    vec![
        ("literal", "node-7-example".to_string()),
        ("few_alternatives", "node-(1|2|3)-example".to_string()),
        ("50000_alternatives", alternatives(&|i| format!("node-{i}-example"))),
        ("prefix", "node-1.*".to_string()),
        ("contains", ".*-77.*".to_string()),
        ("contains_one_of", ".*-77.*|.*-88.*|.*99-ex.*".to_string()),
        ("any_case", "(?i:NODE-1).*".to_string()),
        ("class_gap", "node-[0-9]+7-exam.le".to_string()),
        ("50000_dotted", alternatives(&|i| format!("node-{i}.example"))),
        ("50000_addresses", alternatives(&|i| format!("10.{}.{}.{}", i / 65536, i / 256 % 256, i % 256))),
        ("50000_prefixes", alternatives(&|i| format!("node-{i}-.*"))),
        ("50000_suffixes", alternatives(&|i| format!(".*-{i}-exam.le"))),
        ("50000_contained", alternatives(&|i| format!(".*e-{i}-x.*"))),
        ("automaton", "node-([0-9][13579])*.*7-exam.le".to_string()),
        ("large_automaton", "(?:node|host)(?:-[0-9]+|-\\pL{1,20})+-(?:exam.le|.*x\\b.*)".to_string()),
    ]
}

fn match_values(c: &mut Criterion) {
    let values: Vec<String> = (0..1000).map(|i| format!("node-{i}-example")).collect();
    let mut group = c.benchmark_group("regexp_is_match");
    group.throughput(Throughput::Elements(values.len() as u64));
    for (name, source) in expressions() {
        let Ok(re) = Regexp::new(&source) else { continue };
        group
            .bench_function(name, |b| b.iter(|| values.iter().filter(|v| re.is_match(black_box(v))).count()));
    }
    group.finish();
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("regexp_new");
    for (name, source) in expressions() {
        group.bench_function(name, |b| b.iter(|| Regexp::new(black_box(&source)).is_ok()));
    }
    group.finish();
}

criterion_group!(benches, match_values, compile);
criterion_main!(benches);
