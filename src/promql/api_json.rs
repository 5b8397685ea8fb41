//! The HTTP API's response bodies (`web/api/v1` upstream), written straight into bytes.

use std::io::{self, Write};

use tsdbctl_model::FloatHistogram;
use tsdbctl_model::float_text::{write_json_float, write_json_timestamp};
use tsdbctl_model::symbols::{SymLabels, SymbolTable};

use crate::engine::result::{MatrixSeries, VectorElement};
use crate::engine::{Points, QueryError, QueryResult, Sample, StepGrid, Value};

/// Which statistics go with an answer (`stats` parameter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsLevel {
    /// None.
    #[default]
    None,
    /// Totals.
    Totals,
    /// Totals, and counts per step where the query counted them.
    All,
}

/// Bytes are handed to the writer in pieces of about this size.
const FLUSH_BYTES: usize = 256 << 10;

/// Writes a JSON string; `html` also escapes `<`, `>`, `&` as Go's encoder does outside of labels.
pub fn write_string(out: &mut Vec<u8>, s: &str, html: bool) {
    out.push(b'"');
    let mut plain = 0;
    let bytes = s.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        let escape: Option<&[u8]> = match b {
            b'"' => Some(b"\\\""),
            b'\\' => Some(b"\\\\"),
            b'\n' => Some(b"\\n"),
            b'\r' => Some(b"\\r"),
            b'\t' => Some(b"\\t"),
            0..=0x1f => None,
            b'<' | b'>' | b'&' if html => None,
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..i]);
        match escape {
            Some(e) => out.extend_from_slice(e),
            None => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(b >> 4)]);
                out.push(HEX[usize::from(b & 15)]);
            }
        }
        plain = i + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn write_labels(out: &mut Vec<u8>, symbols: &SymbolTable, labels: &SymLabels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, symbols.resolve(*name), false);
        out.push(b':');
        write_string(out, symbols.resolve(*value), false);
    }
    out.push(b'}');
}

fn write_quoted_float(out: &mut Vec<u8>, v: f64) {
    out.push(b'"');
    write_json_float(out, v);
    out.push(b'"');
}

/// Writes a histogram as the API does: `{"count","sum","buckets":[[boundaries,lower,upper,count]]}`.
pub fn write_histogram(out: &mut Vec<u8>, h: &FloatHistogram) {
    out.extend_from_slice(b"{\"count\":");
    write_quoted_float(out, h.count);
    out.extend_from_slice(b",\"sum\":");
    write_quoted_float(out, h.sum);
    let mut found = false;
    for bucket in h.all_bucket_iter() {
        if bucket.count == 0.0 {
            continue;
        }
        out.extend_from_slice(if found { b"," } else { b",\"buckets\":[" });
        found = true;
        let boundaries = match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (true, true) => b'3',
            (true, false) => b'1',
            (false, true) => b'0',
            (false, false) => b'2',
        };
        out.push(b'[');
        out.push(boundaries);
        for v in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            write_quoted_float(out, v);
        }
        out.push(b']');
    }
    if found {
        out.push(b']');
    }
    out.push(b'}');
}

/// `[time,"` of every step, rendered once and copied for every series.
struct StepTexts {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl StepTexts {
    fn new(grid: StepGrid) -> Self {
        let mut it = Self { text: Vec::new(), ends: Vec::with_capacity(grid.steps) };
        for k in 0..grid.steps {
            it.text.push(b'[');
            write_json_timestamp(&mut it.text, grid.time(k));
            it.text.push(b',');
            it.ends.push(it.text.len());
        }
        it
    }

    fn at(&self, k: usize) -> &[u8] {
        let start = if k == 0 { 0 } else { self.ends[k - 1] };
        &self.text[start..self.ends[k]]
    }
}

fn write_series(out: &mut Vec<u8>, symbols: &SymbolTable, series: &MatrixSeries, steps: &StepTexts) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, symbols, &series.labels);
    let mut first = true;
    let mut more = |out: &mut Vec<u8>, key: &[u8], end: bool| {
        if end {
            if !std::mem::replace(&mut first, true) {
                out.push(b']');
            }
        } else if std::mem::replace(&mut first, false) {
            out.extend_from_slice(key);
        } else {
            out.push(b',');
        }
    };
    match &series.points {
        Points::Grid(column) => {
            for k in column.float_steps() {
                more(out, b",\"values\":[", false);
                out.extend_from_slice(steps.at(k));
                write_quoted_float(out, column.values[k]);
                out.push(b']');
            }
            more(out, b"", true);
            for (k, h) in &column.histograms {
                more(out, b",\"histograms\":[", false);
                out.extend_from_slice(steps.at(*k as usize));
                write_histogram(out, h);
                out.push(b']');
            }
            more(out, b"", true);
        }
        Points::Raw(samples) => {
            for (t, v) in samples.floats.t.iter().zip(&samples.floats.v) {
                more(out, b",\"values\":[", false);
                out.push(b'[');
                write_json_timestamp(out, *t);
                out.push(b',');
                write_quoted_float(out, *v);
                out.push(b']');
            }
            more(out, b"", true);
            for (t, h) in samples.histograms.t.iter().zip(&samples.histograms.h) {
                more(out, b",\"histograms\":[", false);
                out.push(b'[');
                write_json_timestamp(out, *t);
                out.push(b',');
                write_histogram(out, h);
                out.push(b']');
            }
            more(out, b"", true);
        }
    }
    out.push(b'}');
}

fn write_element(out: &mut Vec<u8>, symbols: &SymbolTable, element: &VectorElement) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, symbols, &element.labels);
    out.extend_from_slice(match element.sample {
        Sample::Float(_) => b",\"value\":[".as_slice(),
        Sample::Histogram(_) => b",\"histogram\":[",
    });
    write_json_timestamp(out, element.t);
    out.push(b',');
    match &element.sample {
        Sample::Float(v) => write_quoted_float(out, *v),
        Sample::Histogram(h) => write_histogram(out, h),
    }
    out.extend_from_slice(b"]}");
}

fn write_per_step(out: &mut Vec<u8>, key: &str, counts: Option<&[(i64, i64)]>) {
    let Some(counts) = counts else { return };
    out.extend_from_slice(format!(",\"{key}\":[").as_bytes());
    for (i, (t, n)) in counts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'[');
        write_json_timestamp(out, *t);
        out.extend_from_slice(format!(",{n}]").as_bytes());
    }
    out.push(b']');
}

fn write_stats(out: &mut Vec<u8>, result: &QueryResult, level: StatsLevel) {
    if level == StatsLevel::None {
        return;
    }
    let t = &result.timings;
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    let timings = [
        ("evalTotalTime", t.eval_total),
        ("resultSortTime", t.result_sort),
        ("queryPreparationTime", t.query_preparation),
        ("innerEvalTime", t.inner_eval),
        ("execQueueTime", t.exec_queue),
        ("execTotalTime", t.exec_total),
    ];
    for (i, (key, seconds)) in timings.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("\"{key}\":").as_bytes());
        write_json_float(out, *seconds);
    }
    out.extend_from_slice(b"},\"samples\":{");
    let s = &result.stats;
    out.extend_from_slice(format!("\"totalQueryableSamples\":{}", s.total_queryable_samples).as_bytes());
    let all = level == StatsLevel::All;
    write_per_step(out, "totalQueryableSamplesPerStep", s.total_per_step.as_deref().filter(|_| all));
    out.extend_from_slice(format!(",\"samplesRead\":{}", s.samples_read).as_bytes());
    write_per_step(out, "samplesReadPerStep", s.read_per_step.as_deref().filter(|_| all));
    out.extend_from_slice(format!(",\"peakSamples\":{}}}}}", s.peak_samples).as_bytes());
}

fn write_texts(out: &mut Vec<u8>, key: &str, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    out.extend_from_slice(format!(",\"{key}\":[").as_bytes());
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, text, true);
    }
    out.push(b']');
}

/// Writes the body of a successful query; `query` is its text, for the positions of annotations.
///
/// # Errors
/// If `sink` fails.
pub fn write_result(
    sink: &mut dyn Write,
    result: &QueryResult,
    query: &str,
    stats: StatsLevel,
) -> io::Result<()> {
    write_result_with(sink, result, query, stats, &[])
}

/// As [`write_result`], with warnings that are not about the expression.
///
/// # Errors
/// If `sink` fails.
pub fn write_result_with(
    sink: &mut dyn Write,
    result: &QueryResult,
    query: &str,
    stats: StatsLevel,
    more_warnings: &[String],
) -> io::Result<()> {
    let mut out = Vec::with_capacity(FLUSH_BYTES + (16 << 10));
    let symbols = &result.symbols;
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
    match &result.value {
        Value::Scalar { t, v } => {
            out.extend_from_slice(b"scalar\",\"result\":[");
            write_json_timestamp(&mut out, *t);
            out.push(b',');
            // Scalars are printed without exponent (`Scalar.MarshalJSON`).
            out.push(b'"');
            out.extend_from_slice(tsdbctl_model::float_text::format_f(*v).as_bytes());
            out.extend_from_slice(b"\"]");
        }
        Value::String { t, v } => {
            out.extend_from_slice(b"string\",\"result\":[");
            write_json_timestamp(&mut out, *t);
            out.push(b',');
            write_string(&mut out, v, true);
            out.push(b']');
        }
        Value::Vector(elements) => {
            out.extend_from_slice(b"vector\",\"result\":[");
            for (i, element) in elements.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_element(&mut out, symbols, element);
                flush_full(sink, &mut out)?;
            }
            out.push(b']');
        }
        Value::Matrix { grid, series } => {
            out.extend_from_slice(b"matrix\",\"result\":[");
            let steps = StepTexts::new(*grid);
            for (i, series) in series.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_series(&mut out, symbols, series, &steps);
                flush_full(sink, &mut out)?;
            }
            out.push(b']');
        }
    }
    write_stats(&mut out, result, stats);
    out.push(b'}');
    let (mut warnings, infos) = result.annotations.render(query, 10);
    warnings.extend_from_slice(more_warnings);
    write_texts(&mut out, "warnings", &warnings);
    write_texts(&mut out, "infos", &infos);
    out.push(b'}');
    sink.write_all(&out)
}

/// Writes the elements of a result one a line, each as the API writes it; scalars and strings have no labels.
///
/// # Errors
/// If `sink` fails.
pub fn write_lines(sink: &mut dyn Write, result: &QueryResult) -> io::Result<()> {
    let mut out = Vec::with_capacity(FLUSH_BYTES + (16 << 10));
    let symbols = &result.symbols;
    match &result.value {
        Value::Scalar { t, v } => {
            out.extend_from_slice(b"{\"metric\":{},\"value\":[");
            write_json_timestamp(&mut out, *t);
            out.push(b',');
            write_quoted_float(&mut out, *v);
            out.extend_from_slice(b"]}\n");
        }
        Value::String { t, v } => {
            out.extend_from_slice(b"{\"metric\":{},\"value\":[");
            write_json_timestamp(&mut out, *t);
            out.push(b',');
            write_string(&mut out, v, false);
            out.extend_from_slice(b"]}\n");
        }
        Value::Vector(elements) => {
            for element in elements {
                write_element(&mut out, symbols, element);
                out.push(b'\n');
                flush_full(sink, &mut out)?;
            }
        }
        Value::Matrix { grid, series } => {
            let steps = StepTexts::new(*grid);
            for series in series {
                write_series(&mut out, symbols, series, &steps);
                out.push(b'\n');
                flush_full(sink, &mut out)?;
            }
        }
    }
    sink.write_all(&out)
}

fn flush_full(sink: &mut dyn Write, out: &mut Vec<u8>) -> io::Result<()> {
    if out.len() >= FLUSH_BYTES {
        sink.write_all(out)?;
        out.clear();
    }
    Ok(())
}

/// The body of an API answer that failed.
pub fn error_body(error_type: &str, message: &str) -> Vec<u8> {
    let mut out = b"{\"status\":\"error\",\"errorType\":".to_vec();
    write_string(&mut out, error_type, true);
    out.extend_from_slice(b",\"error\":");
    write_string(&mut out, message, true);
    out.push(b'}');
    out
}

/// The body of a query that failed; wrong expressions are reported as a wrong parameter, as the API does.
pub fn query_error_body(error: &QueryError) -> Vec<u8> {
    let message = match error.kind {
        crate::engine::ErrorKind::BadData => format!("invalid parameter \"query\": {}", error.message),
        _ => error.message.clone(),
    };
    error_body(error.kind.as_str(), &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str, html: bool) -> String {
        let mut out = Vec::new();
        write_string(&mut out, s, html);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(text("a\"b\\c\n\u{1}é", false), "\"a\\\"b\\\\c\\n\\u0001é\"");
        assert_eq!(text("<&>", false), "\"<&>\"");
        assert_eq!(text("<&>", true), "\"\\u003c\\u0026\\u003e\"");
    }

    #[test]
    fn errors_name_the_parameter() {
        let body = query_error_body(&QueryError::bad_data("1:1: parse error: no"));
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"invalid parameter \\\"query\\\": 1:1: parse error: no\"}"
        );
    }
}
