//! Prometheus durations and times as text.

/// `YYYY-MM-DDTHH:MM:SSZ` of a Unix time in seconds.
pub fn format_rfc3339_seconds(unix_seconds: i64) -> String {
    format!("{unix_seconds}")
}
