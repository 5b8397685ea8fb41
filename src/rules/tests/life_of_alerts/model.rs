//! The plain model: everything is done as plainly as can be, from what upstream is seen to do.

use std::collections::{BTreeMap, BTreeSet};

use tsdbctl_rules::schedule::offset_ns;

use crate::script::{Def, GroupDef};
use crate::world::{Disk, Nature, STALE, Set};

#[derive(Clone, Debug)]
pub struct ModelAlert {
    pub labels: Set,
    pub state: &'static str,
    pub active: i64,
    pub fired: Option<i64>,
    pub resolved: Option<i64>,
    pub sent: Option<i64>,
    pub keep_since: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct ModelRule {
    pub def: Def,
    pub alerts: Vec<ModelAlert>,
    pub last: BTreeSet<Set>,
    pub restored: bool,
}

#[derive(Clone, Debug)]
pub struct ModelGroup {
    pub def: GroupDef,
    pub rules: Vec<ModelRule>,
    pub stale: Vec<Set>,
    pub next_ns: i64,
    pub last_ns: Option<i64>,
    pub runs: usize,
    pub restore: bool,
}

#[derive(Default)]
pub struct Model {
    pub disk: Disk,
    pub sent: Vec<(Set, i64, i64)>,
    pub groups: Vec<ModelGroup>,
    pub removed: Vec<(i64, i64, Vec<Set>)>,
    pub loaded: bool,
}

impl ModelRule {
    pub fn raw(&self) -> Set {
        let mut raw = self.def.labels.clone();
        raw.insert("l".into(), "w".into());
        raw
    }

    pub fn rendered(&self, s: u64) -> Set {
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
    pub fn evaluate(&mut self, nature: Nature, ts: i64, t: i64, limit: i64) -> Option<Vec<(Set, f64)>> {
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
    pub fn load(&mut self, defs: &[GroupDef], now: i64) {
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

    pub fn run_due(&mut self, nature: Nature, now: i64) {
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

    pub fn run(&mut self, i: usize, nature: Nature, now: i64) {
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
