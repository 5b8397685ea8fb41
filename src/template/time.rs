//! Times as Go prints them and as its layouts ask for.

use tsdbctl_model::duration::{Civil, civil_from_unix_seconds};

/// Nanoseconds of a second.
pub const SECOND_NS: i128 = 1_000_000_000;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `time.Month.String`
pub fn month_name(month: i64) -> String {
    name(&MONTHS, month - 1).map_or_else(|| format!("%!Month({})", month as u64), str::to_string)
}

/// `time.Weekday.String`
pub fn weekday_name(weekday: i64) -> String {
    name(&WEEKDAYS, weekday).map_or_else(|| format!("%!Weekday({})", weekday as u64), str::to_string)
}

fn name<'a>(names: &[&'a str], index: i64) -> Option<&'a str> {
    names.get(usize::try_from(index).ok()?).copied()
}

/// A UTC time by its parts.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Date and time of day.
    pub civil: Civil,
    /// Nanoseconds within the second.
    pub nanosecond: u32,
}

/// The parts of a time.
pub fn parts(unix_ns: i128) -> Parts {
    let seconds = unix_ns.div_euclid(SECOND_NS) as i64;
    Parts { civil: civil_from_unix_seconds(seconds), nanosecond: unix_ns.rem_euclid(SECOND_NS) as u32 }
}

/// `time.Time.String` of a UTC time: `2006-01-02 15:04:05.128 +0000 UTC`.
pub fn print(unix_ns: i128) -> String {
    format_layout(unix_ns, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// `time.Time.GoString` of a UTC time.
pub fn go_string(unix_ns: i128) -> String {
    let Parts { civil, nanosecond } = parts(unix_ns);
    format!(
        "time.Date({}, time.{}, {}, {}, {}, {}, {nanosecond}, time.UTC)",
        civil.year,
        month_name(i64::from(civil.month)),
        civil.day,
        civil.hour,
        civil.minute,
        civil.second
    )
}

/// Elements of layouts, longer ones before their own beginnings.
#[derive(Clone, Copy)]
enum Element {
    LongMonth,
    Month,
    LongWeekday,
    Weekday,
    Zone,
    ZeroMonth,
    ZeroDay,
    ZeroHour12,
    ZeroMinute,
    ZeroSecond,
    ZeroYearDay,
    Hour24,
    NumberMonth,
    Day,
    UnderYear,
    UnderDay,
    UnderYearDay,
    LongYear,
    Year,
    Hour12,
    Minute,
    Second,
    UpperNoon,
    LowerNoon,
    /// An offset, which UTC writes as `Z`.
    OffsetOrZ,
    /// An offset by its zero.
    Offset(&'static str),
}

const ELEMENTS: &[(&str, Element)] = &[
    ("January", Element::LongMonth),
    ("Jan", Element::Month),
    ("Monday", Element::LongWeekday),
    ("Mon", Element::Weekday),
    ("MST", Element::Zone),
    ("002", Element::ZeroYearDay),
    ("01", Element::ZeroMonth),
    ("02", Element::ZeroDay),
    ("03", Element::ZeroHour12),
    ("04", Element::ZeroMinute),
    ("05", Element::ZeroSecond),
    ("06", Element::Year),
    ("15", Element::Hour24),
    ("1", Element::NumberMonth),
    ("2006", Element::LongYear),
    ("2", Element::Day),
    ("_2006", Element::UnderYear),
    ("__2", Element::UnderYearDay),
    ("_2", Element::UnderDay),
    ("3", Element::Hour12),
    ("4", Element::Minute),
    ("5", Element::Second),
    ("PM", Element::UpperNoon),
    ("pm", Element::LowerNoon),
    ("-070000", Element::Offset("+000000")),
    ("-07:00:00", Element::Offset("+00:00:00")),
    ("-0700", Element::Offset("+0000")),
    ("-07:00", Element::Offset("+00:00")),
    ("-07", Element::Offset("+00")),
    ("Z070000", Element::OffsetOrZ),
    ("Z07:00:00", Element::OffsetOrZ),
    ("Z0700", Element::OffsetOrZ),
    ("Z07:00", Element::OffsetOrZ),
    ("Z07", Element::OffsetOrZ),
];

/// `.000`, `,000`, `.999` and the like behind which no digit stands: the separator, whether zeros are kept, and
/// how many digits.
fn fraction(layout: &str) -> Option<(char, bool, usize)> {
    let bytes = layout.as_bytes();
    let separator = *bytes.first().filter(|b| matches!(b, b'.' | b','))?;
    let digit = *bytes.get(1).filter(|b| matches!(b, b'0' | b'9'))?;
    let count = bytes[1..].iter().take_while(|b| **b == digit).count();
    let followed = bytes.get(1 + count).is_some_and(u8::is_ascii_digit);
    (!followed).then_some((char::from(separator), digit == b'0', count))
}

fn element(layout: &str) -> Option<(usize, Element)> {
    let (text, element) = ELEMENTS.iter().find(|(text, _)| layout.starts_with(text))?;
    // `Jan` and `Mon` stand alone only before something that is no lower-case letter.
    let lower_follows = layout.as_bytes().get(3).is_some_and(u8::is_ascii_lowercase);
    if matches!(element, Element::Month) && lower_follows && layout.starts_with("Jan") {
        return None;
    }
    if matches!(element, Element::Weekday) && lower_follows {
        return None;
    }
    Some((text.len(), *element))
}

/// `time.Time.Format` of a UTC time.
pub fn format_layout(unix_ns: i128, layout: &str) -> String {
    let Parts { civil, nanosecond } = parts(unix_ns);
    let (month, weekday) = (month_name(i64::from(civil.month)), weekday_name(i64::from(civil.weekday)));
    let year_day = civil.yearday;
    let hour12 = if civil.hour % 12 == 0 { 12 } else { civil.hour % 12 };
    let year = if civil.year < 0 {
        format!("-{:04}", civil.year.unsigned_abs())
    } else {
        format!("{:04}", civil.year)
    };
    let mut out = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((separator, keep_zeros, count)) = fraction(rest) {
            let all = format!("{nanosecond:09}");
            let digits = &all[..count.min(9)];
            let digits = if keep_zeros { digits } else { digits.trim_end_matches('0') };
            if !digits.is_empty() {
                out.push(separator);
                out.push_str(digits);
            }
            rest = &rest[1 + count..];
            continue;
        }
        let Some((length, element)) = element(rest) else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = &rest[length..];
        let text = match element {
            Element::LongMonth => month.clone(),
            Element::Month => month[..3].to_string(),
            Element::LongWeekday => weekday.clone(),
            Element::Weekday => weekday[..3].to_string(),
            Element::Zone => "UTC".to_string(),
            Element::ZeroMonth => format!("{:02}", civil.month),
            Element::ZeroDay => format!("{:02}", civil.day),
            Element::ZeroHour12 => format!("{hour12:02}"),
            Element::ZeroMinute => format!("{:02}", civil.minute),
            Element::ZeroSecond => format!("{:02}", civil.second),
            Element::ZeroYearDay => format!("{year_day:03}"),
            Element::Hour24 => format!("{:02}", civil.hour),
            Element::NumberMonth => civil.month.to_string(),
            Element::Day => civil.day.to_string(),
            Element::UnderYear => format!("_{year}"),
            Element::UnderDay => format!("{:2}", civil.day),
            Element::UnderYearDay => format!("{year_day:3}"),
            Element::LongYear => year.clone(),
            Element::Year => format!("{:02}", civil.year.rem_euclid(100)),
            Element::Hour12 => hour12.to_string(),
            Element::Minute => civil.minute.to_string(),
            Element::Second => civil.second.to_string(),
            Element::UpperNoon => if civil.hour >= 12 { "PM" } else { "AM" }.to_string(),
            Element::LowerNoon => if civil.hour >= 12 { "pm" } else { "am" }.to_string(),
            Element::OffsetOrZ => "Z".to_string(),
            Element::Offset(zero) => zero.to_string(),
        };
        out.push_str(&text);
    }
    out
}
