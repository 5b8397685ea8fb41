//! One JSON object per line: the lines of VictoriaMetrics' export, of `query -o ndjson`, and simple ones.
//!
//! ```text
//! {"metric":{"__name__":"a","x":"y"},"values":[1,2.5],"timestamps":[1700000000000,1700000015000]}
//! {"metric":{…},"values":[[1700000000.5,"1"],[1700000015.5,"NaN"]]}      {"metric":{…},"value":[1700000000.5,"1"]}
//! {"labels":{…},"timestamp":1700000000000,"value":1}                     {"name":"a","value":1}
//! ```
//!
//! Numbers may be strings, `null` is NaN, as are the bare `NaN` and `+Inf` of older exports; pairs count seconds, as the HTTP API does.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use tsdbctl_model::float_text::parse_float;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::normal_nan;

use super::input::{Input, More};
use super::run::{Line as ShownLine, Run};
use super::sink::Stop;
use super::times::TimeUnit;

/// A line may have this many bytes.
const LINE_MAX: usize = 64 << 20;
/// Not one of the other formats' classes.
const CLASS: u64 = 2 << 32;

/// A number, or a text that is one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number {
    value: f64,
    /// Whole numbers keep all their digits.
    whole: Option<i64>,
}

impl Number {
    fn time_ms(self, unit: TimeUnit) -> Option<i64> {
        match self.whole {
            Some(n) => unit.number_ms(itoa::Buffer::new().format(n)),
            None => unit.number_ms(&self.value.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_i64<E>(self, v: i64) -> Result<Number, E> {
                Ok(Number { value: v as f64, whole: Some(v) })
            }
            fn visit_u64<E>(self, v: u64) -> Result<Number, E> {
                Ok(Number { value: v as f64, whole: i64::try_from(v).ok() })
            }
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number { value, whole: None })
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number { value: normal_nan(), whole: None })
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Number, E> {
                let value = match v {
                    "Infinity" | "+Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => parse_float(v).map_err(|_| E::custom(format!("{v:?} is no number")))?,
                };
                let value = if value.is_nan() { normal_nan() } else { value };
                Ok(Number { value, whole: v.parse().ok() })
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// A timestamp: a number, or RFC 3339.
#[derive(Clone, Debug)]
enum Time {
    Number(Number),
    Text(String),
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a timestamp")
            }
            fn visit_i64<E>(self, v: i64) -> Result<Time, E> {
                Ok(Time::Number(Number { value: v as f64, whole: Some(v) }))
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Time, E> {
                let whole = i64::try_from(v).map_err(|_| E::custom("a timestamp out of range"))?;
                Ok(Time::Number(Number { value: v as f64, whole: Some(whole) }))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Time, E> {
                Ok(Time::Number(Number { value, whole: None }))
            }
            fn visit_str<E>(self, v: &str) -> Result<Time, E> {
                Ok(Time::Text(v.to_owned()))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl Time {
    fn ms(&self, unit: TimeUnit) -> Option<i64> {
        match self {
            Self::Number(n) => n.time_ms(unit),
            Self::Text(text) => unit.parse_ms(text),
        }
    }
}

/// A value alone, or with its time in front of it, Unix ms. Small: a line may have millions.
#[derive(Clone, Debug)]
enum Point {
    Value(f64),
    Pair(i64, f64),
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Point;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a pair of time and value")
            }
            fn visit_i64<E>(self, v: i64) -> Result<Point, E> {
                Ok(Point::Value(v as f64))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Point, E> {
                Ok(Point::Value(v as f64))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Point, E> {
                Ok(Point::Value(v))
            }
            fn visit_unit<E>(self) -> Result<Point, E> {
                Ok(Point::Value(normal_nan()))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Point, E> {
                let number = Number::deserialize(serde::de::value::StrDeserializer::new(v))?;
                Ok(Point::Value(number.value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Point, A::Error> {
                let short = || A::Error::custom("a pair has a time and a value");
                let t: Number = seq.next_element()?.ok_or_else(short)?;
                let v: Number = seq.next_element()?.ok_or_else(short)?;
                if seq.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(short());
                }
                let t = t.time_ms(TimeUnit::S).ok_or_else(|| A::Error::custom(RANGE))?;
                Ok(Point::Pair(t, v.value))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Labels in the order of the line.
#[derive(Clone, Debug, Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    pairs.push((name.0, value.0));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(V)
    }
}

#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow, default, alias = "labels")]
    metric: Pairs<'a>,
    #[serde(borrow, default, alias = "__name__")]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    values: Vec<Point>,
    #[serde(default)]
    timestamps: Vec<Time>,
    value: Option<Point>,
    timestamp: Option<Time>,
    #[serde(alias = "histograms")]
    histogram: Option<serde::de::IgnoredAny>,
}

/// Reads lines until the input ends.
///
/// # Errors
/// If reading stops before.
pub fn read(input: &mut Input, unit: TimeUnit, run: &mut Run<'_>) -> Result<(), Stop> {
    let mut number = 0;
    let mut searched = 0;
    loop {
        let bytes = input.bytes();
        let end = memchr::memchr(b'\n', &bytes[searched.min(bytes.len())..]).map(|p| searched + p);
        let (length, used) = match end {
            Some(end) => (end, end + 1),
            None if input.is_complete() && bytes.is_empty() => return Ok(()),
            None if input.is_complete() => (bytes.len(), bytes.len()),
            None if bytes.len() > LINE_MAX => {
                let name = &input.name;
                return Err(Stop::Failed(anyhow::anyhow!("{name}: a line of more than {LINE_MAX} bytes")));
            }
            None => {
                searched = bytes.len();
                if run.more(input)? == More::Bytes {
                    continue;
                }
                continue;
            }
        };
        searched = 0;
        number += 1;
        if number % 1024 == 0 {
            run.check()?;
        }
        let line = &bytes[..length];
        if !line.trim_ascii().is_empty()
            && let Err((reason, column)) = read_line(line, unit, run)?
        {
            let place = format!("{}:{number}:{}", input.name, column + 1);
            run.unreadable(&place, &reason, Some(ShownLine { text: line, number, column }))?;
        }
        input.check()?;
        input.consume(used);
    }
}

/// The inner error is about the line, with its column from 0.
fn read_line(line: &[u8], unit: TimeUnit, run: &mut Run<'_>) -> Result<Result<(), (String, usize)>, Stop> {
    let quoted;
    let parsed: Line<'_> = match serde_json::from_slice(line) {
        Ok(parsed) => parsed,
        Err(e) => {
            quoted = with_quoted_words(line);
            if let Some(parsed) = quoted.as_ref().and_then(|line| serde_json::from_slice(line).ok()) {
                return read_parsed(&parsed, unit, run);
            }
            let text = e.to_string();
            let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |p| p.0).to_owned();
            return Ok(Err((reason, e.column().saturating_sub(1).min(line.len()))));
        }
    };
    read_parsed(&parsed, unit, run)
}

/// The line with quotes around numbers that JSON has no way to write, if there are such.
fn with_quoted_words(line: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut in_text, mut escaped) = (Vec::new(), false, false);
    let (mut from, mut at) = (0, 0);
    while at < line.len() {
        let b = line[at];
        if in_text {
            in_text = b != b'"' || escaped;
            escaped = b == b'\\' && !escaped;
        } else if b == b'"' {
            in_text = true;
        } else {
            let words = ["NaN", "Infinity", "Inf"];
            let digits = usize::from(matches!(b, b'+' | b'-'));
            if let Some(word) = words.iter().find(|word| line[at + digits..].starts_with(word.as_bytes())) {
                let end = at + digits + word.len();
                out.extend_from_slice(&line[from..at]);
                out.push(b'"');
                out.extend_from_slice(&line[at..end]);
                out.push(b'"');
                (from, at) = (end, end);
                continue;
            }
        }
        at += 1;
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(&line[from..]);
    Some(out)
}

fn read_parsed(
    parsed: &Line<'_>,
    unit: TimeUnit,
    run: &mut Run<'_>,
) -> Result<Result<(), (String, usize)>, Stop> {
    let wrong = |reason: &str| Ok(Err((reason.to_owned(), 0)));
    let points = match points_of(parsed, unit) {
        Ok(points) => points,
        Err(reason) => return wrong(reason),
    };
    let scratch = &mut run.sink.scratch;
    scratch.clear();
    if let Some(name) = &parsed.name {
        scratch.push(METRIC_NAME, name);
    }
    for (name, value) in &parsed.metric.0 {
        scratch.push(name, value);
    }
    let known = run.sink.series_of_scratch(CLASS);
    let now_ms = run.now_ms();
    if run.needs_times && points.iter().any(|p| p.0.is_none()) {
        return wrong("a sample without a time; --timestamp gives one");
    }
    for (t, v) in points {
        run.sink.float(known, t.unwrap_or(now_ms), v, 0);
        run.sink.check()?;
    }
    Ok(Ok(()))
}

const RANGE: &str = "a timestamp that is none, or out of range";

fn time_of(t: &Time, unit: TimeUnit) -> Result<i64, &'static str> {
    let ms = t.ms(unit).ok_or(RANGE)?;
    if matches!(t, Time::Number(_)) && unit.is_doubtful(ms) {
        return Err("a timestamp that is hardly milliseconds; --timestamp-unit says what it counts");
    }
    Ok(ms)
}

fn points_of(line: &Line<'_>, unit: TimeUnit) -> Result<Vec<(Option<i64>, f64)>, &'static str> {
    if line.histogram.is_some() {
        return Err("histograms cannot be read from JSON lines; use protobuf or remote write");
    }
    let mut points = Vec::with_capacity(line.values.len() + 1);
    if !line.timestamps.is_empty() && line.timestamps.len() != line.values.len() {
        return Err("values and timestamps are not as many");
    }
    if line.timestamps.is_empty() && line.values.iter().filter(|p| matches!(p, Point::Value(_))).count() > 1 {
        return Err("values without timestamps");
    }
    for (i, point) in line.values.iter().enumerate() {
        points.push(match (point, line.timestamps.get(i)) {
            (Point::Pair(t, v), None) => (Some(*t), *v),
            (Point::Pair(..), Some(_)) => return Err("pairs have their timestamps"),
            (Point::Value(v), Some(t)) => (Some(time_of(t, unit)?), *v),
            (Point::Value(v), None) => (None, *v),
        });
    }
    match &line.value {
        Some(Point::Pair(t, v)) => points.push((Some(*t), *v)),
        Some(Point::Value(v)) => {
            let t = line.timestamp.as_ref().map(|t| time_of(t, unit)).transpose()?;
            points.push((t, *v));
        }
        None if points.is_empty() => return Err("no value"),
        None => {}
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_all_their_forms() {
        let read = |text: &str| -> String {
            match serde_json::from_str::<Line<'_>>(text) {
                Ok(line) => {
                    format!("{:?} {:?} {:?}", line.name, line.metric.0, points_of(&line, TimeUnit::Ms))
                }
                Err(e) => e.to_string(),
            }
        };
        for (text, want) in [
            (
                r#"{"metric":{"__name__":"a","x":"y\n"},"values":[1,2.5,null],"timestamps":[1,2,3]}"#,
                r#"None [("__name__", "a"), ("x", "y\n")] Ok([(Some(1), 1.0), (Some(2), 2.5), (Some(3), NaN)])"#,
            ),
            (
                r#"{"metric":{},"values":[[1700000000.5,"1"],[2,"+Inf"]]}"#,
                "None [] Ok([(Some(1700000000500), 1.0), (Some(2000), inf)])",
            ),
            (
                r#"{"name":"a","labels":{"x":"y"},"timestamp":"1970-01-01T00:00:01Z","value":"0.1"}"#,
                r#"Some("a") [("x", "y")] Ok([(Some(1000), 0.1)])"#,
            ),
            (r#"{"name":"a","value":1e3,"more":[{}]}"#, r#"Some("a") [] Ok([(None, 1000.0)])"#),
            (
                r#"{"values":[1],"timestamps":[1,2]}"#,
                r#"None [] Err("values and timestamps are not as many")"#,
            ),
            (r#"{"values":[1,2]}"#, r#"None [] Err("values without timestamps")"#),
            (r#"{"metric":{}}"#, r#"None [] Err("no value")"#),
            (
                r#"{"value":1,"timestamp":1e300}"#,
                r#"None [] Err("a timestamp that is none, or out of range")"#,
            ),
            (r#"{"value":"x"}"#, "\"x\" is no number at line 1 column 12"),
            (r#"{"value":1"#, "EOF while parsing an object at line 1 column 10"),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
    }

    #[test]
    fn bare_words_get_quotes() {
        for (line, want) in [
            (r#"{"values":[NaN,-Inf,+Inf,1]}"#, Some(r#"{"values":["NaN","-Inf","+Inf",1]}"#)),
            (r#"{"a\"NaN":"Inf","value":Infinity"#, Some(r#"{"a\"NaN":"Inf","value":"Infinity""#)),
            (r#"{"a":"NaN\\"}+"#, None),
            ("", None),
        ] {
            let got = with_quoted_words(line.as_bytes());
            assert_eq!(got, want.map(|want| want.as_bytes().to_vec()), "{line}");
        }
    }

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        for v in [0.1, 1.0 / 3.0, 5e-324, f64::MAX, 0.000_123_456_789_012_345_68] {
            let text = format!("{{\"value\":{v:?}}}");
            let line: Line<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(points_of(&line, TimeUnit::Ms), Ok(vec![(None, v)]));
        }
    }
}
