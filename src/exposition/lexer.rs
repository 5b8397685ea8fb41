//! Tokens of Prometheus text and of OpenMetrics, one at a time.
//!
//! Both are regular languages with a state per part of the line. Which byte a token stops at shows in the errors,
//! so it is upstream's: a byte that fits nothing makes the token invalid where it stands, without going back.
//!
//! ```text
//! text         line  = name ["{" labels "}"] value [millis] LF | "#" … LF | LF      blanks anywhere
//! openmetrics  line  = name ["{" labels "}"] SP value [SP seconds] [" # {" labels "}" SP value [SP seconds]] LF
//!                    | "# " ("HELP " | "TYPE " | "UNIT ") name SP text LF | "# EOF" [LF]
//! labels             = name "=" quoted ("," …)*      a quoted string alone is the metric's name
//! ```

use crate::token::Token;

/// Which of the two languages is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Prometheus text. The body is read as if a newline stood behind it.
    Text,
    /// OpenMetrics text.
    OpenMetrics,
}

/// The part of the line the lexer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Init,
    Comment,
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

/// May stand in a metric name.
const NAME: u8 = 1;
/// May begin one.
const NAME_START: u8 = 2;
/// May stand in a label name.
const LABEL: u8 = 4;
/// May begin one.
const LABEL_START: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut b = 0;
    while b < 256 {
        let c = b as u8;
        table[b] = if c.is_ascii_alphabetic() || c == b'_' {
            NAME | NAME_START | LABEL | LABEL_START
        } else if c.is_ascii_digit() {
            NAME | LABEL
        } else if c == b':' {
            NAME | NAME_START
        } else {
            0
        };
        b += 1;
    }
    table
};

pub(crate) fn is_name_start(b: u8) -> bool {
    CLASSES[b as usize] & NAME_START != 0
}

pub(crate) fn is_name(b: u8) -> bool {
    CLASSES[b as usize] & NAME != 0
}

pub(crate) fn is_label_start(b: u8) -> bool {
    CLASSES[b as usize] & LABEL_START != 0
}

pub(crate) fn is_label(b: u8) -> bool {
    CLASSES[b as usize] & LABEL != 0
}

/// A place in a body, and how to read on from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'b> {
    pub(crate) body: &'b [u8],
    pub(crate) dialect: Dialect,
    pub(crate) state: State,
    /// First byte of the current token.
    pub(crate) start: usize,
    /// Behind its last byte.
    pub(crate) at: usize,
}

impl<'b> Lexer<'b> {
    pub(crate) fn new(body: &'b [u8], dialect: Dialect) -> Self {
        Self { body, dialect, state: State::Init, start: 0, at: 0 }
    }

    /// Length with the newline that is read behind a text body.
    pub(crate) fn len(&self) -> usize {
        self.body.len() + usize::from(self.dialect == Dialect::Text)
    }

    /// The byte at the current place; 0 at the end, which no token takes.
    #[inline]
    fn current(&self) -> u8 {
        match self.body.get(self.at) {
            Some(b) => *b,
            None if self.at < self.len() => b'\n',
            None => 0,
        }
    }

    /// Steps on. Zero bytes are passed over where free text may stand.
    #[inline]
    fn step(&mut self) -> u8 {
        self.at += 1;
        let mut b = self.current();
        if b == 0 && matches!(self.state, State::LabelValue | State::MetaText | State::Comment) {
            while b == 0 && self.at < self.len() {
                self.at += 1;
                b = self.current();
            }
        }
        b
    }

    fn step_while(&mut self, keep: impl Fn(u8) -> bool) {
        while keep(self.step()) {}
    }

    fn one(&mut self, token: Token, state: State) -> Token {
        self.step();
        self.state = state;
        token
    }

    /// The current token's bytes. The newline that is only thought of is not among them.
    pub(crate) fn bytes(&self) -> &'b [u8] {
        let end = self.at.min(self.body.len());
        &self.body[self.start.min(end)..end]
    }

    /// The next token, blanks left out in text.
    #[inline]
    pub(crate) fn next(&mut self) -> Token {
        match self.dialect {
            Dialect::OpenMetrics => self.openmetrics(),
            Dialect::Text => loop {
                let token = self.text();
                if token != Token::Whitespace {
                    return token;
                }
            },
        }
    }

    fn text(&mut self) -> Token {
        if self.at >= self.len() {
            return Token::Eof;
        }
        self.start = self.at;
        let b = self.current();
        if matches!(b, b' ' | b'\t') && self.state != State::MetaText {
            self.step_while(is_blank);
            return Token::Whitespace;
        }
        match (self.state, b) {
            (State::Init, b'#') => {
                if !is_blank(self.step()) {
                    return self.comment();
                }
                self.step_while(is_blank);
                self.state = State::Comment;
                self.text_keyword()
            }
            (State::Init, b'\n') | (State::Timestamp, b'\n') => self.one(Token::Linebreak, State::Init),
            (State::Init, 0) => self.one(Token::Eof, State::Init),
            (State::Init | State::Value, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Init, b) if is_name_start(b) => {
                self.step_while(is_name);
                self.state = State::Value;
                Token::MetricName
            }
            (State::MetaName, b'"') => self.quoted(true, Token::MetricName, State::MetaText),
            (State::MetaName, b) if is_name_start(b) => {
                self.step_while(is_name);
                self.state = State::MetaText;
                Token::MetricName
            }
            (State::MetaText, _) => self.text_of_metadata(),
            (State::Labels, b'"') => self.quoted(true, Token::QuotedString, State::Labels),
            (State::Labels, b'}') => self.one(Token::BraceClose, State::Value),
            (State::Labels, b'=') => self.one(Token::Equal, State::LabelValue),
            (State::Labels, b',') => self.one(Token::Comma, State::Labels),
            (State::Labels, b) if is_label_start(b) => {
                self.step_while(is_label);
                Token::LabelName
            }
            (State::LabelValue, b'"') => self.quoted(true, Token::LabelValue, State::Labels),
            (State::Value, b) if !matches!(b, b'\n' | 0) => {
                self.step_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n' | 0));
                self.state = State::Timestamp;
                Token::Value
            }
            (State::Timestamp, b) if b.is_ascii_digit() => {
                self.step_while(|b| b.is_ascii_digit());
                Token::Timestamp
            }
            (State::Comment, _) => self.comment(),
            _ => Token::Invalid,
        }
    }

    /// `HELP` or `TYPE` behind `# `; any other word makes a comment.
    fn text_keyword(&mut self) -> Token {
        let (word, token): (&[u8], _) = match self.current() {
            b'H' => (b"ELP", Token::Help),
            b'T' => (b"YPE", Token::Type),
            _ => return self.comment(),
        };
        for want in word {
            if self.step() != *want {
                return self.comment();
            }
        }
        if !is_blank(self.step()) {
            return self.comment();
        }
        self.step_while(is_blank);
        self.state = State::MetaName;
        token
    }

    /// All up to the newline. Only blanks are blanks; nothing at all is an empty text.
    fn text_of_metadata(&mut self) -> Token {
        let mut blank = true;
        let mut b = self.current();
        while is_blank(b) {
            b = self.step();
        }
        if !matches!(b, b'\n' | 0) {
            blank = false;
            self.skip_to_newline();
        }
        if blank && self.at > self.start {
            return Token::Whitespace;
        }
        self.state = State::Init;
        Token::Text
    }

    fn skip_to_newline(&mut self) {
        let rest = self.body.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    }

    /// The rest of the line as a comment. A zero byte right here ends the body, as upstream has it.
    fn comment(&mut self) -> Token {
        if self.current() == 0 {
            return Token::Eof;
        }
        // Upstream looks for zero bytes in a comment that was not set off by a blank.
        let rest = self.body.get(self.at..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if self.state != State::Comment
            && let Some(zero) = memchr::memchr(0, &rest[..end])
        {
            self.at += zero;
            return Token::Eof;
        }
        self.at += end;
        self.state = State::Init;
        Token::Comment
    }

    fn openmetrics(&mut self) -> Token {
        if self.at >= self.body.len() {
            return Token::Eof;
        }
        self.start = self.at;
        match (self.state, self.current()) {
            (State::Init, b'#') => {
                if self.step() != b' ' {
                    return Token::Invalid;
                }
                self.step();
                self.state = State::Comment;
                self.openmetrics_keyword()
            }
            (State::Init | State::Value, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Init, b) if is_name_start(b) => {
                self.step_while(is_name);
                self.state = State::Value;
                Token::MetricName
            }
            (State::Comment, _) => self.openmetrics_keyword(),
            (State::MetaName, b'"') => self.quoted(true, Token::MetricName, State::MetaText),
            (State::MetaName, b) if is_name_start(b) => {
                self.step_while(is_name);
                self.state = State::MetaText;
                Token::MetricName
            }
            (State::MetaText, b' ') => {
                self.step();
                if self.current() != b'\n' {
                    self.skip_to_newline();
                }
                if self.at >= self.body.len() {
                    return Token::Invalid;
                }
                self.one(Token::Text, State::Init)
            }
            (State::Labels, b'"') => self.quoted(true, Token::QuotedString, State::Labels),
            (State::Labels, b'}') => self.one(Token::BraceClose, State::Value),
            (State::Labels, b'=') => self.one(Token::Equal, State::LabelValue),
            (State::Labels | State::Exemplar, b',') => self.one(Token::Comma, self.state),
            (State::Labels | State::Exemplar, b) if is_label_start(b) => {
                self.step_while(is_label);
                Token::LabelName
            }
            (State::LabelValue, b'"') => self.quoted(false, Token::LabelValue, State::Labels),
            (State::Value, b' ') => self.word(Token::Value, State::Timestamp),
            (State::Timestamp, b'\n') | (State::ExemplarTimestamp, b'\n') => {
                self.one(Token::Linebreak, State::Init)
            }
            (State::Timestamp, b' ') => self.timestamp_or_exemplar(),
            (State::Exemplar, b'"') => self.quoted(false, Token::QuotedString, State::Exemplar),
            (State::Exemplar, b'}') => self.one(Token::BraceClose, State::ExemplarValue),
            (State::Exemplar, b'=') => self.one(Token::Equal, State::ExemplarValue),
            (State::ExemplarValue, b'"') => self.quoted(false, Token::LabelValue, State::Exemplar),
            (State::ExemplarValue, b' ') => self.word(Token::Value, State::ExemplarTimestamp),
            (State::ExemplarTimestamp, b' ') => self.word(Token::Timestamp, State::ExemplarTimestamp),
            _ => Token::Invalid,
        }
    }

    fn openmetrics_keyword(&mut self) -> Token {
        let (word, token): (&[u8], _) = match self.current() {
            b'H' => (b"ELP ", Token::Help),
            b'T' => (b"YPE ", Token::Type),
            b'U' => (b"NIT ", Token::Unit),
            b'E' => (b"OF", Token::EofWord),
            _ => return Token::Invalid,
        };
        for want in word {
            if self.step() != *want {
                return Token::Invalid;
            }
        }
        if self.step() == b'\n' && token == Token::EofWord {
            self.step();
        }
        self.state = if token == Token::EofWord { State::Init } else { State::MetaName };
        token
    }

    /// A space and what follows up to the next space or newline; at least one byte.
    fn word(&mut self, token: Token, state: State) -> Token {
        if matches!(self.step(), b' ' | b'\n' | 0) {
            return Token::Invalid;
        }
        self.step_while(|b| !matches!(b, b' ' | b'\n' | 0));
        self.state = state;
        token
    }

    fn timestamp_or_exemplar(&mut self) -> Token {
        match self.step() {
            b' ' | b'\n' | 0 => return Token::Invalid,
            b'#' => match self.step() {
                b' ' => {
                    if self.step() != b'{' {
                        return Token::Invalid;
                    }
                    return self.one(Token::Comment, State::Exemplar);
                }
                b'\n' | 0 => return Token::Timestamp,
                _ => {}
            },
            _ => {}
        }
        while !matches!(self.current(), b' ' | b'\n' | 0) {
            self.step();
        }
        Token::Timestamp
    }

    /// A string in double quotes; what a backslash protects is anything but a newline.
    fn quoted(&mut self, newlines: bool, token: Token, state: State) -> Token {
        let mut b = self.step();
        loop {
            match b {
                b'"' => return self.one(token, state),
                b'\\' => {
                    if matches!(self.step(), b'\n' | 0) {
                        return Token::Invalid;
                    }
                }
                0 => return Token::Invalid,
                b'\n' if !newlines => return Token::Invalid,
                _ => {}
            }
            b = self.step();
        }
    }
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}
