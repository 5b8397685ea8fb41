//! Which format a `Content-Type` names. The parameters (version, charset, escaping) do not matter, but a header
//! that is no media type at all does.

use tsdbctl_model::quote::go_quote;

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics text, 0.0.1 and 1.0.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// A `Content-Type` that names no known format where there is no fallback; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentTypeError {
    /// The header's value.
    pub content_type: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Blank,
    Malformed(&'static str),
    Unsupported,
}

impl std::fmt::Display for ContentTypeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let header = go_quote(&self.content_type);
        match self.reason {
            Reason::Blank => f.write_str(
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
            ),
            Reason::Malformed(why) => {
                write!(f, "cannot parse Content-Type {header} and no fallback_scrape_protocol for target\nmime: {why}")
            }
            Reason::Unsupported => write!(
                f,
                "received unsupported Content-Type {header} and no fallback_scrape_protocol specified for target"
            ),
        }
    }
}

impl std::error::Error for ContentTypeError {}

impl Format {
    /// The format of a scrape's body, from its header, or `fallback` where the header does not say.
    ///
    /// # Errors
    /// If neither says.
    pub fn of_content_type(content_type: &str, fallback: Option<Self>) -> Result<Self, ContentTypeError> {
        let reason = if content_type.is_empty() {
            Reason::Blank
        } else {
            match media_type(content_type) {
                Err(why) => Reason::Malformed(why),
                Ok(media) => match media.as_str() {
                    "application/openmetrics-text" => return Ok(Self::OpenMetrics),
                    "application/vnd.google.protobuf" => return Ok(Self::Protobuf),
                    "text/plain" => return Ok(Self::Text),
                    _ => Reason::Unsupported,
                },
            }
        };
        fallback.ok_or_else(|| ContentTypeError { content_type: content_type.to_owned(), reason })
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b)
}

fn token(s: &str) -> (&str, &str) {
    s.split_at(s.bytes().position(|b| !is_token(b)).unwrap_or(s.len()))
}

/// The media type in lower case, if the whole header is well-formed as Go's `mime.ParseMediaType` judges it.
fn media_type(header: &str) -> Result<String, &'static str> {
    let base = header.split(';').next().unwrap_or("");
    let media = base.to_lowercase().trim().to_owned();
    let (kind, rest) = token(&media);
    if kind.is_empty() {
        return Err("no media type");
    }
    if !rest.is_empty() {
        let subtype = rest.strip_prefix('/').ok_or("expected slash after first token")?;
        let (subtype, rest) = token(subtype);
        if subtype.is_empty() {
            return Err("expected token after slash");
        }
        if !rest.is_empty() {
            return Err("unexpected content after media subtype");
        }
    }
    let mut seen: Vec<String> = Vec::new();
    let mut rest = header[base.len()..].trim_start();
    while !rest.is_empty() {
        let Some((name, after)) = parameter(rest) else {
            if rest.trim() == ";" {
                break;
            }
            return Err("invalid media parameter");
        };
        if seen.contains(&name) {
            return Err("duplicate parameter name");
        }
        seen.push(name);
        rest = after.trim_start();
    }
    Ok(media)
}

/// One `; name=value`, the name in lower case, and what follows it.
fn parameter(s: &str) -> Option<(String, &str)> {
    let (name, rest) = token(s.strip_prefix(';')?.trim_start());
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = token(rest);
        return (!value.is_empty()).then(|| (name.to_lowercase(), rest));
    };
    let bytes = quoted.as_bytes();
    let mut i = 0;
    while let Some(b) = bytes.get(i) {
        match b {
            b'"' => return Some((name.to_lowercase(), &quoted[i + 1..])),
            b'\\' if bytes.get(i + 1).is_some_and(|b| b.is_ascii() && !is_token(*b)) => i += 2,
            b'\r' | b'\n' => return None,
            _ => i += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_formats() {
        let cases = [
            ("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
            ("TEXT/PLAIN; Version=0.0.4", Some(Format::Text)),
            ("text/plain;", Some(Format::Text)),
            ("text/plain; a=\"b\\\"c\"", Some(Format::Text)),
            ("application/openmetrics-text; version=1.0.0", Some(Format::OpenMetrics)),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily",
                Some(Format::Protobuf),
            ),
            ("text/html", None),
            ("text/plain; a", None),
            ("text/plain; a=1; A=2", None),
            ("text/", None),
            ("", None),
        ];
        for (header, want) in cases {
            assert_eq!(Format::of_content_type(header, None).ok(), want, "{header}");
        }
        assert_eq!(Format::of_content_type("text/html", Some(Format::Text)), Ok(Format::Text));
    }

    #[test]
    fn refusals_say_what_upstream_says() {
        let text = |header| Format::of_content_type(header, None).unwrap_err().to_string();
        assert_eq!(
            text("text/html"),
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"
        );
        assert_eq!(
            text("text/plain; a"),
            "cannot parse Content-Type \"text/plain; a\" and no fallback_scrape_protocol for target\n\
             mime: invalid media parameter"
        );
    }
}
