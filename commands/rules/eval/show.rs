//! What evaluations gave, in the formats of `rules eval`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};
use tsdbctl_model::Labels;
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use tsdbctl_model::sample::is_stale;
use tsdbctl_promql::engine::Sample;
use tsdbctl_rules::alerting::{ALERT_STATE, ALERTS, Alert, AlertState};
use tsdbctl_rules::eval::{EvalSample, Evaluated, RulePlace};

use super::write::address;
use super::{Output, Plan};
use crate::query::lines::{sample_text, write_sample};
use crate::table::{write_csv_line, write_table};
use crate::ui::Ui;

/// Labels that are found by their place in memory at a time.
const SHARED: usize = 200_000;

/// A series of a range in the table.
struct Line {
    place: RulePlace,
    samples: u64,
    first: i64,
    last: i64,
    value: Sample,
}

/// An alert of a range in the table.
#[derive(Default)]
struct AlertLine {
    pending: u64,
    firing: u64,
    first_firing: Option<i64>,
    state: Option<AlertState>,
}

/// Shows evaluations as they come, or at the end.
pub(super) struct Shown {
    output: Option<Output>,
    begun: bool,
    lines: Vec<Line>,
    /// Numbers of lines.
    series: BTreeMap<(RulePlace, Arc<Labels>), usize>,
    /// The same by the labels' place in memory, which evaluations mostly share.
    shared: HashMap<usize, (Arc<Labels>, usize)>,
    alerts: BTreeMap<(RulePlace, Labels), AlertLine>,
    /// Rows of the one evaluation's alerts.
    alert_rows: Vec<Vec<String>>,
    samples: BTreeMap<Labels, Vec<(i64, f64)>>,
    histograms_left_out: u64,
}

impl Shown {
    /// Begins.
    pub fn new(output: Option<Output>, plan: &Plan, ui: &mut Ui) -> anyhow::Result<Self> {
        let _ = plan;
        if output == Some(Output::Csv) {
            write_csv_line(ui.out(), ["time", "group", "rule", "series", "value"])?;
        }
        Ok(Self {
            output,
            begun: false,
            lines: Vec::new(),
            series: BTreeMap::new(),
            shared: HashMap::new(),
            alerts: BTreeMap::new(),
            alert_rows: Vec::new(),
            samples: BTreeMap::new(),
            histograms_left_out: 0,
        })
    }

    /// One evaluation of one rule.
    pub fn take(&mut self, plan: &Plan, e: &Evaluated<'_>, ui: &mut Ui) -> anyhow::Result<()> {
        let samples = e.outcome.unwrap_or(&[]);
        match self.output {
            None => {}
            Some(Output::Table) => self.table(plan, e, samples),
            Some(Output::Json) => {
                let separator = if self.begun { ",\n" } else { "{\"evaluations\":[\n" };
                self.begun = true;
                write!(ui.out(), "{separator}{}", to_json(plan, e))?;
            }
            Some(Output::Csv) => {
                let origin = plan.origin(e.place);
                for s in samples.iter().chain(e.vanished) {
                    write_csv_line(
                        ui.out(),
                        [
                            format_rfc3339_ms(s.t_ms),
                            origin.group.clone(),
                            origin.name.clone(),
                            s.labels.to_string(),
                            value_text(&s.sample),
                        ],
                    )?;
                }
            }
            Some(Output::Prom) => {
                let mut text = Vec::new();
                for s in samples.iter().chain(e.vanished) {
                    text.extend_from_slice(s.labels.to_string().as_bytes());
                    text.push(b' ');
                    write_sample(&mut text, &s.sample);
                    text.extend_from_slice(format!(" {}\n", s.t_ms).as_bytes());
                }
                ui.out().write_all(&text)?;
            }
            Some(Output::Openmetrics) => {
                for s in samples {
                    match s.sample {
                        Sample::Float(v) => {
                            self.samples.entry(Labels::clone(&s.labels)).or_default().push((s.t_ms, v))
                        }
                        Sample::Histogram(_) => self.histograms_left_out += 1,
                    }
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, plan: &Plan, e: &Evaluated<'_>, samples: &[EvalSample]) {
        let origin = plan.origin(e.place);
        if origin.is_alert {
            if plan.once.is_some() {
                for alert in e.alerts.into_iter().flat_map(|a| a.active()) {
                    let first = plan.groups[e.place.group].slots.get(0).map_or(i64::MIN, |s| s.ts_ms);
                    self.alert_rows.push(alert_row(alert, e.slot.ts_ms, first));
                }
                return;
            }
            for s in samples.iter().filter(|s| s.labels.get(METRIC_NAME) == ALERTS) {
                let mut labels = Labels::clone(&s.labels);
                let firing = labels.get(ALERT_STATE) == AlertState::Firing.as_str();
                labels.remove(ALERT_STATE);
                labels.remove(METRIC_NAME);
                let line = self.alerts.entry((e.place, labels)).or_default();
                if firing {
                    line.firing += 1;
                    line.first_firing = line.first_firing.or(Some(s.t_ms));
                } else {
                    line.pending += 1;
                }
            }
            if plan.groups[e.place.group].slots.last() == Some(e.slot) {
                for alert in e.alerts.into_iter().flat_map(|a| a.active()) {
                    if let Some(line) = self.alerts.get_mut(&(e.place, alert.labels.clone())) {
                        line.state = Some(alert.state);
                    }
                }
            }
            return;
        }
        for s in samples {
            let number = self.line(e.place, s);
            let line = &mut self.lines[number];
            line.samples += 1;
            line.last = s.t_ms;
            line.value.clone_from(&s.sample);
        }
    }

    /// The line of a sample's series.
    fn line(&mut self, place: RulePlace, s: &EvalSample) -> usize {
        if let Some((_, number)) = self.shared.get(&address(&s.labels))
            && self.lines[*number].place == place
        {
            return *number;
        }
        let number = *self.series.entry((place, Arc::clone(&s.labels))).or_insert_with(|| {
            let (first, value) = (s.t_ms, s.sample.clone());
            self.lines.push(Line { place, samples: 0, first, last: first, value });
            self.lines.len() - 1
        });
        if self.shared.len() >= SHARED {
            self.shared.clear();
        }
        self.shared.insert(address(&s.labels), (Arc::clone(&s.labels), number));
        number
    }

    /// What is shown at the end.
    pub fn finish(self, plan: &Plan, ui: &mut Ui) -> anyhow::Result<()> {
        match self.output {
            Some(Output::Json) => {
                let begin = if self.begun { "" } else { "{\"evaluations\":[" };
                writeln!(ui.out(), "{begin}\n]}}")?;
            }
            Some(Output::Openmetrics) => {
                let mut name = String::new();
                for (labels, samples) in &self.samples {
                    if labels.get(METRIC_NAME) != name {
                        name = labels.get(METRIC_NAME).to_string();
                        writeln!(ui.out(), "# TYPE {} unknown", openmetrics_name(&name))?;
                    }
                    let series = openmetrics_series(labels);
                    for (t, v) in samples {
                        let value =
                            if v.is_nan() { "NaN".to_string() } else { sample_text(&Sample::Float(*v)) };
                        let (s, ms) = (t.div_euclid(1000), t.rem_euclid(1000));
                        writeln!(ui.out(), "{series} {value} {s}.{ms:03}")?;
                    }
                }
                writeln!(ui.out(), "# EOF")?;
                if self.histograms_left_out > 0 {
                    ui.warn(format!(
                        "{} histograms are left out, which OpenMetrics text cannot hold; -o prom shows them",
                        self.histograms_left_out
                    ));
                }
            }
            Some(Output::Table) => self.finish_table(plan, ui)?,
            _ => {}
        }
        Ok(())
    }

    fn finish_table(self, plan: &Plan, ui: &mut Ui) -> anyhow::Result<()> {
        let has = |alert: bool| plan.origins.iter().flatten().any(|o| o.is_alert == alert);
        if has(false) {
            let rows = self.series.iter().map(|((_, labels), number)| {
                let line = &self.lines[*number];
                let group = plan.origin(line.place).group.clone();
                let mut row = vec![group, labels.selector_text(), cell_text(&line.value)];
                if plan.once.is_none() {
                    row.push(line.samples.to_string());
                    row.push(format_rfc3339_ms(line.first));
                    row.push(format_rfc3339_ms(line.last));
                }
                row
            });
            let head: &[&str] = match plan.once {
                Some(_) => &["group", "series", "value"],
                None => &["group", "series", "last value", "samples", "first", "last"],
            };
            if rows.len() == 0 {
                writeln!(ui.out(), "no values")?;
            } else {
                write_table(ui.out(), head, rows, &[2, 3])?;
            }
        }
        if has(true) && has(false) {
            writeln!(ui.out())?;
        }
        if has(true) && self.alert_rows.is_empty() && self.alerts.is_empty() {
            writeln!(ui.out(), "no alerts")?;
        } else if has(true) && plan.once.is_some() {
            let head = ["alert", "state", "since", "labels", "value", "annotations"];
            write_table(ui.out(), &head, self.alert_rows, &[4])?;
        } else if has(true) {
            let rows = self.alerts.iter().map(|((place, labels), line)| {
                let mut labels = labels.clone();
                labels.remove("alertname");
                vec![
                    plan.origin(*place).name.clone(),
                    labels.to_string(),
                    line.pending.to_string(),
                    line.firing.to_string(),
                    line.first_firing.map_or("-".to_string(), format_rfc3339_ms),
                    line.state.map_or("inactive", AlertState::as_str).to_string(),
                ]
            });
            let head = ["alert", "labels", "pending", "firing", "first firing", "at the end"];
            write_table(ui.out(), &head, rows, &[2, 3])?;
        }
        Ok(())
    }
}

/// A metric's name, quoted where it has to be.
fn openmetrics_name(name: &str) -> String {
    if is_legacy_metric_name(name) { name.to_string() } else { format!("\"{}\"", escaped(name)) }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A series as OpenMetrics has it: nothing between its labels but commas, a strange name within the braces.
fn openmetrics_series(labels: &Labels) -> String {
    let name = labels.get(METRIC_NAME);
    let outside = is_legacy_metric_name(name);
    let quoted = (!outside).then(|| openmetrics_name(name));
    let pairs = labels.iter().filter(|l| l.name != METRIC_NAME).map(|l| {
        let name =
            if is_legacy_label_name(&l.name) { l.name.clone() } else { format!("\"{}\"", escaped(&l.name)) };
        format!("{name}=\"{}\"", escaped(&l.value))
    });
    let inside: Vec<String> = quoted.into_iter().chain(pairs).collect();
    let name = if outside { name } else { "" };
    if inside.is_empty() { name.to_string() } else { format!("{name}{{{}}}", inside.join(",")) }
}

pub(super) fn value_text(sample: &Sample) -> String {
    match sample {
        Sample::Float(v) if is_stale(*v) => "stale".to_string(),
        sample => sample_text(sample),
    }
}

/// A value in a table: of a histogram's many buckets the number.
fn cell_text(sample: &Sample) -> String {
    let text = value_text(sample);
    let parts: Vec<&str> = text.trim_end_matches('}').split(", ").collect();
    match (sample, parts.as_slice()) {
        (Sample::Histogram(_), [count, sum, buckets @ ..]) if buckets.len() > 2 => {
            format!("{count}, {sum}, {} buckets}}", buckets.len())
        }
        _ => text,
    }
}

/// `first` is the first slot: what is active since then may be so for longer.
fn alert_row(alert: &Alert, ts_ms: i64, first: i64) -> Vec<String> {
    let mut labels = alert.labels.clone();
    let name = labels.get("alertname").to_string();
    labels.remove("alertname");
    let since = alert.fired_at_ms.unwrap_or(alert.active_at_ms);
    let annotations: Vec<String> = alert.annotations.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    vec![
        name,
        alert.state.as_str().to_string(),
        format!(
            "{}{}",
            if alert.active_at_ms <= first && first < ts_ms { "≥ " } else { "" },
            format_duration_ms(ts_ms - since)
        ),
        labels.to_string(),
        cell_text(&alert.value),
        annotations.join(", "),
    ]
}

fn to_json(plan: &Plan, e: &Evaluated<'_>) -> Value {
    let origin = plan.origin(e.place);
    let labels = |l: &Labels| -> Value {
        Value::Object(l.iter().map(|l| (l.name.clone(), Value::String(l.value.clone()))).collect())
    };
    let mut out = json!({
        "file": origin.source.name,
        "group": origin.group,
        "rule": origin.name,
        "type": if origin.is_alert { "alerting" } else { "recording" },
        "time": format_rfc3339_ms(e.slot.ts_ms),
    });
    match e.outcome {
        Err(error) => out["error"] = Value::String(error.to_string()),
        Ok(samples) => {
            let sample = |s: &EvalSample| json!({"metric": labels(&s.labels), "t_ms": s.t_ms, "value": value_text(&s.sample)});
            out["samples"] = samples.iter().map(sample).collect();
            if !e.vanished.is_empty() {
                out["vanished"] = e.vanished.iter().map(|s| labels(&s.labels)).collect();
            }
        }
    }
    if let Some(alerts) = e.alerts {
        let alert = |a: &Alert| {
            json!({
                "labels": labels(&a.labels),
                "annotations": a.annotations,
                "state": a.state.as_str(),
                "activeAt": format_rfc3339_ms(a.active_at_ms),
                "firedAt": a.fired_at_ms.map(format_rfc3339_ms),
                "value": value_text(&a.value),
            })
        };
        out["alerts"] = alerts.active().map(alert).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_model::FloatHistogram;
    use tsdbctl_model::histogram::BucketSpan;

    use super::*;

    #[test]
    fn a_table_has_no_room_for_many_buckets() {
        let histogram = |buckets: u32| {
            Sample::Histogram(Arc::new(FloatHistogram {
                count: f64::from(buckets),
                sum: 3.5,
                positive_spans: vec![BucketSpan { offset: 0, length: buckets }],
                positive_buckets: vec![1.0; buckets as usize],
                ..FloatHistogram::default()
            }))
        };
        assert_eq!(cell_text(&Sample::Float(1.5)), "1.5");
        assert_eq!(cell_text(&histogram(2)), "{count:2, sum:3.5, (0.5,1]:1, (1,2]:1}");
        assert_eq!(cell_text(&histogram(3)), "{count:3, sum:3.5, 3 buckets}");
    }
}
