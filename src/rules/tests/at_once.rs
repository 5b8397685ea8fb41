//! Groups and rules at the same time: how many are, what they give, and that one that panics leaves the others alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::Sample;
use tsdbctl_rules::error::RuleError;
use tsdbctl_rules::file::{ReadOptions, RuleFile, read};
use tsdbctl_rules::group::{Health, RuleAppender, RuleStorage, Settings, World};
use tsdbctl_rules::manager::Manager;
use tsdbctl_rules::query::{Element, RuleExpr, RuleQuery};
use tsdbctl_rules::restore::LastFloat;
use tsdbctl_rules::sending::{AlertSink, OutgoingAlert};
use tsdbctl_storage::Refusal;
use tsdbctl_yaml::Source;

/// A storage of one sample per series and time, which sees how many questions are asked at the same time.
#[derive(Default)]
struct Store {
    samples: Mutex<BTreeMap<(String, i64), u64>>,
    sent: Mutex<Vec<String>>,
    now: AtomicI64,
    /// Questions being answered, and most of them so far.
    asking: Mutex<(usize, usize)>,
    changed: Condvar,
    /// Questions wait until so many are being asked.
    gather: Option<usize>,
}

impl Store {
    /// Answers once as many are asking as are waited for, and gives one more too many the time to come.
    fn gather(&self) {
        let Some(want) = self.gather else { return };
        let mut asking = self.asking.lock().expect("whole");
        asking.0 += 1;
        asking.1 = asking.1.max(asking.0);
        self.changed.notify_all();
        for (most, patience) in [(want, Duration::from_secs(10)), (want + 1, Duration::from_millis(30))] {
            (asking, _) = self.changed.wait_timeout_while(asking, patience, |a| a.1 < most).expect("whole");
        }
        asking.0 -= 1;
    }

    fn world(&self) -> World<'_> {
        World { storage: self, sink: self, clock: self }
    }
}

struct Ask<'a>(&'a Store);
impl RuleQuery for Ask<'_> {
    /// The sum of the series that the expression names, at that time; a metric `t` is the time.
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.0.gather();
        assert_ne!(&*expr.text, "boom", "as it is told");
        let samples = self.0.samples.lock().expect("whole");
        let value = |name: &str| match name {
            "t" => (t_ms / 1000) as f64,
            _ => samples.get(&(name.to_string(), t_ms)).map_or(-1.0, |bits| f64::from_bits(*bits)),
        };
        let sum: f64 = expr.text.split(" + ").map(value).sum();
        Ok(vec![Element { labels: Labels::empty(), sample: Sample::Float(sum) }])
    }
    fn instant_text(&mut self, _: &str, _: i64) -> Result<Vec<Element>, RuleError> {
        Err(RuleError::NotAVector)
    }
}

struct Put<'a>(&'a Store);
impl RuleAppender for Put<'_> {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal> {
        let Sample::Float(v) = sample else { return Err(Refusal::InvalidHistogram) };
        let name = match labels.get("alertname") {
            "" => labels.get("__name__").to_string(),
            alert => format!("{}{{{alert}}}", labels.get("__name__")),
        };
        match self.0.samples.lock().expect("whole").insert((name, t_ms), v.to_bits()) {
            None => Ok(()),
            Some(_) => Err(Refusal::Duplicate),
        }
    }
    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl RuleStorage for Store {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        Box::new(Ask(self))
    }
    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        Box::new(Put(self))
    }
    fn last_floats(&self, _: &[Matcher], _: i64, _: i64) -> Result<Vec<LastFloat>, String> {
        Ok(Vec::new())
    }
}

impl AlertSink for Store {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        for alert in alerts {
            assert_ne!(alert.labels.get("alertname"), "Boom", "as it is told");
            let text = format!("{} {} {}", alert.labels, alert.starts_at_ms, alert.ends_at_ms);
            self.sent.lock().expect("whole").push(text);
        }
    }
}

impl Clock for Store {
    fn now_ms(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn file(text: &str) -> RuleFile {
    let source = Arc::new(Source::new("f.yml", text));
    read(source, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e:?}\n{text}"))
}

fn manager(text: &str, settings: &Settings) -> Manager {
    let mut manager = Manager::new(settings.clone());
    manager.load(&[("f.yml".to_string(), file(text))], settings.clone(), 0).expect("good templates");
    manager
}

/// So many groups of so many rules that do not depend on each other.
fn independent(groups: usize, rules: usize) -> String {
    let mut text = "groups:\n".to_string();
    for g in 0..groups {
        text += &format!("- name: g{g}\n  rules:\n");
        for r in 0..rules {
            text += &format!("  - record: g{g}_m{r}\n    expr: t\n");
        }
    }
    text
}

#[test]
fn as_many_are_evaluated_at_the_same_time_as_the_settings_say() {
    for (groups, rules, groups_at_once, extra_evaluations, want) in [
        (3, 2, 0, 0, 1),
        (3, 2, 1, 0, 1),
        (3, 2, 3, 0, 3),
        (3, 2, 2, 0, 2),
        (1, 4, 4, 2, 3),
        (1, 4, 1, 9, 4),
        // The permits are shared by the groups.
        (2, 4, 2, 1, 3),
        (2, 4, 2, 3, 5),
        (3, 3, 1, 1, 2),
    ] {
        let settings = Settings { groups_at_once, extra_evaluations, ..Settings::default() };
        let store = Store { gather: Some(want), ..Store::default() };
        let mut manager = manager(&independent(groups, rules), &settings);
        let reports = manager.run_due(60_000, store.world());
        let case = format!("{groups} {rules} {groups_at_once} {extra_evaluations}");
        assert_eq!(reports.len(), groups, "{case}");
        assert_eq!(store.asking.lock().expect("whole").1, want, "{case}");
        assert_eq!(store.samples.lock().expect("whole").len(), groups * rules, "{case}");
        let mut slots: Vec<i64> = reports.iter().map(|r| r.ts_ms).collect();
        slots.sort_unstable();
        assert_eq!(slots, reports.iter().map(|r| r.ts_ms).collect::<Vec<_>>(), "{case}");
        manager.groups().iter().for_each(|g| assert_eq!(g.counters().evaluations, rules as u64, "{case}"));
    }
}

struct Dice(u64);
impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Groups whose rules read earlier ones of their own group.
fn dependent(dice: &mut Dice) -> String {
    let mut text = "groups:\n".to_string();
    for g in 0..2 + dice.below(5) {
        let interval = [20, 30, 60][dice.below(3)];
        text += &format!("- name: g{g}\n  interval: {interval}s\n  rules:\n");
        let mut recorded: Vec<String> = Vec::new();
        for r in 0..1 + dice.below(8) {
            let mut terms = recorded.clone();
            terms.retain(|_| dice.below(4) == 0);
            if terms.is_empty() {
                terms.push("t".to_string());
            }
            let expr = terms.join(" + ");
            text += &match dice.below(4) {
                0 => format!("  - alert: A{g}x{r}\n    expr: {expr}\n    for: 40s\n"),
                _ => {
                    recorded.push(format!("g{g}_m{r}"));
                    format!("  - record: g{g}_m{r}\n    expr: {expr}\n")
                }
            };
        }
    }
    text
}

type Course = (BTreeMap<(String, i64), u64>, Vec<String>, Vec<(String, i64, u64)>);

/// What groups wrote, sent and told over some runs.
fn course(text: &str, settings: &Settings) -> Course {
    let store = Store::default();
    let mut manager = manager(text, settings);
    let mut reports = Vec::new();
    for now_ms in (0..600_000).step_by(47_000) {
        store.now.store(now_ms, Ordering::Relaxed);
        let ran = manager.run_due(now_ms, store.world());
        reports.extend(ran.into_iter().map(|r| (r.group, r.ts_ms, r.missed)));
    }
    let mut sent = store.sent.into_inner().expect("whole");
    sent.sort();
    (store.samples.into_inner().expect("whole"), sent, reports)
}

#[test]
fn at_the_same_time_groups_give_what_they_give_one_after_another() {
    let serial = Settings::default();
    let (mut samples, mut sent) = (0, 0);
    for seed in 1..=60_u64 {
        let text = dependent(&mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let want = course(&text, &serial);
        for (groups_at_once, extra_evaluations) in [(4, 0), (1, 4), (4, 4), (64, 1)] {
            let settings = Settings { groups_at_once, extra_evaluations, ..Settings::default() };
            let got = course(&text, &settings);
            assert_eq!(got, want, "seed {seed}: {groups_at_once} {extra_evaluations}\n{text}");
        }
        // Everything was there when it was asked for.
        assert!(want.0.values().all(|bits| f64::from_bits(*bits) >= 0.0), "{text}");
        samples += want.0.len();
        sent += want.1.len();
    }
    assert!(samples > 5000 && sent > 500, "{samples} {sent}");
}

#[test]
fn a_panic_is_the_error_of_its_rule_alone() {
    let text = "groups:\n- name: g\n  rules:\n  - record: m0\n    expr: t\n  - record: m1\n    expr: boom\n  - alert: Boom\n    expr: t\n  - alert: A\n    expr: t\n  - record: m2\n    expr: m0\n- name: h\n  rules:\n  - record: n\n    expr: t\n";
    for (groups_at_once, extra_evaluations) in [(1, 0), (1, 4), (2, 0), (2, 4)] {
        let settings = Settings { groups_at_once, extra_evaluations, ..Settings::default() };
        let store = Store::default();
        let mut manager = manager(text, &settings);
        for runs in 1..=3_u64 {
            let reports = manager.run_due(runs as i64 * 60_000, store.world());
            assert_eq!(reports.len(), 2);
            let groups = manager.groups();
            let told: Vec<(Health, bool)> = (0..5)
                .map(|i| {
                    let state = groups[0].state(i);
                    let error = state.last_error.unwrap_or_default();
                    let panic = error.starts_with("unexpected error: ") && error.contains("as it is told");
                    (state.health, panic)
                })
                .collect();
            let good = (Health::Good, false);
            // An alert that was sent is not sent again a minute later, panic or not.
            let boom = if runs == 2 { good } else { (Health::Bad, true) };
            assert_eq!(told, [good, (Health::Bad, true), boom, good, good], "run {runs}");
            assert_eq!(groups[1].state(0).health, Health::Good);
            let failures = 2 * runs - u64::from(runs > 1);
            assert_eq!(
                (groups[0].counters().evaluations, groups[0].counters().failures),
                (5 * runs, failures)
            );
        }
        assert!(store.sent.lock().expect("whole").len() > 1);
    }
}
