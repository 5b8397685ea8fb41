//! `tsdbctl merge`, run as a user runs it: what is exported of the result is what is exported of the inputs.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runs::{assert_same_lines, exported, ok, peer, sorted, text_of, tsdbctl};
use serde_json::Value;
use tsdbctl_testkit::{TempDir, read_text, scratch, unpack_directory};

/// Every file below a directory and its content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn blocks(dir: &Path) -> Vec<(PathBuf, Value)> {
    let mut all: Vec<(PathBuf, Value)> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("meta.json").exists())
        .map(|p| (p.clone(), serde_json::from_slice(&fs::read(p.join("meta.json")).unwrap()).unwrap()))
        .collect();
    all.sort_by_key(|(_, meta)| meta["minTime"].as_i64());
    all
}

/// A directory whose head holds these lines of the text format.
fn ingested(scratch: &TempDir, name: &str, text: &str) -> PathBuf {
    let (dir, file) = (scratch.path().join(name), scratch.path().join(format!("{name}.prom")));
    fs::write(&file, text).unwrap();
    ok(&["ingest", "-d", text_of(&dir), text_of(&file)]);
    dir
}

const T: i64 = 1_700_000_000_000;

fn lines(series: &str, times: impl IntoIterator<Item = i64>) -> String {
    times.into_iter().map(|i| format!("{series} {i} {}\n", T + i * 60_000)).collect()
}

/// A directory merged with itself under two labels: each half is the dump.
fn twice(name: &str, golden: &str) {
    let Some(want) = read_text(&format!("data/{golden}.dump.zst")) else { return };
    let Some((scratch, dir)) = unpack_directory(&format!("data/{name}.tar.zst")) else { return };
    let want = sorted(&want);
    let before = files(&dir);
    let into = scratch.path().join("into");
    let d = text_of(&dir);
    ok(&["merge", d, d, "--into", text_of(&into), "--label", "origin=one", "--label", "origin=two"]);
    assert!(before == files(&dir), "the input is as it was");
    // The other half has as many samples, as the counts say.
    let label = "origin=\"two\"";
    let without = |line: &String| {
        assert!(line.contains(label), "{line}");
        line.replacen(&format!(", {label}"), "", 1).replacen(&format!("{label}, "), "", 1)
    };
    let mut got: Vec<String> =
        exported(&into, &["--match", &format!("{{{label}}}")]).iter().map(without).collect();
    got.sort_unstable();
    assert_same_lines(&got, &want, name);
    let metas = blocks(&into);
    for pair in metas.windows(2) {
        assert!(pair[0].1["maxTime"].as_i64() <= pair[1].1["minTime"].as_i64(), "{metas:?}");
    }
    let samples: u64 = metas.iter().map(|(_, m)| m["stats"]["numSamples"].as_u64().unwrap()).sum();
    assert_eq!(samples, 2 * want.len() as u64);
}

#[test]
fn floats_of_2_42() {
    twice("prometheus-2.42-crashed", "prometheus-2.42-crashed");
}

#[test]
fn histograms_and_late_samples_of_3_14() {
    twice("prometheus-3.14-crashed", "prometheus-3.14-crashed");
}

#[test]
fn new_encodings_of_3_14() {
    twice("prometheus-3.14-xor2-crashed", "prometheus-3.14-xor2-crashed");
}

#[test]
fn start_timestamps_are_kept() {
    let Some((scratch, dir)) = unpack_directory("data/prometheus-3.14-xor2-crashed.tar.zst") else { return };
    let into = scratch.path().join("into");
    ok(&["merge", text_of(&dir), "--into", text_of(&into)]);
    let answer = |dir: &Path| {
        let expression = "rate(prometheus_http_requests_total[5m])";
        let args = ["query", "-d", text_of(dir), expression, "--start", "newest-20m"];
        let more =
            ["--end", "newest", "--step", "60s", "--enable-feature", "use-start-timestamps", "-o", "json"];
        ok(&[&args[..], &more[..]].concat())
    };
    let want = answer(&dir);
    assert!(want.len() > 1000, "{want}");
    assert_eq!(answer(&into), want);
}

/// Runs where `TSDBCTL_PEER_PROMTOOL` names the program.
#[test]
fn upstream_reads_what_was_merged_and_cut() {
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL") else { return };
    let Some((scratch, dir)) = unpack_directory("data/prometheus-2.42-crashed.tar.zst") else { return };
    let (merged, cut) = (scratch.path().join("merged"), scratch.path().join("cut"));
    ok(&["merge", text_of(&dir), "--into", text_of(&merged)]);
    let range = ["--match", "{job=\"node\"}", "--start", "newest-17m", "--end", "newest-3m"];
    ok(&[&["slice", "-d", text_of(&dir), "--into", text_of(&cut)], &range[..]].concat());
    let upstream = |command: &str, dir: &Path| {
        let done = Command::new(&promtool).args(["tsdb", command, text_of(dir)]).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{command} {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert_same_lines(&sorted(&upstream("dump", &merged)), &exported(&dir, &[]), "merged");
    assert_same_lines(&sorted(&upstream("dump", &cut)), &exported(&dir, &range), "cut");
    for dir in [&merged, &cut] {
        assert_eq!(upstream("list", dir).lines().count(), 1 + blocks(dir).len());
        assert!(upstream("analyze", dir).starts_with("Block ID: "));
    }
}

#[test]
fn heads_and_blocks_become_blocks_of_aligned_ranges() {
    let scratch = scratch();
    let a = ingested(&scratch, "a", &(lines("up{job=\"x\"}", 0..700) + &lines("only{in=\"a\"}", 5..6)));
    let b = ingested(&scratch, "b", &(lines("up{job=\"x\"}", 350..900) + &lines("up{job=\"y\"}", 0..10)));
    let into = scratch.path().join("into");
    let out = ok(&["merge", text_of(&a), text_of(&b), "--into", text_of(&into), "-o", "json"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["samples"], 911);
    let want = lines("{__name__=\"up\", job=\"x\"}", 0..900)
        + &lines("{__name__=\"only\", in=\"a\"}", 5..6)
        + &lines("{__name__=\"up\", job=\"y\"}", 0..10);
    assert_same_lines(&exported(&into, &[]), &sorted(&want), "merged");
    let ranges: Vec<(i64, i64)> = blocks(&into)
        .iter()
        .map(|(_, m)| (m["minTime"].as_i64().unwrap(), m["maxTime"].as_i64().unwrap()))
        .collect();
    assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (T, T + 899 * 60_000 + 1));
    for (start, end) in &ranges {
        let fits = |range: i64| start / range == (end - 1) / range;
        assert!(fits(2 * 3_600_000) || fits(6 * 3_600_000) || fits(18 * 3_600_000), "{ranges:?}");
    }
    // Again: nothing is made twice. What is missing is made anew.
    let listed = blocks(&into);
    let again = tsdbctl(&["merge", text_of(&a), text_of(&b), "--into", text_of(&into)]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("were there already"), "{}", again.err);
    assert_eq!(blocks(&into), listed);
    fs::remove_dir_all(&listed[1].0).unwrap();
    ok(&["merge", text_of(&a), text_of(&b), "--into", text_of(&into)]);
    assert_eq!(blocks(&into).len(), listed.len());
    assert_same_lines(&exported(&into, &[]), &sorted(&want), "merged again");
    // Blocks of shorter ranges hold the same.
    let short = scratch.path().join("short");
    ok(&["merge", text_of(&into), "--into", text_of(&short), "--max-block-duration", "2h"]);
    assert!(blocks(&short).len() > ranges.len());
    assert_same_lines(&exported(&short, &[]), &sorted(&want), "short blocks");
}

#[test]
fn of_two_values_that_of_the_first_directory_is_kept_and_the_other_counted() {
    let scratch = scratch();
    let value = |v: &str, times: std::ops::Range<i64>| -> String {
        times.map(|i| format!("up {v} {}\n", T + i * 60_000)).collect()
    };
    let a = ingested(&scratch, "a", &value("1", 0..30));
    let b = ingested(&scratch, "b", &(value("2", 10..20) + &value("1", 20..40)));
    let into = scratch.path().join("into");
    let ran = tsdbctl(&["merge", text_of(&a), text_of(&b), "--into", text_of(&into), "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&said["conflicts"], &said["same_twice"]), (&10.into(), &10.into()), "{said}");
    assert!(ran.err.contains("10 samples had another value"), "{}", ran.err);
    let want: Vec<String> = (0..40).map(|i| format!("{{__name__=\"up\"}} 1 {}", T + i * 60_000)).collect();
    assert_same_lines(&exported(&into, &[]), &want, "first wins");
}

#[test]
fn what_is_there_already_is_not_overlapped_unless_told() {
    let scratch = scratch();
    let a = ingested(&scratch, "a", &lines("up", 0..100));
    let b = ingested(&scratch, "b", &lines("up", 50..150));
    let into = scratch.path().join("into");
    ok(&["merge", text_of(&a), "--into", text_of(&into)]);
    let before = files(&into);
    let refused = tsdbctl(&["merge", text_of(&b), "--into", text_of(&into)]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("has samples of that time already"), "{}", refused.err);
    assert!(before == files(&into));
    ok(&["merge", text_of(&b), "--into", text_of(&into), "--allow-overlap"]);
    assert_same_lines(&exported(&into, &[]), &sorted(&lines("{__name__=\"up\"}", 0..150)), "overlapping");
}

#[test]
fn what_the_head_of_the_result_holds_stays_readable() {
    let scratch = scratch();
    let a = ingested(&scratch, "a", &lines("up", 200..300));
    let into = ingested(&scratch, "into", &lines("up", 0..100));
    ok(&["merge", text_of(&a), "--into", text_of(&into)]);
    let all = lines("{__name__=\"up\"}", (0..100).chain(200..300));
    assert_same_lines(&exported(&into, &[]), &sorted(&all), "head and blocks");
    for (_, meta) in blocks(&into) {
        assert_eq!(meta["compaction"]["hints"], serde_json::json!(["from-out-of-order"]));
    }
    let b = ingested(&scratch, "b", &lines("up", 50..60));
    let refused = tsdbctl(&["merge", text_of(&b), "--into", text_of(&into)]);
    assert!(refused.code == 2 && refused.err.contains("its head"), "{}", refused.err);
}

#[test]
fn labels_in_the_way_are_kept_under_another_name() {
    let scratch = scratch();
    let a = ingested(
        &scratch,
        "a",
        &(lines("up{origin=\"x\"}", 0..3) + &lines("up{exported_origin=\"x\"}", 0..3)),
    );
    let b = ingested(&scratch, "b", &lines("up", 0..3));
    let into = scratch.path().join("into");
    let ran =
        tsdbctl(&["merge", text_of(&a), text_of(&b), "--into", text_of(&into), "--label", "origin={dir}"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("kept as exported_exported_origin"), "{}", ran.err);
    let want = lines("{__name__=\"up\", exported_exported_origin=\"x\", origin=\"a\"}", 0..3)
        + &lines("{__name__=\"up\", exported_origin=\"x\", origin=\"a\"}", 0..3)
        + &lines("{__name__=\"up\", origin=\"b\"}", 0..3);
    assert_same_lines(&exported(&into, &[]), &sorted(&want), "labels");
}

#[test]
fn wrong_usage_makes_nothing() {
    let scratch = scratch();
    let a = ingested(&scratch, "a", &lines("up", 0..3));
    let into = scratch.path().join("into");
    let (a, i) = (text_of(&a), text_of(&into));
    for (args, want) in [
        (vec![a, "--into", a], "cannot be written"),
        (vec![a, "--into", i, "--label", "x"], "is no label"),
        (vec![a, a, a, "--into", i, "--label", "x=1", "--label", "x=2"], "given 2 times for 3"),
        (vec![a, "--into", i, "--max-block-duration", "1h"], "at least 2h"),
        (vec![a, "--into", i, "--memory-limit", "x"], "is no size"),
        (vec!["/none", "--into", i], "/none"),
    ] {
        let ran = tsdbctl(&[&["merge"], &args[..]].concat());
        assert_eq!(ran.code, 2, "{args:?} {}", ran.err);
        assert!(ran.err.contains(want), "{args:?} {}", ran.err);
    }
    assert!(!into.exists());
}
