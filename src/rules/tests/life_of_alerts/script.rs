//! Random scripts: groups of rules and how they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_rules::file::{ReadOptions, RuleFile, read};
use tsdbctl_yaml::Source;

/// A rule of a script; a recording rule has no `for`.
#[derive(Clone, Debug, PartialEq)]
pub struct Def {
    pub name: String,
    pub expr: u64,
    pub hold: Option<i64>,
    pub keep: i64,
    pub labels: BTreeMap<String, String>,
    pub annotation: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GroupDef {
    pub name: String,
    pub interval: i64,
    pub limit: i64,
    pub offset: Option<i64>,
    pub rules: Vec<Def>,
}

pub fn yaml(groups: &[GroupDef]) -> String {
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

pub fn file(groups: &[GroupDef]) -> RuleFile {
    let source = Arc::new(Source::new("f.yml", yaml(groups)));
    read(source, &ReadOptions::default()).unwrap_or_else(|e| panic!("{e:?}\n{}", yaml(groups)))
}

/// Paths and texts of files; bit k of `layout` is in which of two group k stands.
pub fn files(groups: &[GroupDef], layout: u64) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (bit, path) in ["f.yml", "./d/g.yaml"].into_iter().enumerate() {
        let here = groups.iter().enumerate().filter(|(k, _)| (layout >> k) & 1 == bit as u64);
        let here: Vec<GroupDef> = here.map(|(_, g)| g.clone()).collect();
        if !here.is_empty() {
            files.push((path.to_string(), yaml(&here)));
        }
    }
    files
}

/// The groups with a name of its own for each rule, so that no two write the same series.
pub fn apart(groups: &[GroupDef]) -> Vec<GroupDef> {
    let mut groups = groups.to_vec();
    for (g, group) in groups.iter_mut().enumerate() {
        for (r, rule) in group.rules.iter_mut().enumerate() {
            rule.name = format!("{}_{g}_{r}", rule.name);
        }
    }
    groups
}

pub struct Dice(pub u64);
impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
    pub fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }
}

pub fn rule(dice: &mut Dice, wild: bool) -> Def {
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

pub fn group(dice: &mut Dice, name: &str, wild: bool) -> GroupDef {
    GroupDef {
        name: name.to_string(),
        interval: dice.of(&[60_000, 60_000, 30_000, 97_000]),
        limit: dice.of(&[0, 0, 0, 2, 1, -1]),
        offset: dice.of(&[None, None, Some(0), Some(45_000)]),
        rules: (0..1 + dice.below(3)).map(|_| rule(dice, wild)).collect(),
    }
}

pub fn change(dice: &mut Dice, groups: &mut Vec<GroupDef>, wild: bool) {
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
