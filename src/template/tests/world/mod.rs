//! The world in which the test templates render: labels, a value, a few queries.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::{FloatHistogram, Labels};
use tsdbctl_template::{Environment, RuleData, RuleTemplate, TemplateError, TemplateSample, Value};

/// Queries, the time and the URL.
pub struct World;

fn sample(labels: &[(&str, &str)], value: f64) -> TemplateSample {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
    TemplateSample { labels: Arc::new(labels), value: Value::Float(value) }
}

impl Environment for World {
    fn query(&mut self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        Ok(match expr {
            "m" => vec![sample(
                &[("__name__", "m"), ("instance", "web-1.example.com:9100"), ("job", "node"), ("n", "7")],
                1.5,
            )],
            "m2" => vec![
                sample(&[("__name__", "m2"), ("z", "10")], 2.0),
                sample(&[("__name__", "m2"), ("z", "a")], 3.0),
                sample(&[("__name__", "m2"), ("z", "b"), ("__value__", "sv")], 1.0),
            ],
            "m3" => vec![
                sample(&[("__name__", "m3"), ("z", "b")], 1.0),
                sample(&[("__name__", "m3"), ("z", "a")], 3.0),
                sample(&[("__name__", "m3"), ("z", "10")], 2.0),
            ],
            "h" => {
                let mut sample = sample(&[("__name__", "h")], 0.0);
                sample.value = Value::Histogram(Arc::new(FloatHistogram {
                    schema: 1,
                    count: 7.0,
                    sum: 12.5,
                    zero_threshold: 0.001,
                    zero_count: 1.0,
                    positive_spans: vec![
                        BucketSpan { offset: 0, length: 2 },
                        BucketSpan { offset: 1, length: 1 },
                    ],
                    positive_buckets: vec![1.0, 2.0, 3.0],
                    ..FloatHistogram::default()
                }));
                vec![sample]
            }
            "1+1" => vec![sample(&[], 2.0)],
            "nope" => Vec::new(),
            other => return Err(format!("unknown query: {other}")),
        })
    }

    fn now_ms(&self) -> i64 {
        300_000
    }

    fn external_url(&self) -> &str {
        "http://prom.example.com/pre"
    }
}

fn expand(alert: &str, template: &str, value: f64) -> Result<String, TemplateError> {
    let labels = Labels::from_pairs([("instance", "web-1.example.com:9100"), ("job", "node"), ("n", "7")]);
    let external_labels = Labels::from_pairs([("region", "eu")]);
    let data = RuleData {
        labels: &labels,
        external_labels: &external_labels,
        external_url: "http://prom.example.com/pre",
        value: Value::Float(value),
    };
    RuleTemplate::parse(alert, template)?.expand(&data, &mut World)
}

/// What a rule called `alert` with this template and value gives: the text, or the error at load or at run.
pub fn render(alert: &str, template: &str, value: f64) -> Result<String, String> {
    expand(alert, template, value).map_err(|e| e.message)
}

/// The error of a template that has one.
#[allow(dead_code, reason = "not every test needs it")]
pub fn error(alert: &str, template: &str, value: f64) -> TemplateError {
    expand(alert, template, value).expect_err(template)
}
