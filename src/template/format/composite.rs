//! Values made of others: maps, lists, structs, and pointers to them.

use crate::time;
use crate::value::{SizedInt, TemplateSample, Value};

use super::Printer;

impl Printer<'_> {
    pub(super) fn sample(&mut self, sample: &TemplateSample, verb: char, depth: usize) {
        let fields =
            [("Labels", Value::StrMap(sample.labels.clone())), ("Value", sample.value.clone())].into_iter();
        self.structure("template.sample", fields, verb, depth);
    }

    /// The inside of a `time.Time`: UTC, without a monotonic reading.
    pub(super) fn time_fields(&mut self, unix_ns: i128, verb: char) {
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

    pub(super) fn map<'m>(
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

    pub(super) fn list(
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

    pub(super) fn structure(
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

    pub(super) fn address(&mut self, verb: char, value: &Value) {
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
}
