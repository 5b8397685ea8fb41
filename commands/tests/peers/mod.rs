//! A Prometheus and its promtool beside ours: what they dump, answer and log.

#![allow(dead_code, reason = "each of the tests uses a part of it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tsdbctl_model::Labels;
use tsdbctl_testkit::peer::Prometheus;
use tsdbctl_wire::{Sample, WriteRequestWriter, snappy};

use crate::runs::{ok, text_of};

/// Lines of a dump, each of which comes once.
pub fn lines(text: &str) -> BTreeSet<String> {
    let count = text.lines().count();
    let lines: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "a sample twice");
    lines
}

/// Every sample that we find.
pub fn export(dir: &Path) -> BTreeSet<String> {
    lines(&ok(&["export", "-d", text_of(dir)]))
}

/// Two dumps hold the same.
pub fn assert_same(ours: &BTreeSet<String>, theirs: &BTreeSet<String>, what: &str) {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).take(3).cloned().collect()
    };
    assert!(
        ours == theirs,
        "{what}: {} lines, not {}; only ours {:#?}, only theirs {:#?}",
        ours.len(),
        theirs.len(),
        only(ours, theirs),
        only(theirs, ours)
    );
}

/// Whether a line of a dump has a histogram.
pub fn has_histogram(line: &str) -> bool {
    line.contains("{count:")
}

/// Every sample that promtool finds, and what it says about it.
pub fn promtool_dump(promtool: &str, dir: &Path) -> (BTreeSet<String>, String) {
    let output = Command::new(promtool).args(["tsdb", "dump"]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    (lines(&text), String::from_utf8(output.stderr).unwrap())
}

/// What it logged that is worth a look; what comes of our telling it to end, and of late samples in any case, is not.
pub fn complaints(log: &str) -> Vec<String> {
    let is_bad = |line: &&str| {
        let level = line.to_lowercase();
        (level.contains("level=warn") || level.contains("level=error"))
            && !line.contains("Received SIGTERM")
            && !line.contains("context canceled")
            && !line.contains("Overlapping blocks found")
    };
    log.lines().filter(is_bad).map(str::to_owned).collect()
}

/// Text as part of a URL.
pub fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.';
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// An answer in one form: lists of objects by their text, numbers in strings as Rust writes them, what only newer
/// servers say left out.
pub fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(k, _)| !matches!(k.as_str(), "infos" | "warnings"))
            .map(|(k, v)| (k.clone(), normal(v)))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(normal).collect();
            if list.iter().all(Value::is_object) {
                list.sort_by_key(Value::to_string);
            }
            list.into()
        }
        Value::String(text) => match text.replace("Inf", "inf").parse::<f64>() {
            // The last digits of a sum may differ.
            Ok(v) if v.is_finite() && v != 0.0 => Value::from(format!("{v:.9e}")),
            _ => value.clone(),
        },
        Value::Number(n) => Value::from(format!("{:.3}", n.as_f64().unwrap())),
        _ => value.clone(),
    }
}

/// Asks both; the first difference, if there is one, and the size of the answer.
pub fn ask_both(server: &Prometheus, dir: &Path, path: &str, args: &[&str]) -> (Option<String>, usize) {
    let ours: Value =
        serde_json::from_str(&ok(&[args, &["-d", text_of(dir), "-o", "json"]].concat())).unwrap();
    let theirs: Value = serde_json::from_str(&server.body(path)).unwrap();
    let (ours, theirs) = (normal(&ours).to_string(), normal(&theirs).to_string());
    let at = ours.bytes().zip(theirs.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(150)..text.len().min(at + 150)])
            .into_owned()
    };
    let differs = (ours != theirs)
        .then(|| format!("{args:?}\n ours   …{}…\n theirs …{}…", around(&ours), around(&theirs)));
    (differs, theirs.len())
}

/// Sends a sample; a server compacts its head when one arrives.
pub fn push(server: &Prometheus, name: &str, t: i64) {
    let mut w = WriteRequestWriter::default();
    let sample = Sample { value: 7.0, timestamp_ms: t, start_timestamp_ms: 0 };
    w.series(&Labels::from_pairs([("__name__", name)]), &[sample], &[], &[]);
    let body = snappy::compress(&w.finish()).unwrap();
    let mut request = format!(
        "POST /api/v1/write HTTP/1.0\r\nContent-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
         X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let answer = server.ask(&request).unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.0 204"), "{answer}");
}

/// How many blocks a directory has.
pub fn blocks(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().path().join("meta.json").exists()).count()
}

/// SIGTERM, and waits until it is gone.
pub fn terminate(server: Prometheus) -> String {
    let pid = server.pid();
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    for _ in 0..300 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return server.log();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it does not end: {}", server.log());
}
