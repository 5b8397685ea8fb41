//! The expression lexer: one token at a time, with upstream's error texts.

use tsdbctl_model::Span;
use tsdbctl_model::float_text::go_quote;

use super::ast::BinaryOp;
use super::error::ParseError;
use super::token::{Kind, Token, keyword};

/// Splits a text into tokens. After an error it must not be asked again.
pub(crate) struct Lexer<'a> {
    pub(crate) input: &'a str,
    bytes: &'a [u8],
    pos: usize,
    start: usize,
    open_parens: i64,
    in_braces: bool,
    in_brackets: bool,
    /// Directly behind `[`, up to the first number.
    in_duration: bool,
    got_colon: bool,
    got_duration: bool,
    /// In a series description hexadecimal numbers do not exist and `x` may follow a number.
    pub(crate) series: bool,
    /// Start of the last token.
    pub(crate) last_start: usize,
    /// End of the last closing bracket, number or duration.
    pub(crate) last_closing: usize,
}

/// The quoted form of a character in error texts (`%q` of a rune); `None` is the end of input.
pub(crate) fn quote_char(c: Option<char>) -> String {
    match c {
        // Upstream's marker for the end is no valid rune and prints as the replacement character.
        None => "'\u{fffd}'".to_string(),
        Some('\'') => "'\\''".to_string(),
        Some('"') => "'\"'".to_string(),
        Some(c) => {
            let quoted = go_quote(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_alpha(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphabetic()
}

fn is_alphanumeric(b: u8) -> bool {
    is_alpha(b) || b.is_ascii_digit()
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a str) -> Self {
        Self {
            input,
            bytes: input.as_bytes(),
            pos: 0,
            start: 0,
            open_parens: 0,
            in_braces: false,
            in_brackets: false,
            in_duration: false,
            got_colon: false,
            got_duration: false,
            series: false,
            last_start: 0,
            last_closing: 0,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.input[self.pos..].chars().next()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        match self.peek() {
            Some(b) if set.contains(&b) => {
                self.pos += 1;
                true
            }
            _ => false,
        }
    }

    fn error(&mut self, message: String) -> ParseError {
        ParseError::new(Span::new(self.start, self.input.len()), message)
    }

    fn emit(&mut self, kind: Kind) -> Token {
        let token = Token { kind, start: self.start as u32, end: self.pos as u32 };
        self.last_start = self.start;
        self.start = self.pos;
        if matches!(
            kind,
            Kind::RightBrace | Kind::RightParen | Kind::RightBracket | Kind::Duration | Kind::Number
        ) {
            self.last_closing = self.pos;
        }
        token
    }

    /// The next token; [`Kind::Eof`] at the end.
    pub(crate) fn next(&mut self) -> Result<Token, ParseError> {
        loop {
            while self.peek().is_some_and(is_space) {
                self.pos += 1;
            }
            self.start = self.pos;
            if self.peek() == Some(b'#') && !self.in_duration {
                while self.peek().is_some_and(|b| b != b'\n' && b != b'\r') {
                    self.pos += 1;
                }
                continue;
            }
            return if self.in_braces {
                self.inside_braces()
            } else if self.in_duration {
                self.duration()
            } else {
                self.statement()
            };
        }
    }

    fn statement(&mut self) -> Result<Token, ParseError> {
        let Some(c) = self.next_char() else {
            if self.open_parens != 0 {
                return Err(self.error("unclosed left parenthesis".to_string()));
            }
            if self.in_brackets {
                return Err(self.error("unclosed left bracket".to_string()));
            }
            return Ok(self.emit(Kind::Eof));
        };
        let kind = match c {
            ',' => Kind::Comma,
            '*' => Kind::Operator(BinaryOp::Mul),
            '/' => Kind::Operator(BinaryOp::Div),
            '%' => Kind::Operator(BinaryOp::Mod),
            '+' => Kind::Operator(BinaryOp::Add),
            '-' => Kind::Operator(BinaryOp::Sub),
            '^' => Kind::Operator(BinaryOp::Pow),
            '=' => match self.peek() {
                Some(b'=') => {
                    self.pos += 1;
                    Kind::Operator(BinaryOp::Eql)
                }
                Some(b'~') => {
                    return Err(self.error("unexpected character after '=': '~'".to_string()).with_hint(
                        "`=~` belongs inside braces, between a label and a pattern: {label=~\"a|b\"}",
                    ));
                }
                _ => Kind::Assign,
            },
            '!' => match self.next_char() {
                Some('=') => Kind::Operator(BinaryOp::Neq),
                c => return Err(self.error(format!("unexpected character after '!': {}", quote_char(c)))),
            },
            '<' => match self.peek() {
                Some(b'=') => {
                    self.pos += 1;
                    Kind::Operator(BinaryOp::Lte)
                }
                Some(b'/') => {
                    self.pos += 1;
                    Kind::Operator(BinaryOp::TrimUpper)
                }
                _ => Kind::Operator(BinaryOp::Lss),
            },
            '>' => match self.peek() {
                Some(b'=') => {
                    self.pos += 1;
                    Kind::Operator(BinaryOp::Gte)
                }
                Some(b'/') => {
                    self.pos += 1;
                    Kind::Operator(BinaryOp::TrimLower)
                }
                _ => Kind::Operator(BinaryOp::Gtr),
            },
            '0'..='9' => return self.number_or_duration(),
            '.' if self.peek().is_some_and(|b| b.is_ascii_digit()) => return self.number_or_duration(),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            c if c == ':' || c == '_' || c.is_ascii_alphabetic() => {
                if !self.in_brackets {
                    return Ok(self.word());
                }
                if c == ':' {
                    if self.got_colon {
                        return Err(self.error("unexpected colon ':'".to_string()));
                    }
                    self.got_colon = true;
                    Kind::Colon
                } else {
                    if let Some(kind) = self.duration_keyword(c) {
                        return Ok(self.emit(kind));
                    }
                    return Err(self
                        .error(format!("unexpected character: {}, expected ':'", quote_char(Some(c))))
                        .with_hint(
                            "inside [] stand durations such as 5m or 1h30m, or range:step of a subquery",
                        ));
                }
            }
            '(' => {
                self.open_parens += 1;
                Kind::LeftParen
            }
            ')' => return self.right_paren(),
            '{' => {
                self.in_braces = true;
                Kind::LeftBrace
            }
            '[' => {
                if self.in_brackets {
                    return Err(self.error("unexpected left bracket '['".to_string()));
                }
                self.got_colon = false;
                self.in_brackets = true;
                self.in_duration = true;
                Kind::LeftBracket
            }
            ']' => {
                if !self.in_brackets {
                    return Err(self.error("unexpected right bracket ']'".to_string()));
                }
                self.in_brackets = false;
                Kind::RightBracket
            }
            '@' => Kind::At,
            c => {
                let hint = match c {
                    '“' | '”' | '‘' | '’' => Some("use straight quotes: \"…\""),
                    '&' => Some("`and` joins two vectors"),
                    '|' => Some("`or` joins two vectors"),
                    '$' => Some("variables of dashboards are not part of PromQL"),
                    '.' => Some(
                        "a metric name with dots is written as a quoted string in braces: {\"name.with.dots\"}",
                    ),
                    c if c.is_alphabetic() => Some(
                        "a name with such characters is quoted: {\"metric\", \"label\"=\"value\"} or by (\"label\")",
                    ),
                    _ => None,
                };
                let mut e = self.error(format!("unexpected character: {}", quote_char(Some(c))));
                e.hint = hint.map(str::to_string);
                return Err(e);
            }
        };
        Ok(self.emit(kind))
    }

    fn right_paren(&mut self) -> Result<Token, ParseError> {
        let token = self.emit(Kind::RightParen);
        self.open_parens -= 1;
        if self.open_parens < 0 {
            return Err(self.error("unexpected right parenthesis ')'".to_string()));
        }
        Ok(token)
    }

    fn inside_braces(&mut self) -> Result<Token, ParseError> {
        let Some(c) = self.next_char() else {
            return Err(self.error("unexpected end of input inside braces".to_string()));
        };
        let kind = match c {
            c if c == '_' || c.is_ascii_alphabetic() => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.pos += 1;
                }
                Kind::Identifier
            }
            ',' => Kind::Comma,
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            '=' => {
                if self.peek() == Some(b'~') {
                    self.pos += 1;
                    Kind::MatchRegexp
                } else {
                    Kind::Assign
                }
            }
            '!' => match self.next_char() {
                Some('~') => Kind::MatchNotRegexp,
                Some('=') => Kind::Operator(BinaryOp::Neq),
                c => {
                    return Err(self
                        .error(format!("unexpected character after '!' inside braces: {}", quote_char(c))));
                }
            },
            '{' => return Err(self.error("unexpected left brace '{'".to_string())),
            '}' => {
                self.in_braces = false;
                Kind::RightBrace
            }
            c => {
                let hint = match c {
                    '0'..='9' => Some("label values are quoted: {label=\"value\"}"),
                    '~' => Some("the regular expression operators are =~ and !~"),
                    '.' | '-' | '/' | ':' => {
                        Some("a label name with such characters is quoted: {\"label.name\"=\"value\"}")
                    }
                    '“' | '”' | '‘' | '’' => Some("use straight quotes: \"…\""),
                    _ => None,
                };
                let mut e =
                    self.error(format!("unexpected character inside braces: {}", quote_char(Some(c))));
                e.hint = hint.map(str::to_string);
                return Err(e);
            }
        };
        Ok(self.emit(kind))
    }

    fn duration(&mut self) -> Result<Token, ParseError> {
        let Some(c) = self.next_char() else {
            return Err(self.error("unexpected end of input in duration expression".to_string()));
        };
        let kind = match c {
            ']' => {
                self.in_brackets = false;
                self.in_duration = false;
                self.got_colon = false;
                Kind::RightBracket
            }
            ':' => {
                let token = self.emit(Kind::Colon);
                if !self.got_duration {
                    return Err(
                        self.error("unexpected colon before duration in duration expression".to_string())
                    );
                }
                if self.got_colon {
                    return Err(self.error("unexpected repeated colon in duration expression".to_string()));
                }
                self.got_colon = true;
                return Ok(token);
            }
            '(' => {
                self.open_parens += 1;
                Kind::LeftParen
            }
            ')' => return self.right_paren(),
            '+' => Kind::Operator(BinaryOp::Add),
            '-' => Kind::Operator(BinaryOp::Sub),
            '*' => Kind::Operator(BinaryOp::Mul),
            '/' => Kind::Operator(BinaryOp::Div),
            '%' => Kind::Operator(BinaryOp::Mod),
            '^' => Kind::Operator(BinaryOp::Pow),
            ',' => Kind::Comma,
            '0'..='9' => return self.leave_duration(),
            '.' if self.peek().is_some_and(|b| b.is_ascii_digit()) => return self.leave_duration(),
            c => match self.duration_keyword(c) {
                Some(kind) => kind,
                None => {
                    return Err(self
                        .error(format!(
                            "unexpected character in duration expression: {}",
                            quote_char(Some(c))
                        ))
                        .with_hint("durations look like 30s, 5m, 1h30m, 7d; units are ms s m h d w y"));
                }
            },
        };
        Ok(self.emit(kind))
    }

    fn leave_duration(&mut self) -> Result<Token, ParseError> {
        self.got_duration = true;
        self.in_duration = false;
        self.number_or_duration()
    }

    /// The rest of `step`, `range`, `max_of`, `min_of` behind its first character.
    fn duration_keyword(&mut self, first: char) -> Option<Kind> {
        if !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return None;
        }
        while self.peek().is_some_and(is_alpha) {
            self.pos += 1;
        }
        match keyword(&self.input[self.start..self.pos]) {
            Some(kind @ (Kind::Step | Kind::Range | Kind::MaxOf | Kind::MinOf)) => Some(kind),
            _ => None,
        }
    }

    /// A keyword or name whose first character is behind us.
    fn word(&mut self) -> Token {
        let mut colon = self.bytes[self.start] == b':';
        while let Some(b) = self.peek() {
            if b == b':' {
                colon = true;
            } else if !is_alphanumeric(b) {
                break;
            }
            self.pos += 1;
        }
        let kind = match keyword(&self.input[self.start..self.pos]) {
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight) if !self.followed_by_paren() => {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if colon => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.emit(kind)
    }

    fn followed_by_paren(&self) -> bool {
        self.bytes[self.pos..].iter().find(|b| !is_space(**b)) == Some(&b'(')
    }

    fn string(&mut self, quote: char) -> Result<Token, ParseError> {
        loop {
            match self.next_char() {
                Some('\\') => self.escape(quote)?,
                Some('\u{fffd}') => return Err(self.error("invalid UTF-8 rune".to_string())),
                None | Some('\n') => {
                    return Err(self.error("unterminated quoted string".to_string()).with_hint(format!(
                        "close it with {quote}; text of several lines stands in `backquotes`"
                    )));
                }
                Some(c) if c == quote => return Ok(self.emit(Kind::String)),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Result<Token, ParseError> {
        loop {
            match self.next_char() {
                Some('\u{fffd}') => return Err(self.error("invalid UTF-8 rune".to_string())),
                None => return Err(self.error("unterminated raw string".to_string())),
                Some('`') => return Ok(self.emit(Kind::String)),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), ParseError> {
        let c = self.next_char();
        let (mut digits, base, max, mut c) = match c {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => (3, 8, 255, c),
            Some('x') => (2, 16, 255, self.next_char()),
            Some('u') => (4, 16, 0x10_ffff, self.next_char()),
            Some('U') => (8, 16, 0x10_ffff, self.next_char()),
            None => return Err(self.error("escape sequence not terminated".to_string())),
            Some(c) => {
                return Err(self.error(format!("unknown escape sequence {}", unicode_name(c))).with_hint(
                    "a backslash in a regular expression is written twice in quotes, or once in `backquotes`",
                ));
            }
        };
        let mut x = 0_u32;
        while digits > 0 {
            match c.and_then(|c| c.to_digit(base)) {
                Some(d) => x = x.wrapping_mul(base).wrapping_add(d),
                None => {
                    return Err(match c {
                        None => self.error("escape sequence not terminated".to_string()),
                        Some(c) => {
                            self.error(format!("illegal character {} in escape sequence", unicode_name(c)))
                        }
                    });
                }
            }
            digits -= 1;
            if digits > 0 {
                c = self.next_char();
            }
        }
        if x > max || (0xd800..0xe000).contains(&x) {
            return Err(self.error("escape sequence is an invalid Unicode code point".to_string()));
        }
        Ok(())
    }

    /// A number or duration whose first character is behind us.
    fn number_or_duration(&mut self) -> Result<Token, ParseError> {
        self.pos = self.start;
        if self.scan_number() {
            return Ok(self.emit(Kind::Number));
        }
        if self.scan_duration() {
            return Ok(self.emit(Kind::Duration));
        }
        // Upstream's text ends with the character that ended the attempt.
        let text = go_quote(&self.input[self.start..self.pos]);
        let mut e = self.error(format!("bad number or duration syntax: {text}"));
        e.hint = Some(
            "durations look like 30s, 5m, 1h30m (units ms s m h d w y); names do not begin with a digit"
                .into(),
        );
        Err(e)
    }

    fn scan_duration(&mut self) -> bool {
        if !self.accept(b"smhdwy") {
            return false;
        }
        self.accept(b"s");
        while self.accept(b"0123456789") {
            while self.accept(b"0123456789") {}
            if !self.accept(b"smhdw") {
                return false;
            }
            self.accept(b"s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.pos += 1;
            return false;
        }
        true
    }

    /// The read position.
    pub(crate) fn position(&self) -> usize {
        self.pos
    }

    /// Whether a number stands at a place; the read position is behind it then, or where it went wrong.
    pub(crate) fn scan_number_at(&mut self, pos: usize) -> bool {
        self.pos = pos;
        self.scan_number()
    }

    fn scan_number(&mut self) -> bool {
        let initial = self.pos;
        let mut digits: &[u8] = b"0123456789";
        let mut hexadecimal = false;
        if !self.series && self.accept(b"0") && self.accept(b"xX") {
            self.accept(b"_");
            digits = b"0123456789abcdefABCDEF";
            hexadecimal = true;
        }
        self.accept(b".");
        self.accept(digits);
        let mut dot = false;
        let mut exponent = false;
        while let Some(b) = self.peek() {
            if !(digits.contains(&b) || matches!(b, b'.' | b'_' | b'e' | b'E')) {
                break;
            }
            if (b == b'.' && dot) || (matches!(b, b'e' | b'E') && exponent) {
                self.pos += 1;
                return false;
            }
            match b {
                b'.' => {
                    self.pos += 1;
                    dot = true;
                    if self.accept(b"_.") || hexadecimal {
                        return false;
                    }
                }
                b'e' | b'E' => {
                    self.pos += 1;
                    exponent = true;
                    self.accept(b"+-");
                    if self.accept(b"._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                b'_' => {
                    self.pos += 1;
                    if self.accept(b"._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                _ => while self.accept(digits) {},
            }
        }
        if self.pos == initial {
            return false;
        }
        match self.peek() {
            Some(b'x') if self.series => true,
            b => !b.is_some_and(is_alphanumeric),
        }
    }

    /// The end of the previous `)` if the last token read is a `)` behind it and only spaces lie between, else
    /// `fallback`.
    pub(crate) fn previous_right_paren(&self, fallback: usize) -> usize {
        let last = self.last_start;
        if fallback == 0 || fallback > self.input.len() || last == 0 || self.bytes.get(last) != Some(&b')') {
            return fallback;
        }
        for i in (1..last).rev() {
            match self.bytes[i] {
                b')' => return i + 1,
                b if is_space(b) => {}
                _ => return fallback,
            }
        }
        fallback
    }
}

/// `U+0071 'q'`; what Go does not print is named by its number alone.
fn unicode_name(c: char) -> String {
    if !tsdbctl_model::printable::is_print(c) {
        format!("U+{:04X}", c as u32)
    } else {
        format!("U+{:04X} '{c}'", c as u32)
    }
}
