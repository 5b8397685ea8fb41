//! Go's regular expression syntax (RE2's, with Perl's extensions), read into the automaton builder's own form.
//!
//! `regex`'s parser takes other texts and gives some of the same texts another meaning (`\d`, `[a&&b]`, `\<`, `{`),
//! so it is not used; see the tests of the parent module for the differences.

use regex_syntax::hir::{Capture, Class, ClassUnicode, Hir, Look, Repetition};

use super::class;

/// What is wrong with an expression, by Go's `syntax.ErrorCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidCharRange,
    InvalidEscape,
    InvalidNamedCapture,
    InvalidPerlOp,
    InvalidRepeatOp,
    InvalidRepeatSize,
    MissingBracket,
    MissingParen,
    MissingRepeatArgument,
    TrailingBackslash,
    UnexpectedParen,
    NestingDepth,
    Large,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::InvalidCharRange => "invalid character class range",
            Self::InvalidEscape => "invalid escape sequence",
            Self::InvalidNamedCapture => "invalid named capture",
            Self::InvalidPerlOp => "invalid or unsupported Perl syntax",
            Self::InvalidRepeatOp => "invalid nested repetition operator",
            Self::InvalidRepeatSize => "invalid repeat count",
            Self::MissingBracket => "missing closing ]",
            Self::MissingParen => "missing closing )",
            Self::MissingRepeatArgument => "missing argument to repetition operator",
            Self::TrailingBackslash => "trailing backslash at end of expression",
            Self::UnexpectedParen => "unexpected )",
            Self::NestingDepth => "expression nests too deeply",
            Self::Large => "expression too large",
        }
    }
}

/// Go's message for `code` at the fragment `at`.
pub(super) fn message(code: Code, at: &str) -> String {
    format!("error parsing regexp: {}: `{at}`", code.text())
}

/// An expression that was understood.
pub(super) struct Parsed {
    /// Its meaning, not anchored.
    pub hir: Hir,
    /// Names of the capture groups; index 0 is the whole match. Empty where a group has none.
    pub names: Vec<String>,
}

/// Go's limits on a repetition count, also of nested ones multiplied.
const MAX_REPEAT: u64 = 1000;
/// Go's limit on the instructions of a program, by its estimate.
const MAX_SIZE: u64 = (128 << 20) / 40;
/// Go's limit on the height of the syntax tree.
const MAX_HEIGHT: u32 = 1000;

type Failure = (Code, String);

#[derive(Clone, Copy)]
struct Flags {
    fold_case: bool,
    one_line: bool,
    dot_matches_newline: bool,
    lazy: bool,
}

struct Node {
    hir: Hir,
    height: u32,
    /// Product of the counts of the nested `{n}` below.
    repeats: u64,
    /// Go's estimate of the instructions it takes.
    size: u64,
}

impl Node {
    fn leaf(hir: Hir) -> Self {
        Self { hir, height: 1, repeats: 1, size: 1 }
    }
}

/// An open group, or the whole expression.
struct Frame {
    alternatives: Vec<Node>,
    sequence: Vec<Node>,
    flags_outside: Flags,
    capture: Option<u32>,
}

struct Parser<'a> {
    source: &'a str,
    frames: Vec<Frame>,
    flags: Flags,
    names: Vec<String>,
    keep_captures: bool,
}

/// Reads `source` as `syntax.Parse(source, syntax.Perl)` would, with `.` matching line breaks if
/// `dot_matches_newline`. Capture groups become plain groups unless `keep_captures`.
///
/// # Errors
/// Go's message.
pub(super) fn parse(source: &str, dot_matches_newline: bool, keep_captures: bool) -> Result<Parsed, String> {
    let flags = Flags { fold_case: false, one_line: true, dot_matches_newline, lazy: false };
    let mut parser = Parser { source, frames: Vec::new(), flags, names: vec![String::new()], keep_captures };
    parser.open(flags, None);
    match parser.run() {
        Ok(hir) => Ok(Parsed { hir, names: parser.names }),
        Err((code, at)) => Err(message(code, &at)),
    }
}

/// The part of `from` in front of its tail `rest`.
fn until<'a>(from: &'a str, rest: &str) -> &'a str {
    &from[..from.len() - rest.len()]
}

/// The characters at the start of `t` that stand for themselves, without the last if it might be repeated, as
/// also in `ab(?i)*` and `ab\Q\E*`.
fn plain_run(t: &str) -> (&str, &str) {
    let is_operator = |c: char| r"\.+*?()|[]{}^$".contains(c);
    let end = t.find(is_operator).unwrap_or(t.len());
    let run = &t[..end];
    let is_repeated = t[end..].starts_with(['*', '+', '?', '{', '(', '\\']);
    let last = if is_repeated { run.chars().next_back().map_or(0, char::len_utf8) } else { 0 };
    t.split_at(end - last)
}

fn take_char(t: &str) -> Option<(char, &str)> {
    let c = t.chars().next()?;
    Some((c, &t[c.len_utf8()..]))
}

fn fail<T>(code: Code, at: &str) -> Result<T, Failure> {
    Err((code, at.to_string()))
}

fn folded(mut set: ClassUnicode) -> ClassUnicode {
    // Fails only where the tables are compiled out.
    let _ = set.try_case_fold_simple();
    set
}

impl<'a> Parser<'a> {
    fn frame(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn open(&mut self, flags_outside: Flags, capture: Option<u32>) {
        self.frames.push(Frame { alternatives: Vec::new(), sequence: Vec::new(), flags_outside, capture });
    }

    fn open_capture(&mut self, name: &str) {
        let index = self.names.len() as u32;
        self.names.push(name.to_string());
        self.open(self.flags, Some(index));
    }

    fn push(&mut self, hir: Hir) {
        self.frame().sequence.push(Node::leaf(hir));
    }

    fn push_class(&mut self, set: ClassUnicode) {
        self.push(Hir::class(Class::Unicode(set)));
    }

    fn push_literal(&mut self, c: char) {
        if self.flags.fold_case {
            self.push_class(folded(class::class(&[(c, c)])));
        } else {
            self.push(Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes()));
        }
    }

    fn run(&mut self) -> Result<Hir, Failure> {
        let mut t = self.source;
        // From the last repetition operator on, if it is what was read just before.
        let mut last_repeat: Option<&str> = None;
        while let Some(first) = t.bytes().next() {
            let before = t;
            let mut repeat = None;
            match first {
                b'(' if t[1..].starts_with('?') => t = self.perl_group(t)?,
                b'(' => {
                    self.open_capture("");
                    t = &t[1..];
                }
                b'|' => {
                    self.end_alternative()?;
                    t = &t[1..];
                }
                b')' => {
                    if self.frames.len() == 1 {
                        return fail(Code::UnexpectedParen, self.source);
                    }
                    self.close_group()?;
                    t = &t[1..];
                }
                b'^' => {
                    self.push(Hir::look(if self.flags.one_line { Look::Start } else { Look::StartLF }));
                    t = &t[1..];
                }
                b'$' => {
                    self.push(Hir::look(if self.flags.one_line { Look::End } else { Look::EndLF }));
                    t = &t[1..];
                }
                b'.' => {
                    self.push_class(if self.flags.dot_matches_newline {
                        class::class(&[('\0', char::MAX)])
                    } else {
                        class::class(&[('\0', '\x09'), ('\x0b', char::MAX)])
                    });
                    t = &t[1..];
                }
                b'[' => t = self.bracket(t)?,
                b'*' | b'+' | b'?' => {
                    let bounds = match first {
                        b'*' => (0, None),
                        b'+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    t = self.repeat(bounds, false, before, &t[1..], last_repeat)?;
                    repeat = Some(before);
                }
                b'{' => match braces(t) {
                    None => {
                        self.push_literal('{');
                        t = &t[1..];
                    }
                    Some((bounds, after)) => {
                        let Some((min, max)) = bounds else {
                            return fail(Code::InvalidRepeatSize, until(before, after));
                        };
                        t = self.repeat((min, max), true, before, after, last_repeat)?;
                        repeat = Some(before);
                    }
                },
                b'\\' => t = self.backslash(t)?,
                _ => {
                    let (run, rest) = plain_run(t);
                    if run.len() > 1 && !self.flags.fold_case {
                        let size = run.chars().count() as u64;
                        let node = Node { size, ..Node::leaf(Hir::literal(run.as_bytes())) };
                        self.frame().sequence.push(node);
                        t = rest;
                    } else {
                        let Some((c, rest)) = take_char(t) else { break };
                        self.push_literal(c);
                        t = rest;
                    }
                }
            }
            last_repeat = repeat;
        }
        if self.frames.len() != 1 {
            return fail(Code::MissingParen, self.source);
        }
        Ok(self.finish_frame()?.hir)
    }

    fn checked(&self, node: Node) -> Result<Node, Failure> {
        if node.size > MAX_SIZE {
            return fail(Code::Large, self.source);
        }
        if node.height > MAX_HEIGHT { fail(Code::NestingDepth, self.source) } else { Ok(node) }
    }

    fn end_alternative(&mut self) -> Result<(), Failure> {
        let mut nodes = std::mem::take(&mut self.frame().sequence);
        let node =
            if nodes.len() == 1 { nodes.remove(0) } else { self.checked(combine(nodes, 0, Hir::concat))? };
        self.frame().alternatives.push(node);
        Ok(())
    }

    fn finish_frame(&mut self) -> Result<Node, Failure> {
        self.end_alternative()?;
        let mut nodes = std::mem::take(&mut self.frame().alternatives);
        if nodes.len() == 1 { Ok(nodes.remove(0)) } else { self.checked(combine(nodes, 1, Hir::alternation)) }
    }

    fn close_group(&mut self) -> Result<(), Failure> {
        let mut node = self.finish_frame()?;
        let Some(frame) = self.frames.pop() else { return fail(Code::UnexpectedParen, self.source) };
        self.flags = frame.flags_outside;
        if let Some(index) = frame.capture {
            node.height += 1;
            node.size = node.size.saturating_add(2);
            if self.keep_captures {
                node.hir = Hir::capture(Capture { index, name: None, sub: Box::new(node.hir) });
            }
            node = self.checked(node)?;
        }
        self.frame().sequence.push(node);
        Ok(())
    }

    fn repeat(
        &mut self,
        (min, max): (u32, Option<u32>),
        counted: bool,
        before: &'a str,
        mut after: &'a str,
        last_repeat: Option<&'a str>,
    ) -> Result<&'a str, Failure> {
        let mut lazy = self.flags.lazy;
        if let Some(rest) = after.strip_prefix('?') {
            after = rest;
            lazy = !lazy;
        }
        if let Some(last) = last_repeat {
            return fail(Code::InvalidRepeatOp, until(last, after));
        }
        let Some(mut node) = self.frame().sequence.pop() else {
            return fail(Code::MissingRepeatArgument, until(before, after));
        };
        if counted {
            let factor = u64::from(max.unwrap_or(min));
            // What can only repeat zero times limits nothing.
            node.repeats = if max == Some(0) { 1 } else { node.repeats.saturating_mul(factor.max(1)) };
            if (min >= 2 || max.is_some_and(|m| m >= 2)) && node.repeats > MAX_REPEAT {
                return fail(Code::InvalidRepeatSize, until(before, after));
            }
        }
        node.height += 1;
        node.size = repeated_size(node.size, min, max);
        // Before the form is built, which may take long.
        let mut node = self.checked(node)?;
        node.hir = Hir::repetition(Repetition { min, max, greedy: !lazy, sub: Box::new(node.hir) });
        self.frame().sequence.push(node);
        Ok(after)
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)` or `(?flags:`.
    fn perl_group(&mut self, s: &'a str) -> Result<&'a str, Failure> {
        let name_at = if s.len() > 4 && s[2..].starts_with("P<") {
            Some(4)
        } else if s.len() > 3 && s[2..].starts_with('<') {
            Some(3)
        } else {
            None
        };
        if let Some(start) = name_at {
            let Some(end) = s.find('>') else { return fail(Code::InvalidNamedCapture, s) };
            let name = &s[start..end];
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                return fail(Code::InvalidNamedCapture, &s[..=end]);
            }
            self.open_capture(name);
            return Ok(&s[end + 1..]);
        }
        let mut flags = self.flags;
        let (mut on, mut saw_flag) = (true, false);
        let mut t = &s[2..];
        while let Some((c, rest)) = take_char(t) {
            t = rest;
            match c {
                'i' => flags.fold_case = on,
                'm' => flags.one_line = !on,
                's' => flags.dot_matches_newline = on,
                'U' => flags.lazy = on,
                '-' if on => {
                    (on, saw_flag) = (false, false);
                    continue;
                }
                ':' | ')' if on || saw_flag => {
                    if c == ':' {
                        self.open(self.flags, None);
                    }
                    self.flags = flags;
                    return Ok(t);
                }
                _ => break,
            }
            saw_flag = true;
        }
        fail(Code::InvalidPerlOp, until(s, t))
    }

    /// Anything behind a backslash outside a class.
    fn backslash(&mut self, t: &'a str) -> Result<&'a str, Failure> {
        let look = match t.as_bytes().get(1) {
            Some(b'A') => Some(Look::Start),
            Some(b'z') => Some(Look::End),
            Some(b'b') => Some(Look::WordAscii),
            Some(b'B') => Some(Look::WordAsciiNegate),
            Some(b'C') => return fail(Code::InvalidEscape, &t[..2]),
            Some(b'Q') => {
                let (literal, rest) = t[2..].split_once("\\E").unwrap_or((&t[2..], ""));
                for c in literal.chars() {
                    self.push_literal(c);
                }
                return Ok(rest);
            }
            _ => None,
        };
        if let Some(look) = look {
            self.push(Hir::look(look));
            return Ok(&t[2..]);
        }
        if let Some((set, rest)) = self.named_escape(t)? {
            self.push_class(set);
            return Ok(rest);
        }
        let (c, rest) = escape(t)?;
        self.push_literal(c);
        Ok(rest)
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`, `\d` and kin, if `t` starts with one.
    fn named_escape(&self, t: &'a str) -> Result<Option<(ClassUnicode, &'a str)>, Failure> {
        let bytes = t.as_bytes();
        if bytes.len() < 2 || bytes[0] != b'\\' {
            return Ok(None);
        }
        if !matches!(bytes[1], b'p' | b'P') {
            let set = class::perl(bytes[1]);
            // The folds of ASCII letters that are not ASCII belong to `(?i)\w` too.
            return Ok(set.map(|set| {
                (if self.flags.fold_case { self.folded_perl(bytes[1], set) } else { set }, &t[2..])
            }));
        }
        let (name, whole, rest) = match take_char(&t[2..]) {
            Some(('{', _)) => {
                let Some(end) = t.find('}') else { return fail(Code::InvalidCharRange, t) };
                (&t[3..end], &t[..=end], &t[end + 1..])
            }
            Some((_, rest)) => (until(&t[2..], rest), until(t, rest), rest),
            None => ("", t, ""),
        };
        let (mut negated, name) = name.strip_prefix('^').map_or((false, name), |n| (true, n));
        negated ^= bytes[1] == b'P';
        let Some(mut set) = class::unicode(name) else { return fail(Code::InvalidCharRange, whole) };
        if self.flags.fold_case {
            set = folded(set);
        }
        if negated {
            set.negate();
        }
        Ok(Some((set, rest)))
    }

    fn folded_perl(&self, letter: u8, set: ClassUnicode) -> ClassUnicode {
        if letter.is_ascii_lowercase() {
            return folded(set);
        }
        let mut set = folded(class::perl(letter.to_ascii_lowercase()).unwrap_or(set));
        set.negate();
        set
    }

    /// `[…]`.
    fn bracket(&mut self, s: &'a str) -> Result<&'a str, Failure> {
        let mut set = ClassUnicode::empty();
        let mut t = &s[1..];
        let negated = t.starts_with('^');
        if negated {
            t = &t[1..];
        }
        let mut first = true;
        while first || !t.starts_with(']') {
            first = false;
            if t.len() > 2
                && t.starts_with("[:")
                && let Some(end) = t[2..].find(":]")
            {
                let (name, rest) = t.split_at(end + 4);
                let Some(mut posix) = class::posix(name) else { return fail(Code::InvalidCharRange, name) };
                if self.flags.fold_case {
                    posix = match name.strip_prefix("[:^").and_then(|n| class::posix(&format!("[:{n}"))) {
                        Some(positive) => {
                            let mut set = folded(positive);
                            set.negate();
                            set
                        }
                        None => folded(posix),
                    };
                }
                set.union(&posix);
                t = rest;
                continue;
            }
            if let Some((named, rest)) = self.named_escape(t)? {
                set.union(&named);
                t = rest;
                continue;
            }
            let range = t;
            let (low, rest) = class_char(t, s)?;
            t = rest;
            let mut high = low;
            if t.len() >= 2 && t.starts_with('-') && !t[1..].starts_with(']') {
                (high, t) = class_char(&t[1..], s)?;
                if high < low {
                    return fail(Code::InvalidCharRange, until(range, t));
                }
            }
            let range = class::class(&[(low, high)]);
            set.union(&if self.flags.fold_case { folded(range) } else { range });
        }
        if negated {
            set.negate();
        }
        self.push_class(set);
        Ok(&t[1..])
    }
}

/// Go's `calcSize` of a repetition.
fn repeated_size(size: u64, min: u32, max: Option<u32>) -> u64 {
    let (low, high) = (u64::from(min), u64::from(max.unwrap_or(0)));
    let size = match (min, max) {
        (0, None) => size.saturating_add(2),
        (_, None) => size.saturating_mul(low).saturating_add(1),
        _ => size.saturating_mul(high).saturating_add(high - low),
    };
    size.max(1)
}

fn combine(nodes: Vec<Node>, joints: u64, make: impl FnOnce(Vec<Hir>) -> Hir) -> Node {
    let height = 1 + nodes.iter().map(|n| n.height).max().unwrap_or(0);
    let repeats = nodes.iter().map(|n| n.repeats).max().unwrap_or(1);
    let size = nodes.iter().fold(0, |sum: u64, n| sum.saturating_add(n.size));
    let size = size.saturating_add(joints * nodes.len().saturating_sub(1) as u64).max(1);
    Node { hir: make(nodes.into_iter().map(|n| n.hir).collect()), height, repeats, size }
}

fn class_char<'a>(t: &'a str, whole: &str) -> Result<(char, &'a str), Failure> {
    match take_char(t) {
        None => fail(Code::MissingBracket, whole),
        Some(('\\', _)) => escape(t),
        Some(found) => Ok(found),
    }
}

type Bounds = (u32, Option<u32>);

/// Reads `{n}`, `{n,}` or `{n,m}`. `None`: not a repetition but a literal brace. `Some((None, _))`: one with
/// counts out of range.
fn braces(t: &str) -> Option<(Option<Bounds>, &str)> {
    let (min, rest) = number(&t[1..])?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => {
            let (max, rest) = number(rest)?;
            (Some(max), rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    let limit = MAX_REPEAT as u32;
    let valid = min <= limit && max.is_none_or(|m| m <= limit && m >= min);
    Some((valid.then_some((min, max)), rest))
}

/// A decimal number without leading zeros; what is too large becomes [`u32::MAX`].
fn number(t: &str) -> Option<(u32, &str)> {
    let len = t.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = t.split_at(len);
    if digits.is_empty() || (len > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}

/// A backslash and what stands for one character.
fn escape(s: &str) -> Result<(char, &str), Failure> {
    let Some((c, mut t)) = take_char(&s[1..]) else { return fail(Code::TrailingBackslash, "") };
    let octal = |t: &str| t.bytes().next().is_some_and(|b| (b'0'..=b'7').contains(&b));
    match c {
        'a' => return Ok(('\x07', t)),
        'f' => return Ok(('\x0c', t)),
        'n' => return Ok(('\n', t)),
        'r' => return Ok(('\r', t)),
        't' => return Ok(('\t', t)),
        'v' => return Ok(('\x0b', t)),
        // A single digit but 0 would be a back reference.
        '0'..='7' if c == '0' || octal(t) => {
            let mut n = c as u32 - u32::from(b'0');
            for _ in 0..2 {
                if octal(t) {
                    n = n * 8 + u32::from(t.as_bytes()[0] - b'0');
                    t = &t[1..];
                }
            }
            if let Some(c) = char::from_u32(n) {
                return Ok((c, t));
            }
        }
        'x' => {
            let Some((first, rest)) = take_char(t) else { return fail(Code::InvalidEscape, s) };
            t = rest;
            if first == '{' {
                let (mut n, mut digits) = (0u32, 0);
                while let Some((c, rest)) = take_char(t) {
                    t = rest;
                    if c == '}' {
                        // Surrogates are code points that no UTF-8 text has.
                        return match char::from_u32(n) {
                            Some(c) if digits > 0 => Ok((c, t)),
                            _ => fail(Code::InvalidEscape, until(s, t)),
                        };
                    }
                    let Some(digit) = c.to_digit(16) else { break };
                    n = n * 16 + digit;
                    digits += 1;
                    if n > char::MAX as u32 {
                        break;
                    }
                }
            } else if let Some((second, rest)) = take_char(t) {
                t = rest;
                if let (Some(x), Some(y)) = (first.to_digit(16), second.to_digit(16))
                    && let Some(c) = char::from_u32(x * 16 + y)
                {
                    return Ok((c, t));
                }
            }
        }
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok((c, t)),
        _ => {}
    }
    fail(Code::InvalidEscape, until(s, t))
}
