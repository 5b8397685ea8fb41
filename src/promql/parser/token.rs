//! Tokens of the expression language and the words upstream uses for them in error texts.

use tsdbctl_model::Span;
use tsdbctl_model::float_text::go_quote;

use super::ast::{AggregateOp, BinaryOp};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Eof,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    MatchRegexp,
    /// `!~`
    MatchNotRegexp,
    /// `@`
    At,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Ignoring,
    Offset,
    Smoothed,
    Anchored,
    On,
    Without,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// One token: its kind and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Token {
    /// Its place.
    pub(crate) fn span(self) -> Span {
        Span { start: self.start, end: self.end }
    }

    /// Its text.
    pub(crate) fn text(self, input: &str) -> &str {
        &input[self.start as usize..self.end as usize]
    }

    /// How an error text names it.
    pub(crate) fn describe(self, input: &str) -> String {
        let text = self.text(input);
        match self.kind {
            Kind::Eof => "end of input".to_string(),
            Kind::Identifier => format!("identifier {}", go_quote(text)),
            Kind::MetricIdentifier => format!("metric identifier {}", go_quote(text)),
            Kind::String => format!("string {}", shortened(text)),
            Kind::Number => format!("number {}", shortened(text)),
            Kind::Duration => format!("duration {}", shortened(text)),
            Kind::Bool
            | Kind::By
            | Kind::GroupLeft
            | Kind::GroupRight
            | Kind::Fill
            | Kind::FillLeft
            | Kind::FillRight
            | Kind::Ignoring
            | Kind::Offset
            | Kind::Smoothed
            | Kind::Anchored
            | Kind::On
            | Kind::Without => format!("<{text}>"),
            Kind::Operator(_) | Kind::MatchRegexp | Kind::MatchNotRegexp | Kind::At => format!("<op:{text}>"),
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            _ => shortened(text),
        }
    }

    /// Whether a metric name may be this token.
    pub(crate) fn is_metric_name(self) -> bool {
        matches!(
            self.kind,
            Kind::Aggregate(_)
                | Kind::By
                | Kind::Fill
                | Kind::FillLeft
                | Kind::FillRight
                | Kind::Identifier
                | Kind::MetricIdentifier
                | Kind::Operator(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
                | Kind::Offset
                | Kind::Without
                | Kind::Start
                | Kind::End
                | Kind::Step
                | Kind::Range
                | Kind::Anchored
                | Kind::Smoothed
                | Kind::MaxOf
                | Kind::MinOf
        )
    }

    /// Whether an operand, or the value that fills it, may begin with this token.
    pub(crate) fn begins_operand(self) -> bool {
        self.is_metric_name()
            || matches!(
                self.kind,
                Kind::Number
                    | Kind::Duration
                    | Kind::String
                    | Kind::LeftParen
                    | Kind::LeftBrace
                    | Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
            )
    }

    /// Whether a label in a grouping clause may be this token.
    pub(crate) fn is_grouping_label(self) -> bool {
        match self.kind {
            Kind::Without => false,
            Kind::Bool | Kind::GroupLeft | Kind::GroupRight | Kind::Ignoring | Kind::On => true,
            Kind::Operator(BinaryOp::Atan2) => true,
            _ => self.is_metric_name(),
        }
    }

    /// Whether an expression can begin with this token.
    pub(crate) fn starts_expression(self) -> bool {
        matches!(
            self.kind,
            Kind::Number
                | Kind::Duration
                | Kind::String
                | Kind::LeftParen
                | Kind::LeftBrace
                | Kind::Operator(BinaryOp::Add | BinaryOp::Sub)
        ) || self.is_metric_name()
    }
}

/// Quoted; longer texts cut after ten characters.
fn shortened(text: &str) -> String {
    if text.len() > 10 {
        let cut = text.char_indices().nth(10).map_or(text.len(), |(i, _)| i);
        format!("{}...", go_quote(&text[..cut]))
    } else {
        go_quote(text)
    }
}

/// The token of a keyword, in any case of letters; `inf` and `nan` are numbers.
pub(crate) fn keyword(word: &str) -> Option<Kind> {
    let mut lower = [0_u8; 12];
    let bytes = word.as_bytes();
    if bytes.len() < 2 || bytes.len() > lower.len() {
        return None;
    }
    for (to, from) in lower.iter_mut().zip(bytes) {
        *to = from.to_ascii_lowercase();
    }
    Some(match &lower[..bytes.len()] {
        b"and" => Kind::Operator(BinaryOp::And),
        b"or" => Kind::Operator(BinaryOp::Or),
        b"unless" => Kind::Operator(BinaryOp::Unless),
        b"atan2" => Kind::Operator(BinaryOp::Atan2),
        b"sum" => Kind::Aggregate(AggregateOp::Sum),
        b"avg" => Kind::Aggregate(AggregateOp::Avg),
        b"count" => Kind::Aggregate(AggregateOp::Count),
        b"min" => Kind::Aggregate(AggregateOp::Min),
        b"max" => Kind::Aggregate(AggregateOp::Max),
        b"group" => Kind::Aggregate(AggregateOp::Group),
        b"stddev" => Kind::Aggregate(AggregateOp::Stddev),
        b"stdvar" => Kind::Aggregate(AggregateOp::Stdvar),
        b"topk" => Kind::Aggregate(AggregateOp::TopK),
        b"bottomk" => Kind::Aggregate(AggregateOp::BottomK),
        b"count_values" => Kind::Aggregate(AggregateOp::CountValues),
        b"quantile" => Kind::Aggregate(AggregateOp::Quantile),
        b"limitk" => Kind::Aggregate(AggregateOp::LimitK),
        b"limit_ratio" => Kind::Aggregate(AggregateOp::LimitRatio),
        b"offset" => Kind::Offset,
        b"smoothed" => Kind::Smoothed,
        b"anchored" => Kind::Anchored,
        b"by" => Kind::By,
        b"without" => Kind::Without,
        b"on" => Kind::On,
        b"ignoring" => Kind::Ignoring,
        b"group_left" => Kind::GroupLeft,
        b"group_right" => Kind::GroupRight,
        b"fill" => Kind::Fill,
        b"fill_left" => Kind::FillLeft,
        b"fill_right" => Kind::FillRight,
        b"bool" => Kind::Bool,
        b"start" => Kind::Start,
        b"end" => Kind::End,
        b"step" => Kind::Step,
        b"range" => Kind::Range,
        b"max_of" => Kind::MaxOf,
        b"min_of" => Kind::MinOf,
        b"inf" | b"nan" => Kind::Number,
        _ => return None,
    })
}
