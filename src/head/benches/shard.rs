//! What one in-order float costs a shard, and what memory a series takes: fresh, and with blocks that were used before.
//!
//! Not a part of `cargo test`; run `cargo bench -p tsdbctl-head --bench shard`. `SHARD_SERIES` and `SHARD_SAMPLES` set
//! how many series and how many samples of each there are.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark makes its files and prints")]

use std::sync::Arc;

use tsdbctl_head::live::SeriesId;
use tsdbctl_head::live::chunk_files::ChunkFiles;
use tsdbctl_head::live::head::LiveOptions;
use tsdbctl_head::live::shard::{Piece, Shard};
use tsdbctl_platform::real::RealDisk;

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Time that this thread has run, ns: the machine may be shared.
fn running() -> u128 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// As a fleet of servers: two fifths hardly change, three tenths take more than 3 bytes a sample.
fn next(id: u32, v: f64, random: &mut Random) -> f64 {
    match id % 100 {
        0..=40 => v,
        41..=55 => v + random.below(8) as f64,
        56..=70 => v + if random.below(3) > 0 { random.below(100) as f64 } else { 0.0 },
        71..=85 => v + 3e5 + random.below(1 << 15) as f64,
        86..=93 => random.below(10_000) as f64 / 100.0,
        _ => v + random.below(1 << 20) as f64 / 1e6,
    }
}

fn main() {
    let (series, samples) = (number("SHARD_SERIES", 200_000), number("SHARD_SAMPLES", 480));
    let dir = std::env::temp_dir().join(format!("shard-bench-{}", std::process::id()));
    let files = ChunkFiles::open(Arc::new(RealDisk), &dir, 0).expect("a directory for chunk files");
    let rules = LiveOptions::default().rules;
    let shards = 16u32;
    let mut all: Vec<Shard> = (0..shards).map(|n| Shard::new(n, shards)).collect();
    let began = running();
    for id in 0..series {
        all[((id >> 8) % shards) as usize].create(SeriesId(id), u64::from(id) + 1);
    }
    println!("create  {:7.1} ns a series", (running() - began) as f64 / f64::from(series));
    let mut random = Random(88_172_645_463_325_252);
    let mut values = vec![0.0; series as usize];
    let (mut worst, mut spent) = (0, 0);
    for i in 0..samples {
        for (id, v) in (0..).zip(&mut values) {
            *v = next(id, *v, &mut random);
        }
        let began = running();
        for (id, v) in (0..).zip(&values) {
            let t = 1_700_000_000_000 + i64::from(i) * 15_000 + i64::from(id / 1000 % 15_000);
            let shard = &mut all[((id >> 8) % shards) as usize];
            shard.append_float(SeriesId(id), (t, 0), *v, i + 1, &rules, &files);
        }
        let nanos = running() - began;
        for shard in &mut all {
            shard.set_oldest_view(u64::from(i) + 1);
        }
        spent += nanos;
        worst = worst.max(all.iter().map(Shard::bytes).sum::<usize>());
        if (i + 1) % 40 == 0 || [6, 119, 121].contains(&(i + 1)) {
            println!(
                "{:4} samples: {:5.1} ns a sample, {} B a series",
                i + 1,
                nanos as f64 / f64::from(series),
                all.iter().map(Shard::bytes).sum::<usize>() / series as usize,
            );
        }
    }
    let count = f64::from(series) * f64::from(samples);
    println!(
        "append  {:7.1} ns a sample, at most {} B a series",
        spent as f64 / count,
        worst / series as usize
    );

    let began = running();
    let (mut pieces, mut found, mut mapped) = (Vec::new(), 0usize, 0usize);
    for id in 0..series {
        pieces.clear();
        all[((id >> 8) % shards) as usize].pieces(
            SeriesId(id),
            i64::MIN,
            i64::MAX,
            u64::from(samples),
            &mut pieces,
        );
        found += pieces.len();
        mapped += pieces.iter().filter(|p| matches!(p, Piece::Mapped { .. })).count();
    }
    println!(
        "pieces  {:7.1} ns a series, {:.1} full chunks each",
        (running() - began) as f64 / f64::from(series),
        mapped as f64 / f64::from(series)
    );
    assert!(found >= series as usize);
    drop(files);
    let _ = std::fs::remove_dir_all(&dir);
}
