//! Go's package fmt: how values print, and `printf`.
//!
//! An address prints as `0x0`: what Go prints there differs from run to run.

use tsdbctl_model::duration::format_go_duration_ns;
use tsdbctl_model::printable::is_print;

use crate::histogram;
use crate::number::write_float;
use crate::time;
use crate::value::{Kind, SizedInt, TemplateSample, Value};

/// Appends what `fmt.Fprint` prints of one value: `%v`. A pointer to a sample prints as `&{…}`.
/// Stops once `out` holds more than `limit_bytes`, which the caller has to look at.
pub fn print(value: &Value, out: &mut String, limit_bytes: usize) {
    match value {
        Value::Str(s) | Value::Html(s) => out.push_str(s),
        Value::Int(n) => write_decimal(out, *n),
        Value::Float(f) => write_float(out, *f, 'g', None),
        other => Printer::new(out, limit_bytes).argument(other, 'v'),
    }
}

/// As [`print()`], a pointer by what it points at (`{…}` for a sample), as an action of a template prints it.
/// [`Value::Nil`] is `<no value>`.
pub fn print_indirect(value: &Value, out: &mut String, limit_bytes: usize) {
    match value {
        Value::Nil => out.push_str("<no value>"),
        Value::Sample(sample) => Printer::new(out, limit_bytes).sample(sample, 'v', 0),
        other => print(other, out, limit_bytes),
    }
}

/// `fmt.Sprintf`, stopping once the text is longer than `limit_bytes`.
pub fn printf(format: &str, arguments: &[Value], limit_bytes: usize) -> String {
    let mut out = String::with_capacity(format.len() + 16);
    Printer::new(&mut out, limit_bytes).run(format, arguments);
    out
}

/// `fmt.Sprint`: blanks between two values neither of which is a string.
pub fn sprint(arguments: &[Value], limit_bytes: usize) -> String {
    let mut out = String::new();
    let mut previous_is_text = true;
    for argument in arguments {
        let is_text = argument.kind() == Kind::String;
        if !is_text && !previous_is_text {
            out.push(' ');
        }
        print(argument, &mut out, limit_bytes);
        previous_is_text = is_text;
        if out.len() > limit_bytes {
            break;
        }
    }
    out
}

/// `fmt.Sprintln`: blanks between all values, and a line break.
pub fn sprintln(arguments: &[Value], limit_bytes: usize) -> String {
    let mut out = String::new();
    for (i, argument) in arguments.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        print(argument, &mut out, limit_bytes);
        if out.len() > limit_bytes {
            return out;
        }
    }
    out.push('\n');
    out
}

fn write_decimal(out: &mut String, n: i64) {
    use std::fmt::Write as _;
    let _ = write!(out, "{n}");
}

/// Widths and precisions beyond this are none.
const MAX_NUMBER: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    width: Option<usize>,
    precision: Option<usize>,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v`: names of fields.
    plus_v: bool,
    /// `%#v`: Go syntax.
    sharp_v: bool,
}

struct Printer<'a> {
    out: &'a mut String,
    limit_bytes: usize,
    flags: Flags,
    /// Within the text about a wrong verb, where no method is asked.
    in_error: bool,
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
    fn byte(&self) -> Option<u8> {
        self.format.as_bytes().get(self.at).copied()
    }

    /// A decimal number; one that is too large takes the whole rest with it.
    fn number(&mut self, end: usize) -> Option<usize> {
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
    fn index(&mut self) -> bool {
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

impl<'a> Printer<'a> {
    fn new(out: &'a mut String, limit_bytes: usize) -> Self {
        Self { out, limit_bytes, flags: Flags::default(), in_error: false }
    }

    fn is_full(&self) -> bool {
        self.out.len() > self.limit_bytes
    }

    fn run(&mut self, format: &str, arguments: &[Value]) {
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

    fn mark(&mut self, verb: char, what: &str) {
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
    fn bad_verb(&mut self, value: &Value, verb: char) {
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

    /// An argument of `printf` or `print`.
    fn argument(&mut self, value: &Value, verb: char) {
        match verb {
            'v' | 'T' if matches!(value, Value::Nil) => self.pad("<nil>"),
            _ if matches!(value, Value::Nil) => self.bad_verb(value, verb),
            'T' => self.text(value.go_type()),
            'p' => match value.kind() {
                Kind::Map | Kind::Slice | Kind::Pointer => self.address('p', value),
                _ => self.bad_verb(value, verb),
            },
            'w' => self.bad_verb(value, verb),
            _ => {
                if let Some(text) = self.method(value, verb) {
                    self.text_of_method(value, &text, verb);
                } else {
                    self.value(value, verb, 0);
                }
            }
        }
    }

    /// What the methods `String` and `GoString` give, where `verb` makes Go ask for them.
    fn method(&self, value: &Value, verb: char) -> Option<String> {
        if self.in_error {
            return None;
        }
        if self.flags.sharp_v {
            return match value {
                Value::Time(ns) | Value::TimeValue(ns) => Some(time::go_string(*ns)),
                _ => None,
            };
        }
        if !matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') {
            return None;
        }
        match value {
            Value::Time(ns) | Value::TimeValue(ns) => Some(time::print(*ns)),
            Value::Duration(ns) | Value::DurationValue(ns) => Some(format_go_duration_ns(*ns)),
            Value::Sized(SizedInt::Month, n) => Some(time::month_name(*n)),
            Value::Sized(SizedInt::Weekday, n) => Some(time::weekday_name(*n)),
            Value::Histogram(h) => Some(h.to_string()),
            _ => None,
        }
    }

    fn text_of_method(&mut self, value: &Value, text: &str, verb: char) {
        if self.flags.sharp_v {
            self.text(text);
        } else {
            self.string(value, text, verb);
        }
    }

    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if self.is_full() {
            return;
        }
        if depth > 0
            && let Some(text) = self.method(value, verb)
        {
            self.text_of_method(value, &text, verb);
            return;
        }
        match value {
            Value::Nil => self.out.push_str(if self.flags.sharp_v { "interface {}(nil)" } else { "<nil>" }),
            Value::Bool(b) => match verb {
                't' | 'v' => self.pad(if *b { "true" } else { "false" }),
                _ => self.bad_verb(value, verb),
            },
            Value::Int(n) | Value::DurationValue(n) => self.integer(value, *n as u64, true, verb),
            Value::Sized(sized, n) => self.integer(value, *n as u64, !sized.is_unsigned(), verb),
            Value::Uint(n) => self.integer(value, *n, false, verb),
            Value::Float(f) => self.float(value, *f, verb),
            Value::Complex(re, im) => self.complex(value, *re, *im, verb),
            Value::Str(s) | Value::Html(s) => self.string(value, s, verb),
            Value::StrMap(map) => {
                let entries = map.iter().map(|(k, v)| (k.as_str(), Value::text(v.as_str())));
                self.map(value, entries, verb, depth);
            }
            Value::AnyMap(map) => {
                let entries = map.iter().map(|(k, v)| (k.as_str(), v.clone()));
                self.map(value, entries, verb, depth);
            }
            Value::List(list) => self.list(value, list.iter().cloned(), verb, depth),
            Value::Slice(slice) => self.list(value, slice.elements.iter().cloned(), verb, depth),
            Value::Samples(samples) => {
                self.list(
                    value,
                    samples.iter().map(|s| Value::Sample(std::sync::Arc::new(s.clone()))),
                    verb,
                    depth,
                );
            }
            Value::Struct(data) => {
                let fields = data.fields.iter().map(|f| (f.name, f.value.clone()));
                self.structure(data.go_type, fields, verb, depth);
            }
            Value::TimeValue(ns) => self.time_fields(*ns, verb),
            Value::Sample(sample) if depth == 0 => {
                self.out.push('&');
                self.sample(sample, verb, 1);
            }
            Value::Histogram(h) if depth == 0 => {
                self.out.push('&');
                let data = histogram::fields(h);
                self.structure(data.go_type, data.fields.into_iter().map(|f| (f.name, f.value)), verb, 1);
            }
            Value::Time(ns) if depth == 0 => {
                self.out.push('&');
                self.time_fields(*ns, verb);
            }
            Value::Sample(_) | Value::Histogram(_) | Value::Time(_) | Value::Duration(_) => {
                self.address(verb, value);
            }
        }
    }

    fn sample(&mut self, sample: &TemplateSample, verb: char, depth: usize) {
        let fields =
            [("Labels", Value::StrMap(sample.labels.clone())), ("Value", sample.value.clone())].into_iter();
        self.structure("template.sample", fields, verb, depth);
    }

    /// The inside of a `time.Time`: UTC, without a monotonic reading.
    fn time_fields(&mut self, unix_ns: i128, verb: char) {
        const YEAR_1_TO_1970_SECONDS: i128 = 62_135_596_800;
        let nanosecond = unix_ns.rem_euclid(time::SECOND_NS) as u64;
        let seconds = unix_ns.div_euclid(time::SECOND_NS) + YEAR_1_TO_1970_SECONDS;
        if self.flags.sharp_v {
            self.out.push_str("time.Time");
        }
        self.out.push('{');
        self.field_name("wall");
        self.value(&Value::Uint(nanosecond), verb, 2);
        self.separator(1);
        self.field_name("ext");
        self.value(&Value::Sized(SizedInt::Int64, seconds as i64), verb, 2);
        self.separator(2);
        self.field_name("loc");
        match verb {
            'v' if self.flags.sharp_v => self.out.push_str("(*time.Location)(nil)"),
            'v' => self.pad("<nil>"),
            'b' | 'o' | 'd' | 'x' | 'X' => self.integer(&Value::Nil, 0, false, verb),
            _ => {
                self.mark_open(verb, "*time.Location");
                self.pad("<nil>");
                self.out.push(')');
            }
        }
        self.out.push('}');
    }

    fn mark_open(&mut self, verb: char, go_type: &str) {
        self.out.push_str("%!");
        self.out.push(verb);
        self.out.push('(');
        self.out.push_str(go_type);
        self.out.push('=');
    }

    fn field_name(&mut self, name: &str) {
        if self.flags.plus_v || self.flags.sharp_v {
            self.out.push_str(name);
            self.out.push(':');
        }
    }

    fn separator(&mut self, index: usize) {
        if index > 0 {
            self.out.push_str(if self.flags.sharp_v { ", " } else { " " });
        }
    }

    fn map<'m>(
        &mut self,
        value: &Value,
        entries: impl Iterator<Item = (&'m str, Value)>,
        verb: char,
        depth: usize,
    ) {
        if self.flags.sharp_v {
            self.out.push_str(value.go_type());
            self.out.push('{');
        } else {
            self.out.push_str("map[");
        }
        for (i, (key, value)) in entries.enumerate() {
            self.separator(i);
            self.value(&Value::text(key), verb, depth + 1);
            self.out.push(':');
            self.value(&value, verb, depth + 1);
            if self.is_full() {
                break;
            }
        }
        self.out.push(if self.flags.sharp_v { '}' } else { ']' });
    }

    fn list(
        &mut self,
        value: &Value,
        elements: impl ExactSizeIterator<Item = Value>,
        verb: char,
        depth: usize,
    ) {
        let go_syntax = self.flags.sharp_v;
        if go_syntax {
            self.out.push_str(value.go_type());
            // The slices of a histogram are nil where they are empty.
            if matches!(value, Value::Slice(_)) && elements.len() == 0 {
                self.out.push_str("(nil)");
                return;
            }
        }
        self.out.push(if go_syntax { '{' } else { '[' });
        for (i, element) in elements.enumerate() {
            self.separator(i);
            self.value(&element, verb, depth + 1);
            if self.is_full() {
                break;
            }
        }
        self.out.push(if go_syntax { '}' } else { ']' });
    }

    fn structure(
        &mut self,
        go_type: &str,
        fields: impl Iterator<Item = (&'static str, Value)>,
        verb: char,
        depth: usize,
    ) {
        if self.flags.sharp_v {
            self.out.push_str(go_type);
        }
        self.out.push('{');
        for (i, (name, value)) in fields.enumerate() {
            self.separator(i);
            self.field_name(name);
            self.value(&value, verb, depth + 1);
            if self.is_full() {
                break;
            }
        }
        self.out.push('}');
    }

    fn address(&mut self, verb: char, value: &Value) {
        match verb {
            'v' if self.flags.sharp_v => {
                self.out.push('(');
                self.out.push_str(value.go_type());
                self.out.push_str(")(");
                self.hexadecimal_address(true);
                self.out.push(')');
            }
            'v' | 'p' => self.hexadecimal_address(!self.flags.sharp),
            'b' | 'o' | 'd' | 'x' | 'X' => self.integer(value, 0, false, verb),
            _ => self.bad_verb(value, verb),
        }
    }

    fn hexadecimal_address(&mut self, leading_0x: bool) {
        let sharp = std::mem::replace(&mut self.flags.sharp, leading_0x);
        self.digits(0, 16, false, 'v', false);
        self.flags.sharp = sharp;
    }

    // ---- texts ----

    fn pad(&mut self, text: &str) {
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

    fn pad_with_blanks(&mut self, text: &str) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(text);
        self.flags.zero = zero;
    }

    fn padding(&mut self, count: usize) {
        let filler = if self.flags.zero && !self.flags.minus { '0' } else { ' ' };
        self.out.extend(std::iter::repeat_n(filler, count));
    }

    fn truncated<'t>(&self, text: &'t str) -> &'t str {
        match self.flags.precision {
            Some(count) => text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end]),
            None => text,
        }
    }

    fn text(&mut self, text: &str) {
        let text = self.truncated(text);
        self.pad(text);
    }

    fn string(&mut self, value: &Value, text: &str, verb: char) {
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

    // ---- numbers ----

    fn integer(&mut self, value: &Value, n: u64, signed: bool, verb: char) {
        match verb {
            'v' if self.flags.sharp_v && !signed => {
                let sharp = std::mem::replace(&mut self.flags.sharp, true);
                self.digits(n, 16, false, 'v', false);
                self.flags.sharp = sharp;
            }
            'v' | 'd' => self.digits(n, 10, signed, verb, false),
            'b' => self.digits(n, 2, signed, verb, false),
            'o' | 'O' => self.digits(n, 8, signed, verb, false),
            'x' => self.digits(n, 16, signed, verb, false),
            'X' => self.digits(n, 16, signed, verb, true),
            'c' => self.pad(character(n).encode_utf8(&mut [0; 4])),
            'q' => self.pad(&quote(character(n).encode_utf8(&mut [0; 4]), '\'', self.flags.plus)),
            'U' => self.code_point(n),
            _ => self.bad_verb(value, verb),
        }
    }

    fn digits(&mut self, n: u64, base: u64, signed: bool, verb: char, upper: bool) {
        let negative = signed && (n as i64) < 0;
        let mut n = if negative { n.wrapping_neg() } else { n };
        let Flags { plus, space, minus, zero, sharp, width, precision, .. } = self.flags;
        let least = match precision {
            Some(0) if n == 0 => {
                let zero = std::mem::take(&mut self.flags.zero);
                self.padding(width.unwrap_or(0));
                self.flags.zero = zero;
                return;
            }
            Some(precision) => precision,
            None => match width {
                Some(width) if zero && !minus => width.saturating_sub(usize::from(negative || plus || space)),
                _ => 0,
            },
        };
        // From the last digit to the first.
        let mut reversed: Vec<u8> = Vec::with_capacity(24);
        loop {
            let digit = (n % base) as u8;
            let letter = if upper { b'A' } else { b'a' };
            reversed.push(if digit < 10 { b'0' + digit } else { letter + digit - 10 });
            n /= base;
            if n == 0 {
                break;
            }
        }
        if reversed.len() < least {
            reversed.resize(least, b'0');
        }
        if sharp {
            match base {
                2 => reversed.extend_from_slice(b"b0"),
                8 if reversed.last() != Some(&b'0') => reversed.push(b'0'),
                16 => reversed.extend_from_slice(if upper { b"X0" } else { b"x0" }),
                _ => {}
            }
        }
        if verb == 'O' {
            reversed.extend_from_slice(b"o0");
        }
        if negative {
            reversed.push(b'-');
        } else if plus {
            reversed.push(b'+');
        } else if space {
            reversed.push(b' ');
        }
        let text: String = reversed.iter().rev().map(|b| char::from(*b)).collect();
        self.pad_with_blanks(&text);
    }

    fn code_point(&mut self, n: u64) {
        let least = self.flags.precision.unwrap_or(4).max(4);
        let digits = format!("{n:X}");
        let mut text = String::from("U+");
        text.extend(std::iter::repeat_n('0', least.saturating_sub(digits.len())));
        text.push_str(&digits);
        if self.flags.sharp
            && let Some(c) = u32::try_from(n).ok().and_then(char::from_u32)
            && is_print(c)
        {
            text.push_str(" '");
            text.push(c);
            text.push('\'');
        }
        self.pad_with_blanks(&text);
    }

    fn float(&mut self, value: &Value, v: f64, verb: char) {
        match verb {
            'v' => self.number(v, 'g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => self.number(v, verb, None),
            'f' | 'e' | 'E' => self.number(v, verb, Some(6)),
            'F' => self.number(v, 'f', Some(6)),
            _ => self.bad_verb(value, verb),
        }
    }

    fn complex(&mut self, value: &Value, re: f64, im: f64, verb: char) {
        if !matches!(verb, 'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E') {
            self.bad_verb(value, verb);
            return;
        }
        self.out.push('(');
        self.float(value, re, verb);
        let plus = std::mem::replace(&mut self.flags.plus, true);
        self.float(value, im, verb);
        self.flags.plus = plus;
        self.out.push_str("i)");
    }

    fn number(&mut self, v: f64, form: char, precision: Option<usize>) {
        let precision = self.flags.precision.or(precision);
        let Flags { plus, space, minus, zero, sharp, width, .. } = self.flags;
        let mut text = String::with_capacity(24);
        write_float(&mut text, v, form, precision);
        if !text.starts_with(['-', '+']) {
            text.insert(0, '+');
        }
        if space && text.starts_with('+') && !plus {
            text.replace_range(..1, " ");
        }
        if !v.is_finite() {
            // Infinities keep their sign, NaN has one only on demand.
            let from = usize::from(v.is_nan() && !space && !plus);
            self.pad_with_blanks(&text[from..]);
            return;
        }
        if sharp && form != 'b' {
            text = with_point(&text, form, precision);
        }
        if plus || !text.starts_with('+') {
            if zero
                && !minus
                && let Some(width) = width
                && width > text.len()
            {
                self.out.push_str(&text[..1]);
                self.padding(width - text.len());
                self.out.push_str(&text[1..]);
            } else {
                self.pad(&text);
            }
            return;
        }
        self.pad(&text[1..]);
    }
}

/// A number, its sign in front, with a decimal point and the trailing zeros that `#` keeps.
fn with_point(text: &str, form: char, precision: Option<usize>) -> String {
    let mut missing = match form {
        'g' | 'G' | 'x' => precision.map_or(6, |p| p as i64),
        _ => 0,
    };
    let is_hexadecimal = matches!(form, 'x' | 'X');
    let tail_at = text
        .find(|c| matches!(c, 'p' | 'P') || (!is_hexadecimal && matches!(c, 'e' | 'E')))
        .unwrap_or(text.len());
    let (number, tail) = text.split_at(tail_at);
    let mut seen_digit = false;
    for c in number[1..].chars().filter(|c| *c != '.') {
        seen_digit |= c != '0';
        missing -= i64::from(seen_digit);
    }
    let mut out = number.to_string();
    if !number.contains('.') {
        if number.len() == 2 && number.ends_with('0') {
            missing -= 1;
        }
        out.push('.');
    }
    out.extend(std::iter::repeat_n('0', usize::try_from(missing).unwrap_or(0)));
    out.push_str(tail);
    out
}

fn character(n: u64) -> char {
    u32::try_from(n).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// `strconv.CanBackquote`
fn can_backquote(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || (c >= ' ' && !matches!(c, '`' | '\x7f' | '\u{feff}')))
}

/// `strconv.Quote`, `QuoteToASCII`, `QuoteRune` and `QuoteRuneToASCII`.
fn quote(text: &str, mark: char, ascii_only: bool) -> String {
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
