//! The life of alerts: one pure step of one alerting rule, from the state and a result to a new state, samples and
//! what is to be sent.

use std::collections::BTreeMap;

use tsdbctl_model::Labels;
use tsdbctl_promql::engine::Sample;

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertState {
    /// It was firing and is resolved; kept for a while so that it is sent again.
    Inactive,
    /// Seen for less than `for`.
    Pending,
    /// Seen for `for` or longer, or kept firing.
    Firing,
}

/// One alert. Times are Unix ms, ts of the evaluation (query offset not applied).
#[derive(Clone, Debug)]
pub struct Alert {
    /// Where it is.
    pub state: AlertState,
    /// Its labels with `alertname`, without external labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The value when it was last in the result.
    pub value: Sample,
    /// First evaluation that saw it.
    pub active_at_ms: i64,
    /// When it began to fire.
    pub fired_at_ms: Option<i64>,
    /// When it was gone.
    pub resolved_at_ms: Option<i64>,
    /// When it was last sent.
    pub last_sent_at_ms: Option<i64>,
    /// `endsAt` of what was last sent.
    pub valid_until_ms: Option<i64>,
    /// Since when it fires although it is absent.
    pub keep_firing_since_ms: Option<i64>,
}
