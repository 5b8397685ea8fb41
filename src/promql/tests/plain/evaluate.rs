//! The plain evaluator: whole matrices, a step at a time, in upstream's order of work.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{CounterResetHint, Matcher, Span, SymbolTable};
use tsdbctl_promql::engine::{QueryOptions, QueryTime};
use tsdbctl_promql::parser::ast::{AggregateOp, BinaryOp, ValueType, VectorMatching};
use tsdbctl_storage::annotations::Annotation;
use tsdbctl_storage::querier::{ReadStats, SelectHints, TimeFilter};
use tsdbctl_storage::{Control, Queryable};

use crate::aggregations;
use crate::binary;
use crate::elements;
use crate::information;
use crate::iterate::{Buffered, Memoized, Raw, RawSeries, RawValue};
use crate::ranges;
use crate::tree::{Builder, Call, Node, Selector, Subquery, set_offsets};
use crate::value::{
    Counts, Matrix, Metric, Notes, Sample, Series, set_label, step_samples, value_of, weight, weights,
    without_metadata,
};

pub const TWINS: &str = "vector cannot contain metrics with the same labelset";
pub const TOO_MANY: &str = "query processing would load too many samples into memory in query execution";

/// What all evaluators of a query share.
pub struct Query<'a> {
    pub storage: &'a dyn Queryable,
    pub options: QueryOptions,
    /// Sums in an order of chance were taken: their last bits are not owed.
    pub loose: Cell<bool>,
    /// A choice among series in an order of chance was made: which ones is not owed.
    pub chosen_by_chance: Cell<bool>,
    /// A float and a histogram fell into one series at one time: upstream keeps both and goes astray.
    pub two_kinds: Cell<bool>,
}

impl Query<'_> {
    pub fn delayed(&self) -> bool {
        self.options.features.delayed_name_removal
    }

    /// All samples of the matching series, in the storage's order.
    pub fn select(&self, matchers: &[Matcher], stats_only: bool, bounds: (i64, i64)) -> Vec<RawSeries> {
        let control = Control::default();
        let (mint, maxt) = (-(1 << 50), 1 << 50);
        let querier = self.storage.querier(mint, maxt, &[], &control).expect("opens");
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
        let set = querier.select(&hints, matchers, &mut symbols, &control).expect("selects");
        (0..set.len())
            .map(|i| {
                let mut c = SampleColumns::default();
                set.read(i, &TimeFilter::all_between(mint, maxt), &mut c, &mut ReadStats::default())
                    .expect("reads");
                let floats = (0..c.floats.len()).map(|k| Raw {
                    t: c.floats.t[k],
                    st: c.floats.start_timestamp(k),
                    value: RawValue::Float(c.floats.v[k]),
                });
                let histograms = (0..c.histograms.len()).map(|k| Raw {
                    t: c.histograms.t[k],
                    st: c.histograms.start_timestamp(k),
                    value: RawValue::Histogram(c.histograms.h[k].clone()),
                });
                let mut samples: Vec<Raw> = floats.chain(histograms).collect();
                samples.retain(|r| bounds.0 <= r.t && r.t <= bounds.1);
                samples.sort_by_key(|r| r.t);
                let labels = symbols.labels(set.labels(i));
                let metric = labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
                RawSeries { metric, samples: Rc::new(samples), stats_only, drop_name: false }
            })
            .collect()
    }
}

/// What a step's function sees beside its inputs.
pub struct Step<'a> {
    pub t: i64,
    pub delayed: bool,
    pub args: &'a [Node],
    /// Spans of the arguments; a subquery has lost its own.
    pub spans: &'a [Span],
    /// Start timestamps of the window's floats and histograms, if wanted.
    pub starts: Option<(&'a [i64], &'a [i64])>,
}

pub type Outcome = Result<(Vec<Sample>, Notes), String>;

/// What is done at each step: time and inputs to samples.
type StepFunction<'f, 'a> = dyn FnMut(&mut Evaluator<'a>, i64, Vec<Vec<Sample>>) -> Outcome + 'f;

/// Evaluates over one grid.
pub struct Evaluator<'a> {
    pub query: &'a Query<'a>,
    pub start: i64,
    pub end: i64,
    pub interval: i64,
    pub current: i64,
    pub counts: Counts,
}

/// An answer.
pub struct Answer {
    pub value: AnswerValue,
    pub notes: Vec<String>,
    pub counts: Counts,
}

pub enum AnswerValue {
    Text(String),
    Scalar(f64),
    Vector(Vec<Sample>, bool),
    Matrix(Vec<Series>),
}

/// Evaluates an expression that is parsed and resolved.
pub fn evaluate(
    query: &Query,
    text: &str,
    expr: &tsdbctl_promql::parser::ast::Expr,
    time: QueryTime,
) -> Result<Answer, String> {
    let (start, end, interval) = match time {
        QueryTime::Instant(t) => (t, t, 1),
        QueryTime::Range { start, end, step } => (start, end, step),
    };
    let node = Builder { start, end, lookback: query.options.lookback_delta, in_param: Cell::new(false) }
        .build(expr);
    set_offsets(start, &node);
    let counts = Counts::tracking(start, end, interval);
    let mut ev = Evaluator { query, start, end, interval, current: 0, counts };
    if let Node::Text(s, _) = strip(&node) {
        return Ok(Answer { value: AnswerValue::Text(s.clone()), notes: Vec::new(), counts: ev.counts });
    }
    let (mut matrix, notes) = ev.eval(&node)?;
    if query.delayed() {
        for s in matrix.series.iter_mut().filter(|s| s.drop_name) {
            s.metric = without_metadata(&s.metric);
        }
        matrix = merge_twins(query, matrix)?;
    }
    let value = match (time, node.value_type()) {
        (QueryTime::Instant(_), ValueType::Scalar) => AnswerValue::Scalar(matrix.series[0].floats[0].1),
        (QueryTime::Instant(t), ValueType::Vector) => {
            let sample = |s: Series| match s.histograms.first() {
                Some((_, h)) => Sample { metric: s.metric, t, h: Some(h.clone()), ..Sample::default() },
                None => Sample { metric: s.metric, t, f: s.floats[0].1, ..Sample::default() },
            };
            AnswerValue::Vector(matrix.series.into_iter().map(sample).collect(), matrix.shuffled)
        }
        _ => {
            matrix.series.sort_by(|a, b| a.metric.cmp(&b.metric));
            AnswerValue::Matrix(matrix.series)
        }
    };
    Ok(Answer { value, notes: notes.render(text), counts: ev.counts })
}

fn strip(node: &Node) -> &Node {
    match node {
        Node::Paren(n, _) | Node::Invariant(n) => strip(n),
        n => n,
    }
}

/// Joins series of equal labels, if no two of them have a sample at one time.
pub fn merge_twins(query: &Query, matrix: Matrix) -> Result<Matrix, String> {
    if !matrix.has_twins() {
        return Ok(matrix);
    }
    let mut order: Vec<Metric> = Vec::new();
    let mut by: BTreeMap<Metric, Series> = BTreeMap::new();
    for s in matrix.series {
        match by.get_mut(&s.metric) {
            None => {
                order.push(s.metric.clone());
                by.insert(s.metric.clone(), s);
            }
            Some(base) => {
                base.floats.extend(s.floats);
                base.histograms.extend(s.histograms);
            }
        }
    }
    let mut series = Vec::new();
    for metric in order {
        let mut s = by.remove(&metric).expect("listed once");
        s.floats.sort_by_key(|p| p.0);
        s.histograms.sort_by_key(|p| p.0);
        if s.floats.windows(2).any(|w| w[0].0 == w[1].0) || s.histograms.windows(2).any(|w| w[0].0 == w[1].0)
        {
            return Err(TWINS.to_string());
        }
        if s.floats.iter().any(|f| s.histograms.iter().any(|h| h.0 == f.0)) {
            query.two_kinds.set(true);
        }
        series.push(s);
    }
    Ok(Matrix { series, shuffled: true })
}

/// The sample of a series at a time, taken off it.
pub fn take_at(series: &mut Series, t: i64) -> Option<(f64, Option<crate::value::Hist>)> {
    if series.floats.first().is_some_and(|p| p.0 == t) {
        return Some((series.floats.remove(0).1, None));
    }
    if series.histograms.first().is_some_and(|p| p.0 == t) {
        return Some((0.0, Some(series.histograms.remove(0).1)));
    }
    None
}

impl<'a> Evaluator<'a> {
    pub fn steps(&self) -> i64 {
        (self.end - self.start) / self.interval + 1
    }

    pub fn times(&self) -> impl Iterator<Item = i64> + use<> {
        let (start, interval) = (self.start, self.interval);
        (0..self.steps()).map(move |k| start + k * interval)
    }

    pub fn check(&self) -> Result<(), String> {
        if self.current > self.query.options.max_samples as i64 { Err(TOO_MANY.to_string()) } else { Ok(()) }
    }

    fn expand(&self, v: &Selector) -> Rc<Vec<RawSeries>> {
        let mut slot = v.series.borrow_mut();
        Rc::clone(slot.get_or_insert_with(|| Rc::new(self.query.select(&v.matchers, v.stats_only, v.bounds))))
    }

    /// Values of some inputs at a time; each counts as one sample while the step is computed.
    pub fn gather(&mut self, t: i64, matrix: &mut Matrix, groups: &[usize]) -> Result<Vec<Sample>, String> {
        let mut out = Vec::new();
        for (i, s) in matrix.series.iter_mut().enumerate() {
            if let Some((f, h)) = take_at(s, t) {
                let group = groups.get(i).copied().unwrap_or(0);
                out.push(Sample { metric: s.metric.clone(), t, f, h, drop_name: s.drop_name, group });
                self.current += 1;
                self.check()?;
            }
        }
        self.counts.see(self.current);
        Ok(out)
    }

    /// Evaluates the inputs, then `f` at each step (`rangeEval`).
    pub fn each_step(
        &mut self,
        inputs: &[&Node],
        matching: Option<&VectorMatching>,
        f: &mut StepFunction<'_, 'a>,
    ) -> Result<(Matrix, Notes), String> {
        let before = self.current;
        let mut notes = Notes::default();
        let mut matrices = Vec::new();
        for input in inputs {
            if input.value_type() == ValueType::String {
                matrices.push(Matrix::default());
                continue;
            }
            let (m, n) = self.eval(input)?;
            notes.merge(&n);
            matrices.push(m);
        }
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); matrices.len()];
        if let Some(matching) = matching {
            let mut ids: BTreeMap<Metric, usize> = BTreeMap::new();
            for (m, groups) in matrices.iter().zip(&mut groups) {
                for s in &m.series {
                    let next = ids.len();
                    groups.push(*ids.entry(binary::signature(&s.metric, matching)).or_insert(next));
                }
            }
        }
        let mut base = self.current;
        let mut order: Vec<Metric> = Vec::new();
        let mut by: BTreeMap<Metric, (Series, i64)> = BTreeMap::new();
        for t in self.times() {
            self.current = base;
            let mut vectors = Vec::new();
            for (m, groups) in matrices.iter_mut().zip(&groups) {
                vectors.push(self.gather(t, m, groups)?);
            }
            let (result, n) = f(self, t, vectors)?;
            notes.merge(&n);
            let n = step_samples(&result);
            self.current += n;
            base += n;
            self.counts.see(self.current);
            self.check()?;
            if self.start == self.end {
                if !self.query.delayed() {
                    let mut seen = BTreeSet::new();
                    if !result.iter().all(|s| seen.insert(s.metric.clone())) {
                        return Err(TWINS.to_string());
                    }
                }
                let series = result.into_iter().map(|s| single(s, t)).collect();
                let shuffled = matrices.iter().any(|m| m.shuffled);
                let matrix = Matrix { series, shuffled };
                self.current = before + matrix.samples();
                self.counts.see(self.current);
                return Ok((matrix, notes));
            }
            for s in result {
                match by.get_mut(&s.metric) {
                    Some((_, seen)) if *seen == t => return Err(TWINS.to_string()),
                    Some((series, seen)) => {
                        *seen = t;
                        push(series, t, s);
                    }
                    None => {
                        order.push(s.metric.clone());
                        let (metric, drop_name) = (s.metric.clone(), s.drop_name);
                        let mut series = Series { metric: metric.clone(), drop_name, ..Series::default() };
                        push(&mut series, t, s);
                        by.insert(metric, (series, t));
                    }
                }
            }
        }
        let series: Vec<Series> = order.iter().filter_map(|m| by.remove(m)).map(|(s, _)| s).collect();
        let shuffled = series.len() > 1;
        let matrix = Matrix { series, shuffled };
        self.current = before + matrix.samples();
        self.counts.see(self.current);
        Ok((matrix, notes))
    }

    pub fn eval(&mut self, node: &Node) -> Result<(Matrix, Notes), String> {
        if self.end < self.start {
            return Ok((Matrix::default(), Notes::default()));
        }
        match node {
            Node::Number(v, _) => {
                let v = *v;
                self.each_step(&[], None, &mut |_, _, _| Ok((vec![Sample::number(v)], Notes::default())))
            }
            Node::Text(..) => Ok((Matrix::default(), Notes::default())),
            Node::Paren(n, _) => self.eval(n),
            Node::Unary(negative, n, _) => {
                let (mut m, notes) = self.eval(n)?;
                if *negative {
                    for s in &mut m.series {
                        if !self.query.delayed() {
                            s.metric = without_metadata(&s.metric);
                        }
                        s.drop_name = true;
                        s.floats.iter_mut().for_each(|p| p.1 = -p.1);
                        for (_, h) in &mut s.histograms {
                            let mut negated = (**h).clone();
                            negated.mul(-1.0);
                            *h = negated.into();
                        }
                    }
                    if !self.query.delayed() {
                        m = merge_twins(self.query, m)?;
                    }
                }
                Ok((m, notes))
            }
            Node::Binary(b) => {
                let inputs = [&b.lhs, &b.rhs];
                let (l, r) = (b.lhs.value_type(), b.rhs.value_type());
                match (l, r) {
                    (ValueType::Scalar, ValueType::Scalar) => {
                        self.each_step(&inputs, None, &mut |_, _, v| {
                            let f = binary::scalars(b.op, v[0][0].f, v[1][0].f)?;
                            Ok((vec![Sample::number(f)], Notes::default()))
                        })
                    }
                    (ValueType::Vector, ValueType::Vector) => {
                        let matching = b.matching.as_ref().expect("of two vectors");
                        self.each_step(&inputs, Some(matching), &mut |ev, _, mut v| {
                            let rhs = v.pop().unwrap_or_default();
                            let lhs = v.pop().unwrap_or_default();
                            match b.op {
                                BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                                    Ok((binary::set_operation(b.op, lhs, rhs), Notes::default()))
                                }
                                _ => binary::vectors(b, matching, lhs, rhs, ev.query.delayed()),
                            }
                        })
                    }
                    (ValueType::Vector, _) => self.each_step(&inputs, None, &mut |ev, _, mut v| {
                        let scalar = v[1][0].f;
                        Ok(binary::with_scalar(
                            b,
                            std::mem::take(&mut v[0]),
                            scalar,
                            false,
                            ev.query.delayed(),
                        ))
                    }),
                    _ => self.each_step(&inputs, None, &mut |ev, _, mut v| {
                        let scalar = v[0][0].f;
                        Ok(binary::with_scalar(
                            b,
                            std::mem::take(&mut v[1]),
                            scalar,
                            true,
                            ev.query.delayed(),
                        ))
                    }),
                }
            }
            Node::Aggregate(a) if a.op == AggregateOp::CountValues => {
                let label = a.param.as_ref().expect("a label").text().to_string();
                if label.is_empty() {
                    return Err(format!("invalid label name {}", tsdbctl_model::quote::go_quote(&label)));
                }
                let (mut m, notes) = self.each_step(&[&a.expr], None, &mut |_, _, mut v| {
                    Ok((aggregations::count_values(a, &label, std::mem::take(&mut v[0])), Notes::default()))
                })?;
                m.shuffled = m.series.len() > 1;
                Ok((m, notes))
            }
            Node::Aggregate(a) => {
                let before = self.current;
                let mut notes = Notes::default();
                let mut params = aggregations::Params::default();
                if let Some(p) = &a.param {
                    let (m, n) = self.eval(p)?;
                    notes.merge(&n);
                    params = aggregations::Params::new(p, m);
                }
                let (input, n) = self.eval(&a.expr)?;
                notes.merge(&n);
                let (m, n) = aggregations::aggregate(self, a, input, params)?;
                notes.merge(&n);
                self.current = before + m.samples();
                self.counts.see(self.current);
                Ok((m, notes))
            }
            Node::Call(c) => self.call(c),
            Node::Vector(v) => {
                let series = self.expand(v);
                if v.smoothed {
                    return self.smooth(v, &series);
                }
                let m = self.instants(&series, v.offset.get(), false, None)?;
                Ok((m, Notes::default()))
            }
            Node::Matrix(v, range, _) => self.bare_range(v, *range),
            Node::Subquery(s) => {
                let (m, child, notes) = self.run_subquery(s)?;
                self.counts.see(child.peak);
                let at = self.counts.step_of(self.end);
                self.counts.total_at(at, child.total);
                let (start, interval, steps) = (self.start, self.interval, self.steps());
                self.counts.absorb_reads(&child, start, interval, steps, 0, 0);
                Ok((m, notes))
            }
            Node::Invariant(n) => self.invariant(n),
        }
    }

    fn invariant(&mut self, n: &Node) -> Result<(Matrix, Notes), String> {
        let mut child = Evaluator {
            query: self.query,
            start: self.start,
            end: self.start,
            interval: self.interval,
            current: self.current,
            counts: Counts::default(),
        };
        let (mut m, notes) = child.eval(n)?;
        self.current = child.current;
        self.counts.see(child.counts.peak);
        for k in 0..self.steps() as usize {
            self.counts.total_at(k, child.counts.total);
        }
        self.counts.read_at(0, child.counts.read);
        if matches!(n, Node::Matrix(..) | Node::Subquery(_)) {
            return Ok((m, notes));
        }
        for s in &mut m.series {
            for t in self.times().skip(1) {
                if let Some((_, v)) = s.floats.first().copied() {
                    s.floats.push((t, v));
                    self.current += 1;
                } else {
                    let h = s.histograms[0].1.clone();
                    self.current += weight(&h);
                    s.histograms.push((t, h));
                }
                self.check()?;
            }
        }
        self.counts.see(self.current);
        Ok((m, notes))
    }

    /// Newest samples at each step (`evalSeries`).
    pub fn instants(
        &mut self,
        series: &[RawSeries],
        offset: i64,
        original_times: bool,
        at: Option<i64>,
    ) -> Result<Matrix, String> {
        let lookback = self.query.options.lookback_delta;
        let mut out = Vec::new();
        for s in series {
            let mut it = Memoized::new(s, lookback);
            let mut result = Series { metric: s.metric.clone(), ..Series::default() };
            for (step, t) in self.times().enumerate() {
                let Some(raw) = it.newest(at.unwrap_or(t) - offset, lookback) else { continue };
                let n = match raw.value {
                    RawValue::Float(v) => {
                        result.floats.push((t, if original_times { raw.t as f64 } else { v }));
                        1
                    }
                    RawValue::Histogram(h) => {
                        if original_times {
                            let name = crate::value::text_of(&s.metric);
                            return Err(format!("this should be an info metric, with float samples: {name}"));
                        }
                        let n = weight(&h);
                        result.histograms.push((t, h));
                        n
                    }
                };
                self.current += n;
                self.counts.total_at(step, n);
                self.counts.read_at(step, n);
                self.check()?;
            }
            if !result.floats.is_empty() || !result.histograms.is_empty() {
                out.push(result);
            }
        }
        self.counts.see(self.current);
        Ok(Matrix { series: out, shuffled: false })
    }

    fn smooth(&mut self, v: &Selector, series: &[RawSeries]) -> Result<(Matrix, Notes), String> {
        let lookback = self.query.options.lookback_delta;
        let mut notes = Notes::default();
        let mut out = Vec::new();
        for s in series {
            let mut it = Buffered::new(s, self.end - self.start + 2 * lookback);
            let mut window = Window::default();
            let mut result = Series { metric: s.metric.clone(), ..Series::default() };
            let name = value_of(&s.metric, "__name__").to_string();
            for t in self.times() {
                let data_t = t - v.offset.get();
                self.slide(&mut it, data_t - lookback, data_t + lookback, &mut window)?;
                if !window.floats.is_empty() && !window.histograms.is_empty() {
                    notes.add(Annotation::mixed_floats_histograms(&name, v.span));
                } else if !window.histograms.is_empty() {
                    if let Some(h) =
                        ranges::smooth_histogram(&window.histograms, data_t, &name, v.span, &mut notes)
                    {
                        result.histograms.push((t, h));
                    }
                } else if !window.floats.is_empty()
                    && let Some(f) = ranges::smooth_float(&window.floats, data_t)
                {
                    result.floats.push((t, f));
                }
            }
            if !result.floats.is_empty() || !result.histograms.is_empty() {
                out.push(result);
            }
        }
        Ok((Matrix { series: out, shuffled: false }, notes))
    }

    /// Moves a window to `(mint, maxt]`, counting what it holds (`matrixIterSlice`).
    fn slide(&mut self, it: &mut Buffered, mint: i64, maxt: i64, w: &mut Window) -> Result<(), String> {
        let (mut after_float, mut after_histogram) = (mint, mint);
        self.current -= w.floats.len() as i64 + weights(&w.histograms);
        let gone = w.floats.iter().filter(|p| p.0 <= mint).count();
        w.floats.drain(..gone);
        w.float_starts.drain(..gone);
        let gone = w.histograms.iter().filter(|p| p.0 <= mint).count();
        w.histograms.drain(..gone);
        w.histogram_starts.drain(..gone);
        if let Some(last) = w.floats.last() {
            after_float = last.0;
        }
        if let Some(last) = w.histograms.last() {
            after_histogram = last.0;
        }
        self.current += w.floats.len() as i64 + weights(&w.histograms);
        if mint == maxt {
            return Ok(());
        }
        for raw in it.up_to(maxt) {
            match raw.value {
                RawValue::Float(v) if raw.t > after_float && !is_stale(v) => {
                    w.floats.push((raw.t, v));
                    w.float_starts.push(raw.st);
                    self.current += 1;
                }
                RawValue::Histogram(h) if raw.t > after_histogram && !h.is_stale() => {
                    self.current += weight(&h);
                    w.histograms.push((raw.t, h));
                    w.histogram_starts.push(raw.st);
                }
                _ => {}
            }
            self.check()?;
        }
        self.counts.see(self.current);
        Ok(())
    }

    fn bare_range(&mut self, v: &Selector, range: i64) -> Result<(Matrix, Notes), String> {
        let lookback = self.query.options.lookback_delta;
        let end = self.start - v.offset.get();
        let begin = end - range;
        let (mut mint, mut maxt) = (begin, end);
        if v.anchored || v.smoothed {
            mint -= lookback;
        }
        if v.smoothed {
            maxt += lookback;
        }
        let mut out = Vec::new();
        for s in self.expand(v).iter() {
            let mut it = Buffered::new(s, maxt - mint);
            let mut w = Window::default();
            self.slide(&mut it, mint, maxt, &mut w)?;
            if v.anchored || v.smoothed {
                if !w.histograms.is_empty() {
                    let word = if v.anchored { "anchored" } else { "smoothed" };
                    return Err(format!("{word} modifier is not supported with histograms"));
                }
                if !w.floats.is_empty() {
                    w.floats = ranges::extend(&w.floats, begin, end, v.smoothed);
                }
            }
            let n = w.floats.len() as i64 + weights(&w.histograms);
            let at = self.counts.step_of(self.start);
            self.counts.total_at(at, n);
            self.counts.read_at(at, n);
            if n > 0 {
                out.push(Series {
                    metric: s.metric.clone(),
                    floats: w.floats,
                    histograms: w.histograms,
                    drop_name: false,
                });
            }
        }
        Ok((Matrix { series: out, shuffled: false }, Notes::default()))
    }

    fn run_subquery(&mut self, s: &Subquery) -> Result<(Matrix, Counts, Notes), String> {
        let offset = s.offset.get();
        let last = self.start + (self.end - self.start) / self.interval * self.interval;
        let end = last - offset;
        let interval = if s.step != 0 { s.step } else { self.query.options.default_subquery_step };
        let before = self.start - offset - s.range;
        let mut start = interval * (before / interval);
        if start <= before {
            start += interval;
        }
        let mut child = Evaluator {
            query: self.query,
            start,
            end,
            interval,
            current: self.current,
            counts: Counts::tracking(start, end, interval),
        };
        if start != self.start {
            set_offsets(start, &s.expr);
        }
        let (m, notes) = child.eval(&s.expr)?;
        self.current = child.current;
        Ok((m, child.counts, notes))
    }

    fn call(&mut self, c: &Call) -> Result<(Matrix, Notes), String> {
        let name = c.func.name;
        if let ("timestamp" | "start_timestamp", Some(Node::Vector(v))) = (name, c.args.first()) {
            return self.timestamps(c, v);
        }
        let mut notes = Notes::default();
        let mut spans: Vec<Span> = c.args.iter().map(Node::span).collect();
        let at = c.args.iter().position(|a| matches!(a, Node::Matrix(..) | Node::Subquery(_)));
        let mut from_subquery = None;
        if let Some(i) = at
            && let Node::Subquery(s) = &c.args[i]
        {
            let (m, child, n) = self.run_subquery(s)?;
            self.counts.see(child.peak);
            let (start, interval, steps) = (self.start, self.interval, self.steps());
            self.counts.absorb_reads(&child, start, interval, steps, s.original_offset, s.range);
            notes.merge(&n);
            spans[i] = Span::default();
            from_subquery = Some(m);
        }
        let held = from_subquery.as_ref().map_or(0, Matrix::samples);
        let result = self.call_with(c, at, &spans, from_subquery, notes);
        self.current -= held;
        result
    }

    fn call_with(
        &mut self,
        c: &Call,
        at: Option<usize>,
        spans: &[Span],
        from_subquery: Option<Matrix>,
        mut notes: Notes,
    ) -> Result<(Matrix, Notes), String> {
        let name = c.func.name;
        match name {
            "label_replace" => return elements::label_replace(self, &c.args),
            "label_join" => return elements::label_join(self, &c.args),
            "info" => return information::info(self, &c.args),
            _ => {}
        }
        if name.starts_with("sort") && self.start != self.end {
            notes.add(Annotation::sort_in_range_query(c.span));
        }
        let delayed = self.query.delayed();
        let Some(at) = at else {
            let inputs: Vec<&Node> = c.args.iter().collect();
            let instant = self.start == self.end;
            let (mut m, all) = self.each_step(&inputs, None, &mut |_, t, vectors| {
                let step = Step { t, delayed, args: &c.args, spans, starts: None };
                let (out, n) = elements::call(name, vectors, &step)?;
                notes.merge(&n);
                Ok((out, notes.clone()))
            })?;
            if instant && matches!(name, "histogram_quantile" | "histogram_quantiles" | "histogram_fraction")
            {
                m.shuffled = m.series.len() > 1;
            }
            if instant && name.starts_with("sort_by_label") {
                m.shuffled = false;
            }
            return Ok((m, all));
        };

        let mut scalars: Vec<Vec<f64>> = Vec::new();
        for (i, a) in c.args.iter().enumerate().filter(|(i, _)| *i != at) {
            let (m, n) = self.eval(a)?;
            notes.merge(&n);
            let _ = i;
            scalars
                .push(m.series.first().map(|s| s.floats.iter().map(|p| p.1).collect()).unwrap_or_default());
        }
        let shuffled = from_subquery.as_ref().is_some_and(|m| m.shuffled);
        let (series, arg) = match (&c.args[at], from_subquery) {
            (Node::Subquery(s), Some(m)) => {
                let offset = match s.timestamp {
                    Some(t) => s.original_offset + self.start - t,
                    None => s.offset.get(),
                };
                let arg = RangeArgument {
                    range: s.range,
                    offset,
                    fixed: s.timestamp.is_some(),
                    anchored: false,
                    smoothed: false,
                };
                (Rc::new(m.series.into_iter().map(stored).collect()), arg)
            }
            (Node::Matrix(v, range, _), _) => {
                let arg = RangeArgument {
                    range: *range,
                    offset: v.offset.get(),
                    fixed: v.timestamp.is_some(),
                    anchored: v.anchored,
                    smoothed: v.smoothed,
                };
                let known: &[&str] = &["changes", "delta", "increase", "rate", "resets"];
                let known_smoothed: &[&str] = &["delta", "increase", "rate"];
                let refuse = |word: &str, known: &[&str]| {
                    format!("{word} modifier can only be used with: {} - not with {name}", known.join(", "))
                };
                if v.anchored && !known.contains(&name) {
                    return Err(refuse("anchored", known));
                }
                if v.smoothed && !known_smoothed.contains(&name) {
                    return Err(refuse("smoothed", known_smoothed));
                }
                (self.expand(v), arg)
            }
            other => unreachable!("no range: {other:?}"),
        };
        let before_windows = self.current;
        let lookback = self.query.options.lookback_delta;
        let extra = if arg.smoothed {
            2 * lookback
        } else if arg.anchored {
            lookback
        } else {
            0
        };
        let step_range = (arg.range + extra).min(self.interval);
        let wants_starts = self.query.options.features.use_start_timestamps
            && matches!(name, "rate" | "irate" | "increase" | "resets");
        let mut out: Vec<Series> = Vec::new();
        let mut w = Window::default();
        for s in series.iter() {
            self.current -= w.floats.len() as i64 + weights(&w.histograms);
            w = Window::default();
            let mut it = Buffered::new(s, arg.range + extra);
            let drop_name = !matches!(name, "last_over_time" | "first_over_time") || s.drop_name;
            let metric = if drop_name && !delayed { without_metadata(&s.metric) } else { s.metric.clone() };
            let mut result = Series { metric, drop_name, ..Series::default() };
            for (step, t) in self.times().enumerate() {
                let fetch = t == self.start || !arg.fixed;
                let mut maxt = t - arg.offset;
                let mut mint = maxt - arg.range;
                if arg.anchored || arg.smoothed {
                    mint -= lookback;
                }
                if arg.smoothed {
                    maxt += lookback;
                }
                if fetch {
                    self.slide(&mut it, mint, maxt, &mut w)?;
                }
                if w.floats.is_empty() && w.histograms.is_empty() {
                    continue;
                }
                let full = w.floats.len() as i64 + weights(&w.histograms);
                let mut read = 0;
                if fetch && !matches!(c.args[at], Node::Subquery(_)) {
                    let cut = if step == 0 { i64::MIN } else { maxt - self.interval };
                    read = w.floats.iter().filter(|p| p.0 > cut).count() as i64;
                    read += w.histograms.iter().filter(|p| p.0 > cut).map(|p| weight(&p.1)).sum::<i64>();
                }
                let window = ranges::Window {
                    metric: &s.metric,
                    floats: &w.floats,
                    histograms: &w.histograms,
                    arg: &arg,
                };
                let starts = wants_starts.then_some((&w.float_starts[..], &w.histogram_starts[..]));
                let info = Step { t, delayed, args: &c.args, spans, starts };
                let at_step: Vec<f64> = scalars.iter().map(|s| s[step]).collect();
                let (value, n) = ranges::call(name, &at_step, &window, &info)?;
                notes.merge(&n);
                self.counts.total_at(step, full);
                self.counts.read_at(step, read);
                match value {
                    Some(ranges::Out::Float(f)) => result.floats.push((t, f)),
                    Some(ranges::Out::Histogram(h)) => result.histograms.push((t, h)),
                    None => {}
                }
                it.reduce_delta(step_range);
            }
            let n = result.floats.len() as i64 + weights(&result.histograms);
            let has_floats = !result.floats.is_empty();
            if n > 0 {
                self.current += n;
                self.check()?;
                out.push(result);
            }
            self.counts.see(self.current);
            let metric_name = value_of(&s.metric, "__name__");
            if matches!(name, "rate" | "increase") && !metric_name.is_empty() && has_floats {
                let suffixes = ["_total", "_sum", "_count", "_bucket"];
                if self.query.options.features.type_and_unit_labels {
                    let kind = value_of(&s.metric, "__type__");
                    if kind != "counter" && kind != "histogram" {
                        notes.add(Annotation::possible_non_counter_label(metric_name, kind, spans[0]));
                    }
                } else if !suffixes.iter().any(|s| metric_name.ends_with(s)) {
                    notes.add(Annotation::possible_non_counter(metric_name, spans[0]));
                }
            }
        }
        self.counts.see(self.current);
        self.current -= w.floats.len() as i64 + weights(&w.histograms);
        let _ = before_windows;
        if name == "absent_over_time" {
            let found: BTreeSet<i64> = out
                .iter()
                .flat_map(|s| s.floats.iter().map(|p| p.0).chain(s.histograms.iter().map(|p| p.0)))
                .collect();
            let missing: Vec<(i64, f64)> =
                self.times().filter(|t| !found.contains(t)).map(|t| (t, 1.0)).collect();
            if missing.is_empty() {
                return Ok((Matrix::default(), notes));
            }
            let metric = elements::absent_labels(&c.args[0]);
            let series = vec![Series { metric, floats: missing, drop_name: true, ..Series::default() }];
            return Ok((Matrix { series, shuffled: false }, notes));
        }
        let m = Matrix { series: out, shuffled };
        if !delayed && m.has_twins() {
            return Err(TWINS.to_string());
        }
        Ok((m, notes))
    }

    fn timestamps(&mut self, c: &Call, v: &Selector) -> Result<(Matrix, Notes), String> {
        let series = self.expand(v);
        let lookback = self.query.options.lookback_delta;
        let mut its: Vec<Memoized> = series.iter().map(|s| Memoized::new(s, lookback - 1)).collect();
        let starts = c.func.name == "start_timestamp" && self.query.options.features.use_start_timestamps;
        let delayed = self.query.delayed();
        self.each_step(&[], None, &mut |ev, t, _| {
            if let Some(at) = v.timestamp {
                v.offset.set(t - at);
            }
            let mut out = Vec::new();
            let mut n = 0;
            for (s, it) in series.iter().zip(&mut its) {
                let Some(raw) = it.newest(t - v.offset.get(), lookback) else { continue };
                n += 1;
                ev.current += 1;
                ev.check()?;
                if c.func.name == "start_timestamp" && !starts {
                    continue;
                }
                let ms = if starts { raw.st } else { raw.t };
                let metric = if delayed { s.metric.clone() } else { without_metadata(&s.metric) };
                out.push(Sample { metric, f: ms as f64 / 1000.0, drop_name: true, ..Sample::default() });
            }
            let at = ev.counts.step_of(t);
            ev.counts.total_at(at, n);
            ev.counts.read_at(at, n);
            ev.counts.see(ev.current);
            Ok((out, Notes::default()))
        })
    }
}

/// The window of a range function.
#[derive(Default)]
struct Window {
    floats: Vec<(i64, f64)>,
    histograms: Vec<(i64, crate::value::Hist)>,
    float_starts: Vec<i64>,
    histogram_starts: Vec<i64>,
}

/// The range of a range function.
pub struct RangeArgument {
    pub range: i64,
    pub offset: i64,
    pub fixed: bool,
    pub anchored: bool,
    pub smoothed: bool,
}

fn push(series: &mut Series, t: i64, s: Sample) {
    match s.h {
        Some(h) => series.histograms.push((t, h)),
        None => series.floats.push((t, s.f)),
    }
}

fn single(s: Sample, t: i64) -> Series {
    let mut series = Series { metric: s.metric.clone(), drop_name: s.drop_name, ..Series::default() };
    push(&mut series, t, s);
    series
}

/// A subquery's result as if it were stored: what was known of resets no longer holds.
fn stored(s: Series) -> RawSeries {
    let floats = s.floats.into_iter().map(|(t, v)| Raw { t, st: 0, value: RawValue::Float(v) });
    let histograms = s.histograms.into_iter().map(|(t, h)| {
        let mut h = (*h).clone();
        if matches!(h.counter_reset_hint, CounterResetHint::CounterReset | CounterResetHint::NotCounterReset)
        {
            h.counter_reset_hint = CounterResetHint::Unknown;
        }
        Raw { t, st: 0, value: RawValue::Histogram(h.into()) }
    });
    let mut samples: Vec<Raw> = floats.chain(histograms).collect();
    samples.sort_by_key(|r| r.t);
    RawSeries { metric: s.metric, samples: Rc::new(samples), stats_only: false, drop_name: s.drop_name }
}

/// Sets a label of a copy.
pub fn with_label(metric: &Metric, name: &str, value: &str) -> Metric {
    let mut out = metric.clone();
    set_label(&mut out, name, value);
    out
}
