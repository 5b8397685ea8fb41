//! Functions over windows, a window at a time.

use tsdbctl_model::histogram::HistogramError;
use tsdbctl_model::kahan::kahan_inc;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Span};
use tsdbctl_promql::functions::order::{go_sort, value_less};
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use crate::evaluate::{RangeArgument, Step};
use crate::value::{Hist, Metric, Notes, value_of};

/// A window of one series.
pub struct Window<'a> {
    pub metric: &'a Metric,
    pub floats: &'a [(i64, f64)],
    pub histograms: &'a [(i64, Hist)],
    pub arg: &'a RangeArgument,
}

/// A function's value.
pub enum Out {
    Float(f64),
    Histogram(Hist),
}

type Outcome = Result<(Option<Out>, Notes), String>;

fn float(f: f64) -> Outcome {
    Ok((Some(Out::Float(f)), Notes::default()))
}

fn nothing() -> Outcome {
    Ok((None, Notes::default()))
}

fn incompatible(e: &HistogramError) -> bool {
    matches!(e, HistogramError::IncompatibleSchema)
}

impl Window<'_> {
    fn name(&self) -> &str {
        value_of(self.metric, "__name__")
    }

    fn start(&self, t: i64) -> i64 {
        t - self.arg.range - self.arg.offset
    }

    fn end(&self, t: i64) -> i64 {
        t - self.arg.offset
    }

    fn seconds(&self) -> f64 {
        let (whole, rest) = (self.arg.range / 1000, self.arg.range % 1000);
        whole as f64 + (rest * 1_000_000) as f64 / 1e9
    }
}

fn interpolate(a: (i64, f64), b: (i64, f64), t: i64, counter: bool) -> f64 {
    let y1 = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    y1 + (b.1 - y1) * (t - a.0) as f64 / (b.0 - a.0) as f64
}

fn search(n: isize, yes: impl Fn(usize) -> bool) -> usize {
    (0..n.max(0) as usize).find(|i| yes(*i)).unwrap_or(n.max(0) as usize)
}

/// A bare extended selector's floats, with values at both edges.
pub fn extend(f: &[(i64, f64)], mint: i64, maxt: i64, smoothed: bool) -> Vec<(i64, f64)> {
    let mut last = f.len() - 1;
    let mut first = search(last as isize, |i| f[i].0 > mint).saturating_sub(1);
    if smoothed {
        last = search(last as isize, |i| f[i].0 >= maxt);
    }
    if f[last].0 <= mint {
        return Vec::new();
    }
    let left = left_value(f, first, mint, smoothed, false);
    let right = right_value(f, last, maxt, smoothed, false);
    if f[first].0 <= mint {
        first += 1;
    }
    let behind = if f[last].0 >= maxt { last } else { last + 1 };
    let mut out = vec![(mint, left)];
    out.extend_from_slice(if first < behind { &f[first..behind] } else { &[] });
    out.push((maxt, right));
    out
}

fn left_value(f: &[(i64, f64)], i: usize, start: i64, smoothed: bool, counter: bool) -> f64 {
    if smoothed && f[i].0 < start { interpolate(f[i], f[i + 1], start, counter) } else { f[i].1 }
}

fn right_value(f: &[(i64, f64)], i: usize, end: i64, smoothed: bool, counter: bool) -> f64 {
    if smoothed && i > 0 && f[i].0 > end { interpolate(f[i - 1], f[i], end, counter) } else { f[i].1 }
}

/// The value of a smoothed instant selector.
pub fn smooth_float(f: &[(i64, f64)], t: i64) -> Option<f64> {
    let i = search(f.len() as isize, |i| f[i].0 >= t);
    if i < f.len() && f[i].0 == t {
        Some(f[i].1)
    } else if i > 0 && i < f.len() {
        Some(interpolate(f[i - 1], f[i], t, false))
    } else if i > 0 {
        Some(f[i - 1].1)
    } else {
        None
    }
}

/// [`smooth_float`] of histograms.
pub fn smooth_histogram(
    h: &[(i64, Hist)],
    t: i64,
    name: &str,
    span: Span,
    notes: &mut Notes,
) -> Option<Hist> {
    let i = search(h.len() as isize, |i| h[i].0 >= t);
    if i < h.len() && h[i].0 == t {
        return Some(h[i].1.clone());
    }
    if i > 0 && i < h.len() {
        let (a, b) = (&h[i - 1], &h[i]);
        if a.1.uses_custom_buckets() != b.1.uses_custom_buckets() {
            notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
            return None;
        }
        let gauge = |h: &Hist| h.counter_reset_hint == CounterResetHint::Gauge;
        let counter = !gauge(&a.1) || !gauge(&b.1);
        return match interpolate_histograms(a, b, t, counter, notes, span) {
            Ok(h) => Some(h.into()),
            Err(e) => {
                if incompatible(&e) {
                    notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
                }
                None
            }
        };
    }
    if i > 0 {
        let mut out = (*h[i - 1].1).clone();
        out.counter_reset_hint = CounterResetHint::Unknown;
        return Some(out.into());
    }
    None
}

fn interpolate_histograms(
    a: &(i64, Hist),
    b: &(i64, Hist),
    t: i64,
    counter: bool,
    notes: &mut Notes,
    span: Span,
) -> Result<FloatHistogram, HistogramError> {
    if t == a.0 {
        return Ok((*a.1).clone());
    }
    if t == b.0 {
        return Ok((*b.1).clone());
    }
    let fraction = (t - a.0) as f64 / (b.0 - a.0) as f64;
    let mut out = (*b.1).clone();
    if counter && b.1.detect_reset(&a.1) {
        out.mul(fraction);
        return Ok(out);
    }
    if out.sub(&a.1)?.nhcb_bounds_reconciled {
        notes.add(Annotation::mismatched_custom_buckets(HistogramOperation::Subtraction, span));
    }
    out.mul(fraction);
    if out.add(&a.1)?.nhcb_bounds_reconciled {
        notes.add(Annotation::mismatched_custom_buckets(HistogramOperation::Addition, span));
    }
    Ok(out)
}

/// Adds or takes away, with notes; whether it went well.
fn combine(
    base: &mut FloatHistogram,
    other: &FloatHistogram,
    operation: HistogramOperation,
    notes: &mut Notes,
    name: &str,
    span: Span,
) -> bool {
    let result = if operation == HistogramOperation::Subtraction { base.sub(other) } else { base.add(other) };
    match result {
        Err(e) => {
            if incompatible(&e) {
                notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
            }
            false
        }
        Ok(o) => {
            if o.nhcb_bounds_reconciled {
                notes.add(Annotation::mismatched_custom_buckets(operation, span));
            }
            true
        }
    }
}

fn extended_floats(w: &Window, t: i64, counter: bool, per_second: bool) -> Outcome {
    let f = w.floats;
    let (start, end) = (w.start(t), w.end(t));
    let smoothed = w.arg.smoothed;
    let mut last = f.len() as isize - 1;
    let mut first = search(last, |i| f[i].0 > start).saturating_sub(1);
    if smoothed {
        last = search(last, |i| f[i].0 >= end) as isize;
    }
    if f[last as usize].0 <= start || smoothed && f[first].0 > end {
        return nothing();
    }
    let left = left_value(f, first, start, smoothed, counter);
    let right = right_value(f, last as usize, end, smoothed, counter);
    let mut result = right - left;
    if counter {
        if f[first].0 <= start {
            first += 1;
        }
        if f[last as usize].0 >= end {
            last -= 1;
        }
        let mut correction = 0.0;
        let mut previous = left;
        for p in f.iter().take((last + 1) as usize).skip(first) {
            if p.1 < previous {
                correction += previous;
            }
            previous = p.1;
        }
        if right < previous {
            correction += previous;
        }
        result += correction;
    }
    if per_second {
        result /= w.seconds();
    }
    float(result)
}

fn extended_histograms(w: &Window, step: &Step, counter: bool, per_second: bool) -> Outcome {
    let h = w.histograms;
    let (start, end) = (w.start(step.t), w.end(step.t));
    let smoothed = w.arg.smoothed;
    let (name, span) = (w.name(), step.spans[0]);
    let mut notes = Notes::default();
    let mut last = h.len() - 1;
    let first = search(last as isize, |i| h[i].0 > start).saturating_sub(1);
    if smoothed {
        last = search(last as isize, |i| h[i].0 >= end);
    }
    if h[last].0 <= start || smoothed && h[first].0 > end {
        return nothing();
    }
    let custom = h[first].1.uses_custom_buckets();
    for (_, x) in &h[first..=last] {
        if x.uses_custom_buckets() != custom {
            notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
            return Ok((None, notes));
        }
        if counter && x.counter_reset_hint == CounterResetHint::Gauge {
            notes.add(Annotation::native_histogram_not_counter(name, span));
        }
    }
    let left = if smoothed && h[first].0 < start {
        interpolate_histograms(&h[first], &h[first + 1], start, counter, &mut notes, span)
    } else {
        Ok((*h[first].1).clone())
    };
    let left = match left {
        Ok(left) => left,
        Err(e) => {
            if incompatible(&e) {
                notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
            }
            return Ok((None, notes));
        }
    };
    let right = if smoothed && last > 0 && h[last].0 > end {
        interpolate_histograms(&h[last - 1], &h[last], end, counter, &mut notes, span)
    } else {
        Ok((*h[last].1).clone())
    };
    let right = match right {
        Ok(right) => right,
        Err(e) => {
            if incompatible(&e) {
                notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
            }
            return Ok((None, notes));
        }
    };
    let gauge = CounterResetHint::Gauge;
    if !counter && (left.counter_reset_hint != gauge || right.counter_reset_hint != gauge) {
        notes.add(Annotation::native_histogram_not_gauge(name, span));
    }
    let mut result = right.clone();
    if !combine(&mut result, &left, HistogramOperation::Subtraction, &mut notes, name, span) {
        return Ok((None, notes));
    }
    if counter {
        let mut from = first + 1;
        let mut previous: &FloatHistogram = &left;
        if smoothed && h[first].0 < start && h[first + 1].1.detect_reset(&h[first].1) {
            previous = &h[first + 1].1;
            from += 1;
        }
        if from <= last {
            let mut correction: Option<FloatHistogram> = None;
            let others = h[from..last].iter().map(|p| &*p.1);
            for x in others.chain(std::iter::once(&right)) {
                if x.detect_reset(previous) {
                    match &mut correction {
                        None => correction = Some(previous.clone()),
                        Some(c) => {
                            if !combine(c, previous, HistogramOperation::Addition, &mut notes, name, span) {
                                return Ok((None, notes));
                            }
                        }
                    }
                }
                previous = x;
            }
            if let Some(c) = correction
                && !combine(&mut result, &c, HistogramOperation::Addition, &mut notes, name, span)
            {
                return Ok((None, notes));
            }
        }
    }
    if per_second {
        result.div(w.seconds());
    }
    result.counter_reset_hint = gauge;
    result.compact(0);
    Ok((Some(Out::Histogram(result.into())), notes))
}

fn start_reset(previous_st: i64, previous_t: i64, st: i64, t: i64) -> bool {
    if st == 0 || st >= t || st < previous_t {
        return false;
    }
    if st > previous_t {
        return true;
    }
    previous_st <= previous_t && previous_st != 0 && previous_st != previous_t
}

fn start_overlap(previous_st: i64, previous_t: i64, st: i64) -> bool {
    st != 0 && st < previous_t && st != previous_st
}

fn rate(w: &Window, step: &Step, counter: bool, per_second: bool) -> Outcome {
    let (name, span) = (w.name(), step.spans[0]);
    let mut notes = Notes::default();
    if !w.floats.is_empty() && !w.histograms.is_empty() {
        return Ok((None, Notes::of(Annotation::mixed_floats_histograms(name, span))));
    }
    if w.arg.anchored || w.arg.smoothed {
        return if w.histograms.is_empty() {
            extended_floats(w, step.t, counter, per_second)
        } else {
            extended_histograms(w, step, counter, per_second)
        };
    }
    let (start, end) = (w.start(step.t), w.end(step.t));
    let mut starts: &[i64] = &[];
    let mut result_float = 0.0;
    let mut result: Option<FloatHistogram> = None;
    let (first_t, last_t, gaps);
    if !w.histograms.is_empty() {
        let h = w.histograms;
        gaps = h.len() - 1;
        (first_t, last_t) = (h[0].0, h[gaps].0);
        if let Some((_, s)) = step.starts {
            starts = s;
        }
        if h.len() > 1 {
            let (r, n) = histogram_rate(h, starts, counter, name, span);
            notes.merge(&n);
            result = r;
            if result.is_none() {
                return Ok((None, notes));
            }
        }
    } else {
        let f = w.floats;
        gaps = f.len() - 1;
        (first_t, last_t) = (f[0].0, f[gaps].0);
        result_float = f[gaps].1 - f[0].1;
        if counter {
            if let Some((s, _)) = step.starts {
                starts = s;
            }
            let mut warned = false;
            for i in 1..f.len() {
                let known = i < starts.len();
                if !warned && known && start_overlap(starts[i - 1], f[i - 1].0, starts[i]) {
                    notes.add(Annotation::start_time_overlap(name, 1, span));
                    warned = true;
                }
                if f[i].1 < f[i - 1].1 || known && start_reset(starts[i - 1], f[i - 1].0, starts[i], f[i].0) {
                    result_float += f[i - 1].1;
                }
            }
        }
    }
    let mut to_start = (first_t - start) as f64 / 1000.0;
    let mut to_end = (end - last_t) as f64 / 1000.0;
    let mut sampled = (last_t - first_t) as f64 / 1000.0;
    let average = if gaps > 0 { sampled / gaps as f64 } else { 0.0 };
    let threshold = average * 1.1;
    let first_st = starts.first().copied().unwrap_or(0);
    if counter && first_st != 0 && first_st > start && first_st < first_t {
        to_start = 0.0;
        sampled = (last_t - first_st) as f64 / 1000.0;
        if let Some(f) = w.floats.first() {
            result_float += f.1;
        } else if let Some((_, h)) = w.histograms.first() {
            match &mut result {
                None => result = Some((**h).clone()),
                Some(r) => {
                    if !combine(r, h, HistogramOperation::Addition, &mut notes, name, span) {
                        return Ok((None, notes));
                    }
                }
            }
        }
    } else if gaps == 0 {
        return Ok((None, notes));
    } else {
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if counter {
            let mut to_zero = to_start;
            match (&result, w.floats.first(), w.histograms.first()) {
                (_, Some(f), _) if result_float > 0.0 && f.1 >= 0.0 => {
                    to_zero = sampled * (f.1 / result_float);
                }
                (Some(r), None, Some((_, h))) if r.count > 0.0 && h.count >= 0.0 => {
                    to_zero = sampled * (h.count / r.count);
                }
                _ => {}
            }
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if per_second {
        factor /= w.seconds();
    }
    let out = match result {
        None => Out::Float(result_float * factor),
        Some(mut h) => {
            h.mul(factor);
            Out::Histogram(h.into())
        }
    };
    Ok((Some(out), notes))
}

fn histogram_rate(
    points: &[(i64, Hist)],
    starts: &[i64],
    counter: bool,
    name: &str,
    span: Span,
) -> (Option<FloatHistogram>, Notes) {
    let mut notes = Notes::default();
    let gauge = CounterResetHint::Gauge;
    let last = &points[points.len() - 1].1;
    let mut first: Hist = points[0].1.clone();
    let mut custom = first.uses_custom_buckets();
    let mixed = || Annotation::mixed_exponential_custom_histograms(name, span);
    if counter && (first.counter_reset_hint == gauge || last.counter_reset_hint == gauge) {
        notes.add(Annotation::native_histogram_not_counter(name, span));
    }
    let st_reset =
        |i: usize| i < starts.len() && start_reset(starts[i - 1], points[i - 1].0, starts[i], points[i].0);
    if counter {
        let second = &points[1].1;
        if st_reset(1) || second.detect_reset(&first) {
            first = FloatHistogram {
                schema: second.schema,
                custom_values: second.custom_values.clone(),
                ..FloatHistogram::default()
            }
            .into();
            custom = second.uses_custom_buckets();
        }
    }
    if last.uses_custom_buckets() != custom {
        notes.add(mixed());
        return (None, notes);
    }
    let mut schema = last.schema.min(first.schema);
    if counter {
        for (_, h) in &points[1..points.len() - 1] {
            if h.counter_reset_hint == gauge {
                notes.add(Annotation::native_histogram_not_counter(name, span));
            }
            schema = schema.min(h.schema);
            if h.uses_custom_buckets() != custom {
                return (None, Notes::of(mixed()));
            }
        }
    }
    let mut h = match last.copy_to_schema(schema) {
        Ok(h) => h,
        Err(e) => panic!("upstream would panic: {e}"),
    };
    match h.sub(&first) {
        Err(e) if incompatible(&e) => return (None, Notes::of(mixed())),
        Err(_) => {}
        Ok(o) => {
            if o.nhcb_bounds_reconciled {
                notes.add(Annotation::mismatched_custom_buckets(HistogramOperation::Subtraction, span));
            }
        }
    }
    if counter {
        let mut previous = first;
        let mut warned = false;
        for i in 1..points.len() {
            let current = &points[i].1;
            if !warned && i < starts.len() && start_overlap(starts[i - 1], points[i - 1].0, starts[i]) {
                notes.add(Annotation::start_time_overlap(name, 1, span));
                warned = true;
            }
            if st_reset(i) || current.detect_reset(&previous) {
                match h.add(&previous) {
                    Err(e) if incompatible(&e) => return (None, Notes::of(mixed())),
                    Err(_) => {}
                    Ok(o) => {
                        if o.nhcb_bounds_reconciled {
                            notes.add(Annotation::mismatched_custom_buckets(
                                HistogramOperation::Addition,
                                span,
                            ));
                        }
                    }
                }
            }
            previous = current.clone();
        }
    } else if points[0].1.counter_reset_hint != gauge || last.counter_reset_hint != gauge {
        notes.add(Annotation::native_histogram_not_gauge(name, span));
    }
    h.counter_reset_hint = gauge;
    h.compact(0);
    (Some(h), notes)
}

fn instant(w: &Window, step: &Step, is_rate: bool) -> Outcome {
    if w.floats.len() + w.histograms.len() < 2 {
        return nothing();
    }
    let (name, span) = (w.name(), step.spans[0]);
    let mut notes = Notes::default();
    let (fs, hs) = step.starts.unwrap_or((&[], &[]));
    let st = |s: &[i64], i: usize| s.get(i).copied().unwrap_or(0);
    let mut all: Vec<(i64, i64, f64, Option<Hist>)> = Vec::new();
    for (i, p) in w.floats.iter().enumerate() {
        all.push((p.0, st(fs, i), p.1, None));
    }
    for (i, p) in w.histograms.iter().enumerate() {
        all.push((p.0, st(hs, i), 0.0, Some(p.1.clone())));
    }
    all.sort_by_key(|s| s.0);
    let b = all.pop().expect("two");
    let a = all.pop().expect("two");
    let interval = b.0 - a.0;
    if interval == 0 {
        return nothing();
    }
    let reset = start_reset(a.1, a.0, b.1, b.0);
    let seconds = interval as f64 / 1000.0;
    match (&a.3, &b.3) {
        (None, None) => {
            let mut f = b.2;
            if !is_rate || !(b.2 < a.2 || reset) {
                f = b.2 - a.2;
            }
            if is_rate {
                f /= seconds;
            }
            float(f)
        }
        (Some(ha), Some(hb)) => {
            let gauge = CounterResetHint::Gauge;
            let mut h = (**hb).clone();
            if is_rate && (ha.counter_reset_hint == gauge || hb.counter_reset_hint == gauge) {
                notes.add(Annotation::native_histogram_not_counter(name, span));
            }
            if !is_rate && (ha.counter_reset_hint != gauge || hb.counter_reset_hint != gauge) {
                notes.add(Annotation::native_histogram_not_gauge(name, span));
            }
            if !is_rate || !reset && !hb.detect_reset(ha) {
                match h.sub(ha) {
                    Err(e) if incompatible(&e) => {
                        notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
                        return Ok((None, notes));
                    }
                    Err(_) => {}
                    Ok(o) => {
                        if o.nhcb_bounds_reconciled {
                            let it =
                                Annotation::mismatched_custom_buckets(HistogramOperation::Subtraction, span);
                            notes.add(it);
                        }
                    }
                }
            }
            h.counter_reset_hint = gauge;
            h.compact(0);
            if is_rate {
                h.div(seconds);
            }
            Ok((Some(Out::Histogram(h.into())), notes))
        }
        _ => {
            notes.add(Annotation::mixed_floats_histograms(name, span));
            Ok((None, notes))
        }
    }
}

/// A quantile of numbers as the aggregation takes it.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    go_sort(values, |a, b| value_less(*a, *b));
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (n - 1.0).min(lower + 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

fn regression(f: &[(i64, f64)], origin: i64) -> (f64, f64) {
    let mut n = 0.0;
    let (mut x, mut cx, mut y, mut cy) = (0.0, 0.0, 0.0, 0.0);
    let (mut xy, mut cxy, mut x2, mut cx2) = (0.0, 0.0, 0.0, 0.0);
    let mut constant = true;
    for (i, p) in f.iter().enumerate() {
        if i > 0 && p.1 != f[0].1 {
            constant = false;
        }
        n += 1.0;
        let dx = (p.0 - origin) as f64 / 1e3;
        kahan_inc(dx, &mut x, &mut cx);
        kahan_inc(p.1, &mut y, &mut cy);
        kahan_inc(dx * p.1, &mut xy, &mut cxy);
        kahan_inc(dx * dx, &mut x2, &mut cx2);
    }
    if constant {
        return if f[0].1.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, f[0].1) };
    }
    x += cx;
    y += cy;
    xy += cxy;
    x2 += cx2;
    let covariance = xy - x * y / n;
    let variance = x2 - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// A sum or average, and whether bounds were reconciled on the way.
type Folded = (Result<FloatHistogram, HistogramError>, bool);

fn sum_histograms(h: &[(i64, Hist)]) -> Folded {
    let mut reconciled = false;
    let mut sum = (*h[0].1).clone();
    let mut c = None;
    for (_, x) in &h[1..] {
        match sum.kahan_add(x, c.take()) {
            Err(e) => return (Err(e), reconciled),
            Ok((next, o)) => {
                c = Some(next);
                reconciled |= o.nhcb_bounds_reconciled;
            }
        }
    }
    if let Some(c) = c {
        match sum.add(&c) {
            Err(e) => return (Err(e), reconciled),
            Ok(o) => reconciled |= o.nhcb_bounds_reconciled,
        }
    }
    (Ok(sum), reconciled)
}

fn average_histograms(h: &[(i64, Hist)]) -> Folded {
    let mut reconciled = false;
    let mut sum = (*h[0].1).clone();
    let mut c: Option<FloatHistogram> = None;
    let mut mean: Option<FloatHistogram> = None;
    let mut count = 1.0;
    for (i, (_, x)) in h[1..].iter().enumerate() {
        count = (i + 2) as f64;
        if mean.is_none() {
            let mut next = sum.clone();
            match next.kahan_add(x, c.clone()) {
                Err(e) => return (Err(e), reconciled),
                Ok((next_c, o)) => {
                    reconciled |= o.nhcb_bounds_reconciled;
                    if !next.has_overflow() {
                        (sum, c) = (next, Some(next_c));
                        continue;
                    }
                }
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
        let mut part = (**x).clone();
        part.div(count);
        let m = mean.as_mut().expect("set");
        m.mul(q);
        match m.kahan_add(&part, c.take()) {
            Err(e) => return (Err(e), reconciled),
            Ok((next, o)) => {
                c = Some(next);
                reconciled |= o.nhcb_bounds_reconciled;
            }
        }
    }
    let mut out = match mean {
        Some(m) => m,
        None => {
            sum.div(count);
            if let Some(c) = &mut c {
                c.div(count);
            }
            sum
        }
    };
    if let Some(c) = c
        && let Err(e) = out.add(&c)
    {
        return (Err(e), reconciled);
    }
    (Ok(out), reconciled)
}

fn fold_histograms(w: &Window, step: &Step, fold: fn(&[(i64, Hist)]) -> Folded) -> Outcome {
    let (name, span) = (w.name(), step.spans[0]);
    let (result, reconciled) = fold(w.histograms);
    let mut notes = Notes::default();
    // What an error cut short was not looked at; but then only the error's own note is given.
    let seen = |hint| w.histograms.iter().any(|h| h.1.counter_reset_hint == hint);
    if seen(CounterResetHint::CounterReset) && seen(CounterResetHint::NotCounterReset) {
        notes.add(Annotation::histogram_counter_reset_collision(HistogramOperation::Aggregation, span));
    }
    if reconciled {
        notes.add(Annotation::mismatched_custom_buckets(HistogramOperation::Aggregation, span));
    }
    match result {
        Ok(h) => Ok((Some(Out::Histogram(h.into())), notes)),
        Err(e) if incompatible(&e) => {
            Ok((None, Notes::of(Annotation::mixed_exponential_custom_histograms(name, span))))
        }
        Err(e) => panic!("not seen upstream: {e}"),
    }
}

fn count_pairs(w: &Window, step: &Step, resets: bool) -> Outcome {
    let (f, h) = (w.floats, w.histograms);
    let (mut first_f, mut first_h) = (0, 0);
    if w.arg.anchored {
        let start = w.start(step.t);
        let before_f = f.iter().filter(|p| p.0 <= start).count();
        let before_h = h.iter().filter(|p| p.0 <= start).count();
        if before_f >= f.len() && before_h >= h.len() {
            return nothing();
        }
        if before_f == 0 && before_h == 0 {
        } else if before_h == 0 || before_f > 0 && f[before_f - 1].0 >= h[before_h - 1].0 {
            (first_f, first_h) = (before_f - 1, before_h);
        } else {
            (first_f, first_h) = (before_f, before_h - 1);
        }
    }
    let (fs, hs) = step.starts.unwrap_or((&[], &[]));
    let st = |s: &[i64], i: usize| s.get(i).copied().unwrap_or(0);
    let mut all: Vec<(i64, i64, f64, Option<&Hist>)> = Vec::new();
    all.extend(f.iter().enumerate().skip(first_f).map(|(i, p)| (p.0, st(fs, i), p.1, None)));
    all.extend(h.iter().enumerate().skip(first_h).map(|(i, p)| (p.0, st(hs, i), 0.0, Some(&p.1))));
    all.sort_by_key(|s| s.0);
    let mut n = 0.0;
    for pair in all.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let started = resets && start_reset(a.1, a.0, b.1, b.0);
        let counts = match (a.3, b.3) {
            (None, None) if resets => b.2 < a.2 || started,
            (None, None) => b.2 != a.2 && !(a.2.is_nan() && b.2.is_nan()),
            (Some(ha), Some(hb)) if resets => started || hb.detect_reset(ha),
            (Some(ha), Some(hb)) => !hb.equals(ha),
            _ => true,
        };
        if counts {
            n += 1.0;
        }
    }
    float(n)
}

/// Calls a function over a window that is not empty.
pub fn call(name: &str, scalars: &[f64], w: &Window, step: &Step) -> Outcome {
    let span = step.spans[0];
    let ignored = || Annotation::histogram_ignored_in_mixed_range(w.name(), span);
    let f = w.floats;
    // The functions that look at floats alone.
    let floats_only = |value: &dyn Fn() -> f64| -> Outcome {
        if f.is_empty() {
            return nothing();
        }
        let mut notes = Notes::default();
        if !w.histograms.is_empty() {
            notes.add(ignored());
        }
        Ok((Some(Out::Float(value())), notes))
    };
    let two_floats = |value: &dyn Fn() -> f64| -> Outcome {
        if f.len() < 2 {
            let mixed = f.len() == 1 && !w.histograms.is_empty();
            return Ok((None, if mixed { Notes::of(ignored()) } else { Notes::default() }));
        }
        floats_only(value)
    };
    let best = |better: fn(f64, f64) -> bool| {
        let mut best = f[0];
        for p in f {
            if better(p.1, best.1) || best.1.is_nan() {
                best = *p;
            }
        }
        best
    };
    let variance = || {
        let (mut n, mut mean, mut cm, mut aux, mut ca) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (_, v) in f {
            n += 1.0;
            let delta = v - (mean + cm);
            kahan_inc(delta / n, &mut mean, &mut cm);
            kahan_inc(delta * (v - (mean + cm)), &mut aux, &mut ca);
        }
        (aux + ca) / n
    };
    let is_mixed = !f.is_empty() && !w.histograms.is_empty();
    let mixed = || Ok((None, Notes::of(Annotation::mixed_floats_histograms(w.name(), span))));
    match name {
        "rate" => rate(w, step, true, true),
        "increase" => rate(w, step, true, false),
        "delta" => rate(w, step, false, false),
        "irate" => instant(w, step, true),
        "idelta" => instant(w, step, false),
        "changes" => count_pairs(w, step, false),
        "resets" => count_pairs(w, step, true),
        "count_over_time" => float((f.len() + w.histograms.len()) as f64),
        "present_over_time" | "absent_over_time" => float(1.0),
        "first_over_time" => match (f.first(), w.histograms.first()) {
            (Some(p), None) => float(p.1),
            (Some(p), Some(h)) if p.0 < h.0 => float(p.1),
            (_, Some(h)) => Ok((Some(Out::Histogram(h.1.clone())), Notes::default())),
            (None, None) => nothing(),
        },
        "last_over_time" => match (f.last(), w.histograms.last()) {
            (Some(p), None) => float(p.1),
            (Some(p), Some(h)) if h.0 < p.0 => float(p.1),
            (_, Some(h)) => Ok((Some(Out::Histogram(h.1.clone())), Notes::default())),
            (None, None) => nothing(),
        },
        "ts_of_first_over_time" => {
            let t = f
                .first()
                .map(|p| p.0)
                .unwrap_or(i64::MAX)
                .min(w.histograms.first().map_or(i64::MAX, |p| p.0));
            float(t as f64 / 1000.0)
        }
        "ts_of_last_over_time" => {
            // An absent kind counts as time 0.
            let t = f.last().map_or(0, |p| p.0).max(w.histograms.last().map_or(0, |p| p.0));
            float(t as f64 / 1000.0)
        }
        "max_over_time" => floats_only(&|| best(|a, b| a > b).1),
        "min_over_time" => floats_only(&|| best(|a, b| a < b).1),
        "ts_of_max_over_time" => floats_only(&|| best(|a, b| a >= b).0 as f64 / 1000.0),
        "ts_of_min_over_time" => floats_only(&|| best(|a, b| a <= b).0 as f64 / 1000.0),
        "mad_over_time" => floats_only(&|| {
            if f.iter().any(|p| p.1.is_nan()) {
                return f64::NAN;
            }
            let mut values: Vec<f64> = f.iter().map(|p| p.1).collect();
            let median = quantile(0.5, &mut values);
            values.iter_mut().for_each(|v| *v = (*v - median).abs());
            quantile(0.5, &mut values)
        }),
        "stdvar_over_time" => floats_only(&variance),
        "stddev_over_time" => floats_only(&|| variance().sqrt()),
        "deriv" => two_floats(&|| regression(f, f[0].0).0),
        "predict_linear" => two_floats(&|| {
            let (slope, intercept) = regression(f, step.t);
            slope * scalars[0] + intercept
        }),
        "quantile_over_time" => {
            let q = scalars[0];
            if f.is_empty() {
                return nothing();
            }
            let mut notes = Notes::default();
            if q.is_nan() || !(0.0..=1.0).contains(&q) {
                notes.add(Annotation::invalid_quantile(q, step.spans[0]));
            }
            if !w.histograms.is_empty() {
                notes.add(ignored());
            }
            let mut values: Vec<f64> = f.iter().map(|p| p.1).collect();
            Ok((Some(Out::Float(quantile(q, &mut values))), notes))
        }
        "double_exponential_smoothing" => {
            let (sf, tf) = (scalars[0], scalars[1]);
            for (word, x) in [("smoothing", sf), ("trend", tf)] {
                if x <= 0.0 || x >= 1.0 {
                    let letter = &word[..1];
                    let x = tsdbctl_model::float_text::format_f_precision(x, 6);
                    return Err(format!("invalid {word} factor. Expected: 0 < {letter}f < 1, got: {x}"));
                }
            }
            two_floats(&|| {
                let (mut s0, mut s1, mut b) = (0.0, f[0].1, f[1].1 - f[0].1);
                for (i, p) in f.iter().enumerate().skip(1) {
                    let x = sf * p.1;
                    if i > 1 {
                        let u = tf * (s1 - s0);
                        let v = (1.0 - tf) * b;
                        b = u + v;
                    }
                    let y = (1.0 - sf) * (s1 + b);
                    (s0, s1) = (s1, x + y);
                }
                s1
            })
        }
        "sum_over_time" | "avg_over_time" if is_mixed => mixed(),
        "sum_over_time" if f.is_empty() => fold_histograms(w, step, sum_histograms),
        "avg_over_time" if f.is_empty() => fold_histograms(w, step, average_histograms),
        "sum_over_time" => {
            let (mut sum, mut c) = (0.0, 0.0);
            f.iter().for_each(|p| kahan_inc(p.1, &mut sum, &mut c));
            float(if sum.is_infinite() { sum } else { sum + c })
        }
        "avg_over_time" => {
            let (mut sum, mut c, mut mean, mut count) = (f[0].1, 0.0, 0.0, 1.0);
            let mut incremental = false;
            for (i, p) in f.iter().enumerate().skip(1) {
                count = (i + 1) as f64;
                if !incremental {
                    let (mut next, mut next_c) = (sum, c);
                    kahan_inc(p.1, &mut next, &mut next_c);
                    if !next.is_infinite() {
                        (sum, c) = (next, next_c);
                        continue;
                    }
                    incremental = true;
                    mean = sum / (count - 1.0);
                    c /= count - 1.0;
                }
                let q = (count - 1.0) / count;
                mean *= q;
                c *= q;
                kahan_inc(p.1 / count, &mut mean, &mut c);
            }
            float(if incremental { mean + c } else { sum / count + c / count })
        }
        other => panic!("no range function: {other}"),
    }
}
