//! Upstream's habits that are easy to get wrong, each as one literal case over a store in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tsdbctl_chunk::AppenderOptions;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::{QueryOptions, Sample};
use tsdbctl_promql::parser::parse_metric;
use tsdbctl_rules::alerting::Surroundings;
use tsdbctl_rules::depend::{Reason, RuleNode, batches, edges};
use tsdbctl_rules::error::RuleError;
use tsdbctl_rules::file::{ReadOptions, RuleFile, read};
use tsdbctl_rules::group::{Group, Health, RuleAppender, RuleStorage, Settings, World};
use tsdbctl_rules::manager::Manager;
use tsdbctl_rules::query::{Element, RuleExpr, RuleQuery};
use tsdbctl_rules::restore::{LastFloat, last_floats};
use tsdbctl_rules::sending::{AlertSink, OutgoingAlert};
use tsdbctl_rules::storage_query::StorageQuery;
use tsdbctl_storage::{Control, MemorySample, MemoryStore, Refusal};
use tsdbctl_yaml::Source;

/// A store in memory that refuses samples as the head does.
struct Memory {
    store: Mutex<MemoryStore>,
    last: Mutex<HashMap<Labels, (i64, u64)>>,
    written: Mutex<Vec<(String, i64, f64)>>,
    sent: Mutex<Vec<OutgoingAlert>>,
    now: AtomicI64,
    failing: Mutex<bool>,
}

impl Memory {
    fn new() -> Self {
        Self {
            store: Mutex::new(MemoryStore::new(AppenderOptions::default())),
            last: Mutex::default(),
            written: Mutex::default(),
            sent: Mutex::default(),
            now: AtomicI64::new(0),
            failing: Mutex::new(false),
        }
    }

    fn put(&self, labels: &Labels, t_ms: i64, v: f64) -> Result<(), Refusal> {
        let mut last = self.last.lock().expect("whole");
        match last.get(labels) {
            Some((t, _)) if *t > t_ms => return Err(Refusal::OutOfOrder),
            Some((t, bits)) if *t == t_ms && *bits != v.to_bits() => return Err(Refusal::Duplicate),
            Some((t, _)) if *t == t_ms => return Ok(()),
            _ => {}
        }
        last.insert(labels.clone(), (t_ms, v.to_bits()));
        self.store.lock().expect("whole").append(labels, t_ms, 0, &MemorySample::Float(v)).expect("encodes");
        self.written.lock().expect("whole").push((labels.selector_text(), t_ms, v));
        Ok(())
    }

    /// Puts a sample of a series in.
    fn scrape(&self, series: &str, t_ms: i64, v: f64) {
        self.put(&parse_metric(series).expect("a series"), t_ms, v).expect("taken");
    }

    /// What rules wrote since the last call: series, seconds, value (stale as `stale`).
    fn written(&self) -> Vec<String> {
        let written = std::mem::take(&mut *self.written.lock().expect("whole"));
        let value = |v: f64| if is_stale(v) { "stale".to_string() } else { v.to_string() };
        written.into_iter().map(|(s, t, v)| format!("{s} @{} {}", t / 1000, value(v))).collect()
    }

    fn sent(&self) -> Vec<OutgoingAlert> {
        std::mem::take(&mut *self.sent.lock().expect("whole"))
    }

    fn world(&self) -> World<'_> {
        World { storage: self, sink: self, clock: self }
    }
}

struct Ask<'a> {
    memory: &'a Memory,
}

impl Ask<'_> {
    fn with<T>(
        &self,
        ask: impl FnOnce(&mut StorageQuery<'_>) -> Result<T, RuleError>,
    ) -> Result<T, RuleError> {
        if *self.memory.failing.lock().expect("whole") {
            return Err(RuleError::Query("storage is gone".into()));
        }
        let store = self.memory.store.lock().expect("whole").clone();
        let (options, control) = (QueryOptions { threads: 1, ..QueryOptions::default() }, Control::default());
        ask(&mut StorageQuery::new(&store, &options, &control))
    }
}

impl RuleQuery for Ask<'_> {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.with(|q| q.instant(expr, t_ms))
    }
    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.with(|q| q.instant_text(text, t_ms))
    }
}

struct Put<'a>(&'a Memory);
impl RuleAppender for Put<'_> {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal> {
        match sample {
            Sample::Float(v) => self.0.put(labels, t_ms, *v),
            Sample::Histogram(_) => Err(Refusal::InvalidHistogram),
        }
    }
    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl RuleStorage for Memory {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        Box::new(Ask { memory: self })
    }
    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        Box::new(Put(self))
    }
    fn last_floats(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> Result<Vec<LastFloat>, String> {
        let store = self.store.lock().expect("whole").clone();
        last_floats(&store, matchers, mint, maxt, &Control::default()).map_err(|e| e.to_string())
    }
}

impl AlertSink for Memory {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        self.sent.lock().expect("whole").extend(alerts);
    }
}

impl Clock for Memory {
    fn now_ms(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn file(text: &str) -> RuleFile {
    let source = Arc::new(Source::new("f.yml", text));
    read(source, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e:?}"))
}

fn group_of(text: &str, settings: &Settings) -> Group {
    Group::new("f.yml", &file(text).groups[0], settings, false).expect("good templates")
}

fn settings() -> Settings {
    let surroundings = Surroundings {
        external_labels: Labels::from_pairs([("ext", "e"), ("g", "from outside")]),
        external_url: "http://h/p".to_string(),
    };
    Settings { surroundings: Arc::new(surroundings), ..Settings::default() }
}

const UP: &str = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: 'm > 0'\n";

/// Seconds at which alerts were sent over slots of `step` s up to `until` s, `m` being there all the time.
fn send_times(step: i64, until: i64, delay_ms: i64) -> Vec<i64> {
    let memory = Memory::new();
    let settings = Settings { resend_delay_ms: delay_ms, ..Settings::default() };
    let mut group = group_of(
        &format!("{UP}    # {step}\n").replace("  rules", &format!("  interval: {step}s\n  rules")),
        &settings,
    );
    let mut times = Vec::new();
    for t in (0..=until).step_by(step as usize) {
        memory.scrape("m", t * 1000, 1.0);
        group.run(t * 1000, 0, &settings, memory.world());
        times.extend(memory.sent().iter().map(|_| t));
    }
    times
}

#[test]
fn alerts_are_sent_again_only_after_more_than_the_delay() {
    assert_eq!(send_times(60, 360, 60_000), [0, 120, 240, 360]);
    assert_eq!(send_times(2, 18, 6_000), [0, 8, 16]);
}

/// `alertstate` at each minute; `-` where no alert is written.
fn states(rule: &str, present: &str) -> String {
    let memory = Memory::new();
    let settings = Settings::default();
    let mut group = group_of(&format!("{UP}{rule}"), &settings);
    let mut out = String::new();
    for (minute, here) in present.chars().enumerate() {
        let t_ms = minute as i64 * 60_000;
        memory.scrape("m", t_ms, if here == '1' { 1.0 } else { 0.0 });
        memory.written();
        group.run(t_ms, 0, &settings, memory.world());
        let written = memory.written();
        let has = |state: &str| {
            let want = format!("alertstate=\"{state}\"");
            written.iter().any(|w| w.contains(&want) && !w.ends_with("stale"))
        };
        out.push(if has("pending") {
            'p'
        } else if has("firing") {
            'f'
        } else {
            '-'
        });
    }
    out
}

#[test]
fn for_is_at_least_and_keep_firing_for_is_less_than() {
    for (rule, present, want) in [
        ("    for: 2m\n", "111110", "ppfff-"),
        ("    for: 90s\n", "1111", "ppff"),
        ("    for: 2m\n", "110111", "pp-ppf"),
        ("", "101", "f-f"),
        ("    keep_firing_for: 2m\n", "10000", "fff--"),
        ("    keep_firing_for: 90s\n", "10000", "fff--"),
        ("    keep_firing_for: 2m\n", "1001001", "fffffff"),
        // Pending alerts are not kept.
        ("    for: 2m\n    keep_firing_for: 5m\n", "1100", "pp--"),
    ] {
        assert_eq!(states(rule, present), want, "{rule:?} {present}");
    }
}

#[test]
fn pending_to_firing_marks_the_pending_series_stale_at_that_time() {
    let memory = Memory::new();
    let settings = Settings::default();
    let mut group = group_of(&format!("{UP}    for: 1m\n"), &settings);
    for t in [0, 60] {
        memory.scrape("m", t * 1000, 1.0);
        memory.written();
        group.run(t * 1000, 0, &settings, memory.world());
    }
    let want = [
        r#"ALERTS{alertname="A", alertstate="firing"} @60 1"#,
        r#"ALERTS_FOR_STATE{alertname="A"} @60 0"#,
        r#"ALERTS{alertname="A", alertstate="pending"} @60 stale"#,
    ];
    assert_eq!(memory.written(), want);
}

#[test]
fn templates_go_by_the_slot_and_samples_by_the_query_offset() {
    let memory = Memory::new();
    let settings = Settings::default();
    let mut group = group_of(
        "groups:\n- name: g\n  query_offset: 2m\n  rules:\n  - alert: A\n    expr: vector(time())\n    annotations:\n      a: '{{ $value }}|{{ query \"time()\" | first | value }}|{{ now }}'\n",
        &settings,
    );
    group.run(300_000, 0, &settings, memory.world());
    assert_eq!(memory.sent()[0].annotations["a"], "180|300|300");
    assert_eq!(memory.written()[0], r#"ALERTS{alertname="A", alertstate="firing"} @180 1"#);
}

#[test]
fn labels_in_templates_are_those_of_the_expression_alone() {
    let memory = Memory::new();
    let settings = settings();
    let mut group = group_of(
        "groups:\n- name: g\n  labels: {g: gl}\n  rules:\n  - alert: A\n    expr: m > 0\n    labels: {r: rl, gone: '{{ $labels.nope }}'}\n    annotations:\n      a: '[{{ $labels.g }}{{ $labels.r }}{{ $labels.ext }}{{ $labels.alertname }}]{{ $labels.__name__ }} {{ $labels.x }} {{ $externalLabels.ext }}'\n",
        &settings,
    );
    memory.scrape(r#"m{x="1"}"#, 0, 5.0);
    memory.written();
    group.run(0, 0, &settings, memory.world());
    let sent = memory.sent();
    assert_eq!(sent[0].annotations["a"], "[]m 1 e");
    // The alert's own label wins over the external one; what expanded to nothing is on disk as its template.
    assert_eq!(sent[0].labels.to_string(), r#"{alertname="A", ext="e", g="gl", r="rl", x="1"}"#);
    assert_eq!(sent[0].generator_url, "http://h/p/graph?g0.expr=m+%3E+0&g0.tab=1");
    assert_eq!((sent[0].starts_at_ms, sent[0].ends_at_ms), (0, 240_000));
    let first = &memory.written()[0];
    assert!(first.contains(r#"gone="{{ $labels.nope }}""#), "{first}");
}

#[test]
fn a_failed_run_writes_no_markers_and_the_next_good_one_does() {
    let memory = Memory::new();
    let settings = Settings::default();
    let mut group = group_of("groups:\n- name: g\n  rules:\n  - record: r\n    expr: m > 0\n", &settings);
    memory.scrape(r#"m{x="1"}"#, 0, 1.0);
    group.run(0, 0, &settings, memory.world());
    memory.scrape(r#"m{x="1"}"#, 60_000, 0.0);
    memory.written();
    *memory.failing.lock().expect("whole") = true;
    group.run(60_000, 0, &settings, memory.world());
    assert_eq!(memory.written(), Vec::<String>::new());
    let state = group.state(0);
    assert_eq!((state.health, state.last_error.as_deref()), (Health::Bad, Some("storage is gone")));
    *memory.failing.lock().expect("whole") = false;
    group.run(120_000, 0, &settings, memory.world());
    assert_eq!(memory.written(), [r#"r{x="1"} @120 stale"#]);
    assert_eq!(group.state(0).health, Health::Good);
    assert_eq!((group.counters().evaluations, group.counters().failures), (3, 1));
}

#[test]
fn a_removed_group_is_marked_two_intervals_later_at_its_end() {
    let memory = Memory::new();
    let both = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: vector(1)\n- name: h\n  rules:\n  - record: q\n    expr: vector(NaN)\n";
    let one = both.split("- name: h").next().expect("a part");
    let mut manager = Manager::new(Settings::default());
    let load = |m: &mut Manager, text: &str, now| {
        m.load(&[("f.yml".to_string(), file(text))], Settings::default(), now).expect("good");
    };
    load(&mut manager, both, 0);
    for _ in 0..2 {
        let due = manager.next_due_ms().expect("groups");
        manager.run_due(due, memory.world());
    }
    memory.written();
    load(&mut manager, one, 65_000);
    let mut markers = Vec::new();
    while manager.next_due_ms().expect("groups") <= 400_000 {
        let now = manager.next_due_ms().expect("groups");
        manager.run_due(now, memory.world());
        let written = memory.written();
        markers.extend(written.into_iter().filter(|w| w.ends_with("stale")).map(|w| (now, w)));
    }
    assert_eq!(markers, [(185_000, "q @65 stale".to_string())]);
}

#[test]
fn two_rules_on_one_series_leave_the_second_unhealthy() {
    let memory = Memory::new();
    let settings = Settings::default();
    let mut group = group_of(
        "groups:\n- name: g\n  rules:\n  - record: r\n    expr: vector(1)\n  - record: r\n    expr: vector(2)\n  - record: s\n    expr: '\"text\"'\n  - record: t\n    expr: m\n    labels: {x: ''}\n  - record: u\n    expr: r + 1\n",
        &settings,
    );
    memory.scrape(r#"m{x="1"}"#, 0, 1.0);
    memory.scrape(r#"m{x="2"}"#, 0, 1.0);
    memory.written();
    group.run(0, 0, &settings, memory.world());
    let errors: Vec<_> = (0..5).map(|i| group.state(i).last_error).collect();
    let text = |s: &str| Some(s.to_string());
    assert_eq!(
        errors,
        [
            None,
            text("duplicate sample for timestamp"),
            text("rule result is not a vector or scalar"),
            text("vector contains metrics with the same labelset after applying rule labels"),
            None,
        ]
    );
    // A later rule sees what an earlier one wrote at this time.
    assert_eq!(memory.written(), ["r @0 1", "u @0 2"]);
}

#[test]
fn a_breach_of_the_limit_drops_all_alerts() {
    let memory = Memory::new();
    let settings = Settings::default();
    let mut group = group_of(&UP.replace("  rules", "  limit: 1\n  rules"), &settings);
    memory.scrape(r#"m{x="1"}"#, 0, 1.0);
    group.run(0, 0, &settings, memory.world());
    assert_eq!(group.state(0).active.alerts.len(), 1);
    memory.scrape(r#"m{x="2"}"#, 1000, 1.0);
    group.run(60_000, 0, &settings, memory.world());
    let state = group.state(0);
    assert_eq!(state.last_error.as_deref(), Some("exceeded limit of 1 with 2 alerts"));
    assert!(state.active.alerts.is_empty());
}

#[test]
fn white_space_leaves_a_group_running_and_external_labels_do_not() {
    let group = |text: &str, settings: &Settings| group_of(text, settings);
    let plain = group(UP, &Settings::default());
    assert!(plain.equals(&group(&UP.replace("m > 0", "m   >0"), &Settings::default())));
    assert!(!plain.equals(&group(&UP.replace("m > 0", "m > 1"), &Settings::default())));
    assert!(!plain.equals(&group(UP, &settings())));
    assert!(!plain.equals(&group(&format!("{UP}    for: 1m\n"), &Settings::default())));
}

#[test]
fn two_runs_after_a_start_write_no_alerts() {
    let memory = Memory::new();
    let mut manager = Manager::new(Settings::default());
    let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: vector(1)\n";
    manager.load(&[("f.yml".to_string(), file(text))], Settings::default(), 0).expect("good");
    let counts: Vec<usize> = (0..3)
        .map(|_| {
            manager.run_due(manager.next_due_ms().expect("a group"), memory.world());
            memory.written().len()
        })
        .collect();
    assert_eq!(counts, [0, 0, 2]);
}

#[test]
fn dependencies_are_found_in_selectors_alerts_and_templates() {
    let text = "groups:\n- name: g\n  rules:\n  - record: a\n    expr: m\n  - record: b\n    expr: a + c\n  - record: c\n    expr: n\n  - alert: A\n    expr: b > 1\n    annotations: {q: '{{ query \"c\" | first }}'}\n  - record: d\n    expr: ALERTS{alertname=~\"A|B\"}\n  - record: e\n    expr: n\n";
    let group = group_of(text, &Settings::default());
    let nodes: Vec<RuleNode<'_>> =
        group.rules.iter().enumerate().map(|(index, rule)| RuleNode { group: 0, index, rule }).collect();
    let found: Vec<(usize, usize, Reason)> =
        edges(&nodes).into_iter().map(|e| (e.writer, e.reader, e.reason)).collect();
    assert_eq!(
        found,
        [
            (0, 1, Reason::Metric("a".into())),
            (2, 1, Reason::Metric("c".into())),
            (1, 3, Reason::Metric("b".into())),
            (2, 3, Reason::Template("c".into())),
            (3, 4, Reason::Alerts("ALERTS{alertname=~\"A|B\"}".into())),
        ]
    );
    assert_eq!(batches(&group.rules), [vec![0, 5], vec![1], vec![2], vec![3], vec![4]]);
    let any = group_of(&text.replace("expr: n", "expr: '{job=\"x\"}'"), &Settings::default());
    assert_eq!(batches(&any.rules).len(), 6);
    let computed = group_of(&text.replace("query \"c\"", "query (print 1)"), &Settings::default());
    assert_eq!(batches(&computed.rules).len(), 6);
}

/// An appender that refuses or fails to commit as it is told; the clock moves 20 ms with every question.
struct Refusing {
    refusal: Option<Refusal>,
    commit: Result<(), String>,
    taken: Mutex<Vec<(String, bool)>>,
    ticks: AtomicI64,
}

struct OneSeries(Sample);
impl RuleQuery for OneSeries {
    fn instant(&mut self, _: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let names: &[&str] = if t_ms == 0 { &["a", "b"] } else { &["b"] };
        let element = |n: &&str| Element { labels: Labels::from_pairs([("n", *n)]), sample: self.0.clone() };
        Ok(names.iter().map(element).collect())
    }
    fn instant_text(&mut self, _: &str, _: i64) -> Result<Vec<Element>, RuleError> {
        Err(RuleError::NotAVector)
    }
}

struct RefusingPut<'a>(&'a Refusing);
impl RuleAppender for RefusingPut<'_> {
    fn append(&mut self, labels: &Labels, _: i64, sample: &Sample) -> Result<(), Refusal> {
        let stale = matches!(sample, Sample::Float(v) if is_stale(*v));
        match self.0.refusal {
            Some(refusal) if labels.get("n") == "b" && !stale => Err(refusal),
            _ => {
                self.0.taken.lock().expect("whole").push((labels.to_string(), stale));
                Ok(())
            }
        }
    }
    fn commit(&mut self) -> Result<(), String> {
        self.0.commit.clone()
    }
}

impl RuleStorage for Refusing {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        Box::new(OneSeries(Sample::Histogram(Arc::default())))
    }
    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        Box::new(RefusingPut(self))
    }
    fn last_floats(&self, _: &[Matcher], _: i64, _: i64) -> Result<Vec<LastFloat>, String> {
        Ok(Vec::new())
    }
}

impl AlertSink for Refusing {
    fn send(&self, _: Vec<OutgoingAlert>) {}
}

impl Clock for Refusing {
    fn now_ms(&self) -> i64 {
        0
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.ticks.fetch_add(20, Ordering::Relaxed) as u64)
    }
}

#[test]
fn a_refused_sample_makes_the_rule_bad_and_only_a_failed_commit_counts_as_a_failure() {
    let refusals = [
        Refusal::OutOfOrder,
        Refusal::TooOld,
        Refusal::OutOfBounds,
        Refusal::Duplicate,
        Refusal::InvalidHistogram,
    ];
    let cases = refusals.map(|r| (Some(r), Ok(()))).into_iter().chain([
        (None, Ok(())),
        (None, Err("disk full".to_string())),
        (Some(Refusal::OutOfOrder), Err("disk full".to_string())),
    ]);
    for (refusal, commit) in cases {
        let ok = commit.is_ok();
        let store = Refusing { refusal, commit, taken: Mutex::default(), ticks: AtomicI64::new(0) };
        let world = World { storage: &store, sink: &store, clock: &store };
        let settings = Settings::default();
        let mut group = group_of("groups:\n- name: g\n  rules:\n  - record: r\n    expr: m\n", &settings);
        group.run(0, 0, &settings, world);
        group.run(60_000, 0, &settings, world);
        let state = group.state(0);
        let healthy = refusal.is_none() && ok;
        assert_eq!(state.health, if healthy { Health::Good } else { Health::Bad }, "{refusal:?}");
        let words = if ok { refusal.map(|r| r.to_string()) } else { Some("disk full".to_string()) };
        assert_eq!(state.last_error, words, "{refusal:?}");
        let counters = group.counters();
        assert_eq!((counters.evaluations, counters.failures), (2, if ok { 0 } else { 2 }), "{refusal:?}");
        // Series `a` vanished in the second run: marked only if the first was committed.
        let markers = store.taken.lock().expect("whole").iter().filter(|t| t.1).count();
        assert_eq!(markers, usize::from(ok), "{refusal:?}");
        let dropped = state.dropped;
        let all = [dropped.out_of_order, dropped.too_old, dropped.duplicates, dropped.others];
        let class = refusal.map(|r| match r {
            Refusal::OutOfOrder => 0,
            Refusal::TooOld => 1,
            Refusal::Duplicate => 2,
            _ => 3,
        });
        assert_eq!(all, [0, 1, 2, 3].map(|i| u64::from(class == Some(i))), "{refusal:?}");
    }
}

#[test]
fn metrics_of_a_group_are_named_and_counted_as_upstreams() {
    let store = Refusing { refusal: None, commit: Ok(()), taken: Mutex::default(), ticks: AtomicI64::new(0) };
    let world = World { storage: &store, sink: &store, clock: &store };
    let mut manager = Manager::new(Settings::default());
    let text = "groups:\n- name: g\n  interval: 30s\n  rules:\n  - record: r\n    expr: m\n  - record: q\n    expr: m\n  - record: s\n    expr: '\"x\"'\n";
    manager.load(&[("f.yml".to_string(), file(text))], Settings::default(), 0).expect("good");
    let first_ms = manager.next_due_ms().expect("a group");
    manager.run_due(first_ms, world);
    // Two slots are missed; the group restores after this run.
    let reports = manager.run_due(first_ms + 95_000, world);
    assert_eq!((reports.len(), reports[0].missed), (1, 2));
    let group = manager.groups()[0];
    assert_eq!(group.key(), "f.yml;g");
    let told: Vec<String> = group.metrics().iter().map(|(name, value)| format!("{name} {value}")).collect();
    // Each evaluation looks at the clock twice, each run and each restoring around that twice more: 20 ms a look.
    let want = [
        "prometheus_rule_evaluations_total 6",
        "prometheus_rule_evaluation_failures_total 0",
        "prometheus_rule_group_iterations_total 4",
        "prometheus_rule_group_iterations_missed_total 2",
        "prometheus_rule_group_interval_seconds 30",
        "prometheus_rule_group_rules 3",
        "prometheus_rule_group_last_evaluation_samples 3",
        "prometheus_rule_group_last_evaluation_timestamp_seconds 0",
        "prometheus_rule_group_last_duration_seconds 0.14",
        "prometheus_rule_group_last_rule_duration_sum_seconds 0.06",
        "prometheus_rule_group_last_restore_duration_seconds 0.02",
    ];
    assert_eq!(told, want);

    let told = manager.duration_metrics(world.clock.monotonic()).into_iter().map(|m| {
        let label = m.label.map(|(name, value)| format!("{{{name}=\"{value}\"}}")).unwrap_or_default();
        format!("{}{label} {:.2}", m.name, m.value)
    });
    let want = [
        "prometheus_rule_evaluation_duration_seconds{quantile=\"0.5\"} 0.02",
        "prometheus_rule_evaluation_duration_seconds{quantile=\"0.9\"} 0.02",
        "prometheus_rule_evaluation_duration_seconds{quantile=\"0.99\"} 0.02",
        "prometheus_rule_evaluation_duration_seconds_sum 0.12",
        "prometheus_rule_evaluation_duration_seconds_count 6.00",
        "prometheus_rule_evaluation_duration_histogram_seconds_bucket{le=\"0.01\"} 0.00",
        "prometheus_rule_evaluation_duration_histogram_seconds_bucket{le=\"0.1\"} 6.00",
        "prometheus_rule_evaluation_duration_histogram_seconds_bucket{le=\"1\"} 6.00",
        "prometheus_rule_evaluation_duration_histogram_seconds_bucket{le=\"10\"} 6.00",
        "prometheus_rule_evaluation_duration_histogram_seconds_bucket{le=\"inf\"} 6.00",
        "prometheus_rule_evaluation_duration_histogram_seconds_sum 0.12",
        "prometheus_rule_evaluation_duration_histogram_seconds_count 6.00",
        "prometheus_rule_group_duration_seconds{quantile=\"0.01\"} 0.14",
        "prometheus_rule_group_duration_seconds{quantile=\"0.05\"} 0.14",
        "prometheus_rule_group_duration_seconds{quantile=\"0.5\"} 0.14",
        "prometheus_rule_group_duration_seconds{quantile=\"0.9\"} 0.14",
        "prometheus_rule_group_duration_seconds{quantile=\"0.99\"} 0.14",
        "prometheus_rule_group_duration_seconds_sum 0.28",
        "prometheus_rule_group_duration_seconds_count 2.00",
        "prometheus_rule_group_duration_histogram_seconds_bucket{le=\"0.01\"} 0.00",
        "prometheus_rule_group_duration_histogram_seconds_bucket{le=\"0.1\"} 0.00",
        "prometheus_rule_group_duration_histogram_seconds_bucket{le=\"1\"} 2.00",
        "prometheus_rule_group_duration_histogram_seconds_bucket{le=\"10\"} 2.00",
        "prometheus_rule_group_duration_histogram_seconds_bucket{le=\"inf\"} 2.00",
        "prometheus_rule_group_duration_histogram_seconds_sum 0.28",
        "prometheus_rule_group_duration_histogram_seconds_count 2.00",
    ];
    assert_eq!(told.collect::<Vec<_>>(), want);

    // What is gone still counts, what is loaded anew begins at nothing.
    manager.load(&[], Settings::default(), first_ms + 96_000).expect("good");
    assert_eq!(manager.duration_metrics(world.clock.monotonic())[4].value, 6.0);
}

#[test]
fn restoring_goes_by_the_last_float_before_any_histogram() {
    use MemorySample::{Float, FloatHistogram as Wide};
    let stale = tsdbctl_model::sample::stale_nan();
    let histogram = || Wide(tsdbctl_model::FloatHistogram::default());
    type Case = (&'static str, Vec<(i64, MemorySample)>, Option<(i64, f64)>);
    let cases: Vec<Case> = vec![
        ("floats", vec![(60_000, Float(1.0)), (120_000, Float(2.0))], Some((120_000, 2.0))),
        ("stale", vec![(60_000, Float(1.0)), (120_000, Float(stale))], Some((120_000, stale))),
        ("float, histogram", vec![(60_000, Float(1.0)), (120_000, histogram())], Some((60_000, 1.0))),
        ("histogram, float", vec![(60_000, histogram()), (120_000, Float(1.0))], Some((0, 0.0))),
        ("before", vec![(1_000, Float(1.0))], None),
        ("after", vec![(900_000, Float(1.0))], None),
    ];
    for (name, samples, want) in cases {
        let mut store = MemoryStore::new(AppenderOptions::default());
        let labels = Labels::from_pairs([("__name__", "ALERTS_FOR_STATE")]);
        for (t_ms, sample) in &samples {
            store.append(&labels, *t_ms, 0, sample).expect("encodes");
        }
        let matchers = [Matcher::equal("__name__", "ALERTS_FOR_STATE")];
        let found = last_floats(&store, &matchers, 30_000, 600_000, &Control::default()).expect("reads");
        let found = found.first().map(|f| (f.t_ms, f.value.to_bits()));
        assert_eq!(found, want.map(|(t, v)| (t, v.to_bits())), "{name}");
    }
}
