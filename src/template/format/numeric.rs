//! Whole numbers, floats and complex numbers, in all bases and forms.

use tsdbctl_model::printable::is_print;

use crate::number::write_float;
use crate::value::Value;

use super::Printer;
use super::directive::Flags;
use super::text::quote;

impl Printer<'_> {
    pub(super) fn integer(&mut self, value: &Value, n: u64, signed: bool, verb: char) {
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

    pub(super) fn digits(&mut self, n: u64, base: u64, signed: bool, verb: char, upper: bool) {
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

    pub(super) fn float(&mut self, value: &Value, v: f64, verb: char) {
        match verb {
            'v' => self.number(v, 'g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => self.number(v, verb, None),
            'f' | 'e' | 'E' => self.number(v, verb, Some(6)),
            'F' => self.number(v, 'f', Some(6)),
            _ => self.bad_verb(value, verb),
        }
    }

    pub(super) fn complex(&mut self, value: &Value, re: f64, im: f64, verb: char) {
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

    pub(super) fn number(&mut self, v: f64, form: char, precision: Option<usize>) {
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
