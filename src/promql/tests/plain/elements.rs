//! Functions of instant vectors, a step at a time.

use std::collections::BTreeMap;

use tsdbctl_model::duration::{civil_from_unix_seconds, days_in_month};
use tsdbctl_model::float_text::{format_g, parse_float};
use tsdbctl_model::histogram::Bucket;
use tsdbctl_model::kahan::kahan_inc;
use tsdbctl_model::matcher::MatchType;
use tsdbctl_model::regexp::Regexp;
use tsdbctl_model::{FloatHistogram, Matcher, Span, go_math};
use tsdbctl_promql::functions::order::{go_sort, natural_less, sort_func, value_greater, value_less};
use tsdbctl_storage::annotations::Annotation;

use crate::evaluate::{Evaluator, Outcome, Step, merge_twins, with_label};
use crate::tree::Node;
use crate::value::{Hist, Matrix, Metric, Notes, Sample, set_label, value_of, without_metadata};

fn named(s: &Sample, delayed: bool) -> Metric {
    if delayed { s.metric.clone() } else { without_metadata(&s.metric) }
}

fn map_floats(vector: &[Sample], delayed: bool, f: impl Fn(f64) -> f64) -> Outcome {
    let out = vector
        .iter()
        .filter(|s| s.h.is_none())
        .map(|s| Sample { metric: named(s, delayed), f: f(s.f), drop_name: true, ..Sample::default() })
        .collect();
    Ok((out, Notes::default()))
}

fn map_histograms(vector: &[Sample], delayed: bool, f: impl Fn(&FloatHistogram) -> f64) -> Outcome {
    let out = vector
        .iter()
        .filter_map(|s| {
            let h = s.h.as_ref()?;
            let mut metric = s.metric.clone();
            if !delayed {
                metric.remove("__name__");
            }
            Some(Sample { metric, f: f(h), drop_name: true, ..Sample::default() })
        })
        .collect();
    Ok((out, Notes::default()))
}

/// Labels of a series that stands for what is absent.
pub fn absent_labels(node: &Node) -> Metric {
    let matchers: &[Matcher] = match node {
        Node::Vector(v) | Node::Matrix(v, ..) => &v.matchers,
        _ => return Metric::new(),
    };
    let mut out = Metric::new();
    let mut has = std::collections::BTreeSet::new();
    for m in matchers.iter().filter(|m| m.name != "__name__") {
        if m.kind == MatchType::Equal && !has.contains(&m.name) {
            set_label(&mut out, &m.name, &m.value);
            has.insert(m.name.clone());
        } else {
            out.remove(&m.name);
        }
    }
    out
}

pub fn label_replace(ev: &mut Evaluator, args: &[Node]) -> Result<(Matrix, Notes), String> {
    let (dst, replacement, src, source) = (args[1].text(), args[2].text(), args[3].text(), args[4].text());
    let Ok(regexp) = Regexp::with_groups(source) else {
        return Err(format!("invalid regular expression in label_replace(): {source}"));
    };
    if dst.is_empty() {
        return Err(format!("invalid destination label name in label_replace(): {dst}"));
    }
    let (mut m, notes) = ev.eval(&args[0])?;
    for s in &mut m.series {
        if let Some(value) = regexp.expand(value_of(&s.metric, src), replacement) {
            s.metric = with_label(&s.metric, dst, &value);
            s.drop_name &= dst != "__name__";
        }
    }
    Ok((merge_twins(ev.query, m)?, notes))
}

pub fn label_join(ev: &mut Evaluator, args: &[Node]) -> Result<(Matrix, Notes), String> {
    let (dst, separator) = (args[1].text(), args[2].text());
    let sources: Vec<&str> = args[3..].iter().map(Node::text).collect();
    if sources.contains(&"") {
        return Err("invalid source label name in label_join(): ".to_string());
    }
    if dst.is_empty() {
        return Err("invalid destination label name in label_join(): ".to_string());
    }
    let (mut m, notes) = ev.eval(&args[0])?;
    for s in &mut m.series {
        let values: Vec<&str> = sources.iter().map(|n| value_of(&s.metric, n)).collect();
        s.metric = with_label(&s.metric, dst, &values.join(separator));
        s.drop_name &= dst != "__name__";
    }
    Ok((merge_twins(ev.query, m)?, notes))
}

fn clamp(vector: &[Sample], min: f64, max: f64, delayed: bool) -> Outcome {
    if max < min {
        return Ok((Vec::new(), Notes::default()));
    }
    map_floats(vector, delayed, |f| go_math::max(min, go_math::min(max, f)))
}

/// A moment as Go's `time` sees it: what lies before its first year wraps around to the end of time.
fn civil(seconds: i64) -> tsdbctl_model::duration::Civil {
    let mut t = i128::from(seconds);
    if t < -9_223_371_966_579_724_800 {
        t += 1 << 64;
    }
    let cycle = 146_097 * 86_400;
    let mut out = civil_from_unix_seconds(t.rem_euclid(cycle) as i64);
    out.year += 400 * t.div_euclid(cycle) as i64;
    out
}

fn date(vectors: &[Vec<Sample>], step: &Step, f: impl Fn(tsdbctl_model::duration::Civil) -> f64) -> Outcome {
    if vectors.is_empty() {
        let v = f(civil(step.t / 1000));
        return Ok((vec![Sample::number(v)], Notes::default()));
    }
    map_floats(&vectors[0], step.delayed, |v| f(civil(go_math::to_i64(v))))
}

fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut c) = (0.0, 0.0);
    for b in h.all_bucket_iter().filter(|b| b.count != 0.0) {
        let value = if h.uses_custom_buckets() {
            (b.upper + b.lower) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let v = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -v } else { v }
        };
        let delta = value - mean;
        kahan_inc(b.count * delta * delta, &mut sum, &mut c);
    }
    (sum + c) / h.count
}

/// Buckets of one classic histogram.
struct Classic {
    metric: Metric,
    buckets: Vec<(f64, f64)>,
}

/// Native histograms, and classic ones by their labels without `le`.
fn split(vector: &[Sample], span: Span, delayed: bool) -> (Vec<Sample>, Vec<Classic>, Notes) {
    let mut notes = Notes::default();
    let mut order: Vec<Metric> = Vec::new();
    let mut by: BTreeMap<Metric, Classic> = BTreeMap::new();
    let mut native = Vec::new();
    let shown =
        |s: &Sample| if delayed { value_of(&s.metric, "__name__").to_string() } else { String::new() };
    for s in vector {
        if s.h.is_some() {
            native.push(s.clone());
            continue;
        }
        let le = value_of(&s.metric, "le");
        let Ok(bound) = parse_float(le) else {
            notes.add(Annotation::bad_bucket_label(&shown(s), le, span));
            continue;
        };
        let mut key = s.metric.clone();
        key.remove("le");
        if !by.contains_key(&key) {
            order.push(key.clone());
            by.insert(key.clone(), Classic { metric: key.clone(), buckets: Vec::new() });
        }
        by.get_mut(&key).expect("inserted").buckets.push((bound, s.f));
    }
    native.retain(|s| {
        if by.remove(&s.metric).is_none() {
            return true;
        }
        notes.add(Annotation::mixed_classic_native_histograms(&shown(s), span));
        false
    });
    (native, order.into_iter().filter_map(|k| by.remove(&k)).collect(), notes)
}

fn sort_buckets(buckets: &mut [(f64, f64)]) {
    sort_func(buckets, |a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
}

/// Buckets of equal bounds added up, in place; the number of those left in front.
fn coalesce(buckets: &mut [(f64, f64)]) -> usize {
    let mut last = buckets[0];
    let mut n = 0;
    for i in 1..buckets.len() {
        let b = buckets[i];
        if b.0 == last.0 {
            last.1 += b.1;
        } else {
            buckets[n] = last;
            last = b;
            n += 1;
        }
    }
    buckets[n] = last;
    n + 1
}

fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if tsdbctl_model::sample::is_stale(a) || tsdbctl_model::sample::is_stale(b) {
        return tsdbctl_model::sample::is_stale(a) && tsdbctl_model::sample::is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < epsilon * f64::MIN_POSITIVE;
    }
    diff / go_math::min(sum, f64::MAX) < epsilon
}

/// The quantile, and where counts had to be raised: lowest and highest bound, largest difference.
fn bucket_quantile(q: f64, buckets: &mut [(f64, f64)]) -> (f64, Option<(f64, f64, f64)>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    sort_buckets(buckets);
    if buckets[buckets.len() - 1].0 != f64::INFINITY {
        return (f64::NAN, None);
    }
    let n = coalesce(buckets);
    let b = &mut buckets[..n];
    let (mut low, mut high, mut diff, mut forced) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, false);
    let mut previous = b[0].1;
    for x in &mut b[1..] {
        let current = x.1;
        if current == previous {
            continue;
        }
        if almost_equal(previous, current, 1e-12) {
            x.1 = previous;
            continue;
        }
        if current < previous {
            x.1 = previous;
            forced = true;
            if x.0 < low {
                low = x.0;
            }
            if x.0 > high {
                high = x.0;
            }
            if previous - current > diff {
                diff = previous - current;
            }
            continue;
        }
        previous = current;
    }
    let forced = forced.then_some((low, high, diff));
    let total = b[n - 1].1;
    if n < 2 || total == 0.0 {
        return (f64::NAN, forced);
    }
    let mut rank = q * total;
    // Go's binary search: on counts with NaN a linear one would end elsewhere.
    let (mut i, mut j) = (0, n - 1);
    while i < j {
        let half = (i + j) / 2;
        if b[half].1 >= rank { j = half } else { i = half + 1 }
    }
    if i == n - 1 {
        return (b[n - 2].0, forced);
    }
    if i == 0 && b[0].0 <= 0.0 {
        return (b[0].0, forced);
    }
    let (mut start, end, mut count) = (0.0, b[i].0, b[i].1);
    if i > 0 {
        start = b[i - 1].0;
        count -= b[i - 1].1;
        rank -= b[i - 1].1;
    }
    (start + (end - start) * (rank / count), forced)
}

fn bucket_fraction(lower: f64, upper: f64, buckets: &mut [(f64, f64)]) -> f64 {
    sort_buckets(buckets);
    if buckets[buckets.len() - 1].0 != f64::INFINITY {
        return f64::NAN;
    }
    let n = coalesce(buckets);
    let b = &buckets[..n];
    let count = b[n - 1].1;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut rank = 0.0;
    let mut ranks = [None, None];
    let mut below = if b[0].0 <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for (i, x) in b.iter().enumerate() {
        if i > 0 {
            below = b[i - 1].0;
        }
        let place = |v: f64| {
            if below == f64::NEG_INFINITY { x.1 } else { rank + (x.1 - rank) * (v - below) / (x.0 - below) }
        };
        for (slot, v) in ranks.iter_mut().zip([lower, upper]) {
            if slot.is_none() && below >= v {
                *slot = Some(rank);
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        for (slot, v) in ranks.iter_mut().zip([lower, upper]) {
            if slot.is_none() && below < v && x.0 > v {
                *slot = Some(place(v));
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        rank = x.1;
    }
    let [l, u] = ranks.map(|r| no_more_than(r, count));
    (u - l) / count
}

/// A rank, the whole count where there is none or it is above.
fn no_more_than(rank: Option<f64>, count: f64) -> f64 {
    match rank {
        Some(r) if r > count => count,
        Some(r) => r,
        None => count,
    }
}

fn native_quantile(q: f64, h: &FloatHistogram, name: &str, span: Span) -> (f64, Notes) {
    let mut notes = Notes::default();
    if q < 0.0 {
        return (f64::NEG_INFINITY, notes);
    }
    if q > 1.0 {
        return (f64::INFINITY, notes);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, notes);
    }
    let upwards = h.sum.is_nan() || q < 0.5;
    let all: Vec<Bucket> =
        if upwards { h.all_bucket_iter().collect() } else { h.all_reverse_bucket_iter().collect() };
    let mut rank = if upwards { q * h.count } else { (1.0 - q) * h.count };
    let mut count = 0.0;
    let mut b = Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
        index: 0,
    };
    let mut rest = all.iter();
    for x in rest.by_ref() {
        b = *x;
        if b.count == 0.0 {
            continue;
        }
        count += b.count;
        if count >= rank {
            break;
        }
    }
    let custom = h.uses_custom_buckets();
    if !custom && b.lower < 0.0 && b.upper > 0.0 {
        if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
            b.lower = 0.0;
        } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
            b.upper = 0.0;
        }
    } else if custom {
        if b.lower == f64::NEG_INFINITY {
            if b.upper <= 0.0 {
                return (b.upper, notes);
            }
            b.lower = 0.0;
        } else if b.upper == f64::INFINITY {
            return (b.lower, notes);
        }
    }
    if count > h.count {
        count = h.count;
    }
    if count < rank {
        if h.sum.is_nan() {
            notes.add(Annotation::native_histogram_quantile_nan_result(name, span));
            return (f64::NAN, notes);
        }
        return (b.upper, notes);
    }
    if upwards {
        rank -= count - b.count;
    } else {
        rank = count - rank;
    }
    // As upstream, the walk to the end leaves its last bucket behind.
    if h.sum.is_nan() {
        for x in rest {
            b = *x;
            count += b.count;
        }
        if count < h.count {
            notes.add(Annotation::native_histogram_quantile_nan_skew(name, span));
        }
    }
    let fraction = rank / b.count;
    if custom || b.lower <= 0.0 && b.upper >= 0.0 {
        return (b.lower + (b.upper - b.lower) * fraction, notes);
    }
    let (low, high) = (go_math::log2(b.lower.abs()), go_math::log2(b.upper.abs()));
    if b.lower > 0.0 {
        return (go_math::exp2(low + (high - low) * fraction), notes);
    }
    (-go_math::exp2(high + (low - high) * (1.0 - fraction)), notes)
}

fn native_fraction(lower: f64, upper: f64, h: &FloatHistogram, name: &str, span: Span) -> (f64, Notes) {
    let mut notes = Notes::default();
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, notes);
    }
    if lower >= upper {
        return (0.0, notes);
    }
    let (mut count, mut rank) = (0.0, 0.0);
    let mut ranks = [None, None];
    let mut it = h.all_bucket_iter();
    for mut b in it.by_ref() {
        count += b.count;
        let zero = b.lower <= 0.0 && b.upper >= 0.0;
        if zero {
            if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
                b.lower = 0.0;
            } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
                b.upper = 0.0;
            }
        }
        for (slot, v) in ranks.iter_mut().zip([lower, upper]) {
            if slot.is_none() && b.lower >= v {
                *slot = Some(rank);
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        for (slot, v) in ranks.iter_mut().zip([lower, upper]) {
            if slot.is_none() && b.lower < v && b.upper > v {
                *slot = Some(if h.uses_custom_buckets() || zero {
                    if b.lower == f64::NEG_INFINITY {
                        b.count
                    } else {
                        rank + b.count * b.fraction_below(v, true)
                    }
                } else {
                    rank + b.count * b.fraction_below(v, false)
                });
            }
        }
        if ranks.iter().all(Option::is_some) {
            break;
        }
        rank += b.count;
    }
    if h.sum.is_nan() {
        for b in it {
            count += b.count;
        }
        if count < h.count {
            notes.add(Annotation::native_histogram_fraction_nans(name, span));
        }
    } else {
        count = h.count;
    }
    let [l, u] = ranks.map(|r| no_more_than(r, count));
    ((u - l) / h.count, notes)
}

fn open_metrics_text(q: f64) -> String {
    if q.is_nan() {
        return "NaN".to_string();
    }
    let text = format_g(q);
    if q.is_infinite() || text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}

fn quantiles(vector: &[Sample], qs: &[(f64, Span)], label: Option<&str>, span: Span, step: &Step) -> Outcome {
    let mut notes = Notes::default();
    for (q, q_span) in qs {
        if q.is_nan() || *q < 0.0 || *q > 1.0 {
            notes.add(Annotation::invalid_quantile(*q, *q_span));
        }
    }
    let (mut native, mut classic, n) = split(vector, span, step.delayed);
    notes.merge(&n);
    let mut out = Vec::new();
    let finish = |metric: Metric, q: f64| match label {
        Some(l) => with_label(&metric, l, &open_metrics_text(q)),
        None => metric,
    };
    for (q, _) in qs {
        for s in &mut native {
            let metric = named(s, step.delayed);
            let h: &Hist = s.h.as_ref().expect("native");
            let (f, n) = native_quantile(*q, h, value_of(&metric, "__name__"), span);
            notes.merge(&n);
            out.push(Sample { metric: finish(metric, *q), f, drop_name: true, ..Sample::default() });
        }
        for c in &mut classic {
            let (f, forced) = bucket_quantile(*q, &mut c.buckets);
            if let Some((low, high, diff)) = forced {
                let name = if step.delayed { value_of(&c.metric, "__name__") } else { "" };
                notes.add(Annotation::forced_monotonicity(name, span, step.t, low, high, diff));
            }
            let metric = if step.delayed { c.metric.clone() } else { without_metadata(&c.metric) };
            out.push(Sample { metric: finish(metric, *q), f, drop_name: true, ..Sample::default() });
        }
    }
    Ok((out, notes))
}

/// Calls a function with its vectors at a step.
pub fn call(name: &str, mut v: Vec<Vec<Sample>>, step: &Step) -> Outcome {
    let d = step.delayed;
    let none = || Ok((Vec::new(), Notes::default()));
    let one = |f: f64| Ok((vec![Sample::number(f)], Notes::default()));
    let scalar = |i: usize| v[i][0].f;
    let texts = || -> Vec<&str> { step.args[1..].iter().map(Node::text).collect() };
    match name {
        "time" => one(step.t as f64 / 1000.0),
        "pi" => one(std::f64::consts::PI),
        "vector" => one(scalar(0)),
        "max_of" => one(go_math::max(scalar(0), scalar(1))),
        "min_of" => one(go_math::min(scalar(0), scalar(1))),
        "scalar" => {
            let floats: Vec<f64> = v[0].iter().filter(|s| s.h.is_none()).map(|s| s.f).collect();
            one(if let [f] = floats[..] { f } else { f64::NAN })
        }
        "absent" => {
            if !v[0].is_empty() {
                return none();
            }
            let metric = absent_labels(&step.args[0]);
            Ok((vec![Sample { metric, f: 1.0, ..Sample::default() }], Notes::default()))
        }
        "timestamp" => {
            let out = v[0].iter().map(|s| Sample {
                metric: named(s, d),
                f: s.t as f64 / 1000.0,
                drop_name: true,
                ..Sample::default()
            });
            Ok((out.collect(), Notes::default()))
        }
        "start_timestamp" => none(),
        "abs" => map_floats(&v[0], d, f64::abs),
        "ceil" => map_floats(&v[0], d, f64::ceil),
        "floor" => map_floats(&v[0], d, f64::floor),
        "sqrt" => map_floats(&v[0], d, f64::sqrt),
        "exp" => map_floats(&v[0], d, go_math::exp),
        "ln" => map_floats(&v[0], d, go_math::log),
        "log2" => map_floats(&v[0], d, go_math::log2),
        "log10" => map_floats(&v[0], d, go_math::log10),
        "sin" => map_floats(&v[0], d, go_math::sin),
        "cos" => map_floats(&v[0], d, go_math::cos),
        "tan" => map_floats(&v[0], d, go_math::tan),
        "asin" => map_floats(&v[0], d, go_math::asin),
        "acos" => map_floats(&v[0], d, go_math::acos),
        "atan" => map_floats(&v[0], d, go_math::atan),
        "sinh" => map_floats(&v[0], d, go_math::sinh),
        "cosh" => map_floats(&v[0], d, go_math::cosh),
        "tanh" => map_floats(&v[0], d, go_math::tanh),
        "asinh" => map_floats(&v[0], d, go_math::asinh),
        "acosh" => map_floats(&v[0], d, go_math::acosh),
        "atanh" => map_floats(&v[0], d, go_math::atanh),
        "rad" => map_floats(&v[0], d, |x| x * std::f64::consts::PI / 180.0),
        "deg" => map_floats(&v[0], d, |x| x * 180.0 / std::f64::consts::PI),
        "sgn" => map_floats(&v[0], d, |x| {
            if x < 0.0 {
                -1.0
            } else if x > 0.0 {
                1.0
            } else {
                x
            }
        }),
        "round" => {
            let inverse = 1.0 / if step.args.len() > 1 { scalar(1) } else { 1.0 };
            map_floats(&v[0], d, |x| (x * inverse + 0.5).floor() / inverse)
        }
        "clamp" => clamp(&v[0], scalar(1), scalar(2), d),
        "clamp_max" => clamp(&v[0], f64::NEG_INFINITY, scalar(1), d),
        "clamp_min" => clamp(&v[0], scalar(1), f64::INFINITY, d),
        "days_in_month" => date(&v, step, |t| f64::from(days_in_month(t.year, t.month))),
        "day_of_month" => date(&v, step, |t| f64::from(t.day)),
        "day_of_week" => date(&v, step, |t| f64::from(t.weekday)),
        "day_of_year" => date(&v, step, |t| f64::from(t.yearday)),
        "hour" => date(&v, step, |t| f64::from(t.hour)),
        "minute" => date(&v, step, |t| f64::from(t.minute)),
        "month" => date(&v, step, |t| f64::from(t.month)),
        "year" => date(&v, step, |t| t.year as f64),
        "sort" | "sort_desc" => {
            let mut out: Vec<Sample> =
                std::mem::take(&mut v[0]).into_iter().filter(|s| s.h.is_none()).collect();
            let less = if name == "sort" { value_greater } else { value_less };
            go_sort(&mut out, |a, b| less(b.f, a.f));
            Ok((out, Notes::default()))
        }
        "sort_by_label" | "sort_by_label_desc" => {
            let labels = texts();
            let mut out = std::mem::take(&mut v[0]);
            sort_func(&mut out, |a, b| {
                let mut order = a.metric.cmp(&b.metric);
                for l in &labels {
                    let (x, y) = (value_of(&a.metric, l), value_of(&b.metric, l));
                    if x != y {
                        order = if natural_less(x, y) {
                            std::cmp::Ordering::Less
                        } else {
                            std::cmp::Ordering::Greater
                        };
                        break;
                    }
                }
                if name == "sort_by_label" { order } else { order.reverse() }
            });
            Ok((out, Notes::default()))
        }
        "histogram_count" => map_histograms(&v[0], d, |h| h.count),
        "histogram_sum" => map_histograms(&v[0], d, |h| h.sum),
        "histogram_avg" => map_histograms(&v[0], d, |h| h.sum / h.count),
        "histogram_stdvar" => map_histograms(&v[0], d, variance),
        "histogram_stddev" => map_histograms(&v[0], d, |h| variance(h).sqrt()),
        "histogram_quantile" => quantiles(&v[1], &[(scalar(0), step.spans[0])], None, step.spans[1], step),
        "histogram_quantiles" => {
            let qs: Vec<(f64, Span)> = (2..v.len()).map(|i| (scalar(i), step.spans[i])).collect();
            quantiles(&v[0], &qs, Some(step.args[1].text()), step.spans[0], step)
        }
        "histogram_fraction" => {
            let (lower, upper) = (scalar(0), scalar(1));
            let span = step.spans[2];
            let (native, classic, mut notes) = split(&v[2], span, d);
            let mut out = Vec::new();
            for s in native {
                let metric = named(&s, d);
                let h = s.h.as_ref().expect("native");
                let (f, n) = native_fraction(lower, upper, h, value_of(&metric, "__name__"), span);
                notes.merge(&n);
                out.push(Sample { metric, f, drop_name: true, ..Sample::default() });
            }
            for mut c in classic {
                let f = bucket_fraction(lower, upper, &mut c.buckets);
                let metric = if d { c.metric } else { without_metadata(&c.metric) };
                out.push(Sample { metric, f, drop_name: true, ..Sample::default() });
            }
            Ok((out, notes))
        }
        other => panic!("no function: {other}"),
    }
}
