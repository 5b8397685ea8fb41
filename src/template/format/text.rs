//! Texts: padded, cut, quoted, as hexadecimal digits.

use tsdbctl_model::printable::is_print;

use crate::value::Value;

use super::Printer;
use super::directive::Flags;

impl Printer<'_> {
    pub(super) fn pad(&mut self, text: &str) {
        let Some(width) = self.flags.width else {
            self.out.push_str(text);
            return;
        };
        let missing = width.saturating_sub(text.chars().count());
        if self.flags.minus {
            self.out.push_str(text);
            self.padding(missing);
        } else {
            self.padding(missing);
            self.out.push_str(text);
        }
    }

    pub(super) fn pad_with_blanks(&mut self, text: &str) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(text);
        self.flags.zero = zero;
    }

    pub(super) fn padding(&mut self, count: usize) {
        let filler = if self.flags.zero && !self.flags.minus { '0' } else { ' ' };
        self.out.extend(std::iter::repeat_n(filler, count));
    }

    fn truncated<'t>(&self, text: &'t str) -> &'t str {
        match self.flags.precision {
            Some(count) => text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end]),
            None => text,
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        let text = self.truncated(text);
        self.pad(text);
    }

    pub(super) fn string(&mut self, value: &Value, text: &str, verb: char) {
        match verb {
            'v' if self.flags.sharp_v => self.quoted(text),
            'v' | 's' => self.text(text),
            'x' | 'X' => self.hexadecimal_text(text, verb == 'X'),
            'q' => self.quoted(text),
            _ => self.bad_verb(value, verb),
        }
    }

    fn quoted(&mut self, text: &str) {
        let text = self.truncated(text);
        if self.flags.sharp && can_backquote(text) {
            self.pad(&format!("`{text}`"));
        } else {
            self.pad(&quote(text, '"', self.flags.plus));
        }
    }

    fn hexadecimal_text(&mut self, text: &str, upper: bool) {
        let bytes = text.as_bytes();
        let bytes = &bytes[..bytes.len().min(self.flags.precision.unwrap_or(usize::MAX))];
        let Flags { space, sharp, .. } = self.flags;
        if bytes.is_empty() {
            self.padding(self.flags.width.unwrap_or(0));
            return;
        }
        let prefix = if upper { "0X" } else { "0x" };
        let mut text = String::with_capacity(bytes.len() * 2 + 2);
        for (i, byte) in bytes.iter().enumerate() {
            if space && i > 0 {
                text.push(' ');
            }
            if sharp && (space || i == 0) {
                text.push_str(prefix);
            }
            let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
            text.push(char::from(digits[usize::from(byte >> 4)]));
            text.push(char::from(digits[usize::from(byte & 15)]));
        }
        self.pad(&text);
    }
}

/// `strconv.CanBackquote`
fn can_backquote(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || (c >= ' ' && !matches!(c, '`' | '\x7f' | '\u{feff}')))
}

/// `strconv.Quote`, `QuoteToASCII`, `QuoteRune` and `QuoteRuneToASCII`.
pub(super) fn quote(text: &str, mark: char, ascii_only: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars() {
        if c == mark || c == '\\' {
            out.push('\\');
            out.push(c);
            continue;
        }
        if is_print(c) && (c.is_ascii() || !ascii_only) {
            out.push(c);
            continue;
        }
        let n = c as u32;
        let escaped = match c {
            '\x07' => "\\a".to_string(),
            '\x08' => "\\b".to_string(),
            '\x0c' => "\\f".to_string(),
            '\n' => "\\n".to_string(),
            '\r' => "\\r".to_string(),
            '\t' => "\\t".to_string(),
            '\x0b' => "\\v".to_string(),
            _ if n < 0x20 || n == 0x7f => format!("\\x{n:02x}"),
            _ if n < 0x10000 => format!("\\u{n:04x}"),
            _ => format!("\\U{n:08x}"),
        };
        out.push_str(&escaped);
    }
    out.push(mark);
    out
}
