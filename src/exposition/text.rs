//! Prometheus text, 0.0.4 and 1.0.0 (which only adds quoted names).

use std::borrow::Cow;

use tsdbctl_model::sample::MetricType;

use crate::entry::unescape;
use crate::error::{ParseError, quote_bytes};
use crate::lexer::{Dialect, State};
use crate::line::{Kind, Lines};
use crate::number::{parse_millis, parse_value};
use crate::token::Token;

/// A parser of Prometheus text.
#[derive(Clone, Debug)]
pub(crate) struct TextParser<'b> {
    pub(crate) lines: Lines<'b>,
}

impl<'b> TextParser<'b> {
    pub(crate) fn new(body: &'b [u8]) -> Self {
        Self { lines: Lines::new(body, Dialect::Text) }
    }

    pub(crate) fn advance(&mut self) -> Result<Option<Kind>, ParseError> {
        let lines = &mut self.lines;
        loop {
            lines.begin_line();
            if lines.lexer.state == State::Init && lines.fast_series() {
                if lines.lexer.state == State::Timestamp {
                    self.end_of_line()?;
                }
                return Ok(Some(Kind::Series));
            }
            match lines.lexer.next() {
                Token::Eof => return Ok(None),
                Token::Linebreak => {}
                keyword @ (Token::Help | Token::Type) => return self.metadata(keyword).map(Some),
                Token::Comment => {
                    lines.metadata = lines.lexer.bytes();
                    let token = lines.lexer.next();
                    if token != Token::Linebreak {
                        return Err(lines.unexpected("linebreak expected after comment", token));
                    }
                    return Ok(Some(Kind::Comment));
                }
                Token::BraceOpen => {
                    lines.labels(false)?;
                    let token = lines.lexer.next();
                    return self.value(token).map(Some);
                }
                Token::MetricName => {
                    lines.bare_name();
                    let mut token = lines.lexer.next();
                    if token == Token::BraceOpen {
                        lines.labels(false)?;
                        token = lines.lexer.next();
                    }
                    return self.value(token).map(Some);
                }
                token => return Err(lines.unexpected("expected a valid start token", token)),
            }
        }
    }

    fn metadata(&mut self, keyword: Token) -> Result<Kind, ParseError> {
        let lines = &mut self.lines;
        lines.family_name(keyword)?;
        let token = lines.lexer.next();
        if token != Token::Text {
            return Err(lines.error(format!("expected text in {}, got {}", keyword.name(), token.name())));
        }
        lines.metadata = lines.lexer.bytes().get(1..).unwrap_or_default();
        let kind = if keyword == Token::Type {
            lines.metric_type = match lines.metadata {
                b"counter" => MetricType::Counter,
                b"gauge" => MetricType::Gauge,
                b"histogram" => MetricType::Histogram,
                b"summary" => MetricType::Summary,
                b"untyped" => MetricType::Unknown,
                other => return Err(lines.error(format!("invalid metric type {}", quote_bytes(other)))),
            };
            Kind::Type
        } else {
            if std::str::from_utf8(lines.metadata).is_err() {
                let text = quote_bytes(lines.metadata);
                return Err(lines.error(format!("help text {text} is not a valid utf8 string")));
            }
            Kind::Help
        };
        let token = lines.lexer.next();
        if token != Token::Linebreak {
            return Err(lines.unexpected("linebreak expected after metadata", token));
        }
        Ok(kind)
    }

    fn value(&mut self, token: Token) -> Result<Kind, ParseError> {
        let lines = &mut self.lines;
        if !lines.has_name() {
            return Err(lines.name_missing());
        }
        if token != Token::Value {
            return Err(lines.unexpected("expected value after metric", token));
        }
        lines.value = parse_value(lines.lexer.bytes()).map_err(|e| lines.error_while_parsing(&e))?;
        lines.timestamp_ms = None;
        self.end_of_line()?;
        Ok(Kind::Series)
    }

    fn end_of_line(&mut self) -> Result<(), ParseError> {
        let lines = &mut self.lines;
        match lines.lexer.next() {
            Token::Linebreak => Ok(()),
            Token::Timestamp => {
                let millis = parse_millis(lines.lexer.bytes()).map_err(|e| lines.error_while_parsing(&e))?;
                lines.timestamp_ms = Some(millis);
                match lines.lexer.next() {
                    Token::Linebreak => Ok(()),
                    token => Err(lines.unexpected("expected next entry after timestamp", token)),
                }
            }
            token => Err(lines.unexpected("expected timestamp or new record", token)),
        }
    }

    pub(crate) fn help(&self) -> Cow<'_, str> {
        unescape(std::str::from_utf8(self.lines.metadata).unwrap_or(""), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(body: &[u8]) -> String {
        let mut parser = TextParser::new(body);
        let mut out = String::new();
        loop {
            match parser.advance() {
                Err(e) => return format!("{out}{}:{} {e}", e.line, e.column),
                Ok(None) => return out,
                Ok(Some(Kind::Series)) => {
                    let lines = &parser.lines;
                    let labels = lines.series_labels().to_labels().unwrap_or_default();
                    out += &format!("{labels} {} {:?};", lines.value, lines.timestamp_ms);
                }
                Ok(Some(kind)) => out += &format!("{kind:?};"),
            }
        }
    }

    #[test]
    fn lines_are_read_fast_and_slow_alike() {
        let cases: &[(&[u8], &str)] = &[
            (b"a 1\n", r#"{__name__="a"} 1 None;"#),
            (b"a 1", r#"{__name__="a"} 1 None;"#),
            (b"a{b=\"c\"} 1 5\n", r#"{__name__="a", b="c"} 1 Some(5);"#),
            (b"a{ b = \"c\" ,}\t1\t5 ", r#"{__name__="a", b="c"} 1 Some(5);"#),
            (b"a{b=\"x\\\"\\n\\\\\"} 1e3\n", r#"{__name__="a", b="x\"\n\\"} 1000 None;"#),
            (b"{\"a.b\",\"c d\"=\"e\"} 1\n", r#"{__name__="a.b", "c d"="e"} 1 None;"#),
            (b"a{b=\"x\ny\"} 1\n", r#"{__name__="a", b="x\ny"} 1 None;"#),
            (b"# HELP a\n# TYPE a gauge\n#x\n\n# y\n", "Help;Type;Comment;Comment;"),
            (b"# HELPa\n# HELP\n", "Comment;Comment;"),
            (b"a 1\n\x00b 1\n", r#"{__name__="a"} 1 None;"#),
        ];
        for (body, want) in cases {
            assert_eq!(last(body), *want, "{}", quote_bytes(body));
        }
    }

    #[test]
    fn errors_are_upstreams_with_their_place() {
        let cases: &[(&[u8], &str)] = &[
            (
                b"a 1\nb x\n",
                r#"{__name__="a"} 1 None;2:3 strconv.ParseFloat: parsing "x": invalid syntax while parsing: "b x""#,
            ),
            (b"a", r#"1:2 expected value after metric, got "\n" ("INVALID") while parsing: "a\n""#),
            (
                b"a{x=\"1} 1\n",
                r#"1:5 expected label value, got "\"1} 1\n\n" ("INVALID") while parsing: "a{x=\"1} 1\n\n""#,
            ),
            (b"{x=\"1\"} 1\n", r#"1:9 metric name not set while parsing: "{x=\"1\"} 1""#),
            (b"# TYPE a b\n", r#"1:9 invalid metric type "b""#),
        ];
        for (body, want) in cases {
            assert_eq!(last(body), *want, "{}", quote_bytes(body));
        }
    }
}
