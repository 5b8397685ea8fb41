//! Which values the result of an expression can have, told without data. Only what is certain counts: an operand
//! about which nothing is known may have any value.

use tsdbctl_promql::parser::ast::{AggregateOp, BinaryOp, Expr, ValueType, VectorSelector};
use tsdbctl_promql::parser::functions::FunctionId;

/// Values from `low` to `high`, both included; perhaps NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// No value is below.
    pub low: f64,
    /// No value is above.
    pub high: f64,
    /// A value may be NaN.
    pub nan: bool,
}

/// Whether a comparison holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// For no values there can be.
    Never,
    /// For some.
    Perhaps,
    /// For all values there can be.
    Always,
}

const ANY: Bounds = Bounds { low: f64::NEG_INFINITY, high: f64::INFINITY, nan: true };

fn between(low: f64, high: f64) -> Bounds {
    Bounds { low, high, nan: false }
}

impl Bounds {
    /// Certainly this one number.
    pub fn constant(self) -> Option<f64> {
        (self.low == self.high && !self.nan).then_some(self.low)
    }

    fn with_nan(self, nan: bool) -> Self {
        Self { nan: self.nan || nan, ..self }
    }

    fn join(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high), nan: self.nan || other.nan }
    }

    fn is_finite(self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }
}

/// Whether `lhs op rhs` holds for values within the bounds.
pub fn holds(op: BinaryOp, lhs: Bounds, rhs: Bounds) -> Holds {
    let nan = lhs.nan || rhs.nan;
    let apart = lhs.high < rhs.low || lhs.low > rhs.high;
    let one = lhs.low == lhs.high && rhs.low == rhs.high && lhs.low == rhs.low;
    let (never, always) = match op {
        BinaryOp::Gtr => (lhs.high <= rhs.low, lhs.low > rhs.high),
        BinaryOp::Gte => (lhs.high < rhs.low, lhs.low >= rhs.high),
        BinaryOp::Lss => (lhs.low >= rhs.high, lhs.high < rhs.low),
        BinaryOp::Lte => (lhs.low > rhs.high, lhs.high <= rhs.low),
        BinaryOp::Eql => (apart, one),
        BinaryOp::Neq => (one && !nan, apart),
        _ => (false, false),
    };
    match (never, always) {
        (true, _) => Holds::Never,
        // NaN is unequal to everything, and else compares with nothing.
        (_, true) if !nan || op == BinaryOp::Neq => Holds::Always,
        _ => Holds::Perhaps,
    }
}

/// The values that an expression's samples can have.
pub fn bounds(expr: &Expr) -> Bounds {
    match expr {
        Expr::Number(n) if n.value.is_nan() => {
            Bounds { low: f64::INFINITY, high: f64::NEG_INFINITY, nan: true }
        }
        Expr::Number(n) => between(n.value, n.value),
        Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => ANY,
        Expr::Paren(e) => bounds(&e.expr),
        Expr::Subquery(e) => bounds(&e.expr),
        Expr::Unary(e) => {
            let inner = bounds(&e.expr);
            if e.negative { Bounds { low: -inner.high, high: -inner.low, nan: inner.nan } } else { inner }
        }
        Expr::Binary(e) => {
            let (lhs, rhs) = (bounds(&e.lhs), bounds(&e.rhs));
            let filled = e.matching.as_ref().is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
            if filled {
                return if e.return_bool { between(0.0, 1.0) } else { ANY };
            }
            match e.op {
                op if op.is_comparison() && e.return_bool => match holds(op, lhs, rhs) {
                    Holds::Never => between(0.0, 0.0),
                    Holds::Always => between(1.0, 1.0),
                    Holds::Perhaps => between(0.0, 1.0),
                },
                op if op.is_comparison() => kept(op, e, lhs, rhs),
                BinaryOp::And | BinaryOp::Unless => lhs,
                BinaryOp::Or => lhs.join(rhs),
                BinaryOp::Add => add(lhs, rhs),
                BinaryOp::Sub => add(lhs, Bounds { low: -rhs.high, high: -rhs.low, nan: rhs.nan }),
                BinaryOp::Mul => multiply(lhs, rhs),
                BinaryOp::Div => divide(lhs, rhs),
                _ => ANY,
            }
        }
        Expr::Aggregate(e) => {
            let inner = bounds(&e.expr);
            match e.op {
                AggregateOp::Count | AggregateOp::CountValues => between(1.0, f64::INFINITY),
                AggregateOp::Group => between(1.0, 1.0),
                AggregateOp::Stddev | AggregateOp::Stdvar => Bounds { low: 0.0, ..ANY },
                AggregateOp::Sum if inner.low >= 0.0 => {
                    Bounds { high: f64::INFINITY, nan: inner.nan, ..inner }
                }
                AggregateOp::Sum if inner.high <= 0.0 => {
                    Bounds { low: f64::NEG_INFINITY, nan: inner.nan, ..inner }
                }
                AggregateOp::Avg if inner.low >= 0.0 => Bounds { nan: inner.nan, ..inner },
                AggregateOp::Min
                | AggregateOp::Max
                | AggregateOp::TopK
                | AggregateOp::BottomK
                | AggregateOp::LimitK
                | AggregateOp::LimitRatio => inner,
                _ => ANY,
            }
        }
        Expr::Call(call) => function(call.func.id, &call.args),
    }
}

/// What a filter keeps: values of the left side (or of the vector), narrowed by what they are compared with.
fn kept(op: BinaryOp, e: &tsdbctl_promql::parser::ast::BinaryExpr, lhs: Bounds, rhs: Bounds) -> Bounds {
    let (value, other, op) = if e.lhs.value_type() == ValueType::Scalar {
        let turned = match op {
            BinaryOp::Gtr => BinaryOp::Lss,
            BinaryOp::Gte => BinaryOp::Lte,
            BinaryOp::Lss => BinaryOp::Gtr,
            BinaryOp::Lte => BinaryOp::Gte,
            same => same,
        };
        (rhs, lhs, turned)
    } else {
        (lhs, rhs, op)
    };
    let grouped_right =
        e.matching.as_ref().is_some_and(|m| m.card == tsdbctl_promql::parser::ast::Cardinality::OneToMany);
    if grouped_right {
        return ANY;
    }
    match op {
        BinaryOp::Gtr | BinaryOp::Gte => {
            Bounds { low: value.low.max(other.low), high: value.high, nan: false }
        }
        BinaryOp::Lss | BinaryOp::Lte => {
            Bounds { low: value.low, high: value.high.min(other.high), nan: false }
        }
        BinaryOp::Eql => {
            Bounds { low: value.low.max(other.low), high: value.high.min(other.high), nan: false }
        }
        _ => value,
    }
}

fn add(a: Bounds, b: Bounds) -> Bounds {
    let (low, high) = (a.low + b.low, a.high + b.high);
    let infinite = !a.is_finite() && !b.is_finite();
    Bounds {
        low: if low.is_nan() { f64::NEG_INFINITY } else { low },
        high: if high.is_nan() { f64::INFINITY } else { high },
        nan: a.nan || b.nan || infinite,
    }
}

fn multiply(a: Bounds, b: Bounds) -> Bounds {
    // Where one side is 0 and the other infinite, the product is NaN, and its bound is 0.
    let product = |x: f64, y: f64| if x == 0.0 || y == 0.0 { 0.0 } else { x * y };
    let all =
        [product(a.low, b.low), product(a.low, b.high), product(a.high, b.low), product(a.high, b.high)];
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    between(low, high).with_nan(a.nan || b.nan || !(a.is_finite() && b.is_finite()))
}

fn divide(a: Bounds, b: Bounds) -> Bounds {
    if let Some(divisor) = b.constant().filter(|d| *d != 0.0 && d.is_finite()) {
        let (x, y) = (a.low / divisor, a.high / divisor);
        return between(x.min(y), x.max(y)).with_nan(a.nan);
    }
    match (a.low >= 0.0, b.low >= 0.0) {
        // The sign is known; how large it gets is not.
        (true, true) => Bounds { low: 0.0, ..ANY },
        _ => ANY,
    }
}

/// Whether the name says that it counts. The rate of anything else, such as a gauge below 0, can be negative.
fn is_counter(range: &Expr) -> bool {
    match range {
        Expr::Matrix(m) => selects_counter(&m.selector),
        Expr::Vector(v) => selects_counter(v),
        Expr::Paren(e) => is_counter(&e.expr),
        Expr::Subquery(e) => is_counter(&e.expr),
        _ => false,
    }
}

fn selects_counter(selector: &VectorSelector) -> bool {
    let ends = |name: &str| ["_total", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
    ends(&selector.name)
}

fn function(id: FunctionId, args: &[Expr]) -> Bounds {
    use FunctionId as F;
    let arg = |i: usize| args.get(i).map_or(ANY, bounds);
    // Times of samples that are NaN; those of the evaluation never are.
    let given = !args.is_empty();
    match id {
        F::Absent | F::AbsentOverTime | F::PresentOverTime => between(1.0, 1.0),
        F::CountOverTime => between(1.0, f64::INFINITY),
        F::Changes | F::Resets => between(0.0, f64::INFINITY),
        // Floats that are infinite or NaN may be scraped.
        F::Rate | F::Increase | F::Irate if args.first().is_some_and(is_counter) => {
            Bounds { low: 0.0, ..ANY }
        }
        F::StddevOverTime | F::StdvarOverTime | F::MadOverTime => Bounds { low: 0.0, ..ANY },
        F::HistogramStddev | F::HistogramStdvar => Bounds { low: 0.0, ..ANY },
        F::HistogramFraction => between(0.0, 1.0).with_nan(true),
        F::Hour => between(0.0, 23.0).with_nan(given),
        F::Minute => between(0.0, 59.0).with_nan(given),
        F::Month => between(1.0, 12.0).with_nan(given),
        F::DayOfWeek => between(0.0, 6.0).with_nan(given),
        F::DayOfMonth => between(1.0, 31.0).with_nan(given),
        F::DayOfYear => between(1.0, 366.0).with_nan(given),
        F::DaysInMonth => between(28.0, 31.0).with_nan(given),
        F::Sgn => between(-1.0, 1.0).with_nan(true),
        F::Sin | F::Cos | F::Tanh => between(-1.0, 1.0).with_nan(true),
        F::Exp | F::Sqrt | F::Cosh => Bounds { low: 0.0, ..ANY },
        F::Pi => between(std::f64::consts::PI, std::f64::consts::PI),
        F::Abs => {
            let inner = arg(0);
            Bounds {
                low: 0.0_f64.max(inner.low).max(-inner.high),
                high: inner.high.max(-inner.low),
                nan: inner.nan,
            }
        }
        F::ClampMin => match arg(1).constant() {
            Some(least) => Bounds { low: least, high: arg(0).high.max(least), nan: true },
            None => ANY,
        },
        F::ClampMax => match arg(1).constant() {
            Some(most) => Bounds { low: arg(0).low.min(most), high: most, nan: true },
            None => ANY,
        },
        F::Clamp => match (arg(1).constant(), arg(2).constant()) {
            (Some(least), Some(most)) if least <= most => between(least, most).with_nan(true),
            _ => ANY,
        },
        F::Floor | F::Ceil => {
            let inner = arg(0);
            Bounds { low: inner.low.floor(), high: inner.high.ceil(), nan: inner.nan }
        }
        F::Vector | F::Sort | F::SortDesc | F::SortByLabel | F::SortByLabelDesc => arg(0),
        F::LabelReplace | F::LabelJoin | F::Info => arg(0),
        F::MinOverTime | F::MaxOverTime | F::LastOverTime | F::FirstOverTime => arg(0),
        F::AvgOverTime if arg(0).low >= 0.0 => arg(0),
        F::SumOverTime if arg(0).low >= 0.0 => Bounds { high: f64::INFINITY, ..arg(0) },
        // A scalar of no or several series is NaN.
        F::Scalar => arg(0).with_nan(true),
        _ => ANY,
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_promql::engine::Features;
    use tsdbctl_promql::parser::parse;

    use super::*;

    fn of(text: &str) -> (f64, f64, bool) {
        let b = bounds(&parse(text, &Features::default()).unwrap());
        (b.low, b.high, b.nan)
    }

    #[test]
    fn what_is_certain_of_values() {
        let inf = f64::INFINITY;
        for (text, expected) in [
            ("up", (-inf, inf, true)),
            ("3", (3.0, 3.0, false)),
            ("-(2 + 3) * 4", (-20.0, -20.0, false)),
            ("count(up)", (1.0, inf, false)),
            ("count(up) * 0 + 5", (5.0, 5.0, true)),
            ("sum(rate(a_total[5m]))", (0.0, inf, true)),
            ("rate(a_total[5m]) / rate(b_total[5m])", (0.0, inf, true)),
            ("rate(a[5m])", (-inf, inf, true)),
            ("increase((a_count)[5m:1m])", (0.0, inf, true)),
            ("rate(a_total[5m]) - rate(b_total[5m])", (-inf, inf, true)),
            ("up == bool 1", (0.0, 1.0, false)),
            ("100 * (up > 5)", (500.0, inf, true)),
            ("5 < up < 9", (5.0, 9.0, false)),
            ("up > 5 or up < 3", (-inf, inf, false)),
            ("absent(up)", (1.0, 1.0, false)),
            ("hour() - 24", (-24.0, -1.0, false)),
            ("hour(up)", (0.0, 23.0, true)),
            ("clamp(up, 0, 1)", (0.0, 1.0, true)),
            ("abs(clamp(up, -3, 2))", (0.0, 3.0, true)),
            ("vector(1) / 2", (0.5, 0.5, false)),
            ("avg(up == bool 1)", (0.0, 1.0, false)),
            ("scalar(up)", (-inf, inf, true)),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn comparisons_that_never_or_always_hold() {
        let verdict = |text: &str| {
            let Expr::Binary(b) = parse(text, &Features::default()).unwrap() else { panic!("{text}") };
            holds(b.op, bounds(&b.lhs), bounds(&b.rhs))
        };
        for text in [
            "count(up) == 0",
            "count(up) < 1",
            "rate(a_total[5m]) < 0",
            "absent(up) > 1",
            "1 > bool 2",
            "hour() > 23",
        ] {
            assert_eq!(verdict(text), Holds::Never, "{text}");
        }
        for text in
            ["count(up) > 0", "count(up) >= 1", "absent(up) == 1", "hour() != 24", "changes(a[5m]) >= 0"]
        {
            assert_eq!(verdict(text), Holds::Always, "{text}");
        }
        for text in [
            "up > 0",
            "rate(a_total[5m]) > 0",
            "rate(a_total[5m]) >= 0",
            "hour(up) >= 0",
            "sum(rate(a_total[5m])) <= 0",
        ] {
            assert_eq!(verdict(text), Holds::Perhaps, "{text}");
        }
    }
}
