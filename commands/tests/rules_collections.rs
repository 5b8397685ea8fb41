//! Public collections of rules, read where they are: every file beside promtool, every template beside upstream's
//! expander.
//!
//! `TSDBCTL_RULE_COLLECTIONS` names a folder with checkouts below it, `TSDBCTL_PEER_PROMTOOL_3` a promtool, and
//! `TSDBCTL_PEER_TEMPLATE` a program that renders: it reads lines of JSON (`template`, `alert`, `value`, `labels`, and
//! `samples` that every query gives) and answers each with one (`load`: the error at load, `out`: the text, `err`: the
//! error at run).

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tsdbctl_model::Labels;
use tsdbctl_rules::file::{ReadOptions, RuleFile, RuleKind, read};
use tsdbctl_template::{Environment, RuleData, RuleTemplate, TemplateSample, Value as TemplateValue};
use tsdbctl_testkit::scratch_in_memory;
use tsdbctl_yaml::Source;

mod runs;

use runs::{Ran, command, peer, ran, text_of, tsdbctl};

/// What a file is, told by its lines alone: the project's own reading of YAML is what is examined here.
enum Kind {
    /// `groups` at the top.
    Rules,
    /// PrometheusRule objects, or several documents with `groups` at the top: for each the file with all other lines
    /// empty (of an object its `spec` is kept), which is a rule file whose places are right.
    Several(Vec<String>),
    /// `tests` at the top, with what else unit tests have there.
    Tests,
}

struct Found {
    path: PathBuf,
    text: String,
    kind: Kind,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

fn kind_of(text: &str) -> Option<Kind> {
    let lines: Vec<&str> = text.lines().collect();
    let mut objects = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let key = line.trim_start_matches([' ', '-']).trim_end();
        if !matches!(key, "kind: PrometheusRule" | "kind: \"PrometheusRule\"" | "kind: 'PrometheusRule'") {
            continue;
        }
        // The object ends where its document does, or where another begins.
        let depth = indent(line);
        let ends = |l: &&str| l.starts_with("---") || (indent(l) == depth && l.contains("kind: "));
        let is_spec = |l: &str| indent(l) == depth && l.trim() == "spec:";
        let after =
            lines[at + 1..].iter().take_while(|l| !ends(l)).position(|l| is_spec(l)).map(|n| at + 1 + n);
        let spec = after.or_else(|| {
            let before = lines[..at].iter().rev().take_while(|l| !ends(l)).position(|l| is_spec(l));
            before.map(|n| at - 1 - n)
        })?;
        let inside = |l: &&&str| {
            l.trim().is_empty() || l.trim_start().starts_with('#') || {
                l.len() - l.trim_start().len() > depth || (depth == 0 && l.starts_with("- "))
            }
        };
        let length = lines[spec + 1..].iter().take_while(inside).count();
        let kept = |(n, line): (usize, &&str)| {
            if n > spec && n <= spec + length { format!("{line}\n") } else { "\n".into() }
        };
        objects.push(lines.iter().enumerate().map(kept).collect());
    }
    if !objects.is_empty() {
        return Some(Kind::Several(objects));
    }
    let documents = documents(&lines);
    if documents.len() > 1 {
        return Some(Kind::Several(documents));
    }
    let has = |key: &str| lines.iter().any(|l| l.starts_with(key));
    match (has("groups:"), has("tests:") && (has("rule_files:") || has("evaluation_interval:"))) {
        (_, true) => Some(Kind::Tests),
        (true, _) => Some(Kind::Rules),
        _ => None,
    }
}

/// Every document that has `groups`, where there are several documents.
fn documents(lines: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let number = |at: usize| lines[..=at].iter().filter(|l| l.starts_with("---")).count();
    for (at, _) in lines.iter().enumerate().filter(|(_, l)| l.starts_with("groups:")) {
        let kept = |(n, line): (usize, &&str)| {
            if number(n) == number(at) && !line.starts_with("---") {
                format!("{line}\n")
            } else {
                "\n".into()
            }
        };
        out.push(lines.iter().enumerate().map(kept).collect());
    }
    out
}

fn walk(dir: &Path, found: &mut Vec<Found>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if let Some(kind) = kind_of(&text) {
                found.push(Found { path, text, kind });
            }
        }
    }
}

/// The files of the collections, each with the name of its collection.
fn collections() -> Option<Vec<(String, Vec<Found>)>> {
    let root = peer("TSDBCTL_RULE_COLLECTIONS")?;
    let mut dirs: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    let files = |dir: PathBuf| {
        let mut found = Vec::new();
        walk(&dir, &mut found);
        (dir.file_name().unwrap().to_string_lossy().into_owned(), found)
    };
    let all: Vec<_> =
        dirs.into_iter().filter(|d| d.is_dir()).map(files).filter(|(_, f)| !f.is_empty()).collect();
    assert!(!all.is_empty(), "{root} holds no collection of rules");
    Some(all)
}

#[allow(clippy::print_stderr, reason = "how much was compared is the point of these tests")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Promtool's verdict on a file's rules, and ours; whether they are valid.
fn check_rules(promtool: &str, file: &Found, dir: &Path, different: &mut Vec<String>) -> bool {
    let mut theirs: Vec<Ran> = Vec::new();
    let ours = match &file.kind {
        Kind::Rules => {
            theirs.push(ran(Command::new(promtool).args(["check", "rules"]).arg(&file.path)));
            tsdbctl(&["rules", "check", text_of(&file.path)])
        }
        Kind::Several(objects) => {
            for (n, text) in objects.iter().enumerate() {
                let path = dir.join(format!("object-{n}.yml"));
                fs::write(&path, text).unwrap();
                let mut verdict = ran(Command::new(promtool).args(["check", "rules"]).arg(&path));
                verdict.err = verdict.err.replace(text_of(&path), text_of(&file.path));
                theirs.push(verdict);
            }
            tsdbctl(&["rules", "check", "--all-documents", text_of(&file.path)])
        }
        Kind::Tests => unreachable!("no rule file"),
    };
    let code = theirs.iter().map(|t| t.code).max().unwrap();
    let name = file.path.display();
    if ours.code != code {
        let texts: String = theirs.iter().map(|t| t.err.as_str()).collect();
        different.push(format!("{name}: ours exits with {}, not {code}\n{}{texts}", ours.code, ours.err));
        return code == 0;
    }
    let rules = |text: &str| -> u64 {
        let count = |line: &str| {
            line.trim().strip_prefix("SUCCESS: ")?.strip_suffix(" rules found")?.parse::<u64>().ok()
        };
        text.lines().filter_map(count).sum::<u64>()
    };
    let expected: u64 = theirs.iter().map(|t| rules(&t.out)).sum();
    // What stands in two objects is reported instead of their number.
    if rules(&ours.out) != expected && !ours.err.contains("lint error") {
        different.push(format!("{name}: ours finds {} rules, not {expected}", rules(&ours.out)));
    }
    // What it says is said here too.
    // It reads a file twice, and says some things twice.
    let logged = |l: &&str| l.starts_with("time=") || l.ends_with(" into []rulefmt.RuleGroupNode");
    for line in theirs.iter().flat_map(|t| t.err.lines()).filter(|l| !logged(l)) {
        if !ours.err.lines().any(|l| l == line) {
            different.push(format!("{name}: ours does not say\n  {line}\nbut\n{}", ours.err));
        }
    }
    code == 0
}

#[test]
fn rule_files_have_promtools_verdict() {
    let (Some(all), Some(promtool)) = (collections(), peer("TSDBCTL_PEER_PROMTOOL_3")) else { return };
    let dir = scratch_in_memory();
    let mut different = Vec::new();
    for (name, files) in &all {
        let (mut plain, mut objects, mut valid) = (0, 0, 0);
        for file in files {
            match &file.kind {
                Kind::Rules => plain += 1,
                Kind::Several(list) => objects += list.len(),
                Kind::Tests => continue,
            }
            valid += usize::from(check_rules(&promtool, file, dir.path(), &mut different));
        }
        say(&format!(
            "{name}: {plain} rule files and {objects} PrometheusRule objects; {valid} files are valid"
        ));
        assert!(plain + objects > 0 && valid > 0, "{name} holds no rules");
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// The patterns of `rule_files`.
fn rule_files(text: &str) -> Vec<String> {
    let mut lines = text.lines().skip_while(|l| !l.starts_with("rule_files:"));
    lines.next();
    lines
        .take_while(|l| l.trim().is_empty() || l.trim_start().starts_with(['-', '#']))
        .filter_map(|l| l.trim_start().strip_prefix('-'))
        .map(|l| l.trim().trim_matches(['"', '\'']).to_string())
        .collect()
}

/// Puts a unit test and the rule files that it names in a directory: those beside it, else rules of the collection that
/// have the name. The path of the test, and whether all of its rule files were found.
fn lay_out(test: &Found, text: &str, files: &[Found], dir: &Path) -> (PathBuf, bool) {
    let deep = dir.join("a/b/c/d/e/f");
    let place = deep.join(test.path.file_name().unwrap());
    fs::create_dir_all(&deep).unwrap();
    fs::write(&place, text).unwrap();
    let mut complete = true;
    for name in rule_files(text) {
        let mut target = deep.clone();
        for part in Path::new(&name).components() {
            match part {
                Component::ParentDir => drop(target.pop()),
                part => target.push(part),
            }
        }
        assert!(target.starts_with(dir), "{name} leads out of {}", dir.display());
        let named = |f: &&Found| !matches!(f.kind, Kind::Tests) && f.path.file_name() == target.file_name();
        let beside = test.path.parent().unwrap().join(&name);
        let same = |f: &&Found| {
            fs::canonicalize(&beside).is_ok_and(|b| fs::canonicalize(&f.path).is_ok_and(|p| p == b))
        };
        let found = files.iter().find(|f| named(f) && same(f)).or_else(|| files.iter().find(named));
        let text = match found.map(|f| (&f.kind, &f.text)) {
            Some((Kind::Rules, text)) => text,
            Some((Kind::Several(objects), _)) if objects.len() == 1 => &objects[0],
            _ => {
                complete = false;
                continue;
            }
        };
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, text).unwrap();
    }
    (place, complete)
}

/// Upstream's text of all that failed in a report.
fn failures(report: &Value) -> String {
    let mut out = Vec::new();
    let texts = |list: &Value, key: Option<&str>| -> Vec<String> {
        let text = |v: &Value| key.map_or(v, |k| &v[k]).as_str().unwrap().to_string();
        list.as_array().unwrap().iter().map(text).collect()
    };
    for file in report["files"].as_array().unwrap() {
        out.extend(texts(&file["errors"], None));
        for test in file["tests"].as_array().unwrap() {
            out.extend(texts(&test["failures"], Some("text")));
        }
    }
    if out.is_empty() { String::new() } else { format!("  FAILED:\n{}", out.join("\n")) }
}

/// What a unit test gives there and here, if that differs; and whether it passes.
fn run_test(promtool: &str, place: &Path) -> (bool, Option<String>) {
    let (dir, name) = (place.parent().unwrap(), text_of(Path::new(place.file_name().unwrap())));
    let theirs =
        ran(Command::new(promtool).args(["test", "rules", name]).current_dir(dir).env("NO_COLOR", "1"));
    let ours = ran(command(&["rules", "test", "-o", "json", name]).current_dir(dir));
    let text =
        failures(&serde_json::from_str(&ours.out).unwrap_or_else(|e| panic!("{name}: {e}: {}", ours.err)));
    let warning = |l: &&str| !l.contains("WARNING: no file match pattern");
    let expected = theirs.err.lines().filter(warning).collect::<Vec<_>>().join("\n");
    let same = ours.code == theirs.code && text.trim_end() == expected.trim_end();
    let differs = || {
        format!(
            "ours exits with {}, theirs with {}\n--- ours\n{text}\n--- theirs\n{expected}",
            ours.code, theirs.code
        )
    };
    (theirs.code == 0, (!same).then(differs))
}

/// The same tests, with what they expect changed, so that nearly all fail.
fn spoiled(text: &str) -> Vec<String> {
    let mut slower = text.replace("interval: 1m", "interval: 7m");
    slower = slower.replace("severity: ", "severity: un");
    vec![
        slower,
        text.replace("x10", "x3").replace(" value: ", " value: 1").replace("eval_time: 1", "eval_time: 2"),
    ]
}

#[test]
fn unit_tests_have_promtools_verdict() {
    let (Some(all), Some(promtool)) = (collections(), peer("TSDBCTL_PEER_PROMTOOL_3")) else { return };
    let mut different = Vec::new();
    let mut total = 0;
    for (name, files) in &all {
        let (mut tests, mut complete, mut passed, mut variants, mut failed) = (0, 0, 0, 0, 0);
        for file in files.iter().filter(|f| matches!(f.kind, Kind::Tests)) {
            tests += 1;
            let dir = scratch_in_memory();
            let (place, is_complete) = lay_out(file, &file.text, files, dir.path());
            complete += usize::from(is_complete);
            let (passes, differs) = run_test(&promtool, &place);
            passed += usize::from(passes);
            different.extend(differs.map(|d| format!("{}: {d}", file.path.display())));
            // One kind of change for each, as each run takes its time.
            for text in spoiled(&file.text).into_iter().skip(tests % 2).step_by(2) {
                variants += 1;
                fs::write(&place, &text).unwrap();
                let (passes, differs) = run_test(&promtool, &place);
                failed += usize::from(!passes);
                different
                    .extend(differs.map(|d| format!("{}, changed to\n{text}\n{d}", file.path.display())));
            }
        }
        total += complete;
        if tests > 0 {
            say(&format!(
                "{name}: {tests} test files, {complete} with all their rule files, {passed} pass; of {variants} \
                 with other expectations {failed} fail"
            ));
        }
    }
    assert!(total > 0, "no test found its rule files");
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different[..different.len().min(10)].join("\n")
    );
}

/// What queries of templates give.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Error,
    Nothing,
    Two,
}

impl Environment for Answer {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        let sample = |(labels, value): &(BTreeMap<String, String>, f64)| TemplateSample {
            labels: Arc::new(labels.clone()),
            value: TemplateValue::Float(*value),
        };
        match self {
            Answer::Error => Err(format!("unknown query: {expr}")),
            Answer::Nothing => Ok(Vec::new()),
            Answer::Two => Ok(two().iter().map(sample).collect()),
        }
    }

    fn now_ms(&self) -> i64 {
        300_000
    }

    fn external_url(&self) -> &str {
        "http://prom.example.com/pre"
    }
}

fn two() -> [(BTreeMap<String, String>, f64); 2] {
    let labels = |n: &str| {
        let pair = |name: &str| (name.to_string(), format!("{name}-{n}"));
        ["ceph_daemon", "cluster", "hostname", "instance", "job"].map(pair).into_iter().collect()
    };
    [(labels("1"), 1.25), (labels("2"), 1e7)]
}

impl Answer {
    fn json(self) -> Value {
        let sample = |(labels, value): &(BTreeMap<String, String>, f64)| json!({"labels": labels, "value": value.to_string()});
        match self {
            Answer::Error => Value::Null,
            Answer::Nothing => json!([]),
            Answer::Two => two().iter().map(sample).collect(),
        }
    }
}

/// A template with all that it is rendered with.
struct Rendering {
    alert: String,
    template: String,
    labels: BTreeMap<String, String>,
    value: &'static str,
    answer: Answer,
}

impl Rendering {
    fn ours(&self) -> Result<String, String> {
        let labels = Labels::from_pairs(self.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let external_labels = Labels::from_pairs([("region", "eu")]);
        let data = RuleData {
            labels: &labels,
            external_labels: &external_labels,
            external_url: "http://prom.example.com/pre",
            value: TemplateValue::Float(self.value.parse().unwrap()),
        };
        let mut answer = self.answer;
        let template = RuleTemplate::parse(&self.alert, &self.template).map_err(|e| e.message)?;
        template.expand(&data, &mut answer).map_err(|e| e.message)
    }
}

const VALUES: [&str; 8] = ["1", "0.123456789", "1e9", "NaN", "Inf", "-Inf", "-2.5", "86461.75"];

/// The templates of a file with values, labels and answers to render them with.
fn renderings(file: &RuleFile, templates: &mut BTreeSet<(String, String)>, out: &mut Vec<Rendering>) {
    for (group, rule) in file.groups.iter().flat_map(|g| g.rules.iter().map(move |r| (g, r))) {
        if rule.kind != RuleKind::Alert {
            continue;
        }
        let words = rule.expr.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_name = |w: &&str| w.starts_with(|c: char| c.is_ascii_alphabetic());
        let mentioned: BTreeMap<String, String> =
            words.filter(is_name).map(|w| (w.to_string(), format!("a {w} & <b>"))).collect();
        let annotations = rule.annotations.iter().map(|(_, text)| text.value.clone());
        let texts = group.merged_labels(rule).into_iter().map(|(_, text)| text).chain(annotations);
        for template in texts.filter(|t| t.contains("{{")) {
            let alert = rule.name.value.clone();
            if !templates.insert((alert.clone(), template.clone())) {
                continue;
            }
            let asks = template.contains("query");
            for value in VALUES {
                for labels in [&mentioned, &BTreeMap::new()] {
                    for answer in [Answer::Two, Answer::Nothing, Answer::Error] {
                        if !asks && answer != Answer::Two {
                            continue;
                        }
                        let (alert, template, labels) = (alert.clone(), template.clone(), labels.clone());
                        out.push(Rendering { alert, template, labels, value, answer });
                    }
                }
            }
        }
    }
}

/// What upstream gives: the text, or the error at load or at run.
fn ask(peer: &str, renderings: &[Rendering]) -> Vec<Result<String, String>> {
    let mut child = Command::new(peer).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let line = |r: &Rendering| {
        let samples = r.answer.json();
        let line = json!({"template": r.template, "alert": r.alert, "value": r.value, "labels": r.labels, "samples": samples});
        format!("{line}\n")
    };
    let input: String = renderings.iter().map(line).collect();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let result = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| answer[key].as_str().map(str::to_string);
        match text("load").or_else(|| text("err")) {
            Some(error) => Err(error),
            None => Ok(text("out").unwrap_or_default()),
        }
    };
    String::from_utf8(output.stdout).unwrap().lines().map(result).collect()
}

#[test]
fn templates_give_upstreams_text() {
    let (Some(all), Some(peer)) = (collections(), peer("TSDBCTL_PEER_TEMPLATE")) else { return };
    let mut different: HashMap<String, String> = HashMap::new();
    for (name, files) in &all {
        let (mut templates, mut list, mut refused) = (BTreeSet::new(), Vec::new(), 0);
        for file in files.iter().filter(|f| !matches!(f.kind, Kind::Tests)) {
            let source = Arc::new(Source::new(text_of(&file.path), file.text.as_str()));
            let options = ReadOptions { all_documents: true, ..ReadOptions::default() };
            match read(source, &options) {
                Ok(file) => renderings(&file, &mut templates, &mut list),
                Err(_) => refused += 1,
            }
        }
        let theirs = ask(&peer, &list);
        assert_eq!(theirs.len(), list.len());
        let mut errors = 0;
        for (rendering, theirs) in list.iter().zip(theirs) {
            let ours = rendering.ours();
            errors += usize::from(theirs.is_err());
            if ours != theirs {
                let text = format!(
                    "{}\n  value {}, labels {:?}\n  ours   {ours:?}\n  theirs {theirs:?}",
                    rendering.template, rendering.value, rendering.labels
                );
                different.entry(rendering.template.clone()).or_insert(text);
            }
        }
        say(&format!(
            "{name}: {} templates, rendered {} times, {errors} of them to an error; {refused} files are refused",
            templates.len(),
            list.len()
        ));
    }
    let texts: Vec<String> = different.into_values().take(20).collect();
    assert!(texts.is_empty(), "{} and perhaps more templates differ:\n{}", texts.len(), texts.join("\n"));
}
