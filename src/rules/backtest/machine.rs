//! The life of one alert over runs of steps: every transition follows from the ends of the runs.
//!
//! [`Phase::step`] is the rule for one step; [`Life`] comes to the same state and the same spans from whole runs of
//! presence and absence, in a few operations per run. Steps whose evaluation failed are no steps: nothing changes at
//! them, only time passes. So steps are counted without them.

/// Evaluation times of the steps that worked: step `k` is the `k`-th one that did.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    /// Time of the first evaluation, Unix ms.
    pub start_ms: i64,
    /// Distance of evaluations, ms.
    pub step_ms: i64,
    /// Numbers of the evaluations that failed, rising.
    pub failed: &'a [u32],
}

impl Times<'_> {
    /// The time of step `k`.
    pub fn at(&self, k: u32) -> i64 {
        let before = self.before(|i, failed| failed - i as u32 <= k);
        self.start_ms + (i64::from(k) + before as i64) * self.step_ms
    }

    /// The step of an evaluation that worked; of one that failed the next step.
    pub fn step_of(&self, evaluation: u32) -> u32 {
        evaluation - self.failed.partition_point(|f| *f < evaluation) as u32
    }

    /// The first step of `from..to` at `t_ms` or later.
    pub fn first_from(&self, from: u32, to: u32, t_ms: i64) -> Option<u32> {
        let (mut low, mut high) = (from, to);
        if self.failed.is_empty() {
            let ahead = t_ms.saturating_sub(self.start_ms);
            let k = ahead.div_euclid(self.step_ms) + i64::from(ahead.rem_euclid(self.step_ms) != 0);
            low = u32::try_from(k.max(0)).unwrap_or(u32::MAX).max(from);
        } else {
            while low < high {
                let middle = low + (high - low) / 2;
                if self.at(middle) < t_ms { low = middle + 1 } else { high = middle }
            }
        }
        (low < to).then_some(low)
    }

    fn before(&self, fits: impl Fn(usize, u32) -> bool) -> usize {
        let (mut low, mut high) = (0, self.failed.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if fits(middle, self.failed[middle]) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// How long an alert waits before it fires, and how long it fires on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// `for`, ms.
    pub for_ms: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for_ms: i64,
}

/// Where an alert is in its life; times are Unix ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not active.
    Absent,
    /// Present for less than `for`.
    Pending {
        /// First step that saw it.
        active_at_ms: i64,
    },
    /// Firing.
    Firing {
        /// First step that saw it.
        active_at_ms: i64,
        /// When it began to fire.
        fired_at_ms: i64,
        /// First absent step of those it fires on through.
        kept_since_ms: Option<i64>,
    },
}

/// What is assumed of an alert where nothing is known of its past: the most that can have been.
pub const FIRING_ALREADY: Phase =
    Phase::Firing { active_at_ms: i64::MIN / 4, fired_at_ms: i64::MIN / 4, kept_since_ms: None };

impl Phase {
    /// One step at `t_ms`.
    pub fn step(self, present: bool, t_ms: i64, holds: Holds) -> Self {
        match (self, present) {
            (Self::Absent, false) | (Self::Pending { .. }, false) => Self::Absent,
            (Self::Absent, true) => Self::waiting(t_ms, t_ms, holds),
            (Self::Pending { active_at_ms }, true) => Self::waiting(active_at_ms, t_ms, holds),
            (Self::Firing { active_at_ms, fired_at_ms, .. }, true) => {
                Self::Firing { active_at_ms, fired_at_ms, kept_since_ms: None }
            }
            (Self::Firing { active_at_ms, fired_at_ms, kept_since_ms }, false) => {
                let since = kept_since_ms.unwrap_or(t_ms);
                if holds.keep_firing_for_ms > 0 && t_ms - since < holds.keep_firing_for_ms {
                    Self::Firing { active_at_ms, fired_at_ms, kept_since_ms: Some(since) }
                } else {
                    Self::Absent
                }
            }
        }
    }

    fn waiting(active_at_ms: i64, t_ms: i64, holds: Holds) -> Self {
        if t_ms - active_at_ms >= holds.for_ms {
            Self::Firing { active_at_ms, fired_at_ms: t_ms, kept_since_ms: None }
        } else {
            Self::Pending { active_at_ms }
        }
    }

    /// Whether two phases look the same from outside.
    pub fn looks_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// What an alert was for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanState {
    /// Seen, not for long enough.
    Pending,
    /// Firing.
    Firing,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanEnd {
    /// Pending: it fires from here on.
    Fired,
    /// Pending: gone before it fired. Firing: resolved.
    Gone,
    /// The limit of the group was exceeded, which drops all alerts of the rule unsent.
    Dropped,
    /// It goes on behind the end of the range.
    Open,
}

/// An alert's state from `start_ms` until just before `end_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it was.
    pub state: SpanState,
    /// First step, Unix ms.
    pub start_ms: i64,
    /// First step after it; of one that is open the last step.
    pub end_ms: i64,
    /// Why it ended.
    pub end: SpanEnd,
}

/// One alert: its phase after the steps so far, and what it was before.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its phase if it was not active before the first step.
    pub phase: Phase,
    /// Its phase if it was firing before the first step; until the range begins.
    assumed: Option<Phase>,
    /// Whether its state at the start of the range depends on what was before the first step.
    pub start_unknown: bool,
    /// Steps it has gone through.
    done: u32,
    /// What it was, by time.
    pub spans: Vec<Span>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            phase: Phase::Absent,
            assumed: Some(FIRING_ALREADY),
            start_unknown: false,
            done: 0,
            spans: Vec::new(),
        }
    }
}

/// What all alerts of a rule share while they go through steps.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Times of steps.
    pub times: Times<'a>,
    /// The rule's holds.
    pub holds: Holds,
    /// The first step of the range: those before are there to find out the state at its start.
    pub first: u32,
}

impl Life {
    /// It is present at the steps of `from..to` and was absent at all between those it went through and `from`.
    pub fn present(&mut self, from: u32, to: u32, course: &Course<'_>) {
        self.absent_until(from, course);
        self.go(from, to, true, course);
    }

    /// It is absent at all steps that are left before `to`.
    pub fn absent_until(&mut self, to: u32, course: &Course<'_>) {
        if self.done < to {
            self.go(self.done, to, false, course);
        }
    }

    fn go(&mut self, from: u32, to: u32, present: bool, course: &Course<'_>) {
        let Some(assumed) = self.assumed else { return self.advance(from, to, present, course) };
        let middle = course.first.clamp(from, to);
        if from < middle {
            self.assumed = Some(run(assumed, from, middle, present, course, &mut |_| {}));
            self.advance(from, middle, present, course);
        }
        if middle < to || to == course.first {
            self.settle();
        }
        if middle < to {
            self.advance(middle, to, present, course);
        }
    }

    fn settle(&mut self) {
        // Where no evaluation before the range worked, nothing tells whether it was active.
        if let Some(assumed) = self.assumed.take() {
            self.start_unknown = !assumed.looks_like(self.phase);
        }
    }

    fn advance(&mut self, from: u32, to: u32, present: bool, course: &Course<'_>) {
        let spans = &mut self.spans;
        self.phase = run(self.phase, from, to, present, course, &mut |span| spans.push(span));
        self.done = to;
    }

    /// One step, when each has to be looked at by itself; `dropped` if the rule exceeded its limit at it.
    pub fn step(&mut self, k: u32, present: bool, course: &Course<'_>) {
        self.absent_until(k, course);
        self.go(k, k + 1, present, course);
    }

    /// The phase it would have after step `k`.
    pub fn peek(&self, k: u32, present: bool, course: &Course<'_>) -> Phase {
        debug_assert_eq!(self.done, k);
        self.phase.step(present, course.times.at(k), course.holds)
    }

    /// All state is lost at `t_ms`, an evaluation that failed by its limit.
    pub fn drop_at(&mut self, t_ms: i64) {
        if let Some(span) = open_span(self.phase, t_ms) {
            self.spans.push(Span { end: SpanEnd::Dropped, ..span });
        }
        self.phase = Phase::Absent;
        self.assumed = self.assumed.map(|_| Phase::Absent);
    }

    /// Another machine says what it is after step `k` at `t_ms`; `end` is why, if it is no longer active.
    pub fn set(&mut self, k: u32, t_ms: i64, phase: Phase, end: SpanEnd) {
        if let Some(was) = open_span(self.phase, t_ms) {
            match open_span(phase, t_ms) {
                None => self.spans.push(Span { end, ..was }),
                Some(is) if is.state != was.state => self.spans.push(Span { end: SpanEnd::Fired, ..was }),
                Some(_) => {}
            }
        }
        (self.phase, self.done, self.assumed) = (phase, k + 1, None);
    }

    /// The steps are over at `to`; what is still open gets its span up to `end_ms`, the last evaluation.
    pub fn finish(&mut self, to: u32, end_ms: i64, course: &Course<'_>) {
        self.absent_until(to, course);
        self.spans.extend(open_span(self.phase, end_ms));
    }
}

fn open_span(phase: Phase, end_ms: i64) -> Option<Span> {
    let (state, start_ms) = match phase {
        Phase::Absent => return None,
        Phase::Pending { active_at_ms } => (SpanState::Pending, active_at_ms),
        Phase::Firing { fired_at_ms, .. } => (SpanState::Firing, fired_at_ms),
    };
    Some(Span { state, start_ms, end_ms, end: SpanEnd::Open })
}

/// Takes a phase through the steps of `from..to`, all present or all absent.
fn run(
    phase: Phase,
    from: u32,
    to: u32,
    present: bool,
    course: &Course<'_>,
    emit: &mut impl FnMut(Span),
) -> Phase {
    if from >= to {
        return phase;
    }
    let (times, holds) = (&course.times, course.holds);
    match (phase, present) {
        (Phase::Absent, false) => Phase::Absent,
        (Phase::Absent, true) => {
            let active_at_ms = times.at(from);
            run(Phase::Pending { active_at_ms }, from, to, true, course, emit)
        }
        (Phase::Pending { active_at_ms }, true) => {
            match times.first_from(from, to, active_at_ms.saturating_add(holds.for_ms)) {
                None => phase,
                Some(k) => {
                    let fired_at_ms = times.at(k);
                    if fired_at_ms > active_at_ms {
                        emit(Span {
                            state: SpanState::Pending,
                            start_ms: active_at_ms,
                            end_ms: fired_at_ms,
                            end: SpanEnd::Fired,
                        });
                    }
                    Phase::Firing { active_at_ms, fired_at_ms, kept_since_ms: None }
                }
            }
        }
        (Phase::Pending { active_at_ms }, false) => {
            emit(Span {
                state: SpanState::Pending,
                start_ms: active_at_ms,
                end_ms: times.at(from),
                end: SpanEnd::Gone,
            });
            Phase::Absent
        }
        (Phase::Firing { active_at_ms, fired_at_ms, .. }, true) => {
            Phase::Firing { active_at_ms, fired_at_ms, kept_since_ms: None }
        }
        (Phase::Firing { active_at_ms, fired_at_ms, kept_since_ms }, false) => {
            let since = kept_since_ms.unwrap_or_else(|| times.at(from));
            let keep = holds.keep_firing_for_ms.max(0);
            match times.first_from(from, to, since.saturating_add(keep)) {
                None => Phase::Firing { active_at_ms, fired_at_ms, kept_since_ms: Some(since) },
                Some(k) => {
                    emit(Span {
                        state: SpanState::Firing,
                        start_ms: fired_at_ms,
                        end_ms: times.at(k),
                        end: SpanEnd::Gone,
                    });
                    Phase::Absent
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Spans of phases that were stepped one by one.
    fn spans_of(steps: &[(i64, Phase)]) -> Vec<Span> {
        let mut out = Vec::new();
        let mut before = Phase::Absent;
        let mut last = 0;
        for (t, phase) in steps {
            let (was, is) = (open_span(before, *t), open_span(*phase, *t));
            match (was, is) {
                (Some(was), Some(is)) if was.state == is.state => {}
                (Some(was), is) => {
                    let end = if is.is_some() { SpanEnd::Fired } else { SpanEnd::Gone };
                    out.push(Span { end, ..was });
                }
                (None, _) => {}
            }
            (before, last) = (*phase, *t);
        }
        out.extend(open_span(before, last));
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn runs_come_to_what_steps_come_to(
            // 0 absent, 1 present, 2 failed; runs of them.
            runs in prop::collection::vec((0u8..3, 1usize..9), 0..24),
            for_steps in 0i64..7, keep_steps in 0i64..7, odd in 0i64..2, first in 0u32..12,
        ) {
            let holds = Holds { for_ms: for_steps * 60_000 + odd * 30_000, keep_firing_for_ms: keep_steps * 60_000 + odd * 30_000 };
            let pattern: Vec<u8> = runs.iter().flat_map(|(kind, n)| std::iter::repeat_n(*kind, *n)).collect();
            let failed: Vec<u32> = (0..pattern.len() as u32).filter(|k| pattern[*k as usize] == 2).collect();
            let times = Times { start_ms: 1_000_000, step_ms: 60_000, failed: &failed };
            let mut low = Phase::Absent;
            let mut high = FIRING_ALREADY;
            let mut stepped = Vec::new();
            let first = times.step_of(first.min(pattern.len() as u32));
            let course = Course { times, holds, first };
            let good: Vec<(usize, bool)> =
                pattern.iter().enumerate().filter(|(_, p)| **p != 2).map(|(i, p)| (i, *p == 1)).collect();
            let mut unknown = first == 0 && !good.is_empty();
            for (k, (i, present)) in good.iter().enumerate() {
                let t = 1_000_000 + *i as i64 * 60_000;
                prop_assert_eq!(times.at(k as u32), t);
                low = low.step(*present, t, holds);
                if (k as u32) < first {
                    high = high.step(*present, t, holds);
                    unknown = !high.looks_like(low);
                }
                stepped.push((t, low));
            }
            let mut life = Life::default();
            let mut k = 0;
            while k < good.len() {
                let mut end = k + 1;
                while end < good.len() && good[end].1 == good[k].1 {
                    end += 1;
                }
                if good[k].1 {
                    // A run may be told in two halves, as at the end of a window.
                    let middle = k + (end - k) / 2;
                    if middle > k {
                        life.present(k as u32, middle as u32, &course);
                    }
                    life.present(middle as u32, end as u32, &course);
                }
                k = end;
            }
            let end = stepped.last().map_or(0, |(t, _)| *t);
            life.finish(good.len() as u32, end, &course);
            prop_assert_eq!(life.phase, low);
            prop_assert_eq!(&life.spans, &spans_of(&stepped));
            if good.len() as u32 >= first {
                prop_assert_eq!(life.start_unknown, unknown);
            }
        }
    }

    #[test]
    fn for_is_reached_and_keep_is_passed() {
        let times = Times { start_ms: 0, step_ms: 60_000, failed: &[] };
        let course = |for_ms, keep_firing_for_ms| Course {
            times,
            holds: Holds { for_ms, keep_firing_for_ms },
            first: 0,
        };
        let life = |course: &Course<'_>, runs: &[(u32, u32)], to| {
            let mut life = Life::default();
            runs.iter().for_each(|(a, b)| life.present(*a, *b, course));
            life.finish(to, course.times.at(to - 1), course);
            life.spans.iter().map(|s| (s.state, s.start_ms / 60_000, s.end_ms / 60_000)).collect::<Vec<_>>()
        };
        use SpanState::{Firing, Pending};
        // for: 2m fires at the third slot; keep: 2m is resolved at the third absent slot.
        assert_eq!(life(&course(120_000, 0), &[(1, 9)], 20), [(Pending, 1, 3), (Firing, 3, 9)]);
        assert_eq!(life(&course(0, 120_000), &[(1, 4)], 20), [(Firing, 1, 6)]);
        // 90s on 1m slots: the second slot after the first; two absent slots.
        assert_eq!(life(&course(90_000, 90_000), &[(1, 9)], 20), [(Pending, 1, 3), (Firing, 3, 11)]);
        // A flap within keep does not begin anew.
        assert_eq!(life(&course(60_000, 120_000), &[(1, 4), (6, 8)], 20), [(Pending, 1, 2), (Firing, 2, 10)]);
    }
}
