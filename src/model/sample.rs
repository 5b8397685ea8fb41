//! What a sample can be besides its value: stale, typed, exemplified.

use crate::labels::Labels;

/// Bits of the NaN that marks the end of a series (`value.StaleNaN` upstream).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
/// Bits of the NaN that arithmetic and parsing give (`value.NormalNaN` upstream).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether `v` is the stale marker. A histogram is stale if its sum is.
#[inline]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// The stale marker.
#[inline]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// The NaN upstream writes (`math.NaN()` in Go has these bits).
#[inline]
pub fn normal_nan() -> f64 {
    f64::from_bits(NORMAL_NAN_BITS)
}

/// An exemplar of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The exemplar's own labels, such as a trace id.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
}

/// The kind of a metric, as exposition formats and metadata records name it. Their numbers are those of metadata
/// records and of remote write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Nothing is known.
    #[default]
    Unknown,
    /// Only goes up.
    Counter,
    /// Goes anywhere.
    Gauge,
    /// Buckets of observations, cumulative over time.
    Histogram,
    /// Buckets of a current state.
    GaugeHistogram,
    /// Quantiles computed by the client.
    Summary,
    /// Labels are the message.
    Info,
    /// One of several states.
    StateSet,
}

impl MetricType {
    /// The type's number in metadata records (`record.RefMetadata` upstream) and in remote write.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The type of a number; unknown for those that are none.
    pub fn of_number(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_metric_types_come_back() {
        for number in 0..8 {
            assert_eq!(u64::from(MetricType::of_number(number).number()), number);
        }
        assert_eq!(MetricType::of_number(8), MetricType::Unknown);
    }
}
