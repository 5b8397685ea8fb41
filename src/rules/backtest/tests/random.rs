//! Random rule files over random series: a backtest against every rule evaluated by itself at every slot; with and
//! without memory to evaluate many steps at once.

use tsdbctl_model::Labels;
use tsdbctl_storage::{Budget, Interrupt};

use super::super::report::{AlertReport, SeriesReport};
use super::super::*;
use super::{Numbers, both, files, options, store, text};

/// Expressions over what [`store`] holds. Those of the second half fail now and then.
const EXPRESSIONS: &[&str] = &[
    "g > 3",
    "g >= 5",
    "g != 2",
    "3 < g",
    "g == 6",
    "g > bool 3",
    "g - 4 > 1",
    "g - 4",
    "sum by (job) (g) > 9",
    "sum by (job) (g) > 14",
    "max by (job) (g) - min by (job) (g) >= 3",
    "count(g) < 6",
    "absent(g{i=\"1\"})",
    "absent(g{job=\"a\"} > 2)",
    "absent_over_time(h[3m])",
    "g > 2 and on (i) h > 1",
    "g > 4 unless on (i) h",
    "g > 4 or h > 5",
    "changes(g[5m]) > 0",
    "max_over_time(g[4m]) == 6",
    "avg_over_time(g[6m]) > 3.5",
    "resets(h[10m]) > 0",
    "topk(2, g)",
    "bottomk by (job) (1, g) > 2",
    "count_values(\"v\", g) > 1",
    "label_replace(g > 4, \"i\", \"x$1\", \"i\", \"(.)\")",
    "label_replace(h > 1, \"i\", \"\", \"i\", \".*\")",
    "g > on (job) group_left avg by (job) (g)",
    "max_over_time(sum(g)[6m:90s]) > 20",
    "quantile by (job) (0.5, g) > 3",
    "delta(g[5m]) > 0",
    "timestamp(g) % 120 < 60",
    "vector(time() % 900) < 400",
    "time() % 600",
    "vector(time() % 7)",
    "-g < -4",
    "g offset 3m > 5",
    "g > 1e6",
    "histogram_quantile(0.5, sum by (le) (label_replace(g, \"le\", \"$1\", \"i\", \"(.*)\"))) >= 0",
    "{__name__=~\"g|h\"} > 3",
    "{__name__=~\"g|h\"}",
    "g * on (job) h > 20",
    "rate({__name__=~\"g|h\"}[2m]) >= 0",
    "sum without (i) (g) > on (job) h",
    "g > g @ start()",
    "g < g @ end()",
    "abs({__name__=~\"g|h\", i=\"1\"}) > 2",
];

const LABELS: &[&str] = &[
    "",
    "severity: page",
    "i: ''",
    "job: ''",
    "who: '{{ $labels.i }}'",
    "at: '{{ $value }}'",
    "high: '{{ if gt $value 5.0 }}yes{{ end }}'",
    "now: '{{ now }}'",
    "q: '{{ with query \"h{i=''1''}\" }}{{ . | first | value }}{{ end }}'",
    "bad: '{{ template \"none\" }}'",
    "i: same, job: same",
    "name: '{{ $labels.__name__ }}'",
];

const TIMES: &[&str] = &["0s", "30s", "45s", "1m", "90s", "2m", "3m", "7m", "10m"];

/// Rules that read what others write: records over records, alerts over alerts.
const CHAINED: &[&str] = &[
    "{record: 'r:sum', expr: 'sum by (job) (g)'}",
    "{record: 'r:max', expr: 'max_over_time(r:sum[5m])'}",
    "{alert: OfRecord, expr: 'r:sum > 12', for: 2m}",
    "{alert: OfMax, expr: 'r:max > 14', for: 3m, keep_firing_for: 2m}",
    "{alert: OfAlerts, expr: 'count by (alertname) (ALERTS{alertstate=\"firing\", alertname=~\"Of.*|A0\"}) > 1', for: 1m}",
    "{alert: Since, expr: 'time() - ALERTS_FOR_STATE{alertname=\"A0\"} > 120'}",
    "{alert: Quiet, expr: 'absent(ALERTS{alertname=\"OfRecord\"})', for: 1m}",
    "{alert: Asks, expr: 'g > 4', annotations: {sum: '{{ query \"r:sum\" | len }}'}}",
];

fn pick<'a>(numbers: &mut Numbers, from: &[&'a str]) -> &'a str {
    from[numbers.below(from.len() as u64) as usize]
}

/// One to three groups with up to five rules each.
fn rules(numbers: &mut Numbers, chained: bool) -> String {
    let mut out = String::from("groups:\n");
    let mut number = 0;
    for group in 0..=numbers.below(3) {
        out += &format!("- name: g{group}\n  interval: {}\n", pick(numbers, &["30s", "1m", "45s", "100s"]));
        if numbers.below(3) == 0 {
            out += &format!("  query_offset: {}\n", pick(numbers, &["0s", "20s", "1m", "3m"]));
        }
        if numbers.below(4) == 0 {
            out += &format!("  limit: {}\n", numbers.below(6) + 1);
        }
        if numbers.below(4) == 0 {
            out += "  labels: {team: '{{ $labels.job }}'}\n";
        }
        out += "  rules:\n";
        for _ in 0..=numbers.below(5) {
            if chained && numbers.below(2) == 0 {
                out += &format!("  - {}\n", pick(numbers, CHAINED));
                continue;
            }
            out += &format!("  - alert: A{number}\n    expr: '{}'\n", pick(numbers, EXPRESSIONS));
            number += 1;
            if numbers.below(3) > 0 {
                out += &format!("    for: {}\n", pick(numbers, TIMES));
            }
            if numbers.below(3) == 0 {
                out += &format!("    keep_firing_for: {}\n", pick(numbers, TIMES));
            }
            out += &format!("    labels: {{{}}}\n", pick(numbers, LABELS));
            out += "    annotations: {say: '{{ $labels.i }} is {{ $value }}'}\n";
        }
    }
    out
}

/// What is told of an alert, series aside whose beginning nobody knows; of those before the range too, if `early`.
fn told(of: &AlertReport, report: &Report, unknown: &[Labels], early: bool) -> Vec<String> {
    let is_early = |s: &&SeriesReport| s.spans.first().is_some_and(|s| s.start_ms < report.start_ms);
    let known = of.series.iter().filter(|s| !unknown.contains(&report.labels(s)));
    known.filter(|s| early || !is_early(s)).map(|s| text(report, s)).collect()
}

fn assert_same(fast: &Report, plain: &Report, what: &str) -> usize {
    let mut compared = 0;
    for (f, p) in fast.alerts.iter().zip(&plain.alerts) {
        let what = format!("{what}\n{}", f.name);
        let unknown: Vec<Labels> =
            f.series.iter().filter(|s| s.start_unknown).map(|s| fast.labels(s)).collect();
        assert_eq!((f.evaluations, f.interval_ms), (p.evaluations, p.interval_ms), "{what}");
        // What exceeds a limit is dropped and begins anew: when that happens depends on all that was before.
        let limited = f.errors.iter().chain(&p.errors).any(|(_, e)| e.contains("exceeded limit"));
        if limited && (!unknown.is_empty() || f.holds.keep_firing_for_ms > 0 && f.errors != p.errors) {
            continue;
        }
        assert_eq!((f.failed, &f.errors), (p.failed, &p.errors), "{what}");
        let early = !f.start_unknown;
        let (told_fast, told_plain) = (told(f, fast, &unknown, early), told(p, plain, &unknown, early));
        compared += told_fast.len();
        assert_eq!(told_fast, told_plain, "{what}");
    }
    compared
}

#[test]
fn random_rules_are_as_a_server_would_have_them() {
    let cases: u64 = std::env::var("TSDBCTL_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let first: u64 = std::env::var("TSDBCTL_RANDOM_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut compared = 0;
    for seed in first..first + cases {
        let mut numbers = Numbers(seed);
        let steps = 120 + numbers.below(60) as i64;
        let text = rules(&mut numbers, seed % 3 == 0);
        let (fast, plain) = both(&store(seed, steps), &text, steps);
        compared += assert_same(&fast, &plain, &format!("seed {seed}\n{text}"));
    }
    assert!(compared as u64 > cases * 5, "{compared}");
}

/// Little memory makes stretches shorter, and changes nothing else.
#[test]
fn little_memory_is_enough() {
    let steps = 900;
    let store = store(3, steps);
    let text = "groups:\n- name: g\n  interval: 30s\n  rules:\n  - {alert: A, expr: g > 3, for: 2m}\n  - {alert: B, expr: 'sum by (job) (g) > 9', keep_firing_for: 3m}\n  - {alert: C, expr: 'g > 5 and on (i) h > 1'}\n";
    let (files, options) = (files(text), options(steps));
    let with = |bytes: u64| {
        let control = Control::new(Interrupt::default(), Budget::new(bytes), None);
        let report = run(&store, &files, &options, &control);
        (report, control.budget.peak(), control.budget.used())
    };
    let (all, peak, used) = with(u64::MAX);
    let all = all.unwrap();
    assert_eq!(used, 0, "what a stretch took is given back");
    let mut least = peak;
    for part in [2, 4] {
        let (report, most, used) = with(peak / part);
        let report = report.unwrap_or_else(|e| panic!("{} of {peak} bytes: {e}", peak / part));
        assert!(most <= peak / part && used == 0);
        assert_same(&report, &all, &format!("a {part}th of the memory"));
        least = most;
    }
    assert!(least <= peak / 4);
    // One step alone needs some: then it is said, and not taken for a rule's failure.
    let (error, ..) = with(100);
    let Err(BacktestError::Query { place, error }) = error else { panic!("100 bytes are enough") };
    assert!(place.starts_with("rules.yml:") && error.message.contains("--memory-budget"), "{error:?}");
}
