//! One test: the clock goes from the start to the last evaluation time, rules run at every step, alerts are compared
//! where a test asks for them, expressions at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tsdbctl_model::duration::format_duration_ms;
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::{Features, QueryOptions};
use tsdbctl_storage::control::Control;
use tsdbctl_yaml::Spanned;

use super::compare::{AlertText, SampleText, pairs};
use super::file::{ExprCase, FileProblem, TestFile, TestGroup};
use super::fit::{
    alert_text, alerts_fit, expected_text, in_upstreams_order, place_of_fault, sample_text, samples_fit,
};
use super::outcome::{Failure, FailureKind, Outcome, Warning};
use super::program::{GroupProgram, PlacedRule, Program};
use super::query::UnitQuery;
use super::series::{Input, LazySeries, place_in_scalar, read_input};
use super::storage::UnitStorage;
use super::store::UnitStore;
use crate::alerting::{AlertState, At, Surroundings};
use crate::group::{Rule, RuleState, World, evaluate_one};
use crate::sending::{AlertSink, OutgoingAlert, Resend};

/// Upstream's limit on samples that a query of a test may hold.
pub const UPSTREAM_MAX_SAMPLES: u64 = 10_000;

/// How tests are run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// What PromQL may use.
    pub features: Features,
    /// Upstream's limits rather than ours.
    pub upstream_limits: bool,
    /// Keep all samples for a dump.
    pub dump: bool,
}

/// Whether a test may be left out because of how it is named (`--run`).
pub fn display_name(file: &TestFile, index: usize) -> String {
    match file.tests.get(index).and_then(|t| t.name.as_ref()) {
        Some(name) => name.value.clone(),
        None => format!("unnamed#{index}"),
    }
}

/// The groups in the order in which a file's tests run them: by `group_eval_order`, unlisted ones together with the
/// first listed, otherwise in the order of the files.
pub fn ordered<'p>(program: &'p Program, order: &[Spanned<String>]) -> Vec<&'p GroupProgram> {
    let position = |g: &GroupProgram| order.iter().position(|n| n.value == g.name).unwrap_or(0);
    let mut groups: Vec<&GroupProgram> = program.groups.iter().collect();
    groups.sort_by_key(|g| position(g));
    groups
}

/// The rules of a group with their state.
pub(super) struct RunningGroup<'p> {
    /// What they do.
    pub(super) group: &'p GroupProgram,
    /// The state of each.
    states: Vec<RuleState>,
}

impl<'p> RunningGroup<'p> {
    fn new(group: &'p GroupProgram) -> Self {
        Self { group, states: group.rules.iter().map(|_| RuleState::default()).collect() }
    }

    /// The rules, each with its state.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&'p PlacedRule, &RuleState)> {
        self.group.rules.iter().zip(&self.states)
    }
}

/// Runs one test on the calling thread, whose stack must be a big one.
pub fn run_test(
    file: &TestFile,
    test: &TestGroup,
    groups: &[&GroupProgram],
    settings: &Settings,
    control: &Control,
) -> Outcome {
    let mut outcome = Outcome::default();
    let options = QueryOptions {
        default_subquery_step: file.evaluation_interval_ms,
        threads: 1,
        features: settings.features,
        max_samples: if settings.upstream_limits {
            UPSTREAM_MAX_SAMPLES
        } else {
            QueryOptions::default().max_samples
        },
        ..QueryOptions::default()
    };
    let input = match input_of(file, test) {
        Ok(input) => input,
        Err(problem) => {
            outcome.failures.push(refused_input(problem));
            return outcome;
        }
    };
    outcome.warnings.extend(input.warnings.into_iter().map(|w| Warning {
        message: w.message,
        span: w.span,
        hint: w.hint,
    }));
    if let Some(failure) = case_without_name(test) {
        outcome.failures.push(failure);
        return outcome;
    }
    let store = UnitStore::new();
    let mut test_run = TestRun {
        test,
        interval_ms: file.evaluation_interval_ms,
        file,
        groups: groups.iter().map(|g| RunningGroup::new(g)).collect(),
        storage: UnitStorage::new(store.clone(), UnitQuery::new(store, options, control)),
        surroundings: Surroundings {
            external_labels: test.external_labels.clone(),
            external_url: test.external_url.clone(),
        },
        outcome,
    };
    test_run.steps(input.series, control);
    if settings.dump {
        test_run.outcome.dump = test_run.storage.store.dump();
    }
    test_run.outcome
}

/// What a test comes to whose rules cannot be read: its input is looked at first.
pub fn without_rules(file: &TestFile, test: &TestGroup, why: &[String]) -> Outcome {
    let failures = match input_of(file, test) {
        Ok(_) => why.iter().map(|text| Failure::other(text.as_str(), test.span)).collect(),
        Err(problem) => vec![refused_input(problem)],
    };
    Outcome { failures, ..Outcome::default() }
}

fn input_of(file: &TestFile, test: &TestGroup) -> Result<Input, FileProblem> {
    read_input(&test.input_series, &file.source, test.start_ms, test.interval_ms)
}

fn refused_input(problem: FileProblem) -> Failure {
    Failure { hint: problem.hint, ..Failure::other(problem.message, problem.span) }
}

fn case_without_name(test: &TestGroup) -> Option<Failure> {
    let case = test.alert_cases.iter().find(|c| c.alertname.value.is_empty())?;
    let group = match &test.name {
        Some(name) => format!(" (in TestGroup {})", name.value),
        None => String::new(),
    };
    let time = format_duration_ms(case.eval_time_ms);
    let message = format!(
        "an item under alert_rule_test misses required attribute alertname at eval_time {time}{group}"
    );
    let mut failure = Failure::other(message, case.span);
    failure.hint = Some("add alertname: the name of the alerting rule".to_string());
    Some(failure)
}

/// A test that runs.
pub(super) struct TestRun<'p> {
    /// The test.
    pub(super) test: &'p TestGroup,
    file: &'p TestFile,
    interval_ms: i64,
    /// The rules, in their order.
    pub(super) groups: Vec<RunningGroup<'p>>,
    /// The samples.
    pub(super) storage: UnitStorage<'p>,
    surroundings: Surroundings,
    outcome: Outcome,
}

/// Largest evaluation time of a test.
pub fn last_eval_time_ms(test: &TestGroup) -> i64 {
    let alerts = test.alert_cases.iter().map(|c| c.eval_time_ms);
    alerts.chain(test.expr_cases.iter().map(|c| c.eval_time_ms)).max().unwrap_or(0)
}

/// A clock that stands at a step.
struct StepClock(i64);

impl Clock for StepClock {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Nobody is told of alerts.
struct Nobody;

impl AlertSink for Nobody {
    fn send(&self, _: Vec<OutgoingAlert>) {}
}

/// Alerts are sent once: nobody listens.
const NO_RESEND: Resend = Resend { delay_ms: i64::MAX / 16, interval_ms: 0 };

impl TestRun<'_> {
    /// All evaluations. A rule that fails ends the test.
    fn steps(&mut self, mut input: Vec<LazySeries>, control: &Control) {
        let (start, interval) = (self.test.start_ms, self.interval_ms);
        let last = start.saturating_add(last_eval_time_ms(self.test));
        let cases = self.test.alert_cases.iter().enumerate();
        let mut asked: Vec<(i64, usize)> = cases.map(|(i, c)| (c.eval_time_ms, i)).collect();
        asked.sort_unstable();
        let mut asked = asked.into_iter().peekable();
        let runs_rules = self.groups.iter().any(|g| !g.group.rules.is_empty());
        let mut refused = false;
        let (mut ts, mut before) = (start, i64::MIN);
        while ts <= last {
            if let Err(e) = control.check("unit test") {
                self.outcome.failures.push(Failure::other(e.to_string(), self.test.span));
                return;
            }
            // Without rules nothing happens between the times that are looked at.
            let next_asked = asked.peek().map_or(last, |(t, _)| start.saturating_add(*t)).min(last);
            if !runs_rules && next_asked > ts {
                ts += (next_asked - ts) / interval * interval;
            }
            if !refused && let Err(e) = self.storage.store.load_until(&mut input, ts) {
                self.refused(ts, e.to_string());
                self.storage.store.forget_after(before);
                refused = true;
            }
            if !refused && self.run_groups(ts) {
                return;
            }
            while let Some((_, i)) = asked.next_if(|(t, _)| *t < (ts - start).saturating_add(interval)) {
                self.alert_case(i, ts);
            }
            before = ts;
            ts = match ts.checked_add(interval) {
                Some(next) => next,
                None => break,
            };
        }
        for (i, case) in self.test.expr_cases.iter().enumerate() {
            self.expr_case(i, case);
        }
    }

    /// Says that the input was refused. Upstream tries again at every step and says so each time; nothing else happens
    /// any more, and nothing of that step's samples is there.
    fn refused(&mut self, ts_ms: i64, message: String) {
        let mut failure = Failure::other(message, self.test.span);
        failure.hint = Some(format!(
            "an input series was refused at {} behind the start; no rule runs from there on",
            format_duration_ms(ts_ms - self.test.start_ms)
        ));
        self.outcome.failures.push(failure);
    }

    /// One evaluation of all groups; whether a rule failed.
    fn run_groups(&mut self, ts_ms: i64) -> bool {
        let mut failed = false;
        let world = World { storage: &self.storage, sink: &Nobody, clock: &StepClock(ts_ms) };
        for RunningGroup { group, states } in &mut self.groups {
            let at = At {
                ts_ms,
                query_offset_ms: group.query_offset_ms,
                limit: group.limit,
                surroundings: &self.surroundings,
            };
            for (placed, state) in group.rules.iter().zip(states.iter_mut()) {
                evaluate_one(&placed.rule, state, &at, NO_RESEND, world);
            }
            for (placed, state) in group.rules.iter().zip(states) {
                let Some(error) = &state.last_error else { continue };
                failed = true;
                let name = placed.rule.name().to_string();
                let kind = FailureKind::Rule { name, t_ms: ts_ms, error: error.clone() };
                let mut failure = Failure::of(kind, self.test.span);
                failure.rules.push((Arc::clone(&group.source), placed.expr_span));
                self.outcome.failures.push(failure);
            }
        }
        failed
    }

    fn alert_case(&mut self, index: usize, ts_ms: i64) {
        let case = &self.test.alert_cases[index];
        let name = case.alertname.value.as_str();
        let mut got: Vec<AlertText> = Vec::new();
        for (placed, state) in self.groups.iter().flat_map(RunningGroup::rules) {
            if !placed.alerts_as(name) {
                continue;
            }
            let firing = state.active.active().filter(|a| a.state == AlertState::Firing);
            got.extend(firing.map(|a| AlertText {
                labels: pairs(a.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()))),
                annotations: pairs(a.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
            }));
        }
        got.sort();
        let mut expected: Vec<AlertText> = case.expected.iter().map(|a| alert_text(a, name)).collect();
        expected.sort();
        let (fits, unmet) = alerts_fit(case, &expected, &got);
        if fits {
            return;
        }
        let kind = FailureKind::Alerts {
            case: index,
            alertname: name.to_string(),
            eval_time_ms: case.eval_time_ms,
            expected,
            got,
            unmet,
        };
        let mut failure = Failure::of(kind, case.span);
        self.explain_alert(case, ts_ms, &mut failure);
        self.outcome.failures.push(failure);
    }

    fn expr_case(&mut self, index: usize, case: &ExprCase) {
        let t_ms = self.test.start_ms.saturating_add(case.eval_time_ms);
        let error = |error: String| FailureKind::Expr {
            expr: case.expr.value.clone(),
            eval_time_ms: case.eval_time_ms,
            error,
        };
        let answer = self.storage.unit_query().ask(&case.expr.value, t_ms);
        let got = match answer {
            Ok(Ok(got)) => got,
            Ok(Err(e)) => {
                let is_range = e.to_string().contains("not a vector or scalar");
                let mut failure = Failure::of(error(e.to_string()), case.expr.span);
                failure.hint = is_range.then(|| {
                    "a range or a text has no samples to compare: take the range away, or put a function around it"
                        .to_string()
                });
                self.outcome.failures.push(failure);
                return;
            }
            Err(e) => {
                let span = match e.span {
                    _ if case.expr.value.is_empty() => case.span,
                    Some(span) => place_in_scalar(&case.expr, &self.file.source, span.start as usize),
                    None => case.expr.span,
                };
                let mut failure = Failure::of(error(e.message), span);
                failure.hint = match case.expr.value.is_empty() {
                    true => Some("add `expr:`, the expression whose samples are expected".to_string()),
                    false => e.hint,
                };
                self.outcome.failures.push(failure);
                return;
            }
        };
        let mut got: Vec<SampleText> = got.iter().map(sample_text).collect();
        in_upstreams_order(&mut got);
        let mut expected = Vec::with_capacity(case.expected.len());
        for sample in &case.expected {
            match expected_text(sample) {
                Ok(text) => expected.push(text),
                Err(message) => {
                    let labels = tsdbctl_model::float_text::go_quote(&sample.labels.value);
                    let kind = error(format!("labels {labels}: {message}"));
                    let (span, hint) = place_of_fault(sample, &self.file.source);
                    let mut failure = Failure::of(kind, span);
                    failure.hint = hint;
                    self.outcome.failures.push(failure);
                    return;
                }
            }
        }
        let (fits, unmet) = samples_fit(case, &expected, &got, self.file.fuzzy_compare);
        if fits {
            return;
        }
        in_upstreams_order(&mut expected);
        let kind = FailureKind::Samples {
            case: index,
            expr: case.expr.value.clone(),
            eval_time_ms: case.eval_time_ms,
            expected,
            got,
            unmet,
        };
        let mut failure = Failure::of(kind, case.span);
        self.explain_expr(case, t_ms, &mut failure);
        self.outcome.failures.push(failure);
    }
}

/// Alert names of a test's rules, with how many rules have each.
pub fn alert_names<'p>(groups: &[&'p GroupProgram]) -> HashMap<&'p str, usize> {
    let mut names = HashMap::new();
    for placed in groups.iter().flat_map(|g| &g.rules) {
        if let Rule::Alert(a) = &placed.rule {
            *names.entry(a.name.as_str()).or_default() += 1;
        }
    }
    names
}
