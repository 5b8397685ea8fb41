//! `info()`: labels of info series joined to a vector by `instance` and `job`.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use tsdbctl_model::symbols::{NAME, Sym, SymLabels};
use tsdbctl_model::{MatchType, Matcher, Span};

use super::account::{RangeEvalCounts, StepStats};
use super::column::Column;
use super::error::QueryError;
use super::leaf::InstantValue;
use super::merge_labels::SAME_LABELSET;
use super::operator::{Eval, Operator, Report, SeriesList, drain, label_value, set_label};
use super::options::StepGrid;
use super::selector::{InstantSelector, Source};
use crate::parser::ast::{TimeModifiers, VectorSelector};

/// The labels that identify what an info series is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// `info(vector, {selector})`.
pub struct Info {
    /// The vector that gets labels.
    pub input: Box<dyn Operator>,
    /// The second argument's matchers; `None` if it was not given.
    pub matchers: Option<Vec<Matcher>>,
    /// `@` of the first selector in the first argument.
    pub at: Option<i64>,
    /// Its offset, ms.
    pub offset: i64,
    /// Place of the call.
    pub span: Span,
    /// Place in upstream's evaluation order.
    pub rank: u32,
    info: Option<InstantSelector>,
    counts: RangeEvalCounts,
    ready: std::vec::IntoIter<Column>,
}

/// The name matchers that select info series (`effectiveInfoNameMatchers`).
fn effective_name_matchers(matchers: &[Matcher]) -> Vec<Matcher> {
    if matchers.iter().any(|m| matches!(m.kind, MatchType::Equal | MatchType::Regexp)) {
        return matchers.to_vec();
    }
    if matchers.is_empty() {
        return vec![Matcher::equal(tsdbctl_model::labels::METRIC_NAME, "target_info")];
    }
    let mut all: Vec<Matcher> =
        Matcher::new(MatchType::Regexp, tsdbctl_model::labels::METRIC_NAME, ".+_info").into_iter().collect();
    all.extend_from_slice(matchers);
    all
}

/// Go's `regexp.QuoteMeta`.
fn quote_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

impl Info {
    /// Joins info series to `input`.
    pub fn new(
        input: Box<dyn Operator>,
        matchers: Option<Vec<Matcher>>,
        at: Option<i64>,
        offset: i64,
        span: Span,
        rank: u32,
    ) -> Self {
        Self {
            input,
            matchers,
            at,
            offset,
            span,
            rank,
            info: None,
            counts: RangeEvalCounts::default(),
            ready: Vec::new().into_iter(),
        }
    }

    /// Selects and evaluates the info side.
    fn fetch(
        &mut self,
        ev: &mut Eval,
        base: &SeriesList,
        ignored: &HashSet<usize>,
        names: &[Matcher],
        data: &[Matcher],
    ) -> Result<(SeriesList, Vec<Column>), QueryError> {
        let mut values: BTreeMap<&str, std::collections::BTreeSet<String>> = BTreeMap::new();
        for i in (0..base.len()).filter(|i| !ignored.contains(i)) {
            for name in IDENTIFYING {
                let sym = ev.symbols.get(name).unwrap_or_default();
                let value = ev.symbols.resolve(label_value(base.labels(i), sym));
                if !value.is_empty() && sym != Sym::default() {
                    values.entry(name).or_default().insert(value.to_owned());
                }
            }
        }
        if values.is_empty() {
            return Ok((SeriesList::new(), Vec::new()));
        }
        let mut matchers = Vec::new();
        for (name, values) in values {
            let alternatives: Vec<String> = values.iter().map(|v| quote_meta(v)).collect();
            let m = Matcher::new(MatchType::Regexp, name, alternatives.join("|"))
                .map_err(|e| QueryError::execution(e.to_string()))?;
            matchers.push(m);
        }
        matchers.extend_from_slice(data);
        matchers.extend_from_slice(names);
        let grid = self.input.grid();
        let lookback = ev.options.lookback_delta;
        let (start, end) = match self.at {
            Some(at) => (at, at),
            None => (grid.start, grid.end()),
        };
        let bounds = (start - (lookback - 1) - self.offset, end - self.offset);
        let selector = VectorSelector {
            name: String::new(),
            matchers,
            time: TimeModifiers::default(),
            anchored: false,
            smoothed: false,
            bypass_empty_matcher_check: true,
            span: self.span,
        };
        let data_grid = match self.at {
            Some(at) => StepGrid { start: at - self.offset, step: 0, steps: grid.steps },
            None => StepGrid { start: grid.start - self.offset, ..grid },
        };
        let source = Source::new(selector, bounds, false, self.rank);
        let mut info = InstantSelector::new(source, grid, data_grid, InstantValue::TimestampMs);
        let fetched = drain(&mut info, ev)?;
        self.info = Some(info);
        Ok(fetched)
    }
}

impl Operator for Info {
    fn open(&mut self, ev: &mut Eval) -> Result<SeriesList, QueryError> {
        let (base, columns) = drain(self.input.as_mut(), ev)?;
        let metric_name = tsdbctl_model::labels::METRIC_NAME;
        let all = match &self.matchers {
            Some(m) => m.clone(),
            None => vec![Matcher::equal(metric_name, "target_info")],
        };
        let (names, mut data): (Vec<Matcher>, Vec<Matcher>) =
            all.into_iter().partition(|m| m.name == metric_name);
        if self.matchers.is_none() {
            data.clear();
        }
        let effective = effective_name_matchers(&names);
        let ignored: HashSet<usize> = (0..base.len())
            .filter(|i| {
                // What turned out to have no samples is not there at all.
                let name = ev.symbols.resolve(label_value(base.labels(*i), NAME));
                columns[*i].is_empty() || effective.iter().all(|m| m.matches(name))
            })
            .collect();
        let (info, info_columns) = self.fetch(ev, &base, &ignored, &effective, &data)?;
        let identifying: Vec<Sym> = IDENTIFYING.iter().map(|n| ev.symbols.intern(n)).collect();
        let signature = |labels: &SymLabels, name: Sym| {
            (name, label_value(labels, identifying[0]), label_value(labels, identifying[1]))
        };
        let mut by_signature: HashMap<(Sym, Sym, Sym), Vec<usize>> = HashMap::new();
        let mut info_names: Vec<Sym> = Vec::new();
        for (i, column) in info_columns.iter().enumerate() {
            if column.is_empty() {
                continue;
            }
            let name = label_value(info.labels(i), NAME);
            if !info_names.contains(&name) {
                info_names.push(name);
            }
            by_signature.entry(signature(info.labels(i), name)).or_default().push(i);
        }
        let wanted: Vec<Sym> = data.iter().map(|m| ev.symbols.intern(&m.name)).collect();
        let empty_is_fine = data.iter().all(|m| m.matches(""));
        let steps = self.grid().steps;
        let mut index: HashMap<Vec<(Sym, Sym)>, usize> = HashMap::new();
        let mut list = SeriesList::new();
        let mut out: Vec<Column> = Vec::new();
        for column in columns.iter().chain(&info_columns) {
            self.counts.gather(column);
        }
        for k in 0..steps {
            ev.poll()?;
            let base_here: Vec<usize> = (0..base.len())
                .filter(|i| columns[*i].has_float(k) || columns[*i].histogram(k).is_some())
                .collect();
            if base_here.is_empty() {
                continue;
            }
            // The newest info series of each signature; the conflict is an error even if nothing uses it.
            let mut newest: HashMap<(Sym, Sym, Sym), usize> = HashMap::new();
            for (i, column) in info_columns.iter().enumerate() {
                let Some(t) = column.float(k) else { continue };
                let key = signature(info.labels(i), label_value(info.labels(i), NAME));
                match newest.get(&key).copied() {
                    None => {
                        newest.insert(key, i);
                    }
                    Some(have) => {
                        let t_have = info_columns[have].values[k];
                        if t_have < t {
                            newest.insert(key, i);
                        } else if t_have == t {
                            return Err(QueryError::execution(format!(
                                "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                                ev.symbols.labels(info.labels(have)),
                                t_have as i64,
                                ev.symbols.labels(info.labels(i)),
                                t as i64
                            ))
                            .at(self.span));
                        }
                    }
                }
            }
            for i in base_here {
                let mut labels: Vec<(Sym, Sym)> = base.labels(i).to_vec();
                if !ignored.contains(&i) {
                    let mut added: Vec<(Sym, Sym)> = Vec::new();
                    let mut matched = false;
                    for name in &info_names {
                        let Some(j) = newest.get(&signature(base.labels(i), *name)) else { continue };
                        for (n, v) in info.labels(*j) {
                            if *n == NAME || (!wanted.is_empty() && !wanted.contains(n)) {
                                continue;
                            }
                            if let Some((_, have)) = added.iter().find(|(m, _)| m == n)
                                && have != v
                            {
                                let label = ev.symbols.resolve(*n);
                                return Err(QueryError::execution(format!("conflicting label: {label}"))
                                    .at(self.span));
                            }
                            if base.labels(i).iter().any(|(m, _)| m == n) {
                                continue;
                            }
                            added.retain(|(m, _)| m != n);
                            added.push((*n, *v));
                        }
                        matched = true;
                    }
                    if !matched && !empty_is_fine {
                        continue;
                    }
                    for (n, v) in added {
                        set_label(&ev.symbols, &mut labels, n, v);
                    }
                }
                let at = match index.get(&labels) {
                    Some(at) => *at,
                    None => {
                        list.push(&labels, base.drop_name(i));
                        index.insert(labels, out.len());
                        out.push(ev.column(steps)?);
                        out.len() - 1
                    }
                };
                if out[at].has_float(k) || out[at].histogram(k).is_some() {
                    return Err(QueryError::execution(SAME_LABELSET));
                }
                match (columns[i].float(k), columns[i].histogram(k)) {
                    (Some(v), _) => out[at].set_float(k, v),
                    (None, Some(h)) => {
                        let h = h.clone();
                        out[at].push_histogram(k, h);
                    }
                    (None, None) => {}
                }
            }
        }
        for column in &out {
            self.counts.give(column);
        }
        self.ready = out.into_iter();
        Ok(list)
    }

    fn next(&mut self, _: &mut Eval) -> Result<Option<Column>, QueryError> {
        Ok(self.ready.next())
    }

    fn grid(&self) -> StepGrid {
        self.input.grid()
    }

    fn account(&self, current: i64, peak: &mut i64) -> i64 {
        let mut now = self.input.account(current, peak);
        let before = now;
        if let Some(info) = &self.info {
            now = info.account(now, peak);
        }
        self.counts.replay(before.max(now), now, self.grid().steps, peak)
    }

    fn step_stats(&self) -> StepStats {
        let mut stats = self.input.step_stats();
        if let Some(info) = &self.info {
            stats.add(&info.step_stats());
        }
        stats
    }

    fn report(&self) -> Report {
        Report { name: "info".into(), ..Report::default() }
    }

    fn inputs(&self) -> Vec<&dyn Operator> {
        let mut all = vec![self.input.as_ref()];
        all.extend(self.info.iter().map(|i| i as &dyn Operator));
        all
    }

    fn inputs_mut(&mut self) -> Vec<&mut Box<dyn Operator>> {
        vec![&mut self.input]
    }
}
