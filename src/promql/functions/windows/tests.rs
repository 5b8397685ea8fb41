//! Kernels against plain loops over each window, bit for bit.

use proptest::prelude::*;
use tsdbctl_chunk::columns::SampleColumns;
use tsdbctl_model::sample::{is_stale, stale_nan};
use tsdbctl_storage::annotations::Annotation;

use super::*;

/// Samples of one window.
type Window = Vec<(i64, f64, i64)>;

fn inc(x: f64, s: f64, c: f64) -> (f64, f64) {
    let t = s + x;
    let c = if t.is_infinite() {
        0.0
    } else if s.abs() >= x.abs() {
        c + ((s - t) + x)
    } else {
        c + ((x - t) + s)
    };
    (t, c)
}

fn st_reset(prev_st: i64, prev_t: i64, st: i64, t: i64) -> bool {
    if st == 0 || st >= t {
        return false;
    }
    if st < prev_t {
        return false;
    }
    if st > prev_t {
        return true;
    }
    if prev_st > prev_t {
        return false;
    }
    prev_st != 0 && prev_st != prev_t
}

fn plain_quantile(q: f64, mut v: Vec<f64>) -> f64 {
    if v.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    v.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        _ => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
    });
    let n = v.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (n - 1.0).min(lower + 1.0);
    let weight = rank - rank.floor();
    v[lower as usize] * (1.0 - weight) + v[upper as usize] * weight
}

fn regression(w: &Window, origin: i64) -> (f64, f64) {
    let (mut n, mut x, mut xc, mut y, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut xy, mut xyc, mut xx, mut xxc) = (0.0, 0.0, 0.0, 0.0);
    let mut constant = true;
    for (i, (t, v, _)) in w.iter().enumerate() {
        if constant && i > 0 && *v != w[0].1 {
            constant = false;
        }
        n += 1.0;
        let d = (t - origin) as f64 / 1e3;
        (x, xc) = inc(d, x, xc);
        (y, yc) = inc(*v, y, yc);
        (xy, xyc) = inc(d * v, xy, xyc);
        (xx, xxc) = inc(d * d, xx, xxc);
    }
    if constant {
        return if w[0].1.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, w[0].1) };
    }
    x += xc;
    y += yc;
    xy += xyc;
    xx += xxc;
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

fn plain_rate(q: &WindowQuery, w: &Window, end: i64) -> Option<f64> {
    let counter = q.function != RangeFunction::Delta;
    let start = end - q.range_ms;
    let m = w.len();
    let sts = counter && q.use_start_timestamps;
    let mut r = w[m - 1].1 - w[0].1;
    if counter {
        for i in 1..m {
            if w[i].1 < w[i - 1].1 || (sts && st_reset(w[i - 1].2, w[i - 1].0, w[i].2, w[i].0)) {
                r += w[i - 1].1;
            }
        }
    }
    let mut ds = (w[0].0 - start) as f64 / 1000.0;
    let mut de = (end - w[m - 1].0) as f64 / 1000.0;
    let mut si = (w[m - 1].0 - w[0].0) as f64 / 1000.0;
    let av = if m > 1 { si / (m - 1) as f64 } else { 0.0 };
    let th = av * 1.1;
    if sts && w[0].2 != 0 && w[0].2 > start && w[0].2 < w[0].0 {
        ds = 0.0;
        si = (w[m - 1].0 - w[0].2) as f64 / 1000.0;
        r += w[0].1;
    } else if m == 1 {
        return None;
    } else {
        if ds >= th {
            ds = av / 2.0;
        }
        if counter {
            let mut zero = ds;
            if r > 0.0 && w[0].1 >= 0.0 {
                zero = si * (w[0].1 / r);
            }
            if zero < ds {
                ds = zero;
            }
        }
    }
    if de >= th {
        de = av / 2.0;
    }
    let mut f = 1.0;
    if si != 0.0 {
        f = (si + ds + de) / si;
    }
    if q.function == RangeFunction::Rate {
        f /= q.range_ms as f64 / 1000.0;
    }
    Some(r * f)
}

fn plain_extended(q: &WindowQuery, w: &Window, end: i64) -> Option<f64> {
    let counter = q.function != RangeFunction::Delta;
    let start = end - q.range_ms;
    let search = |n: usize, f: &dyn Fn(i64) -> bool| (0..n).find(|i| f(w[*i].0)).unwrap_or(n);
    let mut last = w.len() as i64 - 1;
    let mut first = (search(last as usize, &|t| t > start) as i64 - 1).max(0);
    if q.smoothed {
        last = search(last as usize, &|t| t >= end) as i64;
    }
    let at = |i: i64| (w[i as usize].0, w[i as usize].1);
    if at(last).0 <= start || (q.smoothed && at(first).0 > end) {
        return None;
    }
    let line = |a: (i64, f64), b: (i64, f64), t: i64| {
        let y1 = if counter && b.1 < a.1 { 0.0 } else { a.1 };
        y1 + (b.1 - y1) * (t - a.0) as f64 / (b.0 - a.0) as f64
    };
    let left =
        if q.smoothed && at(first).0 < start { line(at(first), at(first + 1), start) } else { at(first).1 };
    let right = if q.smoothed && last > 0 && at(last).0 > end {
        line(at(last - 1), at(last), end)
    } else {
        at(last).1
    };
    let mut r = right - left;
    if counter {
        if at(first).0 <= start {
            first += 1;
        }
        if at(last).0 >= end {
            last -= 1;
        }
        let mut correction = 0.0;
        let mut prev = left;
        for i in first..=last {
            if at(i).1 < prev {
                correction += prev;
            }
            prev = at(i).1;
        }
        if right < prev {
            correction += prev;
        }
        r += correction;
    }
    if q.function == RangeFunction::Rate {
        r /= q.range_ms as f64 / 1000.0;
    }
    Some(r)
}

/// One step, by the book.
fn plain(q: &WindowQuery, all: &Window, k: usize) -> Option<f64> {
    let end = q.grid.time(k);
    let mut mint = end - q.range_ms;
    let mut maxt = end;
    if q.anchored || q.smoothed {
        mint -= q.lookback_ms;
    }
    if q.smoothed {
        maxt += q.lookback_ms;
    }
    let w: Window =
        all.iter().filter(|(t, v, _)| *t > mint && *t <= maxt && !is_stale(*v)).copied().collect();
    let m = w.len();
    if m == 0 {
        return None;
    }
    let values = || w.iter().map(|s| s.1);
    let fold = |better: &dyn Fn(f64, f64) -> bool| {
        let mut best = w[0];
        for s in &w {
            if better(s.1, best.1) || best.1.is_nan() {
                best = *s;
            }
        }
        best
    };
    use RangeFunction as F;
    let anchor = || {
        let start = end - q.range_ms;
        if !q.anchored {
            return Some(0);
        }
        let older = w.iter().filter(|s| s.0 <= start).count();
        if older == m { None } else { Some(older.saturating_sub(1)) }
    };
    Some(match q.function {
        F::Rate | F::Increase | F::Delta if q.anchored || q.smoothed => return plain_extended(q, &w, end),
        F::Rate | F::Increase | F::Delta => return plain_rate(q, &w, end),
        F::Irate | F::Idelta => {
            if m < 2 {
                return None;
            }
            let (a, b) = (w[m - 2], w[m - 1]);
            let irate = q.function == F::Irate;
            let reset = irate && (b.1 < a.1 || (q.use_start_timestamps && st_reset(a.2, a.0, b.2, b.0)));
            let d = if reset { b.1 } else { b.1 - a.1 };
            if irate { d / ((b.0 - a.0) as f64 / 1000.0) } else { d }
        }
        F::Changes => {
            let from = anchor()?;
            w[from..].windows(2).filter(|p| p[0].1 != p[1].1 && !(p[0].1.is_nan() && p[1].1.is_nan())).count()
                as f64
        }
        F::Resets => {
            let from = anchor()?;
            w[from..]
                .windows(2)
                .filter(|p| {
                    p[1].1 < p[0].1 || (q.use_start_timestamps && st_reset(p[0].2, p[0].0, p[1].2, p[1].0))
                })
                .count() as f64
        }
        F::AvgOverTime => {
            let (mut sum, mut c, mut mean, mut incremental, mut count) = (w[0].1, 0.0, 0.0, false, 1.0);
            for (i, s) in w[1..].iter().enumerate() {
                count = (i + 2) as f64;
                if !incremental {
                    let (ns, nc) = inc(s.1, sum, c);
                    if !ns.is_infinite() {
                        (sum, c) = (ns, nc);
                        continue;
                    }
                    incremental = true;
                    mean = sum / (count - 1.0);
                    c /= count - 1.0;
                }
                let f = (count - 1.0) / count;
                (mean, c) = inc(s.1 / count, f * mean, f * c);
            }
            if incremental { mean + c } else { sum / count + c / count }
        }
        F::SumOverTime => {
            let (mut s, mut c) = (0.0, 0.0);
            for v in values() {
                (s, c) = inc(v, s, c);
            }
            if s.is_infinite() { s } else { s + c }
        }
        F::MinOverTime => fold(&|a, b| a < b).1,
        F::MaxOverTime => fold(&|a, b| a > b).1,
        F::TsOfMinOverTime => fold(&|a, b| a <= b).0 as f64 / 1000.0,
        F::TsOfMaxOverTime => fold(&|a, b| a >= b).0 as f64 / 1000.0,
        F::CountOverTime => m as f64,
        F::PresentOverTime | F::AbsentOverTime => 1.0,
        F::LastOverTime => w[m - 1].1,
        F::FirstOverTime => w[0].1,
        F::TsOfFirstOverTime => w[0].0 as f64 / 1000.0,
        F::TsOfLastOverTime => w[m - 1].0.max(0) as f64 / 1000.0,
        F::QuantileOverTime => plain_quantile(q.args[0].at(k), values().collect()),
        F::MadOverTime => {
            if values().any(f64::is_nan) {
                return Some(f64::NAN);
            }
            let median = plain_quantile(0.5, values().collect());
            plain_quantile(0.5, values().map(|v| (v - median).abs()).collect())
        }
        F::StddevOverTime | F::StdvarOverTime => {
            let (mut count, mut mean, mut cm, mut a, mut ca) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for v in values() {
                count += 1.0;
                let d = v - (mean + cm);
                (mean, cm) = inc(d / count, mean, cm);
                (a, ca) = inc(d * (v - (mean + cm)), a, ca);
            }
            let variance: f64 = (a + ca) / count;
            if q.function == F::StddevOverTime { variance.sqrt() } else { variance }
        }
        F::Deriv | F::PredictLinear if m < 2 => return None,
        F::Deriv => regression(&w, w[0].0).0,
        F::PredictLinear => {
            let (slope, intercept) = regression(&w, q.eval_start + k as i64 * q.eval_step);
            slope * q.args[0].at(k) + intercept
        }
        F::DoubleExponentialSmoothing => {
            if m < 2 {
                return None;
            }
            let (sf, tf) = (q.args[0].at(k), q.args[1].at(k));
            let (mut s0, mut s1, mut b) = (0.0, w[0].1, w[1].1 - w[0].1);
            for (i, s) in w.iter().enumerate().skip(1) {
                let x = sf * s.1;
                b = if i == 1 { b } else { tf * (s1 - s0) + (1.0 - tf) * b };
                let y = (1.0 - sf) * (s1 + b);
                (s0, s1) = (s1, x + y);
            }
            s1
        }
    })
}

const ALL: [RangeFunction; 27] = {
    use RangeFunction::*;
    [
        Rate,
        Increase,
        Delta,
        Irate,
        Idelta,
        Changes,
        Resets,
        AvgOverTime,
        SumOverTime,
        MinOverTime,
        MaxOverTime,
        CountOverTime,
        LastOverTime,
        FirstOverTime,
        PresentOverTime,
        QuantileOverTime,
        StddevOverTime,
        StdvarOverTime,
        MadOverTime,
        TsOfMinOverTime,
        TsOfMaxOverTime,
        TsOfFirstOverTime,
        TsOfLastOverTime,
        Deriv,
        PredictLinear,
        DoubleExponentialSmoothing,
        AbsentOverTime,
    ]
};

/// Values of one temper each, so that the paths for whole numbers, for counters and for trouble all run.
fn values(n: usize) -> impl Strategy<Value = Vec<f64>> {
    let whole = proptest::collection::vec((-50i32..50).prop_map(f64::from), n);
    let large = proptest::collection::vec((-3i64..4).prop_map(|x| ((1i64 << 53) / 8 - x) as f64), n);
    let counter = proptest::collection::vec((0u8..40, 0.0..10.0f64), n).prop_map(|steps| {
        let mut v = 0.0;
        steps
            .into_iter()
            .map(|(dice, d)| {
                v = if dice == 0 { d } else { v + d };
                v
            })
            .collect::<Vec<f64>>()
    });
    let odd = prop_oneof![
        4 => -1e3..1e3f64,
        1 => Just(f64::NAN),
        1 => Just(-0.0),
        1 => Just(0.0),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(5e-324),
        1 => Just(1e100),
        1 => Just(-1e100),
        1 => Just(1.7e308),
        1 => Just(-1.7e308),
        1 => Just(stale_nan()),
    ];
    let finite =
        proptest::collection::vec(prop_oneof![3 => -1e6..1e6f64, 1 => Just(stale_nan()), 1 => Just(1.5)], n);
    prop_oneof![whole, large, counter, proptest::collection::vec(odd, n), finite]
}

#[derive(Debug, Clone)]
struct Case {
    samples: Window,
    start: i64,
    step: i64,
    steps: usize,
    range: i64,
    lookback: i64,
    phi: Vec<f64>,
}

fn case() -> impl Strategy<Value = Case> {
    (0usize..260)
        .prop_flat_map(|n| {
            (
                proptest::collection::vec(
                    (prop_oneof![8 => Just(10i64), 3 => 7i64..14, 1 => 1i64..90], 0u8..8),
                    n,
                ),
                values(n),
                -700i64..300,
                prop_oneof![Just(10i64), Just(50), 1i64..200, Just(0)],
                1usize..150,
                prop_oneof![Just(50i64), Just(100), 1i64..700],
                1i64..60,
                proptest::collection::vec(
                    prop_oneof![5 => 0.0..=1.0f64, 1 => -0.5..1.5f64, 1 => Just(f64::NAN)],
                    150,
                ),
            )
        })
        .prop_map(|(gaps, values, start, step, steps, range, lookback, phi)| {
            let mut t = -300;
            let samples = gaps
                .into_iter()
                .zip(values)
                .map(|((gap, dice), v)| {
                    let before = t;
                    t += gap;
                    let st = match dice {
                        0 => 0,
                        1 => before,
                        2 => before + gap / 2,
                        3 => t,
                        4 => before - 5,
                        _ => -310,
                    };
                    (t, v, st)
                })
                .collect();
            Case { samples, start, step, steps, range, lookback, phi }
        })
}

fn columns(samples: &Window, with_st: bool) -> SampleColumns {
    let mut c = SampleColumns::default();
    for (t, v, st) in samples {
        c.floats.push(*t, *v, if with_st { *st } else { 0 });
    }
    c
}

fn check(
    case: &Case,
    function: RangeFunction,
    anchored: bool,
    smoothed: bool,
    sts: bool,
) -> Result<(), TestCaseError> {
    let args: Vec<ScalarArg> = match function {
        RangeFunction::QuantileOverTime => vec![ScalarArg::PerStep(&case.phi)],
        RangeFunction::PredictLinear => vec![ScalarArg::Constant(3600.0)],
        RangeFunction::DoubleExponentialSmoothing => vec![ScalarArg::Constant(0.3), ScalarArg::Constant(0.6)],
        _ => vec![],
    };
    let q = WindowQuery {
        function,
        grid: StepGrid { start: case.start, step: case.step, steps: case.steps },
        eval_start: case.start + 17,
        eval_step: case.step,
        range_ms: case.range,
        lookback_ms: case.lookback,
        anchored,
        smoothed,
        args: &args,
        use_start_timestamps: sts,
        type_and_unit: false,
        per_step_stats: true,
        arg_span: Span::new(0, 1),
        call_span: Span::new(0, 2),
    };
    let mut out = Column::default();
    let mut scratch = Scratch::default();
    let info = SeriesInfo { metric_name: "x_total", type_label: "" };
    let mut samples = columns(&case.samples, sts);
    let stats = evaluate(&q, &info, &mut samples, &mut scratch, &mut out, &mut |_| {});
    let stats = stats.map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut reference = case.samples.clone();
    if !sts {
        for s in &mut reference {
            s.2 = 0;
        }
    }
    let mut total = 0;
    for k in 0..case.steps {
        let want = plain(&q, &reference, k);
        let have = out.float(k);
        let same = match (want, have) {
            (None, None) => true,
            (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            _ => false,
        };
        prop_assert!(
            same,
            "{function:?} anchored {anchored} smoothed {smoothed} start timestamps {sts}, step {k}: want {want:?}, have {have:?}"
        );
        total += stats.per_step[k].0;
    }
    prop_assert_eq!(total, stats.samples_in_windows);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_kernel_has_the_bits_of_the_plain_loop(case in case()) {
        for function in ALL {
            check(&case, function, false, false, false)?;
        }
        for function in [RangeFunction::Rate, RangeFunction::Increase, RangeFunction::Irate, RangeFunction::Resets] {
            check(&case, function, false, false, true)?;
        }
        for function in [RangeFunction::Rate, RangeFunction::Increase, RangeFunction::Delta] {
            check(&case, function, true, false, false)?;
            check(&case, function, false, true, false)?;
        }
        for function in [RangeFunction::Changes, RangeFunction::Resets] {
            check(&case, function, true, false, false)?;
        }
        check(&case, RangeFunction::Resets, true, false, true)?;
    }

    #[test]
    fn instants_are_the_newest_sample_of_the_lookback(case in case()) {
        let grid = StepGrid { start: case.start, step: case.step, steps: case.steps };
        let samples = columns(&case.samples, false);
        let (mut out, mut times) = (Column::default(), Column::default());
        instant_values(&samples, grid, case.range, &mut out);
        instant_timestamps(&samples, grid, case.range, &mut times);
        let mut count = 0;
        for k in 0..case.steps {
            let t = grid.time(k);
            let newest = case.samples.iter().rfind(|s| s.0 <= t).filter(|s| s.0 > t - case.range && !is_stale(s.1));
            prop_assert_eq!(newest.map(|s| s.1.to_bits()), out.float(k).map(f64::to_bits), "step {}", k);
            prop_assert_eq!(newest.map(|s| s.0 as f64), times.float(k), "step {}", k);
            count += usize::from(newest.is_some());
        }
        prop_assert_eq!(count, out.len());
    }

    #[test]
    fn smoothed_instants_lie_on_the_line_between_their_neighbours(case in case()) {
        let grid = StepGrid { start: case.start, step: case.step, steps: case.steps };
        let mut samples = columns(&case.samples, false);
        let mut out = Column::default();
        smoothed_instant(&mut samples, grid, case.lookback, "x", Span::new(0, 1), &mut out, &mut |_| {});
        for k in 0..case.steps {
            let t = grid.time(k);
            let w: Window = case
                .samples
                .iter()
                .filter(|s| s.0 > t - case.lookback && s.0 <= t + case.lookback && !is_stale(s.1))
                .copied()
                .collect();
            let i = w.iter().filter(|s| s.0 < t).count();
            let want = if i < w.len() && w[i].0 == t {
                Some(w[i].1)
            } else if i > 0 && i < w.len() {
                let (a, b) = (w[i - 1], w[i]);
                Some(a.1 + (b.1 - a.1) * (t - a.0) as f64 / (b.0 - a.0) as f64)
            } else if i > 0 {
                Some(w[i - 1].1)
            } else {
                None
            };
            let same = match (want, out.float(k)) {
                (None, None) => true,
                (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                _ => false,
            };
            prop_assert!(same, "step {}: want {:?}, have {:?}", k, want, out.float(k));
        }
    }
}

fn one_window(function: RangeFunction, args: &[ScalarArg], v: &[f64]) -> Result<Option<f64>, QueryError> {
    let q = WindowQuery {
        function,
        grid: StepGrid { start: 1000, step: 1, steps: 1 },
        eval_start: 1000,
        eval_step: 1,
        range_ms: 2000,
        lookback_ms: 0,
        anchored: false,
        smoothed: false,
        args,
        use_start_timestamps: false,
        type_and_unit: false,
        per_step_stats: false,
        arg_span: Span::new(0, 1),
        call_span: Span::new(0, 2),
    };
    let mut samples = SampleColumns::default();
    for (i, v) in v.iter().enumerate() {
        samples.floats.push(i as i64, *v, 0);
    }
    let mut out = Column::default();
    evaluate(&q, &SeriesInfo::default(), &mut samples, &mut Scratch::default(), &mut out, &mut |_| {})?;
    Ok(out.float(0))
}

#[test]
fn compensation_and_overflow() {
    let wide = [1e100, 1.0, -1e100, 0.1, 1e-30];
    let huge = [1.7e308, 1.7e308, -1.7e308, 3.0];
    let zeros = [f64::NAN, -0.0, 0.0];
    for (function, v, want) in [
        (RangeFunction::SumOverTime, &wide[..], 1.1),
        (RangeFunction::AvgOverTime, &wide[..], 0.22),
        (RangeFunction::SumOverTime, &huge[..], f64::INFINITY),
        (RangeFunction::AvgOverTime, &huge[..], 4.249999999999999e307),
        (RangeFunction::MinOverTime, &zeros[..], -0.0),
        (RangeFunction::MaxOverTime, &zeros[..], -0.0),
    ] {
        let have = one_window(function, &[], v).unwrap().unwrap();
        assert_eq!(have.to_bits(), want.to_bits(), "{function:?} of {v:?}: {have}");
    }
}

#[test]
fn bad_factors_are_refused_where_there_is_data() {
    let args = [ScalarArg::Constant(2.0), ScalarArg::Constant(0.5)];
    let f = RangeFunction::DoubleExponentialSmoothing;
    assert_eq!(one_window(f, &args, &[]), Ok(None));
    let error = one_window(f, &args, &[1.0]).unwrap_err();
    assert_eq!(error.message, "invalid smoothing factor. Expected: 0 < sf < 1, got: 2.000000");
}

#[test]
fn rate_of_something_not_named_like_a_counter_says_so() {
    let told = |name: &str, kind: &str, type_and_unit: bool, v: &[f64]| {
        let q = WindowQuery {
            function: RangeFunction::Rate,
            grid: StepGrid { start: 1000, step: 1, steps: 1 },
            eval_start: 1000,
            eval_step: 1,
            range_ms: 2000,
            lookback_ms: 0,
            anchored: false,
            smoothed: false,
            args: &[],
            use_start_timestamps: false,
            type_and_unit,
            per_step_stats: false,
            arg_span: Span::new(5, 9),
            call_span: Span::new(0, 10),
        };
        let mut samples = SampleColumns::default();
        for (i, v) in v.iter().enumerate() {
            samples.floats.push(i as i64, *v, 0);
        }
        let mut told: Vec<Annotation> = Vec::new();
        let info = SeriesInfo { metric_name: name, type_label: kind };
        evaluate(&q, &info, &mut samples, &mut Scratch::default(), &mut Column::default(), &mut |a| {
            told.push(a)
        })
        .unwrap();
        told
    };
    assert_eq!(
        told("go_goroutines", "", false, &[1.0, 2.0]),
        [Annotation::possible_non_counter("go_goroutines", Span::new(5, 9))]
    );
    assert_eq!(told("x_total", "", false, &[1.0, 2.0]), []);
    assert_eq!(told("x", "", false, &[1.0]), []);
    assert_eq!(told("", "", false, &[1.0, 2.0]), []);
    assert_eq!(told("x", "counter", true, &[1.0, 2.0]), []);
    assert_eq!(
        told("x_total", "gauge", true, &[1.0, 2.0]),
        [Annotation::possible_non_counter_label("x_total", "gauge", Span::new(5, 9))]
    );
}
