//! What a template costs: parsed when rules are loaded, rendered at every evaluation of every alert.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use tsdbctl_model::Labels;
use tsdbctl_template::{Environment, RuleData, RuleTemplate, TemplateSample, Value};

/// The kinds that most rules have: labels and values; numbers as people read them; branches and loops.
const TEMPLATES: [(&str, &str); 3] = [
    ("labels", "{{ $labels.instance }} of {{ $labels.job }} is {{ $value }}"),
    (
        "numbers",
        "Disk of {{ $labels.instance }} is {{ printf \"%.2f\" $value }}% full ({{ $value | humanizePercentage }}).",
    ),
    (
        "branches",
        "{{ if gt $value 1.0 }}{{ $labels.job | toUpper }}{{ else }}low{{ end }}\
         {{ range $k, $v := $labels }} {{ $k }}={{ $v }}{{ end }}",
    ),
];

struct NoServer;

impl Environment for NoServer {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        Err(format!("no query: {expr}"))
    }
    fn now_ms(&self) -> i64 {
        0
    }
    fn external_url(&self) -> &str {
        "http://x"
    }
}

fn render(c: &mut Criterion) {
    let labels = Labels::from_pairs([
        ("a", "b"),
        ("c", "d"),
        ("instance", "web-1.example.com:9100"),
        ("job", "node"),
        ("n", "7"),
    ]);
    let external_labels = Labels::from_pairs([("region", "eu")]);
    let data = RuleData {
        labels: &labels,
        external_labels: &external_labels,
        external_url: "http://x",
        value: Value::Float(1.5),
    };
    let mut group = c.benchmark_group("template");
    for (name, text) in TEMPLATES {
        group.bench_function(format!("parse/{name}"), |b| {
            b.iter(|| RuleTemplate::parse("A", text).expect("a template"));
        });
        let template = RuleTemplate::parse("A", text).expect("a template");
        group.bench_function(format!("expand/{name}"), |b| {
            b.iter(|| template.expand(&data, &mut NoServer).expect("it renders"));
        });
    }
    group.finish();
}

criterion_group!(benches, render);
criterion_main!(benches);
