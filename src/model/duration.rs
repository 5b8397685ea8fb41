//! Prometheus durations and times as text, and the calendar behind them.

use crate::quote::go_quote;

const SECOND_MS: i64 = 1000;
const DAY_SECONDS: i64 = 86_400;
const NANOS_PER_MS: u64 = 1_000_000;

/// Units from the longest down, in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3600 * SECOND_MS),
    ("w", 7 * 24 * 3600 * SECOND_MS),
    ("d", 24 * 3600 * SECOND_MS),
    ("h", 3600 * SECOND_MS),
    ("m", 60 * SECOND_MS),
    ("s", SECOND_MS),
    ("ms", 1),
];

/// Why a text is no duration; the texts are upstream's `model.ParseDuration`'s.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was given.
    #[error("empty duration string")]
    Empty,
    /// Not a sequence of numbers with units, longest unit first, each unit once.
    #[error("not a valid duration string: {}", go_quote(.0))]
    Invalid(String),
    /// A unit that there is not.
    #[error("unknown unit {} in duration {}", go_quote(.unit), go_quote(.text))]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Beyond about 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

/// Milliseconds of a duration such as `1h30m`; `0` needs no unit (`model.ParseDuration` upstream).
///
/// # Errors
/// If the text is no duration, or one beyond what 64 bits of nanoseconds hold.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(0);
    }
    let invalid = || DurationError::Invalid(text.to_string());
    let (mut total_ns, mut units_used, mut rest) = (0u64, 0, text);
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..number_len].parse().map_err(|_| invalid())?;
        rest = &rest[number_len..];
        let unit_len = rest.bytes().take_while(|b| !b.is_ascii_digit()).count();
        if unit_len == 0 {
            return Err(invalid());
        }
        let (unit, tail) = rest.split_at(unit_len);
        rest = tail;
        let Some(position) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(DurationError::UnknownUnit { unit: unit.to_string(), text: text.to_string() });
        };
        if position < units_used {
            return Err(invalid());
        }
        units_used = position + 1;
        total_ns = number
            .checked_mul(UNITS[position].1 as u64 * NANOS_PER_MS)
            .and_then(|ns| total_ns.checked_add(ns))
            .filter(|ns| i64::try_from(*ns).is_ok())
            .ok_or(DurationError::OutOfRange)?;
    }
    Ok((total_ns / NANOS_PER_MS) as i64)
}

/// As [`parse_duration_ms`], with an optional `-` in front (`model.ParseDurationAllowNegative` upstream).
///
/// # Errors
/// As [`parse_duration_ms`].
pub fn parse_signed_duration_ms(text: &str) -> Result<i64, DurationError> {
    match text.strip_prefix('-') {
        Some(rest) => parse_duration_ms(rest).map(|ms| -ms),
        None => parse_duration_ms(text),
    }
}

/// A duration as Prometheus prints it (`model.Duration.String` upstream): years and weeks only where nothing
/// remains, so `90d` stays `90d`.
pub fn format_duration_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_string();
    }
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (unit, unit_ms) in UNITS {
        let unit_ms = unit_ms as u64;
        if matches!(unit, "y" | "w") && !rest.is_multiple_of(unit_ms) {
            continue;
        }
        if rest >= unit_ms {
            out.push_str(&(rest / unit_ms).to_string());
            out.push_str(unit);
            rest %= unit_ms;
        }
    }
    out
}

/// A duration as Go prints it (`time.Duration.String`): `1h30m0s`, `1.5s`, `20ms`, `0s`.
pub fn format_go_duration_ns(ns: i64) -> String {
    let magnitude = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    if magnitude == 0 {
        return "0s".to_string();
    }
    if magnitude < 1_000_000_000 {
        let (scale, unit) = match magnitude {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{unit}", with_fraction(magnitude, scale));
    }
    let (minutes, seconds_ns) = (magnitude / 60_000_000_000, magnitude % 60_000_000_000);
    let seconds = with_fraction(seconds_ns, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `n / scale`, `scale` a power of ten, without trailing zeros.
fn with_fraction(n: u64, scale: u64) -> String {
    let (whole, fraction) = (n / scale, n % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// A moment in UTC by the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Astronomical year: 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 is Sunday.
    pub weekday: u32,
    /// 1 to 366.
    pub yearday: u32,
}

/// Days from 1970-01-01 to a date. Month and day may lie outside their usual range only by what the caller
/// checked before.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years begin in March here, so the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Date and time of day of a Unix time in seconds.
pub fn civil_from_unix_seconds(unix_seconds: i64) -> Civil {
    let days = unix_seconds.div_euclid(DAY_SECONDS);
    let second_of_day = unix_seconds.rem_euclid(DAY_SECONDS) as u32;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil {
        year,
        month,
        day,
        hour: second_of_day / 3600,
        minute: second_of_day / 60 % 60,
        second: second_of_day % 60,
        weekday: (days + 4).rem_euclid(7) as u32,
        yearday: (days - days_from_civil(year, 1, 1) + 1) as u32,
    }
}

/// Whether the Gregorian year has a 29th of February.
pub fn is_leap_year(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Number of days of a month (1 to 12); 0 for other numbers.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap_year(year)),
        _ => 0,
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ` of a Unix time in seconds.
pub fn format_rfc3339_seconds(unix_seconds: i64) -> String {
    let c = civil_from_unix_seconds(unix_seconds);
    format!("{}Z", date_and_time(&c))
}

/// RFC 3339 of a Unix time in milliseconds, with as many decimals as it needs (Go's `time.RFC3339Nano`).
pub fn format_rfc3339_ms(unix_ms: i64) -> String {
    let c = civil_from_unix_seconds(unix_ms.div_euclid(SECOND_MS));
    match unix_ms.rem_euclid(SECOND_MS) {
        0 => format!("{}Z", date_and_time(&c)),
        ms => format!("{}.{}Z", date_and_time(&c), format!("{ms:03}").trim_end_matches('0')),
    }
}

/// RFC 3339 of a Unix time in milliseconds with exactly three decimals.
pub fn format_rfc3339_fixed_ms(unix_ms: i64) -> String {
    let c = civil_from_unix_seconds(unix_ms.div_euclid(SECOND_MS));
    format!("{}.{:03}Z", date_and_time(&c), unix_ms.rem_euclid(SECOND_MS))
}

fn date_and_time(c: &Civil) -> String {
    let sign = if c.year < 0 { "-" } else { "" };
    let year = c.year.unsigned_abs();
    format!("{sign}{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.month, c.day, c.hour, c.minute, c.second)
}

/// Unix nanoseconds of an RFC 3339 time: `2024-02-29T12:00:00.5+01:00`. Decimals behind the ninth are cut.
pub fn parse_rfc3339_ns(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| -> Option<u32> {
        let digits = bytes.get(from..from + len)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0')))
    };
    let at = |i: usize, b: u8| bytes.get(i) == Some(&b);
    if !(at(4, b'-') && at(7, b'-') && at(10, b'T') && at(13, b':') && at(16, b':')) {
        return None;
    }
    let (year, month, day) = (i64::from(number(0, 4)?), number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (mut end, mut nanoseconds) = (19, 0u32);
    if at(end, b'.') || at(end, b',') {
        let digits = bytes[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for i in 0..9 {
            let digit = if i < digits { u32::from(bytes[end + 1 + i] - b'0') } else { 0 };
            nanoseconds = nanoseconds * 10 + digit;
        }
        end += 1 + digits;
    }
    let offset_seconds = match bytes.get(end)? {
        b'Z' if bytes.len() == end + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == end + 6 && at(end + 3, b':') => {
            let (hours, minutes) = (number(end + 1, 2)?, number(end + 4, 2)?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            let offset = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    let seconds = days_from_civil(year, month, day) * DAY_SECONDS + of_day - offset_seconds;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
}

/// Unix milliseconds of an RFC 3339 time, rounded down.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    parse_rfc3339_ns(text).map(|ns| ns.div_euclid(1_000_000) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_longest_unit_first() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("324ms", 324),
            ("3s", 3_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("4d", 345_600_000),
            ("4d1h", 349_200_000),
            ("14d", 1_209_600_000),
            ("3w", 1_814_400_000),
            ("3w2d1h", 1_990_800_000),
            ("10y", 315_360_000_000),
            ("1h30m5s1ms", 5_405_001),
            ("106751d", 9_223_286_400_000),
        ];
        for (text, want) in cases {
            assert_eq!(parse_duration_ms(text), Ok(want), "{text}");
        }
        let refused = [
            ("", "empty duration string"),
            ("1", r#"not a valid duration string: "1""#),
            ("1y1m1d", r#"not a valid duration string: "1y1m1d""#),
            ("1h1h", r#"not a valid duration string: "1h1h""#),
            ("-1w", r#"not a valid duration string: "-1w""#),
            ("99999999999999999999s", r#"not a valid duration string: "99999999999999999999s""#),
            ("1.5d", r#"unknown unit "." in duration "1.5d""#),
            ("d", r#"not a valid duration string: "d""#),
            ("5 m", r#"unknown unit " m" in duration "5 m""#),
            ("294y", "duration out of range"),
            ("107675d", "duration out of range"),
            ("200y10675199116730064751s", "duration out of range"),
        ];
        for (text, want) in refused {
            assert_eq!(parse_duration_ms(text).unwrap_err().to_string(), want, "{text}");
        }
        assert_eq!(parse_signed_duration_ms("-90s"), Ok(-90_000));
    }

    #[test]
    fn durations_print_as_upstream() {
        let cases = [
            (0, "0s"),
            (324, "324ms"),
            (3_000, "3s"),
            (349_200_000, "4d1h"),
            (14 * 86_400_000, "2w"),
            (90 * 86_400_000, "90d"),
            (1_990_800_000, "23d1h"),
            (315_360_000_000, "10y"),
            (-90_000, "-1m30s"),
        ];
        for (ms, want) in cases {
            assert_eq!(format_duration_ms(ms), want);
        }
        let go = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (300_000_000_000, "5m0s"),
            (-5_405_001_000_000, "-1h30m5.001s"),
        ];
        for (ns, want) in go {
            assert_eq!(format_go_duration_ns(ns), want);
        }
    }

    #[test]
    fn the_calendar_knows_leap_years_and_far_dates() {
        let cases = [
            (0, "1970-01-01T00:00:00Z", 4, 1),
            (-1, "1969-12-31T23:59:59Z", 3, 365),
            (951_782_400, "2000-02-29T00:00:00Z", 2, 60),
            (4_107_542_399, "2100-02-28T23:59:59Z", 0, 59),
            (-62_135_596_800, "0001-01-01T00:00:00Z", 1, 1),
            (-62_167_219_200, "0000-01-01T00:00:00Z", 6, 1),
            (253_402_300_800, "10000-01-01T00:00:00Z", 6, 1),
            (1_704_067_199, "2023-12-31T23:59:59Z", 0, 365),
            (1_735_603_200, "2024-12-31T00:00:00Z", 2, 366),
        ];
        for (seconds, text, weekday, yearday) in cases {
            assert_eq!(format_rfc3339_seconds(seconds), text);
            let c = civil_from_unix_seconds(seconds);
            assert_eq!((c.weekday, c.yearday), (weekday, yearday), "{text}");
            if c.year < 10_000 {
                assert_eq!(parse_rfc3339_ns(text), Some(i128::from(seconds) * 1_000_000_000));
            }
        }
        for day in -800_000..800_000 {
            let c = civil_from_unix_seconds(day * DAY_SECONDS);
            assert_eq!(days_from_civil(c.year, c.month, c.day), day);
        }
        for seconds in [i64::MIN, i64::MAX] {
            civil_from_unix_seconds(seconds);
        }
    }

    #[test]
    fn times_parse_with_fractions_and_offsets() {
        let cases = [
            ("2015-06-03T13:21:58.555Z", Some(1_433_337_718_555)),
            ("2015-06-03T14:21:58.555+01:00", Some(1_433_337_718_555)),
            ("2015-06-03T08:51:58.5559-04:30", Some(1_433_337_718_555)),
            ("1969-12-31T23:59:59.9999Z", Some(-1)),
            ("2015-02-29T00:00:00Z", None),
            ("2015-06-03T24:00:00Z", None),
            ("2015-06-03T13:21:58", None),
            ("2015-06-03T13:21:58.Z", None),
            ("2015-06-03 13:21:58Z", None),
            ("2015-06-03T13:21:58Zx", None),
            ("é015-06-03T13:21:58Z", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_rfc3339_ms(text), want, "{text}");
        }
        assert_eq!(format_rfc3339_ms(1_433_337_718_550), "2015-06-03T13:21:58.55Z");
        assert_eq!(format_rfc3339_fixed_ms(-1), "1969-12-31T23:59:59.999Z");
    }
}
