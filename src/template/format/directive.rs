//! `printf`'s directives: flags, width, precision, numbers of arguments; and what it says of wrong ones.

use crate::value::Value;

use super::Printer;

/// Widths and precisions beyond this are none.
const MAX_NUMBER: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    /// `%+v`: names of fields.
    pub(super) plus_v: bool,
    /// `%#v`: Go syntax.
    pub(super) sharp_v: bool,
}

/// What `format` asks of the argument at hand.
struct Cursor<'a> {
    format: &'a str,
    at: usize,
    argument: usize,
    count: usize,
    /// Some argument was taken by its number.
    reordered: bool,
    number_is_good: bool,
}

impl Cursor<'_> {
    pub(super) fn byte(&self) -> Option<u8> {
        self.format.as_bytes().get(self.at).copied()
    }

    /// A decimal number; one that is too large takes the whole rest with it.
    pub(super) fn number(&mut self, end: usize) -> Option<usize> {
        let bytes = self.format.as_bytes();
        let mut value: Option<i64> = None;
        while self.at < end && bytes[self.at].is_ascii_digit() {
            let n = value.unwrap_or(0);
            if n > MAX_NUMBER {
                self.at = end;
                return None;
            }
            value = Some(n * 10 + i64::from(bytes[self.at] - b'0'));
            self.at += 1;
        }
        usize::try_from(value?).ok()
    }

    /// `[n]`, if there is one here. Says whether a number was read.
    pub(super) fn index(&mut self) -> bool {
        if self.byte() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let start = self.at;
        let rest = &self.format.as_bytes()[start..];
        let close = if rest.len() < 3 { None } else { rest.iter().position(|b| *b == b']') };
        let Some(close) = close else {
            self.at = start + 1;
            self.number_is_good = false;
            return false;
        };
        self.at = start + 1;
        let number = self.number(start + close);
        let complete = self.at == start + close;
        self.at = start + close + 1;
        match number {
            Some(number) if complete => {
                if number >= 1 && number <= self.count {
                    self.argument = number - 1;
                } else {
                    self.number_is_good = false;
                }
                true
            }
            _ => {
                self.number_is_good = false;
                false
            }
        }
    }

    /// The argument of a `*`.
    fn star(&mut self, arguments: &[Value]) -> Option<i64> {
        let argument = arguments.get(self.argument)?;
        self.argument += 1;
        let n = match argument {
            Value::Int(n) | Value::Sized(_, n) | Value::DurationValue(n) => *n,
            Value::Uint(n) => i64::try_from(*n).ok()?,
            _ => return None,
        };
        (-MAX_NUMBER..=MAX_NUMBER).contains(&n).then_some(n)
    }
}

impl Printer<'_> {
    pub(super) fn run(&mut self, format: &str, arguments: &[Value]) {
        let mut c = Cursor {
            format,
            at: 0,
            argument: 0,
            count: arguments.len(),
            reordered: false,
            number_is_good: true,
        };
        while c.at < format.len() && !self.is_full() {
            c.number_is_good = true;
            let plain = format[c.at..].find('%').unwrap_or(format.len() - c.at);
            self.out.push_str(&format[c.at..c.at + plain]);
            c.at += plain;
            if c.at >= format.len() {
                break;
            }
            c.at += 1;
            self.read_flags(&mut c);
            self.read_numbers(&mut c, arguments);
            let Some(verb) = format[c.at..].chars().next() else {
                self.out.push_str("%!(NOVERB)");
                break;
            };
            c.at += verb.len_utf8();
            if verb == '%' {
                self.out.push('%');
            } else if !c.number_is_good {
                self.mark(verb, "BADINDEX");
            } else if let Some(argument) = arguments.get(c.argument) {
                if matches!(verb, 'v' | 'w') {
                    self.flags.sharp_v = std::mem::take(&mut self.flags.sharp);
                    self.flags.plus_v = std::mem::take(&mut self.flags.plus);
                }
                self.argument(argument, verb);
                c.argument += 1;
            } else {
                self.mark(verb, "MISSING");
            }
        }
        if !c.reordered && c.argument < arguments.len() && !self.is_full() {
            self.extra(&arguments[c.argument..]);
        }
    }

    fn read_flags(&mut self, c: &mut Cursor<'_>) {
        self.flags = Flags::default();
        while let Some(b) = c.byte() {
            match b {
                b'#' => self.flags.sharp = true,
                b'0' => self.flags.zero = true,
                b'+' => self.flags.plus = true,
                b'-' => self.flags.minus = true,
                b' ' => self.flags.space = true,
                _ => break,
            }
            c.at += 1;
        }
    }

    /// Width and precision, with the numbers of arguments around them.
    fn read_numbers(&mut self, c: &mut Cursor<'_>, arguments: &[Value]) {
        let end = c.format.len();
        let mut after_index = c.index();
        if c.byte() == Some(b'*') {
            c.at += 1;
            match c.star(arguments) {
                Some(width) => {
                    if width < 0 {
                        self.flags.minus = true;
                        self.flags.zero = false;
                    }
                    self.flags.width = Some(width.unsigned_abs() as usize);
                }
                None => self.out.push_str("%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            self.flags.width = c.number(end);
            if after_index && self.flags.width.is_some() {
                c.number_is_good = false;
            }
        }
        if c.byte() == Some(b'.') && c.at + 1 < end {
            c.at += 1;
            if after_index {
                c.number_is_good = false;
            }
            after_index = c.index();
            if c.byte() == Some(b'*') {
                c.at += 1;
                self.flags.precision = c.star(arguments).and_then(|n| usize::try_from(n).ok());
                if self.flags.precision.is_none() {
                    self.out.push_str("%!(BADPREC)");
                }
                after_index = false;
            } else {
                self.flags.precision = Some(c.number(end).unwrap_or(0));
            }
        }
        if !after_index {
            c.index();
        }
    }

    pub(super) fn mark(&mut self, verb: char, what: &str) {
        self.out.push_str("%!");
        self.out.push(verb);
        self.out.push('(');
        self.out.push_str(what);
        self.out.push(')');
    }

    fn extra(&mut self, arguments: &[Value]) {
        self.flags = Flags::default();
        self.out.push_str("%!(EXTRA ");
        for (i, argument) in arguments.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.out.push_str(argument.go_type());
            if !matches!(argument, Value::Nil) {
                self.out.push('=');
                self.argument(argument, 'v');
            }
            if self.is_full() {
                break;
            }
        }
        self.out.push(')');
    }

    /// `%!d(float64=1.5)`; flags stay as they are.
    pub(super) fn bad_verb(&mut self, value: &Value, verb: char) {
        self.out.push_str("%!");
        self.out.push(verb);
        self.out.push('(');
        self.out.push_str(value.go_type());
        if !matches!(value, Value::Nil) {
            self.out.push('=');
            let before = std::mem::replace(&mut self.in_error, true);
            self.value(value, 'v', 0);
            self.in_error = before;
        }
        self.out.push(')');
    }
}
