//! Whether what came is what a case expects: upstream's way for its own expectations, ours for `match`, `present` and
//! `absent`.

use tsdbctl_model::Span;
use tsdbctl_model::float_text::format_f_precision;
use tsdbctl_promql::engine::Sample;
use tsdbctl_promql::parser::{ParseError, SequenceItem, parse_metric, parse_series_items};
use tsdbctl_yaml::Source;

use super::compare::{
    AlertText, Pairs, SampleText, assign, bad_pattern, floats_equal, pairs, pairs_match, pairs_text,
};
use super::file::{AlertCase, ExpectedAlert, ExpectedSample, ExprCase, Matching, Pair, Presence};
use super::series::place_in_scalar;
use crate::alerting::ALERT_NAME;
use crate::query::Element;

/// A sample that came.
pub fn sample_text(e: &Element) -> SampleText {
    let labels: Pairs = pairs(e.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())));
    match &e.sample {
        Sample::Float(v) => SampleText { labels, value: *v, histogram: String::new() },
        Sample::Histogram(h) => SampleText { labels, value: 0.0, histogram: h.test_expression() },
    }
}

/// An alert that is expected, its name among its labels.
pub fn alert_text(a: &ExpectedAlert, alertname: &str) -> AlertText {
    let own = |list: &[Pair]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect()
    };
    let mut labels = own(&a.labels);
    labels.push((ALERT_NAME.to_string(), alertname.to_string()));
    AlertText { labels: pairs(labels), annotations: pairs(own(&a.annotations)) }
}

/// A sample that is expected.
///
/// # Errors
/// If its labels or its histogram are none; the text is upstream's.
pub fn expected_text(s: &ExpectedSample) -> Result<SampleText, String> {
    let wrong = |text: &str, e: &ParseError| e.api_message(text);
    let labels = parse_metric(&s.labels.value).map_err(|e| wrong(&s.labels.value, &e))?;
    let labels = pairs(labels.iter().map(|l| (l.name.as_str(), l.value.as_str())));
    let mut histogram = String::new();
    if !s.histogram.value.is_empty() {
        let text = format!("{{}} {}", s.histogram.value);
        let (_, items) = parse_series_items(&text, 1 << 40).map_err(|e| wrong(&text, &e))?;
        let count: u64 = items.iter().map(SequenceItem::count).sum();
        match items.as_slice() {
            [SequenceItem::Histograms { first, count: 1, .. }] => histogram = first.test_expression(),
            [SequenceItem::Floats { first, .. }] if count == 1 => {
                return Err(format!("expected histogram, got {}", format_f_precision(*first, 6)));
            }
            [_] if count == 1 => return Err("expected histogram, got _".to_string()),
            _ => return Err(format!("expected 1 value, got {count}")),
        }
    }
    Ok(SampleText { labels, value: s.value, histogram })
}

/// Where what [`expected_text`] refuses is wrong, and what to do about it.
pub fn place_of_fault(s: &ExpectedSample, source: &Source) -> (Span, Option<String>) {
    if let Err(e) = parse_metric(&s.labels.value) {
        let hint = e.hint.or_else(|| Some("labels are written name{label=\"value\", …}".to_string()));
        return (place_in_scalar(&s.labels, source, e.span.start as usize), hint);
    }
    let hint = "one histogram is expected: {{schema:0 count:3 sum:5 buckets:[1 2]}}".to_string();
    let before = "{} ";
    let span = match parse_series_items(&format!("{before}{}", s.histogram.value), 1 << 40) {
        Err(e) => place_in_scalar(&s.histogram, source, (e.span.start as usize).saturating_sub(before.len())),
        Ok(_) => s.histogram.span,
    };
    (span, Some(hint))
}

/// Sorts by labels; equal ones come in the opposite order, as upstream's sort has it.
pub fn in_upstreams_order(samples: &mut [SampleText]) {
    samples.reverse();
    samples.sort_by(|a, b| a.labels.cmp(&b.labels));
}

/// Whether the alerts of a case are as expected, and what is not met in words of our own. `expected` and `got` are
/// sorted.
pub fn alerts_fit(case: &AlertCase, expected: &[AlertText], got: &[AlertText]) -> (bool, Vec<String>) {
    let name = case.alertname.value.as_str();
    let mut unmet = Vec::new();
    let one = |e: &ExpectedAlert, text: &AlertText, g: &AlertText| {
        pairs_match(&text.labels, &g.labels, e.matching)
            && pairs_match(&text.annotations, &g.annotations, e.matching)
    };
    let text_of = |e: &ExpectedAlert| {
        let mut text = alert_text(e, name);
        if e.matching == Matching::Regex {
            let quoted = tsdbctl_model::regexp::Regexp::new(name).is_ok_and(|re| re.is_match(name));
            if !quoted {
                text.labels.retain(|(n, _)| n != ALERT_NAME);
            }
        }
        text
    };
    let describe = |e: &ExpectedAlert| {
        let t = alert_text(e, name);
        let annotations = if t.annotations.is_empty() {
            String::new()
        } else {
            format!(" annotations {}", pairs_text(&t.annotations))
        };
        format!("{}{annotations}", pairs_text(&t.labels))
    };
    let lists_all = case.expected_span.is_some() || (case.present.is_none() && case.absent.is_none());
    let mut fits = true;
    if lists_all && case.expected.iter().all(|e| e.matching == Matching::Exact) {
        fits = expected == got;
    } else if lists_all {
        let texts: Vec<AlertText> = case.expected.iter().map(text_of).collect();
        let taken = assign(case.expected.len(), got.len(), |e, g| one(&case.expected[e], &texts[e], &got[g]));
        fits = taken.iter().all(Option::is_some) && case.expected.len() == got.len();
        for (e, _) in case.expected.iter().zip(&taken).filter(|(_, t)| t.is_none()) {
            let error = pattern_error(&alert_text(e, name).labels, e.matching);
            unmet.push(format!("no alert matches {}{error}", describe(e)));
        }
        let extra = (0..got.len()).filter(|g| !taken.contains(&Some(*g)));
        unmet.extend(extra.map(|g| format!("not expected: {}", pairs_text(&got[g].labels))));
    }
    match &case.present {
        Some(Presence::Any(_)) if got.is_empty() => unmet.push("present: no alert fires".to_string()),
        Some(Presence::Each(list)) => {
            for e in list.iter().filter(|e| !got.iter().any(|g| one(e, &text_of(e), g))) {
                unmet.push(format!("present: no alert matches {}", describe(e)));
            }
        }
        _ => {}
    }
    match &case.absent {
        Some(Presence::Any(_)) if !got.is_empty() => {
            unmet.push(format!("absent: {} {}", got.len(), if got.len() == 1 { "fires" } else { "fire" }));
        }
        Some(Presence::Each(list)) => {
            for e in list {
                if let Some(g) = got.iter().find(|g| one(e, &text_of(e), g)) {
                    unmet.push(format!("absent: {} fires", pairs_text(&g.labels)));
                }
            }
        }
        _ => {}
    }
    (fits && unmet.is_empty(), unmet)
}

fn pattern_error(labels: &[(String, String)], matching: Matching) -> String {
    match (matching, bad_pattern(labels)) {
        (Matching::Regex, Some(e)) => format!(" ({e})"),
        _ => String::new(),
    }
}

/// As [`alerts_fit`], of samples; `expected` is in the case's order.
pub fn samples_fit(
    case: &ExprCase,
    expected: &[SampleText],
    got: &[SampleText],
    fuzzy: bool,
) -> (bool, Vec<String>) {
    let mut unmet = Vec::new();
    let one = |e: &ExpectedSample, text: &SampleText, g: &SampleText| {
        if e.matching == Matching::Exact {
            return text.equals(g, fuzzy);
        }
        pairs_match(&text.labels, &g.labels, e.matching)
            && (e.value_span.is_none() || floats_equal(text.value, g.value, fuzzy))
            && (text.histogram.is_empty() || text.histogram == g.histogram)
    };
    let lists_all = case.expected_span.is_some() || (case.present.is_none() && case.absent.is_none());
    let mut fits = true;
    if lists_all {
        if case.expected.iter().all(|e| e.matching == Matching::Exact) {
            // As upstream: both sorted by labels, then one by one.
            let mut sorted = expected.to_vec();
            in_upstreams_order(&mut sorted);
            fits = sorted.len() == got.len() && sorted.iter().zip(got).all(|(e, g)| e.equals(g, fuzzy));
        } else {
            let taken =
                assign(expected.len(), got.len(), |e, g| one(&case.expected[e], &expected[e], &got[g]));
            fits = taken.iter().all(Option::is_some) && expected.len() == got.len();
            for (e, t) in taken.iter().enumerate() {
                if t.is_none() {
                    let error = pattern_error(&expected[e].labels, case.expected[e].matching);
                    unmet.push(format!("no sample matches {}{error}", expected[e].plain()));
                }
            }
            let extra = (0..got.len()).filter(|g| !taken.contains(&Some(*g)));
            unmet.extend(extra.map(|g| format!("not expected: {}", got[g].plain())));
        }
    }
    let text_of = |e: &ExpectedSample| expected_text(e);
    match &case.present {
        Some(Presence::Any(_)) if got.is_empty() => unmet.push("present: no samples".to_string()),
        Some(Presence::Each(list)) => {
            for e in list {
                match text_of(e) {
                    Ok(text) if got.iter().any(|g| one(e, &text, g)) => {}
                    Ok(text) => unmet.push(format!("present: no sample matches {}", text.plain())),
                    Err(message) => unmet.push(format!("present: {message}")),
                }
            }
        }
        _ => {}
    }
    match &case.absent {
        Some(Presence::Any(_)) if !got.is_empty() => unmet.push(format!("absent: {} samples", got.len())),
        Some(Presence::Each(list)) => {
            for e in list {
                match text_of(e) {
                    Ok(text) => {
                        if let Some(g) = got.iter().find(|g| one(e, &text, g)) {
                            unmet.push(format!("absent: {}", g.plain()));
                        }
                    }
                    Err(message) => unmet.push(format!("absent: {message}")),
                }
            }
        }
        _ => {}
    }
    (fits && unmet.is_empty(), unmet)
}
