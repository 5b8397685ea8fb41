//! The syntax tree. Times and durations are milliseconds unless said; spans are byte offsets of the text.

use tsdbctl_model::{Matcher, Span};

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One float per step.
    Scalar,
    /// At most one sample per series and step.
    Vector,
    /// A window of samples per series and step.
    Matrix,
    /// Text.
    String,
}

impl ValueType {
    /// The word in the API's `resultType`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// The word in upstream's error texts (`parser.DocumentedType`).
    pub fn documented(self) -> &'static str {
        match self {
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            other => other.as_str(),
        }
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `1`, `0x1f`, `5m` as a number.
    Number(NumberLiteral),
    /// `"text"`.
    String(StringLiteral),
    /// `(expr)`.
    Paren(ParenExpr),
    /// `-expr`, `+expr`.
    Unary(UnaryExpr),
    /// `lhs op rhs`.
    Binary(Box<BinaryExpr>),
    /// `sum by (job) (expr)`.
    Aggregate(Box<AggregateExpr>),
    /// `rate(…)`.
    Call(Box<Call>),
    /// `metric{label="value"}`.
    Vector(Box<VectorSelector>),
    /// `metric[5m]`.
    Matrix(Box<MatrixSelector>),
    /// `expr[1h:5m]`.
    Subquery(Box<SubqueryExpr>),
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// Its value; a duration literal in seconds.
    pub value: f64,
    /// Written as a duration, and printed so.
    pub is_duration: bool,
    /// Its place.
    pub span: Span,
}

/// A text.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// The text, unquoted; U+FFFD for what is no UTF-8.
    pub value: String,
    /// The very bytes, where escapes (`"\xff"`) make them no UTF-8.
    pub invalid_utf8: Option<Box<[u8]>>,
    /// Its place, quotes included.
    pub span: Span,
}

impl StringLiteral {
    /// The text as Go quotes it, bytes that are no UTF-8 included.
    pub fn quoted(&self) -> String {
        match &self.invalid_utf8 {
            Some(bytes) => super::literal::quote_bytes(bytes),
            None => tsdbctl_model::float_text::go_quote(&self.value),
        }
    }
}

/// Parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct ParenExpr {
    /// What is inside.
    pub expr: Box<Expr>,
    /// The parentheses included.
    pub span: Span,
}

/// A sign.
#[derive(Clone, Debug, PartialEq)]
pub struct UnaryExpr {
    /// Whether it is a minus; a plus else.
    pub negative: bool,
    /// The operand.
    pub expr: Box<Expr>,
    /// From the sign to the end of the operand.
    pub span: Span,
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Eql,
    /// `!=`
    Neq,
    /// `>`
    Gtr,
    /// `<`
    Lss,
    /// `>=`
    Gte,
    /// `<=`
    Lte,
    /// `</`: drop observations above
    TrimUpper,
    /// `>/`: drop observations below
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// The operator's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eql => "==",
            Self::Neq => "!=",
            Self::Gtr => ">",
            Self::Lss => "<",
            Self::Gte => ">=",
            Self::Lte => "<=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// `== != > < >= <=`
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eql | Self::Neq | Self::Gtr | Self::Lss | Self::Gte | Self::Lte)
    }

    /// `and or unless`
    pub fn is_set_operator(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// `lhs op rhs`.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Expr,
    /// Right operand.
    pub rhs: Expr,
    /// How series are matched; present if both operands are vectors.
    pub matching: Option<VectorMatching>,
    /// `bool`: give 0 or 1 instead of filtering.
    pub return_bool: bool,
}

impl Drop for BinaryExpr {
    /// Chains of operators lean to the left as deep as they are long: they are taken apart in a loop.
    fn drop(&mut self) {
        let number = || Expr::Number(NumberLiteral { value: 0.0, is_duration: false, span: Span::default() });
        if !matches!(self.lhs, Expr::Binary(_)) {
            return;
        }
        let mut next = std::mem::replace(&mut self.lhs, number());
        while let Expr::Binary(b) = &mut next {
            let lhs = std::mem::replace(&mut b.lhs, number());
            next = lhs;
        }
    }
}

/// Which side may have several series per match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One to one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// Upstream's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    /// Which side may have several.
    pub card: Cardinality,
    /// Labels of `on` or `ignoring`, as written.
    pub labels: Vec<String>,
    /// `on` rather than `ignoring`.
    pub on: bool,
    /// Labels taken over from the "one" side.
    pub include: Vec<String>,
    /// `fill_left`
    pub fill_left: Option<f64>,
    /// `fill_right`
    pub fill_right: Option<f64>,
}

/// An aggregation operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    /// The operator's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter.
    pub fn has_param(self) -> bool {
        matches!(
            self,
            Self::TopK | Self::BottomK | Self::CountValues | Self::Quantile | Self::LimitK | Self::LimitRatio
        )
    }
}

/// `op by|without (grouping) (param, expr)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    /// The operator.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Expr,
    /// The parameter of those that take one.
    pub param: Option<Expr>,
    /// Labels of `by` or `without`, as written.
    pub grouping: Vec<String>,
    /// `without` rather than `by`.
    pub without: bool,
    /// Its place.
    pub span: Span,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub func: &'static super::functions::Function,
    /// Arguments.
    pub args: Vec<Expr>,
    /// Its place.
    pub span: Span,
}

/// `@ start()` or `@ end()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOrEnd {
    /// The query's first evaluation time.
    Start,
    /// The query's last evaluation time.
    End,
}

/// A duration that is computed from the query's step and range.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// The operation.
    pub op: DurationOp,
    /// Left operand, absent for unary operations and `step()`, `range()`.
    pub lhs: Option<Box<DurationOperand>>,
    /// Right operand, absent for `step()` and `range()`.
    pub rhs: Option<Box<DurationOperand>>,
    /// Written in parentheses.
    pub wrapped: bool,
    /// Its place.
    pub span: Span,
}

/// Operations on durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// An operand in a duration expression.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationOperand {
    /// A literal.
    Number(NumberLiteral),
    /// A nested expression.
    Expr(DurationExpr),
}

/// The `offset` and `@` of a selector or subquery, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimeModifiers {
    /// `offset`, ms (0 if absent or computed).
    pub offset: i64,
    /// `offset` where it must be computed.
    pub offset_expr: Option<DurationExpr>,
    /// `@ time`, Unix ms.
    pub at: Option<i64>,
    /// `@ start()`, `@ end()`.
    pub start_or_end: Option<StartOrEnd>,
}

/// An instant selector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name if written in front of the braces; `""` else (a bare quoted string inside them is a
    /// matcher alone).
    pub name: String,
    /// All conditions, the one on the name included (in upstream's order: as written, a name in front last).
    pub matchers: Vec<Matcher>,
    /// `offset`, `@`.
    pub time: TimeModifiers,
    /// `anchored`
    pub anchored: bool,
    /// `smoothed`
    pub smoothed: bool,
    /// The second argument of `info`: needs no matcher that refuses the empty value.
    pub bypass_empty_matcher_check: bool,
    /// Its place (modifiers included).
    pub span: Span,
}

/// A range selector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The selector in front of the brackets; carries the modifiers.
    pub selector: VectorSelector,
    /// Range, ms (0 if computed).
    pub range: i64,
    /// Range where it must be computed.
    pub range_expr: Option<DurationExpr>,
    /// Its place.
    pub span: Span,
}

/// A subquery.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    /// The inner expression.
    pub expr: Expr,
    /// Range, ms (0 if computed).
    pub range: i64,
    /// Range where it must be computed.
    pub range_expr: Option<DurationExpr>,
    /// Step, ms; 0 means the default (or computed).
    pub step: i64,
    /// Step where it must be computed.
    pub step_expr: Option<DurationExpr>,
    /// `offset`, `@`.
    pub time: TimeModifiers,
    /// Its place.
    pub span: Span,
}

impl Expr {
    /// What it evaluates to.
    pub fn value_type(&self) -> ValueType {
        let mut expr = self;
        loop {
            return match expr {
                Self::Number(_) => ValueType::Scalar,
                Self::String(_) => ValueType::String,
                Self::Paren(e) => {
                    expr = &e.expr;
                    continue;
                }
                Self::Unary(e) => {
                    expr = &e.expr;
                    continue;
                }
                Self::Binary(e) => {
                    if e.matching.is_some() || e.rhs.value_type() != ValueType::Scalar {
                        return ValueType::Vector;
                    }
                    // Of a chain the leftmost operand is left to decide.
                    expr = &e.lhs;
                    if expr.value_type_of_operand() == Some(ValueType::Scalar) {
                        return ValueType::Scalar;
                    }
                    if !matches!(expr, Self::Binary(_) | Self::Paren(_) | Self::Unary(_)) {
                        return ValueType::Vector;
                    }
                    continue;
                }
                Self::Aggregate(_) | Self::Vector(_) => ValueType::Vector,
                Self::Call(c) => c.func.return_type,
                Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            };
        }
    }

    /// The type of an operand that has no operand of its own deciding it.
    fn value_type_of_operand(&self) -> Option<ValueType> {
        match self {
            Self::Binary(_) | Self::Paren(_) | Self::Unary(_) => None,
            e => Some(e.value_type()),
        }
    }

    /// Its place in the text (upstream's `PositionRange`).
    pub fn span(&self) -> Span {
        match self {
            Self::Number(e) => e.span,
            Self::String(e) => e.span,
            Self::Paren(e) => e.span,
            Self::Unary(e) => e.span,
            Self::Binary(e) => {
                let mut leftmost = &e.lhs;
                while let Self::Binary(b) = leftmost {
                    leftmost = &b.lhs;
                }
                Span { start: leftmost.span().start, end: e.rhs.span().end }
            }
            Self::Aggregate(e) => e.span,
            Self::Call(e) => e.span,
            Self::Vector(e) => e.span,
            Self::Matrix(e) => e.span,
            Self::Subquery(e) => e.span,
        }
    }

    /// The expression without enclosing parentheses.
    pub fn unwrap_parens(&self) -> &Self {
        let mut e = self;
        while let Self::Paren(p) = e {
            e = &p.expr;
        }
        e
    }
}
