//! `rules check` and `rules fmt` as users run them: promtool's verdicts and texts, formats of output, exit statuses.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;
use tsdbctl_testkit::{read_text, scratch, shared};

mod rules_check_random;
mod runs;

use rules_check_random::{Random, file};
use runs::{Ran, command, peer, ran, text_of, tsdbctl};

/// Runs `rules check` in a directory, with a text on standard input.
fn check_in(dir: &std::path::Path, args: &[&str], stdin: &str) -> Ran {
    let mut child = command(&[&["rules", "check"], args].concat())
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A child that ends early does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let done = child.wait_with_output().unwrap();
    Ran {
        code: done.status.code().unwrap_or(-1),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

#[test]
fn verdicts_and_texts_are_promtools() {
    let (Some(lines), Some(conformance)) = (read_text("data/verdicts-3.14.jsonl"), shared("conformance"))
    else {
        return;
    };
    let mut seen = 0;
    for line in lines.lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        let argv: Vec<&str> =
            verdict["argv"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let ["promtool", "check", "rules", args @ ..] = &argv[..] else { continue };
        let dir = conformance.join(verdict["dir"].as_str().unwrap());
        let got = check_in(&dir, args, verdict["stdin"].as_str().unwrap_or(""));
        assert_eq!(i64::from(got.code), verdict["exit"], "{argv:?}\n{}", got.err);
        assert_eq!(got.out, verdict["stdout"], "{argv:?}");
        let ours: Vec<&str> = got.err.lines().collect();
        for fact in verdict["stderr"].as_str().unwrap().lines() {
            assert!(ours.contains(&fact), "{argv:?}: {fact}\n{}", got.err);
        }
        seen += 1;
    }
    assert!(seen > 30, "{seen} verdicts");
}

const GOOD: &str = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: up\n";

#[test]
fn exit_statuses_say_what_was_found() {
    let dir = scratch();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("good.yml", GOOD);
    write("bad.yml", "groups:\n- name: g\n  rules:\n  - record: r\n    expr: sum(\n");
    write("twice.yml", &format!("{GOOD}  - record: r\n    expr: down\n"));
    write("odd.yml", "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: count(up) == 0\n");
    write("two.yml", &format!("{GOOD}---\n{GOOD}"));
    write("apart.yml", &format!("{GOOD}---\n{}", GOOD.replace("name: g", "name: h")));
    for (args, code) in [
        (&["good.yml"][..], 0),
        (&["good.yml", "bad.yml"], 1),
        (&["--lint-fatal", "bad.yml"], 1),
        (&["twice.yml"], 0),
        (&["--lint-fatal", "twice.yml"], 3),
        (&["--lint=none", "--lint-fatal", "twice.yml"], 0),
        (&["--lint-fatal", "--allow", "duplicate-rules", "twice.yml"], 0),
        // What upstream's options pass, they pass here; ours are asked for by their names.
        (&["--lint=all", "--lint-fatal", "odd.yml"], 0),
        (&["--lint=strict", "odd.yml"], 0),
        (&["--lint=strict", "--lint-fatal", "odd.yml"], 3),
        (&["--lint=alert-never-fires", "--lint-fatal", "odd.yml"], 3),
        (&["--lint=topk-in-alert", "--lint-fatal", "odd.yml"], 0),
        (&["--deny=never-true", "odd.yml"], 3),
        // Notes count by name alone.
        (&["--deny=all", "good.yml"], 0),
        (&["--lint=strict", "--lint-fatal", "good.yml"], 0),
        (&["--deny=record-name", "good.yml"], 3),
        (&["--deny=all", "twice.yml"], 3),
        (&["two.yml"], 1),
        (&["--all-documents", "two.yml"], 1),
        (&["apart.yml"], 1),
        (&["--all-documents", "apart.yml"], 0),
        (&["missing.yml", "good.yml"], 2),
        (&["--lint=nonsense", "good.yml"], 0),
    ] {
        let got = check_in(dir.path(), args, "");
        assert_eq!(got.code, code, "{args:?}\n{}{}", got.out, got.err);
    }
}

#[test]
fn errors_show_the_line_with_a_caret() {
    let dir = scratch();
    let text = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: >-\n      sum(up)\n      + rate(up)\n";
    fs::write(dir.path().join("f.yml"), text).unwrap();
    let got = check_in(dir.path(), &["f.yml"], "");
    assert_eq!(got.out, "Checking f.yml\n");
    assert_eq!(
        got.err,
        "  FAILED:\n\
         f.yml: 5:11: group \"g\", rule 1, \"r\": could not parse expression: 1:16: parse error: expected type range \
         vector in call to function \"rate\", got instant vector\n \
         --> f.yml:7:14 [invalid-expression]\n  \
         |\n7 |       + rate(up)\n  |              ^^\n  \
         = hint: add a range: up[5m]\n"
    );
}

#[test]
fn standard_input_and_parts_of_files_are_checked() {
    let dir = scratch();
    let got = check_in(dir.path(), &[], GOOD);
    assert_eq!((got.code, got.out.as_str()), (0, "Checking standard input\n  SUCCESS: 1 rules found\n\n"));
    let got = check_in(dir.path(), &[], "groups:\n- name: g\n- name: g\n");
    assert_eq!(got.code, 1);
    // promtool names no file there.
    assert!(got.err.starts_with("  FAILED:\n0:0: groupname: \"g\" is repeated"), "{}", got.err);
    assert!(got.err.contains("stdin:3:9"), "{}", got.err);
    fs::write(
        dir.path().join("values.yml"),
        "alerts:\n  groups: [{name: g, rules: [{record: r, expr: 1}]}]\n",
    )
    .unwrap();
    let got = check_in(dir.path(), &["values.yml:alerts"], "");
    assert_eq!(got.code, 0, "{}", got.err);
    assert!(got.out.contains("SUCCESS: 1 rules found"));
}

#[test]
fn what_is_no_file_is_named_with_what_to_name_instead() {
    let dir = scratch();
    fs::write(dir.path().join("good.yml"), GOOD).unwrap();
    for (name, remedy) in [
        (".", "; name its files: ./*.yml\n"),
        ("x*.yml", "; patterns are the shell's to expand"),
        ("x.yml", ""),
    ] {
        let got = check_in(dir.path(), &[name, "good.yml"], "");
        assert_eq!(got.code, 2, "{name}");
        assert!(got.err.starts_with(&format!("error: {name}: cannot read: ")), "{}", got.err);
        assert!(got.err.contains(remedy), "{}", got.err);
        assert!(got.out.contains("Checking good.yml\n  SUCCESS"), "{}", got.out);
    }
}

#[test]
fn findings_come_as_json_and_sarif() {
    let dir = scratch();
    fs::write(dir.path().join("a.yml"), GOOD).unwrap();
    fs::write(dir.path().join("b.yml"), "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n")
        .unwrap();
    let got = check_in(dir.path(), &["-o", "json", "a.yml", "b.yml"], "");
    assert_eq!((got.code, got.err.as_str()), (0, ""));
    let lines: Vec<Value> = got.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["status"], "success");
    assert_eq!(lines[0]["rules"], 1);
    let finding = &lines[1]["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["line"], &finding["column"], &finding["endColumn"]),
        (&"alert-without-comparison".into(), &5.into(), &11.into(), &13.into())
    );
    let got = check_in(dir.path(), &["-o", "sarif", "a.yml", "b.yml"], "");
    let log: Value = serde_json::from_str(&got.out).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(log["runs"][0]["results"][0]["ruleId"], "alert-without-comparison");
    assert!(log["runs"][0]["tool"]["driver"]["rules"][0]["shortDescription"]["text"].is_string());
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], true);
    let got = check_in(dir.path(), &["-o", "sarif", "a.yml", "missing.yml"], "");
    let log: Value = serde_json::from_str(&got.out).unwrap();
    assert_eq!((got.code, &log["runs"][0]["invocations"][0]["executionSuccessful"]), (2, &false.into()));
}

#[test]
fn what_may_be_found_is_listed() {
    let list = tsdbctl(&["rules", "check", "--list"]);
    assert_eq!(list.code, 0, "{}", list.err);
    for line in ["error  invalid-expression ", "lint   never-true ", "lint   duplicate-rules "] {
        assert!(list.out.lines().any(|l| l.starts_with(line)), "{line}\n{}", list.out);
    }
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules-check.md");
    let manual = fs::read_to_string(manual).unwrap();
    for code in list.out.lines().filter_map(|line| line.split_whitespace().nth(1)) {
        assert!(manual.contains(&format!("| `{code}` |")), "{code} is not in the manual");
    }
}

#[test]
fn files_are_formatted_in_place_compared_and_shown() {
    let dir = scratch();
    let path = dir.path().join("f.yml");
    let path = text_of(&path);
    fs::write(path, format!("# head\n{GOOD}")).unwrap();
    let formatted = "# head\ngroups:\n  - name: g\n    rules:\n      - record: r\n        expr: up\n";
    let got = tsdbctl(&["rules", "fmt", path]);
    assert_eq!((got.code, got.out.as_str()), (0, formatted));
    let got = tsdbctl(&["rules", "fmt", "--check", "--diff", path]);
    assert_eq!(got.code, 1);
    assert!(got.out.contains("-- name: g\n") && got.out.contains("+  - name: g\n"), "{}", got.out);
    assert!(got.err.contains("not formatted"), "{}", got.err);
    assert_eq!(tsdbctl(&["rules", "fmt", "--write", path]).code, 0);
    assert_eq!(fs::read_to_string(path).unwrap(), formatted);
    assert_eq!(tsdbctl(&["rules", "fmt", "--check", path]).code, 0);
    // What cannot be read does not keep the others from it.
    fs::write(path, GOOD).unwrap();
    let got = tsdbctl(&["rules", "fmt", "--write", "missing.yml", path]);
    assert_eq!((got.code, fs::read_to_string(path).unwrap()), (2, formatted.replace("# head\n", "")));
    fs::write(path, "groups: [").unwrap();
    let got = tsdbctl(&["rules", "fmt", "--write", path]);
    assert_eq!(got.code, 1);
    assert_eq!(fs::read_to_string(path).unwrap(), "groups: [");
}

#[cfg(unix)]
#[test]
fn formatted_files_keep_their_links_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = scratch();
    let (file, link) = (dir.path().join("f.yml"), dir.path().join("l.yml"));
    fs::write(&file, GOOD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("f.yml", &link).unwrap();
    assert_eq!(tsdbctl(&["rules", "fmt", "--write", text_of(&link)]).code, 0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(tsdbctl(&["rules", "fmt", "--check", text_of(&file)]).code, 0);
}

/// Files beside a promtool of 3.14: the same exit status, and every line of its errors is among ours.
#[test]
fn odd_files_get_the_verdict_of_a_promtool() {
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL_3") else { return };
    let dir = scratch();
    let rule = |text: &str| format!("groups:\n- name: g\n  rules:\n{text}");
    let files = [
        rule("  - record: r\n    expr: 1\n    for: 5\n"),
        rule("  - record: r\n    expr: 1\n    for: ~\n"),
        rule("  - record: ~\n    expr: 1\n"),
        rule("  - record: r\n    expr: ~\n"),
        rule("  - record: [a]\n    expr: {b: c}\n"),
        rule("  - alert: A\n    expr: 1\n    labels: {a: [1]}\n    annotations: {b: {}}\n"),
        rule("  - alert: A\n    expr: 1\n    labels: {a: 1, a: 2}\n"),
        rule("  - alert: A\n    expr: 1\n    expr: 2\n"),
        rule("  - alert: A\n    expr: 1\n    for: 5m\n    for: 6m\n"),
        rule("  -\n  - ~\n  - record: r\n    expr: 1\n"),
        rule("  - alert: A\n    expr: 1\n    labels: {__name__: x, \"\": y}\n    annotations: {\"\": z}\n"),
        rule("  - alert: A\n    expr: up{a=~\"[\"}\n"),
        rule("  - alert: A\n    expr: |\n\n      up +\n\n      foo bar\n"),
        rule("  - alert: A\n    expr: \"up + \\u00e9\"\n"),
        rule(
            "  - alert: 'A\"b'\n    expr: 1\n    labels: {x: '{{ end }}', y: '{{ $x }}', z: \"{{\\n foo }}\"}\n",
        ),
        rule("  - record: r\n    expr: 1\n    annotations: {}\n    for: 0s\n    keep_firing_for: 0\n"),
        rule("  - record: 'é b'\n    expr: 1\n"),
        rule(
            "  - &a\n    alert: A\n    expr: &e up ==\n  - <<: *a\n    alert: B\n  - alert: C\n    expr: *e\n",
        ),
        "groups:\n- name: g\n  interval: 1x\n- name: h\n  query_offset: -1s\n".to_string(),
        "groups:\n- name: g\n  limit: 1.5\n  interval: ''\n".to_string(),
        "groups:\n- name: g\n  limit: x\n  labels: [a]\n".to_string(),
        "groups:\n- name: g\n  labels: {__name__: x}\n".to_string(),
        "groups:\n- rules: []\n- rules: []\n".to_string(),
        "groups: {a: b}\n".to_string(),
        "groups:\n- g\n".to_string(),
        "groups: ~\n".to_string(),
        "~\n".to_string(),
        "x\n".to_string(),
        "- x\n".to_string(),
        "groups: [\n".to_string(),
        "groups:\n\t- a\n".to_string(),
        "a: b: c\n".to_string(),
        "groups: *x\n".to_string(),
        "groups: \"x\n".to_string(),
        "%YAML 1.3\n---\ngroups: []\n".to_string(),
        "\u{feff}groups: []\n".to_string(),
        "groups: []\nfoo: 1\nbar: 2\nfoo: 3\n".to_string(),
        "1: 2\nnull: 3\ntrue: 4\n".to_string(),
        "# nothing\n".to_string(),
        String::new(),
    ];
    let different: Vec<String> =
        files.iter().filter_map(|text| difference(dir.path(), &promtool, text).err()).collect();
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        files.len(),
        different.join("\n----\n")
    );
}

/// 200 files with odd values at random places; as many as `TSDBCTL_RANDOM_FILES` says where it is set.
#[test]
fn random_files_get_the_verdict_of_a_promtool() {
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL_3") else { return };
    let count = std::env::var("TSDBCTL_RANDOM_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let dir = scratch();
    let mut different = Vec::new();
    let mut good = 0;
    for seed in 0..count {
        let text = file(&mut Random::new(seed));
        let found = difference(dir.path(), &promtool, &text);
        good += u64::from(found == Ok(0));
        different.extend(found.err().map(|d| format!("seed {seed}: {d}")));
    }
    assert!(different.is_empty(), "{} of {count} differ:\n{}", different.len(), different.join("\n----\n"));
    assert!(good * 10 > count && good * 10 < count * 9, "{good} of {count} are good: the files show nothing");
}

/// How our verdict on a file differs from a promtool's: in the exit status or what is printed, or in that a line of
/// its errors is not among ours. Else the exit status.
fn difference(dir: &std::path::Path, promtool: &str, text: &str) -> Result<i32, String> {
    fs::write(dir.join("f.yml"), text).unwrap();
    let theirs = ran(std::process::Command::new(promtool).args(["check", "rules", "f.yml"]).current_dir(dir));
    let ours = check_in(dir, &["f.yml"], "");
    if ours.err.contains("[second-document]") {
        // Upstream passes over it, with a warning.
        return if theirs.err.contains("Multiple document") { Ok(ours.code) } else { Err(text.to_string()) };
    }
    let said: Vec<&str> = ours.err.lines().collect();
    let missing: Vec<&str> =
        theirs.err.lines().filter(|line| !said.contains(line) && !is_aside(line)).collect();
    let same = theirs.code == ours.code && theirs.out == ours.out && missing.is_empty();
    if same {
        return Ok(ours.code);
    }
    Err(format!("{text}\n{} {}: {missing:#?}\n{}", theirs.code, ours.code, ours.err))
}

/// A line of promtool's log, or what the second of its two decoders says, which is what the first said, about types
/// with other names.
fn is_aside(line: &str) -> bool {
    // Its log has the time.
    line.starts_with("time=")
        || ["rulefmt.ruleGroups", "rulefmt.RuleGroupNode", "rulefmt.RuleNode"]
            .iter()
            .any(|name| line.contains(name))
}
