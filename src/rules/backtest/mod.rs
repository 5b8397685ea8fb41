//! When alerts would have been pending and firing over stored data: one range query per left-hand side, stretch by
//! stretch, and a machine over runs of steps.
//!
//! Memory is what one stretch of one expression takes, and the alerts that were found. The state at the start comes
//! from evaluations before it, as many as `for` and `keep_firing_for` together reach back.

use std::sync::Arc;

use hashbrown::HashMap;
use tsdbctl_model::symbols::SymbolTable;
use tsdbctl_promql::engine::{QueryError, QueryOptions, on_big_stack};
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_storage::{Control, Queryable, StorageError};
use tsdbctl_template::TemplateError;

use crate::alerting::{AlertRule, Surroundings};
use crate::depend::{Reason, RuleNode, edges};
use crate::eval::{EvalError, EvalGroup, EvalSettings, Evaluated, Evaluation, Slots};
use crate::file::{RuleFile, RuleKind};
use crate::group::Rule;
use crate::recording::RecordRule;

pub mod alerts;
pub mod column;
pub mod machine;
pub mod notes;
pub mod plan;
pub mod report;
#[cfg(test)]
mod tests;

use alerts::AlertCourse;
use column::{Asked, Grid, Piece};
use machine::Holds;
use plan::Threshold;
use report::Report;

/// Evaluations of one stretch.
const STRETCH: u32 = 1000;

/// How a backtest is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// First evaluation of the range, Unix ms.
    pub start_ms: i64,
    /// Latest evaluation, Unix ms.
    pub end_ms: i64,
    /// Distance of evaluations of groups without an interval, ms.
    pub default_interval_ms: i64,
    /// Distance of all groups' evaluations, whatever they say, ms.
    pub step_ms: Option<i64>,
    /// How far behind their slots groups without an offset of their own look, ms.
    pub default_query_offset_ms: i64,
    /// How expressions are evaluated.
    pub query: QueryOptions,
    /// What templates know of the server.
    pub surroundings: Surroundings,
    /// Whether values and annotations of alerts that begin to fire are kept.
    pub firings: bool,
}

/// Why there is no backtest.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BacktestError {
    /// The data could not be read, or a limit was reached.
    #[error("{place}: {error}")]
    Query {
        /// The rule.
        place: String,
        /// What went wrong.
        error: QueryError,
    },
    /// A template is none.
    #[error("{place}: {error}")]
    Template {
        /// The rule.
        place: String,
        /// What is wrong with it.
        error: TemplateError,
    },
    /// The range holds no evaluation.
    #[error("the end of the range is before its start")]
    EmptyRange,
    /// The data could not be read while rules were evaluated one after the other.
    #[error(transparent)]
    Storage(#[from] Arc<StorageError>),
}

/// One expression and the alerts that it decides.
struct Source {
    expr: Arc<Expr>,
    /// Evaluations one by one: a range means something else.
    one_by_one: bool,
    /// Alerts with what their values must pass.
    alerts: Vec<(usize, Option<Threshold>)>,
    /// Query times: those of the alerts, less the offset.
    grid: Grid,
}

/// What rules must share to share evaluations: interval and query offset.
type Rhythm = (i64, i64);

/// Runs a backtest of all alerting rules of the files.
///
/// # Errors
/// [`BacktestError`]. An expression that fails at some evaluations is no such error: it is in the report.
pub fn run(
    storage: &dyn Queryable,
    files: &[RuleFile],
    options: &Options,
    control: &Control,
) -> Result<Report, BacktestError> {
    if options.end_ms < options.start_ms {
        return Err(BacktestError::EmptyRange);
    }
    on_big_stack(|| Backtest::plan(files, options, false)?.run(storage, control))
}

/// A rule and where the alerts among them are told of.
struct Planned {
    group: usize,
    index: usize,
    rule: Rule,
    /// The alert's course.
    course: Option<usize>,
}

/// What rules of a group are evaluated with.
struct Frame {
    name: String,
    rhythm: Rhythm,
    limit: i64,
}

struct Backtest<'a> {
    options: &'a Options,
    query: QueryOptions,
    symbols: SymbolTable,
    courses: Vec<AlertCourse>,
    sources: Vec<Source>,
    sequence: Sequence,
    /// Expressions of the courses.
    exprs: Vec<Arc<Expr>>,
    /// Metrics that the set records.
    recorded: Vec<String>,
    /// All is evaluated one by one.
    plain: bool,
}

/// Rules that read what the set writes, and those that they read: evaluated slot after slot, one after the other.
#[derive(Default)]
struct Sequence {
    groups: Vec<EvalGroup>,
    /// Of each group's rules, the alerts' courses.
    courses: Vec<Vec<Option<usize>>>,
}

impl<'a> Backtest<'a> {
    /// `step_all` evaluates all rules one by one, which is slow and plain.
    fn plan(files: &[RuleFile], options: &'a Options, step_all: bool) -> Result<Self, BacktestError> {
        let mut symbols = SymbolTable::new();
        let mut courses = Vec::new();
        let mut rhythms: Vec<(Rhythm, Arc<Expr>)> = Vec::new();
        let mut warm: HashMap<Rhythm, u32> = HashMap::new();
        let (mut frames, mut planned) = (Vec::new(), Vec::new());
        for (file, group) in files.iter().flat_map(|f| f.groups.iter().map(move |g| (f, g))) {
            let interval = group.interval_ms.filter(|i| *i > 0).unwrap_or(options.default_interval_ms);
            let interval = options.step_ms.unwrap_or(interval).max(1);
            let offset = group.query_offset_ms.unwrap_or(options.default_query_offset_ms);
            let rhythm = (interval, offset);
            for (index, rule) in group.rules.iter().enumerate() {
                let group_number = frames.len();
                if rule.kind == RuleKind::Record {
                    let rule = Rule::Record(RecordRule::from_spec(group, rule));
                    planned.push(Planned { group: group_number, index, rule, course: None });
                    continue;
                }
                let place = file.source.place(rule.span);
                let alert = AlertRule::from_spec(group, rule)
                    .map_err(|error| BacktestError::Template { place: place.clone(), error })?;
                let (limit, surroundings) = (group.limit, &options.surroundings);
                let mut course = AlertCourse::new(&alert, limit, options.firings, surroundings, &mut symbols);
                course.report.name = alert.name.clone();
                course.report.group = group.name.value.clone();
                course.report.place = place;
                course.report.expr = rule.expr.text.to_string();
                course.report.labels = group.merged_labels(rule);
                course.grid.step_ms = interval;
                let needed = warm.entry(rhythm).or_default();
                *needed = (*needed).max(evaluations_before(course.holds(), interval));
                let at = Some(courses.len());
                planned.push(Planned { group: group_number, index, rule: Rule::Alert(alert), course: at });
                courses.push(course);
                rhythms.push((rhythm, rule.expr.expr.clone()));
            }
            frames.push(Frame { name: group.name.value.clone(), rhythm, limit: group.limit });
        }
        for (course, (rhythm, _)) in courses.iter_mut().zip(&rhythms) {
            let (interval, _) = *rhythm;
            course.warm = warm[rhythm];
            course.grid.start_ms = options.start_ms - i64::from(course.warm) * interval;
            let steps = (options.end_ms - course.grid.start_ms) / interval + 1;
            course.evaluations = u32::try_from(steps).unwrap_or(u32::MAX);
        }
        let query = QueryOptions {
            max_source_resolution: plan::RESOLUTION,
            // Upstream's limit is one on each evaluation; a stretch has many.
            max_samples: i64::MAX as u64,
            per_step_stats: false,
            ..options.query
        };
        let recorded: Vec<String> = planned
            .iter()
            .filter_map(|p| match &p.rule {
                Rule::Record(rule) => Some(rule.name.clone()),
                Rule::Alert(_) => None,
            })
            .collect();
        let reads = reads(&planned);
        let stepped = match step_all {
            true => vec![true; planned.len()],
            false => in_sequence(&planned, &reads),
        };
        // What is recorded has to be there as far back as its readers look, and theirs.
        let interval_of: Vec<i64> = frames.iter().map(|f| f.rhythm.0).collect();
        let own: Vec<i64> = planned
            .iter()
            .map(|p| {
                let looks = plan::reach(&p.rule.expr().expr).saturating_add(options.query.lookback_delta);
                let holds = p.course.map_or(0, |c| {
                    let Holds { for_ms, keep_firing_for_ms } = courses[c].holds();
                    for_ms.max(0).saturating_add(keep_firing_for_ms.max(0))
                });
                looks.saturating_add(holds).saturating_add(2 * interval_of[p.group])
            })
            .collect();
        let mut leads_ms = vec![0i64; frames.len()];
        for (rule, lead_ms) in planned.iter().zip(leads(&own, &reads)) {
            leads_ms[rule.group] = leads_ms[rule.group].max(lead_ms);
        }
        let alone: Vec<usize> =
            planned.iter().zip(&stepped).filter(|(_, s)| !**s).filter_map(|(p, _)| p.course).collect();
        let sources = sources(&alone, &courses, &rhythms);
        let mut by_group: Vec<Vec<(Rule, Option<usize>)>> = frames.iter().map(|_| Vec::new()).collect();
        for (rule, _) in planned.into_iter().zip(&stepped).filter(|(_, s)| **s) {
            by_group[rule.group].push((rule.rule, rule.course));
        }
        let mut sequence = Sequence::default();
        let frames = frames.into_iter().zip(leads_ms).zip(by_group).filter(|(_, rules)| !rules.is_empty());
        for ((frame, lead_ms), rules) in frames {
            let (interval, query_offset_ms) = frame.rhythm;
            let lead = lead_ms / interval + 1;
            let (rules, courses): (Vec<Rule>, Vec<Option<usize>>) = rules.into_iter().unzip();
            sequence.courses.push(courses);
            sequence.groups.push(EvalGroup {
                name: frame.name,
                query_offset_ms,
                limit: frame.limit,
                rules,
                slots: Slots::Every {
                    first: options.start_ms.saturating_sub(lead.saturating_mul(interval)),
                    step: interval,
                    last: options.end_ms,
                    shown_from: options.start_ms,
                },
            });
        }
        let exprs = rhythms.into_iter().map(|(_, expr)| expr).collect();
        Ok(Self { options, query, symbols, courses, sources, sequence, exprs, recorded, plain: step_all })
    }

    fn run(mut self, storage: &dyn Queryable, control: &Control) -> Result<Report, BacktestError> {
        let asked = Asked { storage, options: &self.query, control };
        for source in &self.sources {
            let evaluations = source.alerts.first().map_or(0, |(a, _)| self.courses[*a].evaluations);
            let mut from = 0;
            while from < evaluations {
                let to = evaluations.min(from.saturating_add(STRETCH));
                let courses = &mut self.courses;
                let mut take = |piece: Piece, symbols: &mut SymbolTable| {
                    for (alert, threshold) in &source.alerts {
                        let course = &mut courses[*alert];
                        match &piece.result {
                            Ok(series) => {
                                let stretch = (piece.first, piece.steps);
                                course.take(stretch, series, *threshold, symbols, &asked);
                            }
                            Err(e) => course.take_failure(piece.first, piece.steps, e),
                        }
                    }
                    Ok(())
                };
                let symbols = &mut self.symbols;
                let range = (from, to);
                column::evaluate(
                    &asked,
                    &source.expr,
                    source.grid,
                    range,
                    source.one_by_one,
                    symbols,
                    &mut take,
                )
                .map_err(|error| {
                    let place = source.alerts.first().map(|(a, _)| self.courses[*a].report.place.clone());
                    BacktestError::Query { place: place.unwrap_or_default(), error }
                })?;
                from = to;
            }
        }
        self.step_through(storage, control)?;
        let (start_ms, end_ms) = (self.options.start_ms, self.options.end_ms);
        let symbols = self.symbols;
        let mut alerts: Vec<_> = self.courses.into_iter().map(|c| c.finish(start_ms, &symbols)).collect();
        let mut notes = Vec::new();
        if !self.plain {
            let looked = notes::Looked { storage, control, options: &self.query, start_ms, end_ms };
            looked.at_selectors(&mut alerts, &self.exprs, &self.recorded)?;
            notes.extend(looked.at_scrapes()?);
        }
        Ok(Report { start_ms, end_ms, symbols, alerts, notes })
    }
}

impl Backtest<'_> {
    fn step_through(&mut self, storage: &dyn Queryable, control: &Control) -> Result<(), BacktestError> {
        let Sequence { groups, courses: places } = &self.sequence;
        if groups.is_empty() {
            return Ok(());
        }
        let settings = EvalSettings {
            query: self.query,
            surroundings: self.options.surroundings.clone(),
            ahead: !self.plain,
            ..EvalSettings::default()
        };
        let evaluation = Evaluation { storage, settings: &settings, control, groups };
        let (courses, symbols) = (&mut self.courses, &mut self.symbols);
        let outcome = evaluation.run(|e: &Evaluated<'_>| {
            if let (Some(course), Some(active)) = (places[e.place.group][e.place.rule], e.alerts) {
                courses[course].take_states(e.slot.ts_ms, active, e.outcome.err(), symbols);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        match outcome {
            Ok(()) => Ok(()),
            Err(EvalError::Storage(e)) => Err(Arc::new(e).into()),
            Err(EvalError::Query { place, error }) => {
                let course = places[place.group][place.rule];
                let place = course.map_or_else(
                    || groups[place.group].rules[place.rule].name().to_string(),
                    |course| courses[course].report.place.clone(),
                );
                Err(BacktestError::Query { place, error })
            }
            Err(EvalError::Watcher(e)) => match e {},
        }
    }
}

/// Who reads whom: writer and reader by their places.
fn reads(planned: &[Planned]) -> Vec<(usize, usize)> {
    let nodes: Vec<RuleNode<'_>> =
        planned.iter().map(|p| RuleNode { group: p.group, index: p.index, rule: &p.rule }).collect();
    let edges = edges(&nodes).into_iter().filter(|e| !matches!(e.reason, Reason::SameName(_)));
    edges.map(|e| (e.writer, e.reader)).collect()
}

/// Which rules have to be evaluated one after the other: alerts that read what the set writes, and all that they read.
fn in_sequence(planned: &[Planned], reads: &[(usize, usize)]) -> Vec<bool> {
    let mut out = vec![false; planned.len()];
    let mut left: Vec<usize> =
        reads.iter().map(|(_, reader)| *reader).filter(|r| planned[*r].course.is_some()).collect();
    while let Some(rule) = left.pop() {
        if !std::mem::replace(&mut out[rule], true) {
            left.extend(reads.iter().filter(|(_, reader)| *reader == rule).map(|(writer, _)| *writer));
        }
    }
    out
}

/// Longest chain of rules that [`leads`] follows; what reads itself has no end.
const CHAIN_MAX: usize = 8;

/// How long before the range each rule has to be evaluated, ms: what it needs itself and what its readers need.
fn leads(own: &[i64], reads: &[(usize, usize)]) -> Vec<i64> {
    let mut out = own.to_vec();
    for _ in 0..CHAIN_MAX {
        let mut longer = out.clone();
        for (writer, reader) in reads.iter().filter(|(w, r)| w != r) {
            longer[*writer] = longer[*writer].max(own[*writer].saturating_add(out[*reader]));
        }
        if longer == out {
            break;
        }
        out = longer;
    }
    out
}

/// Evaluations before the range from which the state at its start follows, where that is possible.
fn evaluations_before(holds: Holds, interval_ms: i64) -> u32 {
    let reach = holds.for_ms.max(0).saturating_add(holds.keep_firing_for_ms.max(0));
    let n = reach / interval_ms + i64::from(reach % interval_ms != 0) + 1;
    u32::try_from(n).unwrap_or(u32::MAX / 4).min(u32::MAX / 4)
}

/// Expressions that are evaluated, each with its alerts. What several alerts compare with numbers is evaluated once.
fn sources(alone: &[usize], courses: &[AlertCourse], rhythms: &[(Rhythm, Arc<Expr>)]) -> Vec<Source> {
    let mut by_left: HashMap<(Rhythm, String), Vec<usize>> = HashMap::new();
    let parts: Vec<(&Expr, Option<Threshold>)> = rhythms
        .iter()
        .map(|(_, expr)| plan::split(expr).map_or((expr.as_ref(), None), |(l, t)| (l, Some(t))))
        .collect();
    for i in alone.iter().copied() {
        let (rhythm, left) = (&rhythms[i].0, parts[i].0);
        by_left.entry((*rhythm, left.unwrap_parens().to_string())).or_default().push(i);
    }
    let mut groups: Vec<Vec<usize>> = by_left.into_values().collect();
    groups.sort();
    let of = |expr: Arc<Expr>, alerts: Vec<(usize, Option<Threshold>)>| {
        let first = alerts[0].0;
        let ((_, offset), course) = (rhythms[first].0, &courses[first]);
        Source {
            one_by_one: plan::is_bound_to_range(&expr),
            expr,
            alerts,
            grid: Grid { start_ms: course.grid.start_ms - offset, step_ms: course.grid.step_ms },
        }
    };
    groups
        .into_iter()
        .map(|group| match group[..] {
            // Alone it is left to the engine, which keeps only what passes.
            [one] => of(rhythms[one].1.clone(), vec![(one, None)]),
            _ => {
                let left = Arc::new(parts[group[0]].0.clone());
                of(left, group.into_iter().map(|i| (i, parts[i].1)).collect())
            }
        })
        .collect()
}
