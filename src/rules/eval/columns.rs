//! Expressions evaluated for a whole window of slots at once, where that gives what slot after slot would give.
//!
//! A rule may go ahead of its slots if all that it reads of this run goes ahead too, and is written before it at every
//! slot: by earlier rules of its group, or by groups that come first at the same time. What went ahead is seen by other
//! such rules alone; for all others samples appear at their slots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_promql::engine::{Column, Points, QueryResult, QueryTime, Sample, Value, run_parsed};
use tsdbctl_promql::parser::ast::{Expr, TimeModifiers, ValueType};
use tsdbctl_promql::parser::functions::FunctionId;
use tsdbctl_storage::{Control, Querier};

use super::course::{Course, Step};
use super::overlay::{ByName, Hidden, Overlay, Recorded};
use super::{EvalGroup, EvalSettings, RulePlace, Slots};
use crate::depend::{Reason, RuleNode, edges};
use crate::group::Rule;
use crate::query::Element;

/// Fewer slots than this are not worth a range query.
const FEWEST_SLOTS: usize = 4;

/// A window of slots of one rule.
struct Ahead {
    /// Query time of step 0, distance of steps.
    start: i64,
    step: i64,
    series: Vec<(Labels, Column)>,
    /// Warnings and infos, told at the first slot.
    annotations: Vec<String>,
    /// How the series are recorded, if each is one of its own with floats alone.
    course: Option<Course>,
}

/// Rules that may go ahead, and what they gave in the current window.
#[derive(Default)]
pub(super) struct Columns {
    /// Rules that may go ahead, each with those that have to go before it.
    eligible: BTreeMap<RulePlace, Vec<RulePlace>>,
    /// Rules that others of them read.
    is_read: Vec<RulePlace>,
    window: (i64, i64),
    /// `None`: the range failed, so that slots are evaluated one by one.
    ahead: HashMap<RulePlace, Option<Ahead>>,
    recorded: Recorded,
}

/// What columns are computed from.
pub(super) struct Sources<'a> {
    pub groups: &'a [EvalGroup],
    pub settings: &'a EvalSettings,
    pub control: &'a Control,
    pub stored: &'a Arc<dyn Querier>,
    pub hidden: &'a Arc<Hidden>,
    /// What was recorded at the slots up to now.
    pub recorded: Arc<ByName>,
}

impl Columns {
    /// Finds out which rules may go ahead.
    pub fn new(groups: &[EvalGroup], use_stored: bool) -> Self {
        let mut places = Vec::new();
        let mut nodes = Vec::new();
        for (group, spec) in groups.iter().enumerate() {
            for (index, rule) in spec.rules.iter().enumerate() {
                places.push(RulePlace { group, rule: index });
                nodes.push(RuleNode { group, index, rule });
            }
        }
        let mut needs: Vec<Option<Vec<usize>>> = places
            .iter()
            .map(|p| {
                let spec = &groups[p.group];
                let expr = &spec.rules[p.rule].expr().expr;
                let several = matches!(spec.slots, Slots::Every { .. }) && spec.slots.len() >= FEWEST_SLOTS;
                let vector = !matches!(expr.value_type(), ValueType::String | ValueType::Matrix);
                (several && vector && binds_to_its_time(expr)).then(Vec::new)
            })
            .collect();
        if !use_stored {
            for edge in edges(&nodes) {
                let (writer, reader) = (places[edge.writer], places[edge.reader]);
                match edge.reason {
                    // Templates are rendered at the slots.
                    Reason::Template(_) => continue,
                    Reason::Alerts(_) | Reason::Unknown(_) => needs[edge.reader] = None,
                    // Who reads the name cannot know which of the two wrote.
                    Reason::SameName(_) => {
                        (needs[edge.writer], needs[edge.reader]) = (None, None);
                    }
                    Reason::Metric(_) => {
                        let first = if writer.group == reader.group {
                            writer.rule < reader.rule
                        } else {
                            writer.group < reader.group
                                || never_meet(&groups[writer.group], &groups[reader.group])
                        };
                        let (w, r) = (&groups[writer.group], &groups[reader.group]);
                        let expr = &r.rules[reader.rule].expr().expr;
                        let known = first
                            && w.limit <= 0
                            && w.query_offset_ms <= r.query_offset_ms
                            && looks_back(expr);
                        match (&mut needs[edge.reader], known) {
                            (Some(list), true) => list.push(edge.writer),
                            (need, _) => *need = None,
                        }
                    }
                }
            }
        }
        // From those that need nothing on; what reads itself, whatever the way, is never reached.
        let mut eligible = BTreeMap::new();
        let mut is_read = Vec::new();
        loop {
            let before = eligible.len();
            for (i, need) in needs.iter().enumerate() {
                let Some(need) = need else { continue };
                if !eligible.contains_key(&places[i])
                    && need.iter().all(|n| eligible.contains_key(&places[*n]))
                {
                    let need: Vec<RulePlace> = need.iter().map(|n| places[*n]).collect();
                    is_read.extend(&need);
                    eligible.insert(places[i], need);
                }
            }
            if eligible.len() == before {
                break;
            }
        }
        Self { eligible, is_read, ..Self::default() }
    }

    /// Begins a window; what went ahead in the last one is gone.
    pub fn begin(&mut self, from: i64, to: i64) {
        self.window = (from, to);
        self.ahead.clear();
        self.recorded = Recorded::default();
    }

    /// What is recorded of a rule at a query time of the window, where its series are known for all of it.
    pub fn course(
        &mut self,
        place: RulePlace,
        t_ms: i64,
        sources: &Sources<'_>,
    ) -> Option<(Step<'_>, Vec<String>)> {
        if !self.compute(place, sources) {
            return None;
        }
        let ahead = self.ahead.get_mut(&place)?.as_mut()?;
        let k = usize::try_from((t_ms - ahead.start).checked_div(ahead.step)?).ok()?;
        if ahead.start + k as i64 * ahead.step != t_ms {
            return None;
        }
        let course = ahead.course.as_mut()?;
        Some((Step { course, series: &ahead.series, k, t_ms }, std::mem::take(&mut ahead.annotations)))
    }

    /// The result of a rule at a query time of the window, and what it warned of if this is the first; `None` if the
    /// rule is to be evaluated by itself.
    pub fn at(
        &mut self,
        place: RulePlace,
        t_ms: i64,
        sources: &Sources<'_>,
    ) -> Option<(Vec<Element>, Vec<String>)> {
        if !self.compute(place, sources) {
            return None;
        }
        let ahead = self.ahead.get_mut(&place)?.as_mut()?;
        let k = usize::try_from((t_ms - ahead.start).checked_div(ahead.step)?).ok()?;
        if ahead.start + k as i64 * ahead.step != t_ms {
            return None;
        }
        let elements = ahead.series.iter().filter_map(|(labels, column)| {
            let sample = sample(column, k)?;
            Some(Element { labels: labels.clone(), sample })
        });
        Some((elements.collect(), std::mem::take(&mut ahead.annotations)))
    }

    fn compute(&mut self, place: RulePlace, sources: &Sources<'_>) -> bool {
        if let Some(ahead) = self.ahead.get(&place) {
            return ahead.is_some();
        }
        let Some(needs) = self.eligible.get(&place).cloned() else { return false };
        // Those before it, first; the depth is the length of a chain of rules.
        let ready = needs.into_iter().all(|need| self.compute(need, sources));
        let ahead = if ready { self.range(place, sources) } else { None };
        let found = ahead.is_some();
        self.ahead.insert(place, ahead);
        found
    }

    fn range(&mut self, place: RulePlace, sources: &Sources<'_>) -> Option<Ahead> {
        let spec = &sources.groups[place.group];
        let Slots::Every { first, step, last, .. } = spec.slots else { return None };
        let (from, to) = self.window;
        // From the last slot that is not after the window's start: what vanishes right behind it is marked.
        let start = first + (from - first).max(0).div_euclid(step) * step;
        let end = last.min(to);
        if end < start || (end - start) / step + 1 < FEWEST_SLOTS as i64 {
            return None;
        }
        let overlay = Overlay {
            stored: Arc::clone(sources.stored),
            hidden: Arc::clone(sources.hidden),
            recorded: match sources.settings.use_stored {
                true => Vec::new(),
                false => vec![Arc::clone(&sources.recorded), self.recorded.by_name()],
            },
        };
        let rule = &spec.rules[place.rule];
        let offset = spec.query_offset_ms;
        let time = QueryTime::Range { start: start - offset, end: end - offset, step };
        let result =
            run_parsed(&overlay, &rule.expr().expr, time, &sources.settings.query, sources.control).ok()?;
        drop(overlay);
        let (warnings, infos) = result.annotations.render(&rule.expr().text, 10);
        let annotations = warnings.into_iter().chain(infos).collect();
        let series = series(result)?;
        let course = match rule {
            Rule::Record(rule) => Course::new(rule, &series, ((end - start) / step + 1) as usize),
            Rule::Alert(_) => None,
        };
        if let (Rule::Record(rule), true) = (rule, self.is_read.contains(&place)) {
            let mut met = std::collections::HashSet::new();
            for (labels, column) in &series {
                let labels = rule.series(labels);
                if !met.insert(labels.clone()) {
                    // An error at the slots where both are.
                    return None;
                }
                let mut was = false;
                for k in 0..column.steps() {
                    let t = start - offset + k as i64 * step;
                    let now = sample(column, k);
                    let is = now.is_some();
                    let sample = match now {
                        Some(sample) => sample,
                        None if was => Sample::Float(stale_nan()),
                        None => continue,
                    };
                    was = is;
                    self.recorded.append(&labels, t, &sample).ok()?;
                }
            }
        }
        Some(Ahead { start: start - offset, step, series, annotations, course })
    }
}

fn sample(column: &Column, k: usize) -> Option<Sample> {
    if k >= column.steps() {
        return None;
    }
    match column.float(k) {
        Some(v) => Some(Sample::Float(v)),
        None => column.histogram(k).map(|h| Sample::Histogram(Arc::clone(h))),
    }
}

fn series(result: QueryResult) -> Option<Vec<(Labels, Column)>> {
    let QueryResult { value, symbols, .. } = result;
    let Value::Matrix { series, .. } = value else { return None };
    let mut out = Vec::with_capacity(series.len());
    for s in series {
        let Points::Grid(column) = s.points else { return None };
        out.push((symbols.labels(&s.labels), column));
    }
    Some(out)
}

/// Whether two groups have no slot in common.
fn never_meet(a: &EvalGroup, b: &EvalGroup) -> bool {
    match (&a.slots, &b.slots) {
        (Slots::Every { first: f, step: s, .. }, Slots::Every { first: g, step: t, .. }) => {
            let (mut x, mut y) = (*s, *t);
            while y != 0 {
                (x, y) = (y, x % y);
            }
            (f - g).rem_euclid(x) != 0
        }
        _ => false,
    }
}

/// Whether nothing in the expression depends on the range that it is evaluated over.
fn binds_to_its_time(expr: &Expr) -> bool {
    let fixed = |time: &TimeModifiers| time.start_or_end.is_none() && time.offset_expr.is_none();
    all(expr, &mut |e| match e {
        Expr::Vector(v) => fixed(&v.time),
        Expr::Matrix(m) => m.range_expr.is_none() && fixed(&m.selector.time),
        Expr::Subquery(s) => s.range_expr.is_none() && s.step_expr.is_none() && fixed(&s.time),
        Expr::Call(c) => {
            !matches!(c.func.id, FunctionId::Start | FunctionId::End | FunctionId::Range | FunctionId::Step)
        }
        _ => true,
    })
}

/// Whether the expression reads no sample from after its time, and none at a time of its own.
fn looks_back(expr: &Expr) -> bool {
    let back = |time: &TimeModifiers| time.at.is_none() && time.offset >= 0;
    all(expr, &mut |e| match e {
        Expr::Vector(v) => back(&v.time) && !v.smoothed,
        Expr::Matrix(m) => back(&m.selector.time) && !m.selector.smoothed,
        Expr::Subquery(s) => back(&s.time),
        _ => true,
    })
}

fn all(expr: &Expr, fits: &mut dyn FnMut(&Expr) -> bool) -> bool {
    let mut stack = vec![expr];
    while let Some(e) = stack.pop() {
        if !fits(e) {
            return false;
        }
        match e {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
            Expr::Paren(e) => stack.push(&e.expr),
            Expr::Unary(e) => stack.push(&e.expr),
            Expr::Binary(e) => stack.extend([&e.lhs, &e.rhs]),
            Expr::Aggregate(e) => stack.extend(e.param.iter().chain([&e.expr])),
            Expr::Call(e) => stack.extend(&e.args),
            Expr::Subquery(e) => stack.push(&e.expr),
        }
    }
    true
}
