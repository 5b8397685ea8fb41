//! All groups: files are loaded and loaded anew, groups run when they are due.

use tsdbctl_model::Labels;
use tsdbctl_promql::engine::on_big_stack;
use tsdbctl_template::TemplateError;

use crate::file::RuleFile;
use crate::group::{DURATION_BOUNDS_SECONDS, Durations, Group, Settings, World, mark_stale};
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
    /// Evaluations and runs of all groups since the start, those that are gone included.
    rule_durations: Durations,
    run_durations: Durations,
}

impl Manager {
    /// Without groups.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: Vec::new(),
            removed: Vec::new(),
            loaded: false,
            rule_durations: Durations::default(),
            run_durations: Durations::default(),
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
        let same_concurrency = self.settings.concurrency == settings.concurrency;
        let mut old: Vec<Option<Running>> = std::mem::take(&mut self.groups).into_iter().map(Some).collect();
        for mut group in groups {
            let place = old.iter_mut().find(|o| {
                o.as_ref().is_some_and(|o| o.group.file == group.file && o.group.name == group.name)
            });
            match place.and_then(Option::take) {
                Some(running) if running.group.equals(&group) && same_concurrency => {
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

    /// Upstream's metrics of all groups together: durations of evaluations and of runs since the start, each as name,
    /// `le` if it has one, and value. No quantiles are kept; the buckets tell as much.
    pub fn duration_metrics(&self) -> Vec<(&'static str, Option<f64>, f64)> {
        let mut out = Vec::new();
        let kinds = [
            (
                &self.rule_durations,
                [
                    "prometheus_rule_evaluation_duration_seconds_count",
                    "prometheus_rule_evaluation_duration_seconds_sum",
                    "prometheus_rule_evaluation_duration_histogram_seconds_bucket",
                    "prometheus_rule_evaluation_duration_histogram_seconds_count",
                    "prometheus_rule_evaluation_duration_histogram_seconds_sum",
                ],
            ),
            (
                &self.run_durations,
                [
                    "prometheus_rule_group_duration_seconds_count",
                    "prometheus_rule_group_duration_seconds_sum",
                    "prometheus_rule_group_duration_histogram_seconds_bucket",
                    "prometheus_rule_group_duration_histogram_seconds_count",
                    "prometheus_rule_group_duration_histogram_seconds_sum",
                ],
            ),
        ];
        for (durations, [summary_count, summary_sum, bucket, count, sum]) in kinds {
            let (n, seconds) = (durations.count as f64, durations.sum.as_secs_f64());
            out.extend([(summary_count, None, n), (summary_sum, None, seconds)]);
            let bounds = DURATION_BOUNDS_SECONDS.into_iter().zip(durations.at_most);
            out.extend(bounds.map(|(bound, at_most)| (bucket, Some(bound), at_most as f64)));
            out.extend([(bucket, Some(f64::INFINITY), n), (count, None, n), (sum, None, seconds)]);
        }
        out
    }

    /// When there is something to do next, Unix ms.
    pub fn next_due_ms(&self) -> Option<i64> {
        let runs = self.groups.iter().map(|r| r.schedule.due_ms());
        runs.chain(self.removed.iter().map(|r| r.due_ms)).min()
    }

    /// Does what is due at `now_ms` (Unix ms): each group that is due runs once, in the order of their slots.
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
        let mut due: Vec<usize> =
            (0..self.groups.len()).filter(|i| self.groups[*i].schedule.due_ms() <= now_ms).collect();
        due.sort_by_key(|i| self.groups[*i].schedule.due_ms());
        let mut reports = Vec::with_capacity(due.len());
        for i in due {
            let Running { group, schedule, runs } = &mut self.groups[i];
            let Some(slot) = schedule.take(now_ms) else { continue };
            let before = *group.counters();
            group.run(slot.ts_ms(), slot.missed, &self.settings, world);
            self.rule_durations.add(&group.counters().rule_durations.since(&before.rule_durations));
            self.run_durations.observe(group.counters().last_duration);
            *runs += 1;
            // The first run may lack what is not scraped or recorded yet.
            let restore_errors = if *runs == 2 && group.wants_restore() {
                group.restore(&self.settings, world)
            } else {
                Vec::new()
            };
            let (ts_ms, missed) = (slot.ts_ms(), slot.missed);
            reports.push(RunReport { group: group.key(), ts_ms, missed, restore_errors });
        }
        reports
    }
}
