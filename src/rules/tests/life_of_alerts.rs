//! Groups over random scripts against a slow and plain model of upstream's state machine: states, samples, stale
//! markers and sends. TSDBCTL_RULE_SCRIPTS sets the number of scripts.
//!
//! The same scripts, with histograms, NaN and failing templates as well, beside upstream's own rules: a program that
//! plays them with upstream's packages is named by `TSDBCTL_PEER_RULES`. It reads lines of JSON (`Op`: `new`, `load`,
//! `restart`, `run`, `dump`, `slot`, `batches`), answers each with one, and knows [`Nature`].

#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a skipped test has to say so")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tsdbctl_model::histogram::{BucketSpan, FloatHistogram};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::{QueryOptions, Sample, parse_query};
use tsdbctl_rules::alerting::Surroundings;
use tsdbctl_rules::error::RuleError;
use tsdbctl_rules::file::{ReadOptions, RuleFile, read};
use tsdbctl_rules::group::{Group, Rule, RuleAppender, RuleStorage, Settings, World};
use tsdbctl_rules::manager::Manager;
use tsdbctl_rules::query::{Element, RuleExpr, RuleQuery};
use tsdbctl_rules::restore::LastFloat;
use tsdbctl_rules::schedule::{Schedule, offset_ns};
use tsdbctl_rules::sending::{AlertSink, OutgoingAlert};
use tsdbctl_storage::Refusal;
use tsdbctl_yaml::Source;

const STALE: u64 = 0x7ff0_0000_0000_0002;
type Set = BTreeMap<String, String>;

/// What is stored: bits of the value per series and time.
#[derive(Clone, Debug, Default, PartialEq)]
struct Disk(BTreeMap<Set, BTreeMap<i64, u64>>);

impl Disk {
    fn put(&mut self, series: &Set, t: i64, bits: u64) -> Result<(), Refusal> {
        let samples = self.0.entry(series.clone()).or_default();
        match samples.last_key_value() {
            Some((last, _)) if *last > t => Err(Refusal::OutOfOrder),
            Some((last, old)) if *last == t && *old != bits => Err(Refusal::Duplicate),
            _ => {
                samples.insert(t, bits);
                Ok(())
            }
        }
    }
}

fn set(labels: &Labels) -> Set {
    labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect()
}

/// The world as a script has it: which series an expression gives at a time.
#[derive(Clone, Copy, Debug)]
struct Nature {
    seed: u64,
    /// Histograms, NaN and infinity too.
    wild: bool,
}

impl Nature {
    fn roll(&self, what: u64, a: u64, b: u64) -> u64 {
        let mut x = self.seed ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for part in [a, b] {
            x = (x ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x ^= x >> 29;
            x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^= x >> 32;
        }
        x
    }

    /// Numbers of the series that expression `e` gives at `t`, or an error.
    fn result(&self, e: u64, t: i64) -> Result<Vec<u64>, ()> {
        let t = t as u64;
        if self.roll(1, e, t).is_multiple_of(16) {
            return Err(());
        }
        let period = [60_000, 170_000, 420_000, 1_500_000][(self.roll(2, e, 0) % 4) as usize];
        Ok((0..3).filter(|s| !self.roll(3 + s, e, (t + s * 17_000) / period).is_multiple_of(3)).collect())
    }

    /// The value of series `s` of expression `e` at `t`.
    fn value(&self, e: u64, s: u64, t: i64) -> Sample {
        let t = t as u64;
        match self.roll(20 + s, e, t) % 12 {
            0 if self.wild => Sample::Float(f64::from_bits(0x7ff8_0000_0000_0001)),
            1 if self.wild => Sample::Float(f64::INFINITY),
            2 if self.wild => Sample::Histogram(Arc::new(histogram(self.roll(30, e, t) % 4))),
            _ => Sample::Float(s as f64),
        }
    }
}

/// One of four histograms, told from each other by their count.
fn histogram(i: u64) -> FloatHistogram {
    let i = i as f64;
    let spans = || vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 2 }];
    let buckets = || vec![i + 1.0, i + 2.0, i + 1.0, i + 1.0];
    FloatHistogram {
        schema: 1,
        count: 12.0 + i * 9.0,
        zero_count: 2.0 + i,
        zero_threshold: 0.001,
        sum: 18.4 * (i + 1.0),
        positive_spans: spans(),
        negative_spans: spans(),
        positive_buckets: buckets(),
        negative_buckets: buckets(),
        ..FloatHistogram::default()
    }
}

/// Bits that stand for a histogram of this count.
fn histogram_bits(count: f64) -> u64 {
    0xfff8_0000_0001_0000 + count as u64
}

struct Store {
    nature: Nature,
    disk: Mutex<Disk>,
    sent: Mutex<Vec<(Set, i64, i64)>>,
    letters: Mutex<Vec<Value>>,
    now: AtomicI64,
}

struct Ask(Nature);
impl RuleQuery for Ask {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let e = expr.text.trim_start_matches('x').parse().expect("a number");
        let found = self.0.result(e, t_ms).map_err(|()| RuleError::Query("no".into()))?;
        let element = |s: u64| Element {
            labels: Labels::from_pairs([("__name__", "x".to_string()), ("s", s.to_string())]),
            sample: self.0.value(e, s, t_ms),
        };
        Ok(found.into_iter().map(element).collect())
    }
    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let options = QueryOptions::default();
        let expr = Arc::new(parse_query(text, &options).map_err(|e| RuleError::Query(e.message))?);
        self.instant(&RuleExpr { text: text.into(), printed: text.into(), expr }, t_ms)
    }
}

struct Put<'a>(&'a Mutex<Disk>);
impl RuleAppender for Put<'_> {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal> {
        let bits = match sample {
            Sample::Float(v) => v.to_bits(),
            Sample::Histogram(h) => histogram_bits(h.count),
        };
        self.0.lock().expect("whole").put(&set(labels), t_ms, bits)
    }
    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl RuleStorage for Store {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        Box::new(Ask(self.nature))
    }
    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        Box::new(Put(&self.disk))
    }
    fn last_floats(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> Result<Vec<LastFloat>, String> {
        let disk = self.disk.lock().expect("whole");
        let fits = |s: &Set| matchers.iter().all(|m| m.matches(s.get(&m.name).map_or("", |v| v.as_str())));
        let found = disk.0.iter().filter(|(s, _)| fits(s)).filter_map(|(s, samples)| {
            let (t, bits) = samples.range(mint..=maxt).next_back()?;
            let labels = Labels::from_pairs(s.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            Some(LastFloat { labels, t_ms: *t, value: f64::from_bits(*bits) })
        });
        Ok(found.collect())
    }
}

impl AlertSink for Store {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        self.letters.lock().expect("whole").extend(alerts.iter().map(|a| {
            let mut labels = set(&a.labels);
            labels.remove("ext");
            json!({"L": labels, "A": a.annotations, "S": a.starts_at_ms, "E": a.ends_at_ms, "U": a.generator_url})
        }));
        let mut sent = self.sent.lock().expect("whole");
        sent.extend(alerts.into_iter().map(|a| (set(&a.labels), a.starts_at_ms, a.ends_at_ms)));
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

/// A rule of a script; a recording rule has no `for`.
#[derive(Clone, Debug, PartialEq)]
struct Def {
    name: String,
    expr: u64,
    hold: Option<i64>,
    keep: i64,
    labels: BTreeMap<String, String>,
    annotation: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
struct GroupDef {
    name: String,
    interval: i64,
    limit: i64,
    offset: Option<i64>,
    rules: Vec<Def>,
}

fn yaml(groups: &[GroupDef]) -> String {
    let mut out = "groups:\n".to_string();
    for g in groups {
        out += &format!("- name: {}\n  interval: {}ms\n  limit: {}\n", g.name, g.interval, g.limit);
        if let Some(offset) = g.offset {
            out += &format!("  query_offset: {offset}ms\n");
        }
        out += "  rules:\n";
        for r in &g.rules {
            match r.hold {
                Some(hold) => {
                    out += &format!(
                        "  - alert: {}\n    expr: x{}\n    for: {hold}ms\n    keep_firing_for: {}ms\n",
                        r.name, r.expr, r.keep
                    );
                }
                None => out += &format!("  - record: {}\n    expr: x{}\n", r.name, r.expr),
            }
            if let Some(text) = r.annotation {
                out += &format!("    annotations:\n      a: '{text}'\n");
            }
            out += "    labels:\n      l: w\n";
            for (name, value) in &r.labels {
                out += &format!("      {name}: '{value}'\n");
            }
        }
    }
    out
}

fn file(groups: &[GroupDef]) -> RuleFile {
    let source = Arc::new(Source::new("f.yml", yaml(groups)));
    read(source, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e:?}\n{}", yaml(groups)))
}

// The model. Everything is done as plainly as can be, from what upstream is seen to do.

#[derive(Clone, Debug)]
struct ModelAlert {
    labels: Set,
    state: &'static str,
    active: i64,
    fired: Option<i64>,
    resolved: Option<i64>,
    sent: Option<i64>,
    keep_since: Option<i64>,
}

#[derive(Clone, Debug)]
struct ModelRule {
    def: Def,
    alerts: Vec<ModelAlert>,
    last: BTreeSet<Set>,
    restored: bool,
}

#[derive(Clone, Debug)]
struct ModelGroup {
    def: GroupDef,
    rules: Vec<ModelRule>,
    stale: Vec<Set>,
    next_ns: i64,
    last_ns: Option<i64>,
    runs: usize,
    restore: bool,
}

#[derive(Default)]
struct Model {
    disk: Disk,
    sent: Vec<(Set, i64, i64)>,
    groups: Vec<ModelGroup>,
    removed: Vec<(i64, i64, Vec<Set>)>,
    loaded: bool,
}

impl ModelRule {
    fn raw(&self) -> Set {
        let mut raw = self.def.labels.clone();
        raw.insert("l".into(), "w".into());
        raw
    }

    fn rendered(&self, s: u64) -> Set {
        let mut out = BTreeMap::from([("s".to_string(), s.to_string())]);
        for (name, value) in self.raw() {
            let value = match value.as_str() {
                "{{ $labels.s }}y" => format!("{s}y"),
                "{{ $labels.nope }}" => String::new(),
                other => other.to_string(),
            };
            if value.is_empty() {
                out.remove(&name)
            } else {
                out.insert(name, value)
            };
        }
        out
    }

    /// Samples, or nothing if the evaluation failed.
    fn evaluate(&mut self, nature: Nature, ts: i64, t: i64, limit: i64) -> Option<Vec<(Set, f64)>> {
        let found = nature.result(self.def.expr, t).ok()?;
        let mut wanted: Vec<Set> = Vec::new();
        for s in &found {
            let mut labels = self.rendered(*s);
            let key = if self.def.hold.is_some() { "alertname" } else { "__name__" };
            labels.insert(key.into(), self.def.name.clone());
            if wanted.contains(&labels) {
                return None;
            }
            wanted.push(labels);
        }
        let Some(hold) = self.def.hold else {
            if limit > 0 && wanted.len() as i64 > limit {
                return None;
            }
            return Some(wanted.into_iter().zip(found.iter().map(|s| *s as f64)).collect());
        };
        for labels in &wanted {
            if !self.alerts.iter().any(|a| a.labels == *labels && a.state != "inactive") {
                self.alerts.retain(|a| a.labels != *labels);
                self.alerts.push(ModelAlert {
                    labels: labels.clone(),
                    state: "pending",
                    active: ts,
                    fired: None,
                    resolved: None,
                    sent: None,
                    keep_since: None,
                });
            }
        }
        let (mut out, mut count, mut kept) = (Vec::new(), 0, Vec::new());
        for mut a in std::mem::take(&mut self.alerts) {
            let mut shown = wanted.contains(&a.labels);
            if shown {
                a.keep_since = None;
            } else {
                if a.state == "firing" && self.def.keep > 0 {
                    if a.keep_since.is_none() {
                        a.keep_since = Some(ts);
                    }
                    shown = ts < a.keep_since.expect("set") + self.def.keep;
                }
                let forgotten = a.resolved.is_some_and(|r| ts > r + 900_000);
                if a.state == "pending" || forgotten {
                    continue;
                }
                if a.state == "firing" && !shown {
                    a.state = "inactive";
                    a.resolved = Some(ts);
                }
            }
            if shown {
                count += 1;
                if a.state == "pending" && ts >= a.active + hold {
                    (a.state, a.fired) = ("firing", Some(ts));
                } else if a.state == "firing" && ts < a.active + hold {
                    (a.state, a.fired, a.sent, a.keep_since) = ("pending", None, None, None);
                }
                if self.restored {
                    let mut base = self.raw();
                    base.extend(a.labels.clone());
                    let mut alerts = base.clone();
                    alerts.insert("__name__".into(), "ALERTS".into());
                    alerts.insert("alertstate".into(), a.state.into());
                    base.insert("__name__".into(), "ALERTS_FOR_STATE".into());
                    out.push((alerts, 1.0));
                    out.push((base, a.active.div_euclid(1000) as f64));
                }
            }
            kept.push(a);
        }
        if limit > 0 && count > limit {
            return None;
        }
        self.alerts = kept;
        Some(out)
    }
}

impl Model {
    fn load(&mut self, defs: &[GroupDef], now: i64) {
        let mut old = std::mem::take(&mut self.groups);
        for def in defs {
            let before = old.iter().position(|g| g.def.name == def.name).map(|i| old.remove(i));
            if before.as_ref().is_some_and(|b| b.def == *def) {
                self.groups.extend(before);
                continue;
            }
            let interval = def.interval * 1_000_000;
            let offset = offset_ns("f.yml", &def.name, def.interval);
            let mut next = offset;
            next += (now * 1_000_000 - offset) / interval * interval + interval;
            let rule = |d: &Def| ModelRule {
                def: d.clone(),
                alerts: Vec::new(),
                last: BTreeSet::new(),
                restored: self.loaded,
            };
            let mut group = ModelGroup {
                rules: def.rules.iter().map(rule).collect(),
                def: def.clone(),
                stale: Vec::new(),
                next_ns: next,
                last_ns: None,
                runs: 0,
                restore: !self.loaded,
            };
            if let Some(before) = before {
                group.stale = before.stale.clone();
                let mut left: Vec<usize> = (0..before.rules.len()).collect();
                let id = |d: &Def| (d.name.clone(), d.labels.clone());
                for rule in &mut group.rules {
                    let at = left.iter().position(|k| id(&before.rules[*k].def) == id(&rule.def));
                    let Some(k) = at.map(|at| left.remove(at)) else { continue };
                    rule.last = before.rules[k].last.clone();
                    if rule.def.hold.is_some() && before.rules[k].def.hold.is_some() {
                        rule.alerts = before.rules[k].alerts.clone();
                    }
                }
                for rule in &before.rules {
                    if left.iter().any(|k| id(&before.rules[*k].def) == id(&rule.def)) {
                        group.stale.extend(rule.last.iter().cloned());
                    }
                }
            }
            self.groups.push(group);
        }
        for gone in old {
            if gone.last_ns.is_some() {
                let mut series = gone.stale;
                series.extend(gone.rules.into_iter().flat_map(|r| r.last));
                let t = now - gone.def.offset.unwrap_or(0);
                self.removed.push((now + 2 * gone.def.interval, t, series));
            }
        }
        self.loaded = true;
    }

    fn run_due(&mut self, nature: Nature, now: i64) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.removed).into_iter().partition(|r| r.0 <= now);
        self.removed = later;
        for (_, t, series) in due {
            for s in series {
                let _ = self.disk.put(&s, t, STALE);
            }
        }
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_key(|i| (self.groups[*i].next_ns + 999_999) / 1_000_000);
        for i in order {
            if self.groups[i].next_ns <= now * 1_000_000 {
                self.run(i, nature, now);
            }
        }
    }

    fn run(&mut self, i: usize, nature: Nature, now: i64) {
        let g = &mut self.groups[i];
        let interval = g.def.interval * 1_000_000;
        let mut ts_ns = g.next_ns;
        if g.last_ns.is_some() {
            while ts_ns + interval <= now * 1_000_000 {
                ts_ns += interval;
            }
        }
        g.last_ns = Some(ts_ns);
        g.next_ns = ts_ns + interval;
        let ts = ts_ns / 1_000_000;
        let t = ts - g.def.offset.unwrap_or(0);
        for rule in &mut g.rules {
            let Some(samples) = rule.evaluate(nature, ts, t, g.def.limit) else { continue };
            for a in &mut rule.alerts {
                let news = match (a.resolved, a.sent) {
                    (Some(r), Some(s)) => r > s,
                    (Some(_), None) => true,
                    _ => false,
                };
                let old = a.sent.is_none_or(|s| s + 60_000 < ts);
                if a.state != "pending" && (news || old) {
                    a.sent = Some(ts);
                    let ends = a.resolved.unwrap_or(ts + 4 * g.def.interval.max(60_000));
                    self.sent.push((a.labels.clone(), a.fired.expect("fired"), ends));
                }
            }
            let mut now_there = BTreeSet::new();
            for (s, v) in samples {
                if self.disk.put(&s, t, v.to_bits()).is_ok() {
                    now_there.insert(s);
                }
            }
            for s in &rule.last {
                if !now_there.contains(s) {
                    let _ = self.disk.put(s, t, STALE);
                }
            }
            rule.last = now_there;
        }
        for s in std::mem::take(&mut g.stale) {
            let _ = self.disk.put(&s, t, STALE);
        }
        g.runs += 1;
        if g.restore && g.runs == 2 {
            g.restore = false;
            for rule in &mut g.rules {
                rule.restored = true;
                let Some(hold) = rule.def.hold.filter(|h| *h >= 600_000) else { continue };
                let mut raw = rule.raw();
                raw.retain(|_, v| !v.contains("{{"));
                raw.insert("alertname".into(), rule.def.name.clone());
                for a in &mut rule.alerts {
                    let mut series = a.labels.clone();
                    if raw.iter().any(|(n, v)| series.get(n) != Some(v)) {
                        continue;
                    }
                    series.insert("__name__".into(), "ALERTS_FOR_STATE".into());
                    let Some(samples) = self.disk.0.get(&series) else { continue };
                    let Some((at, bits)) = samples.range(now - 3_600_000..=now).next_back() else { continue };
                    if *bits == STALE {
                        continue;
                    }
                    let (down, since) = (at / 1000, f64::from_bits(*bits) as i64);
                    let left = hold - (down - since) * 1000;
                    if left <= 0 {
                        a.active = since * 1000;
                    } else if left < 600_000 {
                        a.active = now + 600_000 - hold;
                    } else {
                        a.active = since * 1000 + now - down * 1000;
                    }
                }
            }
        }
    }
}

struct Dice(u64);
impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }
}

fn rule(dice: &mut Dice, wild: bool) -> Def {
    let alert = dice.below(4) != 0;
    let mut labels = BTreeMap::new();
    for (name, value) in [("c", "{{ $labels.s }}y"), ("g", "{{ $labels.nope }}"), ("k", "v"), ("s", "same")] {
        if dice.below(if name == "s" { 12 } else { 4 }) == 0 && (alert || !value.contains('{')) {
            labels.insert(name.to_string(), value.to_string());
        }
    }
    let mut annotation = None;
    if wild && alert {
        annotation = dice.of(&[
            None,
            Some("{{ $value }} of {{ $labels.s }} at {{ $externalLabels.ext }}"),
            Some("{{ query \"x1\" | first | value }}"),
            Some("{{ \"abc\" | humanize }}"),
            Some("{{ range query \"x2\" }}{{ .Labels.s }}={{ .Value }} {{ end }}"),
        ]);
        if dice.below(6) == 0 {
            let text =
                dice.of(&["{{ \"abc\" | humanize }}", "{{ $value }}", "{{ query \"x3\" | first | value }}"]);
            labels.insert("w".to_string(), text.to_string());
        }
        if dice.below(8) == 0 {
            labels.insert("s".to_string(), String::new());
        }
    }
    Def {
        annotation,
        name: if alert { dice.of(&["A", "B"]) } else { dice.of(&["r", "q"]) }.to_string(),
        expr: dice.below(4),
        hold: alert.then(|| dice.of(&[0, 30_000, 60_000, 90_000, 120_000, 300_000, 720_000, 1_200_000])),
        keep: if alert { dice.of(&[0, 0, 60_000, 90_000, 120_000, 400_000]) } else { 0 },
        labels,
    }
}

fn group(dice: &mut Dice, name: &str, wild: bool) -> GroupDef {
    GroupDef {
        name: name.to_string(),
        interval: dice.of(&[60_000, 60_000, 30_000, 97_000]),
        limit: dice.of(&[0, 0, 0, 2, 1, -1]),
        offset: dice.of(&[None, None, Some(0), Some(45_000)]),
        rules: (0..1 + dice.below(3)).map(|_| rule(dice, wild)).collect(),
    }
}

fn change(dice: &mut Dice, groups: &mut Vec<GroupDef>, wild: bool) {
    match dice.below(if wild { 8 } else { 6 }) {
        6 => groups[0].interval = dice.of(&[60_000, 45_000]),
        7 => groups[0].name = dice.of(&["g", "renamed"]).to_string(),
        0 if groups.len() > 1 => drop(groups.pop()),
        0 | 1 if groups.len() < 3 => {
            let name = ["g", "h", "i"][groups.len()];
            groups.push(group(dice, name, wild));
        }
        2 => groups[0].limit = dice.of(&[0, 1, 2]),
        3 => groups[0].rules.reverse(),
        4 => groups[0].rules[0] = rule(dice, wild),
        _ => {
            let at = dice.below(groups[0].rules.len() as u64) as usize;
            let hold = dice.of(&[0, 120_000, 720_000]);
            let rule = &mut groups[0].rules[at];
            rule.hold = rule.hold.map(|_| hold);
        }
    }
}

/// Alerts as `(labels, state, active, fired, resolved, last sent, kept since)`, resolved ones too.
type Shown = Vec<(Set, &'static str, i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>)>;

fn shown(group: &Group) -> Vec<Shown> {
    let rules = group.rules.iter().enumerate();
    rules
        .filter(|(_, r)| matches!(r, Rule::Alert(_)))
        .map(|(i, _)| {
            let state = group.state(i);
            let alerts = state.active.alerts.values();
            let one = |a: &tsdbctl_rules::alerting::Alert| {
                (
                    set(&a.labels),
                    a.state.as_str(),
                    a.active_at_ms,
                    a.fired_at_ms,
                    a.resolved_at_ms,
                    a.last_sent_at_ms,
                    a.keep_firing_since_ms,
                )
            };
            let mut all: Shown = alerts.map(one).collect();
            all.sort();
            all
        })
        .collect()
}

fn model_shown(group: &ModelGroup) -> Vec<Shown> {
    let rules = group.rules.iter().filter(|r| r.def.hold.is_some());
    rules
        .map(|r| {
            let one = |a: &ModelAlert| {
                (a.labels.clone(), a.state, a.active, a.fired, a.resolved, a.sent, a.keep_since)
            };
            let mut all: Shown = r.alerts.iter().map(one).collect();
            all.sort();
            all
        })
        .collect()
}

fn play(seed: u64, settings: &Settings) -> (u64, u64) {
    let dice = &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let nature = Nature { seed, wild: false };
    let start = 1_700_000_000_000 + dice.below(3_600_000) as i64;
    let store = Store {
        nature,
        disk: Mutex::default(),
        sent: Mutex::default(),
        letters: Mutex::default(),
        now: AtomicI64::new(start),
    };
    let mut model = Model::default();
    let mut groups = vec![group(dice, "g", false)];
    let mut manager = Manager::new(settings.clone());
    let world = World { storage: &store, sink: &store, clock: &store };
    let mut now = start;
    let load = |manager: &mut Manager, groups: &[GroupDef], now: i64| {
        let files = [("f.yml".to_string(), file(groups))];
        manager.load(&files, settings.clone(), now).expect("loads");
    };
    load(&mut manager, &groups, now);
    model.load(&groups, now);
    for step in 0..20 + dice.below(60) {
        let due = manager.next_due_ms().expect("groups");
        match dice.below(30) {
            0 | 1 => {
                now += dice.below(40_000) as i64;
                change(dice, &mut groups, false);
                load(&mut manager, &groups, now);
                model.load(&groups, now);
                continue;
            }
            2 => {
                now += dice.of(&[1_000, 200_000, 1_500_000, 4_000_000]);
                manager = Manager::new(settings.clone());
                load(&mut manager, &groups, now);
                model.groups.clear();
                model.removed.clear();
                model.loaded = false;
                model.load(&groups, now);
                continue;
            }
            3 => now = now.max(due) + dice.below(300_000) as i64,
            _ => now = now.max(due),
        }
        store.now.store(now, Ordering::Relaxed);
        manager.run_due(now, world);
        model.run_due(nature, now);
        let context = || format!("seed {seed} step {step} now {now}\n{}", yaml(&groups));
        for g in &model.groups {
            let all = manager.groups();
            let ours = all.iter().find(|o| o.name == g.def.name).expect("the same groups");
            assert_eq!(shown(ours), model_shown(g), "states: {}", context());
        }
        let (mut sent, mut want) =
            (std::mem::take(&mut *store.sent.lock().expect("whole")), std::mem::take(&mut model.sent));
        sent.sort();
        want.sort();
        assert_eq!(sent, want, "sends: {}", context());
        let disk = store.disk.lock().expect("whole");
        if *disk != model.disk {
            for series in disk.0.keys().chain(model.disk.0.keys()) {
                let (a, b) = (disk.0.get(series), model.disk.0.get(series));
                assert_eq!(a, b, "samples of {series:?}: {}", context());
            }
        }
    }
    let markers = model.disk.0.values().flat_map(|s| s.values()).filter(|v| **v == STALE).count();
    (model.disk.0.values().map(|s| s.len() as u64).sum(), markers as u64)
}

#[test]
fn random_scripts_go_as_the_plain_model_says() {
    let scripts = std::env::var("TSDBCTL_RULE_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let (mut samples, mut markers) = (0, 0);
    for seed in 1..=scripts {
        let (a, b) = play(seed, &Settings::default());
        samples += a;
        markers += b;
    }
    assert!(samples > 20 * scripts && markers > scripts, "{samples} samples, {markers} markers");
}

#[test]
fn rules_at_the_same_time_write_what_they_write_in_order() {
    let settings = Settings { concurrency: 3, ..Settings::default() };
    for seed in 5001..=5015 {
        play(seed, &settings);
    }
}

/// Upstream's rules in another process.
struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Option<Self> {
        let Ok(path) = std::env::var("TSDBCTL_PEER_RULES") else {
            eprintln!("skipped: TSDBCTL_PEER_RULES is not set");
            return None;
        };
        let mut child =
            Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer starts");
        let to = child.stdin.take().expect("its input");
        let from = BufReader::new(child.stdout.take().expect("its output"));
        Some(Self { child, to, from })
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.to, "{question}").expect("the peer reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the peer answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {question} {line}"));
        assert!(answer["err"].is_null(), "{question}: {answer}");
        answer
    }

    fn stop(mut self) {
        drop(self.to);
        self.child.wait().expect("the peer ends");
    }
}

fn sorted_texts(values: &Value) -> Vec<String> {
    let mut all: Vec<String> = values.as_array().into_iter().flatten().map(Value::to_string).collect();
    all.sort();
    all
}

/// Of several refused samples the last one is told of, and upstream appends in any order.
fn comparable_error(error: &str) -> String {
    let refused = error.starts_with("duplicate sample for timestamp") || error == "out of order sample";
    if refused { "refused".to_string() } else { error.to_string() }
}

/// Rules as the peer tells of them; alerts sorted.
fn rules_told(group: &Group) -> Vec<(String, Option<String>, Vec<String>)> {
    let told = |i: usize| {
        let state = group.state(i);
        let alerts = state.active.alerts.values().map(|a| {
            let value = match &a.value {
                Sample::Float(v) => v.to_bits(),
                Sample::Histogram(_) => 0,
            };
            json!({
                "active": a.active_at_ms, "annotations": a.annotations, "fired": a.fired_at_ms,
                "keep": a.keep_firing_since_ms, "labels": set(&a.labels), "resolved": a.resolved_at_ms,
                "sent": a.last_sent_at_ms, "state": a.state.as_str(), "valid": a.valid_until_ms,
                "value": format!("{value:x}"),
            })
        });
        let alerts = sorted_texts(&alerts.collect());
        (state.health.as_str().to_string(), state.last_error.as_deref().map(comparable_error), alerts)
    };
    (0..group.rules.len()).map(told).collect()
}

fn rules_answered(group: &Value) -> Vec<(String, Option<String>, Vec<String>)> {
    let rules = group.as_array().into_iter().flatten();
    let told = |r: &Value| {
        let health = r["health"].as_str().expect("health").to_string();
        (health, r["err"].as_str().map(comparable_error), sorted_texts(&r["alerts"]))
    };
    rules.map(told).collect()
}

fn samples_answered(answer: &Value) -> Disk {
    let mut disk = Disk::default();
    for sample in answer["samples"].as_array().into_iter().flatten() {
        let labels = serde_json::from_value(sample[0].clone()).expect("labels");
        let bits = sample[2].as_str().expect("bits");
        let bits = match bits.strip_prefix('H') {
            Some(count) => histogram_bits(count.parse().expect("a count")),
            None => u64::from_str_radix(bits, 16).expect("bits"),
        };
        disk.0.entry(labels).or_default().insert(sample[1].as_i64().expect("a time"), bits);
    }
    disk
}

fn since(disk: &Disk, mint: i64) -> Disk {
    let late = |s: &BTreeMap<i64, u64>| s.range(mint..).map(|(t, v)| (*t, *v)).collect::<BTreeMap<_, _>>();
    Disk(disk.0.iter().map(|(n, s)| (n.clone(), late(s))).filter(|(_, s)| !s.is_empty()).collect())
}

fn differences(ours: &Disk, theirs: &Disk) -> Vec<String> {
    let names: BTreeSet<&Set> = ours.0.keys().chain(theirs.0.keys()).collect();
    let (a, b) = (|n| ours.0.get(n), |n| theirs.0.get(n));
    names
        .into_iter()
        .filter(|n| a(n) != b(n))
        .map(|n| format!("{n:?}\n ours   {:x?}\n theirs {:x?}", a(n), b(n)))
        .collect()
}

fn play_beside(peer: &mut Peer, seed: u64) -> usize {
    let dice = &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let nature = Nature { seed, wild: true };
    let start = 1_700_000_000_000 + dice.below(3_600_000) as i64;
    let (sent, letters, now) = (Mutex::default(), Mutex::default(), AtomicI64::new(start));
    let store = Store { nature, disk: Mutex::default(), sent, letters, now };
    let external_labels = Labels::from_pairs([("ext", "E")]);
    let surroundings = Surroundings { external_labels, external_url: "http://h/p".into() };
    let settings = Settings { surroundings: Arc::new(surroundings), ..Settings::default() };
    let mut groups = vec![group(dice, "g", true)];
    let mut manager = Manager::new(settings.clone());
    let world = World { storage: &store, sink: &store, clock: &store };
    let mut now = start;
    let load = |manager: &mut Manager, peer: &mut Peer, groups: &[GroupDef], now: i64| {
        let files = [("f.yml".to_string(), file(groups))];
        manager.load(&files, settings.clone(), now).expect("loads");
        peer.ask(&json!({"Op": "load", "Yaml": yaml(groups), "Now": now}));
    };
    peer.ask(&json!({"Op": "new", "Seed": seed}));
    load(&mut manager, peer, &groups, now);
    for step in 0..20 + dice.below(60) {
        let due = manager.next_due_ms().expect("groups");
        match dice.below(30) {
            0 | 1 => {
                now += dice.below(40_000) as i64;
                change(dice, &mut groups, true);
                load(&mut manager, peer, &groups, now);
                continue;
            }
            2 => {
                now += dice.of(&[1_000, 200_000, 1_500_000, 4_000_000]);
                manager = Manager::new(settings.clone());
                peer.ask(&json!({"Op": "restart"}));
                load(&mut manager, peer, &groups, now);
                continue;
            }
            3 => now = now.max(due) + dice.below(300_000) as i64,
            _ => now = now.max(due),
        }
        store.now.store(now, Ordering::Relaxed);
        manager.run_due(now, world);
        let mint = now - 600_000;
        let answer = peer.ask(&json!({"Op": "run", "Now": now, "Mint": mint}));
        let context = || format!("seed {seed} step {step} now {now}\n{}", yaml(&groups));
        for ours in manager.groups() {
            let theirs = rules_answered(&answer["groups"][&ours.name]);
            assert_eq!(rules_told(ours), theirs, "{}", context());
        }
        let letters = Value::from(std::mem::take(&mut *store.letters.lock().expect("whole")));
        assert_eq!(sorted_texts(&letters), sorted_texts(&answer["sent"]), "sends: {}", context());
        let ours = since(&store.disk.lock().expect("whole"), mint);
        let different = differences(&ours, &samples_answered(&answer));
        assert!(different.is_empty(), "{}\n{}", different.join("\n"), context());
    }
    let theirs = samples_answered(&peer.ask(&json!({"Op": "dump"})));
    let ours = store.disk.lock().expect("whole");
    let different = differences(&ours, &theirs);
    assert!(different.is_empty(), "seed {seed}\n{}", different.join("\n"));
    ours.0.values().map(BTreeMap::len).sum()
}

#[test]
fn random_scripts_go_as_beside_upstream() {
    let Some(mut peer) = Peer::start() else { return };
    let scripts = std::env::var("TSDBCTL_RULE_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let samples: usize = (1..=scripts).map(|seed| play_beside(&mut peer, seed)).sum();
    peer.stop();
    eprintln!("{scripts} scripts, {samples} samples");
    assert!(samples > 20 * scripts as usize);
}

#[test]
fn slots_are_those_of_upstream() {
    let Some(mut peer) = Peer::start() else { return };
    let dice = &mut Dice(77);
    for _ in 0..3000 {
        let file = dice.of(&["rules.yml", "./rules.yml", "/etc/\u{e9}/a.yaml", "", "x"]).to_string();
        let name = format!("g{}", dice.below(100_000));
        let interval = 1 + dice.of(&[60_000, 15_000, 1, 86_400_000, 97_000]) * dice.below(3) as i64;
        let now = 1_700_000_000_000 + dice.below(1 << 34) as i64;
        let theirs = peer
            .ask(&json!({"Op": "slot", "File": file, "Name": name, "Interval": interval, "Now": now}))["slot"]
            .as_i64()
            .expect("a time");
        let (offset, step) = (offset_ns(&file, &name, interval), interval * 1_000_000);
        let ours = offset + (now * 1_000_000 - offset) / step * step;
        assert_eq!(ours, theirs, "{file} {name} {interval} {now}");
        let due = Schedule::new(&file, &name, interval, now).due_ms();
        assert_eq!(due, (theirs + step + 999_999) / 1_000_000, "{file} {name} {interval} {now}");
    }
    peer.stop();
}

#[test]
fn batches_are_those_of_upstream_where_rules_read_only_earlier_ones() {
    let Some(mut peer) = Peer::start() else { return };
    let dice = &mut Dice(78);
    for _ in 0..500 {
        let mut text = "groups:\n- name: g\n  rules:\n".to_string();
        for i in 0..1 + dice.below(9) {
            let earlier = dice.below(i + 1);
            let expr = match dice.below(24) {
                0..6 if earlier < i => format!("m{earlier}"),
                6 if i > 0 => "{__name__=~\"m0|other\"}".to_string(),
                7 if earlier < i => format!("ALERTS{{alertname=\"A{earlier}\"}}"),
                8 => "{a=\"b\"}".to_string(),
                9 if earlier < i => format!("rate(m{earlier}[5m:1m]) + other"),
                _ => "other".to_string(),
            };
            let head = if dice.below(4) == 0 { format!("alert: A{i}") } else { format!("record: m{i}") };
            text += &format!("  - {head}\n    expr: '{expr}'\n");
        }
        let answer = peer.ask(&json!({"Op": "batches", "Yaml": text}));
        let theirs: Vec<Vec<usize>> =
            serde_json::from_value(answer["groups"]["g"]["batches"].clone()).expect("batches");
        let file =
            read(Arc::new(Source::new("f.yml", text.clone())), &ReadOptions::default()).expect("reads");
        let group = Group::new("f.yml", &file.groups[0], &Settings::default(), false).expect("a group");
        assert_eq!(tsdbctl_rules::depend::batches(&group.rules), theirs, "{text}");
    }
    peer.stop();
}
