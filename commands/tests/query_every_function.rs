//! Every function over windows made by `downsample`, against the raw samples it made them of, step by step. What a window
//! does not tell bounds the difference: each function has its own bound, computed from the raw samples.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runs::{copy, ok};
use tsdbctl_block::{BlockMeta, WriterOptions, write_block};
use tsdbctl_chunk::{AppenderOptions, SeriesAppender};
use tsdbctl_head::live::LiveOptions;
use tsdbctl_model::Labels;
use tsdbctl_model::sample::{is_stale, stale_nan};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_promql::engine::{Features, MaxResolution, Points, QueryOptions, QueryTime, Value, run};
use tsdbctl_storage::chunk_source::LiteralSource;
use tsdbctl_storage::{ChunkBatch, Control, EncodedChunk, Queryable};
use tsdbctl_testkit::scratch;
use tsdbctl_tsdb::{Database, LiveDatabase, OpenOptions};

const M: i64 = 60_000;
const H: i64 = 60 * M;
/// Start of the data, at a full hour.
const START: i64 = 1_749_603_600_000;
/// Ends of the blocks, hours.
const BLOCKS: [i64; 5] = [0, 6, 24, 48, 66];

type Samples = Vec<(i64, f64)>;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides) as f64
    }
}

/// Name and samples.
fn series() -> Vec<(String, Samples)> {
    let mut all = Vec::new();
    for (i, step) in [15_000_i64, 60_000].into_iter().enumerate() {
        let mut dice = Dice(7 + i as u64);
        let times: Vec<i64> = (0..66 * H / step).map(|k| START + k * step + 137).collect();
        let hours = |t: i64| (t - START) as f64 / H as f64;
        let gauge = times.iter().map(|t| (*t, 50.0 + 20.0 * (hours(*t) / 3.0).sin() + dice.roll(100) / 20.0));
        all.push((format!("gauge_{step}"), gauge.collect::<Samples>()));
        let mut v = 0.0;
        let counter = times.iter().map(|t| {
            v += dice.roll(9);
            if dice.roll(2400) == 0.0 {
                v = dice.roll(3);
            }
            (*t, v)
        });
        all.push((format!("counter_{step}_total"), counter.collect()));
        // Gaps of up to some hours, most of them with a stale marker in front.
        let (mut v, mut until) = (0.0, 0);
        let mut gappy = Samples::new();
        for t in &times {
            v += dice.roll(5);
            if *t < until {
                continue;
            }
            if dice.roll(700) == 0.0 {
                until = t + (dice.roll(150) as i64 + 1) * M;
                if dice.roll(3) > 0.0 {
                    gappy.push((*t, stale_nan()));
                }
                continue;
            }
            gappy.push((*t, v));
        }
        all.push((format!("gappy_{step}_total"), gappy));
        let mut up = 1.0;
        let switched = times.iter().map(|t| {
            if dice.roll(400) == 0.0 {
                up = 1.0 - up;
            }
            (*t, up)
        });
        all.push((format!("up_{step}"), switched.collect()));
    }
    all
}

fn write(dir: &Path, n: usize, start: i64, end: i64, of: &[(String, Samples)], is_late: bool) {
    let mut series = Vec::new();
    for (name, samples) in of {
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        for (t, v) in samples.iter().filter(|(t, _)| (start..end).contains(t)) {
            appender.append_float(*t, *v, 0).unwrap();
        }
        let mut chunks = ChunkBatch::default();
        for c in appender.into_chunks() {
            chunks.push(EncodedChunk {
                encoding: c.encoding as u8,
                data: &c.data,
                mint: c.mint,
                maxt: c.maxt,
            });
        }
        if !chunks.is_empty() {
            series.push((Labels::from_pairs([("__name__", name.as_str())]), chunks));
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let mut meta = BlockMeta::new(format!("01BKGTZQ1SYQJTR4PB43C8PD{n:02}"), start, end);
    if is_late {
        meta.compaction.hints = vec!["from-out-of-order".to_string()];
    }
    let mut source = LiteralSource::new(series);
    write_block(Arc::new(RealDisk), dir, &mut source, meta, WriterOptions::default(), &Control::default())
        .unwrap()
        .unwrap();
}

/// Blocks of a directory, of one resolution.
fn of_resolution(dir: &Path, ms: i64, to: &Path) -> PathBuf {
    let all = [dir.to_owned(), dir.join("downsampled")];
    for entry in all.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten()) {
        let path = entry.unwrap().path();
        if path.join("meta.json").exists() && BlockMeta::read(&path).unwrap().resolution_ms() == ms {
            copy(&path, &to.join(path.file_name().unwrap()));
        }
    }
    to.to_owned()
}

type Answer = BTreeMap<String, BTreeMap<i64, f64>>;

fn answer(dir: &Path, expr: &str, time: QueryTime, limit: MaxResolution) -> (Answer, Vec<String>) {
    let database = Database::open(&[dir.to_owned()], OpenOptions::default()).unwrap();
    answer_of(&database, expr, time, limit)
}

fn answer_of(
    database: &dyn Queryable,
    expr: &str,
    time: QueryTime,
    limit: MaxResolution,
) -> (Answer, Vec<String>) {
    let features = Features { experimental_functions: true, ..Features::default() };
    let options = QueryOptions { max_source_resolution: limit, features, ..QueryOptions::default() };
    let result = run(database, expr, time, &options, &Control::default()).unwrap();
    let (warnings, infos) = result.annotations.render(expr, 0);
    assert!(warnings.is_empty(), "{expr}: {warnings:?}");
    let Value::Matrix { grid, series } = &result.value else { panic!("{expr}") };
    let mut out = Answer::new();
    for s in series {
        let Points::Grid(column) = &s.points else { panic!("{expr}") };
        let of = out.entry(result.symbols.labels(&s.labels).to_string()).or_default();
        of.extend(column.float_steps().map(|k| (grid.time(k), column.values[k])));
    }
    (out, infos)
}

/// The raw samples of a series around one step.
struct Around<'a> {
    samples: &'a [(i64, f64)],
    t: i64,
    range: i64,
    r: i64,
    is_aligned: bool,
}

fn extremes(samples: &[(i64, f64)]) -> (f64, f64) {
    samples.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), (_, v)| (a.min(*v), b.max(*v)))
}

fn spread(samples: &[(i64, f64)]) -> f64 {
    let (low, high) = extremes(samples);
    (high - low).max(0.0)
}

fn falls(samples: &[(i64, f64)]) -> f64 {
    samples.windows(2).filter(|w| w[1].1 < w[0].1).count() as f64
}

fn changes(samples: &[(i64, f64)]) -> f64 {
    samples.windows(2).filter(|w| w[1].1 != w[0].1).count() as f64
}

fn rise(samples: &[(i64, f64)]) -> f64 {
    samples.windows(2).map(|w| if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 }).sum()
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (q.clamp(0.0, 1.0) * (values.len() - 1) as f64).round() as usize;
    values[rank]
}

impl<'a> Around<'a> {
    /// Samples after `from` up to `to`.
    fn between(&self, from: i64, to: i64) -> &'a [(i64, f64)] {
        let a = self.samples.partition_point(|(t, _)| *t <= from);
        let b = self.samples.partition_point(|(t, _)| *t <= to);
        &self.samples[a.min(b)..b]
    }

    /// Samples of the range.
    fn inside(&self) -> &'a [(i64, f64)] {
        self.between(self.t - self.range, self.t)
    }

    /// Samples of all windows that reach into the range.
    fn outside(&self) -> &'a [(i64, f64)] {
        self.between(self.t - self.range - if self.is_aligned { 0 } else { self.r }, self.t)
    }

    /// Samples that are in the range whatever the windows.
    fn core(&self) -> &'a [(i64, f64)] {
        let edge = if self.is_aligned { 0 } else { self.r };
        self.between(self.t - self.range, self.t - edge)
    }

    /// The largest of something over the windows of the range, each with the samples before and after it.
    fn most(&self, of: impl Fn(&[(i64, f64)]) -> f64) -> f64 {
        let first = (self.t - self.range).div_euclid(self.r) * self.r - 1;
        (0..).map(|k| first + k * self.r).take_while(|end| *end <= self.t + self.r).fold(0.0, |most, end| {
            let a = self.samples.partition_point(|(t, _)| *t <= end - self.r).saturating_sub(1);
            let b = (self.samples.partition_point(|(t, _)| *t <= end) + 1).min(self.samples.len());
            most.max(of(&self.samples[a.min(b)..b]))
        })
    }

    /// What a function may give: lowest and highest; none if it may give anything.
    fn allowed(&self, function: &str, raw: f64) -> Option<(f64, f64)> {
        let within = |bound: f64| Some((raw - bound, raw + bound));
        let (inside, outside, core) = (self.inside(), self.outside(), self.core());
        let edges = || -> f64 {
            let mut all: f64 = outside.iter().map(|(_, v)| v.abs()).sum();
            all -= core.iter().map(|(_, v)| v.abs()).sum::<f64>();
            all
        };
        let windows = self.range / self.r;
        // The window of the first or last sample may be out of the range then.
        let has_hole = !self.is_aligned && outside.windows(2).any(|w| w[1].0 - w[0].0 > self.r);
        // A window's average is off any of its samples by no more.
        let swing = self.most(spread);
        let all = spread(outside);
        let share = (if self.is_aligned { 1.0 } else { 2.0 }) / windows as f64;
        let span = (self.range - self.r).max(self.r) as f64 / 1000.0;
        match function {
            "count_over_time" => Some((core.len() as f64, outside.len() as f64)),
            "sum_over_time" => within(edges()),
            "avg_over_time" if self.is_aligned => within(0.0),
            "avg_over_time" => within(
                edges() / core.len().max(1) as f64
                    + raw.abs() * (outside.len() as f64 / core.len().max(1) as f64 - 1.0),
            ),
            "min_over_time" => Some((extremes(outside).0, extremes(core).0)),
            "max_over_time" => Some((extremes(core).1, extremes(outside).1)),
            "present_over_time" => within(0.0),
            // Up to a window at the start is extrapolated instead of measured, and at the end if steps are not aligned; raw
            // samples are extrapolated by up to one interval at each end. What has gaps ends twice more.
            "increase" | "rate" => {
                let per = if function == "rate" { self.range as f64 / 1000.0 } else { 1.0 };
                let single = inside.windows(2).map(|w| (w[1].1 - w[0].1).max(0.0)).fold(0.0, f64::max);
                let ends = if self.is_aligned { 1.0 } else { 2.0 };
                let gaps = inside.windows(2).filter(|w| w[1].0 - w[0].0 > self.r).count() as f64;
                let holes = inside.len() < (self.range / (2 * M)) as usize;
                let gaps = if gaps > 0.0 || holes { gaps + 2.0 } else { 0.0 };
                within(((ends + gaps) * self.most(rise) + 2.0 * single) / per)
            }
            // Both are slopes between samples of the range.
            "irate" => {
                let slope = |w: &[(i64, f64)]| {
                    let up = if w[1].1 < w[0].1 { w[1].1 } else { w[1].1 - w[0].1 };
                    up / ((w[1].0 - w[0].0) as f64 / 1000.0)
                };
                within(outside.windows(2).map(slope).fold(0.0, f64::max))
            }
            // What falls and rises again within a window shows once.
            "resets" | "changes" => {
                let count = if function == "resets" { falls } else { changes };
                let first = (self.t - self.range).div_euclid(self.r) * self.r + self.r - 1;
                let ends = (1..windows).map(|k| first + k * self.r).take_while(|end| *end <= self.t);
                let certain = ends.filter(|end| count(self.between(end - self.r, *end)) > 0.0).count();
                let before = self.samples.partition_point(|(t, _)| *t <= self.t - self.range - self.r);
                let end = self.samples.partition_point(|(t, _)| *t <= self.t);
                Some((certain as f64, count(&self.samples[before.saturating_sub(1)..end])))
            }
            "last_over_time" => {
                if has_hole {
                    return Some(extremes(outside));
                }
                let newest = inside.last()?.0;
                Some(extremes(self.between(newest - 2 * self.r, newest)))
            }
            "first_over_time" => {
                if has_hole {
                    return Some(extremes(outside));
                }
                let oldest = inside.first()?.0;
                Some(extremes(self.between(oldest - 2 * self.r, oldest + 2 * self.r)))
            }
            "ts_of_last_over_time" | "ts_of_first_over_time" => within(2.0 * self.r as f64 / 1000.0),
            // Both ends are averages, and what is between them is extrapolated by up to a window more.
            "delta" => {
                let longer = self.range as f64
                    / (self.range - (if self.is_aligned { 1 } else { 2 }) * self.r).max(self.r) as f64;
                within(2.0 * swing * longer + (longer - 1.0) * raw.abs())
            }
            "idelta" => within(2.0 * spread(self.between(self.t - 4 * self.r, self.t))),
            // Least squares: each value is off by a swing, and one window at an end is not there.
            "deriv" => within(6.0 * swing / span),
            "predict_linear" => {
                within(2.0 * swing + 6.0 * swing / span * (self.range as f64 / 2000.0 + 600.0))
            }
            // Sorted averages are off sorted samples by a swing, and ranks by a window or two.
            "quantile_over_time" | "mad_over_time" => {
                let mut values: Vec<f64> = outside.iter().map(|(_, v)| *v).collect();
                let q = if function == "mad_over_time" { 0.5 } else { 0.9 };
                let low = quantile(&mut values, q - 2.0 * share);
                let high = quantile(&mut values, q + 2.0 * share);
                let twice = if function == "mad_over_time" { 2.0 } else { 1.0 };
                within(twice * (swing + high - low))
            }
            // By the triangle inequality a swing, and what a window at an end may change.
            "stddev_over_time" => within(swing + all * (2.0 * share).sqrt()),
            "stdvar_over_time" => {
                let bound = swing + all * (2.0 * share).sqrt();
                within(bound * (2.0 * raw.sqrt() + bound))
            }
            "double_exponential_smoothing" => {
                let (low, high) = extremes(outside);
                Some((low - all, high + all))
            }
            _ => None,
        }
    }
}

/// What is evaluated: function, arguments in front of and behind the selector.
const FUNCTIONS: [(&str, &str, &str); 25] = [
    ("count_over_time", "", ""),
    ("sum_over_time", "", ""),
    ("avg_over_time", "", ""),
    ("min_over_time", "", ""),
    ("max_over_time", "", ""),
    ("present_over_time", "", ""),
    ("increase", "", ""),
    ("rate", "", ""),
    ("irate", "", ""),
    ("resets", "", ""),
    ("changes", "", ""),
    ("last_over_time", "", ""),
    ("first_over_time", "", ""),
    ("ts_of_last_over_time", "", ""),
    ("ts_of_first_over_time", "", ""),
    ("delta", "", ""),
    ("idelta", "", ""),
    ("deriv", "", ""),
    ("predict_linear", "", ", 600"),
    ("quantile_over_time", "0.9, ", ""),
    ("mad_over_time", "", ""),
    ("stddev_over_time", "", ""),
    ("stdvar_over_time", "", ""),
    ("double_exponential_smoothing", "", ", 0.5, 0.5"),
    ("ts_of_max_over_time", "", ""),
];

/// Whether a function is asked of a series: what counts up is no gauge.
fn applies(function: &str, name: &str) -> bool {
    match function {
        "increase" | "rate" | "irate" | "resets" => name.starts_with("counter") || name.starts_with("gappy"),
        "count_over_time" | "sum_over_time" | "avg_over_time" | "min_over_time" | "max_over_time"
        | "present_over_time" | "changes" | "last_over_time" | "first_over_time" => true,
        _ => name.starts_with("gauge"),
    }
}

fn compare_all(raw_dir: &Path, dir: &Path, series: &[(String, Samples)], r: i64, times: (i64, i64)) -> usize {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (step, shift, range) in
        [(12 * r, -1, 12 * r), (12 * r, -1, 36 * r), (7 * r + 1001, 3 * M + 17, 13 * r)]
    {
        let time = QueryTime::Range { start: times.0 + 40 * r + shift, end: times.1, step };
        let is_aligned = shift == -1;
        for (function, before, after) in FUNCTIONS {
            let expr = format!("{function}({before}{{__name__=~\".+\"}}[{range}ms]{after})")
                .replace("{__name__", "SELECTOR");
            for (name, samples) in series.iter().filter(|(name, _)| applies(function, name)) {
                let expr = expr.replace("SELECTOR=~\".+\"}", name);
                let (raw, infos) = answer(raw_dir, &expr, time, MaxResolution::Auto);
                assert!(infos.is_empty(), "{infos:?}");
                let (got, _) = answer(dir, &expr, time, MaxResolution::Auto);
                let samples: Samples = samples.iter().filter(|(_, v)| !is_stale(*v)).copied().collect();
                for (labels, raw) in &raw {
                    let of = got.get(labels).cloned().unwrap_or_default();
                    for (t, raw) in raw {
                        let around = Around { samples: &samples, t: *t, range, r, is_aligned };
                        if !is_aligned && around.core().is_empty() {
                            continue;
                        }
                        let Some(got) = of.get(t) else {
                            // Too few windows in a range that has gaps.
                            if !name.starts_with("gappy") {
                                wrong.push(format!("{expr} at {t}: nothing, not {raw}"));
                            }
                            continue;
                        };
                        compared += 1;
                        if function == "ts_of_max_over_time" {
                            let end = (got * 1000.0).round() as i64;
                            let there = extremes(around.between(end - r, end)).1;
                            if there < extremes(around.core()).1 {
                                wrong.push(format!("{expr} at {t}: {got} has {there}"));
                            }
                            continue;
                        }
                        let (low, high) = around.allowed(function, *raw).unwrap();
                        let slack = 1e-9 * low.abs().max(high.abs());
                        if !(low - slack..=high + slack).contains(got) {
                            wrong.push(format!("{expr} at {t}: {got} not {raw} in {low}..{high}"));
                        }
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {compared} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    compared
}

#[test]
fn every_function_is_as_right_as_windows_allow() {
    let dir = scratch();
    let (data, raw) = (dir.path().join("data"), dir.path().join("raw"));
    let series = series();
    for (n, hours) in BLOCKS.windows(2).enumerate() {
        // Of one series some hours came late.
        let (start, end) = (START + hours[0] * H, START + hours[1] * H);
        let is_late =
            |name: &str, t: i64| name == "gauge_60000" && (START + 30 * H..START + 33 * H).contains(&t);
        let in_time: Vec<(String, Samples)> = series
            .iter()
            .map(|(name, s)| (name.clone(), s.iter().filter(|(t, _)| !is_late(name, *t)).copied().collect()))
            .collect();
        write(&data, n, start, end, &in_time, false);
        if n == 2 {
            let late: Vec<(String, Samples)> = series
                .iter()
                .map(|(name, s)| {
                    (name.clone(), s.iter().filter(|(t, _)| is_late(name, *t)).copied().collect())
                })
                .collect();
            write(&data, 10, START + 30 * H, START + 34 * H, &late, true);
        }
    }
    // Age is counted from the newest sample.
    let newest = [("newest".to_string(), vec![(START + 500 * H, 1.0)])];
    write(&data, 11, START + 500 * H, START + 502 * H, &newest, false);
    copy(&data, &raw);
    let data_dir = data.to_str().unwrap();
    ok(&["downsample", "-d", data_dir]);
    let (five, hour) = (dir.path().join("five"), dir.path().join("hour"));
    let (five, hour) = (of_resolution(&data, 5 * M, &five), of_resolution(&data, H, &hour));
    let all = (START, START + 66 * H);
    assert!(compare_all(&raw, &five, &series, 5 * M, all) > 10_000);
    let counters: Vec<(String, Samples)> = series.clone();
    assert!(compare_all(&raw, &hour, &counters, H, all) > 100);
    // The tiers of a single node: raw samples go, but for the newest block.
    ok(&["downsample", "-d", data_dir, "--tiers", "raw=1h,5m=1y,1h=10y"]);
    let left =
        std::fs::read_dir(&data).unwrap().filter(|e| e.as_ref().unwrap().path().join("meta.json").exists());
    assert_eq!(left.count(), 1);
    compare_all(&raw, &data, &series, 5 * M, (START, START + 66 * H));
    // Across the border of the tiers nothing counts twice, and one info says what is left.
    let expr = "sum(count_over_time(gauge_15000[6h])) + sum(count_over_time(gauge_60000[6h]))";
    let time = QueryTime::Range { start: START + 7 * H - 1, end: START + 66 * H, step: H };
    let (want, _) = answer(&raw, expr, time, MaxResolution::Auto);
    assert_eq!(answer(&data, expr, time, MaxResolution::Auto), (want.clone(), Vec::new()));
    // The times are full hours, but for a millisecond: at any step 5m windows are all there is.
    let expr = "sum(count_over_time(gauge_15000[6h])) + sum(count_over_time(gauge_60000[6h]))";
    let time = QueryTime::Range { start: START + 7 * H - 1, end: START + 40 * H, step: 4 * M };
    let (got, infos) = answer(&data, expr, time, MaxResolution::Auto);
    assert!(
        infos.len() == 1 && infos[0].contains("only samples of 5m resolution are left from"),
        "{infos:?}"
    );
    assert!(got.values().next().unwrap().len() > 100);
    // A block written later, of a series that the windows do not have, hides nothing and is not hidden.
    let foreign = [("backfilled".to_string(), series[0].1.clone())];
    write(&data, 20, START + 8 * H, START + 20 * H, &foreign, false);
    let time = QueryTime::Range { start: START + 8 * H - 1, end: START + 20 * H, step: H };
    for expr in ["count_over_time(backfilled[1h])", "count_over_time(gauge_15000[1h])"] {
        let want = answer(&raw, "count_over_time(gauge_15000[1h])", time, MaxResolution::Auto).0;
        let got = answer(&data, expr, time, MaxResolution::Auto).0;
        let values = |a: &Answer| a.values().next().map(|s| s.values().copied().collect::<Vec<_>>());
        let skip = usize::from(expr.contains("backfilled"));
        assert_eq!(values(&got).unwrap()[..], values(&want).unwrap()[skip..], "{expr}");
    }
    // Who has the directory open for writing reads the same.
    let disk = Arc::new(RealDisk);
    let (live, _) = LiveDatabase::open(disk, &data, LiveOptions::default(), &Control::default()).unwrap();
    for expr in ["sum(rate(counter_15000_total[2h]))", "sum(count_over_time(gauge_15000[1h]))"] {
        let of_live = answer_of(&live, expr, time, MaxResolution::Auto);
        assert_eq!(of_live, answer(&data, expr, time, MaxResolution::Auto), "{expr}");
        assert!(of_live.0.values().next().is_some_and(|s| s.len() == 13), "{expr}");
    }
}
