//! Warnings and infos that travel with a query's answer: kinds, texts and merging as upstream's
//! `util/annotations`.

use std::collections::BTreeMap;

use tsdbctl_model::Span;
use tsdbctl_model::float_text::{format_g, format_g_precision, go_quote};

/// How grave an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Part of the answer may be wrong or missing.
    Warning,
    /// Something may be unintended.
    Info,
}

/// What is merged when two annotations have the same text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detail {
    /// Nothing.
    None,
    /// `histogram_quantile` had to repair buckets.
    Monotonicity {
        /// Earliest evaluation time, Unix ms.
        min_ts: i64,
        /// Latest evaluation time, Unix ms.
        max_ts: i64,
        /// Lowest bucket bound repaired.
        min_bucket: f64,
        /// Highest bucket bound repaired.
        max_bucket: f64,
        /// Largest repair.
        max_diff: f64,
        /// Upstream's count (see `Detail::merged`), one less than what is shown.
        count: i64,
    },
    /// Start timestamps overlap earlier samples.
    StartOverlap {
        /// Occurrences.
        count: i64,
    },
}

impl Detail {
    /// `newer` merged into `self`; both must be of one kind. Counts wrap as upstream's.
    fn merged(self, newer: Self) -> Self {
        match (self, newer) {
            (
                Self::Monotonicity { min_ts, max_ts, min_bucket, max_bucket, max_diff, count },
                Self::Monotonicity {
                    min_ts: t0,
                    max_ts: t1,
                    min_bucket: b0,
                    max_bucket: b1,
                    max_diff: d,
                    count: n,
                },
            ) => Self::Monotonicity {
                min_ts: min_ts.min(t0),
                max_ts: max_ts.max(t1),
                min_bucket: if b0 < min_bucket { b0 } else { min_bucket },
                max_bucket: if b1 > max_bucket { b1 } else { max_bucket },
                max_diff: if d > max_diff { d } else { max_diff },
                count: count.wrapping_add(n.wrapping_add(1)),
            },
            (Self::StartOverlap { count }, Self::StartOverlap { count: n }) => {
                Self::StartOverlap { count: count.wrapping_add(n) }
            }
            (_, newer) => newer,
        }
    }
}

/// One warning or info.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Warning or info.
    pub level: Level,
    /// Upstream's text, without position; equal texts are one annotation.
    pub text: String,
    /// The part of the expression it is about.
    pub span: Span,
    /// What is merged.
    pub detail: Detail,
}

/// Which operation combined histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramOperation {
    /// `+`
    Addition,
    /// `-`
    Subtraction,
    /// `sum`, `avg` and the functions over time.
    Aggregation,
}

impl HistogramOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

fn with_metric_name(text: String, metric_name: &str) -> String {
    if metric_name.is_empty() { text } else { format!("{text} for metric name {}", go_quote(metric_name)) }
}

impl Annotation {
    /// A warning; `text` goes behind `PromQL warning: `.
    pub fn warning(text: impl AsRef<str>, span: Span) -> Self {
        Self {
            level: Level::Warning,
            text: format!("PromQL warning: {}", text.as_ref()),
            span,
            detail: Detail::None,
        }
    }

    /// An info; `text` goes behind `PromQL info: `.
    pub fn info(text: impl AsRef<str>, span: Span) -> Self {
        Self {
            level: Level::Info,
            text: format!("PromQL info: {}", text.as_ref()),
            span,
            detail: Detail::None,
        }
    }

    /// A quantile outside 0 to 1, or NaN.
    pub fn invalid_quantile(q: f64, span: Span) -> Self {
        Self::warning(format!("quantile value should be between 0 and 1, got {}", format_g(q)), span)
    }

    /// A ratio outside −1 to 1, or NaN.
    pub fn invalid_ratio(q: f64, to: f64, span: Span) -> Self {
        Self::warning(
            format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                format_g(q),
                format_g(to)
            ),
            span,
        )
    }

    /// A classic bucket whose `le` is missing or no number.
    pub fn bad_bucket_label(metric_name: &str, label: &str, span: Span) -> Self {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", go_quote(label));
        Self::warning(with_metric_name(text, metric_name), span)
    }

    /// Floats and histograms in one series, for a function that cannot take both.
    pub fn mixed_floats_histograms(metric_name: &str, span: Span) -> Self {
        let name = go_quote(metric_name);
        Self::warning(format!("encountered a mix of histograms and floats for metric name {name}"), span)
    }

    /// Floats and histograms in one aggregation group.
    pub fn mixed_floats_histograms_aggregation(span: Span) -> Self {
        Self::warning("encountered a mix of histograms and floats for aggregation", span)
    }

    /// Classic and native histograms under the same labels.
    pub fn mixed_classic_native_histograms(metric_name: &str, span: Span) -> Self {
        let text = "vector contains a mix of classic and native histograms".to_string();
        Self::warning(with_metric_name(text, metric_name), span)
    }

    /// A counter function over gauge histograms.
    pub fn native_histogram_not_counter(metric_name: &str, span: Span) -> Self {
        Self::warning(
            format!("this native histogram metric is not a counter: {}", go_quote(metric_name)),
            span,
        )
    }

    /// A gauge function over counter histograms.
    pub fn native_histogram_not_gauge(metric_name: &str, span: Span) -> Self {
        Self::warning(format!("this native histogram metric is not a gauge: {}", go_quote(metric_name)), span)
    }

    /// Exponential and custom buckets met.
    pub fn mixed_exponential_custom_histograms(metric_name: &str, span: Span) -> Self {
        let name = go_quote(metric_name);
        Self::warning(
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name}"
            ),
            span,
        )
    }

    /// Histograms that a binary operator cannot combine.
    pub fn incompatible_bucket_layout(operator: &str, span: Span) -> Self {
        Self::warning(format!("incompatible bucket layout encountered for binary operator {operator}"), span)
    }

    /// `sort` in a range query.
    pub fn sort_in_range_query(span: Span) -> Self {
        Self::warning(
            "sort is ineffective for range queries since results are always ordered by labels",
            span,
        )
    }

    /// `rate` and kin over something not named like a counter.
    pub fn possible_non_counter(metric_name: &str, span: Span) -> Self {
        let name = go_quote(metric_name);
        Self::info(
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name}"),
            span,
        )
    }

    /// `rate` and kin over something whose `__type__` is no counter.
    pub fn possible_non_counter_label(metric_name: &str, type_label: &str, span: Span) -> Self {
        Self::info(
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
                go_quote(type_label),
                go_quote(metric_name)
            ),
            span,
        )
    }

    /// Classic buckets that were not monotonic.
    pub fn forced_monotonicity(
        metric_name: &str,
        span: Span,
        ts: i64,
        min_bucket: f64,
        max_bucket: f64,
        max_diff: f64,
    ) -> Self {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)".to_string();
        let mut it = Self::info(with_metric_name(text, metric_name), span);
        it.detail =
            Detail::Monotonicity { min_ts: ts, max_ts: ts, min_bucket, max_bucket, max_diff, count: 0 };
        it
    }

    /// Operand types that an operator has no result for.
    pub fn incompatible_types_in_binop(lhs: &str, operator: &str, rhs: &str, span: Span) -> Self {
        let op = go_quote(operator);
        Self::info(
            format!("incompatible sample types encountered for binary operator {op}: {lhs} {operator} {rhs}"),
            span,
        )
    }

    /// A histogram that an aggregation left out.
    pub fn histogram_ignored_in_aggregation(aggregation: &str, span: Span) -> Self {
        Self::info(format!("ignored histogram in {aggregation} aggregation"), span)
    }

    /// Histograms that a function over time left out.
    pub fn histogram_ignored_in_mixed_range(metric_name: &str, span: Span) -> Self {
        let name = go_quote(metric_name);
        Self::info(
            format!(
                "ignored histograms in a range containing both floats and histograms for metric name {name}"
            ),
            span,
        )
    }

    /// NaN observations made a quantile NaN.
    pub fn native_histogram_quantile_nan_result(metric_name: &str, span: Span) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is NaN".to_string();
        Self::info(with_metric_name(text, metric_name), span)
    }

    /// NaN observations moved a quantile up.
    pub fn native_histogram_quantile_nan_skew(metric_name: &str, span: Span) -> Self {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher".to_string();
        Self::info(with_metric_name(text, metric_name), span)
    }

    /// NaN observations belong to no fraction.
    pub fn native_histogram_fraction_nans(metric_name: &str, span: Span) -> Self {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions"
            .to_string();
        Self::info(with_metric_name(text, metric_name), span)
    }

    /// Hints that contradict each other.
    pub fn histogram_counter_reset_collision(operation: HistogramOperation, span: Span) -> Self {
        Self::warning(format!("conflicting counter resets during histogram {}", operation.as_str()), span)
    }

    /// Custom bounds that had to be reconciled.
    pub fn mismatched_custom_buckets(operation: HistogramOperation, span: Span) -> Self {
        Self::info(format!("mismatched custom buckets were reconciled during {}", operation.as_str()), span)
    }

    /// A start timestamp before the previous sample; `count` (series, window) pairs.
    pub fn start_time_overlap(metric_name: &str, count: i64, span: Span) -> Self {
        let name = go_quote(metric_name);
        let mut it = Self::warning(
            format!("sample has start time that overlaps with previous sample timestamp for metric {name}"),
            span,
        );
        it.detail = Detail::StartOverlap { count };
        it
    }

    /// The whole text, with position where `query` is not empty.
    pub fn render(&self, query: &str) -> String {
        if query.is_empty() {
            return self.text.clone();
        }
        let place = self.span.line_col(query);
        match self.detail {
            Detail::None | Detail::StartOverlap { count: ..=1 } => format!("{} ({place})", self.text),
            Detail::StartOverlap { count } => format!("{} ({count} occurrences) ({place})", self.text),
            Detail::Monotonicity { min_ts, max_ts, min_bucket, max_bucket, max_diff, count } => format!(
                "{}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({place})",
                self.text,
                format_g(min_bucket),
                format_g(max_bucket),
                format_g_precision(max_diff, 2),
                count.wrapping_add(1),
                tsdbctl_model::duration::format_rfc3339_seconds(min_ts / 1000),
                tsdbctl_model::duration::format_rfc3339_seconds(max_ts / 1000),
            ),
        }
    }
}

/// The annotations of one query, one per text.
///
/// Upstream keeps, of equal texts, the one merged last in its evaluation order. Operators here run in
/// another order, so each node has a `rank` in upstream's order and the highest rank wins; the kinds with a
/// [`Detail`] keep the first position and add up.
#[derive(Clone, Debug, Default)]
pub struct Annotations(BTreeMap<String, (u32, Annotation)>);

impl Annotations {
    /// Adds one annotation of the node with this rank.
    pub fn add(&mut self, rank: u32, annotation: Annotation) {
        match self.0.get_mut(&annotation.text) {
            None => {
                self.0.insert(annotation.text.clone(), (rank, annotation));
            }
            Some((have, old)) if old.detail != Detail::None => {
                old.detail = old.detail.merged(annotation.detail);
                if rank < *have {
                    (*have, old.span) = (rank, annotation.span);
                }
            }
            Some(slot) if slot.0 <= rank => *slot = (rank, annotation),
            Some(_) => {}
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (rank, annotation) in other.0.values() {
            self.add(*rank, annotation.clone());
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The annotations, ordered by text.
    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.0.values().map(|(_, a)| a)
    }

    /// Warnings and infos as the API shows them: at most `max` of each (0: all), then how many more.
    pub fn render(&self, query: &str, max: usize) -> (Vec<String>, Vec<String>) {
        let side = |level: Level, word: &str| {
            let mut texts: Vec<String> =
                self.iter().filter(|a| a.level == level).map(|a| a.render(query)).collect();
            if max > 0 && texts.len() > max {
                let more = texts.len() - max;
                texts.truncate(max);
                texts.push(format!("{more} more {word} annotations omitted"));
            }
            texts
        };
        (side(Level::Warning, "warning"), side(Level::Info, "info"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_texts_the_highest_rank_gives_the_position() {
        let mut a = Annotations::default();
        a.add(5, Annotation::possible_non_counter("x", Span::new(31, 40)));
        a.add(2, Annotation::possible_non_counter("x", Span::new(5, 9)));
        let (warnings, infos) = a.render(&"x".repeat(50), 10);
        assert!(warnings.is_empty());
        assert_eq!(infos.len(), 1);
        assert!(infos[0].ends_with("\"x\" (1:32)"), "{infos:?}");
    }

    #[test]
    fn overlaps_add_up_and_keep_the_first_position() {
        let mut a = Annotations::default();
        a.add(1, Annotation::start_time_overlap("m", 2, Span::new(0, 1)));
        a.add(2, Annotation::start_time_overlap("m", 3, Span::new(9, 10)));
        let (warnings, _) = a.render("0123456789", 0);
        assert!(warnings[0].ends_with("(5 occurrences) (1:1)"), "{warnings:?}");
    }
}
