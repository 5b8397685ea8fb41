//! Aggregations that let some series through: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use tsdbctl_model::Span;
use tsdbctl_storage::Annotation;

use super::account::StepStats;
use super::aggregate::{AggregateCounts, Param};
use super::check_samples;
use super::column::Column;
use super::error::QueryError;
use super::grouping::{Grouping, Groups};
use super::operator::{Eval, Operator, Report, SeriesList, earlier_error_first};
use super::options::StepGrid;
use crate::functions::order::{Heap, HeapOrder, sort_heap};
use crate::parser::ast::AggregateOp;

/// `topk`, `bottomk`, `limitk`, `limit_ratio`.
pub struct SelectK {
    /// The operator.
    pub op: AggregateOp,
    /// Its groups.
    pub grouping: Grouping,
    /// `k` or the ratio.
    pub param: Box<dyn Operator>,
    /// What is aggregated.
    pub input: Box<dyn Operator>,
    /// Place of the parameter.
    pub param_span: Span,
    /// Place of the aggregation.
    pub span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    /// A range query: series keep their order; an instant's elements leave in the order of their values.
    pub is_range: bool,
    groups: Groups,
    /// First series with a sample, for each group.
    first_member: Vec<usize>,
    series: SeriesList,
    ready: Option<std::vec::IntoIter<Column>>,
    counts: AggregateCounts,
    k: Param,
}

impl SelectK {
    /// A selection from `input`.
    pub fn new(
        op: AggregateOp,
        grouping: Grouping,
        param: Box<dyn Operator>,
        input: Box<dyn Operator>,
        spans: (Span, Span),
        rank: u32,
        is_range: bool,
    ) -> Self {
        Self {
            op,
            grouping,
            param,
            input,
            param_span: spans.0,
            span: spans.1,
            rank,
            is_range,
            groups: Groups::default(),
            first_member: Vec::new(),
            series: SeriesList::new(),
            ready: None,
            counts: AggregateCounts::default(),
            k: Param::default(),
        }
    }

    /// Upstream's refusals; `false` means there is nothing to select.
    fn check_param(&self, ev: &mut Eval) -> Result<bool, QueryError> {
        let k = &self.k;
        if self.op == AggregateOp::LimitRatio {
            if k.max() == 0.0 && k.min() == 0.0 {
                return Ok(false);
            }
            if k.has_nan() {
                return Err(QueryError::execution("Ratio value is NaN").at(self.param_span));
            }
            if k.max() > 1.0 {
                ev.annotate(self.rank, Annotation::invalid_ratio(k.max(), 1.0, self.param_span));
            }
            if k.min() < -1.0 {
                ev.annotate(self.rank, Annotation::invalid_ratio(k.min(), -1.0, self.param_span));
            }
            return Ok(true);
        }
        if k.max() < 1.0 {
            return Ok(false);
        }
        if k.has_nan() {
            return Err(QueryError::execution("Parameter value is NaN").at(self.param_span));
        }
        let text = tsdbctl_model::float_text::format_g;
        if k.min() <= i64::MIN as f64 {
            return Err(QueryError::execution(format!("Scalar value {} underflows int64", text(k.min())))
                .at(self.param_span));
        }
        if k.max() >= i64::MAX as f64 {
            return Err(QueryError::execution(format!("Scalar value {} overflows int64", text(k.max())))
                .at(self.param_span));
        }
        Ok(true)
    }

    /// Which samples of `limitk` and `limit_ratio` stay: decided as the series come.
    fn limit(&mut self, ev: &mut Eval) -> Result<Vec<Column>, QueryError> {
        let steps = self.grid().steps;
        let ratio = self.op == AggregateOp::LimitRatio;
        let slots = if ratio { 0 } else { steps * self.groups.series.len() };
        ev.hold("counters of limitk", slots * 4)?;
        let mut taken = vec![0u32; slots];
        let inputs = self.series.len() as i64;
        let mut out = Vec::new();
        let mut i = 0;
        while let Some(mut column) = self.input.next(ev)? {
            let group = self.groups.of_series[i] as usize;
            note_member(&mut self.first_member, group, i, &column);
            let offset = if ratio { label_offset(ev, &self.series, i) } else { 0.0 };
            let mut keep = |k: usize| {
                if ratio {
                    let r = self.k.at(k).clamp(-1.0, 1.0);
                    return (r >= 0.0 && offset < r) || (r < 0.0 && offset >= 1.0 + r);
                }
                let k_max = (self.k.at(k) as i64).min(inputs).max(0) as u32;
                let slot = &mut taken[group * steps + k];
                let room = *slot < k_max;
                *slot += u32::from(room);
                room
            };
            let present: Vec<usize> = column.float_steps().collect();
            for k in present {
                if !keep(k) {
                    column.clear_float(k);
                }
            }
            column.histograms.retain(|(k, _)| keep(*k as usize));
            out.push(column);
            i += 1;
        }
        Ok(out)
    }

    /// The order in which an instant's elements leave: upstream keeps them in a heap of values per group,
    /// histograms counting as 0, and does not sort it.
    fn heap_order(&self, columns: &[Column]) -> Vec<usize> {
        let mut heaps: Vec<Vec<(f64, u32)>> = vec![Vec::new(); self.groups.series.len()];
        for (i, column) in columns.iter().enumerate().filter(|(_, c)| !c.is_empty()) {
            let heap = &mut heaps[self.groups.of_series[i] as usize];
            Heap::new(heap, HeapOrder::SmallestFirst).push((column.float(0).unwrap_or(0.0), i as u32));
        }
        in_order_of(heaps, &self.first_member).flatten().map(|(_, i)| i as usize).collect()
    }

    /// One heap per group and step, sorted; group by group, step by step.
    fn top(&mut self, ev: &mut Eval) -> Result<Vec<Vec<(f64, u32)>>, QueryError> {
        let steps = self.grid().steps;
        let order =
            if self.op == AggregateOp::TopK { HeapOrder::SmallestFirst } else { HeapOrder::LargestFirst };
        let groups = self.groups.series.len();
        let inputs = self.series.len() as i64;
        ev.hold("heaps of topk", groups * steps * 25)?;
        let mut heaps: Vec<Vec<(f64, u32)>> = vec![Vec::new(); groups * steps];
        let mut started = vec![false; groups * steps];
        let mut held = 0usize;
        let mut i = 0u32;
        while let Some(column) = self.input.next(ev)? {
            let group = self.groups.of_series[i as usize] as usize;
            note_member(&mut self.first_member, group, i as usize, &column);
            // A step that selects nothing looks at nothing.
            if column.histograms.iter().any(|(k, _)| self.k.at(*k as usize) >= 1.0) {
                let a = Annotation::histogram_ignored_in_aggregation(self.op.as_str(), self.span);
                ev.annotate(self.rank, a);
            }
            for k in column.float_steps() {
                let k_max = (self.k.at(k) as i64).min(inputs);
                if k_max < 1 {
                    continue;
                }
                let slot = group * steps + k;
                let heap = &mut heaps[slot];
                let before = heap.capacity();
                let v = column.values[k];
                if !started[slot] {
                    // Upstream pushes the first sample of a bottomk group with the order of topk; with one
                    // element that makes no difference.
                    started[slot] = true;
                    heap.push((v, i));
                } else if (heap.len() as i64) < k_max {
                    Heap::new(heap, order).push((v, i));
                } else if let Some(first) = heap.first_mut() {
                    let better = match order {
                        HeapOrder::SmallestFirst => first.0 < v,
                        HeapOrder::LargestFirst => first.0 > v,
                    } || (first.0.is_nan() && !v.is_nan());
                    if better {
                        *first = (v, i);
                        if k_max > 1 {
                            Heap::new(heap, order).fix_first();
                        }
                    }
                }
                held += (heap.capacity() - before) * 16;
            }
            ev.recycle(column);
            if held > 1 << 20 {
                ev.hold("heaps of topk", held)?;
                held = 0;
            }
            i += 1;
        }
        ev.hold("heaps of topk", held)?;
        for heap in &mut heaps {
            sort_heap(heap, order);
        }
        if steps == 1 {
            heaps = in_order_of(heaps, &self.first_member).collect();
        }
        Ok(heaps)
    }
}

/// Notes a group's first series that has a sample.
fn note_member(first_member: &mut [usize], group: usize, i: usize, column: &Column) {
    if first_member[group] > i && !column.is_empty() {
        first_member[group] = i;
    }
}

/// An instant's groups, in the order of their first members that have a sample.
fn in_order_of<T>(groups: Vec<T>, first_member: &[usize]) -> impl Iterator<Item = T> {
    let mut all: Vec<(usize, T)> = first_member.iter().copied().zip(groups).collect();
    all.sort_by_key(|(first, _)| *first);
    all.into_iter().map(|(_, group)| group)
}

/// Where a label set lies between 0 and 1 (`HashRatioSampler.SampleOffset`).
fn label_offset(ev: &Eval, series: &SeriesList, i: usize) -> f64 {
    let pairs = series.labels(i).iter().map(|(n, v)| (ev.symbols.resolve(*n), ev.symbols.resolve(*v)));
    tsdbctl_model::label_hash::packed_hash(pairs) as f64 / u64::MAX as f64
}

impl Operator for SelectK {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        self.k = Param::evaluate(self.param.as_mut(), ev)?;
        let list = self.input.open(ev)?;
        self.groups = self.grouping.assign(ev, &list);
        self.first_member = vec![usize::MAX; self.groups.series.len()];
        self.series = list;
        let steps = self.grid().steps;
        let selects = match self.check_param(ev) {
            Ok(selects) => selects,
            Err(e) => return Err(earlier_error_first(e, self.input.as_mut(), ev)),
        };
        if !selects {
            while let Some(column) = self.input.next(ev)? {
                ev.recycle(column);
            }
            self.ready = Some(Vec::new().into_iter());
            return Ok(SeriesList::new());
        }
        if matches!(self.op, AggregateOp::LimitK | AggregateOp::LimitRatio) {
            let mut columns = self.limit(ev)?;
            let mut order: Vec<usize> = (0..columns.len()).collect();
            if !self.is_range {
                // Groups leave one after the other, members in upstream's heap order.
                order = self.heap_order(&columns);
            }
            let mut out = SeriesList::new();
            let mut sorted = Vec::with_capacity(order.len());
            for i in order {
                out.push(self.series.labels(i), self.series.drop_name(i));
                sorted.push(std::mem::take(&mut columns[i]));
            }
            for column in &sorted {
                self.counts.give(column);
            }
            self.ready = Some(sorted.into_iter());
            return Ok(out);
        }
        let picked = self.top(ev)?;
        let mut out = SeriesList::new();
        let mut columns: Vec<Column> = Vec::new();
        if !self.is_range {
            for (v, i) in picked.iter().step_by(steps.max(1)).flatten() {
                out.push(self.series.labels(*i as usize), self.series.drop_name(*i as usize));
                let mut column = ev.column(1)?;
                column.set_float(0, *v);
                columns.push(column);
            }
        } else {
            let mut slot: Vec<Option<usize>> = vec![None; self.series.len()];
            for of_group in picked.chunks(steps.max(1)) {
                for (k, heap) in of_group.iter().enumerate() {
                    for (v, i) in heap {
                        let at = match slot[*i as usize] {
                            Some(at) => at,
                            None => {
                                let at = columns.len();
                                slot[*i as usize] = Some(at);
                                columns.push(ev.column(steps)?);
                                out.push(self.series.labels(*i as usize), self.series.drop_name(*i as usize));
                                at
                            }
                        };
                        columns[at].set_float(k, *v);
                    }
                }
            }
        }
        for column in &columns {
            self.counts.give(column);
        }
        check_samples(self.counts.matrix, ev)?;
        self.ready = Some(columns.into_iter());
        Ok(out)
    }

    fn next(&mut self, _: &mut Eval) -> Result<Option<Column>, QueryError> {
        Ok(self.ready.as_mut().and_then(Iterator::next))
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let mut now = current;
        for input in self.inputs() {
            now = input.account(now, peak);
        }
        self.counts.replay(current, now, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid().steps)
    }

    fn report(&self) -> Report {
        Report { name: self.op.as_str().to_string(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.param.as_ref(), self.input.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.param, &mut self.input]
    }
}
