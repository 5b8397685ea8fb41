//! Input series: lines of upstream's loading script, and samples made when the clock gets to them.

use std::sync::Arc;

use tsdbctl_model::{FloatHistogram, Labels, Span};
use tsdbctl_promql::engine::Sample;
use tsdbctl_promql::parser::{ParseError, SequenceItem, next_histogram, parse_series_items};
use tsdbctl_yaml::{Source, Spanned};

use super::file::{FileProblem, InputSeries};
use crate::check::within;

/// Values that one series may have: so many that their times would not fit.
const MAX_VALUES: u64 = 1 << 52;

/// A series whose samples are made on demand, by rising time.
#[derive(Clone, Debug)]
pub struct LazySeries {
    /// Its labels.
    pub labels: Labels,
    /// A label that was written twice, for which each of its samples is refused.
    pub repeated: Option<String>,
    items: Arc<[SequenceItem]>,
    /// The item that comes next, and how many of its values are used up.
    item: usize,
    used: u64,
    /// The value before the next one, within the item.
    float: f64,
    histogram: Option<Arc<FloatHistogram>>,
    /// Time of the next value, Unix ms.
    next_ms: i64,
    interval_ms: i64,
}

impl LazySeries {
    /// A series whose first value stands at `start_ms`.
    pub fn new(labels: Labels, items: Vec<SequenceItem>, start_ms: i64, interval_ms: i64) -> Self {
        let items = items.into();
        Self {
            labels,
            repeated: None,
            items,
            item: 0,
            used: 0,
            float: 0.0,
            histogram: None,
            next_ms: start_ms,
            interval_ms,
        }
    }

    /// Makes the samples up to `end_ms`, inclusive.
    ///
    /// # Errors
    /// What `append` says; the sample is made again the next time.
    pub fn take_until<E>(
        &mut self,
        end_ms: i64,
        mut append: impl FnMut(&Labels, i64, Sample) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.next_ms <= end_ms {
            let Some(item) = self.items.get(self.item) else { return Ok(()) };
            if self.used >= item.count() {
                (self.item, self.used) = (self.item + 1, 0);
                continue;
            }
            let sample = match item {
                SequenceItem::Gap { count } => {
                    let due = end_ms.saturating_sub(self.next_ms) / self.interval_ms + 1;
                    let step = (due as u64).min(count - self.used);
                    self.used += step;
                    self.next_ms = self.next_ms.saturating_add(self.interval_ms.saturating_mul(step as i64));
                    continue;
                }
                SequenceItem::Floats { first, delta, .. } => {
                    let v = match delta {
                        Some(delta) if self.used > 0 => self.float + delta,
                        _ => *first,
                    };
                    append(&self.labels, self.next_ms, Sample::Float(v))?;
                    self.float = v;
                    None
                }
                SequenceItem::Histograms { first, delta, .. } => Some(match (delta, &self.histogram) {
                    (Some(delta), Some(before)) if self.used > 0 => next_histogram(before, delta),
                    _ => Arc::clone(first),
                }),
            };
            if let Some(h) = sample {
                append(&self.labels, self.next_ms, Sample::Histogram(Arc::clone(&h)))?;
                self.histogram = Some(h);
            }
            self.used += 1;
            self.next_ms = match self.next_ms.checked_add(self.interval_ms) {
                Some(t) => t,
                None => {
                    self.item = self.items.len();
                    i64::MAX
                }
            };
        }
        Ok(())
    }

    /// Whether all samples have been made.
    pub fn is_spent(&self) -> bool {
        match self.items.get(self.item) {
            None => true,
            Some(item) => self.item + 1 == self.items.len() && self.used >= item.count(),
        }
    }
}

/// What the input series of a test come to.
#[derive(Debug, Default)]
pub struct Input {
    /// The series; of those with equal labels the last.
    pub series: Vec<LazySeries>,
    /// What upstream passes over in silence.
    pub warnings: Vec<FileProblem>,
}

/// The first label name that stands twice within the braces of a line that is a series.
fn repeated_label(line: &str) -> Option<String> {
    let inside = line.split_once('{')?.1;
    let mut names: Vec<String> = Vec::new();
    let (mut name, mut quote, mut escaped) = (String::new(), None, false);
    for c in inside.chars() {
        match (quote, c) {
            (Some(q), c) if c == q && !escaped => quote = None,
            (Some(q), c) => {
                escaped = c == '\\' && !escaped && q != '`';
                name.push(c);
            }
            (None, '"' | '\'' | '`') => (quote, escaped) = (Some(c), false),
            (None, '=') => {
                let found = std::mem::take(&mut name);
                if names.contains(&found) {
                    return Some(found);
                }
                names.push(found);
            }
            (None, ',') => name.clear(),
            (None, '}') => return None,
            (None, c) if c.is_whitespace() => {}
            (None, c) => name.push(c),
        }
    }
    None
}

/// Reads the input series as upstream does, which makes a loading script of them: one line each, a newline within
/// starts another series, and a line that is empty or a comment ends the script.
///
/// # Errors
/// The first line that is no series; the message is upstream's, with the position in the script.
pub fn read_input(
    input: &[InputSeries],
    source: &Source,
    start_ms: i64,
    interval_ms: i64,
) -> Result<Input, FileProblem> {
    let mut out = Input::default();
    let mut number = 1;
    for (index, entry) in input.iter().enumerate() {
        let whole = format!("  {} {}", entry.series.value, entry.values.value);
        let mut offset = 0;
        for part in whole.split('\n') {
            number += 1;
            let line = part.trim();
            let at = offset + (part.len() - part.trim_start().len());
            offset += part.len() + 1;
            if line.is_empty() || line.starts_with('#') {
                let what = if line.is_empty() { "an empty line" } else { "a comment" };
                let behind = input.len() - index - 1;
                if !line.is_empty() || behind > 0 || offset <= whole.len() {
                    out.warnings.push(FileProblem {
                        message: format!(
                            "{what} ends the input series: upstream's loader reads nothing behind it \
                             ({behind} more series are dropped)"
                        ),
                        span: entry.span,
                        hint: Some("write each series and its values on one line".to_string()),
                    });
                }
                return Ok(out);
            }
            // Start timestamps matter to no query unless a feature is on that test runs do not have.
            let head = line.split([' ', '\t']).next().unwrap_or_default();
            if head.len() < line.len() && head.ends_with("@st") {
                continue;
            }
            let (labels, items) = parse_series_items(line, MAX_VALUES).map_err(|e| {
                let pos = (at + e.span.start as usize).checked_sub(2);
                let (span, hint) = match pos {
                    _ if entry.series.value.is_empty() => {
                        (entry.span, Some("add `series:`, such as up{job=\"a\"}".to_string()))
                    }
                    // The values are taken for what is missing of the series.
                    Some(pos) if pos > entry.series.value.len() && is_within_braces(&e.message) => (
                        place_in_scalar(&entry.series, source, entry.series.value.len()),
                        Some("the series ends before its braces are closed: add `}`".to_string()),
                    ),
                    Some(pos) => (place_in(entry, source, pos), e.hint.clone().or_else(|| hint_of(&e, line))),
                    None => (entry.span, e.hint.clone().or_else(|| hint_of(&e, line))),
                };
                FileProblem { message: script_message(&e, line, number), span, hint }
            })?;
            if items.is_empty() && entry.values.span == Span::default() {
                out.warnings.push(FileProblem {
                    message: format!("{} has no values, so there is no such series", entry.series.value),
                    span: entry.span,
                    hint: Some("add `values:`, such as '0x10' or '1+2x10'".to_string()),
                });
            }
            let mut series = LazySeries::new(labels, items, start_ms, interval_ms);
            series.repeated = repeated_label(line);
            let same = |s: &&mut LazySeries| s.labels == series.labels && s.repeated == series.repeated;
            match out.series.iter_mut().find(same) {
                Some(slot) => {
                    out.warnings.push(FileProblem {
                        message: format!(
                            "{} is given twice: the last one replaces the others",
                            series.labels
                        ),
                        span: entry.series.span,
                        hint: Some("remove one of the two".to_string()),
                    });
                    *slot = series;
                }
                None => out.series.push(series),
            }
        }
    }
    Ok(out)
}

/// Upstream's text: the position counts lines of the script, of which the first says `load`.
fn script_message(e: &ParseError, line: &str, number: usize) -> String {
    let position = e.position(line);
    let column = position.rsplit_once(':').map_or("1", |(_, column)| column);
    format!("{number}:{column}: parse error: {}", e.message)
}

/// Whether the parser took the place for the inside of a series' braces.
fn is_within_braces(message: &str) -> bool {
    message.contains("inside braces") || message.contains("in label set")
}

fn hint_of(e: &ParseError, line: &str) -> Option<String> {
    let rest = line.get(e.span.start as usize..).unwrap_or_default();
    let before = line.get(..e.span.start as usize).unwrap_or_default();
    if is_within_braces(&e.message) {
        return Some("a series is written name{label=\"value\", …}".to_string());
    }
    if e.message.starts_with("bad number syntax") {
        return Some("values are numbers without a unit".to_string());
    }
    if rest.starts_with('s') && before.ends_with(|c: char| c.is_ascii_digit()) {
        return Some("values have no unit".to_string());
    }
    if before.ends_with(['+', '-']) && rest.starts_with(['+', '-']) {
        return Some("one sign is enough: 1+2x10 grows, 1-2x10 falls".to_string());
    }
    if rest.trim_start().starts_with(['+', '-']) || (before.ends_with(['+', '-']) && rest.starts_with(' ')) {
        return Some("write growing values without blanks: 1+2x10".to_string());
    }
    if rest.starts_with(',') {
        return Some("values are separated by blanks".to_string());
    }
    e.message.contains("series values").then(|| {
        "values are numbers, _ (no sample), stale, 1x3 (repeated), 1+2x3 (growing) or {{…}} (histogram)"
            .to_string()
    })
}

/// The place in the file of a byte of `series values`.
fn place_in(entry: &InputSeries, source: &Source, pos: usize) -> Span {
    let series_len = entry.series.value.len();
    if pos < series_len || entry.values.span == Span::default() {
        place_in_scalar(&entry.series, source, pos.min(series_len))
    } else {
        place_in_scalar(&entry.values, source, pos.saturating_sub(series_len + 1))
    }
}

/// The place in the file of a byte of a scalar's value.
pub fn place_in_scalar(text: &Spanned<String>, source: &Source, pos: usize) -> Span {
    if text.span == Span::default() {
        return text.span;
    }
    let pos = pos.min(text.value.len());
    let next = text.value[..].char_indices().map(|(at, _)| at).find(|at| *at > pos);
    let end = next.unwrap_or(text.value.len()).max(pos);
    within(source, &text.value, text.span, Span::new(pos, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lazy(text: &str) -> LazySeries {
        let (labels, items) = parse_series_items(text, MAX_VALUES).unwrap();
        LazySeries::new(labels, items, 0, 1000)
    }

    fn floats(series: &mut LazySeries, end_ms: i64) -> Vec<(i64, f64)> {
        let mut out = Vec::new();
        series
            .take_until(end_ms, |_, t, s| {
                let Sample::Float(v) = s else { return Err(()) };
                out.push((t, v));
                Ok(())
            })
            .unwrap();
        out
    }

    #[test]
    fn labels_that_stand_twice_are_found() {
        for (line, repeated) in [
            ("m{a=\"1\", b=\"2\"} 1", None),
            ("m{a=\"1\", a=\"1\"} 1", Some("a")),
            ("m{a=\"b=\", b=\"a=\\\", a=\"} {{schema:1}}", None),
            ("{\"m\", 'x.y'=\"1\", \"x.y\"=`\\`, c=\"\"} 1", Some("x.y")),
            ("m 1 {{count:1}}", None),
            ("m{} 1", None),
        ] {
            assert_eq!(repeated_label(line).as_deref(), repeated, "{line}");
        }
    }

    #[test]
    fn samples_are_made_when_they_are_due_and_by_repeated_addition() {
        let mut s = lazy("m 0+0.1x3");
        assert_eq!(floats(&mut s, 1500), [(0, 0.0), (1000, 0.1)]);
        assert_eq!(floats(&mut s, 1999), []);
        assert_eq!(floats(&mut s, 10_000), [(2000, 0.2), (3000, 0.300_000_000_000_000_04)]);
        assert!(s.is_spent());
    }

    #[test]
    fn eleven_zeros_gaps_and_sequences_without_end() {
        assert_eq!(floats(&mut lazy("m 0x10"), 100_000).len(), 11);
        assert_eq!(floats(&mut lazy("m 1 _x3 2 _ 3"), 100_000), [(0, 1.0), (4000, 2.0), (6000, 3.0)]);
        assert_eq!(floats(&mut lazy("m _x0 1"), 100_000), [(0, 1.0)]);
        let mut s = lazy("m _x1000000000000 7");
        assert_eq!(floats(&mut s, 5_000), []);
        assert_eq!(floats(&mut s, 1_000_000_000_000_000), [(1_000_000_000_000_000, 7.0)]);
        let mut s = lazy("m 0+1x4000000000000000");
        assert_eq!(floats(&mut s, 2_000), [(0, 0.0), (1000, 1.0), (2000, 2.0)]);
    }

    #[test]
    fn a_refused_sample_is_made_again() {
        let mut s = lazy("m 1+1x3");
        assert_eq!(s.take_until(9000, |_, t, _| if t == 1000 { Err(t) } else { Ok(()) }), Err(1000));
        assert_eq!(floats(&mut s, 9000), [(1000, 2.0), (2000, 3.0), (3000, 4.0)]);
    }
}
