//! Times on the command line: RFC 3339, Unix seconds, `now`, `now-1h`, `-1h`.

use anyhow::{Context, bail};
use tsdbctl_model::duration::{parse_duration_ms, parse_rfc3339_ms};

/// Parses a time to Unix milliseconds; `now_ms` is what `now` means.
///
/// # Errors
/// If the text is none of the forms.
pub fn parse_time(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let relative = text.strip_prefix("now").unwrap_or(text);
    if relative.is_empty() {
        return Ok(now_ms);
    }
    if let Some(sign @ ('+' | '-')) = relative.chars().next()
        && (relative.len() != text.len() || relative.ends_with(|c: char| c.is_ascii_alphabetic()))
        && let Ok(ms) = parse_duration_ms(&relative[1..])
    {
        return Ok(if sign == '-' { now_ms.saturating_sub(ms) } else { now_ms.saturating_add(ms) });
    }
    if let Ok(seconds) = text.parse::<f64>() {
        if !seconds.is_finite() || seconds.abs() > 9e15 {
            bail!("time {text:?} is out of range");
        }
        return Ok((seconds * 1000.0).round() as i64);
    }
    parse_rfc3339_ms(text).with_context(|| {
        format!("{text:?} is no time; write RFC 3339 (2026-01-31T12:00:00Z), Unix seconds, now-1h, -1h or newest-1h")
    })
}

/// What relative times are relative to.
pub struct Reference<F: Fn() -> anyhow::Result<Option<i64>>> {
    now_ms: i64,
    newest: F,
}

impl<F: Fn() -> anyhow::Result<Option<i64>>> Reference<F> {
    /// `newest` finds the newest sample's time; it is asked only where a time begins with `newest`.
    pub fn new(now_ms: i64, newest: F) -> Self {
        Self { now_ms, newest }
    }

    /// Parses a time: the forms of [`parse_time`], and `newest`, `newest-1h`.
    ///
    /// # Errors
    /// If the text is none of the forms, or there is no sample.
    pub fn parse(&self, text: &str) -> anyhow::Result<i64> {
        match text.strip_prefix("newest") {
            Some(rest) => {
                let newest = (self.newest)()?.context("the directories hold no samples")?;
                parse_time(&format!("now{rest}"), newest)
                    .map_err(|_| anyhow::anyhow!("{text:?} is no time; write newest, newest-1h or newest+5m"))
            }
            None => parse_time(text, self.now_ms),
        }
    }
}

/// Parses a step or duration to milliseconds: `15s`, `1h30m` or seconds.
///
/// # Errors
/// If the text is neither.
pub fn parse_step(text: &str) -> anyhow::Result<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = seconds * 1000.0;
        if !ms.is_finite() || ms.abs() > 9e15 {
            bail!("duration {text:?} is out of range");
        }
        return Ok(ms as i64);
    }
    parse_duration_ms(text)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .with_context(|| format!("{text:?} is no duration; write 15s, 1h30m or seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_their_forms() {
        let now = 1_700_000_000_000;
        for (text, want) in [
            ("now", now),
            ("now-1h", now - 3_600_000),
            ("-1h", now - 3_600_000),
            ("now+1m30s", now + 90_000),
            ("1700000000.5", 1_700_000_000_500),
            ("-5", -5000),
            ("2023-11-14T22:13:20Z", now),
            ("2023-11-14T23:13:20.25+01:00", now + 250),
        ] {
            assert_eq!(parse_time(text, now).unwrap(), want, "{text}");
        }
        assert!(parse_time("yesterday", now).is_err());
    }

    #[test]
    fn times_relative_to_the_newest_sample() {
        let reference = Reference::new(1, || Ok(Some(3_600_000)));
        assert_eq!(reference.parse("newest-30m").unwrap(), 1_800_000);
        assert_eq!(reference.parse("newest").unwrap(), 3_600_000);
        assert_eq!(reference.parse("now").unwrap(), 1);
        assert!(reference.parse("newest~1").is_err());
        assert!(Reference::new(1, || Ok(None)).parse("newest").is_err());
    }

    #[test]
    fn steps_are_durations_or_seconds() {
        assert_eq!(parse_step("1h30m").unwrap(), 5_400_000);
        assert_eq!(parse_step("37.5").unwrap(), 37_500);
        assert!(parse_step("1x").is_err());
    }
}
