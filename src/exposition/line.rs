//! What the two text formats share: where in the body we are, the series being read, and the fast way over a line.

use tsdbctl_model::sample::MetricType;

use crate::entry::{ExemplarStore, SeriesLabels, Source, numeric_label};
use crate::error::{ParseError, quote_bytes};
use crate::lexer::{Dialect, Lexer, State, is_label, is_label_start, is_name, is_name_start};
use crate::number::{millis_of_seconds, parse_value, scan_decimal};
use crate::token::Token;

/// A kind of entry; what belongs to it lies in the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Help,
    Type,
    Unit,
    Comment,
    Series,
    Histogram,
}

/// The state of a text parser.
#[derive(Clone, Debug)]
pub(crate) struct Lines<'b> {
    pub(crate) lexer: Lexer<'b>,
    /// The body as text, if all of it is.
    text: Option<&'b str>,
    /// Where the current line began.
    pub(crate) line_start: usize,
    /// Where the series of the current line ends.
    pub(crate) series_end: usize,
    name: Option<&'b str>,
    pairs: Vec<(&'b str, &'b str)>,
    escaped: bool,
    pub(crate) family: &'b str,
    pub(crate) metadata: &'b [u8],
    pub(crate) metric_type: MetricType,
    pub(crate) value: f64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) exemplars: ExemplarStore<'b>,
    /// Lets tests compare the fast way with the other.
    #[cfg(test)]
    pub(crate) slow_only: bool,
}

impl<'b> Lines<'b> {
    pub(crate) fn new(body: &'b [u8], dialect: Dialect) -> Self {
        Self {
            lexer: Lexer::new(body, dialect),
            text: std::str::from_utf8(body).ok(),
            line_start: 0,
            series_end: 0,
            name: None,
            pairs: Vec::new(),
            escaped: false,
            family: "",
            metadata: b"",
            metric_type: MetricType::Unknown,
            value: 0.0,
            timestamp_ms: None,
            exemplars: ExemplarStore::default(),
            #[cfg(test)]
            slow_only: false,
        }
    }

    /// A part of the body as text, if it is.
    #[inline]
    pub(crate) fn str(&self, start: usize, end: usize) -> Option<&'b str> {
        match self.text {
            Some(text) => text.get(start..end),
            None => std::str::from_utf8(self.lexer.body.get(start..end)?).ok(),
        }
    }

    pub(crate) fn begin_line(&mut self) {
        self.line_start = self.lexer.at;
        self.name = None;
        self.pairs.clear();
        self.escaped = false;
    }

    /// Bytes as an error shows them: with the newline that is read behind a text body.
    fn shown(&self, start: usize, end: usize) -> String {
        let body = self.lexer.body;
        let cut = end.min(body.len());
        let mut bytes = body[start.min(cut)..cut].to_vec();
        if end > body.len() && self.lexer.dialect == Dialect::Text {
            bytes.push(b'\n');
        }
        quote_bytes(&bytes)
    }

    pub(crate) fn error(&self, message: String) -> ParseError {
        ParseError::in_lines(self.lexer.body, self.lexer.start.max(self.line_start), message)
    }

    /// An error about the line as far as it was read.
    pub(crate) fn error_while_parsing(&self, reason: &str) -> ParseError {
        let so_far = self.shown(self.line_start, self.lexer.at);
        self.error(format!("{reason} while parsing: {so_far}"))
    }

    pub(crate) fn unexpected(&self, expected: &str, got: Token) -> ParseError {
        let end = (self.lexer.at + 1).min(self.lexer.len());
        let (token, line) = (self.shown(self.lexer.start, end), self.shown(self.line_start, end));
        self.error(format!(
            "{expected}, got {token} ({}) while parsing: {line}",
            quote_bytes(got.name().as_bytes())
        ))
    }

    /// The name behind `HELP`, `TYPE` or `UNIT`.
    pub(crate) fn family_name(&mut self, keyword: Token) -> Result<(), ParseError> {
        let token = self.lexer.next();
        if token != Token::MetricName {
            return Err(self.unexpected(&format!("expected metric name after {}", keyword.name()), token));
        }
        let (mut start, mut end) = (self.lexer.start, self.lexer.at);
        if self.lexer.body[start] == b'"' {
            (start, end) = (start + 1, end - 1);
        }
        self.family = self.str(start, end).ok_or_else(|| {
            self.error(format!("invalid metric name: {}", quote_bytes(&self.lexer.body[start..end])))
        })?;
        Ok(())
    }

    /// Name, labels and value of a line as nearly all lines are: nothing quoted but values, one space before the
    /// value, a plain number, a newline at the end. `false` with nothing changed if it is anything else.
    #[inline]
    pub(crate) fn fast_series(&mut self) -> bool {
        #[cfg(test)]
        if self.slow_only {
            return false;
        }
        let body = self.lexer.body;
        let mut at = self.line_start;
        let byte = |i: usize| body.get(i).copied().unwrap_or(0);
        if !is_name_start(byte(at)) {
            return false;
        }
        while is_name(byte(at)) {
            at += 1;
        }
        let name_end = at;
        if byte(at) == b'{' {
            at += 1;
            loop {
                if byte(at) == b'}' {
                    at += 1;
                    break;
                }
                let name_start = at;
                if !is_label_start(byte(at)) {
                    return self.give_up();
                }
                while is_label(byte(at)) {
                    at += 1;
                }
                let name_end = at;
                if byte(at) != b'=' || byte(at + 1) != b'"' {
                    return self.give_up();
                }
                at += 2;
                let value_start = at;
                loop {
                    match byte(at) {
                        b'"' => break,
                        b'\\' => {
                            self.escaped = true;
                            if matches!(byte(at + 1), b'\n' | 0) {
                                return self.give_up();
                            }
                            at += 2;
                        }
                        b'\n' | 0 => return self.give_up(),
                        _ => at += 1,
                    }
                }
                let (Some(name), Some(value)) = (self.str(name_start, name_end), self.str(value_start, at))
                else {
                    return self.give_up();
                };
                self.pairs.push((name, value));
                at += 1;
                match byte(at) {
                    b',' => at += 1,
                    b'}' => {}
                    _ => return self.give_up(),
                }
            }
        }
        let series_end = at;
        if byte(at) != b' ' {
            return self.give_up();
        }
        let (value, end) = match scan_decimal(body, at + 1) {
            Some(found) => found,
            None => {
                let rest = &body[at + 1..];
                let Some(len) = memchr::memchr2(b' ', b'\n', rest) else { return self.give_up() };
                let token = &rest[..len];
                if token.is_empty() || memchr::memchr3(b'{', b'\t', 0, token).is_some() {
                    return self.give_up();
                }
                match parse_value(token) {
                    Ok(value) => (value, at + 1 + len),
                    Err(_) => return self.give_up(),
                }
            }
        };
        self.name = self.str(self.line_start, name_end);
        self.series_end = series_end;
        self.value = value;
        self.timestamp_ms = None;
        if body[end] == b'\n' {
            self.lexer.at = end + 1;
            self.lexer.state = State::Init;
        } else {
            self.lexer.at = end;
            self.lexer.state = State::Timestamp;
        }
        true
    }

    /// Passes over a line `series SP value [SP time] LF` whose series `lookup` knows by its bytes: what was a series
    /// once is one again, so its labels are not read. `None` with nothing changed if the line is anything else.
    #[inline]
    pub(crate) fn known_series<K>(
        &mut self,
        in_seconds: bool,
        lookup: impl FnOnce(&'b [u8]) -> Option<K>,
    ) -> Option<(K, f64, Option<i64>)> {
        /// So many digits cannot overflow.
        const DIGITS: usize = 18;
        let (body, start) = (self.lexer.body, self.lexer.at);
        if self.lexer.state != State::Init || !is_name_start(*body.get(start)?) {
            return None;
        }
        let line_end = start + memchr::memchr(b'\n', &body[start..])?;
        let line = &body[start..line_end];
        // Neither value nor time has a brace in it.
        let length = match memchr::memrchr(b'}', line) {
            Some(brace) => brace + 1,
            None => memchr::memchr(b' ', line)?,
        };
        if line.get(length) != Some(&b' ') {
            return None;
        }
        let (value, end) = scan_decimal(body, start + length + 1)?;
        let timestamp_ms = if end == line_end {
            None
        } else if in_seconds {
            let (seconds, end) = scan_decimal(body, end + 1)?;
            if end != line_end {
                return None;
            }
            Some(millis_of_seconds(seconds))
        } else {
            let digits = body.get(end + 1..line_end).filter(|d| (1..=DIGITS).contains(&d.len()))?;
            let mut ms = 0;
            for d in digits {
                let d = d.wrapping_sub(b'0');
                if d > 9 {
                    return None;
                }
                ms = ms * 10 + i64::from(d);
            }
            Some(ms)
        };
        let known = lookup(&line[..length])?;
        self.line_start = start;
        self.lexer.at = line_end + 1;
        Some((known, value, timestamp_ms))
    }

    /// Whether there is nothing behind the line that was read last.
    pub(crate) fn is_at_end(&self) -> bool {
        self.lexer.state == State::Init && self.lexer.at >= self.lexer.body.len()
    }

    fn give_up(&mut self) -> bool {
        self.pairs.clear();
        self.escaped = false;
        false
    }

    /// A metric's name in front of its labels. Blanks in front of it belong to it, as upstream has it.
    pub(crate) fn bare_name(&mut self) {
        self.name = self.str(self.line_start, self.lexer.at);
        self.series_end = self.lexer.at;
    }

    pub(crate) fn has_name(&self) -> bool {
        self.name.is_some()
    }

    fn name_error(&self, start: usize, end: usize) -> ParseError {
        let name = quote_bytes(&self.lexer.body[start..end]);
        self.error(format!("invalid metric name or label names: {name}"))
    }

    /// The labels behind a brace, of the series or of an exemplar.
    pub(crate) fn labels(&mut self, of_exemplar: bool) -> Result<(), ParseError> {
        let mut token = self.lexer.next();
        loop {
            let (mut start, mut end) = (self.lexer.start, self.lexer.at);
            let quoted = match token {
                Token::BraceClose => break,
                Token::LabelName => false,
                Token::QuotedString => true,
                _ => return Err(self.unexpected("expected label name", token)),
            };
            if quoted {
                (start, end) = (start + 1, end - 1);
            }
            token = self.lexer.next();
            if quoted && matches!(token, Token::Comma | Token::BraceClose) {
                if of_exemplar {
                    return Err(self.unexpected("expected label name", token));
                }
                if self.name.is_some() {
                    let so_far = self.shown(self.line_start, self.lexer.at);
                    return Err(self.error(format!("metric name already set while parsing: {so_far}")));
                }
                let name = self.str(start, end).ok_or_else(|| self.name_error(start, end))?;
                self.escaped |= name.contains('\\');
                self.name = Some(name);
                if token == Token::BraceClose {
                    break;
                }
                token = self.lexer.next();
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            let token_of_value = self.lexer.next();
            if token_of_value != Token::LabelValue {
                return Err(self.unexpected("expected label value", token_of_value));
            }
            let Some(value) = self.str(self.lexer.start + 1, self.lexer.at - 1) else {
                return Err(
                    self.error(format!("invalid UTF-8 label value: {}", quote_bytes(self.lexer.bytes())))
                );
            };
            let name = self.str(start, end).ok_or_else(|| self.name_error(start, end))?;
            if of_exemplar {
                self.exemplars.pairs.push((name, value));
            } else {
                self.escaped |= name.contains('\\') || value.contains('\\');
                self.pairs.push((name, value));
            }
            token = self.lexer.next();
            if token == Token::Comma {
                token = self.lexer.next();
            } else if token != Token::BraceClose && self.lexer.dialect == Dialect::OpenMetrics {
                return Err(self.unexpected("expected comma or brace close", token));
            }
        }
        if !of_exemplar {
            self.series_end = self.lexer.at;
        }
        Ok(())
    }

    pub(crate) fn name_missing(&self) -> ParseError {
        let so_far = self.shown(self.line_start, self.lexer.at);
        self.error(format!("metric name not set while parsing: {so_far}"))
    }

    pub(crate) fn series_labels(&self) -> SeriesLabels<'_> {
        SeriesLabels(Source::Exposed {
            raw: self.lexer.body.get(self.line_start..self.series_end),
            name: self.name.unwrap_or(""),
            suffix: "",
            pairs: &self.pairs,
            escaped: self.escaped,
            numeric: numeric_label(self.metric_type),
            made_up: None,
        })
    }

    /// The metric's name as it stands in the body.
    pub(crate) fn name(&self) -> &'b str {
        self.name.unwrap_or("")
    }

    pub(crate) fn pairs(&self) -> &[(&'b str, &'b str)] {
        &self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openmetrics::OpenMetricsParser;
    use crate::text::TextParser;

    /// Everything that comes out of a body, as text.
    fn read(body: &[u8], dialect: Dialect, slow_only: bool) -> Vec<String> {
        let mut text = TextParser::new(body);
        let mut openmetrics = OpenMetricsParser::new(body, false);
        (text.lines.slow_only, openmetrics.lines.slow_only) = (slow_only, slow_only);
        let mut out = Vec::new();
        loop {
            let (result, lines) = match dialect {
                Dialect::Text => (text.advance(), &text.lines),
                Dialect::OpenMetrics => (openmetrics.advance(), &openmetrics.lines),
            };
            match result {
                Ok(Some(kind)) => out.push(format!(
                    "{kind:?} {:?} {:?} {:x} {:?} {:?}",
                    lines.series_labels(),
                    lines.metadata,
                    lines.value.to_bits(),
                    lines.timestamp_ms,
                    lines.exemplars
                )),
                end => {
                    out.push(format!("{end:?}"));
                    return out;
                }
            }
        }
    }

    #[test]
    fn the_fast_way_finds_what_the_other_finds() {
        let words: &[&[u8]] = &[
            b"a",
            b"b_total",
            b"le",
            b"{",
            b"}",
            b"=",
            b"\"",
            b"\"x\"",
            b"\"\\\"\"",
            b",",
            b" ",
            b" ",
            b"\n",
            b"\n",
            b"1",
            b"-2.5",
            b"1e3",
            b"NaN",
            b"#",
            b"# ",
            b"{a=\"b\"}",
            b"{a=\"b\",c=\"\\n\"}",
            b"\t",
            b"\0",
            b"\xff",
            b"\\",
            b"a 1\n",
            b"# EOF\n",
            b"# TYPE a counter\n",
            b" # {x=\"y\"} 2\n",
        ];
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let mut entries = 0;
        for round in 0..30_000 {
            let mut body = if round % 2 == 0 { b"a{b=\"c\"} 1".to_vec() } else { Vec::new() };
            for _ in 0..next() % 9 {
                body.extend_from_slice(words[next() % words.len()]);
            }
            for dialect in [Dialect::Text, Dialect::OpenMetrics] {
                let fast = read(&body, dialect, false);
                assert_eq!(fast, read(&body, dialect, true), "{dialect:?} {}", quote_bytes(&body));
                entries += fast.len() - 1;
            }
        }
        assert!(entries > 10_000, "{entries} entries compare too little");
    }
}
