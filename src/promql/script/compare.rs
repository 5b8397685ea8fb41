//! Comparing answers with expectations.

use std::sync::Arc;

use tsdbctl_model::histogram::{custom_bounds_match, spans_match};
use tsdbctl_model::labels::{METRIC_NAME, is_legacy_metric_name};
use tsdbctl_model::sample::is_stale;
use tsdbctl_model::{FloatHistogram, Labels};

use super::expect::Expectation;
use crate::engine::result::{Points, QueryResult, Sample, Value};

/// Relative difference that counts as equal.
pub const TOLERANCE: f64 = 1e-6;

/// A difference between expectation and answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What was expected.
    pub expected: String,
    /// What there was.
    pub got: String,
}

impl Difference {
    /// A difference.
    pub fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { expected: expected.into(), got: got.into() }
    }
}

/// Whether two floats are equal within the tolerance; stale markers equal each other alone, other NaN too.
pub fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn histograms_equal(expected: &FloatHistogram, got: &FloatHistogram, compare_hint: bool) -> bool {
    let (mut e, mut g) = (expected.clone(), got.clone());
    e.compact(0);
    g.compact(0);
    let floats =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b));
    e.schema == g.schema
        && almost_equal(e.count, g.count)
        && almost_equal(e.sum, g.sum)
        && (!e.uses_custom_buckets() || custom_bounds_match(e.custom_bounds(), g.custom_bounds()))
        && e.zero_threshold == g.zero_threshold
        && almost_equal(e.zero_count, g.zero_count)
        && spans_match(&e.negative_spans, &g.negative_spans)
        && floats(&e.negative_buckets, &g.negative_buckets)
        && spans_match(&e.positive_spans, &g.positive_spans)
        && floats(&e.positive_buckets, &g.positive_buckets)
        && (!compare_hint || e.counter_reset_hint == g.counter_reset_hint)
}

/// A series of an answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerSeries {
    /// Its labels.
    pub labels: Labels,
    /// Floats by time.
    pub floats: Vec<(i64, f64)>,
    /// Histograms by time.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// A series as scripts write it: the name in front where it needs no quotes.
fn series_text(labels: &Labels) -> String {
    let name = labels.get(METRIC_NAME);
    if !is_legacy_metric_name(name) {
        return labels.to_string();
    }
    let mut others = labels.clone();
    others.remove(METRIC_NAME);
    if others.is_empty() { name.to_string() } else { format!("{name}{others}") }
}

impl AnswerSeries {
    fn describe(&self) -> String {
        let mut samples: Vec<(i64, String)> = self.floats.iter().map(|(t, v)| (*t, v.to_string())).collect();
        samples.extend(self.histograms.iter().map(|(t, h)| (*t, h.test_expression())));
        samples.sort_by_key(|(t, _)| *t);
        let samples: Vec<String> = samples.into_iter().map(|(t, v)| format!("{v} @[{t}]")).collect();
        format!("{} {}", series_text(&self.labels), samples.join(" "))
    }
}

/// An answer with its labels spelled out.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A number.
    Scalar(f64),
    /// A text.
    String(String),
    /// One sample per series, in the answer's order.
    Vector(Vec<AnswerSeries>),
    /// Several samples per series.
    Matrix(Vec<AnswerSeries>),
}

impl Answer {
    /// The answer of a query.
    pub fn of(result: &QueryResult) -> Self {
        match &result.value {
            Value::Scalar { v, .. } => Self::Scalar(*v),
            Value::String { v, .. } => Self::String(v.clone()),
            Value::Vector(elements) => Self::Vector(
                elements
                    .iter()
                    .map(|e| {
                        let mut s =
                            AnswerSeries { labels: result.labels(&e.labels), ..AnswerSeries::default() };
                        match &e.sample {
                            Sample::Float(v) => s.floats.push((e.t, *v)),
                            Sample::Histogram(h) => s.histograms.push((e.t, Arc::clone(h))),
                        }
                        s
                    })
                    .collect(),
            ),
            Value::Matrix { grid, series } => Self::Matrix(
                series
                    .iter()
                    .map(|m| {
                        let mut s =
                            AnswerSeries { labels: result.labels(&m.labels), ..AnswerSeries::default() };
                        match &m.points {
                            Points::Grid(column) => {
                                s.floats
                                    .extend(column.float_steps().map(|k| (grid.time(k), column.values[k])));
                                s.histograms.extend(
                                    column
                                        .histograms
                                        .iter()
                                        .map(|(k, h)| (grid.time(*k as usize), Arc::clone(h))),
                                );
                            }
                            Points::Raw(columns) => {
                                let f = &columns.floats;
                                s.floats.extend(f.t.iter().copied().zip(f.v.iter().copied()));
                                let h = &columns.histograms;
                                s.histograms.extend(h.t.iter().copied().zip(h.h.iter().map(Arc::clone)));
                            }
                        }
                        s
                    })
                    .collect(),
            ),
        }
    }

    /// The vector or scalar at one time of a range query's answer.
    pub fn at(&self, t: i64, scalar: bool) -> Self {
        let Self::Matrix(series) = self else { return self.clone() };
        let mut vector = Vec::new();
        for s in series {
            let mut one = AnswerSeries { labels: s.labels.clone(), ..AnswerSeries::default() };
            one.floats.extend(s.floats.iter().filter(|(at, _)| *at == t));
            if one.floats.is_empty() {
                one.histograms.extend(s.histograms.iter().filter(|(at, _)| *at == t).cloned());
            }
            if !one.floats.is_empty() || !one.histograms.is_empty() {
                vector.push(one);
            }
        }
        match vector.first().and_then(|s| s.floats.first()) {
            Some((_, v)) if scalar => Self::Scalar(*v),
            _ => Self::Vector(vector),
        }
    }

    /// Whether a matrix is sorted by labels.
    pub fn check_sorted(&self) -> Result<(), Difference> {
        let Self::Matrix(series) = self else { return Ok(()) };
        match series.windows(2).find(|w| w[0].labels > w[1].labels) {
            None => Ok(()),
            Some(w) => Err(Difference::new(
                "series sorted by labels",
                format!("{} before {}", series_text(&w[0].labels), series_text(&w[1].labels)),
            )),
        }
    }

    /// Compares with what is expected. `matrix` gives the times of a matrix' values.
    pub fn compare(&self, expected: &Expectation, matrix: (i64, i64, i64)) -> Result<(), Difference> {
        match self {
            Self::String(got) => {
                let want = expected.string.as_deref().unwrap_or_default();
                if want == got {
                    return Ok(());
                }
                Err(Difference::new(format!("string {want:?}"), format!("string {got:?}")))
            }
            Self::Scalar(got) => match expected.scalar {
                Some(want) if almost_equal(want, *got) => Ok(()),
                Some(want) => Err(Difference::new(format!("scalar {want}"), format!("scalar {got}"))),
                None => Err(Difference::new("a vector or matrix", format!("scalar {got}"))),
            },
            Self::Vector(series) => compare_vector(series, expected),
            Self::Matrix(series) => {
                self.check_sorted()?;
                compare_matrix(series, expected, matrix)
            }
        }
    }
}

fn unexpected(s: &AnswerSeries) -> Difference {
    Difference::new("no such series", s.describe())
}

fn missing<'a>(
    series: &[AnswerSeries],
    expected: &'a Expectation,
) -> impl Iterator<Item = &'a super::expect::ExpectedSeries> {
    expected
        .series
        .iter()
        .filter(|e| !series.iter().any(|s| s.labels == e.labels))
        .collect::<Vec<_>>()
        .into_iter()
}

fn value_text(v: &crate::parser::SequenceValue) -> String {
    match &v.histogram {
        _ if v.omitted => "_".to_string(),
        Some(h) => h.test_expression(),
        None => v.value.to_string(),
    }
}

fn compare_vector(series: &[AnswerSeries], expected: &Expectation) -> Result<(), Difference> {
    if let Some(v) = expected.scalar {
        return Err(Difference::new(format!("scalar {v}"), format!("a vector of {} series", series.len())));
    }
    for (place, s) in series.iter().enumerate() {
        let Some(e) = expected.find(&s.labels) else { return Err(unexpected(s)) };
        if expected.ordered && e.position != place + 1 {
            return Err(Difference::new(
                format!("{} at position {}", series_text(&e.labels), e.position),
                format!("at position {}", place + 1),
            ));
        }
        let Some(want) = e.values.first() else {
            return Err(Difference::new(
                format!("a value behind {}", series_text(&e.labels)),
                "none in the script",
            ));
        };
        let equal = match (&want.histogram, s.histograms.first(), s.floats.first()) {
            (Some(want_h), Some((_, got)), _) => histograms_equal(want_h, got, want.counter_reset_hint_set),
            (None, None, Some((_, got))) => almost_equal(want.value, *got),
            _ => false,
        };
        if !equal {
            return Err(Difference::new(
                format!("{} {}", series_text(&e.labels), value_text(want)),
                s.describe(),
            ));
        }
    }
    match missing(series, expected).next() {
        Some(e) => {
            let values: Vec<String> = e.values.iter().map(value_text).collect();
            Err(Difference::new(format!("{} {}", series_text(&e.labels), values.join(" ")), "no such series"))
        }
        None => Ok(()),
    }
}

fn compare_matrix(
    series: &[AnswerSeries],
    expected: &Expectation,
    (start, end, step): (i64, i64, i64),
) -> Result<(), Difference> {
    if expected.ordered {
        return Err(Difference::new("an ordered result", "a matrix, which is sorted by labels"));
    }
    if let Some(v) = expected.scalar {
        return Err(Difference::new(format!("scalar {v}"), format!("a matrix of {} series", series.len())));
    }
    for s in series {
        let Some(e) = expected.find(&s.labels) else { return Err(unexpected(s)) };
        let differs = || {
            let values: Vec<String> = e
                .values
                .iter()
                .enumerate()
                .filter(|(_, v)| !v.omitted)
                .map(|(i, v)| format!("{} @[{}]", value_text(v), start + step * i as i64))
                .collect();
            Difference::new(format!("{} {}", series_text(&e.labels), values.join(" ")), s.describe())
        };
        let (mut floats, mut histograms) = (s.floats.iter(), s.histograms.iter());
        for (i, want) in e.values.iter().enumerate() {
            let t = start.saturating_add(step.saturating_mul(i as i64));
            if t > end {
                return Err(Difference::new(
                    format!("{} values of {}", e.values.len(), series_text(&e.labels)),
                    "a time range that cannot give so many",
                ));
            }
            let equal = match &want.histogram {
                Some(want_h) => histograms.next().is_some_and(|(at, got)| {
                    *at == t && histograms_equal(want_h, got, want.counter_reset_hint_set)
                }),
                None if want.omitted => true,
                None => floats.next().is_some_and(|(at, got)| *at == t && almost_equal(want.value, *got)),
            };
            if !equal {
                return Err(differs());
            }
        }
        if floats.next().is_some() || histograms.next().is_some() {
            return Err(differs());
        }
    }
    match missing(series, expected).next() {
        Some(e) => Err(Difference::new(series_text(&e.labels), "no such series")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsdbctl_model::sample::stale_nan;

    #[test]
    fn floats_are_compared_with_tolerance() {
        for (a, b, equal) in [
            (1.0, 1.000_001, true),
            (1.0, 1.000_003, false),
            (0.0, 1e-300, false),
            (0.0, -0.0, true),
            (f64::NAN, f64::NAN, true),
            (f64::NAN, stale_nan(), false),
            (stale_nan(), stale_nan(), true),
            (f64::INFINITY, f64::INFINITY, true),
            (f64::INFINITY, f64::MAX, false),
            (f64::MAX, -f64::MAX, false),
        ] {
            assert_eq!(almost_equal(a, b), equal, "{a} {b}");
        }
    }
}
