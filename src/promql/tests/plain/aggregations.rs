//! Aggregations, a step at a time over whole matrices.

use std::collections::BTreeMap;

use tsdbctl_model::histogram::HistogramError;
use tsdbctl_model::kahan::kahan_inc;
use tsdbctl_model::{CounterResetHint, FloatHistogram};
use tsdbctl_promql::functions::order::{go_sort, value_greater, value_less};
use tsdbctl_promql::parser::ast::AggregateOp;
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use crate::evaluate::{Evaluator, take_at, with_label};
use crate::ranges::quantile;
use crate::tree::{Aggregate, Node};
use crate::value::{Hist, Matrix, Metric, Notes, Sample, Series, value_of};

/// The parameter of an aggregation at each step.
#[derive(Default)]
pub struct Params {
    values: Vec<f64>,
    constant: Option<f64>,
    min: f64,
    max: f64,
    nan: bool,
}

impl Params {
    pub fn new(node: &Node, m: Matrix) -> Self {
        let Some(s) = m.series.first() else { return Self::default() };
        let values: Vec<f64> = s.floats.iter().map(|p| p.1).collect();
        if matches!(node, Node::Number(..)) {
            let v = values[0];
            return Self { constant: Some(v), min: v, max: v, nan: v.is_nan(), values };
        }
        let (mut min, mut max, mut nan) = (f64::MAX, f64::MIN, false);
        for v in &values {
            max = tsdbctl_model::go_math::max(max, *v);
            min = tsdbctl_model::go_math::min(min, *v);
            nan |= v.is_nan();
        }
        Self { values, constant: None, min, max, nan }
    }

    fn at(&self, step: usize) -> f64 {
        self.constant.or(self.values.get(step).copied()).unwrap_or(0.0)
    }
}

fn group_labels(metric: &Metric, a: &Aggregate, grouping: &[String]) -> Metric {
    metric
        .iter()
        .filter(
            |(n, _)| if a.without { !grouping.contains(n) && *n != "__name__" } else { grouping.contains(n) },
        )
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

pub fn count_values(a: &Aggregate, label: &str, vector: Vec<Sample>) -> Vec<Sample> {
    let mut grouping = a.grouping.clone();
    if !a.without {
        grouping.push(label.to_string());
    }
    let mut order: Vec<Metric> = Vec::new();
    let mut counts: BTreeMap<Metric, f64> = BTreeMap::new();
    for s in vector {
        let text = match &s.h {
            None => tsdbctl_model::float_text::format_f(s.f),
            Some(h) => h.to_string(),
        };
        let metric = group_labels(&with_label(&s.metric, label, &text), a, &grouping);
        if !counts.contains_key(&metric) {
            order.push(metric.clone());
        }
        *counts.entry(metric).or_default() += 1.0;
    }
    let out = |m: Metric| Sample { f: counts[&m], metric: m, ..Sample::default() };
    order.into_iter().map(out).collect()
}

/// Aggregates a matrix.
pub fn aggregate(
    ev: &mut Evaluator,
    a: &Aggregate,
    mut input: Matrix,
    params: Params,
) -> Result<(Matrix, Notes), String> {
    let mut notes = Notes::default();
    let mut keys: Vec<Metric> = Vec::new();
    let mut group_of = Vec::new();
    for s in &input.series {
        let key = group_labels(&s.metric, a, &a.grouping);
        let i = keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        });
        group_of.push(i);
    }
    let span = a.param.as_ref().map(Node::span).unwrap_or_default();
    let several = group_of.len() > keys.len();
    match a.op {
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => {
            if params.max < 1.0 {
                return Ok((Matrix::default(), notes));
            }
            if params.nan {
                return Err("Parameter value is NaN".to_string());
            }
            let g = tsdbctl_model::float_text::format_g;
            if params.min <= i64::MIN as f64 {
                return Err(format!("Scalar value {} underflows int64", g(params.min)));
            }
            if params.max >= i64::MAX as f64 {
                return Err(format!("Scalar value {} overflows int64", g(params.max)));
            }
            if input.shuffled && several {
                ev.query.chosen_by_chance.set(true);
            }
        }
        AggregateOp::LimitRatio => {
            if params.max == 0.0 && params.min == 0.0 {
                return Ok((Matrix::default(), notes));
            }
            if params.nan {
                return Err("Ratio value is NaN".to_string());
            }
            if params.max > 1.0 {
                notes.add(Annotation::invalid_ratio(params.max, 1.0, span));
            }
            if params.min < -1.0 {
                notes.add(Annotation::invalid_ratio(params.min, -1.0, span));
            }
        }
        AggregateOp::Quantile => {
            if params.nan {
                notes.add(Annotation::invalid_quantile(f64::NAN, span));
            }
            if params.max > 1.0 {
                notes.add(Annotation::invalid_quantile(params.max, span));
            }
            if params.min < 0.0 {
                notes.add(Annotation::invalid_quantile(params.min, span));
            }
        }
        AggregateOp::Count | AggregateOp::Group => {}
        _ => {
            if input.shuffled && several {
                ev.query.loose.set(true);
                // Nothing compensates: where terms cancel no digit is owed.
                if matches!(a.op, AggregateOp::Stddev | AggregateOp::Stdvar) {
                    ev.query.chosen_by_chance.set(true);
                }
            }
        }
    }
    let choosing = matches!(
        a.op,
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio
    );
    let mut out: Vec<Series> = if choosing {
        Vec::new()
    } else {
        keys.iter().map(|k| Series { metric: k.clone(), ..Series::default() }).collect()
    };
    let times: Vec<i64> = ev.times().collect();
    for (step, t) in times.into_iter().enumerate() {
        let param = params.at(step);
        // One slot per group: its members at this step.
        let mut members: Vec<Vec<Sample>> = vec![Vec::new(); keys.len()];
        let mut notes_in_order: Vec<usize> = Vec::new();
        for (s, group) in input.series.iter_mut().zip(&group_of) {
            if let Some((f, h)) = take_at(s, t) {
                let m =
                    Sample { metric: s.metric.clone(), f, h, drop_name: s.drop_name, ..Sample::default() };
                members[*group].push(m);
                notes_in_order.push(*group);
            }
        }
        if choosing {
            choose(a, param, input.series.len(), &members, &notes_in_order, &mut notes, |s| {
                let at =
                    if ev.start == ev.end { None } else { out.iter().position(|o| o.metric == s.metric) };
                let i = at.unwrap_or_else(|| {
                    out.push(Series {
                        metric: s.metric.clone(),
                        drop_name: s.drop_name,
                        ..Series::default()
                    });
                    out.len() - 1
                });
                match &s.h {
                    Some(h) => out[i].histograms.push((t, h.clone())),
                    None => out[i].floats.push((t, s.f)),
                }
            });
            continue;
        }
        for (group, members) in members.iter().enumerate() {
            let mut drop_name = None;
            match fold(a, param, members, &mut notes, &mut drop_name) {
                Some((_, Some(h))) => out[group].histograms.push((t, h)),
                Some((f, None)) => out[group].floats.push((t, f)),
                None => continue,
            }
            out[group].drop_name = drop_name.unwrap_or(false);
        }
    }
    out.retain(|s| !s.floats.is_empty() || !s.histograms.is_empty());
    let shuffled =
        if choosing { input.shuffled || ev.start != ev.end && out.len() > 1 } else { input.shuffled };
    Ok((Matrix { series: out, shuffled }, notes))
}

/// Sum or average of histograms on their way.
struct Histograms {
    value: FloatHistogram,
    compensation: Option<FloatHistogram>,
    mean: Option<FloatHistogram>,
    reset: bool,
    no_reset: bool,
}

fn fold(
    a: &Aggregate,
    param: f64,
    members: &[Sample],
    notes: &mut Notes,
    drop_name: &mut Option<bool>,
) -> Option<(f64, Option<Hist>)> {
    let span = a.expr.span();
    let op = a.op;
    let ignores = matches!(
        op,
        AggregateOp::Stddev
            | AggregateOp::Stdvar
            | AggregateOp::Quantile
            | AggregateOp::Min
            | AggregateOp::Max
    );
    if ignores && members.iter().any(|s| s.h.is_some()) {
        notes.add(Annotation::histogram_ignored_in_aggregation(op.as_str(), span));
    }
    let used: Vec<&Sample> = members.iter().filter(|s| !ignores || s.h.is_none()).collect();
    // A histogram before the first float of a group leaves no trace, one behind it marks the group.
    let first = members.iter().position(|s| !ignores || s.h.is_none())?;
    if !matches!(op, AggregateOp::Sum | AggregateOp::Avg) {
        *drop_name = Some(members[first..].iter().any(|s| s.drop_name));
    }
    let values = || used.iter().map(|s| s.f);
    match op {
        AggregateOp::Group => return Some((1.0, None)),
        AggregateOp::Count => return Some((used.len() as f64, None)),
        AggregateOp::Min | AggregateOp::Max => {
            let mut best = used[0].f;
            for v in values().skip(1) {
                let better = if op == AggregateOp::Min { best > v } else { best < v };
                if better || best.is_nan() {
                    best = v;
                }
            }
            return Some((best, None));
        }
        AggregateOp::Stddev | AggregateOp::Stdvar => {
            let mut mean = used[0].f;
            let mut value = if mean.is_finite() { 0.0 } else { f64::NAN };
            let mut n = 1.0;
            for v in values().skip(1) {
                n += 1.0;
                let delta = v - mean;
                mean += delta / n;
                value += delta * (v - mean);
            }
            let variance = value / n;
            return Some((if op == AggregateOp::Stddev { variance.sqrt() } else { variance }, None));
        }
        AggregateOp::Quantile => {
            let mut all: Vec<f64> = values().collect();
            return Some((quantile(param, &mut all), None));
        }
        _ => {}
    }

    // sum and avg
    let average = op == AggregateOp::Avg;
    let (mut has_float, mut has_histogram, mut broken) = (false, false, false);
    let (mut value, mut c, mut mean, mut incremental) = (used[0].f, 0.0, used[0].f, false);
    let mut n = 1.0;
    let mut hs: Option<Histograms> = None;
    let track = |hs: &mut Histograms, h: &FloatHistogram| match h.counter_reset_hint {
        CounterResetHint::CounterReset => hs.reset = true,
        CounterResetHint::NotCounterReset => hs.no_reset = true,
        _ => {}
    };
    let mut drops = used[0].drop_name;
    for (i, s) in used.iter().enumerate() {
        if i == 0 {
            match &s.h {
                None => has_float = true,
                Some(h) => {
                    has_histogram = true;
                    let mut first = Histograms {
                        value: (**h).clone(),
                        compensation: None,
                        mean: None,
                        reset: false,
                        no_reset: false,
                    };
                    track(&mut first, h);
                    hs = Some(first);
                }
            }
            continue;
        }
        if broken {
            continue;
        }
        drops |= s.drop_name;
        n += 1.0;
        let Some(h) = &s.h else {
            has_float = true;
            if !average {
                kahan_inc(s.f, &mut value, &mut c);
                continue;
            }
            if !incremental {
                let (mut next, mut next_c) = (value, c);
                kahan_inc(s.f, &mut next, &mut next_c);
                if !next.is_infinite() {
                    (value, c) = (next, next_c);
                    continue;
                }
                incremental = true;
                mean = value / (n - 1.0);
                c /= n - 1.0;
            }
            let q = (n - 1.0) / n;
            mean *= q;
            c *= q;
            kahan_inc(s.f / n, &mut mean, &mut c);
            continue;
        };
        has_histogram = true;
        let Some(hs) = &mut hs else { continue };
        track(hs, h);
        let mut failed = |e: HistogramError, notes: &mut Notes| {
            if matches!(e, HistogramError::IncompatibleSchema) {
                let name = value_of(&s.metric, "__name__");
                notes.add(Annotation::mixed_exponential_custom_histograms(name, span));
            }
            broken = true;
        };
        let reconciled = Annotation::mismatched_custom_buckets(HistogramOperation::Aggregation, span);
        if !average {
            match hs.value.kahan_add(h, hs.compensation.take()) {
                Err(e) => failed(e, notes),
                Ok((next, o)) => {
                    hs.compensation = Some(next);
                    if o.nhcb_bounds_reconciled {
                        notes.add(reconciled);
                    }
                }
            }
            continue;
        }
        if hs.mean.is_none() {
            let mut next = hs.value.clone();
            match next.kahan_add(h, hs.compensation.clone()) {
                Err(e) => {
                    failed(e, notes);
                    continue;
                }
                Ok((next_c, o)) => {
                    if o.nhcb_bounds_reconciled {
                        notes.add(reconciled.clone());
                    }
                    if !next.has_overflow() {
                        (hs.value, hs.compensation) = (next, Some(next_c));
                        continue;
                    }
                }
            }
            let mut m = hs.value.clone();
            m.div(n - 1.0);
            hs.mean = Some(m);
            if let Some(c) = &mut hs.compensation {
                c.div(n - 1.0);
            }
        }
        let q = (n - 1.0) / n;
        if let Some(c) = &mut hs.compensation {
            c.mul(q);
        }
        let mut part = (**h).clone();
        part.div(n);
        let m = hs.mean.as_mut().expect("set");
        m.mul(q);
        match m.kahan_add(&part, hs.compensation.take()) {
            Err(e) => failed(e, notes),
            Ok((next, o)) => {
                hs.compensation = Some(next);
                if o.nhcb_bounds_reconciled {
                    notes.add(reconciled);
                }
            }
        }
    }
    if has_float && has_histogram {
        notes.add(Annotation::mixed_floats_histograms_aggregation(span));
        return None;
    }
    if broken {
        return None;
    }
    *drop_name = Some(drops);
    let Some(mut hs) = hs else {
        let f = match (average, incremental) {
            (false, _) => value + c,
            (true, true) => mean + c,
            (true, false) => value / n + c / n,
        };
        return Some((f, None));
    };
    if hs.reset && hs.no_reset {
        notes.add(Annotation::histogram_counter_reset_collision(HistogramOperation::Aggregation, span));
    }
    let mut out = match hs.mean.take() {
        Some(m) => m,
        None => {
            if average {
                hs.value.div(n);
                if let Some(c) = &mut hs.compensation {
                    c.div(n);
                }
            }
            hs.value
        }
    };
    if let Some(c) = &hs.compensation {
        let _ = out.add(c);
    }
    out.compact(0);
    Some((0.0, Some(out.into())))
}

/// Go's `container/heap` over samples.
struct Heap {
    items: Vec<Sample>,
    less: fn(f64, f64) -> bool,
}

impl Heap {
    fn less(&self, i: usize, j: usize) -> bool {
        (self.less)(self.items[i].f, self.items[j].f)
    }

    fn push(&mut self, s: Sample) {
        self.items.push(s);
        let mut j = self.items.len() - 1;
        while j > 0 {
            let i = (j - 1) / 2;
            if !self.less(j, i) {
                break;
            }
            self.items.swap(i, j);
            j = i;
        }
    }

    fn fix_first(&mut self) {
        let n = self.items.len();
        let mut i = 0;
        loop {
            let left = 2 * i + 1;
            if left >= n {
                break;
            }
            let mut j = left;
            if left + 1 < n && self.less(left + 1, left) {
                j = left + 1;
            }
            if !self.less(j, i) {
                break;
            }
            self.items.swap(i, j);
            i = j;
        }
    }
}

fn choose(
    a: &Aggregate,
    param: f64,
    inputs: usize,
    members: &[Vec<Sample>],
    order: &[usize],
    notes: &mut Notes,
    mut give: impl FnMut(&Sample),
) {
    if order.is_empty() {
        return;
    }
    let ranked = matches!(a.op, AggregateOp::TopK | AggregateOp::BottomK);
    let k = tsdbctl_model::go_math::to_i64(param).min(inputs as i64);
    if a.op == AggregateOp::LimitRatio {
        if param == 0.0 {
            return;
        }
    } else if k < 1 {
        return;
    }
    if ranked && members.iter().flatten().any(|s| s.h.is_some()) {
        notes.add(Annotation::histogram_ignored_in_aggregation(a.op.as_str(), a.span));
    }
    for members in members {
        match a.op {
            AggregateOp::LimitK => {
                // The heap is made by upstream's pushes, whose order is by value.
                let mut heap = Heap { items: Vec::new(), less: value_less };
                for s in members.iter().take(k as usize) {
                    heap.push(s.clone());
                }
                heap.items.iter().for_each(&mut give);
            }
            AggregateOp::LimitRatio => {
                let r = param.clamp(-1.0, 1.0);
                let mut heap = Heap { items: Vec::new(), less: value_less };
                for s in members {
                    let labels = tsdbctl_model::Labels::from_pairs(
                        s.metric.iter().map(|(n, v)| (n.as_str(), v.as_str())),
                    );
                    let place = labels.packed_hash() as f64 / u64::MAX as f64;
                    if r >= 0.0 && place < r || r < 0.0 && place >= 1.0 + r {
                        heap.push(s.clone());
                    }
                }
                heap.items.iter().for_each(&mut give);
            }
            _ => {
                let top = a.op == AggregateOp::TopK;
                let less: fn(f64, f64) -> bool = if top { value_less } else { value_greater };
                let mut heap = Heap { items: Vec::new(), less };
                for s in members.iter().filter(|s| s.h.is_none()) {
                    if (heap.items.len() as i64) < k {
                        heap.push(s.clone());
                        continue;
                    }
                    let worst = heap.items[0].f;
                    let better = if top { worst < s.f } else { worst > s.f };
                    if better || worst.is_nan() && !s.f.is_nan() {
                        heap.items[0] = s.clone();
                        if k > 1 {
                            heap.fix_first();
                        }
                    }
                }
                if heap.items.len() > 1 {
                    go_sort(&mut heap.items, |x, y| less(y.f, x.f));
                }
                heap.items.iter().for_each(&mut give);
            }
        }
    }
}
