//! Functions of one sample: `abs` to `atanh`, `clamp`, `round`, the calendar, unary minus and the simple
//! `histogram_*` functions, in place on columns.

use std::f64::consts::PI;
use std::sync::Arc;

use tsdbctl_model::{CounterResetHint, FloatHistogram, go_math};

use super::{ScalarArg, calendar, native_histogram};
use crate::engine::column::Column;

/// A function that turns each sample into one sample, whatever its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ElementFunction {
    Abs,
    Ceil,
    Floor,
    Exp,
    Ln,
    Log2,
    Log10,
    Sqrt,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Deg,
    Rad,
    Sgn,
    /// Argument: to the nearest multiple of what (1 if absent).
    Round,
    /// Arguments: lower and upper bound.
    Clamp,
    /// Argument: lower bound.
    ClampMin,
    /// Argument: upper bound.
    ClampMax,
    DaysInMonth,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Month,
    Year,
    HistogramCount,
    HistogramSum,
    HistogramAvg,
    HistogramStddev,
    HistogramStdvar,
    /// `-v`; histograms become gauges.
    Negate,
}

impl ElementFunction {
    /// The function of this PromQL name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Abs,
            "ceil" => Self::Ceil,
            "floor" => Self::Floor,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            "log2" => Self::Log2,
            "log10" => Self::Log10,
            "sqrt" => Self::Sqrt,
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" => Self::Tan,
            "asin" => Self::Asin,
            "acos" => Self::Acos,
            "atan" => Self::Atan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "asinh" => Self::Asinh,
            "acosh" => Self::Acosh,
            "atanh" => Self::Atanh,
            "deg" => Self::Deg,
            "rad" => Self::Rad,
            "sgn" => Self::Sgn,
            "round" => Self::Round,
            "clamp" => Self::Clamp,
            "clamp_min" => Self::ClampMin,
            "clamp_max" => Self::ClampMax,
            "days_in_month" => Self::DaysInMonth,
            "day_of_month" => Self::DayOfMonth,
            "day_of_week" => Self::DayOfWeek,
            "day_of_year" => Self::DayOfYear,
            "hour" => Self::Hour,
            "minute" => Self::Minute,
            "month" => Self::Month,
            "year" => Self::Year,
            "histogram_count" => Self::HistogramCount,
            "histogram_sum" => Self::HistogramSum,
            "histogram_avg" => Self::HistogramAvg,
            "histogram_stddev" => Self::HistogramStddev,
            "histogram_stdvar" => Self::HistogramStdvar,
            _ => return None,
        })
    }

    /// Whether it takes histograms and drops floats, and of the labels drops `__name__` alone.
    pub fn is_of_histograms(self) -> bool {
        matches!(
            self,
            Self::HistogramCount
                | Self::HistogramSum
                | Self::HistogramAvg
                | Self::HistogramStddev
                | Self::HistogramStdvar
        )
    }
}

/// Applies `function` to every sample of `column`. Samples of the kind the function does not take are
/// removed, silently as upstream does.
pub fn apply(function: ElementFunction, column: &mut Column, args: &[ScalarArg<'_>]) {
    use ElementFunction as F;
    if function.is_of_histograms() {
        return of_histograms(function, column);
    }
    if function == F::Negate {
        each_slot(column, |v| -v);
        for (_, h) in &mut column.histograms {
            *h = Arc::new(negated(h));
        }
        return;
    }
    column.histograms.clear();
    match function {
        F::Abs => each_slot(column, f64::abs),
        F::Ceil => each_slot(column, f64::ceil),
        F::Floor => each_slot(column, f64::floor),
        F::Sqrt => each_slot(column, f64::sqrt),
        F::Deg => each_slot(column, |v| v * 180.0 / PI),
        F::Rad => each_slot(column, |v| v * PI / 180.0),
        F::Sgn => each_slot(column, sgn),
        F::Exp => each_sample(column, go_math::exp),
        F::Ln => each_sample(column, go_math::log),
        F::Log2 => each_sample(column, go_math::log2),
        F::Log10 => each_sample(column, go_math::log10),
        F::Sin => each_sample(column, go_math::sin),
        F::Cos => each_sample(column, go_math::cos),
        F::Tan => each_sample(column, go_math::tan),
        F::Asin => each_sample(column, go_math::asin),
        F::Acos => each_sample(column, go_math::acos),
        F::Atan => each_sample(column, go_math::atan),
        F::Sinh => each_sample(column, go_math::sinh),
        F::Cosh => each_sample(column, go_math::cosh),
        F::Tanh => each_sample(column, go_math::tanh),
        F::Asinh => each_sample(column, go_math::asinh),
        F::Acosh => each_sample(column, go_math::acosh),
        F::Atanh => each_sample(column, go_math::atanh),
        F::Round => match args.first() {
            None => each_slot(column, |v| (v + 0.5).floor()),
            Some(ScalarArg::Constant(to)) => {
                let inverse = 1.0 / to;
                each_slot(column, |v| round(v, inverse));
            }
            Some(ScalarArg::PerStep(to)) => {
                for (v, to) in column.values.iter_mut().zip(*to) {
                    *v = round(*v, 1.0 / to);
                }
            }
        },
        F::Clamp => match args {
            [min, max, ..] => clamp(column, *min, *max),
            _ => debug_assert!(false, "clamp takes two bounds"),
        },
        F::ClampMin => match args {
            [min, ..] => clamp(column, *min, ScalarArg::Constant(f64::INFINITY)),
            _ => debug_assert!(false, "clamp_min takes a bound"),
        },
        F::ClampMax => match args {
            [max, ..] => clamp(column, ScalarArg::Constant(f64::NEG_INFINITY), *max),
            _ => debug_assert!(false, "clamp_max takes a bound"),
        },
        F::DaysInMonth => each_sample(column, |v| calendar::days_in_month(calendar::unix_seconds(v))),
        F::DayOfMonth => each_sample(column, |v| calendar::day_of_month(calendar::unix_seconds(v))),
        F::DayOfWeek => each_sample(column, |v| calendar::day_of_week(calendar::unix_seconds(v))),
        F::DayOfYear => each_sample(column, |v| calendar::day_of_year(calendar::unix_seconds(v))),
        F::Hour => each_sample(column, |v| calendar::hour(calendar::unix_seconds(v))),
        F::Minute => each_sample(column, |v| calendar::minute(calendar::unix_seconds(v))),
        F::Month => each_sample(column, |v| calendar::month(calendar::unix_seconds(v))),
        F::Year => each_sample(column, |v| calendar::year(calendar::unix_seconds(v))),
        F::HistogramCount
        | F::HistogramSum
        | F::HistogramAvg
        | F::HistogramStddev
        | F::HistogramStdvar
        | F::Negate => {}
    }
}

/// Cheap functions run over every slot: what lies where no sample is means nothing, and the loop
/// vectorises.
#[inline]
fn each_slot(column: &mut Column, f: impl Fn(f64) -> f64) {
    for v in &mut column.values {
        *v = f(*v);
    }
}

/// Dear functions run over samples only.
#[inline]
fn each_sample(column: &mut Column, f: impl Fn(f64) -> f64) {
    for (values, word) in column.values.chunks_mut(64).zip(&column.present) {
        if *word == u64::MAX {
            for v in values {
                *v = f(*v);
            }
            continue;
        }
        let mut rest = *word;
        while rest != 0 {
            let k = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            values[k] = f(values[k]);
        }
    }
}

fn of_histograms(function: ElementFunction, column: &mut Column) {
    column.present.fill(0);
    let histograms = std::mem::take(&mut column.histograms);
    for (k, h) in &histograms {
        let v = match function {
            ElementFunction::HistogramCount => h.count,
            ElementFunction::HistogramSum => h.sum,
            ElementFunction::HistogramStddev => native_histogram::variance(h).sqrt(),
            ElementFunction::HistogramStdvar => native_histogram::variance(h),
            _ => h.sum / h.count,
        };
        column.set_float(*k as usize, v);
    }
}

fn negated(h: &FloatHistogram) -> FloatHistogram {
    let mut h = h.clone();
    h.mul(-1.0);
    debug_assert_eq!(h.counter_reset_hint, CounterResetHint::Gauge);
    h
}

#[inline]
fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

#[inline]
fn round(v: f64, inverse: f64) -> f64 {
    (v * inverse + 0.5).floor() / inverse
}

/// Steps whose bounds are the wrong way round lose their sample.
fn clamp(column: &mut Column, min: ScalarArg<'_>, max: ScalarArg<'_>) {
    if let (ScalarArg::Constant(min), ScalarArg::Constant(max)) = (min, max) {
        if max < min {
            column.present.fill(0);
        } else {
            each_slot(column, |v| go_math::max(min, go_math::min(max, v)));
        }
        return;
    }
    for k in 0..column.steps() {
        let (min, max) = (min.at(k), max.at(k));
        if max < min {
            column.clear_float(k);
        } else {
            column.values[k] = go_math::max(min, go_math::min(max, column.values[k]));
        }
    }
}

/// `timestamp(v)` of samples that carry the step's own time: every sample, histograms too, becomes the
/// evaluation time in seconds.
pub fn step_timestamps(column: &mut Column, start_ms: i64, step_ms: i64) {
    for (k, _) in std::mem::take(&mut column.histograms) {
        column.set_float(k as usize, 0.0);
    }
    for (k, v) in column.values.iter_mut().enumerate() {
        *v = (start_ms + k as i64 * step_ms) as f64 / 1000.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    fn column(values: &[f64]) -> Column {
        let mut c = Column::new(values.len());
        for (k, v) in values.iter().enumerate() {
            c.set_float(k, *v);
        }
        c
    }

    fn run(function: ElementFunction, input: &[f64], args: &[ScalarArg<'_>]) -> Vec<Option<u64>> {
        let mut c = column(input);
        apply(function, &mut c, args);
        (0..c.steps()).map(|k| c.float(k).map(|v| if v.is_nan() { 1 } else { v.to_bits() })).collect()
    }

    fn bits_of(values: &[f64]) -> Vec<Option<u64>> {
        values.iter().map(|v| Some(if v.is_nan() { 1 } else { v.to_bits() })).collect()
    }

    #[test]
    fn simple_functions() {
        use ElementFunction as F;
        let c = ScalarArg::Constant;
        for (function, args, input, output) in [
            (F::Abs, vec![], vec![-1.5, -0.0, NAN, -INF], vec![1.5, 0.0, NAN, INF]),
            (F::Ceil, vec![], vec![-1.5, 1.2, -0.2], vec![-1.0, 2.0, -0.0]),
            (F::Floor, vec![], vec![-1.5, 1.2, -0.0], vec![-2.0, 1.0, -0.0]),
            (F::Sgn, vec![], vec![-3.0, 0.0, -0.0, 9.0, NAN], vec![-1.0, 0.0, -0.0, 1.0, NAN]),
            (F::Round, vec![], vec![2.5, -2.5, 0.49999999999999994, -0.2], vec![3.0, -2.0, 1.0, 0.0]),
            (F::Round, vec![c(5.0)], vec![12.5, 12.4, -7.5], vec![15.0, 10.0, -5.0]),
            (F::Round, vec![c(0.0)], vec![1.0], vec![NAN]),
            (F::Round, vec![ScalarArg::PerStep(&[1.0, 10.0])], vec![14.0, 15.0], vec![14.0, 20.0]),
            (F::Clamp, vec![c(-1.0), c(1.0)], vec![-5.0, 0.5, 7.0, NAN], vec![-1.0, 0.5, 1.0, NAN]),
            (F::ClampMin, vec![c(0.0)], vec![-5.0, -0.0, INF], vec![0.0, 0.0, INF]),
            (F::ClampMax, vec![c(NAN)], vec![1.0, -INF], vec![NAN, -INF]),
            (F::Deg, vec![], vec![PI], vec![180.0]),
            (F::Rad, vec![], vec![180.0], vec![PI]),
            (F::Sqrt, vec![], vec![4.0, -1.0], vec![2.0, NAN]),
            (F::Negate, vec![], vec![0.0, -2.0], vec![-0.0, 2.0]),
            (F::Ln, vec![], vec![1.0, 0.0, -1.0], vec![0.0, -INF, NAN]),
            (F::Hour, vec![], vec![3_600.0 * 5.0 + 59.9], vec![5.0]),
        ] {
            assert_eq!(run(function, &input, &args), bits_of(&output), "{function:?} {args:?} {input:?}");
        }
    }

    #[test]
    fn clamp_drops_steps_with_crossed_bounds() {
        let c = ScalarArg::Constant;
        assert_eq!(run(ElementFunction::Clamp, &[1.0], &[c(2.0), c(1.0)]), [None]);
        let out = run(ElementFunction::Clamp, &[1.0, 1.0], &[ScalarArg::PerStep(&[2.0, 0.0]), c(1.0)]);
        assert_eq!(out, [None, Some(1.0f64.to_bits())]);
    }

    #[test]
    fn absent_samples_stay_absent() {
        let mut c = Column::new(130);
        c.set_float(0, 1.0);
        c.set_float(129, 2.0);
        apply(ElementFunction::Exp, &mut c, &[]);
        assert_eq!(c.float_steps().collect::<Vec<_>>(), [0, 129]);
        assert_eq!(c.float(129), Some(go_math::exp(2.0)));
    }

    #[test]
    fn histogram_functions_take_histograms_and_simple_ones_drop_them() {
        let h = FloatHistogram { count: 4.0, sum: 6.0, ..FloatHistogram::default() };
        let mut c = column(&[1.0, 0.0]);
        c.clear_float(1);
        c.push_histogram(1, Arc::new(h));
        let mut avg = c.clone();
        apply(ElementFunction::HistogramAvg, &mut avg, &[]);
        assert_eq!((avg.float(0), avg.float(1)), (None, Some(1.5)));
        let mut minus = c.clone();
        apply(ElementFunction::Negate, &mut minus, &[]);
        assert_eq!(
            minus.histogram(1).map(|h| (h.count, h.counter_reset_hint)),
            Some((-4.0, CounterResetHint::Gauge))
        );
        apply(ElementFunction::Abs, &mut c, &[]);
        assert_eq!((c.float(0), c.len()), (Some(1.0), 1));
    }
}
