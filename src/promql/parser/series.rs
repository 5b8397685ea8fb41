//! Series with sequences of values, as test scripts and unit tests of rules write them:
//! `metric{label="value"} 1 2+3x4 _ stale {{schema:1 sum:3 buckets:[1 2]}}`.

use std::sync::Arc;

use tsdbctl_model::float_text::go_quote;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Labels, Span};

use super::ast::BinaryOp;
use super::error::ParseError;
use super::lexer::{Lexer, quote_char};
use super::literal;
use super::token::{Kind, Token};

/// Values one line may have.
const MAX_VALUES: usize = 10_000_000;

/// One place in a sequence.
#[derive(Clone, Debug, Default)]
pub struct SequenceValue {
    /// The value where there is no histogram.
    pub value: f64,
    /// There is no sample here (`_`).
    pub omitted: bool,
    /// The histogram.
    pub histogram: Option<Arc<FloatHistogram>>,
    /// The histogram was written with a `counter_reset_hint`, so it is to be compared.
    pub counter_reset_hint_set: bool,
}

/// A series and its values.
#[derive(Clone, Debug, Default)]
pub struct SeriesDescription {
    /// The series.
    pub labels: Labels,
    /// Its values, one interval apart.
    pub values: Vec<SequenceValue>,
}

/// One item of a sequence, not written out: what it costs does not depend on how many values it stands for.
#[derive(Clone, Debug)]
pub enum SequenceItem {
    /// Places without a sample.
    Gap {
        /// How many.
        count: u64,
    },
    /// Floats: the first, and each following one by adding to the one before.
    Floats {
        /// The first.
        first: f64,
        /// What is added each time; without it all are equal.
        delta: Option<f64>,
        /// How many, the first included.
        count: u64,
    },
    /// Histograms, in the same way.
    Histograms {
        /// The first.
        first: Arc<FloatHistogram>,
        /// What is added, or with `true` taken away, each time.
        delta: Option<(bool, Arc<FloatHistogram>)>,
        /// How many, the first included.
        count: u64,
        /// They were written with a `counter_reset_hint`.
        counter_reset_hint_set: bool,
    },
}

impl SequenceItem {
    /// How many places it takes.
    pub fn count(&self) -> u64 {
        match self {
            Self::Gap { count } | Self::Floats { count, .. } | Self::Histograms { count, .. } => *count,
        }
    }

    /// Writes the values out. What cannot be combined was refused when it was read.
    fn expand(&self, out: &mut Vec<SequenceValue>) {
        match self {
            Self::Gap { count } => {
                let omitted = SequenceValue { omitted: true, ..SequenceValue::default() };
                out.extend(std::iter::repeat_n(omitted, *count as usize));
            }
            Self::Floats { first, delta, count } => {
                let mut value = *first;
                for i in 0..*count {
                    if let (Some(delta), 1..) = (delta, i) {
                        value += delta;
                    }
                    out.push(SequenceValue { value, ..SequenceValue::default() });
                }
            }
            Self::Histograms { first, delta, count, counter_reset_hint_set } => {
                let mut current = Arc::clone(first);
                for i in 0..*count {
                    if let (Some(delta), 1..) = (delta, i) {
                        current = next_histogram(&current, delta);
                    }
                    out.push(SequenceValue {
                        histogram: Some(Arc::clone(&current)),
                        counter_reset_hint_set: *counter_reset_hint_set,
                        ..SequenceValue::default()
                    });
                }
            }
        }
    }
}

/// The histogram behind `current` in a sequence; where the two do not combine, which reading the sequence refuses,
/// the same again.
pub fn next_histogram(
    current: &Arc<FloatHistogram>,
    delta: &(bool, Arc<FloatHistogram>),
) -> Arc<FloatHistogram> {
    let mut next = FloatHistogram::clone(current);
    let combined = if delta.0 { next.sub(&delta.1) } else { next.add(&delta.1) };
    if combined.is_ok() { Arc::new(next) } else { Arc::clone(current) }
}

/// Parses a series with its values.
///
/// # Errors
/// The first thing wrong with it, with upstream's text and place.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseError> {
    let (labels, items) = parse_series_items(text, MAX_VALUES as u64)?;
    let mut values = Vec::new();
    for item in &items {
        item.expand(&mut values);
    }
    Ok(SeriesDescription { labels, values })
}

/// Parses a series with its values, which are not written out; `max_values` is how many there may be.
///
/// # Errors
/// As [`parse_series`].
pub fn parse_series_items(text: &str, max_values: u64) -> Result<(Labels, Vec<SequenceItem>), ParseError> {
    let mut lexer = Lexer::new(text);
    lexer.series = true;
    let (labels, first) = metric(&mut lexer)?;
    let position = lexer.position();
    let mut values = Values {
        text,
        pos: position,
        start: position,
        state: State::Values,
        in_buckets: false,
        peek: Item { kind: ItemKind::End, start: position, end: position },
        out: Vec::new(),
        count: 0,
        max_values,
        hint_set: false,
    };
    match first {
        // A token of the expression language where values were due.
        Some(token) if token.kind != Kind::Eof => {
            return Err(ParseError::new(
                token.span(),
                format!("unexpected {} in series values", token.describe(text)),
            ));
        }
        Some(_) => return Ok((labels, Vec::new())),
        None => {}
    }
    values.peek = values.lex()?;
    values.sequence()?;
    Ok((labels, values.out))
}

/// Parses the name and labels of a series, nothing behind them.
///
/// # Errors
/// The first thing wrong with it.
pub fn parse_metric(text: &str) -> Result<Labels, ParseError> {
    let mut lexer = Lexer::new(text);
    let (labels, token) = metric(&mut lexer)?;
    let token = match token {
        Some(token) => token,
        None => lexer.next()?,
    };
    if token.kind == Kind::Eof {
        return Ok(labels);
    }
    Err(ParseError::new(token.span(), format!("unexpected {}", token.describe(text))))
}

/// A metric in front; the token that was read behind it, if one was.
fn metric(lexer: &mut Lexer<'_>) -> Result<(Labels, Option<Token>), ParseError> {
    const CONTEXT: &str = "label set";
    let text = lexer.input;
    let mut labels = Labels::empty();
    let mut name = String::new();
    let mut token = lexer.next()?;
    if token.is_metric_name() {
        name = token.text(text).to_string();
        if !text[token.end as usize..].starts_with('{') {
            labels.set(METRIC_NAME, name);
            return Ok((labels, None));
        }
        token = lexer.next()?;
    }
    if token.kind != Kind::LeftBrace {
        return Ok((labels, Some(token)));
    }
    let wrong = |token: Token, expected: &str| {
        ParseError::new(
            token.span(),
            format!("unexpected {} in {CONTEXT}, expected {expected}", token.describe(text)),
        )
    };
    let unquote = |token: Token| {
        literal::unquote(token.text(text)).map_err(|e| {
            ParseError::new(
                token.span(),
                format!("error unquoting string {}: {e}", go_quote(token.text(text))),
            )
        })
    };
    let mut token = lexer.next()?;
    while token.kind != Kind::RightBrace {
        let label = match token.kind {
            Kind::Identifier => token.text(text).to_string(),
            Kind::String => unquote(token)?,
            _ => return Err(wrong(token, "identifier or \"}\"")),
        };
        let is_string = token.kind == Kind::String;
        token = lexer.next()?;
        match token.kind {
            Kind::Assign => {
                token = lexer.next()?;
                if token.kind != Kind::String {
                    return Err(wrong(token, "string"));
                }
                labels.set(label, unquote(token)?);
                token = lexer.next()?;
            }
            _ if is_string => labels.set(METRIC_NAME, label),
            _ => return Err(wrong(token, "\"=\"")),
        }
        match token.kind {
            Kind::Comma => token = lexer.next()?,
            Kind::RightBrace => {}
            _ => return Err(wrong(token, "\",\" or \"}\"")),
        }
    }
    if !name.is_empty() {
        labels.set(METRIC_NAME, name);
    }
    Ok((labels, None))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKind {
    End,
    Space,
    Blank,
    Times,
    Add,
    Sub,
    Number,
    Identifier,
    OtherWord(Kind),
    OpenHistogram,
    CloseHistogram,
    Descriptor(Descriptor),
    Hint(CounterResetHint),
    Colon,
    LeftBracket,
    RightBracket,
}

/// The parts of a histogram, in upstream's order of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descriptor {
    Sum,
    Count,
    Schema,
    Offset,
    NegativeOffset,
    Buckets,
    NegativeBuckets,
    ZeroBucket,
    ZeroBucketWidth,
    CustomValues,
    CounterResetHint,
}

const DESCRIPTORS: [(&str, Descriptor); 11] = [
    ("sum", Descriptor::Sum),
    ("count", Descriptor::Count),
    ("schema", Descriptor::Schema),
    ("offset", Descriptor::Offset),
    ("n_offset", Descriptor::NegativeOffset),
    ("buckets", Descriptor::Buckets),
    ("n_buckets", Descriptor::NegativeBuckets),
    ("z_bucket", Descriptor::ZeroBucket),
    ("z_bucket_w", Descriptor::ZeroBucketWidth),
    ("custom_values", Descriptor::CustomValues),
    ("counter_reset_hint", Descriptor::CounterResetHint),
];

const HINTS: [(&str, CounterResetHint); 4] = [
    ("unknown", CounterResetHint::Unknown),
    ("reset", CounterResetHint::CounterReset),
    ("not_reset", CounterResetHint::NotCounterReset),
    ("gauge", CounterResetHint::Gauge),
];

/// Number of the first descriptor's token in upstream's table; error texts show it.
const FIRST_DESCRIPTOR: usize = 57370;

#[derive(Clone, Copy, Debug)]
struct Item {
    kind: ItemKind,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Values,
    Histogram,
    /// Directly behind `}}`: an operator belongs to the histogram.
    AfterHistogram,
}

struct Values<'a> {
    text: &'a str,
    pos: usize,
    start: usize,
    state: State,
    in_buckets: bool,
    peek: Item,
    out: Vec<SequenceItem>,
    count: u64,
    max_values: u64,
    hint_set: bool,
}

impl Values<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn error(&self, message: String) -> ParseError {
        ParseError::new(Span::new(self.start, self.text.len()), message)
    }

    fn emit(&mut self, kind: ItemKind, len: usize) -> Item {
        self.pos += len;
        let item = Item { kind, start: self.start, end: self.pos };
        self.start = self.pos;
        item
    }

    fn spaces(&mut self) -> Item {
        let item = self.emit(ItemKind::Space, 1);
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
        self.start = self.pos;
        item
    }

    fn number(&mut self) -> Result<Item, ParseError> {
        let mut lexer = Lexer::new(self.text);
        lexer.series = true;
        let found = lexer.scan_number_at(self.pos);
        self.pos = lexer.position();
        if !found {
            let text = go_quote(&self.text[self.start..self.pos]);
            return Err(self.error(format!("bad number syntax: {text}")));
        }
        Ok(self.emit(ItemKind::Number, 0))
    }

    fn word_len(&self, more: fn(u8) -> bool) -> usize {
        self.text.as_bytes()[self.pos..].iter().take_while(|b| **b == b'_' || more(**b)).count()
    }

    fn lex(&mut self) -> Result<Item, ParseError> {
        self.start = self.pos;
        let Some(c) = self.text[self.pos..].chars().next() else {
            return if self.in_buckets {
                Err(self.error("invalid character in buckets description: '\u{fffd}'".to_string()))
            } else if self.state == State::Histogram {
                Err(self.error("histogram description incomplete unexpected: '\u{fffd}'".to_string()))
            } else {
                Ok(self.emit(ItemKind::End, 0))
            };
        };
        if self.in_buckets {
            return self.lex_bucket(c);
        }
        match self.state {
            State::Histogram => self.lex_histogram(c),
            State::AfterHistogram => {
                self.state = State::Values;
                self.lex_value(c)
            }
            State::Values => self.lex_value(c),
        }
    }

    fn lex_value(&mut self, c: char) -> Result<Item, ParseError> {
        let next = self.text.as_bytes().get(self.pos + 1).copied();
        match c {
            '{' if next == Some(b'{') => {
                self.state = State::Histogram;
                Ok(self.emit(ItemKind::OpenHistogram, 2))
            }
            ' ' | '\t' | '\n' | '\r' => Ok(self.spaces()),
            '+' => Ok(self.emit(ItemKind::Add, 1)),
            '-' => Ok(self.emit(ItemKind::Sub, 1)),
            'x' => Ok(self.emit(ItemKind::Times, 1)),
            '_' => Ok(self.emit(ItemKind::Blank, 1)),
            '0'..='9' => self.number(),
            '.' if next.is_some_and(|b| b.is_ascii_digit()) => self.number(),
            c if c.is_ascii_alphabetic() => {
                let len = self.word_len(|b| b.is_ascii_alphanumeric() || b == b':');
                let word = &self.text[self.pos..self.pos + len];
                let kind = match super::token::keyword(word) {
                    Some(Kind::Number) => ItemKind::Number,
                    Some(kind) => ItemKind::OtherWord(kind),
                    None if word.contains(':') => ItemKind::OtherWord(Kind::MetricIdentifier),
                    None => ItemKind::Identifier,
                };
                Ok(self.emit(kind, len))
            }
            c => Err(self.error(format!("unexpected character in series sequence: {}", quote_char(Some(c))))),
        }
    }

    fn lex_histogram(&mut self, c: char) -> Result<Item, ParseError> {
        match c {
            ' ' | '\t' | '\n' | '\r' => Ok(self.spaces()),
            c if c == '_' || c.is_ascii_alphabetic() => {
                let len = self.word_len(|b| b.is_ascii_alphabetic());
                let word = self.text[self.pos..self.pos + len].to_ascii_lowercase();
                if let Some((_, d)) = DESCRIPTORS.iter().find(|(w, _)| *w == word) {
                    if self.text.as_bytes().get(self.pos + len) != Some(&b':') {
                        return Err(self.error("missing `:` for histogram descriptor".to_string()));
                    }
                    return Ok(self.emit(ItemKind::Descriptor(*d), len));
                }
                if matches!(word.as_str(), "inf" | "nan") {
                    return Ok(self.emit(ItemKind::Number, len));
                }
                if let Some((_, hint)) = HINTS.iter().find(|(w, _)| *w == word) {
                    return Ok(self.emit(ItemKind::Hint(*hint), len));
                }
                let quoted = go_quote(&self.text[self.pos..self.pos + len]);
                Err(self.error(format!("bad histogram descriptor found: {quoted}")))
            }
            ':' => Ok(self.emit(ItemKind::Colon, 1)),
            '-' => Ok(self.emit(ItemKind::Sub, 1)),
            '0'..='9' => self.number(),
            '[' => {
                self.in_buckets = true;
                Ok(self.emit(ItemKind::LeftBracket, 1))
            }
            '}' if self.text[self.pos..].starts_with("}}") => {
                self.state = State::AfterHistogram;
                Ok(self.emit(ItemKind::CloseHistogram, 2))
            }
            c => {
                Err(self
                    .error(format!("histogram description incomplete unexpected: {}", quote_char(Some(c)))))
            }
        }
    }

    fn lex_bucket(&mut self, c: char) -> Result<Item, ParseError> {
        match c {
            ' ' | '\t' | '\n' | '\r' => Ok(self.spaces()),
            '-' => Ok(self.emit(ItemKind::Sub, 1)),
            '0'..='9' => self.number(),
            ']' => {
                self.in_buckets = false;
                Ok(self.emit(ItemKind::RightBracket, 1))
            }
            c if c.is_ascii_alphabetic() => {
                let word = self.text.get(self.pos..self.pos + 3).map(str::to_ascii_lowercase);
                match word.as_deref() {
                    Some("inf" | "nan") => Ok(self.emit(ItemKind::Number, 3)),
                    _ => Err(self
                        .error(format!("invalid character in buckets description: {}", quote_char(Some(c))))),
                }
            }
            c => {
                Err(self.error(format!("invalid character in buckets description: {}", quote_char(Some(c)))))
            }
        }
    }

    fn advance(&mut self) -> Result<Item, ParseError> {
        let item = self.peek;
        self.peek = self.lex()?;
        Ok(item)
    }

    /// The error about the item in front.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let item = self.peek;
        let text = &self.text[item.start..item.end];
        let token = |kind| Token { kind, start: item.start as u32, end: item.end as u32 }.describe(self.text);
        let what = match item.kind {
            ItemKind::End => "end of input".to_string(),
            ItemKind::Number => token(Kind::Number),
            ItemKind::Identifier => token(Kind::Identifier),
            ItemKind::OtherWord(kind) => token(kind),
            ItemKind::Add => token(Kind::Operator(BinaryOp::Add)),
            ItemKind::Sub => token(Kind::Operator(BinaryOp::Sub)),
            ItemKind::Descriptor(d) => {
                format!("\"<Item {}>\" {}", FIRST_DESCRIPTOR + d as usize, go_quote(text))
            }
            ItemKind::Hint(h) => format!("\"<Item {}>\" {}", FIRST_HINT + h as usize, go_quote(text)),
            _ => go_quote(text),
        };
        let mut message = format!("unexpected {what} in {context}");
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::new(Span::new(item.start, item.end), message)
    }

    fn misplaced(&self) -> ParseError {
        self.unexpected("series values", "")
    }

    fn sequence(&mut self) -> Result<(), ParseError> {
        loop {
            match self.peek.kind {
                ItemKind::End => return Ok(()),
                ItemKind::Space => {
                    self.advance()?;
                }
                _ => return Err(self.misplaced()),
            }
            match self.peek.kind {
                ItemKind::End => return Ok(()),
                // Spaces come as one item, so none follows another.
                ItemKind::Space => {}
                _ => self.item()?,
            }
        }
    }

    fn item(&mut self) -> Result<(), ParseError> {
        match self.peek.kind {
            ItemKind::Blank => {
                self.advance()?;
                let count = self.times()?;
                self.push(SequenceItem::Gap { count: count.unwrap_or(1) })
            }
            ItemKind::OpenHistogram => self.histograms(),
            ItemKind::Identifier => {
                if &self.text[self.peek.start..self.peek.end] != "stale" {
                    return Err(self.unexpected("series values", "number or \"stale\""));
                }
                self.advance()?;
                self.floats(stale_nan())
            }
            ItemKind::Number | ItemKind::Add | ItemKind::Sub => {
                let value = self.signed_number("series values", "")?;
                self.floats(value)
            }
            _ => Err(self.misplaced()),
        }
    }

    fn floats(&mut self, value: f64) -> Result<(), ParseError> {
        let mut delta = None;
        if matches!(self.peek.kind, ItemKind::Add | ItemKind::Sub) {
            delta = Some(self.signed_number("series values", "")?);
            if self.peek.kind != ItemKind::Times {
                return Err(self.misplaced());
            }
        }
        let more = self.times()?.unwrap_or(0);
        self.push(SequenceItem::Floats { first: value, delta, count: more.saturating_add(1) })
    }

    fn push(&mut self, item: SequenceItem) -> Result<(), ParseError> {
        self.count = self.count.saturating_add(item.count());
        if self.count > self.max_values {
            return Err(self.too_many());
        }
        self.out.push(item);
        Ok(())
    }

    fn too_many(&self) -> ParseError {
        ParseError::new(
            Span::new(self.peek.start, self.peek.end),
            format!("more than {} values in one series", self.max_values),
        )
    }

    /// `x` and a count, where they follow.
    fn times(&mut self) -> Result<Option<u64>, ParseError> {
        if self.peek.kind != ItemKind::Times {
            return Ok(None);
        }
        self.advance()?;
        if self.peek.kind != ItemKind::Number {
            return Err(self.misplaced());
        }
        let count = self.unsigned()?;
        if count > self.max_values {
            return Err(self.too_many());
        }
        self.advance()?;
        Ok(Some(count))
    }

    /// The number in front, as a count; it stays in front.
    fn unsigned(&self) -> Result<u64, ParseError> {
        let text = &self.text[self.peek.start..self.peek.end];
        text.parse().map_err(|_| {
            let why = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            ParseError::new(
                Span::new(self.peek.start, self.peek.end),
                format!(
                    "invalid repetition in series values: strconv.ParseUint: parsing {}: {why}",
                    go_quote(text)
                ),
            )
        })
    }

    fn signed_number(&mut self, context: &str, expected: &str) -> Result<f64, ParseError> {
        let mut negative = false;
        if matches!(self.peek.kind, ItemKind::Add | ItemKind::Sub) {
            negative = self.advance()?.kind == ItemKind::Sub;
        }
        if self.peek.kind != ItemKind::Number {
            return Err(self.unexpected(context, expected));
        }
        let value = literal::number(&self.text[self.peek.start..self.peek.end]).map_err(|e| {
            ParseError::new(Span::new(self.peek.start, self.peek.end), format!("error parsing number: {e}"))
        })?;
        self.advance()?;
        Ok(if negative { -value } else { value })
    }

    fn histograms(&mut self) -> Result<(), ParseError> {
        let base = Arc::new(self.histogram()?);
        let mut hint_set = self.hint_set;
        let mut delta = None;
        if matches!(self.peek.kind, ItemKind::Add | ItemKind::Sub) {
            let negative = self.advance()?.kind == ItemKind::Sub;
            if self.peek.kind != ItemKind::OpenHistogram {
                return Err(self.misplaced());
            }
            delta = Some((negative, self.histogram()?));
            hint_set = self.hint_set;
            if self.peek.kind != ItemKind::Times {
                return Err(self.misplaced());
            }
        }
        // Upstream reports combining at the count, which is the last token it read.
        let more = if self.peek.kind == ItemKind::Times {
            let at = self.pos;
            let count = self.times()?.unwrap_or(0);
            (count, at)
        } else {
            (0, self.pos)
        };
        let (more, at) = more;
        if let Some((negative, delta)) = &delta
            && more > 0
        {
            // What comes out of the first combination has the same schema and bounds as its first operand, so
            // the further ones work if the first does.
            let wrong = |message: String| ParseError::new(Span::new(at, at), message);
            if base.schema > delta.schema {
                return Err(wrong(format!(
                    "error combining histograms: cannot merge from schema {} to {}",
                    delta.schema, base.schema
                )));
            }
            let mut next = FloatHistogram::clone(&base);
            let combined = if *negative { next.sub(delta) } else { next.add(delta) };
            combined.map_err(|e| wrong(e.to_string()))?;
        }
        self.push(SequenceItem::Histograms {
            first: base,
            delta: delta.map(|(negative, h)| (negative, Arc::new(h))),
            count: more.saturating_add(1),
            counter_reset_hint_set: hint_set,
        })
    }

    /// `{{…}}`
    fn histogram(&mut self) -> Result<FloatHistogram, ParseError> {
        self.advance()?;
        let mut h = FloatHistogram::default();
        self.hint_set = false;
        let (mut offset, mut negative_offset) = (0, 0);
        let mut custom_values = None;
        let mut seen = [false; DESCRIPTORS.len()];
        // An error behind the first part has a text of its own.
        let mut place = ("series values", "");
        if self.peek.kind == ItemKind::Space {
            self.advance()?;
            if self.peek.kind != ItemKind::CloseHistogram {
                return Err(self.misplaced());
            }
        }
        while self.peek.kind != ItemKind::CloseHistogram {
            let ItemKind::Descriptor(descriptor) = self.peek.kind else {
                return Err(self.unexpected(place.0, place.1));
            };
            self.advance()?;
            if self.peek.kind != ItemKind::Colon {
                return Err(self.unexpected(place.0, place.1));
            }
            self.advance()?;
            let already = std::mem::replace(&mut seen[descriptor as usize], true);
            match descriptor {
                Descriptor::Sum => h.sum = self.signed_number(place.0, place.1)?,
                Descriptor::Count => h.count = self.signed_number(place.0, place.1)?,
                Descriptor::ZeroBucket => h.zero_count = self.signed_number(place.0, place.1)?,
                Descriptor::ZeroBucketWidth => {
                    if self.peek.kind != ItemKind::Number {
                        return Err(self.unexpected(place.0, place.1));
                    }
                    h.zero_threshold = self.signed_number(place.0, place.1)?;
                }
                Descriptor::Schema => h.schema = self.integer(place)?,
                Descriptor::Offset => offset = self.integer(place)?,
                Descriptor::NegativeOffset => negative_offset = self.integer(place)?,
                Descriptor::Buckets => h.positive_buckets = self.buckets(place)?,
                Descriptor::NegativeBuckets => h.negative_buckets = self.buckets(place)?,
                Descriptor::CustomValues => custom_values = Some(self.buckets(place)?),
                Descriptor::CounterResetHint => match self.peek.kind {
                    ItemKind::Hint(hint) => {
                        h.counter_reset_hint = hint;
                        self.hint_set = true;
                        self.advance()?;
                    }
                    _ => return Err(self.unexpected(place.0, place.1)),
                },
            }
            if already {
                let name = DESCRIPTORS[descriptor as usize].0;
                return Err(ParseError::new(
                    Span::default(),
                    format!("duplicate key \"{name}\" in histogram"),
                ));
            }
            place = ("histogram description", "histogram description key, e.g. buckets:[5 10 7]");
            match self.peek.kind {
                ItemKind::Space => {
                    self.advance()?;
                }
                ItemKind::CloseHistogram => {}
                _ => return Err(self.unexpected(place.0, place.1)),
            }
        }
        self.advance()?;
        let spans = |offset: i32, buckets: &[f64]| {
            if buckets.is_empty() {
                Vec::new()
            } else {
                vec![BucketSpan { offset, length: buckets.len() as u32 }]
            }
        };
        h.positive_spans = spans(offset, &h.positive_buckets);
        h.negative_spans = spans(negative_offset, &h.negative_buckets);
        h.custom_values = custom_values.map(Arc::from);
        Ok(h)
    }

    fn integer(&mut self, place: (&str, &str)) -> Result<i32, ParseError> {
        let negative = self.peek.kind == ItemKind::Sub;
        if negative {
            self.advance()?;
        }
        if self.peek.kind != ItemKind::Number {
            return Err(self.unexpected(place.0, place.1));
        }
        let n = self.unsigned()? as i64;
        self.advance()?;
        Ok((if negative { n.wrapping_neg() } else { n }) as i32)
    }

    /// `[1 2 3]`
    fn buckets(&mut self, place: (&str, &str)) -> Result<Vec<f64>, ParseError> {
        if self.peek.kind != ItemKind::LeftBracket {
            return Err(self.unexpected(place.0, place.1));
        }
        self.advance()?;
        let mut buckets = vec![self.signed_number(place.0, place.1)?];
        loop {
            match self.peek.kind {
                ItemKind::RightBracket => {
                    self.advance()?;
                    return Ok(buckets);
                }
                ItemKind::Space => {
                    self.advance()?;
                    if self.peek.kind != ItemKind::RightBracket {
                        buckets.push(self.signed_number(place.0, place.1)?);
                    }
                }
                _ => return Err(self.unexpected(place.0, place.1)),
            }
        }
    }
}

/// Number of the first counter reset hint's token in upstream's table.
const FIRST_HINT: usize = 57445;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(v: &SequenceValue) -> String {
        match &v.histogram {
            _ if v.omitted => "_".to_string(),
            Some(h) => h.test_expression(),
            None if tsdbctl_model::sample::is_stale(v.value) => "stale".to_string(),
            None => v.value.to_string(),
        }
    }

    #[test]
    fn sequences_expand() {
        for (written, expected) in [
            ("{} 1 2 3", "1 2 3"),
            ("m{} 1 2 3-10x4", "1 2 3 -7 -17 -27 -37"),
            ("m 1 3 _ 5 _x4", "1 3 _ 5 _ _ _ _"),
            ("m{a=\"b\"} 1 -1 -3-10x4 7 9 +5", "1 -1 -3 -13 -23 -33 -43 7 9 5"),
            ("m 1x0 1+1x0 2x2   ", "1 1 2 2 2"),
            ("m stale NaN -Inf 1e3 .5", "stale NaN -inf 1000 0.5"),
            ("m", ""),
            ("{} {{}} {{ }}", "{{}} {{}}"),
            (
                "{} {{schema:1  sum:-0.3  count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10  7  ] offset:-3 n_buckets:[4.1 -5] n_offset:5 counter_reset_hint:gauge}}",
                "{{schema:1 count:3.1 sum:-0.3 z_bucket:7.1 z_bucket_w:0.05 counter_reset_hint:gauge offset:-3 buckets:[5.1 10 7] n_offset:5 n_buckets:[4.1 -5]}}",
            ),
            ("{} {{sum:1}}x2", "{{sum:1}} {{sum:1}} {{sum:1}}"),
            (
                "{} {{buckets:[5 10 7] schema:1}}-{{buckets:[1 2 3] schema:1}}x2",
                "{{schema:1 buckets:[5 10 7]}} {{schema:1 buckets:[4 8 4]}} {{schema:1 buckets:[3 6 1]}}",
            ),
            ("{} {{sum:1}}+{{sum:1}}x2 {{sum:Inf}}", "{{sum:1}} {{sum:2}} {{sum:3}} {{sum:+Inf}}"),
        ] {
            let got =
                parse_series(written).unwrap_or_else(|e| panic!("{written}: {}", e.api_message(written)));
            let got: Vec<String> = got.values.iter().map(text).collect();
            assert_eq!(got.join(" "), expected, "{written}");
        }
    }

    #[test]
    fn names_and_labels_are_read() {
        let d =
            parse_series("{\"http.requests\", \"service.name\"=\"api\", instance='0', }  0+50x2").unwrap();
        assert_eq!(d.labels.get(METRIC_NAME), "http.requests");
        assert_eq!(d.labels.get("service.name"), "api");
        assert_eq!(d.labels.get("instance"), "0");
        assert_eq!(d.values.len(), 3);
        assert_eq!(parse_metric("sum{by=\"x\"}").unwrap().len(), 2);
        assert!(parse_metric("a b").is_err());
    }

    #[test]
    fn wrong_sequences_are_refused_with_upstreams_text() {
        for (text, message) in [
            (
                "{\"http.requests\"xx} 0",
                "1:17: parse error: unexpected identifier \"xx\" in label set, expected \",\" or \"}\"",
            ),
            (
                "{\"http.requests\"=, x=\"y\"} 0",
                "1:18: parse error: unexpected \",\" in label set, expected string",
            ),
            ("{\"http.requests} 0", "1:2: parse error: unterminated quoted string"),
            ("{} 1+1", "1:7: parse error: unexpected end of input in series values"),
            ("m 5 _a4", "1:6: parse error: unexpected identifier \"a4\" in series values"),
            ("m -3-3 -3", "1:7: parse error: unexpected \" \" in series values"),
            ("m -3 _-2", "1:7: parse error: unexpected <op:-> in series values"),
            (
                "m stole",
                "1:3: parse error: unexpected identifier \"stole\" in series values, expected number or \"stale\"",
            ),
            ("m 5m", "1:3: parse error: bad number syntax: \"5\""),
            (
                "m 1x1.5",
                "1:5: parse error: invalid repetition in series values: strconv.ParseUint: parsing \"1.5\": invalid syntax",
            ),
            (
                "{} {{buckets:[5 10 7] schema:1}}+{{buckets:[1 2 3] schema:0}}x2",
                "1:63: parse error: error combining histograms: cannot merge from schema 0 to 1",
            ),
            ("{} {{schema:1 schema:1}}", "1:1: parse error: duplicate key \"schema\" in histogram"),
            ("{} {{foo:1}}", "1:6: parse error: bad histogram descriptor found: \"foo\""),
            ("{} {{schema :1}}", "1:6: parse error: missing `:` for histogram descriptor"),
            ("{} {{schema: 1}}", "1:13: parse error: unexpected \" \" in series values"),
            ("{} {{buckets:[ 1]}}", "1:15: parse error: unexpected \" \" in series values"),
            ("{} {{ schema:1}}", "1:7: parse error: unexpected \"<Item 57372>\" \"schema\" in series values"),
            ("{} {{counter_reset_hint:foo}}", "1:25: parse error: bad histogram descriptor found: \"foo\""),
            ("m 1x99999999999", "1:5: parse error: more than 10000000 values in one series"),
        ] {
            let e = parse_series(text).expect_err(text);
            assert_eq!(e.api_message(text), message);
        }
    }
}
