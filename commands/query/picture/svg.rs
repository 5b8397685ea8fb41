//! A drawing as SVG.

use std::fmt::Write as _;

use super::{Anchor, Drawing, Shape};

/// The whole file.
pub fn render(drawing: &Drawing) -> String {
    let (width, height) = (drawing.width, drawing.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"Inter, Helvetica, Arial, sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for shape in &drawing.shapes {
        match shape {
            Shape::Path { points, colour, width } => {
                let _ = write!(
                    out,
                    "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\" points=\""
                );
                for (i, (x, y)) in points.iter().enumerate() {
                    let _ = write!(out, "{}{x:.1},{y:.1}", if i > 0 { " " } else { "" });
                }
                out.push_str("\"/>\n");
            }
            Shape::Text { at, anchor, size, colour, text } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let _ = write!(
                    out,
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\">",
                    at.0, at.1
                );
                escape(&mut out, text);
                out.push_str("</text>\n");
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Appends text as XML; what XML cannot hold becomes U+FFFD.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_element() {
        let mut out = String::new();
        escape(&mut out, "a<b>&\"\u{1}é");
        assert_eq!(out, "a&lt;b&gt;&amp;&quot;\u{fffd}é");
    }
}
