//! What a chart shows, and its drawing as SVG or PNG.

use std::path::Path;

use anyhow::{Context, bail};
use tsdbctl_model::duration::civil_from_unix_seconds;
use tsdbctl_model::symbols::{Sym, SymLabels};
use tsdbctl_platform::file;
use tsdbctl_promql::engine::{QueryResult, Sample, Value};

use super::lines::points;
use super::rows::{format_short, shared_labels};

mod png;
pub mod svg;

/// Colours of lines, for pictures.
const PALETTE: [&str; 20] = [
    "#3b78c3", "#d9722e", "#3f9a53", "#b8433f", "#8661b0", "#8a6a4f", "#c76aa8", "#6f7680", "#a3a12f",
    "#2f9da6", "#8fb8ea", "#f2b27f", "#92cf9d", "#e79a96", "#bfa6dc", "#c4a98f", "#eab3d5", "#b3b9c1",
    "#d2d07a", "#86d0d6",
];

/// Colours of lines, for terminals.
pub const PALETTE_ANSI: [&str; 10] = ["34", "33", "32", "31", "35", "36", "95", "90", "93", "96"];

/// Most lines that are drawn.
const LINES_MAX: usize = 40;

/// A line: runs of points with gaps between.
pub struct Line {
    /// Its labels, the common ones left out.
    pub name: String,
    /// Points that belong together.
    pub runs: Vec<Vec<(i64, f64)>>,
}

/// What is drawn.
pub struct Chart {
    /// Lines, in the result's order.
    pub lines: Vec<Line>,
    /// Labels that all lines have, as text.
    pub common: String,
    /// Series that are not drawn because there are too many.
    pub left_out: usize,
    /// Left edge, Unix ms.
    pub start: i64,
    /// Right edge, Unix ms.
    pub end: i64,
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
}

impl Chart {
    /// The chart of a range result; of histograms the counts are drawn. `None` where there is nothing to draw.
    pub fn of(result: &QueryResult) -> Option<Self> {
        let Value::Matrix { grid, series } = &result.value else { return None };
        let sets = series.iter().map(|s| s.labels.as_slice());
        let common = shared_labels(result, sets);
        let mut lines = Vec::new();
        for s in series.iter().take(LINES_MAX) {
            let mut runs: Vec<Vec<(i64, f64)>> = Vec::new();
            let mut last: Option<i64> = None;
            for (t, sample) in points(s, *grid) {
                let v = match sample {
                    Sample::Float(v) => v,
                    Sample::Histogram(h) => h.count,
                };
                if !v.is_finite() {
                    last = None;
                    continue;
                }
                match runs.last_mut() {
                    Some(run) if last.is_some_and(|l| t - l <= grid.step) => run.push((t, v)),
                    _ => runs.push(vec![(t, v)]),
                }
                last = Some(t);
            }
            lines.push(Line { name: name(result, &s.labels, &common), runs });
        }
        let values = || lines.iter().flat_map(|l| l.runs.iter().flatten()).map(|(_, v)| *v);
        let (mut low, mut high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        // A zero that is near belongs to the picture; a flat line runs in the middle.
        if low > 0.0 && low < high * 0.4 {
            low = 0.0;
        }
        if high <= low {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        let (start, end) = (grid.start, grid.end().max(grid.start + 1));
        let left_out = series.len() - lines.len();
        let common = if common.is_empty() { String::new() } else { result.labels(&common).selector_text() };
        Some(Self { lines, common, left_out, start, end, low, high })
    }

    /// Where a point lies in the plot: 0 to 1 from the left and from the bottom.
    pub fn place(&self, t: i64, v: f64) -> (f64, f64) {
        let x = (t - self.start) as f64 / (self.end - self.start) as f64;
        let y = (v / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        (x.clamp(0.0, 1.0), y.clamp(0.0, 1.0))
    }

    /// Round values on the vertical axis, about `count` of them.
    pub fn value_ticks(&self, count: usize) -> Vec<f64> {
        let rough = (self.high / 2.0 - self.low / 2.0) * 2.0 / count.max(1) as f64;
        if !rough.is_finite() || rough <= 0.0 {
            return vec![self.low, self.high];
        }
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil();
        (0..=count * 2)
            .map(|i| (first + i as f64) * step)
            .take_while(|v| *v <= self.high)
            // 0.30000000000000004 is 0.3 here.
            .map(|v| format!("{v:.*e}", 12).parse().unwrap_or(v))
            .collect()
    }

    /// Round times on the horizontal axis, at most `count` of them, with their texts (UTC).
    pub fn time_ticks(&self, count: usize) -> Vec<(i64, String)> {
        const STEPS_S: [i64; 19] = [
            1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
            604_800, 2_592_000,
        ];
        let span = self.end - self.start;
        let step_ms = STEPS_S
            .map(|s| s * 1000)
            .into_iter()
            .find(|s| span / s <= count.max(1) as i64)
            .unwrap_or((span / count.max(1) as i64).max(1));
        let mut t = self.start.div_euclid(step_ms) * step_ms;
        if t < self.start {
            t += step_ms;
        }
        let mut out = Vec::new();
        while t <= self.end && out.len() <= count {
            let c = civil_from_unix_seconds(t.div_euclid(1000));
            out.push((
                t,
                if step_ms >= 86_400_000 {
                    format!("{:04}-{:02}-{:02}", c.year, c.month, c.day)
                } else if span > 86_400_000 {
                    format!("{:02}-{:02} {:02}:{:02}", c.month, c.day, c.hour, c.minute)
                } else if step_ms < 60_000 {
                    format!("{:02}:{:02}:{:02}", c.hour, c.minute, c.second)
                } else {
                    format!("{:02}:{:02}", c.hour, c.minute)
                },
            ));
            t += step_ms;
        }
        out
    }
}

fn name(result: &QueryResult, labels: &SymLabels, common: &[(Sym, Sym)]) -> String {
    let own: Vec<(Sym, Sym)> = labels.iter().filter(|pair| !common.contains(pair)).copied().collect();
    result.labels(&own).selector_text()
}

fn chart(result: &QueryResult) -> anyhow::Result<Chart> {
    match Chart::of(result) {
        Some(chart) => Ok(chart),
        None if matches!(result.value, Value::Matrix { .. }) => bail!("there are no series to draw"),
        None => bail!("only a range can be drawn; give --start, --end or --step"),
    }
}

/// Writes the chart as SVG.
///
/// # Errors
/// If there is nothing to draw or the file cannot be written.
pub fn write_svg(path: &Path, result: &QueryResult, title: &str) -> anyhow::Result<()> {
    let text = svg::render(&draw(&chart(result)?, title));
    file::write(path, text.as_bytes()).context("--svg")
}

/// Writes the chart as PNG.
///
/// # Errors
/// As [`write_svg`].
pub fn write_png(path: &Path, result: &QueryResult, title: &str) -> anyhow::Result<()> {
    let bytes = png::render(&draw(&chart(result)?, title))?;
    file::write(path, &bytes).context("--png")
}

/// A drawing: shapes in pixels from the upper left corner, in the order they are painted.
pub struct Drawing {
    /// Pixels across.
    pub width: f64,
    /// Pixels down.
    pub height: f64,
    /// What is on it.
    pub shapes: Vec<Shape>,
}

/// A shape.
pub enum Shape {
    /// A line through points.
    Path {
        /// Its points.
        points: Vec<(f64, f64)>,
        /// Its colour, `#rrggbb`.
        colour: &'static str,
        /// Its width.
        width: f64,
    },
    /// A line of text; `at` is on its baseline.
    Text {
        /// Where.
        at: (f64, f64),
        /// Which part of the text that is.
        anchor: Anchor,
        /// Height of the font.
        size: f64,
        /// Its colour.
        colour: &'static str,
        /// What it says.
        text: String,
    },
}

/// Which part of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

const WIDTH: f64 = 1000.0;
const PLOT_HEIGHT: f64 = 380.0;
const INK: &str = "#30343a";
const PALE: &str = "#e3e6ea";

/// Lays the chart out.
fn draw(chart: &Chart, title: &str) -> Drawing {
    const SIZE: f64 = 13.0;
    let mut shapes = Vec::new();
    let text = |at, anchor, size, text: String| Shape::Text { at, anchor, size, colour: INK, text };
    let cut = |s: &str, most: usize| -> String {
        if s.chars().count() <= most {
            s.to_string()
        } else {
            s.chars().take(most - 1).chain(['…']).collect()
        }
    };
    let (left, right, top) = (74.0, WIDTH - 24.0, 52.0);
    let bottom = top + PLOT_HEIGHT;
    shapes.push(text((left, 28.0), Anchor::Start, 15.0, cut(&title.replace(['\n', '\t'], " "), 105)));
    let at = |t: i64, v: f64| {
        let (x, y) = chart.place(t, v);
        (left + x * (right - left), bottom - y * PLOT_HEIGHT)
    };
    for v in chart.value_ticks(6) {
        let (_, y) = at(chart.start, v);
        shapes.push(Shape::Path { points: vec![(left, y), (right, y)], colour: PALE, width: 1.0 });
        shapes.push(text((left - 8.0, y + 4.5), Anchor::End, SIZE, format_short(v)));
    }
    for (t, label) in chart.time_ticks(9) {
        let (x, _) = at(t, chart.low);
        shapes.push(Shape::Path { points: vec![(x, top), (x, bottom)], colour: PALE, width: 1.0 });
        shapes.push(text((x, bottom + 20.0), Anchor::Middle, SIZE, label));
    }
    shapes.push(Shape::Path { points: vec![(left, bottom), (right, bottom)], colour: INK, width: 1.0 });
    for (i, line) in chart.lines.iter().enumerate() {
        for run in &line.runs {
            let mut points: Vec<(f64, f64)> = run.iter().map(|(t, v)| at(*t, *v)).collect();
            if let [one] = points[..] {
                points.push((one.0 + 1.0, one.1));
            }
            shapes.push(Shape::Path { points, colour: PALETTE[i % PALETTE.len()], width: 1.8 });
        }
    }
    let mut y = bottom + 50.0;
    if !chart.common.is_empty() {
        shapes.push(text((left, y), Anchor::Start, SIZE, cut(&format!("all: {}", chart.common), 130)));
        y += 20.0;
    }
    for (i, line) in chart.lines.iter().enumerate() {
        shapes.push(Shape::Path {
            points: vec![(left, y - 4.0), (left + 18.0, y - 4.0)],
            colour: PALETTE[i % PALETTE.len()],
            width: 3.0,
        });
        shapes.push(text((left + 26.0, y), Anchor::Start, SIZE, cut(&line.name, 126)));
        y += 20.0;
    }
    if chart.left_out > 0 {
        let more = format!("and {} more series that are not drawn", chart.left_out);
        shapes.push(text((left, y), Anchor::Start, SIZE, more));
        y += 20.0;
    }
    Drawing { width: WIDTH, height: y + 4.0, shapes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(low: f64, high: f64, end: i64) -> Chart {
        Chart { lines: Vec::new(), common: String::new(), left_out: 0, start: 0, end, low, high }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(chart(0.0, 0.35, 1).value_ticks(5), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(chart(-3.0, 7.0, 1).value_ticks(5), [-2.0, 0.0, 2.0, 4.0, 6.0]);
        assert!(!chart(f64::MIN, f64::MAX, 1).value_ticks(5).is_empty());
        let texts = |end| chart(0.0, 1.0, end).time_ticks(6).into_iter().map(|(_, t)| t).collect::<Vec<_>>();
        assert_eq!(texts(3_600_000), ["00:00", "00:10", "00:20", "00:30", "00:40", "00:50", "01:00"]);
        assert_eq!(texts(20_000), ["00:00:00", "00:00:05", "00:00:10", "00:00:15", "00:00:20"]);
    }
}
