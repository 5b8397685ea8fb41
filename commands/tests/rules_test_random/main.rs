//! `rules test` beside promtool on suites that look random: verdicts, texts, what `--update` and `--junit` write.
//!
//! 200 suites a peer; `TSDBCTL_SUITES` says how many, `TSDBCTL_SEED` which is the first.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod generate;
#[path = "../runs/mod.rs"]
mod runs;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use generate::{Numbers, Peer, Suite, suite};
use runs::{Ran, ran, rules_test};
use serde_json::Value;
use tsdbctl_testkit::scratch_in_memory;

fn theirs(program: &str, dir: &Path, args: &[&str]) -> Ran {
    ran(Command::new(program).args(["test", "rules"]).args(args).current_dir(dir).env("NO_COLOR", "1"))
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn program(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|v| !v.is_empty());
    if found.is_none() {
        skipped(variable);
    }
    found
}

#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
fn skipped(variable: &str) {
    eprintln!("skipped: {variable} is not set");
}

/// Upstream's stderr as our JSON report has it.
fn failed_text(report: &Value) -> String {
    let mut out = String::new();
    for file in report["files"].as_array().unwrap() {
        let mut texts: Vec<&str> =
            file["errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
        for test in file["tests"].as_array().unwrap() {
            texts.extend(test["failures"].as_array().unwrap().iter().map(|f| f["text"].as_str().unwrap()));
        }
        if !texts.is_empty() {
            out.push_str(&format!("  FAILED:\n{}\n", texts.join("\n")));
        }
    }
    out
}

/// The failures of a text by what failed and when: what expected and got look like, and the words of errors, are left
/// out.
fn failed_cases(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut name = String::new();
    for line in text.lines() {
        if line.starts_with("    name: ") {
            name = line.to_string();
        } else if ["    alertname: ", "    expr: ", "    rule: "].iter().any(|s| line.starts_with(s)) {
            let end = line.find(", err: ").unwrap_or(line.len());
            out.insert(format!("{name}{}", line[..end].trim_end_matches([',', ' '])));
            name.clear();
        }
    }
    out
}

/// What a suite came to, in what the peer and we have to agree on.
#[derive(PartialEq, Eq, Debug)]
struct Verdict {
    code: i32,
    failed: BTreeSet<String>,
    text: String,
}

fn verdict(peer: Peer, code: i32, text: &str) -> Verdict {
    let mut lines: Vec<&str> = Vec::new();
    let mut block = 0;
    for line in text.lines().filter(|l| !l.starts_with("  WARNING: no file match pattern")) {
        if line == "  FAILED:" {
            block = lines.len();
        }
        // Input that is refused is refused again at every step; we say it once.
        let again = !line.starts_with(' ') && lines[block..].contains(&line);
        if !again || line.is_empty() {
            lines.push(line);
        }
    }
    let text = lines.join("\n").trim_end().to_string();
    let failed = failed_cases(&text);
    // The words of 2.42 are others, and so are digits of its sums.
    Verdict { code, failed, text: if peer == Peer::New { text } else { String::new() } }
}

fn our_verdict(peer: Peer, dir: &Path, suite: &Suite) -> (Verdict, Ran) {
    let args: Vec<&str> = ["-o", "json"].iter().chain(&suite.flags).chain(&suite.tests).copied().collect();
    let ran = rules_test(dir, &args);
    let report: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {} {}", ran.out, ran.err));
    (verdict(peer, ran.code, &failed_text(&report)), ran)
}

/// Asks the peer until it says what we say, a few times: it takes groups in any order unless all are listed, series
/// in any order (sums and the last of several errors depend on it).
fn agrees(program: &str, peer: Peer, dir: &Path, suite: &Suite, ours: &Verdict) -> Result<bool, Verdict> {
    let args: Vec<&str> = suite.flags.iter().chain(&suite.tests).copied().collect();
    let mut last = None;
    for time in 0..20 {
        let ran = theirs(program, dir, &args);
        let theirs = verdict(peer, ran.code, &ran.err);
        if theirs == *ours {
            return Ok(time == 0);
        }
        last = Some(theirs);
    }
    Err(last.unwrap())
}

fn beside(peer: Peer, variable: &str) {
    let Some(program) = program(variable) else { return };
    let (count, first) = (setting("TSDBCTL_SUITES", 200), setting("TSDBCTL_SEED", 0));
    let (mut failed, mut passed, mut rewritten, mut unsettled) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    for seed in first..first + count {
        let suite = suite(seed, peer);
        let dir = scratch_in_memory();
        let path = dir.path();
        for (name, text) in &suite.files {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), text).unwrap();
        }
        let (verdict, ran) = our_verdict(peer, path, &suite);
        match agrees(&program, peer, path, &suite, &verdict) {
            Ok(at_once) => unsettled += u64::from(!at_once),
            Err(theirs) => {
                wrong.push(format!("suite {seed}\n{}\nours {verdict:#?}\ntheirs {theirs:#?}", suite.text()));
                continue;
            }
        }
        if verdict.code == 0 {
            passed += 1;
        } else {
            failed += 1;
        }
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        // What --update makes of it passes there too, and a second time changes nothing.
        let args: Vec<&str> = ["--update"].iter().chain(&suite.flags).chain(&suite.tests).copied().collect();
        let updated = rules_test(path, &args);
        let text = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        let once: Vec<String> = suite.tests.iter().map(|t| text(t)).collect();
        if verdict.code != 0 && updated.code == 0 {
            rewritten += 1;
            let good = Verdict { code: 0, failed: BTreeSet::new(), text: String::new() };
            if let Err(theirs) = agrees(&program, peer, path, &suite, &good) {
                let new = once.join("\n---\n");
                wrong.push(format!("suite {seed} updated\n{}\n{new}\n{theirs:#?}", suite.text()));
            }
        }
        rules_test(path, &args);
        let twice: Vec<String> = suite.tests.iter().map(|t| text(t)).collect();
        assert_eq!(once, twice, "suite {seed} updated twice\n{}", suite.text());
    }
    let counts = format!(
        "{failed} failed, {passed} passed, {rewritten} rewritten, {unsettled} not at once, {} differ",
        wrong.len()
    );
    let shown: Vec<String> = wrong.iter().take(30).cloned().collect();
    assert!(wrong.is_empty(), "{counts}\n{} of {count} differ:\n{}", wrong.len(), shown.join("\n=====\n"));
    assert!(failed > count / 4 && passed + rewritten > count / 10 && unsettled < count / 6, "{counts}");
}

#[test]
fn suites_have_the_verdict_of_the_promtool_of_the_distribution() {
    beside(Peer::Old, "TSDBCTL_PEER_PROMTOOL");
}

#[test]
fn suites_have_the_verdict_and_the_words_of_promtool_3_14() {
    beside(Peer::New, "TSDBCTL_PEER_PROMTOOL_3");
}

#[test]
fn mutated_files_never_panic() {
    let dir = scratch_in_memory();
    let mut n = Numbers::new(5);
    let mut names = Vec::new();
    for i in 0..60 {
        let made = suite(i, Peer::New);
        for (name, text) in &made.files {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let text = made.files.iter().find(|(name, _)| name == "test.yml").unwrap();
        let mut bytes = text.1.clone().into_bytes();
        for _ in 0..1 + n.below(6) {
            let at = n.below(bytes.len() as u64) as usize;
            match n.below(3) {
                0 => bytes[at] = b"{}[]:'\"x#-&*|>\n 0\xff"[n.below(18) as usize],
                1 => {
                    bytes.remove(at);
                }
                _ => bytes.truncate(bytes.len() - at.min(20)),
            }
        }
        let name = format!("t{i}.yml");
        std::fs::write(dir.path().join(&name), bytes).unwrap();
        names.push(name);
    }
    let mut args: Vec<&str> = names.iter().map(String::as_str).collect();
    let ran = rules_test(dir.path(), &args);
    assert!(ran.code == 1 && !ran.err.contains("panicked"), "{}", ran.err);
    args.insert(0, "--update");
    let ran = rules_test(dir.path(), &args);
    assert!(ran.code == 1 && !ran.err.contains("panicked"), "{}", ran.err);
}
