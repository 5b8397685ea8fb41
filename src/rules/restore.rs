//! After a restart: since when alerts are active is taken from `ALERTS_FOR_STATE`, so that a long `for` does not
//! begin anew.

use std::collections::HashMap;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::symbols::SymbolTable;
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, StorageError, TimeFilter};

use crate::alerting::{ALERT_NAME, ALERTS_FOR_STATE, ActiveAlerts, AlertRule};

/// The last float of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct LastFloat {
    /// The series.
    pub labels: Labels,
    /// Its time, Unix ms.
    pub t_ms: i64,
    /// Its value; a stale marker too.
    pub value: f64,
}

/// How far back is looked, and how soon a restored alert may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreLimits {
    /// Longest outage that is bridged, ms (`--rules.alert.for-outage-tolerance`).
    pub tolerance_ms: i64,
    /// Least time between a restart and a restored alert's firing, ms (`--rules.alert.for-grace-period`); rules with
    /// a shorter `for` are not restored.
    pub grace_ms: i64,
}

impl Default for RestoreLimits {
    fn default() -> Self {
        Self { tolerance_ms: 3_600_000, grace_ms: 600_000 }
    }
}

/// The last float in `mint..=maxt` (Unix ms) of every series that satisfies all matchers. As upstream reads it, floats
/// behind a histogram do not count.
///
/// # Errors
/// If the data cannot be read.
pub fn last_floats(
    storage: &dyn Queryable,
    matchers: &[Matcher],
    mint: i64,
    maxt: i64,
    control: &Control,
) -> Result<Vec<LastFloat>, StorageError> {
    let querier = storage.querier(mint, maxt, &[matchers.to_vec()], control)?;
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
    let set = querier.select(&hints, matchers, &mut symbols, control)?;
    let filter = TimeFilter::all_between(mint, maxt);
    let mut out = Vec::new();
    let mut stats = ReadStats::default();
    for i in 0..set.len() {
        let mut columns = SampleColumns::default();
        set.read(i, &filter, &mut columns, &mut stats)?;
        let until = columns.histograms.t.first().copied().unwrap_or(i64::MAX);
        let mut floats = columns.floats.t.iter().zip(&columns.floats.v);
        let last = floats.rfind(|(t, _)| (mint..=maxt).contains(*t) && **t < until);
        let (t_ms, value) = match last {
            Some((t_ms, value)) => (*t_ms, *value),
            // Upstream stops before the first histogram and then goes by its zero values.
            None if (mint..=maxt).contains(&until) => (0, 0.0),
            None => continue,
        };
        out.push(LastFloat { labels: symbols.labels(set.labels(i)), t_ms, value });
    }
    Ok(out)
}

/// What finds the `ALERTS_FOR_STATE` series of a rule: its labels as written, but those with a template.
pub fn matchers(rule: &AlertRule) -> Vec<Matcher> {
    let mut labels = rule.raw_labels().clone();
    labels.set(METRIC_NAME, ALERTS_FOR_STATE);
    labels.set(ALERT_NAME, rule.name.as_str());
    labels
        .iter()
        .filter(|l| !l.value.contains("{{"))
        .map(|l| Matcher::equal(l.name.as_str(), l.value.as_str()))
        .collect()
}

/// Whether a rule's alerts are restored at all.
pub fn wants_restore(rule: &AlertRule, limits: RestoreLimits) -> bool {
    rule.for_ms >= limits.grace_ms
}

/// Moves the alerts of a rule back to when they became active, by what was stored. `now_ms` is the wall clock, Unix ms.
pub fn restore(
    rule: &AlertRule,
    active: &mut ActiveAlerts,
    stored: Vec<LastFloat>,
    now_ms: i64,
    limits: RestoreLimits,
) {
    let mut by_labels = HashMap::with_capacity(stored.len());
    for LastFloat { mut labels, t_ms, value } in stored {
        labels.remove(METRIC_NAME);
        by_labels.insert(labels, (t_ms, value));
    }
    for (labels, alert) in &mut active.alerts {
        let Some((t_ms, value)) = by_labels.get(labels) else { continue };
        if is_stale(*value) {
            continue;
        }
        // Upstream works in whole seconds here.
        let down_at_ms = t_ms / 1000 * 1000;
        let active_at_ms = (*value as i64).saturating_mul(1000);
        let left_ms = rule.for_ms - down_at_ms.saturating_sub(active_at_ms);
        alert.active_at_ms = if left_ms <= 0 {
            active_at_ms
        } else if left_ms < limits.grace_ms {
            now_ms + limits.grace_ms - rule.for_ms
        } else {
            active_at_ms.saturating_add(now_ms - down_at_ms)
        };
    }
}
