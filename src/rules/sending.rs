//! Alerts leave: which are due at a slot, and what is sent of them.

use std::collections::BTreeMap;

use tsdbctl_model::Labels;

use crate::alerting::{ActiveAlerts, Alert, AlertRule, AlertState, Surroundings};

/// How many intervals or resend delays an alert stays valid: two of them may fail.
const VALID_FOR: i64 = 4;

/// An alert as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingAlert {
    /// Its labels, external ones where it has none of that name.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it began to fire, Unix ms.
    pub starts_at_ms: i64,
    /// When it was resolved, or until when it is valid unless it is sent again; Unix ms.
    pub ends_at_ms: i64,
    /// Where its expression can be looked at.
    pub generator_url: String,
}

/// Takes alerts, of several rules at the same time where several are evaluated.
pub trait AlertSink: Sync {
    /// Takes the alerts of one rule that are due at one slot; never an empty list.
    fn send(&self, alerts: Vec<OutgoingAlert>);
}

/// How alerts are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// Least distance of two sends of one alert, ms (`--rules.alert.resend-delay`).
    pub delay_ms: i64,
    /// The group's interval, ms.
    pub interval_ms: i64,
}

/// Whether an alert is to be sent at `ts_ms`.
pub fn is_due(alert: &Alert, ts_ms: i64, delay_ms: i64) -> bool {
    if alert.state == AlertState::Pending {
        return false;
    }
    // `None` is before any time: what was never sent is due.
    alert.resolved_at_ms > alert.last_sent_at_ms
        || alert.last_sent_at_ms.is_none_or(|sent| sent.saturating_add(delay_ms) < ts_ms)
}

/// The alerts of a rule that are due at `ts_ms`; they count as sent.
pub fn take_due(active: &mut ActiveAlerts, ts_ms: i64, resend: Resend) -> Vec<Alert> {
    let valid_ms = VALID_FOR * resend.interval_ms.max(resend.delay_ms);
    let due = active.alerts.values_mut().filter(|a| is_due(a, ts_ms, resend.delay_ms));
    due.map(|alert| {
        alert.last_sent_at_ms = Some(ts_ms);
        alert.valid_until_ms = Some(ts_ms.saturating_add(valid_ms));
        alert.clone()
    })
    .collect()
}

/// An alert as it is sent.
pub fn outgoing(rule: &AlertRule, alert: Alert, surroundings: &Surroundings) -> OutgoingAlert {
    let mut labels = alert.labels;
    for external in &surroundings.external_labels {
        if !labels.has(&external.name) {
            labels.set(external.name.as_str(), external.value.as_str());
        }
    }
    let mut generator_url = surroundings.external_url.clone();
    generator_url.push_str("/graph?g0.expr=");
    query_escape(&mut generator_url, &rule.expr.printed);
    generator_url.push_str("&g0.tab=1");
    let starts_at_ms = alert.fired_at_ms.unwrap_or(alert.active_at_ms);
    let ends_at_ms = alert.resolved_at_ms.or(alert.valid_until_ms).unwrap_or(starts_at_ms);
    OutgoingAlert { labels, annotations: alert.annotations, starts_at_ms, ends_at_ms, generator_url }
}

/// Escapes a text for a URL's query as Go does: a blank becomes `+`.
fn query_escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
}
