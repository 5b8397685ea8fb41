//! A backtest as a table and as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_model::float_text::format_json_float;
use tsdbctl_rules::backtest::machine::{SpanEnd, SpanState};
use tsdbctl_rules::backtest::report::{AlertReport, Change, Pair, Report, Summary, noise_growth_percent};

use super::Compared;
use crate::table::write_table;
use crate::ui::{Ui, counted};

/// A line per alert; with an older version what changed, noisiest growth first.
pub fn table(out: &mut dyn Write, report: &Report, compared: Compared<'_>) -> io::Result<()> {
    if let Some((old, pairs)) = compared {
        return comparison(out, report, old, pairs);
    }
    let mut head =
        vec!["alert", "series", "pending", "firing", "flaps", "longest", "firing time", "per week"];
    let sums: Vec<Summary> = report.alerts.iter().map(|a| report.summary(a)).collect();
    // Columns that tell of trouble, where there is some.
    let failed = report.alerts.iter().any(|a| a.failed > 0);
    let unknown = sums.iter().any(|s| s.start_unknown > 0);
    head.extend(failed.then_some("failed"));
    head.extend(unknown.then_some("unknown"));
    let rows = report.alerts.iter().zip(&sums).map(|(alert, sum)| {
        let mut row = vec![
            alert.name.clone(),
            sum.series.to_string(),
            sum.pending.to_string(),
            sum.firing.to_string(),
            sum.flaps.to_string(),
            duration(sum.longest_ms),
            duration(sum.firing_ms),
            per_week(report, sum.notifications),
        ];
        row.extend(failed.then(|| alert.failed.to_string()));
        row.extend(unknown.then(|| sum.start_unknown.to_string()));
        row
    });
    let right: Vec<usize> = (1..head.len()).collect();
    if report.alerts.is_empty() {
        return writeln!(out, "no alerts");
    }
    write_table(out, &head, rows, &right)?;
    let all = report.notifications();
    writeln!(out, "{}, {} per week", notifications(all), per_week(report, all))
}

fn comparison(out: &mut dyn Write, new: &Report, old: &Report, pairs: &[Pair]) -> io::Result<()> {
    let summaries = |pair: &Pair| {
        let old = pair.old.map(|o| old.summary(&old.alerts[o]));
        (old, pair.new.map(|n| new.summary(&new.alerts[n])))
    };
    let text = |sum: Option<Summary>, f: fn(&Summary) -> String| sum.as_ref().map_or("-".to_string(), f);
    let mut shown: Vec<&Pair> = pairs.iter().filter(|p| p.change != Change::Same).collect();
    shown.sort_by_key(|pair| {
        let (o, n) = summaries(pair);
        o.map_or(0, |s| s.notifications as i64) - n.map_or(0, |s| s.notifications as i64)
    });
    let rows = shown.iter().map(|pair| {
        let (o, n) = summaries(pair);
        let (was, is) = (pair.old.map(|o| &old.alerts[o].name), pair.new.map(|n| &new.alerts[n].name));
        let name = match (was, is) {
            (Some(was), Some(is)) if was != is => format!("{was} -> {is}"),
            (was, is) => is.or(was).cloned().unwrap_or_default(),
        };
        vec![
            name,
            pair.change.as_str().to_string(),
            text(o, |s| s.notifications.to_string()),
            text(n, |s| s.notifications.to_string()),
            text(o, |s| duration(s.firing_ms)),
            text(n, |s| duration(s.firing_ms)),
        ]
    });
    let head = ["alert", "change", "old", "new", "old firing time", "firing time"];
    if shown.is_empty() {
        writeln!(out, "no alert changed")?;
    } else {
        write_table(out, &head, rows, &[2, 3, 4, 5])?;
    }
    let (before, after) = (old.notifications(), new.notifications());
    let growth = noise_growth_percent(old, new).map_or(String::new(), |g| format!(" ({g:+.1} %)"));
    let after_text = notifications(after);
    writeln!(out, "{after_text} instead of {before}{growth}, {} per week", per_week(new, after))
}

/// Their number with its noun.
pub fn notifications(n: u64) -> String {
    counted(n, "notification", "notifications")
}

fn duration(ms: i64) -> String {
    if ms <= 0 { "-".to_string() } else { format_duration_ms(ms) }
}

fn per_week(report: &Report, count: u64) -> String {
    let rate = report.per_week(count);
    if rate == 0.0 || rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// Everything.
pub fn json(out: &mut dyn Write, report: &Report, compared: Compared<'_>) -> io::Result<()> {
    let range = json!({
        "start": format_rfc3339_ms(report.start_ms),
        "end": format_rfc3339_ms(report.end_ms),
        "notifications": report.notifications(),
        "notificationsPerWeek": report.per_week(report.notifications()),
    });
    // One alert at a time: the spans of all as one tree would take several times their size.
    writeln!(out, "{{\"range\":{range},\"notes\":{},\"alerts\":[", json!(report.notes))?;
    for (i, alert) in report.alerts.iter().enumerate() {
        let comma = if i + 1 < report.alerts.len() { "," } else { "" };
        writeln!(out, "{}{comma}", alert_json(report, alert))?;
    }
    write!(out, "]")?;
    if let Some((old, pairs)) = compared {
        let changes: Vec<Value> = pairs
            .iter()
            .map(|pair| {
                let name = pair.new.map(|n| &report.alerts[n]).or(pair.old.map(|o| &old.alerts[o]));
                json!({
                    "alert": name.map(|a| a.name.as_str()),
                    "oldAlert": pair.old.map(|o| old.alerts[o].name.as_str()),
                    "change": pair.change.as_str(),
                    "oldNotifications": pair.old.map(|o| old.summary(&old.alerts[o]).notifications),
                    "newNotifications": pair.new.map(|n| report.summary(&report.alerts[n]).notifications),
                })
            })
            .collect();
        let against = json!({
            "notifications": old.notifications(),
            "growthPercent": noise_growth_percent(old, report),
            "changes": changes,
        });
        write!(out, ",\"against\":{against}")?;
    }
    writeln!(out, "}}")
}

fn alert_json(report: &Report, alert: &AlertReport) -> Value {
    let sum = report.summary(alert);
    let series: Vec<Value> = alert
        .series
        .iter()
        .map(|series| {
            let labels: serde_json::Map<String, Value> = report
                .labels(series)
                .iter()
                .map(|l| (l.name.clone(), Value::String(l.value.clone())))
                .collect();
            let spans: Vec<Value> = series
                .spans
                .iter()
                .map(|span| {
                    let mut told = json!({
                        "state": match span.state {
                            SpanState::Pending => "pending",
                            SpanState::Firing => "firing",
                        },
                        "start": format_rfc3339_ms(span.start_ms),
                        "end": format_rfc3339_ms(span.end_ms),
                        "ended": match span.end {
                            SpanEnd::Fired => "fired",
                            SpanEnd::Gone => "gone",
                            SpanEnd::Dropped => "dropped",
                            SpanEnd::Open => "open",
                        },
                        "beforeRange": span.start_ms < report.start_ms,
                    });
                    let at = series.firings.binary_search_by_key(&span.start_ms, |f| f.at_ms);
                    if let (SpanState::Firing, Ok(at)) = (span.state, at) {
                        let firing = &series.firings[at];
                        let text = |s| Value::String(report.symbols.resolve(s).to_string());
                        let annotations: serde_json::Map<String, Value> = firing
                            .annotations
                            .iter()
                            .map(|(n, v)| (report.symbols.resolve(*n).to_string(), text(*v)))
                            .collect();
                        // As text, as the API of Prometheus has it: it may be no number of JSON.
                        told["value"] = firing.value.map_or(Value::Null, |v| json!(format_json_float(v)));
                        told["annotations"] = Value::Object(annotations);
                    }
                    told
                })
                .collect();
            json!({
                "labels": labels,
                "spans": spans,
                "steps": series.held_steps,
                "startUnknown": series.start_unknown,
            })
        })
        .collect();
    let errors: Vec<Value> = alert
        .errors
        .iter()
        .map(|(t, text)| json!({ "time": format_rfc3339_ms(*t), "error": text }))
        .collect();
    let labels: serde_json::Map<String, Value> =
        alert.labels.iter().map(|(n, v)| (n.clone(), Value::String(v.clone()))).collect();
    json!({
        "alert": alert.name,
        "group": alert.group,
        "place": alert.place,
        "expr": alert.expr,
        "labels": labels,
        "evaluations": alert.evaluations,
        "failed": alert.failed,
        "errors": errors,
        "heldSeries": alert.series.iter().filter(|s| s.held_steps > 0).count(),
        "heldSteps": alert.held_steps,
        "pending": sum.pending,
        "pendingOnly": sum.pending_only,
        "firing": sum.firing,
        "resolved": sum.resolved,
        "flaps": sum.flaps,
        "longestSeconds": sum.longest_ms as f64 / 1000.0,
        "firingSeconds": sum.firing_ms as f64 / 1000.0,
        "notifications": sum.notifications,
        "notificationsPerWeek": report.per_week(sum.notifications),
        "startUnknown": sum.start_unknown,
        "failedBeforeRange": alert.start_unknown,
        "unmatched": alert.unmatched,
        "series": series,
    })
}

/// Names the alerts whose evaluation failed; whether there are any.
pub fn say_failures(ui: &mut Ui, report: &Report) -> bool {
    let mut any = false;
    for alert in report.alerts.iter().filter(|a| a.failed > 0) {
        any = true;
        let first =
            alert.errors.first().map(|(t, text)| format!(", first at {}: {text}", format_rfc3339_ms(*t)));
        ui.warn(format!(
            "{}: {} failed at {} of {} evaluations{}",
            alert.place,
            alert.name,
            alert.failed,
            alert.evaluations,
            first.unwrap_or_default()
        ));
    }
    any
}
