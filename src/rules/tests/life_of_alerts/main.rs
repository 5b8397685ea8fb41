//! Groups over random scripts against a slow and plain model of upstream's state machine: states, samples, stale
//! markers and sends. TSDBCTL_RULE_SCRIPTS sets the number of scripts.
//!
//! The same scripts, with histograms, NaN and failing templates as well, beside upstream's own rules: `peer`.

#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a skipped test has to say so")]

mod model;
mod peer;
mod script;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tsdbctl_rules::group::{Group, Rule, Settings, World};
use tsdbctl_rules::manager::Manager;

use model::{Model, ModelAlert, ModelGroup};
use script::{Dice, GroupDef, apart, change, file, group, yaml};
use world::{Nature, STALE, Set, Store, set};

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

/// Plays a script; more than one group at once needs rules that do not write the same series.
fn play(seed: u64, settings: &Settings) -> (u64, u64) {
    let at_once = settings.groups_at_once > 1;
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
    let load = |manager: &mut Manager, model: &mut Model, groups: &[GroupDef], now: i64| {
        let groups = if at_once { apart(groups) } else { groups.to_vec() };
        let files = [("f.yml".to_string(), file(&groups))];
        manager.load(&files, settings.clone(), now).expect("loads");
        model.load(&groups, now);
    };
    load(&mut manager, &mut model, &groups, now);
    for step in 0..20 + dice.below(60) {
        let due = manager.next_due_ms().expect("groups");
        match dice.below(30) {
            0 | 1 => {
                now += dice.below(40_000) as i64;
                change(dice, &mut groups, false);
                load(&mut manager, &mut model, &groups, now);
                continue;
            }
            2 => {
                now += dice.of(&[1_000, 200_000, 1_500_000, 4_000_000]);
                manager = Manager::new(settings.clone());
                model.groups.clear();
                model.removed.clear();
                model.loaded = false;
                load(&mut manager, &mut model, &groups, now);
                continue;
            }
            3 => now = now.max(due) + dice.below(300_000) as i64,
            // Late enough that several are due together.
            4..14 if at_once => now = now.max(due) + dice.below(50_000) as i64,
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
    let settings = Settings { extra_evaluations: 3, ..Settings::default() };
    for seed in 5001..=5015 {
        play(seed, &settings);
    }
}

#[test]
fn groups_at_the_same_time_go_as_the_plain_model_says() {
    let settings = Settings { groups_at_once: 3, extra_evaluations: 2, ..Settings::default() };
    for seed in 6001..=6040 {
        play(seed, &settings);
    }
}
