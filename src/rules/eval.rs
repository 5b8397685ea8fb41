//! Rules over stored data, as a server would have evaluated them: slot after slot in the order of time, what is
//! recorded seen by what comes later.
//!
//! What the data holds already of a metric that is recorded anew is not read from the first slot on, so that rules see
//! what this run computes; samples from before that are read, as a server that was started there would do.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::clock::Clock;
use tsdbctl_promql::engine::{QueryError, QueryOptions, QueryTime, Sample, run_parsed};
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_storage::{Control, Querier, Queryable, Refusal, StorageError};

use crate::alerting::{ALERTS, ALERTS_FOR_STATE, ActiveAlerts, At, ExpansionFailure, Surroundings};
use crate::error::RuleError;
use crate::group::{self, Rule, RuleAppender, RuleState, RuleStorage, World};
use crate::query::{Element, RuleExpr, RuleQuery};
use crate::restore::{self, LastFloat, RestoreLimits};
use crate::sending::{AlertSink, OutgoingAlert, Resend};
use crate::storage_query::StorageQuery;

mod columns;
mod course;
pub mod overlay;
pub mod slots;

use columns::{Columns, Sources};
use overlay::{Asked, Hidden, Overlay, Recorded, Selections, name_fits};
pub use slots::{Slot, Slots};

/// The metrics a rule writes.
fn writes(rule: &Rule) -> Vec<&str> {
    match rule {
        Rule::Record(rule) => vec![&rule.name],
        Rule::Alert(_) => vec![ALERTS, ALERTS_FOR_STATE],
    }
}

/// Whether a template of a rule asks queries, whose texts are not known before.
fn asks_in_templates(rule: &Rule) -> bool {
    let Rule::Alert(rule) = rule else { return false };
    rule.labels.iter().chain(&rule.annotations).any(|t| t.template.text.contains("query"))
}

/// A group that is evaluated.
#[derive(Clone, Debug)]
pub struct EvalGroup {
    /// Its name.
    pub name: String,
    /// How far behind the slot its rules look, ms.
    pub query_offset_ms: i64,
    /// Most series or alerts of a rule; 0 or less for none.
    pub limit: i64,
    /// Its rules in order.
    pub rules: Vec<Rule>,
    /// When it is evaluated.
    pub slots: Slots,
}

/// Which rule of which group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePlace {
    /// Number of the group.
    pub group: usize,
    /// Number of the rule in it.
    pub rule: usize,
}

/// A sample that a rule gave.
#[derive(Clone, Debug)]
pub struct EvalSample {
    /// Its series; mostly the very same of one evaluation and the next.
    pub labels: Arc<Labels>,
    /// Its time, Unix ms (query offset applied).
    pub t_ms: i64,
    /// Its value.
    pub sample: Sample,
}

/// One evaluation of one rule.
pub struct Evaluated<'a> {
    /// Which rule.
    pub place: RulePlace,
    /// When; its `lead` says that it is before what was asked for.
    pub slot: Slot,
    /// What it wrote, or why it failed, in upstream's words.
    pub outcome: Result<&'a [EvalSample], &'a str>,
    /// Stale markers it wrote, at the same time.
    pub vanished: &'a [EvalSample],
    /// Samples that were not taken, because another rule wrote the series.
    pub refused: &'a [(Labels, Refusal)],
    /// Alerts of an alerting rule, resolved ones included.
    pub alerts: Option<&'a ActiveAlerts>,
    /// Templates that did not render.
    pub failures: &'a [ExpansionFailure],
    /// Warnings and infos of queries, each once a rule.
    pub annotations: &'a [String],
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum EvalError<E> {
    /// The data cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The data that a rule reads cannot be read, or all was stopped while it was evaluated. What later rules would
    /// give of that is not known.
    #[error("{error}")]
    Query {
        /// The rule.
        place: RulePlace,
        /// What went wrong.
        error: QueryError,
    },
    /// Whoever watches ended it.
    #[error(transparent)]
    Watcher(E),
}

/// How a run is done.
#[derive(Clone, Debug)]
pub struct EvalSettings {
    /// Settings of queries.
    pub query: QueryOptions,
    /// What templates know of the server.
    pub surroundings: Surroundings,
    /// Rules read the stored samples of recorded metrics, and not what this run computes.
    pub use_stored: bool,
    /// Slots of a window, for which the data is opened once.
    pub window_slots: usize,
    /// Expressions are evaluated for a window at once where that makes no difference.
    pub ahead: bool,
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self {
            query: QueryOptions::default(),
            surroundings: Surroundings::default(),
            use_stored: false,
            window_slots: 1000,
            ahead: true,
        }
    }
}

/// A run of groups over stored data.
pub struct Evaluation<'a> {
    /// Stored data.
    pub storage: &'a dyn Queryable,
    /// How it is done.
    pub settings: &'a EvalSettings,
    /// What stops it.
    pub control: &'a Control,
    /// What is evaluated.
    pub groups: &'a [EvalGroup],
}

impl Evaluation<'_> {
    /// Evaluates all slots in the order of time (groups of one time in their order) and tells `watch` of each rule's
    /// evaluations. To be called on a stack that holds the deepest expression
    /// ([`tsdbctl_promql::engine::on_big_stack`]).
    ///
    /// # Errors
    /// If the data cannot be read, or what `watch` ends with.
    pub fn run<E>(&self, mut watch: impl FnMut(&Evaluated<'_>) -> Result<(), E>) -> Result<(), EvalError<E>> {
        let mut states: Vec<Vec<RuleState>> =
            self.groups.iter().map(|g| g.rules.iter().map(|_| RuleState::default()).collect()).collect();
        let mut runs_since_start: Vec<u32> = vec![2; self.groups.len()];
        let mut queue: BinaryHeap<Reverse<(i64, usize, usize)>> = BinaryHeap::new();
        for (group, spec) in self.groups.iter().enumerate() {
            if let Some(slot) = spec.slots.get(0) {
                queue.push(Reverse((slot.ts_ms, group, 0)));
            }
        }
        let mut storage = RunStorage {
            evaluation: self,
            stored: Asked::default().querier(0, 0, &[], self.control).map(Arc::from)?,
            hidden: Arc::new(self.hidden()),
            recorded: Mutex::new(Recorded::without(self.unread())),
            written: Mutex::default(),
            annotations: Mutex::default(),
            interruption: Mutex::default(),
            columns: Mutex::new(if self.settings.ahead {
                Columns::new(self.groups, self.settings.use_stored)
            } else {
                Columns::default()
            }),
            current: Mutex::default(),
            alone: self.alone(),
        };
        let mut opened_until = i64::MIN;
        while let Some(Reverse((ts_ms, group, number))) = queue.pop() {
            let spec = &self.groups[group];
            let Some(slot) = spec.slots.get(number) else { continue };
            if let Some(next) = spec.slots.get(number + 1) {
                queue.push(Reverse((next.ts_ms, group, number + 1)));
            }
            if ts_ms > opened_until {
                opened_until = self.window_end(ts_ms);
                // The last window's memory goes before the next one's is taken.
                storage.stored = Asked::default().querier(0, 0, &[], self.control).map(Arc::from)?;
                lock(&storage.columns).begin(ts_ms, opened_until);
                storage.stored = self.open(ts_ms, opened_until)?;
            }
            if slot.starts_anew {
                runs_since_start[group] = 0;
                for state in &mut states[group] {
                    *state = RuleState::default();
                    state.active = ActiveAlerts::new(false);
                }
            }
            for (rule, state) in states[group].iter_mut().enumerate() {
                self.control.check("rule evaluation").map_err(StorageError::from)?;
                let place = RulePlace { group, rule };
                self.rule(place, slot, &storage, state, &mut watch)?;
            }
            runs_since_start[group] = runs_since_start[group].saturating_add(1);
            if runs_since_start[group] == 2 {
                self.restore(&spec.rules, &mut states[group], ts_ms)?;
            }
        }
        Ok(())
    }

    fn rule<E>(
        &self,
        place: RulePlace,
        slot: Slot,
        storage: &RunStorage<'_>,
        state: &mut RuleState,
        watch: &mut impl FnMut(&Evaluated<'_>) -> Result<(), E>,
    ) -> Result<(), EvalError<E>> {
        let spec = &self.groups[place.group];
        let at = At {
            ts_ms: slot.ts_ms,
            query_offset_ms: spec.query_offset_ms,
            limit: spec.limit,
            surroundings: &self.settings.surroundings,
        };
        *lock(&storage.written) = Written::default();
        lock(&storage.annotations).clear();
        *lock(&storage.current) = Some(place);
        let rule = &spec.rules[place.rule];
        let written = match (rule, storage.course(place, &at, state)) {
            (Rule::Record(_), Some(written)) => written,
            _ => {
                let world = World { storage, sink: &Nobody, clock: &SlotClock(slot.ts_ms) };
                // Nobody is told, so that how often does not matter.
                let resend = Resend { delay_ms: i64::MAX / 16, interval_ms: 0 };
                group::evaluate_one(rule, state, &at, resend, world);
                std::mem::take(&mut *lock(&storage.written))
            }
        };
        if let Some(error) = lock(&storage.interruption).take() {
            return Err(EvalError::Query { place, error });
        }
        let annotations = std::mem::take(&mut *lock(&storage.annotations));
        let evaluated = Evaluated {
            place,
            slot,
            outcome: if written.begun {
                Ok(&written.samples)
            } else {
                Err(state.last_error.as_deref().unwrap_or_default())
            },
            vanished: &written.vanished,
            refused: &written.refused,
            alerts: matches!(rule, Rule::Alert(_)).then_some(&state.active),
            failures: if written.begun { &state.expansion_failures } else { &[] },
            annotations: &annotations,
        };
        watch(&evaluated).map_err(EvalError::Watcher)
    }

    /// What a server does after its second run: since when alerts are active is looked up in what is stored.
    fn restore(&self, rules: &[Rule], states: &mut [RuleState], now_ms: i64) -> Result<(), StorageError> {
        let limits = RestoreLimits::default();
        for (rule, state) in rules.iter().zip(states) {
            let Rule::Alert(rule) = rule else { continue };
            if restore::wants_restore(rule, limits) {
                let (matchers, mint) = (restore::matchers(rule), now_ms.saturating_sub(limits.tolerance_ms));
                let stored = restore::last_floats(self.storage, &matchers, mint, now_ms, self.control)?;
                restore::restore(rule, &mut state.active, stored, now_ms, limits);
            }
            state.active.restored = true;
        }
        Ok(())
    }

    /// Recorded metrics and from when on their stored samples are not read.
    fn hidden(&self) -> Hidden {
        let mut hidden = Hidden::new();
        if self.settings.use_stored {
            return hidden;
        }
        for group in self.groups {
            let Some(first) = group.slots.get(0) else { continue };
            let from = first.ts_ms.saturating_sub(group.query_offset_ms);
            for name in group.rules.iter().flat_map(writes) {
                let at = hidden.entry(name.to_string()).or_insert(from);
                *at = (*at).min(from);
            }
        }
        hidden
    }

    /// Recorded metrics that no rule can read.
    fn unread(&self) -> BTreeSet<String> {
        let mut selections = Selections::default();
        for rule in self.groups.iter().flat_map(|g| &g.rules) {
            // `info` selects by what it finds.
            if asks_in_templates(rule) || rule.expr().text.contains("info") {
                return BTreeSet::new();
            }
            note(&rule.expr().expr, 0, &self.settings.query, self.control, &mut selections);
        }
        let names = self.groups.iter().flat_map(|g| &g.rules).flat_map(writes);
        let unread = names.filter(|name| !selections.matchers.iter().any(|m| name_fits(name, m)));
        unread.map(str::to_string).collect()
    }

    /// Metrics that one rule alone writes.
    fn alone(&self) -> BTreeSet<String> {
        let (mut once, mut again) = (BTreeSet::new(), BTreeSet::new());
        for name in self.groups.iter().flat_map(|g| &g.rules).flat_map(writes) {
            if !once.insert(name.to_string()) {
                again.insert(name.to_string());
            }
        }
        once.difference(&again).cloned().collect()
    }

    /// The last slot of the window that begins at `ts_ms`.
    fn window_end(&self, ts_ms: i64) -> i64 {
        let shortest: i64 = self.groups.iter().filter_map(|g| g.slots.distance_ms()).min().unwrap_or(60_000);
        ts_ms.saturating_add(shortest.saturating_mul(self.settings.window_slots.max(1) as i64 - 1))
    }

    /// Opens the data that slots `from..=to` look at.
    fn open(&self, from: i64, to: i64) -> Result<Arc<dyn Querier>, StorageError> {
        let mut selections = Selections::default();
        let mut everything = false;
        for group in self.groups {
            let last = group.slots.last().map_or(to, |s| s.ts_ms.min(to));
            let offset = group.query_offset_ms;
            for rule in &group.rules {
                everything |= asks_in_templates(rule);
                // The slot before the window is looked at again by what goes ahead.
                let before = from.saturating_sub(group.slots.distance_ms().unwrap_or(0));
                for t in [before.saturating_sub(offset), last.saturating_sub(offset)] {
                    note(&rule.expr().expr, t, &self.settings.query, self.control, &mut selections);
                }
            }
        }
        if everything {
            // What a template asks is taken to look no further back than the expressions, or a day.
            selections.mint = selections.mint.min(from.saturating_sub(86_400_000));
            selections.maxt = selections.maxt.max(to);
            selections.matchers.clear();
        } else if selections.matchers.is_empty() {
            // Nothing is read at all.
            return Asked::default().querier(0, 0, &[], self.control).map(Arc::from);
        }
        let opened =
            self.storage.querier(selections.mint, selections.maxt, &selections.matchers, self.control)?;
        Ok(Arc::from(opened))
    }
}

/// What one rule wrote.
#[derive(Default)]
struct Written {
    /// Whether it came to writing at all.
    begun: bool,
    samples: Vec<EvalSample>,
    vanished: Vec<EvalSample>,
    refused: Vec<(Labels, Refusal)>,
}

impl Written {
    /// A sample that was taken or not.
    fn told(&mut self, labels: Arc<Labels>, t_ms: i64, appended: Result<Sample, Refusal>, marker: bool) {
        match appended {
            Ok(sample) => {
                let list = if marker { &mut self.vanished } else { &mut self.samples };
                list.push(EvalSample { labels, t_ms, sample });
            }
            Err(_) if marker => {}
            Err(refusal) => self.refused.push((Labels::clone(&labels), refusal)),
        }
    }
}

/// Stored data with what is recorded over it, as rules see it.
struct RunStorage<'a> {
    evaluation: &'a Evaluation<'a>,
    stored: Arc<dyn Querier>,
    hidden: Arc<Hidden>,
    recorded: Mutex<Recorded>,
    written: Mutex<Written>,
    annotations: Mutex<Vec<String>>,
    /// Why nothing more is evaluated.
    interruption: Mutex<Option<QueryError>>,
    columns: Mutex<Columns>,
    current: Mutex<Option<RulePlace>>,
    /// Metrics that one rule alone writes.
    alone: BTreeSet<String>,
}

impl RunStorage<'_> {
    /// Evaluates a recording rule whose series are known for the window.
    fn course(&self, place: RulePlace, at: &At<'_>, state: &mut RuleState) -> Option<Written> {
        let Evaluation { groups, settings, control, .. } = *self.evaluation;
        let Rule::Record(rule) = &groups[place.group].rules[place.rule] else { return None };
        let used = control.budget.used();
        let sources = Sources {
            groups,
            settings,
            control,
            stored: &self.stored,
            hidden: &self.hidden,
            recorded: lock(&self.recorded).by_name(),
        };
        let mut columns = lock(&self.columns);
        let found = columns.course(place, at.sample_ms(), &sources);
        give_back(control, used);
        // Samples are added to what the sources hold.
        drop(sources);
        let (step, annotations) = found?;
        lock(&self.annotations).extend(annotations);
        let mut recorded = lock(&self.recorded);
        let direct = self.alone.contains(&rule.name) && recorded.is_unread(&rule.name);
        Some(step.take(at.limit, direct, state, &mut recorded))
    }
}

impl RuleStorage for RunStorage<'_> {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        let recorded = match self.evaluation.settings.use_stored {
            true => Vec::new(),
            false => vec![lock(&self.recorded).by_name()],
        };
        let (stored, hidden) = (Arc::clone(&self.stored), Arc::clone(&self.hidden));
        Box::new(RunQuery { storage: self, overlay: Overlay { stored, hidden, recorded } })
    }

    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        lock(&self.written).begun = true;
        Box::new(RunAppender(self))
    }

    fn last_floats(&self, matchers: &[Matcher], mint: i64, maxt: i64) -> Result<Vec<LastFloat>, String> {
        let found =
            restore::last_floats(self.evaluation.storage, matchers, mint, maxt, self.evaluation.control);
        found.map_err(|e| e.to_string())
    }
}

struct RunQuery<'a> {
    storage: &'a RunStorage<'a>,
    overlay: Overlay,
}

impl RunQuery<'_> {
    fn asked(&self) -> StorageQuery<'_> {
        let Evaluation { settings, control, .. } = self.storage.evaluation;
        let mut query = StorageQuery::new(&self.overlay, &settings.query, control);
        query.annotations = Some(&self.storage.annotations);
        query.interruption = Some(&self.storage.interruption);
        query
    }
}

impl RuleQuery for RunQuery<'_> {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let Evaluation { groups, settings, control, .. } = *self.storage.evaluation;
        let used = control.budget.used();
        let place = *lock(&self.storage.current);
        let ahead = place.and_then(|place| {
            let sources = Sources {
                groups,
                settings,
                control,
                stored: &self.storage.stored,
                hidden: &self.storage.hidden,
                recorded: lock(&self.storage.recorded).by_name(),
            };
            lock(&self.storage.columns).at(place, t_ms, &sources)
        });
        let answer = match ahead {
            Some((elements, annotations)) => {
                lock(&self.storage.annotations).extend(annotations);
                Ok(elements)
            }
            None => self.asked().instant(expr, t_ms),
        };
        give_back(control, used);
        answer
    }

    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        let control = self.storage.evaluation.control;
        let used = control.budget.used();
        let answer = self.asked().instant_text(text, t_ms);
        give_back(control, used);
        answer
    }
}

/// What a query took for its answer is given back: answers are small or soon gone.
fn give_back(control: &Control, used: u64) {
    let more = control.budget.used().saturating_sub(used);
    control.budget.give(usize::try_from(more).unwrap_or(0));
}

struct RunAppender<'a>(&'a RunStorage<'a>);

impl RuleAppender for RunAppender<'_> {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal> {
        let marker = matches!(sample, Sample::Float(v) if is_stale(*v));
        let appended = lock(&self.0.recorded).append(labels, t_ms, sample);
        let result = appended.as_ref().map(|_| ()).map_err(Clone::clone);
        lock(&self.0.written).told(Arc::new(labels.clone()), t_ms, appended, marker);
        result
    }

    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Nobody is told of alerts.
struct Nobody;

impl AlertSink for Nobody {
    fn send(&self, _: Vec<OutgoingAlert>) {}
}

/// A clock that stands at a slot.
#[derive(Debug)]
struct SlotClock(i64);

impl Clock for SlotClock {
    fn now_ms(&self) -> i64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds what an expression reads at a time.
pub fn note(expr: &Expr, t_ms: i64, options: &QueryOptions, control: &Control, selections: &mut Selections) {
    let asked = Asked::default();
    // Whether it works does not matter here: that is told where it is evaluated.
    let _: Result<_, QueryError> = run_parsed(&asked, expr, QueryTime::Instant(t_ms), options, control);
    let asked = asked.into_selections();
    selections.mint = selections.mint.min(asked.mint);
    selections.maxt = selections.maxt.max(asked.maxt);
    for matchers in asked.matchers {
        if !selections.matchers.contains(&matchers) {
            selections.matchers.push(matchers);
        }
    }
}

#[cfg(test)]
mod tests;
