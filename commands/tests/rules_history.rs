//! What a real server of 3.14 recorded over half an hour, computed again from the directories it left behind: at the
//! times at which it evaluated, by the command.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use runs::{ok, text_of};
use tsdbctl_testkit::{TempDir, read_text, scratch, shared, unpack_directory};

const METRICS: [&str; 5] =
    ["job:up:sum", "demo:latency:rate1m", "node:cpu:util", "ALERTS", "ALERTS_FOR_STATE"];

/// The metric of a line of a dump, if it is one that rules write.
fn metric(line: &str) -> Option<&'static str> {
    METRICS.into_iter().find(|m| line.starts_with(&format!("{{__name__=\"{m}\"")))
}

/// `(series, time)` and the value of a line of a dump.
fn parts(line: &str) -> ((String, i64), String) {
    let (rest, t) = line.rsplit_once(' ').unwrap();
    let end = rest.find("\"} ").unwrap() + 2;
    ((rest[..end].to_string(), t.parse().unwrap()), rest[end + 1..].to_string())
}

fn samples(text: &str) -> BTreeMap<(String, i64), String> {
    text.lines().filter(|l| metric(l).is_some()).map(parts).collect()
}

/// How many samples of each metric are the same, and the others.
fn compare(
    server: &BTreeMap<(String, i64), String>,
    ours: &BTreeMap<(String, i64), String>,
) -> (BTreeMap<&'static str, usize>, Vec<String>) {
    let (mut same, mut others) = (BTreeMap::new(), Vec::new());
    let keys: BTreeSet<&(String, i64)> = server.keys().chain(ours.keys()).collect();
    for key in keys {
        let (stored, computed) = (server.get(key), ours.get(key));
        if stored == computed {
            *same.entry(metric(&key.0).unwrap_or("?")).or_insert(0) += 1;
        } else {
            others.push(format!("{} at {}: stored {stored:?}, computed {computed:?}", key.0, key.1));
        }
    }
    (same, others)
}

type Samples = BTreeMap<(String, i64), String>;

/// What a server left behind.
struct Server {
    _unpacked: TempDir,
    dir: PathBuf,
    rules: String,
    samples: Samples,
}

impl Server {
    fn new(name: &str) -> Option<Self> {
        let rules = std::fs::read_to_string(shared("data/prometheus-3.14-rules.yml")?).unwrap();
        let samples = samples(&read_text(&format!("data/{name}.dump.zst"))?);
        let (_unpacked, dir) = unpack_directory(&format!("data/{name}.tar.zst"))?;
        Some(Self { _unpacked, dir, rules, samples })
    }

    /// What the command gives at the times at which the server evaluated.
    fn computed(&self, rules: &str) -> Samples {
        let scratch = scratch();
        let file = scratch.path().join("rules.yml");
        std::fs::write(&file, rules).unwrap();
        let times = ["--start", "2026-11-21T11:00:00Z", "--end", "2026-11-21T12:00:00Z", "--slots", "replay"];
        let args = ["rules", "eval", text_of(&file), "-d", text_of(&self.dir), "-o", "prom"];
        samples(&ok(&[&args[..], &times[..]].concat()))
    }
}

#[allow(clippy::print_stdout, reason = "the counts are what is to be seen")]
fn all_the_same(name: &str, want: [usize; 5]) {
    let Some(server) = Server::new(name) else { return };
    let (same, others) = compare(&server.samples, &server.computed(&server.rules));
    for (metric, want) in METRICS.into_iter().zip(want) {
        let got = same.get(metric).copied().unwrap_or(0);
        println!("{name}: {metric}: {got} of {want} samples of the server are the same to the last bit");
        assert_eq!(got, want, "{name}: {metric}");
    }
    // No scrape was still under way when a rule was evaluated, so that nothing needs to be explained.
    assert!(others.is_empty(), "{} differ, first {}", others.len(), others[0]);
    println!("{name}: 0 differ");
}

#[test]
fn the_default_server_recorded_what_is_computed() {
    all_the_same("prometheus-3.14-crashed", [1426, 0, 178, 1134, 1089]);
}

#[test]
fn the_server_with_new_encodings_recorded_what_is_computed() {
    all_the_same("prometheus-3.14-xor2-crashed", [1417, 8, 176, 1072, 1034]);
}

#[test]
fn other_rules_give_others() {
    let Some(server) = Server::new("prometheus-3.14-crashed") else { return };
    for (from, to, metric, least) in [
        ("for: 20s", "for: 30s", "ALERTS", 100),
        ("keep_firing_for: 15s", "keep_firing_for: 5s", "ALERTS_FOR_STATE", 10),
        ("\"sum by (job) (up)\"", "\"sum by (job) (up offset 5s)\"", "job:up:sum", 1),
        ("[1m]", "[55s]", "node:cpu:util", 50),
    ] {
        assert!(server.rules.contains(from), "{from}");
        let (_, others) = compare(&server.samples, &server.computed(&server.rules.replace(from, to)));
        let of_metric = others.iter().filter(|l| l.starts_with(&format!("{{__name__=\"{metric}\""))).count();
        assert!(of_metric >= least, "{from} as {to}: {of_metric} samples of {metric} differ");
    }
}
