//! Queries over Thanos' downsampled blocks against the raw blocks they were made of: every function, every piece of time
//! once, and what is said where nothing finer is left.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runs::{command, copy, ran, text_of};
use tsdbctl_promql::engine::{MaxResolution, Points, QueryOptions, QueryTime, Value, run};
use tsdbctl_storage::Control;
use tsdbctl_testkit::unpack;
use tsdbctl_tsdb::{Database, OpenOptions};

/// Start of the data, at a full hour; raw samples come every 30 s (histograms: every minute).
const START: i64 = 1_749_603_600_000;
const M: i64 = 60_000;
const H: i64 = 60 * M;
const DAY: i64 = 24 * H;

/// Blocks by resolution, each in a directory of its own.
struct Golden {
    _dir: tempfile::TempDir,
    raw: PathBuf,
    five: PathBuf,
    hour: PathBuf,
    all: PathBuf,
}

fn meta(block: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(block.join("meta.json")).unwrap()).unwrap()
}

fn blocks(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("meta.json").exists())
        .collect();
    all.sort();
    all
}

fn golden() -> Option<Golden> {
    let dir = unpack("data/thanos-downsampled.tar.zst")?;
    let mut all = dir.path().to_owned();
    if blocks(&all).is_empty() {
        all = std::fs::read_dir(&all).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_dir()).unwrap();
    }
    let of = |name: &str, resolution: i64| {
        let to = dir.path().join(name);
        for block in blocks(&all) {
            if meta(&block)["thanos"]["downsample"]["resolution"] == resolution {
                copy(&block, &to.join(block.file_name().unwrap()));
            }
        }
        to
    };
    let (raw, five, hour) = (of("raw", 0), of("five", 5 * M), of("hour", H));
    Some(Golden { raw, five, hour, all, _dir: dir })
}

type Series = BTreeMap<String, BTreeMap<i64, f64>>;

fn answer(dir: &Path, expr: &str, time: QueryTime, limit: MaxResolution) -> (Series, Vec<String>) {
    answer_of(&[dir.to_owned()], expr, time, limit)
}

fn answer_of(dirs: &[PathBuf], expr: &str, time: QueryTime, limit: MaxResolution) -> (Series, Vec<String>) {
    let database = Database::open(dirs, OpenOptions::default()).unwrap();
    let options = QueryOptions {
        max_source_resolution: limit,
        features: tsdbctl_promql::engine::Features { experimental_functions: true, ..Default::default() },
        ..QueryOptions::default()
    };
    let result = run(&database, expr, time, &options, &Control::default())
        .unwrap_or_else(|e| panic!("{expr} over {dirs:?}: {e}"));
    let (warnings, infos) = result.annotations.render(expr, 0);
    assert!(warnings.is_empty(), "{expr}: {warnings:?}");
    let mut out = Series::new();
    match &result.value {
        Value::Matrix { grid, series } => {
            for s in series {
                let Points::Grid(column) = &s.points else { panic!("{expr}") };
                let of = out.entry(result.symbols.labels(&s.labels).to_string()).or_default();
                of.extend(column.float_steps().map(|k| (grid.time(k), column.values[k])));
            }
        }
        Value::Vector(elements) => {
            for e in elements {
                let tsdbctl_promql::engine::Sample::Float(v) = e.sample else { panic!("{expr}") };
                out.entry(result.symbols.labels(&e.labels).to_string()).or_default().insert(e.t, v);
            }
        }
        other => panic!("{expr}: {other:?}"),
    }
    (out, infos)
}

/// Every `step` from `from` days on, `days` long, at the last millisecond of a window.
fn range(from: i64, days: i64, step: i64) -> QueryTime {
    QueryTime::Range { start: START + from * DAY + 6 * H - 1, end: START + (from + days) * DAY - 1, step }
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance
}

fn samples(series: &Series) -> usize {
    series.values().map(BTreeMap::len).sum()
}

/// Compares step by step; the tolerance is relative to the larger of the two, plus what `within` says for the series.
fn compare(expr: &str, raw: &Series, other: &Series, relative: f64, within: &BTreeMap<String, f64>) {
    assert_eq!(raw.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{expr}");
    for (labels, want) in raw {
        let got = &other[labels];
        let allowed = within.get(labels).copied().unwrap_or(0.0);
        assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>(), "{expr} {labels}");
        for (t, want) in want {
            let tolerance = relative * want.abs().max(got[t].abs()) + allowed;
            assert!(
                close(*want, got[t], tolerance),
                "{expr} {labels} at {t}: {} not {want} ± {tolerance}",
                got[t]
            );
        }
    }
}

#[test]
fn sums_counts_averages_and_extremes_are_exact_at_ends_of_windows() {
    let Some(golden) = golden() else { return };
    let floats = ["ds_const", "ds_gauge", "ds_int", "ds_events_total", "ds_gappy", r#"ds_special{i="inf"}"#];
    // Not a number is no sample of a window, and the smallest of infinities alone is the largest number there.
    let finite = &floats[..5];
    let histograms = [r#"ds_latency{i="0"}"#, "ds_queue_ages"];
    let at = format!(
        "sum_over_time(X[3h] offset 2h) + sum_over_time(X[6h] @ {}.999)",
        (START + 2 * DAY) / 1000 - 1
    );
    for (expr, over) in [
        ("count_over_time(X[3h])", &floats[..]),
        ("sum_over_time(X[3h])", &floats),
        ("avg_over_time(X[3h])", &floats),
        ("min_over_time(X[3h])", finite),
        ("max_over_time(X[3h])", finite),
        ("present_over_time(X[1h])", &floats),
        (&at, &finite[..4]),
        ("count_over_time(X[2h])", &histograms),
        ("histogram_sum(sum_over_time(X[2h]))", &histograms),
        ("histogram_count(avg_over_time(X[2h]))", &histograms),
        ("histogram_quantile(0.9, avg_over_time(X[2h]))", &histograms),
    ] {
        for (expr, time) in over
            .iter()
            .map(|name| expr.replace('X', name))
            .flat_map(|expr| [(expr.clone(), range(0, 2, H)), (expr, range(10, 1, 3 * H))])
        {
            let (raw, _) = answer(&golden.raw, &expr, time, MaxResolution::Auto);
            assert!(samples(&raw) > 5, "{expr}: {} samples", samples(&raw));
            for dir in [&golden.five, &golden.hour] {
                let (got, infos) = answer(dir, &expr, time, MaxResolution::Auto);
                compare(&expr, &raw, &got, 1e-9, &BTreeMap::new());
                // Windows of 5m are wanted by a step of an hour, those of 1h are not.
                let said = infos.iter().any(|i| i.contains("only samples of 1h resolution are left from"));
                assert_eq!(said, *dir == golden.hour, "{infos:?}");
            }
            // The same out of a bucket of all, when it is asked for.
            let (got, infos) = answer(&golden.all, &expr, time, MaxResolution::Fixed(H));
            compare(&expr, &raw, &got, 1e-9, &BTreeMap::new());
            assert!(infos.is_empty(), "{infos:?}");
        }
    }
}

#[test]
fn counters_are_right_across_resets_and_chunks() {
    let Some(golden) = golden() else { return };
    for (dir, resolution) in [(&golden.five, "5m"), (&golden.hour, "1h")] {
        for time in [range(0, 10, 6 * H), range(10, 10, 6 * H)] {
            // At each end of a range up to one window is another one than in raw samples.
            let (most, _) = answer(
                &golden.raw,
                &format!("max_over_time(increase(ds_events_total[{resolution}])[20d:{resolution}])"),
                QueryTime::Instant(START + 20 * DAY),
                MaxResolution::Auto,
            );
            let most = |per: f64| -> BTreeMap<String, f64> {
                let names = most.iter().map(|(labels, v)| (labels.clone(), v.values().sum::<f64>() / per));
                names.collect()
            };
            for (expr, within) in [
                ("increase(ds_events_total[1d])", most(0.5)),
                ("rate(ds_events_total[1d])", most(0.5 * 86_400.0)),
                ("increase(ds_events_total[2d] offset 1h)", most(0.5)),
            ] {
                let (raw, _) = answer(&golden.raw, expr, time, MaxResolution::Auto);
                let (got, _) = answer(dir, expr, time, MaxResolution::Auto);
                assert!(samples(&raw) > 100);
                compare(&format!("{expr} of {resolution}"), &raw, &got, 1e-9, &within);
            }
        }
    }
    // Native histograms: resets inside of chunks, and in the third a change of schema, whose chunk Thanos counts wrongly.
    for (dir, resolution) in [(&golden.five, "5m"), (&golden.hour, "1h")] {
        for (i, time) in (0..3).flat_map(|i| [(i, range(1, 5, 6 * H)), (i, range(6, 5, 6 * H))]) {
            let metric = format!("ds_latency{{i=\"{i}\"}}");
            let most =
                format!("max_over_time(histogram_count(increase({metric}[{resolution}]))[12d:{resolution}])");
            let (most, _) =
                answer(&golden.raw, &most, QueryTime::Instant(START + 2 * DAY), MaxResolution::Auto);
            let most: f64 = most.values().flat_map(|s| s.values()).copied().fold(0.0, f64::max);
            // One window at the start of the range, and one at the end of each chunk that had a reset. For windows of an
            // hour Thanos takes the first of each chunk behind a reset for another one: that is undone, unless the counter
            // was so young that it may be one.
            let windows = if resolution == "5m" { 3.0 } else { 5.0 };
            let expr = format!("histogram_count(increase({metric}[1d]))");
            // A change of schema is a reset for the function, though nothing was reset.
            let truth = format!("histogram_count({metric}) - histogram_count({metric} offset 1d)");
            let truth = if i == 2 { &truth } else { &expr };
            let (raw, _) = answer(&golden.raw, truth, time, MaxResolution::Auto);
            let (got, _) = answer(dir, &expr, time, MaxResolution::Auto);
            assert!(samples(&raw) > 15);
            let within = raw.keys().map(|labels| (labels.clone(), windows * most)).collect();
            compare(&format!("{expr} of {resolution}"), &raw, &got, 1e-9, &within);
        }
    }
    let expr = r#"resets(ds_latency{i=~"0|1"}[1d])"#;
    let (raw, _) = answer(&golden.raw, expr, range(1, 10, 6 * H), MaxResolution::Auto);
    let (got, _) = answer(&golden.five, expr, range(1, 10, 6 * H), MaxResolution::Auto);
    assert!(raw.values().flat_map(|s| s.values()).any(|v| *v > 0.0));
    compare(expr, &raw, &got, 0.0, &raw.keys().map(|l| (l.clone(), 1.0)).collect());
}

#[test]
fn approximations_stay_near_and_say_what_they_are() {
    let Some(golden) = golden() else { return };
    let time = range(1, 3, 4 * H);
    let gauges = "ds_gauge";
    let bounds = |function: &str| {
        let (series, _) = answer(
            &golden.raw,
            &format!("{function}({gauges}[1d])"),
            QueryTime::Instant(START + 4 * DAY),
            MaxResolution::Auto,
        );
        series
    };
    let (low, high) = (bounds("min_over_time"), bounds("max_over_time"));
    for (function, argument) in [
        ("quantile_over_time", "0.5, "),
        ("stddev_over_time", ""),
        ("last_over_time", ""),
        ("first_over_time", ""),
        ("mad_over_time", ""),
        ("deriv", ""),
        ("delta", ""),
        ("idelta", ""),
        ("changes", ""),
        ("ts_of_max_over_time", ""),
        ("ts_of_last_over_time", ""),
    ] {
        let expr = format!("{function}({argument}{gauges}[6h])");
        let (raw, infos) = answer(&golden.all, &expr, time, MaxResolution::Auto);
        assert!(infos.is_empty(), "raw samples are wanted: {expr} {infos:?}");
        let (alone, _) = answer(&golden.raw, &expr, time, MaxResolution::Auto);
        compare(function, &alone, &raw, 0.0, &BTreeMap::new());
        let (got, infos) = answer(&golden.five, &expr, time, MaxResolution::Auto);
        assert!(
            infos.iter().any(|i| i.contains(&format!("{function} over ")) && i.contains("approximation")),
            "{infos:?}"
        );
        assert_eq!(samples(&raw), samples(&got), "{expr}");
        if matches!(function, "quantile_over_time" | "last_over_time" | "first_over_time") {
            for (labels, values) in &got {
                let find = |of: &Series| {
                    of.iter()
                        .find(|(l, _)| labels.ends_with(l.trim_start_matches('{')))
                        .map(|(_, v)| v.values().sum::<f64>())
                };
                let (Some(low), Some(high)) = (find(&low), find(&high)) else { continue };
                let slack = (high - low).abs();
                assert!(values.values().all(|v| (low - slack..=high + slack).contains(v)), "{expr} {labels}");
            }
        }
        if function.starts_with("ts_of") {
            compare(function, &raw, &got, 0.0, &got.keys().map(|l| (l.clone(), 6.0 * 3600.0)).collect());
        }
    }
    let (raw, _) =
        answer(&golden.raw, "resets(ds_events_total[1d])", range(1, 8, 6 * H), MaxResolution::Auto);
    let (got, _) =
        answer(&golden.five, "resets(ds_events_total[1d])", range(1, 8, 6 * H), MaxResolution::Auto);
    assert!(raw.values().flat_map(|s| s.values()).any(|v| *v > 0.0));
    // A fall onto the first sample of a range counts. Of several in one window only so many are certain as are needed to
    // explain how far the counter is ahead.
    compare("resets", &raw, &got, 0.1, &raw.keys().map(|l| (l.clone(), 1.0)).collect());
    let total = |of: &Series| of.values().flat_map(|s| s.values()).sum::<f64>();
    let found = total(&got) / total(&raw);
    assert!((0.9..1.01).contains(&found), "{found}");
}

#[test]
fn instant_selectors_look_back_a_window_more() {
    let Some(golden) = golden() else { return };
    // Steps that are no ends of windows.
    let time = QueryTime::Range { start: START + 12 * H + 7 * M + 1, end: START + 3 * DAY, step: 7 * M };
    for dir in [&golden.five, &golden.hour] {
        for expr in ["ds_const", "sum(ds_const)", "min(ds_gauge)", "max(ds_gauge)", "count(ds_gauge)"] {
            let (raw, _) = answer(&golden.raw, expr, time, MaxResolution::Auto);
            let (got, _) = answer(dir, expr, time, MaxResolution::Auto);
            assert_eq!(samples(&raw), samples(&got), "{expr}");
            if expr.contains("const") || expr.contains("count") {
                compare(expr, &raw, &got, 1e-12, &BTreeMap::new());
            }
        }
        let (got, _) = answer(dir, "absent(ds_const)", time, MaxResolution::Auto);
        assert_eq!(samples(&got), 0);
    }
    // The largest of each window is at least the sample at its end.
    let at = range(0, 2, H);
    let (raw, _) = answer(&golden.raw, r#"max(ds_gauge{i="0"})"#, at, MaxResolution::Auto);
    let (got, _) = answer(&golden.five, r#"max(ds_gauge{i="0"})"#, at, MaxResolution::Auto);
    for (t, v) in &got["{}"] {
        assert!(*v >= raw["{}"][t], "at {t}");
    }
}

/// The raw and the 5m blocks claim to begin later, as if retention had taken what was before.
fn tiers(golden: &Golden, raw_from: i64, five_from: i64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for block in blocks(&golden.all) {
        let mut meta = meta(&block);
        let resolution = meta["thanos"]["downsample"]["resolution"].as_i64().unwrap();
        let (from, place) = match resolution {
            0 => (raw_from, dir.path().to_owned()),
            r if r == 5 * M => (five_from, dir.path().join("downsampled")),
            _ => (START, dir.path().join("downsampled")),
        };
        let to = place.join(block.file_name().unwrap());
        copy(&block, &to);
        meta["minTime"] = from.into();
        std::fs::write(to.join("meta.json"), serde_json::to_vec(&meta).unwrap()).unwrap();
    }
    dir
}

#[test]
fn every_sample_is_used_once_across_tiers() {
    let Some(golden) = golden() else { return };
    // The raw samples begin within a window.
    let dir = tiers(&golden, START + 4 * DAY + 2 * M + 7, START + 2 * DAY);
    for (expr, step) in [
        ("count_over_time(ds_gauge[6h])", 10 * M),
        ("count_over_time(ds_latency[6h])", 10 * M),
        ("sum_over_time(ds_int[6h])", 10 * M),
        ("avg_over_time(ds_gauge[2h])", H),
        ("sum(max_over_time(ds_gauge[1h]))", H),
    ] {
        // Times at which all windows end.
        let time = range(0, 8, H);
        let QueryTime::Range { start, end, .. } = time else { return };
        let (raw, none) = answer(&golden.raw, expr, time, MaxResolution::Auto);
        assert!(none.is_empty());
        let (mut got, infos) =
            answer(dir.path(), expr, QueryTime::Range { start, end, step }, MaxResolution::Auto);
        got.values_mut().for_each(|s| s.retain(|t, _| (t - start) % H == 0));
        compare(expr, &raw, &got, 1e-9, &BTreeMap::new());
        let hours = "Z to 2025-06-13T01:00:00Z";
        let minutes = ", and of 5m resolution are left from 2025-06-13T01:00:00Z to 2025-06-15T01:05:00Z";
        assert_eq!(infos.len(), 1, "{infos:?}");
        assert!(infos[0].contains("only samples of 1h resolution are left from 2025-06-11T0"), "{infos:?}");
        assert!(infos[0].contains(hours), "{infos:?}");
        assert_eq!(infos[0].contains(minutes), step < H, "{infos:?}");
    }
    // Counters go on across both borders: over ten days each window is wrong by less than two windows of an hour.
    let expr = "increase(ds_events_total[7d])";
    let (raw, _) = answer(&golden.raw, expr, range(7, 2, H), MaxResolution::Auto);
    let (got, _) = answer(dir.path(), expr, range(7, 2, H), MaxResolution::Auto);
    compare(expr, &raw, &got, 0.02, &BTreeMap::new());
    // Nothing is said where raw samples are enough, and they are not touched.
    for expr in
        ["rate(ds_events_total[5m])", "ds_gauge", "ds_gauge offset 1h", "count_over_time(ds_gauge[30m])"]
    {
        let time = range(5, 2, 10 * M);
        let (got, infos) = answer(dir.path(), expr, time, MaxResolution::Auto);
        assert!(infos.is_empty(), "{infos:?}");
        assert_eq!(got, answer(&golden.raw, expr, time, MaxResolution::Auto).0, "{expr}");
    }
    // Without the finer samples a short window is widened.
    let (got, infos) = answer(dir.path(), "increase(ds_const[1m])", range(0, 1, H), MaxResolution::Auto);
    assert!(samples(&got) > 10);
    let said = "increase over 1m is taken over 2h and scaled where samples are as coarse";
    assert!(infos.iter().any(|i| i.contains(said)), "{infos:?}");
}

#[test]
fn directories_are_merged_whatever_their_resolutions() {
    let Some(golden) = golden() else { return };
    // An archive of 5m, and raw samples of the same series: none counts twice.
    let both = [golden.five.clone(), golden.raw.clone()];
    for expr in
        ["count_over_time(ds_gauge[6h])", "sum_over_time(ds_int[6h])", "count_over_time(ds_latency[6h])"]
    {
        let (raw, _) = answer(&golden.raw, expr, range(2, 5, H), MaxResolution::Auto);
        let (got, _) = answer_of(&both, expr, range(2, 5, H), MaxResolution::Auto);
        compare(expr, &raw, &got, 1e-9, &BTreeMap::new());
    }
    // Raw samples of other series are not evaluated over the wider windows of the archive.
    let lab = tempfile::tempdir().unwrap();
    for block in blocks(&golden.raw).iter().chain(&blocks(&golden.five)) {
        let is_lab = meta(block)["thanos"]["labels"]["cluster"] == "lab";
        if is_lab == (meta(block)["thanos"]["downsample"]["resolution"] == 0) {
            copy(block, &lab.path().join(block.file_name().unwrap()));
        }
    }
    let expr = r#"changes({__name__=~"ds_special|ds_latency"}[2m])"#;
    let time = range(3, 1, 10 * M);
    let (got, infos) = answer(lab.path(), expr, time, MaxResolution::Auto);
    assert!(infos.iter().any(|i| i.contains("changes over 2m is taken over 10m where")), "{infos:?}");
    let (raw, _) = answer(&golden.raw, "changes(ds_special[2m])", time, MaxResolution::Auto);
    for (labels, series) in raw {
        assert_eq!(got.get(&labels), Some(&series), "{labels}");
    }
}

fn query(dir: &Path, arguments: &[&str]) -> (String, String) {
    let done = ran(command(&["query", "-d", text_of(dir)]).args(arguments).env("NO_COLOR", "1"));
    assert_eq!(done.code, 0, "{}", done.err);
    (done.out, done.err)
}

#[test]
fn the_command_answers_from_what_is_left_and_says_so() {
    let Some(golden) = golden() else { return };
    let dir = tempfile::tempdir().unwrap();
    for block in blocks(&golden.five) {
        copy(&block, &dir.path().join("downsampled").join(block.file_name().unwrap()));
    }
    let arguments = [
        "rate(ds_events_total{i=\"0\"}[1m])",
        "--start",
        "2025-06-12T00:00:00Z",
        "--end",
        "2025-06-12T06:00:00Z",
        "--step",
        "1h",
    ];
    let said = "only samples of 5m resolution are left from 2025-06-11T23:59:00Z to 2025-06-12T06:00:00Z";
    let widened = "rate over 1m is taken over 10m where samples are as coarse";
    let (out, err) = query(dir.path(), &arguments);
    assert!(out.contains("every 1h"), "{out}");
    assert!(err.contains(said) && err.contains(widened), "{err}");
    let (out, _) = query(dir.path(), &[&arguments[..], &["-o", "json"]].concat());
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["data"]["result"][0]["values"].as_array().unwrap().len(), 7, "{out}");
    assert!(answer["infos"][0].as_str().unwrap().contains(said), "{out}");
    // The newest sample is found in downsampled blocks too.
    let (out, err) = query(dir.path(), &["count(ds_const)", "-o", "json"]);
    assert!(out.contains(r#""1"]"#) && err.contains("newest sample"), "{out} {err}");
    // A resolution is used on request, and shown.
    let wanted = ["sum_over_time(ds_const[1d])", "--time", "2025-06-13T00:00:00Z", "--analyze"];
    let (_, err) = query(&golden.all, &[&wanted[..], &["--max-source-resolution", "1h"]].concat());
    assert!(err.contains("at 1h") && !err.contains("are left"), "{err}");
    let (_, err) = query(&golden.all, &wanted);
    assert!(!err.contains("at 1h"), "{err}");
}
