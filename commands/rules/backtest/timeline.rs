//! The timeline of a backtest as SVG: a row per series, pending pale and firing dark.

use tsdbctl_rules::backtest::machine::SpanState;
use tsdbctl_rules::backtest::report::Report;

use crate::query::picture::{Anchor, Chart, Drawing, Shape, svg};

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 380.0;
const RIGHT: f64 = 24.0;
const ROW: f64 = 14.0;
const INK: &str = "#30343a";
const PALE: &str = "#e3e6ea";
const PENDING: &str = "#f2b27f";
const FIRING: &str = "#b8433f";

/// Most rows of one alert, and of all: more cannot be read.
const ROWS_PER_ALERT: usize = 12;
const ROWS_MAX: usize = 600;

/// The whole file.
pub fn draw(report: &Report) -> String {
    let text = |at, anchor, size, text: String| Shape::Text { at, anchor, size, colour: INK, text };
    let span = (report.end_ms - report.start_ms).max(1) as f64;
    let x = |t: i64| {
        let share = (t - report.start_ms) as f64 / span;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let mut rows: Vec<Shape> = Vec::new();
    let mut y = 60.0;
    let mut drawn = 0;
    let mut alerts_left_out = 0;
    for alert in &report.alerts {
        if alert.series.is_empty() {
            continue;
        }
        if drawn >= ROWS_MAX {
            alerts_left_out += 1;
            continue;
        }
        y += 22.0;
        rows.push(text((12.0, y), Anchor::Start, 13.0, cut(&alert.name, 48)));
        let sum = report.summary(alert);
        let figures = format!("{} series, {} firings, {} flaps", sum.series, sum.firing, sum.flaps);
        rows.push(text((WIDTH - RIGHT, y), Anchor::End, 11.0, figures));
        // The loudest series first.
        let mut series: Vec<_> = alert.series.iter().collect();
        series.sort_by_key(|s| {
            let firing = s.spans.iter().filter(|p| p.state == SpanState::Firing);
            std::cmp::Reverse(firing.map(|p| p.end_ms - p.start_ms).sum::<i64>())
        });
        for one in series.iter().take(ROWS_PER_ALERT) {
            y += ROW;
            drawn += 1;
            let mut labels = report.labels(one);
            labels.remove("alertname");
            alert.labels.iter().for_each(|(name, _)| labels.remove(name));
            rows.push(text((LEFT - 8.0, y + 3.5), Anchor::End, 10.0, cut(&labels.selector_text(), 62)));
            rows.push(line((LEFT, y), (WIDTH - RIGHT, y), PALE, 1.0));
            for part in &one.spans {
                let colour = if part.state == SpanState::Firing { FIRING } else { PENDING };
                let (from, to) = (x(part.start_ms), x(part.end_ms));
                rows.push(line((from, y), (to.max(from + 1.0), y), colour, 8.0));
            }
        }
        if series.len() > ROWS_PER_ALERT {
            y += ROW;
            let more = format!("and {} more series", series.len() - ROWS_PER_ALERT);
            rows.push(text((LEFT - 8.0, y + 3.5), Anchor::End, 10.0, more));
        }
    }
    if drawn == 0 {
        y += 22.0;
        rows.push(text((12.0, y), Anchor::Start, 13.0, "no alert was pending or firing".to_string()));
    }
    if alerts_left_out > 0 {
        y += 22.0;
        let more = format!("and {alerts_left_out} more alerts that are not drawn");
        rows.push(text((12.0, y), Anchor::Start, 13.0, more));
    }
    let bottom = y + 14.0;
    let mut shapes = vec![
        text((12.0, 28.0), Anchor::Start, 15.0, "Alerts over stored data".to_string()),
        line((WIDTH - 190.0, 24.0), (WIDTH - 172.0, 24.0), PENDING, 8.0),
        text((WIDTH - 166.0, 28.0), Anchor::Start, 12.0, "pending".to_string()),
        line((WIDTH - 100.0, 24.0), (WIDTH - 82.0, 24.0), FIRING, 8.0),
        text((WIDTH - 76.0, 28.0), Anchor::Start, 12.0, "firing".to_string()),
    ];
    let chart = Chart {
        lines: Vec::new(),
        common: String::new(),
        left_out: 0,
        start: report.start_ms,
        end: report.end_ms.max(report.start_ms + 1),
        low: 0.0,
        high: 1.0,
    };
    for (t, label) in chart.time_ticks(9) {
        shapes.push(line((x(t), 62.0), (x(t), bottom), PALE, 1.0));
        shapes.push(text((x(t), 56.0), Anchor::Middle, 11.0, label));
    }
    shapes.extend(rows);
    svg::render(&Drawing { width: WIDTH, height: bottom + 10.0, shapes })
}

fn line(from: (f64, f64), to: (f64, f64), colour: &'static str, width: f64) -> Shape {
    Shape::Path { points: vec![from, to], colour, width }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_string()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}
