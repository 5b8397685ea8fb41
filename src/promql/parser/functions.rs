//! The table of functions: names, argument and return types.

use super::ast::ValueType;
use ValueType::{Matrix, Scalar, String, Vector};

/// Every function, to be matched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FunctionId {
    Abs,
    Absent,
    AbsentOverTime,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    AvgOverTime,
    Ceil,
    Changes,
    Clamp,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    CountOverTime,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Deg,
    Delta,
    Deriv,
    DoubleExponentialSmoothing,
    End,
    Exp,
    FirstOverTime,
    Floor,
    HistogramAvg,
    HistogramCount,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramStddev,
    HistogramStdvar,
    HistogramSum,
    Hour,
    Idelta,
    Increase,
    Info,
    Irate,
    LabelJoin,
    LabelReplace,
    LastOverTime,
    Ln,
    Log10,
    Log2,
    MadOverTime,
    MaxOf,
    MaxOverTime,
    MinOf,
    MinOverTime,
    Minute,
    Month,
    Pi,
    PredictLinear,
    PresentOverTime,
    QuantileOverTime,
    Rad,
    Range,
    Rate,
    Resets,
    Round,
    Scalar,
    Sgn,
    Sin,
    Sinh,
    Sort,
    SortByLabel,
    SortByLabelDesc,
    SortDesc,
    Sqrt,
    Start,
    StartTimestamp,
    StddevOverTime,
    StdvarOverTime,
    Step,
    SumOverTime,
    Tan,
    Tanh,
    Time,
    Timestamp,
    TsOfFirstOverTime,
    TsOfLastOverTime,
    TsOfMaxOverTime,
    TsOfMinOverTime,
    Vector,
    Year,
}

/// A function's signature.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Which function it is.
    pub id: FunctionId,
    /// Types of its arguments; the last repeats or may be left out as `variadic` says.
    pub arg_types: &'static [ValueType],
    /// 0: exactly the arguments; n > 0: the last may be left out, or stand up to n times; -1: any number of
    /// the last, none included.
    pub variadic: i32,
    /// What it returns.
    pub return_type: ValueType,
    /// Needs `promql-experimental-functions`.
    pub experimental: bool,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

const fn stable(
    name: &'static str,
    id: FunctionId,
    arg_types: &'static [ValueType],
    variadic: i32,
    return_type: ValueType,
) -> Function {
    Function { name, id, arg_types, variadic, return_type, experimental: false }
}

const fn experimental(
    name: &'static str,
    id: FunctionId,
    arg_types: &'static [ValueType],
    variadic: i32,
    return_type: ValueType,
) -> Function {
    Function { name, id, arg_types, variadic, return_type, experimental: true }
}

/// All functions, sorted by name.
#[rustfmt::skip]
pub static FUNCTIONS: &[Function] = &[
    stable("abs", FunctionId::Abs, &[Vector], 0, Vector),
    stable("absent", FunctionId::Absent, &[Vector], 0, Vector),
    stable("absent_over_time", FunctionId::AbsentOverTime, &[Matrix], 0, Vector),
    stable("acos", FunctionId::Acos, &[Vector], 0, Vector),
    stable("acosh", FunctionId::Acosh, &[Vector], 0, Vector),
    stable("asin", FunctionId::Asin, &[Vector], 0, Vector),
    stable("asinh", FunctionId::Asinh, &[Vector], 0, Vector),
    stable("atan", FunctionId::Atan, &[Vector], 0, Vector),
    stable("atanh", FunctionId::Atanh, &[Vector], 0, Vector),
    stable("avg_over_time", FunctionId::AvgOverTime, &[Matrix], 0, Vector),
    stable("ceil", FunctionId::Ceil, &[Vector], 0, Vector),
    stable("changes", FunctionId::Changes, &[Matrix], 0, Vector),
    stable("clamp", FunctionId::Clamp, &[Vector, Scalar, Scalar], 0, Vector),
    stable("clamp_max", FunctionId::ClampMax, &[Vector, Scalar], 0, Vector),
    stable("clamp_min", FunctionId::ClampMin, &[Vector, Scalar], 0, Vector),
    stable("cos", FunctionId::Cos, &[Vector], 0, Vector),
    stable("cosh", FunctionId::Cosh, &[Vector], 0, Vector),
    stable("count_over_time", FunctionId::CountOverTime, &[Matrix], 0, Vector),
    stable("day_of_month", FunctionId::DayOfMonth, &[Vector], 1, Vector),
    stable("day_of_week", FunctionId::DayOfWeek, &[Vector], 1, Vector),
    stable("day_of_year", FunctionId::DayOfYear, &[Vector], 1, Vector),
    stable("days_in_month", FunctionId::DaysInMonth, &[Vector], 1, Vector),
    stable("deg", FunctionId::Deg, &[Vector], 0, Vector),
    stable("delta", FunctionId::Delta, &[Matrix], 0, Vector),
    stable("deriv", FunctionId::Deriv, &[Matrix], 0, Vector),
    experimental("double_exponential_smoothing", FunctionId::DoubleExponentialSmoothing, &[Matrix, Scalar, Scalar], 0, Vector),
    experimental("end", FunctionId::End, &[], 0, Scalar),
    stable("exp", FunctionId::Exp, &[Vector], 0, Vector),
    stable("first_over_time", FunctionId::FirstOverTime, &[Matrix], 0, Vector),
    stable("floor", FunctionId::Floor, &[Vector], 0, Vector),
    stable("histogram_avg", FunctionId::HistogramAvg, &[Vector], 0, Vector),
    stable("histogram_count", FunctionId::HistogramCount, &[Vector], 0, Vector),
    stable("histogram_fraction", FunctionId::HistogramFraction, &[Scalar, Scalar, Vector], 0, Vector),
    stable("histogram_quantile", FunctionId::HistogramQuantile, &[Scalar, Vector], 0, Vector),
    experimental("histogram_quantiles", FunctionId::HistogramQuantiles, &[Vector, String, Scalar, Scalar], 9, Vector),
    stable("histogram_stddev", FunctionId::HistogramStddev, &[Vector], 0, Vector),
    stable("histogram_stdvar", FunctionId::HistogramStdvar, &[Vector], 0, Vector),
    stable("histogram_sum", FunctionId::HistogramSum, &[Vector], 0, Vector),
    stable("hour", FunctionId::Hour, &[Vector], 1, Vector),
    stable("idelta", FunctionId::Idelta, &[Matrix], 0, Vector),
    stable("increase", FunctionId::Increase, &[Matrix], 0, Vector),
    experimental("info", FunctionId::Info, &[Vector, Vector], 1, Vector),
    stable("irate", FunctionId::Irate, &[Matrix], 0, Vector),
    stable("label_join", FunctionId::LabelJoin, &[Vector, String, String, String], -1, Vector),
    stable("label_replace", FunctionId::LabelReplace, &[Vector, String, String, String, String], 0, Vector),
    stable("last_over_time", FunctionId::LastOverTime, &[Matrix], 0, Vector),
    stable("ln", FunctionId::Ln, &[Vector], 0, Vector),
    stable("log10", FunctionId::Log10, &[Vector], 0, Vector),
    stable("log2", FunctionId::Log2, &[Vector], 0, Vector),
    experimental("mad_over_time", FunctionId::MadOverTime, &[Matrix], 0, Vector),
    experimental("max_of", FunctionId::MaxOf, &[Scalar, Scalar], 0, Scalar),
    stable("max_over_time", FunctionId::MaxOverTime, &[Matrix], 0, Vector),
    experimental("min_of", FunctionId::MinOf, &[Scalar, Scalar], 0, Scalar),
    stable("min_over_time", FunctionId::MinOverTime, &[Matrix], 0, Vector),
    stable("minute", FunctionId::Minute, &[Vector], 1, Vector),
    stable("month", FunctionId::Month, &[Vector], 1, Vector),
    stable("pi", FunctionId::Pi, &[], 0, Scalar),
    stable("predict_linear", FunctionId::PredictLinear, &[Matrix, Scalar], 0, Vector),
    stable("present_over_time", FunctionId::PresentOverTime, &[Matrix], 0, Vector),
    stable("quantile_over_time", FunctionId::QuantileOverTime, &[Scalar, Matrix], 0, Vector),
    stable("rad", FunctionId::Rad, &[Vector], 0, Vector),
    experimental("range", FunctionId::Range, &[], 0, Scalar),
    stable("rate", FunctionId::Rate, &[Matrix], 0, Vector),
    stable("resets", FunctionId::Resets, &[Matrix], 0, Vector),
    stable("round", FunctionId::Round, &[Vector, Scalar], 1, Vector),
    stable("scalar", FunctionId::Scalar, &[Vector], 0, Scalar),
    stable("sgn", FunctionId::Sgn, &[Vector], 0, Vector),
    stable("sin", FunctionId::Sin, &[Vector], 0, Vector),
    stable("sinh", FunctionId::Sinh, &[Vector], 0, Vector),
    stable("sort", FunctionId::Sort, &[Vector], 0, Vector),
    experimental("sort_by_label", FunctionId::SortByLabel, &[Vector, String], -1, Vector),
    experimental("sort_by_label_desc", FunctionId::SortByLabelDesc, &[Vector, String], -1, Vector),
    stable("sort_desc", FunctionId::SortDesc, &[Vector], 0, Vector),
    stable("sqrt", FunctionId::Sqrt, &[Vector], 0, Vector),
    experimental("start", FunctionId::Start, &[], 0, Scalar),
    experimental("start_timestamp", FunctionId::StartTimestamp, &[Vector], 0, Vector),
    stable("stddev_over_time", FunctionId::StddevOverTime, &[Matrix], 0, Vector),
    stable("stdvar_over_time", FunctionId::StdvarOverTime, &[Matrix], 0, Vector),
    experimental("step", FunctionId::Step, &[], 0, Scalar),
    stable("sum_over_time", FunctionId::SumOverTime, &[Matrix], 0, Vector),
    stable("tan", FunctionId::Tan, &[Vector], 0, Vector),
    stable("tanh", FunctionId::Tanh, &[Vector], 0, Vector),
    stable("time", FunctionId::Time, &[], 0, Scalar),
    stable("timestamp", FunctionId::Timestamp, &[Vector], 0, Vector),
    experimental("ts_of_first_over_time", FunctionId::TsOfFirstOverTime, &[Matrix], 0, Vector),
    experimental("ts_of_last_over_time", FunctionId::TsOfLastOverTime, &[Matrix], 0, Vector),
    experimental("ts_of_max_over_time", FunctionId::TsOfMaxOverTime, &[Matrix], 0, Vector),
    experimental("ts_of_min_over_time", FunctionId::TsOfMinOverTime, &[Matrix], 0, Vector),
    stable("vector", FunctionId::Vector, &[Scalar], 0, Vector),
    stable("year", FunctionId::Year, &[Vector], 1, Vector),
];

/// The function of a name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_function_is_found() {
        assert!(FUNCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        for f in FUNCTIONS {
            assert_eq!(function(f.name).map(|f| f.id), Some(f.id));
        }
        assert!(function("rates").is_none());
        assert_eq!(FUNCTIONS.len(), COUNT);
    }

    const COUNT: usize = 90;
}
