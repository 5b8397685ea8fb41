//! PromQL's conformance scripts.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]
#![allow(clippy::print_stderr, reason = "what is left out, and how much was run, has to be said")]

use std::path::{Path, PathBuf};

use tsdbctl_promql::engine::options::Features;
use tsdbctl_promql::parser::{ast_json, parse, prettify};
use tsdbctl_promql::script::read::script_features;
use tsdbctl_promql::script::{MemoryEngine, StatementKind, read_script, run, run_options};

/// The scripts of the directory in `PROMQLTEST_DIR`, else the shared ones.
fn scripts() -> Option<Vec<PathBuf>> {
    let dir = match std::env::var_os("PROMQLTEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => tsdbctl_testkit::shared("conformance/promqltest")?,
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    assert!(files.len() >= 21, "{} scripts", files.len());
    Some(files)
}

/// A script's text. The shared copy of one script ends in the middle of a line: of that very copy the last,
/// incomplete statement is left out.
fn text_of(file: &Path) -> String {
    const CUT: (&str, usize) = ("type_and_unit.test", 11_776);
    let mut text = std::fs::read_to_string(file).unwrap();
    if file.ends_with(CUT.0) && text.len() == CUT.1 {
        let end = text.rfind("\n\n").unwrap() + 1;
        eprintln!("{} is cut short; left out: {:?}", CUT.0, text[end..].lines().nth(1).unwrap_or_default());
        text.truncate(end);
    }
    text
}

/// Every script is read completely, and every expression survives printing.
#[test]
fn all_scripts_are_read() {
    let Some(files) = scripts() else { return };
    let mut expressions = 0;
    for file in files {
        let text = text_of(&file);
        let script = read_script(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let commands = text.lines().filter(|l| {
            let l = l.trim();
            ["load", "eval", "clear"].iter().any(|c| {
                l.strip_prefix(c).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '_', '\t']))
            })
        });
        assert_eq!(script.statements.len(), commands.count(), "{}", file.display());
        for statement in &script.statements {
            let StatementKind::Eval(eval) = &statement.kind else { continue };
            expressions += 1;
            let e = parse(&eval.expr, &script_features()).unwrap();
            for printed in [e.to_string(), prettify(&e)] {
                let again = parse(&printed, &script_features())
                    .unwrap_or_else(|e| panic!("{} printed {printed}: {e}", eval.expr));
                assert_eq!(again.to_string(), e.to_string(), "{}", eval.expr);
                // A plus in front of a duration is not printed.
                if !eval.expr.contains('{') && !eval.expr.contains("offset +") {
                    assert_eq!(ast_json(&again), ast_json(&e), "{}", eval.expr);
                }
            }
        }
    }
    assert!(expressions > 1500, "{expressions}");
}

/// Features that are off are refused.
#[test]
fn scripts_need_their_features() {
    let off = Features::default();
    for text in ["sort_by_label(a, \"b\")", "limitk(1, a)", "a anchored", "a + fill(1) b", "step()"] {
        assert!(parse(text, &off).is_err(), "{text}");
        assert!(parse(text, &script_features()).is_ok(), "{text}");
    }
}

fn conformance(only: impl Fn(&str) -> bool) -> Vec<String> {
    let mut failures = Vec::new();
    let mut evaluations = 0;
    for file in scripts().unwrap_or_default() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !only(&name) {
            continue;
        }
        let script = read_script(&text_of(&file)).unwrap();
        let report = run(&name, &script, &mut MemoryEngine::new(), &run_options());
        assert!(report.evaluations > 0, "{name}");
        evaluations += report.evaluations;
        failures.extend(report.failures.iter().map(ToString::to_string));
    }
    eprintln!("{evaluations} evaluations");
    failures
}

/// The engine answers every evaluation of every script, each also pinned with `@` and as a range query.
#[test]
fn every_evaluation_comes_out_as_the_scripts_say() {
    let only = std::env::var("PROMQLTEST").ok();
    let failures = conformance(|name| only.as_deref().is_none_or(|o| name.contains(o)));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Scripts that ask for the wrong thing fail, at their line, with both sides named.
#[test]
fn wrong_expectations_are_reported() {
    let data =
        "load 1m\n  m{a=\"1\"} 1 2 3\n  m{a=\"2\"} 10x2\n  h {{schema:1 count:3 sum:4 buckets:[1 2]}}x2\n\n";
    for (eval, expected, got) in [
        (
            "eval instant at 1m m\n  m{a=\"1\"} 2\n  m{a=\"2\"} 10.1",
            "m{a=\"2\"} 10.1",
            "m{a=\"2\"} 10 @[60000]",
        ),
        ("eval instant at 1m m\n  m{a=\"1\"} 2", "no such series", "m{a=\"2\"} 10 @[60000]"),
        ("eval instant at 1m m{a=\"1\"}\n  m{a=\"1\"} 2\n  n 3", "n 3", "no such series"),
        (
            "eval instant at 1m sort(m)\n  expect ordered\n  m{a=\"2\"} 10\n  m{a=\"1\"} 2",
            "m{a=\"1\"} at position 2",
            "at position 1",
        ),
        ("eval instant at 1m 1 + 1\n  3", "scalar 3", "scalar 2"),
        ("eval instant at 1m m\n  expect fail", "an error", "none"),
        ("eval instant at 1m m + on () m\n  expect fail msg: no", "an error: message \"no\"", ""),
        (
            "eval instant at 1m rate(m{a=\"1\"}[2m])\n  expect no_info\n  {a=\"1\"} 0.0166666666",
            "no info",
            "",
        ),
        (
            "eval range from 0 to 2m step 1m m{a=\"1\"}\n  m{a=\"1\"} 1 _ 3",
            "m{a=\"1\"} 1 @[0] 3 @[120000]",
            "m{a=\"1\"} 1 @[0] 2 @[60000] 3 @[120000]",
        ),
        (
            "eval range from 0 to 1m step 1m m{a=\"1\"}\n  m{a=\"1\"} 1 2 3",
            "3 values of m{a=\"1\"}",
            "a time range that cannot give so many",
        ),
        (
            "eval instant at 1m h\n  h {{schema:1 count:3 sum:4 buckets:[1 3]}}",
            "h {{schema:1 count:3 sum:4 buckets:[1 3]}}",
            "h {{schema:1 count:3 sum:4 counter_reset_hint:not_reset buckets:[1 2]}} @[60000]",
        ),
        ("eval instant at 0 \"a\"\n  expect string \"b\"", "string \"b\"", "string \"a\""),
    ] {
        let script = read_script(&format!("{data}{eval}\n")).unwrap();
        let report = run("x.test", &script, &mut MemoryEngine::new(), &run_options());
        assert_eq!(report.failures.len(), 1, "{eval}");
        let failure = &report.failures[0];
        assert_eq!((failure.line, failure.expected.as_str()), (6, expected), "{eval}");
        assert!(failure.got.starts_with(got), "{eval}: {}", failure.got);
        assert!(failure.to_string().starts_with("x.test:6: "), "{failure}");
    }
}
