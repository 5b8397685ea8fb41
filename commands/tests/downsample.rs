//! `tsdbctl downsample`, run as a user runs it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::path::Path;

use runs::tsdbctl;
use serde_json::Value;
use tsdbctl_block::BlockMeta;
use tsdbctl_platform::lock::DirLock;
use tsdbctl_testkit::{scratch, unpack_directory};

/// How many blocks there are of raw samples, of five minutes and of an hour.
fn resolutions(dir: &Path) -> [usize; 3] {
    let mut out = [0; 3];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.join("meta.json").exists() {
            let ms = BlockMeta::read(&path).unwrap().resolution_ms();
            out[[0, 300_000, 3_600_000].iter().position(|r| *r == ms).unwrap()] += 1;
        }
    }
    out
}

#[test]
fn a_bucket_is_planned_and_downsampled_and_then_there_is_nothing_to_do() {
    let Some((_dir, bucket)) = unpack_directory("data/thanos-downsampled.tar.zst") else { return };
    for entry in std::fs::read_dir(&bucket).unwrap() {
        let path = entry.unwrap().path();
        if BlockMeta::read(&path).unwrap().resolution_ms() > 0 {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let dir = bucket.to_str().unwrap();
    let plan = tsdbctl(&["downsample", "-d", dir, "--plan"]);
    assert_eq!((plan.code, &*plan.err), (0, ""));
    assert_eq!(plan.out.matches(" downsample ").count(), 4, "{}", plan.out);
    let json = tsdbctl(&["downsample", "-d", dir, "--plan", "-o", "json"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["plan"]["steps"].as_array().unwrap().len(), 4);
    assert_eq!(resolutions(&bucket), [2, 0, 0]);

    let lock = DirLock::acquire(&bucket).unwrap();
    let refused = tsdbctl(&["downsample", "-d", dir]);
    assert!(refused.code == 2 && refused.err.contains("is held by process"), "{}", refused.err);
    drop(lock);

    let done = tsdbctl(&["downsample", "-d", dir, "-o", "json"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    assert!(done.err.contains("): 4 downsampled; "), "{}", done.err);
    let json: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(json["result"]["status"], "done");
    assert_eq!(json["result"]["made"].as_array().unwrap().len(), 4);
    assert_eq!(resolutions(&bucket), [2, 2, 2]);

    let idle = tsdbctl(&["downsample", "-d", dir]);
    assert_eq!((idle.code, &*idle.out, &*idle.err), (0, "", ""));
}

/// A directory of twenty days whose raw samples of the first ones are gone.
fn tiered(scratch: &Path) -> String {
    const T: i64 = 1_699_999_200;
    let mut text = String::new();
    for t in (T..T + 20 * 86_400).step_by(600) {
        text.push_str(&format!("m {t} {}\n", t * 1000));
    }
    let (input, dir) = (scratch.join("input"), scratch.join("data").to_str().unwrap().to_owned());
    std::fs::write(&input, text).unwrap();
    let ran =
        tsdbctl(&["ingest", "--blocks", "--max-block-duration=10d", "-d", &dir, input.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = tsdbctl(&["downsample", "-d", &dir]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    dir
}

/// What reads raw samples alone says where there are none any more, and only there.
#[test]
fn who_copies_raw_samples_says_that_they_are_gone() {
    let scratch = scratch();
    let dir = tiered(scratch.path());
    let into = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (x, y, z) = (into("x"), into("y"), into("z"));
    let ran = tsdbctl(&["export", "-d", &dir]);
    assert_eq!((ran.code, ran.out.lines().count(), &*ran.err), (0, 2880, ""));
    let ran = tsdbctl(&["merge", &dir, "--into", &x]);
    assert!(ran.code == 0 && !ran.err.contains("downsampled"), "{}", ran.err);

    let ran = tsdbctl(&["downsample", "-d", &dir, "--tiers", "raw=3d,5m=60d"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let blocks = tsdbctl(&["inspect", "blocks", "-d", &dir]);
    let of = |flag: &str| blocks.out.lines().filter(|l| l.ends_with(flag)).count();
    assert!(of("downsampled:5m") > 0 && of("downsampled:1h") > 0, "{}", blocks.out);
    let json: Value =
        serde_json::from_str(&tsdbctl(&["inspect", "blocks", "-d", &dir, "-o", "json"]).out).unwrap();
    let (raw, coarse) = (&json["data"]["blocks"], &json["data"]["downsampled"]);
    let raw_begins = raw[0]["minTime"].as_i64().unwrap();
    assert_eq!(coarse.as_array().unwrap().len(), of("m") + of("h"));
    assert!(coarse[0]["minTime"].as_i64().unwrap() < raw_begins, "{}", blocks.out);

    let ran = tsdbctl(&["export", "-d", &dir]);
    assert!(ran.out.lines().count() < 2880);
    let said = "only downsampled samples are left, of 5m resolution; they are not exported";
    assert!(
        ran.code == 4 && ran.err.contains(said) && ran.err.lines().count() == 1,
        "{} {}",
        ran.code,
        ran.err
    );
    let start = (raw_begins / 1000).to_string();
    let ran = tsdbctl(&["export", "-d", &dir, "--start", &start]);
    assert_eq!((ran.code, &*ran.err), (0, ""));
    let ran = tsdbctl(&["merge", &dir, "--into", &y, "-o", "json"]);
    assert!(ran.code == 4 && ran.err.contains("only downsampled samples are left"), "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(json["skipped"][0]["max_time"].as_i64().unwrap() <= raw_begins, "{json}");
    let ran = tsdbctl(&["slice", "-d", &dir, "--into", &z, "--start", &start]);
    assert!(ran.code == 0 && !ran.err.contains("downsampled"), "{}", ran.err);
}

#[test]
fn wrong_usage_is_refused() {
    let dir = scratch();
    let dir = dir.path().to_str().unwrap();
    for (args, want) in [
        (&["--tiers", "raw=14"][..], "--tiers: \"14\""),
        (&["--tiers", "raw=14d,1h=3d"], "1h is kept for less time than raw"),
        (&["-d", dir, "--into", dir], "--into takes the blocks of one directory; 2 are given"),
    ] {
        let ran = tsdbctl(&[&["downsample", "-d", dir], args].concat());
        assert!(ran.code == 2 && ran.err.contains(want), "{args:?}: {} {}", ran.code, ran.err);
    }
}
