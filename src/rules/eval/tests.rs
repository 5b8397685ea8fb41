//! Runs over series in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tsdbctl_chunk::AppenderOptions;
use tsdbctl_promql::engine::{on_big_stack, parse_query};
use tsdbctl_storage::{MemorySample, MemoryStore};

use super::*;
use crate::alerting::AlertRule;
use crate::file::{GroupSpec, RuleKind, RuleSpec};
use crate::recording::RecordRule;

/// `name{labels}` with values at 0, 10 s, …; NaN for none.
fn store(series: &[(&str, &[f64])]) -> MemoryStore {
    let mut store = MemoryStore::new(AppenderOptions::default());
    for (name, values) in series {
        let (name, label) = name.split_once('/').unwrap_or((name, ""));
        let labels = Labels::from_pairs([("__name__", name), ("l", label)]);
        for (k, v) in values.iter().enumerate().filter(|(_, v)| !v.is_nan()) {
            store.append(&labels, k as i64 * 10_000, 0, &MemorySample::Float(*v)).unwrap();
        }
    }
    store
}

fn expr(text: &str) -> RuleExpr {
    let expr = Arc::new(parse_query(text, &QueryOptions::default()).unwrap());
    RuleExpr { text: text.into(), printed: text.into(), expr }
}

fn record(name: &str, text: &str) -> Rule {
    Rule::Record(RecordRule { name: name.to_string(), expr: expr(text), labels: Vec::new() })
}

fn alert(name: &str, text: &str, for_ms: i64) -> Rule {
    let spec = RuleSpec {
        kind: RuleKind::Alert,
        name: tsdbctl_yaml::Spanned { value: name.to_string(), span: tsdbctl_model::Span::default() },
        expr_span: tsdbctl_model::Span::default(),
        expr: expr(text),
        for_ms,
        for_span: None,
        keep_firing_for_ms: 0,
        keep_firing_for_span: None,
        labels: Vec::new(),
        annotations: Vec::new(),
        span: tsdbctl_model::Span::default(),
    };
    Rule::Alert(AlertRule::from_spec(&GroupSpec::default(), &spec).unwrap())
}

fn group(rules: Vec<Rule>, slots: Slots) -> EvalGroup {
    EvalGroup { name: "g".to_string(), query_offset_ms: 0, limit: 0, rules, slots }
}

/// Series with `t=value` in seconds, `stale` for markers, leads in brackets.
fn run(storage: &MemoryStore, groups: &[EvalGroup], settings: &EvalSettings) -> Vec<String> {
    let control = Control::default();
    let evaluation = Evaluation { storage, settings, control: &control, groups };
    let mut series: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut watch = |e: &Evaluated<'_>| {
        let samples = e.outcome.unwrap_or(&[]);
        if let Err(error) = e.outcome {
            let rule = format!("group {} rule {}: {error}", e.place.group, e.place.rule);
            series.entry(rule).or_default().push((e.slot.ts_ms / 1000).to_string());
        }
        for s in samples.iter().chain(e.vanished) {
            let value = match &s.sample {
                Sample::Float(v) if is_stale(*v) => "stale".to_string(),
                Sample::Float(v) => v.to_string(),
                Sample::Histogram(h) => h.to_string(),
            };
            let text = format!("{}={value}", s.t_ms / 1000);
            let text = if e.slot.lead { format!("[{text}]") } else { text };
            series.entry(s.labels.to_string()).or_default().push(text);
        }
        Ok::<_, Infallible>(())
    };
    on_big_stack(|| evaluation.run(&mut watch)).unwrap();
    series.into_iter().map(|(labels, values)| format!("{labels} {}", values.join(" "))).collect()
}

fn every_10s(start_s: i64, end_s: i64) -> Slots {
    Slots::aligned(start_s * 1000, end_s * 1000, 10_000, 0, 0)
}

#[test]
fn later_rules_see_what_is_recorded_and_earlier_ones_the_slot_before() {
    let storage = store(&[("m", &[1.0, 2.0, 3.0])]);
    let rules = vec![
        record("early", "sum(late) or vector(-1)"),
        record("late", "sum(m) * 10"),
        record("after", "late + 1"),
    ];
    let got = run(&storage, &[group(rules, every_10s(0, 20))], &EvalSettings::default());
    assert_eq!(
        got,
        [
            "{__name__=\"after\"} 0=11 10=21 20=31",
            "{__name__=\"early\"} 0=-1 10=10 20=20",
            "{__name__=\"late\"} 0=10 10=20 20=30",
        ]
    );
}

#[test]
fn stored_samples_of_what_is_recorded_are_read_from_before_only() {
    let storage = store(&[("m", &[1.0, 2.0, 3.0, 4.0]), ("r", &[100.0, 200.0, 300.0, 400.0])]);
    let rules = vec![record("r", "m"), record("seen", "sum(sum_over_time(r[30s]))")];
    let groups = [group(rules, every_10s(20, 30))];
    let strip = |lines: Vec<String>| lines.into_iter().find(|l| l.contains("seen")).unwrap();
    // 100 + 200 of before, then 3 of now: the window is (t - 30 s, t].
    let got = run(&storage, &groups, &EvalSettings::default());
    assert_eq!(strip(got), "{__name__=\"seen\"} 20=303 30=207");
    let settings = EvalSettings { use_stored: true, ..EvalSettings::default() };
    let got = run(&storage, &groups, &settings);
    assert_eq!(strip(got), "{__name__=\"seen\"} 20=600 30=900");
}

#[test]
fn what_vanishes_is_marked_and_failures_mark_nothing() {
    let nan = f64::NAN;
    let storage = store(&[("m/a", &[1.0, 1.0, 1.0, 1.0]), ("m/b", &[5.0, nan, 5.0, nan])]);
    let rules = vec![record("r", "m > 2 and timestamp(m) == time()")];
    let got = run(&storage, &[group(rules, every_10s(0, 30))], &EvalSettings::default());
    assert_eq!(got, ["{__name__=\"r\", l=\"b\"} 0=5 10=stale 20=5 30=stale"]);
}

#[test]
fn alerts_live_from_before_what_is_asked() {
    let storage = store(&[("m", &[1.0; 6])]);
    let rules = vec![alert("A", "m > 0", 20_000)];
    let slots = Slots::aligned(30_000, 40_000, 10_000, 0, 20_000);
    let got = run(&storage, &[group(rules, slots)], &EvalSettings::default());
    assert_eq!(
        got,
        [
            "{__name__=\"ALERTS\", alertname=\"A\", alertstate=\"firing\"} 30=1 40=1",
            "{__name__=\"ALERTS\", alertname=\"A\", alertstate=\"pending\"} [10=1] [20=1] 30=stale",
            "{__name__=\"ALERTS_FOR_STATE\", alertname=\"A\"} [10=10] [20=10] 30=10 40=10",
        ]
    );
}

#[test]
fn a_server_that_starts_writes_no_alerts_twice() {
    let storage = store(&[("m", &[1.0; 12])]);
    let rules = vec![alert("A", "m > 0", 0)];
    let slots = Slots::stored(&[20_000, 30_000, 70_000, 80_000], 10_000, true);
    let got = run(&storage, &[group(rules, slots)], &EvalSettings::default());
    assert_eq!(
        got,
        [
            "{__name__=\"ALERTS\", alertname=\"A\", alertstate=\"firing\"} 20=1 30=1 70=1 80=1",
            "{__name__=\"ALERTS_FOR_STATE\", alertname=\"A\"} 20=0 30=0 70=50 80=50",
        ]
    );
}

#[test]
fn groups_are_taken_in_the_order_of_time_and_windows_make_no_difference() {
    let storage = store(&[("m", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    let later = Slots::aligned(0, 50_000, 10_000, 5_000, 0);
    let groups = [
        group(vec![record("twice", "once * 2")], later),
        group(vec![record("once", "m + 0")], every_10s(0, 50)),
    ];
    let want = run(&storage, &groups, &EvalSettings::default());
    assert_eq!(want[1], "{__name__=\"twice\"} 5=2 15=4 25=6 35=8 45=10");
    for window_slots in [1, 2, 3] {
        let settings = EvalSettings { window_slots, ..EvalSettings::default() };
        assert_eq!(run(&storage, &groups, &settings), want);
    }
}

#[test]
fn two_rules_on_one_series_are_told() {
    let storage = store(&[("m", &[1.0, 2.0])]);
    let rules = vec![record("r", "m + 0"), record("r", "m * 10")];
    let (control, settings) = (Control::default(), EvalSettings::default());
    let groups = [group(rules, every_10s(0, 10))];
    let evaluation =
        Evaluation { storage: &storage, settings: &settings, control: &control, groups: &groups };
    let mut refused = Vec::new();
    let mut watch = |e: &Evaluated<'_>| {
        refused.extend(e.refused.iter().map(|(l, r)| format!("{} {l}: {r}", e.place.rule)));
        Ok::<_, Infallible>(())
    };
    on_big_stack(|| evaluation.run(&mut watch)).unwrap();
    assert_eq!(refused, vec!["1 {__name__=\"r\"}: duplicate sample for timestamp"; 2]);
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn expr(&mut self) -> String {
        let metric = self.of(&["m", "n", "r0", "r1", "r1", "r2", "r2", "r3", "r4"]);
        let other = self.of(&["m", "n", "r1", "r3"]);
        match self.below(12) {
            0 => format!("{metric} + on (l) {other}"),
            1 => format!("sum({metric})"),
            2 => format!("{metric} offset {}", self.of(&["10s", "-10s", "-10s"])),
            3 => format!("sum_over_time({metric}[{}])", self.of(&["20s", "45s"])),
            4 => format!("{metric} > 1 or {other}"),
            5 => format!("{metric} unless {other} > 2"),
            6 => format!("max_over_time(({metric} + 1)[40s:10s])"),
            7 => "vector(time())".to_string(),
            8 => format!("{metric} @ {}", self.of(&["30", "60", "end()"])),
            9 => "count(ALERTS)".to_string(),
            10 => format!("rate({metric}[{}]) * {other}", self.of(&["30s", "1m"])),
            _ => format!("label_replace({metric}, \"l\", \"a\", \"l\", \"b\")"),
        }
    }

    fn groups(&mut self) -> Vec<EvalGroup> {
        let mut name = 0;
        (0..1 + self.below(3))
            .map(|_| {
                let rules = (0..1 + self.below(3)).map(|_| {
                    name += 1;
                    let text = self.expr();
                    match self.below(5) {
                        0 => alert("A", &text, self.of(&[0, 20_000])),
                        1 => record("r0", &text),
                        _ => record(&format!("r{}", name - 1), &text),
                    }
                });
                let rules = rules.collect();
                let (step, offset) = (self.of(&[10_000, 20_000, 15_000]), self.of(&[0, 0, 3_000]));
                EvalGroup {
                    query_offset_ms: self.of(&[0, 0, 7_000]),
                    limit: self.of(&[0, 0, 0, 1]),
                    ..group(rules, Slots::aligned(40_000, 240_000, step, offset, self.of(&[0, 20_000])))
                }
            })
            .collect()
    }
}

#[test]
fn whole_windows_give_what_slot_after_slot_gives() {
    let mut results = 0;
    for seed in 0..300 {
        let random = &mut Random(seed);
        let values = |random: &mut Random| -> Vec<f64> {
            (0..26).map(|_| random.of(&[1.0, 2.0, 3.0, 5.0, f64::NAN])).collect()
        };
        let (a, b, n, r) = (values(random), values(random), values(random), values(random));
        let storage = store(&[("m/a", &a), ("m/b", &b), ("n/a", &n), ("r1/a", &r)]);
        let groups = random.groups();
        let use_stored = random.below(4) == 0;
        let slow = EvalSettings { ahead: false, use_stored, ..EvalSettings::default() };
        let want = run(&storage, &groups, &slow);
        for window_slots in [1000, 7] {
            let fast = EvalSettings { window_slots, use_stored, ..EvalSettings::default() };
            let got = run(&storage, &groups, &fast);
            let exprs: Vec<Vec<String>> = groups
                .iter()
                .map(|g| g.rules.iter().map(|r| format!("{}: {}", r.name(), r.expr().text)).collect())
                .collect();
            assert_eq!(got, want, "seed {seed}, windows of {window_slots}: {exprs:#?}");
        }
        results += want.len();
    }
    assert!(results > 600, "{results}");
}

#[test]
fn what_vanishes_between_windows_is_gone_for_whole_windows_too() {
    for gone in 6..20 {
        let values: Vec<f64> = (0..30).map(|k| if k < gone { 5.0 } else { 1.0 }).collect();
        let storage = store(&[("m/a", &values)]);
        let writer = group(vec![record("r", "m > 2")], Slots::aligned(0, 250_000, 10_000, 3_000, 0));
        let reader = group(vec![record("s", "r + 0")], every_10s(10, 250));
        let groups = [writer, reader];
        let slow = EvalSettings { ahead: false, ..EvalSettings::default() };
        let want = run(&storage, &groups, &slow);
        for window_slots in 4..12 {
            let fast = EvalSettings { window_slots, ..EvalSettings::default() };
            assert_eq!(run(&storage, &groups, &fast), want, "gone at {gone}, windows of {window_slots}");
        }
    }
}
