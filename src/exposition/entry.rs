//! What a parser hands out: views into the body, resolved as far as the reader asks.

use std::borrow::Cow;
use std::ops::Range;

use tsdbctl_model::Labels;
use tsdbctl_model::float_text::parse_float;
use tsdbctl_model::histogram::nhcb::ConvertedHistogram;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::MetricType;

use crate::number::openmetrics_float;

/// One item of a body. It borrows the parser until the next is asked for.
#[derive(Clone, Debug)]
pub enum Entry<'p> {
    /// A metric family's help text.
    Help {
        /// The family's name, as it stands in the body.
        family: &'p str,
        /// The text, escapes resolved.
        text: Cow<'p, str>,
    },
    /// A metric family's type.
    Type {
        /// The family's name, as it stands in the body.
        family: &'p str,
        /// Its type.
        metric_type: MetricType,
    },
    /// A metric family's unit.
    Unit {
        /// The family's name, as it stands in the body.
        family: &'p str,
        /// Its unit.
        unit: &'p str,
    },
    /// A comment with its `#`.
    Comment(&'p [u8]),
    /// A float sample.
    Series(Series<'p>),
    /// A native histogram sample, exposed or converted.
    Histogram(HistogramSeries<'p>),
}

/// A float sample.
#[derive(Clone, Debug)]
pub struct Series<'p> {
    /// Its labels.
    pub labels: SeriesLabels<'p>,
    /// Its value; every NaN is the normal one.
    pub value: f64,
    /// Its timestamp, where one is exposed.
    pub timestamp_ms: Option<i64>,
    /// When counting began, where it is exposed and asked for.
    pub start_timestamp_ms: Option<i64>,
    /// Its exemplars, at most one.
    pub exemplars: Exemplars<'p>,
}

/// A native histogram sample.
#[derive(Clone, Debug)]
pub struct HistogramSeries<'p> {
    /// Its labels.
    pub labels: SeriesLabels<'p>,
    /// The histogram, compacted.
    pub histogram: &'p ConvertedHistogram,
    /// Its timestamp, where one is exposed.
    pub timestamp_ms: Option<i64>,
    /// When counting began, where it is exposed and asked for.
    pub start_timestamp_ms: Option<i64>,
    /// Its exemplars.
    pub exemplars: Exemplars<'p>,
}

/// The labels of one series as the body has them: neither sorted nor checked for duplicates.
#[derive(Clone, Copy, Debug)]
pub struct SeriesLabels<'p>(pub(crate) Source<'p>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'p> {
    Exposed {
        /// The series' bytes in the body; `None` where there is no such run.
        raw: Option<&'p [u8]>,
        name: &'p str,
        suffix: &'static str,
        pairs: &'p [(&'p str, &'p str)],
        /// Whether a backslash may stand for something.
        escaped: bool,
        /// The label whose values are numbers, if the type has one.
        numeric: Option<&'static str>,
        /// `le` or `quantile`, made up from protobuf fields.
        made_up: Option<(&'static str, &'p str)>,
    },
    Built(&'p Labels),
}

/// The label that holds numbers in a metric of this type.
pub(crate) fn numeric_label(metric_type: MetricType) -> Option<&'static str> {
    match metric_type {
        MetricType::Histogram => Some("le"),
        MetricType::Summary => Some("quantile"),
        _ => None,
    }
}

impl<'p> SeriesLabels<'p> {
    /// The series as the body writes it, good as a key of a scrape cache: equal bytes within one format and one
    /// metric type are equal labels. `None` in protobuf and for converted histograms.
    pub fn raw(&self) -> Option<&'p [u8]> {
        match self.0 {
            Source::Exposed { raw, .. } => raw,
            Source::Built(_) => None,
        }
    }

    /// Calls `visit` with every name and value, escapes resolved, numbers in `le` and `quantile` written as
    /// OpenMetrics writes them; the metric's name first.
    pub fn for_each(&self, mut visit: impl FnMut(&str, &str)) {
        match self.0 {
            Source::Built(labels) => labels.iter().for_each(|l| visit(&l.name, &l.value)),
            Source::Exposed { name, suffix, pairs, escaped, numeric, made_up, .. } => {
                if suffix.is_empty() {
                    visit(METRIC_NAME, &resolved(name, escaped));
                } else {
                    visit(METRIC_NAME, &[name, suffix].concat());
                }
                for (name, value) in pairs {
                    let (name, value) = (resolved(name, escaped), resolved(value, escaped));
                    if numeric.is_some_and(|n| n == name)
                        && let Ok(v) = parse_float(&value)
                    {
                        visit(&name, &openmetrics_float(v));
                    } else {
                        visit(&name, &value);
                    }
                }
                if let Some((name, value)) = made_up {
                    visit(name, value);
                }
            }
        }
    }

    /// The labels as a set. Empty values are left out.
    ///
    /// # Errors
    /// The name that occurs twice.
    pub fn to_labels(&self) -> Result<Labels, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        self.for_each(|name, value| pairs.push((name.to_owned(), value.to_owned())));
        // An empty value removes its name, wherever else that stands.
        if pairs.iter().any(|p| p.1.is_empty()) {
            let gone: Vec<String> = pairs.iter().filter(|p| p.1.is_empty()).map(|p| p.0.clone()).collect();
            pairs.retain(|p| !gone.contains(&p.0));
        }
        pairs.sort();
        if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(twice[0].0.clone());
        }
        Ok(Labels::from_pairs(pairs))
    }
}

fn resolved(text: &str, escaped: bool) -> Cow<'_, str> {
    if escaped { unescape(text, true) } else { Cow::Borrowed(text) }
}

/// Resolves `\\`, `\n` and, where `quotes`, `\"`; other backslashes stand for themselves.
pub(crate) fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    let Some(first) = text.find('\\') else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let (c, used) = match rest.as_bytes().get(i + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        out.push(c);
        rest = &rest[i + used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Exemplars found so far, reused from one series to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExemplarStore<'b> {
    pub(crate) pairs: Vec<(&'b str, &'b str)>,
    pub(crate) items: Vec<(Range<usize>, f64, Option<i64>)>,
}

impl<'b> ExemplarStore<'b> {
    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
        self.items.clear();
    }

    /// Ends an exemplar whose labels are the pairs from `first` on.
    pub(crate) fn finish(&mut self, first: usize, value: f64, timestamp_ms: Option<i64>) {
        self.items.push((first..self.pairs.len(), value, timestamp_ms));
    }

    /// Moves all of `other`'s to the end of these.
    pub(crate) fn take_from(&mut self, other: &mut Self) {
        for (range, value, timestamp_ms) in &other.items {
            let first = self.pairs.len();
            self.pairs.extend_from_slice(&other.pairs[range.clone()]);
            self.finish(first, *value, *timestamp_ms);
        }
        other.clear();
    }

    pub(crate) fn view(&self) -> Exemplars<'_> {
        Exemplars { pairs: &self.pairs, items: &self.items }
    }
}

/// The exemplars of one sample.
#[derive(Clone, Copy, Debug)]
pub struct Exemplars<'p> {
    pairs: &'p [(&'p str, &'p str)],
    items: &'p [(Range<usize>, f64, Option<i64>)],
}

/// One exemplar.
#[derive(Clone, Copy, Debug)]
pub struct ExemplarView<'p> {
    /// Names and values as they stand in the body.
    pub labels: &'p [(&'p str, &'p str)],
    /// The observed value.
    pub value: f64,
    /// When it was observed, where that is exposed.
    pub timestamp_ms: Option<i64>,
}

impl<'p> Exemplars<'p> {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = ExemplarView<'p>> {
        self.items.iter().map(move |(range, value, timestamp_ms)| ExemplarView {
            labels: &self.pairs[range.clone()],
            value: *value,
            timestamp_ms: *timestamp_ms,
        })
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_resolve_from_left_to_right() {
        let cases =
            [("plain", "plain"), (r"a\\nb", "a\\nb"), (r"a\nb", "a\nb"), (r#"\""#, "\""), (r"\t\", r"\t\")];
        for (text, want) in cases {
            assert_eq!(unescape(text, true), want);
        }
        assert_eq!(unescape(r#"\"\n"#, false), "\\\"\n");
    }

    #[test]
    fn duplicate_names_are_found_and_empty_values_vanish() {
        let labels = |pairs| {
            SeriesLabels(Source::Exposed {
                raw: None,
                name: "a",
                suffix: "",
                pairs,
                escaped: false,
                numeric: Some("le"),
                made_up: None,
            })
            .to_labels()
            .map(|l| l.to_string())
        };
        assert_eq!(labels(&[("x", "1"), ("x", "2")]), Err("x".to_owned()));
        assert_eq!(labels(&[("__name__", "b")]), Err("__name__".to_owned()));
        assert_eq!(labels(&[("x", ""), ("le", "1e1")]), Ok(r#"{__name__="a", le="10.0"}"#.to_owned()));
    }
}
