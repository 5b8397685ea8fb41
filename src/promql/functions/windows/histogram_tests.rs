//! Windows of histograms, alone and beside floats, against a plain evaluator that rebuilds every window.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tsdbctl_chunk::columns::SampleColumns;
use tsdbctl_model::histogram::{BucketSpan, HistogramError};
use tsdbctl_model::{CounterResetHint, FloatHistogram};
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use super::*;

#[derive(Clone, Debug)]
enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

type Window = Vec<(i64, Sample, i64)>;
type Texts = BTreeSet<String>;

const NAME: &str = "x_total";
const SPAN: Span = Span { start: 0, end: 1 };

fn say(texts: &mut Texts, a: Annotation) {
    texts.insert(a.text);
}

fn st_reset(a: &(i64, Sample, i64), b: &(i64, Sample, i64)) -> bool {
    pairs::is_start_timestamp_reset(a.2, a.0, b.2, b.0)
}

fn fit(
    outcome: Result<tsdbctl_model::histogram::AddOutcome, HistogramError>,
    operation: HistogramOperation,
    texts: &mut Texts,
) -> bool {
    match outcome {
        Err(_) => {
            say(texts, Annotation::mixed_exponential_custom_histograms(NAME, SPAN));
            false
        }
        Ok(o) => {
            if o.nhcb_bounds_reconciled {
                say(texts, Annotation::mismatched_custom_buckets(operation, SPAN));
            }
            true
        }
    }
}

/// `histogramRate`; start timestamps as if unknown if `sts` is off.
fn plain_increase(
    h: &[(i64, Arc<FloatHistogram>, i64)],
    counter: bool,
    texts: &mut Texts,
) -> Option<FloatHistogram> {
    let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    let reset_by_st = |a: usize, b: usize| pairs::is_start_timestamp_reset(h[a].2, h[a].0, h[b].2, h[b].0);
    let mixed_schemas = |texts: &mut Texts| {
        texts.clear();
        say(texts, Annotation::mixed_exponential_custom_histograms(NAME, SPAN));
        None
    };
    let m = h.len();
    let last = &h[m - 1].1;
    let mut prev = (*h[0].1).clone();
    let mut custom = prev.uses_custom_buckets();
    if counter && (gauge(&prev) || gauge(last)) {
        say(texts, Annotation::native_histogram_not_counter(NAME, SPAN));
    }
    if counter && (reset_by_st(0, 1) || h[1].1.detect_reset(&prev)) {
        prev = FloatHistogram {
            schema: h[1].1.schema,
            custom_values: h[1].1.custom_values.clone(),
            ..FloatHistogram::default()
        };
        custom = h[1].1.uses_custom_buckets();
    }
    if last.uses_custom_buckets() != custom {
        say(texts, Annotation::mixed_exponential_custom_histograms(NAME, SPAN));
        return None;
    }
    let mut schema = last.schema.min(prev.schema);
    for (_, h, _) in &h[1..m - 1] {
        if !counter {
            continue;
        }
        if gauge(h) {
            say(texts, Annotation::native_histogram_not_counter(NAME, SPAN));
        }
        schema = schema.min(h.schema);
        if h.uses_custom_buckets() != custom {
            return mixed_schemas(texts);
        }
    }
    let mut result = last.copy_to_schema(schema).unwrap();
    if !fit(result.sub(&prev), HistogramOperation::Subtraction, texts) {
        return mixed_schemas(texts);
    }
    if counter {
        let mut overlap = false;
        for i in 1..m {
            if !overlap && pairs::starts_before_previous(h[i - 1].2, h[i - 1].0, h[i].2) {
                say(texts, Annotation::start_time_overlap(NAME, 1, SPAN));
                overlap = true;
            }
            if (reset_by_st(i - 1, i) || h[i].1.detect_reset(&prev))
                && !fit(result.add(&prev), HistogramOperation::Addition, texts)
            {
                return mixed_schemas(texts);
            }
            prev = (*h[i].1).clone();
        }
    } else if !gauge(&h[0].1) || !gauge(last) {
        say(texts, Annotation::native_histogram_not_gauge(NAME, SPAN));
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(result)
}

fn plain_rate(
    q: &WindowQuery,
    h: &[(i64, Arc<FloatHistogram>, i64)],
    end: i64,
    texts: &mut Texts,
) -> Option<FloatHistogram> {
    let counter = q.function != RangeFunction::Delta;
    let start = end - q.range_ms;
    let m = h.len();
    let mut result = None;
    if m > 1 {
        result = Some(plain_increase(h, counter, texts)?);
    }
    let (first, last) = (h[0].0, h[m - 1].0);
    let mut ds = (first - start) as f64 / 1000.0;
    let mut de = (end - last) as f64 / 1000.0;
    let mut si = (last - first) as f64 / 1000.0;
    let average = if m > 1 { si / (m - 1) as f64 } else { 0.0 };
    let threshold = average * 1.1;
    let st = h[0].2;
    if counter && st != 0 && st > start && st < first {
        ds = 0.0;
        si = (last - st) as f64 / 1000.0;
        match &mut result {
            None => result = Some((*h[0].1).clone()),
            Some(r) => {
                if !fit(r.add(&h[0].1), HistogramOperation::Addition, texts) {
                    return None;
                }
            }
        }
    } else if m == 1 {
        return None;
    } else {
        if ds >= threshold {
            ds = average / 2.0;
        }
        let count = result.as_ref().unwrap().count;
        if counter && count > 0.0 && h[0].1.count >= 0.0 {
            let zero = si * (h[0].1.count / count);
            if zero < ds {
                ds = zero;
            }
        }
    }
    if de >= threshold {
        de = average / 2.0;
    }
    let mut factor = 1.0;
    if si != 0.0 {
        factor = (si + ds + de) / si;
    }
    if q.function == RangeFunction::Rate {
        factor /= q.range_ms as f64 / 1000.0;
    }
    let mut result = result.unwrap();
    result.mul(factor);
    Some(result)
}

fn plain_sum(
    h: &[(i64, Arc<FloatHistogram>, i64)],
    average: bool,
    texts: &mut Texts,
) -> Option<FloatHistogram> {
    let hint = |wanted| h.iter().any(|(_, h, _)| h.counter_reset_hint == wanted);
    if hint(CounterResetHint::CounterReset) && hint(CounterResetHint::NotCounterReset) {
        say(texts, Annotation::histogram_counter_reset_collision(HistogramOperation::Aggregation, SPAN));
    }
    let mut sum = (*h[0].1).clone();
    let mut c: Option<FloatHistogram> = None;
    let mut add = |sum: &mut FloatHistogram, h: &FloatHistogram, c: &mut Option<FloatHistogram>| match sum
        .kahan_add(h, c.take())
    {
        Ok((new, o)) => {
            *c = Some(new);
            fit(Ok(o), HistogramOperation::Aggregation, texts)
        }
        Err(_) => {
            texts.clear();
            say(texts, Annotation::mixed_exponential_custom_histograms(NAME, SPAN));
            false
        }
    };
    if !average {
        for (_, h, _) in &h[1..] {
            if !add(&mut sum, h, &mut c) {
                return None;
            }
        }
        if let Some(c) = &c {
            sum.add(c).unwrap();
        }
        return Some(sum);
    }
    let mut mean: Option<FloatHistogram> = None;
    let mut count = 1.0;
    for (i, (_, h, _)) in h[1..].iter().enumerate() {
        count = (i + 2) as f64;
        if mean.is_none() {
            let (mut next, mut next_c) = (sum.clone(), c.clone());
            if !add(&mut next, h, &mut next_c) {
                return None;
            }
            if !next.has_overflow() {
                (sum, c) = (next, next_c);
                continue;
            }
            let mut m = sum.clone();
            m.div(count - 1.0);
            mean = Some(m);
            if let Some(c) = &mut c {
                c.div(count - 1.0);
            }
        }
        let q = (count - 1.0) / count;
        if let Some(c) = &mut c {
            c.mul(q);
        }
        let mut part = (**h).clone();
        part.div(count);
        let mean = mean.as_mut().unwrap();
        mean.mul(q);
        if !add(mean, &part, &mut c) {
            return None;
        }
    }
    let mut result = match mean {
        Some(mean) => mean,
        None => {
            sum.div(count);
            if let Some(c) = &mut c {
                c.div(count);
            }
            sum
        }
    };
    if let Some(c) = &c {
        result.add(c).unwrap();
    }
    Some(result)
}

/// One step of a series of both kinds. Windows of floats alone are the other tests' business.
fn plain(q: &WindowQuery, all: &Window, k: usize, texts: &mut Texts) -> Option<Option<Sample>> {
    use RangeFunction as F;
    let end = q.grid.time(k);
    let start = end - q.range_ms;
    let mint = start - if q.anchored { q.lookback_ms } else { 0 };
    let w: Window = all
        .iter()
        .filter(|(t, s, _)| {
            let stale = match s {
                Sample::Float(v) => is_stale(*v),
                Sample::Histogram(h) => is_stale(h.sum),
            };
            *t > mint && *t <= end && !stale
        })
        .cloned()
        .collect();
    let h: Vec<_> = w
        .iter()
        .filter_map(
            |(t, s, st)| if let Sample::Histogram(h) = s { Some((*t, Arc::clone(h), *st)) } else { None },
        )
        .collect();
    let floats = w.len() - h.len();
    let mut local = Texts::new();
    let result = match q.function {
        _ if w.is_empty() => None,
        F::CountOverTime => Some(Sample::Float(w.len() as f64)),
        F::PresentOverTime => Some(Sample::Float(1.0)),
        F::FirstOverTime => Some(w[0].1.clone()),
        F::LastOverTime => Some(w[w.len() - 1].1.clone()),
        F::TsOfFirstOverTime => Some(Sample::Float(w[0].0 as f64 / 1000.0)),
        F::TsOfLastOverTime => {
            let t = if h.is_empty() || floats == 0 { w[w.len() - 1].0.max(0) } else { w[w.len() - 1].0 };
            Some(Sample::Float(t as f64 / 1000.0))
        }
        F::Changes | F::Resets => {
            let older = w.iter().filter(|s| s.0 <= start).count();
            if q.anchored && older == w.len() {
                return Some(None);
            }
            let from = if q.anchored { older.saturating_sub(1) } else { 0 };
            let changes = q.function == F::Changes;
            let count = w[from..]
                .windows(2)
                .filter(|p| match (&p[0].1, &p[1].1) {
                    (Sample::Float(a), Sample::Float(b)) if changes => a != b && !(a.is_nan() && b.is_nan()),
                    (Sample::Float(a), Sample::Float(b)) => b < a || st_reset(&p[0], &p[1]),
                    (Sample::Histogram(a), Sample::Histogram(b)) if changes => !b.equals(a),
                    (Sample::Histogram(a), Sample::Histogram(b)) => {
                        st_reset(&p[0], &p[1]) || b.detect_reset(a)
                    }
                    _ => true,
                })
                .count();
            Some(Sample::Float(count as f64))
        }
        F::Irate | F::Idelta => {
            if w.len() < 2 {
                return Some(None);
            }
            let (a, b) = (&w[w.len() - 2], &w[w.len() - 1]);
            let seconds = (b.0 - a.0) as f64 / 1000.0;
            let irate = q.function == F::Irate;
            match (&a.1, &b.1) {
                (Sample::Float(x), Sample::Float(y)) => {
                    let d = if irate && (y < x || st_reset(a, b)) { *y } else { y - x };
                    Some(Sample::Float(if irate { d / seconds } else { d }))
                }
                (Sample::Histogram(x), Sample::Histogram(y)) => {
                    let gauges =
                        [x, y].iter().filter(|h| h.counter_reset_hint == CounterResetHint::Gauge).count();
                    if irate && gauges > 0 {
                        say(texts, Annotation::native_histogram_not_counter(NAME, SPAN));
                    }
                    if !irate && gauges < 2 {
                        say(texts, Annotation::native_histogram_not_gauge(NAME, SPAN));
                    }
                    let mut r = (**y).clone();
                    if (!irate || !(st_reset(a, b) || y.detect_reset(x)))
                        && !fit(r.sub(x), HistogramOperation::Subtraction, texts)
                    {
                        return Some(None);
                    }
                    r.counter_reset_hint = CounterResetHint::Gauge;
                    r.compact(0);
                    if irate {
                        r.div(seconds);
                    }
                    Some(Sample::Histogram(Arc::new(r)))
                }
                _ => {
                    say(texts, Annotation::mixed_floats_histograms(NAME, SPAN));
                    None
                }
            }
        }
        F::Rate | F::Increase | F::Delta | F::SumOverTime | F::AvgOverTime => {
            if floats > 0 && !h.is_empty() {
                say(texts, Annotation::mixed_floats_histograms(NAME, SPAN));
                return Some(None);
            }
            if floats > 0 {
                return None;
            }
            let result = match q.function {
                F::SumOverTime | F::AvgOverTime => plain_sum(&h, q.function == F::AvgOverTime, &mut local),
                _ => plain_rate(q, &h, end, &mut local),
            };
            result.map(|h| Sample::Histogram(Arc::new(h)))
        }
        _ => {
            if floats > 0 && !h.is_empty() {
                say(texts, Annotation::histogram_ignored_in_mixed_range(NAME, SPAN));
            }
            if floats > 0 {
                return None;
            }
            None
        }
    };
    texts.append(&mut local);
    Some(result)
}

fn histogram() -> impl Strategy<Value = FloatHistogram> {
    let counts = proptest::collection::vec(0u8..20, 4);
    let exponential = (
        prop_oneof![6 => Just(0i32), 1 => Just(1), 1 => Just(-1)],
        prop_oneof![6 => Just(0.001f64), 1 => Just(0.5)],
        0i32..2,
        counts.clone(),
    )
        .prop_map(|(schema, zero_threshold, offset, c)| {
            let c: Vec<f64> = c.into_iter().map(f64::from).collect();
            FloatHistogram {
                schema,
                zero_threshold,
                zero_count: c[0],
                count: c.iter().sum(),
                sum: c[1] * 1.5 + c[2] * 3.25 - c[3] / 3.0,
                positive_spans: vec![BucketSpan { offset, length: 1 }, BucketSpan { offset: 1, length: 1 }],
                positive_buckets: vec![c[1], c[2]],
                negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
                negative_buckets: vec![c[3]],
                ..FloatHistogram::default()
            }
        });
    let custom = (prop_oneof![4 => Just(vec![1.0, 2.0, 5.0]), 1 => Just(vec![1.0, 5.0])], counts).prop_map(
        |(bounds, c): (Vec<f64>, Vec<u8>)| {
            let c: Vec<f64> = c.into_iter().map(f64::from).collect();
            FloatHistogram {
                schema: -53,
                count: c[0] + c[1],
                sum: c[2] / 3.0,
                positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
                positive_buckets: vec![c[0], c[1]],
                custom_values: Some(bounds.into()),
                ..FloatHistogram::default()
            }
        },
    );
    (prop_oneof![6 => exponential.boxed(), 3 => custom.boxed()], 0u8..8, 0u8..40).prop_map(
        |(mut h, hint, odd)| {
            h.counter_reset_hint = match hint {
                0 => CounterResetHint::CounterReset,
                1 | 2 => CounterResetHint::NotCounterReset,
                3 => CounterResetHint::Gauge,
                _ => CounterResetHint::Unknown,
            };
            match odd {
                0 => h.sum = tsdbctl_model::sample::stale_nan(),
                1 => h.sum = 1.7e308,
                2 => h.sum = -1.7e308,
                _ => {}
            }
            h
        },
    )
}

#[derive(Clone, Debug)]
struct Case {
    samples: Window,
    start: i64,
    step: i64,
    steps: usize,
    range: i64,
    lookback: i64,
}

fn case() -> impl Strategy<Value = Case> {
    // Runs of one kind, so that windows hold both or either; a seldom change of layout.
    let sample = (histogram(), histogram(), -5i8..30, 1i64..20, 0u8..8);
    (
        proptest::collection::vec(sample, 0..70),
        0u8..4,
        0u8..30,
        -200i64..200,
        1i64..90,
        1usize..40,
        5i64..150,
        1i64..40,
    )
        .prop_map(|(samples, layout, turn, start, step, steps, range, lookback)| {
            let mut t = -150;
            let mut float = turn % 2 == 0;
            let samples: Vec<_> = samples
                .into_iter()
                .enumerate()
                .map(|(i, (a, b, v, gap, dice))| {
                    let before = t;
                    t += gap;
                    let st = match dice {
                        0 => 0,
                        1 => before,
                        2 => before + gap / 2,
                        3 => before - 5,
                        _ => -160,
                    };
                    if turn > 4 && i % usize::from(turn) == 0 {
                        float = !float;
                    }
                    let sample = if float && turn > 4 {
                        Sample::Float(f64::from(v))
                    } else {
                        let exponential = a.schema != -53;
                        let wanted = match layout {
                            0 => exponential,
                            1 => !exponential,
                            _ => true,
                        };
                        Sample::Histogram(Arc::new(if wanted { a } else { b }))
                    };
                    (t, sample, st)
                })
                .collect();
            Case { samples, start, step, steps, range, lookback }
        })
}

fn check(case: &Case, function: RangeFunction, anchored: bool, sts: bool) -> Result<(), TestCaseError> {
    let args = [ScalarArg::Constant(0.5), ScalarArg::Constant(0.5)];
    let q = WindowQuery {
        function,
        grid: StepGrid { start: case.start, step: case.step, steps: case.steps },
        eval_start: case.start,
        eval_step: case.step,
        range_ms: case.range,
        lookback_ms: case.lookback,
        anchored,
        smoothed: false,
        args: &args,
        use_start_timestamps: sts,
        type_and_unit: false,
        per_step_stats: true,
        arg_span: SPAN,
        call_span: SPAN,
    };
    let mut samples = SampleColumns::default();
    let mut reference = case.samples.clone();
    for (t, s, st) in &mut reference {
        if !sts {
            *st = 0;
        }
        match s {
            Sample::Float(v) => samples.floats.push(*t, *v, *st),
            Sample::Histogram(h) => samples.histograms.push(*t, Arc::clone(h), false, *st),
        }
    }
    let mut out = Column::default();
    let mut have_texts = Texts::new();
    let info = SeriesInfo { metric_name: NAME, type_label: "" };
    let stats = evaluate(&q, &info, &mut samples, &mut Scratch::default(), &mut out, &mut |a| {
        have_texts.insert(a.text);
    })
    .map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut texts = Texts::new();
    for k in 0..case.steps {
        let Some(want) = plain(&q, &reference, k, &mut texts) else { continue };
        let same = match (&want, out.float(k), out.histogram(k)) {
            (None, None, None) => true,
            (Some(Sample::Float(a)), Some(b), None) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            (Some(Sample::Histogram(a)), None, Some(b)) => {
                (a.equals(b) || a.sum.is_nan()) && a.counter_reset_hint == b.counter_reset_hint
            }
            _ => false,
        };
        prop_assert!(
            same,
            "{function:?} step {k}: want {want:?}, have {:?} {:?}",
            out.float(k),
            out.histogram(k)
        );
    }
    let overlap = |t: &String| t.contains("overlaps with previous");
    // Overlaps in windows of floats are not told by the plain side.
    have_texts.retain(|t| !overlap(t) || texts.contains(t));
    prop_assert_eq!(&texts, &have_texts, "{:?}", function);
    let windows: i64 = stats.per_step.iter().map(|s| s.0).sum();
    prop_assert_eq!(windows, stats.samples_in_windows);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_with_histograms_are_as_rebuilt_one_by_one(case in case()) {
        use RangeFunction::*;
        for function in [
            Rate, Increase, Delta, Irate, Idelta, SumOverTime, AvgOverTime, Changes, Resets, CountOverTime,
            PresentOverTime, FirstOverTime, LastOverTime, TsOfFirstOverTime, TsOfLastOverTime, MaxOverTime,
            QuantileOverTime, StddevOverTime, MadOverTime, Deriv, PredictLinear, DoubleExponentialSmoothing,
        ] {
            check(&case, function, false, false)?;
        }
        for function in [Rate, Increase, Irate, Resets] {
            check(&case, function, false, true)?;
        }
        for function in [Changes, Resets] {
            check(&case, function, true, false)?;
        }
    }
}

#[test]
fn a_stale_marker_hides_older_samples_of_the_other_kind() {
    let mut c = SampleColumns::default();
    c.histograms.push(0, Arc::new(counting(0, 1.0, CounterResetHint::Unknown).1), false, -7);
    c.floats.push(10, 3.0, 0);
    c.floats.push(20, tsdbctl_model::sample::stale_nan(), 0);
    let grid = StepGrid { start: 5, step: 10, steps: 3 };
    let mut out = Column::default();
    instant_values(&c, grid, 100, &mut out);
    assert_eq!(out.histogram(0).map(|h| h.count), Some(1.0));
    assert_eq!([out.float(0), out.float(1), out.float(2)], [None, Some(3.0), None]);
    assert_eq!(out.len(), 2);
    instant_timestamps(&c, grid, 100, &mut out);
    assert_eq!([out.float(0), out.float(1), out.float(2)], [Some(0.0), Some(10.0), None]);
    instant_start_timestamps(&c, grid, 100, &mut out);
    assert_eq!([out.float(0), out.float(1), out.float(2)], [Some(-7.0), Some(0.0), None]);
}

fn counting(t: i64, n: f64, hint: CounterResetHint) -> (i64, FloatHistogram) {
    let h = FloatHistogram {
        counter_reset_hint: hint,
        count: n,
        sum: n * 2.0,
        zero_threshold: 0.001,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![n],
        ..FloatHistogram::default()
    };
    (t, h)
}

#[test]
fn extended_rates_reach_the_window_edges() {
    use CounterResetHint::Unknown;
    let run = |function, anchored, smoothed, samples: &[(i64, FloatHistogram)]| {
        let q = WindowQuery {
            function,
            grid: StepGrid { start: 100_000, step: 1, steps: 1 },
            eval_start: 0,
            eval_step: 1,
            range_ms: 50_000,
            lookback_ms: 30_000,
            anchored,
            smoothed,
            args: &[],
            use_start_timestamps: false,
            type_and_unit: false,
            per_step_stats: false,
            arg_span: SPAN,
            call_span: SPAN,
        };
        let mut c = SampleColumns::default();
        for (t, h) in samples {
            c.histograms.push(*t, Arc::new(h.clone()), false, 0);
        }
        let mut out = Column::default();
        evaluate(&q, &SeriesInfo::default(), &mut c, &mut Scratch::default(), &mut out, &mut |_| {}).unwrap();
        out.histogram(0).map(|h| (h.count, h.sum, h.positive_buckets.clone()))
    };
    let rising = [
        counting(40_000, 10.0, Unknown),
        counting(60_000, 20.0, Unknown),
        counting(90_000, 50.0, Unknown),
        counting(110_000, 70.0, Unknown),
    ];
    // Anchored: from the sample at 40 s to the one at 90 s. Smoothed: from 15 at 50 s to 60 at 100 s.
    assert_eq!(run(RangeFunction::Increase, true, false, &rising), Some((40.0, 80.0, vec![40.0])));
    assert_eq!(run(RangeFunction::Increase, false, true, &rising), Some((45.0, 90.0, vec![45.0])));
    assert_eq!(run(RangeFunction::Rate, false, true, &rising), Some((0.9, 1.8, vec![0.9])));
    let reset = [
        counting(40_000, 10.0, Unknown),
        counting(60_000, 20.0, Unknown),
        counting(80_000, 5.0, Unknown),
        counting(90_000, 6.0, Unknown),
    ];
    // 10 → 20, then from nothing to 6.
    assert_eq!(run(RangeFunction::Increase, true, false, &reset), Some((16.0, 32.0, vec![16.0])));
    // Nothing behind the window's start.
    assert_eq!(run(RangeFunction::Increase, true, false, &reset[..1]), None);
}

#[test]
fn smoothed_instants_of_histograms_lie_on_the_line() {
    use CounterResetHint::{Gauge, NotCounterReset, Unknown};
    let mut c = SampleColumns::default();
    for (t, h) in
        [counting(0, 10.0, Unknown), counting(100, 30.0, NotCounterReset), counting(200, 8.0, Unknown)]
    {
        c.histograms.push(t, Arc::new(h), false, 0);
    }
    let grid = StepGrid { start: -50, step: 50, steps: 7 };
    let mut out = Column::default();
    smoothed_instant(&mut c, grid, 1000, NAME, SPAN, &mut out, &mut |a| panic!("{a:?}"));
    let counts: Vec<_> = out.histograms.iter().map(|(k, h)| (*k, h.count)).collect();
    assert_eq!(counts, [(1, 10.0), (2, 20.0), (3, 30.0), (4, 4.0), (5, 8.0), (6, 8.0)]);
    assert_eq!(out.histogram(6).map(|h| h.counter_reset_hint), Some(Unknown));
    let mut both = SampleColumns::default();
    both.floats.push(-10, 1.0, 0);
    both.histograms.push(0, Arc::new(counting(0, 1.0, Gauge).1), false, 0);
    let mut told = Vec::new();
    smoothed_instant(&mut both, grid, 1000, NAME, SPAN, &mut out, &mut |a| told.push(a));
    assert_eq!(told, [Annotation::mixed_floats_histograms(NAME, SPAN)]);
    assert!(out.is_empty());
}

#[test]
fn stats_only_histograms_know_their_resets_and_lose_their_buckets() {
    use CounterResetHint::{CounterReset, Gauge, NotCounterReset, Unknown};
    let mut h = tsdbctl_chunk::columns::Histograms::default();
    for (t, hist) in [
        counting(0, 5.0, Unknown),
        counting(1, 6.0, Unknown),
        counting(2, 3.0, Unknown),
        counting(3, 4.0, Gauge),
        counting(4, 4.0, Unknown),
    ] {
        h.push(t, Arc::new(hist), true, 0);
    }
    convert_to_stats_only(&mut h, None);
    let hints: Vec<_> = h.h.iter().map(|h| h.counter_reset_hint).collect();
    assert_eq!(hints, [Unknown, NotCounterReset, CounterReset, Gauge, NotCounterReset]);
    assert!(h.h.iter().all(|h| h.positive_buckets.is_empty() && h.zero_threshold == 0.0));
    assert_eq!(h.h[1].sum, 12.0);
}

#[test]
fn the_sample_a_leap_lands_on_has_no_one_before() {
    use CounterResetHint::{NotCounterReset, Unknown};
    // Windows of 20 at 100, 200, 300: the iterator leaps to 180, if it does not stand behind it, and to 280.
    let leaps = Leaps { first: 100, step: 100, steps: 3, before: 20 };
    let cases: &[(&[i64], &[CounterResetHint])] = &[
        (
            &[85, 95, 105, 185, 195, 290],
            &[Unknown, NotCounterReset, NotCounterReset, Unknown, NotCounterReset, NotCounterReset],
        ),
        (
            &[85, 95, 185, 195, 205, 290],
            &[Unknown, NotCounterReset, NotCounterReset, NotCounterReset, NotCounterReset, Unknown],
        ),
        (
            &[100, 179, 180, 181, 379, 380],
            &[Unknown, NotCounterReset, Unknown, NotCounterReset, NotCounterReset, NotCounterReset],
        ),
    ];
    for (times, want) in cases {
        let mut h = tsdbctl_chunk::columns::Histograms::default();
        for (t, n) in times.iter().zip(5..) {
            h.push(*t, Arc::new(counting(*t, f64::from(n), Unknown).1), true, 0);
        }
        convert_to_stats_only(&mut h, Some(leaps));
        let hints: Vec<_> = h.h.iter().map(|h| h.counter_reset_hint).collect();
        assert_eq!(hints, *want, "{times:?}");
    }
}
