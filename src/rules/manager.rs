//! All groups: files are loaded and loaded anew, groups run when they are due.

use std::sync::Mutex;
use std::time::Duration;

use tsdbctl_model::Labels;
use tsdbctl_promql::engine::{on_big_stack, spawn_on_big_stack};
use tsdbctl_template::TemplateError;

use crate::durations::{DURATION_BOUNDS_SECONDS, Durations, RecentDurations};
use crate::file::RuleFile;
use crate::group::{Group, Settings, World, lock, mark_stale};
use crate::permits::Permits;
use crate::schedule::Schedule;

/// Removed groups' series are marked this many intervals after, so that renamed rules can go on with them.
const MARK_AFTER_INTERVALS: i64 = 2;

/// A group with its slots.
#[derive(Debug)]
struct Running {
    group: Group,
    schedule: Schedule,
    runs: u64,
}

/// Series of a group that is gone.
#[derive(Debug)]
struct Removed {
    series: Vec<Labels>,
    /// When they are marked, Unix ms.
    due_ms: i64,
    /// The time of the markers, Unix ms.
    t_ms: i64,
}

/// What one run of a group was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// File and name of the group.
    pub group: String,
    /// The slot, Unix ms.
    pub ts_ms: i64,
    /// Slots that were passed over before it.
    pub missed: u64,
    /// What could not be restored.
    pub restore_errors: Vec<String>,
}

/// Runs groups when they are due. It has no thread and no clock of its own: who drives it says what time it is.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    groups: Vec<Running>,
    removed: Vec<Removed>,
    loaded: bool,
    /// Evaluations of all groups since the start, those that are gone included.
    rule_durations: Observed,
    /// Runs, likewise.
    run_durations: Observed,
}

/// Durations since the start and of late.
#[derive(Debug, Default)]
struct Observed {
    all: Durations,
    recent: RecentDurations,
}

impl Observed {
    fn observe(&mut self, now: Duration, duration: Duration) {
        self.all.observe(duration);
        self.recent.observe(clock_ms(now), duration);
    }
}

/// A monotonic clock's time, ms.
fn clock_ms(now: Duration) -> i64 {
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Upstream's metrics of one kind of duration.
struct DurationNames {
    summary: &'static str,
    summary_count: &'static str,
    summary_sum: &'static str,
    bucket: &'static str,
    count: &'static str,
    sum: &'static str,
    quantiles: &'static [f64],
}

const RULE_NAMES: DurationNames = DurationNames {
    summary: "prometheus_rule_evaluation_duration_seconds",
    summary_count: "prometheus_rule_evaluation_duration_seconds_count",
    summary_sum: "prometheus_rule_evaluation_duration_seconds_sum",
    bucket: "prometheus_rule_evaluation_duration_histogram_seconds_bucket",
    count: "prometheus_rule_evaluation_duration_histogram_seconds_count",
    sum: "prometheus_rule_evaluation_duration_histogram_seconds_sum",
    quantiles: &[0.5, 0.9, 0.99],
};

const RUN_NAMES: DurationNames = DurationNames {
    summary: "prometheus_rule_group_duration_seconds",
    summary_count: "prometheus_rule_group_duration_seconds_count",
    summary_sum: "prometheus_rule_group_duration_seconds_sum",
    bucket: "prometheus_rule_group_duration_histogram_seconds_bucket",
    count: "prometheus_rule_group_duration_histogram_seconds_count",
    sum: "prometheus_rule_group_duration_histogram_seconds_sum",
    quantiles: &[0.01, 0.05, 0.5, 0.9, 0.99],
};

/// One line of [`Manager::duration_metrics`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DurationMetric {
    /// The metric.
    pub name: &'static str,
    /// Its label and what number that has: `quantile` or `le`.
    pub label: Option<(&'static str, f64)>,
    /// Its value.
    pub value: f64,
}

impl Manager {
    /// Without groups.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: Vec::new(),
            removed: Vec::new(),
            loaded: false,
            rule_durations: Observed::default(),
            run_durations: Observed::default(),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The groups by file and name.
    pub fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.iter().map(|r| &r.group).collect();
        groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
        groups
    }

    /// Puts a new set of files in place, at `now_ms` (Unix ms). Groups that stayed equal run on; others take over the
    /// state of the group in their place and wait for their next slot. The groups of the first load restore theirs
    /// from storage.
    ///
    /// # Errors
    /// If a template cannot be parsed; then nothing is changed.
    pub fn load(
        &mut self,
        files: &[(String, RuleFile)],
        settings: Settings,
        now_ms: i64,
    ) -> Result<(), TemplateError> {
        let restore = !self.loaded;
        let mut groups: Vec<Group> = Vec::new();
        for (path, file) in files {
            for spec in &file.groups {
                let group = Group::new(path, spec, &settings, restore)?;
                // Of a file that is named twice one copy runs.
                match groups.iter_mut().find(|g| g.file == group.file && g.name == group.name) {
                    Some(same) => *same = group,
                    None => groups.push(group),
                }
            }
        }
        self.loaded = true;
        // Batches are made when a group is.
        let same_batches = (self.settings.extra_evaluations > 0) == (settings.extra_evaluations > 0);
        let mut old: Vec<Option<Running>> = std::mem::take(&mut self.groups).into_iter().map(Some).collect();
        for mut group in groups {
            let place = old.iter_mut().find(|o| {
                o.as_ref().is_some_and(|o| o.group.file == group.file && o.group.name == group.name)
            });
            match place.and_then(Option::take) {
                Some(running) if running.group.equals(&group) && same_batches => {
                    self.groups.push(running);
                    continue;
                }
                Some(running) => group.take_state(running.group),
                None => {}
            }
            let schedule = Schedule::new(&group.file, &group.name, group.interval_ms, now_ms);
            self.groups.push(Running { group, schedule, runs: 0 });
        }
        for running in old.into_iter().flatten() {
            // As upstream: a group that has not run since it was loaded leaves no markers.
            if !running.schedule.has_run() {
                continue;
            }
            let offset_ms = running.group.offset_ms(&settings);
            let due_ms = now_ms + MARK_AFTER_INTERVALS * running.group.interval_ms;
            let series = running.group.into_series();
            self.removed.push(Removed { series, due_ms, t_ms: now_ms - offset_ms });
        }
        self.settings = settings;
        Ok(())
    }

    /// Upstream's metrics of all groups together: durations of evaluations and of runs since the start, and quantiles
    /// of the last 10 min, within 1 %. `now` is the monotonic time of the clock that the runs were given.
    pub fn duration_metrics(&self, now: Duration) -> Vec<DurationMetric> {
        let mut out = Vec::new();
        for (names, observed) in [(&RULE_NAMES, &self.rule_durations), (&RUN_NAMES, &self.run_durations)] {
            let (n, seconds) = (observed.all.count as f64, observed.all.sum.as_secs_f64());
            let mut put = |name, label, value| out.push(DurationMetric { name, label, value });
            for quantile in names.quantiles {
                let value = observed.recent.quantile_seconds(clock_ms(now), *quantile);
                put(names.summary, Some(("quantile", *quantile)), value);
            }
            put(names.summary_sum, None, seconds);
            put(names.summary_count, None, n);
            for (bound, at_most) in DURATION_BOUNDS_SECONDS.into_iter().zip(observed.all.at_most) {
                put(names.bucket, Some(("le", bound)), at_most as f64);
            }
            put(names.bucket, Some(("le", f64::INFINITY)), n);
            put(names.sum, None, seconds);
            put(names.count, None, n);
        }
        out
    }

    /// When there is something to do next, Unix ms.
    pub fn next_due_ms(&self) -> Option<i64> {
        let runs = self.groups.iter().map(|r| r.schedule.due_ms());
        runs.chain(self.removed.iter().map(|r| r.due_ms)).min()
    }

    /// Does what is due at `now_ms` (Unix ms): each group that is due runs once, in the order of their slots or, if
    /// [`Settings::groups_at_once`] allows, beside others. Gives what ran, in the order of the slots either way.
    ///
    /// An evaluation that panics is an error of its rule. A storage that panics elsewhere makes this panic, when the
    /// other groups are through.
    pub fn run_due(&mut self, now_ms: i64, world: World<'_>) -> Vec<RunReport> {
        if self.next_due_ms().is_none_or(|due| due > now_ms) {
            return Vec::new();
        }
        // Expressions nest deeply: one stack for all of this.
        on_big_stack(|| self.run_on_this_stack(now_ms, world))
    }

    fn run_on_this_stack(&mut self, now_ms: i64, world: World<'_>) -> Vec<RunReport> {
        self.removed.retain_mut(|removed| {
            if removed.due_ms > now_ms {
                return true;
            }
            mark_stale(&mut removed.series, removed.t_ms, world.storage);
            false
        });
        let settings = &self.settings;
        let mut due: Vec<&mut Running> =
            self.groups.iter_mut().filter(|r| r.schedule.due_ms() <= now_ms).collect();
        due.sort_by_key(|r| r.schedule.due_ms());
        // This thread is one of them.
        let more_threads = settings.groups_at_once.min(due.len()).saturating_sub(1);
        let permits = Permits::new(settings.extra_evaluations);
        let waiting = Mutex::new(due.into_iter().enumerate());
        let done = Mutex::new(Vec::new());
        let work = || {
            loop {
                let Some((place, running)) = lock(&waiting).next() else { break };
                if let Some(report) = running.run(now_ms, settings, world, &permits) {
                    lock(&done).push((place, report, &running.group));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..more_threads {
                // If no thread can be had, the others do it all.
                let _ = spawn_on_big_stack(scope, work);
            }
            work();
        });
        let mut done = std::mem::take(&mut *lock(&done));
        done.sort_by_key(|(place, ..)| *place);
        let now = world.clock.monotonic();
        let mut reports = Vec::with_capacity(done.len());
        for (_, report, group) in done {
            for duration in group.last_durations() {
                self.rule_durations.observe(now, duration);
            }
            self.run_durations.observe(now, group.counters().last_duration);
            reports.push(report);
        }
        reports
    }
}

impl Running {
    /// Runs the group if it is due at `now_ms`, Unix ms.
    fn run(
        &mut self,
        now_ms: i64,
        settings: &Settings,
        world: World<'_>,
        permits: &Permits,
    ) -> Option<RunReport> {
        let slot = self.schedule.take(now_ms)?;
        self.group.run_within(slot.ts_ms(), slot.missed, settings, world, permits);
        self.runs += 1;
        // The first run may lack what is not scraped or recorded yet.
        let restore_errors = if self.runs == 2 && self.group.wants_restore() {
            self.group.restore(settings, world)
        } else {
            Vec::new()
        };
        Some(RunReport { group: self.group.key(), ts_ms: slot.ts_ms(), missed: slot.missed, restore_errors })
    }
}
