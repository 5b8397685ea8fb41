//! `tsdbctl rules backtest`: what is said of the data, what ends it, what it says when alerts fire, and how its alerts
//! compare with those of a peer's unit tests (`TSDBCTL_PEER_PROMTOOL_3`).

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::path::{Path, PathBuf};
use std::process::Command;

use runs::{Place, Ran, ok, peer, ran, text_of, tsdbctl};
use serde_json::Value;

/// Multiple of two hours.
const T: i64 = 1_699_999_200;

/// `up` and `m` of two jobs for two hours, with half an hour in which nothing was scraped.
fn data() -> (Place, PathBuf) {
    let place = Place::new();
    let mut text = String::from("# TYPE m gauge\n");
    for (job, value) in [("a", (|k| k / 10 % 2) as fn(i64) -> i64), ("b", |_| 3)] {
        for k in (0..60).chain(90..120) {
            text += &format!("m{{job=\"{job}\"}} {} {}\n", value(k), T + k * 60);
        }
    }
    text += "# TYPE up gauge\n";
    (0..60).chain(90..120).for_each(|k| text += &format!("up{{job=\"a\"}} 1 {}\n", T + k * 60));
    let (input, db) = (place.within("in.om"), place.within("db"));
    std::fs::write(&input, text + "# EOF\n").unwrap();
    ok(&["ingest", "--blocks", "-d", text_of(&db), text_of(&input)]);
    (place, db)
}

fn rules(place: &Place, name: &str, rules: &str) -> PathBuf {
    let path = place.within(name);
    std::fs::write(&path, format!("groups:\n- name: g\n  interval: 1m\n  rules:\n{rules}")).unwrap();
    path
}

fn backtest(rules: &Path, db: &Path, more: &[&str]) -> Ran {
    tsdbctl(&[&["rules", "backtest", text_of(rules), "-d", text_of(db)], more].concat())
}

#[test]
fn what_the_data_cannot_tell_is_said() {
    let (place, db) = data();
    let file = rules(
        &place,
        "rules.yml",
        "  - {alert: None, expr: nowhere > 1}\n  - {alert: None2, expr: 'rate(nowhere[5m]) > 1'}\n  - {alert: Job, expr: 'm{job=\"c\"} > 0'}\n  - {alert: Gone, expr: absent(nowhere2)}\n  - {record: own, expr: m}\n  - {alert: Own, expr: own > 7}\n",
    );
    let (start, end) = (T.to_string(), (T + 7140).to_string());
    let ran = backtest(&file, &db, &["--start", &start, "--end", &end]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.err);
    assert!(
        lines[0].contains("no samples of up from 2023-11-14T23:04:00Z to 2023-11-14T23:30:00Z"),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains("rules.yml:5:5: None and 1 more: there is no metric nowhere"), "{}", lines[1]);
    assert!(lines[2].contains("Job: no series of m matches job=\"c\": job is \"a\", \"b\""), "{}", lines[2]);
    let beyond = backtest(&file, &db, &["--start", "2020-01-01T00:00:00Z", "--end", "2020-01-01T01:00:00Z"]);
    assert!(
        beyond.code == 0
            && beyond.err.contains(
                "nothing of the range is stored: the data covers 2023-11-14T22:00:00Z to 2023-11-14T23:59:00Z"
            ),
        "{}",
        beyond.err
    );
    let early = backtest(&file, &db, &["--start", &(T - 7200).to_string(), "--end", &end]);
    assert!(early.err.contains("the range begins earlier"), "{}", early.err);
    let late = backtest(&file, &db, &["--start", &start, "--end", &(T + 9000).to_string()]);
    assert!(late.err.contains("the range goes on to"), "{}", late.err);
}

#[test]
fn limits_end_it_as_they_end_a_query() {
    let (place, db) = data();
    let file = rules(&place, "rules.yml", "  - {alert: A, expr: m > 0}\n");
    let start = T.to_string();
    let ran = backtest(&file, &db, &["--start", &start, "--memory-budget", "100"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("--memory-budget") && ran.err.contains("rules.yml:5:5"), "{}", ran.err);
    let ran = backtest(&file, &db, &["--start", &start, "--timeout", "1ms"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("timed out"), "{}", ran.err);
    let ran = backtest(&file, &db, &["--start", "-1h"]);
    assert!(ran.code == 2 && ran.err.contains("newest-1h counts from it"), "{}", ran.err);
    for (start, end, wanted) in [
        ("newest", "newest-1h", "is before --start"),
        ("yesterday", "newest", "--start"),
        ("newest-1x", "newest", "newest-1h"),
    ] {
        let ran = backtest(&file, &db, &["--start", start, "--end", end]);
        assert!(ran.code == 2 && ran.err.contains(wanted), "{start} {end}: {} {}", ran.code, ran.err);
    }
}

#[test]
fn alerts_say_what_they_said_when_they_fired() {
    let (place, db) = data();
    let file = rules(
        &place,
        "rules.yml",
        "  - {alert: A, expr: m > 0, for: 2m, annotations: {say: '{{ $labels.job }} is {{ $value }}'}}\n",
    );
    let ran =
        backtest(&file, &db, &["--start", &T.to_string(), "--end", &(T + 3000).to_string(), "-o", "json"]);
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    let span = &all["alerts"][0]["series"][0]["spans"][1];
    assert_eq!((&span["state"], &span["value"]), (&Value::from("firing"), &Value::from("1")), "{span}");
    assert_eq!(span["annotations"], serde_json::json!({ "say": "a is 1" }));
    assert_eq!(all["alerts"][0]["series"][0]["spans"][0].get("value"), None);
}

#[test]
fn no_notifications_before_and_other_names() {
    let (place, db) = data();
    let never = rules(&place, "never.yml", "  - {alert: A, expr: m > 9}\n");
    let some = rules(&place, "some.yml", "  - {alert: A, expr: m > 0}\n");
    let renamed = rules(&place, "renamed.yml", "  - {alert: B, expr: m > 0}\n");
    let run = |new: &PathBuf, old: &PathBuf, most: &str| {
        let start = (T + 300).to_string();
        backtest(new, &db, &["--start", &start, "--against", text_of(old), "--max-noise-increase", most])
    };
    for (new, old, most, code, wanted) in [
        (&some, &never, "1000", 1, "there were none before"),
        (&some, &never, "inf", 0, "noisier"),
        (&never, &some, "0", 0, "quieter"),
        (&never, &never, "0", 0, "no alert changed"),
        (&renamed, &some, "0", 0, "A -> B"),
        (&some, &some, "-50", 1, "+0.0 %"),
    ] {
        let ran = run(new, old, most);
        assert_eq!(ran.code, code, "{wanted}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains(wanted) || ran.err.contains(wanted), "{wanted}: {}{}", ran.out, ran.err);
    }
}

/// Expressions, holds and labels of the rules that are compared with a peer.
const PEER_RULES: &str = r#"
  - {alert: Above, expr: g > 3}
  - {alert: Waits, expr: g > 3, for: 3m, labels: {severity: page}}
  - {alert: Changes, expr: g > 4, for: 1m, labels: {at: "{{ $value }}"}}
  - {alert: Sums, expr: 'sum by (job) (g) > 9', for: 2m}
  - {alert: Gone, expr: 'absent(g{i="1"})', for: 1m}
  - {alert: Differs, expr: 'changes(g[5m]) > 1'}
  - {alert: Joined, expr: 'g > 2 and on (i) h > 1', for: 2m, labels: {i: "x{{ $labels.i }}"}}
  - {record: "g:sum", expr: sum(g)}
  - {alert: Recorded, expr: 'max_over_time(g:sum[5m]) > 20', for: 2m}
  - {alert: OfAlerts, expr: 'count by (alertname) (ALERTS{alertname="Waits", alertstate="firing"}) > 0', for: 1m}
"#;

#[test]
fn alerts_fire_where_a_peers_unit_tests_have_them() {
    // One of version 2 sees samples that are exactly as old as the lookback, so that it is none.
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL_3") else { return };
    let mut state = 7u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for round in 0..6 {
        let place = Place::new();
        let (mut input, mut om) = (String::new(), String::new());
        for (name, count) in [("g", 5), ("h", 3)] {
            om += &format!("# TYPE {name} gauge\n");
            for i in 0..count {
                let series = format!("{name}{{i=\"{i}\",job=\"{}\"}}", if i < 3 { "a" } else { "b" });
                let mut values = Vec::new();
                while values.len() < 240 {
                    let (run, value) = (below(20) + 1, below(8));
                    for _ in 0..run {
                        values.push(if value == 0 { "_".to_string() } else { value.to_string() });
                    }
                }
                values.truncate(240);
                for (k, v) in values.iter().enumerate().filter(|(_, v)| *v != "_") {
                    om += &format!("{series} {v} {}\n", k * 60);
                }
                input += &format!("  - {{series: '{series}', values: '{}'}}\n", values.join(" "));
            }
        }
        let (om_file, db) = (place.within("in.om"), place.within("db"));
        std::fs::write(&om_file, om + "# EOF\n").unwrap();
        ok(&["ingest", "--blocks", "-d", text_of(&db), text_of(&om_file)]);
        let file = rules(&place, "rules.yml", PEER_RULES.trim_start_matches('\n'));
        let out = ok(&[
            "rules",
            "backtest",
            text_of(&file),
            "-d",
            text_of(&db),
            "--start",
            "0",
            "--end",
            "14340",
            "-o",
            "json",
        ]);
        let all: Value = serde_json::from_str(&out).unwrap();
        let mut test = format!(
            "rule_files: [{}]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n{input}  alert_rule_test:\n",
            text_of(&file)
        );
        let mut expected = 0;
        for alert in all["alerts"].as_array().unwrap() {
            // What was before the beginning of all data is another thing there.
            for minute in (60..238).step_by(3) {
                let stamp = tsdbctl_model::duration::format_rfc3339_ms(minute * 60_000);
                test += &format!(
                    "  - {{eval_time: {minute}m, alertname: {}, exp_alerts: [",
                    alert["alert"].as_str().unwrap()
                );
                for series in alert["series"].as_array().unwrap() {
                    let fires = series["spans"].as_array().unwrap().iter().any(|s| {
                        let (from, to) = (s["start"].as_str().unwrap(), s["end"].as_str().unwrap());
                        let open = s["ended"] == "open" && stamp.as_str() == to;
                        s["state"] == "firing" && from <= stamp.as_str() && (stamp.as_str() < to || open)
                    });
                    if fires {
                        let mut labels = series["labels"].clone();
                        labels.as_object_mut().unwrap().remove("alertname");
                        test += &format!("{{exp_labels: {labels}}}, ");
                        expected += 1;
                    }
                }
                test += "]}\n";
            }
        }
        assert!(expected > 300, "round {round}: {expected}");
        let test_file = place.within("test.yml");
        std::fs::write(&test_file, &test).unwrap();
        let ran = ran(Command::new(&promtool).args(["test", "rules", text_of(&test_file)]));
        let said: String = (ran.out + &ran.err).chars().take(3000).collect();
        assert_eq!(ran.code, 0, "round {round}: {said}");
    }
}
