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
use tsdbctl_storage::{Control, Queryable};
use tsdbctl_template::TemplateError;

use crate::alerting::{AlertRule, Surroundings};
use crate::file::{RuleFile, RuleKind};

pub mod alerts;
pub mod column;
pub mod machine;
pub mod plan;
pub mod report;

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
    on_big_stack(|| Backtest::plan(files, options)?.run(storage, control))
}

struct Backtest<'a> {
    options: &'a Options,
    query: QueryOptions,
    symbols: SymbolTable,
    courses: Vec<AlertCourse>,
    sources: Vec<Source>,
    notes: Vec<String>,
}

impl<'a> Backtest<'a> {
    fn plan(files: &[RuleFile], options: &'a Options) -> Result<Self, BacktestError> {
        let mut symbols = SymbolTable::new();
        let mut courses = Vec::new();
        let mut rhythms: Vec<(Rhythm, Arc<Expr>)> = Vec::new();
        let mut warm: HashMap<Rhythm, u32> = HashMap::new();
        for file in files {
            for group in &file.groups {
                let interval = group.interval_ms.filter(|i| *i > 0).unwrap_or(options.default_interval_ms);
                let interval = options.step_ms.unwrap_or(interval).max(1);
                let offset = group.query_offset_ms.unwrap_or(options.default_query_offset_ms);
                for rule in group.rules.iter().filter(|r| r.kind == RuleKind::Alert) {
                    let place = file.source.place(rule.span);
                    let alert = AlertRule::from_spec(group, rule)
                        .map_err(|error| BacktestError::Template { place: place.clone(), error })?;
                    let mut course =
                        AlertCourse::new(&alert, group.limit, &options.surroundings, &mut symbols);
                    course.report.name = alert.name;
                    course.report.group = group.name.value.clone();
                    course.report.place = place;
                    course.report.expr = rule.expr.text.to_string();
                    course.report.labels = group.merged_labels(rule);
                    course.grid.step_ms = interval;
                    let needed = warm.entry((interval, offset)).or_default();
                    *needed = (*needed).max(evaluations_before(course.holds(), interval));
                    courses.push(course);
                    rhythms.push(((interval, offset), rule.expr.expr.clone()));
                }
            }
        }
        for (course, (rhythm, _)) in courses.iter_mut().zip(&rhythms) {
            let (interval, _) = *rhythm;
            course.warm = warm[rhythm];
            course.grid.start_ms = options.start_ms - i64::from(course.warm) * interval;
            let steps = (options.end_ms - course.grid.start_ms) / interval + 1;
            course.evaluations = u32::try_from(steps).unwrap_or(u32::MAX);
        }
        let sources = sources(&courses, &rhythms);
        let query = QueryOptions {
            max_source_resolution: plan::RESOLUTION,
            // Upstream's limit is one on each evaluation; a stretch has many.
            max_samples: i64::MAX as u64,
            per_step_stats: false,
            ..options.query
        };
        Ok(Self { options, query, symbols, courses, sources, notes: Vec::new() })
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
        let (start_ms, end_ms) = (self.options.start_ms, self.options.end_ms);
        let symbols = self.symbols;
        let alerts = self.courses.into_iter().map(|c| c.finish(start_ms, &symbols)).collect();
        Ok(Report { start_ms, end_ms, symbols, alerts, notes: self.notes })
    }
}

/// Evaluations before the range from which the state at its start follows, where that is possible.
fn evaluations_before(holds: Holds, interval_ms: i64) -> u32 {
    let reach = holds.for_ms.max(0).saturating_add(holds.keep_firing_for_ms.max(0));
    let n = reach / interval_ms + i64::from(reach % interval_ms != 0) + 1;
    u32::try_from(n).unwrap_or(u32::MAX / 4).min(u32::MAX / 4)
}

/// Expressions that are evaluated, each with its alerts. What several alerts compare with numbers is evaluated once.
fn sources(courses: &[AlertCourse], rhythms: &[(Rhythm, Arc<Expr>)]) -> Vec<Source> {
    let mut by_left: HashMap<(Rhythm, String), Vec<usize>> = HashMap::new();
    let parts: Vec<(&Expr, Option<Threshold>)> = rhythms
        .iter()
        .map(|(_, expr)| plan::split(expr).map_or((expr.as_ref(), None), |(l, t)| (l, Some(t))))
        .collect();
    for (i, ((rhythm, _), (left, _))) in rhythms.iter().zip(&parts).enumerate() {
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
