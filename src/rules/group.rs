//! One group: its rules with their state, and one run of it at a slot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashSet;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::{Sample, spawn_on_big_stack};
use tsdbctl_storage::Refusal;
use tsdbctl_template::TemplateError;

use crate::alerting::{self, ActiveAlerts, AlertRule, At, ExpansionFailure, Surroundings};
use crate::depend;
use crate::error::RuleError;
use crate::file::{GroupSpec, RuleKind};
use crate::permits::Permits;
use crate::query::{RuleExpr, RuleQuery};
use crate::recording::{self, RecordRule};
use crate::restore::{self, LastFloat, RestoreLimits};
use crate::sending::{self, AlertSink, Resend};

/// Takes the samples of one rule's evaluation.
pub trait RuleAppender {
    /// Takes one sample; never into the out-of-order head. The stale marker is a float whatever the series holds.
    ///
    /// # Errors
    /// If the sample is refused; the rest of the batch is not touched.
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal>;

    /// What there is to say about the last refusal beyond its class, in upstream's words.
    fn words(&mut self) -> Option<String> {
        None
    }

    /// Makes what was appended visible to the rules that follow.
    ///
    /// # Errors
    /// If nothing of it is stored.
    fn commit(&mut self) -> Result<(), String>;
}

/// What rules read and write. Rules without dependencies ask and write at the same time, and so do groups, as far as
/// [`Settings`] allow.
pub trait RuleStorage: Sync {
    /// Asks what is stored by now.
    fn query(&self) -> Box<dyn RuleQuery + '_>;

    /// Begins a batch.
    fn appender(&self) -> Box<dyn RuleAppender + '_>;

    /// The last float of every matching series within `mint..=maxt`, Unix ms.
    ///
    /// # Errors
    /// If the data cannot be read.
    fn last_floats(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> Result<Vec<LastFloat>, String>;
}

/// What a run is given from outside.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// What rules read and write.
    pub storage: &'a dyn RuleStorage,
    /// Where alerts go.
    pub sink: &'a dyn AlertSink,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// What holds for all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Interval of groups that name none, ms (`global.evaluation_interval`).
    pub interval_ms: i64,
    /// Query offset of groups that name none, ms (`global.rule_query_offset`).
    pub query_offset_ms: i64,
    /// External labels and URL.
    pub surroundings: Arc<Surroundings>,
    /// Least distance of two sends of one alert, ms.
    pub resend_delay_ms: i64,
    /// How `for` is restored.
    pub restore: RestoreLimits,
    /// Evaluations that may go on beside each group's own, of all groups together, where rules do not depend on each
    /// other (feature `concurrent-rule-eval`, `--rules.max-concurrent-evals`); 0 evaluates the rules of a group in
    /// their order.
    pub extra_evaluations: usize,
    /// Groups that may run at the same time when they are due together; upstream has no limit here and promises no
    /// order of groups. 1 or less runs them in the order of their slots.
    pub groups_at_once: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval_ms: 60_000,
            query_offset_ms: 0,
            surroundings: Arc::default(),
            resend_delay_ms: 60_000,
            restore: RestoreLimits::default(),
            extra_evaluations: 0,
            groups_at_once: 1,
        }
    }
}

/// A rule of either kind.
#[derive(Clone, Debug)]
pub enum Rule {
    /// It alerts.
    Alert(AlertRule),
    /// It records.
    Record(RecordRule),
}

impl Rule {
    /// Name of the alert or of the recorded metric.
    pub fn name(&self) -> &str {
        match self {
            Self::Alert(rule) => &rule.name,
            Self::Record(rule) => &rule.name,
        }
    }

    /// Its expression.
    pub fn expr(&self) -> &RuleExpr {
        match self {
            Self::Alert(rule) => &rule.expr,
            Self::Record(rule) => &rule.expr,
        }
    }

    /// Labels of group and rule as written, by name.
    pub fn labels(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Alert(rule) => {
                rule.labels.iter().map(|l| (l.name.as_str(), l.template.text.as_str())).collect()
            }
            Self::Record(rule) => rule.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
        }
    }

    /// Whether both print the same: expressions as parsed, all else as written.
    fn prints_as(&self, other: &Self) -> bool {
        let own = match (self, other) {
            (Self::Alert(a), Self::Alert(b)) => {
                let texts = |rule: &AlertRule| -> Vec<(String, String)> {
                    let pairs = rule.annotations.iter();
                    pairs.map(|n| (n.name.clone(), n.template.text.clone())).collect()
                };
                a.for_ms == b.for_ms && a.keep_firing_for_ms == b.keep_firing_for_ms && texts(a) == texts(b)
            }
            (Self::Record(_), Self::Record(_)) => true,
            _ => false,
        };
        own && self.name() == other.name()
            && self.expr().printed == other.expr().printed
            && self.labels() == other.labels()
    }
}

/// How the last evaluation of a rule went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It was not evaluated yet.
    #[default]
    Unknown,
    /// Well.
    Good,
    /// Badly.
    Bad,
}

impl Health {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "ok",
            Self::Bad => "err",
        }
    }
}

/// A rule's state between runs.
#[derive(Clone, Debug, Default)]
pub struct RuleState {
    /// Its alerts; nothing of a recording rule.
    pub active: ActiveAlerts,
    /// How it went last.
    pub health: Health,
    /// What failed, in upstream's words.
    pub last_error: Option<String>,
    /// When it was last evaluated, Unix ms.
    pub last_evaluation_ms: Option<i64>,
    /// How long that took.
    pub last_duration: Duration,
    /// Templates that failed in the last evaluation.
    pub expansion_failures: Vec<ExpansionFailure>,
    /// Samples of the last evaluation that were not taken.
    pub dropped: Dropped,
    /// Series of the last committed evaluation.
    pub(crate) series: HashSet<Labels>,
}

/// Samples of one evaluation that were not taken, by why; upstream logs the first three as `num_dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Older than the series' last sample.
    pub out_of_order: u64,
    /// Older than the out-of-order window.
    pub too_old: u64,
    /// Another value than the one at this time.
    pub duplicates: u64,
    /// For any other reason.
    pub others: u64,
}

impl Dropped {
    pub(crate) fn count(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::OutOfOrder => self.out_of_order += 1,
            Refusal::TooOld => self.too_old += 1,
            Refusal::Duplicate => self.duplicates += 1,
            _ => self.others += 1,
        }
    }
}

/// What a group counts, named as upstream names it by [`Group::metrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounters {
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Those that failed.
    pub failures: u64,
    /// Slots, missed ones included.
    pub iterations: u64,
    /// Slots that were missed.
    pub missed: u64,
    /// Samples of the last run.
    pub last_samples: u64,
    /// When the last run began, Unix ms.
    pub last_evaluation_ms: Option<i64>,
    /// The last slot that ran, Unix ms.
    pub last_slot_ms: Option<i64>,
    /// How long the last run took.
    pub last_duration: Duration,
    /// The rules' own durations in the last run.
    pub last_rule_duration_sum: Duration,
    /// How long restoring took.
    pub last_restore_duration: Duration,
}

/// A group with the state of its rules.
#[derive(Debug)]
pub struct Group {
    /// Its file, as the configuration's loader made the path.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Its interval, ms.
    pub interval_ms: i64,
    /// Its own query offset, ms.
    pub query_offset_ms: Option<i64>,
    /// Most series or alerts per rule; 0 or less for none.
    pub limit: i64,
    /// What its templates know.
    pub surroundings: Arc<Surroundings>,
    /// Its rules.
    pub rules: Vec<Rule>,
    states: Vec<Mutex<RuleState>>,
    /// Series of rules that are gone; marked at the end of the next run.
    stale: Vec<Labels>,
    counters: GroupCounters,
    /// Rules that may run at the same time, batch after batch.
    batches: Vec<Vec<usize>>,
    restore: bool,
}

/// What one rule's evaluation added.
#[derive(Clone, Copy, Default)]
struct Counted {
    samples: u64,
    failures: u64,
}

impl Group {
    /// A group of a file. `restore`: alerts write no samples until [`Group::restore`].
    ///
    /// # Errors
    /// If a template cannot be parsed.
    pub fn new(
        file: &str,
        spec: &GroupSpec,
        settings: &Settings,
        restore: bool,
    ) -> Result<Self, TemplateError> {
        let mut rules = Vec::with_capacity(spec.rules.len());
        for rule in &spec.rules {
            rules.push(match rule.kind {
                RuleKind::Alert => Rule::Alert(AlertRule::from_spec(spec, rule)?),
                RuleKind::Record => Rule::Record(RecordRule::from_spec(spec, rule)),
            });
        }
        let state = || Mutex::new(RuleState { active: ActiveAlerts::new(!restore), ..RuleState::default() });
        let batches = if settings.extra_evaluations > 0 {
            depend::batches(&rules)
        } else {
            (0..rules.len()).map(|i| vec![i]).collect()
        };
        Ok(Self {
            file: file.to_string(),
            name: spec.name.value.clone(),
            interval_ms: spec.interval_ms.filter(|ms| *ms > 0).unwrap_or(settings.interval_ms),
            query_offset_ms: spec.query_offset_ms,
            limit: spec.limit,
            surroundings: Arc::clone(&settings.surroundings),
            states: rules.iter().map(|_| state()).collect(),
            rules,
            stale: Vec::new(),
            counters: GroupCounters::default(),
            batches,
            restore,
        })
    }

    /// The state of rule `i`.
    pub fn state(&self, i: usize) -> RuleState {
        self.states.get(i).map(|s| lock(s).clone()).unwrap_or_default()
    }

    /// What it counted.
    pub fn counters(&self) -> &GroupCounters {
        &self.counters
    }

    /// How far behind the slot its rules look, ms.
    pub fn offset_ms(&self, settings: &Settings) -> i64 {
        self.query_offset_ms.unwrap_or(settings.query_offset_ms)
    }

    /// Whether both would do the same, so that the running one may go on.
    pub fn equals(&self, other: &Self) -> bool {
        self.name == other.name
            && self.file == other.file
            && self.interval_ms == other.interval_ms
            && self.limit == other.limit
            && self.query_offset_ms == other.query_offset_ms
            && self.surroundings == other.surroundings
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(a, b)| a.prints_as(b))
    }

    /// Takes over alerts and last series from the group that stood in its place: by rule name and labels as written,
    /// the n-th of equal rules to the n-th.
    pub fn take_state(&mut self, mut from: Self) {
        self.counters.last_duration = from.counters.last_duration;
        self.counters.last_evaluation_ms = from.counters.last_evaluation_ms;
        let mut matched = vec![false; from.rules.len()];
        let mut moved: Vec<(usize, usize)> = Vec::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let is_same = |other: &Rule| other.name() == rule.name() && other.labels() == rule.labels();
            let found = (0..from.rules.len()).find(|k| !matched[*k] && is_same(&from.rules[*k]));
            if let Some(k) = found {
                matched[k] = true;
                moved.push((i, k));
            }
        }
        self.stale = std::mem::take(&mut from.stale);
        // Upstream marks the series of all equal rules if one of them found no successor; those that go on were
        // written at that very time, which refuses the marker.
        for k in 0..from.rules.len() {
            let alike = |j: usize| {
                from.rules[j].name() == from.rules[k].name()
                    && from.rules[j].labels() == from.rules[k].labels()
            };
            if (0..from.rules.len()).any(|j| !matched[j] && alike(j)) {
                self.stale.extend(sorted(lock(&from.states[k]).series.iter().cloned()));
            }
        }
        for (i, k) in moved {
            let (mut new, mut old) = (lock(&self.states[i]), lock(&from.states[k]));
            new.series = std::mem::take(&mut old.series);
            if let (Rule::Alert(_), Rule::Alert(_)) = (&self.rules[i], &from.rules[k]) {
                new.active.alerts = std::mem::take(&mut old.active.alerts);
            }
        }
    }

    /// All series that would be marked stale if the group were gone now.
    pub fn into_series(self) -> Vec<Labels> {
        let mut series = self.stale;
        for state in &self.states {
            series.extend(sorted(lock(state).series.drain()));
        }
        series
    }

    /// Whether alerts are still to be restored: after the second run.
    pub fn wants_restore(&self) -> bool {
        self.restore
    }

    /// One run at a slot, Unix ms. `missed` slots before it count as passed over.
    pub fn run(&mut self, ts_ms: i64, missed: u64, settings: &Settings, world: World<'_>) {
        self.run_within(ts_ms, missed, settings, world, &Permits::new(settings.extra_evaluations));
    }

    /// One run at a slot, with permits for evaluations beside the own that other groups may share.
    pub(crate) fn run_within(
        &mut self,
        ts_ms: i64,
        missed: u64,
        settings: &Settings,
        world: World<'_>,
        permits: &Permits,
    ) {
        self.counters.iterations += 1 + missed;
        self.counters.missed += missed;
        self.counters.last_evaluation_ms = Some(world.clock.now_ms());
        let began = world.clock.monotonic();
        let surroundings = Arc::clone(&self.surroundings);
        let at = At {
            ts_ms,
            query_offset_ms: self.offset_ms(settings),
            limit: self.limit,
            surroundings: &surroundings,
        };
        let resend = Resend { delay_ms: settings.resend_delay_ms, interval_ms: self.interval_ms };
        let counted = Mutex::new(Counted::default());
        let one = |i: usize| {
            let state = &mut lock(&self.states[i]);
            let one = timed(state, world, |s| evaluate_safely(&self.rules[i], s, &at, resend, world));
            let mut counted = lock(&counted);
            counted.samples += one.samples;
            counted.failures += one.failures;
        };
        for batch in &self.batches {
            run_batch(batch, &one, permits);
        }
        let counted = *lock(&counted);
        self.counters.evaluations += self.rules.len() as u64;
        self.counters.failures += counted.failures;
        self.counters.last_samples = counted.samples;
        self.counters.last_rule_duration_sum = self.last_durations().sum();
        mark_stale(&mut self.stale, at.sample_ms(), world.storage);
        self.counters.last_slot_ms = Some(ts_ms);
        self.counters.last_duration = world.clock.monotonic().saturating_sub(began);
    }

    /// How long each rule's last evaluation took.
    pub(crate) fn last_durations(&self) -> impl Iterator<Item = Duration> {
        self.states.iter().map(|state| lock(state).last_duration)
    }

    /// Takes over from storage since when alerts are active; their samples are written from now on. Gives what could
    /// not be read: those alerts begin anew.
    pub fn restore(&mut self, settings: &Settings, world: World<'_>) -> Vec<String> {
        let began = world.clock.monotonic();
        let now_ms = world.clock.now_ms();
        let mut errors = Vec::new();
        for (rule, state) in self.rules.iter().zip(&self.states) {
            let Rule::Alert(rule) = rule else { continue };
            let active = &mut lock(state).active;
            if restore::wants_restore(rule, settings.restore) {
                let mint = now_ms - settings.restore.tolerance_ms;
                match world.storage.last_floats(&restore::matchers(rule), mint, now_ms) {
                    Ok(stored) => restore::restore(rule, active, stored, now_ms, settings.restore),
                    Err(e) => errors.push(format!("alert {}: {e}", rule.name)),
                }
            }
            active.restored = true;
        }
        self.restore = false;
        self.counters.last_restore_duration = world.clock.monotonic().saturating_sub(began);
        errors
    }

    /// Upstream's metrics of the group, each with its value; their label is `rule_group`, [`Group::key`].
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let c = &self.counters;
        let last_seconds = c.last_evaluation_ms.map_or(0.0, |ms| ms as f64 / 1000.0);
        vec![
            ("prometheus_rule_evaluations_total", c.evaluations as f64),
            ("prometheus_rule_evaluation_failures_total", c.failures as f64),
            ("prometheus_rule_group_iterations_total", c.iterations as f64),
            ("prometheus_rule_group_iterations_missed_total", c.missed as f64),
            ("prometheus_rule_group_interval_seconds", self.interval_ms as f64 / 1000.0),
            ("prometheus_rule_group_rules", self.rules.len() as f64),
            ("prometheus_rule_group_last_evaluation_samples", c.last_samples as f64),
            ("prometheus_rule_group_last_evaluation_timestamp_seconds", last_seconds),
            ("prometheus_rule_group_last_duration_seconds", c.last_duration.as_secs_f64()),
            ("prometheus_rule_group_last_rule_duration_sum_seconds", c.last_rule_duration_sum.as_secs_f64()),
            ("prometheus_rule_group_last_restore_duration_seconds", c.last_restore_duration.as_secs_f64()),
        ]
    }

    /// File and name, as upstream's metrics call a group.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }
}

/// Calls `one` with each of a batch: on this thread, and on one more for every permit that is free meanwhile.
fn run_batch(batch: &[usize], one: &(dyn Fn(usize) + Sync), permits: &Permits) {
    let next = AtomicUsize::new(0);
    let take = || batch.get(next.fetch_add(1, Ordering::Relaxed)).copied();
    std::thread::scope(|scope| {
        while let Some(own) = take() {
            while next.load(Ordering::Relaxed) < batch.len() {
                let Some(permit) = permits.try_take() else { break };
                let Some(other) = take() else { break };
                let work = move || {
                    let _permit = permit;
                    one(other);
                    while let Some(i) = take() {
                        one(i);
                    }
                };
                if spawn_on_big_stack(scope, work).is_err() {
                    // No thread can be had: this one does it all.
                    one(other);
                    break;
                }
            }
            one(own);
        }
    });
}

/// Evaluates one rule outside of a group's run, for who decides about order and time: asks, sends, writes, marks what
/// vanished.
pub fn evaluate_one(rule: &Rule, state: &mut RuleState, at: &At<'_>, resend: Resend, world: World<'_>) {
    timed(state, world, |state| evaluate(rule, state, at, resend, world));
}

/// As [`evaluate`]; if that panics, it is this rule's error and no other's.
fn evaluate_safely(
    rule: &Rule,
    state: &mut RuleState,
    at: &At<'_>,
    resend: Resend,
    world: World<'_>,
) -> Counted {
    catch_unwind(AssertUnwindSafe(|| evaluate(rule, state, at, resend, world))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
        state.health = Health::Bad;
        // As upstream's engine puts it.
        state.last_error = Some(format!("unexpected error: {text}"));
        Counted { samples: 0, failures: 1 }
    })
}

/// Sets when an evaluation was and how long it took.
fn timed(
    state: &mut RuleState,
    world: World<'_>,
    evaluate: impl FnOnce(&mut RuleState) -> Counted,
) -> Counted {
    let began = world.clock.monotonic();
    state.last_evaluation_ms = Some(world.clock.now_ms());
    let counted = evaluate(state);
    state.last_duration = world.clock.monotonic().saturating_sub(began);
    counted
}

/// Evaluates one rule: asks, sends, writes, marks what vanished.
fn evaluate(rule: &Rule, state: &mut RuleState, at: &At<'_>, resend: Resend, world: World<'_>) -> Counted {
    state.dropped = Dropped::default();
    let samples = match ask(rule, state, at, world.storage) {
        Ok(samples) => samples,
        Err(e) => {
            state.health = Health::Bad;
            state.last_error = Some(e.to_string());
            return Counted { samples: 0, failures: 1 };
        }
    };
    state.health = Health::Good;
    state.last_error = None;
    let count = samples.len() as u64;
    if let Rule::Alert(rule) = rule {
        let due = sending::take_due(&mut state.active, at.ts_ms, resend);
        if !due.is_empty() {
            let out = |alert| sending::outgoing(rule, alert, at.surroundings);
            world.sink.send(due.into_iter().map(out).collect());
        }
    }
    let written = write(state, samples, at.sample_ms(), world.storage);
    Counted { samples: count, failures: u64::from(!written) }
}

fn ask(
    rule: &Rule,
    state: &mut RuleState,
    at: &At<'_>,
    storage: &dyn RuleStorage,
) -> Result<Vec<recording::RuleSample>, RuleError> {
    let mut query = storage.query();
    match rule {
        Rule::Record(rule) => recording::evaluate(rule, at, query.as_mut()),
        Rule::Alert(rule) => {
            state.expansion_failures.clear();
            let output = alerting::evaluate(rule, &mut state.active, at, query.as_mut())?;
            state.expansion_failures = output.failures;
            Ok(output.samples)
        }
    }
}

/// Writes an evaluation's samples, and markers where series vanished; false if they could not be committed.
fn write(
    state: &mut RuleState,
    samples: Vec<recording::RuleSample>,
    t_ms: i64,
    storage: &dyn RuleStorage,
) -> bool {
    let mut appender = storage.appender();
    let mut series = HashSet::with_capacity(samples.len());
    for sample in samples {
        match appender.append(&sample.labels, sample.t_ms, &sample.sample) {
            Ok(()) => drop(series.insert(sample.labels)),
            Err(refusal) => {
                state.dropped.count(refusal);
                state.health = Health::Bad;
                state.last_error = Some(appender.words().unwrap_or_else(|| refusal.to_string()));
            }
        }
    }
    let gone = sorted(state.series.iter().filter(|s| !series.contains(*s)).cloned());
    for labels in gone {
        // Refused where another rule gives the series now, which is as it should be.
        let _ = appender.append(&labels, t_ms, &Sample::Float(stale_nan()));
    }
    match appender.commit() {
        Ok(()) => {
            state.series = series;
            true
        }
        Err(e) => {
            state.health = Health::Bad;
            state.last_error = Some(e);
            false
        }
    }
}

/// Marks series that no rule gives any more; they are kept for the next time if that fails.
pub(crate) fn mark_stale(series: &mut Vec<Labels>, t_ms: i64, storage: &dyn RuleStorage) {
    if series.is_empty() {
        return;
    }
    let mut appender = storage.appender();
    for labels in series.iter() {
        let _ = appender.append(labels, t_ms, &Sample::Float(stale_nan()));
    }
    if appender.commit().is_ok() {
        series.clear();
    }
}

fn sorted(series: impl Iterator<Item = Labels>) -> Vec<Labels> {
    let mut series: Vec<Labels> = series.collect();
    series.sort();
    series
}

/// What a panic left behind a lock is still whole: states are written field by field, and panics of evaluations are
/// caught before they come here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
