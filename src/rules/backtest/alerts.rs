//! The alerts of one rule while a backtest goes through its evaluations: identities, presence, lives.

use hashbrown::HashMap;
use tsdbctl_model::Labels;
use tsdbctl_model::symbols::{NAME, Sym, SymbolTable};
use tsdbctl_promql::engine::{Column, QueryTime, Sample, Value as QueryValue, run};
use tsdbctl_template::{Environment, RuleData, RuleTemplate, TemplateSample, Value};

use super::column::{Asked, ColumnSeries, Grid, for_runs, presence};
use super::machine::{Course, Holds, Life, Phase, Span, SpanEnd, SpanState, Times};
use super::plan::{Dependence, Threshold, dependence};
use super::report::{AlertReport, Firing, SeriesReport};
use crate::alerting::{ALERT_NAME, ActiveAlerts, AlertRule, AlertState, Surroundings};
use crate::error::RuleError;

/// Failures that are kept with their texts.
const ERRORS_KEPT: usize = 5;

/// A label that the rule gives its alerts.
enum Given {
    /// The same for all; empty removes the label.
    Fixed(Sym),
    /// A template.
    Template(RuleTemplate),
}

/// One alert by its labels.
#[derive(Default)]
struct Member {
    life: Life,
    held_steps: u64,
    /// Where its bits of the piece in hand are, and of which piece they are.
    bits_at: usize,
    piece: u64,
    /// What it said when it began to fire, by time.
    firings: Vec<Firing>,
}

impl Member {
    /// When the firing began that goes on.
    fn fired_at_ms(&self) -> Option<i64> {
        match self.life.phase {
            Phase::Firing { fired_at_ms, .. } => Some(fired_at_ms),
            _ => None,
        }
    }

    /// Times at which it began to fire since it had `spans` spans and fired since `before_ms`.
    fn fired_since(&self, (spans, before_ms): (usize, Option<i64>)) -> impl Iterator<Item = i64> {
        let ended = self.life.spans[spans..].iter().filter(|s| s.state == SpanState::Firing);
        let starts = ended.map(|s: &Span| s.start_ms).chain(self.fired_at_ms());
        starts.filter(move |t| Some(*t) != before_ms)
    }

    fn mark(&self) -> (usize, Option<i64>) {
        (self.life.spans.len(), self.fired_at_ms())
    }
}

/// What a piece is gone through with.
struct Piece<'a> {
    first: u32,
    steps: u32,
    series: &'a [ColumnSeries],
    threshold: Option<Threshold>,
    /// Alerts with the places of the series they come from, where it matters what they said.
    origins: Vec<(u32, u32)>,
}

/// An alerting rule in a backtest.
pub struct AlertCourse {
    /// What is told of it at the end; filled as far as the rule is known.
    pub report: AlertReport,
    /// Times of its evaluations.
    pub grid: Grid,
    /// Evaluations before the range.
    pub warm: u32,
    /// Evaluations up to the end of the range.
    pub evaluations: u32,
    limit: Option<usize>,
    holds: Holds,
    /// Labels from the rule, by name; `alertname` among them.
    given: Vec<(Sym, Given)>,
    dependence: Dependence,
    /// The rule's annotations, and whether what alerts say when they begin to fire is kept.
    annotations: Vec<(Sym, RuleTemplate)>,
    keep_firings: bool,
    surroundings: Surroundings,
    members: Vec<Member>,
    /// Labels of the expression without what the rule overrides, then what the rule gives: one key per label set.
    identities: HashMap<Box<[(Sym, Sym)]>, u32>,
    /// Evaluations that failed, rising.
    failed: Vec<u32>,
    done: u32,
    piece: u64,
}

impl AlertCourse {
    /// A rule before its first evaluation; with `keep_firings` what its alerts say when they begin to fire is kept.
    pub fn new(
        rule: &AlertRule,
        limit: i64,
        keep_firings: bool,
        surroundings: &Surroundings,
        symbols: &mut SymbolTable,
    ) -> Self {
        let annotations =
            rule.annotations.iter().map(|a| (symbols.intern(&a.name), a.template.clone())).collect();
        let mut dependence_of_all = Dependence::Series;
        let mut given: Vec<(Sym, Given)> = Vec::new();
        for label in rule.labels.iter().filter(|l| l.name != ALERT_NAME) {
            let name = symbols.intern(&label.name);
            let text = &label.template.text;
            if label.template.is_plain() {
                given.push((name, Given::Fixed(symbols.intern(text))));
            } else {
                dependence_of_all = dependence_of_all.max(dependence(text));
                given.push((name, Given::Template(label.template.clone())));
            }
        }
        let alert_name = symbols.intern(ALERT_NAME);
        given.push((alert_name, Given::Fixed(symbols.intern(&rule.name))));
        Self {
            report: AlertReport::default(),
            grid: Grid { start_ms: 0, step_ms: 1 },
            warm: 0,
            evaluations: 0,
            limit: usize::try_from(limit).ok().filter(|l| *l > 0),
            holds: Holds { for_ms: rule.for_ms, keep_firing_for_ms: rule.keep_firing_for_ms },
            given,
            dependence: dependence_of_all,
            annotations,
            keep_firings,
            surroundings: surroundings.clone(),
            members: Vec::new(),
            identities: HashMap::new(),
            failed: Vec::new(),
            done: 0,
            piece: 0,
        }
    }

    /// `for` and `keep_firing_for`.
    pub fn holds(&self) -> Holds {
        self.holds
    }

    fn fail(&mut self, evaluation: u32, error: &RuleError) {
        self.failed.push(evaluation);
        self.tell_failure(evaluation, error.to_string());
    }

    fn tell_failure(&mut self, evaluation: u32, error: String) {
        if evaluation < self.warm {
            return;
        }
        self.report.failed += 1;
        if self.report.errors.len() < ERRORS_KEPT {
            self.report.errors.push((self.grid.at(evaluation), error));
        }
    }

    /// Evaluations `first..first + steps` failed.
    pub fn take_failure(&mut self, first: u32, steps: u32, error: &RuleError) {
        (first..first + steps).for_each(|k| self.fail(k, error));
        self.done = first + steps;
    }

    /// Evaluations `first..first + steps` gave these series.
    pub fn take(
        &mut self,
        (first, steps): (u32, u32),
        series: &[ColumnSeries],
        threshold: Option<Threshold>,
        symbols: &mut SymbolTable,
        asked: &Asked<'_>,
    ) {
        self.piece += 1;
        self.done = first + steps;
        let words = steps.div_ceil(64) as usize;
        let mut bits = Vec::with_capacity(words);
        // Bits of all members that are present, one after the other.
        let mut pool: Vec<u64> = Vec::new();
        let mut seen: Vec<u32> = Vec::new();
        let mut collided: Vec<u64> = Vec::new();
        let mut key = Vec::new();
        let keep_firings = self.keep_firings;
        let mut piece = Piece { first, steps, series, threshold, origins: Vec::new() };
        for (at, one) in series.iter().enumerate() {
            if !presence(&one.column, threshold, &mut bits) {
                continue;
            }
            let mut known_origin = |id: u32| {
                let origin = (id, at as u32);
                if keep_firings && piece.origins.last() != Some(&origin) {
                    piece.origins.push(origin);
                }
            };
            if self.dependence == Dependence::Series {
                self.identity(one, bits_first(&bits), first, symbols, asked, &mut key);
                let id = self.note(&key, &bits, words, &mut pool, &mut seen, &mut collided);
                known_origin(id);
                continue;
            }
            // The labels change with the value: each evaluation has an identity of its own.
            let mut by_value: HashMap<u64, u32> = HashMap::new();
            let mut alone = vec![0u64; words];
            let steps: Vec<usize> = tsdbctl_promql::engine::column::bits(&bits).collect();
            for k in steps {
                let same = one.column.float(k).map(f64::to_bits);
                alone[k / 64] = 1 << (k % 64);
                let known = same.filter(|_| self.dependence == Dependence::Value);
                let id = match known.and_then(|v| by_value.get(&v).copied()) {
                    Some(id) => {
                        self.note_id(id, &alone, words, &mut pool, &mut seen, &mut collided);
                        id
                    }
                    None => {
                        self.identity(one, k, first, symbols, asked, &mut key);
                        let id = self.note(&key, &alone, words, &mut pool, &mut seen, &mut collided);
                        if let Some(v) = known {
                            by_value.insert(v, id);
                        }
                        id
                    }
                };
                known_origin(id);
                alone[k / 64] = 0;
            }
        }
        piece.origins.sort_unstable();
        piece.origins.dedup();
        if self.limit.is_some() {
            let marks = self.keep_firings.then(|| self.members.iter().map(Member::mark).collect::<Vec<_>>());
            self.step_through((first, steps), &pool, &seen, &collided);
            for (id, mark) in marks.into_iter().flatten().enumerate() {
                self.keep_what_it_says(id, mark, &piece, symbols, asked);
            }
            return;
        }
        if !collided.is_empty() {
            for k in tsdbctl_promql::engine::column::bits(&collided).collect::<Vec<_>>() {
                self.fail(first + k as u32, &RuleError::SameAlertLabels);
            }
        }
        let failed = std::mem::take(&mut self.failed);
        let course = self.course(&failed);
        let warm = self.warm.saturating_sub(first);
        for id in seen {
            let member = &mut self.members[id as usize];
            let mark = member.mark();
            let own = &mut pool[member.bits_at..member.bits_at + words];
            own.iter_mut().zip(&collided).for_each(|(w, c)| *w &= !c);
            for_runs(own, |from, to| {
                member.held_steps += u64::from(to - from.max(warm).min(to));
                let (from, to) = (course.times.step_of(first + from), course.times.step_of(first + to));
                member.life.present(from, to, &course);
            });
            if self.keep_firings {
                self.keep_what_it_says(id as usize, mark, &piece, symbols, asked);
            }
        }
        self.failed = failed;
    }

    /// Renders the annotations of an alert for the times within a piece at which it began to fire.
    fn keep_what_it_says(
        &mut self,
        id: usize,
        mark: (usize, Option<i64>),
        piece: &Piece<'_>,
        symbols: &mut SymbolTable,
        asked: &Asked<'_>,
    ) {
        let times: Vec<i64> = self.members[id].fired_since(mark).collect();
        for at_ms in times {
            let Ok(evaluation) = u32::try_from((at_ms - self.grid.start_ms) / self.grid.step_ms) else {
                continue;
            };
            let Some(k) = evaluation.checked_sub(piece.first).filter(|k| *k < piece.steps) else { continue };
            let k = k as usize;
            let from = piece.origins.partition_point(|(i, _)| (*i as usize) < id);
            let mut origins = piece.origins[from..].iter().take_while(|(i, _)| *i as usize == id);
            let one = match origins.clone().count() {
                0 => continue,
                // An alert of several series: the one that was there at the time, with these labels.
                1 => origins.next(),
                _ => origins
                    .find(|(_, at)| self.says(&piece.series[*at as usize], k, id, piece, symbols, asked)),
            };
            let Some(one) = one.map(|(_, at)| &piece.series[*at as usize]) else { continue };
            let annotations = if self.annotations.is_empty() {
                Vec::new()
            } else {
                let labels = symbols.labels(&one.labels);
                let text = |t: &RuleTemplate| self.expand(t, &labels, &one.column, k, at_ms, asked);
                let texts: Vec<(Sym, String)> = self.annotations.iter().map(|(n, t)| (*n, text(t))).collect();
                texts.into_iter().map(|(name, text)| (name, symbols.intern(&text))).collect()
            };
            self.members[id].firings.push(Firing { at_ms, value: one.column.float(k), annotations });
        }
    }

    /// Whether a series is alert `id` at an evaluation.
    fn says(
        &self,
        one: &ColumnSeries,
        k: usize,
        id: usize,
        piece: &Piece<'_>,
        symbols: &mut SymbolTable,
        asked: &Asked<'_>,
    ) -> bool {
        let holds = match (one.column.float(k), piece.threshold) {
            (Some(v), Some(threshold)) => threshold.passes(v),
            (Some(_), None) => true,
            (None, threshold) => threshold.is_none() && one.column.histogram(k).is_some(),
        };
        let mut key = Vec::new();
        if holds {
            self.identity(one, k, piece.first, symbols, asked, &mut key);
        }
        holds && self.identities.get(key.as_slice()).is_some_and(|i| *i as usize == id)
    }

    /// The evaluation at `ts_ms` was made elsewhere and left these alerts.
    pub fn take_states(
        &mut self,
        ts_ms: i64,
        active: &ActiveAlerts,
        error: Option<&str>,
        symbols: &mut SymbolTable,
    ) {
        let Ok(k) = u32::try_from((ts_ms - self.grid.start_ms).div_euclid(self.grid.step_ms)) else { return };
        self.done = k + 1;
        self.piece += 1;
        if let Some(error) = error {
            self.tell_failure(k, error.to_string());
        }
        for alert in active.active() {
            let key: Box<[(Sym, Sym)]> = symbols.intern_labels(&alert.labels).into();
            let members = &mut self.members;
            let id = *self.identities.entry(key).or_insert_with(|| {
                members.push(Member::default());
                members.len() as u32 - 1
            });
            let member = &mut self.members[id as usize];
            member.piece = self.piece;
            let (active_at_ms, fired_at_ms) = (alert.active_at_ms, alert.fired_at_ms.unwrap_or(ts_ms));
            let kept_since_ms = alert.keep_firing_since_ms;
            let phase = match alert.state {
                AlertState::Inactive => Phase::Absent,
                AlertState::Pending => Phase::Pending { active_at_ms },
                AlertState::Firing => Phase::Firing { active_at_ms, fired_at_ms, kept_since_ms },
            };
            member.held_steps += u64::from(k >= self.warm && kept_since_ms.is_none() && error.is_none());
            if self.keep_firings && alert.fired_at_ms == Some(ts_ms) {
                let mut one = |(n, v): (&String, &String)| (symbols.intern(n), symbols.intern(v));
                let annotations = alert.annotations.iter().map(&mut one).collect();
                let value = match &alert.value {
                    Sample::Float(v) => Some(*v),
                    Sample::Histogram(_) => None,
                };
                member.firings.push(Firing { at_ms: ts_ms, value, annotations });
            }
            member.life.set(k, ts_ms, phase, SpanEnd::Gone);
        }
        // An evaluation that fails takes alerts away only where there are too many.
        let end = if error.is_some() { SpanEnd::Dropped } else { SpanEnd::Gone };
        let gone = self.members.iter_mut().filter(|m| m.piece != self.piece);
        gone.for_each(|m| m.life.set(k, ts_ms, Phase::Absent, end));
    }

    fn course<'a>(&self, failed: &'a [u32]) -> Course<'a> {
        let times = Times { start_ms: self.grid.start_ms, step_ms: self.grid.step_ms, failed };
        Course { times, holds: self.holds, first: times.step_of(self.warm) }
    }

    /// A limit counts the active alerts of each evaluation, and takes all of them when it is exceeded.
    fn step_through(&mut self, (first, steps): (u32, u32), pool: &[u64], seen: &[u32], collided: &[u64]) {
        let limit = self.limit.unwrap_or(usize::MAX);
        let words = steps.div_ceil(64) as usize;
        let is_set = |bits: &[u64], k: u32| bits.get(k as usize / 64).is_some_and(|w| w >> (k % 64) & 1 != 0);
        let mut own: Vec<Option<&[u64]>> = vec![None; self.members.len()];
        for id in seen {
            let at = self.members[*id as usize].bits_at;
            own[*id as usize] = Some(&pool[at..at + words]);
        }
        for k in 0..steps {
            if is_set(collided, k) {
                self.fail(first + k, &RuleError::SameAlertLabels);
                continue;
            }
            let failed = std::mem::take(&mut self.failed);
            let course = self.course(&failed);
            let step = course.times.step_of(first + k);
            let mut active = 0;
            for (member, bits) in self.members.iter_mut().zip(&own) {
                let present = bits.is_some_and(|b| is_set(b, k));
                member.life.absent_until(step, &course);
                active += usize::from(member.life.peek(step, present, &course) != Phase::Absent);
            }
            let t_ms = self.grid.at(first + k);
            if active > limit {
                self.members.iter_mut().for_each(|m| m.life.drop_at(t_ms));
                self.failed = failed;
                self.fail(first + k, &RuleError::AlertLimit { limit, alerts: active });
                continue;
            }
            for (member, bits) in self.members.iter_mut().zip(&own) {
                let present = bits.is_some_and(|b| is_set(b, k));
                member.held_steps += u64::from(present && first + k >= self.warm);
                member.life.step(step, present, &course);
            }
            self.failed = failed;
        }
    }

    /// The key of the alert that a series asks for at evaluation `k` of the piece.
    fn identity(
        &self,
        series: &ColumnSeries,
        k: usize,
        first: u32,
        symbols: &mut SymbolTable,
        asked: &Asked<'_>,
        key: &mut Vec<(Sym, Sym)>,
    ) {
        key.clear();
        let overridden = |name: Sym| name == NAME || self.given.iter().any(|(given, _)| *given == name);
        key.extend(series.labels.iter().filter(|(name, _)| !overridden(*name)));
        let mut element: Option<Labels> = None;
        for (name, given) in &self.given {
            let value = match given {
                Given::Fixed(value) => *value,
                Given::Template(template) => {
                    let labels = element.get_or_insert_with(|| symbols.labels(&series.labels));
                    let t_ms = self.grid.at(first + k as u32);
                    let text = self.expand(template, labels, &series.column, k, t_ms, asked);
                    symbols.intern(&text)
                }
            };
            if value != tsdbctl_model::symbols::EMPTY {
                key.push((*name, value));
            }
        }
    }

    fn expand(
        &self,
        template: &RuleTemplate,
        labels: &Labels,
        column: &Column,
        k: usize,
        ts_ms: i64,
        asked: &Asked<'_>,
    ) -> String {
        let value = match (column.float(k), column.histogram(k)) {
            (None, Some(h)) => Value::Histogram(h.clone()),
            (v, _) => Value::Float(v.unwrap_or_default()),
        };
        let data = RuleData {
            labels,
            external_labels: &self.surroundings.external_labels,
            external_url: &self.surroundings.external_url,
            value,
        };
        let mut world = World { asked: *asked, ts_ms, external_url: &self.surroundings.external_url };
        match template.expand(&data, &mut world) {
            Ok(text) => text,
            Err(e) => format!("<error expanding template: {e}>"),
        }
    }

    fn note(
        &mut self,
        key: &[(Sym, Sym)],
        bits: &[u64],
        words: usize,
        pool: &mut Vec<u64>,
        seen: &mut Vec<u32>,
        collided: &mut Vec<u64>,
    ) -> u32 {
        let id = match self.identities.get(key) {
            Some(id) => *id,
            None => {
                let id = self.members.len() as u32;
                self.identities.insert(key.into(), id);
                self.members.push(Member::default());
                id
            }
        };
        self.note_id(id, bits, words, pool, seen, collided);
        id
    }

    fn note_id(
        &mut self,
        id: u32,
        bits: &[u64],
        words: usize,
        pool: &mut Vec<u64>,
        seen: &mut Vec<u32>,
        collided: &mut Vec<u64>,
    ) {
        let member = &mut self.members[id as usize];
        if member.piece != self.piece {
            member.piece = self.piece;
            member.bits_at = pool.len();
            pool.extend_from_slice(bits);
            seen.push(id);
            return;
        }
        let own = &mut pool[member.bits_at..member.bits_at + words];
        for (i, (own, more)) in own.iter_mut().zip(bits).enumerate() {
            if *own & more != 0 {
                collided.resize(words, 0);
                collided[i] |= *own & more;
            }
            *own |= more;
        }
    }

    /// The rule's report, once all evaluations are through.
    pub fn finish(mut self, start_ms: i64, symbols: &SymbolTable) -> AlertReport {
        let failed = std::mem::take(&mut self.failed);
        let course = self.course(&failed);
        let steps = course.times.step_of(self.done);
        let end_ms = self.grid.at(self.done.saturating_sub(1));
        let mut report = self.report;
        report.evaluations = u64::from(self.evaluations.saturating_sub(self.warm));
        report.start_unknown = course.first < self.warm;
        report.holds = self.holds;
        report.interval_ms = self.grid.step_ms;
        let mut keys: Vec<_> = self.identities.into_iter().collect();
        keys.sort_unstable_by_key(|(_, id)| *id);
        for ((key, _), mut member) in keys.into_iter().zip(self.members) {
            member.life.finish(steps, end_ms, &course);
            let mut spans = std::mem::take(&mut member.life.spans);
            spans.retain(|s| s.end_ms > start_ms || s.start_ms >= start_ms);
            if spans.is_empty() && !(member.life.start_unknown && member.held_steps > 0) {
                continue;
            }
            spans.shrink_to_fit();
            let mut firings = std::mem::take(&mut member.firings);
            firings.retain(|f| {
                let at = spans.binary_search_by_key(&f.at_ms, |s| s.start_ms);
                at.is_ok_and(|at| spans[at].state == SpanState::Firing)
            });
            let mut labels = key.into_vec();
            labels.sort_by(|a, b| symbols.resolve(a.0).cmp(symbols.resolve(b.0)));
            report.held_steps += member.held_steps;
            report.series.push(SeriesReport {
                labels,
                spans,
                firings,
                held_steps: member.held_steps,
                start_unknown: member.life.start_unknown,
            });
        }
        report.series.sort_by(|a, b| symbols.compare(&a.labels, &b.labels));
        report
    }
}

fn bits_first(bits: &[u64]) -> usize {
    tsdbctl_promql::engine::column::bits(bits).next().unwrap_or(0)
}

/// What templates ask, answered from the data.
struct World<'a> {
    asked: Asked<'a>,
    ts_ms: i64,
    external_url: &'a str,
}

impl Environment for World<'_> {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        let Asked { storage, options, control } = self.asked;
        let result = run(storage, expr, QueryTime::Instant(self.ts_ms), options, control);
        let result = result.map_err(|e| e.message)?;
        let number = |sample: &Sample| match sample {
            Sample::Float(v) => Value::Float(*v),
            Sample::Histogram(h) => Value::Histogram(h.clone()),
        };
        let labels = |set: &[(Sym, Sym)]| {
            let labels = result.labels(set);
            std::sync::Arc::new(labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect())
        };
        match &result.value {
            QueryValue::Vector(elements) => Ok(elements
                .iter()
                .map(|e| TemplateSample { labels: labels(&e.labels), value: number(&e.sample) })
                .collect()),
            QueryValue::Scalar { v, .. } => {
                Ok(vec![TemplateSample { labels: labels(&[]), value: Value::Float(*v) }])
            }
            _ => Err("query result is not a vector or scalar".to_string()),
        }
    }

    fn now_ms(&self) -> i64 {
        self.ts_ms
    }

    fn external_url(&self) -> &str {
        self.external_url
    }
}
