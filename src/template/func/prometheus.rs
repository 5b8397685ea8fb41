//! The functions that Prometheus gives to the templates of rules and consoles.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tsdbctl_model::duration::parse_signed_duration_ms;
use tsdbctl_model::float_text::{format_g, parse_float};
use tsdbctl_model::quote::go_quote;
use tsdbctl_model::regexp::Search;

use super::Parameter::{Any, Sample, Samples, String as Text};
use super::go::{NIL_POINTER, checked, query_escape};
use super::{Call, Code, Form, Function, Parameter, TOO_LONG, casing};
use crate::format;
use crate::number::write_float;
use crate::time;
use crate::value::{AnyMap, SizedInt, TemplateSample, Value};

const fn function(name: &'static str, parameters: &'static [Parameter], code: Code) -> Function {
    Function { name, parameters, variadic: None, form: Form::Plain, code }
}

/// All of them.
pub static FUNCTIONS: &[Function] = &[
    function("query", &[Text], query),
    function("first", &[Samples], first),
    function("label", &[Text, Sample], label),
    function("value", &[Sample], value),
    function("strvalue", &[Sample], strvalue),
    Function { name: "args", parameters: &[], variadic: Some(Any), form: Form::Plain, code: args },
    function("reReplaceAll", &[Text, Text, Text], re_replace_all),
    function("safeHtml", &[Text], safe_html),
    function("match", &[Text, Text], matches_anywhere),
    function("title", &[Text], |call, v| checked(casing::title(text(&v, 0)), call)),
    function("toUpper", &[Text], |call, v| checked(casing::upper(text(&v, 0)), call)),
    function("toLower", &[Text], |call, v| checked(casing::lower(text(&v, 0)), call)),
    function("graphLink", &[Text], |call, v| link(call, &v, '0')),
    function("tableLink", &[Text], |call, v| link(call, &v, '1')),
    function("sortByLabel", &[Text, Samples], sort_by_label),
    function("stripPort", &[Text], |_, v| Ok(Value::text(strip_port(text(&v, 0))))),
    function("stripDomain", &[Text], |_, v| Ok(Value::text(strip_domain(text(&v, 0))))),
    function("humanize", &[Any], |_, v| number(&v).map(humanize).map(Value::text)),
    function("humanize1024", &[Any], |_, v| number(&v).map(humanize_1024).map(Value::text)),
    function("humanizeDuration", &[Any], |_, v| number(&v).map(humanize_duration).map(Value::text)),
    function("humanizePercentage", &[Any], |_, v| {
        number(&v).map(|v| Value::text(format!("{}%", four_digits(v * 100.0))))
    }),
    function("humanizeTimestamp", &[Any], humanize_timestamp),
    function("toTime", &[Any], |_, v| {
        let v = number(&v)?;
        if v.is_finite() {
            unix_ns(v).map(|ns| Value::Time(Arc::new(ns)))
        } else {
            Err("value is NaN or Inf".to_string())
        }
    }),
    function("toDuration", &[Any], |_, v| number(&v).map(|v| Value::Duration(Arc::new(go_int(v * 1e9))))),
    function("now", &[], |call, _| Ok(Value::Float(call.environment.now_ms() as f64 / 1000.0))),
    function("pathPrefix", &[], |call, _| Ok(Value::text(path_of(call.environment.external_url())))),
    function("externalURL", &[], |call, _| Ok(Value::text(call.environment.external_url()))),
    function("parseDuration", &[Text], parse_duration),
    function("urlQueryEscape", &[Text], |call, v| checked(query_escape(text(&v, 0)), call)),
];

/// The argument at `index`, which the execution has checked to be a `string`.
fn text(values: &[Value], index: usize) -> &str {
    match values.get(index) {
        Some(Value::Str(text)) => text,
        _ => "",
    }
}

fn samples(values: &[Value], index: usize) -> Arc<Vec<TemplateSample>> {
    match values.get(index) {
        Some(Value::Samples(samples)) => samples.clone(),
        _ => Arc::default(),
    }
}

fn sample(values: &[Value], index: usize) -> Result<&TemplateSample, String> {
    match values.get(index) {
        Some(Value::Sample(sample)) => Ok(sample),
        _ => Err(NIL_POINTER.to_string()),
    }
}

fn query(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    Ok(Value::Samples(Arc::new(call.environment.query(text(&values, 0))?)))
}

fn first(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    match samples(&values, 0).first() {
        Some(sample) => Ok(Value::Sample(Arc::new(sample.clone()))),
        None => Err("first() called on vector with no elements".to_string()),
    }
}

fn label(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let sample = sample(&values, 1)?;
    Ok(Value::text(sample.labels.get(text(&values, 0)).map_or("", String::as_str)))
}

fn value(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    Ok(sample(&values, 0)?.value.clone())
}

fn strvalue(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    Ok(Value::text(sample(&values, 0)?.labels.get("__value__").map_or("", String::as_str)))
}

fn args(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let map = values.into_iter().enumerate().map(|(i, value)| (format!("arg{i}"), value)).collect();
    AnyMap::new(map).map(|map| Value::AnyMap(Arc::new(map))).ok_or_else(|| TOO_LONG.to_string())
}

fn re_replace_all(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let pattern = text(&values, 0);
    let search = Search::new(pattern).map_err(|e| {
        let shown = format::printf("%#q", &[Value::text(pattern)], usize::MAX);
        format!("regexp: Compile({shown}): {e}")
    })?;
    let replaced = search.replace_all(text(&values, 2), text(&values, 1), call.limit_bytes);
    replaced.map(Value::text).ok_or_else(|| TOO_LONG.to_string())
}

fn matches_anywhere(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let search = Search::new(text(&values, 0)).map_err(|e| e.to_string())?;
    Ok(Value::Bool(search.is_match(text(&values, 1))))
}

fn safe_html(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    Ok(Value::Html(text(&values, 0).into()))
}

fn link(call: &Call<'_>, values: &[Value], tab: char) -> Result<Value, String> {
    checked(format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(text(values, 0))), call)
}

fn sort_by_label(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let label = text(&values, 0);
    let mut sorted = samples(&values, 1);
    let key = |sample: &TemplateSample| sample.labels.get(label).cloned().unwrap_or_default();
    Arc::make_mut(&mut sorted).sort_by_cached_key(key);
    Ok(Value::Samples(sorted))
}

/// Go's `net.SplitHostPort`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let colon = text.rfind(':')?;
    let (host, before_port) = if text.starts_with('[') {
        let end = text.find(']')?;
        if end + 1 != colon {
            return None;
        }
        (&text[1..end], 1)
    } else {
        let host = &text[..colon];
        if host.contains(':') {
            return None;
        }
        (host, 0)
    };
    let closed_from = if before_port == 1 { host.len() + 2 } else { 0 };
    if text[before_port..].contains('[') || text[closed_from..].contains(']') {
        return None;
    }
    Some((host, &text[colon + 1..]))
}

fn strip_port(text: &str) -> &str {
    split_host_port(text).map_or(text, |(host, _)| host)
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        return text.to_string();
    }
    let host = host.split('.').next().unwrap_or_default();
    match (port.is_empty(), host.contains(':')) {
        (true, _) => host.to_string(),
        (false, true) => format!("[{host}]:{port}"),
        (false, false) => format!("{host}:{port}"),
    }
}

/// Upstream's `ConvertToFloat`.
fn number(values: &[Value]) -> Result<f64, String> {
    match values.first().unwrap_or(&Value::Nil) {
        Value::Float(v) => Ok(*v),
        Value::Str(text) => {
            parse_float(text).map_err(|e| format!("strconv.ParseFloat: parsing {}: {e}", go_quote(text)))
        }
        Value::Int(n) | Value::Sized(SizedInt::Int64, n) => Ok(*n as f64),
        Value::Uint(n) => Ok(*n as f64),
        Value::DurationValue(ns) => Ok((ns / 1_000_000_000) as f64 + (ns % 1_000_000_000) as f64 / 1e9),
        other => Err(format!("can't convert {} to float", other.go_type())),
    }
}

/// `int64(v)` as Go on amd64 has it: what does not fit is the least number.
fn go_int(v: f64) -> i64 {
    if v >= i64::MIN as f64 && v < i64::MAX as f64 { v as i64 } else { i64::MIN }
}

/// `%.4g`
fn four_digits(v: f64) -> String {
    let mut out = String::with_capacity(12);
    write_float(&mut out, v, 'g', Some(4));
    out
}

fn scaled(mut v: f64, step: fn(f64) -> f64, prefixes: &[&str], done: fn(f64) -> bool) -> String {
    let mut prefix = "";
    for p in prefixes {
        if done(v.abs()) {
            break;
        }
        prefix = p;
        v = step(v);
    }
    four_digits(v) + prefix
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        four_digits(v)
    } else if v.abs() >= 1.0 {
        scaled(v, |v| v / 1000.0, &LARGE, |v| v < 1000.0)
    } else {
        scaled(v, |v| v * 1000.0, &SMALL, |v| v >= 1.0)
    }
}

fn humanize_1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        four_digits(v)
    } else {
        scaled(v, |v| v / 1024.0, &BINARY, |v| v < 1024.0)
    }
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return four_digits(v);
    }
    if v == 0.0 {
        return four_digits(v) + "s";
    }
    if v.abs() < 1.0 {
        return scaled(v, |v| v * 1000.0, &SMALL, |v| v >= 1.0) + "s";
    }
    let (sign, v) = if v < 0.0 { ("-", -v) } else { ("", v) };
    let whole = go_int(v);
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", four_digits(v))
    }
}

/// Nanoseconds since the epoch, cut to milliseconds.
fn unix_ns(v: f64) -> Result<i128, String> {
    let ns = v * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            format_g(v)
        ));
    }
    Ok(i128::from(go_int(ns) / 1_000_000) * 1_000_000)
}

fn humanize_timestamp(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let v = number(&values)?;
    Ok(Value::text(if v.is_finite() { time::print(unix_ns(v)?) } else { four_digits(v) }))
}

fn parse_duration(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let ms = parse_signed_duration_ms(text(&values, 0)).map_err(|e| e.to_string())?;
    Ok(Value::Float(ms.saturating_mul(1_000_000) as f64 / 1e9))
}

/// The path of a URL, percent escapes read.
fn path_of(url: &str) -> String {
    let rest = url.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.find("://") {
        Some(scheme) => {
            let host = &rest[scheme + 3..];
            host.find('/').map_or("", |slash| &host[slash..])
        }
        None => rest,
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.as_bytes();
    while let [first, tail @ ..] = left {
        let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        if *first == b'%'
            && let (Some(high), Some(low)) = (digit(tail.first()), digit(tail.get(1)))
        {
            bytes.push((high * 16 + low) as u8);
            left = &tail[2..];
        } else {
            bytes.push(*first);
            left = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
