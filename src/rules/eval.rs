//! Rules over stored data, as a server would have evaluated them: slot after slot in the order of time, what is
//! recorded seen by what comes later.
//!
//! What the data holds already of a metric that is recorded anew is not read from the first slot on, so that rules see
//! what this run computes; samples from before that are read, as a server that was started there would do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_promql::engine::{QueryError, QueryOptions, QueryTime, Sample, run_parsed};
use tsdbctl_promql::parser::ast::Expr;
use tsdbctl_storage::{Control, Querier, Queryable, Refusal, StorageError};

use crate::alerting::{
    self, ALERTS, ALERTS_FOR_STATE, ActiveAlerts, AlertRule, At, ExpansionFailure, Surroundings,
};
use crate::error::RuleError;
use crate::query::RuleExpr;
use crate::recording::{self, RecordRule, RuleSample};
use crate::storage_query::StorageQuery;

pub mod overlay;
pub mod slots;

use overlay::{Asked, Hidden, Overlay, Recorded, Selections};
pub use slots::{Slot, Slots};

/// A rule that is evaluated.
#[derive(Clone, Debug)]
pub enum EvalRule {
    /// A recording rule.
    Record(RecordRule),
    /// An alerting rule.
    Alert(AlertRule),
}

impl EvalRule {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Record(rule) => &rule.name,
            Self::Alert(rule) => &rule.name,
        }
    }

    /// Its expression.
    pub fn expr(&self) -> &RuleExpr {
        match self {
            Self::Record(rule) => &rule.expr,
            Self::Alert(rule) => &rule.expr,
        }
    }

    /// The metrics it writes.
    pub fn writes(&self) -> Vec<&str> {
        match self {
            Self::Record(rule) => vec![&rule.name],
            Self::Alert(_) => vec![ALERTS, ALERTS_FOR_STATE],
        }
    }

    /// Whether a template of it asks queries, whose texts are not known before.
    fn asks_in_templates(&self) -> bool {
        let Self::Alert(rule) = self else { return false };
        let mut templates = rule.labels.iter().chain(&rule.annotations);
        templates.any(|t| t.template.text.contains("query"))
    }
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
    pub rules: Vec<EvalRule>,
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

/// One evaluation of one rule.
pub struct Evaluated<'a> {
    /// Which rule.
    pub place: RulePlace,
    /// When; its `lead` says that it is before what was asked for.
    pub slot: Slot,
    /// What it wrote, or why it failed.
    pub outcome: Result<&'a [RuleSample], &'a RuleError>,
    /// Stale markers it wrote, at the same time.
    pub vanished: &'a [RuleSample],
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
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self {
            query: QueryOptions::default(),
            surroundings: Surroundings::default(),
            use_stored: false,
            window_slots: 1000,
        }
    }
}

/// What is kept of a rule from slot to slot.
#[derive(Default)]
struct State {
    active: ActiveAlerts,
    previous: HashMap<Labels, ()>,
    annotations: Vec<String>,
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
        let hidden = Arc::new(self.hidden());
        let mut states: Vec<Vec<State>> =
            self.groups.iter().map(|g| g.rules.iter().map(|_| State::default()).collect()).collect();
        let mut runs_since_start: Vec<u32> = vec![2; self.groups.len()];
        let mut recorded = Recorded::default();
        let mut queue: BinaryHeap<Reverse<(i64, usize, usize)>> = BinaryHeap::new();
        for (group, spec) in self.groups.iter().enumerate() {
            if let Some(slot) = spec.slots.get(0) {
                queue.push(Reverse((slot.ts_ms, group, 0)));
            }
        }
        let mut opened: Option<(Arc<dyn Querier>, i64)> = None;
        while let Some(Reverse((ts_ms, group, number))) = queue.pop() {
            let spec = &self.groups[group];
            let Some(slot) = spec.slots.get(number) else { continue };
            if let Some(next) = spec.slots.get(number + 1) {
                queue.push(Reverse((next.ts_ms, group, number + 1)));
            }
            let querier = match &opened {
                Some((querier, until)) if ts_ms <= *until => Arc::clone(querier),
                _ => {
                    let until = self.window_end(ts_ms);
                    // The last window's memory goes before the next one's is taken.
                    drop(opened.take());
                    let querier = self.open(ts_ms, until)?;
                    opened = Some((Arc::clone(&querier), until));
                    querier
                }
            };
            if slot.starts_anew {
                runs_since_start[group] = 0;
                for state in &mut states[group] {
                    state.active = ActiveAlerts::new(false);
                    state.previous.clear();
                }
            }
            for rule in 0..spec.rules.len() {
                let place = RulePlace { group, rule };
                let state = &mut states[group][rule];
                self.rule(place, slot, &querier, &hidden, state, &mut recorded, &mut watch)?;
            }
            runs_since_start[group] = runs_since_start[group].saturating_add(1);
            if runs_since_start[group] == 2 {
                // What a server that starts looks up is its own alerts of before, which a new run does not have.
                states[group].iter_mut().for_each(|s| s.active.restored = true);
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what one rule needs, borrowed apart")]
    fn rule<E>(
        &self,
        place: RulePlace,
        slot: Slot,
        querier: &Arc<dyn Querier>,
        hidden: &Arc<Hidden>,
        state: &mut State,
        recorded: &mut Recorded,
        watch: &mut impl FnMut(&Evaluated<'_>) -> Result<(), E>,
    ) -> Result<(), EvalError<E>> {
        let spec = &self.groups[place.group];
        let at = At {
            ts_ms: slot.ts_ms,
            query_offset_ms: spec.query_offset_ms,
            limit: spec.limit,
            surroundings: &self.settings.surroundings,
        };
        self.control.check("rule evaluation").map_err(StorageError::from)?;
        let known = state.annotations.len();
        let mut failures = Vec::new();
        let outcome = {
            let nothing = Recorded::default();
            let recorded = if self.settings.use_stored { &nothing } else { &*recorded };
            let overlay = Overlay { stored: querier, hidden, recorded };
            let mut query = StorageQuery::new(&overlay, &self.settings.query, self.control);
            query.annotations = Some(&mut state.annotations);
            match &spec.rules[place.rule] {
                EvalRule::Record(rule) => recording::evaluate(rule, &at, &mut query),
                EvalRule::Alert(rule) => {
                    alerting::evaluate(rule, &mut state.active, &at, &mut query).map(|out| {
                        failures = out.failures;
                        out.samples
                    })
                }
            }
        };
        let (mut refused, mut vanished, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        if let Ok(samples) = &outcome {
            let mut now: HashMap<Labels, ()> = HashMap::with_capacity(samples.len());
            for s in samples {
                match recorded.append(&s.labels, s.t_ms, &s.sample) {
                    Ok(sample) => {
                        taken.push(RuleSample { labels: s.labels.clone(), t_ms: s.t_ms, sample });
                        now.insert(s.labels.clone(), ());
                    }
                    Err(refusal) => refused.push((s.labels.clone(), refusal)),
                }
            }
            let mut gone: Vec<&Labels> = state.previous.keys().filter(|l| !now.contains_key(*l)).collect();
            gone.sort();
            for labels in gone {
                // Another rule may have written the series.
                if let Ok(sample) = recorded.append(labels, at.sample_ms(), &Sample::Float(stale_nan())) {
                    vanished.push(RuleSample { labels: labels.clone(), t_ms: at.sample_ms(), sample });
                }
            }
            state.previous = now;
        }
        let evaluated = Evaluated {
            place,
            slot,
            outcome: outcome.as_ref().map(|_| taken.as_slice()),
            vanished: &vanished,
            refused: &refused,
            alerts: matches!(spec.rules[place.rule], EvalRule::Alert(_)).then_some(&state.active),
            failures: &failures,
            annotations: &state.annotations[known..],
        };
        watch(&evaluated).map_err(EvalError::Watcher)
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
            for name in group.rules.iter().flat_map(EvalRule::writes) {
                let at = hidden.entry(name.to_string()).or_insert(from);
                *at = (*at).min(from);
            }
        }
        hidden
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
                everything |= rule.asks_in_templates();
                for t in [from.saturating_sub(offset), last.saturating_sub(offset)] {
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
