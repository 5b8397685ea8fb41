//! The timeline of a backtest as SVG: a row per series, pending pale and firing dark; what a pointer rests on is told.
//!
//! Colours are those of a light page, and of a dark one where the viewer says that it is dark.

use std::fmt::Write as _;

use tsdbctl_model::Labels;
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_rules::backtest::machine::{Span, SpanState};
use tsdbctl_rules::backtest::report::{AlertReport, Report};

use crate::query::picture::Chart;
use crate::ui::counted;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 380.0;
const RIGHT: f64 = 24.0;
const ROW: f64 = 14.0;
const TOP: f64 = 76.0;

/// Most rows of one alert, least where there are many, and of all: more cannot be read.
const ROWS_PER_ALERT: usize = 12;
const ROWS_LEAST: usize = 3;
const ROWS_MAX: usize = 600;

/// Characters of a row's labels and of an alert's name that fit.
const LABELS_FIT: usize = 62;
const NAME_FITS: usize = 90;
/// Of labels that all series have, beside an alert's name that is short enough.
const SHARED_FIT: usize = 90;
const NAME_SHORT: usize = 42;

/// Pixels of the least bar, and between bars that are not drawn as one.
const BAR_LEAST: f64 = 1.0;
const BAR_GAP: f64 = 0.4;

const STYLE: &str = "<style>
svg{background:#fff}
.paper{fill:#fff}.ink{fill:#30343a}.faint{fill:#6a717b}.grid{stroke:#e3e6ea}.row{fill:#f1f3f5}
.pending{fill:#f0a860}.firing{fill:#b8433f}
@media (prefers-color-scheme:dark){svg{background:#16181c}
.paper{fill:#16181c}.ink{fill:#d8dbe0}.faint{fill:#969ca6}.grid{stroke:#33373e}.row{fill:#22252b}
.pending{fill:#d99545}.firing{fill:#e06a63}}
</style>
";

/// A file in the making.
struct Svg {
    body: String,
}

impl Svg {
    fn text(&mut self, (x, y): (f64, f64), anchor: &str, size: u32, class: &str, text: &str, more: &str) {
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" class=\"{class}\"{}>",
            if class == "ink" && size > 12 { " font-weight=\"600\"" } else { "" }
        );
        escape(&mut self.body, text);
        self.title(more);
        self.body.push_str("</text>\n");
    }

    fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, title: &str) {
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\""
        );
        if title.is_empty() {
            self.body.push_str("/>\n");
        } else {
            self.body.push('>');
            self.title(title);
            self.body.push_str("</rect>\n");
        }
    }

    fn title(&mut self, text: &str) {
        if !text.is_empty() {
            self.body.push_str("<title>");
            escape(&mut self.body, text);
            self.body.push_str("</title>");
        }
    }
}

/// The whole file.
pub fn draw(report: &Report) -> String {
    let span = (report.end_ms - report.start_ms).max(1) as f64;
    let x = |t: i64| {
        let share = (t - report.start_ms) as f64 / span;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let shown: Vec<_> =
        report.alerts.iter().filter(|a| a.series.iter().any(|s| !s.spans.is_empty())).collect();
    let rows_per_alert = (ROWS_MAX / shown.len().max(1)).clamp(ROWS_LEAST, ROWS_PER_ALERT);
    let mut rows = Svg { body: String::new() };
    let mut y = TOP;
    let (mut drawn, mut left_out) = (0, 0);
    for alert in &shown {
        if drawn >= ROWS_MAX {
            left_out += 1;
            continue;
        }
        y += 24.0;
        let tip = format!("{}\n{}\n{}", alert.name, alert.place, alert.expr.trim());
        rows.text((12.0, y), "start", 13, "ink", &cut(&alert.name, NAME_FITS), &tip);
        let sum = report.summary(alert);
        let figures = [
            counted(sum.series, "series", "series"),
            counted(sum.firing, "firing", "firings"),
            counted(sum.flaps, "flap", "flaps"),
        ];
        rows.text((WIDTH - RIGHT, y), "end", 11, "faint", &figures.join(", "), "");
        // The loudest series first.
        let mut series: Vec<_> = alert.series.iter().filter(|s| !s.spans.is_empty()).collect();
        series.sort_by_key(|s| {
            let firing = s.spans.iter().filter(|p| p.state == SpanState::Firing);
            std::cmp::Reverse(firing.map(|p| p.end_ms - p.start_ms).sum::<i64>())
        });
        // What all of them have is told once.
        let beside = alert.name.chars().count() <= NAME_SHORT;
        let shared = if beside { common(report, alert) } else { Labels::empty() };
        if !shared.is_empty() {
            let text = format!("all: {}", shared.selector_text());
            rows.text((LEFT, y), "start", 10, "faint", &cut(&text, SHARED_FIT), &text);
        }
        for one in series.iter().take(rows_per_alert) {
            y += ROW;
            drawn += 1;
            let mut labels = report.labels(one);
            let all = labels.selector_text();
            labels.remove("alertname");
            alert.labels.iter().for_each(|(name, _)| labels.remove(name));
            shared.iter().for_each(|label| labels.remove(&label.name));
            let text = if labels.is_empty() { "no other labels".to_string() } else { labels.selector_text() };
            rows.text((LEFT - 8.0, y + 3.5), "end", 10, "faint", &cut(&text, LABELS_FIT), &all);
            rows.bar((LEFT, y - 4.0), (WIDTH - LEFT - RIGHT, 8.0), "row", &all);
            for bar in bars(&one.spans, &x) {
                let class = if bar.state == SpanState::Firing { "firing" } else { "pending" };
                rows.bar((bar.from, y - 4.0), (bar.to - bar.from, 8.0), class, &bar.tip(report));
            }
        }
        if series.len() > rows_per_alert {
            y += ROW;
            let more = format!("and {} more series", series.len() - rows_per_alert);
            rows.text((LEFT - 8.0, y + 3.5), "end", 10, "faint", &more, "");
        }
    }
    let quiet = report.alerts.len() - shown.len();
    let mut notes = Vec::new();
    if left_out > 0 {
        notes.push(format!("and {} that are not drawn", counted(left_out, "more alert", "more alerts")));
    }
    match (shown.len(), quiet) {
        (_, 0) => {}
        (0, _) => notes.push("no alert was pending or firing".to_string()),
        (_, n) => notes.push(format!("{} never pending or firing", counted(n as u64, "alert", "alerts"))),
    }
    if report.alerts.is_empty() {
        notes.push("there are no alerts".to_string());
    }
    for note in notes {
        y += 26.0;
        rows.text((12.0, y), "start", 12, "faint", &note, "");
    }
    let bottom = y + 14.0;
    let height = bottom + 30.0;
    let mut out = Svg {
        body: format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"Inter, Helvetica, Arial, sans-serif\">\n{STYLE}<rect width=\"100%\" height=\"100%\" class=\"paper\"/>\n"
        ),
    };
    out.text((12.0, 28.0), "start", 15, "ink", "Alerts over stored data", "");
    let range = format!("{} to {}", format_rfc3339_ms(report.start_ms), format_rfc3339_ms(report.end_ms));
    out.text((12.0, 46.0), "start", 11, "faint", &range, "");
    out.bar((WIDTH - 186.0, 20.0), (18.0, 8.0), "pending", "");
    out.text((WIDTH - 162.0, 28.0), "start", 12, "ink", "pending", "");
    out.bar((WIDTH - 98.0, 20.0), (18.0, 8.0), "firing", "");
    out.text((WIDTH - 74.0, 28.0), "start", 12, "ink", "firing", "");
    let chart = Chart {
        lines: Vec::new(),
        common: String::new(),
        left_out: 0,
        start: report.start_ms,
        end: report.end_ms.max(report.start_ms + 1),
        low: 0.0,
        high: 1.0,
    };
    out.body.push_str(&rows.body);
    for (t, label) in chart.time_ticks(9) {
        let at = x(t);
        let _ = writeln!(
            out.body,
            "<line x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" class=\"grid\" stroke-opacity=\"0.6\"/>",
            TOP + 2.0
        );
        // A label at the edge stays on the page.
        let anchor = if at > WIDTH - RIGHT - 30.0 { "end" } else { "middle" };
        let at = if anchor == "end" { WIDTH - 4.0 } else { at };
        out.text((at, TOP - 4.0), anchor, 11, "faint", &label, "");
        out.text((at, bottom + 16.0), anchor, 11, "faint", &label, "");
    }
    out.body.push_str("</svg>\n");
    out.body
}

/// Labels that all of several series of an alert have, without those of the rule.
fn common(report: &Report, alert: &AlertReport) -> Labels {
    let mut drawn = alert.series.iter().filter(|s| !s.spans.is_empty());
    let (Some(first), Some(second)) = (drawn.next(), drawn.next()) else { return Labels::empty() };
    let mut out = report.labels(first);
    out.remove("alertname");
    alert.labels.iter().for_each(|(name, _)| out.remove(name));
    for one in std::iter::once(second).chain(drawn) {
        let labels = report.labels(one);
        let other: Vec<String> =
            out.iter().filter(|l| labels.get(&l.name) != l.value).map(|l| l.name.clone()).collect();
        other.iter().for_each(|name| out.remove(name));
        if out.is_empty() {
            break;
        }
    }
    out
}

/// One rectangle: a span, or several that are too close to be told apart.
struct Bar {
    state: SpanState,
    from: f64,
    to: f64,
    start_ms: i64,
    end_ms: i64,
    spans: usize,
}

impl Bar {
    fn tip(&self, report: &Report) -> String {
        let state = if self.state == SpanState::Firing { "firing" } else { "pending" };
        let before = if self.start_ms < report.start_ms { " (before the range)" } else { "" };
        let times =
            format!("{}{before} to {}", format_rfc3339_ms(self.start_ms), format_rfc3339_ms(self.end_ms));
        match self.spans {
            1 => format!("{state} {times}, {}", format_duration_ms((self.end_ms - self.start_ms).max(0))),
            n => format!("{state} {n} times, {times}"),
        }
    }
}

fn bars(spans: &[Span], x: &impl Fn(i64) -> f64) -> Vec<Bar> {
    let mut out: Vec<Bar> = Vec::new();
    for span in spans {
        let (from, to) = (x(span.start_ms), x(span.end_ms));
        let to = to.max(from + BAR_LEAST);
        // Bars of both states alternate: one that hides in the last of its state joins that.
        let same = out.iter_mut().rev().take(2).find(|bar| bar.state == span.state);
        match same {
            Some(bar) if from - bar.to < BAR_GAP => {
                bar.to = bar.to.max(to);
                bar.end_ms = span.end_ms;
                bar.spans += 1;
            }
            _ => out.push(Bar {
                state: span.state,
                from,
                to,
                start_ms: span.start_ms,
                end_ms: span.end_ms,
                spans: 1,
            }),
        }
    }
    // What fires is never hidden by what waits.
    out.sort_by_key(|bar| bar.state == SpanState::Firing);
    out
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_string()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

/// Appends text as XML; what XML cannot hold becomes U+FFFD.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsdbctl_model::Sym;
    use tsdbctl_rules::backtest::machine::SpanEnd;
    use tsdbctl_rules::backtest::report::SeriesReport;

    #[test]
    fn bars_too_close_to_be_told_apart_are_one() {
        let span = |state, start_ms, end_ms| Span { state, start_ms, end_ms, end: SpanEnd::Gone };
        use SpanState::{Firing, Pending};
        // One pixel a second.
        let x = |t: i64| t as f64 / 1000.0;
        let all: Vec<Span> = (0..500)
            .flat_map(|i| [span(Pending, i * 100, i * 100 + 50), span(Firing, i * 100 + 50, i * 100 + 100)])
            .chain([span(Firing, 90_000, 95_000)])
            .collect();
        let got: Vec<(SpanState, f64, f64, usize)> =
            bars(&all, &x).iter().map(|b| (b.state, b.from, b.to, b.spans)).collect();
        assert_eq!(got, [(Pending, 0.0, 50.9, 500), (Firing, 0.05, 50.95, 500), (Firing, 90.0, 95.0, 1)]);
    }

    #[test]
    fn labels_that_all_series_have_are_told_once() {
        let mut report = Report { end_ms: 3_600_000, ..Report::default() };
        let mut series = |pairs: &[(&str, &str)]| {
            let spans =
                vec![Span { state: SpanState::Firing, start_ms: 0, end_ms: 60_000, end: SpanEnd::Gone }];
            let labels: Vec<(Sym, Sym)> =
                pairs.iter().map(|(n, v)| (report.symbols.intern(n), report.symbols.intern(v))).collect();
            SeriesReport { labels, spans, ..SeriesReport::default() }
        };
        let series = vec![
            series(&[("alertname", "A"), ("job", "j"), ("route", "/a"), ("severity", "page")]),
            series(&[("alertname", "A"), ("job", "j"), ("route", "/b"), ("severity", "page")]),
        ];
        let labels = vec![("severity".to_string(), "page".to_string())];
        let alert = AlertReport { name: "A".to_string(), labels, series, ..AlertReport::default() };
        report.alerts = vec![alert.clone()];
        let drawn = draw(&report);
        for what in [
            ">all: {job=&quot;j&quot;}<",
            ">{route=&quot;/a&quot;}<",
            ">{route=&quot;/b&quot;}<",
            "job=&quot;j&quot;, route=&quot;/a&quot;",
        ] {
            assert!(drawn.contains(what), "{what}: {drawn}");
        }
        // One series keeps all that it has, and so do those of a name that leaves no room.
        report.alerts[0].series.truncate(1);
        assert!(draw(&report).contains(">{job=&quot;j&quot;, route=&quot;/a&quot;}<"));
        report.alerts = vec![AlertReport { name: "A".repeat(50), ..alert }];
        assert!(draw(&report).contains(">{job=&quot;j&quot;, route=&quot;/b&quot;}<"));
    }

    #[test]
    fn texts_stay_in_their_elements_and_long_names_are_cut() {
        let spans = vec![Span { state: SpanState::Firing, start_ms: 0, end_ms: 60_000, end: SpanEnd::Gone }];
        let alert = AlertReport {
            name: format!("<b>{}", "x".repeat(200)),
            expr: "a < 1 and\nb".to_string(),
            series: vec![SeriesReport { spans, ..SeriesReport::default() }],
            ..AlertReport::default()
        };
        let quiet = AlertReport { name: "Quiet".to_string(), ..AlertReport::default() };
        let report = Report { end_ms: 3_600_000, alerts: vec![alert, quiet], ..Report::default() };
        let drawn = draw(&report);
        assert!(!drawn.contains("<b>") && drawn.contains("&lt;b&gt;xxx") && drawn.contains("x…"), "{drawn}");
        assert!(drawn.contains("a &lt; 1 and\nb</title>"), "{drawn}");
        assert!(
            drawn.contains(">firing 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z, 1m</title>"),
            "{drawn}"
        );
        assert!(drawn.contains("1 alert never pending or firing"), "{drawn}");
    }
}
