//! Errors in an expression, shown with a caret under the place.

use tsdbctl_model::Span;
use tsdbctl_promql::engine::{ErrorKind, QueryError};
use tsdbctl_promql::parser::ParseError;
use tsdbctl_yaml::Source;

use crate::ui::{Tone, Ui};

/// Characters of an expression's line that are shown around the place.
const SHOWN: usize = 100;

/// Shows a query that failed.
pub fn show_query_error(ui: &mut Ui, text: &str, error: &QueryError) {
    let kind = match error.kind {
        ErrorKind::BadData | ErrorKind::Execution => "",
        ErrorKind::Timeout => " (timeout)",
        ErrorKind::Canceled => " (canceled)",
        ErrorKind::Internal => " (storage)",
    };
    ui.error(format!("{}{kind}", error.message));
    show_place(ui, text, error.span, error.hint.as_deref());
}

/// Shows a text that is no expression.
pub fn show_parse_error(ui: &mut Ui, text: &str, error: &ParseError) {
    ui.error(error.api_message(text));
    show_place(ui, text, Some(error.span), error.hint.as_deref());
}

/// Shows line `number` of a file with a mark under a place in it.
pub fn show_line(ui: &mut Ui, line: &str, number: usize, span: Span) {
    show_lines(ui, numbered_place(line, span, number));
}

/// Shows the line of a file that holds the start of a place, with a mark under it.
pub fn file_place(ui: &mut Ui, source: &Source, span: Span) {
    let (number, _) = source.line_col(span.start as usize);
    let line = source.line(number);
    // The line alone, so that a file is not gone through for each of its places.
    let at = (span.start as usize).min(source.text.len());
    let start = source.text.as_bytes()[..at].iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let within = |at: u32| (at as usize).saturating_sub(start).min(line.len());
    if line.is_empty() {
        return;
    }
    show_lines(ui, numbered_place(line, Span::new(within(span.start), within(span.end)), number));
}

fn show_lines(ui: &mut Ui, lines: Vec<String>) {
    for (i, line) in lines.into_iter().enumerate() {
        let (gutter, rest) = line.split_at(line.find('|').map_or(0, |p| p + 1));
        let tone = if i == 2 { Tone::Red } else { Tone::Bold };
        let rest = if i == 2 { ui.paint(tone, rest) } else { rest.to_string() };
        let gutter = ui.paint(Tone::Blue, gutter);
        ui.say(format!("{gutter}{rest}"));
    }
}

fn show_place(ui: &mut Ui, text: &str, span: Option<Span>, hint: Option<&str>) {
    if let Some(span) = span {
        show_lines(ui, place(text, span));
    }
    if let Some(hint) = hint {
        let word = ui.paint(Tone::Green, "hint");
        ui.say(format!("  = {word}: {hint}"));
    }
}

/// The line that holds the start of `span`, with carets under it; nothing where the span lies outside of `text`.
pub fn place(text: &str, span: Span) -> Vec<String> {
    numbered_place(text, span, 1)
}

/// As [`place`], of a text whose first line has number `first`.
fn numbered_place(text: &str, span: Span, first: usize) -> Vec<String> {
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = span.start as usize;
    if start > text.len() || text.is_empty() {
        return Vec::new();
    }
    let (start, end) = (floor(start), floor((span.end as usize).clamp(start, text.len())));
    let line_start = text[..start].rfind('\n').map_or(0, |p| p + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |p| start + p);
    let number = text[..start].matches('\n').count() + first;
    let chars = |s: &str| s.chars().count();
    let (before, marked) =
        (chars(&text[line_start..start]), chars(&text[start..end.min(line_end).max(start)]).max(1));
    // Of a long line only the part around the place.
    let skip = if before + marked > SHOWN { before.saturating_sub(SHOWN / 3) } else { 0 };
    let line: Vec<char> = text[line_start..line_end].chars().collect();
    let mut shown: String =
        line.iter().skip(skip).take(SHOWN).map(|c| if c.is_control() { ' ' } else { *c }).collect();
    if line.len() > skip + SHOWN {
        shown.push('…');
    }
    let lead = if skip > 0 { "…" } else { "" };
    let gutter = " ".repeat(number.to_string().len());
    let carets = marked.min(SHOWN - (before - skip).min(SHOWN - 1));
    // What stands before the place may be wider than its characters are many.
    let columns = |chars: &mut dyn Iterator<Item = &char>| chars.map(|c| columns(*c)).sum::<usize>();
    let blanks = columns(&mut line[skip..before].iter()) + chars(lead);
    let carets = columns(&mut line.iter().skip(before).take(carets)).max(1);
    vec![
        format!("{gutter} |"),
        format!("{number} | {lead}{shown}"),
        format!("{gutter} | {}{}", " ".repeat(blanks), "^".repeat(carets)),
    ]
}

/// Columns of a terminal that a character takes: none if it joins the one before, two if it is as wide as high.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0..0x300 => 1,
        0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x610..=0x61a | 0x64b..=0x65f => 0,
        0xe31 | 0xe34..=0xe3a | 0xe47..=0xe4e | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff => 0,
        0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_the_place() {
        let shown = |text: &str, start, end| place(text, Span::new(start, end)).join("\n");
        assert_eq!(shown("up{", 3, 3), "  |\n1 | up{\n  |    ^");
        assert_eq!(shown("rate(up)", 5, 7), "  |\n1 | rate(up)\n  |      ^^");
        assert_eq!(shown("a +\n  é é b", 9, 11), "  |\n2 |   é é b\n  |     ^");
        // Wide characters take two columns, combining ones none, a tab is shown as a blank.
        assert_eq!(shown("\u{65e5}\u{672c} + x", 9, 10), "  |\n1 | \u{65e5}\u{672c} + x\n  |        ^");
        assert_eq!(shown("e\u{301}\t\u{65e5}x", 4, 7), "  |\n1 | e\u{301} \u{65e5}x\n  |   ^^");
        assert_eq!(shown("up", 9, 9), "");
        assert_eq!(shown("", 0, 0), "");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{} + foo bar", "x".repeat(500));
        let lines = place(&text, Span::new(507, 510));
        let at = lines[2].chars().position(|c| c == '^').unwrap();
        let found: String = lines[1].chars().skip(at).take(3).collect();
        assert_eq!(found, "bar");
        assert!(lines.iter().all(|l| l.chars().count() < 130));
    }

    #[test]
    fn every_place_of_every_text_can_be_shown() {
        let text = "sum(é)\n+ \"\u{1F600}\" by";
        for start in 0..=text.len() + 2 {
            for end in start..=text.len() + 2 {
                place(text, Span::new(start, end));
            }
        }
    }
}
