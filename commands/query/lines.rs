//! Results as lines of text: CSV, and the lines of a dump.

use std::collections::BTreeSet;
use std::io::{self, Write};

use tsdbctl_model::duration::format_rfc3339_fixed_ms;
use tsdbctl_model::float_text::write_g;
use tsdbctl_model::symbols::{SymLabels, SymbolTable};
use tsdbctl_promql::engine::result::MatrixSeries;
use tsdbctl_promql::engine::{Points, QueryResult, Sample, StepGrid, Value};

use crate::export::write_histogram;
use crate::table::write_csv_line;

/// The samples of a matrix' series in time order.
pub fn points(series: &MatrixSeries, grid: StepGrid) -> Vec<(i64, Sample)> {
    let mut out: Vec<(i64, Sample)> = match &series.points {
        Points::Grid(column) => column
            .float_steps()
            .map(|k| (grid.time(k), Sample::Float(column.values[k])))
            .chain(
                column.histograms.iter().map(|(k, h)| (grid.time(*k as usize), Sample::Histogram(h.clone()))),
            )
            .collect(),
        Points::Raw(samples) => {
            let (f, h) = (&samples.floats, &samples.histograms);
            f.t.iter()
                .zip(&f.v)
                .map(|(t, v)| (*t, Sample::Float(*v)))
                .chain(h.t.iter().zip(&h.h).map(|(t, h)| (*t, Sample::Histogram(h.clone()))))
                .collect()
        }
    };
    out.sort_by_key(|(t, _)| *t);
    out
}

/// Appends a sample's text.
pub fn write_sample(out: &mut Vec<u8>, sample: &Sample) {
    match sample {
        Sample::Float(v) => write_g(out, *v),
        Sample::Histogram(h) => write_histogram(out, h, false),
    }
}

/// A sample's text.
pub fn sample_text(sample: &Sample) -> String {
    let mut out = Vec::new();
    write_sample(&mut out, sample);
    String::from_utf8(out).unwrap_or_default()
}

/// Names of all labels that occur, the metric name first.
pub fn label_names<'a>(symbols: &'a SymbolTable, sets: impl Iterator<Item = &'a SymLabels>) -> Vec<&'a str> {
    let names: BTreeSet<_> = sets.flatten().map(|(name, _)| *name).collect();
    let mut names: Vec<&str> = names.into_iter().map(|name| symbols.resolve(name)).collect();
    names.sort_unstable_by_key(|name| (*name != "__name__", *name));
    names
}

/// The value of the label with this name, empty where there is none.
pub fn label<'a>(symbols: &'a SymbolTable, labels: &SymLabels, name: &str) -> &'a str {
    labels.iter().find(|(n, _)| symbols.resolve(*n) == name).map_or("", |(_, v)| symbols.resolve(*v))
}

/// One line per sample: a column per label, time, value.
///
/// # Errors
/// If `out` fails.
pub fn write_csv(out: &mut dyn Write, result: &QueryResult) -> io::Result<()> {
    let symbols = &result.symbols;
    let names = match &result.value {
        Value::Scalar { .. } | Value::String { .. } => Vec::new(),
        Value::Vector(elements) => label_names(symbols, elements.iter().map(|e| e.labels.as_slice())),
        Value::Matrix { series, .. } => label_names(symbols, series.iter().map(|s| s.labels.as_slice())),
    };
    write_csv_line(out, names.iter().copied().chain(["time", "value"]))?;
    let mut line = |labels: &SymLabels, t: i64, value: String| {
        let (time, fields) =
            (format_rfc3339_fixed_ms(t), names.iter().map(|name| label(symbols, labels, name)));
        write_csv_line(out, fields.chain([time.as_str(), value.as_str()]))
    };
    match &result.value {
        Value::Scalar { t, v } => line(&[], *t, sample_text(&Sample::Float(*v))),
        Value::String { t, v } => line(&[], *t, v.clone()),
        Value::Vector(elements) => {
            elements.iter().try_for_each(|e| line(&e.labels, e.t, sample_text(&e.sample)))
        }
        Value::Matrix { grid, series } => series.iter().try_for_each(|s| {
            points(s, *grid).into_iter().try_for_each(|(t, sample)| line(&s.labels, t, sample_text(&sample)))
        }),
    }
}

/// `labels value time_ms` per sample.
///
/// # Errors
/// If `out` fails.
pub fn write_prom(out: &mut dyn Write, result: &QueryResult) -> io::Result<()> {
    let mut text = Vec::new();
    let mut line = |labels: &str, t: i64, value: &dyn Fn(&mut Vec<u8>)| {
        text.clear();
        text.extend_from_slice(labels.as_bytes());
        text.push(b' ');
        value(&mut text);
        text.push(b' ');
        text.extend_from_slice(itoa::Buffer::new().format(t).as_bytes());
        text.push(b'\n');
        out.write_all(&text)
    };
    match &result.value {
        Value::Scalar { t, v } => line("{}", *t, &|text| write_g(text, *v)),
        Value::String { t, v } => {
            line("{}", *t, &|text| text.extend_from_slice(tsdbctl_model::quote::go_quote(v).as_bytes()))
        }
        Value::Vector(elements) => elements.iter().try_for_each(|e| {
            line(&result.labels(&e.labels).to_string(), e.t, &|text| write_sample(text, &e.sample))
        }),
        Value::Matrix { grid, series } => series.iter().try_for_each(|s| {
            let labels = result.labels(&s.labels).to_string();
            points(s, *grid)
                .into_iter()
                .try_for_each(|(t, sample)| line(&labels, t, &|text| write_sample(text, &sample)))
        }),
    }
}
