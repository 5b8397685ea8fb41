//! Calendar functions of Unix times in UTC, for every `i64` of seconds as Go's `time` package answers them.
//!
//! The arithmetic is that of Neri and Schneider on days since March 1 of a year far in the past; sums wrap,
//! so that times no calendar reaches give upstream's numbers too.

const SECONDS_PER_DAY: u64 = 86_400;
/// Years before year 0 at which the day count starts; a multiple of 400.
const ABSOLUTE_YEARS: u64 = 292_277_022_400;
/// Days of March to December.
const MARCH_THROUGH_DECEMBER: u32 = 306;
/// Seconds from the start of the day count to 1970.
const UNIX_TO_ABSOLUTE: i64 = {
    let until_year_one = ABSOLUTE_YEARS as i128 * 146_097 / 400 + MARCH_THROUGH_DECEMBER as i128;
    let until_1970 = 1969 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400;
    ((until_year_one + until_1970) * SECONDS_PER_DAY as i128) as i64
};

/// The whole seconds of a time; NaN and what does not fit give the lowest number, as on amd64.
#[inline]
pub fn unix_seconds(v: f64) -> i64 {
    tsdbctl_model::go_math::to_i64(v)
}

fn absolute(unix_seconds: i64) -> u64 {
    unix_seconds.wrapping_add(UNIX_TO_ABSOLUTE) as u64
}

/// A day as century, year of the century and day of the year, years starting in March.
struct Day {
    century: u64,
    year: u32,
    day: u32,
}

impl Day {
    fn of(absolute_days: u64) -> Self {
        let d = 4 * absolute_days + 3;
        let quarters = (d % 146_097) as u32 | 3;
        let product = 2_939_745 * u64::from(quarters);
        Self { century: d / 146_097, year: (product >> 32) as u32, day: product as u32 / 2_939_745 / 4 }
    }

    fn of_unix(unix_seconds: i64) -> Self {
        Self::of(absolute(unix_seconds) / SECONDS_PER_DAY)
    }

    /// 1 in January and February, which belong to the next calendar year.
    fn next_year(&self) -> u32 {
        u32::from(self.day >= MARCH_THROUGH_DECEMBER)
    }

    fn calendar_year(&self) -> i64 {
        (self.century.wrapping_mul(100).wrapping_sub(ABSOLUTE_YEARS) as i64)
            .wrapping_add(i64::from(self.year) + i64::from(self.next_year()))
    }

    fn month_and_day(&self) -> (u32, u32) {
        let d = 2_141 * self.day + 197_913;
        ((d >> 16) - 12 * self.next_year(), 1 + (d & 0xffff) / 2_141)
    }

    fn day_of_year(&self) -> u32 {
        let leap = self.year.is_multiple_of(4) && (self.year != 0 || self.century.is_multiple_of(4));
        // March 1 is day 60 of a common year, 61 of a leap year; January 1 is 306 days behind March 1.
        if self.next_year() == 1 { self.day - 305 } else { self.day + 60 + u32::from(leap) }
    }
}

/// `days_in_month`
pub fn days_in_month(unix_seconds: i64) -> f64 {
    let day = Day::of_unix(unix_seconds);
    let (month, _) = day.month_and_day();
    // Upstream asks for the 32nd of the month and sees how far into the next it lies.
    let year = day.calendar_year();
    let early = u32::from(month < 3);
    let y = (year as u64).wrapping_sub(u64::from(early)).wrapping_add(ABSOLUTE_YEARS);
    let day_of_march_year = (979 * (month + 12 * early) - 2_919) >> 5;
    let (century, year) = (y / 100, (y % 100) as u32);
    let days = (146_097 * century / 4).wrapping_add(u64::from(1_461 * year / 4 + day_of_march_year) + 31);
    let unix = (days as i64).wrapping_mul(SECONDS_PER_DAY as i64).wrapping_sub(UNIX_TO_ABSOLUTE);
    32.0 - f64::from(Day::of_unix(unix).month_and_day().1)
}

/// `day_of_month`, from 1.
pub fn day_of_month(unix_seconds: i64) -> f64 {
    f64::from(Day::of_unix(unix_seconds).month_and_day().1)
}

/// `day_of_week`, Sunday is 0.
pub fn day_of_week(unix_seconds: i64) -> f64 {
    ((absolute(unix_seconds) / SECONDS_PER_DAY + 3) % 7) as f64
}

/// `day_of_year`, from 1.
pub fn day_of_year(unix_seconds: i64) -> f64 {
    f64::from(Day::of_unix(unix_seconds).day_of_year())
}

/// `hour`, 0 to 23.
pub fn hour(unix_seconds: i64) -> f64 {
    (absolute(unix_seconds) % SECONDS_PER_DAY / 3_600) as f64
}

/// `minute`, 0 to 59.
pub fn minute(unix_seconds: i64) -> f64 {
    (absolute(unix_seconds) % 3_600 / 60) as f64
}

/// `month`, January is 1.
pub fn month(unix_seconds: i64) -> f64 {
    f64::from(Day::of_unix(unix_seconds).month_and_day().0)
}

/// `year`
pub fn year(unix_seconds: i64) -> f64 {
    Day::of_unix(unix_seconds).calendar_year() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_reference() {
        for (v, expected) in [
            (0.0, [31, 1, 4, 1, 0, 0, 1, 1970]),
            (-1.0, [31, 31, 3, 365, 23, 59, 12, 1969]),
            (951_782_399.0, [29, 28, 1, 59, 23, 59, 2, 2000]),
            (951_782_400.0, [29, 29, 2, 60, 0, 0, 2, 2000]),
            (951_868_800.0, [31, 1, 3, 61, 0, 0, 3, 2000]),
            (1_709_164_800.0, [29, 29, 4, 60, 0, 0, 2, 2024]),
            (1_709_251_199.0, [29, 29, 4, 60, 23, 59, 2, 2024]),
            (4_107_542_400.0, [31, 1, 1, 60, 0, 0, 3, 2100]),
            (4_107_456_000.0, [28, 28, 0, 59, 0, 0, 2, 2100]),
            (-62_135_596_801.0, [31, 31, 0, 366, 23, 59, 12, 0]),
            (-2_208_988_800.0, [31, 1, 1, 1, 0, 0, 1, 1900]),
            (1e18, [31, 23, 5, 297, 1, 46, 10, 31_688_740_476]),
            (-1e18, [31, 10, 2, 69, 22, 13, 3, -31_688_736_537]),
            (f64::NAN, [31, 4, 0, 339, 15, 30, 12, 292_277_026_596]),
            (f64::INFINITY, [31, 4, 0, 339, 15, 30, 12, 292_277_026_596]),
            (9.2e18, [31, 31, 5, 244, 11, 33, 8, 291_536_396_232]),
            (-9.2e18, [31, 3, 2, 123, 12, 26, 5, -291_536_392_293_i64]),
            (1_735_689_599.0, [31, 31, 2, 366, 23, 59, 12, 2024]),
            (1_735_689_600.0, [31, 1, 3, 1, 0, 0, 1, 2025]),
        ] {
            let t = unix_seconds(v);
            let got = [
                days_in_month(t),
                day_of_month(t),
                day_of_week(t),
                day_of_year(t),
                hour(t),
                minute(t),
                month(t),
                year(t),
            ];
            assert_eq!(got, expected.map(|n| n as f64), "{v}");
        }
    }
}
