//! Backtests over series in memory against rules evaluated one by one at every step.

use tsdbctl_chunk::AppenderOptions;
use tsdbctl_model::Labels;
use tsdbctl_storage::{MemorySample, MemoryStore};
use tsdbctl_yaml::Source as Text;

use super::machine::Span;
use super::report::SeriesReport;
use super::*;
use crate::file::{ReadOptions, read};

mod random;

/// Numbers that look random (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// `g{i="0".."5"}`: small integers that stay for a while, with gaps and stale markers; `h{i}` has the same labels now
/// and then; every 30 s.
pub fn store(seed: u64, steps: i64) -> MemoryStore {
    let mut store = MemoryStore::new(AppenderOptions::default());
    let mut numbers = Numbers(seed);
    for (name, count) in [("g", 6), ("h", 3)] {
        for i in 0..count {
            let labels = Labels::from_pairs([
                ("__name__", name),
                ("i", &i.to_string()),
                ("job", if i < 3 { "a" } else { "b" }),
            ]);
            let mut k = 0;
            while k < steps {
                let run = numbers.below(30) as i64 + 1;
                let value = match numbers.below(8) {
                    0 => None,
                    v => Some(v as f64),
                };
                for k in k..(k + run).min(steps) {
                    if let Some(v) = value {
                        store.append(&labels, k * 30_000, 0, &MemorySample::Float(v)).unwrap();
                    }
                }
                if numbers.below(3) == 0 && k + run < steps {
                    let marker = MemorySample::Float(tsdbctl_model::sample::stale_nan());
                    store.append(&labels, (k + run) * 30_000, 0, &marker).unwrap();
                    k += 1;
                }
                k += run;
            }
        }
    }
    store
}

const RULES: &str = r#"
groups:
- name: plain
  interval: 1m
  rules:
  - {alert: A, expr: g > 3, labels: {severity: page}}
  - {alert: A2, expr: g > 5, for: 3m, labels: {severity: page}}
  - {alert: A3, expr: 6 <= g, for: 90s, keep_firing_for: 4m}
  - {alert: A4, expr: g != 2, for: 10m, keep_firing_for: 90s}
  - {alert: Sum, expr: "sum by (job) (g) > 9", for: 2m}
  - {alert: Bool, expr: "g > bool 3"}
  - {alert: Scalar, expr: "vector(time() % 600) < 240", for: 2m}
  - {alert: Gone, expr: "absent(g{i=\"1\"})", for: 1m}
- name: awkward
  interval: 45s
  query_offset: 20s
  limit: 4
  rules:
  - {alert: Many, expr: g > 2, for: 2m}
  - {alert: Many2, expr: g > 4, keep_firing_for: 3m}
- name: templates
  interval: 1m
  rules:
  - {alert: T, expr: g > 4, for: 3m, labels: {i: "", who: "{{ $labels.i }}/{{ $labels.job }}"}}
  - {alert: V, expr: g > 4, for: 1m, labels: {at: "{{ $value }}"}}
  - {alert: N, expr: g > 5, labels: {now: "{{ now }}"}}
  - {alert: Q, expr: g > 5, for: 1m, labels: {q: "{{ with query \"h{i='1'}\" }}{{ . | first | value }}{{ end }}"}}
- name: errors
  interval: 1m
  rules:
  - {alert: Same, expr: "{__name__=~\"g|h\"} > 3", for: 2m}
  - {alert: Same2, expr: "{__name__=~\"g|h\"} > 6"}
  - {alert: Join, expr: "g * on (job) h > 20"}
  - {alert: Start, expr: "g > g @ start()"}
  - {alert: Rate, expr: "rate({__name__=~\"g|h\"}[2m]) >= 0", for: 2m}
"#;

const CHAINED: &str = r#"
groups:
- name: records
  interval: 1m
  rules:
  - {record: "job:g:sum", expr: "sum by (job) (g)"}
  - {record: "job:g:max", expr: "max_over_time(job:g:sum[5m])"}
  - {alert: Chained, expr: "job:g:max > 12", for: 2m}
  - {alert: Meta, expr: "count(ALERTS{alertname=\"Chained\", alertstate=\"firing\"}) > 0"}
"#;

pub fn files(text: &str) -> Vec<RuleFile> {
    let source = Arc::new(Text::new("rules.yml", text));
    vec![read(source, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e:?}"))]
}

pub fn options(steps: i64) -> Options {
    Options {
        start_ms: 40 * 60_000,
        end_ms: steps * 30_000,
        default_interval_ms: 60_000,
        step_ms: None,
        default_query_offset_ms: 0,
        query: QueryOptions::default(),
        surroundings: Surroundings::default(),
        firings: true,
    }
}

pub fn both(store: &MemoryStore, text: &str, steps: i64) -> (Report, Report) {
    let (files, options, control) = (files(text), options(steps), Control::default());
    let fast = run(store, &files, &options, &control).unwrap();
    let plain =
        on_big_stack(|| Backtest::plan(&files, &options, true).unwrap().run(store, &control)).unwrap();
    (fast, plain)
}

pub fn text(report: &Report, series: &SeriesReport) -> String {
    // How long before the range it began depends on how far back was looked.
    let clipped = |s: &Span| Span { start_ms: s.start_ms.max(report.start_ms - 1), ..*s };
    let spans: Vec<Span> = series.spans.iter().map(clipped).collect();
    let said = |f: &report::Firing| {
        let texts: Vec<_> = f
            .annotations
            .iter()
            .map(|(n, v)| format!("{}={}", report.symbols.resolve(*n), report.symbols.resolve(*v)))
            .collect();
        (f.at_ms, f.value.map(f64::to_bits), texts)
    };
    // Of firings from before the range one side may not have seen the beginning.
    let firings: Vec<_> = series.firings.iter().filter(|f| f.at_ms >= report.start_ms).map(said).collect();
    format!("{} {} {spans:?} {firings:?}", report.labels(series), series.held_steps)
}

#[test]
fn every_step_is_as_a_server_would_have_it() {
    for seed in 0..3 {
        let steps = 260 + seed as i64;
        let (fast, plain) = both(&store(seed, steps), RULES, steps);
        for (f, p) in fast.alerts.iter().zip(&plain.alerts) {
            let what = format!("seed {seed}, {}", f.name);
            assert_eq!((f.failed, &f.errors), (p.failed, &p.errors), "{what}");
            let settled = |r: &Report, a: &report::AlertReport| -> Vec<String> {
                let unknown: Vec<Labels> =
                    f.series.iter().filter(|s| s.start_unknown).map(|s| fast.labels(s)).collect();
                a.series.iter().filter(|s| !unknown.contains(&r.labels(s))).map(|s| text(r, s)).collect()
            };
            assert_eq!(settled(&fast, f), settled(&plain, p), "{what}");
        }
        assert!(fast.alerts.iter().any(|a| a.failed > 0), "seed {seed}");
        assert!(fast.alerts.iter().map(|a| a.series.len()).sum::<usize>() > 30, "seed {seed}");
    }
}

#[test]
fn alerts_see_what_the_set_records() {
    let steps = 400;
    let (fast, plain) = both(&store(7, steps), CHAINED, steps);
    for (f, p) in fast.alerts.iter().zip(&plain.alerts) {
        assert!(!f.series.is_empty(), "{}", f.name);
        assert_eq!(
            f.series.iter().map(|s| text(&fast, s)).collect::<Vec<_>>(),
            p.series.iter().map(|s| text(&plain, s)).collect::<Vec<_>>(),
        );
    }
}
