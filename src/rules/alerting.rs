//! The life of alerts: one pure step of one alerting rule, from its alerts and a result to its alerts and samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_model::Labels;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_promql::engine::Sample;
use tsdbctl_template::{Environment, RuleData, RuleTemplate, TemplateError, TemplateSample, Value};

use crate::error::RuleError;
use crate::file::{GroupSpec, NamedTemplate, RuleSpec};
use crate::query::{Element, RuleExpr, RuleQuery};
use crate::recording::RuleSample;

/// Metric of the alerts that are pending or firing.
pub const ALERTS: &str = "ALERTS";
/// Metric that tells since when an alert is active, for the next start.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
/// Label that names the alert.
pub const ALERT_NAME: &str = "alertname";
/// Label of [`ALERTS`] that tells where the alert is.
pub const ALERT_STATE: &str = "alertstate";

/// How long a resolved alert is kept, so that it is sent again.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60 * 1000;

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

impl AlertState {
    /// Upstream's word, the value of `alertstate`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
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

/// An alerting rule, its templates parsed.
#[derive(Clone, Debug)]
pub struct AlertRule {
    /// Its name, the value of `alertname`.
    pub name: String,
    /// Its expression.
    pub expr: RuleExpr,
    /// `for`, ms.
    pub for_ms: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for_ms: i64,
    /// Labels of group and rule, by name.
    pub labels: Vec<NamedTemplate>,
    /// Annotations, by name.
    pub annotations: Vec<NamedTemplate>,
    /// The labels as they are written, which lie below an alert's own in `ALERTS`.
    raw_labels: Labels,
}

impl AlertRule {
    /// The rule of a file, its group's labels merged in.
    ///
    /// # Errors
    /// If a template cannot be parsed.
    pub fn from_spec(group: &GroupSpec, rule: &RuleSpec) -> Result<Self, TemplateError> {
        let name = rule.name.value.clone();
        let parse = |label: String, text: &str| {
            let template = RuleTemplate::parse(&name, text)?;
            Ok::<_, TemplateError>(NamedTemplate { name: label, template })
        };
        let merged = group.merged_labels(rule);
        let raw_labels = Labels::from_pairs(merged.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let labels = merged.into_iter().map(|(n, v)| parse(n, &v)).collect::<Result<Vec<_>, _>>()?;
        let annotations: BTreeMap<&str, &str> =
            rule.annotations.iter().map(|(n, v)| (n.value.as_str(), v.value.as_str())).collect();
        let annotations =
            annotations.into_iter().map(|(n, v)| parse(n.to_string(), v)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            expr: rule.expr.clone(),
            for_ms: rule.for_ms,
            keep_firing_for_ms: rule.keep_firing_for_ms,
            labels,
            annotations,
            raw_labels,
            name,
        })
    }

    /// The labels as they are written, without empty ones.
    pub fn raw_labels(&self) -> &Labels {
        &self.raw_labels
    }

    /// `ALERTS` or `ALERTS_FOR_STATE` of an alert. A label whose template gave nothing stands there as its template:
    /// upstream's habit, kept so that what is on disk is the same.
    fn series(&self, metric: &str, alert: &Alert) -> Labels {
        let mut labels = self.raw_labels.clone();
        for label in &alert.labels {
            labels.set(label.name.as_str(), label.value.as_str());
        }
        labels.set(METRIC_NAME, metric);
        labels.set(ALERT_NAME, self.name.as_str());
        labels
    }

    /// The series of `ALERTS` of an alert as it is now.
    pub fn alerts_series(&self, alert: &Alert) -> Labels {
        let mut labels = self.series(ALERTS, alert);
        labels.set(ALERT_STATE, alert.state.as_str());
        labels
    }

    /// The series of `ALERTS_FOR_STATE` of an alert.
    pub fn for_state_series(&self, alert: &Alert) -> Labels {
        self.series(ALERTS_FOR_STATE, alert)
    }
}

/// The alerts of one rule between its evaluations.
#[derive(Clone, Debug)]
pub struct ActiveAlerts {
    /// By their labels; resolved ones too.
    pub alerts: BTreeMap<Labels, Alert>,
    /// Samples of alerts are written: false from the start until the state of before was looked up.
    pub restored: bool,
}

impl Default for ActiveAlerts {
    fn default() -> Self {
        Self::new(true)
    }
}

impl ActiveAlerts {
    /// No alerts.
    pub fn new(restored: bool) -> Self {
        Self { alerts: BTreeMap::new(), restored }
    }

    /// Pending and firing alerts in label order.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|a| a.resolved_at_ms.is_none())
    }

    /// The state furthest on, as the API shows it of the rule.
    pub fn state(&self) -> AlertState {
        self.alerts.values().map(|a| a.state).max().unwrap_or(AlertState::Inactive)
    }
}

/// What templates know of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// External labels.
    pub external_labels: Labels,
    /// External URL, without a slash at its end; empty for none.
    pub external_url: String,
}

/// When and how a rule is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The slot, Unix ms: what the life of alerts and templates go by.
    pub ts_ms: i64,
    /// How far behind the slot expressions look and samples are written, ms.
    pub query_offset_ms: i64,
    /// Most series or alerts; 0 or less for none.
    pub limit: i64,
    /// What templates know of the server.
    pub surroundings: &'a Surroundings,
}

impl At<'_> {
    /// The time of samples and of the expression, Unix ms.
    pub fn sample_ms(&self) -> i64 {
        self.ts_ms.saturating_sub(self.query_offset_ms)
    }
}

/// A template that did not render; its label or annotation holds upstream's text instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpansionFailure {
    /// Whether it is an annotation; a label else.
    pub annotation: bool,
    /// Name of the label or annotation.
    pub name: String,
    /// Labels of the element.
    pub element: Labels,
    /// Why.
    pub error: TemplateError,
}

/// What a step gives.
#[derive(Clone, Debug, Default)]
pub struct StepOutput {
    /// What is to be written, at [`At::sample_ms`].
    pub samples: Vec<RuleSample>,
    /// Templates that failed.
    pub failures: Vec<ExpansionFailure>,
}

/// An alert that a result asks for.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its value.
    pub value: Sample,
}

/// What a template may ask, answered at the slot itself.
struct TemplateWorld<'a> {
    query: &'a mut dyn RuleQuery,
    ts_ms: i64,
    external_url: &'a str,
}

impl Environment for TemplateWorld<'_> {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        let elements = self.query.instant_text(expr, self.ts_ms).map_err(|e| e.to_string())?;
        Ok(elements.into_iter().map(template_sample).collect())
    }

    fn now_ms(&self) -> i64 {
        self.ts_ms
    }

    fn external_url(&self) -> &str {
        self.external_url
    }
}

fn template_sample(element: Element) -> TemplateSample {
    let labels = element.labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect();
    TemplateSample { labels: Arc::new(labels), value: template_value(&element.sample) }
}

fn template_value(sample: &Sample) -> Value {
    match sample {
        Sample::Float(v) => Value::Float(*v),
        Sample::Histogram(h) => Value::Histogram(Arc::clone(h)),
    }
}

/// Evaluates a rule: asks its expression and takes a step.
///
/// # Errors
/// If the query fails, labels collide, or there are too many alerts.
pub fn evaluate(
    rule: &AlertRule,
    active: &mut ActiveAlerts,
    at: &At<'_>,
    query: &mut dyn RuleQuery,
) -> Result<StepOutput, RuleError> {
    let result = query.instant(&rule.expr, at.sample_ms())?;
    step(rule, active, result, at, query)
}

/// One step: what the result of the expression makes of the alerts. `query` answers templates.
///
/// # Errors
/// [`RuleError::SameAlertLabels`], which leaves the alerts alone, or [`RuleError::AlertLimit`], which drops them all.
pub fn step(
    rule: &AlertRule,
    active: &mut ActiveAlerts,
    result: Vec<Element>,
    at: &At<'_>,
    query: &mut dyn RuleQuery,
) -> Result<StepOutput, RuleError> {
    let mut failures = Vec::new();
    let seen = expand(rule, result, at, query, &mut failures)?;
    let samples = advance(rule, active, seen, at)?;
    Ok(StepOutput { samples, failures })
}

/// The alerts that a result asks for: labels and annotations rendered.
///
/// # Errors
/// [`RuleError::SameAlertLabels`].
pub fn expand(
    rule: &AlertRule,
    result: Vec<Element>,
    at: &At<'_>,
    query: &mut dyn RuleQuery,
    failures: &mut Vec<ExpansionFailure>,
) -> Result<BTreeMap<Labels, Seen>, RuleError> {
    let surroundings = at.surroundings;
    let mut world =
        TemplateWorld { query, ts_ms: at.ts_ms, external_url: surroundings.external_url.as_str() };
    let mut seen = BTreeMap::new();
    for Element { labels: element, sample } in result {
        let data = RuleData {
            labels: &element,
            external_labels: &surroundings.external_labels,
            external_url: &surroundings.external_url,
            value: template_value(&sample),
        };
        let mut render = |annotation: bool, named: &NamedTemplate| {
            if named.template.is_plain() {
                return named.template.text.clone();
            }
            named.template.expand(&data, &mut world).unwrap_or_else(|error| {
                let text = format!("<error expanding template: {error}>");
                let (name, element) = (named.name.clone(), element.clone());
                failures.push(ExpansionFailure { annotation, name, element, error });
                text
            })
        };
        let mut labels = element.clone();
        labels.remove(METRIC_NAME);
        for named in &rule.labels {
            labels.set(named.name.as_str(), render(false, named));
        }
        labels.set(ALERT_NAME, rule.name.as_str());
        let annotations = rule.annotations.iter().map(|n| (n.name.clone(), render(true, n))).collect();
        if seen.insert(labels, Seen { annotations, value: sample }).is_some() {
            return Err(RuleError::SameAlertLabels);
        }
    }
    Ok(seen)
}

/// Moves the alerts of a rule on to a slot at which `seen` are in the result; gives the samples to write.
///
/// # Errors
/// [`RuleError::AlertLimit`], which drops all alerts.
pub fn advance(
    rule: &AlertRule,
    active: &mut ActiveAlerts,
    mut seen: BTreeMap<Labels, Seen>,
    at: &At<'_>,
) -> Result<Vec<RuleSample>, RuleError> {
    let ts_ms = at.ts_ms;
    let mut alerts = 0_usize;
    let mut samples = Vec::new();
    let restored = active.restored;
    let mut present = |alert: &mut Alert| {
        alerts += 1;
        hold(alert, rule.for_ms, ts_ms);
        if restored {
            let t_ms = at.sample_ms();
            let sample = Sample::Float(1.0);
            samples.push(RuleSample { labels: rule.alerts_series(alert), t_ms, sample });
            let sample = Sample::Float(alert.active_at_ms.div_euclid(1000) as f64);
            samples.push(RuleSample { labels: rule.for_state_series(alert), t_ms, sample });
        }
    };
    active.alerts.retain(|labels, alert| {
        if let Some(now) = seen.remove(labels) {
            if alert.state == AlertState::Inactive {
                *alert = new_alert(labels.clone(), now, ts_ms);
            } else {
                alert.value = now.value;
                alert.annotations = now.annotations;
            }
            alert.keep_firing_since_ms = None;
            present(alert);
            return true;
        }
        if alert.state == AlertState::Firing && rule.keep_firing_for_ms > 0 {
            let since = *alert.keep_firing_since_ms.get_or_insert(ts_ms);
            if ts_ms - since < rule.keep_firing_for_ms {
                present(alert);
                return true;
            }
        }
        match alert.state {
            AlertState::Pending => false,
            AlertState::Firing => {
                alert.state = AlertState::Inactive;
                alert.resolved_at_ms = Some(ts_ms);
                true
            }
            AlertState::Inactive => {
                alert.resolved_at_ms.is_none_or(|resolved| ts_ms - resolved <= RESOLVED_RETENTION_MS)
            }
        }
    });
    for (labels, now) in seen {
        let mut alert = new_alert(labels.clone(), now, ts_ms);
        present(&mut alert);
        active.alerts.insert(labels, alert);
    }
    match usize::try_from(at.limit) {
        Ok(limit) if limit > 0 && alerts > limit => {
            active.alerts.clear();
            Err(RuleError::AlertLimit { limit, alerts })
        }
        _ => Ok(samples),
    }
}

fn new_alert(labels: Labels, seen: Seen, ts_ms: i64) -> Alert {
    Alert {
        state: AlertState::Pending,
        labels,
        annotations: seen.annotations,
        value: seen.value,
        active_at_ms: ts_ms,
        fired_at_ms: None,
        resolved_at_ms: None,
        last_sent_at_ms: None,
        valid_until_ms: None,
        keep_firing_since_ms: None,
    }
}

/// Fires what was active for long enough; takes back what is not, as after a longer `for` was loaded.
fn hold(alert: &mut Alert, for_ms: i64, ts_ms: i64) {
    let held_ms = ts_ms - alert.active_at_ms;
    if alert.state == AlertState::Pending && held_ms >= for_ms {
        alert.state = AlertState::Firing;
        alert.fired_at_ms = Some(ts_ms);
    }
    if alert.state == AlertState::Firing && held_ms < for_ms {
        alert.state = AlertState::Pending;
        alert.fired_at_ms = None;
        alert.last_sent_at_ms = None;
        alert.keep_firing_since_ms = None;
    }
}
