//! How fast the live head's index finds, makes, selects and removes series, and how many bytes a series takes.
//!
//! Not a part of `cargo test`; run `cargo bench -p tsdbctl-head --bench index`. `INDEX_SERIES` sets how many series.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark prints")]

use std::time::Instant;

use tsdbctl_head::live::SeriesId;
use tsdbctl_head::live::index::Index;
use tsdbctl_model::{MatchType, Matcher};
use tsdbctl_storage::Control;

type Set = Vec<(&'static str, String)>;

/// Machines with counters of their own, services with histograms, and containers of pods: nine labels on the average.
fn fleet(series: usize) -> Vec<Set> {
    let mut all: Vec<Set> = Vec::with_capacity(series);
    for host in 0u64.. {
        let name = format!("host-{host:04}.eu-west-{}.example.com", host % 3 + 1);
        let mut add = |metric: String, job: &str, port: u64, more: Set| {
            let mut set: Set = vec![
                ("__name__", metric),
                ("cluster", "eu-1".into()),
                ("env", "prod".into()),
                ("instance", format!("{name}:{port}")),
                ("job", job.into()),
            ];
            set.extend(more);
            set.sort();
            all.push(set);
        };
        for i in 0..240 {
            let more = vec![("device", format!("d{}", i % 6)), ("mode", format!("m{}", i % 8))];
            add(format!("node_{}_total", i / 8), "node", 9100, more);
        }
        for i in 0..312 {
            let more = vec![
                ("code", if i / 13 % 2 == 0 { "200" } else { "500" }.into()),
                ("handler", format!("/api/v1/{}", i / 26)),
                ("le", format!("{}", i % 13)),
                ("method", "GET".into()),
            ];
            add("http_request_duration_seconds_bucket".into(), "api", 8080, more);
        }
        for pod in 0..16 {
            let n = host * 16 + pod;
            let hex = format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for i in 0..28 {
                let more = vec![
                    ("container", "checkout".into()),
                    ("id", format!("/kubepods/burstable/pod{hex}/{hex}{hex}")),
                    ("image", format!("registry.example.com/shop/checkout:v{}", n % 4)),
                    ("namespace", format!("shop-{}", n % 6)),
                    ("node", name.clone()),
                    ("pod", format!("checkout-{n:08x}-{}", &hex[..5])),
                ];
                add(format!("container_{i}_total"), "kubelet", 10250, more);
            }
        }
        if all.len() >= series {
            break;
        }
    }
    all.truncate(series);
    all
}

fn main() {
    let series = std::env::var("INDEX_SERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let sets = fleet(series);
    let pairs = |set: &'static Set| set.iter().map(|(n, v)| (*n, v.as_str()));
    let sets: &'static [Set] = sets.leak();
    let each = |since: Instant, count: usize| since.elapsed().as_nanos() as f64 / count.max(1) as f64;
    let labels: usize = sets.iter().map(Vec::len).sum();

    let mut index = Index::default();
    let begin = Instant::now();
    for set in sets {
        index.find_or_create(pairs(set));
    }
    println!(
        "create: {:.0} ns/series ({:.1} labels)",
        each(begin, sets.len()),
        labels as f64 / series as f64
    );
    println!("bytes: {:.1} per series, {} pairs", index.bytes() as f64 / series as f64, index.pair_count());

    let begin = Instant::now();
    let found = sets.iter().filter(|set| index.find(pairs(set)).is_some()).count();
    println!("find: {:.0} ns/series, {found} found", each(begin, sets.len()));

    let begin = Instant::now();
    let text: usize = index.ids().flat_map(|id| index.labels(id)).map(|(n, v)| n.len() + v.len()).sum();
    println!("labels: {:.0} ns/series, {text} bytes", each(begin, sets.len()));

    let control = Control::default();
    for (kind, name, value) in [
        (MatchType::Equal, "__name__", "container_3_total"),
        (MatchType::Regexp, "instance", "host-00.*"),
        (MatchType::Regexp, "pod", ".*-00000[0-9a-f]{3}-.*"),
        (MatchType::NotEqual, "job", "node"),
        (MatchType::NotRegexp, "pod", ".+"),
    ] {
        let Ok(one) = Matcher::new(kind, name, value) else { continue };
        for matchers in [vec![one.clone()], vec![Matcher::equal("job", "kubelet"), one.clone()]] {
            let begin = Instant::now();
            let found = index.select(&matchers, &control).map_or(0, |ids| ids.len());
            let beside = if matchers.len() > 1 { " with job=\"kubelet\"" } else { "" };
            println!("select {one}{beside}: {:.2} ms, {found} found", each(begin, 1_000_000));
        }
    }

    let half: Vec<SeriesId> = index.ids().filter(|id| id.0.is_multiple_of(2)).collect();
    let begin = Instant::now();
    index.remove(&half);
    let left = index.bytes() as f64 / index.len().max(1) as f64;
    println!(
        "remove every second: {:.0} ns/series, then {left:.1} bytes per series",
        each(begin, half.len())
    );
}
