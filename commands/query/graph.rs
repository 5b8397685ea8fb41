//! A line chart in the terminal, drawn with braille dots.

use std::io;

use tsdbctl_promql::engine::QueryResult;

use super::picture::{Chart, PALETTE_ANSI};
use super::rows::format_short;
use crate::ui::Ui;

/// Size of the plot, in characters.
const HEIGHT: usize = 18;

/// A canvas of 2 × 4 dots per character; each character has the colour of the line last drawn there.
struct Canvas {
    width: usize,
    dots: Vec<u8>,
    colours: Vec<usize>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, dots: vec![0; width * height], colours: vec![0; width * height] }
    }

    fn dot(&mut self, x: usize, y: usize, colour: usize) {
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let at = y / 4 * self.width + x / 2;
        if x / 2 < self.width
            && let Some(cell) = self.dots.get_mut(at)
        {
            *cell |= BITS[x % 2][y % 4];
            self.colours[at] = colour;
        }
    }

    /// All dots between two points (Bresenham's way).
    fn line(&mut self, from: (usize, usize), to: (usize, usize), colour: usize) {
        let (mut x, mut y) = (from.0 as i64, from.1 as i64);
        let (to_x, to_y) = (to.0 as i64, to.1 as i64);
        let (dx, dy) = ((to_x - x).abs(), -(to_y - y).abs());
        let (step_x, step_y) = ((to_x - x).signum(), (to_y - y).signum());
        let mut error = dx + dy;
        loop {
            self.dot(x as usize, y as usize, colour);
            if (x, y) == (to_x, to_y) {
                return;
            }
            let twice = 2 * error;
            if twice >= dy {
                error += dy;
                x += step_x;
            }
            if twice <= dx {
                error += dx;
                y += step_y;
            }
        }
    }
}

/// Writes the chart to stdout.
///
/// # Errors
/// If stdout fails.
pub fn write(ui: &mut Ui, result: &QueryResult) -> io::Result<()> {
    let Some(chart) = Chart::of(result) else { return writeln!(ui.out(), "no series to draw") };
    let colour = ui.out_is_terminal && ui.colour;
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(100usize);
    let text = render(&chart, columns.clamp(40, 300), colour);
    ui.out().write_all(text.as_bytes())
}

/// The chart as text of `columns` characters' width.
fn render(chart: &Chart, columns: usize, colour: bool) -> String {
    let ticks = chart.value_ticks(5);
    let gutter = ticks.iter().map(|v| format_short(*v).chars().count()).max().unwrap_or(0);
    let width = columns.saturating_sub(gutter + 3).max(20);
    let (dots_x, dots_y) = (width * 2 - 1, HEIGHT * 4 - 1);
    let mut canvas = Canvas::new(width, HEIGHT);
    for (i, line) in chart.lines.iter().enumerate() {
        for run in &line.runs {
            let place = |(t, v): (i64, f64)| {
                let (x, y) = chart.place(t, v);
                ((x * dots_x as f64).round() as usize, ((1.0 - y) * dots_y as f64).round() as usize)
            };
            let mut before = None;
            for point in run {
                let here = place(*point);
                canvas.line(before.unwrap_or(here), here, i);
                before = Some(here);
            }
        }
    }
    let tick_rows: Vec<(usize, f64)> = ticks
        .iter()
        .map(|v| (((1.0 - chart.place(chart.start, *v).1) * (HEIGHT - 1) as f64).round() as usize, *v))
        .collect();
    let mut out = String::new();
    for row in 0..HEIGHT {
        let label = tick_rows.iter().find(|(r, _)| *r == row).map(|(_, v)| format_short(*v));
        out.push_str(&format!(
            "{:>gutter$} {}",
            label.as_deref().unwrap_or(""),
            if label.is_some() { '┤' } else { '│' }
        ));
        let mut line = String::new();
        let mut current = None;
        for x in 0..width {
            let at = row * width + x;
            let dots = canvas.dots[at];
            if colour && dots != 0 && current != Some(canvas.colours[at]) {
                current = Some(canvas.colours[at]);
                line.push_str(&format!("\x1b[{}m", PALETTE_ANSI[canvas.colours[at] % PALETTE_ANSI.len()]));
            }
            line.push(if dots == 0 { ' ' } else { char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ') });
        }
        out.push_str(line.trim_end());
        if current.is_some() {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
    }
    out.push_str(&format!("{:>gutter$} └{}\n", "", "─".repeat(width)));
    let mut axis: Vec<char> = vec![' '; gutter + 2 + width];
    let mut free_from = 0;
    for (t, text) in chart.time_ticks((width / 14).max(2)) {
        let centre = gutter + 2 + (chart.place(t, chart.low).0 * (width - 1) as f64).round() as usize;
        let from = centre.saturating_sub(text.chars().count() / 2).min(axis.len().saturating_sub(text.len()));
        if from < free_from {
            continue;
        }
        free_from = from + text.len() + 2;
        for (i, c) in text.chars().enumerate() {
            if let Some(cell) = axis.get_mut(from + i) {
                *cell = c;
            }
        }
    }
    out.push_str(axis.into_iter().collect::<String>().trim_end());
    out.push('\n');
    if !chart.common.is_empty() {
        out.push_str(&format!("all: {}\n", chart.common));
    }
    for (i, line) in chart.lines.iter().enumerate() {
        let mark = if colour {
            format!("\x1b[{}m⠤⠤\x1b[0m", PALETTE_ANSI[i % PALETTE_ANSI.len()])
        } else {
            "⠤⠤".to_string()
        };
        out.push_str(&format!("{mark} {}\n", line.name));
    }
    if chart.left_out > 0 {
        out.push_str(&format!("and {} more series that are not drawn\n", chart.left_out));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hit_both_ends() {
        let mut canvas = Canvas::new(2, 1);
        canvas.line((0, 3), (3, 0), 0);
        assert_eq!(canvas.dots, [0x40 | 0x20, 0x02 | 0x08]);
        canvas.line((9, 9), (9, 9), 0);
    }
}
