//! Operators between vectors: matching ids once per series, columns against columns.
//!
//! The side that may have several series per match streams; the other is kept. Where upstream could refuse
//! at some step (several series on the "one" side, several results of one match, fill modifiers) both sides
//! are kept and the steps replayed in upstream's order, so that errors come out the same.

use hashbrown::{HashMap, HashSet};
use tsdbctl_model::Span;
use tsdbctl_model::symbols::{NAME, Sym, SymLabels};

use super::account::{RangeEvalCounts, StepStats};
use super::check_samples;
use super::column::Column;
use super::element::changes_schema;
use super::error::QueryError;
use super::operator::{
    Eval, Operator, Report, SeriesList, drain, earlier_error_first, set_label, without_metadata,
};
use super::options::StepGrid;
use crate::functions::binary::{BinaryKernel, Outcome, SampleOut, SampleRef, StepIssues};
use crate::parser::ast::{Cardinality, VectorMatching};

/// Numbers for match keys, the same numbers on both sides.
#[derive(Default)]
pub struct MatchIds {
    names: Vec<Sym>,
    on: bool,
    index: HashMap<Vec<(Sym, Sym)>, u32>,
    key: Vec<(Sym, Sym)>,
}

impl MatchIds {
    /// Ids under `matching`.
    pub fn new(ev: &mut Eval, matching: &VectorMatching) -> Self {
        let mut names: Vec<Sym> = matching.labels.iter().map(|l| ev.symbols.intern(l)).collect();
        if !matching.on {
            names.push(NAME);
        }
        Self { names, on: matching.on, index: HashMap::new(), key: Vec::new() }
    }

    /// The id of a label set.
    pub fn of(&mut self, labels: &SymLabels) -> u32 {
        self.key.clear();
        self.key.extend(labels.iter().filter(|(n, _)| self.names.contains(n) == self.on));
        if let Some(id) = self.index.get(&self.key) {
            return *id;
        }
        let id = self.index.len() as u32;
        self.index.insert(self.key.clone(), id);
        id
    }

    /// The ids of all series of a list.
    pub fn of_all(&mut self, list: &SeriesList) -> Vec<u32> {
        (0..list.len()).map(|i| self.of(list.labels(i))).collect()
    }

    /// Number of ids given out.
    pub fn count(&self) -> usize {
        self.index.len()
    }
}

/// `lhs op rhs` between vectors, set operators excluded.
pub struct Join {
    /// The operator.
    pub kernel: BinaryKernel,
    /// How series are matched.
    pub matching: VectorMatching,
    /// Left operand.
    pub lhs: Box<dyn Operator>,
    /// Right operand.
    pub rhs: Box<dyn Operator>,
    /// Place of the operation.
    pub span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    counts: RangeEvalCounts,
    issues: StepIssues,
    mode: Mode,
}

enum Mode {
    Closed,
    /// Columns of the many side pass by; for each, the kept column it meets and whether it gives a series.
    Streaming {
        one: Vec<Column>,
        partner: Vec<Option<u32>>,
        position: usize,
    },
    /// Everything is computed.
    Done(std::vec::IntoIter<Column>),
}

const MULTIPLE_MATCHES: &str =
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
const GROUPING_NOT_UNIQUE: &str = "multiple matches for labels: grouping labels must ensure unique matches";

impl Join {
    /// An operator between two vectors.
    pub fn new(
        kernel: BinaryKernel,
        matching: VectorMatching,
        lhs: Box<dyn Operator>,
        rhs: Box<dyn Operator>,
        span: Span,
        rank: u32,
    ) -> Self {
        Self {
            kernel,
            matching,
            lhs,
            rhs,
            span,
            rank,
            counts: RangeEvalCounts::default(),
            issues: StepIssues::default(),
            mode: Mode::Closed,
        }
    }

    fn swapped(&self) -> bool {
        self.matching.card == Cardinality::OneToMany
    }

    /// Labels of a result of `many` and `one` (`resultMetric`).
    fn result_labels(&self, ev: &mut Eval, many: &SymLabels, one: &SymLabels, out: &mut Vec<(Sym, Sym)>) {
        let delayed = ev.options.features.delayed_name_removal;
        if (self.kernel.return_bool && !delayed) || changes_schema(self.kernel.op) {
            without_metadata(many, out);
        } else {
            out.clear();
            out.extend_from_slice(many);
        }
        if self.matching.card == Cardinality::OneToOne {
            let names: Vec<Sym> = self.matching.labels.iter().map(|l| ev.symbols.intern(l)).collect();
            out.retain(|(n, _)| names.contains(n) == self.matching.on);
        }
        for label in &self.matching.include {
            let name = ev.symbols.intern(label);
            set_label(&ev.symbols, out, name, super::operator::label_value(one, name));
        }
    }

    fn element_columns(
        &mut self,
        many: &Column,
        one: &Column,
        out: &mut Column,
        met: &mut Vec<u64>,
        order: u32,
    ) {
        let (lhs, rhs) = if self.swapped() { (one, many) } else { (many, one) };
        self.kernel.columns(lhs, rhs, out, met, order, &mut self.issues);
    }

    /// Match labels of a series (`MatchLabels`).
    fn match_labels(&self, ev: &mut Eval, labels: &SymLabels) -> Vec<(Sym, Sym)> {
        let names: Vec<Sym> = self.matching.labels.iter().map(|l| ev.symbols.intern(l)).collect();
        let on = self.matching.on;
        labels.iter().filter(|(n, _)| names.contains(n) == on && (on || *n != NAME)).copied().collect()
    }

    /// All steps in upstream's way, on kept columns.
    #[allow(clippy::too_many_arguments)]
    fn replay(
        &mut self,
        ev: &mut Eval,
        many: (SeriesList, Vec<Column>, Vec<u32>),
        one: (SeriesList, Vec<Column>, Vec<u32>),
        ids: usize,
    ) -> Result<(SeriesList, Vec<Column>), QueryError> {
        let steps = self.grid().steps;
        // Upstream swaps the operands of `group_right` but not the fill values: `fill_right` always stands
        // in for the side that is looked up.
        let (fill_many, fill_one) = (self.matching.fill_left, self.matching.fill_right);
        let mut index: HashMap<Vec<(Sym, Sym)>, usize> = HashMap::new();
        let mut list = SeriesList::new();
        let mut columns: Vec<Column> = Vec::new();
        let mut last_step: Vec<Option<usize>> = Vec::new();
        let mut labels_of: HashMap<(u32, u32), Vec<(Sym, Sym)>> = HashMap::new();
        let one_to_one = self.matching.card == Cardinality::OneToOne;
        const NONE: u32 = u32::MAX;
        for k in 0..steps {
            ev.poll()?;
            let here = |columns: &[Column]| -> Vec<u32> {
                (0..columns.len() as u32)
                    .filter(|i| {
                        let c = &columns[*i as usize];
                        c.has_float(k) || c.histogram(k).is_some()
                    })
                    .collect()
            };
            let (lhs, rhs) = (here(&many.1), here(&one.1));
            let no_fill = fill_many.is_none() && fill_one.is_none();
            if (lhs.is_empty() && rhs.is_empty()) || ((lhs.is_empty() || rhs.is_empty()) && no_fill) {
                continue;
            }
            let mut right = vec![NONE; ids];
            for i in &rhs {
                let id = one.2[*i as usize] as usize;
                if right[id] != NONE {
                    return Err(self.duplicate(
                        ev,
                        one.0.labels(*i as usize),
                        one.0.labels(right[id] as usize),
                    ));
                }
                right[id] = *i;
            }
            let mut matched: HashSet<u32> = HashSet::new();
            let mut inserted: HashMap<u32, HashSet<Vec<(Sym, Sym)>>> = HashMap::new();
            let mut pairs: Vec<(u32, u32, u32)> = Vec::new();
            for i in &lhs {
                let id = many.2[*i as usize];
                if right[id as usize] != NONE {
                    pairs.push((*i, right[id as usize], id));
                } else if fill_one.is_some() {
                    pairs.push((*i, NONE, id));
                }
            }
            let from_left = pairs.len();
            if fill_many.is_some() {
                pairs.extend(rhs.iter().map(|i| (NONE, *i, one.2[*i as usize])));
            }
            for (n, (m, o, id)) in pairs.into_iter().enumerate() {
                if n >= from_left {
                    let done = if one_to_one { matched.contains(&id) } else { inserted.contains_key(&id) };
                    if done {
                        continue;
                    }
                }
                let sample = |columns: &[Column], i: u32, fill: Option<f64>| match columns.get(i as usize) {
                    None => SampleOut::Float(fill.unwrap_or(0.0)),
                    Some(c) => match (c.float(k), c.histogram(k)) {
                        (Some(v), _) => SampleOut::Float(v),
                        (None, Some(h)) => SampleOut::Histogram(h.clone()),
                        (None, None) => SampleOut::Float(0.0),
                    },
                };
                let a = sample(&many.1, m, fill_many);
                let b = sample(&one.1, o, fill_one);
                let (l, r) = if self.swapped() { (&b, &a) } else { (&a, &b) };
                let (outcome, issue) = self.kernel.element(borrow(l), borrow(r));
                if let Some(issue) = issue {
                    self.issues.report(k, n as u32, issue);
                }
                if matches!(outcome, Outcome::NoResult) {
                    continue;
                }
                let labels = match labels_of.get(&(m, o)) {
                    Some(l) => l.clone(),
                    None => {
                        let many_labels = match m {
                            NONE => self.match_labels(ev, one.0.labels(o as usize)),
                            m => many.0.labels(m as usize).to_vec(),
                        };
                        let one_labels = match o {
                            NONE => self.match_labels(ev, many.0.labels(m as usize)),
                            o => one.0.labels(o as usize).to_vec(),
                        };
                        let mut out = Vec::new();
                        self.result_labels(ev, &many_labels, &one_labels, &mut out);
                        labels_of.insert((m, o), out.clone());
                        out
                    }
                };
                if one_to_one {
                    if !matched.insert(id) {
                        return Err(QueryError::execution(MULTIPLE_MATCHES).at(self.span));
                    }
                } else if !inserted.entry(id).or_default().insert(labels.clone()) {
                    return Err(QueryError::execution(GROUPING_NOT_UNIQUE).at(self.span));
                }
                let Outcome::Sample(value) = outcome else { continue };
                let at = match index.get(&labels) {
                    Some(at) => *at,
                    None => {
                        list.push(&labels, self.kernel.return_bool);
                        index.insert(labels, columns.len());
                        columns.push(ev.column(steps)?);
                        last_step.push(None);
                        columns.len() - 1
                    }
                };
                if last_step[at] == Some(k) {
                    return Err(QueryError::execution(super::merge_labels::SAME_LABELSET));
                }
                last_step[at] = Some(k);
                value.store(&mut columns[at], k);
            }
        }
        Ok((list, columns))
    }

    fn duplicate(&self, ev: &mut Eval, a: &SymLabels, b: &SymLabels) -> QueryError {
        let group = self.match_labels(ev, a);
        let group = ev.symbols.labels(&group);
        let side = if self.swapped() { "left" } else { "right" };
        let (mut x, mut y) = (ev.symbols.labels(a).to_string(), ev.symbols.labels(b).to_string());
        if x > y {
            std::mem::swap(&mut x, &mut y);
        }
        QueryError::execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{x}, {y}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
        .at(self.span)
    }
}

fn borrow(s: &SampleOut) -> SampleRef<'_> {
    match s {
        SampleOut::Float(v) => SampleRef::Float(*v),
        SampleOut::Histogram(h) => SampleRef::Histogram(h),
    }
}

fn count_per_id(ids: &[u32], n: usize) -> Vec<u32> {
    let mut counts = vec![0; n];
    for id in ids {
        counts[*id as usize] += 1;
    }
    counts
}

impl Operator for Join {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let mut ids = MatchIds::new(ev, &self.matching);
        // Upstream evaluates left, then right: if the left is the side that is kept, it is drained before the
        // right is opened.
        let swapped = self.swapped();
        let (many_list, one_list, one_columns) = if swapped {
            let (one_list, one_columns) = drain(self.lhs.as_mut(), ev)?;
            (self.rhs.open(ev)?, one_list, one_columns)
        } else {
            let many_list = self.lhs.open(ev)?;
            let (one_list, one_columns) = match drain(self.rhs.as_mut(), ev) {
                Ok(one) => one,
                Err(e) => return Err(earlier_error_first(e, self.lhs.as_mut(), ev)),
            };
            (many_list, one_list, one_columns)
        };
        for column in &one_columns {
            self.counts.gather(column);
        }
        let many_ids = ids.of_all(&many_list);
        let mut one_ids = ids.of_all(&one_list);
        let n = ids.count();
        // Series without samples on the kept side take no part.
        for (id, column) in one_ids.iter_mut().zip(&one_columns) {
            if column.is_empty() {
                *id = u32::MAX;
            }
        }
        let live: Vec<u32> = one_ids.iter().copied().filter(|id| *id != u32::MAX).collect();
        let fills = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        let one_to_one = self.matching.card == Cardinality::OneToOne;
        let mut simple = !fills && count_per_id(&live, n).iter().all(|c| *c <= 1);
        if simple && one_to_one {
            let per_id = count_per_id(&many_ids, n);
            simple = live.iter().all(|id| per_id[*id as usize] <= 1);
        }
        let mut partner_of_id = vec![None; n];
        for (i, id) in one_ids.iter().enumerate().filter(|(_, id)| **id != u32::MAX) {
            partner_of_id[*id as usize] = Some(i as u32);
        }
        let mut list = SeriesList::new();
        let mut partner = Vec::with_capacity(many_list.len());
        if simple {
            let mut seen: HashSet<Vec<(Sym, Sym)>> = HashSet::new();
            let mut labels = Vec::new();
            for (i, id) in many_ids.iter().enumerate() {
                let p = partner_of_id[*id as usize];
                partner.push(p);
                if let Some(p) = p {
                    self.result_labels(ev, many_list.labels(i), one_list.labels(p as usize), &mut labels);
                    if !seen.insert(labels.clone()) {
                        simple = false;
                        break;
                    }
                    list.push(&labels, self.kernel.return_bool);
                }
            }
        }
        if simple {
            ev.hold("labels of a join", list.bytes())?;
            self.mode = Mode::Streaming { one: one_columns, partner, position: 0 };
            return Ok(list);
        }
        let mut many_columns = Vec::with_capacity(many_list.len());
        let many = if swapped { &mut self.rhs } else { &mut self.lhs };
        while let Some(column) = many.next(ev)? {
            self.counts.gather(&column);
            many_columns.push(column);
        }
        for (id, column) in one_ids.iter_mut().zip(&one_columns) {
            if column.is_empty() {
                *id = 0;
            }
        }
        let (list, columns) =
            self.replay(ev, (many_list, many_columns, many_ids), (one_list, one_columns, one_ids), n.max(1))?;
        for column in &columns {
            self.counts.give(column);
        }
        self.mode = Mode::Done(columns.into_iter());
        Ok(list)
    }

    fn next(&mut self, ev: &mut Eval) -> Result<Option<Column>, QueryError> {
        let swapped = self.swapped();
        let mode = std::mem::replace(&mut self.mode, Mode::Closed);
        let out = match mode {
            Mode::Closed => Ok(None),
            Mode::Done(mut columns) => {
                let next = columns.next();
                if next.is_some() {
                    self.mode = Mode::Done(columns);
                }
                Ok(next)
            }
            Mode::Streaming { one, partner, mut position } => {
                let mut met = Vec::new();
                let mut result = None;
                loop {
                    ev.poll()?;
                    let many = if swapped { &mut self.rhs } else { &mut self.lhs };
                    let Some(column) = many.next(ev)? else { break };
                    self.counts.gather(&column);
                    let order = position as u32;
                    let p = partner[position];
                    position += 1;
                    let Some(p) = p else {
                        ev.recycle(column);
                        continue;
                    };
                    let mut out = ev.column(column.steps())?;
                    self.element_columns(&column, &one[p as usize], &mut out, &mut met, order);
                    ev.recycle(column);
                    result = Some(out);
                    break;
                }
                if let Some(column) = &result {
                    self.counts.give(column);
                    self.mode = Mode::Streaming { one, partner, position };
                } else {
                    for column in one {
                        ev.recycle(column);
                    }
                }
                Ok(result)
            }
        };
        if matches!(out, Ok(None)) {
            for a in self.issues.annotations(self.kernel.op, self.span) {
                ev.annotate(self.rank, a);
            }
        }
        check_samples(self.counts.matrix, ev)?;
        out
    }

    fn grid(&self) -> StepGrid {
        self.lhs.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let now = self.rhs.account(self.lhs.account(current, peak), peak);
        self.counts.replay(current, now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        StepStats::of_inputs(&self.inputs(), self.grid().steps)
    }

    fn report(&self) -> Report {
        Report {
            name: format!("{} {}", self.matching.card.as_str(), self.kernel.op.as_str()),
            ..Report::default()
        }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        vec![self.lhs.as_ref(), self.rhs.as_ref()]
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.lhs, &mut self.rhs]
    }
}
