//! What is done to a head has the same outcome as with Prometheus 3.14, whose answers are recorded in `upstream/`, or
//! another one on purpose.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod script;

use script::Machine;

/// A script with recorded answers.
#[derive(Default)]
struct Case<'a> {
    lines: Vec<&'a str>,
    upstream: Vec<&'a str>,
    ours: Vec<&'a str>,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with("script ") {
            cases.push(Case::default());
        }
        let case = cases.last_mut().unwrap();
        match (line.strip_prefix("> "), line.strip_prefix("< ")) {
            (Some(answer), _) => case.upstream.push(answer),
            (_, Some(answer)) => case.ours.push(answer),
            _ => case.lines.push(line),
        }
    }
    cases
}

fn run(case: &Case) -> Vec<String> {
    let mut machine = Machine::new();
    case.lines.iter().for_each(|line| machine.run(line));
    machine.out.lines().skip(1).map(str::to_string).collect()
}

#[test]
fn answers_are_upstreams() {
    let cases = cases(include_str!("upstream/agreed.txt"));
    assert!(cases.len() >= 250);
    // They wait for the disk.
    std::thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(8)) {
            scope.spawn(move || {
                for case in part {
                    assert_eq!(run(case), case.upstream, "{:#?}", case.lines);
                }
            });
        }
    });
}

#[test]
fn what_differs_is_known() {
    for case in &cases(include_str!("upstream/deliberate.txt")) {
        assert_eq!(run(case), case.ours, "{:#?}", case.lines);
        assert_ne!(case.ours, case.upstream, "{:#?}", case.lines);
    }
}

/// Runs the script in the file that `TSDBCTL_SCRIPT` names, and writes the answers to `TSDBCTL_ANSWERS`.
#[test]
#[ignore = "for scripts of one's own"]
fn a_script_of_ones_own() {
    let file = |name: &str| std::env::var(name).unwrap();
    let mut machine = Machine::new();
    for line in std::fs::read_to_string(file("TSDBCTL_SCRIPT")).unwrap().lines() {
        machine.run(line);
    }
    std::fs::write(file("TSDBCTL_ANSWERS"), &machine.out).unwrap();
}
