//! Text into tokens: plain text, and what stands between `{{` and `}}`.

use std::sync::LazyLock;

use regex::Regex;
use tsdbctl_model::printable::is_print;
use tsdbctl_model::quote::go_quote;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Unreadable; the message is in [`Token::error`].
    Error,
    /// `true`, `false`
    Bool,
    /// Any other printable ASCII character.
    Char,
    /// `'c'`
    CharConstant,
    /// `1+2i`
    Complex,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// The end of the text.
    Eof,
    /// `.Name`
    Field,
    /// A name without a dot.
    Identifier,
    /// `{{`
    LeftDelim,
    /// `(`
    LeftParen,
    /// A number, imaginary ones too.
    Number,
    /// `|`
    Pipe,
    /// `` `raw` ``
    RawString,
    /// `}}`
    RightDelim,
    /// `)`
    RightParen,
    /// A run of blanks.
    Space,
    /// `"text"`
    String,
    /// What stands outside of actions.
    Text,
    /// `$` or `$name`
    Variable,
    /// `block`
    Block,
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `.`
    Dot,
    /// `define`
    Define,
    /// `else`
    Else,
    /// `end`
    End,
    /// `if`
    If,
    /// `nil`
    Nil,
    /// `range`
    Range,
    /// `template`
    Template,
    /// `with`
    With,
}

impl TokenKind {
    fn is_keyword(self) -> bool {
        matches!(
            self,
            Self::Block
                | Self::Break
                | Self::Continue
                | Self::Dot
                | Self::Define
                | Self::Else
                | Self::End
                | Self::If
                | Self::Nil
                | Self::Range
                | Self::Template
                | Self::With
        )
    }
}

/// A token: the bytes `start..end` of the text.
#[derive(Clone, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    /// The line it starts on, from 1.
    pub line: usize,
    /// Why the text cannot be read ([`TokenKind::Error`]).
    pub error: Option<Box<str>>,
}

impl Token {
    /// The token as error texts name it.
    pub fn describe(&self, text: &str) -> String {
        let value = &text[self.start..self.end];
        match self.kind {
            TokenKind::Eof => "EOF".to_string(),
            TokenKind::Error => self.error.as_deref().unwrap_or_default().to_string(),
            kind if kind.is_keyword() => format!("<{value}>"),
            _ if value.len() > 10 => {
                let end = value.char_indices().nth(10).map_or(value.len(), |(i, _)| i);
                format!("{}...", go_quote(&value[..end]))
            }
            _ => go_quote(value),
        }
    }
}

/// The lexer; [`Lexer::next`] gives one token after another.
#[derive(Debug)]
pub struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    start: usize,
    inside: bool,
    parens: usize,
    /// The line of `counted_to`.
    line: usize,
    counted_to: usize,
    failed: bool,
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_space(c: char) -> bool {
    BLANKS.contains(&c)
}

/// Go's letters and decimal digits, and the underscore.
fn is_alphanumeric(c: char) -> bool {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A[\p{L}\p{Nd}]\z").ok());
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    WORD.as_ref().is_some_and(|word| word.is_match(c.encode_utf8(&mut [0; 4])))
}

/// A character as `%#U` prints it.
fn code_point(c: char) -> String {
    if is_print(c) { format!("U+{:04X} '{c}'", c as u32) } else { format!("U+{:04X}", c as u32) }
}

fn has_left_trim(text: &str) -> bool {
    matches!(text.as_bytes(), [b'-', b' ' | b'\t' | b'\r' | b'\n', ..])
}

fn has_right_trim(text: &str) -> bool {
    text.starts_with(BLANKS) && text[1..].starts_with("-}}")
}

impl<'a> Lexer<'a> {
    /// A lexer over `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, pos: 0, start: 0, inside: false, parens: 0, line: 1, counted_to: 0, failed: false }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let fits = self.peek().is_some_and(|c| wanted.contains(c));
        if fits {
            self.pos += 1;
        }
        fits
    }

    fn accept_run(&mut self, wanted: &str) {
        while self.accept(wanted) {}
    }

    fn token(&mut self, kind: TokenKind) -> Token {
        let passed = &self.text.as_bytes()[self.counted_to..self.start];
        self.line += passed.iter().filter(|b| **b == b'\n').count();
        self.counted_to = self.start;
        let token = Token { kind, start: self.start, end: self.pos, line: self.line, error: None };
        self.start = self.pos;
        token
    }

    fn fail(&mut self, message: String) -> Token {
        let mut token = self.token(TokenKind::Error);
        token.error = Some(message.into());
        self.failed = true;
        token
    }

    /// The next token; after an error and at the end, [`TokenKind::Eof`].
    pub fn next(&mut self) -> Token {
        if self.failed {
            self.pos = self.text.len();
            self.start = self.pos;
            return self.token(TokenKind::Eof);
        }
        if self.inside { self.inside_action() } else { self.outside() }
    }

    fn outside(&mut self) -> Token {
        loop {
            let Some(at) = self.rest().find("{{") else {
                self.pos = self.text.len();
                let kind = if self.pos > self.start { TokenKind::Text } else { TokenKind::Eof };
                return self.token(kind);
            };
            let delim = self.pos + at;
            if at > 0 {
                let mut plain = &self.text[self.start..delim];
                if has_left_trim(&self.text[delim + 2..]) {
                    plain = plain.trim_end_matches(BLANKS);
                }
                self.pos = self.start + plain.len();
                if !plain.is_empty() {
                    let token = self.token(TokenKind::Text);
                    self.pos = delim;
                    self.start = delim;
                    return token;
                }
                self.pos = delim;
                self.start = delim;
            }
            self.pos += 2;
            let marker = if has_left_trim(self.rest()) { 2 } else { 0 };
            if !self.rest()[marker..].starts_with("/*") {
                let token = self.token(TokenKind::LeftDelim);
                self.inside = true;
                self.parens = 0;
                self.pos += marker;
                self.start = self.pos;
                return token;
            }
            self.pos += marker;
            self.start = self.pos;
            if let Some(failed) = self.comment() {
                return failed;
            }
        }
    }

    fn comment(&mut self) -> Option<Token> {
        self.pos += 2;
        let Some(length) = self.rest().find("*/") else {
            return Some(self.fail("unclosed comment".to_string()));
        };
        self.pos += length + 2;
        if has_right_trim(self.rest()) {
            self.pos += 4;
            self.pos += self.rest().len() - self.rest().trim_start_matches(BLANKS).len();
        } else if self.rest().starts_with("}}") {
            self.pos += 2;
        } else {
            return Some(self.fail("comment ends before closing delimiter".to_string()));
        }
        self.start = self.pos;
        None
    }

    fn right_delim(&mut self) -> Token {
        let trim = has_right_trim(self.rest());
        if trim {
            self.pos += 2;
            self.start = self.pos;
        }
        self.pos += 2;
        let token = self.token(TokenKind::RightDelim);
        if trim {
            self.pos += self.rest().len() - self.rest().trim_start_matches(BLANKS).len();
            self.start = self.pos;
        }
        self.inside = false;
        token
    }

    fn inside_action(&mut self) -> Token {
        if has_right_trim(self.rest()) || self.rest().starts_with("}}") {
            return if self.parens == 0 {
                self.right_delim()
            } else {
                self.fail("unclosed left paren".to_string())
            };
        }
        let Some(c) = self.bump() else { return self.fail("unclosed action".to_string()) };
        match c {
            c if is_space(c) => self.space(),
            '=' => self.token(TokenKind::Assign),
            ':' if self.accept("=") => self.token(TokenKind::Declare),
            ':' => {
                // Go's lexer has read on.
                self.bump();
                self.fail("expected :=".to_string())
            }
            '|' => self.token(TokenKind::Pipe),
            '"' => self.quoted('"', TokenKind::String, "unterminated quoted string"),
            '\'' => self.quoted('\'', TokenKind::CharConstant, "unterminated character constant"),
            '`' => match self.rest().find('`') {
                Some(length) => {
                    self.pos += length + 1;
                    self.token(TokenKind::RawString)
                }
                None => self.fail("unterminated raw quoted string".to_string()),
            },
            '$' if self.at_terminator() => self.token(TokenKind::Variable),
            '$' => self.name(TokenKind::Variable),
            '.' if self.peek().is_some_and(|c| !c.is_ascii_digit()) => {
                if self.at_terminator() {
                    return self.token(TokenKind::Dot);
                }
                self.name(TokenKind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos -= 1;
                self.number()
            }
            c if is_alphanumeric(c) => {
                self.pos -= c.len_utf8();
                self.word()
            }
            '(' => {
                self.parens += 1;
                self.token(TokenKind::LeftParen)
            }
            ')' if self.parens == 0 => self.fail("unexpected right paren".to_string()),
            ')' => {
                self.parens -= 1;
                self.token(TokenKind::RightParen)
            }
            ' '..='~' => self.token(TokenKind::Char),
            c => self.fail(format!("unrecognized character in action: {}", code_point(c))),
        }
    }

    /// A run of blanks, the first of which is passed already. The last one may belong to ` -}}`.
    fn space(&mut self) -> Token {
        let mut count = 1;
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
            count += 1;
        }
        if has_right_trim(&self.text[self.pos - 1..]) {
            self.pos -= 1;
            if count == 1 {
                return self.right_delim();
            }
        }
        self.token(TokenKind::Space)
    }

    fn quoted(&mut self, quote: char, kind: TokenKind, unterminated: &str) -> Token {
        loop {
            match self.bump() {
                Some('\\') => {
                    if matches!(self.bump(), None | Some('\n')) {
                        return self.fail(unterminated.to_string());
                    }
                }
                None | Some('\n') => return self.fail(unterminated.to_string()),
                Some(c) if c == quote => return self.token(kind),
                Some(_) => {}
            }
        }
    }

    /// Whether a name may end here.
    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with("}}"),
        }
    }

    fn pass_name(&mut self) -> Option<Token> {
        while self.peek().is_some_and(is_alphanumeric) {
            self.bump();
        }
        if self.at_terminator() {
            return None;
        }
        let c = self.peek()?;
        Some(self.fail(format!("bad character {}", code_point(c))))
    }

    fn name(&mut self, kind: TokenKind) -> Token {
        match self.pass_name() {
            Some(failed) => failed,
            None => self.token(kind),
        }
    }

    fn word(&mut self) -> Token {
        if let Some(failed) = self.pass_name() {
            return failed;
        }
        let kind = match &self.text[self.start..self.pos] {
            "block" => TokenKind::Block,
            "break" => TokenKind::Break,
            "continue" => TokenKind::Continue,
            "define" => TokenKind::Define,
            "else" => TokenKind::Else,
            "end" => TokenKind::End,
            "if" => TokenKind::If,
            "range" => TokenKind::Range,
            "nil" => TokenKind::Nil,
            "template" => TokenKind::Template,
            "with" => TokenKind::With,
            "true" | "false" => TokenKind::Bool,
            _ => TokenKind::Identifier,
        };
        self.token(kind)
    }

    fn number(&mut self) -> Token {
        let mut good = self.scan_number();
        let mut kind = TokenKind::Number;
        if good && matches!(self.peek(), Some('+' | '-')) {
            good = self.scan_number() && self.text[..self.pos].ends_with('i');
            kind = TokenKind::Complex;
        }
        if good {
            return self.token(kind);
        }
        let message = format!("bad number syntax: {}", go_quote(&self.text[self.start..self.pos]));
        self.fail(message)
    }

    /// Whatever may be a number: the parser looks closer.
    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.bump();
            return false;
        }
        true
    }
}
