//! Whole texts beside upstream's, for the table of cases and for random templates. A program that renders with
//! upstream's expander is named by `TSDBCTL_PEER_TEMPLATE`; it reads lines of JSON (`template`, `alert`, `value`) and
//! answers each with one (`load`: the error at load, `out`: the text, `err`: the error at run).

#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a skipped test has to say so")]

mod cases;
mod generator;
mod world;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What upstream gives for each template: the text, or the error at load or at run.
fn ask(peer: &str, templates: &[String]) -> Vec<Result<String, String>> {
    let mut child =
        Command::new(peer).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer starts");
    let mut stdin = child.stdin.take().expect("its input");
    let input: String = templates
        .iter()
        .map(|t| format!("{}\n", json!({"template": t, "alert": "A", "value": "1.5"})))
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the peer ends");
    writer.join().expect("no panic").expect("the peer reads all");
    let text = String::from_utf8(output.stdout).expect("the peer writes UTF-8");
    text.lines()
        .map(|line| {
            let answer: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = |key: &str| answer[key].as_str().map(str::to_string);
            match text("load").or_else(|| text("err")) {
                Some(error) => Err(error),
                None => Ok(text("out").unwrap_or_default()),
            }
        })
        .collect()
}

fn comparable(result: &Result<String, String>) -> Result<String, String> {
    result.as_deref().map(without_addresses).map_err(|e| without_addresses(e))
}

/// Addresses of samples, which are different in every run, as ours: `0x0`, and 0 in decimal.
fn without_addresses(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = piece.bytes().take_while(u8::is_ascii_hexdigit).count();
        let address = if out.ends_with("0x") {
            digits >= 9
        } else {
            digits >= 13 && piece.bytes().take(digits).all(|b| b.is_ascii_digit())
        };
        out.push_str(if address { "0" } else { &piece[..digits] });
        out.push_str(&piece[digits..]);
    }
    out
}

fn compare(templates: &[String]) {
    let Ok(peer) = std::env::var("TSDBCTL_PEER_TEMPLATE") else {
        eprintln!("skipped: TSDBCTL_PEER_TEMPLATE is not set");
        return;
    };
    let theirs = ask(&peer, templates);
    assert_eq!(theirs.len(), templates.len());
    let mut different = Vec::new();
    for (template, theirs) in templates.iter().zip(theirs) {
        let ours = world::render("A", template, 1.5);
        // Where only we have a limit, or they found no end.
        let ended_by_us = |e: &String| e.contains("output is longer") || e.contains("takes too long");
        if ours.as_ref().is_err_and(ended_by_us) || theirs == Err("TIMEOUT".to_string()) {
            continue;
        }
        if ours != theirs && comparable(&ours) != comparable(&theirs) {
            different.push(format!("{template}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    let (count, of) = (different.len(), templates.len());
    assert!(different.is_empty(), "{count} of {of} differ:\n{}", different[..count.min(40)].join("\n"));
}

#[test]
fn the_table_is_what_upstream_says() {
    compare(&cases::all().into_iter().map(|case| case.template).collect::<Vec<_>>());
}

#[test]
fn random_templates_are_what_upstream_says() {
    let seed = std::env::var("TSDBCTL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut generator = generator::Generator::new(seed);
    compare(&(0..5000).map(|_| generator.template()).collect::<Vec<_>>());
}
