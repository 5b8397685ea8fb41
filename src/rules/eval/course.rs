//! Series of a recording rule over a window: their labels are made once, and at a slot only values are looked at.

use std::collections::HashMap;
use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_model::sample::{is_stale, stale_nan};
use tsdbctl_promql::engine::{Column, Sample};
use tsdbctl_storage::Refusal;

use super::Written;
use super::overlay::Recorded;
use crate::error::RuleError;
use crate::group::{Dropped, Health, RuleState};
use crate::recording::RecordRule;

/// What became of a rule's series in a window.
pub(super) struct Course {
    /// Recorded labels of each series.
    labels: Vec<Arc<Labels>>,
    /// Which of them the last evaluation gave.
    present: Vec<bool>,
    /// Series that were given before the window and are none of it.
    gone: Vec<Labels>,
    /// Whether the state of before the window was taken over.
    begun: bool,
    steps: usize,
}

impl Course {
    /// `None` if two series are recorded as one, or there are histograms.
    pub fn new(rule: &RecordRule, series: &[(Labels, Column)], steps: usize) -> Option<Self> {
        let mut labels = Vec::with_capacity(series.len());
        let mut met = hashbrown::HashSet::with_capacity(series.len());
        for (of_element, column) in series {
            let recorded = Arc::new(rule.series(of_element));
            if !column.histograms.is_empty() || !met.insert(Arc::clone(&recorded)) {
                return None;
            }
            labels.push(recorded);
        }
        Some(Self { present: vec![false; labels.len()], labels, gone: Vec::new(), begun: false, steps })
    }

    fn begin(&mut self, state: &mut RuleState) {
        if std::mem::replace(&mut self.begun, true) || state.series.is_empty() {
            return;
        }
        let numbers: HashMap<&Labels, usize> =
            self.labels.iter().enumerate().map(|(i, l)| (l.as_ref(), i)).collect();
        for labels in state.series.drain() {
            match numbers.get(&labels) {
                Some(i) => self.present[*i] = true,
                None => self.gone.push(labels),
            }
        }
    }
}

/// One slot of a course.
pub(super) struct Step<'a> {
    pub course: &'a mut Course,
    pub series: &'a [(Labels, Column)],
    /// Number of the slot in the window.
    pub k: usize,
    /// Time of its samples, Unix ms.
    pub t_ms: i64,
}

impl Step<'_> {
    /// Takes the step as [`crate::group`] does: samples, markers of what vanished. `direct`: nobody reads or writes the
    /// metric besides, so that samples need not be kept.
    pub fn take(self, limit: i64, direct: bool, state: &mut RuleState, recorded: &mut Recorded) -> Written {
        let Self { course, series, k, t_ms } = self;
        let mut written = Written::default();
        let float = |(_, column): &(Labels, Column)| if k < column.steps() { column.float(k) } else { None };
        let count = series.iter().filter(|s| float(s).is_some()).count();
        state.dropped = Dropped::default();
        match usize::try_from(limit) {
            Ok(limit) if limit > 0 && count > limit => {
                state.health = Health::Bad;
                state.last_error = Some(RuleError::SeriesLimit { limit, series: count }.to_string());
            }
            _ => {
                (state.health, state.last_error) = (Health::Good, None);
                course.begin(state);
                written.begun = true;
                written.samples.reserve_exact(count);
                let mut vanished: Vec<Arc<Labels>> = Vec::new();
                for (i, one) in series.iter().enumerate() {
                    let was = course.present[i];
                    let labels = &course.labels[i];
                    let mut is = false;
                    if let Some(v) = float(one) {
                        let appended = match direct {
                            true => Ok(Sample::Float(v)),
                            false => recorded.append(labels, t_ms, &Sample::Float(v)),
                        };
                        is = appended.is_ok();
                        if let Err(refusal) = &appended {
                            state.dropped.count(*refusal);
                            (state.health, state.last_error) = (Health::Bad, Some(refusal.to_string()));
                        }
                        written.told(Arc::clone(labels), t_ms, appended, is_stale(v));
                    }
                    course.present[i] = is;
                    if was && !is {
                        vanished.push(Arc::clone(labels));
                    }
                }
                let marker = Sample::Float(stale_nan());
                let mut markers: Vec<(Arc<Labels>, Result<Sample, Refusal>)> = Vec::new();
                for labels in vanished {
                    let appended = match direct {
                        true => Ok(marker.clone()),
                        false => recorded.append(&labels, t_ms, &marker),
                    };
                    markers.push((labels, appended));
                }
                for labels in std::mem::take(&mut course.gone).into_iter().map(Arc::new) {
                    // Its samples of before the window may have been histograms.
                    let appended = recorded.append(&labels, t_ms, &marker);
                    markers.push((labels, appended));
                }
                markers.sort_by(|a, b| a.0.cmp(&b.0));
                for (labels, appended) in markers {
                    written.told(labels, t_ms, appended, true);
                }
            }
        }
        if k + 1 >= course.steps && course.begun {
            // What comes after the window is told from here on.
            for (i, labels) in course.labels.iter().enumerate().filter(|(i, _)| course.present[*i]) {
                if direct && let Some(v) = float(&series[i]) {
                    recorded.note(labels, t_ms, Sample::Float(v));
                }
                state.series.insert(Labels::clone(labels));
            }
            state.series.extend(std::mem::take(&mut course.gone));
        }
        written
    }
}
