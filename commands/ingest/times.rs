//! Timestamps of rows and JSON lines: numbers in a unit, or RFC 3339.

use tsdbctl_model::duration::parse_rfc3339_ms;

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeUnit {
    /// Seconds, with or without decimals.
    S,
    /// Milliseconds.
    #[default]
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// Not said: milliseconds, if they can be that.
    #[value(skip)]
    Unsaid,
}

/// Milliseconds in these ranges are rather something else: from the second day of 1970 to 1973, and behind 5138.
const UNLIKELY_MS: [std::ops::Range<i64>; 2] = [100_000_000..100_000_000_000, 100_000_000_000_000..i64::MAX];

impl TimeUnit {
    /// A unit by its short name, `unix_s` and the like too.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix_").unwrap_or(text) {
            "s" => Some(Self::S),
            "ms" => Some(Self::Ms),
            "us" => Some(Self::Us),
            "ns" => Some(Self::Ns),
            _ => None,
        }
    }

    fn per_second(self) -> i128 {
        match self {
            Self::S => 1,
            Self::Ms | Self::Unsaid => 1_000,
            Self::Us => 1_000_000,
            Self::Ns => 1_000_000_000,
        }
    }

    /// A number as Unix ms, what is finer cut off towards the past; `None` if it is none, or out of range. Decimals are
    /// kept exactly, as they are not rounded to a float on the way.
    pub fn number_ms(self, text: &str) -> Option<i64> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let negative = whole.starts_with('-');
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if digits.is_empty() || !plain(digits) || !plain(decimals) || digits.len() > 20 {
            return self.float_ms(text);
        }
        // In steps of 1e-9 of the unit.
        let mut value = digits.parse::<i128>().ok()? * 1_000_000_000;
        let mut step = 100_000_000;
        for d in decimals.bytes() {
            value += i128::from(d - b'0') * step;
            step /= 10;
        }
        let value = if negative { -value } else { value };
        i64::try_from((value * 1_000 / self.per_second()).div_euclid(1_000_000_000)).ok()
    }

    /// Whether nobody said what counts this number, and it is hardly what was supposed.
    pub fn is_doubtful(self, ms: i64) -> bool {
        self == Self::Unsaid && UNLIKELY_MS.iter().any(|range| range.contains(&ms))
    }

    /// Numbers with an exponent.
    fn float_ms(self, text: &str) -> Option<i64> {
        let v: f64 = text.parse().ok()?;
        let ms = v * 1_000.0 / self.per_second() as f64;
        (ms.is_finite() && ms.abs() < 9e18).then_some(ms as i64)
    }

    /// A number in this unit, or RFC 3339.
    pub fn parse_ms(self, text: &str) -> Option<i64> {
        let text = text.trim();
        self.number_ms(text).or_else(|| parse_rfc3339_ms(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_in_all_their_forms() {
        let t = 1_700_000_000_123;
        for (unit, text, want) in [
            (TimeUnit::S, "1700000000.123", Some(t)),
            (TimeUnit::S, "1700000000.1239", Some(t)),
            (TimeUnit::S, "1.700000000123e9", Some(t)),
            (TimeUnit::S, "-0.5", Some(-500)),
            (TimeUnit::Ms, "1700000000123", Some(t)),
            (TimeUnit::Us, "1700000000123999", Some(t)),
            (TimeUnit::Ns, "1700000000123999999", Some(t)),
            (TimeUnit::Ns, "-1", Some(-1)),
            (TimeUnit::Ms, "2023-11-14T22:13:20.123Z", Some(t)),
            (TimeUnit::S, "99999999999999999999", None),
            (TimeUnit::S, "1e40", None),
            (TimeUnit::Ms, "", None),
            (TimeUnit::Ms, "x", None),
            (TimeUnit::Ms, "NaN", None),
        ] {
            assert_eq!(unit.parse_ms(text), want, "{unit:?} {text}");
        }
        assert_eq!(TimeUnit::parse("unix_s"), Some(TimeUnit::S));
        assert_eq!(TimeUnit::parse("m"), None);
        for (ms, doubtful) in [(t, false), (t / 1000, true), (t * 1000, true), (5, false), (-5, false)] {
            assert_eq!(TimeUnit::Unsaid.is_doubtful(ms), doubtful, "{ms}");
            assert!(!TimeUnit::Ms.is_doubtful(ms), "{ms}");
        }
    }
}
