//! What real servers answered over real data directories, and what is answered here.

#![allow(clippy::print_stdout, reason = "how much is equal is worth saying")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use tsdbctl::inspect::answer::{self, Asked};
use tsdbctl::promql::{fmt, parse};
use tsdbctl_promql::api_json::{StatsLevel, query_error_body, write_result};
use tsdbctl_promql::engine::{Features, QueryOptions, QueryTime, run};
use tsdbctl_storage::Control;
use tsdbctl_testkit::{read_text, unpack_directory};
use tsdbctl_tsdb::{Database, OpenOptions};

/// Answers of 2.42 that 3.x gives otherwise on purpose: part of the query, and the changelog's words.
const KNOWN_2_42: [(&str, &str); 2] = [
    (
        "avg_over_time(rate(node_cpu_seconds_total{mode=\"user\"}[30s])[2m:10s])",
        "3.0.1: Promql: Make subqueries left open. #15431",
    ),
    (
        "by (code) / ignoring (code) group_left sum(rate(prometheus_http_requests_total[1m]))",
        "2.51.0: PromQL: Constrain extrapolation in rate() to half of sample interval #13725",
    ),
];

struct Case {
    number: usize,
    path: String,
    params: Value,
    code: u64,
    body: Value,
}

impl Case {
    fn param(&self, name: &str) -> Option<String> {
        match &self.params[name] {
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match &self.params[name] {
            Value::Array(items) => items.iter().filter_map(|v| v.as_str().map(str::to_string)).collect(),
            Value::String(s) => vec![s.clone()],
            _ => Vec::new(),
        }
    }

    fn ms(&self, name: &str) -> Option<i64> {
        self.param(name).map(|text| (text.parse::<f64>().unwrap() * 1000.0).round() as i64)
    }
}

fn cases(file: &str) -> Option<Vec<Case>> {
    let text = read_text(file)?;
    let parse = |(i, line): (usize, &str)| {
        let v: Value = serde_json::from_str(line).unwrap();
        Case {
            number: i + 1,
            path: v["path"].as_str().unwrap().to_string(),
            params: v["params"].clone(),
            code: v["code"].as_u64().unwrap(),
            body: v["body"].clone(),
        }
    };
    Some(text.lines().enumerate().map(parse).collect())
}

/// What is answered here, as the API's body.
fn answer(case: &Case, database: &Database, features: Features) -> Vec<u8> {
    let control = Control::default();
    let query = case.param("query").unwrap_or_default();
    let matches = case.list("match[]");
    let all = tsdbctl::data::ALL_TIMES;
    let times = (case.ms("start").unwrap_or(all.0), case.ms("end").unwrap_or(all.1));
    let limit = case.param("limit").map_or(0, |l| l.parse().unwrap());
    let asked = Asked { data: database, matches: &matches, times, limit, control: &control };
    let strings = |found: Result<answer::Answer<String>, answer::AnswerError>| match found {
        Ok(a) => a.body(|out, s| tsdbctl_promql::api_json::write_string(out, s, true)),
        Err(e) => e.body(),
    };
    match case.path.as_str() {
        "/api/v1/query" | "/api/v1/query_range" => {
            let time = if case.path.ends_with("range") {
                QueryTime::Range { start: times.0, end: times.1, step: case.ms("step").unwrap() }
            } else {
                QueryTime::Instant(case.ms("time").unwrap())
            };
            let options = QueryOptions { features, ..QueryOptions::default() };
            match run(database, &query, time, &options, &control) {
                Ok(result) => {
                    let mut out = Vec::new();
                    write_result(&mut out, &result, &query, StatsLevel::None).unwrap();
                    out
                }
                Err(e) => query_error_body(&e),
            }
        }
        "/api/v1/series" => match answer::series(asked) {
            Ok(a) => a.body(answer::write_labels),
            Err(e) => e.body(),
        },
        "/api/v1/labels" => strings(answer::label_names(asked)),
        "/api/v1/query_exemplars" => match answer::exemplars(asked, Some(&query), &features) {
            Ok(a) => a.body(answer::write_exemplars),
            Err(e) => e.body(),
        },
        "/api/v1/format_query" => {
            fmt::body(&query, &features).unwrap_or_else(|e| fmt::parse_error_body(&query, &e))
        }
        "/api/v1/parse_query" => {
            parse::body(&query, &features).unwrap_or_else(|e| fmt::parse_error_body(&query, &e))
        }
        path => match path.strip_prefix("/api/v1/label/").and_then(|p| p.strip_suffix("/values")) {
            Some(name) => strings(answer::label_values(asked, name)),
            None => panic!("no such path: {path}"),
        },
    }
}

/// Why two JSON values differ; strings that are floats are compared with a tolerance.
fn difference(want: &Value, got: &Value, at: &str) -> Option<String> {
    let differ = || Some(format!("{at}: want {}, got {}", brief(want), brief(got)));
    match (want, got) {
        (Value::Object(w), Value::Object(g)) => {
            if w.len() != g.len() || w.keys().any(|k| !g.contains_key(k)) {
                return differ();
            }
            w.iter().find_map(|(k, v)| difference(v, &g[k], &format!("{at}.{k}")))
        }
        (Value::Array(w), Value::Array(g)) => {
            if w.len() != g.len() {
                return Some(format!(
                    "{at}: want {} items, got {}: {} / {}",
                    w.len(),
                    g.len(),
                    brief(want),
                    brief(got)
                ));
            }
            w.iter().zip(g).enumerate().find_map(|(i, (w, g))| difference(w, g, &format!("{at}[{i}]")))
        }
        (Value::String(w), Value::String(g)) if w != g => match (w.parse::<f64>(), g.parse::<f64>()) {
            (Ok(a), Ok(b)) if (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) => None,
            _ => differ(),
        },
        (w, g) if w == g => None,
        (Value::Number(w), Value::Number(g)) if w.as_f64() == g.as_f64() => None,
        _ => differ(),
    }
}

fn brief(v: &Value) -> String {
    let mut text = v.to_string();
    if text.len() > 600 {
        text = text.chars().take(600).collect::<String>() + "…";
    }
    text
}

/// Series in an order of their own, so that any order is the same; an expression that sorts keeps its order.
fn canonical(mut body: Value, query: &str) -> Value {
    let sorts = ["sort", "topk", "bottomk"].iter().any(|f| query.contains(f));
    let key = |v: &Value| {
        let labels = v.get("metric").or_else(|| v.get("seriesLabels")).unwrap_or(v);
        let map: BTreeMap<String, String> =
            labels.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.to_string())).collect();
        format!("{map:?}")
    };
    let matrix = body.pointer("/data/resultType").is_some_and(|t| t == "matrix");
    if (!sorts || matrix)
        && let Some(Value::Array(items)) = body.pointer_mut("/data/result")
        && items.iter().all(Value::is_object)
    {
        items.sort_by_key(key);
    }
    if let Some(Value::Array(items)) = body.pointer_mut("/data")
        && items.iter().all(Value::is_object)
    {
        items.sort_by_key(key);
    }
    body
}

/// `line:column` at the start of an error's text, behind the parameter's name.
fn position(message: &str) -> Option<String> {
    let text = message.split_once("\": ").map_or(message, |(_, rest)| rest);
    let end = text.find(": ")?;
    let (line, column) = text[..end].split_once(':')?;
    (line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok()).then(|| text[..end].to_string())
}

fn compare(case: &Case, got: &[u8], exact_errors: bool) -> Option<String> {
    let got: Value = match serde_json::from_slice(got) {
        Ok(v) => v,
        Err(e) => return Some(format!("no JSON: {e}")),
    };
    if case.code != 200 {
        for field in ["status", "errorType"] {
            if got[field] != case.body[field] {
                return Some(format!("{field}: want {}, got {}", brief(&case.body), brief(&got)));
            }
        }
        let text = |v: &Value| v["error"].as_str().unwrap_or("").to_string();
        if exact_errors && position(&text(&got)) != position(&text(&case.body)) {
            return Some(format!("position: want {}, got {}", text(&case.body), text(&got)));
        }
        return None;
    }
    let query = case.param("query").unwrap_or_default();
    difference(&canonical(case.body.clone(), &query), &canonical(got, &query), "")
}

/// Compares all answers and returns what differs.
fn check(directory: &str, golden: &str, features: Features, exact_errors: bool, known: &[(&str, &str)]) {
    let Some(cases) = cases(golden) else { return };
    let Some((_scratch, dir)) = unpack_directory(&format!("data/{directory}.tar.zst")) else { return };
    let database = Database::open(&[dir], OpenOptions::default()).unwrap();
    let mut failures = Vec::new();
    let mut excused = 0;
    for case in &cases {
        let got = answer(case, &database, features);
        if let Some(why) = compare(case, &got, exact_errors) {
            let query = case.param("query").unwrap_or_default();
            if known.iter().any(|(part, _)| query.contains(part)) {
                excused += 1;
                continue;
            }
            failures.push(format!("{golden}:{}: {} {}\n    {why}", case.number, case.path, case.params));
        }
    }
    println!(
        "{golden}: {} of {} equal, {excused} differ on purpose",
        cases.len() - failures.len() - excused,
        cases.len()
    );
    assert_eq!(excused, known.len(), "a difference that is listed as known is none: {known:?}");
    assert!(failures.is_empty(), "{} of {} differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn features(names: &[&str]) -> Features {
    let mut features = Features::default();
    let experimental =
        ["promql-experimental-functions", "promql-extended-range-selectors", "promql-binop-fill-modifiers"];
    for name in experimental.iter().chain(names) {
        features.enable(name).unwrap();
    }
    features
}

#[test]
fn answers_of_3_14() {
    check("prometheus-3.14-crashed", "data/golden-3.14.jsonl", features(&[]), true, &[]);
}

#[test]
fn answers_of_3_14_over_the_new_encodings() {
    check("prometheus-3.14-xor2-crashed", "data/golden-3.14-xor2.jsonl", features(&[]), true, &[]);
}

#[test]
fn answers_of_3_14_with_start_timestamps() {
    let features =
        features(&["use-start-timestamps", "promql-delayed-name-removal", "promql-per-step-stats"]);
    check("prometheus-3.14-xor2-crashed", "data/golden-3.14-start-timestamps.jsonl", features, true, &[]);
}

#[test]
fn answers_of_3_14_over_a_snapshot() {
    check("prometheus-3.14-xor2-snapshot", "data/golden-3.14-xor2.jsonl", features(&[]), true, &[]);
}

#[test]
fn answers_of_2_42() {
    check("prometheus-2.42-crashed", "data/golden-queries.jsonl", Features::default(), false, &KNOWN_2_42);
}

fn check_dump(directory: &str, golden: &str) {
    let Some(want) = read_text(&format!("data/{golden}.dump.zst")) else { return };
    let Some((_scratch, dir)) = unpack_directory(&format!("data/{directory}.tar.zst")) else { return };
    let got = exported(&[dir]);
    let mut lines: Vec<&[u8]> = got.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    lines.sort_unstable();
    let want: Vec<&[u8]> = want.as_bytes().split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    if let Some(i) = (0..want.len().max(lines.len())).find(|i| want.get(*i) != lines.get(*i)) {
        let text = |l: Option<&&[u8]>| l.map_or("(end)".into(), |l| String::from_utf8_lossy(l).into_owned());
        panic!(
            "{directory}: {} lines, {} expected; the first that differs, {i}:\n want {}\n got  {}",
            lines.len(),
            want.len(),
            text(want.get(i)),
            text(lines.get(i))
        );
    }
}

fn exported(dirs: &[PathBuf]) -> Vec<u8> {
    let database = Database::open(dirs, OpenOptions::default()).unwrap();
    let mut out = Vec::new();
    let mut progress = tsdbctl::ui::Progress::hidden();
    let all = tsdbctl::data::ALL_TIMES;
    tsdbctl::export::export(&database, &[], all, &Control::default(), &mut out, &mut progress).unwrap();
    out
}

#[test]
fn dump_of_2_42() {
    check_dump("prometheus-2.42-crashed", "prometheus-2.42-crashed");
}

#[test]
fn dump_of_3_14() {
    check_dump("prometheus-3.14-crashed", "prometheus-3.14-crashed");
}

#[test]
fn dump_of_3_14_in_the_new_encodings() {
    check_dump("prometheus-3.14-xor2-crashed", "prometheus-3.14-xor2-crashed");
}

#[test]
fn dump_of_3_14_with_a_snapshot() {
    check_dump("prometheus-3.14-xor2-snapshot", "prometheus-3.14-xor2-crashed");
}

#[test]
fn positions_are_found_in_messages() {
    assert_eq!(position("invalid parameter \"query\": 1:22: parse error: x").as_deref(), Some("1:22"));
    assert_eq!(position("1:2: parse error: x").as_deref(), Some("1:2"));
    assert_eq!(position("found duplicate series: y"), None);
}
