//! Methods that templates may call on values, by an explicit list: those of times, durations and histograms.

use tsdbctl_model::duration::days_from_civil;

use super::Parameter::{Duration as Period, Int, String as Text, Time as Moment};
use super::{Call, Code, Form, Function, Parameter};
use crate::format;
use crate::time::{self, SECOND_NS};
use crate::value::{SizedInt, Value};

/// The method `name` of `receiver`. Its code gets the receiver as the first value, before the arguments;
/// [`Function::parameters`] leaves it out.
pub fn method(receiver: &Value, name: &str) -> Option<&'static Function> {
    let table = match receiver {
        Value::Time(_) | Value::TimeValue(_) => TIME,
        Value::Duration(_) | Value::DurationValue(_) => DURATION,
        Value::Histogram(_) => HISTOGRAM,
        Value::Sized(SizedInt::Month | SizedInt::Weekday, _) => NAMED,
        _ => return None,
    };
    table.iter().find(|method| method.name == name)
}

const fn plain(name: &'static str, parameters: &'static [Parameter], code: Code) -> Function {
    Function { name, parameters, variadic: None, form: Form::Plain, code }
}

/// A method that Go has but that templates cannot call, for the reason given.
const fn unfit(name: &'static str, reason: &'static str) -> Function {
    Function { name, parameters: &[], variadic: None, form: Form::Unfit(reason), code: text }
}

static TIME: &[Function] = &[
    plain("Add", &[Period], |_, v| Ok(Value::TimeValue(moment(&v, 0) + i128::from(period(&v, 1))))),
    plain("AddDate", &[Int, Int, Int], add_date),
    plain("After", &[Moment], |_, v| Ok(Value::Bool(moment(&v, 0) > moment(&v, 1)))),
    plain("Before", &[Moment], |_, v| Ok(Value::Bool(moment(&v, 0) < moment(&v, 1)))),
    unfit("Clock", "function Clock has 3 return values; should be 1 or 2"),
    plain("Compare", &[Moment], |_, v| Ok(Value::Int(moment(&v, 0).cmp(&moment(&v, 1)) as i64))),
    unfit("Date", "function Date has 3 return values; should be 1 or 2"),
    plain("Day", &[], |_, v| Ok(Value::Int(i64::from(parts(&v).civil.day)))),
    plain("Equal", &[Moment], |_, v| Ok(Value::Bool(moment(&v, 0) == moment(&v, 1)))),
    plain("Format", &[Text], format_time),
    plain("GoString", &[], |_, v| Ok(Value::text(time::go_string(moment(&v, 0))))),
    plain("Hour", &[], |_, v| Ok(Value::Int(i64::from(parts(&v).civil.hour)))),
    unfit("ISOWeek", "invalid function signature for ISOWeek: second return value should be error; is int"),
    plain("IsDST", &[], |_, _| Ok(Value::Bool(false))),
    plain("IsZero", &[], |_, v| Ok(Value::Bool(moment(&v, 0) == -ZERO_TIME_NS))),
    plain("Minute", &[], |_, v| Ok(Value::Int(i64::from(parts(&v).civil.minute)))),
    plain("Month", &[], |_, v| Ok(Value::Sized(SizedInt::Month, i64::from(parts(&v).civil.month)))),
    plain("Nanosecond", &[], |_, v| Ok(Value::Int(i64::from(parts(&v).nanosecond)))),
    plain("Round", &[Period], |_, v| {
        Ok(Value::TimeValue(match remainder(&v) {
            (rest, unit) if unit > 0 && rest + rest >= unit => moment(&v, 0) + unit - rest,
            (rest, _) => moment(&v, 0) - rest,
        }))
    }),
    plain("Second", &[], |_, v| Ok(Value::Int(i64::from(parts(&v).civil.second)))),
    plain("String", &[], text),
    plain("Sub", &[Moment], |_, v| {
        let between = moment(&v, 0) - moment(&v, 1);
        Ok(Value::DurationValue(between.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64))
    }),
    plain("Truncate", &[Period], |_, v| Ok(Value::TimeValue(moment(&v, 0) - remainder(&v).0))),
    plain("UTC", &[], |_, v| Ok(Value::TimeValue(moment(&v, 0)))),
    plain("Unix", &[], |_, v| Ok(int64(moment(&v, 0).div_euclid(SECOND_NS)))),
    plain("UnixMicro", &[], |_, v| Ok(int64(moment(&v, 0).div_euclid(1000)))),
    plain("UnixMilli", &[], |_, v| Ok(int64(moment(&v, 0).div_euclid(1_000_000)))),
    plain("UnixNano", &[], |_, v| Ok(int64(moment(&v, 0)))),
    plain("Weekday", &[], |_, v| Ok(Value::Sized(SizedInt::Weekday, i64::from(parts(&v).civil.weekday)))),
    plain("Year", &[], |_, v| Ok(Value::Int(parts(&v).civil.year))),
    plain("YearDay", &[], |_, v| Ok(Value::Int(i64::from(parts(&v).civil.yearday)))),
    unfit("Zone", "invalid function signature for Zone: second return value should be error; is int"),
    unfit(
        "ZoneBounds",
        "invalid function signature for ZoneBounds: second return value should be error; is time.Time",
    ),
];

static DURATION: &[Function] = &[
    plain("Abs", &[], |_, v| Ok(Value::DurationValue(period(&v, 0).saturating_abs()))),
    plain("Hours", &[], |_, v| Ok(fraction(period(&v, 0), 3_600_000_000_000))),
    plain("Microseconds", &[], |_, v| Ok(int64(i128::from(period(&v, 0) / 1000)))),
    plain("Milliseconds", &[], |_, v| Ok(int64(i128::from(period(&v, 0) / 1_000_000)))),
    plain("Minutes", &[], |_, v| Ok(fraction(period(&v, 0), 60_000_000_000))),
    plain("Nanoseconds", &[], |_, v| Ok(int64(i128::from(period(&v, 0))))),
    plain("Round", &[Period], |_, v| Ok(Value::DurationValue(round(period(&v, 0), period(&v, 1))))),
    plain("Seconds", &[], |_, v| Ok(fraction(period(&v, 0), 1_000_000_000))),
    plain("String", &[], text),
    plain("Truncate", &[Period], |_, v| {
        let (duration, unit) = (period(&v, 0), period(&v, 1));
        Ok(Value::DurationValue(if unit <= 0 { duration } else { duration - duration % unit }))
    }),
];

static HISTOGRAM: &[Function] = &[
    plain("String", &[], text),
    plain("UsesCustomBuckets", &[], |_, v| {
        Ok(Value::Bool(matches!(v.first(), Some(Value::Histogram(h)) if h.schema == -53)))
    }),
];

static NAMED: &[Function] = &[plain("String", &[], text)];

/// From Go's zero time, the first second of the year 1, to 1970.
const ZERO_TIME_NS: i128 = 62_135_596_800 * SECOND_NS;

fn moment(values: &[Value], index: usize) -> i128 {
    match values.get(index) {
        Some(Value::Time(ns)) => **ns,
        Some(Value::TimeValue(ns)) => *ns,
        _ => 0,
    }
}

fn period(values: &[Value], index: usize) -> i64 {
    match values.get(index) {
        Some(Value::Duration(ns)) => **ns,
        Some(Value::DurationValue(ns)) => *ns,
        _ => 0,
    }
}

fn int(values: &[Value], index: usize) -> i64 {
    match values.get(index) {
        Some(Value::Int(n)) => *n,
        _ => 0,
    }
}

fn parts(values: &[Value]) -> time::Parts {
    time::parts(moment(values, 0))
}

fn int64(n: i128) -> Value {
    // Beyond 64 bits Go's result is what is left of it.
    Value::Sized(SizedInt::Int64, n as i64)
}

/// A duration in a unit, whole units and the rest divided apart as Go does.
fn fraction(duration: i64, unit: i64) -> Value {
    Value::Float((duration / unit) as f64 + (duration % unit) as f64 / unit as f64)
}

/// What is left of a time above a multiple of the unit, counted from Go's zero time, and the unit; no unit leaves
/// nothing.
fn remainder(values: &[Value]) -> (i128, i128) {
    let unit = i128::from(period(values, 1));
    if unit <= 0 {
        return (0, 0);
    }
    ((moment(values, 0) + ZERO_TIME_NS).rem_euclid(unit), unit)
}

/// Halves go away from zero, and what does not fit is the largest or smallest duration.
fn round(duration: i64, unit: i64) -> i64 {
    if unit <= 0 {
        return duration;
    }
    let (wide, unit) = (i128::from(duration), i128::from(unit));
    let rest = wide.abs() % unit;
    let size = if rest + rest < unit { wide.abs() - rest } else { wide.abs() - rest + unit };
    (size * wide.signum()).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn text(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let mut out = String::new();
    if let Some(value) = values.first() {
        format::print_indirect(value, &mut out, usize::MAX);
    }
    Ok(Value::text(out))
}

fn format_time(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    match values.get(1) {
        Some(Value::Str(layout)) => Ok(Value::text(time::format_layout(moment(&values, 0), layout))),
        _ => Ok(Value::text("")),
    }
}

/// Years, months and days later, in the calendar: the 31st of a shorter month is a day of the next.
fn add_date(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    // Far beyond what a time can hold, and far from any overflow here.
    let bounded = |index| int(&values, index).clamp(-1_000_000_000, 1_000_000_000);
    let civil = parts(&values).civil;
    let months = i64::from(civil.month) - 1 + bounded(2);
    let year = civil.year + bounded(1) + months.div_euclid(12);
    let month = months.rem_euclid(12) as u32 + 1;
    let days = days_from_civil(year, month, 1) + i64::from(civil.day) - 1 + bounded(3);
    let day_ns = 86_400 * SECOND_NS;
    Ok(Value::TimeValue(i128::from(days) * day_ns + moment(&values, 0).rem_euclid(day_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_half_away_from_zero() {
        for (duration, unit, rounded) in [
            (15, 10, 20),
            (14, 10, 10),
            (-15, 10, -20),
            (i64::MAX, 10, i64::MAX),
            (7, 0, 7),
            (i64::MIN, 3, i64::MIN),
        ] {
            assert_eq!(round(duration, unit), rounded, "{duration} {unit}");
        }
    }
}
