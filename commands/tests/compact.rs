//! `tsdbctl compact`, run as cron runs it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::path::Path;
use std::process::Command;

use runs::{Place, Ran, tsdbctl};
use serde_json::Value;
use tsdbctl_platform::lock::DirLock;
use tsdbctl_testkit::unpack_directory;

const H: i64 = 3_600;
/// A multiple of 54 hours, in seconds, in 2026.
const T: i64 = 9_100 * 54 * H;

impl Place {
    /// A data directory whose head holds samples every ten minutes, from `from` to `to` hours after [`T`].
    fn ingest(&self, name: &str, from: i64, to: i64) {
        let mut text = String::new();
        for t in (T + from * H..T + to * H).step_by(600) {
            for job in ["api", "debug"] {
                text.push_str(&format!("m{{job={job:?}}} {t} {}\n", t * 1000));
            }
        }
        let input = self.within("input.prom");
        std::fs::write(&input, text).unwrap();
        let ran = tsdbctl(&["ingest", "-d", self.text(name), input.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }

    /// Blocks of two hours.
    fn blocks(&self, name: &str, from: i64, to: i64) {
        for start in (from..to).step_by(2) {
            self.ingest(name, start, start + 2);
            let ran = self.compact(name, &["--flush-head", "--max-block-duration=2h"]);
            assert_eq!(ran.code, 0, "{}", ran.err);
        }
        assert_eq!(self.ulids(name).len() as i64, (to - from) / 2);
    }

    fn text(&self, name: &str) -> &str {
        // Leaked, so that calls read well.
        Box::leak(self.path(name).into_boxed_str())
    }

    fn compact(&self, name: &str, args: &[&str]) -> Ran {
        tsdbctl(&[&["compact", "-d", self.text(name)], args].concat())
    }

    fn ulids(&self, name: &str) -> Vec<String> {
        let mut all: Vec<String> = std::fs::read_dir(self.within(name))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_str().unwrap().to_owned())
            .filter(|n| n.len() == 26)
            .collect();
        all.sort();
        all
    }
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {} {}", ran.out, ran.err))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_head_is_flushed_blocks_are_merged_and_then_it_is_quiet() {
    let place = Place::new();
    place.ingest("db", 0, 9);
    let before = place.dump("db");
    let ran = place.compact("db", &["--flush-head"]);
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.contains(": 5 blocks made of the head, 1 merge; "), "{}", ran.err);
    assert_eq!(place.ulids("db").len(), 3);
    assert_eq!(place.dump("db"), before);
    for args in [&[][..], &["--flush-head"]] {
        let ran = place.compact("db", args);
        assert_eq!((ran.code, &*ran.out, &*ran.err), (0, "", ""), "{args:?}");
    }
    let ran = place.compact("db", &["-v"]);
    assert!(ran.err.contains("nothing to do"), "{}", ran.err);
    // What comes later goes on behind it.
    place.ingest("db", 9, 10);
    assert_eq!(place.dump("db").lines().count(), before.lines().count() + 12);
}

#[test]
fn the_plan_says_what_will_be_done_and_does_nothing() {
    let place = Place::new();
    place.blocks("db", 0, 10);
    let ulids = place.ulids("db");
    let _server = DirLock::acquire(&place.within("db")).unwrap();
    let ran = place.compact("db", &["--plan"]);
    assert_eq!((ran.code, &*ran.err), (0, ""), "{}", ran.err);
    for ulid in &ulids[..3] {
        assert!(ran.out.contains(ulid), "{}", ran.out);
    }
    assert!(!ran.out.contains(&ulids[3]) && ran.out.contains("3 blocks afterwards"), "{}", ran.out);
    let plan = json(&place.compact("db", &["--plan", "-o", "json"]));
    let step = &plan["plan"]["steps"][0];
    assert_eq!((&step["action"], &step["why"]), (&"write".into(), &"range".into()), "{plan}");
    assert_eq!(step["blocks"].as_array().unwrap().len(), 3);
    assert!(step["scratch_bytes"].as_u64() > step["into"]["bytes"].as_u64());
    assert!(step["refused"].is_null());
    assert_eq!(place.ulids("db"), ulids);
}

#[test]
fn the_result_is_told_to_programs() {
    let place = Place::new();
    place.blocks("db", 0, 8);
    let ran = place.compact("db", &["-o", "json", "--retention-time=2h"]);
    let result = &json(&ran)["result"];
    assert_eq!((ran.code, &result["status"]), (0, &"done".into()));
    let removed = result["removed"].as_array().unwrap();
    assert_eq!(removed.len(), 3, "{result}");
    assert_eq!(removed[0]["why"], "time");
    assert!(removed[0]["reason"].as_str().unwrap().contains("older than 2h"), "{result}");
    assert_eq!((&result["before"]["blocks"], &result["after"]["blocks"]), (&4.into(), &1.into()));
    assert_eq!(json(&place.compact("db", &["-o", "json"]))["result"]["status"], "done");
    // A line for each directory, whatever comes of it.
    let ran = place.compact("db", &["-d", place.text("none"), "-o", "json"]);
    let lines: Vec<Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((ran.code, lines.len()), (4, 2));
    assert_eq!(lines[1]["directory"], place.text("none"));
    assert!(lines[1]["error"].as_str().unwrap().contains("No such file"), "{}", ran.out);
}

/// What came out of order is in the log of its own and in files of chunks: it comes back from neither.
#[test]
fn late_samples_are_flushed_once() {
    let Some((_scratch, dir)) = unpack_directory("data/prometheus-3.14-crashed.tar.zst") else { return };
    let dir = dir.to_str().unwrap();
    let flush = || tsdbctl(&["compact", "-d", dir, "--flush-head"]);
    let ran = flush();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("2 blocks made of the head"), "{}", ran.err);
    let ran = flush();
    assert!(ran.code == 0 && !ran.err.contains("of the head"), "{}", ran.err);
}

#[test]
fn a_directory_that_somebody_has_is_refused_and_who_has_it_is_told() {
    let place = Place::new();
    place.blocks("db", 0, 10);
    place.blocks("other", 0, 10);
    let lock = DirLock::acquire(&place.within("db")).unwrap();
    for args in [&[][..], &["--flush-head"]] {
        let ran = place.compact("db", args);
        assert_eq!(ran.code, 2);
        #[cfg(target_os = "linux")]
        assert!(ran.err.contains(&format!("is held by process {} (", std::process::id())), "{}", ran.err);
    }
    // The other one is compacted all the same.
    let ran = place.compact("db", &["-d", place.text("other")]);
    assert_eq!((ran.code, place.ulids("db").len(), place.ulids("other").len()), (4, 5, 3), "{}", ran.err);
    drop(lock);
    // A server that takes no lock is found by its open log.
    #[cfg(target_os = "linux")]
    {
        let segment = std::fs::File::create(place.within("db").join("wal/00000099")).unwrap();
        let mut server = Command::new("sleep").arg("60").stdout(segment).spawn().unwrap();
        let (db, other, input) = (place.text("db"), place.text("other"), place.text("input.prom"));
        let ran = [
            &["compact", "-d", db][..],
            &["downsample", "-d", db],
            &["ingest", "-d", db, input],
            &["ingest", "--blocks", "-d", db, input],
            &["merge", other, "--into", db],
        ]
        .map(tsdbctl);
        server.kill().unwrap();
        server.wait().unwrap();
        for ran in ran {
            assert_eq!(ran.code, 2, "{}", ran.err);
            assert!(ran.err.contains(&format!("process {} (sleep)", server.id())), "{}", ran.err);
        }
        std::fs::remove_file(place.within("db").join("wal/00000099")).unwrap();
    }
    assert_eq!(place.compact("db", &[]).code, 0);
}

#[test]
fn a_damaged_block_is_set_aside_in_part() {
    let place = Place::new();
    place.blocks("db", 0, 10);
    let bad = place.ulids("db")[1].clone();
    flip(&place.within("db").join(&bad).join("chunks/000001"), 20);
    let ran = place.compact("db", &["-o", "json"]);
    let result = &json(&ran)["result"];
    assert_eq!((ran.code, &result["status"]), (4, &"in part".into()), "{}", ran.err);
    assert_eq!(result["quarantined"][0]["ulid"], *bad);
    assert!(ran.err.contains("warning: ") && ran.err.contains("1 set aside as damaged"), "{}", ran.err);
    let aside = place.within("db").join("quarantine").join(&bad);
    let reason: Value = serde_json::from_slice(&std::fs::read(aside.join("reason.json")).unwrap()).unwrap();
    assert_eq!((&reason["block"], &reason["file"]), (&(*bad).into(), &"chunks/000001".into()));
    assert_eq!(place.ulids("db").len(), 3);
    assert_eq!(place.compact("db", &[]).code, 0);
}

#[test]
fn what_cannot_fit_is_not_begun() {
    let place = Place::new();
    place.blocks("db", 0, 10);
    for (args, text) in [
        (["--scratch-limit=1k", "-v"], "--scratch-limit is 1.0 KiB"),
        (["--memory-limit=1MiB", "-v"], "--memory-limit is 1.0 MiB"),
    ] {
        for plan in [&["--plan"][..], &[]] {
            let ran = place.compact("db", &[&args[..], plan].concat());
            assert_eq!(ran.code, 4, "{}", ran.err);
            assert!(format!("{}{}", ran.out, ran.err).contains(text), "{} {}", ran.out, ran.err);
        }
    }
    assert_eq!(place.ulids("db").len(), 5);
}

#[test]
fn rules_take_series_and_come_from_files_too() {
    let place = Place::new();
    place.blocks("db", 0, 8);
    let file = place.within("rules");
    std::fs::write(&file, "# what is kept short\n\nm{job=\"debug\"}=4h # four hours\n{job=~\".+\"}=0s\n")
        .unwrap();
    let ran = place.compact("db", &["--retention-rules", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let dump = place.dump("db");
    let count = |job: &str| dump.lines().filter(|l| l.contains(job)).count();
    assert_eq!((count("api"), count("debug")), (48, 24), "{}", ran.err);

    for (rule, text) in [("up", "is no rule"), ("up=x", "no duration"), ("{job=}=3d", "parse error")] {
        let ran = place.compact("db", &["--retention-rule", rule]);
        assert_eq!(ran.code, 2, "{rule}");
        assert!(ran.err.contains(text), "{rule}: {}", ran.err);
    }
    std::fs::write(&file, "\nup=3w4x\n").unwrap();
    let ran = place.compact("db", &["--retention-rules", file.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("rules:2"), "{}", ran.err);
}

#[test]
fn what_is_no_data_directory_is_said() {
    let place = Place::new();
    place.blocks("db", 0, 2);
    let block = place.within("db").join(&place.ulids("db")[0]);
    std::fs::create_dir(place.within("empty")).unwrap();
    for (dir, text) in [
        (place.within("none"), "none"),
        (place.within("empty"), "neither a data directory"),
        (block, "give the data directory that it is in"),
        (place.within("db").join("wal"), "write-ahead log"),
    ] {
        let ran = tsdbctl(&["compact", "-d", dir.to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(text), "{}", ran.err);
    }
    assert!(!place.within("none").exists());
}

#[test]
fn blocks_wait_for_their_upload_if_that_can_be_read() {
    let place = Place::new();
    place.blocks("db", 0, 10);
    let file = place.within("thanos.shipper.json");
    let args = ["--delay-compact-file", file.to_str().unwrap()];
    std::fs::write(&file, r#"{"version":1,"uploaded":[]}"#).unwrap();
    let ran = place.compact("db", &args);
    assert_eq!((ran.code, &*ran.err, place.ulids("db").len()), (0, "", 5));
    std::fs::write(&file, "{").unwrap();
    let ran = place.compact("db", &args);
    assert!(ran.err.contains("no block waits for its upload"), "{}", ran.err);
    assert_eq!((ran.code, place.ulids("db").len()), (0, 3));
}

#[test]
fn a_block_from_the_future_takes_none_of_five_good_ones_with_it() {
    let place = Place::new();
    place.blocks("db", 0, 10);
    let before = place.dump("db");
    // Of the year 2100: Prometheus deletes the five.
    let input = place.within("future.prom");
    std::fs::write(&input, "m{job=\"api\"} 1 4102444800000\n").unwrap();
    let ran = tsdbctl(&["ingest", "--blocks", "-d", place.text("db"), input.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let with_future = place.ulids("db");
    assert_eq!(with_future.len(), 6);
    let ran = place.compact("db", &["--retention-time=15d", "--max-block-duration=2h"]);
    assert_eq!((ran.code, &*ran.out), (0, ""), "{}", ran.err);
    assert!(
        ran.err.contains("ends in the future, at 2100-01-01T00:00:00.001Z: it is left alone"),
        "{}",
        ran.err
    );
    assert_eq!(place.ulids("db"), with_future);
    assert_eq!(place.dump("db").lines().count(), before.lines().count() + 1);
    // What is too old goes all the same.
    let ran = place.compact("db", &["--retention-time=4h", "--max-block-duration=2h"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(place.ulids("db"), with_future[3..]);
}
