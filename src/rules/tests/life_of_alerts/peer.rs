//! The scripts beside upstream's own rules: a program that plays them with upstream's packages is named by
//! `TSDBCTL_PEER_RULES`. It reads lines of JSON (`Op`: `new`, `load`, `restart`, `run`, `dump`, `slot`, `batches`),
//! answers each with one, and knows [`Nature`]. Groups are told of by file and name, `f.yml;g`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tsdbctl_model::Labels;
use tsdbctl_promql::engine::Sample;
use tsdbctl_rules::alerting::Surroundings;
use tsdbctl_rules::file::{ReadOptions, read};
use tsdbctl_rules::group::{Group, Rule, Settings, World};
use tsdbctl_rules::manager::Manager;
use tsdbctl_rules::schedule::{Schedule, offset_ns};
use tsdbctl_yaml::Source;

use crate::script::{Dice, GroupDef, apart, change, files, group};
use crate::world::{Disk, Nature, Set, Store, histogram_bits, set};

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

/// What can be compared of an error. Of several refused samples the last one is told of. The samples of a recording
/// rule come in the order of the result; upstream goes over its alerts as over any Go map, in an order that changes
/// from run to run, so that of an alerting rule either refusal may be told.
fn comparable_error(error: &str, alerting: bool) -> String {
    const DUPLICATE: &str = "duplicate sample for timestamp";
    match error {
        // Upstream's storage adds the values here.
        error if error.starts_with(DUPLICATE) && !alerting => DUPLICATE.to_string(),
        error if alerting && (error.starts_with(DUPLICATE) || error == "out of order sample") => {
            "refused".to_string()
        }
        error => error.to_string(),
    }
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
        let alerting = matches!(group.rules[i], Rule::Alert(_));
        let error = state.last_error.as_deref().map(|e| comparable_error(e, alerting));
        (state.health.as_str().to_string(), error, alerts)
    };
    (0..group.rules.len()).map(told).collect()
}

fn rules_answered(group: &Value) -> Vec<(String, Option<String>, Vec<String>)> {
    let rules = group.as_array().into_iter().flatten();
    let told = |r: &Value| {
        let health = r["health"].as_str().expect("health").to_string();
        (
            health,
            r["err"].as_str().map(|e| comparable_error(e, r.get("alerts").is_some())),
            sorted_texts(&r["alerts"]),
        )
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

/// Settings with an external label of this value.
fn settings(external: &str, manner: Manner) -> Settings {
    let external_labels = Labels::from_pairs([("ext", external)]);
    let surroundings = Surroundings { external_labels, external_url: "http://h/p".into() };
    let (groups_at_once, extra_evaluations) = if manner.at_once { (4, 4) } else { (1, 0) };
    let surroundings = Arc::new(surroundings);
    Settings { surroundings, groups_at_once, extra_evaluations, ..Settings::default() }
}

/// What a script is played with beside the plain course.
#[derive(Clone, Copy, Default)]
struct Manner {
    /// Groups are in two files and move between them.
    two_files: bool,
    /// Groups and rules at the same time; each rule has a name of its own.
    at_once: bool,
}

impl Manner {
    fn files(self, groups: &[GroupDef], layout: u64) -> Vec<(String, String)> {
        files(&if self.at_once { apart(groups) } else { groups.to_vec() }, layout)
    }
}

fn play_beside(peer: &mut Peer, seed: u64, manner: Manner) -> usize {
    let dice = &mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let nature = Nature { seed, wild: true };
    let start = 1_700_000_000_000 + dice.below(3_600_000) as i64;
    let (sent, letters, now) = (Mutex::default(), Mutex::default(), AtomicI64::new(start));
    let store = Store { nature, disk: Mutex::default(), sent, letters, now };
    let mut groups = vec![group(dice, "g", true)];
    let (mut layout, mut external) = (0, "E");
    let mut manager = Manager::new(settings(external, manner));
    let world = World { storage: &store, sink: &store, clock: &store };
    let mut now = start;
    let load = |manager: &mut Manager, peer: &mut Peer, files: Vec<_>, external: &str, now: i64| {
        let read = |(path, text): &(String, String)| {
            let source = Arc::new(Source::new(path, text.clone()));
            (path.clone(), read(source, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e:?}\n{text}")))
        };
        let ours: Vec<_> = files.iter().map(read).collect();
        manager.load(&ours, settings(external, manner), now).expect("loads");
        let files: BTreeMap<String, String> = files.into_iter().collect();
        peer.ask(&json!({"Op": "load", "Files": files, "Ext": external, "Now": now}));
    };
    peer.ask(&json!({"Op": "new", "Seed": seed, "Conc": manner.at_once}));
    load(&mut manager, peer, manner.files(&groups, layout), external, now);
    for step in 0..20 + dice.below(60) {
        let due = manager.next_due_ms().expect("groups");
        match dice.below(30) {
            0 | 1 => {
                now += dice.below(40_000) as i64;
                change(dice, &mut groups, true);
                if manner.two_files && dice.below(2) == 0 {
                    layout = dice.below(8);
                    // Upstream's groups see new external labels only when they change themselves.
                    if dice.below(3) == 0 {
                        external = dice.of(&["E", "F", "G"]);
                        groups.iter_mut().for_each(|g| g.interval += 1_000);
                    }
                }
                load(&mut manager, peer, manner.files(&groups, layout), external, now);
                continue;
            }
            2 => {
                now += dice.of(&[1_000, 200_000, 1_500_000, 4_000_000]);
                manager = Manager::new(settings(external, manner));
                peer.ask(&json!({"Op": "restart"}));
                load(&mut manager, peer, manner.files(&groups, layout), external, now);
                continue;
            }
            3 => now = now.max(due) + dice.below(300_000) as i64,
            // Late enough that several are due together.
            4..14 if manner.at_once => now = now.max(due) + dice.below(50_000) as i64,
            _ => now = now.max(due),
        }
        store.now.store(now, Ordering::Relaxed);
        manager.run_due(now, world);
        let mint = now - 600_000;
        let answer = peer.ask(&json!({"Op": "run", "Now": now, "Mint": mint}));
        let context = || format!("seed {seed} step {step} now {now}\n{:?}", manner.files(&groups, layout));
        for ours in manager.groups() {
            let theirs = rules_answered(&answer["groups"][ours.key()]);
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

fn play_all_beside(manner: Manner, share: u64) {
    let Some(mut peer) = Peer::start() else { return };
    let scripts =
        std::env::var("TSDBCTL_RULE_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(200) / share;
    let samples: usize = (1..=scripts).map(|seed| play_beside(&mut peer, seed, manner)).sum();
    peer.stop();
    eprintln!("{scripts} scripts, {samples} samples");
    assert!(samples > 20 * scripts as usize);
}

#[test]
fn random_scripts_go_as_beside_upstream() {
    play_all_beside(Manner::default(), 1);
}

#[test]
fn random_scripts_of_two_files_go_as_beside_upstream() {
    play_all_beside(Manner { two_files: true, at_once: false }, 2);
}

#[test]
fn random_scripts_at_the_same_time_go_as_beside_upstream() {
    play_all_beside(Manner { two_files: true, at_once: true }, 2);
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
