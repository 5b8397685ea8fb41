//! Results as tables for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_model::float_text::format_g;
use tsdbctl_model::symbols::{Sym, SymLabels};
use tsdbctl_promql::engine::result::MatrixSeries;
use tsdbctl_promql::engine::{Points, QueryResult, Sample, StepGrid, Value};

use super::lines::{label, label_names, points, sample_text};
use crate::table::write_table;

/// More labels than this are shown in one column.
const COLUMNS_MAX: usize = 7;

/// Characters of a line of little bars.
const SPARKS: usize = 40;

/// Writes a result: a vector in columns, a matrix in one line per series, samples one by one.
///
/// # Errors
/// If `out` fails.
pub fn write(out: &mut dyn Write, result: &QueryResult) -> io::Result<()> {
    match &result.value {
        Value::Scalar { v, .. } => writeln!(out, "{}", format_g(*v)),
        Value::String { v, .. } => writeln!(out, "{v}"),
        Value::Vector(elements) if elements.is_empty() => writeln!(out, "no series"),
        Value::Matrix { series, .. } if series.is_empty() => writeln!(out, "no series"),
        Value::Vector(elements) => {
            let layout = Layout::new(result, elements.iter().map(|e| e.labels.as_slice()));
            let rows = elements.iter().map(|e| {
                let mut row = layout.cells(result, &e.labels);
                row.push(brief(&e.sample));
                row
            });
            layout.write(out, &["value"], rows)
        }
        Value::Matrix { grid, series } => {
            if series.iter().any(|s| matches!(s.points, Points::Raw(_))) {
                return write_samples(out, result, *grid, series);
            }
            writeln!(
                out,
                "{} to {}, every {}",
                format_rfc3339_ms(grid.start),
                format_rfc3339_ms(grid.end()),
                format_duration_ms(grid.step)
            )?;
            let layout = Layout::new(result, series.iter().map(|s| s.labels.as_slice()));
            let rows = series.iter().map(|s| {
                let mut row = layout.cells(result, &s.labels);
                row.extend(summary(s, *grid));
                row
            });
            layout.write(out, &["first", "min", "max", "last", "course"], rows)
        }
    }
}

/// One line per sample, for range selectors.
fn write_samples(
    out: &mut dyn Write,
    result: &QueryResult,
    grid: StepGrid,
    series: &[MatrixSeries],
) -> io::Result<()> {
    let layout = Layout::new(result, series.iter().map(|s| s.labels.as_slice()));
    let rows = series.iter().flat_map(|s| {
        let cells = layout.cells(result, &s.labels);
        points(s, grid).into_iter().map(move |(t, sample)| {
            let mut row = cells.clone();
            row.extend([format_rfc3339_ms(t), brief(&sample)]);
            row
        })
    });
    layout.write(out, &["time", "value"], rows)
}

/// A sample in a cell; of a histogram its count, sum and number of buckets.
fn brief(sample: &Sample) -> String {
    match sample {
        Sample::Float(_) => sample_text(sample),
        Sample::Histogram(h) => {
            let buckets = h.all_bucket_iter().filter(|b| b.count != 0.0).count();
            format!("histogram: count {}, sum {}, {buckets} buckets", format_g(h.count), format_g(h.sum))
        }
    }
}

/// First, least, most and last value, and the course in little bars.
fn summary(series: &MatrixSeries, grid: StepGrid) -> Vec<String> {
    let all = points(series, grid);
    // Of histograms the counts are shown.
    let number = |sample: &Sample| match sample {
        Sample::Float(v) => *v,
        Sample::Histogram(h) => h.count,
    };
    let values: Vec<(i64, f64)> = all.iter().map(|(t, s)| (*t, number(s))).collect();
    let text = |v: Option<f64>| v.map_or_else(String::new, format_short);
    let finite = || values.iter().map(|(_, v)| *v).filter(|v| !v.is_nan());
    vec![
        text(values.first().map(|(_, v)| *v)),
        text(finite().reduce(f64::min)),
        text(finite().reduce(f64::max)),
        text(values.last().map(|(_, v)| *v)),
        sparks(&values, grid),
    ]
}

/// A number with at most six digits.
pub fn format_short(v: f64) -> String {
    let text = tsdbctl_model::float_text::format_g_precision(v, 6);
    let whole = format_g(v);
    if whole.len() <= text.len() { whole } else { text }
}

/// The means of slices of the range as bars of eight heights; a slice without values is a space.
fn sparks(values: &[(i64, f64)], grid: StepGrid) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let slices = grid.steps.clamp(1, SPARKS);
    let mut sums = vec![(0.0, 0u32); slices];
    let span = (grid.end() - grid.start + grid.step).max(1) as i128;
    for (t, v) in values.iter().filter(|(_, v)| v.is_finite()) {
        let slice =
            (i128::from(t - grid.start) * slices as i128 / span).clamp(0, slices as i128 - 1) as usize;
        sums[slice].0 += v;
        sums[slice].1 += 1;
    }
    let means: Vec<Option<f64>> = sums.iter().map(|(sum, n)| (*n > 0).then(|| sum / f64::from(*n))).collect();
    let low = means.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    means
        .iter()
        .map(|mean| match mean {
            None => ' ',
            Some(_) if high <= low => BARS[3],
            Some(v) => BARS[(((v - low) / (high - low) * 7.0).round() as usize).min(7)],
        })
        .collect()
}

/// Which labels get columns: those that differ, if they are few.
struct Layout<'a> {
    columns: Option<Vec<&'a str>>,
    common: Vec<(Sym, Sym)>,
    common_text: String,
}

impl<'a> Layout<'a> {
    fn new(result: &'a QueryResult, sets: impl Iterator<Item = &'a SymLabels> + Clone) -> Self {
        let mut counts: BTreeMap<(Sym, Sym), usize> = BTreeMap::new();
        let mut total = 0;
        for set in sets.clone() {
            total += 1;
            for pair in set {
                *counts.entry(*pair).or_default() += 1;
            }
        }
        let mut common: Vec<(Sym, Sym)> =
            counts.into_iter().filter(|(_, n)| *n == total && total > 1).map(|(pair, _)| pair).collect();
        common.sort_by_key(|(name, _)| result.symbols.resolve(*name));
        let names: Vec<&str> = label_names(&result.symbols, sets)
            .into_iter()
            .filter(|name| common.iter().all(|(n, _)| result.symbols.resolve(*n) != *name))
            .collect();
        let columns = (names.len() <= COLUMNS_MAX).then_some(names);
        Self { columns, common_text: result.labels(&common).to_string(), common }
    }

    fn cells(&self, result: &QueryResult, labels: &SymLabels) -> Vec<String> {
        match &self.columns {
            Some(names) => {
                names.iter().map(|name| label(&result.symbols, labels, name).to_string()).collect()
            }
            None => {
                let own: Vec<(Sym, Sym)> =
                    labels.iter().filter(|pair| !self.common.contains(pair)).copied().collect();
                vec![result.labels(&own).to_string()]
            }
        }
    }

    fn write(
        &self,
        out: &mut dyn Write,
        values: &[&str],
        rows: impl Iterator<Item = Vec<String>>,
    ) -> io::Result<()> {
        if !self.common.is_empty() {
            writeln!(out, "all: {}", self.common_text)?;
        }
        let mut head: Vec<&str> = match &self.columns {
            Some(names) => names.iter().map(|n| if *n == "__name__" { "metric" } else { *n }).collect(),
            None => vec!["series"],
        };
        let labels = head.len();
        head.extend(values);
        let right: Vec<usize> = (0..values.len())
            .filter(|i| !matches!(values[*i], "course" | "time"))
            .map(|i| labels + i)
            .collect();
        write_table(out, &head, rows, &right)
    }
}

/// Labels that all series of a result share; none if there is one series.
pub fn shared_labels<'a>(
    result: &'a QueryResult,
    sets: impl Iterator<Item = &'a SymLabels> + Clone,
) -> Vec<(Sym, Sym)> {
    Layout::new(result, sets).common
}
