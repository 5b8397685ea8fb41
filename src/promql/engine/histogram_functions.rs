//! `histogram_quantile`, `histogram_quantiles`, `histogram_fraction`: classic buckets grouped by their other
//! labels, native histograms on their own.

use hashbrown::HashMap;
use tsdbctl_model::Span;
use tsdbctl_model::symbols::{LE, NAME, Sym};
use tsdbctl_storage::Annotation;

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::merge_labels::LabelMerger;
use super::operator::{
    Eval, Operator, Report, SeriesList, drain_scalar, label_value, set_label, without_metadata,
};
use super::options::StepGrid;
use crate::functions::ScalarArg;
use crate::functions::classic_histogram::{Buffers, ClassicHistogram, Repairs};
use crate::functions::native_histogram;

/// Which function.
#[derive(Clone, Debug, PartialEq)]
pub enum HistogramKind {
    /// `histogram_quantile(φ, vector)`.
    Quantile,
    /// `histogram_quantiles(vector, "label", φ…)`.
    Quantiles(String),
    /// `histogram_fraction(lower, upper, vector)`.
    Fraction,
}

/// A float as OpenMetrics label values have it: `1.0`, not `1` (`labels.FormatOpenMetricsFloat`).
fn format_openmetrics(v: f64) -> String {
    let text = tsdbctl_model::float_text::format_g(v);
    if !v.is_finite() || text.contains(['e', '.']) { text } else { format!("{text}.0") }
}

/// One classic histogram: its buckets by rising bound.
struct Classic {
    /// All labels but `le`, the name included: what buckets and native histograms are matched by.
    labels: Vec<(Sym, Sym)>,
    /// Upper bound and position of the series.
    buckets: Vec<(f64, usize)>,
}

/// A quantile or fraction over a vector of histograms.
pub struct HistogramFunction {
    /// Which one.
    pub kind: HistogramKind,
    /// φ, or the bounds of the fraction.
    pub scalars: Vec<Box<dyn Operator>>,
    /// Places of the scalars.
    pub scalar_spans: Vec<Span>,
    /// The histograms.
    pub input: Box<dyn Operator>,
    /// Place of the histograms.
    pub input_span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    args: Vec<Vec<f64>>,
    counts: RangeEvalCounts,
    merger: LabelMerger,
    ready: std::vec::IntoIter<Column>,
}

impl HistogramFunction {
    /// A function over `input`.
    pub fn new(
        kind: HistogramKind,
        scalars: Vec<Box<dyn Operator>>,
        scalar_spans: Vec<Span>,
        input: Box<dyn Operator>,
        input_span: Span,
        rank: u32,
    ) -> Self {
        Self {
            kind,
            scalars,
            scalar_spans,
            input,
            input_span,
            rank,
            args: Vec::new(),
            counts: RangeEvalCounts::default(),
            merger: LabelMerger::default(),
            ready: Vec::new().into_iter(),
        }
    }

    fn drain_scalars(&mut self, ev: &mut Eval) -> Result<(), QueryError> {
        let steps = self.grid().steps;
        for scalar in &mut self.scalars {
            self.args.push(drain_scalar(scalar.as_mut(), ev)?);
            self.counts.gathered.add(&Column::constant(steps, 0.0), |_| 1);
        }
        Ok(())
    }

    /// Every φ that is no quantile is told, even if there is no histogram.
    fn check_quantiles(&self, ev: &mut Eval) {
        if self.kind == HistogramKind::Fraction {
            return;
        }
        for (values, span) in self.args.iter().zip(&self.scalar_spans) {
            let mut last: Option<u64> = None;
            for q in values.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                if last != Some(q.to_bits()) {
                    ev.annotate(self.rank, Annotation::invalid_quantile(*q, *span));
                    last = Some(q.to_bits());
                }
            }
        }
    }

    fn name_of(&self, ev: &Eval, labels: &[(Sym, Sym)], always: bool) -> String {
        if always || ev.options.features.delayed_name_removal {
            ev.symbols.resolve(label_value(labels, NAME)).to_owned()
        } else {
            String::new()
        }
    }

    /// Groups classic buckets; remembers the bounds that are no numbers.
    fn classics(&self, ev: &Eval, list: &SeriesList, columns: &[Column]) -> (Vec<Classic>, Vec<usize>) {
        let mut index: HashMap<Vec<(Sym, Sym)>, usize> = HashMap::new();
        let mut bounds: HashMap<Sym, Option<f64>> = HashMap::new();
        let (mut classics, mut bad): (Vec<Classic>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut key = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            if column.float_count() == 0 {
                continue;
            }
            let labels = list.labels(i);
            let le = label_value(labels, LE);
            let bound = *bounds
                .entry(le)
                .or_insert_with(|| tsdbctl_model::float_text::parse_float(ev.symbols.resolve(le)).ok());
            let Some(bound) = bound else {
                bad.push(i);
                continue;
            };
            key.clear();
            key.extend(labels.iter().filter(|(n, _)| *n != LE));
            let at = match index.get(&key) {
                Some(at) => *at,
                None => {
                    index.insert(key.clone(), classics.len());
                    classics.push(Classic { labels: key.clone(), buckets: Vec::new() });
                    classics.len() - 1
                }
            };
            classics[at].buckets.push((bound, i));
        }
        (classics, bad)
    }

    /// The results of one classic histogram at every step: one column, or one per φ.
    fn classic_columns(
        &self,
        ev: &mut Eval,
        classic: &mut Classic,
        columns: &[Column],
        repairs: &mut Repairs,
        buffers: &mut Buffers,
    ) -> Result<Vec<Column>, QueryError> {
        let steps = self.grid().steps;
        classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let bounds: Vec<f64> = classic.buckets.iter().map(|(b, _)| *b).collect();
        let members: Vec<&Column> = classic.buckets.iter().map(|(_, i)| &columns[*i]).collect();
        let histogram = ClassicHistogram { bounds: &bounds, columns: &members };
        let args: Vec<ScalarArg> = self.args.iter().map(|a| ScalarArg::PerStep(a)).collect();
        let mut outs = Vec::new();
        for _ in 0..self.outputs() {
            outs.push(ev.column(steps)?);
        }
        match self.kind {
            HistogramKind::Fraction => histogram.fraction(args[0], args[1], &mut outs[0], buffers),
            HistogramKind::Quantile => histogram.quantile(args[0], &mut outs[0], repairs, buffers),
            HistogramKind::Quantiles(_) => histogram.quantiles(&args, &mut outs, repairs, buffers),
        }
        Ok(outs)
    }

    /// Result series per histogram.
    fn outputs(&self) -> usize {
        if self.kind == HistogramKind::Fraction { 1 } else { self.args.len() }
    }

    /// The result of one series' native histograms.
    fn native_column(
        &self,
        ev: &mut Eval,
        labels: &[(Sym, Sym)],
        column: &Column,
        arg: usize,
    ) -> Result<Column, QueryError> {
        let mut out = ev.column(self.grid().steps)?;
        // Upstream names the metric of what it has: without delayed removal the name is gone by then.
        let name = self.name_of(ev, labels, false);
        for (k, h) in &column.histograms {
            let k = *k as usize;
            let (v, note) = match self.kind {
                HistogramKind::Fraction => native_histogram::fraction(self.args[0][k], self.args[1][k], h),
                _ => native_histogram::quantile(self.args[arg][k], h),
            };
            if let Some(note) = note {
                let a = note.annotation(&name, self.input_span);
                ev.annotate(self.rank, a);
            }
            out.set_float(k, v);
        }
        Ok(out)
    }

    /// Adds a result's series: one for each value that φ takes, as it stands in their labels.
    fn give(
        &self,
        ev: &mut Eval,
        labels: &[(Sym, Sym)],
        arg: usize,
        column: Column,
        out: &mut (SeriesList, Vec<Column>),
    ) -> Result<(), QueryError> {
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        let varies = matches!(self.kind, HistogramKind::Quantiles(_))
            && self.args[arg].iter().any(|q| !same(*q, self.args[arg][0]));
        if !varies {
            let q = self.args[arg].first().copied().unwrap_or(f64::NAN);
            let labels = self.output_labels(ev, labels, q);
            out.0.push(&labels, true);
            out.1.push(column);
            return Ok(());
        }
        let first = out.1.len();
        let mut values: Vec<f64> = Vec::new();
        for k in column.float_steps() {
            let q = self.args[arg][k];
            let i = match values.iter().position(|v| same(*v, q)) {
                Some(i) => i,
                None => {
                    values.push(q);
                    let labels = self.output_labels(ev, labels, q);
                    out.0.push(&labels, true);
                    out.1.push(ev.column(column.steps())?);
                    values.len() - 1
                }
            };
            out.1[first + i].set_float(k, column.values[k]);
        }
        ev.recycle(column);
        Ok(())
    }

    fn output_labels(&self, ev: &mut Eval, labels: &[(Sym, Sym)], q: f64) -> Vec<(Sym, Sym)> {
        let mut out = labels.to_vec();
        if !ev.options.features.delayed_name_removal {
            without_metadata(labels, &mut out);
        }
        if let HistogramKind::Quantiles(label) = &self.kind {
            let text = format_openmetrics(q);
            let (name, value) = (ev.symbols.intern(label), ev.symbols.intern(&text));
            set_label(&ev.symbols, &mut out, name, value);
        }
        out
    }

    fn evaluate(
        &mut self,
        ev: &mut Eval,
        list: &SeriesList,
        mut columns: Vec<Column>,
    ) -> Result<(SeriesList, Vec<Column>), QueryError> {
        let (mut classics, bad) = self.classics(ev, list, &columns);
        for i in bad {
            let name = self.name_of(ev, list.labels(i), false);
            let le = ev.symbols.resolve(label_value(list.labels(i), LE)).to_owned();
            ev.annotate(self.rank, Annotation::bad_bucket_label(&name, &le, self.input_span));
        }
        self.drop_mixed(ev, list, &mut columns, &classics);
        let mut out = (SeriesList::new(), Vec::new());
        let grid = self.grid();
        let mut repairs: HashMap<String, Repairs> = HashMap::new();
        let mut buffers = Buffers::default();
        let mut classic_results = Vec::with_capacity(classics.len());
        for classic in &mut classics {
            ev.poll()?;
            let repairs = repairs.entry(self.name_of(ev, &classic.labels, false)).or_default();
            classic_results.push(self.classic_columns(ev, classic, &columns, repairs, &mut buffers)?);
        }
        for arg in 0..self.outputs() {
            for (i, column) in columns.iter().enumerate() {
                if column.histograms.is_empty() {
                    continue;
                }
                let result = self.native_column(ev, list.labels(i), column, arg)?;
                self.give(ev, list.labels(i), arg, result, &mut out)?;
            }
            for (classic, results) in classics.iter().zip(&mut classic_results) {
                self.give(ev, &classic.labels, arg, std::mem::take(&mut results[arg]), &mut out)?;
            }
        }
        for (name, repairs) in repairs {
            if let Some(a) = repairs.annotation(&name, self.input_span, grid.start, grid.step, grid.steps) {
                ev.annotate(self.rank, a);
            }
        }
        for column in columns {
            ev.recycle(column);
        }
        Ok(out)
    }

    /// Where a native histogram meets classic buckets of the same labels neither gives a result.
    fn drop_mixed(&self, ev: &mut Eval, list: &SeriesList, columns: &mut [Column], classics: &[Classic]) {
        if columns.iter().all(|c| c.histograms.is_empty()) || classics.is_empty() {
            return;
        }
        let index: HashMap<&[(Sym, Sym)], &Classic> =
            classics.iter().map(|c| (c.labels.as_slice(), c)).collect();
        for i in 0..columns.len() {
            let Some(classic) = index.get(list.labels(i)) else { continue };
            let steps: Vec<u32> = columns[i].histograms.iter().map(|(k, _)| *k).collect();
            for k in steps {
                let meets = classic.buckets.iter().any(|(_, j)| columns[*j].has_float(k as usize));
                if !meets {
                    continue;
                }
                let name = self.name_of(ev, list.labels(i), false);
                ev.annotate(self.rank, Annotation::mixed_classic_native_histograms(&name, self.input_span));
                columns[i].histograms.retain(|(s, _)| *s != k);
                for (_, j) in &classic.buckets {
                    columns[*j].clear_float(k as usize);
                }
            }
        }
    }
}

impl Operator for HistogramFunction {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let vector_first = matches!(self.kind, HistogramKind::Quantiles(_));
        if !vector_first {
            self.drain_scalars(ev)?;
        }
        let list = self.input.open(ev)?;
        let mut columns = Vec::with_capacity(list.len());
        while let Some(column) = self.input.next(ev)? {
            self.counts.gather(&column);
            columns.push(column);
        }
        if vector_first {
            self.drain_scalars(ev)?;
        }
        self.check_quantiles(ev);
        let (series, results) = self.evaluate(ev, &list, columns)?;
        self.ready = results.into_iter();
        if ev.options.features.delayed_name_removal && self.grid().steps == 1 {
            return Ok(series);
        }
        Ok(self.merger.open(series, self.grid().steps))
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let ready = &mut self.ready;
        let out = self.merger.next(ev, |_| Ok(ready.next()))?;
        if let Some(column) = &out {
            self.counts.give(column);
        }
        Ok(out)
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let mut now = current;
        for input in self.inputs() {
            now = input.account(now, peak);
        }
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid().steps)
    }

    fn report(&self) -> Report {
        let name = match self.kind {
            HistogramKind::Quantile => "histogram_quantile",
            HistogramKind::Quantiles(_) => "histogram_quantiles",
            HistogramKind::Fraction => "histogram_fraction",
        };
        Report { name: name.into(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        let mut all: Vec<&dyn Operator> = self.scalars.iter().map(|s| s.as_ref() as &dyn Operator).collect();
        // In order of evaluation.
        let at = if matches!(self.kind, HistogramKind::Quantiles(_)) { 0 } else { all.len() };
        all.insert(at, self.input.as_ref());
        all
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        let mut all: Vec<&mut Box<dyn Operator>> = self.scalars.iter_mut().collect();
        all.push(&mut self.input);
        all
    }
}
