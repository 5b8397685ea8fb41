//! Go's package fmt: how values print, and `printf`.
//!
//! An address prints as `0x0`: what Go prints there differs from run to run.

mod composite;
mod directive;
mod numeric;
mod text;

use tsdbctl_model::duration::format_go_duration_ns;

use crate::histogram;
use crate::number::write_float;
use crate::time;
use crate::value::{Kind, SizedInt, Value};

use self::directive::Flags;

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

struct Printer<'a> {
    out: &'a mut String,
    limit_bytes: usize,
    flags: Flags,
    /// Within the text about a wrong verb, where no method is asked.
    in_error: bool,
}

impl<'a> Printer<'a> {
    fn new(out: &'a mut String, limit_bytes: usize) -> Self {
        Self { out, limit_bytes, flags: Flags::default(), in_error: false }
    }

    fn is_full(&self) -> bool {
        self.out.len() > self.limit_bytes
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
                Value::Time(ns) => Some(time::go_string(**ns)),
                Value::TimeValue(ns) => Some(time::go_string(*ns)),
                _ => None,
            };
        }
        if !matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') {
            return None;
        }
        match value {
            Value::Time(ns) => Some(time::print(**ns)),
            Value::TimeValue(ns) => Some(time::print(*ns)),
            Value::Duration(ns) => Some(format_go_duration_ns(**ns)),
            Value::DurationValue(ns) => Some(format_go_duration_ns(*ns)),
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
                self.time_fields(**ns, verb);
            }
            Value::Sample(_) | Value::Histogram(_) | Value::Time(_) | Value::Duration(_) => {
                self.address(verb, value);
            }
        }
    }
}
