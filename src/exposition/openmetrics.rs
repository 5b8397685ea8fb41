//! OpenMetrics text, 0.0.1 and 1.0.0.

use std::borrow::Cow;

use tsdbctl_model::sample::MetricType;

use crate::entry::unescape;
use crate::error::{ParseError, quote_bytes};
use crate::lexer::{Dialect, State};
use crate::line::{Kind, Lines};
use crate::number::{millis_of_seconds, parse_value};
use crate::token::Token;

const NO_EOF: &str = "data does not end with # EOF";

/// A parser of OpenMetrics text.
#[derive(Clone, Debug)]
pub(crate) struct OpenMetricsParser<'b> {
    pub(crate) lines: Lines<'b>,
    /// Whether `_created` series only give start timestamps and are not series themselves.
    start_timestamps: bool,
    /// Whether the lines are only looked at for a start timestamp.
    looking_ahead: bool,
    /// The metric and labels whose start timestamp was found last, and it.
    found: Option<(u64, i64)>,
    ahead: Ahead,
}

/// What a look ahead found: the next `_created` series, or that the family has none. It holds for every series up
/// to there, so that a family is looked through once and not once per series.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    until: usize,
    created: Option<(u64, i64)>,
}

impl<'b> OpenMetricsParser<'b> {
    pub(crate) fn new(body: &'b [u8], start_timestamps: bool) -> Self {
        Self {
            lines: Lines::new(body, Dialect::OpenMetrics),
            start_timestamps,
            looking_ahead: false,
            found: None,
            ahead: Ahead::default(),
        }
    }

    pub(crate) fn advance(&mut self) -> Result<Option<Kind>, ParseError> {
        loop {
            let lines = &mut self.lines;
            lines.begin_line();
            if !self.looking_ahead {
                lines.exemplars.clear();
            }
            if lines.lexer.state == State::Init && lines.fast_series() {
                if lines.lexer.state == State::Timestamp {
                    self.end_of_line()?;
                }
            } else {
                match lines.lexer.next() {
                    Token::EofWord => {
                        if lines.lexer.next() != Token::Eof {
                            return Err(lines.error("unexpected data after # EOF".to_owned()));
                        }
                        return Ok(None);
                    }
                    Token::Eof => return Err(lines.error(NO_EOF.to_owned())),
                    keyword @ (Token::Help | Token::Type | Token::Unit) => {
                        return self.metadata(keyword).map(Some);
                    }
                    Token::BraceOpen => {
                        lines.labels(false)?;
                        let token = lines.lexer.next();
                        self.value(token)?;
                    }
                    Token::MetricName => {
                        lines.bare_name();
                        let mut token = lines.lexer.next();
                        if token == Token::BraceOpen {
                            lines.labels(false)?;
                            token = lines.lexer.next();
                        }
                        self.value(token)?;
                    }
                    token => return Err(lines.unexpected("expected a valid start token", token)),
                }
            }
            if self.start_timestamps && !self.looking_ahead && self.is_created() {
                continue;
            }
            return Ok(Some(Kind::Series));
        }
    }

    fn is_created(&self) -> bool {
        has_start_timestamp(self.lines.metric_type) && self.lines.name().ends_with("_created")
    }

    fn metadata(&mut self, keyword: Token) -> Result<Kind, ParseError> {
        let lines = &mut self.lines;
        lines.family_name(keyword)?;
        if lines.lexer.next() != Token::Text {
            return Err(lines.error(format!("expected text in {}", keyword.name())));
        }
        let text = lines.lexer.bytes();
        lines.metadata = text.get(1..text.len().max(2) - 1).unwrap_or_default();
        match keyword {
            Token::Type => {
                lines.metric_type = match lines.metadata {
                    b"counter" => MetricType::Counter,
                    b"gauge" => MetricType::Gauge,
                    b"histogram" => MetricType::Histogram,
                    b"gaugehistogram" => MetricType::GaugeHistogram,
                    b"summary" => MetricType::Summary,
                    b"info" => MetricType::Info,
                    b"stateset" => MetricType::StateSet,
                    b"unknown" => MetricType::Unknown,
                    other => return Err(lines.error(format!("invalid metric type {}", quote_bytes(other)))),
                };
                Ok(Kind::Type)
            }
            Token::Unit => {
                let unit = lines.metadata;
                let metric = lines.family.as_bytes();
                let fits = unit.is_empty()
                    || metric.strip_suffix(unit).is_some_and(|base| base.last() == Some(&b'_'));
                if !fits {
                    let (unit, metric) = (quote_bytes(unit), quote_bytes(metric));
                    return Err(lines.error(format!("unit {unit} not a suffix of metric {metric}")));
                }
                if std::str::from_utf8(unit).is_err() {
                    let unit = quote_bytes(unit);
                    return Err(lines.error(format!("unit {unit} is not a valid utf8 string")));
                }
                Ok(Kind::Unit)
            }
            _ => {
                if std::str::from_utf8(lines.metadata).is_err() {
                    let text = quote_bytes(lines.metadata);
                    return Err(lines.error(format!("help text {text} is not a valid utf8 string")));
                }
                Ok(Kind::Help)
            }
        }
    }

    fn value(&mut self, token: Token) -> Result<(), ParseError> {
        if !self.lines.has_name() {
            return Err(self.lines.name_missing());
        }
        self.lines.value = self.float(token, "metric")?;
        self.lines.timestamp_ms = None;
        self.end_of_line()
    }

    fn float(&self, token: Token, after: &str) -> Result<f64, ParseError> {
        let lines = &self.lines;
        if token != Token::Value {
            return Err(lines.unexpected(&format!("expected value after {after}"), token));
        }
        self.number()
    }

    fn number(&self) -> Result<f64, ParseError> {
        let digits = self.lines.lexer.bytes().get(1..).unwrap_or_default();
        parse_value(digits).map_err(|e| self.lines.error_while_parsing(&e))
    }

    fn timestamp(&self, what: &str) -> Result<i64, ParseError> {
        let seconds = self.number()?;
        if !seconds.is_finite() {
            let shown = tsdbctl_model::float_text::format_g(seconds);
            return Err(self.lines.error(format!("invalid {what} {shown}")));
        }
        Ok(millis_of_seconds(seconds))
    }

    /// What follows the value. A token that fits nothing here is left to the next line, as upstream has it.
    fn end_of_line(&mut self) -> Result<(), ParseError> {
        match self.lines.lexer.next() {
            Token::Eof => Err(self.lines.error(NO_EOF.to_owned())),
            Token::Comment => self.exemplar(),
            Token::Timestamp => {
                self.lines.timestamp_ms = Some(self.timestamp("timestamp")?);
                match self.lines.lexer.next() {
                    Token::Linebreak => Ok(()),
                    Token::Comment => self.exemplar(),
                    token => Err(self.lines.unexpected("expected next entry after timestamp", token)),
                }
            }
            _ => Ok(()),
        }
    }

    fn exemplar(&mut self) -> Result<(), ParseError> {
        if self.looking_ahead {
            // Upstream takes tokens until the line ends; one that fits nothing never ends, so it ends the search.
            loop {
                match self.lines.lexer.next() {
                    Token::Linebreak => return Ok(()),
                    Token::Eof | Token::Invalid => return Err(self.lines.error(NO_EOF.to_owned())),
                    _ => {}
                }
            }
        }
        let first = self.lines.exemplars.pairs.len();
        self.lines.labels(true)?;
        let token = self.lines.lexer.next();
        let value = self.float(token, "exemplar labels")?;
        let mut timestamp_ms = None;
        match self.lines.lexer.next() {
            Token::Eof => return Err(self.lines.error(NO_EOF.to_owned())),
            Token::Linebreak => {}
            Token::Timestamp => {
                timestamp_ms = Some(self.timestamp("exemplar timestamp")?);
                let token = self.lines.lexer.next();
                if token != Token::Linebreak {
                    return Err(self.lines.unexpected("expected next entry after exemplar timestamp", token));
                }
            }
            token => return Err(self.lines.unexpected("expected timestamp or comment", token)),
        }
        self.lines.exemplars.finish(first, value, timestamp_ms);
        Ok(())
    }

    pub(crate) fn help(&self) -> Cow<'_, str> {
        unescape(std::str::from_utf8(self.lines.metadata).unwrap_or(""), true)
    }

    pub(crate) fn unit(&self) -> &str {
        std::str::from_utf8(self.lines.metadata).unwrap_or("")
    }

    /// The start timestamp of the current series: that of the `_created` series with the same labels, which
    /// follows within the same metric family.
    pub(crate) fn start_timestamp(&mut self) -> Option<i64> {
        if !self.start_timestamps || !has_start_timestamp(self.lines.metric_type) {
            self.found = None;
            return None;
        }
        let wanted = self.identity(self.lines.family.len());
        if let Some((identity, ms)) = self.found
            && identity == wanted
        {
            return Some(ms);
        }
        if self.lines.lexer.at >= self.ahead.until {
            let mut ahead = Self { lines: self.lines.clone(), looking_ahead: true, ..*self };
            let mut created = None;
            while let Ok(Some(Kind::Series)) = ahead.advance() {
                if let Some(base) = ahead.lines.name().strip_suffix("_created") {
                    created = Some((ahead.identity(base.len()), millis_of_seconds(ahead.lines.value)));
                    break;
                }
            }
            self.ahead = Ahead { until: ahead.lines.lexer.at, created };
        }
        self.found = self.ahead.created.filter(|(identity, _)| *identity == wanted);
        self.found.map(|(_, ms)| ms)
    }

    /// A hash of the first `length` bytes of the name and of the labels but for `le` and `quantile`.
    fn identity(&self, length: usize) -> u64 {
        use std::hash::Hasher;
        let numeric = crate::entry::numeric_label(self.lines.metric_type);
        let name = self.lines.name().as_bytes();
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(name.get(..length).unwrap_or(name));
        for (name, value) in self.lines.pairs() {
            if Some(*name) != numeric {
                hasher.write(name.as_bytes());
                hasher.write_u8(0xff);
                hasher.write(value.as_bytes());
                hasher.write_u8(0xff);
            }
        }
        hasher.finish()
    }
}

fn has_start_timestamp(metric_type: MetricType) -> bool {
    matches!(metric_type, MetricType::Counter | MetricType::Summary | MetricType::Histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Series with their start timestamps, then the error if there is one.
    fn starts(body: &str) -> String {
        let mut parser = OpenMetricsParser::new(body.as_bytes(), true);
        let mut out = String::new();
        loop {
            match parser.advance() {
                Ok(Some(Kind::Series)) => {
                    let start = parser.start_timestamp();
                    let lines = &parser.lines;
                    out += &format!(
                        "{}={} {start:?} {};",
                        lines.name(),
                        lines.value,
                        lines.exemplars.items.len()
                    );
                }
                Ok(Some(_)) => {}
                Ok(None) => return out,
                Err(e) => return format!("{out}{e}"),
            }
        }
    }

    #[test]
    fn created_lines_give_start_timestamps_to_their_series() {
        let cases = [
            (
                "# TYPE a counter\na_total{x=\"1\"} 5 # {t=\"u\"} 1\na_created{x=\"1\"} 1.5\na_total{x=\"2\"} 6\n# EOF\n",
                "a_total=5 Some(1500) 1;a_total=6 None 0;",
            ),
            (
                "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_created 3\nh_sum 1\n# EOF\n",
                "h_bucket=1 Some(3000) 0;h_bucket=2 Some(3000) 0;h_count=2 Some(3000) 0;h_sum=1 Some(3000) 0;",
            ),
            ("# TYPE a counter\na_total 1\n# TYPE b counter\nb_created 1\n# EOF\n", "a_total=1 None 0;"),
            ("# TYPE g gauge\ng 1\ng_created 2\n# EOF\n", "g=1 None 0;g_created=2 None 0;"),
            (
                "# TYPE \"a.b\" counter\n{\"a.b_total\"} 1\n{\"a.b_created\"} 2\n# EOF\n",
                "a.b_total=1 Some(2000) 0;",
            ),
        ];
        for (body, want) in cases {
            assert_eq!(starts(body), want, "{body}");
        }
    }

    #[test]
    fn bodies_are_refused_in_upstreams_words() {
        let cases = [
            ("a 1\n", "a=1 None 0;data does not end with # EOF"),
            ("a 1\n# EOF\n\n", "a=1 None 0;unexpected data after # EOF"),
            ("a 1 NaN\n# EOF\n", "invalid timestamp NaN"),
            ("# UNIT a_s ms\n", "unit \"ms\" not a suffix of metric \"a_s\""),
            (
                "a 1 # {\"b\"} 1\n",
                "expected label name, got \"} \" (\"BCLOSE\") while parsing: \"a 1 # {\\\"b\\\"} \"",
            ),
        ];
        for (body, want) in cases {
            assert_eq!(starts(body), want, "{body}");
        }
    }
}
