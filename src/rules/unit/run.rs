//! One test: the clock goes from the start to the last evaluation time, rules run at every step, alerts are compared
//! where a test asks for them, expressions at the end.

use std::collections::HashMap;
use std::sync::Arc;

use tsdbctl_model::duration::{format_duration_ms, format_go_duration_ns};
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{Labels, Span};
use tsdbctl_promql::engine::{Features, QueryOptions, Sample};
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_promql::parser::{SequenceItem, parse_metric, parse_series_items};
use tsdbctl_storage::control::Control;
use tsdbctl_yaml::{Source, Spanned};

use super::compare::{
    AlertText, Pairs, SampleText, assign, bad_pattern, floats_equal, pairs, pairs_match, pairs_text,
};
use super::file::{
    AlertCase, ExpectedAlert, ExpectedSample, ExprCase, Matching, Presence, TestFile, TestGroup,
};
use super::program::{GroupProgram, Program, RuleProgram};
use super::query::{UnitQuery, selectors};
use super::series::{place_in_scalar, read_input};
use super::store::UnitStore;
use crate::alerting::{self, ALERT_NAME, ActiveAlerts, AlertState, At, Surroundings};
use crate::query::Element;
use crate::recording::{self, RuleSample};

/// Upstream's limit on samples that a query of a test may hold.
pub const UPSTREAM_MAX_SAMPLES: u64 = 10_000;

/// Elements of an expression's value that a report shows.
const MOST_SHOWN: usize = 8;

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

/// What one test came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What failed, in upstream's order.
    pub failures: Vec<Failure>,
    /// What is silent upstream and probably not meant.
    pub warnings: Vec<Warning>,
    /// All series at the end, if asked for.
    pub dump: Vec<(Labels, Vec<(i64, Sample)>)>,
}

/// Something that is probably not meant; verdicts do not depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What.
    pub message: String,
    /// Where in the test file.
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
}

/// One failure.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed.
    pub kind: FailureKind,
    /// Where in the test file.
    pub span: Span,
    /// The rules it is about: file and place.
    pub rules: Vec<(Arc<Source>, Span)>,
    /// Values that explain it: an expression, the time and what it gave.
    pub values: Vec<Values>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What an expression gave at a time.
#[derive(Clone, Debug)]
pub struct Values {
    /// The expression.
    pub expr: String,
    /// ms behind the start of the test.
    pub time_ms: i64,
    /// `{labels} value`, the first of them; or why there are none.
    pub lines: Vec<String>,
    /// How many there are beyond the lines.
    pub more: usize,
}

/// What failed.
#[derive(Clone, Debug)]
pub enum FailureKind {
    /// Other alerts than expected.
    Alerts {
        /// Index of the case in the test.
        case: usize,
        /// The alert's name.
        alertname: String,
        /// ms behind the start.
        eval_time_ms: i64,
        /// What was expected, sorted as upstream does.
        expected: Vec<AlertText>,
        /// What fired, sorted.
        got: Vec<AlertText>,
        /// For our own kinds of expectation: what they say.
        unmet: Vec<String>,
    },
    /// Other samples than expected.
    Samples {
        /// Index of the case in the test.
        case: usize,
        /// The expression.
        expr: String,
        /// ms behind the start.
        eval_time_ms: i64,
        /// What was expected, sorted.
        expected: Vec<SampleText>,
        /// What came, sorted.
        got: Vec<SampleText>,
        /// For our own kinds of expectation: what they say.
        unmet: Vec<String>,
    },
    /// An expression of a test without value.
    Expr {
        /// The expression.
        expr: String,
        /// ms behind the start.
        eval_time_ms: i64,
        /// Upstream's text.
        error: String,
    },
    /// A rule without value: the test ends there.
    Rule {
        /// The rule's name.
        name: String,
        /// When, Unix ms.
        t_ms: i64,
        /// Upstream's text.
        error: String,
    },
    /// Anything else: the whole text.
    Other(String),
}

impl Failure {
    /// A failure at a place of the test file.
    pub fn of(kind: FailureKind, span: Span) -> Self {
        Self { kind, span, rules: Vec::new(), values: Vec::new(), hint: None }
    }

    /// A failure that is a text.
    pub fn other(message: impl Into<String>, span: Span) -> Self {
        Self::of(FailureKind::Other(message.into()), span)
    }
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

struct RunningRule<'p> {
    program: &'p RuleProgram,
    active: ActiveAlerts,
    last: Vec<Labels>,
    error: Option<String>,
}

struct RunningGroup<'p> {
    group: &'p GroupProgram,
    rules: Vec<RunningRule<'p>>,
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
    let input = match read_input(&test.input_series, &file.source, test.start_ms, test.interval_ms) {
        Ok(input) => input,
        Err(problem) => {
            let mut failure = Failure::other(problem.message, problem.span);
            failure.hint = problem.hint;
            outcome.failures.push(failure);
            return outcome;
        }
    };
    outcome.warnings.extend(input.warnings.into_iter().map(|w| Warning {
        message: w.message,
        span: w.span,
        hint: w.hint,
    }));
    if let Some(case) = test.alert_cases.iter().find(|c| c.alertname.value.is_empty()) {
        let group = match &test.name {
            Some(name) => format!(" (in TestGroup {})", name.value),
            None => String::new(),
        };
        let mut failure = Failure::other(
            format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time {}{group}",
                format_duration_ms(case.eval_time_ms)
            ),
            case.span,
        );
        failure.hint = Some("add alertname: the name of the alerting rule".to_string());
        outcome.failures.push(failure);
        return outcome;
    }
    let store = UnitStore::new();
    let mut test_run = TestRun {
        file,
        test,
        groups: groups.iter().map(|g| running(g)).collect(),
        query: UnitQuery::new(store.clone(), options, control),
        store,
        surroundings: Surroundings {
            external_labels: test.external_labels.clone(),
            external_url: test.external_url.trim_end_matches('/').to_string(),
        },
        outcome,
    };
    test_run.steps(input.series, control);
    if settings.dump {
        test_run.outcome.dump = test_run.store.dump();
    }
    test_run.outcome
}

fn running<'p>(group: &'p GroupProgram) -> RunningGroup<'p> {
    let rule = |r: &'p super::program::PlacedRule| RunningRule {
        program: &r.program,
        active: ActiveAlerts::new(true),
        last: Vec::new(),
        error: None,
    };
    RunningGroup { group, rules: group.rules.iter().map(rule).collect() }
}

struct TestRun<'p> {
    file: &'p TestFile,
    test: &'p TestGroup,
    groups: Vec<RunningGroup<'p>>,
    query: UnitQuery<'p>,
    store: UnitStore,
    surroundings: Surroundings,
    outcome: Outcome,
}

/// Largest evaluation time of a test.
pub fn last_eval_time_ms(test: &TestGroup) -> i64 {
    let alerts = test.alert_cases.iter().map(|c| c.eval_time_ms);
    alerts.chain(test.expr_cases.iter().map(|c| c.eval_time_ms)).max().unwrap_or(0)
}

impl TestRun<'_> {
    fn steps(&mut self, mut input: Vec<super::series::LazySeries>, control: &Control) {
        let (start, interval) = (self.test.start_ms, self.file.evaluation_interval_ms);
        let last = start.saturating_add(last_eval_time_ms(self.test));
        let mut times: Vec<i64> = self.test.alert_cases.iter().map(|c| c.eval_time_ms).collect();
        times.sort_unstable();
        times.dedup();
        let mut times = times.into_iter().peekable();
        let runs_rules = self.groups.iter().any(|g| !g.rules.is_empty());
        let mut refused = false;
        let mut ts = start;
        while ts <= last {
            if let Err(e) = control.check("unit test") {
                self.outcome.failures.push(Failure::other(e.to_string(), self.test.span));
                return;
            }
            // Without rules nothing happens between the times that are looked at.
            let next_asked = times.peek().map_or(last, |t| start.saturating_add(*t)).min(last);
            if !runs_rules && next_asked > ts {
                ts += (next_asked - ts) / interval * interval;
            }
            if !refused && let Err(e) = self.store.load_until(&mut input, ts) {
                // Upstream tries again at every step and says so each time; nothing else happens any more.
                let mut failure = Failure::other(e.to_string(), self.test.span);
                failure.hint = Some(format!(
                    "an input series was refused at {} behind the start; no rule runs from there on",
                    format_duration_ms(ts - start)
                ));
                self.outcome.failures.push(failure);
                refused = true;
            }
            if !refused && self.run_groups(ts) {
                return;
            }
            while let Some(t) = times.next_if(|t| ts - start <= *t && *t < ts - start + interval) {
                self.alert_cases(t, ts);
            }
            ts = match ts.checked_add(interval) {
                Some(next) => next,
                None => break,
            };
        }
        for (i, case) in self.test.expr_cases.iter().enumerate() {
            self.expr_case(i, case);
        }
    }

    /// One evaluation of all groups; whether a rule failed.
    fn run_groups(&mut self, ts_ms: i64) -> bool {
        let mut failed = false;
        for group in &mut self.groups {
            let at = At {
                ts_ms,
                query_offset_ms: group.group.query_offset_ms,
                limit: group.group.limit,
                surroundings: &self.surroundings,
            };
            for rule in &mut group.rules {
                run_rule(rule, &at, &mut self.query, &self.store);
            }
            for (rule, placed) in group.rules.iter().zip(&group.group.rules) {
                let Some(error) = &rule.error else { continue };
                failed = true;
                let kind =
                    FailureKind::Rule { name: placed.name().to_string(), t_ms: ts_ms, error: error.clone() };
                let mut failure = Failure::of(kind, self.test.span);
                failure.rules.push((Arc::clone(&group.group.source), placed.expr_span));
                self.outcome.failures.push(failure);
            }
        }
        failed
    }

    fn alert_cases(&mut self, eval_time_ms: i64, ts_ms: i64) {
        let test = self.test;
        for (i, case) in test.alert_cases.iter().enumerate().filter(|(_, c)| c.eval_time_ms == eval_time_ms) {
            let mut got: Vec<AlertText> = Vec::new();
            for rule in self.groups.iter().flat_map(|g| &g.rules) {
                let RuleProgram::Alert(program) = rule.program else { continue };
                if program.name != case.alertname.value {
                    continue;
                }
                got.extend(rule.active.active().filter(|a| a.state == AlertState::Firing).map(|a| {
                    AlertText {
                        labels: pairs(a.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()))),
                        annotations: pairs(a.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
                    }
                }));
            }
            got.sort();
            let mut expected: Vec<AlertText> =
                case.expected.iter().map(|a| alert_text(a, &case.alertname.value)).collect();
            let (fits, unmet) = alerts_fit(case, &got);
            if fits {
                continue;
            }
            expected.sort();
            let mut failure = Failure::of(
                FailureKind::Alerts {
                    case: i,
                    alertname: case.alertname.value.clone(),
                    eval_time_ms,
                    expected,
                    got,
                    unmet,
                },
                case.span,
            );
            self.explain_alert(case, ts_ms, &mut failure);
            self.outcome.failures.push(failure);
        }
    }

    /// The rules of an alert's name, what they asked and got.
    fn explain_alert(&self, case: &AlertCase, ts_ms: i64, failure: &mut Failure) {
        let mut pending = 0;
        for group in &self.groups {
            for (rule, placed) in group.rules.iter().zip(&group.group.rules) {
                let RuleProgram::Alert(program) = rule.program else { continue };
                if program.name != case.alertname.value {
                    continue;
                }
                pending += rule.active.active().filter(|a| a.state == AlertState::Pending).count();
                failure.rules.push((Arc::clone(&group.group.source), placed.span));
                let t_ms = ts_ms.saturating_sub(group.group.query_offset_ms);
                failure.values.push(self.values(&program.expr.expr, &program.expr.text, t_ms));
                // The operands of the comparison tell more than what is left of them.
                if let Expr::Binary(b) = program.expr.expr.unwrap_parens() {
                    for side in [&b.lhs, &b.rhs] {
                        if !matches!(side.unwrap_parens(), Expr::Number(_)) {
                            failure.values.push(self.values(side, &side.to_string(), t_ms));
                        }
                    }
                }
            }
        }
        if failure.rules.is_empty() {
            failure.hint = Some(self.no_such_alert(&case.alertname.value));
        } else if pending > 0 {
            let word = if pending == 1 { "alert is" } else { "alerts are" };
            failure.hint = Some(format!("{pending} {word} pending: its `for` has not passed yet"));
        }
    }

    fn no_such_alert(&self, name: &str) -> String {
        let names = self.groups.iter().flat_map(|g| &g.group.rules).filter_map(|r| match &r.program {
            RuleProgram::Alert(a) => Some(a.name.as_str()),
            RuleProgram::Record(_) => None,
        });
        no_such_alert(name, names)
    }

    fn values(&self, expr: &Expr, text: &str, t_ms: i64) -> Values {
        let (lines, more) = match self.query.value(expr, t_ms) {
            Ok(elements) if elements.is_empty() => (vec!["nothing".to_string()], 0),
            Ok(elements) => {
                let mut lines: Vec<String> = elements.iter().map(|e| sample_text(e).text()).collect();
                lines.sort();
                let more = lines.len().saturating_sub(MOST_SHOWN);
                lines.truncate(MOST_SHOWN);
                (lines, more)
            }
            Err(e) => (vec![e.to_string()], 0),
        };
        Values { expr: text.trim().to_string(), time_ms: t_ms - self.test.start_ms, lines, more }
    }

    fn expr_case(&mut self, index: usize, case: &ExprCase) {
        let t_ms = self.test.start_ms.saturating_add(case.eval_time_ms);
        let error = |error: String| FailureKind::Expr {
            expr: case.expr.value.clone(),
            eval_time_ms: case.eval_time_ms,
            error,
        };
        let got = match self.query.ask(&case.expr.value, t_ms) {
            Ok(Ok(got)) => got,
            Ok(Err(e)) => {
                self.outcome.failures.push(Failure::of(error(e.to_string()), case.expr.span));
                return;
            }
            Err(e) => {
                let span = match e.span {
                    Some(span) => place_in_scalar(&case.expr, &self.file.source, span.start as usize),
                    None => case.expr.span,
                };
                let mut failure = Failure::of(error(e.message), span);
                failure.hint = e.hint;
                self.outcome.failures.push(failure);
                return;
            }
        };
        let mut got: Vec<SampleText> = got.iter().map(sample_text).collect();
        got.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut expected = Vec::with_capacity(case.expected.len());
        for sample in &case.expected {
            match expected_text(sample) {
                Ok(text) => expected.push(text),
                Err(message) => {
                    let message = format!(
                        "labels {}: {message}",
                        tsdbctl_model::float_text::go_quote(&sample.labels.value)
                    );
                    self.outcome.failures.push(Failure::of(error(message), sample.span));
                    return;
                }
            }
        }
        let (fits, unmet) = samples_fit(case, &expected, &got, self.file.fuzzy_compare);
        if fits {
            return;
        }
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut failure = Failure::of(
            FailureKind::Samples {
                case: index,
                expr: case.expr.value.clone(),
                eval_time_ms: case.eval_time_ms,
                expected,
                got,
                unmet,
            },
            case.span,
        );
        self.explain_expr(case, t_ms, &mut failure);
        self.outcome.failures.push(failure);
    }

    /// What the selectors of an expression gave, and the rules that record what it reads.
    fn explain_expr(&self, case: &ExprCase, t_ms: i64, failure: &mut Failure) {
        let Some(expr) = self.query.parsed(&case.expr.value) else { return };
        let mut found = Vec::new();
        selectors(&expr, &mut found);
        let whole = matches!(expr.unwrap_parens(), Expr::Vector(_));
        let mut seen: Vec<String> = Vec::new();
        for selector in found {
            for group in &self.groups {
                for placed in &group.group.rules {
                    let RuleProgram::Record(rule) = &placed.program else { continue };
                    let reads = selector
                        .matchers
                        .iter()
                        .any(|m| m.name == tsdbctl_model::labels::METRIC_NAME && m.matches(&rule.name));
                    let place = (Arc::clone(&group.group.source), placed.span);
                    let known = |p: &(Arc<Source>, Span)| Arc::ptr_eq(&p.0, &place.0) && p.1 == place.1;
                    if reads && !failure.rules.iter().any(known) {
                        failure.rules.push(place);
                        if failure.values.len() < 4 {
                            let at_ms = t_ms.saturating_sub(group.group.query_offset_ms);
                            failure.values.push(self.values(&rule.expr.expr, &rule.expr.text, at_ms));
                        }
                    }
                }
            }
            let selector = Expr::Vector(Box::new(selector.clone()));
            let text = selector.to_string();
            if !whole && !seen.contains(&text) && failure.values.len() < 6 {
                failure.values.push(self.values(&selector, &text, t_ms));
                seen.push(text);
            }
        }
    }
}

/// What to say about an alert name that no rule has.
pub fn no_such_alert<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let nearest = names.map(|n| (edit_distance(name, n), n)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 2.max(name.len() / 4) => {
            format!("no alerting rule has this name; is {nearest} meant?")
        }
        _ => "no alerting rule of the rule files has this name".to_string(),
    }
}

/// Changes of one character that make one text of the other, case left aside.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().take(200).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn run_rule(rule: &mut RunningRule<'_>, at: &At<'_>, query: &mut UnitQuery<'_>, store: &UnitStore) {
    let samples: Result<Vec<RuleSample>, _> = match rule.program {
        RuleProgram::Alert(program) => {
            alerting::evaluate(program, &mut rule.active, at, query).map(|o| o.samples)
        }
        RuleProgram::Record(program) => recording::evaluate(program, at, query),
    };
    rule.error = None;
    let samples = match samples {
        Ok(samples) => samples,
        Err(e) => {
            rule.error = Some(e.to_string());
            return;
        }
    };
    if samples.is_empty() && rule.last.is_empty() {
        return;
    }
    let mut returned: Vec<Labels> = Vec::with_capacity(samples.len());
    for s in samples {
        match store.append(&s.labels, s.t_ms, &s.sample) {
            Ok(()) => returned.push(s.labels),
            Err(e) => rule.error = Some(e.to_string()),
        }
    }
    if returned != rule.last {
        let now: std::collections::HashSet<&Labels> = returned.iter().collect();
        for gone in rule.last.iter().filter(|l| !now.contains(l)) {
            // Another rule may give it now.
            let _ = store.append(gone, at.sample_ms(), &Sample::Float(stale_nan()));
        }
        rule.last = returned;
    }
}

fn sample_text(e: &Element) -> SampleText {
    let labels: Pairs = pairs(e.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())));
    match &e.sample {
        Sample::Float(v) => SampleText { labels, value: *v, histogram: String::new() },
        Sample::Histogram(h) => SampleText { labels, value: 0.0, histogram: h.test_expression() },
    }
}

fn alert_text(a: &ExpectedAlert, alertname: &str) -> AlertText {
    let own = |list: &[super::file::Pair]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect()
    };
    let mut labels = own(&a.labels);
    labels.push((ALERT_NAME.to_string(), alertname.to_string()));
    AlertText { labels: pairs(labels), annotations: pairs(own(&a.annotations)) }
}

fn expected_text(s: &ExpectedSample) -> Result<SampleText, String> {
    let wrong = |text: &str, e: &tsdbctl_promql::parser::ParseError| e.api_message(text);
    let labels = parse_metric(&s.labels.value).map_err(|e| wrong(&s.labels.value, &e))?;
    let labels = pairs(labels.iter().map(|l| (l.name.as_str(), l.value.as_str())));
    let mut histogram = String::new();
    if !s.histogram.value.is_empty() {
        let text = format!("{{}} {}", s.histogram.value);
        let (_, items) = parse_series_items(&text, 1 << 40).map_err(|e| wrong(&text, &e))?;
        let count: u64 = items.iter().map(SequenceItem::count).sum();
        match items.as_slice() {
            [SequenceItem::Histograms { first, count: 1, .. }] => histogram = first.test_expression(),
            [_] if count == 1 => return Err("expected histogram, got a number".to_string()),
            _ => return Err(format!("expected 1 value, got {count}")),
        }
    }
    Ok(SampleText { labels, value: s.value, histogram })
}

/// Whether the alerts of a case are as expected, and what is not met in words of our own.
fn alerts_fit(case: &AlertCase, got: &[AlertText]) -> (bool, Vec<String>) {
    let name = case.alertname.value.as_str();
    let mut unmet = Vec::new();
    let one = |e: &ExpectedAlert, text: &AlertText, g: &AlertText| {
        pairs_match(&text.labels, &g.labels, e.matching)
            && pairs_match(&text.annotations, &g.annotations, e.matching)
    };
    let text_of = |e: &ExpectedAlert| {
        let mut text = alert_text(e, name);
        if e.matching == Matching::Regex {
            let quoted = tsdbctl_model::regexp::Regexp::new(name).is_ok_and(|re| re.is_match(name));
            if !quoted {
                text.labels.retain(|(n, _)| n != ALERT_NAME);
            }
        }
        text
    };
    let describe = |e: &ExpectedAlert| {
        let t = alert_text(e, name);
        let annotations = if t.annotations.is_empty() {
            String::new()
        } else {
            format!(" annotations {}", pairs_text(&t.annotations))
        };
        format!("{}{annotations}", pairs_text(&t.labels))
    };
    let lists_all = case.expected_span.is_some() || (case.present.is_none() && case.absent.is_none());
    let mut fits = true;
    if lists_all {
        let texts: Vec<AlertText> = case.expected.iter().map(text_of).collect();
        let taken = assign(case.expected.len(), got.len(), |e, g| one(&case.expected[e], &texts[e], &got[g]));
        fits = taken.iter().all(Option::is_some) && case.expected.len() == got.len();
        if case.expected.iter().any(|e| e.matching != Matching::Exact) {
            for (e, t) in case.expected.iter().zip(&taken) {
                if t.is_none() {
                    unmet.push(format!(
                        "no alert matches {}{}",
                        describe(e),
                        pattern_error(&alert_text(e, name).labels, e.matching)
                    ));
                }
            }
            let extra = (0..got.len()).filter(|g| !taken.contains(&Some(*g)));
            unmet.extend(extra.map(|g| format!("not expected: {}", pairs_text(&got[g].labels))));
        }
    }
    match &case.present {
        Some(Presence::Any(_)) if got.is_empty() => unmet.push("present: no alert fires".to_string()),
        Some(Presence::Each(list)) => {
            for e in list.iter().filter(|e| !got.iter().any(|g| one(e, &text_of(e), g))) {
                unmet.push(format!("present: no alert matches {}", describe(e)));
            }
        }
        _ => {}
    }
    match &case.absent {
        Some(Presence::Any(_)) if !got.is_empty() => unmet.push(format!("absent: {} fire", got.len())),
        Some(Presence::Each(list)) => {
            for e in list {
                if let Some(g) = got.iter().find(|g| one(e, &text_of(e), g)) {
                    unmet.push(format!("absent: {} fires", pairs_text(&g.labels)));
                }
            }
        }
        _ => {}
    }
    (fits && unmet.is_empty(), unmet)
}

fn pattern_error(labels: &[(String, String)], matching: Matching) -> String {
    match (matching, bad_pattern(labels)) {
        (Matching::Regex, Some(e)) => format!(" ({e})"),
        _ => String::new(),
    }
}

/// As [`alerts_fit`], of samples.
fn samples_fit(
    case: &ExprCase,
    expected: &[SampleText],
    got: &[SampleText],
    fuzzy: bool,
) -> (bool, Vec<String>) {
    let mut unmet = Vec::new();
    let one = |e: &ExpectedSample, text: &SampleText, g: &SampleText| {
        if e.matching == Matching::Exact {
            return text.equals(g, fuzzy);
        }
        pairs_match(&text.labels, &g.labels, e.matching)
            && (e.value_span.is_none() || floats_equal(text.value, g.value, fuzzy))
            && (text.histogram.is_empty() || text.histogram == g.histogram)
    };
    let lists_all = case.expected_span.is_some() || (case.present.is_none() && case.absent.is_none());
    let mut fits = true;
    if lists_all {
        if case.expected.iter().all(|e| e.matching == Matching::Exact) {
            // As upstream: both sorted by labels, then one by one.
            let mut sorted: Vec<&SampleText> = expected.iter().collect();
            sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
            fits = sorted.len() == got.len() && sorted.iter().zip(got).all(|(e, g)| e.equals(g, fuzzy));
        } else {
            let taken =
                assign(expected.len(), got.len(), |e, g| one(&case.expected[e], &expected[e], &got[g]));
            fits = taken.iter().all(Option::is_some) && expected.len() == got.len();
            for (e, t) in taken.iter().enumerate() {
                if t.is_none() {
                    let error = pattern_error(&expected[e].labels, case.expected[e].matching);
                    unmet.push(format!("no sample matches {}{error}", expected[e].text()));
                }
            }
            let extra = (0..got.len()).filter(|g| !taken.contains(&Some(*g)));
            unmet.extend(extra.map(|g| format!("not expected: {}", got[g].text())));
        }
    }
    let text_of = |e: &ExpectedSample| expected_text(e);
    match &case.present {
        Some(Presence::Any(_)) if got.is_empty() => unmet.push("present: no samples".to_string()),
        Some(Presence::Each(list)) => {
            for e in list {
                match text_of(e) {
                    Ok(text) if got.iter().any(|g| one(e, &text, g)) => {}
                    Ok(text) => unmet.push(format!("present: no sample matches {}", text.text())),
                    Err(message) => unmet.push(format!("present: {message}")),
                }
            }
        }
        _ => {}
    }
    match &case.absent {
        Some(Presence::Any(_)) if !got.is_empty() => unmet.push(format!("absent: {} samples", got.len())),
        Some(Presence::Each(list)) => {
            for e in list {
                match text_of(e) {
                    Ok(text) => {
                        if let Some(g) = got.iter().find(|g| one(e, &text, g)) {
                            unmet.push(format!("absent: {}", g.text()));
                        }
                    }
                    Err(message) => unmet.push(format!("absent: {message}")),
                }
            }
        }
        _ => {}
    }
    (fits && unmet.is_empty(), unmet)
}

/// Time of a failed rule as upstream prints it: since 1970.
pub fn rule_time(t_ms: i64) -> String {
    format_go_duration_ns(t_ms.saturating_mul(1_000_000))
}

/// Alert names of a test's rules, with how many rules have each.
pub fn alert_names<'p>(groups: &[&'p GroupProgram]) -> HashMap<&'p str, usize> {
    let mut names = HashMap::new();
    for placed in groups.iter().flat_map(|g| &g.rules) {
        if let RuleProgram::Alert(a) = &placed.program {
            *names.entry(a.name.as_str()).or_default() += 1;
        }
    }
    names
}
