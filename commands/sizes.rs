//! Numbers of bytes and seconds on the command line and in tables.

use anyhow::bail;

const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

/// Parses a size in bytes: `536870912`, `512MiB`, `1.5GB`, `64k` (1024 based where only the letter is given).
///
/// # Errors
/// If the text is no size.
pub fn parse_size(text: &str) -> anyhow::Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        unit => match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            None => bail!("{text:?} is no size; write bytes, 512MiB or 2GB"),
        },
    };
    match number.parse::<f64>() {
        Ok(n) if n.is_finite() && n * (factor as f64) < 1.8e19 => Ok((n * factor as f64) as u64),
        _ => bail!("{text:?} is no size; write bytes, 512MiB or 2GB"),
    }
}

/// A size as people read it: `1.1 MiB`.
pub fn format_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" || value >= 100.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    String::new()
}

/// A count with a space between thousands.
pub fn format_count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Seconds as people read them: `1.23 ms`.
pub fn format_seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}

/// A duration that is a guess: under a second, 12 s, 3 min, 1.5 h.
pub fn format_estimate(ms: u64) -> String {
    let seconds = ms as f64 / 1000.0;
    match seconds {
        s if s < 1.0 => "< 1 s".to_owned(),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 99.5 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_say_no_more_than_is_known() {
        for (ms, want) in [
            (0, "< 1 s"),
            (999, "< 1 s"),
            (1_000, "1 s"),
            (99_000, "99 s"),
            (100_000, "2 min"),
            (3_600_000, "60 min"),
            (7_200_000, "2.0 h"),
        ] {
            assert_eq!(format_estimate(ms), want, "{ms}");
        }
    }

    #[test]
    fn sizes_in_all_their_forms() {
        for (text, want) in [
            ("0", 0),
            ("512", 512),
            ("512MiB", 512 << 20),
            ("1GB", 1_000_000_000),
            ("1.5 GiB", 3 << 29),
            ("64k", 64 << 10),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text).unwrap(), want, "{text}");
        }
        for text in ["", "x", "1XB", "-1", "1e999", "MiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(format_size(999), "999 B");
        assert_eq!(format_size(1536), "1.5 KiB");
        assert_eq!(format_size(512 << 20), "512 MiB");
        assert_eq!(format_count(1_227_225), "1 227 225");
        assert_eq!(format_count(12), "12");
        assert_eq!(format_seconds(0.0123), "12.30 ms");
    }
}
