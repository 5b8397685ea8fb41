//! Running scripts on an engine.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use tsdbctl_storage::Annotations;

use super::compare::{Answer, Difference};
use super::expect::Message;
use super::load::LoadedSeries;
use super::pin::pinned;
use super::read::{Evaluation, Script, Statement, StatementKind, script_features};
use crate::engine::error::QueryError;
use crate::engine::options::{QueryOptions, QueryTime};
use crate::engine::result::QueryResult;

/// What a script runs on: data that can be added and removed, and an engine over it.
pub trait ScriptEngine {
    /// Removes all data.
    fn clear(&mut self);

    /// Adds samples to a series.
    ///
    /// # Errors
    /// Why they cannot be added.
    fn append(&mut self, series: &LoadedSeries) -> Result<(), String>;

    /// Evaluates an expression.
    ///
    /// # Errors
    /// Why it has no answer.
    fn query(&self, expr: &str, time: QueryTime, options: &QueryOptions) -> Result<QueryResult, QueryError>;
}

/// Something that did not come out as the script says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The script's name.
    pub file: String,
    /// The statement's line, from 1.
    pub line: usize,
    /// The expression as it was evaluated; empty for `load`.
    pub expression: String,
    /// When it was evaluated.
    pub time: Option<QueryTime>,
    /// What was expected.
    pub expected: String,
    /// What there was.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.expression)?;
        match self.time {
            Some(QueryTime::Instant(t)) => write!(f, " (at {t} ms)")?,
            Some(QueryTime::Range { start, end, step }) => {
                write!(f, " (from {start} to {end} ms, step {step} ms)")?;
            }
            None => {}
        }
        write!(f, "\n  expected: {}\n  got:      {}", self.expected, self.got)
    }
}

/// How a script went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// `eval` statements run.
    pub evaluations: usize,
    /// Queries they made.
    pub queries: usize,
    /// At most one per statement.
    pub failures: Vec<Failure>,
}

/// Settings that scripts are written for.
pub fn run_options() -> QueryOptions {
    QueryOptions {
        lookback_delta: 300_000,
        max_samples: 10_000,
        default_subquery_step: 60_000,
        features: script_features(),
        ..QueryOptions::default()
    }
}

/// Runs all statements; a failed one does not stop the script.
pub fn run(file: &str, script: &Script, engine: &mut dyn ScriptEngine, options: &QueryOptions) -> Report {
    let mut runner = Runner { file, options, report: Report::default() };
    engine.clear();
    for statement in &script.statements {
        match &statement.kind {
            StatementKind::Clear => engine.clear(),
            StatementKind::Load(load) => {
                let mut loaded = load.series.iter().try_for_each(|s| engine.append(s));
                if load.with_nhcb && loaded.is_ok() {
                    loaded = load
                        .native_histograms()
                        .and_then(|series| series.iter().try_for_each(|s| engine.append(s)));
                }
                if let Err(e) = loaded {
                    runner.fail(statement, "", None, Difference::new("loaded data", e));
                }
            }
            StatementKind::Eval(eval) => {
                runner.report.evaluations += 1;
                runner.evaluate(statement, eval, engine);
            }
        }
    }
    runner.report
}

struct Runner<'a> {
    file: &'a str,
    options: &'a QueryOptions,
    report: Report,
}

/// Calls that answer differently in another range of times.
static QUERY_CONTEXT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(start|end|range|step)\(\)").ok());

const MINUTE_MS: i64 = 60_000;

impl Runner<'_> {
    fn fail(&mut self, statement: &Statement, expr: &str, time: Option<QueryTime>, difference: Difference) {
        self.report.failures.push(Failure {
            file: self.file.to_string(),
            line: statement.line,
            expression: expr.to_string(),
            time,
            expected: difference.expected,
            got: difference.got,
        });
    }

    fn evaluate(&mut self, statement: &Statement, eval: &Evaluation, engine: &dyn ScriptEngine) {
        let mut queries = vec![(eval.expr.clone(), eval.time)];
        if let QueryTime::Instant(t) = eval.time {
            match pinned(&eval.expr, t) {
                Ok(more) => queries.extend(more),
                Err(e) => {
                    let difference = Difference::new("an expression", e.api_message(&eval.expr));
                    return self.fail(statement, &eval.expr, None, difference);
                }
            }
        }
        for (expr, time) in queries {
            if let Err((time, difference)) = self.query(eval, &expr, time, engine) {
                return self.fail(statement, &expr, Some(time), difference);
            }
        }
    }

    /// One query, and its repetition as a range query.
    fn query(
        &mut self,
        eval: &Evaluation,
        expr: &str,
        time: QueryTime,
        engine: &dyn ScriptEngine,
    ) -> Result<(), (QueryTime, Difference)> {
        let at = |difference| (time, difference);
        self.report.queries += 1;
        let result = match engine.query(expr, time, self.options) {
            Ok(_) if eval.expected.fails() => {
                return Err(at(Difference::new("an error", "none")));
            }
            Ok(result) => result,
            Err(e) => return check_failure(&eval.expected.fail, &e.message).map_err(at),
        };
        check_annotations(eval, expr, &result.annotations).map_err(at)?;
        let answer = Answer::of(&result);
        answer.compare(&eval.expected, eval.matrix).map_err(at)?;

        let QueryTime::Instant(t) = time else { return Ok(()) };
        if eval.instant_only || QUERY_CONTEXT.as_ref().is_some_and(|p| p.is_match(expr)) {
            return Ok(());
        }
        let time = QueryTime::Range { start: t - MINUTE_MS, end: t + MINUTE_MS, step: MINUTE_MS };
        let at = |difference| (time, difference);
        self.report.queries += 1;
        let result = engine
            .query(expr, time, self.options)
            .map_err(|e| at(Difference::new("an answer in range mode too", e.message)))?;
        if eval.expected.ordered {
            return Ok(());
        }
        let matrix = Answer::of(&result);
        matrix.check_sorted().map_err(at)?;
        matrix
            .at(t, matches!(answer, Answer::Scalar(_)))
            .compare(&eval.expected, eval.matrix)
            .map_err(|d| at(Difference::new(format!("{} in range mode too", d.expected), d.got)))
    }
}

fn check_failure(expected: &[Message], message: &str) -> Result<(), Difference> {
    match expected.iter().find(|m| !m.matches(message)) {
        None if expected.is_empty() => Err(Difference::new("an answer", format!("error: {message}"))),
        None => Ok(()),
        Some(m) => Err(Difference::new(format!("an error: {}", m.describe()), message)),
    }
}

fn check_annotations(eval: &Evaluation, expr: &str, annotations: &Annotations) -> Result<(), Difference> {
    let expected = &eval.expected;
    let (warnings, infos) = annotations.render(expr, 0);
    for (word, some, none, messages, texts) in [
        ("warning", expected.some_warn, expected.no_warn, &expected.warn, &warnings),
        ("info", expected.some_info, expected.no_info, &expected.info, &infos),
    ] {
        let got = || if texts.is_empty() { "none".to_string() } else { texts.join("; ") };
        if (some || !messages.is_empty()) && texts.is_empty() {
            let wanted: Vec<String> = messages.iter().map(Message::describe).collect();
            return Err(Difference::new(format!("{word}: {}", wanted.join("; ")), "none"));
        }
        if let Some(m) = messages.iter().find(|m| !texts.iter().any(|t| m.matches(t))) {
            return Err(Difference::new(format!("{word}: {}", m.describe()), got()));
        }
        let other = texts.iter().find(|t| !messages.iter().any(|m| m.matches(t)));
        if let (false, Some(other)) = (messages.is_empty(), other) {
            return Err(Difference::new(format!("no other {word}"), other.clone()));
        }
        if none && !texts.is_empty() {
            return Err(Difference::new(format!("no {word}"), got()));
        }
    }
    Ok(())
}
