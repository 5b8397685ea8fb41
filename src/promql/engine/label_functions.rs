//! Functions on labels: `label_replace`, `label_join`, and the sorts.

use tsdbctl_model::Span;
use tsdbctl_model::regexp::Regexp;
use tsdbctl_model::symbols::{NAME, Sym};
use tsdbctl_storage::Annotation;

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::merge_labels::LabelMerger;
use super::operator::{Eval, Operator, Report, SeriesList, drain, label_value, set_label};
use super::options::StepGrid;
use crate::functions::order;

/// How a label is made.
pub enum Relabel {
    /// `label_replace(vector, dst, replacement, src, regexp)`.
    Replace {
        /// Label that is set.
        dst: String,
        /// Template of its value.
        replacement: String,
        /// Label that is matched.
        src: String,
        /// What it must match.
        regexp: Regexp,
    },
    /// `label_join(vector, dst, separator, src, …)`.
    Join {
        /// Label that is set.
        dst: String,
        /// Text between the values.
        separator: String,
        /// Labels whose values are joined.
        src: Vec<String>,
    },
}

/// `label_replace`, `label_join`.
pub struct LabelFunction {
    /// What is done.
    pub relabel: Relabel,
    /// The vector.
    pub input: Box<dyn Operator>,
    merger: LabelMerger,
}

impl LabelFunction {
    /// Relabels `input`.
    pub fn new(relabel: Relabel, input: Box<dyn Operator>) -> Self {
        Self { relabel, input, merger: LabelMerger::default() }
    }
}

impl Operator for LabelFunction {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let inner = self.input.open(ev)?;
        let mut list = SeriesList::new();
        let mut labels: Vec<(Sym, Sym)> = Vec::new();
        // The same source value gives the same result; pods and instances repeat over many series.
        let mut known: hashbrown::HashMap<Sym, Option<Sym>> = hashbrown::HashMap::new();
        match &self.relabel {
            Relabel::Replace { dst, replacement, src, regexp } => {
                let (dst, src) = (ev.symbols.intern(dst), ev.symbols.intern(src));
                for i in 0..inner.len() {
                    let value = label_value(inner.labels(i), src);
                    let new = match known.get(&value) {
                        Some(new) => *new,
                        None => {
                            let text = regexp.expand(ev.symbols.resolve(value), replacement);
                            let new = text.map(|t| ev.symbols.intern(&t));
                            known.insert(value, new);
                            new
                        }
                    };
                    match new {
                        None => list.push(inner.labels(i), inner.drop_name(i)),
                        Some(new) => {
                            labels.clear();
                            labels.extend_from_slice(inner.labels(i));
                            set_label(&ev.symbols, &mut labels, dst, new);
                            list.push(&labels, inner.drop_name(i) && dst != NAME);
                        }
                    }
                }
            }
            Relabel::Join { dst, separator, src } => {
                let dst = ev.symbols.intern(dst);
                let src: Vec<Sym> = src.iter().map(|s| ev.symbols.intern(s)).collect();
                for i in 0..inner.len() {
                    let values: Vec<&str> =
                        src.iter().map(|s| ev.symbols.resolve(label_value(inner.labels(i), *s))).collect();
                    let text = values.join(separator);
                    let new = ev.symbols.intern(&text);
                    labels.clear();
                    labels.extend_from_slice(inner.labels(i));
                    set_label(&ev.symbols, &mut labels, dst, new);
                    list.push(&labels, inner.drop_name(i) && dst != NAME);
                }
            }
        }
        ev.hold("labels of a relabelled vector", list.bytes())?;
        let steps = self.grid().steps;
        Ok(self.merger.open(list, steps))
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let input = &mut self.input;
        self.merger.next(ev, |ev| input.next(ev))
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        self.input.account(current, peak)
    }

    fn step_stats(&self) -> StepStats {
        self.input.step_stats()
    }

    fn report(&self) -> Report {
        let name = match self.relabel {
            Relabel::Replace { .. } => "label_replace",
            Relabel::Join { .. } => "label_join",
        };
        Report { name: name.into(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.input]
    }
}

/// What a [`Sort`] sorts by.
pub enum SortBy {
    /// `sort`: values, NaN last.
    Value,
    /// `sort_desc`: values from above, NaN last.
    ValueDescending,
    /// `sort_by_label`: natural order of these labels, then all labels.
    Labels(Vec<String>),
    /// `sort_by_label_desc`.
    LabelsDescending(Vec<String>),
}

/// The sort functions: an instant's elements in order; in a range a warning and no more.
pub struct Sort {
    /// The order.
    pub by: SortBy,
    /// The vector.
    pub input: Box<dyn Operator>,
    /// Place of the call.
    pub span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    /// A range query or the inside of a subquery of several steps.
    pub is_range: bool,
    counts: RangeEvalCounts,
    merger: LabelMerger,
    ready: Option<std::vec::IntoIter<Column>>,
}

impl Sort {
    /// Sorts `input`.
    pub fn new(by: SortBy, input: Box<dyn Operator>, span: Span, rank: u32, is_range: bool) -> Self {
        Self {
            by,
            input,
            span,
            rank,
            is_range,
            counts: RangeEvalCounts::default(),
            merger: LabelMerger::default(),
            ready: None,
        }
    }

    fn drops_histograms(&self) -> bool {
        matches!(self.by, SortBy::Value | SortBy::ValueDescending)
    }
}

impl Operator for Sort {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        if self.is_range {
            ev.annotate(self.rank, Annotation::sort_in_range_query(self.span));
            let list = self.input.open(ev)?;
            let steps = self.grid().steps;
            return Ok(self.merger.open(list, steps));
        }
        let (list, mut columns) = drain(self.input.as_mut(), ev)?;
        let mut order: Vec<usize> = Vec::new();
        for (i, column) in columns.iter_mut().enumerate() {
            self.counts.gather(column);
            if self.drops_histograms() {
                column.histograms.clear();
            }
            if !column.is_empty() {
                order.push(i);
            }
        }
        match &self.by {
            SortBy::Value | SortBy::ValueDescending => {
                let mut keyed: Vec<(f64, u32)> =
                    order.iter().map(|i| (columns[*i].values[0], *i as u32)).collect();
                order::sort_values(&mut keyed, matches!(self.by, SortBy::ValueDescending));
                order = keyed.into_iter().map(|(_, i)| i as usize).collect();
            }
            SortBy::Labels(names) | SortBy::LabelsDescending(names) => {
                let names: Vec<Sym> = names.iter().map(|n| ev.symbols.intern(n)).collect();
                let descending = matches!(self.by, SortBy::LabelsDescending(_));
                let symbols = &ev.symbols;
                order::sort_func(&mut order, |a, b| {
                    for name in &names {
                        let x = label_value(list.labels(*a), *name);
                        let y = label_value(list.labels(*b), *name);
                        if x != y {
                            let less = order::natural_less(symbols.resolve(x), symbols.resolve(y));
                            return match less != descending {
                                true => std::cmp::Ordering::Less,
                                false => std::cmp::Ordering::Greater,
                            };
                        }
                    }
                    let o = symbols.compare(list.labels(*a), list.labels(*b));
                    if descending { o.reverse() } else { o }
                });
            }
        }
        let mut sorted = SeriesList::new();
        let mut out = Vec::with_capacity(order.len());
        for i in order {
            sorted.push(list.labels(i), list.drop_name(i));
            let column = std::mem::take(&mut columns[i]);
            self.counts.give(&column);
            out.push(column);
        }
        self.ready = Some(out.into_iter());
        Ok(sorted)
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        if let Some(ready) = &mut self.ready {
            return Ok(ready.next());
        }
        let drops = self.drops_histograms();
        let (input, counts) = (&mut self.input, &mut self.counts);
        let out = self.merger.next(ev, |ev| {
            let Some(mut column) = input.next(ev)? else { return Ok(None) };
            counts.gather(&column);
            if drops {
                column.histograms.clear();
            }
            Ok(Some(column))
        })?;
        if let Some(column) = &out {
            self.counts.give(column);
        }
        Ok(out)
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let now = self.input.account(current, peak);
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        self.input.step_stats()
    }

    fn report(&self) -> Report {
        let name = match self.by {
            SortBy::Value => "sort",
            SortBy::ValueDescending => "sort_desc",
            SortBy::Labels(_) => "sort_by_label",
            SortBy::LabelsDescending(_) => "sort_by_label_desc",
        };
        Report { name: name.into(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.input.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.input]
    }
}
